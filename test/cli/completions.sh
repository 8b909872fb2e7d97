#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# completions.sh TWINLOG: what zsh and fish offer at the end of a line, asked for as at a terminal. options.sh asks bash.
set -u
here=$(realpath "$(dirname "$0")")
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

mkdir functions where where/here
touch where/there
"$twinlog" --completion zsh >functions/_twinlog
"$twinlog" --completion fish >twinlog.fish

# What they offer at the end of a line.
of_zsh() { zsh -f "$here/complete.zsh" "$place/functions" "$1"; }
of_fish() { fish --no-config -c "source ../twinlog.fish; complete -C '$1'" | sed 's/\t.*//; s,/$,,'; }

# offers NAME EXPECTED LINE
offers()
{
    subject="$shell, $3"
    got=$(cd where && "of_$shell" "$3" | sort -u | grep -vxE 'ready|done|offered|setup.zsh' | tr '\n' ' ')
    [ "$got" = "$2" ]
    count "$1: '$got', not '$2'" $?
}

found=no
for shell in zsh fish; do
    command -v $shell >/dev/null || { echo "SKIP cli-completions, $shell: it is not here"; continue; }
    if [ $shell = zsh ] && ! zsh -fc 'zmodload zsh/zpty && zpty try true' 2>/dev/null; then
        echo "SKIP cli-completions, zsh: it has no terminal of its own here (zsh/zpty)"
        continue
    fi
    found=yes
    offers "commands" "append archive " "twinlog a"
    offers "options" "--keep-bytes --keep-records --keep-time " "twinlog trim here --keep"
    offers "the option of another command" "" "twinlog verify here --keep"
    offers "words" "uring uring-linked " "twinlog append --io ur"
    offers "directories for a log" "here " "twinlog cat "
    offers "a file for a sink" "there " "twinlog sink th"
    offers "a directory for --output" "here " "twinlog backup here --output h"
    offers "nothing for a number" "" "twinlog cat --from h"
    offers "nothing for a command that there is not" "" "twinlog mend th"
done
[ $found = yes ] || exit 77

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
