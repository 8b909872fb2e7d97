/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large memory of a test that is no global variable. Each test is a process, and at its end the leak sanitizer reads
 * all global variables: of 65 MB, in each of two thousand tests, which took more time than the tests.
 */
#ifndef TEST_UNIT_UNSCANNED_H
#define TEST_UNIT_UNSCANNED_H

#include <stdlib.h>
#include <sys/mman.h>

/* Defines `name`, a pointer to so many zeros. */
#define UNSCANNED_BYTES(name, bytes)                                                                         \
    static unsigned char *name;                                                                              \
    __attribute__((constructor)) static void make_##name(void)                                               \
    {                                                                                                        \
        name =                                                                                               \
            mmap(NULL, (bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); \
        if (name == MAP_FAILED)                                                                              \
            abort();                                                                                         \
    }

#endif
