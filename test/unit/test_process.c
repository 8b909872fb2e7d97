/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log among processes and files that are not its own: which may write, what a fork does to it, what a reader in
 * another process sees, and what the library refuses to touch.
 */
#define _GNU_SOURCE
#include "format/checksum.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define KIB UINT64_C(1024)

/* ---- what processes tell each other ------------------------------------------------------------ */

static struct shared {
    _Atomic int step;
    _Atomic uint64_t acked;   /* records of the writing child */
    _Atomic uint64_t read[2]; /* LSNs, by each reading child */
    _Atomic bool must_stop;
} * shared;

static uint32_t wanted_io;
static uint32_t reading_child;

static void prepare(void)
{
    logdir_make();
    shared = shared_page();
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* For what another process or thread will do: looks until it has, or two minutes are over. */
#define AWAIT(condition)                                                                                     \
    do {                                                                                                     \
        const uint64_t began_ms = now_ms();                                                                  \
        while (!(condition) && now_ms() - began_ms < 120000)                                                 \
            sched_yield();                                                                                   \
    } while (0)

static struct twinlog_options wanted_options(void)
{
    const struct twinlog_options options = LOG_OPTIONS(.io = wanted_io, .segment_bytes = 64 * KIB);

    return options;
}

static pid_t log_writer;

static struct twinlog *open_wanted(void)
{
    const struct twinlog_options options = wanted_options();

    log_writer = getpid();
    return log_open(&options);
}

static bool choose(int io, const char *test)
{
    wanted_io = (uint32_t)io;
    return log_can_use(test, wanted_io, 0);
}

/* In a child; no assertions. */
static int try_open(uint32_t lock_timeout_ms)
{
    struct twinlog_options options = wanted_options();
    struct twinlog *log;

    options.lock_timeout_ms = lock_timeout_ms;
    int error = twinlog_open(log_dir, &options, &log);
    return error < 0 ? error : twinlog_close(log);
}

CASE("one writer", prepare, logdir_remove);

static int expect_busy(void)
{
    char process[32];
    snprintf(process, sizeof(process), "(process %d)", (int)log_writer);
    EXPECT(try_open(0) == -EBUSY); /* at once: the lock is not given back while it waits */
    EXPECT(log_report.error == -EBUSY);
    EXPECT(strstr(log_report.text, "another writer") && strstr(log_report.text, process));
    return 0;
}

TEST(a_second_writer_is_refused_at_once)
{
    struct twinlog *log = open_wanted();

    append_records(log, 0, 0, 3);
    ck_assert_int_eq(expect_busy(), 0);
    ck_assert_int_eq(run_child(expect_busy), 0);
    append_records(log, 0, 3, 3);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 6);
}

static int wait_for_the_lock(void)
{
    while (atomic_load(&shared->step) == 0)
        sched_yield();
    EXPECT(try_open(0) == -EBUSY);
    atomic_store(&shared->step, 2);
    EXPECT(try_open(120000) == 0);
    return 0;
}

TEST(a_second_writer_may_wait_for_the_first)
{
    pid_t child = start_child(wait_for_the_lock); /* before this process has threads: TSan */
    struct twinlog *log = open_wanted();

    atomic_store(&shared->step, 1);
    AWAIT(atomic_load(&shared->step) == 2);
    append_records(log, 0, 0, 20);
    log_close(log);
    ck_assert_int_eq(wait_child(child), 0);
    log = open_wanted();
    ck_assert_uint_eq(log_stat(log).epoch, 3);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 20);
}

static int wait_in_vain(void)
{
    const uint64_t began_ms = now_ms();

    EXPECT(try_open(50) == -EBUSY);
    EXPECT(now_ms() - began_ms >= 49);
    return 0;
}

TEST(waiting_for_the_first_has_an_end)
{
    struct twinlog *log = open_wanted();

    ck_assert_int_eq(run_child(wait_in_vain), 0);
    log_close(log);
}

/* Until it is killed. */
static int append_for_ever(void)
{
    const struct twinlog_options options = wanted_options();
    struct twinlog *log;

    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    for (uint32_t i = 0;; i++) {
        EXPECT(append_record(log, 1, i, NULL) == 0);
        atomic_store(&shared->acked, i + 1);
    }
}

/* Each record may take as long as a disk needs that other programs keep busy; all of them together take a minute
 * there. */
