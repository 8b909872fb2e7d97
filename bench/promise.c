/* SPDX-License-Identifier: Apache-2.0 */
/* The table of targets, and how a series is held against it. */
#include "promise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

#define PEERS "naive,by-hand,bdb,leveldb,rocksdb,rocksdb-pipelined,sqlite,sqlite-together,wiredtiger"
#define FRESH "twinlog:fresh" /* has to reach 0.7 of what a log with prepared segments has to */
#define NOT_RECYCLED "twinlog:keep=1M:no-recycle"
#define DISK "disk-direct,disk-buffered"
#define MIB (UINT64_C(1) << 20)

/* A check: its kind, what the report calls it, with what contenders it compares, the figure, the target; then of what
 * contender, and at what size, as in struct check. */
/* clang-format off */
const struct promise promises[] = {
    { .name = "p1", .work = "1 thread, 128 B", .contenders = "twinlog,raw," PEERS "," FRESH,
      .limits = { .seconds = 1, .warmup_seconds = 0.4 },
      .checks = {
          { CHECK_AGAINST, "rate against raw", "raw", FIGURE(rate), 0.95, NULL, NULL },
          { CHECK_AGAINST, "rate against the best peer", PEERS, FIGURE(rate), 1, NULL, NULL },
          { CHECK_AGAINST, "fresh log, rate against raw", "raw", FIGURE(rate), 0.67, FRESH, NULL },
          { CHECK_AGAINST, "fresh log, rate against the best peer", PEERS, FIGURE(rate), 0.7, FRESH, NULL } } },

    { .name = "p2", .work = "16 threads, 128 B", .threads = "16", .contenders = "twinlog," PEERS "," FRESH,
      .checks = {
          { CHECK_AGAINST, "rate against Berkeley DB", "bdb", FIGURE(rate), 2, NULL, NULL },
          { CHECK_AGAINST, "rate against the best peer", PEERS, FIGURE(rate), 1, NULL, NULL },
          { CHECK_AGAINST, "fresh log, rate against Berkeley DB", "bdb", FIGURE(rate), 1.4, FRESH, NULL },
          { CHECK_AGAINST, "fresh log, rate against the best peer", PEERS, FIGURE(rate), 0.7, FRESH, NULL } } },

    { .name = "p3", .work = "64 and 256 threads, 128 B", .threads = "64,256", .contenders = "twinlog," PEERS "," FRESH,
      .checks = {
          { CHECK_AGAINST, "rate against the best peer", PEERS, FIGURE(rate), 5, NULL, NULL },
          { CHECK_AGAINST, "fresh log, rate against the best peer", PEERS, FIGURE(rate), 3.5, FRESH, NULL } } },

    { .name = "p4", .work = "1000 threads, 128 B", .threads = "256,1000", .contenders = "twinlog",
      .checks = {
          { CHECK_LAST_TO_FIRST, "rate against 256 threads", NULL, FIGURE(rate), 1, NULL, NULL } } },

    { .name = "p5", .work = "1 thread, without waiting", .size = "128,1K,4K", .study = &study_flight,
      .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "1,000 in flight, rate against the pace", "pace-1000", FIGURE(rate), 0.95, "queue, 1000", NULL },
          { CHECK_AGAINST, "the same in batches of 10", "pace-1000", FIGURE(rate), 0.95, "batches, 1000", NULL },
          { CHECK_AGAINST, "10,000 in flight, rate against the pace", "pace-10000", FIGURE(rate), 0.95, "queue, 10000", NULL },
          { CHECK_AGAINST, "the same in batches of 100", "pace-10000", FIGURE(rate), 0.95, "batches, 10000", NULL } } },

    { .name = "p6", .work = "20 threads, 512 B to 1 MiB", .threads = "20", .size = "512-1M",
      .contenders = "twinlog,raw-large,raw-fresh," FRESH, .limits = { .bytes = 2048.0 * MIB, .warmup_seconds = 0.1 },
      .twinlog = { .segment_bytes = 256 * MIB }, .rest_seconds = 3, .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "MB/s against raw-large", "raw-large", FIGURE(mb_per_s), 0.85, NULL, NULL },
          { CHECK_AGAINST, "fresh log, MB/s against raw-large", "raw-large", FIGURE(mb_per_s), 0.6, FRESH, NULL },
          { CHECK_AGAINST, "fresh log, MB/s against raw-fresh", "raw-fresh", FIGURE(mb_per_s), 0.8, FRESH, NULL } } },

    { .name = "pace", .work = "threads that block, against the pace", .threads = "1,16,64,256,1000",
      .contenders = "twinlog,pace-blocking,pace-gathering,raw",
      .checks = {
          { CHECK_AGAINST, "rate against the pace", "pace-blocking,pace-gathering", FIGURE(rate), 0.95, NULL, NULL } } },

    /* Prepared one at a time, as in a log that has run for a while: rolls, seals and trims are what is
     * measured. After the warm-up one thread has filled enough for the first trim too. */
    { .name = "p13", .work = "latency, 128 B, segments of 1 MiB, the newest MiB kept", .threads = "1,16",
      .contenders = "twinlog:keep=1M," NOT_RECYCLED, .limits = { .seconds = 2, .warmup_seconds = 2 },
      .twinlog = { .segment_bytes = MIB, .is_fresh = true },
      .checks = {
          { CHECK_AT_MOST, "p99 / p50", NULL, FIGURE(p99_over_p50), 2.5, NULL, NULL },
          { CHECK_AGAINST, "rate against new files only", NOT_RECYCLED, FIGURE(rate), 1, NULL, NULL } } },

    { .name = "p8-hot", .work = "replay, files in the page cache", .size = "128,4K", .study = &study_replay_hot,
      .is_heavy = true,
      .checks = {
          { CHECK_AT_LEAST, "mapped, records/s", NULL, FIGURE(rate), 30e6, "twinlog-mmap", "128" },
          { CHECK_AT_LEAST, "mapped, MB/s", NULL, FIGURE(mb_per_s), 12e3, "twinlog-mmap", "4K" },
          { CHECK_AT_LEAST, "read, records/s", NULL, FIGURE(rate), 20e6, "twinlog-pread", "128" },
          { CHECK_AT_LEAST, "read, MB/s", NULL, FIGURE(mb_per_s), 6e3, "twinlog-pread", "4K" } } },

    { .name = "p8-cold", .work = "replay, files on the disk only", .size = "128,4K", .study = &study_replay_cold,
      .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "mapped, rate against the disk", DISK, FIGURE(rate), 0.9, "twinlog-mmap", NULL },
          { CHECK_AGAINST, "read, rate against the disk", DISK, FIGURE(rate), 0.9, "twinlog-pread", NULL } } },

    { .name = "p9", .work = "opening after a crash, segments of 64 MiB", .size = "10,100,1000",
      .study = &study_open,
      .checks = {
          { CHECK_AT_MOST, "open, µs", NULL, FIGURE(p50_us), 20e3, "open", "1000" },
          { CHECK_AT_MOST, "open, active segment half full, µs", NULL, FIGURE(p50_us), 25e3, "open, half full", "1000" },
          { CHECK_AT_MOST, "open, nothing in the page cache, µs", NULL, FIGURE(p50_us), 60e3, "open, cold", "1000" },
          { CHECK_AT_MOST, "reader and its first record, µs", NULL, FIGURE(p50_us), 10e3, "reader", "1000" },
          { CHECK_AT_MOST, "inspect, µs", NULL, FIGURE(p50_us), 10e3, "inspect", "1000" },
          { CHECK_AT_MOST, "reader of a closed log, µs", NULL, FIGURE(p50_us), 10e3, "reader, closed", "10" },
          { CHECK_AT_MOST, "inspect beside a writer, µs", NULL, FIGURE(p50_us), 5e3, "inspect, beside", "10" },
          { CHECK_AT_MOST, "newest record beside a writer, µs", NULL, FIGURE(p50_us), 5e3, "newest, beside", "10" },
          { CHECK_AT_MOST, "consumer beside a writer, µs", NULL, FIGURE(p50_us), 5e3, "consumer, beside", "10" },
          { CHECK_AT_MOST, "open, a million records, closed, µs", NULL, FIGURE(p50_us), 10e3, "million, closed", "10" },
          { CHECK_AT_MOST, "open, a million records, after a kill, µs", NULL, FIGURE(p50_us), 20e3, "million", "10" } } },

    { .name = "p10", .work = "a plain file, one process, framed messages of 1 KiB, from open to close",
      .threads = "1,2,4", .size = "10000,300000", .study = &study_plain,
      .limits = { .seconds = 1, .warmup_seconds = 0.1 }, .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "rate against stdio", "stdio,stdio-64k", FIGURE(rate), 5, "sink", NULL },
          { CHECK_AGAINST, "rate against the plain mapping", "mmap", FIGURE(rate), 1.2, "sink", NULL },
          { CHECK_AGAINST, "mapped log, rate against stdio", "stdio,stdio-64k", FIGURE(rate), 5, "twinlog", NULL },
          { CHECK_AGAINST, "mapped log, rate against the plain mapping", "mmap", FIGURE(rate), 1.2, "twinlog", NULL } } },

    { .name = "p11", .work = "a plain file or a log that several processes append to", .threads = "1,4",
      .size = "1,128,1K,4095,1M", .study = &study_shared,
      .limits = { .seconds = 0.5, .warmup_seconds = 0.1 }, .is_heavy = true,
      .judged_threads = 4,
      .checks = {
          { CHECK_AGAINST, "calls/s against write()", "write", FIGURE(rate), 15, "sink", "1" },
          { CHECK_AGAINST, "calls/s against write()", "write", FIGURE(rate), 6, "sink", "128" },
          { CHECK_AGAINST, "calls/s against write()", "write", FIGURE(rate), 2.5, "sink", "4095" },
          { CHECK_AGAINST, "calls/s against write()", "write", FIGURE(rate), 1, "sink", "1M" } } },

    { .name = "lines", .work = "lines of text, from open to close", .threads = "1,4", .size = "128,1K",
      .study = &study_lines, .limits = { .seconds = 0.5 }, .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "exact sink, puts/s against writev()", "writev", FIGURE(put_rate), 0.95, "sink-exact", "128" } } },

    { .name = "lines-processes", .work = "the same by several processes", .threads = "1,4", .size = "128,1K",
      .study = &study_lines_processes, .limits = { .seconds = 0.5 }, .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "exact sink, puts/s against writev()", "writev", FIGURE(put_rate), 0.95, "sink-exact", "128" } } },

    { .name = "seek", .work = "single records at random", .size = "128,1K", .study = &study_seek,
      .limits = { .seconds = 1, .warmup_seconds = 0.1 }, .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "mapped, rate against RocksDB", "rocksdb", FIGURE(rate), 1, "twinlog-mmap", NULL },
          { CHECK_AGAINST, "read, rate against RocksDB", "rocksdb", FIGURE(rate), 1, "twinlog-pread", NULL } } },

    { .name = "follow", .work = "from append to a reader that waits", .study = &study_follow,
      .limits = { .seconds = 1, .warmup_seconds = 0.3 },
      .checks = {
          { CHECK_WITHIN, "attached, p50 against the pipe", "pipe", FIGURE(p50_us), 1.2, "attached", NULL },
          { CHECK_WITHIN, "attached, p99 against the pipe", "pipe", FIGURE(p99_us), 1.5, "attached", NULL },
          { CHECK_WITHIN, "process, p50 against the pipe", "pipe", FIGURE(p50_us), 1.2, "process", NULL },
          { CHECK_WITHIN, "process, p99 against the pipe", "pipe", FIGURE(p99_us), 1.5, "process", NULL },
          { CHECK_AGAINST, "one follower, the writer's rate against beside a pipe", "pipe", FIGURE(rate), 0.95, "process",
            NULL },
          { CHECK_AGAINST, "four followers, the writer's rate against beside pipes", "pipes", FIGURE(rate), 0.95, "four",
            NULL } } },

    { .name = "batch", .work = "durable batches of 128 B records, 1 thread", .size = "1,10,100,1000",
      .study = &study_batch, .is_heavy = true,
      .checks = {
          { CHECK_AGAINST, "rate against the best peer", "bdb,leveldb,rocksdb", FIGURE(rate), 1, "twinlog", NULL } } },

    { .name = "ways", .work = "levels and ways, 1 thread", .size = "128,1K", .study = &study_ways, .is_heavy = true },

    { .name = "logs", .work = "many logs, one thread that submits to all, 128 B", .size = "200,500",
      .study = &study_logs },

    { .name = "state", .work = "a vote, set again and again", .size = "16", .study = &study_state,
      .checks = {
          { CHECK_AGAINST, "votes, rate against two raw writes", "raw-twice", FIGURE(rate), 0.8, "meta_set", NULL } } },
};
/* clang-format on */
const size_t promise_count = LENGTH(promises);

