#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tls.sh RAFT_CLUSTER: the cluster of the example with TLS between its servers, by stunnel, as docs/raft.md says. Each server
# proves itself by a certificate; a client without one gets nothing.
set -u
cluster=$(realpath "$1") || exit 1
for program in stunnel openssl; do
    command -v $program >/dev/null || { echo "SKIP raft-tls: there is no $program"; exit 77; }
done
place=$(mktemp -d "$PWD/tls.XXXXXX") || exit 1
proxies=
trap '[ -z "$proxies" ] || kill $proxies 2>/dev/null; wait; rm -rf "$place"' EXIT
cd "$place" || exit 1
host=127.$((1 + $$ / 250 % 250)).$((1 + $$ % 250)).2

certificate() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 1 "$@" 2>>openssl.log; }
certificates()
{
    certificate -x509 -keyout ca.key -out ca.pem -subj /CN=cluster &&
        certificate -keyout key.pem -out request.pem -subj /CN=server &&
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 1 -out server.pem 2>>openssl.log
}
certificates || { cat openssl.log; exit 1; }

{
    printf 'foreground = yes\npid =\ncert = server.pem\nkey = key.pem\nCAfile = ca.pem\nverifyChain = yes\n'
    for id in 1 2 3; do
        printf '[to-%s]\nclient = yes\naccept = %s:910%s\nconnect = %s:920%s\n' $id "$host" $id "$host" $id
        printf '[at-%s]\naccept = %s:920%s\nconnect = %s:900%s\n' $id "$host" $id "$host" $id
    done
} >stunnel.conf
stunnel stunnel.conf 2>stunnel.log &
proxies=$!
for _ in $(seq 500); do
    if grep -q 'Configuration successful' stunnel.log || ! kill -0 $proxies 2>/dev/null; then
        break
    fi
    sleep 0.02
done

"$cluster" --proxies "$host" --rounds 5 --seconds 0.1 --election 300 log || { tail -n 20 stunnel.log && exit 1; }
for id in 1 2 3; do
    grep -q "Service \[at-$id\] accepted" stunnel.log || { echo "FAILED: nothing reached server $id by TLS" && exit 1; }
done
echo hello | timeout 10 openssl s_client -connect "$host:9201" -CAfile ca.pem -quiet >stranger.log 2>&1
# It may lose the connection before it has read why; the proxy says it a moment later.
for _ in $(seq 100); do
    ! grep -q 'did not return a certificate' stunnel.log || break
    sleep 0.02
done
grep -q 'did not return a certificate' stunnel.log || { echo "FAILED: a client without a certificate was let in" && cat stranger.log && exit 1; }
echo "raft-tls: fine"
