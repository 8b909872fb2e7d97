/* SPDX-License-Identifier: Apache-2.0 */
/* Finds how far records are complete, without a wait for the disk, and makes fillers of the records of dead
 * participants. */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include <errno.h>

/* ---- the dead ---------------------------------------------------------------------------------- */

bool twl_mapped_fill_abandoned(struct mapped *m, const struct mapped_segment *seg,
                               const struct open_walk *walk)
{
    uint32_t size;
    const unsigned owner = m->participants ? twl_open_group_owner(&seg->group, walk, &size) : 0;
    if (owner == 0 || size == CLAIM_END || twl_participants_is_alive(m->participants, owner))
        return false;
    const bool is_filled = twl_open_group_fill(&seg->group, walk, size, seg->start.time_ns);
    twl_page_nudge(m->shared);
    return is_filled;
}

/* ---- looking ----------------------------------------------------------------------------------- */

static void see_rest(struct mapped *m) REQUIRES(m->looking)
{
    struct record_header record;
    while (twl_open_group_pass(&m->seen_segment->group, &m->seen, &record)) {
        m->seen_bytes += record.size;
        m->seen_here += record.size;
    }
    raise_u64(&m->seen_segment->words->complete, twl_open_walk_pack(&m->seen));
}

static void see_next(struct mapped *m, struct mapped_segment *next) REQUIRES(m->looking)
{
    m->seen_segment = next;
    m->seen = (struct open_walk)OPEN_WALK_INIT;
    m->seen_here = 0;
}

/* If the record was not complete at the last look either, makes it a filler if its owner is dead: true. */
static bool get_unstuck(struct mapped *m) REQUIRES(m->looking)
{
    const uint64_t lsn = m->seen_segment->group.first_lsn + m->seen.count;
    const bool was_stuck = m->stuck_lsn == lsn;
    m->stuck_lsn = lsn;
    return was_stuck && twl_mapped_fill_abandoned(m, m->seen_segment, &m->seen);
}

/* 0, or -EIO when a record is lost, and with it all records behind it. */
static int see_all(struct mapped *m) REQUIRES(m->looking)
{
    for (;;) {
        const struct mapped_segment *seg = m->seen_segment;
        struct mapped_segment *next =
            atomic_load(&seg->next); /* first: if there is one, no more records are put here */
        see_rest(m);
        if (m->seen.count < twl_open_group_count(&seg->group)) {
            if (get_unstuck(m))
                continue;
            return twl_open_group_is_lost(&seg->group) || twl_open_group_is_gone(&seg->group, &m->seen) ? -EIO
                                                                                                        : 0;
        }
        if (!next)
            return 0;
        see_next(m, next);
    }
}

void twl_mapped_see_past(struct mapped *m, const struct mapped_segment *seg, uint64_t payload_bytes)
{
    twl_mutex_lock(&m->looking);
    while (m->seen_segment->sequence < seg->sequence) {
        see_rest(m);
        see_next(m, atomic_load(&m->seen_segment->next));
    }
    if (m->seen_segment == seg) {
        m->seen_bytes += payload_bytes - min_u64(m->seen_here, payload_bytes);
        see_next(m, atomic_load(&seg->next));
    }
    twl_mutex_unlock(&m->looking);
}

void twl_mapped_see_through(struct mapped *m, const struct mapped_segment *seg)
{
    twl_mutex_lock(&m->looking);
    while (m->seen_segment->sequence <= seg->sequence) {
        see_rest(m);
        see_next(m, atomic_load(&m->seen_segment->next));
    }
    twl_mutex_unlock(&m->looking);
}

int twl_mapped_find_written(struct mapped *m, uint64_t *ret_lsn, uint64_t *ret_payload_bytes)
{
    int rc = twl_mapped_catch_up(m);
    twl_mutex_lock(&m->looking);
    const int seen = see_all(m);
    *ret_lsn = m->seen_segment->group.first_lsn + m->seen.count - 1;
    *ret_payload_bytes = m->seen_bytes;
    twl_mutex_unlock(&m->looking);
    return seen < 0 ? twl_mapped_fail(m, seen) : rc;
}
