#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# archive.sh TWINLOG: 'twinlog archive' with commands that keep, fail, lie and are killed, and 'twinlog restore' of what
# was kept: to the end, to a record, to a time; and of what was not kept whole.
# shellcheck disable=SC2016 # wait_until evaluates it
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"

# The command that docs/replicas.md says: it keeps no half, and writes over nothing but the manifest.
keep="cmp -s %p $place/kept/%f || { case %f in *.manifest) ;; *) test ! -e $place/kept/%f;; esac &&
    cp %p $place/kept/%f.\$\$ && mv $place/kept/%f.\$\$ $place/kept/%f; }"
fetch="cp $place/kept/%f %p 2>/dev/null"

# fill LOG FIRST LAST: a record for each number, in segments of 64 KiB.
fill() { seq -f "record %.0f of the log" "$2" "$3" | "$twinlog" append "$1" --segment 64K >/dev/null; }

# forget: no log and no archive.
forget()
{
    begin=1
    rm -rf journal kept restored restored.restoring
    mkdir kept
}

# archived WORD: a number of --status --json.
archived() { "$twinlog" archive journal --status --json | sed -E "s/.*\"$1\":([0-9]+).*/\1/"; }

# restores_to LSN [OPTION...]: the archive has the log, from $begin up to this LSN.
restores_to()
{
    local end=$1
    shift
    rm -rf restored
    status "restore $*" 0 "$twinlog" restore restored --command "$fetch" "$@"
    "$twinlog" cat restored >restored.cat
    "$twinlog" cat journal | head -n $((end - begin + 1)) >journal.cat
    same "it has the records up to LSN $end" restored.cat journal.cat
    status "and is sound" 0 "$twinlog" verify restored
    [ ! -e restored.restoring ]
    count "nothing else is left" $?
}

# refuses NAME PATTERN [OPTION...]: there is no log then.
refuses()
{
    name=$1
    pattern=$2
    shift 2
    rm -rf restored
    status "$name" 3 "$twinlog" restore restored --command "$fetch" "$@"
    says "and says why" err "$pattern"
    [ ! -e restored ] && [ ! -e restored.restoring ]
    count "nothing is left" $?
}

# nth NUMBER: that file of the archive.
nth() { find kept -name '*.twl' | sort | sed -n "$1p"; }

test_keep()
{
    forget
    fill journal 1 9000
    status "archive" 0 "$twinlog" archive journal --command "echo %f >>$place/calls; $keep"
    says "says how many" out '^[0-9]+ segments archived'
    segments=$(archived segments)
    [ "$segments" -gt 4 ]
    count "there are some" $?
    { echo twinlog.archive; find kept -name '*.twl' -printf '%f\n' | sort; } >expected
    sed -E "/twl\$/ { p; s/-.*/.manifest/ }" -i expected
    same "each was handed over once, the oldest first, with the manifest" calls expected
    status "once more" 0 "$twinlog" archive journal --once --command "echo %f >>$place/calls; $keep"
    same "there was nothing to do" calls expected
    [ -z "$(find journal -name '*.twl' -links +1)" ] && [ -z "$(find journal/archive -name 'next*')" ]
    count "no file of the log has another name any more" $?
    last=$(archived last_lsn)
    [ "$("$twinlog" cursors journal --json | sed -E 's/.*"lsn":([0-9]+).*/\1/')" = "$last" ]
    count "the cursor is there" $?
    status "--status" 0 "$twinlog" archive journal --status
    says "has the last LSN" out "^last LSN +$last$"
    restores_to "$last"
    status "the log can be written" 0 "$twinlog" append restored --segment 64K </dev/null
    "$twinlog" archive restored --command "$keep" >out 2>err
    count "a restored log does not write over the archive of the first" $(($? != 1))
    status "restore to a log that is there" 1 "$twinlog" restore restored --command "$fetch"
    mkdir empty
    status "restore to an empty directory" 0 "$twinlog" restore empty/ --command "$fetch" --json
    says "--json" out "^\{\"archive\":\"[0-9a-f]{16}\",\"history\":$segments,\"segments\":$segments,\"first_lsn\":1,\"last_lsn\":$last\}$"
    status "--dry-run" 0 "$twinlog" restore dry --command "$fetch" --dry-run
    says "checks everything" out "^sound: .*LSN 1 to $last, from $segments files"
    [ ! -e dry ] && [ ! -e dry.restoring ]
    count "and leaves nothing" $?
    # Each command waits until there are three; one at a time would wait for ever.
    mkdir asked
    status "--jobs" 0 "$twinlog" restore jobs --jobs 3 --command "$fetch && case %f in *.twl) touch $place/asked/%f
        i=0; while [ \$(ls $place/asked | wc -l) -lt 3 ] && [ \$i -lt 600 ]; do i=\$((i + 1)); sleep 0.1; done
        [ \$i -lt 600 ];; esac"
    rm -rf asked
    status "by the archive's identity" 0 "$twinlog" restore named --command "$fetch" \
        --archive "$(sed -n 2p kept/twinlog.archive)"
    mkdir "a place" "a place/it's"
    status "a path that the shell would take apart" 0 "$twinlog" restore "a place/it's/log" --command "$fetch"
    status "and its archive" 0 "$twinlog" archive "a place/it's/log" --command "test -s %p && echo 100%% %f >/dev/null"
    # Where %p is between quotes, too, no name of a directory is text for the shell.
    evil='$(touch ran) `touch ran`'"'; touch ran; '"
    mkdir -- "$evil" -dash
    cp -r journal "$evil/log" && cp -r journal ./-dash/log && rm -r ./-dash/log/archive
    for command in 'test -s %p && : %f' 'test -s "%p" && : %f' "test -s '%p' && : %f" "sh -c 'test -s %p' && : %f"; do
        rm -r "$evil/log/archive"
        "$twinlog" archive "$evil/log" --command "$command" >out 2>err
    done
    [ "$("$twinlog" archive "$evil/log" --status --json | sed -E 's/.*"segments":([0-9]+).*/\1/')" = "$segments" ]
    count "a shell that the command starts has the path" $?
    [ ! -e ran ]
    count "the name of a directory is not run" $?
    status "a path that begins with a dash" 0 "$twinlog" archive --command "cat %p >/dev/null && : %f" -- -dash/log
    rm -r "./$evil" ./-dash
    # Another archive, of the log as it is by now: trimmed.
    "$twinlog" trim journal --keep-records 4000 --past-cursors >out
    rm -r journal/archive kept
    mkdir kept
    status "an archive that begins behind trimmed segments" 0 "$twinlog" archive journal --command "$keep"
    rm -rf restored
    status "can be restored" 0 "$twinlog" restore restored --command "$fetch"
    status "and its log" 0 "$twinlog" verify restored
    [ "$("$twinlog" cat restored | tail -n 1)" = "$("$twinlog" cat journal --to "$last" -n 1)" ]
    count "has the newest record" $?
    "$twinlog" cat restored | grep -qxF "$("$twinlog" cat journal | head -n 1)"
    count "and the oldest one of that log" $?
    status "a copy of the log" 0 "$twinlog" backup journal --output copy
    [ ! -e copy/archive ]
    count "begins an archive of its own" $?
}

