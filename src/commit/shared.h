/* SPDX-License-Identifier: Apache-2.0 */
/* A committer, and what only one that many logs share does; for committer.c and shared.c. */
#ifndef TWL_SHARED_H
#define TWL_SHARED_H

#include "base/fork.h"
#include "commit/inside.h"
#include "io/ring.h"

struct twinlog_committer {
    struct fork_guard guard;      /* [const] */
    struct committer_seat *alone; /* [const] the seat of a log that has it for itself, NULL = shared */
    pthread_t thread;             /* [const] */
    _Atomic bool must_stop;

    /* shared: */
    struct io_ring *ring;                  /* [const] NULL = none is to be had */
    _Atomic uint32_t seats;                /* taken */
    struct committer_seat *_Atomic called; /* seats that were called, the newest first */
    _Atomic bool is_asleep;                /* whoever calls has to wake it */
    struct twl_event wake;                 /* without a ring it sleeps on it */
    struct twl_event left;                 /* notified when a seat was let go */
    struct twl_mutex lock;
    struct committer_seat *flush; /* [lock] seats with a flush interval */
    _Atomic uint64_t flush_ns;    /* [lock to store] when the next one is due; 0 = none will be */
    /* [thread] */
    struct committer_seat *first, *last; /* queued */
    struct committer_seat *filling;
    uint64_t look_ns; /* when to look at them, 0 = when one is called */
    uint32_t room;    /* for so many more writes */
};

static inline uint64_t flush_interval_ns(const struct committer_seat *seat)
{
    return (uint64_t)seat->commit->options.flush_interval_ms * 1000000;
}
/* Demands a flush when one is due within `ahead_ns`, and sets seat->flush_ns to the time of the next one. True if
 * there is something to be flushed. */
bool twl_seat_flush(struct committer_seat *seat, uint64_t ahead_ns);

void *twl_shared_run(void *committer);
/* Is this its committer's thread? */
bool twl_shared_is_ours(const struct committer_seat *seat);
/* Any thread: */
void twl_shared_wake(struct twinlog_committer *committer);
void twl_shared_call(struct committer_seat *seat);
void twl_shared_join_flush(struct committer_seat *seat);
void twl_shared_leave(struct committer_seat *seat);

#endif
