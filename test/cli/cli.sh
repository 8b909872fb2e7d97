#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cli.sh TWINLOG: runs the command as its users do, in a fresh directory beside the caller's, and
# prints what did not come out as promised. beside.sh does so beside a writer that goes on, wrong.sh where something is
# wrong, modes.sh with mapped and shared logs, sink.sh with the one subcommand that keeps no log.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

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
    printf '\0\377\n\200\001abc' >want
    status "cat --raw" 0 "$twinlog" cat framed --raw
    same "the records, and nothing between them" want out
    status "cat --raw --null" 2 "$twinlog" cat framed --raw --null

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
    append_with --prepare written
    append_with --prepare allocated --segment 64K
    append_with --keep-bytes 1G --keep-records 1M --keep-time 7d
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

test_times()
{
    echo one | "$twinlog" append timed
    between=$(date +%s.%N)
    echo two | "$twinlog" append timed
    echo two >want
    for zone in UTC0 AAA-5:30 BBB8; do
        TZ=$zone
        export TZ
        for format in '%FT%T.%N%:z' '%F %T.%N'; do
            status "cat --since in $zone" 0 "$twinlog" cat timed --since "$(date -d "@$between" "+$format")"
            same "begins with the first record of that time" want out
        done
    done
    unset TZ
    status "cat --since in UTC" 0 "$twinlog" cat timed --since "$(date -u -d "@$between" +%FT%T.%NZ)"
    same "begins there, too" want out
    status "cat --since --reverse" 0 "$twinlog" cat timed --reverse \
        --since "$(date -u -d "@$between" +%FT%T.%NZ)"
    same "ends there" want out
    printf 'one\ntwo\n' >want
    for time in 1h 2d '2000-02-29 00:00' 2000-01-01T00:00Z 1960-01-01T00:00:00.5-08:00; do
        status "cat --since $time" 0 "$twinlog" cat timed --since "$time"
        same "prints both records" want out
    done
    status "cat --since of a day to come" 0 "$twinlog" cat timed --since '2200-01-01 00:00'
    same "prints nothing" /dev/null out
    echo one >want
    status "cat --since --to" 0 "$twinlog" cat timed --since 1d --to 1
    same "ends there" want out
}

test_reverse()
{
    fill backwards 5000 --segment 64K
    seq 5000 -1 1 >want
    status "cat --reverse" 0 "$twinlog" cat backwards --reverse
    same "prints the newest first" want out
    status "cat --reverse --mmap" 0 "$twinlog" cat backwards --reverse --mmap
    same "the same through a mapping" want out
    seq 3000 -1 1001 >want
    status "cat --reverse of a range" 0 "$twinlog" cat backwards --reverse --from 1001 --to 3000
    same "prints that range" want out
    printf '2\n1\n' >want
    status "cat --reverse --since" 0 "$twinlog" cat backwards --reverse --since 1h --to 2
    same "prints the same as without --reverse" want out
    echo 5000 >want
    status "cat --reverse --to beyond the end" 0 "$twinlog" cat backwards --reverse --from 5000 --to 9999
    same "begins with the newest" want out
    status "cat --reverse --from beyond the end" 0 "$twinlog" cat backwards --reverse --from 5001
    same "prints nothing" /dev/null out
    status "cat --reverse --since of a day to come" 0 "$twinlog" cat backwards --reverse --since '2200-01-01 00:00'
    same "prints nothing" /dev/null out
    "$twinlog" append blank </dev/null
    status "cat --reverse of an empty log" 0 "$twinlog" cat blank --reverse
    same "prints nothing" /dev/null out
    seq 5000 >want
    status "cat --mmap" 0 "$twinlog" cat backwards --mmap
    same "prints the same as without" want out
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
        '^\{"lsn":1,"time":"20[0-9-]{8}T[0-9:]{8}\.[0-9]{9}Z","type":0,"tag":0,"size":5,"data":"plain"\}$'
    says "escapes" out '"data":"q\\"uo\\\\te\\ttab\\u0001\\u001b"'
    says "what is not UTF-8 is base64" out '"size":2,"data_base64":"//4="'
    says "overlong forms are not UTF-8" out '"size":2,"data_base64":"wIA="'
    says "an empty record has empty data" out '"size":0,"data":""'
    if ! command -v python3 >/dev/null; then
        skip "JSON by another reader" "there is no python3"
        return
    fi
    is_json "cat --json is JSON" out
    printf '\377"' | "$twinlog" meta json --set "$(printf 'a\001b')"
    "$twinlog" cursors json --set "$(printf 'a"b')=3"
    for command in stat verify cursors meta probe; do
        status "$command --json" 0 "$twinlog" "$command" json --json
        is_json "$command --json is JSON" out
    done
    for command in backup repair; do
        status "$command --json" 0 "$twinlog" "$command" json --output "json.$command" --json
        is_json "$command --json is JSON" out
    done
    for command in 'trim json --before 2' 'trim json --after 3' 'reset json --next 7 --force'; do
        # shellcheck disable=SC2086 # words
        status "$command --json" 0 "$twinlog" $command --json
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
    says "stat: how it was left" out '^status +closed cleanly$'
    status "verify" 0 "$twinlog" verify looked
    says "verify counts the records" out '^sound: 1000 sound records, 0 findings$'
}