/* ---- judging ---------------------------------------------------------------------------------- */

size_t promise_check_count(const struct promise *promise)
{
    size_t count = 0;

    while (count < MAX_CHECKS && promise->checks[count].kind)
        count++;
    return count;
}

/* The cells of a comma-separated list of labels, at this point. */
static size_t find_rivals(const struct series *series, const char *labels, const struct workload *workload,
                          const struct cell **rivals, size_t capacity)
{
    size_t count = 0;

    for (struct list list = list_of(labels, ','); list_next(&list);) {
        const struct cell *cell = series_find(series, list.word, workload);
        if (cell && count < capacity)
            rivals[count++] = cell;
    }
    return count;
}

/* Is the figure to be small: a latency? */
static bool is_limit(const struct check *check)
{
    return check->kind == CHECK_WITHIN || check->kind == CHECK_AT_MOST;
}

static bool is_better(const struct check *check, double a, double b)
{
    if (is_limit(check))
        return a < b;
    return a > b;
}

static double best_of_round(const struct check *check, const struct cell *const *rivals, size_t rival_count,
                            unsigned round)
{
    double best = figure_get(&rivals[0]->rounds[round], check->figure);

    for (size_t i = 1; i < rival_count; i++) {
        const double theirs = figure_get(&rivals[i]->rounds[round], check->figure);
        if (is_better(check, theirs, best))
            best = theirs;
    }
    return best;
}

