/* SPDX-License-Identifier: Apache-2.0 */
/* LevelDB: a put with sync=1. */
#include <leveldb/c.h>

#define DB(name) leveldb_##name
#define LIBRARY "leveldb"
#include "peer_keyed.h"

static void set_own_options(const struct peer *peer, leveldb_options_t *options)
{
    (void)peer;
    (void)options;
}

const struct peer peer_leveldb = {
    .name = "leveldb",
    .what = "LevelDB: put with sync=1",
    .version = "LevelDB " LEVELDB_VERSION,
    .open = keyed_open,
    .append = keyed_append,
    .close = keyed_close,
};
