/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The studies of plain files, and of logs in their place: threads of one process (p10, lines), or several processes
 * (p11, lines), put records of one size as fast as they can.
 *
 * A leg is one file, from its first byte to its last. All workers begin when each of them has opened it, and none
 * closes it while others still put; the threads of a process share one opening. Timed is from the first that opens a
 * file that is not there to the last that has closed one with the records and nothing else; in p11 the puts alone. What
 * the file holds is looked at each time, when the clock has stopped.
 *
 * In p10 a record is a message of 1 KiB behind a time, a size, a checksum and a number, as a program frames them that
 * keeps them in a plain file. A log makes the first three itself.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"
#include "study.h"

#define MAX_WORKERS 64u
#define CALLS_A_LOOK 16u               /* at the clock */
#define FILE_BYTES (UINT64_C(1) << 30) /* of a leg at most, where the clock ends it */
#define MESSAGE_BYTES 1024u

struct frame {
    uint64_t time_ns;  /* CLOCK_REALTIME */
    uint32_t size;     /* of the message */
    uint32_t checksum; /* CRC32C of the message */
    uint64_t number;
};

struct worker {
    _Alignas(64) struct leg *leg;
    pthread_t thread;
    struct payload payload;
    void *state; /* if it has opened the file */
    int error;
    uint64_t calls;
    uint64_t opens_ns, began_ns, ended_ns, closed_ns; /* in this order */
    double cpu_seconds;
};

/* What all workers see. */
struct leg {
    const struct stage *stage;
    const struct peer *peer;
    double seconds;
    pthread_barrier_t opened, ended;
    struct worker workers[MAX_WORKERS];
};

struct stage {
    char path[4096];
    bool are_processes, has_frames, is_whole; /* timed from opening to closing */
    unsigned workers;
    uint32_t record_bytes;
    uint64_t calls; /* of each worker at most */
    struct leg *leg;
};

/* ---- a worker ---------------------------------------------------------------------------------- */

static struct twinlog_entry next_record(struct worker *worker)
{
    const struct stage *stage = worker->leg->stage;
    unsigned char *bytes = (unsigned char *)(uintptr_t)payload_at(&worker->payload, worker->calls);
    struct twinlog_entry record = { .data = bytes, .size = stage->record_bytes };
    struct timespec now;

    if (!stage->has_frames)
        return record;
    struct frame frame = { .size = MESSAGE_BYTES, .number = worker->calls };
    if (worker->leg->peer->makes_frames) {
        record.data = bytes + offsetof(struct frame, number);
        record.size -= offsetof(struct frame, number);
    } else {
        clock_gettime(CLOCK_REALTIME, &now);
        frame.time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        frame.checksum = checksum_of(bytes + sizeof(frame), MESSAGE_BYTES);
    }
    memcpy(bytes, &frame, sizeof(frame));
    return record;
}

static void put_records(struct worker *worker, void *state)
{
    const struct leg *leg = worker->leg;
    const uint64_t deadline_ns =
        leg->stage->has_frames ? UINT64_MAX : worker->began_ns + (uint64_t)(leg->seconds * 1e9);
    bool is_late = false; /* one call at least, also of a process that gets its first turn late */
    while (worker->error == 0 && worker->calls < leg->stage->calls && !is_late) {
        const struct twinlog_entry record = next_record(worker);
        worker->error = leg->peer->append(state, &(const struct append){ .records = &record, .count = 1 });
        worker->calls++;
        is_late = worker->calls % CALLS_A_LOOK == 0 && now_ns() >= deadline_ns;
    }
}

/* With the clocks around it, also the processor's, which is that of the whole process. */
static void open_file(struct worker *worker)
{
    const struct stage *stage = worker->leg->stage;
    const struct peer_setup setup = { .dir = stage->path,
                                      .threads = stage->are_processes ? 1 : stage->workers };
    worker->cpu_seconds -= stage->is_whole ? cpu_seconds() : 0;
    worker->opens_ns = now_ns();
    worker->error = peer_open(worker->leg->peer, &setup, &worker->state);
    worker->cpu_seconds -= stage->is_whole ? 0 : cpu_seconds();
}

static void close_file(struct worker *worker)
{
    const struct leg *leg = worker->leg;
    const bool is_late = leg->peer->closes_behind_clock || !leg->stage->is_whole;
    const int error = worker->state && !is_late ? leg->peer->close(worker->state) : 0;
    worker->closed_ns = now_ns();
    worker->cpu_seconds += cpu_seconds();
    const int late_error = worker->state && is_late ? leg->peer->close(worker->state) : 0;
    worker->error = worker->error ? worker->error : error ? error : late_error;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct leg *leg = worker->leg;
    struct worker *opener = leg->stage->are_processes ? worker : leg->workers;
    if (opener == worker)
        open_file(worker);
    pthread_barrier_wait(&leg->opened);
    worker->began_ns = now_ns();
    if (opener->state)
        put_records(worker, opener->state);
    worker->ended_ns = now_ns();
    pthread_barrier_wait(&leg->ended);
    if (opener == worker)
        close_file(worker);
    return NULL;
}

