/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the participants of a mapped log do together: they make, close and remove segments, and one, the leader, syncs
 * for all. The others sleep until the page says that their records are durable. See inside.h.
 *
 * The life of a segment:
 *   active   records are put here
 *   left     writers have gone on to the next one; records that they began here may still be incomplete
 *   closed   its records are durable, and it has a header for its group, an index and a footer. One participant does
 *            that for all, and says so by a larger `oldest` in the common part of the page
 *   dropped  this handle has given its mapping and its descriptor back
 *   removed  by retention: the file has no name any more
 *
 * Two locks stand around a sync. m->syncing is a mutex between the threads of this handle. LOCK_TO_SYNC is a lock
 * between the participants, which only a thread with m->syncing takes: its holder is the leader, and it alone closes
 * segments. If the leader dies, the kernel releases that lock. If it is stopped, the others go on without the lock
 * after a while: several may sync the same pages, which costs time and does no harm; but no segment is closed until
 * one of them gets the lock.
 */
#define _GNU_SOURCE
#include "mapped/inside.h"

#include "base/point.h"
#include "set/segment_set.h"

#include <stdlib.h>
#include <string.h>

/* A wait for others that sync, close or give back a file. They may be stopped, so it has to end; it is longer than a
 * sync of a slow disk takes. */
#define OTHERS_MS 1000u
#define FOLLOWER_NAP_MS 20  /* between two looks whether the leader has died, of which nothing tells */
#define YIELDS_FOR_SYNC 10u /* before a thread with a deadline sleeps between two tries to get m->syncing */
#define SWEEP_MS 100u       /* between two looks for participants that have died */

/* The threads of the log close the segments that are left. A sync does it only when there are more than so many, */
#define SEGMENTS_FOR_THREADS 4u
/* and then not more than so many: while it runs, hardly more than one is left anew, so they become fewer. */
#define CLOSED_IN_SYNC 2u

/* ---- the next segment -------------------------------------------------------------------------- */

static bool follows(const struct segment_header *header, const struct segment_header *previous)
{
    if (header->sequence != previous->sequence + 1)
        return false;
    return memcmp(header->log_id, previous->log_id, LOG_ID_BYTES) == 0;
}

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
    const bool is_sound =
        state == HEADER_VALID && segment_is_mapped(header) && ret_segment->file_bytes >= header->bytes;
    if (is_sound && (!before || follows(header, &before->segment.header)))
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

static int check_count(struct io *io)
{
    size_t count = 0;
    const int rc = io->ops->list(io, count_segment, &count);
    if (rc < 0 || count < MOST_SEGMENTS_TO_MAKE)
        return rc;
    return -EMFILE;
}

/* Makes the segment as large as planned; on a full disk half as large, and so on, down to the least size. Where other
 * participants are let in, several may make the same one: each fills a file under a name of its own, and the first one
 * that links it to the name of the segment has made it. Where none is, the file is made in its place. */
static int make(const struct mapped *m, struct segment_plan *plan, uint64_t least_bytes,
                struct segment *ret_segment)
{
    for (;;) {
        int rc;
        if (participants_let_others_in(m->participants)) {
            rc = twl_segment_create_first_of_all(m->io, plan, ret_segment);
        } else {
            rc = twl_segment_create(m->io, plan, ret_segment, NULL);
            if (rc == 0) /* a thread that needs it meanwhile opens it for itself */
                io_unlock(ret_segment->file, IO_LOCK_WRITER);
        }
        if (!is_no_space(rc) || plan->bytes == least_bytes)
            return rc;
        plan->bytes = max_u64(align_up(plan->bytes / 2, BLOCK_BYTES), least_bytes);
    }
}

/* Makes the segment behind the active one, or opens it if another participant was faster. None waits for another. */
static int make_next(const struct mapped *m, const struct mapped_segment *active, struct segment *ret_segment)
    REQUIRES(m->making)
{
    if (active->number < atomic_load(&m->participants->common->newest)) { /* so it is there, or was removed */
        const int found = open_next(m, active, ret_segment);
        if (found == -ENOENT)
            return -EIO;
        return found;
    }

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
                                 .is_mapped = true,
                                 .predecessor = active->segment.file };
    memcpy(plan.log_id, header->log_id, LOG_ID_BYTES);
    int rc = twl_page_check_log(m->shared);
    if (rc == 0)
        rc = check_count(m->io);
    if (rc == 0)
        rc = make(m, &plan, least_bytes, ret_segment);
    if (rc == -EEXIST)
        return open_next(m, active, ret_segment);
    return rc;
}

