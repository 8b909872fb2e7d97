#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sink.sh TWINLOG: runs 'twinlog sink' as its users do, in a fresh directory beside the caller's, and prints what did
# not come out as promised.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

# ---- a sink in the background ------------------------------------------------------------------

# start_sink FILE [OPTION...]: pours what is written to 3; its errors are in FILE.err. A shell lets nothing in the
# background have SIGINT, unless it is told to.
start_sink()
{
    rm -f feed
    mkfifo feed
    env --default-signal=INT "$twinlog" sink "$@" <feed 2>"$1.err" &
    sink=$!
    (timeout 500 tail --pid="$sink" -f /dev/null || kill -9 "$sink") >/dev/null 2>&1 &
    exec 3>feed
}

# end_sink: the input ends; got is the status.
end_sink()
{
    exec 3>&-
    got=0
    wait "$sink" 2>/dev/null || got=$?
}

# stop_sink SIGNAL: got is the status.
stop_sink()
{
    kill "-$1" "$sink"
    got=0
    wait "$sink" 2>/dev/null || got=$?
    exec 3>&-
}

# pours FILE LINE: writes the line, and waits until the file has it.
pours()
{
    echo "$2" >&3
    got=0
    wait_until grep -aqsx "'$2'" "$1" || got=1
    count "'$2' is in $1 while the sink goes on" "$got"
}

# alone NAME FILE: nothing is left beside the file.
alone() { count "$1" "$(find . -name '.twinlog.*' | wc -l)"; }

# ---- what goes in comes out --------------------------------------------------------------------

test_bytes()
{
    printf 'one\n\nthree, \303\244\000\377\nfour without a newline' >in
    status "sink makes a file" 0 "$twinlog" sink bytes <in
    same "of the bytes of its input, and no others" in bytes
    alone "nothing is left beside it" bytes
    status "sink to a file that is there" 0 "$twinlog" sink bytes <in
    cat in in >want
    same "appends" want bytes
    status "sink of nothing" 0 "$twinlog" sink bytes </dev/null
    same "changes nothing" want bytes
    status "sink of nothing to a new file" 0 "$twinlog" sink nothing </dev/null
    same "makes an empty one" /dev/null nothing
    printf 'ends in zeros\0\0\0' >zeros
    cp zeros want
    status "sink to a file that ends in zeros" 7 "$twinlog" sink zeros --mapped </dev/null
    says "asks what they are" err '--drop-zeros'
    same "leaves them" want zeros
    status "sink --cat of it" 1 "$twinlog" sink --cat zeros
    printf 'ends in zeros' >text
    same "shows what it can" text out
    echo more >in
    status "sink --drop-zeros" 0 "$twinlog" sink zeros --mapped --drop-zeros <in
    cat text in >want
    same "appends before them" want zeros

    { head -c 20000000 /dev/urandom && echo; } >in
    for options in '' --block --shared '--flush 20' --mapped '--mapped --block' '--mapped --shared' \
        '--mapped --flush 20'; do
        rm -f large
        # shellcheck disable=SC2086 # words
        status "sink $options of 20 MB" 0 "$twinlog" sink large $options <in
        same "keeps every byte" in large
    done
    head -c 3000000 /dev/zero | tr '\0' x >in
    status "sink of a line of 3 MB" 0 "$twinlog" sink long <in
    same "keeps it as it is" in long
    status "sink --shared of a line without an end" 0 "$twinlog" sink long --shared <in
    { cat in && echo && cat in && echo; } >want
    same "ends it, and the one that was there" want long
}

test_while_open()
{
    start_sink open --mapped
    pours open first
    pours open second
    head -c 13 open >out
    printf 'first\nsecond\n' >want
    same "a reader sees the bytes in their place" want out
    status "sink --cat beside it" 0 "$twinlog" sink --cat open
    same "shows them, and no zeros" want out
    status "a second process" 7 "$twinlog" sink open --mapped </dev/null
    says "is told what to do" err '--shared'
    status "a second process that would share" 7 "$twinlog" sink open --mapped --shared </dev/null
    says "is told so, too" err 'busy|another'
    status "a process of the other kind" 7 "$twinlog" sink open </dev/null
    says "is told how the file is open" err '--mapped in all'
    end_sink
    count "the end of the input ends it" "$got"
    same "the file has its bytes and no others" want open
    same "and nothing was said" /dev/null open.err
    alone "and nothing is left beside it" open
}