# The command that --help says is killed between the name and its sync: the next one finds the file there, and syncs the
# name before anything else.
test_example()
{
    forget
    fill journal 1 2000
    mkdir bin
    printf '#!/bin/sh\necho "$*" >>%s/synced\n[ "$*" != %s/kept ] || [ -e %s/may-sync ]\n' \
        "$place" "$place" "$place" >bin/sync
    chmod +x bin/sync
    example=$("$twinlog" archive --help | sed -n "/^Example/,\$p" | tr '\n' ' ' |
        sed -E "s/^[^']*'([^']*)'.*/\\1/; s|/mnt/a|$place/kept|g")
    status "a name that is not synced" 1 env PATH="$place/bin:$PATH" "$twinlog" archive journal --command "$example"
    [ -s kept/twinlog.archive ]
    count "is there" $?
    touch may-sync
    rm synced
    status "the next one" 0 env PATH="$place/bin:$PATH" "$twinlog" archive journal --command "$example"
    [ "$(head -n 1 synced)" = "$place/kept" ]
    count "syncs it before anything else" $?
    rm -r bin may-sync synced
}

test_points()
{
    forget
    fill journal 1 3000
    fill journal 3001 6000
    fill journal 6001 9000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    last=$(archived last_lsn)
    for lsn in 1 3000 3001 $((last - 1)) "$last"; do
        restores_to "$lsn" --to "$lsn"
    done
    restores_to 0 --to 0
    refuses "behind the end" "does not reach --to: it has LSN 1 to $last" --to $((last + 1))
    for lsn in 1 3001 "$last"; do
        time=$("$twinlog" cat journal --from "$lsn" --to "$lsn" --json | sed -E 's/.*"time":"([^"]+)".*/\1/')
        before=$("$twinlog" cat journal --until "$time" | wc -l)
        restores_to "$before" --to "$time"
    done
    refuses "a time behind the end" "no record of that time or later" --to 2199-01-01
    status "no such time" 2 "$twinlog" restore restored --command "$fetch" --to noon
}

test_fail()
{
    forget
    fill journal 1 10000
    status "a command that fails" 1 "$twinlog" archive journal --command "false %p %f"
    says "is told" err 'the command for twinlog.archive ended with status 1'
    status "a command that is killed" 1 "$twinlog" archive journal --command 'kill -9 $$ %p %f'
    [ "$(archived failures)" = 2 ] && [ "$(archived segments)" = 0 ]
    count "two failures, and nothing archived" $?
    status "--status" 0 "$twinlog" archive journal --status
    says "shows the last one" out '^last failure .* UTC: the command ended with status 137, as by signal 9$'
    printf 'twinlog failures 1\ncount 2\nlast 1, a time UTC\nfailure: red \033[31m \302\2331m\n' \
        >journal/failures/archive
    "$twinlog" archive journal --status >out
    says "a failure that somebody else wrote does not reach the terminal" out 'red \?\[31m \?\?1m$'
    status "trim" 0 "$twinlog" trim journal --keep-records 1
    says "the cursor holds what is not archived" out "Cursor 'archive' holds the rest"
    # The third segment comes only when the file "there" does.
    "$twinlog" archive journal --follow \
        --command "case %f in *3.twl) test -e $place/there;; esac && { $keep; }" >out 2>err &
    archiver=$!
    wait_until '[ "$(archived failures)" -gt 0 ] && [ "$(archived segments)" = 2 ]'
    count "a follower tries again" $?
    status "a second archiver" 1 "$twinlog" archive journal --command "$keep"
    says "is refused" err "a consumer of this name is open"
    [ "$(archived waiting_segments)" = $(($("$twinlog" stat journal | grep -c '^ *[0-9]* *sealed ') - 2)) ]
    count "--status says how many segments wait" $?
    touch there
    wait_until '[ "$(archived segments)" -gt 3 ] && [ "$(archived failures)" = 0 ]'
    count "and goes on" $?
    before=$(archived segments)
    fill journal 10001 14000
    wait_until '[ "$(archived segments)" -gt '"$before"' ]'
    count "a follower sees a segment that was sealed" $?
    ends_by_signal "a signal ends it with 0" $archiver
    rm -f there
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    restores_to "$(archived last_lsn)"
    # A signal ends the command, too.
    fill journal 14001 17000
    "$twinlog" archive journal --follow --command "test -s %p && : %f && touch $place/begun && exec sleep 600" >out 2>err &
    archiver=$!
    wait_until '[ -e begun ]'
    status "--status beside a command that hangs" 0 "$twinlog" archive journal --status
    says "says which file it has, and since when" out '^command +[0-9a-f]{16}-[0-9a-f]{16}.twl since 20.* UTC \([0-9]+ s\)$'
    says "how many wait, and since when" out '^waiting +[1-9][0-9]* segments?, [0-9]+ bytes, the oldest since 20.* UTC \([0-9]+ s\)$'
    says "and how far the archive is behind" out '^lag +[1-9][0-9]* records$'
    status "--status --json" 0 "$twinlog" archive journal --status --json
    says "the same" out '"lag_records":[1-9].*"waiting_since":"20.*"is_running":true,"command_file":".*.twl","command_since":"20'
    ends_by_signal "and a command that hangs" $archiver
    [ "$(archived failures)" = 0 ]
    count "which is no failure" $?
    status "--status without an archiver" 0 "$twinlog" archive journal --status
    says "says so" out '^command +no archiver is running$'
    "$twinlog" archive journal --follow --command "touch $place/stopped && kill -STOP \$\$; : %p %f" >out 2>err &
    archiver=$!
    wait_until '[ -e stopped ]'
    ends_by_signal "and a command that is stopped" $archiver
    if env --ignore-signal=CHLD true 2>/dev/null; then
        segments=$(archived segments)
        status "a failure where SIGCHLD is ignored" 1 env --ignore-signal=CHLD "$twinlog" archive journal \
            --command "false %p %f"
        [ "$(archived segments)" = "$segments" ]
        count "is one, and nothing is archived" $?
    else
        skip "a failure where SIGCHLD is ignored" "env cannot ignore it"
    fi
    status "no %p" 2 "$twinlog" archive journal --command 'cp /dev/null %f'
    status "no command" 2 "$twinlog" archive journal
    status "an unknown %" 2 "$twinlog" archive journal --command 'cp %p %f %d'
    status "no archive yet" 1 "$twinlog" archive kept --status
}

