/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A committer without a thread. The tests are the loop: they look at the descriptor, and nothing is done but where the
 * queue is polled, or by a thread that waits.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "logdir.h"
#include "slow_bytes.h"
#include "suites.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define PATIENCE_MS 60000
#define REQUESTS 64u

static struct twinlog_committer *committer;
static struct twinlog *log_;
static struct twinlog_queue *queue;
static struct twinlog_request requests[REQUESTS];
static uint32_t submitted, completed;
static uint64_t completed_lsn;

/* ---- a log and its loop ---------------------------------------------------------------------------- */

static struct twinlog_options driven_options(void)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.committer = committer, .segment_bytes = 256 * 1024, .buffer_bytes = 32 * 1024);
    return options;
}

static void open_committer(void)
{
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    const struct twinlog_committer_options options = WITH_SIZE(committer_options, .queue = queue);
    ck_assert_int_eq(twinlog_committer_open(&options, &committer), 0);
    submitted = completed = 0;
    completed_lsn = 0;
}

static void open_on(const struct twinlog_options *options)
{
    open_committer();
    struct twinlog_options own = *options;
    own.committer = committer;
    log_ = log_open(&own);
}

static void open_all(void)
{
    const struct twinlog_options options = driven_options();
    open_on(&options);
}

static void close_all(void)
{
    ck_assert_int_eq(twinlog_close(log_), 0);
    ck_assert_int_eq(twinlog_committer_close(committer), 0);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}

static int submit_at(enum twinlog_level level)
{
    unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = make_record(0, submitted, bytes) };
    struct twinlog_request *request = &requests[submitted % REQUESTS];

    *request = (struct twinlog_request){ .queue = queue };
    const int rc = twinlog_submit(log_, &entry, 1, &WITH_SIZE(terms, .level = level), request);
    submitted += rc == 0;
    return rc;
}

static void submit(void)
{
    ck_assert_int_eq(submit_at(TWINLOG_LEVEL_DURABLE), 0);
}

/* Those that are completed. */
static void poll_for(int timeout_ms)
{
    struct twinlog_request *done[REQUESTS];
    const int count = twinlog_queue_poll(queue, done, REQUESTS, timeout_ms);

    ck_assert_int_ge(count, 0);
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(done[i]->result, 0);
        completed_lsn = done[i]->first_lsn;
    }
    completed += (uint32_t)count;
}

static void run(void)
{
    poll_for(0);
}

/* Within so many milliseconds; a wait may end early, as for a signal. */
static bool is_readable_within(int timeout_ms)
{
    const uint64_t deadline_ns = twinlog_deadline((uint32_t)timeout_ms);
    struct pollfd event = { .fd = twinlog_queue_fd(queue), .events = POLLIN };
    int rc;

    do
        rc = poll(&event, 1, timeout_ms);
    while (rc < 0 && errno == EINTR && twinlog_deadline(0) < deadline_ns);
    return rc == 1;
}

/* As a loop does that has nothing else to do. */
static void run_until_completed(uint32_t count)
{
    for (;;) {
        run();
        ck_assert_uint_le(completed_lsn, twinlog_written_lsn(log_));
        if (completed >= count)
            return;
        ck_assert(is_readable_within(PATIENCE_MS));
    }
}

static void expect_records(uint32_t count)
{
    const struct tally tally = log_check();
    ck_assert_uint_eq(tally.last_lsn, count);
}

/* ---- one thread ---------------------------------------------------------------------------------- */

CASE("the loop", logdir_make, logdir_remove);

TEST(nothing_is_written_before_the_loop_polls)
{
    open_all();
    run();
    submit();
    ck_assert(!is_readable_within(20)); /* the loop knows what it has submitted */
    ck_assert_uint_eq(twinlog_durable_lsn(log_), 0);
    run_until_completed(1); /* on a file system in memory at once */
    ck_assert_uint_eq(twinlog_durable_lsn(log_), 1);
    ck_assert(!is_readable_within(20));
    if (is_readable_within(1200)) /* once, for a disk that could have been late */
        run();
    ck_assert(!is_readable_within(1200));
    close_all();
    expect_records(1);
}

TEST(what_comes_while_a_group_is_written_is_the_next_group)
{
    open_all();
    const uint64_t before = log_stat(log_).groups;
    for (uint32_t i = 0; i < REQUESTS; i++) {
        submit();
        if (i == 0)
            run();
    }
    run_until_completed(REQUESTS);
    ck_assert_uint_le(log_stat(log_).groups - before, 2);
    close_all();
    expect_records(REQUESTS);
}

