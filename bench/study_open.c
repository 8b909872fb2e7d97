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

/* In the child. */
static int go_way(struct stage *stage, const struct way *way, const char *dir)
{
    if (way->before) {
        const int error = way->before(stage, dir);
        if (error)
            return error;
    }
    return way->work(stage, dir);
}

/* Goes that way in a child and waits for its end; its error, if the child lived to tell. */
static int run_in_child(struct stage *stage, const struct way *way, const char *dir)
{
    *stage->answer = (struct answer){ .error = -ECHILD };
    const pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0) {
        stage->answer->error = go_way(stage, way, dir);
        _exit(0);
    }

    const int error = wait_for(child);
    if (error)
        return error;
    return stage->answer->error;
}

/* ---- the writers of the stage, which die ------------------------------------------------------- */

static int open_log(const char *dir, uint64_t segment_records, struct twinlog **ret_log)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    options.segment_bytes = SEGMENT_BYTES;
    options.segment_records = segment_records;
    options.prepare = TWINLOG_PREPARE_ALLOCATED;
    return twinlog_open(dir, &options, ret_log);
}

/* All of them are durable when it returns. */
static int append_many(struct twinlog *log, uint64_t records, size_t record_bytes)
{
    static const unsigned char zeros[RECORD_BYTES];

    for (uint64_t i = 0; i < records; i++) {
        const int error = twinlog_enqueue(log, zeros, record_bytes, NULL);
        if (error)
            return error;
    }
    return twinlog_sync(log);
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
        error = append_many(log, RECORDS_A_SEGMENT, RECORD_BYTES);
    if (error)
        return error;
    stage->answer->last_lsn = twinlog_durable_lsn(log);
    return 0;
}

static int fill_half(struct stage *stage, const char *dir)
{
    struct twinlog *log;
    int error = open_log(dir, 0, &log);

    if (error == 0)
        error = append_many(log, HALF_RECORDS, RECORD_BYTES);
    if (error)
        return error;
    stage->answer->last_lsn = twinlog_durable_lsn(log);
    return 0;
}

static int make_many(struct stage *stage, const char *dir)
{
    struct twinlog *log;
    int error = twinlog_open(dir, NULL, &log);

    if (error == 0)
        error = append_many(log, MANY_RECORDS, MANY_BYTES);
    if (error)
        return error;
    stage->answer->last_lsn = twinlog_durable_lsn(log);
    return 0;
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
    if (error)
        return complain("twinlog", "write", twinlog_strerror(error));
    return true;
}

static bool set_stage(const struct setting *setting, void *state)
{
    const char *dir = setting->dir;
    const struct way *segments = WAY(.work = make_segments);
    const struct way *half = WAY(.work = fill_half);
    const struct way *many = WAY(.work = make_many);
    struct stage *stage = state;

    stage->segments = setting->workload->sizes.max_bytes;
    stage->answer = allocate_shared(sizeof(*stage->answer));
    return make_crashed(stage, dir, "few", segments, NULL, &stage->logs[FEW]) &&
           make_crashed(stage, dir, "half", segments, half, &stage->logs[HALF]) &&
           make_crashed(stage, dir, "many", many, NULL, &stage->logs[MANY]);
}

static void clear_stage(void *state)
{
    struct stage *stage = state;

    munmap(stage->answer, sizeof(*stage->answer));
}

/* ---- what is timed, in a child ------------------------------------------------------------------ */

/* A process that opens the log, appends to it, and is gone. */
static int reopen(struct stage *stage, const char *dir)
{
    struct twinlog *log;
    const uint64_t began_ns = now_ns();
    const int error = open_log(dir, 0, &log);

    stage->answer->ns = now_ns() - began_ns;
    if (error)
        return error;
    stage->answer->last_lsn = twinlog_last_lsn(log);
    return append_many(log, 1, RECORD_BYTES);
}

/* Of a call that returns 1 for a record: 0 if there is one. */
static int demand_record(int got)
{
    if (got < 0)
        return got;
    if (got == 0)
        return -ENODATA;
    return 0;
}

static int read_newest(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    const int error = twinlog_reader_seek_end(reader);

    if (error)
        return error;
    return demand_record(twinlog_reader_previous(reader, &record));
}

static int read_oldest(struct twinlog_reader *reader)
{
    struct twinlog_record record;

    return demand_record(twinlog_reader_next(reader, &record));
}

/* Opens a reader that reads one record. */
static int read_one(struct stage *stage, const char *dir, int (*read)(struct twinlog_reader *reader))
{
    struct twinlog_reader *reader;
    uint64_t first_lsn;
    const uint64_t began_ns = now_ns();
    int error = twinlog_reader_open(dir, NULL, &reader);

    if (error == 0)
        error = read(reader);
    stage->answer->ns = now_ns() - began_ns;
    if (error)
        return error;
    return twinlog_reader_range(reader, &first_lsn, &stage->answer->last_lsn);
}

static int read_first(struct stage *stage, const char *dir)
{
    return read_one(stage, dir, read_oldest);
}

static int read_last(struct stage *stage, const char *dir)
{
    return read_one(stage, dir, read_newest);
}

/* Opens a consumer that has one record to read. */
static int read_consumed(struct stage *stage, const char *dir)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record record;
    int error = append_many(stage->writer, 2, RECORD_BYTES);

    stage->answer->last_lsn = twinlog_durable_lsn(stage->writer);
    if (error == 0)
        error = twinlog_cursor_set(stage->writer, "consumer", stage->answer->last_lsn - 1);
    if (error)
        return error;

    const uint64_t began_ns = now_ns();
    error = twinlog_consumer_open(dir, "consumer", NULL, &consumer);
    if (error == 0)
        error = demand_record(twinlog_consumer_next(consumer, &record));
    stage->answer->ns = now_ns() - began_ns;
    return error;
}

static int inspect(struct stage *stage, const char *dir)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const uint64_t began_ns = now_ns();
    const int error = twinlog_inspect(dir, &inspection);

    stage->answer->ns = now_ns() - began_ns;
    stage->answer->last_lsn = inspection.last_lsn;
    return error;
}

/* ---- what a child does first, without the clock ------------------------------------------------- */

static int leave_closed(struct stage *stage, const char *dir)
{
    const int error = open_log(dir, 0, &stage->writer);

    if (error)
        return error;
    return twinlog_close(stage->writer);
}

static int leave_open(struct stage *stage, const char *dir)
{
    return open_log(dir, 0, &stage->writer);
}

/* ---- a turn ------------------------------------------------------------------------------------- */

static bool open_once(struct stage *stage, const struct trial *trial)
{
    const struct way *way = trial->way;
    const struct crashed_log *log = &stage->logs[way->which];

    if (way->is_cold && !forget_files(trial->label, log->dir))
        return false;

    const int error = run_in_child(stage, way, log->dir);
    if (error)
        return complain(trial->label, "open", twinlog_strerror(error));
    if (stage->answer->last_lsn < log->last_lsn)
        return complain(trial->label, "open", "acknowledged records are missing");
    return true;
}

/* The number of openings ends a turn; the clock does not. */
static bool open_again(void *state, const struct trial *trial, const struct limits *limits,
                       struct figures *figures)
{
    struct stage *stage = state;
    struct histogram histogram;

    (void)limits;
    histogram_reset(&histogram);
    for (uint64_t i = 0; i < OPENINGS; i++) {
        if (!open_once(stage, trial))
            return false;
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
