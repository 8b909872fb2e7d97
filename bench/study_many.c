/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of many logs in one process, as a store with hundreds of raft groups has them: each has one writer in a
 * closed loop. They share a committer, or each has what a log has alone; or all writers append to one log.
 *
 * A writer is a thread that waits in an append; or a record that is always on its way, for all logs from one
 * thread and one queue.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <twinlog.h>

#include "clock.h"
#include "memory.h"
#include "study.h"

#define RECORD_BYTES 128u
#define SEGMENT_BYTES (1u << 20)
#define BUFFER_BYTES (32u << 10)
#define STACK_BYTES (64u << 10)
#define FETCHED 256u

struct stage {
    char dir[2048];
    unsigned logs;
};

struct way {
    bool is_shared;
    uint32_t in_flight; /* of a shared committer; 0 = its default */
    bool is_one_log;
    bool is_queue;
};

struct run {
    const struct stage *stage;
    const struct way *way;
    struct twinlog_committer *committer;
    struct twinlog **logs;
    unsigned opened;
    _Atomic bool is_counting, must_stop;
    _Atomic int error;
};

static const unsigned char payload[RECORD_BYTES];

/* ---- logs ---------------------------------------------------------------------------------------- */

static unsigned log_count(const struct stage *stage, const struct way *way)
{
    return way->is_one_log ? 1 : stage->logs;
}

static int open_log(struct run *run, unsigned number)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    char path[4096];
    options.segment_bytes = SEGMENT_BYTES;
    options.buffer_bytes = BUFFER_BYTES;
    options.keep_bytes = SEGMENT_BYTES;
    options.committer = run->committer;
    snprintf(path, sizeof(path), "%s/log-%u", run->stage->dir, number);
    return twinlog_open(path, &options, &run->logs[number]);
}

static void close_logs(struct run *run)
{
    while (run->opened > 0)
        twinlog_close(run->logs[--run->opened]);
    twinlog_committer_close(run->committer);
    free(run->logs);
}

static int open_logs(struct run *run)
{
    const unsigned count = log_count(run->stage, run->way);
    run->logs = calloc(count, sizeof(struct twinlog *));
    int error = run->logs ? 0 : -ENOMEM;
    struct twinlog_committer_options options = TWINLOG_COMMITTER_OPTIONS_INIT;
    options.in_flight = run->way->in_flight;
    if (error == 0 && run->way->is_shared)
        error = twinlog_committer_open(&options, &run->committer);
    while (error == 0 && run->opened < count) {
        error = open_log(run, run->opened);
        run->opened += error == 0;
    }
    if (error)
        close_logs(run);
    return error;
}

/* ---- threads that wait --------------------------------------------------------------------------- */

struct writer {
    pthread_t thread;
    struct run *run;
    struct twinlog *log;
    struct histogram *histogram;
};

static void *append_on(void *context)
{
    struct writer *writer = context;
    struct run *run = writer->run;
    while (!atomic_load_explicit(&run->must_stop, memory_order_relaxed)) {
        const uint64_t began_ns = now_ns();
        int error = twinlog_append(writer->log, payload, sizeof(payload), NULL);
        if (error) {
            atomic_store(&run->error, error);
            break;
        }
        if (atomic_load_explicit(&run->is_counting, memory_order_relaxed))
            histogram_add(writer->histogram, now_ns() - began_ns);
    }
    return NULL;
}

static void rest_seconds(double seconds)
{
    const uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    for (uint64_t now = now_ns(); now < end_ns && !round_is_interrupted(); now = now_ns()) {
        const uint64_t left_ns = end_ns - now < 50000000 ? end_ns - now : 50000000;
        nanosleep(&(struct timespec){ .tv_nsec = (long)left_ns }, NULL);
    }
}

