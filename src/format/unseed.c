/* SPDX-License-Identifier: Apache-2.0 */
/* See unseed.h; format.c defines the seeds. */
#include "format/unseed.h"

#include "base/bytes.h"

#define POLYNOMIAL 0x82f63b78u /* bits reflected; the highest bit is set, so each step can be undone */
#define LSN_FACTOR 0x9e3779b1u

/* Returns the value of `crc` before these bytes. The last byte is undone first. */
static uint32_t undo(uint32_t crc, const unsigned char *bytes, size_t size)
{
    crc = ~crc;
    while (size-- > 0) {
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc & 0x80000000u ? (crc ^ POLYNOMIAL) << 1 | 1 : crc << 1;
        crc ^= bytes[size];
    }
    return ~crc;
}

uint32_t twl_unseed_group(const unsigned char bytes[GROUP_HEADER_BYTES], uint64_t offset)
{
    unsigned char place[8];
    store_le64(place, offset);
    uint32_t crc = undo(load_le32(bytes), bytes + 4, GROUP_HEADER_BYTES - 4);
    return undo(crc, place, sizeof(place));
}

uint64_t twl_unseed_record(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                           uint64_t first_lsn, uint64_t last_lsn)
{
    uint32_t mixed = undo(load_le32(bytes), bytes + 4, RECORD_HEADER_BYTES - 4) ^ epoch_seed;
    if (last_lsn - first_lsn > UINT32_MAX)
        last_lsn = first_lsn + UINT32_MAX;
    for (uint64_t high = first_lsn >> 32; high <= last_lsn >> 32; high++) {
        uint64_t lsn = high << 32 | (mixed ^ (uint32_t)high * LSN_FACTOR);
        if (lsn >= first_lsn && lsn <= last_lsn)
            return lsn;
    }
    return 0;
}
