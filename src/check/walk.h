/* SPDX-License-Identifier: Apache-2.0 */
/* The walk of verify and repair, through every segment that makes the log. So the two find the same damage. */
#ifndef TWL_WALK_H
#define TWL_WALK_H

#include "log/log_snapshot.h"
#include "walk/segment_iter.h"

/* Whole records of which nothing tells whether a crash has discarded them. The next epoch writes over the beginning of
 * what it discards, and that place is damaged. */
struct doubt {
    uint64_t first_lsn, last_lsn;
    uint64_t from, to; /* offsets in the current segment; 0 = there are none */
};

/* Records that are damaged or missing, and the bytes of the current segment where they should be. */
struct hole {
    enum twinlog_finding finding;
    uint64_t from, to;
    uint64_t first_lsn, last_lsn; /* last < first: only a marker is damaged */
    struct epoch epochs[2];       /* in front of it and behind it; may be the same */
    uint64_t sure_lsn;  /* what is found in it of the epoch in front belongs to the log up to this LSN */
    bool may_have_more; /* records behind last_lsn, too */
    struct doubt doubt; /* what lies behind it */
};

/* What the walk meets, in log order. A result other than 0 ends the walk and is returned. */
struct visitor {
    int (*found)(void *context, const struct twinlog_report *report, const struct hole *hole);
    int (*record)(void *context, const struct iter_record *record); /* a sound one; may be NULL */
    void *context;
};

/* The options of the public calls. */
struct callbacks {
    int (*each)(void *context, const struct twinlog_report *report);            /* may be NULL */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes); /* may be NULL */
    void *context;
    int verdict; /* result of `each` if it ended the call */
};
struct walk {
    struct io *io;
    struct visitor visitor;
    struct callbacks callbacks;
    unsigned snapshot_flags;
    struct log_snapshot snapshot;
    uint64_t limit_lsn; /* twl_log_snapshot_find_durable() */
    struct segment_iter iter;
    uint64_t records; /* sound ones that the visitor does not take */
    uint64_t done_bytes, total_bytes;
    bool is_done;

    /* The segment that is walked: */
    size_t index;
    size_t newer_index; /* of one behind it that was found to be of a newer version; else not behind it */
    struct segment segment;
    struct segment_footer footer; /* if it has one that checks */
    bool is_sealed;               /* it was left, and has its footer */
    bool has_bad_seal;            /* its footer or its index does not check */
    uint64_t bound;               /* records of this LSN and later ones in the segment do not count */
    uint64_t next_lsn;            /* every record before it was checked or reported */
    struct epoch epoch;           /* of the last group */
    uint64_t footer_lsn;          /* the last LSN that its footer counts; 0 = it has none */
    bool has_begun;               /* its first group was durable, and was not met yet */

    uint64_t claim_lsn; /* first LSN of which there is only a dead writer's claim; 0 = none */
};

/* `io`, `visitor`, `callbacks` and `snapshot_flags` are set; all else is zero. */
int twl_walk_load(struct walk *w, struct twinlog_report *ret_report);
int twl_walk_through(struct walk *w);
void twl_walk_free(struct walk *w);
/* Hands a report to the caller's `each`, if there is one. -ECANCELED: that has ended the call. */
int twl_walk_call_each(struct walk *w, const struct twinlog_report *report);
/* last < first: a marker in front of them is damaged. */
void twl_walk_report_records(struct twinlog_report *ret_report, enum twinlog_finding finding,
                             enum twinlog_action action, uint64_t first_lsn, uint64_t last_lsn,
                             const char *what);
void twl_walk_report_doubt(const struct walk *w, const struct doubt *doubt, enum twinlog_action action,
                           struct twinlog_report *ret_report);

/* Are segments missing between this one and the next? */
static inline bool walk_has_gap_behind(const struct walk *w)
{
    const struct segment_set *set = &w->snapshot.set;
    const struct segment_entry *entry = &set->entries[w->index];
    return w->index + 1 < set->started && twl_sequence_before(&entry[1].header) != entry->header.sequence;
}

/* The iterator goes to the first later group that belongs to the log, or to the end of the segment; `is_done` if
 * nothing of the log is behind it. */
int twl_hole_measure(struct walk *w, struct hole *ret_hole);
/* Has one of the spares from that index on a group? Then it was started, and its first group is lost. */
int twl_walk_find_spare(const struct walk *w, size_t from, bool *ret_is_there);

#endif
