/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A twinlog that is closed, and readers on it: one that maps, one that reads, and one that finds its records
 * by their time. The first two also of a log in the mapped mode, and of one that is open.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>

#include "common.h"

struct log_reader {
    struct twinlog *log; /* while it is open, else NULL */
    struct twinlog_reader *reader;
    int64_t *times; /* of record i + 1, where records are found by time */
};

/* Of a store, with the reader's flags beside them. */
#define IS_MAPPED (1u << 30) /* the log is in the mapped mode */
#define IS_OPEN (1u << 29)   /* and open while it is read */
#define BY_TIME (1u << 28)   /* records are found by their time */
#define KINDS (IS_MAPPED | IS_OPEN | BY_TIME)

static int open_log(const struct store *store, const struct store_plan *plan, struct twinlog **ret_log)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.mode = store->kind & IS_MAPPED ? TWINLOG_MODE_MAPPED : TWINLOG_MODE_DURABLE;
    return twinlog_open(plan->dir, &options, ret_log);
}

static int append_all(struct twinlog *log, const struct store_plan *plan)
{
    int error = 0;
    for (uint64_t i = 1; i <= plan->records && error == 0; i++)
        error = twinlog_enqueue(log, plan_record(plan, i), plan->record_bytes, NULL);
    return error;
}

int twinlog_fill(const struct store *store, const struct store_plan *plan)
{
    struct twinlog *log;
    int error = open_log(store, plan, &log);
    if (error)
        return error;
    error = append_all(log, plan);
    int close_error = twinlog_close(log);
    return error ? error : close_error;
}

static void close_reader(void *state)
{
    struct log_reader *log = state;
    twinlog_reader_close(log->reader);
    twinlog_close(log->log);
    free(log->times);
    free(log);
}

static int read_times(struct log_reader *log, uint64_t records)
{
    struct twinlog_record record;
    log->times = allocate(records, sizeof(*log->times));
    for (uint64_t i = 0; i < records; i++) {
        int rc = twinlog_reader_next(log->reader, &record);
        if (rc <= 0)
            return rc < 0 ? rc : -ENODATA;
        log->times[i] = record.time_ns;
    }
    return 0;
}

/* What the turn before has left goes first. */
static int refill(struct twinlog *log, const struct store_plan *plan)
{
    struct twinlog_trim_options all = TWINLOG_TRIM_OPTIONS_INIT;
    all.before_lsn = twinlog_last_lsn(log) + 1;
    int error = all.before_lsn > 1 ? twinlog_trim(log, &all, NULL) : 0;
    return error ? error : append_all(log, plan);
}

static int open_reader(const struct store *store, const struct store_plan *plan, void **ret_state)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct log_reader *log = allocate(1, sizeof(*log));
    int error = 0;

    options.flags = store->kind & ~KINDS;
    if (store->kind & IS_OPEN) {
        error = open_log(store, plan, &log->log);
        error = error ? error : refill(log->log, plan);
        error = error ? error : twinlog_reader_attach(log->log, &options, &log->reader);
    } else {
        error = twinlog_reader_open(plan->dir, &options, &log->reader);
    }
    if (error == 0 && store->kind & BY_TIME)
        error = read_times(log, plan->records);
    *ret_state = log;
    if (error)
        close_reader(log);
    return error;
}

static int replay(void *state, struct tally *tally)
{
    struct log_reader *log = state;
    struct twinlog_record record;
    int rc = twinlog_reader_seek_first(log->reader);
    if (rc)
        return rc;
    while ((rc = twinlog_reader_next(log->reader, &record)) > 0)
        tally_add(tally, record.data, record.size);
    return rc;
}

static int take_next(struct log_reader *log, struct twinlog_record *ret_record, struct found *ret_found)
{
    int rc = twinlog_reader_next(log->reader, ret_record);
    if (rc <= 0)
        return rc < 0 ? rc : -ENODATA;
    *ret_found = (struct found){ ret_record->lsn, record_mark(ret_record->data, ret_record->size) };
    return 0;
}

static int get_by_lsn(void *state, uint64_t number, struct found *ret_found)
{
    struct log_reader *log = state;
    struct twinlog_record record;
    int error = twinlog_reader_seek(log->reader, number);
    return error ? error : take_next(log, &record, ret_found);
}

/* Several records may have one time; then the first of them is found. */
static int get_by_time(void *state, uint64_t number, struct found *ret_found)
{
    struct log_reader *log = state;
    struct twinlog_record record;
    int error = twinlog_reader_seek_time(log->reader, log->times[number - 1]);
    if (error == 0)
        error = take_next(log, &record, ret_found);
    if (error == 0 && (record.lsn > number || record.time_ns != log->times[number - 1]))
        error = -ENODATA;
    return error;
}

#define LOG_STORE(its_folder, its_kind, its_fill, its_get)                                                   \
    {                                                                                                        \
        .folder = its_folder, .kind = its_kind, .fill = its_fill, .open = open_reader, .replay = replay,     \
        .get = its_get, .close = close_reader, .explain = twinlog_strerror                                   \
    }
const struct store store_twinlog_mmap = LOG_STORE("twinlog", TWINLOG_READER_MMAP, twinlog_fill, get_by_lsn);
const struct store store_twinlog_pread = LOG_STORE("twinlog", 0, twinlog_fill, get_by_lsn);
const struct store store_twinlog_time = LOG_STORE("twinlog", BY_TIME, twinlog_fill, get_by_time);
const struct store store_log = LOG_STORE("log", IS_MAPPED | TWINLOG_READER_MMAP, twinlog_fill, get_by_lsn);
const struct store store_log_pread = LOG_STORE("log", IS_MAPPED, twinlog_fill, get_by_lsn);
const struct store store_log_live =
    LOG_STORE("log-live", IS_MAPPED | IS_OPEN | TWINLOG_READER_MMAP, NULL, get_by_lsn);
