/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completes requests in the order of their LSNs.
 *
 * The thread that commits may change from group to group, and a callback may take long, or commit itself. So completed
 * requests go to a list, in the order of the groups, and one thread at a time hands them out, until the list is empty.
 * A thread that has a copy to make or is queued for a place hands out no requests, since a callback may wait for a
 * later record.
 */
#define _GNU_SOURCE
#include "commit/inside.h"

static struct twinlog_request *last_of_run(const struct twinlog_request *first)
{
    return (struct twinlog_request *)(uintptr_t)first->private_word;
}

/* The logs of the callbacks and observers that this thread is calling: each may use another log, and so call those of
 * that log. */
struct calling {
    const struct commit *commit;
    bool is_observer;
    const struct calling *outer;
};
static _Thread_local const struct calling *calling;

bool twl_commit_is_in_callback(const struct commit *c)
{
    const struct calling *call = calling;
    while (call && call->commit != c)
        call = call->outer;
    return call || twl_commit_is_shared_committer();
}

bool twl_commit_is_in_observer(const struct commit *c)
{
    const struct calling *call = calling;
    while (call && !(call->is_observer && (call->commit == c || twl_client_is_in_callback(&c->client))))
        call = call->outer;
    return call;
}

void twl_tell(const struct commit *c, const struct twinlog_event *event)
{
    const struct twinlog_options *options = &c->options;
    if (!options->observe || (options->observe_mask != 0 && !(options->observe_mask & 1u << event->kind)))
        return;
    const struct calling call = { c, true, calling };
    calling = &call;
    options->observe(options->observe_context, event);
    calling = call.outer;
}

void twl_commit_want_room(struct commit *c)
{
    atomic_store(&c->wants_room, true);
}

void twl_commit_tell_room(struct commit *c)
{
    if (c->options.observe && atomic_load(&c->wants_room) && atomic_exchange(&c->wants_room, false))
        twl_tell(c,
                 &(struct twinlog_event){ .size = sizeof(struct twinlog_event), .kind = TWINLOG_EVENT_ROOM });
}

void twl_announce_room(struct commit *c)
{
    twl_event_notify_all(&c->space);
    twl_commit_tell_room(c);
}

/* A request belongs to its owner again as soon as it is handed out. */
static void hand_out(const struct commit *c, struct twinlog_request *list)
{
    const struct calling call = { c, false, calling };
    calling = &call;
    while (list) {
        struct twinlog_request *first = list, *last = first->complete ? first : last_of_run(first);
        list = last->next;
        last->next = NULL;
        if (first->complete)
            first->complete(first);
        else
            twl_queue_push(first->queue, first, last);
    }
    calling = call.outer;
}

/* The result was set to success with the place. */
void twl_complete(struct commit *c, const struct requests *requests, int result)
{
    for (struct twinlog_request *request = requests->first; request && result < 0; request = request->next)
        request->result = result;
    twl_mutex_lock(&c->delivery);
    if (c->completed)
        c->last_completed->next = requests->first;
    else
        atomic_store(&c->completed, requests->first);
    c->last_completed = requests->last;
    twl_mutex_unlock(&c->delivery);
}

static bool can_deliver(const struct commit *c) REQUIRES(c->delivery)
{
    return c->completed && c->delivery_stops == 0 && !c->is_delivering;
}

/* The thread that has listed requests looks for them itself, or calls another one to look. So a thread that finds none
 * without the lock has none to hand out. */
static bool is_idle(struct commit *c)
{
    return !atomic_load(&c->completed); /* in one order with a client's `is_called` */
}

bool twl_must_deliver(struct commit *c)
{
    if (is_idle(c))
        return false;
    twl_mutex_lock(&c->delivery);
    const bool must = can_deliver(c);
    twl_mutex_unlock(&c->delivery);
    return must;
}

/* When the log has failed, the record of a completed request may still be being copied into a buffer. Its owner must
 * not get it back before the copy has ended. */
static void let_copies_end(struct commit *c)
{
    bool is_copied = atomic_load(&c->poison) == 0;
    while (!is_copied) {
        twl_mutex_lock(&c->lock);
        is_copied = atomic_load(&c->twins[0].copying) <= c->twins[0].reservations &&
                    atomic_load(&c->twins[1].copying) <= c->twins[1].reservations;
        twl_mutex_unlock(&c->lock);
        if (!is_copied)
            twl_yield();
    }
}

void twl_deliver(struct commit *c)
{
    if (is_idle(c))
        return;
    twl_mutex_lock(&c->delivery);
    while (can_deliver(c)) {
        struct twinlog_request *list = c->completed;
        atomic_store(&c->completed, NULL);
        c->is_delivering = true;
        twl_mutex_unlock(&c->delivery);
        let_copies_end(c);
        hand_out(c, list);
        twl_mutex_lock(&c->delivery);
        c->is_delivering = false;
        if (c->delivery_stops > 0)
            twl_event_notify_all(&c->delivered);
    }
    twl_mutex_unlock(&c->delivery);
}

void twl_commit_hold_delivery(struct commit *c, bool is_held)
{
    twl_mutex_lock(&c->delivery);
    c->delivery_stops += is_held ? 1u : -1u;
    while (is_held && c->is_delivering) {
        uint32_t seen = twl_event_value(&c->delivered);
        twl_mutex_unlock(&c->delivery);
        twl_event_sleep(&c->delivered, seen);
        twl_mutex_lock(&c->delivery);
    }
    twl_mutex_unlock(&c->delivery);
    if (!is_held)
        twl_deliver(c);
}
