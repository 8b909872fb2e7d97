# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154 # checks.sh has the other variables
# shipping.sh TWINLOG: checks.sh, and what the tests of ship ask of each kind of server. They have peer(), and ship().
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/../cli/checks.sh"

# equal NAME LOG STREAM: the stream has the log's records with their LSNs, and nothing more.
equal()
{
    "$twinlog" cat "$2" --json | sed -E 's/^\{"lsn":([0-9]+),.*"data":"(.*)"\}$/\1\t\2/' >expected
    peer cat "$3" >found
    same "$1" expected found
}

# ships_in_three_runs NAME STREAM LAST: a log of 1000 records to $url/NAME; nothing; and the records up to LAST.
ships_in_three_runs()
{
    seq -f 'record %g' 1000 | "$twinlog" append log
    status "ships what there is" 0 ship log "$url/$1" --once
    says "and says what" out 'Shipped LSN 1 to 1000\.'
    equal "the stream has the log" log "$2"
    status "a second run" 0 ship log "$url/$1" --once --json
    says "ships nothing" out '"published_records":0,'
    seq -f 'record %g' 1001 "$3" | "$twinlog" append log
    status "a third one" 0 ship log "$url/$1" --once --json
    says "what is new" out '"published_records":'"$(($3 - 1000))"',.*"first_lsn":1001,"last_lsn":'"$3"',.*"conflicts":0,'
    equal "the stream has that, too" log "$2"
    "$twinlog" cursors log >out
    says "the cursor was moved" out "ship +$(($3 - 1))"
}
