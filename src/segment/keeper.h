/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segments of an open log and the thread that looks after them: prepares spares ahead, by making or
 * recycling files; seals segments that were left; removes or keeps what was trimmed.
 *
 * The thread is started when there is first something to do and lives until the keeper is destroyed. Where
 * there are no threads (the simulated disk) the work is done in the call that asks for it.
 *
 * Any thread may call anything here, except where it says otherwise.
 */
#ifndef TWL_KEEPER_H
#define TWL_KEEPER_H

#include "segment/segment_set.h"

struct keeper;

struct keeper_config {
    struct io *io;
    const struct segment_set *set; /* copied; the active segment is the last that is begun */
    struct segment_plan plan;      /* of the next segment to prepare: its size, number and sequence */
    uint64_t max_bytes;            /* segments double up to here */
    size_t most_segments;          /* files; no more are made */
    bool can_recycle;              /* else retired files are removed */
    unsigned lock_wait_ms;         /* for the spares that were found */

    /* Called from the keeper's thread, holding nothing, after a segment was sealed and every `tend_ms` (0 =
     * never by time): the retention. */
    void (*tend)(void *context);
    void *context;
    unsigned tend_ms;
};

/* Opens and locks the spares that were found. Nothing is changed before twl_keeper_start(). */
int twl_keeper_create(const struct keeper_config *config, struct keeper **ret_keeper);
/* What is missing of a segment that is left, and of its summary, is completed by this call, made from the keeper's
 * thread, holding nothing, before the segment is sealed. To be set before the first one is left. */
void twl_keeper_set_complete(struct keeper *keeper, int (*complete)(void *context, struct segment *segment),
                             void *context);
/* From now on: what the last writer left unsealed is sealed, what is retired removed, the tending done. */
void twl_keeper_start(struct keeper *keeper);
/* Ends its thread, when all that was left is sealed, and tells the newest time of a record there; INT64_MAX if that is
 * not known. */
int64_t twl_keeper_end(struct keeper *keeper);
/* Ends its thread, and removes the segments that are ready, so that one in front of them may be removed then. */
void twl_keeper_remove_ready(struct keeper *keeper);
/* Ends the thread, after it has sealed what was left; spares stay on disk for the next opening. `is_forked`:
 * in a child of the process that created it, where there is no thread to end. */
void twl_keeper_destroy(struct keeper *keeper, bool is_forked);

/* ---- for the commit path ----------------------------------------------------------------------- */

/* Asks for `count` ready segments, all of the largest size if `is_large`; does not wait. The LSN, which was durable in
 * that epoch, and the epoch go into their headers, here and below; but not if the log has been cut since. */
void twl_keeper_want(struct keeper *keeper, uint32_t count, bool is_large, uint64_t after_lsn,
                     uint32_t epoch);

/* Bytes that groups have in the largest segment it makes. */
uint64_t twl_keeper_most_room(const struct keeper *keeper);

/* A ready segment whose groups may have min_bytes; the writer owns it from here. Never waits, makes nothing:
 * false if none is ready. Segments are taken in the order of their sequence; one that is too small is
 * replaced by twl_keeper_wait() only. */
bool twl_keeper_take(struct keeper *keeper, uint64_t min_bytes, struct segment *ret_segment);

/* Waits until twl_keeper_take() would find one, has it made if need be: 0, or why it can't be made, -ENOSPC
 * mostly, -EMFILE where there are too many. A smaller one than planned is made where the disk is nearly full. Each call is a new try. */
int twl_keeper_wait(struct keeper *keeper, uint64_t min_bytes, uint64_t after_lsn, uint32_t epoch);

/* The same in the keeper's thread, which calls `done` with the outcome, holding nothing; not any more once the
 * keeper is being destroyed. One order at a time. An error where there is no thread: nothing was ordered. */
int twl_keeper_order(struct keeper *keeper, uint64_t min_bytes, uint64_t after_lsn, uint32_t epoch,
                     void (*done)(void *context, int result), void *context);

/* The writer has left `segment` for `next`: sealed by and by, then closed. The keeper owns it from here; its
 * summary is complete. */
void twl_keeper_leave(struct keeper *keeper, const struct segment *segment, const struct segment *next);

/* ---- for trims and cuts: one such call at a time ----------------------------------------------- */

/* Makes a segment with a fixed start, behind everything there is, durable on return (its existence is
 * the cut). `previous` is the sequence of the segment that goes on being the newest of the old ones, 0 for
 * none: all behind it are retired, spares too. Nobody is writing meanwhile. After a failure nothing has
 * happened, unless *ret_is_in_doubt: then the segment may be there, now or after a crash. `epoch` is the one that
 * ends with it; the next one has the next number. */
int twl_keeper_restart(struct keeper *keeper, uint64_t start_lsn, uint64_t previous, uint32_t start_chain,
                       uint32_t epoch, struct segment *ret_segment, bool *ret_is_in_doubt);

/* The begun segments, oldest first, until `each` says false. */
struct kept_segment {
    char name[SEGMENT_NAME_BYTES];
    uint64_t sequence, next_sequence;
    uint64_t first_lsn;
    uint64_t end_lsn; /* first LSN of the next segment; UINT64_MAX for the active one, which is the last */
    uint64_t file_bytes;
    uint64_t later_bytes; /* file bytes of all begun segments behind it */
    int64_t max_ns; /* newest time of a record in it; INT64_MIN if it has none or it is not sealed yet */
    bool is_sealed;
};
int twl_keeper_each(struct keeper *keeper, bool (*each)(void *context, const struct kept_segment *segment),
                    void *context);
/* Segments before this sequence, which the state file says are retired: kept for reuse, or removed. */
struct keeper_freed {
    uint64_t segments, bytes;
};
int twl_keeper_retire(struct keeper *keeper, uint64_t first_sequence, struct keeper_freed *ret_freed);

/* A copy of what is begun, oldest first, for a reader or a seek inside the process; free with
 * twl_segment_set_free(). */
int twl_keeper_set(struct keeper *keeper, struct segment_set *ret_set);

struct keeper_count {
    uint32_t begun, ready;
    uint64_t file_bytes; /* all files: begun, spare and retired */
    uint64_t trimmed, recycled;
};
void twl_keeper_count(struct keeper *keeper, struct keeper_count *ret_count);

#endif
