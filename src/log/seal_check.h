/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds the footer and the index of a sealed segment against a walk through its records. All of it can be made
 * again from the groups, so what is wrong there loses nothing; but readers would take the long way.
 */
#ifndef TWL_SEAL_CHECK_H
#define TWL_SEAL_CHECK_H

#include "segment/cursor.h"

struct seal_check {
    const struct segment *segment;
    bool is_sealed;
    struct segment_footer footer;
    const char *wrong; /* the first thing that is, in words; NULL = nothing so far */

    struct index_entry entry; /* the next one to be met */
    uint32_t next;            /* its number; behind the last one there is none */
    unsigned char chunk[BLOCK_BYTES];
    uint64_t chunk_start; /* offset in the file; 0 = nothing was read */

    uint64_t records;
    int64_t min_ns, max_ns;
    bool is_partial; /* the walk left records out: what follows from all of them can't be held against it */
};

/* Reads the footer, and the index once for its checksum. Negative: the system's error. */
int twl_seal_check_begin(struct seal_check *check, const struct segment *segment);
/* Each record that the walk met, in order. A group may be gone through again if is_partial was set. */
int twl_seal_check_record(struct seal_check *check, const struct cursor_record *record,
                          uint64_t group_offset);
/* The walk met the whole segment, and ended there. */
void twl_seal_check_end(struct seal_check *check, uint64_t data_end, struct position end);

#endif
