#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cli.sh TWINLOG: runs the command as its users do, in a fresh directory beside the caller's, and
# prints what did not come out as promised. What cannot be tried here is skipped by name.
set -u
twinlog=$(realpath "$1") || exit 1
place=$(mktemp -d "$PWD/cli.XXXXXX") || exit 1
public=$(mktemp -d) || exit 1 # where another user may look
trap 'rm -rf "$place" "$public"' EXIT
cd "$place" || exit 1

passed=0
failed=0
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

# same NAME FILE FILE
same()
{
    got=0
    cmp "$2" "$3" || got=1
    count "$1" "$got"
}

# fill LOG LINES: a log of that many lines, closed.
fill() { seq "$2" | "$twinlog" append "$1" || echo "FAILED: filling $1"; }

# ---- round trips -------------------------------------------------------------------------------

test_lines()
{
    printf 'one\n\nthree, \303\244\nfour without a newline' >in
    status "append creates a log" 0 "$twinlog" append lines <in
    status "cat reads it" 0 "$twinlog" cat lines
    printf '\n' >>in
    same "lines come back, the empty one and the unterminated one too" in out

    seq 1000 >in
    status "append to a log that is there" 0 "$twinlog" append lines --print-lsn <in
    seq 5 1004 >lsns
    same "--print-lsn goes on where the log ended" lsns out
    status "append nothing" 0 "$twinlog" append lines --print-lsn </dev/null
    same "and no LSN is printed" /dev/null out

    status "append nothing to a new log" 0 "$twinlog" append empty </dev/null
    status "an empty log is readable" 0 "$twinlog" cat empty
    same "and empty" /dev/null out
    status "stat of an empty log" 0 "$twinlog" stat empty
    says "has no LSN" out '^last LSN +0$'
    status "verify of an empty log" 0 "$twinlog" verify empty
}

test_null()
{
    printf 'a\nb\0\0last' >in
    status "append --null" 0 "$twinlog" append null --null <in
    printf '\0' >>in
    status "cat --null" 0 "$twinlog" cat null --null
    same "NUL-separated records come back" in out
    status "cat --from of the third" 0 "$twinlog" cat null --from 3
    says "is the third" out '^last$'
}

test_framed()
{
    # empty, binary, text, empty
    printf '\0\0\0\0\005\0\0\0\0\377\n\200\001\003\0\0\0abc\0\0\0\0' >in
    status "append --framed" 0 "$twinlog" append framed --framed --print-lsn <in
    seq 4 >lsns
    same "four frames are four records" lsns out
    status "cat --framed" 0 "$twinlog" cat framed --framed
    same "frames come back byte for byte" in out

    printf '\001\0\0\0a\003\0\0\0ab' >in
    status "a frame that is cut off is an error" 1 "$twinlog" append framed --framed <in
    says "with its place" err 'record 2.* byte 5'
    status "the frame before it is kept" 0 "$twinlog" cat framed --from 5
    says "whole" out '^a$'
    printf '\001\0' >in
    status "a length that is cut off is an error" 1 "$twinlog" append framed --framed <in
    status "and appends nothing" 0 "$twinlog" cat framed --from 6
    same "at all" /dev/null out
}

test_large()
{
    head -c 3000000 /dev/urandom | base64 -w 0 >in # just under 4 MiB
    printf '\nsmall\n' >>in
    status "a record of nearly 4 MiB" 0 "$twinlog" append large <in
    status "is read" 0 "$twinlog" cat large
    same "byte for byte" in out
    head -c 12000000 /dev/urandom >body
    { printf '\000\033\267\000' && cat body; } >in
    status "a record of 12 MB under --max-record 16M" 0 "$twinlog" append large --framed --max-record 16M <in
    status "is read" 0 "$twinlog" cat large --framed --from 3
    same "byte for byte, larger than a default record" in out
}

test_ranges()
{
    fill ranges 100
    status "cat --from --to" 0 "$twinlog" cat ranges --from 10 --to 20
    seq 10 20 >want
    same "prints that range" want out
    status "cat --from" 0 "$twinlog" cat ranges --from 99
    seq 99 100 >want
    same "prints to the end" want out
    status "cat --to" 0 "$twinlog" cat ranges --to 2
    seq 2 >want
    same "prints from the beginning" want out
    status "cat --from beyond the end" 0 "$twinlog" cat ranges --from 101
    same "prints nothing" /dev/null out
}

