/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of completed requests; queue.h says what its descriptor is made of.
 *
 * A leader pushes requests, and brings news. A thread of the program fetches them in twinlog_queue_poll(), which first
 * does what there is to do for a committer that the queue drives. A push makes the descriptor readable under the lock,
 * and a fetch that leaves nothing clears it under the same lock: so it is readable while there is something. It may
 * also be readable without a reason, never the other way round.
 */
#define _GNU_SOURCE
#include "commit/queue.h"

#include "base/descriptor.h"
#include "commit/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The queue that this thread polls, and looks at before the call returns; NULL = none. */
static _Thread_local struct twinlog_queue *polled;

const void *twl_own_mark(void)
{
#ifdef OWN_MARK /* test/interleave has threads of its own */
    return OWN_MARK;
#else
    static _Atomic uintptr_t newest;
    static _Thread_local uintptr_t own;

    if (own == 0)
        own = atomic_fetch_add(&newest, 1) + 1;
    return (const void *)own;
#endif
}

/* ---- open ---------------------------------------------------------------------------------------- */

int twinlog_queue_open(struct twinlog_queue **ret_queue)
{
    if (!ret_queue)
        return -EINVAL;

    struct twinlog_queue *queue = calloc(1, sizeof(*queue));
    if (!queue)
        return -ENOMEM;
    if (twl_fork_guard_init(&queue->guard) < 0) {
        free(queue);
        return -ENOMEM;
    }

    twl_mutex_init(&queue->lock);
    queue->fd = queue->event_fd = queue->timer_fd = queue->ring_fd = -1;
    atomic_store(&queue->holders, 1);
    *ret_queue = queue;
    return 0;
}

void twl_queue_hold(struct twinlog_queue *queue)
{
    atomic_fetch_add(&queue->holders, 1);
}

void twl_queue_let_go(struct twinlog_queue *queue)
{
    if (atomic_fetch_sub(&queue->holders, 1) > 1)
        return;
    twl_mutex_destroy(&queue->lock);
    free(queue);
}

bool twl_queue_was_closed(struct twinlog_queue *queue)
{
    twl_mutex_lock(&queue->lock);
    const bool is_closed = queue->is_closed;
    twl_mutex_unlock(&queue->lock);
    return is_closed;
}

/* ---- the descriptor ------------------------------------------------------------------------------ */

/* Makes the descriptor readable, if there is one. */
static void signal_owner(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    if (queue->event_fd < 0 || atomic_load(&queue->is_signalled))
        return;

    atomic_store(&queue->is_signalled, true);
    eventfd_write(queue->event_fd, 1);
}

/* Something is left. A program that has read the eventfd itself has cleared it, and would not be told of the rest. An
 * epoll descriptor cannot be read. */
static void signal_rest(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    const bool may_be_read = queue->event_fd == queue->fd;

    if (may_be_read)
        atomic_store(&queue->is_signalled, false);
    signal_owner(queue);
}

static void clear_signal(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    eventfd_t events;

    if (!atomic_load(&queue->is_signalled))
        return;
    atomic_store(&queue->is_signalled, false);
    eventfd_read(queue->event_fd, &events);
}

static bool has_something(const struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    return queue->first || queue->has_news;
}

/* The descriptor of a queue without a committer; readable at once, if there is something. Or an error. */
static int make_eventfd(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    const bool is_readable = has_something(queue);
    const int fd = twl_descriptor_event(is_readable ? 1 : 0);

    if (fd < 0)
        return fd;
    queue->fd = queue->event_fd = fd;
    atomic_store(&queue->is_signalled, is_readable);
    return fd;
}

int twinlog_queue_fd(struct twinlog_queue *queue)
{
    if (!queue)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;

    NOT_CANCELLED;
    atomic_fetch_add(&queue->inside, 1);
    twl_mutex_lock(&queue->lock);
    int fd = queue->fd;
    if (fd < 0)
        fd = make_eventfd(queue);
    twl_mutex_unlock(&queue->lock);
    atomic_fetch_sub(&queue->inside, 1);
    return fd;
}

