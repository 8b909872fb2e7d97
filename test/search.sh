#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# search.sh WORD [ARGUMENT...]: looks for faults longer than the tests do; ./dev help says what each word does.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=test/dev.sh
. test/dev.sh

# Crashes on the simulated disk and killed processes, so many seconds each, with new seeds.
crash()
{
    setup "$to_test"
    if [ "${1:-}" = --long ]; then
        shift
        build dev
        test/long.sh build/dev "$@"
        return
    fi
    build dev sim-crash crash-kill
    build/dev/test/sim-crash --seconds "${1:-600}" --seed "$(date +%s)000"
    for policy in durable sink 'mapped --power' 'shared --power'; do
        # shellcheck disable=SC2086 # words
        build/dev/test/crash-kill $policy --seconds "${1:-600}" --seed "$(date +%s)" --dir build
    done
}

# One log that grows old. A seed of its own, which is printed.
soak()
{
    setup "$to_test"
    build dev crash-kill
    build/dev/test/crash-kill soak --seconds "${1:-600}" --seed "$(date +%s)" --dir build
}

model()
{
    setup "$to_test"
    test/model/model.sh --large
}

orders()
{
    setup "$to_test"
    build dev interleave
    ctest --test-dir build/dev --label-regex orders --no-tests=error --verbose
}

musl()
{
    setup "$to_test"
    test/musl.sh --all build
}

# For other processors, with logs that go back and forth between them and this one.
processors()
{
    [ $# -gt 0 ] || set -- arm64 riscv64 s390x
    for name in "$@"; do
        packages=$(test/processor.sh --packages "$name")
        setup "$to_build $packages"
        build dev twinlog_command
        say "$name"
        test/processor.sh --all "$name" build
    done
}

# Under user mode Linux, or kernels of Debian in QEMU.
kernels()
{
    setup "$to_test $to_kernels"
    build dev
    test/kernels.sh build "$@"
}

# Faults that are put into the library; all of them, or those of these names.
mutants()
{
    setup "$to_test"
    case ${1:-} in --*)
        test/mutants/draw.py "$@"
        return
        ;;
    esac
    build dev
    test/mutants/run.sh build/dev "$@"
}

# What it finds goes to build/found, inputs that were new to build/corpus.
fuzz()
{
    failed=0
    setup "$to_test"
    build fuzz
    programs=build/fuzz/test/fuzz
    mkdir -p build/found
    for target in frames directory; do
        say "fuzz $target"
        mkdir -p "build/corpus/$target" "build/seeds/$target"
        [ "$target" != directory ] || "$programs/fuzz-seeds" build/seeds/directory test/golden/*.hex
        "$programs/fuzz-$target" -max_total_time="${1:-60}" -timeout=20 -artifact_prefix="build/found/$target-" \
            "build/corpus/$target" "test/fuzz/corpus/$target" "build/seeds/$target" && continue
        failed=1
        say "found; once more: $programs/fuzz-$target build/found/$target-..."
        say "or with gcc: build/dev/test/fuzz/fuzz-$target build/found/$target-..."
    done
    [ "$failed" = 0 ]
}

# Real file systems, on a disk that forgets what was not flushed; each kind with a seed of its own. Where this
# cannot be done the program says why.
power()
{
    setup "$to_test"
    build dev crash-power
    for fs in ext4 xfs btrfs; do
        for method in image fault slow shutdown; do
            [ "$fs-$method" != btrfs-shutdown ] || continue # there is no such call
            as_root build/dev/test/crash-power --fs "$fs" --method "$method" --seconds "${1:-60}" \
                --seed "$(date +%s)" --dir "$PWD/build" || [ $? = 77 ] || return 1
        done
    done
}

# Every bit of small logs, each processor its share of them.
damage()
{
    setup "$to_test"
    build dev damage-random
    seq 0 $((jobs - 1)) | xargs -P "$jobs" -I '{}' build/dev/test/damage-random -n 10 -b "$jobs" -f '{}'
}

"$@"
