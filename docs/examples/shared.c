/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four processes append to one log, at the speed of memory. One of them is killed in the middle, and the others go on.
 * The replay has every event for which an append had returned.
 *
 *     cc shared.c $(pkg-config --cflags --libs twinlog) && ./a.out shared
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <twinlog.h>
#include <unistd.h>

#define WORKERS 4
#define VICTIM 0      /* appends until it is killed */
#define EVENTS 100000 /* of each other worker */
#define OPEN_WAIT_MS 10000

struct event {
    int worker;
    int number; /* 1, 2, 3 and so on for each worker */
};

static _Atomic(int) *acknowledged; /* of each worker, in memory that outlives it */

/* ---- a worker ---------------------------------------------------------------------------------- */

/* Each process opens the log itself: a handle cannot be used in a forked child. */
static int work(const char *dir, int worker)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    options.mode = TWINLOG_MODE_SHARED;
    options.lock_timeout_ms = OPEN_WAIT_MS; /* the first process opens the log for all */
    options.flush_interval_ms = 1000;       /* a power cut may take the events of the last second */
    int rc = twinlog_open(dir, &options, &log);
    if (rc < 0)
        return rc;

    const int events = worker == VICTIM ? INT_MAX : EVENTS;
    for (int number = 1; number <= events; number++) {
        const struct event event = { worker, number };

        rc = twinlog_append(log, &event, sizeof(event), NULL);
        if (rc < 0)
            break;
        atomic_store(&acknowledged[worker], number); /* from here on the event survives a kill -9 */
    }

    int closed = twinlog_close(log); /* now its events survive a power cut, too */
    if (rc < 0)
        return rc;
    return closed;
}

static pid_t start(const char *dir, int worker)
{
    pid_t child = fork(); /* no log is open here */
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* else the victim might go on for ever */
        int rc = work(dir, worker);
        if (rc < 0)
            fprintf(stderr, "worker %d: %s\n", worker, twinlog_strerror(rc));
        _exit(rc < 0);
    }
    return child;
}

/* Kills the victim in the middle of its appends. */
static int kill_victim(pid_t victim)
{
    const struct timespec pause = { .tv_nsec = 1000000 };
    int status;

    while (atomic_load(&acknowledged[VICTIM]) < EVENTS / 2) {
        if (waitpid(victim, &status, WNOHANG) != 0) /* the victim failed, and has printed why */
            return -ECHILD;
        nanosleep(&pause, NULL);
    }
    kill(victim, SIGKILL);
    return 0;
}

static int await_all(void)
{
    int status;

    while (wait(&status) > 0) {
        const bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        const bool has_succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (!was_killed && !has_succeeded)
            return -ECHILD;
    }
    return 0;
}

/* ---- the replay -------------------------------------------------------------------------------- */

/* The events of each worker come in the order in which it appended them; an earlier run has its own in front. */
static int count_event(const struct twinlog_record *record, int *seen)
{
    struct event event;

    if (record->size != sizeof(event))
        return -EBADMSG; /* this program has not made it */
    memcpy(&event, record->data, sizeof(event));
    if (event.worker < 0 || event.worker >= WORKERS)
        return -EBADMSG;

    if (event.number == 1)
        seen[event.worker] = 0;
    seen[event.worker]++;
    if (event.number != seen[event.worker])
        return -EBADMSG;
    return 0;
}

static int count_events(const char *dir, int *seen)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int rc = twinlog_reader_open(dir, NULL, &reader);
    if (rc < 0)
        return rc;

    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        rc = count_event(&record, seen);
        if (rc < 0)
            break;
    }
    twinlog_reader_close(reader);
    return rc;
}

/* Runs the workers, kills one, and counts what is there. -ECHILD: a worker has failed. */
static int run(const char *dir, int *seen)
{
    pid_t workers[WORKERS];

    for (int worker = 0; worker < WORKERS; worker++) {
        workers[worker] = start(dir, worker);
        if (workers[worker] < 0)
            return -errno; /* those that were started end with this process */
    }

    int rc = kill_victim(workers[VICTIM]);
    if (rc == 0)
        rc = await_all();
    if (rc == 0)
        rc = count_events(dir, seen);
    return rc;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "shared";
    int seen[WORKERS] = { 0 };
    bool is_any_lost = false;

    acknowledged = mmap(NULL, WORKERS * sizeof(*acknowledged), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (acknowledged == MAP_FAILED) {
        perror("mmap");
        return 1;
    }

    int rc = run(dir, seen);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", dir, rc == -ECHILD ? "a worker has failed" : twinlog_strerror(rc));
        return 1;
    }

    for (int worker = 0; worker < WORKERS; worker++) {
        printf("worker %d: %d acknowledged, %d there%s\n", worker, acknowledged[worker], seen[worker],
               worker == VICTIM ? ", killed" : "");
        if (seen[worker] < acknowledged[worker])
            is_any_lost = true;
    }
    return is_any_lost;
}
