#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# options.sh TWINLOG DIR: what 'twinlog COMMAND --help' lists, a manual page in DIR describes, and the shells complete.
set -u
pages=$(realpath "$2")
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

# ---- the manual pages ---------------------------------------------------------------------------

# described PAGE SECTION: options that a section of a page describes.
described() { awk -v section="$2" '/^\.S[sh]/ { inside = $0 == section } inside && /^\.It Fl/' "$1" |
    sed -E 's/^\.It Fl (. , )?-([a-z-]+).*/\2/' | sort; }
# Options that --help lists, but for two that every command has.
listed() { "$twinlog" "$1" --help | sed -nE 's/^  (-., )?--([a-z-]+).*/\2/p' | grep -vx -e help -e version | sort; }

commands=$("$twinlog" --help | sed -nE 's/^  ([a-z]+)  .*/\1/p')
count "there are commands" $((!$(echo "$commands" | grep -cx append)))
described "$pages/twinlog-append.1" '.Ss Log options' >log-options
for command in $commands; do
    page=$(grep -lE "^\.Nm twinlog-$command( ,)?\$" "$pages"/*.1)
    [ -n "$page" ]
    count "$command has a page" $?
    section=".Ss $command"
    grep -qxF "$section" "$page" || section=".Sh DESCRIPTION"
    described "$page" "$section" >there
    grep -qF ".Xr $(basename "$page" .1) 1" "$pages/twinlog.1"
    count "twinlog.1 leads to the page of $command" $?
    case $command in append | bench) sort -o there there log-options ;; esac
    listed "$command" >help
    diff there help >difference
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
