/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that commits for many logs.
 *
 * It leads a log when that was called: begins a round, hands its write to the ring, and goes on to the next log. When
 * the write comes back the round is ended, and leadership given back. So a log has one group in flight as ever, and
 * the logs have as many as there is room for.
 *
 *     called ---> queued ---> [filling --->] writing ---> idle
 *                   '---------- its turn -------'
 *
 * It never waits for one log. A round whose twin is still being copied to is put aside, until the last copier
 * calls, or a reservation expires. Syncs go to the ring, too. What it does wait for is short: the locks, a write that
 * was cut short and is continued, and the callbacks that it calls.
 *
 * A callback may append to any log and wait for it, to one of this committer as well. Then the loop turns inside of
 * it. Whatever a turn has in hand is settled before it calls anything, so that another turn may begin there.
 *
 * A seat is called at most once until it is looked at, so calling costs a look if it was called already, and the
 * committer never goes through all of them; only for the flush intervals, and then it takes along what is due
 * soon, so that the times of the logs draw together.
 */
#define _GNU_SOURCE
#include "commit/shared.h"

#define CALLBACK_WAIT_NS 1000000u /* a turn inside a callback: others may end its wait, and call nobody */
#define FLUSH_AHEAD 4u            /* what is due within that part of its interval is done now */

/* The committer whose thread this is. */
static _Thread_local struct twinlog_committer *mine;

/* Of two times; 0 = never. */
static uint64_t sooner(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns == 0 ? b_ns : b_ns == 0 ? a_ns : min_u64(a_ns, b_ns);
}

/* ---- calling ------------------------------------------------------------------------------------- */

void twl_shared_wake(struct twinlog_committer *committer)
{
    if (!atomic_exchange(&committer->is_asleep, false))
        return;
    if (committer->ring)
        twl_io_ring_wake(committer->ring);
    else
        twl_event_notify_all(&committer->wake);
}

void twl_shared_call(struct committer_seat *seat)
{
    struct twinlog_committer *committer = atomic_load_explicit(&seat->committer, memory_order_relaxed);
    if (atomic_exchange(&seat->is_called, true))
        return;
    seat->next_called = atomic_load(&committer->called);
    while (!atomic_compare_exchange_weak(&committer->called, &seat->next_called, seat))
        continue;
    /* it says that it sleeps, then looks once more whether anybody was called */
    if (atomic_load(&committer->is_asleep))
        twl_shared_wake(committer);
}

/* ---- rounds -------------------------------------------------------------------------------------- */

static void enqueue(struct twinlog_committer *committer, struct committer_seat *seat)
{
    seat->state = SEAT_QUEUED;
    seat->next = NULL;
    if (committer->first)
        committer->last->next = seat;
    else
        committer->first = seat;
    committer->last = seat;
}

/* There is nothing to do for it any more; unless it was called to leave meanwhile. */
static void rest(struct committer_seat *seat)
{
    if (atomic_load(&seat->is_leaving))
        twl_shared_call(seat);
}

/* The last thing that is done with a seat's round. Callbacks are called. */
static void finish_round(struct committer_seat *seat, int rc) NO_THREAD_SAFETY_ANALYSIS
{
    struct commit *c = seat->commit;
    twl_round_end(c, &c->round, rc);
    const struct round done = c->round; /* the next one may begin in a callback */
    seat->state = SEAT_IDLE;
    seat->has_round = false;
    twl_stop_leading(c);
    seat->users++;
    twl_round_wake(c, &done);
    seat->users--;
    rest(seat);
}

/* The next step of its round, or its end. */
static void advance(struct twinlog_committer *committer, struct committer_seat *seat,
                    int rc) NO_THREAD_SAFETY_ANALYSIS
{
    struct commit *c = seat->commit;
    while (rc == 0 && twl_round_next(c, &c->round)) {
        if (seat->has_ring) {
            struct io_write *write = &c->round.write;
            if (c->options.io == TWINLOG_IO_URING_LINKED && write->barrier == IO_BARRIER_WRITE)
                write->barrier = IO_BARRIER_FILE;
            seat->state = SEAT_WRITING;
            committer->room--;
            twl_io_ring_submit(committer->ring, write);
            return;
        }
        rc = twl_round_write(c, &c->round);
    }
    finish_round(seat, rc);
}

