/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log that goes on for long: what is trimmed, truncated, reset, kept by cursors and by retention, sealed and
 * recycled. Through the public interface, on real files.
 */
#define _GNU_SOURCE
#include "hooked.h"
#include "log/handle.h"
#include "logdir.h"
#include "suites.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* About 40 records of a thousand bytes to a segment. */
#define SEGMENT_BYTES 65536u
#define PAYLOAD_BYTES 1000u

/* ---- records that say which LSN they are, and of which generation -------------------------------- */

static void make_payload(uint64_t lsn, uint32_t generation, unsigned char bytes[PAYLOAD_BYTES])
{
    memset(bytes, (int)(lsn * 7 + generation), PAYLOAD_BYTES);
    memcpy(bytes, &lsn, sizeof(lsn));
    memcpy(bytes + sizeof(lsn), &generation, sizeof(generation));
}

static struct twinlog *open_small(uint32_t flags)
{
    return log_open(&LOG_OPTIONS(.flags = flags, .segment_bytes = SEGMENT_BYTES));
}

/* Up to `last`, each in a group of its own or all in a few. */
static void append_to(struct twinlog *log, uint64_t last, uint32_t generation)
{
    unsigned char bytes[PAYLOAD_BYTES];
    uint64_t lsn = twinlog_last_lsn(log);

    while (lsn < last) {
        make_payload(lsn + 1, generation, bytes);
        ck_assert_int_eq(twinlog_enqueue(log, bytes, sizeof(bytes), &lsn), 0);
        if (lsn % 8 == 0)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(lsn, last);
}

static struct twinlog *make_log(uint64_t last)
{
    struct twinlog *log = open_small(0);

    append_to(log, last, 0);
    return log;
}

/* All of [first, last] is there, the records from `changed` on of the later generation. */
static void expect_records(uint64_t first, uint64_t last, uint64_t changed, uint32_t generation)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;
    unsigned char bytes[PAYLOAD_BYTES];

    for (uint64_t lsn = first; lsn <= last; lsn++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
        make_payload(lsn, lsn >= changed ? generation : 0, bytes);
        ck_assert_uint_eq(record.size, sizeof(bytes));
        ck_assert_mem_eq(record.data, bytes, sizeof(bytes));
    }
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    twinlog_reader_close(reader);
    uint64_t records;
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), 0);
}

static unsigned count_segment_files(void)
{
    DIR *directory = opendir(log_dir);
    unsigned count = 0;

    ck_assert_ptr_nonnull(directory);
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += strlen(entry->d_name) == 20 && strcmp(entry->d_name + 16, ".twl") == 0;
    closedir(directory);
    return count;
}

CASE("trims", logdir_make, logdir_remove);

TEST(a_trim_is_exact_and_durable)
{
    struct twinlog *log = make_log(500);
    const struct twinlog_trim_result result = log_trim_before(log, 301);

    ck_assert_uint_eq(result.first_lsn, 301);
    ck_assert_uint_eq(result.removed_records, 300);
    ck_assert_uint_gt(result.removed_segments, 2);
    ck_assert_uint_eq(result.removed_bytes, result.removed_segments * SEGMENT_BYTES);
    ck_assert_uint_eq(result.holder, TWINLOG_HELD_BY_SEGMENT);
    ck_assert_int_eq(access(log_file(result.holder_name), F_OK), 0);
    ck_assert_uint_eq(twinlog_first_lsn(log), 301);
    expect_records(301, 500, 501, 0);
    log_close(log);
    expect_records(301, 500, 501, 0);
    log = open_small(0);
    ck_assert_uint_eq(twinlog_first_lsn(log), 301);
    append_to(log, 600, 0);
    log_close(log);
    expect_records(301, 600, 601, 0);
}

TEST(a_trim_keeps_so_many_bytes_or_records)
{
    struct twinlog *log = make_log(500);
    struct twinlog_trim_result result =
        log_trim(log, &WITH_SIZE(trim_options, .keep_bytes = 3 * SEGMENT_BYTES));

    ck_assert_uint_eq(result.holder, TWINLOG_HELD_BY_NOTHING); /* whole segments */
    ck_assert_uint_eq(log_stat(log).segments, 4 - 1);
    result = log_trim(log, &WITH_SIZE(trim_options, .keep_records = 7));
    ck_assert_uint_eq(result.first_lsn, 494);
    log_close(log);
    expect_records(494, 500, 501, 0);
}

static int64_t time_of(uint64_t lsn)
{
    struct twinlog_reader *reader = log_reader(lsn, 0);
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    twinlog_reader_close(reader);
    return record.time_ns;
}

TEST(a_trim_removes_segments_that_are_older)
{
    struct twinlog *log = make_log(500);

    log_close(log); /* now all but the active one are sealed */
    log = open_small(0);
    const struct twinlog_trim_result result =
        log_trim(log, &WITH_SIZE(trim_options, .before_time_ns = time_of(300)));
    ck_assert_uint_le(result.first_lsn, 300);
    ck_assert_uint_gt(result.first_lsn, 240); /* less than two segments before it */
    log_close(log);
    expect_records(result.first_lsn, 500, 501, 0);
}

static void append_at(struct twinlog *log, uint64_t last, int64_t time_ns)
{
    unsigned char bytes[PAYLOAD_BYTES];

    for (uint64_t lsn = twinlog_last_lsn(log); lsn < last;) {
        const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes), .time_ns = time_ns };
        make_payload(lsn + 1, 0, bytes);
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, &lsn), 0);
    }
}

