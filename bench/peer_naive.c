/* SPDX-License-Identifier: Apache-2.0 */
/* What most programs do first: a lock, write() at the end of a file, fdatasync(). */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct naive {
    pthread_mutex_t lock;
    int fd;
};

static int naive_open(const struct peer_setup *setup, void **ret_state)
{
    char path[4096];
    struct naive *naive = malloc(sizeof(*naive));
    if (!naive)
        return -ENOMEM;
    pthread_mutex_init(&naive->lock, NULL);
    snprintf(path, sizeof(path), "%s/log", setup->dir);
    naive->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (naive->fd < 0) {
        int error = -errno;
        free(naive);
        return error;
    }
    *ret_state = naive;
    return 0;
}

static int write_all(const struct naive *naive, const void *data, size_t size)
{
    ssize_t written = write(naive->fd, data, size);
    if (written != (ssize_t)size)
        return written < 0 ? -errno : -EIO;
    return 0;
}

static int naive_append_written(void *state, const void *data, size_t size)
{
    struct naive *naive = state;
    pthread_mutex_lock(&naive->lock);
    int error = write_all(naive, data, size);
    pthread_mutex_unlock(&naive->lock);
    return error;
}

static int naive_append(void *state, unsigned thread, const void *data, size_t size)
{
    struct naive *naive = state;
    (void)thread;
    pthread_mutex_lock(&naive->lock);
    int error = write_all(naive, data, size);
    if (error == 0 && fdatasync(naive->fd) < 0)
        error = -errno;
    pthread_mutex_unlock(&naive->lock);
    return error;
}

static int naive_close(void *state)
{
    struct naive *naive = state;
    close(naive->fd);
    pthread_mutex_destroy(&naive->lock);
    free(naive);
    return 0;
}

const struct peer peer_naive = {
    .name = "naive",
    .what = "write() and fdatasync() under a lock, at the end of one file",
    .open = naive_open,
    .append = naive_append,
    .append_written = naive_append_written,
    .close = naive_close,
    .explain = explain_errno,
};
