/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making segments: spares, which are made ahead, and those that a writer waits for.
 *
 * Each segment is twice as large as the one before, up to the limit. So a small log takes little disk, and a busy one
 * rolls rarely. It is made of a retired file if one is large enough, else of a new one. On a nearly full disk any
 * retired file and any smaller size will do.
 *
 * A writer that needs a segment takes one that is ready (twl_keeper_take()). If there is none it orders one
 * (twl_keeper_want()) and is told when an attempt to make one is over. The attempts are counted, so that it can tell
 * the error of an attempt that began after its order from an older one.
 */
#include "keeper/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The error of an attempt holds so long for calls that do not wait: they would not see that a disk has space again. */
#define VERDICT_NS UINT64_C(100000000)

/* An array with room for `count` elements of `size` bytes: the old one, or a copy. NULL: no memory, nothing changed. */
static void *grow(void *array, size_t *room, size_t count, size_t size)
{
    if (count <= *room)
        return array;

    const size_t larger = max_u64(2 * *room, count);
    void *grown = realloc(array, larger * size);
    if (grown)
        *room = larger;
    return grown;
}

int twl_keeper_stock_up(struct keeper *k, uint32_t count) REQUIRES(k->lock)
{
    void *started = grow(k->started, &k->started_room, k->started_count + count, sizeof(*k->started));
    if (!started)
        return -ENOMEM;
    k->started = started;
    return 0;
}

/* ---- retired files ------------------------------------------------------------------------------- */

/* Without memory the file stays until the next opening. */
static void add_retired(struct keeper *k, const struct retired *file) REQUIRES(k->lock)
{
    void *retired = grow(k->retired, &k->retired_room, k->retired_count + 1, sizeof(*k->retired));
    if (!retired)
        return;
    k->retired = retired;
    k->retired[k->retired_count] = *file;
    k->retired_count++;
}

void twl_keeper_retire_file(struct keeper *k, const char *name, const struct segment_header *header,
                            uint64_t file_bytes) REQUIRES(k->lock)
{
    struct retired file = {
        .bytes = min_u64(header->bytes, file_bytes),
        .is_whole = file_bytes >= header->bytes && !segment_is_mapped(header),
    };

    memcpy(file.name, name, SEGMENT_NAME_BYTES);
    add_retired(k, &file);
}

static struct retired take_retired(struct keeper *k, size_t index) REQUIRES(k->lock)
{
    const struct retired file = k->retired[index];

    k->retired_count--;
    k->retired[index] = k->retired[k->retired_count];
    return file;
}

/* The smallest file with room for least_bytes; -1 if there is none. */
static int64_t find_retired(const struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    int64_t best = -1;

    for (size_t i = 0; i < k->retired_count; i++) {
        const struct retired *file = &k->retired[i];
        if (!file->is_whole || file->bytes < least_bytes)
            continue;
        if (best < 0 || file->bytes < k->retired[best].bytes)
            best = (int64_t)i;
    }
    return best;
}

/* `kept`: how many are kept in front of it. */
static bool is_surplus(const struct keeper *k, const struct retired *file, size_t kept) REQUIRES(k->lock)
{
    const bool is_large_enough = file->is_whole && file->bytes >= k->plan.bytes;

    if (!k->config.can_recycle || !is_large_enough)
        return true;
    return kept >= RETIRED_TO_KEEP + max_u64(k->wanted, k->config.spares);
}

/* Without the lock, as it may have to look at the disk. */
static int check_log(struct keeper *k) REQUIRES(k->lock)
{
    if (!k->config.check)
        return 0;

    twl_mutex_unlock(&k->lock);
    const int rc = k->config.check(k->config.context);
    twl_mutex_lock(&k->lock);
    return rc;
}

bool twl_keeper_remove_surplus(struct keeper *k) REQUIRES(k->lock)
{
    size_t kept = 0;

    while (kept < k->retired_count && !is_surplus(k, &k->retired[kept], kept))
        kept++;
    if (kept == k->retired_count)
        return false;

    const struct retired file = take_retired(k, kept);
    if (check_log(k) < 0)
        return true;

    twl_mutex_unlock(&k->lock);
    k->config.io->ops->unlink(k->config.io, file.name);
    twl_mutex_lock(&k->lock);
    return true;
}

/* What an attempt to give a retired file a new incarnation has come to. */
struct recycling {
    int rc;
    bool is_in_doubt; /* a crash may leave the file with its new incarnation, although this failed */
};

/* It must not be written, or this process may not write it, which no later attempt changes: the next file will do. */
static bool is_fault_of_file(const struct recycling *recycling)
{
    const int error = recycling->rc;

    if (recycling->is_in_doubt)
        return false;
    return error == -EBUSY || error == -EACCES || error == -EPERM;
}

