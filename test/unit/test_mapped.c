/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TWINLOG_MODE_MAPPED, as the header describes it: which readers see a record and when, how a log goes from one mode to
 * the other, and what else it can do.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "check/check.h"
#include "format/format.h"
#include "gate.h"
#include "hooked.h"
#include "io/io.h"
#include "log/handle.h"
#include "logdir.h"
#include "mapped/inside.h"
#include "mapped_life.h"
#include "read/reader.h"
#include "suites.h"
#include "unscanned.h"

#include "../sim/rng.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what is seen ------------------------------------------------------------------------------- */

CASE("what is seen", set_up, logdir_remove);

static struct twinlog_consumer *open_durable_consumer(void)
{
    const struct twinlog_consumer_options options =
        WITH_SIZE(consumer_options, .flags = TWINLOG_CONSUMER_DURABLE);
    struct twinlog_consumer *consumer;

    ck_assert_int_eq(twinlog_consumer_open(log_dir, "away", &options, &consumer), 0);
    return consumer;
}

static const struct durable_reader {
    const char *name;
    bool is_attached;
} durable_readers[] = {
    { "attached", true },
    { "from outside", false },
};

/* A record that is not synced is not there for a reader of durable records, and no wake-up comes for it. */
TEST_EACH(a_reader_of_durable_records_sees_a_record_when_it_is_synced, durable_readers)
{
    const struct twinlog_reader_options options = WITH_SIZE(reader_options, .flags = TWINLOG_READER_DURABLE);
    struct twinlog *log = open_large(); /* one segment: nothing is synced but by the test */
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t first, last;

    if (row->is_attached)
        ck_assert_int_eq(twinlog_reader_attach(log, &options, &reader), 0);
    else
        ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    struct twinlog_consumer *consumer = open_durable_consumer();
    struct pollfd fd = { .fd = twinlog_reader_fd(reader), .events = POLLIN };

    for (uint32_t n = 0; n < 600; n += 100) {
        append_records(log, 0, n, 100);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
        ck_assert_int_eq(twinlog_reader_wait(reader, 0), 0);
        ck_assert_int_eq(poll(&fd, 1, 10), 0);
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_int_eq(poll(&fd, 1, 60000), 1);
        ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
        ck_assert_uint_eq(last, n + 100);
        reader_expect_last(reader, n + 1, n + 100);
    }

    append_records(log, 0, 600, 10);
    for (uint64_t lsn = 1; lsn <= 600; lsn++)
        ck_assert_int_eq(twinlog_consumer_next(consumer, &record), 1);
    ck_assert_int_eq(twinlog_consumer_next(consumer, &record), 0);
    twinlog_reader_close(reader);
    log_close(log);

    ck_assert_int_eq(twinlog_consumer_next(consumer, &record), 1);
    ck_assert_uint_eq(record.lsn, 601);
    twinlog_consumer_close(consumer);
}

static struct io_ops napping_ops;
static void (*real_sleep_ms)(struct io *io, unsigned ms);
static _Atomic unsigned naps;

static void count_nap(struct io *io, unsigned ms)
{
    atomic_fetch_add(&naps, 1);
    real_sleep_ms(io, ms);
}

/* A thread inside a segment may wait for a page: the one that lets go of the segment does not only yield. */
TEST(a_segment_that_is_used_is_slept_for)
{
    const struct twinlog_options options = LOG_OPTIONS(.mode = tested_mode, .segment_bytes = 64 << 10);
    struct twinlog *log;

    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    struct io *io = log_io(true);
    real_sleep_ms = io->ops->sleep_ms;
    napping_ops = *io->ops;
    napping_ops.sleep_ms = count_nap;
    io->ops = &napping_ops;
    ck_assert_int_eq(log_try_on(io, &options, &log), 0);

    struct mapped_segment *used = twl_mapped_enter(log->mapped);
    for (uint32_t n = 0; atomic_load(&log->mapped->active) == used; n++)
        append_records(log, 0, n, 1);
    atomic_store(&naps, 0);
    AWAIT(atomic_load(&naps) > 0);
    twl_mapped_leave(used);
    log_close(log);
}

static struct twinlog *rolling_log;

static int roll_before_list(const struct hooked_call *call)
{
    if (call->op != SIM_LIST)
        return 0;

    const uint64_t rolls = log_stat(rolling_log).rolls;
    while (log_stat(rolling_log).rolls == rolls)
        ck_assert_int_eq(append_on_terms(rolling_log, RECORD_ROOM, NULL, NULL), 0);
    return 0;
}

/* Each segment of this mode has an epoch of its own, as if another writer had come. */
TEST(a_log_is_looked_at_while_its_writer_fills_segments_faster_than_that)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;

    rolling_log = open_mode(tested_mode);
    ck_assert_int_eq(append_on_terms(rolling_log, RECORD_ROOM, NULL, NULL), 0);
    ck_assert_int_eq(twl_inspect(hooked_log_dir(roll_before_list), &inspection), 0);
    ck_assert_uint_gt(inspection.segments, 1);
    log_close(rolling_log);
}

/* The epoch has moved on whenever damage is found, and no segment has gone. */
TEST(damage_is_told_beside_a_writer_that_fills_segments_faster_than_a_look)
{
    const struct twinlog_verify_options options = WITH_SIZE(verify_options, .flags = 0);
    static const unsigned char other_bytes[4] = { 1, 2, 3, 4 };
    uint64_t records;

    rolling_log = open_mode(tested_mode);
    append_records(rolling_log, 0, 0, 300);
    ck_assert_int_eq(twinlog_sync(rolling_log), 0);
    const struct common *common = rolling_log->mapped->participants->common;
    AWAIT(atomic_load(&common->oldest) > 2); /* its group has a header */
    ck_assert_int_eq(twl_verify(hooked_log_dir(roll_before_list), &options, &records), 0);
    patch_file(log_segment(2), OPEN_RECORDS_OFFSET + RECORD_HEADER_BYTES, other_bytes, sizeof(other_bytes));
    ck_assert_int_eq(twl_verify(hooked_log_dir(roll_before_list), &options, &records), TWINLOG_ECORRUPT);
    log_close(rolling_log);
}

