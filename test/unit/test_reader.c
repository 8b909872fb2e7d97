/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers: there and back, by LSN and by time, over fillers, while the log is trimmed, truncated and recycled beside
 * them, and waiting for what comes.
 *
 * Every record says its LSN and the life it belongs to, which is one more after each truncation. Most tests run for
 * four kinds of reader: from outside or attached, each reading or mapping.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "control/shared_page.h"
#include "log/log.h"
#include "read/follower.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* ---- records ----------------------------------------------------------------------------------- */

#define SMALL_SEGMENT 65536u
#define PAYLOAD_ROOM 6000u

struct label {
    uint64_t lsn;
    uint32_t life, size;
};

static size_t make_payload(uint64_t lsn, uint32_t life, unsigned char bytes[PAYLOAD_ROOM])
{
    struct rng rng = { lsn << 8 | life };
    const uint64_t room = rng_one_in(&rng, 40) ? PAYLOAD_ROOM : 200;
    const struct label label = { lsn, life,
                                 (uint32_t)(sizeof(label) + rng_below(&rng, room - sizeof(label))) };

    memcpy(bytes, &label, sizeof(label));
    memset(bytes + sizeof(label), (int)(lsn + life), label.size - sizeof(label));
    return label.size;
}

/* NULL if the record is what was appended in some life; else what is wrong. Any thread. */
static const char *check_record(const struct twinlog_record *record, uint32_t *ret_life)
{
    unsigned char expected[PAYLOAD_ROOM];
    struct label label;

    if (record->size < sizeof(label))
        return "too short";
    memcpy(&label, record->data, sizeof(label));
    *ret_life = label.life;
    if (label.lsn != record->lsn)
        return "another record's bytes";
    if (make_payload(label.lsn, label.life, expected) != record->size ||
        memcmp(expected, record->data, record->size) != 0)
        return "not what was appended";
    if ((uintptr_t)record->data % 8 != 0)
        return "not aligned";
    return NULL;
}

static int put_one(struct twinlog *log, uint32_t life)
{
    unsigned char bytes[PAYLOAD_ROOM];
    uint64_t expected = twinlog_last_lsn(log) + 1, lsn = 0;
    int rc = twinlog_enqueue(log, bytes, make_payload(expected, life, bytes), &lsn);

    return rc == 0 && lsn != expected ? -EILSEQ : rc;
}

/* In groups of several. */
static void put_many(struct twinlog *log, uint32_t life, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(put_one(log, life), 0);
        if (i % 13 == 12)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
}

static struct twinlog *open_small(void)
{
    return log_open(&LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT));
}

static struct twinlog *make_log(unsigned count)
{
    struct twinlog *log = open_small();

    put_many(log, 0, count);
    return log;
}

/* ---- readers ----------------------------------------------------------------------------------- */

#define KINDS 4
#define IS_MAPPING(kind) (((kind)&1) != 0)
#define IS_ATTACHED(kind) (((kind)&2) != 0)

static struct twinlog_report report; /* of the reader that was opened last */

static struct twinlog_reader *open_reader(struct twinlog *log, int kind, uint64_t from, uint64_t to)
{
    struct twinlog_reader *reader = NULL;
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .flags = IS_MAPPING(kind) ? TWINLOG_READER_MMAP : 0, .from_lsn = from,
                  .to_lsn = to, .ret_report = &report);

    memset(&report, 0, sizeof(report));
    ck_assert_int_eq(IS_ATTACHED(kind) ? twinlog_reader_attach(log, &options, &reader)
                                       : twinlog_reader_open(log_dir, &options, &reader),
                     0);
    return reader;
}

static void expect_it(int result, const struct twinlog_record *record, uint64_t lsn, uint32_t life)
{
    uint32_t found;

    ck_assert_msg(result == 1, "%s instead of record %" PRIu64 "; %s",
                  result ? twinlog_strerror(result) : "nothing", lsn, report.text);
    ck_assert_uint_eq(record->lsn, lsn);
    ck_assert_pstr_eq(check_record(record, &found), NULL);
    ck_assert_uint_eq(found, life);
}

static void expect_next(struct twinlog_reader *reader, uint64_t lsn, uint32_t life)
{
    struct twinlog_record record;
    int result = twinlog_reader_next(reader, &record);

    expect_it(result, &record, lsn, life);
}

static void expect_previous(struct twinlog_reader *reader, uint64_t lsn, uint32_t life)
{
    struct twinlog_record record;
    int result = twinlog_reader_previous(reader, &record);

    expect_it(result, &record, lsn, life);
}

/* Records `from` to `to`, and down from `from` to `to`. */
static void expect_run(struct twinlog_reader *reader, uint64_t from, uint64_t to, uint32_t life)
{
    for (uint64_t lsn = from; lsn <= to; lsn++)
        expect_next(reader, lsn, life);
}

static void expect_run_back(struct twinlog_reader *reader, uint64_t from, uint64_t to, uint32_t life)
{
    for (uint64_t lsn = from; lsn >= to; lsn--)
        expect_previous(reader, lsn, life);
}

static void expect_no_next(struct twinlog_reader *reader, int result)
{
    struct twinlog_record record;

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(twinlog_reader_next(reader, &record), result);
}

static void expect_no_previous(struct twinlog_reader *reader, int result)
{
    struct twinlog_record record;

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), result);
}

CASE("there and back", logdir_make, logdir_remove);

#define MANY 3000u

TEST_LOOP(a_log_is_not_closed_under_its_readers, 4)
{
    static const enum twinlog_mode modes[] = { TWINLOG_MODE_DURABLE, TWINLOG_MODE_MAPPED,
                                               TWINLOG_MODE_SHARED };
    struct twinlog_reader *first, *second;
    struct twinlog_record record;
    const struct twinlog_options options =
        LOG_OPTIONS(.flags = _i == 3 ? TWINLOG_READ_ONLY : 0, .mode = modes[_i % 3]);

    log_close(log_open(NULL));
    struct twinlog *log = log_open(&options);
    ck_assert_int_eq(twinlog_reader_attach(log, NULL, &first), 0);
    ck_assert_int_eq(twinlog_reader_attach(log, NULL, &second), 0);
    ck_assert_int_eq(twinlog_close(log), -EBUSY);
    twinlog_reader_close(first);
    ck_assert_int_eq(twinlog_close(log), -EBUSY);
    if (_i < 3)
        append_records(log, 0, 0, 1); /* nothing has happened */
    ck_assert_int_eq(twinlog_reader_next(second, &record), _i < 3);
    twinlog_reader_close(second);
    ck_assert_int_eq(twinlog_close(log), 0);
}

