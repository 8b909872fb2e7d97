#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# packages.sh BUILD: the recipes of packaging/vcpkg and packaging/conan, without either tool: what they name is there, and
# with stand-ins for what the tools offer, the port is built and used, and the recipe is run. The tarball of packaging/dist.sh
# has what is committed, and nothing else.
set -eu
mkdir -p "$1"
build=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
tree=$(dirname "$here")
command -v python3 >/dev/null || { echo "SKIP packages: there is no python3"; exit 77; }
place=$(mktemp -d "$build/packages.XXXXXX")
trap 'rm -rf "$place"' EXIT
export PYTHONDONTWRITEBYTECODE=1

python3 "$here/packages/recipe.py" "$tree"

# quietly COMMAND...: shows what it says only if it fails.
quietly() { "$@" >"$place/log.txt" 2>&1 || { cat "$place/log.txt"; exit 1; }; }

prefix=$place/packages
quietly cmake -D "tree=$tree" -D "place=$place" -P "$here/packages/port.cmake"
quietly "$prefix/tools/twinlog/twinlog" --version
quietly cmake -S "$tree/packaging/conan/test_package" -B "$place/use" -D "CMAKE_PREFIX_PATH=$prefix/share/twinlog"
quietly cmake --build "$place/use"
"$place/use/test_package"

# What lies in a clone, or was changed and not committed, is not in a tarball of it.
if ! git -C "$tree" rev-parse HEAD >/dev/null 2>&1; then
    echo "SKIP packages, a tarball of the last commit: git knows of none here"
    exit 0
fi
quietly git clone -q --depth 1 "file://$tree" "$place/clone"
cp "$tree"/packaging/*.sh "$place/clone/packaging"
echo changed >>"$place/clone/README.md"
touch "$place/clone/src/base/stray.c"
quietly "$place/clone/packaging/dist.sh"
quietly tar -C "$place" -xzf "$place"/clone/build/dist/twinlog-*.tar.gz
mkdir "$place/committed"
git -C "$place/clone" archive HEAD | tar -C "$place/committed" -xf -
diff -r "$place/committed" "$place"/twinlog-[0-9]*
