#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kafka.sh TWINLOG KAFKA_PEER: 'twinlog ship' with the mock cluster of librdkafka: what goes over, and what is told.
# shellcheck source=test/stream/cluster.sh
. "$(dirname "$0")/cluster.sh"
start_cluster orders any narrow wide=2 epoch notes trimmed large
ship() { timeout 60 "$twinlog" ship "$@" --credentials "$careful"; }

# Takes 5 s, and is looked at in the end.
echo one | "$twinlog" append alone
timeout 60 "$twinlog" ship alone kafka://127.0.0.1:1/orders --once --wait 0s 2>alone.err &
alone=$!

# ---- what goes over ----------------------------------------------------------------------------

ships_in_three_runs orders orders 6500

timeout --foreground 60 "$twinlog" ship log "$url/orders" --cursor other --json --credentials "$careful" >follow.out 2>&1 &
follower=$!
seq -f 'record %g' 6501 7000 | "$twinlog" append log
wait_until has_shipped orders 7000
count "new records are shipped as they come" $?

# Two messages where one was to go: between two of ours may be the marker of a commit, which the mock does not have.
peer put orders hello
peer put orders hello
echo one | "$twinlog" append log
# shellcheck disable=SC2016 # evaluated there
wait_until '"$twinlog" cursors log | grep -qE "other +7000"'
ends_by_signal "a signal ends it with status 0" $follower
says "another's messages were noticed" follow.out '"conflicts":[1-9]'
seq -f 'more %g' 2 | "$twinlog" append log
status "goes on" 0 ship log "$url/orders" --cursor other --once --json
peer put orders hello
status "behind another's message" 3 ship log "$url/orders" --once
says "it does not" err 'no record of a log: give each log a stream of its own'

{
    printf 'twinlog export 1\n7 1700000000000000000 3 65535 3\nabc\n8 1700000000000000001 0 0 0\n\n'
    printf '9 -5 255 1 2\nxy\nend\n'
} >exported
"$twinlog" append any --import <exported
status "types, tags and empty records" 0 ship any "$url/any" --once
printf '7\tabc\n8\t\n9\txy\n' >expected
peer cat any >found
same "are there" expected found
status "and are known again" 0 ship any "$url/any" --once --json
says "as the log's" out '"published_records":0,'

# ---- what is told ------------------------------------------------------------------------------

# The mock fences nobody, so it is made to say what a broker says to the first of two shippers: 90, or 47 before Kafka 2.7.
echo first | "$twinlog" append epoch
for code in 90 47; do
    tell error 26 $code
    echo again | "$twinlog" append epoch
    status "a commit after another shipper has begun: $code" 4 ship epoch "$url/epoch" --once
    says "is told" err "another shipper publishes to the stream 'epoch'"
done
# 53: the transactional id is not permitted.
tell error 26 53
echo again | "$twinlog" append epoch
status "a commit that is not permitted" 1 ship epoch "$url/epoch" --once
says "is told, and not tried again" err 'cannot commit at .*: .*[Aa]uthorization'

status "two partitions" 1 ship log "$url/wide" --once
says "are refused" err "the topic 'wide' has 2 partitions"
advises err 'and only one keeps the order: make one with one'
status "one with one" 0 ship any "$url/narrow" --once
peer put notes hello
status "a topic with something else" 3 ship log "$url/notes" --once
says "is left alone" err 'no record of a log'
ship any "$url/trimmed" --once >/dev/null
"$twinlog" trim any --after 8 >/dev/null
status "a log that ends before the topic" 3 ship any "$url/trimmed" --once
says "was truncated" err 'truncated behind what was shipped: it ends with LSN 8'

echo small | "$twinlog" append large
head -c 2000000 /dev/zero | tr '\0' x | "$twinlog" append large --null --max-record 2M
timeout 60 "$twinlog" ship large "$url/large" --once >out 2>err
count "a record that is too large" $(($? != 1))
says "is told" err 'LSN 2 has 2000000 bytes, and .* more than message\.max\.bytes'
wait_until has_shipped large 1
count "those before it are shipped" $?

got=0
wait $alone || got=$?
count "no server: status 1, not $got" $((got != 1))
says "says where" alone.err '127\.0\.0\.1:1'
for wrong in kafka://h kafka://h/ kafka:///s 'kafka://h/a b' kafka://user:secret@h/s; do
    status "no URL: $wrong" 2 ship log "$wrong"
done
status "there is no receiver" 5 "$twinlog" receive "$url/orders" back --once
echo sasl.password=s3cret >secrets
chmod 644 secrets
status "secrets that others may read" 1 timeout 60 "$twinlog" ship log "$url/orders" --once --credentials secrets
says "are refused" err 'other users may read'
chmod 600 secrets
for setting in colour=red acks=s3cret; do
    echo $setting >secrets
    TWINLOG_CREDENTIALS=secrets status "no setting: $setting" 1 timeout 60 "$twinlog" ship log "$url/orders" --once
    says "is named" err "setting '${setting%=*}'"
done
! grep -q s3cret err
count "without its value" $?

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
