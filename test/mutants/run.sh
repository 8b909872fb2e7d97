#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD [NAME...]: breaks the library in one place at a time, and asks the tests whether they notice.
#
# A mutant is a patch of a file or two of src/, raft/ or tools/, with three lines in front: what it breaks, the test that has
# to fail because of it, and the functions that it changes, so that it is not moved to another one that looks alike. The patched files alone are compiled, with the commands of BUILD; the test program is linked
# with them in front of the library, or in the place of its own objects. The program of a test of the command is the
# command itself, and its modules. What is made stays in BUILD/mutants/NAME/, with the output of the test. The tests themselves must succeed first, without any mutant; which program has done so stands in
# BUILD/mutants/passed, so the same program is not asked again. At the end there is a report, which stays in
# BUILD/mutants/report; it ends with 1 if a mutant was not noticed, or could not be made.
#
# run.sh --apply: only whether all patches apply.
# run.sh --renew [NAME...]: writes patches anew of which the surrounding lines have changed, and says which no longer fit.
set -u
here=$(realpath "$(dirname "$0")")
root=$(realpath "$here/../..")
longest=300 # seconds, of a test without a mutant

breaks() { sed -n '1s/^breaks: //p' "$here/$1.patch"; }
caught_by() { sed -n '2s/^caught by: //p' "$here/$1.patch"; }
functions() { sed -n '3s/^in: //p' "$here/$1.patch"; }
patched() { sed -n 's,^+++ b/,,p' "$here/$1.patch"; }
all() { find "$here" -name '*.patch' -printf '%f\n' | sed 's/\.patch$//' | sort; }

# The test of ctest's name "unit-commit" is the program unit with the argument "commit"; what may follow is the name of
# one of its cases. That of the name "cli-archive" is a script which is given the command. For the other programs what
# follows is their arguments. The program is a path in the build.
program_of()
{
    case $1 in
    unit-*) echo test/unit ;;
    cli-* | stream-*) echo tools/twinlog ;;
    raft-*) echo "raft/${1%% *}" ;;
    *) echo "test/${1%% *}" ;;
    esac
}
is_of_command() { [ "$(program_of "$1")" = tools/twinlog ]; }

# words_of TEST PROGRAM: how ctest starts a script that is given the command, with the program in its place.
words_of()
{
    sed -n "s,^add_test(\[=\[$1\]=\] \(.*\))$,\1,p" "$build/test/CTestTestfile.cmake" |
        sed "s,\"$build/tools/twinlog\",\"$2\","
}
rest_of() { case $1 in *' '*) echo "${1#* }" ;; esac; }
arguments_of() { case $1 in unit-*) echo "${1%% *}" | sed 's/^unit-//' ;; *) rest_of "$1" ;; esac; }
case_of() { case $1 in unit-*) rest_of "$1" ;; esac; }

# apply NAME FOLDER: the patched files, in the folder.
apply()
{
    for file in $(patched "$1"); do
        mkdir -p "$2/$(dirname "$file")" && cp "$root/$file" "$2/$file" || return 1
    done
    patch --silent --force --strip=1 --fuzz=0 --no-backup-if-mismatch --directory="$2" <"$here/$1.patch"
}

# command_for TARGET: how the build makes that file.
command_for() { ninja -C "$build" -t commands "$1" | tail -n 1; }

# compile FILE FOLDER OBJECT MADE: FOLDER/FILE, as the build makes OBJECT of FILE.
compile()
{
    (cd "$build" && eval "$(command_for "$3" | sed "s,$root/$1,$2/$1,g; s,$3,$4,g") -iquote $root/$(dirname "$1") -w")
}

# front FOLDER FILE: the mutant's object of the file.
front() { echo "$1/front-$(echo "$2" | tr / -).o"; }

# own PROGRAM FILE: the object, if the file is compiled for the program alone, or is no file of the library.
own()
{
    command_for "$1" | tr ' ' '\n' |
        grep -x -e "test/CMakeFiles/[a-z_-]*\.dir/__/$2\.o" -e "${2%%/*}/CMakeFiles/[a-z_-]*\.dir/${2#*/}\.o"
}

