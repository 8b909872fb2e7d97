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
# Debian's here. Their limits of time are made for a store in memory, so this one is in memory here, too; that it is durable
# is for the other tests.
suites=suite.test
memory=$place
[ ! -w /dev/shm ] || memory=$(mktemp -d /dev/shm/bindings-go-raft.XXXXXX)
trap 'rm -rf "$place" ${links:+"$links"} "$memory"' EXIT
mkdir -p "$place/gopath/src/$suites"
# copy_suite PACKAGE NAME
copy_suite() { cp -R "$gocode/src/github.com/hashicorp/$1" "$place/gopath/src/$suites/$2"; }
# be_patient FOLDER: 50 ms without a heartbeat are an election, and on a busy machine any 50 ms may be without one. And up to
# raft 1.2 the news of a lead is lost if it comes before the test waits for it, as where a server starts as a leader.
be_patient()
{
    sed -i -E 's/(conf\.(Heartbeat|Election|LeaderLease)Timeout = )50 /\1250 /; s/(longstopTimeout: *)5 /\130 /' "$1/testing.go"
    sed -i 's/\(leaderCh: *make(chan bool\)),/\1, map[bool]int{true: 1}[conf.StartAsLeader]),/' "$1/api.go"
}
# compile_suite PROGRAM PACKAGE
compile_suite()
{
    by_path go test -tags twinlog_suite -c -o "$place/$1" "$2" >"$place/suite.txt" 2>&1 || { cat "$place/suite.txt"; exit 1; }
}
# run_suite PROGRAM TESTS
run_suite()
{
    (cd "$memory" && TMPDIR="$memory" "$place/$1" -test.v -test.timeout 400s -test.run "$2") >"$place/suite.txt" 2>&1
}
# passes PROGRAM TEST: within three tries, each in a process of its own: some end theirs with a panic, and so all behind it.
passes()
{
    for _ in 1 2 3; do
        ! run_suite "$1" "^$2\$" || return 0
    done
    return 1
}
if [ -d "$gocode/src/github.com/hashicorp/raft-boltdb" ]; then
    copy_suite raft-boltdb raft-boltdb
    cp suite/boltdb/bolt_store.go "$place/gopath/src/$suites/raft-boltdb"
    compile_suite boltdb $suites/raft-boltdb
    run_suite boltdb BoltStore_ || { cat "$place/suite.txt"; exit 1; }
    echo "the tests of raft-boltdb: $(grep -c '^--- PASS' "$place/suite.txt") passed"
fi
if [ -n "${TWINLOG_CI:-}" ]; then # half a minute
    copy_suite raft raft
    be_patient "$place/gopath/src/$suites/raft"
    cp -R "$place/gopath/src/$suites/raft" "$place/gopath/src/$suites/original"
    cp suite/raft/inmem_store.go "$place/gopath/src/$suites/raft"
    compile_suite raft $suites/raft
    # They wait for elections by the clock, so what fails is tried again. What fails with hashicorp's own store, too, such
    # as a test of rights that is run as root, is none of this one.
    passed=0
    failed=
    theirs=
    for test in $("$place/raft" -test.list .); do
        if passes raft "$test"; then
            ! grep -q '^--- PASS' "$place/suite.txt" || passed=$((passed + 1))
            continue
        fi
        mv "$place/suite.txt" "$place/failed.txt"
        [ -x "$place/original" ] || compile_suite original $suites/original
        if passes original "$test"; then
            cat "$place/failed.txt"
            failed="$failed $test"
        else
            theirs="$theirs $test"
        fi
    done
    [ -z "$failed" ] || { echo "tests of hashicorp/raft that fail on this store, and pass on its own:$failed"; exit 1; }
    [ "$passed" -gt 0 ] || { echo "no test of hashicorp/raft was run"; exit 1; }
    echo "the tests of hashicorp/raft: $passed passed"
    [ -z "$theirs" ] || skip ", of hashicorp's tests:$theirs, which fails with its own store here"
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
    # a quarter of the time of all that is tested here
    [ -n "${TWINLOG_FEW:-}" ] || "$place/bench" -dir "$place" -rounds 1 >"$place/log.txt" || { cat "$place/log.txt"; exit 1; }
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
