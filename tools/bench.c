/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog bench: threads append to a new log and wait for their records, for a few seconds.
 *
 * The log is in a new subdirectory of DIR, so that it is on the disk in question and apart from other files;
 * the subdirectory is removed at the end, also after a signal. For comparison, one thread overwrites 4 KiB
 * blocks of a plain file, each write durable: that is what the disk can do without a log.
 *
 * With --processes, this process opens no log. It forks the members, and each of them opens the log for
 * itself; they leave their results in shared memory.
 */
#define _GNU_SOURCE
#include "floor.h"
#include "histogram.h"
#include "json.h"
#include "options.h"
#include "scratch.h"
#include "stop.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <twinlog_admin.h>
#include <unistd.h>

static const char about[] =
    "Usage: twinlog bench DIR [options]\n"
    "\n"
    "Measures durable appends on the disk under DIR, which must exist: each thread appends\n"
    "a record, waits until it is durable, and appends the next. The records go to a new\n"
    "log in DIR/.twinlog-bench-XXXXXX, which is removed at the end, also after a signal.\n"
    "It needs room for everything that is appended, unless a limit such as --keep-bytes\n"
    "removes some of it.\n";

static const struct option_row option_rows[] = {
    { OPTION_THREADS, "threads", "N", "how many (default 16)" },
    { OPTION_SIZE, "size", "BYTES", "of each record (default 128)" },
    { OPTION_SECONDS, "seconds", "N", "how long (default 3)" },
    { OPTION_MAPPED, "mapped", NULL,
      "no thread waits for the disk: records are copied into a mapped file, and one sync at the end "
      "is timed beside" },
    { OPTION_SHARED, "shared", NULL, "the same to a log that other processes may append to" },
    { OPTION_PROCESSES, "processes", "N", "so many do (default 1), each with its threads; implies --shared" },
    { OPTION_JSON, "json", NULL, "one JSON object" },
    LOG_OPTIONS,
    COMMON_OPTIONS,
};

static const char notes[] =
    "Numbers may end in K, M or G. The floor is what the disk does without a log: one\n"
    "thread, 4 KiB durable overwrites of a file that was written before, for one second.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation failed; 2 wrong usage.\n"
    "\n"
    "Examples: 64 threads, records of 1 KiB, 10 seconds; and 4 processes in one log\n"
    "  twinlog bench /var/lib/orders --threads 64 --size 1K --seconds 10\n"
    "  twinlog bench /var/lib/orders --processes 4 --threads 1\n";

#define FLOOR_MS 1000
#define MAX_PROCESSES 255u /* that can share a log */
#define NAP_NS 1000000

/* The results of one process. */
struct outcome {
    struct histogram latency;
    struct twinlog_stat stat;
    double elapsed;
    double final_sync; /* seconds, after the elapsed ones */
};

/* The memory that the processes share. */
struct team {
    _Atomic(uint64_t) ready; /* members that have opened the log */
    atomic_bool is_started;
    struct outcome outcomes[MAX_PROCESSES];
};

struct bench {
    const char *dir; /* [const] this and the next six */
    uint64_t processes;
    uint64_t threads;
    uint64_t record_bytes;
    uint64_t seconds;
    bool is_json;
    struct twinlog_options options;

    char scratch[PATH_MAX];
    struct twinlog *log;
    const void *record;   /* [const] once the threads run */
    pthread_mutex_t gate; /* held until every thread has started */
    atomic_bool is_over;  /* [atomic] */

    struct team *team;       /* NULL = this process alone */
    bool is_member;          /* this process is one of the team */
    struct outcome *outcome; /* of this process; at the end of all processes */
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

    for (;;) {
        const uint64_t now_ns = monotonic_ns();
        if (now_ns >= end_ns)
            break;

        const uint64_t left_ms = (end_ns - now_ns + 999999) / 1000000;
        if (!bench->is_member && is_progress_due())
            show_progress("measuring, %" PRIu64 " s left", (left_ms + 999) / 1000);
        if (!stop_sleep(min_u64(left_ms, 200)))
            break;
    }

    clear_progress();
}

/* Starts the workers behind the gate; returns how many were started. */
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
        histogram_merge(&bench->outcome->latency, &workers[i].latency);
        if (error == 0)
            error = workers[i].error;
    }

    bench->outcome->elapsed = (double)(monotonic_ns() - started_ns) / 1e9;
    return error;
}

