#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fence.sh TWINLOG NATS_PEER: two shippers on one stream. One of them ends with status 4, and the stream is right.
# shellcheck source=test/stream/server.sh
. "$(dirname "$0")/server.sh"
start_server

seq 100 | "$twinlog" append log
timeout --foreground 100 "$twinlog" ship log "$url/fence" -q 2>one.err &
one=$!
wait_until has_shipped fence 100
count "a first shipper" $?
status "a second one with the same cursor" 1 timeout 60 "$twinlog" ship log "$url/fence" --once
says "is told that there is one" err 'Another process ships from this cursor'

# With a cursor of its own it gets as far as the stream. Both see each new record; the server takes one's.
timeout --foreground 100 "$twinlog" ship log "$url/fence" --cursor two 2>two.err &
two=$!
do_both_run() { kill -0 $one 2>/dev/null && kill -0 $two 2>/dev/null; }
i=0
while [ $i -lt 2000 ] && do_both_run; do
    i=$((i + 1))
    echo "more $i" | "$twinlog" append log
done
! do_both_run
count "one of two ends" $?
fenced=$one
other=$two
if kill -0 $one 2>/dev/null; then
    fenced=$two
    other=$one
fi
got=0
wait $fenced || got=$?
count "with status 4, not $got" $((got != 4))
cat one.err two.err >err
says "and says why" err "another shipper publishes to the stream 'fence'"
echo last | "$twinlog" append log
has_last() { [ "$(peer cat fence | tail -n 1 | cut -f 2)" = last ]; }
wait_until has_last
count "the other one goes on" $?
ends_by_signal "and ends as usual" $other
equal "the stream has each record once" log fence

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
