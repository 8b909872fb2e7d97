/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LevelDB: a put with sync=1. Keys count upwards, the cheapest order for it, and the write buffer is
 * large enough that a round is mostly its log and seldom a compaction.
 */
#include "peer.h"

#include <endian.h>
#include <errno.h>
#include <leveldb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITE_BUFFER_BYTES ((size_t)256 << 20)

struct level {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_writeoptions_t *write_options, *relaxed_options;
    _Atomic(uint64_t) next_key;
};

/* The library explains itself in words only; they go where all its troubles go. */
static int fail(char *words)
{
    fprintf(stderr, "leveldb: %s\n", words);
    leveldb_free(words);
    return -EIO;
}

static int level_close(void *state)
{
    struct level *level = state;
    if (level->db)
        leveldb_close(level->db);
    leveldb_writeoptions_destroy(level->write_options);
    leveldb_writeoptions_destroy(level->relaxed_options);
    leveldb_options_destroy(level->options);
    free(level);
    return 0;
}

static int level_open(const struct peer_setup *setup, void **ret_state)
{
    struct level *level = calloc(1, sizeof(*level));
    if (!level)
        return -ENOMEM;
    level->options = leveldb_options_create();
    leveldb_options_set_create_if_missing(level->options, 1);
    leveldb_options_set_write_buffer_size(level->options, WRITE_BUFFER_BYTES);
    level->write_options = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(level->write_options, 1);
    level->relaxed_options = leveldb_writeoptions_create();

    char *words = NULL;
    level->db = leveldb_open(level->options, setup->dir, &words);
    if (words) {
        level_close(level);
        return fail(words);
    }
    *ret_state = level;
    return 0;
}

static int put(struct level *level, const leveldb_writeoptions_t *options, const void *data, size_t size)
{
    uint64_t key = htobe64(atomic_fetch_add_explicit(&level->next_key, 1, memory_order_relaxed));
    char *words = NULL;
    leveldb_put(level->db, options, (const char *)&key, sizeof(key), data, size, &words);
    return words ? fail(words) : 0;
}

static int level_append(void *state, unsigned thread, const void *data, size_t size)
{
    struct level *level = state;
    (void)thread;
    return put(level, level->write_options, data, size);
}

static int level_append_written(void *state, const void *data, size_t size)
{
    struct level *level = state;
    return put(level, level->relaxed_options, data, size);
}

static int level_append_batch(void *state, const struct iovec *records, unsigned count)
{
    struct level *level = state;
    char *words = NULL;
    leveldb_writebatch_t *batch = leveldb_writebatch_create();
    for (unsigned i = 0; i < count; i++) {
        uint64_t key = htobe64(atomic_fetch_add_explicit(&level->next_key, 1, memory_order_relaxed));
        leveldb_writebatch_put(batch, (const char *)&key, sizeof(key), records[i].iov_base,
                               records[i].iov_len);
    }
    leveldb_write(level->db, level->write_options, batch, &words);
    leveldb_writebatch_destroy(batch);
    return words ? fail(words) : 0;
}

const struct peer peer_leveldb = {
    .name = "leveldb",
    .what = "LevelDB: put with sync=1",
    .open = level_open,
    .append = level_append,
    .append_written = level_append_written,
    .append_batch = level_append_batch,
    .close = level_close,
    .explain = explain_errno,
};