static bool is_mapped(const struct bench *bench)
{
    return is_mapped_mode(bench->options.mode);
}

static int time_final_sync(struct bench *bench)
{
    uint64_t began_ns = monotonic_ns();
    int error = twinlog_sync(bench->log);

    bench->outcome->final_sync = (double)(monotonic_ns() - began_ns) / 1e9;
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
        error = twinlog_stat(bench->log, &bench->outcome->stat);
    free(record);
    free(workers);
    return error;
}

static void path_in_scratch(const struct bench *bench, const char *name, char ret_path[PATH_MAX + 8])
{
    snprintf(ret_path, PATH_MAX + 8, "%s/%s", bench->scratch, name);
}

/* ---- the results ------------------------------------------------------------------------------ */

static double percentile_us(const struct histogram *latency, double share)
{
    return histogram_percentile(latency, share) / 1000;
}

static double per_second(const struct bench *bench, double amount)
{
    return amount / bench->outcome->elapsed;
}

/* A mapped log counts syncs; it has no groups that are synced. */
static uint64_t syncs(const struct bench *bench)
{
    if (is_mapped(bench))
        return bench->outcome->stat.syncs;
    return bench->outcome->stat.groups;
}

static double appends_per_sync(const struct bench *bench)
{
    if (syncs(bench))
        return (double)bench->outcome->stat.appends / (double)syncs(bench);
    return 0;
}

static const char *floor_sync(const struct bench *bench)
{
    return bench->floor.is_dsync ? "RWF_DSYNC" : "fdatasync";
}

static void print_table(const struct bench *bench)
{
    const struct histogram *latency = &bench->outcome->latency;
    const struct disk_floor *floor = &bench->floor;
    double count = (double)latency->count;

    printf("%-18s ", "work");
    if (bench->team)
        printf("%" PRIu64 " processes, each with ", bench->processes);
    printf("%" PRIu64 " threads, records of %" PRIu64 " bytes, %.1f s\n", bench->threads, bench->record_bytes,
           bench->outcome->elapsed);
    printf("%-18s %.0f\n", "appends/s", per_second(bench, count));
    printf("%-18s %.2f\n", "MB/s", per_second(bench, count * (double)bench->record_bytes) / 1e6);
    printf("%-18s %.1f\n", "appends per sync", appends_per_sync(bench));
    if (is_mapped(bench))
        printf("%-18s %.2f s more, until all of them were durable\n", "final sync",
               bench->outcome->final_sync);
    printf("%-18s p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", "latency",
           percentile_us(latency, 0.5), percentile_us(latency, 0.99), percentile_us(latency, 0.999),
           (double)latency->largest_ns / 1000);
    printf("%-18s %" PRIu64 " started, %" PRIu64 " waited for; %" PRIu64 " trimmed, %" PRIu64
           " of them reused\n",
           "segments", bench->outcome->stat.rolls, bench->outcome->stat.roll_waits,
           bench->outcome->stat.trimmed_segments, bench->outcome->stat.recycled_segments);
    if (is_mapped(bench))
        printf("%-18s %s, msync\n", "path", mode_name(bench->options.mode));
    else
        printf("%-18s %s, %s: %s\n", "path", io_name(bench->outcome->stat.io),
               bench->outcome->stat.is_direct ? "direct" : "buffered", bench->outcome->stat.io_reason);
    printf("%-18s %.0f/s, p50 %.0f us: 1 thread, 4 KiB overwrites, %s, %s\n", "floor without log",
           (double)floor->latency.count / floor->seconds, percentile_us(&floor->latency, 0.5),
           floor->is_direct ? "direct" : "buffered", floor_sync(bench));
}

static void print_latency(const struct histogram *latency)
{
    json_begin_object("latency_us");
    json_decimal("p50", percentile_us(latency, 0.5));
    json_decimal("p99", percentile_us(latency, 0.99));
    json_decimal("p99_9", percentile_us(latency, 0.999));
    json_decimal("max", (double)latency->largest_ns / 1000);
    json_end_object();
}