# What programs that read logs need.
test_exact()
{
    start_sink exact
    pours exact first
    printf 'first\n' >want
    same "the file has its lines and nothing else while it is open" want exact
    alone "and nothing is beside it" exact
    echo second >in
    status "a second process" 0 "$twinlog" sink exact <in
    echo third >>exact
    printf 'first\nsecond\nthird\n' >want
    same "and a stranger append to it" want exact
    cp exact copy
    : >exact
    pours exact fourth
    echo fourth >want
    same "after copytruncate it goes on at the new end" want exact
    kill -9 "$sink"
    exec 3>&-
    wait "$sink" 2>/dev/null
    same "a kill -9 leaves what is there" want exact
}

test_shared()
{
    for name in a b c; do
        seq -f "$name %g of many" 50000 >"in.$name"
        "$twinlog" sink both --shared <"in.$name" 2>"err.$name" &
        eval "pid_$name=\$!"
    done
    for name in a b c; do
        got=0
        eval "wait \$pid_$name" || got=$?
        count "sink --shared of three at once ($name)" "$got"
        cat "err.$name"
    done
    for name in a b c; do
        grep -a "^$name " both >out
        same "each one's lines are there, whole and in order ($name)" "in.$name" out
    done
    count "and nothing else is" $(($(wc -l <both) - 150000))
    alone "the last one leaves nothing beside it" both
}

# ---- other files -------------------------------------------------------------------------------

# newest_last FILE: NAME.3 NAME.2 NAME.1 NAME, those that are there.
newest_last() { { find . -name "$1.[0-9]*" | sort -t . -k 3 -n -r && echo "$1"; } | xargs cat; }

test_rotate()
{
    seq 100000 >in
    status "sink --rotate" 0 "$twinlog" sink turned --rotate 64K --keep 50 <in
    newest_last turned >out
    same "together the files have every line" in out
    count "there are as many as it takes, nearly full" $(($(find . -name 'turned.[0-9]*' | wc -l) > 11))
    count "and not fewer" $(($(find . -name 'turned.[0-9]*' | wc -l) < 8))
    count "none is larger than it may be" "$(find . -name 'turned*' -size +64k | wc -l)"
    for file in turned turned.*; do
        says "each ends with a whole line ($file)" "$file" '^[0-9]+$'
        count "without zeros ($file)" "$(tail -c 1 "$file" | tr -d '\n' | wc -c)"
    done
    alone "nothing is left beside them" turned

    status "sink --rotate --keep 2" 0 "$twinlog" sink few --rotate 64K --keep 2 <in
    count "keeps two of the old ones" $(($(find . -name 'few.[0-9]*' | wc -l) - 2))
    newest_last few >out
    tail -n "$(wc -l <out)" in >want
    same "the newest" want out

    printf 'short\nmuch longer than all of it\nshort\n' >in
    status "sink --rotate 8" 0 "$twinlog" sink tiny --rotate 8 <in
    newest_last tiny >out
    same "a line that is larger than a file has one of its own" in out
    says "alone" tiny.1 '^much longer'
    count "as promised" $(($(wc -l <tiny.1) - 1))
}

# has_left FILE WANT: the file has exactly the bytes of WANT, so the sink is in the next one.
# A log that a group shares is not rotated by its members, and keeps its name.
test_owner()
{
    if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
        skip "the file of another user" "only root may make it"
        return
    fi
    cp "$twinlog" "$public/twinlog"
    mkdir "$public/logs"
    : >"$public/logs/f"
    chmod 755 "$public" "$public/twinlog"
    chmod 777 "$public/logs"
    chmod 666 "$public/logs/f"
    seq 2000 >in
    rm -f slow.feed
    mkfifo slow.feed
    { head -n 1000 in; sleep 2; tail -n +1001 in; } >slow.feed & # the owner may be about to rotate it
    status "sink --rotate of another user's file" 0 as_nobody "$public/twinlog" sink "$public/logs/f" --rotate 1K <slow.feed
    same "all lines are in it" in "$public/logs/f"
    says "says what is in the way" err "is another user's"
    count "no file is beside it" $(($(find "$public/logs" -type f | wc -l) != 1))

    chmod 1777 "$public/logs"
    : >"$public/logs/own.1"
    { head -n 1000 in; sleep 2; tail -n +1001 in; } >slow.feed &
    status "sink --rotate beside root's file" 0 as_nobody "$public/twinlog" sink "$public/logs/own" --rotate 1K <slow.feed
    same "all lines are in it" in "$public/logs/own"
    says "says which file is in the way" err "own.1' is another user's, and only that one or root can rename it there"
}

