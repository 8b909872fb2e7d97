#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh install [PREFIX] | uninstall: builds for release and installs, or removes what was installed.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=test/dev.sh
. test/dev.sh

# Others may read what is installed, whatever umask the installation has.
install()
{
    umask 022
    setup "$to_build"
    build release
    prefix=${1:-/usr/local}
    place=${DESTDIR:-}$prefix
    if mkdir -p "$place" 2>/dev/null && [ -w "$place" ]; then
        logged install cmake --install build/release --prefix "$prefix"
    else
        logged install as_root env DESTDIR="${DESTDIR:-}" cmake --install build/release --prefix "$prefix"
    fi
    if [ "$place" = /usr/local ]; then
        as_root ldconfig
    fi
    say "installed to $place"
}

uninstall()
{
    manifest=build/release/install_manifest.txt
    if [ -s $manifest ] && [ -w "${DESTDIR:-}$(head -n 1 $manifest)" ]; then
        cmake --build build/release --target uninstall
    else
        as_root env DESTDIR="${DESTDIR:-}" cmake --build build/release --target uninstall
    fi
}

"$@"
