/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers of damaged logs, behind writers that died, and where the system refuses what they ask for.
 */
#define _GNU_SOURCE
#include "hooked.h"
#include "life_records.h"
#include "logdir.h"
#include "suites.h"

#include "control/shared_page.h"
#include "log/log.h"
#include "read/follower.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- damage and failures --------------------------------------------------------------------------- */

/* Three records, and a batch of two that is on disk but for one byte of the second. */
static int die_in_a_batch(void)
{
    static const char bytes[3000] = "the last of the batch";
    const struct twinlog_entry batch[2] = { { .data = "torn", .size = 4 },
                                            { .data = bytes, .size = sizeof(bytes) } };
    struct twinlog_options options = log_options(0, 0);
    struct twinlog *log;
    int rc = twinlog_open(log_dir, &options, &log);

    for (unsigned i = 0; rc == 0 && i < 3; i++)
        rc = twinlog_append(log, "sound", 5, NULL);
    if (rc < 0)
        return rc;
    return twinlog_append_batch(log, batch, 2, NULL, NULL);
}

static off_t find_in_segment(uint64_t segment, const char *text)
{
    static char bytes[65536];
    FILE *file = fopen(log_segment(segment), "r");

    ck_assert_ptr_nonnull(file);
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    const char *at = memmem(bytes, size, text, strlen(text));
    ck_assert_ptr_nonnull(at);
    return at - bytes;
}

CASE("beside a writer", logdir_make, logdir_remove);

/* The next writer gives their LSNs again, and the reader has read the place before. */
TEST_EACH(what_a_dead_writer_left_torn_is_not_returned_in_the_place_of_what_came_after, outside_kinds)
{
    struct twinlog_record record;

    ck_assert_int_eq(run_child(die_in_a_batch), 0);
    patch_file(log_segment(1), find_in_segment(1, "the last of the batch"), "?", 1);
    struct twinlog_reader *reader = open_reader(NULL, row, 0, 0);
    for (uint64_t lsn = 1; lsn <= 3; lsn++)
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    expect_no_next(reader, 0);
    struct twinlog *log = log_open(NULL);
    ck_assert_uint_eq(twinlog_last_lsn(log), 3);
    ck_assert_int_eq(twinlog_append(log, "other", 5, NULL), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_uint_eq(record.lsn, 4);
    ck_assert_uint_eq(record.size, 5);
    ck_assert_mem_eq(record.data, "other", 5);
    twinlog_reader_close(reader);
    log_close(log);
}

/* Between its two stores; it may be stopped there, or killed. What it told before is still so. */
TEST(a_writer_that_stops_while_it_tells_is_not_taken_for_one_without_records)
{
    const uint64_t before = ~UINT64_C(2);
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog *log = log_open(NULL), *looker;

    put_many(log, 0, 3);
    patch_file(log_file("writer.lock"), offsetof(struct page_words, durable.check), &before, sizeof(before));
    looker = log_open(&options);
    ck_assert_uint_eq(twinlog_first_lsn(looker), 1);
    ck_assert_uint_eq(twinlog_last_lsn(looker), 2);
    ck_assert_int_eq(twinlog_cursor_set(looker, "consumer", 2), 0);
    put_many(log, 0, 1);
    ck_assert_uint_eq(twinlog_last_lsn(looker), 4);
    log_close(looker);
    log_close(log);
}

/* They read files, and remember: so they take a log that is not const. */
TEST(the_watermarks_of_a_log_that_cannot_be_read_now_are_the_last_ones)
{
    uint64_t (*const watermarks[])(struct twinlog * log) = { twinlog_first_lsn, twinlog_last_lsn,
                                                             twinlog_written_lsn, twinlog_durable_lsn };
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    const uint64_t before[] = { 1, 3, 3, 3 };
    char away[512];

    struct twinlog *log = log_open(NULL);
    put_many(log, 0, 3);
    log_close(log);
    struct twinlog *looker = log_open(&options);
    ck_assert_uint_eq(twinlog_last_lsn(looker), 3);
    snprintf(away, sizeof(away), "%s/away", log_parent);
    log = log_open(NULL);
    put_many(log, 0, 1);
    log_close(log);
    ck_assert_int_eq(rename(log_file("state"), away), 0);
    for (size_t i = 0; i < 4; i++)
        ck_assert_uint_eq(watermarks[i](looker), before[i]);
    ck_assert_int_eq(rename(away, log_file("state")), 0);
    ck_assert_uint_eq(twinlog_last_lsn(looker), 4);
    log_close(looker);
}

CASE("damage and failures", logdir_make, logdir_remove);

TEST(a_file_that_is_truncated_under_a_mapping_is_an_error_and_no_signal)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, OUTSIDE_MAPPING, 0, 0);
    struct twinlog_record record;
    uint64_t lsn = 1;

    expect_next(reader, lsn, 0);
    ck_assert_int_eq(truncate(log_segment(1), 20000), 0);
    int rc = twinlog_reader_next(reader, &record);
    while (rc > 0) {
        lsn++;
        expect_it(rc, &record, lsn, 0);
        rc = twinlog_reader_next(reader, &record);
    }

    ck_assert_int_eq(rc, -EIO);
    ck_assert_uint_eq(reader_report.finding, TWINLOG_FOUND_SYSTEM_ERROR);
    ck_assert_uint_gt(lsn, 1);

    ck_assert_int_eq(twinlog_reader_seek(reader, 1000), 0);
    expect_next(reader, 1000, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

static _Atomic uint64_t calls;
static uint64_t failing_call; /* 0 = none */
static int sync_error, map_error, lock_error, view_error;

static int told_to_fail(const struct hooked_call *call)
{
    switch (call->op) {
    case SIM_SYNC:
    case SIM_SYNC_DIR:
        return sync_error;
    case SIM_LOCK:
        if (call->lock != IO_LOCK_USE)
            return 0;
        return lock_error;
    case SIM_MAP:
        return map_error;
    case SIM_VIEW:
        return view_error;
    default:
        return 0;
    }
}

static int fail_call(const struct hooked_call *call)
{
    const int error = told_to_fail(call);
    if (error < 0)
        return error;

    const uint64_t number = atomic_fetch_add(&calls, 1) + 1;
    if (number == failing_call)
        return -EIO;
    return 0;
}

static int open_failing(const struct reader_kind *kind, struct twinlog_reader **ret_reader)
{
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .flags = kind->flags, .ret_report = &reader_report);

    memset(&reader_report, 0, sizeof(reader_report));
    return twl_reader_open(hooked_log_dir(fail_call), &options, ret_reader);
}

