#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# arm64.sh [--all] BUILD: builds the library and the command for arm64 with Debian's cross compiler in BUILD/arm64, and uses
# them under qemu-user. --all: also builds the tests, and runs the suites that the emulator can run.
#
# liburing and check for arm64 are fetched as packages and unpacked there; the system keeps its one architecture. The
# emulator has neither io_uring nor pwritev2(), so the log falls back; and it does not wipe memory in a forked child. So
# suites that ask for a path by name, or fork, are not run there.
set -eu
all=OFF
[ "$1" != --all ] || { all=ON; shift; }
mkdir -p "$1"
build=$(realpath "$1")/arm64
tree=$(realpath "$(dirname "$0")/..")
# shellcheck source=test/strict.sh
. "$tree/test/strict.sh"
suites='format|golden|index|modes|names|on_disk|shared|space'

skip() { echo "SKIP arm64: $*"; exit 77; }
cc=aarch64-linux-gnu-gcc
command -v $cc >/dev/null || skip "there is no $cc (packages gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
command -v qemu-aarch64-static >/dev/null || skip "there is no qemu-aarch64-static (package qemu-user-static)"
command -v dpkg-deb >/dev/null || skip "there is no dpkg-deb"

# What apt keeps for arm64 is kept here, and nothing of it in the system.
root=$build/root
rm -rf "$build/build" "$build/logs"
if [ ! -d "$root" ]; then
    mkdir -p "$build/apt/lists/partial" "$build/apt/archives/partial" "$build/packages"
    arm64_apt()
    {
        apt-get -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root -o "Dir::State::lists=$build/apt/lists" \
            -o "Dir::Cache=$build/apt" -o Dir::State::status=/dev/null "$@" >>"$build/apt/log.txt" 2>&1
    }
    arm64_apt update || skip "the list of packages for arm64 cannot be fetched: see $build/apt/log.txt"
    (cd "$build/packages" && arm64_apt download liburing2 liburing-dev check libsubunit0 libsubunit-dev) ||
        skip "packages for arm64 cannot be fetched: see $build/apt/log.txt"
    for package in "$build/packages"/*.deb; do
        dpkg-deb -x "$package" "$root.new"
    done
    mv "$root.new" "$root"
fi
libraries=$root/usr/lib/aarch64-linux-gnu

log=$build/log.txt
errors=OFF
! is_strict $cc || errors=ON
{ PKG_CONFIG_LIBDIR=$libraries/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root \
    cmake -S "$tree" -B "$build/build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=$cc \
    "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64-static;-L;/usr/aarch64-linux-gnu;-E;LD_LIBRARY_PATH=$libraries" \
    -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_COMPILE_WARNING_AS_ERROR=$errors" -DTWINLOG_MINIMAL=ON -DTWINLOG_TESTS=$all &&
    cmake --build "$build/build" -j "$(nproc)"; } >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }

# The command writes in each mode, and reads it; so does the other processor, if its command is there.
twinlog() { qemu-aarch64-static -L /usr/aarch64-linux-gnu -E "LD_LIBRARY_PATH=$libraries" "$build/build/tools/twinlog" "$@"; }
mkdir "$build/logs"
for mode in '' --mapped --shared; do
    seq 1000 | twinlog append $mode "$build/logs/log$mode" >/dev/null
    [ "$(twinlog cat "$build/logs/log$mode" | sum)" = "$(seq 1000 | sum)" ]
    twinlog verify "$build/logs/log$mode" >/dev/null
    for native in dev release; do
        [ ! -x "$build/../$native/tools/twinlog" ] ||
            [ "$("$build/../$native/tools/twinlog" cat "$build/logs/log$mode" | sum)" = "$(seq 1000 | sum)" ]
    done
done
twinlog probe "$build/logs" >/dev/null
[ $all = ON ] || exit 0
ctest --test-dir "$build/build" --output-on-failure --no-tests=error -j "$(nproc)" -R "^unit-($suites)\$"
