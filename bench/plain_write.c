/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files by a write() for each record, also with fdatasync() behind it, which is what makes a record durable. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "plain.h"

/* The state is nothing but the descriptor. */
static int fd_of(void *state)
{
    return (int)(intptr_t)state;
}

static int open_file(const struct plain *plain, const struct plain_setup *setup, void **ret_state)
{
    (void)plain;
    int fd = open(setup->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    *ret_state = (void *)(intptr_t)fd;
    return fd < 0 ? -errno : 0;
}

static int close_file(void *state)
{
    return close(fd_of(state)) < 0 ? -errno : 0;
}

static int put(void *state, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    while (size > 0) {
        ssize_t written = write(fd_of(state), bytes, size);
        if (written < 0 && errno != EINTR)
            return -errno;
        bytes += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return 0;
}

static int put_synced(void *state, const void *data, size_t size)
{
    int error = put(state, data, size);
    if (error)
        return error;
    return fdatasync(fd_of(state)) < 0 ? -errno : 0;
}

const struct plain plain_write = { .open = open_file, .put = put, .close = close_file };
const struct plain plain_write_synced = { .open = open_file, .put = put_synced, .close = close_file };
