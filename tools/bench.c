/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog bench: threads that append and wait, for a few seconds, into a log of its own.
 *
 * The log lies in a fresh subdirectory of DIR, so that it is on the disk that was asked about and in
 * nobody's way, and is removed at the end, also after a signal. Beside it, one thread's durable 4 KiB
 * overwrites of a plain file: what the disk itself can do.
 */
#define _GNU_SOURCE
#include "common.h"
#include "floor.h"
#include "histogram.h"
#include "json.h"
#include "stop.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Usage: twinlog bench DIR [options]\n"
    "\n"
    "Measures durable appends on the disk under DIR, which must exist: each thread appends\n"
    "a record, waits until it is durable, and appends the next. The records go to a new\n"
    "log in DIR/.twinlog-bench-XXXXXX, which is removed at the end, also after a signal.\n"
    "It needs room for everything that is appended, unless a limit such as --keep-bytes\n"
    "removes some of it.\n"
    "\n"
    "  --threads N         how many (default 16)\n"
    "  --size BYTES        of each record (default 128)\n"
    "  --seconds N         how long (default 3)\n"
    "  --mapped            nobody waits for the disk: records are copied into a mapped\n"
    "                      file, and one sync at the end is timed beside\n"
    "  --json              one JSON object\n" LOG_OPTIONS_HELP COMMON_OPTIONS_HELP "\n"
    "Numbers may end in K, M or G. The floor is what the disk does without a log: one\n"
    "thread, 4 KiB durable overwrites of a file that was written before, for one second.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation failed; 2 wrong usage.\n"
    "\n"
    "Example: 64 threads, records of 1 KiB, 10 seconds\n"
    "  twinlog bench /var/lib/orders --threads 64 --size 1K --seconds 10\n";

static const struct option option_table[] = {
    WITH_ARGUMENT("threads", OPTION_THREADS),
    WITH_ARGUMENT("size", OPTION_SIZE),
    WITH_ARGUMENT("seconds", OPTION_SECONDS),
    FLAG("json", OPTION_JSON),
    LOG_OPTIONS,
    COMMON_OPTIONS,
};

#define FLOOR_MS 1000

struct bench {
    const char *dir; /* [const] this and the next five */
    uint64_t threads;
    uint64_t record_bytes;
    uint64_t seconds;
    bool is_json;
    struct twinlog_options options;

    char scratch[PATH_MAX];
    struct twinlog *log;
    const void *record;   /* [const] once the threads run */
    pthread_mutex_t gate; /* held until every thread is there */
    atomic_bool is_over;  /* [atomic] */

    /* results */
    struct histogram latency;
    struct twinlog_stat stat;
    double elapsed;
    double final_sync; /* seconds, after that */
    struct disk_floor floor;
};

struct worker {
    struct bench *bench;
    pthread_t thread;
    struct histogram latency;
    int error;
};

/* ---- the log ---------------------------------------------------------------------------------- */

static void *append_until_over(void *argument)
{
    struct worker *worker = argument;
    struct bench *bench = worker->bench;

    pthread_mutex_lock(&bench->gate);
    pthread_mutex_unlock(&bench->gate);
    uint64_t before_ns = monotonic_ns();
    while (worker->error == 0 && !atomic_load_explicit(&bench->is_over, memory_order_relaxed)) {
        worker->error = twinlog_append(bench->log, bench->record, bench->record_bytes, NULL);
        uint64_t now_ns = monotonic_ns();
        histogram_add(&worker->latency, now_ns - before_ns);
        before_ns = now_ns;
    }
    if (worker->error)
        stop_request();
    return NULL;
}

static void sleep_with_progress(const struct bench *bench)
{
    uint64_t end_ns = monotonic_ns() + bench->seconds * 1000000000;

    for (uint64_t now_ns = 0; (now_ns = monotonic_ns()) < end_ns;) {
        uint64_t left_ms = (end_ns - now_ns + 999999) / 1000000;
        if (is_progress_due())
            show_progress("measuring, %" PRIu64 " s left", (left_ms + 999) / 1000);
        if (!stop_sleep(left_ms < 200 ? left_ms : 200))
            break;
    }
    clear_progress();
}

/* Starts the workers behind the gate; returns how many there are. */
static uint64_t start_workers(struct bench *bench, struct worker *workers, int *ret_error)
{
    uint64_t started = 0;

    for (; started < bench->threads; started++) {
        workers[started].bench = bench;
        *ret_error = -pthread_create(&workers[started].thread, NULL, append_until_over, &workers[started]);
        if (*ret_error)
            break;
    }
    return started;
}