static struct twinlog *open_small(void)
{
    return open_mode(tested_mode);
}

static const struct segment_size {
    const char *name;
    struct twinlog *(*open)(void);
} segment_sizes[] = {
    { "small segments", open_small },
    { "one large segment", open_large },
};

TEST_EACH(everybody_sees_a_record_at_once, segment_sizes)
{
    struct twinlog *log = row->open();
    struct twinlog_reader *readers[LOG_READER_KINDS];
    struct tally tallies[LOG_READER_KINDS] = { 0 };

    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_NEW_LOG);
    for (int i = 0; i < LOG_READER_KINDS; i++)
        readers[i] = log_reader_of_kind(log, &log_reader_kinds[i]);

    for (uint32_t n = 1; n <= 300; n++) {
        append_records(log, 0, n - 1, 1);
        for (int i = 0; i < LOG_READER_KINDS; i++) {
            ck_assert_msg(twinlog_reader_wait(readers[i], 0) == 1, "%s, record %u", log_reader_kinds[i].name,
                          n);
            expect_rest(&tallies[i], readers[i], n);
        }
        ck_assert_uint_eq(twinlog_last_lsn(log), n);
        ck_assert_uint_eq(twinlog_written_lsn(log), n);
        ck_assert_uint_eq(twinlog_first_lsn(log), 1);
    }

    for (int i = 0; i < LOG_READER_KINDS; i++)
        twinlog_reader_close(readers[i]);
    expect_live(log, 300);
    ck_assert_int_eq(twinlog_sync(log), 0);
    expect_live(log, 300);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 300);
}

static struct {
    struct twinlog *log; /* NULL: nothing is appended */
    uint32_t records;
    bool is_listed;
} rolling;

/* Whenever a reader has listed the segments, another one is begun, and the one before it closed. */
static int roll_meanwhile(const struct hooked_call *call)
{
    const bool is_due = rolling.log && rolling.is_listed && call->op == SIM_OPEN;
    rolling.is_listed = call->op == SIM_LIST || (rolling.is_listed && !is_due);
    if (!is_due)
        return 0;
    const uint64_t rolls = log_stat(rolling.log).rolls;
    ck_assert_msg(rolls < 100, "the call does not return");
    while (log_stat(rolling.log).rolls == rolls)
        append_records(rolling.log, 0, rolling.records++, 1);
    return twinlog_trim(rolling.log, &WITH_SIZE(trim_options, .before_lsn = 1), NULL);
}

static const struct read_records {
    const char *name;
    uint32_t flags;
} read_records[] = {
    { "all records", 0 },
    { "durable records", TWINLOG_READER_DURABLE },
};

TEST_EACH(a_reader_returns_however_fast_segments_are_begun, read_records)
{
    struct twinlog *log = rolling.log = open_mode(tested_mode);
    struct twinlog_reader *reader;
    struct tally tally = { 0 };

    append_records(log, 0, 0, rolling.records = 1);
    struct io *io = hooked_log_dir(roll_meanwhile);
    ck_assert_int_eq(twl_reader_open(io, &WITH_SIZE(reader_options, .flags = row->flags), &reader), 0);
    for (int i = 0; i < 20; i++) {
        append_records(log, 0, rolling.records++, 1);
        ck_assert(twinlog_sync(log) == 0 && twinlog_reader_wait(reader, 0) == 1);
    }

    rolling.log = NULL;
    append_records(log, 0, rolling.records++, 1);
    if (row->flags & TWINLOG_READER_DURABLE)
        ck_assert_int_eq(twinlog_sync(log), 0);
    expect_rest(&tally, reader, rolling.records);
    twinlog_reader_close(reader);
    log_close(log);
}

static void expect_entry(const struct twinlog_record *record, uint64_t lsn)
{
    ck_assert_uint_eq(record->lsn, lsn);
    ck_assert_int_eq(record->time_ns, 1000 * (int64_t)lsn);
    ck_assert_uint_eq(record->tag, lsn * 3);
    ck_assert_uint_eq(record->type, lsn % 200);
    ck_assert_uint_eq(record->size, 600);
    for (size_t i = 0; i < record->size; i++)
        ck_assert_uint_eq(((const unsigned char *)record->data)[i], (unsigned char)(lsn + (i >= 200)));
}

static void append_entries(struct twinlog *log, uint64_t from, uint64_t to)
{
    unsigned char first[200], second[400];
    for (uint64_t n = from; n <= to; n++) {
        memset(first, (int)n, sizeof(first));
        memset(second, (int)n + 1, sizeof(second));
        const struct iovec pieces[] = { { first, sizeof(first) }, { NULL, 0 }, { second, sizeof(second) } };
        const struct twinlog_entry entry = { .pieces = pieces,
                                             .piece_count = 3,
                                             .tag = (uint16_t)(n * 3),
                                             .type = (uint8_t)(n % 200),
                                             .time_ns = 1000 * (int64_t)n };
        uint64_t lsn;
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, &lsn), 0);
        ck_assert_uint_eq(lsn, n);
    }
}