has_left() { cmp -s "$1" "$2"; }

test_logrotate()
{
    start_sink rotated
    pours rotated one
    mv rotated rotated.old
    kill -HUP "$sink"
    got=0
    printf 'one\n' >want
    wait_until test -e rotated || got=1
    wait_until has_left rotated.old want || got=1
    count "SIGHUP makes a new file" "$got"
    pours rotated two
    same "the old one is cut to its bytes" want rotated.old

    mv rotated rotated.older
    got=0
    printf 'two\n' >want
    wait_until test -e rotated || got=1
    wait_until has_left rotated.older want || got=1
    count "so does the mere renaming, in a moment" "$got"
    pours rotated three
    kill -HUP "$sink"
    pours rotated four
    end_sink
    count "it has not minded a signal for nothing" "$got"
    printf 'two\n' >want
    same "the second file" want rotated.older
    printf 'three\nfour\n' >want
    same "and the third" want rotated
    same "nothing was said" /dev/null rotated.err
    alone "nothing is left beside them" rotated
}

# What is heard of SIGHUP alone: nobody looks so soon by himself, and that says nothing.
test_hangup()
{
    start_sink held
    pours held one
    mv held held.old
    mkdir held
    kill -HUP "$sink"
    got=0
    wait_until grep -q "'cannot go on in a new'" held.err || got=1
    count "SIGHUP where no new file can be made is complained of" "$got"
    says "with what it is" held.err "'held': Is a directory"
    says "and must be" held.err 'must be a regular file[.]$'
    for line in 1 2 3 4 5 6 7 8 9 10; do # the thread looks meanwhile
        echo $line >&3
        sleep 0.1
    done
    wait_until grep -qx 10 held.old
    count "once" $(($(grep -c 'cannot go on in a new' held.err) - 1))
    printf '%s\n' one 1 2 3 4 5 6 7 8 9 10 >want
    rmdir held
    kill -HUP "$sink"
    got=0
    wait_until test -f held || got=1
    wait_until has_left held.old want || got=1
    count "and works when one can" "$got"
    pours held two
    end_sink
    count "the sink has not ended meanwhile" "$got"
    same "the old file has its bytes" want held.old
    echo two >want
    same "and the new one" want held
    alone "nothing is left beside them" held
}

# The manual says what becomes of a line that is too long to be kept in memory: parts, and with --shared lines.
test_long_line()
{
    head -c 70000000 /dev/zero | tr '\0' x >long
    echo >>long
    status "sink of a line of 70 MB" 0 "$twinlog" sink parts <long
    same "its parts are one line" long parts
    status "sink --shared of a line of 70 MB" 0 "$twinlog" sink lines --shared <long
    count "its parts are two lines" $(($(wc -l <lines) - 2))
    rm long parts lines
}

# Nobody gives a signal, and the next file cannot be made: that is said, once, with the next lines.
test_unfollowed()
{
    start_sink stuck
    pours stuck one
    mv stuck stuck.old
    mkdir stuck
    got=0
    wait_until 'echo two >&3; grep -q "cannot go on in a new" stuck.err' || got=1
    count "a renamed file without a next one is complained of" "$got"
    for line in 3 4 5; do
        echo $line >&3
        wait_until grep -qx $line stuck.old
    done
    count "once" $(($(grep -c 'cannot go on in a new' stuck.err) - 1))
    rmdir stuck
    wait_until test -f stuck
    pours stuck last
    end_sink
    count "the sink has not ended meanwhile" "$got"
    says "the new file has what is written behind it" stuck '^last$'
    says "and the old one what was written before" stuck.old '^5$'
}

# The same, where the next file is one that another user may have put there: it stays until there is a signal.
test_unfollowed_aside()
{
    mkdir all
    chmod 1777 all
    start_sink all/f
    pours all/f one
    echo theirs >all/next
    ln all/next all/second
    ln all/f all/f.1
    mv -f all/next all/f
    got=0
    wait_until 'echo two >&3; grep -q "cannot go on in a new" all/f.err' || got=1
    count "a file that cannot be gone on with is complained of" "$got"
    echo theirs >want
    same "and stays" want all/f
    kill -HUP "$sink"
    wait_until test -e all/f.unknown.1 || got=1
    count "a signal puts it aside" "$got"
    says "that is said" all/f.err "cannot go on in 'all/f' .*: it is 'all/f.unknown.1' now"
    pours all/f last
    end_sink
    count "the sink has not ended meanwhile" "$got"
    same "the other file is as it was" want all/f.unknown.1
    rm -r all
}

