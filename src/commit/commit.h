/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: many writers, two buffers (twins), one write and one sync for all of them. "The commit path" in
 * docs/design.md has the steps.
 *
 * Any thread may call anything here at any time between create and destroy.
 */
#ifndef TWL_COMMIT_H
#define TWL_COMMIT_H

#include "base/watermark.h"
#include "commit/engine.h"
#include "control/shared_page.h"
#include "keeper/keeper.h"
#include "recover/recover.h"

struct commit;
extern const struct engine_ops twl_commit_engine;

struct commit_config {
    struct io *io;
    struct keeper *keeper;  /* makes the next segment; outlives the commit */
    struct segment segment; /* the active one, with a summary of its groups; owned by the commit */
    uint64_t offset;        /* where in the segment the next group goes */
    bool has_junk; /* the next group must go exactly there, to overwrite what must not be read again */
    struct position position; /* what the next group continues; of the epoch before this writer's */
    struct epoch epoch;       /* of this writer */
    const struct twinlog_options *options; /* normalised; copied */
    struct shared_page *shared;            /* where to publish; outlives the commit */
    struct counters *counters;             /* likewise; the keeper's thread tells them */
};

/* Checks whether the committer of these options can be used. TWINLOG_EFORKED; or why not with io_uring. */
int twl_commit_check(const struct twinlog_options *options);
/* On failure the caller keeps the segment. */
int twl_commit_create(const struct commit_config *config, struct commit **ret_commit);
/* Starts the flush interval, and with it a committer if need be. Until then the caller is the only user. */
void twl_commit_start(struct commit *commit);
/* Lets the committer go and frees the commit; writes nothing. No thread may be inside a call. */
void twl_commit_destroy(struct commit *commit);

/* ---- stop and go on ------------------------------------------------------------------------------ */

/* Stops the commit path: the caller leads meanwhile. On return every accepted record is durable. No thread may append
 * meanwhile. After an error, that of the poison, the commit path is not stopped. */
int twl_commit_stop(struct commit *commit);
void twl_commit_go_on(struct commit *commit);

/* For the close: as twl_commit_stop(), but for good. On return, even with an error, there is no committer any more and
 * all completed requests are handed out. */
int twl_commit_end(struct commit *commit);

/* Writes a marker group, GROUP_START or GROUP_CLOSE, behind all accepted records; durable on return. The commit path
 * must be stopped. -ENOSPC: the marker does not fit, and the disk is full; nothing happened. */
int twl_commit_write_marker(struct commit *commit, enum group_kind kind);

/* Continues in another segment and another epoch, as after twl_commit_create(): after a truncation. The commit path
 * must be stopped. Closes the old segment, but does not hand it to the keeper: the caller decides about it. */
void twl_commit_restart(struct commit *commit, const struct segment *segment, const struct position *position,
                        struct epoch epoch);

/* ---- accepting ---------------------------------------------------------------------------------- */

/* 0, or -ECANCELED or -ETIMEDOUT if these terms end the call. */
int twl_terms_ended(const struct terms *terms);
/* For called_ns: times one in TIMED_INTERVAL calls of a thread. */
#define TIMED_INTERVAL 64u
uint64_t twl_commit_called(void);

/* Accepts a batch: gives it the next LSNs and copies it. Waits, or commits, when both buffers are full. Its group is
 * written only on demand: of the caller, which must call twl_commit_wait() on the same terms unless the level is
 * BUFFERED; or of the request, if there is one, which the thread that commits completes. -EMSGSIZE, -ENOSPC,
 * -EAGAIN, -ETIMEDOUT, -ECANCELED, TWINLOG_EPOISONED: nothing happened. */
int twl_commit_put(struct commit *commit, const struct batch *batch, const struct terms *terms,
                   struct twinlog_request *request, uint64_t *ret_first_lsn);

/* Waits until `lsn` is at the level of the terms; commits if no other thread does. Else the error that poisoned the
 * log; -ETIMEDOUT, -ECANCELED. `is_told`: put() has already announced this wait. */
int twl_commit_wait(struct commit *commit, uint64_t lsn, const struct terms *terms, bool is_told);

/* Now and then: the system may have refused a thread for the flush interval, and no record comes that asks again. */
void twl_commit_look_for_flush(struct commit *commit);
/* Starts a committer unless the log has one. 0 or an error. */
int twl_commit_need_committer(struct commit *commit);
/* One turn of a committer of its own: true if it had work, and led. */
bool twl_commit_turn(struct commit *commit);
/* Wakes all sleeping threads to check their terms again. */
void twl_commit_wake_all(struct commit *commit);

/* The queue listens to this log from now on; what happened before is not told. 0, -ENOMEM or TWINLOG_EFORKED. */
int twl_commit_listen(struct commit *commit, struct twinlog_queue *queue);
void twl_queue_bring_news(struct twinlog_queue *queue);
/* A call with TWINLOG_TRY is about to be refused. Comes before its last look, so that what makes the next one succeed
 * comes behind the note, and is told. */
void twl_commit_note_refusal(struct commit *commit);
/* Such a call may succeed now: tells the queues that listen, if one was refused since they were told. */
void twl_commit_tell_refused(struct commit *commit);

/* ---- state and statistics ------------------------------------------------------------------------ */

uint64_t twl_commit_last_lsn(const struct commit *commit); /* newest accepted */
void twl_commit_time(struct commit *commit, struct twinlog_timings *ret_timings);
/* Poisons the log, and tells watchers: by the leader, or after a failure elsewhere that leaves the state of the disk in
 * doubt, while the commit path is stopped. Returns the error that stays. */
int twl_commit_give_up(struct commit *commit, int error);
/* The same, from a thread that does not lead. If another one does, its next round, or the next call, does it. */
void twl_commit_abandon(struct commit *commit, int error);

#endif
