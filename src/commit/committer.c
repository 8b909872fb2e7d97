/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The committer leads for callers that do not: for requests, for calls with a deadline, for the flush interval. It is a
 * thread of a log, started when it is first needed; or it is shared by several logs, its clients: "Many logs" in
 * docs/design.md. A shared one never waits for one log, but for locks, and for a write that was short and is continued.
 *
 * A client is in the list of calls at most once until the committer looks at it. So a repeated call is cheap, and the
 * committer never walks all clients, except for the flush intervals, and to wake threads that may drive it.
 *
 * What a shared one does is cut into turns. A thread of its own takes them, or, of a driven one, which has none, the
 * threads of the program do: those that poll its queue, as the loop of a program does, and those that wait for one of
 * the logs. One thread at a time has the turn. A loop takes it and gives it back at once; a thread that waits keeps it
 * while it sleeps in the ring. The others that wait are woken to try for the turn when it is free.
 */
#define _GNU_SOURCE
#include "base/fork.h"
#include "base/versioned.h"
#include "commit/inside.h"
#include "commit/queue.h"
#include "io/ring.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_IN_FLIGHT 256u
#define FLUSH_AHEAD 4u /* a flush due within this fraction of its interval is done now */

/* The right to do a committer's work. Nobody sleeps until it is free: a thread that does not get it has something else
 * to do. */
struct CAPABILITY("turn") turn {
    twl_flag is_taken;
};

struct twinlog_committer {
    struct fork_guard guard; /* [const] */
    struct commit *alone;    /* [const] its only log; NULL = shared */
    bool is_driven;          /* [const] it has no thread */
    pthread_t thread;        /* [const] */
    _Atomic bool must_stop;

    /* of a shared committer: */
    uint32_t most_writes;          /* [const] at a time */
    struct io_ring *ring;          /* [const] NULL = the kernel refused one, */
    int ring_error;                /* [const] for this reason */
    struct commit *_Atomic called; /* clients that were called, the newest first */
    twl_flag is_asleep;            /* a caller must wake it */
    struct twl_event wake;         /* its thread sleeps on it without a ring; see twl_committer_seen() */
    struct twl_event left;         /* notified when a client is released, and when the turn is free */
    struct twl_mutex lock;
    struct commit *clients;    /* [lock] */
    _Atomic uint64_t flush_ns; /* [lock to store] when the next flush is due; 0 = never */
    /* [turn; or the thread] */
    struct commit *first, *last; /* queued */
    struct commit *filling;
    uint32_t room; /* number of writes that may still be submitted */

    /* of a driven one: */
    struct turn turn;
    const void *_Atomic driver;  /* the mark of a thread that waits, and has the turn; NULL = none */
    _Atomic uint32_t waiting;    /* threads that wait for a log, or for requests */
    struct twinlog_queue *queue; /* [const] a thread that polls it drives the committer */
};

/* The earlier of two times; 0 = never. */
static uint64_t sooner(uint64_t a_ns, uint64_t b_ns)
{
    if (a_ns == 0)
        return b_ns;
    if (b_ns == 0)
        return a_ns;
    return min_u64(a_ns, b_ns);
}

/* Its committer, if that is a driven one; else NULL. */
static struct twinlog_committer *driven(struct commit *c)
{
    if (!c->client.is_driven)
        return NULL;
    return atomic_load_explicit(&c->client.committer, memory_order_relaxed);
}

/* ---- calling ------------------------------------------------------------------------------------- */

/* Wakes the thread of the committer, or the one that sleeps with its turn; one that is about to sleep does not. */
static void wake_sleeper(struct twinlog_committer *committer)
{
    if (committer->is_driven)
        twl_event_notify_all(&committer->wake);

    /* One caller alone finds it asleep. */
    if (!atomic_load(&committer->is_asleep) || !atomic_exchange(&committer->is_asleep, false))
        return;
    if (committer->ring)
        twl_io_ring_wake(committer->ring);
    else
        twl_event_notify_all(&committer->wake);
}

