/* SPDX-License-Identifier: Apache-2.0 */
/* The peers, and which of them are in this build. */
#include "peer.h"

#include <string.h>

#include "common.h"

static const struct {
    const char *name;
    const struct peer *peer; /* NULL: not in this build */
} rows[] = {
    { "twinlog", &peer_twinlog },
    { "raw", &peer_raw },
    { "raw-large", &peer_raw_large },
    { "naive", &peer_naive },
    { "by-hand", &peer_by_hand },
    { "bdb", &peer_bdb },
    { "leveldb", &peer_leveldb },
    { "rocksdb", &peer_rocksdb },
    { "sqlite", &peer_sqlite },
    { "wiredtiger", &peer_wiredtiger },
    { "pace-blocking", &peer_pace_blocking },
    { "pace-gathering", &peer_pace_gathering },
};

const struct peer *peer_at(size_t i)
{
    for (size_t row = 0; row < LENGTH(rows); row++) {
        if (rows[row].peer && i-- == 0)
            return rows[row].peer;
    }
    return NULL;
}

const struct peer *peer_find(const char *name)
{
    for (size_t i = 0; peer_at(i); i++) {
        if (strcmp(peer_at(i)->name, name) == 0)
            return peer_at(i);
    }
    return NULL;
}

bool peer_is_left_out(const char *name)
{
    for (size_t row = 0; row < LENGTH(rows); row++) {
        if (strcmp(rows[row].name, name) == 0)
            return !rows[row].peer;
    }
    return false;
}

const char *explain_error(const char *(*explain)(int error), int error)
{
    return explain ? explain(error) : strerror(-error);
}

int peer_open(const struct peer *peer, const struct peer_setup *setup, void **ret_state)
{
    struct peer_setup own = *setup;
    own.peer = peer;
    *ret_state = NULL;
    const int error = peer->open(&own, ret_state);
    if (error && *ret_state)
        peer->close(*ret_state);
    return error;
}
