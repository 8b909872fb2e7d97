#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tls.sh TWINLOG NATS_PEER: 'twinlog ship' and 'receive' over TLS. A server with another certificate gets no record, and the message
# says what to do.
# shellcheck source=test/stream/server.sh
. "$(dirname "$0")/server.sh"
command -v openssl >/dev/null || { echo "SKIP openssl is not here"; exit 77; }

# certificate NAME ALTERNATIVE_NAME [AUTHORITY]: NAME.pem and NAME.key; without an authority it is one.
certificate()
{
    echo "subjectAltName=$2" >extensions
    if [ $# = 2 ]; then
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem"
    else
        openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.request" &&
            openssl x509 -req -in "$1.request" -CA "$3.pem" -CAkey "$3.key" -CAcreateserial -days 2 \
                -extfile extensions -out "$1.pem"
    fi >openssl.log 2>&1 || { cat openssl.log; echo "FAILED: openssl makes no certificate"; exit 1; }
}
certificate ours DNS:ours
certificate theirs DNS:theirs
certificate server IP:127.0.0.1 ours
certificate elsewhere DNS:elsewhere.example ours
certificate client DNS:client ours

# credentials FILE LINE...: a file that other users may not read.
credentials() { (umask 077 && file=$1 && shift && printf '%s\n' "$@" >"$file"); }
credentials good "ca=$place/ours.pem" user=shipper password=s3cret

# serve CERTIFICATE [MORE]: a server with TLS that wants the password.
serve()
{
    [ -z "$server" ] || kill_server
    echo "tls { cert_file: \"$place/$1.pem\", key_file: \"$place/$1.key\" ${2:-} }" >secure
    echo 'authorization { user: shipper, password: s3cret }' >>secure
    configuration=secure
    start_server
    secure=tls://$server_address/orders
}
ship() { timeout 60 "$twinlog" ship log "$@" --once --wait 0s; }

# refuses NAME PATTERN ARGUMENTS...: it ends at once, says why, and tells no secret.
refuses()
{
    name=$1 pattern=$2
    shift 2
    status "$name" 1 ship "$@"
    says "says what to do" err "$pattern"
    ! grep -q s3cret err
    count "and no secret" $?
}

seq -f 'record %g' 1000 | "$twinlog" append log
serve server
refuses "an authority that the system does not know" 'ca=FILE .*\(NATS: ' "$secure"
credentials other "ca=$place/theirs.pem" user=shipper password=s3cret
refuses "another authority" 'ca=FILE .*\(NATS: .*issuer' "$secure" --credentials other
credentials none "ca=$place/none.pem"
refuses "an authority that is not there" '\(NATS: .*none\.pem' "$secure" --credentials none
credentials wrong "ca=$place/ours.pem" user=shipper password=s3cret-not
refuses "a wrong password" 'refuses the credentials: .*\(NATS: ' "$secure" --credentials wrong
credentials nameless "ca=$place/ours.pem"
refuses "no password" 'refuses the credentials: ' "$secure" --credentials nameless

refuses "an authority that nothing names" 'ca=FILE .*\(NATS: ' "$secure"
advises err 'TLS fails: the credentials must have ca=FILE with the authority of the server'
status "ships over TLS" 0 ship "$secure" --credentials good
says "everything" out 'Shipped LSN 1 to 1000\.'
TWINLOG_CREDENTIALS=good status "receives over TLS" 0 timeout 60 "$twinlog" receive "$secure" back --once
"$twinlog" cat log --export | plain >exported
"$twinlog" cat back --export | plain >received
same "the same records" exported received
credentials off tls=false "ca=$place/ours.pem" user=shipper password=s3cret
status "the credentials do not take TLS off" 0 ship "$secure" --credentials off

serve elsewhere
refuses "a certificate of another host" 'a name that is in it \(NATS: .*mismatch' "$secure" --credentials good
serve server ", ca_file: \"$place/ours.pem\", verify: true"
status "a server that wants a certificate gets none" 1 ship "$secure" --credentials good
credentials both "ca=$place/ours.pem" "cert=$place/client.pem" "key=$place/client.key" user=shipper password=s3cret
status "and takes one" 0 ship "$secure" --credentials both

kill_server
configuration=
start_server
refuses "a server without TLS" 'the server has no TLS: ' "tls://$server_address/orders"
advises err 'the server has no TLS: configure it there, or write nats:// in the URL'
status "with nats://" 0 ship "$url/orders"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