static void kill_after(pid_t child, uint64_t records)
{
    for (uint64_t i = 1; i <= records && atomic_load(&shared->acked) >= i - 1; i++)
        AWAIT(atomic_load(&shared->acked) >= i);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_uint_ge(atomic_load(&shared->acked), records);
}

TEST_LOOP(a_killed_writer_is_followed_by_the_next, LOG_IO_KINDS)
{
    if (!choose(_i, "a_killed_writer_is_followed_by_the_next"))
        return;
    kill_after(start_child(append_for_ever), 30);
    struct twinlog *log = open_wanted();
    uint64_t there = twinlog_last_lsn(log);
    ck_assert_uint_ge(there, atomic_load(&shared->acked));
    append_records(log, 0, 0, 10);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, there + 10);
}

CASE("fork", prepare, logdir_remove);

static struct twinlog *parents_log;

static int use_parents_log(void)
{
    return log_use_forked(parents_log);
}

static int use_and_close_parents_log(void)
{
    EXPECT(use_parents_log() == 0);
    EXPECT(twinlog_close(parents_log) == TWINLOG_EFORKED);
    return 0;
}

TEST_LOOP(a_forked_child_has_no_part_in_the_log, LOG_IO_KINDS)
{
    if (!choose(_i, "a_forked_child_has_no_part_in_the_log"))
        return;
    parents_log = open_wanted();
    append_records(parents_log, 0, 0, 5);
    ck_assert_int_eq(enqueue_record(parents_log, 0, 5, NULL), 0);
    ck_assert_int_eq(run_child(use_parents_log), 0);
    ck_assert_int_eq(run_child(use_and_close_parents_log), 0);
    ck_assert_int_eq(run_child(expect_busy), 0); /* it is still locked */
    append_records(parents_log, 0, 6, 200);
    log_close(parents_log);
    ck_assert_uint_eq(log_check().last_lsn, 206);
}

struct appender {
    pthread_t thread;
    uint32_t writer, count;
    int error;
};

static _Atomic uint32_t finished;

static void *append_some(void *argument)
{
    struct appender *appender = argument;

    for (uint32_t i = 0; i < appender->count && appender->error == 0; i++)
        appender->error = append_record(parents_log, appender->writer, i, NULL);
    atomic_fetch_add(&finished, 1);
    return NULL;
}

#define APPENDERS 4u

TEST_LOOP(threads_go_on_while_their_process_forks, CAN_FORK_BESIDE_BUSY_THREADS ? LOG_IO_KINDS : 0)
{
    struct appender appenders[APPENDERS];
    int forks = 0;

    if (!choose(_i, "threads_go_on_while_their_process_forks"))
        return;
    parents_log = open_wanted();
    for (uint32_t i = 0; i < APPENDERS; i++) {
        appenders[i] = (struct appender){ .writer = i, .count = 150 };
        appenders[i].thread = start_thread(append_some, &appenders[i]);
    }
    for (; atomic_load(&finished) < APPENDERS || forks < 3; forks++)
        ck_assert_int_eq(run_child(forks % 2 ? use_and_close_parents_log : use_parents_log), 0);
    for (uint32_t i = 0; i < APPENDERS; i++) {
        pthread_join(appenders[i].thread, NULL);
        ck_assert_int_eq(appenders[i].error, 0);
    }
    log_close(parents_log);
    ck_assert_uint_eq(log_check().last_lsn, APPENDERS * 150);
}

/* Lives until `read_end` has nothing more to say. */
static int pipe_ends[2];

static int live_until_told(void)
{
    char byte;

    close(pipe_ends[1]);
    atomic_store(&shared->step, 1);
    return read(pipe_ends[0], &byte, 1) == 0 ? 0 : 1;
}

TEST_LOOP(a_forked_child_does_not_keep_a_closed_log_locked, LOG_IO_KINDS)
{
    if (!choose(_i, "a_forked_child_does_not_keep_a_closed_log_locked"))
        return;
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    parents_log = open_wanted();
    append_records(parents_log, 0, 0, 5);
    pid_t child = start_child(live_until_told);
    AWAIT(atomic_load(&shared->step) == 1);
    log_close(parents_log);
    log_close(open_wanted());
    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0); /* it lives */
    close(pipe_ends[1]);
    ck_assert_int_eq(wait_child(child), 0);
}