test_stat_segments()
{
    fill many 60000 --segment 64K
    files=$(segment_files many)
    status "stat of many segments" 0 "$twinlog" stat many
    says "has a heading" out '^sequence +state +mode +first LSN +last LSN +used +size +incarnations +newest record \(UTC\) +file$'
    says "shows the first" out '^ +1  sealed +durable +1 +[0-9]+ .* 64\.0 KiB +0  20[0-9-]{8} [0-9:]{8}  0+1\.twl$'
    says "shows the newest" out '^ +[0-9]+  active +durable +[0-9]+ +60000 '
    says "and how many it leaves out" out "^ +\.\.\. +$((files - 20)) more: --all shows them\$"
    count "it shows 20" $(($(grep -c '\.twl$' out) - 20))
    status "stat --all" 0 "$twinlog" stat many --all
    count "shows every segment" $(($(grep -c '\.twl$' out) - files))
    status "stat --json" 0 "$twinlog" stat many --json
    count "has every segment" $(($(grep -o '"state":' out | wc -l) - files))
    says "with LSNs and times" out '"sequence":1,"state":"sealed","mode":"durable","file":"0+1\.twl",.*"first_lsn":1,.*"first_time":"20'
    status "stat without cursors" 0 "$twinlog" stat many
    says "says so" out '^cursors +0$'
    says "and counts values" out '^values +0, 0 bytes$'
    "$twinlog" cursors many --set fast=59999
    "$twinlog" cursors many --set slow=59000
    "$twinlog" meta many --set schema --value seven
    status "stat with cursors" 0 "$twinlog" stat many
    says "names the slowest" out "^cursors +2; 'slow' is 1000 records behind\$"
    says "and counts values" out '^values +1, 5 bytes$'
    status "stat --json with cursors" 0 "$twinlog" stat many --json
    says "lists them" out \
        '"cursors":\[\{"name":"fast","lsn":59999,"behind":1\},\{"name":"slow","lsn":59000,"behind":1000\}\]'
    says "and the values' sizes" out '"values":\[\{"name":"schema","size":5\}\]'
}

