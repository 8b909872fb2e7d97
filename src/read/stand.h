/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a reader stands: the segment, the walk in it, and how to get from there to another record.
 *
 * Somebody who looks up one record after the other comes back to the same segments, so those that were left for
 * another one stay open with their index, as many as there are slots. One that was read to its end does not: who
 * goes on from segment to segment has one open.
 *
 * It knows nothing of what may be read; it is asked for records that are there. When one is not found, that
 * may have many causes, all of them outside: STAND_LOST says so, and nothing is reported.
 */
#ifndef TWL_STAND_H
#define TWL_STAND_H

#include "read/horizon.h"
#include "segment/cursor.h"

#include <limits.h>

#define STAND_LOST INT_MIN /* not an error code: the record is not where it should be, or does not check */

#define STAND_SLOTS 32u

struct slot {
    struct segment segment; /* open if it has a file */
    size_t index;           /* of it, in the set of `generation` */
    uint64_t used;          /* the turn it was used last */
    struct cursor cursor;
};

struct stand {
    struct horizon *horizon;       /* [const] */
    struct twinlog_report *report; /* [const] filled in with every error */
    bool maps;                     /* [const] */

    struct slot slots[STAND_SLOTS];
    struct slot *at; /* the one that is stood in, if it is open */
    uint64_t turn;
    uint32_t generation;
    uint64_t first_lsn; /* as the slots were looked through last */
    uint64_t bound_lsn; /* the records of `at` end before this LSN */
    uint64_t wanted_id; /* identity of the segment that was tried last, 0 = none was found */
    struct summary
        *summary;           /* of a segment that is not sealed, as far as somebody had to look something up */
    uint64_t summarised_id; /* identity of that segment */
    struct trail *trail;    /* once somebody went back */
};

void twl_stand_begin(struct stand *stand, struct horizon *horizon, bool maps, struct twinlog_report *report);
void twl_stand_free(struct stand *stand);
void twl_stand_leave(struct stand *stand); /* closes the segment that is stood in */

/* All three: 1 = in front of that record, in its group. 0 = it is not there yet. */
int twl_stand_before(struct stand *stand, uint64_t lsn); /* quick if the record before it was read last */
int twl_stand_before_back(struct stand *stand,
                          uint64_t lsn); /* quick if the record behind it was read last */
/* The first record of that time or later, however far one can see; 0 = there is none. */
int twl_stand_before_time(struct stand *stand, int64_t time_ns);

/* After STAND_LOST: the record that is not where the walk has stopped, or the first one of that segment; 0 = unknown. */
uint64_t twl_stand_stop_lsn(const struct stand *stand);

int twl_stand_read(struct stand *stand, struct cursor_record *ret_record); /* the next one in the group */

#endif
