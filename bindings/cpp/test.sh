#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh BUILD: the C++ binding with each compiler that is here, against the library in BUILD.
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")"
# shellcheck source=test/strict.sh
. ../../test/strict.sh
place=$(mktemp -d "$build/bindings-cpp.XXXXXX")
trap 'rm -rf "$place"' EXIT

tried=0
for compiler in g++ clang++; do
    optimized=-O0 # half of the time that the compiler takes; of the two only g++ has warnings that need the optimizer
    [ "$compiler" = clang++ ] || [ -n "${TWINLOG_FEW:-}" ] || optimized=-O1
    if ! echo '#include <span>' | $compiler -std=c++20 -fsyntax-only -x c++ - 2>/dev/null; then
        echo "SKIP bindings-cpp with $compiler: there is none for C++20"
        continue
    fi
    tried=1
    sanitize=-fsanitize=address
    { echo 'int main() {}' | $compiler $sanitize -x c++ -o "$place/probe" - && "$place/probe"; } 2>/dev/null || sanitize=
    # g++ takes parts of a coroutine's frame for unset where the address sanitizer has changed it.
    [ "$compiler $sanitize" != "g++ -fsanitize=address" ] || sanitize="$sanitize -Wno-maybe-uninitialized"
    for program in test example; do
        # shellcheck disable=SC2046,SC2086 # options, or none
        $compiler -std=c++20 $optimized $sanitize -Wall -Wextra -Wpedantic -Wconversion -Wshadow $(werror "$compiler") -I. -isystem ../../include \
            -o "$place/$compiler-$program" "$program.cpp" "$build/libtwinlog.so" -Wl,-rpath,"$build" -pthread
        "$place/$compiler-$program" "$place/$compiler-$program.log"
    done
    # The first program of README.md. A file begins with its lines up to the first empty one. A busy disk takes longer than
    # the program has patience for.
    {
        echo '#include <iostream>'
        sed -n '/^#include/,/^```$/p' README.md | sed '/^```$/d; 0,/^$/s/^$/int main() {/; s/timeout = 50ms/timeout = 50s/'
        echo '}'
    } >"$place/first.cpp"
    $compiler -std=c++20 -I. -I../../include -o "$place/first" "$place/first.cpp" "$build/libtwinlog.so" -Wl,-rpath,"$build"
    rm -rf "$place/journal"
    (cd "$place" && ./first) >"$place/first.txt"
    printf '1 hello\n2 a\n3 b\n' | diff - "$place/first.txt"
    # A program without exceptions, and with hidden symbols.
    echo '#include <twinlog.hpp>
int main()
{
    auto log = twl::log::open("/nonexistent/x/y");
    auto sink = twl::sink::open("/nonexistent/x/y", { .shared = true });
    if (sink)
        twl::sink_stream(*sink) << "line";
    return log.has_value() || sink.has_value();
}' >"$place/plain.cpp"
    $compiler -std=c++20 -fno-exceptions -fvisibility=hidden -Wall -Wextra -Wshadow -Werror -I. -I../../include -o "$place/plain" "$place/plain.cpp" \
        "$build/libtwinlog.so" -Wl,-rpath,"$build"
    "$place/plain"
    echo '#include <twinlog.hpp>
[[gnu::visibility("default")]] std::error_code code_of(const twl::error &why) { return why.code(); }' >"$place/hidden.cpp"
    $compiler -std=c++20 -fPIC -shared -fvisibility=hidden -I. -I../../include -o "$place/hidden.so" "$place/hidden.cpp"
    nm -DC "$place/hidden.so" | grep -q ' [uV] .*the_category' || { echo "each library has a category of its own"; exit 1; }
    [ -z "${TWINLOG_FEW:-}" ] || break # one of them, where little time is to be taken
done
[ "$tried" = 1 ] || exit 77