# start_disturbed WHAT NAME ARGUMENT...: starts a sink with these arguments, as start_sink does, of which WHAT is done to the
# syncs (strace says what there is). What it complains of goes to NAME.err.
start_disturbed()
{
    disturbance=$1
    errors=$2.err
    shift 2
    rm -f feed
    mkfifo feed
    : >strace.out
    ASAN_OPTIONS=$no_leaks strace -qq -f --seccomp-bpf -o strace.out -e trace=fdatasync \
        -e inject=fdatasync:"$disturbance" "$twinlog" sink "$@" <feed 2>"$errors" &
    sink=$!
    exec 3>feed
}

# can_disturb CHECK: else that check is skipped.
can_disturb()
{
    strace -f --seccomp-bpf -o strace.out true 2>/dev/null && return
    skip "$1" "no strace"
    return 1
}

# A service that syncs runs for months, so it does not wait for its end.
test_unsynced()
{
    can_disturb "a sync that fails in the middle of the input" || return 0
    start_disturbed error=EIO unsynced unsynced --flush 20
    pours unsynced one
    got=0
    wait_until 'echo two >&3; grep -q "cannot sync" unsynced.err' || got=1
    count "a sync that fails in the middle of the input is complained of" "$got"
    pours unsynced three
    count "once" $(($(grep -c "cannot sync" unsynced.err) - 1))
    end_sink
    count "the status says so, too" $((got != 1))
}

# start_follower FILE: what it shows goes to `shown`, in which nothing of an earlier follower is, and its messages to
# shown.err. It does not keep the input of a sink open.
start_follower()
{
    rm -f shown shown.err
    "$twinlog" sink --follow "$1" >shown 2>shown.err 3>&- &
    follower=$!
}

has_two_dates() { [ "$(find . -name 'dated-*.log' | wc -l)" -gt 1 ]; }

# Each file of a date is synced when the next one begins; here the sync of the first one alone fails.
test_unsynced_date()
{
    can_disturb "a sync that fails when the date changes" || return 0
    start_disturbed error=EIO:when=1 dated 'dated-%S.log' --date --flush 3600000
    got=0
    wait_until 'echo one >&3; has_two_dates' || got=1
    count "another file begins with the next second" "$got"
    end_sink
    count "the status is that of the sync that has failed" $((got != 1))
    says "and it is told" dated.err "cannot sync 'dated-"
    count "once" $(($(grep -c 'cannot ' dated.err) - 1))
    rm dated-*.log
}

has_four_syncs() { [ "$(grep -c 'fdatasync(' strace.out)" -ge 4 ]; }

# Ten lines, each of which a sink that is fast enough writes by itself.
pours_many()
{
    for line in 0 1 2 3 4 5 6 7 8 9; do
        printf '%070d\n' $line >&3
        sleep 0.005
    done
}

# feed_slowly FILE BYTES WHICH: a sink rotates at so many bytes, and those of its syncs take seconds. The input goes on until
# the fourth one.
feed_slowly()
{
    start_disturbed delay_enter=4000000:when="$3" "$1" "$1" --rotate "$2" --keep 1000
    got=0
    wait_until 'pours_many; has_four_syncs' || got=1
    count "the input goes on beside slow syncs" "$got"
    end_sink
    rm -f "$1".[0-9]*
}

test_slow_syncs()
{
    can_disturb "syncs that are slower than the rotations" || return 0
    # shellcheck disable=SC3045 # every shell that is sh here has it
    descriptors=$(ulimit -n)
    if [ "$descriptors" -lt 256 ]; then
        skip "64 old files that wait for their syncs" "the process may have only $descriptors descriptors"
        return
    fi
    feed_slowly slow 60 1..3
    advises slow.err '64 old files wait for their syncs: let new files begin less often, as by a larger --rotate'
    count "it is told once" $(($(grep -c 'cannot rotate' slow.err) - 1))
    feed_slowly faster 2K 1
    same "with a larger --rotate nothing is said" /dev/null faster.err
}

# Of an exact file the zeros at its end are data, also where it was rotated before the follower has looked at it.
test_follow_zeros()
{
    : >records
    seq 3000 | tr '\n' '\0' >want
    start_follower records
    { head -c 40 want; wait_until test -s shown; tail -c +41 want; } |
        "$twinlog" sink records --block --rotate 1K --keep 50 3>&-
    got=0
    wait_until cmp -s shown want || got=1
    count "sink --follow shows the zeros of exact files" "$got"
    for line in 1 2 3; do # a run is over before the follower looks
        printf '%s\0' "short $line" | tee -a want | "$twinlog" sink records --block --rotate 5 --keep 50 3>&-
    done
    got=0
    wait_until cmp -s shown want || got=1
    count "also of a run that it has not seen" "$got"
    kill -TERM "$follower"
    wait "$follower" 2>/dev/null
    same "byte for byte" want shown
    rm -f records*
}

