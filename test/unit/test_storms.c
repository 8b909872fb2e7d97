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
#include "read/follower.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define KIB 1024u

static const struct twinlog_terms hasty = { sizeof(hasty), TWINLOG_TRY, TWINLOG_LEVEL_WRITTEN, 0, 0, NULL };

static _Atomic unsigned signals;

static void count_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

/* There may be news of other threads' truncations. */
static int fetch_one(struct twinlog_queue *queue, struct twinlog_request **ret_request)
{
    int count = 0;

    while (count == 0)
        count = twinlog_queue_poll(queue, ret_request, 1, -1);
    return count == 1 ? 0 : -EIO;
}

static int append_hastily(struct twinlog *log, const struct twinlog_entry batch[2])
{
    int rc;
    while ((rc = twinlog_append_batch(log, batch, 2, &hasty, NULL)) == -EAGAIN)
        sched_yield(); /* a truncation goes on, or there is no room */
    return rc;
}

/* One of each kind of call; the number of records, or the error. */
static int call_each(struct twinlog *log, struct twinlog_queue *queue)
{
    static const unsigned char bytes[3000];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    const struct twinlog_entry batch[2] = { entry, entry };
    const struct twinlog_trim_options nothing = WITH_SIZE(trim_options, .keep_records = UINT64_C(1) << 40);
    struct twinlog_request request = { .queue = queue }, *fetched;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    uint64_t lsn;
    int rc = twinlog_append(log, bytes, sizeof(bytes), NULL);
    const struct twinlog_terms terms = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(60000));

    if (rc == 0)
        rc = append_hastily(log, batch);
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
    if (rc == 0)
        rc = fetch_one(queue, &fetched);
    if (rc == 0)
        rc = twinlog_trim(log, &nothing, NULL);
    if (rc == 0)
        rc = twinlog_truncate(log, UINT64_MAX - 1);
    if (rc == 0)
        rc = twinlog_meta_set(log, "name", bytes, 4);
    if (rc == 0)
        rc = twinlog_stat(log, &stat);
    return rc < 0 ? rc : request.result < 0 ? request.result : 7;
}

CASE("in the middle of a call", logdir_make, logdir_remove);

