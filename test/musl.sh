#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# musl.sh [--all] BUILD: builds the library and the command with musl's C library (Debian's musl-tools) in BUILD/musl,
# and uses them. --all: also builds the tests, and runs the quick ones, where libcheck.a is here.
#
# Debian has liburing and check for glibc only. Their archives call little of a C library, so they are linked all the
# same; what check calls of glibc alone is in musl_check.c. On Alpine nothing of this is needed.
set -eu
all=
[ "$1" != --all ] || { all=1; shift; }
mkdir -p "$1"
build=$(realpath "$1")/musl
tree=$(realpath "$(dirname "$0")/..")
# shellcheck source=test/strict.sh
. "$tree/test/strict.sh"

skip() { echo "SKIP musl: $*"; exit 77; }
command -v musl-gcc >/dev/null || skip "there is no musl-gcc (package musl-tools)"
libraries=$(cc -print-file-name=liburing.a)
[ -f "$libraries" ] || skip "there is no liburing.a (package liburing-dev)"
libraries=$(dirname "$libraries")
[ -f /usr/include/liburing.h ] || skip "there is no /usr/include/liburing.h"
[ -d /usr/include/linux ] || skip "there is no /usr/include/linux (package linux-libc-dev)"

# A root for the compiler: the kernel's headers and those of the two libraries, and nothing else of /usr/include.
rm -rf "$build" # a cache would know the libraries of yesterday
root=$build/root
mkdir -p "$root/include" "$root/lib/pkgconfig"
asm=$(echo '#include <asm/unistd.h>' | cc -E -M - | tr ' ' '\n' | grep -m 1 '/asm/unistd.h$')
ln -s "$(dirname "$asm")" "$root/include/asm"
for name in linux asm-generic liburing liburing.h check.h check_stdint.h; do
    [ ! -e "/usr/include/$name" ] || ln -s "/usr/include/$name" "$root/include/$name"
done
# package NAME LIBRARY...
package()
{
    name=$1
    version=$(pkg-config --modversion "$name")
    shift
    flags=-L$root/lib
    for library in "$@"; do
        [ -e "$root/lib/lib$library.a" ] || ln -s "$libraries/lib$library.a" "$root/lib"
        flags="$flags -l$library"
    done
    printf 'Name: %s\nDescription: %s\nVersion: %s\nCflags: -idirafter %s\nLibs: %s\n' \
        "$name" "$name" "$version" "$root/include" "$flags" >"$build/$name.pc"
}
package liburing uring
if [ -n "$all" ] && [ -f "$libraries/libcheck.a" ]; then
    musl-gcc -O1 -c -o "$build/check.o" "$tree/test/musl_check.c"
    ar rc "$root/lib/libmusl_check.a" "$build/check.o"
    package check check subunit musl_check
fi
mv "$build"/*.pc "$root/lib/pkgconfig"

export PKG_CONFIG_LIBDIR="$root/lib/pkgconfig"
log=$build/log.txt
errors=OFF
! is_strict musl-gcc || errors=ON
# build OPTION...
build()
{
    { cmake -S "$tree" -B "$build/build" -DCMAKE_C_COMPILER=musl-gcc "-DCMAKE_C_FLAGS=-idirafter $root/include" \
        -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_COMPILE_WARNING_AS_ERROR=$errors" -DTWINLOG_MINIMAL=ON "$@" &&
        cmake --build "$build/build" -j "$(nproc)"; } >"$log" 2>&1 || { cat "$log"; exit 1; }
}

build -DTWINLOG_TESTS=OFF
twinlog=$build/build/tools/twinlog
if readelf -d "$twinlog" "$build/build/libtwinlog.so" | grep 'NEEDED.*libc\.so\.6'; then
    echo "this is linked with glibc, too"
    exit 1
fi
mkdir "$build/logs"
for mode in '' --mapped --shared; do
    seq 1000 | "$twinlog" append $mode "$build/logs/log$mode" >/dev/null
    [ "$("$twinlog" cat "$build/logs/log$mode" | sum)" = "$(seq 1000 | sum)" ]
    "$twinlog" verify "$build/logs/log$mode" >/dev/null
done
"$twinlog" probe "$build/logs" >/dev/null
[ -n "$all" ] || exit 0

[ -f "$root/lib/pkgconfig/check.pc" ] || { echo "SKIP musl, the suites: there is no libcheck.a (package check)"; exit 0; }
build -DTWINLOG_TESTS=ON
ctest --test-dir "$build/build" --output-on-failure -j "$(nproc)" -R '^(unit|sim|crash|example)-' -L quick
