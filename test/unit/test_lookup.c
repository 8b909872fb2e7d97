/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog_read(): one record by its LSN, in every mode, and what it says of a record that is not there. */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "log/handle.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define ROOM 4096u
#define MANY 5000u

/* A record says its LSN, and the life that it belongs to, which is one more after a truncation. */
struct label {
    uint64_t lsn, life;
};

static size_t make_bytes(uint64_t lsn, uint64_t life, unsigned char bytes[ROOM])
{
    struct rng rng = { lsn << 8 | life };
    const struct label label = { lsn, life };
    const size_t size = sizeof(label) + rng_below(&rng, rng_one_in(&rng, 40) ? ROOM - sizeof(label) : 100);

    memcpy(bytes, &label, sizeof(label));
    memset(bytes + sizeof(label), (int)(lsn + life), size - sizeof(label));
    return size;
}

static void put(struct twinlog *log, uint64_t life, unsigned count)
{
    unsigned char bytes[ROOM];

    for (unsigned i = 0; i < count; i++) {
        const size_t size = make_bytes(twinlog_last_lsn(log) + 1, life, bytes);
        ck_assert_int_eq(twinlog_enqueue(log, bytes, size, NULL), 0);
        if (i % 13 == 12)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }

    ck_assert_int_eq(twinlog_sync(log), 0);
}

/* NULL, or what is wrong. Any thread. */
static const char *check(int rc, const struct twinlog_record *record, uint64_t lsn, uint64_t life,
                         const unsigned char *data)
{
    unsigned char expected[ROOM];

    if (rc != 0)
        return twinlog_strerror(rc);
    if (record->lsn != lsn || record->data != data || record->time_ns == 0)
        return "another record";
    const size_t size = make_bytes(lsn, life, expected);
    if (record->size != size || memcmp(expected, data, size) != 0)
        return "other bytes";
    return NULL;
}

static const char *read_one(struct twinlog *log, uint64_t lsn, uint64_t life)
{
    unsigned char data[ROOM];
    struct twinlog_record record;
    const int rc = twinlog_read(log, lsn, data, sizeof(data), &record);

    return check(rc, &record, lsn, life, data);
}

static void expect(struct twinlog *log, uint64_t lsn, uint64_t life)
{
    const char *wrong = read_one(log, lsn, life);

    ck_assert_msg(!wrong, "record %llu: %s", (unsigned long long)lsn, wrong);
}

static void expect_error(struct twinlog *log, uint64_t lsn, int error)
{
    struct twinlog_record record = { .lsn = 77, .size = 78 };
    unsigned char data[ROOM] = { 79 };

    ck_assert_int_eq(twinlog_read(log, lsn, data, sizeof(data), &record), error);
    ck_assert_uint_eq(record.lsn, 77);
    ck_assert_uint_eq(record.size, 78);
    ck_assert_uint_eq(data[0], 79);
}

static struct twinlog *open_in(uint32_t mode)
{
    struct twinlog_options options =
        LOG_OPTIONS(.mode = mode, .segment_bytes = 65536, .max_record_bytes = ROOM);

    if (mode != TWINLOG_MODE_DURABLE) {
        options.segment_bytes = 1 << 20;
        options.mapped_bytes = 65536;
    }

    return log_open(&options);
}

CASE("there", logdir_make, logdir_remove);

static const struct mode {
    const char *name;
    uint32_t mode;
} modes[] = {
    { "durable", TWINLOG_MODE_DURABLE },
    { "mapped", TWINLOG_MODE_MAPPED },
    { "shared", TWINLOG_MODE_SHARED },
};

TEST_EACH(every_record_is_read_in_any_order_in_every_mode, modes)
{
    struct rng rng = { 5 };
    struct twinlog *log = open_in(row->mode);
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);

    put(log, 0, MANY);
    struct twinlog *other = log_open(&options); /* as in another process */
    for (uint64_t lsn = 1; lsn <= MANY; lsn++)
        expect(log, lsn, 0);
    for (unsigned i = 0; i < MANY; i++) {
        expect(log, 1 + rng_below(&rng, MANY), 0);
        expect(other, 1 + rng_below(&rng, MANY), 0);
    }

    expect_error(log, MANY + 1, -ERANGE);
    expect_error(other, MANY + 1, -ERANGE);
    expect_error(other, UINT64_MAX, -ERANGE);

    put(log, 0, 1);
    expect(log, MANY + 1, 0);
    expect(other, MANY + 1, 0);
    log_close(other);
    log_close(log);
    ck_assert_uint_eq(log_count_open_segments(), 0);
}

