/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WiredTiger: an insert into a table of numbered records, with its log and transaction_sync, so each commit returns
 * when its log record is on stable storage; threads share a sync. A session for each thread, as its manual says, and a
 * checkpoint each minute, as MongoDB has it. Its log prepares files ahead of their use, which is the default, too.
 */
#include "common.h"
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <wiredtiger.h>

struct tiger {
    WT_CONNECTION *connection; /* closes sessions and cursors, too */
    WT_CURSOR *cursors[];      /* one for each thread, of a session of its own */
};

static int put(WT_CURSOR *cursor, const void *data, size_t size)
{
    const WT_ITEM item = { .data = data, .size = size };
    cursor->set_value(cursor, &item);
    return negative(cursor->insert(cursor));
}

static int tiger_append(void *state, const struct append *append)
{
    struct tiger *tiger = state;
    return put(tiger->cursors[append->thread], append->records->data, append->records->size);
}

static int tiger_close(void *state)
{
    struct tiger *tiger = state;
    int error = tiger->connection ? tiger->connection->close(tiger->connection, NULL) : 0;
    free(tiger);
    return negative(error);
}

static int open_cursor(const struct tiger *tiger, WT_CURSOR **ret_cursor)
{
    WT_SESSION *session;
    int error = tiger->connection->open_session(tiger->connection, NULL, NULL, &session);
    if (error == 0)
        error = session->create(session, "table:log", "key_format=r,value_format=u");
    return error ? error : session->open_cursor(session, "table:log", NULL, "append", ret_cursor);
}

static int tiger_open(const struct peer_setup *setup, void **ret_state)
{
    char config[256];
    struct tiger *tiger = *ret_state = allocate(1, sizeof(*tiger) + setup->threads * sizeof(WT_CURSOR *));
    snprintf(config, sizeof(config),
             "create,cache_size=1GB,session_max=%u,checkpoint=(wait=60),log=(enabled=true),"
             "transaction_sync=(enabled=true,method=fsync)",
             setup->threads + 50);
    int error = wiredtiger_open(setup->dir, NULL, config, &tiger->connection);
    for (unsigned i = 0; i < setup->threads && error == 0; i++)
        error = open_cursor(tiger, &tiger->cursors[i]);
    if (error == 0)
        error = put(tiger->cursors[0], "first", 5);
    return negative(error);
}

static const char *tiger_explain(int error)
{
    return wiredtiger_strerror(library_code(error));
}

const struct peer peer_wiredtiger = {
    .version = WIREDTIGER_VERSION_STRING,
    .name = "wiredtiger",
    .what = "WiredTiger: insert with its log and transaction_sync",
    .open = tiger_open,
    .append = tiger_append,
    .close = tiger_close,
    .explain = tiger_explain,
};
