/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files by a thread that writes behind: records are copied to a ring, and one thread hands all that is in it
 * to writev() at once. A thread that finds the ring full waits, so nothing is lost while the process lives. What
 * is in the ring is lost with the process.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "plain.h"

#define RING_BYTES (1u << 20)

struct queue {
    int fd;
    pthread_t writer;
    pthread_mutex_t lock; /* for what follows */
    pthread_cond_t filled, emptied;
    uint64_t begin, end; /* [begin, end) is to be written; both only grow */
    bool is_ending;
    int error; /* of the writer; it has ended then */
    unsigned char ring[RING_BYTES];
};

/* ---- the thread that writes -------------------------------------------------------------------- */

static int write_range(struct queue *queue, uint64_t begin, uint64_t end)
{
    while (begin < end) {
        size_t at = begin % RING_BYTES, size = (size_t)(end - begin);
        size_t first = size < RING_BYTES - at ? size : RING_BYTES - at;
        const struct iovec pieces[2] = { { queue->ring + at, first }, { queue->ring, size - first } };
        ssize_t written = writev(queue->fd, pieces, first < size ? 2 : 1);
        if (written < 0 && errno != EINTR)
            return -errno;
        begin += written > 0 ? (uint64_t)written : 0;
    }
    return 0;
}

static void *write_behind(void *argument)
{
    struct queue *queue = argument;
    pthread_mutex_lock(&queue->lock);
    while (queue->error == 0) {
        while (queue->begin == queue->end && !queue->is_ending)
            pthread_cond_wait(&queue->filled, &queue->lock);
        uint64_t begin = queue->begin, end = queue->end;
        if (begin == end)
            break;
        pthread_mutex_unlock(&queue->lock);
        int error = write_range(queue, begin, end);
        pthread_mutex_lock(&queue->lock);
        queue->begin = end;
        queue->error = error;
        pthread_cond_broadcast(&queue->emptied);
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

/* ---- threads that put ----------------------------------------------------------------------------- */

static void copy_in(struct queue *queue, const unsigned char *bytes, size_t size)
{
    size_t at = queue->end % RING_BYTES;
    size_t first = size < RING_BYTES - at ? size : RING_BYTES - at;
    memcpy(queue->ring + at, bytes, first);
    memcpy(queue->ring, bytes + first, size - first);
    queue->end += size;
}

static int put(void *state, const void *data, size_t size)
{
    struct queue *queue = state;
    if (size > RING_BYTES)
        return -EMSGSIZE;
    pthread_mutex_lock(&queue->lock);
    while (queue->end + size - queue->begin > RING_BYTES && queue->error == 0)
        pthread_cond_wait(&queue->emptied, &queue->lock);
    int error = queue->error;
    bool was_empty = queue->begin == queue->end;
    if (error == 0)
        copy_in(queue, data, size);
    if (was_empty)
        pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
    return error;
}

static int open_queue(const struct plain_setup *setup, void **ret_state)
{
    struct queue *queue = calloc(1, sizeof(*queue));
    if (!queue)
        return -ENOMEM;
    int error = plain_open_to_append(setup->path, &queue->fd);
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->filled, NULL);
    pthread_cond_init(&queue->emptied, NULL);
    if (error == 0)
        error = -pthread_create(&queue->writer, NULL, write_behind, queue);
    if (error && queue->fd >= 0)
        close(queue->fd);
    if (error)
        free(queue);
    else
        *ret_state = queue;
    return error;
}

static int close_queue(void *state)
{
    struct queue *queue = state;
    pthread_mutex_lock(&queue->lock);
    queue->is_ending = true;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
    pthread_join(queue->writer, NULL);
    int error = queue->error;
    if (close(queue->fd) < 0 && error == 0)
        error = -errno;
    free(queue);
    return error;
}

const struct plain plain_queue = { .open = open_queue, .put = put, .close = close_queue };
