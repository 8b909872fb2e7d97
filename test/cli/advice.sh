#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# advice.sh TWINLOG: what messages advise is done, to the letter, and the trouble is over. test/advice.py wants that of each
# advice in the tree; here are those that no other test comes to.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

# fails WHAT COMMAND...: with its output in the files out and err.
fails()
{
    name=$1
    shift
    subject=$*
    got=0
    "$@" </dev/null >out 2>err || got=$?
    count "$name is an error" $((got == 0))
}

# in_namespace SCRIPT [ARGUMENT...]: by sh, where what it mounts is seen by nobody else.
# shellcheck disable=SC2016 # for that shell
in_namespace() { unshare -m sh -c 'mount --make-rprivate / && eval "$0"' "$@"; }

# may_mount WHAT: skips it by name where that cannot be done.
may_mount()
{
    in_namespace true 2>/dev/null && return
    skip "$1" "only root may mount"
    return 1
}

# ---- a log that has lost something ---------------------------------------------------------------

# prepare: "log", of several segments with the numbers from 1 to 30000, and "copy", from which it can be restored. second and
# last are names of segments.
prepare()
{
    if [ ! -d copy ]; then
        for upto in 10000 20000 30000; do
            seq $((upto - 9999)) "$upto" | "$twinlog" append copy --segment 128K --max-record 4K
        done
        second=$(find copy -name '*.twl' | sort | sed -n 2p | xargs basename)
        last=$(find copy -name '*.twl' | sort | tail -n 1 | xargs basename)
    fi
    rm -rf log
    cp -r copy log
}

# is_well LOG: it can be written, is sound, and has all records.
is_well()
{
    status "append to it" 0 "$twinlog" append "$1" </dev/null
    status "verify it" 0 "$twinlog" verify "$1"
    holds "it has its records" "$1" 1 30000
}

# repairs: `twinlog repair` of the log, and all of it is there.
repairs()
{
    rm -rf repaired
    "$twinlog" repair log --output repaired >out 2>err
    is_well repaired
}

# Not a byte of it is left, as where a disk has lost it.
spoil_file() { head -c 65536 /dev/zero | tr '\0' x >"$1"; }

test_segments()
{
    prepare
    spoil_file "log/$second"
    fails "a segment without its header" "$twinlog" append log
    advises err 'does not check; restore that file from a copy'
    cp "copy/$second" log
    is_well log
    spoil_file log/00000000000000ff.twl
    fails "a file that never was a segment" "$twinlog" append log
    advises err ', or move it out if it never was a segment'
    mv log/00000000000000ff.twl elsewhere
    is_well log

    spoil_file "log/$second"
    fails "verify of a segment without its header" "$twinlog" verify log
    advises out 'and no record was found in it; restore that file from a copy'
    cp "copy/$second" log
    is_well log
    for block in 0 $(($(wc -c <"log/$second") / 4096 - 1)); do
        head -c 4096 /dev/zero | tr '\0' x | dd of="log/$second" bs=4096 seek=$block conv=notrunc status=none
    done
    fails "verify of a segment with records but no header" "$twinlog" verify log
    advises out 'checks; restore that file from a copy: records'
    cp "copy/$second" log
    is_well log

    truncate -s 20000 "log/$second"
    fails "a segment that was cut" "$twinlog" append log
    advises err 'bytes; restore that file from a copy'
    cp "copy/$second" log
    is_well log
    rm "log/$second"
    fails "a segment that is missing" "$twinlog" append log
    advises err 'are missing before' 'restore them from a copy'
    cp "copy/$second" log
    is_well log

    spoil log 29000
    rm log/writer.lock # the note in it would let the opening pass by
    fails "a wrong byte" "$twinlog" append log
    advises err '; restore the segment from a copy'
    cp "copy/$(basename "$file")" log
    is_well log
}

