#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the tables in bench/figures and the pictures of docs/performance.md:
#
#   bench/run.sh --all | WORD... [-- OPTIONS]
#
# WORD is durable, pace, rates, shapes, flight, targets, rolls, opening, following, reading, ways, sink, shared, lines,
# sizes, pipes, hashicorp or others. Each makes bench/figures/WORD.md, and beside it the same as CSV and as JSON with every
# round; pipes, hashicorp and others are programs of their own (bench/pipes.py, bindings/go/raft/bench, bench/others.sh).
# --all makes all of them in 75 minutes, ten rounds of 0.35 seconds or less each (targets 1, rolls 2), and writes the new
# figures into the documents. It refuses a tree with changes that are not committed, and a machine of which other programs
# use more than a tenth; builds the program; and goes on with the next word if one fails.
#
# OPTIONS go to each twinlog-bench, so "-- --rounds 1 --seconds 0.3" is a quick try. From the
# environment:
#   BENCH      the program             (default build/release/bench/twinlog-bench)
#   BENCH_DIR  where its logs go       (default build/bench: on the disk of this tree)
#   FIGURES    where the tables go     (default bench/figures)
#   DOCS       where the pictures go   (default docs)
#   ROUNDS     of hashicorp            (default 10)
set -eu
cd "$(dirname "$0")/.."

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
root=$PWD
bench=$(absolute "${BENCH:-build/release/bench/twinlog-bench}")
directory=$(absolute "${BENCH_DIR:-build/bench}")
figures=$(absolute "${FIGURES:-bench/figures}")
docs=$(absolute "${DOCS:-docs}")
# What it makes itself is no change.
commit=$(git describe --always 2>/dev/null || echo unknown)
git diff --quiet HEAD -- . ':!bench/figures' ':!docs/*.svg' 2>/dev/null || [ "$commit" = unknown ] || commit=$commit-dirty
note="commit $commit"

usage() { sed -n '3,19s/^# \{0,1\}//p' "$root/bench/run.sh" >&2 && exit 2; }
every="durable pace rates shapes flight targets rolls opening following reading ways sink shared lines sizes pipes hashicorp others"
words=
is_all=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case " $every " in
    *" $1 "*) words="$words $1" ;;
    *) [ "$1" = --all ] || usage && is_all=yes words=$every ;;
    esac
    shift
done
[ $# -eq 0 ] || shift
[ -n "$words" ] || usage

# busy_percent: of all processors, for two seconds: what is neither idle nor waiting for the disk.
busy_percent()
{
    { head -n 1 /proc/stat && sleep 2 && head -n 1 /proc/stat; } |
        awk '{ idle[NR] = $5 + $6; for (i = 2; i <= 9; i++) all[NR] += $i }
             END { print int(100 - 100 * (idle[2] - idle[1]) / (all[2] - all[1] + 1)) }'
}

# until_quiet MINUTES: or it gives up.
until_quiet()
{
    busy=$(busy_percent)
    for _ in $(seq "$1"); do
        [ "$busy" -gt 10 ] || break
        sleep 58
        busy=$(busy_percent)
    done
    [ "$busy" -le 10 ] || { echo "run.sh: --all: other programs use $busy % of the machine" >&2 && exit 1; }
}
if [ -n "$is_all" ]; then
    changes=$(git status --porcelain) || { echo "run.sh: --all: git does not say whether there are changes" >&2 && exit 1; }
    [ -z "$changes" ] || { echo "run.sh: --all: changes are not committed; see git status" >&2 && exit 1; }
    until_quiet 0
    [ -n "${BENCH:-}" ] || { cmake --preset release && cmake --build build/release; } >/dev/null
fi
[ -x "$bench" ] || { echo "run.sh: no $bench; build it, or say BENCH=" >&2 && exit 1; }
if [ -n "$is_all" ]; then
    failed=
    for word in $words; do
        (until_quiet 60) || { failed="$failed $word" && continue; }
        seconds=0.35
        case $word in
        shared | sizes | opening) seconds=0.25 ;; # most turns; many times in a round
        targets) seconds=1 ;;                     # segments of 256 MiB
        rolls) seconds=2 ;;
        esac
        bench/run.sh "$word" -- --rounds 10 --seconds $seconds "$@" || failed="$failed $word"
    done
    bench/quote.py --write || failed="$failed quote.py"
    [ -z "$failed" ] || { echo "run.sh: --all: failed:$failed" >&2 && exit 1; }
    exit
fi

# measure NAME OPTIONS...: NAME.md, NAME.csv and NAME.json. The command in the tables is one that works anywhere: all names
# in it are short.
measure()
{
    name=$1
    shift
    "$bench" "$@" --note "$note" --csv "$name.csv" --json "$name.json" >"$name.md"
}

# tell_machine: the head of the table of another program.
tell_machine()
{
    measure machine --peers twinlog --threads 1 --rounds 1 --seconds 0.1
    printf 'twinlog, %s, %s, bench/run.sh %s  \n' "$note" "$(date -u +%F)" "$word"
    grep -E '^with | cores, ' machine.md
    rm machine.*
}

