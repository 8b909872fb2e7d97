/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WiredTiger: an insert into a table of numbered records, with its log, and then one call of log_flush() for all
 * threads that wait, as MongoDB makes it: with transaction_sync, where each commit syncs, they hardly share one. A
 * session for each thread, as its manual says, and a checkpoint each minute, as MongoDB has it.
 */
#include "common.h"
#include "peer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <wiredtiger.h>

struct tiger {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t committed, durable; /* [lock] inserts */
    bool is_syncing;             /* [lock] */
    WT_CONNECTION *connection;   /* closes sessions and cursors, too */
    WT_CURSOR *cursors[];        /* one for each thread, of a session of its own */
};

static int put(WT_CURSOR *cursor, const void *data, size_t size)
{
    const WT_ITEM item = { .data = data, .size = size };
    cursor->set_value(cursor, &item);
    return negative(cursor->insert(cursor));
}

/* For all that were inserted before it. The lock is given back meanwhile. */
static int sync_all(struct tiger *tiger, WT_SESSION *session)
{
    const uint64_t committed = tiger->committed;
    tiger->is_syncing = true;
    pthread_mutex_unlock(&tiger->lock);
    const int error = session->log_flush(session, "sync=on");
    pthread_mutex_lock(&tiger->lock);
    tiger->is_syncing = false;
    tiger->durable = error ? tiger->durable : committed;
    pthread_cond_broadcast(&tiger->changed);
    return negative(error);
}

static int tiger_append(void *state, const struct append *append)
{
    struct tiger *tiger = state;
    WT_CURSOR *cursor = tiger->cursors[append->thread];
    int error = put(cursor, append->records->data, append->records->size);
    pthread_mutex_lock(&tiger->lock);
    const uint64_t number = ++tiger->committed;
    while (error == 0 && tiger->durable < number) {
        if (tiger->is_syncing)
            pthread_cond_wait(&tiger->changed, &tiger->lock);
        else
            error = sync_all(tiger, cursor->session);
    }
    pthread_mutex_unlock(&tiger->lock);
    return error;
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
             "create,cache_size=1GB,session_max=%u,checkpoint=(wait=60),log=(enabled=true)",
             setup->threads + 50);
    pthread_mutex_init(&tiger->lock, NULL);
    pthread_cond_init(&tiger->changed, NULL);
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
    .what = "WiredTiger: insert with its log, log_flush() for all threads that wait",
    .open = tiger_open,
    .append = tiger_append,
    .close = tiger_close,
    .explain = tiger_explain,
};
