#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kernels.sh BUILD [KERNEL...]: runs tests of BUILD/dev under other kernels. KERNEL: uml, user mode Linux as Debian has
# it, the default; uml-few, of that the kills, the command and a power cut of ext4, in minutes; or a version, as 6.12:
# Debian's newest such kernel, in QEMU without KVM, thirty times as slow. One that cannot run here is skipped by itself.
#
# A kernel, what starts it, and its console, jobs and results are in BUILD/kernels. Packages are unpacked there, and the
# system has none of them. A guest sees the root of the host, which it cannot write, and has a disk of its own, ext4,
# on which it writes. It needs no root, and has no other rights than this script.
set -u
is_cut=no
[ "$1" != --cut ] || { is_cut=yes; shift; }
mkdir -p "$1"
build=$(realpath "$1")
shift
tree=$(realpath "$(dirname "$0")/..")
place=$build/kernels
mkdir -p "$place/packages"
failed=0 # of the kernel that is tried

# Ends what this shell does: the script, or the subshell of one kernel.
skip() { echo "SKIP kernels: $*"; [ $failed = 0 ] || exit 1; exit 77; }
command -v apt-get >/dev/null || skip "there is no apt-get"
command -v modprobe >/dev/null || skip "there is no modprobe (package kmod)"
command -v mke2fs >/dev/null || skip "there is no mke2fs (package e2fsprogs)"
case $tree in
/tmp/* | /run/*) skip "a guest has a /tmp and a /run of its own, and would not find the sources: $tree" ;;
esac
[ "$tree/build" = "$build" ] || skip "BUILD is not the folder build of the sources: $build"
[ -x "$build/dev/test/crash-kill" ] || skip "there is no $build/dev/test/crash-kill"

# unpack PACKAGE DIRECTORY [PATTERN...]: what is in it; once.
unpack()
{
    package=$1
    into=$2
    shift 2
    [ ! -d "$into" ] || return 0
    rm -rf "$into.new" "$place/packages/$package"_*.deb
    (cd "$place/packages" && apt-get download "$package") >>"$place/apt.log" 2>&1 ||
        skip "the package $package cannot be fetched: see $place/apt.log"
    mkdir -p "$into.new"
    dpkg-deb --fsys-tarfile "$place/packages/$package"_*.deb | tar -C "$into.new" -x --wildcards "$@"
    mv "$into.new" "$into"
}

# Limits are those of an idle machine; the build says how much longer they are (TWINLOG_PATIENCE).
patience=$(sed -n 's/^TWINLOG_PATIENCE:STRING=//p' "$build/dev/CMakeCache.txt")
patience=${patience:-1}

# guest_limit: for all jobs of a guest, and its start and end, in seconds.
guest_limit() { awk '{ limit += $2 } END { print limit + 600 }' "$share/jobs"; }

# ---- the jobs ----------------------------------------------------------------------------------

# Each line: a name, a limit in seconds, and a command, which runs in BUILD/dev. The first three are about this script:
# does a failure come through from the guest, and a hang?
controls()
{
    echo "control-passes 60 true"
    echo "control-fails 60 test/crash-kill --lie nonsense"
    echo "control-hangs 2 sleep 1000"
}

expected_of()
{
    case $1 in
    control-fails) echo 2 ;;
    control-hangs) echo 124 ;;
    *) echo 0 ;;
    esac
}

# The suites that are about what the kernel does, and take some minutes together in user mode Linux. Not `io`,
# `io_refused` and `descriptors`, which want a ring in a forked child, where that kernel has none that works; nor
# `cached`, in which a reader has to keep up with a writer: it has one processor.
suites='base|change|copy|errand|fallback|format|frozen|golden|on_disk|process|reader'
suites="$suites|roll|sink_exact|space|state|storms|uring|watch"
fast_suites='base|descriptors|format|io'

# kills SECONDS, power SECONDS FS...: kills in each mode, and power cuts in the guest, of these file systems.
kills()
{
    for policy in durable soak mapped shared sink; do
        options=
        case $policy in mapped | shared) options=--power ;; esac
        echo "kill-$policy $((600 * patience)) test/crash-kill $policy $options --seconds $1 --seed $(date +%s)"
    done
}

power()
{
    seconds=$1
    shift
    for fs in "$@"; do
        echo "power-$fs $((600 * patience)) test/crash-power --fs $fs --seconds $seconds --seed $(date +%s)"
    done
}

# tests NAME SECONDS PATTERN: those of that name, by ctest.
tests() { echo "$1 $(($2 * patience)) ctest -R '^($3)$' --output-on-failure --no-tests=error"; }

# ---- a guest -----------------------------------------------------------------------------------

# set_up NAME: an empty directory for jobs and results.
set_up()
{
    name=$1
    share=$place/$name
    rm -rf "$share"
    mkdir -p "$share"
}

# The disk of a guest, with what is tested.
make_disk()
{
    disk=$place/$name.disk
    rm -rf "$disk" "$place/staged"
    mkdir -p "$place/staged/build"
    tar -C "$build/dev" -cf - --exclude=CMakeFiles --exclude='*.o' --exclude=go-cache . | tar -C "$place/staged/build" -xf -
    mke2fs -q -t ext4 -d "$place/staged" "$disk" 3G >/dev/null
    rm -rf "$place/staged"
}

fetch_uml()
{
    unpack user-mode-linux "$place/uml-kernel" './usr/bin/*' './usr/lib/uml/modules/*'
    uml_kernel=$place/uml-kernel/usr/bin/linux.uml
}

# start_uml ARGUMENT...: until the guest has ended, or is stopped. Its serial line is the file descriptor 3.
start_uml()
{
    mkdir -p "$share/modules/lib"
    ln -s "$place/uml-kernel/usr/lib/uml/modules" "$share/modules/lib/modules"
    timeout --kill-after=10 "$(guest_limit)" "$uml_kernel" mem=2G "uml_dir=$place" "umid=twinlog-$name" \
        root=/dev/root rootfstype=hostfs rootflags=/ ro "init=$tree/test/kernels/guest.sh" con=null con0=null,fd:1 \
        ssl0=null,fd:3 "share=$share" kind=hostfs "tree=$tree" "$@" >>"$place/$name.log" 2>&1 </dev/null
}

# User mode Linux restores all registers of a process through ptrace(), and 6.1 has no room for those of processors with
# AMX: it cannot start the first process.
expect_start()
{
    [ -s "$share/release" ] || ! grep -qa 'put_fp_registers' "$place/$name.log" ||
        skip "user mode Linux $("$uml_kernel" --version) has no room for the registers of this processor"
}

# Whether the kernel of a guest says that it is in trouble.
complains()
{
    trouble='Kernel panic|Out of memory|oom-kill|BUG:|Oops|blocked for more than|soft lockup|WARNING: CPU'
    grep -aE "$trouble" "$place/$name.log"
}

# judge RELEASE: whether the jobs of the guest ended as they should, and nothing is wrong with its kernel.
judge()
{
    wrong=0
    got=$(cat "$share/release" 2>/dev/null)
    echo "$name: Linux ${got:-that did not start}"
    if [ "$got" != "$1" ] || [ "$got" = "$(uname -r)" ]; then
        echo "$name: FAILED: this is not the kernel $1, or it is the host's"
        wrong=1
    fi
    while read -r job _ command; do
        line=$(grep "^$job " "$share/results" 2>/dev/null)
        status=$(echo "$line" | cut -d ' ' -f 2)
        seconds=$(echo "$line" | cut -d ' ' -f 3)
        if [ "$status" = "$(expected_of "$job")" ]; then
            echo "$name: $job: as it should be, $seconds s"
            continue
        fi
        if [ "$status" = 77 ]; then
            echo "SKIP $name: $job: $(grep -a -m 1 SKIP "$share/$job.txt")"
            continue
        fi
        echo "$name: $job: FAILED, with status ${status:-none, as the guest ended}, ${seconds:-?} s: $command"
        tail -n 30 "$share/$job.txt" 2>/dev/null
        wrong=1
    done <"$share/jobs"
    if ! grep -q '^end ' "$share/results" 2>/dev/null; then
        echo "$name: FAILED: the guest did not come to its end, or not in time"
        wrong=1
    fi
    if complains; then
        echo "$name: FAILED: its kernel complains"
        wrong=1
    fi
    [ $wrong = 0 ] || echo "$name: its console is $place/$name.log"
    [ $wrong = 0 ] || failed=1
}

uml()
{
    fetch_uml
    set_up uml
    make_disk
    {
        controls
        kills 10
        power 10 ext4 xfs btrfs
        tests units 2400 "unit-($suites)"
        tests command 1200 'cli(|-cat|-wrong|-trim|-sink)'
    } >"$share/jobs"
    : >"$place/$name.log"
    start_uml "ubd0=$disk" disk=/dev/ubda 3>/dev/null
    expect_start
    judge "$("$uml_kernel" --version)"
    cuts uml 12 10000
}

uml_few()
{
    fetch_uml
    set_up uml-few
    make_disk
    {
        controls
        kills 5
        power 5 ext4
        tests command 600 cli
    } >"$share/jobs"
    : >"$place/$name.log"
    start_uml "ubd0=$disk" disk=/dev/ubda 3>/dev/null
    expect_start
    judge "$("$uml_kernel" --version)"
}

# What QEMU boots with: the kernel, and an initramfs with the modules for a root and a disk of the host's.
fetch_debian()
{
    package=$(apt-cache search --names-only "^linux-image-$1[.][0-9a-z.+-]*-amd64\$" | cut -d ' ' -f 1 |
        grep -vE -- '-(cloud|rt)-' | sort --version-sort | tail -n 1)
    [ -n "$package" ] || skip "there is no package linux-image-$1... for amd64 where apt looks"
    release=${package#linux-image-}
    root=$place/$release
    unpack "$package" "$root" '*/boot/vmlinuz-*' '*/modules.*' '*/kernel/fs/*' '*/kernel/net/9p/*' '*/kernel/lib/*' \
        '*/kernel/drivers/virtio/*' '*/kernel/drivers/block/*' '*/kernel/crypto/*' '*/kernel/arch/x86/crypto/*'
    unpack busybox-static "$place/busybox" '*/bin/busybox'
    [ -f "$root/initramfs" ] || make_initramfs
}