# link PROGRAM FOLDER FILE...: FOLDER/PROGRAM, with the mutant's object of each file: in the sink's library with points, in
# the place of the program's own one, or else in front of the library (in it two files of one name would be taken for one).
link()
{
    program=$1 folder=$2 front=
    command=$(command_for "$1" |
        sed "s, test/libsink_points\.a, $2/libsink_points.a,g; s,-o $1 ,-o $2/${1##*/} ,")
    shift 2
    for file in "$@"; do
        object=$(own "$program" "$file")
        if [ -f "$folder/points/$(basename "$file").o" ] && echo "$command" | grep -q libsink_points; then
            continue
        elif [ -n "$object" ]; then
            compile "$file" "$folder" "$object" "$folder/own-$(basename "$file").o" || return 1
            command=$(echo "$command" | sed "s, $object, $folder/own-$(basename "$file").o,")
        elif [ "${file%%/*}" = src ]; then
            front="$front $(front "$folder" "$file")"
        fi
    done
    command=$(echo "$command" | sed "s, libtwinlog\.a,$front libtwinlog.a,")
    (cd "$build" && eval "$command")
}

make_mutant()
{
    apply "$1" "$2" && mkdir -p "$2/points" && cp "$build/test/libsink_points.a" "$2" || return 1
    for file in $(patched "$1" | grep '^src/'); do
        made=$(front "$2" "$file")
        compile "$file" "$2" "CMakeFiles/twinlog_objects.dir/$file.o" "$made" || return 1
        points=test/CMakeFiles/sink_points.dir/__/$file.o made=$2/points/$(basename "$file").o
        [ -f "$build/$points" ] || continue # the sink with its points is another library
        compile "$file" "$2" "$points" "$made" && ar r "$2/libsink_points.a" "$made" || return 1
    done
    for program in $(programs_of "$(caught_by "$1")"); do
        # shellcheck disable=SC2046 # one argument for each file
        link "$program" "$2" $(patched "$1") || return 1
    done
}

# programs_of TEST: its program, and the command's modules, which it looks for beside itself.
programs_of()
{
    program_of "$1"
    ! is_of_command "$1" || (cd "$build" && ls tools/twinlog-*.so 2>/dev/null)
}

# run_test PROGRAM TEST FOLDER SECONDS: the test, with its files in the folder.
run_test()
{
    if is_of_command "$2"; then
        words=$(words_of "$2" "$1")
        [ -n "$words" ] || return 77
        (cd "$3" && eval "TMPDIR=$3 timeout $4 $words" >output 2>&1)
        return
    fi
    case=$(case_of "$2")
    # shellcheck disable=SC2046 # one argument for each word
    (cd "$3" && export TMPDIR="$3" CK_DEFAULT_TIMEOUT=30 &&
        timeout "$4" ${case:+env "CK_RUN_CASE=$case"} "$1" $(arguments_of "$2") >output 2>&1)
}

tenths() { echo "$(($(date +%s%N) / 100000000))"; }
seconds_since() { echo "$(($(tenths) - $1))" | sed 's/^\(.\)$/0\1/; s/\(.\)$/.\1/'; }

# What a test is to a build: its program, byte by byte, its script, and what it is asked.
identity()
{
    # shellcheck disable=SC2046 # one argument for each file
    set -- "$1" "$build/$(program_of "$1")" $(! is_of_command "$1" || words_of "$1" - | cut -d '"' -f 2)
    test=$1
    shift
    echo "$(cat "$@" | cksum) $test"
}

# passed TEST: the seconds that this very program took without a mutant; fails if it has not been asked.
passed()
{
    awk -F '\t' -v wanted="$(identity "$1")" '
        $1 == wanted { print $2; found = 1; exit }
        END { exit !found }' "$build/mutants/passed"
}

# patience TEST: seconds. A test that hangs has noticed.
patience() { echo "$((20 + 5 * $(passed "$1")))"; }

# verdict STATUS: of a test that had a mutant. A program that could not be started has noticed nothing.
verdict()
{
    case $1 in
    0) echo SURVIVED ;;
    77) echo 'not tried' ;;
    124) echo hangs ;;
    125 | 126 | 127) echo 'NOT RUN' ;;
    *) echo caught ;;
    esac
}

# has_program TEST: there may be no libraft.
has_program() { [ -f "$build/$(program_of "$1")" ]; }