/* Records may have times before 1970. */
TEST(a_trim_by_a_negative_time_removes_what_is_older)
{
    struct twinlog *log = open_small(0);

    append_at(log, 80, -3000);
    append_at(log, 200, -1000);
    log_close(log); /* now all but the active one are sealed */
    log = open_small(0);
    const struct twinlog_trim_result result =
        log_trim(log, &WITH_SIZE(trim_options, .before_time_ns = -2000));
    ck_assert_uint_gt(result.first_lsn, 40);
    ck_assert_uint_le(result.first_lsn, 81);
    log_close(log);
    expect_records(result.first_lsn, 200, 201, 0);
}

/* All records are trimmed when only the first segment holds a durable one; its footer has the time of what was
 * truncated. */
TEST(a_segment_of_which_nothing_is_kept_holds_no_trim)
{
    struct twinlog *log = open_small(0);

    append_at(log, 9, 1000);
    append_at(log, 10, 9000);
    ck_assert_int_eq(twinlog_truncate(log, 5), 0);
    ck_assert_uint_eq(log_trim_before(log, 6).first_lsn, 6);
    append_at(log, 80, 1000);
    append_at(log, 100, 3000);
    log_close(log); /* now all but the active one are sealed */
    log = open_small(0);
    const struct twinlog_trim_result result = log_trim(log, &WITH_SIZE(trim_options, .before_time_ns = 2000));
    ck_assert_uint_gt(result.first_lsn, 40);
    ck_assert_uint_eq(result.removed_records, result.first_lsn - 6);
    log_close(log);
    expect_records(result.first_lsn, 100, 101, 0);
}

/* The newest segment has a footer where a mapped one came behind it, of which a power cut has left nothing but the
 * header. It goes on, and what is appended now is newer. */
TEST(a_segment_that_goes_on_is_as_old_as_its_newest_record)
{
    static const unsigned char no_marks[8192];
    struct twinlog_options mapped = log_options(0, 0);
    struct twinlog *log = log_open(NULL);

    append_at(log, 10, 1000);
    log_close(log);
    mapped.mode = TWINLOG_MODE_MAPPED;
    log_close(log_open(&mapped)); /* begins the second segment */
    patch_file(log_segment(2), 4096, no_marks, sizeof(no_marks));
    struct twinlog_inspection inspection = log_inspect();
    ck_assert_int_eq(inspection.report.error, 0);
    ck_assert_uint_eq(inspection.last_lsn, 10);
    log = log_open(NULL);
    append_at(log, 20, 9000);
    const struct twinlog_trim_result result = log_trim(log, &WITH_SIZE(trim_options, .before_time_ns = 5000));
    ck_assert_uint_eq(result.removed_records, 0);
    log_close(log);
    expect_records(1, 20, 21, 0);
}

TEST(what_asks_for_nothing_or_too_much_is_refused)
{
    struct twinlog *log = open_small(0);
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;

    ck_assert_int_eq(twinlog_trim(log, &options, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_trim(log, NULL, NULL), -EINVAL);
    options.before_lsn = 1;
    options.flags = 1u << 1;
    ck_assert_int_eq(twinlog_trim(log, &options, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_trim(NULL, &options, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reset(log, 0), -EINVAL);
    ck_assert_int_eq(twinlog_reset(log, UINT64_MAX - 1), -EINVAL);
    ck_assert_int_eq(twinlog_truncate(log, UINT64_MAX), -EINVAL);
    log_close(log);
}

/* Returns how many segments were recycled. */
static uint64_t append_and_trim_in_turn(uint32_t flags)
{
    struct twinlog *log = open_small(flags);

    append_to(log, 200, 0);
    for (uint64_t last = 400; last <= 4000; last += 200) {
        log_trim_before(log, last - 300);
        append_to(log, last, 0);
    }
    const struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_gt(stat.trimmed_segments, 50);
    log_close(log);

    ck_assert_uint_le(count_segment_files(), 30);
    expect_records(3700, 4000, 4001, 0);
    return stat.recycled_segments;
}

TEST(trimmed_segments_are_recycled_and_the_number_of_files_stays)
{
    ck_assert_uint_gt(append_and_trim_in_turn(0), 20);
}

TEST(without_recycling_the_number_of_files_stays_too)
{
    ck_assert_uint_eq(append_and_trim_in_turn(TWINLOG_NO_RECYCLE), 0);
}

/* Twenty: as many as are asked for at an opening, and four. */
TEST(as_many_files_are_kept_as_the_next_opening_prepares)
{
    const struct twinlog_options options = LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES, .spare_segments = 16);
    struct twinlog *log = log_open(&options);

    append_to(log, 1000, 0);
    log_trim_before(log, 990);
    append_to(log, 1100, 0);
    ck_assert_uint_gt(log_stat(log).trimmed_segments, 20);
    log_close(log);
    ck_assert_uint_ge(count_segment_files(), 20);
    expect_records(990, 1100, 1101, 0);
}

CASE("retention", logdir_make, logdir_remove);

/* Appends 1,100 records, and returns the first LSN that is kept of them. */
static uint64_t append_and_find_first(const struct twinlog_options *options)
{
    struct twinlog *log = log_open(options);

    append_to(log, 1000, 0);
    log_close(log);
    log = log_open(options); /* the keeper may have been late */
    append_to(log, 1100, 0);
    log_close(log);

    const uint64_t first_lsn = log_inspect().first_lsn;
    expect_records(first_lsn, 1100, 1101, 0);
    return first_lsn;
}

static const struct {
    const char *name;
    uint64_t keep_bytes, keep_records;
    uint64_t last_first_lsn; /* the last LSN that may be the first one that is kept */
} kept[] = {
    { "four segments", 4 * SEGMENT_BYTES, 0, 1000 },
    { "150 records", 0, 150, 951 },
};

TEST_EACH(retention_keeps_so_much_and_no_more, kept)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES, .keep_bytes = row->keep_bytes,
                    .keep_records = row->keep_records);

    const uint64_t first_lsn = append_and_find_first(&options);
    ck_assert_uint_gt(first_lsn, 700);
    ck_assert_uint_le(first_lsn, row->last_first_lsn);
}

