#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench.sh TWINLOG-BENCH: what the measurements refuse, that an open loop does not run ahead of its rate, and how
# bench/compare.py compares two runs: old.json and new.json as in compared.
set -u
export LC_ALL=C # elsewhere awk may take a comma for the point of a number
bench=$(realpath "$1") || exit 1
cd "$(dirname "$0")" || exit 1
failures=0
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

fail()
{
    echo "$*"
    failures=$((failures + 1))
}

# refuses WORDS OPTIONS...: wrong usage, said with these words.
refuses()
{
    words=$1
    shift
    "$bench" "$@" >"$scratch/output" 2>&1
    status=$?
    if [ "$status" != 2 ] || ! grep -q -- "$words" "$scratch/output"; then
        fail "twinlog-bench $*: ended with $status, not with 2 and '$words': $(cat "$scratch/output")"
    fi
}

refuses 'has its own --peers' --scenario p1 --threads 4
refuses 'has its own --peers' --scenario p1 --size 128
refuses 'p5 takes no --rate' --scenario p1,p5 --rate 100
refuses 'rate takes a number from 0.1 to 1000000000' --rate 0
refuses 'rounds takes a number from 1 to 1000,' --rounds 1001
refuses 'slow only' --delay 100 --peers twinlog
refuses 'slow only' --stall 1 --peers twinlog:io=dsync,naive
refuses 'for no scenario' --delay 100 --scenario p1
refuses 'no share' --peers twinlog,twinlog@x
refuses 'no such scenario' --scenario p99

compare=$PWD/../../bench/compare.py
if command -v python3 >/dev/null; then
    "$compare" old.json new.json 2>&1 | diff compared - || fail "two runs are compared in another way (<: as wanted)"
    head -c 900 old.json >"$scratch/short.json"
    for file in /dev/null bench.sh nowhere.json "$scratch/short.json"; do
        "$compare" old.json "$file" >"$scratch/output" 2>&1 && fail "$file is compared: $(cat "$scratch/output")"
    done
else
    echo "SKIP bench, two runs compared: there is no python3"
fi

# bench/run.sh --all where git says nothing, in a repository with a change, and committed beside a program that never waits.
mkdir -p "$scratch/tree/bench"
cp ../../bench/run.sh "$scratch/tree/bench"
BENCH=/bin/true GIT_DIR=/nowhere sh "$scratch/tree/bench/run.sh" --all >"$scratch/output" 2>&1 && fail "run.sh --all needs no git"
grep -q 'git does not say' "$scratch/output" || fail "run.sh --all says where git says nothing: $(cat "$scratch/output")"
if command -v git >/dev/null; then
    git -C "$scratch/tree" init -q
    BENCH=/bin/true sh "$scratch/tree/bench/run.sh" --all >"$scratch/output" 2>&1 && fail "run.sh --all takes a changed tree"
    grep -q 'changes are not committed' "$scratch/output" || fail "run.sh --all says of a change: $(cat "$scratch/output")"
    git -C "$scratch/tree" add bench
    git -C "$scratch/tree" -c user.name=a -c user.email=a@b commit -q -m a
    for _ in $(seq "$(nproc)"); do
        (while :; do :; done) &
        busy="${busy:-} $!"
    done
    BENCH=/bin/true sh "$scratch/tree/bench/run.sh" --all >"$scratch/output" 2>&1 && fail "run.sh --all takes a busy machine"
    grep -q 'other programs use' "$scratch/output" || fail "run.sh --all says of a busy machine: $(cat "$scratch/output")"
    # shellcheck disable=SC2086 # one or more of them
    kill $busy
else
    echo "SKIP bench, run.sh --all: there is no git"
fi

# Each second round goes backwards: none always follows the same one.
if command -v script >/dev/null; then
    turns() # PEERS: of each in four rounds
    {
        script -qec "'$bench' --peers $1 --threads 1 --rounds 4 --seconds 0.01 --warmup 0 '$scratch'" /dev/null </dev/null |
            tr '\r' '\n' | sed -n 's/.*: round . of 4, \([a-z-]*\), .*/\1/p' | xargs
    }
    found=$(turns naive,raw)
    [ "$found" = "naive raw raw naive raw naive naive raw" ] || fail "the turns of two: $found"
    found=$(turns naive,by-hand,raw)
    [ "$found" = "naive by-hand raw raw by-hand naive by-hand raw naive naive raw by-hand" ] || fail "the turns of three: $found"
else
    echo "SKIP bench, the turns: no script(1)"
fi

# Two threads begin 20 appends a second, 20 in a second.
"$bench" --peers twinlog:fresh --threads 2 --rate 20 --seconds 1 --warmup 0 --rounds 1 --json "$scratch/open.json" \
    "$scratch" >"$scratch/output" 2>&1 || fail "an open loop fails: $(cat "$scratch/output")"
for figure in '"wanted_rate":20' '"appends":(19|2[01])\b' '"user_us_per_append":[0-9]' '"switches_per_append":[0-9]'; do
    grep -qE "$figure" "$scratch/open.json" || fail "not in the JSON: $figure"
done