TEST_LOOP(all_of_a_log_is_read_there_and_back, KINDS)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

    ck_assert_uint_gt(log_stat(log).segments, 5);
    expect_no_previous(reader, 0);
    expect_run(reader, 1, MANY, 0);
    expect_no_next(reader, 0);
    expect_run_back(reader, MANY, 1, 0);
    expect_no_previous(reader, 0);
    expect_next(reader, 1, 0);
    expect_next(reader, 2, 0);
    expect_previous(reader, 2, 0);
    expect_next(reader, 2, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

/* What a cursor in a list of `last` records would do. */
static void wander(struct twinlog_reader *reader, uint64_t last, unsigned steps)
{
    struct rng rng = { test_seed() };
    uint64_t next = 1;

    for (unsigned i = 0; i < steps; i++) {
        switch (rng_below(&rng, 12)) {
        case 0:
            next = 1 + rng_below(&rng, last + 3);
            ck_assert_int_eq(twinlog_reader_seek(reader, next), 0);
            break;
        case 1:
            next = last + 1;
            ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
            break;
        case 2:
            next = 1;
            ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
            break;
        case 3: /* near */
            next = next > 20 ? next - rng_below(&rng, 20) : next;
            ck_assert_int_eq(twinlog_reader_seek(reader, next), 0);
            break;
        default:
            for (uint64_t run = rng_below(&rng, 30), back = i % 2; run > 0; run--) {
                if (back)
                    next = next > last + 1 ? last + 1 : next;
                if (back && next > 1)
                    expect_previous(reader, --next, 0);
                else if (back)
                    expect_no_previous(reader, 0);
                else if (next <= last)
                    expect_next(reader, next++, 0);
                else
                    expect_no_next(reader, 0);
            }
        }
    }
}

TEST_LOOP(a_cursor_goes_anywhere, KINDS)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

    wander(reader, MANY, 1500);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_LOOP(without_a_writer_a_cursor_goes_anywhere_too, 2)
{
    log_close(make_log(MANY));
    struct twinlog_reader *reader = open_reader(NULL, _i, 0, 0);
    wander(reader, MANY, 1000);
    twinlog_reader_close(reader);
}

TEST_LOOP(the_range_of_the_options_holds_in_both_directions, KINDS)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 1000, 1010);

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

TEST_LOOP(behind_the_end_a_cursor_waits_for_what_is_appended, KINDS)
{
    struct twinlog *log = open_small();
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);
    uint64_t first, last;

    expect_no_next(reader, 0);
    expect_no_previous(reader, 0);
    ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
    ck_assert_uint_eq(first, 0);
    ck_assert_uint_eq(last, 0);
    for (uint64_t lsn = 1; lsn < 1000; lsn++) {
        put_many(log, 0, 1);
        expect_next(reader, lsn, 0);
        expect_no_next(reader, 0);
    }
    ck_assert_int_eq(twinlog_reader_seek(reader, 1001), 0);
    put_many(log, 0, 1);
    expect_no_next(reader, 0);
    put_many(log, 0, 2);
    expect_next(reader, 1001, 0);
    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    expect_no_next(reader, 0);
    put_many(log, 0, 1);
    expect_next(reader, 1003, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 5000), 0);
    expect_previous(reader, 1003, 0);
    expect_next(reader, 1003, 0);
    ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
    ck_assert_uint_eq(first, 1);
    ck_assert_uint_eq(last, 1003);
    twinlog_reader_close(reader);
    log_close(log);
}

/* No reader returns what is above the watermark (I6). */
TEST_LOOP(what_is_accepted_and_not_durable_is_not_returned, KINDS)
{
    struct twinlog *log = make_log(5);
    struct twinlog_reader *reader = open_reader(log, _i, 5, 0);

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
    struct twinlog *log = open_small();
    struct rng rng = { test_seed() };
    unsigned char bytes[PAYLOAD_ROOM];
    int64_t now = 1000;

    for (uint64_t lsn = 1; lsn <= count; lsn++) {
        struct twinlog_entry entry = { .data = bytes };
        uint64_t given = 0;

        now += (int64_t)rng_below(&rng, 10) - (rng_one_in(&rng, 50) ? 200 : 2);
        times[lsn] = now;
        is_void[lsn] = lsn <= 3 || rng_one_in(&rng, 10) || (lsn > 2000 && lsn < 4500);
        entry.time_ns = is_void[lsn] ? INT64_MAX : now;
        entry.size = is_void[lsn] ? 0 : make_payload(lsn, 0, bytes);
        ck_assert_int_eq(twl_log_put(log, is_void[lsn] ? RECORD_FILLER : RECORD_DATA, &entry, &given), 0);
        ck_assert_uint_eq(given, lsn);
        if (lsn % 40 == 0)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
    return log;
}

TEST_LOOP(fillers_are_passed_over_in_both_directions, KINDS)
{
    struct twinlog *log = make_by_hand(HAND_MADE);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);
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

TEST_LOOP(no_thread_is_woken_for_fillers, KINDS)
{
    struct twinlog *log = make_by_hand(3000);
    struct twinlog_reader *reader = open_reader(log, _i, 2000, 0);
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

static uint64_t find_by_hand(uint64_t first, uint64_t last, int64_t time_ns)
{
    for (uint64_t lsn = first; lsn <= last; lsn++)
        if (!is_void[lsn] && times[lsn] >= time_ns)
            return lsn;
    return last + 1;
}

static uint64_t before_by_hand(uint64_t first, uint64_t lsn)
{
    do
        lsn--;
    while (lsn >= first && is_void[lsn]);
    return lsn;
}

static void seek_times(struct twinlog_reader *reader, uint64_t first, uint64_t last)
{
    struct twinlog_record record;

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

TEST_LOOP(a_time_is_found_whatever_the_clock_did, KINDS)
{
    struct twinlog *log = make_by_hand(HAND_MADE);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

    seek_times(reader, 1, HAND_MADE);
    log_trim_before(log, 777); /* a removed record counts no more, whatever its time */
    seek_times(reader, 777, HAND_MADE);
    ck_assert_int_eq(twinlog_truncate(log, 5000), 0); /* nor one that was truncated */
    seek_times(reader, 777, 5000);
    twinlog_reader_close(reader);
    log_close(log);
    if (!IS_ATTACHED(_i)) {
        reader = open_reader(NULL, _i, 0, 0);
        seek_times(reader, 777, 5000);
        twinlog_reader_close(reader);
    }
}

CASE("trims", logdir_make, logdir_remove);

static void expect_trimmed(struct twinlog_reader *reader, uint64_t first)
{
    uint64_t found, last;

    memset(&report, 0, sizeof(report));
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert_uint_eq(report.finding, TWINLOG_FOUND_TRIMMED);
    ck_assert_int_eq(report.error, TWINLOG_ETRIMMED);
    ck_assert_uint_eq(report.first_lsn, first);
    expect_no_previous(reader, TWINLOG_ETRIMMED);
    ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
    ck_assert_int_eq(twinlog_reader_range(reader, &found, &last), 0);
    ck_assert_uint_eq(found, first);
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    expect_next(reader, first, 0);
    expect_previous(reader, first, 0);
    expect_no_previous(reader, 0); /* the oldest that is left */
}

TEST_LOOP(a_reader_that_is_overtaken_by_a_trim_is_told, KINDS)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

    expect_run(reader, 1, 10, 0);
    log_trim_before(log, 11);
    expect_next(reader, 11, 0); /* just not */
    log_trim_before(log, 13);
    expect_trimmed(reader, 13);
    log_trim_before(log, 2000);
    expect_trimmed(reader, 2000);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1999), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert_int_eq(twinlog_reader_seek(reader, 2000), 0);
    expect_run(reader, 2000, MANY, 0);
    expect_no_next(reader, 0);
    log_trim_before(log, MANY + 1);
    expect_no_next(reader, 0);
    expect_no_previous(reader, 0);
    twinlog_reader_close(reader);

    reader = open_reader(log, _i, 5, 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    put_many(log, 0, 1);
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    expect_next(reader, MANY + 1, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_LOOP(a_reader_that_opens_a_trimmed_log_begins_with_what_is_left, 2)
{
    struct twinlog *log = make_log(MANY);

    log_trim_before(log, 1234);
    log_close(log);
    struct twinlog_reader *reader = open_reader(NULL, _i, 0, 0);
    expect_next(reader, 1234, 0);
    expect_previous(reader, 1234, 0);
    expect_no_previous(reader, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1233), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    twinlog_reader_close(reader);
}

/* The reader has a segment open that gets another incarnation. */
TEST_LOOP(an_idle_reader_outlives_recycling, KINDS)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 100, 0);

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

TEST_LOOP(what_a_mapping_reader_was_given_stays_while_its_segment_is_trimmed, KINDS)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 100, 0);
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
    memset(&report, 0, sizeof(report));
    expect_no_next(reader, TWINLOG_ETRUNCATED);
    expect_no_previous(reader, TWINLOG_ETRUNCATED);
    ck_assert_int_eq(report.error, TWINLOG_ETRUNCATED);
    ck_assert_uint_eq(report.first_lsn, first);
    ck_assert_uint_eq(report.last_lsn, last);
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), 1);
}