static void expect_found(struct twinlog_reader *reader, uint64_t last_lsn)
{
    struct twinlog_record record;
    for (uint64_t i = 0; i < 60; i++) {
        const uint64_t lsn = 1 + i * 997 % last_lsn;
        if (i & 1)
            ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        else
            ck_assert_int_eq(twinlog_reader_seek_time(reader, 1000 * (int64_t)lsn - 500), 0);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        expect_entry(&record, lsn);
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
        expect_entry(&record, lsn);
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), lsn > 1);
        if (lsn > 1)
            expect_entry(&record, lsn - 1);
    }
    ck_assert_int_eq(twinlog_reader_seek_time(reader, INT64_MAX), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    ck_assert_int_eq(twinlog_reader_seek_first(reader), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    expect_entry(&record, 1);
    ck_assert_int_eq(twinlog_reader_seek(reader, last_lsn + 1), 0);
    for (uint64_t lsn = last_lsn; lsn > 0; lsn--) {
        ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
        expect_entry(&record, lsn);
    }
}

#define FOUND_EACH REPEATS(UINT64_C(150), UINT64_C(30))

TEST_EACH(records_are_found_by_lsn_and_by_time_in_both_directions, log_reader_kinds)
{
    struct twinlog *log = open_mode(tested_mode);
    struct twinlog_reader *reader = log_reader_of_kind(log, row);
    for (uint64_t n = 0; n < 4; n++) {
        append_entries(log, n * FOUND_EACH + 1, n * FOUND_EACH + FOUND_EACH);
        expect_found(reader, n * FOUND_EACH + FOUND_EACH);
    }
    twinlog_reader_close(reader);
    log_close(log);
    reader = open_reader(row->flags);
    expect_found(reader, 4 * FOUND_EACH);
    twinlog_reader_close(reader);
}

CASE("sizes", set_up, logdir_remove);

static unsigned char *make_bytes(size_t size, uint64_t seed)
{
    struct rng rng = { seed };
    unsigned char *bytes = malloc(size + 1);
    ck_assert_ptr_nonnull(bytes);
    rng_fill(&rng, bytes, size);
    return bytes;
}

static const size_t sizes[] = {
    0,        1,       7,       8,       9,        4071,      4072, 4073,
    4096,     65535,   65536,   1000003, 1u << 20, 4u << 20,  0,    (4u << 20) - 1,
    4u << 20, 3500000, 3400001, 3333333, 17,       (4u << 20)
};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* No page is made present for them, but the first ones of each segment. */
TEST(large_records_are_written)
{
    static const char large[WRITTEN_BYTES];
    struct twinlog *log = open_large();
    const struct mapped *m = log->engine;
    const struct mapped_segment *seg;
    do {
        ck_assert_int_eq(twinlog_append(log, large, sizeof(large), NULL), 0);
        seg = atomic_load(&m->active);
    } while (twl_open_group_offset(&seg->group) < 8 * 1024 * 1024);
    usleep(200000); /* the thread has seen it by now */
    ck_assert_uint_le(atomic_load(&seg->populated), 5 * 1024 * 1024);
    log_close(log);
}

TEST_EACH(records_of_every_size_come_back, log_reader_kinds)
{
    struct twinlog *log = open_large();
    struct twinlog_record record;
    uint64_t lsn = 99;
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *bytes = make_bytes(sizes[i], i);
        ck_assert_int_eq(twinlog_append(log, sizes[i] ? bytes : NULL, sizes[i], &lsn), 0);
        ck_assert_uint_eq(lsn, i + 1);
        free(bytes);
    }
    static const unsigned char too_large[(4u << 20) + 1];
    ck_assert_int_eq(twinlog_append(log, too_large, sizeof(too_large), &lsn), -EMSGSIZE);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_append(log, too_large, SIZE_MAX, &lsn), -EMSGSIZE);
    const struct iovec pieces[2] = { { (void *)(uintptr_t)too_large, 4u << 20 },
                                     { (void *)(uintptr_t)too_large, SIZE_MAX - (4u << 20) + 2 } };
    const struct twinlog_entry entry = { .pieces = pieces, .piece_count = 2 };
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, &lsn), -EMSGSIZE);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_append(log, NULL, 1, &lsn), -EINVAL);
    ck_assert_uint_eq(twinlog_last_lsn(log), SIZES);
    struct twinlog_reader *reader = log_reader_of_kind(log, row);
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *bytes = make_bytes(sizes[i], i);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, i + 1);
        ck_assert_uint_eq(record.size, sizes[i]);
        ck_assert_int_eq(memcmp(record.data, bytes, sizes[i]), 0);
        free(bytes);
    }
    twinlog_reader_close(reader);
    ck_assert_uint_gt(log_stat(log).rolls, 0);
    log_close(log);
    uint64_t records;
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), 0);
    ck_assert_uint_eq(records, SIZES);
}

/* So much is left in the segment of that size. */
static void fill_to(struct twinlog *log, uint64_t segment_bytes, uint64_t left)
{
    uint64_t room = segment_bytes - SEGMENT_FOOTER_BYTES - SEGMENT_MARKER_BYTES - OPEN_RECORDS_OFFSET;
    const uint64_t largest = twl_record_bytes(RECORD_ROOM);
    for (; room > left + 2 * largest; room -= largest)
        ck_assert_int_eq(append_on_terms(log, RECORD_ROOM, NULL, NULL), 0);
    const uint64_t half = (room - left) / 16 * 8;
    ck_assert_int_eq(append_on_terms(log, (uint32_t)(half - RECORD_HEADER_BYTES), NULL, NULL), 0);
    ck_assert_int_eq(append_on_terms(log, (uint32_t)(room - left - half - RECORD_HEADER_BYTES), NULL, NULL),
                     0);
}

#define STEP 8u /* what a record takes is a multiple of that */
#define LEFT_STEPS 16u
#define SIZE_STEPS 3u

