/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit as a program writes it for itself in an afternoon: a mutex, a condition variable and two buffers. Who
 * finds no write going on takes the buffer with what has come, writes it to the end of a file of zeros, syncs, and
 * wakes everybody. No frames, no checksums, no recovery.
 */
#include "common.h"
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES (4u << 20) /* or what the largest record needs */

struct by_hand {
    int fd;
    size_t buffer_bytes;
    pthread_mutex_t lock;
    pthread_cond_t changed;

    /* [lock] */
    char *buffers[2]; /* one is filled while the other is written */
    unsigned filling;
    size_t filled;
    off_t end;                       /* of what was handed out to be written */
    uint64_t records, synced, syncs; /* so many came, so many are durable */
    bool is_writing;
    int error;
};

static int write_and_sync(int fd, const char *buffer, size_t size, off_t offset)
{
    const ssize_t written = pwrite(fd, buffer, size, offset);

    if (written < 0)
        return -errno;
    if ((size_t)written != size)
        return -EIO;
    if (fdatasync(fd) < 0)
        return -errno;
    return 0;
}

/* Writes what has come. The lock is given back meanwhile. */
static void commit(struct by_hand *by_hand)
{
    const char *buffer = by_hand->buffers[by_hand->filling];
    const size_t size = by_hand->filled;
    const off_t offset = by_hand->end;
    const uint64_t records = by_hand->records;

    by_hand->is_writing = true;
    by_hand->filling = !by_hand->filling;
    by_hand->filled = 0;
    by_hand->end += (off_t)size;

    pthread_mutex_unlock(&by_hand->lock);
    const int error = write_and_sync(by_hand->fd, buffer, size, offset);
    pthread_mutex_lock(&by_hand->lock);

    by_hand->is_writing = false;
    by_hand->synced = records;
    by_hand->syncs++;
    if (by_hand->error == 0)
        by_hand->error = error;
    pthread_cond_broadcast(&by_hand->changed);
}

static int by_hand_append(void *state, const struct append *append)
{
    const struct twinlog_entry *record = append->records;
    struct by_hand *by_hand = state;

    pthread_mutex_lock(&by_hand->lock);
    while (by_hand->filled + record->size > by_hand->buffer_bytes)
        pthread_cond_wait(&by_hand->changed, &by_hand->lock);

    memcpy(by_hand->buffers[by_hand->filling] + by_hand->filled, record->data, record->size);
    by_hand->filled += record->size;
    const uint64_t number = ++by_hand->records;

    while (by_hand->synced < number && by_hand->error == 0) {
        if (by_hand->is_writing)
            pthread_cond_wait(&by_hand->changed, &by_hand->lock);
        else
            commit(by_hand);
    }
    const int error = by_hand->error;
    pthread_mutex_unlock(&by_hand->lock);
    return error;
}

static void by_hand_count(void *state, struct peer_counters *ret_counters)
{
    struct by_hand *by_hand = state;

    pthread_mutex_lock(&by_hand->lock);
    *ret_counters = (struct peer_counters){ .appends = by_hand->records, .syncs = by_hand->syncs };
    pthread_mutex_unlock(&by_hand->lock);
}

static int by_hand_close(void *state)
{
    struct by_hand *by_hand = state;
    const int error = close(by_hand->fd) == 0 ? 0 : -errno;

    free(by_hand->buffers[0]);
    free(by_hand->buffers[1]);
    free(by_hand);
    return error;
}

/* Zeros for what the round will append, at most 1 GiB: behind them the file grows. */
static int fill(int fd, uint64_t bytes)
{
    static const char zeros[1 << 20];
    const uint64_t most = UINT64_C(1) << 30;
    const uint64_t wanted = bytes < most ? bytes : most;

    for (uint64_t done = 0; done < wanted; done += sizeof(zeros)) {
        const ssize_t written = pwrite(fd, zeros, sizeof(zeros), (off_t)done);
        if (written < 0)
            return -errno;
        if (written < (ssize_t)sizeof(zeros)) /* the disk is full */
            return -ENOSPC;
    }
    return fsync(fd) == 0 ? 0 : -errno;
}

static int by_hand_open(const struct peer_setup *setup, void **ret_state)
{
    char path[4096];
    struct by_hand *by_hand = allocate(1, sizeof(*by_hand));

    *ret_state = by_hand;
    by_hand->buffer_bytes = BUFFER_BYTES;
    if (setup->largest_record > BUFFER_BYTES)
        by_hand->buffer_bytes = setup->largest_record;
    by_hand->buffers[0] = allocate(1, by_hand->buffer_bytes);
    by_hand->buffers[1] = allocate(1, by_hand->buffer_bytes);
    pthread_mutex_init(&by_hand->lock, NULL);
    pthread_cond_init(&by_hand->changed, NULL);

    snprintf(path, sizeof(path), "%s/log", setup->dir);
    by_hand->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (by_hand->fd < 0)
        return -errno;
    return fill(by_hand->fd, setup->expected_bytes);
}

const struct peer peer_by_hand = {
    .name = "by-hand",
    .what =
        "group commit in a few lines: a mutex, a condition variable, two buffers, pwrite() and fdatasync() into zeros",
    .open = by_hand_open,
    .append = by_hand_append,
    .count = by_hand_count,
    .close = by_hand_close,
};
