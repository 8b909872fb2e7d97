/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared committer: a thread that commits for many logs.
 *
 * It leads a log that has called it: it begins a round, hands the write to the ring, and goes on to the next log. When
 * the write is done, it ends the round and gives leadership back. So each log has one group in flight, as always, and
 * all logs together have as many as the ring has room for.
 *
 *     called ---> queued ---> [filling --->] writing ---> idle
 *                   '---------- its turn -------'
 *
 * It never waits for one log. While writers still copy into the buffer of a round, it puts the round aside, until the
 * last writer calls, or a reservation expires. Syncs go to the ring, too. It waits only for short things: locks, a
 * write that was short and is continued, and the callbacks that it calls.
 *
 * A callback may append to any log, even one of this committer, and wait for it. Then the loop runs inside the
 * callback. A turn of the loop finishes its own work before it calls a callback, so that another turn can begin there.
 * While the thread waits for room, a turn may give it a place; every group behind that waits for its copy. So such a
 * turn is quiet: it calls no callbacks, which might wait for one of these groups. A later turn calls them.
 *
 * A client is in the list of calls at most once until the committer looks at it. So a repeated call is cheap, and the
 * committer never walks all clients, except for the flush intervals. It then also flushes the logs that are due soon,
 * so that their times draw together.
 */
#define _GNU_SOURCE
#include "commit/shared.h"

#define CALLBACK_WAIT_NS 1000000u /* for a turn inside a callback: its wait may end without a call */
#define FLUSH_AHEAD 4u            /* a flush due within this fraction of its interval is done now */

/* The shared committer that this thread is; NULL = none. */
static _Thread_local struct twinlog_committer *mine;

/* The earlier of two times; 0 = never. */
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

void twl_shared_call(struct committer_client *client)
{
    struct twinlog_committer *committer = atomic_load_explicit(&client->committer, memory_order_relaxed);
    if (atomic_exchange(&client->is_called, true))
        return;
    client->next_called = atomic_load(&committer->called);
    while (!atomic_compare_exchange_weak(&committer->called, &client->next_called, client))
        continue;
    /* the committer sets is_asleep, then checks `called` once more */
    if (atomic_load(&committer->is_asleep))
        twl_shared_wake(committer);
}

/* ---- rounds -------------------------------------------------------------------------------------- */

static void enqueue(struct twinlog_committer *committer, struct committer_client *client)
{
    client->state = CLIENT_QUEUED;
    client->next = NULL;
    if (committer->first)
        committer->last->next = client;
    else
        committer->first = client;
    committer->last = client;
}

/* The client has no more work. If it began to leave meanwhile, it is put in the list of calls again. */
static void rest(struct committer_client *client)
{
    if (atomic_load(&client->is_leaving))
        twl_shared_call(client);
}

/* Calls callbacks, unless the turn is quiet. */
static void deliver(struct twinlog_committer *committer, struct committer_client *client)
{
    if (!committer->is_quiet) {
        client->users++;
        twl_deliver(client->commit);
        client->users--;
    } else if (!client->is_undelivered && twl_must_deliver(client->commit)) {
        client->is_undelivered = true;
        client->next_undelivered = committer->undelivered;
        committer->undelivered = client;
    }
}

static void deliver_what_was_left(struct twinlog_committer *committer)
{
    while (committer->undelivered && !committer->is_quiet) {
        struct committer_client *client = committer->undelivered;
        committer->undelivered = client->next_undelivered;
        client->is_undelivered = false;
        deliver(committer, client);
        rest(client);
    }
}

/* True if the round can go on; else notes when to look again. */
static bool is_filled(struct twinlog_committer *committer,
                      struct committer_client *client) NO_THREAD_SAFETY_ANALYSIS
{
    struct twin *sealed = client->commit->round.sealed;
    unsigned look_ms = 0;
    if (atomic_load(&sealed->copying) > 0)
        look_ms = twl_reservations_expire(client->commit, sealed);
    if (atomic_load(&sealed->copying) == 0)
        return true;
    if (look_ms > 0)
        committer->look_ns = sooner(committer->look_ns, twl_monotonic_ns() + (uint64_t)look_ms * 1000000);
    return false;
}

/* Goes on with the round of a client until it has to wait, or is over. Calls callbacks. */
static void go_on(struct twinlog_committer *committer, struct committer_client *client,
                  int rc) NO_THREAD_SAFETY_ANALYSIS
{
    struct commit *c = client->commit;
    struct io_write *write = &c->round.write;
    for (;;) {
        switch (twl_round_go_on(c, &c->round, rc)) {
        case ROUND_NOTHING:
            client->has_round = false;
            twl_stop_leading(c);
            rest(client);
            return;
        case ROUND_NEEDS_COPIES:
            if (is_filled(committer, client))
                break;
            client->state = CLIENT_FILLING;
            client->next = committer->filling;
            committer->filling = client;
            return;
        case ROUND_NEEDS_DISK:
            if (!client->has_ring) {
                rc = twl_round_write(c, &c->round, false);
                break;
            }
            if (c->options.io == TWINLOG_IO_URING_LINKED && write->barrier == IO_BARRIER_WRITE)
                write->barrier = IO_BARRIER_FILE;
            client->state = CLIENT_WRITING;
            committer->room--;
            twl_io_ring_submit(committer->ring, write);
            return;
        case ROUND_OVER:
            client->state = CLIENT_IDLE;
            client->has_round = false;
            twl_hand_on(c, &c->round);
            deliver(committer, client); /* the next round may begin in a callback */
            rest(client);
            return;
        }
    }
}

