#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh BUILD: the Python binding, from the wheel, with the library in BUILD.
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")"
python3 -c 'import sys, ctypes, asyncio; sys.exit(sys.version_info < (3, 8))' 2>/dev/null ||
    { echo "SKIP bindings-python: there is no Python 3.8"; exit 77; }
place=$(mktemp -d "$build/bindings-python.XXXXXX")
trap 'rm -rf "$place"' EXIT
export PYTHONDONTWRITEBYTECODE=1

# Twice: the same files make the same wheel. As pip would, but without it.
mkdir "$place/again"
wheel=$(python3 -c 'import build_wheel, sys; build_wheel.build_wheel(sys.argv[2]); print(build_wheel.build_wheel(sys.argv[1]))' "$place" "$place/again")
cmp "$place/$wheel" "$place/again/$wheel"
python3 -m zipfile -e "$place/$wheel" "$place/site"

cp test_twinlog.py example.py "$place"
sed -i "s,\"../../include\",\"$PWD/../../include\"," "$place/test_twinlog.py"
export PYTHONPATH="$place/site" TWINLOG_LIBRARY="$build/libtwinlog.so"
python3 -W error "$place/test_twinlog.py" "$place/logs"
python3 "$place/example.py" "$place/example"
