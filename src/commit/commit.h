/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: many writers, two buffers, one write and one sync for all of them.
 *
 *     writer:  put()  take a place and LSNs under the lock, copy outside it
 *              wait() until durable; if nobody leads, lead
 *     leader:  swap the twins, wait for slow copiers, write and sync, publish, wake, complete, hand on
 *
 * Who leads: a writer that waits; a committer, the thread of the log or of many logs, for those who don't wait
 * or can't wait for long; a thread that was lent.
 *
 * Any thread may call anything here at any time between create and destroy.
 */
#ifndef TWL_COMMIT_H
#define TWL_COMMIT_H

#include "base/watermark.h"
#include "segment/keeper.h"
#include "segment/live.h"
#include "segment/recover.h"

struct commit;

struct commit_config {
    struct io *io;
    struct keeper *keeper;    /* where the next segment comes from; outlives the commit */
    struct segment segment;   /* the active one, with a summary of what is in it; owned from here */
    uint64_t offset;          /* where the next group goes in it */
    bool is_begun;            /* there is a group in it */
    bool has_junk;            /* it must go exactly there, to write over what must not be read again */
    struct position position; /* what it continues; its epoch is the one before this writer's */
    struct epoch epoch;       /* of this writer */
    const struct twinlog_options *options; /* normalised; copied */
    struct live *live;                     /* where to publish; outlives the commit */
    /* Called after a group when somebody wants a copy of what is counted: by any thread, which holds nothing and
     * leads no more. May be NULL. */
    void (*share)(void *context);
    void *share_context;
};

/* Can the committer of these options be used? TWINLOG_EFORKED; -ENOSYS: not with io_uring. */
int twl_commit_check(const struct twinlog_options *options);
/* On failure the segment stays the caller's. */
int twl_commit_create(const struct commit_config *config, struct commit **ret_commit);
/* From now on there may be a committer, and what is due is committed. Before that the caller is alone. */
void twl_commit_start(struct commit *commit);
/* Nobody may be inside a call; a committer is let go. Writes nothing. `is_forked`: in a child of the process that
 * created it. */
void twl_commit_destroy(struct commit *commit, bool is_forked);

/* ---- standing still ------------------------------------------------------------------------------ */

/* That a record is durable does not say that the thread which made it so is done: it may be about to ask the keeper
 * for something. So whoever changes what stands around the commit path leads meanwhile, and nobody else does: no
 * committer, nobody who drives. On return everything that was accepted is durable. Nobody appends at that moment; not in
 * a callback. After an error, that of the poison, nothing stands still. */
int twl_commit_stop(struct commit *commit);
void twl_commit_go_on(struct commit *commit);

/* For the close: as twl_commit_stop(), and for good. There is no committer any more, whatever is returned, and every
 * request is handed out. */
int twl_commit_end(struct commit *commit);
/* Only that: lets the committer go, if there is one. It touches nothing any more. */
void twl_commit_let_go(struct commit *commit, bool is_forked);

/* Writes a group without records, GROUP_START or GROUP_CLOSE, behind everything accepted so far; durable
 * on return. The commit path stands still. -ENOSPC: it does not fit, and the disk is full; nothing happened. */
int twl_commit_mark(struct commit *commit, enum group_kind kind);

/* Goes on in another segment and another epoch, as after twl_commit_create(): behind a cut. The commit path stands
 * still. The old segment is closed, not left: what becomes of it is the caller's business. */
void twl_commit_restart(struct commit *commit, const struct segment *segment, const struct position *position,
                        struct epoch epoch);

/* Gives up the active segment, with the position behind it; then it can only be destroyed. Everything that was accepted
 * is durable, and the caller is the only user of the log. */
void twl_commit_give_away(struct commit *commit, struct segment *ret_segment, struct position *ret_position);

/* ---- accepting ---------------------------------------------------------------------------------- */

/* What is accepted, all of it or nothing: a record is accepted only when its place on disk is certain, in the
 * active segment or in the next one, which is then in hand. So a full disk is met here, before anything happened,
 * and never by the leader. A little room is kept back in the last segment for marks, so that a full log can
 * still be opened. */