/* True if its round can go on. */
static bool is_filled(struct twinlog_committer *committer,
                      struct committer_seat *seat) NO_THREAD_SAFETY_ANALYSIS
{
    unsigned look_ms;
    if (twl_round_is_filled(seat->commit, &seat->commit->round, &look_ms))
        return true;
    if (look_ms > 0)
        committer->look_ns = sooner(committer->look_ns, twl_monotonic_ns() + (uint64_t)look_ms * 1000000);
    return false;
}

/* A mark may be written at this moment; who does that calls afterwards. */
static bool begin_round(struct committer_seat *seat) NO_THREAD_SAFETY_ANALYSIS
{
    struct commit *c = seat->commit;
    if (!twl_try_lead(c))
        return false;
    seat->has_round = twl_round_begin(c, GROUP_RECORDS, &c->round);
    if (!seat->has_round)
        twl_stop_leading(c);
    return seat->has_round;
}

static void start(struct twinlog_committer *committer, struct committer_seat *seat)
{
    seat->state = SEAT_IDLE;
    if (!seat->has_round && !begin_round(seat)) {
        rest(seat);
        return;
    }
    if (is_filled(committer, seat)) {
        advance(committer, seat, 0);
        return;
    }
    seat->state = SEAT_FILLING;
    seat->next = committer->filling;
    committer->filling = seat;
}

static void start_queued(struct twinlog_committer *committer)
{
    while (committer->first && committer->room > 0) {
        struct committer_seat *seat = committer->first;
        committer->first = seat->next;
        start(committer, seat);
    }
}

/* ---- what there is to do ------------------------------------------------------------------------- */

/* The seat's memory is its log's again. */
static void let_go(struct twinlog_committer *committer, struct committer_seat *seat)
{
    atomic_store(&seat->has_left, true);
    twl_event_notify_all(&committer->left);
}

/* One that is let go stays called, so that nobody puts it in the list again. One that has a round is looked at again
 * when that is over, and if it is being filled, in every turn. */
static void answer(struct twinlog_committer *committer, struct committer_seat *seat)
{
    const bool is_in_use = seat->state != SEAT_IDLE || seat->users > 0;
    if (!is_in_use && atomic_load(&seat->is_leaving)) {
        let_go(committer, seat);
        return;
    }
    atomic_store(&seat->is_called, false); /* before we look, so that who comes later calls again */
    if (!is_in_use && atomic_load(&seat->is_leaving))
        rest(seat); /* since a moment ago */
    else if (seat->state == SEAT_IDLE && twl_needs_committer(seat->commit))
        enqueue(committer, seat);
}

static struct committer_seat *oldest_first(struct committer_seat *newest)
{
    struct committer_seat *oldest = NULL;
    while (newest) {
        struct committer_seat *seat = newest;
        newest = seat->next_called;
        seat->next_called = oldest;
        oldest = seat;
    }
    return oldest;
}

static void take_calls(struct twinlog_committer *committer)
{
    if (!atomic_load_explicit(&committer->called, memory_order_relaxed))
        return;
    struct committer_seat *seat = oldest_first(atomic_exchange(&committer->called, NULL));
    while (seat) {
        struct committer_seat *next = seat->next_called;
        answer(committer, seat);
        seat = next;
    }
}

static void look_at_filling(struct twinlog_committer *committer)
{
    struct committer_seat **link = &committer->filling;
    committer->look_ns = 0;
    while (*link) {
        struct committer_seat *seat = *link;
        if (is_filled(committer, seat)) {
            *link = seat->next;
            enqueue(committer, seat);
        } else {
            link = &seat->next;
        }
    }
}