/* Tries whether this process has a descriptor left, by opening the file once more, as durable.c does to read back what
 * others have put here. A process that goes on to a segment without one could neither sync its records nor close what
 * it has open. It is a try: another thread may take the descriptor later, and that sync is -EMFILE then. One thread at
 * a time tries, or two would refuse each other the last descriptors. On failure the segment is given back. */
static int check_reading_back(const struct mapped *m, struct segment *segment) REQUIRES(m->making)
{
    struct io_file *file;

    if (!participants_let_others_in(m->participants))
        return 0;
    const int rc = m->io->ops->open(m->io, segment->name, IO_READ_ONLY | IO_FROM_DISK, &file);
    if (rc == 0)
        io_close(file);
    else
        twl_segment_close(segment);
    return rc;
}

/* -EIO of make_next(): the segment was there once, and has gone. -ENOENT: it was not there, and may not be made now. */
int twl_mapped_get_next(struct mapped *m, const struct mapped_segment *active, bool may_wait,
                        struct segment *ret_segment)
{
    if (may_wait) {
        twl_mutex_lock(&m->making);
    } else if (!twl_mutex_try_lock(&m->making)) {
        return -EAGAIN;
    }

    int rc = open_next(m, active, ret_segment);
    if (rc == -ENOENT && may_wait)
        rc = make_next(m, active, ret_segment);
    if (rc == 0)
        rc = check_reading_back(m, ret_segment);
    twl_mutex_unlock(&m->making);
    if (rc == -ENOENT)
        return -EAGAIN;
    return rc;
}

/* ---- the lock for syncs -------------------------------------------------------------------------- */

/* Takes m->syncing. Another thread may have it while it waits for the disk, and it is not fair, so others may have it
 * again and again. 1: it is held; 0: it is not, as the records are durable by now; -ETIMEDOUT, -ECANCELED. */
static int lock_syncing(struct mapped *m, uint64_t lsn, const struct terms *terms) NO_THREAD_SAFETY_ANALYSIS
{
    unsigned turns = 0;

    while (!twl_mutex_try_lock(&m->syncing)) {
        if (atomic_load(m->durable) >= lsn)
            return 0;
        if (is_patient(terms)) {
            twl_mutex_lock(&m->syncing);
            return 1;
        }

        const int ended = twl_terms_ended(terms);
        if (ended < 0)
            return ended;
        twl_nap(m->io, YIELDS_FOR_SYNC, &turns);
    }
    return 1;
}

/* Takes LOCK_TO_SYNC, if no other participant has it. */
static bool try_to_lead(struct mapped *m) REQUIRES(m->syncing)
{
    const bool leads = twl_participants_try(m->participants, LOCK_TO_SYNC);
    if (leads)
        m->leader = (struct leader_watch){ 0 };
    return leads;
}

/* For a thread that did not get LOCK_TO_SYNC. True if the leader is late: it has had the lock for OTHERS_MS, and
 * nothing has become durable meanwhile. It stays late until this handle has had the lock itself: the others sync
 * without the lock by then, so what becomes durable no longer shows that the leader goes on. */
static bool watch_leader(struct mapped *m) REQUIRES(m->syncing)
{
    struct leader_watch *leader = &m->leader;
    if (leader->is_late)
        return true;

    const uint64_t now_ns = twl_monotonic_ns(), durable_lsn = atomic_load(m->durable);
    if (leader->since_ns == 0 || leader->durable_lsn != durable_lsn) {
        leader->since_ns = now_ns;
        leader->durable_lsn = durable_lsn;
    }

    leader->is_late = now_ns - leader->since_ns >= OTHERS_MS * UINT64_C(1000000);
    return leader->is_late;
}

/* ---- closing ----------------------------------------------------------------------------------- */

