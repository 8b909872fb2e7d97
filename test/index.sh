#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# index.sh: the suites and what each is about; for each module of src/ the suites that include its headers and the
# mutants that break it; for each invariant of docs/design.md the places that cite it. Made from the tree at each call.
# Fails where a suite has no sentence, and where no code or no test cites an invariant.
set -u
cd "$(dirname "$0")/.." || exit 1

# listed WORD: the names that it reads, in lines that begin with the word.
listed()
{
    names=$(sort -u | tr '\n' ' ')
    printf '%s' "${names:-NONE}" | fold -s -w 100 | sed "s/^/    $1: /; s/ *\$//"
    echo
}

suites()
{
    sed -n 's,^ *DO(\([a-z_]*\)).*,\1,p' test/unit/suites.h | while read -r suite; do
        sentence=$(sed -n "s,^ *DO($suite) /\* \(.*\) \*/.*,\1,p" test/unit/suites.h)
        echo "    $suite: ${sentence:-NONE}"
    done
}

modules()
{
    for directory in src/*/; do
        module=$(basename "$directory")
        echo "  $module"
        grep -lE "^#include \"$module/" test/unit/test_*.c | sed 's,.*/test_\(.*\)\.c,\1,' | listed "suites" |
            grep -v ': NONE$' # the public interface is all they need
        grep -lE "^--- a/src/$module/" test/mutants/*.patch | sed 's,.*/\(.*\)\.patch,\1,' | listed "mutants" |
            grep -v ': NONE$'
    done
}

invariants()
{
    sed -n 's/^- \*\*\(I[0-9]*\)\*\* \(.*\)/\1 \2/p' docs/design.md | while read -r invariant text; do
        echo "  $invariant $text"
        grep -rlw --include='*.[ch]' "$invariant" src | listed "code"
        grep -rlw --include='*.[ch]' "$invariant" test | listed "tests"
        grep -lw "$invariant" test/mutants/*.patch | sed 's,.*/\(.*\)\.patch,\1,' | listed "mutants"
    done
}

found=$(echo "Suites of test/unit" && suites && echo && echo "Modules" && modules && echo && echo "Invariants" && invariants)
echo "$found"
! echo "$found" | grep ': NONE$'