static int start_writers(struct run *run, struct writer *writers, unsigned count, unsigned *ret_started)
{
    pthread_attr_t attributes;
    int error = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (unsigned i = 0; i < count && error == 0; i++) {
        struct histogram *histogram = calloc(1, sizeof(*histogram));
        writers[i] = (struct writer){ .run = run, .log = run->logs[i % run->opened], .histogram = histogram };
        error = histogram ? pthread_create(&writers[i].thread, &attributes, append_on, &writers[i]) : ENOMEM;
        if (error)
            free(histogram);
        else
            *ret_started = i + 1;
    }
    pthread_attr_destroy(&attributes);
    return -error;
}

static int run_threads(struct run *run, const struct limits *limits, struct histogram *histogram,
                       double *ret_seconds)
{
    const unsigned count = run->stage->logs;
    struct writer *writers = calloc(count, sizeof(*writers));
    unsigned started = 0;
    uint64_t began_ns = 0, ended_ns = 0;
    int error = writers ? start_writers(run, writers, count, &started) : -ENOMEM;
    if (error == 0) {
        rest_seconds(limits->warmup_seconds);
        began_ns = now_ns();
        atomic_store(&run->is_counting, true);
        rest_seconds(limits->seconds);
        atomic_store(&run->is_counting, false);
        ended_ns = now_ns();
    }
    atomic_store(&run->must_stop, true);
    for (unsigned i = 0; i < started; i++) {
        pthread_join(writers[i].thread, NULL);
        histogram_merge(histogram, writers[i].histogram);
        free(writers[i].histogram);
    }
    free(writers);
    *ret_seconds = (double)(ended_ns - began_ns) / 1e9;
    return error ? error : atomic_load(&run->error);
}

/* ---- one thread and a queue ---------------------------------------------------------------------- */

struct flight {
    struct twinlog_request request; /* first */
    struct twinlog *log;
    uint64_t called_ns;
};

static int launch(struct flight *flight)
{
    const struct twinlog_entry entry = { .data = payload, .size = sizeof(payload) };
    flight->called_ns = now_ns();
    return twinlog_submit(flight->log, &entry, 1, NULL, &flight->request);
}

/* Until the time is over; then until none is on its way any more. */
static int keep_flying(struct twinlog_queue *queue, unsigned flying, const struct limits *limits,
                       struct histogram *histogram, double *ret_seconds)
{
    struct twinlog_request *done[FETCHED];
    const uint64_t start_ns = now_ns() + (uint64_t)(limits->warmup_seconds * 1e9);
    const uint64_t end_ns = start_ns + (uint64_t)(limits->seconds * 1e9);
    int error = 0;
    while (flying > 0) {
        int count = twinlog_queue_poll(queue, done, FETCHED, -1);
        for (int i = 0; i < count; i++) {
            struct flight *flight = (struct flight *)done[i];
            const uint64_t now = now_ns();
            if (now >= start_ns && now < end_ns)
                histogram_add(histogram, now - flight->called_ns);
            if (done[i]->result)
                error = done[i]->result;
            const bool goes_on = now < end_ns && error == 0 && !round_is_interrupted();
            if (goes_on)
                error = launch(flight);
            flying -= !goes_on || error;
        }
    }
    *ret_seconds = limits->seconds;
    return error;
}

static int run_queue(struct run *run, const struct limits *limits, struct histogram *histogram,
                     double *ret_seconds)
{
    const unsigned count = run->stage->logs;
    struct flight *flights = calloc(count, sizeof(*flights));
    struct twinlog_queue *queue = NULL;
    unsigned flying = 0;
    int error = flights ? twinlog_queue_open(&queue) : -ENOMEM;
    for (unsigned i = 0; i < count && error == 0; i++) {
        flights[i] = (struct flight){ .request.queue = queue, .log = run->logs[i % run->opened] };
        error = launch(&flights[i]);
        flying += error == 0;
    }
    int later_error = queue ? keep_flying(queue, flying, limits, histogram, ret_seconds) : 0;
    twinlog_queue_close(queue);
    free(flights);
    return error ? error : later_error;
}

/* ---- a turn -------------------------------------------------------------------------------------- */