static void drop_oldest(struct mapped *m) REQUIRES(m->syncing)
{
    struct mapped_segment *seg = m->oldest;
    twl_mapped_take_mapping_away(m, seg);
    m->oldest = atomic_load(&seg->next);
    twl_segment_close(&seg->segment);
}

/* Drops what participants have closed; never the last segment of the list, which is the active one. */
static void drop_closed(struct mapped *m) REQUIRES(m->syncing)
{
    while (m->oldest->number < atomic_load(&m->participants->common->oldest) && atomic_load(&m->oldest->next))
        drop_oldest(m);
}

/* Is the oldest segment of this handle left, and closed by nobody yet? */
static bool may_close_oldest(struct mapped *m) REQUIRES(m->syncing)
{
    const uint64_t oldest = atomic_load(&m->participants->common->oldest);
    const bool is_left = atomic_load(&m->oldest->next) != NULL && m->oldest->number == oldest;
    return is_left && twl_mapped_check_poison(m) == 0;
}

/* For the thread that has LOCK_TO_SYNC. False: the segment is active, or a record in it is incomplete, or the disk
 * refuses. */
static bool close_oldest_as_leader(struct mapped *m) REQUIRES(m->syncing)
{
    if (!may_close_oldest(m) || twl_mapped_close_segment(m, m->oldest) < 0)
        return false;

    raise_u64(&m->participants->common->oldest, m->oldest->number + 1);
    POINT("left-told");
    return true;
}

static void close_oldest(struct mapped *m) REQUIRES(m->syncing)
{
    if (!may_close_oldest(m) || !twl_participants_try(m->participants, LOCK_TO_SYNC))
        return;

    (void)close_oldest_as_leader(m);
    twl_participants_release(m->participants, LOCK_TO_SYNC);
}

static bool are_many_left(struct mapped *m) REQUIRES(m->syncing)
{
    const uint64_t newest = atomic_load(&m->participants->common->newest);
    return m->oldest->number + SEGMENTS_FOR_THREADS < newest;
}

/* The threads may come too late for LOCK_TO_SYNC where participants sync without a pause. Then each sync closes some of
 * what it has synced: a participant needs a file for each segment that is open. Not all of them, as the sync has a
 * caller that waits, perhaps until a deadline, and others may fill segments as fast as it closes them. */
static void close_some_of_many(struct mapped *m) REQUIRES(m->syncing)
{
    drop_closed(m);
    for (unsigned closed = 0; closed < CLOSED_IN_SYNC && are_many_left(m); closed++) {
        if (!close_oldest_as_leader(m))
            return;
        atomic_store(&m->must_retain, true);
        drop_closed(m);
    }
}

/* Closes the oldest segment that is left, if it can, and drops what is closed: true if anything was dropped. */
static bool tend(struct mapped *m) REQUIRES(m->syncing)
{
    const uint64_t before = m->oldest->number;

    close_oldest(m);
    drop_closed(m);
    return m->oldest->number != before;
}

bool twl_mapped_tend(struct mapped *m)
{
    twl_mutex_lock(&m->syncing);
    const bool is_moved = tend(m);
    twl_mutex_unlock(&m->syncing);

    /* A sync that closed a segment had a caller that waited, and left what retention has to do to this one. */
    const bool must_retain = atomic_exchange(&m->must_retain, false);
    if (is_moved || must_retain)
        m->retain(m->retain_context);
    return is_moved;
}

/* 1: a descriptor was given back since `oldest_before` was the oldest segment that was not closed. 0: none was. Then
 * *ret_may_be_later says whether one may be. To close a segment is to sync it: a call on terms that can end leaves that
 * to the log's thread. */
static int tend_on_terms(struct mapped *m, uint64_t oldest_before, const struct terms *terms,
                         bool *ret_may_be_later) NO_THREAD_SAFETY_ANALYSIS
{
    const uint64_t no_lsn = UINT64_MAX; /* the mutex is waited for, whatever becomes durable */
    const bool leaves_it_to_thread = !is_patient(terms) && has_threads(m);
    const int rc = lock_syncing(m, no_lsn, terms);
    if (rc < 0)
        return rc;

    const uint64_t first_here = m->oldest->number;
    const bool is_oldest_left = atomic_load(&m->oldest->next) != NULL;
    if (leaves_it_to_thread) {
        drop_closed(m);
        twl_event_notify_all(&m->wake);
    } else {
        (void)tend(m);
    }

    /* By this call; or by another thread, since the caller looked and found no descriptor. */
    const bool is_by_this = m->oldest->number != first_here;
    const bool is_by_another = atomic_load(&m->participants->common->oldest) > oldest_before;
    const bool is_closed = is_by_this || is_by_another;
    twl_mutex_unlock(&m->syncing);

    *ret_may_be_later = is_oldest_left && twl_mapped_check_poison(m) == 0;
    return is_closed;
}