test_bench_and_probe()
{
    mkdir measured
    status "bench" 0 "$twinlog" bench measured --threads 4 --size 1K --seconds 1
    for row in 'work +4 threads, records of 1024 bytes' 'appends/s +[1-9]' 'MB/s +[0-9]' \
        'appends per sync +[1-9]' 'segments +[0-9]+ started' 'latency +p50 .*p99 .*p99.9 .*max' 'path +[a-z]' 'floor without log +[1-9]'; do
        says "bench prints a row" out "^$row"
    done
    status "bench --mapped" 0 "$twinlog" bench measured --mapped --threads 2 --size 16 --seconds 1 --segment 4M --keep-bytes 4M
    for row in 'appends/s +[1-9]' 'final sync +[0-9]' 'path +mapped'; do
        says "bench --mapped prints a row" out "^$row"
    done
    status "bench --mapped --json" 0 "$twinlog" bench measured --mapped --json --threads 1 --size 16 --seconds 1 --segment 4M --keep-bytes 4M
    says "tells the mode" out '^\{"mode":"mapped",.*"final_sync_seconds":[0-9]'
    status "bench --shared" 0 "$twinlog" bench measured --shared --threads 1 --size 16 --seconds 1
    says "tells the mode, too" out '^path +shared'
    status "bench --processes" 0 "$twinlog" bench measured --processes 2 --threads 2 --size 16 --seconds 1
    says "tells how many" out '^work +2 processes, each with 2 threads'
    says "what they did" out '^appends/s +[1-9]'
    status "bench --processes --json" 0 "$twinlog" bench measured --processes 2 --threads 1 --json --size 16 --seconds 1
    says "tells how many, too" out '^\{"mode":"shared","processes":2,.*"appends":[1-9]'
    status "bench --processes of records that are too large" 1 "$twinlog" bench measured --processes 2 --size 5M --seconds 1
    says "says what to do" err 'Raise --max-record'
    status "bench of records that are too large" 1 "$twinlog" bench measured --size 5M --seconds 1
    says "says what to do" err 'Raise --max-record'
    status "probe" 0 "$twinlog" probe measured
    says "probe marks what a log would take" out '^\* (uring|uring-linked|dsync|fdatasync) .* us$'

    "$twinlog" bench measured --processes 2 --size 5M --seconds 1 2>&1 | true # nobody reads what it complains of
    "$twinlog" bench measured --seconds 60 >out 2>err &
    pid=$!
    wait_until test -n "\$(ls -A measured)"
    kill -TERM "$pid"
    got=0
    wait "$pid" 2>/dev/null || got=$?
    count "bench ends by the signal that it gets" $((got != 143))
    ls -A measured >before
    "$twinlog" probe measured >out 2>err &
    pid=$!
    wait_until "! ls -A measured | cmp -s before - || ! kill -0 $pid"
    kill -TERM "$pid" 2>/dev/null
    got=0
    wait "$pid" 2>/dev/null || got=$?
    count "and so does probe, if it has not ended before" $((got != 143 && got != 0))
    count "bench and probe leave nothing behind" "$(find measured -mindepth 1 | wc -l)"
}

# ---- removing ----------------------------------------------------------------------------------

# begun LOG: how many segments have records.
begun() { "$twinlog" stat "$1" | sed -n 's/^segments *//p'; }

# made_in_1966 COUNT: so many records of that time, for an import.
made_in_1966()
{
    echo "twinlog export 1"
    for number in $(seq "$1"); do
        printf '%d -100000000000000000 0 0 40\n%040d\n' "$number" "$number"
    done
    echo end
}

