/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of following: how long after the call of append a reader that waits has the record.
 *
 * One thread appends in a closed loop and puts the time of the call into each record; the reader takes its own
 * time when it has it. The floor is a pipe that the writer tells of each record after a raw durable write: no
 * log, and no reader on the disk.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <twinlog.h>
#include <unistd.h>

#include "clock.h"
#include "common.h"
#include "peer.h"
#include "study.h"

#define RECORD_BYTES 128u
#define RAW_BYTES 4096u
#define PATIENCE_MS 10000 /* without a record: something is broken */

/* The beginning of each record. */
struct stamp {
    uint64_t called_ns; /* 0 = the last record */
    uint64_t is_counted;
};

/* What the reader has seen, in memory that both processes have. */
struct sight {
    int error;
    struct histogram histogram;
};

struct stage {
    char log_dir[2048];
    void *raw; /* state of peer_raw */
    struct sight *sight;
};

struct way {
    bool is_other_process;
    bool is_pipe;       /* there is no log */
    uint32_t log_flags; /* enum twinlog_open_flags */
};

/* ---- the reader -------------------------------------------------------------------------------- */

/* False after the last record. */
static bool see(struct sight *sight, const struct stamp *stamp)
{
    uint64_t seen_ns = now_ns();
    if (stamp->called_ns == 0)
        return false;
    if (stamp->is_counted)
        histogram_add(&sight->histogram, seen_ns - stamp->called_ns);
    return true;
}

/* Everything that is there: 1. 0 = the last record was among it. */
static int see_all(struct sight *sight, struct twinlog_reader *reader)
{
    struct twinlog_record record;
    struct stamp stamp;
    int rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        if (record.size != RECORD_BYTES)
            return -EBADMSG;
        memcpy(&stamp, record.data, sizeof(stamp));
        if (!see(sight, &stamp))
            return 0;
    }
    return rc < 0 ? rc : 1;
}

static int watch_log(struct sight *sight, struct twinlog_reader *reader)
{
    for (;;) {
        int rc = see_all(sight, reader);
        if (rc <= 0)
            return rc;
        rc = twinlog_reader_wait(reader, PATIENCE_MS);
        if (rc <= 0)
            return rc < 0 ? rc : -ETIMEDOUT;
    }
}

static int watch_pipe(struct sight *sight, int fd)
{
    struct stamp stamp;
    for (;;) {
        ssize_t got = read(fd, &stamp, sizeof(stamp));
        if (got < 0 && errno == EINTR)
            continue;
        if (got != sizeof(stamp))
            return got < 0 ? -errno : -EPIPE;
        if (!see(sight, &stamp))
            return 0;
    }
}

/* ---- the reader's thread or process ------------------------------------------------------------ */

struct watcher {
    const struct way *way;
    struct stage *stage;
    struct twinlog_reader *reader; /* of a thread */
    pthread_t thread;
    pid_t child; /* 0 = none */
    int pipe_fd; /* to the child; -1 = none */
};

static void *watch_in_thread(void *argument)
{
    struct watcher *watcher = argument;
    struct sight *sight = watcher->stage->sight;
    sight->error = watch_log(sight, watcher->reader);
    return NULL;
}

static int start_thread(struct watcher *watcher, struct twinlog *log)
{
    struct twinlog_reader *reader;
    int error = twinlog_reader_attach(log, NULL, &reader);
    if (error)
        return error;
    watcher->reader = reader;
    error = twinlog_reader_seek_end(reader);
    if (error == 0)
        error = -pthread_create(&watcher->thread, NULL, watch_in_thread, watcher);
    if (error) {
        twinlog_reader_close(reader);
        watcher->reader = NULL;
    }
    return error;
}