/* Another participant may be closing the segment, or a thread copying a record into it: then it looks again. */
int twl_mapped_await_file(struct mapped *m, uint64_t oldest_before, const struct terms *terms)
{
    const uint64_t until_ns = twinlog_deadline(OTHERS_MS);

    for (;;) {
        bool may_be_later = false;
        int rc = tend_on_terms(m, oldest_before, terms, &may_be_later);
        if (rc > 0)
            break;
        if (rc == 0)
            rc = twl_terms_ended(terms);
        if (rc < 0)
            return rc;
        if (!may_be_later || twl_monotonic_ns() >= until_ns)
            return -EMFILE;
        m->io->ops->sleep_ms(m->io, FOLLOWER_NAP_MS);
    }

    m->retain(m->retain_context);
    return 0;
}

void twl_mapped_close_left(struct mapped *m)
{
    (void)twl_mapped_catch_up(m, &twl_mapped_patient);

    /* Only what is left by now: where writers go on, there may never be an end of what they leave. */
    const uint64_t number = atomic_load(&m->active)->number;
    while (atomic_load(&m->participants->common->oldest) < number && twl_mapped_tend(m))
        continue;
}

/* ---- removing ------------------------------------------------------------------------------------ */

static int by_sequence(const void *a, const void *b)
{
    const uint64_t x = ((const struct segment_entry *)a)->header.sequence,
                   y = ((const struct segment_entry *)b)->header.sequence;
    if (x < y)
        return -1;
    return x > y;
}

/* 1 = removed; 0 = another participant has done it. Else it stays: one has it open, as far as is known, or the file
 * system refuses. */
static int remove_segment(struct io *io, const char *name)
{
    struct io_file *file;

    int rc = io_open(io, name, 0, &file);
    if (rc == -ENOENT)
        return 0;
    if (rc < 0)
        return rc;

    rc = io_lock(file, IO_LOCK_WRITER, true);
    if (rc == 0)
        rc = io->ops->unlink(io, name);
    io_close(file);
    if (rc == 0)
        return 1;
    if (rc == -ENOENT)
        return 0;
    return rc;
}

/* Oldest first, and none that is in front of a participant: it has to find the next one under its number. */
struct keeper_freed twl_mapped_remove(struct mapped *m, struct segment_set *set, uint64_t first_sequence)
{
    struct keeper_freed freed = { 0 };
    int rc = 0;
    const size_t count = segment_set_files(set);

    qsort(set->entries, count, sizeof(*set->entries), by_sequence);
    for (size_t i = 0; rc >= 0 && i < count && set->entries[i].header.sequence < first_sequence; i++) {
        rc = remove_segment(m->io, set->entries[i].name);
        if (rc > 0) {
            freed.segments++;
            freed.bytes += segment_entry_bytes(&set->entries[i]);
        }
    }

    atomic_fetch_add(&m->statistics->counters.trimmed_segments, freed.segments);
    return freed;
}

/* ---- syncing ----------------------------------------------------------------------------------- */

/* For the thread that has LOCK_TO_SYNC: syncs for all participants. */
static int sync_as_leader(struct mapped *m, uint64_t lsn) REQUIRES(m->syncing)
{
    const struct terms brief = { .deadline_ns = twinlog_deadline(COPY_MS) };

    POINT("lead-begun");
    /* If a record is not complete by then, it takes one sync more. */
    (void)twl_mapped_wait_written(m, lsn, &brief);
    const int rc = twl_mapped_sync_up_to(m, NULL);
    close_some_of_many(m);
    POINT("lead-done");
    return rc;
}