/* ---- a parent that is killed ---------------------------------------------------------------------- */

static int mode_of_parent; /* enum twinlog_mode; then each way to write in the durable mode */

static struct twinlog_options options_of_parent(void)
{
    struct twinlog_options options = wanted_options();
    options.mode = mode_of_parent <= TWINLOG_MODE_SHARED ? (uint32_t)mode_of_parent : TWINLOG_MODE_DURABLE;
    return options;
}

/* A handle of each kind. */
static struct {
    struct twinlog_reader *outside, *attached;
    struct twinlog_consumer *consumer;
    struct twinlog_queue *queue;
    struct twinlog_committer *committer;
    struct twinlog_sink *sink;
    char sink_path[300];
} parents;

static int open_each(void)
{
    const struct twinlog_options options = options_of_parent();
    const struct twinlog_reader_options mapping = { .size = sizeof(mapping), .flags = TWINLOG_READER_MMAP };
    struct twinlog_record record;
    EXPECT(twinlog_open(log_dir, &options, &parents_log) == 0);
    for (uint32_t i = 0; i < 5; i++)
        EXPECT(append_record(parents_log, 0, i, NULL) == 0);
    EXPECT(twinlog_reader_open(log_dir, &mapping, &parents.outside) == 0);
    EXPECT(twinlog_reader_attach(parents_log, &mapping, &parents.attached) == 0);
    EXPECT(twinlog_reader_next(parents.outside, &record) == 1);
    EXPECT(twinlog_reader_next(parents.attached, &record) == 1);
    EXPECT(twinlog_reader_fd(parents.attached) >= 0);
    EXPECT(twinlog_consumer_open(log_dir, "consumer", NULL, &parents.consumer) == 0);
    EXPECT(twinlog_queue_open(&parents.queue) == 0);
    EXPECT(twinlog_committer_open(NULL, &parents.committer) == 0);
    snprintf(parents.sink_path, sizeof(parents.sink_path), "%s/sink", log_parent);
    EXPECT(twinlog_sink_open(parents.sink_path, NULL, &parents.sink) == 0);
    EXPECT(twinlog_sink_write(parents.sink, "line\n", 5, NULL) == 0);
    return 0;
}

static int use_reader(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    uint64_t from, to;
    EXPECT(twinlog_reader_next(reader, &record) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_previous(reader, &record) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_seek(reader, 1) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_seek_first(reader) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_seek_end(reader) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_seek_time(reader, 0) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_range(reader, &from, &to) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_wait(reader, 0) == TWINLOG_EFORKED);
    EXPECT(twinlog_reader_fd(reader) == TWINLOG_EFORKED);
    twinlog_reader_close(reader);
    return 0;
}

static int use_each(void)
{
    struct twinlog_request *request;
    struct twinlog_record record;
    EXPECT(log_use_forked(parents_log) == 0);
    EXPECT(use_reader(parents.outside) == 0 && use_reader(parents.attached) == 0);
    EXPECT(use_reader(twinlog_consumer_reader(parents.consumer)) == 0);
    EXPECT(twinlog_consumer_next(parents.consumer, &record) == TWINLOG_EFORKED);
    EXPECT(twinlog_consumer_commit(parents.consumer, 0) == TWINLOG_EFORKED);
    twinlog_consumer_close(parents.consumer);
    EXPECT(twinlog_queue_poll(parents.queue, &request, 1, 0) == TWINLOG_EFORKED);
    EXPECT(twinlog_queue_fd(parents.queue) == TWINLOG_EFORKED);
    EXPECT(twinlog_queue_close(parents.queue) == TWINLOG_EFORKED);
    EXPECT(twinlog_committer_close(parents.committer) == TWINLOG_EFORKED);
    EXPECT(twinlog_sink_write(parents.sink, "x", 1, NULL) == TWINLOG_EFORKED);
    EXPECT(twinlog_sink_close(parents.sink) == TWINLOG_EFORKED);
    EXPECT(twinlog_close(parents_log) == TWINLOG_EFORKED);
    return 0;
}

static int open_and_leave_a_child(void)
{
    EXPECT(open_each() == 0);
    if (fork_quietly() == 0) {
        atomic_store(&shared->acked, 1 + (uint64_t)use_each());
        _exit(live_until_told());
    }
    close(pipe_ends[1]);
    AWAIT(atomic_load(&shared->step) == 1);
    kill(getpid(), SIGKILL);
    return 1;
}

