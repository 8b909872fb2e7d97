#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# looks.sh TWINLOG: how many bytes of a log's files a look at it reads, and an opening: they must not depend on how large
# the log and its segments are. Counted by strace, beside a writer and without one.
set -u
# shellcheck source=test/cli/checks.sh
. "$(dirname "$0")/checks.sh"
if ! strace -o trace true 2>err; then
    echo "SKIP looks: strace is not here, or may not trace"
    exit 77
fi

tries=1 # beside a writer more: a segment that is being made has a look begin again

# reads NAME LOG KILOBYTES PER_FILE COMMAND...: it reads so many KiB of the log's files at most, and so many for each file.
reads()
{
    log=$2
    what=$1
    most=$(($3 * 1024 + $4 * $(find "$2" -name '*.twl' | wc -l) * 1024))
    shift 4
    for _ in $(seq "$tries"); do
        status "$what" 0 strace -f -y -o trace -e trace=read,pread64,preadv,preadv2,readv,io_uring_enter "$@"
        count "$what reads by calls that strace shows" "$(grep -c 'io_uring_enter' trace)"
        # a sector of the state file is a block where the kernel does not tell how direct reads are aligned
        got=$(awk -v "place=/$log/" 'index($0, place) && $NF > 0 {
            bytes += index($0, "/state>") && $NF == 4096 ? 512 : $NF
        } END { print bytes + 0 }' trace)
        [ "$got" -gt "$most" ] || break
    done
    echo "$what: $got bytes of at most $most"
    count "$what reads $got bytes, at most $most" $((got == 0 || got > most))
}

# feed LINES: groups of three, of which each is durable before the next one comes.
feed()
{
    text=$(printf '%4000s' '')
    while [ "${lsn:-0}" -lt "$1" ]; do
        printf '%s\n%s\nshort\n' "$text" "$text" >&3
        for _ in 1 2 3; do
            read -r lsn <&4 || return
        done
    done
}

start_writer log --segment 64M --prepare allocated --buffered
tries=3
feed 9000 # 24 MB: the newest segment has 16 MiB and is half full
reads "stat beside a writer" log 64 0 "$twinlog" stat log
reads "stat --prometheus" log 64 0 "$twinlog" stat log --prometheus
reads "cat -n 1" log 64 0 "$twinlog" cat log -n 1
reads "cursors" log 32 0 "$twinlog" cursors log
reads "three looks of top" log 192 0 timeout --foreground --preserve-status 2.5 "$twinlog" top log
"$twinlog" cursors log --set consumer=8990
# 64 KiB with a walk to the record, from a group near it; and the records that it prints
reads "cat --cursor" log 128 0 "$twinlog" cat log --cursor consumer
for lsn in 100 4000 6400 8000 8990; do
    reads "cat --from $lsn" log 64 0 "$twinlog" cat log --from "$lsn" --to "$lsn"
done
# The bytes behind cursors take another look, the age of each a walk. The newest segment begins at about 6,300.
"$twinlog" cursors log --set "consumer=8990"
reads "stat --prometheus with a cursor" log 160 0 "$twinlog" stat log --prometheus
for lsn in 8890 7000 6900 7100; do
    "$twinlog" cursors log --set "c$lsn=$lsn"
done
reads "stat --prometheus with five" log 320 0 "$twinlog" stat log --prometheus
# 64 KiB and the record
head -c 450000 /dev/zero | tr '\0' x >&3
echo >&3
read -r lsn <&4
reads "cat -n 1 of a large record" log 504 0 "$twinlog" cat log -n 1
stop_writer KILL
tries=1
echo record >in
# what it may have had in flight, in two segments
# shellcheck disable=SC2016 # the inner shell expands it
reads "append to a log of a killed writer" log 17408 4 sh -c '"$1" append log --io dsync <in' sh "$twinlog"
reads "stat of a closed log" log 256 4 "$twinlog" stat log
reads "cat -n 1 of a closed log" log 256 4 "$twinlog" cat log -n 1
reads "cursors of a closed log" log 256 4 "$twinlog" cursors log
# shellcheck disable=SC2016
reads "append to a closed log" log 1024 4 sh -c '"$1" append log --io dsync <in' sh "$twinlog"

echo "looks: $passed passed, $failed failed"
[ "$failed" = 0 ]