static void flush_due(struct twinlog_committer *committer)
{
    const uint64_t due_ns = atomic_load(&committer->flush_ns);
    if (due_ns == 0 || twl_monotonic_ns() < due_ns)
        return;
    uint64_t next_ns = 0;
    twl_mutex_lock(&committer->lock);
    for (struct committer_seat *seat = committer->flush; seat; seat = seat->next_flush) {
        if (twl_seat_flush(seat, flush_interval_ns(seat) / FLUSH_AHEAD))
            twl_shared_call(seat);
        next_ns = sooner(next_ns, seat->flush_ns);
    }
    atomic_store(&committer->flush_ns, next_ns);
    twl_mutex_unlock(&committer->lock);
}

/* ---- seats --------------------------------------------------------------------------------------- */

void twl_shared_join_flush(struct committer_seat *seat)
{
    struct twinlog_committer *committer = atomic_load(&seat->committer);
    twl_mutex_lock(&committer->lock);
    seat->flush_ns = twl_monotonic_ns() + flush_interval_ns(seat);
    seat->next_flush = committer->flush;
    committer->flush = seat;
    atomic_store(&committer->flush_ns, sooner(atomic_load(&committer->flush_ns), seat->flush_ns));
    twl_mutex_unlock(&committer->lock);
    twl_shared_wake(committer);
}

static void leave_flush(struct twinlog_committer *committer, struct committer_seat *seat)
{
    twl_mutex_lock(&committer->lock);
    struct committer_seat **link = &committer->flush;
    while (*link && *link != seat)
        link = &(*link)->next_flush;
    if (*link)
        *link = seat->next_flush;
    twl_mutex_unlock(&committer->lock);
}

void twl_shared_leave(struct committer_seat *seat)
{
    struct twinlog_committer *committer = atomic_load(&seat->committer);
    leave_flush(committer, seat);
    atomic_store(&seat->is_leaving, true);
    twl_shared_call(seat);
    for (;;) {
        uint32_t seen = twl_event_value(&committer->left);
        if (atomic_load(&seat->has_left))
            break;
        twl_event_sleep(&committer->left, seen);
    }
    atomic_fetch_sub(&committer->seats, 1);
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static struct committer_seat *seat_of(struct io_write *write)
{
    struct round *round = (struct round *)((char *)write - offsetof(struct round, write));
    struct commit *c = (struct commit *)((char *)round - offsetof(struct commit, round));
    return &c->seat;
}

/* False if nothing has come back. */
static bool reap(struct twinlog_committer *committer) NO_THREAD_SAFETY_ANALYSIS
{
    struct io_write *write = committer->ring ? twl_io_ring_reap(committer->ring) : NULL;
    if (!write)
        return false;
    struct committer_seat *seat = seat_of(write);
    committer->room++;
    advance(committer, seat, twl_round_continue(seat->commit, &seat->commit->round));
    return true;
}

static void wait_for_work(struct twinlog_committer *committer, uint64_t until_ns)
{
    uint32_t seen = twl_event_value(&committer->wake);
    atomic_store(&committer->is_asleep, true);
    until_ns = sooner(until_ns, sooner(committer->look_ns, atomic_load(&committer->flush_ns)));
    if (!atomic_load(&committer->called) && !atomic_load(&committer->must_stop)) {
        if (committer->ring)
            twl_io_ring_wait(committer->ring, until_ns);
        else
            twl_event_sleep_until(&committer->wake, seen, until_ns);
    }
    atomic_store(&committer->is_asleep, false);
}

/* Returns soon if there was anything to do, else when something comes, or at that time; 0 = no limit. */
static void turn(struct twinlog_committer *committer, uint64_t until_ns)
{
    flush_due(committer);
    take_calls(committer);
    look_at_filling(committer);
    start_queued(committer);
    bool has_reaped = false;
    while (reap(committer))
        has_reaped = true;
    if (!has_reaped && (!committer->first || committer->room == 0))
        wait_for_work(committer, until_ns);
}

void *twl_shared_run(void *context)
{
    struct twinlog_committer *committer = context;
    mine = committer;
    while (!atomic_load(&committer->must_stop))
        turn(committer, 0);
    return NULL;
}

bool twl_shared_is_ours(const struct committer_seat *seat)
{
    return mine == atomic_load(&seat->committer);
}

bool twl_commit_turn(void)
{
    if (!mine)
        return false;
    turn(mine, twl_monotonic_ns() + CALLBACK_WAIT_NS);
    return true;
}