# append_with OPTION...: one more line in the log "options".
append_with()
{
    echo "$*" >in
    cat in >>want
    status "append $*" 0 "$twinlog" append options "$@" <in
}

test_options()
{
    : >want
    append_with --io auto
    append_with --io dsync
    append_with --io fdatasync
    append_with --buffered
    append_with --pad
    append_with --segment 64K
    append_with --max-record 1K
    status "probe" 0 "$twinlog" probe . --json
    for path in uring uring-linked; do
        if grep -qE "\"path\":\"$path\",\"is_direct\":[a-z]+,\"works\":true" out; then
            append_with --io "$path"
            status "probe" 0 "$twinlog" probe . --json
        else
            skip "append --io $path" "this kernel or file system refuses it"
        fi
    done
    status "cat after all of them" 0 "$twinlog" cat options
    same "every line is there" want out
}

# ---- JSON --------------------------------------------------------------------------------------

# Each line of standard input is one JSON object.
check_json='
import json, sys
for line in sys.stdin:
    assert type(json.loads(line)) is dict, line
'

is_json()
{
    got=0
    python3 -c "$check_json" <"$2" || got=1
    count "$1" "$got"
}

test_json()
{
    printf 'plain\nq"uo\\te\ttab\001\033\n\303\244\342\202\254\360\237\231\202\n\377\376\n\300\200\n\n' >in
    status "append text of all kinds" 0 "$twinlog" append json <in
    status "cat --json" 0 "$twinlog" cat json --json
    says "has LSN, time, size and data" out \
        '^\{"lsn":1,"time":"20[0-9-]{8}T[0-9:]{8}\.[0-9]{9}Z","size":5,"data":"plain"\}$'
    says "escapes" out '"data":"q\\"uo\\\\te\\ttab\\u0001\\u001b"'
    says "what is not UTF-8 is base64" out '"size":2,"data_base64":"//4="'
    says "overlong forms are not UTF-8" out '"size":2,"data_base64":"wIA="'
    says "an empty record has empty data" out '"size":0,"data":""'
    if ! command -v python3 >/dev/null; then
        skip "JSON by another reader" "there is no python3"
        return
    fi
    is_json "cat --json is JSON" out
    for command in stat verify probe; do
        status "$command --json" 0 "$twinlog" "$command" json --json
        is_json "$command --json is JSON" out
    done
    status "bench --json" 0 "$twinlog" bench . --json --threads 2 --seconds 1
    is_json "bench --json is JSON" out
}

# ---- the other commands ------------------------------------------------------------------------

test_stat_and_verify()
{
    fill looked 1000
    status "stat" 0 "$twinlog" stat looked
    says "stat: first" out '^first LSN +1$'
    says "stat: last" out '^last LSN +1000$'
    says "stat: durable" out '^durable LSN +1000$'
    says "stat: how it was left" out '^left +closed by its last writer$'
    status "verify" 0 "$twinlog" verify looked
    says "verify counts the records" out '^sound: 1000 sound records, 0 findings$'
}

test_bench_and_probe()
{
    mkdir measured
    status "bench" 0 "$twinlog" bench measured --threads 4 --size 1K --seconds 1
    for row in 'work +4 threads, records of 1024 bytes' 'appends/s +[1-9]' 'MB/s +[0-9]' \
        'appends per sync +[1-9]' 'latency +p50 .*p99 .*p99.9 .*max' 'path +[a-z]' 'floor without log +[1-9]'; do
        says "bench prints a row" out "^$row"
    done
    status "bench of records that are too large" 1 "$twinlog" bench measured --size 5M --seconds 1
    says "says what to do" err 'Raise --max-record'
    status "probe" 0 "$twinlog" probe measured
    says "probe marks what a log would take" out '^\* (uring|uring-linked|dsync|fdatasync) .* us$'

    "$twinlog" bench measured --seconds 60 >out 2>err &
    pid=$!
    wait_until test -n "\$(ls -A measured)"
    kill -TERM "$pid"
    got=0
    wait "$pid" 2>/dev/null || got=$?
    count "bench ends by the signal that it gets" $((got != 143))
    count "bench and probe leave nothing behind" "$(find measured -mindepth 1 | wc -l)"
}