/* ---- all of them ------------------------------------------------------------------------------- */

/* This thread is the first. */
static void run_threads(const struct stage *stage, struct worker *workers)
{
    for (unsigned i = 1; i < stage->workers; i++) {
        if (pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) != 0)
            abort(); /* nobody would pass the barrier */
    }
    run_worker(&workers[0]);
    for (unsigned i = 1; i < stage->workers; i++)
        pthread_join(workers[i].thread, NULL);
}

/* If one cannot start, or dies, the others are ended: they would wait for it. */
static int run_processes(const struct stage *stage, struct worker *workers)
{
    pid_t children[MAX_WORKERS];
    unsigned started = 0;
    int error = 0, status = 0;

    while (started < stage->workers && (children[started] = fork()) > 0)
        started++;
    if (started < stage->workers && children[started] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_worker(&workers[started]);
        _exit(0);
    }
    for (unsigned ended = 0; ended < started;) {
        if (error == 0 && (started < stage->workers || status != 0)) {
            error = -ECHILD;
            for (unsigned i = 0; i < started; i++)
                kill(children[i], SIGKILL);
        }
        ended += wait(&status) > 0;
    }
    return started < stage->workers || status != 0 ? -ECHILD : error;
}

static int run_workers(const struct stage *stage, const struct peer *peer, double seconds)
{
    struct leg *leg = stage->leg;
    pthread_barrierattr_t shared;
    int error = 0;

    leg->stage = stage;
    leg->peer = peer;
    leg->seconds = seconds;
    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&leg->opened, &shared, stage->workers);
    pthread_barrier_init(&leg->ended, &shared, stage->workers);
    for (unsigned i = 0; i < stage->workers; i++)
        leg->workers[i] = (struct worker){ .leg = leg, .payload = leg->workers[i].payload };
    if (stage->are_processes)
        error = run_processes(stage, leg->workers);
    else
        run_threads(stage, leg->workers);
    for (unsigned i = 0; i < stage->workers && error == 0; i++)
        error = leg->workers[i].error;
    return error;
}

/* Returns the calls. */
static uint64_t count_leg(const struct stage *stage, struct work *work)
{
    uint64_t opens_ns = UINT64_MAX, began_ns = UINT64_MAX, ended_ns = 0, closed_ns = 0, calls = 0;
    for (const struct worker *worker = stage->leg->workers; worker < stage->leg->workers + stage->workers;
         worker++) {
        opens_ns = worker->opens_ns > 0 && worker->opens_ns < opens_ns ? worker->opens_ns : opens_ns;
        began_ns = worker->began_ns < began_ns ? worker->began_ns : began_ns;
        ended_ns = worker->ended_ns > ended_ns ? worker->ended_ns : ended_ns;
        closed_ns = worker->closed_ns > closed_ns ? worker->closed_ns : closed_ns;
        calls += worker->calls;
        work->cpu_seconds += worker->cpu_seconds;
    }
    work->appends += (double)calls;
    work->bytes += (double)calls * stage->record_bytes;
    work->seconds += (double)(stage->is_whole ? closed_ns - opens_ns : ended_ns - began_ns) / 1e9;
    work->put_seconds += (double)(ended_ns - began_ns) / 1e9;
    return calls;
}

/* Exactly so many records? */
static bool has_records(const struct peer *peer, const struct stage *stage, uint64_t count)
{
    struct stat status;
    if (peer->are_all_there)
        return peer->are_all_there(stage->path, count);
    return stat(stage->path, &status) == 0 && (uint64_t)status.st_size == count * stage->record_bytes;
}

static bool run_leg(void *state, const struct trial *trial, double seconds, struct work *work)
{
    const struct stage *stage = state;
    const struct peer *peer = trial->way;
    int error = run_workers(stage, peer, seconds);
    bool is_good = error == 0 || complain(trial->label, "write", twinlog_strerror(error));
    if (is_good && !has_records(peer, stage, count_leg(stage, work)))
        is_good = complain(trial->label, "check", "the file does not hold what was written");
    if (access(stage->path, F_OK) == 0)
        is_good = remove_tree(stage->path) && is_good;
    return is_good && !round_is_interrupted();
}

static bool run(void *state, const struct trial *trial, const struct limits *limits, struct figures *figures)
{
    const struct stage *stage = state;
    if (!time_passes(limits, run_leg, state, trial, figures))
        return false;
    figures->mean_us = per(figures->seconds * stage->workers * 1e6, figures->appends);
    return true;
}

/* ---- the stage --------------------------------------------------------------------------------- */

static void clear_stage(void *state)
{
    struct stage *stage = state;
    if (!stage->leg)
        return;
    for (unsigned i = 0; i < stage->workers; i++)
        payload_destroy(&stage->leg->workers[i].payload);
    munmap(stage->leg, sizeof(*stage->leg));
}