TEST(a_record_that_is_too_large_for_the_room_tells_its_size)
{
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);
    const struct twinlog_entry entry = {
        .data = "record", .size = 6, .tag = 500, .type = 9, .time_ns = 1234
    };
    struct twinlog_record record;
    char data[8];

    memset(data, '.', sizeof(data));
    ck_assert_int_eq(twinlog_append(log, NULL, 0, NULL), 0);
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, NULL), 0);

    ck_assert_int_eq(twinlog_read(log, 2, data, 5, &record), -ENOBUFS);
    ck_assert_uint_eq(record.size, 6);
    ck_assert_ptr_null(record.data);
    ck_assert_mem_eq(data, "........", 8);

    ck_assert_int_eq(twinlog_read(log, 2, NULL, 0, &record), -ENOBUFS);
    ck_assert_uint_eq(record.size, 6);

    ck_assert_int_eq(twinlog_read(log, 2, data, 6, &record), 0);
    ck_assert_mem_eq(data, "record..", 8);
    log_close(log);
}

TEST(a_record_is_read_with_all_that_it_was_given)
{
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);
    const struct twinlog_entry entry = {
        .data = "record", .size = 6, .tag = 500, .type = 9, .time_ns = 1234
    };
    struct twinlog_record record;
    char data[8];

    ck_assert_int_eq(twinlog_append(log, NULL, 0, NULL), 0);
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, NULL), 0);

    ck_assert_int_eq(twinlog_read(log, 2, data, 6, &record), 0);
    ck_assert_ptr_eq(record.data, data);
    ck_assert_uint_eq(record.lsn, 2);
    ck_assert_int_eq(record.time_ns, 1234);
    ck_assert_uint_eq(record.tag, 500);
    ck_assert_uint_eq(record.type, 9);

    ck_assert_int_eq(twinlog_read(log, 1, NULL, 0, &record), 0);
    ck_assert_uint_eq(record.size, 0);
    log_close(log);
}

TEST(a_mistake_of_the_caller_is_refused)
{
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);
    struct twinlog_record record;
    char data[8];

    ck_assert_int_eq(twinlog_append(log, NULL, 0, NULL), 0);
    ck_assert_int_eq(twinlog_read(log, 0, data, 8, &record), -EINVAL);
    ck_assert_int_eq(twinlog_read(log, 1, NULL, 8, &record), -EINVAL);
    ck_assert_int_eq(twinlog_read(log, 1, data, 8, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_read(NULL, 1, data, 8, &record), -EINVAL);
    log_close(log);
}

/* ---- what it costs ----------------------------------------------------------------------------- */

enum {
    STREAM_RECORDS = 400,
    STREAM_RECORD_BYTES = 1000,
    MOST_STREAMS = 4
};

/* Bytes that this process has got from read calls, of a disk or of memory; -1 where the kernel does not count them. */
static long bytes_got(void)
{
    char line[100];
    long count = -1;
    FILE *io = fopen("/proc/self/io", "re");

    while (io && fgets(line, sizeof(line), io))
        if (sscanf(line, "rchar: %ld", &count) == 1)
            break;
    if (io)
        fclose(io);
    return count;
}

static struct twinlog *open_with_streams(void)
{
    static const unsigned char bytes[STREAM_RECORD_BYTES];
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = 4 << 20));

    for (unsigned i = 0; i < MOST_STREAMS * STREAM_RECORDS; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    return log;
}

static void look_at(struct twinlog *log, uint64_t lsn)
{
    unsigned char data[STREAM_RECORD_BYTES];
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_read(log, lsn, data, sizeof(data), &record), 0);
    ck_assert_uint_eq(record.lsn, lsn);
}

CASE("cost", logdir_make, logdir_remove);

/* By turns, as threads that read on at places of their own may do. */
static const struct {
    const char *name;
    unsigned streams;
    unsigned times; /* that each record is read */
} patterns[] = {
    { "one that reads on", 1, 1 },
    { "two by turns", 2, 1 },
    { "four by turns", MOST_STREAMS, 1 },
    { "two by turns, each record three times", 2, 3 },
};

