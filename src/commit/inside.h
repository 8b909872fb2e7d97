/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two buffers (twins) and the structs around them, for the files of this layer:
 *
 *     append.c       an append: measure, take a place, copy, wait; begin to read here
 *     lead.c         the leader's round: gather, swap, write, sync, publish, hand on
 *     place.c        places: the next segment, the queue of waiters, the decision; it calls neither of the two
 *     requests.c     completes requests, in order
 *     queue.c        the queue that holds them until they are fetched; it may drive a committer
 *     committer.c    leads for callers that do not: a thread of one log or of many, or those that poll a queue
 *     commit.c       create, stop, restart, statistics, destroy; marker groups
 *
 * The writers fill one buffer while the leader writes the other. A buffer holds one group, laid out as on disk:
 *
 *     | end of the block before | group header | record | record | ...     | zeros |
 *     0                       start        start+64                      used    block
 *
 * The write begins at a block boundary, so that it can be direct I/O. In the dense layout its first `start` bytes are
 * the last, partly filled block of the group before, written again byte for byte (I3). Their number is known when the
 * buffers are swapped, and the leader copies at most 4095 bytes. In the padded layout every group begins on a new
 * block, and no block is written twice.
 */
#ifndef TWL_COMMIT_INSIDE_H
#define TWL_COMMIT_INSIDE_H

#include "base/statistics.h"
#include "base/sync.h"
#include "commit/commit.h"

#define CACHE_LINE 64

/* Requests that are completed together, oldest first. Consecutive requests for the same queue are a run: the private
 * word of its first request is the address of its last, so the run can be passed on without a walk through it. */
struct requests {
    struct twinlog_request *first, *last;
    struct twinlog_request *run; /* the first of the last run */
    uint64_t count;
};

struct twin {
    unsigned char *bytes;                         /* [lock; leader stores] array of buffer_bytes */
    uint64_t first_lsn;                           /* [lock] of its first record */
    uint64_t offset;                              /* [lock] where in its segment byte 0 goes */
    int64_t min_ns, max_ns;                       /* [lock] of the times of its records */
    uint32_t start;                               /* [lock] of the group header */
    uint32_t used;                                /* [lock] */
    uint32_t limit;                               /* [lock] most bytes to use; never below `used` */
    uint32_t count;                               /* [lock] records */
    uint32_t waiters;                             /* [lock] writers that wait for the group */
    bool wants_sync;                              /* [lock] a record in it is to be durable */
    bool needs_committer;                         /* [lock] a caller that does not lead waits for it */
    struct requests requests;                     /* [lock; leader, when sealed] completed with the group */
    _Atomic uint32_t places;                      /* [lock to store] given to writers */
    _Alignas(CACHE_LINE) _Atomic uint32_t filled; /* [atomic] those of them that are written */
    _Atomic bool is_sealed;                       /* [atomic] the leader waits for the copies */
    struct twl_event copied;                      /* the leader sleeps on it */
    struct twl_event done;                        /* the writers of its records sleep on it */
    _Atomic uint64_t done_ns;                     /* [leader stores] when its last group was done */
};

/* Writers that still copy into the buffer. Of a buffer that is being filled only with the lock. Two counters, since the
 * lock is there when a place is given: a writer pays for one atomic operation. */
static inline uint32_t copies_left(const struct twin *twin)
{
    const uint32_t filled = atomic_load(&twin->filled);
    return atomic_load_explicit(&twin->places, memory_order_relaxed) - filled;
}

/* What calls time, for the gauges of the same names. */
enum sampled {
    SAMPLE_QUEUE,
    SAMPLE_COPY,
    SAMPLE_WAKE,
    SAMPLE_TOTAL
};

/* What a writer needs a place for: records, and what it will wait for. */
struct need {
    uint32_t bytes, count;
    int64_t min_ns, max_ns; /* of the times of its records */
    bool will_wait;         /* the writer waits until its group is done, and may lead */
    bool wants_sync;
    bool needs_committer;
    uint64_t payload_bytes;
    struct twinlog_request *request; /* may be NULL */
};

struct place {
    struct twin *twin;
    unsigned char *at;
    uint64_t lsn;   /* of the first record */
    bool must_call; /* call the committer when the record is copied */
};

/* A writer that found no room and is queued. The struct is on its stack. Before other writers can use the next buffer,
 * the leader gives places in it to the waiters, in the order of the queue: so small records that always fit do not keep
 * a large one waiting. All fields are [lock]. */