/* What is left behind the last record, and how large the next one is. */
TEST_LOOP(a_record_that_just_fits_stays_and_one_that_does_not_goes_on, FEW(8, LEFT_STEPS *SIZE_STEPS))
{
    const unsigned pair = (unsigned)_i;
    const uint64_t left = pair % LEFT_STEPS * STEP;
    const uint32_t size = pair / LEFT_STEPS * STEP;
    struct twinlog *log = open_mode(tested_mode);

    fill_to(log, SEGMENT_BYTES, left);
    ck_assert_uint_eq(log_stat(log).rolls, 0);
    ck_assert_int_eq(append_on_terms(log, size, NULL, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, twl_record_bytes(size) > left);
    ck_assert_int_eq(append_on_terms(log, 5000, NULL, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);

    const uint64_t last_lsn = twinlog_last_lsn(log);
    expect_count(last_lsn, false);
    log_close(log);
    expect_count(last_lsn, true);
}

#define INDEXED_BYTES (5u << 20) /* of a segment: its index would take all that is left, and no less */
UNSCANNED_BYTES(indexed, INDEXED_BYTES)

/* A word says so, and stays: others may come by there after the segment was sealed. Its index is where it may be. */
TEST(the_word_that_ends_a_group_stays)
{
    const uint64_t at = INDEXED_BYTES - SEGMENT_FOOTER_BYTES - SEGMENT_MARKER_BYTES - BLOCK_BYTES;
    struct twinlog_options options = small(tested_mode);
    struct segment_header header;
    struct group_header mark;
    uint32_t size;
    uint8_t owner;
    options.segment_bytes = options.mapped_bytes = INDEXED_BYTES;
    struct twinlog *log = log_open(&options);
    fill_to(log, INDEXED_BYTES, BLOCK_BYTES);
    const uint64_t lsn = twinlog_last_lsn(log) + 1;
    ck_assert_int_eq(append_on_terms(log, BLOCK_BYTES, NULL, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    log_close(log);
    const int fd = open(log_segment(2), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, indexed, INDEXED_BYTES, 0), INDEXED_BYTES);
    close(fd);
    ck_assert_int_eq(twl_segment_header_decode(indexed, &header), HEADER_VALID);
    ck_assert(twl_group_header_decode(indexed + SEGMENT_DATA_OFFSET, twl_segment_seed(&header),
                                      SEGMENT_DATA_OFFSET, &mark));
    ck_assert(twl_claim_decode(load_le64(indexed + at), twl_epoch_seed(header.log_id, mark.epoch), lsn, &size,
                               &owner));
    ck_assert_uint_eq(size, CLAIM_END);
    expect_count(lsn, true);
}

/* So much is left in the segment when the log is closed. It is opened again in that mode. */
static void go_on_with_little_room(uint64_t left, uint32_t mode)
{
    struct twinlog *log = open_mode(tested_mode);

    fill_to(log, SEGMENT_BYTES, left);
    const uint64_t last_lsn = twinlog_last_lsn(log);
    log_close(log);
    expect_count(last_lsn, true);

    log = open_mode(mode);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_int_eq(append_on_terms(log, 100, NULL, NULL), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn + 1);
    log_close(log);
    expect_count(last_lsn + 1, true);
}

TEST_LOOP(the_durable_mode_goes_on_however_little_room_is_left, FEW(2, 12))
{
    go_on_with_little_room((uint64_t)_i * STEP, TWINLOG_MODE_DURABLE);
}

TEST_LOOP(the_mapped_mode_goes_on_however_little_room_is_left, FEW(2, 12))
{
    go_on_with_little_room((uint64_t)_i * STEP, TWINLOG_MODE_MAPPED);
}

TEST_LOOP(the_shared_mode_goes_on_however_little_room_is_left, FEW(2, 12))
{
    go_on_with_little_room((uint64_t)_i * STEP, TWINLOG_MODE_SHARED);
}

/* ---- many threads ------------------------------------------------------------------------------- */

static void *follow_many(void *argument)
{
    struct worker *worker = argument;
    struct twinlog_reader *reader = log_reader_of_kind(threads_log, worker->kind);
    struct tally tally = { 0 };
    while (worker->result >= 0 && tally.last_lsn < worker->last_lsn) {
        worker->result = twinlog_reader_wait(reader, 120000) == 1 ? 0 : -ETIMEDOUT;
        if (worker->result == 0)
            worker->result = tally_rest(&tally, reader, &worker->wrong);
    }
    twinlog_reader_close(reader);
    return NULL;
}

static void *sync_many(void *argument)
{
    struct worker *worker = argument;
    uint64_t lsn = 0;
    while (worker->result == 0 && lsn < worker->last_lsn) {
        const uint64_t last_lsn = twinlog_last_lsn(threads_log);
        worker->result = twinlog_sync(threads_log);
        lsn = twinlog_durable_lsn(threads_log);
        if (worker->result == 0 && (lsn < last_lsn || twinlog_written_lsn(threads_log) < lsn))
            worker->result = -EILSEQ;
        struct twinlog_stat stat = TWINLOG_STAT_INIT;
        if (worker->result == 0)
            worker->result = twinlog_stat(threads_log, &stat);
        sched_yield();
    }
    return NULL;
}

#define APPENDERS 6u
#define EACH REPEATS(1500u, 300u)

CASE("threads", set_up, logdir_remove);

TEST(threads_append_read_and_sync_at_the_same_time)
{
    struct worker appenders[APPENDERS], readers[LOG_READER_KINDS], syncer = { .last_lsn = APPENDERS * EACH };
    threads_log = open_mode(tested_mode);
    for (int i = 0; i < LOG_READER_KINDS; i++) {
        readers[i] = (struct worker){ .kind = &log_reader_kinds[i], .last_lsn = APPENDERS * EACH };
        readers[i].thread = start_thread(follow_many, &readers[i]);
    }
    syncer.thread = start_thread(sync_many, &syncer);
    for (uint32_t i = 0; i < APPENDERS; i++) {
        appenders[i] = (struct worker){ .writer = i, .count = EACH };
        appenders[i].thread = start_thread(append_many, &appenders[i]);
    }
    for (uint32_t i = 0; i < APPENDERS; i++) {
        pthread_join(appenders[i].thread, NULL);
        ck_assert_int_eq(appenders[i].result, 0);
    }
    for (int i = 0; i < LOG_READER_KINDS; i++) {
        pthread_join(readers[i].thread, NULL);
        ck_assert_msg(readers[i].result >= 0, "%s: %s", log_reader_kinds[i].name,
                      readers[i].wrong ? readers[i].wrong : twinlog_strerror((int)readers[i].result));
    }
    pthread_join(syncer.thread, NULL);
    ck_assert_int_eq(syncer.result, 0);
    ck_assert_uint_gt(log_stat(threads_log).rolls, 5);
    ck_assert_uint_eq(log_stat(threads_log).appends, APPENDERS * EACH);
    log_close(threads_log);
    const struct tally tally = log_check();
    for (uint32_t i = 0; i < APPENDERS; i++)
        ck_assert_uint_eq(tally.next[i], EACH);
}

CASE("levels", set_up, logdir_remove);

TEST(a_record_is_durable_when_a_call_asked_for_it)
{
    struct twinlog *log = open_mode(tested_mode);
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    uint64_t lsn;
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_uint_eq(twinlog_written_lsn(log), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 0);
    ck_assert_uint_eq(twinlog_first_lsn(log), 0);
    append_records(log, 0, 0, 5);
    ck_assert_int_eq(enqueue_record(log, 0, 5, &lsn), 0);
    ck_assert_uint_eq(lsn, 6);
    ck_assert_uint_eq(twinlog_written_lsn(log), 6);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    for (unsigned level = TWINLOG_LEVEL_OF_MODE; level <= TWINLOG_LEVEL_WRITTEN; level++) {
        terms.level = level;
        ck_assert_int_eq(append_on_terms(log, 20, &terms, &lsn), 0);
        ck_assert_int_eq(twinlog_wait(log, lsn, (enum twinlog_level)level, 0), 0);
        ck_assert_int_eq(twinlog_wait(log, lsn, (enum twinlog_level)level, 1), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    }
    ck_assert_int_eq(append_on_terms(log, 20, NULL, &lsn), 0); /* as twinlog_append() */
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, 1), -ETIMEDOUT);
    ck_assert_int_eq(twinlog_wait(log, lsn + 1, TWINLOG_LEVEL_DURABLE, 0), -EINVAL);
    ck_assert_int_eq(twinlog_wait(log, lsn + 1, TWINLOG_LEVEL_WRITTEN, 0), -EINVAL);
    ck_assert_int_eq(twinlog_wait(log, lsn, (enum twinlog_level)4, 0), -EINVAL);
    ck_assert_int_eq(twinlog_wait(log, 0, TWINLOG_LEVEL_DURABLE, 1), 0);
    ck_assert_int_eq(twinlog_wait(log, 3, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_ge(twinlog_durable_lsn(log), 3);
    terms.level = TWINLOG_LEVEL_DURABLE;
    terms.deadline_ns = 1;
    ck_assert_int_eq(append_on_terms(log, 20, &terms, &lsn), -ETIMEDOUT);
    ck_assert_uint_eq(lsn, 11);
    terms.deadline_ns = twinlog_deadline(60000);
    ck_assert_int_eq(append_on_terms(log, 20, &terms, &lsn), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 12);
    terms.deadline_ns = 0;
    terms.flags = TWINLOG_TRY;
    ck_assert_int_eq(append_on_terms(log, 20, &terms, &lsn), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 13);
    ck_assert_int_eq(append_on_terms(log, 20, NULL, &lsn), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 14);
    ck_assert_uint_ge(log_stat(log).syncs, 4);
    log_close(log);
}

TEST(what_was_appended_is_durable_after_the_interval)
{
    struct twinlog_options options = small(tested_mode);
    options.flush_interval_ms = 5;
    struct twinlog *log = log_open(&options);
    for (uint32_t n = 0; n < 10; n++) {
        const uint64_t lsn = append_records(log, 0, n * 10, 10);
        AWAIT(twinlog_durable_lsn(log) == lsn);
    }
    log_close(log);
}

TEST(the_interval_is_changed)
{
    struct twinlog_options options = small(tested_mode);
    options.flush_interval_ms = 3600 * 1000;
    struct twinlog *log = log_open(&options);
    const uint64_t lsn = append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_set_flush_interval(log, 5), 0);
    AWAIT(twinlog_durable_lsn(log) == lsn);
    ck_assert_int_eq(twinlog_set_flush_interval(log, 0), 0);
    usleep(20000); /* one that had begun */
    append_records(log, 0, 10, 10);
    usleep(50000);
    ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
    log_close(log);
}

TEST(a_canceled_token_keeps_a_record_out)
{
    struct twinlog *log = open_mode(tested_mode);
    struct twinlog_cancel cancel = { 0 };
    const struct twinlog_terms terms = { .size = sizeof(terms),
                                         .level = TWINLOG_LEVEL_WRITTEN,
                                         .cancel = &cancel };
    uint64_t lsn = 77;
    ck_assert_int_eq(append_on_terms(log, 9, &terms, &lsn), 0);
    ck_assert_int_eq(twinlog_cancel(log, &cancel), 0);
    ck_assert_int_eq(append_on_terms(log, 9, &terms, &lsn), -ECANCELED);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_cancel(log, NULL), -EINVAL);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1);
    log_close(log);
}

static struct waiting {
    pthread_t thread;
    struct twinlog *log;
    struct twinlog_cancel cancel;
    uint64_t lsn;
    int result;
    _Atomic bool is_over;
} waiting;

static void *append_with_token(void *context CK_ATTRIBUTE_UNUSED)
{
    const struct twinlog_terms terms = WITH_SIZE(terms, .cancel = &waiting.cancel);

    waiting.result = append_on_terms(waiting.log, RECORD_ROOM, &terms, &waiting.lsn);
    atomic_store(&waiting.is_over, true);
    return NULL;
}

static bool is_anybody_inside(struct twinlog *log)
{
    return atomic_load(&log->inside) % INSIDE_OTHER > 0;
}

/* The disk does not make the next segment. */
TEST(terms_hold_while_the_next_segment_is_made)
{
    struct twinlog_options options = small(tested_mode);
    uint64_t lsn, before = 0;
    int rc = 0;

    struct twinlog *log = gate_log(&options);
    atomic_store(&gate.is_shut_for_files, true);
    bool has_stopped = false; /* the thread that makes segments, before the append began */
    while (rc == 0 || !has_stopped) {
        const struct twinlog_terms brief = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(50));
        has_stopped = atomic_load(&gate.waiting) > 0;
        rc = append_on_terms(log, RECORD_ROOM, &brief, &lsn);
        before = rc == 0 ? lsn : before;
    }
    ck_assert_int_eq(rc, -ETIMEDOUT);
    ck_assert_uint_eq(lsn, 0);

    waiting = (struct waiting){ .log = log, .lsn = 77 };
    waiting.thread = start_thread(append_with_token, NULL);
    AWAIT(is_anybody_inside(log));
    ck_assert_int_eq(twinlog_cancel(log, &waiting.cancel), 0);
    AWAIT(atomic_load(&waiting.is_over));
    pthread_join(waiting.thread, NULL);
    ck_assert_int_eq(waiting.result, -ECANCELED);
    ck_assert_uint_eq(waiting.lsn, 0);

    gate_open();
    const struct twinlog_terms patient = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(120000));
    ck_assert_int_eq(append_on_terms(log, RECORD_ROOM, &patient, &lsn), 0);
    ck_assert_uint_eq(lsn, before + 1);
    log_close(log);
}