/* These read all, and after an error go on where they were. They return how many errors there were. */
static unsigned read_on_with_failure(struct twinlog_reader *reader, uint64_t last)
{
    struct twinlog_record record;
    unsigned errors = 0;
    uint64_t lsn = 1;

    while (lsn <= last) {
        const int rc = twinlog_reader_next(reader, &record);
        if (rc > 0) {
            expect_it(rc, &record, lsn, 0);
            lsn++;
            continue;
        }

        errors++;
        ck_assert_int_eq(rc, -EIO);
        ck_assert_int_eq(reader_report.error, -EIO);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), -EIO);
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
    }

    return errors;
}

static unsigned read_back_with_failure(struct twinlog_reader *reader, uint64_t last)
{
    struct twinlog_record record;
    unsigned errors = 0;
    uint64_t lsn = last;

    while (lsn > 0) {
        const int rc = twinlog_reader_previous(reader, &record);
        if (rc > 0) {
            expect_it(rc, &record, lsn, 0);
            lsn--;
            continue;
        }

        errors++;
        ck_assert_int_eq(rc, -EIO);
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn + 1), 0);
    }

    return errors;
}

static unsigned read_by_time_with_failure(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    unsigned errors = 0;

    ck_assert_int_eq(twinlog_reader_seek_time(reader, 0), 0);
    int rc = twinlog_reader_next(reader, &record);
    while (rc < 0) {
        errors++;
        ck_assert_int_eq(rc, -EIO);
        ck_assert_int_eq(twinlog_reader_seek_time(reader, 0), 0);
        rc = twinlog_reader_next(reader, &record);
    }

    expect_it(rc, &record, 1, 0);
    return errors;
}

static void read_with_failure(struct twinlog_reader *reader, uint64_t last)
{
    unsigned errors = read_on_with_failure(reader, last);

    errors += read_back_with_failure(reader, last);
    errors += read_by_time_with_failure(reader);
    ck_assert_uint_le(errors, 1);
}

