/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files by the C library: with its own buffer, with one of 64 KiB, and flushed after each record. */
#include <errno.h>
#include <stdio.h>

#include "peer.h"

/* glibc heeds a size only with a buffer; there is one stream at a time. */
static int open_stream(const struct peer_setup *setup, void **ret_state)
{
    static char buffer[64u << 10];
    FILE *stream = fopen(setup->dir, "ae");

    *ret_state = stream;
    if (!stream)
        return -errno;
    if (setup->peer == &peer_stdio_64k)
        setvbuf(stream, buffer, _IOFBF, sizeof(buffer));
    return 0;
}

static int put(void *state, const struct append *append)
{
    const struct twinlog_entry *record = append->records;

    if (fwrite(record->data, 1, record->size, state) != record->size)
        return -errno;
    return 0;
}

static int put_flushed(void *state, const struct append *append)
{
    const int error = put(state, append);

    if (error)
        return error;
    if (fflush(state) != 0)
        return -errno;
    return 0;
}

static int close_stream(void *state)
{
    return fclose(state) == 0 ? 0 : -errno;
}

const struct peer peer_stdio = { .open = open_stream, .append = put, .close = close_stream };
const struct peer peer_stdio_64k = { .open = open_stream, .append = put, .close = close_stream };
const struct peer peer_stdio_flushed = { .open = open_stream, .append = put_flushed, .close = close_stream };