# judge NAME: makes the mutant, runs its test, prints a line.
judge()
{
    folder=$build/mutants/$1 test=$(caught_by "$1") tried=-
    rm -rf "$folder"
    mkdir -p "$folder"
    began=$(tenths)
    if ! has_program "$test"; then
        made=- verdict='not tried'
    elif make_mutant "$1" "$folder" >"$folder/made" 2>&1; then
        made=$(seconds_since "$began") began=$(tenths)
        run_test "$folder/$(basename "$(program_of "$test")")" "$test" "$folder" "$(patience "$test")"
        verdict=$(verdict $?)
        tried=$(seconds_since "$began")
    else
        made=$(seconds_since "$began") verdict='NOT MADE'
        cat "$folder/made"
    fi
    rm -rf "$folder"/twinlog-test-* "$folder"/twinlog-raft.*
    printf '%-30s %-9s %6s %6s  %-39s %s\n' "$1" "$verdict" "$made" "$tried" "$test" "$(breaks "$1")" |
        tee "$folder/verdict"
}

# check_test TEST: by itself, unless this very program has succeeded before.
check_test()
{
    has_program "$1" || return 0
    ! passed "$1" >/dev/null || return 0
    folder=$build/mutants/none/$(echo "$1" | tr -c 'a-z0-9\n' _) began=$(date +%s)
    rm -rf "$folder"
    mkdir -p "$folder"
    run_test "$build/$(program_of "$1")" "$1" "$folder" "$longest" </dev/null
    case $? in
    0 | 77)
        if ! grep -q 'Checks: 0,' "$folder/output"; then
            printf '%s\t%s\n' "$(identity "$1")" "$(($(date +%s) - began + 1))" >>"$build/mutants/passed"
            rm -rf "$folder"
            return 0
        fi
        ;;
    esac
    cat "$folder/output"
    echo "$1 fails without a mutant, or has no such case"
    return 1
}

# at_once OPTION: calls itself with each line of the input, as many at a time as there are processors.
at_once() { xargs -d '\n' -P "$(nproc)" -n 1 "$here/run.sh" "$build" "$1"; }

check_tests()
{
    mkdir -p "$build/mutants"
    touch "$build/mutants/passed"
    for name in "$@"; do
        caught_by "$name"
    done | sort -u | at_once --check
}

# count VERDICT FILE
count() { sed 's/^[^ ]* *//' "$2" | cut -c 1-9 | sed 's/ *$//' | grep -cx "$1"; }

# report BEGAN NAME...: what became of them, in one table; fails if one was not noticed.
report()
{
    began=$1
    shift
    table=$build/mutants/report
    printf '%-30s %-9s %6s %6s  %-39s %s\n' mutant verdict made tried 'caught by' breaks >"$table"
    for name in "$@"; do
        cat "$build/mutants/$name/verdict"
    done >>"$table"
    echo
    cat "$table"
    caught=$(($(count caught "$table") + $(count hangs "$table"))) untried=$(count 'not tried' "$table")
    printf '\nmutants: %s, %s noticed, %s could not be tried here, %s not noticed; %s s (%s)\n' "$#" "$caught" "$untried" \
        "$(($# - caught - untried))" "$(seconds_since "$began")" "$table"
    [ "$((caught + untried))" = "$#" ]
}

# is_told PATCH: its first lines say what it breaks, what notices, and where. Read by the shell: a process for each takes longer.
is_told()
{
    { read -r breaks && read -r caught && read -r functions; } <"$1" || return 1
    case $breaks in 'breaks: '?*) ;; *) return 1 ;; esac
    case $caught in 'caught by: '?*) ;; *) return 1 ;; esac
    case $functions in 'in: '?*) ;; *) return 1 ;; esac
}

