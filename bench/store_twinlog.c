/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A twinlog that is closed, and readers on it: one that maps, one that reads, and one that finds its records
 * by their time.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>

#include "common.h"

struct log_reader {
    struct twinlog_reader *reader;
    int64_t *times; /* of record i + 1, where records are found by time */
};

int twinlog_fill(const struct peer_setup *setup)
{
    const struct store_plan *plan = setup->plan;
    struct twinlog *log;
    int error = twinlog_open(plan->dir, NULL, &log);
    if (error)
        return error;
    for (uint64_t i = 1; i <= plan->records && error == 0; i++)
        error = twinlog_enqueue(log, plan_record(plan, i), plan->record_bytes, NULL);
    int close_error = twinlog_close(log);
    return error ? error : close_error;
}

static int close_reader(void *state)
{
    struct log_reader *log = state;
    twinlog_reader_close(log->reader);
    free(log->times);
    free(log);
    return 0;
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

static int open_reader(const struct peer_setup *setup, void **ret_state)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct log_reader *log = *ret_state = allocate(1, sizeof(*log));
    options.flags = setup->peer == &store_twinlog_mmap ? TWINLOG_READER_MMAP : 0;
    int error = twinlog_reader_open(setup->plan->dir, &options, &log->reader);
    return error == 0 && setup->peer == &store_twinlog_time ? read_times(log, setup->plan->records) : error;
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

#define LOG_STORE(its_get)                                                                                   \
    {                                                                                                        \
        .folder = "twinlog", .fill = twinlog_fill, .open = open_reader, .replay = replay, .get = its_get,    \
        .close = close_reader, .explain = twinlog_strerror                                                   \
    }
const struct peer store_twinlog_mmap = LOG_STORE(get_by_lsn);
const struct peer store_twinlog_pread = LOG_STORE(get_by_lsn);
const struct peer store_twinlog_time = LOG_STORE(get_by_time);