static const struct way_row {
    const char *name;
    enum twinlog_io io;
    uint32_t flags;
} way_rows[] = {
    { .name = "as the log chooses", .io = TWINLOG_IO_AUTO },
    { .name = "io_uring", .io = TWINLOG_IO_URING },
    { .name = "io_uring, linked", .io = TWINLOG_IO_URING_LINKED },
    { .name = "dsync", .io = TWINLOG_IO_DSYNC },
    { .name = "fdatasync", .io = TWINLOG_IO_FDATASYNC },
    { .name = "without direct I/O", .flags = TWINLOG_BUFFERED },
    { .name = "padded", .flags = TWINLOG_PAD },
};

/* Over many segments. */
TEST_EACH(every_way_to_write_works, way_rows)
{
    struct twinlog_options options = driven_options();

    options.io = row->io;
    options.flags = row->flags;
    options.segment_bytes = 64 * 1024;
    if (!log_can_use("every_way_to_write_works", options.io, options.flags))
        return;

    open_on(&options);
    for (uint32_t i = 0; i < 40; i++) {
        for (uint32_t j = 0; j < REQUESTS / 2; j++) {
            const bool is_only_written = j % 3 == 1;
            ck_assert_int_eq(submit_at(is_only_written ? TWINLOG_LEVEL_WRITTEN : TWINLOG_LEVEL_DURABLE), 0);
        }
        run_until_completed(submitted);
    }
    ck_assert_uint_gt(log_stat(log_).rolls, 0);
    close_all();
    expect_records(submitted);
}

/* Each of these calls does the work of the loop until it is over. */
TEST(the_loop_may_also_wait)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    const struct twinlog_entry entry = { .data = "later", .size = 5 };
    uint64_t lsn;

    open_all();
    append_records(log_, 0, 0, 10);
    submit();
    ck_assert_int_eq(twinlog_sync(log_), 0);
    run();
    ck_assert_uint_eq(completed, 1);
    ck_assert_int_eq(twinlog_enqueue(log_, "x", 1, &lsn), 0);
    ck_assert_int_eq(twinlog_wait(log_, lsn, TWINLOG_LEVEL_DURABLE, twinlog_deadline(PATIENCE_MS)), 0);
    terms.deadline_ns = twinlog_deadline(PATIENCE_MS);
    ck_assert_int_eq(twinlog_append_batch(log_, &entry, 1, &terms, NULL), 0);
    submit();
    ck_assert_int_eq(twinlog_truncate(log_, 5), 0);
    run();
    ck_assert_uint_eq(completed, 2);
    ck_assert_int_eq(twinlog_reset(log_, 1), 0);
    append_records(log_, 0, 0, 20);
    close_all();
    expect_records(20);
}

/* The buffers are small: the second batch that fits no more waits for the first one, which nobody else writes. */
TEST(a_call_that_waits_for_room_makes_it)
{
    open_all();
    for (uint32_t i = 0; i < 4000; i++)
        ck_assert_int_eq(enqueue_record(log_, 0, i, NULL), 0);
    close_all();
    expect_records(4000);
}

TEST(a_close_completes_what_was_submitted)
{
    open_all();
    for (uint32_t i = 0; i < REQUESTS; i++)
        submit();
    ck_assert_int_eq(twinlog_committer_close(committer), -EBUSY);
    ck_assert_int_eq(twinlog_close(log_), 0);
    ck_assert_int_eq(twinlog_queue_close(queue), -EBUSY);
    struct twinlog_request *done[REQUESTS];
    ck_assert_int_eq(twinlog_queue_poll(queue, done, REQUESTS, 0), REQUESTS);
    for (uint32_t i = 0; i < REQUESTS; i++)
        ck_assert_int_eq(done[i]->result, 0);
    ck_assert_int_eq(twinlog_queue_close(queue), -EBUSY);
    ck_assert_int_eq(twinlog_committer_close(committer), 0);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    expect_records(REQUESTS);
}

/* ---- the descriptor -------------------------------------------------------------------------------- */

CASE("the descriptor", logdir_make, logdir_remove);

