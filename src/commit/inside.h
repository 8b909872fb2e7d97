/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two buffers and what stands around them, for the files of this layer:
 *
 *     commit.c     made, restarted, looked at; the marks
 *     put.c        a writer's way in: room, a place, the copy; who found none waits in a line
 *     wait.c       a writer's way out: until its LSN is at the level it wants
 *     lead.c       the leader's round: gather, swap, write, sync, publish, hand on
 *     deliver.c    requests are completed, in order
 *     queue.c      where completed requests wait to be fetched
 *     hold.c       places that callers write into themselves
 *     committer.c  the thread that leads for those who don't
 *     shared.c     the same for many logs at a time
 *
 * One twin is filled by the writers while the leader writes the other. A twin holds one group, laid out as it
 * will be on disk:
 *
 *     | end of the block before | group header | record | record | ...     | zeros |
 *     0                       start        start+64                      used    block
 *
 * The write begins at a block boundary, so that it can be direct I/O. In the dense layout its first
 * `start` bytes are the last, partly filled block of the group before, written again byte for byte (I3):
 * where they begin is known when the twins are swapped, and the leader copies at most 4095 bytes. In
 * the padded layout every group begins on a new block and nothing is ever rewritten.
 */
#ifndef TWL_COMMIT_INSIDE_H
#define TWL_COMMIT_INSIDE_H

#include "base/gauge.h"
#include "base/sync.h"
#include "commit/commit.h"
#include "commit/committer.h"

#define CACHE_LINE 64
#define MAX_HOLDS 256u

/* Requests that are completed together, oldest first. Those that follow each other and go to the same queue are a
 * run: the private word of its first one is the address of its last, so that nobody has to walk through it. */
struct requests {
    struct twinlog_request *first, *last;
    struct twinlog_request *run; /* the first of the last run; NULL if that is none, but a call */
    uint64_t count;
};

struct twin {
    unsigned char *bytes;                          /* [lock; leader stores] buffer_bytes of them */
    bool is_moved;                                 /* [leader] they are no part of commit.memory any more */
    uint64_t first_lsn;                            /* [lock] of the first record in it */
    uint64_t offset;                               /* [lock] where in its segment byte 0 goes */
    int64_t min_ns, max_ns;                        /* [lock] of the times of its records */
    uint32_t start;                                /* [lock] of the group header */
    uint32_t used;                                 /* [lock] */
    uint32_t limit;                                /* [lock] it may be used so far; never below `used` */
    uint32_t count;                                /* [lock] records */
    uint32_t waiters;                              /* [lock] of them from writers that wait for it */
    uint32_t holds;                                /* [lock] reservations in it that are not settled */
    bool wants_sync;                               /* [lock] something in it is to be durable */
    bool needs_committer;                          /* [lock] somebody wants it who does not lead */
    struct requests requests;                      /* [lock] to be completed with it */
    _Alignas(CACHE_LINE) _Atomic uint32_t copying; /* [atomic] writers still copying, and reservations */
    _Atomic bool is_sealed;                        /* [atomic] the leader waits for `copying` */
    struct twl_event copied;                       /* the leader sleeps on it */
    struct twl_event done;                         /* the writers in this twin sleep on it */
    _Atomic uint64_t done_ns;                      /* [leader stores] when its last group was done */
};

/* Getting the next segment made: one writer at a time sees to it, and those who find him at it sleep. All is
 * [lock]. */
struct growth {
    bool is_going_on;
    uint32_t wanted; /* bytes of the records that the latest attempt is for */
    uint64_t begun;  /* attempts so far */
    uint64_t failed; /* which of them failed last, 0 = none */
    uint32_t bytes;  /* of the records that one was for */
    int error;       /* of it */
};

/* What a writer needs a place for. */
struct need {
    uint32_t bytes, count;
    int64_t min_ns, max_ns; /* of the times of its records */
    bool will_wait;         /* it sleeps until its group is done, and leads if nobody does */
    bool wants_sync;
    bool needs_committer;
    uint64_t payload_bytes;
    struct hold *hold;               /* to be opened with the place; may be NULL */
    struct twinlog_request *request; /* may be NULL */
};

struct place {
    struct twin *twin;
    unsigned char *at;
    uint64_t lsn;   /* of the first record */
    bool must_call; /* the committer, when the record is there */
};

/* A writer that found no room stands in line, on its own stack. The leader gives out places in the twin that
 * he opens, first come first served, before anybody else finds it: so a large record is not kept waiting by
 * small ones that always fit. Whose record needs another segment keeps his place in the line while that is made.
 * All is [lock]. */
enum claim_state {
    CLAIM_NONE,
    CLAIM_QUEUED,
    CLAIM_GRANTED
};
struct claim {
    const struct need *need;
    struct place place;
    struct claim *next;
    enum claim_state state;
    bool must_grow;   /* it is its turn, but it has to see to the next segment first */
    bool has_ordered; /* a try: the next segment */
    bool had_failed;  /* a try: the attempt before that */
};

struct CAPABILITY("leadership") leadership {
    _Atomic bool is_taken;
};