test_foreign()
{
    prepare
    fill other 10
    cp other/*1.twl log/00000000000000fe.twl
    fails "a segment of another log" "$twinlog" append log
    advises err 'belongs to another log, or is a second copy; move it out of the directory'
    fails "backup of it" "$twinlog" backup log --output backed.up
    advises err "Move what does not belong to the log out of its directory: 'twinlog verify DIR' names it."
    fails "verify" "$twinlog" verify log
    says "names it" out '00000000000000fe\.twl'
    mv log/00000000000000fe.twl elsewhere
    status "backup then" 0 "$twinlog" backup log --output backed.up
    is_well log
    cp "log/$second" log/00000000000000fe.twl
    fails "a second copy of a segment" "$twinlog" append log
    advises err 'or is a second copy; move it out of the directory'
    mv log/00000000000000fe.twl elsewhere
    is_well log

    ln "log/$last" linked
    fails "a segment with another name" "$twinlog" append log
    advises err 'put a copy of its own in its place'
    cp "log/$last" own
    mv own "log/$last"
    is_well log
}

test_state()
{
    prepare
    rm log/state
    fails "a log without its state file" "$twinlog" append log
    # shellcheck disable=SC2016 # the message has these quotes
    advises err 'is missing; `twinlog repair` the log, or restore it from a copy if no record was removed since'
    repairs
    cp copy/state log
    is_well log
    head -c 32768 /dev/zero >log/state
    fails "a damaged state file" "$twinlog" append log
    # shellcheck disable=SC2016 # the message has these quotes
    advises err 'checks; `twinlog repair` the log, or restore it from a copy if no record was removed since'
    repairs
    cp copy/state log
    is_well log
    fill another 10
    cp another/state log
    fails "the state file of another log" "$twinlog" append log
    advises err 'belongs to another log; restore the right one from a copy'
    cp copy/state log
    is_well log

    "$twinlog" trim log --before 20000 >out
    rm -rf trimmed
    cp -r log trimmed
    rm log/*.twl
    fails "a log without any segment" "$twinlog" append log
    advises err 'all segments are missing, with the records from' 'on; restore them from a copy'
    cp trimmed/*.twl log
    status "append then" 0 "$twinlog" append log </dev/null
    holds "what it had is there" log 20000 30000
}

test_nothing_sound()
{
    rm -rf log
    fill log 1000
    rm -rf whole
    cp -r log whole
    spoil_file "log/$(basename log/*.twl)"
    rm log/state
    fails "repair of a log without a sound segment" "$twinlog" repair log --output unmended
    advises err 'Restore the log from a copy, or repair what is on each side of the gap by itself.'
    rm -r log
    cp -r whole log
    holds "the copy is the log" log 1 1000
    status "and can be repaired" 0 "$twinlog" repair log --output mended
}

test_damaged_record()
{
    prepare
    spoil log 29000
    rm log/writer.lock
    fails "cat of damage" "$twinlog" cat log
    # shellcheck disable=SC2016 # the message has these quotes
    advises err 'run `twinlog verify` to see what else is'
    fails "verify" "$twinlog" verify log
    says "has it, with its LSN" out '^damage: .*LSN 29000'
    fails "append to damage" "$twinlog" append log
    advises err "'twinlog verify DIR' lists every finding, 'twinlog repair DIR --output NEW' saves what is sound."
    status "repair" 3 "$twinlog" repair log --output saved
    says "names the loss" out 'LSN 29000'
    seq 30000 | grep -vx 29000 >want
    "$twinlog" cat saved >out
    same "everything else is in it" want out
    status "and it is a log that can be written" 0 "$twinlog" append saved </dev/null

    # A writer that is alive keeps what would be lost at its end.
    start_writer living
    three_lines living
    seq 3000 | sed 's/^/long enough for a group of its own: /' >&3
    wait_until "[ \"\$('$twinlog' cat living | wc -l)\" = 3003 ]"
    "$twinlog" cat living >want
    mv living/state elsewhere
    fails "trim of a damaged log beside its writer" "$twinlog" trim living --after 2
    advises err 'and could not open it again once it has ended: do not stop it.'
    advises err "and save what is sound in the copy ('twinlog repair')."
    fails "repair of it" "$twinlog" repair living --output living.new
    advises err 'If it is damaged, that process cannot open it again: do not stop it.'
    advises err 'and repair the copy.'
    cp -r living living.copy
    status "repair of the copy" 3 "$twinlog" repair living.copy --output living.new
    "$twinlog" cat living.new >out
    same "has all that the writer has" want out
    stop_writer TERM
}

# ---- another process -----------------------------------------------------------------------------

test_another_writer()
{
    seq 10 >in
    start_writer busy
    three_lines busy
    status "a second writer" 7 "$twinlog" append busy <in
    advises err 'wait until it is closed there'
    advises err 'Or let it wait with --wait, or use --shared in both processes.'
    "$twinlog" append busy --wait 60s <in 2>wait.err &
    waiting=$!
    fails "a truncation beside a writer" "$twinlog" trim busy --after 2
    advises err 'Only the writer can remove records: stop it and try again.'
    advises err "It trims when 'twinlog trim' asks"
    status "a trim beside it" 0 "$twinlog" trim busy --before 2
    begins_at busy 2
    stop_writer TERM
    got=0
    wait $waiting || got=$?
    count "one that waits has it then" $got
    { echo "line 2" && echo "line 3" && cat in; } >want
    "$twinlog" cat busy >out
    same "and has appended" want out
    status "a truncation when it has ended" 0 "$twinlog" trim busy --after 2

    start_writer sharing --shared
    three_lines sharing
    status "a writer that does not share" 7 "$twinlog" append sharing <in
    advises err 'use --shared here, too, or wait until all of them have closed it.'
    status "one that does" 0 "$twinlog" append sharing --shared <in
    stop_writer TERM
    status "or one when the others have closed it" 0 "$twinlog" append sharing <in

    start_writer alone
    three_lines alone
    status "one that shares beside one that does not" 7 "$twinlog" append alone --shared <in
    advises err 'Or let that process use --shared, too.'
    stop_writer TERM
    start_writer alone --shared
    status "beside one that does" 0 "$twinlog" append alone --shared <in
    stop_writer TERM
}

begins_at()
{
    "$twinlog" stat "$1" >out
    says "the log begins at LSN $2" out "^first LSN +$2\$"
}

# A process that holds the lock of the file "state", as one that was stopped in the middle of a change.
test_stopped()
{
    if ! command -v python3 >/dev/null; then
        skip "a process that was stopped while it changes the log" "no python3"
        return
    fi
    fill stopped 10
    python3 -c 'import fcntl, os, struct, time
file = os.open("stopped/state", os.O_RDWR)
fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
open("locked", "w").close()
time.sleep(600)' &
    holder=$!
    wait_until '[ -e locked ]'
    fails "a change of what another process has locked" "$twinlog" meta stopped --set name --value text
    advises err 'try again when it goes on, or has ended.'
    kill $holder
    wait $holder 2>/dev/null
    status "the change when it has ended" 0 "$twinlog" meta stopped --set name --value text
}

# ---- limits --------------------------------------------------------------------------------------

test_limits()
{
    seq 100000 | "$twinlog" append limited
    got=0
    subject="append under a limit on the size of files"
    (ulimit -f 100 && exec "$twinlog" append limited) </dev/null >out 2>err || got=$?
    count "fails" $((got != 6))
    advises err 'raise the limit, as by ulimit -f'
    status "append with a higher one" 0 "$twinlog" append limited </dev/null
    got=0
    # shellcheck disable=SC3045 # every shell that is sh here has it
    (ulimit -n 6 && exec "$twinlog" append limited) </dev/null >out 2>err || got=$?
    count "append with few descriptors fails" $((got != 1))
    advises err 'Raise the limit on open files (ulimit -n).'
    status "append with more" 0 "$twinlog" append limited </dev/null
    got=0
    # shellcheck disable=SC3045
    (ulimit -v 20000 && exec "$twinlog" append limited) </dev/null >out 2>err || got=$?
    count "append with little memory fails" $((got != 1))
    advises err 'Memory is short: free some, or raise the limit (ulimit -v).'
    status "append with more" 0 "$twinlog" append limited </dev/null

    printf 'short\nmuch too long\n' >in
    status "a line that is too long" 1 "$twinlog" append lines --max-record 8 --segment 64K <in
    advises err 'raise --max-record (and --segment, if that was lowered).'
    tail -n 1 in >rest
    status "with a larger one" 0 "$twinlog" append lines --max-record 1M --segment 2M <rest
    "$twinlog" cat lines >out
    same "it is there" in out
}

# on_small SCRIPT: on a disk of 4 MiB, in that directory. The command is $1.
on_small() { in_namespace "mount -t tmpfs -o size=4m none small && cd small && $1" "$twinlog"; }

# shellcheck disable=SC2016 # the shell on the small disk expands it
test_small_disk()
{
    may_mount "a disk of 4 MiB" || return
    mkdir small
    seq 10 >in
    seq 1000000 >many
    yes | head -c 3500000 >large
    status "a mapped sink on a disk of 4 MiB" 6 on_small '"$1" sink file --mapped <../in'
    advises err 'or write without --mapped.'
    status "without --mapped" 0 on_small '"$1" sink file <../large && cmp file ../large'
    status "with room" 0 on_small '{ mount -o remount,size=64m . && "$1" sink file --mapped <../large && cmp file ../large; }'
    mkfifo silent
    sleep 600 >silent &
    source=$!
    status "from a pipe" 6 on_small '{ "$1" sink file --mapped --linger 0s <../silent 2>../told & pid=$!
        for i in $(seq 600); do grep -q "without --mapped" ../told && break; sleep 0.1; done
        kill $pid; wait $pid; }'
    kill $source
    wait $source 2>/dev/null
    advises told 'or write without --mapped.'

    for mode in --mapped --shared; do
        status "a log with $mode on a disk of 4 MiB" 6 on_small "\"\$1\" append log $mode <../in"
        advises err 'make room, or give it a smaller segment_bytes (--segment), or trim the log in the durable mode'
        shows='"$1" cat log | tail -n 10 | cmp - ../in'
        status "with a smaller segment" 0 on_small "\"\$1\" append log $mode --segment 1M <../in && $shows"
        status "with room" 0 on_small "mount -o remount,size=64m . && \"\$1\" append log $mode <../in && $shows"
        small="$mode --segment 512K --max-record 4K"
        status "when it was trimmed" 0 on_small "{ \"\$1\" append log <../many; \"\$1\" append log $small <../in; } 2>../told
            \"\$1\" trim log --keep-records 1000 && \"\$1\" append log $small <../in && $shows"
        says "which was necessary" told 'there is no space for the next segment'
    done
    status "a durable log on a disk of 4 MiB that is full" 6 on_small '"$1" append log <../many'
    advises err 'Make room (or raise the limit), then try again.'
    status "and gets room" 0 on_small "\"\$1\" append log <../many; mount -o remount,size=64m . && \"\$1\" append log <../in && $shows"
}

# ---- the wrong place -----------------------------------------------------------------------------

test_paths()
{
    seq 10 >in
    fails "a log that is not there" "$twinlog" cat nowhere
    advises err 'There is no log there. Check the path;'
    advises err "'twinlog append DIR' creates a log."
    status "append" 0 "$twinlog" append nowhere <in
    status "and then there is one" 0 "$twinlog" cat nowhere
    echo text >text
    fails "a file" "$twinlog" append text
    advises err 'A log is a directory: check the path.'
    advises err "For plain files there is 'twinlog sink FILE'."
    status "sink" 0 "$twinlog" sink text <in
    { echo text && cat in; } >want
    same "has appended to it" want text
    status "a directory" 0 "$twinlog" append nowhere <in
    fails "sink to a directory" "$twinlog" sink nowhere
    advises err 'Name the file in it, as DIR/NAME;'
    advises err "for a log there are 'twinlog append DIR' and 'twinlog cat DIR'."
    mkdir plain
    status "the file in it" 0 "$twinlog" sink plain/file <in
    same "has the bytes" in plain/file
    status "or append" 0 "$twinlog" append nowhere <in
    status "and cat" 0 "$twinlog" cat nowhere
    fails "sink below a file" "$twinlog" sink text/file
    advises err 'What is above it is a file, and no directory: check the path.'
    status "another path" 0 "$twinlog" sink plain/other <in
    fails "sink where there is no directory" "$twinlog" sink absent/file
    advises err 'The directory above it does not exist: create it first.'
    mkdir absent
    status "then" 0 "$twinlog" sink absent/file <in
    ln -s missing/target dangling
    fails "sink to a link into nothing" "$twinlog" sink dangling
    advises err 'create that, or remove the link.'
    mkdir missing
    status "with the directory" 0 "$twinlog" sink dangling <in
    same "has the bytes" in missing/target
    rm dangling
    status "without the link" 0 "$twinlog" sink dangling <in
    same "has the bytes" in dangling
    fails "sink --cat of what is not there" "$twinlog" sink --cat absent/fiel
    advises err 'There is no such file: check the path.'
    status "the right path" 0 "$twinlog" sink --cat absent/file

    fails "append where the parent is missing" "$twinlog" append parent/log
    advises err '; its parent must exist'
    mkdir parent
    status "with it" 0 "$twinlog" append parent/log <in
    fails "append to a directory of other files" "$twinlog" append plain
    advises err 'the directory holds other files and no log; choose an empty or a new one'
    mkdir empty
    status "to an empty one" 0 "$twinlog" append empty <in
    status "to a new one" 0 "$twinlog" append new <in
    fails "cat of a directory of other files" "$twinlog" cat plain
    advises err 'there is no log in this directory; check the path'
    status "cat of the log" 0 "$twinlog" cat new

    for command in backup repair; do
        fails "$command of what is not there" "$twinlog" "$command" neww --output "$command.new"
        advises err 'The log must exist, and so must the directory above the new one.'
        fails "$command to where no directory is" "$twinlog" "$command" new --output "$command.dir/new"
        advises err 'The log must exist, and so must the directory above the new one.'
        mkdir "$command.dir"
        status "of what is, to where one is" 0 "$twinlog" "$command" new --output "$command.dir/new"
        fails "$command to a log" "$twinlog" "$command" new --output "$command.dir/new"
        advises err 'The new directory must not exist, or be empty: name another one.'
        status "to another one" 0 "$twinlog" "$command" new --output "$command.dir/other"
    done
    for command in 'probe missing' 'bench missing --seconds 1'; do
        rm -rf missing
        # shellcheck disable=SC2086 # words
        fails "$command" "$twinlog" $command
        advises err 'The directory must exist: create it or check the path.'
        mkdir missing
        # shellcheck disable=SC2086
        status "$command" 0 "$twinlog" $command
    done
    fails "no argument" "$twinlog" cat
    advises err "Try '" " --help'."
    status "that" 0 "$twinlog" cat --help
    says "says what is missing" out '^Usage: twinlog cat DIR'
}

test_rights()
{
    if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
        skip "files of another user" "only root may make them"
        return
    fi
    cp "$twinlog" "$public/twinlog"
    chmod 755 "$public"
    fill "$public/log" 10
    chmod 700 "$public/log"
    fails "another user's log" as_nobody "$public/twinlog" append "$public/log"
    advises err 'Check the owner and the permissions of the directory and its files.'
    chown -R 65534:65534 "$public/log"
    status "of that user" 0 as_nobody "$public/twinlog" append "$public/log" </dev/null

    if command -v prlimit >/dev/null; then
        fails "no thread" as_nobody prlimit --nproc=1 "$public/twinlog" append "$public/log" --mapped --io fdatasync
        advises err 'The system has reached a limit, perhaps that of processes and threads (ulimit -u): try again.'
        status "again, without that limit" 0 as_nobody "$public/twinlog" append "$public/log" --mapped --io fdatasync </dev/null
    else
        skip "a limit on threads" "no prlimit"
    fi
    may_mount "a file system that takes no writes" || return
    mkdir disk
    # shellcheck disable=SC2016
    fails "a file system that takes no writes" in_namespace 'mount -t tmpfs none disk && seq 10 | "$1" append disk/log &&
        mount -o remount,ro disk && "$1" append disk/log' "$twinlog"
    advises err "'twinlog repair DIR --output NEW', on another disk, saves what can be read."
    # shellcheck disable=SC2016
    status "repair to another disk" 0 in_namespace 'mount -t tmpfs none disk && seq 10 | "$1" append disk/log &&
        mount -o remount,ro disk && "$1" repair disk/log --output saved.elsewhere' "$twinlog"
    holds "has all of it" saved.elsewhere 1 10
    fill sound 10
    for command in "backup sound --output disk/new" "repair sound --output disk/new" \
        "restore disk/new --command 'cp %f %p'"; do
        # shellcheck disable=SC2016
        fails "another log there" in_namespace "mount -t tmpfs none disk && mount -o remount,ro disk && \"\$1\" $command" \
            "$twinlog"
        advises err 'The new directory is on a file system that takes no writes: name one on another.'
    done
    status "on another one" 0 "$twinlog" repair sound --output new
}

test_errors()
{
    if ! strace -o strace.out true 2>/dev/null; then
        skip "calls of the system that fail" "no strace"
        return
    fi
    # shellcheck disable=SC2317 # fails() calls it
    inject() { strace -qq -f -o strace.out -e trace="$1" -e inject="$1:error=$2" "$twinlog" "$3" "$4" --io "$5"; }
    fill failing 10
    fails "a device that fails" inject fdatasync EIO append failing fdatasync
    advises err "The device failed: see the kernel's messages (dmesg), then try again."
    status "again" 0 "$twinlog" append failing --io fdatasync </dev/null
    holds "all is there" failing 1 10
    fails "a path that is refused" inject io_uring_setup ENOSYS append failing uring
    advises err "That path does not work here: 'twinlog probe DIR' shows which ones do."
    status "probe" 0 strace -qq -f -o strace.out -e trace=io_uring_setup -e inject=io_uring_setup:error=ENOSYS "$twinlog" probe .
    path=$(sed -nE 's/^[* ] ([a-z]+) .* [0-9.]+ us$/\1/p' out | head -n 1)
    status "one that works, $path" 0 inject io_uring_setup ENOSYS append failing "$path" </dev/null
    for command in 'probe .' 'bench . --seconds 1'; do
        # shellcheck disable=SC2086 # words
        fails "what $command cannot remove" strace -qq -f -o strace.out -e trace=rmdir -e inject=rmdir:error=EBUSY "$twinlog" $command
        says "names it" err "cannot remove '\\./\\.twinlog-"
        advises err 'Remove it by hand.'
        rm -r .twinlog-*
        # shellcheck disable=SC2086
        status "again" 0 "$twinlog" $command
    done
    status "a record that is too large to be measured" 1 "$twinlog" bench . --size 5M --max-record 1M --seconds 1
    advises err 'Raise --max-record, or lower --size.'
    status "with a larger limit" 0 "$twinlog" bench . --size 5M --max-record 6M --segment 64M --seconds 1
    status "or a smaller one" 0 "$twinlog" bench . --size 1000 --max-record 1M --seconds 1
}

# ---- cursors, values, and what is not there any more ---------------------------------------------

test_names()
{
    fill named 10
    "$twinlog" cursors named --set one=3
    fails "a cursor that there is not" "$twinlog" cursors named --remove two
    advises err "There is no such cursor: 'twinlog cursors DIR' lists them."
    status "that list" 0 "$twinlog" cursors named
    says "has the one" out '^one +3'
    fails "a cursor behind the end" "$twinlog" cursors named --set far=99
    advises err "'twinlog stat DIR' shows the last LSN."
    status "stat" 0 "$twinlog" stat named
    status "a cursor there" 0 "$twinlog" cursors named --set "far=$(sed -n 's/^last LSN *//p' out)"
    for command in "cursors named --set" "cursors named --remove" "cat named --cursor" "meta named --get" \
        "ship named nats://localhost/a --cursor"; do
        # shellcheck disable=SC2086 # the words of a command
        status "$command, a name that the library keeps for itself" 2 "$twinlog" $command "$(printf '\001=3')"
        says "why" err 'a name begins with no control character'
    done
    status "another one" 0 "$twinlog" cursors named --set a=3

    "$twinlog" trim named --before 6 --past-cursors >out
    fails "a cursor in front of the head" "$twinlog" cursors named --set early=2
    advises err "'twinlog stat DIR' shows the first LSN that is left; the least place of a cursor is one less."
    status "stat" 0 "$twinlog" stat named
    status "one less" 0 "$twinlog" cursors named --set "early=$(($(sed -n 's/^first LSN *//p' out) - 1))"
    fails "an end in front of the head" "$twinlog" trim named --after 3
    advises err 'is the least;' "'twinlog reset' begins it anew at any LSN."
    fails "reset of a log with records" "$twinlog" reset named --next 4
    advises err 'Use --force to remove them for good.'
    status "with that" 0 "$twinlog" reset named --next 4 --force
    fails "an end of a log without records" "$twinlog" trim named --after 2
    advises err "The log is empty; 'twinlog reset' begins it anew at any LSN."
    status "reset" 0 "$twinlog" reset named --next 3
    echo three | "$twinlog" append named --print-lsn >out
    says "which it does" out '^3$'

    fails "a value that there is not" "$twinlog" meta named --get two
    advises err "There is no such value: 'twinlog meta DIR' lists them."
    "$twinlog" meta named --set one --value 1
    status "that list" 0 "$twinlog" meta named
    says "has the one" out '^one '
    fails "a limit that is no number" "$twinlog" meta named --set twinlog.keep_bytes --value much
    advises err "'twinlog trim DIR --keep-bytes 10G --always' sets one."
    status "that" 0 "$twinlog" trim named --keep-bytes 10G --always
    status "get" 0 "$twinlog" meta named --get twinlog.keep_bytes
    says "is the limit" out '^10737418240$'
    head -c 5000 /dev/zero | tr '\0' x >large
    status "a value that is too large" 1 "$twinlog" meta named --set picture <large
    advises err "keep it in a file, and the file's name here."
    status "the file's name" 0 "$twinlog" meta named --set picture --value "$PWD/large"
    "$twinlog" meta named --get picture | xargs cat >out
    same "leads to it" large out
    status "a value in one word" 2 "$twinlog" meta named --set colour=red </dev/null
    advises err 'say --set NAME --value TEXT'
    status "in two" 0 "$twinlog" meta named --set colour --value red

    seq 100000 | "$twinlog" append held
    "$twinlog" cursors held --set slow=10
    status "a trim that a cursor holds" 0 "$twinlog" trim held --before 90000
    advises out "holds the rest," "move it ('twinlog cursors'), or use --past-cursors."
    "$twinlog" cursors held --set slow=50000
    status "when it was moved" 0 "$twinlog" trim held --before 90000
    begins_at held 50001
    status "past it" 0 "$twinlog" trim held --before 90000 --past-cursors
    begins_at held 90000
}

