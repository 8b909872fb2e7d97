/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The study of processes that append to one plain file, or to one log, at the same time (p11). Each puts records of
 * one size as fast as it can. When the file has limits->bytes, it is removed and a new one is begun; opening, closing
 * and removing are not counted. Such a leg is timed from the first process that begins to the last that ends.
 *
 * Lines: as many as limits->count are put, and timed from the first process that opens to the last that has closed;
 * beside it as above.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <twinlog_sink.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"
#include "study.h"

#define MAX_PROCESSES 64u
#define CALLS_A_LOOK 16u /* at the clock */
#define NAP_NS 200000

/* What one process did in a leg. */
struct result {
    int error;
    uint64_t calls;
    uint64_t opens_ns, began_ns, ended_ns, closed_ns; /* in this order */
    double cpu_seconds;
};

/* What all processes see. */
struct leg {
    _Atomic(unsigned) opened, ended; /* processes that have; a failure is an end of both */
    _Atomic(bool) is_started, is_over;
    uint64_t calls;       /* of each process at most */
    uint64_t deadline_ns; /* and until then */
    struct result results[MAX_PROCESSES];
};

struct stage {
    char path[4096];
    bool has_lines;
    unsigned processes;
    uint32_t record_bytes;
    uint64_t file_bytes;
    unsigned char *record;
    struct leg *leg;
};

/* ---- a process --------------------------------------------------------------------------------- */

static void nap(void)
{
    const struct timespec pause = { 0, NAP_NS };
    nanosleep(&pause, NULL);
}

static void put_records(const struct stage *stage, const struct peer *peer, void *state,
                        struct result *result)
{
    const struct leg *leg = stage->leg;
    const struct twinlog_entry record = { .data = stage->record, .size = stage->record_bytes };
    const struct append append = { .records = &record, .count = 1 };
    double cpu_before = cpu_seconds();
    result->began_ns = now_ns();
    bool is_late = false; /* one call at least, also of a process that gets its first turn late */
    while (result->error == 0 && result->calls < leg->calls && !is_late) {
        result->error = peer->append(state, &append);
        result->calls++;
        is_late = result->calls % CALLS_A_LOOK == 0 && now_ns() >= leg->deadline_ns;
    }
    result->ended_ns = now_ns();
    result->cpu_seconds = cpu_seconds() - cpu_before;
}

/* In the child. No process closes while others still put. */
static void run_process(const struct stage *stage, const struct peer *peer, struct result *result)
{
    const struct peer_setup setup = { .dir = stage->path, .threads = 1 };
    struct leg *leg = stage->leg;
    void *state;
    result->opens_ns = now_ns();
    result->error = peer_open(peer, &setup, &state);
    bool is_open = result->error == 0;
    atomic_fetch_add(&leg->opened, 1);
    while (!atomic_load(&leg->is_started))
        nap();
    if (is_open)
        put_records(stage, peer, state, result);
    atomic_fetch_add(&leg->ended, 1);
    while (!atomic_load(&leg->is_over))
        nap();
    int close_error = is_open ? peer->close(state) : 0;
    result->closed_ns = now_ns();
    if (result->error == 0)
        result->error = close_error;
}

/* ---- all of them ------------------------------------------------------------------------------- */

static int start_processes(const struct stage *stage, const struct peer *peer, pid_t *children)
{
    for (unsigned i = 0; i < stage->processes; i++) {
        children[i] = fork();
        if (children[i] < 0)
            return -errno;
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_process(stage, peer, &stage->leg->results[i]);
            _exit(0);
        }
    }
    return 0;
}

/* Until all have come so far. -ECHILD if one died on the way. */
static int wait_for_all(const struct stage *stage, _Atomic(unsigned) *count)
{
    while (atomic_load(count) < stage->processes) {
        siginfo_t info = { .si_pid = 0 };
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0)
            return -ECHILD;
        if (round_is_interrupted())
            return -EINTR;
        nap();
    }
    return 0;
}

static int reap(const struct stage *stage, pid_t *children, int error)
{
    for (unsigned i = 0; i < stage->processes && children[i] > 0; i++) {
        if (error)
            kill(children[i], SIGKILL);
        int end_error = wait_for(children[i]);
        error = error ? error : end_error;
    }
    for (unsigned i = 0; i < stage->processes && error == 0; i++)
        error = stage->leg->results[i].error;
    return error;
}