static bool set_stage(const struct setting *setting, void *state)
{
    const uint32_t point = setting->workload->sizes.max_bytes;
    struct stage *stage = state;
    if (setting->workload->threads > MAX_WORKERS)
        return complain("plain file", "set the stage", "too many workers");
    snprintf(stage->path, sizeof(stage->path), "%.4000s/file", setting->dir);
    stage->workers = setting->workload->threads;
    stage->are_processes = setting->study == &study_shared || setting->study == &study_lines_processes;
    stage->has_frames = setting->study == &study_plain;
    stage->is_whole = setting->study != &study_shared;
    stage->record_bytes = stage->has_frames ? MESSAGE_BYTES + sizeof(struct frame) : point;
    stage->calls = (stage->has_frames ? point : FILE_BYTES / point) / stage->workers;
    stage->leg = allocate_shared(sizeof(*stage->leg));
    for (unsigned i = 0; i < stage->workers; i++)
        payload_create(stage->record_bytes, &stage->leg->workers[i].payload);
    return true;
}

#define RUN                                                                                                  \
    .stage_bytes = sizeof(struct stage), .set_stage = set_stage, .clear_stage = clear_stage, .run = run
#define PUT_RATE "puts/s", FIGURE(put_rate), 1

static const struct trial plain_trials[] = {
    { "sink", "twinlog_sink_write() to a mapped sink of this process alone", &peer_sink },
    { "sink-shared", "the same with TWINLOG_SINK_SHARED", &peer_sink_shared },
    { "twinlog", "twinlog_append() to a mapped log, up to the last record", &peer_log },
    { "twinlog-durable", "the same up to the end of the close, when all of it is on the disk",
      &peer_log_durable },
    { "mmap", "a mapping that grows by doubling, memcpy(), cut in the end; a lock for several threads",
      &peer_mmap },
    { "stdio", "fwrite(), the C library's buffer", &peer_stdio },
    { "stdio-64k", "fwrite(), a buffer of 64 KiB", &peer_stdio_64k },
    { "write", "write() with O_APPEND for each message", &peer_write },
    { NULL, NULL, NULL },
};
const struct study study_plain = {
    .point = "messages",
    .workers = "threads",
    .baseline = "stdio",
    .trials = plain_trials,
    .columns = { { RATE("messages") },
                 { MB_PER_S },
                 { PUT_RATE },
                 { "CPU s a million", FIGURE(cpu_us_per_append), 1 } },
    RUN,
};

static const struct trial shared_trials[] = {
    { "sink", "twinlog_sink_write() to a shared mapped sink", &peer_sink_shared },
    { "twinlog", "twinlog_append() to a log in the shared mode", &peer_shared_log },
    { "write", "write() with O_APPEND", &peer_write },
    { "stdio", "fwrite() and fflush(), opened with \"a\"", &peer_stdio_flushed },
    { "twinlog-durable", "an append to a log in the shared mode that returns when the record is durable",
      &peer_shared_log_durable },
    { "write-fdatasync", "write() with O_APPEND, fdatasync()", &peer_write_synced },
    { NULL, NULL, NULL },
};
const struct study study_shared = {
    .point = "bytes",
    .workers = "processes",
    .baseline = "write",
    .trials = shared_trials,
    .columns = { { RATE("calls") }, { "µs a call", FIGURE(mean_us), 1 }, { MB_PER_S }, { CPU } },
    RUN,
};

#define LINES(its_workers, its_trials)                                                                       \
    {                                                                                                        \
        .point = "bytes", .workers = its_workers, .baseline = "write", .trials = its_trials,                 \
        .columns = { { RATE("lines") }, { PUT_RATE }, { MB_PER_S }, { CPU } }, RUN                           \
    }
#define LINES_TRIALS                                                                                         \
    { "spdlog", "spdlog, the line alone, the C library's buffer", &peer_spdlog },                            \
        { "spdlog-flush", "the same with a flush for each line", &peer_spdlog_flush },                       \
        { "spdlog-async", "the same by a thread and a queue of 8,192", &peer_spdlog_async },                 \
        { "stdio", "fwrite(), the C library's buffer", &peer_stdio },                                        \
        { "stdio-flush", "the same with fflush() for each line", &peer_stdio_flushed },                      \
        { "write", "write() with O_APPEND", &peer_write },                                                   \
        { "writev", "writev() with O_APPEND", &peer_writev },                                                \
    {                                                                                                        \
        NULL, NULL, NULL                                                                                     \
    }

static const struct trial lines_trials[] = {
    { "sink", "twinlog_sink_write() to a mapped sink of this process alone", &peer_sink },
    { "sink-exact", "the same to an exact sink", &peer_sink_exact },
    { "twinlog", "twinlog_append() to a mapped log", &peer_log_durable },
    LINES_TRIALS,
};
const struct study study_lines = LINES("threads", lines_trials);

static const struct trial lines_processes_trials[] = {
    { "sink", "twinlog_sink_write() to a shared mapped sink", &peer_sink_shared },
    { "sink-exact", "the same to a shared exact sink", &peer_sink_exact_shared },
    { "twinlog", "twinlog_append() to a log in the shared mode", &peer_shared_log },
    LINES_TRIALS,
};
const struct study study_lines_processes = LINES("processes", lines_processes_trials);
