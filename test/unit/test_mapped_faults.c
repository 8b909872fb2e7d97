/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TWINLOG_MODE_MAPPED, as the header describes it: what a death leaves, and what happens when files can't be
 * made, mapped or kept; what is refused; the keeper; trims.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "format/format.h"
#include "gate.h"
#include "io/io.h"
#include "log/handle.h"
#include "logdir.h"
#include "mapped/inside.h"
#include "mapped_life.h"
#include "suites.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

CASE("death", set_up, logdir_remove);

/* Of the blocks that the files of the log have. */
static uint64_t space_taken(void)
{
    DIR *directory = opendir(log_dir);
    uint64_t bytes = 0;
    struct stat about;

    ck_assert_ptr_nonnull(directory);
    for (const struct dirent *entry; (entry = readdir(directory));) {
        ck_assert_int_eq(fstatat(dirfd(directory), entry->d_name, &about, 0), 0);
        bytes += (uint64_t)about.st_blocks * 512;
    }
    closedir(directory);
    return bytes;
}

static int append_one_and_die(void)
{
    struct twinlog_options options = large();
    const uint32_t count = (uint32_t)atomic_load(&shared->acked);

    options.mode = tested_mode;
    options.spare_segments = 0;
    struct twinlog *log = log_open(&options);
    if (append_record(log, 0, count, NULL) == 0)
        atomic_store(&shared->acked, count + 1);
    kill(getpid(), SIGKILL);
    return 1;
}

/* Each process starts a segment of 10 MiB; the next one gives back what it did not use. */
TEST(kills_in_a_row_leave_no_space_taken)
{
    for (uint32_t incarnations = 1; incarnations <= 20; incarnations++) {
        ck_assert_int_eq(wait_child(start_child(append_one_and_die)), 128 + SIGKILL);
        ck_assert_uint_eq(atomic_load(&shared->acked), incarnations);
    }
    ck_assert_uint_lt(space_taken(), 64u << 20); /* two segments, and what is prepared */
    expect_count(20, false);
}

CASE("what the disk does", set_up, logdir_remove);

static int is_unsealed(void *context, const struct twinlog_segment *segment)
{
    (void)context;
    return segment->state == TWINLOG_SEGMENT_UNSEALED;
}

/* The keeper has sealed the segment of the opening's marker: behind a shut gate it would make no other. */
static struct twinlog *open_gated(uint32_t mode)
{
    const struct twinlog_options options = small(mode);
    struct twinlog *log = gate_log(&options);

    AWAIT(twinlog_segments(log_dir, is_unsealed, NULL) == 0);
    return log;
}

/* Until it is refused. Returns the number of records that are there then. */
static uint32_t append_until(struct twinlog *log, uint32_t from, int error)
{
    uint64_t lsn;
    uint32_t count = from;
    int rc;

    while ((rc = append_record(log, 0, count, &lsn)) == 0)
        ck_assert_uint_eq(lsn, ++count);
    ck_assert_int_eq(rc, error);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), count);
    return count;
}

/* Of new segments; 0: none is refused. */
static void refuse_segments(int error)
{
    atomic_store(&gate.largest_file, error == -ENOSPC ? 0 : UINT64_MAX);
    atomic_store(&gate.map_error, error == -ENOMEM ? error : 0);
}

static const struct segment_refusal {
    const char *name;
    int error;
} segment_refusals[] = {
    { "the disk is full", -ENOSPC },
    { "nothing more can be mapped", -ENOMEM },
};

TEST_EACH(a_log_that_gets_no_segment_refuses_and_goes_on_when_it_gets_one, segment_refusals)
{
    const int error = row->error;
    struct twinlog *log = open_gated(tested_mode);
    uint32_t count = 0;

    for (unsigned round = 0; round < 3; round++) {
        refuse_segments(error);
        count = append_until(log, count, error);
        const unsigned files = log_count_files();
        for (unsigned i = 0; i < 5; i++) {
            const uint32_t again = append_until(log, count, error);
            /* the thread may have had a segment half made */
            ck_assert(again == count || (error == -ENOSPC && again > count));
            count = again;
        }
        ck_assert(error == -ENOSPC || log_count_files() <= files + 1);
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), count);
        const struct twinlog_stat stat = log_stat(log);
        ck_assert_int_eq(stat.poison, 0);
        ck_assert_uint_ge(stat.full_failures, error == -ENOSPC ? 6 * (round + 1) : 0);
        expect_live(log, count);
        refuse_segments(0);
        append_records(log, 0, count, 50);
        count += 50;
    }
    refuse_segments(error);
    count = append_until(log, count, error);
    log_close(log);
    refuse_segments(0);
    ck_assert_uint_eq(log_check().last_lsn, count);
    log = open_mode(tested_mode);
    append_records(log, 0, count, 50);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, count + 50);
}