test_trim()
{
    fill trimmed 20000 --segment 64K
    before=$(begun trimmed)
    status "trim --before" 0 "$twinlog" trim trimmed --before 10001
    says "says what was freed" out \
        '^Removed 10000 records and [1-9][0-9]* segments, .* KiB\. The log begins at LSN 10001\.$'
    says "and what stays" out "^Segment file [0-9]+\.twl stays until"
    holds "the other records are there" trimmed 10001 20000
    count "segments are gone" $(($(begun trimmed) >= before))
    status "cat of what was trimmed" 1 "$twinlog" cat trimmed --from 5
    says "says so" err 'removed from the head'
    status "trim of what is gone already" 0 "$twinlog" trim trimmed --before 500
    says "removes nothing" out '^Nothing was removed. The log begins at LSN 10001\.$'
    status "trim --keep-records" 0 "$twinlog" trim trimmed --keep-records 6000 --json
    says "removes the others" out '^\{"first_lsn":14001,"removed_records":4000,"removed_segments":[1-9]'
    status "trim --keep-time" 0 "$twinlog" trim trimmed --keep-time 1d
    says "keeps what is younger" out '^Nothing was removed. The log begins at LSN 14001\.$'
    status "trim with several limits" 0 "$twinlog" trim trimmed --before 2 --keep-records 10 --keep-time 7d
    says "the one that removes most counts" out 'begins at LSN 19991\.$'
    holds "the newest ten are there" trimmed 19991 20000
    status "trim of everything" 0 "$twinlog" trim trimmed --before 20001
    says "leaves an empty log" out 'The log is empty; the next record gets LSN 20001\.$'
    status "cat of it" 0 "$twinlog" cat trimmed
    same "prints nothing" /dev/null out
    echo more | "$twinlog" append trimmed --print-lsn >out
    says "the LSNs go on" out '^20001$'
    status "verify after all that" 0 "$twinlog" verify trimmed

    fill sized 20000 --segment 64K
    status "trim --keep-bytes" 0 "$twinlog" trim sized --keep-bytes 512K
    says "removes segments" out '^Removed [1-9][0-9]* records and [1-9]'
    status "stat after that" 0 "$twinlog" stat sized
    says "seven or eight are left, as the newest may be larger" out '^segments +[78]$'

    made_in_1966 3000 | "$twinlog" append early --import --renumber --quiet --segment 64K
    status "trim --keep-time with a time before 1970" 0 "$twinlog" trim early --keep-time 40000d --dry-run
    says "keeps what is younger" out '^Nothing would be removed'
    status "and with a later one" 0 "$twinlog" trim early --keep-time 20000d --dry-run
    says "removes what is older" out '^Would remove [1-9]'

    fill aged 5000 --segment 64K
    status "trim --keep-time 0s" 0 "$twinlog" trim aged --keep-time 0s
    says "removes every full segment" out '^Removed [1-9][0-9]* records and [1-9]'
    echo next | "$twinlog" append aged --print-lsn >out
    says "and the LSNs go on" out '^5001$'
}

# begins_behind LOG LSN: its first LSN is larger.
begins_behind() { "$twinlog" stat "$1" | awk -v lsn="$2" '/^first LSN/ { is_behind = $3 > lsn } END { exit !is_behind }'; }

test_trim_held()
{
    fill held 20000 --segment 64K
    "$twinlog" cursors held --set fast=15000
    "$twinlog" cursors held --set slow=100
    status "trim behind a cursor" 0 "$twinlog" trim held --before 5001
    says "keeps what it has not passed" out 'The log begins at LSN 101\.$'
    says "and names the holder" out "^Cursor 'slow' holds the rest, .*: move it .*, or use --past-cursors\.\$"
    status "trim --json behind a cursor" 0 "$twinlog" trim held --before 5001 --json
    says "says so too" out '"held_by":"cursor","holder":"slow","held_bytes":[1-9]'
    status "trim --past-cursors" 0 "$twinlog" trim held --before 5001 --past-cursors
    holds "removes it all the same" held 5001 20000
    status "cursors" 0 "$twinlog" cursors held
    says "the slow one was moved" out '^slow +5000 +15000$'
    says "the fast one was not" out '^fast +15000 +5000$'

    seq 20001 40000 >in
    status "append with a limit" 0 "$twinlog" append held --segment 64K --keep-bytes 256K <in
    holds "keeps what a cursor holds" held 5001 40000
    "$twinlog" cursors held --remove slow
    "$twinlog" cursors held --remove fast
    mkfifo limited.feed
    "$twinlog" append held --segment 64K --keep-bytes 256K <limited.feed &
    limited=$!
    exec 3>limited.feed
    seq 40001 60000 >&3
    got=0
    wait_until begins_behind held 40000 || got=1
    count "without a cursor the limit removes the oldest" "$got"
    exec 3>&-
    got=0
    wait "$limited" || got=$?
    count "and the append ends well" "$got"
    status "cat" 0 "$twinlog" cat held
    says "the newest are there" out '^60000$'
}

