#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# service.sh TWINLOG: runs 'twinlog sink' and 'twinlog append' as services run them, behind a pipe, in a fresh directory
# beside the caller's, and prints what did not come out as promised.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

# ---- a command behind a pipe --------------------------------------------------------------------

# begin COMMAND...: takes what is written to 3; its output is in the files out and err.
begin()
{
    rm -f feed
    mkfifo feed
    "$@" <feed >out 2>err &
    command=$!
    subject=$*
    exec 3>feed
}

# begin_sink FILE OPTION...: has written its first line when this returns.
begin_sink()
{
    begin "$twinlog" sink "$@"
    echo first >&3
    wait_until has "$1" first || count "the first line is there" 1
}

# has FILE LINE
has() { grep -aqsx -e "$2" "$1"; }

# ends STATUS NAME: the command ends with that status.
ends()
{
    got=0
    wait "$command" 2>/dev/null || got=$?
    count "$2: status $got" $((got != $1))
}

by_term=143

# ---- the signal to stop -------------------------------------------------------------------------

# A web server tells its old logger to end, while old workers still have the pipe.
test_linger()
{
    begin_sink outlived
    kill -TERM "$command"
    echo second >&3
    wait_until has outlived second || count "what comes after SIGTERM is written" 1
    echo third >&3
    exec 3>&-
    ends "$by_term" "the end of the pipe ends it, by the signal"
    printf 'first\nsecond\nthird\n' >want
    same "and every line is there" want outlived
    same "nothing was said" /dev/null err

    begin_sink twice
    kill -TERM "$command"
    echo second >&3
    wait_until has twice second || count "what comes after SIGTERM is written" 1
    kill -TERM "$command"
    ends "$by_term" "a second signal ends it, though the pipe has a writer"
    exec 3>&-

    begin_sink late --linger 1s
    kill -TERM "$command"
    ends "$by_term" "the time ends it, too"
    says "says what that means" err 'what they write from now on is lost'
    exec 3>&-

    begin_sink both_ways
    exec 3>&-
    ends 0 "the end of the input"
    subject="a FIFO that is open both ways"
    "$twinlog" sink both_ways <>feed 2>err &
    command=$!
    echo second >feed
    wait_until has both_ways second || count "its lines are written" 1
    kill -TERM "$command"
    ends "$by_term" "does not linger: such a pipe never ends"
    same "nor says so" /dev/null err
}

test_append_lingers()
{
    begin "$twinlog" append drained --print-lsn
    echo first >&3
    wait_until has out 1 || count "the first line is durable" 1
    kill -STOP "$command"
    seq 700 >&3
    kill -TERM "$command"
    kill -CONT "$command"
    wait_until has out 701 || count "what waits in the pipe at SIGTERM is durable" 1
    echo last >&3
    exec 3>&-
    ends "$by_term" "and what comes later, to the end of the pipe"
    { echo first && seq 700 && echo last; } >want
    "$twinlog" cat drained >out
    same "nothing is missing" want out

    : >out # what is waited for must not be of the command before
    begin "$twinlog" append hung_up --print-lsn
    echo one >&3
    wait_until has out 1
    kill -HUP "$command"
    echo two >&3
    wait_until has out 2 || count "SIGHUP does not end it" 1
    exec 3>&-
    ends 0 "only the end of the pipe"

    seq 3000000 >in
    subject="append of a file"
    "$twinlog" append stopped <in >out 2>err &
    command=$!
    wait_until test -e stopped/writer.lock
    kill -TERM "$command"
    ends "$by_term" "a file is read no further after SIGTERM"
    says "says so" err 'stopped by signal'
}

# ---- files that cannot be gone on with ----------------------------------------------------------