static void *wait_with_token(void *context CK_ATTRIBUTE_UNUSED)
{
    const struct twinlog_terms terms =
        WITH_SIZE(terms, .level = TWINLOG_LEVEL_DURABLE, .cancel = &waiting.cancel);

    waiting.result = append_on_terms(waiting.log, 9, &terms, &waiting.lsn);
    atomic_store(&waiting.is_over, true);
    return NULL;
}

/* Threads that sync have the lock for it again and again. A wait needs its record to be durable, and not the lock. */
TEST(a_wait_ends_when_another_thread_has_synced_its_record)
{
    struct twinlog *log = open_mode(tested_mode);

    waiting = (struct waiting){ .log = log };
    twl_mutex_lock(&log->mapped->syncing);
    waiting.thread = start_thread(wait_with_token, NULL);
    AWAIT(twinlog_last_lsn(log) == 1);
    AWAIT(twl_mapped_sync_up_to(log->mapped, NULL) == 0 && twinlog_durable_lsn(log) == 1);
    AWAIT(atomic_load(&waiting.is_over));
    twl_mutex_unlock(&log->mapped->syncing);
    pthread_join(waiting.thread, NULL);
    ck_assert_int_eq(waiting.result, 0);
    ck_assert_uint_eq(waiting.lsn, 1);
    log_close(log);
}