static void print_json(const struct bench *bench)
{
    const struct disk_floor *floor = &bench->floor;
    double count = (double)bench->outcome->latency.count;

    json_begin_object(NULL);
    json_text("mode", mode_name(bench->options.mode));
    json_number("processes", bench->processes);
    json_number("threads", bench->threads);
    json_number("record_bytes", bench->record_bytes);
    json_decimal("seconds", bench->outcome->elapsed);
    json_number("appends", bench->outcome->latency.count);
    json_decimal("appends_per_second", per_second(bench, count));
    json_decimal("bytes_per_second", per_second(bench, count * (double)bench->record_bytes));
    json_number("syncs", syncs(bench));
    json_decimal("appends_per_sync", appends_per_sync(bench));
    if (is_mapped(bench))
        json_decimal("final_sync_seconds", bench->outcome->final_sync);
    print_latency(&bench->outcome->latency);
    json_number("rolls", bench->outcome->stat.rolls);
    json_number("roll_waits", bench->outcome->stat.roll_waits);
    json_number("full_failures", bench->outcome->stat.full_failures);
    json_number("trimmed_segments", bench->outcome->stat.trimmed_segments);
    json_number("recycled_segments", bench->outcome->stat.recycled_segments);
    if (!is_mapped(bench)) {
        json_text("path", io_name(bench->outcome->stat.io));
        json_boolean("is_direct", bench->outcome->stat.is_direct);
        json_text("reason", bench->outcome->stat.io_reason);
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

/* ---- several processes ------------------------------------------------------------------------ */

static void nap(void)
{
    const struct timespec pause = { 0, NAP_NS };

    nanosleep(&pause, NULL);
}

/* Called in a member that has opened the log: waits until all members have. */
static void wait_for_others(struct team *team)
{
    atomic_fetch_add(&team->ready, 1);
    while (!atomic_load(&team->is_started))
        nap();
}

/* Waits until all members are ready: true; or one has ended too early. */
static bool are_all_ready(const struct bench *bench)
{
    while (atomic_load(&bench->team->ready) < bench->processes) {
        siginfo_t info = { .si_pid = 0 };
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0)
            return false;
        nap();
    }

    return true;
}

/* Opens the log in this process, measures and closes it. */
static int measure_alone(struct bench *bench)
{
    char path[PATH_MAX + 8];
    struct twinlog_report report = { 0 };

    path_in_scratch(bench, "log", path);
    bench->options.ret_report = &report;
    int error = twinlog_open(path, &bench->options, &bench->log);
    if (error)
        return fail("open the log", path, error, &report, NULL);
    if (bench->is_member)
        wait_for_others(bench->team);
    error = measure_log(bench);
    int close_error = twinlog_close(bench->log);
    if (error == 0)
        error = close_error;
    if (error)
        return fail("append to", path, error, NULL,
                    error == -EMSGSIZE ? "Raise --max-record, or lower --size." : NULL);
    return STATUS_FINE;
}

/* Returns how many were started. */
static uint64_t start_members(struct bench *bench, pid_t *members)
{
    struct outcome *outcomes = bench->team->outcomes;
    uint64_t started = 0;

    for (; started < bench->processes; started++) {
        members[started] = fork();
        if (members[started] < 0) {
            complain("cannot start a process: %s", strerror(errno));
            break;
        }

        if (members[started] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            bench->is_member = true;
            bench->outcome = &outcomes[started];
            _exit(measure_alone(bench));
        }
    }

    return started;
}

/* Returns the worst exit status. */
static int reap_members(const pid_t *members, uint64_t count)
{
    int worst = STATUS_FINE;

    for (uint64_t i = 0; i < count; i++) {
        int status = 0;
        while (waitpid(members[i], &status, 0) < 0 && errno == EINTR)
            ;
        if (WIFSIGNALED(status))
            complain("a process was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
        if (WIFEXITED(status))
            status = WEXITSTATUS(status);
        else
            status = STATUS_FAILED;
        if (status > worst)
            worst = status;
    }

    return worst;
}

/* Adds up, except rolls: each process counts the rolls of all. */
static void add_outcome(struct outcome *into, const struct outcome *from)
{
    histogram_merge(&into->latency, &from->latency);
    into->stat.appends += from->stat.appends;
    into->stat.syncs += from->stat.syncs;
    if (from->stat.rolls > into->stat.rolls)
        into->stat.rolls = from->stat.rolls;
    into->stat.roll_waits += from->stat.roll_waits;
    into->stat.full_failures += from->stat.full_failures;
    into->stat.trimmed_segments += from->stat.trimmed_segments;
    if (from->elapsed > into->elapsed)
        into->elapsed = from->elapsed;
    if (from->final_sync > into->final_sync)
        into->final_sync = from->final_sync;
}

/* Each member ends by itself when the time is over, or when the descriptor of stop_request(), which all
 * share, is readable. */
static int measure_team(struct bench *bench)
{
    pid_t members[MAX_PROCESSES];

    void *memory =
        mmap(NULL, sizeof(*bench->team), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        complain("cannot share memory: %s", strerror(errno));
        return STATUS_FAILED;
    }

    bench->team = memory;
    for (uint64_t i = 0; i < bench->processes; i++)
        bench->team->outcomes[i].stat = (struct twinlog_stat)TWINLOG_STAT_INIT;
    uint64_t started = start_members(bench, members);
    bool is_complete = started == bench->processes && are_all_ready(bench);
    if (!is_complete)
        stop_request();
    atomic_store(&bench->team->is_started, true);
    if (is_complete)
        sleep_with_progress(bench);
    int status = reap_members(members, started);
    for (uint64_t i = 0; i < started; i++)
        add_outcome(bench->outcome, &bench->team->outcomes[i]);
    if (is_complete || status != STATUS_FINE)
        return status;
    return STATUS_FAILED;
}

/* ---- the command ------------------------------------------------------------------------------ */

static int measure(struct bench *bench)
{
    char path[PATH_MAX + 8];

    path_in_scratch(bench, "floor", path);
    int error = measure_floor(path, FLOOR_MS, &bench->floor);
    if (error)
        return fail("write to", path, error, NULL, NULL);
    if (bench->processes > 1)
        return measure_team(bench);
    return measure_alone(bench);
}

/* Everything between creating the scratch directory and removing it. */
static int measure_in_scratch(struct bench *bench)
{
    int error = create_scratch(bench->dir, "bench", bench->scratch);
    if (error)
        return fail("make a directory in", bench->dir, error, NULL,
                    error == -ENOENT ? "The directory must exist: create it or check the path." : NULL);

    int status = measure(bench);
    error = remove_scratch(bench->scratch);
    if (error && status == STATUS_FINE)
        status = fail("remove", bench->scratch, error, NULL, "Remove it by hand.");
    return status;
}

static void take_options(struct bench *bench, const struct command *command, int argc, char **argv)
{
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (take_log_option(value, &bench->options))
            continue;
        if (value == OPTION_THREADS)
            bench->threads = take_number("--threads", 1, 10000);
        else if (value == OPTION_PROCESSES)
            bench->processes = take_number("--processes", 1, MAX_PROCESSES);
        else if (value == OPTION_SIZE)
            bench->record_bytes = take_number("--size", 0, 256u << 20);
        else if (value == OPTION_SECONDS)
            bench->seconds = take_number("--seconds", 1, 3600);
        else
            bench->is_json = true;
    }

    if (bench->processes == 0)
        bench->processes = 1;
    else
        share_log(&bench->options);
    check_log_options(&bench->options);
    bench->dir = take_directory(argc, argv);
}

static int bench_run(const struct command *command, int argc, char **argv)
{
    static struct outcome total = { .stat = TWINLOG_STAT_INIT };
    static struct bench bench = {
        .threads = 16,
        .record_bytes = 128,
        .seconds = 3,
        .options = TWINLOG_OPTIONS_INIT,
        .gate = PTHREAD_MUTEX_INITIALIZER,
        .outcome = &total,
    };

    take_options(&bench, command, argc, argv);
    signal(SIGPIPE, SIG_IGN); /* the scratch directory is removed also without a reader */
    int error = stop_on_signals();
    if (error) {
        return fail_start(error);
    }

    int status = measure_in_scratch(&bench);
    if (stop_signal())
        stop_by_signal();
    if (status != STATUS_FINE)
        return status;

    if (bench.is_json)
        print_json(&bench);
    else
        print_table(&bench);
    return finish_output(STATUS_FINE);
}

const struct command bench_command = {
    .name = "bench",
    .summary = "measure durable appends on this disk",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = bench_run,
};
