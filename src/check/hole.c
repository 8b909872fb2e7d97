/* SPDX-License-Identifier: Apache-2.0 */
/* A hole in the log reaches up to the next group that belongs to it, or to the last record that anything promises. */
#include "check/walk.h"

/* ---- what is behind a segment ------------------------------------------------------------------ */

struct beginning {
    uint64_t first_lsn;   /* 0 = nothing */
    uint64_t durable_lsn; /* that LSN was durable in this epoch; 0 = none is known */
    struct epoch epoch;
};

static int find_next(struct walk *w, struct beginning *ret)
{
    struct segment_set *set = &w->snapshot.set;
    struct group_header first;
    int rc = 0;
    *ret = (struct beginning){ 0 };
    for (size_t i = w->index + 1; rc == 0 && i < set->started + set->spares && ret->first_lsn == 0; i++) {
        struct segment_entry *entry = &set->entries[i];
        rc = twl_segment_look(w->io, entry);
        ret->first_lsn = entry->first_lsn;
        if (rc == 0 && entry->first_lsn > 0)
            rc = twl_segment_first_group(w->io, entry, &first);
        if (rc == 0 && entry->first_lsn > 0) {
            ret->durable_lsn = first.durable_lsn;
            ret->epoch = first.first_lsn == 0 && entry->is_sealed ? entry->footer.epoch : first.epoch;
        }
    }
    return rc;
}

/* The last LSN that is known to be lost if nothing is behind the place. */
static uint64_t last_lost(const struct walk *w)
{
    const struct segment_set *set = &w->snapshot.set;
    const uint64_t told_lsn = max_u64(w->footer_lsn, twl_segment_set_promise_behind(set, w->index));
    return max_u64(told_lsn, max_u64(set->passed_lsn, set->first_lsn - 1));
}

int twl_walk_find_spare(const struct walk *w, size_t from, bool *ret_is_there)
{
    const struct segment_set *set = &w->snapshot.set;
    int rc = 0;
    *ret_is_there = false;
    for (size_t i = max_u64(from, set->started); rc == 0 && !*ret_is_there && i < set->started + set->spares;
         i++) {
        struct later_groups groups;
        rc = twl_segment_find_groups(w->io, &set->entries[i], &groups);
        *ret_is_there = rc == 0 && groups.last_lsn > 0;
    }
    return rc;
}

/* The newest LSN that is known to have been durable in the epoch of that number. */
static uint64_t find_sure(const struct walk *w, uint32_t epoch, const struct beginning *next)
{
    const struct segment_set *set = &w->snapshot.set;
    uint64_t lsn = next->epoch.number == epoch ? next->durable_lsn : 0;
    for (size_t i = w->index + 1; i < set->started + set->spares; i++)
        if (set->entries[i].header.epoch == epoch)
            lsn = max_u64(lsn, twl_segment_set_promise(set, i));
    return w->snapshot.state.header.cursor_epoch == epoch ? max_u64(lsn, set->passed_lsn) : lsn;
}

/* Behind a torn group a crash leaves others, whole ones. Where all of the next epoch is damaged, they look as if they
 * belonged to the log. Does this segment tell that these do? */
static bool is_told(const struct walk *w, const struct later_groups *later)
{
    return w->footer_lsn > 0 ? later->offset < w->footer.data_end : later->is_confirmed;
}

static void end_hole(struct walk *w, const struct later_groups *later, const struct beginning *next,
                     bool is_sure, struct hole *hole)
{
    const struct epoch front = hole->epochs[0];
    const bool is_last = next->first_lsn == 0;
    const uint64_t told_lsn = max_u64(later->named_lsn, w->is_done ? last_lost(w) : w->footer_lsn);
    hole->epochs[1] = is_last ? front : next->epoch;
    hole->last_lsn = is_last ? max_u64(hole->first_lsn, told_lsn) : next->first_lsn - 1;
    hole->to = w->segment.data_end;
    if (w->footer_lsn > 0) {
        hole->to = max_u64(hole->from, w->footer.data_end);
        return;
    }
    hole->may_have_more = is_last && w->has_begun;
    if (!hole->may_have_more && (is_last || !is_same_epoch(front, next->epoch)))
        hole->sure_lsn = max_u64(find_sure(w, front.number, next),
                                 is_same_epoch(front, later->epoch) ? later->sure_lsn : 0);
    if (later->offset > 0 && !is_sure)
        hole->doubt = (struct doubt){ later->first_lsn, later->last_lsn, later->offset, w->segment.data_end };
}

int twl_hole_measure(struct walk *w, struct hole *ret_hole)
{
    struct segment_iter *cursor = &w->cursor;
    struct later_groups later;
    struct beginning next = { 0 };
    *ret_hole = (struct hole){ .finding = TWINLOG_FOUND_DAMAGE,
                               .from = max_u64(cursor->offset, SEGMENT_DATA_OFFSET),
                               .first_lsn = w->next_lsn,
                               .epochs = { w->epoch, w->epoch },
                               .sure_lsn = UINT64_MAX };
    int rc = twl_iter_enter_later(cursor, &later);
    if (rc < 0)
        return rc;
    const bool is_in_bounds = rc > 0 && cursor->group.first_lsn < w->bound;
    bool is_sure = rc > 0 && is_told(w, &later);
    rc = is_sure && is_in_bounds ? 0 : find_next(w, &next);
    if (rc < 0)
        return rc;
    if (!is_sure && w->footer_lsn == 0)
        is_sure = find_sure(w, later.epoch.number, &next) + 1 >= later.first_lsn;
    if (is_sure && is_in_bounds) {
        ret_hole->to = later.offset;
        ret_hole->last_lsn = cursor->group.first_lsn - 1;
        ret_hole->epochs[1] = cursor->group.epoch;
        twl_iter_back_out(cursor);
        return 0;
    }
    cursor->position = (struct position){ 0 };
    cursor->offset = w->segment.data_end; /* nothing more here */
    bool is_in_spare = false;
    if (next.first_lsn == 0)
        rc = twl_walk_find_spare(w, w->index + 1, &is_in_spare);
    w->is_done = next.first_lsn == 0 && !is_in_spare;
    end_hole(w, &later, &next, is_sure, ret_hole);
    w->has_begun = is_in_spare;
    if (walk_has_gap_behind(w))
        ret_hole->finding = TWINLOG_FOUND_MISSING_SEGMENT;
    return rc;
}
