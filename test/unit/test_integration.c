/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library as its users have it, through the public interface on a real file system: several tests
 * run on every I/O path, with direct and buffered files and in both layouts.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

CASE("threads", logdir_make, logdir_remove);

#define THREADS 6u
#define RECORDS_EACH 60u

struct crowd {
    struct twinlog *log;
    _Atomic bool is_over; /* the writers have returned */
};

struct member {
    struct crowd *crowd;
    pthread_t thread;
    uint32_t writer;
    int error;
    const char *wrong;
    uint64_t count;
};

static void *append_all(void *argument)
{
    struct member *member = argument;
    uint64_t before = 0;

    for (uint32_t i = 0; i < RECORDS_EACH && member->error == 0; i++) {
        uint64_t lsn = 0;

        member->error = append_record(member->crowd->log, member->writer, i, &lsn);
        if (member->error == 0 && lsn <= before)
            member->wrong = "an LSN is not above the one before";
        if (member->error == 0 && twinlog_durable_lsn(member->crowd->log) < lsn)
            member->wrong = "append returned before its record was durable";
        before = lsn;
    }
    return NULL;
}

static void *enqueue_all(void *argument)
{
    struct member *member = argument;

    for (uint32_t i = 0; i < 10 * RECORDS_EACH && member->error == 0; i++)
        member->error = enqueue_record(member->crowd->log, member->writer, i, NULL);
    return NULL;
}

/* Reads until the writers are done and all of it is read. */
static void *read_beside(void *argument)
{
    struct member *member = argument;
    struct twinlog *log = member->crowd->log;
    struct twinlog_reader *reader;
    struct tally tally = { 0 };
    bool is_last = false;

    member->error = twinlog_reader_attach(log, NULL, &reader);
    if (member->error < 0)
        return NULL;
    while (member->error == 0 && !member->wrong && !is_last) {
        is_last = atomic_load(&member->crowd->is_over);
        int64_t count = tally_rest(&tally, reader, &member->wrong);
        if (count < 0)
            member->error = (int)count;
        if (tally.last_lsn > twinlog_durable_lsn(log))
            member->wrong = "a reader was given what is not durable";
        sched_yield();
    }
    member->count = tally.last_lsn;
    twinlog_reader_close(reader);
    return NULL;
}

static void *watch_marks(void *argument)
{
    struct member *member = argument;
    struct twinlog *log = member->crowd->log;
    uint64_t durable_before = 0, written_before = 0, last_before = 0;

    while (!atomic_load(&member->crowd->is_over)) {
        const uint64_t first = twinlog_first_lsn(log);
        const uint64_t durable = twinlog_durable_lsn(log);
        const uint64_t written = twinlog_written_lsn(log);
        const uint64_t last = twinlog_last_lsn(log);

        if (durable < durable_before || written < written_before || last < last_before)
            member->wrong = "a watermark went back";
        if (durable > written || written > last)
            member->wrong = "durable is above written, or that above last";
        if (first > 1)
            member->wrong = "first is neither 0 nor 1";
        durable_before = durable;
        written_before = written;
        last_before = last;
        sched_yield();
    }
    return NULL;
}

static void start(struct member *member, struct crowd *crowd, uint32_t writer, void *(*body)(void *))
{
    *member = (struct member){ .crowd = crowd, .writer = writer };
    member->thread = start_thread(body, member);
}

static void finish(struct member *member)
{
    ck_assert_int_eq(pthread_join(member->thread, NULL), 0);
    ck_assert_msg(member->error == 0, "writer %u: %s", member->writer, twinlog_strerror(member->error));
    ck_assert_msg(!member->wrong, "writer %u: %s", member->writer, member->wrong);
}

static void run_writers(struct crowd *crowd, void *(*body)(void *))
{
    struct member writers[THREADS];

    for (uint32_t i = 0; i < THREADS; i++)
        start(&writers[i], crowd, i, body);
    for (uint32_t i = 0; i < THREADS; i++)
        finish(&writers[i]);
}

static uint64_t payload_of_all(void)
{
    unsigned char bytes[RECORD_ROOM];
    uint64_t sum = 0;

    for (uint32_t writer = 0; writer < THREADS; writer++)
        for (uint32_t i = 0; i < RECORDS_EACH; i++)
            sum += make_record(writer, i, bytes);
    return sum;
}

