#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# model.sh [--large|--if-changed]: checks the models beside it, every order of steps and every death, and that what is
# broken on purpose is found. Needs spin and a C compiler.
#
# A model says the same each time, and takes minutes. So the file `checked` has a sum of the models and of this script as
# they were when all of it passed, and --if-changed looks at nothing else where it is right.
set -u
models=$(realpath "$(dirname "$0")") || exit 1
sum=$(cd "$models" && cat model.sh ./*.pml | sha256sum | cut -d ' ' -f 1) || exit 1
if [ "${1:-}" = --if-changed ] && [ "$sum" = "$(cat "$models/checked")" ]; then
    echo "the models are as they were when they were checked"
    exit 0
fi
command -v spin >/dev/null || { echo "skipped: spin is not installed" && exit 77; }
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0

# search OPTION...: looks at every state of $model with these definitions; what it finds is in the file result.
property=-DSAFETY
optimisation=2
search()
{
    rm -f pan* ./*.trail
    spin -a "$@" "$models/$model.pml" >spin.out 2>&1 || { cat spin.out && return 1; }
    ${CC:-cc} -O$optimisation -w $property -DCOLLAPSE -DMEMLIM=6000 -o pan pan.c || return 1
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
        echo "holds: $model $* ($(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' result) states)"
    else
        echo "DOES NOT HOLD: $model $*"
        cat result
        failures=$((failures + 1))
    fi
}

# breaks OPTION...: the same, broken in one place. It is found so soon that the compiler would take most of the time.
breaks()
{
    optimisation=0
    if search "$@" && grep -q 'errors: 1' result; then
        echo "found: $model $* ($(sed -n 's/^pan:1: \([a-z -]*[a-z]\).*/\1/p' result))"
    else
        echo "NOT FOUND: $model $*"
        failures=$((failures + 1))
    fi
    optimisation=2
}

# ---- the processes of a sink give away its file ----------------------------------------------------

model=sink

# No step counts as progress, so none may be part of a circle: the living come to an end.
property=-DNP
holds -DWRITES=2 -DSYNCS=1
breaks -DWRITES=2 -DSYNCS=1 -DSWEEPS=0 -DPATIENT_SYNC
property=-DSAFETY

# Every one with a death, and a newcomer with the number of the dead one.
holds -DWRITES=4
holds -DWRITES=3 -DSYNCS=1 -DSWEEPS=0
for mistake in NO_CONFIRMATION BLIND_SWEEP NO_SEQUENCE NO_HERITAGE NO_LOCK; do
    breaks -DWRITES=3 -D$mistake
done

if [ "${1:-}" = --large ]; then
    holds -DWRITES=3 -DDEATHS=2 -DSWEEPS=2
    holds -DPARTICIPANTS=3 -DWRITES=3 -DSWEEPS=0 -DBIRTHS=0
    holds -DPARTICIPANTS=3 -DWRITES=2 -DDEATHS=2 -DBIRTHS=0
    holds -DPARTICIPANTS=3 -DWRITES=2
    holds -DPARTICIPANTS=3 -DWRITES=2 -DSWEEPS=0 -DBIRTHS=0 -DSYNCS=1
    breaks -DPARTICIPANTS=3 -DWRITES=3 -DBIRTHS=0 -DNO_SEQUENCE
fi

# ---- the processes of a shared log: places, segments, the dead ---------------------------------------

model=log

# As above: nobody runs in circles, nor waits for a dead one.
property=-DNP
holds -DWRITES=2 -DWAITS=1
breaks -DWRITES=2 -DLAZY_VOID
breaks -DWRITES=3 -DBEGIN_AGAIN
property=-DSAFETY

holds -DWRITES=3
holds -DPLACES=1 -DWRITES=4 -DCLOSES=2 -DDEATHS=0
holds -DWRITES=2 -DCLOSES=2
for mistake in NO_SWAP RENAME; do
    breaks -DWRITES=3 -D$mistake
done
for mistake in NO_SECOND_LOOK NO_HERITAGE LATE_HINT PATIENT; do
    breaks -DWRITES=2 -DWAITS=1 -D$mistake
done
for mistake in CLOSE_UNLEFT REMOVE_FIRST; do
    breaks -DWRITES=2 -DCLOSES=1 -D$mistake
done
breaks -DWRITES=3 -DCLOSES=1 -DINDEX_OVER_END
breaks -DPLACES=1 -DWRITES=4 -DCLOSES=2 -DNO_LOOK_BACK

if [ "${1:-}" = --large ]; then
    holds -DWRITES=3 -DWAITS=1
    holds -DWRITES=2 -DWAITS=2 -DDEATHS=2
    holds -DPLACES=3 -DWRITES=4
    holds -DPLACES=1 -DWRITES=4 -DCLOSES=2
    holds -DPARTICIPANTS=3 -DWRITES=2 -DWAITS=1 -DBIRTHS=0
    holds -DPARTICIPANTS=3 -DWRITES=3 -DBIRTHS=0
    property=-DNP
    holds -DPARTICIPANTS=3 -DWRITES=2 -DBIRTHS=0
    property=-DSAFETY
fi

# ---- what they sync ----------------------------------------------------------------------------------

model=sync
holds -DRECORDS=1
holds -DSYNCS=1 -DCLOSES=1 -DRECORDS=1
holds -DRECORDS=1 -DAHEAD -DSYNCS=3
for mistake in TRUST REDO; do
    breaks -DRECORDS=1 -D$mistake
done
for mistake in ONLY_FIRST NO_COUNT; do
    breaks -DRECORDS=1 -DAHEAD -DSYNCS=3 -D$mistake
done
for mistake in IMPATIENT LATE_COUNT STORE; do
    breaks -D$mistake
done
breaks -DSYNCS=1 -DCLOSES=1 -DCLOSE_UNSYNCED

if [ "${1:-}" = --large ]; then
    holds -DSYNCS=2
    holds -DSYNCS=1 -DCLOSES=1
    holds -DPARTICIPANTS=3 -DRECORDS=1
fi

# ---- how they come and go ----------------------------------------------------------------------------

model=door
holds -DDEATHS=2
holds -DPARTICIPANTS=3
holds -DOTHERS=1 -DDEATHS=2
for mistake in UNLOCK_AND_SHARE BLIND_JOIN NO_TURN NUMBER_LAST DEAD_JOIN; do
    breaks -D$mistake
done
# The question "is anybody alive" covers these, too; without it, and without readers, the state alone has to.
holds -DREADERS=0 -DDEAD_JOIN -DOTHERS=1 -DDEATHS=2
for mistake in EARLY_OPEN LATE_CLOSED; do
    breaks -DREADERS=0 -DDEAD_JOIN -D$mistake
done
breaks -DREADERS=0 -DDEAD_JOIN -DDEATHS=2 -DLATE_OPENING
breaks -DREADERS=0 -DDEAD_JOIN -DOTHERS=1 -DDEATHS=2 -DSTALE_PAGE

if [ "${1:-}" = --large ]; then
    holds -DPARTICIPANTS=3 -DDEATHS=2 -DOTHERS=1
fi
if [ $failures -gt 0 ]; then
    exit 1
fi
[ "$sum" = "$(cat "$models/checked")" ] || echo "all is as it should be: put $sum into test/model/checked"
