#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of a guest that test/kernels.sh has started: it runs the jobs of the file $share/jobs, and ends the
# guest. Its root is that of the host, which it can only read; the disk is a file system with the programs under test.
#
# The command line of the kernel gives it these variables:
#   share   the directory that the host reads the results in, and its kind: hostfs, 9p
#   kind
#   tree    the sources; $tree/build/dev is what the disk has in `build`
#   disk    the device; if there is none, $tree/build/dev is that of the host
# shellcheck disable=SC2154 # the command line of the kernel has them
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
for memory in /dev/shm /run /tmp; do
    mount -t tmpfs tmpfs $memory
done
export TMPDIR=/tmp
ip link set lo up

case $kind in
hostfs) mount -t hostfs none "$share" -o "$share" ;;
9p) mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 results "$share" ;;
esac
uname -r >"$share/release"

# The modules of this kernel; a test that needs one which is not there says so.
for module in loop fuse xfs btrfs; do
    modprobe -d "$share/modules" $module
done

if [ -n "${disk:-}" ]; then
    mount "$disk" /mnt && mount --bind /mnt/build "$tree/build/dev" || exit
    mkdir -p /mnt/tmp
    TMPDIR=/mnt/tmp
fi
cd "$tree/build/dev" || exit

# A line for each job: its name, its limit in seconds, its command.
while read -r name limit command; do
    echo "job $name"
    began=$(date +%s)
    timeout --kill-after=10 "$limit" sh -c "$command" >"$share/$name.txt" 2>&1 </dev/null
    echo "$name $? $(($(date +%s) - began))" >>"$share/results"
    sync
done <"$share/jobs"

echo "end 0 0" >>"$share/results"
cd /
sync
umount "$tree/build/dev"
umount /mnt
umount "$share"
poweroff -f