test_aside()
{
    printf 'old\n\0\0' >zeros
    cp zeros want
    printf 'new\n' >in
    # shellcheck disable=SC2002,SC2016 # a pipe is what is tested
    status "a pipe into a file that ends in zeros" 0 sh -c 'cat in | "$0" sink zeros --mapped' "$twinlog"
    same "puts it aside" want zeros.unknown.1
    same "and begins a new one" in zeros
    says "says so" err "it is 'zeros.unknown.1' now"
    printf 'old\n\0\0' >zeros
    # shellcheck disable=SC2016
    status "a second time" 0 sh -c 'cat in | "$0" sink zeros --mapped' "$twinlog"
    same "the next number is taken" want zeros.unknown.2
    same "the first one stays" want zeros.unknown.1
    printf 'old\n\0\0' >zeros
    status "a file into it" 7 "$twinlog" sink zeros --mapped <in
    same "is refused" want zeros

    ln -s zeros link
    # shellcheck disable=SC2016
    status "a pipe into a link to it" 7 sh -c 'cat in | "$0" sink link --mapped' "$twinlog"
    same "is refused, too" want zeros
}

test_aside_of_rights()
{
    if [ "$(id -u)" = 0 ] && ! command -v setpriv >/dev/null; then
        skip "files that may not be written" "root may write everything, and there is no setpriv"
        return
    fi
    cp "$twinlog" "$public/twinlog"
    mkdir "$public/logs"
    chmod 777 "$public" "$public/logs"
    echo theirs >"$public/logs/file"
    chmod 644 "$public/logs/file"
    [ "$(id -u)" = 0 ] || chmod 444 "$public/logs/file"
    echo mine >in
    # shellcheck disable=SC2016 # for the other user's shell
    status "a pipe into a file without the right to write it" 0 as_nobody sh -c \
        'cat | "$0/twinlog" sink "$0/logs/file"' \
        "$public" <in
    same "begins a new file" in "$public/logs/file"
    says "and the other one is kept" "$public/logs/file.unknown.1" theirs
    chmod 555 "$public/logs"
    chmod 444 "$public/logs/file"
    [ "$(id -u)" != 0 ] || chown 0 "$public/logs/file"
    # shellcheck disable=SC2016
    status "where no file may be renamed" 7 as_nobody sh -c 'cat | "$0/twinlog" sink "$0/logs/file"' "$public" <in
    says "it says why" err 'Permission denied'
    chmod 755 "$public/logs"
}

# ---- what others do to the file -----------------------------------------------------------------

test_copytruncate()
{
    begin_sink shortened
    cp shortened shortened.1
    : >shortened
    echo second >&3
    wait_until has shortened second || count "copytruncate: it goes on" 1
    echo second >want
    same "at the new end" want shortened
    truncate -s 3 shortened
    echo third >&3
    wait_until grep -qs third shortened || count "any other length: it goes on" 1
    printf 'secthird\n' >want
    same "there" want shortened
    exec 3>&-
    ends 0 "and it has never minded"

    begin "$twinlog" sink mapped --mapped
    echo first >&3
    wait_until grep -aqs first mapped
    : >mapped
    got=0
    (trap '' PIPE && yes more >&3) 2>/dev/null
    exec 3>&-
    wait "$command" || got=$?
    count "a mapped one ends with an error: status $got" $((got != 1))
    says "and says that another program has made the file shorter" err 'copytruncate'
}

# ---- rights --------------------------------------------------------------------------------------

# rights FILE: mode, owner and group.
rights() { stat -c '%a %u %g' "$1"; }

# has_rights NAME FILE RIGHTS
has_rights()
{
    got=$(rights "$2")
    [ "$got" = "$3" ]
    count "$1: $got" $?
}