TEST_LOOP(reading_on_costs_little_more_than_the_records, sizeof(patterns) / sizeof(*patterns))
{
    const unsigned streams = patterns[_i].streams;
    const long size = (long)streams * STREAM_RECORDS * STREAM_RECORD_BYTES;

    if (bytes_got() < 0) {
        fprintf(stderr, "SKIP lookup %s: the kernel does not count what is read\n", patterns[_i].name);
        return;
    }
    struct twinlog *log = open_with_streams();
    const long before = bytes_got();
    for (uint64_t i = 1; i <= STREAM_RECORDS; i++)
        for (unsigned stream = 0; stream < streams; stream++)
            for (unsigned time = 0; time < patterns[_i].times; time++)
                look_at(log, stream * STREAM_RECORDS + i);

    const long got = bytes_got() - before;
    ck_assert_msg(got <= 3 * size, "%s: %ld bytes for %ld", patterns[_i].name, got, size);
    log_close(log);
}

CASE("not there", logdir_make, logdir_remove);

TEST(a_record_that_is_not_durable_is_not_read)
{
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);
    unsigned char bytes[ROOM];

    ck_assert_int_eq(twinlog_enqueue(log, bytes, make_bytes(1, 0, bytes), NULL), 0);
    expect_error(log, 1, -ERANGE);
    ck_assert_int_eq(twinlog_sync(log), 0);
    expect(log, 1, 0);
    log_close(log);
}

TEST(a_filler_is_no_record)
{
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);

    put(log, 0, 1);
    ck_assert_int_eq(twinlog_skip(log, 3), 0);
    put(log, 0, 1);
    ck_assert_int_eq(twinlog_skip(log, 5), 0);

    expect_error(log, 2, -ENOENT);
    expect_error(log, 4, -ENOENT);
    expect_error(log, 5, -ERANGE);
    expect(log, 3, 0);
    expect(log, 1, 0);
    log_close(log);
}

TEST(what_was_removed_is_told_apart_and_its_segments_are_let_go)
{
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);
    const unsigned most_of_writer = 4; /* the active segment, and one or two that are made or removed */

    put(log, 0, MANY);
    log_close(log); /* which seals all the segments that were left */
    log = open_in(TWINLOG_MODE_DURABLE);
    for (uint64_t lsn = 1; lsn <= MANY; lsn += 50)
        expect(log, lsn, 0);
    ck_assert_uint_gt(log_count_open_segments(), most_of_writer);
    log_trim_before(log, MANY / 2);
    ck_assert_uint_le(log_count_open_segments(), most_of_writer);
    expect_error(log, MANY / 2 - 1, TWINLOG_ETRIMMED);
    for (uint64_t lsn = MANY / 2; lsn <= MANY; lsn += 50)
        expect(log, lsn, 0);
    ck_assert_uint_gt(log_count_open_segments(), most_of_writer);

    ck_assert_int_eq(twinlog_truncate(log, MANY - 100), 0);
    ck_assert_uint_le(log_count_open_segments(), most_of_writer);
    expect(log, MANY - 100, 0);
    expect_error(log, MANY - 99, -ERANGE);
    put(log, 1, 200);
    expect(log, MANY - 100, 0);
    for (uint64_t lsn = MANY - 99; lsn <= MANY + 100; lsn++)
        expect(log, lsn, 1);

    ck_assert_int_eq(twinlog_reset(log, 10), 0);
    expect_error(log, 9, TWINLOG_ETRIMMED);
    expect_error(log, 10, -ERANGE);
    expect_error(log, MANY, -ERANGE);
    put(log, 2, 1);
    expect(log, 10, 2);
    log_close(log);
}

TEST(damage_is_an_error_for_its_record_alone)
{
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);
    unsigned damaged = 0;

    put(log, 0, MANY);
    log_close(log);
    patch_file(log_segment(2), 40000, "\x55\xaa\x55\xaa", 4);
    log = open_in(TWINLOG_MODE_DURABLE);
    for (uint64_t lsn = 1; lsn <= MANY; lsn++) {
        unsigned char data[ROOM];
        struct twinlog_record record;
        const int rc = twinlog_read(log, lsn, data, sizeof(data), &record);
        if (rc == TWINLOG_ECORRUPT)
            damaged++;
        else
            ck_assert_ptr_null(check(rc, &record, lsn, 0, data));
    }

    ck_assert_uint_ge(damaged, 1);
    ck_assert_uint_le(damaged, 20); /* of its group, at most */
    log_close(log);
}

