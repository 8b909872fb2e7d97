/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pace: how fast threads that block can be on this disk when nothing is left of a log but the checksum of each
 * record, the lock around a buffer, and the sleep until the group is written. twinlog is to be close to it.
 *
 * Two buffers and one group in flight, written over blocks that were written before, with RWF_DSYNC. A thread that has
 * put its record leads if no thread does. Otherwise it yields a few times, and looks only whether the record is
 * durable; then it sleeps on the word of its group, and leads if it is woken before that is durable. `pace-gathering`
 * yields longer, and its leader waits for as many threads as came last time, for 100 µs at most. `pace-flight` is for
 * one thread that does not wait: it puts records until so many are on their way, and a second thread leads. None is a
 * log: nothing could be found again.
 */
#include "peer.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

#define BLOCK_BYTES ((size_t)4096)
#define BUFFER_BYTES ((size_t)8 << 20)
#define SPAN_BYTES ((uint64_t)512 << 20) /* of the file; behind its end the next group begins at 0 */
#define WORDS 64u                        /* so that a wake reaches no later group */
#define HEADER_BYTES ((size_t)24)        /* as twinlog has beside a record */

struct group {
    unsigned char *bytes;
    size_t used;
    unsigned records;
};

struct pace {
    int fd;
    unsigned yields, gather_us;
    uint64_t offset;
    pthread_mutex_t lock;
    pthread_cond_t has_room;
    struct group groups[2]; /* group n is in groups[n % 2] */
    uint64_t filling;       /* number of the group that is being filled, from 1 */
    unsigned expected;      /* records that will probably come */
    bool is_led;
    _Atomic uint64_t durable;      /* number of the newest durable group */
    _Atomic uint32_t words[WORDS]; /* group n sleeps on words[n % WORDS] */
    _Atomic int error;
    uint64_t appends, commits;

    /* of pace-flight */
    bool has_leader, is_over;
    uint64_t window, settled; /* records that may be on their way; those that no longer are */
    pthread_cond_t has_work, has_settled;
    pthread_t leader;
};

static struct group *group_at(struct pace *pace, uint64_t number)
{
    return &pace->groups[number % 2];
}

static _Atomic uint32_t *word_of(struct pace *pace, uint64_t number)
{
    return &pace->words[number % WORDS];
}

static void wake(struct pace *pace, uint64_t number, int how_many)
{
    atomic_fetch_add(word_of(pace, number), 1);
    syscall(SYS_futex, word_of(pace, number), FUTEX_WAKE_PRIVATE, how_many, NULL, NULL, 0);
}

/* The lock is held on entry and on return; so in lead(). */
static void gather(struct pace *pace)
{
    const uint64_t until_ns = now_ns() + pace->gather_us * UINT64_C(1000);
    while (group_at(pace, pace->filling)->records < pace->expected && now_ns() < until_ns) {
        pthread_mutex_unlock(&pace->lock);
        sched_yield();
        pthread_mutex_lock(&pace->lock);
    }
}

