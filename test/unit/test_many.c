/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many logs and one committer: what is appended to each of them is durable as if it were alone, whatever the others
 * do at that moment. Real files; what needs a limit or a filter that can't be taken back runs in a forked process.
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
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* test_many_driven.c is the same with a committer that has no thread, but is driven by one of the test. */
#ifndef DRIVEN
#define DRIVEN 0
#endif

#define LOGS 12u
#define WRITERS 2u /* to each log */
#define RECORDS 60u
#define PATIENCE_MS 120000

static struct twinlog_committer *committer;
static struct twinlog *logs[LOGS];
static char names[LOGS][300];

static void choose(uint32_t number)
{
    memcpy(log_dir, names[number], sizeof(log_dir));
}

static void prepare(void)
{
    logdir_make();
    for (uint32_t i = 0; i < LOGS; i++)
        snprintf(names[i], sizeof(names[i]), "%.255s/log-%u", log_parent, i);
}

static struct twinlog_options shared_options(void)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.committer = committer, .segment_bytes = 64 * 1024, .buffer_bytes = 32 * 1024);
    return options;
}

static struct twinlog_queue *driver; /* gets no requests */
static pthread_t loop;
static atomic_bool loop_is_over;

/* What the loop of a program does, if it does nothing else. */
static void *drive(void *context)
{
    struct twinlog_request *none;
    struct pollfd event = { .fd = twinlog_queue_fd(driver), .events = POLLIN };

    while (!loop_is_over) {
        if (twinlog_queue_poll(driver, &none, 1, 0) != 0)
            return context;
        poll(&event, 1, 100);
    }
    return NULL;
}

static void open_committer(uint32_t in_flight)
{
    driver = NULL;
    if (DRIVEN)
        ck_assert_int_eq(twinlog_queue_open(&driver), 0);
    const struct twinlog_committer_options options =
        WITH_SIZE(committer_options, .in_flight = in_flight, .queue = driver);
    ck_assert_int_eq(twinlog_committer_open(&options, &committer), 0);
    loop_is_over = false;
    if (DRIVEN)
        loop = start_thread(drive, &committer);
}

static int close_committer(void)
{
    void *failed = NULL;

    loop_is_over = true;
    if (DRIVEN)
        pthread_join(loop, &failed);
    const int rc = twinlog_committer_close(committer);
    const int queue_rc = twinlog_queue_close(driver);
    return failed ? -EPROTO : rc < 0 ? rc : queue_rc;
}

static void open_logs(uint32_t count, const struct twinlog_options *options)
{
    for (uint32_t i = 0; i < count; i++) {
        choose(i);
        logs[i] = log_open(options);
    }
}

static void close_logs(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        ck_assert_int_eq(twinlog_close(logs[i]), 0);
}

static void open_all(uint32_t in_flight, uint32_t count)
{
    open_committer(in_flight);
    const struct twinlog_options options = shared_options();
    open_logs(count, &options);
}

static void close_all(uint32_t count)
{
    close_logs(count);
    ck_assert_int_eq(close_committer(), 0);
}

static void expect_records(uint32_t number, uint32_t writers, uint32_t each)
{
    choose(number);
    struct tally tally = log_check();
    ck_assert_uint_eq(tally.last_lsn, writers * each);
    for (uint32_t i = 0; i < writers; i++)
        ck_assert_uint_eq(tally.next[i], each);
}

/* ---- blocking appends ---------------------------------------------------------------------------- */

struct writer {
    pthread_t thread;
    struct twinlog *log;
    uint32_t number, records;
    int error;
};

static void *append_and_look(void *context)
{
    struct writer *writer = context;

    for (uint32_t i = 0; i < writer->records && writer->error == 0; i++) {
        uint64_t lsn = 0;
        writer->error = append_record(writer->log, writer->number, i, &lsn);
        if (writer->error == 0 && twinlog_durable_lsn(writer->log) < lsn)
            writer->error = -EPROTO;
    }
    return NULL;
}

static void start_writer(struct writer *writer, struct twinlog *log, uint32_t number, uint32_t records)
{
    *writer = (struct writer){ .log = log, .number = number, .records = records };
    writer->thread = start_thread(append_and_look, writer);
}

static void join_writer(struct writer *writer)
{
    pthread_join(writer->thread, NULL);
    ck_assert_msg(writer->error == 0, "append: %s", twinlog_strerror(writer->error));
}

CASE("appending", prepare, logdir_remove);

