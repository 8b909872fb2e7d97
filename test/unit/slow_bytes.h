/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that stop the first thread that reads them, until it is let go: for a copy that takes long. One at a time. */
#ifndef TEST_UNIT_SLOW_BYTES_H
#define TEST_UNIT_SLOW_BYTES_H

#include <stdbool.h>
#include <stddef.h>

struct slow_bytes {
    unsigned char *bytes;
    size_t size;
};

struct slow_bytes slow_bytes_make(unsigned char fill);
void slow_bytes_free(struct slow_bytes *slow);
bool slow_bytes_is_reached(void); /* a thread is stopped */
void slow_bytes_let_go(void);

#endif
