#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# cat.sh TWINLOG: which records 'twinlog cat' chooses, how it shows them, and that --export and --import lose nothing.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

# prints NAME EXPECTED OPTION...: what cat prints of the log 'log', newlines as blanks.
prints()
{
    name=$1
    expected=$2
    shift 2
    subject="cat log $*"
    got=$("$twinlog" cat log "$@" | tr '\n' ' ')
    [ "$got" = "$expected" ]
    count "$name: '$got', not '$expected'" $?
}

# at SECONDS LSN TEXT: a record of an export.
at() { printf '%d %d000000000 %d %d %d\n%s\n' "$2" "$1" 7 65535 "${#3}" "$3"; }

# ---- a log with times that the test knows: one record each 10 seconds from 2023-11-14 22:13:20 UTC on -------------

{
    echo 'twinlog export 1'
    for i in 0 1 2 3 4 5 6 7 8 9; do
        at $((1700000000 + 10 * i)) $((41 + i)) "record $i"
    done
    echo end
} >exported
status "an import" 0 "$twinlog" append log --import --print-lsn <exported
prints "begins with the LSN of the export" "record 0 " --to 41
status "an export" 0 "$twinlog" cat log --export
says "tells its history" out '^history [0-9a-f]{32} [0-9]+ [0-9a-f]{8} 41 50$'
plain <out >shown
same "is what was imported, byte for byte" shown exported

prints "the newest" "record 8 record 9 " -n 2
prints "the newest, backwards" "record 9 record 8 " -n 2 -r
prints "more than there are" "record 0 record 1 " -n 5 --to 42
prints "the newest up to an LSN" "record 2 record 3 " --last 2 --to 44
prints "since and until" "record 2 record 3 " --since 2023-11-14T22:13:40Z --until 2023-11-14T22:14:00Z
prints "the same backwards" "record 3 record 2 " --since @1700000020 --until @1700000040 --reverse
prints "between two records" "record 2 " --since @1700000019.5 --until @1700000020.000000001
prints "the last before a time" "record 3 " --until @1700000040 -n 1
prints "the last before a time, as far as --since lets" "record 3 " --since @1700000030 --until @1700000040 -n 5
prints "nothing since today" "" --since today
prints "nothing since a while ago" "" --since 1h30m
prints "all until yesterday, without the last" "record 0 record 1 " --until yesterday --to 42
prints "a date alone is its midnight" "record 0 " --since 2023-11-01 --to 41

# ---- the clock was set back: each way to choose prints of the same range --------------------------------------------

mv log regular
{
    echo 'twinlog export 1'
    at 100 1 1
    at 200 2 2
    at 300 3 3
    at 150 4 4
    at 160 5 5
    at 170 6 6
    echo end
} >set_back
status "an import with times that go back" 0 "$twinlog" append log --import -q <set_back
prints "since a time before the step" "3 4 5 6 " --since @250
prints "the same backwards" "6 5 4 3 " --since @250 -r
prints "the newest of them" "5 6 " --since @250 -n 2
prints "the newest of them, backwards" "6 5 " --since @250 -n 2 -r
prints "as many as there are" "3 4 5 6 " --since @250 -n 9
prints "until a time that came before the first of them, and again behind it" "3 " --since @250 --until @301 --to 3
prints "up to the first of a later time" "1 " --until @170
prints "the same backwards" "1 " --until @170 -r
prints "from behind the step" "4 5 6 " --from 4 --until @180
prints "the same backwards" "6 5 4 " --from 4 --until @180 -r
prints "the newest behind the step" "5 6 " --from 4 --until @180 -n 2
prints "behind the step, up to a time in it" "4 " --from 4 --until @160 -r
prints "nothing between" "" --since @250 --until @260 -r
rm -r log
mv regular log
prints "all until now" "record 9 " --until now -n 1
prints "with times" "2023-11-14T22:13:20.000000000Z record 0 " --to 41 --time
prints "with type and tag" '{"lsn":41,"time":"2023-11-14T22:13:20.000000000Z","type":7,"tag":65535,"size":8,"data":"record 0"} ' \
    --to 41 --json
