#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD: installs BUILD into a folder of its own and does with it what a user would: compiles
# the program of README.md with pkg-config and with find_package, shared and static, and runs each. The links of the
# installed documents lead to installed documents.
set -eu
build=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
readme=$here/../../README.md
# shellcheck source=test/complaints.sh
. "$here/../complaints.sh"
place=$(mktemp -d "$build/install.XXXXXX")
trap 'rm -rf "$place"' EXIT
odd="$place/Müllers Projekte (alt)" # what users call their folders
mkdir "$odd"

# The first ```c block that is a whole program.
awk '/^```c$/ { block = ""; inside = 1; next }
     /^```$/  { if (inside && block ~ /main\(/) { printf "%s", block; exit } inside = 0 }
     inside   { block = block $0 "\n" }' "$readme" >"$place/main.c" || true
[ -s "$place/main.c" ] || { echo "README.md has no C program"; exit 1; }
[ "$(wc -l <"$place/main.c")" -le 25 ] || { echo "the program of README.md has more than 25 lines"; exit 1; }

cmake --install "$build" --prefix "$odd/prefix" >"$place/install.txt" 2>&1
"$odd/prefix/bin/twinlog" --version >>"$place/install.txt"
grep -q 'systemd, logrotate and sh take' "$place/install.txt" || { echo "units with a space in a path are not warned of"; exit 1; }
rm -r "$odd/prefix"
(umask 077 && cd "$place" && cmake --install "$build" --prefix prefix) >"$place/install.txt" # units name it in full
mode=$(find "$place/prefix" -mindepth 1 ! -type l ! -perm -o=r)
[ -z "$mode" ] || { echo "with umask 077 nobody else may read:"; echo "$mode"; exit 1; }
cp "$build/install_manifest.txt" "$place/manifest"

# What is installed names its prefix: units, the stanza for logrotate, the links of the alerts, the manual.
documents=$place/prefix/share/doc/twinlog
units=$place/prefix/lib/systemd/system
for unit in "$here"/../../packaging/*/*@.*; do
    [ -e "$units/${unit##*/}" ] || { echo "not where systemd looks for units: ${unit##*/}"; exit 1; }
done
if grep -r /usr/local "$documents/sink" "$documents/monitoring" "$units" "$place/prefix/share/man/man7"; then
    echo "this is not where it was installed"
    exit 1
fi
grep -ho "$place/prefix[^ :#]*" "$units"/*@.* "$documents/sink/logrotate" "$documents/monitoring/alerts.yaml" \
    "$place/prefix/share/man/man7/twinlog.7" | sort -u >"$place/named.txt"
[ "$(wc -l <"$place/named.txt")" = 4 ] || { echo "other places are named:"; cat "$place/named.txt"; exit 1; }
xargs ls -d <"$place/named.txt"
prefix=$odd/moved # what was installed may be moved
mv "$place/prefix" "$prefix"
pc=$(find "$prefix" -name twinlog.pc)
lib=$(dirname "$(dirname "$pc")")
export PKG_CONFIG_PATH="${pc%/*}"
export LD_LIBRARY_PATH="$lib"

# use NAME PROGRAM: runs it in a folder of its own.
use()
{
    echo "--- $1"
    mkdir "$place/$1"
    (cd "$place/$1" && "$2") | tee "$place/$1.txt"
    [ "$(cat "$place/$1.txt")" = hello ] || { echo "$1: not what the program of README.md prints"; exit 1; }
}

# compile PROGRAM SOURCE FLAGS: the flags are words for a shell; pkg-config leaves brackets as they are.
compile()
{
    eval "set -- \"\$1\" \"\$2\" $(echo "$3" | sed 's/[()]/\\&/g')"
    program=$1
    source=$2
    shift 2
    cc -o "$program" "$source" "$@"
}

compile "$place/by-pkg-config" "$place/main.c" "$(pkg-config --cflags --libs twinlog)"
use pkg-config-shared "$place/by-pkg-config"
ldd "$place/by-pkg-config" | grep -q 'libtwinlog\.so\.0' || { echo "not linked to libtwinlog.so.0"; exit 1; }

compile "$place/by-archive" "$place/main.c" "$(pkg-config --static --cflags --libs twinlog | sed 's/-ltwinlog/-l:libtwinlog.a/')"
use pkg-config-static "$place/by-archive"
if ldd "$place/by-archive" | grep libtwinlog; then echo "linked to the shared library"; exit 1; fi

# Without any shared library.
if compile "$place/alone" "$place/main.c" "-static $(pkg-config --static --cflags --libs twinlog)" 2>"$place/alone.txt"; then
    use pkg-config-alone "$place/alone"
else
    for library in c uring $(sed -n 's/^Requires.private:.*libisal.*/isal/p' "$pc"); do
        [ "$(cc -print-file-name="lib$library.a")" != "lib$library.a" ] || missing=lib$library.a
    done
    [ -n "${missing:-}" ] || { cat "$place/alone.txt"; exit 1; }
    echo "--- not linked without shared libraries: $missing is not here"
fi

# libtwinlog-raft, where it was built.
if pkg-config --exists twinlog-raft; then
    printf '#include <twinlog_raft.h>\nint main(void) { twinlog_raft_free(0); return 0; }\n' >"$place/raft.c"
    compile "$place/by-raft" "$place/raft.c" "$(pkg-config --cflags --libs twinlog-raft)"
    "$place/by-raft"
fi

generator=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build/CMakeCache.txt")
mkdir "$place/project"
cp "$here/CMakeLists.txt" "$place/main.c" "$place/project"
cmake -G "$generator" -S "$place/project" -B "$place/project/build" -DCMAKE_PREFIX_PATH="$prefix" >"$place/project.txt"
cmake --build "$place/project/build" >>"$place/project.txt"
use find-package-shared "$place/project/build/shared"
use find-package-static "$place/project/build/static"

# The libraries of raft are a package of their own; without it the other one is whole.
mkdir "$place/without"
find "$prefix" -name '*twinlog-raft*' -exec mv {} "$place/without" \;
rm -r "$place/project/build"
cmake -G "$generator" -S "$place/project" -B "$place/project/build" -DCMAKE_PREFIX_PATH="$prefix" >"$place/project.txt" ||
    { echo "find_package(twinlog) needs the files of twinlog-raft"; exit 1; }

# Another project that has targets of the same names takes the library, and installs nothing of it. Nothing that one
# of the two has set reaches the other: warnings, variables, what the parent makes of its own files.
parent()
{
    mkdir "$odd/$1"
    cat >"$odd/$1/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(parent LANGUAGES C)
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_UNITY_BUILD ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
get_cmake_property(names VARIABLES)
foreach(name IN LISTS names)
  set(before_\${name} "\${\${name}}")
endforeach()
$2
get_cmake_property(after VARIABLES)
foreach(name IN LISTS names)
  if(name MATCHES "^(CMAKE|BUILD)_" AND NOT name MATCHES "^CMAKE_MATCH_" AND NOT "\${before_\${name}}" STREQUAL "\${\${name}}")
    message(FATAL_ERROR "\${name} was '\${before_\${name}}' and is '\${\${name}}'")
  endif()
endforeach()
get_directory_property(options COMPILE_OPTIONS)
if(options)
  message(FATAL_ERROR "options of the parent: \${options}")
endif()
foreach(name demo unit crash sim fuzz bench uninstall)
  add_executable(\${name} "$place/main.c")
  target_link_libraries(\${name} PRIVATE twinlog::static)
endforeach()
add_executable(dynamic "$place/main.c")
target_link_libraries(dynamic PRIVATE twinlog::twinlog)
install(TARGETS demo)
END
    cmake -G "$generator" -S "$odd/$1" -B "$odd/$1/build" -DBUILD_TESTING=ON >"$place/$1.txt"
    if grep -q add_test "$odd/$1/build/CTestTestfile.cmake" "$odd/$1/build"/*/CTestTestfile.cmake 2>/dev/null; then
        echo "a project that takes the library has its tests"
        exit 1
    fi
    if grep -e ' -W' "$odd/$1/build/compile_commands.json"; then
        echo "a project that takes the library has its warnings"
        exit 1
    fi
}
parent subproject "add_subdirectory(\"$here/../..\" twinlog)"
cmake --build "$odd/subproject/build" -j 2 --target demo dynamic >>"$place/subproject.txt" || { cat "$place/subproject.txt"; exit 1; }
cmake --install "$odd/subproject/build" --prefix "$odd/subproject/prefix" >>"$place/subproject.txt"
[ "$(find "$odd/subproject/prefix" -type f | wc -l)" = 1 ] || { echo "more is installed than the project's own"; exit 1; }
use "subproject-static" "$odd/subproject/prefix/bin/demo"
use "subproject-shared" "$odd/subproject/build/dynamic"
parent fetched "include(FetchContent)
FetchContent_Declare(twinlog SOURCE_DIR \"$here/../..\")
FetchContent_MakeAvailable(twinlog)"

# An absolute library directory is the one that pkg-config says.
cmake -G "$generator" -S "$here/../.." -B "$place/absolute" -DBUILD_TESTING=OFF -DCMAKE_INSTALL_LIBDIR=/opt/twinlog/lib >"$place/absolute.txt"
grep -qx 'libdir=/opt/twinlog/lib' "$place/absolute/twinlog.pc" || { echo "wrong libdir:"; cat "$place/absolute/twinlog.pc"; exit 1; }

# In /usr pkg-config leaves out the folders that every compiler has: -isystem /usr/include breaks C++.
cmake -G "$generator" -S "$here/../.." -B "$place/usr" -DBUILD_TESTING=OFF -DBUILD_SHARED_LIBS=ON -DCMAKE_INSTALL_PREFIX=/usr \
    -DCMAKE_INSTALL_LIBDIR=lib >"$place/usr.txt"
flags=$(PKG_CONFIG_PATH=$place/usr pkg-config --cflags twinlog)
[ -z "${flags# }" ] || { echo "flags for a library in /usr: $flags"; exit 1; }

# What is made to be installed is hardened, and with BUILD_SHARED_LIBS the command has the shared library.
for flag in -fstack-protector-strong -D_FORTIFY_SOURCE=2; do
    ! grep '"command":' "$place/usr/compile_commands.json" | grep -v -e "$flag" | grep . ||
        { echo "compiled without $flag"; exit 1; }
done
if [ "$generator" = Ninja ]; then
    ninja -C "$place/usr" -t commands tools/twinlog | tail -n 1 >"$place/link.txt"
else
    cp "$place/usr/tools/CMakeFiles/twinlog_command.dir/link.txt" "$place/link.txt"
fi
for word in -z,now -pie libtwinlog.so; do
    grep -q -e "$word" "$place/link.txt" || { echo "the command is linked without $word:"; cat "$place/link.txt"; exit 1; }
done

version=$(sed -n 's/^#define TWINLOG_VERSION "\(.*\)"/\1/p' "$prefix/include/twinlog.h")
echo "--- installed, version $version"
"$prefix/bin/twinlog" --version | grep -F "$version"
[ "$(pkg-config --modversion twinlog)" = "$version" ]
pages=$(find "$here/../../man" -name '*.[137]' | sed 's,.*/\(.*\)\(.\)$,share/man/man\2/\1\2,')
for file in $pages share/bash-completion/completions/twinlog share/doc/twinlog/LICENSE share/doc/twinlog/README.md; do
    [ -s "$prefix/$file" ] || { echo "not installed: $file"; exit 1; }
done

# Uninstalling leaves what is not ours.
echo "--- uninstall"
cp -a "$prefix" "$place/prefix"
touch "$place/prefix/share/doc/twinlog/note" "$place/prefix/include/other.h"
cmake -D manifest="$place/manifest" -P "$here/../../cmake/uninstall.cmake"
left=$(cd "$place/prefix" && find . ! -type d | sort | tr '\n' ' ')
[ "$left" = "./include/other.h ./share/doc/twinlog/note " ] || { echo "left behind, or too much is gone: $left"; exit 1; }
for folder in lib/cmake/twinlog share/doc/twinlog/docs; do
    [ ! -e "$place/prefix/$folder" ] || { echo "left behind: $folder"; exit 1; }
done
if cmake -D manifest="$place/no-manifest" -P "$here/../../cmake/uninstall.cmake" 2>/dev/null; then
    echo "uninstalled what was never installed"
    exit 1
fi

dead_links_below "$prefix/share/doc/twinlog" >"$place/links.txt"
[ ! -s "$place/links.txt" ] || { cat "$place/links.txt"; exit 1; }
