#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prepare.sh: for the tests of this module and of raft/, which read it in (with .) in their own folder. They set
# $name, of the test; $build, where the library is; $up, this folder as seen from theirs. It sets $place, which is removed
# at the end; $binding_folder, which is this folder by a name that Go takes; and what Go needs to find the library.
# shellcheck disable=SC2154 # its readers set them
go version 2>/dev/null | grep -qE 'go1\.(1[89]|[2-9][0-9])' || { echo "SKIP $name: there is no Go 1.18"; exit 77; }
place=$(mktemp -d "$build/$name.XXXXXX")
links=
trap 'rm -rf "$place" ${links:+"$links"}' EXIT
# Before Go 1.20 what pkg-config says of a path with a space, or with a letter that is not ASCII, is several flags, and no
# list of vendored modules has the replacement by a folder with a space.
include=$(realpath "$up/../../include")
library=$build
binding_folder=$(realpath "$up")
case $include$library in
*[!A-Za-z0-9/._+-]*)
    links=$(mktemp -d /tmp/twinlog-go.XXXXXX)
    ln -s "$include" "$links/include"
    ln -s "$library" "$links/library"
    ln -s "$binding_folder" "$links/go"
    include=$links/include
    library=$links/library
    binding_folder=$links/go
    ;;
esac
export TMPDIR="$place" GOPROXY=off GOTOOLCHAIN=local GOCACHE="${GOCACHE:-$build/go-cache}"
# As an installed library says it.
printf 'Name: twinlog\nDescription: the library in the build\nVersion: 0\nCflags: -I%s\nLibs: -L%s -ltwinlog\n' \
    "$include" "$library" >"$place/twinlog.pc"
export PKG_CONFIG_PATH="$place" CGO_LDFLAGS="-Wl,-rpath,$library"
# Go takes what it compiled before unless its own files or these flags have changed: so they change with the headers.
header=$(cat "$include"/*.h | cksum)
export CGO_CFLAGS="-O2 -g -DTWINLOG_HEADERS=${header%% *}"
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "gofmt would change $unformatted"; exit 1; }
