/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log in the mapped mode among the plain files: it gives a message its time, its size and its checksum, which the
 * others carry in a frame. A directory, with all messages readable for every process when a put has returned.
 *
 * Closing it makes everything durable, which nobody else here does. So there are two: one whose clock stops in front
 * of the close, and one whose close is in the time.
 */
#include <twinlog.h>

#include "frame.h"
#include "plain.h"

static int open_log(const struct plain_setup *setup, void **ret_state)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log = NULL;
    options.mode = TWINLOG_MODE_MAPPED;
    int error = twinlog_open(setup->path, &options, &log);
    *ret_state = log;
    return error;
}

static int put(void *state, const void *data, size_t size)
{
    return twinlog_append(state, data, size, NULL);
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

#define LOG(closes_behind_clock_)                                                                            \
    {                                                                                                        \
        .open = open_log, .put = put, .close = close_log, .makes_frames = true,                              \
        .closes_behind_clock = closes_behind_clock_, .are_all_there = are_all_there                          \
    }
const struct plain plain_log = LOG(true);
const struct plain plain_log_durable = LOG(false);
