#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# systems.sh [--few] [SUITE...]: ./dev demo and ./dev test on a system that was just made by debootstrap and holds nothing
# but a clone of HEAD; by default trixie. SUITE: bookworm, trixie, forky, or another name of a Debian. --few: builds there
# without a warning, and runs the suites that do not need half of Debian. Needs root. Where no system can be made it is
# skipped by name. What was printed there is in build/logs/system-SUITE-WORD.log; the base of each system is kept in
# build/systems until ./dev clean.
set -eu
cd "$(dirname "$0")/.."
# shellcheck source=test/dev.sh
. test/dev.sh

place=$PWD/build/systems
root=
failed=0
# What the few suites need, among them the raft library: each system has another version.
few_packages="$to_build git check libraft-dev libuv1-dev"
few_suites='^(unit-(base|format|golden|io|io_refused|names|commit|read|reader_live|recover|descriptors|fork|mapped|shared|sink|sink_exact|state|storms)|raft-unit|example-.*|cli|cli-cat|cli-wrong)$'

skip()
{
    echo "SKIP system-$1: $2"
}

# mirror: the address from which this machine takes its packages.
mirror()
{
    sed -n 's/^URIs: *//p; s/^deb [^h]*\(http[^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1
}

# make_base SUITE: an older debootstrap does not know a newer suite; the script of sid serves each of them.
make_base()
{
    script=/usr/share/debootstrap/scripts/$1
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    from=$(mirror)
    logged "debootstrap-$1" debootstrap --variant=minbase "$1" "$root" ${from:+"$from"} "$script" || return 1
    tar -C "$root" -cf "$place/$1.tar.new" . && mv "$place/$1.tar.new" "$place/$1.tar"
}

unmake_root()
{
    [ -n "$root" ] || return 0
    for mounted in dev sys proc; do
        umount -l "$root/$mounted" 2>/dev/null || true
    done
    rm -rf --one-file-system "$root"
    root=
}

# make_root SUITE: a system with the tree in /project.
make_root()
{
    mkdir -p "$place"
    root=$(mktemp -d "$place/$1.XXXXXX")
    if [ -f "$place/$1.tar" ]; then
        tar -C "$root" -xf "$place/$1.tar" || return 1
    else
        make_base "$1" || return 1
    fi
    chmod 755 "$root" # it becomes /, which others enter

    cp /etc/resolv.conf "$root/etc/" 2>/dev/null || true
    cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
    for mounted in proc sys dev; do
        mount --rbind "/$mounted" "$root/$mounted" && mount --make-rslave "$root/$mounted" || return 1
    done
    git clone -q "$PWD" "$root/project"
}

# inside SUITE WORD COMMAND: how long it took, or that it failed, and where one reads why.
inside()
{
    log=$logs/system-$1-$2.log
    began=$(date +%s)
    if chroot "$root" sh -c "cd /project && $3" >"$log" 2>&1 </dev/null; then
        say "$1: $2, $(($(date +%s) - began)) s$(sed -n 's/^\([0-9]*% tests passed.*\|[0-9]* passed, .*\)/: \1/p' "$log" | tail -n 1)"
        return 0
    fi
    tail -n 60 "$log"
    say "$1: $2 failed after $(($(date +%s) - began)) s; all that it printed is in $log"
    return 1
}

# has_no_warning SUITE LOG: those of another compiler end no build, but README.md says that there are none.
has_no_warning()
{
    ! grep -q 'warning:' "$2" || { show_warnings "$2" && say "$1: warnings" && return 1; }
}

few()
{
    inside "$1" packages "export DEBIAN_FRONTEND=noninteractive; apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends $few_packages" &&
        inside "$1" build "cmake --preset dev -DTWINLOG_BENCH=OFF -G Ninja && cmake --build --preset dev" &&
        has_no_warning "$1" "$logs/system-$1-build.log" &&
        inside "$1" suites "ctest --preset dev -R '$few_suites' --no-tests=error"
}

whole()
{
    inside "$1" demo "./dev demo" && inside "$1" test "./dev test"
}

is_clean()
{
    dirty=$(git -C "$root/project" status --porcelain | head -n 1)
    [ -n "$dirty" ] || return 0
    say "$1: the work tree is not clean afterwards: $dirty"
    return 1
}

try_system()
{
    say "system $1"
    if make_root "$1"; then
        "$what" "$1" && is_clean "$1" || failed=$((failed + 1))
    else
        skip "$1" "no such system can be made here: $logs/debootstrap-$1.log"
    fi
    unmake_root
}

what=whole
if [ "${1:-}" = --few ]; then
    what=few
    shift
fi
case ${1:-} in -*) echo "systems: there is no option $1, only --few" >&2 && exit 2 ;; esac
[ $# -gt 0 ] || set -- trixie
if [ "$(id -u)" != 0 ]; then
    for suite in "$@"; do
        skip "$suite" "only root can make one"
    done
    exit 0
fi

setup "debootstrap git"
mkdir -p "$logs"
trap unmake_root EXIT
trap 'exit 130' INT TERM HUP
for suite in "$@"; do
    try_system "$suite"
done
[ "$failed" = 0 ]