#define SECOND_NS INT64_C(1000000000)
#define YEAR_NS (365 * 86400 * SECOND_NS)

static int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static void append_of_time(struct twinlog *log, uint64_t last, int64_t time_ns)
{
    unsigned char payload[PAYLOAD_BYTES];

    for (uint64_t lsn = twinlog_last_lsn(log) + 1; lsn <= last; lsn++) {
        make_payload(lsn, 0, payload);
        const struct twinlog_entry entry = { .data = payload, .size = sizeof(payload), .time_ns = time_ns };
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, NULL), 0);
    }
}

/* 500 records, and 500 that are newer by so many seconds than the first ones are. The first LSN that is kept. */
static uint64_t keep_a_minute(int64_t time_ns, int64_t seconds, int64_t last_time_ns)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES, .keep_age_ms = 60 * 1000);
    struct twinlog *log = log_open(&options);

    append_of_time(log, 500, time_ns);
    append_of_time(log, 1000, time_ns + seconds * SECOND_NS);
    log_close(log);
    log = log_open(&options); /* the keeper may have been late */
    append_of_time(log, 1001, last_time_ns);
    log_close(log);
    const uint64_t first_lsn = log_inspect().first_lsn;
    expect_records(first_lsn, 1001, 1002, 0);
    return first_lsn;
}

/* To these records, today's clock is a year ahead. */
TEST(a_clock_that_is_ahead_makes_no_record_older_than_the_log_proves)
{
    const uint64_t first_lsn = keep_a_minute(clock_ns() - YEAR_NS, 100, 0);
    ck_assert_uint_gt(first_lsn, 400);
    ck_assert_uint_le(first_lsn, 501);
}

TEST(a_record_of_the_future_makes_no_record_old)
{
    ck_assert_uint_eq(keep_a_minute(clock_ns() - 10 * SECOND_NS, 86400, clock_ns() + YEAR_NS), 1);
}

/* A clock that was wrong for a while keeps nothing for years. */
TEST(records_of_the_future_go_with_the_old_ones_behind_them)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES, .keep_age_ms = 60 * 1000);
    const int64_t now_ns = clock_ns();
    struct twinlog *log = log_open(&options);

    append_of_time(log, 300, now_ns - 600 * SECOND_NS);
    append_of_time(log, 600, now_ns + YEAR_NS);
    append_of_time(log, 900, now_ns - 300 * SECOND_NS);
    append_of_time(log, 1200, now_ns);
    log_close(log);
    log = log_open(&options); /* the keeper may have been late */
    append_of_time(log, 1201, now_ns);
    log_close(log);

    const uint64_t first_lsn = log_inspect().first_lsn;
    ck_assert_uint_gt(first_lsn, 800);
    ck_assert_uint_le(first_lsn, 901);
    expect_records(first_lsn, 1201, 1202, 0);
}

/* Also not if a truncation was made meanwhile: the segment that it has left was not full. */
TEST(a_segment_that_a_truncation_has_left_makes_no_record_old)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.segment_bytes = 16 * SEGMENT_BYTES, .segment_records = 100, .keep_age_ms = 60 * 1000);
    struct twinlog *log = log_open(&options);

    append_of_time(log, 350, clock_ns() - YEAR_NS);
    append_of_time(log, 353, 0);
    ck_assert_int_eq(twinlog_truncate(log, 352), 0);
    append_of_time(log, 353, 0);
    log_close(log);
    log = log_open(&options); /* the keeper may have been late */
    append_of_time(log, 354, 0);
    log_close(log);
    ck_assert_uint_eq(log_inspect().first_lsn, 1);
    expect_records(1, 354, 355, 0);
}

static void set_limit(struct twinlog *log, const char *name, const char *value, int expected)
{
    ck_assert_int_eq(twinlog_meta_set(log, name, value, strlen(value)), expected);
}

static const struct {
    const char *name, *limit, *value;
    uint64_t keep_records;            /* of the writer's options */
    uint64_t lowest_lsn, highest_lsn; /* that may be the first one that is kept */
} own_limits[] = {
    { "bytes", TWINLOG_KEEP_BYTES, "262144", 0, 701, 1000 },
    { "records", TWINLOG_KEEP_RECORDS, "150", 0, 701, 1000 },
    { "records, and the writer's own options come first", TWINLOG_KEEP_RECORDS, "150", 900, 2, 201 },
};

/* Set by a process that only reads, and obeyed by the next writer. */
TEST_EACH(the_log_keeps_its_own_limits, own_limits)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES, .keep_records = row->keep_records);

    log_close(make_log(1));
    struct twinlog *other = open_small(TWINLOG_READ_ONLY);
    set_limit(other, row->limit, row->value, 0);
    log_close(other);

    const uint64_t first_lsn = append_and_find_first(&options);
    ck_assert_uint_ge(first_lsn, row->lowest_lsn);
    ck_assert_uint_le(first_lsn, row->highest_lsn);
}

