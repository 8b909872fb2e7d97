/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite: an INSERT that commits itself, in WAL mode with synchronous=FULL, so each commit syncs the WAL.
 *
 * One connection and one prepared statement, which the threads take turns with: SQLite has one writer at a time, and
 * connections that wait for each other sleep for milliseconds. What FULL promises is a sync for each commit; threads do
 * not share it. In `sqlite-together` they do: whoever finds no transaction going on makes one of all that wait.
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

struct request {
    const struct twinlog_entry *record;
    struct request *next;
    int error;
    bool is_done;
};

struct lite {
    pthread_mutex_t lock;
    pthread_cond_t has_committed;
    struct request *waiting; /* [lock] */
    bool is_committing;      /* [lock] */
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

/* In one transaction. Returns the same for each. */
static int insert_all(const struct lite *lite, const struct request *requests)
{
    int error = run(lite, "BEGIN");
    for (const struct request *request = requests; request && error == 0; request = request->next)
        error = put(lite, request->record->data, request->record->size);
    return error ? error : run(lite, "COMMIT");
}

/* The lock is given back meanwhile. */
static void commit_all(struct lite *lite)
{
    struct request *requests = lite->waiting;
    lite->waiting = NULL;
    lite->is_committing = true;
    pthread_mutex_unlock(&lite->lock);
    const int error = insert_all(lite, requests);
    pthread_mutex_lock(&lite->lock);
    lite->is_committing = false;
    for (struct request *next, *request = requests; request; request = next) {
        next = request->next;
        request->error = error;
        request->is_done = true;
    }
    pthread_cond_broadcast(&lite->has_committed);
}

static int lite_append_together(void *state, const struct append *append)
{
    struct lite *lite = state;
    struct request own = { .record = append->records };
    pthread_mutex_lock(&lite->lock);
    own.next = lite->waiting;
    lite->waiting = &own;
    while (!own.is_done) {
        if (lite->is_committing)
            pthread_cond_wait(&lite->has_committed, &lite->lock);
        else
            commit_all(lite);
    }
    pthread_mutex_unlock(&lite->lock);
    return own.error;
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
    pthread_cond_init(&lite->has_committed, NULL);
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

#define LITE                                                                                                 \
    .version = "SQLite " SQLITE_VERSION, .open = lite_open, .close = lite_close, .explain = lite_explain
const struct peer peer_sqlite = {
    .name = "sqlite",
    .what = "SQLite: INSERT in WAL mode with synchronous=FULL, one connection",
    .append = lite_append,
    LITE,
};
const struct peer peer_sqlite_together = {
    .name = "sqlite-together",
    .what = "the same, the INSERTs of all threads that wait in one transaction",
    .append = lite_append_together,
    LITE,
};
