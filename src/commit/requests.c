/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completed requests and their queues.
 *
 * The leader puts the requests of its group in their queues, so each queue gets those of a log in the order of their
 * LSNs. A queue notifies its owner by a futex word for threads that wait in twinlog_queue_poll(), and by an eventfd,
 * made on demand, that is readable exactly while there is something to fetch: requests, or news.
 *
 * News is that a call which a log has refused may succeed now, or that a log has failed. A queue listens to each log to
 * which a request was submitted with it, or which twinlog_queue_listen() has named. The memory of a queue is freed when
 * its owner has closed it and no log knows it any more: a log forgets closed queues when the next one begins to listen.
 */
#define _GNU_SOURCE
#include "base/descriptor.h"
#include "base/fork.h"
#include "commit/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct twinlog_queue {
    struct fork_guard guard; /* [const] */
    struct twl_mutex lock;
    struct twinlog_request *first, *last; /* [lock] */
    bool has_news;                        /* [lock] */
    bool is_closed;                       /* [lock] by its owner */
    int fd;                               /* [lock] the eventfd; -1 = not requested yet */
    struct twl_event filled;              /* notified after each push, and when there is news */
    _Atomic uint64_t expected;            /* [atomic] number of pushes to come */
    _Atomic uint32_t inside;              /* [atomic] calls that have not returned */
    _Atomic uint32_t holders;             /* [atomic] the owner, and logs that know the queue */
};

/* A queue that is told of a log. */
struct listener {
    struct listener *next;
    struct twinlog_queue *queue;
};

int twinlog_queue_open(struct twinlog_queue **ret_queue)
{
    if (!ret_queue)
        return -EINVAL;
    struct twinlog_queue *queue = calloc(1, sizeof(*queue));
    if (!queue || twl_fork_guard_init(&queue->guard) < 0) {
        free(queue);
        return -ENOMEM;
    }
    twl_mutex_init(&queue->lock);
    queue->fd = -1;
    atomic_store(&queue->holders, 1);
    *ret_queue = queue;
    return 0;
}

static void let_go(struct twinlog_queue *queue)
{
    if (atomic_fetch_sub(&queue->holders, 1) > 1)
        return;
    twl_mutex_destroy(&queue->lock);
    free(queue);
}

static bool has_something(const struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    return queue->first || queue->has_news;
}

/* Something was added. Under the lock, because the queue may be closed as soon as its last request is fetched. */
static void wake_owner(struct twinlog_queue *queue, bool was_empty) REQUIRES(queue->lock)
{
    if (was_empty && queue->fd >= 0)
        eventfd_write(queue->fd, 1);
    twl_event_notify_all(&queue->filled);
}

static void push(struct twinlog_queue *queue, struct twinlog_request *first, struct twinlog_request *last)
{
    twl_mutex_lock(&queue->lock);
    const bool was_empty = !has_something(queue);
    if (!queue->first)
        queue->first = first;
    else
        queue->last->next = first;
    queue->last = last;
    atomic_fetch_sub_explicit(&queue->expected, 1, memory_order_relaxed);
    wake_owner(queue, was_empty);
    twl_mutex_unlock(&queue->lock);
}

void twl_queue_bring_news(struct twinlog_queue *queue)
{
    twl_mutex_lock(&queue->lock);
    const bool was_empty = !has_something(queue);
    if (!queue->is_closed) {
        queue->has_news = true;
        wake_owner(queue, was_empty);
    }
    twl_mutex_unlock(&queue->lock);
}

/* Takes news and up to `max` requests. False: there was neither. */
static bool fetch(struct twinlog_queue *queue, struct twinlog_request **requests, uint32_t max,
                  uint32_t *ret_count)
{
    uint32_t count = 0;
    eventfd_t events;
    twl_mutex_lock(&queue->lock);
    const bool had_something = has_something(queue);
    queue->has_news = false;
    for (; queue->first && count < max; count++) {
        requests[count] = queue->first;
        queue->first = queue->first->next;
    }
    if (!queue->first && had_something && queue->fd >= 0)
        eventfd_read(queue->fd, &events);
    twl_mutex_unlock(&queue->lock);
    *ret_count = count;
    return had_something;
}

/* Disables cancellation: a thread cancelled while it reads the eventfd would never release the lock, and would lose the
 * requests that it has fetched. */
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests, uint32_t max,
                       int timeout_ms)
{
    const uint64_t deadline_ns = timeout_ms > 0 ? twinlog_deadline((uint32_t)timeout_ms) : 0;
    uint32_t count = 0;
    if (!queue || !ret_requests || max == 0)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;
    NOT_CANCELLED;
    atomic_fetch_add(&queue->inside, 1);
    for (;;) {
        const uint32_t seen = twl_event_value(&queue->filled);
        const bool has_any = fetch(queue, ret_requests, (uint32_t)min_u64(max, INT32_MAX), &count);
        if (has_any || timeout_ms == 0 || (deadline_ns > 0 && twl_monotonic_ns() >= deadline_ns))
            break;
        twl_event_sleep_until(&queue->filled, seen, deadline_ns);
    }
    atomic_fetch_sub(&queue->inside, 1);
    return (int)count;
}

