/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stuck-beside KIND: a disk stops answering (stuck_disk.h) while threads use a log there: open it, read it, append
 * to it, close it. The same process has a log on another disk: calls on that one, and fork(), go on: each comes back
 * long before the disk answers again. A reader of the log there, too, waits no longer than it says: what it waits with
 * is in memory, unless it writes.
 */
#define _GNU_SOURCE
#include "stuck_disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <twinlog_admin.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define MOST_SECONDS 10.0 /* a third of what the disk is stopped for, if a call waits for it */
#define DEADLINE_MS 50

static char stuck_path[400], sink_path[400], place[300], healthy_path[320];
static struct twinlog *stuck, *healthy;
static struct twinlog_reader *stuck_reader, *following_reader;

static void must(bool is_done, const char *what)
{
    if (is_done)
        return;
    printf("stuck-beside: %s failed\n", what);
    exit(1);
}

/* ---- what waits for the disk ----------------------------------------------------------------------- */

static void append_there(void)
{
    twinlog_append(stuck, "x", 1, NULL);
}

static void open_consumer_there(void)
{
    struct twinlog_consumer *consumer;

    if (twinlog_consumer_open(stuck_path, "new", NULL, &consumer) == 0)
        twinlog_consumer_close(consumer);
}

static void open_reader_there(void)
{
    const struct twinlog_reader_options mapping = { .size = sizeof(mapping), .flags = TWINLOG_READER_MMAP };
    struct twinlog_reader *reader;
    struct twinlog_record record;

    if (twinlog_reader_open(stuck_path, &mapping, &reader) == 0) {
        twinlog_reader_next(reader, &record);
        twinlog_reader_close(reader);
    }
}

static void close_reader_there(void)
{
    twinlog_reader_close(stuck_reader);
}

static void open_sink_there(void)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct twinlog_sink *sink;

    options.flags = TWINLOG_SINK_MAPPED;
    if (twinlog_sink_open(sink_path, &options, &sink) == 0)
        twinlog_sink_close(sink);
}

static void (*const waiting[])(void) = { append_there, open_consumer_there, open_reader_there,
                                         close_reader_there, open_sink_there };
#define WAITING (sizeof(waiting) / sizeof(waiting[0]))

static void *wait_there(void *context)
{
    (*(void (*const *)(void))context)();
    return NULL;
}

/* ---- what goes on ---------------------------------------------------------------------------------- */

static bool append_in_time(void)
{
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    terms.deadline_ns = twinlog_deadline(DEADLINE_MS);
    const int result = twinlog_append_batch(healthy, &entry, 1, &terms, NULL);
    return result == 0 || result == -ETIMEDOUT;
}

static bool append_if_there_is_room(void)
{
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    terms.flags = TWINLOG_TRY;
    const int result = twinlog_append_batch(healthy, &entry, 1, &terms, NULL);
    return result == 0 || result == -EAGAIN;
}

static bool append_here(void)
{
    return twinlog_append(healthy, "x", 1, NULL) == 0;
}

static bool open_reader_here(void)
{
    struct twinlog_reader *reader;

    if (twinlog_reader_open(healthy_path, NULL, &reader) < 0)
        return false;
    twinlog_reader_close(reader);
    return true;
}

static bool stat_here(void)
{
    struct twinlog_stat stat = { .size = sizeof(stat) };

    return twinlog_stat(healthy, &stat) == 0;
}

static pid_t child;

/* The child closes the files there before it goes on, so it waits where a close() does. This process does not. */
static bool fork_here(void)
{
    child = fork();
    if (child == 0)
        _exit(0);
    return child > 0;
}

static bool has_child_ended_well(void)
{
    int status = -1;

    return waitpid(child, &status, 0) == child && status == 0;
}

