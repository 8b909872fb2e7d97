/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares the footer and the index of a sealed segment with a walk through its records. Both can be made
 * again from the groups, so a fault in them loses nothing; but readers would take the long way.
 */
#ifndef TWL_SEAL_CHECK_H
#define TWL_SEAL_CHECK_H

#include "walk/segment_iter.h"

struct seal_check {
    const struct loaded_index *index; /* of the cursor */
    bool is_sealed;
    struct segment_footer footer;
    const char *wrong; /* the first fault, in words; NULL = none so far */
    uint32_t next;     /* number of the next entry of the index to be met */
    uint64_t records;
    int64_t min_ns, max_ns;
    bool is_partial; /* the walk left records out: facts about all records can't be checked */
};

/* Reads footer and index of the segment that the cursor is in. Negative: a system error. */
int twl_seal_check_begin(struct seal_check *check, struct segment_iter *cursor);
/* Takes each record that the walk meets, in order. A group may be walked again if is_partial was set. */
void twl_seal_check_record(struct seal_check *check, const struct cursor_record *record,
                           uint64_t group_offset);
/* The walk met the whole segment and ended at `end`. */
void twl_seal_check_end(struct seal_check *check, uint64_t data_end, struct position end);

#endif
