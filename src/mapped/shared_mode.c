/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mapped log with several writers: the participants make and close segments together, and one, the leader, syncs
 * for all. See inside.h.
 *
 * The other participants sleep until the page says that their records are durable. No participant depends on the
 * leader: if it dies, the kernel releases its lock; if it is stopped, the others sync without the lock, which is
 * harmless. The lock only saves time.
 */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/point.h"
#include "set/segment_set.h"

#include <stdlib.h>
#include <string.h>

#define LEADER_MS 1000u    /* to wait for the leader's sync */
#define FOLLOWER_NAP_MS 20 /* between two checks of the leader, which may have died */
#define SWEEP_MS 100u      /* between two looks for participants that have died */

/* ---- the next segment -------------------------------------------------------------------------- */

/* `before`: NULL, or the segment that it has to follow. -ENOENT: there is no such segment. */
static int open_segment(struct io *io, uint64_t number, const struct mapped_segment *before,
                        struct segment *ret_segment)
{
    char name[SEGMENT_NAME_BYTES];
    enum header_state state;
    twl_segment_name(number, name);
    const int rc = twl_segment_open(io, name, 0, 0, ret_segment, &state);
    if (rc < 0)
        return rc;
    const struct segment_header *header = &ret_segment->header;
    const struct segment_header *previous = before ? &before->segment.header : NULL;
    if (state == HEADER_VALID && segment_is_mapped(header) && ret_segment->file_bytes >= header->bytes &&
        (!previous || (header->sequence == previous->sequence + 1 &&
                       memcmp(header->log_id, previous->log_id, LOG_ID_BYTES) == 0)))
        return 0;
    twl_segment_close(ret_segment);
    return TWINLOG_ECORRUPT;
}

static int open_next(const struct mapped *m, const struct mapped_segment *active, struct segment *ret_segment)
{
    return open_segment(m->io, active->number + 1, active, ret_segment);
}

static int count_segment(void *context, const char *name)
{
    size_t *count = context;
    *count += twl_segment_name_is_ours(name);
    return 0;
}

/* Without a keeper, the number of segments is counted here. */
static int check_count(struct io *io)
{
    size_t count = 0;
    const int rc = io->ops->list(io, count_segment, &count);
    return rc < 0 || count < MOST_SEGMENTS_TO_MAKE ? rc : -EMFILE;
}

/* Makes it as large as planned; on a full disk half as large, and so on, down to the least size. */
static int make(struct io *io, struct segment_plan *plan, uint64_t least_bytes, struct segment *ret_segment)
{
    for (;;) {
        const int rc = twl_segment_create_first_of_all(io, plan, ret_segment);
        if (!is_no_space(rc) || plan->bytes == least_bytes)
            return rc;
        plan->bytes = max_u64(align_up(plan->bytes / 2, BLOCK_BYTES), least_bytes);
    }
}

/* Opens the segment behind the active one, or makes it if there is none; then the participant that calls link(2) first
 * has made it, and none waits for another. */
static int make_next(const struct mapped *m, const struct mapped_segment *active, struct segment *ret_segment)
{
    const struct segment_header *header = &active->segment.header;
    const uint64_t least_bytes = max_u64(
        align_up(m->room + SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES, BLOCK_BYTES), SEGMENT_MIN_BYTES);
    const uint64_t bytes = min_u64(2 * header->bytes, m->participants->common->segment_bytes);
    struct segment_plan plan = { .number = active->number + 1,
                                 .sequence = header->sequence + 1,
                                 .bytes = max_u64(bytes, least_bytes),
                                 .after_lsn = atomic_load(&m->own_durable),
                                 .epoch = active->start.epoch.number,
                                 .allocation = IO_ALLOCATE_SPACE,
                                 .is_mapped = true };
    memcpy(plan.log_id, header->log_id, LOG_ID_BYTES);
    int rc = open_next(m, active, ret_segment);
    if (rc == -ENOENT) {
        rc = check_count(m->io);
        if (rc == 0)
            rc = make(m->io, &plan, least_bytes, ret_segment);
    }
    return rc == -EEXIST ? open_next(m, active, ret_segment) : rc;
}

