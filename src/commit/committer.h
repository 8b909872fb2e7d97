/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that leads for those who don't: for requests, for calls with a deadline, for the flush interval.
 * A log has one of its own, started when it is first needed, or shares one with others.
 *
 * A shared one leads its logs alone, and keeps writes of several of them in flight at a time: shared.c. It sleeps
 * nowhere but in its own loop; when a callback that it has called waits for something, it turns there meanwhile.
 */
#ifndef TWL_COMMITTER_H
#define TWL_COMMITTER_H

#include "base/sync.h"
#include "twinlog.h"

struct commit;

/* A log's place at its committer. */
enum seat_state {
    SEAT_IDLE,
    SEAT_QUEUED,  /* has its turn when there is room for another write */
    SEAT_FILLING, /* its round has begun; copies into it are going on */
    SEAT_WRITING  /* in flight */
};
struct committer_seat {
    struct commit *commit;                       /* [const] */
    struct twinlog_committer *_Atomic committer; /* NULL = none yet */
    bool is_shared;                              /* [const] nobody else leads, but for marks */
    bool has_ring;                               /* [const] its writes go through the committer's ring */
    struct twl_event called;                     /* threads that lead for this log alone sleep on it */
    _Atomic bool is_over;        /* nobody is to lead by call any more, no committer is to come */
    _Atomic bool has_left;       /* the committer is none of its own any more */
    _Atomic bool is_in_callback; /* the log's own committer waits somewhere else, as a writer does */
    _Atomic uint64_t flush_ns;   /* [who leads by call] when the next flush is due; 0 = unknown */

    /* at a shared committer: */
    _Atomic bool is_called;             /* it is among the called ones */
    struct committer_seat *next_called; /* [who has set is_called, then the thread] */
    struct committer_seat *next_flush;  /* [committer's lock] */
    _Atomic bool is_leaving;
    /* [thread] */
    enum seat_state state;
    bool has_round;              /* it has begun a round */
    unsigned users;              /* turns that are in the middle of a callback for it */
    struct committer_seat *next; /* queued, or filling */
};

/* Takes a seat at the shared committer, if there is one. */
void twl_seat_take(struct committer_seat *seat, struct commit *commit, struct twinlog_committer *shared);
/* From now on flushes are due. */
void twl_seat_start(struct committer_seat *seat);
/* Makes sure that there is a committer, starting one if need be: 0, or why there can't be one. -ENOTSUP where no
 * thread may be started. */
int twl_seat_need(struct committer_seat *seat);
/* Is this the log's own committer, in a callback? Nobody else would lead for it. */
bool twl_seat_is_mine(const struct committer_seat *seat);
/* Is this the thread of its shared committer, in a callback of whichever log? */
bool twl_seat_is_in_callback(const struct committer_seat *seat);
/* Tells the committer, if there is one, to look. */
void twl_seat_call(struct committer_seat *seat);
/* For a caller who waits and may not lead. True: it should look again. False: it may sleep. */
bool twl_seat_help(struct committer_seat *seat);
/* Leaves, once; on return no committer touches the log any more. `is_forked`: in a child. */
void twl_seat_leave(struct committer_seat *seat, bool is_forked);

static inline bool seat_has_committer(const struct committer_seat *seat)
{
    return atomic_load_explicit(&seat->committer, memory_order_acquire) != NULL;
}

#endif
