/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of standard input that were read and not used yet, in one piece; grows with the largest unit that
 * has to be in it as a whole. */
#ifndef TOOLS_BUFFER_H
#define TOOLS_BUFFER_H

#include <stddef.h>

/* Large enough that reading costs little beside the work with the bytes; small enough that the first part of
 * a large input is being written while the next one is read. */
#define READ_BYTES (256u << 10)

struct buffer {
    unsigned char *bytes; /* [begin, end) has been read and not used yet */
    size_t capacity;
    size_t begin;
    size_t end;
    size_t searched; /* [begin, searched) does not have the separator */
};

int buffer_init(struct buffer *buffer); /* -ENOMEM */
void buffer_free(struct buffer *buffer);
/* Makes room for READ_BYTES behind `end`; moves the unused bytes to the beginning. -ENOMEM */
int buffer_make_room(struct buffer *buffer);

#endif
