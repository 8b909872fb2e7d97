#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# turn.sh PART... -- COMMAND...: runs the command once for each part, with the words of that behind its own. Where ./dev test
# says which turn it is, by TWINLOG_TURN, the number of the commit, one of the parts only: another one at the next commit.
# turn.sh --check: tries that with a command that shows its words.
set -eu

# said [TURN]: what is run of three parts.
said() { TWINLOG_TURN=${1:-} "$0" "--seed 1" "" "b c" -- printf '<%s>\n' a | grep -v '^part ' | tr -d '\n'; }

# expect WANTED GOT
expect()
{
    [ "$1" = "$2" ] && return
    echo "turn.sh: '$2', not '$1'"
    exit 1
}

check()
{
    expect '<a><--seed><1>' "$(said 0)"
    expect '<a>' "$(said 1)"
    expect '<a><b><c>' "$(said 5)"
    expect '<a><--seed><1><a><a><b><c>' "$(said)"
    for turn in '' 0; do
        status=0
        TWINLOG_TURN=$turn "$0" false true -- env >/dev/null || status=$?
        expect "a status of 1" "a status of $status"
    done
}

if [ "${1:-}" = --check ]; then
    check
    exit
fi

parts=0
for word in "$@"; do
    [ "$word" != -- ] || break
    parts=$((parts + 1))
done
if [ "$parts" = 0 ] || [ $# -lt $((parts + 2)) ]; then
    sed -n 's/^# \(turn.sh .*COMMAND\.\.\.\):.*/usage: \1/p' "$0" >&2
    exit 2
fi

# run NUMBER PART ... -- COMMAND...: that part, of those that follow.
run()
{
    number=$1
    shift "$number"
    part=$1
    while [ "$1" != -- ]; do shift; done
    shift
    echo "part $number of $parts: $part"
    # shellcheck disable=SC2086 # words
    "$@" $part
}

if [ -n "${TWINLOG_TURN:-}" ]; then
    run $((TWINLOG_TURN % parts + 1)) "$@"
    exit
fi
for each in $(seq "$parts"); do
    run "$each" "$@"
done