static void expect_consistent(struct twinlog *log, const struct twinlog_options *options, uint64_t records,
                              uint64_t payload)
{
    const struct twinlog_stat stat = log_stat(log);

    ck_assert_uint_eq(stat.size, sizeof(stat));
    if (options->io != TWINLOG_IO_AUTO)
        ck_assert_uint_eq(stat.io, options->io);
    ck_assert_uint_ne(stat.io, TWINLOG_IO_AUTO);
    ck_assert_uint_eq(stat.is_direct, !(options->flags & TWINLOG_BUFFERED));
    ck_assert_int_eq(stat.poison, 0);
    ck_assert_uint_eq(stat.first_lsn, 1);
    ck_assert_uint_eq(stat.last_lsn, records);
    ck_assert_uint_eq(stat.durable_lsn, records);
    ck_assert_uint_eq(stat.appends, records);
    ck_assert_uint_eq(stat.append_bytes, payload);
    ck_assert_uint_ge(stat.groups, 1);
    ck_assert_uint_le(stat.groups, records + 1); /* and the marker of the opening */
    ck_assert_uint_ge(stat.group_bytes, payload + 24 * records + 64 * stat.groups);
    ck_assert_uint_le(stat.group_bytes, payload + 31 * records + 64 * stat.groups);
    ck_assert_uint_ge(stat.written_bytes, stat.group_bytes);
    ck_assert_uint_eq(stat.written_bytes % 4096, 0);
    ck_assert_uint_eq(stat.segments, 1 + stat.rolls);
    ck_assert_uint_le(stat.roll_waits, stat.appends); /* what was waited for need not have been used */
    ck_assert_str_ne(stat.io_reason, "");
}

WAYS_TEST(what_many_threads_appended_is_there_for_ever, LOG_WAYS)
{
    const uint64_t records = THREADS * RECORDS_EACH;
    struct crowd crowd = { 0 };
    struct member reader, watcher;

    options.segment_bytes = 64 * KIB;
    crowd.log = log_open(&options);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_NEW_LOG);
    start(&reader, &crowd, THREADS, read_beside);
    start(&watcher, &crowd, THREADS + 1, watch_marks);
    run_writers(&crowd, append_all);
    atomic_store(&crowd.is_over, true);
    finish(&reader);
    finish(&watcher);

    ck_assert_uint_eq(reader.count, records);
    expect_consistent(crowd.log, &options, records, payload_of_all());
    ck_assert_uint_ge(log_stat(crowd.log).rolls, 1);
    log_close(crowd.log);

    crowd.log = log_open(&options);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_uint_eq(twinlog_first_lsn(crowd.log), 1);
    ck_assert_uint_eq(twinlog_last_lsn(crowd.log), records);
    ck_assert_uint_eq(twinlog_durable_lsn(crowd.log), records);
    log_close(crowd.log);
    struct tally tally = log_check();
    ck_assert_uint_eq(tally.last_lsn, records);
    for (uint32_t i = 0; i < THREADS; i++)
        ck_assert_uint_eq(tally.next[i], RECORDS_EACH);
}