static void close_descriptors(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    const bool has_own_eventfd = queue->event_fd >= 0 && queue->event_fd != queue->fd;

    if (has_own_eventfd)
        close(queue->event_fd);
    if (queue->timer_fd >= 0)
        close(queue->timer_fd);
    if (queue->fd >= 0)
        close(queue->fd);
    queue->fd = queue->event_fd = queue->timer_fd = -1;
    atomic_store(&queue->is_signalled, false);
}

/* ---- pushes and news ----------------------------------------------------------------------------- */

/* Something was added. Under the lock, because the queue may be closed as soon as its last request is fetched. */
static void wake_owner(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    struct twinlog_committer *committer = atomic_load(&queue->committer);

    if (queue != polled) /* else this thread looks next */
        signal_owner(queue);
    twl_event_notify_all(&queue->filled);
    if (committer)
        twl_committer_wake(committer);
}

void twl_queue_expect(struct twinlog_queue *queue)
{
    atomic_fetch_add_explicit(&queue->expected, 1, memory_order_relaxed);
}

void twl_queue_push(struct twinlog_queue *queue, struct twinlog_request *first, struct twinlog_request *last)
{
    twl_mutex_lock(&queue->lock);
    if (!queue->first)
        queue->first = first;
    else
        queue->last->next = first;
    queue->last = last;
    atomic_fetch_sub_explicit(&queue->expected, 1, memory_order_relaxed);
    wake_owner(queue);
    twl_mutex_unlock(&queue->lock);
}

void twl_queue_bring_news(struct twinlog_queue *queue)
{
    twl_mutex_lock(&queue->lock);
    if (!queue->is_closed) {
        queue->has_news = true;
        wake_owner(queue);
    }
    twl_mutex_unlock(&queue->lock);
}

/* ---- poll ---------------------------------------------------------------------------------------- */

/* Its program polls it until there is nothing, before it waits for the descriptor. */
static bool is_of_loop(const struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    return queue->timer_fd >= 0;
}

static uint32_t take_requests(struct twinlog_queue *queue, struct twinlog_request **requests, uint32_t max)
    REQUIRES(queue->lock)
{
    uint32_t count = 0;

    while (queue->first && count < max) {
        requests[count] = queue->first;
        queue->first = queue->first->next;
        count++;
    }
    return count;
}

/* Takes news and up to `max` requests. False: there was neither. */
static bool fetch(struct twinlog_queue *queue, struct twinlog_request **requests, uint32_t max,
                  uint32_t *ret_count)
{
    twl_mutex_lock(&queue->lock);
    const bool had_something = has_something(queue);
    const bool is_news_alone = had_something && !queue->first;
    queue->has_news = false;
    *ret_count = take_requests(queue, requests, max);

    /* A loop polls until there is nothing, and cannot tell news alone from that. Its descriptor stays readable once, so
     * that it comes again instead of waiting. */
    const bool must_come_again = is_news_alone && is_of_loop(queue);
    const bool is_driving = atomic_load(&queue->committer) != NULL;
    if (queue->first)
        signal_rest(queue);
    else if (must_come_again)
        signal_owner(queue);
    else if (!is_driving) /* else it may say that there is work since the turn */
        clear_signal(queue);
    twl_mutex_unlock(&queue->lock);
    return had_something;
}

/* Does what the committer can do now. What is signalled from here on is looked at later. */
static void drive(struct twinlog_queue *queue, struct twinlog_committer *committer, bool is_waiting)
{
    atomic_store(&queue->poller, twl_own_mark());
    if (atomic_load(&queue->is_signalled)) {
        twl_mutex_lock(&queue->lock);
        clear_signal(queue);
        twl_mutex_unlock(&queue->lock);
    }
    twl_committer_drive(committer, is_waiting);
}

/* Until the queue has something, or it is `deadline_ns` (0 = no such time). If the queue drives a committer, the thread
 * takes its turn meanwhile, and returns when that had work. */
static void wait_for_more(struct twinlog_queue *queue, struct twinlog_committer *committer, uint32_t seen,
                          uint32_t seen_work, uint64_t deadline_ns)
{
    if (committer && twl_committer_drive_and_wait(committer, seen_work, deadline_ns))
        return;
    twl_event_sleep_until(&queue->filled, seen, deadline_ns);
}

