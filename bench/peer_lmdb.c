/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB, for the study of single reads: integer keys, appended in one transaction, and one read transaction that
 * stays open. It answers with a pointer into its map and checks no checksums; it has none. Its append, one
 * transaction for each record, is left out of the comparison of appends: a tree is no log.
 */
#include "common.h"
#include "store.h"

#include <lmdb.h>
#include <stdlib.h>

#define MAP_BYTES ((size_t)64 << 30) /* addresses, not memory */

struct lightning {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
};

static const char *lmdb_explain(int error)
{
    return mdb_strerror(library_code(error));
}

static int lmdb_close(void *state)
{
    struct lightning *lightning = state;
    if (lightning->txn)
        mdb_txn_abort(lightning->txn);
    if (lightning->env)
        mdb_env_close(lightning->env);
    free(lightning);
    return 0;
}

static int open_with(const struct store_plan *plan, unsigned env_flags, unsigned txn_flags,
                     unsigned table_flags, struct lightning *lightning)
{
    int error;
    if ((error = mdb_env_create(&lightning->env)) ||
        (error = mdb_env_set_mapsize(lightning->env, MAP_BYTES)) ||
        (error = mdb_env_open(lightning->env, plan->dir, env_flags, 0600)) ||
        (error = mdb_txn_begin(lightning->env, NULL, txn_flags, &lightning->txn)) ||
        (error = mdb_dbi_open(lightning->txn, NULL, MDB_INTEGERKEY | table_flags, &lightning->table)))
        return negative(error);
    return 0;
}

static int lmdb_fill(const struct peer_setup *setup)
{
    const struct store_plan *plan = setup->plan;
    struct lightning *lightning = allocate(1, sizeof(*lightning));
    int error = open_with(plan, MDB_WRITEMAP, 0, MDB_CREATE, lightning);
    for (size_t i = 1; i <= plan->records && error == 0; i++) {
        MDB_val key = { sizeof(i), &i };
        MDB_val value = { plan->record_bytes, (void *)(uintptr_t)plan_record(plan, i) };
        error = mdb_put(lightning->txn, lightning->table, &key, &value, MDB_APPEND);
    }
    if (error == 0) {
        error = mdb_txn_commit(lightning->txn); /* frees it in any case */
        lightning->txn = NULL;
    }
    lmdb_close(lightning);
    return negative(error);
}

static int lmdb_open(const struct peer_setup *setup, void **ret_state)
{
    struct lightning *lightning = *ret_state = allocate(1, sizeof(*lightning));
    return open_with(setup->plan, MDB_RDONLY | MDB_NORDAHEAD, MDB_RDONLY, 0, lightning);
}

static int lmdb_get(void *state, uint64_t number, struct found *ret_found)
{
    struct lightning *lightning = state;
    size_t wanted = (size_t)number;
    MDB_val key = { sizeof(wanted), &wanted }, value;
    int error = mdb_get(lightning->txn, lightning->table, &key, &value);
    if (error)
        return negative(error);
    *ret_found = (struct found){ number, record_mark(value.mv_data, value.mv_size) };
    return 0;
}

const struct peer store_lmdb = {
    .folder = "lmdb",
    .fill = lmdb_fill,
    .open = lmdb_open,
    .get = lmdb_get,
    .close = lmdb_close,
    .explain = lmdb_explain,
};
