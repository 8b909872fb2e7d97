/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper looks after the segment files of a log, so that writers need not wait for it: it makes segments ahead
 * (spares.c), seals those that writers have left (seal.c), and removes what is not needed. Here are its thread, and
 * what that does next; how it takes over the segments that an opening has found; and its end.
 *
 * Where no thread can be started, a call that needs a segment makes it itself. All fields are under one lock. It is
 * released while a segment is made or sealed, and `is_busy` says so meanwhile.
 *
 * A failure here loses no record: a segment that can't be sealed is walked by its readers; a file that can't be removed
 * is retired again at the next opening.
 */
#include "base/bytes.h"
#include "keeper/inside.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

void twl_keeper_tell_over(struct keeper *k) REQUIRES(k->lock)
{
    twl_event_notify_all(&k->done);
    if (k->listener)
        k->listener->tell(k->listener->context);
    k->listener = NULL; /* a writer that still waits asks again */
}

void twl_keeper_tell_idle(struct keeper *k) REQUIRES(k->lock)
{
    if (k->has_thread)
        twl_event_notify_all(&k->done);
    else
        twl_keeper_tell_over(k);
}

void twl_keeper_rest(struct keeper *k) REQUIRES(k->lock)
{
    const uint32_t seen = twl_event_value(&k->done);

    twl_mutex_unlock(&k->lock);
    twl_event_sleep(&k->done, seen);
    twl_mutex_lock(&k->lock);
}

/* By halves, as a trim asks for each of them. */
struct segment_entry *twl_keeper_find(struct keeper *k, uint64_t sequence) REQUIRES(k->lock)
{
    size_t from = 0, end = k->started_count;

    while (from < end) {
        const size_t middle = from + (end - from) / 2;
        if (k->started[middle].header.sequence < sequence)
            from = middle + 1;
        else
            end = middle;
    }

    const bool is_there = from < k->started_count && k->started[from].header.sequence == sequence;
    if (!is_there)
        return NULL;
    return &k->started[from];
}

struct segment_entry twl_keeper_entry(const struct segment *segment, uint64_t first_lsn)
{
    struct segment_entry entry = {
        .header = segment->header,
        .file_bytes = segment->file_bytes,
        .is_known = true,
        .first_lsn = first_lsn,
    };

    memcpy(entry.name, segment->name, sizeof(entry.name));
    return entry;
}

/* ---- the thread ---------------------------------------------------------------------------------- */

static void tend(struct keeper *k) REQUIRES(k->lock)
{
    k->must_tend = false;
    if (!k->config.tend || !k->is_log_open)
        return;

    twl_mutex_unlock(&k->lock);
    k->config.tend(k->config.context);
    twl_mutex_lock(&k->lock);
}

/* Does one piece of work; false if there is none. */
static bool work(struct keeper *k) REQUIRES(k->lock)
{
    /* First of all, as writers wait for a segment to write in. */
    if (twl_keeper_make_next(k))
        return true;

    /* Before sealing: a writer may fill segments as fast as they are sealed, and the turn of this would never come. */
    if (k->must_tend) {
        tend(k);
        return true;
    }

    if (twl_keeper_seal_next(k))
        return true;
    return twl_keeper_remove_surplus(k);
}

/* There is no work now: tells other processes what was done, and sleeps until there is some, or for a second. */
static void rest_from_work(struct keeper *k) REQUIRES(k->lock)
{
    twl_keeper_count_files(k);
    const bool must_look = k->config.look && k->is_log_open;
    const uint32_t seen = twl_event_value(&k->work); /* work that comes from here on ends the sleep at once */
    twl_mutex_unlock(&k->lock);

    twl_counters_tell(k->config.counters, k->config.statistics);
    if (must_look)
        k->config.look(k->config.context);
    twl_event_sleep_until(&k->work, seen, twinlog_deadline(ASK_MS));

    twl_mutex_lock(&k->lock);
}

/* What is done before the thread ends. */
static void finish(struct keeper *k) REQUIRES(k->lock)
{
    while (twl_keeper_seal_next(k)) /* so that the next opening need not walk them */
        continue;
    tend(k);

    /* Where files are recycled, the next process may use the retired ones. */
    if (k->config.can_recycle)
        return;
    while (twl_keeper_remove_surplus(k))
        continue;
}