/* What this participant can do now to make the record durable. 0 does not mean that it is: another one may be syncing.
 * -EAGAIN: a record in front of it is being copied. */
static int sync_once(struct mapped *m, uint64_t lsn) REQUIRES(m->syncing)
{
    if (atomic_load(m->durable) >= lsn)
        return 0;
    const int poison = twl_mapped_check_poison(m);
    if (poison < 0)
        return poison;

    if (try_to_lead(m)) {
        const int rc = sync_as_leader(m, lsn);
        twl_participants_release(m->participants, LOCK_TO_SYNC);
        return rc;
    }
    if (watch_leader(m))
        return twl_mapped_sync_up_to(m, NULL);
    return 0;
}

/* Should a sync that ended with the error `rc` be tried again? A record is being copied; or this process has no
 * descriptor to read back with, until one is given back, or another participant syncs. */
static bool should_try_again(struct mapped *m, int rc, uint64_t until_ns)
{
    const bool has_no_file = rc == -EMFILE || rc == -ENFILE;
    if (has_no_file)
        return twl_mapped_check_poison(m) == 0 && twl_monotonic_ns() < until_ns;
    return rc == -EAGAIN;
}

/* m->syncing is not held during the sleeps: a thread that needs only earlier records need not wait for a process that
 * is stopped. Nothing wakes a sleeper when its terms end, so the sleeps are short. */
int twl_mapped_sync(struct mapped *m, uint64_t lsn, const struct terms *terms) NO_THREAD_SAFETY_ANALYSIS
{
    const int caught_up = twl_mapped_catch_up_to(m, lsn, terms);
    if (caught_up < 0)
        return caught_up;

    lsn = min_u64(lsn, twl_mapped_last_lsn(m));
    const uint64_t until_ns = twinlog_deadline(OTHERS_MS);
    for (;;) {
        const uint32_t page_sequence = twl_page_sequence(m->shared);
        int rc = lock_syncing(m, lsn, terms);
        if (rc <= 0)
            return rc;
        rc = sync_once(m, lsn);
        drop_closed(m); /* there may be no thread to do it */
        twl_mutex_unlock(&m->syncing);

        if (atomic_load(m->durable) >= lsn)
            return 0;
        const bool is_incomplete = rc == -EAGAIN;
        if (rc < 0 && !should_try_again(m, rc, until_ns))
            return rc;
        rc = twl_terms_ended(terms);
        if (rc < 0)
            return rc;
        const bool is_announced = twl_page_announce_sleep(m->shared, page_sequence, true);
        twl_page_sleep(m->shared, page_sequence, is_incomplete ? COPY_MS : FOLLOWER_NAP_MS, is_announced);
    }
}

/* ---- dead participants ------------------------------------------------------------------------- */

/* Makes fillers of the claims in the segment that have this handle's number; it has made none yet, so they are those of
 * a dead participant that had the number. Passes what is complete, and skips the claims of other numbers. */
static void fill_abandoned_in(struct mapped *m, struct mapped_segment *seg)
{
    struct open_walk walk = OPEN_WALK_INIT;

    twl_open_group_help(&seg->group); /* the dead one may have claimed a place, and not moved the cursor on */
    const uint32_t count = twl_open_group_count(&seg->group);
    struct record_header record;
    while (walk.count < count) {
        uint32_t size;
        const unsigned owner = twl_open_group_owner(&seg->group, &walk, &size);
        const bool is_of_other = owner != 0 && owner != m->participants->number;
        const bool is_abandoned = owner == m->participants->number && size != CLAIM_END;

        if (is_of_other) {
            twl_open_group_skip(&walk, size);
            continue;
        }

        if (is_abandoned)
            (void)twl_open_group_fill(&seg->group, &walk, size, seg->start.time_ns);
        if (!twl_open_group_pass(&seg->group, &walk, &record))
            return; /* the record is gone; the next sync or wait finds that, too */
    }
}

static void fill_our_number(struct mapped *m)
{
    twl_mutex_lock(&m->syncing);
    for (struct mapped_segment *seg = m->oldest; seg; seg = atomic_load(&seg->next))
        fill_abandoned_in(m, seg);
    twl_mutex_unlock(&m->syncing);
}