# outruns TRIM: a consumer with an output that nobody reads, while the log "consumed" loses what it has read. Its errors are in err.
outruns()
{
    rm -rf consumed
    seq 100000 | "$twinlog" append consumed
    mkfifo slow
    "$twinlog" cat consumed --cursor reader --follow >slow 2>err &
    reader=$!
    exec 5<slow
    rm slow
    # shellcheck disable=SC2016 # wait_until evaluates it
    wait_until '"$twinlog" cursors consumed | grep -q "^reader *[1-9]"' # it has handed over what it read first
    "$twinlog" trim consumed "$@" >out
    cat <&5 >shown &
    exec 5<&-
    got=0
    wait $reader || got=$?
    count "a consumer beside trim $* ends" $((got != 1))
}

test_consumers()
{
    outruns --before 90000 --past-cursors
    advises err "'twinlog stat DIR' shows the first LSN that is still there."
    begins_at consumed 90000
    status "from there on" 0 "$twinlog" cat consumed --cursor reader
    seq 90000 100000 >want
    same "the consumer goes on" want out
    outruns --after 10
    advises err "Records that had been read were removed from the end of the log. 'twinlog stat DIR' shows the last LSN."
    status "stat" 0 "$twinlog" stat consumed
    says "it is what was left" out '^last LSN +10$'
    echo more | "$twinlog" append consumed
    status "from there on" 0 "$twinlog" cat consumed --cursor reader
    echo more >want
    same "the consumer goes on" want out
}

