/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments prepared ahead.
 *
 * Each one is twice as large as the one before, up to the limit, so that a small log takes little disk
 * and a busy one rolls seldom. When a group does not fit in the next spare, that one is replaced by a
 * larger one of the same sequence: the rename takes the old file's place in one step.
 *
 * A failure of the helper (a full disk, mostly) is not reported here: whoever takes a segment tries
 * again himself and gets the error.
 */
#define _GNU_SOURCE
#include "segment/spares.h"

#include "base/sync.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SPARES 64u

struct spares {
    struct io *io;      /* [const] */
    uint64_t max_bytes; /* [const] */

    struct twl_mutex lock;
    struct segment_plan plan;         /* [lock] of the next segment to make */
    struct segment ready[MAX_SPARES]; /* [lock] */
    uint32_t count;                   /* [lock] */
    uint32_t wanted;                  /* [lock] */
    uint64_t made_bytes;              /* [lock] */
    bool is_busy;                     /* [lock] the helper is making one */
    bool has_failed;                  /* [lock] the helper gave up until asked again */
    bool has_thread;                  /* [lock] */
    bool is_stopping;                 /* [lock] */
    pthread_t thread;                 /* [lock] */

    struct twl_event work; /* the helper sleeps on it */
    struct twl_event done; /* takers sleep on it */
};

int twl_spares_create(const struct spares_config *config, struct spares **ret_spares)
{
    struct spares *spares = calloc(1, sizeof(*spares));
    if (!spares)
        return -ENOMEM;
    spares->io = config->io;
    spares->plan = config->plan;
    spares->max_bytes = config->max_bytes;
    twl_mutex_init(&spares->lock);
    *ret_spares = spares;
    return 0;
}

static void end_helper(struct spares *spares)
{
    twl_mutex_lock(&spares->lock);
    spares->is_stopping = true;
    bool has_thread = spares->has_thread;
    twl_mutex_unlock(&spares->lock);
    if (has_thread) {
        twl_event_notify_all(&spares->work);
        pthread_join(spares->thread, NULL);
    }
    twl_mutex_destroy(&spares->lock);
}

void twl_spares_destroy(struct spares *spares, bool is_forked)
{
    if (!spares)
        return;
    if (!is_forked) { /* in a child they may be half exchanged */
        end_helper(spares);
        for (uint32_t i = 0; i < spares->count; i++)
            twl_segment_close(&spares->ready[i]);
    }
    free(spares);
}

static void plan_next(struct spares *spares, const struct segment *segment) REQUIRES(spares->lock)
{
    spares->plan.sequence = segment->header.sequence + 1;
    spares->plan.bytes = min_u64(2 * segment->header.bytes, spares->max_bytes);
}

static void put(struct spares *spares, const struct segment *segment) REQUIRES(spares->lock)
{
    spares->ready[spares->count++] = *segment;
    plan_next(spares, segment);
}

bool twl_spares_adopt(struct spares *spares, const struct segment *segment)
{
    twl_mutex_lock(&spares->lock);
    bool has_room = spares->count < MAX_SPARES;
    if (has_room)
        put(spares, segment);
    twl_mutex_unlock(&spares->lock);
    return has_room;
}

static void *help(void *argument)
{
    struct spares *spares = argument;
    twl_mutex_lock(&spares->lock);
    while (!spares->is_stopping) {
        if (spares->count >= spares->wanted || spares->has_failed) {
            uint32_t seen = twl_event_value(&spares->work);
            twl_mutex_unlock(&spares->lock);
            twl_event_sleep(&spares->work, seen);
            twl_mutex_lock(&spares->lock);
            continue;
        }
        struct segment_plan plan = spares->plan;
        struct segment segment;
        spares->is_busy = true;
        twl_mutex_unlock(&spares->lock);
        int rc = twl_segment_create(spares->io, &plan, &segment);
        twl_mutex_lock(&spares->lock);
        spares->is_busy = false;
        spares->has_failed = rc < 0;
        if (rc == 0) {
            spares->made_bytes += plan.bytes;
            put(spares, &segment);
        }
        twl_event_notify_all(&spares->done);
    }
    twl_mutex_unlock(&spares->lock);
    return NULL;
}

