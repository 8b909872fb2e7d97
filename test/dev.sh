# SPDX-License-Identifier: Apache-2.0
# What ./dev and its scripts have in common: packages, builds, output. Read by them in the top folder of the tree.
# shellcheck shell=sh disable=SC2034 # the lists and counts are for the scripts
# shellcheck source=test/strict.sh
. test/strict.sh

to_build="gcc libc6-dev cmake ninja-build pkgconf liburing-dev libisal-dev systemtap-sdt-dev"
to_test="$to_build check libuv1-dev g++ binutils clang libclang-rt-dev clang-format shellcheck cppcheck
    libraft-dev libnats-dev nats-server openssl librdkafka-dev musl-tools mandoc patch psmisc spin fuse3 libfuse3-dev
    e2fsprogs xfsprogs btrfs-progs zsh fish python3-build python3-dev python3-setuptools python3-wheel stunnel4
    golang-go golang-github-hashicorp-raft-dev golang-github-hashicorp-raft-boltdb-dev rustc cargo mypy redis-tools"
to_world="$to_test dosfstools faketime locales tzdata"
to_services="$to_build apache2-bin awstats busybox fail2ban goaccess less logrotate nginx-light python3
    python3-pyinotify rsync rsyslog systemd"
to_uml="kmod e2fsprogs"
to_kernels="$to_uml qemu-system-x86 xz-utils"
to_cluster="libraft-dev libuv1-dev"
to_peers="$to_build libdb-dev libleveldb-dev liblmdb-dev librocksdb-dev libspdlog-dev libsqlite3-dev libwiredtiger-dev gnuplot-nox"
to_bench="$to_peers redis-server redis-tools"
to_cover="$to_test gcovr"
to_deb="$to_peers build-essential git debhelper lintian debootstrap systemd-container libfuse3-dev libnats-dev libraft-dev librdkafka-dev
    libuv1-dev dh-python pybuild-plugin-pyproject python3-dev python3-setuptools python3-wheel"

jobs=$(nproc)
logs=build/logs

say() { printf '== %s\n' "$*"; }

# logged NAME COMMAND...: keeps the output in a file and shows it only when the command fails.
logged()
{
    log=$logs/$1.log
    shift
    mkdir -p "$logs"
    "$@" >"$log" 2>&1 && return 0
    cat "$log"
    echo "failed: $* (the output above is in $log)"
    return 1
}

missing()
{
    for package in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

as_root()
{
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "this needs root, and there is no sudo: $*"
        return 1
    fi
}

install_packages()
{
    logged apt-install as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# setup "PACKAGE...": what cannot be installed is named, and the word goes on without it.
setup()
{
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        say "not a Debian system; what these packages hold must be here already: $1"
        return 0
    fi
    # shellcheck disable=SC2046,SC2086 # one argument for each package
    set -- $(missing $1)
    [ $# -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        say "going on without these packages, which only root may install: $*"
        return 0
    fi
    say "installing $*"
    logged apt-update as_root apt-get update || true
    install_packages "$@" >/dev/null && return 0
    # All that can be installed at once: one by one takes minutes.
    installable=
    for package in "$@"; do
        if apt-get install --dry-run --no-install-recommends "$package" >/dev/null 2>&1; then
            installable="$installable $package"
        else
            say "going on without $package, which cannot be installed"
        fi
    done
    # shellcheck disable=SC2086 # one argument for each package
    [ -z "$installable" ] || install_packages $installable && return 0
    for package in $installable; do
        install_packages "$package" >/dev/null || say "going on without $package, which cannot be installed"
    done
}

# show_warnings LOG: what a compiler said that did not end the build.
show_warnings()
{
    count=$(grep -c 'warning:' "$1") || return 0
    grep -A 5 'warning:' "$1" | head -n 40
    say "$count warnings, which end no build but CI's (all of them are in $1)"
}

# build PRESET [TARGET...]
build()
{
    preset=$1
    shift
    say "build $preset"
    generator=
    command -v ninja >/dev/null || generator='Unix Makefiles'
    compiler=gcc
    case $preset in clang | fuzz) compiler=clang ;; esac
    errors=OFF
    ! is_strict "$compiler" || errors=ON
    logged "configure-$preset" cmake --preset "$preset" ${generator:+-G "$generator"} -DCMAKE_COMPILE_WARNING_AS_ERROR=$errors &&
        logged "build-$preset" cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"} &&
        show_warnings "$logs/build-$preset.log"
}
