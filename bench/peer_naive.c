/* SPDX-License-Identifier: Apache-2.0 */
/* What most programs do first: a lock, write() at the end of a file, fdatasync(). */
#include "common.h"
#include "peer.h"
#include "plain.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct naive {
    pthread_mutex_t lock;
    void *file;
};

static int naive_open(const struct peer *peer, const struct peer_setup *setup, void **ret_state)
{
    char path[4096];
    struct naive *naive = allocate(1, sizeof(*naive));
    (void)peer;
    pthread_mutex_init(&naive->lock, NULL);
    snprintf(path, sizeof(path), "%s/log", setup->dir);
    int error = plain_write.open(&plain_write, &(const struct plain_setup){ .path = path }, &naive->file);
    *ret_state = naive;
    if (error)
        free(naive);
    return error;
}

static int naive_append(void *state, unsigned thread, const struct twinlog_entry *record, unsigned count,
                        enum append_level level)
{
    struct naive *naive = state;
    const struct plain *plain = level == APPEND_DURABLE ? &plain_write_synced : &plain_write;
    (void)thread;
    (void)count;
    pthread_mutex_lock(&naive->lock);
    int error = plain->put(naive->file, record->data, record->size);
    pthread_mutex_unlock(&naive->lock);
    return error;
}

static int naive_close(void *state)
{
    struct naive *naive = state;
    int error = plain_write.close(naive->file);
    pthread_mutex_destroy(&naive->lock);
    free(naive);
    return error;
}

const struct peer peer_naive = {
    .name = "naive",
    .what = "write() and fdatasync() under a lock, at the end of one file",
    .open = naive_open,
    .append = naive_append,
    .close = naive_close,
};
