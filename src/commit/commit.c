/* SPDX-License-Identifier: Apache-2.0 */
/* Create, stop, restart, destroy; marker groups, which have no records; statistics; and the table of the engine. */
#define _GNU_SOURCE
#include "base/fork.h"
#include "commit/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- create and destroy ------------------------------------------------------------------------ */

/* Reads the part of the last block that is already on disk; the next write repeats it. */
static int load_tail(struct commit *c, uint64_t offset)
{
    const uint32_t start = (uint32_t)(offset % BLOCK_BYTES);
    size_t size = 0;

    if (start == 0)
        return 0;
    const int rc = io_read(c->segment.file, c->twins[0].bytes, BLOCK_BYTES, offset - start, &size);
    if (rc < 0)
        return rc;
    if (size < start)
        return -EIO;
    return 0;
}

/* Where the log goes on: the next group goes to `offset` of this segment, and continues `position`. */
static void begin(struct commit *c, const struct segment *segment, uint64_t offset,
                  const struct position *position, struct epoch epoch)
{
    twl_mutex_lock(&c->lock);
    c->epoch = epoch;
    c->epoch_seed = twl_epoch_seed(segment->header.log_id, epoch);
    c->segment = *segment;
    c->has_asked_spare = false;
    c->chain = position->chain;
    atomic_store(&c->last_lsn, position->next_lsn - 1);
    atomic_store(&c->written, position->next_lsn - 1);
    watermark_store(&c->durable, position->next_lsn - 1);
    twl_fill_twin(c, 0, offset, position->next_lsn);
    const uint64_t appends = c->appends;
    twl_mutex_unlock(&c->lock);

    set_alone(&c->statistics->written_lsn, position->next_lsn - 1);
    set_alone(&c->statistics->began_lsn, position->next_lsn - appends);
}

/* The keeper has made a segment, or has failed to. */
static void tell_made(void *context)
{
    twl_announce_room(context);
}

/* With its buffers, and nothing else. NULL: no memory. */
static struct commit *allocate(uint32_t buffer_bytes)
{
    struct commit *c = aligned_alloc(CACHE_LINE, align_up(sizeof(*c), CACHE_LINE));
    if (!c)
        return NULL;
    memset(c, 0, sizeof(*c));

    c->memory = twl_private_memory(2 * (size_t)buffer_bytes);
    if (!c->memory) {
        free(c);
        return NULL;
    }
    c->twins[0].bytes = c->memory;
    c->twins[1].bytes = (unsigned char *)c->memory + buffer_bytes;
    return c;
}

static void init(struct commit *c, const struct commit_config *config)
{
    const struct twinlog_options *options = config->options;

    c->io = config->io;
    c->keeper = config->keeper;
    c->options = *options;
    c->group_flags = twl_group_flags_for(options->buffer_bytes);
    atomic_store(&c->client.flush_interval_ms, options->flush_interval_ms);
    c->shared = config->shared;
    c->statistics = config->shared->statistics;
    c->counters = config->counters;
    c->waiters_end = &c->first_waiter;
    twl_mutex_init(&c->lock);
    twl_mutex_init(&c->client.making);
    twl_mutex_init(&c->listening);
    c->when_made = (struct keeper_listener){ .tell = tell_made, .context = c };
}

int twl_commit_create(const struct commit_config *config, struct commit **ret_commit)
{
    const struct twinlog_options *options = config->options;
    ASSERT(twl_group_room(twl_record_bytes(options->max_record_bytes)) <= options->buffer_bytes);

    struct commit *c = allocate(options->buffer_bytes);
    if (!c)
        return -ENOMEM;
    init(c, config);

    const bool starts_block = (options->flags & TWINLOG_PAD) && !config->has_junk;
    const uint64_t offset = starts_block ? align_up(config->offset, BLOCK_BYTES) : config->offset;
    begin(c, &config->segment, offset, &config->position, config->epoch);
    twl_client_take(c, options->committer);

    const int rc = load_tail(c, offset);
    if (rc < 0) {
        c->segment = (struct segment){ 0 }; /* the caller keeps it */
        twl_commit_destroy(c);
        return rc;
    }

    *ret_commit = c;
    return 0;
}

void twl_commit_destroy(struct commit *c)
{
    if (!c)
        return;
    twl_client_leave(c);
    twl_segment_close(&c->segment);
    twl_segment_close(&c->left);
    twl_segment_close(&c->next);
    twl_forget_listeners(c);
    twl_mutex_destroy(&c->listening);
    twl_mutex_destroy(&c->client.making);
    twl_mutex_destroy(&c->lock);
    twl_private_memory_free(c->memory, 2 * (size_t)c->options.buffer_bytes);
    free(c);
}

/* ---- stop and go on ------------------------------------------------------------------------------ */

static int wait_for_all(struct commit *c)
{
    const struct terms durable = { .level = TWINLOG_LEVEL_DURABLE };
    return twl_commit_wait(c, twl_commit_last_lsn(c), &durable, false);
}

int twl_commit_stop(struct commit *c) NO_THREAD_SAFETY_ANALYSIS
{
    int rc = wait_for_all(c);
    if (rc < 0)
        return rc;

    twl_lead_patiently(c); /* the leader that made it durable may still be at work */
    rc = atomic_load(&c->poison);
    if (rc < 0) {
        twl_release_leadership(c, NULL);
        return rc;
    }
    ASSERT(watermark_load(&c->durable) == atomic_load(&c->last_lsn));
    return 0;
}

void twl_commit_go_on(struct commit *c) NO_THREAD_SAFETY_ANALYSIS
{
    twl_release_leadership(c, NULL);
}

/* Waits before it lets the committer go, because only a shared committer leads its logs. */
int twl_commit_end(struct commit *c)
{
    const int rc = wait_for_all(c);
    twl_client_leave(c);
    if (rc < 0)
        return rc;
    return twl_commit_stop(c);
}

