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
    void *state; /* if this worker has opened the file */
    int error;
    uint64_t calls;
    uint64_t opens_ns, began_ns, ended_ns, closed_ns; /* in this order */
    double cpu_began;                                 /* a reading of the clock of the processor */
    double cpu_seconds;                               /* since then; 0 if another worker opens the file */
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
    bool are_processes; /* the workers; else threads of this process */
    bool has_frames;    /* a number of messages ends a leg; else the clock */
    bool is_whole;      /* timed from opening to closing; else the puts alone */
    unsigned workers;
    uint32_t record_bytes;
    uint64_t calls; /* of each worker at most */
    struct leg *leg;
};

/* ---- a worker ---------------------------------------------------------------------------------- */

static uint64_t time_of_day_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* In `bytes` there is room for a frame, then the message. Fills in the frame, as a program does that keeps its messages
 * in a plain file; both are the record. */
static struct twinlog_entry frame_message(unsigned char *bytes, uint64_t number)
{
    const struct frame frame = {
        .time_ns = time_of_day_ns(),
        .size = MESSAGE_BYTES,
        .checksum = checksum_of(bytes + sizeof(frame), MESSAGE_BYTES),
        .number = number,
    };

    memcpy(bytes, &frame, sizeof(frame));
    return (struct twinlog_entry){ .data = bytes, .size = sizeof(frame) + MESSAGE_BYTES };
}

/* The same for a log, which makes the other fields of a frame itself: the record is the number, then the message. */
static struct twinlog_entry number_message(unsigned char *bytes, uint64_t number)
{
    const size_t others = offsetof(struct frame, number);
    const struct frame frame = { .size = MESSAGE_BYTES, .number = number };

    memcpy(bytes, &frame, sizeof(frame));
    return (struct twinlog_entry){
        .data = bytes + others,
        .size = sizeof(frame) + MESSAGE_BYTES - others,
    };
}

static struct twinlog_entry next_record(struct worker *worker)
{
    const struct leg *leg = worker->leg;
    unsigned char *bytes = (unsigned char *)(uintptr_t)payload_at(&worker->payload, worker->calls);

    if (!leg->stage->has_frames)
        return (struct twinlog_entry){ .data = bytes, .size = leg->stage->record_bytes };
    if (leg->peer->makes_frames)
        return number_message(bytes, worker->calls);
    return frame_message(bytes, worker->calls);
}

static uint64_t deadline_of(const struct worker *worker)
{
    const struct leg *leg = worker->leg;

    if (leg->stage->has_frames)
        return UINT64_MAX;
    return worker->began_ns + (uint64_t)(leg->seconds * 1e9);
}

/* Until all calls are made, the time is over or a call fails. Each worker makes one call at least, also a process that
 * gets its first turn late. */
static void put_records(struct worker *worker, void *state)
{
    const struct leg *leg = worker->leg;
    const uint64_t deadline_ns = deadline_of(worker);

    while (worker->calls < leg->stage->calls) {
        const struct twinlog_entry record = next_record(worker);
        worker->error = leg->peer->append(state, &(const struct append){ .records = &record, .count = 1 });
        worker->calls++;
        if (worker->error)
            return;

        const bool is_time_to_look = worker->calls % CALLS_A_LOOK == 0;
        if (is_time_to_look && now_ns() >= deadline_ns)
            return;
    }
}

/* Starts both clocks. That of the processor is the clock of the whole process: it counts all its threads. */
static void open_file(struct worker *worker)
{
    const struct stage *stage = worker->leg->stage;
    const struct peer_setup setup = {
        .dir = stage->path,
        .threads = stage->are_processes ? 1 : stage->workers,
    };

    if (stage->is_whole)
        worker->cpu_began = cpu_seconds();
    worker->opens_ns = now_ns();
    worker->error = peer_open(worker->leg->peer, &setup, &worker->state);
    if (!stage->is_whole)
        worker->cpu_began = cpu_seconds();
}

/* 0 if the file is not open. */
static int close_state(const struct worker *worker)
{
    if (!worker->state)
        return 0;
    return worker->leg->peer->close(worker->state);
}

/* Stops both clocks, before or behind the close. */
static void close_file(struct worker *worker)
{
    const struct leg *leg = worker->leg;
    const bool is_close_timed = leg->stage->is_whole && !leg->peer->closes_behind_clock;
    int error = 0;

    if (is_close_timed)
        error = close_state(worker);
    worker->closed_ns = now_ns();
    worker->cpu_seconds = cpu_seconds() - worker->cpu_began;
    if (!is_close_timed)
        error = close_state(worker);

    if (worker->error == 0)
        worker->error = error;
}

/* A process opens the file for itself; of threads the first one does, for all. */
static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct leg *leg = worker->leg;
    struct worker *opener = leg->stage->are_processes ? worker : &leg->workers[0];

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
            abort(); /* no thread would pass the barrier */
    }

    run_worker(&workers[0]);

    for (unsigned i = 1; i < stage->workers; i++)
        pthread_join(workers[i].thread, NULL);
}

/* Returns what fork() returned to the parent. */
static pid_t start_process(struct worker *worker)
{
    const pid_t child = fork();

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_worker(worker);
        _exit(0);
    }
    return child;
}

