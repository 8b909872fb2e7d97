#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# wrong.sh TWINLOG: what the command says where something is wrong: no log, damage, a killed writer, a full disk, a wrong
# command line.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

test_missing()
{
    for command in cat stat verify cursors meta; do
        status "$command of a log that is missing" 1 "$twinlog" "$command" missing
        says "names it and says what to do" err "'missing': No such file|Check the path"
        mkdir -p hollow
        status "$command of an empty directory" 1 "$twinlog" "$command" hollow
        echo text >file
        status "$command of a file" 1 "$twinlog" "$command" file
    done
    for command in 'trim --before 2' 'trim --after 2' 'reset --next 2' 'cursors --set a=0' 'meta --set a --value b' \
        'cat --cursor a'; do
        # shellcheck disable=SC2086 # words
        status "$command of a log that is missing" 1 "$twinlog" $command missing
        says "names it and says what to do" err "'missing': No such file|Check the path"
        # shellcheck disable=SC2086
        status "$command of an empty directory" 1 "$twinlog" $command hollow
        # shellcheck disable=SC2086
        status "$command of a file" 1 "$twinlog" $command file
    done
    for command in probe bench; do
        status "$command in a directory that is missing" 1 "$twinlog" "$command" missing
        says "says what to do" err 'must exist'
        status "$command in a file" 1 "$twinlog" "$command" file
    done
    count "nothing was created" "$(find missing hollow -mindepth 1 2>/dev/null | wc -l)"
    status "append where the parent is missing" 7 "$twinlog" append missing/log </dev/null
    says "says what to do" err 'its parent must exist'
    count "once" $(($(wc -l <err) != 2))
    status "append to a file" 7 "$twinlog" append file </dev/null
    got=0
    subject="append with few descriptors"
    # shellcheck disable=SC3045 # every shell that is sh here has it
    (ulimit -n 6 && exec "$twinlog" append tight) </dev/null >out 2>err || got=$?
    count "append with few descriptors fails" $((got != 1))
    says "says what the system says, and what to do" err 'Raise the limit on open files'
    mkdir strange
    echo text >strange/notes.txt
    status "append to a directory of other files" 7 "$twinlog" append strange </dev/null
    count "leaves it alone" $(($(find strange -mindepth 1 | wc -l) - 1))
    status "cat of a directory of other files" 1 "$twinlog" cat strange
    says "asks whether it is the right one" err 'no log in this directory; check the path'
}

test_foreign()
{
    fill strangers 10
    file=$(find strangers -name '*.twl')
    head -c 524288 /dev/zero | tr '\0' 'x' >"$file"
    for command in append cat stat verify; do
        status "$command where a segment is no segment" 3 "$twinlog" "$command" strangers </dev/null
        cat out >>err # where verify prints its findings
        says "names the file" err "$(basename "$file").*restore that file from a copy"
    done
}

test_too_large()
{
    printf 'short\nmuch too long\nnever read\n' >in
    status "append a line that is too large" 1 "$twinlog" append limited --max-record 8 <in
    says "names the line" err 'line 2 '
    says "and the option" err '--max-record'
    says "and what is durable" err 'LSN 1 of this run is durable'
    status "cat" 0 "$twinlog" cat limited
    says "what came before is there" out '^short$'
    count "and nothing else" $(($(wc -l <out) - 1))
    got=0
    head -c 50000000 /dev/zero | "$twinlog" append limited 2>err || got=$?
    count "a line without an end" $((got != 1))
    says "is an error too" err 'line 1 '
    printf '\377\377\377\377a' >in
    status "a frame with a huge length" 1 "$twinlog" append limited --framed <in
    says "is an error too" err 'record 1 '
}

test_damage()
{
    seq -f 'record %g of a thousand' 1000 >in
    status "append" 0 "$twinlog" append damaged <in
    spoil damaged 'record 500 '

    status "verify of a log with a wrong byte" 3 "$twinlog" verify damaged
    says "names the segment, file, offset and LSN" out \
        "^damage: segment 1, $(basename "$file"), offset [0-9]+, LSN 500"
    status "verify --json of it" 3 "$twinlog" verify damaged --json
    says "names them too" out "\"segment\":1,\"file\":\"$(basename "$file")\",\"offset\":[0-9]+,.*\"first_lsn\":500,"
    says "and says that it is not sound" out '"is_sound":false'
    status "cat of it" 3 "$twinlog" cat damaged
    head -n 499 in >want
    same "prints what is before the damage" want out
    says "then the place" err "segment 1, $(basename "$file"), offset [0-9]+, LSN 500"
    rm damaged/writer.lock # the note in it would let the opening pass by
    status "append to it" 3 "$twinlog" append damaged </dev/null
    says "and says which command helps" err "'twinlog repair DIR --output NEW' saves"
    status "cat of what is before the damage" 0 "$twinlog" cat damaged --to 499
    status "and back" 0 "$twinlog" cat damaged --to 499 --reverse
}

