/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LSNs that are used up without a record; and copies that take long, which a leader has to wait for.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "slow_bytes.h"
#include "suites.h"

#include <errno.h>
#include <string.h>

#define KIB 1024u

CASE("skipped", gate_set_up, logdir_remove);

static void append_text(struct twinlog *log, const char *text, uint64_t expected_lsn)
{
    uint64_t lsn;

    ck_assert_int_eq(twinlog_append(log, text, strlen(text), &lsn), 0);
    ck_assert_uint_eq(lsn, expected_lsn);
}

static void expect_text(struct twinlog *log, uint64_t lsn, const char *text)
{
    char room[16];
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_read(log, lsn, room, sizeof(room), &record), 0);
    ck_assert(record.size == strlen(text) && memcmp(room, text, record.size) == 0);
}

static int note_finding(void *context, const struct twinlog_report *report)
{
    struct twinlog_report *noted = context;

    ck_assert_int_eq(noted->finding, TWINLOG_FOUND_NOTHING);
    *noted = *report;
    return 0;
}

/* What stands for no record counts, as each text on it says. */
TEST(the_limit_of_records_counts_lsns)
{
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    struct twinlog *log = log_open(NULL);

    append_text(log, "one", 1);
    append_text(log, "two", 2);
    ck_assert_int_eq(twinlog_skip(log, 10), 0);
    append_text(log, "ten", 10);

    trim.keep_records = 9;
    ck_assert_int_eq(twinlog_trim(log, &trim, &result), 0);
    ck_assert_uint_eq(result.first_lsn, 2);
    trim.keep_records = 2;
    ck_assert_int_eq(twinlog_trim(log, &trim, &result), 0);
    ck_assert_uint_eq(result.first_lsn, 9);
    expect_text(log, 10, "ten");
    log_close(log);
}

/* By a reader, by verify, and behind a repair. */
WAYS_TEST(lost_records_are_told_from_skipped_ones, LOG_WAYS)
{
    struct twinlog_report noted = { 0 };
    struct twinlog_verify_options verify = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_record record;
    char room[16];
    uint64_t records;
    struct twinlog *log = log_open(&options);

    append_text(log, "one", 1);
    ck_assert_int_eq(twinlog_skip(log, 5), 0);
    append_text(log, "five", 5);
    ck_assert_int_eq(twinlog_skip_lost(log, 10), 0);
    append_text(log, "ten", 10);
    ck_assert_int_eq(twinlog_read(log, 4, room, sizeof(room), &record), -ENOENT);
    for (uint64_t lsn = 6; lsn < 10; lsn++)
        ck_assert_int_eq(twinlog_read(log, lsn, room, sizeof(room), &record), -ENODATA);
    ck_assert_int_eq(twinlog_read(log, 4, room, sizeof(room), &record), -ENOENT);
    expect_text(log, 10, "ten");
    log_close(log);
    verify.each = note_finding;
    verify.context = &noted;
    ck_assert_int_eq(twinlog_verify(log_dir, &verify, &records), 0);
    ck_assert_uint_eq(records, 3);
    ck_assert_int_eq(noted.finding, TWINLOG_FOUND_LOST);
    ck_assert_int_eq(noted.error, 0);
    ck_assert_uint_eq(noted.first_lsn, 6);
    ck_assert_uint_eq(noted.last_lsn, 9);
}

WAYS_TEST(readers_pass_over_skipped_lsns, LOG_WAYS)
{
    struct twinlog_record record;
    struct twinlog *log = log_open(&options);

    append_text(log, "one", 1);
    ck_assert_int_eq(twinlog_skip(log, 10), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 9);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 9);
    append_text(log, "ten", 10);
    for (uint64_t next = 1; next <= 11; next++) /* the log is already as far */
        ck_assert_int_eq(twinlog_skip(log, next), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 10);
    ck_assert_int_eq(twinlog_skip(log, 13), 0);
    log_close(log);

    log = log_open(&options); /* a close keeps those at the end, too */
    ck_assert_uint_eq(twinlog_last_lsn(log), 12);
    char room[16];
    ck_assert_int_eq(twinlog_read(log, 2, room, sizeof(room), &record), -ENOENT);
    ck_assert_int_eq(twinlog_read(log, 12, room, sizeof(room), &record), -ENOENT);
    expect_text(log, 1, "one");
    append_text(log, "13", 13);
    log_close(log);
    struct twinlog_reader *reader = log_reader(0, 0);
    static const uint64_t expected[] = { 1, 10, 13 };
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, expected[i]);
    }
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    for (unsigned i = 3; i-- > 0;) {
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, expected[i]);
    }
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

TEST(more_may_be_skipped_than_a_buffer_or_a_segment_holds)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.buffer_bytes = 16 * KIB, .segment_bytes = 64 * KIB));

    ck_assert_int_eq(twinlog_skip(log, 20001), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 20000);
    ck_assert_uint_gt(log_stat(log).rolls, 4);
    append_text(log, "there", 20001);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

TEST(a_skip_that_met_a_full_disk_goes_on_where_it_ended)
{
    struct twinlog *log = gate_log(&LOG_OPTIONS(.buffer_bytes = 16 * KIB, .segment_bytes = 64 * KIB));

    atomic_store(&gate.largest_file, 1);
    ck_assert_int_eq(twinlog_skip(log, 100001), -ENOSPC);
    const uint64_t last = twinlog_last_lsn(log);
    ck_assert_uint_lt(last, 100000);
    ck_assert_uint_gt(last, 0);
    atomic_store(&gate.largest_file, UINT64_MAX);
    ck_assert_int_eq(twinlog_skip(log, 100001), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 100000);
    log_close(log);
}

TEST(a_skip_is_durable_or_has_the_error)
{
    struct twinlog *log = gate_log(&LOG_OPTIONS(.flags = TWINLOG_BUFFERED));

    ck_assert_int_eq(twinlog_skip(log, 0), -EINVAL);
    ck_assert_int_eq(twinlog_skip(log, 5), 0);
    atomic_store(&gate.error, -EIO);
    ck_assert_int_eq(twinlog_skip(log, 10), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_skip(log, 20), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}

CASE("slow copies", gate_set_up, logdir_remove);

struct slow_writer {
    struct twinlog *log;
    struct slow_bytes *slow;
    int result;
};

static void *append_slowly(void *argument)
{
    struct slow_writer *writer = argument;

    writer->result = twinlog_append(writer->log, writer->slow->bytes, writer->slow->size, NULL);
    return NULL;
}

/* The record behind it is complete, and must not be written before. */
WAYS_TEST(a_group_waits_for_the_last_copy, LOG_IO_KINDS)
{
    const struct twinlog_entry entry = { .data = "behind", .size = 6 };
    struct slow_bytes slow = slow_bytes_make('s');
    struct twinlog *log = log_open(&options);
    struct slow_writer writer = { .log = log, .slow = &slow };
    uint64_t lsn;

    pthread_t thread = start_thread(append_slowly, &writer);
    AWAIT(slow_bytes_is_reached());
    const struct twinlog_terms terms = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(20));
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, &lsn), -ETIMEDOUT);
    ck_assert_uint_eq(lsn, 2);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    slow_bytes_let_go();
    pthread_join(thread, NULL);
    ck_assert_int_eq(writer.result, 0);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, 0), 0);
    log_close(log);
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert(record.size == slow.size && memcmp(record.data, slow.bytes, slow.size) == 0);
    reader_expect_last(reader, 2, 2);
    twinlog_reader_close(reader);
    slow_bytes_free(&slow);
}
