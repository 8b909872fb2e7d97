#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD [NAME...]: breaks the library in one place at a time, and asks the tests whether they notice.
#
# A mutant is a patch of a file or two of src/, with two lines in front: what it breaks, and the test that has to
# fail because of it. The patched files alone are compiled, with the commands of BUILD, and put into a copy of its
# library; the test program is linked with that. What is made stays in BUILD/mutants/NAME/, with the output of the
# test. The tests themselves must succeed first, without any mutant.
#
# run.sh --apply: only whether all patches apply.
set -u
here=$(realpath "$(dirname "$0")")
root=$(realpath "$here/../..")
limit=100 # seconds; a test that hangs has noticed

breaks() { sed -n '1s/^breaks: //p' "$here/$1.patch"; }
caught_by() { sed -n '2s/^caught by: //p' "$here/$1.patch"; }
patched() { sed -n 's,^+++ b/,,p' "$here/$1.patch"; }
all() { find "$here" -name '*.patch' -printf '%f\n' | sed 's/\.patch$//' | sort; }

# The test of ctest's name "unit-commit" is the program unit with the argument "commit"; what may follow is the name of
# one of its cases. For the other programs it is their arguments.
program_of() { case $1 in unit-*) echo unit ;; *) echo "${1%% *}" ;; esac; }
rest_of() { case $1 in *' '*) echo "${1#* }" ;; esac; }
arguments_of() { case $1 in unit-*) echo "${1%% *}" | sed 's/^unit-//' ;; *) rest_of "$1" ;; esac; }
case_of() { case $1 in unit-*) rest_of "$1" ;; esac; }

# apply NAME FOLDER: the patched files, in the folder.
apply()
{
    for file in $(patched "$1"); do
        mkdir -p "$2/$(dirname "$file")" && cp "$root/$file" "$2/$file" || return 1
    done
    patch --silent --strip=1 --fuzz=0 --no-backup-if-mismatch --directory="$2" <"$here/$1.patch"
}

# command_for TARGET: how the build makes that file.
command_for() { ninja -C "$build" -t commands "$1" | tail -n 1; }

# compile FILE FOLDER OBJECT MADE: FOLDER/FILE, as the build makes OBJECT of FILE.
compile()
{
    (cd "$build" && eval "$(command_for "$3" | sed "s,$root/$1,$2/$1,g; s,$3,$4,g") -w")
}

# own PROGRAM FILE: the object, if the program compiles that file of the library for itself.
own()
{
    object=test/CMakeFiles/$1.dir/__/$2.o
    if [ -f "$build/$object" ]; then echo "$object"; fi
}

# link PROGRAM FOLDER FILE...: FOLDER/PROGRAM, with its own objects of these files exchanged as well.
link()
{
    program=$1 folder=$2 command=$(command_for "test/$1" |
        sed "s, libtwinlog\.a, $2/libtwinlog.a,g; s,-o test/$1 ,-o $2/$1 ,")
    shift 2
    for file in "$@"; do
        object=$(own "$program" "$file")
        [ -n "$object" ] || continue
        compile "$file" "$folder" "$object" "$folder/own-$(basename "$file").o" || return 1
        command=$(echo "$command" | sed "s, $object, $folder/own-$(basename "$file").o,")
    done
    (cd "$build" && eval "$command")
}

make_mutant()
{
    apply "$1" "$2" && cp "$build/libtwinlog.a" "$2" || return 1
    for file in $(patched "$1"); do
        made=$2/$(basename "$file").o
        compile "$file" "$2" "CMakeFiles/twinlog_objects.dir/$file.o" "$made" &&
            ar r "$2/libtwinlog.a" "$made" || return 1
    done
    # shellcheck disable=SC2046 # one argument for each file
    link "$(program_of "$(caught_by "$1")")" "$2" $(patched "$1")
}

# run_test PROGRAM TEST FOLDER: the test, whose files go to the folder.
run_test()
{
    case=$(case_of "$2")
    # shellcheck disable=SC2046 # one argument for each word
    (cd "$3" && export TMPDIR="$3" &&
        timeout "$limit" ${case:+env "CK_RUN_CASE=$case"} "$1" $(arguments_of "$2") >output 2>&1)
}

seconds_since() { echo "$(($(date +%s%N) / 100000000 - $1))" | sed 's/^\(.\)$/0\1/; s/\(.\)$/.\1/'; }

# judge NAME: makes the mutant, runs its test, prints a line.
judge()
{
    folder=$build/mutants/$1
    began=$(($(date +%s%N) / 100000000))
    rm -rf "$folder"
    mkdir -p "$folder"
    if ! make_mutant "$1" "$folder" >"$folder/made" 2>&1; then
        cat "$folder/made"
        verdict="NOT MADE" status=1
    else
        run_test "$folder/$(program_of "$(caught_by "$1")")" "$(caught_by "$1")" "$folder"
        case $? in
        0) verdict=SURVIVED status=1 ;;
        77) verdict="not tried" status=0 ;;
        124) verdict=hangs status=0 ;;
        *) verdict=caught status=0 ;;
        esac
        rm -rf "$folder/libtwinlog.a" "$folder"/twinlog-test-*
    fi
    printf '%-27s %-9s %5s s  %-27s %s\n' "$1" "$verdict" "$(seconds_since "$began")" "$(caught_by "$1")" "$(breaks "$1")"
    return "$status"
}

# Every test that is going to be asked, by itself.
check_tests()
{
    folder=$build/mutants/none
    rm -rf "$folder"
    for name in "$@"; do
        caught_by "$name"
    done | sort -u | {
        status=0
        while read -r test; do
            mkdir -p "$folder"
            run_test "$build/test/$(program_of "$test")" "$test" "$folder" </dev/null
            case $? in 0 | 77) grep -q 'Checks: 0,' "$folder/output" || continue ;; esac
            cat "$folder/output"
            echo "$test fails without a mutant, or has no such case"
            status=1
        done
        return "$status"
    }
}

check_patches()
{
    scratch=$(mktemp -d) || exit 1
    trap 'rm -rf "$scratch"' EXIT
    failures=0
    for name in $(all); do
        [ -n "$(breaks "$name")" ] && [ -n "$(caught_by "$name")" ] && apply "$name" "$scratch/$name" && continue
        echo "$name.patch does not apply, or does not say what it breaks and what notices"
        failures=$((failures + 1))
    done
    echo "mutants: $(all | wc -l), $failures of them not as they should be"
    return "$((failures > 0))"
}

if [ "${1:-}" = --apply ]; then
    check_patches
    exit
fi
build=$(realpath "$1") || exit 1
shift
if [ "${1:-}" = --judge ]; then
    judge "$2"
    exit
fi
if [ ! -f "$build/build.ninja" ]; then
    echo "skipped: only a build by ninja says how it makes one file"
    exit 77
fi
# shellcheck disable=SC2046 # one argument for each name
[ $# -gt 0 ] || set -- $(all)
check_tests "$@" || exit 1
if ! printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$0" "$build" --judge; then
    echo "mutants: not every one of $# was noticed"
    exit 1
fi
echo "mutants: all $# were noticed, or could not be tried here"
