#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# world.sh [--list | --turn | [--few] NAME...]: the tests of the tree in many surroundings (limits, users, clocks, file
# systems), which the tests do not make for themselves. Without a name in all of them; --list says what each is; --few:
# not all tests, but those of half a minute; --turn: the few in two cheap surroundings, which depend on the number of
# commits.
#
# A surrounding NAME is a line of surroundings() and up to four functions, with '_' in the place of '-':
#
#   make_NAME         once, before: mounts, files, processes. It may set $dir, where the tests are to work, or say that
#                     this machine cannot give it: cannot "WHY".
#   unmake_NAME       once, behind them, also where make_NAME could not: ends processes, and removes what is outside of
#                     build/world.
#   in_NAME COMMAND   runs one command in the surrounding; without this function it is just run.
#   control_NAME      is true in the surrounding and false outside. Both are tried: what is not in effect is a failure.
#
# Which tests run is said by tests(), and by left_out(), with a reason, which do not in one of the surroundings. As many
# run at a time as there are processors, all in one folder. What they print goes to build/world/NAME.log.
set -eu
self=$(realpath "$0")
cd "$(dirname "$self")/.."
# shellcheck source=test/dev.sh
. test/dev.sh

tree=$PWD
programs=$tree/build/dev/test
world=$tree/build/world
stranger=65534 # a user and a group without rights
others=54321   # a group

# ---- what is run ---------------------------------------------------------------------------------

# NAME, PROGRAM and its arguments. A script is given the command. Sizes of storms are such that each takes seconds.
tests()
{
    sed -n 's/.*DO(\([a-z_]*\)) .*/unit-\1 unit \1/p' "$tree/test/unit/suites.h"
    cat <<'END'
storm-durable crash-kill --kills 10
storm-sink crash-kill sink --kills 40
storm-mapped crash-kill mapped --kills 20
storm-shared crash-kill shared --kills 10
cli cli/cli.sh
cli-beside cli/beside.sh
cli-wrong cli/wrong.sh
cli-modes cli/modes.sh
cli-sink cli/sink.sh
stream-absent stream/absent.sh
END
}

# They take half a minute together.
few_tests='unit-(base|io|names|process|sink|sink_exact|state|storms|descriptors)|storm-.*|cli-(wrong|sink)'

# A pattern of surroundings, a pattern of tests, and why these are not run there.
left_out()
{
    cat <<'END'
closed       cli.*|stream-.*               they read what the command prints
closed       unit-descriptors              it opens and closes 0 to 2 itself
one-with-40  (unit|cli|stream)-.*|cli      they are processes that do not know each other
interrupts   unit-(names|mapped)           they wait in poll(), which any signal ends
interrupts   unit-uring                    a nudge is due when a second has passed without a signal
interrupts   unit-process                  it reads pipes through stdio, which gives up at a signal
little-memory unit-sink                    it reads 180 MiB at once
new-boot-id  unit-(process|descriptors|sink.*)|storm-(sink|shared)|cli-sink  processes of different boots share nothing
clock-.*|no-midnight  unit-sink_exact      it compares the clock with times of files, which libfaketime leaves as they are
clock-.*|no-midnight  cli-(wrong|sink)     libfaketime opens files, where the tests have closed a descriptor
address-space unit-sink                    it opens 256 sinks at once, each with a thread and a mapping
ext3         unit-(descriptors|process|sink.*)|storm-sink|cli-sink  no space can be reserved there; the test sink-on-ext3 has sinks
overlay      storm-(mapped|shared)         the library maps no files there, see docs/planning.md
long-path    unit-.*|storm-.*              they keep paths in arrays that are shorter
END
}

# NAME and a pattern: only these tests make sense there.
only()
{
    cat <<'END'
full-disk unit-(base|change|errand|modes|names|state)|stream-absent
END
}

# ---- the surroundings ----------------------------------------------------------------------------

