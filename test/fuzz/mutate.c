/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How libFuzzer changes a directory: as it likes, and mostly the checksums are mended behind it, all of them or
 * some kinds. What is left as it is shows that damage is noticed.
 */
#include "mend.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

static unsigned choose_what(unsigned seed)
{
    if (seed % 8 < 2)
        return 0;
    return seed % 8 == 2 ? seed / 8 & MEND_EVERYTHING : MEND_EVERYTHING;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static struct container container;
    size = LLVMFuzzerMutate(data, size, max_size);
    if (container_unpack(data, size, &container)) {
        mend(&container, choose_what(seed));
        container_put_back(&container, data);
    }
    container_free(&container);
    return size;
}
