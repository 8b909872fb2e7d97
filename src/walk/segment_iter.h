/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The iterator: a walk through one segment, group by group and record by record. Recovery, readers and verify
 * all use it, so they can't disagree about what is valid.
 *
 * The first group of a segment begins at a multiple of 8 in the first data block, and is marked as the first.
 */
#ifndef TWL_SEGMENT_ITER_H
#define TWL_SEGMENT_ITER_H

#include "segment/segment.h"

/* A part of the file in memory. It is read into a buffer that grows to hold the largest record asked for.
 * If the iterator maps, it is the whole file. */
struct window {
    unsigned char *buffer;
    size_t capacity;
    const unsigned char *bytes;
    uint64_t start; /* offset in the file of bytes[0] */
    size_t size;
    size_t step; /* bytes that were requested last: more each time while reading goes on there */
    const unsigned char *view; /* read-only mapping of the whole file; NULL = read */
};

/* The index of a sealed segment, once it was read. The memory is reused across segments. */
struct loaded_index {
    struct index_entry *entries;
    uint32_t count, room;
    bool is_loaded;
    uint64_t probed_bytes; /* what reading blocks of it for look-ups has cost */
};

/* Where a walk is in the history of the log: what the next group must continue. */
struct position {
    uint64_t next_lsn; /* 0 = unknown: the next group sets it */
    uint32_t chain;    /* checksum of the last group header */
    struct epoch epoch;
};

/* Does the group belong there? */
bool twl_group_continues(const struct group_header *group, const struct position *at);

struct segment_iter {
    const struct segment *segment; /* [const while in use] */
    struct summary *summary;       /* [set after begin] NULL, or what accepted groups are added to */
    /* Set by the owner, and kept across segments: */
    size_t window_bytes; /* bytes to read at once; 0 = default */
    /* Set by the owner for each segment: how far the file was written when the window was read. Reading ahead stops
     * there, unless the walk is behind it. */
    uint64_t known_end;
    bool maps; /* [set before begin] maps files instead of reading them, where possible */
    /* A claim in an open group counts as a filler, because its writer is dead. The record behind it must check. */
    bool passes_claims;
    uint64_t file_bytes; /* that the file had when it was asked last, in whole blocks */
    struct window window;
    struct loaded_index index;
    struct position position;
    uint64_t offset;  /* where the next group would begin; 0 = somewhere in the first block */
    bool is_at_first; /* `offset` is that of the first group of the segment */
    bool has_passed;  /* what is between the last two groups that were entered does not check */

    /* inside a group */
    struct position before; /* position in front of the group */
    struct group_header group;
    uint64_t group_offset;
    uint64_t record_offset;
    uint32_t records_left;
    uint32_t epoch_seed;
    uint64_t entered_offset; /* offset of the first record that was entered last, */
    uint32_t entered;        /* and how many were entered */
    bool is_open;            /* the group is an open one; its header here covers the records that are known */
    bool is_claim;           /* the record that was decoded last is a claim */
};

struct iter_record {
    uint64_t lsn;
    uint64_t offset; /* of its header */
    struct record_header header;
    const unsigned char *payload; /* valid until the iterator moves */
};

/* Starts a walk. The buffer is allocated at the first move and kept until twl_iter_free(), across segments. */
void twl_iter_begin(struct segment_iter *iter, const struct segment *segment, struct position position);
/* Moves to where a group may begin; 0 = at the start of the segment. Mapping and index are kept. */
static inline void twl_iter_place_at(struct segment_iter *iter, uint64_t offset, struct position position)
{
    iter->position = position;
    iter->offset = offset;
    iter->is_at_first = false;
    iter->is_open = false;
    iter->group = (struct group_header){ 0 };
    iter->records_left = 0;
}
/* Takes over the buffer of an iterator that is not used now; that iterator forgets what it has read. */
void twl_iter_take_buffer(struct segment_iter *iter, struct segment_iter *from);
/* Releases the mapping. Call it before the segment is closed, if the iterator maps. The iterator is unusable
 * until the next begin. */
void twl_iter_let_go(struct segment_iter *iter);
void twl_iter_free(struct segment_iter *iter);

/* What is known of the history in front of a segment without reading another segment: everything for a
 * fixed start, nothing for any other segment. */
struct position twl_position_before(const struct segment_header *header);

/* Forgets the bytes read from the file, so that newer bytes of a live writer are seen. */
void twl_iter_refresh(struct segment_iter *iter);

/* -EIO: some of the mapped bytes could not be read from the disk and looked like zeros. Else 0. */
int twl_iter_check(const struct segment_iter *iter);

/* LSN of the record that the walk reaches next; 0 = unknown. */
static inline uint64_t twl_iter_next_lsn(const struct segment_iter *iter)
{
    return iter->position.next_lsn - iter->records_left;
}

/* Enters the group at iter->offset: 1. 0 = no group that continues the history is there. Negative = a
 * system error, or TWINLOG_EVERSION: the bytes there check, but are of a newer version (records likewise).
 * Records left in the group before are skipped unread.
 *
 * In front of the head of the log groups need not check: the walk goes on with the next one that does, if it
 * begins no later than the head.
 *
 * An open group is entered record by record: each call adds one more, as long as the next record is complete. */