/* The child is alive and has the handles of a process that was killed: all can be opened at once. The writer's lock
 * lasts only until the last write has landed (I9). */
TEST_LOOP(a_child_of_a_killed_process_keeps_nothing_locked, TWINLOG_MODE_SHARED + LOG_IO_KINDS)
{
    struct twinlog_consumer *consumer;
    struct twinlog_sink *sink;

    mode_of_parent = _i;
    if (!choose(_i <= TWINLOG_MODE_SHARED ? 0 : _i - TWINLOG_MODE_SHARED,
                "a_child_of_a_killed_process_keeps_nothing_locked"))
        return;
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    ck_assert_int_eq(run_child(open_and_leave_a_child), 128 + SIGKILL);
    ck_assert_uint_eq(atomic_load(&shared->acked), 1); /* each call of the child was refused */
    const struct twinlog_options options = options_of_parent();
    log_close(log_open(&options));
    ck_assert_int_eq(twinlog_consumer_open(log_dir, "consumer", NULL, &consumer), 0);
    twinlog_consumer_close(consumer);
    snprintf(parents.sink_path, sizeof(parents.sink_path), "%s/sink", log_parent);
    ck_assert_int_eq(twinlog_sink_open(parents.sink_path, NULL, &sink), 0);
    ck_assert_int_eq(twinlog_sink_close(sink), 0);
    close(pipe_ends[1]);
    ck_assert_uint_eq(log_check().last_lsn, 5);
}

/* Another program has none of the writer's files: they are closed on exec. */
static int open_and_leave_a_program(void)
{
    int told[2];
    char byte;

    parents_log = open_wanted();
    append_records(parents_log, 0, 0, 5);
    EXPECT(pipe2(told, O_CLOEXEC) == 0);
    if (fork_quietly() == 0) {
        dup2(pipe_ends[0], STDIN_FILENO);
        execlp("cat", "cat", NULL);
        _exit(1);
    }
    close(told[1]);
    close(pipe_ends[1]);
    EXPECT(read(told[0], &byte, 1) == 0); /* closed by exec */
    kill(getpid(), SIGKILL);
    return 1;
}

TEST(a_program_that_a_killed_writer_started_does_not)
{
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    ck_assert_int_eq(run_child(open_and_leave_a_program), 128 + SIGKILL);
    log_close(open_wanted());
    close(pipe_ends[1]);
    ck_assert_uint_eq(log_check().last_lsn, 5);
}

CASE("readers in other processes", prepare, logdir_remove);

static int read_until_told(void)
{
    _Atomic uint64_t *const note = &shared->read[reading_child];
    struct twinlog_reader *reader;
    struct tally tally = { 0 };
    bool is_last = false;
    const char *wrong;

    EXPECT(twinlog_reader_open(log_dir, NULL, &reader) == 0);
    atomic_store(&shared->step, (int)reading_child + 1);
    while (!is_last) {
        is_last = atomic_load(&shared->must_stop);
        int64_t count = tally_rest(&tally, reader, &wrong);
        if (count < 0)
            fprintf(stderr, "record %" PRIu64 ": %s\n", tally.last_lsn + 1,
                    wrong ? wrong : twinlog_strerror((int)count));
        EXPECT(count >= 0);
        atomic_store(note, tally.last_lsn);
        sched_yield();
    }
    twinlog_reader_close(reader);
    return 0;
}

static pid_t start_reader(uint32_t number)
{
    reading_child = number;
    pid_t child = start_child(read_until_told);
    AWAIT(atomic_load(&shared->step) == (int)number + 1);
    return child;
}

static void expect_both_read(uint64_t lsn)
{
    for (int i = 0; i < 2; i++) {
        AWAIT(atomic_load(&shared->read[i]) >= lsn);
        ck_assert_uint_eq(atomic_load(&shared->read[i]), lsn);
    }
}

