/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The segments of a damaged log, for repair: the same path that a sound set has, from whatever is left of it.
 *
 * A segment whose header does not check is not lost. Its groups tell the seed that they were written with, and
 * their chain tells which segments it stands between, so it gets its place back. What a header alone says is
 * gone with it: a cut is still known by the group that begins the segment.
 */
#ifndef TWL_PIECES_H
#define TWL_PIECES_H

#include "segment/cursor.h"

struct piece {
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header; /* as it stands in the file, or as far as it was found out */
    uint32_t seed;                /* of its group headers */
    uint64_t file_bytes;
    bool has_header;           /* it checks */
    bool is_placed;            /* it does, or its place was found out */
    bool is_hopeless;          /* it fits nowhere */
    bool has_groups;           /* at least one was found */
    bool has_bytes;            /* it is not all zeros; asked only where there is no header */
    bool is_alone;             /* that one, without a header and without anything else to confirm it */
    struct group_header first; /* the first one that was found */
    uint64_t first_offset;     /* and where */
    bool is_sealed;            /* it has a header and a footer */
    struct segment_footer footer;
    struct position end; /* behind the last one; only where a piece is looked for */
};

struct pieces {
    struct piece *list;
    size_t count;   /* they make the log, oldest first; there may be gaps between them */
    size_t unknown; /* then so many of which nothing could be found out, though they are not empty */
    uint64_t first_lsn;
    uint64_t promised_lsn; /* a header, a footer or a cursor says that everything up to here was durable */
    uint64_t max_bytes;    /* of all segments, the largest, as far as it is there; 0 = there is none at all */
    bool is_state_lost;    /* there should have been a state, or it was another log's */
};

/* `state` is NULL where there is none, `is_state_damaged` if that is because it does not check. -ENOENT: there is
 * nothing here. TWINLOG_ECORRUPT: nothing to begin with. TWINLOG_EVERSION. */
int twl_pieces_load(struct io *io, const struct state *state, bool is_state_damaged,
                    struct pieces *ret_pieces);
void twl_pieces_free(struct pieces *pieces);

/* What is there of the bytes that its header says. */
uint64_t twl_piece_bytes(const struct piece *piece);

/* For reading, as far as the file goes; close it with twl_segment_close(). */
int twl_piece_open(struct io *io, const struct piece *piece, struct segment *ret_segment);

/* Enters the first group behind a place where the walk stopped: 1. 0 = there is none that may belong to it. */
int twl_piece_enter_later(struct cursor *cursor, struct later_groups *ret_later);

#endif