/* There is work. The thread that has the turn looks for more before it gives it back. */
static void wake(struct twinlog_committer *committer)
{
    wake_sleeper(committer);
    if (committer->is_driven && atomic_load(&committer->driver) != twl_own_mark())
        twl_queue_call(committer->queue);
}

/* False: the log is in the list of calls already. */
static bool add_to_called(struct twinlog_committer *committer, struct commit *c)
{
    if (atomic_exchange(&c->client.is_called, true))
        return false;
    c->client.next_called = atomic_load(&committer->called);
    while (!atomic_compare_exchange_weak(&committer->called, &c->client.next_called, c))
        continue;
    return true;
}

/* No call is lost: the committer sets is_asleep, then checks `called` once more. */
static void call_shared(struct commit *c)
{
    struct twinlog_committer *committer = atomic_load_explicit(&c->client.committer, memory_order_relaxed);

    if (add_to_called(committer, c))
        wake(committer);
}

void twl_client_call(struct commit *c)
{
    twl_event_notify_all(&c->client.called);
    if (c->client.is_shared)
        call_shared(c);
}

void twl_client_call_before_wait(struct commit *c)
{
    struct twinlog_committer *committer = driven(c);

    if (!committer)
        twl_client_call(c);
    else if (add_to_called(committer, c))
        wake_sleeper(committer);
}

/* ---- the flush interval -------------------------------------------------------------------------- */

static uint64_t flush_interval_ns(const struct commit *c)
{
    return (uint64_t)atomic_load(&c->client.flush_interval_ms) * 1000000;
}

/* Demands a sync of all accepted records. False if all are durable, or the log has failed. */
static bool demand_flush(struct commit *c)
{
    twl_mutex_lock(&c->lock);
    const uint64_t last_lsn = atomic_load_explicit(&c->last_lsn, memory_order_relaxed);
    const bool is_due = last_lsn > watermark_load(&c->durable) && atomic_load(&c->poison) == 0;
    if (is_due) {
        c->needs_sync = true;
        c->twins[c->filling].needs_committer = true;
        c->flushed_lsn = last_lsn;
        if (c->news_lsn == 0)
            c->news_lsn = last_lsn;
    }
    twl_mutex_unlock(&c->lock);
    return is_due;
}

/* A flush is due an interval behind `now_ns`, or earlier, if one was planned earlier. The interval may change
 * meanwhile: a call that changes it stores it, and then plans a flush. This stores the time, and then looks at the
 * interval again. So one of the two threads sees what the other one has stored. */
static void plan_flush(struct commit *c, uint64_t now_ns)
{
    uint64_t interval_ns;
    do {
        interval_ns = flush_interval_ns(c);
        atomic_store(&c->client.flush_ns, sooner(atomic_load(&c->client.flush_ns), now_ns + interval_ns));
    } while (flush_interval_ns(c) != interval_ns);
}

/* Demands a flush if one is due within `ahead_ns`. True if there is something to flush; then the next one is due after
 * the interval. Else none is due until a record is accepted that nobody syncs: flush_ns is set to 0 before the look
 * under the lock, so a record that is accepted after the look finds 0, and plans a flush. */
static bool flush(struct commit *c, uint64_t ahead_ns)
{
    const uint64_t due_ns = atomic_load(&c->client.flush_ns);
    if (due_ns == 0)
        return false;

    const uint64_t now_ns = twl_monotonic_ns();
    const bool is_later = due_ns > now_ns + ahead_ns;
    if (is_later && flush_interval_ns(c) > 0)
        return false;

    /* It is due now; or there is no interval any more, and nothing is due. */
    atomic_store(&c->client.flush_ns, 0);
    if (flush_interval_ns(c) == 0)
        return false;
    if (!demand_flush(c)) {
        twl_tell_queues(c); /* others have synced what the flush was for */
        return false;
    }
    plan_flush(c, now_ns);
    return true;
}