static int run_workers(struct bench *bench, struct worker *workers)
{
    int error = 0;

    pthread_mutex_lock(&bench->gate);
    uint64_t started = start_workers(bench, workers, &error);
    uint64_t started_ns = monotonic_ns();
    atomic_store(&bench->is_over, error != 0);
    pthread_mutex_unlock(&bench->gate);
    if (error == 0)
        sleep_with_progress(bench);
    atomic_store(&bench->is_over, true);
    for (uint64_t i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        histogram_merge(&bench->latency, &workers[i].latency);
        if (error == 0)
            error = workers[i].error;
    }
    bench->elapsed = (double)(monotonic_ns() - started_ns) / 1e9;
    return error;
}

static bool is_mapped(const struct bench *bench)
{
    return bench->options.mode == TWINLOG_MODE_MAPPED;
}

static int time_final_sync(struct bench *bench)
{
    uint64_t began_ns = monotonic_ns();
    int error = twinlog_sync(bench->log);

    bench->final_sync = (double)(monotonic_ns() - began_ns) / 1e9;
    return error;
}

static int measure_log(struct bench *bench)
{
    struct worker *workers = calloc(bench->threads, sizeof(*workers));
    void *record = malloc(bench->record_bytes + 1);
    int error = -ENOMEM;

    if (workers && record) {
        memset(record, 'x', bench->record_bytes + 1);
        bench->record = record;
        error = run_workers(bench, workers);
    }
    if (error == 0 && is_mapped(bench))
        error = time_final_sync(bench);
    if (error == 0)
        error = twinlog_stat(bench->log, &bench->stat);
    free(record);
    free(workers);
    return error;
}

/* ---- the scratch directory -------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *position)
{
    (void)stat;
    (void)kind;
    (void)position;
    return remove(path);
}

static int remove_scratch(const struct bench *bench)
{
    return nftw(bench->scratch, remove_entry, 8, FTW_DEPTH | FTW_PHYS) < 0 ? -errno : 0;
}

static int create_scratch(struct bench *bench)
{
    int length = snprintf(bench->scratch, sizeof(bench->scratch), "%s/.twinlog-bench-XXXXXX", bench->dir);

    if (length < 0 || (size_t)length + sizeof("/floor") > sizeof(bench->scratch))
        return -ENAMETOOLONG;
    return mkdtemp(bench->scratch) ? 0 : -errno;
}

static void path_in_scratch(const struct bench *bench, const char *name, char ret_path[PATH_MAX + 8])
{
    snprintf(ret_path, PATH_MAX + 8, "%s/%s", bench->scratch, name);
}

/* ---- the results ------------------------------------------------------------------------------ */

static double per_second(const struct bench *bench, double amount)
{
    return amount / bench->elapsed;
}

/* A mapped log has no groups that are synced. */
static uint64_t syncs(const struct bench *bench)
{
    return is_mapped(bench) ? bench->stat.syncs : bench->stat.groups;
}

static double appends_per_sync(const struct bench *bench)
{
    return syncs(bench) ? (double)bench->stat.appends / (double)syncs(bench) : 0;
}

static const char *floor_sync(const struct bench *bench)
{
    return bench->floor.is_dsync ? "RWF_DSYNC" : "fdatasync";
}

static void print_table(const struct bench *bench)
{
    const struct histogram *latency = &bench->latency;
    const struct disk_floor *floor = &bench->floor;
    double count = (double)latency->count;

    printf("%-18s %" PRIu64 " threads, records of %" PRIu64 " bytes, %.1f s\n", "work", bench->threads,
           bench->record_bytes, bench->elapsed);
    printf("%-18s %.0f\n", "appends/s", per_second(bench, count));
    printf("%-18s %.2f\n", "MB/s", per_second(bench, count * (double)bench->record_bytes) / 1e6);
    printf("%-18s %.1f\n", "appends per sync", appends_per_sync(bench));
    if (is_mapped(bench))
        printf("%-18s %.2f s more, until all of them were durable\n", "final sync", bench->final_sync);
    printf("%-18s p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", "latency",
           histogram_us(latency, 500), histogram_us(latency, 990), histogram_us(latency, 999),
           (double)latency->max_ns / 1000);
    printf("%-18s %" PRIu64 " begun, %" PRIu64 " waited for; %" PRIu64 " trimmed, %" PRIu64
           " of them reused\n",
           "segments", bench->stat.rolls, bench->stat.roll_waits, bench->stat.trimmed_segments,
           bench->stat.recycled_segments);
    if (is_mapped(bench))
        printf("%-18s mapped, msync\n", "path");
    else
        printf("%-18s %s, %s: %s\n", "path", io_name(bench->stat.io),
               bench->stat.is_direct ? "direct" : "buffered", bench->stat.io_reason);
    printf("%-18s %.0f/s, p50 %.0f us: 1 thread, 4 KiB overwrites, %s, %s\n", "floor without log",
           (double)floor->latency.count / floor->seconds, histogram_us(&floor->latency, 500),
           floor->is_direct ? "direct" : "buffered", floor_sync(bench));
}