int twl_iter_enter_group(struct segment_iter *iter);

/* The next record of the group: 1. 0 = the group has no more. TWINLOG_ECORRUPT = a record is there but its
 * checksum fails; the iterator stays. Else a system error. */
int twl_iter_next_record(struct segment_iter *iter, struct iter_record *ret_record);

/* The same, but passes removed records that do not check, as long as they lead to one that is kept. */
int twl_iter_next_kept(struct segment_iter *iter, struct iter_record *ret_record);

/* Moves back in front of the record that was returned last. */
void twl_iter_unread(struct segment_iter *iter, const struct iter_record *record);

/* Skips the next record by its header alone. Results as for twl_iter_next_record(). */
int twl_iter_skip_record(struct segment_iter *iter);

/* Enters the group, checks every record in it that is kept, and moves behind it: 1. 0 = no group continues the history,
 * or the group is not whole; the iterator is then in front of it. */
int twl_iter_accept_group(struct segment_iter *iter);

/* Moves behind the last group in iter->summary, or in front of the first group. */
void twl_iter_resume(struct segment_iter *iter);

/* Moves in front of the group at `offset`, if it is whole and was written when everything in front of it was durable:
 * 1. Then a walk from the start of the segment would come to it, or find that something durable is missing, whatever
 * says that a group is there. 0 = the iterator is somewhere else. */
int twl_iter_pass_to(struct segment_iter *iter, uint64_t offset);

/* The same, to a group near the one that holds `lsn` and not behind it, without an index. The headers of groups in
 * front of the noted one say where to look: if they are of no use, the result is 0. */
int twl_iter_pass_near(struct segment_iter *iter, uint64_t noted_offset, uint64_t lsn);

/* Moves back in front of the group, or of the record of an open group, that was entered last. If nothing
 * was known of the history before, what the group's header says of it is kept. */
void twl_iter_back_out(struct segment_iter *iter);

/* Moves to the group that holds `lsn`, and in it to that record: 1. Starts from the last place before it
 * in the index (of the footer if the segment is sealed, else of iter->summary; either may be NULL), from
 * the current place, or from the start. 0 = no group of the segment holds it. TWINLOG_ECORRUPT as for
 * records. The index is not trusted: the group and the skipped records must check. */
int twl_iter_seek(struct segment_iter *iter, const struct segment_footer *footer, uint64_t lsn);

/* Reads the index that belongs to the footer. One that does not check has no entries. Negative: a system error;
 * then nothing is known of the index, and the next call reads it. */
int twl_iter_load_index(struct segment_iter *iter, const struct segment_footer *footer);

/* As twl_iter_seek(), for the first record from `first_lsn` on of `time_ns` or later, which becomes the next record.
 * 0 = all are older; the iterator is then behind the last group. Fillers have no time. */
int twl_iter_seek_time(struct segment_iter *iter, const struct segment_footer *footer, uint64_t first_lsn,
                       int64_t time_ns);

/* Moves to a place from an index: 1. 0 = that record is not there. */
int twl_iter_place(struct segment_iter *iter, const struct index_entry *entry);

/* Is the open group that the iterator is behind, or the place of one, complete? Its end was claimed, or
 * there is no room. The same once the group has its header. Negative: an error. */
int twl_iter_has_ended(struct segment_iter *iter);

/* Returns `size` bytes at `offset`; NULL with *ret_error 0 if the file has fewer. */
const unsigned char *twl_iter_bytes(struct segment_iter *iter, uint64_t offset, size_t size, int *ret_error);

/* What lies behind a place where the walk stopped: groups written later, in the same or a later epoch.
 * Every multiple of 8 may hold a group header, and a header is valid at one place only. So this finds what
 * the writer wrote, and nothing else. */
struct later_groups {
    uint64_t offset;    /* offset of the first one; 0 = none */
    uint64_t end;       /* of all of them */
    uint64_t first_lsn; /* its first LSN */
    struct epoch epoch; /* its epoch */
    uint64_t last_lsn;  /* newest LSN of all of them */
    uint64_t named_lsn; /* newest LSN that one of them names as durable; 0 = none */
    uint64_t sure_lsn;  /* the same, by those of `epoch` */
    bool is_proof;      /* one of them proves that the missing data was durable when it was written */
    bool is_confirmed;  /* one of them proves that no crash has discarded the first one */
};
/* Does this group, which lies behind the stop, prove that the missing data was durable? */
bool twl_group_proves(const struct group_header *group, struct position stop);
/* Ends where `gap` bytes from the place on, or behind a group that was found, have none. TWINLOG_EVERSION: one of them
 * is of a newer version. */
int twl_iter_find_later(struct segment_iter *iter, uint64_t from, uint64_t gap, struct position stop,
                        struct later_groups *ret_later);
/* Enters the first group behind the place where the walk stopped: 1. 0 = there is none that may belong there. */
int twl_iter_enter_later(struct segment_iter *iter, struct later_groups *ret_later);

#endif
