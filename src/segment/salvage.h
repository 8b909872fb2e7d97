/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Salvage: puts the segments of a damaged log back in order, on the same path that a sound set has.
 *
 * A segment with a header that does not check is not lost. Its groups give the seed that they were written with,
 * and their chain tells between which segments it belongs, so it gets its place back. What only the header
 * says is lost with it; but a truncation is still recognised by the group that begins the segment.
 */
#ifndef TWL_SALVAGE_H
#define TWL_SALVAGE_H

#include "segment/cursor.h"

/* Finds the headers and seeds of the entries with is_salvaged, of which only name and size are known. One
 * without a place in the log keeps the sequence 0. */
int twl_salvage(struct io *io, const uint8_t log_id[LOG_ID_BYTES], uint64_t first_sequence,
                struct segment_entry *entries, size_t count);

#endif