/* Another thread may lead, to write a marker group; it calls the committer afterwards. */
static void start(struct twinlog_committer *committer,
                  struct committer_client *client) NO_THREAD_SAFETY_ANALYSIS
{
    struct commit *c = client->commit;
    client->state = CLIENT_IDLE;
    if (!client->has_round && !twl_try_lead(c)) {
        rest(client);
        return;
    }
    if (!client->has_round)
        c->round = (struct round){ .kind = GROUP_RECORDS };
    client->has_round = true;
    go_on(committer, client, 0);
}

static void start_queued(struct twinlog_committer *committer)
{
    while (committer->first && committer->room > 0) {
        struct committer_client *client = committer->first;
        committer->first = client->next;
        start(committer, client);
    }
}

/* ---- what there is to do ------------------------------------------------------------------------- */

/* Releases a client: its memory belongs to its log again. */
static void let_go(struct twinlog_committer *committer, struct committer_client *client)
{
    atomic_store(&client->has_left, true);
    twl_event_notify_all(&committer->left);
}

/* Looks at a client that was called. A released client stays called, so that no thread puts it in the list again. A
 * client with a round is looked at again when the round is over, and in every turn while its buffer is being filled. */
static void answer(struct twinlog_committer *committer, struct committer_client *client)
{
    const bool is_in_use = client->state != CLIENT_IDLE || client->users > 0 || client->is_undelivered;
    if (!is_in_use && atomic_load(&client->is_leaving)) {
        let_go(committer, client);
        return;
    }
    atomic_store(&client->is_called, false); /* before the look, so that a later caller calls again */
    if (!is_in_use && atomic_load(&client->is_leaving))
        rest(client); /* it began to leave a moment ago */
    else if (client->state == CLIENT_IDLE && twl_needs_committer(client->commit))
        enqueue(committer, client);
}

static struct committer_client *oldest_first(struct committer_client *newest)
{
    struct committer_client *oldest = NULL;
    while (newest) {
        struct committer_client *client = newest;
        newest = client->next_called;
        client->next_called = oldest;
        oldest = client;
    }
    return oldest;
}

static void take_calls(struct twinlog_committer *committer)
{
    if (!atomic_load_explicit(&committer->called, memory_order_relaxed))
        return;
    struct committer_client *client = oldest_first(atomic_exchange(&committer->called, NULL));
    while (client) {
        struct committer_client *next = client->next_called;
        answer(committer, client);
        client = next;
    }
}

static void look_at_filling(struct twinlog_committer *committer)
{
    struct committer_client **link = &committer->filling;
    committer->look_ns = 0;
    while (*link) {
        struct committer_client *client = *link;
        if (is_filled(committer, client)) {
            *link = client->next;
            enqueue(committer, client);
        } else {
            link = &client->next;
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
    for (struct committer_client *client = committer->flush; client; client = client->next_flush) {
        if (twl_client_flush(client, flush_interval_ns(client) / FLUSH_AHEAD))
            twl_shared_call(client);
        next_ns = sooner(next_ns, client->flush_ns);
    }
    atomic_store(&committer->flush_ns, next_ns);
    twl_mutex_unlock(&committer->lock);
}

/* ---- clients --------------------------------------------------------------------------------------- */

void twl_shared_join_flush(struct committer_client *client)
{
    struct twinlog_committer *committer = atomic_load(&client->committer);
    twl_mutex_lock(&committer->lock);
    client->flush_ns = twl_monotonic_ns() + flush_interval_ns(client);
    client->next_flush = committer->flush;
    committer->flush = client;
    atomic_store(&committer->flush_ns, sooner(atomic_load(&committer->flush_ns), client->flush_ns));
    twl_mutex_unlock(&committer->lock);
    twl_shared_wake(committer);
}

static void leave_flush(struct twinlog_committer *committer, struct committer_client *client)
{
    twl_mutex_lock(&committer->lock);
    struct committer_client **link = &committer->flush;
    while (*link && *link != client)
        link = &(*link)->next_flush;
    if (*link)
        *link = client->next_flush;
    twl_mutex_unlock(&committer->lock);
}

void twl_shared_leave(struct committer_client *client)
{
    struct twinlog_committer *committer = atomic_load(&client->committer);
    leave_flush(committer, client);
    atomic_store(&client->is_leaving, true);
    twl_shared_call(client);
    for (;;) {
        uint32_t seen = twl_event_value(&committer->left);
        if (atomic_load(&client->has_left))
            break;
        twl_event_sleep(&committer->left, seen);
    }
    atomic_fetch_sub(&committer->clients, 1);
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static struct committer_client *client_of(struct io_write *write)
{
    struct round *round = (struct round *)((char *)write - offsetof(struct round, write));
    struct commit *c = (struct commit *)((char *)round - offsetof(struct commit, round));
    return &c->client;
}

/* False if no write is done. */
static bool reap(struct twinlog_committer *committer) NO_THREAD_SAFETY_ANALYSIS
{
    struct io_write *write = committer->ring ? twl_io_ring_reap(committer->ring) : NULL;
    if (!write)
        return false;
    struct committer_client *client = client_of(write);
    committer->room++;
    go_on(committer, client, twl_round_write(client->commit, &client->commit->round, true));
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

/* One turn of the loop. Returns soon if there was work, else when work comes, or at `until_ns`; 0 = no limit. */
static void turn(struct twinlog_committer *committer, uint64_t until_ns)
{
    deliver_what_was_left(committer);
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

bool twl_shared_is_ours(const struct committer_client *client)
{
    return mine == atomic_load(&client->committer);
}

bool twl_commit_run_once(bool is_quiet)
{
    if (!mine)
        return false;
    mine->is_quiet = is_quiet; /* no turn begins inside a quiet one */
    turn(mine, twl_monotonic_ns() + CALLBACK_WAIT_NS);
    mine->is_quiet = false;
    return true;
}

bool twl_commit_is_shared_committer(void)
{
    return mine != NULL;
}
