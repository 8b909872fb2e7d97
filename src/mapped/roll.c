/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rolls from one segment to the next. See inside.h.
 *
 * In this order: the new segment gets its marker; a search for segments finds it (the keeper has it in its
 * set, or its name exists); the page says its epoch; it becomes active. So a reader that learns of a record
 * in it finds the segment.
 */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/point.h"

#include <errno.h>

int twl_mapped_prepare(struct mapped *m, bool may_wait)
{
    int rc = 0;
    if (m->spare)
        return 0;
    if (!m->spare_segment.file)
        rc = m->ops->get_next(m, may_wait);
    if (rc == -EAGAIN && !may_wait) {
        const int error = atomic_exchange(&m->spare_error, 0); /* that kept the thread from making one */
        rc = error < 0 ? error : rc;
    }
    if (rc == 0)
        rc = twl_mapped_segment_map(m->io, &m->spare_segment, m->participants, &m->spare);
    atomic_store(&m->has_spare, rc == 0);
    return rc;
}

int twl_mapped_move_on(struct mapped *m, const struct position *position)
{
    struct mapped_segment *seg = m->spare, *old = atomic_load(&m->active);
    struct group_header start;
    const int rc = m->ops->compose_start(m, position, &start);
    if (rc < 0)
        return rc;
    twl_mapped_segment_begin(seg, &start);
    POINT("start-marked");
    m->spare_segment = (struct segment){ 0 };
    m->spare = NULL;
    atomic_store(&m->has_spare, false);
    if (old) {
        atomic_store(&old->next, seg);
        m->ops->announce(m, old, seg);
        POINT("segment-left");
        twl_page_publish_epoch(m->shared, start.epoch.number);
        POINT("epoch-told");
    } else { /* the caller publishes, and leaves the old segment */
        m->first_left.summary->next_lsn = position->next_lsn;
        m->oldest = m->all = m->seen_segment = seg;
    }
    atomic_store(&m->active, seg);
    POINT("active-switched");
    return 0;
}

static int leave_full(struct mapped *m, const struct mapped_segment *full, bool is_try) REQUIRES(m->rolling)
{
    if (atomic_load(&m->active) != full)
        return 0;
    const struct position position = { .next_lsn = twl_mapped_segment_next_lsn(full),
                                       .chain = full->start.checksum,
                                       .epoch = full->start.epoch };
    int rc = twl_mapped_prepare(m, !is_try);
    if (rc == 0)
        rc = twl_mapped_move_on(m, &position);
    if (rc == 0)
        atomic_fetch_add(&m->rolls, 1);
    else if (is_no_space(rc))
        atomic_fetch_add(&m->full_refusals, 1);
    return rc;
}

int twl_mapped_roll(struct mapped *m, const struct mapped_segment *full, bool is_try)
{
    if (!is_try) {
        twl_mutex_lock(&m->rolling);
    } else if (!twl_mutex_try_lock(&m->rolling)) {
        return -EAGAIN;
    }
    const int rc = leave_full(m, full, is_try);
    twl_mutex_unlock(&m->rolling);
    twl_event_notify_all(&m->wake);
    return rc;
}

int twl_mapped_catch_up(struct mapped *m)
{
    int rc = 0;
    for (const struct mapped_segment *seg;
         rc == 0 && (seg = atomic_load(&m->active))->number < atomic_load(m->newest);)
        rc = twl_mapped_roll(m, seg, false); /* its group has ended, because a participant has left it */
    return rc;
}