static const struct {
    const char *name;
    uint32_t in_flight;
} writes_in_flight[] = {
    { "as many writes in flight as by default", 0 },
    { "one write in flight", 1 },
    { "two writes in flight", 2 },
    { "three writes in flight", 3 },
};

TEST_EACH(every_log_gets_its_records_and_may_be_closed_in_any_order, writes_in_flight)
{
    struct writer writers[LOGS][WRITERS];

    open_all(row->in_flight, LOGS);
    for (uint32_t i = 0; i < LOGS; i++)
        for (uint32_t j = 0; j < WRITERS; j++)
            start_writer(&writers[i][j], logs[i], j, RECORDS);
    for (uint32_t n = 0; n < LOGS; n++) {
        const uint32_t i = n * 7 % LOGS; /* 7 and LOGS have no common factor */
        for (uint32_t j = 0; j < WRITERS; j++)
            join_writer(&writers[i][j]);
        ck_assert_int_eq(twinlog_close(logs[i]), 0);
    }
    ck_assert_int_eq(close_committer(), 0);
    for (uint32_t i = 0; i < LOGS; i++)
        expect_records(i, WRITERS, RECORDS);
}

static const struct {
    const char *name;
    uint32_t flags;
} flags_of_logs[] = {
    { "direct", 0 },
    { "buffered", TWINLOG_BUFFERED },
    { "padded", TWINLOG_PAD },
};

static const struct {
    uint32_t asked, taken; /* enum twinlog_io */
    const char *reason;
} paths[LOG_IO_KINDS] = {
    { TWINLOG_IO_AUTO, TWINLOG_IO_URING, "shared committer" },
    { TWINLOG_IO_URING, TWINLOG_IO_URING, "as asked for" },
    { TWINLOG_IO_URING_LINKED, TWINLOG_IO_URING_LINKED, "as asked for" },
    { TWINLOG_IO_DSYNC, TWINLOG_IO_DSYNC, "as asked for" },
    { TWINLOG_IO_FDATASYNC, TWINLOG_IO_FDATASYNC, "as asked for" },
};

/* A log for each path, all of them with one committer. */
TEST_EACH(every_path_and_both_layouts_work, flags_of_logs)
{
    open_committer(0);
    for (uint32_t i = 0; i < LOG_IO_KINDS; i++) {
        struct twinlog_options options = shared_options();
        options.io = paths[i].asked;
        options.flags = row->flags;
        choose(i);
        logs[i] = log_open(&options);

        const struct twinlog_stat stat = log_stat(logs[i]);
        ck_assert_uint_eq(stat.io, paths[i].taken);
        ck_assert_str_eq(stat.io_reason, paths[i].reason);
        append_records(logs[i], 0, 0, RECORDS);
    }
    close_all(LOG_IO_KINDS);
    for (uint32_t io = 0; io < LOG_IO_KINDS; io++)
        expect_records(io, 1, RECORDS);
}

struct cycle {
    pthread_t thread;
    char dir[300];
    int error;
};

static void *open_append_and_close(void *context)
{
    struct cycle *cycle = context;

    for (uint32_t i = 0; i < 8 && cycle->error == 0; i++) {
        struct twinlog_options options = shared_options();
        struct twinlog *log;
        options.ret_report = NULL;
        options.flush_interval_ms = i % 2; /* so that it is among those with a time of its own */
        cycle->error = twinlog_open(cycle->dir, &options, &log);
        for (uint32_t j = 0; j < 4 && cycle->error == 0; j++)
            cycle->error =
                j % 2 == 0 ? append_record(log, 0, 4 * i + j, NULL) : enqueue_record(log, 0, 4 * i + j, NULL);
        if (cycle->error == 0)
            cycle->error = twinlog_close(log);
    }
    return NULL;
}

TEST(logs_come_and_go_while_others_commit)
{
    struct cycle cycles[LOGS] = { 0 };

    open_committer(3);
    for (uint32_t i = 0; i < LOGS; i++) {
        memcpy(cycles[i].dir, names[i], sizeof(cycles[i].dir));
        cycles[i].thread = start_thread(open_append_and_close, &cycles[i]);
    }
    for (uint32_t i = 0; i < LOGS; i++) {
        pthread_join(cycles[i].thread, NULL);
        ck_assert_msg(cycles[i].error == 0, "%s", twinlog_strerror(cycles[i].error));
    }
    ck_assert_int_eq(close_committer(), 0);
    for (uint32_t i = 0; i < LOGS; i++)
        expect_records(i, 1, 32);
}

