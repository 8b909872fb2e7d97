/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue that holds completed requests until they are fetched.
 *
 * A queue notifies its owner by a futex word for threads that wait in twinlog_queue_poll(), and by a descriptor,
 * made on demand, that is readable while there is something to fetch: requests, or news. News is that a call which a
 * log has refused may succeed now, that a flush has ended, or that a log has failed.
 *
 * Without a committer the descriptor is an eventfd. A queue that drives a committer (committer.c) has it as soon as
 * the committer does. It is an epoll descriptor then, over that eventfd, over the ring, which is readable when a write
 * is done, and over a timer. The eventfd also says that another thread has brought work. What a thread does while it
 * polls the queue is not signalled: it looks next.
 *
 * The memory of a queue is freed when its owner has closed it and no log knows it any more.
 */
#ifndef TWL_COMMIT_QUEUE_H
#define TWL_COMMIT_QUEUE_H

#include "base/fork.h"
#include "base/sync.h"
#include "twinlog.h"

struct twinlog_queue {
    struct fork_guard guard; /* [const] */
    struct twl_mutex lock;
    struct twinlog_request *first, *last; /* [lock] */
    bool has_news;                        /* [lock] */
    bool is_closed;                       /* [lock] by its owner */
    int fd;                               /* [lock] what the program waits for; -1 = not requested yet */
    int event_fd;                         /* [lock] the eventfd: the same, or behind it */
    _Atomic bool is_signalled;            /* [lock to store] the eventfd is readable */
    struct twl_event filled;              /* notified after each push, and when there is news */
    _Atomic uint64_t expected;            /* [atomic] number of pushes to come */
    _Atomic uint32_t inside;              /* [atomic] calls that have not returned */
    _Atomic uint32_t holders;             /* [atomic] the owner, and logs that know the queue */

    struct twinlog_committer *_Atomic committer; /* [lock to store] that it drives; NULL = none */
    const void *_Atomic poller; /* the mark of the thread that has polled last; NULL = none has */
    int timer_fd, ring_fd;      /* [lock; const while it has a committer] */
    uint64_t timer_ns;          /* [the committer's turn] when the timer ends; 0 = it does not run */
    bool is_quiet;              /* [the committer's turn] */
};

/* A mark that no other thread of the process has, or will have. */
const void *twl_own_mark(void);

/* The queue was closed by its owner. */
bool twl_queue_was_closed(struct twinlog_queue *queue);
void twl_queue_hold(struct twinlog_queue *queue);
void twl_queue_let_go(struct twinlog_queue *queue);

/* A push will come. */
void twl_queue_expect(struct twinlog_queue *queue);
/* Adds these completed requests, linked by `next`. The queue may be closed before this returns. */
void twl_queue_push(struct twinlog_queue *queue, struct twinlog_request *first, struct twinlog_request *last);
void twl_queue_bring_news(struct twinlog_queue *queue);

/* ---- of a queue that drives a committer ---------------------------------------------------------- */

/* Before a log has the committer. `ring_fd` is -1 if the committer has got a thread, for want of a ring: it is not
 * driven then, but its program polls the queue as if it were. -EBUSY: the queue drives another one, its descriptor was
 * made before it drove any, or a thread polls it. */
int twl_queue_attach(struct twinlog_queue *queue, struct twinlog_committer *committer, int ring_fd);
/* -EBUSY: a thread polls the queue. */
int twl_queue_detach(struct twinlog_queue *queue);

/* The committer has work. Makes the descriptor readable, unless the calling thread is the last that polled: that polls
 * again before it waits, as its program was told. */
void twl_queue_call(struct twinlog_queue *queue);
/* Makes it readable in any case. */
void twl_queue_signal(struct twinlog_queue *queue);
/* Threads that wait in twinlog_queue_poll() may drive the committer now. */
void twl_queue_wake(struct twinlog_queue *queue);
/* While a thread with the committer's turn sleeps in the ring, neither the ring nor the timer makes the descriptor
 * readable: they are for that thread. A loop would find nothing to do, and come again at once. Does nothing before any
 * poll. */
void twl_queue_be_quiet(struct twinlog_queue *queue, bool is_quiet);
/* Makes the descriptor readable at `until_ns` on CLOCK_MONOTONIC, or earlier. */
void twl_queue_set_timer(struct twinlog_queue *queue, uint64_t until_ns);
/* True if the timer has ended: it does not run any more. */
bool twl_queue_take_timer(struct twinlog_queue *queue);

#endif
