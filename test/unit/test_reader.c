/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers: there and back, by LSN and by time, over fillers, while the log is trimmed, truncated and recycled beside
 * them. Most tests run for each kind of reader.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "life_records.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "log/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

CASE("there and back", logdir_make, logdir_remove);

static const struct handle {
    const char *name;
    enum twinlog_mode mode;
    uint32_t flags;
    bool can_append;
} handles[] = {
    { "durable", TWINLOG_MODE_DURABLE, 0, true },
    { "mapped", TWINLOG_MODE_MAPPED, 0, true },
    { "shared", TWINLOG_MODE_SHARED, 0, true },
    { "only to read", TWINLOG_MODE_DURABLE, TWINLOG_READ_ONLY, false },
};

TEST_EACH(a_log_is_not_closed_under_its_readers, handles)
{
    const struct twinlog_options options = LOG_OPTIONS(.flags = row->flags, .mode = row->mode);
    struct twinlog_reader *first, *second;
    struct twinlog_record record;

    log_close(log_open(NULL));
    struct twinlog *log = log_open(&options);
    ck_assert_int_eq(twinlog_reader_attach(log, NULL, &first), 0);
    ck_assert_int_eq(twinlog_reader_attach(log, NULL, &second), 0);
    ck_assert_int_eq(twinlog_close(log), -EBUSY);
    twinlog_reader_close(first);
    ck_assert_int_eq(twinlog_close(log), -EBUSY);

    /* Nothing has happened. */
    if (row->can_append)
        append_records(log, 0, 0, 1);
    ck_assert_int_eq(twinlog_reader_next(second, &record), row->can_append);
    twinlog_reader_close(second);
    ck_assert_int_eq(twinlog_close(log), 0);
}

/* ---- a call that fails says why ------------------------------------------------------------------- */

static struct twinlog_report why;

/* As a report of another call would look that nobody has cleared. */
static void forget_why(void)
{
    memset(&why, 'x', sizeof(why));
}

static void expect_why(int result, int error)
{
    ck_assert_int_eq(result, error);
    ck_assert_int_eq(why.error, error);
    ck_assert_ptr_nonnull(memchr(why.text, 0, sizeof(why.text)));
    ck_assert_msg(strstr(why.text, twinlog_strerror(error)), "not told: %s", why.text);
    forget_why();
}

TEST(an_opening_that_fails_says_why)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .ret_report = &why, .flags = TWINLOG_MUST_EXIST);
    const struct twinlog_reader_options reading = WITH_SIZE(reader_options, .ret_report = &why);
    const struct twinlog_reader_options wrong =
        WITH_SIZE(reader_options, .ret_report = &why, .flags = 1u << 9);
    const struct twinlog_consumer_options consuming = WITH_SIZE(consumer_options, .ret_report = &why);
    struct twinlog_consumer *consumer;
    struct twinlog_reader *reader;
    struct twinlog *log;

    forget_why();
    expect_why(twinlog_open(NULL, &options, &log), -EINVAL);
    expect_why(twinlog_open(log_dir, &options, &log), -ENOENT);
    expect_why(twinlog_reader_open(log_dir, &reading, &reader), -ENOENT);
    expect_why(twinlog_consumer_open(log_dir, "name", &consuming, &consumer), -ENOENT);

    put_file(log_dir, "", 0);
    expect_why(twinlog_reader_open(log_dir, &reading, &reader), -ENOTDIR);
    ck_assert_int_eq(unlink(log_dir), 0);

    log = log_open(NULL);
    expect_why(twinlog_reader_open(log_dir, &wrong, &reader), -EINVAL);
    expect_why(twinlog_reader_open(NULL, &reading, &reader), -EINVAL);
    expect_why(twinlog_reader_attach(log, &wrong, &reader), -EINVAL);
    expect_why(twinlog_reader_attach(NULL, &reading, &reader), -EINVAL);
    expect_why(twinlog_consumer_open(log_dir, "", &consuming, &consumer), -EINVAL);
    log_close(log);
}