# What is written is shown, in this file and in the next ones, byte for byte.
test_follow()
{
    start_sink followed
    pours followed one
    start_follower followed
    got=0
    wait_until grep -qsx one shown || got=1
    count "sink --follow shows what is written" "$got"
    mv followed followed.old
    kill -HUP "$sink"
    wait_until test -e followed
    pours followed two
    wait_until grep -qsx two shown || got=1
    count "also in the next file" "$got"
    end_sink
    count "and the sink ends with its input" "$got"
    kill -TERM "$follower"
    got=0
    wait "$follower" 2>/dev/null || got=$?
    count "a signal ends it, and that is fine" "$got"
    printf 'one\ntwo\n' >want
    same "nothing else was shown" want shown
    same "nor said" /dev/null shown.err

    seq 1 20 >want
    echo 1 >chain
    start_follower chain
    got=0
    wait_until grep -qsx 1 shown || got=1
    tail -n +2 want | "$twinlog" sink chain --rotate 3 --keep 50 # a file for each line
    wait_until grep -qsx 20 shown || got=1
    kill -TERM "$follower"
    wait "$follower" 2>/dev/null
    count "sink --follow goes through many rotations" "$got"
    same "and misses no file" want shown
}

# A service for each client of a socket: the client goes while nothing is written.
test_follow_into_socket()
{
    if ! python3 -c 'import socket, subprocess' 2>/dev/null; then
        skip "sink --follow into a socket" "there is no python3 to make one, or it does not run here"
        return
    fi
    echo one >idle
    subject="sink --follow into a socket"
    python3 - "$twinlog" <<'END'
import socket, subprocess, sys
client, service = socket.socketpair()
process = subprocess.Popen([sys.argv[1], "sink", "--follow", "idle"], stdout=service)
service.close()
line = client.recv(10)
client.close()
try:
    sys.exit(line != b"one\n" or process.wait(60) != 0)
finally:
    process.kill()
END
    count "ends with its client" $?

    # The test asks more often than the command does, and lets the client's system forget the connection at once.
    subject="sink --follow into a TCP connection"
    python3 - "$twinlog" <<'END'
import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
service = listener.accept()[0]
process = subprocess.Popen([sys.argv[1], "sink", "--follow", "idle"], stdout=service)
try:
    first = client.recv(10)
    client.shutdown(socket.SHUT_WR)
    with open("idle", "a") as idle:
        idle.write("two\n")
    second = client.recv(10)
    service.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    service.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    client.close()
    sys.exit(first != b"one\n" or second != b"two\n" or process.wait(60) != 0)
finally:
    process.kill()
END
    count "goes on for a client that only reads, and ends when that has closed" $?
}

# put NAME LINE: a file that has its line as soon as it has its name.
put()
{
    echo "$2" >put
    mv put "$1"
}

# Two numbers in a row may be missing while the names are shifted. A file that another program renames has none.
test_numbers()
{
    put numbered one
    start_follower numbered
    got=0
    wait_until grep -qsx one shown || got=1
    mv numbered numbered.3
    put numbered four
    sleep 0.5 # some looks, which find nothing to go on with
    put numbered.2 two
    put numbered.1 three
    wait_until grep -qsx four shown || got=1
    count "sink --follow finds its file behind two missing numbers" "$got"
    mv numbered away
    put numbered five
    wait_until grep -qsx five shown || got=1
    count "and the search ends where its file has no number" "$got"
    kill -TERM "$follower"
    got=0
    wait "$follower" 2>/dev/null || got=$?
    count "a signal ends it, and that is fine" "$got"
    printf '%s\n' one two three four five >want
    same "each file was shown, in their order" want shown
    same "and nothing was said" /dev/null shown.err
}

