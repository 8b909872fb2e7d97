#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# modes.sh TWINLOG: logs in the mapped and in the shared mode, by the command.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

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

# stat_tells LOG MODE: of a process that writes in that mode. out is what it says.
stat_tells()
{
    status "stat --json beside it" 0 "$twinlog" stat "$1" --json
    says "sees the mode" out '"has_writer":true,"mode":"'"$2"'"'
    "$twinlog" top "$1" --json --interval 0.05 >live.json 2>live.err &
    live=$!
    wait_until 'grep -q "\"has_writer\":true,\"is_idle\":true,.*\"appends\":[1-9]" live.json'
    count "top beside it" $?
    kill "$live"
    wait "$live" 2>/dev/null
    status "stat beside a writer in this mode" 0 "$twinlog" stat "$1"
    says "sees it" out '^status +a process is writing it$'
    says "and its mode" out "^mode +$2\$"
}

test_mapped_killed()
{
    start_writer alive --mapped
    three_lines alive
    stat_tells alive mapped
    says "and the last record" out '^last LSN +3$'
    status "stat --prometheus beside it" 0 "$twinlog" stat alive --prometheus
    says "has what the files tell" out '^twinlog_last_lsn\{dir="alive"\} 3$'
    says "and that nothing has failed" out '^twinlog_poisoned\{dir="alive"\} 0$'
    says "and counters" out '^twinlog_appends_total\{dir="alive"\} 3$'
    says "and that it has them" out '^twinlog_counters_up\{dir="alive"\} 1$'
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
    count "a mapped log that cannot grow ends with an error" $((got != 6))
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
    stat_tells beside shared
    for option in '' --mapped --buffered; do
        # shellcheck disable=SC2086 # words
        status "append ${option:-without --shared} beside it" 7 "$twinlog" append beside $option <in
        says "is told what to do" err 'use --shared here'
    done
    status "trim beside it" 1 "$twinlog" trim beside --after 0
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
    status "append --shared beside one that does not share" 7 "$twinlog" append alone --shared <in
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

test_mapped
test_mapped_killed
test_mapped_full
test_shared
test_shared_refusals
test_shared_killed

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
