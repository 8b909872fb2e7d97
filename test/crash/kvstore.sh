#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kvstore.sh STORE TWINLOG: the store of the tutorial (docs/examples/kvstore_powercut.c) is killed while four threads
# change it, each time when it has promised some changes more, checkpoints or not. After each kill it keeps all that it
# has ever promised.
set -u
kills=15
store=$(realpath "$1") twinlog=$(realpath "$2")
place=$(mktemp -d "$PWD/kvstore.XXXXXX") || exit 1
trap 'rm -rf "$place"' EXIT
cd "$place" || exit 1
export POWERCUT POWERCUT_DIR=.
: >printed
for kill in $(seq $kills); do
    POWERCUT=run
    most=$(($(wc -l <printed) + kill * 131 % 700))
    "$store" >>printed &
    while [ "$(wc -l <printed)" -le $most ] && kill -0 $! 2>/dev/null; do
        sleep 0.01
    done
    kill -9 $! || { echo "kill $kill: the store has ended by itself"; exit 1; }
    wait $! 2>/dev/null
    POWERCUT=check
    "$store" <printed >checked 2>&1 || { echo "kill $kill:" && cat checked; exit 1; }
done
echo "$kills kills; $(cat checked); $("$twinlog" stat store | grep '^first LSN')"
! "$twinlog" stat store | grep -q '^first LSN *1$' # else no checkpoint was made
