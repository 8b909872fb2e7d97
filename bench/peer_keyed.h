/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A put into LevelDB, or into RocksDB, of which the functions in C differ by the prefix of their names. Keys count
 * upwards, the cheapest order for both, and the write buffer is large enough that a round is mostly the log and seldom
 * a compaction.
 *
 * What includes this has the library's header, DB(name) for a name of the library, its LIBRARY as text, and
 * set_own_options().
 */
#include "common.h"
#include "peer.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITE_BUFFER_BYTES ((size_t)256 << 20)

struct keyed {
    DB(t) * db;
    DB(options_t) * options;
    DB(writeoptions_t) * write_options, *relaxed_options;
    _Atomic(uint64_t) next_key;
};

static void set_own_options(const struct peer *peer, DB(options_t) * options);

/* The library explains itself in words only; they go where all its troubles go. Without any, 0. */
static int result(char *words)
{
    if (!words)
        return 0;
    fprintf(stderr, LIBRARY ": %s\n", words);
    DB(free)(words);
    return -EIO;
}

static int keyed_close(void *state)
{
    struct keyed *keyed = state;
    if (keyed->db)
        DB(close)(keyed->db);
    DB(writeoptions_destroy)(keyed->write_options);
    DB(writeoptions_destroy)(keyed->relaxed_options);
    DB(options_destroy)(keyed->options);
    free(keyed);
    return 0;
}

static int keyed_open(const struct peer_setup *setup, void **ret_state)
{
    struct keyed *keyed = *ret_state = allocate(1, sizeof(*keyed));
    char *words = NULL;
    keyed->options = DB(options_create)();
    DB(options_set_create_if_missing)(keyed->options, 1);
    DB(options_set_write_buffer_size)(keyed->options, WRITE_BUFFER_BYTES);
    set_own_options(setup->peer, keyed->options);
    keyed->write_options = DB(writeoptions_create)();
    DB(writeoptions_set_sync)(keyed->write_options, 1);
    keyed->relaxed_options = DB(writeoptions_create)();
    keyed->db = DB(open)(keyed->options, setup->dir, &words);
    return result(words);
}

static uint64_t next_key(struct keyed *keyed)
{
    return htobe64(atomic_fetch_add_explicit(&keyed->next_key, 1, memory_order_relaxed));
}

static int append_batch(struct keyed *keyed, const struct append *append)
{
    char *words = NULL;
    DB(writebatch_t) *batch = DB(writebatch_create)();
    for (const struct twinlog_entry *record = append->records; record < append->records + append->count;
         record++) {
        const uint64_t key = next_key(keyed);
        DB(writebatch_put)(batch, (const char *)&key, sizeof(key), record->data, record->size);
    }
    DB(write)(keyed->db, keyed->write_options, batch, &words);
    DB(writebatch_destroy)(batch);
    return result(words);
}

static int keyed_append(void *state, const struct append *append)
{
    struct keyed *keyed = state;
    char *words = NULL;
    if (append->level == APPEND_BATCH)
        return append_batch(keyed, append);
    const uint64_t key = next_key(keyed);
    DB(put)
    (keyed->db, append->level == APPEND_DURABLE ? keyed->write_options : keyed->relaxed_options,
     (const char *)&key, sizeof(key), append->records->data, append->records->size, &words);
    return result(words);
}