test_rights()
{
    me="$(id -u) $(id -g)"
    echo line >in
    status "sink --mode" 0 "$twinlog" sink secret --mode 0600 --rotate 5 <in
    has_rights "the new file has it" secret "600 $me"
    status "sink without it" 0 "$twinlog" sink secret --rotate 5 <in
    has_rights "the next file has it, too" secret "600 $me"
    has_rights "and the last one" secret.1 "600 $me"
    status "sink --mode of a file that is there" 0 "$twinlog" sink secret --mode 640 <in
    has_rights "changes it" secret "640 $me"
    for wrong in '--mode 9' '--mode 10000' '--mode' '--owner nobody-of-this-name' '--owner :' '--owner'; do
        # shellcheck disable=SC2086 # words
        status "sink $wrong" 2 "$twinlog" sink secret $wrong <in
    done
    # The owner of the directory could have a file of others given away.
    echo theirs >elsewhere
    chmod 600 elsewhere
    ln -s elsewhere linked
    status "sink --mode of a link" 1 "$twinlog" sink linked --mode 0644 <in
    advises err 'name the file that it leads to'
    has_rights "leaves the file" elsewhere "600 $me"
    status "sink --mode of that file" 0 "$twinlog" sink elsewhere --mode 0644 <in
    has_rights "changes it" elsewhere "644 $me"

    if [ "$(id -u)" != 0 ]; then
        skip "files of other owners" "only root may give them away"
        return
    fi
    status "sink --owner" 0 "$twinlog" sink given --owner 65534:adm --mode 0640 --rotate 5 <in
    has_rights "the new file is given away" given "640 65534 $(getent group adm | cut -d : -f 3)"
    status "sink again" 0 "$twinlog" sink given --rotate 5 <in
    has_rights "and so is the next one" given "640 65534 $(getent group adm | cut -d : -f 3)"
    count "nothing is left beside them" "$(find . -name '.twinlog.*.n*' | wc -l)"
    status "sink --owner of a group" 0 "$twinlog" sink group --owner :adm <in
    has_rights "leaves the user" group "644 0 $(getent group adm | cut -d : -f 3)"
}

# A log directory that only root may reach, as that of a unit with DynamicUser is.
test_finish_as_root()
{
    if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
        skip "sink --finish of another user's file" "this is not root, or there is no setpriv"
        return
    fi
    mkdir -p private/logs
    cp "$twinlog" private/logs/command
    chown 65534:65534 private/logs
    mkfifo private/logs/pipe
    (cd private/logs && exec setpriv --reuid=65534 --regid=65534 --clear-groups ./command sink file --mapped <pipe) &
    command=$!
    exec 3>private/logs/pipe
    echo one >&3
    wait_until grep -aqs one private/logs/file
    kill -KILL "$command"
    wait "$command" 2>/dev/null
    exec 3>&-
    chmod 700 private
    mv private/logs/file private/logs/file.1
    count "the file ends in zeros" $(($(stat -c %s private/logs/file.1) < 1000000))
    status "root's sink --finish of it" 0 "$twinlog" sink --finish private/logs/file.1
    echo one >want
    same "leaves its bytes" want private/logs/file.1
    has_rights "and its owner" private/logs/file.1 "644 65534 65534"
    count "nothing is left beside it" "$(find private -name '.twinlog*' | wc -l)"
}

# ---- rotation that is refused -------------------------------------------------------------------

test_rotation_refused()
{
    mkfifo other.feed
    "$twinlog" sink turned.1 <other.feed &
    other=$!
    exec 4>other.feed
    echo other >&4
    wait_until has turned.1 other
    seq 100 >in
    mkfifo slow.feed
    { head -n 50 in; sleep 2; tail -n +51 in; } >slow.feed & # it is told when it has lasted for a second
    status "a rotation that would rename another sink's file" 0 "$twinlog" sink turned --rotate 100 <slow.feed
    says "is told" err "cannot rotate 'turned'"
    count "once" $(($(grep -c 'cannot rotate' err) != 1))
    says "with the name that is in the way" err "turned.1' is the file of another sink."
    same "and the file grows on" in turned
    exec 4>&-
    wait "$other"
    echo other >want
    same "the other one has its file" want turned.1
}