TEST(what_is_no_limit_is_not_stored)
{
    struct twinlog *log = make_log(1);
    static const char *const no_numbers[] = { "", "0", "10G", "-1", "5 ", "18446744073709551616" };

    for (unsigned i = 0; i < sizeof(no_numbers) / sizeof(*no_numbers); i++)
        set_limit(log, TWINLOG_KEEP_AGE_MS, no_numbers[i], -EINVAL);
    set_limit(log, "twinlog.keep", "5", -EINVAL);
    ck_assert_int_eq(twinlog_meta_get(log, TWINLOG_KEEP_AGE_MS, NULL, 0, NULL), -ENOENT);
    set_limit(log, TWINLOG_KEEP_AGE_MS, "18446744073709551615", 0);
    log_close(log);
}

/* One without records counts as any other, and stays as long as it is needed for that. */
TEST(retention_keeps_so_much_with_an_empty_segment)
{
    static const unsigned char large[80000];
    struct twinlog_options options = log_options(0, 0);
    struct twinlog *log = make_log(2);

    ck_assert_int_eq(twinlog_truncate(log, 1), 0); /* the second segment, which stays empty */
    log_close(log);
    options.segment_bytes = 4 * SEGMENT_BYTES;
    options.keep_bytes = 2 * SEGMENT_BYTES + 1;
    log = log_open(&options);
    ck_assert_int_eq(twinlog_append(log, large, sizeof(large), NULL), 0); /* the third, twice as large */
    log_close(log);
    log = open_small(0);
    ck_assert_uint_eq(twinlog_first_lsn(log), 2);
    ck_assert_uint_eq(log_stat(log).segments, 2);
    log_close(log);
}

CASE("names", logdir_make, logdir_remove);

TEST(a_cursor_holds_what_comes_after_it)
{
    struct twinlog *log = make_log(500);

    ck_assert_int_eq(twinlog_cursor_set(log, "fast", 450), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "slow", 100), 0);
    struct twinlog_trim_result result = log_trim_before(log, 400);
    ck_assert_uint_eq(result.first_lsn, 101);
    ck_assert_uint_eq(result.holder, TWINLOG_HELD_BY_CURSOR);
    ck_assert_str_eq(result.holder_name, "slow");
    ck_assert_uint_gt(result.held_bytes, 0);
    log_close(log);

    log = open_small(0);
    uint64_t lsn;
    ck_assert_int_eq(twinlog_cursor_get(log, "slow", &lsn), 0);
    ck_assert_uint_eq(lsn, 100);
    ck_assert_int_eq(twinlog_cursor_set(log, "slow", 99), TWINLOG_ETRIMMED);
    ck_assert_int_eq(twinlog_cursor_set(log, "slow", 501), -ERANGE);
    ck_assert_int_eq(twinlog_cursor_remove(log, "slow"), 0);
    ck_assert_int_eq(twinlog_cursor_remove(log, "slow"), -ENOENT);
    ck_assert_int_eq(twinlog_cursor_get(log, "slow", &lsn), -ENOENT);
    ck_assert_uint_eq(log_trim_before(log, 400).first_lsn, 400);
    const struct twinlog_trim_options past = { .size = sizeof(past),
                                               .flags = TWINLOG_TRIM_PAST_CURSORS,
                                               .before_lsn = 480 };
    ck_assert_int_eq(twinlog_trim(log, &past, &result), 0);
    ck_assert_uint_eq(result.first_lsn, 480);
    ck_assert_int_eq(twinlog_cursor_get(log, "fast", &lsn), 0);
    ck_assert_uint_eq(lsn, 479);
    log_close(log);
}

/* It asks for the first record that is kept anyway. */
TEST(a_cursor_that_holds_nothing_is_not_named_as_the_holder)
{
    struct twinlog *log = make_log(500);

    ck_assert_int_eq(twinlog_cursor_set(log, "reader", 299), 0);

    struct twinlog_trim_result result = log_trim_before(log, 300);
    ck_assert_uint_eq(result.first_lsn, 300);
    ck_assert_int_eq(result.holder, TWINLOG_HELD_BY_SEGMENT);

    result = log_trim_before(log, 301);
    ck_assert_uint_eq(result.first_lsn, 300);
    ck_assert_int_eq(result.holder, TWINLOG_HELD_BY_CURSOR);
    log_close(log);
}

TEST(a_name_that_is_none_is_refused)
{
    char longest[TWINLOG_NAME_BYTES + 1];
    struct twinlog *log = open_small(0);
    uint64_t lsn;

    memset(longest, 'n', sizeof(longest));
    longest[TWINLOG_NAME_BYTES] = '\0';
    ck_assert_int_eq(twinlog_cursor_set(log, longest, 0), -EINVAL);
    longest[TWINLOG_NAME_BYTES - 1] = '\0';
    ck_assert_int_eq(twinlog_cursor_set(log, longest, 0), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, longest, &lsn), 0);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "", 0), -EINVAL);
    ck_assert_int_eq(twinlog_cursor_set(log, NULL, 0), -EINVAL);
    ck_assert_int_eq(twinlog_cursor_get(log, longest, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_meta_set(log, "x", NULL, 1), -EINVAL);
    ck_assert_int_eq(twinlog_meta_get(log, "x", NULL, 0, NULL), -ENOENT);
    log_close(log);
}

struct seen {
    unsigned count;
    char names[8][TWINLOG_NAME_BYTES];
    size_t sizes[8];
};

