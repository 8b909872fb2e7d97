#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test.sh BUILD: the store for hashicorp/raft with the library in BUILD, its example under kill -9, and power cuts.
# Debian's packages of Go are sources without versions, in $GOCODE: they are found by GOPATH.
set -eu
build=$(realpath "$1")
cd "$(dirname "$0")"
skip() { echo "SKIP bindings-go-raft$1"; }
gocode=${GOCODE:-/usr/share/gocode}
name=bindings-go-raft
up=..
# shellcheck source=bindings/go/prepare.sh
. ../prepare.sh
[ -d "$gocode/src/github.com/hashicorp/raft" ] ||
    { skip ": hashicorp/raft is not installed (golang-github-hashicorp-raft-dev)"; exit 77; }
export GOFLAGS=''

binding=example.org/twinlog/bindings/go
store=$binding/raft
mkdir -p "$place/gopath/src/example.org/twinlog/bindings"
ln -s "$(realpath ..)" "$place/gopath/src/$binding"
# By GOPATH, for programs that Debian's sources are enough for.
by_path() { GO111MODULE=off GOPATH="$place/gopath:$gocode" "$@"; }
cd "$place/gopath/src/$store"
by_path go vet $store $store/example $store/powercut
by_path go build -o "$place/kv" $store/example
race=
if [ -n "${TWINLOG_CI:-}" ]; then
    if by_path go build -race -o "$place/raced" $store/example 2>/dev/null; then
        race=-race
    else
        skip " -race: this Go has no race detector"
    fi
fi
export GOTRACEBACK=all TWINLOG_RAFT_EXAMPLE="$place/kv"
by_path go test $race -v -count=1 -timeout 300s $store >"$place/log.txt" 2>&1 ||
    { cat "$place/log.txt"; exit 1; }
grep -oE 'SKIP bindings-go-raft.*' "$place/log.txt" || true
grep -E 'acknowledged|^ok' "$place/log.txt"

# The tests of hashicorp's packages, with this store in the place of theirs: see suite/. What they have in go.mod is
# Debian's here.
suites=suite.test
copy_suite()
{
    mkdir -p "$place/gopath/src/$suites"
    cp -R "$gocode/src/github.com/hashicorp/$1" "$place/gopath/src/$suites/$1"
    cp "$2" "$place/gopath/src/$suites/$1"
}
# run_suite PACKAGE TESTS: the names of those that fail, as a pattern.
run_suite()
{
    by_path go test -tags twinlog_suite -count=1 -v -timeout 400s -run "$2" "$1" >"$place/suite.txt" 2>&1 || true
    sed -n 's/^--- FAIL: \([^ ]*\).*/\1/p' "$place/suite.txt" | paste -s -d '|'
}
if [ -d "$gocode/src/github.com/hashicorp/raft-boltdb" ]; then
    copy_suite raft-boltdb suite/boltdb/bolt_store.go
    failed=$(run_suite $suites/raft-boltdb 'BoltStore_')
    grep -q '^ok' "$place/suite.txt" || { cat "$place/suite.txt"; exit 1; }
    echo "the tests of raft-boltdb: $(grep -c '^--- PASS' "$place/suite.txt") passed"
fi
if [ -n "${TWINLOG_CI:-}" ]; then # half a minute
    copy_suite raft suite/raft/inmem_store.go
    failed=$(run_suite $suites/raft .)
    passed=$(grep -c '^--- PASS' "$place/suite.txt") || { cat "$place/suite.txt"; exit 1; }
    # They wait for elections by the clock, so what fails is tried again. What fails with hashicorp's own store, too, such
    # as a test of rights that is run as root, is none of this one.
    [ -z "$failed" ] || failed=$(run_suite $suites/raft "^($failed)\$")
    theirs=
    [ -z "$failed" ] || theirs=$(run_suite github.com/hashicorp/raft "^($failed)\$")
    [ "$failed" = "$theirs" ] || { echo "tests of hashicorp/raft that fail on this store: $failed; on its own: $theirs"; exit 1; }
    echo "the tests of hashicorp/raft: $passed passed"
    [ -z "$theirs" ] || skip ", of hashicorp's tests: $theirs, which fails with its own store here"
fi

