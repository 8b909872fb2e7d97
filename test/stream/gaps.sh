#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# gaps.sh TWINLOG NATS_PEER: streams that have lost messages between others, as to a damaged store or a hand. The shipper
# names the records and publishes them again, and a receiver passes the gap as its message says.
# shellcheck source=test/stream/server.sh
. "$(dirname "$0")/server.sh"
start_server
ship() { timeout 60 "$twinlog" ship "$@"; }
receive() { timeout 60 "$twinlog" receive "$@"; }

# is_copy NAME DIR LOG: the directory has the records of the log.
is_copy()
{
    "$twinlog" cat "$3" --json >expected
    "$twinlog" cat "$2" --json >found
    same "$1" expected found
}

# begin_stream NAME: a log of 40 records, and its stream.
begin_stream()
{
    seq -f 'record %g' 40 | "$twinlog" append "$1"
    ship "$1" "$url/$1" --once -q
}

# ---- each message can be lost -------------------------------------------------------------------

# The first one is told in another way (lost.sh), and the newest is published again without a word.
for lost in 2 3 20 38 39; do
    log=lost-$lost
    begin_stream $log
    receive "$url/$log" $log.early --once -q
    peer remove $log $lost
    status "a stream without message $lost" 3 ship $log "$url/$log" --once -q
    says "is told, also with -q" err "LSN $lost \\(1 record\\) is missing in the middle of the stream"
    status "which was mended" 0 ship $log "$url/$log" --once --json
    says "so it is told once" out '"published_records":0,'
    status "a receiver that is new" 0 receive "$url/$log" $log.new --once
    is_copy "gets all" $log.new $log
    status "one that had all" 0 receive "$url/$log" $log.early --once
    is_copy "gets nothing twice" $log.early $log
    seq -f 'record %g' 41 50 | "$twinlog" append $log
    status "the shipper goes on" 0 ship $log "$url/$log" --once
    for replica in new early; do
        status "and so does a receiver" 0 receive "$url/$log" $log.$replica --once
        is_copy "to the end" $log.$replica $log
    done
done

begin_stream two
peer remove two 10
peer remove two 30
status "a stream with two gaps" 3 ship two "$url/two" --once
says "names the first one" err 'LSN 10 \(1 record\) is missing'
status "is mended at once" 0 ship two "$url/two" --once
peer remove two 5
status "and a third one" 3 ship two "$url/two" --once
says "is told, too" err 'LSN 5 \(1 record\) is missing'
peer remove two 100
status "and one in what was published again" 3 ship two "$url/two" --once
says "is one, too" err 'missing in the middle'
status "a receiver" 0 receive "$url/two" two.back --once
is_copy "gets all" two.back two

# A server may remember for long which ids it had: that keeps no record out.
peer make remembering remembering
begin_stream remembering
peer remove remembering 20
status "a gap in a stream that remembers ids" 3 ship remembering "$url/remembering" --once
says "is told" err 'LSN 20 \(1 record\) is missing in the middle'
status "and was mended" 0 ship remembering "$url/remembering" --once --json
says "at once" out '"published_records":0,'
status "a receiver" 0 receive "$url/remembering" remembering.back --once
is_copy "gets all" remembering.back remembering

# ---- old gaps that have left the stream ---------------------------------------------------------

# A stream removes its first messages by their age, and old gaps with them: as many new ones are gaps, too.
begin_stream aged
# shellcheck disable=SC2016
peer make readings '$JS.EVENT.ADVISORY.CONSUMER.CREATED.aged.>'
peer age aged 86400
peer remove aged 10
status "a gap" 3 ship aged "$url/aged" --once -q
status "is mended" 0 ship aged "$url/aged" --once -q
readings=$(peer count readings)
[ "$readings" -ge 2 ]
count "after a reading each" $?
seq -f 'record %g' 41 60 | "$twinlog" append aged
status "the shipper goes on" 0 ship aged "$url/aged" --once -q
[ "$(peer count readings)" = "$readings" ]
count "without a reading, as the stream has lost nothing since" $?
peer drop aged 20
peer remove aged 83
status "the first messages have gone, and one in the middle" 3 ship aged "$url/aged" --once -q
says "is told" err 'LSN 52 \(1 record\) is missing in the middle of the stream'
status "it was published again" 0 ship aged "$url/aged" --once --json
says "once" out '"published_records":0,'
peer cat aged | cut -f1 | tail -n 9 >found
seq 52 60 >expected
same "with what is behind it" found expected