TEST_EACH(a_failure_anywhere_is_an_error_and_a_seek_goes_on, outside_kinds)
{
    const uint64_t last = 1500;
    bool is_done = false;

    log_close(make_life_log((unsigned)last));
    for (failing_call = 1; !is_done; failing_call += REPEATS(1u, 3u)) {
        struct twinlog_reader *reader;
        calls = 0;
        int rc = open_failing(row, &reader);
        if (rc < 0) {
            ck_assert_int_eq(rc, -EIO);
            ck_assert_int_eq(reader_report.error, -EIO);
            continue;
        }
        read_with_failure(reader, last);
        twinlog_reader_close(reader);
        is_done = calls < failing_call;
    }

    ck_assert_uint_gt(failing_call, 60);
}

/* A file system without a sync is one that can only be read. */
TEST_EACH(where_there_is_nothing_to_sync_all_is_shown, outside_kinds)
{
    struct twinlog_reader *reader;

    log_close(make_life_log(10));
    sync_error = -EINVAL;
    ck_assert_int_eq(open_failing(row, &reader), 0);
    expect_run(reader, 1, 10, 0);
    twinlog_reader_close(reader);
}

static const struct failing_sync {
    const char *name;
    const struct reader_kind *kind;
    int error;
} failing_syncs[] = {
    { "the disk fails", OUTSIDE, -EIO },
    { "the disk fails, mapping", OUTSIDE_MAPPING, -EIO },
    { "the file system had to stop writing", OUTSIDE, -EROFS },
    { "the file system had to stop writing, mapping", OUTSIDE_MAPPING, -EROFS },
    { "the disk is full", OUTSIDE, -ENOSPC },
    { "the disk is full, mapping", OUTSIDE_MAPPING, -ENOSPC },
};

TEST_EACH(what_can_not_be_synced_is_not_shown, failing_syncs)
{
    struct twinlog_reader *reader;

    log_close(make_life_log(10));
    sync_error = row->error;
    ck_assert_int_eq(open_failing(row->kind, &reader), row->error);
    ck_assert_int_eq(reader_report.error, row->error);
}

static const struct without {
    const char *name;
    int lock_error, view_error;
} withouts[] = {
    { "no locks", -ENOLCK, 0 },
    { "no mappings", 0, -ENOTSUP },
};

TEST_EACH(where_there_are_no_locks_or_no_mappings_the_reader_reads, withouts)
{
    struct twinlog_reader *reader;

    log_close(make_life_log(1500));
    lock_error = row->lock_error;
    view_error = row->view_error;
    ck_assert_int_eq(open_failing(OUTSIDE_MAPPING, &reader), 0);
    wander(reader, 1500, 100);
    twinlog_reader_close(reader);
}

/* A log with a writer that cannot share its page, and ten records of another writer, which has its page in the file. */
static struct twinlog *make_log_without_page(void)
{
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = SMALL_SEGMENT);

    log_close(make_life_log(10));
    map_error = -ENODEV;
    return log_on(hooked_log_dir(fail_call), &options);
}

static const struct reader_kind attached_kinds[] = {
    { "attached", true, 0 },
    { "attached, mapping", true, TWINLOG_READER_MMAP },
};

TEST_EACH(an_attached_reader_sees_the_page_that_its_writer_cannot_share, attached_kinds)
{
    struct twinlog *log = make_log_without_page();
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_run(reader, 1, 10, 0);
    expect_no_next(reader, 0);
    for (uint64_t lsn = 11; lsn < 300; lsn++) {
        put_many(log, 0, 1);
        expect_next(reader, lsn, 0);
        expect_no_next(reader, 0);
    }

    put_void(log);
    put_void(log);
    expect_no_next(reader, 0);
    put_many(log, 0, 1);
    put_void(log);
    expect_next(reader, 302, 0);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

/* The newest record has no marker behind it yet (I7). */
TEST_EACH(without_shared_memory_the_markers_in_the_log_tell, outside_kinds)
{
    struct twinlog *log = make_log_without_page();
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_run(reader, 1, 10, 0);
    expect_no_next(reader, 0);
    put_many(log, 0, 1);
    expect_no_next(reader, 0);
    for (uint64_t lsn = 12; lsn < 300; lsn++) {
        put_many(log, 0, 1);
        ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        expect_next(reader, lsn - 1, 0);
        expect_no_next(reader, 0);
    }

    put_void(log);
    put_void(log);
    expect_next(reader, 299, 0);
    expect_no_next(reader, 0);
    put_many(log, 0, 1);
    put_void(log);
    expect_next(reader, 302, 0);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(without_shared_memory_what_is_sound_counts_when_the_writer_has_gone, outside_kinds)
{
    struct twinlog *log = make_log_without_page();

    put_many(log, 0, 1);
    struct twinlog_reader *reader = open_reader(log, row, 11, 0);
    expect_no_next(reader, 0);
    expect_readable(twinlog_reader_fd(reader));
    log_close(log);
    expect_next(reader, 11, 0);
    twinlog_reader_close(reader);
}

/* All that tells how far the log is durable is its head, in the middle of a group. */
TEST(without_shared_memory_a_backup_ends_with_a_group)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    char copy[sizeof(log_parent) + 8];

    log_close(make_life_log(10));
    map_error = -ENODEV;
    struct twinlog *log = log_on(hooked_log_dir(fail_call), &options);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(put_one(log, 0), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    log_trim_before(log, 15);
    snprintf(copy, sizeof(copy), "%s/copy", log_parent);
    ck_assert_int_eq(twinlog_backup(log_dir, copy, NULL, &result), 0);
    ck_assert_uint_eq(result.first_lsn, 15);
    ck_assert_uint_eq(result.last_lsn, 20);
    log_close(log);
}

CASE("there and back", logdir_make, logdir_remove);

TEST(a_directory_that_is_missing_or_empty_is_no_log)
{
    struct twinlog_reader *reader = NULL;

    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), -ENOENT);
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), -ENOENT);
    ck_assert_ptr_null(reader);
}