struct waiter {
    const struct need *need;
    struct place place; /* its twin is NULL until it is given */
    bool is_queued;
    struct waiter *next;
    uint64_t since;      /* see twl_keeper_want() */
    bool awaits_segment; /* else a commit */
    bool has_asked;      /* the keeper, for a segment that was not ready: twl_keeper_help() must follow */
    bool has_awaited_segment;
};

struct CAPABILITY("leadership") leadership {
    twl_flag is_taken;
};

enum round_step {
    ROUND_BEGIN,
    ROUND_COPY, /* the buffers are swapped */
    ROUND_SYNC, /* earlier writes are synced */
    ROUND_WRITE /* its group is written */
};
/* A round of the leader: a group, or only a sync of earlier writes. */
struct round {
    struct twin *sealed; /* NULL: only a sync */
    enum group_kind kind;
    enum round_step step;
    struct group_header group;
    struct io_write write; /* of the step; without bytes it is only a barrier over the whole file */
    uint32_t joined;       /* writers that wait for the group, and requests that are completed with it */
    bool is_synced;        /* after the round all its records, and earlier ones, are durable */
    bool is_demanded;      /* callers also wait for a sync of earlier writes */
    uint64_t appends, append_bytes, requests; /* the sums of the log, when it was begun */
    uint64_t began_ns;                        /* when its buffer was complete */
};

/* What a log is to its committer: a client. */
struct committer_client {
    struct twinlog_committer *_Atomic committer; /* NULL = none yet */
    struct twl_mutex making;                     /* to make it: the log's lock is for what takes no time */
    bool is_shared;          /* [const] only the committer leads, except for marker groups */
    bool is_driven;          /* [const] it is shared, and a thread that waits does what there is to do */
    struct twl_event called; /* the log's own committer sleeps on it */
    _Atomic uint32_t flush_interval_ms; /* [atomic] 0 = none */
    _Atomic uint64_t flush_ns; /* [atomic] when the next flush is due; 0 = there is nothing to flush */

    /* at a shared committer: */
    twl_flag is_called;         /* it is in the list of called clients */
    struct commit *next_called; /* [the thread that has set is_called, then the committer] */
    struct commit *next_client; /* [committer's lock] */
    _Atomic bool is_leaving;
    _Atomic bool has_left; /* the committer's answer: it does not touch the log any more */
    /* [the committer's turn, or its thread] */
    bool is_busy;        /* queued, or in a round: filling, or writing */
    struct commit *next; /* queued, or filling */
};

struct commit {
    struct io *io;                  /* [const] */
    struct keeper *keeper;          /* [const] */
    struct twinlog_options options; /* [const] */
    uint16_t group_flags;           /* [const] of each group */
    struct epoch epoch;             /* [const but for a restart] */
    uint32_t epoch_seed;            /* [const but for a restart] */
    struct shared_page *shared;     /* [const] */
    /* [const pointer] those of the page: a store to them may wait for the disk. Only the leader stores to them, and
     * behind its write: a shared committer serves other logs until that ends */
    struct statistics *statistics;
    struct counters *counters; /* [const pointer] private memory of the log */
    void *memory;              /* [const] both buffers, as allocated */

    _Alignas(CACHE_LINE) struct twl_mutex lock;
    uint32_t filling;          /* [lock] index of the buffer that writers fill */
    uint64_t appends;          /* [lock] records of the groups that were begun */
    uint64_t append_bytes;     /* [lock] payload accepted */
    uint64_t requests;         /* [lock] accepted */
    _Atomic uint64_t last_lsn; /* [lock to store] newest accepted */
    bool needs_sync;           /* [lock] a caller waits for a sync of written records */
    uint64_t flushed_lsn;      /* [lock] the newest one that a flush has demanded */
    uint64_t news_lsn;         /* [lock] queues get news when this one, of a flush, is durable; 0 = of none */
    struct waiter *first_waiter, **waiters_end; /* [lock] */
    uint64_t next_room;  /* [lock] bytes that a group may have in `next`; 0 = no next segment */
    struct segment next; /* [lock] where the group of the filling buffer goes */

    struct twin twins[2];

    _Alignas(CACHE_LINE) struct watermark durable; /* [leader stores] */
    _Atomic uint64_t written;                      /* [leader stores] */
    _Atomic int poison;                            /* [leader stores] 0 or the error */
    _Atomic int abandoned;  /* [atomic] 0 or an error with which the next leader poisons the log */
    struct twl_event space; /* notified after a swap of the buffers, and after an attempt to make a segment */

