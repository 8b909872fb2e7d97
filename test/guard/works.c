/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The works. Each does little: a step takes some microseconds. Logs are buffered, so that no file system has a say in
 * it, and none is filled so far that a segment has to be made.
 */
#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <twinlog_admin.h>
#include <twinlog_sink.h>

#define MOST_BYTES 16384u
#define BATCH 32u
#define READ 20u

static struct twinlog *log_handle;
static struct twinlog_sink *sink;
static struct twinlog_reader *reader;
static char path[300];
static char record[MOST_BYTES];

/* ---- logs ---------------------------------------------------------------------------------------- */

static int open_log(const struct work *work)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    memset(record, 'r', sizeof(record));
    snprintf(path, sizeof(path), "%s/log", guard_directory);
    options.flags = TWINLOG_NO_THREAD;
    options.flags |= work->mode == TWINLOG_MODE_DURABLE ? TWINLOG_BUFFERED : 0;
    options.io = work->io;
    options.mode = work->mode;
    options.segment_bytes = 4u << 20;
    options.buffer_bytes = work->mode == TWINLOG_MODE_DURABLE ? 128u << 10 : 0;
    options.max_record_bytes = 32u << 10;
    return twinlog_open(path, &options, &log_handle);
}

static int close_log(const struct work *work)
{
    (void)work;
    return twinlog_close(log_handle);
}

static int append(const struct work *work)
{
    int result = 0;

    for (unsigned i = 0; result == 0 && i < work->operations; i++)
        result = twinlog_append(log_handle, record, work->bytes, NULL);
    return result;
}

/* Each of the batches counts as its records. */
static int append_batches(const struct work *work)
{
    struct twinlog_entry entries[BATCH];
    int result = 0;

    for (unsigned i = 0; i < BATCH; i++)
        entries[i] = (struct twinlog_entry){ .data = record, .size = work->bytes };
    for (unsigned i = 0; result == 0 && i < work->operations; i += BATCH)
        result = twinlog_append_batch(log_handle, entries, BATCH, NULL, NULL);
    return result;
}

static int begin_nothing(const struct work *work)
{
    (void)work;
    return 0;
}

static int open_and_close(const struct work *work)
{
    const int result = open_log(work);

    return result < 0 ? result : close_log(work);
}

/* ---- reading ------------------------------------------------------------------------------------- */

static int fill_log(const struct work *work)
{
    int result = open_log(work);

    for (unsigned i = 0; result == 0 && i < work->operations + 2; i++)
        result = twinlog_enqueue(log_handle, record, work->bytes, NULL);
    if (result == 0)
        result = twinlog_sync(log_handle);
    return result < 0 ? result : twinlog_reader_attach(log_handle, NULL, &reader);
}

static int read_records(const struct work *work)
{
    struct twinlog_record read;
    int result = twinlog_reader_seek_first(reader);

    for (unsigned i = 0; result >= 0 && i < work->operations; i++) {
        result = twinlog_reader_next(reader, &read);
        if (result == 0)
            return -ENODATA;
    }
    return result < 0 ? result : 0;
}

static int close_reader(const struct work *work)
{
    twinlog_reader_close(reader);
    return close_log(work);
}

/* ---- looking at a log that was closed --------------------------------------------------------------- */

#define RECORDS_OF_CLOSED 141u /* so many that no spare is made at the end */

static int make_closed_log(const struct work *work)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    int result;

    (void)work;
    memset(record, 'r', sizeof(record));
    snprintf(path, sizeof(path), "%s/log", guard_directory);
    options.flags = TWINLOG_NO_THREAD | TWINLOG_BUFFERED;
    options.segment_bytes = 64u << 10;
    options.max_record_bytes = 8u << 10;
    result = twinlog_open(path, &options, &log_handle);
    for (unsigned i = 0; result == 0 && i < RECORDS_OF_CLOSED; i++)
        result = twinlog_append(log_handle, record, options.max_record_bytes, NULL);
    return result < 0 ? result : twinlog_close(log_handle);
}

static int inspect(const struct work *work)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;

    (void)work;
    return twinlog_inspect(path, &inspection);
}

static int read_first(const struct work *work)
{
    struct twinlog_record first;

    (void)work;
    int result = twinlog_reader_open(path, NULL, &reader);
    if (result < 0)
        return result;
    result = twinlog_reader_next(reader, &first);
    twinlog_reader_close(reader);
    return result < 0 ? result : 0;
}

/* ---- the sink ------------------------------------------------------------------------------------ */

static int open_sink(const struct work *work)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;

    snprintf(path, sizeof(path), "%s/sink", guard_directory);
    options.flags = work->mode == TWINLOG_MODE_SHARED ? TWINLOG_SINK_SHARED : 0;
    return twinlog_sink_open(path, &options, &sink);
}

static int write_sink(const struct work *work)
{
    int result = 0;

    for (unsigned i = 0; result == 0 && i < work->operations; i++)
        result = twinlog_sink_write(sink, record, work->bytes, NULL);
    return result;
}

static int close_sink(const struct work *work)
{
    (void)work;
    return twinlog_sink_close(sink);
}

/* ---- all of them --------------------------------------------------------------------------------- */

#define LOG(what, how) .begin = open_log, .run = what, .end = close_log, .io = TWINLOG_IO_##how
const struct work works[] = {
    { .name = "append", LOG(append, DSYNC), .operations = 4, .bytes = 128 },
    { .name = "append-fdatasync", LOG(append, FDATASYNC), .operations = 4, .bytes = 128 },
    { .name = "append-uring", LOG(append, URING), .operations = 4, .bytes = 128, .is_optional = true },
    { .name = "append-16k", LOG(append, DSYNC), .operations = 2, .bytes = 16384 },
    { .name = "batch", LOG(append_batches, DSYNC), .operations = BATCH, .bytes = 128 },
    { .name = "append-mapped",
      LOG(append, AUTO),
      .operations = 4,
      .bytes = 128,
      .mode = TWINLOG_MODE_MAPPED },
    { .name = "append-shared",
      LOG(append, AUTO),
      .operations = 4,
      .bytes = 128,
      .mode = TWINLOG_MODE_SHARED },
    { .name = "sink",
      .begin = open_sink,
      .run = write_sink,
      .end = close_sink,
      .operations = 4,
      .bytes = 128 },
    { .name = "sink-shared",
      .begin = open_sink,
      .run = write_sink,
      .end = close_sink,
      .operations = 4,
      .bytes = 128,
      .mode = TWINLOG_MODE_SHARED },
    { .name = "read",
      .begin = fill_log,
      .run = read_records,
      .end = close_reader,
      .io = TWINLOG_IO_DSYNC,
      .operations = READ,
      .bytes = 128 },
    { .name = "open-close",
      .begin = begin_nothing,
      .run = open_and_close,
      .end = begin_nothing,
      .io = TWINLOG_IO_DSYNC,
      .operations = 1,
      .is_opening = true },
#define LOOK(how)                                                                                            \
    .begin = make_closed_log, .run = how, .end = begin_nothing, .operations = 1, .is_opening = true
    { .name = "closed-inspect", LOOK(inspect) },
    { .name = "closed-first", LOOK(read_first) },
    { .name = NULL },
};
const struct work idle_work = {
    .name = "idle", .begin = begin_nothing, .run = begin_nothing, .end = begin_nothing
};