test_remade()
{
    fill remade 10
    "$twinlog" cat remade --follow >out 2>gone.err &
    reader=$!
    wait_until grep -q 10 out
    rm -r remade
    seq 3 | "$twinlog" append remade
    got=0
    wait $reader || got=$?
    count "a reader of a log that was removed ends" $((got != 1))
    advises gone.err 'What was made in its place is another log: open it by its name.'
    holds "that name is the other one" remade 1 3
    start_writer removed
    three_lines removed
    rm -r removed
    stop_writer TERM
    advises removed.err 'What was made in its place is another log: open it by its name.'
    ! grep -q durable removed.err
    count "a writer does not call durable what was removed with the directory" $?

    # The page by which a writer tells what it does is of another version.
    start_writer untold
    three_lines untold
    printf 9 | dd of=untold/writer.lock bs=1 seek=7 conv=notrunc status=none
    fails "a writer that tells nothing" timeout 60 "$twinlog" top untold
    advises err "'twinlog stat DIR' shows what the files say."
    status "that" 0 "$twinlog" stat untold
    says "does" out '^first LSN +1$'
    stop_writer TERM
}

# ---- records that come from another log ----------------------------------------------------------

# advised PATTERN: the number that the message has there, as sed's \1.
advised() { sed -nE "s/.*$1.*/\\1/p" err | head -n 1; }