/* Demands the flushes of all clients that are due now or soon. */
static void flush_due(struct twinlog_committer *committer)
{
    const uint64_t due_ns = atomic_load(&committer->flush_ns);
    if (due_ns == 0 || twl_monotonic_ns() < due_ns)
        return;

    uint64_t next_ns = 0;
    twl_mutex_lock(&committer->lock);
    for (struct commit *c = committer->clients; c; c = c->client.next_client) {
        if (flush(c, flush_interval_ns(c) / FLUSH_AHEAD))
            call_shared(c);
        next_ns = sooner(next_ns, c->client.flush_ns);
    }
    atomic_store(&committer->flush_ns, next_ns);
    twl_mutex_unlock(&committer->lock);
}

static void begin_shared_flushes(struct commit *c)
{
    struct twinlog_committer *committer = atomic_load(&c->client.committer);

    twl_mutex_lock(&committer->lock);
    plan_flush(c, twl_monotonic_ns());
    atomic_store(&committer->flush_ns, sooner(atomic_load(&committer->flush_ns), c->client.flush_ns));
    twl_mutex_unlock(&committer->lock);

    /* A thread that gives the turn of a driven one back may have read the old time: it looks again. */
    if (committer->is_driven)
        add_to_called(committer, c);
    wake_sleeper(committer);

    /* Also for a loop that did this itself: its timer has to be set. */
    if (committer->is_driven)
        twl_queue_signal(committer->queue);
}

/* From now on there is an interval. With one of 0 the next flush() ends the flushes. */
static void begin_flushes(struct commit *c)
{
    if (c->client.is_shared) {
        begin_shared_flushes(c);
        return;
    }
    plan_flush(c, twl_monotonic_ns());
    twl_event_notify_all(&c->client.called); /* the log's own committer may sleep until a later one */
}

void twl_client_note_unsynced(struct commit *c)
{
    const bool has_interval = atomic_load_explicit(&c->client.flush_interval_ms, memory_order_relaxed) > 0;
    if (!has_interval)
        return;
    const bool is_planned = atomic_load(&c->client.flush_ns) > 0;
    if (is_planned)
        return;

    /* The system may have refused a thread when the log was opened. If it does so again, the next record asks again. */
    if (twl_commit_need_committer(c) == 0)
        begin_flushes(c);
}

void twl_commit_look_for_flush(struct commit *c)
{
    const bool is_flushed = atomic_load(&c->client.flush_interval_ms) > 0;
    const bool has_unsynced = twl_commit_last_lsn(c) > watermark_load(&c->durable);
    const bool is_needed = is_flushed && has_unsynced && atomic_load(&c->poison) == 0;

    if (!is_needed || has_committer(c))
        return;
    if (twl_commit_need_committer(c) == 0)
        begin_flushes(c);
}

/* ---- for one log --------------------------------------------------------------------------------- */

/* True if a committer has something to do. */
static bool has_work(struct commit *c)
{
    twl_mutex_lock(&c->lock);
    const bool needs = c->twins[c->filling].needs_committer || c->needs_sync;
    twl_mutex_unlock(&c->lock);
    return needs && atomic_load(&c->poison) == 0;
}

bool twl_commit_turn(struct commit *c)
{
    flush(c, 0);
    return has_work(c) && twl_lead(c, NULL);
}

static void *run_alone(void *context)
{
    struct twinlog_committer *committer = context;
    struct commit *c = committer->alone;

    for (;;) {
        const uint32_t seen = twl_event_value(&c->client.called);
        if (atomic_load(&committer->must_stop))
            return NULL;
        if (twl_commit_turn(c))
            continue;

        const bool is_poisoned = atomic_load(&c->poison) != 0; /* nothing is flushed any more */
        const uint64_t until_ns = is_poisoned ? 0 : atomic_load(&c->client.flush_ns);
        twl_event_sleep_until(&c->client.called, seen, until_ns);
    }
}

/* ---- rounds of a shared committer ---------------------------------------------------------------- */

static void enqueue(struct twinlog_committer *committer, struct commit *c)
{
    c->client.is_busy = true;
    c->client.next = NULL;

    if (committer->first)
        committer->last->client.next = c;
    else
        committer->first = c;
    committer->last = c;
}

/* The client has no more work. If it began to leave meanwhile, the committer has to look at it once more. */
static void call_if_leaving(struct commit *c)
{
    if (atomic_load(&c->client.is_leaving))
        call_shared(c);
}