/* One begins beside a writer, the other while there is none. */
TEST_LOOP(a_reader_in_another_process_follows_any_writer, LOG_IO_KINDS)
{
    pid_t readers[2];

    if (!choose(_i, "a_reader_in_another_process_follows_any_writer"))
        return;
    struct twinlog *log = open_wanted();
    append_records(log, 0, 0, 30);
    readers[0] = start_reader(0);
    log_close(log);
    readers[1] = start_reader(1);
    expect_both_read(30);

    log = open_wanted();
    append_records(log, 0, 30, 200);
    expect_both_read(230); /* before it is closed */
    ck_assert_int_eq(enqueue_record(log, 0, 230, NULL), 0);
    log_close(log);
    expect_both_read(231);

    kill_after(start_child(append_for_ever), 30);
    log = open_wanted();
    uint64_t last = twinlog_last_lsn(log);
    ck_assert_uint_ge(last, 231 + atomic_load(&shared->acked));
    expect_both_read(last);
    append_records(log, 0, 231, 20);
    expect_both_read(last + 20);
    log_close(log);

    atomic_store(&shared->must_stop, true);
    ck_assert_int_eq(wait_child(readers[0]), 0);
    ck_assert_int_eq(wait_child(readers[1]), 0);
    ck_assert_uint_eq(log_check().last_lsn, last + 20);
}

/* Bytes behind the end, as a group leaves them that was being written. */
static void scribble_behind_the_end(void)
{
    unsigned char garbage[3000];

    memset(garbage, 0xa5, sizeof(garbage));
    struct twinlog_inspection inspection = log_inspect();
    patch_file(log_file(inspection.report.file), (off_t)inspection.report.offset, garbage, sizeof(garbage));
}

TEST(looking_changes_nothing)
{
    uint64_t before, last;

    kill_after(start_child(append_for_ever), 100);
    scribble_behind_the_end();
    before = log_fingerprint(true);
    last = log_check().last_lsn; /* a reader, and verify */
    ck_assert_uint_ge(last, atomic_load(&shared->acked));
    struct twinlog_inspection inspection = log_inspect();
    ck_assert_uint_eq(inspection.last_lsn, last);
    ck_assert_uint_eq(inspection.report.finding, TWINLOG_FOUND_TORN_TAIL);
    ck_assert_uint_eq(inspection.report.action, TWINLOG_WOULD_TRUNCATE);
    ck_assert_uint_eq(log_fingerprint(true), before);

    struct twinlog *log = open_wanted();
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_TORN_TAIL);
    ck_assert_uint_eq(log_report.action, TWINLOG_DID_TRUNCATE);
    ck_assert_uint_eq(twinlog_last_lsn(log), last);
    log_close(log);
}

/* ---- places that are none ---------------------------------------------------------------------- */

static int reader_error(struct twinlog_report *report)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;

    int result = twinlog_reader_open(log_dir, &WITH_SIZE(reader_options, .ret_report = report), &reader);
    if (result < 0)
        return result;
    while ((result = twinlog_reader_next(reader, &record)) > 0)
        continue;
    twinlog_reader_close(reader);
    return result;
}

static void expect_no_log(int open_error, int look_error)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_report report = { 0 };

    ck_assert_int_eq(log_open_error(NULL), open_error);
    ck_assert_int_eq(log_report.error, open_error);
    ck_assert_str_ne(log_report.text, "");
    ck_assert_int_eq(reader_error(&report), look_error);
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), look_error);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), look_error);
}

CASE("places", prepare, logdir_remove);

TEST(a_directory_whose_parent_is_missing_is_not_made)
{
    snprintf(log_dir, sizeof(log_dir), "%s/missing/log", log_parent);
    expect_no_log(-ENOENT, -ENOENT);
}

TEST(reading_makes_no_directory)
{
    struct twinlog_report report = { 0 };

    ck_assert_int_eq(reader_error(&report), -ENOENT);
    ck_assert_int_eq(access(log_dir, F_OK), -1);
}

TEST(a_file_is_no_directory)
{
    put_file(log_dir, "text", 4);
    expect_no_log(-ENOTDIR, -ENOTDIR);
}

TEST(a_directory_of_other_files_is_left_alone)
{
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    put_file(log_file("thesis.tex"), "text", 4);
    uint64_t before = log_fingerprint(true);
    expect_no_log(-ENOTEMPTY, -ENOENT);
    ck_assert_uint_eq(log_fingerprint(true), before);
    ck_assert_int_eq(unlink(log_file("thesis.tex")), 0);

    ck_assert_int_eq(mkdir(log_file("lost+found"), 0700), 0); /* where a disk of its own is mounted */
    put_file(log_file(".hidden"), "text", 4);
    log_close(log_open(NULL));
}