# import LOG FIRST INTO: from an export that begins with that LSN.
import() { "$twinlog" cat "$1" --from "$2" --export | "$twinlog" append "$3" --import -q; }

# alike NAME LOG LOG
alike()
{
    "$twinlog" cat "$2" --json >want
    "$twinlog" cat "$3" --json >out
    same "$1" want out
}

test_imports()
{
    seq 10 | "$twinlog" append journal
    "$twinlog" backup journal --output standby >out
    seq 11 20 | "$twinlog" append journal
    fails "an export that begins too late" import journal 15 standby
    advises err 'which ends with LSN' "Export from there: 'twinlog cat DIR --from "
    status "from there" 0 import journal "$(advised '--from ([0-9]+) --export')" standby
    alike "the standby has it" journal standby
    "$twinlog" trim journal --after 8 >out
    seq 109 130 | "$twinlog" append journal
    fails "an export of another history" import journal 15 standby
    advises err 'Export from a smaller LSN, as '
    tries=0
    while [ "$tries" -lt 10 ] && ! grep -q -e --rewind err; do
        fails "from there" import journal "$(advised 'smaller LSN, as ([0-9]+),')" standby
        tries=$((tries + 1))
    done
    says "finds the first difference" err 'the same up to LSN 8, and differ from LSN 9 on'
    advises err 'With --rewind the log loses' "'twinlog cat DIR --from "
    "$twinlog" cat standby --from "$(advised "'twinlog cat DIR --from ([0-9]+) --export' saves")" --export >kept.export
    "$twinlog" cat journal --from 8 --export >carried
    status "with --rewind" 0 "$twinlog" append standby --import --rewind -q <carried
    alike "the standby has the new history" journal standby
    "$twinlog" append loss --import <kept.export
    holds "the old one was saved" loss 9 20

    history_of 1 one | "$twinlog" append origin --import -q
    cp -r origin follower
    history_of 40 one >untold
    status "an export that tells no history" 1 "$twinlog" append follower --import -q <untold
    advises err "Export from the log's first record on: 'twinlog cat DIR --from "
    status "from there" 0 import origin "$(advised '--from ([0-9]+) --export')" follower
    status "an export that tells no history" 1 "$twinlog" append follower --import -q <untold
    advises err 'say so with --same-history.'
    status "with that" 0 "$twinlog" append follower --import --same-history -q <untold

    printf 'twinlog export 1\n9223372036854775808 0 0 0 1\na\nend\n' >exported
    status "too large an LSN" 1 "$twinlog" append largest --import <exported
    advises err '): give new LSNs with --renumber.'
    status "with that" 0 "$twinlog" append largest --import --renumber <exported
    echo 'no export' >exported
    status "no export" 1 "$twinlog" append strange --import <exported
    advises err "standard input is no export of 'twinlog cat --export'"
    "$twinlog" cat origin --export >exported
    status "one of that" 0 "$twinlog" append strange --import <exported

    prepare
    spoil log 12345
    "$twinlog" repair log --output gappy >out
    "$twinlog" cat gappy --export >exported
    status "an export with a gap" 1 "$twinlog" append gapless --import <exported
    advises err "'twinlog backup' copies a log with its gaps."
    status "that" 0 "$twinlog" backup gappy --output gappy.copy
    alike "has its LSNs" gappy gappy.copy
    status "an export with a gap" 1 "$twinlog" append gapless2 --import <exported
    advises err 'Or give new LSNs with --renumber, in a new log.'
    status "with that" 0 "$twinlog" append renumbered --import --renumber <exported
    "$twinlog" cat gappy >want
    "$twinlog" cat renumbered >out
    same "all records are there" want out
}