surroundings()
{
    cat <<'END'
closed               descriptors 0 to 2 are closed
descriptors-64       a process may have 64 descriptors
one-with-40          every second process of a storm may have 40 descriptors
file-size            no file may be larger than 256 MiB
address-space        a process may have 2 GiB of addresses
stack-64k            stacks are of 64 KiB, of threads too
no-locked-memory     an ordinary user without the right to lock memory
one-processor        all threads share one processor
beside-load          twice as many busy processes as there are processors
little-memory        a memory cgroup of 64 MiB
interrupts           a signal without SA_RESTART comes a thousand times a second
no-ring              io_uring is refused
stranger             an ordinary user and group that own only the directory
umask-027            new files are not for others
umask-077            new files are for their owner alone
group-directory      an ordinary user in a directory of a group that has the setgid bit
no-ids               a user namespace in which no id is mapped
no-proc              nothing is mounted at /proc
proc-of-processes    /proc is mounted with subset=pid
boot-id-of-container a file that changes is mounted over the boot identity
new-boot-id          the boot identity is another one each time that it is read
clock-back           the clock says a day 1000 days ago
clock-ahead          the clock says a day after 2106, where 32 bits without sign end
clock-jumps          the clock jumps three times a second, by 1000 days there and back
no-midnight          the local day begins at one o'clock, some seconds after a test has begun
comma                a locale with a decimal comma, and without UTF-8
spaces               a path with spaces and umlauts
long-path            a path of a third of what the kernel takes
ext4                 file system ext4, of its own
ext3                 file system ext3
xfs                  file system xfs
btrfs                file system btrfs
tmpfs                file system in memory
overlay              file system overlay, on ext4
vfat                 file system vfat
full-disk            file system ext4 of 16 MiB
END
}

# Those that ./dev test --ci tries by turns: they take little time, and no package.
by_turns='closed descriptors-64 stack-64k no-ring umask-077 stranger tmpfs one-processor interrupts spaces no-proc'

# inside WORD COMMAND: see test/world/inside.c.
inside()
{
    inside=$1
    shift
    env WORLD_INSIDE="$inside" LD_PRELOAD="$programs/libinside.so" "$@"
}

# ---- limits

limit() { prlimit "--$1" --raw --noheadings --output SOFT; }

# What crash-kill prints is needed, so only its children have none.
in_closed()
{
    case $test in
    storm-*) inside closed "$@" ;;
    *) CK_LOG_FILE_NAME=$work/$test.check "$@" <&- >&- 2>&- ;;
    esac
}
control_closed()
{
    "$programs/surround" --has-none && inside closed "$programs/surround" --in-a-child --has-none </dev/null >/dev/null 2>&1
}

in_descriptors_64() { prlimit --nofile=64: "$@"; }
control_descriptors_64() { [ "$(limit nofile)" = 64 ]; }

in_one_with_40() { inside few "$@"; }
control_one_with_40() { "$programs/surround" --in-a-child --has-few && ! "$programs/surround" --has-few; }

# Without SIGXFSZ, which would end it: a write that is too large returns EFBIG.
in_file_size() { (trap '' XFSZ && prlimit --fsize=268435456: "$@"); }
control_file_size() { rm -f "$dir/large" && ! truncate -s 300M "$dir/large" 2>/dev/null && truncate -s 200M "$dir/large"; }

in_address_space() { prlimit --as=2147483648 "$@"; }
control_address_space() { [ "$(limit as)" = 2147483648 ]; }

in_stack_64k() { prlimit --stack=65536 "$@"; }
control_stack_64k() { [ "$(limit stack)" = 65536 ]; }

make_no_locked_memory() { make_stranger; }
in_no_locked_memory() { in_stranger prlimit --memlock=0 "$@"; }
control_no_locked_memory() { ! "$programs/surround" --can-lock; }

# ---- processors, memory, signals, io_uring

first_processor() { taskset --cpu-list --pid $$ | sed 's/.*: \([0-9]*\).*/\1/'; }
in_one_processor() { taskset --cpu-list "$(first_processor)" "$@"; }
control_one_processor() { [ "$(nproc)" = 1 ]; }

make_beside_load()
{
    for _ in $(seq $((2 * jobs))); do
        while is_running; do :; done &
        echo $! >>"$work/load"
    done
}
unmake_beside_load() { stop_processes "$work/load"; }
control_beside_load()
{
    [ -e "$work/load" ] && [ "$(wc -l <"$work/load")" = $((2 * jobs)) ] && xargs kill -0 <"$work/load"
}

# What a surrounding begins in the background ends with this script, also if that is interrupted.
is_running() { kill -0 $$ 2>/dev/null; }
# stop_processes FILE: of which make_NAME has left the ids, if it came so far.
stop_processes() { [ ! -e "$1" ] || xargs kill <"$1" 2>/dev/null || true; }