# What was due before the end is waited for, begun behind the end if it has a time, and counted: of five appends that are
# due within 50 ms on a disk that takes 200 ms, the last one is late by more than 800 ms; the maximum is that of all rounds.
if [ -w /dev/shm ]; then
    slow=$(mktemp -d /dev/shm/bench.XXXXXX)
    least=200000
    for rate in '' '--rate 100'; do
        # shellcheck disable=SC2086 # an option and its argument
        "$bench" --delay 200000 --peers raw --threads 1 $rate --seconds 0.05 --warmup 0 --rounds 2 --json "$scratch/slow.json" \
            "$slow" >"$scratch/output" 2>&1 || fail "a disk that stands still: $(cat "$scratch/output")"
        longest=$(sed -n 's/.*"max_us":\([0-9.e+]*\).*/\1/p' "$scratch/slow.json" |
            awk '$1 > most { most = $1 } END { printf "%d", most }')
        [ "${longest:-0}" -ge "$least" ] ||
            fail "a stall at the end does not show${rate:+ with $rate}: the longest took ${longest:-0} µs"
        least=800000
    done
    # Three seconds are seen wherever they lie: in the warm-up, in the middle, and with a rate far behind. 16 writes
    # make the file. On a busy machine there are fewer writes in a second than the rate says.
    for rate in '' '--rate 100'; do
        seconds=0.5
        [ -z "$rate" ] || seconds=2
        for write in 18 40 ${rate:+70}; do
            mkdir "$slow/$write$rate"
            # shellcheck disable=SC2086 # an option and its argument
            "$bench" --delay 10000 --stall "$write" --peers raw --threads 1 $rate --seconds $seconds --warmup 0.1 --rounds 1 \
                --json "$scratch/stall$write$rate.json" "$slow/$write$rate" >"$scratch/output$write$rate" 2>&1 ||
                echo "a stall fails: $(cat "$scratch/output$write$rate")" &
        done
    done
    wait
    for rate in '' '--rate 100'; do
        for write in 18 40 ${rate:+70}; do
            grep -qE '"max_us":(2\.9|3)[0-9.]*e\+06' "$scratch/stall$write$rate.json" ||
                fail "a stall at write $write does not show${rate:+ with $rate}"
        done
    done
    rm -r "$slow"
else
    echo "SKIP bench, a disk that stands still: /dev/shm is not here"
fi

# Half of what the closed loop reached, in time.
"$bench" --peers raw,raw@0.5 --threads 1 --seconds 0.3 --warmup 0 --rounds 2 --json "$scratch/share.json" "$scratch" \
    >"$scratch/output" 2>&1 || fail "a share of a rate fails: $(cat "$scratch/output")"
awk -F'[:,]' '{ for (i = 1; i < NF; i++) { if ($i == "\"rate\"") rate = $(i + 1); if ($i == "\"wanted_rate\"") wanted = $(i + 1) } }
              END { exit !(wanted > 0 && rate > 0 && rate < wanted * 1.2) }' "$scratch/share.json" ||
    fail "raw@0.5 does not keep its rate: $(cat "$scratch/output")"
"$bench" --peers raw@0.5,raw --threads 1 --seconds 0.1 --rounds 1 "$scratch" >"$scratch/output" 2>&1 &&
    fail "a share comes before what it is a share of"

# The latencies of follow are the reader's alone, also over all rounds; of few there is no p99.9.
"$bench" --scenario follow --rounds 1 --seconds 0.05 --warmup 0 --json "$scratch/follow.json" "$scratch" >"$scratch/output" 2>&1 ||
    fail "follow fails: $(cat "$scratch/output")"
grep -oE '"(p50|max)_us":[0-9.]+' "$scratch/follow.json" | paste - - - - | awk '$1 != $3 || $2 != $4' | grep . &&
    fail "follow: the figures of one round are not those of all"
grep -q '"p999_us":[0-9]' "$scratch/open.json" && fail "20 appends have a p99.9"

# Each line that is put is in the file, or it fails.
"$bench" --scenario lines --rounds 1 --seconds 0.001 --warmup 0 "$scratch" >"$scratch/output" 2>&1 ||
    fail "lines fails: $(cat "$scratch/output")"
for row in '| sink  *|  *128 |  *4 ' '| write  *|  *1K |  *1 '; do
    [ "$(grep -c "^$row" "$scratch/output")" = 2 ] || fail "lines: not by threads and by processes: $row"
done

# Names of contenders may have a comma: each line has as many fields as the first one.
"$bench" --scenario p5 --rounds 1 --seconds 0.01 --warmup 0 --csv "$scratch/flight.csv" "$scratch" >"$scratch/output" 2>&1 ||
    fail "p5 fails: $(cat "$scratch/output")"
[ "$(sed 's/"[^"]*"//g' "$scratch/flight.csv" | awk -F, '{ print NF }' | sort -u | wc -l)" = 1 ] ||
    fail "the lines of the CSV have different lengths"

# Each synced write of a disk that sleeps takes 0.2 seconds.
"$bench" --peers twinlog:io=dsync:fresh --delay 200000 --threads 1 --seconds 0.5 --warmup 0 --rounds 1 \
    --json "$scratch/sleeps.json" "$scratch" >"$scratch/output" 2>&1 || fail "a disk that sleeps fails: $(cat "$scratch/output")"
grep -qE '"p50_us":(2\.[0-9]+e\+05|2[0-9]{5})' "$scratch/sleeps.json" || fail "a disk does not sleep: $(cat "$scratch/output")"

[ "$failures" = 0 ] && echo "twinlog-bench refuses what it does not do, keeps its rate, and compares"
exit "$((failures > 0))"