static uint32_t wait_and_fetch(struct twinlog_queue *queue, struct twinlog_request **requests, uint32_t max,
                               bool may_wait, uint64_t deadline_ns)
{
    struct twinlog_committer *committer = NULL;
    uint32_t count = 0;

    for (;;) {
        const uint32_t seen = twl_event_value(&queue->filled);
        if (!committer) { /* it may come while this thread waits */
            committer = atomic_load(&queue->committer);
            if (committer && may_wait)
                twl_committer_begin_wait(committer);
        }
        const uint32_t seen_work = committer ? twl_committer_seen(committer) : 0;
        if (committer)
            drive(queue, committer, may_wait);

        const bool has_any = fetch(queue, requests, max, &count);
        if (has_any || !may_wait)
            break;
        const bool is_late = deadline_ns > 0 && twl_monotonic_ns() >= deadline_ns;
        if (is_late)
            break;
        wait_for_more(queue, committer, seen, seen_work, deadline_ns);
    }

    if (committer && may_wait)
        twl_committer_end_wait(committer);
    return count;
}

/* Disables cancellation: a thread cancelled while it reads the eventfd would never release the lock, and would lose the
 * requests that it has fetched. */
int twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret_requests, uint32_t max,
                       int timeout_ms)
{
    const uint64_t deadline_ns = timeout_ms > 0 ? twinlog_deadline((uint32_t)timeout_ms) : 0;

    if (!queue || !ret_requests || max == 0)
        return -EINVAL;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;

    NOT_CANCELLED;
    const uint32_t most = (uint32_t)min_u64(max, INT32_MAX); /* what a result can say */
    atomic_fetch_add(&queue->inside, 1);
    polled = queue;
    const uint32_t count = wait_and_fetch(queue, ret_requests, most, timeout_ms != 0, deadline_ns);
    polled = NULL;
    atomic_fetch_sub(&queue->inside, 1);
    return (int)count;
}

/* ---- driving a committer ------------------------------------------------------------------------- */