int twinlog_queue_fd(struct twinlog_queue *queue)
{
    if (!queue)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;
    atomic_fetch_add(&queue->inside, 1);
    twl_mutex_lock(&queue->lock);
    int rc = queue->fd;
    if (rc < 0) {
        rc = twl_descriptor_event(has_something(queue));
        queue->fd = rc;
    }
    twl_mutex_unlock(&queue->lock);
    atomic_fetch_sub(&queue->inside, 1);
    return rc;
}

int twinlog_queue_close(struct twinlog_queue *queue)
{
    if (!queue)
        return 0;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;
    NOT_CANCELLED;
    twl_mutex_lock(&queue->lock);
    const bool is_busy = queue->first || atomic_load(&queue->expected) > 0 || atomic_load(&queue->inside) > 0;
    const int fd = queue->fd;
    if (!is_busy) {
        queue->is_closed = true;
        queue->fd = -1;
    }
    twl_mutex_unlock(&queue->lock);
    if (is_busy)
        return -EBUSY;
    if (fd >= 0)
        close(fd);
    let_go(queue);
    return 0;
}

/* ---- the queues that listen to a log ------------------------------------------------------------- */

static bool was_closed(struct twinlog_queue *queue)
{
    twl_mutex_lock(&queue->lock);
    const bool is_closed = queue->is_closed;
    twl_mutex_unlock(&queue->lock);
    return is_closed;
}

/* Forgets the queues that their owners have closed. Another queue may then get the memory of one of them, and must not
 * be taken for it: so the newest is unknown before that memory is free. */
static void forget_closed(struct commit *c) REQUIRES(c->listening)
{
    atomic_store(&c->newest_listener, NULL);
    for (struct listener **link = &c->listeners; *link;) {
        struct listener *listener = *link;
        if (!was_closed(listener->queue)) {
            link = &listener->next;
            continue;
        }
        *link = listener->next;
        let_go(listener->queue);
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
    atomic_fetch_add(&queue->holders, 1);
    return 0;
}

int twl_commit_listen(struct commit *c, struct twinlog_queue *queue)
{
    int rc = 0;

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
    twl_client_tell_loop(c);
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
    for (struct listener *listener = c->listeners, *next; listener; listener = next) {
        next = listener->next;
        let_go(listener->queue);
        free(listener);
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
    if (!requests->run || requests->run->queue != request->queue) {
        requests->run = request;
        atomic_fetch_add_explicit(&request->queue->expected, 1, memory_order_relaxed);
    }
    requests->run->private_word = (uintptr_t)request;
}

/* ---- completion ---------------------------------------------------------------------------------- */

static struct twinlog_request *last_of_run(const struct twinlog_request *first)
{
    return (struct twinlog_request *)(uintptr_t)first->private_word;
}

/* When the log has failed, the record of a request may still be being copied into a buffer. Its owner must not get it
 * back before the copy has ended. Only the leader itself may have a place and not copy: it finds the poison later. */
static void let_copies_end(struct commit *c)
{
    bool is_copied = false;
    while (!is_copied) {
        twl_mutex_lock(&c->lock);
        const bool has_own = c->own_waiter && c->own_waiter->place.twin;
        is_copied = copies_left(&c->twins[0]) + copies_left(&c->twins[1]) == has_own;
        twl_mutex_unlock(&c->lock);
        if (!is_copied)
            twl_yield();
    }
}

/* The result was set to success with the place. It is the only sign that the owner gets, and no failure is known to
 * have written nothing, so whatever failed it says that the log is poisoned. A request belongs to its owner again as
 * soon as it is pushed. */
void twl_complete(struct commit *c, struct twin *twin, int result)
{
    struct twinlog_request *first = twin->requests.first;
    if (!first)
        return;
    add_alone(&c->statistics->completed_requests, twin->requests.count);
    twin->requests = (struct requests){ 0 };
    for (struct twinlog_request *request = first; request && result < 0; request = request->next) {
        request->result = TWINLOG_EPOISONED;
        twl_counters_add_failure(c->counters, result, true);
    }
    if (result < 0)
        let_copies_end(c);
    while (first) {
        struct twinlog_request *last = last_of_run(first), *next = last->next;
        last->next = NULL;
        push(first->queue, first, last);
        first = next;
    }
    twl_client_tell_loop(c);
}