/* ---- several threads --------------------------------------------------------------------------- */

#define THREADS 10u /* more than readers are kept */

static struct {
    struct twinlog *log;
    _Atomic bool must_end;
    _Atomic(const char *) wrong;
} crowd;

static void *look_up(void *seed)
{
    struct rng rng = { (uint64_t)(uintptr_t)seed };
    unsigned char data[ROOM];

    while (!atomic_load(&crowd.must_end)) {
        const uint64_t lsn = 1 + rng_below(&rng, twinlog_durable_lsn(crowd.log));
        struct twinlog_record record;
        const int rc = twinlog_read(crowd.log, lsn, data, sizeof(data), &record);
        if (rc == TWINLOG_ETRIMMED)
            continue;

        const char *wrong = check(rc, &record, lsn, 0, data);
        if (wrong)
            atomic_store(&crowd.wrong, wrong);
    }

    return NULL;
}

CASE("threads", logdir_make, logdir_remove);

TEST(threads_look_up_beside_a_writer_that_trims)
{
    pthread_t threads[THREADS];

    crowd.log = open_in(TWINLOG_MODE_DURABLE);
    put(crowd.log, 0, 100);
    for (uintptr_t i = 0; i < THREADS; i++)
        threads[i] = start_thread(look_up, (void *)(i + 1));
    for (unsigned i = 0; i < 30; i++) {
        put(crowd.log, 0, 100);
        log_trim_before(crowd.log, i * 90 + 1);
    }

    atomic_store(&crowd.must_end, true);
    for (unsigned i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    const char *wrong = atomic_load(&crowd.wrong);
    ck_assert_msg(!wrong, "%s", wrong);
    log_close(crowd.log);
    ck_assert_uint_eq(log_count_open_segments(), 0);
}

static void *reset_log(void *log)
{
    return (void *)(intptr_t)twinlog_reset(log, MANY);
}

CASE("a reset", gate_set_up, logdir_remove);

TEST(a_lookup_in_the_middle_of_a_reset_keeps_no_segment)
{
    void *rc;
    struct twinlog *log = gate_log(&LOG_OPTIONS(.segment_bytes = 65536, .max_record_bytes = ROOM));

    put(log, 0, MANY);
    atomic_store(&gate.is_shut_for_files, true);
    pthread_t thread = start_thread(reset_log, log);
    gate_await();
    for (uint64_t lsn = 1; lsn <= MANY; lsn += 50)
        expect(log, lsn, 0);
    gate_open();
    ck_assert_int_eq(pthread_join(thread, &rc), 0);
    ck_assert_ptr_null(rc);
    ck_assert_uint_le(log_count_open_segments(), 8); /* the look-ups had twice as many */
    log_close(log);
}

/* Where the keeper has gone over to the new segment, and nothing is published yet. */
static void begin_reset(struct twinlog *log, uint64_t next_lsn)
{
    struct segment segment;
    bool is_in_doubt;

    ck_assert_int_eq(
        twl_keeper_restart(log->keeper, next_lsn, 0, 0, log->epoch.number, &segment, &is_in_doubt), 0);
    twl_segment_close(&segment);
}

static const struct reset {
    const char *name;
    uint64_t next_lsn;
    int error; /* of a record that it removes */
} resets[] = {
    { "back", 10, -ERANGE },
    { "ahead", MANY, TWINLOG_ETRIMMED },
};

TEST_EACH(a_reader_in_the_middle_of_a_reset_finds_no_damage, resets)
{
    const uint64_t next_lsn = row->next_lsn;
    struct twinlog *log = open_in(TWINLOG_MODE_DURABLE);
    struct twinlog_report report;
    struct twinlog_record record;

    put(log, 0, MANY);
    log_trim_before(log, 1000);
    begin_reset(log, next_lsn);
    expect_error(log, 2000, row->error);

    struct twinlog_reader *reader;
    ck_assert_int_eq(
        twinlog_reader_attach(log, &WITH_SIZE(reader_options, .ret_report = &report, .from_lsn = 5), &reader),
        0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), TWINLOG_ETRIMMED);
    ck_assert_uint_eq(report.first_lsn, next_lsn);
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);

    ck_assert_int_eq(twinlog_reset(log, next_lsn), 0);
    put(log, 1, 1);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_uint_eq(record.lsn, next_lsn);
    twinlog_reader_close(reader);
    log_close(log);
}
