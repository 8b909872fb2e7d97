/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of following: how long after the call of append a reader that waits has the record.
 *
 * One thread appends in a closed loop and puts the time of the call into each record; the reader takes its own
 * time when it has it. The reference is a pipe that the writer tells of each record after a raw durable write: no
 * log, and no reader on the disk.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <twinlog.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"
#include "study.h"

#define RECORD_BYTES 128u
#define RAW_BYTES 4096u
#define PATIENCE_MS 10000 /* without a record: something is broken */
#define MOST_READERS 4

/* The beginning of each record. */
struct stamp {
    uint64_t called_ns; /* 0 = the last record */
    uint64_t is_counted;
};

/* What the reader has seen, in memory that both processes have. */
struct sight {
    _Atomic(bool) is_ready; /* or it has failed */
    int error;
    struct histogram histogram;
};

struct stage {
    char log_dir[2048];
    void *raw;            /* state of peer_raw */
    struct sight *sights; /* of each reader */
};

struct way {
    int processes;      /* that read; 0 = a thread of the writer's process */
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

/* ---- a turn ------------------------------------------------------------------------------------ */

struct turn {
    const struct way *way;
    struct stage *stage;
    struct twinlog *log; /* NULL: raw writes and the pipe */
    bool has_thread;     /* that reads; or there are children */
    pthread_t thread;
    int children;
    pid_t child[MOST_READERS];
    int pipe_fds[MOST_READERS][2]; /* to each child; -1: not open */
    uint64_t counts_from_ns;
};

static int watch(const struct turn *turn, int number)
{
    struct sight *sight = &turn->stage->sights[number];
    struct twinlog_reader *reader;
    struct twinlog_record record;
    if (turn->way->is_pipe) {
        atomic_store(&sight->is_ready, true);
        return watch_pipe(sight, turn->pipe_fds[number][0]);
    }
    int error = turn->log ? twinlog_reader_attach(turn->log, NULL, &reader)
                          : twinlog_reader_open(turn->stage->log_dir, NULL, &reader);
    if (error)
        return error;
    error = twinlog_reader_seek_end(reader);
    if (error == 0)
        error = twinlog_reader_next(reader, &record); /* a seek is carried out by the next move */
    atomic_store(&sight->is_ready, true);
    if (error == 0)
        error = watch_log(sight, reader);
    twinlog_reader_close(reader);
    return error;
}

static void watch_to_the_end(const struct turn *turn, int number)
{
    struct sight *sight = &turn->stage->sights[number];
    sight->error = watch(turn, number);
    atomic_store(&sight->is_ready, true);
}

static void *watch_in_thread(void *argument)
{
    watch_to_the_end(argument, 0);
    return NULL;
}

static void close_pipe(struct turn *turn, int number, int end)
{
    if (turn->pipe_fds[number][end] >= 0)
        close(turn->pipe_fds[number][end]);
    turn->pipe_fds[number][end] = -1;
}

static int start_process(struct turn *turn, int number)
{
    const pid_t child = fork();
    if (child < 0)
        return -EAGAIN;
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (int other = 0; other <= number; other++)
            close_pipe(turn, other, 1);
        watch_to_the_end(turn, number);
        _exit(0);
    }
    turn->child[turn->children++] = child;
    close_pipe(turn, number, 0);
    return 0;
}

static int wait_until_ready(const struct sight *sight)
{
    const struct timespec pause = { 0, 1000000 };
    for (unsigned i = 0; i < PATIENCE_MS && !atomic_load(&sight->is_ready); i++)
        nanosleep(&pause, NULL);
    return atomic_load(&sight->is_ready) ? 0 : -ETIMEDOUT;
}

/* Returns when each reader stands at the end of the log. */
static int start_readers(struct turn *turn)
{
    int error = 0;
    if (turn->way->processes == 0) {
        turn->has_thread = pthread_create(&turn->thread, NULL, watch_in_thread, turn) == 0;
        return turn->has_thread ? wait_until_ready(&turn->stage->sights[0]) : -EAGAIN;
    }
    for (int number = 0; number < turn->way->processes && error == 0; number++) {
        if (pipe(turn->pipe_fds[number]) < 0)
            return -errno;
        error = start_process(turn, number);
    }
    for (int number = 0; number < turn->children && error == 0; number++)
        error = wait_until_ready(&turn->stage->sights[number]);
    return error;
}

static int publish(const struct turn *turn, struct stamp stamp)
{
    static _Alignas(RAW_BYTES) unsigned char bytes[RAW_BYTES];
    memcpy(bytes, &stamp, sizeof(stamp));
    if (turn->log)
        return twinlog_append(turn->log, bytes, RECORD_BYTES, NULL);
    const struct twinlog_entry block = { .data = bytes, .size = RAW_BYTES };
    int error = peer_raw.append(turn->stage->raw, &(const struct append){ &block, 1, 0, APPEND_DURABLE });
    for (int number = 0; number < turn->children && error == 0; number++) {
        if (write(turn->pipe_fds[number][1], &stamp, sizeof(stamp)) != sizeof(stamp))
            error = -errno;
    }
    return error;
}

