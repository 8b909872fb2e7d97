/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk through one segment, group by group and record by record. Recovery, readers and verify all
 * walk with it, so that they can't disagree about what is valid.
 *
 * The first group of a segment begins at some multiple of 8 in its first data block, and says so.
 */
#ifndef TWL_CURSOR_H
#define TWL_CURSOR_H

#include "segment/segment_set.h"

/* A piece of the file in memory, read into a buffer that grows to hold the largest record asked for; or, where
 * the cursor maps, the whole file. */
struct window {
    unsigned char *buffer;
    size_t capacity;
    const unsigned char *bytes;
    uint64_t start; /* offset in the file of bytes[0] */
    size_t size;
    size_t step;   /* bytes that were asked for last: more each time, as long as reading goes on there */
    struct io *io; /* of the view */
    const unsigned char *view; /* of the whole file; NULL = read */
    size_t view_bytes;
};

/* The index of a sealed segment, once a seek has read it. The memory is kept across segments. */
struct loaded_index {
    struct index_entry *entries;
    uint32_t count, room;
    bool is_loaded;
};

/* A group of which a record was looked up that is far behind its header. */
#define LARGE_GROUPS 8u
struct large_group {
    uint64_t offset; /* 0 = none */
    struct group_header header;
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
    bool maps;               /* [set before begin] look at files instead of reading them, where that works */
    struct summary *summary; /* [set after begin] NULL, or what accepted groups are added to */
    /* [set after begin] A claim in an open group is a void: its writer is dead. What comes behind it has to check. */
    bool passes_claims;
    struct window window;
    struct loaded_index index;
    struct large_group large[LARGE_GROUPS];
    uint32_t large_count; /* that were put there so far, round and round */
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
    uint64_t entered_offset; /* of the first record that was entered last, */
    uint32_t entered;        /* and how many there were */
    bool is_open;            /* the group is an open one, as far as it is known */
    bool is_claim;           /* the record that was looked at last is a claim */
};

struct cursor_record {
    uint64_t lsn;
    uint64_t offset; /* of its header */
    struct record_header header;
    const unsigned char *payload; /* until the cursor moves */
};

/* The buffer is allocated at the first move and kept until twl_cursor_free(), across segments. */
void twl_cursor_begin(struct cursor *cursor, const struct segment *segment, struct position position);
/* The same once more for the segment it is in: what it holds of it, view and index, is kept. */
void twl_cursor_restart(struct cursor *cursor, struct position position);
/* Claims in its open group are voids, if nobody writes the log. */
void twl_cursor_pass_claims(struct cursor *cursor, bool has_writer);
/* The buffer of another one that is not used for now; that one forgets what it has read. */
void twl_cursor_take_buffer(struct cursor *cursor, struct cursor *from);
/* Gives a view back: before the segment is closed, if the cursor maps. It can't be used until the next begin. */
void twl_cursor_let_go(struct cursor *cursor);
void twl_cursor_free(struct cursor *cursor);

/* What is known of the history in front of a segment without reading another one: everything for the
 * first segment of a log, nothing for any other. */
struct position twl_position_before(const struct segment *segment);

/* Forgets what was read of the file, so that a live writer's newer bytes are seen. */
void twl_cursor_refresh(struct cursor *cursor);

/* -EIO: some of what was looked at could not be had from the disk and looked like zeros. Else 0. */
int twl_cursor_check(const struct cursor *cursor);

/* LSN of the record that a walk comes to next; 0 = unknown. */
static inline uint64_t twl_cursor_next_lsn(const struct cursor *cursor)
{
    return cursor->position.next_lsn - cursor->records_left;
}

/* Enters the group at cursor->offset: 1. 0 = no group is there that continues the history. Negative =
 * the system's error, or TWINLOG_EVERSION: what is there checks, and is of a newer version; so for records. Records left in the group before are skipped without a look.
 *
 * An open group is entered record by record: each time it has one more, as long as the next one is complete. */
int twl_cursor_enter_group(struct cursor *cursor);

/* The next record of the group: 1. 0 = the group has no more. TWINLOG_ECORRUPT = a record is there
 * whose checksum fails; the cursor stays. Else the system's error. */
int twl_cursor_next_record(struct cursor *cursor, struct cursor_record *ret_record);

/* Stands in front of the record again that was returned last. */
void twl_cursor_unread(struct cursor *cursor, const struct cursor_record *record);

/* Passes the next record by its header alone. Results as for twl_cursor_next_record(). */
int twl_cursor_skip_record(struct cursor *cursor);

/* Enters the group and checks every record in it, then stands behind it: 1. 0 = there is no group that
 * continues the history, or it is not whole; then the cursor stands in front of it. */
int twl_cursor_accept_group(struct cursor *cursor);

/* Stands behind the last group that is in cursor->summary, or in front of the first one. */
void twl_cursor_resume(struct cursor *cursor);

/* Stands in front of the group again that was entered last, or of the record of an open one. Where nothing was
 * known of the history before, what the group's header says of it is kept. */
void twl_cursor_back_out(struct cursor *cursor);

/* Straight to the group that holds `lsn`, and in it to that record: 1. From the last place before it that the index
 * knows, which is the footer's if the segment is sealed (may be NULL) and the one in cursor->summary if it is
 * not; or from where the cursor stands, or from the start. 0 = no group of the segment holds it. TWINLOG_ECORRUPT
 * as for records. What the index says is not trusted: the group and the records that are passed must check. */
int twl_cursor_seek(struct cursor *cursor, const struct segment_footer *footer, uint64_t lsn);

/* The same for the first record of `time_ns` or later: it becomes the next record. 0 = all are older; the
 * cursor then stands behind the last group. Voids have no time. */
int twl_cursor_seek_time(struct cursor *cursor, const struct segment_footer *footer, int64_t time_ns);
/* The same from where the cursor stands on. */
int twl_cursor_pass_older(struct cursor *cursor, int64_t time_ns);

/* To go back: the places of the last records that a walk has passed, and marks on the way that it took to get
 * there, for the next walk. */
#define TRAIL_RECORDS 1024u
struct trail {
    uint64_t next_lsn; /* behind the last one */
    uint32_t count;
    struct {
        uint64_t group_offset;
        uint32_t record_offset;
    } places[TRAIL_RECORDS]; /* by LSN, modulo their number */
    uint64_t marked_lsn;     /* behind the records that the marks are of; 0 = there are none */
    struct summary marks;
};
void twl_trail_begin(struct trail *trail);
/* As twl_cursor_seek(), and leaves a trail of the records before `lsn`, as far back as the index led or as many
 * as it holds, and of itself. */
int twl_cursor_trace(struct cursor *cursor, const struct segment_footer *footer, uint64_t lsn,
                     struct trail *trail);
bool twl_trail_find(const struct trail *trail, uint64_t lsn, struct index_entry *ret_entry);
/* To a place that a trail or an index knows: 1. 0 = that record is not there. */
int twl_cursor_place(struct cursor *cursor, const struct index_entry *entry);

/* Can nothing more be added to the open group it stands behind, or to the place of one? Its end was claimed, or there
 * is no room. Negative: an error. */
int twl_cursor_has_ended(struct cursor *cursor);

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