make_little_memory()
{
    needs_root || return 1
    for at in /sys/fs/cgroup/memory /sys/fs/cgroup; do
        group=$at/twinlog-world-$$
        mkdir "$group" 2>/dev/null || continue
        for limit in memory.limit_in_bytes memory.max; do
            if [ -w "$group/$limit" ] && echo 67108864 >"$group/$limit"; then
                export group
                return
            fi
        done
        rmdir "$group"
    done
    group=
    cannot "no cgroup that limits memory can be made"
}
unmake_little_memory() { [ -z "${group:-}" ] || rmdir "$group"; }
in_little_memory() { sh -c 'echo $$ >"$group/cgroup.procs" && exec "$@"' sh "$@"; }
control_little_memory()
{
    grep -q twinlog-world- /proc/self/cgroup && cat "$group"/memory.limit_in_bytes "$group"/memory.max 2>/dev/null |
        grep -qx 67108864
}

in_interrupts() { inside interrupts "$@"; }
control_interrupts() { "$programs/surround" --is-interrupted; }

make_no_ring() { "$programs/surround" --has-ring || cannot "the kernel refuses io_uring anyhow"; }
in_no_ring() { "$programs/surround" no-ring "$@"; }
control_no_ring() { ! "$programs/surround" --has-ring; }

# ---- users

make_stranger() { needs_root && may_enter "$programs" && chown "$stranger:$stranger" "$dir"; }
in_stranger() { setpriv --reuid "$stranger" --regid "$stranger" --clear-groups "$@"; }
control_stranger() { [ "$(id -u):$(id -G)" = "$stranger:$stranger" ] && [ -w "$dir" ] && [ ! -w "$tree" ]; }

in_umask_027() { (umask 027 && "$@"); }
control_umask_027() { [ "$(umask)" = 0027 ]; }

in_umask_077() { (umask 077 && "$@"); }
control_umask_077() { [ "$(umask)" = 0077 ]; }

make_group_directory() { needs_root && may_enter "$programs" && chgrp "$others" "$dir" && chmod 2770 "$dir"; }
in_group_directory() { (umask 007 && setpriv --reuid "$stranger" --regid "$stranger" --groups "$others" "$@"); }
control_group_directory() { mine=$(mktemp "$dir/mine.XXXXXX") && [ "$(stat -c %u:%g "$mine")" = "$stranger:$others" ]; }

make_no_ids() { unshare --user true 2>/dev/null || cannot "no user namespace can be made"; }
in_no_ids() { unshare --user "$@"; }
control_no_ids() { [ -e /proc/self/uid_map ] && [ -z "$(cat /proc/self/uid_map)" ]; }

# ---- /proc

# with_mount "ARGUMENT..." COMMAND...: a mount that only the command sees.
# shellcheck disable=SC2016 # that shell expands them
with_mount() { unshare --mount sh -c 'mount $0 && exec "$@"' "$@"; }

make_no_proc() { needs_root; }
in_no_proc() { with_mount "-t tmpfs -o ro none /proc" "$@"; }
control_no_proc() { [ ! -e /proc/self ] && [ ! -e /proc/sys ]; }

make_proc_of_processes() { needs_root; }
in_proc_of_processes() { with_mount "-t proc -o subset=pid none /proc" "$@"; }
control_proc_of_processes() { [ -e /proc/self ] && [ ! -e /proc/sys ]; }

identity=/proc/sys/kernel/random/boot_id
make_boot_id_of_container()
{
    needs_root || return 1
    cp /proc/sys/kernel/random/uuid "$work/identity"
    while is_running && cat /proc/sys/kernel/random/uuid >"$work/identity" && sleep 0.02; do :; done 2>/dev/null &
    echo $! >"$work/changer"
}
unmake_boot_id_of_container() { stop_processes "$work/changer"; }
in_boot_id_of_container() { with_mount "--bind $work/identity $identity" "$@"; }
control_boot_id_of_container() { changes && [ "$(stat -f -c %T "$identity")" != proc ]; }
changes()
{
    before=$(cat "$identity")
    sleep 0.5
    [ "$(cat "$identity")" != "$before" ]
}

make_new_boot_id() { needs_root; }
in_new_boot_id() { with_mount "--bind /proc/sys/kernel/random/uuid $identity" "$@"; }
control_new_boot_id() { [ "$(cat "$identity")" != "$(cat "$identity")" ] && [ "$(stat -f -c %T "$identity")" = proc ]; }