# ---- appending while somebody looks ------------------------------------------------------------

# wait_until COMMAND: tries for ten seconds.
wait_until()
{
    tries=0
    until eval "$*"; do
        tries=$((tries + 1))
        [ "$tries" -gt 200 ] && return 1
        sleep 0.05
    done
}

# start_writer LOG: appends what is written to 3; the LSNs are read from 4, the errors are in LOG.err.
start_writer()
{
    rm -f feed lsns.fifo
    mkfifo feed lsns.fifo
    "$twinlog" append "$1" --print-lsn <feed >lsns.fifo 2>"$1.err" &
    writer=$!
    # should an LSN never come, reading it ends with the writer
    (timeout 60 tail --pid="$writer" -f /dev/null || kill -9 "$writer") >/dev/null 2>&1 &
    exec 3>feed 4<lsns.fifo
}

# stop_writer SIGNAL: got is its status.
stop_writer()
{
    kill "-$1" "$writer"
    got=0
    wait "$writer" 2>/dev/null || got=$?
    exec 3>&- 4<&-
}

test_slow_pipe()
{
    start_writer slow
    for line in 1 2 3; do
        echo "line $line" >&3
        lsn=none
        read -r lsn <&4
        count "line $line through a pipe is durable before the next one comes" $((lsn != line))
        status "another process reads it" 0 "$twinlog" cat slow --from "$line"
        says "at once" out "^line $line\$"
    done
    status "stat beside the writer" 0 "$twinlog" stat slow
    says "sees it" out '^left +a process is writing it$'
    says "and what is durable" out '^durable LSN +3$'
    status "verify beside the writer" 0 "$twinlog" verify slow
    status "a second writer" 1 "$twinlog" append slow </dev/null
    says "is told why" err 'busy|another'

    printf 'accepted\ncut off' >&3
    read -r lsn <&4
    stop_writer TERM
    count "append ends by the signal that it gets" $((got != 143))
    says "and says what is durable" slow.err 'LSN 1 to 4 of this run are durable'
    status "cat after the signal" 0 "$twinlog" cat slow
    printf 'line 1\nline 2\nline 3\naccepted\n' >want
    same "what was accepted is there, the line that was cut off is not" want out
    status "stat after the signal" 0 "$twinlog" stat slow
    says "the log was closed" out '^left +closed by its last writer$'
}

test_million()
{
    seq 1000000 >in
    status "append a million lines" 0 "$twinlog" append million --print-lsn <in
    same "a million LSNs, in order" in out
    status "cat a million lines" 0 "$twinlog" cat million
    same "all there" in out
    status "verify a million lines" 0 "$twinlog" verify million
    says "a million sound records" out '^sound: 1000000 sound records'
}

# ---- what goes wrong ---------------------------------------------------------------------------

test_missing()
{
    for command in cat stat verify; do
        status "$command of a log that is missing" 1 "$twinlog" "$command" missing
        says "names it and says what to do" err "'missing': No such file|Check the path"
        mkdir -p hollow
        status "$command of an empty directory" 1 "$twinlog" "$command" hollow
        echo text >file
        status "$command of a file" 1 "$twinlog" "$command" file
    done
    for command in probe bench; do
        status "$command in a directory that is missing" 1 "$twinlog" "$command" missing
        says "says what to do" err 'must exist'
        status "$command in a file" 1 "$twinlog" "$command" file
    done
    count "nothing was created" "$(find missing hollow -mindepth 1 2>/dev/null | wc -l)"
    status "append where the parent is missing" 1 "$twinlog" append missing/log </dev/null
    says "says what to do" err 'its parent must exist|create it first'
    status "append to a file" 1 "$twinlog" append file </dev/null
    mkdir strange
    echo text >strange/notes.txt
    status "append to a directory of other files" 1 "$twinlog" append strange </dev/null
    count "leaves it alone" $(($(find strange -mindepth 1 | wc -l) - 1))
}

test_foreign()
{
    fill strangers 10
    file=$(find strangers -name '*.twl')
    head -c 524288 /dev/zero | tr '\0' 'x' >"$file"
    for command in append cat stat verify; do
        status "$command where a segment is no segment" 3 "$twinlog" "$command" strangers </dev/null
        cat out >>err # where verify prints its findings
        says "names the file" err "$(basename "$file").*restore that file from a copy"
    done
}

