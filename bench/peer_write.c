/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files by a write() for each record, also with fdatasync() behind it, which is what makes a record durable.
 * Under a lock that is `naive`, what most programs do first.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"

struct file {
    int fd;
    pthread_mutex_t lock; /* of naive */
};

static int open_file(const struct peer_setup *setup, void **ret_state)
{
    char path[4096];
    struct file *file = *ret_state = allocate(1, sizeof(*file));
    pthread_mutex_init(&file->lock, NULL);
    snprintf(path, sizeof(path), "%s%s", setup->dir, setup->peer == &peer_naive ? "/log" : "");
    file->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return file->fd < 0 ? -errno : 0;
}

static int close_file(void *state)
{
    struct file *file = state;
    const int error = close(file->fd) < 0 ? -errno : 0;
    pthread_mutex_destroy(&file->lock);
    free(file);
    return error;
}

static int put(void *state, const struct append *append)
{
    const struct file *file = state;
    const unsigned char *bytes = append->records->data;
    for (size_t size = append->records->size; size > 0;) {
        ssize_t written = write(file->fd, bytes, size);
        if (written < 0 && errno != EINTR)
            return -errno;
        bytes += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return 0;
}

static int put_vector(void *state, const struct append *append)
{
    const struct file *file = state;
    const struct iovec piece = { (void *)(uintptr_t)append->records->data, append->records->size };
    const ssize_t written = writev(file->fd, &piece, 1);

    if (written < 0)
        return -errno;
    return (size_t)written == append->records->size ? 0 : -EIO;
}

static int put_synced(void *state, const struct append *append)
{
    const struct file *file = state;
    const int error = put(state, append);
    return error ? error : fdatasync(file->fd) < 0 ? -errno : 0;
}

static int put_in_turn(void *state, const struct append *append)
{
    struct file *file = state;
    pthread_mutex_lock(&file->lock);
    const int error = append->level == APPEND_DURABLE ? put_synced(state, append) : put(state, append);
    pthread_mutex_unlock(&file->lock);
    return error;
}

const struct peer peer_write = { .open = open_file, .append = put, .close = close_file };
const struct peer peer_writev = { .open = open_file, .append = put_vector, .close = close_file };
const struct peer peer_write_synced = { .open = open_file, .append = put_synced, .close = close_file };
const struct peer peer_naive = {
    .name = "naive",
    .what = "write() and fdatasync() under a lock, at the end of one file",
    .open = open_file,
    .append = put_in_turn,
    .close = close_file,
};
