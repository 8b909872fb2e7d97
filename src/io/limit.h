/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit on the size of files: RLIMIT_FSIZE.
 *
 * A process that writes at or behind the limit, or makes a file longer than the limit, gets SIGXFSZ, which by default
 * ends the process; this applies even to bytes that the file already has. So every call that writes or makes a file
 * longer checks the limit here first, and returns -EFBIG. A write across the limit is a short write. A limit that is
 * lowered between the check and the write is not seen.
 */
#ifndef TWL_LIMIT_H
#define TWL_LIMIT_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

/* 0, or -EFBIG if a file of this size exceeds the limit. */
static inline int twl_limit_check(uint64_t bytes)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    return bytes > limit.rlim_cur ? -EFBIG : 0;
}

/* The same for a write at `offset`. */
static inline int twl_limit_check_write(uint64_t offset)
{
    return twl_limit_check(offset + 1);
}

/* Writes all the bytes. -EFBIG also if a limit cuts them short. */
int twl_limited_write(int fd, const void *data, size_t size, uint64_t offset);
/* fallocate(): reserves the blocks of a range. -EOPNOTSUPP: this file system cannot. */
int twl_limited_reserve(int fd, int mode, uint64_t from, uint64_t to);

#endif