TEST(a_flush_that_is_due_makes_it_readable)
{
    struct twinlog_options options = driven_options();

    options.flush_interval_ms = 30;
    open_on(&options);
    run();
    for (uint64_t lsn = 1; lsn <= 3; lsn++) {
        ck_assert_int_eq(enqueue_record(log_, 0, (uint32_t)lsn - 1, NULL), 0);
        while (twinlog_durable_lsn(log_) < lsn) {
            run();
            ck_assert(is_readable_within(PATIENCE_MS));
        }
    }
    close_all();
    expect_records(3);
}

/* Not at each interval: only behind a record that nobody has synced. */
TEST(a_log_without_work_leaves_the_loop_asleep)
{
    struct twinlog_options options = driven_options();

    options.flush_interval_ms = 5;
    open_on(&options);
    ck_assert_int_eq(enqueue_record(log_, 0, 0, NULL), 0);
    run();
    while (twinlog_durable_lsn(log_) < 1) {
        ck_assert(is_readable_within(PATIENCE_MS));
        run();
    }
    while (is_readable_within(50)) /* the next look finds nothing to flush, and says so */
        run();
    ck_assert(!is_readable_within(200));

    ck_assert_int_eq(append_record(log_, 0, 1, NULL), 0);
    run();
    ck_assert(!is_readable_within(200));
    close_all();
    expect_records(2);
}

TEST(an_interval_that_is_changed_makes_it_readable_in_time)
{
    struct twinlog_options options = driven_options();

    options.flush_interval_ms = 3600 * 1000;
    open_on(&options);
    ck_assert_int_eq(enqueue_record(log_, 0, 0, NULL), 0);
    run();
    ck_assert_int_eq(twinlog_set_flush_interval(log_, 30), 0);
    while (twinlog_durable_lsn(log_) < 1) {
        run();
        ck_assert(is_readable_within(PATIENCE_MS));
    }
    ck_assert_int_eq(twinlog_set_flush_interval(log_, 0), 0);
    close_all();
    expect_records(1);
}

static void *submit_one(void *context)
{
    return submit_at(TWINLOG_LEVEL_DURABLE) == 0 ? NULL : context;
}

TEST(a_request_of_another_thread_makes_it_readable)
{
    void *failed;

    open_all();
    run();
    ck_assert(!is_readable_within(20));
    for (uint32_t i = 0; i < 100; i++) {
        const pthread_t thread = start_thread(submit_one, &submitted);
        ck_assert(is_readable_within(PATIENCE_MS));
        pthread_join(thread, &failed);
        ck_assert_ptr_null(failed);
        run_until_completed(i + 1);
    }
    close_all();
    expect_records(100);
}

static void *append_one(void *context)
{
    return append_record(log_, 0, *(const uint32_t *)context, NULL) == 0 ? NULL : context;
}

/* The other thread completes them when it writes its own record. */
TEST(requests_that_another_thread_completes_make_it_readable)
{
    void *failed;

    open_all();
    for (uint32_t i = 0; i < 100; i++) {
        submit();
        uint32_t sequence = submitted++;
        pthread_join(start_thread(append_one, &sequence), &failed);
        ck_assert_ptr_null(failed);
        ck_assert(is_readable_within(PATIENCE_MS));
        run();
        ck_assert_uint_eq(completed, i + 1);
    }
    close_all();
    expect_records(200);
}

TEST(news_makes_it_readable)
{
    unsigned char bytes[20000] = { 0 };
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    struct twinlog_request *none;

    open_all();
    ck_assert_int_eq(twinlog_queue_listen(queue, log_), 0);
    twinlog_queue_poll(queue, &none, 1, 0);
    uint32_t refused = 0;
    for (uint32_t accepted = 0; accepted < 1000;) {
        const struct twinlog_terms terms =
            WITH_SIZE(terms, .level = TWINLOG_LEVEL_BUFFERED, .flags = TWINLOG_TRY);
        const int rc = twinlog_append_batch(log_, &entry, 1, &terms, NULL);
        accepted += rc == 0;
        if (rc == 0)
            continue;
        ck_assert_int_eq(rc, -EAGAIN);
        refused++;
        do { /* a poll that returns nothing may have taken the news */
            run();
            ck_assert(is_readable_within(PATIENCE_MS));
        } while (twinlog_append_batch(log_, &entry, 1, &terms, NULL) == -EAGAIN);
        accepted++;
    }
    ck_assert_uint_gt(refused, 0);
    close_all();
}