static void *look_after(void *argument)
{
    struct keeper *k = argument;
    uint64_t tended_ns = 0;

    twl_mutex_lock(&k->lock);
    while (!k->is_stopping) {
        if (trim_is_due(k->config.trim_ask, &tended_ns))
            k->must_tend = true;
        if (!work(k))
            rest_from_work(k);
    }

    finish(k);
    twl_mutex_unlock(&k->lock);
    return NULL;
}

bool twl_keeper_has_thread(struct keeper *k) REQUIRES(k->lock)
{
    const bool may_start = !k->is_stopping && k->config.io->has_threads;

    if (!k->has_thread && may_start)
        k->has_thread = twl_thread_start(&k->thread, look_after, k) == 0;
    return k->has_thread;
}

/* All that there is to do but making segments, which the calls do that need one. */
static void work_without_thread(struct keeper *k) REQUIRES(k->lock)
{
    while (twl_keeper_seal_next(k) || twl_keeper_remove_surplus(k))
        continue;
    if (k->must_tend)
        tend(k);
}

void twl_keeper_get_going(struct keeper *k) REQUIRES(k->lock)
{
    if (!k->config.io->has_threads)
        work_without_thread(k);
    else if (twl_keeper_has_thread(k))
        twl_event_notify_all(&k->work);
}

static void end_thread(struct keeper *k)
{
    twl_mutex_lock(&k->lock);
    k->is_stopping = true;
    const bool has_thread = k->has_thread;
    k->has_thread = false;
    twl_mutex_unlock(&k->lock);
    if (!has_thread)
        return;

    twl_event_notify_all(&k->work);
    pthread_join(k->thread, NULL);
}

/* ---- segments that an opening has found ---------------------------------------------------------- */

/* Does the block in which the first group will begin have only zeros, on the disk and in the page cache? */
static int look_at_first_block(const struct segment *segment, bool *ret_is_zero)
{
    const uint64_t from = SEGMENT_DATA_OFFSET, to = SEGMENT_DATA_OFFSET + BLOCK_BYTES;
    bool is_cache_zero = true;
    size_t size = 0;

    unsigned char *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (!block)
        return -ENOMEM;

    int rc = io_read(segment->file, block, BLOCK_BYTES, from, &size);
    if (rc == 0)
        rc = twl_segment_look_into_cache(segment, from, to, &is_cache_zero);
    *ret_is_zero = is_cache_zero && are_zeros(block, size);
    free(block);
    return rc;
}

/* A torn group may have left a part of its header where first groups begin. The next first group may be at
 * another offset and must not complete it. A header that only the page cache still has would show readers beside this
 * writer a started segment. */
static int clean_first_block(const struct segment *segment)
{
    static _Alignas(BLOCK_BYTES) const unsigned char zeros[BLOCK_BYTES];
    bool is_zero;

    const int rc = look_at_first_block(segment, &is_zero);
    if (rc < 0)
        return rc;

    /* Nothing is written without need: the block may be a hole, and the disk full. */
    if (is_zero)
        return 0;
    return io_write_at(segment->file, zeros, BLOCK_BYTES, SEGMENT_DATA_OFFSET);
}

/* Opens a spare that is there, and makes it ready. */
static int adopt_spare(struct keeper *k, const struct segment_entry *entry) REQUIRES(k->lock)
{
    const struct keeper_config *config = &k->config;
    struct segment segment;

    if (k->count == MAX_SPARES)
        return -EMFILE; /* no writer of this library leaves more */
    int rc = twl_keeper_stock_up(k, k->count + 2);
    if (rc < 0)
        return rc;
    rc = twl_segment_open(config->io, entry->name, k->plan.open_flags, config->lock_timeout_ms, &segment,
                          NULL);
    if (rc < 0)
        return rc;

    rc = clean_first_block(&segment);
    if (rc == 0) /* the header was read from the disk; it must be durable before the first group (I8) */
        rc = io_sync(segment.file);
    if (rc == 0)
        rc = twl_segment_give_summary(&segment);
    if (rc < 0) {
        twl_segment_close(&segment);
        return rc;
    }

    twl_keeper_put_ready(k, &segment);
    return 0;
}

