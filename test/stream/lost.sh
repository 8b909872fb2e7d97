#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lost.sh TWINLOG NATS_PEER: streams that are emptied, lost, made anew, or full, while the shipper was away. What is lost
# for good is told with its LSNs, and each record gets to the stream once, also if the stream has no message any more.
# shellcheck source=test/stream/server.sh
. "$(dirname "$0")/server.sh"
start_server
ship() { timeout 60 "$twinlog" ship "$@"; }

# lose_store: the server comes back with no stream at all.
lose_store()
{
    kill_server
    rm -rf jetstream
    start_server
}

# A stream that is gone, of a log that does not have all of it any more.
seq 100 | "$twinlog" append log
status "a stream" 0 ship log "$url/log" --once
lose_store
"$twinlog" trim log --before 39 >out
status "that the server has lost" 3 ship log "$url/log" --once -q
says "is told, also with -q" err 'LSN 1 to 38 \(38 records\) were shipped, and have been removed from the stream'
status "and with --json" 3 ship log "$url/log" --once -q --json
says "too" out '"lost_first_lsn":1,"lost_last_lsn":38,.*"trimmed_records":38,'
[ "$(peer count log)" = 0 ]
count "nothing was published" $?
status "goes on if asked to" 0 ship log "$url/log" --once --skip-trimmed
equal "with what the log has" log log
seq 101 110 | "$twinlog" append log
status "and from then on as ever" 0 ship log "$url/log" --once --json
says "with nothing lost" out '"published_records":10,.*"lost_first_lsn":0,"lost_last_lsn":0,'
status "a log of that stream" 0 timeout 60 "$twinlog" receive "$url/log" back --once -q --json
says "says what it lacks, also with -q" err "the stream has nothing of LSN 1 to 38.*: the log in 'back' begins with LSN 39"
says "and with --json" out '"lost_first_lsn":1,"lost_last_lsn":38,'

# A log that has all of it.
seq 100 | "$twinlog" append whole
ship whole "$url/whole" --once -q
lose_store
status "a stream of which the log has everything" 0 ship whole "$url/whole" --once
says "is published again, and a note says so" err 'note: all messages were lost with the stream: they are published again'
equal "the whole log" whole whole

# A stream that is removed while its shipper waits for records.
seq 100 | "$twinlog" append idle
timeout --foreground 60 "$twinlog" ship idle "$url/idle" >out 2>err &
shipper=$!
wait_until has_shipped idle 100
peer end idle
wait_until has_shipped idle 100
count "a stream that is removed below an idle shipper is filled again" $?
says "which is told" err 'note: all messages were lost with the stream: they are published again'
kill "$shipper"
wait "$shipper"
count "and the shipper goes on" $?
equal "with the whole log" idle idle

# The log gets another name below its shipper, and a backup, or another log, its own.
timeout --foreground 60 "$twinlog" ship idle "$url/idle" -q >out 2>err &
shipper=$!
seq 101 110 | "$twinlog" append idle
wait_until has_shipped idle 110
"$twinlog" backup idle --output idle.new >backup.out
mv idle idle.old && mv idle.new idle
seq 111 120 | "$twinlog" append idle
wait_until has_shipped idle 120
count "a shipper goes on with a backup in the place of its log" $?
mv idle idle.older
seq 121 130 | "$twinlog" append idle
wait "$shipper"
count "and ends, with 3, where another log is ($?)" $(($? != 3))
says "and says why" err 'is another log than at the start: nothing of it is shipped'

# The log is removed below its receiver.
timeout --foreground 60 "$twinlog" receive "$url/idle" received -q >out 2>err &
receiver=$!
has_received() { "$twinlog" cat received 2>/dev/null | grep -qx 120; }
wait_until has_received
rm -r received
seq 131 140 | "$twinlog" append idle.older
ship idle.older "$url/idle" --once -q
wait "$receiver"
count "a receiver of a log that is removed ends ($?)" $(($? != 1))
says "and says why" err 'the directory was removed'

# A shipper that fails makes nothing where its log was: a log could not be made there again.
mkdir made
seq 10 | "$twinlog" append gone
timeout --foreground 60 "$twinlog" ship gone nats://127.0.0.1:1/gone --wait 4s >out 2>err &
shipper=$!
wait_until [ -e gone/failures/ship ]
mv gone moved && mv made gone
wait "$shipper"
[ -z "$(ls gone)" ]
count "a failure is noted in no directory without a log" $?
status "which becomes one" 0 "$twinlog" append gone <out

