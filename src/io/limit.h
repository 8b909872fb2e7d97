/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit on the size of files: RLIMIT_FSIZE.
 *
 * A process that writes at or behind the limit, or makes a file longer than the limit, gets SIGXFSZ, which by default
 * ends the process; this applies even to bytes that the file already has. Another process may lower the limit at any
 * time (prlimit(2)), so a look at it beforehand is not enough: every call that writes or makes a file longer holds the
 * signal back in its thread, and gets -EFBIG. Threads of the library block all signals. A write across the limit is a
 * short write.
 */
#ifndef TWL_LIMIT_H
#define TWL_LIMIT_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
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

struct limit_hold {
    sigset_t before;
    bool was_pending; /* the thread had blocked a signal that came for another reason */
};
/* Blocks SIGXFSZ in this thread until the release. `is_whole`: everything was done, so no signal can have come; else one
 * that came is discarded, also in a thread that had blocked it, and will unblock it some day. */
void twl_limit_hold(struct limit_hold *ret_hold);
void twl_limit_release(const struct limit_hold *hold, bool is_whole);

/* Writes all the bytes. -EFBIG also if a limit cuts them short. */
int twl_limited_write(int fd, const void *data, size_t size, uint64_t offset);
/* ftruncate(), also to more bytes. */
int twl_limited_resize(int fd, uint64_t bytes);
/* fallocate(): reserves the blocks of a range. -EOPNOTSUPP: this file system cannot. */
int twl_limited_reserve(int fd, int mode, uint64_t from, uint64_t to);

#endif