# The name in the way is not the one of the file: it is told.
test_rotation_obstacles()
{
    seq 100 >in
    mkdir blocked.1
    status "a rotation to the name of a directory" 0 "$twinlog" sink blocked --rotate 100 <in
    says "is told" err "cannot rotate 'blocked'"
    says "with that name" err "blocked.1' is a directory."
    same "and the file grows on" in blocked
    count "the directory keeps its name" "$(find . -name 'blocked.2' | wc -l)"

    seq 10000 >in
    mkdir mapped.1
    status "the same of a mapped sink" 7 "$twinlog" sink mapped --mapped --rotate 4096 <in
    says "is told" err "cannot write to 'mapped'"
    says "with that name" err "mapped.1' is a directory."

    seq 100 >in
    if [ "$(id -u)" != 0 ]; then
        skip "a rotation beside files of other users" "only root has some"
        return
    fi
    mkdir "$public/theirs"
    cp "$twinlog" "$public/twinlog"
    chmod 755 "$public" "$public/twinlog"
    chown 65534:65534 "$public/theirs"
    echo older >"$public/theirs/file.1"
    chmod 600 "$public/theirs/file.1"
    status "a rotation over a file that cannot be read" 0 \
        as_nobody "$public/twinlog" sink "$public/theirs/file" --rotate 100 <in
    says "is told" err "cannot rotate"
    says "with its name" err "file.1' cannot be opened: Permission denied."
    same "and the file grows on" in "$public/theirs/file"

    rm "$public/theirs/file.1"
    chown 0:0 "$public/theirs"
    : >"$public/theirs/file"
    status "a rotation in a directory that cannot be written" 0 \
        as_nobody "$public/twinlog" sink "$public/theirs/file" --rotate 100 <in
    says "is told" err "cannot rotate"
    says "with its name" err "theirs/' cannot be written, and the file gets its new name there: Permission denied."
    same "and the file grows on" in "$public/theirs/file"
    rm -r "$public/theirs"
}

# ---- what a kill in the middle of a large write leaves -------------------------------------------

test_torn()
{
    begin_sink torn --shared
    printf 'a part of a line' >>torn
    echo second >&3
    wait_until has torn second || count "a line behind a torn one is one of its own" 1
    printf 'first\na part of a line\nsecond\n' >want
    same "and nothing else" want torn
    exec 3>&-
    ends 0 "the end of the input"
}

# ---- files by date and time, lines with times -----------------------------------------------------

# leads_elsewhere LINK TARGET
leads_elsewhere() { [ "$(readlink "$1")" != "$2" ]; }

# has_words COUNT: so many confirmations were printed.
has_words() { [ "$(grep -cx OK out)" = "$1" ]; }

is_winter() { [ "$(date +%Z)" = WIN ]; }

# clock SECONDS: west of Greenwich, as TZ has it.
clock()
{
    ahead=
    west_of=$1
    [ "$west_of" -ge 0 ] || { ahead=- && west_of=$((-west_of)); }
    printf '%s%d:%02d:%02d' "$ahead" $((west_of / 3600)) $((west_of / 60 % 60)) $((west_of % 60))
}

