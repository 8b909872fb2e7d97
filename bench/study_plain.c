/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of one process that keeps framed messages in a plain file (p10). What is timed is all that it takes,
 * from opening a file that is not there to closing one that holds the messages and nothing else: again and again for
 * so many seconds, once at least. Beside it, the puts alone. What the file holds is checked each time, when the clock
 * has stopped. The same for lines of text, which have no frames.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"
#include "frame.h"
#include "peer.h"
#include "study.h"

#define MAX_THREADS 16u
#define FRAMES 64u /* of each thread, one after the other: more than the first cache holds */

struct stage {
    char path[4096];
    unsigned threads;
    uint64_t messages;
    struct frame *frames; /* FRAMES of each thread; NULL: lines */
    unsigned char *line;
    uint32_t message_bytes;
};

/* One file, from its first byte to its last. */
struct file {
    const struct stage *stage;
    const struct peer *peer;
    void *state;
    int error;               /* of opening it */
    pthread_barrier_t start; /* passed when it is open, or not */
};

struct worker {
    struct file *file;
    struct frame *frames;
    uint64_t first, end; /* numbers of its messages */
    pthread_t thread;
    int error;
};

/* Fills in the header of a payload that is there. */
static void frame_stamp(struct frame *frame, uint64_t number)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    frame->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    frame->size = sizeof(frame->payload);
    frame->number = number;
    frame->checksum = checksum_of(frame->payload, sizeof(frame->payload));
}

/* Each number once: their sum, and that none is too large, is what is looked at. */
static bool are_sound(const struct frame *frames, uint64_t count)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        const struct frame *frame = &frames[i];
        sum += frame->number;
        if (frame->size != sizeof(frame->payload) || frame->number >= count ||
            (i % 64 == 0 && frame->checksum != checksum_of(frame->payload, sizeof(frame->payload))))
            return false;
    }
    return sum == count * (count - 1) / 2;
}

/* Does the file hold exactly the frames 0 to count - 1? Looks at each header, and at one checksum in 64. */
static bool frames_are_all_there(const char *path, uint64_t count)
{
    struct stat status;
    size_t size = count * sizeof(struct frame);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_good = fd >= 0 && fstat(fd, &status) == 0 && (uint64_t)status.st_size == size;
    void *frames = is_good ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    if (frames == MAP_FAILED)
        return false;
    is_good = are_sound(frames, count);
    munmap(frames, size);
    return is_good;
}

static int put_messages(const struct worker *worker)
{
    const struct peer *peer = worker->file->peer;
    int error = 0;
    const struct stage *stage = worker->file->stage;
    if (stage->line) {
        const struct twinlog_entry line = { .data = stage->line, .size = stage->message_bytes };
        const struct append append = { .records = &line, .count = 1 };
        for (uint64_t number = worker->first; number < worker->end && error == 0; number++)
            error = peer->append(worker->file->state, &append);
        return error;
    }
    for (uint64_t number = worker->first; number < worker->end && error == 0; number++) {
        struct frame *frame = &worker->frames[number % FRAMES];
        struct twinlog_entry record = { .data = frame, .size = sizeof(*frame) };
        if (peer->makes_frames)
            record = (struct twinlog_entry){ .data = numbered(frame, number), .size = NUMBERED_BYTES };
        else
            frame_stamp(frame, number);
        error = peer->append(worker->file->state, &(const struct append){ .records = &record, .count = 1 });
    }
    return error;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    pthread_barrier_wait(&worker->file->start);
    if (worker->file->error == 0)
        worker->error = put_messages(worker);
    return NULL;
}

/* This thread is the first worker; the others wait at the barrier. */
static void start_workers(struct file *file, struct worker *workers)
{
    const struct stage *stage = file->stage;
    for (unsigned i = 0; i < stage->threads; i++) {
        workers[i] = (struct worker){
            .file = file,
            .frames = stage->frames ? stage->frames + i * FRAMES : NULL,
            .first = stage->messages * i / stage->threads,
            .end = stage->messages * (i + 1) / stage->threads,
        };
        if (i > 0 && pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) != 0)
            abort(); /* nobody would pass the barrier */
    }
}