/* ---- levels, deadlines, room --------------------------------------------------------------------- */

static int append_at(struct twinlog *log, uint32_t sequence, enum twinlog_level level, uint32_t flags,
                     uint64_t *ret_lsn)
{
    unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = make_record(0, sequence, bytes) };
    return twinlog_append_batch(log, &entry, 1, &WITH_SIZE(terms, .level = level, .flags = flags), ret_lsn);
}

/* Small segments, so that some are left with records that are only written. */
TEST(what_was_only_written_is_synced_with_what_comes_after_it)
{
    uint64_t lsn = 0;

    open_all(2, 3);
    for (uint32_t i = 0; i < 3 * RECORDS; i++) {
        for (uint32_t j = 0; j < 3; j++)
            ck_assert_int_eq(
                append_at(logs[j], i, i % 7 == 6 ? TWINLOG_LEVEL_DURABLE : TWINLOG_LEVEL_WRITTEN, 0, &lsn),
                0);
        ck_assert_uint_ge(twinlog_written_lsn(logs[2]), lsn);
        if (i % 10 == 9)
            ck_assert_int_eq(twinlog_wait(logs[2], lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
    }
    ck_assert_int_eq(twinlog_sync(logs[0]), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(logs[0]), 3 * RECORDS);
    ck_assert_uint_gt(log_stat(logs[0]).rolls, 0);
    close_all(3);
    for (uint32_t j = 0; j < 3; j++)
        expect_records(j, 1, 3 * RECORDS);
}

/* The record asked for nothing, so nobody has called the committer yet. It is the first of its buffer. */
TEST(a_wait_has_a_record_written_that_was_only_enqueued)
{
    uint64_t lsn;

    open_all(0, 1);
    ck_assert_int_eq(append_at(logs[0], 0, TWINLOG_LEVEL_BUFFERED, 0, &lsn), 0);
    ck_assert_int_eq(twinlog_wait(logs[0], lsn, TWINLOG_LEVEL_WRITTEN, twinlog_deadline(PATIENCE_MS)), 0);
    close_all(1);
}

TEST(a_thread_that_only_enqueues_finds_room_again)
{
    open_all(1, 2);
    for (uint32_t i = 0; i < 4 * RECORDS; i++)
        ck_assert_int_eq(enqueue_record(logs[i % 2], 0, i / 2, NULL), 0);
    close_all(2);
    expect_records(0, 1, 2 * RECORDS);
    expect_records(1, 1, 2 * RECORDS);
}

static void await_durable(struct twinlog *log, uint64_t lsn)
{
    struct twinlog_reader *reader = log_attach(log, lsn, 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, PATIENCE_MS), 1);
    twinlog_reader_close(reader);
}

TEST(what_is_enqueued_or_written_is_flushed_in_time)
{
    open_committer(0);
    struct twinlog_options options = shared_options();
    options.flush_interval_ms = 20;
    open_logs(LOGS, &options);
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < LOGS; i++) {
            uint64_t lsn;
            ck_assert_int_eq(enqueue_record(logs[i], 0, 3 * round, &lsn), 0);
            await_durable(logs[i], lsn);
            ck_assert_int_eq(append_at(logs[i], 3 * round + 1, TWINLOG_LEVEL_WRITTEN, 0, &lsn), 0);
            await_durable(logs[i], lsn);
            append_records(logs[i], 0, 3 * round + 2, 1);
        }
    close_all(LOGS);
    for (uint32_t i = 0; i < LOGS; i++)
        expect_records(i, 1, 9);
}

/* It finds nothing in the buffers then. The next one would be too late for the deadline. */
TEST(a_flush_does_not_count_as_a_call_for_what_comes_next)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    uint64_t lsn;

    open_committer(0);
    struct twinlog_options options = shared_options();
    options.flush_interval_ms = 6000;
    open_logs(1, &options);
    ck_assert_int_eq(append_at(logs[0], 0, TWINLOG_LEVEL_WRITTEN, 0, &lsn), 0);
    await_durable(logs[0], lsn);
    terms.deadline_ns = twinlog_deadline(5500);
    ck_assert_int_eq(twinlog_append_batch(logs[0], &entry, 1, &terms, NULL), 0);
    close_all(1);
}

/* Flushes are demanded faster than they end: then each round that ends one tells it, and not only a lull. A disk that
 * is faster than the interval has no such rounds, and tells each flush. */