# A file that has the time of a clock that was set back looks older than the one that was shown.
test_removed()
{
    put earlier two
    put removed one
    start_follower removed
    got=0
    wait_until grep -qsx one shown || got=1
    kill -STOP "$follower"
    wait_until grep -q "'^State:.*stopped'" "/proc/$follower/status"
    rm removed
    mv earlier removed.1
    kill -CONT "$follower"
    sleep 0.5 # some looks, which find nothing to go on with
    put removed three
    wait_until grep -qsx three shown || got=1
    count "sink --follow goes on when its file was removed" "$got"
    says "and says that lines may be missing" shown.err 'old files were removed before they were shown; lines may be missing'
    count "once" $(($(wc -l <shown.err) != 1))
    kill -TERM "$follower"
    wait "$follower" 2>/dev/null
}

# The old files are beside the file that the link leads to, and there a follower finds them.
test_link()
{
    mkdir there
    ln -s there/lines linked
    status "sink --finish of a link to nothing" 1 "$twinlog" sink --finish linked
    count "makes no file" "$(find there -type f | wc -l)"
    for kind in '' --shared --mapped; do
        seq 1 20 >want
        rm -f there/*
        echo 1 | "$twinlog" sink linked
        start_follower linked
        got=0
        wait_until grep -qsx 1 shown || got=1
        kill -STOP "$follower"
        wait_until grep -q "'^State:.*stopped'" "/proc/$follower/status"
        # shellcheck disable=SC2086 # no option
        tail -n +2 want >in && status "sink $kind to a link" 0 "$twinlog" sink linked $kind --rotate 3 --keep 50 <in
        same "says nothing" /dev/null err
        count "the link stays" "$(test -h linked; echo $?)"
        count "a file for each line" "$(($(find there -type f | wc -l) != 20))"
        kill -CONT "$follower"
        wait_until grep -qsx 20 shown || got=1
        kill -TERM "$follower"
        wait "$follower" 2>/dev/null
        count "sink --follow of a link goes through the rotations" "$got"
        same "and misses no file" want shown
    done
    mv there/lines there/lines.0 # as in the middle of a rotation
    (sleep 0.03; mv there/lines.0 there/lines) &
    status "sink --cat of a link waits for the next file" 0 "$twinlog" sink --cat linked
    wait
}

# ---- the end of processes ----------------------------------------------------------------------

test_signals()
{
    for signal in TERM:143 INT:130; do
        rm -f stopped
        start_sink stopped --linger 0s
        pours stopped one
        kill -STOP "$sink"
        wait_until grep -q "'^State:.*stopped'" "/proc/$sink/status"
        printf 'two\nthe last word' >&3
        kill "-${signal%:*}" "$sink"
        kill -CONT "$sink"
        got=0
        wait "$sink" 2>/dev/null || got=$?
        exec 3>&-
        count "SIG${signal%:*} ends it by that signal" $((got != ${signal#*:}))
        printf 'one\ntwo\nthe last word' >want
        same "and what was in the pipe is in the file" want stopped
        alone "which is cut to its bytes" stopped
    done
}

test_killed()
{
    start_sink killed
    pours killed one
    pours killed two
    stop_sink KILL
    says "what was written is there after kill -9" killed '^two'
    echo three >in
    status "sink after kill -9" 0 "$twinlog" sink killed <in
    printf 'one\ntwo\nthree\n' >want
    same "goes on where the bytes ended" want killed
    alone "and leaves nothing beside the file" killed

    start_sink killed
    pours killed four
    stop_sink KILL
    status "sink --shared after kill -9 of one that did not share" 0 "$twinlog" sink killed --shared <in
    printf 'one\ntwo\nthree\nfour\nthree\n' >want
    same "goes on, too" want killed

    start_sink shared --shared
    pours shared one
    seq 1000 >in
    status "a second one beside it" 0 "$twinlog" sink shared --shared <in
    stop_sink KILL
    status "sink after kill -9 of the last" 0 "$twinlog" sink shared </dev/null
    { echo one && cat in; } >want
    same "what both have written is there" want shared
}

test_finish()
{
    start_sink left --mapped
    pours left one
    mv left left.1
    stop_sink KILL
    echo two >in
    status "sink after kill -9 after the file was renamed" 0 "$twinlog" sink left <in
    says "leaves the renamed file alone" left.1 '^one'
    count "with its zeros" $(($(tr -dc '\0' <left.1 | wc -c) == 0))
    status "sink --finish" 0 "$twinlog" sink --finish left.1
    echo one >want
    same "truncates it to its bytes" want left.1
    alone "and removes what is beside it" left
    status "sink --finish of what needs nothing" 0 "$twinlog" sink --finish left.1
    same "changes nothing" want left.1
    status "sink --finish of no file" 1 "$twinlog" sink --finish nowhere
    says "says what to do" err 'check the path'
    count "and makes none" "$([ ! -e nowhere ]; echo $?)"
    printf 'one\n\0\0' >left.1
    status "sink --finish of a file that no sink has left" 1 "$twinlog" sink --finish left.1
    says "asks what the zeros are" err '--drop-zeros'
    status "sink --finish --drop-zeros" 0 "$twinlog" sink --finish left.1 --drop-zeros
    same "removes them" want left.1
    status "sink --finish --shared" 2 "$twinlog" sink --finish left.1 --shared
}

# One of two is killed somewhere in the middle of its writes. What it had claimed and not written becomes blank.
test_killed_beside()
{
    seq -f 'survivor %g' 100000 >in
    start_sink survived --mapped --shared
    mkfifo victims
    yes victim >victims 2>/dev/null 3>&- &
    "$twinlog" sink survived --mapped --shared <victims 2>err 3>&- &
    victim=$!
    wait_until grep -aqs victim survived
    cat in >&3
    kill -9 "$victim"
    wait "$victim" 2>/dev/null
    cat in >&3
    end_sink
    count "sink --shared goes on when another one is killed" "$got"
    grep -a '^survivor ' survived >out
    cat in in >want
    same "and its lines are there, whole and in order" want out
    count "nothing is left of the other one but its lines and blanks" \
        "$(grep -avcE '^(survivor [0-9]+|[victm ]*)$' survived)"
    count "and no zeros" "$(tr -dc '\0' <survived | wc -c)"
    alone "the survivor leaves nothing beside the file" survived
}

# ---- no room -----------------------------------------------------------------------------------

# kept NAME FILE: it holds the beginning of in, as much as err says.
kept()
{
    bytes=$(sed -n 's/.*The first \([0-9]*\) bytes* of standard input.*/\1/p' err)
    says "$1: says how much is in the file" err 'The first [0-9]+ bytes? of standard input'
    head -c "${bytes:-0}" in >want
    same "$1: that much is, and no more" want "$2"
}