/* What this process lacks at the moment is no fault of the file. */
static bool may_be_tried_later(const struct recycling *recycling)
{
    if (recycling->is_in_doubt || is_fault_of_file(recycling))
        return false;
    return is_own_refusal(recycling->rc);
}

/* The file is no retired one any more, or it is one again. Without the lock. */
static struct recycling recycle_file(struct keeper *k, const struct retired *file,
                                     const struct segment_plan *plan, struct segment *ret_segment)
    REQUIRES(k->lock)
{
    struct io *io = k->config.io;
    struct recycling recycling = { 0 };

    twl_mutex_unlock(&k->lock);
    recycling.rc = twl_segment_recycle(io, file->name, plan, ret_segment, &recycling.is_in_doubt);
    const bool stays = may_be_tried_later(&recycling);
    if (recycling.rc < 0 && !stays)
        io->ops->unlink(io, file->name);
    twl_mutex_lock(&k->lock);

    if (stays)
        add_retired(k, file);
    return recycling;
}

/* Gives a retired file that is large enough a new incarnation. A file that another process still uses, or that only
 * others may write, is removed; it lives on for a process that uses it. -ENOENT: no file was suitable. What this
 * process lacks ends the attempt, and the file stays. After another error the file may have its new incarnation or
 * not; it is removed, but the removal is not durable. */
static int recycle(struct keeper *k, const struct segment_plan *plan, uint64_t least_bytes,
                   struct segment *ret_segment, bool *ret_is_in_doubt) REQUIRES(k->lock)
{
    struct recycling recycling = { 0 };

    if (!k->config.can_recycle)
        return -ENOENT;

    do {
        const int64_t index = find_retired(k, least_bytes);
        if (index < 0)
            return -ENOENT;

        const struct retired file = take_retired(k, (size_t)index);
        recycling = recycle_file(k, &file, plan, ret_segment);
    } while (is_fault_of_file(&recycling));

    if (ret_is_in_doubt)
        *ret_is_in_doubt = recycling.is_in_doubt;
    if (recycling.rc == 0)
        add_alone(&k->config.counters->recycled_segments, 1);
    return recycling.rc;
}

/* ---- spares -------------------------------------------------------------------------------------- */

void twl_keeper_put_ready(struct keeper *k, const struct segment *segment) REQUIRES(k->lock)
{
    k->ready[k->count] = *segment;
    k->count++;
    k->ready_bytes += segment->header.bytes;

    k->plan.sequence = segment->header.sequence + 1;
    k->plan.bytes = max_u64(k->plan.bytes, min_u64(2 * segment->header.bytes, k->config.max_bytes));
}

struct segment twl_keeper_pop_ready(struct keeper *k) REQUIRES(k->lock)
{
    const struct segment segment = k->ready[0];

    k->ready_bytes -= segment.header.bytes;
    k->count--;
    memmove(k->ready, k->ready + 1, k->count * sizeof(k->ready[0]));
    return segment;
}

/* May the log have one more file? */
static bool may_add_file(const struct keeper *k) REQUIRES(k->lock)
{
    return k->started_count + k->count + k->retired_count < k->config.most_segments;
}

static int create_file(struct keeper *k, const struct segment_plan *plan, struct segment *ret_segment,
                       bool *ret_is_in_doubt) REQUIRES(k->lock)
{
    struct segment_plan named = *plan;

    named.number = k->plan.number;
    k->plan.number++;
    twl_mutex_unlock(&k->lock);
    const int rc = twl_segment_create(k->config.io, &named, ret_segment, ret_is_in_doubt);
    twl_mutex_lock(&k->lock);
    return rc;
}

int twl_keeper_make(struct keeper *k, const struct segment_plan *wish, uint64_t least_bytes,
                    struct segment *ret_segment, bool *ret_is_in_doubt) REQUIRES(k->lock)
{
    const bool is_start_fixed = wish->start_lsn > 0;
    struct segment_plan plan = *wish;

    const int checked = check_log(k);
    if (checked < 0)
        return checked;

    plan.bytes = max_u64(plan.bytes, least_bytes);
    if (!is_start_fixed && recycle(k, &plan, plan.bytes, ret_segment, ret_is_in_doubt) == 0)
        return 0;