/* More often than there is room for markers, as where a process is started again and again. */
TEST(a_log_that_is_opened_on_a_full_disk_is_refused_and_can_be_trimmed)
{
    const struct twinlog_options options = small(tested_mode), durable = small(TWINLOG_MODE_DURABLE);
    struct twinlog *log = open_mode(tested_mode);

    append_records(log, 0, 0, 500);
    log_close(log);
    atomic_store(&gate.largest_file, 0);
    for (unsigned i = 0; i < 200; i++)
        ck_assert_int_eq(gate_try_log(&options, &log), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(log_report.text, "in the durable mode"));
    ck_assert_uint_eq(log_check().last_lsn, 500);
    log = gate_log(&durable);
    ck_assert_uint_gt(log_trim(log, &WITH_SIZE(trim_options, .before_lsn = 400)).removed_bytes, 0);
    log_close(log);
    atomic_store(&gate.largest_file, UINT64_MAX);
    log = open_mode(tested_mode);
    append_records(log, 0, 500, 50);
    ck_assert_uint_eq(twinlog_last_lsn(log), 550);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

static void *append_until_it_is_told(void *argument)
{
    struct worker *worker = argument;

    for (uint32_t i = 0; atomic_load(&shared->step) == 0 && worker->result == 0; i++) {
        worker->result = append_record(threads_log, worker->writer, i, NULL);
        worker->count = i + 1;
    }
    return NULL;
}

#define FILES_OF_A_ROLL 4u /* at most: with fewer no segment may be made */

static unsigned files_left(void)
{
    int fds[FILES_OF_A_ROLL];
    unsigned count = 0;

    while (count < FILES_OF_A_ROLL && (fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    return count;
}

/* There are few files left, and for a while no segment was begun. */
static bool is_short_of_files(const _Atomic uint64_t *rolls)
{
    const uint64_t before = atomic_load(rolls);

    usleep(100000);
    return atomic_load(rolls) == before && files_left() < FILES_OF_A_ROLL;
}

/* The disk is slower than the writer, and each segment that is not closed yet has its file. */
TEST(an_append_waits_for_a_file_where_the_process_may_have_no_more)
{
    struct worker worker = { .writer = 0 };
    struct rlimit limit;

    threads_log = open_gated(tested_mode);
    const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    close(next);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)next + 12;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);

    const _Atomic uint64_t *rolls = &threads_log->mapped->statistics->rolls;
    gate_shut();
    worker.thread = start_thread(append_until_it_is_told, &worker);
    AWAIT(is_short_of_files(rolls));
    const uint64_t before = atomic_load(rolls);
    gate_open();
    AWAIT(atomic_load(rolls) > before + 20);
    atomic_store(&shared->step, 1);
    pthread_join(worker.thread, NULL);
    ck_assert_int_eq(worker.result, 0);
    log_close(threads_log);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    expect_count(worker.count, true);
}

static int open_without_a_thread(void)
{
    const struct twinlog_options options = large();
    struct twinlog *log;

    if (!forbid(SYS_clone3, EAGAIN) || !forbid(SYS_clone, EAGAIN))
        return CANNOT_RUN;
    for (unsigned i = 0; i < 3; i++)
        EXPECT(twinlog_open(log_dir, &options, &log) == -EAGAIN);
    return 0;
}

/* A service that is started again and again would fill the disk. */
TEST(an_opening_that_gets_no_thread_leaves_nothing_behind)
{
    static const char test[] = "an_opening_that_gets_no_thread_leaves_nothing_behind";
    struct twinlog *log = open_large();

    append_records(log, 0, 0, 10);
    log_close(log);
    const unsigned files = log_count_files();
    const int died = run_child(open_without_a_thread);
    if (!expect_success_or_skip(died, test, "no filter of system calls may be loaded"))
        return;
    ck_assert_uint_eq(log_count_files(), files);
    expect_count(10, true);
}

TEST(a_sync_that_fails_poisons)
{
    struct twinlog *log = open_gated(tested_mode);
    uint64_t lsn, durable_lsn;
    int rc = 0;

    durable_lsn = append_records(log, 0, 0, 3);
    ck_assert_int_eq(twinlog_sync(log), 0);
    atomic_store(&gate.error, -EIO);
    for (uint32_t i = 3; rc == 0; i++)
        rc = append_record(log, 0, i, &lsn);
    ck_assert_int_eq(rc, TWINLOG_EPOISONED);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(log_stat(log).poison, -EIO);
    ck_assert_int_eq(twinlog_sync(log), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_wait(log, durable_lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
    if (tested_mode == TWINLOG_MODE_MAPPED) { /* the other one syncs by msync(), which passes the gate */
        ck_assert_int_lt(twinlog_wait(log, twinlog_last_lsn(log), TWINLOG_LEVEL_DURABLE, 0), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), durable_lsn);
    }
    lsn = twinlog_last_lsn(log);
    ck_assert_int_lt(twinlog_close(log), 0);
    gate_reset();
    ck_assert_uint_eq(log_check().last_lsn, lsn); /* the kernel is alive */
    log = open_mode(tested_mode);
    ck_assert_uint_eq(twinlog_last_lsn(log), lsn);
    append_records(log, 0, (uint32_t)lsn, 10);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, lsn + 10);
}

/* What the kernel returns here is also what a thread is told that shall try again, or is out of time. */
static const struct ambiguous_error {
    const char *name;
    int error;
} ambiguous_errors[] = {
    { "EAGAIN", EAGAIN },
    { "ETIMEDOUT", ETIMEDOUT },
    { "ECANCELED", ECANCELED },
};
static int ambiguous_error;

static int meet_ambiguous_error(void)
{
    uint64_t lsn;

    if (!forbid(SYS_msync, ambiguous_error))
        return CANNOT_RUN;
    alarm(60);
    struct twinlog *log = open_mode(tested_mode);
    EXPECT(append_record(log, 0, 0, &lsn) == 0);
    EXPECT(twinlog_sync(log) == TWINLOG_EPOISONED);
    EXPECT(log_stat(log).poison == -EIO);
    EXPECT(twinlog_durable_lsn(log) == 0);
    EXPECT(append_record(log, 0, 1, &lsn) == TWINLOG_EPOISONED);
    EXPECT(twinlog_close(log) == -EIO);
    return 0;
}

TEST_EACH(an_error_with_another_meaning_is_an_error_for_good, ambiguous_errors)
{
    ambiguous_error = row->error;
    expect_success_or_skip(run_child(meet_ambiguous_error),
                           "an_error_with_another_meaning_is_an_error_for_good",
                           "no seccomp filter may be loaded");
}

static void expect_lost(int rc)
{
    ck_assert_msg(rc == TWINLOG_EPOISONED, "%s", twinlog_strerror(rc));
}

static void append_until_lost(struct twinlog *log, struct twinlog_reader *reader CK_ATTRIBUTE_UNUSED)
{
    uint64_t lsn;
    int rc = 0;

    for (uint32_t i = 0; rc == 0; i++)
        rc = append_record(log, 0, 100 + i, &lsn);
    expect_lost(rc);
}

static void sync_what_is_lost(struct twinlog *log, struct twinlog_reader *reader CK_ATTRIBUTE_UNUSED)
{
    expect_lost(twinlog_sync(log));
}

/* The log's thread may have found all of them written before. */
static void wait_for_what_is_lost(struct twinlog *log, struct twinlog_reader *reader CK_ATTRIBUTE_UNUSED)
{
    const uint64_t written_lsn = twinlog_written_lsn(log);

    ck_assert_uint_le(written_lsn, 100);
    const int rc = twinlog_wait(log, 100, TWINLOG_LEVEL_WRITTEN, 0);
    ck_assert(rc != 0 || written_lsn == 100);
    expect_lost(rc == 0 ? twinlog_sync(log) : rc);
}

static void read_what_is_lost(struct twinlog *log, struct twinlog_reader *reader)
{
    struct twinlog_record record;

    while (twinlog_reader_next(reader, &record) > 0)
        continue;
    expect_lost(twinlog_wait(log, 100, TWINLOG_LEVEL_DURABLE, 0));
}

static void leave_what_is_lost(struct twinlog *log, struct twinlog_reader *reader CK_ATTRIBUTE_UNUSED)
{
    uint64_t lsn;
    int rc = 0;

    for (unsigned i = 0; rc == 0 && i < 30000; i++)
        rc = append_on_terms(log, RECORD_ROOM, NULL, &lsn);
    ck_assert_int_lt(rc, 0);
}

static const struct call_on_lost {
    const char *name;
    void (*call)(struct twinlog *log, struct twinlog_reader *reader); /* NULL: the close is the first one */
} calls_on_lost[] = {
    { "append", append_until_lost },
    { "sync", sync_what_is_lost },
    { "wait", wait_for_what_is_lost },
    { "read", read_what_is_lost },
    { "append until the file is left", leave_what_is_lost },
    { "close", NULL },
};

/* Another program truncates the file under the mapping. What is called first is told, nothing waits for what is
 * lost. */
static void call_on_truncated(const struct call_on_lost *first, off_t kept_bytes)
{
    struct twinlog *log = open_large();
    struct twinlog_reader *reader = log_reader_of_kind(log, &log_reader_kinds[LOG_READER_KINDS - 1]);
    uint64_t lsn;

    append_records(log, 0, 0, 100);
    ck_assert_int_eq(truncate(log_segment(2), kept_bytes), 0);
    if (first->call) {
        first->call(log, reader);
        ck_assert_int_eq(append_record(log, 0, 0, &lsn), TWINLOG_EPOISONED);
        ck_assert_uint_eq(lsn, 0);
        ck_assert_int_lt(twinlog_sync(log), 0);
        ck_assert_int_eq(log_stat(log).poison, -EIO);
    }
    twinlog_reader_close(reader);
    ck_assert_int_lt(twinlog_close(log), 0);
}

TEST_EACH(a_file_that_is_truncated_to_its_header_poisons_and_no_process_dies, calls_on_lost)
{
    call_on_truncated(row, SEGMENT_HEADER_BYTES);
}

TEST_EACH(a_file_that_is_truncated_in_its_records_poisons_and_no_process_dies, calls_on_lost)
{
    call_on_truncated(row, SEGMENT_HEADER_BYTES + BLOCK_BYTES);
}

/* The page of its first word is there, and those of its payload are not: it must not be taken for a record, with
 * zeros. */
TEST(a_record_whose_pages_are_lost_is_not_completed)
{
    static unsigned char bytes[5 * BLOCK_BYTES];
    struct twinlog *log = open_large();
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;

    append_records(log, 0, 0, 1);
    memset(bytes, 'x', sizeof(bytes));
    ck_assert_int_eq(truncate(log_segment(2), 2 * BLOCK_BYTES), 0);
    ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    twinlog_reader_close(reader);
    ck_assert_int_lt(twinlog_close(log), 0);
    expect_count(1, true);
}

/* As where the kernel, or a program, has put something there. */
TEST(a_place_with_something_else_in_it_poisons)
{
    const uint64_t other = UINT64_C(0x0123456789abcdef);
    struct twinlog *log = open_large();
    const struct open_group *group = &atomic_load(&log->mapped->active)->group;

    append_records(log, 0, 0, 3);
    patch_file(log_segment(2), (off_t)twl_open_group_offset(group), &other, sizeof(other));
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_lt(twinlog_sync(log), 0);
    ck_assert_int_lt(twinlog_close(log), 0);
    expect_count(3, true);
}

static const struct unmapped_row {
    const char *name;
    bool is_there; /* from a writer in the mode `before`, with these records */
    uint32_t before, records;
    uint32_t afterwards;
} unmapped_rows[] = {
    { "a new log, then durable", false, 0, 0, TWINLOG_MODE_DURABLE },
    { "a durable log, then mapped", true, TWINLOG_MODE_DURABLE, 30, TWINLOG_MODE_MAPPED },
    { "a mapped log, then shared", true, TWINLOG_MODE_MAPPED, 30, TWINLOG_MODE_SHARED },
};

TEST_EACH(a_log_that_cannot_be_mapped_is_as_it_was, unmapped_rows)
{
    struct twinlog_options options = small(tested_mode);
    struct twinlog *log = NULL;
    unsigned files = 3; /* a segment, the state, the lock */

    if (row->is_there) {
        log = open_mode(row->before);
        append_records(log, 0, 0, row->records);
        log_close(log);
        log = NULL;
        files = log_count_files();
    }
    atomic_store(&gate.map_error, -ENOTSUP);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(gate_try_log(&options, &log), -ENOTSUP);
        ck_assert_ptr_null(log);
        ck_assert_int_eq(log_report.error, -ENOTSUP);
        ck_assert_ptr_nonnull(strstr(log_report.text, "map"));
        ck_assert_uint_eq(log_count_files(), files);
    }
    ck_assert_uint_eq(log_check().last_lsn, row->records);

    gate_reset();
    log = open_mode(row->afterwards);
    ck_assert_uint_eq(twinlog_last_lsn(log), row->records);
    append_records(log, 0, row->records, 100);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, row->records + 100);
}