/* The child writes one byte to `ready_fd` when it stands at the end of the log. */
static int watch_in_child(const struct watcher *watcher, int pipe_fd, int ready_fd)
{
    struct sight *sight = watcher->stage->sight;
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;
    int error = 0;
    if (!watcher->way->is_pipe) {
        error = twinlog_reader_open(watcher->stage->log_dir, NULL, &reader);
        if (error == 0)
            error = twinlog_reader_seek_end(reader);
        if (error == 0)
            error = twinlog_reader_next(reader, &record); /* a seek is carried out by the next move */
    }
    if (error == 0 && write(ready_fd, "r", 1) != 1)
        error = -errno;
    if (error)
        return error;
    return reader ? watch_log(sight, reader) : watch_pipe(sight, pipe_fd);
}

static void close_both(const int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* What became of it, after the last record. */
static int finish(const struct watcher *watcher)
{
    if (watcher->reader) {
        pthread_join(watcher->thread, NULL);
        twinlog_reader_close(watcher->reader);
    }
    if (watcher->child)
        wait_for(watcher->child);
    if (watcher->pipe_fd >= 0)
        close(watcher->pipe_fd);
    return watcher->stage->sight->error;
}

static int start_child(struct watcher *watcher)
{
    int records[2], ready[2];
    char byte;
    if (pipe(records) < 0)
        return -errno;
    if (pipe(ready) < 0) {
        close_both(records);
        return -errno;
    }
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(records[1]);
        watcher->stage->sight->error = watch_in_child(watcher, records[0], ready[1]);
        _exit(0);
    }
    if (child < 0) {
        close_both(records);
        close_both(ready);
        return -EAGAIN;
    }
    watcher->child = child;
    watcher->pipe_fd = records[1];
    close(records[0]);
    close(ready[1]);
    bool is_ready = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    return is_ready ? 0 : finish(watcher);
}

/* ---- the writer -------------------------------------------------------------------------------- */

struct writer {
    struct stage *stage;
    struct twinlog *log; /* NULL: raw writes and the pipe */
    int pipe_fd;
    uint64_t counts_from_ns;
};

static int publish(const struct writer *writer, struct stamp stamp)
{
    static _Alignas(RAW_BYTES) unsigned char bytes[RAW_BYTES];
    memcpy(bytes, &stamp, sizeof(stamp));
    if (writer->log)
        return twinlog_append(writer->log, bytes, RECORD_BYTES, NULL);
    const struct twinlog_entry block = { .data = bytes, .size = RAW_BYTES };
    int error = peer_raw.append(writer->stage->raw, 0, &block, 1, APPEND_DURABLE);
    if (error == 0 && write(writer->pipe_fd, &stamp, sizeof(stamp)) != sizeof(stamp))
        error = -errno;
    return error;
}

static int publish_now(void *context, uint64_t turn)
{
    const struct writer *writer = context;
    uint64_t called_ns = now_ns();
    (void)turn;
    return publish(writer, (struct stamp){ called_ns, called_ns >= writer->counts_from_ns });
}

/* The reader is told of the end in any case. */
static int write_all(struct writer *writer, const struct limits *limits, struct figures *figures)
{
    writer->counts_from_ns = now_ns() + (uint64_t)(limits->warmup_seconds * 1e9);
    int error = time_operations(limits, publish_now, writer, figures);
    int end_error = publish(writer, (struct stamp){ 0, 0 });
    return error ? error : end_error;
}

/* ---- a turn ------------------------------------------------------------------------------------ */

static int follow_log(struct watcher *watcher, const struct limits *limits, struct figures *figures)
{
    struct writer writer = { .stage = watcher->stage, .pipe_fd = -1 };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    bool is_process = watcher->way->is_other_process;
    int error = is_process ? start_child(watcher) : 0;
    if (error)
        return error;
    options.flags = watcher->way->log_flags;
    error = twinlog_open(watcher->stage->log_dir, &options, &writer.log);
    if (error == 0 && !is_process)
        error = start_thread(watcher, writer.log);
    if (error == 0)
        error = write_all(&writer, limits, figures);
    if (error && watcher->child)
        kill(watcher->child, SIGKILL);
    int watch_error = finish(watcher);
    int close_error = twinlog_close(writer.log);
    if (error == 0)
        error = watch_error;
    return error ? error : close_error;
}