test_times()
{
    begin "$twinlog" sink 'day/%Y/at-%S.log' --date --link newest.log --timestamps
    echo first >&3
    wait_until grep -qs first newest.log || count "a link leads to the file of a name with a date" 1
    before=$(readlink newest.log)
    wait_until leads_elsewhere newest.log "$before" || count "a new name is a new file, also without lines" 1
    echo second >&3
    wait_until 'cat day/*/* | grep -q second' || count "lines go there" 1
    exec 3>&-
    ends 0 "the end of the input"
    cat day/*/*.log >all
    count "there are two lines" $(($(wc -l <all) != 2))
    says "with the time in front of them" all \
        '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z first$'
    count "in files of their own" $(($(grep -l . day/*/*.log | wc -l) != 2))

    printf 'a\n\nc' >in
    status "sink --timestamps of an empty line, and one without an end" 0 "$twinlog" sink times --timestamps <in
    sed 's/^[^ ]* //' times >out
    same "keeps them as they are" in out
    echo file >occupied
    mkdir another
    status "sink --link in another directory" 0 "$twinlog" sink 'below/x-%Y' --date --link another/newest <in
    count "leads to the file" "$(cmp -s in another/newest; echo $?)"
    status "sink --link to a file" 0 "$twinlog" sink 'x-%Y' --date --link occupied <in
    says "says that it is none" err 'is a file, and no link'
    echo file >want
    same "and leaves it" want occupied

    begin "$twinlog" sink every --every 1s --rotate 1M --keep 9
    echo first >&3
    wait_until test -e every.1 || count "a file has its time" 1
    echo second >&3
    wait_until test -e every.2 || count "and so has the next one" 1
    exec 3>&-
    ends 0 "the end of the input"
    cat every.2 every.1 every >out
    printf 'first\nsecond\n' >want
    same "no file is empty but the last" want out

    # Midnight was just now, and in nine seconds summer time ends, by four seconds: of the time that holds then, midnight
    # was after the file was made.
    midnight=$(date +%s)
    west=$(((midnight + 43200) % 86400 - 43200))
    day=$(date -u -d "@$((midnight - west))" +%j)
    TZ=WIN$(clock $((west + 4)))SUM$(clock "$west"),0/0,J$(echo "$day" | sed 's/^0*//')/0:00:09
    export TZ
    begin "$twinlog" sink night --every 1d --rotate 1M --keep 9
    echo before >&3
    wait_until is_winter
    count "summer time ends" $?
    echo after >&3
    wait_until 'grep -q after night*' || count "lines go on" 1
    sleep 1.2 # it looks once in a second
    exec 3>&-
    ends 0 "the end of the input"
    unset TZ
    count "a day has one file, also when summer time ends" "$(find . -name 'night.*' | wc -l)"

    for wrong in '--every 0s' '--every 1' '--keep 3' '--date --keep 3' '--every 1h --mapped' '--date --mapped' '--link x' '--timestamps --block'; do
        # shellcheck disable=SC2086 # words
        status "sink $wrong" 2 "$twinlog" sink wrong $wrong <in
    done
}

# What rsyslog's omprog asks for: a word at the beginning, and one for each line that is durable.
test_confirm()
{
    begin "$twinlog" append confirmed.log --confirm OK
    wait_until has_words 1 || count "a word says that it is ready" 1
    echo first >&3
    wait_until has_words 2 || count "and one that the line is durable" 1
    printf 'second\nthird\n' >&3
    wait_until has_words 4 || count "one for each line" 1
    exec 3>&-
    ends 0 "the end of the input"
    count "and no other" $(($(wc -l <out) != 4))
    status "append --confirm --print-lsn" 2 "$twinlog" append confirmed.log --confirm OK --print-lsn </dev/null
    status "append --confirm --mapped" 2 "$twinlog" append confirmed.log --confirm OK --mapped </dev/null
}

# ---- lines above the limit ----------------------------------------------------------------------

test_long()
{
    printf 'short\nabcdefghijklmnop\n\nend\n' >in
    status "append --long refuse" 1 "$twinlog" append refused --max-record 10 --long refuse <in
    status "append --long split" 0 "$twinlog" append split --max-record 10 --long split <in
    says "says how many" err '1 line of the input was above'
    printf 'short\nabcdefghij\nklmnop\n\nend\n' >want
    "$twinlog" cat split >out
    same "makes records of the parts" want out
    status "append --long cut" 0 "$twinlog" append cut --max-record 10 --long cut <in
    printf 'short\nabcd [cut]\n\nend\n' >want
    "$twinlog" cat cut >out
    same "keeps the beginning, with a mark" want out
    printf 'aaaaaaaaa\303\244b' >in
    status "a character of two bytes at the limit" 0 "$twinlog" append text --max-record 10 --long split -q <in
    same "nothing is said with -q" /dev/null err
    printf 'aaaaaaaaa\n\303\244b\n' >want
    "$twinlog" cat text >out
    same "is not torn" want out
    { head -c 9000000 /dev/zero | tr '\0' x && echo && echo end; } >in
    status "a line of 9 MB, cut" 0 "$twinlog" append large --long cut --max-record 1M <in
    "$twinlog" cat large | tail -n 1 >out
    echo end >want
    same "the next line is whole" want out
    count "of two records" $(($("$twinlog" cat large | wc -l) != 2))
    printf 'abcdefghijklmnop\0end\0' >in
    status "append --null --long cut" 0 "$twinlog" append nul --null --max-record 10 --long cut <in
    printf 'abcd [cut]\nend\n' >want
    "$twinlog" cat nul >out
    same "is the same" want out
    status "append --framed --long cut" 2 "$twinlog" append framed --framed --long cut <in
}