/* In the shared mode it also looks whether another participant has poisoned the log, and completes what dead ones have
 * left, so that readers and syncs get on though this process may append nothing. */
uint64_t twl_mapped_look_after(struct mapped *m)
{
    uint64_t lsn, payload_bytes;

    const bool lets_others_in = participants_let_others_in(m->participants);
    if (lets_others_in) {
        (void)twl_mapped_check_poison(m);
        (void)twl_mapped_find_written(m, &lsn, &payload_bytes);
    }

    while (twl_mapped_tend(m) && !atomic_load(&m->must_stop))
        continue;
    const bool is_any_left = atomic_load(&m->active)->number != atomic_load(&m->participants->common->oldest);
    if (lets_others_in || (is_any_left && twl_mapped_check_poison(m) == 0))
        return twl_monotonic_ns() + SWEEP_MS * UINT64_C(1000000);
    return UINT64_MAX;
}

/* ---- joining and leaving ----------------------------------------------------------------------- */

/* Removes the segment with that number, which was not started, and temporary files of participants that died while
 * they made one. The next opening finds what can't be removed now. */
static void remove_spare(struct io *io, uint64_t number)
{
    char name[SEGMENT_NAME_BYTES];
    twl_segment_name(number, name);
    io->ops->unlink(io, name);
    twl_segment_remove_dead(io);
}

/* For the last participant. */
static int close_log(struct mapped *m)
{
    int rc = twl_mapped_catch_up_to(m, UINT64_MAX, &twl_mapped_patient);
    if (rc == 0) /* after catching up, which reads the page */
        rc = twl_mapped_check_poison(m);
    if (rc == 0) /* all that is left to be completed is of dead participants */
        rc = twl_mapped_wait_written(m, twl_mapped_last_lsn(m), &twl_mapped_patient);
    if (rc < 0)
        return rc;

    twl_mapped_close_left(m);
    rc = twl_mapped_close_all(m);
    if (rc == 0)
        rc = twl_page_check_log(m->shared);
    if (rc == 0) /* the spare would only take space */
        remove_spare(m->io, atomic_load(&m->active)->number + 1);
    return rc;
}

/* Makes the records of this handle durable; the last participant also closes the log. */
int twl_mapped_finish(struct mapped *m)
{
    int rc = twl_mapped_sync(m, atomic_load(&m->last_own), &twl_mapped_patient);
    if (rc == 0)
        rc = twl_mapped_check_poison(m);

    const bool is_last = twl_participants_become_last(m->participants);
    if (rc < 0 || !is_last)
        return rc;
    return close_log(m);
}

/* Begins the list of a handle that joins with that segment, as the active one; the caller catches up from there. */
static int enter_segment(struct mapped *m, uint64_t number) REQUIRES(m->rolling)
{
    struct segment segment = { 0 };
    struct mapped_segment *seg;

    int rc = open_segment(m->io, number, NULL, &segment);
    if (rc == 0)
        rc = twl_mapped_segment_map(m->io, &segment, LOCKED_MS, m->participants, &seg);
    if (rc < 0) {
        twl_segment_close(&segment);
        return rc;
    }

    m->oldest = seg;
    m->all = seg;
    m->seen_segment = seg;
    atomic_store(&m->active, seg);
    return twl_mapped_segment_enter(seg);
}

/* Enters the oldest segment that is not closed. Another participant may close it meanwhile, and remove it. Once it is
 * locked and still the oldest one, it and all behind it stay. */
static int enter_oldest(struct mapped *m) REQUIRES(m->rolling)
{
    for (;;) {
        const uint64_t number = atomic_load(&m->participants->common->oldest);
        const int rc = enter_segment(m, number);
        if (number == atomic_load(&m->participants->common->oldest))
            return rc;
        twl_mapped_free_segments(m);
    }
}

int twl_mapped_join(const struct mapped_config *config, struct mapped **ret_mapped)
{
    struct mapped *m = twl_mapped_new(config, config->participants->common->max_record_bytes);
    if (!m)
        return -ENOMEM;

    twl_mutex_lock(&m->rolling);
    int rc = enter_oldest(m);
    twl_mutex_unlock(&m->rolling);
    if (rc == 0)
        rc = twl_mapped_catch_up(m, &twl_mapped_patient);
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