static void kill_all(const pid_t *children, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        kill(children[i], SIGKILL);
}

/* If one process cannot start, or dies, the others are killed: they would wait for it at a barrier. */
static int run_processes(const struct stage *stage, struct worker *workers)
{
    pid_t children[MAX_WORKERS];
    unsigned started = 0, ended = 0;
    int error = 0;

    while (started < stage->workers) {
        const pid_t child = start_process(&workers[started]);
        if (child < 0) {
            error = -ECHILD;
            break;
        }
        children[started] = child;
        started++;
    }
    if (error)
        kill_all(children, started);

    while (ended < started) {
        int status;
        if (wait(&status) < 0)
            continue; /* a signal came */
        ended++;
        if (status != 0 && error == 0) {
            error = -ECHILD;
            if (ended < started)
                kill_all(children, started);
        }
    }
    return error;
}

static void init_barriers(struct leg *leg, unsigned workers)
{
    pthread_barrierattr_t shared;

    pthread_barrierattr_init(&shared);
    pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&leg->opened, &shared, workers);
    pthread_barrier_init(&leg->ended, &shared, workers);
}

/* The first error of a worker, or 0. */
static int error_of(const struct worker *workers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (workers[i].error)
            return workers[i].error;
    }
    return 0;
}

static int run_workers(const struct stage *stage, const struct peer *peer, double seconds)
{
    struct leg *leg = stage->leg;

    leg->stage = stage;
    leg->peer = peer;
    leg->seconds = seconds;
    init_barriers(leg, stage->workers);
    for (unsigned i = 0; i < stage->workers; i++)
        leg->workers[i] = (struct worker){ .leg = leg, .payload = leg->workers[i].payload };

    if (stage->are_processes) {
        int error = run_processes(stage, leg->workers);
        if (error)
            return error;
    } else {
        run_threads(stage, leg->workers);
    }
    return error_of(leg->workers, stage->workers);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Adds what all workers did, from the first that began to the last that ended; returns their calls. */
static uint64_t count_leg(const struct stage *stage, struct work *work)
{
    uint64_t opens_ns = UINT64_MAX, began_ns = UINT64_MAX, ended_ns = 0, closed_ns = 0, calls = 0;

    for (unsigned i = 0; i < stage->workers; i++) {
        const struct worker *worker = &stage->leg->workers[i];
        const bool is_opener = worker->opens_ns > 0;

        if (is_opener) {
            opens_ns = earlier(opens_ns, worker->opens_ns);
            closed_ns = later(closed_ns, worker->closed_ns);
        }
        began_ns = earlier(began_ns, worker->began_ns);
        ended_ns = later(ended_ns, worker->ended_ns);
        calls += worker->calls;
        work->cpu_seconds += worker->cpu_seconds;
    }

    const double put_seconds = (double)(ended_ns - began_ns) / 1e9;
    work->appends += (double)calls;
    work->bytes += (double)calls * stage->record_bytes;
    work->put_seconds += put_seconds;
    if (stage->is_whole)
        work->seconds += (double)(closed_ns - opens_ns) / 1e9;
    else
        work->seconds += put_seconds;
    return calls;
}

/* Does the file hold so many records, and nothing else? */
static bool has_records(const struct peer *peer, const struct stage *stage, uint64_t count)
{
    struct stat status;

    if (peer->are_all_there)
        return peer->are_all_there(stage->path, count);
    if (stat(stage->path, &status) < 0)
        return false;
    return (uint64_t)status.st_size == count * stage->record_bytes;
}

static bool put_and_check(const struct stage *stage, const struct trial *trial, double seconds,
                          struct work *work)
{
    const struct peer *peer = trial->way;
    int error = run_workers(stage, peer, seconds);

    if (error)
        return complain(trial->label, "write", twinlog_strerror(error));
    const uint64_t calls = count_leg(stage, work);
    if (!has_records(peer, stage, calls))
        return complain(trial->label, "check", "the file does not hold what was written");
    return true;
}

/* The file is removed in any case: the next leg begins with its first byte. */
static bool run_leg(void *state, const struct trial *trial, double seconds, struct work *work)
{
    const struct stage *stage = state;
    bool is_good = put_and_check(stage, trial, seconds, work);

    if (access(stage->path, F_OK) == 0 && !remove_tree(stage->path))
        is_good = false;
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
    const struct study *study = setting->study;
    const uint32_t point = setting->workload->sizes.max_bytes;
    struct stage *stage = state;
    uint64_t calls_of_all;

    if (setting->workload->threads > MAX_WORKERS)
        return complain("plain file", "set the stage", "too many workers");
    snprintf(stage->path, sizeof(stage->path), "%.4000s/file", setting->dir);
    stage->workers = setting->workload->threads;
    stage->are_processes = study == &study_shared || study == &study_lines_processes;
    stage->has_frames = study == &study_plain;
    stage->is_whole = study != &study_shared;

    /* The point is a number of messages, or the size of a record. */
    if (stage->has_frames) {
        stage->record_bytes = MESSAGE_BYTES + sizeof(struct frame);
        calls_of_all = point;
    } else {
        stage->record_bytes = point;
        calls_of_all = FILE_BYTES / point;
    }
    stage->calls = calls_of_all / stage->workers;

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
