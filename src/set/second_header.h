/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second header of a segment, for verify and repair: where the first header does not check, or is that of another
 * file, the second one says what the segment is. It was durable before the first group, and does not change.
 */
#ifndef TWL_SECOND_HEADER_H
#define TWL_SECOND_HEADER_H

#include "set/segment_set.h"

/* Reads it from the file of that name: 1. 0 = there is none that checks and fits the file. */
int twl_second_header_read(struct io *io, const char *name, struct segment_header *ret_header);

/* For an entry with has_second_header. Is there a group, or a footer, that was written under that header? 1 = yes. A
 * recycled file that a crash has left between its two new headers has none. */
int twl_second_header_is_used(struct io *io, const struct segment_entry *entry);

/* For a file without any header: the LSNs of records of this log that its groups lead to. 0 = nothing was found. */
int twl_second_header_find_lost(struct io *io, const char *name, const uint8_t log_id[LOG_ID_BYTES],
                                uint64_t *ret_first_lsn, uint64_t *ret_last_lsn);

#endif
