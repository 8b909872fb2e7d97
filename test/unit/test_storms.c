/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may happen to a thread in the middle of a call: signals all the time, a cancellation, a close elsewhere. None of
 * it loses what was acknowledged or leaves others waiting.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "hooked.h"
#include "log/handle.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

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
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    const struct twinlog_entry batch[2] = { entry, entry };
    struct twinlog_request request = { .queue = queue }, *fetched;
    uint64_t lsn;
    int rc = twinlog_append(log, bytes, sizeof(bytes), NULL);
    const struct twinlog_terms terms = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(60000));

    if (rc == 0)
        rc = twinlog_append_batch(log, batch, 2, &written, NULL);
    if (rc == 0)
        rc = twinlog_append_batch(log, batch, 2, &terms, NULL);
    if (rc == 0)
        rc = twinlog_enqueue(log, bytes, 100, &lsn);
    if (rc == 0)
        rc = twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, terms.deadline_ns);
    if (rc == 0)
        rc = twinlog_sync(log);
    if (rc == 0)
        rc = twinlog_submit(log, &entry, 1, NULL, &request);
    if (rc == 0 && twinlog_queue_poll(queue, &fetched, 1, -1) != 1)
        rc = -EIO;
    return rc < 0 ? rc : request.result < 0 ? request.result : 7;
}

CASE("in the middle of a call", logdir_make, logdir_remove);

