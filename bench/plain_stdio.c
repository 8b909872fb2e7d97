/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files by the C library: with its own buffer, with one of 64 KiB, and flushed after each record. */
#include <errno.h>
#include <stdio.h>

#include "plain.h"

#define LARGE_BUFFER_BYTES (64u << 10)

/* glibc heeds a size only with a buffer; there is one stream at a time. */
static int open_stream(const struct plain *plain, const struct plain_setup *setup, void **ret_state)
{
    static char buffer[LARGE_BUFFER_BYTES];
    FILE *stream = fopen(setup->path, "ae");
    *ret_state = stream;
    if (stream && plain->kind > 0)
        setvbuf(stream, buffer, _IOFBF, plain->kind);
    return stream ? 0 : -errno;
}

static int put(void *state, const void *data, size_t size)
{
    return fwrite(data, 1, size, state) == size ? 0 : -errno;
}

static int put_flushed(void *state, const void *data, size_t size)
{
    int error = put(state, data, size);
    if (error)
        return error;
    return fflush(state) == 0 ? 0 : -errno;
}

static int close_stream(void *state)
{
    return fclose(state) == 0 ? 0 : -errno;
}

const struct plain plain_stdio = { .open = open_stream, .put = put, .close = close_stream };
const struct plain plain_stdio_64k = {
    .kind = LARGE_BUFFER_BYTES, .open = open_stream, .put = put, .close = close_stream
};
const struct plain plain_stdio_flushed = { .open = open_stream, .put = put_flushed, .close = close_stream };
