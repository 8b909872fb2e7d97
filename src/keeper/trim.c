/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a trim and a truncation do to the segments, and what they ask of them.
 *
 * A trim retires the oldest segments. A truncation makes a segment with a fixed start, and retires those behind the
 * place where the log now ends. Meanwhile no segment is made or sealed. A retired file is made a spare again, or
 * removed.
 */
#include "keeper/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* From here to let_go_on() no other thread makes or seals a segment. */
static void hold_still(struct keeper *k) REQUIRES(k->lock)
{
    while (k->is_busy)
        twl_keeper_rest(k);
    k->is_busy = true;
}

static void let_go_on(struct keeper *k) REQUIRES(k->lock)
{
    k->is_busy = false;
    twl_event_notify_all(&k->work);
    twl_keeper_tell_idle(k);
}

static void retire_started(struct keeper *k, const struct segment_entry *entry) REQUIRES(k->lock)
{
    struct segment left;

    if (twl_keeper_take_left(k, entry->header.sequence, &left))
        twl_segment_close(&left);
    twl_keeper_retire_file(k, entry->name, &entry->header, entry->file_bytes);
}

/* Retires `count` started segments, the first of which is at `from`. */
static void drop_started(struct keeper *k, size_t from, size_t count) REQUIRES(k->lock)
{
    const size_t end = from + count;

    for (size_t i = from; i < end; i++)
        retire_started(k, &k->started[i]);

    memmove(k->started + from, k->started + end, (k->started_count - end) * sizeof(*k->started));
    k->started_count -= count;
    if (k->sealed > from)
        k->sealed -= min_u64(k->sealed - from, count);
}

static void drop_ready(struct keeper *k) REQUIRES(k->lock)
{
    while (k->count > 0) {
        struct segment segment = twl_keeper_pop_ready(k);
        twl_keeper_retire_file(k, segment.name, &segment.header, segment.file_bytes);
        twl_segment_close(&segment);
    }
}

/* What the next footer continues: the time of the newest sealed segment that is left. */
static int64_t find_max_time(const struct keeper *k) REQUIRES(k->lock)
{
    if (k->sealed == 0)
        return INT64_MIN;

    const struct segment_entry *last = &k->started[k->sealed - 1];
    if (!last->is_sealed) /* it could not be sealed */
        return INT64_MAX;
    return last->footer.max_time_so_far_ns;
}

/* The segment begins the log anew behind `previous`: the older ones stay, the others are retired. */
static void begin_anew(struct keeper *k, const struct segment_plan *plan, const struct segment *segment)
    REQUIRES(k->lock)
{
    size_t kept = k->started_count;

    while (kept > 0 && k->started[kept - 1].header.sequence > plan->previous)
        kept--;

    drop_ready(k);
    drop_started(k, kept, k->started_count - kept);
    k->started[k->started_count] = twl_keeper_entry(segment, plan->start_lsn);
    k->started_count++;

    k->plan.sequence = plan->sequence + 1;
    k->plan.bytes = min_u64(2 * segment->header.bytes, k->config.max_bytes);
    k->plan.after_lsn = plan->after_lsn; /* what was durable before may be truncated */
    k->plan.epoch = plan->epoch + 1;
    k->max_time_so_far_ns = find_max_time(k);
}

int twl_keeper_restart(struct keeper *k, uint64_t start_lsn, uint64_t previous, uint32_t start_chain,
                       uint32_t epoch, struct segment *ret_segment, bool *ret_is_in_doubt)
{
    struct segment segment;

    *ret_is_in_doubt = false;
    twl_mutex_lock(&k->lock);
    hold_still(k);

    struct segment_plan plan = k->plan;
    plan.bytes = min_u64(FIRST_SEGMENT_BYTES, k->config.max_bytes);
    plan.start_lsn = start_lsn;
    plan.previous = previous;
    plan.start_chain = start_chain;
    plan.after_lsn = start_lsn - 1;
    plan.epoch = epoch;

    int rc = twl_keeper_stock_up(k, k->count + 1);
    if (rc == 0)
        rc = twl_keeper_make(k, &plan, SEGMENT_MIN_BYTES, &segment, ret_is_in_doubt);
    if (rc == 0) {
        begin_anew(k, &plan, &segment);
        *ret_segment = segment;
    }

    let_go_on(k);
    twl_mutex_unlock(&k->lock);
    return rc;
}

/* The keeper remembers what was found of the segment, so that the next one that asks need not look. */
static void remember(struct keeper *k, const struct segment_entry *entry)
{
    twl_mutex_lock(&k->lock);
    struct segment_entry *kept = twl_keeper_find(k, entry->header.sequence);
    if (kept)
        *kept = *entry;
    twl_mutex_unlock(&k->lock);
}