/* A reservation; see hold.c. All is [lock]. */
enum hold_state {
    HOLD_FREE = 0,
    HOLD_TAKEN,    /* by somebody who looks for a place */
    HOLD_OPEN,     /* the caller writes */
    HOLD_SETTLING, /* the caller has come back; it is being made a record */
    HOLD_GIVEN_UP  /* its record is void already; `old` is what the caller may still write to */
};
struct hold {
    enum hold_state state;
    uint32_t generation;
    struct place place;
    struct record_header record;
    uint64_t expires_ns;
    struct old_buffer *old;
};

/* A round of the leader: a group, or nothing but a sync of what was written. */
enum round_step {
    ROUND_BEGUN,
    ROUND_SYNC, /* of what was written; of the segment that is left, if there is a group */
    ROUND_WRITE
};
struct round {
    struct twin *sealed; /* NULL: only a sync */
    enum group_kind kind;
    enum round_step step;
    struct group_header group;
    struct io_write write; /* of the step; of no bytes: only the barrier, over the whole file */
    bool is_synced;        /* afterwards everything is durable */
    bool is_demanded;      /* also by those who wait for what was written before */
    uint64_t began_ns;     /* when its twin was complete */
    uint64_t step_ns;      /* when the step began */
};

struct gauges {
    struct gauge queue, copy, write, sync, wake, total, group_records, group_bytes;
};

struct commit {
    struct io *io;                  /* [const] */
    struct keeper *keeper;          /* [const] */
    struct twinlog_options options; /* [const] */
    bool is_padded;                 /* [const] */
    struct epoch epoch;             /* [const but for a restart] */
    uint32_t epoch_seed;            /* [const but for a restart] */
    struct live *live;              /* [const] */
    void (*share)(void *context);   /* [const] as in the config */
    void *share_context;            /* [const] */
    void *memory;                   /* [const] both buffers, as they were made */

    _Alignas(CACHE_LINE) struct twl_mutex lock;
    uint32_t filling;                       /* [lock] index of the twin that writers fill */
    uint64_t appends;                       /* [lock] */
    uint64_t append_bytes;                  /* [lock] */
    uint64_t requests;                      /* [lock] accepted and not completed yet */
    _Atomic uint64_t last_lsn;              /* [lock to store] newest accepted */
    bool needs_sync;                        /* [lock] somebody wants durable what is written already */
    struct claim *first_claim, *last_claim; /* [lock] */
    uint64_t next_room;             /* [lock] bytes that a group may have in `next`; 0 = there is none */
    struct segment next;            /* [lock] where the filling twin's group goes */
    struct growth growth;           /* [lock] */
    uint64_t roll_waits;            /* [lock] */
    uint64_t full_refusals;         /* [lock] */
    uint64_t voids;                 /* [lock] */
    uint32_t open_holds;            /* [lock] */
    struct hold *holds;             /* [lock] MAX_HOLDS of them, made with the first reservation */
    struct old_buffer *old_buffers; /* [lock] that callers may still write to */

    struct twin twins[2];

    _Alignas(CACHE_LINE) struct watermark durable; /* [leader stores] */
    _Atomic uint64_t written;                      /* [leader stores] */
    _Atomic int poison;                            /* [leader stores] 0 or the error */
    struct twl_event space; /* notified when the twins are swapped, and when a segment was waited for */

    _Alignas(CACHE_LINE) struct leadership leadership;
    struct segment segment; /* [leader, with the lock to exchange it] the active one */
    /* the rest: [leader] */
    struct segment left;    /* the one before it, until the active one has a group; file NULL = none */
    uint32_t chain;         /* checksum of the last group header written */
    bool is_segment_begun;  /* it has a group */
    bool has_asked_spare;   /* for this segment */
    uint32_t expected;      /* writers and requests that will probably join the next group */
    uint64_t sync_ns;       /* smoothed duration of a commit */
    uint32_t gather_misses; /* gatherings in a row that nobody joined in time */
    uint32_t gather_skips;  /* groups to go before the next try */
    _Atomic uint64_t groups, group_bytes, written_bytes, rolls, syncs, slow;

    /* Completed requests on their way out; whoever finds nobody at it hands them out (deliver.c). */
    struct twl_mutex delivery;
    struct twinlog_request *completed, *last_completed; /* [delivery] */
    bool is_delivering;                                 /* [delivery] */
    uint32_t delivery_stops;                            /* [delivery] who wants nothing handed out now */
    struct twl_event delivered;                         /* they sleep on it until nothing is */

    struct committer_seat seat; /* of this log with its committer */
    struct round round;         /* [leader] of a shared committer */
    struct gauges gauges;
};

