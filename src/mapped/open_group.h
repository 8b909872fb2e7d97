/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open group in memory: how any number of threads put records into it at once, by "An append" of docs/design.md.
 * format.h says what the bytes mean.
 *
 *     claim()     takes the next place and its LSN
 *     (copy)      the caller copies the payload, without a lock
 *     complete()  makes it a record, which every reader sees
 */
#ifndef TWL_OPEN_GROUP_H
#define TWL_OPEN_GROUP_H

#include "format/format.h"
#include "io/io.h"

#include <stdatomic.h>

struct open_group {
    struct io *io;        /* [const] that mapped the segment */
    unsigned char *bytes; /* [const] the segment, mapped from its start */
    uint64_t end;         /* [const] records end here at the latest; behind it is room for a claim */
    uint64_t first_lsn;   /* [const] */
    uint32_t epoch_seed;  /* [const] */
    uint8_t owner;        /* [const] number of the participant that claims places */

    /* [const pointer] Upper half: offset / 8; lower half: number of records before it. 0 = not started. */
    _Atomic uint64_t *cursor;
};

/* Sets the cursor to the first place, unless the group has started; any participant may call it at any time. */
void twl_open_group_begin(struct open_group *group);

struct place {
    unsigned char *at; /* the record's header; the payload goes behind it */
    uint64_t lsn;
};

/* Claims a place for a record of that size: 1. 0 = the group has ended, because this record, or one before
 * it, did not fit. -EIO: the bytes at the next place are neither a claim nor a record. */
int twl_open_group_claim(struct open_group *group, uint32_t size, struct place *ret_place);
/* Makes the claim a record, once the payload is in place. -EIO: not all of it is in the file
 * (twl_open_group_is_lost()). */
int twl_open_group_complete(struct open_group *group, const struct place *place,
                            const struct record_header *record);

/* Number of records that were claimed, and the offset of the next one. */
uint32_t twl_open_group_count(const struct open_group *group);
uint64_t twl_open_group_offset(const struct open_group *group);

/* A walk along the complete records. */
struct open_walk {
    uint64_t offset; /* of the next record */
    uint32_t count;  /* of records passed */
};
#define OPEN_WALK_INIT                                                                                       \
    {                                                                                                        \
        OPEN_RECORDS_OFFSET, 0                                                                               \
    }
/* Passes one record: 1. 0 = the next one is not complete, or there is none. */
int twl_open_group_pass(const struct open_group *group, struct open_walk *walk,
                        struct record_header *ret_record);

/* For a place that was claimed: true if there is neither a claim nor a record any more, because the kernel
 * dropped a page that it could not write. */
bool twl_open_group_is_gone(const struct open_group *group, const struct open_walk *walk);

/* The participant that has claimed the next place and not completed the record; 0 = none. *ret_size may be
 * CLAIM_END. */
unsigned twl_open_group_owner(const struct open_group *group, const struct open_walk *walk,
                              uint32_t *ret_size);
/* A page of the file could not be read or allocated, and has been replaced by memory of this process. */
bool twl_open_group_is_lost(const struct open_group *group);

/* Makes the next claim a filler, because its owner is dead. Any number of participants may do that, even long
 * after it was done. False: the group is lost in this process. */
bool twl_open_group_fill(const struct open_group *group, const struct open_walk *walk, uint32_t size,
                         int64_t time_ns);
/* Moves the cursor behind a place if its owner has claimed it and not moved the cursor on. */
void twl_open_group_help(const struct open_group *group);
/* Passes a claimed place, complete or not. */
void twl_open_group_skip(struct open_walk *walk, uint32_t size);

#endif
