/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the end of the log. Reads, decides by a table, and changes nothing.
 *
 * docs/recovery.md explains the table. The opener acts on the decision.
 */
#ifndef TWL_RECOVER_H
#define TWL_RECOVER_H

#include "set/segment_set.h"
#include "walk/segment_iter.h"

/* The facts about the place p, with next LSN n, where a walk stopped. */
enum recover_fact {
    FACT_LATER_DURABLE = 1u << 0, /* something later proves that what belongs at p was durable */
    FACT_NEWEST = 1u << 1,        /* no later segment is started */
    FACT_JOINS = 1u << 2,         /* the next segment begins with the group that continues here */
    FACT_ZERO =
        1u << 3, /* this segment has no later group, and only zeros from p to the end of p's block; or p
                            * begins a block of a recycled file, and no group of this incarnation is there */
    FACT_CLOSED = 1u << 4, /* the last group before p is the marker of a close */
    FACT_SEALED =
        1u << 5, /* nothing continues here, and this segment is sealed: its footer counts what is missing,
                  * or the segment was left for one that is missing */
    FACT_PASSED = 1u << 6, /* nothing continues here, and the head of the log or a cursor lies behind p */
};
#define RECOVER_FACTS 7u

enum recover_decision {
    DECIDE_NEXT_SEGMENT, /* the segment is full: go on in the next one */
    DECIDE_CLEAN_CLOSE,  /* the log ends here and was closed */
    DECIDE_CLEAN_END,    /* the log ends here; the writer died between two groups */
    DECIDE_TRUNCATE,     /* the log ends here; what follows was never acknowledged */
    DECIDE_DAMAGE,       /* acknowledged data is missing */
};

struct recover_row {
    unsigned care;  /* the facts that matter */
    unsigned value; /* and their values */
    enum recover_decision decision;
    const char *why;
};
extern const struct recover_row twl_recover_table[];
extern const size_t twl_recover_rows;

const struct recover_row *twl_recover_decide(unsigned facts);

/* Judges the place where `cursor` stopped in the segment of set->entries[index]. `gap` bytes without a group end the
 * search of that segment and of the next spare; UINT64_MAX: nothing does. `was_closed`: the group in front of the place
 * is the marker of a close, so fewer will do. */
struct recover_judgement {
    unsigned facts;
    const struct recover_row *row;
    struct later_groups later;
    bool is_followed; /* this segment has a later group, with proof or without */
};
int twl_recover_judge(struct io *io, const struct segment_set *set, size_t index, struct segment_iter *cursor,
                      bool was_closed, uint64_t gap, struct recover_judgement *ret_judgement);

/* The end of the log. */
struct recovery {
    size_t index;    /* segment with the end: the newest, unless groups are open; meaningless without one */
    uint64_t offset; /* where the next group goes */
    bool
        has_junk; /* from there on the block contains bytes of a torn group, or the word that ended a group */
    uint64_t last_group;      /* offset of the last sound group in that segment; 0 = none */
    struct position position; /* what the next group must continue; next_lsn is 1 in a new log */
    size_t open_from;      /* segments from here on have open groups, dead ones too; set->started: none has */
    uint64_t marked_lsn;   /* newest LSN that a group on disk proves durable */
    uint64_t claim_lsn;    /* first LSN of which only the claim of a dead writer is left; 0 = none */
    size_t claim_index;    /* index of its segment, */
    uint64_t claim_offset; /* and the claim's offset in it */
    struct twinlog_report report;
};

/* Returns 0 also for a torn tail, TWINLOG_ECORRUPT for damage; fills in the report either way. Reads the
 * newest started segment, the segments before it if their groups are open, too, and what lies behind the end.
 * `summary`, if not NULL, receives the contents of the segment in which the log ends. `has_writer`: claims
 * in open groups belong to a live writer that is about to complete them. */
int twl_recover(struct io *io, const struct segment_set *set, bool has_writer, struct summary *summary,
                struct recovery *ret_recovery);

/* Lets a walk of the newest segment begin at the group that the writer has noted, if that is there. `summary`, which
 * may be NULL, gets what a walk to it would have found, but for the index and the times of records. False: the cursor
 * must begin again. */
bool twl_begin_at_note(struct segment_iter *cursor, uint64_t segment_id, uint64_t offset,
                       struct summary *summary);

/* Finds the segments at the end of the path that have open groups: *ret_from is the oldest of them, or
 * set->started. */
int twl_recover_find_open(struct io *io, const struct segment_set *set, size_t *ret_from);
/* Does the segment have FEATURE_MAPPED, and no group header at the place of the open group? The records of
 * that group, and the marker in front of it, may be missing. */
int twl_segment_is_open(struct io *io, const struct segment_entry *entry, bool *ret_is_open);

/* Makes what is in these segments durable, names included: all else in front of the end is so already. -EINVAL counts
 * as success: a read-only file system has nothing to sync and may not know the call. -EROFS does not: a file
 * system that had to stop writing returns it, and what was found may be nowhere on the disk. */
int twl_recover_sync(struct io *io, const struct segment_set *set, size_t from, size_t to);

/* ---- settle.c: completes the open groups that a dead writer has left --------------------------- */

/* For a caller that has the writer's lock and is about to recover. 1 = something was settled, and the set
 * must be loaded again; the report is then the one of the recovery before. 0 = nothing is open. Negative:
 * an error, or damage, with the report. Can be repeated after a crash in the middle. */
int twl_settle(struct io *io, const struct segment_set *set, struct twinlog_report *ret_report);

/* Removes the spares. A crash in the middle leaves the set without a gap. */
int twl_settle_without_spares(struct io *io, struct segment_set *set);

#endif
