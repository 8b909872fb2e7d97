#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# powercut.sh POWERCUT STORE BROKEN TWINLOG: twinlog-powercut finds nothing wrong with the store of the tutorial, and what
# is wrong with BROKEN, which is that store without its wait. TWINLOG is the command.
# shellcheck disable=SC2016 # the shells of the commands expand that
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/../cli/checks.sh" # $1 is the command
powercut=$twinlog
store=$2
broken=$3
command=$4
kept() { find . -maxdepth 1 -name 'twinlog-powercut-*' | grep -c .; }
export TMPDIR="$place"

status "--help" 0 "$powercut" --help
says "shows the exit status" out '^Exit status: 0 no check failed'
status "--version" 0 "$powercut" --version
for wrong in "" "--kind fat true" "--cuts 0 true" "--cuts -1 true" "--within x true" "--tear  true" "--mend true"; do
    # shellcheck disable=SC2086 # several words
    status "wrong usage: $wrong" 2 "$powercut" $wrong
done
chmod 1777 "$public"
cp "$powercut" "$public/powercut"
status "without root" 77 env TMPDIR="$public" setpriv --reuid=65534 --regid=65534 --clear-groups "$public/powercut" true
[ "$(id -u)" != 0 ] || says "says that root is missing" err 'cannot run here: only root can mount'

# Whether it can run here at all; what it says is the reason of a skip.
"$powercut" --cuts 1 --within 1 --check true -- true >out 2>err
case $? in
0) ;;
77) sed 's/^twinlog-powercut: cannot run here/SKIP powercut/' err; [ "$failed" = 0 ] || exit 1; exit 77 ;;
*) cat out err; exit 1 ;;
esac

# A store that keeps its promises, on each file system that can be made here.
for kind in ext4 xfs btrfs; do
    "$powercut" --kind $kind --cuts 3 --within 300 "$store" >out 2>err
    got=$?
    [ $got != 77 ] || { echo "SKIP powercut, $kind: $(cat err)"; continue; }
    subject="--kind $kind"
    count "the store survives" $got
    [ $got = 0 ] || cat out err
    says "says how many cuts there were" out "^3 power cuts on $kind, no check failed"
    says "the check has read promises" err '^[0-9]+ promises, 0 of them broken'
done

# With a reader that waits for each record the groups go through the page cache.
follow="until \"$command\" cat --follow --last 1 \"\$POWERCUT_DIR/store\"; do sleep 0.02; done >/dev/null 2>&1"
for kind in ext4 xfs btrfs; do
    "$powercut" --kind $kind --cuts 3 --within 300 --check "$store" -- sh -c "($follow) & exec \"$store\"" >out 2>err
    got=$?
    [ $got != 77 ] || continue
    subject="--kind $kind, followed"
    count "the store survives" $got
    [ $got = 0 ] || cat out err
done

# What is in the disk, and what was printed, goes on from run to run, unless --fresh says otherwise. These commands end
# by themselves long before their cut.
long="--cuts 2 --within 600000"
once='test ! -e "$POWERCUT_DIR/one" && echo >"$POWERCUT_DIR/one" && sync -f "$POWERCUT_DIR" && echo made && printf unfinished'
# shellcheck disable=SC2086 # several words
status "a fresh disk for each run" 0 "$powercut" $long --fresh --check 'test "$(cat)" = made' -- sh -c "$once"
# shellcheck disable=SC2086
status "the second run has the disk of the first" 1 "$powercut" $long --check true -- sh -c "$once"
says "which made the command fail" out '^cut 2: FOUND: the command ended with status 1 before the power was cut'
# shellcheck disable=SC2086
status "lines are kept" 0 "$powercut" $long --check 'test "$(wc -l)" = "$POWERCUT_CUT"' -- sh -c 'echo "$POWERCUT $POWERCUT_CUT"'
# shellcheck disable=SC2086
status "what was printed cannot be taken back" 1 "$powercut" $long --check true -- sh -c 'echo one && echo two >/dev/stdout'
says "the command is refused" err '/dev/stdout'
# shellcheck disable=SC2086
status "but can be added to" 0 "$powercut" $long --check 'test "$(wc -l)" = $((2 * POWERCUT_CUT))' \
    -- sh -c 'echo one && echo two >>/dev/stdout'
