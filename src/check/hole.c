/* SPDX-License-Identifier: Apache-2.0 */
/* A hole in the log reaches up to the next group that belongs to it, or to the last record that anything promises. */
#include "check/walk.h"

/* ---- what is behind a segment ------------------------------------------------------------------ */

/* How a later segment begins. */
struct beginning {
    uint64_t first_lsn;   /* 0 = nothing */
    uint64_t durable_lsn; /* that LSN was durable in this epoch; 0 = none is known */
    struct epoch epoch;
};

/* *ret is all zero if the segment has not begun. */
static int look_at_beginning(struct walk *w, struct segment_entry *entry, struct beginning *ret)
{
    struct group_header first;

    *ret = (struct beginning){ 0 };
    int rc = twl_segment_look(w->io, entry);
    if (rc < 0 || entry->first_lsn == 0)
        return rc;
    rc = twl_segment_first_group(w->io, entry, &first);
    if (rc < 0)
        return rc;

    const bool is_lost = first.first_lsn == 0; /* the group: a footer or a start told the LSN */
    ret->first_lsn = entry->first_lsn;
    ret->durable_lsn = first.durable_lsn;
    ret->epoch = is_lost && entry->is_sealed ? entry->footer.epoch : first.epoch;
    return 0;
}

static int find_next(struct walk *w, struct beginning *ret)
{
    struct segment_set *set = &w->snapshot.set;
    const size_t end = set->started + set->spares;
    int rc = 0;

    *ret = (struct beginning){ 0 };
    for (size_t i = w->index + 1; i < end && rc == 0 && ret->first_lsn == 0; i++)
        rc = look_at_beginning(w, &set->entries[i], ret);
    return rc;
}

/* The last LSN that is known to be lost if nothing is behind the place. */
static uint64_t last_lost(const struct walk *w)
{
    const struct segment_set *set = &w->snapshot.set;
    const uint64_t promised_lsn = twl_segment_set_promise_behind(set, w->index);
    const uint64_t removed_lsn = set->first_lsn - 1;

    return max_u64(max_u64(w->footer_lsn, promised_lsn), max_u64(set->passed_lsn, removed_lsn));
}

int twl_walk_find_spare(const struct walk *w, size_t from, bool *ret_is_there)
{
    const struct segment_set *set = &w->snapshot.set;
    const size_t end = set->started + set->spares;

    *ret_is_there = false;
    for (size_t i = max_u64(from, set->started); i < end && !*ret_is_there; i++) {
        struct later_groups groups;
        const int rc = twl_segment_find_groups(w->io, &set->entries[i], &groups);
        if (rc < 0)
            return rc;
        *ret_is_there = groups.last_lsn > 0;
    }
    return 0;
}

/* The newest LSN that is known to have been durable in the epoch of that number. */
static uint64_t find_sure(const struct walk *w, uint32_t epoch, const struct beginning *next)
{
    const struct segment_set *set = &w->snapshot.set;
    uint64_t lsn = 0;

    if (next->epoch.number == epoch)
        lsn = next->durable_lsn;
    for (size_t i = w->index + 1; i < set->started + set->spares; i++)
        if (set->entries[i].header.epoch == epoch)
            lsn = max_u64(lsn, twl_segment_set_promise(set, i));
    if (w->snapshot.state.header.cursor_epoch == epoch)
        lsn = max_u64(lsn, set->passed_lsn);
    return lsn;
}

/* ---- where the hole ends ------------------------------------------------------------------------- */

/* The groups behind the hole, in the same segment. */
struct behind {
    struct later_groups later;
    bool is_there;     /* the iterator is in the first one */
    bool is_in_bounds; /* and it is in front of the next segment's start */
    bool is_sure;      /* no crash has discarded them */
};

/* Behind a torn group a crash leaves others, whole ones. Where all of the next epoch is damaged, they look as if they
 * belonged to the log. Does this segment tell that these do? */
static bool is_told(const struct walk *w, const struct later_groups *later)
{
    if (w->footer_lsn > 0)
        return later->offset < w->footer.data_end;
    return later->is_confirmed;
}

/* Moves the iterator to the groups. What comes in the next segment is only looked for if these do not end the hole,
 * and may tell that they are sure. */