static bool append_to_all(void *state, const struct trial *trial, const struct limits *limits,
                          struct figures *ret_figures)
{
    struct run run = { .stage = state, .way = trial->way };
    struct histogram *histogram = calloc(1, sizeof(*histogram));
    const int64_t resident_before = memory_resident_bytes();
    int error = histogram ? open_logs(&run) : -ENOMEM;
    if (error) {
        free(histogram);
        return complain(trial->label, "open", twinlog_strerror(error));
    }
    struct figures figures = figures_unknown();
    const double cpu_before = cpu_seconds();
    error = run.way->is_queue ? run_queue(&run, limits, histogram, &figures.seconds)
                              : run_threads(&run, limits, histogram, &figures.seconds);
    const double cpu_used = cpu_seconds() - cpu_before;
    const int64_t resident_after = memory_resident_bytes();
    close_logs(&run);
    figures.appends = (double)histogram->count;
    figures.rate = per(figures.appends, figures.seconds);
    figures.cpu_us_per_append =
        per(cpu_used * 1e6 * limits->seconds / (limits->seconds + limits->warmup_seconds), figures.appends);
    if (resident_before >= 0 && resident_after >= 0)
        figures.resident_growth = (double)(resident_after - resident_before);
    figures_set_latencies(&figures, histogram);
    free(histogram);
    if (error || round_is_interrupted())
        return complain(trial->label, "append", twinlog_strerror(error));
    *ret_figures = figures;
    return true;
}

/* ---- the stage ----------------------------------------------------------------------------------- */

/* All logs are there before the first turn. */
static bool set_stage(const struct study *study, const char *dir, const struct workload *workload,
                      const struct limits *limits, void **ret_stage)
{
    static const struct way alone = { .is_shared = false };
    struct rlimit files;
    struct stage *stage = calloc(1, sizeof(*stage));
    (void)study;
    (void)limits;
    if (!stage)
        return complain("many", "memory", strerror(ENOMEM));
    *ret_stage = stage;
    snprintf(stage->dir, sizeof(stage->dir), "%s", dir);
    stage->logs = workload->sizes.max_bytes;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    struct run run = { .stage = stage, .way = &alone };
    int error = open_logs(&run);
    if (error == 0)
        close_logs(&run);
    return error == 0 || complain("many", "open", twinlog_strerror(error));
}

static void clear_stage(void *state)
{
    free(state);
}

static const struct way shared_threads = { .is_shared = true }, own_threads = { .is_shared = false },
                        one_log = { .is_one_log = true },
                        shared_threads_32 = { .is_shared = true, .in_flight = 32 },
                        shared_queue = { .is_shared = true, .is_queue = true },
                        shared_queue_32 = { .is_shared = true, .in_flight = 32, .is_queue = true },
                        own_queue = { .is_queue = true };

static const struct trial many_trials[] = {
    { "shared, threads", "a thread for each log, one committer", &shared_threads, append_to_all },
    { "shared 32, threads", "the same, 32 writes in flight", &shared_threads_32, append_to_all },
    { "own, threads", "a thread for each log, which commits itself", &own_threads, append_to_all },
    { "shared, queue", "one thread that waits for none, one committer", &shared_queue, append_to_all },
    { "shared 32, queue", "the same, 32 writes in flight", &shared_queue_32, append_to_all },
    { "own, queue", "one thread that waits for none, a committer for each log", &own_queue, append_to_all },
    { "one log", "all threads append to one log", &one_log, append_to_all },
    { NULL, NULL, NULL, NULL },
};

#define FIGURE(member) offsetof(struct figures, member)
const struct study study_many = {
    .point = "logs",
    .baseline = "own, threads",
    .trials = many_trials,
    .columns = {
        { "appends/s", FIGURE(rate), 0 },
        { "p50 µs", FIGURE(p50_us), 0 },
        { "p99 µs", FIGURE(p99_us), 0 },
        { "max µs", FIGURE(max_us), 0 },
        { "CPU µs", FIGURE(cpu_us_per_append), 0 },
        { "MiB resident", FIGURE(resident_growth), 1.0 / (1 << 20) },
    },
    .set_stage = set_stage,
    .clear_stage = clear_stage,
};