static int write_file(struct file *file, struct worker *workers, struct work *work)
{
    const struct stage *stage = file->stage;
    const struct peer_setup setup = { .dir = stage->path, .threads = stage->threads };
    double cpu_before = cpu_seconds();
    uint64_t began_ns = now_ns();

    file->error = peer_open(file->peer, &setup, &file->state);
    uint64_t opened_ns = now_ns();
    run_worker(&workers[0]);
    int error = file->error ? file->error : workers[0].error;
    for (unsigned i = 1; i < stage->threads; i++) {
        pthread_join(workers[i].thread, NULL);
        error = error ? error : workers[i].error;
    }
    bool is_open = file->error == 0, closes_late = file->peer->closes_behind_clock;
    work->put_seconds += (double)(now_ns() - opened_ns) / 1e9;
    int close_error = is_open && !closes_late ? file->peer->close(file->state) : 0;
    work->seconds += (double)(now_ns() - began_ns) / 1e9;
    work->cpu_seconds += cpu_seconds() - cpu_before;
    work->appends += (double)stage->messages;
    work->bytes += (double)stage->messages * stage->message_bytes;
    if (is_open && closes_late)
        close_error = file->peer->close(file->state);
    return error ? error : close_error;
}

static bool write_and_check(void *state, const struct trial *trial, double seconds, struct work *work)
{
    const struct stage *stage = state;
    struct worker workers[MAX_THREADS];
    struct file file = { .stage = stage, .peer = trial->way };
    (void)seconds;
    pthread_barrier_init(&file.start, NULL, stage->threads);
    start_workers(&file, workers);
    int error = write_file(&file, workers, work);
    pthread_barrier_destroy(&file.start);

    bool is_good = error == 0 || complain(trial->label, "write", twinlog_strerror(error));
    const bool is_complete = stage->line || file.peer->are_all_there
                                 ? has_records(file.peer, stage->path, stage->messages, stage->message_bytes)
                                 : frames_are_all_there(stage->path, stage->messages);
    if (is_good && !is_complete)
        is_good = complain(trial->label, "check", "the file does not hold each message once");
    if (file.error == 0)
        is_good = remove_tree(stage->path) && is_good;
    return is_good && !round_is_interrupted();
}

static bool run(void *state, const struct trial *trial, const struct limits *limits, struct figures *figures)
{
    return time_passes(limits, write_and_check, state, trial, figures);
}

static void clear_stage(void *state)
{
    struct stage *stage = state;
    free(stage->frames);
    free(stage->line);
}

static void fill_frames(struct frame *frames, size_t count)
{
    uint64_t random = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < count; i++) {
        for (size_t at = 0; at < FRAME_PAYLOAD_BYTES; at += sizeof(random)) {
            random_next(&random);
            memcpy(frames[i].payload + at, &random, sizeof(random));
        }
    }
}

/* limits->count is for a quick try: so many messages at most. */
static bool set_stage(const struct setting *setting, void *state)
{
    struct stage *stage = state;
    if (setting->workload->threads > MAX_THREADS)
        return complain("plain file", "set the stage", "too many threads");
    snprintf(stage->path, sizeof(stage->path), "%.4000s/file", setting->dir);
    stage->threads = setting->workload->threads;
    stage->messages = setting->workload->sizes.max_bytes;
    stage->message_bytes = sizeof(struct frame);
    if (setting->study == &study_lines) {
        stage->message_bytes = setting->workload->sizes.max_bytes;
        stage->messages = setting->limits->count;
        stage->line = make_line(stage->message_bytes);
        return true;
    }
    if (setting->limits->count && setting->limits->count < stage->messages)
        stage->messages = setting->limits->count;
    stage->frames = allocate(stage->threads * FRAMES, sizeof(*stage->frames));
    fill_frames(stage->frames, stage->threads * FRAMES);
    return true;
}

static const struct trial plain_trials[] = {
    { "sink", "twinlog_sink_write() to a sink of this process alone", &peer_sink },
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
                 { "puts/s", FIGURE(put_rate), 1 },
                 { "CPU s a million", FIGURE(cpu_us_per_append), 1 } },
    .stage_bytes = sizeof(struct stage),
    .set_stage = set_stage,
    .clear_stage = clear_stage,
    .run = run,
};

static const struct trial lines_trials[] = {
    { "sink", "twinlog_sink_write() to a sink of this process alone", &peer_sink },
    { "twinlog", "twinlog_append() to a mapped log", &peer_mapped_log },
    LINES_TRIALS,
    { NULL, NULL, NULL },
};

const struct study study_lines = {
    .workers = "threads",
    .trials = lines_trials,
    LINES_STUDY,
    .stage_bytes = sizeof(struct stage),
    .set_stage = set_stage,
    .clear_stage = clear_stage,
    .run = run,
};