# A reader that starts behind the damage, or at the end, is told of it as well: "nothing" would be wrong. With the writer's
# note it begins behind the damage, as in a segment behind a damaged one.
test_behind_damage()
{
    seq -f 'record %g of a thousand' 1000 >in
    status "append" 0 "$twinlog" append behind <in
    sed 's/^record/entry/' in >behind.txt
    status "append more" 0 "$twinlog" append behind <behind.txt
    spoil behind 'record 500 '
    for options in '--from 1500' '--reverse --to 1500'; do
        # shellcheck disable=SC2086
        status "cat $options with the note" 0 "$twinlog" cat behind $options -n 1
    done
    status "append behind it" 0 "$twinlog" append behind </dev/null
    status "verify" 3 "$twinlog" verify behind
    rm behind/writer.lock

    for options in '--from 1500' '--from 2001' '--reverse' '--follow --from 1500' '--mmap --from 2000'; do
        # shellcheck disable=SC2086
        status "cat $options" 3 timeout 60 "$twinlog" cat behind $options
        says "then the place" err "segment 1, $(basename "$file"), offset [0-9]+, LSN "
        : >want
        same "prints nothing that may be the wrong end" want out
    done
    status "cat with a cursor" 3 "$twinlog" cat behind --cursor consumer
    head -n 499 in >want
    same "prints what is before the damage" want out
    status "the list of cursors" 3 "$twinlog" cursors behind
    says "tells where the cursor stands" out '^consumer +499 '
    says "and that more may be behind it" err "segment 1, $(basename "$file"), offset [0-9]+, LSN "
}

test_killed()
{
    start_writer killed
    printf 'one\ntwo\n' >&3
    read -r lsn <&4
    read -r lsn <&4
    stop_writer KILL
    status "stat after kill -9" 0 "$twinlog" stat killed
    says "says that the log was not closed" out '^status +not closed'
    status "cat after kill -9" 0 "$twinlog" cat killed
    printf 'one\ntwo\n' >want
    same "has what was acknowledged" want out
    echo three >in
    status "append after kill -9" 0 "$twinlog" append killed --print-lsn <in
    says "goes on" out '^3$'
}

test_full()
{
    fill full 10
    { seq 11 1000 && head -c 1020000 /dev/zero | tr '\0' x && echo && seq 1001 1010; } >in
    got=0
    subject="append under a limit on the size of files"
    # 1 MB: segments are made smaller, but none can be as small as the long line
    (ulimit -f 2000 && exec "$twinlog" append full --print-lsn) <in >lsns 2>err || got=$?
    count "a log that cannot grow ends with an error" $((got != 6))
    says "and the reason is there" err 'File too large'
    says "and which line was refused" err 'line [0-9]+ of the input was not appended, nor was what comes after it'
    lsn=$(tail -n 1 lsns)
    if [ -n "$lsn" ]; then
        says "the last LSN that was printed is the last durable one" err "LSN 11 to $lsn of this run are durable"
    else
        says "no LSN was printed and none is durable" err 'No record of this run is known to be durable'
        lsn=10
    fi
    count "which is the one behind the last durable one" $(($(refused_line) != lsn - 9))
    status "cat after that" 0 "$twinlog" cat full --to "$lsn"
    seq "$lsn" >want
    same "what was durable is there" want out
    status "append once there is room" 0 "$twinlog" append full </dev/null

    # lines are given to the log many at a time, and it takes those for which it has room
    if ! unshare -m true 2>/dev/null; then
        skip "many short lines and a full disk" "only root may mount a small one"
        return
    fi
    mkdir small
    seq 400000 >in
    got=0
    # shellcheck disable=SC2016 # for the shell in the namespace
    unshare -m sh -c 'mount -t tmpfs -o size=3m tmpfs small && "$0" append small/log --print-lsn <in >lsns 2>err; got=$?
        "$0" cat small/log >out; exit $got' "$twinlog" || got=$?
    count "a disk that gets full under many short lines ends append" $((got != 6))
    lsn=$(tail -n 1 lsns)
    count "some were taken" $((lsn < 1000))
    count "the line behind the last durable one was refused" $(($(refused_line) != lsn + 1))
    seq "$lsn" >want
    same "those that were taken are there, and no other" want out

    # each opening takes some of the room that is left; at last a close has none, though no writer has died
    # shellcheck disable=SC2016 # for the shell in the namespace
    status "stat where a close finds no room" 0 unshare -m sh -c 'mount -t tmpfs -o size=3m tmpfs small && {
        "$0" append small/log <in
        for i in $(seq 100); do
            "$0" append small/log </dev/null
            "$0" stat small/log | grep -q "closed cleanly" || break
        done; } 2>/dev/null; "$0" stat small/log' "$twinlog"
    says "says that it may be the room" out '^status +not closed: .*, or had no room for the marker of its close$'
}

