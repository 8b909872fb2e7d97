#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# console.sh BUILD FILE: does what a document says to type, in a directory of its own, and compares the answers. In a
# ```console block "$ COMMAND" is followed by what it prints; "..." stands for anything. A command that fails ends with
# "# exit STATUS". A line <!-- first: COMMAND --> outside the blocks makes what the next block needs; with "try" in place
# of "first" that block is left out where the command fails, as it may without root.
set -u
TREE=$(realpath "$(dirname "$0")/../..") || exit 1 # for what a line "first" takes from there
export TREE
build=$(realpath "$1") || exit 1
file=$(realpath "$2") || exit 1
place=$(mktemp -d "$build/console.XXXXXX") || exit 1
trap 'umount "$place/here/disk" "$place/here/disk2" "$place/here/disk3" 2>/dev/null; rm -rf "$place"' EXIT
mkdir "$place/bin" "$place/here"
ln -s "$build/tools/twinlog" "$place/bin/twinlog"
ln -s "$build/docs/examples/example-kvstore" "$place/here/kvstore"
# "sudo -u USER COMMAND" is the same user without the rights of root.
cat >"$place/bin/sudo" <<'END'
#!/bin/sh
shift 2
[ "$(id -u)" != 0 ] || exec setpriv --bounding-set=-all --inh-caps=-all "$@"
exec "$@"
END
chmod +x "$place/bin/sudo"
PATH=$place/bin:$PATH
export LC_ALL=C
commands=0
failures=0

# check COMMAND: runs it, and compares with the lines in the file "expected".
check()
{
    expected_status=$(echo "$1" | sed -n 's/.*# exit \([0-9]*\)$/\1/p')
    (cd "$place/here" && sh -c "$1") >"$place/printed" 2>&1 </dev/null
    status=$?
    commands=$((commands + 1))
    pattern=$(sed 's/[][*?\\]/\\&/g; s/\.\.\./*/g' "$place/expected")
    printed=$(cat "$place/printed")
    # shellcheck disable=SC2254 # it is a pattern
    case $printed in
    $pattern) [ "$status" = "${expected_status:-0}" ] && return ;;
    esac
    printf -- '--- %s (exit %s)\n%s\n--- expected:\n%s\n' "$1" "$status" "$printed" "$(cat "$place/expected")"
    failures=$((failures + 1))
}

# Lines of the blocks, each with a word in front: first, command, answer.
awk '/^<!-- (first|try): / { sub(/^<!-- /, ""); sub(/: /, " "); sub(/ -->$/, ""); print }
     /^```/ { inside = $0 == "```console"; next }
     inside && /^\$ / { print "command " substr($0, 3); next }
     inside { print "answer " $0 }
     END { print "end" }' "$file" >"$place/script"
command=
is_left_out=
while read -r word line <&3; do
    if [ "$word" != answer ] && [ -n "$command" ]; then
        check "$command"
        command=
    fi
    case $word in
    first | try)
        is_left_out=
        (cd "$place/here" && sh -c "$line") >"$place/printed" 2>&1 || is_left_out=yes
        [ -z "$is_left_out" ] || [ "$word" = try ] || { cat "$place/printed" && exit 1; }
        [ -z "$is_left_out" ] || echo "SKIP $(basename "$file"): what follows on $line"
        ;;
    command)
        [ -z "$is_left_out" ] || continue
        command=$line
        case $line in cc\ *) command= ;; esac # the test install compiles with what is installed
        : >"$place/expected"
        ;;
    answer) printf '%s\n' "$line" >>"$place/expected" ;;
    esac
done 3<"$place/script"
[ "$commands" -gt 0 ] || { echo "no command found"; exit 1; }
[ "$failures" = 0 ] && echo "$(basename "$file"): $commands commands do what it says"
exit "$((failures > 0))"
