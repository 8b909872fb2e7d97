/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a file may become by RLIMIT_FSIZE.
 *
 * Whoever writes at that limit or behind it, or makes a file longer, gets SIGXFSZ, which ends a process that is not
 * prepared for it; and bytes that a file has already are no exception. So every write, and whatever makes a file longer,
 * asks here first, and is refused as by a file system that does not take it. A write across the limit is a short one. A
 * limit that is lowered between the question and the write is not seen.
 */
#ifndef TWL_LIMIT_H
#define TWL_LIMIT_H

#include <errno.h>
#include <stdint.h>
#include <sys/resource.h>

/* 0, or -EFBIG: a file may not have so many bytes. */
static inline int twl_limit_check(uint64_t bytes)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    return bytes > limit.rlim_cur ? -EFBIG : 0;
}

/* The same for a write there. */
static inline int twl_limit_check_write(uint64_t offset)
{
    return twl_limit_check(offset + 1);
}

#endif
