/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing goes from the oldest segment to the newest, because a footer holds the newest time of everything up to it. A
 * segment that an earlier process began is walked first, and sealed only if the next one continues where the walk
 * ended: a footer must not hide damage.
 */
#include "keeper/inside.h"
#include "walk/segment_iter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Walks a segment that an earlier process left, to its end. */
static int walk(struct segment *segment)
{
    struct segment_iter iter = { 0 };
    const int rc = twl_segment_give_summary(segment);
    if (rc < 0)
        return rc;

    int found = 1;
    twl_iter_begin(&iter, segment, twl_position_before(&segment->header));
    iter.summary = segment->summary;
    while (found > 0)
        found = twl_iter_accept_group(&iter);
    twl_iter_free(&iter);
    if (found < 0)
        return found;

    const bool is_empty = segment->summary->first_lsn == 0;
    return is_empty ? TWINLOG_ECORRUPT : 0;
}

/* Does the next segment continue where this one ends? */
static int check_joint(struct io *io, const struct summary *summary, const struct segment_entry *next)
{
    const struct position end = { .next_lsn = summary->next_lsn,
                                  .chain = summary->chain,
                                  .epoch = summary->epoch };
    struct group_header first;

    const bool is_fixed = next->header.start_lsn > 0; /* it begins there, whatever is before it */
    if (is_fixed)
        return summary->next_lsn >= next->header.start_lsn ? 0 : TWINLOG_ECORRUPT;

    const int rc = twl_segment_first_group(io, next, &first);
    if (rc < 0)
        return rc;
    const bool has_group = first.first_lsn > 0;
    return has_group && twl_group_continues(&first, &end) ? 0 : TWINLOG_ECORRUPT;
}

static int seal_after_walk(struct keeper *k, const struct segment_entry *entry,
                           const struct segment_entry *next, int64_t max_time_so_far_ns,
                           struct segment_footer *ret_footer, uint64_t *ret_file_bytes)
{
    struct segment segment;
    int rc = twl_segment_open(k->config.io, entry->name, k->plan.open_flags, k->config.lock_timeout_ms,
                              &segment, NULL);
    if (rc < 0)
        return rc;

    segment.head_lsn = entry->head_lsn;
    rc = walk(&segment);
    if (rc == 0)
        rc = check_joint(k->config.io, segment.summary, next);
    if (rc == 0)
        rc = twl_segment_seal_and_cut(&segment, max_time_so_far_ns, ret_footer);
    *ret_file_bytes = segment.file_bytes;
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

/* One that this process has written: it has its summary. */
static int seal_left(struct segment *left, int64_t max_time_so_far_ns, struct segment_footer *ret_footer,
                     uint64_t *ret_file_bytes)
{
    const int rc = twl_segment_seal_and_cut(left, max_time_so_far_ns, ret_footer);

    *ret_file_bytes = left->file_bytes;
    twl_segment_close(left);
    return rc;
}

/* The footer is that of the segment that was sealed; NULL: it could not be, and will not be. */
static void note_sealed(struct keeper *k, uint64_t file_bytes, const struct segment_footer *footer)
    REQUIRES(k->lock)
{
    struct segment_entry *entry = &k->started[k->sealed]; /* none is dropped while is_busy is set */

    k->sealed++;
    k->max_time_so_far_ns = footer ? footer->max_time_so_far_ns : INT64_MAX;
    entry->file_bytes = file_bytes;
    if (!footer)
        return;
    entry->is_known = entry->is_sealed = true;
    entry->first_lsn = footer->first_lsn;
    entry->footer = *footer;
}

bool twl_keeper_seal_next(struct keeper *k) REQUIRES(k->lock)
{
    if (!k->is_log_open || k->is_busy || k->sealed + 1 >= k->started_count)
        return false;
    const struct segment_entry entry = k->started[k->sealed], next = k->started[k->sealed + 1];
    const int64_t max_time_so_far_ns = k->max_time_so_far_ns;
    struct segment left;
    const bool is_left = twl_keeper_take_left(k, entry.header.sequence, &left);
    k->is_busy = true;
    twl_mutex_unlock(&k->lock);

    struct segment_footer footer;
    uint64_t file_bytes = entry.file_bytes;
    int rc;
    if (is_left)
        rc = seal_left(&left, max_time_so_far_ns, &footer, &file_bytes);
    else
        rc = seal_after_walk(k, &entry, &next, max_time_so_far_ns, &footer, &file_bytes);

    twl_mutex_lock(&k->lock);
    k->is_busy = false;
    note_sealed(k, file_bytes, rc == 0 ? &footer : NULL);
    k->must_tend = true;
    twl_keeper_tell_idle(k);
    return true;
}

void twl_keeper_leave(struct keeper *k, const struct segment *segment, const struct segment *next)
{
    struct segment left = *segment;
    const bool is_whole = left.summary->indexed_lsn == 0 || segment_is_mapped(&left.header);

    twl_mutex_lock(&k->lock);
    ASSERT(k->started_count < k->started_room); /* `next` was ready */
    k->started[k->started_count++] = twl_keeper_entry(next, left.summary->next_lsn);
    if (is_whole && k->left_count < MAX_LEFT)
        k->left[k->left_count++] = left;
    else
        twl_segment_close(&left); /* it is walked */
    twl_keeper_get_going(k);
    twl_mutex_unlock(&k->lock);
}