CASE("what it refuses", set_up, logdir_remove);

/* Nothing happens then. Which calls are not there: unit-modes. */
TEST(several_records_at_once_are_refused)
{
    struct twinlog *log = open_mode(tested_mode);
    const struct twinlog_entry entries[2] = { { .data = "a", .size = 1 }, { .data = "b", .size = 1 } };
    uint64_t lsn = 77;

    append_records(log, 0, 0, 3);
    ck_assert_int_eq(twinlog_append_batch(log, entries, 2, NULL, &lsn), -ENOTSUP);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_append_batch(log, entries, 0, NULL, &lsn), -EINVAL);
    ck_assert_int_eq(twinlog_append_batch(log, NULL, 1, NULL, &lsn), -EINVAL);
    ck_assert_uint_eq(twinlog_last_lsn(log), 3);
    append_records(log, 0, 3, 3);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 6);
}

static const struct fault {
    const char *name, *word;
    struct twinlog_options options; /* what differs from the small ones */
    bool has_committer;
} faults[] = {
    { "a mode that is none", "mode is no", { .mode = TWINLOG_MODE_SHARED + 1 }, false },
    { "not a multiple of 4096", "mapped_bytes", { .mapped_bytes = SEGMENT_BYTES - 1 }, false },
    { "more than segment_bytes", "mapped_bytes", { .mapped_bytes = SEGMENT_BYTES + BLOCK_BYTES }, false },
    { "less than a record takes", "mapped_bytes", { .mapped_bytes = RECORD_ROOM + 6 * BLOCK_BYTES }, false },
    { "segments of more than 1 GiB", "segment_bytes", { .segment_bytes = (1u << 30) + BLOCK_BYTES }, false },
    { "padding", "padded", { .flags = TWINLOG_PAD }, false },
    { "only to read", "read-only", { .flags = TWINLOG_READ_ONLY }, false },
    { "a committer", "committer", { 0 }, true },
};

