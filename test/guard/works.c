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
#include <sys/wait.h>
#include <twinlog_admin.h>
#include <twinlog_sink.h>
#include <unistd.h>

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

/* ---- looking at a log --------------------------------------------------------------------------- */

#define RECORD_OF_LOG 8192u
#define RECORDS_OF_SEGMENT 15u
#define BYTES_OF_KILLED (28u << 20) /* half of the last segment */

static int open_small_log(uint64_t segment_bytes)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    memset(record, 'r', sizeof(record));
    snprintf(path, sizeof(path), "%s/log", guard_directory);
    options.flags = TWINLOG_BUFFERED;
    options.prepare = TWINLOG_PREPARE_ALLOCATED;
    options.segment_bytes = segment_bytes;
    options.max_record_bytes = RECORD_OF_LOG;
    return twinlog_open(path, &options, &log_handle);
}

static int append_to_log(unsigned records)
{
    int result = 0;

    for (unsigned i = 0; result == 0 && i < records; i++)
        result = twinlog_append(log_handle, record, RECORD_OF_LOG, NULL);
    return result;
}

/* Its last segment is not so full that a spare is made. */
static int make_live_log(const struct work *work)
{
    const int result = open_small_log(128u << 10);

    return result < 0 ? result : append_to_log((work->segments - 1) * RECORDS_OF_SEGMENT + 1);
}

static int make_closed_log(const struct work *work)
{
    const int result = make_live_log(work);

    return result < 0 ? result : close_log(work);
}

static int make_killed_log(const struct work *work)
{
    int status;
    const pid_t pid = fork();

    if (pid == 0) {
        int result = open_small_log(16u << 20);
        _exit(result < 0 ? 1 : append_to_log(BYTES_OF_KILLED / RECORD_OF_LOG) < 0);
    }
    (void)work;
    snprintf(path, sizeof(path), "%s/log", guard_directory);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -ECHILD;
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

static int read_last(const struct work *work)
{
    struct twinlog_record last;

    (void)work;
    int result = twinlog_reader_open(path, NULL, &reader);
    if (result < 0)
        return result;
    result = twinlog_reader_seek_end(reader);
    if (result == 0)
        result = twinlog_reader_previous(reader, &last);
    twinlog_reader_close(reader);
    return result < 0 ? result : 0;
}

static int count_name(void *context, const char *name, uint64_t lsn)
{
    (void)context;
    (void)name;
    (void)lsn;
    return 0;
}

static int read_names(const struct work *work)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    (void)work;
    options.flags = TWINLOG_READ_ONLY;
    int result = twinlog_open(path, &options, &log);
    if (result < 0)
        return result;
    result = twinlog_cursor_each(log, count_name, NULL);
    twinlog_close(log);
    return result;
}

static int append_one(const struct work *work)
{
    int result = open_small_log(128u << 10);

    if (result == 0)
        result = twinlog_append(log_handle, record, 16, NULL);
    return result < 0 ? result : close_log(work);
}

/* A consumer that begins where it ended. */
static int consume(const struct work *work)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record next;

    (void)work;
    int result = twinlog_consumer_open(path, "consumer", NULL, &consumer);
    if (result < 0)
        return result;
    result = twinlog_consumer_next(consumer, &next);
    twinlog_consumer_close(consumer);
    return result < 0 ? result : 0;
}

static int make_consumed_log(const struct work *work)
{
    int result = make_live_log(work);

    if (result == 0)
        result = twinlog_cursor_set(log_handle, "consumer", twinlog_last_lsn(log_handle) - 1);
    return result;
}

/* ---- the sink ------------------------------------------------------------------------------------ */

static int open_sink(const struct work *work)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;

    snprintf(path, sizeof(path), "%s/sink", guard_directory);
    options.flags = TWINLOG_SINK_MAPPED | (work->mode == TWINLOG_MODE_SHARED ? TWINLOG_SINK_SHARED : 0);
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
    { "append", LOG(append, DSYNC), .operations = 4, .bytes = 128 },
    { "append-fdatasync", LOG(append, FDATASYNC), .operations = 4, .bytes = 128 },
    { "append-uring", LOG(append, URING), .operations = 4, .bytes = 128, .is_optional = true },
    { "append-16k", LOG(append, DSYNC), .operations = 2, .bytes = 16384 },
    { "batch", LOG(append_batches, DSYNC), .operations = BATCH, .bytes = 128 },
    { "append-mapped", LOG(append, AUTO), .operations = 4, .bytes = 128, .mode = TWINLOG_MODE_MAPPED },
    { "append-shared", LOG(append, AUTO), .operations = 4, .bytes = 128, .mode = TWINLOG_MODE_SHARED },
    { "sink", .begin = open_sink, .run = write_sink, .end = close_sink, .operations = 4, .bytes = 128 },
    { "sink-shared", .begin = open_sink, .run = write_sink, .end = close_sink, .operations = 4, .bytes = 128,
      .mode = TWINLOG_MODE_SHARED },
    { "read", .begin = fill_log, .run = read_records, .end = close_reader, .io = TWINLOG_IO_DSYNC,
      .operations = READ, .bytes = 128 },
    { "open-close", .begin = begin_nothing, .run = open_and_close, .end = begin_nothing,
      .io = TWINLOG_IO_DSYNC, .operations = 1, .is_opening = true },
#define LOOK(at, how, many)                                                                                  \
    .begin = at, .run = how, .end = begin_nothing, .segments = many, .operations = 1, .is_opening = true
    { "closed-inspect", LOOK(make_closed_log, inspect, 10) },
    { "closed-first", LOOK(make_closed_log, read_first, 10) },
    { "closed-last", LOOK(make_closed_log, read_last, 10) },
    { "closed-names", LOOK(make_closed_log, read_names, 10) },
    { "closed-append", LOOK(make_closed_log, append_one, 10) },
    { "many-inspect", LOOK(make_closed_log, inspect, 100) },
    { "many-first", LOOK(make_closed_log, read_first, 100) },
    { "many-last", LOOK(make_closed_log, read_last, 100) },
    { "many-append", LOOK(make_closed_log, append_one, 100) },
    { "killed-inspect", LOOK(make_killed_log, inspect, 0) },
    { "live-inspect", LOOK(make_live_log, inspect, 10) },
    { "live-last", LOOK(make_live_log, read_last, 10) },
    { "live-consumer", LOOK(make_consumed_log, consume, 10) },
    { .name = NULL },
};
const struct work idle_work = {
    .name = "idle", .begin = begin_nothing, .run = begin_nothing, .end = begin_nothing
};