for time in 1x 5mins '1 h' 1h30 @ @-1 @1.x 2023-11-31 2023-11-14T 2023-11 tomorrow ''; do
    status "no time: '$time'" 2 "$twinlog" cat log --since "$time"
    says "says what is one" err 'point in time such as'
done
status "--time --json" 2 "$twinlog" cat log --time --json
status "--export --reverse" 2 "$twinlog" cat log --export --reverse
status "--last --cursor" 2 "$twinlog" cat log --last 1 --cursor a
status "--last 0" 2 "$twinlog" cat log -n 0
status "a cursor that passes all, up to LSN 50" 0 "$twinlog" cat log --cursor "done"
for to in 49 50; do
    status "--follow up to LSN $to, where the cursor has been" 0 timeout 60 "$twinlog" cat log --cursor "done" --to "$to" --follow
done

# ---- records of any bytes ----------------------------------------------------------------------

printf 'one\nend\n\n\033[31mred\177\302\233\303\244\233\303\t\n\302\233\177\n' >lines
head -c 5000 /dev/urandom | tr '\n' x >>lines
status "records of any bytes" 0 "$twinlog" append any <lines
"$twinlog" cat any --export | plain >any.export
status "go into another log" 0 "$twinlog" append other --import <any.export
status "and come out of it" 0 "$twinlog" cat other --export
plain <out >shown
same "as they were" shown any.export
if script -qc true /dev/null </dev/null >/dev/null 2>&1; then
    script -qc "'$twinlog' cat any --from 4 --to 4" /dev/null </dev/null | tr -d '\r' >shown
    printf '^[[31mred^?\\xC2\\x9B\303\244\\x9B\303\t\n' >expected
    same "a terminal gets no control characters" shown expected
else
    skip "what a terminal is shown" "no script(1), or no pseudo terminal"
fi

status "a record of control characters as JSON" 0 "$twinlog" cat any --from 5 --to 5 --json
says "has none" out '"data":"\\u009b\\u007f"'

# ---- a standby, and a log that goes on in another way ------------------------------------------

# Each record says which history it is of.
lines_of() { seq "$2" "$3" | sed "s/^/$1 /"; }
export_from() { "$twinlog" cat journal --from "$1" --export >carried; }
# holds NAME LSN: the standby has the records of the journal up to that LSN, and ends there.
holds()
{
    "$twinlog" cat journal --to "$2" >expected
    "$twinlog" cat standby >got
    same "$1" got expected
}

lines_of old 1 300 | "$twinlog" append journal -q
"$twinlog" backup journal --output standby >backup.out
lines_of old 301 400 | "$twinlog" append journal -q
export_from 300
status "an export from the standby's last record" 0 "$twinlog" append standby --import -q <carried
holds "brings what the standby lacks" 400
status "the same again" 0 "$twinlog" append standby --import -q <carried
holds "brings nothing" 400

# The import gives such records the present time. The second one comes later.
"$twinlog" cat journal --export | sed 's/^\([0-9]*\) 1[0-9]\{18\} /\1 0 /' >untimed
status "records without a time" 0 "$twinlog" append untimed.log --import -q <untimed
sleep 0.01
status "the same again" 0 "$twinlog" append untimed.log --import -q <untimed
"$twinlog" cat journal >expected
"$twinlog" cat untimed.log >shown
same "each is there once" shown expected

export_from 401
status "an export from behind it" 1 "$twinlog" append standby --import -q <carried
says "says from where to export" err '--from 400 --export'
status "--rewind is for --import" 2 "$twinlog" append standby --rewind </dev/null
cp -R standby before

"$twinlog" trim journal --after 250 >trim.out
status "an export from behind the end of the log" 1 "$twinlog" cat journal --from 400 --export
says "is refused" err 'ends with LSN 250'
export_from 250
status "of a log that is shorter now" 1 "$twinlog" append standby --import -q <carried
says "names the first LSN that differs" err 'the same up to LSN 250, and differ from LSN 251 on'