make_initramfs()
{
    depmod -b "$root" "$release" 2>/dev/null
    files=$root/initramfs.d
    rm -rf "$files"
    mkdir -p "$files/bin" "$files/dev" "$files/proc" "$files/root" "$files/modules"
    find "$place/busybox" -name busybox -type f -exec cp '{}' "$files/bin" ';'
    number=100
    for module in $(modprobe -d "$root" -S "$release" -a --show-depends virtio_pci virtio_blk ext4 9pnet_virtio 9p |
        awk '$1 == "insmod" && !seen[$2]++ { print $2 }'); do
        number=$((number + 1))
        case $module in
        *.xz) xz -dc "$module" >"$files/modules/$number.ko" ;;
        *) cp "$module" "$files/modules/$number.ko" ;;
        esac
    done
    cat >"$files/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do
    insmod "$module"
done
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,msize=262144,ro host /root &&
    exec switch_root /root "$tree/test/kernels/guest.sh"
INIT
    chmod +x "$files/init"
    (cd "$files" && find . | bin/busybox cpio -o -H newc) >"$root/initramfs.new" 2>/dev/null &&
        mv "$root/initramfs.new" "$root/initramfs"
    rm -rf "$files"
}

# start_debian FILE CACHE VARIABLE...: FILE is the disk. Its second serial line is the file descriptor 3.
start_debian()
{
    file=$1
    cache=$2
    shift 2
    mkdir -p "$share/modules"
    ln -s "$root/lib" "$share/modules/lib"
    timeout --kill-after=10 "$(guest_limit)" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 2G \
        -display none -no-reboot -kernel "$root/boot/vmlinuz-$release" -initrd "$root/initramfs" \
        -append "console=ttyS0 panic=-1 mitigations=off quiet share=$share kind=9p tree=$tree $*" \
        -drive "file=$file,if=virtio,format=raw,cache=$cache" \
        -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
        -virtfs "local,path=$share,mount_tag=results,security_model=none" \
        -chardev "file,id=console,path=$place/$name.log,append=on" -serial chardev:console \
        -chardev stdio,id=promises,signal=off -serial chardev:promises >&3 2>>"$place/$name.log" </dev/null
}