# ---- a shipper that follows ---------------------------------------------------------------------

begin_stream follow
timeout --foreground 120 "$twinlog" ship follow "$url/follow" -q 2>err &
shipper=$!
# shellcheck disable=SC2016 # wait_until evaluates it
wait_until '"$twinlog" cursors follow | grep -q "ship"'
peer remove follow 20
wait_until 'grep -q "LSN 20 (1 record) is missing in the middle" err'
count "a shipper that has nothing to do looks now and then" $?
wait_until has_shipped follow 61
count "and publishes again" $?
kill -TERM $(pgrep -P $shipper)
wait $shipper
count "its status says so at the end" $(($? != 3))

# ---- what the log does not have any more --------------------------------------------------------

begin_stream trimmed
"$twinlog" cursors trimmed >before
"$twinlog" trim trimmed --before 31 >out
peer remove trimmed 20
status "a message that is lost for good" 3 ship trimmed "$url/trimmed" --once --json
says "is told" err 'LSN 20 \(1 record\) was shipped, and has been removed from the stream.*--skip-trimmed'
says "with its LSN" out '"lost_first_lsn":20,"lost_last_lsn":20,'
"$twinlog" cursors trimmed >after
same "and the cursor stays" before after
status "again" 3 ship trimmed "$url/trimmed" --once
advises err 'To go on with what follows, use --skip-trimmed.'
status "as was advised" 0 ship trimmed "$url/trimmed" --once --skip-trimmed
status "is enough once" 0 ship trimmed "$url/trimmed" --once

begin_stream passed
"$twinlog" trim passed --before 31 >out
peer remove passed 20
ship passed "$url/passed" --once --skip-trimmed -q 2>err
peer remove passed 25
status "another message, behind the one that was passed" 3 ship passed "$url/passed" --once
says "is told alone" err 'LSN 25 \(1 record\) was shipped, and has been removed from the stream'
peer remove passed 35
status "and one that the log still has" 3 ship passed "$url/passed" --once --skip-trimmed
says "is told, too" err 'LSN 35 \(1 record\) is missing in the middle of the stream'
status "and published again" 0 ship passed "$url/passed" --once --json
says "once" out '"published_records":0,'

# ---- a receiver in front of a gap ---------------------------------------------------------------

status "a receiver" 3 receive "$url/trimmed" back --once --json
says "ends in front of the gap" out '"last_lsn":19,.*"lost_first_lsn":20,"lost_last_lsn":20,'
says "and advises" err '--skip-lost.*--from 21'
status "again" 3 receive "$url/trimmed" back --once
advises err 'To go on without them, use --skip-lost, or begin a new directory with --from '
status "as was advised" 0 receive "$url/trimmed" back --once --skip-lost
says "is told" err 'LSN 20: missing in the stream, going on'
"$twinlog" cat back >found
seq -f 'record %g' 40 | grep -v -x 'record 20' >expected
same "gets all but this one" expected found
status "and from then on as ever" 0 receive "$url/trimmed" back --once
status "the log is sound" 0 "$twinlog" verify back
status "a new directory, as was advised" 0 receive "$url/trimmed" behind --once --from 21
"$twinlog" cat behind >found
seq -f 'record %g' 21 40 >expected
same "begins behind the gap" expected found
status "--from is for a log without records" 0 receive "$url/trimmed" behind --once --from 30
"$twinlog" cat behind >found
same "and says nothing to another one" expected found

# A replica that followed until the gap, and a log of another writer that begins there.
begin_stream other
receive "$url/other" other.back --once -q
seq -f 'record %g' 41 80 | "$twinlog" append other
ship other "$url/other" --once -q
"$twinlog" trim other --before 75 >out
for i in $(seq 38 60); do peer remove other "$i"; done
status "the replica's last record is missing, and the history behind it unknown" 3 \
    receive "$url/other" other.back --once --skip-lost
says "says what helps" err 'nothing shows that LSN 61 of the stream is of the same history.*--from 61'
advises err ': receive into a new directory, with --from '
status "as was advised" 0 receive "$url/other" other.new --once --from 61
"$twinlog" cat other.new >found
seq -f 'record %g' 61 80 >expected
same "the new directory has the rest" expected found