lines_of new 1 300 | "$twinlog" append journal -q
export_from 400
status "another record in the same place" 1 "$twinlog" append standby --import -q <carried
says "says where to look" err 'Export from a smaller LSN, as 250,'
status "and is never removed without one that is the same" 1 "$twinlog" append standby --import --rewind -q <carried
export_from 240
status "an export from in front of the difference" 1 "$twinlog" append standby --import -q <carried
says "names it" err 'the same up to LSN 250, and differ from LSN 251 on'
says "and what helps" err '--rewind the log loses LSN 251 to 400'
"$twinlog" cat before >expected
"$twinlog" cat standby >got
same "all this changes nothing" got expected
status "with --rewind" 0 "$twinlog" append standby --import --rewind <carried
says "says what it removes" err 'LSN 251 to 400 .* removed'
holds "the standby is the journal again" 550
status "and sound" 0 "$twinlog" verify standby

# An export without --from.
"$twinlog" cat journal --to 400 --export | "$twinlog" append standby --import -q
count "a part of what the standby has is no difference" $?
"$twinlog" trim journal --after 500 >trim.out
for options in '' '--to 500' '--to 400'; do
    # shellcheck disable=SC2086
    "$twinlog" cat journal --export $options >carried
    status "a whole log that is shorter now ($options)" 1 "$twinlog" append standby --import -q <carried
    says "names the first LSN that differs" err 'differ from LSN 501 on'
done
status "with --rewind" 0 "$twinlog" append standby --import --rewind -q <carried
holds "the standby is as short" 500

# Two histories with the same record at the end, its time included: of which one it is tells them apart.
history_of 1 one | "$twinlog" append twice --import -q
"$twinlog" cat twice --from 1 --export | "$twinlog" append third --import -q
"$twinlog" trim twice --after 40 >trim.out
history_of 40 other >untold
status "an export that tells no history" 1 "$twinlog" append twice --import -q <untold
says "proves nothing by an equal record" err 'equal records up to LSN 40, but nothing shows that they are of one history'
says "names the two ways on" err '--from 1 --export.*--same-history'
status "with the word of the operator" 0 "$twinlog" append twice --import --same-history -q <untold
status "--same-history is for --import" 2 "$twinlog" append twice --same-history </dev/null
echo more | "$twinlog" append twice -q
"$twinlog" cat twice --from 60 --export >carried
status "another history with the same record" 1 "$twinlog" append third --import -q <carried
says "is told apart" err 'of another history: record 60 is not the one of the log'
"$twinlog" cat twice --from 30 --export >carried
status "with --rewind from in front of it" 0 "$twinlog" append third --import --rewind -q <carried
"$twinlog" cat twice --json >expected
"$twinlog" cat third --json >got
same "the standby is of that history" got expected
echo last | "$twinlog" append twice -q
"$twinlog" cat twice --from 61 --export >carried
status "and goes on with it" 0 "$twinlog" append third --import -q <carried
"$twinlog" append twice --import -q <carried && "$twinlog" cat twice --from 50 --export | "$twinlog" append third --import -q
count "also where it has all of it" $?

# What is known of the standby's newest records says nothing of those that came in another way.
echo whole | "$twinlog" append twice -q
"$twinlog" cat twice --export | "$twinlog" append third --import -q
lsn=$("$twinlog" cat twice --export | tail -n 3 | head -n 1 | cut -d' ' -f1)
"$twinlog" cat twice --from "$lsn" --export >carried
status "an import behind one that told no history" 0 "$twinlog" append third --import -q <carried
lines_of standby 1 50 | "$twinlog" append third -q
"$twinlog" cat third --from "$lsn" --export | "$twinlog" append twice --import -q
count "a log that follows its standby, which was written to" $?
lines_of back 1 50 | "$twinlog" append twice -q
"$twinlog" cat twice --from $((lsn + 50)) --export >carried
status "and is followed by it again" 0 "$twinlog" append third --import -q <carried
"$twinlog" cat twice >expected
"$twinlog" cat third >got
same "the two are the same" got expected

