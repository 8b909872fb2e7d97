/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a writer gets a place in the filling buffer (twin): twl_take_at_once(), or twl_admit() again and again, at the
 * end of the file.
 *
 * Records are accepted only when their place on disk is certain. When the buffers are swapped, it is known where the
 * group of the filling buffer will go, and how much room the segment has left: this is the limit of the buffer, and
 * a writer compares with nothing else. If the active segment has no room even for the first record of a buffer, the
 * whole group goes to the next one. So only a writer that has changed nothing yet meets a full disk, and the leader
 * never waits for a segment.
 *
 * A writer that finds the buffer full becomes a waiter in a queue. Smaller records may still overtake it, into the
 * filling buffer, but not into the next one. So a waiter waits only for the commits that are before it.
 */
#define _GNU_SOURCE
#include "commit/inside.h"

#include <errno.h>

/* Room at the end of a segment that is kept free for marker groups: a sixteenth, within these bounds. Four blocks are
 * enough for two closes and for well over a hundred opens; in a padded log, for three opens. */
#define MOST_FOR_MARKERS (64u * BLOCK_BYTES)

/* ---- what fits where --------------------------------------------------------------------------- */

uint64_t twl_room_for_markers(const struct segment *segment)
{
    const bool was_disk_full = segment->write_end < segment->data_end;
    if (was_disk_full)
        return min_u64(SEGMENT_MARKER_BYTES, segment->write_end);

    const uint64_t part = align_down((segment->data_end - SEGMENT_DATA_OFFSET) / 16, BLOCK_BYTES);
    return min_u64(max_u64(part, SEGMENT_MARKER_BYTES), MOST_FOR_MARKERS);
}

/* The room for a group with `record_bytes` of records, wherever in a block it begins. */
uint64_t twl_group_room(uint64_t record_bytes)
{
    return align_up(BLOCK_BYTES - 8 + GROUP_HEADER_BYTES + record_bytes, BLOCK_BYTES);
}

/* The room that a segment must have for a group. It includes room for marker groups, unless even the largest segments
 * have less beside a group of that size. */
static uint64_t room_to_ask_for(const struct commit *c, uint64_t group_bytes)
{
    const uint64_t most = c->options.segment_bytes - SEGMENT_HEADER_BYTES - SEGMENT_FOOTER_BYTES;
    return max_u64(group_bytes, min_u64(group_bytes + SEGMENT_MARKER_BYTES, most));
}

/* Up to where the buffer may be used: all of that is certain to find a place on disk. */
static uint32_t limit_of(const struct commit *c, const struct twin *twin) REQUIRES(c->lock)
{
    const uint64_t records_end = c->segment.write_end - twl_room_for_markers(&c->segment);
    uint64_t room = records_end - min_u64(twin->offset, records_end);

    if (c->next_room > 0)
        room = c->next_room;
    return (uint32_t)max_u64(twin->used, min_u64(room, c->options.buffer_bytes));
}

bool twl_take_next(struct commit *c, uint64_t group_bytes)
{
    if (!twl_keeper_take(c->keeper, room_to_ask_for(c, group_bytes), &c->next))
        return false;

    const uint64_t records_end = c->next.data_end - twl_room_for_markers(&c->next);
    c->next_room = max_u64(records_end - SEGMENT_DATA_OFFSET, group_bytes);
    return true;
}

int twl_wait_for_next(struct commit *c, uint64_t group_bytes)
{
    return twl_keeper_wait(c->keeper, room_to_ask_for(c, group_bytes), watermark_load(&c->durable),
                           c->epoch.number);
}

/* Asks the keeper for the next segment: 0, or why it cannot be made. A try does not wait for the attempt. */
static int ask_for_next(struct commit *c, struct waiter *waiter, bool is_try) REQUIRES(c->lock)
{
    const uint64_t room = room_to_ask_for(c, twl_group_room(waiter->need->bytes));
    uint64_t *since = is_try ? NULL : &waiter->since;
    const int wanted =
        twl_keeper_want(c->keeper, room, watermark_load(&c->durable), c->epoch.number, &c->when_made, since);

    waiter->has_asked = wanted == 0;
    return wanted < 0 ? wanted : 0;
}

void twl_fill_twin(struct commit *c, uint32_t index, uint64_t offset, uint64_t first_lsn)
{
    struct twin *twin = &c->twins[index];

    c->filling = index;
    twin->first_lsn = first_lsn;
    twin->start = (uint32_t)(offset % BLOCK_BYTES);
    twin->offset = offset - twin->start;
    twin->min_ns = INT64_MAX;
    twin->max_ns = INT64_MIN;
    twin->used = twin->start + GROUP_HEADER_BYTES;
    twin->count = 0;
    twin->waiters = 0;
    twin->wants_sync = false;
    twin->needs_committer = false;
    atomic_store_explicit(&twin->places, 0, memory_order_relaxed);
    atomic_store_explicit(&twin->filled, 0, memory_order_relaxed);
    twin->limit = limit_of(c, twin);
}