test_limit()
{
    seq 1000000 >in
    got=0
    subject="sink under a limit on the size of files"
    (ulimit -f 4000 && exec "$twinlog" sink limited) <in >out 2>err || got=$?
    count "a file that may not grow ends it" $((got != 6))
    says "with the reason" err 'File too large'
    kept "a file that may not grow" limited
    tail -c "+$((${bytes:-0} + 1))" in >rest
    status "the rest, without the limit" 0 "$twinlog" sink limited <rest
    same "makes it whole" in limited
}

# In a namespace of its own, so that the mount ends with it.
test_full()
{
    if ! unshare -m true 2>/dev/null; then
        skip "a full file system" "only root may mount one"
        return
    fi
    seq 1000000 >in
    mkdir small
    # shellcheck disable=SC2016 # for the shell in the namespace
    status "sink to a full file system" 6 unshare -m sh -c \
        'mount -t tmpfs -o size=3m tmpfs small && "$0" sink small/file <in; got=$?; cp small/file part; exit $got' "$twinlog"
    says "says why" err 'No space left'
    kept "a full file system" part
    # shellcheck disable=SC2016
    status "sink from a pipe to a full file system that gets space, and hangups meanwhile" 0 unshare -m sh -c \
        'mount -t tmpfs -o size=3m tmpfs small && { cat in | "$0" sink small/file 2>told & pid=$!
         for i in $(seq 600); do grep -q "no space" told && break; sleep 0.1; done
         for i in $(seq 20); do kill -HUP $pid; sleep 0.05; done
         mount -o remount,size=64m small; wait $pid; got=$?; cp small/file part; exit $got; }' "$twinlog"
    same "has all of it" in part
    says "and has said that it waits" told 'no space for .* waits'
    # shellcheck disable=SC2016
    status "sink from a pipe to a full file system, stopped" 6 unshare -m sh -c \
        'mount -t tmpfs -o size=3m tmpfs small && { cat in | "$0" sink small/file --linger 0s 2>told & pid=$!
         for i in $(seq 600); do grep -q "no space" told && break; sleep 0.1; done
         kill $pid; wait $pid; got=$?; cp small/file part; cat told >&2; exit $got; }' "$twinlog"
    kept "a full file system and a signal" part
}

# ---- the wrong place ---------------------------------------------------------------------------