# Messages that somebody has removed: all, and the first ones.
peer purge whole
seq 101 110 | "$twinlog" append whole
status "a stream that was emptied" 3 ship whole "$url/whole" --once
says "is told" err 'LSN 1 to 100 .* were shipped, and have been removed'
status "goes on if asked to" 0 ship whole "$url/whole" --once --skip-trimmed --json
says "behind what was there" out '"published_records":10,.*"first_lsn":101,'
status "and then is fine" 0 ship whole "$url/whole" --once
peer drop whole 104
status "a stream without its first messages" 3 ship whole "$url/whole" --once --json
says "is told" out '"lost_first_lsn":101,"lost_last_lsn":104,'
status "and goes on if asked to" 0 ship whole "$url/whole" --once --skip-trimmed
status "and is fine" 0 ship whole "$url/whole" --once

# A stream that removes messages by itself. At the kill the cursor and what is beside it were behind, but for the newest
# salt.
as_killed() { sed "s/^\(\([^ ]* \)\{6\}\)[0-9]*/\1$("$twinlog" meta queue --get ship | cut -d' ' -f7)/" mark; }
peer make queue queue
peer age queue 86400
seq 100 | "$twinlog" append queue
ship queue "$url/queue" --once -q
"$twinlog" meta queue --get ship >mark
seq 101 350 | "$twinlog" append queue
ship queue "$url/queue" --once -q
peer purge queue
status "an emptied stream that removes messages" 0 ship queue "$url/queue" --once --json
says "lacks nothing" out '"published_records":0,.*"lost_first_lsn":0,'
as_killed >killed
"$twinlog" cursors queue --set ship=100 >out
"$twinlog" meta queue --set ship <killed
seq 351 400 | "$twinlog" append queue
status "the same after a kill in front of the cursor's next move" 0 ship queue "$url/queue" --once --json
says "gets only what is new" out '"published_records":50,.*"first_lsn":351,"last_lsn":400,'
has_shipped queue 400
count "each record once" $?
peer purge queue
"$twinlog" meta queue --get ship >mark
seq 401 500 | "$twinlog" append queue
ship queue "$url/queue" --once -q
as_killed >killed
peer purge queue
cp -r queue queue2
"$twinlog" cursors queue2 --set ship=399 >out
"$twinlog" meta queue2 --set ship <killed
status "the same, behind a new opening of the log" 0 ship queue2 "$url/queue" --once --json
says "goes on" out '"published_records":0,'
"$twinlog" cursors queue --set ship=399 >out
"$twinlog" meta queue --set ship <killed
"$twinlog" trim queue --after 420 >out
seq 1421 1600 | "$twinlog" append queue
status "and a truncation between what the value says and the kill" 3 ship queue "$url/queue" --once
says "is told" err 'truncated behind what was shipped: the stream has another record of LSN 500'
rm -r queue && mv queue2 queue
peer put queue one && peer put queue two
peer purge queue
status "messages that were no records of the log" 3 ship queue "$url/queue" --once
says "are told" err 'messages came to the stream behind LSN 500 .* 2 more than the log has records'
advises err 'messages came to the stream behind LSN' 'Nothing more is shipped; begin another stream.'
status "another stream" 0 ship queue "$url/queue.new" --once
equal "has the log" queue queue_new

# A kill in front of the first move, and a truncation behind what was shipped, show, too.
peer make early early
peer age early 86400
seq 50 | "$twinlog" append early
timeout --foreground 60 "$twinlog" ship early "$url/early" -q &
shipper=$!
wait_until has_shipped early 50
pkill -9 -P $shipper
wait $shipper 2>/dev/null
peer purge early
seq 51 60 | "$twinlog" append early
status "a shipper that was killed" 0 ship early "$url/early" --once -q
has_shipped early 60
count "has published each record once" $?
peer purge early
"$twinlog" trim early --after 40 >out
seq 141 170 | "$twinlog" append early
status "a log that was truncated behind what was in an emptied stream" 3 ship early "$url/early" --once
says "is told" err 'truncated behind what was shipped: the stream has another record of LSN 60'

# Two histories with the same record at the end, its time included: of which one it is tells them apart.
history_of 1 one | "$twinlog" append same --import --same-history >out
ship same "$url/same" --once -q
timeout 60 "$twinlog" receive "$url/same" replica --once -q
"$twinlog" trim same --after 40 >out
history_of 40 other | "$twinlog" append same --import --same-history >out
seq 61 70 | "$twinlog" append same
status "another history with the same last record" 3 ship same "$url/same" --once
says "is told" err 'truncated behind what was shipped: the stream has another record of LSN 60'
peer purge same
status "also by an emptied stream" 3 ship same "$url/same" --once
says "is told" err 'truncated behind what was shipped: the stream has another record of LSN 60'
ship same "$url/same2" --once -q --cursor other
"$twinlog" cat replica --export | plain >expected
status "a replica of the one" 3 timeout 60 "$twinlog" receive "$url/same2" replica --once -q
says "takes nothing of the other" err "'replica' has another record of LSN 60 than the stream"
"$twinlog" cat replica --export | plain >found
same "and is as it was" expected found
timeout 60 "$twinlog" receive "$url/same2" replica2 --once -q
seq 71 80 | "$twinlog" append same
ship same "$url/same2" --once -q --cursor other
status "a replica of the other" 0 timeout 60 "$twinlog" receive "$url/same2" replica2 --once -q
equal "has that" replica2 same2