test_cut()
{
    fill shortened 20000 --segment 64K
    "$twinlog" cursors shortened --set reader=15000
    status "trim --after" 0 "$twinlog" trim shortened --after 12345
    says "says what comes next" out '^Removed 7655 records\. The next record gets LSN 12346\.$'
    holds "what was before is there" shortened 1 12345
    status "cursors" 0 "$twinlog" cursors shortened
    says "the cursor was moved back" out '^reader +12345 +0$'
    echo 12346 | "$twinlog" append shortened --print-lsn >out
    says "the LSNs go on there" out '^12346$'
    holds "with the new record" shortened 1 12346
    status "trim --after the end" 0 "$twinlog" trim shortened --after 20000
    says "does nothing" out '^Nothing was removed\. The next record gets LSN 12347\.$'
    status "trim --before" 0 "$twinlog" trim shortened --before 10001
    status "trim --after what was trimmed" 1 "$twinlog" trim shortened --after 9999
    says "says what can be done" err '--after 10000 is the least'
    holds "and removes nothing" shortened 10001 12346
    status "trim --after, all that is there" 0 "$twinlog" trim shortened --after 10000 --json
    says "says so in JSON" out '^\{"removed_records":2346,"next_lsn":10001\}$'
    status "cat of it" 0 "$twinlog" cat shortened
    same "prints nothing" /dev/null out
    status "verify after all that" 0 "$twinlog" verify shortened

    fill restarted 10
    status "trim --after 0" 0 "$twinlog" trim restarted --after 0
    echo again | "$twinlog" append restarted --print-lsn >out
    says "begins at LSN 1 again" out '^1$'
}

test_reset()
{
    fill anew 100
    "$twinlog" cursors anew --set reader=50
    "$twinlog" meta anew --set kept --value yes
    status "reset of a log with records" 1 "$twinlog" reset anew --next 5000
    says "counts them" err "'anew' holds 100 records, LSN 1 to 100"
    says "and asks for --force" err '--force'
    holds "leaves them alone" anew 1 100
    status "reset --force" 0 "$twinlog" reset anew --next 5000 --force
    says "says what it did" out '^Removed 100 records\. The next record gets LSN 5000\.$'
    echo 5000 | "$twinlog" append anew --print-lsn >out
    says "the next record has that LSN" out '^5000$'
    holds "and is alone" anew 5000 5000
    status "meta --get" 0 "$twinlog" meta anew --get kept
    says "values stay" out '^yes$'
    status "cursors" 0 "$twinlog" cursors anew
    says "cursors move to the head" out '^reader +4999 +1$'
    status "cursors --set to 0" 0 "$twinlog" cursors anew --set late=0
    echo 5000 >want
    status "cursors" 0 "$twinlog" cursors anew
    says "what is kept is behind it" out '^late +[0-9]+ +1$'
    status "cat --cursor of one that has seen nothing" 0 "$twinlog" cat anew --cursor late
    same "begins with the first record" want out
    "$twinlog" append unused </dev/null
    status "reset of an empty log" 0 "$twinlog" reset unused --next 42
    says "needs no --force" out '^Nothing was removed\. The next record gets LSN 42\.$'
    status "verify" 0 "$twinlog" verify unused
    status "trim --after in front of an empty log" 1 "$twinlog" trim unused --after 7
    says "says what to do" err 'The log is empty'
}

# ---- cursors and values ------------------------------------------------------------------------

