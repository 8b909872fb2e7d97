/* SPDX-License-Identifier: Apache-2.0 */
/* The peers of this build. HAVE_BDB, HAVE_LEVELDB and HAVE_ROCKSDB come from the build system. */
#include "peer.h"

#include <string.h>

const struct peer *const peers[] = {
    &peer_twinlog, &peer_raw, &peer_raw_large, &peer_naive,
#ifdef HAVE_BDB
    &peer_bdb,
#endif
#ifdef HAVE_LEVELDB
    &peer_leveldb,
#endif
#ifdef HAVE_ROCKSDB
    &peer_rocksdb,
#endif
    NULL,
};

const struct peer *peer_find(const char *name)
{
    for (size_t i = 0; peers[i]; i++) {
        if (strcmp(peers[i]->name, name) == 0)
            return peers[i];
    }
    return NULL;
}

bool peer_is_left_out(const char *name)
{
    static const char *const optional[] = { "bdb", "leveldb", "rocksdb" };
    for (size_t i = 0; i < sizeof(optional) / sizeof(optional[0]); i++) {
        if (strcmp(optional[i], name) == 0)
            return !peer_find(name);
    }
    return false;
}

const char *explain_errno(int error)
{
    return strerror(-error);
}
