#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Tables of what twinlog-bench can't measure: in Go, group commit by hand, etcd's wal and JetStream (nats-server 2.10 or
# later, $NATS_SERVER, and the client of Debian); RocksDB on twinlog and on its own log; PostgreSQL; three servers of
# libraft, with raft_uv's storage; each in turns with twinlog; and what the module of Python reaches. What is not
# installed, or fails, is left out.
#
#   bench/others.sh DIR
#
# DIR is on the disk to measure; build/release has to be built. Makes DIR/others.csv and others.json, too, with each round.
set -eu
directory=$(realpath "$1")
cd "$(dirname "$0")/.."
build=$PWD/build/release
scratch=$(mktemp -d "$directory/others.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
chmod 711 "$scratch" # PostgreSQL's server is another user's
export ROUNDS="$directory/others.csv"
echo table,contender,point,rate >"$ROUNDS"
failed() { echo "others.sh: $1 failed" >&2; }

printf 'Name: twinlog\nDescription: the library in the build\nVersion: 0\nCflags: -I%s\nLibs: -L%s -ltwinlog\n' \
    "$PWD/include" "$build" >"$scratch/twinlog.pc"
export PKG_CONFIG_PATH="$scratch"

if command -v go >/dev/null; then
    mkdir -p "$scratch/src/example.org/twinlog/bindings"
    ln -s "$PWD/bindings/go" "$scratch/src/example.org/twinlog/bindings/go"
    tags=
    [ ! -d /usr/share/gocode/src/go.etcd.io/etcd/wal ] || tags=etcd
    [ ! -d /usr/share/gocode/src/github.com/nats-io/nats.go ] || tags="$tags nats"
    (
        export CGO_LDFLAGS="-Wl,-rpath,$build" GO111MODULE=off GOPATH="$scratch:/usr/share/gocode"
        export GOCACHE="$build/go-cache" CGO_CFLAGS="-O2"
        cd "$scratch/src/example.org/twinlog/bindings/go/bench"
        go build -tags "$tags" -o "$scratch/bench" .
    )
    "$scratch/bench" -dir "$scratch" -rounds 10 >"$scratch/go.txt" || failed go
    printf '\n**go: appends a second by goroutines, %s%s%s**, median of 10 rounds\n\n' "$(go version | cut -d ' ' -f 3)" \
        "$(dpkg-query -W -f ', etcd ${Version}' golang-etcd-server-dev 2>/dev/null || true)" \
        "$(! grep -q JetStream "$scratch/go.txt" || "${NATS_SERVER:-nats-server}" --version | sed 's/^/, /;s/: v/ /')"
    cat "$scratch/go.txt"
fi
if echo '#include <rocksdb/db.h>' | c++ -x c++ -E - >/dev/null 2>&1; then
    c++ -O2 -std=c++17 -Iinclude docs/examples/rocksdb.cc -L"$build" -Wl,-rpath,"$build" -ltwinlog -lrocksdb -pthread \
        -o "$scratch/rocksdb"
    printf '\n**rocksdb: puts a second of RocksDB on twinlog and on its own log**, median of 10 rounds\n\n'
    "$scratch/rocksdb" "$scratch/store" bench || failed rocksdb
fi
postgres=$(find /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)
if [ -n "$postgres" ]; then
    printf '\n**postgres: messages of 128 bytes, each in a transaction, %s**, median of 10 rounds\n\n' \
        "$("$postgres" --version | cut -d ' ' -f 1,3)"
    bench/postgres.py --rounds 10 --bench "$build/bench/twinlog-bench" "$scratch" || failed postgres
fi
if [ -x "$build/raft/raft-cluster" ] && command -v python3 >/dev/null; then
    version=$(pkg-config --modversion raft 2>/dev/null || true)
    printf '\n**raft: commands of 128 bytes a second, three servers of libraft %s**, median of 10 rounds\n\n' "$version"
    "$build/raft/raft-cluster" --compare --rounds 10 --seconds 0.5 "$scratch/raft" >"$scratch/raft.txt" || failed raft
    python3 bench/raft.py "$scratch/raft.txt" || failed raft
fi
if /usr/bin/python3 -c 'import setuptools' 2>/dev/null; then
    cp -R bindings/python "$scratch/python"
    (cd "$scratch/python" && LDFLAGS="-Wl,-rpath,$build" /usr/bin/python3 setup.py build_ext --inplace) >"$scratch/log.txt" 2>&1 ||
        { cat "$scratch/log.txt" >&2 && exit 1; }
    printf '\n**python: records of 128 bytes, %s**, median of 10 rounds\n\n' "$(/usr/bin/python3 --version)"
    /usr/bin/python3 "$scratch/python/bench.py" --rounds 10 "$scratch" || failed python
fi
if command -v python3 >/dev/null; then
    python3 - "$ROUNDS" "$directory/others.json" <<'END'
import csv, json, sys
tables = {}
for row in csv.DictReader(open(sys.argv[1])):
    at = tables.setdefault(row["table"], {}).setdefault(row["contender"], {})
    at.setdefault(row["point"], []).append(float(row["rate"]))
json.dump(tables, open(sys.argv[2], "w"), indent=1)
END
fi