static int get_next(struct mapped *m, bool may_wait) REQUIRES(m->rolling)
{
    const struct mapped_segment *active = atomic_load(&m->active);
    if (may_wait)
        return make_next(m, active, &m->spare_segment);
    const int rc = open_next(m, active, &m->spare_segment);
    return rc == -ENOENT ? -EAGAIN : rc;
}

/* Without `rolling`, so that a thread that needs a segment meanwhile does not wait for this one. */
static int prepare_ahead(struct mapped *m)
{
    const struct mapped_segment *active = atomic_load(&m->active);
    struct segment made;
    int rc = open_next(m, active, &made);
    if (rc == -ENOENT && !twl_participants_try(m->participants, LOCK_TO_MAKE))
        return -EAGAIN;
    if (rc == -ENOENT) {
        rc = make_next(m, active, &made);
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

/* The same in every participant. */
static int complete_start(struct mapped *m, struct group_header *start) REQUIRES(m->rolling)
{
    const struct segment_header *header = &m->spare->segment.header;
    start->durable_lsn = header->after_lsn;
    start->epoch.salt = (uint32_t)(header->segment_id ^ header->segment_id >> 32);
    start->time_ns = header->created_ns;
    start->writer = header->writer;
    return 0;
}

static void announce(struct mapped *m, struct mapped_segment *old, struct mapped_segment *seg)
    REQUIRES(m->rolling)
{
    (void)old;
    raise_u64(m->newest, seg->number);
}

/* ---- closing ----------------------------------------------------------------------------------- */

/* Drops the oldest segment after a participant has closed its group. */
static void drop_oldest(struct mapped *m) REQUIRES(m->syncing)
{
    struct mapped_segment *seg = m->oldest;
    twl_mapped_see_through(m, seg);
    twl_mapped_await_users(m, seg);
    m->oldest = atomic_load(&seg->next);
    twl_mapped_segment_unmap(seg);
    twl_segment_close(&seg->segment);
    twl_mapped_segment_unlock(seg);
}

static void let_go_of_closed(struct mapped *m) REQUIRES(m->syncing)
{
    while (m->oldest->number < atomic_load(&m->participants->common->oldest) && atomic_load(&m->oldest->next))
        drop_oldest(m);
}

static int give_header(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    if (!twl_participants_try(m->participants, LOCK_TO_SYNC))
        return -EAGAIN;
    m->wanted_lsn = 0;
    int rc = twl_mapped_sync_up_to(m, seg);
    if (rc == 0)
        rc = twl_mapped_close_file(m, seg, seg->segment.file);
    twl_participants_release(m->participants, LOCK_TO_SYNC);
    return rc;
}

/* An index only makes finding records faster, so a failure to write it is no error. */
static void give_index(struct mapped *m, struct mapped_segment *seg) REQUIRES(m->syncing)
{
    struct common *common = m->participants->common;
    struct segment *segment = &seg->segment;
    struct segment_footer footer;
    uint64_t payload_bytes;
    int64_t max_time_so_far_ns = INT64_MAX;
    struct summary *summary = segment->summary ? segment->summary : malloc(sizeof(*summary));
    segment->summary = summary;
    if (summary && twl_mapped_summarise(m, seg, summary, &payload_bytes) == 0) {
        summary->next_lsn = seg->group.first_lsn + seg->walk.count;
        if (twl_segment_seal(segment, atomic_load(&common->max_time_so_far_ns), &footer) == 0)
            max_time_so_far_ns = footer.max_time_so_far_ns;
    }
    atomic_store(&common->max_time_so_far_ns, max_time_so_far_ns);
    POINT("left-sealed");
}

static bool close_oldest(struct mapped *m) REQUIRES(m->syncing)
{
    struct mapped_segment *seg = m->oldest;
    struct common *common = m->participants->common;
    const bool is_left = atomic_load(&seg->next) != NULL && seg->number == atomic_load(&common->oldest);
    if (!is_left || twl_mapped_poison(m) != 0 || !twl_participants_try(m->participants, LOCK_TO_CLOSE))
        return false;
    bool is_closed = seg->number == atomic_load(&common->oldest) && give_header(m, seg) == 0;
    if (is_closed) {
        give_index(m, seg);
        raise_u64(&common->oldest, seg->number + 1);
        POINT("left-told");
    }
    twl_participants_release(m->participants, LOCK_TO_CLOSE);
    return is_closed;
}

static bool tend(struct mapped *m)
{
    twl_mutex_lock(&m->syncing);
    let_go_of_closed(m);
    const bool is_closed = close_oldest(m);
    let_go_of_closed(m);
    twl_mutex_unlock(&m->syncing);
    return is_closed;
}

/* ---- syncing ----------------------------------------------------------------------------------- */

static int sync_as_leader(struct mapped *m) REQUIRES(m->syncing)
{
    POINT("lead-begun");
    const int rc = twl_mapped_sync_up_to(m, NULL);
    POINT("lead-done");
    twl_participants_release(m->participants, LOCK_TO_SYNC);
    return rc;
}

static int sync_together(struct mapped *m, uint64_t lsn, uint64_t deadline_ns) REQUIRES(m->syncing)
{
    const uint64_t patience_ns = (uint64_t)LEADER_MS * 1000000u;
    uint64_t asked_ns = twl_monotonic_ns();
    for (;;) {
        const uint32_t page_sequence = twl_page_sequence(m->shared);
        int rc = twl_mapped_catch_up(m);
        const uint64_t durable = atomic_load(m->durable);
        m->wanted_lsn = lsn;
        if (rc == 0 && durable < lsn) {
            rc = twl_mapped_poison(m);
            if (rc == 0 && twl_participants_try(m->participants, LOCK_TO_SYNC))
                rc = sync_as_leader(m);
            else if (rc == 0 && twl_monotonic_ns() - asked_ns > patience_ns)
                rc = twl_mapped_sync_up_to(m, NULL);
        }
        if (atomic_load(m->durable) >= lsn || (rc < 0 && rc != -EAGAIN))
            return rc == -EAGAIN ? 0 : rc;
        if (is_over(deadline_ns))
            return -ETIMEDOUT;
        if (atomic_load(m->durable) > durable) /* the leader makes progress */
            asked_ns = twl_monotonic_ns();
        /* without the lock: a thread that needs only earlier records need not wait for a process that is stopped */
        twl_mutex_unlock(&m->syncing);
        twl_page_sleep(m->shared, page_sequence, rc == -EAGAIN ? COPY_MS : FOLLOWER_NAP_MS);
        twl_mutex_lock(&m->syncing);
    }
}

static int sync_records(struct mapped *m, uint64_t lsn, uint64_t deadline_ns) REQUIRES(m->syncing)
{
    const int rc = sync_together(m, lsn, deadline_ns);
    let_go_of_closed(m); /* there may be no thread to do it */
    return rc;
}

/* ---- dead participants ------------------------------------------------------------------------- */

/* Makes fillers of claims of this handle's number in the segment, from where records may be incomplete; skips other
 * claims. */
static void fill_abandoned_in(struct mapped *m, struct mapped_segment *seg)
{
    struct open_walk walk = twl_open_walk_unpack(atomic_load(&seg->words->complete));
    twl_open_group_help(&seg->group); /* the dead participant may not have moved the cursor on */
    const uint32_t count = twl_open_group_count(&seg->group);
    struct record_header record;
    while (walk.count < count) {
        uint32_t size;
        const unsigned owner = twl_open_group_owner(&seg->group, &walk, &size);
        if (owner == m->participants->number)
            (void)twl_open_group_fill(&seg->group, &walk, size, seg->start.time_ns);
        if (owner != 0 && owner != m->participants->number)
            twl_open_group_skip(&walk, size);
        else if (!twl_open_group_pass(&seg->group, &walk, &record))
            return; /* the record is gone; the next sync or wait finds that, too */
    }
}

/* Makes fillers of the open claims of a dead participant that had this handle's number. */
static void fill_our_number(struct mapped *m)
{
    twl_mutex_lock(&m->syncing);
    for (struct mapped_segment *seg = m->oldest; seg; seg = atomic_load(&seg->next))
        fill_abandoned_in(m, seg);
    twl_mutex_unlock(&m->syncing);
}

/* Another program may have truncated the file of the page: then this process no longer sees the other
 * participants. */
static int check_page(struct mapped *m)
{
    const int rc = m->io->ops->check_view(m->io, (const unsigned char *)m->shared->page);
    return rc < 0 ? twl_mapped_fail(m, -EIO) : 0;
}

static uint64_t look_after(struct mapped *m)
{
    uint64_t lsn, payload_bytes;
    (void)check_page(m);
    (void)twl_mapped_find_written(m, &lsn, &payload_bytes);
    (void)tend(m);
    return twl_monotonic_ns() + SWEEP_MS * UINT64_C(1000000);
}

/* ---- joining and leaving ----------------------------------------------------------------------- */

static int remove_temporary(void *context, const char *name)
{
    struct io *io = context;
    if (twl_segment_name_is_temporary(name))
        io->ops->unlink(io, name);
    return 0;
}

/* Removes the segment with that number, which was not started, and temporary files of participants that died while
 * they made one. The next opening finds what can't be removed now. */
static void remove_spare(struct io *io, uint64_t number)
{
    char name[SEGMENT_NAME_BYTES];
    twl_segment_name(number, name);
    io->ops->unlink(io, name);
    io->ops->list(io, remove_temporary, io);
}

/* Makes the records of this handle durable; the last participant also closes the log. */
static int finish(struct mapped *m)
{
    int rc = twl_mapped_sync(m, atomic_load(&m->last_own), 0);
    if (rc == 0)
        rc = twl_mapped_poison(m);
    if (!twl_participants_are_gone(m->participants))
        return rc;
    const int caught_up = twl_mapped_catch_up(m);
    rc = rc < 0 ? rc : caught_up;
    if (rc == 0) /* after catching up, which reads the page */
        rc = check_page(m);
    while (rc == 0 && tend(m))
        continue;
    if (rc == 0)
        rc = twl_mapped_close_all(m);
    if (rc == 0) /* the spare would only take space */
        remove_spare(m->io, atomic_load(&m->active)->number + 1);
    return rc;
}

static const struct mapped_ops shared = {
    .prepare_ahead = prepare_ahead,
    .get_next = get_next,
    .complete_start = complete_start,
    .announce = announce,
    .tend = tend,
    .look_after = look_after,
    .sync = sync_records,
    .finish = finish,
    .copy_ms = COPY_MS,
};

static void share(struct mapped *m)
{
    m->ops = &shared;
    m->keeper = NULL;
    m->wanted_lsn = 0;
}

/* Makes the oldest segment without a closed group the active one; the caller catches up from there. */
static int enter_oldest(struct mapped *m) REQUIRES(m->rolling)
{
    const uint64_t number = atomic_load(&m->participants->common->oldest);
    struct segment segment = { 0 };
    struct mapped_segment *seg;
    int rc = open_segment(m->io, number, NULL, &segment);
    if (rc == 0)
        rc = twl_mapped_segment_map(m->io, &segment, m->participants, &seg);
    if (rc < 0) {
        twl_segment_close(&segment);
        return rc;
    }
    m->oldest = m->all = m->seen_segment = seg;
    atomic_store(&m->active, seg);
    return twl_mapped_segment_enter(seg);
}

int twl_mapped_join(const struct mapped_config *config, struct mapped **ret_mapped)
{
    struct mapped *m = twl_mapped_new(config, config->participants->common->max_record_bytes);
    if (!m)
        return -ENOMEM;
    share(m);
    twl_mutex_lock(&m->rolling);
    int rc = enter_oldest(m);
    twl_mutex_unlock(&m->rolling);
    if (rc == 0)
        rc = twl_mapped_catch_up(m);
    if (rc < 0) {
        twl_mapped_destroy(m);
        return rc;
    }
    twl_segment_remove_dead(m->io);
    fill_our_number(m);
    m->began_lsn = twl_mapped_last_lsn(m) + 1;
    *ret_mapped = m;
    return 0;
}

void twl_mapped_let_in(struct mapped *m, int64_t max_time_so_far_ns)
{
    struct common *common = m->participants->common;
    const uint64_t number = atomic_load(&m->active)->number;
    share(m);
    common->segment_bytes = m->options.segment_bytes;
    common->max_record_bytes = m->options.max_record_bytes;
    atomic_store(&common->max_time_so_far_ns, max_time_so_far_ns);
    atomic_store(&common->oldest, number);
    atomic_store(&common->newest, number);
}
