/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files by a system call for each record: write(), writev(), and write() under flock(). The first and the last
 * also with fdatasync() behind each write, which is what makes a record durable. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

#include "plain.h"

int plain_open_to_append(const char *path, int *ret_fd)
{
    *ret_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return *ret_fd < 0 ? -errno : 0;
}

int plain_write_all(int fd, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno != EINTR)
            return -errno;
        bytes += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return 0;
}

/* The state is nothing but the descriptor. */
static int fd_of(void *state)
{
    return (int)(intptr_t)state;
}

static int open_file(const struct plain_setup *setup, void **ret_state)
{
    int fd, error = plain_open_to_append(setup->path, &fd);
    *ret_state = (void *)(intptr_t)fd;
    return error;
}

static int close_file(void *state)
{
    return close(fd_of(state)) < 0 ? -errno : 0;
}

static int put(void *state, const void *data, size_t size)
{
    return plain_write_all(fd_of(state), data, size);
}

/* In two halves, as a header and what belongs to it. What is over after a short write would no longer be in one
 * piece, so that is an error. */
static int put_pieces(void *state, const void *data, size_t size)
{
    unsigned char *bytes = (void *)(uintptr_t)data;
    const struct iovec pieces[2] = { { bytes, size / 2 }, { bytes + size / 2, size - size / 2 } };
    ssize_t written = writev(fd_of(state), pieces, 2);
    if (written < 0)
        return -errno;
    return (size_t)written == size ? 0 : -EIO;
}

static int put_synced(void *state, const void *data, size_t size)
{
    int error = put(state, data, size);
    if (error)
        return error;
    return fdatasync(fd_of(state)) < 0 ? -errno : 0;
}

static int with_lock(int (*put_one)(void *state, const void *data, size_t size), void *state,
                     const void *data, size_t size)
{
    if (flock(fd_of(state), LOCK_EX) < 0)
        return -errno;
    int error = put_one(state, data, size);
    return flock(fd_of(state), LOCK_UN) < 0 ? -errno : error;
}

static int put_locked(void *state, const void *data, size_t size)
{
    return with_lock(put, state, data, size);
}

static int put_locked_synced(void *state, const void *data, size_t size)
{
    return with_lock(put_synced, state, data, size);
}

const struct plain plain_write = { .open = open_file, .put = put, .close = close_file };
const struct plain plain_writev = { .open = open_file, .put = put_pieces, .close = close_file };
const struct plain plain_flock = { .open = open_file, .put = put_locked, .close = close_file };
const struct plain plain_write_synced = { .open = open_file, .put = put_synced, .close = close_file };
const struct plain plain_flock_synced = { .open = open_file, .put = put_locked_synced, .close = close_file };