TEST_LOOP(a_reader_that_has_passed_a_truncation_is_told_once, KINDS)
{
    struct twinlog *log = make_log(1000);
    struct twinlog_reader *passed = open_reader(log, _i, 0, 0);
    struct twinlog_reader *back = open_reader(log, _i, 0, 0);
    struct twinlog_reader *before = open_reader(log, _i, 800, 0);
    struct twinlog_reader *at = open_reader(log, _i, 850, 0);
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
    expect_cut(passed, 851, 950); /* until it seeks */
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
TEST_LOOP(truncations_may_be_truncated_in_turn, KINDS)
{
    static const uint64_t cuts[] = { 900, 950, 700, 1100, 701, 10 };
    struct twinlog *log = make_log(1000);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);
    uint32_t incarnations[3000] = { 0 };
    uint64_t last = 1000;

    for (uint32_t life = 1; life <= sizeof(cuts) / sizeof(cuts[0]); life++) {
        uint64_t cut = cuts[life - 1], was = last;
        ck_assert_int_eq(twinlog_reader_seek(reader, last), 0);
        expect_next(reader, last, incarnations[last]);
        ck_assert_int_eq(twinlog_truncate(log, cut), 0);
        put_many(log, life, 500);
        for (last = cut; last < cut + 500;)
            incarnations[++last] = life;
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
    reader = open_reader(NULL, _i & IS_MAPPING(_i), 0, 0);
    for (uint64_t lsn = 1; lsn <= last; lsn++)
        expect_next(reader, lsn, incarnations[lsn]);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
}

TEST_LOOP(a_reset_takes_everything, KINDS)
{
    struct twinlog *log = make_log(1000);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

    ck_assert_int_eq(twinlog_reader_seek(reader, 900), 0);
    expect_next(reader, 900, 0);
    ck_assert_int_eq(twinlog_reset(log, 5000), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert_uint_eq(report.first_lsn, 5000);
    put_many(log, 1, 300);
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    expect_run(reader, 5000, 5299, 1);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_reset(log, 20), 0); /* also back */
    put_many(log, 2, 10);
    expect_cut(reader, 20, 5299);
    ck_assert_int_eq(twinlog_reader_seek(reader, 25), 0);
    expect_next(reader, 25, 2);
    expect_previous(reader, 25, 2);
    twinlog_reader_close(reader);
    log_close(log);
}

static void put_void(struct twinlog *log)
{
    const struct twinlog_entry entry = { .time_ns = INT64_MAX };
    uint64_t lsn;

    ck_assert_int_eq(twl_log_put(log, RECORD_FILLER, &entry, &lsn), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
}

/* A reader behind a filler has returned nothing of it, so its truncation is not told it, and it must not pass
 * what has its LSN then. */
TEST_LOOP(a_record_in_the_place_of_a_filler_is_not_passed_over, KINDS)
{
    struct twinlog *log = make_log(20);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

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
    put_void(log);
    ck_assert_int_eq(twinlog_reader_seek(reader, 24), 0);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_reset(log, 10), 0);
    put_many(log, 2, 20);
    expect_previous(reader, 23, 2);
    expect_next(reader, 23, 2);
    expect_next(reader, 24, 2);
    put_void(log);
    log_trim_before(log, 20);
    expect_run(reader, 25, 29, 2);
    expect_no_next(reader, 0);
    put_many(log, 3, 500); /* segments that come without a truncation */
    expect_run(reader, 31, 530, 3);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_LOOP(where_there_are_only_fillers_to_go_back_over_a_cursor_stays, KINDS)
{
    struct twinlog *log = open_small();
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

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

/* ---- segments that stay open --------------------------------------------------------------------- */

#define OPEN_AT_MOST 32u

static void expect_at(struct twinlog_reader *reader, uint64_t lsn, uint32_t life)
{
    ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
    expect_next(reader, lsn, life);
}

static struct twinlog_reader *open_reader_of_many_segments(int kind, uint64_t *ret_last_lsn)
{
    struct twinlog *log = make_log(12000);

    *ret_last_lsn = twinlog_last_lsn(log);
    log_close(log);
    return open_reader(NULL, kind, 0, 0);
}

CASE("open segments", logdir_make, logdir_remove);

TEST_LOOP(segments_that_were_looked_up_stay_open_and_those_that_were_read_do_not, 2)
{
    struct rng rng = { 7 };
    uint64_t last;
    struct twinlog_reader *reader = open_reader_of_many_segments(_i, &last);

    expect_run(reader, 1, last, 0);
    ck_assert_uint_eq(log_count_open_segments(), 1);
    for (unsigned i = 1; i < 8; i++) {
        expect_at(reader, i * last / 8, 0);
        ck_assert_uint_eq(log_count_open_segments(), 1 + i);
    }
    for (unsigned i = 1; i < 8; i++)
        expect_at(reader, last - i * last / 8, 0);
    ck_assert_uint_eq(log_count_open_segments(), 8);
    for (unsigned i = 0; i < 3000; i++)
        expect_at(reader, 1 + rng_below(&rng, last), 0);
    ck_assert_uint_eq(log_count_open_segments(), OPEN_AT_MOST);
    twinlog_reader_close(reader);
    ck_assert_uint_eq(log_count_open_segments(), 0);
}

TEST_LOOP(where_descriptors_are_short_a_reader_makes_do_with_few, 2)
{
    struct rlimit usual, few;
    uint64_t last;
    struct twinlog_reader *reader = open_reader_of_many_segments(_i, &last);
    int lowest_free = dup(STDERR_FILENO);

    ck_assert_int_ge(lowest_free, 0);
    close(lowest_free);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    few = usual;
    few.rlim_cur = (rlim_t)lowest_free + 5;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (uint64_t lsn = 1; lsn <= last; lsn += 97)
        expect_at(reader, lsn, 0);
    for (uint64_t lsn = last; lsn > 97; lsn -= 97)
        expect_at(reader, lsn, 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
    twinlog_reader_close(reader);
}

/* A writer in another process does the next thing when it is told. */
static struct {
    _Atomic unsigned wanted, done;
} * trimmer;

static void wait_until(const _Atomic unsigned *step, unsigned value)
{
    while (atomic_load(step) < value)
        sched_yield();
}

static int open_and_trim(void)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog *log = NULL;

    int rc = twinlog_open(log_dir, NULL, &log);
    atomic_store(&trimmer->done, 1);
    wait_until(&trimmer->wanted, 2);
    options.before_lsn = 6000;
    if (rc == 0)
        rc = twinlog_trim(log, &options, NULL);
    atomic_store(&trimmer->done, 2);
    wait_until(&trimmer->wanted, 3);
    return rc == 0 && twinlog_close(log) == 0 ? 0 : 1;
}

TEST_LOOP(segments_that_were_trimmed_are_let_go, 2)
{
    uint64_t last;
    struct twinlog_reader *reader = open_reader_of_many_segments(_i, &last);

    trimmer = shared_page();
    pid_t writer = start_child(open_and_trim);
    wait_until(&trimmer->done, 1);
    for (uint64_t lsn = 500; lsn <= 7500; lsn += 1000)
        expect_at(reader, lsn, 0);
    ck_assert_uint_eq(log_count_open_segments(), 8);
    atomic_store(&trimmer->wanted, 2);
    wait_until(&trimmer->done, 2);
    expect_next(reader, 7501, 0);
    ck_assert_uint_eq(log_count_open_segments(), 2);
    expect_at(reader, 6500, 0);
    ck_assert_uint_eq(log_count_open_segments(), 2);
    ck_assert_int_eq(twinlog_reader_seek(reader, 5500), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    atomic_store(&trimmer->wanted, 3);
    ck_assert_int_eq(wait_child(writer), 0);
    twinlog_reader_close(reader);
}

/* They are still there, in segments that the reader has open. */
TEST_LOOP(records_that_were_truncated_are_not_found_where_they_were, KINDS)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);

    for (uint64_t lsn = 100; lsn <= MANY; lsn += 100)
        expect_at(reader, lsn, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1), 0);
    ck_assert_int_eq(twinlog_truncate(log, 1250), 0);
    for (uint64_t lsn = 1300; lsn <= MANY; lsn += 100) {
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        expect_no_next(reader, 0);
    }
    put_many(log, 1, MANY);
    for (uint64_t lsn = 1250 + MANY; lsn > 50; lsn -= 50)
        expect_at(reader, lsn, lsn > 1250);
    twinlog_reader_close(reader);
    log_close(log);
}

/* ---- beside a writer that does all of it --------------------------------------------------------- */

#define LIVES 40u
#define CROWD (2 * KINDS) /* of each kind one that reads on, and one that looks records up */

/* What the writer has done, so that a reader can tell whether what it got one after the other belongs together:
 * life n begins at start[n], and each life is written down before its first record. */
static struct {
    struct twinlog *log;
    _Atomic uint64_t start[LIVES];
    _Atomic uint32_t life; /* the one that has started for certain */
    atomic_bool is_done;
    atomic_uint readers; /* that have started */
} busy;

struct member {
    pthread_t thread;
    int kind;
    bool looks_up;
    _Atomic uint64_t returned;
    const char *wrong;
    _Atomic int error;
    struct twinlog_report report;
};

/* In the history that `life` wrote, which life was the record of? */
static uint32_t life_of(uint64_t lsn, uint32_t life)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t i = life; i > 0; i--) {
        uint64_t start = atomic_load(&busy.start[i]);
        if (start <= lsn && start <= least)
            return i;
        least = start < least ? start : least;
    }
    return 0;
}

