/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fuzz targets share. A target is one function from bytes to nothing: libFuzzer looks for bytes that
 * make it fail, replay.c runs it on files that are kept.
 */
#ifndef TWL_FUZZ_H
#define TWL_FUZZ_H

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

#endif
