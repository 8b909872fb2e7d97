#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh BUILD: the Go binding with the library in BUILD, and its example.
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")"
name=bindings-go
up=.
# shellcheck source=bindings/go/prepare.sh
. ./prepare.sh
export GOFLAGS=-mod=readonly GOPATH="$place/go"
go vet ./...
# Go compiles its whole library again for the race detector, which takes minutes: only where everything is tried.
race=
if [ -n "${TWINLOG_CI:-}" ]; then
    go build -race -o "$place/raced" ./example 2>/dev/null && race=-race ||
        echo "SKIP bindings-go -race: this Go has no race detector"
fi
GOTRACEBACK=all go test $race -count=1 -timeout 300s .
go build -o "$place/example" ./example
"$place/example" "$place/journal"

# As README.md says, from a folder, without a proxy; and with a copy of its own.
mkdir "$place/replaced"
cp example/main.go "$place/replaced"
(cd "$place/replaced" && go mod init user && go mod edit -replace "example.org/twinlog/bindings/go=$binding_folder" &&
    go mod tidy && go build -o replaced . && go mod vendor && go build -mod=vendor -o vendored .) >"$place/log.txt" 2>&1 ||
    { cat "$place/log.txt"; exit 1; }
"$place/replaced/vendored" "$place/vendored"

# As another module gets it, from a proxy.
name=example.org/twinlog/bindings/go
at="$place/proxy/$name/@v"
mkdir -p "$at" "$place/user"
python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    for file in sys.argv[3:]:
        archive.write(file, sys.argv[2] + file)' "$at/v0.1.0.zip" "$name@v0.1.0/" ./*.go go.mod 2>/dev/null ||
    { echo "SKIP bindings-go, fetched: there is no Python"; exit 0; }
cp go.mod "$at/v0.1.0.mod"
echo '{"Version":"v0.1.0"}' >"$at/v0.1.0.info"
cp example/main.go "$place/user"
cd "$place/user"
export GOPROXY="file://$place/proxy" GOSUMDB=off GOFLAGS=-modcacherw
{ go mod init user && go get "$name@v0.1.0" && go build -o fetched .; } >"$place/log.txt" 2>&1 || { cat "$place/log.txt"; exit 1; }
./fetched "$place/fetched"