void twl_commit_restart(struct commit *c, const struct segment *segment, const struct position *position,
                        struct epoch epoch)
{
    ASSERT(atomic_load(&c->leadership.is_taken));
    twl_segment_close(&c->segment);
    begin(c, segment, SEGMENT_DATA_OFFSET, position, epoch);
}

/* ---- marker groups ----------------------------------------------------------------------------- */

/* Gives the marker a place in the active segment, or in the next one, if that is ready. False: there is neither.
 *
 * The marker group of a close proves the last group. It is in a block of its own, so that one bad sector cannot destroy
 * both. A close leaves half of the room for marker groups to opens: a log can do without the marker of a close, but
 * cannot be opened without the marker of a start. */
static bool place_marker(struct commit *c, enum group_kind kind, uint64_t group_bytes) REQUIRES(c->lock)
{
    const struct twin *twin = &c->twins[c->filling];
    uint64_t offset = twin->offset + twin->start;
    uint64_t end = c->segment.write_end;

    if (kind == GROUP_CLOSE) {
        offset = align_up(offset, BLOCK_BYTES);
        end -= twl_room_for_markers(&c->segment) / 2;
    }

    const bool is_room_left = align_up(offset + GROUP_HEADER_BYTES, BLOCK_BYTES) <= end;
    const bool has_place = is_room_left || twl_take_next(c, group_bytes);
    if (has_place)
        twl_fill_twin(c, c->filling, offset, twin->first_lsn);
    return has_place;
}

/* 0: the filling buffer is where the marker goes. Else why there is no segment for it. */
static int await_place_for_marker(struct commit *c, enum group_kind kind)
{
    const uint64_t group_bytes = twl_group_room(0);

    for (;;) {
        twl_mutex_lock(&c->lock);
        const bool has_place = place_marker(c, kind, group_bytes);
        twl_mutex_unlock(&c->lock);
        if (has_place)
            return 0;

        const int rc = twl_wait_for_next(c, group_bytes);
        if (rc < 0)
            return rc;
    }
}

int twl_commit_write_marker(struct commit *c, enum group_kind kind) NO_THREAD_SAFETY_ANALYSIS
{
    struct round round;

    ASSERT(atomic_load(&c->leadership.is_taken));
    const int rc = await_place_for_marker(c, kind);
    if (rc < 0)
        return rc;

    (void)twl_lead_round(c, kind, &round); /* not if the log is poisoned by now */
    return atomic_load(&c->poison);
}

/* ---- state and statistics ---------------------------------------------------------------------- */

uint64_t twl_commit_last_lsn(const struct commit *c)
{
    return atomic_load_explicit(&c->last_lsn, memory_order_acquire);
}

int twl_commit_give_up(struct commit *c, int error)
{
    error = lasting_error(error);
    atomic_store(&c->poison, error);
    twl_page_publish_poison(c->shared, error);
    twl_tell_queues(c);
    return error;
}

/* ---- the engine of the durable mode ---------------------------------------------------------------- */

static int wait_for(void *engine, uint64_t lsn, const struct terms *terms)
{
    return twl_commit_wait(engine, lsn, terms, false);
}

static int get_poison(void *engine)
{
    struct commit *c = engine;
    return atomic_load(&c->poison);
}

static int sync_all(void *engine)
{
    struct commit *c = engine;
    const int rc = wait_for_all(c);

    if (rc < 0)
        return rc;
    return atomic_load(&c->poison);
}

static int finish(void *engine)
{
    struct commit *c = engine;

    int rc = twl_commit_end(c);
    if (rc == 0)
        rc = twl_commit_write_marker(c, GROUP_CLOSE);

    /* Only the marker has found no room: the next opening does without it. */
    const bool is_all_durable = watermark_load(&c->durable) == twl_commit_last_lsn(c);
    if (is_no_space(rc) && is_all_durable)
        rc = 0;
    return rc;
}

static uint64_t newest_lsn(void *engine, enum twinlog_level level)
{
    struct commit *c = engine;
    if (level == TWINLOG_LEVEL_DURABLE)
        return watermark_load(&c->durable);
    if (level == TWINLOG_LEVEL_WRITTEN)
        return atomic_load_explicit(&c->written, memory_order_acquire);
    return twl_commit_last_lsn(c);
}

static void count(void *engine, struct twinlog_stat *stat)
{
    struct commit *c = engine;
    twl_mutex_lock(&c->lock);
    stat->poison = atomic_load(&c->poison);
    stat->epoch = c->epoch.number;
    stat->appends = c->appends + c->twins[c->filling].count;
    stat->append_bytes = c->append_bytes;
    stat->requests = c->requests - atomic_load(&c->statistics->completed_requests);
    twl_mutex_unlock(&c->lock);
}

void twl_commit_time(struct commit *c, struct twinlog_timings *ret_timings)
{
    twl_statistics_time(c->statistics, ret_timings);
    twl_samples_read(&c->samples, SAMPLE_QUEUE, &ret_timings->queue);
    twl_samples_read(&c->samples, SAMPLE_COPY, &ret_timings->copy);
    twl_samples_read(&c->samples, SAMPLE_WAKE, &ret_timings->wake);
    twl_samples_read(&c->samples, SAMPLE_TOTAL, &ret_timings->total);
}

const struct engine_ops twl_commit_engine = {
    .default_level = TWINLOG_LEVEL_DURABLE,
    .append = twl_commit_append,
    .wait = wait_for,
    .poison = get_poison,
    .sync = sync_all,
    .set_flush_interval = twl_commit_set_flush_interval,
    .finish = finish,
    .newest_lsn = newest_lsn,
    .count = count,
};
