#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tidy.sh BUILD: small promises about the tree that no compiler keeps. BUILD is a build directory with
# the tests in it.
set -u
build=$(realpath "$1") || exit 1
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=test/complaints.sh
. test/complaints.sh
# shellcheck source=test/strict.sh
. test/strict.sh
make_scratch "$build/tidy.XXXXXX"

tree_files >"$scratch/files"

# shellcheck disable=SC2094 # it is only read
licence_lines()
{
    grep -E '\.([ch]|sh|cmake)$|CMakeLists\.txt$|^dev$|^\.ci/run$' "$scratch/files" >"$scratch/licensed"
    xargs -d '\n' awk 'FNR <= 3 && /SPDX-License-Identifier[:] Apache-2.0/ { print FILENAME }' <"$scratch/licensed" |
        grep -vxF -f - "$scratch/licensed" | sed 's/$/: no SPDX line/'
    # REUSE looks for it in LICENSES, and a wheel or a crate has only what lies in its own folder.
    for copy in LICENSES/Apache-2.0.txt bindings/python/LICENSE bindings/rust/twinlog/LICENSE bindings/rust/twinlog-sys/LICENSE; do
        cmp -s LICENSE $copy || echo "LICENSE and $copy differ"
    done
}

# Left-overs, paths of somebody's machine, marks of a merge, and notes to oneself. The brackets keep this file out of its own net.
strange_words()
{
    grep -E '\.(orig|rej)$|^cli\.|\.twl$' "$scratch/files" | grep -v '^test/' | sed 's/$/: was left by a tool or a test/'
    grep -vE '^LICENSE$|^LICENSES/|\.(log|seg|bin|png|svg)$|golden/' "$scratch/files" |
        xargs -d '\n' grep -nIHE '/wor[k]/|/hom[e]/[a-z]|/roo[t]/|^(<{7}|>{7}) |\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b'
}

# A C file that no target compiles is a test that nobody runs. Some peers of the measurements, the machine that loses
# its power, what check calls of another C library, an example, what speaks to servers, raft/ and the module of Python are
# compiled only where their libraries are installed; the measurements, where they are switched on.
uncompiled()
{
    unwanted='^$'
    grep -q '^TWINLOG_BENCH:BOOL=ON$' "$build/CMakeCache.txt" || unwanted='^bench/'
    sed -n 's/^ *"file": "\(.*\)".*/\1/p' "$build/compile_commands.json" |
        xargs -d '\n' realpath --relative-to=. | sort -u >"$scratch/compiled"
    grep '\.c$' "$scratch/files" |
        grep -vE '^(bench/(peer_(bdb|leveldb|rocksdb|sqlite|wiredtiger|lmdb)|store_bare)|(test/power|test/stuck|powercut)/.*|test/musl_check|test/stream/.*|tools/stream/(nats|kafka)|docs/examples/(libuv|raft_server)|raft/.*|bindings/python/twinlog/_twinlog)\.c$' |
        grep -v "$unwanted" | grep -vFx -f "$scratch/compiled" | sed 's/$/: no target compiles it/'
}

# Every test/unit/test_<name>.c is in the list of suites.h, every other test program and script is
# named in a CMakeLists.txt.
unregistered()
{
    sed -n 's,.*DO(\([a-z_]*\)).*,\1,p' test/unit/suites.h >"$scratch/suites"
    sed -n 's,^test/unit/test_\(.*\)\.c$,\1,p' "$scratch/files" | grep -vxF -f "$scratch/suites" |
        sed 's,.*,test/unit/test_&.c: not in the list of test/unit/suites.h,'
    grep -oE '[A-Za-z0-9_-]+\.sh' test/CMakeLists.txt >"$scratch/scripts"
    grep -E '^test/.*\.sh$' "$scratch/files" |
        awk -F / 'NR == FNR { is_run[$1]; next } !($NF in is_run) { print $0 ": test/CMakeLists.txt does not run it" }' \
            "$scratch/scripts" -
}

# The public headers stand alone, twice, in C and C++, and so does each of their initialisers.
header_program()
{
    echo '#include <twinlog_sink.h>'
    echo '#include <twinlog_admin.h>'
    echo '#include <twinlog.h>'
    echo '#include <twinlog_sink.h>'
    sed -n 's/^#define TWINLOG_\([A-Z_]*\)_INIT.*/\1/p' include/*.h | while read -r name; do
        echo "struct twinlog_$(echo "$name" | tr '[:upper:]' '[:lower:]') a_$name = TWINLOG_${name}_INIT;"
    done
}

header_alone()
{
    header_program >"$scratch/header.c"
    cp "$scratch/header.c" "$scratch/header.cc"
    for compiler in 'gcc -std=c11' 'gcc -std=c17' 'clang -std=c11' 'clang -std=c17' 'g++ -std=c++17' 'clang++ -std=c++17'; do
        command -v "${compiler%% *}" >/dev/null || { echo "SKIP tidy: the header with ${compiler%% *}, which is not here" >&2; continue; }
        case $compiler in *++\ *) source=header.cc ;; *) source=header.c ;; esac
        # shellcheck disable=SC2046 # an option, or none
        if $compiler -fsyntax-only -pedantic -Wall -Wextra $(werror "${compiler%% *}") -Iinclude "$scratch/$source" >"$scratch/errors" 2>&1; then
            cat "$scratch/errors" >&2
        else
            echo "not clean with $compiler:" && head -n 4 "$scratch/errors"
        fi
    done
}

# The shared library exports what the public headers declare.
exported()
{
    nm -D --defined-only --format=posix "$build/libtwinlog.so" | awk '$2 != "A" { sub(/@.*/, "", $1); print $1 }' |
        sort >"$scratch/exported"
    gcc -E -P -Iinclude -include twinlog_admin.h include/twinlog_sink.h | tr ';' '\n' | tr '\n' ' ' |
        grep -oE '\btwinlog_[a-z_]+\(' | tr -d '(' | sort -u >"$scratch/declared"
    comm -13 "$scratch/declared" "$scratch/exported" | sed 's/$/: exported, but in no public header/'
    comm -23 "$scratch/declared" "$scratch/exported" | sed 's/$/: in a public header, but not exported/'
}

