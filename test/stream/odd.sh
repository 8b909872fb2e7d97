#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# odd.sh TWINLOG NATS_PEER: a log that was put in the place of another one, a full stream, a replica that was emptied, names
# and settings that mean nothing. What happened is said, and no record gets where it does not belong.
# shellcheck source=test/stream/server.sh
. "$(dirname "$0")/server.sh"
start_server
ends() { ! kill -0 "$1" 2>/dev/null; }

# Another log at the same path. The shipper looks for it by the path when it begins a session.
seq -f 'one %g' 10 | "$twinlog" append log
seq -f 'other %g' 30 | "$twinlog" append other
timeout --foreground 60 "$twinlog" ship log "$url/place" -q 2>err &
shipper=$!
wait_until has_shipped place 10
count "a shipper" $?
mv log log.old
mv other log
kill_server
start_server
wait_until ends $shipper
count "ends when its log was replaced" $?
got=0
wait $shipper || got=$?
count "with status 3, not $got" $((got != 3))
says "and says why" err "'log' is another log than at the start"
equal "no record of the other log is in the stream" log.old place

# A full stream: the reason is told although a conflict came first, as only some messages are acknowledged.
seq 1000 | "$twinlog" append full
"$twinlog" ship full "$url/full" --once -q
peer limit full 1003
seq 1001 2000 | "$twinlog" append full
timeout --foreground 60 "$twinlog" ship full "$url/full" 2>full.err &
shipper=$!
wait_until "grep -q 'maximum messages exceeded' full.err"
count "that the stream is full is told" $?
advises full.err 'the stream is full, or cannot be written: raise its limits, or let it discard what is old'
peer limit full -1
wait_until has_shipped full 2000
count "and it goes on when there is room" $?
kill $shipper
wait $shipper
equal "with each record once" full full

says "what to do is told, too" full.err 'the stream is full, .*raise its limits.* \(NATS: maximum messages exceeded, 10077\)'

# A replica without any record, as all were trimmed, does not begin anew.
seq 10 | "$twinlog" append source
"$twinlog" ship source "$url/source" --once -q
"$twinlog" receive "$url/source" replica --once -q
"$twinlog" trim replica --before 11 >/dev/null
seq 11 20 | "$twinlog" append source
"$twinlog" ship source "$url/source" --once -q
peer purge source
seq 21 30 | "$twinlog" append source
"$twinlog" ship source "$url/source" --once -q --skip-trimmed 2>err
status "an emptied replica that has missed records" 3 timeout 60 "$twinlog" receive "$url/source" replica --once
says "is told which" err 'LSN 11 to 20'

# The last record that was shipped is trimmed, and the next one is there.
seq 10 | "$twinlog" append begun
"$twinlog" ship begun "$url/begun" --once -q
seq 11 20 | "$twinlog" append begun
"$twinlog" trim begun --before 11 --past-cursors >/dev/null
status "a log of which nothing shows that it continues the stream" 3 timeout 60 "$twinlog" ship begun "$url/begun" --once
advises err ' To go on with it, use --skip-trimmed.'
status "with that" 0 timeout 60 "$twinlog" ship begun "$url/begun" --once --skip-trimmed
status "what follows" 0 timeout 60 "$twinlog" receive "$url/begun" begun.back --once --from 11
"$twinlog" cat begun.back >found
seq 11 20 >expected
same "is in the stream" expected found

status "more servers than there are" 1 timeout 60 "$twinlog" ship begun "$url/replicas" --once --replicas 3 --wait 0s --cursor replicas
advises err 'so many servers are not there: give --replicas less, or make the stream yourself'
status "with as many as there are" 0 timeout 60 "$twinlog" ship begun "$url/replicas" --once --replicas 1 --cursor replicas

# Names that would break a request, and a setting that would send a password without TLS.
for wrong in 'a"b' 'a\b' "a$(printf '\177')" "$(head -c 300 /dev/zero | tr '\0' a)"; do
    status "no subject" 2 timeout 60 "$twinlog" ship log "$url/$wrong"
done
printf 'tls=yes\nuser=a\npassword=b\n' >secrets
chmod 600 secrets
status "tls is true or false" 1 timeout 60 "$twinlog" ship full "$url/full" --once --credentials secrets
says "and nothing else" err 'tls is neither true nor false'

# Servers that do not do what is asked for.
kill_server
jetstream=
start_server
status "a server without JetStream" 1 timeout 60 "$twinlog" ship full "$url/full" --once --wait 0s
says "is told to begin it" err 'no JetStream, .*start nats-server with -js \(NATS: '
advises err 'the server has no JetStream, or it is not ready: start nats-server with -js'
kill_server
jetstream=-js
cat >users <<'END'
authorization { users: [
    { user: all, password: b, permissions: { publish: [ "full", "$JS.API.>", "$JS.FC.>" ], subscribe: "_INBOX.>" } }
    { user: none, password: b, permissions: { publish: { deny: "$JS.API.>" } } }
    { user: few, password: b, permissions: { publish: "$JS.API.>" } }
] }
END
configuration=users
start_server
printf 'user=few\npassword=b\n' >secrets
echo more | "$twinlog" append full
status "a user that may not publish" 1 timeout 60 "$twinlog" ship full "$url/full" --once --credentials secrets
says "is told which permissions there are" err 'the user lacks a permission: docs/stream\.md .*\(NATS: .*Permissions Violation'
printf 'user=none\npassword=b\n' >secrets
status "or not ask for the stream" 1 timeout 60 "$twinlog" ship full "$url/full" --once --credentials secrets
says "too" err 'the user lacks a permission: '
printf 'user=all\npassword=b\n' >secrets
status "one with the permissions of docs/stream.md ships" 0 timeout 60 "$twinlog" ship full "$url/full" --once --credentials secrets
status "and receives" 0 timeout 60 "$twinlog" receive "$url/full" full.back --once --credentials secrets
"$twinlog" cat full >expected
"$twinlog" cat full.back >found
same "everything" expected found

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