static int publish_now(void *context, uint64_t number)
{
    const struct turn *turn = context;
    uint64_t called_ns = now_ns();
    (void)number;
    return publish(turn, (struct stamp){ called_ns, called_ns >= turn->counts_from_ns });
}

/* A process that reads begins before the log is open here. It is told of the end in any case. */
static int follow_once(struct turn *turn, const struct limits *limits, struct figures *figures)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    int error = turn->way->processes > 0 ? start_readers(turn) : 0;
    options.flags = turn->way->log_flags;
    if (error == 0 && !turn->way->is_pipe)
        error = twinlog_open(turn->stage->log_dir, &options, &turn->log);
    if (error == 0 && turn->way->processes == 0)
        error = start_readers(turn);
    if (error)
        return error;
    turn->counts_from_ns = now_ns() + (uint64_t)(limits->warmup_seconds * 1e9);
    error = time_operations(limits, publish_now, turn, figures);
    int end_error = publish(turn, (struct stamp){ 0, 0 });
    return error ? error : end_error;
}

/* The end of the readers, then of the log. */
static int finish(struct turn *turn, int error)
{
    const int readers = turn->has_thread ? 1 : turn->children;
    if (turn->has_thread)
        pthread_join(turn->thread, NULL);
    for (int number = 0; number < turn->children; number++) {
        if (error)
            kill(turn->child[number], SIGKILL);
        wait_for(turn->child[number]);
    }
    for (int number = 0; number < MOST_READERS; number++) {
        close_pipe(turn, number, 0);
        close_pipe(turn, number, 1);
    }
    int close_error = twinlog_close(turn->log);
    for (int number = 0; number < readers && error == 0; number++)
        error = turn->stage->sights[number].error;
    return error ? error : close_error;
}

static bool follow(void *state, const struct trial *trial, const struct limits *limits,
                   struct figures *figures)
{
    struct stage *stage = state;
    struct turn turn = { .way = trial->way, .stage = stage };
    struct histogram *all_rounds = figures->all_rounds;
    struct histogram seen;

    memset(stage->sights, 0, MOST_READERS * sizeof(*stage->sights));
    for (int number = 0; number < MOST_READERS; number++) {
        stage->sights[number].error = -ECHILD;
        turn.pipe_fds[number][0] = turn.pipe_fds[number][1] = -1;
    }
    figures->all_rounds = NULL; /* what the writer waits is not among the latencies */
    int error = finish(&turn, follow_once(&turn, limits, figures));
    if (error)
        return complain(trial->label, "follow", twinlog_strerror(error));

    histogram_reset(&seen);
    for (int number = 0; number < (turn.has_thread ? 1 : turn.children); number++) {
        const struct histogram *one = &stage->sights[number].histogram;
        if ((double)one->count + 1 < figures->appends)
            return complain(trial->label, "follow", "a reader has not seen every record");
        histogram_merge(&seen, one);
    }
    figures->writer_p50_us = figures->p50_us;
    figures->all_rounds = all_rounds;
    figures_set_latencies(figures, &seen);
    return true;
}

/* ---- the stage --------------------------------------------------------------------------------- */

static void clear_stage(void *state)
{
    struct stage *stage = state;
    if (stage->raw)
        peer_raw.close(stage->raw);
    munmap(stage->sights, MOST_READERS * sizeof(*stage->sights));
}

static bool make_log(const char *dir)
{
    struct twinlog *log;
    int error = twinlog_open(dir, NULL, &log);
    if (error == 0)
        error = twinlog_close(log);
    return error == 0 || complain("twinlog", "open", twinlog_strerror(error));
}

static bool set_stage(const struct setting *setting, void *state)
{
    struct peer_setup setup = { .dir = setting->dir };
    struct stage *stage = state;
    stage->sights = allocate_shared(MOST_READERS * sizeof(*stage->sights));
    int error = peer_open(&peer_raw, &setup, &stage->raw);
    if (error)
        return complain("pipe", "open", peer_raw.explain(error));
    snprintf(stage->log_dir, sizeof(stage->log_dir), "%s/log", setting->dir);
    return make_log(stage->log_dir);
}

static const struct trial follow_trials[] = {
    { "attached", "a reader in the process of the writer, twinlog_reader_wait()", WAY(0, false, 0) },
    { "process", "a reader in another process, twinlog_reader_wait()", WAY(1, false, 0) },
    { "process, buffered", "the same as process, the log written through the page cache",
      WAY(1, false, TWINLOG_BUFFERED) },
    { "pipe", "the reference: a raw durable write, then a write to a pipe", WAY(1, true, 0) },
    { "four", "four readers, each in a process of its own", WAY(4, false, 0) },
    { "pipes", "the reference for four: a raw durable write, then a write to each of four pipes",
      WAY(4, true, 0) },
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