/* `sa_flags`: of the handler. */
static void storm_with_signals(struct twinlog_options options, int sa_flags)
{
    const struct itimerval often = { { 0, 400 }, { 0, 400 } }, never = { { 0, 0 }, { 0, 0 } };
    const struct sigaction action = { .sa_handler = count_signal, .sa_flags = sa_flags };
    struct sigaction before;
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

WAYS_TEST(signals_interrupt_no_call, LOG_IO_KINDS)
{
    storm_with_signals(options, 0);
}

WAYS_TEST(signals_that_restart_calls_interrupt_none, LOG_IO_KINDS)
{
    storm_with_signals(options, SA_RESTART);
}

/* ---- cancellation of a thread -------------------------------------------------------------------- */

#define VICTIMS 2u

struct victim {
    pthread_t thread;
    struct twinlog *log;
    struct twinlog_queue *queue;
    int result;
    _Atomic bool is_whole;
};

/* A thread with a cancellation pending ends at the first cancellation point where that is not disabled. The records
 * fill the buffers and segments many times, so a call waits for room, leads, makes segments and completes requests; and
 * truncations hold up the calls. */
__attribute__((noinline)) static void call_canceled(struct victim *victim)
{
    pthread_cancel(pthread_self());
    for (unsigned i = 0; i < 20 && victim->result >= 0; i++)
        victim->result = call_each(victim->log, victim->queue);
    atomic_store(&victim->is_whole, true);
}

/* Ends in a frame without variables (so the other one is not inlined): the address sanitizer takes those that a
 * cancellation leaves for the next ones. */
static void *call_and_end(void *victim)
{
    call_canceled(victim);
    pthread_testcancel();
    return NULL;
}

WAYS_TEST(a_pending_cancellation_ends_no_call, LOG_WAYS)
{
    static struct victim victims[VICTIMS];
    void *result;

    options.buffer_bytes = 16 * KIB;
    options.segment_bytes = 128 * KIB;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < VICTIMS; i++) {
        victims[i] = (struct victim){ .log = log };
        ck_assert_int_eq(twinlog_queue_open(&victims[i].queue), 0);
        ck_assert_int_ge(twinlog_queue_fd(victims[i].queue), 0);
        victims[i].thread = start_thread(call_and_end, &victims[i]);
    }
    for (unsigned i = 0; i < VICTIMS; i++) {
        pthread_join(victims[i].thread, &result);
        ck_assert_ptr_eq(result, PTHREAD_CANCELED);
        ck_assert(atomic_load(&victims[i].is_whole));
        ck_assert_int_eq(victims[i].result, 7);
        ck_assert_int_eq(twinlog_queue_close(victims[i].queue), 0); /* nothing was left in it */
    }
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

static struct {
    struct child_file file;
    int fd;
    struct follower *follower;
    _Atomic bool is_whole;
} ending;

/* It has nothing on its stack, as AddressSanitizer takes what a thread that is cancelled had there for poisoned. */
static void *end_a_reader(void *argument)
{
    static const struct interest nothing;

    (void)argument;
    pthread_cancel(pthread_self());
    twl_child_open(&ending.file, &ending.fd, AT_FDCWD, log_dir, O_RDONLY, 0);
    twl_follower_tell(ending.follower);
    twl_follower_arm(ending.follower, &nothing);
    atomic_store(&ending.is_whole, true);
    pthread_testcancel();
    return NULL;
}

/* The calls of readers may end a thread, but it holds no lock then, for which others would wait for ever. */
TEST(no_thread_ends_with_a_lock)
{
    log_close(log_open(NULL));
    struct io *io = log_io(true);
    ck_assert_int_eq(twl_follower_create(io, NULL, &ending.follower), 0);
    pthread_join(start_thread(end_a_reader, NULL), NULL);
    ck_assert(atomic_load(&ending.is_whole));
    twl_child_unregister(&ending.file);
    close(ending.fd);
    twl_follower_destroy(ending.follower);
    io->ops->destroy(io);
}

static struct {
    struct io *io[3];
    struct twinlog *log;
    struct twinlog_reader *reader;
    struct twinlog_consumer *consumer;
    struct twinlog_queue *queue;
    struct twinlog_committer *committer;
    int error;
} opening;

static int close_committer(void)
{
    const int rc = twinlog_committer_open(NULL, &opening.committer);

    return rc < 0 ? rc : twinlog_committer_close(opening.committer);
}

static void *open_and_close(void *argument CK_ATTRIBUTE_UNUSED)
{
    static const struct twinlog_consumer_options consuming = TWINLOG_CONSUMER_OPTIONS_INIT;
    static const struct twinlog_trim_options trim = { .size = sizeof(trim), .before_lsn = 1 };

    pthread_cancel(pthread_self());
    opening.error = twl_log_open(opening.io[0], NULL, &opening.log);
    (void)twl_ask_trim(opening.io[1], &trim, 0, NULL);
    opening.error |= twl_consumer_open(opening.io[2], "one", &consuming, &opening.consumer);
    opening.error |= twinlog_append(opening.log, "x", 1, NULL);
    opening.error |= twinlog_reader_attach(opening.log, NULL, &opening.reader);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    opening.error |= twinlog_reader_wait(opening.reader, 0) != 1;
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
    twinlog_reader_close(opening.reader);
    twinlog_consumer_close(opening.consumer);
    opening.error |= twinlog_queue_open(&opening.queue);
    (void)twinlog_queue_fd(opening.queue);
    opening.error |= twinlog_queue_listen(opening.queue, opening.log) | close_committer();
    opening.error |= twinlog_close(opening.log);
    return twinlog_queue_close(opening.queue) | opening.error ? NULL : &opening;
}

static struct {
    struct twinlog_reader *reader;
    _Atomic bool is_whole;
} looking;

static int ignore_segment(void *context CK_ATTRIBUTE_UNUSED,
                          const struct twinlog_segment *segment CK_ATTRIBUTE_UNUSED)
{
    return 0;
}

static void *look_and_end(void *argument CK_ATTRIBUTE_UNUSED)
{
    static struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    static struct twinlog_stat stat = TWINLOG_STAT_INIT;

    pthread_cancel(pthread_self());
    (void)twinlog_reader_open(log_dir, NULL, &looking.reader);
    (void)twinlog_inspect(log_dir, &inspection);
    (void)twinlog_watch(log_dir, &stat, NULL);
    (void)twinlog_verify(log_dir, NULL, NULL);
    (void)twinlog_segments(log_dir, ignore_segment, NULL);
    atomic_store(&looking.is_whole, true);
    pthread_testcancel();
    return NULL;
}

/* Their descriptors would stay open. */
TEST(no_thread_ends_while_it_looks_at_a_log)
{
    log_close(log_open(NULL));
    pthread_join(start_thread(look_and_end, NULL), NULL);
    ck_assert(atomic_load(&looking.is_whole));
    twinlog_reader_close(looking.reader);
}

/* Locks of a log, of the state file, of a name and of a queue would stay, and a log would have a reader for ever. */
TEST(no_thread_ends_while_it_opens_or_closes)
{
    void *result;

    ck_assert_int_eq(mkdir(log_dir, 0755), 0);
    for (unsigned i = 0; i < 3; i++)
        opening.io[i] = log_io(true);
    pthread_join(start_thread(open_and_close, NULL), &result);
    ck_assert_ptr_eq(result, &opening);
}

/* ---- a close beside all others ------------------------------------------------------------------- */

#define CALLERS 16u
#define ROUNDS 3u

static struct {
    struct twinlog *log;
    _Atomic uint64_t accepted;
    _Atomic unsigned about_to_end, ended; /* threads */
    _Atomic bool may_end;
    _Atomic int error;
} storm;

static void note_call(int rc)
{
    if (rc >= 0)
        atomic_fetch_add(&storm.accepted, (uint64_t)rc);
    else if (rc != -ESHUTDOWN)
        atomic_store(&storm.error, rc);
}

/* Still goes on when the close begins. The number of records, or the error. */
static int call_at_the_end(unsigned kind)
{
    const struct twinlog_entry batch[2] = { { .data = "one", .size = 3 }, { .data = "two", .size = 3 } };
    const struct twinlog_terms terms = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(60000));
    const unsigned records = kind % 3;
    if (records == 0)
        return twinlog_sync(storm.log);
    const int rc = records == 1 ? twinlog_append(storm.log, "x", 1, NULL)
                                : twinlog_append_batch(storm.log, batch, 2, &terms, NULL);
    return rc < 0 ? rc : (int)records;
}

