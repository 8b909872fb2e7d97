#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kafka-kills.sh TWINLOG KAFKA_PEER: while records are appended and shipped, the shipper is killed at random, the topic gets
# other leaders, and requests fail. At the end the topic has each record once, in order. TWINLOG_SEED gives the times
# again, about. What the mock cluster cannot show is in cluster.sh.
# shellcheck source=test/stream/cluster.sh
. "$(dirname "$0")/cluster.sh"
seed=${TWINLOG_SEED:-$$}
RANDOM=$seed
start_cluster kills
pause() { sleep "0.$(printf %03d $((RANDOM % ${1:-100})))"; }

shipper=
start_shipper()
{
    "$twinlog" ship log "$url/kills" -q --credentials "$careful" 2>>shipper.err &
    shipper=$!
}

echo first | "$twinlog" append log
start_shipper
for _ in $(seq 20); do
    seq -f "$RANDOM %g" 500
    pause 50
done | timeout 100 "$twinlog" append log -q &
writer=$!
for _ in 1 2 3 4 5 6 7 8; do
    pause 500
    case $((RANDOM % 4)) in
    0) tell leader kills $((RANDOM % 3 + 1)) ;;
    1) tell error 0 6 7 6 ;;
    2) tell error 26 15 16 51 ;;
    3) tell error 24 14 15 ;;
    esac
    pause 200
    kill -9 $shipper
    wait $shipper 2>/dev/null
    start_shipper
done
wait $writer
count "the writer" $?
wait_until has_shipped kills 10001
count "everything is shipped" $?
ends_by_signal "the shipper ends" $shipper
equal "the topic has each record once, in order" log kills
sed 's/^/shipper: /' shipper.err

echo "$passed passed, $failed failed; seed $seed"
[ "$failed" = 0 ]