TEST(each_flush_is_told_while_others_are_demanded)
{
    static const unsigned char large[512 * 1024];
    struct twinlog_request *fetched;
    struct twinlog_queue *queue;
    uint64_t news = 0;

    open_committer(0);
    const struct twinlog_options options =
        LOG_OPTIONS(.committer = committer, .buffer_bytes = 2 << 20, .flush_interval_ms = 1);
    open_logs(1, &options);
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    ck_assert_int_eq(twinlog_queue_listen(queue, logs[0]), 0);
    struct pollfd readable = { .fd = twinlog_queue_fd(queue), .events = POLLIN };
    const uint64_t end_ns = twinlog_deadline(500);
    while (twinlog_deadline(0) < end_ns) {
        ck_assert_int_eq(twinlog_enqueue(logs[0], large, sizeof(large), NULL), 0);
        if (poll(&readable, 1, 0) > 0) {
            ck_assert_int_eq(twinlog_queue_poll(queue, &fetched, 1, 0), 0);
            news++;
        }
    }
    ck_assert_uint_gt(4 * news, log_stat(logs[0]).syncs);
    close_all(1);
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
}

/* ---- slow copies --------------------------------------------------------------------------------- */

CASE("slow copies and requests", prepare, logdir_remove);

static void *append_slow_bytes(void *context)
{
    const struct slow_bytes *slow = context;
    return twinlog_append(logs[0], slow->bytes, slow->size, NULL) == 0 ? NULL : context;
}

/* One write in flight at a time, and still the log that can't be written is not in the way. */
TEST(a_copy_that_takes_long_holds_up_its_own_log_only)
{
    struct slow_bytes slow = slow_bytes_make('s');
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    void *failed;

    open_all(1, 3);
    pthread_t thread = start_thread(append_slow_bytes, &slow);
    AWAIT(slow_bytes_is_reached());
    terms.deadline_ns = twinlog_deadline(20);
    const struct twinlog_entry entry = { .data = "behind", .size = 6 };
    ck_assert_int_eq(twinlog_append_batch(logs[0], &entry, 1, &terms, NULL), -ETIMEDOUT);
    append_records(logs[1], 0, 0, RECORDS);
    append_records(logs[2], 0, 0, RECORDS);
    ck_assert_uint_eq(twinlog_durable_lsn(logs[0]), 0);
    slow_bytes_let_go();
    pthread_join(thread, &failed);
    ck_assert_ptr_null(failed);
    ck_assert_int_eq(twinlog_wait(logs[0], 2, TWINLOG_LEVEL_DURABLE, 0), 0);
    close_all(3);
    expect_records(1, 1, RECORDS);
    expect_records(2, 1, RECORDS);
    slow_bytes_free(&slow);
}

/* ---- requests ------------------------------------------------------------------------------------ */

static struct twinlog_queue *queue; /* of all logs */
static uint64_t completed_lsn[LOGS];

static void open_queue(void)
{
    memset(completed_lsn, 0, sizeof(completed_lsn));
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
}

/* Fetches `count` requests: those of each log, which is their context, come in order. */
static void fetch(uint32_t count)
{
    struct twinlog_request *done[16];

    while (count > 0) {
        const int got = twinlog_queue_poll(queue, done, count < 16 ? count : 16, PATIENCE_MS);
        ck_assert_int_gt(got, 0);
        for (int i = 0; i < got; i++) {
            uint64_t *before = done[i]->context;
            ck_assert_int_eq(done[i]->result, 0);
            ck_assert_uint_gt(done[i]->first_lsn, *before);
            *before = done[i]->first_lsn;
        }
        count -= (uint32_t)got;
    }
}

static int submit_record(struct twinlog *log, uint32_t sequence, struct twinlog_request *request)
{
    unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = make_record(0, sequence, bytes) };
    return twinlog_submit(log, &entry, 1, NULL, request);
}

static void *cut_nothing(void *context)
{
    int rc = 0;

    for (uint32_t i = 0; i < 1000 && rc == 0; i++)
        rc = twinlog_truncate(logs[0], UINT64_MAX - 1);
    return rc == 0 ? NULL : context;
}

/* So many records for each log, in turn. */
static void submit_to_all(void)
{
    static struct twinlog_request requests[LOGS][RECORDS];

    for (uint32_t i = 0; i < RECORDS; i++)
        for (uint32_t j = 0; j < LOGS; j++) {
            requests[j][i] = (struct twinlog_request){ .queue = queue, .context = &completed_lsn[j] };
            ck_assert_int_eq(submit_record(logs[j], i, &requests[j][i]), 0);
        }
}