test_too_large()
{
    printf 'short\nmuch too long\nnever read\n' >in
    status "append a line that is too large" 1 "$twinlog" append limited --max-record 8 <in
    says "names the line" err 'line 2 '
    says "and the option" err '--max-record'
    says "and what is durable" err 'LSN 1 to 1 of this run are durable'
    status "cat" 0 "$twinlog" cat limited
    says "what came before is there" out '^short$'
    count "and nothing else" $(($(wc -l <out) - 1))
    got=0
    head -c 50000000 /dev/zero | "$twinlog" append limited 2>err || got=$?
    count "a line without an end" $((got != 1))
    says "is an error too" err 'line 1 '
    printf '\377\377\377\377a' >in
    status "a frame with a huge length" 1 "$twinlog" append limited --framed <in
    says "is an error too" err 'record 1 '
}

test_damage()
{
    seq -f 'record %g of a thousand' 1000 >in
    status "append" 0 "$twinlog" append damaged <in
    file=$(grep -lF 'record 500 ' damaged/*.twl)
    offset=$(grep -abo 'record 500 ' "$file" | cut -d : -f 1)
    printf X | dd of="$file" bs=1 seek="$offset" conv=notrunc 2>dd.err || cat dd.err

    status "verify of a log with a wrong byte" 3 "$twinlog" verify damaged
    says "names the segment, file, offset and LSN" out \
        "^damage: segment 1, $(basename "$file"), offset [0-9]+, LSN 500"
    status "verify --json of it" 3 "$twinlog" verify damaged --json
    says "names them too" out "\"segment\":1,\"file\":\"$(basename "$file")\",\"offset\":[0-9]+,.*\"first_lsn\":500,"
    says "and says that it is not sound" out '"is_sound":false'
    status "cat of it" 3 "$twinlog" cat damaged
    head -n 499 in >want
    same "prints what is before the damage" want out
    says "then the place" err "segment 1, $(basename "$file"), offset [0-9]+, LSN 500"
    status "append to it" 3 "$twinlog" append damaged </dev/null
    status "cat of what is before the damage" 0 "$twinlog" cat damaged --to 499
}

test_killed()
{
    start_writer killed
    printf 'one\ntwo\n' >&3
    read -r lsn <&4
    read -r lsn <&4
    stop_writer KILL
    status "stat after kill -9" 0 "$twinlog" stat killed
    says "says that the log was not closed" out '^left +not closed'
    status "cat after kill -9" 0 "$twinlog" cat killed
    printf 'one\ntwo\n' >want
    same "has what was acknowledged" want out
    echo three >in
    status "append after kill -9" 0 "$twinlog" append killed --print-lsn <in
    says "goes on" out '^3$'
}

test_full()
{
    fill full 10
    seq 11 1000000 >in
    got=0
    subject="append under a limit on the size of files"
    # 3 MB: room for the first segments, not for the later ones
    (ulimit -f 6000 && exec "$twinlog" append full --print-lsn) <in >lsns 2>err || got=$?
    count "a log that cannot grow ends with an error" $((got != 1))
    says "and the reason is there" err 'File too large'
    lsn=$(tail -n 1 lsns)
    if [ -n "$lsn" ]; then
        says "the last LSN that was printed is the last durable one" err "LSN 11 to $lsn of this run are durable"
    else
        says "no LSN was printed and none is durable" err 'No record of this run is known to be durable'
        lsn=10
    fi
    status "cat after that" 0 "$twinlog" cat full --to "$lsn"
    seq "$lsn" >want
    same "what was durable is there" want out
    status "append once there is room" 0 "$twinlog" append full </dev/null
}

# as_nobody COMMAND...: by a user for whom permissions count.
as_nobody()
{
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    else
        "$@"
    fi
}

test_permissions()
{
    if [ "$(id -u)" = 0 ] && ! command -v setpriv >/dev/null; then
        skip "directories that may not be written" "root may write everything, and there is no setpriv"
        return
    fi
    cp "$twinlog" "$public/twinlog"
    chmod 755 "$public"
    fill "$public/log" 3
    mkdir "$public/locked"
    chmod 555 "$public/locked" "$public/log"
    status "append where no directory may be made" 1 as_nobody "$public/twinlog" append "$public/locked/log" </dev/null
    says "says why" err 'Permission denied'
    says "and what to do" err 'permissions|another place'
    status "append to a log in a directory that may not be written" 1 \
        as_nobody "$public/twinlog" append "$public/locked" </dev/null
    status "bench there" 1 as_nobody "$public/twinlog" bench "$public/locked" </dev/null
    status "probe there" 1 as_nobody "$public/twinlog" probe "$public/locked" </dev/null
    chmod 755 "$public/locked" "$public/log"
}

test_output()
{
    fill shown 1000
    for command in cat stat verify probe; do
        got=0
        "$twinlog" "$command" shown >/dev/full 2>err || got=$?
        count "$command to a full disk" $((got != 1))
        says "says so" err 'standard output: No space left'
    done
    got=0
    "$twinlog" --help >/dev/full 2>err || got=$?
    count "--help to a full disk" $((got != 1))
    got=0
    seq 1000 | "$twinlog" append shown --print-lsn >/dev/full 2>err || got=$?
    count "append --print-lsn to a full disk" $((got != 1))
    says "says that the records are durable" err 'records are durable: LSN 1001 to 2000'
    status "stat" 0 "$twinlog" stat shown
    says "they are" out '^durable LSN +2000$'
    seq 1000 | "$twinlog" append shown --print-lsn 2>err | head -n 1 >out
    status "stat after the reader of the LSNs has gone" 0 "$twinlog" stat shown
    says "the input was appended to its end" out '^durable LSN +3000$'
    "$twinlog" cat shown 2>err | head -n 1 >out
    same "cat into a closed pipe is quiet" /dev/null err

    "$twinlog" append shown <&- 2>err
    count "append without standard input" $(($? != 1))
    "$twinlog" cat shown >&- 2>err
    count "cat without standard output" $(($? != 1))
}

test_usage()
{
    fill used 3
    status "no command" 2 "$twinlog"
    status "no such command" 2 "$twinlog" mend used
    says "names it" err "'mend'"
    for command in append cat stat verify bench probe; do
        status "$command without a directory" 2 "$twinlog" "$command" </dev/null
        says "points to --help" err "Try 'twinlog $command --help'"
        status "$command of two directories" 2 "$twinlog" "$command" used used </dev/null
        status "$command of an empty name" 2 "$twinlog" "$command" '' </dev/null
        status "$command --nonsense" 2 "$twinlog" "$command" used --nonsense </dev/null
        status "$command --help" 0 "$twinlog" "$command" --help
        says "shows the usage" out "^Usage: twinlog $command DIR"
        says "the exit status" out '^Exit status: 0'
        says "and an example" out '^Example'
        status "$command --version" 0 "$twinlog" "$command" --version
        says "shows the version" out '^twinlog [0-9]+\.[0-9]+\.[0-9]+$'
    done
    status "--help" 0 "$twinlog" --help
    for command in append cat stat verify bench probe; do
        says "lists $command" out "^  $command "
    done
    status "--version" 0 "$twinlog" --version
    says "shows the version" out '^twinlog [0-9]+\.[0-9]+\.[0-9]+$'

    status "append --null --framed" 2 "$twinlog" append used --null --framed </dev/null
    status "append --io tape" 2 "$twinlog" append used --io tape </dev/null
    status "append --segment of an odd size" 2 "$twinlog" append used --segment 100000 </dev/null
    status "append --max-record without a number" 2 "$twinlog" append used --max-record </dev/null
    status "cat --null --json" 2 "$twinlog" cat used --null --json
    status "cat --from 0" 2 "$twinlog" cat used --from 0
    status "cat --from after --to" 2 "$twinlog" cat used --from 3 --to 2
    for number in -1 ' 1' x 1X 1KB 99999999999999999999 99999999999999999G ''; do
        status "cat --from '$number'" 2 "$twinlog" cat used --from "$number"
    done
    status "bench --threads 0" 2 "$twinlog" bench used --threads 0
}

test_lines
test_null
test_framed
test_large
test_ranges
test_options
test_json
test_stat_and_verify
test_bench_and_probe
test_slow_pipe
test_million
test_missing
test_foreign
test_too_large
test_damage
test_killed
test_full
test_permissions
test_output
test_usage

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
