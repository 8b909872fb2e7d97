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
#include "mapped/next.h"

#include <errno.h>

/* The result of a try when no spare is ready: -EAGAIN, or what kept the thread from making one. */
static int take_spare_error(struct mapped *m)
{
    const int rc = atomic_exchange(&m->spare_error, 0);
    return rc < 0 ? rc : -EAGAIN;
}

static int get_from_keeper(struct mapped *m, bool may_wait) REQUIRES(m->rolling)
{
    const struct mapped_segment *active = atomic_load(&m->active);
    const uint64_t after_lsn = atomic_load(&m->own_durable);
    const uint32_t epoch = active ? active->start.epoch.number : m->first_left.header.epoch;
    while (!twl_keeper_take(m->keeper, m->room, &m->spare_segment)) {
        if (!may_wait)
            return take_spare_error(m);
        atomic_fetch_add(&m->roll_waits, 1);
        const int rc = twl_keeper_wait(m->keeper, m->room, after_lsn, epoch);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int get_shared(struct mapped *m, bool may_wait) REQUIRES(m->rolling)
{
    const struct mapped_segment *active = atomic_load(&m->active);
    const uint64_t durable = atomic_load(&m->own_durable);
    if (!may_wait) {
        const int rc = twl_next_open(m->io, active->number + 1, &m->spare_segment);
        return rc == -ENOENT ? take_spare_error(m) : rc;
    }
    return twl_next_make(m->participants, &active->segment, active->number + 1, m->room, durable,
                         active->start.epoch.number, &m->spare_segment);
}

/* Without `rolling`, so that a thread that needs a segment meanwhile does not wait for this one. */
static int make_ahead(struct mapped *m)
{
    const struct mapped_segment *active = atomic_load(&m->active);
    struct segment made;
    int rc = twl_next_open(m->io, active->number + 1, &made);
    if (rc == -ENOENT && !twl_participants_try(m->participants, LOCK_TO_MAKE))
        return -EAGAIN;
    if (rc == -ENOENT) {
        rc = twl_next_make(m->participants, &active->segment, active->number + 1, m->room,
                           atomic_load(&m->own_durable), active->start.epoch.number, &made);
        twl_participants_release(m->participants, LOCK_TO_MAKE);
    }
    if (rc < 0)
        return rc;
    twl_mutex_lock(&m->rolling);
    const bool is_needed = atomic_load(&m->active) == active && !m->spare && !m->spare_segment.file;
    if (is_needed)
        m->spare_segment = made;
    twl_mutex_unlock(&m->rolling);
    if (!is_needed)
        twl_segment_close(&made);
    return 0;
}

int twl_mapped_prepare_ahead(struct mapped *m)
{
    if (m->participants)
        return make_ahead(m);
    return twl_keeper_wait(m->keeper, m->room, atomic_load(&m->own_durable),
                           atomic_load(&m->active)->start.epoch.number);
}

int twl_mapped_prepare(struct mapped *m, bool may_wait)
{
    const bool has_participants = m->participants && atomic_load(&m->active);
    int rc = 0;
    if (m->spare)
        return 0;
    if (!m->spare_segment.file)
        rc = has_participants ? get_shared(m, may_wait) : get_from_keeper(m, may_wait);
    if (rc == 0)
        rc = twl_mapped_segment_map(m->io, &m->spare_segment,
                                    m->participants ? m->participants->number : OUR_NAME,
                                    m->participants != NULL, &m->spare);
    atomic_store(&m->has_spare, rc == 0);
    return rc;
}

static int compose_start(struct mapped *m, const struct position *position, struct group_header *ret_start)
    REQUIRES(m->rolling)
{
    const struct mapped_segment *old = atomic_load(&m->active);
    if (m->participants && old)
        return twl_mapped_segment_compose_next(m->spare, old, ret_start);
    *ret_start = (struct group_header){ .first_lsn = position->next_lsn,
                                        .bytes = GROUP_HEADER_BYTES,
                                        .durable_lsn = atomic_load(&m->own_durable),
                                        .chain = position->chain,
                                        .epoch.number = position->epoch.number + 1,
                                        .kind = GROUP_START,
                                        .flags = GROUP_FIRST,
                                        .time_ns = m->io->ops->now_ns(m->io),
                                        .writer = twl_writer() };
    if (position->epoch.number == UINT32_MAX)
        return -EOVERFLOW;
    return m->io->ops->random(m->io, &ret_start->epoch.salt, sizeof(ret_start->epoch.salt));
}

/* Lets searches for segments find the new one. If there is a keeper, it takes the old one. */
static void announce(struct mapped *m, struct mapped_segment *old, struct mapped_segment *seg)
    REQUIRES(m->rolling)
{
    if (m->participants) {
        raise_u64(&m->participants->common->newest, seg->number);
        return;
    }
    const struct segment left = old->segment;
    old->segment.file = NULL;
    old->segment.summary = NULL;
    left.summary->next_lsn = seg->group.first_lsn;
    twl_keeper_leave(m->keeper, &left, &seg->segment);
}

int twl_mapped_move_on(struct mapped *m, const struct position *position)
{
    struct mapped_segment *seg = m->spare, *old = atomic_load(&m->active);
    struct group_header start;
    const int rc = compose_start(m, position, &start);
    if (rc < 0)
        return rc;
    twl_mapped_segment_begin(seg, &start);
    POINT("start-marked");
    m->spare_segment = (struct segment){ 0 };
    m->spare = NULL;
    atomic_store(&m->has_spare, false);
    if (old) {
        atomic_store(&old->next, seg);
        announce(m, old, seg);
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
    while (rc == 0 && m->participants) {
        const struct mapped_segment *active = atomic_load(&m->active);
        if (active->number >= atomic_load(&m->participants->common->newest))
            break;
        rc = twl_mapped_roll(m, active, false); /* its group has ended, because a participant has left it */
    }
    return rc;
}