static void release_client(struct commit *c, const struct round *round) NO_THREAD_SAFETY_ANALYSIS
{
    c->client.is_busy = false;
    c->round.step = ROUND_BEGIN;
    twl_release_leadership(c, round);
    call_if_leaving(c);
}

/* A driven committer has every write on the ring, so that the loop never waits for one. */
static bool uses_ring(const struct twinlog_committer *committer, const struct twinlog_options *options)
{
    const bool is_of_ring = options->io != TWINLOG_IO_DSYNC && options->io != TWINLOG_IO_FDATASYNC;

    return committer->is_driven || is_of_ring;
}

/* Does the path sync by a call of its own, behind the write? */
static bool syncs_apart(const struct twinlog_options *options)
{
    return options->io == TWINLOG_IO_URING_LINKED || options->io == TWINLOG_IO_FDATASYNC;
}

static void submit(struct twinlog_committer *committer, struct commit *c) NO_THREAD_SAFETY_ANALYSIS
{
    struct io_write *write = &c->round.write;

    if (syncs_apart(&c->options) && write->barrier == IO_BARRIER_WRITE)
        write->barrier = IO_BARRIER_FILE;

    committer->room--;
    twl_io_ring_submit(committer->ring, write);
}

/* Puts a client aside until look_at_filling() finds that every record of its group is copied. */
static void await_copies(struct twinlog_committer *committer, struct commit *c)
{
    c->client.next = committer->filling;
    committer->filling = c;
}

/* Goes on with the round of a client until it has to wait, or is over. `rc` is the result of the write that it has
 * waited for, if it has. */
static void advance_client(struct twinlog_committer *committer, struct commit *c,
                           int rc) NO_THREAD_SAFETY_ANALYSIS
{
    struct round *round = &c->round;

    if (round->step == ROUND_BEGIN && !twl_round_begin(c, round)) {
        release_client(c, NULL);
        return;
    }

    const bool is_filling = round->step == ROUND_COPY && round->sealed && copies_left(round->sealed) > 0;
    if (is_filling) {
        await_copies(committer, c);
        return;
    }

    while (twl_round_go_on(c, round, rc)) {
        if (uses_ring(committer, &c->options)) {
            submit(committer, c);
            return;
        }
        rc = twl_round_write(c, round, false);
    }
    release_client(c, round);
}

/* Begins a round, or goes on with the one in the buffer that is filled by now. Another thread may lead, to write a
 * marker group; it calls the committer afterwards. */
static void start(struct twinlog_committer *committer, struct commit *c) NO_THREAD_SAFETY_ANALYSIS
{
    if (c->round.step == ROUND_BEGIN) {
        if (!twl_try_lead(c)) {
            c->client.is_busy = false;
            call_if_leaving(c);
            return;
        }
        c->round = (struct round){ .kind = GROUP_RECORDS };
    }
    advance_client(committer, c, 0);
}

static void start_queued(struct twinlog_committer *committer)
{
    while (committer->first && committer->room > 0) {
        struct commit *c = committer->first;

        committer->first = c->client.next;
        start(committer, c);
    }
}

/* ---- what there is to do ------------------------------------------------------------------------- */

/* Looks at a client that was called. A released client stays called, so that no thread puts it in the list again. A
 * client with a round is looked at again when the round is over, and in every turn while its buffer is being filled. */
static void answer(struct twinlog_committer *committer, struct commit *c)
{
    if (!c->client.is_busy && atomic_load(&c->client.is_leaving)) {
        atomic_store(&c->client.has_left, true); /* its memory belongs to its log again */
        twl_event_notify_all(&committer->left);
        wake_sleeper(committer); /* the thread that waits for this may be about to sleep with the turn */
        return;
    }

    atomic_store(&c->client.is_called, false); /* before the look, so that a later caller calls again */
    if (c->client.is_busy)
        return;
    if (atomic_load(&c->client.is_leaving))
        call_if_leaving(c); /* it began to leave a moment ago */
    else if (has_work(c))
        enqueue(committer, c);
}

