/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completed requests, and the queues that listen to a log.
 *
 * The leader puts the requests of its group in their queues, so each queue gets those of a log in the order of their
 * LSNs. A queue (queue.h) listens to each log to which a request was submitted with it, or which twinlog_queue_listen()
 * has named. A log forgets closed queues when the next one begins to listen.
 */
#define _GNU_SOURCE
#include "commit/inside.h"
#include "commit/queue.h"

#include <errno.h>
#include <stdlib.h>

#define YIELDS_FOR_COPY 1000u

/* A queue that is told of a log. */
struct listener {
    struct listener *next;
    struct twinlog_queue *queue;
};

/* ---- the queues that listen to a log ------------------------------------------------------------- */

/* Forgets the queues that their owners have closed. Another queue may then get the memory of one of them, and must not
 * be taken for it: so the newest is unknown before that memory is free. */
static void forget_closed(struct commit *c) REQUIRES(c->listening)
{
    struct listener **link = &c->listeners;

    atomic_store(&c->newest_listener, NULL);
    while (*link) {
        struct listener *listener = *link;
        if (!twl_queue_was_closed(listener->queue)) {
            link = &listener->next;
            continue;
        }
        *link = listener->next;
        twl_queue_let_go(listener->queue);
        free(listener);
    }
}

static bool does_listen(const struct commit *c, const struct twinlog_queue *queue) REQUIRES(c->listening)
{
    for (const struct listener *listener = c->listeners; listener; listener = listener->next)
        if (listener->queue == queue)
            return true;
    return false;
}

static int add_listener(struct commit *c, struct twinlog_queue *queue) REQUIRES(c->listening)
{
    struct listener *listener = calloc(1, sizeof(*listener));
    if (!listener)
        return -ENOMEM;

    forget_closed(c);
    listener->queue = queue;
    listener->next = c->listeners;
    c->listeners = listener;
    twl_queue_hold(queue);
    return 0;
}

int twl_commit_listen(struct commit *c, struct twinlog_queue *queue)
{
    int rc = 0;

    /* Most often the queue is that of the call before. */
    if (atomic_load_explicit(&c->newest_listener, memory_order_relaxed) == queue)
        return 0;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;

    atomic_fetch_add(&queue->inside, 1);
    twl_mutex_lock(&c->listening);
    if (!does_listen(c, queue))
        rc = add_listener(c, queue);
    if (rc == 0)
        atomic_store(&c->newest_listener, queue);
    twl_mutex_unlock(&c->listening);
    atomic_fetch_sub(&queue->inside, 1);
    return rc;
}

void twl_tell_queues(struct commit *c)
{
    twl_mutex_lock(&c->listening);
    for (const struct listener *listener = c->listeners; listener; listener = listener->next)
        twl_queue_bring_news(listener->queue);
    twl_mutex_unlock(&c->listening);
}

void twl_commit_note_refusal(struct commit *c)
{
    atomic_store(&c->has_refused, true);
}

void twl_commit_tell_refused(struct commit *c)
{
    /* most often none was refused, and a load leaves the line to its other users */
    if (atomic_load(&c->has_refused) && atomic_exchange(&c->has_refused, false))
        twl_tell_queues(c);
}

void twl_announce_room(struct commit *c)
{
    twl_event_notify_all(&c->space);
    twl_commit_tell_refused(c);
}

void twl_forget_listeners(struct commit *c)
{
    struct listener *listener = c->listeners;

    while (listener) {
        struct listener *next = listener->next;
        twl_queue_let_go(listener->queue);
        free(listener);
        listener = next;
    }
}

/* ---- requests of a group -------------------------------------------------------------------------- */

void twl_attach_request(struct commit *c, struct twin *twin, const struct need *need, uint64_t lsn)
{
    struct requests *requests = &twin->requests;
    struct twinlog_request *request = need->request;

    request->first_lsn = lsn;
    request->count = need->count;
    request->result = 0;
    request->next = NULL;

    if (requests->first)
        requests->last->next = request;
    else
        requests->first = request;
    requests->last = request;
    requests->count++;
    c->requests++;

    const bool begins_run = !requests->run || requests->run->queue != request->queue;
    if (begins_run) {
        requests->run = request;
        twl_queue_expect(request->queue);
    }
    requests->run->private_word = (uintptr_t)request;
}

/* ---- completion ---------------------------------------------------------------------------------- */

static struct twinlog_request *last_of_run(const struct twinlog_request *first)
{
    return (struct twinlog_request *)(uintptr_t)first->private_word;
}

/* When the log has failed, the record of a request may still be being copied into a buffer. Its owner must not get it
 * back before the copy has ended. The leader itself may have a place, which it cannot fill while it is here. */
static void let_copies_end(struct commit *c)
{
    unsigned turns = 0;

    for (;;) {
        twl_mutex_lock(&c->lock);
        const bool has_own = c->own_waiter && c->own_waiter->place.twin;
        const uint32_t left = copies_left(&c->twins[0]) + copies_left(&c->twins[1]);
        twl_mutex_unlock(&c->lock);

        const uint32_t own = has_own ? 1 : 0;
        if (left == own)
            return;
        twl_nap(c->io, YIELDS_FOR_COPY, &turns);
    }
}

/* The result is the only sign that the owner gets, and no failure is known to have written nothing. So whatever has
 * failed, it says that the log is poisoned. */
static void fail_all(struct commit *c, struct twinlog_request *first, int error)
{
    for (struct twinlog_request *request = first; request; request = request->next) {
        request->result = TWINLOG_EPOISONED;
        twl_counters_add_failure(c->counters, error, true);
    }
}

/* Hands each run to its queue. A request belongs to its owner again as soon as it is pushed. */
static void push_runs(struct twinlog_request *first)
{
    while (first) {
        struct twinlog_request *last = last_of_run(first);
        struct twinlog_request *next_run = last->next;

        last->next = NULL;
        twl_queue_push(first->queue, first, last);
        first = next_run;
    }
}

void twl_complete(struct commit *c, struct twin *twin, int result)
{
    struct twinlog_request *first = twin->requests.first;
    if (!first)
        return;

    add_alone(&c->statistics->completed_requests, twin->requests.count);
    twin->requests = (struct requests){ 0 };

    /* A request got the result of a success when it got its place. */
    if (result < 0) {
        fail_all(c, first, result);
        let_copies_end(c);
    }
    push_runs(first);
}
