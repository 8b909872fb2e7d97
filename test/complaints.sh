#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# complaints.sh: for tests that look at the tree, or at what is made of it. They read it in (with .), and end with 1 if $failures is not 0.
# shellcheck disable=SC2034 # its readers use it
failures=0

# make_scratch TEMPLATE: sets $scratch to a new folder, which is removed at the end.
make_scratch()
{
    scratch=$(mktemp -d "$1") || exit 1
    trap 'rm -rf "$scratch"' EXIT
}

# report WHAT COMPLAINTS: shows the complaints if there are any.
report()
{
    if [ -n "$2" ]; then
        printf -- '--- %s\n%s\n' "$1" "$2"
        failures=$((failures + 1))
    fi
}

# tree_files: what is committed or about to be; without git, what an unpacked archive holds.
tree_files()
{
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard
    else
        find . '(' -path ./build -o -path ./.git ')' -prune -o -type f -print | sed 's,^\./,,'
    fi | while read -r file; do
        if [ -f "$file" ]; then echo "$file"; fi
    done
}

# prose FILE: the file without its fenced blocks.
# shellcheck disable=SC2016 # the backticks are a fence
prose() { sed '/^```/,/^```$/d' "$1"; }

# dead_links_below FOLDER: of the documents in it, where it is installed.
dead_links_below()
{
    find "$1" -name '*.md' | while read -r document; do
        prose "$document" | grep -oE '\]\([^)#]+' | sed 's/^](//' | grep -v '^https://' | while read -r target; do
            [ -e "$(dirname "$document")/$target" ] || echo "${document#"$1"/}: $target is not installed"
        done
    done
}
