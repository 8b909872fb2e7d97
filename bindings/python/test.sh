#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh BUILD: the Python binding with the library in BUILD: from the wheel that is built from the sdist, and editable.
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")"
for python in python3 /usr/bin/python3 ''; do
    "${python:-false}" -c 'import os, sys, sysconfig, build.__main__, setuptools, wheel
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info < (3, 10) or not os.path.exists(header))' 2>/dev/null && break
done
[ -n "$python" ] || { echo "SKIP bindings-python: there is no Python 3.10 with Python.h, build, setuptools and wheel"; exit 77; }
# shellcheck source=test/strict.sh
. ../../test/strict.sh
place=$(mktemp -d "$build/bindings-python.XXXXXX")
trap 'rm -rf "$place"' EXIT
CFLAGS="-Wall -Wextra $(werror gcc)"
export CFLAGS PYTHONDONTWRITEBYTECODE=1 LDFLAGS="'-Wl,-rpath,$build'" PKG_CONFIG_PATH="$place"
# As an installed library says it.
printf 'Name: twinlog\nDescription: the library in the build\nVersion: 0\nCflags: "-I%s"\nLibs: "-L%s" -ltwinlog\n' \
    "$(realpath ../../include)" "$build" >"$place/twinlog.pc"

mkdir "$place/source"
cp -R LICENSE README.md pyproject.toml setup.py twinlog "$place/source"
(cd "$place/source" && "$python" -m build --no-isolation --outdir "$place" . && "$python" -c 'import setuptools.build_meta, sys
setuptools.build_meta.build_editable(sys.argv[1])' "$place/editable") >"$place/log.txt" 2>&1 || { cat "$place/log.txt"; exit 1; }
"$python" -m zipfile -e "$place"/twinlog-*-abi3-*.whl "$place/site"
for archive in "$place"/twinlog-*.tar.gz "$place"/twinlog-*.whl; do
    case $archive in *.whl) list="$python -m zipfile -l" ;; *) list="tar -tf" ;; esac
    $list "$archive" | grep -q '/LICENSE' || { echo "${archive##*/} has no LICENSE"; exit 1; }
done
mkdir "$place/again"
"$python" -m build --no-isolation --wheel --outdir "$place/again" "$place/source" >"$place/log.txt" 2>&1 || { cat "$place/log.txt"; exit 1; }
cmp "$place"/twinlog-*.whl "$place"/again/twinlog-*.whl
"$python" -m zipfile -e "$place"/editable/*.whl "$place/editable"
(cd "$place" && "$python" -c 'import site
site.addsitedir("editable")
import twinlog
assert "/source/" in twinlog.__file__, twinlog.__file__')
if command -v mypy >/dev/null; then
    mypy --config-file pyproject.toml --cache-dir "$place/mypy" "$place/site/twinlog"
else
    echo "SKIP bindings-python, types: mypy is not here"
fi

cp test_twinlog.py "$place"
export PYTHONPATH="$place/site" TWINLOG_INCLUDE="$PWD/../../include"
"$python" -W error "$place/test_twinlog.py" "$place/logs"
"$python" example/example.py "$place/example"
"$python" test_outbox.py example/outbox.py "$place/outbox"