static int read_on(struct member *member, struct twinlog_reader *reader)
{
    struct twinlog_record record = { 0 };
    uint64_t before = 0;
    uint32_t life_before = 0, life;
    int rc;

    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        member->wrong = check_record(&record, &life);
        if (!member->wrong && before > 0 && record.lsn != before + 1)
            member->wrong = "not the next one";
        if (!member->wrong && before > 0 && life_of(before, life) != life_before)
            member->wrong = "what was returned before was cut off, and the reader did not say so";
        if (member->wrong)
            return -EILSEQ;
        before = record.lsn;
        life_before = life;
        member->returned++;
    }
    return rc;
}

static const char *judge_found(const struct twinlog_record *record, uint64_t lsn, uint32_t life_before)
{
    uint32_t life;
    const char *wrong = check_record(record, &life);

    if (!wrong && record->lsn != lsn)
        wrong = "not the one that was sought";
    if (!wrong && life < life_of(lsn, life_before))
        wrong = "it had been cut off";
    return wrong;
}

/* Records anywhere, some of which are gone or not there yet. */
static int look_up(struct member *member, struct twinlog_reader *reader)
{
    struct rng rng = { (uint64_t)member->kind + 100 };
    struct twinlog_record record = { 0 };
    int rc = 0;

    for (unsigned i = 0; rc >= 0 && i < 50; i++) {
        uint64_t first, last;
        uint32_t life = atomic_load(&busy.life);
        rc = twinlog_reader_range(reader, &first, &last);
        if (rc < 0)
            break;
        uint64_t lsn = 1 + last - rng_below(&rng, last < 1300 ? last : 1300);
        twinlog_reader_seek(reader, lsn);
        rc = twinlog_reader_next(reader, &record);
        member->returned += rc > 0;
        if (rc > 0)
            member->wrong = judge_found(&record, lsn, life);
        if (member->wrong)
            return -EILSEQ;
        if (rc == TWINLOG_ETRIMMED)
            rc = 0;
    }
    return rc < 0 ? rc : twinlog_reader_seek_end(reader);
}

