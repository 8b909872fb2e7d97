/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completed requests and their queues.
 *
 * The leader puts the requests of its group in their queues, so each queue gets those of a log in the order of their
 * LSNs. A queue notifies its owner by a futex word for threads that wait in twinlog_queue_poll(), and by an eventfd,
 * made on demand, that is readable exactly while the list is not empty.
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
    int fd;                               /* [lock] the eventfd; -1 = not requested yet */
    struct twl_event filled;              /* notified after each push */
    _Atomic uint64_t expected;            /* [atomic] number of pushes to come */
    _Atomic uint32_t inside;              /* [atomic] calls that have not returned */
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
    *ret_queue = queue;
    return 0;
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
    if (was_empty && queue->fd >= 0)
        eventfd_write(queue->fd, 1);
    /* under the lock, because the queue may be closed as soon as its last request is fetched */
    twl_event_notify_all(&queue->filled);
    twl_mutex_unlock(&queue->lock);
}

static uint32_t fetch(struct twinlog_queue *queue, struct twinlog_request **requests, uint32_t max)
{
    uint32_t count = 0;
    eventfd_t events;
    twl_mutex_lock(&queue->lock);
    const bool was_empty = !queue->first;
    for (; queue->first && count < max; count++) {
        requests[count] = queue->first;
        queue->first = queue->first->next;
    }
    if (!queue->first && !was_empty && queue->fd >= 0)
        eventfd_read(queue->fd, &events);
    twl_mutex_unlock(&queue->lock);
    return count;
}

/* Disables cancellation: a thread cancelled while it reads the eventfd would never release the lock, and would lose the
 * requests that it has fetched. */
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests, uint32_t max,
                       int timeout_ms)
{
    const uint64_t deadline_ns = timeout_ms > 0 ? twinlog_deadline((uint32_t)timeout_ms) : 0;
    uint32_t count;
    if (!queue || !ret_requests || max == 0)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;
    NOT_CANCELLED;
    atomic_fetch_add(&queue->inside, 1);
    for (;;) {
        const uint32_t seen = twl_event_value(&queue->filled);
        count = fetch(queue, ret_requests, (uint32_t)min_u64(max, INT32_MAX));
        if (count > 0 || timeout_ms == 0 || (deadline_ns > 0 && twl_monotonic_ns() >= deadline_ns))
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
        rc = twl_descriptor_event(queue->first != NULL);
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
    twl_mutex_unlock(&queue->lock);
    if (is_busy)
        return -EBUSY;
    if (queue->fd >= 0)
        close(queue->fd);
    twl_mutex_destroy(&queue->lock);
    free(queue);
    return 0;
}

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
}