static void expect_all_submitted(void)
{
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    for (uint32_t j = 0; j < LOGS; j++)
        expect_records(j, 1, RECORDS);
}

TEST(requests_of_each_log_are_completed_in_order)
{
    open_all(0, LOGS);
    open_queue();
    submit_to_all();
    fetch(LOGS * RECORDS);
    close_all(LOGS);
    expect_all_submitted();
}

TEST(requests_of_each_log_are_completed_in_order_by_the_close)
{
    open_all(4, LOGS);
    open_queue();
    submit_to_all();
    close_all(LOGS);
    fetch(LOGS * RECORDS);
    expect_all_submitted();
}

TEST(requests_of_each_log_are_completed_in_order_beside_truncations_of_one)
{
    void *failed = NULL;

    open_all(0, LOGS);
    open_queue();
    const pthread_t cutter = start_thread(cut_nothing, &failed);
    submit_to_all();
    fetch(LOGS * RECORDS);
    pthread_join(cutter, &failed);
    ck_assert_ptr_null(failed);
    close_all(LOGS);
    expect_all_submitted();
}

CASE("truncations", prepare, logdir_remove);

TEST(a_log_is_truncated_and_reset_beside_the_others)
{
    struct writer writers[LOGS];

    open_all(3, LOGS);
    for (uint32_t i = 1; i < LOGS; i++)
        start_writer(&writers[i], logs[i], 0, 2 * RECORDS);
    for (uint32_t i = 0; i < 8; i++) {
        append_records(logs[0], 0, i, 4);
        ck_assert_int_eq(enqueue_record(logs[0], 0, i + 4, NULL), 0);
        ck_assert_int_eq(twinlog_truncate(logs[0], i + 1), 0);
        ck_assert_uint_eq(twinlog_last_lsn(logs[0]), i + 1);
    }
    ck_assert_int_eq(twinlog_reset(logs[0], 1), 0);
    append_records(logs[0], 0, 0, RECORDS);
    for (uint32_t i = 1; i < LOGS; i++)
        join_writer(&writers[i]);
    close_all(LOGS);
    expect_records(0, 1, RECORDS);
    for (uint32_t i = 1; i < LOGS; i++)
        expect_records(i, 1, 2 * RECORDS);
}

CASE("failures", prepare, logdir_remove);

#define FILE_LIMIT (96 * 1024)

/* Files may not be written beyond the limit from now on. */
static int poison_one(void)
{
    struct twinlog_request request = { 0 };
    struct writer writers[LOGS];

    open_committer(4);
    struct twinlog_options options = shared_options();
    options.segment_bytes = 1 << 20;
    open_logs(LOGS, &options);
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = { .rlim_cur = FILE_LIMIT, .rlim_max = RLIM_INFINITY };
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    EXPECT(twinlog_queue_open(&queue) == 0);
    for (uint32_t i = 1; i < LOGS; i++)
        start_writer(&writers[i], logs[i], 0, 10); /* 80 KiB at most, in segments of 512 KiB */
    static const unsigned char bytes[20000];
    int rc = 0;
    for (uint32_t i = 0; i < FILE_LIMIT / sizeof(bytes) + 1 && rc == 0; i++)
        rc = twinlog_append(logs[0], bytes, sizeof(bytes), NULL);
    EXPECT(rc == TWINLOG_EPOISONED);
    EXPECT(log_stat(logs[0]).poison == -EFBIG);
    request.queue = queue;
    EXPECT(submit_record(logs[0], 0, &request) == TWINLOG_EPOISONED);
    EXPECT(twinlog_append(logs[0], bytes, 1, NULL) == TWINLOG_EPOISONED);
    EXPECT(twinlog_sync(logs[0]) == TWINLOG_EPOISONED);
    EXPECT(twinlog_close(logs[0]) == -EFBIG);
    for (uint32_t i = 1; i < LOGS; i++) {
        pthread_join(writers[i].thread, NULL);
        EXPECT(writers[i].error == 0);
        EXPECT(twinlog_close(logs[i]) == 0);
    }
    EXPECT(twinlog_queue_close(queue) == 0);
    EXPECT(close_committer() == 0);
    return 0;
}

TEST(a_poisoned_log_is_poisoned_alone)
{
    ck_assert_int_eq(run_child(poison_one), 0);
    for (uint32_t i = 1; i < LOGS; i++)
        expect_records(i, 1, 10);
}

static int forbidden_call;

