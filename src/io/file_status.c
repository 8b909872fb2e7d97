/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See file_status.h. The times of a file are not asked for: Linux 6.13 and later note a finer time at the next write
 * after somebody has asked, and that write takes longer to sync.
 */
#define _GNU_SOURCE
#include "io/file_status.h"

#include "base/libc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define ALL_BUT_TIMES (STATX_TYPE | STATX_MODE | STATX_INO | STATX_SIZE | STATX_NLINK | STATX_UID | STATX_GID)

/* For a kernel or a sandbox that refuses statx(). It asks for the times as well. */
static int ask_by_stat(int directory, const char *name, int flags, struct file_status *ret_status)
{
    struct stat found;

    if (fstatat(directory, name, &found, flags) < 0)
        return -errno;
    *ret_status = (struct file_status){
        .mode = found.st_mode,
        .device = found.st_dev,
        .inode = found.st_ino,
        .bytes = (uint64_t)found.st_size,
        .links = found.st_nlink,
        .block_bytes = (uint64_t)found.st_blksize,
        .owner = found.st_uid,
        .group = found.st_gid,
    };
    return 0;
}

static int ask(int directory, const char *name, int flags, struct file_status *ret_status)
{
    struct statx found;

    if (statx(directory, name, flags, ALL_BUT_TIMES, &found) < 0) {
        const bool is_refused = errno == ENOSYS || errno == EPERM;
        return is_refused ? ask_by_stat(directory, name, flags, ret_status) : -errno;
    }
    *ret_status = (struct file_status){
        .mode = found.stx_mode,
        .device = makedev(found.stx_dev_major, found.stx_dev_minor),
        .inode = found.stx_ino,
        .bytes = found.stx_size,
        .links = found.stx_nlink,
        .block_bytes = found.stx_blksize,
        .owner = found.stx_uid,
        .group = found.stx_gid,
    };
    return 0;
}

int twl_file_status(int fd, struct file_status *ret_status)
{
    return ask(fd, "", AT_EMPTY_PATH, ret_status);
}

int twl_file_status_of_name(int directory, const char *name, struct file_status *ret_status)
{
    return ask(directory, name, AT_SYMLINK_NOFOLLOW, ret_status);
}
