#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# deb.sh [--check]: Debian packages of this tree in build/deb. With --check they are built once more in another folder,
# and must have the same bytes; lintian has nothing to say; and what is in them works, on a new Debian in a chroot as well,
# which systemd-nspawn boots for the units.
set -eu
cd "$(dirname "$0")/.."
tree=$PWD
# shellcheck source=test/dev.sh
. test/dev.sh
# shellcheck source=test/complaints.sh
. test/complaints.sh
umask 022 # others may read the files of a package
setup "$to_deb"
for tool in dpkg-buildpackage dh ninja; do
    command -v "$tool" >/dev/null || { echo "SKIP deb: $tool is not here (packages $to_deb)"; exit 77; }
done
# shellcheck source=packaging/sources.sh
. packaging/sources.sh
DEB_BUILD_OPTIONS="parallel=$(nproc) ${DEB_BUILD_OPTIONS:-}"
export SOURCE_DATE_EPOCH DEB_BUILD_OPTIONS

# make_packages FOLDER
make_packages()
{
    rm -rf "$1"
    copy_sources "$1/twinlog-$version"
    cp -R "$1/twinlog-$version/packaging/debian" "$1/twinlog-$version/debian"
    (cd "$1/twinlog-$version" && find . | sort >../before.txt && dpkg-buildpackage --no-sign --build=binary &&
        debian/rules clean && find . | sort | diff ../before.txt -) >"$1/log.txt" 2>&1 || { tail -n 40 "$1/log.txt"; return 1; }
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
for program in twinlog twinlog-bench; do
    LD_LIBRARY_PATH=$lib ldd "$place/usr/bin/$program" | grep -q "$lib/libtwinlog.so.0" ||
        { echo "an update of the library does not reach $program"; exit 1; }
done
# dpkg refuses a second architecture of a package if a file of both differs.
same=$(for package in build/deb/*.deb; do
    [ "$(dpkg-deb -f "$package" Multi-Arch)" != same ] || dpkg-deb -c "$package" | awk '{ print $6 }' | grep -v '/$'
done | grep -v "^\./usr/lib/${lib##*/}/\|^\./usr/lib/debug/")
if (cd "$place" && echo "$same" | xargs zgrep -l "${lib##*/}"); then
    echo "these differ between architectures, and are in packages with Multi-Arch: same"
    exit 1
fi
dead_links_below "$place/usr/share/doc/twinlog" >build/deb/links.txt
[ ! -s build/deb/links.txt ] || { cat build/deb/links.txt; exit 1; }
PATH=$place/usr/bin:$PATH PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$place LD_LIBRARY_PATH=$lib \
    packaging/debian/tests/program
if find "$place/usr/share/doc" \( -name '*.md.gz' -o -path '*/examples/*.gz' \) | grep .; then
    echo "these are compressed, so links to them lead nowhere"
    exit 1
fi

if command -v lintian >/dev/null; then
    echo "--- lintian"
    lintian --allow-root --fail-on error,warning --suppress-tags bad-distribution-in-changes-file,initial-upload-closes-no-bugs build/deb/*.changes
else
    echo "SKIP deb, lintian: it is not here"
fi

# As autopkgtest would: the packages on a system that has nothing else, and their tests.
if ! [ "$(id -u)" = 0 ] || ! command -v debootstrap >/dev/null; then
    echo "SKIP deb, a new system: this needs root and debootstrap"
    exit 0
fi
echo "--- a new system"
sources=$(sed -n 's/^URIs: *//p; s/^deb [^h]*\(http[^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
root=$place/new
# shellcheck disable=SC2086 # one word, or none
logged deb-debootstrap debootstrap --variant=minbase "$suite" "$root" $sources
for file in /etc/resolv.conf /etc/apt/apt.conf.d/* /etc/apt/sources.list.d/*; do
    [ ! -f "$file" ] || cp "$file" "$root$file"
done
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
trap 'umount -q "$root/proc" "$root/dev" || true; rm -rf --one-file-system "$place"' EXIT
mkdir "$root/packages"
cp build/deb/*.deb packaging/debian/tests/* "$root/packages"
rm -f "$root"/packages/*-dbgsym_*.deb
depends=$(sed -n 's/^Depends: //p' packaging/debian/tests/control | tr -d , | tr ' ' '\n' | grep -v twinlog | sort -u | tr '\n' ' ')
# install PATTERN...: packages of Debian, and those that were made
install()
{
    logged deb-install chroot "$root" sh -c "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends $*"
}
install cmake gcc libc6-dev make pkgconf "/packages/libtwinlog0_*.deb" "/packages/libtwinlog-dev_*.deb"
for name in twinlog raft; do
    echo "--- on it: library $name"
    [ $name = twinlog ] || install "/packages/libtwinlog-raft*.deb"
    chroot "$root" sh -c "cd /tmp && /packages/library $name"
done
install "$depends" "/packages/*.deb"
for name in program examples; do
    echo "--- on it: $name"
    chroot "$root" sh -c "cd /tmp && /packages/$name"
done

if ! command -v systemd-nspawn >/dev/null; then
    echo "SKIP deb, the units: systemd-nspawn is not here"
    exit 0
fi
echo "--- on it, booted: units"
umount "$root/proc" "$root/dev"
printf '[Unit]\nAfter=multi-user.target\nSuccessAction=exit\nFailureAction=exit\n[Service]\nType=oneshot\nTimeoutStartSec=300\n%s\n' \
    "ExecStart=/bin/sh -c 'exec /packages/units >/packages/units.txt 2>&1'" >"$root/etc/systemd/system/units.service"
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../units.service "$root/etc/systemd/system/default.target.wants"
status=0
logged deb-boot timeout -k 10 400 systemd-nspawn --quiet --register=no --keep-unit --private-network --boot -D "$root" </dev/null ||
    status=1
if ! [ -e "$root/packages/units.txt" ]; then
    echo "SKIP deb, the units: systemd does not boot here"
    exit 0
fi
cat "$root/packages/units.txt"
exit $status