# places NAME FUZZ: the functions of the hunks, where patch would put them now; nothing if it does not apply. A change outside
# of any function is in the one before it. (A hunk is told by its line behind the hunks before it.)
places()
{
    tried=$(patch --dry-run --verbose --force --strip=1 --fuzz="$2" --directory="$root" <"$here/$1.patch") || return 1
    echo "$tried" | (cd "$root" && awk '
        FILENAME == "-" && /^checking file/ { file = $3 }
        FILENAME == "-" && /^Hunk #/ { at[++hunks] = $5 + 0; of[hunks] = file }
        FILENAME == "-" { next }
        /^--- / { grown = 0; next }
        /^@@ / { at[++hunk] -= grown; is_before = 1; next }
        /^ / && is_before { at[hunk]++ }
        /^[-+]/ { is_before = 0 }
        /^\+[^+]/ || /^\+$/ { grown++ }
        /^-/ { grown-- }
        END {
            for (i = 1; i <= hunks; i++) {
                name = "-"
                for (n = 1; n < at[i] && (getline line <of[i]) > 0; n++)
                    if (line ~ /^[A-Za-z_].*\(/)
                        name = line
                close(of[i])
                sub(/\(.*/, "", name)
                sub(/.*[ *]/, "", name)
                if (name != before)
                    names = names (i > 1 ? " " : "") name
                before = name
            }
            print names
        }' - "$here/$1.patch")
}

# is_in_place NAME FUZZ: it applies, and to the functions that it names.
is_in_place() { [ "$(places "$1" "$2")" = "$(functions "$1")" ]; }

# has_case TEST: a unit suite has the case of that name; of other tests there is nothing to look for.
has_case()
{
    case=$(case_of "$1")
    [ -z "$case" ] || grep -qF "CASE(\"$case\"" "$root/test/unit/test_$(arguments_of "$1").c"
}

check_patches()
{
    failures=0
    for name in $(all); do
        if ! is_told "$here/$name.patch" || ! has_case "$(caught_by "$name")"; then
            echo "$name.patch does not say what it breaks, which test, of which case, notices, or in which functions it is"
        elif ! is_in_place "$name" 0; then
            echo "$name.patch does not apply, or not to the functions that it names: $(functions "$name")"
        else
            continue
        fi
        failures=$((failures + 1))
    done
    echo "mutants: $(all | wc -l), $failures of them not as they should be"
    return "$((failures > 0))"
}

# difference NAME OLD NEW: what the patch has to say, between the two folders.
difference()
{
    sed -n '1,4p' "$here/$1.patch"
    for file in $(patched "$1"); do
        diff -u --label "a/$file" --label "b/$file" "$2/$file" "$3/$file"
    done
}

# renew NAME: if its lines are still there, though other lines may stand around them.
renew()
{
    ! is_in_place "$1" 0 || return 0
    is_in_place "$1" 3 || return 1
    for side in old new; do
        for file in $(patched "$1"); do
            mkdir -p "$scratch/$1/$side/$(dirname "$file")" && cp "$root/$file" "$scratch/$1/$side/$file" || return 1
        done
    done
    patch --silent --force --strip=1 --fuzz=3 --no-backup-if-mismatch --directory="$scratch/$1/new" <"$here/$1.patch" \
        >"$scratch/told" 2>&1 || return 1
    difference "$1" "$scratch/$1/old" "$scratch/$1/new" >"$scratch/$1.patch"
    cp "$scratch/$1.patch" "$here/$1.patch" && echo "$1.patch: renewed"
}

renew_patches()
{
    scratch=$(mktemp -d) || exit 1
    trap 'rm -rf "$scratch"' EXIT
    failures=0
    for name in "$@"; do
        renew "$name" && continue
        echo "$name.patch: the lines that it changes are not in $(functions "$name") any more; see them, and write it again"
        failures=$((failures + 1))
    done
    return "$((failures > 0))"
}

if [ "${1:-}" = --apply ]; then
    check_patches
    exit
fi
if [ "${1:-}" = --renew ]; then
    shift
    # shellcheck disable=SC2046 # one argument for each name
    [ $# -gt 0 ] || set -- $(all)
    renew_patches "$@"
    exit
fi
build=$(realpath "$1") || exit 1
shift
case ${1:-} in
--judge) judge "$2" && exit ;;
--check) check_test "$2" && exit || exit 1 ;;
esac
if [ ! -f "$build/build.ninja" ]; then
    echo "skipped: only a build by ninja says how it makes one file"
    exit 77
fi
# shellcheck disable=SC2046 # one argument for each name
[ $# -gt 0 ] || set -- $(all)
for name in "$@"; do
    [ -f "$here/$name.patch" ] || { echo "there is no mutant $name" && exit 1; }
done
began=$(tenths)
check_tests "$@" || exit 1
echo "the tests succeed without a mutant: $(seconds_since "$began") s"
for name in "$@"; do
    rm -f "$build/mutants/$name/verdict"
done
printf '%s\n' "$@" | at_once --judge
report "$began" "$@"