static int see(void *context, const char *name, const void *data, size_t size)
{
    struct seen *seen = context;

    (void)data;
    snprintf(seen->names[seen->count], sizeof(seen->names[0]), "%s", name);
    seen->sizes[seen->count++] = size;
    return seen->count == 8 ? 17 : 0;
}

TEST(values_are_kept_in_order_up_to_4_kib)
{
    static unsigned char large[TWINLOG_META_BYTES + 1], back[TWINLOG_META_BYTES + 1];
    struct twinlog *log = open_small(0);
    struct seen seen = { 0 };
    size_t size;

    memset(large, 0xa5, sizeof(large));
    ck_assert_int_eq(twinlog_meta_set(log, "vote", "candidate 7", 11), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "large", large, TWINLOG_META_BYTES), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "large", large, sizeof(large)), -EINVAL);
    ck_assert_int_eq(twinlog_meta_set(log, "empty", NULL, 0), 0);
    log_close(log);
    log = open_small(0);
    ck_assert_int_eq(twinlog_meta_get(log, "vote", back, 10, &size), -ENOBUFS);
    ck_assert_uint_eq(size, 11);
    ck_assert_int_eq(twinlog_meta_get(log, "vote", NULL, 0, NULL), -ENOBUFS);
    ck_assert_int_eq(twinlog_meta_get(log, "empty", NULL, 0, &size), 0);
    ck_assert_uint_eq(size, 0);
    ck_assert_int_eq(twinlog_meta_get(log, "vote", back, 11, NULL), 0);
    ck_assert_mem_eq(back, "candidate 7", 11);
    ck_assert_int_eq(twinlog_meta_get(log, "large", back, sizeof(back), &size), 0);
    ck_assert_uint_eq(size, TWINLOG_META_BYTES);
    ck_assert_mem_eq(back, large, TWINLOG_META_BYTES);
    ck_assert_int_eq(twinlog_meta_each(log, see, &seen), 0);
    ck_assert_uint_eq(seen.count, 3);
    ck_assert_str_eq(seen.names[0], "empty");
    ck_assert_str_eq(seen.names[1], "large");
    ck_assert_str_eq(seen.names[2], "vote");
    ck_assert_int_eq(twinlog_meta_remove(log, "large"), 0);
    ck_assert_int_eq(twinlog_meta_get(log, "large", back, sizeof(back), &size), -ENOENT);
    log_close(log);
}

/* Names survive trims, truncations and resets; the state file grows with them. */
TEST(many_names_fit_until_they_do_not)
{
    static unsigned char value[TWINLOG_META_BYTES];
    struct twinlog *log = open_small(0);
    unsigned count = 0;
    int rc = 0;

    for (; rc == 0 && count < 1000; count++) {
        char name[TWINLOG_NAME_BYTES];
        snprintf(name, sizeof(name), "value %u", count);
        rc = twinlog_meta_set(log, name, value, sizeof(value));
    }
    ck_assert_int_eq(rc, -ENOSPC);
    ck_assert_uint_gt(count, 200);
    ck_assert_int_eq(twinlog_meta_remove(log, "value 0"), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "again", value, sizeof(value)), 0);
    log_close(log);
    log_close(open_small(0));
}

CASE("truncations", logdir_make, logdir_remove);

TEST(a_truncation_moves_cursors_back)
{
    struct twinlog *log = open_small(0);
    uint64_t lsn;

    append_to(log, 200, 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "far", 190), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "near", 20), 0);
    ck_assert_int_eq(twinlog_truncate(log, 100), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "far", &lsn), 0);
    ck_assert_uint_eq(lsn, 100);
    ck_assert_int_eq(twinlog_cursor_get(log, "near", &lsn), 0);
    ck_assert_uint_eq(lsn, 20);
    log_close(log);
}

static int truncate_to_100(struct twinlog *log)
{
    return twinlog_truncate(log, 100);
}

static int reset_to_101(struct twinlog *log)
{
    return twinlog_reset(log, 101);
}

static const struct {
    const char *name;
    int (*remove)(struct twinlog *log);
} ways_to_remove_the_end[] = {
    { "a truncation", truncate_to_100 },
    { "a reset", reset_to_101 },
};

/* What is appended behind it is not what another process wanted to be removed. */
TEST_EACH(a_truncation_lowers_a_wish_for_a_trim, ways_to_remove_the_end)
{
    const struct twinlog_trim_options until_150 = WITH_SIZE(trim_options, .before_lsn = 150);

    log_close(open_small(0));
    struct io *io = log_io(true);
    io->has_threads = false; /* none answers before the truncation */
    struct twinlog *log = log_on(io, &LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    append_to(log, 200, 0);
    ck_assert_int_eq(twinlog_ask_trim(log_dir, &until_150, 0, NULL), -ETIMEDOUT);

    ck_assert_int_eq(row->remove(log), 0);
    append_to(log, 200, 1);
    twl_retain(log);
    ck_assert(!trim_ask_is_open(&log->shared->page->trim_ask));
    log_close(log);
    expect_records(101, 200, 101, 1);
}

/* ---- a wish of another process ------------------------------------------------------------------- */

CASE("wishes", logdir_make, logdir_remove);

/* A writer that answers no wish by itself. */
static struct twinlog *open_patient(void)
{
    struct io *io;

    log_close(open_small(0));
    io = log_io(true);
    io->has_threads = false;
    struct twinlog *log = log_on(io, &LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES));
    append_to(log, 200, 0);
    return log;
}

