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

/* What a reader has seen, in memory that both processes have. */
struct sight {
    _Atomic(bool) is_ready; /* it stands at the end of the log, or has failed */
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

/* One trial in one round. */
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

/* ---- the reader -------------------------------------------------------------------------------- */

/* Takes the time of one record. */
static void see(struct sight *sight, const struct stamp *stamp, bool *ret_is_last)
{
    const uint64_t seen_ns = now_ns();

    *ret_is_last = stamp->called_ns == 0;
    if (!*ret_is_last && stamp->is_counted)
        histogram_add(&sight->histogram, seen_ns - stamp->called_ns);
}

/* Reads what is there now, or up to the last record. */
static int see_all(struct sight *sight, struct twinlog_reader *reader, bool *ret_is_last)
{
    struct twinlog_record record;
    struct stamp stamp;

    *ret_is_last = false;
    while (!*ret_is_last) {
        const int got = twinlog_reader_next(reader, &record);
        if (got < 0)
            return got;
        if (got == 0)
            return 0; /* at the end of the log */

        if (record.size != RECORD_BYTES)
            return -EBADMSG;
        memcpy(&stamp, record.data, sizeof(stamp));
        see(sight, &stamp, ret_is_last);
    }
    return 0;
}

/* Until the last record. */
static int watch_log(struct sight *sight, struct twinlog_reader *reader)
{
    for (;;) {
        bool is_last;
        const int error = see_all(sight, reader, &is_last);
        if (error || is_last)
            return error;

        const int woken = twinlog_reader_wait(reader, PATIENCE_MS);
        if (woken < 0)
            return woken;
        if (woken == 0)
            return -ETIMEDOUT;
    }
}

/* Until the last stamp. */
static int watch_pipe(struct sight *sight, int fd)
{
    struct stamp stamp;
    bool is_last = false;

    while (!is_last) {
        const ssize_t got = read(fd, &stamp, sizeof(stamp));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got != sizeof(stamp))
            return -EPIPE;
        see(sight, &stamp, &is_last);
    }
    return 0;
}

/* A thread attaches its reader to the log of the writer; a process opens the directory. */
static int open_reader(const struct turn *turn, struct twinlog_reader **ret_reader)
{
    if (turn->log)
        return twinlog_reader_attach(turn->log, NULL, ret_reader);
    return twinlog_reader_open(turn->stage->log_dir, NULL, ret_reader);
}

/* A seek is carried out by the next move. The writer appends when all readers are ready, so the move finds no
 * record. */
static int go_to_end(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    const int error = twinlog_reader_seek_end(reader);

    if (error)
        return error;
    const int got = twinlog_reader_next(reader, &record);
    if (got > 0)
        return -EBADMSG;
    return got;
}

static int watch(const struct turn *turn, int number)
{
    struct sight *sight = &turn->stage->sights[number];
    struct twinlog_reader *reader;

    if (turn->way->is_pipe) {
        atomic_store(&sight->is_ready, true);
        return watch_pipe(sight, turn->pipe_fds[number][0]);
    }

    int error = open_reader(turn, &reader);
    if (error)
        return error;
    error = go_to_end(reader);
    atomic_store(&sight->is_ready, true);
    if (error == 0)
        error = watch_log(sight, reader);
    twinlog_reader_close(reader);
    return error;
}

/* A reader that has failed is ready, too: the writer must not wait for it. */
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

/* ---- the start of the readers ------------------------------------------------------------------ */

/* End 0 is the reader's, end 1 the writer's. */
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
        /* The reader of a pipe sees its end only when no process has it open for writing. */
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
    const struct timespec millisecond = { 0, 1000000 };

    for (unsigned i = 0; i < PATIENCE_MS; i++) {
        if (atomic_load(&sight->is_ready))
            return 0;
        nanosleep(&millisecond, NULL);
    }
    return atomic_load(&sight->is_ready) ? 0 : -ETIMEDOUT;
}

/* Returns when the reader stands at the end of the log. */
static int start_thread(struct turn *turn)
{
    if (pthread_create(&turn->thread, NULL, watch_in_thread, turn) != 0)
        return -EAGAIN;
    turn->has_thread = true;
    return wait_until_ready(&turn->stage->sights[0]);
}

/* Returns when each reader stands at the end of the log. */
static int start_processes(struct turn *turn)
{
    for (int number = 0; number < turn->way->processes; number++) {
        if (pipe(turn->pipe_fds[number]) < 0)
            return -errno;
        const int error = start_process(turn, number);
        if (error)
            return error;
    }

    for (int number = 0; number < turn->children; number++) {
        const int error = wait_until_ready(&turn->stage->sights[number]);
        if (error)
            return error;
    }
    return 0;
}

/* ---- the writer -------------------------------------------------------------------------------- */

