#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh test [--ci|--all] | coverage [--all]: builds, runs the tests of the presets, and says what failed and what was skipped.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=test/dev.sh
. test/dev.sh

chosen= # options of ctest beside those of the preset
passed=0
failed=0
skipped=0

# count_tests STATUS FILE: results of that status in ctest's JUnit file.
count_tests() { grep -c "<testcase .*status=\"$1\"" "$2" || true; }

# skips FILE: what tests in ctest's JUnit file say they skipped, one line each; a test that was skipped
# as a whole says so under its own name.
skips()
{
    awk 'function unexplained() { if (whole) print whole "says not why"; whole = "" }
         /<testcase / { unexplained(); split($0, part, "\""); whole = /status="notrun"/ ? part[2] " " : "" }
         { sub(/.*<system-out>/, ""); sub(/<\/system-out>.*/, "") }
         /^(SKIP |skipped: |twinlog-powercut: cannot run here: )/ { sub(/^(SKIP |skipped: )/, ""); print whole $0; whole = "" }
         END { unexplained() }' "$1"
}

# run_tests PRESET [PREFIX...]: the tests of that preset, each under the command PREFIX.
run_tests()
{
    preset=$1
    shift
    say "test $preset"
    results=$PWD/$logs/test-$preset.xml
    rm -f "$results"
    status=0
    parallel=
    [ "$jobs" -le 3 ] || parallel=$jobs # more than the presets say
    # shellcheck disable=SC2086 # an option and its argument
    "$@" ctest --preset "$preset" $chosen ${parallel:+-j "$parallel"} --test-output-size-passed 1000000 \
        --output-junit "$results" || status=1
    if [ ! -f "$results" ]; then
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + $(count_tests run "$results")))
    skips "$results" >"$logs/skips-$preset.txt"
    skipped=$((skipped + $(wc -l <"$logs/skips-$preset.txt")))
    failures=$(count_tests fail "$results")
    failed=$((failed + (failures > status ? failures : status)))
}

# slowest: the tests of all presets that took longest.
slowest()
{
    for results in "$logs"/test-*.xml; do
        preset=${results##*/test-}
        sed -n "s/.*<testcase name=\"\([^\"]*\)\".* time=\"\([0-9.]*\)\".*/\2 ${preset%.xml} \1/p" "$results"
    done | sort -rn | head -n 10 | awk '{ printf "%6.1f s  %-8s %s\n", $1, $2, $3 }'
}

# skip NAME REASON: something of a whole preset that cannot be tried here.
skip()
{
    echo "$1: $2" >"$logs/skips-$1.txt"
    skipped=$((skipped + 1))
}

# try PRESET [PREFIX...]: builds and tests it; a build that fails counts as one failure.
try()
{
    if build "$1"; then
        run_tests "$@"
    else
        failed=$((failed + 1))
    fi
}

# Some kernels place programs where gcc's thread sanitizer does not expect them. Prints the command
# that helps, if one is needed; fails if none does.
tsan_prefix()
{
    echo 'int main(void) { return 0; }' >build/tsan-works.c
    gcc -fsanitize=thread -o build/tsan-works build/tsan-works.c || return 1
    for prefix in "" "setarch -R"; do
        # shellcheck disable=SC2086 # a command and its option
        if (for _ in 1 2 3 4 5 6 7 8; do $prefix build/tsan-works 2>/dev/null || exit 1; done); then
            echo "$prefix"
            return 0
        fi
    done
    return 1
}

try_tsan()
{
    if ! prefix=$(tsan_prefix); then
        skip tsan "the thread sanitizer does not run on this kernel"
        return
    fi
    # shellcheck disable=SC2086
    try tsan $prefix env TMPDIR="$memory"
}

has_fuzzer()
{
    echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return data && size ? 0 : 0; }' \
        >build/fuzzer-works.c
    clang -fsanitize=fuzzer,address,undefined -o build/fuzzer-works build/fuzzer-works.c 2>/dev/null
}

# turn N: which of N turns this commit has, from 0 on; fails where there is no git.
turn()
{
    [ -n "$commits" ] && echo $((commits % $1))
}

# half_of FIRST: ctest's options for every second test, at odd commits from the test FIRST on, 1 or 2, at even ones from the
# other. So each test runs with one of the two sanitizers at each commit, and with both in two commits: together they take
# longer than all the rest.
half_of()
{
    [ "$all" != --all ] || return 0
    case $(turn 2) in
    0) echo "-I $((3 - $1)),,2" ;;
    1) echo "-I $1,,2" ;;
    esac
}

# What the address sanitizer may leave out: the search for leaks at the end of each process, which takes a fifth to a half of
# the time of suites with many of them: two of four commits have it, one for each half of the tests. And memory that was
# freed is used again when 16 MB more were freed, not 256: to go to new memory all the time took half of the time of suites
# on the simulated disk.
sanitizer_options()
{
    case $all$(turn 4) in
    --all*) echo detect_leaks=1 ;;
    --ci[01]) echo detect_leaks=1:quarantine_size_mb=16 ;;
    *) echo detect_leaks=0:quarantine_size_mb=16 ;;
    esac
}

