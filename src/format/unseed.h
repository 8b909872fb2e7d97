/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums calculated backwards, for repair.
 *
 * A CRC can be undone: the bytes and the result give the seed. So a header alone tells which segment it was
 * written in, or which record it belongs to, even where the place that should say so is lost. Every header
 * gives such an answer, and random bytes do too. The answer is worth something only if something else
 * confirms it: a second group of the same segment, or the payload's own checksum.
 */
#ifndef TWL_UNSEED_H
#define TWL_UNSEED_H

#include "format/format.h"

/* The one segment seed for which these bytes are a group header at that offset. */
uint32_t twl_unseed_group(const unsigned char bytes[GROUP_HEADER_BYTES], uint64_t offset);

/* The LSN from first_lsn to last_lsn for which these bytes are a valid record header of that epoch; 0 =
 * none. Of more than 2^32 LSNs only the first 2^32 are tried. */
uint64_t twl_unseed_record(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                           uint64_t first_lsn, uint64_t last_lsn);

#endif
