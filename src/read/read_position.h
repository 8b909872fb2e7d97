/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The read position: the segment that a reader is in, the iterator in it, and how to get to another record.
 *
 * A reader that looks up single records comes back to the same segments. So a segment that was left for
 * another one stays open with its index, as long as there are slots, and until the set or the head changes. A
 * segment that was read to its end is closed, so a reader that goes on from segment to segment has one file open.
 *
 * The read position does not know which records may be read; the caller asks for records that exist. A record
 * that is not found may have many causes, all outside this file: the result is POSITION_LOST, without a report.
 */
#ifndef TWL_READ_POSITION_H
#define TWL_READ_POSITION_H

#include "read/read_snapshot.h"
#include "walk/segment_iter.h"

#include <limits.h>

#define POSITION_LOST INT_MIN /* not an error code: the record is not in its place, or does not check */

#define POSITION_SLOTS 32u

struct slot {
    struct segment segment; /* open if it has a file */
    size_t index;           /* its index in the set of `generation` */
    bool is_from_disk;      /* it is read past the page cache */
    uint64_t used;          /* turn of the last use */
    struct segment_iter iter;
};

struct read_position {
    struct read_snapshot *snapshot; /* [const] */
    bool maps;                      /* [const] */

    struct slot slots[POSITION_SLOTS];
    struct slot *at; /* the current slot; if it is not open, that of the segment that was tried last */
    uint64_t turn;
    uint32_t generation;
    uint64_t first_lsn;      /* the snapshot's first_lsn when the slots were last checked */
    uint64_t summarised_id;  /* identity of a segment that is not sealed */
    unsigned begun;          /* so many times its index was begun */
    struct summary *summary; /* of it: what lookups have needed so far; NULL: nothing yet */
};

/* The memory of `pos` is zeroed. */
void twl_read_position_begin(struct read_position *pos, struct read_snapshot *snapshot, bool maps);
void twl_read_position_free(struct read_position *pos);
void twl_read_position_leave(struct read_position *pos); /* closes the current segment */

/* Where a reader is: at that record, in that segment. */
struct visit {
    uint64_t lsn; /* 0 = nowhere */
    uint64_t sequence;
};

/* All three return 1 in front of that record, in its group, and 0 if the record is not there yet. If the reader comes
 * `from` the record beside it, the two must be of one history, by a walk through what lies between them: no index
 * leads from one history to another. */
/* Quick if the preceding record was read last. */
int twl_read_position_before(struct read_position *pos, uint64_t lsn, struct visit from);
int twl_read_position_back(struct read_position *pos, uint64_t lsn, struct visit from);
/* The first record of that time or later that the snapshot covers; 0 = there is none. */
int twl_read_position_before_time(struct read_position *pos, int64_t time_ns);

/* The records of the current segment end before this LSN. */
uint64_t twl_read_position_bound(const struct read_position *pos);

/* The epoch of record `lsn`, and its first LSN that is kept: 1. The position is left. */
int twl_read_position_epoch(struct read_position *pos, uint64_t lsn, struct epoch *ret_epoch,
                            uint64_t *ret_first_lsn);

/* After POSITION_LOST: LSN of the record that the walk did not find where it stopped, or the first LSN of
 * that segment; 0 = unknown. */
uint64_t twl_read_position_stop_lsn(const struct read_position *pos);

/* The next record of the group. */
int twl_read_position_read(struct read_position *pos, struct iter_record *ret_record);

#endif