try_system()
{
    if test/systems.sh --few trixie >"$logs/systems.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
    cat "$logs/systems.log"
    sed -n 's/^SKIP //p' "$logs/systems.log" >"$logs/skips-systems.txt"
    skipped=$((skipped + $(wc -l <"$logs/skips-systems.txt")))
}

# Two of the surroundings of test/world.sh, by turns; it says which.
try_world()
{
    if test/world.sh --turn >"$logs/world.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
    grep -v '^== build' "$logs/world.log" || true
    sed -n 's/^\([a-z0-9-]*\) .* skipped: \(.*\)/world \1: \2/p' "$logs/world.log" | sort -u >"$logs/skips-world.txt"
    skipped=$((skipped + $(wc -l <"$logs/skips-world.txt")))
}

run_long_tests()
{
    say "test dev, what takes long"
    logged test-long ctest --test-dir build/dev -L '^long$' --no-tests=error -j "$jobs" || failed=$((failed + 1))
}

try_other_builds()
{
    try minimal
    if command -v clang >/dev/null; then
        try clang
    else
        skip clang "clang is not here"
    fi
    # The real disk had its turn; what the sanitizers look for does not depend on it.
    memory=${TMPDIR:-/tmp}
    [ ! -w /dev/shm ] || memory=/dev/shm
    chosen=$(half_of 1)
    try asan env TMPDIR="$memory" ASAN_OPTIONS="$(sanitizer_options)"
    chosen=$(half_of 2)
    try_tsan
    chosen=
    if has_fuzzer; then
        try fuzz
    else
        skip fuzz "clang with libFuzzer is not here"
    fi
}

# What continuous integration skips is known, so another skip is a failure: a test that no longer runs looks like one that
# passes.
check_skips()
{
    say "what was skipped, beside .ci/skips"
    if test/skips.sh .ci/skips "$logs"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
}

# run_all_tests [--ci|--all]
run_all_tests()
{
    case ${1:-} in
    '' | --ci | --all) ;;
    *)
        echo "./dev test: there is no $1, only --ci and --all"
        return 2
        ;;
    esac
    all=${1:-}
    setup "$to_test"
    mkdir -p "$logs"
    rm -f "$logs"/skips-*.txt "$logs"/test-*.xml
    commits=$(git rev-list --count HEAD 2>/dev/null) || commits=
    # long tests take one part of several, see test/turn.sh and test/unit/suites.h
    [ "$all" = --all ] || export TWINLOG_TURN="${commits:-0}"
    if [ $# = 0 ]; then
        chosen='-L ^(quick|tree|oracle|bindings)$'
        export TWINLOG_FEW=1
        try dev
        say "left out: slow tests, lint, clang, sanitizers, fuzzers' inputs; ./dev test --ci runs them"
    else
        try dev
        [ "$1" != --all ] || run_long_tests
        # another Debian, in the place of two surroundings
        if [ "$(turn 3)" = 0 ]; then try_system; else try_world; fi
        try_other_builds
    fi
    say "the slowest tests"
    slowest
    if [ "$skipped" -gt 0 ]; then
        say "not tried on this machine"
        sort -u "$logs"/skips-*.txt
    fi
    [ "${1:-}" != --ci ] || check_skips
    if [ "$failed" -gt 0 ]; then
        say "what failed, with its last words"
        test/failed.sh "$logs" || true
    fi
    summary="$passed passed, $failed failed"
    [ "$skipped" = 0 ] || summary="$summary, $skipped skipped"
    printf '\n%s\n' "$summary"
    [ "$failed" = 0 ]
}

# measure FILE: what was reached of those folders, as gcovr's JSON. An assertion fails in no test that passes, and a
# named place exists only for tests: neither counts as a branch.
measure()
{
    # shellcheck disable=SC2086 # one option for each folder
    gcovr --root . $filters --exclude-unreachable-branches --exclude-throw-branches \
        --exclude-branches-by-pattern '.*\b(ASSERT|POINT)\(' --json "$1" build/coverage
}

# coverage [--all]: test/coverage.md explains what it shows.
coverage()
{
    preset=coverage
    filters="--filter src/"
    case ${1:-} in
    '') ;;
    --all)
        preset=coverage-all
        filters="--filter src/ --filter raft/ --filter tools/"
        ;;
    *)
        echo "./dev coverage: there is no $1, only --all"
        return 2
        ;;
    esac
    setup "$to_cover"
    build coverage
    find build/coverage -name '*.gcda' -delete
    run_tests "$preset"
    measure "$logs/$preset.json"
    test/coverage.py "$logs/$preset.json"
    [ "$failed" = 0 ]
}

word=$1
shift
case $word in
test) run_all_tests "$@" ;;
coverage) coverage "$@" ;;
esac
