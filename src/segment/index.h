/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of a segment while it is written or walked: its extent, its times, and a sparse index. When the
 * writer leaves the segment, this becomes the footer and the index on disk. Recovery can always make it again (I7).
 *
 * The index has a fixed size. When it is full, every second entry is dropped, and from then on entries are
 * twice as far apart: small segments get a fine index, large ones a coarse one.
 */
#ifndef TWL_INDEX_H
#define TWL_INDEX_H

#include "format/format.h"

#define INDEX_MAX_ENTRIES 4096u
#define INDEX_MIN_SPACING 4096u

struct sparse_index {
    uint64_t spacing; /* minimum of bytes between entries */
    uint64_t last;    /* offset in the file of the newest entry's record */
    uint32_t count;
    struct index_entry entries[INDEX_MAX_ENTRIES];
};

struct summary {
    uint64_t first_lsn; /* first LSN of the first group; 0 = no group yet */
    uint64_t next_lsn;
    uint64_t data_end;
    int64_t min_ns, max_ns; /* of its records; INT64_MAX, INT64_MIN while it has none */
    int64_t began_ns;       /* when its first group with records was written; 0 = unknown */
    uint32_t chain;         /* of the last group */
    struct epoch epoch;     /* of the last group */
    uint64_t indexed_lsn;   /* index and times have no earlier records than this one; 0 = all are in it */
    uint64_t open_lsn;      /* first LSN of the last group if that is still open, else 0 */
    struct sparse_index index;
};

void twl_summary_begin(struct summary *summary);

/* Adds the next group, which is whole in memory at `bytes` (header included), with its offset in the file
 * and the smallest and largest time of its records (ignored if it has none). Looks into the bytes only if
 * the group is so large that entries belong inside it. */
void twl_summary_add_group(struct summary *summary, const struct group_header *group, uint64_t offset,
                           int64_t min_ns, int64_t max_ns, const unsigned char *bytes);

/* The same for a walk: every record in order, then the group. */
void twl_summary_add_record(struct summary *summary, uint64_t lsn, uint64_t group_offset,
                            uint32_t record_offset, int64_t time_ns);
void twl_summary_end_group(struct summary *summary, const struct group_header *group, uint64_t offset);

/* The footer of a segment that the writer leaves now. `room` bytes are free between data_end, rounded up
 * to a block, and the footer; *ret_step says to keep every n-th entry so that the entries fit. */
void twl_summary_footer(const struct summary *summary, uint64_t room, int64_t now_ns,
                        struct segment_footer *ret_footer, uint32_t *ret_step);

/* The number of the last of `count` entries, in order, that is not behind the record `lsn` and before which no record
 * is newer than `max_ns`, or -1. */
int64_t twl_index_find(const struct index_entry *entries, uint32_t count, uint64_t lsn, int64_t max_ns);

#endif
