#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cli.sh TWINLOG: runs the command as its users do, in a fresh directory beside the caller's, and
# prints what did not come out as promised. sink.sh does so with the one subcommand that keeps no log.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

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

# segment_files LOG: how many there are.
segment_files() { find "$1" -name '*.twl' | wc -l; }

# spoil LOG TEXT: a wrong byte in the first place of that text. file is where.
spoil()
{
    file=$(grep -lF "$2" "$1"/*.twl)
    offset=$(grep -abo "$2" "$file" | cut -d : -f 1)
    printf X | dd of="$file" bs=1 seek="$offset" conv=notrunc 2>dd.err || cat dd.err
}

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
    append_with --prepare written
    append_with --prepare allocated --segment 64K
    append_with --prepare sparse
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

# written TEXT: what a writer that was just started appends, as soon as it is durable.
written()
{
    echo "$1" >&3
    read -r lsn <&4
}

# live_lines FILE COUNT: enough lines have come. The file is made in the background.
live_lines() { [ -f "$1" ] && [ "$(wc -l <"$1")" -ge "$2" ]; }

# write_until FILE COUNT [PATTERN]: appends until so much is shown, and a line of the pattern. On a busy machine a line
# may fall between two appends.
is_shown() { live_lines "$1" "$2" && grep -Eq -e "${3-}" "$1"; }
write_until()
{
    tries=0
    until is_shown "$@" || [ "$tries" -gt 2000 ]; do
        tries=$((tries + 1))
        written "line $tries"
        sleep 0.01
    done
    is_shown "$@"
}

# end_live SIGNAL: status is that of a command in the background; live has its process.
end_live()
{
    kill "-$1" "$live"
    got=0
    wait "$live" 2>/dev/null || got=$?
}

# series FILE: the names in what Prometheus is told.
series() { grep -o '^twinlog_[a-z_]*' "$1" | sort -u; }
idle_scrape() { "$twinlog" stat watched --prometheus >out && grep -q '^twinlog_counters_up.* 0$' out; }

# poison LOG: its page says that a write of its live writer has failed, with EIO (docs/format.md).
poison() { printf '\373\377\377\377' | dd of="$1/writer.lock" bs=1 seek=76 conv=notrunc status=none; }

test_stat_live()
{
    subject='stat --live'
    start_writer watched
    written first
    "$twinlog" stat watched --live --interval 0.05 >live.lines 2>live.err &
    live=$!
    got=0
    rates='^ +[1-9][0-9]* +0\.[0-9]+ +[1-9][0-9]* +[0-9.]+ +[1-9][0-9]* .* [1-9][0-9]*$'
    write_until live.lines 4 "$rates" || got=1
    count "stat --live prints lines while a process writes" "$got"
    end_live TERM
    count "a signal ends it in good order" "$got"
    same "without complaints" /dev/null live.err
    says "has a heading" live.lines '^ +appends/s +MB/s +groups/s +rec/grp +syncs/s +write p50 .* age s +durable LSN$'
    says "and rates" live.lines "$rates"

    "$twinlog" stat watched --live --json --interval 0.05 >live.json 2>live.err &
    live=$!
    got=0
    write_until live.json 3 '"is_idle":false,.*"appends_per_second":[1-9].*"write":\{"count":[1-9]' || got=1
    count "stat --live --json prints objects" "$got"
    end_live TERM
    says "with rates" live.json '"has_writer":true,"is_idle":false,.*"appends_per_second":[1-9]'
    says "latencies of each stage" live.json '"latency_us":\{"queue":.*"write":\{"count":[1-9][0-9]*,"p50":[0-9.]+,'
    says "and watermarks" live.json '"durable_lsn":[1-9]'
    got=0
    ! command -v jq >/dev/null || jq -e . live.json >/dev/null || got=1
    count "each of them JSON" "$got"

    tries=0
    : >out
    until grep -q '^twinlog_counters_up.* 1$' out || [ "$tries" -gt 20 ]; do # it may wait while nothing is committed
        tries=$((tries + 1))
        "$twinlog" stat watched --prometheus >out 2>err &
        live=$!
        write_until out 30
        wait "$live"
    done
    says "stat --prometheus beside a writer" out '^twinlog_writer_up\{dir="watched"\} 1$'
    says "has counters" out '^twinlog_appends_total\{dir="watched"\} [1-9][0-9]*$'
    says "with their types" out '^# TYPE twinlog_appends_total counter$'
    says "has histograms" out '^twinlog_group_write_seconds_bucket\{dir="watched",le="\+Inf"\} [1-9][0-9]*$'
    check_exposition out
    series out >series.busy
    wait_until idle_scrape # what it answered last is told
    series out >series.idle
    same "an idle writer has the same series" series.busy series.idle
    says "with the counters of its last answer" out '^twinlog_appends_total\{dir="watched"\} [1-9][0-9]*$'
    says "says when the newest record came" out '^twinlog_newest_record_timestamp_seconds\{dir="watched"\} 1[0-9]{9}\.[0-9]{3}$'
    rm -f live.json
    "$twinlog" stat watched --live --json --interval 0.05 >live.json 2>live.err &
    live=$!
    # shellcheck disable=SC2016
    wait_until 'grep -q "\"is_idle\":true,\"newest_lsn\":$lsn,.*\"newest_age_seconds\":[0-9.]*.*\"appends_per_second\":0[.0]*," live.json'
    count "stat --live says how old the newest record of an idle writer is" $?
    written another
    # shellcheck disable=SC2016
    wait_until 'grep -q "\"newest_lsn\":$lsn,.*\"durable_lsn\":$lsn,\"" live.json'
    count "and sees the next one" $?
    end_live TERM

    "$twinlog" top watched --json --interval 0.05 >live.json 2>live.err &
    live=$!
    wait_until live_lines live.json 1
    count "top is another word for it" $?
    poison watched
    wait_until 'grep -q "\"is_idle\":false,.*\"poison\":-5,.*\"appends\":[1-9]" live.json'
    count "and sees that the writer is poisoned" $?
    end_live TERM
    count "and ends in good order" "$got"
    rm live.lines
    "$twinlog" top watched --interval 0.05 >live.lines 2>live.err &
    live=$!
    wait_until live_lines live.lines 1
    count "on a line" $?
    end_live TERM
    says "in words" live.lines '^watched: POISONED: a write or sync has failed, .* LSN [0-9]+, '
    status "stat --prometheus beside a poisoned writer" 0 "$twinlog" stat watched --prometheus
    says "says so" out '^twinlog_poisoned\{dir="watched"\} 1$'
    series out >series.poisoned
    same "with the same series" series.busy series.poisoned
    check_exposition out
    status "stat beside it" 0 "$twinlog" stat watched
    says "says so in words" out '^status +POISONED: '
    stop_writer KILL

    rm live.lines
    "$twinlog" stat watched --live --interval 0.05 >live.lines 2>live.err &
    live=$!
    got=0
    wait_until live_lines live.lines 1 || got=1
    count "stat --live of a log that nobody writes" "$got"
    says "says so, and what was last" live.lines "^watched: no process is writing it; newest durable record: LSN $lsn, [0-9.]+ s ago\$"
    end_live TERM
    status "stat --prometheus without a writer" 0 "$twinlog" stat watched --prometheus
    says "says so" out '^twinlog_writer_up\{dir="watched"\} 0$'
    says "and tells what the files say" out '^twinlog_last_lsn\{dir="watched"\} [1-9][0-9]*$'
    series out >series.gone
    same "and has the same series" series.busy series.gone
    says "with counters that begin again" out '^twinlog_appends_total\{dir="watched"\} 0$'
    check_exposition out
    status "stat --live of nothing" 1 "$twinlog" stat nothing --live
    status "stat --prometheus of nothing" 1 "$twinlog" stat nothing --prometheus

    mkdir quotes
    name='quotes/a "b" \c'
    fill "$name" 3
    status "stat --prometheus of a strange name" 0 "$twinlog" stat "$name" --prometheus
    says "escapes it" out '^twinlog_last_lsn\{dir="quotes/a \\"b\\" \\\\c"\} 3$'
    name=$(printf 'quotes/\303\244\377z')
    fill "$name" 3
    status "stat --prometheus of a name that is not UTF-8" 0 "$twinlog" stat "$name" --prometheus
    printf 'twinlog_last_lsn{dir="quotes/\303\244\357\277\275z"} 3\n' >want
    grep -a '^twinlog_last_lsn' out >line
    same "has U+FFFD for what is not" want line
}

# check_exposition FILE: every sample belongs to the metric of the last HELP and TYPE, no metric comes twice,
# and the buckets of a histogram grow up to its count.
check_exposition()
{
    awk 'function wrong(what) { print FILENAME ": " what ": " $0; status = 1 }
         /^# HELP / { helped = $3; if (seen[$3]++) wrong("twice"); next }
         /^# TYPE / { type = $4; if ($3 != helped) wrong("no HELP before"); last = -1; next }
         !/^[a-z_]+\{dir="[^}]*\} [0-9.e+-]+$/ { wrong("not a sample"); next }
         { name = $0; sub(/\{.*/, "", name); base = name }
         type == "histogram" { sub(/_(bucket|sum|count)$/, "", base) }
         base != helped { wrong("of another metric") }
         type == "counter" && name !~ /_total$/ { wrong("a counter without _total") }
         name ~ /_bucket$/ { if ($NF < last) wrong("fewer than below"); last = $NF }
         name ~ /_count$/ && $NF != last { wrong("not what the last bucket says") }
         END { exit status }' "$1" >exposition.err || sed 's/^/  /' exposition.err
    count "as Prometheus wants it" "$(wc -l <exposition.err)"
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
    count "bench and probe leave nothing behind" "$(find measured -mindepth 1 | wc -l)"
}

