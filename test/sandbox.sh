#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sandbox.sh FOLDER COMMAND...: runs the command as the build of a package does, as root: by a user that owns FOLDER and
# nothing else, has no home and gains no rights; no network, not even a loopback; no terminal; and of devices null, zero,
# full and random, so no FUSE and nothing to mount. Ends with 77 and says why where this cannot be made.
set -u
user=65534
skip() { echo "SKIP sandbox: $*"; exit 77; }

# In the sandbox, before the rights go.
if [ "${1:-}" = --inside ]; then
    shift
    mount --make-rprivate / && mount -t tmpfs -o mode=755 none /mnt && mkdir /mnt/shm || exit 1
    for device in null zero full random urandom; do
        : >"/mnt/$device" && mount --bind "/dev/$device" "/mnt/$device" || exit 1
    done
    ln -s /proc/self/fd /mnt/fd && mount --move /mnt /dev && mount -t tmpfs -o mode=1777 none /dev/shm || exit 1
    export HOME=/nonexistent
    exec setpriv --reuid $user --regid $user --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
        setsid --wait "$@" </dev/null
fi

[ "$(id -u)" = 0 ] || skip "only root can make one"
self=$(realpath "$0")
folder=$(realpath "$1") || exit 1
shift
unshare --net --mount true 2>/dev/null || skip "no namespaces can be made here"
setpriv --reuid $user --regid $user --clear-groups test -x "$folder" || skip "other users may not enter $folder"
find "$folder" -type d -exec chown "$user" '{}' +
exec unshare --net --mount "$self" --inside "$@"