TEST_EACH(a_faulty_option_is_named, faults)
{
    const struct twinlog_options *differs = &row->options;
    struct twinlog_options options = small(tested_mode);

    options.flags |= differs->flags;
    options.mode = differs->mode ? differs->mode : options.mode;
    options.mapped_bytes = differs->mapped_bytes ? differs->mapped_bytes : options.mapped_bytes;
    options.segment_bytes = differs->segment_bytes ? differs->segment_bytes : options.segment_bytes;
    if (row->has_committer)
        ck_assert_int_eq(twinlog_committer_open(NULL, &options.committer), 0);
    ck_assert_int_eq(log_open_error(&options), -EINVAL);
    ck_assert_msg(strstr(log_report.text, row->word) != NULL, "%s", log_report.text);
    ck_assert_int_eq(access(log_dir, F_OK), -1);
    ck_assert_int_eq(twinlog_committer_close(options.committer), 0);
}

TEST(the_smallest_and_the_largest_that_is_allowed_works)
{
    struct twinlog_options options = small(tested_mode);

    options.mapped_bytes = RECORD_ROOM + 7 * BLOCK_BYTES;
    struct twinlog *log = log_open(&options);
    for (uint32_t i = 0; i < 200; i++)
        ck_assert_int_eq(append_on_terms(log, RECORD_ROOM, NULL, NULL), 0);
    log_close(log);
    expect_count(200, true);
    options = large();
    options.segment_bytes = UINT64_C(1) << 30;
    log = log_open(&options);
    ck_assert_int_eq(append_on_terms(log, RECORD_ROOM, NULL, NULL), 0);
    log_close(log);
    expect_count(201, true);
}

