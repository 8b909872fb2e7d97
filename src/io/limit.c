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

void twl_limit_hold(struct limit_hold *ret_hold)
{
    const sigset_t xfsz = only_xfsz();
    sigset_t pending;

    pthread_sigmask(SIG_BLOCK, &xfsz, &ret_hold->before);
    ret_hold->was_pending = sigismember(&ret_hold->before, SIGXFSZ) == 1 && sigpending(&pending) == 0 &&
                            sigismember(&pending, SIGXFSZ) == 1;
}

void twl_limit_release(const struct limit_hold *hold, bool is_whole)
{
    static const struct timespec now;
    const sigset_t xfsz = only_xfsz();

    if (!is_whole && !hold->was_pending)
        sigtimedwait(&xfsz, NULL, &now);
    if (sigismember(&hold->before, SIGXFSZ) == 0)
        pthread_sigmask(SIG_SETMASK, &hold->before, NULL);
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
    struct limit_hold hold;

    twl_limit_hold(&hold);
    const int error = write_all(fd, data, size, offset);
    twl_limit_release(&hold, error == 0);
    return error;
}

int twl_limited_resize(int fd, uint64_t bytes)
{
    struct limit_hold hold;

    twl_limit_hold(&hold);
    const int error = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
    twl_limit_release(&hold, error == 0);
    return error;
}

int twl_limited_reserve(int fd, int mode, uint64_t from, uint64_t to)
{
    int error = twl_limit_check(to); /* the kernel does not, for blocks behind the end of the file */
    struct limit_hold hold;

    if (error < 0)
        return error;
    twl_limit_hold(&hold);
    do
        error = fallocate(fd, mode, (off_t)from, (off_t)(to - from)) < 0 ? -errno : 0;
    while (error == -EINTR);
    twl_limit_release(&hold, error == 0);
    return error;
}
