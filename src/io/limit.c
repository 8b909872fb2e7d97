/* SPDX-License-Identifier: Apache-2.0 */
/* See limit.h. */
#define _GNU_SOURCE
#include "io/limit.h"

#include <fcntl.h>
#include <unistd.h>

int twl_limited_write(int fd, const void *data, size_t size, uint64_t offset)
{
    size_t done = 0;

    while (done < size) {
        const int error = twl_limit_check_write(offset + done);
        if (error < 0)
            return error;
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

int twl_limited_reserve(int fd, int mode, uint64_t from, uint64_t to)
{
    const int error = twl_limit_check(to);
    int result;

    if (error < 0)
        return error;
    do
        result = fallocate(fd, mode, (off_t)from, (off_t)(to - from));
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}
