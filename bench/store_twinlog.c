/* SPDX-License-Identifier: Apache-2.0 */
/* A twinlog that is closed, and readers on it: one that maps, and one that reads. */
#include "store.h"

#include <errno.h>

int twinlog_fill(const struct peer_setup *setup)
{
    const struct store_plan *plan = setup->plan;
    struct twinlog *log;
    int error = twinlog_open(plan->dir, NULL, &log);

    if (error)
        return error;
    for (uint64_t i = 1; i <= plan->records && error == 0; i++)
        error = twinlog_enqueue(log, plan_record(plan, i), plan->record_bytes, NULL);

    const int close_error = twinlog_close(log);
    if (error)
        return error;
    return close_error;
}

static int close_reader(void *state)
{
    twinlog_reader_close(state);
    return 0;
}

static int open_reader(const struct peer_setup *setup, void **ret_state)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;

    if (setup->peer == &store_twinlog_mmap)
        options.flags = TWINLOG_READER_MMAP;
    const int error = twinlog_reader_open(setup->plan->dir, &options, &reader);
    *ret_state = reader;
    return error;
}

static int replay(void *state, struct tally *tally)
{
    struct twinlog_record record;
    const int error = twinlog_reader_seek_first(state);

    if (error)
        return error;
    for (;;) {
        const int got = twinlog_reader_next(state, &record);
        if (got <= 0)
            return got; /* an error, or 0 at the end */
        tally_add(tally, record.data, record.size);
    }
}

static int get_by_lsn(void *state, uint64_t number, struct found *ret_found)
{
    struct twinlog_record record;
    const int error = twinlog_reader_seek(state, number);

    if (error)
        return error;
    const int got = twinlog_reader_next(state, &record);
    if (got < 0)
        return got;
    if (got == 0)
        return -ENODATA;
    *ret_found = (struct found){ record.lsn, record_mark(record.data, record.size) };
    return 0;
}

#define LOG_STORE                                                                                            \
    {                                                                                                        \
        .folder = "twinlog", .fill = twinlog_fill, .open = open_reader, .replay = replay, .get = get_by_lsn, \
        .close = close_reader, .explain = twinlog_strerror                                                   \
    }
const struct peer store_twinlog_mmap = LOG_STORE;
const struct peer store_twinlog_pread = LOG_STORE;