/* A full disk is told at the latest when an attempt has failed that was over after the call began. */
TEST(a_call_with_a_deadline_hears_that_the_disk_is_full)
{
    struct twinlog_options options = small(tested_mode);
    uint64_t lsn;
    int rc = 0;

    struct twinlog *log = gate_log(&options);
    for (unsigned round = 0; round < 2; round++) {
        const struct twinlog_terms terms = WITH_SIZE(terms, .deadline_ns = twinlog_deadline(120000));
        atomic_store(&gate.largest_file, 4096);
        while ((rc = append_on_terms(log, RECORD_ROOM, &terms, &lsn)) == 0)
            continue;
        ck_assert_int_eq(rc, -ENOSPC);
        ck_assert_uint_eq(lsn, 0);
        atomic_store(&gate.largest_file, UINT64_MAX);
        /* One that had begun may still end. */
        AWAIT((rc = append_on_terms(log, RECORD_ROOM, &terms, &lsn)) != -ENOSPC);
        ck_assert_int_eq(rc, 0);
    }
    log_close(log);
}

CASE("closing and opening", set_up, logdir_remove);

static uint64_t size_of_file(const char *path)
{
    struct stat about;
    ck_assert_int_eq(stat(path, &about), 0);
    return (uint64_t)about.st_size;
}

/* A log with so many records is closed. */
static void expect_room_for_markers_behind(uint32_t records)
{
    struct twinlog *log = open_large();
    uint64_t end = OPEN_RECORDS_OFFSET;

    ck_assert_uint_eq(size_of_file(log_segment(2)), 10u << 20);
    for (uint32_t i = 0; i < records; i++) {
        ck_assert_int_eq(append_on_terms(log, i * 7, NULL, NULL), 0);
        end += twl_record_bytes(i * 7);
    }
    if (records == 0) /* nor is there a group */
        end = OPEN_GROUP_OFFSET;
    log_close(log);
    ck_assert_uint_eq(size_of_file(log_segment(2)),
                      align_up(end, BLOCK_BYTES) + BLOCK_BYTES + SEGMENT_MARKER_BYTES);
    expect_count(records, true);
}

/* `log` was opened behind that. */
static void expect_goes_on(struct twinlog *log, uint32_t records)
{
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_uint_eq(twinlog_durable_lsn(log), records);
    ck_assert_int_eq(append_on_terms(log, 1, NULL, NULL), 0);
    log_close(log);
    expect_count((uint64_t)records + 1, true);
}

TEST_LOOP(a_close_leaves_room_for_markers_only, FEW(3, 12))
{
    const uint32_t records = (uint32_t)_i;

    expect_room_for_markers_behind(records);
    expect_goes_on(open_large(), records);
}

TEST_LOOP(what_a_close_leaves_goes_on_in_the_durable_mode, FEW(3, 12))
{
    const uint32_t records = (uint32_t)_i;

    expect_room_for_markers_behind(records);
    expect_goes_on(log_open(NULL), records);
}

static bool is_zero_block(uint64_t number, uint64_t offset)
{
    unsigned char block[BLOCK_BYTES];
    const int fd = open(log_segment(number), O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, block, sizeof(block), (off_t)offset), sizeof(block));
    close(fd);
    return are_zeros(block, sizeof(block));
}

static const struct next_writer {
    const char *name;
    uint32_t mode, flags;
} next_writers[] = {
    { "durable", TWINLOG_MODE_DURABLE, 0 },
    { "durable, with padding", TWINLOG_MODE_DURABLE, TWINLOG_PAD },
    { "in the same mode", tested_mode, 0 },
};