/* ---- in the mapped mode only ----------------------------------------------------------------------- */

CASE("what the threads do", set_up, logdir_remove);

TEST(a_try_hears_of_a_full_disk_with_the_next_one)
{
    struct twinlog *log = open_gated(tested_mode);
    const struct twinlog_terms terms = { .size = sizeof(terms),
                                         .flags = TWINLOG_TRY,
                                         .level = TWINLOG_LEVEL_WRITTEN };
    uint64_t lsn, last_lsn;
    int rc = 0;

    atomic_store(&gate.largest_file, 0);
    while ((rc = append_on_terms(log, 5000, &terms, &lsn)) == 0)
        continue;
    AWAIT((rc = append_on_terms(log, 5000, &terms, &lsn)) == -ENOSPC); /* one may have been in the making */
    ck_assert_uint_eq(lsn, 0);
    last_lsn = twinlog_last_lsn(log);
    atomic_store(&gate.largest_file, UINT64_MAX);
    AWAIT((rc = append_on_terms(log, 5000, &terms, &lsn)) == 0);
    ck_assert_uint_eq(lsn, last_lsn + 1);
    log_close(log);
    expect_count(lsn, true);
}

/* Files are made slowly, and a thread waits for one: a call that may not wait does not. */
TEST(a_try_does_not_wait_for_a_file_that_is_being_made)
{
    struct worker worker = { .writer = 0 };
    const struct twinlog_terms terms = { .size = sizeof(terms),
                                         .flags = TWINLOG_TRY,
                                         .level = TWINLOG_LEVEL_WRITTEN };
    const struct twinlog_entry entry = { .size = 0 };
    uint64_t lsn;
    int rc = 0;

    threads_log = open_gated(tested_mode);
    atomic_store(&gate.is_shut_for_files, true);
    worker.thread = start_thread(append_until_it_is_told, &worker);
    AWAIT(atomic_load(&gate.waiting) > 0);
    for (unsigned refused = 0; refused < 100; refused++) {
        rc = twinlog_append_batch(threads_log, &entry, 1, &terms, &lsn);
        if (rc == 0) { /* in one that was ready before */
            refused = 0;
            continue;
        }
        ck_assert_int_eq(rc, -EAGAIN);
        ck_assert_uint_eq(lsn, 0);
    }
    lsn = twinlog_last_lsn(threads_log); /* the other one may just have got there, and be copying */
    AWAIT(twinlog_written_lsn(threads_log) >= lsn);
    ck_assert_int_eq(twinlog_sync(threads_log), 0);
    atomic_store(&shared->step, 1);
    gate_open();
    pthread_join(worker.thread, NULL);
    ck_assert_int_eq(worker.result, 0);
    lsn = twinlog_last_lsn(threads_log);
    log_close(threads_log);
    expect_count(lsn, true);
}