# ---- removing ----------------------------------------------------------------------------------

# begun LOG: how many segments have records.
begun() { "$twinlog" stat "$1" | sed -n 's/^segments *//p'; }

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
    status "meta --set of a strange name" 0 "$twinlog" meta noted --set "$(printf 'a\033[31m')" --value 1
    status "meta" 0 "$twinlog" meta noted
    says "shows it without what a terminal would act upon" out '^a\?\[31m +1$'
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
        '^LSN 1 to 20000 in [0-9]+ segments: [0-9.]+ [KM]iB linked, .* cloned, [0-9.]+ KiB copied$'
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
    says "links and clones nothing" out '"linked_bytes":0,"cloned_bytes":0,"copied_bytes":[1-9]'

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
    status "cursors of what is left" 0 "$twinlog" cursors broken.left
    says "are there" out '^reader +4000 +1000$'
    status "repair --json" 3 "$twinlog" repair broken --output broken.json --json
    says "says so, too" out '"losses":\[\{"finding":"damage","action":"skip",.*"first_lsn":500,'
    says "with the numbers" out '"records":4999,"lost_records":1,"first_lsn":1,"last_lsn":5000,"is_complete":false\}$'
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

# ---- appending while somebody looks ------------------------------------------------------------

# start_writer LOG: appends what is written to 3; the LSNs are read from 4, the errors are in LOG.err.
start_writer()
{
    rm -f feed lsns.fifo
    mkfifo feed lsns.fifo
    "$twinlog" append "$@" --print-lsn <feed >lsns.fifo 2>"$1.err" &
    writer=$!
    # should an LSN never come, reading it ends with the writer
    (timeout 500 tail --pid="$writer" -f /dev/null || kill -9 "$writer") >/dev/null 2>&1 &
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
    says "sees it" out '^status +a process is writing it$'
    says "and what is durable" out '^durable LSN +3$'
    count "and tells of no dead writer" "$(grep -cE '^(recovery|place|detail) ' out)"
    status "verify beside the writer" 0 "$twinlog" verify slow
    status "a second writer" 1 "$twinlog" append slow </dev/null
    says "is told why" err 'busy'
    says "and by which process" err "\\(process $writer\\)"
    says "and what to do" err 'wait until it is closed there'
    says "or else" err 'use --shared in both'

    printf 'accepted\ncut off' >&3
    read -r lsn <&4
    stop_writer TERM
    count "append ends by the signal that it gets" $((got != 143))
    says "and says what is durable" slow.err 'LSN 1 to 4 of this run are durable'
    status "cat after the signal" 0 "$twinlog" cat slow
    printf 'line 1\nline 2\nline 3\naccepted\n' >want
    same "what was accepted is there, the line that was cut off is not" want out
    status "stat after the signal" 0 "$twinlog" stat slow
    says "the log was closed" out '^status +closed cleanly$'
}

