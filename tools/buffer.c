/* SPDX-License-Identifier: Apache-2.0 */
/* See buffer.h. */
#include "buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int buffer_init(struct buffer *buffer)
{
    *buffer = (struct buffer){ .capacity = 2 * READ_BYTES, .bytes = malloc(2 * READ_BYTES) };
    if (buffer->bytes)
        return 0;
    return -ENOMEM;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->bytes);
}

int buffer_make_room(struct buffer *buffer)
{
    if (buffer->begin > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->begin, buffer->end - buffer->begin);
        buffer->end -= buffer->begin;
        if (buffer->searched > buffer->begin)
            buffer->searched -= buffer->begin;
        else
            buffer->searched = 0;
        buffer->begin = 0;
    }

    if (buffer->capacity - buffer->end >= READ_BYTES)
        return 0;

    unsigned char *larger = realloc(buffer->bytes, 2 * buffer->capacity);
    if (!larger)
        return -ENOMEM;

    buffer->bytes = larger;
    buffer->capacity *= 2;
    return 0;
}