/* The buffer has room, but its segment has none. */
static bool needs_segment(const struct commit *c, uint32_t bytes) REQUIRES(c->lock)
{
    const struct twin *twin = &c->twins[c->filling];

    return bytes > twin->limit - twin->used && bytes <= c->options.buffer_bytes - twin->used;
}

/* Makes room in the filling buffer, if need be by taking a next segment that is ready. A group with records goes there
 * too only if `may_move`: what it leaves of the old segment is lost. */
static bool make_room(struct commit *c, uint32_t bytes, bool may_move) REQUIRES(c->lock)
{
    struct twin *twin = &c->twins[c->filling];

    if (bytes <= twin->limit - twin->used)
        return true;
    if (twin->count > 0 && !may_move)
        return false;
    const bool has_next = c->next_room > 0; /* its limit is that of the next segment already */
    if (has_next || !needs_segment(c, bytes))
        return false;

    if (!twl_take_next(c, align_up(twin->used + bytes, BLOCK_BYTES)))
        return false;
    twin->limit = limit_of(c, twin);
    return true;
}

/* ---- places ------------------------------------------------------------------------------------ */

/* Takes a place in the filling buffer, which has room for it. */
static void take_place(struct commit *c, const struct need *need, struct place *ret_place) REQUIRES(c->lock)
{
    struct twin *twin = &c->twins[c->filling];
    const uint64_t lsn = twin->first_lsn + twin->count;

    ret_place->twin = twin;
    ret_place->at = twin->bytes + twin->used;
    ret_place->lsn = lsn;

    twin->used += need->bytes;
    twin->count += need->count;
    if (need->min_ns < twin->min_ns)
        twin->min_ns = need->min_ns;
    if (need->max_ns > twin->max_ns)
        twin->max_ns = need->max_ns;

    /* What the group will owe to its writers. */
    if (need->will_wait)
        twin->waiters++;
    twin->wants_sync |= need->wants_sync;
    twin->needs_committer |= need->needs_committer;
    if (need->request)
        twl_attach_request(c, twin, need, lsn);

    c->append_bytes += need->payload_bytes;

    /* From here on the leader waits for the copy of the records. */
    atomic_store_explicit(&twin->places, atomic_load_explicit(&twin->places, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&c->last_lsn, lsn + need->count - 1, memory_order_release);
}

/* ---- the queue --------------------------------------------------------------------------------- */

static void place_in_line(struct commit *c, struct waiter *waiter) REQUIRES(c->lock)
{
    waiter->is_queued = true;
    *c->waiters_end = waiter;
    c->waiters_end = &waiter->next;
}

static void leave_line(struct commit *c, struct waiter *waiter) REQUIRES(c->lock)
{
    if (!waiter->is_queued)
        return;

    struct waiter **link = &c->first_waiter;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (!*link)
        c->waiters_end = link;
    waiter->is_queued = false;
}

/* A waiter with more than an empty buffer has room for needs the next segment, and has asked for it. It keeps its place
 * in the queue; the others need not wait for it. */
void twl_grant_places(struct commit *c)
{
    struct waiter *waiter = c->first_waiter;

    while (waiter) {
        struct waiter *next = waiter->next;
        if (make_room(c, waiter->need->bytes, false)) {
            leave_line(c, waiter);
            take_place(c, waiter->need, &waiter->place);
        } else if (c->twins[c->filling].count > 0) { /* the group of those in front of it goes first */
            return;
        }
        waiter = next;
    }
}

/* ---- admission ----------------------------------------------------------------------------------- */

/* There is no room now, and the call waits. If the buffer has records, it waits in line until they are committed; a
 * call that finds an empty one waits for its segment alone. */
static void begin_to_wait(struct commit *c, struct twin *twin, bool is_empty, struct waiter *waiter,
                          const struct terms *terms) REQUIRES(c->lock)
{
    waiter->awaits_segment = is_empty;
    if (is_empty) {
        waiter->has_awaited_segment = true;
        return;
    }

    twin->needs_committer |= waiter->need->needs_committer || !may_lead(c, terms);
    if (!waiter->is_queued)
        place_in_line(c, waiter);
}

/* Takes the next segment if the records do not fit in this one; a try takes the group along into one that is ready.
 * Where there is none it is ordered: 0, or why it cannot be made. */
static int order_room(struct commit *c, struct waiter *waiter, bool is_try) REQUIRES(c->lock)
{
    const uint32_t bytes = waiter->need->bytes;
    int rc = 0;

    const bool has_room = make_room(c, bytes, is_try);
    if (has_room)
        return 0;

    /* A segment that a try has ordered may be full before it comes again; it orders one more. */
    if (needs_segment(c, bytes))
        rc = ask_for_next(c, waiter, is_try);
    return rc;
}

/* Gives the waiter a place, if it is its turn and there is room. The keeper may have made it meanwhile. */
static bool give_place(struct commit *c, struct waiter *waiter, bool is_try) REQUIRES(c->lock)
{
    const bool is_empty = c->twins[c->filling].count == 0;
    const bool has_turn = !waiter->is_queued || is_empty;

    if (!has_turn || !make_room(c, waiter->need->bytes, is_try))
        return false;

    leave_line(c, waiter);
    take_place(c, waiter->need, &waiter->place);
    return true;
}

/* An error, or 0: the waiter has its place, or it has to wait. */
static int admit(struct commit *c, struct waiter *waiter, const struct terms *terms) REQUIRES(c->lock)
{
    struct twin *twin = &c->twins[c->filling];
    const bool is_empty = twin->count == 0;

    /* A leader may have given it a place meanwhile, also if the log was poisoned since. */
    if (waiter->place.twin)
        return 0;
    if (atomic_load_explicit(&c->poison, memory_order_relaxed) != 0)
        return TWINLOG_EPOISONED;

    /* Room comes before the errors, so a try is told to come again only while room is on its way: a commit, or the next
     * segment. The keeper may even have made that while it was ordered. */
    int rc = order_room(c, waiter, terms->is_try);
    if (give_place(c, waiter, terms->is_try))
        return 0;

    /* The error of the keeper, then that of the terms. */
    if (rc == 0)
        rc = twl_terms_ended(terms);
    if (rc == 0 && terms->is_try)
        rc = -EAGAIN;
    if (rc < 0) {
        if (terms->is_try && !is_empty) /* the group is committed, so that a later try finds room */
            twin->needs_committer = true;
        return rc;
    }

    begin_to_wait(c, twin, is_empty, waiter, terms);
    return 0;
}

/* 1: the waiter has its place; 0: it waits; or an error. */
static int admit_once(struct commit *c, struct waiter *waiter, const struct terms *terms)
{
    twl_mutex_lock(&c->lock);
    const bool was_called = c->twins[c->filling].needs_committer;
    waiter->has_asked = false;
    const int rc = admit(c, waiter, terms);
    const bool has_place = rc == 0 && waiter->place.twin;

    if (rc < 0)
        leave_line(c, waiter);
    if (has_place && waiter->has_awaited_segment) /* waits that end with an error are counted as that */
        add_alone(&c->counters->roll_waits, 1);
    if (!was_called && c->twins[c->filling].needs_committer)
        waiter->place.must_call = true;
    twl_mutex_unlock(&c->lock);

    if (has_place)
        return 1;
    return rc;
}

/* As twl_keeper_help(). Not under the lock: others look at the log meanwhile, or have a deadline. */
static int help_keeper(struct commit *c, const struct waiter *waiter, bool is_try)
{
    if (!waiter->has_asked)
        return 0;

    /* A call that stands in line waits for a commit first. */
    const bool is_in_line = !is_try && !waiter->awaits_segment;
    if (is_in_line)
        return 0;
    return twl_keeper_help(c->keeper);
}

/* Tries once more, if there was a segment to make. A try does not wait for what others need. */
static int try_again(struct commit *c, struct waiter *waiter, const struct terms *terms)
{
    const int made = help_keeper(c, waiter, true);
    if (made == 0)
        return -EAGAIN;

    const int rc = admit_once(c, waiter, terms);
    if (rc == -EAGAIN && made < 0) /* why there is no segment says more */
        return made;
    return rc;
}

int twl_admit(struct commit *c, struct waiter *waiter, const struct terms *terms, bool *ret_has_place)
{
    waiter->place.must_call = false;
    int rc = admit_once(c, waiter, terms);
    if (rc == -EAGAIN)
        rc = try_again(c, waiter, terms);
    while (rc == 0 && help_keeper(c, waiter, false) != 0)
        rc = admit_once(c, waiter, terms);

    *ret_has_place = rc > 0;
    if (is_no_space(rc))
        twl_keeper_tell(c->keeper);
    return rc < 0 ? rc : 0;
}

bool twl_take_at_once(struct commit *c, const struct need *need, struct place *ret_place)
{
    twl_mutex_lock(&c->lock);
    const bool is_poisoned = atomic_load_explicit(&c->poison, memory_order_relaxed) != 0;
    const bool has_room = !is_poisoned && make_room(c, need->bytes, false);
    if (has_room) {
        ret_place->must_call = need->needs_committer && !c->twins[c->filling].needs_committer;
        take_place(c, need, ret_place);
    }
    twl_mutex_unlock(&c->lock);
    return has_room;
}