debian()
{
    command -v qemu-system-x86_64 >/dev/null || skip "there is no qemu-system-x86_64 (package qemu-system-x86)"
    fetch_debian "$1"
    set_up "$1"
    make_disk
    {
        controls
        kills 20
        power 20 ext4 xfs btrfs
        tests units 2400 "unit-($fast_suites)"
    } >"$share/jobs"
    : >"$place/$name.log"
    start_debian "$disk" unsafe disk=/dev/vda 3>/dev/null
    judge "$release"
    cuts "$1" 3 45000
}

# ---- power cuts --------------------------------------------------------------------------------

# cuts KERNEL NUMBER MILLISECONDS: so many times the guest is killed within that time and its disk loses its cache, and
# the next guest looks at the disk; see one_cut(). A disk that forgets flushes is to be found. A guest that panics ends,
# and is found by its status; a panic on the console may also come from a guest that was killed in parts.
cuts()
{
    if [ "$(id -u)" != 0 ]; then
        echo "SKIP $1: power cuts: only root can mount the disk of twinlog-powercut"
        return
    fi
    name=$1-cut
    : >"$place/$name.log"
    cuts_of "$@" ext4 docs/examples/example-kvstore_powercut
    cuts_of "$@" btrfs raft/raft-powercut
    cuts_of "$@" ext4 docs/examples/example-kvstore_powercut --lie
}