# start_follower COMMAND...: its output goes to followed, its errors to followed.err.
start_follower()
{
    : >followed
    "$@" >>followed 2>followed.err &
    follower=$!
}

# stop_follower SIGNAL: got is its status.
stop_follower()
{
    kill "-$1" "$follower"
    got=0
    wait "$follower" || got=$?
}

# append_line LINE: through the writer, and waits until it is durable.
append_line()
{
    echo "$1" >&3
    read -r lsn <&4
}

# prints NAME LINE: the follower has printed it, or does so now.
prints()
{
    got=0
    wait_until grep -qx "'$2'" followed || got=1
    count "$1" "$got"
}

test_follow()
{
    fill followed.log 3
    start_follower env --default-signal=INT "$twinlog" cat followed.log --follow
    prints "cat --follow prints what is there" 3
    start_writer followed.log
    append_line four
    prints "and what comes later" four
    append_line five
    prints "and after that" five
    stop_follower INT
    count "it ends on SIGINT with status 0" "$got"
    same "without a word" /dev/null followed.err

    start_follower "$twinlog" cat followed.log --follow --from 5 --mmap --json
    prints "cat --follow --mmap --json prints what is there" '{"lsn":5,.*"data":"five"}'
    append_line six
    prints "and what comes later" '{"lsn":6,.*"data":"six"}'
    stop_follower TERM
    count "it ends on SIGTERM with status 0" "$got"

    start_follower "$twinlog" cat followed.log --follow --since '2200-01-01 00:00'
    status "cat --follow --to" 0 "$twinlog" cat followed.log --follow --from 5 --to 6
    printf 'five\nsix\n' >want
    same "ends there by itself" want out
    "$twinlog" cat followed.log --follow --from 6 --to 7 >ranged &
    ranged=$!
    append_line seven
    got=0
    wait "$ranged" || got=$?
    count "also when the last one comes later" "$got"
    printf 'six\nseven\n' >want
    same "and has printed both" want ranged
    stop_follower HUP
    count "it ends on SIGHUP with status 0" "$got"
    same "nothing was younger than --since" /dev/null followed

    { timeout 60 "$twinlog" cat followed.log --follow; echo $? >ended; } | head -n 1 >out
    says "a reader that leaves gets what was there" out '^1$'
    says "and ends cat --follow" ended '^(0|141)$'
    stop_writer TERM

    start_follower "$twinlog" cat followed.log --follow
    prints "cat --follow without a writer" seven
    status "trim --after while somebody follows" 0 "$twinlog" trim followed.log --after 4
    got=0
    wait "$follower" || got=$?
    count "cat --follow of truncated records fails" $((got != 1))
    says "and says why" followed.err 'truncated'
}

