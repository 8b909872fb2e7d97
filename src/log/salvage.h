/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Salvage, for repair: puts the segments of a damaged log ("pieces") back in order, on the same path that a
 * sound set has.
 *
 * A segment whose header does not check is not lost. Its groups give the seed that they were written with,
 * and their chain tells between which segments it belongs, so it gets its place back. What only the header
 * says is lost with it; but a truncation is still recognised by the group that begins the segment.
 */
#ifndef TWL_SALVAGE_H
#define TWL_SALVAGE_H

#include "segment/cursor.h"

struct piece {
    char name[SEGMENT_NAME_BYTES];
    struct segment_header header; /* as found in the file, or as far as it could be found out */
    uint32_t seed;                /* seed of its group headers */
    uint64_t file_bytes;
    bool has_header;           /* the header checks */
    bool is_placed;            /* it has a header, or its place was found out */
    bool is_hopeless;          /* it fits nowhere */
    bool has_groups;           /* at least one group was found */
    bool has_bytes;            /* the file is not all zeros; determined only without a header */
    bool is_alone;             /* only one group was found, without a header or other confirmation */
    struct group_header first; /* the first group that was found */
    uint64_t first_offset;     /* and its offset */
    bool is_sealed;            /* it has a valid header and footer */
    struct segment_footer footer;
    struct position end; /* behind the last group; set only where a piece is being placed */
};

struct salvage {
    struct piece *list;
    size_t count;   /* pieces that make the log, oldest first; there may be gaps between them */
    size_t unknown; /* then pieces that are not empty but of which nothing could be found out */
    uint64_t first_lsn;
    uint64_t promised_lsn; /* durable up to here, as a header, a footer or a cursor promises */
    uint64_t max_bytes;    /* size of the largest segment file, as far as it exists; 0 = there is no file */
    bool is_state_lost;    /* there is no usable state file, although there should be one */
};

/* `state` is NULL if there is none; `is_state_damaged` tells whether that is because it does not check.
 * -ENOENT: the directory holds no log. TWINLOG_ECORRUPT: nothing to start from. TWINLOG_EVERSION. */
int twl_salvage_load(struct io *io, const struct state *state, bool is_state_damaged,
                     struct salvage *ret_salvage);
void twl_salvage_free(struct salvage *salvage);

/* The bytes that exist of those that the header says. */
uint64_t twl_piece_bytes(const struct piece *piece);

/* Opens a piece for reading, as far as the file goes. Close it with twl_segment_close(). */
int twl_piece_open(struct io *io, const struct piece *piece, struct segment *ret_segment);

/* Enters the first group behind the place where the walk stopped: 1. 0 = there is none that may belong
 * there. */
int twl_piece_enter_later(struct cursor *cursor, struct later_groups *ret_later);

#endif
