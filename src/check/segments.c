/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The footer of a sealed segment says what it holds; other started segments are walked, the active one from the group
 * that its writer has noted. If a segment is gone before it could be read, everything starts again.
 */
#include "check/check.h"

#include "log/log_snapshot.h"
#include "recover/recover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TRIES 100u

struct listing {
    struct io *io;
    struct log_snapshot snapshot;
    uint64_t limit_lsn; /* twl_log_snapshot_find_durable() */
    struct segment_iter iter;
    struct summary *summary;
    struct twinlog_segment *list;
};

static void take_footer(const struct segment_footer *footer, struct twinlog_segment *ret)
{
    ret->first_lsn = footer->first_lsn;
    ret->last_lsn = footer->last_lsn;
    ret->data_bytes = footer->data_end - SEGMENT_DATA_OFFSET;
    ret->epoch = footer->epoch.number;
    if (footer->min_ns > footer->max_ns) /* it has no records */
        return;
    ret->first_time_ns = footer->min_ns;
    ret->last_time_ns = footer->max_ns;
}

static void begin_at_start(struct listing *l, const struct segment *segment)
{
    twl_summary_begin(l->summary);
    twl_iter_begin(&l->iter, segment, twl_position_before(&segment->header));
}

/* At the noted group, or at the start where that is newer than the watermark. */
static void begin_walk(struct listing *l, const struct segment *segment)
{
    const struct note *note = &l->snapshot.set.note;
    struct segment_iter *iter = &l->iter;

    begin_at_start(l, segment);
    iter->window_bytes = BLOCK_BYTES; /* of the first group and the noted one little is wanted */
    const bool is_noted = twl_begin_at_note(iter, note->segment_id, note->records, l->summary);
    if (!is_noted || twl_iter_next_lsn(iter) > l->limit_lsn)
        begin_at_start(l, segment);
    iter->summary = l->summary;
    iter->window_bytes = 0;
}

/* Is the iterator behind the newest group that the writer has noted? What is behind that is not read. */
static bool is_at_end(const struct listing *l, const struct segment *segment)
{
    const struct note *note = &l->snapshot.set.note;
    const struct segment_iter *iter = &l->iter;

    if (note->segment_id != segment->header.segment_id || iter->offset <= note->group)
        return false;
    return iter->position.next_lsn - 1 == l->limit_lsn;
}

/* Adds the groups up to the watermark to the summary. */
static int walk_groups(struct listing *l, const struct segment *segment)
{
    struct segment_iter *iter = &l->iter;

    while (!is_at_end(l, segment)) {
        const int entered = twl_iter_enter_group(iter);
        if (entered <= 0)
            return entered;
        if (iter->position.next_lsn - 1 > l->limit_lsn)
            return 0;

        twl_iter_back_out(iter);
        const int accepted = twl_iter_accept_group(iter);
        if (accepted <= 0)
            return accepted;
    }
    return 0;
}

/* What the segment holds up to the watermark, by the footer that it would get now. */
static int walk(struct listing *l, const struct segment *segment, struct twinlog_segment *ret)
{
    struct segment_footer footer;
    uint32_t step;

    begin_walk(l, segment);
    const int rc = walk_groups(l, segment);
    if (rc < 0 || l->summary->next_lsn == 0) /* it has no group */
        return rc;

    twl_summary_footer(l->summary, 0, 0, &footer, &step);
    const int64_t began_ns = l->summary->began_ns; /* of the first group, which a walk from the note passes */
    if (began_ns > 0 && began_ns < footer.min_ns)
        footer.min_ns = began_ns;
    take_footer(&footer, ret);
    return 0;
}