static void *read_beside(void *context)
{
    struct member *member = context;
    struct twinlog_reader *reader;
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .flags = IS_MAPPING(member->kind) ? TWINLOG_READER_MMAP : 0,
                  .ret_report = &member->report);

    member->error = IS_ATTACHED(member->kind) ? twinlog_reader_attach(busy.log, &options, &reader)
                                              : twinlog_reader_open(log_dir, &options, &reader);
    atomic_fetch_add(&busy.readers, 1);
    if (member->error < 0)
        return NULL;
    for (bool is_last = false;;) {
        int rc = member->looks_up ? look_up(member, reader) : read_on(member, reader);
        if (rc == TWINLOG_ETRIMMED || rc == TWINLOG_ETRUNCATED)
            rc = twinlog_reader_seek_first(reader);
        else if (rc == 0 && is_last)
            break;
        is_last = atomic_load(&busy.is_done);
        if (rc == 0 && !is_last)
            rc = twinlog_reader_wait(reader, 20);
        if (rc < 0) {
            member->error = rc;
            break;
        }
    }
    twinlog_reader_close(reader);
    return NULL;
}

/* Returns what went wrong first. Each reader returns something of each life, however slow the machine is. */
static int write_lives(bool with_cuts, struct rng *rng, struct member members[CROWD])
{
    int rc = 0;

    for (uint32_t life = 1; rc == 0 && life < LIVES; life++) {
        uint64_t last = twinlog_last_lsn(busy.log);
        uint64_t cut = with_cuts && last > 300 ? last - rng_below(rng, 250) : last;
        struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
        uint64_t returned[CROWD];
        for (unsigned i = 0; i < CROWD; i++)
            returned[i] = members[i].returned;
        atomic_store(&busy.start[life], cut + 1);
        rc = twinlog_truncate(busy.log, cut);
        atomic_store(&busy.life, life);
        for (unsigned i = 0; rc == 0 && i < 600; i++) {
            rc = put_one(busy.log, life);
            if (rc == 0 && i % 7 == 0)
                rc = twinlog_sync(busy.log);
        }
        for (unsigned i = 0; rc == 0 && i < CROWD; i++)
            AWAIT(members[i].returned > returned[i] || members[i].error);
        options.keep_records = 1200;
        if (rc == 0)
            rc = twinlog_trim(busy.log, &options, NULL);
    }
    return rc == 0 ? twinlog_sync(busy.log) : rc;
}

static void crowd_beside_writer(bool with_cuts)
{
    struct member members[CROWD] = { 0 };
    struct rng rng = { test_seed() };

    busy.log = open_small();
    put_many(busy.log, 0, 300);
    for (uint32_t life = 0; life < LIVES; life++)
        atomic_store(&busy.start[life], UINT64_MAX);
    for (unsigned i = 0; i < CROWD; i++) {
        members[i].kind = (int)(i % KINDS);
        members[i].looks_up = i >= KINDS;
        members[i].thread = start_thread(read_beside, &members[i]);
    }
    while (atomic_load(&busy.readers) < CROWD)
        sched_yield();
    int rc = write_lives(with_cuts, &rng, members);
    atomic_store(&busy.is_done, true);
    for (unsigned i = 0; i < CROWD; i++)
        pthread_join(members[i].thread, NULL);
    ck_assert_int_eq(rc, 0);
    for (unsigned i = 0; i < CROWD; i++) {
        ck_assert_msg(!members[i].wrong, "kind %u: %s", i, members[i].wrong);
        ck_assert_msg(members[i].error == 0, "kind %u: %s; %s", i, twinlog_strerror(members[i].error),
                      members[i].report.text);
    }
    ck_assert_uint_gt(log_stat(busy.log).trimmed_segments, 20);
    log_close(busy.log);
}

CASE("beside a writer", logdir_make, logdir_remove);

TEST(readers_keep_up_with_a_writer_that_trims_and_recycles)
{
    crowd_beside_writer(false);
}

TEST(readers_keep_up_with_a_writer_that_truncates_as_well)
{
    crowd_beside_writer(true);
}

CASE("waiting", logdir_make, logdir_remove);

static struct twinlog *waited_log;

static void *append_one(void *context)
{
    int *rc = context;

    *rc = put_one(waited_log, 0);
    if (*rc == 0)
        *rc = twinlog_sync(waited_log);
    return NULL;
}

/* If a wake-up were lost this would never end, or take a second each time. */
TEST_LOOP(a_waiting_reader_is_woken, KINDS)
{
    waited_log = make_log(10);
    struct twinlog_reader *reader = open_reader(waited_log, _i, 11, 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 5), 0);
    for (uint64_t lsn = 11; lsn < 400; lsn++) {
        int rc;
        pthread_t appender = start_thread(append_one, &rc);
        ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        pthread_join(appender, NULL);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(twinlog_reader_wait(reader, 0), 1);
        expect_next(reader, lsn, 0);
    }
    twinlog_reader_close(reader);
    log_close(waited_log);
}

/* ---- two processes take turns -------------------------------------------------------------------- */

static struct turns {
    atomic_bool may_begin;
    _Atomic uint64_t read_lsn; /* the writer appends the next one when the reader has this one */
} * turns;

#define TURNS 400u

/* In the child: the writer. */
static int write_in_turn(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    while (!atomic_load(&turns->may_begin))
        sched_yield();
    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    for (uint64_t lsn = 1; lsn <= TURNS; lsn++) {
        EXPECT(put_one(log, 0) == 0 && twinlog_sync(log) == 0);
        while (atomic_load(&turns->read_lsn) < lsn)
            sched_yield();
    }
    EXPECT(twinlog_close(log) == 0);
    return 0;
}

TEST_LOOP(a_writer_in_another_process_wakes_too, 2)
{
    struct pollfd ready = { .events = POLLIN };

    log_close(open_small());
    turns = shared_page();
    pid_t writer = start_child(write_in_turn); /* before there is a thread */
    struct twinlog_reader *reader = open_reader(NULL, _i, 0, 0);
    ready.fd = twinlog_reader_fd(reader);
    ck_assert_int_ge(ready.fd, 0);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    atomic_store(&turns->may_begin, true);
    for (uint64_t lsn = 1; lsn <= TURNS; lsn++) {
        if (lsn % 2)
            ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        else
            ck_assert_int_eq(poll(&ready, 1, -1), 1);
        expect_next(reader, lsn, 0);
        expect_no_next(reader, 0);
        if (lsn < TURNS) /* nothing comes before we ask for it */
            ck_assert_int_eq(poll(&ready, 1, 0), 0);
        atomic_store(&turns->read_lsn, lsn);
    }
    ck_assert_int_eq(wait_child(writer), 0);
    twinlog_reader_close(reader);
}

