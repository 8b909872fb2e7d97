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

# included FILE: every file of the tree that FILE includes, as a path from the root of the tree; or
# "? NAME" for a quoted name that is nowhere.
included()
{
    sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]\([^>"]*\)[>"].*/\1/p' "$1" | while read -r name; do
        for candidate in "${1%/*}/$name" "src/$name" "include/$name"; do
            [ -f "$candidate" ] || continue
            case $candidate in # a process for each include takes more than the rest
            *..*) realpath --relative-to=. "$candidate" ;;
            *) echo "$candidate" ;;
            esac
            continue 2
        done
        grep -q "include[[:space:]]*\"$name\"" "$1" && echo "? $name"
    done
}

# check FILE ALLOWED...: FILE includes nothing outside the folders ALLOWED and the public header.
check()
{
    file=$1
    shift
    for target in $(included "$file" | tr ' ' ':'); do
        case $target in
        include/*.h) continue ;;
        '?:'*) fail "$file: includes ${target#??}, which is not in the tree" && continue ;;
        esac
        case " $* " in
        *" ${target%/*} "*) ;;
        *) fail "$file: must not include $target" ;;
        esac
    done
}

layers=$(sed -n 's/^\([a-z]*\):.*/\1/p' src/LAYERS)
for layer in $layers; do
    allowed="src/$layer $(sed -n "s/^$layer://p" src/LAYERS | sed 's,[a-z][a-z]*,src/&,g')"
    for file in src/"$layer"/*.[ch]; do
        # shellcheck disable=SC2086 # one argument for each folder
        [ -f "$file" ] && check "$file" $allowed
    done
done

for folder in src/*/; do
    folder=${folder%/}
    echo "$layers" | grep -qx "${folder#src/}" || fail "$folder is not in src/LAYERS"
done
for file in src/*.[ch] src/*/*/*; do
    [ -f "$file" ] && fail "$file belongs to no layer"
done

for file in tools/*.[ch] tools/*/*.[ch] bench/*.[ch] powercut/*.[ch] docs/examples/*.[ch]; do
    [ -f "$file" ] && check "$file" "$(dirname "$file" | sed 's,^bench$,bench tools,; s,^tools/.*,& tools,; s,^tools$,& tools/archive,')"
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
