/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of opening after a crash, by number of segments.
 *
 * A stage is two logs of segments that are sparse files with ten records each. In one of them the active segment is
 * then filled to a half, which is what an opening has to walk through. A third log has a million records of 256
 * bytes, in segments as they are by default. Every writer is a child process that ends without closing the log, so each
 * opening comes after a crash; it leaves one record more behind. The time is that of one call in a new process.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <twinlog_admin.h>
#include <unistd.h>

#include "common.h"
#include "study.h"

#define SEGMENT_BYTES (UINT64_C(64) << 20)
#define RECORDS_A_SEGMENT 10u
#define RECORD_BYTES 4096u
#define OPENINGS 5u /* of a turn */
#define MANY_RECORDS UINT64_C(1000000)
#define MANY_BYTES 256u
#define HALF_RECORDS (SEGMENT_BYTES / 2 / RECORD_BYTES)

/* What a child tells, in memory that both have. */
struct answer {
    int error;
    uint64_t ns;
    uint64_t last_lsn;
};

struct crashed_log {
    char dir[2048];
    uint64_t last_lsn; /* durable when its writer died */
};

enum which {
    FEW,  /* ten records in the active segment */
    HALF, /* half of the active segment is full */
    MANY, /* a million records */
    LOGS
};

struct stage {
    uint64_t segments;
    struct crashed_log logs[LOGS];
    struct answer *answer;
    struct twinlog *writer; /* in a child: beside which something is done */
};

struct way {
    int (*work)(struct stage *stage, const char *dir);
    int (*before)(struct stage *stage, const char *dir); /* the clock starts; NULL: nothing */
    enum which which;                                    /* of the logs */
    bool is_cold;
};

/* Goes that way in a child and waits for its end; its error, if the child lived to tell. */
static int run_in_child(struct stage *stage, const struct way *way, const char *dir)
{
    *stage->answer = (struct answer){ .error = -ECHILD };
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        const int error = way->before ? way->before(stage, dir) : 0;
        stage->answer->error = error ? error : way->work(stage, dir);
        _exit(0);
    }
    int error = wait_for(child);
    return error ? error : stage->answer->error;
}

static int open_log(const char *dir, uint64_t segment_records, struct twinlog **ret_log)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.segment_bytes = SEGMENT_BYTES;
    options.segment_records = segment_records;
    options.prepare = TWINLOG_PREPARE_ALLOCATED;
    return twinlog_open(dir, &options, ret_log);
}

static int append_many(struct twinlog *log, uint64_t records)
{
    static const unsigned char record[RECORD_BYTES];
    int error = 0;
    for (uint64_t i = 0; i < records && error == 0; i++)
        error = twinlog_enqueue(log, record, sizeof(record), NULL);
    return error ? error : twinlog_sync(log);
}

static uint64_t count_segments(struct twinlog *log)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    twinlog_stat(log, &stat);
    return stat.segments;
}

static int make_segments(struct stage *stage, const char *dir)
{
    struct twinlog *log;
    int error = open_log(dir, RECORDS_A_SEGMENT, &log);
    while (error == 0 && count_segments(log) < stage->segments)
        error = append_many(log, RECORDS_A_SEGMENT);
    if (error == 0)
        stage->answer->last_lsn = twinlog_durable_lsn(log);
    return error;
}

static int fill_half(struct stage *stage, const char *dir)
{
    struct twinlog *log;
    int error = open_log(dir, 0, &log);
    if (error == 0)
        error = append_many(log, HALF_RECORDS);
    if (error == 0)
        stage->answer->last_lsn = twinlog_durable_lsn(log);
    return error;
}

static int make_many(struct stage *stage, const char *dir)
{
    static const unsigned char record[MANY_BYTES];
    struct twinlog *log;
    int error = twinlog_open(dir, NULL, &log);
    for (uint64_t i = 0; i < MANY_RECORDS && error == 0; i++)
        error = twinlog_enqueue(log, record, sizeof(record), NULL);
    if (error == 0)
        error = twinlog_sync(log);
    if (error == 0)
        stage->answer->last_lsn = twinlog_durable_lsn(log);
    return error;
}

/* Goes these ways one after the other; each ends with the death of its writer. */
static bool make_crashed(struct stage *stage, const char *dir, const char *name, const struct way *first,
                         const struct way *second, struct crashed_log *log)
{
    snprintf(log->dir, sizeof(log->dir), "%s/%s", dir, name);
    int error = run_in_child(stage, first, log->dir);
    if (error == 0 && second)
        error = run_in_child(stage, second, log->dir);
    log->last_lsn = stage->answer->last_lsn;
    return error == 0 || complain("twinlog", "write", twinlog_strerror(error));
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    munmap(stage->answer, sizeof(*stage->answer));
}

static bool set_stage(const struct setting *setting, void *state)
{
    struct stage *stage = state;
    stage->segments = setting->workload->sizes.max_bytes;
    stage->answer = allocate_shared(sizeof(*stage->answer));
    const struct way *segments = WAY(.work = make_segments), *half = WAY(.work = fill_half),
                     *many = WAY(.work = make_many);
    return make_crashed(stage, setting->dir, "few", segments, NULL, &stage->logs[FEW]) &&
           make_crashed(stage, setting->dir, "half", segments, half, &stage->logs[HALF]) &&
           make_crashed(stage, setting->dir, "many", many, NULL, &stage->logs[MANY]);
}