WAYS_TEST(enqueuing_faster_than_the_disk_waits_and_loses_nothing, LOG_WAYS)
{
    struct crowd crowd = { 0 };

    options.buffer_bytes = 16 * KIB;
    options.segment_bytes = MIB;
    crowd.log = log_open(&options);
    run_writers(&crowd, enqueue_all);
    ck_assert_uint_eq(twinlog_last_lsn(crowd.log), THREADS * 10 * RECORDS_EACH);
    ck_assert_uint_gt(twinlog_durable_lsn(crowd.log), 0);
    ck_assert_int_eq(twinlog_sync(crowd.log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(crowd.log), THREADS * 10 * RECORDS_EACH);
    log_close(crowd.log);
    struct tally tally = log_check();
    ck_assert_uint_eq(tally.last_lsn, THREADS * 10 * RECORDS_EACH);
}

/* From the flags of this way on. */
static uint32_t next_flags(uint32_t flags)
{
    switch (flags) {
    case 0:
        return TWINLOG_BUFFERED;
    case TWINLOG_BUFFERED:
        return TWINLOG_PAD;
    case TWINLOG_PAD:
        return TWINLOG_PAD | TWINLOG_BUFFERED;
    default:
        return 0;
    }
}

WAYS_TEST(a_log_can_be_opened_another_way_each_time, LOG_WAYS)
{
    options.segment_bytes = 64 * KIB;
    for (uint32_t openings = 0; openings < 4; openings++) {
        struct twinlog *log = log_open(&options);
        ck_assert_uint_eq(append_records(log, 0, 7 * openings, 7), 7 * (openings + 1));
        ck_assert_uint_eq(log_stat(log).epoch, openings + 1);
        log_close(log);

        options.flags = next_flags(options.flags);
        options.segment_bytes *= 2;
    }
    ck_assert_uint_eq(log_check().last_lsn, 28);
}

CASE("accepted and durable", logdir_make, logdir_remove);

WAYS_TEST(an_enqueued_record_waits_for_a_sync, LOG_WAYS)
{
    struct twinlog *log = log_open(&options);
    uint64_t lsn = 0;

    ck_assert_int_eq(enqueue_record(log, 0, 0, &lsn), 0);
    ck_assert_uint_eq(lsn, 1);
    ck_assert_int_eq(enqueue_record(log, 0, 1, NULL), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 2);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_uint_eq(twinlog_first_lsn(log), 0);

    ck_assert_int_eq(twinlog_wait(log, 1, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_ge(twinlog_durable_lsn(log), 1);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 2);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1);

    ck_assert_int_eq(enqueue_record(log, 0, 2, &lsn), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 3);

    ck_assert_int_eq(enqueue_record(log, 0, 3, &lsn), 0);
    ck_assert_int_eq(append_record(log, 0, 4, &lsn), 0);
    ck_assert_uint_eq(lsn, 5);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 5);

    ck_assert_int_eq(enqueue_record(log, 0, 5, &lsn), 0);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 6);
}

