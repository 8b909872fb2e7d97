/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open group in memory: how any number of threads put records into it at once. format.h says what the bytes mean.
 *
 *     claim()     takes the next place and its LSN
 *     (copy)      the caller, without any lock
 *     complete()  makes it a record, for all to see
 *
 * The truth is in the places: who stores a claim where zeros were has the place, and everybody can see how large it
 * is. The cursor says where the next place is, or the one before, if whoever took that has not moved it on yet; then
 * the next one who comes does that for him. So nobody waits for anybody, and a place that was taken stays taken:
 * it is never zero again.
 */
#ifndef TWL_OPEN_GROUP_H
#define TWL_OPEN_GROUP_H

#include "format/format.h"
#include "io/io.h"

#include <stdatomic.h>

struct open_group {
    struct io *io;        /* [const] that has mapped it */
    unsigned char *bytes; /* [const] the segment, mapped from its start */
    uint64_t end;         /* [const] records end here at the latest */
    uint64_t first_lsn;   /* [const] */
    uint32_t epoch_seed;  /* [const] */
    uint8_t owner;        /* [const] in whose name places are claimed */

    _Atomic uint64_t
        *cursor; /* [const] offset / 8 in the upper half, records before it in the lower one; 0 = not begun */
};

/* Whoever has filled in the rest; again, and by others, does no harm. */
void twl_open_group_begin(struct open_group *group);

struct place {
    unsigned char *at; /* of the record's header; the payload goes behind it */
    uint64_t lsn;
};

/* A place for a record of that size: 1. 0 = the group has ended, because this record, or one before, did not fit. -EIO:
 * what stands at the next place is neither a claim nor a record. */
int twl_open_group_claim(struct open_group *group, uint32_t size, struct place *ret_place);
/* The payload is in place. -EIO: not all of it is in the file (twl_open_group_is_lost()), and it stays a claim. */
int twl_open_group_complete(struct open_group *group, const struct place *place,
                            const struct record_header *record);

/* Records that were claimed, and where the next one goes. */
uint32_t twl_open_group_count(const struct open_group *group);
uint64_t twl_open_group_offset(const struct open_group *group);

/* A walk along the records, as far as they are complete. */
struct open_walk {
    uint64_t offset; /* of the next one */
    uint32_t count;  /* passed */
};
#define OPEN_WALK_INIT                                                                                       \
    {                                                                                                        \
        OPEN_RECORDS_OFFSET, 0                                                                               \
    }
/* Passes one: 1. 0 = the next one is not complete, or there is none. */
int twl_open_group_pass(const struct open_group *group, struct open_walk *walk,
                        struct record_header *ret_record);

/* The next one was claimed, and is neither that nor complete: what was stored there is gone, as the kernel may drop a page
 * that it could not write. */
bool twl_open_group_is_gone(const struct open_group *group, const struct open_walk *walk);

/* Who has claimed the next one and not completed it; 0 = nobody. *ret_size may be CLAIM_END. */
unsigned twl_open_group_owner(const struct open_group *group, const struct open_walk *walk,
                              uint32_t *ret_size);
/* A page of the file that could not be had has been replaced: what was stored there since is memory of this process. */
bool twl_open_group_is_lost(const struct open_group *group);

/* Makes it a void, because its owner is dead. Any number may do that, even long after it was done. False: the group is
 * lost here. */
bool twl_open_group_bury(const struct open_group *group, const struct open_walk *walk, uint32_t size,
                         int64_t time_ns);
/* Moves the cursor behind a record that somebody has claimed, and not come to that. */
void twl_open_group_help(const struct open_group *group);
/* Passes what is claimed, complete or not. */
void twl_open_group_skip(struct open_walk *walk, uint32_t size);

/* A walk as one word, to be shared as a hint; where that says nothing, the beginning. */
uint64_t twl_open_walk_pack(const struct open_walk *walk);
struct open_walk twl_open_walk_unpack(uint64_t packed);

#endif
