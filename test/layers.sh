#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# layers.sh [BUILD]: checks the law of the layers, src/LAYERS. A file in src/<layer>/ includes its own layer, the
# public headers and the layers named on its line; and in the objects of BUILD no layer uses a symbol of another
# one, also if a public header declares it. What is outside src/ includes the public headers and its own folder,
# except the tests. <liburing.h> is known to one file.
set -u
build=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.." || exit 1
failures=0

fail()
{
    echo "$*"
    failures=$((failures + 1))
}

# rules: each file, and the folders besides include/ of which it may include files.
rules()
{
    for layer in $layers; do
        allowed="src/$layer $(sed -n "s/^$layer://p" src/LAYERS | sed 's,[a-z][a-z]*,src/&,g')"
        for file in src/"$layer"/*.[ch]; do
            echo "$file $allowed"
        done
    done
    for file in tools/*.[ch] tools/*/*.[ch] bench/*.[ch] powercut/*.[ch] docs/examples/*.[ch]; do
        folder=${file%/*}
        case $folder in
        bench) echo "$file bench tools" ;;
        tools) echo "$file tools tools/archive" ;;
        tools/*) echo "$file $folder tools" ;;
        *) echo "$file $folder" ;;
        esac
    done
}

# strays: the includes that no rule allows. One process reads all files: one for each include took half a minute.
strays()
{
    # shellcheck disable=SC2016 # the program is awk's
    { find . -name build -prune -o -type f -name '*.[ch]' -printf 'there %P\n'; rules; } | awk '
        function without_dots(path) {
            while (sub(/[^\/]+\/\.\.\//, "", path)) {}
            return path
        }
        function find(folder, name) {
            if (without_dots(folder "/" name) in is_there) return without_dots(folder "/" name)
            if (("src/" name) in is_there) return "src/" name
            return ("include/" name) in is_there ? "include/" name : ""
        }
        $1 == "there" { is_there[$2] = 1; next }
        !($1 in is_there) { next } # a pattern that no file has matched
        {
            file = folder = $1
            sub(/\/[^\/]*$/, "", folder)
            count++
            while ((getline line < file) > 0) {
                if (line !~ /^[ \t]*#[ \t]*include[ \t]*[<"][^>"]*[>"]/) continue
                is_quoted = line ~ /^[ \t]*#[ \t]*include[ \t]*"/
                name = line
                sub(/^[ \t]*#[ \t]*include[ \t]*[<"]/, "", name)
                sub(/[>"].*/, "", name)
                target = home = find(folder, name)
                sub(/\/[^\/]*$/, "", home)
                if (target == "" && is_quoted) print file ": includes " name ", which is not in the tree"
                if (target == "" || home == "include") continue
                if (index(substr($0, length(file) + 1) " ", " " home " ") == 0) print file ": must not include " target
            }
            close(file)
        }
        END { if (count < 100) print "only " count + 0 " files have been looked at" }'
}

layers=$(sed -n 's/^\([a-z]*\):.*/\1/p' src/LAYERS)
found=$(strays)
[ -z "$found" ] || fail "$found"

for folder in src/*/; do
    folder=${folder%/}
    echo "$layers" | grep -qx "${folder#src/}" || fail "$folder is not in src/LAYERS"
done
for file in src/*.[ch] src/*/*/*; do
    [ -f "$file" ] && fail "$file belongs to no layer"
done

users=$(grep -lE '#[[:space:]]*include[[:space:]]*[<"]liburing' src/*/*.[ch])
[ "$(echo "$users" | wc -w)" = 1 ] || fail "liburing.h must be included by one file, not by:" "$users"

# strangers: what an object of the library uses, of which the home is a layer that its line does not name. An object without its
# source is none of the library's any more.
strangers()
{
    (cd "$build/CMakeFiles/twinlog_objects.dir" && nm -A -g -P src/*/*.o) | awk '
        BEGIN { while ((getline line < "src/LAYERS") > 0)
                    if (line !~ /^#/ && split(line, part, ":") == 2)
                        below[part[1]] = " " part[1] " " part[2] " " }
        { file = $1; sub(/\.o:$/, "", file); split(file, part, "/") }
        !(file in is_there) { is_there[file] = (getline line < file) > 0; close(file) }
        !is_there[file] { next }
        $3 ~ /[A-TV-Z]/ { home[$2] = part[2] }
        $3 == "U" { layer[++count] = part[2]; user[count] = file; name[count] = $2 }
        END { if (count == 0) print "no symbols"
              for (i = 1; i <= count; i++)
                  if (name[i] in home && index(below[layer[i]], " " home[name[i]] " ") == 0)
                      print user[i] ": must not use " name[i] " of src/" home[name[i]] }'
}

# makers_of_descriptors: objects of the library that make a descriptor by themselves, which may then be one of 0 to 2.
makers='open|openat|open64|openat64|creat|creat64|fopen|fopen64|freopen|opendir|dup|dup2|dup3|eventfd|epoll_create|epoll_create1'
makers="$makers|memfd_create|timerfd_create|signalfd|inotify_init|inotify_init1|pipe|pipe2|socket|socketpair|accept|accept4|mkstemp|mkostemp"
makers="$makers|tmpfile|popen|io_uring_setup|io_uring_queue_init|io_uring_queue_init_params|io_uring_queue_init_mem|fanotify_init|pidfd_open"
makers_of_descriptors()
{
    (cd "$build/CMakeFiles/twinlog_objects.dir" && nm -A -u -P src/*/*.o) |
        grep -E "^[^ ]*: ($makers) " | grep -vE '^src/(base/descriptor|io/io_uring).*: (io_uring_queue_init|open|openat|eventfd|memfd_create|timerfd_create|epoll_create1) '
    grep -nE 'SYS_(open|openat|openat2|eventfd|memfd|dup|pipe|socket|accept|io_uring_setup|epoll|timerfd|pidfd)|F_DUPFD' src/*/*.c |
        grep -v '^src/base/descriptor\.c:'
    grep -nE '(^|[^_a-z])(open|openat|fopen|opendir|eventfd|pipe2?|dup[23]?) ?\(' raft/*.c |
        grep -vE '^raft/io\.c:[0-9]+:.*open\((path, flags|"/", O_PATH)'
}

if [ -n "$build" ]; then
    found=$(strangers)
    [ -z "$found" ] || fail "$found"
    found=$(makers_of_descriptors)
    [ -z "$found" ] || fail "descriptors come from base/descriptor.c: $found"
fi

[ "$failures" = 0 ] && echo "layers: every include is allowed${build:+, and every symbol}"
exit "$((failures > 0))"
