#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# long.sh BUILD [NAME...]: the long runs of docs/testing.md, or those of these names, as many at a time as there are
# processors. The output of each, with its command, goes to BUILD/long/; a line says how it ended.
set -u
build=$(cd "$1" && pwd) || exit 2
shift
jobs=$(nproc)
images=100000000
images_each=2500000
logs=$build/long
mkdir -p "$logs"

# runs: NAME COMMAND, a line each. What takes one program too long is given to several.
runs()
{
    cat <<'END'
faults sim-faults
kills crash-kill --seed 1 --kills 20000
shared crash-kill shared --power --seed 1 --kills 10000
mapped crash-kill mapped --power --seed 1 --kills 10000
sink crash-kill sink --seed 1 --kills 30000
images-sink sim-crash --sink --seed 900000000 --images 1000000
soak crash-kill soak --seed 1 --seconds 1800
END
    for k in $(seq "$jobs"); do
        echo "bits-$k damage-random -n 10 -b $jobs -f $((k - 1))"
    done
    echo "sectors damage-random -e -n 60"
    echo "places damage-random -n 10000 -s 1001"
    for fs in ext4 xfs btrfs; do
        for method in image shutdown fault slow; do
            [ "$fs-$method" = btrfs-shutdown ] || # there is no such call
                echo "power-$fs-$method crash-power --fs $fs --method $method --seed 1 --cuts 1000"
        done
    done
    for k in $(seq $((images / images_each))); do
        echo "images-$k sim-crash --seed $((100 + k))000000 --images $images_each"
    done
}

# wanted NAME...: of those, or of all; "power" is each that begins so.
wanted()
{
    [ $# -gt 0 ] || { runs && return; }
    for name in "$@"; do
        runs | grep -E "^$name( |-)" || echo "$name: there is no such run"
    done
}

# run NAME PROGRAM ARGUMENT...
run()
{
    name=$1 program=$2
    shift 2
    log=$logs/$name.txt
    echo "$program $*" | tee "$log"
    status=0
    began=$(date +%s)
    TMPDIR=$logs "$build/test/$program" "$@" >>"$log" 2>&1 </dev/null || status=$?
    case $status in
    0) echo "$name, $((($(date +%s) - began + 59) / 60)) min: $(grep "^$program: " "$log" | tail -n 1)" ;;
    77) echo "$name: skipped: $(tail -n 1 "$log")" ;;
    *) echo "$name: FAILED with $status, see $log" && return 1 ;;
    esac
}

if [ "${1:-}" = --run ]; then # this script calls itself for each
    shift
    run "$@"
    exit
fi

list=$(wanted "$@")
if echo "$list" | grep 'there is no such run'; then
    echo "there are: $(runs | sed 's/[- ].*//' | uniq | tr '\n' ' ')"
    exit 2
fi
echo "$(date '+%F %H:%M') $(git describe --always --dirty 2>/dev/null): $(echo "$list" | wc -l) runs, $jobs at a time; $logs"
echo "$list" | xargs -P "$jobs" -L 1 "$0" "$build" --run