test_cursors()
{
    fill consumed 100
    status "cursors where there is none" 0 "$twinlog" cursors consumed
    says "says so" out '^There is no cursor\.$'
    status "cursors --json" 0 "$twinlog" cursors consumed --json
    says "has an empty list" out '^\{"first_lsn":1,"last_lsn":100,"cursors":\[\]\}$'
    status "cursors --set" 0 "$twinlog" cursors consumed --set billing=90
    same "says nothing" /dev/null out
    status "cursors --set to 0" 0 "$twinlog" cursors consumed --set a=b=0
    status "cursors" 0 "$twinlog" cursors consumed
    says "has a heading" out '^cursor +LSN +behind$'
    says "shows how far one is behind" out '^billing +90 +10$'
    says "and the other" out '^a=b +0 +100$'
    status "cursors --set beyond the end" 1 "$twinlog" cursors consumed --set billing=101
    says "says what to do" err "stat DIR"
    status "cursors --json of two" 0 "$twinlog" cursors consumed --json
    says "lists them" out '"cursors":\[\{"name":"a=b","lsn":0,"behind":100\},\{"name":"billing","lsn":90,"behind":10\}\]'
    status "cursors --remove" 0 "$twinlog" cursors consumed --remove a=b
    status "cursors --remove again" 1 "$twinlog" cursors consumed --remove a=b
    says "says that there is none" err "There is no such cursor"
    "$twinlog" trim consumed --before 51 >out
    status "cursors --set behind what was trimmed" 1 "$twinlog" cursors consumed --set late=49
    says "says why" err 'were removed'
    status "cursors --set to the head" 0 "$twinlog" cursors consumed --set late=50
    status "cursors" 0 "$twinlog" cursors consumed
    says "all that is kept is behind it" out '^late +50 +50$'
}

test_meta()
{
    fill noted 3
    status "meta where there is no value" 0 "$twinlog" meta noted
    says "says so" out '^There is no value\.$'
    status "meta --set --value" 0 "$twinlog" meta noted --set schema --value 7
    same "says nothing" /dev/null out
    printf '\0\377two\nlines' >in
    status "meta --set from standard input" 0 "$twinlog" meta noted --set raw <in
    status "meta --get" 0 "$twinlog" meta noted --get raw
    same "the value comes back, byte for byte" in out
    status "meta --set of nothing" 0 "$twinlog" meta noted --set void </dev/null
    status "meta --get of it" 0 "$twinlog" meta noted --get void
    same "is nothing" /dev/null out
    status "meta" 0 "$twinlog" meta noted
    says "lists names and sizes" out '^raw +11$'
    says "also of an empty one" out '^void +0$'
    status "meta --json" 0 "$twinlog" meta noted --json
    says "lists values, too" out '\{"name":"schema","size":1,"value":"7"\}'
    says "in base64 what is not UTF-8" out '\{"name":"raw","size":11,"value_base64":"AP90d28KbGluZXM="\}'
    head -c 4096 /dev/urandom >in
    status "meta --set of 4096 bytes" 0 "$twinlog" meta noted --set raw <in
    status "meta --get of it" 0 "$twinlog" meta noted --get raw
    same "comes back whole" in out
    head -c 4097 /dev/zero >in
    status "meta --set of 4097 bytes" 1 "$twinlog" meta noted --set raw <in
    says "is refused" err 'larger than 4096 bytes'
    status "meta --value of 4097 bytes" 1 "$twinlog" meta noted --set raw --value "$(seq -s ' ' 1100 | head -c 4097)"
    says "is refused, too" err 'larger than 4096 bytes'
    got=0
    "$twinlog" meta noted --set raw <&- 2>err || got=$?
    count "meta --set without standard input" $((got != 1))
    status "meta --remove" 0 "$twinlog" meta noted --remove void
    status "meta --remove again" 1 "$twinlog" meta noted --remove void
    says "says that there is none" err 'There is no such value'
    status "meta --get of what is not there" 1 "$twinlog" meta noted --get void
    says "says so" err "cannot get value 'void' of 'noted'"
    status "meta --set of a strange name" 0 "$twinlog" meta noted --set "$(printf 'a\033[31m')" --value 1 \
        --set "$(printf 'b\302\233\2331m\303\244')" --value 1
    status "meta" 0 "$twinlog" meta noted
    says "shows it without what a terminal would act upon" out '^a\?\[31m +1$'
    says "nor upon what is behind ASCII" out "^b\?\?\?1m$(printf '\303\244') +1$"
    status "meta: several in one change" 0 "$twinlog" meta noted --set term --value 8 --set vote --value 2 --remove raw \
        --remove void
    "$twinlog" meta noted >out
    says "sets the first" out '^term +1$'
    says "sets the second" out '^vote +1$'
    count "removes the third" "$(grep -c '^raw' out)"
    status "meta: one of several that is refused" 1 "$twinlog" meta noted --set term --value 9 \
        --set twinlog.keep_bytes --value x
    status "meta --get of the other one" 0 "$twinlog" meta noted --get term
    says "nothing has changed" out '^8$'
    status "meta: several, one without a value" 2 "$twinlog" meta noted --set term --value 9 --set vote
    says "says what is missing" err 'each needs --value TEXT'
    status "meta --value without a name" 2 "$twinlog" meta noted --value 9
    says "says where it goes" err 'goes behind --set NAME'
    status "meta --get with --set" 2 "$twinlog" meta noted --get term --set term --value 9
    says "says which one goes" err 'goes without --set and --remove'
    holds "the records are as they were" noted 1 3
}

