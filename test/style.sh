#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# style.sh format [--check] | lint: clang-format on every C file; shellcheck, mandoc, cppcheck and gcc's analyzer.
set -eu
cd "$(dirname "$0")/.."

c_files()
{
    find src include tools bench powercut bindings raft test docs/examples '(' -name '*.[ch]' -o -name '*.[ch]pp' ')' | sort
}

format()
{
    tool=$(command -v clang-format-14 || command -v clang-format) || tool=true
    if ! "$tool" --version | grep -q 'version 14\.'; then
        echo "skipped: the files are formatted by clang-format 14, which is not here"
        return 77
    fi
    case ${1:-} in
    '') c_files | xargs "$tool" -i && return ;;
    --check) ;;
    *)
        ./dev help >&2
        return 2
        ;;
    esac
    c_files | {
        status=0
        while read -r file; do
            "$tool" "$file" | diff -u --label "$file" --label "$file, formatted" "$file" - || status=1
        done
        return "$status"
    }
}

# What the library may do on some path: a leak, a value that was never set. It knows no function but those of one file.
analyze()
{
    status=0
    if command -v cppcheck >/dev/null; then
        cppcheck -q --std=c11 --enable=warning,performance,portability --suppress=missingIncludeSystem --error-exitcode=1 \
            -Iinclude -Isrc src || status=1
    else
        echo "SKIP lint of the library: cppcheck is not here"
    fi
    if command -v gcc-12 >/dev/null; then
        find src -name '*.c' -print0 | xargs -0 -P "$(nproc)" -I '{}' \
            gcc-12 -std=gnu11 -O1 -fanalyzer -Werror -Iinclude -Isrc -c '{}' -o /dev/null || status=1
    else
        echo "SKIP analysis of the library: gcc-12 is not here"
    fi
    return "$status"
}

lint()
{
    status=0
    if command -v shellcheck >/dev/null; then
        find dev .ci/run test bench bindings packaging tools '(' -name '*.sh' -o -path dev -o -path .ci/run ')' \
            -exec shellcheck {} + || status=1
    else
        echo "SKIP lint of scripts: shellcheck is not here"
    fi
    if command -v mandoc >/dev/null; then
        mandoc -T lint -W warning man/*.[137] raft/*.3 || status=1
    else
        echo "SKIP lint of manual pages: mandoc is not here"
    fi
    analyze || status=1
    return "$status"
}

"$@"