# A sync fails in the middle of the input.
test_rest()
{
    if ! strace -o strace.out true 2>/dev/null; then
        skip "a sync that fails in the middle of the input" "no strace"
        return
    fi
    mkfifo lines
    strace -qq -f -o strace.out -e trace=fdatasync -e inject=fdatasync:error=EIO:when=8+ \
        "$twinlog" append rest --io fdatasync --print-lsn <lines >lsns 2>err &
    tracer=$!
    exec 5>lines
    for line in $(seq 20); do
        echo "$line" >&5 2>/dev/null || break
        wait_until "grep -qx $line lsns || [ -s err ]" || break
        [ ! -s err ] || break
    done
    exec 5>&-
    got=0
    wait $tracer || got=$?
    count "a sync that fails ends append" $((got == 0))
    advises err "What else was read may be there or not: 'twinlog stat DIR' shows the last LSN."
    advises err 'Append the rest then.'
    status "stat" 0 "$twinlog" stat rest
    seq $(($(sed -n 's/^last LSN *//p' out) + 1)) 20 | "$twinlog" append rest
    holds "each line is there once" rest 1 20
}

# ---- sinks ---------------------------------------------------------------------------------------

# start_sink FILE [OPTION...]: writes what comes through descriptor 3, of which one line is in it when this returns.
start_sink()
{
    rm -f feed
    mkfifo feed
    "$twinlog" sink "$@" <feed 2>sink.err &
    sink=$!
    exec 3>feed
    echo begun >&3
    wait_until grep -aqs begun "$1"
}