/* The application's signals are not for the helper. */
static void start_helper(struct spares *spares) REQUIRES(spares->lock)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    spares->has_thread = pthread_create(&spares->thread, NULL, help, spares) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void twl_spares_want(struct spares *spares, uint32_t count, bool is_large, uint64_t after_lsn, uint32_t epoch)
{
    if (!spares->io->has_threads)
        return;
    twl_mutex_lock(&spares->lock);
    spares->wanted = (uint32_t)min_u64(count, MAX_SPARES);
    spares->has_failed = false;
    spares->plan.after_lsn = after_lsn;
    spares->plan.epoch = epoch;
    if (is_large)
        spares->plan.bytes = spares->max_bytes;
    if (!spares->has_thread && spares->count < spares->wanted)
        start_helper(spares);
    twl_mutex_unlock(&spares->lock);
    twl_event_notify_all(&spares->work);
}

static void wait_for_helper(struct spares *spares) REQUIRES(spares->lock)
{
    while (spares->count == 0 && spares->is_busy) {
        uint32_t seen = twl_event_value(&spares->done);
        twl_mutex_unlock(&spares->lock);
        twl_event_sleep(&spares->done, seen);
        twl_mutex_lock(&spares->lock);
    }
}

static void pop(struct spares *spares, struct segment *ret_segment) REQUIRES(spares->lock)
{
    *ret_segment = spares->ready[0];
    spares->count--;
    memmove(spares->ready, spares->ready + 1, spares->count * sizeof(spares->ready[0]));
}

static bool is_enough(uint64_t segment_bytes, uint64_t min_bytes)
{
    return segment_bytes - SEGMENT_HEADER_BYTES - SEGMENT_FOOTER_BYTES >= min_bytes;
}

/* On a disk that is nearly full a smaller segment may still find room. */
static bool can_be_halved(uint64_t segment_bytes, uint64_t min_bytes)
{
    return segment_bytes / 2 >= SEGMENT_MIN_BYTES && is_enough(segment_bytes / 2, min_bytes);
}

static uint64_t room_in(const struct segment *segment)
{
    return segment->data_end - SEGMENT_DATA_OFFSET;
}

int twl_spares_take(struct spares *spares, uint64_t min_bytes, struct segment *ret_segment, bool *ret_waited)
{
    struct segment segment;
    int rc = 0;
    twl_mutex_lock(&spares->lock);
    *ret_waited = spares->count == 0;
    wait_for_helper(spares);

    struct segment_plan plan = spares->plan;
    bool has_one = spares->count > 0;
    if (has_one)
        pop(spares, &segment);
    bool is_too_small = has_one && room_in(&segment) < min_bytes;
    if (is_too_small) {
        plan.sequence = segment.header.sequence;
        plan.bytes = segment.header.bytes;
    }
    if (!has_one || is_too_small) {
        while (!is_enough(plan.bytes, min_bytes))
            plan.bytes = min_u64(2 * plan.bytes, spares->max_bytes);
        *ret_waited = true;
        /* The helper must not make the same one meanwhile: keep the lock, it is rare. */
        struct segment replaced = segment;
        while ((rc = twl_segment_create(spares->io, &plan, &segment)) == -ENOSPC &&
               can_be_halved(plan.bytes, min_bytes))
            plan.bytes = align_up(plan.bytes / 2, BLOCK_BYTES);
        if (is_too_small)
            twl_segment_close(&replaced);
        if (rc == 0)
            spares->made_bytes += plan.bytes - (is_too_small ? replaced.header.bytes : 0);
        if (rc == 0 && spares->count == 0)
            plan_next(spares, &segment);
    }
    spares->wanted = spares->wanted > 0 ? spares->wanted - 1 : 0;
    twl_mutex_unlock(&spares->lock);
    if (rc == 0)
        *ret_segment = segment;
    return rc;
}

void twl_spares_count(struct spares *spares, struct spares_count *ret_count)
{
    twl_mutex_lock(&spares->lock);
    *ret_count = (struct spares_count){ .ready = spares->count, .made_bytes = spares->made_bytes };
    twl_mutex_unlock(&spares->lock);
}