# ---- time and language; libfaketime stands between the programs and the clock

library_of_time() { find /usr/lib -name libfaketimeMT.so.1 2>/dev/null | head -n 1; }
needs_time() { [ -n "$(library_of_time)" ] || cannot "there is no libfaketime"; }
at_time() { env DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1 LD_PRELOAD="$(library_of_time)" "$@"; }

make_clock_back() { needs_time; }
in_clock_back() { at_time FAKETIME=-1000d "$@"; }
# The time of a new file is the kernel's.
control_clock_back() { : >"$dir/new" && [ $(($(stat -c %Y "$dir/new") - $(date +%s))) -gt $((999 * 86400)) ]; }

make_clock_ahead() { needs_time; }
in_clock_ahead() { at_time FAKETIME=+35000d "$@"; }
control_clock_ahead() { [ "$(date +%s)" -gt 4294967296 ]; }

make_clock_jumps()
{
    needs_time || return 1
    echo +1000d >"$work/clock"
    while is_running && sleep 0.3 && echo +0d >"$work/clock.new" && mv "$work/clock.new" "$work/clock" &&
        sleep 0.3 && echo +1000d >"$work/clock.new" && mv "$work/clock.new" "$work/clock"; do :; done 2>/dev/null &
    echo $! >"$work/changer"
}
unmake_clock_jumps() { stop_processes "$work/changer"; }
in_clock_jumps() { at_time FAKETIME_NO_CACHE=1 FAKETIME_TIMESTAMP_FILE="$work/clock" "$@"; }
control_clock_jumps()
{
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        date +%Y
        sleep 0.1
    done >"$dir/years"
    [ "$(sort -u "$dir/years" | wc -l)" -gt 1 ]
}

# In São Paulo the fourth of November 2018 began at one o'clock; five seconds before it each test begins.
first_moment=1541300400
make_no_midnight()
{
    needs_time || return 1
    [ "$(TZ=America/Sao_Paulo date -d "@$first_moment" +%F-%H)" = 2018-11-04-01 ] || cannot "there are no time zones (tzdata)"
}
in_no_midnight() { at_time TZ=America/Sao_Paulo FAKETIME="-$(($(date +%s) - first_moment + 5))" "$@"; }
control_no_midnight() { [ "$(date +%F)" = 2018-11-03 ] && sleep 6 && [ "$(date +%F-%H)" = 2018-11-04-01 ]; }

make_comma()
{
    needs localedef || return 1
    mkdir "$work/locale"
    localedef -i de_DE -f ISO-8859-1 "$work/locale/de_DE" 2>/dev/null || cannot "there are no sources of locales"
}
in_comma() { env LOCPATH="$work/locale" LC_ALL=de_DE LANG=de_DE "$@"; }
control_comma() { [ "$(locale charmap)" = ISO-8859-1 ] && [ "$(locale decimal_point)" = , ]; }

# ---- paths

make_spaces() { dir="$dir/mit Leerzeichen und Ümläuten" && mkdir "$dir"; }
control_spaces() { case $(cd "$dir" && pwd -P) in *\ *ä*) ;; *) return 1 ;; esac; }

