/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. A target is one function from bytes to nothing: libFuzzer looks for bytes that
 * make it fail, replay.c runs it on files that are kept.
 */
#ifndef TWL_FUZZ_H
#define TWL_FUZZ_H

#include "format/checksum.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Says what is wrong and aborts, so that the input is kept. */
_Noreturn void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define MUST(condition)                                                                                      \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fuzz_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                                  \
    } while (0)

/* Of what a group or a footer is seeded with. */
static inline uint32_t fuzz_place_seed(uint32_t seed, uint64_t offset)
{
    unsigned char bytes[8];
    store_le64(bytes, offset);
    return twl_crc32c(seed, bytes, sizeof(bytes));
}

#endif
