#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# checks.sh TWINLOG: what the tests of the command have in common; they read it with '.'. Goes to a fresh
# directory beside the caller's. What cannot be tried on this machine is skipped by name.
set -u
# shellcheck disable=SC2034 # the tests run it
twinlog=$(realpath "$1") || exit 1
place=$(mktemp -d "$PWD/cli.XXXXXX") || exit 1
public=$(mktemp -d) || exit 1 # where another user may look
trap 'rm -rf "$place" "$public"' EXIT
cd "$place" || exit 1

passed=0
failed=0
# For a program that strace runs: the address sanitizer cannot look for leaks in a process that is traced.
# shellcheck disable=SC2034 # the tests say it
no_leaks=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
subject= # the last command that was run; what follows is about it

# count NAME STATUS: one result; 0 is a pass.
count()
{
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $1${subject:+ (after: $subject)}"
    fi
}

skip() { echo "skipped: $1: $2"; }

# status NAME WANTED COMMAND...: runs it with its output in the files out and err.
status()
{
    name=$1
    wanted=$2
    shift 2
    subject=$*
    got=0
    "$@" >out 2>err || got=$?
    count "$name" $((got != wanted))
    if [ "$got" != "$wanted" ]; then
        echo "  status $got instead of $wanted"
        sed 's/^/  /' err
    fi
}

# says NAME FILE PATTERN: the file has a line that matches.
says()
{
    got=0
    grep -qE -e "$3" "$2" || got=1
    count "$1" "$got"
    if [ "$got" = 1 ]; then
        echo "  $2 does not say '$3' but:"
        head -n 5 "$2" | sed 's/^/  /'
    fi
}

# advises FILE 'WORDS'...: a line of the file has all these words, by which a message says what to do. What follows does
# that (test/advice.py).
advises()
{
    cp "$1" advice
    shift
    for words in "$@"; do
        grep -F -e "$words" advice >advice.left
        mv advice.left advice
    done
    got=$(($(wc -l <advice) == 0))
    count "the advice '$words'" "$got"
    if [ "$got" = 1 ]; then
        echo "  it was not given, but:"
        head -n 5 err | sed 's/^/  /'
    fi
}

# same NAME FILE FILE
same()
{
    got=0
    cmp "$2" "$3" || got=1
    count "$1" "$got"
}

# wait_until COMMAND: tries for a minute.
wait_until()
{
    tries=0
    until eval "$*"; do
        tries=$((tries + 1))
        [ "$tries" -gt 1200 ] && return 1
        sleep 0.05
    done
}

# ends_by_signal NAME PROCESS: SIGTERM ends it with status 0.
ends_by_signal()
{
    got=0
    kill -TERM "$2"
    wait "$2" || got=$?
    count "$1: status $got" "$got"
}

# as_nobody COMMAND...: by a user that permissions count for.
as_nobody()
{
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    else
        "$@"
    fi
}

# fill LOG LINES [OPTION...]: a log of the numbers from 1 to that, closed.
fill()
{
    log=$1
    lines=$2
    shift 2
    seq "$lines" | "$twinlog" append "$log" "$@" || count "fill $log" 1
}

# holds NAME LOG FIRST LAST: the log's records are the numbers FIRST to LAST.
holds()
{
    "$twinlog" cat "$2" >out 2>err || cat err
    seq "$3" "$4" >want
    same "$1" want out
}

# spoil LOG TEXT: a wrong byte in the first place of that text. file is where.
spoil()
{
    file=$(grep -lF "$2" "$1"/*.twl)
    offset=$(grep -abo "$2" "$file" | cut -d : -f 1)
    printf X | dd of="$file" bs=1 seek="$offset" conv=notrunc 2>dd.err || cat dd.err
}

# segment_files LOG: how many there are.
segment_files() { find "$1" -name '*.twl' | wc -l; }

# start_writer LOG: appends what is written to 3, and does not wait for its end after a signal; the LSNs are read from 4, the
# errors are in LOG.err.
start_writer()
{
    rm -f feed lsns.fifo
    mkfifo feed lsns.fifo
    "$twinlog" append "$@" --linger 0s --print-lsn <feed >lsns.fifo 2>"$1.err" &
    writer=$!
    # should an LSN never come, reading it ends with the writer
    (timeout 500 tail --pid="$writer" -f /dev/null || kill -9 "$writer") >/dev/null 2>&1 &
    exec 3>feed 4<lsns.fifo
}

# three_lines LOG: the writer gets them one by one; each has its LSN, and is read, before the next one comes.
three_lines()
{
    for line in 1 2 3; do
        echo "line $line" >&3
        lsn=none
        read -r lsn <&4
        count "the LSN of line $line is there before the next line" $((lsn != line))
        status "another process reads it" 0 "$twinlog" cat "$1" --from "$line"
        says "at once" out "^line $line\$"
    done
}

# stop_writer SIGNAL: got is its status.
stop_writer()
{
    kill "-$1" "$writer"
    got=0
    wait "$writer" 2>/dev/null || got=$?
    exec 3>&- 4<&-
}

# poison LOG: its page says that a write of its live writer has failed, with EIO (docs/format.md).
poison() { printf '\373\377\377\377' | dd of="$1/writer.lock" bs=1 seek=60 conv=notrunc status=none; }

# plain: an export without what it says of its history, which is each log's own.
plain() { grep -avE '^(history [0-9a-f]{32}|origin [0-9a-f]{32}|salt [0-9a-f]{8}) ?[0-9a-f ]*$'; }

# history_of FIRST WORD: an export of the records from there to 60. In each history records 40 and 60 are the same ones,
# their times included.
history_of()
{
    echo "twinlog export 1"
    seq "$1" 60 | awk -v word="$2" '{ text = $1 == 60 || $1 == 40 ? "same" : word
        printf "%d %d 0 0 %d\n%s\n", $1, 1000 + $1, length(text), text } END { print "end" }'
}