    _Alignas(CACHE_LINE) struct leadership leadership;
    struct segment segment; /* [leader, with the lock to exchange it] the active one */
    /* the fields up to `delivery` are [leader] */
    struct waiter *own_waiter; /* of the leader, if it waits for a place; its round may give it one */
    struct segment left;       /* the previous segment, until the active one has a group; file NULL = none */
    uint32_t chain;            /* checksum of the last group header written */
    bool has_asked_spare;      /* the segment after the active one was ordered */
    uint64_t recent_groups, recent_bytes; /* groups of records since the last order */
    uint32_t expected;                    /* writers and requests that will probably join the next group */
    uint64_t sync_ns;                     /* smoothed duration of a commit */
    uint32_t gather_misses;               /* gatherings in a row that ended without all expected writers */
    uint32_t gather_skips;                /* groups until the next gathering */
    _Atomic uint32_t batch_floor; /* in a crowd: records that a group should have before one leads; else 0 */
    struct samples samples;       /* of calls; the leader adds them to the statistics */
    struct committer_client client;   /* of this log at its committer */
    struct keeper_listener when_made; /* [const] */

    struct twl_mutex listening;
    struct listener *listeners; /* [listening] the queues that are told of this log */
    _Atomic(struct twinlog_queue *)
        newest_listener;  /* [listening to store] of the last call; NULL = unknown */
    twl_flag has_refused; /* [atomic] a call with TWINLOG_TRY, and the queues were not told since */

    struct round round; /* [leader] used by a shared committer */
};

static inline struct twin *other_twin(struct commit *c, const struct twin *twin)
{
    return twin == &c->twins[0] ? &c->twins[1] : &c->twins[0];
}

/* ---- place.c ---- */
/* Makes the buffer the filling one, for a group with its header at `offset`. */
void twl_fill_twin(struct commit *c, uint32_t index, uint64_t offset, uint64_t first_lsn) REQUIRES(c->lock);
/* Gives places in the filling buffer, which is empty, to the waiters. */
void twl_grant_places(struct commit *c) REQUIRES(c->lock);
/* Takes the next segment from the keeper, if one for a group of `group_bytes` is ready; the filling buffer's group goes
 * there. */
bool twl_take_next(struct commit *c, uint64_t group_bytes) REQUIRES(c->lock);
/* Waits until twl_take_next() would find a segment. Never under the lock; by a leader only for a marker group. */
int twl_wait_for_next(struct commit *c, uint64_t group_bytes);
uint64_t twl_group_room(uint64_t record_bytes);
uint64_t twl_room_for_markers(const struct segment *segment);
/* A new writer that finds room, as most do. */
bool twl_take_at_once(struct commit *c, const struct need *need, struct place *ret_place);
/* For a writer that found no room. An error; or 0, and if *ret_has_place, the place is waiter->place. Else the writer
 * waits, and comes again. In each case waiter->place.must_call. */
int twl_admit(struct commit *c, struct waiter *waiter, const struct terms *terms, bool *ret_has_place);

/* ---- append.c ---- */
int twl_commit_append(void *commit, const struct batch *batch, const struct terms *terms, uint64_t *ret_lsn);
void twl_finish_copy(struct commit *c, struct twin *twin);

/* ---- lead.c ---- */
bool twl_try_lead(struct commit *c) TRY_ACQUIRES(true, c->leadership);
void twl_lead_patiently(struct commit *c) ACQUIRES(c->leadership); /* when leaders are few and brief */
/* A whole round. False if there was nothing to write. */
bool twl_lead_round(struct commit *c, enum group_kind kind, struct round *round) REQUIRES(c->leadership);
/* Its parts, for a shared committer. The round is { .kind } at first. */
/* Swaps the buffers. False if there is nothing to write. */
bool twl_round_begin(struct commit *c, struct round *round) REQUIRES(c->leadership);
/* When the last copy is done, and then with the result of each write: true if round->write is to be done next. Else the
 * round is over: all is published, or the log poisoned, and the requests are completed. */
bool twl_round_go_on(struct commit *c, struct round *round, int rc) REQUIRES(c->leadership);
/* `is_tried`: another function has made the first try. */
int twl_round_write(struct commit *c, struct round *round, bool is_tried) REQUIRES(c->leadership);
/* The only way to give up leadership. Wakes the threads that wait for the round, which is NULL if nothing was written,
 * and a thread for each demand that was made meanwhile. */
