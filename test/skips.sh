#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# skips.sh EXPECTED LOGS | --check: compares what a run of ./dev test has skipped, LOGS/skips-STAGE.txt, with the entries of
# the file EXPECTED; .ci/skips says the form. Fails if something was skipped that no entry of that stage expects. An entry
# that matches nothing is told, and is no failure: what is skipped depends on the machine. --check: does it notice?
set -u

# compare EXPECTED SKIPS...
compare()
{
    awk -F ' +[|] +' '
        function stage_of(file) { sub(/.*\/skips-/, "", file); sub(/\.txt$/, "", file); return file }
        BEGIN { for (i = 2; i < ARGC; i++) ran[stage_of(ARGV[i])] }

        FILENAME == ARGV[1] && /^ *(#|$)/ { next }
        FILENAME == ARGV[1] && (NF != 4 || !$1 || !$2 || !$3 || !$4) {
            print "not an entry: line " FNR " of " FILENAME ": " $0
            wrong++
            next
        }
        FILENAME == ARGV[1] {
            entries++
            stages[entries] = " " $1 " "
            pattern[entries] = "^(" $3 ")$"
            entry[entries] = $0
            next
        }

        {
            stage = stage_of(FILENAME)
            is_expected = 0
            for (i = 1; i <= entries; i++)
                if (index(stages[i], " " stage " ") && $0 ~ pattern[i]) { used[i]++; is_expected = 1 }
            if (!is_expected) { print "not expected: " stage ": " $0; wrong++ }
        }
        END {
            for (i = 1; i <= entries; i++) {
                has_run = 0
                for (name in ran)
                    if (index(stages[i], " " name " ")) has_run = 1
                if (has_run && !used[i]) print "expected, and nothing of the kind was skipped: " entry[i]
            }
            exit wrong > 0
        }' "$@"
}

# skips EXPECTED LOGS
skips()
{
    [ -r "$1" ] || { echo "there is no list of expected skips: $1"; return 1; }
    set -- "$1" "$2"/skips-*.txt
    [ -e "$2" ] || { echo "there is no list of what was skipped: $2"; return 1; }
    compare "$@"
}

# ---- the canaries ----------------------------------------------------------------------------------

fails() { echo "$*"; failures=$((failures + 1)); }

# says STATUS PATTERN "ENTRIES" "SKIPS": what comes of these entries, and these skips in the stage dev.
says()
{
    printf '%s\n' "$3" >"$place/expected"
    printf '%s\n' "$4" >"$place/logs/skips-dev.txt"
    said=$(skips "$place/expected" "$place/logs")
    status=$?
    if [ "$status" != "$1" ] || ! echo "$said" | grep -qx -e "$2"; then
        fails "with the entries: $3
and the skip: $4
it ends with $status, and not with $1; or it does not say '$2', but: $said"
    fi
}

check()
{
    place=$(mktemp -d) || exit 1
    trap 'rm -rf "$place"' EXIT
    mkdir "$place/logs"
    failures=0

    : >"$place/expected"
    skips "$place/expected" "$place/logs" >/dev/null && fails "a run without lists is taken for one without skips"

    entry='dev asan | no KVM | guard: no .* counter | a virtual machine counts nothing'
    says 0 "" "$entry" "guard: no cycle counter"
    says 1 "not expected: dev: guard: no clock" "$entry" "guard: no clock"
    says 1 "not expected: dev: unit guard: no cycle counter" "$entry" "unit guard: no cycle counter"
    says 1 "not expected: dev: guard: no cycle counter" "" "guard: no cycle counter"
    says 1 "not expected: dev: guard: no cycle counter" "asan | no KVM | guard: .* | another stage" "guard: no cycle counter"
    says 0 "expected, and nothing of the kind was skipped: dev | no disk .*" "$entry
dev | no disk | disk: .* | there is none" "guard: no cycle counter"
    says 1 "not an entry: line 1 of .*" "dev | no KVM | guard: .* | " "guard: no clock"
    says 1 "not an entry: line 1 of .*" "dev | guard: .* | no word about the machine" "guard: no clock"

    # Those of CI are entries, and expect no skip at all.
    printf 'nobody expects this\n' >"$place/logs/skips-dev.txt"
    said=$(skips "$(dirname "$0")/../.ci/skips" "$place/logs") && fails ".ci/skips expects everything"
    ! echo "$said" | grep 'not an entry' || fails ".ci/skips has these"
    [ "$failures" = 0 ] && echo "skips: each canary was refused"
}

case ${1:-} in
--check) check ;;
*) skips "$@" ;;
esac