static void *call_all(void *argument)
{
    const unsigned number = *(const unsigned *)argument;
    struct twinlog_queue *queue = NULL;
    struct twinlog_reader *reader = NULL;

    note_call(twinlog_reader_attach(storm.log, NULL, &reader));
    twinlog_reader_close(reader);
    note_call(twinlog_queue_open(&queue));
    note_call(call_each(storm.log, queue));
    atomic_fetch_add(&storm.about_to_end, 1);
    while (!atomic_load(&storm.may_end))
        sched_yield();
    note_call(call_at_the_end(number));
    atomic_fetch_add(&storm.ended, 1);
    note_call(twinlog_queue_close(queue));
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

    return inside % INSIDE_OTHER + OTHERS_IN(inside);
}

CASE("a close", gate_set_up, logdir_remove);

/* The write of one of them waits, with it all others, until the close has begun. No call begins behind it. */
static void close_beside_calls(const struct twinlog_options *options)
{
    static unsigned numbers[CALLERS];
    pthread_t threads[CALLERS];
    uint64_t verified = 0;

    atomic_store(&storm.about_to_end, 0);
    atomic_store(&storm.ended, 0);
    atomic_store(&storm.may_end, false);
    storm.log = gate_log(options);
    for (unsigned i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        threads[i] = start_thread(call_all, &numbers[i]);
    }
    AWAIT(atomic_load(&storm.about_to_end) == CALLERS);

    gate_shut();
    atomic_store(&storm.may_end, true);
    AWAIT(count_inside() + atomic_load(&storm.ended) == CALLERS);
    const pthread_t closer = start_thread(close_log, NULL);
    AWAIT(atomic_load(&storm.ended) == CALLERS || (atomic_load(&storm.log->inside) & CLOSING));
    gate_open();
    pthread_join(closer, NULL);
    for (unsigned i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);

    ck_assert_int_eq(atomic_load(&storm.error), 0);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
    ck_assert_uint_eq(verified, atomic_load(&storm.accepted));
}

static const struct {
    const char *name;
    uint32_t io, flags, flush_interval_ms;
} closes[] = {
    { "auto", TWINLOG_IO_AUTO, 0, 0 },
    { "uring, buffered, flushed every millisecond", TWINLOG_IO_URING, TWINLOG_BUFFERED, 1 },
    { "uring-linked, padded", TWINLOG_IO_URING_LINKED, TWINLOG_PAD, 0 },
    { "dsync, buffered, padded, flushed every millisecond", TWINLOG_IO_DSYNC, TWINLOG_BUFFERED | TWINLOG_PAD,
      1 },
    { "fdatasync", TWINLOG_IO_FDATASYNC, 0, 0 },
};

TEST_EACH(a_close_lets_everybody_finish, closes)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.io = row->io, .flags = row->flags, .flush_interval_ms = row->flush_interval_ms,
                    .buffer_bytes = 16 * KIB, .segment_bytes = 128 * KIB);

    if (!log_can_use("a_close_lets_everybody_finish", row->io, row->flags))
        return;
    atomic_store(&storm.accepted, 0);
    atomic_store(&storm.error, 0);
    for (unsigned round = 0; round < ROUNDS; round++)
        close_beside_calls(&options);
}
