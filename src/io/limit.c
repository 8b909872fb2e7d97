/* SPDX-License-Identifier: Apache-2.0 */
/* See limit.h. */
#define _GNU_SOURCE
#include "io/limit.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

static sigset_t only_xfsz(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    return set;
}

void twl_limit_hold(sigset_t *ret_before)
{
    const sigset_t xfsz = only_xfsz();

    pthread_sigmask(SIG_BLOCK, &xfsz, ret_before);
}

void twl_limit_release(const sigset_t *before, bool is_whole)
{
    static const struct timespec now;
    const sigset_t xfsz = only_xfsz();

    if (sigismember(before, SIGXFSZ)) /* the thread blocks it anyway, and may keep it */
        return;
    if (!is_whole)
        sigtimedwait(&xfsz, NULL, &now);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static int write_all(int fd, const char *data, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pwrite(fd, data + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

int twl_limited_write(int fd, const void *data, size_t size, uint64_t offset)
{
    sigset_t before;

    twl_limit_hold(&before);
    const int error = write_all(fd, data, size, offset);
    twl_limit_release(&before, error == 0);
    return error;
}

int twl_limited_resize(int fd, uint64_t bytes)
{
    sigset_t before;

    twl_limit_hold(&before);
    const int error = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
    twl_limit_release(&before, error == 0);
    return error;
}

int twl_limited_reserve(int fd, int mode, uint64_t from, uint64_t to)
{
    int error = twl_limit_check(to); /* the kernel does not, for blocks behind the end of the file */
    sigset_t before;

    if (error < 0)
        return error;
    twl_limit_hold(&before);
    do
        error = fallocate(fd, mode, (off_t)from, (off_t)(to - from)) < 0 ? -errno : 0;
    while (error == -EINTR);
    twl_limit_release(&before, error == 0);
    return error;
}
