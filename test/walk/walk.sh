#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# walk.sh PROGRAM [--list]: fails if one durable append passes more functions, files or locks than are allowed here.
# To follow an append from its call to its return one has to read so many. PROGRAM (walk.c) is the library without
# optimization, and prints the addresses of the functions that an append enters. --list prints the calls.
set -u
most_functions=120
most_files=18
locks=3
root=$(realpath "$(dirname "$0")/../..")
directory=$(mktemp -d "$PWD/walk.XXXXXX") || exit 1
trap 'rm -rf "$directory"' EXIT
command -v addr2line >/dev/null || { echo "SKIP guard-walk: there is no addr2line"; exit 77; }

"$1" "$directory/log" >"$directory/addresses" || exit 1
# each as: file function (a compiler's cache may have made the paths relative to the folder of the build)
addr2line -f -e "$1" <"$directory/addresses" | awk -v root="$root/" '
    NR % 2 { name = $0; next }
    { sub(/:[^:]*$/, ""); while (sub(/[^\/]+\/\.\.\//, "")); sub(root, ""); if (/^(src|include)/) print $0, name }' >"$directory/calls"
sort -u "$directory/calls" >"$directory/functions"
cut -d ' ' -f 1 "$directory/functions" | uniq >"$directory/files"
[ "${2-}" = --list ] && cat "$directory/calls"
calls=$(wc -l <"$directory/calls")
functions=$(wc -l <"$directory/functions")
files=$(wc -l <"$directory/files")
taken=$(grep -c ' twl_mutex_lock$' "$directory/calls")
echo "a durable append: $calls calls of $functions functions in $files files, $taken locks"
[ "$calls" -gt 20 ] && [ "$functions" -le "$most_functions" ] && [ "$files" -le "$most_files" ] &&
    [ "$taken" = "$locks" ]
