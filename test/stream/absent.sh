#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# absent.sh TWINLOG: a command without its modules says so, and has a status of its own for it.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/../cli/checks.sh"
cp "$twinlog" alone
echo one | ./alone append log
status "ship" 5 ./alone ship log nats://127.0.0.1/x --once
says "says what is missing" err 'cannot speak to nats: .*twinlog-nats\.so'
status "ship to Kafka" 5 ./alone ship log kafka://127.0.0.1/x --once
says "says what is missing" err 'cannot speak to kafka: .*twinlog-kafka\.so'
status "receive" 5 ./alone receive nats://127.0.0.1/x back --once
[ ! -e back ]
count "makes nothing" $?
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