# ---- the same events in another history --------------------------------------------------------

# Each record has the time and the bytes of its event, whichever history it is in. 'wrong' is the event 60 that the
# journal had at first.
events() { # FIRST LAST [TEXT OF EVENT 60]
    echo "twinlog export 1"
    seq "$1" "$2" | awk -v sixty="${3-event}" '{ text = $1 == 60 ? sixty : "event"
        printf "%d %d 0 0 %d\n%s\n", $1, 1000 + $1, length(text), text } END { print "end" }'
}
# begin_again: events 1 to 100 with a wrong one, and its standby, which is a backup.
begin_again()
{
    rm -rf events standby
    events 1 100 wrong | "$twinlog" append events --import -q
    "$twinlog" backup events --output standby >backup.out
}
# correct: event 60, and all behind it, once more.
correct()
{
    "$twinlog" trim events --after 59 >trim.out
    events 59 120 | "$twinlog" append events --import --same-history -q
}
# refuses NAME: the standby stays what it is.
refuses()
{
    "$twinlog" cat standby >expected
    status "$1" 1 "$twinlog" append standby --import -q <carried
    "$twinlog" cat standby >got
    same "changes nothing" got expected
}

begin_again
events 100 105 | "$twinlog" append events --import --same-history -q
"$twinlog" cat events --from 100 --export >carried
status "the first import of a backup" 0 "$twinlog" append standby --import -q <carried
"$twinlog" cat events >expected
"$twinlog" cat standby >got
same "needs no word of the operator" got expected

begin_again
correct
"$twinlog" cat events --from 100 --export >carried
refuses "the first import, of a history with an equal last record"
says "says that nothing is known" err 'equal records up to LSN 100, but nothing shows'
"$twinlog" cat events --from 100 --to 100 --export >carried
refuses "an export of this record alone"
"$twinlog" cat events --from 1 --export >carried
refuses "an export from the first record on, as was advised"
says "names the first difference" err 'the same up to LSN 59, and differ from LSN 60 on'
status "with --rewind" 0 "$twinlog" append standby --import --rewind -q <carried
"$twinlog" cat events >expected
"$twinlog" cat standby >got
same "the standby has the corrected event" got expected

begin_again
correct
"$twinlog" cat events --export >carried
rm -rf standby.copy && "$twinlog" repair standby --output standby.copy >out && rm -rf standby && mv standby.copy standby
refuses "a standby with an identity of its own"
says "names the first difference, too" err 'the same up to LSN 59, and differ from LSN 60 on'

# A standby that was made of an archive or by a repair has another identity: nothing is known of it, but all can be
# compared, once.
begin_again
"$twinlog" repair events --output standby.copy >out && rm -rf standby && mv standby.copy standby
events 100 105 | "$twinlog" append events --import --same-history -q
"$twinlog" cat events --from 100 --export >carried
refuses "a repaired log of the same history, from its last record on"
"$twinlog" cat events --from 1 --export >carried
status "from its first one on, as was advised" 0 "$twinlog" append standby --import -q <carried
echo later | "$twinlog" append events -q
"$twinlog" cat events --from 105 --export >carried
status "and from then on from its last one" 0 "$twinlog" append standby --import -q <carried
"$twinlog" cat events >expected
"$twinlog" cat standby >got
same "the standby has all of it" got expected

# The way back: the standby was written to, and the log follows it from its own last record on.
begin_again
events 100 105 | "$twinlog" append events --import --same-history -q
"$twinlog" cat events --from 100 --export | "$twinlog" append standby --import -q
echo "written by the standby" | "$twinlog" append standby -q
"$twinlog" cat standby --from 105 --export >carried
says "the export tells from where its record came" carried '^origin [0-9a-f]{32} [0-9a-f]{8} 105$'
status "the log follows its standby" 0 "$twinlog" append events --import -q <carried
echo "written by the log" | "$twinlog" append events -q
"$twinlog" cat events --from 106 --export >carried
status "and the standby the log again" 0 "$twinlog" append standby --import -q <carried
"$twinlog" cat events >expected
"$twinlog" cat standby >got
same "they are the same" got expected