# ---- messages that nobody reads --------------------------------------------------------------------

# What took its messages has ended. The numbered files cannot be made, of which the first message is.
test_unheard()
{
    subject="sink, and nobody reads its messages"
    mkdir unheard.1
    seq 5000 >in
    rm -f feed
    mkfifo feed messages
    exec 5<>messages
    env --default-signal=PIPE "$twinlog" sink unheard --rotate 4096 <feed >out 2>messages 5>&- &
    command=$!
    exec 3>feed 5>&-
    cat in >&3
    exec 3>&-
    ends 0 "it goes on without them"
    same "and all lines are there" in unheard
}

# ---- statuses and notes for what starts it ------------------------------------------------------

test_statuses()
{
    echo line >in
    mkdir directory
    status "sink to a directory is refused" 7 "$twinlog" sink directory <in
    status "sink where the directory is missing, too" 7 "$twinlog" sink missing/file <in
    begin "$twinlog" append taken --print-lsn
    echo first >&3
    wait_until has out 1
    "$twinlog" append taken <in 2>second.err
    got=$?
    count "append to a log that another process has is refused" $((got != 7))
    says "is told what to do" second.err '--wait'
    exec 3>&-
    ends 0 "the first one goes on"
    seq 100000 >in
    got=0
    (ulimit -f 8 && exec "$twinlog" sink limited) <in 2>err || got=$?
    count "sink under a limit is full" $((got != 6))
}

test_notify()
{
    if ! command -v python3 >/dev/null; then
        skip "notes to a service manager" "there is no python3 to listen"
        return
    fi
    cat >listen.py <<'END'
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
open('ready', 'w').close()
while True:
    text = listener.recv(4096).decode()
    with open('notes', 'a') as notes:
        notes.write(text + '\n')
    if text == 'END':
        break
END
    for name in "$public/notify" @twinlog-test-$$; do
        rm -f notes ready
        address=$(printf %s "$name" | sed 's/^@/\\0/')
        python3 -c "import sys; sys.argv[1] = sys.argv[1].replace('\\\\0', chr(0)); exec(open('listen.py').read())" \
            "$address" &
        listener=$!
        wait_until test -e ready
        NOTIFY_SOCKET=$name begin_sink "noted.$(printf %s "$name" | cut -c 1 | tr / p)"
        wait_until has notes READY=1 || count "$name: a service manager is told when the file is open" 1
        kill -TERM "$command"
        wait_until has notes STOPPING=1 || count "$name: and when it is about to end" 1
        exec 3>&-
        ends "$by_term" "$name"
        kill "$listener"
        wait "$listener" 2>/dev/null
    done
    NOTIFY_SOCKET=/nowhere status "a socket that is not there" 0 "$twinlog" sink silent </dev/null
    same "is nothing to speak of" /dev/null err
}

test_linger
test_append_lingers
test_aside
test_aside_of_rights
test_copytruncate
test_rights
test_finish_as_root
test_rotation_refused
test_rotation_obstacles
test_torn
test_times
test_confirm
test_long
test_unheard
test_statuses
test_notify

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
