# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034 # checks.sh and the tests have the other variables, or use them
# server.sh TWINLOG NATS_PEER: shipping.sh, and a nats-server on the loopback, for the tests of ship and receive, which read it with
# '.'. The port is one that is free at the first start; later starts take it again, as a server does that was killed.
nats_peer=$(realpath "$2") || exit 1
# shellcheck source=test/stream/shipping.sh
. "$(dirname "$0")/shipping.sh"
PATH=$PATH:/usr/sbin:/sbin
command -v nats-server >/dev/null || { echo "SKIP nats-server is not here"; exit 77; }
port=-1
server=
trap '[ -z "$server" ] || kill -9 $server 2>/dev/null; wait; rm -rf "$place" "$public"' EXIT

# What runs beside a test and is ended by a signal is under "timeout --foreground": without that the signal comes twice.
# start_server: returns when it takes connections. With the file $configuration, if there is one.
configuration=
jetstream=-js
start_server()
{
    for _ in 1 2 3 4 5; do
        : >server.log
        nats-server -a 127.0.0.1 -p "$port" ${jetstream:+"$jetstream"} -sd "$place/jetstream" ${configuration:+-c "$configuration"} >server.log 2>&1 &
        server=$!
        wait_until "grep -q 'Server is ready' server.log || ! kill -0 $server 2>/dev/null"
        if grep -q 'Server is ready' server.log; then
            port=$(sed -n 's/.*client connections on 127.0.0.1:\([0-9]*\).*/\1/p' server.log)
            server_address=127.0.0.1:$port
            url=nats://$server_address
            return 0
        fi
    done
    cat server.log
    echo "FAILED: nats-server does not start"
    exit 1
}

kill_server()
{
    kill -9 "$server"
    wait "$server" 2>/dev/null
    server=
}

# has_shipped STREAM N: the sequence of its last message is N.
has_shipped() { [ "$(peer count "$1" 2>/dev/null)" = "$2" ]; }

peer() { "$nats_peer" "$url" "$@"; }
