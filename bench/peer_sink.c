/* SPDX-License-Identifier: Apache-2.0 */
/* Plain files by twinlog: a sink of one process, and one of many, mapped and exact. */
#include <twinlog_sink.h>

#include "peer.h"

static int open_sink(const struct peer_setup *setup, void **ret_state)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    if (setup->peer == &peer_sink_shared || setup->peer == &peer_sink_exact_shared)
        options.flags |= TWINLOG_SINK_SHARED;
    if (setup->peer == &peer_sink || setup->peer == &peer_sink_shared)
        options.flags |= TWINLOG_SINK_MAPPED;
    struct twinlog_sink *sink = NULL;
    const int error = twinlog_sink_open(setup->dir, &options, &sink);
    *ret_state = sink;
    return error;
}

static int put(void *state, const struct append *append)
{
    return twinlog_sink_write(state, append->records->data, append->records->size, NULL);
}

static int close_sink(void *state)
{
    return twinlog_sink_close(state);
}

const struct peer peer_sink = { .open = open_sink, .append = put, .close = close_sink };
const struct peer peer_sink_shared = { .open = open_sink, .append = put, .close = close_sink };
const struct peer peer_sink_exact = { .open = open_sink, .append = put, .close = close_sink };
const struct peer peer_sink_exact_shared = { .open = open_sink, .append = put, .close = close_sink };
