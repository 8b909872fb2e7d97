/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files by twinlog: a sink of one process, and one of many. */
#include <twinlog_sink.h>

#include "plain.h"

static int open_sink(const struct plain_setup *setup, uint32_t flags, void **ret_state)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct twinlog_sink *sink = NULL;
    options.flags = flags;
    int error = twinlog_sink_open(setup->path, &options, &sink);
    *ret_state = sink;
    return error;
}

static int open_exclusive(const struct plain_setup *setup, void **ret_state)
{
    return open_sink(setup, 0, ret_state);
}

static int open_shared(const struct plain_setup *setup, void **ret_state)
{
    return open_sink(setup, TWINLOG_SINK_SHARED, ret_state);
}

static int put(void *state, const void *data, size_t size)
{
    return twinlog_sink_write(state, data, size, NULL);
}

static int close_sink(void *state)
{
    return twinlog_sink_close(state);
}

const struct plain plain_twinlog = { .open = open_exclusive, .put = put, .close = close_sink };
const struct plain plain_twinlog_shared = { .open = open_shared, .put = put, .close = close_sink };