/* A thread closes the group of a segment that was left; its sync takes a while. */
TEST(watermarks_never_block)
{
    struct twinlog *log = open_gated(tested_mode);
    const uint32_t before = (uint32_t)append_records(log, 0, 0, 3);
    gate_shut();
    uint32_t count = before;
    while (log_stat(log).rolls == 0)
        count = (uint32_t)append_records(log, 0, count, 1);
    gate_await();
    count = (uint32_t)append_records(log, 0, count, 3);
    ck_assert_uint_eq(twinlog_last_lsn(log), count);
    ck_assert_uint_eq(twinlog_written_lsn(log), count);
    ck_assert(ALONE || twinlog_durable_lsn(log) == 0); /* shared: the mapping was synced before */
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);
    ck_assert_int_eq(twinlog_wait(log, count, TWINLOG_LEVEL_WRITTEN, 0), 0);
    ck_assert_int_eq(twinlog_wait(log, count, TWINLOG_LEVEL_DURABLE, 1), -ETIMEDOUT);
    gate_open();
    ck_assert_int_eq(twinlog_sync(log), 0);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, count);
}

static void *sync_until_it_is_told(void *argument)
{
    struct worker *worker = argument;

    while (atomic_load(&shared->step) == 0 && worker->result == 0)
        worker->result = twinlog_sync(threads_log);
    return NULL;
}

static void *trim_until_it_is_told(void *argument)
{
    struct worker *worker = argument;
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;

    while (atomic_load(&shared->step) == 0 && worker->result == 0) {
        options.before_lsn = twinlog_durable_lsn(threads_log) + 1;
        worker->result = twinlog_trim(threads_log, &options, NULL);
    }
    return NULL;
}

/* The gate holds back what closes segments, and each that is left and not closed has a descriptor: there is one for
 * so many of them wherever programs can run. */
static void *append_beside_few_segments(void *argument)
{
    struct worker *worker = argument;

    while (atomic_load(&shared->step) == 0 && worker->result == 0) {
        struct twinlog_stat stat = TWINLOG_STAT_INIT;
        worker->result = twinlog_stat(threads_log, &stat);
        if (stat.segments >= 20)
            continue;
        for (uint32_t i = 0; i < 100 && worker->result == 0; i++)
            worker->result = append_record(threads_log, worker->writer, worker->count++, NULL);
    }
    return NULL;
}