/* As another user, that may read and not write: it looks every now and then. */
static int read_as_nobody(void)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct pollfd ready = { .events = POLLIN };

    EXPECT(setgid(65534) == 0 && setuid(65534) == 0);
    EXPECT(twinlog_reader_open(log_dir, NULL, &reader) == 0);
    ready.fd = twinlog_reader_fd(reader);
    EXPECT(ready.fd >= 0);
    for (uint64_t lsn = 1; lsn <= 6; lsn++) {
        if (lsn % 2)
            EXPECT(twinlog_reader_wait(reader, -1) == 1);
        else
            EXPECT(poll(&ready, 1, -1) == 1);
        EXPECT(twinlog_reader_next(reader, &record) == 1 && record.lsn == lsn);
        EXPECT(twinlog_reader_next(reader, &record) == 0);
        atomic_store(&turns->read_lsn, lsn);
    }
    twinlog_reader_close(reader);
    return 0;
}

TEST(a_reader_that_may_not_write_the_file_looks_by_itself)
{
    if (geteuid() != 0) {
        fprintf(stderr, "SKIP reader %s: only root can become another user\n", __func__);
        return;
    }
    struct twinlog *log = open_small();
    ck_assert_int_eq(chmod(log_parent, 0755), 0);
    turns = shared_page();
    pid_t child = start_child(read_as_nobody);
    for (uint64_t lsn = 1; lsn <= 6; lsn++) {
        ck_assert_int_eq(put_one(log, 0), 0);
        ck_assert_int_eq(twinlog_sync(log), 0);
        while (atomic_load(&turns->read_lsn) < lsn)
            sched_yield();
    }
    ck_assert_int_eq(wait_child(child), 0);
    log_close(log);
}

static atomic_uint alarms;