end_sink()
{
    exec 3>&-
    wait "$sink"
}

test_sinks()
{
    echo line >in
    start_sink mapped --mapped
    fails "a second mapped sink" "$twinlog" sink mapped --mapped
    advises err 'use --shared in all of them, or wait until that process has ended.'
    fails "a sink of the other kind" "$twinlog" sink mapped --shared
    advises err 'use --mapped in all of them, or in none.'
    "$twinlog" sink mapped --mapped <in >out 2>err
    end_sink
    status "when it has ended" 0 "$twinlog" sink mapped --mapped <in
    status "and the other kind, when all are so" 0 "$twinlog" sink mapped --shared <in
    start_sink mapped --mapped --shared
    status "beside one that shares" 0 "$twinlog" sink mapped --mapped --shared <in
    end_sink
    start_sink exact --shared
    fails "a mapped sink beside one that is not" "$twinlog" sink exact --mapped --shared
    advises err 'use --mapped in all of them, or in none.'
    status "one that is not" 0 "$twinlog" sink exact --shared <in
    end_sink

    printf 'one\n\0\0' >zeros
    fails "zeros at the end" "$twinlog" sink zeros --mapped
    advises err 'use --drop-zeros after a crash of the system, or a kill in a container'
    cp zeros data
    status "with that" 0 "$twinlog" sink zeros --mapped --drop-zeros <in
    printf 'one\nline\n' >want
    same "they are gone" want zeros
    fails "zeros that are data" "$twinlog" sink data --mapped
    advises err 'if they are data, append a newline with another program.'
    echo >>data
    status "with that" 0 "$twinlog" sink data --mapped <in
    printf 'one\n\0\0\nline\n' >want
    same "they are there" want data

    start_sink versions --mapped
    beside=.twinlog.$(stat -c %i versions).sink
    printf '\377' | dd of="$beside" bs=1 seek=8 conv=notrunc status=none
    fails "a sink beside another version" "$twinlog" sink versions --mapped --shared
    advises err 'Processes of another version of twinlog have it open: end them first.'
    end_sink
    status "when it has ended" 0 "$twinlog" sink versions --mapped <in
    printf 'begun\nline\n' >want
    same "it goes on" want versions

    start_sink shorter --mapped
    : >shorter
    echo lost >&3
    end_sink
    advises sink.err "The device failed: see the kernel's messages (dmesg). Or FILE is mapped and another program has made"
    start_sink shorter
    : >shorter
    echo kept >&3
    end_sink
    echo kept >want
    same "without --mapped it goes on" want shorter
}

