# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2034 # checks.sh and the tests have the other variables, or use them
# cluster.sh TWINLOG KAFKA_PEER: shipping.sh, and the mock cluster of librdkafka on the loopback, for the tests of ship, which read
# it with '.'.
#
# The mock has no transactions: it shows an aborted message as it does a committed one, fences no producer and finds no
# request that comes twice. So what a shipper left open stays, and the next one goes on behind it: the topic has the log
# nevertheless, if one request at a time is under way ($careful).
kafka_peer=$(realpath "$2") || exit 1
# shellcheck source=test/stream/shipping.sh
. "$(dirname "$0")/shipping.sh"
trap '[ -z "${CLUSTER_PID:-}" ] || { kill -9 "$CLUSTER_PID" && wait "$CLUSTER_PID"; } 2>/dev/null; wait; rm -rf "$place" "$public"' EXIT

# start_cluster TOPIC[=PARTITIONS]...
start_cluster()
{
    coproc CLUSTER { exec timeout 110 "$kafka_peer" serve "$@"; }
    exec 7<&"${CLUSTER[0]}" 8>&"${CLUSTER[1]}"
    read -r -t 60 servers <&7 || { echo "FAILED: the mock cluster does not start"; exit 1; }
    url=kafka://$servers
    printf 'max.in.flight.requests.per.connection=1\nfetch.wait.max.ms=10\n' >careful
    chmod 600 careful
    careful=$place/careful
}

# tell COMMAND: to the cluster, see kafka_peer.c.
tell()
{
    answer=
    echo "$*" >&8
    read -r -t 60 answer <&7
    [ "$answer" = ok ] || { echo "FAILED: the mock cluster does not obey"; exit 1; }
}

peer() { timeout 60 "$kafka_peer" "$servers" "$@"; }

# has_shipped TOPIC N: so many messages.
has_shipped() { [ "$(peer count "$1")" = "$2" ]; }