/* ---- segments that are none, or not this log's -------------------------------------------------- */

static void make_log_of_segments(void)
{
    struct twinlog *log = open_wanted();

    append_records(log, 0, 0, 400);
    ck_assert_uint_ge(log_stat(log).segments, 4);
    log_close(log);
}

static const char *segment_name(uint64_t sequence)
{
    return strrchr(log_segment(sequence), '/') + 1;
}

static int note_finding(void *context, const struct twinlog_report *finding)
{
    struct twinlog_report *first = context;

    if (first->error == 0)
        *first = *finding;
    return 0;
}

static void expect_report(const char *name, const struct twinlog_report *report, int error, uint64_t sequence)
{
    ck_assert_msg(report->error == error, "%s: the report has %s", name, twinlog_strerror(report->error));
    ck_assert_msg(strcmp(report->file, segment_name(sequence)) == 0, "%s: the report names %s, not %s", name,
                  report->file, segment_name(sequence));
    ck_assert_msg(strstr(report->text, segment_name(sequence)), "%s: the report is: %s", name, report->text);
}

/* By everybody, with the segment's name, and nothing is changed by that. */
static void expect_refused(int error, uint64_t sequence)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_verify_options verify_options = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_report report = { 0 };
    const uint64_t before = log_fingerprint(false);

    ck_assert_int_eq(log_open_error(NULL), error);
    ck_assert_uint_eq(log_report.action, TWINLOG_DID_REFUSE);
    expect_report("open", &log_report, error, sequence);
    ck_assert_int_eq(reader_error(&report), error);
    expect_report("reader", &report, error, sequence);
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), error);
    expect_report("inspect", &inspection.report, error, sequence);
    memset(&report, 0, sizeof(report));
    verify_options.each = note_finding;
    verify_options.context = &report;
    ck_assert_int_eq(twinlog_verify(log_dir, &verify_options, NULL), error);
    expect_report("verify", &report, error, sequence);
    ck_assert_uint_eq(log_fingerprint(false), before);
}

static void hide(uint64_t sequence)
{
    char to[700];

    snprintf(to, sizeof(to), "%s/hidden", log_parent);
    ck_assert_int_eq(rename(log_segment(sequence), to), 0);
}

static void put_back(uint64_t sequence)
{
    char from[700];

    snprintf(from, sizeof(from), "%s/hidden", log_parent);
    unlink(log_segment(sequence));
    ck_assert_int_eq(rename(from, log_segment(sequence)), 0);
    ck_assert_uint_eq(log_check().last_lsn, 400);
    log_close(log_open(NULL));
}

CASE("segments", prepare, logdir_remove);

/* Which cannot be told from a segment with an overwritten header. */
TEST(a_file_that_is_only_named_like_a_segment_is_refused)
{
    static const unsigned char text[8192] = "Dear diary,";

    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    put_file(log_segment(1), text, sizeof(text));
    expect_refused(TWINLOG_ECORRUPT, 1);
    put_file(log_segment(1), text, 11);
    expect_refused(TWINLOG_ECORRUPT, 1);
    ck_assert_int_eq(unlink(log_segment(1)), 0);
    make_log_of_segments();
    hide(2);
    put_file(log_segment(2), text, sizeof(text));
    expect_refused(TWINLOG_ECORRUPT, 2);
    put_back(2);
}

static void patch_header(uint64_t sequence, size_t at, uint32_t value)
{
    unsigned char prefix[24];
    const char *path = log_segment(sequence);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(pread(fd, prefix, sizeof(prefix), 0), sizeof(prefix));
    close(fd);
    for (int i = 0; i < 4; i++)
        prefix[at + (size_t)i] = (unsigned char)(value >> (8 * i));
    value = twl_crc32c(0, prefix, 20);
    for (int i = 0; i < 4; i++)
        prefix[20 + i] = (unsigned char)(value >> (8 * i));
    patch_file(path, 0, prefix, sizeof(prefix));
}

