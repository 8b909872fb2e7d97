/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files past the page cache: a put takes whole blocks of 4 KiB for itself, at a place that it gets from a
 * counter which all processes share, and is on its way to the disk when it returns. One thread for each opening.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plain.h"

#define BLOCK_BYTES 4096u

struct direct {
    int fd;
    _Atomic(uint64_t) *end;
    unsigned char *blocks; /* room for the largest put */
};

static size_t in_blocks(size_t size)
{
    return (size + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

static int put(void *state, const void *data, size_t size)
{
    struct direct *direct = state;
    size_t left = in_blocks(size);
    uint64_t place = atomic_fetch_add(direct->end, left);
    const unsigned char *bytes = direct->blocks;

    memcpy(direct->blocks, data, size);
    while (left > 0) {
        ssize_t written = pwrite(direct->fd, bytes, left, (off_t)place);
        if (written < 0 && errno != EINTR)
            return -errno;
        size_t done = written > 0 ? (size_t)written : 0;
        bytes += done;
        place += done;
        left -= done;
    }
    return 0;
}

static int open_direct(const struct plain_setup *setup, void **ret_state)
{
    size_t size = in_blocks(setup->largest);
    struct direct *direct = calloc(1, sizeof(*direct));
    if (!direct)
        return -ENOMEM;
    direct->end = setup->end;
    direct->blocks = aligned_alloc(BLOCK_BYTES, size);
    if (!direct->blocks) {
        free(direct);
        return -ENOMEM;
    }
    memset(direct->blocks, 0, size);
    direct->fd = open(setup->path, O_WRONLY | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    if (direct->fd < 0) {
        int error = -errno;
        free(direct->blocks);
        free(direct);
        return error;
    }
    *ret_state = direct;
    return 0;
}

static int close_direct(void *state)
{
    struct direct *direct = state;
    int error = close(direct->fd) < 0 ? -errno : 0;
    free(direct->blocks);
    free(direct);
    return error;
}

const struct plain plain_direct = {
    .open = open_direct, .put = put, .close = close_direct, .block_bytes = BLOCK_BYTES
};
