#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# dist.sh [--check]: the sources as build/dist/twinlog-VERSION.tar.gz, and their checksum beside it. They are the files of the last
# commit, in an order, with owners and times that do not depend on this machine: the same commit gives the same bytes, and so
# does the unpacked tarball. With --check they are unpacked, built and tested as on a machine without git and without any
# package that is not required.
set -eu
cd "$(dirname "$0")/.."
tree=$PWD
umask 022
# shellcheck source=packaging/sources.sh
. packaging/sources.sh
name=twinlog-$version

# make_tarball FOLDER
make_tarball()
{
    copy_sources "$1/$name"
    tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" \
        -cf "$1/$name.tar" "$name"
    rm -r "${1:?}/$name"
    gzip -9n "$1/$name.tar"
}

rm -rf build/dist
make_tarball build/dist
cd build/dist
sha256sum "$name.tar.gz" >"$name.tar.gz.sha256"
cat "$name.tar.gz.sha256"
[ "${1:-}" = --check ] || exit 0

sha256sum --quiet --check "$name.tar.gz.sha256"
tar -xzf "$name.tar.gz"
cd "$name"
GIT_CEILING_DIRECTORIES=$tree/build/dist
export GIT_CEILING_DIRECTORIES
{ cmake --preset minimal && cmake --build --preset minimal -j "$(nproc)" && ctest --preset minimal; } >../log.txt 2>&1 ||
    { tail -n 40 ../log.txt; echo "the sources of $name.tar.gz do not build, or not all tests pass: build/dist/log.txt"; exit 1; }
grep 'tests passed' ../log.txt
packaging/dist.sh >/dev/null
cmp "build/dist/$name.tar.gz" "../$name.tar.gz"