# is_at CURSOR LSN: of the log "shipped".
is_at() { "$twinlog" cursors shipped | grep -qE "^$1 +$2 "; }

test_cat_cursor()
{
    fill shipped 25000
    status "cat --cursor of a new one" 0 "$twinlog" cat shipped --cursor mail --to 12000
    seq 12000 >want
    same "prints from the beginning" want out
    is_at mail 12000
    count "and makes the cursor" $?
    status "cat --cursor again" 0 "$twinlog" cat shipped --cursor mail
    seq 12001 25000 >want
    same "goes on behind it" want out
    status "cat --cursor at the end" 0 "$twinlog" cat shipped --cursor mail
    same "prints nothing" /dev/null out
    status "cat --cursor that has passed --to" 0 "$twinlog" cat shipped --cursor mail --to 5
    same "prints nothing" /dev/null out
    is_at mail 25000
    count "and leaves the cursor where it is" $?
    got=0
    "$twinlog" cat shipped --cursor lost >/dev/full 2>err || got=$?
    count "cat --cursor to a full disk fails" $((got != 1))
    is_at lost 0
    count "and leaves the cursor in front of the first record" $?

    start_writer shipped
    append_line next
    start_follower "$twinlog" cat shipped --cursor mail --follow
    prints "cat --cursor --follow goes on behind it" next
    status "a second cat with that cursor" 1 "$twinlog" cat shipped --cursor mail
    says "is told which process has it" err "process $follower has a consumer of this name open"
    got=0
    wait_until is_at mail 25001 || got=1
    count "and moves it when it has caught up" "$got"
    append_line last
    prints "and prints what comes later" last
    stop_follower TERM
    count "it ends with status 0" "$got"
    is_at mail 25002
    count "and the cursor is behind the last record" $?
    stop_writer TERM
    status "trim" 0 "$twinlog" trim shipped --after 100
    is_at mail 100
    count "a cut moves it back" $?
    echo other | "$twinlog" append shipped
    status "cat --cursor after a cut" 0 "$twinlog" cat shipped --cursor mail
    says "goes on behind the cut" out '^other$'
}