static int run_processes(const struct stage *stage, const struct peer *peer, double seconds)
{
    pid_t children[MAX_PROCESSES] = { 0 };
    struct leg *leg = stage->leg;
    uint64_t calls = stage->file_bytes / stage->processes / stage->record_bytes;

    memset(leg, 0, sizeof(*leg));
    leg->calls = calls > 0 ? calls : 1;
    leg->deadline_ns = UINT64_MAX;
    int error = start_processes(stage, peer, children);
    if (error == 0)
        error = wait_for_all(stage, &leg->opened);
    if (!stage->has_lines)
        leg->deadline_ns = now_ns() + (uint64_t)(seconds * 1e9);
    atomic_store(&leg->is_started, true);
    if (error == 0)
        error = wait_for_all(stage, &leg->ended);
    atomic_store(&leg->is_over, true);
    return reap(stage, children, error);
}

/* ---- what came of it --------------------------------------------------------------------------- */

/* Returns the calls. */
static uint64_t count_leg(const struct stage *stage, struct work *work)
{
    uint64_t began_ns = UINT64_MAX, ended_ns = 0, calls = 0;
    uint64_t opens_ns = UINT64_MAX, closed_ns = 0;
    for (unsigned i = 0; i < stage->processes; i++) {
        const struct result *result = &stage->leg->results[i];
        began_ns = result->began_ns < began_ns ? result->began_ns : began_ns;
        ended_ns = result->ended_ns > ended_ns ? result->ended_ns : ended_ns;
        opens_ns = result->opens_ns < opens_ns ? result->opens_ns : opens_ns;
        closed_ns = result->closed_ns > closed_ns ? result->closed_ns : closed_ns;
        calls += result->calls;
        work->cpu_seconds += result->cpu_seconds;
    }
    work->appends += (double)calls;
    work->bytes += (double)calls * stage->record_bytes;
    work->seconds += (double)(stage->has_lines ? closed_ns - opens_ns : ended_ns - began_ns) / 1e9;
    work->put_seconds += (double)(ended_ns - began_ns) / 1e9;
    return calls;
}

static bool run_leg(void *state, const struct trial *trial, double seconds, struct work *work)
{
    const struct stage *stage = state;
    const struct peer *peer = trial->way;
    int error = run_processes(stage, peer, seconds);
    bool is_good = error == 0 || complain(trial->label, "write", twinlog_strerror(error));
    if (is_good && !has_records(peer, stage->path, count_leg(stage, work), stage->record_bytes))
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
    figures->mean_us = per(figures->seconds * stage->processes * 1e6, figures->appends);
    return true;
}

/* ---- the stage --------------------------------------------------------------------------------- */

static void clear_stage(void *state)
{
    struct stage *stage = state;
    if (stage->leg)
        munmap(stage->leg, sizeof(*stage->leg));
    free(stage->record);
}

static bool set_stage(const struct setting *setting, void *state)
{
    struct stage *stage = state;
    if (setting->workload->threads > MAX_PROCESSES)
        return complain("shared file", "set the stage", "too many processes");
    snprintf(stage->path, sizeof(stage->path), "%.4000s/file", setting->dir);
    stage->processes = setting->workload->threads;
    stage->record_bytes = setting->workload->sizes.max_bytes;
    stage->has_lines = setting->study == &study_lines_processes;
    stage->file_bytes =
        stage->has_lines ? setting->limits->count * stage->record_bytes : setting->limits->bytes;
    stage->leg = allocate_shared(sizeof(*stage->leg));
    stage->record = make_line(stage->record_bytes);
    return true;
}

static const struct trial shared_trials[] = {
    { "sink", "twinlog_sink_write() with TWINLOG_SINK_SHARED", &peer_sink_shared },
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
    .stage_bytes = sizeof(struct stage),
    .set_stage = set_stage,
    .clear_stage = clear_stage,
    .run = run,
};

static const struct trial lines_processes_trials[] = {
    { "sink", "twinlog_sink_write() with TWINLOG_SINK_SHARED", &peer_sink_shared },
    { "twinlog", "twinlog_append() to a log in the shared mode", &peer_shared_log },
    LINES_TRIALS,
    { NULL, NULL, NULL },
};

const struct study study_lines_processes = {
    .workers = "processes",
    .trials = lines_processes_trials,
    LINES_STUDY,
    .stage_bytes = sizeof(struct stage),
    .set_stage = set_stage,
    .clear_stage = clear_stage,
    .run = run,
};