# A stream that begins right behind a replica's end: also the record in front must be the replica's.
seq 60 | "$twinlog" append front
ship front "$url/front" --once -q
timeout 60 "$twinlog" receive "$url/front" front.back --once -q
"$twinlog" cat front.back --export | plain >expected
seq 61 100 | "$twinlog" append front
ship front "$url/front" --once -q
peer drop front 60
cp -r front.back front.also
status "a stream that begins behind a replica" 0 timeout 60 "$twinlog" receive "$url/front" front.also --once -q
"$twinlog" cat front --export | plain >whole.export
"$twinlog" cat front.also --export | plain >found
same "is its continuation" whole.export found
"$twinlog" trim front --after 40 >out
seq 141 200 | "$twinlog" append front
"$twinlog" trim front --before 61 --past-cursors >out
ship front "$url/front2" --once -q --cursor new
status "a stream of another history that does" 3 timeout 60 "$twinlog" receive "$url/front2" front.back --once -q
says "is told" err "nothing shows that LSN 61 of the stream is of the same history as the last record in 'front.back'"
"$twinlog" cat front.back --export | plain >found
same "and nothing of it is taken" expected found

# The record that the stream has last was trimmed: what follows may be another history's.
for way in full emptied; do
    seq 60 | "$twinlog" append gone-$way
    ship gone-$way "$url/gone-$way" --once -q
    "$twinlog" trim gone-$way --after 40 >out
    seq 141 200 | "$twinlog" append gone-$way
    "$twinlog" trim gone-$way --before 61 --past-cursors >out
    [ $way = full ] || peer purge gone-$way
    status "a trim up to what was shipped, of another history ($way)" 3 ship gone-$way "$url/gone-$way" --once
    says "is told" err 'LSN 60, the last one that was shipped, was trimmed: nothing shows that .* is of the same history'
    status "and goes on if asked to" 0 ship gone-$way "$url/gone-$way" --once --skip-trimmed --json
    says "behind it" out '"published_records":40,.*"first_lsn":61,'
done
# The same while the shipper is stopped. Its consumer has read everything, and the segment of the truncation is gone.
seq 60 | "$twinlog" append stopped
timeout --foreground 60 "$twinlog" ship stopped "$url/stopped" -q 2>err &
shipper=$!
wait_until has_shipped stopped 60
# shellcheck disable=SC2016 # wait_until evaluates it
wait_until '"$twinlog" cursors stopped | grep -qE "ship +59"'
pkill -STOP -P $shipper
"$twinlog" trim stopped --after 40 >out
seq 141 161 | "$twinlog" append stopped
"$twinlog" trim stopped --after 60 >out
seq 161 200 | "$twinlog" append stopped
"$twinlog" trim stopped --before 61 --past-cursors >out
pkill -CONT -P $shipper
wait $shipper
count "a shipper that was stopped meanwhile ends with status 3" $(($? != 3))
says "and tells it" err 'truncated behind what was shipped|LSN 60, the last one that was shipped, was trimmed'
has_shipped stopped 60
count "nothing more was published" $?
seq 60 | "$twinlog" append kept
ship kept "$url/kept" --once -q
"$twinlog" trim kept --before 61 >out
seq 61 100 | "$twinlog" append kept
status "a trim that keeps what cursors need" 0 ship kept "$url/kept" --once --json
says "leaves the last one that was shipped" out '"published_records":40,.*"first_lsn":61,'

# A full stream, and an end.
seq 1000 | "$twinlog" append full
ship full "$url/full" --once -q
peer limit full 1003
seq 1001 2000 | "$twinlog" append full
status "a full stream" 1 ship full "$url/full" --once --wait 3s -q
says "is given up, with the reason" err 'the stream is full'

# The shipper's value is beside the cursor, under its name.
"$twinlog" meta whole --set mine --value something
status "a value with the cursor's name" 1 ship whole "$url/whole" --once --cursor mine
says "is left alone" err "has a value 'mine' that is not ship's"
advises err "that is not ship's: name another cursor with --cursor"
status "with another one" 0 ship whole "$url/whole.other" --once --cursor theirs

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
