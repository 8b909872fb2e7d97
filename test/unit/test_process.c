/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log among processes and files that are not its own: which may write, what a fork does to it, what a reader in
 * another process sees, and what the library refuses to touch.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
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
    _Atomic uint64_t acked; /* records of the writing child */
} * shared;

static uint32_t wanted_io;

static void prepare(void)
{
    logdir_make();
    shared = shared_page();
}

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
    EXPECT(strstr(log_report.text, "another writer"));
    EXPECT(strstr(log_report.text, process) || !has_proc());
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
    for (uint64_t i = 1; i <= records; i++)
        AWAIT(atomic_load(&shared->acked) >= i);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
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
    return TEMP_FAILURE_RETRY(read(pipe_ends[0], &byte, 1)) == 0 ? 0 : 1;
}

/* ---- a parent that is killed ---------------------------------------------------------------------- */

static const struct parent {
    const char *name;
    enum twinlog_mode mode;
    enum twinlog_io io;
} parents_to_kill[] = {
    { .name = "durable, as the log chooses" },
    { .name = "durable, io_uring", .io = TWINLOG_IO_URING },
    { .name = "durable, io_uring, linked", .io = TWINLOG_IO_URING_LINKED },
    { .name = "durable, dsync", .io = TWINLOG_IO_DSYNC },
    { .name = "durable, fdatasync", .io = TWINLOG_IO_FDATASYNC },
    { .name = "mapped", .mode = TWINLOG_MODE_MAPPED },
    { .name = "shared", .mode = TWINLOG_MODE_SHARED },
};
static enum twinlog_mode mode_of_parent;

static struct twinlog_options options_of_parent(void)
{
    struct twinlog_options options = wanted_options();
    options.mode = mode_of_parent;
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
    const struct twinlog_sink_options mapped = { .size = sizeof(mapped), .flags = TWINLOG_SINK_MAPPED };
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
    EXPECT(twinlog_sink_open(parents.sink_path, &mapped, &parents.sink) == 0);
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
TEST_EACH(a_child_of_a_killed_process_keeps_nothing_locked, parents_to_kill)
{
    struct twinlog_consumer *consumer;
    struct twinlog_sink *sink;

    mode_of_parent = row->mode;
    if (!choose((int)row->io, "a_child_of_a_killed_process_keeps_nothing_locked"))
        return;
    ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    ck_assert_int_eq(run_child(open_and_leave_a_child), 128 + SIGKILL);
    ck_assert_uint_eq(atomic_load(&shared->acked), 1); /* each call of the child was refused */

    const struct twinlog_options options = options_of_parent();
    const struct twinlog_sink_options mapped = { .size = sizeof(mapped), .flags = TWINLOG_SINK_MAPPED };
    log_close(log_open(&options));
    ck_assert_int_eq(twinlog_consumer_open(log_dir, "consumer", NULL, &consumer), 0);
    twinlog_consumer_close(consumer);
    snprintf(parents.sink_path, sizeof(parents.sink_path), "%s/sink", log_parent);
    ck_assert_int_eq(twinlog_sink_open(parents.sink_path, &mapped, &sink), 0);
    ck_assert_int_eq(twinlog_sink_close(sink), 0);

    close(pipe_ends[1]);
    ck_assert_uint_eq(log_check().last_lsn, 5);
}

CASE("readers in other processes", prepare, logdir_remove);

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

CASE("programs that are started", logdir_make, logdir_remove);

/* What a program sees that is started now, one line for each descriptor. */
static unsigned descriptors_of_a_program(char *ret_lines, size_t room)
{
    FILE *pipe = popen("exec ls -l /proc/self/fd", "re");
    unsigned count = 0;
    char line[1000];

    ck_assert_ptr_nonnull(pipe);
    ret_lines[0] = '\0';
    while (fgets(line, sizeof(line), pipe)) {
        const size_t used = strlen(ret_lines);
        count += strstr(line, " -> ") != NULL;
        snprintf(ret_lines + used, room - used, "%s", line);
    }
    ck_assert_int_eq(pclose(pipe), 0);
    return count;
}

TEST_LOOP(no_descriptor_is_inherited, LOG_IO_KINDS)
{
    static char before[10000], meanwhile[10000];
    struct twinlog_options options = log_options((uint32_t)_i, 0);
    struct twinlog_reader_options mapping = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_committer *committer = NULL;
    struct twinlog *log, *together = NULL, *looking;
    struct twinlog_reader *outside, *attached, *mapped;
    struct twinlog_queue *queue;
    struct twinlog_record record;
    char other_dir[600];

    if (!can_look_into_proc("no_descriptor_is_inherited") ||
        !log_can_use("no_descriptor_is_inherited", options.io, 0))
        return;
    log = log_open(NULL);
    append_records(log, 0, 0, 1);
    log_close(log);
    const unsigned usual = descriptors_of_a_program(before, sizeof(before));
    snprintf(other_dir, sizeof(other_dir), "%s/other", log_parent);
    options.segment_bytes = 64 * KIB;
    options.spare_segments = 2;
    log = log_open(&options);
    options = log_options(0, 0);
    if (twinlog_committer_open(NULL, &committer) == 0) {
        options.committer = committer;
        ck_assert_int_eq(twinlog_open(other_dir, &options, &together), 0);
        ck_assert_int_eq(twinlog_append(together, "one", 3, NULL), 0);
    }
    options = log_options(0, TWINLOG_READ_ONLY);
    ck_assert_int_eq(twinlog_open(log_dir, &options, &looking), 0);
    outside = log_reader(0, 0);
    attached = log_attach(log, 0, 0);
    mapping.flags = TWINLOG_READER_MMAP;
    ck_assert_int_eq(twinlog_reader_open(log_dir, &mapping, &mapped), 0);
    ck_assert_int_eq(twinlog_reader_next(outside, &record), 1);
    ck_assert_int_eq(twinlog_reader_next(attached, &record), 1);
    ck_assert_int_eq(twinlog_reader_next(mapped, &record), 1);
    ck_assert_int_ge(twinlog_reader_fd(outside), 0);
    ck_assert_int_ge(twinlog_reader_fd(attached), 0);
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
    ck_assert_int_ge(twinlog_queue_fd(queue), 0);
    ck_assert_int_eq(twinlog_append(log, "one", 3, NULL), 0);

    const unsigned now = descriptors_of_a_program(meanwhile, sizeof(meanwhile));
    ck_assert_msg(now == usual, "before:\n%sand with logs open:\n%s", before, meanwhile);

    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    twinlog_reader_close(outside);
    twinlog_reader_close(attached);
    twinlog_reader_close(mapped);
    log_close(looking);
    if (together)
        log_close(together);
    if (committer)
        ck_assert_int_eq(twinlog_committer_close(committer), 0);
    log_close(log);
}