# Commands that end with 0 and have kept nothing, or a half; and what happens to an archive later.
# Until the status says that a segment is kept, it is not: a kill would leave the archive with a hole.
# What took its messages has ended. The programs of the command have SIGPIPE all the same.
test_unheard()
{
    forget
    fill journal 1 20000
    mkfifo messages
    exec 5<>messages
    env --default-signal=PIPE timeout --foreground -s KILL 120 "$twinlog" archive journal --follow --command \
        "test -e $place/heard || { : >$place/heard; false; } && ! sh -c 'kill -s PIPE \$\$; true' && { $keep; }" \
        >out 2>messages 5>&- &
    archiver=$!
    exec 5>&-
    subject="archive --follow, and nobody reads its messages"
    wait_until '[ -e heard ] && [ "$(archived waiting_segments)" = 0 ]'
    count "it tries again without them" $?
    ends_by_signal "and a signal ends it" $archiver
    restores_to "$(archived last_lsn)"
    rm messages heard
}

test_unsaved()
{
    forget
    fill journal 1 9000
    : >unsaved
    "$twinlog" archive journal --follow --command "echo %f >>$place/unsaved; mkdir -p journal/archive/status.new; $keep" \
        >out 2>err &
    archiver=$!
    wait_until '[ "$(grep -c "twl$" unsaved)" -gt 2 ]'
    count "a segment is handed over again when the status cannot be saved" $?
    [ "$(grep "twl$" unsaved | sort -u | wc -l)" = 1 ]
    count "and no other one" $?
    [ -n "$(find journal/archive -name 'next-*')" ]
    count "it keeps its second name" $?
    advises err 'A directory in archive has the name of one of its files, as status.new: remove that.'
    [ "$(archived failures)" -gt 0 ]
    count "and that is a failure" $?
    "$twinlog" cursors journal --json >cursors.json
    says "nothing counts as archived" cursors.json '"archive","lsn":0[,}]'
    ends_by_signal "a signal ends it" $archiver
    rmdir journal/archive/status.new
    status "when it can be saved" 0 "$twinlog" archive journal --command "$keep"
    restores_to "$(archived last_lsn)"
}