# ---- copies ------------------------------------------------------------------------------------

test_backup()
{
    fill precious 20000 --segment 64K
    "$twinlog" cursors precious --set reader=7
    "$twinlog" meta precious --set schema --value 3
    status "backup" 0 "$twinlog" backup precious --output precious.copy
    says "says what it did" out \
        '^LSN 1 to 20000 in [0-9]+ segments: [0-9.]+ [KM]iB linked, [0-9.]+ KiB copied$'
    holds "everything is there" precious.copy 1 20000
    status "cursors of the backup" 0 "$twinlog" cursors precious.copy
    says "are there" out '^reader +7 '
    status "meta of the backup" 0 "$twinlog" meta precious.copy --get schema
    says "is there" out '^3$'
    status "verify of the backup" 0 "$twinlog" verify precious.copy
    says "is sound" out '^sound: 20000 sound records'
    status "backup to where something is" 1 "$twinlog" backup precious --output precious.copy
    says "says what to do" err 'must not exist, or be empty'
    status "backup --copy" 0 "$twinlog" backup precious --output precious.bytes --copy --json
    says "links nothing" out '"linked_bytes":0,"copied_bytes":[1-9]'

    seq 20001 30000 >in
    status "append to the backup" 0 "$twinlog" append precious.copy --segment 64K <in
    status "trim of the log" 0 "$twinlog" trim precious --before 20001 --past-cursors
    holds "each goes its own way" precious.copy 1 30000
    status "verify of the backup after that" 0 "$twinlog" verify precious.copy
    status "backup of an empty log" 0 "$twinlog" backup precious --output precious.empty
    says "has no records" out '^no records in '
    status "cat of it" 0 "$twinlog" cat precious.empty
    same "prints nothing" /dev/null out
    echo next | "$twinlog" append precious.empty --print-lsn >out
    says "the LSNs go on there, too" out '^20001$'
}

