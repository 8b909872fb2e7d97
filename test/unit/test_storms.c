/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may happen to a thread in the middle of a call: signals all the time, a cancellation, the death of the process
 * by a bad pointer, an exit() elsewhere. None of it loses what was acknowledged or leaves others waiting.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define SUITE_NAME "storms"
#define KIB 1024u

static const struct twinlog_terms written = { sizeof(written), 0, TWINLOG_LEVEL_WRITTEN, 0, 0, NULL };

static _Atomic unsigned signals;

static void count_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

/* One of each kind of call; the number of records, or the error. */
static int call_each(struct twinlog *log, struct twinlog_queue *queue)
{
    static const unsigned char bytes[3000];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) }, room = { .size = 2000 };
    const struct twinlog_entry batch[2] = { entry, entry };
    struct twinlog_request request = { .queue = queue }, *fetched;
    struct twinlog_reservation place;
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    uint64_t lsn;
    int rc = twinlog_append(log, bytes, sizeof(bytes), NULL);

    terms.deadline_ns = twinlog_deadline(60000);
    if (rc == 0)
        rc = twinlog_append_batch(log, batch, 2, &written, NULL);
    if (rc == 0)
        rc = twinlog_append_batch(log, batch, 2, &terms, NULL);
    if (rc == 0)
        rc = twinlog_enqueue(log, bytes, 100, &lsn);
    if (rc == 0)
        rc = twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, terms.deadline_ns);
    if (rc == 0)
        rc = twinlog_reserve(log, &room, &terms, &place);
    if (rc == 0)
        rc = twinlog_reservation_commit(log, &place, &written);
    if (rc == 0)
        rc = twinlog_sync(log);
    if (rc == 0)
        rc = twinlog_submit(log, &entry, 1, NULL, &request);
    if (rc == 0 && twinlog_queue_poll(queue, &fetched, 1, -1) != 1)
        rc = -EIO;
    return rc < 0 ? rc : request.result < 0 ? request.result : 8;
}

START_WAYS_TEST(signals_interrupt_no_call)
{
    const struct itimerval often = { { 0, 400 }, { 0, 400 } }, never = { { 0, 0 }, { 0, 0 } };
    struct sigaction action = { .sa_handler = count_signal }, before;
    struct twinlog_queue *queue;
    struct twinlog *log;
    uint64_t records = 0;

    options.buffer_bytes = 16 * KIB;
    options.segment_bytes = 128 * KIB;
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    ck_assert_int_ge(twinlog_queue_fd(queue), 0);
    atomic_store(&signals, 0);
    sigaction(SIGALRM, &action, &before); /* without SA_RESTART */
    setitimer(ITIMER_REAL, &often, NULL);
    int rc = twinlog_open(log_dir, &options, &log);
    for (unsigned i = 0; rc >= 0 && (i < 10 || atomic_load(&signals) < 30); i++) {
        rc = call_each(log, queue);
        records += 8;
    }
    if (rc >= 0)
        rc = twinlog_close(log);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    uint64_t verified = 0;
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
    ck_assert_uint_eq(verified, records);
}
END_WAYS_TEST

/* ---- cancellation of a thread -------------------------------------------------------------------- */

struct victim {
    pthread_t thread;
    struct twinlog *log;
    struct twinlog_queue *queue;
    _Atomic uint64_t calls;
    int error;
};

static void *call_until_canceled(void *argument)
{
    struct victim *victim = argument;

    while (victim->error == 0) {
        int rc = call_each(victim->log, victim->queue);

        victim->error = rc < 0 ? rc : 0;
        atomic_fetch_add(&victim->calls, 1);
        pthread_testcancel();
    }
    return NULL;
}

