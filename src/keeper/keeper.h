/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: the segments of an open log, and the thread that looks after them; "The keeper" in docs/design.md. Where
 * there are no threads (the simulated disk), the work is done in the call that asks for it; but a segment is made by
 * twl_keeper_help().
 *
 * Any thread may call any function here, except where noted.
 */
#ifndef TWL_KEEPER_H
#define TWL_KEEPER_H

#include "base/statistics.h"
#include "base/sync.h"
#include "base/trim_ask.h"
#include "set/segment_set.h"

struct keeper;

struct keeper_config {
    struct io *io;
    struct counters *counters;     /* what it counts; outlives the keeper */
    struct statistics *statistics; /* where its thread tells them other processes; likewise */
    const struct segment_set *set; /* copied; the active segment is the last started one */
    struct segment_plan plan;      /* for the next segment to prepare: its size, number and sequence */
    uint64_t max_bytes;            /* segments double up to this size */
    size_t most_segments;          /* number of files; no more are made */
    uint32_t spares;               /* to make at once, of the largest size; at most 64 */
    bool can_recycle;              /* otherwise retired files are removed */
    unsigned lock_timeout_ms;      /* for spares that were found */

    /* The retention: called from the keeper's thread, without locks, at the start, after each sealed segment, and when
     * trim_is_due(). */
    void (*tend)(void *context);
    void (*look)(void *context); /* likewise, once a second at least, from the start on */
    /* Does the directory still have the log? After an error no file is made or removed, as one of that name may be
     * another log's. NULL: it is not asked. */
    int (*check)(void *context);
    void *context;
    const struct trim_ask *trim_ask;
};

/* Opens and locks the spares that were found, and cleans and syncs them. */
int twl_keeper_create(const struct keeper_config *config, struct keeper **ret_keeper);
/* Starts the work: seals what was left unsealed, removes retired files, and calls `tend`. Before that nothing
 * is sealed or trimmed. Called when the active segment has a durable group. */
void twl_keeper_start(struct keeper *keeper);
/* Ends the thread and removes the segments that are ready, so that the one in front of them may be removed afterwards.
 * After an error that one must stay, too: a segment behind it may still be there, and is found by the next opening. */
int twl_keeper_remove_ready(struct keeper *keeper);
/* Ends the thread after it has sealed what was left. Spares stay on disk for the next opening, except
 * those of a mapped log. Returns the newest time of a record up to there; INT64_MAX if it is not known. */
int64_t twl_keeper_destroy(struct keeper *keeper);

/* ---- for the commit path ----------------------------------------------------------------------- */

/* Asks for a ready segment for groups of `group_bytes` on average: they decide how large it is at least, and whether
 * zeros are written to it. Does not wait. The LSN, and the epoch in which it was durable, go into its header, here and
 * below, unless the log has been truncated since. */
void twl_keeper_want_spare(struct keeper *keeper, uint64_t group_bytes, uint64_t after_lsn, uint32_t epoch);

/* Takes a ready segment with min_room bytes of room for groups; the writer owns it from then on. Never waits and makes
 * nothing: false if none is ready. Segments are taken in the order of their sequence; only a call that wants one
 * has a segment replaced that is too small. */
bool twl_keeper_take(struct keeper *keeper, uint64_t min_room, struct segment *ret_segment);

/* Is told when an attempt to make a segment is over. `tell` is called with the keeper's lock. */
struct keeper_listener {
    void (*tell)(void *context);
    void *context;
};

/* Asks for a segment with min_room bytes of room for groups; does not wait. 1: one is ready. 0: the thread attempts to
 * make one, and tells the listener (may be NULL) when that is over; ask again then. Or an error, usually -ENOSPC, or
 * -EMFILE if there are too many. On a nearly full disk the segment may be smaller than planned.
 *
 * The error is that of an attempt that began after the first call of this wait, for so much or less. So a caller waits
 * for at most two attempts, and each wait tries again. *since belongs to the wait; it is UINT64_MAX at first. A caller
 * that does not wait passes NULL: it gets the error of the latest attempt, if that is not older than a tenth of a
 * second, and orders another one nevertheless.
 *
 * After 0, twl_keeper_help() must follow. */
int twl_keeper_want(struct keeper *keeper, uint64_t min_room, uint64_t after_lsn, uint32_t epoch,
                    const struct keeper_listener *listener, uint64_t *since);
/* Where no thread can be started, makes the attempt that was asked for: without locks, as it waits for the disk. 1: the
 * attempt, or another one, is over. An error: it has failed. 0: there is a thread, or another call is at work; the
 * listener is told. */
int twl_keeper_help(struct keeper *keeper);
/* Waits until twl_keeper_want() returns 1, or an error. 0 or that error. */
int twl_keeper_wait(struct keeper *keeper, uint64_t min_room, uint64_t after_lsn, uint32_t epoch);

/* The writer has left `segment` for `next`. The keeper owns the segment from then on, seals it later and
 * closes it. Its summary is complete. */
void twl_keeper_leave(struct keeper *keeper, const struct segment *segment, const struct segment *next);

/* ---- for trims and truncations: one such call at a time ---------------------------------------- */

/* Makes a segment with a fixed start, behind all others, durable on return (its existence is the truncation).
 * `previous` is the sequence of the segment that stays the newest of the old ones, 0 for none; all behind
 * it are retired, spares too. No thread may write meanwhile. After a failure nothing has happened, unless
 * *ret_is_in_doubt: then the segment may exist, now or after a crash. `epoch` is the one that ends with
 * the truncation; the next epoch has the next number. */
int twl_keeper_restart(struct keeper *keeper, uint64_t start_lsn, uint64_t previous, uint32_t start_chain,
                       uint32_t epoch, struct segment *ret_segment, bool *ret_is_in_doubt);

/* Calls `each` for the started segments of the set, oldest first, until it returns false. `keeper`, which the set is
 * from, remembers what is found; NULL: there is none. */
struct kept_segment {
    char name[SEGMENT_NAME_BYTES];
    uint64_t sequence, next_sequence;
    uint64_t first_lsn;
    uint64_t end_lsn; /* first LSN of the next segment; UINT64_MAX for the active one, which is the last */
    uint64_t file_bytes;
    uint64_t later_bytes; /* file bytes of all started segments behind it */
    int64_t max_ns;       /* newest time of a record in it; INT64_MIN: of none; INT64_MAX: not sealed yet */
};
int twl_keeper_each(struct io *io, struct keeper *keeper, struct segment_set *set,
                    bool (*each)(void *context, const struct kept_segment *segment), void *context);
/* The newest time of a record in the last segment that is sealed, has records, and was not left by a truncation;
 * INT64_MIN: there is none. */
int twl_keeper_newest(struct io *io, struct keeper *keeper, struct segment_set *set, int64_t *ret_ns);
/* Retires segments before this sequence, as the state file says. Their files are kept for reuse, or removed. */
struct keeper_freed {
    uint64_t segments, bytes;
};
struct keeper_freed twl_keeper_retire(struct keeper *keeper, uint64_t first_sequence);

/* Copies the started segments, oldest first, for a reader or a seek inside the process. Free the copy with
 * twl_segment_set_free(). */
int twl_keeper_set(struct keeper *keeper, struct segment_set *ret_set);

/* Counts the files anew in the counters; the thread does so before it sleeps. */
void twl_keeper_count(struct keeper *keeper);
/* Has the thread tell the counters, as of a call that was refused. */
void twl_keeper_tell(struct keeper *keeper);

#endif
