/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A twinlog that is closed, and readers on it: one that maps, one that reads, and one that finds its records
 * by their time. The first two also of a log in the mapped mode, and of one that is open.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <twinlog.h>

struct log_reader {
    struct twinlog *log; /* while it is open, else NULL */
    struct twinlog_reader *reader;
    int64_t *times; /* of record i + 1, where records are found by time */
};

static int open_log(const struct store_plan *plan, enum twinlog_mode mode, struct twinlog **ret_log)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.mode = mode;
    return twinlog_open(plan->dir, &options, ret_log);
}

static int append_all(struct twinlog *log, const struct store_plan *plan)
{
    int error = 0;
    for (uint64_t i = 1; i <= plan->records && error == 0; i++)
        error = twinlog_enqueue(log, plan_record(plan, i), plan->record_bytes, NULL);
    return error;
}

static int fill(const struct store_plan *plan, enum twinlog_mode mode)
{
    struct twinlog *log;
    int error = open_log(plan, mode, &log);
    if (error)
        return error;
    error = append_all(log, plan);
    int close_error = twinlog_close(log);
    return error ? error : close_error;
}

int twinlog_fill(const struct store_plan *plan)
{
    return fill(plan, TWINLOG_MODE_DURABLE);
}

static int fill_mapped(const struct store_plan *plan)
{
    return fill(plan, TWINLOG_MODE_MAPPED);
}

static void close_reader(void *state)
{
    struct log_reader *log = state;
    twinlog_reader_close(log->reader);
    twinlog_close(log->log);
    free(log->times);
    free(log);
}

static int open_reader(const struct store_plan *plan, uint32_t flags, void **ret_state)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct log_reader *log = calloc(1, sizeof(*log));
    if (!log)
        return -ENOMEM;
    options.flags = flags;
    int error = twinlog_reader_open(plan->dir, &options, &log->reader);
    if (error) {
        free(log);
        return error;
    }
    *ret_state = log;
    return 0;
}

static int open_mmap(const struct store_plan *plan, void **ret_state)
{
    return open_reader(plan, TWINLOG_READER_MMAP, ret_state);
}

static int open_pread(const struct store_plan *plan, void **ret_state)
{
    return open_reader(plan, 0, ret_state);
}

static int read_times(struct log_reader *log, uint64_t records)
{
    struct twinlog_record record;
    log->times = malloc(records * sizeof(*log->times));
    if (!log->times)
        return -ENOMEM;
    for (uint64_t i = 0; i < records; i++) {
        int rc = twinlog_reader_next(log->reader, &record);
        if (rc <= 0)
            return rc < 0 ? rc : -ENODATA;
        log->times[i] = record.time_ns;
    }
    return 0;
}

static int open_time(const struct store_plan *plan, void **ret_state)
{
    int error = open_pread(plan, ret_state);
    if (error)
        return error;
    error = read_times(*ret_state, plan->records);
    if (error)
        close_reader(*ret_state);
    return error;
}

/* Filled when it is opened: a store that was filled would be closed. */
static int fill_later(const struct store_plan *plan)
{
    (void)plan;
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

static int open_live(const struct store_plan *plan, void **ret_state)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct log_reader *log = calloc(1, sizeof(*log));
    if (!log)
        return -ENOMEM;
    options.flags = TWINLOG_READER_MMAP;
    int error = open_log(plan, TWINLOG_MODE_MAPPED, &log->log);
    if (error == 0)
        error = refill(log->log, plan);
    if (error == 0)
        error = twinlog_reader_attach(log->log, &options, &log->reader);
    if (error) {
        close_reader(log);
        return error;
    }
    *ret_state = log;
    return 0;
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

#define LOG_STORE(folder_, fill_, open_, get_)                                                               \
    {                                                                                                        \
        .folder = folder_, .fill = fill_, .open = open_, .replay = replay, .get = get_,                      \
        .close = close_reader, .explain = twinlog_strerror                                                   \
    }
const struct store store_twinlog_mmap = LOG_STORE("twinlog", twinlog_fill, open_mmap, get_by_lsn);
const struct store store_twinlog_pread = LOG_STORE("twinlog", twinlog_fill, open_pread, get_by_lsn);
const struct store store_twinlog_time = LOG_STORE("twinlog", twinlog_fill, open_time, get_by_time);
const struct store store_log = LOG_STORE("log", fill_mapped, open_mmap, get_by_lsn);
const struct store store_log_pread = LOG_STORE("log", fill_mapped, open_pread, get_by_lsn);
const struct store store_log_live = LOG_STORE("log-live", fill_later, open_live, get_by_lsn);
