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
    /* In a round the contender has a directory; in the studies of plain files it is the path of the file. */
    const char *name = setup->peer == &peer_naive ? "/log" : "";
    struct file *file = allocate(1, sizeof(*file));

    *ret_state = file;
    pthread_mutex_init(&file->lock, NULL);
    snprintf(path, sizeof(path), "%s%s", setup->dir, name);
    file->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file->fd < 0)
        return -errno;
    return 0;
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
    size_t left = append->records->size;

    while (left > 0) {
        const ssize_t written = write(file->fd, bytes, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        bytes += written;
        left -= (size_t)written;
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
    if ((size_t)written != append->records->size)
        return -EIO;
    return 0;
}

static int put_synced(void *state, const struct append *append)
{
    const struct file *file = state;
    const int error = put(state, append);

    if (error)
        return error;
    if (fdatasync(file->fd) < 0)
        return -errno;
    return 0;
}

static int put_in_turn(void *state, const struct append *append)
{
    struct file *file = state;
    int error;

    pthread_mutex_lock(&file->lock);
    if (append->level == APPEND_DURABLE)
        error = put_synced(state, append);
    else
        error = put(state, append);
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