/* A power cut has taken what came behind it. The word that ended its group is no torn group. */
TEST_EACH(a_sealed_segment_goes_on_as_if_it_had_never_been_left, next_writers)
{
    const uint64_t footer_at = SEGMENT_BYTES - SEGMENT_FOOTER_BYTES;
    struct twinlog_options options = small(row->mode);
    struct twinlog *log = open_mode(tested_mode);

    while (log_stat(log).rolls == 0)
        ck_assert_int_eq(append_on_terms(log, RECORD_ROOM, NULL, NULL), 0);
    const uint64_t last_lsn = twinlog_last_lsn(log) - 1;
    AWAIT(!is_zero_block(2, footer_at));
    log_close(log);
    for (uint64_t number = 9; number > 2; number--) /* those that were prepared, too */
        ck_assert(unlink(log_segment(number)) == 0 || errno == ENOENT);

    options.flags |= row->flags;
    log = log_open(&options);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_END);
    ck_assert_uint_eq(twinlog_durable_lsn(log), last_lsn);
    if (row->mode == TWINLOG_MODE_DURABLE) /* else it is sealed once more */
        ck_assert(is_zero_block(2, footer_at));
    ck_assert_int_eq(append_on_terms(log, 1, NULL, NULL), 0);
    log_close(log);
    expect_count(last_lsn + 1, true);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

static struct twinlog *open_durable(void)
{
    return log_open(NULL);
}

/* A reader that maps stands at the end of the records when the log is closed: the file stays as it is as long as there
 * is such a reader. Then the log is opened again. */
static void expect_not_truncated(uint64_t end, struct twinlog *(*open_again)(void))
{
    struct twinlog *log = open_large();
    struct twinlog_reader *readers[2] = { open_reader(0), open_reader(TWINLOG_READER_MMAP) };
    struct twinlog_record record;
    const uint64_t size = end - GROUP_HEADER_BYTES - OPEN_RECORDS_OFFSET - RECORD_HEADER_BYTES;

    ck_assert_int_eq(append_on_terms(log, (uint32_t)size - 5000, NULL, NULL), 0);
    ck_assert_int_eq(append_on_terms(log, 5000 - RECORD_HEADER_BYTES, NULL, NULL), 0);
    for (int i = 0; i < 2; i++)
        for (int n = 1; n >= -1; n--)
            ck_assert_int_eq(twinlog_reader_next(readers[i], &record), n >= 0);

    log_close(log);
    ck_assert_uint_eq(size_of_file(log_segment(2)), 10u << 20);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_reader_next(readers[i], &record), 0);
        ck_assert_int_eq(twinlog_reader_previous(readers[i], &record), 1);
        ck_assert_int_eq(twinlog_reader_next(readers[i], &record), 1);
        ck_assert_uint_eq(record.lsn, 2);
        ck_assert_int_eq(twinlog_reader_next(readers[i], &record), 0);
    }

    log = open_again();
    ck_assert_int_eq(append_on_terms(log, 1, NULL, NULL), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_reader_next(readers[i], &record), 1);
        ck_assert_uint_eq(record.lsn, 3);
        ck_assert_int_eq(twinlog_reader_next(readers[i], &record), 0);
        twinlog_reader_close(readers[i]);
    }
    log_close(log);
}

/* In steps around the end of a page. */
static uint64_t end_near_page(int step)
{
    return BLOCK_BYTES * 4 + (uint64_t)step * STEP - 64;
}

TEST_LOOP(a_file_that_a_reader_maps_is_not_truncated, FEW(3, 16))
{
    expect_not_truncated(end_near_page(_i), open_large);
}

TEST_LOOP(a_file_that_a_reader_maps_is_not_truncated_before_a_durable_opening, FEW(3, 16))
{
    expect_not_truncated(end_near_page(_i), open_durable);
}

/* A process that is about to truncate it may be stopped in the middle of that. */
TEST(a_file_that_another_one_holds_is_read)
{
    struct twinlog *log = open_large();
    ck_assert_int_eq(append_on_terms(log, 100, NULL, NULL), 0);
    log_close(log);
    const int fd = hold_lock(log_segment(2), IO_LOCK_USE, F_WRLCK);
    struct twinlog_reader *reader = open_reader(TWINLOG_READER_MMAP);
    reader_expect_last(reader, 1, 1);
    twinlog_reader_close(reader);
    close(fd);
}

/* The log has so many records, and is opened in that mode for a while. Returns how many it has then. */
static uint32_t live_in_mode(struct rng *rng, uint32_t mode, uint32_t count)
{
    struct twinlog_options options = rng_one_in(rng, 3) ? log_options(0, 0) : small(mode);

    options.mode = mode;
    options.spare_segments = options.segment_bytes == 0 ? 0 : (uint32_t)rng_below(rng, 4);
    struct twinlog *log = log_open(&options);
    ck_assert_uint_eq(log_stat(log).mode, mode);
    ck_assert_uint_eq(twinlog_last_lsn(log), count);
    ck_assert_uint_eq(twinlog_durable_lsn(log), count);
    const uint32_t more = (uint32_t)rng_below(rng, mode == TWINLOG_MODE_DURABLE ? 60 : 200);
    for (uint32_t i = 0; i < more; i++)
        ck_assert_int_eq(enqueue_record(log, 0, count + i, NULL), 0);

    const struct twinlog_stat stat = log_stat(log);
    log_close(log);
    ck_assert_uint_le(log_count_files(), stat.segments + 6); /* spares of another mode are no use */
    ck_assert_uint_eq(log_check().last_lsn, count + more);
    return count + more;
}

#define LIVES REPEATS(40u, 8u)

TEST_EACH(a_log_stays_in_its_mode, log_modes)
{
    struct rng rng = { test_seed() + row->mode };
    uint32_t count = 0;

    for (unsigned life = 0; life < LIVES; life++)
        count = live_in_mode(&rng, row->mode, count);
}

TEST_LOOP(a_log_goes_from_mode_to_mode, 2)
{
    struct rng rng = { test_seed() + MODES + (uint64_t)_i };
    uint32_t count = 0;

    for (unsigned life = 0; life < LIVES; life++)
        count = live_in_mode(&rng, (uint32_t)rng_below(&rng, MODES), count);
}

CASE("what else a log can do", set_up, logdir_remove);

static int sum_segments(void *context, const struct twinlog_segment *segment)
{
    unsigned *counts = context;
    ck_assert_uint_lt(segment->state, 5);
    counts[segment->state]++;
    return 0;
}

