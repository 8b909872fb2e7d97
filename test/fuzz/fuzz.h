/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. A target is one function from bytes to nothing: libFuzzer looks for bytes that
 * make it fail, replay.c runs it on files that are kept.
 */
#ifndef TWL_FUZZ_H
#define TWL_FUZZ_H

#include "base/bytes.h"
#include "format/checksum.h"
#include "format/format.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says what is wrong and aborts, so that the input is kept. */
#define FUZZ_FAIL(...) (fprintf(stderr, "fuzz: " __VA_ARGS__), fprintf(stderr, "\n"), abort())
#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            FUZZ_FAIL("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                                  \
    } while (0)

/* Of what a group or a footer is seeded with. */
static inline uint32_t fuzz_place_seed(uint32_t seed, uint64_t offset)
{
    unsigned char bytes[8];
    store_le64(bytes, offset);
    return twl_crc32c(seed, bytes, sizeof(bytes));
}
/* Of a record, from its epoch and its LSN. */
static inline void fuzz_seal_record(unsigned char *record, uint32_t epoch_seed, uint64_t lsn)
{
    const uint32_t seed = epoch_seed ^ (uint32_t)lsn ^ (uint32_t)(lsn >> 32) * 0x9e3779b1u;
    store_le32(record, twl_crc32c(seed, record + 4, RECORD_HEADER_BYTES - 4));
}
static inline void fuzz_seal_segment_header(unsigned char *block)
{
    store_le32(block + 20, twl_crc32c(0, block, 20));
    store_le32(block + 508, twl_crc32c(0, block, 508));
}
static inline void fuzz_seal_state(unsigned char *slot, size_t size)
{
    const uint32_t body_bytes = load_le32(slot + 64);
    store_le32(slot + 20, twl_crc32c(0, slot, 20));
    if (body_bytes <= size - STATE_HEADER_BYTES)
        store_le32(slot + 68, twl_crc32c(0, slot + STATE_HEADER_BYTES, body_bytes));
    store_le32(slot + 124, twl_crc32c(0, slot, 124));
}

#endif