struct batch {
    const struct twinlog_entry *entries;
    uint32_t count;
    enum record_kind kind; /* of all */
    bool has_times;        /* the entries' times count as they are, 0 too */
};

/* How long a call may take, and what for. */
struct terms {
    enum twinlog_level level;
    bool is_try;                         /* don't wait for room */
    uint64_t deadline_ns;                /* 0 = none */
    const struct twinlog_cancel *cancel; /* may be NULL */
    uint64_t called_ns;                  /* 0, or when the call began, which is to be timed */
};
/* For called_ns: of the calls of a thread one in TIMED_INTERVAL is timed. */
#define TIMED_INTERVAL 64u
uint64_t twl_commit_called(void);

/* Accepts a batch: gives it the next LSNs and copies it. Waits, or commits, when both buffers are full. The group
 * it is in is not written before somebody wants that: the caller, who is about to call twl_commit_wait() on the
 * same terms unless the level is BUFFERED; or the request, if there is one, which is completed by whoever
 * commits. -EMSGSIZE, -ENOSPC, -EAGAIN, -ETIMEDOUT, -ECANCELED, TWINLOG_EPOISONED: nothing happened. */
int twl_commit_put(struct commit *commit, const struct batch *batch, const struct terms *terms,
                   struct twinlog_request *request, uint64_t *ret_first_lsn);

/* Until `lsn` is at the terms' level; commits if nobody else does. The error that poisoned the log otherwise;
 * -ETIMEDOUT, -ECANCELED. `is_told`: put() has said that somebody will wait for it. */
int twl_commit_wait(struct commit *commit, uint64_t lsn, const struct terms *terms, bool is_told);

/* As twinlog_drive(). */
int twl_commit_drive(struct commit *commit, int timeout_ms);
/* Makes sure that somebody commits for a caller who won't: 0, or why there can't be a committer. -ENOTSUP where
 * no thread may be started. */
int twl_commit_need_committer(struct commit *commit);
/* If the calling thread is a shared committer's, which is in a callback and has to wait for something: it does what
 * it has to do, for a moment. False: it is any other thread. */
bool twl_commit_turn(void);
/* Whoever drives the log, or waits for a free reservation, returns with -ESHUTDOWN. */
void twl_commit_end_driving(struct commit *commit);
/* While somebody holds it, completed requests are not handed out, and no callback is running; afterwards they are,
 * by the caller. Never from a callback. */
void twl_commit_hold_delivery(struct commit *commit, bool is_held);
/* Is this thread in a callback of a request of this log? Then nobody can hold delivery until it returns. Or in one of
 * another log, by the committer of both? Then nobody commits for this one until it returns. */
bool twl_commit_is_in_callback(const struct commit *commit);
/* Makes those look at their terms again that sleep. */
void twl_commit_rouse(struct commit *commit);

/* ---- writing in place ---------------------------------------------------------------------------- */

/* As the public calls of that name; entry and terms are checked. */
int twl_commit_reserve(struct commit *commit, const struct twinlog_entry *entry, const struct terms *terms,
                       struct twinlog_reservation *ret_reservation);
/* Ends a reservation as a record or as a void; does not wait for the disk. */
int twl_commit_settle(struct commit *commit, const struct twinlog_reservation *reservation,
                      enum record_kind kind);

/* ---- looking ------------------------------------------------------------------------------------- */

uint64_t twl_commit_last_lsn(const struct commit *commit);                 /* newest accepted */
uint64_t twl_commit_written_lsn(const struct commit *commit);              /* newest written */
const struct watermark *twl_commit_watermark(const struct commit *commit); /* newest durable */
int twl_commit_poison(const struct commit *commit);                        /* 0, or what poisoned the log */
/* Something failed outside that leaves in doubt what is on disk. The commit path stands still. */
void twl_commit_give_up(struct commit *commit, int error);

/* Adds what is counted here. */
void twl_commit_count(struct commit *commit, struct twinlog_stat *stat);
void twl_commit_timings(struct commit *commit, struct twinlog_timings *ret_timings);

#endif
