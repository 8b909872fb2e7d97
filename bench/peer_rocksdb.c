/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RocksDB: a put with sync=true, pipelined writes. Keys count upwards, and the write buffer is large
 * enough that a round is mostly its log and seldom a flush of the table.
 */
#include "peer.h"

#include <endian.h>
#include <errno.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITE_BUFFER_BYTES ((size_t)256 << 20)

struct rocks {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write_options;
    _Atomic(uint64_t) next_key;
};

/* The library explains itself in words only; they go where all its troubles go. */
static int fail(char *words)
{
    fprintf(stderr, "rocksdb: %s\n", words);
    rocksdb_free(words);
    return -EIO;
}

static int rocks_close(void *state)
{
    struct rocks *rocks = state;
    if (rocks->db)
        rocksdb_close(rocks->db);
    rocksdb_writeoptions_destroy(rocks->write_options);
    rocksdb_options_destroy(rocks->options);
    free(rocks);
    return 0;
}

static int rocks_open(const struct peer_setup *setup, void **ret_state)
{
    struct rocks *rocks = calloc(1, sizeof(*rocks));
    if (!rocks)
        return -ENOMEM;
    rocks->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(rocks->options, 1);
    rocksdb_options_set_write_buffer_size(rocks->options, WRITE_BUFFER_BYTES);
    rocksdb_options_set_enable_pipelined_write(rocks->options, 1);
    rocks->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(rocks->write_options, 1);

    char *words = NULL;
    rocks->db = rocksdb_open(rocks->options, setup->dir, &words);
    if (words) {
        rocks_close(rocks);
        return fail(words);
    }
    *ret_state = rocks;
    return 0;
}

static int rocks_append(void *state, unsigned thread, const void *data, size_t size)
{
    struct rocks *rocks = state;
    uint64_t key = htobe64(atomic_fetch_add_explicit(&rocks->next_key, 1, memory_order_relaxed));
    char *words = NULL;
    (void)thread;
    rocksdb_put(rocks->db, rocks->write_options, (const char *)&key, sizeof(key), data, size, &words);
    return words ? fail(words) : 0;
}

const struct peer peer_rocksdb = {
    .name = "rocksdb",
    .what = "RocksDB: put with sync=true, pipelined writes",
    .open = rocks_open,
    .append = rocks_append,
    .close = rocks_close,
    .explain = explain_errno,
};
