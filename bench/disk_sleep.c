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

#define STALL_NS UINT64_C(3000000000)

static uint64_t sleep_ns, stalled; /* [const while threads run] */
static _Atomic uint64_t writes;

void disk_sleep_set(uint64_t ns, uint64_t number)
{
    sleep_ns = ns;
    stalled = number;
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    if ((sleep_ns > 0 || stalled > 0) && (flags & RWF_DSYNC)) {
        const uint64_t ns = sleep_ns + (++writes == stalled ? STALL_NS : 0);
        const struct timespec pause = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
        nanosleep(&pause, NULL);
    }
    return syscall(SYS_pwritev2, fd, parts, count, (unsigned long)offset, 0ul, flags);
}
