#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# style.sh format [--check] | lint: clang-format on every C file; shellcheck, mandoc, cppcheck and gcc's analyzer.
# Each of them has one version that decides; what another one says is shown, and is not counted. Each must refuse a canary.
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
    # the differences cost a process and more for each file, and most often there are none
    ! c_files | xargs -P "$(nproc)" -n 40 "$tool" --dry-run -Werror 2>/dev/null || return 0
    c_files | {
        status=0
        while read -r file; do
            "$tool" "$file" | diff -u --label "$file" --label "$file, formatted" "$file" - || status=1
        done
        return "$status"
    }
}

# ---- lint ----------------------------------------------------------------------------------------
#
# A tool is four functions: its version, empty where it is not here; the version that decides, as a pattern; what it looks
# at in the current folder; and a canary, a file that it must refuse.

shellcheck_version() { shellcheck --version 2>/dev/null | sed -n 's/^version: //p'; }
shellcheck_decides() { echo '0.9.*'; }
shellcheck_look()
{
    find . -path ./build -prune -o '(' -name '*.sh' -o -path ./dev -o -path ./.ci/run -o -path './packaging/debian/tests/*' \
        ! -name control ')' -type f -exec shellcheck {} +
}
# shellcheck disable=SC2016 # the canary's
shellcheck_canary() { printf '#!/bin/sh\nrm $1\n' >"$1/canary.sh"; }

# mandoc does not say its version; what it complains about has been the same for years.
mandoc_version() { ! command -v mandoc >/dev/null || echo any; }
mandoc_decides() { echo any; }
mandoc_look() { find man raft bench powercut -name '*.[137]' -exec mandoc -T lint -W warning {} +; }
mandoc_canary() { printf '.Dd January 1, 2026\n.Dt CANARY 3\n.Os\n.Sh NAME\n.Nm canary\n.Bl\n' >"$1/man/canary.3"; }

cppcheck_version() { cppcheck --version 2>/dev/null | sed -n 's/^Cppcheck //p'; }
cppcheck_decides() { echo '2.10*'; }
cppcheck_look()
{
    cppcheck -q --std=c11 --enable=warning,performance,portability --suppress=missingIncludeSystem --error-exitcode=1 \
        --inline-suppr -Iinclude -Isrc src
}
cppcheck_canary() { echo 'void *canary(void *p) { return p + 1; }' >"$1/src/canary.c"; } # GNU C, so gcc says nothing

# What the library may do on some path: a leak, a value that was never set. It knows no function but those of one file.
analyzer=$(command -v gcc-12 || command -v gcc) || analyzer=
analyzer_version() { ! "${analyzer:-false}" -fanalyzer -E -x c /dev/null >/dev/null 2>&1 || "$analyzer" -dumpversion; }
analyzer_decides() { echo '12*'; }
analyzer_look()
{
    find src -name '*.c' -print0 | xargs -0 -P "$(nproc)" -I '{}' \
        "$analyzer" -std=gnu11 -O1 -fanalyzer -Werror -Iinclude -Isrc -c '{}' -o /dev/null
}
analyzer_canary()
{
    printf '#include <stdlib.h>\nint *canary(void) { int *p = malloc(4); *p = 1; return p; }\n' >"$1/src/canary.c"
}

tools='shellcheck mandoc cppcheck analyzer'

# decides TOOL: whether its version is the one that decides what is a finding. Others are shown.
decides()
{
    version=$("$1_version")
    pattern=$("$1_decides")
    # shellcheck disable=SC2254 # a pattern
    case $version in $pattern) return 0 ;; esac
    return 1
}

# lint_folder: each tool that is here looks at the current folder. Fails if one that decides has found something.
lint_folder()
{
    findings=0
    for tool in $tools; do
        version=$("${tool}_version")
        if [ -z "$version" ]; then
            echo "SKIP lint by $tool: it is not here"
        elif "${tool}_look"; then
            :
        elif decides "$tool"; then
            echo "lint: $tool $version has found something"
            findings=$((findings + 1))
        else
            echo "SKIP lint by $tool: what version $version says is shown, and ${pattern} decides"
        fi
    done
    [ "$findings" = 0 ]
}

# refuses TOOL: its canary, in a tree that has nothing else, ends lint as a finding of that tool, the others are content.
refuses()
{
    canary=$(mktemp -d)
    mkdir "$canary/src" "$canary/include" "$canary/man" "$canary/raft" "$canary/bench" "$canary/powercut"
    echo 'int sound(void) { return 0; }' >"$canary/src/sound.c"
    "$1_canary" "$canary"
    said=$(cd "$canary" && lint_folder 2>&1) && is_refused=0 || is_refused=1
    rm -r "$canary"
    if decides "$1"; then
        [ "$is_refused" = 1 ] && echo "$said" | grep -q "^lint: $1 " && ! echo "$said" | grep "^lint: " | grep -v "^lint: $1 "
    else
        echo "$said" | grep -q "^SKIP lint by $1: what version"
    fi
}

lint()
{
    status=0
    for checked in $tools; do
        [ -n "$("${checked}_version")" ] || continue # lint_folder says so
        refuses "$checked" || { echo "lint: $checked does not refuse its canary: $said"; status=1; }
    done
    lint_folder || status=1
    return "$status"
}

"$@"