static struct commit *oldest_first(struct commit *newest)
{
    struct commit *oldest = NULL;
    while (newest) {
        struct commit *c = newest;

        newest = c->client.next_called;
        c->client.next_called = oldest;
        oldest = c;
    }
    return oldest;
}

static void take_calls(struct twinlog_committer *committer)
{
    if (!atomic_load_explicit(&committer->called, memory_order_relaxed))
        return;

    struct commit *c = oldest_first(atomic_exchange(&committer->called, NULL));
    while (c) {
        struct commit *next = c->client.next_called; /* before the look: the client may be gone behind it */
        answer(committer, c);
        c = next;
    }
}

/* The clients of which every record is copied go on. */
static void look_at_filling(struct twinlog_committer *committer)
{
    struct commit **link = &committer->filling;

    while (*link) {
        struct commit *c = *link;
        if (copies_left(c->round.sealed) == 0) {
            *link = c->client.next;
            enqueue(committer, c);
        } else {
            link = &c->client.next;
        }
    }
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static struct commit *client_of(struct io_write *write)
{
    struct round *round = (struct round *)((char *)write - offsetof(struct round, write));
    return (struct commit *)((char *)round - offsetof(struct commit, round));
}

/* Goes on with a client of which a write is done. False: there is none. */
static bool reap(struct twinlog_committer *committer) NO_THREAD_SAFETY_ANALYSIS
{
    if (!committer->ring)
        return false;
    struct io_write *write = twl_io_ring_reap(committer->ring);
    if (!write)
        return false;

    struct commit *c = client_of(write);
    committer->room++;
    advance_client(committer, c, twl_round_write(c, &c->round, true));
    return true;
}

static void sleep_until(struct twinlog_committer *committer, uint32_t seen, uint64_t until_ns)
{
    if (committer->ring)
        twl_io_ring_wait(committer->ring, until_ns);
    else
        twl_event_sleep_until(&committer->wake, seen, until_ns);
}

/* Until there is work, the next flush is due, or it is `until_ns` (0 = no such time). Not at all, if it was woken since
 * the event had the value `seen`. */
static void wait_for_work(struct twinlog_committer *committer, uint32_t seen, uint64_t until_ns)
{
    atomic_store(&committer->is_asleep, true);
    /* Behind that, because a change of it wakes a sleeper. */
    until_ns = sooner(until_ns, atomic_load(&committer->flush_ns));
    const bool is_awake = twl_event_value(&committer->wake) != seen || atomic_load(&committer->called) ||
                          atomic_load(&committer->must_stop);
    if (!is_awake)
        sleep_until(committer, seen, until_ns);
    atomic_store(&committer->is_asleep, false);
}

/* Does what can be done now. False: there is nothing more to do before a write is done, or somebody calls. */
static bool take_turn(struct twinlog_committer *committer)
{
    bool has_reaped = false;

    flush_due(committer);
    take_calls(committer);
    look_at_filling(committer);
    start_queued(committer);
    while (reap(committer))
        has_reaped = true;

    const bool can_start = committer->first && committer->room > 0;
    return has_reaped || can_start;
}

static void *run_shared(void *context)
{
    struct twinlog_committer *committer = context;
    while (!atomic_load(&committer->must_stop)) {
        const uint32_t seen = twl_event_value(&committer->wake);
        if (!take_turn(committer))
            wait_for_work(committer, seen, 0);
    }
    return NULL;
}

/* ---- driven by the threads of the program ---------------------------------------------------------- */

/* The disk is late if a write has not been done for so long. */
#define LATE_NS UINT64_C(1000000000)

static bool is_writing(const struct twinlog_committer *committer)
{
    return committer->room < committer->most_writes;
}

/* Nobody may have the turn for a while: the descriptor of the queue says when there is work. False: there is more to do
 * before. */
static bool prepare_rest(struct twinlog_committer *committer)
{
    const uint64_t flush_ns = atomic_load(&committer->flush_ns);

    if (twl_queue_take_timer(committer->queue) && is_writing(committer))
        twl_io_ring_nudge(committer->ring);
    if (!twl_io_ring_hand_over(committer->ring))
        return false;

    if (flush_ns > 0)
        twl_queue_set_timer(committer->queue, flush_ns);
    if (is_writing(committer))
        twl_queue_set_timer(committer->queue, twl_monotonic_ns() + LATE_NS);
    return true;
}

static bool try_turn(struct twinlog_committer *committer)
    TRY_ACQUIRES(true, committer->turn) NO_THREAD_SAFETY_ANALYSIS
{
    return !atomic_load(&committer->turn.is_taken) && !atomic_exchange(&committer->turn.is_taken, true);
}

/* Any of the other threads that wait may take the turn now. `own_waits` is 1 if the caller is one of them, else 0. */
static void give_back_turn(struct twinlog_committer *committer, uint32_t own_waits)
    RELEASES(committer->turn) NO_THREAD_SAFETY_ANALYSIS
{
    atomic_store(&committer->turn.is_taken, false);
    if (atomic_load(&committer->waiting) <= own_waits)
        return;

    twl_event_notify_all(&committer->left);
    twl_queue_wake(committer->queue);
    twl_mutex_lock(&committer->lock);
    for (struct commit *c = committer->clients; c; c = c->client.next_client)
        twl_wake_waiters(c);
    twl_mutex_unlock(&committer->lock);
}

/* Until there is nothing more to do now. */
static void take_turns(struct twinlog_committer *committer)
{
    do {
        while (take_turn(committer))
            continue;
    } while (!prepare_rest(committer));
}

/* False: another thread has the turn. */
static bool drive_once(struct twinlog_committer *committer, bool is_waiting)
{
    if (!try_turn(committer))
        return false;
    take_turns(committer);
    give_back_turn(committer, is_waiting ? 1 : 0);
    return true;
}

void twl_committer_drive(struct twinlog_committer *committer, bool is_waiting)
{
    while (drive_once(committer, is_waiting))
        if (!atomic_load(&committer->called))
            return;

    /* Another thread has the turn: it looks for what this one has brought. */
    if (atomic_load(&committer->called))
        wake_sleeper(committer);
}

uint32_t twl_committer_seen(struct twinlog_committer *committer)
{
    return twl_event_value(&committer->wake);
}

static void drive_and_wait(struct twinlog_committer *committer, uint32_t seen, uint64_t deadline_ns)
    REQUIRES(committer->turn)
{
    atomic_store(&committer->driver, twl_own_mark());
    if (!take_turn(committer)) {
        twl_queue_be_quiet(committer->queue, true);
        wait_for_work(committer, seen, deadline_ns);
    }
    take_turns(committer);
    twl_queue_be_quiet(committer->queue, false); /* now that every write that was done is reaped */
    atomic_store(&committer->driver, NULL);
}

void twl_committer_begin_wait(struct twinlog_committer *committer)
{
    atomic_fetch_add(&committer->waiting, 1);
}

/* A thread that waited does not look any more. What came since it has looked, or what it has brought itself if it did
 * not come to look, is for the loop, or for another one that waits. */
void twl_committer_end_wait(struct twinlog_committer *committer)
{
    atomic_fetch_sub(&committer->waiting, 1);
    if (atomic_load(&committer->called))
        twl_queue_call(committer->queue);
}

bool twl_committer_drive_and_wait(struct twinlog_committer *committer, uint32_t seen, uint64_t deadline_ns)
{
    if (!try_turn(committer))
        return false;
    drive_and_wait(committer, seen, deadline_ns);
    give_back_turn(committer, 1);
    return true;
}

void twl_committer_wake(struct twinlog_committer *committer)
{
    wake_sleeper(committer);
}

/* ---- a thread that waits for a log at a driven committer ------------------------------------------- */

void twl_client_begin_wait(struct commit *c)
{
    struct twinlog_committer *committer = driven(c);

    if (committer)
        twl_committer_begin_wait(committer);
}

void twl_client_end_wait(struct commit *c)
{
    struct twinlog_committer *committer = driven(c);

    if (committer)
        twl_committer_end_wait(committer);
}

uint32_t twl_client_seen(struct commit *c)
{
    struct twinlog_committer *committer = driven(c);

    return committer ? twl_committer_seen(committer) : 0;
}

/* The waiter is that of the thread that has the turn, and leads: see let_copies_end(). */
bool twl_client_drive(struct commit *c, struct waiter *waiter, uint32_t seen, uint64_t deadline_ns)
{
    struct twinlog_committer *committer = driven(c);
    if (!committer || !try_turn(committer))
        return false;

    c->own_waiter = waiter;
    drive_and_wait(committer, seen, deadline_ns);
    c->own_waiter = NULL;
    give_back_turn(committer, 1);
    return true;
}

void twl_client_wait_briefly(struct commit *c)
{
    const uint32_t seen = twl_event_value(&c->space);
    const uint32_t seen_work = twl_client_seen(c);
    const uint64_t deadline_ns = twinlog_deadline(1);

    twl_client_begin_wait(c);
    if (!twl_client_drive(c, NULL, seen_work, deadline_ns))
        twl_event_sleep_until(&c->space, seen, deadline_ns);
    twl_client_end_wait(c);
}

void twl_client_wake(struct commit *c)
{
    struct twinlog_committer *committer = driven(c);

    if (committer)
        wake_sleeper(committer);
}

/* ---- open and close ------------------------------------------------------------------------------ */

static void dismantle(struct twinlog_committer *committer)
{
    twl_mutex_destroy(&committer->lock);
    twl_io_ring_destroy(committer->ring);
    free(committer);
}

/* Without a ring the logs are written one after the other, by a thread. */
static int make_ring(struct twinlog_committer *committer)
{
    committer->ring_error = twl_io_ring_create(committer->most_writes, &committer->ring);
    if (io_is_refusal(committer->ring_error))
        return 0;
    return committer->ring_error;
}

static int start_thread(struct twinlog_committer *committer)
{
    void *(*run)(void *) = committer->alone ? run_alone : run_shared;

    return twl_thread_start(&committer->thread, run, committer);
}

/* A thread that polls the queue drives the committer, if there is a ring. */
static int attach(struct twinlog_committer *committer, struct twinlog_queue *queue)
{
    const int ring_fd = committer->ring ? twl_io_ring_fd(committer->ring) : -1;

    committer->is_driven = committer->ring != NULL;
    committer->queue = queue; /* both before any thread can drive it */
    return twl_queue_attach(queue, committer, ring_fd);
}

/* `alone` is NULL for a shared one, `queue` for one with a thread. */
static int make_committer(struct commit *alone, uint32_t in_flight, struct twinlog_queue *queue,
                          struct twinlog_committer **ret_committer)
{
    struct twinlog_committer *committer = calloc(1, sizeof(*committer));
    if (!committer)
        return -ENOMEM;

    committer->alone = alone;
    committer->most_writes = in_flight;
    committer->room = in_flight;
    twl_mutex_init(&committer->lock);

    int rc = twl_fork_guard_init(&committer->guard);
    if (rc == 0 && !alone)
        rc = make_ring(committer);
    if (rc == 0 && queue)
        rc = attach(committer, queue);
    if (rc == 0 && !committer->is_driven)
        rc = start_thread(committer);
    if (rc < 0) {
        dismantle(committer);
        return rc;
    }

    *ret_committer = committer;
    return 0;
}

static void stop_thread(struct twinlog_committer *committer)
{
    atomic_store(&committer->must_stop, true);
    if (committer->alone)
        twl_event_notify_all(&committer->alone->client.called);
    else
        wake(committer);
    pthread_join(committer->thread, NULL);
}

static void free_committer(struct twinlog_committer *committer)
{
    stop_thread(committer);
    dismantle(committer);
}

int twinlog_committer_open(const struct twinlog_committer_options *options,
                           struct twinlog_committer **ret_committer)
{
    struct twinlog_committer_options own;

    if (!ret_committer || twl_versioned_take(&own, sizeof(own), options) < 0 || own.in_flight > MAX_IN_FLIGHT)
        return -EINVAL;
    if (own.queue && twl_fork_guard_is_forked(&own.queue->guard))
        return TWINLOG_EFORKED;

    NOT_CANCELLED;
    const uint32_t in_flight = own.in_flight > 0 ? own.in_flight : MAX_IN_FLIGHT;
    return make_committer(NULL, in_flight, own.queue, ret_committer);
}

int twinlog_committer_close(struct twinlog_committer *committer)
{
    if (!committer)
        return 0;
    if (twl_fork_guard_is_forked(&committer->guard))
        return TWINLOG_EFORKED;

    NOT_CANCELLED; /* else it ends where it joins the thread, and nothing is freed */
    twl_mutex_lock(&committer->lock);
    const bool is_busy = committer->clients != NULL;
    twl_mutex_unlock(&committer->lock);
    if (is_busy)
        return -EBUSY;

    if (!committer->is_driven) {
        free_committer(committer);
        return 0;
    }

    const int rc = twl_queue_detach(committer->queue);
    if (rc == 0)
        dismantle(committer);
    return rc;
}

/* ---- clients --------------------------------------------------------------------------------------- */

int twl_commit_check(const struct twinlog_options *options)
{
    const struct twinlog_committer *committer = options->committer;

    if (!committer)
        return 0;
    if (twl_fork_guard_is_forked(&committer->guard))
        return TWINLOG_EFORKED;
    if (uses_ring(committer, options))
        return committer->ring_error;
    return 0;
}

void twl_client_take(struct commit *c, struct twinlog_committer *shared)
{
    if (!shared)
        return;

    c->client.is_shared = true;
    c->client.is_driven = shared->is_driven;
    atomic_store(&c->client.committer, shared);

    twl_mutex_lock(&shared->lock);
    c->client.next_client = shared->clients;
    shared->clients = c;
    twl_mutex_unlock(&shared->lock);
}

void twl_commit_start(struct commit *c)
{
    if (flush_interval_ns(c) > 0)
        twl_commit_need_committer(c); /* if this fails, the next call that needs one tries again */
}

int twl_commit_set_flush_interval(void *engine, uint32_t interval_ms)
{
    struct commit *c = engine;
    int rc = 0;

    if (interval_ms > 0)
        rc = twl_commit_need_committer(c);
    if (rc < 0)
        return rc;
    atomic_store(&c->client.flush_interval_ms, interval_ms);
    begin_flushes(c);
    return 0;
}

int twl_commit_need_committer(struct commit *c)
{
    struct twinlog_committer *committer;
    int rc = 0;

    if (has_committer(c) || !c->io->has_engine_threads)
        return 0;
    twl_mutex_lock(&c->client.making); /* a second thread could be joined only after its first commit */
    if (!has_committer(c)) {
        rc = make_committer(c, 0, NULL, &committer);
        if (rc == 0)
            atomic_store(&c->client.committer, committer);
    }
    twl_mutex_unlock(&c->client.making);
    return rc;
}

/* Until the committer has answered that it does not touch the log any more. */
static void wait_until_left(struct twinlog_committer *committer, struct commit *c)
{
    twl_client_begin_wait(c);
    for (;;) {
        const uint32_t seen = twl_event_value(&committer->left);
        const uint32_t seen_work = twl_client_seen(c);
        if (atomic_load(&c->client.has_left))
            break;
        if (!twl_client_drive(c, NULL, seen_work, 0))
            twl_event_sleep(&committer->left, seen);
    }
    twl_client_end_wait(c);
}

static void leave_shared(struct commit *c)
{
    struct twinlog_committer *committer = atomic_load(&c->client.committer);

    atomic_store(&c->client.is_leaving, true);
    call_shared(c);
    wait_until_left(committer, c);

    twl_mutex_lock(&committer->lock);
    struct commit **link = &committer->clients;
    while (*link != c)
        link = &(*link)->client.next_client;
    *link = c->client.next_client;
    twl_mutex_unlock(&committer->lock);
}

void twl_client_leave(struct commit *c)
{
    struct twinlog_committer *committer = atomic_load(&c->client.committer);
    if (!committer)
        return;

    if (c->client.is_shared)
        leave_shared(c);
    else
        free_committer(committer);
    atomic_store(&c->client.committer, NULL);
}