static int append_without_ring(void)
{
    if (!forbid(forbidden_call, EPERM))
        return CANNOT_RUN;
    struct writer writers[LOGS][WRITERS];
    open_all(2, LOGS);
    struct twinlog_stat stat = log_stat(logs[0]);
    EXPECT(stat.io == TWINLOG_IO_DSYNC);
    EXPECT(strstr(stat.io_reason, "io_uring") != NULL);
    for (uint32_t i = 0; i < LOGS; i++)
        for (uint32_t j = 0; j < WRITERS; j++)
            start_writer(&writers[i][j], logs[i], j, RECORDS / 2);
    for (uint32_t i = 0; i < LOGS; i++)
        for (uint32_t j = 0; j < WRITERS; j++) {
            pthread_join(writers[i][j].thread, NULL);
            EXPECT(writers[i][j].error == 0);
        }
    for (uint32_t i = 0; i < LOGS; i++)
        EXPECT(twinlog_close(logs[i]) == 0);
    struct twinlog_options options = shared_options();
    options.io = TWINLOG_IO_URING;
    EXPECT(twinlog_open(names[0], &options, &logs[0]) == -ENOTSUP);
    EXPECT(close_committer() == 0);
    return 0;
}

static const struct {
    const char *name;
    int call;
} forbidden_calls[] = {
    { "io_uring_setup", SYS_io_uring_setup },
    { "io_uring_enter", SYS_io_uring_enter },
};

TEST_EACH(without_io_uring_one_log_is_written_after_the_other, forbidden_calls)
{
    forbidden_call = row->call;
    if (!expect_success_or_skip(run_child(append_without_ring),
                                "without_io_uring_one_log_is_written_after_the_other",
                                "no seccomp filter may be loaded"))
        return;
    for (uint32_t i = 0; i < LOGS; i++)
        expect_records(i, WRITERS, RECORDS / 2);
}

CASE("the committer", prepare, logdir_remove);

TEST(a_committer_is_not_closed_under_its_logs)
{
    struct twinlog_committer_options options = TWINLOG_COMMITTER_OPTIONS_INIT;

    ck_assert_int_eq(twinlog_committer_open(NULL, NULL), -EINVAL);
    options.in_flight = 257;
    ck_assert_int_eq(twinlog_committer_open(&options, &committer), -EINVAL);
    options.in_flight = 256;
    ck_assert_int_eq(twinlog_committer_open(&options, &committer), 0);
    const struct twinlog_options shared = shared_options();
    open_logs(2, &shared);
    ck_assert_int_eq(twinlog_committer_close(committer), -EBUSY);
    append_records(logs[1], 0, 0, 1);
    ck_assert_int_eq(twinlog_close(logs[0]), 0);
    ck_assert_int_eq(twinlog_committer_close(committer), -EBUSY);
    ck_assert_int_eq(twinlog_close(logs[1]), 0);
    choose(1); /* an opening that fails leaves no trace of it */
    put_file(log_segment(1), "nonsense", 8);
    ck_assert_int_lt(log_open_error(&shared), 0);
    ck_assert_int_eq(twinlog_committer_close(committer), 0);
    ck_assert_int_eq(twinlog_committer_close(NULL), 0);
}

static int use_what_the_parent_opened(void)
{
    struct twinlog_options options = shared_options();
    struct twinlog *log;

    options.ret_report = NULL;
    EXPECT(twinlog_append(logs[0], "x", 1, NULL) == TWINLOG_EFORKED);
    EXPECT(twinlog_open(names[2], &options, &log) == TWINLOG_EFORKED);
    EXPECT(twinlog_committer_close(committer) == TWINLOG_EFORKED);
    EXPECT(twinlog_close(logs[0]) == TWINLOG_EFORKED);
    EXPECT(twinlog_close(logs[1]) == TWINLOG_EFORKED);
    return 0;
}

TEST_LOOP(a_forked_child_leaves_the_committer_alone, CAN_FORK_BESIDE_BUSY_THREADS ? 1 : 0)
{
    struct writer writers[2];

    open_all(1, 2);
    for (uint32_t i = 0; i < 2; i++)
        start_writer(&writers[i], logs[i], 0, RECORDS);
    for (uint32_t i = 0; i < 8; i++)
        ck_assert_int_eq(run_child(use_what_the_parent_opened), 0);
    for (uint32_t i = 0; i < 2; i++)
        join_writer(&writers[i]);
    close_all(2);
    expect_records(0, 1, RECORDS);
    expect_records(1, 1, RECORDS);
}
