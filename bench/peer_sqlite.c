/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite: an INSERT that commits itself, in WAL mode with synchronous=FULL, so each commit syncs the WAL.
 *
 * One connection and one prepared statement, which the threads take turns with: SQLite has one writer at a time, and
 * connections that wait for each other sleep for milliseconds. What FULL promises is a sync for each commit; threads do
 * not share it.
 *
 * A checkpoint copies the WAL to the database every 1,000 pages, as by default, and the WAL begins again at its front,
 * over blocks that were written before. So that a round does not start on the first WAL there ever was, it is filled
 * and checkpointed once before the clock.
 */
#include "common.h"
#include "peer.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_PAGES 1500 /* more than a WAL has between two checkpoints */

struct lite {
    pthread_mutex_t lock;
    sqlite3 *db;
    sqlite3_stmt *insert;
};

static int failure(int code)
{
    return code == SQLITE_OK || code == SQLITE_DONE ? 0 : -code;
}

static int put(const struct lite *lite, const void *data, size_t size)
{
    sqlite3_bind_blob64(lite->insert, 1, data, size, SQLITE_STATIC);
    sqlite3_step(lite->insert);
    return failure(sqlite3_reset(lite->insert)); /* returns what the step did */
}

static int lite_append(void *state, const struct append *append)
{
    struct lite *lite = state;
    pthread_mutex_lock(&lite->lock);
    int error = put(lite, append->records->data, append->records->size);
    pthread_mutex_unlock(&lite->lock);
    return error;
}

static int run(const struct lite *lite, const char *sql)
{
    return failure(sqlite3_exec(lite->db, sql, NULL, NULL, NULL));
}

static int fill_first_wal(const struct lite *lite)
{
    static const char page[3500];
    int error = run(lite, "BEGIN");
    for (unsigned i = 0; i < FIRST_PAGES && error == 0; i++)
        error = put(lite, page, sizeof(page));
    if (error == 0)
        error = run(lite, "COMMIT");
    return error ? error : run(lite, "PRAGMA wal_checkpoint(RESTART)");
}

static int lite_close(void *state)
{
    struct lite *lite = state;
    sqlite3_finalize(lite->insert);
    int error = failure(sqlite3_close(lite->db));
    pthread_mutex_destroy(&lite->lock);
    free(lite);
    return error;
}

static int lite_open(const struct peer_setup *setup, void **ret_state)
{
    char path[4096];
    int error;
    struct lite *lite = *ret_state = allocate(1, sizeof(*lite));
    pthread_mutex_init(&lite->lock, NULL);
    snprintf(path, sizeof(path), "%s/log.db", setup->dir);
    if ((error = failure(sqlite3_open(path, &lite->db))) ||
        (error = run(lite, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                           "CREATE TABLE log(lsn INTEGER PRIMARY KEY, data BLOB NOT NULL)")) ||
        (error = failure(
             sqlite3_prepare_v2(lite->db, "INSERT INTO log(data) VALUES(?)", -1, &lite->insert, NULL))) ||
        (error = fill_first_wal(lite)))
        return error;
    return 0;
}

static const char *lite_explain(int error)
{
    return sqlite3_errstr(-error);
}

const struct peer peer_sqlite = {
    .name = "sqlite",
    .what = "SQLite: INSERT in WAL mode with synchronous=FULL, one connection",
    .open = lite_open,
    .append = lite_append,
    .close = lite_close,
    .explain = lite_explain,
};
