/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the iterator, for segment_iter.c, window.c, seek.c and later.c. */
#ifndef TWL_SEGMENT_ITER_INSIDE_H
#define TWL_SEGMENT_ITER_INSIDE_H

#include "walk/segment_iter.h"

#define FIRST_STEP_BYTES (16u * 1024) /* a single lookup should not cost more */

enum place_in_segment {
    PLACE_FIRST,
    PLACE_LATER,
    PLACE_ANY
};

/* window.c */
/* Maps the file if possible; without a mapping it is read. */
void twl_iter_take_view(struct segment_iter *iter);
/* Makes the window hold these bytes, if the file has them. */
int twl_iter_move_window(struct segment_iter *iter, uint64_t offset, size_t size);

static inline bool is_inside(const struct window *window, uint64_t offset, size_t size)
{
    uint64_t from = offset - window->start; /* wraps around to a large value if it is in front */
    return from <= window->size && size <= window->size - from;
}

/* Inlined because every record passes it. */
static inline const unsigned char *bytes_at(struct segment_iter *iter, uint64_t offset, size_t size,
                                            int *ret_error)
{
    struct window *window = &iter->window;
    *ret_error = 0;
    if (!is_inside(window, offset, size)) {
        *ret_error = twl_iter_move_window(iter, offset, size);
        if (*ret_error < 0 || !is_inside(window, offset, size))
            return NULL;
    }
    return window->bytes + (offset - window->start);
}

/* segment_iter.c */
/* Enters the group with its header at `offset`: 1. 0 = there is none. */
int twl_iter_enter_at(struct segment_iter *iter, uint64_t offset, enum place_in_segment place);
/* Enters the first group at `from`, a multiple of 8, or behind it, but in front of `end`. */
int twl_iter_scan(struct segment_iter *iter, uint64_t from, uint64_t end, enum place_in_segment place);
/* Adds one record to the open group: 1. 0 = it is not there yet. */
int twl_iter_extend(struct segment_iter *iter);
/* Moves behind the first `count` records of the open group, which end at `offset`. */
void twl_iter_place_in_open_group(struct segment_iter *iter, uint64_t first_lsn, uint32_t count,
                                  uint64_t offset);
/* Decodes the header of the next record, and checks that the record fits in the group; stays in front of it. */
int twl_iter_peek(struct segment_iter *iter, struct record_header *ret_header);

static inline void pass_record(struct segment_iter *iter, const struct record_header *header)
{
    iter->record_offset += twl_record_bytes(header->size);
    iter->records_left--;
}

#endif