static int find_behind(struct walk *w, struct behind *ret, struct beginning *ret_next)
{
    struct segment_iter *iter = &w->iter;

    *ret_next = (struct beginning){ 0 };
    const int result = twl_iter_enter_later(iter, &ret->later);
    if (result < 0)
        return result;
    ret->is_there = result > 0;
    ret->is_in_bounds = ret->is_there && iter->group.first_lsn < w->bound;
    ret->is_sure = ret->is_there && is_told(w, &ret->later);
    if (ret->is_sure && ret->is_in_bounds)
        return 0;

    const int rc = find_next(w, ret_next);
    if (rc < 0)
        return rc;
    if (!ret->is_sure && w->footer_lsn == 0)
        ret->is_sure = find_sure(w, ret->later.epoch.number, ret_next) + 1 >= ret->later.first_lsn;
    return 0;
}

/* The hole ends in front of a group that belongs to the log, and the walk goes on with that. */
static void end_at_group(struct walk *w, const struct later_groups *later, struct hole *hole)
{
    const struct group_header *group = &w->iter.group;

    hole->to = later->offset;
    hole->last_lsn = group->first_lsn - 1;
    hole->epochs[1] = group->epoch;
    twl_iter_back_out(&w->iter);
}

/* The newest LSN that is missing, of a hole at the end of the log. */
static uint64_t last_missing(const struct walk *w, const struct later_groups *later, const struct hole *hole)
{
    uint64_t counted_lsn = w->footer_lsn;

    if (w->is_done)
        counted_lsn = last_lost(w);
    return max_u64(hole->first_lsn, max_u64(later->named_lsn, counted_lsn));
}

/* What was durable for certain, of a hole of which the end is another epoch's, or nothing's. */
static uint64_t sure_up_to(const struct walk *w, const struct later_groups *later,
                           const struct beginning *next, struct epoch front)
{
    uint64_t lsn = find_sure(w, front.number, next);

    if (is_same_epoch(front, later->epoch))
        lsn = max_u64(lsn, later->sure_lsn);
    return lsn;
}

/* The hole goes up to the end of the segment, and to the record in front of the next one, if there is one. */
static void end_with_segment(const struct walk *w, const struct behind *behind, const struct beginning *next,
                             struct hole *hole)
{
    const struct later_groups *later = &behind->later;
    const struct epoch front = hole->epochs[0];
    const bool is_last = next->first_lsn == 0;

    if (is_last) {
        hole->epochs[1] = front;
        hole->last_lsn = last_missing(w, later, hole);
    } else {
        hole->epochs[1] = next->epoch;
        hole->last_lsn = next->first_lsn - 1;
    }

    /* A footer tells where the groups end, and that all of them count. */
    if (w->footer_lsn > 0) {
        hole->to = max_u64(hole->from, w->footer.data_end);
        return;
    }

    hole->to = w->segment.data_end;
    hole->may_have_more = is_last && w->has_begun;

    const bool is_end_proved = !is_last && is_same_epoch(front, next->epoch);
    if (!hole->may_have_more && !is_end_proved)
        hole->sure_lsn = sure_up_to(w, later, next, front);

    const bool is_in_doubt = later->offset > 0 && !behind->is_sure;
    if (is_in_doubt)
        hole->doubt = (struct doubt){ later->first_lsn, later->last_lsn, later->offset, w->segment.data_end };
}

int twl_hole_measure(struct walk *w, struct hole *ret_hole)
{
    struct segment_iter *iter = &w->iter;
    struct behind behind;
    struct beginning next;
    bool is_in_spare = false;

    *ret_hole = (struct hole){ .finding = TWINLOG_FOUND_DAMAGE,
                               .from = max_u64(iter->offset, SEGMENT_DATA_OFFSET),
                               .first_lsn = w->next_lsn,
                               .epochs = { w->epoch, w->epoch },
                               .sure_lsn = UINT64_MAX };
    int rc = find_behind(w, &behind, &next);
    if (rc < 0)
        return rc;
    if (behind.is_sure && behind.is_in_bounds) {
        end_at_group(w, &behind.later, ret_hole);
        return 0;
    }

    iter->position = (struct position){ 0 };
    iter->offset = w->segment.data_end; /* nothing more here */
    if (next.first_lsn == 0)
        rc = twl_walk_find_spare(w, w->index + 1, &is_in_spare);
    if (rc < 0)
        return rc;
    w->is_done = next.first_lsn == 0 && !is_in_spare;
    end_with_segment(w, &behind, &next, ret_hole);
    w->has_begun = is_in_spare;
    if (walk_has_gap_behind(w))
        ret_hole->finding = TWINLOG_FOUND_MISSING_SEGMENT;
    return 0;
}
