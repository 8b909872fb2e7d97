/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log in the mapped mode among the plain files: it gives a message its time, its size and its checksum, which the
 * others carry in a frame. A directory, with all messages readable for every process when a put has returned.
 *
 * Closing it makes everything durable, which no other contender does. So there are two: one whose clock stops in front
 * of the close, and one whose close is in the time.
 *
 * And a log that several processes share, with records that are copied, and with records that are durable before the
 * next one is put.
 */
#include <twinlog.h>

#include "frame.h"
#include "plain.h"

#define OPEN_WAIT_MS 10000 /* for another process that is opening it, too */

static int open_log(const struct plain *plain, const struct plain_setup *setup, void **ret_state)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log = NULL;
    options.mode = plain->kind;
    options.lock_wait_ms = OPEN_WAIT_MS;
    int error = twinlog_open(setup->path, &options, &log);
    *ret_state = log;
    return error;
}

static int put(void *state, const void *data, size_t size)
{
    return twinlog_append(state, data, size, NULL);
}

/* The processes that wait share a sync. */
static int put_durable(void *state, const void *data, size_t size)
{
    const struct twinlog_entry entry = { .data = data, .size = size };
    const struct twinlog_terms terms = { .size = sizeof(terms), .level = TWINLOG_LEVEL_DURABLE };
    return twinlog_append_batch(state, &entry, 1, &terms, NULL);
}

static int close_log(void *state)
{
    return twinlog_close(state);
}

/* The reader verifies every checksum. */
static bool are_all_there(const char *path, uint64_t count)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t found = 0, sum = 0;
    int rc;
    options.flags = TWINLOG_READER_MMAP;
    if (twinlog_reader_open(path, &options, &reader) < 0)
        return false;
    for (; (rc = twinlog_reader_next(reader, &record)) > 0 && record.size == NUMBERED_BYTES; found++)
        sum += numbered_read(record.data);
    twinlog_reader_close(reader);
    return rc == 0 && found == count && sum == count * (count - 1) / 2;
}

/* They are what was put, by the count of each process. */
static bool are_as_many(const char *path, uint64_t count)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    return twinlog_inspect(path, &inspection) == 0 && inspection.report.error == 0 &&
           inspection.first_lsn == 1 && inspection.last_lsn == count && inspection.durable_lsn == count;
}

#define LOG(closes_behind_clock_)                                                                            \
    {                                                                                                        \
        .kind = TWINLOG_MODE_MAPPED, .open = open_log, .put = put, .close = close_log, .makes_frames = true, \
        .closes_behind_clock = closes_behind_clock_, .are_all_there = are_all_there                          \
    }
const struct plain plain_log = LOG(true);
const struct plain plain_log_durable = LOG(false);

#define SHARED_LOG(put_)                                                                                     \
    {                                                                                                        \
        .kind = TWINLOG_MODE_SHARED, .open = open_log, .put = put_, .close = close_log,                      \
        .are_all_there = are_as_many                                                                         \
    }
const struct plain plain_shared_log = SHARED_LOG(put);
const struct plain plain_shared_log_durable = SHARED_LOG(put_durable);
