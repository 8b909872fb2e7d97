#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# trim.sh TWINLOG: 'twinlog trim --dry-run' says what 'twinlog trim' then does, for logs of all kinds, and changes nothing.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

# state_of LOG: its files, byte for byte, and when they were changed.
state_of() { (cd "$1" && find . -type f -printf '%p %s %T@\n' | sort && find . -type f -exec cat {} + | cksum); }

# tells LOG OPTION...: the dry run and the trim of a copy answer the same, but for words that say which is which.
tells()
{
    log=$1
    shift
    state_of "$log" >before
    "$twinlog" trim "$log" "$@" --dry-run --json >planned 2>&1
    planned=$?
    state_of "$log" >after
    same "trim $log $* --dry-run changes nothing" before after
    rm -rf copy
    cp -a "$log" copy
    "$twinlog" trim copy "$@" --json 2>&1 | grep -v '^twinlog trim: note:' >real
    subject="$log $*"
    count "the two end alike" $(((planned != 0) != ($(grep -c '^{' real) == 0)))
    sed 's/{"is_dry_run":true,/{/' planned | grep '^{' | but_for_size >expected
    grep "^{" real | but_for_size >answer
    same "trim $log $*: what would be done, and what was done" expected answer
}


# A mapped segment that its writer has shortened gets its size back when it is opened, so what stays is larger then.
but_for_size() { sed -E 's/("held_by":"segment",.*"held_bytes"):[0-9]*/\1/'; }

lines() { seq "$1" | sed 's/$/ and some more words of a line/'; }

lines 20000 | "$twinlog" append plain -q --segment 64K
cp -a plain held
"$twinlog" cursors held --set slow=7000
"$twinlog" cursors held --set quick=15000
cp -a plain headless
"$twinlog" trim headless --before 9000 >out
cp -a plain shortened
"$twinlog" trim shortened --after 12345 >out
lines 3000 | "$twinlog" append shortened -q --segment 64K
cp -a plain empty
"$twinlog" trim empty --before 20001 >out
"$twinlog" append new </dev/null
# The first segment has nothing behind the head, and another one behind it.
large() { for line in $(seq "$1"); do printf "%015000d\n" "$line"; done; }
for count in 3 4 5; do # one of them fills its last segment
    large "$count" | "$twinlog" append "spent$count" -q --segment 64K
    "$twinlog" trim "spent$count" --before $((count + 1)) >out
    large 1 | "$twinlog" append "spent$count" -q --segment 64K
done
cp -a plain anew
"$twinlog" reset anew --next 100000 --force >out
lines 3000 | "$twinlog" append anew -q
lines 20000 | "$twinlog" append mapped -q --mapped --segment 256K

# A writer that waits, and has done no more than this since it has opened the log.
for mode in '' --mapped --shared; do
    lines 10 | "$twinlog" append idle$mode -q ${mode:+$mode}
    mkfifo input
    "$twinlog" append idle$mode -q ${mode:+$mode} <input &
    writer=$!
    exec 9>input
    # shellcheck disable=SC2016 # wait_until evaluates it
    wait_until '"$twinlog" stat idle$mode --json | grep -q "\"has_writer\":true"'
    status "a trim beside an idle writer, $mode" 0 "$twinlog" trim idle$mode --before 8
    exec 9>&-
    wait "$writer"
    count "which then ends well" $?
    [ "$("$twinlog" cat idle$mode | wc -l)" = 3 ]
    count "is done" $?
    rm input
done

# A writer that was killed has left its newest segments without a footer.
mkfifo lines
"$twinlog" append killed -q --segment 64K <lines &
writer=$!
exec 9>lines
lines 5000 >&9
# shellcheck disable=SC2016
wait_until '"$twinlog" stat killed --json | grep -q "\"last_lsn\":5000,"'
beside=$("$twinlog" trim killed --before 2001 --dry-run)
kill -KILL "$writer"
wait "$writer" 2>/dev/null
exec 9>&-
says_beside=$(echo "$beside" | grep -c '^Would remove 2000 records and .* The log would begin at LSN 2001\.$')
count "beside a writer: $beside" $((says_beside != 1))
for limits in '--before 1' '--before 2001' '--keep-records 10' '--keep-bytes 100K'; do
    # shellcheck disable=SC2086
    tells killed $limits
done

while read -r log limits; do
    # shellcheck disable=SC2086
    tells $log $limits
done <<'END'
spent3 --before 1
spent4 --before 1
spent5 --before 1
spent5 --keep-bytes 1G
plain --before 1
plain --before 9000
plain --before 20001
plain --before 99999999
plain --keep-records 5000
plain --keep-records 999999
plain --keep-bytes 1
plain --keep-bytes 300K
plain --keep-bytes 1G
plain --keep-time 0s
plain --keep-time 1d
plain --before 3000 --keep-bytes 700K --keep-records 19000
plain --after 0
plain --after 12345
plain --after 99999
held --before 500
held --before 9000
held --keep-bytes 100K
held --keep-time 0s --past-cursors
headless --before 500
headless --before 9000
headless --before 12346
headless --keep-bytes 300K
headless --after 8998
headless --after 8999
shortened --before 12347
shortened --keep-bytes 100K
shortened --keep-time 0s
shortened --after 12345
empty --before 99999999
empty --keep-records 1
empty --keep-bytes 1
empty --keep-time 0s
empty --after 20000
empty --after 5
new --before 5
new --after 0
anew --before 99999
anew --before 100500
anew --keep-bytes 1
mapped --before 9000
mapped --before 20001
mapped --keep-records 5000
mapped --keep-time 0s
END

status "in words" 0 "$twinlog" trim held --before 9000 --dry-run
says "each segment that would go" out '^[0-9a-f]+\.twl: LSN 1 to [0-9]+, 64\.0 KiB$'
says "how much that is" out '^Would remove 7000 records and [1-9][0-9]* segments, .* KiB\. The log would begin at LSN 7001\.$'
says "what holds the rest" out "^Cursor 'slow' holds the rest"
status "limits that stay" 0 "$twinlog" trim held --keep-records 1 --always
says "and the cursor in their way, with what it has to do" out "^Cursor 'slow' holds the rest, .* segments: it is 13000 records behind\.$"
says "are kept" out '^The log keeps these limits from now on\.$'
status "in JSON" 0 "$twinlog" trim held --keep-records 1 --always --json
count "nothing else is said" $(($(wc -l <out) != 1))
status "nothing" 0 "$twinlog" trim plain --keep-time 1d --dry-run
says "is said" out '^Nothing would be removed\. The log would begin at LSN 1\.$'
status "everything" 0 "$twinlog" trim plain --before 20001 --dry-run
says "is said, too" out 'The log would be empty; the next record would get LSN 20001\.$'
status "from the end" 0 "$twinlog" trim plain --after 12345 --dry-run
says "says what would come next" out '^Would remove 7655 records\. The next record would get LSN 12346\.$'
status "no limit" 2 "$twinlog" trim plain --dry-run
status "no log" 1 "$twinlog" trim missing --before 5 --dry-run

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
