/* SPDX-License-Identifier: Apache-2.0 */
/* See limit.h. */
#define _GNU_SOURCE
#include "io/limit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

int twl_limit_check(uint64_t bytes)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    return bytes > limit.rlim_cur ? -EFBIG : 0;
}

int twl_limited_write(int fd, const void *data, size_t size, uint64_t offset)
{
    const int error = twl_limit_check(offset + size);
    size_t done = 0;

    if (error < 0)
        return error;
    while (done < size) {
        ssize_t n = pwrite(fd, (const char *)data + done, size - done, (off_t)(offset + done));
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

int twl_limited_resize(int fd, uint64_t bytes)
{
    const int error = twl_limit_check(bytes);

    if (error < 0)
        return error;
    return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

int twl_limited_reserve(int fd, int mode, uint64_t from, uint64_t to)
{
    int error = twl_limit_check(to); /* the kernel does not, for blocks behind the end of the file */

    if (error < 0)
        return error;
    do
        error = fallocate(fd, mode, (off_t)from, (off_t)(to - from)) < 0 ? -errno : 0;
    while (error == -EINTR);
    return error;
}
