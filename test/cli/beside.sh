#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# beside.sh TWINLOG: what the command shows, follows and refuses while another process writes the log.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

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

test_top()
{
    subject='top'
    start_writer watched
    written first
    "$twinlog" top watched --interval 0.05 >live.lines 2>live.err &
    live=$!
    got=0
    rates='^ +[1-9][0-9]* +0\.[0-9]+ +[1-9][0-9]* +[0-9.]+ +[1-9][0-9]* .* [1-9][0-9]*$'
    write_until live.lines 4 "$rates" || got=1
    count "top prints lines while a process writes" "$got"
    end_live TERM
    count "a signal ends it in good order" "$got"
    same "without complaints" /dev/null live.err
    says "has a heading" live.lines '^ +appends/s +MB/s +groups/s +rec/grp +syncs/s +write p50 .* age s +durable LSN$'
    says "and rates" live.lines "$rates"

    "$twinlog" top watched --json --interval 0.05 >live.json 2>live.err &
    live=$!
    got=0
    write_until live.json 3 '"is_idle":false,.*"appends_per_second":[1-9].*"write":\{"count":[1-9]' || got=1
    count "top --json prints objects" "$got"
    end_live TERM
    says "with rates" live.json '"has_writer":true,"is_idle":false,.*"appends_per_second":[1-9]'
    says "latencies of each stage" live.json '"latency_us":\{"queue":.*"write":\{"count":[1-9][0-9]*,"p50":[0-9.]+,'
    says "and watermarks" live.json '"durable_lsn":[1-9]'
    got=0
    ! command -v jq >/dev/null || jq -e . live.json >/dev/null || got=1
    count "each of them JSON" "$got"

    status "stat --prometheus beside a writer" 0 "$twinlog" stat watched --prometheus
    says "sees it" out '^twinlog_writer_up\{dir="watched"\} 1$'
    says "and its counters" out '^twinlog_counters_up\{dir="watched"\} 1$'
    says "as they are now" out '^twinlog_appends_total\{dir="watched"\} [1-9][0-9]*$'
    says "with their types" out '^# TYPE twinlog_appends_total counter$'
    says "has histograms" out '^twinlog_group_write_seconds_bucket\{dir="watched",le="\+Inf"\} [1-9][0-9]*$'
    check_exposition out
    series out >series.busy
    says "says when the newest record came" out '^twinlog_newest_record_timestamp_seconds\{dir="watched"\} 1[0-9]{9}\.[0-9]{3}$'
    rm -f live.json
    "$twinlog" top watched --json --interval 0.05 >live.json 2>live.err &
    live=$!
    # shellcheck disable=SC2016
    wait_until 'grep -q "\"is_idle\":true,\"newest_lsn\":$lsn,.*\"newest_age_seconds\":[0-9.]*.*\"appends_per_second\":0[.0]*," live.json'
    count "top says how old the newest record of an idle writer is" $?
    written another
    # shellcheck disable=SC2016
    wait_until 'grep -q "\"newest_lsn\":$lsn,.*\"durable_lsn\":$lsn,\"" live.json'
    count "and sees the next one" $?
    end_live TERM

    rm -f live.json
    "$twinlog" top watched --json --interval 0.05 >live.json 2>live.err &
    live=$!
    wait_until live_lines live.json 1
    count "top beside a writer with a disk that then fails" $?
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
    "$twinlog" top watched --interval 0.05 >live.lines 2>live.err &
    live=$!
    got=0
    wait_until live_lines live.lines 1 || got=1
    count "top of a log that nobody writes" "$got"
    says "says so, and what was last" live.lines "^watched: no process is writing it; newest durable record: LSN $lsn, [0-9.]+ s ago\$"
    end_live TERM
    status "stat --prometheus without a writer" 0 "$twinlog" stat watched --prometheus
    says "says so" out '^twinlog_writer_up\{dir="watched"\} 0$'
    says "and tells what the files say" out '^twinlog_last_lsn\{dir="watched"\} [1-9][0-9]*$'
    series out >series.gone
    same "and has the same series" series.busy series.gone
    says "with counters that begin again" out '^twinlog_appends_total\{dir="watched"\} 0$'
    check_exposition out
    status "top of nothing" 1 "$twinlog" top nothing
    status "stat --prometheus of nothing" 1 "$twinlog" stat nothing --prometheus

    mkdir quotes
    name='quotes/a "b" \c'
    fill "$name" 3
    status "stat --prometheus of a strange name" 0 "$twinlog" stat "$name" --prometheus
    says "escapes it" out '^twinlog_last_lsn\{dir="quotes/a \\"b\\" \\\\c"\} 3$'
    name=$(printf 'quotes/\303\244\377z')
    fill "$name" 3
    status "stat --prometheus of a name that is not UTF-8" 0 "$twinlog" stat "$name" --prometheus
    printf 'twinlog_last_lsn{dir="quotes/\303\244\357\277\275ffz"} 3\n' >want
    grep -a '^twinlog_last_lsn' out >line
    same "has U+FFFD and the byte for what is not" want line

    # A collector refuses a page with two series that have the same labels.
    fill cursored 3
    for cursor in '\376' '\377' '\357\277\275' '\357\277\275ff'; do
        # shellcheck disable=SC2059 # it is a format
        "$twinlog" cursors cursored --set "$(printf "$cursor")=1" >out || return
    done
    status "stat --prometheus of cursors that are not UTF-8" 0 "$twinlog" stat cursored --prometheus
    count "each has a label of its own" $(($(grep -a '^twinlog_cursor_lag_records' out | sort -u | wc -l) != 4))
    iconv -f UTF-8 -t UTF-8 out >converted 2>&1
    count "which is UTF-8" $?
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

test_slow_pipe()
{
    start_writer slow
    three_lines slow
    status "stat beside the writer" 0 "$twinlog" stat slow
    says "sees it" out '^status +a process is writing it$'
    says "and what is durable" out '^durable LSN +3$'
    count "and tells of no dead writer" "$(grep -cE '^(recovery|place|detail) ' out)"
    status "verify beside the writer" 0 "$twinlog" verify slow
    status "a second writer" 7 "$twinlog" append slow </dev/null
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

# Whether a process writes it decides what is to be done about damage: it must go on.
test_damage()
{
    seq 20000 | "$twinlog" append hurt --segment 64K
    start_writer hurt --segment 64K
    written last
    status "stat beside a writer" 0 "$twinlog" stat hurt
    says "has its process" out "^process +$writer\$"
    status "with --json" 0 "$twinlog" stat hurt --json
    says "too" out "\"has_writer\":true,\"mode\":\"durable\",\"writer_pid\":$writer,"

    old=$(find hurt -name '*.twl' | sort | sed -n 3p)
    mv "$old" away
    damaged_beside_writer "an old segment"
    mv away "$old"
    mv hurt/state away
    damaged_beside_writer "the state file"
    rm -f live.lines
    "$twinlog" top hurt --interval 0.05 >live.lines 2>live.err &
    live=$!
    wait_until live_lines live.lines 4
    count "top goes on" $?
    end_live TERM
    says "says what is wrong" live.lines '^hurt: .*; its records cannot be read: acknowledged data is damaged$'
    count "once" $(($(grep -c '^hurt: ' live.lines) != 1))
    says "and knows no age" live.lines '^ +[0-9]+ .* - +20001$'

    poison hurt
    status "stat of a poisoned log without its state file" 3 "$twinlog" stat hurt
    says "says so" out '^status +POISONED: '
    stop_writer KILL
    status "stat when the writer is gone" 3 "$twinlog" stat hurt
    says "says so" out '^status +no process is writing it$'
    count "and has no process" "$(grep -c '^process' out)"
    says "and what to do" err 'repair'
    mv away hurt/state

    start_writer hurt --segment 64K
    written last
    mkdir gone
    mv hurt/state hurt/*.twl gone
    status "stat where all is gone but the lock" 1 "$twinlog" stat hurt
    says "says that it is written" out '^status +a process is writing it$'
    says "and not to stop it" err 'do not stop it'
    stop_writer KILL
    mv gone/* hurt

    for mode in mapped shared; do
        start_writer hurt --segment 64K --$mode
        written last
        mv hurt/state away
        status "stat of a $mode log without the state file" 3 "$twinlog" stat hurt
        says "says that it is written" out '^status +a process is writing it$'
        says "and not to stop it" err 'do not stop it'
        mv away hurt/state
        stop_writer KILL
    done

    status "stat of no log" 1 "$twinlog" stat nothing
    same "has nothing to say of a writer" /dev/null out
}

# damaged_beside_writer WHAT: it is gone.
damaged_beside_writer()
{
    status "stat without $1" 3 "$twinlog" stat hurt
    says "says that it is written" out '^status +a process is writing it$'
    says "by which process" out "^process +$writer\$"
    says "and not to stop it" err 'do not stop it'
    status "stat --json without $1" 3 "$twinlog" stat hurt --json
    says "has both, and the damage" out \
        "^\{\"directory\":\"hurt\",\"has_writer\":true,\"writer_pid\":$writer,\"poison\":0,\"report\":\{\"finding\":\"(missing-segment|bad-state)\""
}

# begins_at LOG LSN
begins_at() { "$twinlog" stat "$1" | grep -Eq "^first LSN +$2\$"; }

# begins_behind LOG LSN
begins_behind() { "$twinlog" stat "$1" | awk -v lsn="$2" '/^first LSN/ { ok = $3 > lsn } END { exit !ok }'; }

test_trim()
{
    start_writer trimmed --segment 64K
    for i in $(seq 20); do # four or five fill a segment
        written "$(printf '%012000d' "$i")"
    done
    "$twinlog" cursors trimmed --set slow=12
    status "trim beside the writer" 0 "$twinlog" trim trimmed --before 10
    says "says what the writer has removed" out '^Removed 9 records and [1-9].*begins at LSN 10'
    status "up to a cursor" 0 "$twinlog" trim trimmed --keep-records 1 --json
    says "that holds the rest" out '"first_lsn":13,.*"held_by":"cursor","holder":"slow"'
    status "without waiting" 0 "$twinlog" trim trimmed --before 18 --past-cursors --no-wait
    wait_until begins_at trimmed 18
    count "the writer does it by itself" $?
    status "trim where there is nothing to remove" 0 "$twinlog" trim trimmed --before 3
    written last
    "$twinlog" cursors trimmed --remove slow
    status "from now on" 0 "$twinlog" trim trimmed --keep-records 4 --keep-time 7d --always
    for i in $(seq 20); do
        written "$(printf '%012000d' "$i")"
    done
    wait_until begins_behind trimmed 30
    count "the writer keeps a limit that was set while it wrote" $?
    status "stat" 0 "$twinlog" stat trimmed
    says "shows the limits" out '^limits +keep_age_ms 604800000, keep_records 4$'
    status "a time that is no limit" 2 "$twinlog" trim trimmed --keep-time 0 --always
    status "no limit" 1 "$twinlog" meta trimmed --set twinlog.keep_bytes --value 10G
    says "says how to set one" err 'trim DIR --keep-bytes 10G --always'
    status "from the end" 1 "$twinlog" trim trimmed --after 40
    says "only while nobody writes" err 'busy'
    kill -STOP "$writer"
    status "a writer that is stopped" 0 "$twinlog" trim trimmed --before 41 --past-cursors --no-wait
    kill -CONT "$writer"
    wait_until begins_at trimmed 41
    count "does it when it goes on" $?
    stop_writer KILL
    status "trim behind a writer that was killed" 0 "$twinlog" trim trimmed --keep-records 1
    status "and the log is sound" 0 "$twinlog" verify trimmed
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
    says "is told that there is one" err "a consumer of this name is open"
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

# shows LOG COUNT: cat prints so many records.
shows() { [ "$("$twinlog" cat "$1" | wc -l)" = "$2" ]; }

# kilobytes FIELD: of the writer's memory.
kilobytes() { sed -n "s/^$1:[[:space:]]*\([0-9]*\) kB/\1/p" "/proc/$writer/status"; }

# Its LSNs are more than their pipe takes, so it waits in a write of them for as long as this lasts.
test_unread_lsns()
{
    subject='append, and nobody reads the LSNs'
    start_writer unread
    seq 40000 >&3
    got=0
    wait_until shows unread 40000 || got=1
    count "its records become durable all the same" "$got"

    before=$(kilobytes VmRSS)
    n=40000
    while [ "$n" -lt 140000 ]; do
        n=$((n + 1))
        echo "$n"
    done >&3
    wait_until shows unread 140000 || count "and so do those that come one by one" 1
    if [ "$(kilobytes VmSize)" -gt 1000000000 ]; then
        skip "the memory of LSNs that nobody reads" "a sanitizer has its own"
    else
        count "and their LSNs take no memory each" $(($(kilobytes VmRSS) - before > 20000))
    fi
    stop_writer KILL
    holds "after a kill they are there" unread 1 140000
}

test_beside_writer()
{
    fill busy 10
    start_writer busy
    append_line eleven
    for command in 'trim busy --after 5' 'reset busy --next 5 --force'; do
        # shellcheck disable=SC2086 # words
        status "$command beside a writer" 1 "$twinlog" $command
        says "says why" err "another writer has this log open \\(process $writer\\)"
        says "and what to do" err 'stop it and try again'
    done
    status "repair beside a writer" 1 "$twinlog" repair busy --output busy.new
    says "says what to do" err 'do not stop it. Copy the directory'
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

test_top
test_slow_pipe
test_damage
test_trim
test_follow
test_cat_cursor
test_unread_lsns
test_beside_writer

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