/* The reference: a raw durable write, then the stamp alone to each reader. */
static int publish_by_pipe(const struct turn *turn, const void *bytes)
{
    const struct twinlog_entry block = { .data = bytes, .size = RAW_BYTES };
    const int error =
        peer_raw.append(turn->stage->raw, &(const struct append){ &block, 1, 0, APPEND_DURABLE });

    if (error)
        return error;
    for (int number = 0; number < turn->children; number++) {
        const ssize_t written = write(turn->pipe_fds[number][1], bytes, sizeof(struct stamp));
        if (written != sizeof(struct stamp))
            return -errno;
    }
    return 0;
}

static int publish(const struct turn *turn, struct stamp stamp)
{
    static _Alignas(RAW_BYTES) unsigned char bytes[RAW_BYTES];

    memcpy(bytes, &stamp, sizeof(stamp));
    if (turn->log)
        return twinlog_append(turn->log, bytes, RECORD_BYTES, NULL);
    return publish_by_pipe(turn, bytes);
}

static int publish_now(void *context, uint64_t number)
{
    const struct turn *turn = context;
    const uint64_t called_ns = now_ns();

    (void)number;
    return publish(turn, (struct stamp){ called_ns, called_ns >= turn->counts_from_ns });
}

static int open_log(struct turn *turn)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    if (turn->way->is_pipe)
        return 0;
    options.flags = turn->way->log_flags;
    return twinlog_open(turn->stage->log_dir, &options, &turn->log);
}

/* Processes that read are forked before this one opens the log; a thread attaches to the open log. */
static int open_log_and_readers(struct turn *turn)
{
    int error;

    if (turn->way->processes > 0) {
        error = start_processes(turn);
        if (error)
            return error;
        return open_log(turn);
    }

    error = open_log(turn);
    if (error)
        return error;
    return start_thread(turn);
}

/* The readers are told of the end also if the appends have failed. */
static int append_until_the_end(struct turn *turn, const struct limits *limits, struct figures *figures)
{
    turn->counts_from_ns = now_ns() + (uint64_t)(limits->warmup_seconds * 1e9);
    const int error = time_operations(limits, publish_now, turn, figures);
    const int end_error = publish(turn, (struct stamp){ 0, 0 });

    if (error)
        return error;
    return end_error;
}

/* ---- a turn ------------------------------------------------------------------------------------ */

static struct turn new_turn(struct stage *stage, const struct way *way)
{
    struct turn turn = { .way = way, .stage = stage };

    memset(stage->sights, 0, MOST_READERS * sizeof(*stage->sights));
    for (int number = 0; number < MOST_READERS; number++) {
        stage->sights[number].error = -ECHILD; /* until the reader says something else */
        turn.pipe_fds[number][0] = -1;
        turn.pipe_fds[number][1] = -1;
    }
    return turn;
}

static int readers_of(const struct turn *turn)
{
    return turn->has_thread ? 1 : turn->children;
}

/* After an error of the writer the children are killed: they would wait for the last record. */
static void end_readers(struct turn *turn, bool is_writer_good)
{
    if (turn->has_thread)
        pthread_join(turn->thread, NULL);

    for (int number = 0; number < turn->children; number++) {
        if (!is_writer_good)
            kill(turn->child[number], SIGKILL);
        wait_for(turn->child[number]);
    }

    for (int number = 0; number < MOST_READERS; number++) {
        close_pipe(turn, number, 0);
        close_pipe(turn, number, 1);
    }
}

/* The first error of a reader, or 0. */
static int error_of_readers(const struct turn *turn)
{
    for (int number = 0; number < readers_of(turn); number++) {
        if (turn->stage->sights[number].error)
            return turn->stage->sights[number].error;
    }
    return 0;
}

/* Ends the readers, then closes the log. The first error counts: the writer's, a reader's, that of the close. */
static int follow_once(struct turn *turn, const struct limits *limits, struct figures *figures)
{
    int error = open_log_and_readers(turn);
    if (error == 0)
        error = append_until_the_end(turn, limits, figures);

    end_readers(turn, error == 0);
    const int close_error = twinlog_close(turn->log);

    if (error == 0)
        error = error_of_readers(turn);
    if (error == 0)
        error = close_error;
    return error;
}

static bool follow(void *state, const struct trial *trial, const struct limits *limits,
                   struct figures *figures)
{
    struct stage *stage = state;
    struct turn turn = new_turn(stage, trial->way);
    struct histogram *all_rounds = figures->all_rounds;
    struct histogram seen;

    figures->all_rounds = NULL; /* what the writer waits is not among the latencies */
    const int error = follow_once(&turn, limits, figures);
    if (error)
        return complain(trial->label, "follow", twinlog_strerror(error));

    histogram_reset(&seen);
    for (int number = 0; number < readers_of(&turn); number++) {
        const struct histogram *one = &stage->sights[number].histogram;
        /* Reader and writer begin to count a moment apart: one append may be counted by the writer alone. */
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
    if (error)
        return complain("twinlog", "open", twinlog_strerror(error));
    return true;
}

static bool set_stage(const struct setting *setting, void *state)
{
    struct peer_setup setup = { .dir = setting->dir };
    struct stage *stage = state;

    stage->sights = allocate_shared(MOST_READERS * sizeof(*stage->sights));
    const int error = peer_open(&peer_raw, &setup, &stage->raw);
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