/* A footer that checks is of this incarnation; it needs no lock. -EAGAIN: the file is being changed. */
static int look_into(struct listing *l, struct segment_entry *entry, struct twinlog_segment *ret)
{
    const bool was_left = ret->state != TWINLOG_SEGMENT_ACTIVE;
    struct segment segment;
    int rc = 0;

    if (was_left)
        rc = twl_segment_look(l->io, entry);
    if (rc == 0 && was_left && entry->is_sealed) {
        ret->state = TWINLOG_SEGMENT_SEALED;
        take_footer(&entry->footer, ret);
        return 0;
    }

    if (rc == 0)
        rc = twl_log_snapshot_open_segment(l->io, entry, &segment);
    if (rc < 0)
        return rc == TWINLOG_ECORRUPT ? -EAGAIN : rc;
    rc = walk(l, &segment, ret);
    twl_segment_close(&segment);
    return rc;
}

/* Keeps what lies between the head of the log and a truncation. */
static void clip(const struct segment_set *set, size_t index, struct twinlog_segment *segment)
{
    segment->first_lsn = max_u64(segment->first_lsn, set->first_lsn);
    segment->last_lsn = min_u64(segment->last_lsn, twl_segment_set_bound(set, index) - 1);
    if (segment->first_lsn > segment->last_lsn) {
        segment->first_lsn = segment->last_lsn = 0;
        segment->first_time_ns = segment->last_time_ns = 0;
    }
}

static uint32_t state_of(const struct segment_set *set, size_t index)
{
    if (index + 1 < set->started)
        return TWINLOG_SEGMENT_UNSEALED;
    if (index < set->started)
        return TWINLOG_SEGMENT_ACTIVE;
    return index < set->started + set->spares ? TWINLOG_SEGMENT_SPARE : TWINLOG_SEGMENT_RETIRED;
}

static int describe_segment(struct listing *l, size_t index, struct twinlog_segment *ret)
{
    const struct segment_set *set = &l->snapshot.set;
    struct segment_entry *entry = &set->entries[index];

    *ret = (struct twinlog_segment){ .size = sizeof(*ret),
                                     .state = state_of(set, index),
                                     .sequence = entry->header.sequence,
                                     .file_bytes = segment_entry_bytes(entry),
                                     .created_ns = entry->header.created_ns,
                                     .incarnations = entry->header.incarnations,
                                     .epoch = entry->header.epoch,
                                     .is_mapped = segment_is_mapped(&entry->header) };
    snprintf(ret->file, sizeof(ret->file), "%s", entry->name);
    if (index >= set->started)
        return 0;

    const int rc = look_into(l, entry, ret);
    clip(set, index, ret);
    return rc;
}

static int describe_all(struct listing *l)
{
    const size_t count = segment_set_files(&l->snapshot.set);

    l->list = calloc(count, sizeof(*l->list));
    if (!l->list)
        return -ENOMEM;

    l->iter.passes_claims = !l->snapshot.has_writer;
    int rc = twl_log_snapshot_find_durable(l->io, &l->snapshot, &l->limit_lsn);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = describe_segment(l, i, &l->list[i]);
    return rc;
}

static void forget(struct listing *l)
{
    free(l->list);
    l->list = NULL;
    twl_log_snapshot_free(&l->snapshot);
}

/* Was a segment recycled or removed before it could be looked at? */
static bool has_changed(int error)
{
    return error == -EAGAIN || error == -ENOENT;
}

static int look_until_it_fits(struct listing *l)
{
    for (unsigned tries = 0; tries < TRIES; tries++) {
        forget(l);
        int rc = twl_log_snapshot_load(l->io, 0, &l->snapshot, NULL);
        if (rc < 0)
            return rc;
        rc = describe_all(l);
        if (!has_changed(rc))
            return rc;
    }
    return -EBUSY;
}

int twl_segments(struct io *io, int (*each)(void *context, const struct twinlog_segment *segment),
                 void *context)
{
    struct listing l = { .io = io, .summary = malloc(sizeof(*l.summary)) };

    int rc = l.summary ? look_until_it_fits(&l) : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < segment_set_files(&l.snapshot.set); i++)
        rc = each(context, &l.list[i]);
    forget(&l);
    twl_iter_free(&l.iter);
    free(l.summary);
    io->ops->destroy(io);
    return rc;
}
