/* SPDX-License-Identifier: Apache-2.0 */
/* A mapped log with a single writer: its keeper makes the segments, and closes those that were left. See inside.h. */
#define _GNU_SOURCE
#include "mapped/inside.h"

/* ---- the next segment -------------------------------------------------------------------------- */

static int prepare_ahead(struct mapped *m)
{
    const struct mapped_segment *active = atomic_load(&m->active);
    const uint32_t epoch = active ? active->start.epoch.number : m->first_left.header.epoch;
    return twl_keeper_wait(m->keeper, m->room, atomic_load(&m->own_durable), epoch);
}

static int get_next(struct mapped *m, bool may_wait) REQUIRES(m->rolling)
{
    int rc = 0;
    while (rc == 0 && !twl_keeper_take(m->keeper, m->room, &m->spare_segment)) {
        if (!may_wait)
            return -EAGAIN;
        atomic_fetch_add(&m->statistics->roll_waits, 1);
        rc = prepare_ahead(m);
    }
    return rc;
}

static int complete_start(struct mapped *m, struct group_header *start) REQUIRES(m->rolling)
{
    start->durable_lsn = atomic_load(&m->own_durable);
    start->time_ns = m->io->ops->now_ns(m->io);
    start->writer = twl_writer();
    return m->io->ops->random(m->io, &start->epoch.salt, sizeof(start->epoch.salt));
}

/* The keeper takes the old segment. */
static void announce(struct mapped *m, struct mapped_segment *old, struct mapped_segment *seg)
    REQUIRES(m->rolling)
{
    const struct segment left = old->segment;
    old->segment.file = NULL;
    old->segment.summary = NULL;
    left.summary->next_lsn = seg->group.first_lsn;
    twl_keeper_leave(m->keeper, &left, &seg->segment);
}

/* ---- closing ----------------------------------------------------------------------------------- */

static struct mapped_segment *find(struct mapped *m, uint64_t sequence) REQUIRES(m->syncing)
{
    struct mapped_segment *seg = m->oldest;
    while (seg && seg->segment.header.sequence != sequence)
        seg = atomic_load(&seg->next);
    return seg;
}

/* Drops the segments before this one that the keeper did not ask for: their files were trimmed. */
static void drop_trimmed(struct mapped *m, const struct mapped_segment *before) REQUIRES(m->syncing)
{
    for (; m->oldest != before; m->oldest = atomic_load(&m->oldest->next)) {
        twl_mapped_await_users(m, m->oldest);
        twl_mapped_segment_unmap(m->oldest);
    }
}

static int close_left(struct mapped *m, struct mapped_segment *seg, struct segment *segment)
    REQUIRES(m->syncing)
{
    uint64_t payload_bytes;
    int rc = twl_mapped_poison(m);
    const int found = twl_mapped_summarise(m, seg, segment->summary, &payload_bytes);
    twl_mapped_await_users(m, seg);
    if (rc == 0 && (found < 0 || twl_open_group_is_lost(&seg->group)))
        rc = twl_mapped_fail(m, -EIO);
    twl_mapped_see_past(m, seg, payload_bytes);
    drop_trimmed(m, seg);
    twl_mapped_segment_unmap(seg);
    if (rc == 0 && !seg->is_closed)
        rc = twl_mapped_close_file(m, seg, segment->file);
    m->oldest = atomic_load(&seg->next);
    return rc;
}

int twl_mapped_close_group(void *context, struct segment *segment)
{
    struct mapped *m = context;
    twl_mutex_lock(&m->syncing);
    struct mapped_segment *seg = find(m, segment->header.sequence);
    const int rc = seg ? close_left(m, seg, segment) : 0; /* NULL: from before the opening */
    twl_mutex_unlock(&m->syncing);
    return rc;
}

static int sync_records(struct mapped *m, uint64_t lsn, uint64_t deadline_ns) REQUIRES(m->syncing)
{
    (void)deadline_ns; /* nobody is waited for */
    return atomic_load(m->durable) < lsn ? twl_mapped_sync_up_to(m, NULL) : 0;
}

const struct mapped_ops twl_mapped_alone = {
    .prepare_ahead = prepare_ahead,
    .get_next = get_next,
    .complete_start = complete_start,
    .announce = announce,
    .sync = sync_records,
    .finish = twl_mapped_close_all,
    .copy_ms = UINT32_MAX,
};