test_lies()
{
    forget
    fill journal 1 9000
    status "a liar" 0 "$twinlog" archive journal --command "case %f in *4.twl);; *) cp %p $place/kept/%f;; esac"
    segments=$(archived segments)
    refuses "a file that was not kept" "does not get .*4.twl, file 4 of the $segments that .* have: the archive has a hole"
    "$twinlog" backup journal --output again && rm -rf kept && mkdir kept
    "$twinlog" archive again --command "$keep" >out || count "archive" 1
    segments=$("$twinlog" archive again --status --json | sed -E 's/.*"segments":([0-9]+).*/\1/')
    newest=$(nth '$')
    cp -r kept sound
    for bad in "$(nth 4)" "$newest"; do
        head -c 40000 "$bad" >half && cp half "$bad"
        refuses "a half" 'is not whole'
        head -c 40000 half >"$bad" && truncate -s 64K "$bad"
        refuses "a half with zeros behind it" 'is not whole'
        rm -rf kept && cp -r sound kept
        # In a record: nothing is lost with a byte between two groups or behind the last one.
        at=$(grep -abo record "$bad" | head -n 1 | cut -d: -f1)
        printf X | dd of="$bad" bs=1 seek="$at" conv=notrunc 2>/dev/null
        refuses "a byte that is wrong" 'the archive is damaged: '
        rm -rf kept && cp -r sound kept
        cp "$(nth 2)" "$bad"
        refuses "a file in the place of another" 'is another file than the one that was archived under this name'
        rm -rf kept && cp -r sound kept
    done
    fill other 1 10000
    cp other/0000000000000003.twl "$(nth 5)"
    refuses "a file of another log" 'is of another log'
    rm -rf kept && cp -r sound kept
    rm "$(nth 1)"
    refuses "the first one is gone" 'has a hole' --dry-run
    refuses "the first one is gone" 'has a hole'
    rm -rf kept && cp -r sound kept
    for _ in 1 2 3; do rm "$(find kept -name '*.twl' | sort | tail -n 2 | head -n 1)"; done
    refuses "the three in front of the newest one are gone" 'has a hole'
    rm -rf kept && cp -r sound kept
    status "a command that fails in the middle of a file" 1 "$twinlog" restore restored --command \
        "case %f in *0[4-9a-f].twl) head -c 30000 $place/kept/%f >%p; exit 1;; *) cp $place/kept/%f %p;; esac"
    says "has not come to the end" err 'ended with status 1, and left a part of the file'
    [ ! -e restored ]
    count "there is no log" $?
    rm -rf kept && cp -r sound kept
    status "a store that fails from some file on" 1 "$twinlog" restore restored --command \
        "case %f in *5.twl) touch $place/away;; esac; test ! -e $place/away && cp $place/kept/%f %p"
    says "is no earlier end" err 'nor the manifest, which it got before. Is the store away\?'
    [ ! -e restored ]
    count "there is no log" $?
    rm "$newest" away
    refuses "the newest one is gone" "file $segments of the $segments .*the archive has a hole"
    status "what is in front of it" 0 "$twinlog" restore restored --command "$fetch" --history $((segments - 1))
    manifest=$(echo kept/*.manifest)
    head -c -40 "$manifest" >half && cp half "$manifest"
    refuses "a manifest that was cut" "should list $segments files, and lists $((segments - 1))"
    status "says what there is" 0 "$twinlog" restore restored --command "$fetch" --history $((segments - 1))
    sed -i 2d "$manifest"
    refuses "no manifest" 'is no manifest of this archive'
    echo nonsense >kept/twinlog.archive
    refuses "no archive" 'is not what an archive has under this name'
    status "a command that is not there" 1 "$twinlog" restore restored2 --command '/nowhere/cp %f %p'
    says "is no missing file" err 'ended with status 127'
    status "a command that lies" 1 "$twinlog" restore restored2 --command 'true %f %p'
    says "is noticed" err 'made no file'
    mkdir none
    status "a pipe" 1 timeout 60 "$twinlog" restore restored2 --command 'mkfifo %p; : %f'
    says "is no file" err 'made no file'
    mkdir real empty2
    ln -s real linked
    for dir in empty2/. linked; do
        status "a directory that cannot be replaced ($dir)" 1 "$twinlog" restore $dir --command 'touch fetched; : %f %p'
        says "is told" err 'no mount, no link'
        [ ! -e fetched ]
        count "before anything is fetched" $?
    done
    status "an empty archive" 1 "$twinlog" restore restored2 --command "cp none/%f %p 2>/dev/null"
    says "is none" err 'there is no file twinlog.archive'
    rm -rf again other sound none restored2 real empty2 linked
}

# A sealed segment that no longer begins with its first group ends the archiver: it waits for nothing.
test_damaged()
{
    local at first=journal/0000000000000004.twl
    forget
    fill journal 1 9000
    at=$(grep -abo 1TWG $first | head -n 1 | cut -d: -f1)
    printf X | dd of=$first bs=1 seek="$at" conv=notrunc 2>dd.err
    status "a segment without its first group" 3 timeout 60 "$twinlog" archive journal --command "$keep"
    says "is damage, with its name" err "cannot read 'journal/0000000000000004.twl': acknowledged data is damaged"
    [ "$(archived segments)" = 3 ] && [ "$(archived failures)" = 1 ]
    count "what is in front of it is kept, and the failure noted" $?
    status "a follower" 3 timeout 60 "$twinlog" archive journal --follow --command "$keep"
    says "ends, too" err "cannot read 'journal/0000000000000004.twl': acknowledged data is damaged"
}

# A manifest that is older than the files: an archiver was killed in front of the next one, or the upload of an old one
# has ended late. The files say what they are.
test_late()
{
    forget
    fill journal 1 5000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    id=$(sed -n 2p kept/twinlog.archive)
    cp "kept/$id.manifest" early
    listed=$(archived segments)
    fill journal 5001 9000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    segments=$(archived segments)
    last=$(archived last_lsn)
    cp "kept/$id.manifest" newest
    cp early "kept/$id.manifest"
    restores_to "$last"
    rm -rf restored
    status "a restore" 0 "$twinlog" restore restored --command "cp $place/kept/%f %p"
    says "says that the manifest is older" err "has $segments files, and its manifest lists $listed, as while an archiver runs"
    [ "$(wc -l <err)" = 1 ]
    count "and nothing else, not even by the command" $?
    status "--dry-run" 0 "$twinlog" restore dry --command "$fetch" --dry-run
    says "has all of it" out "^sound: LSN 1 to $last, from $segments files"
    status "--list" 0 "$twinlog" restore dry --command "$fetch" --list
    says "lists the newest history" out "^history $segments: LSN 1 to $last"
    status "the one that the manifest lists" 0 "$twinlog" restore dry --command "$fetch" --dry-run --history "$listed"
    says "is there, too" out "from $listed files"

    mv "$(nth $((listed + 1)))" away
    refuses "the first file that is not listed is missing" "has a hole: it has file $((listed + 2)), and file $((listed + 1))"
    status "what is in front of it, as was advised" 0 "$twinlog" restore dry --command "$fetch" --dry-run \
        --history "$(sed -E 's/.*--history ([0-9]+) restores.*/\1/' err)"
    head -c 30000 away >"kept/$(printf "$id-%016x.twl" $((listed + 1)))"
    refuses "it is not whole" 'is no whole segment'
    status "what is in front of it, as was advised" 0 "$twinlog" restore dry --command "$fetch" --dry-run \
        --history "$(sed -E 's/.*--history ([0-9]+) restores.*/\1/' err)"
    cp away "kept/$(printf "$id-%016x.twl" $((listed + 1)))"

    fill journal 9001 12000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    status "the next manifest" 0 "$twinlog" restore dry --command "$fetch" --dry-run
    says "lists them all" out "^sound: LSN 1 to $(archived last_lsn), "
    [ -s err ]
    count "and there is nothing to note" $(($? == 0))
    fill journal 12001 14000
    status "a command that ends as ssh does" 1 "$twinlog" archive journal --command "exit 255; : %p %f"
    says "was ended by no signal" err 'ended with status 255$'
    rm -rf early newest away
}

# A command that cannot write a byte ends as one that finds no file.
test_full()
{
    unshare -m true 2>/dev/null || { skip "a restore to a full disk" "only root may mount"; return; }
    forget
    fill journal 1 5000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    mkdir small
    for step in '*.archive' '*.manifest' '*3.twl'; do
        status "a disk that is full from $step on" 1 unshare -m sh -c 'mount -t tmpfs -o size=4m none small &&
            exec "$0" restore small/restored --jobs 1 --command "$1"' \
            "$twinlog" "case %f in $step) cat /dev/zero >$place/small/rest 2>/dev/null;; esac; $fetch"
        says "is told" err "cannot write '.*': No space left on device"
        ! grep -qE 'hole|damaged|there is no file' err
        count "and the archive is not blamed" $?
    done
    rmdir small
}

# A limit that ends what a command writes in another place first.
test_limit()
{
    forget
    fill journal 1 5000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    # shellcheck disable=SC2016 # the other shell expands it
    status "a command that meets a limit" 1 sh -c 'ulimit -c 0; ulimit -f 8000; exec "$0" restore limited --command "$1"' \
        "$twinlog" "case %f in *3.twl) head -c 9000000 /dev/zero >$place/aside.%f;; esac && $fetch"
    says "is told" err '3\.twl ended with status 153, as by signal 25$'
    ! grep -qE 'hole|damaged' err
    count "and the archive is not blamed" $?
    rm -f aside.*
}

# kill -9 at every step: a name always gets the same bytes.
test_kill()
{
    forget
    fill journal 1 9000
    "$twinlog" archive journal --command "test -s %p && : %f && kill -9 \$PPID" >out 2>err
    count "killed before anything is kept" $(($? != 137))
    "$twinlog" archive journal --command "{ $keep; } && case %f in *2.twl) kill -9 \$PPID;; esac" >out 2>err
    count "killed when the second one is kept" $(($? != 137))
    [ -n "$(find journal/archive -name 'next*')" ] && [ "$(archived segments)" = 1 ]
    count "which the status does not know" $?
    "$twinlog" reset journal --next 100000 --force >out || count "reset" 1
    fill journal 1 15000 # the first segment behind a reset has 512 KiB
    begin=100000
    status "the segment is handed over again, though the log has lost it" 0 "$twinlog" archive journal --command "$keep"
    says "and those behind the reset" out '[1-9][0-9]* segments archived'
    first=$("$twinlog" cat journal --json | head -1 | sed -E 's/.*"lsn":([0-9]+).*/\1/')
    [ "$first" = 100000 ]
    count "the log begins behind the reset" $?
    restores_to "$(archived last_lsn)"
    # A power cut may bring a second name back, and its file be another segment by then.
    ln "$(find journal -maxdepth 1 -name '*.twl' | sort | tail -n 1)" journal/archive/next-0000000000000001
    status "a second name that came back" 0 "$twinlog" archive journal --command "touch $place/handed; : %p %f"
    [ ! -e handed ] && [ ! -e journal/archive/next-0000000000000001 ]
    count "goes, and nothing is handed over" $?
    restores_to "$(archived last_lsn)"
    # What the log's owner puts in the place of a file that was checked does not reach the archive.
    fill journal 15001 40000 # the second one has 1 MiB
    echo "a secret of the archiver's user" >secret
    swap="for file in journal/archive/next-*; do [ ! -e \$file ] || ln -sf $place/secret \$file; done"
    status "links in the place of what is handed over" 0 "$twinlog" archive journal --command "$swap; $keep"
    says "which was something" out '[1-9][0-9]* segments? archived'
    grep -l "a secret" kept/* >out
    count "are not followed" $(($? != 1))
    restores_to "$(archived last_lsn)"
    # A killed archiver may leave a second name that is not durable: the next one syncs it before the command keeps the file.
    fill journal 40001 60000
    next=$(printf %016x $(($(sed -n 's/^sequence //p' journal/archive/status) + 1)))
    ln "journal/$next.twl" "journal/archive/next-$next"
    if strace -o strace.out true 2>/dev/null; then
        status "a second name that was left" 0 env ASAN_OPTIONS="$no_leaks" strace -f -y \
            -e trace=fsync,execve -o strace.out "$twinlog" archive journal --command "$keep"
        sed '/execve("\/bin\/sh"/q' strace.out | grep -q 'fsync([0-9]*<.*/journal/archive>'
        count "is synced before the file is handed over" $?
    else
        skip "a second name that was left" "no strace"
    fi
    fill journal 60001 80000
    for delay in 0.01 0.03 0.05 0.02 0.08 0.04; do
        "$twinlog" archive journal --follow --command "$keep" >out 2>err &
        archiver=$!
        sleep $delay
        kill -9 $archiver
        wait $archiver 2>/dev/null
    done
    # What the last one had started may be about to end.
    wait_until '"$twinlog" archive journal --command "$keep" >out 2>err'
    count "after some kills" $?
    [ -z "$(find journal/archive -name "*.twl")" ]
    count "no name that a command had is left" $?
    restores_to "$(archived last_lsn)"
    "$twinlog" restore restored.2 --command "kill -9 \$PPID; : %f %p" >out 2>err
    [ ! -e restored.2 ] && [ -d restored.2.restoring ]
    count "a restore that is killed leaves no log" $?
    "$twinlog" cat restored.2.restoring/segments >out 2>err
    count "nor do its files look like one" $(($? == 0))
    status "the next restore" 1 "$twinlog" restore restored.2 --command "$fetch"
    says "says what to do" err 'if that was interrupted, remove the directory'
    rm -rf restored.2.restoring
    timeout 60 "$twinlog" restore restored.2 --jobs 3 \
        --command "test -e $place/kept/%f || exit 1
            case %f in *3.twl) exit 1;; *[4-9a-f].twl) sleep 600;; esac; $fetch" >out 2>err
    count "commands that run ahead are ended" $(($? != 3))
    rm -rf restored.2.restoring
    "$twinlog" restore restored.2 --command "$fetch; case %f in *3.twl) kill -TERM \$PPID;; esac" >out 2>err
    [ $? = 143 ] && [ ! -e restored.2 ] && [ ! -e restored.2.restoring ]
    count "a signal leaves nothing" $?
}