/* A process that opens the log, appends to it, and is gone. */
static int reopen(struct stage *stage, const char *dir)
{
    struct twinlog *log;
    uint64_t began_ns = now_ns();
    int error = open_log(dir, 0, &log);
    stage->answer->ns = now_ns() - began_ns;
    if (error)
        return error;
    stage->answer->last_lsn = twinlog_last_lsn(log);
    return append_many(log, 1);
}

static int read_one(struct stage *stage, const char *dir, bool is_last)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t began_ns = now_ns(), first_lsn;
    int rc = twinlog_reader_open(dir, NULL, &reader);
    if (rc == 0 && is_last)
        rc = twinlog_reader_seek_end(reader);
    if (rc == 0)
        rc = is_last ? twinlog_reader_previous(reader, &record) : twinlog_reader_next(reader, &record);
    stage->answer->ns = now_ns() - began_ns;
    if (rc <= 0)
        return rc < 0 ? rc : -ENODATA;
    return twinlog_reader_range(reader, &first_lsn, &stage->answer->last_lsn);
}

static int read_first(struct stage *stage, const char *dir)
{
    return read_one(stage, dir, false);
}

static int read_last(struct stage *stage, const char *dir)
{
    return read_one(stage, dir, true);
}

static int read_consumed(struct stage *stage, const char *dir)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record record;
    int rc = append_many(stage->writer, 2);
    stage->answer->last_lsn = twinlog_durable_lsn(stage->writer);
    if (rc == 0)
        rc = twinlog_cursor_set(stage->writer, "consumer", stage->answer->last_lsn - 1);
    uint64_t began_ns = now_ns();
    if (rc == 0)
        rc = twinlog_consumer_open(dir, "consumer", NULL, &consumer);
    if (rc == 0)
        rc = twinlog_consumer_next(consumer, &record);
    stage->answer->ns = now_ns() - began_ns;
    return rc > 0 ? 0 : rc < 0 ? rc : -ENODATA;
}

static int inspect(struct stage *stage, const char *dir)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    uint64_t began_ns = now_ns();
    int error = twinlog_inspect(dir, &inspection);
    stage->answer->ns = now_ns() - began_ns;
    stage->answer->last_lsn = inspection.last_lsn;
    return error;
}

/* ---- what a child does first, without the clock ----------------------------------------------- */

static int leave_closed(struct stage *stage, const char *dir)
{
    const int error = open_log(dir, 0, &stage->writer);
    return error ? error : twinlog_close(stage->writer);
}

static int leave_open(struct stage *stage, const char *dir)
{
    return open_log(dir, 0, &stage->writer);
}

static bool open_again(void *state, const struct trial *trial, const struct limits *limits,
                       struct figures *figures)
{
    struct stage *stage = state;
    const struct way *way = trial->way;
    struct crashed_log *log = &stage->logs[way->which];
    struct histogram histogram;

    (void)limits;
    histogram_reset(&histogram);
    for (uint64_t i = 0; i < OPENINGS; i++) {
        if (way->is_cold && !forget_files(trial->label, log->dir))
            return false;
        int error = run_in_child(stage, way, log->dir);
        if (error)
            return complain(trial->label, "open", twinlog_strerror(error));
        if (stage->answer->last_lsn < log->last_lsn)
            return complain(trial->label, "open", "acknowledged records are missing");
        histogram_add(&histogram, stage->answer->ns);
        if (round_is_interrupted())
            return false;
    }
    figures->appends = (double)histogram.count;
    figures_set_latencies(figures, &histogram);
    return true;
}

static const struct trial open_trials[] = {
    { "open", "twinlog_open()", WAY(.work = reopen) },
    { "open, half full", "the same with half of the active segment to walk through",
      WAY(.work = reopen, .which = HALF) },
    { "open, cold", "the same with the log's files out of the page cache",
      WAY(.work = reopen, .is_cold = true) },
    { "reader", "twinlog_reader_open() and the first record", WAY(.work = read_first) },
    { "reader, half full", "the same with half of the active segment to walk through",
      WAY(.work = read_first, .which = HALF) },
    { "reader, closed", "the same of a log that was closed",
      WAY(.work = read_first, .before = leave_closed) },
    { "newest, beside", "twinlog_reader_open() beside a writer, and the newest record",
      WAY(.work = read_last, .before = leave_open, .which = HALF) },
    { "consumer, beside", "twinlog_consumer_open() beside a writer, and the next record",
      WAY(.work = read_consumed, .before = leave_open, .which = HALF) },
    { "inspect", "twinlog_inspect()", WAY(.work = inspect) },
    { "inspect, beside", "the same beside a writer", WAY(.work = inspect, .before = leave_open) },
    { "million", "twinlog_open() of a million records of 256 B", WAY(.work = reopen, .which = MANY) },
    { "million, closed", "the same of a log that was closed",
      WAY(.work = reopen, .before = leave_closed, .which = MANY) },
    { NULL, NULL, NULL },
};

const struct study study_open = {
    .point = "segments",
    .trials = open_trials,
    .columns = { { "median ms", FIGURE(p50_us), 0.001 }, { "longest ms", FIGURE(max_us), 0.001 } },
    .stage_bytes = sizeof(struct stage),
    .set_stage = set_stage,
    .clear_stage = clear_stage,
    .run = open_again,
};