test_repair()
{
    seq -f 'record %g of many' 5000 >in
    status "append" 0 "$twinlog" append broken --segment 64K <in
    "$twinlog" cursors broken --set reader=4000
    status "repair of a sound log" 0 "$twinlog" repair broken --output broken.same
    says "says that nothing was lost" out '^nothing was lost: 5000 records copied, 0 lost, LSN 1 to 5000$'
    status "cat of the new log" 0 "$twinlog" cat broken.same
    same "is the same" in out
    status "cat --json of both" 0 "$twinlog" cat broken --json
    mv out want
    status "cat --json of both" 0 "$twinlog" cat broken.same --json
    same "with LSNs and times" want out

    spoil broken 'record 500 '
    status "repair of a damaged log" 3 "$twinlog" repair broken --output broken.left
    says "names the place" out "^damage: segment 1, 0+1\.twl, offset [0-9]+, LSN 500"
    says "and counts" out '^repaired with losses: 4999 records copied, 1 lost, LSN 1 to 5000$'
    status "cat of what is left" 0 "$twinlog" cat broken.left
    grep -v '^record 500 ' in >want
    same "is everything else" want out
    status "cat of the next LSN" 0 "$twinlog" cat broken.left --from 501 --to 501
    says "every other record has its LSN" out '^record 501 '
    status "verify of what is left" 0 "$twinlog" verify broken.left
    "$twinlog" backup broken.left --output broken.standby >/dev/null
    "$twinlog" cat broken.left --export >in.export
    status "import of all of it by a copy" 0 "$twinlog" append broken.standby --import -q <in.export
    status "cursors of what is left" 0 "$twinlog" cursors broken.left
    says "are there" out '^reader +4000 +1000$'
    status "repair --json" 3 "$twinlog" repair broken --output broken.json --json
    says "says so, too" out '"losses":\[\{"finding":"damage","action":"skip",.*"first_lsn":500,'
    says "with the numbers" out '"records":4999,"lost_records":1,"first_lsn":1,"last_lsn":5000,"is_complete":false\}$'
    # shellcheck disable=SC2016 # the other shell expands it
    status "a repair that fails" 1 sh -c 'ulimit -f 40; exec "$0" repair broken --output broken.cut' "$twinlog"
    [ ! -e broken.cut ]
    count "leaves no log of that name, which would be sound without its end" $?
    advises err "without its end: remove that before the next repair."
    status "one that begins while that is there" 1 "$twinlog" repair broken --output broken.cut
    advises err 'has left it, remove it; else name a new directory beside which that name is free.'
    rm -r broken.cut.repairing
    status "and then" 3 "$twinlog" repair broken --output broken.cut/
    "$twinlog" cat broken.cut >out
    same "has all that is left" want out
    [ ! -e broken.cut.repairing ]
    count "under its name" $?
    mv broken other.repairing
    status "a log that has the name under which the new one is made" 1 "$twinlog" repair other.repairing --output other
    advises err 'made under its name: choose another name for the new one.'
    status "with another name" 3 "$twinlog" repair other.repairing --output another
    mv other.repairing broken
    mkdir broken.empty
    status "repair to an empty directory" 3 "$twinlog" repair broken --output broken.empty
    status "repair to where something is" 1 "$twinlog" repair broken --output broken.left
    says "says what to do" err 'must not exist, or be empty'
    for command in backup repair; do
        status "$command where no directory may be made" 1 "$twinlog" "$command" broken.left --output missing/log
        says "says what to do" err 'directory above the new one'
        status "$command of a log that is missing" 1 "$twinlog" "$command" missing --output broken.new
        count "makes nothing" "$(find . -maxdepth 1 -name broken.new | wc -l)"
    done
    status "backup of a damaged log" 3 "$twinlog" backup broken --output broken.copy --copy
}

# The first segment is damaged, and another process keeps the third one from being looked at.
test_verify_ends_with_damage()
{
    if ! command -v python3 >/dev/null; then
        skip "damage in front of a segment that cannot be looked at" "no python3"
        return
    fi
    seq -f 'record %g of many' 5000 | "$twinlog" append hindered --segment 64K
    spoil hindered 'record 500 '
    python3 -c 'import fcntl, os, struct, time
file = os.open("hindered/0000000000000003.twl", os.O_RDWR)
fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1, 1, 0))
open("hindering", "w").close()
time.sleep(600)' &
    holder=$!
    wait_until '[ -e hindering ]'
    status "verify of damage, and of what cannot be looked at" 3 "$twinlog" verify hindered
    says "names the damage" out '^damage: segment 1, .* LSN 500'
    says "and says what it could not look at" err 'Device or resource busy'
    status "its metrics" 3 "$twinlog" verify hindered --prometheus
    says "tell the damage" out '^twinlog_verify_damaged\{dir="hindered"\} 1$'
    count "but not that all was read" "$(grep -c '^twinlog_verify_timestamp_seconds' out)"
    kill $holder
    wait $holder 2>/dev/null
}

# ---- appending while somebody looks ------------------------------------------------------------

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

test_lines
test_null
test_framed
test_large
test_ranges
test_times
test_reverse
test_options
test_json
test_stat_and_verify
test_verify_ends_with_damage
test_stat_segments
test_bench_and_probe
test_trim
test_trim_held
test_cut
test_reset
test_cursors
test_meta
test_backup
test_repair
test_million

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