/* It is another descriptor than that of a queue without a committer, so it cannot become one. */
TEST(a_queue_drives_one_committer_at_a_time_and_from_the_beginning)
{
    struct twinlog_committer *other;

    open_all();
    const int fd = twinlog_queue_fd(queue);
    const struct twinlog_committer_options options = WITH_SIZE(committer_options, .queue = queue);
    ck_assert_int_eq(twinlog_committer_open(&options, &other), -EBUSY);
    submit();
    run_until_completed(1);
    ck_assert_int_eq(twinlog_close(log_), 0);
    ck_assert_int_eq(twinlog_committer_close(committer), 0);
    ck_assert(!is_readable_within(20));

    ck_assert_int_eq(twinlog_committer_open(&options, &committer), 0);
    ck_assert_int_eq(twinlog_queue_fd(queue), fd);
    const struct twinlog_options again = driven_options();
    log_ = log_open(&again);
    submit();
    run_until_completed(2);
    close_all();
    expect_records(2);

    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    ck_assert_int_ge(twinlog_queue_fd(queue), 0);
    const struct twinlog_committer_options late = WITH_SIZE(committer_options, .queue = queue);
    ck_assert_int_eq(twinlog_committer_open(&late, &other), -EBUSY);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}

/* More is completed than the loop fetches at a time. */
TEST(what_is_not_fetched_keeps_it_readable)
{
    struct twinlog_request *done;

    open_all();
    for (uint32_t i = 0; i < 10; i++)
        submit();
    ck_assert_int_eq(twinlog_sync(log_), 0);
    for (uint32_t i = 0; i < 10; i++) {
        ck_assert(is_readable_within(PATIENCE_MS));
        ck_assert_int_eq(twinlog_queue_poll(queue, &done, 1, 0), 1);
    }
    run();
    ck_assert(!is_readable_within(20));
    close_all();
}

/* ---- polls that wait ------------------------------------------------------------------------------- */

CASE("polls that wait", logdir_make, logdir_remove);

TEST(a_poll_that_waits_does_the_work_itself)
{
    open_all();
    for (uint32_t i = 0; i < 100; i++) {
        submit();
        poll_for(-1);
        ck_assert_uint_eq(completed, i + 1);
    }
    const uint64_t began_ns = twinlog_deadline(0);
    poll_for(50);
    ck_assert_uint_ge(twinlog_deadline(0), began_ns + 50000000);
    close_all();
    expect_records(100);
}

static void *submit_all(void *context)
{
    const uint32_t *count = context;

    for (uint32_t i = 0; i < *count; i++)
        if (submit_at(TWINLOG_LEVEL_DURABLE) < 0)
            return context;
    return NULL;
}

TEST(another_thread_wakes_a_poll_that_waits)
{
    uint32_t count = 10;
    void *failed;

    open_all();
    for (uint32_t round = 1; round <= 6; round++) {
        const pthread_t thread = start_thread(submit_all, &count);
        while (completed < round * count)
            poll_for(-1);
        pthread_join(thread, &failed);
        ck_assert_ptr_null(failed);
    }
    close_all();
    expect_records(60);
}

static void *poll_some(void *context)
{
    struct twinlog_request *done[4];
    uint32_t *count = context;

    for (uint32_t i = 0; i < 200; i++) {
        const int fetched = twinlog_queue_poll(queue, done, 4, 10);
        *count += fetched > 0 ? (uint32_t)fetched : 0;
    }
    return NULL;
}