refused_line() { sed -nE 's/.*line ([0-9]+) of the input was not appended.*/\1/p' err; }

test_permissions()
{
    if [ "$(id -u)" = 0 ] && ! command -v setpriv >/dev/null; then
        skip "directories that may not be written" "root may write everything, and there is no setpriv"
        return
    fi
    cp "$twinlog" "$public/twinlog"
    chmod 755 "$public"
    fill "$public/log" 3
    mkdir "$public/locked"
    chmod 555 "$public/locked" "$public/log"
    status "append where no directory may be made" 7 as_nobody "$public/twinlog" append "$public/locked/log" </dev/null
    says "says why" err 'Permission denied'
    says "and what to do" err 'permissions|another place'
    status "append to a log in a directory that may not be written" 7 \
        as_nobody "$public/twinlog" append "$public/locked" </dev/null
    status "bench there" 1 as_nobody "$public/twinlog" bench "$public/locked" </dev/null
    status "probe there" 1 as_nobody "$public/twinlog" probe "$public/locked" </dev/null
    chmod 755 "$public/locked" "$public/log"
}

test_output()
{
    fill shown 1000
    for command in cat stat verify cursors meta probe 'cat --reverse' 'cat --follow' 'trim --before 2'; do
        got=0
        # shellcheck disable=SC2086 # words
        "$twinlog" $command shown >/dev/full 2>err || got=$?
        count "$command to a full disk" $((got != 1))
        says "says so" err 'standard output: No space left'
    done
    got=0
    "$twinlog" --help >/dev/full 2>err || got=$?
    count "--help to a full disk" $((got != 1))
    got=0
    seq 1000 | "$twinlog" append shown --print-lsn >/dev/full 2>err || got=$?
    count "append --print-lsn to a full disk" $((got != 1))
    says "says that the records are durable" err 'records are durable: LSN 1001 to 2000'
    status "stat" 0 "$twinlog" stat shown
    says "they are" out '^durable LSN +2000$'
    seq 1000 | "$twinlog" append shown --print-lsn 2>err | head -n 1 >out
    status "stat after the reader of the LSNs has gone" 0 "$twinlog" stat shown
    says "the input was appended to its end" out '^durable LSN +3000$'
    "$twinlog" cat shown 2>err | head -n 1 >out
    same "cat into a closed pipe is quiet" /dev/null err

    "$twinlog" append shown <&- 2>err
    count "append without standard input" $(($? != 1))
    "$twinlog" cat shown >&- 2>err
    count "cat without standard output" $(($? != 1))
}

# refuses COMMAND OPTIONS...: the command is used wrongly with each of these, of the log "used".
refuses()
{
    command=$1
    shift
    for options in "$@"; do
        # shellcheck disable=SC2086 # words
        status "$command $options" 2 "$twinlog" "$command" used $options </dev/null
    done
}