static void print_latency(const struct histogram *latency)
{
    json_begin_object("latency_us");
    json_decimal("p50", histogram_us(latency, 500));
    json_decimal("p99", histogram_us(latency, 990));
    json_decimal("p99_9", histogram_us(latency, 999));
    json_decimal("max", (double)latency->max_ns / 1000);
    json_end_object();
}

static void print_json(const struct bench *bench)
{
    const struct disk_floor *floor = &bench->floor;
    double count = (double)bench->latency.count;

    json_begin_object(NULL);
    json_text("mode", mode_name(bench->options.mode));
    json_number("threads", bench->threads);
    json_number("record_bytes", bench->record_bytes);
    json_decimal("seconds", bench->elapsed);
    json_number("appends", bench->latency.count);
    json_decimal("appends_per_second", per_second(bench, count));
    json_decimal("bytes_per_second", per_second(bench, count * (double)bench->record_bytes));
    json_number("syncs", syncs(bench));
    json_decimal("appends_per_sync", appends_per_sync(bench));
    if (is_mapped(bench))
        json_decimal("final_sync_seconds", bench->final_sync);
    print_latency(&bench->latency);
    json_number("rolls", bench->stat.rolls);
    json_number("roll_waits", bench->stat.roll_waits);
    json_number("full_refusals", bench->stat.full_refusals);
    json_number("trimmed_segments", bench->stat.trimmed_segments);
    json_number("recycled_segments", bench->stat.recycled_segments);
    if (!is_mapped(bench)) {
        json_text("path", io_name(bench->stat.io));
        json_boolean("is_direct", bench->stat.is_direct);
        json_text("reason", bench->stat.io_reason);
    }
    json_begin_object("floor");
    json_number("write_bytes", 4096);
    json_boolean("is_direct", floor->is_direct);
    json_text("sync", floor_sync(bench));
    json_decimal("writes_per_second", (double)floor->latency.count / floor->seconds);
    print_latency(&floor->latency);
    json_end_object();
    json_end_object();
    json_end_line();
}

/* ---- the command ------------------------------------------------------------------------------ */

static int measure(struct bench *bench)
{
    char path[PATH_MAX + 8];
    struct twinlog_report report = { 0 };

    path_in_scratch(bench, "floor", path);
    int error = measure_floor(path, FLOOR_MS, &bench->floor);
    if (error)
        return fail("write to", path, error, NULL, NULL);

    path_in_scratch(bench, "log", path);
    bench->options.ret_report = &report;
    error = twinlog_open(path, &bench->options, &bench->log);
    if (error)
        return fail("open the log", path, error, &report, NULL);
    error = measure_log(bench);
    int close_error = twinlog_close(bench->log);
    if (error == 0)
        error = close_error;
    if (error)
        return fail("append to", path, error, NULL,
                    error == -EMSGSIZE ? "Raise --max-record, or lower --size." : NULL);
    return STATUS_FINE;
}

/* Everything between creating the scratch directory and removing it. */
static int measure_in_scratch(struct bench *bench)
{
    int error = create_scratch(bench);
    if (error)
        return fail("make a directory in", bench->dir, error, NULL,
                    error == -ENOENT ? "The directory must exist: create it or check the path." : NULL);
    int status = measure(bench);
    error = remove_scratch(bench);
    if (error && status == STATUS_FINE)
        status = fail("remove", bench->scratch, error, NULL, "Remove it by hand.");
    return status;
}

static void take_options(struct bench *bench, const struct command *command, int argc, char **argv)
{
    int value = 0;

    while ((value = next_option(command, argc, argv, option_table)) != -1) {
        if (take_log_option(value, &bench->options))
            continue;
        if (value == OPTION_THREADS)
            bench->threads = take_number("--threads", 1, 10000);
        else if (value == OPTION_SIZE)
            bench->record_bytes = take_number("--size", 0, 256u << 20);
        else if (value == OPTION_SECONDS)
            bench->seconds = take_number("--seconds", 1, 3600);
        else
            bench->is_json = true;
    }
    check_log_options(&bench->options);
    bench->dir = take_directory(argc, argv);
}

static int bench_run(const struct command *command, int argc, char **argv)
{
    static struct bench bench = {
        .threads = 16,
        .record_bytes = 128,
        .seconds = 3,
        .options = TWINLOG_OPTIONS_INIT,
        .stat = TWINLOG_STAT_INIT,
        .gate = PTHREAD_MUTEX_INITIALIZER,
    };

    take_options(&bench, command, argc, argv);
    int error = stop_on_signals();
    if (error) {
        complain("%s", twinlog_strerror(error));
        return STATUS_FAILED;
    }
    int status = measure_in_scratch(&bench);
    if (stop_signal())
        stop_by_signal();
    if (status != STATUS_FINE)
        return status;
    (bench.is_json ? print_json : print_table)(&bench);
    return finish_output(STATUS_FINE);
}

const struct command bench_command = {
    .name = "bench",
    .summary = "measure durable appends on this disk",
    .help = help,
    .run = bench_run,
};