WAYS_TEST(signals_interrupt_no_call, 2 * LOG_IO_KINDS)
{
    const struct itimerval often = { { 0, 400 }, { 0, 400 } }, never = { { 0, 0 }, { 0, 0 } };
    struct sigaction action = { .sa_handler = count_signal, .sa_flags = _i < LOG_IO_KINDS ? 0 : SA_RESTART },
                     before;
    struct twinlog_queue *queue;
    struct twinlog *log;
    uint64_t records = 0;

    options.buffer_bytes = 16 * KIB;
    options.segment_bytes = 128 * KIB;
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    ck_assert_int_ge(twinlog_queue_fd(queue), 0);
    atomic_store(&signals, 0);
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    int rc = twinlog_open(log_dir, &options, &log);
    for (unsigned i = 0; rc >= 0 && (i < 10 || atomic_load(&signals) < 30); i++) {
        rc = call_each(log, queue);
        records += 7;
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
WAYS_TEST(a_thread_is_not_canceled_inside_a_call, LOG_IO_KINDS)
{
    options.buffer_bytes = 16 * KIB;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 10; i++) {
        struct victim victims[2];
        void *result;

        for (unsigned j = 0; j < 2; j++) {
            victims[j] = (struct victim){ .log = log };
            ck_assert_int_eq(twinlog_queue_open(&victims[j].queue), 0);
            ck_assert_int_ge(twinlog_queue_fd(victims[j].queue), 0);
            victims[j].thread = start_thread(call_until_canceled, &victims[j]);
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

/* A thread with a cancellation pending ends at the first cancellation point where that is not disabled. */
#define BURST 300u

struct burst {
    struct twinlog *log;
    struct twinlog_queue *queue;
    struct twinlog_request requests[BURST];
    int error;
    _Atomic bool is_whole;
};

/* The records fill the buffers and segments many times, so a call waits for room, leads, makes segments and completes
 * requests. */
__attribute__((noinline)) static void submit_canceled(struct burst *burst)
{
    static const unsigned char bytes[3000];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    const struct twinlog_terms hasty = WITH_SIZE(terms, .flags = TWINLOG_TRY);

    pthread_cancel(pthread_self());
    for (unsigned i = 0; i < BURST && burst->error == 0; i++) {
        struct twinlog_request *request = &burst->requests[i];
        *request = (struct twinlog_request){ .queue = burst->queue };
        burst->error = twinlog_submit(burst->log, &entry, 1, i % 3 ? NULL : &hasty, request);
        if (burst->error == -EAGAIN)
            burst->error = twinlog_submit(burst->log, &entry, 1, NULL, request);
    }
    atomic_store(&burst->is_whole, true);
}

/* Ends in a frame without variables (so the other one is not inlined): the address sanitizer takes those that a
 * cancellation leaves for the next ones. */
static void *submit_and_end(void *burst)
{
    submit_canceled(burst);
    pthread_testcancel();
    return NULL;
}

/* Meanwhile each truncation holds up the calls. */
WAYS_TEST(a_pending_cancellation_ends_no_request, LOG_WAYS)
{
    static struct burst burst;
    struct twinlog_request *fetched[BURST];
    unsigned queued = 0;
    void *result;

    options.buffer_bytes = 16 * KIB;
    options.segment_bytes = 128 * KIB;
    burst = (struct burst){ .log = log_open(&options) };
    ck_assert_int_eq(twinlog_append(burst.log, "first", 5, NULL), 0);
    ck_assert_int_eq(twinlog_queue_open(&burst.queue), 0);
    ck_assert_int_ge(twinlog_queue_fd(burst.queue), 0);
    pthread_t thread = start_thread(submit_and_end, &burst);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(twinlog_truncate(burst.log, 1), 0);
    pthread_join(thread, &result);
    ck_assert_ptr_eq(result, PTHREAD_CANCELED);
    ck_assert(atomic_load(&burst.is_whole));
    ck_assert_int_eq(burst.error, 0);
    while (queued < BURST)
        queued += (unsigned)twinlog_queue_poll(burst.queue, fetched, BURST, -1);
    for (unsigned i = 0; i < BURST; i++)
        ck_assert_int_eq(burst.requests[i].result, 0);
    log_close(burst.log);
    ck_assert_int_eq(twinlog_queue_close(burst.queue), 0);
}

/* ---- a close beside all others ------------------------------------------------------------------- */

#define CALLERS 16u
#define ROUNDS 3u
#define KINDS_OF_CALL 12u

static struct {
    struct twinlog *log;
    struct twinlog_queue *queue;
    _Atomic uint64_t accepted, submitted;
    _Atomic unsigned about_to_end, ended; /* threads */
    _Atomic bool may_end;
    _Atomic int error;
} storm;

/* Records that it added, or an error. */
static int call_one(unsigned kind)
{
    static const unsigned char bytes[3000];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    const struct twinlog_entry batch[2] = { entry, entry };
    struct twinlog_trim_options nothing = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct twinlog_request *request;
    struct twinlog_reader *reader;
    int rc;

    switch (kind % KINDS_OF_CALL) {
    case 0:
    case 1:
        rc = twinlog_append(storm.log, bytes, kind * 7 % sizeof(bytes), NULL);
        return rc < 0 ? rc : 1;
    case 2:
        terms.deadline_ns = twinlog_deadline(60000);
        rc = twinlog_append_batch(storm.log, batch, 2, &terms, NULL);
        return rc < 0 ? rc : 2;
    case 3:
        return twinlog_sync(storm.log);
    case 4:
        return twinlog_wait(storm.log, twinlog_last_lsn(storm.log), TWINLOG_LEVEL_WRITTEN, 0);
    case 5:
        rc = twinlog_enqueue(storm.log, bytes, 100, NULL);
        return rc < 0 ? rc : 1;
    case 6:
        request = calloc(1, sizeof(*request));
        if (!request)
            return -ENOMEM;
        request->queue = storm.queue;
        rc = twinlog_submit(storm.log, &entry, 1, NULL, request);
        if (rc == 0)
            atomic_fetch_add(&storm.submitted, 1);
        else
            free(request);
        return rc < 0 ? rc : 1;
    case 7:
        rc = twinlog_append_batch(storm.log, batch, 2, &written, NULL);
        return rc < 0 ? rc : 2;
    case 8:
        nothing.keep_records = UINT64_C(1) << 40;
        return twinlog_trim(storm.log, &nothing, NULL);
    case 9:
        return twinlog_truncate(storm.log, UINT64_MAX - 1);
    case 10:
        rc = twinlog_meta_set(storm.log, "name", &kind, sizeof(kind));
        return rc < 0 ? rc : twinlog_stat(storm.log, &stat);
    default:
        rc = twinlog_reader_attach(storm.log, NULL, &reader);
        if (rc == 0)
            twinlog_reader_close(reader);
        return rc;
    }
}

static void note_call(int rc)
{
    if (rc >= 0)
        atomic_fetch_add(&storm.accepted, (uint64_t)rc);
    else if (rc != -ESHUTDOWN)
        atomic_store(&storm.error, rc);
}

/* All kinds of calls, and one more that still goes on when the close begins: an append, a batch with a deadline or a
 * sync. */
static void *call_all(void *argument)
{
    const unsigned number = *(const unsigned *)argument;

    for (unsigned i = 0; i < KINDS_OF_CALL; i++)
        note_call(call_one(number + i));
    atomic_fetch_add(&storm.about_to_end, 1);
    while (!atomic_load(&storm.may_end))
        sched_yield();
    note_call(call_one(number % 3 + 1));
    atomic_fetch_add(&storm.ended, 1);
    return NULL;
}

static void *close_log(void *argument)
{
    (void)argument;
    note_call(twinlog_close(storm.log));
    return NULL;
}

/* Each of the calls that are left is counted once. */
static unsigned count_inside(void)
{
    const uint32_t inside = atomic_load(&storm.log->inside);

    return inside % INSIDE_OTHER + inside / INSIDE_OTHER % INSIDE_OTHER;
}

static void free_requests(void)
{
    struct twinlog_request *request;

    for (; atomic_load(&storm.submitted) > 0; atomic_fetch_sub(&storm.submitted, 1)) {
        ck_assert_int_eq(twinlog_queue_poll(storm.queue, &request, 1, 0), 1); /* all are completed */
        ck_assert_int_eq(request->result, 0);
        free(request);
    }
    ck_assert_int_eq(twinlog_queue_close(storm.queue), 0);
}

CASE("a close", gate_set_up, logdir_remove);

/* The write of one of them waits, with it all others, until the close has begun. No call begins behind it. */
WAYS_TEST(a_close_lets_everybody_finish, LOG_IO_KINDS)
{
    static unsigned numbers[CALLERS];
    pthread_t threads[CALLERS], closer;
    uint64_t verified = 0;

    options.buffer_bytes = 16 * KIB;
    options.segment_bytes = 128 * KIB;
    options.flush_interval_ms = _i % 2 ? 1 : 0;
    atomic_store(&storm.accepted, 0);
    atomic_store(&storm.error, 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        atomic_store(&storm.about_to_end, 0);
        atomic_store(&storm.ended, 0);
        atomic_store(&storm.may_end, false);
        storm.log = gate_log(&options);
        ck_assert_int_eq(twinlog_queue_open(&storm.queue), 0);
        for (unsigned i = 0; i < CALLERS; i++) {
            numbers[i] = i;
            threads[i] = start_thread(call_all, &numbers[i]);
        }
        AWAIT(atomic_load(&storm.about_to_end) == CALLERS);
        gate_shut();
        atomic_store(&storm.may_end, true);
        AWAIT(count_inside() + atomic_load(&storm.ended) == CALLERS);
        closer = start_thread(close_log, NULL);
        AWAIT(atomic_load(&storm.ended) == CALLERS || (atomic_load(&storm.log->inside) & CLOSING));
        gate_open();
        pthread_join(closer, NULL);
        for (unsigned i = 0; i < CALLERS; i++)
            pthread_join(threads[i], NULL);
        ck_assert_int_eq(atomic_load(&storm.error), 0);
        free_requests();
        ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
        ck_assert_uint_eq(verified, atomic_load(&storm.accepted));
    }
}

/* ---- an attach that is held inside while the log is closed ---------------------------------------- */

static struct {
    _Atomic bool is_held, may_go_on, is_closed;
    struct twinlog *log;
    struct twinlog_reader *reader;
    int attached, closed;
} beside;

static const struct io_ops *ops_beside;

/* Holds the thread that attaches to a log that is open for reading, which looks at the directory for itself. */
static int hold_again(struct io *io, struct io **ret_io)
{
    atomic_store(&beside.is_held, true);
    AWAIT(atomic_load(&beside.may_go_on));
    return ops_beside->again(io, ret_io);
}

static void *attach_beside(void *unused)
{
    (void)unused;
    beside.attached = twinlog_reader_attach(beside.log, NULL, &beside.reader);
    return NULL;
}

static void *close_beside(void *unused)
{
    (void)unused;
    beside.closed = twinlog_close(beside.log);
    atomic_store(&beside.is_closed, true);
    return NULL;
}

/* A reader would be left of a log that is gone. */
TEST(a_close_beside_an_attach_leaves_no_reader)
{
    const struct twinlog_options reading = WITH_SIZE(options, .flags = TWINLOG_READ_ONLY);
    struct twinlog_record record;
    struct twinlog *writer = log_open(NULL);
    ck_assert_int_eq(twinlog_append(writer, "x", 1, NULL), 0);
    ck_assert_int_eq(twinlog_close(writer), 0);
    memset(&beside, 0, sizeof(beside));
    struct io *io = log_io(true);
    static struct io_ops ops;
    ops_beside = io->ops;
    ops = *io->ops;
    ops.again = hold_again;
    beside.log = log_on(io, &reading);
    io->ops = &ops;
    pthread_t attaching = start_thread(attach_beside, NULL);
    AWAIT(atomic_load(&beside.is_held));
    pthread_t closing = start_thread(close_beside, NULL);
    AWAIT(atomic_load(&beside.is_closed) || (atomic_load(&beside.log->inside) & CLOSING));
    atomic_store(&beside.may_go_on, true);
    pthread_join(attaching, NULL);
    pthread_join(closing, NULL);
    ck_assert_int_eq(beside.closed, -EBUSY); /* the attach was first */
    ck_assert_int_eq(beside.attached, 0);
    ck_assert_int_eq(twinlog_reader_next(beside.reader, &record), 1);
    twinlog_reader_close(beside.reader);
    ck_assert_int_eq(twinlog_close(beside.log), 0);
}