    for (;;) {
        const bool may_add = may_add_file(k);
        int rc = -EMFILE;
        if (may_add)
            rc = create_file(k, &plan, ret_segment, ret_is_in_doubt);

        const bool is_in_doubt = ret_is_in_doubt && *ret_is_in_doubt;
        const bool is_full = is_no_space(rc) || !may_add;
        if (!is_full || is_in_doubt)
            return rc;

        const int recycled = recycle(k, &plan, least_bytes, ret_segment, ret_is_in_doubt);
        if (recycled == 0)
            return 0;

        /* With a fixed start, a file that was touched may be the segment now, so nothing is tried after it. */
        const bool was_touched = recycled != -ENOENT;
        if (is_start_fixed && was_touched)
            return recycled;

        const bool is_smallest = plan.bytes == least_bytes;
        if (!may_add || is_smallest)
            return rc;
        plan.bytes = max_u64(align_up(plan.bytes / 2, BLOCK_BYTES), least_bytes);
    }
}

/* A larger segment takes the place of the first ready one. */
static void replace_ready(struct keeper *k, const struct segment *segment) REQUIRES(k->lock)
{
    struct segment small = k->ready[0];

    k->ready[0] = *segment;
    k->ready_bytes += segment->header.bytes - small.header.bytes;

    twl_mutex_unlock(&k->lock);
    k->config.io->ops->unlink(k->config.io, small.name);
    twl_segment_close(&small);
    twl_mutex_lock(&k->lock);
}

/* If the first ready segment is too small, a larger one takes its sequence. While both exist, neither is started. */
static int make_ready(struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    struct segment_plan plan = k->plan;
    struct segment segment;

    k->is_growing = k->count > 0 && k->ready[0].header.bytes < least_bytes;
    if (k->is_growing)
        plan.sequence = k->ready[0].header.sequence;

    /* Two may be taken that no writer has gone on in yet, as in one a group is written. */
    int rc = twl_keeper_stock_up(k, k->count + 3);
    if (rc == 0)
        rc = twl_keeper_make(k, &plan, least_bytes, &segment, NULL);
    if (rc == 0 && k->is_growing)
        replace_ready(k, &segment);
    else if (rc == 0)
        twl_keeper_put_ready(k, &segment);

    k->is_growing = false;
    return rc;
}

static bool has_ready(const struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    return !k->is_growing && k->count > 0 && k->ready[0].header.bytes >= least_bytes;
}

/* One attempt to make a segment. Its error is remembered for the calls that ask. */
static void attempt(struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    k->attempts++;
    k->is_busy = true;
    const int rc = make_ready(k, least_bytes);
    k->is_busy = false;

    k->has_failed = rc < 0;
    if (rc < 0) {
        k->failed = k->attempts;
        k->failed_bytes = least_bytes;
        k->failed_ns = twl_monotonic_ns();
        k->error = rc;
    }

    twl_keeper_tell_over(k);
}

bool twl_keeper_make_next(struct keeper *k) REQUIRES(k->lock)
{
    const uint64_t wanted_bytes = k->wanted_bytes;

    if (k->is_busy)
        return false;

    /* The one that a writer waits for. */
    k->wanted_bytes = 0;
    if (wanted_bytes > 0) {
        if (!has_ready(k, wanted_bytes))
            attempt(k, wanted_bytes);
        return true;
    }

    /* The next spare. After a failure there is no other attempt until a spare is asked for. */
    const bool wants_spare = k->count < k->wanted;
    if (!wants_spare || k->has_failed)
        return false;
    attempt(k, SEGMENT_MIN_BYTES);
    return true;
}

/* ---- for the commit path ----------------------------------------------------------------------- */

/* Sets what the next header says was durable, and in which epoch. A value from before a truncation comes too
 * late. */
static void note_known_durable(struct keeper *k, uint64_t after_lsn, uint32_t epoch) REQUIRES(k->lock)
{
    if (epoch < k->plan.epoch)
        return;
    k->plan.after_lsn = after_lsn;
    k->plan.epoch = epoch;
}

/* How the next segment gets its blocks. In blocks that are reserved and not written, each group costs a commit of the
 * file system's journal. In written ones it costs the time in which the device writes as many zeros. */
static enum io_allocation choose_allocation(const struct keeper *k, bool is_group_large)
{
    const enum io_allocation from_options = k->config.plan.allocation;

    if (is_group_large && from_options == IO_ALLOCATE_WRITTEN)
        return IO_ALLOCATE_SPACE;
    return from_options;
}

/* The size of the next segment, if groups are so large. */
static uint64_t choose_bytes(const struct keeper *k, uint64_t group_bytes) REQUIRES(k->lock)
{
    const uint64_t groups_bytes = align_up(GROUPS_IN_SEGMENT * group_bytes, BLOCK_BYTES);

    return max_u64(k->plan.bytes, min_u64(groups_bytes, k->config.max_bytes));
}