test_places()
{
    echo text >in
    mkdir directory
    mkfifo fifo
    ln -s /dev/full link
    status "sink to a directory" 7 timeout 120 "$twinlog" sink directory <in
    says "says that it is one" err "'directory': Is a directory"
    says "and what to name instead" err 'Name the file in it, as DIR/NAME'
    status "sink --cat of a directory" 1 "$twinlog" sink --cat directory
    says "says the same" err 'Name the file in it, as DIR/NAME'
    for target in fifo /dev/null /dev/full link; do
        status "sink to $target" 7 timeout 120 "$twinlog" sink "$target" <in
        says "says what it takes" err 'regular file'
        says "and no more" err 'regular file[.]$'
        count "and makes nothing beside it" "$(find . /dev -maxdepth 1 -name '.twinlog.*.sink' | wc -l)"
    done
    status "sink --cat of a FIFO" 1 timeout 120 "$twinlog" sink --cat fifo
    says "says what it takes" err 'must be a regular file[.]$'
    status "sink where the directory is missing" 7 "$twinlog" sink missing/file <in
    says "says what to do" err 'create it first'
    ln -s no/where dangling
    status "sink to a link into a missing directory" 7 "$twinlog" sink dangling <in
    says "says that it is a link" err 'symbolic link into a directory that does not exist'
    status "sink below a file" 7 "$twinlog" sink in/file <in
    echo before >old
    ln -s old pointer
    status "sink to a link to a file" 0 "$twinlog" sink pointer <in
    printf 'before\ntext\n' >want
    same "appends to the file" want old
    if [ "$(id -u)" = 0 ] && ! command -v setpriv >/dev/null; then
        skip "files that may not be written" "root may write everything, and there is no setpriv"
        return
    fi
    cp "$twinlog" "$public/twinlog"
    chmod 755 "$public"
    echo text >"$public/file"
    chmod 444 "$public/file"
    chmod 555 "$public"
    status "sink to a file that may not be written" 7 as_nobody "$public/twinlog" sink "$public/file" <in
    says "says why" err 'Permission denied'
    status "sink to a new one where none may be made" 7 as_nobody "$public/twinlog" sink "$public/new" <in
    says "says why" err 'Permission denied'
    chmod 755 "$public"
    cp in self
    subject="sink of a file into itself"
    got=0
    # shellcheck disable=SC2094 # that is what is tested
    (ulimit -f 20480 && exec "$twinlog" sink self) <self 2>err || got=$?
    count "a file that is its own input is refused" $((got != 2))
    says "says why" err 'also standard input'
    same "and is as it was" in self
    status "sink --cat of a missing file" 1 "$twinlog" sink --cat missing
    says "says what to do" err 'check the path'
    got=0
    "$twinlog" sink closed <&- 2>err || got=$?
    count "sink without standard input" $((got != 1))
    says "says so" err 'cannot read standard input'
}

test_usage()
{
    echo text >used
    status "sink without a file" 2 "$twinlog" sink </dev/null
    says "points to --help" err "Try 'twinlog sink --help'"
    status "sink of two files" 2 "$twinlog" sink used other </dev/null
    status "sink of an empty name" 2 "$twinlog" sink '' </dev/null
    for options in --nonsense '--keep 3' '--rotate 0' '--rotate' '--rotate x' '--rotate 1M --keep 0' \
        '--flush 0' '--flush 1s' '--mapped --shared --rotate 1M' \
        '--cat --shared' '--cat --follow'; do
        # shellcheck disable=SC2086 # words
        status "sink $options" 2 "$twinlog" sink used $options </dev/null
    done
    echo text >want
    same "the file is as it was" want used
    status "sink --help" 0 "$twinlog" sink --help
    says "shows the usage" out '^Usage: twinlog sink FILE'
    says "what a power cut costs" out 'power cut costs'
    says "the exit status" out '^Exit status: 0'
    says "and an example" out '^Example'
    status "sink --version" 0 "$twinlog" sink --version
    says "shows the version" out '^twinlog [0-9]+\.[0-9]+\.[0-9]+$'
    status "--help" 0 "$twinlog" --help
    says "lists sink" out '^  sink '
    got=0
    "$twinlog" sink --help >/dev/full 2>err || got=$?
    count "--help to a full disk" $((got != 1))
}

test_bytes
test_while_open
test_exact
test_shared
test_rotate
test_owner
test_logrotate
test_hangup
test_long_line
test_unfollowed
test_unfollowed_aside
test_unsynced
test_unsynced_date
test_slow_syncs
test_follow
test_follow_into_socket
test_follow_zeros
test_link
test_numbers
test_removed
test_signals
test_killed
test_finish
test_killed_beside
test_limit
test_full
test_places
test_usage

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