void twl_release_leadership(struct commit *c, const struct round *round) RELEASES(c->leadership);
/* Leads a round if there is anything to write; false: another thread leads. `waiter` is NULL, or that of a writer that
 * looks for a place: if it has got its place meanwhile, it leads no round: a leader waits for every copy into its
 * group, so for its own. */
bool twl_lead(struct commit *c, struct waiter *waiter);
/* Wakes the threads that sleep on the log: not one that sleeps in the ring of a committer. */
void twl_wake_waiters(struct commit *c);
/* For a writer with a record that is not done yet: leads if it may, else calls the committer, or drives it. True: look
 * again; false: it may sleep. `waiter` as for twl_lead(); `seen` as for twl_client_drive(). */
bool twl_help(struct commit *c, const struct terms *terms, struct waiter *waiter, uint32_t seen);

/* ---- requests.c ---- */
/* Sets the result of the buffer's requests, 0 or TWINLOG_EPOISONED, and hands them to their queues. Only the leader
 * calls it: they stay in order. */
void twl_complete(struct commit *c, struct twin *twin, int result);
/* Adds the request of a place to its buffer. */
void twl_attach_request(struct commit *c, struct twin *twin, const struct need *need, uint64_t lsn)
    REQUIRES(c->lock);

/* There may be room: for writers that sleep until there is, and for calls that were refused. */
void twl_announce_room(struct commit *c);
/* Brings news to the queues that listen. */
void twl_tell_queues(struct commit *c);
/* For the destruction of the log. */
void twl_forget_listeners(struct commit *c);

/* ---- committer.c ---- */
/* Makes the log a client of the shared committer; NULL = of none. */
void twl_client_take(struct commit *c, struct twinlog_committer *shared);
/* Calls the committer, if there is one, to look for work. */
void twl_client_call(struct commit *c);
/* The same, by a thread that goes on to wait, so that it drives a driven one itself. */
void twl_client_call_before_wait(struct commit *c);
/* Must follow after a record was accepted that nobody syncs: a flush is due after the interval, if there is one. */
void twl_client_note_unsynced(struct commit *c);
int twl_commit_set_flush_interval(void *commit, uint32_t interval_ms);
/* Leaves the committer, once; on return it does not touch the log any more. */
void twl_client_leave(struct commit *c);

/* At a driven committer threads that wait for a log do its work. With another one these do nothing. */
void twl_client_begin_wait(struct commit *c);
void twl_client_end_wait(struct commit *c);
/* As twl_committer_seen(). */
uint32_t twl_client_seen(struct commit *c);
/* As twl_committer_drive_and_wait(); false also if the committer has a thread. `waiter` as for twl_lead(). */
bool twl_client_drive(struct commit *c, struct waiter *waiter, uint32_t seen, uint64_t deadline_ns);
/* As twl_committer_wake(). */
void twl_client_wake(struct commit *c);
/* For a thread that waits until leadership is free: drives, or sleeps, for a millisecond at most. */
void twl_client_wait_briefly(struct commit *c);

/* Of a driven committer, which the threads of the program drive: */
/* Does what can be done now, unless another thread does it. `is_waiting`: between the next two. */
void twl_committer_drive(struct twinlog_committer *committer, bool is_waiting);
/* Around a wait: such a thread is woken to take the turn. */
void twl_committer_begin_wait(struct twinlog_committer *committer);
void twl_committer_end_wait(struct twinlog_committer *committer);
/* Changes when there is work, and when a thread has to look whether its wait is over. */
uint32_t twl_committer_seen(struct twinlog_committer *committer);
/* For a thread that waits. Does what can be done, and sleeps if that is nothing: until there is work, it is
 * `deadline_ns`, or twl_committer_seen() does not return `seen`. True: look again. False: another thread does it. */
bool twl_committer_drive_and_wait(struct twinlog_committer *committer, uint32_t seen, uint64_t deadline_ns);
/* Wakes the thread that sleeps there. */
void twl_committer_wake(struct twinlog_committer *committer);

static inline bool has_committer(const struct commit *c)
{
    return atomic_load_explicit(&c->client.committer, memory_order_acquire) != NULL;
}
/* True if a call on these terms may commit; a commit cannot be interrupted. */
static inline bool may_lead(const struct commit *c, const struct terms *terms)
{
    const bool has_time = terms->deadline_ns == 0 && !terms->cancel;
    return !c->client.is_shared && (has_time || !has_committer(c));
}

#endif