TEST(a_call_on_a_reader_that_fails_says_why)
{
    const struct twinlog_reader_options reading = WITH_SIZE(reader_options, .ret_report = &why, .to_lsn = 1);
    struct twinlog_history history = TWINLOG_HISTORY_INIT;
    struct twinlog *log = make_life_log(3);
    struct twinlog_record record;
    struct twinlog_reader *reader;

    forget_why();
    ck_assert_int_eq(twinlog_reader_attach(log, &reading, &reader), 0);
    ck_assert_int_eq(why.error, 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    expect_why(twinlog_reader_next(reader, NULL), -EINVAL);
    expect_why(twinlog_reader_seek(reader, 0), -EINVAL);
    expect_why(twinlog_reader_wait(reader, 0), -EINVAL); /* its range is finished */
    expect_why(twinlog_reader_history(reader, 9, &history), -ERANGE);
    twinlog_reader_close(reader);
    log_close(log);
}

/* The error that the reader has is told again in full: what was refused meanwhile has changed nothing. */
TEST(a_call_that_is_refused_leaves_the_error_of_the_reader)
{
    const struct twinlog_reader_options reading =
        WITH_SIZE(reader_options, .ret_report = &why, .from_lsn = 1);
    struct twinlog_history history = TWINLOG_HISTORY_INIT;
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_record record;
    struct twinlog_reader *reader;

    ck_assert_int_eq(twinlog_reader_attach(log, &reading, &reader), 0);
    log_trim_before(log, 100);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), TWINLOG_ETRIMMED);
        ck_assert_uint_eq(why.finding, TWINLOG_FOUND_TRIMMED);
        ck_assert_uint_eq(why.first_lsn, 100);
        ck_assert_ptr_nonnull(strstr(why.text, "record 1 was removed"));
        expect_why(twinlog_reader_seek(reader, 0), -EINVAL);
        ck_assert_int_eq(twinlog_reader_history(reader, 50, &history), TWINLOG_ETRIMMED);
        ck_assert_ptr_nonnull(strstr(why.text, "record 50 was removed"));
    }

    twinlog_reader_close(reader);
    log_close(log);
}

/* ---- there and back ------------------------------------------------------------------------------- */

TEST_EACH(all_of_a_log_is_read_there_and_back, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    ck_assert_uint_gt(log_stat(log).segments, 5);
    expect_no_previous(reader, 0);
    expect_run(reader, 1, MANY, 0);
    expect_no_next(reader, 0);

    expect_run_back(reader, MANY, 1, 0);
    expect_no_previous(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reader_that_turns_returns_the_same_record_again, reader_kinds)
{
    struct twinlog *log = make_life_log(10);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_next(reader, 1, 0);
    expect_next(reader, 2, 0);
    expect_previous(reader, 2, 0);
    expect_next(reader, 2, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reader_goes_anywhere, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    wander(reader, MANY, 1500);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reader_goes_anywhere_without_a_writer, outside_kinds)
{
    log_close(make_life_log(MANY));
    struct twinlog_reader *reader = open_reader(NULL, row, 0, 0);
    wander(reader, MANY, 1000);
    twinlog_reader_close(reader);
}

TEST_EACH(the_range_of_the_options_holds_in_both_directions, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 1000, 1010);

    expect_run(reader, 1000, 1010, 0);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), -EINVAL);

    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    expect_no_next(reader, 0);
    expect_run_back(reader, 1010, 1000, 0);
    expect_no_previous(reader, 0);

    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    expect_next(reader, 1000, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1), 0);
    expect_next(reader, 1000, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1011), 0);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

static void expect_range(struct twinlog_reader *reader, uint64_t expected_first, uint64_t expected_last)
{
    uint64_t first, last;

    ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
    ck_assert_uint_eq(first, expected_first);
    ck_assert_uint_eq(last, expected_last);
}