static void count_alarm(int signal)
{
    (void)signal;
    atomic_fetch_add(&alarms, 1);
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

TEST_LOOP(a_signal_does_not_end_a_wait, KINDS)
{
    const struct sigaction action = { .sa_handler = count_alarm };
    const struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { { 0, 0 }, { 0, 0 } };
    struct twinlog *log = make_log(10);
    struct twinlog_reader *reader = open_reader(log, _i, 11, 0);
    int64_t began;

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    do { /* on a busy machine few of them come in one wait */
        began = now_ms();
        ck_assert_int_eq(twinlog_reader_wait(reader, 100), 0);
        ck_assert_int_ge(now_ms() - began, 99);
    } while (atomic_load(&alarms) <= 3);
    setitimer(ITIMER_REAL, &never, NULL);
    twinlog_reader_close(reader);
    log_close(log);
}

/* ---- a writer that comes later ------------------------------------------------------------------- */

static void *write_later(void *context)
{
    int *rc = context;
    struct twinlog *log;

    *rc = twinlog_open(log_dir, &WITH_SIZE(options, .segment_bytes = SMALL_SEGMENT), &log);
    if (*rc == 0) {
        waited_log = log;
        append_one(rc);
        twinlog_close(log);
    }
    return NULL;
}

static void expect_one_later(struct twinlog_reader *reader, uint64_t lsn, bool by_fd)
{
    struct pollfd ready = { .fd = by_fd ? twinlog_reader_fd(reader) : -1, .events = POLLIN };
    int rc;

    expect_no_next(reader, 0);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    pthread_t writer = start_thread(write_later, &rc);
    for (bool is_there = false; !is_there;) { /* a writer that comes is news as well */
        struct twinlog_record record;
        if (by_fd)
            ck_assert_int_eq(poll(&ready, 1, -1), 1);
        else
            ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        int result = twinlog_reader_next(reader, &record);
        if (result > 0)
            expect_it(result, &record, lsn, 0);
        ck_assert_int_ge(result, 0);
        ck_assert(by_fd || result > 0);
        is_there = result > 0;
    }
    pthread_join(writer, NULL);
    ck_assert_int_eq(rc, 0);
}

TEST_LOOP(a_writer_that_comes_later_is_noticed, 2)
{
    log_close(make_log(10));
    struct twinlog_reader *reader = open_reader(NULL, _i, 11, 0);
    expect_one_later(reader, 11, false);
    expect_one_later(reader, 12, true);
    expect_one_later(reader, 13, false);
    twinlog_reader_close(reader);
}

/* A power cut may take the marker of an epoch that a writer through a mapping has published, and leave the page with
 * that epoch: no group on the disk has it. */
TEST_LOOP(a_writer_is_noticed_also_where_the_page_has_a_newer_epoch_than_the_log, 2)
{
    struct twinlog *log = make_log(10);
    const uint32_t epoch = log_stat(log).epoch + 1;

    log_close(log);
    patch_file(log_file(PAGE_FILE_NAME), offsetof(struct page_words, epoch), &epoch, sizeof(epoch));
    struct twinlog_reader *reader = open_reader(NULL, _i, 11, 0);
    expect_no_next(reader, 0);
    log = open_small();
    put_many(log, 0, 1);
    expect_next(reader, 11, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

/* The page alone has that epoch, and an opening that fails has cleared the page. */
TEST_LOOP(a_writer_is_noticed_also_where_the_opening_before_it_has_failed, 2)
{
    struct twinlog *log = make_log(10);
    const uint32_t epoch = log_stat(log).epoch + 1;
    char name[SEGMENT_NAME_BYTES];

    log_close(log);
    patch_file(log_file(PAGE_FILE_NAME), offsetof(struct page_words, epoch), &epoch, sizeof(epoch));
    struct twinlog_reader *reader = open_reader(NULL, _i, 11, 0);
    expect_no_next(reader, 0);
    twl_segment_name(1, name);
    char *path = strdup(log_file(name)), *second = strdup(log_file("second"));
    ck_assert_int_eq(link(path, second), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(log_open_error(NULL), -EMLINK);
    ck_assert_int_eq(unlink(second), 0);
    free(path);
    free(second);
    log = open_small();
    ck_assert_uint_gt(log_stat(log).epoch, epoch);
    put_many(log, 0, 1);
    expect_next(reader, 11, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_LOOP(a_writer_is_noticed_also_where_the_lock_file_was_missing_or_is_removed, 2)
{
    log_close(make_log(10));
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    struct twinlog_reader *reader = open_reader(NULL, _i, 11, 0);
    expect_one_later(reader, 11, false);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    expect_one_later(reader, 12, false);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    expect_one_later(reader, 13, true);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    expect_one_later(reader, 14, true);
    twinlog_reader_close(reader);
}

CASE("the descriptor", logdir_make, logdir_remove);

static bool is_readable(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    int result = poll(&ready, 1, 0);

    ck_assert_int_ge(result, 0);
    return result > 0;
}

static void expect_readable(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };

    ck_assert_int_eq(poll(&ready, 1, -1), 1);
    ck_assert_int_eq(ready.revents, POLLIN);
}

static struct {
    _Atomic bool is_shut, is_waiting;
} door;

static int wait_at_door(const struct hooked_call *call)
{
    while (call->op == SIM_OPEN && atomic_load(&door.is_shut)) {
        atomic_store(&door.is_waiting, true);
        sched_yield();
    }
    return 0;
}

/* The follower's thread exchanges the page while the reader ends the thread. Only the thread sanitizer sees it if they
 * do not take turns. */
TEST(a_follower_may_find_another_page_when_it_is_ended)
{
    struct follower *follower;

    log_close(log_open(NULL));
    ck_assert_int_eq(unlink(log_file(PAGE_FILE_NAME)), 0);
    struct io *io = hooked_log_dir(wait_at_door);
    ck_assert_int_eq(twl_follower_create(io, NULL, &follower), 0); /* without a page */
    atomic_store(&door.is_waiting, false);
    atomic_store(&door.is_shut, true);
    while (!atomic_load(&door.is_waiting))
        sched_yield();
    struct twinlog *log = log_open(NULL);
    atomic_store(&door.is_shut, false);
    twl_follower_destroy(follower);
    io->ops->destroy(io);
    log_close(log);
}

TEST_LOOP(the_descriptor_is_readable_while_there_is_something, KINDS)
{
    struct twinlog *log = make_log(5);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 6);
    struct twinlog_record record;
    int fd = twinlog_reader_fd(reader);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(twinlog_reader_fd(reader), fd);
    for (uint64_t lsn = 1; lsn <= 5; lsn++) {
        ck_assert(is_readable(fd));
        expect_next(reader, lsn, 0);
    }
    ck_assert(is_readable(fd)); /* no thread has found out yet */
    expect_no_next(reader, 0);
    ck_assert(!is_readable(fd));
    put_many(log, 0, 3);
    expect_readable(fd);
    expect_next(reader, 6, 0);
    expect_no_next(reader, 0); /* the range ends here */
    ck_assert(!is_readable(fd));
    put_many(log, 0, 1);
    ck_assert(!is_readable(fd));

    ck_assert_int_eq(twinlog_reader_seek(reader, 6), 0);
    ck_assert(is_readable(fd));
    expect_next(reader, 6, 0);
    expect_no_next(reader, 0);
    ck_assert(!is_readable(fd));
    ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
    ck_assert(is_readable(fd));
    expect_next(reader, 6, 0);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_truncate(log, 3), 0);
    expect_readable(fd); /* an error is something as well */
    expect_no_next(reader, TWINLOG_ETRUNCATED);
    ck_assert(is_readable(fd));
    ck_assert_int_eq(twinlog_reader_seek(reader, 4), 0);
    ck_assert(!is_readable(fd) || twinlog_reader_next(reader, &record) == 0);
    ck_assert(!is_readable(fd));
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_LOOP(the_descriptor_tells_of_every_record, KINDS)
{
    waited_log = make_log(1);
    struct twinlog_reader *reader = open_reader(waited_log, _i, 2, 0);
    int fd = twinlog_reader_fd(reader);
    for (uint64_t lsn = 2; lsn < 300; lsn++) {
        int rc;
        ck_assert(!is_readable(fd));
        pthread_t appender = start_thread(append_one, &rc);
        expect_readable(fd);
        pthread_join(appender, NULL);
        ck_assert_int_eq(rc, 0);
        expect_next(reader, lsn, 0);
        expect_no_next(reader, 0);
    }
    twinlog_reader_close(reader);
    log_close(waited_log);
}

TEST_LOOP(a_trim_that_overtakes_a_waiting_reader_is_told_by_the_descriptor, KINDS)
{
    struct twinlog *log = make_log(10);
    struct twinlog_reader *reader = open_reader(log, _i, 20, 0);
    int fd = twinlog_reader_fd(reader);

    ck_assert(!is_readable(fd));
    ck_assert_int_eq(twinlog_reset(log, 30), 0);
    expect_readable(fd);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert(is_readable(fd));
    twinlog_reader_close(reader);
    log_close(log);
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

TEST_LOOP(a_reader_can_be_closed_at_any_point, KINDS)
{
    struct twinlog *log = log_open(NULL); /* so large a segment that nothing happens in the background */

    put_many(log, 0, 500);
    unsigned before = open_descriptors();
    for (int point = 0; point < 40; point++) {
        struct twinlog_reader *reader = open_reader(log, _i, point % 2 ? 0 : 501, 0);
        struct twinlog_record record;
        for (int i = 0; i < point; i++)
            ck_assert_int_ge(twinlog_reader_next(reader, &record), 0);
        if (point % 3)
            ck_assert_int_ge(twinlog_reader_fd(reader), 0);
        if (point % 5 == 0)
            ck_assert_int_ge(twinlog_reader_previous(reader, &record), 0);
        if (point % 7 == 0)
            ck_assert_int_eq(twinlog_reader_seek_time(reader, 0), 0);
        twinlog_reader_close(reader);
    }
    ck_assert_uint_eq(open_descriptors(), before);
    log_close(log);
}

/* ---- damage and failures --------------------------------------------------------------------------- */

static void flip(uint64_t segment, off_t offset)
{
    FILE *file = fopen(log_segment(segment), "r+");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseeko(file, offset, SEEK_SET), 0);
    int byte = fgetc(file);
    ck_assert_int_eq(fseeko(file, offset, SEEK_SET), 0);
    ck_assert_int_ne(fputc(byte ^ 1, file), EOF);
    ck_assert_int_eq(fclose(file), 0);
}

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
    return rc == 0 ? twinlog_append_batch(log, batch, 2, NULL, NULL) : rc;
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
TEST_LOOP(what_a_dead_writer_left_torn_is_not_returned_in_the_place_of_what_came_after, 2)
{
    struct twinlog_record record;

    ck_assert_int_eq(run_child(die_in_a_batch), 0);
    flip(1, find_in_segment(1, "the last of the batch"));
    struct twinlog_reader *reader = open_reader(NULL, _i, 0, 0);
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

TEST_LOOP(damage_is_met_from_both_sides_and_passed_by_a_seek, 2)
{
    struct twinlog_record record;
    uint64_t lsn = 0;
    int rc;

    log_close(make_log(MANY));
    flip(3, 30000);
    struct twinlog_reader *reader = open_reader(NULL, _i, 0, 0);
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        expect_it(rc, &record, ++lsn, 0);
    ck_assert_int_eq(rc, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(report.finding, TWINLOG_FOUND_DAMAGE);
    ck_assert_uint_eq(report.first_lsn, lsn + 1);
    ck_assert_uint_eq(report.segment, 3);
    ck_assert_uint_le(report.offset, 30000);
    expect_no_next(reader, TWINLOG_ECORRUPT);
    expect_no_previous(reader, TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);

    ck_assert_int_eq(twinlog_reader_seek(reader, MANY), 0);
    expect_next(reader, MANY, 0);
    for (lsn = MANY + 1; (rc = twinlog_reader_previous(reader, &record)) > 0;)
        expect_it(rc, &record, --lsn, 0);
    ck_assert_int_eq(rc, TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_reader_seek(reader, 5), 0);
    expect_previous(reader, 4, 0);
    twinlog_reader_close(reader);
}

TEST_RANGE(a_file_that_is_truncated_under_a_mapping_is_an_error_and_no_signal, 1, 2)
{
    struct twinlog *log = make_log(MANY);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);
    struct twinlog_record record;
    uint64_t lsn = 0;
    int rc;

    expect_next(reader, ++lsn, 0);
    ck_assert_int_eq(truncate(log_segment(1), 20000), 0);
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        expect_it(rc, &record, ++lsn, 0);
    ck_assert_int_eq(rc, -EIO);
    ck_assert_uint_eq(report.finding, TWINLOG_FOUND_SYSTEM_ERROR);
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
        return call->lock == IO_LOCK_USE ? lock_error : 0;
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

    return error < 0 ? error : atomic_fetch_add(&calls, 1) + 1 == failing_call ? -EIO : 0;
}

static int open_failing(int kind, uint64_t from_lsn, struct twinlog_reader **ret_reader)
{
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .flags = IS_MAPPING(kind) ? TWINLOG_READER_MMAP : 0, .from_lsn = from_lsn,
                  .ret_report = &report);

    memset(&report, 0, sizeof(report));
    return twl_reader_open(hooked_log_dir(fail_call), &options, ret_reader);
}

/* There, back, and by time; after an error it goes on where it was. */
static void read_with_failure(struct twinlog_reader *reader, uint64_t last)
{
    struct twinlog_record record;
    unsigned errors = 0;
    int rc;

    for (uint64_t lsn = 1; lsn <= last;) {
        rc = twinlog_reader_next(reader, &record);
        if (rc > 0) {
            expect_it(rc, &record, lsn++, 0);
            continue;
        }
        ck_assert_int_eq(rc, -EIO);
        ck_assert_int_eq(report.error, -EIO);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), -EIO);
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        errors++;
    }
    for (uint64_t lsn = last; lsn > 0;) {
        rc = twinlog_reader_previous(reader, &record);
        if (rc > 0) {
            expect_it(rc, &record, lsn--, 0);
            continue;
        }
        ck_assert_int_eq(rc, -EIO);
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn + 1), 0);
        errors++;
    }
    for (rc = -EIO; rc < 0; errors += rc < 0) {
        ck_assert_int_eq(twinlog_reader_seek_time(reader, 0), 0);
        rc = twinlog_reader_next(reader, &record);
    }
    expect_it(rc, &record, 1, 0);
    ck_assert_uint_le(errors, 1);
}