TEST(a_log_is_looked_at_from_inside_and_outside)
{
    struct twinlog *log = open_mode(tested_mode);
    unsigned counts[5] = { 0 };
    append_records(log, 0, 0, 10);
    struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(stat.mode, tested_mode);
    ck_assert_uint_eq(stat.first_lsn, 1);
    ck_assert_uint_eq(stat.last_lsn, 10);
    ck_assert_uint_eq(stat.written_lsn, 10);
    ck_assert_uint_eq(stat.durable_lsn, 0);
    ck_assert_uint_eq(stat.appends, 10);
    ck_assert_int_eq(stat.poison, 0);
    ck_assert_uint_eq(stat.segments, 2);
    uint64_t payload = 0;
    unsigned char bytes[RECORD_ROOM];
    for (uint32_t i = 0; i < 1000; i++)
        payload += make_record(0, i, bytes);
    append_records(log, 0, 10, 990);
    ck_assert_int_eq(twinlog_sync(log), 0);
    stat = log_stat(log);
    ck_assert_uint_eq(stat.appends, 1000);
    ck_assert_uint_eq(stat.append_bytes, payload);
    ck_assert_uint_eq(stat.durable_lsn, 1000);
    ck_assert_uint_eq(stat.segments, stat.rolls + 2);
    struct twinlog_inspection inspection = log_inspect();
    ck_assert_uint_eq(inspection.has_writer, 1);
    ck_assert_uint_eq(inspection.first_lsn, 1);
    ck_assert_uint_eq(inspection.last_lsn, 1000);
    ck_assert_uint_eq(inspection.durable_lsn, 1000);
    ck_assert_uint_eq(inspection.epoch, stat.epoch);
    ck_assert_int_eq(inspection.report.error, 0);
    ck_assert_int_eq(twinlog_segments(log_dir, sum_segments, counts), 0);
    ck_assert_uint_eq(counts[TWINLOG_SEGMENT_SEALED] + counts[TWINLOG_SEGMENT_UNSEALED] +
                          counts[TWINLOG_SEGMENT_ACTIVE],
                      stat.segments);
    ck_assert_uint_eq(counts[TWINLOG_SEGMENT_ACTIVE], 1);
    log_close(log);
    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), 0);
    ck_assert_uint_eq(inspection.has_writer, 0);
    ck_assert_uint_eq(inspection.last_lsn, 1000);
    ck_assert_uint_eq(inspection.report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
}

/* ---- how long its files are ---------------------------------------------------------------------- */

CASE("how long its files are", set_up, logdir_remove);

#define RUNS 12u
#define RECORDS_OF_A_RUN 100u
#define MOST_BYTES_OF_A_RUN (256u * 1024) /* the records of a run, with all that is around them */
#define LIMIT_BYTES (UINT64_C(16) << 20)  /* more than all runs and the 10 MiB of the active segment */

static int check_length(void *context, const struct twinlog_segment *segment)
{
    uint64_t *sum = context;
    struct stat file;

    ck_assert_int_eq(stat(log_file(segment->file), &file), 0);
    ck_assert_uint_eq(segment->file_bytes, (uint64_t)file.st_size);
    ck_assert_msg(segment->file_bytes <= MOST_BYTES_OF_A_RUN || !segment->is_mapped, "%s has %llu bytes",
                  segment->file, (unsigned long long)segment->file_bytes);
    *sum += segment->file_bytes;
    return 0;
}

static void run_and_die(uint32_t from)
{
    const pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        append_records(open_large(), 0, from, RECORDS_OF_A_RUN);
        _exit(0);
    }
    wait_child(child);
}

static void run(uint32_t from)
{
    struct twinlog *log = open_large();

    append_records(log, 0, from, RECORDS_OF_A_RUN);
    log_close(log);
}

static void expect_lengths_of_all_runs(void)
{
    uint64_t sum = 0;

    ck_assert_int_eq(twinlog_segments(log_dir, check_length, &sum), 0);
    ck_assert_uint_eq(log_inspect().file_bytes, sum);
    expect_count((uint64_t)RUNS * RECORDS_OF_A_RUN, true);
}

TEST(a_segment_that_no_process_writes_is_as_long_as_what_is_in_it)
{
    for (uint32_t i = 0; i < RUNS; i++)
        run(i * RECORDS_OF_A_RUN);
    expect_lengths_of_all_runs();
}

/* Each other writer ends without a close. */
TEST(the_next_opening_closes_the_segment_of_a_dead_writer)
{
    for (uint32_t i = 0; i < RUNS; i += 2) {
        run_and_die(i * RECORDS_OF_A_RUN);
        run((i + 1) * RECORDS_OF_A_RUN);
    }
    expect_lengths_of_all_runs();
}

static int add_sealed(void *context, const struct twinlog_segment *segment)
{
    uint64_t *sum = context;

    if (segment->state == TWINLOG_SEGMENT_SEALED)
        *sum += segment->file_bytes;
    return 0;
}

static uint64_t sealed_bytes(void)
{
    uint64_t sum = 0;

    ck_assert_int_eq(twinlog_segments(log_dir, add_sealed, &sum), 0);
    return sum;
}

/* A limit that is many times what the records take removes nothing. */
TEST(a_limit_by_bytes_counts_what_is_there)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;

    for (uint32_t i = 0; i < RUNS; i++)
        run(i * RECORDS_OF_A_RUN);

    struct twinlog *log = open_large();
    options.keep_bytes = LIMIT_BYTES;
    ck_assert_int_eq(twinlog_trim(log, &options, &result), 0);
    ck_assert_uint_eq(result.removed_records, 0);

    options = (struct twinlog_trim_options)TWINLOG_TRIM_OPTIONS_INIT;
    options.before_lsn = RUNS * RECORDS_OF_A_RUN;
    const uint64_t before = sealed_bytes();
    ck_assert_int_eq(twinlog_trim(log, &options, &result), 0);
    ck_assert_uint_gt(result.removed_bytes, 0);
    ck_assert_uint_eq(result.removed_bytes, before - sealed_bytes());
    log_close(log);
}