# ---- an import that cannot be right ------------------------------------------------------------

status "into a log that goes on elsewhere" 1 "$twinlog" append log --import <any.export
says "says what is missing" err 'no record that the log has'
says "and what helps" err '--from 50 --export'
prints "changes nothing" "record 9 " -n 1
status "with --renumber" 0 "$twinlog" append log --import --renumber <any.export
prints "goes behind" "record 9 one " --from 50 --to 51
size=$(wc -c <exported)
for cut in 0 5 17 30 60 $((size - 4)) $((size - 1)); do
    head -c "$cut" exported >part
    rm -rf part.log
    status "the first $cut bytes of an export" 1 "$twinlog" append part.log --import <part
    says "are not all of it" err 'not all of one'
done
"$twinlog" cat part.log >out
says "but the records before are there" out 'record 9'
sed 's/^end$/end more/' exported >part
status "an export with something behind it" 1 "$twinlog" append after --import <part
for header in '41 1 256 0 1' '41 1 0 65536 1' '41 1 0 0 01' ' 41 1 0 0 1' '+41 1 0 0 1' '41 1 0 0 1 ' '0 1 0 0 1' '41 1 0 0 -1' \
    '41 1 0 0 18446744073709551615' '41 1 0 0 2'; do
    printf 'twinlog export 1\n%s\nx\nend\n' "$header" >part
    status "a header of '$header'" 1 "$twinlog" append wrong --import <part
done
printf 'twinlog export 1\n41 1 0 0 1\0 more\nx\nend\n' >part
status "a header with something behind a NUL" 1 "$twinlog" append wrong --import <part
status "an export of a later version" 1 "$twinlog" append wrong --import <<END
twinlog export 2
end
END
for option in --null --framed --mapped --shared; do
    status "--import $option" 2 "$twinlog" append wrong --import $option <exported
done
status "--renumber alone" 2 "$twinlog" append wrong --renumber <exported
printf '1 5 0 0 1\nx\n3 5 0 0 1\ny\n' | sed '1i twinlog export 1' >gapped
status "an export with a gap" 1 "$twinlog" append gap --import <gapped
says "says where" err 'record 2 of the input has LSN 3,'
for lsn in 9223372036854775808 18446744073709551614 18446744073709551615; do
    printf 'twinlog export 1\n%s 5 0 0 1\nx\nend\n' $lsn >largest
    rm -rf fresh
    status "an export that begins with LSN $lsn" 1 "$twinlog" append fresh --import <largest
    says "says what helps" err "has LSN $lsn,.*at most 9223372036854775807\): give new LSNs with --renumber"
    status "with new LSNs" 0 "$twinlog" append fresh --import --renumber <largest
done
printf 'twinlog export 1\n9223372036854775807 5 0 0 1\nx\n9223372036854775808 5 0 0 1\ny\nend\n' >largest
status "an export that begins with the largest LSN for a beginning" 0 "$twinlog" append most --import <largest
"$twinlog" cat most --export | plain | cmp - largest
count "is the same again" $?

# ---- a log that another process writes ---------------------------------------------------------

mkfifo feed
"$twinlog" append busy <feed 2>holder.err &
exec 3>feed
echo first >&3
writes() { "$twinlog" cat busy 2>/dev/null | grep -q first; }
wait_until writes
count "a writer" $?
status "a second one without --wait" 7 "$twinlog" append busy <lines
status "one that waits a little" 7 "$twinlog" append busy --wait 1s <lines
timeout 100 "$twinlog" append busy --wait 10min <lines 3>&- &
waiting=$!
exec 3>&-
wait $waiting
count "one that waits for the end of the first" $?
status "--wait of no time" 2 "$twinlog" append busy --wait soon <lines

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