TEST(a_log_without_its_state_file_is_damaged)
{
    struct twinlog_reader *reader = NULL;

    log_close(make_life_log(10));
    ck_assert_int_eq(unlink(log_file("state")), 0);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), TWINLOG_ECORRUPT);
    ck_assert_ptr_null(reader);
}

TEST(calls_without_a_reader_are_refused)
{
    ck_assert_int_eq(twinlog_reader_seek(NULL, 1), -EINVAL);
    ck_assert_int_eq(twinlog_reader_seek_first(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_seek_end(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_seek_time(NULL, 0), -EINVAL);
    ck_assert_int_eq(twinlog_reader_wait(NULL, 0), -EINVAL);
    ck_assert_int_eq(twinlog_reader_fd(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_range(NULL, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_next(NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_previous(NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_history(NULL, 0, NULL), -EINVAL);
    twinlog_reader_close(NULL); /* nothing happens */
}

/* ---- times ---------------------------------------------------------------------------------------- */

enum {
    EARLY = 10,
    LATE = 1000 /* the time of one record among early ones */
};

static int append_at(struct twinlog *log, int64_t time_ns)
{
    static const char bytes[2000];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes), .time_ns = time_ns };

    return twinlog_append_batch(log, &entry, 1, NULL, NULL);
}

static void expect_late_record(struct twinlog *log, uint64_t lsn)
{
    struct twinlog_reader *reader = log_attach(log, 0, 0);
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_reader_seek_time(reader, LATE / 2), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
    twinlog_reader_close(reader);
}

static const struct twinlog_options *small_segments(void)
{
    static struct twinlog_options options;

    options = LOG_OPTIONS(.segment_bytes = 64 << 10, .buffer_bytes = 16 << 10, .max_record_bytes = 2 << 10,
                          .flags = TWINLOG_BUFFERED);
    return &options;
}

CASE("times", logdir_make, logdir_remove);

/* The footer of the segment with the late record may be the one that is not written: then nobody knows how late its
 * records are, and those of the segments behind it say nothing of them. */
TEST(a_record_is_found_by_its_time_whichever_write_has_failed)
{
    uint64_t nth = 0;
    bool has_failed = true;

    while (has_failed) {
        struct simdisk *disk = make_simdisk();
        struct twinlog *log = log_on(simdisk_connect(disk), small_segments());
        ck_assert_int_eq(append_at(log, LATE), 0);
        const struct simdisk_fault fault = { .op = SIM_WRITE, .nth = ++nth, .error = -EIO };
        simdisk_inject(disk, &fault);
        for (unsigned i = 0; i < 150; i++)
            if (append_at(log, EARLY) < 0)
                break;
        has_failed = simdisk_faults(disk) > 0;
        simdisk_inject(disk, NULL);

        expect_late_record(log, 1);
        twinlog_close(log);
        log = log_on(simdisk_connect(disk), small_segments());
        expect_late_record(log, 1);
        log_close(log);
        simdisk_destroy(disk);
    }

    ck_assert_uint_gt(nth, 4); /* footers, among others */
}

/* A segment that a truncation cuts gets no footer. */
TEST(a_record_is_found_by_its_time_in_front_of_a_truncation)
{
    struct twinlog *log = log_open(small_segments());

    for (unsigned i = 0; i < 60; i++)
        ck_assert_int_eq(append_at(log, EARLY), 0);
    ck_assert_int_eq(append_at(log, LATE), 0);
    ck_assert_int_eq(append_at(log, EARLY), 0);
    ck_assert_int_eq(twinlog_truncate(log, 61), 0);
    for (unsigned i = 0; i < 90; i++)
        ck_assert_int_eq(append_at(log, EARLY), 0);

    expect_late_record(log, 61);
    log_close(log);
    log = log_open(small_segments());
    expect_late_record(log, 61);
    log_close(log);
}

/* Of a log that nobody has open: how many segments have a footer. None of them knows of a late record. */
static unsigned expect_early_footers(struct simdisk *disk)
{
    struct io *io = simdisk_connect(disk);
    unsigned footers = 0;

    for (uint64_t number = 1; number < 20; number++) {
        char name[SEGMENT_NAME_BYTES];
        struct segment segment;
        struct segment_footer footer;

        twl_segment_name(number, name);
        if (twl_segment_open_valid(io, name, &segment) < 0)
            continue;
        if (twl_segment_read_footer(&segment, &footer) > 0) {
            ck_assert_int_eq(footer.max_time_so_far_ns, EARLY);
            footers++;
        }
        twl_segment_close(&segment);
    }

    io->ops->destroy(io);
    return footers;
}

/* Else a search by time would read all that comes behind it. */
TEST(a_truncation_takes_the_times_of_its_records_along)
{
    struct simdisk *disk = make_simdisk();
    struct twinlog *log = log_on(simdisk_connect(disk), small_segments());

    for (unsigned i = 0; i < 60; i++)
        ck_assert_int_eq(append_at(log, EARLY), 0);
    ck_assert_int_eq(append_at(log, LATE), 0);
    for (unsigned i = 0; i < 60; i++)
        ck_assert_int_eq(append_at(log, EARLY), 0);
    ck_assert_int_eq(twinlog_truncate(log, 40), 0);
    for (unsigned i = 0; i < 90; i++)
        ck_assert_int_eq(append_at(log, EARLY), 0);
    log_close(log);

    ck_assert_uint_ge(expect_early_footers(disk), 3);
    simdisk_destroy(disk);
}

/* ---- damage that moves ----------------------------------------------------------------------------- */

CASE("damage and failures", logdir_make, logdir_remove);

static off_t moving_at; /* of a byte of the first record; 0 = nothing moves */

/* The second record is damaged, and at each second look the first one, too. */
static int move_damage(const struct hooked_call *call)
{
    static unsigned looks;

    if (call->op != SIM_LIST || moving_at == 0)
        return 0;
    looks++;
    patch_file(log_segment(1), moving_at, looks % 2 == 0 ? "?" : "!", 1);
    return 0;
}

static int open_moving(struct twinlog_reader **ret_reader)
{
    const struct twinlog_reader_options options = WITH_SIZE(reader_options, .ret_report = &reader_report);

    return twl_reader_open(hooked_log_dir(move_damage), &options, ret_reader);
}

/* Also the last of many looks is at files that change. */
TEST(damage_that_each_look_finds_elsewhere_is_no_damage)
{
    struct twinlog *log = open_life_log();
    struct twinlog_reader *reader;
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_append(log, "first of two !", 14, NULL), 0);
    ck_assert_int_eq(twinlog_append(log, "second of two !", 15, NULL), 0);
    put_many(log, 0, 20);
    log_close(log);
    ck_assert_int_eq(unlink(log_file(PAGE_FILE_NAME)), 0); /* it says where to look */
    patch_file(log_segment(1), find_in_segment(1, "second of two"), "?", 1);
    moving_at = find_in_segment(1, "first of two") + 13;
    ck_assert_int_eq(open_moving(&reader), -EBUSY);
    ck_assert_int_eq(reader_report.error, -EBUSY);
    ck_assert_uint_eq(reader_report.finding, TWINLOG_FOUND_SYSTEM_ERROR);

    patch_file(log_segment(1), moving_at, "!", 1);
    moving_at = 0;
    ck_assert_int_eq(open_moving(&reader), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    expect_no_next(reader, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(reader_report.first_lsn, 2);
    twinlog_reader_close(reader);
}