make_long_path()
{
    while [ ${#dir} -lt 1200 ]; do dir=$dir/$(printf '%0160d' 0); done
    mkdir -p "$dir"
}
control_long_path() { path=$(cd "$dir" && pwd -P) && [ ${#path} -ge 1200 ]; }

# ---- file systems

# make_disk MIB COMMAND...: makes a file system in an image, with mkfs, and mounts it at $dir.
make_disk()
{
    needs_root && needs "$2" || return 1
    size=$1
    shift
    truncate -s "${size}M" "$work/disk"
    "$@" "$work/disk" >"$work/mkfs.out" 2>&1 || cannot "$1 fails: $(tail -n 1 "$work/mkfs.out")" || return 1
    mount_at "$dir" -o loop "$work/disk"
}
is_on() { [ "$(findmnt -n -o FSTYPE -M "$dir")" = "$1" ]; }

make_ext4() { make_disk 4096 mkfs.ext4 -q -F; }
control_ext4() { is_on ext4; }

make_ext3() { make_disk 4096 mkfs.ext3 -q -F; }
control_ext3() { is_on ext3; }

make_xfs() { make_disk 4096 mkfs.xfs -q -f; }
control_xfs() { is_on xfs; }

make_btrfs() { make_disk 4096 mkfs.btrfs -q -f; }
control_btrfs() { is_on btrfs; }

make_vfat() { make_disk 4096 mkfs.vfat; }
control_vfat() { is_on vfat; }

make_tmpfs() { needs_root && mount_at "$dir" -t tmpfs -o size=4g none; }
control_tmpfs() { is_on tmpfs; }

make_overlay()
{
    below=$work/below
    mkdir "$below" && top=$dir && dir=$below && make_ext4 && dir=$top || return 1
    mkdir "$below/lower" "$below/upper" "$below/work"
    mount_at "$dir" -t overlay -o "lowerdir=$below/lower,upperdir=$below/upper,workdir=$below/work" none
}
control_overlay() { is_on overlay; }

make_full_disk() { make_disk 16 mkfs.ext4 -q -F; }
control_full_disk() { is_on ext4 && [ "$(df --output=size -k "$dir" | tail -n 1)" -lt 16384 ]; }

# ---- what they need ------------------------------------------------------------------------------

# cannot WHY: this machine has no such surrounding.
cannot()
{
    why=$*
    return 1
}

needs_root() { [ -n "${is_alone:-}" ] || cannot "only root can do that, in a mount namespace of its own"; }

# needs COMMAND
needs() { command -v "$1" >/dev/null || cannot "there is no $1"; }

# may_enter FOLDER: may a stranger run what is in it?
may_enter()
{
    in_stranger test -x "$1" || cannot "a stranger may not enter $1"
}

# mount_at FOLDER ARGUMENT... DEVICE: close_world unmounts it, or the end of this script, as the namespace is its own.
mount_at()
{
    at=$1
    shift
    mount "$@" "$at" 2>"$work/mount.err" || cannot "$(sed -n '1s/.*: //p' "$work/mount.err")"
}

# ---- how they are run ----------------------------------------------------------------------------

names() { surroundings | sed 's/ .*//'; }
function_of() { echo "$1_$2" | tr - _; }
has_function() { command -v "$1" >/dev/null; }

# enter NAME COMMAND...; $test says which test it is.
enter()
{
    enter_by=$(function_of in "$1")
    shift
    if has_function "$enter_by"; then
        "$enter_by" "$@"
    else
        "$@"
    fi
}

# tests_in NAME: those that are not left out.
tests_in()
{
    left_out | awk -v name="$1" 'name ~ "^(" $1 ")$" { print "^(" $2 ") " }' >"$work/left-out"
    only=$(only | sed -n "s/^$1 //p")
    tests | grep -E "^($chosen_tests) " | grep -E "^(${only:-.*}) " | grep -vE -f "$work/left-out" || true
}

# run_one NAME TEST PROGRAM ARGUMENT...: one test in a surrounding, in $dir, where tests make their folders. It leaves a line in `results`.
run_one()
{
    surrounding=$1 test=$2 program=$3
    shift 3
    case $program in
    *.sh) set -- "$tree/test/$program" "$tree/build/dev/tools/twinlog" "$@" ;;
    *) set -- "$programs/$program" "$@" ;;
    esac
    status=0
    began=$(date +%s)
    cd "$dir"
    TMPDIR=$dir enter "$surrounding" timeout 900 "$@" >"$work/$test.out" 2>&1 </dev/null || status=$?
    case $status in
    0) result=passed ;;
    77) result=skipped ;;
    *) result="failed with $status" ;;
    esac
    echo "$test: $result" >>"$work/results"
    printf '%s took %d s\n' "$test" $(($(date +%s) - began)) >>"$work/$test.out"
}

# is_new NAME: the control fails before the surrounding is made.
is_new()
{
    if "$self" --control "$1" 2>/dev/null; then
        echo "its control succeeds outside of it, too, so it shows nothing" >>"$log"
        return 1
    fi
}

# is_in_effect NAME: the control succeeds in the surrounding.
is_in_effect()
{
    if ! test=control enter "$1" "$self" --control "$1" >>"$log" 2>&1; then
        echo "it is not in effect: its control fails" >>"$log"
        return 1
    fi
}

add_those_that_never_ran()
{
    while read -r test rest; do
        grep -q "^$test: " "$work/results" || echo "$test: failed to run: $rest" >>"$work/results"
    done <"$work/wanted"
}

# count_results WORD
count_results() { grep -c ": $1" "$work/results" || true; }