# cuts_of KERNEL NUMBER MILLISECONDS FS PROGRAM [--lie]
cuts_of()
{
    began=$(date +%s)
    log=$place/$name-$(basename "$5")${6:-}.txt
    disks=$place/disks${6:-}
    mkdir -p "$disks"
    cuts=$2
    [ -z "${6:-}" ] || cuts=$(($2 * 10)) # it ends at the first one that is found
    within=$3
    while true; do
        TMPDIR=$disks "$build/dev/powercut/twinlog-powercut" --kind none --cuts "$cuts" --within "$within" \
            --seed "$began" ${6:+"$6"} -- "$tree/test/kernels.sh" --cut "$build" "$1" "$4" "$5" >"$log" 2>&1 </dev/null
        status=$?
        # On a busy machine no guest may have come to its first promise.
        grep -q 'no check failed; 0 lines' "$log" || break
        [ "$within" -lt 1000000 ] || break
        within=$((within * 4))
    done
    what="$name: $4, $5${6:+, $6}, $(($(date +%s) - began)) s"
    case $status${6:-} in
    0)
        echo "$what: $(tail -n 1 "$log")"
        grep -q 'no check failed; [1-9]' "$log" && return
        echo "$what: FAILED: nothing was promised"
        ;;
    1--lie)
        rm -rf "$disks"
        grep 'FOUND: the check' "$log" && echo "$what: found, as it should be" && return
        echo "$what: FAILED: something else was found than a broken promise"
        tail -n 30 "$log"
        ;;
    77*)
        echo "SKIP $what: $(tail -n 1 "$log")"
        return
        ;;
    *)
        echo "$what: FAILED, with status $status"
        tail -n 30 "$log"
        ;;
    esac
    failed=1
}

# one_cut KERNEL FS PROGRAM: what twinlog-powercut runs. PROGRAM runs in the guest, on a file system on that disk, and
# its promises come through the serial line. Then a new guest runs the check.
#
# The disk of user mode Linux 6.1 (ubd) confirms a flush and tells the host nothing. So the guest has the disk as a
# file of the host, and a loop device over that, which does flush.
one_cut()
{
    set_up "$1-cut"
    case $1 in
    uml)
        fetch_uml
        device=/dev/loop0
        line=/dev/ttyS0
        served=$(dirname "$POWERCUT_DISK")
        attach="mkdir /run/disk && mount -t hostfs none /run/disk -o $served && losetup $device /run/disk/disk"
        ;;
    *)
        fetch_debian "$1"
        device=/dev/vda
        line=/dev/ttyS1
        attach=true
        ;;
    esac
    mount="mount -t $2 $device /mnt"
    case $2 in
    ext4) make="mkfs.ext4 -q -F $device" ;;
    btrfs) make="mkfs.btrfs -q -f $device" ;;
    esac
    case $POWERCUT in
    run)
        # A file system that cannot be mounted is new: after the first promise the check needs it.
        commands="{ $mount || { $make && $mount; }; } && stty -F $line raw &&"
        commands="$commands POWERCUT=run POWERCUT_DIR=/mnt $3 >$line"
        ;;
    check)
        cat >"$share/promises"
        [ -s "$share/promises" ] || exit 0
        commands="$mount && POWERCUT=check POWERCUT_DIR=/mnt $3 <$share/promises && umount /mnt"
        ;;
    esac
    echo "$POWERCUT 3600 $attach && $commands" >"$share/jobs"
    case $1 in
    uml) start_uml 3>&1 ;;
    *) start_debian "$POWERCUT_DISK" writeback 3>&1 ;;
    esac
    cat "$share/$POWERCUT.txt" >&2
    grep -q "^$POWERCUT 0 " "$share/results"
}

# ---- the command line ----------------------------------------------------------------------------

# try KERNEL: ends with 1 if something of it failed, with 77 if nothing could be tried.
try()
{
    case $1 in
    uml) uml ;;
    uml-few) uml_few ;;
    *) debian "$1" ;;
    esac
    exit $failed
}

if [ $is_cut = yes ]; then
    one_cut "$@"
    exit
fi
[ $# -gt 0 ] || set -- uml
status=77
for kernel in "$@"; do
    began=$(date +%s)
    (try "$kernel")
    got=$?
    echo "$kernel: $(($(date +%s) - began)) s"
    case $got-$status in
    77-*) ;;
    0-77) status=0 ;;
    0-*) ;;
    *) status=1 ;;
    esac
done
exit $status
