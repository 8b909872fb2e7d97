/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the end of the log. Reads, decides by the table of docs/recovery.md, and changes nothing. */
#ifndef TWL_RECOVER_H
#define TWL_RECOVER_H

#include "set/segment_set.h"
#include "walk/segment_iter.h"

/* The facts about the place p, with next LSN n, where a walk stopped. */
enum recover_fact {
    FACT_LATER_DURABLE = 1u << 0, /* something later, or the header at p, proves it durable */
    FACT_NEWEST = 1u << 1,        /* no later segment is started */
    FACT_JOINS = 1u << 2,         /* the next segment begins with the group that continues here */
    FACT_ZERO = 1u << 3,          /* this segment has no later group, and p's block is unwritten from p on */
    FACT_CLOSED = 1u << 4,        /* the last group before p is the marker of a close */
    FACT_SEALED = 1u << 5,        /* no segment joins, and by its footer this one had more, or was left */
    FACT_PASSED = 1u << 6,        /* no segment joins, and the head of the log or a cursor lies behind p */
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

/* Judges the place where `iter` stopped in set->entries[index]. The group `last` in front of it tells how many bytes
 * without a group end the search of that segment and of the next spare; NULL: nothing does. */
struct recover_judgement {
    unsigned facts;
    const struct recover_row *row;
    struct later_groups later;
    bool is_followed;    /* this segment has a later group, with proof or without */
    bool has_ended;      /* at the place is the word that ended an open group */
    uint64_t first_lsn;  /* of the segment; 0 = nothing tells it */
    uint64_t footer_lsn; /* the last LSN that the footer of the segment counts; 0 = it has none */
    uint64_t closed_lsn; /* the last LSN of a group at the place, of which the header proves all; 0 = none */
    size_t newer_index;  /* after TWINLOG_EVERSION, which sets nothing else: the segment that is newer */
};
int twl_recover_judge(struct io *io, const struct segment_set *set, size_t index, struct segment_iter *iter,
                      const struct group_header *last, struct recover_judgement *ret_judgement);

/* The end of the log. */
struct recovery {
    size_t index;    /* segment with the end: the newest, unless groups are open; meaningless without one */
    uint64_t offset; /* where the next group goes */
    bool has_junk;   /* from there on the block has bytes of a torn group, or the word that ended a group */
    uint64_t last_group;      /* offset of the last sound group in that segment; 0 = none */
    struct position position; /* what the next group must continue; next_lsn is 1 in a new log */
    size_t open_from;      /* all segments from here on have open groups, dead ones too; set->started: none */
    uint64_t marked_lsn;   /* newest LSN that a group on disk proves durable */
    uint64_t claim_lsn;    /* first LSN of which only the claim of a dead writer is left; 0 = none */
    size_t claim_index;    /* index of the segment with that claim */
    uint64_t claim_offset; /* offset of the claim in the segment */
    struct twinlog_report report;
};

/* Returns 0 also for a torn tail, TWINLOG_ECORRUPT for damage; fills in the report either way. `summary`, if not NULL,
 * receives the contents of the segment in which the log ends. `has_writer`: a live one is about to complete claims. */
int twl_recover(struct io *io, const struct segment_set *set, bool has_writer, struct summary *summary,
                struct recovery *ret_recovery);

/* Begins at the group that the writer has noted, if that is there. `summary`, which may be NULL, gets what a walk to it
 * would have found, but for the index and the times of records. False: the iterator must begin again. */
bool twl_begin_at_note(struct segment_iter *iter, uint64_t segment_id, uint64_t offset,
                       struct summary *summary);

/* The oldest segment with an open group, or set->started. `ret_report`, which may be NULL, is filled in after
 * TWINLOG_EVERSION. */
int twl_recover_find_open(struct io *io, const struct segment_set *set, size_t *ret_from,
                          struct twinlog_report *ret_report);
/* Is the segment mapped, without a group header at the place of the open group? `ret_report` as above. */
int twl_segment_is_open(struct io *io, const struct segment_entry *entry, bool *ret_is_open,
                        struct twinlog_report *ret_report);
/* Reports that what is at `offset`, where record `lsn` would be, checks and is of a newer version of the format. */
void twl_recover_report_newer(struct twinlog_report *ret_report, const struct segment_entry *entry,
                              uint64_t lsn, uint64_t offset);

/* Makes these segments durable, names included. -EINVAL counts as success: a read-only file system may not know the
 * call. -EROFS does not: a file system that had to stop writing returns it, and nothing may be on the disk. */
int twl_recover_sync(struct io *io, const struct segment_set *set, size_t from, size_t to);

/* ---- settle.c: completes the open groups that a dead writer has left --------------------------- */

/* For a caller that has the writer's lock and is about to recover. 1 = something was settled, and the set must be
 * loaded again; the report is then the one of the recovery before. 0 = nothing is open. */
int twl_settle(struct io *io, const struct segment_set *set, struct twinlog_report *ret_report);

/* Removes the spares. A crash in the middle leaves the set without a gap. The report names a file that stays. */
int twl_settle_remove_spares(struct io *io, struct segment_set *set, struct twinlog_report *ret_report);

#endif