test_usage()
{
    fill used 3
    status "no command" 2 "$twinlog"
    status "no such command" 2 "$twinlog" mend used
    says "names it" err "'mend'"
    commands='append cat stat verify trim reset cursors meta backup repair archive restore bench probe'
    for command in $commands; do
        status "$command without a directory" 2 "$twinlog" "$command" </dev/null
        says "points to --help" err "Try 'twinlog $command --help'"
        status "$command of two directories" 2 "$twinlog" "$command" used used </dev/null
        status "$command of an empty name" 2 "$twinlog" "$command" '' </dev/null
        status "$command --nonsense" 2 "$twinlog" "$command" used --nonsense </dev/null
        status "$command --help" 0 "$twinlog" "$command" --help
        says "shows the usage" out "^Usage: twinlog $command DIR"
        says "the exit status" out '^Exit status: 0'
        says "and an example" out '^Example'
        status "$command --version" 0 "$twinlog" "$command" --version
        says "shows the version" out '^twinlog [0-9]+\.[0-9]+\.[0-9]+$'
    done
    status "--help" 0 "$twinlog" --help
    for command in $commands; do
        says "lists $command" out "^  $command "
    done
    status "help" 0 "$twinlog" help
    says "is --help" out '^  cat  '
    status "help cat" 0 "$twinlog" help cat
    says "is cat --help" out '^Usage: twinlog cat DIR'
    status "help nothing" 2 "$twinlog" help nothing
    status "--version" 0 "$twinlog" --version
    says "shows the version" out '^twinlog [0-9]+\.[0-9]+\.[0-9]+$'

    refuses append '--null --framed' '--mapped --pad' '--io tape' '--segment 100000' --max-record '--prepare well' \
        '--keep-bytes 0' '--keep-records 0' '--keep-time 0s' '--keep-time 5' '--shared --pad'
    says "names both" err '--shared and --pad'
    refuses bench '--mapped --segment 2G' '--processes 0' '--processes 256' '--processes 2 --segment 2G' '--threads 0'
    refuses cat '--null --json' '--from 0' '--from 3 --to 2' '--from 1 --since 1d' '--since 1d --cursor a' \
        '--cursor a --from 1' '--reverse --follow' '--reverse --cursor a' '--follow --null --json'
    for number in -1 ' 1' x 1X 1KB 99999999999999999999 99999999999999999G ''; do
        status "cat --from '$number'" 2 "$twinlog" cat used --from "$number"
    done
    name=$(printf 'one\nline\033[31m')
    status "a strange name in a message" 1 "$twinlog" cat "$name"
    says "cannot change the terminal, nor begin a line" err "^twinlog cat: .*'one\?line\?\[31m'"
    refuses top '--interval 0' '--interval 1s' '--interval nan' '--interval 1e9'
    refuses stat '--prometheus --json' '--prometheus --all'
    for time in '' 5 5x 5mm -5m 10:00 '2026-11-20 ' 2026-11-20T10 2026-11-20X10:00 2026-02-29T10:00 \
        2026-13-01T10:00 2026-00-10T10:00 2026-11-31T10:00 2026-11-20T24:00 2026-11-20T10:60 2026-11-20T10:00:60 \
        2026-11-20T10:00:00. 2026-11-20T10:00Zz 2026-11-20T10:00+0100 2026-11-20T10:00+24:00 26-11-20T10:00 \
        '20 6-11-20 10:00' 2400-01-01T00:00Z 99999999999999999999s 300000d; do
        status "cat --since '$time'" 2 "$twinlog" cat used --since "$time"
        says "shows what it takes" err "2026-11-20T10:00:00Z"
    done

    refuses trim '' '--json' '--past-cursors' '--after 1 --before 2' '--after 1 --past-cursors' '--before 0' \
        '--after -1' '--after 9223372036854775808' '--keep-bytes 0' '--keep-records 0' '--keep-time' '--keep-time 1y'
    refuses reset '--force' '--next 0' '--force --next 9223372036854775808'
    long=$(seq -s x 100 | head -c 64)
    refuses cursors '--set a' '--set a=' '--set a=x' '--set =1' "--set $long=1" '--remove' "--remove $long" \
        '--set a=1 --remove a' '--set a=1 --set b=1' '--remove a --json'
    refuses meta "--get $long" '--get a --set b' '--set a --set b' '--value b' '--get a --value b' \
        '--remove a --value b' '--get a --json'
    status "meta --set of an empty name" 2 "$twinlog" meta used --set '' --value 1
    status "meta --set as of a cursor" 2 "$twinlog" meta used --set a=1 </dev/null
    says "names the option" err '--set NAME --value TEXT'
    for command in backup repair; do
        status "$command without --output" 2 "$twinlog" "$command" used
        says "asks for it" err '--output NEW'
        status "$command to an empty name" 2 "$twinlog" "$command" used --output ''
        status "$command of two directories" 2 "$twinlog" "$command" used new --output other
    done
    holds "the log is as it was" used 1 3
}

test_missing
test_foreign
test_too_large
test_damage
test_behind_damage
test_killed
test_full
test_permissions
test_output
test_usage

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
