/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where does the log end? Looks, decides by a table, changes nothing.
 *
 * docs/recovery.md explains the table; what is done about the decision is the opener's business.
 */
#ifndef TWL_RECOVER_H
#define TWL_RECOVER_H

#include "segment/cursor.h"

/* What is known where a walk stopped, at a place p with next LSN n. */
enum recover_fact {
    FACT_LATER_DURABLE = 1u << 0, /* something later proves that what belongs at p was durable */
    FACT_LATER_GROUP = 1u << 1,   /* this segment has a later group, proof or not */
    FACT_NEWEST = 1u << 2,        /* no later segment is begun */
    FACT_JOINS = 1u << 3,         /* the next segment is begun by the group that continues here */
    FACT_ZERO = 1u << 4,   /* nothing but zeros from p to the end of its block; or p begins a block of a
                                     recycled file, and no group of this life is there */
    FACT_CLOSED = 1u << 5, /* the last group before p is the mark of a close */
    FACT_SEALED =
        1u << 6, /* nothing continues here, and this segment is sealed: it counts what is missing, or was
                              left for one that is missing */
    FACT_PASSED = 1u << 7, /* nothing continues here, and the front of the log or a cursor lies behind p */
};
#define RECOVER_FACTS 8u

enum recover_decision {
    DECIDE_NEXT_SEGMENT, /* the segment is full: go on in the next one */
    DECIDE_CLEAN_CLOSE,  /* the log ends here; it was closed */
    DECIDE_CLEAN_END,    /* the log ends here; the writer died between two groups */
    DECIDE_CUT,          /* the log ends here; what follows was never acknowledged */
    DECIDE_DAMAGE,       /* something that was acknowledged is missing */
};

struct recover_row {
    unsigned care;  /* the facts that matter */
    unsigned value; /* and what they are */
    enum recover_decision decision;
    const char *why;
};
extern const struct recover_row twl_recover_table[];
extern const size_t twl_recover_rows;

const struct recover_row *twl_recover_decide(unsigned facts);

/* Judges the place where `cursor` stopped in the segment of set->entries[index]. */
struct recover_judgement {
    unsigned facts;
    const struct recover_row *row;
    struct later_groups later;
};
int twl_recover_judge(struct io *io, const struct segment_set *set, size_t index, struct cursor *cursor,
                      bool was_closed, struct recover_judgement *ret_judgement);

/* The end of the log. */
struct recovery {
    size_t index;    /* of the segment it ends in, the newest but for open groups; meaningless without one */
    uint64_t offset; /* where the next group goes */
    bool has_junk;   /* the block it goes to holds bytes of a torn group from there on */
    uint64_t last_group;      /* offset of the last sound group in that segment, 0 = none */
    struct position position; /* what the next group has to continue; next_lsn is 1 in a new log */
    size_t open_from;      /* segments from here on have open groups, dead ones too; set->begun if none has */
    uint64_t marked_lsn;   /* newest LSN that a group on disk proves durable */
    uint64_t claim_lsn;    /* first one of which there is only the claim of a dead writer; 0 = none */
    size_t claim_index;    /* its segment, */
    uint64_t claim_offset; /* and where in it */
    struct twinlog_report report;
};

/* 0 also for a torn tail; TWINLOG_ECORRUPT for damage, with the report filled in either way. Reads the
 * newest segment that is begun, those before it whose groups are open as well, and what lies behind. What the one
 * holds where the log ends is added up in `summary`, if that is not NULL. `has_writer`: claims in open groups are
 * somebody's, who is about to keep them. */
int twl_recover(struct io *io, const struct segment_set *set, bool has_writer, struct summary *summary,
                struct recovery *ret_recovery);

/* The segments at the end of the path that have open groups, from the oldest one of them on; set->begun if none has. */
int twl_recover_find_open(struct io *io, const struct segment_set *set, size_t *ret_from);
/* Has it FEATURE_MAPPED, and no group has got a header where the open one is? Neither a record of that nor the mark in
 * front of it need be there. */
int twl_segment_is_open(struct io *io, const struct segment_entry *entry, bool *ret_is_open);

#endif
