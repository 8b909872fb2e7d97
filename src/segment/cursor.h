/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk through one segment, group by group and record by record. Recovery, readers and verify all
 * walk with it, so that they can't disagree about what is valid.
 *
 * The first group of a segment begins at some multiple of 8 in its first data block, and says so.
 */
#ifndef TWL_CURSOR_H
#define TWL_CURSOR_H

#include "segment/segment.h"

/* A piece of the file in memory. Grows to hold the largest record asked for. */
struct window {
    unsigned char *bytes;
    size_t capacity;
    uint64_t start; /* offset in the file of bytes[0] */
    size_t size;
};

/* Where a walk is in the history of the log: what the next group has to fit. */
struct position {
    uint64_t next_lsn; /* 0 = unknown: the next group tells */
    uint32_t chain;    /* checksum of the last group header */
    struct epoch epoch;
};

struct cursor {
    const struct segment *segment; /* [const while in use] */
    size_t window_bytes;           /* what to read at once; 0 = the usual */
    struct window window;
    struct position position;
    uint64_t offset;  /* where the next group begins, if there is one; 0 = somewhere in the first block */
    bool is_at_first; /* that is the first group of the segment, known by its offset */

    /* inside a group */
    struct position before; /* position in front of it */
    struct group_header group;
    uint64_t group_offset;
    uint64_t record_offset;
    uint32_t records_left;
    uint32_t epoch_seed;
};

struct cursor_record {
    uint64_t lsn;
    uint64_t offset; /* of its header */
    struct record_header header;
    const unsigned char *payload; /* until the cursor moves */
};

/* The buffer is allocated at the first move and kept until twl_cursor_free(), across segments. */
void twl_cursor_begin(struct cursor *cursor, const struct segment *segment, struct position position);
void twl_cursor_free(struct cursor *cursor);

/* What is known of the history in front of a segment without reading another one: everything for the
 * first segment of a log, nothing for any other. */
struct position twl_position_before(const struct segment *segment);

/* Forgets what was read of the file, so that a live writer's newer bytes are seen. */
void twl_cursor_refresh(struct cursor *cursor);

/* Enters the group at cursor->offset: 1. 0 = no group is there that continues the history. Negative =
 * the system's error. Records left in the group before are skipped without a look. */
int twl_cursor_enter_group(struct cursor *cursor);

/* The next record of the group: 1. 0 = the group has no more. TWINLOG_ECORRUPT = a record is there
 * whose checksum fails; the cursor stays. Else the system's error. */
int twl_cursor_next_record(struct cursor *cursor, struct cursor_record *ret_record);

/* Passes the next record by its header alone. Results as for twl_cursor_next_record(). */
int twl_cursor_skip_record(struct cursor *cursor);

/* Enters the group and checks every record in it, then stands behind it: 1. 0 = there is no group that
 * continues the history, or it is not whole; then the cursor stands in front of it. */
int twl_cursor_accept_group(struct cursor *cursor);

/* Stands in front of the group again that was entered last. Where nothing was known of the history
 * before, what the group's header says of it is kept. */
void twl_cursor_back_out(struct cursor *cursor);

/* Pointer to `size` bytes at `offset`; NULL with *ret_error 0 if the file has fewer. */
const unsigned char *twl_cursor_bytes(struct cursor *cursor, uint64_t offset, size_t size, int *ret_error);

/* What lies behind a place where the walk stopped: groups written later in the same or a later epoch.
 * Every multiple of 8 may hold a group header, and a header is valid at one place only, so this finds
 * what the writer wrote and nothing else. */
struct later_groups {
    uint64_t offset;    /* of the first one, 0 = none */
    uint64_t first_lsn; /* of the first one */
    bool is_proof;      /* one of them says that what is missing was durable when it was written */
};
/* Does this group, which lies behind the stop, prove that what belongs there was durable? */
bool twl_group_proves(const struct group_header *group, struct position stop);
int twl_cursor_find_later(struct cursor *cursor, uint64_t from, struct position stop,
                          struct later_groups *ret_later);

#endif