# Over power cuts, and on a disk that forgets what it has confirmed: there the check must find it.
by_path go build -o "$place/store_powercut" $store/powercut
by_path "$place/store_powercut" "$place" >"$place/log.txt" # without power cuts
powercut="$build/powercut/twinlog-powercut"
if [ ! -x "$powercut" ]; then
    skip " powercut: twinlog-powercut is not built here"
else
    got=0
    "$powercut" --cuts 12 --within 300 -- "$place/store_powercut" >"$place/log.txt" 2>&1 || got=$?
    case $got in
    0)
        tail -n 1 "$place/log.txt"
        "$powercut" --lie --cuts 60 --within 300 -- "$place/store_powercut" >"$place/log.txt" 2>&1 && got=0 || got=$?
        { [ $got = 1 ] && grep -q 'FOUND: the check ended with status 1' "$place/log.txt"; } ||
            { cat "$place/log.txt"; echo "a disk that forgets is not noticed"; exit 1; }
        ;;
    77) sed -n 's/^twinlog-powercut: cannot run here/SKIP bindings-go-raft powercut/p' "$place/log.txt" ;;
    *) cat "$place/log.txt"; exit 1 ;;
    esac
fi

if [ -d "$gocode/src/github.com/hashicorp/raft-boltdb" ]; then
    by_path go vet $store/bench
    by_path go build -o "$place/bench" $store/bench
    "$place/bench" -dir "$place" -rounds 1 >"$place/log.txt" || { cat "$place/log.txt"; exit 1; }
else
    skip " bench: raft-boltdb is not installed (golang-github-hashicorp-raft-boltdb-dev)"
fi

# As README.md says, from the first line: a module of a user's. The proxy has the same sources, as the version that is
# asked for. Debian leaves out a package that is imported on Windows, and go mod tidy looks for it all the same: an empty
# one stands for it.
command -v python3 >/dev/null || { skip ", as a module: there is no Python"; exit 0; }
by_path go list -deps $store/example | grep -E '^[a-z]+\.[a-z.]+/' | grep -v '^example\.org/' >"$place/proxy.packages"
language=$(go env GOVERSION | sed 's/^go\([0-9]*\.[0-9]*\).*/\1/') # newer sources need what Debian compiles them with
python3 -c 'import os, sys, zipfile
proxy, sources, raft, go = sys.argv[1:]
modules = {}
for package in open(proxy + ".packages").read().split():
    modules.setdefault("/".join(package.split("/")[:3]), []).append(package)
for module, packages in modules.items():
    version = raft if module.endswith("/raft") else "v0.1.0"
    at = os.path.join(proxy, module, "@v", version)
    os.makedirs(os.path.dirname(at))
    with zipfile.ZipFile(at + ".zip", "w") as archive:
        for package in packages:
            for file in os.listdir(os.path.join(sources, package)):
                path = os.path.join(sources, package, file)
                if os.path.isfile(path) and not file.endswith("_test.go") and file != "go.mod":
                    archive.write(path, module + "@" + version + package[len(module):] + "/" + file)
        if module == "golang.org/x/sys":
            archive.writestr(module + "@" + version + "/windows/windows.go", "package windows\n")
    open(at + ".mod", "w").write("module " + module + "\n\ngo " + go + "\n")
    open(at + ".info", "w").write("{\"Version\":\"" + version + "\"}")
    open(os.path.dirname(at) + "/list", "w").write(version + "\n")
' "$place/proxy" "$gocode/src" "$(sed -n 's,.*hashicorp/raft \(v[0-9.]*\)$,\1,p' go.mod)" "$language"
mkdir "$place/user"
cp example/main.go "$place/user"
cd "$place/user"
export GOPROXY="file://$place/proxy" GOSUMDB=off GOFLAGS=-modcacherw GOPATH="$place/modules"
{
    go mod init kv
    go mod edit -replace "$binding=$binding_folder" -replace "$store=$binding_folder/raft"
    go mod tidy
    go list -deps .
    # The same sources were compiled above. By their other names Go compiles them again, and raft with them.
    [ -n "${TWINLOG_FEW:-}" ] || go build -o kv .
} >"$place/log.txt" 2>&1 || { cat "$place/log.txt"; exit 1; }
[ -n "${TWINLOG_FEW:-}" ] || ./kv 2>&1 | grep -q '^.* usage: kv -id'
