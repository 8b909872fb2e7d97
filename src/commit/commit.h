/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: many writers, two buffers, one write and one sync for all of them.
 *
 *     writer:  put()  take a place and an LSN under the lock, copy outside it
 *              wait() until durable; if nobody leads, lead
 *     leader:  swap the twins, wait for slow copiers, write and sync, publish, wake, hand on
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
    uint32_t buffer_bytes;
    uint32_t max_record_bytes;
    uint32_t spare_segments; /* to prepare at once; afterwards one, when the active segment is half full */
    bool is_padded;
    uint64_t segment_records; /* leave a segment that has so many records; 0 = never for that */
    uint64_t segment_age_ms;  /* leave it when its first record is so old; 0 = never for that */
    struct live *live;        /* where to publish; outlives the commit */
};

/* On failure the segment stays the caller's. */
int twl_commit_create(const struct commit_config *config, struct commit **ret_commit);
/* Nobody may be inside a call. Writes nothing. `is_forked`: in a child of the process that created it. */
void twl_commit_destroy(struct commit *commit, bool is_forked);

/* Writes a group without records, GROUP_START or GROUP_CLOSE, behind everything accepted so far; durable
 * on return. The caller is the only user of the log at that moment. -ENOSPC: it does not fit, and the disk is
 * full; nothing happened. */
int twl_commit_mark(struct commit *commit, enum group_kind kind);

/* Goes on in another segment and another epoch, as after twl_commit_create(): behind a cut. Everything that
 * was accepted is durable, and the caller is the only user of the log. The old segment is closed, not left:
 * what becomes of it is the caller's business. */
int twl_commit_restart(struct commit *commit, const struct segment *segment, const struct position *position,
                       struct epoch epoch);

/* What is accepted: a record is accepted only when its place on disk is certain, in the active segment or in
 * the next one, which is then in hand. So a full disk is met here, before anything happened, and never by the
 * leader. A little room is kept back in the last segment for marks, so that a full log can still be opened. */
struct commit_record {
    const void *data;
    size_t size;
    enum record_kind kind;
    int64_t time_ns; /* INT64_MIN: now */
};
/* Accepts a record: gives it the next LSN and copies it. Waits, or commits, when both buffers are full.
 * The group it is in is not written before somebody waits. `will_wait` says that the caller is about to
 * call twl_commit_wait() for it. -EMSGSIZE, -ENOSPC, TWINLOG_EPOISONED. */
int twl_commit_put(struct commit *commit, const struct commit_record *record, bool will_wait,
                   uint64_t *ret_lsn);

/* Until `lsn` is durable; commits if nobody else does. The error that poisoned the log otherwise. */
int twl_commit_wait(struct commit *commit, uint64_t lsn);

uint64_t twl_commit_last_lsn(const struct commit *commit);                 /* newest accepted */
const struct watermark *twl_commit_watermark(const struct commit *commit); /* newest durable */
int twl_commit_poison(const struct commit *commit);                        /* 0, or what poisoned the log */
/* Something failed outside that leaves in doubt what is on disk. The caller is the only user of the log. */
void twl_commit_give_up(struct commit *commit, int error);

struct commit_counters {
    uint64_t appends, append_bytes, groups, group_bytes, written_bytes, rolls;
    uint64_t roll_waits;    /* times that a writer had to wait for the next segment */
    uint64_t full_refusals; /* records refused for want of space */
};
void twl_commit_count(struct commit *commit, struct commit_counters *ret_counters);

#endif
