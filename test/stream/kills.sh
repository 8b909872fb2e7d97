#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kills.sh TWINLOG NATS_PEER: while records are appended and shipped, the shipper and the server are killed at random, and
# a receiver, too. At the end the stream has each record once, in order, and so has the receiver's log. TWINLOG_SEED gives
# the times again, about.
# shellcheck source=test/stream/server.sh
. "$(dirname "$0")/server.sh"
seed=${TWINLOG_SEED:-$$}
RANDOM=$seed
start_server
pause() { sleep "0.$(printf %03d $((RANDOM % ${1:-100})))"; }

shipper=
receiver=
start_shipper()
{
    timeout --foreground 100 "$twinlog" ship log "$url/kills" -q 2>>shipper.err &
    shipper=$!
}
start_receiver()
{
    timeout --foreground 100 "$twinlog" receive "$url/kills" back -q 2>>receiver.err &
    receiver=$!
}
# end PROCESS SIGNAL: 'timeout' passes on what it can; the child of a killed one is killed by its own number.
end()
{
    child=$(cat "/proc/$1/task/$1/children" 2>/dev/null)
    # shellcheck disable=SC2086
    [ -z "$child" ] || kill "$2" $child 2>/dev/null
    wait "$1" 2>/dev/null
}

echo first | "$twinlog" append log
"$twinlog" ship log "$url/kills" --once -q
for _ in $(seq 40); do
    seq -f "$RANDOM %g" 2000
    pause 50
done | timeout 100 "$twinlog" append log -q &
writer=$!
start_shipper
start_receiver
for round in 1 2 3 4 5 6; do
    pause 300
    case $((round % 3)) in
    0) end $receiver -9; start_receiver ;;
    1) end $shipper -9; start_shipper ;;
    2) kill_server; pause 300; start_server ;;
    esac
done
wait $writer
count "the writer" $?
wait_until has_shipped kills 80001
count "everything is shipped" $?
end $shipper -TERM
equal "the stream has each record once, in order" log kills
end $receiver -TERM
status "the receiver gets the rest" 0 timeout 60 "$twinlog" receive "$url/kills" back --once
"$twinlog" cat log --export | plain >exported
"$twinlog" cat back --export | plain >back.exported
same "and has the same records" exported back.exported
sed 's/^/shipper: /' shipper.err
sed 's/^/receiver: /' receiver.err

echo "$passed passed, $failed failed; seed $seed"
[ "$failed" = 0 ]