# A command is ended that has only just been started: the third, when the second file, which is there by then, turns out
# to be wrong.
test_begun()
{
    forget
    fill journal 1 5000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    cp "$(nth 1)" "$(nth 2)"
    for time in 1 2 3; do
        status "a wrong file while the next command begins, $time" 3 timeout -s KILL 60 "$twinlog" restore restored --jobs 2 \
            --command "case %f in *1.twl) sleep 0.5;; *3.twl) exec sleep 600;; esac; $fetch"
        rm -rf restored.restoring
    done
}

test_truncate()
{
    forget
    fill journal 1 9000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    segments=$(archived segments)
    status "truncate behind an archived segment" 0 "$twinlog" trim journal --after 7000
    [ "$("$twinlog" cursors journal --json | sed -E 's/.*"lsn":([0-9]+).*/\1/')" = 7000 ]
    count "the cursor is moved back" $?
    seq -f 'other record %.0f' 7001 20000 | "$twinlog" append journal --segment 64K >/dev/null
    status "archive what is new" 0 "$twinlog" archive journal --command "$keep"
    [ "$(archived segments)" -gt "$segments" ]
    count "there was something" $?
    restores_to "$(archived last_lsn)"
    restores_to 7500 --to 7500
    [ "$("$twinlog" cursors journal --json | sed -E 's/.*"lsn":([0-9]+).*/\1/')" = "$(archived last_lsn)" ]
    count "the cursor is behind what is kept" $?
    status "trim" 0 "$twinlog" trim journal --keep-records 100
    fill journal 20001 22000
    status "what was archived can be trimmed" 0 "$twinlog" archive journal --command "$keep"
    rm -rf restored
    status "and is in the archive" 0 "$twinlog" restore restored --command "$fetch"
    [ "$("$twinlog" cat restored | wc -l)" = "$(archived last_lsn)" ]
    count "all of it" $?
    fill journal 22001 60000
    status "trim past the cursor" 0 "$twinlog" trim journal --keep-records 10 --past-cursors
    fill journal 60001 90000
    status "a hole" 3 "$twinlog" archive journal --command "$keep"
    says "is told" err 'were removed before they were archived'
}

