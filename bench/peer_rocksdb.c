/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RocksDB: a put with sync=true. With unordered_write, since nobody reads a snapshot, and without the yields of writers
 * that wait, which cost more than they bring where threads outnumber processors; or with pipelined writes.
 *
 * As a store: its table, compacted, for single reads, with a block cache that holds all of it.
 */
#include <rocksdb/c.h>

#define DB(name) rocksdb_##name
#define LIBRARY "rocksdb"
#include "peer_keyed.h"
#include "store.h"

static void set_own_options(const struct peer *peer, rocksdb_options_t *options)
{
    const bool is_pipelined = peer == &peer_rocksdb_pipelined;
    rocksdb_options_set_enable_pipelined_write(options, is_pipelined);
    rocksdb_options_set_unordered_write(options, !is_pipelined);
    rocksdb_options_set_enable_write_thread_adaptive_yield(options, is_pipelined);
}

#define KEYED                                                                                                \
    .version = "RocksDB " ROCKSDB_VERSION, .open = keyed_open, .append = keyed_append, .close = keyed_close

const struct peer peer_rocksdb = {
    .name = "rocksdb",
    .what = "RocksDB: put with sync=true, unordered_write, no adaptive yield",
    KEYED,
};
const struct peer peer_rocksdb_pipelined = {
    .name = "rocksdb-pipelined",
    .what = "RocksDB: put with sync=true, pipelined writes",
    KEYED,
};

#define CACHE_BYTES ((size_t)4 << 30)

struct rocks_store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read_options;
    rocksdb_cache_t *cache;
};

static int close_store(void *state)
{
    struct rocks_store *store = state;
    if (store->db)
        rocksdb_close(store->db);
    rocksdb_readoptions_destroy(store->read_options);
    rocksdb_options_destroy(store->options);
    rocksdb_cache_destroy(store->cache);
    free(store);
    return 0;
}

static int open_store(const struct peer_setup *setup, void **ret_state)
{
    struct rocks_store *store = *ret_state = allocate(1, sizeof(*store));
    store->cache = rocksdb_cache_create_lru(CACHE_BYTES);
    store->read_options = rocksdb_readoptions_create();
    store->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(store->options, 1);
    rocksdb_options_set_write_buffer_size(store->options, WRITE_BUFFER_BYTES);
    rocksdb_options_set_compression(store->options, rocksdb_no_compression);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, store->cache);
    rocksdb_options_set_block_based_table_factory(store->options, table);
    rocksdb_block_based_options_destroy(table);

    char *words = NULL;
    store->db = rocksdb_open(store->options, setup->plan->dir, &words);
    return result(words);
}

static int put_all(const struct rocks_store *store, const struct store_plan *plan)
{
    rocksdb_writeoptions_t *options = rocksdb_writeoptions_create();
    char *words = NULL;
    rocksdb_writeoptions_disable_WAL(options, 1);
    for (uint64_t i = 1; i <= plan->records && !words; i++) {
        uint64_t key = htobe64(i);
        rocksdb_put(store->db, options, (const char *)&key, sizeof(key), (const char *)plan_record(plan, i),
                    plan->record_bytes, &words);
    }
    rocksdb_writeoptions_destroy(options);
    return result(words);
}

static int flush_table(const struct rocks_store *store)
{
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    char *words = NULL;
    rocksdb_flushoptions_set_wait(options, 1);
    rocksdb_flush(store->db, options, &words);
    rocksdb_flushoptions_destroy(options);
    return result(words);
}

/* Complete and compacted. */
static int fill_store(const struct peer_setup *setup)
{
    void *state;
    int error = open_store(setup, &state);
    struct rocks_store *store = state;
    if (error == 0)
        error = put_all(store, setup->plan);
    if (error == 0)
        error = flush_table(store);
    if (error == 0)
        rocksdb_compact_range(store->db, NULL, 0, NULL, 0);
    close_store(store);
    return error;
}

static int table_get(void *state, uint64_t number, struct found *ret_found)
{
    struct rocks_store *store = state;
    uint64_t key = htobe64(number);
    char *words = NULL;
    size_t size;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(store->db, store->read_options, (const char *)&key, sizeof(key), &words);
    if (words)
        return result(words);
    if (!slice)
        return -ENODATA;
    const char *value = rocksdb_pinnableslice_value(slice, &size);
    *ret_found = (struct found){ number, record_mark(value, size) };
    rocksdb_pinnableslice_destroy(slice);
    return 0;
}

const struct peer store_rocksdb = {
    .folder = "rocksdb",
    .fill = fill_store,
    .open = open_store,
    .get = table_get,
    .close = close_store,
};