TEST_LOOP(a_failure_anywhere_is_an_error_and_a_seek_goes_on, 2)
{
    const uint64_t last = 1500;
    bool is_done = false;

    log_close(make_log((unsigned)last));
    for (failing_call = 1; !is_done; failing_call += REPEATS(1u, 3u)) {
        struct twinlog_reader *reader;
        calls = 0;
        int rc = open_failing(_i, 0, &reader);
        if (rc < 0) {
            ck_assert_int_eq(rc, -EIO);
            ck_assert_int_eq(report.error, -EIO);
            continue;
        }
        read_with_failure(reader, last);
        twinlog_reader_close(reader);
        is_done = calls < failing_call;
    }
    ck_assert_uint_gt(failing_call, 60);
}

/* A file system without a sync is one that can only be read. One that had to stop writing answers -EROFS. */
TEST_LOOP(what_can_not_be_synced_is_not_shown_unless_there_is_nothing_to_sync, 2)
{
    static const int errors[] = { -EIO, -EROFS, -ENOSPC };
    struct twinlog_reader *reader;

    log_close(make_log(10));
    sync_error = -EINVAL;
    ck_assert_int_eq(open_failing(_i, 0, &reader), 0);
    expect_run(reader, 1, 10, 0);
    twinlog_reader_close(reader);
    for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        sync_error = errors[i];
        ck_assert_int_eq(open_failing(_i, 0, &reader), errors[i]);
        ck_assert_int_eq(report.error, errors[i]);
    }
}

TEST(where_there_are_no_locks_or_no_mappings_the_reader_reads)
{
    struct twinlog_reader *reader;

    log_close(make_log(1500));
    for (unsigned i = 0; i < 2; i++) {
        lock_error = i == 0 ? -ENOLCK : 0;
        view_error = i == 1 ? -ENOTSUP : 0;
        ck_assert_int_eq(open_failing(1, 0, &reader), 0);
        wander(reader, 1500, 100);
        twinlog_reader_close(reader);
    }
}

/* The writer has a page of its own then, and readers from outside go by the markers in the log (I7). */
TEST_LOOP(without_shared_memory_the_markers_in_the_log_tell, KINDS)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    log_close(make_log(10)); /* leaves a page in the file */
    map_error = -ENODEV;
    options.segment_bytes = SMALL_SEGMENT;
    struct twinlog *log = log_on(hooked_log_dir(fail_call), &options);
    struct twinlog_reader *reader = open_reader(log, _i, 0, 0);
    expect_run(reader, 1, 10, 0);
    expect_no_next(reader, 0);
    for (uint64_t lsn = 11; lsn < 300; lsn++) {
        put_many(log, 0, 1);
        if (IS_ATTACHED(_i)) {
            expect_next(reader, lsn, 0);
        } else if (lsn > 11) { /* the newest one has no marker behind it yet */
            ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
            expect_next(reader, lsn - 1, 0);
        }
        expect_no_next(reader, 0);
    }
    put_void(log);
    put_void(log);
    if (!IS_ATTACHED(_i))
        expect_next(reader, 299, 0);
    expect_no_next(reader, 0);
    put_many(log, 0, 1);
    put_void(log);
    expect_next(reader, 302, 0);
    expect_no_next(reader, 0);
    put_many(log, 0, 1);
    if (!IS_ATTACHED(_i)) {
        expect_readable(twinlog_reader_fd(reader));
        log_close(log);
        expect_next(reader, 304, 0); /* without a writer, what is sound counts */
    }
    twinlog_reader_close(reader);
    if (IS_ATTACHED(_i))
        log_close(log);
}

/* All that tells how far the log is durable is its head, in the middle of a group. */
TEST(without_shared_memory_a_backup_ends_with_a_group)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    char copy[sizeof(log_parent) + 8];

    log_close(make_log(10));
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

TEST(nothing_but_a_log_is_opened)
{
    struct twinlog_reader *reader = NULL;

    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), -ENOENT);
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), -ENOENT);
    log_close(make_log(10));
    ck_assert_int_eq(unlink(log_file("state")), 0);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), TWINLOG_ECORRUPT);
    ck_assert_ptr_null(reader);
    ck_assert_int_eq(twinlog_reader_seek_first(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_seek_end(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_seek_time(NULL, 0), -EINVAL);
    ck_assert_int_eq(twinlog_reader_wait(NULL, 0), -EINVAL);
    ck_assert_int_eq(twinlog_reader_fd(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_range(NULL, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_previous(NULL, NULL), -EINVAL);
}