/* Fills in the entry of the set, unless it is. `k`, which the set is from, remembers that; NULL: there is none. */
static int look_at_entry(struct io *io, struct keeper *k, struct segment_entry *entry)
{
    if (entry->is_known)
        return 0;

    const int rc = twl_segment_look(io, entry);
    if (rc == 0 && k)
        remember(k, entry);
    return rc;
}

/* `next` is NULL for the active segment, which is the last. */
static struct kept_segment describe(const struct segment_entry *entry, const struct segment_entry *next,
                                    uint64_t later_bytes)
{
    struct kept_segment kept = {
        .sequence = entry->header.sequence,
        .first_lsn = entry->first_lsn,
        .end_lsn = UINT64_MAX,
        .file_bytes = segment_entry_bytes(entry),
        .later_bytes = later_bytes,
        .max_ns = INT64_MAX,
    };

    memcpy(kept.name, entry->name, sizeof(kept.name));
    if (next) {
        kept.next_sequence = next->header.sequence;
        kept.end_lsn = next->first_lsn;
    }
    if (entry->is_sealed)
        kept.max_ns = entry->footer.max_ns;
    return kept;
}

int twl_keeper_each(struct io *io, struct keeper *k, struct segment_set *set,
                    bool (*each)(void *context, const struct kept_segment *segment), void *context)
{
    uint64_t later_bytes = 0;

    for (size_t i = 0; i < set->started; i++)
        later_bytes += segment_entry_bytes(&set->entries[i]);

    for (size_t i = 0; i < set->started; i++) {
        struct segment_entry *entry = &set->entries[i];
        struct segment_entry *next = NULL;
        if (i + 1 < set->started)
            next = entry + 1;

        int rc = look_at_entry(io, k, entry);
        if (rc == 0 && next)
            rc = look_at_entry(io, k, next);
        if (rc < 0)
            return rc;

        later_bytes -= segment_entry_bytes(entry);
        const struct kept_segment kept = describe(entry, next, later_bytes);
        if (!each(context, &kept))
            return 0;
    }
    return 0;
}

/* Was it left by a truncation, and not because it was full? */
static bool was_cut_short(const struct segment_set *set, size_t index)
{
    return index + 1 < set->started && segment_is_truncation(&set->entries[index + 1].header);
}

int twl_keeper_newest(struct io *io, struct keeper *k, struct segment_set *set, int64_t *ret_ns)
{
    *ret_ns = INT64_MIN;
    for (size_t i = set->started; i > 0; i--) {
        struct segment_entry *entry = &set->entries[i - 1];
        const int rc = look_at_entry(io, k, entry);
        if (rc < 0)
            return rc;

        const bool has_records = entry->is_sealed && entry->footer.max_ns > INT64_MIN;
        if (has_records && !was_cut_short(set, i - 1)) {
            *ret_ns = entry->footer.max_ns;
            return 0;
        }
    }
    return 0;
}

struct keeper_freed twl_keeper_retire(struct keeper *k, uint64_t first_sequence)
{
    struct keeper_freed freed = { 0 };
    size_t count = 0;

    twl_mutex_lock(&k->lock);
    hold_still(k);
    while (count + 1 < k->started_count && k->started[count].header.sequence < first_sequence) {
        freed.bytes += segment_entry_bytes(&k->started[count]);
        count++;
    }

    freed.segments = count;
    drop_started(k, 0, count);
    add_alone(&k->config.counters->trimmed_segments, count);

    let_go_on(k);
    if (count > 0)
        twl_keeper_get_going(k);
    twl_mutex_unlock(&k->lock);
    return freed;
}

int twl_keeper_set(struct keeper *k, struct segment_set *ret_set)
{
    struct segment_set set = { 0 };

    twl_mutex_lock(&k->lock);
    set.entries = malloc(k->started_count * sizeof(*set.entries));
    if (set.entries) {
        memcpy(set.entries, k->started, k->started_count * sizeof(*set.entries));
        set.started = k->started_count;
    }
    twl_mutex_unlock(&k->lock);

    if (!set.entries)
        return -ENOMEM;

    *ret_set = set;
    return 0;
}

void twl_keeper_count_files(struct keeper *k) REQUIRES(k->lock)
{
    struct counters *counters = k->config.counters;
    uint64_t file_bytes = k->ready_bytes;

    for (size_t i = 0; i < k->started_count; i++)
        file_bytes += segment_entry_bytes(&k->started[i]);
    for (size_t i = 0; i < k->retired_count; i++)
        file_bytes += k->retired[i].bytes;

    set_alone(&counters->file_bytes, file_bytes);
    atomic_store(&counters->segments, (uint32_t)k->started_count);
    atomic_store(&counters->spare_segments, k->count);
}

void twl_keeper_count(struct keeper *k)
{
    twl_mutex_lock(&k->lock);
    twl_keeper_count_files(k);
    twl_mutex_unlock(&k->lock);
}

void twl_keeper_tell(struct keeper *k)
{
    twl_event_notify_all(&k->work);
}
