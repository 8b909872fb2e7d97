#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# options.sh TWINLOG PAGE: what 'twinlog COMMAND --help' lists, the manual page PAGE describes, and the shells complete.
set -u
page=$(realpath "$2")
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

# complete_at WORD...: what bash offers for the last one, sorted, on one line.
complete_at()
{
    COMP_WORDS=(twinlog "$@")
    COMP_CWORD=$#
    COMPREPLY=()
    _twinlog
    printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' '
}

# offers NAME EXPECTED WORD...
offers()
{
    name=$1
    expected=$2
    shift 2
    got=$(complete_at "$@")
    [ "$got" = "$expected" ]
    count "$name: '$got', not '$expected'" $?
}

# ---- the manual page ---------------------------------------------------------------------------

# Options that a section of the page describes.
described() { awk -v section=".Ss $1" '/^\.S[sh]/ { inside = $0 == section } inside && /^\.It Fl/' "$page" |
    sed -E 's/^\.It Fl (. , )?-([a-z-]+).*/\2/' | sort; }
# Options that --help lists, but for two that every command has.
listed() { "$twinlog" "$1" --help | sed -nE 's/^  (-., )?--([a-z-]+).*/\2/p' | grep -vx -e help -e version | sort; }

commands=$("$twinlog" --help | sed -nE 's/^  ([a-z]+)  .*/\1/p')
count "there are commands" $((!$(echo "$commands" | grep -cx append)))
described 'Log options' >log-options
for command in $commands; do
    described "$command" >page
    case $command in append | bench) sort -o page page log-options ;; esac
    listed "$command" >help
    diff page help >difference
    count "the page and --help of $command differ: $(tr '\n' ' ' <difference)" $?
    [ -s help ]
    count "$command has options" $?
    [ "$("$twinlog" "$command" --help | wc -L)" -le 92 ]
    count "lines of $command --help are short" $?
done

# ---- completions -------------------------------------------------------------------------------

for shell in bash zsh fish; do
    status "--completion $shell" 0 "$twinlog" --completion $shell
    mv out completions.$shell
    for command in $commands; do
        for option in $(listed "$command"); do
            grep -qE -e "(--|-l )$option([^a-z-]|$)" completions.$shell
            count "$shell completes --$option of $command" $?
        done
    done
    command -v $shell >/dev/null || continue
    $shell -n completions.$shell
    count "$shell reads its completions" $?
done
status "another shell" 2 "$twinlog" --completion tcsh
says "is refused with the names of those that are not" err 'bash, zsh, fish'

mkdir here
touch there
# shellcheck source=/dev/null
. ./completions.bash
offers "commands" "receive repair reset restore " re
offers "options" "--keep-bytes --keep-records --keep-time " trim here --keep
offers "words" "uring uring-linked " append --io ur
offers "no words for a number" " " cat --from ''
offers "directories for a log" "here " cat ''
offers "a directory for --output" "here " backup here --output h
offers "files for a sink" "there " sink th
offers "nothing for a command that there is not" " " mend ''

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