test_sink_names()
{
    echo line >in
    echo file >newest
    status "a file in the place of the link" 0 "$twinlog" sink 'dated-%Y' --date --link newest <in
    advises err 'It is a file, and no link: move it away.'
    mv newest away
    status "then" 0 "$twinlog" sink 'dated-%Y' --date --link newest <in
    printf 'line\nline\n' >want
    same "the link leads to it" want newest
    long=$(printf '%0255d' 0)
    fails "--rotate of a name without room for a number" "$twinlog" sink "$long" --rotate 1M
    advises err 'and it has no room for that: use a shorter one.'
    short=$(printf '%0253d' 0)
    status "with a shorter one" 0 "$twinlog" sink "$short" --rotate 1M <in
    same "the line is there" in "$short"
    status "--keep with --date" 2 "$twinlog" sink 'dated-%Y' --date --keep 3 <in
    advises err "find DIRECTORY -name 'access-*.log' -mtime +30 -delete"
    mkdir DIRECTORY
    touch DIRECTORY/access-new.log
    touch -d '40 days ago' DIRECTORY/access-old.log
    eval "$(sed -n 's/.*find(1): //p' err)"
    count "which removes the old ones" "$([ ! -e DIRECTORY/access-old.log ] && [ -e DIRECTORY/access-new.log ]; echo $?)"
    status "--rotate with --shared --mapped" 2 "$twinlog" sink both --shared --mapped --rotate 1M <in
    advises err '--shared --mapped excludes --rotate: rename the file, as logrotate does'
    start_sink both --shared --mapped
    mv both both.1
    kill -HUP $sink
    wait_until '[ -e both ]'
    echo next >&3
    end_sink
    echo begun >want
    same "the old file has what was in it" want both.1
    echo next >want
    same "and the new one what follows" want both
}

test_sink_rights()
{
    if [ "$(id -u)" != 0 ]; then
        skip "a file of another user beside that of a sink" "only root may make it"
        return
    fi
    echo line >in
    : >guarded
    beside=.twinlog.$(stat -c %i guarded).sink
    : >"$beside"
    chown 65534 "$beside"
    fails "a file of another user" "$twinlog" sink guarded --mapped
    advises err 'or has a second name: look at it, and remove it.'
    rm "$beside"
    status "without it" 0 "$twinlog" sink guarded --mapped <in
    same "the line is there" in guarded
    if ! command -v setpriv >/dev/null; then
        skip "a file of another user" "there is no setpriv"
        return
    fi

    cp "$twinlog" "$public/twinlog"
    mkdir "$public/sinks"
    chmod 755 "$public" "$public/twinlog"
    chmod 777 "$public/sinks"
    : >"$public/sinks/theirs"
    chown 65534 "$public/sinks/theirs"
    fails "--mapped with another user's file" "$twinlog" sink "$public/sinks/theirs" --mapped
    advises err "It is another user's: run this as that user."
    status "as that user" 0 as_nobody "$public/twinlog" sink "$public/sinks/theirs" --mapped <in

    mkfifo "$public/sinks/pipe"
    (cd "$public/sinks" && exec setpriv --reuid=65534 --regid=65534 --clear-groups ../twinlog sink theirs --mapped <pipe) &
    killed=$!
    exec 4>"$public/sinks/pipe"
    cat in >&4
    # shellcheck disable=SC2016 # wait_until evaluates it
    wait_until '[ "$(grep -ac line "$public/sinks/theirs")" = 2 ]'
    kill -KILL "$killed"
    wait "$killed" 2>/dev/null
    exec 4>&-
    fails "what another user's killed sink has left" "$twinlog" sink "$public/sinks/theirs"
    advises err "'twinlog sink --finish FILE', as that user or root, settles it."
    status "sink --finish" 0 "$twinlog" sink --finish "$public/sinks/theirs"
    status "again" 0 "$twinlog" sink "$public/sinks/theirs" <in
    cat in in in >want
    same "all lines are there" want "$public/sinks/theirs"

    fails "--owner without the right" as_nobody "$public/twinlog" sink "$public/sinks/new" --owner root
    advises err 'gives a file to another user: leave out --owner.'
    status "without it" 0 as_nobody "$public/twinlog" sink "$public/sinks/new" <in
    same "the line is there" in "$public/sinks/new"
}

# Each in a directory of its own: they have the same names for their files.
for steps in test_segments test_foreign test_state test_nothing_sound test_damaged_record \
    test_another_writer test_stopped test_limits test_small_disk test_paths \
    test_rights test_errors test_names test_consumers test_remade \
    test_sinks test_sink_names test_sink_rights test_imports test_rest; do
    mkdir "$place/$steps"
    cd "$place/$steps" || exit 1
    $steps
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
