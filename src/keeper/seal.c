/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing: a segment that writers have left gets its index and its footer.
 *
 * It goes from the oldest segment to the newest, because a footer holds the newest time of everything up to it. Of a
 * segment that this process wrote the summary is in memory. One that an earlier process began is walked first, and
 * sealed only if the next one continues where the walk ended: a footer must not hide damage. A segment that could not
 * be sealed is passed over; readers walk it, and the next opening tries again.
 */
#include "keeper/inside.h"
#include "walk/segment_iter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Fills in the summary of a segment by a walk to its end. */
static int summarise(struct segment *segment)
{
    struct segment_iter iter = { 0 };
    int found = 1;

    const int rc = twl_segment_give_summary(segment);
    if (rc < 0)
        return rc;

    twl_iter_begin(&iter, segment, twl_position_before(&segment->header));
    iter.summary = segment->summary;
    while (found > 0)
        found = twl_iter_accept_group(&iter);
    twl_iter_free(&iter);
    if (found < 0)
        return found;

    const bool is_empty = segment->summary->first_lsn == 0;
    if (is_empty)
        return TWINLOG_ECORRUPT;
    return 0;
}

/* Does the next segment continue where this one ends? Then *ret_continues. */
static int ask_next(struct io *io, const struct summary *summary, const struct segment_entry *next,
                    bool *ret_continues)
{
    const struct position end = {
        .next_lsn = summary->next_lsn,
        .chain = summary->chain,
        .epoch = summary->epoch,
    };
    struct group_header first;

    const bool is_start_fixed = next->header.start_lsn > 0;
    if (is_start_fixed) { /* it may also cut off the end of this one */
        *ret_continues = summary->next_lsn >= next->header.start_lsn;
        return 0;
    }

    const int rc = twl_segment_first_group(io, next, &first);
    if (rc < 0)
        return rc;

    const bool has_group = first.first_lsn > 0;
    *ret_continues = has_group && twl_group_continues(&first, &end);
    return 0;
}

/* What is missing at the joint is damage, which a footer would hide. */
static int check_joint(struct io *io, const struct summary *summary, const struct segment_entry *next)
{
    bool continues = false;

    const int rc = ask_next(io, summary, next, &continues);
    if (rc < 0)
        return rc;
    if (!continues)
        return TWINLOG_ECORRUPT;
    return 0;
}

/* What sealing a segment has come to. */
struct sealed {
    struct segment_footer footer;
    uint64_t file_bytes; /* also after a failure */
};

/* Seals a segment that an earlier process has begun. */
static int seal_after_walk(struct keeper *k, const struct segment_entry *entry,
                           const struct segment_entry *next, int64_t max_time_so_far_ns,
                           struct sealed *ret_sealed)
{
    const struct keeper_config *config = &k->config;
    struct segment segment;

    ret_sealed->file_bytes = entry->file_bytes;
    int rc = twl_segment_open(config->io, entry->name, k->plan.open_flags, config->lock_timeout_ms, &segment,
                              NULL);
    if (rc < 0)
        return rc;

    segment.head_lsn = entry->head_lsn;
    rc = summarise(&segment);
    if (rc == 0)
        rc = check_joint(config->io, segment.summary, next);
    if (rc == 0)
        rc = twl_segment_seal_and_cut(&segment, max_time_so_far_ns, &ret_sealed->footer);
    ret_sealed->file_bytes = segment.file_bytes;
    twl_segment_close(&segment);
    return rc;
}

bool twl_keeper_take_left(struct keeper *k, uint64_t sequence, struct segment *ret_segment) REQUIRES(k->lock)
{
    size_t i = 0;

    while (i < k->left_count && k->left[i].header.sequence != sequence)
        i++;
    if (i == k->left_count)
        return false;

    *ret_segment = k->left[i];
    k->left_count--;
    memmove(k->left + i, k->left + i + 1, (k->left_count - i) * sizeof(*k->left));
    return true;
}

/* Seals a segment that this process has written: it has its summary. */
static int seal_left(struct segment *left, int64_t max_time_so_far_ns, struct sealed *ret_sealed)
{
    const int rc = twl_segment_seal_and_cut(left, max_time_so_far_ns, &ret_sealed->footer);

    ret_sealed->file_bytes = left->file_bytes;
    twl_segment_close(left);
    return rc;
}

static void note_sealed(struct keeper *k, struct segment_entry *entry, const struct segment_footer *footer)
    REQUIRES(k->lock)
{
    k->max_time_so_far_ns = footer->max_time_so_far_ns;
    entry->is_known = true;
    entry->is_sealed = true;
    entry->first_lsn = footer->first_lsn;
    entry->footer = *footer;
}

/* The oldest unsealed segment is sealed, or after an error `rc` could not be, and will not be by this process. */
static void pass_on(struct keeper *k, int rc, const struct sealed *sealed) REQUIRES(k->lock)
{
    struct segment_entry *entry = &k->started[k->sealed]; /* none is dropped while is_busy is set */

    k->sealed++;
    entry->file_bytes = sealed->file_bytes;
    if (rc == 0)
        note_sealed(k, entry, &sealed->footer);
    else
        k->max_time_so_far_ns = INT64_MAX;
}

bool twl_keeper_seal_next(struct keeper *k) REQUIRES(k->lock)
{
    const bool has_one = k->sealed + 1 < k->started_count; /* the last one is active */
    if (!k->is_log_open || k->is_busy || !has_one)
        return false;

    const struct segment_entry entry = k->started[k->sealed];
    const struct segment_entry next = k->started[k->sealed + 1];
    const int64_t max_time_so_far_ns = k->max_time_so_far_ns;
    struct segment left;
    struct sealed sealed;
    int rc;

    const bool is_left = twl_keeper_take_left(k, entry.header.sequence, &left);
    k->is_busy = true;
    twl_mutex_unlock(&k->lock);

    if (is_left)
        rc = seal_left(&left, max_time_so_far_ns, &sealed);
    else
        rc = seal_after_walk(k, &entry, &next, max_time_so_far_ns, &sealed);

    twl_mutex_lock(&k->lock);
    k->is_busy = false;
    pass_on(k, rc, &sealed);
    k->must_tend = true;
    twl_keeper_tell_idle(k);
    return true;
}

void twl_keeper_leave(struct keeper *k, const struct segment *segment, const struct segment *next)
{
    struct segment left = *segment;

    /* Is all of the segment in the summary? Not where the opening began its walk at a place that was noted. */
    const bool is_whole = left.summary->indexed_lsn == 0 || segment_is_mapped(&left.header);

    twl_mutex_lock(&k->lock);
    ASSERT(k->started_count < k->started_room); /* `next` was ready */
    k->started[k->started_count] = twl_keeper_entry(next, left.summary->next_lsn);
    k->started_count++;

    if (is_whole && k->left_count < MAX_LEFT) {
        k->left[k->left_count] = left;
        k->left_count++;
    } else {
        twl_segment_close(&left); /* it is walked when its turn to be sealed comes */
    }
    twl_keeper_get_going(k);
    twl_mutex_unlock(&k->lock);
}
