/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completed requests, and the callbacks and observers of the program.
 *
 * Requests are completed in the order of their LSNs. The thread that commits may change from group to group, and a
 * callback may take long, or commit itself. So completed requests go to a list, in the order of the groups, and one
 * thread at a time hands them out, until the list is empty. A thread that has a copy to make or is queued for a place
 * hands out no requests, since a callback may wait for a later record.
 *
 * A request without a callback goes to a queue that holds it until it is fetched: a list under a lock. The queue notifies
 * its owner in two ways: by a futex word for threads that wait in twinlog_queue_poll(), and by an eventfd, made on
 * demand, that is readable exactly while the list is not empty.
 */
#define _GNU_SOURCE
#include "commit/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- callbacks and observers --------------------------------------------------------------------- */

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

void twl_tell(const struct commit *c, struct twinlog_event *event)
{
    const struct twinlog_options *options = &c->options;
    if (!options->observe || (options->observe_mask != 0 && !(options->observe_mask & 1u << event->kind)))
        return;
    const struct calling call = { c, true, calling };
    event->size = sizeof(*event);
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
        twl_tell(c, &(struct twinlog_event){ .kind = TWINLOG_EVENT_ROOM });
}

void twl_announce_room(struct commit *c)
{
    twl_event_notify_all(&c->space);
    twl_commit_tell_room(c);
}

/* ---- queues -------------------------------------------------------------------------------------- */

struct twinlog_queue {
    struct twl_mutex lock;
    struct twinlog_request *first, *last; /* [lock] */
    int fd;                               /* [lock] the eventfd; -1 = not requested yet */
    struct twl_event filled;              /* notified after each push */
    _Atomic uint64_t expected;            /* [atomic] number of pushes to come */
};

int twinlog_queue_open(struct twinlog_queue **ret_queue)
{
    if (!ret_queue)
        return -EINVAL;
    struct twinlog_queue *queue = calloc(1, sizeof(*queue));
    if (!queue)
        return -ENOMEM;
    twl_mutex_init(&queue->lock);
    queue->fd = -1;
    *ret_queue = queue;
    return 0;
}

void twl_queue_expect(struct twinlog_queue *queue)
{
    atomic_fetch_add_explicit(&queue->expected, 1, memory_order_relaxed);
}

/* The write never finds the eventfd full: that takes 2^64 - 2 events that were not read. */
static void set_readable(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    const uint64_t one = 1;
    if (queue->fd >= 0)
        while (write(queue->fd, &one, sizeof(one)) < 0 && errno == EINTR)
            continue;
}

static void set_unreadable(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    uint64_t events;
    if (queue->fd >= 0)
        while (read(queue->fd, &events, sizeof(events)) < 0 && errno == EINTR)
            continue;
}

static void push(struct twinlog_queue *queue, struct twinlog_request *first, struct twinlog_request *last)
{
    twl_mutex_lock(&queue->lock);
    const bool was_empty = !queue->first;
    if (was_empty)
        queue->first = first;
    else
        queue->last->next = first;
    queue->last = last;
    atomic_fetch_sub_explicit(&queue->expected, 1, memory_order_relaxed);
    if (was_empty)
        set_readable(queue);
    /* under the lock, because the queue may be closed as soon as its last request is fetched */
    twl_event_notify_all(&queue->filled);
    twl_mutex_unlock(&queue->lock);
}

static uint32_t fetch(struct twinlog_queue *queue, struct twinlog_request **requests, uint32_t max)
{
    uint32_t count = 0;
    twl_mutex_lock(&queue->lock);
    const bool was_empty = !queue->first;
    for (; queue->first && count < max; count++) {
        requests[count] = queue->first;
        queue->first = queue->first->next;
    }
    if (!queue->first && !was_empty)
        set_unreadable(queue);
    twl_mutex_unlock(&queue->lock);
    return count;
}

/* Disables cancellation: a thread cancelled while it reads the eventfd would never release the lock, and would lose the
 * requests that it has fetched. */
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests, uint32_t max,
                       int timeout_ms)
{
    const uint64_t deadline_ns = timeout_ms > 0 ? twinlog_deadline((uint32_t)timeout_ms) : 0;
    int cancel_state;
    uint32_t count;
    if (!queue || !ret_requests || max == 0)
        return -EINVAL;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    for (;;) {
        const uint32_t seen = twl_event_value(&queue->filled);
        count = fetch(queue, ret_requests, (uint32_t)min_u64(max, INT32_MAX));
        if (count > 0 || timeout_ms == 0 || (deadline_ns > 0 && twl_monotonic_ns() >= deadline_ns))
            break;
        twl_event_sleep_until(&queue->filled, seen, deadline_ns);
    }
    pthread_setcancelstate(cancel_state, NULL);
    return (int)count;
}

int twinlog_queue_fd(struct twinlog_queue *queue)
{
    if (!queue)
        return -EINVAL;
    twl_mutex_lock(&queue->lock);
    int rc = queue->fd;
    if (rc < 0) {
        queue->fd = eventfd(queue->first != NULL, EFD_CLOEXEC | EFD_NONBLOCK);
        rc = queue->fd >= 0 ? queue->fd : -errno;
    }
    twl_mutex_unlock(&queue->lock);
    return rc;
}

int twinlog_queue_close(struct twinlog_queue *queue)
{
    if (!queue)
        return 0;
    twl_mutex_lock(&queue->lock);
    const bool is_busy = queue->first || atomic_load(&queue->expected) > 0;
    twl_mutex_unlock(&queue->lock);
    if (is_busy)
        return -EBUSY;
    if (queue->fd >= 0)
        close(queue->fd);
    twl_mutex_destroy(&queue->lock);
    free(queue);
    return 0;
}

/* ---- completion ---------------------------------------------------------------------------------- */

static struct twinlog_request *last_of_run(const struct twinlog_request *first)
{
    return (struct twinlog_request *)(uintptr_t)first->private_word;
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
            push(first->queue, first, last);
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
        is_copied = copies_left(&c->twins[0]) <= c->twins[0].reservations &&
                    copies_left(&c->twins[1]) <= c->twins[1].reservations;
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