static int add_to_epoll(int epoll_fd, int fd)
{
    struct epoll_event event = { .events = EPOLLIN };

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int make_descriptors(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    queue->fd = twl_descriptor_epoll();
    if (queue->fd < 0)
        return queue->fd;
    queue->event_fd = twl_descriptor_event(0);
    if (queue->event_fd < 0)
        return queue->event_fd;
    queue->timer_fd = twl_descriptor_timer();
    if (queue->timer_fd < 0)
        return queue->timer_fd;

    const int rc = add_to_epoll(queue->fd, queue->event_fd);
    if (rc < 0)
        return rc;
    return add_to_epoll(queue->fd, queue->timer_fd);
}

/* They may be there from a committer before. */
static int prepare_descriptors(struct twinlog_queue *queue) REQUIRES(queue->lock)
{
    if (is_of_loop(queue))
        return 0;
    if (queue->fd >= 0) /* the program knows an eventfd, which cannot say what an epoll descriptor does */
        return -EBUSY;

    const int rc = make_descriptors(queue);
    if (rc < 0)
        close_descriptors(queue);
    return rc;
}

static int attach_ring(struct twinlog_queue *queue, struct twinlog_committer *committer, int ring_fd)
    REQUIRES(queue->lock)
{
    const int rc = add_to_epoll(queue->fd, ring_fd);

    if (rc < 0)
        return rc;
    queue->ring_fd = ring_fd;
    atomic_store(&queue->committer, committer);
    twl_event_notify_all(&queue->filled); /* a poll may have begun meanwhile */
    return 0;
}

static int attach(struct twinlog_queue *queue, struct twinlog_committer *committer, int ring_fd)
    REQUIRES(queue->lock)
{
    const bool drives_another = atomic_load(&queue->committer) != NULL;
    const bool is_polled = atomic_load(&queue->inside) > 0;
    if (drives_another || is_polled)
        return -EBUSY;

    int rc = prepare_descriptors(queue);
    if (rc == 0 && ring_fd >= 0)
        rc = attach_ring(queue, committer, ring_fd);
    if (rc < 0)
        return rc;

    if (has_something(queue))
        signal_owner(queue);
    return 0;
}

int twl_queue_attach(struct twinlog_queue *queue, struct twinlog_committer *committer, int ring_fd)
{
    twl_mutex_lock(&queue->lock);
    const int rc = attach(queue, committer, ring_fd);
    twl_mutex_unlock(&queue->lock);
    return rc;
}

static void stop_timer(struct twinlog_queue *queue)
{
    twl_descriptor_set_timer(queue->timer_fd, 0);
    queue->timer_ns = 0;
}

/* The committer is taken away before the look whether a thread polls: one that begins later finds none. The descriptors
 * stay, since the program knows one of them. */
int twl_queue_detach(struct twinlog_queue *queue)
{
    twl_mutex_lock(&queue->lock);
    struct twinlog_committer *committer = atomic_exchange(&queue->committer, NULL);
    const bool is_busy = atomic_load(&queue->inside) > 0;
    if (is_busy) {
        atomic_store(&queue->committer, committer);
        twl_event_notify_all(&queue->filled); /* a poll may have begun meanwhile */
    } else {
        stop_timer(queue);
    }
    twl_mutex_unlock(&queue->lock);
    return is_busy ? -EBUSY : 0;
}

void twl_queue_signal(struct twinlog_queue *queue)
{
    twl_mutex_lock(&queue->lock);
    signal_owner(queue);
    twl_mutex_unlock(&queue->lock);
}

void twl_queue_call(struct twinlog_queue *queue)
{
    if (atomic_load(&queue->poller) != twl_own_mark())
        twl_queue_signal(queue);
}

void twl_queue_be_quiet(struct twinlog_queue *queue, bool is_quiet)
{
    struct epoll_event event = { .events = is_quiet ? 0 : EPOLLIN };

    if (queue->is_quiet == is_quiet)
        return;
    const bool was_polled = atomic_load(&queue->poller) != NULL;
    if (is_quiet && !was_polled)
        return;

    epoll_ctl(queue->fd, EPOLL_CTL_MOD, queue->ring_fd, &event); /* the ring is in the set: it cannot fail */
    queue->is_quiet = is_quiet;
    if (is_quiet && queue->timer_ns > 0)
        stop_timer(queue);
}

void twl_queue_wake(struct twinlog_queue *queue)
{
    twl_event_notify_all(&queue->filled);
}

/* An earlier time stays: the descriptor may become readable without a reason. */
void twl_queue_set_timer(struct twinlog_queue *queue, uint64_t until_ns)
{
    if (queue->timer_ns > 0 && queue->timer_ns <= until_ns)
        return;
    if (twl_descriptor_set_timer(queue->timer_fd, until_ns) == 0)
        queue->timer_ns = until_ns;
}

bool twl_queue_take_timer(struct twinlog_queue *queue)
{
    uint64_t ends;

    if (queue->timer_ns == 0 || twl_monotonic_ns() < queue->timer_ns)
        return false;
    if (read(queue->timer_fd, &ends, sizeof(ends)) != sizeof(ends))
        return false; /* it is about to end, by another look at the clock */
    queue->timer_ns = 0;
    return true;
}

/* ---- close --------------------------------------------------------------------------------------- */

int twinlog_queue_close(struct twinlog_queue *queue)
{
    if (!queue)
        return 0;
    if (twl_fork_guard_is_forked(&queue->guard))
        return TWINLOG_EFORKED;

    NOT_CANCELLED;
    twl_mutex_lock(&queue->lock);
    const bool has_requests = queue->first || atomic_load(&queue->expected) > 0;
    const bool is_polled = atomic_load(&queue->inside) > 0;
    const bool is_driving = atomic_load(&queue->committer) != NULL;
    const bool is_busy = has_requests || is_polled || is_driving;
    if (!is_busy) {
        queue->is_closed = true;
        close_descriptors(queue);
    }
    twl_mutex_unlock(&queue->lock);

    if (is_busy)
        return -EBUSY;
    twl_queue_let_go(queue);
    return 0;
}
