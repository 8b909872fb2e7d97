#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the tables in bench/figures and the pictures of docs/performance.md:
#
#   bench/run.sh --all | WORD... [-- OPTIONS]
#
# WORD is targets, durable, pace, shapes, flight, rolls, opening, following, reading, ways, sink, shared, threads
# or sizes. --all makes all of them, and refuses a tree with changes that are not committed, and a machine of which other
# programs use more than a tenth: such figures are nobody's. durable and flight are parts of targets and ways; shapes is pace on one processor, and
# on disks that sleep, in memory; sink and shared are about plain files. Each makes bench/figures/WORD.md.
#
# OPTIONS go to each twinlog-bench, so "-- --rounds 1 --seconds 0.3" is a quick try. From the
# environment:
#   BENCH      the program             (default build/release/bench/twinlog-bench)
#   BENCH_DIR  where its logs go       (default build/bench: on the disk of this tree)
#   FIGURES    where the tables go     (default bench/figures)
#   DOCS       where the pictures go   (default docs)
set -eu
cd "$(dirname "$0")/.."

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
root=$PWD
bench=$(absolute "${BENCH:-build/release/bench/twinlog-bench}")
directory=$(absolute "${BENCH_DIR:-build/bench}")
figures=$(absolute "${FIGURES:-bench/figures}")
docs=$(absolute "${DOCS:-docs}")
note="commit $(git describe --always --dirty 2>/dev/null || echo unknown)"

words=
is_all=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    --all) is_all=yes words="targets durable pace shapes flight rolls opening following reading ways sink shared threads sizes" ;;
    targets | durable | pace | shapes | flight | rolls | opening | following | reading | ways | sink | shared | threads | sizes) words="$words $1" ;;
    *) sed -n '3,17s/^# \{0,1\}//p' "$root/bench/run.sh" >&2 && exit 2 ;;
    esac
    shift
done
[ $# -eq 0 ] || shift
[ -n "$words" ] || { sed -n '3,17s/^# \{0,1\}//p' "$root/bench/run.sh" >&2 && exit 2; }

# busy_percent: of all processors, for two seconds: what is neither idle nor waiting for the disk.
busy_percent()
{
    { head -n 1 /proc/stat && sleep 2 && head -n 1 /proc/stat; } |
        awk '{ idle[NR] = $5 + $6; for (i = 2; i <= 9; i++) all[NR] += $i }
             END { print int(100 - 100 * (idle[2] - idle[1]) / (all[2] - all[1] + 1)) }'
}
if [ -n "$is_all" ]; then
    [ -z "$(git status --porcelain)" ] || { echo "run.sh: --all: changes are not committed; see git status" >&2 && exit 1; }
    busy=$(busy_percent)
    [ "$busy" -le 10 ] || { echo "run.sh: --all: other programs use $busy % of the machine" >&2 && exit 1; }
fi
[ -x "$bench" ] || { echo "run.sh: no $bench; build it, or say BENCH=" >&2 && exit 1; }
# Inside the directory all names are short, and the command in the tables is one that works anywhere.
mkdir -p "$directory" "$figures"
cd "$directory"

# scenario NAME LIST OPTIONS...
scenario()
{
    name=$1 list=$2
    shift 2
    "$bench" --scenario "$list" "$@" --note "$note" --csv "$name.csv" --json "$name.json" --markdown "$name.md"
}

# draw NAME PICTURE PROGRAM: docs/performance-PICTURE.svg from NAME.csv, by bench/PROGRAM.gp.
draw()
{
    gnuplot -e "csv='$1.csv'; picture='$docs/performance-$2.svg'; against='$1'" "$root/bench/$3.gp"
}

for word in $words; do
    echo "== $word"
    case $word in
    threads)
        "$bench" --threads 1,4,16,64,256,1000 "$@" --note "$note" --csv threads.csv --json threads.json \
            --markdown threads.md
        draw threads threads plot
        ;;
    sizes)
        "$bench" --threads 16 --size 64,256,1K,4K,16K,64K,256K,1M --seconds 0.5 --bytes 1G --rest 2 --rounds 3 "$@" \
            --note "$note" --csv sizes.csv --json sizes.json --markdown sizes.md
        draw sizes sizes plot
        ;;
    pace)
        "$bench" --peers twinlog,pace-blocking,pace-gathering,raw --threads 1,16,64,256,1000 "$@" --note "$note" \
            --csv pace.csv --json pace.json --markdown pace.md
        ;;
    shapes)
        taskset -c 0 "$bench" --peers twinlog,pace-blocking,pace-gathering --threads 1,16,64,256,1000 "$@" \
            --note "$note, one processor" --markdown shapes.md
        memory=$(mktemp -d /dev/shm/twinlog-bench-XXXXXX)
        for delay in 10 50 100 1000; do
            "$bench" --delay $delay --peers twinlog:io=dsync,pace-blocking,pace-gathering --threads 1,16,64,256,1000 \
                "$@" --note "$note" --markdown "$memory/shapes.md" "$memory"
            printf '\n## A write takes %d µs\n\n' $delay | cat - "$memory/shapes.md" >>shapes.md
        done
        rm -r "$memory"
        ;;
    durable) scenario "$word" p1,p2,p3,p4 "$@" ;;
    flight) scenario "$word" p5 "$@" ;;
    targets) scenario "$word" p1,p2,p3,p4,p6,p7,p12 "$@" ;;
    rolls) scenario "$word" p13 "$@" ;;
    opening) scenario "$word" p9 "$@" ;;
    ways) scenario "$word" p5,batch,ways "$@" ;;
    sink)
        scenario "$word" p10 "$@"
        draw sink sink sink
        ;;
    shared)
        scenario "$word" p11 "$@"
        draw shared shared shared
        ;;
    following) scenario "$word" follow,state "$@" ;;
    reading)
        scenario "$word" p8,seek "$@"
        draw reading replay replay
        ;;
    esac
    { printf '# Figures: %s\n\n' "$word" && cat "$word.md"; } >"$figures/$word.md"
done