static const struct cell *best_by_median(const struct check *check, const struct cell *const *rivals,
                                         size_t rival_count)
{
    const struct cell *best = rivals[0];

    for (size_t i = 1; i < rival_count; i++) {
        const double theirs = figure_get(&rivals[i]->median, check->figure);
        if (is_better(check, theirs, figure_get(&best->median, check->figure)))
            best = rivals[i];
    }
    return best;
}

/* Ours in that round. Where there are rivals: divided by the best of theirs in the same round. */
static double figure_of_round(const struct check *check, const struct cell *ours,
                              const struct cell *const *rivals, size_t rival_count, unsigned round)
{
    const double figure = figure_get(&ours->rounds[round], check->figure);

    if (rival_count == 0)
        return figure;
    return figure / best_of_round(check, rivals, rival_count, round);
}

/* The median over the rounds, and the interval around it. */
static void summarize_rounds(const struct check *check, const struct series *series, const struct cell *ours,
                             const struct cell *const *rivals, size_t rival_count, struct verdict *verdict)
{
    double *values = allocate(series->rounds, sizeof(*values));
    size_t count = 0;

    for (unsigned round = 0; round < series->rounds_done; round++) {
        const double value = figure_of_round(check, ours, rivals, rival_count, round);
        if (!isnan(value))
            values[count++] = value;
    }
    verdict->reached = median_of(values, count); /* sorts them, as median_interval() needs it */
    median_interval(values, count, &verdict->lowest, &verdict->highest);
    free(values);
}