# measure_hashicorp ROUNDS: the store for hashicorp/raft in turns with raft-boltdb and with the shape of raft-wal. What Debian
# has of Go is found by GOPATH.
measure_hashicorp()
{
    build=${bench%/bench/*}
    binding=example.org/twinlog/bindings/go
    mkdir -p "gopath/src/${binding%/*}" data
    ln -s "$root/bindings/go" "gopath/src/$binding"
    printf 'Name: twinlog\nDescription: the library in the build\nVersion: 0\nCflags: -I%s\nLibs: -L%s -ltwinlog\n' \
        "$root/include" "$build" >twinlog.pc
    (
        export PKG_CONFIG_PATH="$PWD" CGO_LDFLAGS="-Wl,-rpath,$build" CGO_CFLAGS=-O2 GOCACHE="$build/go-cache" GOFLAGS=
        export GO111MODULE=off GOPATH="$PWD/gopath:/usr/share/gocode"
        go build -o hashicorp "$binding/raft/bench"
    )
    echo table,contender,point,figure >hashicorp.csv
    ROUNDS=$PWD/hashicorp.csv ./hashicorp -dir data -rounds "$1" -large 1000000
}

# draw PICTURE PROGRAM: docs/performance-PICTURE.svg by bench/PROGRAM.gp, from the table of this word.
draw()
{
    origin="$(sed -n 's/\( cores\), .*/\1/p' "$word.md" | head -n 1); $(date -u +%F), commit $commit; $(grep -oE 'median of [0-9]+ rounds?' "$word.md" | head -n 1)"
    origin="$origin, lines from the slowest to the fastest"
    gnuplot -e "csv='$word.csv'; picture='$docs/performance-$1.svg'; against='$1'; origin='$origin'; programs='$root/bench'" \
        "$root/bench/$2.gp"
}

peers=naive,by-hand,bdb,leveldb,rocksdb,sqlite-together,wiredtiger
for word in $words; do
    echo "== $word"
    rm -rf "${directory:?}/$word"
    mkdir -p "$directory/$word" "$figures"
    cd "$directory/$word"
    case $word in
    durable)
        measure durable --scenario p1,p2,p3,p4 "$@"
        draw threads plot
        ;;
    pace) measure pace --scenario pace "$@" ;;
    rates)
        list=
        for peer in twinlog by-hand bdb rocksdb; do list="$list,$peer,$peer@0.5,$peer@0.9"; done
        measure rates --peers "${list#,}" --threads 1,16,64 "$@"
        ;;
    shapes)
        taskset -c 0 "$bench" --scenario pace "$@" --note "$note, one processor" --csv shapes.csv --json shapes.json \
            >shapes.md
        memory=$(mktemp -d /dev/shm/twinlog-bench-XXXXXX)
        for delay in 10 100; do
            measure shapes-$delay --delay $delay --peers twinlog:io=dsync,pace-blocking,pace-gathering \
                --threads 1,16,256,1000 "$@" "$memory"
            { printf '\n## A write takes %d µs\n\n' $delay && cat shapes-$delay.md; } >>shapes.md
            rm shapes-$delay.md
        done
        rm -r "$memory"
        ;;
    flight) measure flight --scenario p5 "$@" ;;
    targets) measure targets --scenario p6 "$@" ;;
    rolls) measure rolls --scenario p13 "$@" ;;
    opening) measure opening --scenario p9 "$@" ;;
    following) measure following --scenario follow,state "$@" ;;
    reading)
        measure reading --scenario p8,seek "$@"
        draw replay replay
        ;;
    ways) measure ways --scenario batch,ways,logs "$@" ;;
    sink)
        measure sink --scenario p10 "$@"
        draw sink sink
        ;;
    shared)
        measure shared --scenario p11 "$@"
        draw shared shared
        ;;
    lines) measure lines --scenario lines "$@" ;;
    sizes)
        measure sizes --peers "twinlog,twinlog:fresh,raw-large,$peers" --threads 16 --size 64,1K,16K,128K,1M \
            --bytes 256M --warmup 0.1 --rest 0.1 "$@"
        draw sizes plot
        ;;
    pipes)
        tell_machine >pipes.md
        printf '\n**pipes: lines of 89 bytes a second, cat FILE | COMMAND**, median of 10 rounds\n\n' >>pipes.md
        echo table,contender,point,rate >pipes.csv
        ROUNDS=$PWD/pipes.csv "$root/bench/pipes.py" --rounds 10 "${bench%/bench/*}/tools/twinlog" "$directory/$word" >>pipes.md
        ;;
    hashicorp)
        tell_machine >hashicorp.md
        measure_hashicorp "${ROUNDS:-10}" >>hashicorp.md
        rm -rf gopath data hashicorp twinlog.pc
        ;;
    others)
        tell_machine >others.md
        "$root/bench/others.sh" "$directory/$word" >>others.md
        ;;
    esac
    rm -f "$figures/$word".* "$figures/$word"-*
    for table in *.md; do { printf '# Figures: %s\n\n' "${table%.md}" && cat "$table"; } >"$figures/$table"; done
    find . -maxdepth 1 \( -name '*.csv' -o -name '*.json' \) -exec cp {} "$figures" \;
done
