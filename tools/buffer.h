/* SPDX-License-Identifier: Apache-2.0 */
/* What was read of standard input and not used yet, in one piece; it grows with what has to lie in it whole. */
#ifndef TOOLS_BUFFER_H
#define TOOLS_BUFFER_H

#include <stddef.h>

/* Large enough that reading costs nothing beside what is done with it, small enough that the first part of a large
 * input is on its way while the next one is read. */
#define READ_BYTES (256u << 10)

struct buffer {
    unsigned char *bytes; /* [begin, end) was read and not used yet */
    size_t capacity;
    size_t begin;
    size_t end;
    size_t searched; /* what is looked for is not in [begin, searched) */
};

int buffer_init(struct buffer *buffer); /* -ENOMEM */
void buffer_free(struct buffer *buffer);
/* For READ_BYTES more behind `end`: moves what is there to the front. -ENOMEM */
int buffer_make_room(struct buffer *buffer);

#endif
