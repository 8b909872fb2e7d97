/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-allocations: an append allocates nothing, on any path, also where it goes on in the next segment,
 * as long as that was prepared in time. And every call can do without any one of the allocations that it makes
 * (allocations_fail.c).
 */
#define _GNU_SOURCE
#include "allocator.h"
#include "kill.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <twinlog_admin.h>
#include <unistd.h>

#define THREADS 4u
#define APPENDS 150u
#define RECORD_BYTES 2000u
#define SEGMENT_BYTES (UINT64_C(8) << 20)
#define PATIENCE_S 30

/* ---- a log on one path ------------------------------------------------------------------------- */

static struct twinlog *log_handle;
static _Atomic int append_error;

static void *append_records(void *argument)
{
    static const char record[RECORD_BYTES];

    (void)argument;
    allocator_count(true);
    for (unsigned i = 0; i < APPENDS && atomic_load(&append_error) == 0; i++) {
        uint64_t lsn;
        int result = twinlog_append(log_handle, record, sizeof(record), &lsn);

        if (result == 0 && i % 8 == 0)
            result = twinlog_enqueue(log_handle, record, sizeof(record), &lsn);
        if (result == 0 && i % 16 == 0)
            result = twinlog_wait(log_handle, lsn, TWINLOG_LEVEL_DURABLE, 0);
        if (result == 0 && i % 64 == 0)
            result = twinlog_sync(log_handle);
        if (result < 0)
            atomic_store(&append_error, result);
    }
    allocator_count(false);
    return NULL;
}

static int run_threads(void)
{
    pthread_t threads[THREADS];
    unsigned started = 0;

    while (started < THREADS && pthread_create(&threads[started], NULL, append_records, NULL) == 0)
        started++;
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return started == THREADS ? atomic_load(&append_error) : -EAGAIN;
}

/* So that no append has to make a segment itself. */
static int await_spare(struct twinlog_stat *stat)
{
    const time_t began = time(NULL);

    do {
        const int result = twinlog_stat(log_handle, stat);

        if (result < 0)
            return result;
        sched_yield();
    } while (stat->spare_segments == 0 && time(NULL) - began < PATIENCE_S);
    return stat->spare_segments > 0 ? 0 : -ETIMEDOUT;
}

static int append_on(const struct twinlog_options *options, uint64_t *ret_opening, struct twinlog_stat *stat)
{
    int result, closed;

    allocator_take_count();
    allocator_count(true);
    result = twinlog_open(place.log, options, &log_handle);
    allocator_count(false);
    *ret_opening = allocator_take_count();
    if (result < 0)
        return result;
    result = await_spare(stat);
    if (result == 0)
        result = run_threads();
    if (result == 0)
        result = twinlog_stat(log_handle, stat);
    closed = twinlog_close(log_handle);
    return result < 0 ? result : closed;
}

/* 0, 1, or 77 where there is no such path. */
static int try_path(enum twinlog_io io, const char *name, bool is_buffered)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    uint64_t opening, allocations;
    int result;

    options.io = io;
    options.flags = is_buffered ? TWINLOG_BUFFERED : 0;
    options.segment_bytes = SEGMENT_BYTES;
    options.spare_segments = 1;
    result = append_on(&options, &opening, &stat);
    allocations = allocator_take_count();
    remove_directory(place.log);
    if (result == -ENOTSUP) {
        printf("SKIP crash-allocations %s, %s: %s\n", name, is_buffered ? "buffered" : "direct",
               twinlog_strerror(result));
        return 77;
    }
    if (result < 0) {
        printf("%s, %s: %s\n", name, is_buffered ? "buffered" : "direct", twinlog_strerror(result));
        return 1;
    }
    printf("%s, %s: %llu appends, %llu rolls, %llu of them waited, %llu allocations; %llu while opening\n",
           name, is_buffered ? "buffered" : "direct", (unsigned long long)stat.appends,
           (unsigned long long)stat.rolls, (unsigned long long)stat.roll_waits,
           (unsigned long long)allocations, (unsigned long long)opening);
    return allocations > 0 || opening == 0 || stat.rolls == 0 || stat.roll_waits > 0;
}

int main(void)
{
    static const char *const names[] = { NULL, "uring", "uring-linked", "dsync", "fdatasync" };
    int passed = 0, failed = 0;

    place.program = "crash-allocations";
    make_place(NULL);
    for (int io = TWINLOG_IO_URING; io <= TWINLOG_IO_FDATASYNC; io++)
        for (int is_buffered = 0; is_buffered < 2; is_buffered++) {
            const int result = try_path((enum twinlog_io)io, names[io], is_buffered);

            passed += result == 0;
            failed += result == 1;
        }
    remove_place();
    /* thousands of logs, and no disk has a say in it: in memory, where there is some to write to */
    make_place(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NULL);
    failed += !fail_allocations();
    remove_place();
    if (failed > 0)
        return 1;
    return passed > 0 ? 0 : 77;
}
