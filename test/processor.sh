#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# processor.sh [--all] NAME BUILD: builds the library and the command for another processor (arm64, riscv64, or s390x, which
# stores the high byte first) with Debian's cross compiler in BUILD/NAME, and uses them under qemu-user. --all: also builds
# the tests, and runs the suites that the emulator can run. --packages NAME: what has to be installed.
#
# liburing and check for that processor are fetched as packages and unpacked there; the system keeps its one architecture.
# The emulator has neither io_uring nor pwritev2(), so the log falls back; and it does not wipe memory in a forked child. So
# suites that ask for a path by name, or fork, are not run there.
set -eu
tree=$(realpath "$(dirname "$0")/..")
# shellcheck source=test/strict.sh
. "$tree/test/strict.sh"
suites='format|golden|index|modes|names|on_disk|shared|space'

# What Debian, GNU and qemu call the processor.
say_machine()
{
    case $1 in
    arm64) echo aarch64 ;;
    riscv64 | s390x) echo "$1" ;;
    *) echo "processor.sh: no test for the processor $1; there are arm64, riscv64 and s390x" >&2 && return 2 ;;
    esac
}

if [ "$1" = --packages ]; then
    echo "gcc-$(say_machine "$2")-linux-gnu libc6-dev-$2-cross qemu-user-static"
    exit
fi
all=OFF
[ "$1" != --all ] || { all=ON; shift; }
name=$1
machine=$(say_machine "$name")
mkdir -p "$2"
builds=$(realpath "$2")
build=$builds/$name

skip() { echo "SKIP $name: $*"; exit 77; }
cc=$machine-linux-gnu-gcc
emulator=qemu-$machine-static
command -v "$cc" >/dev/null || skip "there is no $cc (packages gcc-$machine-linux-gnu, libc6-dev-$name-cross)"
command -v "$emulator" >/dev/null || skip "there is no $emulator (package qemu-user-static)"
command -v dpkg-deb >/dev/null || skip "there is no dpkg-deb"

# apt for that processor: what it keeps is kept here, and nothing of it in the system. Debian has riscv64 since Debian 13.
apt_there()
{
    apt-get -o "APT::Architecture=$name" -o "APT::Architectures::=$name" -o APT::Sandbox::User=root \
        -o "Dir::State::lists=$build/apt/lists" -o "Dir::Cache=$build/apt" -o Dir::State::status=/dev/null \
        ${sources:+-o "Dir::Etc::sourcelist=$sources" -o Dir::Etc::sourceparts=-} "$@" >>"$build/apt/log.txt" 2>&1
}

# The first address that this system has Debian from.
mirror()
{
    cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb *\(\[[^]]*\]\)\{0,1\} *\([^ ]*\) .*/\2/p' | grep '/debian/*$' | head -n 1
}

fetch_packages()
{
    packages='liburing2 liburing-dev check libsubunit0 libsubunit-dev'
    sources=
    apt_there update || return 1
    # shellcheck disable=SC2086 # one argument for each package
    (cd "$build/packages" && apt_there download $packages) && return 0

    # The suites need check, and that of Debian 13 needs a libc that the cross compiler of Debian 12 does not have.
    sources=$build/apt/sources.list
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" >"$sources"
    apt_there update || return 1
    # shellcheck disable=SC2086 # one argument for each package
    (cd "$build/packages" && apt_there download $packages linux-libc-dev)
}

cross_libc() { dpkg-query -W -f='${Version}' "libc6-$name-cross"; }

root=$build/root
rm -rf "$build/build" "$build/logs"
if [ ! -d "$root" ]; then
    rm -rf "$build/packages" "$root.new"
    mkdir -p "$build/apt/lists/partial" "$build/apt/archives/partial" "$build/packages"
    fetch_packages || skip "packages for $name cannot be fetched: see $build/apt/log.txt"
    for package in "$build/packages"/*.deb; do
        dpkg-deb -x "$package" "$root.new"
    done
    mv "$root.new" "$root"
fi
libraries=$root/usr/lib/$machine-linux-gnu
if [ $all = ON ] && [ -f "$build/apt/sources.list" ] && dpkg --compare-versions "$(cross_libc)" lt 2.41; then
    echo "SKIP $name, its suites: check for it is a package of Debian 13, and needs the libc of that"
    all=OFF
fi

log=$build/log.txt
errors=OFF
! is_strict "$cc" || errors=ON
{ PKG_CONFIG_LIBDIR=$libraries/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root \
    cmake -S "$tree" -B "$build/build" -DCMAKE_SYSTEM_NAME=Linux "-DCMAKE_SYSTEM_PROCESSOR=$machine" "-DCMAKE_C_COMPILER=$cc" \
    "-DCMAKE_CROSSCOMPILING_EMULATOR=$emulator;-L;/usr/$machine-linux-gnu;-E;LD_LIBRARY_PATH=$libraries" \
    -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_COMPILE_WARNING_AS_ERROR=$errors" -DTWINLOG_MINIMAL=ON -DTWINLOG_TESTS=$all &&
    cmake --build "$build/build" -j "$(nproc)"; } >"$log" 2>&1 || { tail -n 40 "$log"; exit 1; }

there() { "$emulator" -L "/usr/$machine-linux-gnu" -E "LD_LIBRARY_PATH=$libraries" "$build/build/tools/twinlog" "$@"; }

must_be() { [ "$1" = "$2" ] || { echo "$3: the lines are not those that were appended"; exit 1; }; }

# In each mode: a log that the other processor has written is read there and here, and is continued here, and read there.
mkdir "$build/logs"
natives=
for mode in '' --mapped --shared; do
    dir=$build/logs/log$mode
    seq 1000 | there append $mode "$dir" >/dev/null
    must_be "$(there cat "$dir" | cksum)" "$(seq 1000 | cksum)" "written and read on $name, mode '$mode'"
    there verify "$dir" >/dev/null
    for native in dev release; do
        here=$builds/$native/tools/twinlog
        [ -x "$here" ] || continue
        natives="$natives $native"
        must_be "$("$here" cat "$dir" | cksum)" "$(seq 1000 | cksum)" "written on $name, read here, mode '$mode'"

        cp -r "$dir" "$dir-$native"
        seq 1001 2000 | "$here" append $mode "$dir-$native" >/dev/null
        must_be "$(there cat "$dir-$native" | cksum)" "$(seq 2000 | cksum)" "continued here, read on $name, mode '$mode'"
        there verify "$dir-$native" >/dev/null

        seq 2001 3000 | there append $mode "$dir-$native" >/dev/null
        must_be "$("$here" cat "$dir-$native" | cksum)" "$(seq 3000 | cksum)" "continued on $name, read here, mode '$mode'"
        "$here" verify "$dir-$native" >/dev/null
    done
done
there probe "$build/logs" >/dev/null
[ -n "$natives" ] || echo "only $name itself has read the logs: no command for this processor is built in $builds/dev or release"
[ $all = ON ] || exit 0
ctest --test-dir "$build/build" --output-on-failure --no-tests=error -j "$(nproc)" -R "^unit-($suites)\$"