TEST(a_newer_format_is_told_from_damage)
{
    static const unsigned char flip = 0x7f;

    make_log_of_segments();
    patch_header(3, 8, 2); /* the version */
    expect_refused(TWINLOG_EVERSION, 3);
    patch_header(3, 8, 1);
    patch_header(3, 12, 0x80); /* a feature that must be known */
    expect_refused(TWINLOG_EVERSION, 3);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_NEWER_FORMAT);
    patch_header(3, 12, 0);
    ck_assert_uint_eq(log_check().last_lsn, 400);
    patch_file(log_segment(3), 8, &flip, 1); /* the same place, without its checksum */
    expect_refused(TWINLOG_ECORRUPT, 3);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_BAD_HEADER);
}

TEST(a_segment_that_was_truncated_is_damage)
{
    static const off_t sizes[] = { 65535, 65536 - 4096, 10000, 4096 };

    make_log_of_segments();
    for (uint64_t sequence = 1; sequence <= 3; sequence += 2)
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            char copy[700];

            snprintf(copy, sizeof(copy), "%s/copy%" PRIu64 "-%zu", log_parent, sequence, i);
            copy_directory(log_dir, copy);
            ck_assert_int_eq(truncate(log_segment(sequence), sizes[i]), 0);
            expect_refused(TWINLOG_ECORRUPT, sequence);
            ck_assert_uint_eq(log_report.offset, (uint64_t)sizes[i]);
            ck_assert_uint_eq(log_report.segment, sequence);
            snprintf(log_dir, sizeof(log_dir), "%.299s", copy);
            ck_assert_uint_eq(log_check().last_lsn, 400);
        }
}

TEST(a_segment_of_another_log_is_refused)
{
    char other[700];

    make_log_of_segments();
    snprintf(other, sizeof(other), "%s/other", log_parent);
    ck_assert_int_eq(rename(log_dir, other), 0);
    make_log_of_segments();
    hide(3);
    const char *path = log_segment(3);
    snprintf(other, sizeof(other), "%s/other/%s", log_parent, segment_name(3));
    ck_assert_int_eq(link(other, path), 0);
    expect_refused(TWINLOG_EFOREIGN, 3);
    put_back(3);
}

TEST(a_second_copy_of_a_segment_is_refused)
{
    make_log_of_segments();
    ck_assert_int_eq(link(log_segment(2), log_segment(0x99)), 0);
    expect_refused(TWINLOG_EFOREIGN, 0x99);
}

/* Headers say what a file is. */
TEST(the_name_of_a_segment_means_nothing)
{
    char old_name[700], new_name[700];

    make_log_of_segments();
    snprintf(old_name, sizeof(old_name), "%s", log_segment(2));
    snprintf(new_name, sizeof(new_name), "%s", log_segment(0x99));
    ck_assert_int_eq(rename(old_name, new_name), 0);
    const struct tally tally = log_check();
    struct twinlog *log = log_open(NULL);
    append_records(log, 0, tally.next[0], 100);
    log_close(log);
    ck_assert_uint_eq(log_check().next[0], tally.next[0] + 100);
}

/* A link may lead out of the directory, a pipe keeps its reader waiting. */
TEST(a_segment_must_be_a_regular_file)
{
    char elsewhere[700];

    make_log_of_segments();
    snprintf(elsewhere, sizeof(elsewhere), "%s/hidden", log_parent);
    hide(2);
    ck_assert_int_eq(symlink(elsewhere, log_segment(2)), 0);
    expect_refused(-ELOOP, 2);
    ck_assert_int_eq(unlink(log_segment(2)), 0);
    ck_assert_int_eq(mkfifo(log_segment(2), 0666), 0);
    expect_refused(-EINVAL, 2);
    ck_assert_int_eq(unlink(log_segment(2)), 0);
    ck_assert_int_eq(mkdir(log_segment(2), 0777), 0);
    expect_refused(-EISDIR, 2);
    ck_assert_int_eq(rmdir(log_segment(2)), 0);
    put_back(2);
}

TEST(a_lock_file_that_is_a_link_is_refused)
{
    char elsewhere[700];

    make_log_of_segments();
    snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", log_parent);
    put_file(elsewhere, "text", 4);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    ck_assert_int_eq(symlink(elsewhere, log_file("writer.lock")), 0);
    ck_assert_int_eq(log_open_error(NULL), -ELOOP);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    ck_assert_uint_eq(log_check().last_lsn, 400);
    log_close(log_open(NULL));
}
