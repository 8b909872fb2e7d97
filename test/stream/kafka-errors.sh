#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kafka-errors.sh TWINLOG KAFKA_PEER: 'twinlog ship' with the mock cluster of librdkafka: requests fail as those of
# brokers do that restart or lose a leader: what is tried again is in the topic once.
# shellcheck source=test/stream/cluster.sh
. "$(dirname "$0")/cluster.sh"
start_cluster errors
echo first | "$twinlog" append log
log_id=$("$twinlog" stat log --json | sed -E 's/.*"log_id":"([0-9a-f]+)".*/\1/')

# The codes are those of Kafka's protocol. 22 is InitProducerId: no coordinator is there yet, or it has not begun.
tell error 22 15 14
"$twinlog" ship log "$url/errors" --json --credentials "$careful" >out 2>err &
shipper=$!
wait_until has_shipped errors 1
count "begins when there is a coordinator" $?

# send NAME: ten records more arrive.
shipped=1
send()
{
    seq -f "$1 %g" 10 | "$twinlog" append log
    shipped=$((shipped + 10))
    wait_until has_shipped errors $shipped
    count "$1" $?
}
tell error 0 6 6
send "not the leader any more"
tell error 0 7
send "a request that lasts too long"
tell error 24 16 51
send "not the coordinator when a partition is added"
tell error 26 15 16 51
send "not the coordinator at the commit"
tell leader errors 2
send "another leader"
tell coordinator "twinlog-$log_id-errors" 3
send "another coordinator"
tell error 26 -195
send "a connection that is lost at the commit"
ends_by_signal "the shipper ends" $shipper
says "and says how far it came" out '"last_lsn":71,'
equal "the topic has each record once, in order" log errors

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