/* An append holds the lock for leaving a segment while it waits for the next file; closing one holds the lock for
 * syncs, and needs the other one. Each writes and syncs, and waits at the gate in turn. */
TEST(who_leaves_closes_syncs_and_trims_never_wait_for_each_other_in_a_circle)
{
    static void *(*const work[3])(void *) = { append_beside_few_segments, sync_until_it_is_told,
                                              trim_until_it_is_told };
    struct worker workers[3] = { { .writer = 0 } };

    threads_log = open_gated(tested_mode);
    for (unsigned i = 0; i < 3; i++)
        workers[i].thread = start_thread(work[i], &workers[i]);
    for (unsigned round = 0; round < 200 || log_stat(threads_log).trimmed_segments < 5; round++) {
        gate_shut();
        gate_await();
        gate_open();
    }
    atomic_store(&shared->step, 1);
    for (unsigned i = 0; i < 3; i++) {
        pthread_join(workers[i].thread, NULL);
        ck_assert_int_eq(workers[i].result, 0);
    }
    const uint64_t lsn = twinlog_last_lsn(threads_log);
    log_close(threads_log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
    ck_assert_uint_eq(log_inspect().last_lsn, lsn);
}

static struct twinlog *leaving_log;
static _Thread_local bool is_syncing;
static bool has_left;

/* The segment that was just synced gets more records, and the next one gets one. It does not wait for a file: the
 * thread that makes it may be waiting for this sync. */
static void leave_segment(void)
{
    const struct twinlog_terms terms = { .size = sizeof(terms),
                                         .flags = TWINLOG_TRY,
                                         .level = TWINLOG_LEVEL_BUFFERED };
    const uint64_t rolls = log_stat(leaving_log).rolls;
    uint64_t lsn;

    while (is_syncing && !has_left && append_on_terms(leaving_log, 1000, &terms, &lsn) == 0)
        has_left = log_stat(leaving_log).rolls > rolls;
}

static bool sync_and_leave(struct twinlog *log)
{
    ck_assert_int_eq(twinlog_sync(log), 0); /* so that there is one segment for the next sync to write */
    append_records(log, 0, 0, 1);
    is_syncing = true;
    atomic_store(&gate.when_checked, leave_segment);
    ck_assert_int_eq(twinlog_sync(log), 0);
    atomic_store(&gate.when_checked, NULL);
    is_syncing = false;
    return has_left;
}

/* Its last records were not synced, so those of the next one are not durable, synced or not. */
TEST(a_segment_that_is_left_behind_its_sync_is_not_passed)
{
    struct twinlog *log = open_gated(tested_mode);

    leaving_log = log;
    has_left = false;
    AWAIT(sync_and_leave(log));
    ck_assert_uint_lt(twinlog_durable_lsn(log), twinlog_last_lsn(log));
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), twinlog_last_lsn(log));
    log_close(log);
}

static unsigned times_left;

static void leave_again(void)
{
    const struct twinlog_terms terms = { .size = sizeof(terms), .flags = TWINLOG_TRY };
    const uint64_t rolls = log_stat(leaving_log).rolls;
    struct mapped *mapped = leaving_log->mapped;
    struct segment made;
    uint64_t lsn;

    ck_assert_int_eq(twl_mapped_get_next(mapped, atomic_load(&mapped->active), true, &made), 0);
    twl_segment_close(&made);
    while (log_stat(leaving_log).rolls == rolls)
        ck_assert_int_eq(append_on_terms(leaving_log, 1000, &terms, &lsn), 0);
    atomic_store(&gate.when_checked, ++times_left < 50 ? leave_again : NULL);
}