/* It ends between two calls. */
START_WAYS_TEST(a_thread_is_not_canceled_inside_a_call)
{
    struct twinlog *log;

    options.buffer_bytes = 16 * KIB;
    log = log_open(&options);
    for (unsigned i = 0; i < 10; i++) {
        struct victim victims[2];
        void *result;

        for (unsigned j = 0; j < 2; j++) {
            victims[j] = (struct victim){ .log = log };
            ck_assert_int_eq(twinlog_queue_open(&victims[j].queue), 0);
            ck_assert_int_ge(twinlog_queue_fd(victims[j].queue), 0);
            ck_assert_int_eq(pthread_create(&victims[j].thread, NULL, call_until_canceled, &victims[j]), 0);
        }
        AWAIT(atomic_load(&victims[i % 2].calls) > 0);
        for (unsigned j = 0; j < 2; j++)
            pthread_cancel(victims[j].thread);
        for (unsigned j = 0; j < 2; j++) {
            pthread_join(victims[j].thread, &result);
            ck_assert_ptr_eq(result, PTHREAD_CANCELED);
            ck_assert_int_eq(victims[j].error, 0);
            ck_assert_int_eq(twinlog_queue_close(victims[j].queue), 0); /* nothing was left in it */
        }
        ck_assert_int_eq(twinlog_append(log, "goes on", 7, NULL), 0);
    }
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}
END_WAYS_TEST

/* ---- the end of the process ---------------------------------------------------------------------- */

static struct twinlog_options child_options;
static struct twinlog *child_log;
static _Atomic uint64_t *acknowledged; /* shared with the child: how many of each writer's records */

#define CHILD_WRITERS 4u

static void *append_acknowledged(void *argument)
{
    const uint32_t writer = *(const uint32_t *)argument;

    for (uint32_t i = 0; append_record(child_log, writer, i, NULL) == 0; i++)
        atomic_store(&acknowledged[writer], i + 1);
    return NULL;
}

static bool has_begun(void)
{
    for (unsigned i = 0; i < CHILD_WRITERS; i++)
        if (atomic_load(&acknowledged[i]) < 5)
            return false;
    return true;
}

static int start_writers(void)
{
    static uint32_t numbers[CHILD_WRITERS];
    uint64_t began_ns = 0;

    EXPECT(twinlog_open(log_dir, &child_options, &child_log) == 0);
    for (uint32_t i = 0; i < CHILD_WRITERS; i++) {
        pthread_t thread;

        numbers[i] = i;
        EXPECT(pthread_create(&thread, NULL, append_acknowledged, &numbers[i]) == 0);
    }
    while (!has_begun())
        EXPECT(still_in_time(&began_ns));
    return 0;
}

/* The copy faults with its place taken, in the middle of a group that others are in. */
static int append_from_nowhere(void)
{
    struct sigaction action = { .sa_handler = SIG_DFL };
    unsigned char *bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    sigaction(SIGSEGV, &action, NULL); /* a sanitizer's would say that it is an error */
    EXPECT(bytes != MAP_FAILED && mprotect(bytes + 4096, 4096, PROT_NONE) == 0);
    EXPECT(start_writers() == 0);
    twinlog_append(child_log, bytes + 1000, 5000, NULL);
    return 1;
}

static int exit_in_between(void)
{
    EXPECT(start_writers() == 0);
    exit(7);
}

START_WAYS_TEST(what_was_acknowledged_survives_the_end_of_the_process)
{
    struct tally tally;

    child_options = options;
    acknowledged = shared_page();
    for (unsigned i = 0; i < 2; i++) {
        int status = run_child(i ? exit_in_between : append_from_nowhere);

        ck_assert_int_eq(status, i ? 7 : 128 + SIGSEGV);
        log_close(log_open(&options));
        tally = log_check();
        for (unsigned j = 0; j < CHILD_WRITERS; j++) {
            ck_assert_uint_ge(tally.next[j], atomic_load(&acknowledged[j]));
            atomic_store(&acknowledged[j], 0);
        }
        logdir_remove();
        logdir_make();
    }
    munmap(acknowledged, 4096);
}
END_WAYS_TEST

/* ---- suite --------------------------------------------------------------------------------------- */

Suite *storms_suite(void)
{
    Suite *suite = suite_create(SUITE_NAME);
    TCase *tests = logdir_case(suite, "in the middle of a call", logdir_make);

    tcase_add_loop_test(tests, signals_interrupt_no_call, 0, LOG_IO_KINDS);
    tcase_add_loop_test(tests, a_thread_is_not_canceled_inside_a_call, 0, LOG_IO_KINDS);
    tcase_add_loop_test(tests, what_was_acknowledged_survives_the_end_of_the_process, 0, LOG_IO_KINDS);
    return suite;
}
