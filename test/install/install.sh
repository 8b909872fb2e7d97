#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install.sh BUILD: installs BUILD into a folder of its own and does with it what a user would: compiles
# the program of README.md with pkg-config and with find_package, shared and static, and runs each.
set -eu
build=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
readme=$here/../../README.md
place=$(mktemp -d "$build/install.XXXXXX")
trap 'rm -rf "$place"' EXIT

# The first ```c block that is a whole program.
awk '/^```c$/ { block = ""; inside = 1; next }
     /^```$/  { if (inside && block ~ /main\(/) { printf "%s", block; exit } inside = 0 }
     inside   { block = block $0 "\n" }' "$readme" >"$place/main.c" || true
[ -s "$place/main.c" ] || { echo "skipped: README.md has no C program"; exit 77; }

cmake --install "$build" --prefix "$place/prefix" >"$place/install.txt"
prefix=$place/moved # what was installed may be moved
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
    (cd "$place/$1" && "$2")
}

# shellcheck disable=SC2046 # pkg-config answers with several words
cc -o "$place/by-pkg-config" "$place/main.c" $(pkg-config --cflags --libs twinlog)
use pkg-config-shared "$place/by-pkg-config"
ldd "$place/by-pkg-config" | grep -q 'libtwinlog\.so\.0' || { echo "not linked to libtwinlog.so.0"; exit 1; }

# shellcheck disable=SC2046
cc -o "$place/by-archive" "$place/main.c" $(pkg-config --static --cflags --libs twinlog | sed 's/-ltwinlog/-l:libtwinlog.a/')
use pkg-config-static "$place/by-archive"
if ldd "$place/by-archive" | grep libtwinlog; then echo "linked to the shared library"; exit 1; fi

generator=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build/CMakeCache.txt")
mkdir "$place/project"
cp "$here/CMakeLists.txt" "$place/main.c" "$place/project"
cmake -G "$generator" -S "$place/project" -B "$place/project/build" -DCMAKE_PREFIX_PATH="$prefix" >"$place/project.txt"
cmake --build "$place/project/build" >>"$place/project.txt"
use find-package-shared "$place/project/build/shared"
use find-package-static "$place/project/build/static"

# Another project that has targets of the same names takes the library, and installs nothing of it.
mkdir "$place/parent"
cat >"$place/parent/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(parent LANGUAGES C)
add_subdirectory($here/../.. twinlog EXCLUDE_FROM_ALL)
foreach(name demo unit crash sim fuzz bench)
  add_executable(\${name} $place/main.c)
  target_link_libraries(\${name} PRIVATE twinlog::static)
endforeach()
install(TARGETS demo)
END
cmake -G "$generator" -S "$place/parent" -B "$place/parent/build" -DBUILD_TESTING=ON >"$place/parent.txt"
grep -q "add_test" "$place"/parent/build/CTestTestfile.cmake "$place"/parent/build/twinlog/CTestTestfile.cmake 2>/dev/null &&
    { echo "a project that takes the library has its tests"; exit 1; }
cmake --build "$place/parent/build" --target demo >>"$place/parent.txt"
cmake --install "$place/parent/build" --prefix "$place/parent/prefix" >>"$place/parent.txt"
[ "$(find "$place/parent/prefix" -type f | wc -l)" = 1 ] || { echo "more is installed than the project's own"; exit 1; }
use subproject "$place/parent/prefix/bin/demo"

# An absolute library directory is the one that pkg-config says.
cmake -G "$generator" -S "$here/../.." -B "$place/absolute" -DCMAKE_INSTALL_LIBDIR=/opt/twinlog/lib >"$place/absolute.txt"
grep -qx 'libdir=/opt/twinlog/lib' "$place/absolute/twinlog.pc" || { echo "wrong libdir:"; cat "$place/absolute/twinlog.pc"; exit 1; }

version=$(sed -n 's/^#define TWINLOG_VERSION "\(.*\)"/\1/p' "$prefix/include/twinlog.h")
echo "--- installed, version $version"
"$prefix/bin/twinlog" --version | grep -F "$version"
[ "$(pkg-config --modversion twinlog)" = "$version" ]
for file in share/man/man1/twinlog.1 share/doc/twinlog/LICENSE share/doc/twinlog/README.md; do
    [ -s "$prefix/$file" ] || { echo "not installed: $file"; exit 1; }
done
