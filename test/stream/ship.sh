#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ship.sh TWINLOG NATS_PEER: 'twinlog ship' and 'receive' with a nats-server: what goes over, and what is told.
# shellcheck source=test/stream/server.sh
. "$(dirname "$0")/server.sh"
start_server
ship() { timeout 60 "$twinlog" ship "$@"; }
receive() { timeout 60 "$twinlog" receive "$@"; }

# ---- what goes over ----------------------------------------------------------------------------

ships_in_three_runs orders.eu orders_eu 1500

# What follows, and ends by a signal.
timeout --foreground 60 "$twinlog" ship log "$url/orders.eu" --cursor other >follow.out 2>&1 &
follower=$!
seq -f 'record %g' 1501 2000 | "$twinlog" append log
wait_until has_shipped orders_eu 2000
count "new records are shipped as they come" $?
ends_by_signal "a signal ends it with status 0" $follower
equal "the stream has them" log orders_eu

# Bytes, types, tags and times, over the stream and back.
{
    printf 'twinlog export 1\n7 1700000000000000000 3 65535 3\na\nb\n8 1700000000000000001 0 0 0\n\n'
    printf '9 -5 255 1 4\n\0\1\2\377\n10 9223372036854775807 1 1 0\n\n11 -9223372036854775808 1 1 0\n\nend\n'
} >exported
"$twinlog" append any --import <exported
status "any bytes" 0 ship any "$url/any" --once
status "come back" 0 receive "$url/any" any.back --once --json
says "all of them" out '"received_records":5,'
"$twinlog" cat any.back --export | plain >back
same "as they were, with type, tag, time and LSN" exported back
status "the whole log comes back" 0 receive "$url/orders.eu" back.log --once
"$twinlog" cat log --export | plain >exported
"$twinlog" cat back.log --export | plain >back
same "record by record" exported back
timeout --foreground 60 "$twinlog" receive "$url/orders.eu" back.log >receiver.out 2>&1 &
receiver=$!
seq -f 'record %g' 2001 2100 | "$twinlog" append log
status "more" 0 ship log "$url/orders.eu" --once
has_received() { "$twinlog" cat back.log 2>/dev/null | grep -qx 'record 2100'; }
wait_until has_received
count "a replica follows" $?
ends_by_signal "and ends by a signal with status 0" $receiver

# ---- what is not durable ---------------------------------------------------------------------------

# A power cut may take it from the log: neither the stream nor another log must have it then.
start_writer mapped --mapped
for line in 1 2 3; do
    echo "line $line" >&3
    read -r lsn <&4
done
status "records of a mapped log that are not synced" 0 ship mapped "$url/mapped" --once --json
says "are not shipped" out '"published_records":0,'
"$twinlog" cat mapped --export | plain >out
says "nor exported" out '^end$'
count "none of them" $(($(wc -l <out) != 2))
timeout --foreground 60 "$twinlog" ship mapped "$url/mapped" -q 3>&- 4<&- &
follower=$!
exec 3>&- 4<&-
wait "$writer"
count "the writer syncs them" $?
wait_until has_shipped mapped 3
count "and then they are" $?
ends_by_signal "a signal ends the shipper" $follower
equal "all of them" mapped mapped

# ---- what the server has lost ------------------------------------------------------------------

peer delete orders_eu 700
status "the sink is behind the cursor" 0 ship log "$url/orders.eu" --once --json
says "what it lacks is shipped again" out '"first_lsn":1401,"last_lsn":2100,'
equal "and is there once" log orders_eu
peer purge orders_eu
seq -f 'record %g' 2101 2110 | "$twinlog" append log
status "an emptied stream" 3 ship log "$url/orders.eu" --once
says "is told" err 'LSN 1 to 2100 \(2100 records\) were shipped, and have been removed from the stream'
status "goes on behind what was there" 0 ship log "$url/orders.eu" --once --skip-trimmed --json
says "with what is new" out '"published_records":10,.*"first_lsn":2101,'
status "a replica that has missed nothing" 0 receive "$url/orders.eu" back.log --once
status "a replica that has missed something" 3 receive "$url/orders.eu" any.back --once
says "of another log" err 'the stream is of the log'
"$twinlog" cat log --to 1000 --export | "$twinlog" append behind --import
status "records that were not received" 3 receive "$url/orders.eu" behind --once
says "are no replica" err 'were not received'
advises err 'has records that were not received: name a new directory'
status "a new directory" 0 receive "$url/orders.eu" behind.new --once

# ---- what does not fit -------------------------------------------------------------------------

seq 10 | "$twinlog" append cut
ship cut "$url/cut" --once >/dev/null
"$twinlog" trim cut --after 6 >/dev/null
status "a truncation behind what was shipped" 3 ship cut "$url/cut" --once
says "is told" err 'it ends with LSN 6, and the stream has LSN 10'
advises err 'it ends with LSN' 'Nothing more is shipped; begin another stream.'
status "another stream" 0 ship cut "$url/cut.short" --once
equal "has the log" cut cut_short
seq 107 120 | "$twinlog" append cut
status "other records in the place of the truncated ones" 3 ship cut "$url/cut" --once
says "are told" err 'the stream has another record of LSN 10'
advises err 'the stream has another record of LSN' 'Nothing more is shipped; begin another stream.'
status "another stream" 0 ship cut "$url/cut.again" --once
equal "has the log" cut cut_again

