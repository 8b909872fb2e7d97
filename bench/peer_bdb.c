/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Berkeley DB's log on its own: log_put() with DB_FLUSH, the call its transactions commit with.
 *
 * For small records its log files are written with zeros when they are made (DB_LOG_ZERO), the first one before
 * the clock starts; a round that fills 256 MiB (flight) waits for the second. With large ones that is slower.
 *
 * As a store: a log that is read with a cursor, DB_NEXT after DB_NEXT.
 */
#include "common.h"
#include "peer.h"
#include "store.h"

#include <db.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES (8u << 20)
#define FILE_BYTES (256u << 20)
#define SMALL_RECORD 4096u
#define MUTEXES 8192u /* each waiting thread takes one */

static int put(DB_ENV *env, const void *data, size_t size, u_int32_t flags)
{
    DB_LSN lsn;
    DBT record;
    memset(&record, 0, sizeof(record));
    memcpy(&record.data, &data, sizeof(data)); /* DBT has no const; log_put() only reads it */
    record.size = (u_int32_t)size;
    return negative(env->log_put(env, &lsn, &record, flags));
}

/* It has no batches: those of other threads may come in between, and a crash may leave a part of it. */
static int bdb_append(void *state, const struct append *append)
{
    static const u_int32_t flags[APPEND_LEVELS] = { DB_FLUSH, DB_LOG_WRNOSYNC, 0, 0 };
    DB_ENV *env = state;
    int error = 0;
    for (unsigned i = 0; i < append->count && error == 0; i++)
        error = put(env, append->records[i].data, append->records[i].size, flags[append->level]);
    return error == 0 && append->level == APPEND_BATCH ? negative(env->log_flush(env, NULL)) : error;
}

static int open_log(const char *dir, int is_zeroed, DB_ENV **ret_env)
{
    DB_ENV *env;
    int error = db_env_create(&env, 0);
    if (error)
        return negative(error);
    if ((error = env->set_lg_bsize(env, BUFFER_BYTES)) || (error = env->set_lg_max(env, FILE_BYTES)) ||
        (error = env->mutex_set_max(env, MUTEXES)) ||
        (error = env->log_set_config(env, DB_LOG_ZERO, is_zeroed)) ||
        (error = env->open(env, dir, DB_CREATE | DB_INIT_LOG | DB_PRIVATE | DB_THREAD, 0600))) {
        env->close(env, 0);
        return negative(error);
    }
    *ret_env = env;
    return 0;
}

static int bdb_open(const struct peer_setup *setup, void **ret_state)
{
    DB_ENV *env;
    int error = open_log(setup->dir, setup->largest_record <= SMALL_RECORD, &env);
    if (error)
        return error;
    *ret_state = env;
    return put(env, "first", 5, DB_FLUSH);
}

static void bdb_count(void *state, struct peer_counters *ret_counters)
{
    DB_ENV *env = state;
    DB_LOG_STAT *stat;
    memset(ret_counters, 0, sizeof(*ret_counters));
    if (env->log_stat(env, &stat, 0))
        return;
    ret_counters->appends = stat->st_record;
    ret_counters->syncs = stat->st_scount;
    free(stat);
}

static int bdb_close(void *state)
{
    DB_ENV *env = state;
    return negative(env->close(env, 0));
}

static const char *bdb_explain(int error)
{
    return db_strerror(library_code(error));
}

const struct peer peer_bdb = {
    .version = DB_VERSION_STRING,
    .name = "bdb",
    .what = "Berkeley DB: log_put() with DB_FLUSH",
    .open = bdb_open,
    .append = bdb_append,
    .count = bdb_count,
    .close = bdb_close,
    .explain = bdb_explain,
};

struct bdb_reader {
    DB_ENV *env;
    DB_LOGC *cursor;
};

static int bdb_fill(const struct peer_setup *setup)
{
    const struct store_plan *plan = setup->plan;
    DB_ENV *env;
    int error = open_log(plan->dir, false, &env);
    if (error)
        return error;
    for (uint64_t i = 1; i <= plan->records && error == 0; i++)
        error = put(env, plan_record(plan, i), plan->record_bytes, 0);
    if (error == 0)
        error = negative(env->log_flush(env, NULL));
    int close_error = negative(env->close(env, 0));
    return error ? error : close_error;
}

static int bdb_close_reader(void *state)
{
    struct bdb_reader *reader = state;
    if (reader->cursor)
        reader->cursor->close(reader->cursor, 0);
    if (reader->env)
        reader->env->close(reader->env, 0);
    free(reader);
    return 0;
}

static int bdb_open_reader(const struct peer_setup *setup, void **ret_state)
{
    struct bdb_reader *reader = *ret_state = allocate(1, sizeof(*reader));
    int error = open_log(setup->plan->dir, false, &reader->env);
    return error ? error : negative(reader->env->log_cursor(reader->env, &reader->cursor, 0));
}

static int bdb_replay(void *state, struct tally *tally)
{
    struct bdb_reader *reader = state;
    DB_LSN lsn;
    DBT record;
    memset(&record, 0, sizeof(record));
    int error = reader->cursor->get(reader->cursor, &lsn, &record, DB_FIRST);
    while (error == 0) {
        tally_add(tally, record.data, record.size);
        error = reader->cursor->get(reader->cursor, &lsn, &record, DB_NEXT);
    }
    return error == DB_NOTFOUND ? 0 : negative(error);
}

const struct peer store_bdb = {
    .folder = "bdb",
    .fill = bdb_fill,
    .open = bdb_open_reader,
    .replay = bdb_replay,
    .close = bdb_close_reader,
    .explain = bdb_explain,
};