TEST(waiting_is_for_what_was_accepted)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_stat before, after;

    ck_assert_int_eq(twinlog_wait(log, 0, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_int_eq(twinlog_wait(log, 1, TWINLOG_LEVEL_DURABLE, 0), -EINVAL);
    ck_assert_int_eq(twinlog_sync(log), 0);
    append_records(log, 0, 0, 3);
    before = log_stat(log);
    ck_assert_int_eq(twinlog_wait(log, 3, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_int_eq(twinlog_wait(log, 1, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_int_eq(twinlog_wait(log, 4, TWINLOG_LEVEL_DURABLE, 0), -EINVAL);
    ck_assert_int_eq(twinlog_wait(log, UINT64_MAX, TWINLOG_LEVEL_DURABLE, 0), -EINVAL);
    ck_assert_int_eq(twinlog_sync(log), 0);
    after = log_stat(log);
    ck_assert_uint_eq(after.groups, before.groups); /* there was nothing to write */
    log_close(log);
}

TEST(a_record_has_the_time_at_which_it_was_accepted)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_reader *reader = log_attach(log, 0, 0);
    struct twinlog_record record;

    for (uint32_t i = 0; i < 5; i++) {
        const int64_t before = (int64_t)now_ns(CLOCK_REALTIME);

        append_records(log, 0, i, 1);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_int_ge(record.time_ns, before);
        ck_assert_int_le(record.time_ns, (int64_t)now_ns(CLOCK_REALTIME));
        ck_assert_uint_eq((uintptr_t)record.data % 8, 0);
    }
    twinlog_reader_close(reader);
    log_close(log);
}

CASE("arguments and options", logdir_make, logdir_remove);

TEST(null_is_refused_where_it_may_not_be)
{
    struct twinlog *log = log_open(NULL), *other = NULL;
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    uint64_t lsn = 77;

    ck_assert_int_eq(twinlog_open(NULL, NULL, &other), -EINVAL);
    ck_assert_int_eq(twinlog_open(log_dir, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_append(NULL, "x", 1, &lsn), -EINVAL);
    ck_assert_int_eq(twinlog_enqueue(NULL, "x", 1, &lsn), -EINVAL);
    ck_assert_int_eq(twinlog_wait(NULL, 0, TWINLOG_LEVEL_DURABLE, 0), -EINVAL);
    ck_assert_int_eq(twinlog_sync(NULL), -EINVAL);
    ck_assert_int_eq(twinlog_stat(NULL, &stat), -EINVAL);
    ck_assert_int_eq(twinlog_stat(log, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_open(NULL, NULL, &reader), -EINVAL);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_attach(NULL, NULL, &reader), -EINVAL);
    ck_assert_int_eq(twinlog_reader_attach(log, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_seek(NULL, 1), -EINVAL);
    ck_assert_int_eq(twinlog_reader_next(NULL, &record), -EINVAL);
    ck_assert_int_eq(twinlog_inspect(NULL, &inspection), -EINVAL);
    ck_assert_int_eq(twinlog_inspect(log_dir, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_verify(NULL, NULL, &lsn), -EINVAL);
    ck_assert_int_eq(twinlog_close(NULL), 0);
    twinlog_reader_close(NULL);
    ck_assert_uint_eq(twinlog_first_lsn(NULL), 0);
    ck_assert_uint_eq(twinlog_last_lsn(NULL), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(NULL), 0);

    ck_assert_ptr_null(reader);
    ck_assert_ptr_null(other);
    log_close(log);
}

TEST(a_record_may_have_no_bytes_but_not_a_size_without_them)
{
    struct twinlog *log = log_open(NULL);
    uint64_t lsn = 77;

    ck_assert_int_eq(twinlog_append(log, NULL, 1, &lsn), -EINVAL);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 0);
    ck_assert_int_eq(twinlog_append(log, NULL, 0, NULL), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1);
    log_close(log);
}

TEST(an_unknown_flag_of_a_reader_or_a_verification_is_refused)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_reader *reader = NULL;
    const struct twinlog_reader_options reading = WITH_SIZE(reader_options, .flags = 1u << 2);
    const struct twinlog_verify_options verifying = WITH_SIZE(verify_options, .flags = 1);

    ck_assert_int_eq(twinlog_reader_open(log_dir, &reading, &reader), -EINVAL);
    ck_assert_int_eq(twinlog_reader_attach(log, &reading, &reader), -EINVAL);
    ck_assert_ptr_null(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, &verifying, NULL), -EINVAL);
    log_close(log);
}

TEST(a_call_of_a_reader_that_is_refused_leaves_it_where_it_was)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_record record;

    append_records(log, 0, 0, 1);
    struct twinlog_reader *reader = log_attach(log, 0, 0);
    ck_assert_int_eq(twinlog_reader_next(reader, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reader_seek(reader, 0), -EINVAL);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_uint_eq(record.lsn, 1);
    twinlog_reader_close(reader);
    log_close(log);
}

/* Limits from the header; the first of each pair is refused, the second is not. */
static const struct {
    const char *name;
    struct twinlog_options refused, taken;
} limits[] = {
    { "unknown flag", { .flags = 1u << 5 }, { .flags = TWINLOG_NO_RECYCLE } },
    { "unknown flag, the highest", { .flags = 1u << 31 }, { .flags = TWINLOG_BUFFERED } },
    { "unknown path", { .io = TWINLOG_IO_FDATASYNC + 1 }, { .io = TWINLOG_IO_FDATASYNC } },
    { "smallest segment", { .segment_bytes = 60 * 1024 }, { .segment_bytes = 64 * 1024 } },
    { "largest segment",
      { .segment_bytes = (UINT64_C(1) << 40) + 4096 },
      { .segment_bytes = UINT64_C(1) << 40 } },
    { "segment of whole blocks", { .segment_bytes = 65536 + 512 }, { .segment_bytes = 65536 + 4096 } },
    { "smallest buffer", { .buffer_bytes = 12 * 1024 }, { .buffer_bytes = 16 * 1024 } },
    { "largest buffer",
      { .buffer_bytes = (256u << 20) + 4096, .segment_bytes = UINT64_C(1) << 30 },
      { .buffer_bytes = 256u << 20,
        .segment_bytes = UINT64_C(1) << 30,
        .io = TWINLOG_IO_DSYNC } }, /* pins nothing */
    { "buffer of whole blocks", { .buffer_bytes = 65536 + 512 }, { .buffer_bytes = 65536 + 4096 } },
    { "buffer in a segment",
      { .buffer_bytes = 65536 - 4096, .segment_bytes = 65536 },
      { .buffer_bytes = 65536 - 8192, .segment_bytes = 65536 } },
    { "record in a buffer",
      { .buffer_bytes = 65536, .max_record_bytes = 65536 - 8191 },
      { .buffer_bytes = 65536, .max_record_bytes = 65536 - 8192 } },
    { "unknown preparation",
      { .prepare = TWINLOG_PREPARE_ALLOCATED + 1 },
      { .prepare = TWINLOG_PREPARE_ALLOCATED } },
    { "spare segments",
      { .spare_segments = 65, .segment_bytes = 65536 },
      { .spare_segments = 64, .segment_bytes = 65536 } },
};

static struct twinlog_options with_report(struct twinlog_options options)
{
    options.size = sizeof(options);
    options.ret_report = &log_report;
    return options;
}

TEST_EACH(an_option_out_of_range_is_refused, limits)
{
    const struct twinlog_options refused = with_report(row->refused), taken = with_report(row->taken);

    ck_assert_int_eq(log_open_error(&refused), -EINVAL);
    ck_assert_int_eq(log_report.error, -EINVAL);
    ck_assert_uint_eq(log_report.action, TWINLOG_DID_REFUSE);
    ck_assert_str_ne(log_report.text, "");
    ck_assert_int_eq(access(log_dir, F_OK), -1); /* not even made */

    struct twinlog *log = log_open(&taken);
    append_records(log, 0, 0, 1);
    log_close(log);
}

/* Of buffer and record, one is not given, but follows from the other. */
static const struct {
    const char *name;
    struct twinlog_options options;
    const char *given;
} too_large[] = {
    { "a record of 1 GiB", { .max_record_bytes = 1u << 30 }, "max_record_bytes must" },
    { "a record, one byte more than the largest buffer holds",
      { .max_record_bytes = (256u << 20) - 8191, .segment_bytes = UINT64_C(1) << 30 },
      "max_record_bytes must" },
    { "a record, the whole segment",
      { .max_record_bytes = 65536, .segment_bytes = 65536 },
      "max_record_bytes must" },
    { "a record, one byte more than the segment holds",
      { .max_record_bytes = 65536 - 16383, .segment_bytes = 65536 },
      "max_record_bytes must" },
    { "a buffer, one block more than the segment holds",
      { .buffer_bytes = 65536 - 4096, .segment_bytes = 65536 },
      "buffer_bytes must be at most segment_bytes" },
    { "a buffer, larger than the segment",
      { .buffer_bytes = 32 * MIB, .segment_bytes = 16 * MIB },
      "buffer_bytes must be at most segment_bytes" },
    { "a buffer, one block more than the largest",
      { .buffer_bytes = (256u << 20) + 4096, .segment_bytes = 65536 },
      "buffer_bytes must be a multiple" },
};

TEST_EACH(a_refusal_names_the_option_that_was_given, too_large)
{
    const struct twinlog_options options = with_report(row->options);

    ck_assert_int_eq(log_open_error(&options), -EINVAL);
    ck_assert_msg(strncmp(log_report.text, row->given, strlen(row->given)) == 0, "%s", log_report.text);
}

TEST(a_log_that_must_exist_is_not_made)
{
    const struct twinlog_options options = log_options(0, TWINLOG_MUST_EXIST);
    struct twinlog_reader *reader;

    ck_assert_int_eq(log_open_error(&options), -ENOENT);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), -ENOENT); /* no reader makes one */
    ck_assert_int_eq(access(log_dir, F_OK), -1);
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    ck_assert_int_eq(log_open_error(&options), -ENOENT);
    log_close(log_open(NULL));
    log_close(log_open(&options));
}

CASE("sizes", logdir_make, logdir_remove);

static void append_size(struct twinlog *log, unsigned char *bytes, size_t size, int value)
{
    uint64_t lsn = 0;

    memset(bytes, value, size);
    ck_assert_int_eq(twinlog_append(log, bytes, size, &lsn), 0);
    ck_assert_uint_eq(lsn, twinlog_last_lsn(log));
}

static void expect_size(struct twinlog_reader *reader, unsigned char *bytes, size_t size, int value)
{
    struct twinlog_record record;

    memset(bytes, value, size);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_uint_eq(record.size, size);
    ck_assert(size == 0 || memcmp(record.data, bytes, size) == 0);
}

static const struct {
    const char *name;
    struct twinlog_options options;
    size_t max_bytes;
} largest_records[] = {
    { "by default", { 0 }, 4 * MIB },
    { "a small one", { .max_record_bytes = 10000 }, 10000 },
    { "larger than by default", { .max_record_bytes = 16 * MIB }, 16 * MIB },
    { "in a small segment",
      { .segment_bytes = 64 * KIB, .buffer_bytes = 56 * KIB, .max_record_bytes = 48 * KIB },
      48 * KIB },
};

/* From nothing to the largest there may be; one more byte is refused and leaves no trace. */
TEST_EACH(the_largest_record_is_what_the_options_say, largest_records)
{
    const struct twinlog_options options = with_report(row->options);
    const size_t max_bytes = row->max_bytes;
    const size_t sizes[] = { 0, 1, 7, 8, 9, 4095, 4096, 4097, max_bytes - 1, max_bytes, 0, max_bytes };
    unsigned char *bytes = malloc(max_bytes + 1);
    struct twinlog *log = log_open(&options);
    uint64_t lsn = 77;

    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        append_size(log, bytes, sizes[i], (int)i);

    ck_assert_int_eq(twinlog_append(log, bytes, max_bytes + 1, &lsn), -EMSGSIZE);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_enqueue(log, bytes, SIZE_MAX, &lsn), -EMSGSIZE);
    ck_assert_uint_eq(twinlog_last_lsn(log), sizeof(sizes) / sizeof(sizes[0]));
    append_size(log, bytes, 3, 'z');
    log_close(log);

    struct twinlog_reader *reader = log_reader(0, 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        expect_size(reader, bytes, sizes[i], (int)i);
    expect_size(reader, bytes, 3, 'z');
    twinlog_reader_close(reader);
    free(bytes);
}

static bool segment_has(uint64_t sequence, uint64_t bytes)
{
    struct stat about;
    return stat(log_segment(sequence), &about) == 0 && (uint64_t)about.st_size == bytes;
}

TEST(a_small_log_takes_about_a_megabyte)
{
    struct twinlog *log = log_open(NULL);
    struct stat about;

    append_records(log, 0, 0, 100);
    ck_assert_uint_eq(log_stat(log).file_bytes, log_segment_bytes());
    log_close(log);
    ck_assert_uint_le(log_segment_bytes(), 3 * MIB / 2);
    ck_assert(segment_has(1, 512 * KIB));
    ck_assert_int_eq(stat(log_segment(1), &about), 0);
    ck_assert_int_le(about.st_blocks * 512, (int64_t)(3 * MIB / 2));
}

/* A record of whole words takes 24 bytes beside its payload, a group 64; on top come the rest of the first and of the
 * last block of a write. That an append allocates nothing is what the test guard counts. */
WAYS_TEST(records_groups_and_writes_take_what_is_promised, LOG_WAYS)
{
    const unsigned char bytes[128] = { 0 };
    const uint64_t records = 300;
    struct twinlog *log = log_open(&options);

    for (uint64_t i = 0; i < records / 3; i++) {
        ck_assert_int_eq(twinlog_enqueue(log, bytes, sizeof(bytes), NULL), 0);
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    }
    const struct twinlog_stat stat = log_stat(log);
    log_close(log);

    ck_assert_uint_eq(stat.appends, records);
    ck_assert_uint_eq(stat.group_bytes, records * (sizeof(bytes) + 24) + 64 * stat.groups);
    ck_assert_uint_lt(stat.written_bytes, stat.group_bytes + 2 * 4096 * stat.groups);
}

/* Pages of this process that are resident. */
static uint64_t resident_bytes(void)
{
    char text[2048] = "";
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    const char *line = fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strstr(text, "\nRss:") : NULL;

    close(fd);
    return line ? strtoull(line + strlen("\nRss:"), NULL, 10) * KIB : 0;
}

/* The largest size of the process beside what it has without a log, while two buffers are filled again and again and
 * segments are recycled. */
static uint64_t resident_beside(uint32_t buffer_bytes)
{
    static unsigned char bytes[100000] = { 1 };
    const uint64_t before = resident_bytes();
    uint64_t largest = before;
    struct twinlog *log =
        log_open(&LOG_OPTIONS(.buffer_bytes = buffer_bytes, .segment_bytes = 5 * MIB, .keep_bytes = 5 * MIB));

    for (unsigned i = 0; i < 400; i++) {
        ck_assert_int_eq(twinlog_enqueue(log, bytes, sizeof(bytes), NULL), 0);
        const uint64_t now = i < 200 ? 0 : resident_bytes();
        largest = now > largest ? now : largest;
    }
    ck_assert_uint_ge(log_stat(log).recycled_segments, 3);
    log_close(log);
    return largest - before;
}

TEST(a_log_takes_two_buffers_and_a_mebibyte_of_memory)
{
    if (HAS_SANITIZER || resident_bytes() == 0)
        return;
    resident_beside(MIB); /* and the code of the library */
    const uint64_t resident = resident_beside(4 * MIB);
    ck_assert_uint_le(resident, 9 * MIB);
    ck_assert_uint_ge(resident, 4 * MIB); /* or more would not show */
}

TEST(segments_double_up_to_the_limit)
{
    unsigned char *bytes = calloc(1, 200 * KIB);
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = 2 * MIB, .max_record_bytes = 200 * KIB));

    ck_assert_ptr_nonnull(bytes);
    for (unsigned i = 0; i < 40; i++)
        append_size(log, bytes, 200 * KIB, 'd');
    ck_assert(segment_has(1, 512 * KIB));
    ck_assert(segment_has(2, MIB));
    ck_assert(segment_has(3, 2 * MIB));
    ck_assert(segment_has(4, 2 * MIB));
    log_close(log);
    free(bytes);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

TEST(a_spare_of_64_mib_is_made_in_the_background)
{
    unsigned char *bytes = calloc(1, MIB);
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = 64 * MIB, .spare_segments = 1));

    ck_assert_ptr_nonnull(bytes);
    AWAIT(log_stat(log).spare_segments > 0);
    for (int i = 0; i < 8; i++)
        append_size(log, bytes, MIB, i);
    ck_assert(segment_has(2, 64 * MIB));
    ck_assert_uint_ge(log_stat(log).segments, 2);
    ck_assert_uint_eq(log_stat(log).roll_waits, 0);
    log_close(log);
    free(bytes);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