/* As by appends that are faster than the disk. */
TEST(a_trim_ends_though_a_segment_is_left_whenever_it_closes_one)
{
    struct twinlog_options options = small(tested_mode);

    options.flags |= LOG_NO_THREADS;
    struct twinlog *log = leaving_log = gate_log(&options);
    times_left = 0;
    append_records(log, 0, 0, 300);
    ck_assert_int_eq(twinlog_sync(log), 0);
    leave_again();
    ck_assert_uint_eq(log_trim_before(log, 200).first_lsn, 200);
    ck_assert_uint_lt(times_left, 50);
    atomic_store(&gate.when_checked, NULL);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

CASE("trims", set_up, logdir_remove);

/* Also from the next writer in another mode. */
TEST_EACH(a_trim_removes_what_is_durable, log_modes)
{
    struct twinlog *log = open_mode(tested_mode);

    append_records(log, 0, 0, 3);
    ck_assert_uint_eq(log_trim_before(log, 1000).first_lsn, 1);
    append_records(log, 0, 3, 997);
    ck_assert_int_eq(twinlog_sync(log), 0);
    const struct twinlog_trim_result result = log_trim_before(log, 601);
    ck_assert_uint_eq(result.first_lsn, 601);
    ck_assert_uint_eq(result.removed_records, 600);
    ck_assert_uint_gt(result.removed_segments, 2);
    ck_assert_uint_eq(twinlog_first_lsn(log), 601);
    expect_kept(601, 1000);
    append_records(log, 0, 1000, 500);
    expect_kept(601, 1500);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_trim_before(log, 5000).first_lsn, 1501);
    ck_assert_uint_eq(twinlog_first_lsn(log), 0);
    append_records(log, 0, 1500, 5);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1501);
    log_close(log);
    expect_kept(1501, 1505);
    log = open_mode(row->mode);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1501);
    append_records(log, 0, 1505, 200);
    log_close(log);
    expect_kept(1501, 1705);
}

/* Before the thread has closed their groups. */
TEST(segments_that_are_trimmed_early_are_given_back)
{
    struct twinlog *log = open_mode(tested_mode);

    for (uint32_t i = 0; i < 100; i++) {
        const uint64_t lsn = append_records(log, 0, i * 50, 50);
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_uint_eq(log_trim_before(log, lsn).first_lsn, lsn);
        ck_assert_uint_le(log_stat(log).segments, 3);
    }
    ck_assert_uint_gt(log_stat(log).trimmed_segments, 20);
    log_close(log);
    expect_kept(5000, 5000);
}

TEST(retention_and_cursors_work)
{
    struct twinlog_options options = small(tested_mode);
    uint64_t lsn;

    options.keep_records = 300;
    struct twinlog *log = log_open(&options);
    append_records(log, 0, 0, 50);
    ck_assert_int_eq(twinlog_cursor_set(log, "slow", 51), -ERANGE);
    ck_assert_int_eq(twinlog_cursor_set(log, "slow", 20), 0);
    append_records(log, 0, 50, 2000);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_le(twinlog_first_lsn(log), 21);
    ck_assert_int_eq(twinlog_cursor_set(log, "slow", 2000), 0);
    append_records(log, 0, 2050, 1000);
    ck_assert_int_eq(twinlog_sync(log), 0);
    AWAIT(twinlog_first_lsn(log) > 1000);
    ck_assert_int_eq(twinlog_cursor_get(log, "slow", &lsn), 0);
    ck_assert_uint_eq(lsn, 2000);
    ck_assert_uint_le(twinlog_first_lsn(log), 2001);
    ck_assert_int_eq(twinlog_meta_set(log, "vote", "yes", 3), 0);
    const uint64_t last_lsn = twinlog_last_lsn(log);
    ck_assert_uint_ge(last_lsn + 1 - twinlog_first_lsn(log), 300);
    log_close(log);
    log = open_mode(TWINLOG_MODE_DURABLE);
    char value[8];
    size_t size;
    ck_assert_int_eq(twinlog_meta_get(log, "vote", value, sizeof(value), &size), 0);
    ck_assert_uint_eq(size, 3);
    ck_assert_int_eq(twinlog_cursor_get(log, "slow", &lsn), 0);
    ck_assert_uint_eq(lsn, 2000);
    ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn);
    log_close(log);
}

#if !ALONE
TEST(a_handle_that_only_looks_sees_what_the_writer_has_appended)
{
    struct twinlog *log = open_mode(tested_mode);
    const struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct tally tally = { 0 };

    append_records(log, 0, 0, 10);
    struct twinlog *handle = log_open(&options);
    ck_assert_uint_eq(twinlog_last_lsn(handle), 10);
    append_records(log, 0, 10, 290);
    ck_assert_uint_eq(twinlog_last_lsn(handle), 300);
    ck_assert_uint_eq(twinlog_first_lsn(handle), 1);
    struct twinlog_reader *reader = log_attach(handle, 0, 0);
    expect_rest(&tally, reader, 300);
    append_records(log, 0, 300, 100);
    expect_rest(&tally, reader, 400);
    log_close(log);
    ck_assert_uint_eq(twinlog_last_lsn(handle), 400);
    twinlog_reader_close(reader);
    log_close(handle);
}
#endif