void twl_keeper_want_spare(struct keeper *k, uint64_t group_bytes, uint64_t after_lsn, uint32_t epoch)
{
    const bool is_group_large = group_bytes >= LARGE_GROUP_BYTES;

    twl_mutex_lock(&k->lock);
    note_known_durable(k, after_lsn, epoch);
    k->plan.allocation = choose_allocation(k, is_group_large);
    if (is_group_large)
        k->plan.bytes = choose_bytes(k, group_bytes);

    k->wanted = (uint32_t)max_u64(k->wanted, 1);
    k->has_failed = false;
    if (k->count < k->wanted)
        twl_keeper_get_going(k);
    twl_mutex_unlock(&k->lock);
}

/* The size of the smallest segment with so much room for groups. */
static uint64_t bytes_for(uint64_t room)
{
    const uint64_t bytes = align_up(room + SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES, BLOCK_BYTES);

    return max_u64(bytes, SEGMENT_MIN_BYTES);
}

bool twl_keeper_take(struct keeper *k, uint64_t min_room, struct segment *ret_segment)
{
    twl_mutex_lock(&k->lock);
    const bool has_one = has_ready(k, bytes_for(min_room));
    if (has_one) {
        *ret_segment = twl_keeper_pop_ready(k);
        if (k->wanted > 0)
            k->wanted--;
    }
    twl_mutex_unlock(&k->lock);
    return has_one;
}

/* Has the latest attempt failed, for so much or less, and so lately that it holds for a call that does not wait for
 * another one? */
static bool has_just_failed(const struct keeper *k, uint64_t least_bytes) REQUIRES(k->lock)
{
    if (!k->has_failed || k->failed_bytes > least_bytes)
        return false;
    return twl_monotonic_ns() - k->failed_ns < VERDICT_NS;
}

/* 1: such a segment is ready. An error: an attempt behind the first `since` has failed to make one. 0: neither. */
static int outcome(const struct keeper *k, uint64_t least_bytes, uint64_t since) REQUIRES(k->lock)
{
    if (has_ready(k, least_bytes))
        return 1;

    const bool has_failed = k->failed > since && k->failed_bytes <= least_bytes;
    if (has_failed)
        return k->error;
    return 0;
}

/* Has the thread make a segment, unless it is to make one for another call first. */
static void order(struct keeper *k, uint64_t least_bytes, const struct keeper_listener *listener)
    REQUIRES(k->lock)
{
    if (listener)
        k->listener = listener;
    if (k->wanted_bytes == 0)
        k->wanted_bytes = least_bytes;
    twl_event_notify_all(&k->work);
}

/* The thread makes a segment for one call at a time; a call that it does not help asks again. So writers of large
 * records, for which there is no space, keep no segment from writers of small ones, nor the other way round.
 *
 * `since`: the number of attempts when the wait of the caller began. Only a later one counts for it. */
int twl_keeper_want(struct keeper *k, uint64_t min_room, uint64_t after_lsn, uint32_t epoch,
                    const struct keeper_listener *listener, uint64_t *since)
{
    const uint64_t least_bytes = bytes_for(min_room);

    twl_mutex_lock(&k->lock);
    note_known_durable(k, after_lsn, epoch);
    uint64_t from = k->attempts;
    if (since)
        from = min_u64(*since, k->attempts);

    int found = outcome(k, least_bytes, from);
    if (found == 0) {
        order(k, least_bytes, listener);
        if (!since && has_just_failed(k, least_bytes))
            found = k->error;
    }
    twl_mutex_unlock(&k->lock);

    if (since)
        *since = from;
    return found;
}

int twl_keeper_help(struct keeper *k)
{
    int result = 0;

    twl_mutex_lock(&k->lock);
    const bool may_make = !twl_keeper_has_thread(k) && !k->is_busy;
    if (may_make)
        result = 1; /* also if the attempt was another call's */
    if (may_make && twl_keeper_make_next(k) && k->has_failed)
        result = k->error;
    twl_mutex_unlock(&k->lock);
    return result;
}

int twl_keeper_wait(struct keeper *k, uint64_t min_room, uint64_t after_lsn, uint32_t epoch)
{
    uint64_t since = UINT64_MAX;

    for (;;) {
        const uint32_t seen = twl_event_value(&k->done);
        const int found = twl_keeper_want(k, min_room, after_lsn, epoch, NULL, &since);
        if (found < 0)
            return found;
        if (found > 0)
            return 0;
        if (twl_keeper_help(k) == 0)
            twl_event_sleep(&k->done, seen);
    }
}