static int put_strange_wish(void *context, struct state *state)
{
    const struct twinlog_trim_options *options = context;
    const int rc = twl_state_put(state, STATE_VALUE, STATE_TRIM_NAME, options, 3);

    return rc < 0 ? rc : 1;
}

/* Its size is not that of a wish: it asks for nothing, and does not stay. */
TEST(a_wish_that_is_none_is_answered_and_removes_nothing)
{
    struct twinlog_trim_options options = WITH_SIZE(trim_options, .before_lsn = 150);
    struct twinlog *log = open_patient();
    struct trim_ask *ask = &log->shared->page->trim_ask;
    struct io *io = log_io(true);
    struct state state;
    struct state_entry entry;

    ck_assert_int_eq(twl_state_change(io, put_strange_wish, &options), 0);
    atomic_fetch_add(&ask->asked, 1);
    twl_retain(log);

    ck_assert(!trim_ask_is_open(ask));
    const struct trim_answer answer = atomic_load(&ask->answer);
    ck_assert_uint_eq(answer.error, 0);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);
    ck_assert_int_eq(twl_state_read(io, &state, NULL), 0);
    ck_assert(!twl_state_find(&state, STATE_VALUE, STATE_TRIM_NAME, &entry));
    twl_state_free(&state);
    io->ops->destroy(io);
    log_close(log);
}

TEST(a_process_that_sees_no_page_cannot_ask)
{
    const struct twinlog_trim_options options = WITH_SIZE(trim_options, .before_lsn = 150);
    struct twinlog *log = open_patient();

    ck_assert_int_eq(twl_ask_trim(hooked(log_io(true), hooked_refuse_map), &options, 0, NULL), -ENOTSUP);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);
    log_close(log);
}

/* ---- a plan --------------------------------------------------------------------------------------- */

#define HELD_BY_CURSOR 200u /* in the log of a plan */
#define TRIM(...)                                                                                            \
    {                                                                                                        \
        .size = sizeof(struct twinlog_trim_options), __VA_ARGS__                                             \
    }

static const struct trim_row {
    const char *name;
    struct twinlog_trim_options options;
    uint64_t first_lsn;
    uint32_t holder;
} plans[] = {
    { "in front of all", TRIM(.before_lsn = 1), 1, TWINLOG_HELD_BY_NOTHING },
    { "some records", TRIM(.before_lsn = 151), 151, TWINLOG_HELD_BY_SEGMENT },
    { "past the cursor, which holds", TRIM(.before_lsn = 301), HELD_BY_CURSOR + 1, TWINLOG_HELD_BY_CURSOR },
    { "past the cursor, which holds nothing", TRIM(.before_lsn = 301, .flags = TWINLOG_TRIM_PAST_CURSORS),
      301, TWINLOG_HELD_BY_SEGMENT },
    { "past the end", TRIM(.before_lsn = UINT64_MAX, .flags = TWINLOG_TRIM_PAST_CURSORS), 501,
      TWINLOG_HELD_BY_SEGMENT },
    { "all but some records", TRIM(.keep_records = 400), 101, TWINLOG_HELD_BY_SEGMENT },
    { "more records than there are", TRIM(.keep_records = 501), 1, TWINLOG_HELD_BY_NOTHING },
    { "more bytes than there are", TRIM(.keep_bytes = UINT64_MAX), 1, TWINLOG_HELD_BY_NOTHING },
    { "what was before 1970", TRIM(.before_time_ns = 1), 1, TWINLOG_HELD_BY_NOTHING },
    { "what was long before", TRIM(.before_time_ns = INT64_MIN), 1, TWINLOG_HELD_BY_NOTHING },
};

static struct twinlog_trim_result plan_trim(const struct twinlog_trim_options *options)
{
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;

    ck_assert_int_eq(twinlog_plan_trim(log_dir, options, &result), 0);
    return result;
}

static void expect_same(const struct twinlog_trim_result *planned, const struct twinlog_trim_result *done)
{
    ck_assert_uint_eq(planned->first_lsn, done->first_lsn);
    ck_assert_uint_eq(planned->removed_records, done->removed_records);
    ck_assert_uint_eq(planned->removed_segments, done->removed_segments);
    ck_assert_uint_eq(planned->removed_bytes, done->removed_bytes);
    ck_assert_uint_eq(planned->holder, done->holder);
    ck_assert_uint_eq(planned->held_bytes, done->held_bytes);
    ck_assert_str_eq(planned->holder_name, done->holder_name);
}

static struct twinlog *open_with_cursor(void)
{
    struct twinlog *log = make_log(500);

    ck_assert_int_eq(twinlog_cursor_set(log, "slow", HELD_BY_CURSOR), 0);
    return log;
}

CASE("plans", logdir_make, logdir_remove);

TEST_EACH(a_plan_beside_the_writer_says_what_it_then_does, plans)
{
    struct twinlog *log = open_with_cursor();

    const struct twinlog_trim_result planned = plan_trim(&row->options);
    ck_assert_uint_eq(planned.first_lsn, row->first_lsn);
    ck_assert_uint_eq(planned.holder, row->holder);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);

    const struct twinlog_trim_result done = log_trim(log, &row->options);
    expect_same(&planned, &done);
    log_close(log);
}

TEST_EACH(a_plan_without_a_writer_says_what_a_trim_then_does, plans)
{
    log_close(open_with_cursor());
    const struct twinlog_trim_result planned = plan_trim(&row->options);

    struct twinlog *log = open_small(0);
    const struct twinlog_trim_result done = log_trim(log, &row->options);
    expect_same(&planned, &done);
    log_close(log);
}

