#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# dist.sh [--check]: the sources as build/dist/twinlog-VERSION.tar.gz, and their checksum beside it. They are the files that git
# has, in an order, with owners and times that do not depend on this machine: the same tree gives the same bytes. With --check
# they are unpacked, built and tested as on a machine without git and without any package that is not required.
set -eu
cd "$(dirname "$0")/.."
tree=$PWD
# shellcheck source=test/complaints.sh
. test/complaints.sh

version=$(sed -n 's/^#define TWINLOG_VERSION "\(.*\)"/\1/p' include/twinlog.h)
name=twinlog-$version
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}

if git rev-parse --is-inside-work-tree >/dev/null 2>&1 && [ -n "$(git status --porcelain)" ]; then
    echo "note: there are changes that are not committed, and they are in the tarball" >&2
fi
rm -rf build/dist
mkdir -p build/dist
tree_files | LC_ALL=C sort |
    tar --verbatim-files-from -T - --transform "s,^,$name/," --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        --mtime="@$SOURCE_DATE_EPOCH" -cf - | gzip -9n >"build/dist/$name.tar.gz"
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
