#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tarball.sh BUILD: the tarball of packaging/dist.sh has what is committed, and nothing else: not what lies in a clone, or
# was changed and not committed.
set -eu
mkdir -p "$1"
build=$(realpath "$1")
tree=$(dirname "$(dirname "$(realpath "$0")")")
if ! git -C "$tree" rev-parse HEAD >/dev/null 2>&1; then
    echo "SKIP tarball of the last commit: git knows of none here"
    exit 77
fi
place=$(mktemp -d "$build/tarball.XXXXXX")
trap 'rm -rf "$place"' EXIT

# quietly COMMAND...: shows what it says only if it fails.
quietly() { "$@" >"$place/log.txt" 2>&1 || { cat "$place/log.txt"; exit 1; }; }

quietly git clone -q --depth 1 "file://$tree" "$place/clone"
cp "$tree"/packaging/*.sh "$place/clone/packaging"
echo changed >>"$place/clone/README.md"
touch "$place/clone/src/base/stray.c"
quietly "$place/clone/packaging/dist.sh"
quietly tar -C "$place" -xzf "$place"/clone/build/dist/twinlog-*.tar.gz
mkdir "$place/committed"
git -C "$place/clone" archive HEAD | tar -C "$place/committed" -xf -
diff -r "$place/committed" "$place"/twinlog-[0-9]*