static int adopt_spares(struct keeper *k, const struct segment_set *set) REQUIRES(k->lock)
{
    const struct segment_entry *spares = set->entries + set->started;

    for (size_t i = 0; i < set->spares; i++) {
        const int rc = adopt_spare(k, &spares[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void adopt_retired(struct keeper *k, const struct segment_set *set) REQUIRES(k->lock)
{
    const struct segment_entry *retired = set->entries + set->started + set->spares;

    for (size_t i = 0; i < set->retired; i++)
        twl_keeper_retire_file(k, retired[i].name, &retired[i].header, retired[i].file_bytes);
}

/* Finds how many segments must be walked. A footer says that a segment is sealed, and all before a sealed
 * one are sealed. */
static int find_unsealed(struct keeper *k) REQUIRES(k->lock)
{
    size_t sealed = k->started_count - 1;

    while (sealed > 0) {
        struct segment_entry *entry = &k->started[sealed - 1];
        const int rc = twl_segment_look(k->config.io, entry);
        if (rc < 0)
            return rc;
        if (entry->is_sealed)
            break;
        sealed--;
    }

    k->sealed = sealed;
    k->max_time_so_far_ns = INT64_MIN;
    if (sealed > 0)
        k->max_time_so_far_ns = k->started[sealed - 1].footer.max_time_so_far_ns;
    return 0;
}

static int take_started(struct keeper *k, const struct segment_set *set) REQUIRES(k->lock)
{
    k->started = calloc(set->started, sizeof(*k->started));
    if (!k->started)
        return -ENOMEM;

    memcpy(k->started, set->entries, set->started * sizeof(*k->started));
    k->started_count = set->started;
    k->started_room = set->started;
    k->started[k->started_count - 1].is_sealed = false; /* it is written again */
    return 0;
}

/* How many spares there are to be, and how large. Those that are wanted from the start have the largest size. */
static void plan_spares(struct keeper *k) REQUIRES(k->lock)
{
    k->wanted = k->config.spares;
    if (k->wanted > 0)
        k->plan.bytes = k->config.max_bytes;
    else
        k->plan.bytes = min_u64(k->plan.bytes, k->config.max_bytes);
}

static int take_set(struct keeper *k, const struct segment_set *set) REQUIRES(k->lock)
{
    int rc = take_started(k, set);
    if (rc == 0)
        rc = find_unsealed(k);
    if (rc == 0)
        rc = adopt_spares(k, set);
    if (rc < 0)
        return rc;

    adopt_retired(k, set);
    plan_spares(k);
    return 0;
}

int twl_keeper_create(const struct keeper_config *config, struct keeper **ret_keeper)
{
    struct keeper *k = calloc(1, sizeof(*k));
    if (!k)
        return -ENOMEM;

    k->config = *config;
    k->plan = config->plan;
    twl_mutex_init(&k->lock);

    twl_mutex_lock(&k->lock);
    int rc = take_set(k, config->set);
    k->config.set = NULL;
    twl_mutex_unlock(&k->lock);
    if (rc < 0) {
        twl_keeper_destroy(k);
        return rc;
    }

    *ret_keeper = k;
    return 0;
}

void twl_keeper_start(struct keeper *k)
{
    twl_mutex_lock(&k->lock);
    k->is_log_open = true;
    twl_keeper_count_files(k);
    k->must_tend = true;
    twl_keeper_get_going(k); /* also without work: another process may ask for a trim */
    twl_mutex_unlock(&k->lock);

    twl_counters_tell(k->config.counters, k->config.statistics);
}

static int remove_durably(struct io *io, const char *name)
{
    const int rc = io->ops->unlink(io, name);

    if (rc < 0 && rc != -ENOENT)
        return rc;
    return io->ops->sync_dir(io);
}

/* Newest first, and none in front of one that may still be there: a gap in the sequence would count as damage. */
int twl_keeper_remove_ready(struct keeper *k)
{
    int rc = 0;

    end_thread(k);
    while (k->count > 0) {
        struct segment *newest = &k->ready[k->count - 1];
        if (rc == 0)
            rc = remove_durably(k->config.io, newest->name);
        twl_segment_close(newest);
        k->count--;
    }
    return rc;
}

int64_t twl_keeper_destroy(struct keeper *k) NO_THREAD_SAFETY_ANALYSIS
{
    if (!k)
        return INT64_MAX;

    end_thread(k);
    const int64_t max_time_so_far_ns = k->max_time_so_far_ns;

    /* Only another mapped log could use them, and that begins with a small one. */
    if (k->plan.is_mapped)
        twl_keeper_remove_ready(k);
    for (uint32_t i = 0; i < k->count; i++)
        twl_segment_close(&k->ready[i]);
    for (size_t i = 0; i < k->left_count; i++)
        twl_segment_close(&k->left[i]);

    twl_mutex_destroy(&k->lock);
    free(k->started);
    free(k->retired);
    free(k);
    return max_time_so_far_ns;
}