seq 10 | "$twinlog" append trimmed
ship trimmed "$url/trimmed" --once >/dev/null
seq 11 20 | "$twinlog" append trimmed
"$twinlog" trim trimmed --before 16 --past-cursors >/dev/null
status "a trim of what was not shipped" 3 ship trimmed "$url/trimmed" --once
says "is told with numbers" err 'LSN 11 to 15 \(5 records\) were trimmed before they were shipped'
status "goes on if asked to" 0 ship trimmed "$url/trimmed" --once --skip-trimmed --json
says "and counts" out '"published_records":5,.*"trimmed_records":5,'
status "a stream that lacks records" 0 receive "$url/trimmed" trimmed.back --once --json
says "gets fillers in their places" out '"received_records":15,"received_bytes":.*"fillers":5,'
says "and is told" err 'LSN 11 to 15: trimmed from the log before it was shipped'
status "they stand for lost records" 0 "$twinlog" verify trimmed.back --json
says "with their LSNs" out '"finding":"lost".*"first_lsn":11,"last_lsn":15'

status "another log" 3 ship cut "$url/trimmed" --once
says "does not get into the stream" err 'a record of another log'
peer make notes notes
peer put notes hello
status "a stream with something else" 3 ship log "$url/notes" --once
says "is left alone" err 'no record of a log: give each log a stream of its own'
advises err ': give each log a stream of its own'
status "a stream of its own" 0 ship cut "$url/cut.own" --once
equal "has the log" cut cut_own

echo small | "$twinlog" append large
head -c 2000000 /dev/zero | tr '\0' x | "$twinlog" append large --null --max-record 2M
timeout 60 "$twinlog" ship large "$url/large" --once >out 2>err
count "a record that the server does not take" $(($? != 1))
says "is told" err 'has 2000000 bytes, and the server takes 1048576'
advises err 'with the headers: raise its max_payload'
kill_server
echo 'max_payload: 8MB' >generous
configuration=generous
start_server
status "a server that takes it" 0 ship large "$url/large" --once
kill_server
configuration=
start_server

# ---- how often the server is asked -------------------------------------------------------------

# sent SUBJECT: what the server has noted of each message: a word more where it asks for an acknowledgement.
sent() { sed -n "s/.*\\[HPUB $1 \\(.*\\)\\]$/\\1/p" server.log; }

# longest SUBJECT: so many messages in a row ask for none.
longest() { sent "$1" | awk 'NF == 2 { run++ } NF > 2 { run = 0 } run > most { most = run } END { print most + 0 }'; }

kill_server
printf 'trace: true\nmax_traced_msg_len: 1\n' >traced
configuration=traced
start_server
seq 3000 | "$twinlog" append small
status "small records without a pause" 0 ship small "$url/small" --once
count "the server has noted them" $(($(sent small | wc -l) != 3000))
count "one message in 256 asks for an acknowledgement" $(($(longest small) > 255))
count "and most of them do not" $(($(longest small) < 100))
head -c 4000000 /dev/zero | tr '\0' x | fold -w 40000 | "$twinlog" append wide
status "larger records" 0 ship wide "$url/wide" --once
count "the server has noted them" $(($(sent wide | wc -l) != 100))
count "one message in 256 KiB asks" $(($(longest wide) > 6))
kill_server
configuration=
start_server

# ---- the command line --------------------------------------------------------------------------

for wrong in http://h/s nats://h nats://h/ nats:///s 'nats://h/a.>' 'nats://h/a.*' 'nats://h/a b' tls://h nats://user:secret@h/s; do
    status "no URL: $wrong" 2 ship log "$wrong"
done
says "no password in it" err 'a URL with a password is seen by everybody'
advises err ': put it into a file, see --credentials'
status "one operand" 2 ship log
status "three operands" 2 ship log "$url/a" more
status "no log" 1 ship nothing "$url/nothing" --once
status "no server" 1 ship log nats://127.0.0.1:1/orders --once --wait 0s
says "says where, and what to do" err 'cannot connect at 127\.0\.0\.1:1: no server answers: is it running, .*\(NATS: '
echo token=s3cret >secrets
chmod 644 secrets
status "secrets that others may read" 1 ship log "$url/orders.eu" --once --credentials secrets
says "are refused" err 'other users may read'
advises err ': chmod go= it'
chmod go= secrets
status "and taken then, though there is no token here" 0 ship log "$url/orders.eu" --once --credentials secrets
echo colour=red >wrong
chmod 600 wrong
status "a setting that there is not" 1 ship log "$url/orders.eu" --once --credentials wrong
says "is named" err "unknown setting 'colour'"

kill_server
echo 'authorization { token: s3cret }' >with-token
configuration=with-token
start_server
status "a server that wants a token" 1 ship log "$url/orders.eu" --once --wait 0s
says "says what to do" err 'the server refuses the credentials: .*--credentials \(NATS: '
advises err 'name a file with a valid user, token or creds with --credentials'
says "which is noted as a failure" log/failures/ship '^failure: .*the server refuses the credentials'
"$twinlog" stat log --prometheus >out
says "and counted" out '^twinlog_cursor_failures\{dir="log",cursor="ship"\} [1-9]'
status "gets it from the file" 0 ship log "$url/orders.eu" --once --credentials secrets
"$twinlog" stat log --prometheus >out
says "until it gets on, though there is nothing to ship" out '^twinlog_cursor_failures\{dir="log",cursor="ship"\} 0$'
TWINLOG_CREDENTIALS=secrets status "or from that of the environment" 0 ship log "$url/orders.eu" --once

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
