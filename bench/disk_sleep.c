/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in front of the C library's pwritev2(): a write with RWF_DSYNC
 * sleeps before it is made. In a directory in memory such a write costs next to nothing, so the sleep is the disk. What
 * writes in another way, by io_uring or with fdatasync(), is not slowed: main.c refuses it.
 */
#include "common.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static uint64_t sleep_ns; /* [const while threads run] */

void disk_sleep_set(uint64_t ns)
{
    sleep_ns = ns;
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    if (sleep_ns > 0 && (flags & RWF_DSYNC)) {
        const struct timespec pause = { (time_t)(sleep_ns / 1000000000u), (long)(sleep_ns % 1000000000u) };
        nanosleep(&pause, NULL);
    }
    return syscall(SYS_pwritev2, fd, parts, count, (unsigned long)offset, 0ul, flags);
}