TEST_EACH(of_an_empty_log_nothing_is_returned_and_its_range_is_empty, reader_kinds)
{
    struct twinlog *log = open_life_log();
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_no_next(reader, 0);
    expect_no_previous(reader, 0);
    expect_range(reader, 0, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(at_the_end_a_reader_gets_what_is_appended, reader_kinds)
{
    struct twinlog *log = open_life_log();
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_no_next(reader, 0);
    for (uint64_t lsn = 1; lsn < 1000; lsn++) {
        put_many(log, 0, 1);
        expect_next(reader, lsn, 0);
        expect_no_next(reader, 0);
    }

    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    expect_no_next(reader, 0);
    put_many(log, 0, 1);
    expect_next(reader, 1000, 0);
    expect_range(reader, 1, 1000);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(behind_the_end_a_reader_waits_for_the_record_that_it_has_sought, reader_kinds)
{
    struct twinlog *log = make_life_log(999);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    ck_assert_int_eq(twinlog_reader_seek(reader, 1001), 0);
    put_many(log, 0, 1);
    expect_no_next(reader, 0);
    put_many(log, 0, 2);
    expect_next(reader, 1001, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(the_record_before_a_place_behind_the_end_is_the_newest_one, reader_kinds)
{
    struct twinlog *log = make_life_log(1003);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    ck_assert_int_eq(twinlog_reader_seek(reader, 5000), 0);
    expect_previous(reader, 1003, 0);
    expect_next(reader, 1003, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

/* No reader returns what is above the watermark (I6). */
TEST_EACH(what_is_accepted_and_not_durable_is_not_returned, reader_kinds)
{
    struct twinlog *log = make_life_log(5);
    struct twinlog_reader *reader = open_reader(log, row, 5, 0);

    ck_assert_int_eq(put_one(log, 0), 0);
    expect_next(reader, 5, 0);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    expect_next(reader, 6, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

CASE("fillers and times", logdir_make, logdir_remove);

#define HAND_MADE 6000u

/* A log of records with times that are chosen here; the oracle is these arrays. */
static int64_t times[HAND_MADE + 2];
static bool is_void[HAND_MADE + 2];

static struct twinlog *make_by_hand(unsigned count)
{
    struct twinlog *log = open_life_log();
    struct rng rng = { test_seed() };
    unsigned char bytes[PAYLOAD_ROOM];
    int64_t now = 1000;

    for (uint64_t lsn = 1; lsn <= count; lsn++) {
        struct twinlog_entry entry = { .data = bytes };
        uint64_t given = 0;

        now += (int64_t)rng_below(&rng, 20) - (rng_one_in(&rng, 50) ? 200 : 2); /* on the whole it goes on */
        times[lsn] = now;
        is_void[lsn] = lsn <= 3 || rng_one_in(&rng, 10) || (lsn > 2000 && lsn < 4500);
        enum record_kind kind = RECORD_DATA;
        if (is_void[lsn]) {
            kind = RECORD_FILLER;
            entry.time_ns = INT64_MAX;
        } else {
            entry.time_ns = now;
            entry.size = make_life_payload(lsn, 0, bytes);
        }
        ck_assert_int_eq(twl_log_put(log, kind, &entry, &given), 0);
        ck_assert_uint_eq(given, lsn);
        if (lsn % 40 == 0)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }

    ck_assert_int_eq(twinlog_sync(log), 0);
    return log;
}

TEST_EACH(fillers_are_passed_over_in_both_directions, reader_kinds)
{
    struct twinlog *log = make_by_hand(HAND_MADE);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);
    uint64_t behind = 3000; /* the fillers that it is in the middle of */

    for (uint64_t lsn = 1; lsn <= HAND_MADE; lsn++)
        if (!is_void[lsn])
            expect_next(reader, lsn, 0);
    expect_no_next(reader, 0);
    for (uint64_t lsn = HAND_MADE; lsn > 0; lsn--)
        if (!is_void[lsn])
            expect_previous(reader, lsn, 0);
    expect_no_previous(reader, 0);

    ck_assert_int_eq(twinlog_reader_seek(reader, 3000), 0);
    while (is_void[behind])
        behind++;
    expect_next(reader, behind, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(no_thread_is_woken_for_fillers, reader_kinds)
{
    struct twinlog *log = make_by_hand(3000);
    struct twinlog_reader *reader = open_reader(log, row, 2000, 0);
    struct pollfd ready = { .events = POLLIN };

    if (!is_void[2000])
        expect_next(reader, 2000, 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), 0);
    ready.fd = twinlog_reader_fd(reader);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    put_many(log, 0, 1);
    ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
    ck_assert_int_eq(poll(&ready, 1, -1), 1);
    expect_next(reader, 3001, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

/* As with an eventfd of its own; the header says not to. Once next has returned 0, all is as it was. */
TEST_EACH(a_descriptor_that_the_program_has_read_becomes_readable_again, reader_kinds)
{
    struct twinlog *log = make_life_log(10);
    struct twinlog_reader *reader = open_reader(log, row, 11, 0);
    struct pollfd ready = { .fd = twinlog_reader_fd(reader), .events = POLLIN };
    uint64_t count;

    for (uint64_t lsn = 11; lsn < 14; lsn++) {
        expect_no_next(reader, 0);
        put_many(log, 0, 1);
        AWAIT(poll(&ready, 1, 0) == 1);
        ck_assert_int_eq(read(ready.fd, &count, sizeof(count)), sizeof(count));
        expect_next(reader, lsn, 0);
    }
    twinlog_reader_close(reader);
    log_close(log);
}

static uint64_t find_by_hand(uint64_t first, uint64_t last, int64_t time_ns)
{
    for (uint64_t lsn = first; lsn <= last; lsn++)
        if (!is_void[lsn] && times[lsn] >= time_ns)
            return lsn;
    return last + 1;
}

static uint64_t before_by_hand(uint64_t first, uint64_t lsn)
{
    lsn--;
    while (lsn >= first && is_void[lsn])
        lsn--;
    return lsn;
}

static void seek_times(struct twinlog_reader *reader, uint64_t first, uint64_t last)
{
    struct twinlog_record record;

    ck_assert_int_gt(times[last], times[1]);
    for (int64_t time_ns = times[1] - 300; time_ns < times[last] + 2000; time_ns += 61) {
        uint64_t expected = find_by_hand(first, last, time_ns);
        uint64_t before = before_by_hand(first, expected);

        ck_assert_int_eq(twinlog_reader_seek_time(reader, time_ns), 0);
        if (expected <= last) {
            ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
            ck_assert_uint_eq(record.lsn, expected);
            ck_assert_int_eq(record.time_ns, times[expected]);
        } else {
            expect_no_next(reader, 0);
        }

        ck_assert_int_eq(twinlog_reader_seek_time(reader, time_ns), 0);
        if (before >= first)
            expect_previous(reader, before, 0);
        else
            expect_no_previous(reader, 0);
    }
}

TEST_EACH(a_time_is_found_whatever_the_clock_did, reader_kinds)
{
    struct twinlog *log = make_by_hand(HAND_MADE);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    seek_times(reader, 1, HAND_MADE);
    log_trim_before(log, 777); /* a removed record counts no more, whatever its time */
    seek_times(reader, 777, HAND_MADE);
    ck_assert_int_eq(twinlog_truncate(log, 5000), 0); /* nor one that was truncated */
    seek_times(reader, 777, 5000);
    twinlog_reader_close(reader);

    log_close(log);
    reader = open_reader(NULL, kind_from_outside(row), 0, 0);
    seek_times(reader, 777, 5000);
    twinlog_reader_close(reader);
}

TEST(the_range_is_that_of_the_log)
{
    struct twinlog_reader_options narrow = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    uint64_t first, last;

    struct twinlog *log = log_open(NULL);
    append_records(log, 0, 0, 20);
    narrow.from_lsn = 5;
    narrow.to_lsn = 9;
    ck_assert_int_eq(twinlog_reader_open(log_dir, &narrow, &reader), 0);
    ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
    ck_assert_uint_eq(first, 1);
    ck_assert_uint_eq(last, 20);
    twinlog_reader_close(reader);
    log_close(log);
}

CASE("trims", logdir_make, logdir_remove);

static void expect_trimmed(struct twinlog_reader *reader, uint64_t first)
{
    uint64_t found, last;

    memset(&reader_report, 0, sizeof(reader_report));
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert_uint_eq(reader_report.finding, TWINLOG_FOUND_TRIMMED);
    ck_assert_int_eq(reader_report.error, TWINLOG_ETRIMMED);
    ck_assert_uint_eq(reader_report.first_lsn, first);
    expect_no_previous(reader, TWINLOG_ETRIMMED);
    ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
    memset(&reader_report, 0, sizeof(reader_report));
    ck_assert_int_eq(twinlog_reader_range(reader, &found, &last), 0);
    ck_assert_uint_eq(found, first);
    ck_assert_int_eq(reader_report.error, 0); /* only a call that fails fills it in */
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    expect_next(reader, first, 0);
    expect_previous(reader, first, 0);
    expect_no_previous(reader, 0); /* the oldest that is left */
}

TEST_EACH(a_reader_that_is_overtaken_by_a_trim_is_told, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_run(reader, 1, 10, 0);
    log_trim_before(log, 11);
    expect_next(reader, 11, 0); /* just not */
    log_trim_before(log, 13);
    expect_trimmed(reader, 13);
    log_trim_before(log, 2000);
    expect_trimmed(reader, 2000);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(behind_the_head_everything_is_read_and_in_front_of_it_nothing, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    log_trim_before(log, 2000);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1999), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert_int_eq(twinlog_reader_seek(reader, 2000), 0);
    expect_run(reader, 2000, MANY, 0);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reader_at_the_end_is_not_overtaken_where_all_is_trimmed, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, MANY, 0);

    expect_next(reader, MANY, 0);
    log_trim_before(log, MANY + 1);
    expect_no_next(reader, 0);
    expect_no_previous(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reader_of_a_trimmed_record_goes_on_with_what_comes, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);

    log_trim_before(log, MANY + 1);
    struct twinlog_reader *reader = open_reader(log, row, 5, 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    put_many(log, 0, 1);
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    expect_next(reader, MANY + 1, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reader_of_a_log_without_a_writer_begins_with_what_is_left, outside_kinds)
{
    struct twinlog *log = make_life_log(MANY);

    log_trim_before(log, MANY + 1);
    put_many(log, 0, 1);
    log_close(log);
    struct twinlog_reader *reader = open_reader(NULL, row, 0, 0);
    expect_next(reader, MANY + 1, 0);
    expect_previous(reader, MANY + 1, 0);
    expect_no_previous(reader, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, MANY), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    twinlog_reader_close(reader);
}

/* The reader has a segment open that gets another incarnation. */
TEST_EACH(an_idle_reader_outlives_recycling, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 100, 0);

    expect_next(reader, 100, 0);
    for (uint64_t last = MANY; last < 5 * MANY; last += 1000) {
        log_trim_before(log, last - 200);
        put_many(log, 0, 1000);
        expect_no_next(reader, TWINLOG_ETRIMMED);
        ck_assert_int_eq(twinlog_reader_seek(reader, last), 0);
        for (unsigned i = 0; i < 20; i++)
            expect_next(reader, last + i, 0);
    }

    ck_assert_uint_gt(log_stat(log).recycled_segments, 5);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(what_a_mapping_reader_was_given_stays_while_its_segment_is_trimmed, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 100, 0);
    struct twinlog_record record;
    uint32_t life;

    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    log_trim_before(log, MANY);
    for (unsigned i = 0; i < 10; i++) {
        put_many(log, 0, 1000);
        log_trim_before(log, twinlog_last_lsn(log));
        ck_assert_pstr_eq(check_record(&record, &life), NULL);
    }

    ck_assert_uint_gt(log_stat(log).recycled_segments, 5);
    twinlog_reader_close(reader);
    log_close(log);
}

CASE("truncations", logdir_make, logdir_remove);

static void expect_cut(struct twinlog_reader *reader, uint64_t first, uint64_t last)
{
    memset(&reader_report, 0, sizeof(reader_report));
    expect_no_next(reader, TWINLOG_ETRUNCATED);
    expect_no_previous(reader, TWINLOG_ETRUNCATED);
    ck_assert_int_eq(reader_report.error, TWINLOG_ETRUNCATED);
    ck_assert_uint_eq(reader_report.first_lsn, first);
    ck_assert_uint_eq(reader_report.last_lsn, last);
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), 1);
}

TEST_EACH(a_reader_that_has_passed_a_truncation_is_told_once, reader_kinds)
{
    struct twinlog *log = make_life_log(1000);
    struct twinlog_reader *passed = open_reader(log, row, 0, 0);
    struct twinlog_reader *back = open_reader(log, row, 0, 0);
    struct twinlog_reader *before = open_reader(log, row, 800, 0);
    struct twinlog_reader *at = open_reader(log, row, 850, 0);
    uint64_t first, last;

    expect_run(passed, 1, 950, 0);
    ck_assert_int_eq(twinlog_reader_seek(back, 950), 0);
    expect_previous(back, 949, 0);
    expect_previous(back, 948, 0);
    expect_run(before, 800, 849, 0);
    expect_next(at, 850, 0);

    ck_assert_int_eq(twinlog_truncate(log, 850), 0);
    expect_cut(passed, 851, 950);
    expect_cut(back, 851, 949);
    expect_no_next(at, 0);
    ck_assert_int_eq(twinlog_reader_range(before, &first, &last), 0);
    ck_assert_uint_eq(last, 850);

    put_many(log, 1, 500);
    expect_cut(passed, 851, 950);
    ADVISES(reader_report.text, "which this reader has returned, were truncated; seek to go on");
    ck_assert_int_eq(twinlog_reader_seek(passed, 850), 0);
    expect_next(passed, 850, 0);
    expect_run(passed, 851, 1350, 1);
    expect_no_next(passed, 0);

    expect_run(at, 851, 1350, 1);
    for (uint64_t lsn = 850; lsn <= 1350; lsn++)
        expect_next(before, lsn, lsn > 850);
    for (uint64_t lsn = 1350; lsn >= 800; lsn--)
        expect_previous(before, lsn, lsn > 850);
    twinlog_reader_close(passed);
    twinlog_reader_close(back);
    twinlog_reader_close(before);
    twinlog_reader_close(at);
    log_close(log);
}

/* One truncation behind the other, some further back than the one before. */
TEST_EACH(truncations_may_be_truncated_in_turn, reader_kinds)
{
    static const uint64_t cuts[] = { 900, 950, 700, 1100, 701, 10 };
    struct twinlog *log = make_life_log(1000);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);
    uint32_t incarnations[3000] = { 0 };
    uint64_t last = 1000;

    for (uint32_t life = 1; life <= sizeof(cuts) / sizeof(cuts[0]); life++) {
        uint64_t cut = cuts[life - 1], was = last;
        ck_assert_int_eq(twinlog_reader_seek(reader, last), 0);
        expect_next(reader, last, incarnations[last]);
        ck_assert_int_eq(twinlog_truncate(log, cut), 0);
        put_many(log, life, 500);
        last = cut + 500;
        for (uint64_t lsn = cut + 1; lsn <= last; lsn++)
            incarnations[lsn] = life;

        expect_cut(reader, cut + 1, was);
        ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
        for (uint64_t lsn = 1; lsn <= last; lsn++)
            expect_next(reader, lsn, incarnations[lsn]);
        expect_no_next(reader, 0);
        for (uint64_t lsn = last; lsn > 0; lsn--)
            expect_previous(reader, lsn, incarnations[lsn]);
    }

    twinlog_reader_close(reader);

    log_close(log);
    reader = open_reader(NULL, kind_from_outside(row), 0, 0);
    for (uint64_t lsn = 1; lsn <= last; lsn++)
        expect_next(reader, lsn, incarnations[lsn]);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
}

TEST_EACH(a_reset_ahead_takes_everything, reader_kinds)
{
    struct twinlog *log = make_life_log(1000);
    struct twinlog_reader *reader = open_reader(log, row, 900, 0);

    expect_next(reader, 900, 0);
    ck_assert_int_eq(twinlog_reset(log, 5000), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert_uint_eq(reader_report.first_lsn, 5000);

    put_many(log, 1, 300);
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    expect_run(reader, 5000, 5299, 1);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reset_back_takes_everything, reader_kinds)
{
    struct twinlog *log = make_life_log(1000);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_run(reader, 1, 1000, 0);
    ck_assert_int_eq(twinlog_reset(log, 20), 0);
    put_many(log, 2, 10);
    expect_cut(reader, 20, 1000);
    ck_assert_int_eq(twinlog_reader_seek(reader, 25), 0);
    expect_next(reader, 25, 2);
    expect_previous(reader, 25, 2);
    twinlog_reader_close(reader);
    log_close(log);
}

/* A reader behind a filler has returned nothing of it, so its truncation is not told it, and it must not pass
 * what has its LSN then. */
TEST_EACH(a_record_in_the_place_of_a_filler_is_not_passed_over, reader_kinds)
{
    struct twinlog *log = make_life_log(20);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    expect_run(reader, 1, 20, 0);
    put_void(log);
    put_void(log);
    expect_no_next(reader, 0);

    ck_assert_int_eq(twinlog_truncate(log, 20), 0);
    put_many(log, 1, 3);
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), 1);
    expect_next(reader, 21, 1);
    expect_next(reader, 22, 1);
    expect_next(reader, 23, 1);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_record_that_a_reset_puts_in_the_place_of_a_filler_is_not_passed_over, reader_kinds)
{
    struct twinlog *log = make_life_log(23);
    struct twinlog_reader *reader = open_reader(log, row, 24, 0);

    put_void(log);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_reset(log, 10), 0);
    put_many(log, 2, 20);
    expect_next(reader, 24, 2);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_reader_behind_a_filler_goes_back_to_what_a_reset_has_put_there, reader_kinds)
{
    struct twinlog *log = make_life_log(23);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    put_void(log);
    ck_assert_int_eq(twinlog_reader_seek(reader, 24), 0);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_reset(log, 10), 0);
    put_many(log, 2, 20);
    expect_previous(reader, 23, 2);
    expect_next(reader, 23, 2);
    expect_next(reader, 24, 2);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(segments_that_come_without_a_truncation_leave_a_filler_passed, reader_kinds)
{
    struct twinlog *log = make_life_log(29);
    struct twinlog_reader *reader = open_reader(log, row, 25, 0);

    put_void(log);
    log_trim_before(log, 20);
    expect_run(reader, 25, 29, 0);
    expect_no_next(reader, 0);
    put_many(log, 3, 500);
    expect_run(reader, 31, 530, 3);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(where_there_are_only_fillers_to_go_back_over_a_reader_stays, reader_kinds)
{
    struct twinlog *log = open_life_log();
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    put_void(log);
    put_void(log);
    ck_assert_int_eq(twinlog_reader_seek(reader, 5), 0);
    expect_no_previous(reader, 0);
    put_many(log, 0, 4);
    expect_next(reader, 5, 0);
    expect_previous(reader, 5, 0);
    twinlog_reader_close(reader);
    log_close(log);
}