# A function has no more than 80 lines between its braces; tables have more.
long_functions()
{
    grep -E '\.[ch]$' "$scratch/files" | xargs -d '\n' awk '
        FNR == 1 { open = 0 }
        /^{/ { open = FNR }
        /^}/ { if (open && FNR - open - 1 > 80) print FILENAME ":" open ": " FNR - open - 1 " lines"; open = 0 }'
}

# Words that the glossary of docs/design.md has replaced, and persons where a thread or a process is meant.
dropped_words()
{
    grep -E '^(src|include)/.*\.[ch]$' "$scratch/files" |
        xargs -d '\n' grep -nwiE 'sheets?|horizon|roused|pulse|pruned|peak_ns|seat'
    grep -E '^((src|include|docs|man|test|tools|raft|powercut|packaging|probes)/|[A-Z]*\.md$)' "$scratch/files" |
        grep -vE 'golden/|/corpus/' | xargs -d '\n' grep -nIwiE 'wh[o](se|m|ever)?|h[e]|h[i][sm]' |
        grep -v -e '--kill-wh[o]m='
}

# The words in place for a branch that no test can reach have one form, and a reason of two words at least: ./dev coverage
# goes by them (test/coverage.md).
excuses_without_reason()
{
    grep -E '\.[ch]$' "$scratch/files" | xargs -d '\n' grep -nHiE '/[*/] *(no|un)[- ]?tests?(ed)?\b' |
        grep -vE '/\* no test: [^ */]+ +[^ */]+'
}

# A signal that comes meanwhile does not end a test: wait_child() of logdir.h waits on.
waits_that_a_signal_ends()
{
    grep -E '^test/unit/.*\.c$' "$scratch/files" | grep -v '/logdir\.c$' |
        xargs -d '\n' grep -nHE '\bwaitpid\(' | grep -v WNOHANG
}

# ---- the words of ./dev: a merge has lost one of them, of which a script and a page went on to speak ----

# shellcheck disable=SC2016 # sed's
known_words() { sed -n '/^case \$word in/,/^esac/s/^\([a-z0-9 |-]*\)) .*/\1/p' "$1" | tr -d ' ' | tr '|' '\n' | grep '^[a-z]' | sort -u; }
explained_words() { sed -n '/^usage:/,/^END/s/^  \([a-z0-9][a-z0-9]*\) .*/\1/p' "$1" | sort -u; }
words_for_search() { sed -n 's,^\(.*\)) test/search\.sh .*,\1,p' "$1" | tr -d ' ' | tr '|' '\n' | sort -u; }

# words_apart DEV: it explains the words that it knows, the documents name no others, and what it leaves to test/search.sh
# is a function there.
words_apart()
{
    known_words "$1" | grep -vx help >"$scratch/known"
    explained_words "$1" >"$scratch/explained"
    comm -23 "$scratch/known" "$scratch/explained" | sed 's,.*,./dev &: it is known\, and help does not explain it,'
    comm -13 "$scratch/known" "$scratch/explained" | sed 's,.*,./dev &: help explains it\, and it is not known,'
    grep -E '\.md$|^man/|^\.github/' "$scratch/files" | xargs -d '\n' grep -onIE '\./dev [a-z0-9]+' |
        awk -F '[.]/dev ' 'NR == FNR { known[$1]; next } $2 != "help" && !($2 in known) { print $0 ": there is no such word" }' \
            "$scratch/known" -
    words_for_search "$1" >"$scratch/for-search"
    sed -n 's/^\([a-z0-9]*\)()$/\1/p' test/search.sh | sort | comm -3 "$scratch/for-search" - | tr -d '\t' |
        sed 's,.*,./dev &: it goes to test/search.sh\, or is a function there\, and not both,'
}

# Each of the three notices that a word is gone.
words_of_dev()
{
    words_apart dev
    sed '/^case/,/^esac/s/ | kernels//' dev >"$scratch/dev"
    for complaint in 'help explains it' 'there is no such word' 'not both'; do
        words_apart "$scratch/dev" | grep 'kernels:' | grep -q "$complaint" || echo "a word that is lost is not noticed: $complaint"
    done
}

# Tables of bench/promise.c are wider.
long_lines()
{
    grep -E '\.[ch]$' "$scratch/files" | grep -v '^bench/promise\.c$' |
        LC_ALL=C.UTF-8 xargs -d '\n' grep -nHE '^.{121,}'
}

report "files without a licence" "$(licence_lines)"
report "words that do not belong here" "$(strange_words)"
report "sources that are not compiled" "$(uncompiled)"
report "tests that are not run" "$(unregistered)"
report "the public headers by themselves" "$(header_alone)"
report "symbols" "$(exported)"
report "functions that are too long" "$(long_functions)"
report "lines of more than 120 columns" "$(long_lines)"
report "words on branches without a test that have another form, or no reason" "$(excuses_without_reason)"
report "unit tests that wait for a child by themselves" "$(waits_that_a_signal_ends)"
report "words of ./dev" "$(words_of_dev)"
report "words that are no longer used" "$(dropped_words)"
[ "$failures" = 0 ] && echo "tidy: nothing to complain about"
exit "$((failures > 0))"