/* Against the best rival at the same point. Without one in this build the verdict stays: not measured. */
static void judge_against(const struct check *check, const struct series *series, const struct cell *ours,
                          struct verdict *verdict)
{
    const struct cell *rivals[16];
    const size_t count = find_rivals(series, check->against, &ours->workload, rivals, LENGTH(rivals));

    verdict->ours = figure_get(&ours->median, check->figure);
    if (count == 0)
        return;

    const struct cell *best = best_by_median(check, rivals, count);
    snprintf(verdict->rival, sizeof(verdict->rival), "%s", best->contender.label);
    verdict->theirs = figure_get(&best->median, check->figure);
    summarize_rounds(check, series, ours, rivals, count, verdict);
}

/* Against the same contender with the first number of threads. */
static void judge_against_first(const struct check *check, const struct series *series,
                                const struct cell *ours, struct verdict *verdict)
{
    const struct cell *first = &series->cells[0];

    verdict->ours = figure_get(&ours->median, check->figure);
    verdict->theirs = figure_get(&first->median, check->figure);
    summarize_rounds(check, series, ours, &first, 1, verdict);
    snprintf(verdict->rival, sizeof(verdict->rival), "%u threads", first->workload.threads);
}

/* By the whole interval. What was not measured is NAN, and neither met nor missed. */
static void decide(struct verdict *verdict)
{
    if (verdict->is_limit) {
        verdict->is_met = verdict->highest <= verdict->target;
        verdict->is_missed = verdict->lowest > verdict->target;
    } else {
        verdict->is_met = verdict->lowest >= verdict->target;
        verdict->is_missed = verdict->highest < verdict->target;
    }
}