# shellcheck disable=SC2086
status "a process that was left behind is ended" 0 "$powercut" $long --check true \
    -- sh -c 'cd "$POWERCUT_DIR" && { setsid sh -c "sleep 1000; true" & exit 0; }'
status "a killed check" 1 "$powercut" --cuts 1 --check 'kill -9 $$' true
says "is told from one that ended" out 'the check was ended by signal 9'

# Programs that promise too much.
rm -rf twinlog-powercut-*
status "a store that does not wait is caught" 1 "$powercut" --cuts 100 --within 300 "$broken"
says "by its check" out 'FOUND: the check ended with status 1'
says "which says why" err 'a change that had returned is not there'
count "the disk is kept" $((!$(find twinlog-powercut-*/disk.img -size +0 | wc -l)))
count "and what was printed" $((!$(cat twinlog-powercut-*/printed | wc -l)))
status "so is a disk that forgets" 1 "$powercut" --lie --cuts 100 --within 300 "$store"
status "and a file that was not synced" 1 "$powercut" --cuts 100 --within 300 \
    --check 'while read -r n; do grep -qx "$n" "$POWERCUT_DIR/file" || exit 1; done' \
    -- sh -c 'n=0; while n=$((n + 1)); do echo $n >>"$POWERCUT_DIR/file"; echo $n; done'

# Only the disk, without a file system. What was synced is in its first sector after the cut; each run counts from 1. A cut
# may come before the first write.
sector='head -c 512 "$POWERCUT_DISK" | tr -d "\0 "'
put='dd of="$POWERCUT_DISK" bs=512 status=none conv=notrunc'
count_up() { printf '%s' "n=0; while n=\$((n + 1)); do printf '%511s\n' \$n | $put$1 && echo \$n; done"; }
compare='said=$(tail -n 1); has=$('$sector'); test "${has:-0}" -ge "${said:-0}"'
status "the disk itself" 0 "$powercut" --kind none --fresh --cuts 5 --within 300 --check "$compare" -- sh -c "$(count_up ,fsync)"
status "which was not synced" 1 "$powercut" --kind none --fresh --cuts 100 --within 300 --check "$compare" -- sh -c "$(count_up '')"
status "or forgets" 1 "$powercut" --kind none --lie --fresh --cuts 100 --within 300 --check "$compare" -- sh -c "$(count_up ,fsync)"
once="test -z \"\$($sector)\" && printf '%511s\n' 1 | $put,fsync && echo made"
# shellcheck disable=SC2086 # several words
status "is empty each time, with --fresh" 0 "$powercut" --kind none $long --fresh --check 'test "$(cat)" = made' -- sh -c "$once"
# shellcheck disable=SC2086
status "and else is not" 1 "$powercut" --kind none $long --check true -- sh -c "$once"

# A block that may be torn has some of its sectors, at some cut.
status "a torn block" 1 "$powercut" --tear '<torn>' --cuts 200 --within 600000 --fresh \
    --check 'cd "$POWERCUT_DIR" && { ! grep -q new file || ! grep -q old file; }' \
    -- sh -c 'cd "$POWERCUT_DIR" && block() { yes "<torn>$1" | head -c 4096; } && block old >file && sync -f . &&
              block new | dd of=file bs=4096 conv=notrunc oflag=direct status=none'

# It leaves nothing behind, also when it is interrupted.
rm -rf twinlog-powercut-*
status "a signal" 143 "$powercut" -- sh -c 'kill -TERM $PPID; sleep 1000'
count "leaves nothing behind" "$(kept)"

# What is missing is named.
missing()
{
    status "without $1" 77 unshare --mount sh -c 'mount --bind /dev/null "$1" && shift && "$@"' sh "$1" "$powercut" --kind ext4 true
    says "is told" err "cannot run here: $2"
}
missing "$(command -v mkfs.ext4)" 'there is no mkfs.ext4: install e2fsprogs'
missing /dev/fuse 'the FUSE file system cannot be mounted'
count "and nothing is left behind" "$(kept)"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