static int follow_pipe(struct watcher *watcher, const struct limits *limits, struct figures *figures)
{
    int error = start_child(watcher);
    if (error)
        return error;
    struct writer writer = { .stage = watcher->stage, .pipe_fd = watcher->pipe_fd };
    error = write_all(&writer, limits, figures);
    if (error)
        kill(watcher->child, SIGKILL);
    int watch_error = finish(watcher);
    return error ? error : watch_error;
}

static bool follow(void *state, const struct trial *trial, const struct limits *limits,
                   struct figures *figures)
{
    struct stage *stage = state;
    struct watcher watcher = { .way = trial->way, .stage = stage, .pipe_fd = -1 };

    struct histogram *all_rounds = figures->all_rounds;

    histogram_reset(&stage->sight->histogram);
    stage->sight->error = -ECHILD;
    figures->all_rounds = NULL; /* what the writer waits is not among the latencies */
    int error =
        watcher.way->is_pipe ? follow_pipe(&watcher, limits, figures) : follow_log(&watcher, limits, figures);
    if (error)
        return complain(trial->label, "follow", twinlog_strerror(error));
    if ((double)stage->sight->histogram.count + 1 < figures->appends)
        return complain(trial->label, "follow", "the reader has not seen every record");
    figures->writer_p50_us = figures->p50_us;
    figures->all_rounds = all_rounds;
    figures_set_latencies(figures, &stage->sight->histogram);
    return true;
}

/* ---- the stage --------------------------------------------------------------------------------- */

static void clear_stage(void *state)
{
    struct stage *stage = state;
    if (stage->raw)
        peer_raw.close(stage->raw);
    munmap(stage->sight, sizeof(*stage->sight));
}

static bool make_log(const char *dir)
{
    struct twinlog *log;
    int error = twinlog_open(dir, NULL, &log);
    if (error == 0)
        error = twinlog_close(log);
    return error == 0 || complain("twinlog", "open", twinlog_strerror(error));
}

static bool set_stage(const struct study *study, const char *dir, const struct workload *workload,
                      const struct limits *limits, void *state)
{
    struct peer_setup setup = { .dir = dir };
    struct stage *stage = state;
    (void)study;
    (void)workload;
    (void)limits;
    stage->sight = allocate_shared(sizeof(*stage->sight));
    int error = peer_raw.open(&peer_raw, &setup, &stage->raw);
    if (error) {
        stage->raw = NULL;
        return complain("pipe", "open", peer_raw.explain(error));
    }
    snprintf(stage->log_dir, sizeof(stage->log_dir), "%s/log", dir);
    return make_log(stage->log_dir);
}

static const struct trial follow_trials[] = {
    { "attached", "a reader in the process of the writer, twinlog_reader_wait()", WAY(false, false, 0) },
    { "process", "a reader in another process, twinlog_reader_wait()", WAY(true, false, 0) },
    { "process, buffered", "the same as process, the log written through the page cache",
      WAY(true, false, TWINLOG_BUFFERED) },
    { "pipe", "the floor: a raw durable write, then a write to a pipe", WAY(true, true, 0) },
    { NULL, NULL, NULL },
};

const struct study study_follow = {
    .point = "bytes",
    .trials = follow_trials,
    .columns = { { RATE("appends") },
                 { "append p50 µs", FIGURE(writer_p50_us), 1 },
                 { "seen p50 µs", FIGURE(p50_us), 1 },
                 { P99 },
                 { P999 },
                 { LONGEST } },
    .stage_bytes = sizeof(struct stage),
    .set_stage = set_stage,
    .clear_stage = clear_stage,
    .run = follow,
};