static struct verdict judge(const struct check *check, const struct series *series, const struct cell *ours)
{
    struct verdict verdict = {
        .series = series->name,
        .what = check->what,
        .workload = ours->workload,
        .study = series->study,
        .target = check->target,
        .is_limit = is_limit(check),
        .reached = NAN,
        .lowest = NAN,
        .highest = NAN,
        .ours = NAN,
        .theirs = NAN,
    };

    switch (check->kind) {
    case CHECK_AGAINST:
    case CHECK_WITHIN:
        judge_against(check, series, ours, &verdict);
        break;
    case CHECK_LAST_TO_FIRST:
        judge_against_first(check, series, ours, &verdict);
        break;
    default:
        summarize_rounds(check, series, ours, NULL, 0, &verdict);
        break;
    }
    decide(&verdict);
    return verdict;
}

/* Is this check about that cell? */
static bool concerns(const struct promise *promise, const struct check *check, const struct series *series,
                     const struct cell *cell)
{
    const char *ours = check->ours ? check->ours : series->cells[0].contender.label;
    const unsigned threads = cell->workload.threads;
    const unsigned last_threads = series->cells[series->cell_count - 1].workload.threads;

    if (check->kind == CHECK_LAST_TO_FIRST && threads != last_threads)
        return false;
    if (promise->judged_threads && threads != promise->judged_threads)
        return false;
    if (check->size && strcmp(cell->workload.sizes.text, check->size) != 0)
        return false;
    return strcmp(cell->contender.label, ours) == 0;
}

size_t promise_judge(const struct promise *promise, const struct series *series, struct verdict *verdicts,
                     size_t capacity)
{
    const size_t check_count = promise_check_count(promise);
    size_t count = 0;

    for (size_t c = 0; c < check_count; c++) {
        const struct check *check = &promise->checks[c];

        for (size_t i = 0; i < series->cell_count && count < capacity; i++) {
            const struct cell *cell = &series->cells[i];
            if (concerns(promise, check, series, cell))
                verdicts[count++] = judge(check, series, cell);
        }
    }
    return count;
}
