/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums read backwards, for repair.
 *
 * A CRC can be undone: the bytes and the result give the seed. So a header tells by itself which segment it was
 * written in, or which record it belongs to, even where the place that should say so is gone. Every header has
 * such an answer, random bytes too: it is worth something only where something else confirms it, as a second
 * group of the same segment, or the payload's own checksum.
 */
#ifndef TWL_UNSEED_H
#define TWL_UNSEED_H

#include "format/format.h"

/* The one segment seed with which these bytes can be a group header at that offset. */
uint32_t twl_unseed_group(const unsigned char bytes[GROUP_HEADER_BYTES], uint64_t offset);

/* The LSN from first_lsn to last_lsn as whose header these bytes would be valid in that epoch; 0 = none. Of
 * more than 2^32 LSNs only the first so many are looked for. */
uint64_t twl_unseed_record(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                           uint64_t first_lsn, uint64_t last_lsn);

#endif
