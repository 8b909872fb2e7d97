/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files by twinlog: a sink of one process, and one of many. */
#include <twinlog_sink.h>

#include "plain.h"

static int open_sink(const struct plain *plain, const struct plain_setup *setup, void **ret_state)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct twinlog_sink *sink = NULL;
    options.flags = plain->kind;
    int error = twinlog_sink_open(setup->path, &options, &sink);
    *ret_state = sink;
    return error;
}

static int put(void *state, const void *data, size_t size)
{
    return twinlog_sink_write(state, data, size, NULL);
}

static int close_sink(void *state)
{
    return twinlog_sink_close(state);
}

const struct plain plain_twinlog = { .open = open_sink, .put = put, .close = close_sink };
const struct plain plain_twinlog_shared = {
    .kind = TWINLOG_SINK_SHARED, .open = open_sink, .put = put, .close = close_sink
};