static const struct call {
    const char *name;
    bool (*make)(void);
} calls[] = {
    { "an append with a deadline", append_in_time },
    { "an append that only tries", append_if_there_is_room },
    { "an append", append_here },
    { "opening a reader", open_reader_here },
    { "stat", stat_here },
    { "fork()", fork_here },
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* As in another process: it was opened by the name of the log. */
static bool wait_in_time(void)
{
    return twinlog_reader_wait(following_reader, DEADLINE_MS) == 0;
}

static const struct call wait_of_reader = { "a reader that waits with a limit", wait_in_time };

/* Where close() needs no answer of the disk, the child needs none either. */
static const struct call end_of_child = { "the end of the child", has_child_ended_well };

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool goes_on(const struct call *call)
{
    const double began = now();
    const bool is_right = call->make();
    const double took = now() - began;

    if (!is_right || took > MOST_SECONDS)
        printf("%s beside a disk that does not answer: %s after %.1f s\n", call->name,
               is_right ? "done" : "failed", took);
    return is_right && took <= MOST_SECONDS;
}

/* ---- the test -------------------------------------------------------------------------------------- */

static void open_logs(void)
{
    const char *parent = getenv("TMPDIR");
    struct twinlog_record record;

    snprintf(place, sizeof(place), "%s/beside.XXXXXX", parent ? parent : "/tmp");
    must(mkdtemp(place) != NULL, "mkdtemp");
    snprintf(healthy_path, sizeof(healthy_path), "%s/log", place);
    snprintf(stuck_path, sizeof(stuck_path), "%s/log", stuck_disk_path());
    snprintf(sink_path, sizeof(sink_path), "%s/sink", stuck_disk_path());
    must(twinlog_open(healthy_path, NULL, &healthy) == 0, "opening the log here");
    must(twinlog_open(stuck_path, NULL, &stuck) == 0, "opening the log there");
    must(twinlog_append(stuck, "x", 1, NULL) == 0, "an append there");
    must(twinlog_reader_open(stuck_path, NULL, &stuck_reader) == 0, "a reader there");
    must(twinlog_reader_next(stuck_reader, &record) == 1, "reading there");
    must(twinlog_reader_open(stuck_path, NULL, &following_reader) == 0, "another reader there");
    must(twinlog_reader_next(following_reader, &record) == 1, "reading there, too");
}

static void remove_place(void)
{
    char command[400];

    snprintf(command, sizeof(command), "rm -r '%s'", place);
    (void)!system(command);
}

int main(int argc, char **argv)
{
    const enum stuck_kind kind = argc > 1 && strcmp(argv[1], "fuse") == 0 ? STUCK_FUSE : STUCK_EXT4;
    const char *missing = stuck_disk_mount(kind);
    const struct timespec moment = { .tv_nsec = 200000000 };
    pthread_t threads[WAITING];
    bool is_right = true;

    if (missing) {
        printf("SKIP stuck-beside: %s\n", missing);
        return 77;
    }
    open_logs();
    stuck_disk_stop();
    for (size_t i = 0; i < WAITING; i++)
        must(pthread_create(&threads[i], NULL, wait_there, (void *)(uintptr_t)&waiting[i]) == 0, "a thread");
    nanosleep(&moment, NULL); /* they wait by now; if not, this test sees less */
    for (size_t i = 0; i < CALLS; i++)
        is_right = goes_on(&calls[i]) && is_right;
    if (kind == STUCK_EXT4) { /* a disk that answers no reading is another thing */
        is_right = goes_on(&wait_of_reader) && is_right;
        is_right = goes_on(&end_of_child) && is_right;
    }
    stuck_disk_go_on();
    if (kind == STUCK_FUSE)
        must(has_child_ended_well(), "the child");
    for (size_t i = 0; i < WAITING; i++)
        pthread_join(threads[i], NULL);
    twinlog_reader_close(following_reader);
    must(twinlog_close(stuck) == 0, "closing the log there");
    must(twinlog_close(healthy) == 0, "closing the log here");
    stuck_disk_unmount();
    remove_place();
    return is_right ? 0 : 1;
}