test_beside_writer()
{
    fill busy 10
    start_writer busy
    append_line eleven
    for command in 'trim busy --before 5' 'trim busy --after 5' 'reset busy --next 5 --force'; do
        # shellcheck disable=SC2086 # words
        status "$command beside a writer" 1 "$twinlog" $command
        says "says why" err "another writer has this log open \\(process $writer\\)"
        says "and what to do" err 'stop it and try again'
    done
    status "repair beside a writer" 1 "$twinlog" repair busy --output busy.new
    says "says what to do" err 'stop it first'
    status "cursors --set beside a writer" 0 "$twinlog" cursors busy --set reader=11
    status "cursors beside a writer" 0 "$twinlog" cursors busy
    says "shows it" out '^reader +11 +0$'
    append_line twelve
    status "cursors after one more record" 0 "$twinlog" cursors busy
    says "it is behind" out '^reader +11 +1$'
    status "meta --set beside a writer" 0 "$twinlog" meta busy --set schema --value 9
    status "meta --get beside a writer" 0 "$twinlog" meta busy --get schema
    says "shows it" out '^9$'
    status "backup beside a writer" 0 "$twinlog" backup busy --output busy.copy
    says "has what is durable" out '^LSN 1 to 12 in '
    status "stat beside a writer" 0 "$twinlog" stat busy
    says "shows the active segment" out '^ +1  active +durable +1 +12 '
    says "and the cursor" out "^cursors +1; 'reader' is 1 record behind\$"
    stop_writer TERM
    status "cursors after the writer has gone" 0 "$twinlog" cursors busy
    says "they are as they were" out '^reader +11 +1$'
    status "trim after it has gone" 0 "$twinlog" trim busy --before 5
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
    for command in cat stat verify cursors meta; do
        status "$command of a log that is missing" 1 "$twinlog" "$command" missing
        says "names it and says what to do" err "'missing': No such file|Check the path"
        mkdir -p hollow
        status "$command of an empty directory" 1 "$twinlog" "$command" hollow
        echo text >file
        status "$command of a file" 1 "$twinlog" "$command" file
    done
    for command in 'trim --before 2' 'trim --after 2' 'reset --next 2' 'cursors --set a=0' 'meta --set a --value b' \
        'cat --cursor a'; do
        # shellcheck disable=SC2086 # words
        status "$command of a log that is missing" 1 "$twinlog" $command missing
        says "names it and says what to do" err "'missing': No such file|Check the path"
        # shellcheck disable=SC2086
        status "$command of an empty directory" 1 "$twinlog" $command hollow
        # shellcheck disable=SC2086
        status "$command of a file" 1 "$twinlog" $command file
    done
    for command in probe bench; do
        status "$command in a directory that is missing" 1 "$twinlog" "$command" missing
        says "says what to do" err 'must exist'
        status "$command in a file" 1 "$twinlog" "$command" file
    done
    count "nothing was created" "$(find missing hollow -mindepth 1 2>/dev/null | wc -l)"
    status "append where the parent is missing" 1 "$twinlog" append missing/log </dev/null
    says "says what to do" err 'its parent must exist'
    count "once" $(($(wc -l <err) != 2))
    status "append to a file" 1 "$twinlog" append file </dev/null
    got=0
    subject="append with few descriptors"
    # shellcheck disable=SC3045 # every shell that is sh here has it
    (ulimit -n 6 && exec "$twinlog" append tight) </dev/null >out 2>err || got=$?
    count "append with few descriptors fails" $((got != 1))
    says "says what the system says, and what to do" err 'Raise the limit on open files'
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
    says "and what is durable" err 'LSN 1 of this run is durable'
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
    spoil damaged 'record 500 '

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
    says "and says which command helps" err "'twinlog repair DIR --output NEW' saves"
    status "cat of what is before the damage" 0 "$twinlog" cat damaged --to 499
    status "and back" 0 "$twinlog" cat damaged --to 499 --reverse
}

# A reader that starts behind the damage, or at the end, is told of it as well: "nothing" would be wrong.
test_behind_damage()
{
    seq -f 'record %g of a thousand' 1000 >in
    status "append" 0 "$twinlog" append behind <in
    sed 's/^record/entry/' in >behind.txt
    status "append more" 0 "$twinlog" append behind <behind.txt
    spoil behind 'record 500 '

    for options in '--from 1500' '--from 2001' '--reverse' '--follow --from 1500' '--mmap --from 2000'; do
        # shellcheck disable=SC2086
        status "cat $options" 3 timeout 60 "$twinlog" cat behind $options
        says "then the place" err "segment 1, $(basename "$file"), offset [0-9]+, LSN "
        : >want
        same "prints nothing that may be the wrong end" want out
    done
    status "cat with a cursor" 3 "$twinlog" cat behind --cursor consumer
    head -n 499 in >want
    same "prints what is before the damage" want out
    status "the list of cursors" 3 "$twinlog" cursors behind
    says "tells where the cursor stands" out '^consumer +499 '
    says "and that more may be behind it" err "segment 1, $(basename "$file"), offset [0-9]+, LSN "
}

test_killed()
{
    start_writer killed
    printf 'one\ntwo\n' >&3
    read -r lsn <&4
    read -r lsn <&4
    stop_writer KILL
    status "stat after kill -9" 0 "$twinlog" stat killed
    says "says that the log was not closed" out '^status +not closed'
    status "cat after kill -9" 0 "$twinlog" cat killed
    printf 'one\ntwo\n' >want
    same "has what was acknowledged" want out
    echo three >in
    status "append after kill -9" 0 "$twinlog" append killed --print-lsn <in
    says "goes on" out '^3$'
}

# ---- mapped ------------------------------------------------------------------------------------