# What the log still has.
begin_stream again
peer remove again 20
status "a receiver in front of what the log still has" 3 receive "$url/again" again.back --once
advises err "'twinlog ship' publishes them again, if the log still has them."
ship again "$url/again" --once -q 2>err
status "then" 0 receive "$url/again" again.back --once
is_copy "it gets all" again.back again

# ---- what a receiver has appended a moment ago, and not synced yet ------------------------------

# The records of a gap were published again, and then the first messages aged away: the second ones are older.
begin_stream twice
peer remove twice 10
ship twice "$url/twice" --once -q 2>err
peer drop twice 20
status "messages that the session has just received come once more" 0 receive "$url/twice" twice.back --once
"$twinlog" cat twice.back >found
seq -f 'record %g' 21 40 >expected
same "and are taken once" found expected

begin_stream holes
peer remove holes 10
peer remove holes 20
status "two gaps in one session" 0 receive "$url/holes" holes.back --once --skip-lost
"$twinlog" cat holes.back >found
seq -f 'record %g' 40 | grep -v -x -e 'record 10' -e 'record 20' >expected
same "are passed both" found expected

# ---- a receiver that follows, behind gaps --------------------------------------------------------

begin_stream behind_gaps
peer remove behind_gaps 10
peer remove behind_gaps 20
peer remove behind_gaps 30
timeout --foreground 120 "$twinlog" receive "$url/behind_gaps" gaps.back --skip-lost -q 2>err &
receiver=$!
# shellcheck disable=SC2016 # wait_until evaluates it
wait_until '"$twinlog" cat gaps.back 2>/dev/null | grep -q -x "record 40"'
count "a receiver that follows passes three gaps" $?
# shellcheck disable=SC2016 # the same
wait_until '[ "$(peer consumers behind_gaps)" = 1 ]'
count "and has one subscription then" $?
kill -TERM $(pgrep -P $receiver)
wait $receiver
count "it ends" $?

# ---- a large gap --------------------------------------------------------------------------------

begin_stream large
receive "$url/large" large.back --once -q
seq 41 1200000 | "$twinlog" append large -q
"$twinlog" trim large --before 1150000 --past-cursors >out
ship large "$url/large" --once -q --skip-trimmed 2>err
status "more than a million records that were trimmed" 3 receive "$url/large" large.back --once
says "are too many fillers" err 'more than 1000000: .*--skip-lost, or begin a new directory with --from 1[0-9]{6}'
advises err 'to make a filler of each of them, with 24 bytes, use --skip-lost, or begin a new directory with --from '
from=$(sed -E 's/.*--from ([0-9]+).*/\1/' err)
status "with the word of the operator" 0 receive "$url/large" large.back --once --skip-lost
status "or in a new directory" 0 receive "$url/large" large.new --once --from "$from"
"$twinlog" cat large >expected
"$twinlog" cat large.new >found
same "the stream's records are there" expected found
"$twinlog" cat large.back --from "$from" >found
same "in both" expected found

# ---- the newest message is removed before it is delivered -----------------------------------------

# 'receive --once' is delayed at one of its requests behind the look for the end of the stream; meanwhile the newest
# message is removed.
if strace -o strace.out true 2>/dev/null; then
    for request in 6 7; do
        begin_stream shorter-$request
        strace -f -qq -o strace.out -e trace=sendto -e inject=sendto:delay_enter=3000000:when=$request \
            timeout --foreground 30 "$twinlog" receive "$url/shorter-$request" shorter.$request --once >out 2>err &
        receiver=$!
        # shellcheck disable=SC2016 # wait_until evaluates it
        wait_until '[ "$(grep -c "sendto(" strace.out)" -ge '$((request - 1))' ]'
        peer delete shorter-$request 1
        subject="receive --once, delayed at request $request while the last message is removed"
        got=0
        wait $receiver || got=$?
        count "ends" $got
        "$twinlog" cat shorter.$request | head -n 39 >found
        seq -f 'record %g' 39 >expected
        same "and has what is left" expected found
    done
else
    skip "a message that is removed while a receiver begins" "strace is missing, or may not trace"
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
