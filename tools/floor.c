/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the disk without a log. See floor.h. */
#define _GNU_SOURCE
#include "floor.h"

#include "common.h"
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_BYTES (4 << 20)
#define WRITE_BYTES 4096

static int open_direct(const char *path, bool *ret_is_direct)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);

    *ret_is_direct = fd >= 0;
    if (fd < 0 && errno == EINVAL) /* some kernels have created the file all the same */
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    return fd;
}

static int write_whole(int fd, const void *block)
{
    for (off_t offset = 0; offset < FILE_BYTES; offset += WRITE_BYTES) {
        ssize_t size = pwrite(fd, block, WRITE_BYTES, offset);
        if (size < 0)
            return -errno;
        if (size < WRITE_BYTES)
            return -ENOSPC;
    }

    if (fsync(fd) < 0)
        return -errno;
    return 0;
}

static int write_durably(int fd, void *block, off_t offset, bool is_dsync)
{
    struct iovec iovec = { .iov_base = block, .iov_len = WRITE_BYTES };

    const int flags = is_dsync ? RWF_DSYNC : 0;

    /* By the number of the call: musl 1.2.3 has no pwritev2(). */
    ssize_t size = syscall(SYS_pwritev2, fd, &iovec, 1, offset, 0L, flags);
    if (size < 0)
        return -errno;
    if (size < WRITE_BYTES)
        return -EIO;
    if (!is_dsync && fdatasync(fd) < 0)
        return -errno;
    return 0;
}

static int measure(int fd, void *block, uint64_t ms, struct disk_floor *floor)
{
    uint64_t started_ns = monotonic_ns();
    uint64_t now_ns = started_ns;
    int result = 0;

    floor->is_dsync = write_durably(fd, block, 0, true) == 0;
    for (off_t offset = 0; result == 0 && now_ns < started_ns + ms * 1000000 && stop_sleep(0);
         offset = (offset + WRITE_BYTES) % FILE_BYTES) {
        uint64_t before_ns = now_ns;
        result = write_durably(fd, block, offset, floor->is_dsync);
        now_ns = monotonic_ns();
        histogram_add(&floor->latency, now_ns - before_ns);
    }

    floor->seconds = (double)(now_ns - started_ns) / 1e9;
    return result;
}

int measure_floor(const char *path, uint64_t ms, struct disk_floor *ret_floor)
{
    void *block = aligned_alloc(WRITE_BYTES, WRITE_BYTES);
    if (!block)
        return -ENOMEM;

    memset(block, 0xa5, WRITE_BYTES);

    memset(ret_floor, 0, sizeof(*ret_floor));
    int fd = open_direct(path, &ret_floor->is_direct);
    int result = fd;
    if (fd >= 0) {
        result = write_whole(fd, block);
        if (result == 0)
            result = measure(fd, block, ms, ret_floor);
        close(fd);
    }
    free(block);
    return result;
}