/* ---- put.c ---- */
/* The next group to be filled in: its header goes to `offset`. */
void twl_fill_twin(struct commit *c, uint32_t index, uint64_t offset, uint64_t first_lsn) REQUIRES(c->lock);
/* Gives places in the filling twin, which is empty, to those who stand in line. */
void twl_grant_claims(struct commit *c) REQUIRES(c->lock);
/* For a group of so many bytes or more, from the keeper; the filling twin's group goes there. */
bool twl_take_next(struct commit *c, uint64_t group_bytes) REQUIRES(c->lock);
/* Until take_next() would find one. Never under the lock, never by the leader. */
int twl_wait_for_next(struct commit *c, uint64_t group_bytes);
uint64_t twl_group_room(uint64_t record_bytes);
uint64_t twl_room_for_marks(const struct segment *segment);
int twl_take_place(struct commit *c, const struct need *need, const struct terms *terms,
                   struct place *ret_place);
void twl_finish_copy(struct commit *c, struct twin *twin);

/* ---- wait.c ---- */
/* Neither a deadline nor a cancellation: it may be kept waiting, so it may do what takes its time. */
static inline bool is_patient(const struct terms *terms)
{
    return terms->deadline_ns == 0 && !terms->cancel && !terms->is_try;
}
/* 0, or why these terms say that it is enough. */
int twl_terms_ended(const struct terms *terms);
void twl_terms_sleep(const struct terms *terms, struct twl_event *event, uint32_t seen);
/* May a call on these terms commit, which cannot be interrupted? */
bool twl_may_lead(struct commit *c, const struct terms *terms);
/* What a writer that finds nothing done can do: true = it led, or somebody has, and it should look again. `claim` is
 * NULL, or what stands in line for it. Who is in the line must not be caught in a callback when its turn comes: the
 * others would wait for its copy. */
bool twl_help(struct commit *c, const struct terms *terms, const struct claim *claim);

/* ---- lead.c ---- */
bool twl_try_lead(struct commit *c) TRY_ACQUIRES(true, c->leadership);
void twl_lead_patiently(struct commit *c) ACQUIRES(c->leadership); /* when leaders are few and soon done */
void twl_stop_leading(struct commit *c) RELEASES(c->leadership);
/* In this order. begin() is false if there is nothing to write. When the round is filled, the first next() and each
 * one after a step without an error set round->write to what is to be done, until it says false: all is done.
 * write() does it; or somebody else, and then continue() takes the outcome and goes on where it stopped. end() does
 * what only the leader may, and wake() the rest, when leadership was given back. */
bool twl_round_begin(struct commit *c, enum group_kind kind, struct round *ret_round) REQUIRES(c->leadership);
/* Is the last copy into it done? If not, look again when the log's committer is called; or after so many
 * milliseconds, unless that is 0, because a reservation will have expired. */
bool twl_round_is_filled(struct commit *c, const struct round *round, unsigned *ret_look_ms)
    REQUIRES(c->leadership);
bool twl_round_next(struct commit *c, struct round *round) REQUIRES(c->leadership);
int twl_round_write(struct commit *c, struct round *round) REQUIRES(c->leadership);
int twl_round_continue(struct commit *c, struct round *round) REQUIRES(c->leadership);
void twl_round_end(struct commit *c, struct round *round, int rc) REQUIRES(c->leadership);
void twl_round_wake(struct commit *c, const struct round *round);
/* All but the last. */
bool twl_lead_round(struct commit *c, enum group_kind kind, struct round *round) REQUIRES(c->leadership);
enum led {
    LED_NOT,     /* another thread leads */
    LED_NOTHING, /* there was nothing to write */
    LED_ROUND
};
enum led twl_lead_once(struct commit *c);
/* For who is in the line. What it completes is left to the committer to hand out; and if its turn has come meanwhile,
 * it leads nothing: a leader waits for every copy into its group, and would wait for its own. */
enum led twl_lead_in_line(struct commit *c, const struct claim *claim);
/* Is there something for a committer to do? */
bool twl_needs_committer(struct commit *c);
/* Whatever is not durable is to become so: a flush is due. False if everything is. */
bool twl_demand_flush(struct commit *c);

/* ---- deliver.c ---- */
/* They have this result: in the order of the calls, so by the leader. */
void twl_complete(struct commit *c, const struct requests *requests, int result);
/* Hands out what is completed, unless another thread is at it. Callbacks are called: hold nothing. */
void twl_deliver(struct commit *c);
/* Is there something that nobody is handing out? */
bool twl_must_deliver(struct commit *c);

/* ---- queue.c ---- */
void twl_queue_expect(struct twinlog_queue *queue); /* a run of requests for it will be pushed */
void twl_queue_push(struct twinlog_queue *queue, struct twinlog_request *first, struct twinlog_request *last);

/* ---- hold.c ---- */
/* The leader has waited for the copies in a sealed twin long enough: gives up what has expired. 0, or how many
 * milliseconds until it should look again. */
unsigned twl_hold_expire(struct commit *c, struct twin *twin) REQUIRES(c->leadership);
void twl_hold_destroy(struct commit *c);

/* ---- events ---- */
static inline bool is_observed(const struct commit *c, enum twinlog_event_kind kind)
{
    return c->options.observe && (c->options.observe_mask == 0 || (c->options.observe_mask & 1u << kind));
}
static inline void tell(const struct commit *c, const struct twinlog_event *event)
{
    if (is_observed(c, (enum twinlog_event_kind)event->kind))
        c->options.observe(c->options.observe_context, event);
}

#endif