test_mapped()
{
    seq 300000 >in
    status "append --mapped" 0 "$twinlog" append mapped --mapped --print-lsn <in
    same "prints each LSN" in out
    status "stat" 0 "$twinlog" stat mapped
    says "all of it is durable" out '^durable LSN +300000$'
    says "the log was closed" out '^status +closed cleanly$'
    says "the newest segment is a mapped one" out '^ +[0-9]+  active +mapped +1 +300000 '
    count "nobody writes it, in no mode" "$(grep -c '^mode' out)"
    holds "cat reads it" mapped 1 300000
    status "cat --mmap" 0 "$twinlog" cat mapped --mmap
    same "reads the same" in out
    status "verify" 0 "$twinlog" verify mapped
    says "counts the records" out '^sound: 300000 sound records, 0 findings$'
    status "stat --json" 0 "$twinlog" stat mapped --json
    says "tells the mode of each segment" out '"state":"active","mode":"mapped"'
    echo 300001 >in
    status "append without --mapped" 0 "$twinlog" append mapped --print-lsn <in
    says "goes on" out '^300001$'
    seq 300002 300010 >in
    status "append --mapped once more" 0 "$twinlog" append mapped --mapped <in
    holds "goes on, too" mapped 1 300010
    status "append nothing --mapped" 0 "$twinlog" append mapped --mapped --print-lsn </dev/null
    same "prints no LSN" /dev/null out

    seq 100000 | "$twinlog" append small --mapped --segment 64K --keep-records 1000
    status "stat of a mapped log with a limit" 0 "$twinlog" stat small
    says "has less than all" out '^first LSN +[1-9][0-9]+$'
    says "up to the end" out '^last LSN +100000$'
    head -c 20M /dev/zero >in
    status "append --mapped of a large record" 0 "$twinlog" append large --mapped --max-record 20M --null <in
    head -c 6M /dev/zero | tr '\0' x >in
    status "append --mapped of a line that is too large" 1 "$twinlog" append large --mapped <in
    says "names the line" err 'line 1 of the input is larger than the largest record'
}

test_mapped_killed()
{
    start_writer alive --mapped
    for line in 1 2 3; do
        echo "line $line" >&3
        lsn=none
        read -r lsn <&4
        count "the LSN of line $line is there before the next line" $((lsn != line))
        status "another process reads it" 0 "$twinlog" cat alive --from "$line"
        says "at once" out "^line $line\$"
    done
    status "stat beside the writer" 0 "$twinlog" stat alive
    says "sees it" out '^status +a process is writing it$'
    says "and its mode" out '^mode +mapped$'
    says "and the last record" out '^last LSN +3$'
    status "stat --json beside it" 0 "$twinlog" stat alive --json
    says "sees the mode" out '"has_writer":true,"mode":"mapped"'
    status "stat --live beside it" 1 "$twinlog" stat alive --live
    says "says why not" err 'mapped mode'
    status "stat --prometheus beside it" 0 "$twinlog" stat alive --prometheus
    says "has what the files tell" out '^twinlog_last_lsn\{dir="alive"\} 3$'
    says "and that nothing has failed" out '^twinlog_poisoned\{dir="alive"\} 0$'
    count "and no counters, which it does not have" "$(grep -c _total out)"
    status "verify beside it" 0 "$twinlog" verify alive
    stop_writer KILL
    status "stat after kill -9" 0 "$twinlog" stat alive
    says "says that the log was not closed" out '^status +not closed'
    status "cat after kill -9" 0 "$twinlog" cat alive
    printf 'line 1\nline 2\nline 3\n' >want
    same "has all that was written" want out
    echo 'line 4' >in
    status "append after kill -9" 0 "$twinlog" append alive --print-lsn <in
    says "goes on" out '^4$'
    status "verify after that" 0 "$twinlog" verify alive

    start_writer alive --mapped
    printf 'line 5\ncut off' >&3
    read -r lsn <&4
    stop_writer TERM
    count "append --mapped ends by the signal that it gets" $((got != 143))
    says "and says what is durable" alive.err 'LSN 5 of this run is durable'
    status "stat after the signal" 0 "$twinlog" stat alive
    says "the log was closed" out '^status +closed cleanly$'
}

test_mapped_full()
{
    seq 10 >in
    got=0
    subject="append --mapped under a limit on the size of files"
    # 1 MB: no mapped segment is so small
    (ulimit -f 2000 && exec "$twinlog" append narrow --mapped --print-lsn) <in >lsns 2>err || got=$?
    count "a mapped log that cannot grow ends with an error" $((got != 1))
    says "and the reason is there" err 'File too large'
    status "append once there is room" 0 "$twinlog" append narrow --mapped <in
    holds "has what was refused" narrow 1 10
}

# ---- shared ------------------------------------------------------------------------------------

# share LOG NAME...: processes append 100,000 lines each at the same time, with their names in front. got is how many
# of them failed.
share()
{
    log=$1
    got=0
    pids=
    shift
    for name in "$@"; do
        seq -f "$name %.0f" 100000 >"$name.in"
        "$twinlog" append "$log" --shared --print-lsn <"$name.in" >"$name.lsns" 2>"$name.err" &
        pids="$pids $!"
    done
    for pid in $pids; do
        wait "$pid" || got=$((got + 1))
    done
    subject="append --shared of $*"
}