static void lead(struct pace *pace)
{
    pace->is_led = true;
    if (pace->gather_us > 0)
        gather(pace);
    const uint64_t number = pace->filling++;
    struct group *sealed = group_at(pace, number), *next = group_at(pace, number + 1);
    next->used = 0;
    next->records = 0;
    const size_t size = (sealed->used + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    const uint64_t offset = pace->offset + size <= SPAN_BYTES ? pace->offset : 0;
    pace->offset = offset + size;
    pthread_cond_broadcast(&pace->has_room);
    pthread_mutex_unlock(&pace->lock);

    memset(sealed->bytes + sealed->used, 0, size - sealed->used);
    const int error = direct_write(pace->fd, sealed->bytes, size, offset);

    pthread_mutex_lock(&pace->lock);
    pace->commits++;
    pace->is_led = false;
    pace->expected = sealed->records + next->records;
    if (error)
        atomic_store(&pace->error, error);
    atomic_store(&pace->durable, number);
    const bool must_hand_on = next->records > 0;
    pthread_mutex_unlock(&pace->lock);
    wake(pace, number, INT_MAX);
    if (must_hand_on)
        wake(pace, number + 1, 1);
    pthread_mutex_lock(&pace->lock);
}

static bool is_done(struct pace *pace, uint64_t number)
{
    return atomic_load(&pace->durable) >= number;
}

/* Waits until at most `most` records are on their way. The lock is held. */
static void settle(struct pace *pace, uint64_t most)
{
    while (pace->appends - pace->settled > most)
        pthread_cond_wait(&pace->has_settled, &pace->lock);
}

/* Puts a record; the group it is in. Leads if no thread does. */
static uint64_t put(struct pace *pace, const void *data, size_t size, uint32_t *ret_seen)
{
    const uint32_t crc = checksum_of(data, size);
    pthread_mutex_lock(&pace->lock);
    settle(pace, pace->window - 1);
    while (group_at(pace, pace->filling)->used + HEADER_BYTES + size > BUFFER_BYTES)
        pthread_cond_wait(&pace->has_room, &pace->lock);
    const uint64_t number = pace->filling;
    struct group *group = group_at(pace, number);
    memcpy(group->bytes + group->used, &crc, sizeof(crc));
    memcpy(group->bytes + group->used + HEADER_BYTES, data, size);
    group->used += HEADER_BYTES + size;
    group->records++;
    pace->appends++;
    *ret_seen = atomic_load(word_of(pace, number));
    if (pace->has_leader && group->records == 1)
        pthread_cond_signal(&pace->has_work);
    else if (!pace->has_leader && !pace->is_led)
        lead(pace);
    pthread_mutex_unlock(&pace->lock);
    return number;
}

static int pace_append(void *state, const struct append *append)
{
    const struct twinlog_entry *record = append->records;
    struct pace *pace = state;
    uint32_t seen;
    if (record->size + HEADER_BYTES > BUFFER_BYTES)
        return -EMSGSIZE;
    const uint64_t number = put(pace, record->data, record->size, &seen);
    for (unsigned i = 0; i < pace->yields && !is_done(pace, number); i++)
        sched_yield();
    while (!is_done(pace, number)) {
        syscall(SYS_futex, word_of(pace, number), FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        if (is_done(pace, number)) /* as it is for all but the next leader: not one more turn with the lock */
            break;
        pthread_mutex_lock(&pace->lock);
        seen = atomic_load(word_of(pace, number));
        if (!pace->is_led && pace->filling == number)
            lead(pace);
        pthread_mutex_unlock(&pace->lock);
    }
    return atomic_load(&pace->error);
}

/* Buffered; or durable, with all before it. */
static int flight_append(void *state, const struct append *append)
{
    struct pace *pace = state;
    uint32_t seen;
    for (const struct twinlog_entry *record = append->records; record < append->records + append->count;
         record++) {
        if (record->size + HEADER_BYTES > BUFFER_BYTES)
            return -EMSGSIZE;
        put(pace, record->data, record->size, &seen);
    }
    if (append->level != APPEND_BUFFERED) {
        pthread_mutex_lock(&pace->lock);
        settle(pace, 0);
        pthread_mutex_unlock(&pace->lock);
    }
    return atomic_load(&pace->error);
}

static void *run_leader(void *state)
{
    struct pace *pace = state;
    pthread_mutex_lock(&pace->lock);
    for (;;) {
        while (group_at(pace, pace->filling)->records == 0 && !pace->is_over)
            pthread_cond_wait(&pace->has_work, &pace->lock);
        if (group_at(pace, pace->filling)->records == 0)
            break;
        lead(pace);
        pace->settled += group_at(pace, pace->filling - 1)->records;
        pthread_cond_broadcast(&pace->has_settled);
    }
    pthread_mutex_unlock(&pace->lock);
    return NULL;
}

static int pace_close(void *state)
{
    struct pace *pace = state;
    if (pace->has_leader) {
        pthread_mutex_lock(&pace->lock);
        pace->is_over = true;
        pthread_cond_signal(&pace->has_work);
        pthread_mutex_unlock(&pace->lock);
        pthread_join(pace->leader, NULL);
    }
    if (pace->fd >= 0)
        close(pace->fd);
    for (unsigned i = 0; i < 2; i++)
        free(pace->groups[i].bytes);
    free(pace);
    return 0;
}

struct kind {
    unsigned yields, gather_us;
    bool has_leader; /* a thread that leads; as many records as there may be threads are on their way */
};

static int pace_open(const struct peer_setup *setup, void **ret_state)
{
    const struct kind *kind = setup->peer->kind;
    struct pace *pace = *ret_state = allocate(1, sizeof(*pace));
    pace->yields = kind->yields;
    pace->gather_us = kind->gather_us;
    pace->filling = 1;
    pace->fd = -1;
    pace->window = kind->has_leader ? setup->threads : UINT64_MAX;
    pthread_cond_init(&pace->has_work, NULL);
    pthread_cond_init(&pace->has_settled, NULL);
    pthread_mutex_init(&pace->lock, NULL);
    pthread_cond_init(&pace->has_room, NULL);
    for (unsigned i = 0; i < 2; i++)
        pace->groups[i].bytes = allocate_blocks(BUFFER_BYTES);
    int error = direct_open(setup->dir, pace->groups[0].bytes, SPAN_BYTES, &pace->fd);
    if (error == 0 && kind->has_leader) {
        error = -pthread_create(&pace->leader, NULL, run_leader, pace);
        pace->has_leader = error == 0;
    }
    return error;
}

static void pace_count(void *state, struct peer_counters *ret_counters)
{
    struct pace *pace = state;
    pthread_mutex_lock(&pace->lock);
    *ret_counters = (struct peer_counters){ .appends = pace->appends, .syncs = pace->commits };
    pthread_mutex_unlock(&pace->lock);
}

#define PACE(its_name, its_what, its_append, ...)                                                            \
    {                                                                                                        \
        .name = its_name, .what = its_what, .kind = &(const struct kind){ __VA_ARGS__ },                     \
        .is_only_named = true, .writes_by_call = true, .open = pace_open, .append = its_append,              \
        .count = pace_count, .close = pace_close, .explain = direct_explain                                  \
    }
const struct peer peer_pace_blocking =
    PACE("pace-blocking", "the pace: group commit without format and recovery, 4 yields before a sleep",
         pace_append, 4, 0, false);
const struct peer peer_pace_gathering =
    PACE("pace-gathering", "the pace: the same with 8 yields, and groups gathered for up to 100 µs",
         pace_append, 8, 100, false);
const struct peer peer_pace_flight =
    PACE("pace-flight", "the pace of p5: one thread that does not wait, a second one that writes",
         flight_append, 0, 0, true);