/* What is not durable stays, so a plan does not count on it. */
TEST(a_plan_removes_only_what_is_durable)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = TWINLOG_MODE_MAPPED, .flags = LOG_NO_THREADS));

    append_to(log, 100, 0); /* and synced */
    ck_assert_int_eq(twinlog_append(log, "", 0, NULL), 0);

    const struct twinlog_trim_options all = WITH_SIZE(trim_options, .before_lsn = 102);
    const struct twinlog_trim_result planned = plan_trim(&all);
    ck_assert_uint_eq(planned.first_lsn, 101);
    log_close(log);
}

TEST(a_plan_of_nothing_is_refused)
{
    const struct twinlog_trim_options nothing = TWINLOG_TRIM_OPTIONS_INIT;
    const struct twinlog_trim_options all = WITH_SIZE(trim_options, .before_lsn = 501);
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;

    ck_assert_int_eq(twinlog_plan_trim(log_dir, &all, &result), -ENOENT);
    log_close(make_log(500));
    ck_assert_int_eq(twinlog_plan_trim(log_dir, &nothing, &result), -EINVAL);
    ck_assert_int_eq(twinlog_plan_trim(log_dir, NULL, &result), -EINVAL);
    ck_assert_int_eq(twinlog_plan_trim(log_dir, &all, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_plan_trim(NULL, &all, &result), -EINVAL);
}

CASE("read-only", logdir_make, logdir_remove);

TEST(a_read_only_handle_sees_and_keeps_names_beside_the_writer)
{
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog *log = open_small(0), *looking;

    append_to(log, 100, 0);
    looking = log_open(&options);
    ck_assert_uint_eq(twinlog_last_lsn(looking), 100);
    ck_assert_uint_eq(twinlog_first_lsn(looking), 1);
    ck_assert_int_eq(twinlog_append(looking, "x", 1, NULL), -EROFS);
    ck_assert_int_eq(twinlog_truncate(looking, 10), -EROFS);
    ck_assert_int_eq(twinlog_reset(looking, 10), -EROFS);
    const struct twinlog_trim_options trim = { .size = sizeof(trim), .before_lsn = 50 };
    ck_assert_int_eq(twinlog_trim(looking, &trim, NULL), -EROFS);
    ck_assert_int_eq(twinlog_sync(looking), 0);
    ck_assert_int_eq(twinlog_wait(looking, 100, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_int_eq(twinlog_cursor_set(looking, "other process", 60), 0);
    append_to(log, 120, 0);
    ck_assert_uint_eq(twinlog_durable_lsn(looking), 120);
    ck_assert_uint_eq(log_trim_before(log, 90).first_lsn, 61);
    ck_assert_uint_eq(twinlog_first_lsn(looking), 61);
    struct twinlog_reader *reader = log_attach(looking, 0, 0);
    struct twinlog_record record;
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_uint_eq(record.lsn, 61);
    twinlog_reader_close(reader);
    const struct twinlog_stat stat = log_stat(looking);
    ck_assert_uint_eq(stat.last_lsn, 120);
    ck_assert_uint_gt(stat.segments, 0);
    ck_assert_int_eq(twinlog_close(looking), 0);
    log_close(log);
}

TEST(a_read_only_handle_makes_no_log)
{
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);

    ck_assert_int_eq(log_open_error(&options), -ENOENT);
    ck_assert_int_eq(mkdir(log_dir, 0755), 0);
    ck_assert_int_eq(log_open_error(&options), -ENOENT);
    ck_assert_int_eq(rmdir(log_dir), 0); /* it left nothing in it */
}

CASE("missing", logdir_make, logdir_remove);

/* -ENOENT would say that there is no such name, or no log. */
TEST(a_state_file_that_is_missing_from_an_open_log_is_damage)
{
    const struct twinlog_trim_options trim = { .size = sizeof(trim), .before_lsn = 5 };
    struct twinlog *log = open_small(0);
    uint64_t lsn;

    append_to(log, 10, 0);
    ck_assert_int_eq(unlink(log_file("state")), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "name", &lsn), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_cursor_set(log, "name", 1), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_cursor_remove(log, "name"), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_meta_set(log, "name", "value", 5), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_meta_remove(log, "name"), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_trim(log, &trim, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_truncate(log, 5), TWINLOG_ECORRUPT);
    append_to(log, 20, 0);
    log_close(log);
}

static uint64_t newest_sequence(void)
{
    uint64_t sequence = 1;
    while (access(log_segment(sequence + 1), F_OK) == 0)
        sequence++;
    return sequence;
}

/* It was started, which the footer of the one before says. */
TEST(a_newest_segment_that_is_missing_is_damage)
{
    struct twinlog *log = make_log(300);

    log_close(log);
    for (uint64_t sequence = newest_sequence(); sequence > 2; sequence--) /* spares first */
        ck_assert_int_eq(unlink(log_segment(sequence)), 0);
    ck_assert_int_eq(log_open_error(NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
}

static void remove_segments(void)
{
    for (uint64_t sequence = 1; unlink(log_segment(sequence)) == 0; sequence++)
        continue;
    ck_assert_uint_eq(log_segment_bytes(), 0);
}

static void put_copy_in_place_of_log(void)
{
    char copy[sizeof(log_parent) + sizeof("/copy")];

    snprintf(copy, sizeof(copy), "%s/copy", log_parent);
    ck_assert_int_eq(twinlog_backup(log_dir, copy, NULL, NULL), 0);
    remove_tree(log_dir);
    ck_assert_int_eq(rename(copy, log_dir), 0);
}

static const struct without_segments {
    const char *name;
    bool is_copy;
} without_segments[] = {
    { "a log to which only records were written", false },
    { "a copy that nobody has opened yet", true },
};

TEST_EACH(a_log_of_which_all_segments_are_missing_is_no_new_one, without_segments)
{
    const struct twinlog_options existing = log_options(0, TWINLOG_MUST_EXIST);
    const struct twinlog_options looking = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog_reader *reader;

    log_close(make_log(10));
    if (row->is_copy)
        put_copy_in_place_of_log();
    remove_segments();

    ck_assert_int_eq(log_open_error(NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_report.finding, TWINLOG_FOUND_MISSING_SEGMENT);
    ck_assert_int_eq(log_open_error(&existing), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_open_error(&looking), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(log_segment_bytes(), 0);
}

CASE("files", logdir_make, logdir_remove);

static _Thread_local struct twinlog *truncated; /* by this thread: the keeper locks files, too */
static bool has_appended;

/* Another process has the lock of the state file, and may keep it for long. */
static int append_before_lock(const struct hooked_call *call)
{
    unsigned char bytes[PAYLOAD_BYTES];
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };

    if (call->op != SIM_LOCK || !truncated || has_appended)
        return 0;
    has_appended = true;
    make_payload(101, 0, bytes);
    ck_assert_int_eq(
        twinlog_append_batch(truncated, &entry, 1, &WITH_SIZE(terms, .flags = TWINLOG_TRY), NULL), 0);
    return 0;
}

TEST(appends_go_on_while_a_truncation_waits_for_the_state_file)
{
    log_close(make_log(100));
    truncated = NULL;
    has_appended = false;
    struct twinlog *log = log_on(hooked_log_dir(append_before_lock), NULL);
    truncated = log;
    ck_assert_int_eq(twinlog_truncate(log, 50), 0);
    ck_assert(has_appended);
    ck_assert_uint_eq(twinlog_last_lsn(log), 50);
    log_close(log);
    expect_records(1, 50, 51, 0);
}

static const char *in_copy(const char *name)
{
    static char path[600];

    snprintf(path, sizeof(path), "%s/copy/%s", log_parent, name);
    return path;
}

static void run(const char *command)
{
    ck_assert_int_eq(chdir(log_parent), 0);
    ck_assert_int_eq(system(command), 0);
}

static void unshare_file(const char *name)
{
    char command[300];

    snprintf(command, sizeof(command), "cp copy/%.64s copy/new && mv copy/new copy/%.64s", name, name);
    run(command);
}

/* 300 records and a cursor, and a copy of it all made of links. Returns a consumer of the log, which it had before. */
static struct twinlog_consumer *make_linked_copy(void)
{
    struct twinlog *log = make_log(300);
    struct twinlog_consumer *consumer;

    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 250), 0);
    log_close(log);
    ck_assert_int_eq(twinlog_consumer_open(log_dir, "cursor", NULL, &consumer), 0);
    run("cp -al log copy");
    return consumer;
}

TEST(a_consumer_of_a_copy_made_of_links_needs_a_file_of_locks_of_its_own)
{
    struct twinlog_consumer *consumer = make_linked_copy(), *other;

    ck_assert_int_eq(twinlog_consumer_open(in_copy(""), "cursor", NULL, &other), -EMLINK);
    unshare_file("consumers");
    ck_assert_int_eq(twinlog_consumer_open(in_copy(""), "cursor", NULL, &other), 0);
    twinlog_consumer_close(other);
    twinlog_consumer_close(consumer);
}

/* Each file of which opening says that it has another name is copied, as it advises; sealed segments are not. */
static struct twinlog *open_linked_copy(const struct twinlog_options *options)
{
    struct twinlog *copy;
    unsigned copied = 0;

    int rc = twinlog_open(in_copy(""), options, &copy);
    while (rc == -EMLINK) {
        unshare_file(log_report.file);
        copied++;
        rc = twinlog_open(in_copy(""), options, &copy);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_ge(copied, 2); /* writer.lock is one of them */
    return copy;
}

static const struct {
    const char *name;
    uint32_t mode;
} modes_of_copies[] = {
    { "durable", TWINLOG_MODE_DURABLE },
    { "shared", TWINLOG_MODE_SHARED },
};

TEST_EACH(what_is_done_to_a_copy_made_of_links_is_not_done_to_the_log, modes_of_copies)
{
    const struct twinlog_options options = LOG_OPTIONS(.segment_bytes = SEGMENT_BYTES, .mode = row->mode);
    uint64_t lsn;

    twinlog_consumer_close(make_linked_copy());
    const uint64_t before = log_fingerprint(false);
    ck_assert_int_eq(twinlog_verify(in_copy(""), NULL, NULL), 0); /* reading does no harm */

    struct twinlog *copy = open_linked_copy(&options);
    ck_assert_int_eq(twinlog_cursor_set(copy, "cursor", 300), 0);
    if (row->mode == TWINLOG_MODE_DURABLE)
        ck_assert_int_eq(twinlog_trim(copy, &WITH_SIZE(trim_options, .before_lsn = 290), NULL), 0);
    ck_assert_int_eq(twinlog_close(copy), 0);

    ck_assert_uint_eq(log_fingerprint(false), before);
    expect_records(1, 300, 301, 0);
    struct twinlog *log = open_small(0);
    ck_assert_int_eq(twinlog_cursor_get(log, "cursor", &lsn), 0);
    ck_assert_uint_eq(lsn, 250);
    log_close(log);
}
