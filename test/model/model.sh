#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# model.sh [--large]: checks sink.pml, every order of steps and every death, and that what is broken on purpose is
# found. Needs spin and a C compiler.
set -u
model=$(realpath "$(dirname "$0")")/sink.pml || exit 1
command -v spin >/dev/null || { echo "skipped: spin is not installed" && exit 77; }
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0

# search OPTION...: looks at every state of the model with these definitions; what it finds is in the file result.
property=-DSAFETY
search()
{
    rm -f pan* ./*.trail
    spin -a "$@" "$model" >spin.out 2>&1 || { cat spin.out && return 1; }
    ${CC:-cc} -O2 -w $property -DCOLLAPSE -DMEMLIM=6000 -o pan pan.c || return 1
    if [ $property = -DNP ]; then
        ./pan -m100000 -l >result 2>&1 || return 1
    else
        ./pan -m100000 >result 2>&1 || return 1
    fi
    ! grep -qE 'search not completed|max search depth too small|out of memory' result || grep -q 'errors: 1' result
}

# holds OPTION...
holds()
{
    if search "$@" && grep -q 'errors: 0' result; then
        echo "holds: $* ($(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' result) states)"
    else
        echo "DOES NOT HOLD: $*"
        cat result
        failures=$((failures + 1))
    fi
}

# breaks OPTION...: the same, broken in one place
breaks()
{
    if search "$@" && grep -q 'errors: 1' result; then
        echo "found: $* ($(sed -n 's/^pan:1: \([a-z -]*[a-z]\).*/\1/p' result))"
    else
        echo "NOT FOUND: $*"
        failures=$((failures + 1))
    fi
}

# No step counts as progress, so none may be part of a circle: whoever lives comes to an end.
property=-DNP
holds -DWRITES=2 -DSYNCS=1
breaks -DWRITES=2 -DSYNCS=1 -DSWEEPS=0 -DPATIENT_SYNC
property=-DSAFETY

# Every one with a death, and somebody who comes with the number of the dead one.
holds -DWRITES=4
holds -DWRITES=3 -DSEALS=1
holds -DWRITES=3 -DSYNCS=1 -DSWEEPS=0
holds -DWRITES=3 -DDEATHS=2 -DSWEEPS=2
for mistake in NO_CONFIRMATION BLIND_SWEEP NO_SEQUENCE NO_HERITAGE NO_LOCK; do
    breaks -DWRITES=3 -D$mistake
done

if [ "${1:-}" = --large ]; then
    holds -DPARTICIPANTS=3 -DWRITES=3 -DSWEEPS=0 -DBIRTHS=0
    holds -DPARTICIPANTS=3 -DWRITES=2 -DDEATHS=2 -DBIRTHS=0
    holds -DPARTICIPANTS=3 -DWRITES=2
    holds -DPARTICIPANTS=3 -DWRITES=2 -DSWEEPS=0 -DBIRTHS=0 -DSEALS=1 -DSYNCS=1
    breaks -DPARTICIPANTS=3 -DWRITES=3 -DBIRTHS=0 -DNO_SEQUENCE
fi
exit "$((failures > 0))"