test_shared()
{
    share shared left right
    count "two append --shared at once end well" "$got"
    [ "$got" = 0 ] || cat left.err right.err
    status "cat" 0 "$twinlog" cat shared
    paste left.lsns left.in >left.both
    paste right.lsns right.in >right.both
    sort -n left.both right.both | cut -f 2 >want
    same "has each line once, where its LSN says" want out
    sort -n left.lsns right.lsns >lsns
    seq 200000 >want
    same "no LSN is left out" want lsns
    grep '^left ' out >left.out
    same "the lines of one process are in their order" left.in left.out
    status "verify" 0 "$twinlog" verify shared
    says "counts the records" out '^sound: 200000 sound records, 0 findings$'
    status "stat" 0 "$twinlog" stat shared
    says "all of it is durable" out '^durable LSN +200000$'
    says "the log was closed" out '^status +closed cleanly$'
    seq 5 >in
    status "append without --shared" 0 "$twinlog" append shared --print-lsn <in
    says "goes on" out '^200005$'
    status "append --mapped --shared" 0 "$twinlog" append shared --mapped --shared --print-lsn <in
    says "goes on, too" out '^200010$'
}

test_shared_refusals()
{
    seq 5 >in
    start_writer beside --shared
    echo first >&3
    read -r lsn <&4
    status "stat beside a process that shares" 0 "$twinlog" stat beside
    says "sees it" out '^status +a process is writing it$'
    says "and its mode" out '^mode +shared$'
    status "stat --json beside it" 0 "$twinlog" stat beside --json
    says "sees the mode" out '"has_writer":true,"mode":"shared"'
    status "stat --live beside it" 1 "$twinlog" stat beside --live
    says "says why not" err 'mapped mode or the shared mode'
    for option in '' --mapped --buffered; do
        # shellcheck disable=SC2086 # words
        status "append ${option:-without --shared} beside it" 1 "$twinlog" append beside $option <in
        says "is told what to do" err 'use --shared here'
    done
    status "trim beside it" 1 "$twinlog" trim beside --before 1
    status "append --shared beside it" 0 "$twinlog" append beside --shared --print-lsn <in
    seq 2 6 >want
    same "has the next LSNs" want out
    echo last >&3
    read -r lsn <&4
    count "and the first one those after them" $((lsn != 7))
    stop_writer TERM
    count "append --shared ends by the signal that it gets" $((got != 143))
    says "and says what is durable" beside.err 'LSN 1 to 7 of this run are durable, with those of others'
    status "stat after the signal" 0 "$twinlog" stat beside
    says "the log was closed" out '^status +closed cleanly$'

    start_writer alone
    echo first >&3
    read -r lsn <&4
    status "append --shared beside one that does not share" 1 "$twinlog" append alone --shared <in
    says "is told what to do" err 'let that process use --shared, too'
    stop_writer TERM
}

test_shared_killed()
{
    start_writer killing --shared
    echo first >&3
    read -r lsn <&4
    yes | "$twinlog" append killing --shared --print-lsn >victim.lsns 2>/dev/null &
    victim=$!
    wait_until test -s victim.lsns
    kill -9 "$victim"
    wait "$victim" 2>/dev/null
    echo last >&3
    lsn=none
    read -r lsn <&4
    subject="append --shared beside one that was killed"
    count "goes on" "$(case $lsn in *[!0-9]*) echo 1 ;; *) echo 0 ;; esac)"
    wait_until "'$twinlog' cat killing >out 2>err && grep -q '^last\$' out"
    says "readers see what came after" out '^last$'
    known=$(wc -l <victim.lsns) # the last one may be cut off
    there=$(grep -c '^y$' out)
    count "all $known that were acknowledged are there" $((there < known))
    seq 5 >in
    status "append --shared after that" 0 "$twinlog" append killing --shared <in
    stop_writer KILL
    status "stat after kill -9 of all" 0 "$twinlog" stat killing
    says "says that the log was not closed" out '^status +not closed'
    status "append --shared after kill -9 of all" 0 "$twinlog" append killing --shared <in
    "$twinlog" cat killing 2>err | grep -vx y >out
    { echo first && echo last && cat in in; } >want
    same "and all is there" want out
    status "verify after that" 0 "$twinlog" verify killing
}