# Two histories of one log in one place, by a copy that takes the archive along. Each record says of which one it is, and
# no restore has those of both.
test_histories()
{
    over="cp %p $place/kept/%f"
    forget
    fill journal 1 5000
    "$twinlog" archive journal --command "$over" >out || count "archive" 1
    common=$(archived segments)
    cp -a journal other.journal
    cp -a journal backwards
    seq -f 'of A: %.0f' 5001 12000 | "$twinlog" append journal --segment 64K
    seq -f 'of B: %.0f' 5001 9000 | "$twinlog" append other.journal --segment 64K
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    last=$(archived last_lsn)
    restores_to "$last"
    cp -r kept of_a
    status "a copy of the log in the same place" 1 "$twinlog" archive other.journal --command "$keep"
    says "is refused by a command that writes over nothing" err "the command for .*$(printf %016x $((common + 1))).twl ended"
    restores_to "$last"
    status "and not by one that does" 0 "$twinlog" archive other.journal --command "$over"
    cp -r kept of_b
    refuses "the first one's newest files are still there" 'behind the [0-9]+ files that the manifest lists, .* does not continue them'
    copied=$(sed -E 's/.*--history ([0-9]+) restores.*/\1/' err)
    status "the archive is the copy's then" 0 "$twinlog" restore restored --command "$fetch" --history "$copied"
    "$twinlog" cat restored | grep -v 'of B' >out
    fill common.log 1 5000
    "$twinlog" cat common.log >restored.cat
    same "and has nothing of the other one" out restored.cat
    seq -f 'of A: %.0f' 12001 14000 | "$twinlog" append journal --segment 64K
    status "the first one goes on" 0 "$twinlog" archive journal --command "$over"
    refuses "both in turn" "$(printf %016x $((common + 1))).twl is another file than the one that was archived"
    # If also the manifest were wrong, the segments know.
    rm -rf kept && cp -r of_a kept
    id=$(sed -n 2p kept/twinlog.archive)
    bad=$id-$(printf %016x $((common + 1))).twl
    cp "of_b/$bad" "kept/$bad"
    line=$(grep "^$((common + 1)) " "of_b/$id.manifest")
    sed -i "s/^$((common + 1)) .*/$line/" "kept/$id.manifest"
    next=$id-$(printf %016x $((common + 2))).twl
    refuses "a segment of another history" "$next does not continue $bad: .* different histories"
    rm -rf restored
    point=$(sed -E 's/.* --to ([0-9]+) restores.*/\1/' err)
    status "what is in front of it" 0 "$twinlog" restore restored --command "$fetch" --to "$point"
    "$twinlog" cat other.journal --to "$point" >restored.cat
    "$twinlog" cat restored >out
    same "is one history" out restored.cat
    # The log is set back, and its archive is not.
    rm -r backwards/archive other.journal && cp -r journal/archive backwards
    status "a log that was set back" 3 "$twinlog" archive backwards --command "$keep"
    says "is told" err 'was set back to an older state, or is a copy'
    seq -f 'of C: %.0f' 5001 16000 | "$twinlog" append backwards --segment 64K
    status "also when it is longer" 3 "$twinlog" archive backwards --command "$keep"
    says "is told" err 'was set back to an older state, or is a copy'
    "$twinlog" trim backwards --after 5500 >out
    seq -f 'of D: %.0f' 5501 16000 | "$twinlog" append backwards --segment 64K
    status "and when a truncation has removed what shows that" 3 "$twinlog" archive backwards --command "$keep"
    says "is told" err 'was set back to an older state, or is a copy'
    rm -rf backwards of_a of_b common.log
}

