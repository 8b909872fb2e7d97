#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tables of what twinlog-bench can't measure: in Go, group commit by hand and etcd's wal; RocksDB on twinlog and on its own
# log; PostgreSQL, each in turns with twinlog; and what the module of Python reaches. What is not installed is left out.
#
#   bench/others.sh DIR
#
# DIR is on the disk to measure; build/release has to be built.
set -eu
directory=$(realpath "$1")
cd "$(dirname "$0")/.."
build=$PWD/build/release
scratch=$(mktemp -d "$directory/others.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
chmod 711 "$scratch" # PostgreSQL's server is another user's

printf 'Name: twinlog\nDescription: the library in the build\nVersion: 0\nCflags: -I%s\nLibs: -L%s -ltwinlog\n' \
    "$PWD/include" "$build" >"$scratch/twinlog.pc"
export PKG_CONFIG_PATH="$scratch"

if command -v go >/dev/null; then
    mkdir -p "$scratch/src/example.org/twinlog/bindings"
    ln -s "$PWD/bindings/go" "$scratch/src/example.org/twinlog/bindings/go"
    tags=
    [ ! -d /usr/share/gocode/src/go.etcd.io/etcd/wal ] || tags=etcd
    (
        export CGO_LDFLAGS="-Wl,-rpath,$build" GO111MODULE=off GOPATH="$scratch:/usr/share/gocode"
        export GOCACHE="$build/go-cache" CGO_CFLAGS="-O2"
        cd "$scratch/src/example.org/twinlog/bindings/go/bench"
        go build -tags "$tags" -o "$scratch/bench" .
    )
    printf '\n**go: appends a second by goroutines, %s**, median of 10 rounds\n\n' "$(go version | cut -d ' ' -f 3)"
    "$scratch/bench" -dir "$scratch" -rounds 10
fi
if echo '#include <rocksdb/db.h>' | c++ -x c++ -E - >/dev/null 2>&1; then
    c++ -O2 -std=c++17 -Iinclude docs/examples/rocksdb.cc -L"$build" -Wl,-rpath,"$build" -ltwinlog -lrocksdb -pthread \
        -o "$scratch/rocksdb"
    printf '\n**rocksdb: puts a second of RocksDB on twinlog and on its own log**, median of 5 rounds\n\n'
    "$scratch/rocksdb" "$scratch/store" bench
fi
postgres=$(find /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)
if [ -n "$postgres" ]; then
    printf '\n**postgres: messages of 128 bytes, each in a transaction, %s**, median of 10 rounds\n\n' \
        "$("$postgres" --version | cut -d ' ' -f 1,3)"
    bench/postgres.py --rounds 10 --bench "$build/bench/twinlog-bench" "$scratch"
fi
if /usr/bin/python3 -c 'import setuptools' 2>/dev/null; then
    cp -R bindings/python "$scratch/python"
    (cd "$scratch/python" && LDFLAGS="-Wl,-rpath,$build" /usr/bin/python3 setup.py build_ext --inplace) >"$scratch/log.txt" 2>&1 ||
        { cat "$scratch/log.txt" >&2 && exit 1; }
    printf '\n**python: records of 128 bytes, %s**, median of 5 rounds\n\n' "$(/usr/bin/python3 --version)"
    /usr/bin/python3 "$scratch/python/bench.py" "$scratch"
fi
