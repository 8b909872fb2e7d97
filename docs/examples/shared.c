/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Four processes append to one log, at the speed of memory. One of them is killed in the middle, and the others go on.
 * The replay has every event for which an append had returned.
 *
 *     cc shared.c $(pkg-config --cflags --libs twinlog) && ./a.out shared
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
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
    int worker, number;
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
    for (int number = 1; rc == 0 && (number <= EVENTS || worker == VICTIM); number++) {
        const struct event event = { worker, number };
        rc = twinlog_append(log, &event, sizeof(event), NULL);
        if (rc == 0)
            atomic_store(&acknowledged[worker], number); /* from here on the event survives a kill -9 */
    }
    int closed = twinlog_close(log); /* now its events survive a power cut, too */
    return rc < 0 ? rc : closed;
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
    int status = 0;
    while (atomic_load(&acknowledged[VICTIM]) < EVENTS / 2) {
        if (waitpid(victim, &status, WNOHANG) != 0) /* the victim failed, and has printed why */
            return -ECHILD;
        nanosleep(&pause, NULL);
    }
    kill(victim, SIGKILL);
    while (wait(&status) > 0) /* the victim and all others */
        if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 0)
            return -ECHILD;
    return 0;
}

/* ---- the replay -------------------------------------------------------------------------------- */

/* The events of each worker come in the order in which it appended them; an earlier run has its own in front. */
static int count_events(const char *dir, int *seen)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int rc = twinlog_reader_open(dir, NULL, &reader);
    if (rc < 0)
        return rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        const struct event *event = record.data;
        if (record.size != sizeof(*event) || event->worker < 0 || event->worker >= WORKERS) {
            rc = -EBADMSG; /* this program has not made it */
            break;
        }
        if (event->number == 1)
            seen[event->worker] = 0;
        if (event->number != ++seen[event->worker]) {
            rc = -EBADMSG;
            break;
        }
    }
    twinlog_reader_close(reader);
    return rc;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "shared";
    int seen[WORKERS] = { 0 }, lost = 0;
    pid_t workers[WORKERS];
    acknowledged = mmap(NULL, WORKERS * sizeof(*acknowledged), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (acknowledged == MAP_FAILED)
        return 1;
    for (int worker = 0; worker < WORKERS; worker++)
        if ((workers[worker] = start(dir, worker)) < 0)
            return 1;
    int rc = kill_victim(workers[VICTIM]);
    if (rc == 0)
        rc = count_events(dir, seen);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", dir, rc == -ECHILD ? "a worker has failed" : twinlog_strerror(rc));
    for (int worker = 0; rc == 0 && worker < WORKERS; worker++) {
        printf("worker %d: %d acknowledged, %d there%s\n", worker, acknowledged[worker], seen[worker],
               worker == VICTIM ? ", killed" : "");
        lost |= seen[worker] < acknowledged[worker];
    }
    return rc < 0 || lost;
}