# A truncation behind a record in the middle of a segment that is archived.
test_branches()
{
    forget
    fill journal 1 9000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    old=$(archived segments)
    last=$(archived last_lsn)
    cp -r journal before
    "$twinlog" trim journal --after 5555 >out
    seq -f 'other record %.0f' 5556 5600 | "$twinlog" append journal --segment 64K
    count "a truncated log is behind" $(($(archived lag_records) != 45))
    seq -f 'other record %.0f' 5601 20000 | "$twinlog" append journal --segment 64K
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    newest=$(archived segments)
    status "the log lists the histories of its archive" 0 "$twinlog" archive journal --list
    says "the old one" out "^history $old: LSN 1 to $last, $old files, epoch [0-9]+-[0-9a-f]{8}, chain [0-9a-f]{8}$"
    says "and the new one" out "^history $newest: LSN 1 to $(archived last_lsn), .* \(the newest\)$"
    count "and no other" $(($(wc -l <out) != 2))
    cp out listed
    status "so does the archive" 0 "$twinlog" restore none --list --command "$fetch"
    same "the same" listed out
    [ ! -e none ] && [ ! -e none.restoring ]
    count "and nothing is left" $?
    status "--list --json" 0 "$twinlog" archive journal --list --json
    says "has both" out "\"history\":$old,\"first_lsn\":1,\"last_lsn\":$last,.*\"history\":$newest,.*\"is_newest\":true"
    restores_to "$(archived last_lsn)"
    rm -rf restored
    status "the old history" 0 "$twinlog" restore restored --command "$fetch" --history "$old"
    "$twinlog" cat restored >restored.cat
    "$twinlog" cat before --to "$last" >out
    same "is there, too" out restored.cat
    status "a history that there is not" 1 "$twinlog" restore restored2 --command "$fetch" --history $((newest + 1))
    says "is told" err "its newest one is $newest"
    # The segment that begins the truncation says which group it continues: here another one.
    number=$((old + 1))
    bad=$(nth $number)
    chain=$(($(grep -abo 1TWG "$bad" | head -n 1 | cut -d: -f1) - 4 + 32))
    printf '\1\2\3\4' | dd of="$bad" bs=1 seek="$chain" conv=notrunc 2>/dev/null
    sed -i -E "s/^($number( [0-9a-f]+){8}) [0-9a-f]+/\1 04030201/" kept/*.manifest
    refuses "a truncation of another history" "${bad#kept/} does not continue .*: .* from LSN 5556 on"
    rm journal/archive/status
    mkdir second
    status "without its status a new archive begins" 0 "$twinlog" archive journal --command "cp %p second/%f"
    rm -rf before second
}

# Each opening in the mapped mode begins a segment, and no cursor stands in one without records.
test_mapped()
{
    forget
    trace=()
    if strace -o strace.out true 2>/dev/null; then
        trace=(env ASAN_OPTIONS="$no_leaks" strace -f -y -e "trace=fsync,linkat" -o strace.out)
    else
        skip "what is durable by then" "no strace"
    fi
    seq -f 'record %.0f of the log' 1 2000 | "$twinlog" append journal --mapped
    for _ in 1 2 3; do "$twinlog" append journal --mapped </dev/null; done
    status "archive a mapped log" 0 "$twinlog" archive journal --command "$keep"
    for _ in 1 2 3; do "$twinlog" append journal --mapped </dev/null; done
    seq -f 'record %.0f of the log' 2001 4000 | "$twinlog" append journal --mapped
    "$twinlog" cat journal >journal.cat
    status "trim behind what is archived" 0 "$twinlog" trim journal --keep-records 1
    "$twinlog" append journal --mapped </dev/null
    status "segments without records are still there" 0 "${trace[@]}" "$twinlog" archive journal --command "$keep"
    rm -rf restored
    status "restore" 0 "$twinlog" restore restored --command "$fetch"
    "$twinlog" cat restored >restored.cat
    same "it has all records" restored.cat journal.cat
    status "what all cursors have passed goes" 0 "$twinlog" trim journal --keep-records 1
    says "with the segments without records" out 'and [6-9] segments'
    [ ${#trace[@]} -gt 0 ] || return
    # A writer that maps does not wait until the next segment is durable, and would go on in this one without it.
    sed -n 's/.*linkat.*next-\([0-9a-f]*\)".*/\1/p' strace.out >names
    while read -r name; do
        next=$(printf %016x $((16#$name + 1))).twl
        sed "/linkat.*next-$name/q" strace.out | grep -q "fsync([0-9]*<.*/$next>"
        count "segment $((16#$name)) is handed over when the next one is durable" $?
        sed "/linkat.*next-$name/q" strace.out | grep -q "fsync([0-9]*<.*/$name.twl>"
        count "and when it is durable itself" $?
    done <names
    [ "$(wc -l <names)" -gt 4 ]
    count "there are some" $?
}

# The log may be another user's: the directory "archive" leads nowhere else.
test_links()
{
    forget
    fill journal 1 9000
    mkdir elsewhere
    echo precious >elsewhere/next-precious
    ln -s ../elsewhere journal/archive
    status "a link in the place of the directory" 1 "$twinlog" archive journal --command "$keep"
    status "is not followed by --status" 1 "$twinlog" archive journal --status
    [ "$(ls elsewhere)" = next-precious ]
    count "nothing is made or removed elsewhere" $?
    rm journal/archive
    mkdir journal/archive
    ln -s ../../elsewhere/next-precious journal/archive/status.new
    ln -s ../../elsewhere/next-precious journal/archive/identity
    status "links in the place of its files" 0 "$twinlog" archive journal --command "$keep"
    [ "$(cat elsewhere/next-precious)" = precious ]
    count "are replaced" $?
    restores_to "$(archived last_lsn)"
    rm journal/archive/status
    mkfifo journal/archive/status
    status "a pipe" 1 timeout -s KILL 60 "$twinlog" archive journal --command "$keep"
    status "is not waited for" 1 timeout -s KILL 60 "$twinlog" archive journal --status
    rm -r elsewhere
}

# What the command gets is a plain file, also for commands that keep links as links, and it must stay where it is.
test_plain()
{
    forget
    fill journal 1 9000
    status "a command that copies a link as a link" 0 "$twinlog" archive journal \
        --command "test ! -L %p && cp -a %p $place/kept/%f"
    [ -z "$(find kept -type l)" ]
    count "keeps files" $?
    restores_to "$(archived last_lsn)"
    rm -r kept journal/archive && mkdir kept
    status "a command that keeps the name of what it copies" 0 "$twinlog" archive journal \
        --command "cp %p $place/kept/ && : %f"
    restores_to "$(archived last_lsn)"
    fill journal 9001 12000
    status "a command that moves the file" 1 "$twinlog" archive journal --command "mv %p $place/kept/%f"
    says "is told" err 'has moved or removed the file %p, which it must copy$'
    find kept -type f -links +1 -delete
    status "one that copies" 0 "$twinlog" archive journal --command "cp %p $place/kept/%f"
    restores_to "$(archived last_lsn)"
    chmod g+w journal/archive
    status "a directory that others may write to" 0 "$twinlog" archive journal --command "$keep"
    [ -z "$(find journal/archive -maxdepth 0 -perm /022)" ]
    count "and may no more" $?
    mkdir "journal/archive/$(basename kept/*.manifest)"
    fill journal 12001 15000
    status "a directory with the name that a file has" 1 "$twinlog" archive journal --command "$keep"
    advises err 'A directory in archive has the name that a file has in the archive: remove that.'
    rmdir journal/archive/*.manifest
    status "no more" 0 "$twinlog" archive journal --command "$keep"
    if [ "$(id -u)" = 0 ] && chown 65534 journal/archive; then
        status "another user's directory" 1 "$twinlog" archive journal --command "$keep"
        advises err "It must be this user's: run this as its owner, or 'chown' it to this user."
        chown 0 journal/archive
    else
        skip "another user's directory" "only root may give one away"
    fi
}

# ends_replaced NAME: the archiver does not go on with what is in the place of its log or its archive by now.
ends_replaced()
{
    wait "$archiver"
    count "$1: it ends, with 3 ($?)" $(($? != 3))
    says "and says why" err "'journal/archive' is not there any more, or is another one than at the start"
    advises err 'Start this again, with another place for a new archive.'
    [ -z "$(find journal -type f -links +1)" ]
    count "and leaves no second name" $?
}

test_replaced()
{
    forget
    fill journal 1 3000
    timeout -s KILL 120 "$twinlog" archive journal --follow --command "$keep" >out 2>err &
    archiver=$!
    wait_until '[ "$(archived segments)" = "$("$twinlog" stat journal | grep -c "sealed ")" ]'
    rm -r journal/archive
    fill journal 3001 6000
    ends_replaced "the archive was removed"
    rm -r kept && mkdir kept
    status "another one" 0 "$twinlog" archive journal --command "$keep"
    restores_to "$(archived last_lsn)"

    # Nothing was archived yet, so nothing shows that it is another log.
    rm -r journal kept && mkdir kept
    fill journal 1 1
    timeout -s KILL 120 "$twinlog" archive journal --follow --command "$keep" >out 2>err &
    archiver=$!
    wait_until '"$twinlog" archive journal --status >status.out 2>&1'
    mkdir other && fill other/journal 1 9000
    rm -r journal && mv other/journal journal
    ends_replaced "the log was replaced"
    [ -z "$(ls kept)" ]
    count "nothing of the other log is archived" $?
    rmdir other
}

# While the segments are listed, more are filled.
test_fast()
{
    forget
    yes "as fast as it goes" | head -c 600M | "$twinlog" append journal --segment 64K --max-record 4K --quiet --linger 0s &
    writer=$!
    wait_until '[ "$(ls journal | wc -l)" -gt 600 ]'
    : >calls
    "$twinlog" archive journal --follow --command "test -s %p && echo %f >>$place/calls" >out 2>err &
    archiver=$!
    wait_until '[ "$(wc -l <calls)" -gt 100 ] || ! kill -0 $writer' && kill -0 $writer
    count "segments are archived beside a fast writer" $?
    kill $writer
    wait $writer
    ends_by_signal "and the archiver ends" $archiver
}

# An empty directory that is there: the log has its owner, its mode and its ACLs; what makes no log leaves it alone.
test_directory()
{
    local owner=0:0 looks='stat -c %i:%u:%g:%a'
    forget
    fill journal 1 5000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    mkdir -m 2750 given
    if [ "$(id -u)" = 0 ]; then
        owner=65534:4
        chown $owner given && chmod 2750 given
    else
        owner=$(id -u):$(id -g)
        skip "another owner" "only root may give a directory away"
    fi
    before=$($looks given)
    status "--list" 0 "$twinlog" restore given --list --command "$fetch"
    status "--dry-run" 0 "$twinlog" restore given --dry-run --command "$fetch"
    [ "$($looks given)" = "$before" ]
    count "they leave an empty directory as it is" $?
    status "a restore that fails" 1 "$twinlog" restore given --command "false %p %f"
    [ "$(stat -c %u:%g:%a given)" = "$owner:2750" ]
    count "leaves one with the same rights" $?
    has_acls=1
    python3 -c 'import os, sys
for name in "access", "default": os.setxattr("given", "system.posix_acl_" + name, bytes.fromhex(sys.argv[1]))' \
        0200000001000700ffffffff020005000400000004000500ffffffff10000500ffffffff20000000ffffffff 2>acl.err || has_acls=
    before=$(stat -c %u:%g:%a given)
    status "a restore" 0 "$twinlog" restore given --command "$fetch"
    [ "$(stat -c %u:%g:%a given)" = "$before" ]
    count "is a log with the directory's owner and mode" $?
    status "which is sound" 0 "$twinlog" verify given
    if [ -n "$has_acls" ]; then
        python3 -c 'import os
assert os.getxattr("given", "system.posix_acl_access") == os.getxattr("given", "system.posix_acl_default")'
        count "and with its ACLs" $?
    else
        skip "ACLs" "not on this file system"
    fi
    if [ "$(id -u)" = 0 ] && chmod 755 "$public" && as_nobody test -x "$twinlog"; then
        mkdir -m 777 "$public/above"
        mkdir "$public/above/roots"
        status "another user's empty directory" 1 as_nobody "$twinlog" restore "$public/above/roots" --command "$fetch"
        advises err 'Run this as its owner, or name a directory that is none yet.'
        status "by its owner" 0 "$twinlog" restore "$public/above/roots" --command "$fetch"
    else
        skip "another user's empty directory" "only root may be another user"
    fi
    rm -r given
}

# What messages advise is done.
test_advice()
{
    forget
    fill journal 1 9000
    "$twinlog" archive journal --command "$keep" >out || count "archive" 1
    mkdir real held
    ln -s real linked
    touch held/file
    status "a link in the place of the directory" 1 "$twinlog" restore linked --command "$fetch"
    advises err 'name a directory that is none yet, or an empty one that is no mount, no link and not '
    ln -s nothing dangling
    status "a link to nothing" 1 "$twinlog" restore dangling --command "touch $place/fetched; $fetch"
    advises err 'name a directory that is none yet, or an empty one that is no mount, no link and not '
    [ ! -e fetched ]
    count "is refused before anything is fetched" $?
    rm dangling
    status "without the link" 0 "$twinlog" restore dangling --command "$fetch"
    rm -r dangling
    status "one that is none yet" 0 "$twinlog" restore one --command "$fetch"
    status "an empty one" 0 "$twinlog" restore real --command "$fetch"
    status "one that is not empty" 1 "$twinlog" restore held --command "$fetch"
    advises err 'The directory must not exist, or be empty.'
    rm held/file
    status "an empty one" 0 "$twinlog" restore held --command "$fetch"
    status "one below a directory that is not there" 1 "$twinlog" restore nowhere/one --command "$fetch"
    advises err 'The directory above it must exist.'
    mkdir nowhere
    status "then" 0 "$twinlog" restore nowhere/one --command "$fetch"
    rm -r nowhere
    mkdir two.restoring
    status "what another restore has left" 1 "$twinlog" restore two --command "$fetch"
    advises err 'It is of another restore: if that was interrupted, remove the directory.'
    rm -r two.restoring
    status "without it" 0 "$twinlog" restore two --command "$fetch"
    status "a directory that gets files meanwhile" 1 "$twinlog" restore three \
        --command "mkdir -p $place/three && touch $place/three/file && $fetch"
    advises err 'It holds other files but no log: name a new or an empty directory.'
    status "a new one" 0 "$twinlog" restore four --command "$fetch"
    mv kept/twinlog.archive away
    status "no identity" 1 "$twinlog" restore five --command "$fetch"
    advises err '; else say --archive ID, the 16 digits in front of the names'
    id=$(basename kept/*.manifest .manifest)
    status "with it" 0 "$twinlog" restore five --command "$fetch" --archive "$id"

    mkdir second third
    echo nonsense >journal/archive/status
    status "a damaged status" 3 "$twinlog" archive journal --status
    advises err 'Remove the directory archive, and begin a new archive in another place.'
    rm journal/archive/status && mkdir journal/archive/status
    status "a status that is a directory" 1 "$twinlog" archive journal --status
    advises err 'Remove the directory archive, and begin a new archive in another place.'
    mkdir -p journal/failures/archive.new
    rm -r journal/archive
    status "a failure that cannot be noted" 1 "$twinlog" archive journal --command "false %p %f"
    advises err 'A directory has the name of a file in its directory failures: remove that.'
    rmdir journal/failures/archive.new
    status "the next one" 1 "$twinlog" archive journal --command "false %p %f"
    [ "$(archived failures)" = 1 ]
    count "is noted" $?
    status "then" 0 "$twinlog" archive journal --command "cp %p $place/second/%f"
    fill journal 9001 40000
    "$twinlog" trim journal --keep-records 10 --past-cursors >out
    fill journal 40001 60000
    status "a hole" 3 "$twinlog" archive journal --command "cp %p $place/second/%f"
    advises err 'Begin a new archive in another place: remove '
    rm -r journal/archive
    if unshare -m true 2>/dev/null; then
        # shellcheck disable=SC2016
        status "no /proc" 1 unshare -m sh -c 'mount -t tmpfs none /proc && exec "$0" archive journal --command "$1"' \
            "$twinlog" "cp %p $place/third/%f"
        advises err 'The command gets it below /proc/PID/fd/N: mount /proc.'
    else
        skip "an archiver without /proc" "only root may mount"
    fi
    status "a new archive in another place" 0 "$twinlog" archive journal --command "cp %p $place/third/%f"
    status "can be restored" 0 "$twinlog" restore six --command "cp $place/third/%f %p"
    rm -rf real held linked one two three four five six second third away
}

test_keep
test_example
test_points
test_fail
test_unheard
test_unsaved
test_lies
test_damaged
test_late
test_full
test_limit
test_kill
test_begun
test_truncate
test_histories
test_branches
test_mapped
test_links
test_plain
test_replaced
test_fast
test_directory
test_advice
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