test_full()
{
    fill full 10
    { seq 11 1000 && head -c 1020000 /dev/zero | tr '\0' x && echo && seq 1001 1010; } >in
    got=0
    subject="append under a limit on the size of files"
    # 1 MB: segments are made smaller, but none can be as small as the long line
    (ulimit -f 2000 && exec "$twinlog" append full --print-lsn) <in >lsns 2>err || got=$?
    count "a log that cannot grow ends with an error" $((got != 1))
    says "and the reason is there" err 'File too large'
    says "and which line was refused" err 'line [0-9]+ of the input was not appended, nor was what comes after it'
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
    for command in cat stat verify cursors meta probe 'cat --reverse' 'cat --follow' 'trim --before 2'; do
        got=0
        # shellcheck disable=SC2086 # words
        "$twinlog" $command shown >/dev/full 2>err || got=$?
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

# refuses COMMAND OPTIONS...: the command is used wrongly with each of these, of the log "used".
refuses()
{
    command=$1
    shift
    for options in "$@"; do
        # shellcheck disable=SC2086 # words
        status "$command $options" 2 "$twinlog" "$command" used $options </dev/null
    done
}

test_usage()
{
    fill used 3
    status "no command" 2 "$twinlog"
    status "no such command" 2 "$twinlog" mend used
    says "names it" err "'mend'"
    commands='append cat stat verify trim reset cursors meta backup repair archive restore bench probe'
    for command in $commands; do
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
    for command in $commands; do
        says "lists $command" out "^  $command "
    done
    status "help" 0 "$twinlog" help
    says "is --help" out '^  cat  '
    status "help cat" 0 "$twinlog" help cat
    says "is cat --help" out '^Usage: twinlog cat DIR'
    status "help nothing" 2 "$twinlog" help nothing
    status "--version" 0 "$twinlog" --version
    says "shows the version" out '^twinlog [0-9]+\.[0-9]+\.[0-9]+$'

    refuses append '--null --framed' '--mapped --pad' '--io tape' '--segment 100000' --max-record '--prepare well' \
        '--keep-bytes 0' '--keep-records 0' '--keep-time 0s' '--keep-time 5' '--shared --pad'
    says "names both" err '--shared and --pad'
    for limit in '--keep-bytes 1M' '--keep-records 1' '--keep-time 1h'; do
        refuses append "--shared $limit"
        says "says what to do instead" err 'twinlog trim'
    done
    refuses bench '--mapped --segment 2G' '--processes 0' '--processes 256' '--processes 2 --segment 2G' '--threads 0'
    refuses cat '--null --json' '--from 0' '--from 3 --to 2' '--from 1 --since 1d' '--since 1d --cursor a' \
        '--cursor a --from 1' '--reverse --follow' '--reverse --cursor a' '--follow --null --json'
    for number in -1 ' 1' x 1X 1KB 99999999999999999999 99999999999999999G ''; do
        status "cat --from '$number'" 2 "$twinlog" cat used --from "$number"
    done
    name=$(printf 'one\nline\033[31m')
    status "a strange name in a message" 1 "$twinlog" cat "$name"
    says "cannot change the terminal, nor begin a line" err "^twinlog cat: .*'one\?line\?\[31m'"
    refuses stat '--interval 1' '--live --interval 0' '--live --interval 1s' '--live --interval nan' \
        '--live --interval 1e9' '--live --all' '--prometheus --live' '--prometheus --json' '--prometheus --all'
    for time in '' 5 5x 5mm -5m 10:00 '2026-11-20 ' 2026-11-20T10 2026-11-20X10:00 2026-02-29T10:00 \
        2026-13-01T10:00 2026-00-10T10:00 2026-11-31T10:00 2026-11-20T24:00 2026-11-20T10:60 2026-11-20T10:00:60 \
        2026-11-20T10:00:00. 2026-11-20T10:00Zz 2026-11-20T10:00+0100 2026-11-20T10:00+24:00 26-11-20T10:00 \
        '20 6-11-20 10:00' 2400-01-01T00:00Z 99999999999999999999s 300000d; do
        status "cat --since '$time'" 2 "$twinlog" cat used --since "$time"
        says "shows what it takes" err "2026-11-20T10:00:00Z"
    done

    refuses trim '' '--json' '--past-cursors' '--after 1 --before 2' '--after 1 --past-cursors' '--before 0' \
        '--after -1' '--after 9223372036854775808' '--keep-bytes 0' '--keep-records 0' '--keep-time' '--keep-time 1y'
    refuses reset '--force' '--next 0' '--force --next 9223372036854775808'
    long=$(seq -s x 100 | head -c 64)
    refuses cursors '--set a' '--set a=' '--set a=x' '--set =1' "--set $long=1" '--remove' "--remove $long" \
        '--set a=1 --remove a' '--set a=1 --set b=1' '--remove a --json'
    refuses meta "--get $long" '--get a --set b' '--set a --set b' '--value b' '--get a --value b' \
        '--remove a --value b' '--get a --json'
    status "meta --set of an empty name" 2 "$twinlog" meta used --set '' --value 1
    for command in backup repair; do
        status "$command without --output" 2 "$twinlog" "$command" used
        says "asks for it" err '--output NEW'
        status "$command to an empty name" 2 "$twinlog" "$command" used --output ''
        status "$command of two directories" 2 "$twinlog" "$command" used new --output other
    done
    holds "the log is as it was" used 1 3
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
test_stat_segments
test_stat_live
test_bench_and_probe
test_trim
test_trim_held
test_cut
test_reset
test_cursors
test_meta
test_backup
test_repair
test_slow_pipe
test_follow
test_cat_cursor
test_beside_writer
test_million
test_missing
test_foreign
test_too_large
test_damage
test_behind_damage
test_killed
test_mapped
test_mapped_killed
test_mapped_full
test_shared
test_shared_refusals
test_shared_killed
test_full
test_permissions
test_output
test_usage

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