# show_logs: of each test, in the log of the surrounding; those that failed come last.
show_logs()
{
    for result in 'skipped' 'passed' 'failed.*'; do
        sed -n "s/^\(.*\): $result\$/\1/p" "$work/results" | sort | while read -r test; do
            printf '== %s\n' "$(grep "^$test: " "$work/results")"
            cat "$work/$test.check" 2>/dev/null || true
            cat "$work/$test.out" 2>/dev/null || true
        done
    done >>"$log"
}

# close_world NAME: unmounts, and removes what the tests have left.
close_world()
{
    close_by=$(function_of unmake "$1")
    ! has_function "$close_by" || "$close_by"
    for at in "$dir" "$work/below"; do
        ! mountpoint -q "$at" || umount "$at" || umount -l "$at"
    done
    rm -rf --one-file-system "$work"
}

# summarize NAME WORDS...: a line of progress, which also goes to the summary.
summarize()
{
    name=$1
    shift
    printf '%-20s %5d s  %s\n' "$name" $(($(date +%s) - began)) "$*" | tee -a "$world/summary"
}

# try_world NAME
try_world()
{
    began=$(date +%s)
    log=$world/$1.log
    work=$world/$1.place
    dir=$work/tests
    why=
    rm -rf --one-file-system "$work"
    mkdir -p "$dir"
    : >"$log"
    : >"$work/results"
    export dir work
    make_by=$(function_of make "$1")
    if ! is_new "$1"; then
        summarize "$1" "FAILED: $(tail -n 1 "$log")"
        failed=$((failed + 1))
    elif has_function "$make_by" && ! "$make_by"; then
        echo "SKIP world $1: ${why:-$make_by failed}" >>"$log"
        summarize "$1" "skipped: ${why:-$make_by failed}"
        skipped=$((skipped + 1))
    elif ! is_in_effect "$1"; then
        summarize "$1" "FAILED: $(tail -n 1 "$log")"
        failed=$((failed + 1))
    else
        tests_in "$1" >"$work/wanted"
        xargs -r -P "$jobs" -L 1 "$self" --one "$1" <"$work/wanted" || true
        add_those_that_never_ran
        show_logs
        summarize "$1" "$(count_results passed) passed, $(count_results failed) failed, $(count_results skipped) skipped"
        grep ': failed' "$work/results" | sed 's/^/    /' | tee -a "$world/summary" || true
        if [ "$(count_results failed)" = 0 ] && [ "$(count_results passed)" -gt 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    fi
    close_world "$1"
}

# turn: two of $by_turns, others at the next commit.
turn()
{
    commits=$(git rev-list --count HEAD 2>/dev/null || date +%-j)
    # shellcheck disable=SC2086 # names
    set -- $by_turns $by_turns
    shift $((commits * 2 % ($# / 2)))
    echo "$1 $2"
}

# Mounts end with the script, however it ends.
go_alone()
{
    if [ -z "${is_alone:-}" ] && [ "$(id -u)" = 0 ] && unshare --mount true 2>/dev/null; then
        is_alone=yes exec unshare --mount --propagation private "$self" "$@"
    fi
}

try_worlds()
{
    go_alone "$@"
    mkdir -p "$world"
    : >"$world/summary"
    passed=0 failed=0 skipped=0
    for name in "$@"; do
        try_world "$name"
    done
    say "what the tests print is in build/world"
    echo "$passed surroundings passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}

# Exported, because go_alone runs this script again; and --control and --one are how it runs itself in a surrounding.
export chosen_tests="${chosen_tests:-.*}"
case ${1:-} in
--list) surroundings && exit ;;
--control)
    "$(function_of control "$2")"
    exit
    ;;
--one)
    shift
    run_one "$@"
    exit
    ;;
--few)
    chosen_tests=$few_tests
    shift
    ;;
--turn)
    chosen_tests=$few_tests
    # shellcheck disable=SC2046 # two names
    set -- $(turn)
    say "world $*: the surroundings of this commit's turn"
    ;;
esac
if [ $# = 0 ]; then
    # shellcheck disable=SC2046 # names
    set -- $(names)
fi
for name in "$@"; do
    names | grep -qxF -e "$name" || { echo "world: there is no surrounding $name; --list shows them" >&2 && exit 2; }
done
if [ -z "${is_alone:-}" ]; then
    setup "$to_world"
    build dev unit crash-kill twinlog_command surround inside
fi
try_worlds "$@"
