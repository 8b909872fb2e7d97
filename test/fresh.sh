#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fresh.sh PROGRAM [ARGUMENT...]: runs the program with one argument more, a directory that does not
# exist yet, beside the caller's directory and not in /tmp: that may be memory. Removes it afterwards.
set -u
place=$(mktemp -d "$PWD/fresh.XXXXXX") || exit 1
trap 'rm -rf "$place"' EXIT
cd "$place" || exit 1
"$@" "$place/log"
