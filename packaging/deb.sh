#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# deb.sh [--check]: Debian packages of this tree in build/deb. With --check they are built once more in another folder,
# and must have the same bytes; lintian has nothing to say; and what is in them works.
set -eu
cd "$(dirname "$0")/.."
tree=$PWD
for tool in dpkg-buildpackage dh ninja; do
    command -v "$tool" >/dev/null || { echo "SKIP deb: $tool is not here (packages dpkg-dev, debhelper, ninja-build)"; exit 77; }
done
version=$(sed -n 's/^#define TWINLOG_VERSION "\(.*\)"/\1/p' include/twinlog.h)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1700000000)}
DEB_BUILD_OPTIONS="parallel=$(nproc) ${DEB_BUILD_OPTIONS:-}"
export SOURCE_DATE_EPOCH DEB_BUILD_OPTIONS

# make_packages FOLDER
make_packages()
{
    rm -rf "$1"
    mkdir -p "$1/twinlog-$version"
    tar -C "$tree" --exclude=./build --exclude=./.git -cf - . | tar -C "$1/twinlog-$version" -xf -
    cp -R packaging/debian "$1/twinlog-$version/debian"
    printf 'twinlog (%s-1) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- The twinlog authors <twinlog@example.org>  %s\n' \
        "$version" "$(date -uRd "@$SOURCE_DATE_EPOCH")" >"$1/twinlog-$version/debian/changelog"
    (cd "$1/twinlog-$version" && dpkg-buildpackage --no-sign --build=binary) >"$1/log.txt" 2>&1 ||
        { tail -n 40 "$1/log.txt"; return 1; }
    rm -rf "$1/twinlog-$version"
}

make_packages build/deb
ls build/deb/*.deb
[ "${1:-}" = --check ] || exit 0

echo "--- once more, in another folder"
make_packages build/deb-again/elsewhere
for package in build/deb/*.deb; do
    cmp "$package" "build/deb-again/elsewhere/${package##*/}"
done
rm -rf build/deb-again

echo "--- what is in them"
place=$(mktemp -d "$tree/build/deb/root.XXXXXX")
trap 'rm -rf "$place"' EXIT
for package in build/deb/*.deb; do
    dpkg-deb -x "$package" "$place"
done
lib=$(dirname "$(find "$place" -name libtwinlog.so)")
PATH=$place/usr/bin:$PATH PKG_CONFIG_PATH=$lib/pkgconfig LD_LIBRARY_PATH=$lib packaging/debian/tests/program
if find "$place/usr/share/doc" \( -name '*.md.gz' -o -path '*/examples/*.gz' \) | grep .; then
    echo "these are compressed, so links to them lead nowhere"
    exit 1
fi

if command -v lintian >/dev/null; then
    echo "--- lintian"
    lintian --fail-on error,warning --suppress-tags bad-distribution-in-changes-file,initial-upload-closes-no-bugs build/deb/*.changes
else
    echo "SKIP deb, lintian: it is not here"
fi