CASE("what others see", logdir_make, logdir_remove);

static struct twinlog *open_small_segments(void)
{
    return log_open(&LOG_OPTIONS(.segment_bytes = 64 * KIB));
}

static void expect_end(struct twinlog_reader *reader)
{
    struct twinlog_record record = { .lsn = 77 };
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    ck_assert_uint_eq(record.lsn, 77); /* untouched */
}

TEST(an_empty_log_has_no_records_and_no_marks)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_reader *reader = log_attach(log, 0, 0);

    expect_end(reader);
    twinlog_reader_close(reader);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(twinlog_first_lsn(log), 0);
        ck_assert_uint_eq(twinlog_last_lsn(log), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
        log_close(log);
        log = log_open(NULL);
        ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    }
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 0);
    struct twinlog_inspection inspection = log_inspect();
    ck_assert_uint_eq(inspection.has_writer, 0);
    ck_assert_uint_eq(inspection.first_lsn, 0);
    ck_assert_uint_eq(inspection.last_lsn, 0);
}

TEST(inspecting_tells_what_the_writer_knows)
{
    struct twinlog *log = open_small_segments();

    append_records(log, 0, 0, 300);
    struct twinlog_inspection inspection = log_inspect();
    struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(inspection.has_writer, 1);
    ck_assert_uint_eq(inspection.epoch, stat.epoch);
    ck_assert_uint_eq(inspection.first_lsn, 1);
    ck_assert_uint_eq(inspection.last_lsn, 300);
    ck_assert_uint_eq(inspection.durable_lsn, 300);
    log_close(log);
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), 0);
    ck_assert_uint_eq(inspection.has_writer, 0);
    ck_assert_uint_eq(inspection.last_lsn, 300);
    ck_assert_uint_eq(inspection.segments, stat.segments);
    ck_assert_uint_eq(inspection.file_bytes, log_segment_bytes());
    ck_assert_uint_eq(inspection.report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
}