/* A request of a log without this committer comes from another thread, the log's own. */
TEST(several_threads_poll_one_queue_and_two_kinds_of_logs)
{
    uint32_t counts[2] = { 0, 0 };
    pthread_t threads[2];
    struct twinlog *other;
    struct twinlog_request more[30];
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    char path[sizeof(log_parent) + 8];

    open_all();
    snprintf(path, sizeof(path), "%s/other", log_parent);
    ck_assert_int_eq(twinlog_open(path, NULL, &other), 0);
    for (uint32_t i = 0; i < 2; i++)
        threads[i] = start_thread(poll_some, &counts[i]);
    for (uint32_t i = 0; i < 30; i++) {
        submit();
        more[i] = (struct twinlog_request){ .queue = queue };
        ck_assert_int_eq(twinlog_submit(other, &entry, 1, NULL, &more[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(twinlog_close(other), 0);
    ck_assert_int_eq(twinlog_sync(log_), 0);
    run();
    ck_assert_uint_eq(counts[0] + counts[1] + completed, 60);
    close_all();
}

/* ---- threads beside the loop ----------------------------------------------------------------------- */

CASE("beside the loop", logdir_make, logdir_remove);

struct appender {
    pthread_t thread;
    uint32_t writer, count;
};

static void *append_many(void *context)
{
    const struct appender *appender = context;

    for (uint32_t i = 0; i < appender->count; i++)
        if (append_record(log_, appender->writer, i, NULL) < 0)
            return context;
    return NULL;
}

static void start_appender(struct appender *appender, uint32_t writer, uint32_t count)
{
    *appender = (struct appender){ .writer = writer, .count = count };
    appender->thread = start_thread(append_many, appender);
}

static void join_appender(struct appender *appender)
{
    void *failed;
    pthread_join(appender->thread, &failed);
    ck_assert_ptr_null(failed);
}

static const struct crowd_row {
    const char *name;
    uint32_t count;
} crowd_rows[] = {
    { "one thread", 1 }, { "two threads", 2 }, { "three threads", 3 }, { "eight threads", 8 }
};

/* Nobody polls the queue. */
TEST_EACH(threads_that_wait_do_the_work, crowd_rows)
{
    const uint32_t count = row->count, each = REPEATS(200, 50);
    struct appender appenders[8];

    open_all();
    for (uint32_t i = 0; i < count; i++)
        start_appender(&appenders[i], i, each);
    for (uint32_t i = 0; i < count; i++)
        join_appender(&appenders[i]);
    close_all();
    const struct tally tally = log_check();
    for (uint32_t i = 0; i < count; i++)
        ck_assert_uint_eq(tally.next[i], each);
}

#define BUSY_TURNS (REQUESTS / 2)

/* The loop has begun a group, and looks no more. */
TEST(a_loop_that_is_busy_holds_up_no_thread)
{
    void *failed;

    open_all();
    for (uint32_t i = 0; i < BUSY_TURNS; i++) {
        submit();
        run();
        uint32_t sequence = submitted++;
        pthread_join(start_thread(append_one, &sequence), &failed);
        ck_assert_ptr_null(failed);
    }
    run();
    ck_assert_uint_eq(completed, BUSY_TURNS);
    close_all();
    expect_records(2 * BUSY_TURNS);
}

/* Writer 0 is the loop, the others wait. */
TEST(a_loop_and_threads_share_the_work)
{
    const uint32_t each = REPEATS(300, 60);
    struct appender appenders[3];

    open_all();
    for (uint32_t i = 0; i < 3; i++)
        start_appender(&appenders[i], i + 1, each);
    while (submitted < each) {
        while (submitted < each && submitted - completed < REQUESTS / 2)
            submit();
        run();
        if (submitted - completed == REQUESTS / 2)
            ck_assert(is_readable_within(PATIENCE_MS));
    }
    run_until_completed(each);
    for (uint32_t i = 0; i < 3; i++)
        join_appender(&appenders[i]);
    close_all();
    const struct tally tally = log_check();
    for (uint32_t i = 0; i < 4; i++)
        ck_assert_uint_eq(tally.next[i], each);
}

static void *append_slow_bytes(void *context)
{
    const struct slow_bytes *slow = context;
    return twinlog_append(log_, slow->bytes, slow->size, NULL) == 0 ? NULL : context;
}

/* The loop does not wait for a record that another thread is still copying; nor does a deadline, nor a cancellation. */
TEST(a_copy_that_takes_long_holds_up_neither_the_loop_nor_a_deadline)
{
    struct slow_bytes slow = slow_bytes_make('s');
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    const struct twinlog_entry entry = { .data = "behind", .size = 6 };
    void *failed;

    open_all();
    const pthread_t thread = start_thread(append_slow_bytes, &slow);
    AWAIT(slow_bytes_is_reached());
    submit();
    run();
    run();
    ck_assert_uint_eq(completed, 0);
    terms.deadline_ns = twinlog_deadline(20);
    ck_assert_int_eq(twinlog_append_batch(log_, &entry, 1, &terms, NULL), -ETIMEDOUT);
    slow_bytes_let_go();
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    run_until_completed(1);
    close_all();
    slow_bytes_free(&slow);
}

static struct twinlog_cancel cancel;

static void *append_until_cancelled(void *context)
{
    const struct twinlog_terms terms = WITH_SIZE(terms, .cancel = &cancel);
    const struct twinlog_entry entry = { .data = "behind", .size = 6 };
    return twinlog_append_batch(log_, &entry, 1, &terms, NULL) == -ECANCELED ? NULL : context;
}

TEST(a_thread_that_waits_is_cancelled)
{
    struct slow_bytes slow = slow_bytes_make('s');
    void *failed;

    open_all();
    cancel = (struct twinlog_cancel){ 0 };
    const pthread_t slow_one = start_thread(append_slow_bytes, &slow);
    AWAIT(slow_bytes_is_reached());
    const pthread_t one = start_thread(append_until_cancelled, &cancel),
                    other = start_thread(append_until_cancelled, &cancel);
    AWAIT(twinlog_last_lsn(log_) == 3);
    ck_assert_int_eq(twinlog_cancel(log_, &cancel), 0);
    pthread_join(one, &failed);
    ck_assert_ptr_null(failed);
    pthread_join(other, &failed);
    ck_assert_ptr_null(failed);
    slow_bytes_let_go();
    pthread_join(slow_one, &failed);
    ck_assert_ptr_null(failed);
    close_all();
    slow_bytes_free(&slow);
}

/* ---- forks and refusals ---------------------------------------------------------------------------- */

CASE("elsewhere", logdir_make, logdir_remove);

static int use_what_the_parent_opened(void)
{
    struct twinlog_committer_options options = WITH_SIZE(committer_options, .queue = queue);
    struct twinlog_request *done;

    EXPECT(twinlog_queue_poll(queue, &done, 1, 0) == TWINLOG_EFORKED);
    EXPECT(twinlog_queue_fd(queue) == TWINLOG_EFORKED);
    EXPECT(twinlog_committer_open(&options, &committer) == TWINLOG_EFORKED);
    EXPECT(twinlog_committer_close(committer) == TWINLOG_EFORKED);
    return 0;
}

TEST(a_child_has_no_part_in_it)
{
    open_all();
    submit();
    run();
    ck_assert_int_eq(run_child(use_what_the_parent_opened), 0);
    run_until_completed(1);
    submit();
    run_until_completed(2);
    close_all();
    expect_records(2);
}

/* The write fails when it is handed to the kernel, so in the turn that has given the second call its place. */
static int fail_while_a_call_waits_for_room(void)
{
    static unsigned char bytes[20000];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
    const struct rlimit limit = { .rlim_cur = 4096, .rlim_max = RLIM_INFINITY };
    struct twinlog_request *done[3];

    open_all();
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (uint32_t i = 0; i < 2; i++)
        requests[i] = (struct twinlog_request){ .queue = queue };
    EXPECT(twinlog_submit(log_, &entry, 1, NULL, &requests[0]) == 0);
    const bool is_accepted = twinlog_submit(log_, &entry, 1, NULL, &requests[1]) == 0;
    EXPECT(twinlog_queue_poll(queue, done, 3, 0) == 1 + is_accepted);
    EXPECT(done[0]->result == TWINLOG_EPOISONED);
    EXPECT(twinlog_append(log_, "x", 1, NULL) == TWINLOG_EPOISONED);
    EXPECT(twinlog_close(log_) == -EFBIG);
    EXPECT(twinlog_committer_close(committer) == 0);
    EXPECT(twinlog_queue_close(queue) == 0);
    return 0;
}

TEST(a_failure_reaches_a_call_that_waits_for_room)
{
    ck_assert_int_eq(run_child(fail_while_a_call_waits_for_room), 0);
}

static int forbidden_call;

static int run_without_ring(void)
{
    struct pollfd event = { .events = POLLIN };

    if (!forbid(forbidden_call, EPERM))
        return CANNOT_RUN;
    open_all();
    EXPECT(strstr(log_stat(log_).io_reason, "io_uring") != NULL);
    event.fd = twinlog_queue_fd(queue);
    for (uint32_t i = 0; i < 20; i++) {
        EXPECT(submit_at(TWINLOG_LEVEL_DURABLE) == 0);
        for (run(); completed <= i; run())
            EXPECT(poll(&event, 1, PATIENCE_MS) == 1);
    }
    EXPECT(poll(&event, 1, 20) == 0);
    close_all();
    return 0;
}

static const struct forbidden_row {
    const char *name;
    int call;
} forbidden_rows[] = {
    { "no ring can be made", SYS_io_uring_setup },
    { "a ring can be made, and not used", SYS_io_uring_enter },
};

TEST_EACH(without_io_uring_a_thread_does_the_work, forbidden_rows)
{
    forbidden_call = row->call;
    if (expect_success_or_skip(run_child(run_without_ring), "without_io_uring_a_thread_does_the_work",
                               "no seccomp filter may be loaded"))
        expect_records(20);
}
