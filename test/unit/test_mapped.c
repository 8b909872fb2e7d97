/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TWINLOG_MODE_MAPPED, as the header describes it: which readers see a record and when, what survives which death, how
 * a log goes from one mode to the other, and what happens when files can't be made, mapped or kept.
 */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "forbid.h"
#include "format/format.h"
#include "gate.h"
#include "io/io.h"
#include "log/handle.h"
#include "logdir.h"
#include "mapped/inside.h"
#include "suites.h"

#include "../sim/rng.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SEGMENT_BYTES 65536u
#define MODES 3

#define FAULTS 8
#define CUTS 12

/* test_alone.c is this file in the shared mode, by one process with no other beside it. */
#ifndef ALONE
#define ALONE 0
#endif
static const uint32_t tested_mode = ALONE ? TWINLOG_MODE_SHARED : TWINLOG_MODE_MAPPED;
/* Only some of each loop, for the second time and for sanitizers. */
#define FEW(some, all) (ALONE || HAS_SANITIZER ? (some) : (all))

/* ---- opening ------------------------------------------------------------------------------------ */

static struct twinlog_options small(uint32_t mode)
{
    struct twinlog_options options = LOG_OPTIONS(.mode = mode);

    options.segment_bytes = options.mapped_bytes = SEGMENT_BYTES;
    options.max_record_bytes = RECORD_ROOM;
    if (mode == TWINLOG_MODE_DURABLE)
        options.mapped_bytes = 0;
    return options;
}

static struct twinlog_options large(void)
{
    const struct twinlog_options options = LOG_OPTIONS(.mode = tested_mode);

    return options;
}

static struct twinlog *open_small(uint32_t mode)
{
    const struct twinlog_options options = small(mode);

    return log_open(&options);
}

static struct twinlog *open_large(void)
{
    const struct twinlog_options options = large();

    return log_open(&options);
}

static struct twinlog_reader *open_reader(uint32_t flags)
{
    const struct twinlog_reader_options options = { .size = sizeof(options), .flags = flags };
    struct twinlog_reader *reader;

    ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    return reader;
}

static void expect_rest(struct tally *tally, struct twinlog_reader *reader, uint64_t last_lsn)
{
    const char *wrong;
    const int64_t count = tally_rest(tally, reader, &wrong);

    ck_assert_msg(count >= 0, "record %" PRIu64 ": %s", tally->last_lsn + 1,
                  wrong ? wrong : twinlog_strerror((int)count));
    ck_assert_uint_eq(tally->last_lsn, last_lsn);
}

/* By every kind of reader, beside the writer. */
static void expect_live(struct twinlog *log, uint64_t last_lsn)
{
    for (int which = 0; which < LOG_READER_KINDS; which++) {
        struct twinlog_reader *reader = log_reader_of_kind(log, which);
        struct tally tally = { 0 };
        uint64_t first, last;
        expect_rest(&tally, reader, last_lsn);
        ck_assert_int_eq(twinlog_reader_range(reader, &first, &last), 0);
        ck_assert_uint_eq(first, last_lsn > 0 ? 1 : 0);
        ck_assert_uint_eq(last, last_lsn);
        twinlog_reader_close(reader);
    }
}

static int append_on_terms(struct twinlog *log, uint32_t size, const struct twinlog_terms *terms,
                           uint64_t *ret_lsn)
{
    static const unsigned char bytes[RECORD_ROOM];
    const struct twinlog_entry entry = { .data = bytes, .size = size };

    return twinlog_append_batch(log, &entry, 1, terms, ret_lsn);
}

/* ---- what is seen ------------------------------------------------------------------------------- */

static struct shared {
    _Atomic uint64_t read[2];
    _Atomic uint64_t acked[8];
    _Atomic int step;
} * shared;

static void set_up(void)
{
    gate_set_up();
    shared = shared_page();
}

CASE("what is seen", set_up, logdir_remove);

/* A record that is not synced is not there for a reader of durable records, and no wake-up comes for it. */
TEST_LOOP(a_reader_of_durable_records_sees_a_record_when_it_is_synced, 2)
{
    const struct twinlog_reader_options options = { .size = sizeof(options),
                                                    .flags = TWINLOG_READER_DURABLE };
    struct twinlog_consumer_options consuming = TWINLOG_CONSUMER_OPTIONS_INIT;
    struct twinlog *log = open_large(); /* one segment: nothing is synced but by the test */
    struct twinlog_reader *reader;
    struct twinlog_consumer *consumer;
    struct twinlog_record record;
    uint64_t first, last;

    if (_i)
        ck_assert_int_eq(twinlog_reader_open(log_dir, &options, &reader), 0);
    else
        ck_assert_int_eq(twinlog_reader_attach(log, &options, &reader), 0);
    consuming.flags = TWINLOG_CONSUMER_DURABLE;
    ck_assert_int_eq(twinlog_consumer_open(log_dir, "away", &consuming, &consumer), 0);
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

TEST_LOOP(everybody_sees_a_record_at_once, 2)
{
    struct twinlog *log = _i ? open_large() : open_small(tested_mode);
    struct twinlog_reader *readers[LOG_READER_KINDS];
    struct tally tallies[LOG_READER_KINDS] = { 0 };

    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_NEW_LOG);
    for (int i = 0; i < LOG_READER_KINDS; i++)
        readers[i] = log_reader_of_kind(log, i);
    for (uint32_t n = 1; n <= 300; n++) {
        append_records(log, 0, n - 1, 1);
        for (int i = 0; i < LOG_READER_KINDS; i++) {
            ck_assert_msg(twinlog_reader_wait(readers[i], 0) == 1, "reader %d, record %u", i, n);
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

#define TURNS 300u

/* A wake-up that is lost costs a second, so that many of them are seen in what the test takes. */
static int follow(unsigned which)
{
    const struct twinlog_reader_options options = { .size = sizeof(options),
                                                    .flags = which ? TWINLOG_READER_MMAP : 0u };
    struct twinlog_reader *reader;
    struct tally tally = { 0 };
    const char *wrong;

    uint64_t began_ns = 0;
    while (atomic_load(&shared->step) == 0)
        EXPECT(still_in_time(&began_ns));
    EXPECT(twinlog_reader_open(log_dir, &options, &reader) == 0);
    while (tally.last_lsn < TURNS) {
        EXPECT(twinlog_reader_wait(reader, 120000) == 1);
        EXPECT(tally_rest(&tally, reader, &wrong) >= 0);
        atomic_store(&shared->read[which], tally.last_lsn);
    }
    twinlog_reader_close(reader);
    return 0;
}

static int follow_reading(void)
{
    return follow(0);
}

static int follow_mapped(void)
{
    return follow(1);
}

TEST(a_reader_in_another_process_is_woken_by_every_record)
{
    /* before there is a thread: the address sanitizer's allocator may be locked in a child for ever */
    const pid_t children[2] = { start_child(follow_reading), start_child(follow_mapped) };
    struct twinlog *log = open_small(tested_mode);
    atomic_store(&shared->step, 1);

    for (uint32_t n = 1; n <= TURNS; n++) {
        append_records(log, 0, n - 1, 1);
        AWAIT(atomic_load(&shared->read[0]) == n && atomic_load(&shared->read[1]) == n);
    }
    ck_assert_int_eq(wait_child(children[0]), 0);
    ck_assert_int_eq(wait_child(children[1]), 0);
    log_close(log);
}

static int read_all_and_leave(void)
{
    struct twinlog_reader *reader;
    struct tally tally = { 0 };
    const char *wrong;

    EXPECT(twinlog_reader_open(log_dir, NULL, &reader) == 0);
    EXPECT(tally_rest(&tally, reader, &wrong) == (int64_t)atomic_load(&shared->acked[0]));
    twinlog_reader_close(reader);
    return 0;
}

TEST(another_process_reads_what_is_there_when_it_comes)
{
    struct twinlog *log = open_small(tested_mode);

    for (uint32_t n = 0; n < 4; n++) {
        atomic_store(&shared->acked[0], append_records(log, 0, n * 50, 50));
        ck_assert_int_eq(run_child(read_all_and_leave), 0);
    }
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

TEST_LOOP(records_are_found_by_lsn_and_by_time_in_both_directions, LOG_READER_KINDS)
{
    struct twinlog *log = open_small(tested_mode);
    struct twinlog_reader *reader = log_reader_of_kind(log, _i);

    for (uint64_t n = 0; n < 4; n++) {
        append_entries(log, n * FOUND_EACH + 1, n * FOUND_EACH + FOUND_EACH);
        expect_found(reader, n * FOUND_EACH + FOUND_EACH);
    }
    twinlog_reader_close(reader);
    log_close(log);
    reader = open_reader(_i & 1 ? TWINLOG_READER_MMAP : 0u);
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

TEST_LOOP(records_of_every_size_come_back, LOG_READER_KINDS)
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
    struct twinlog_reader *reader = log_reader_of_kind(log, _i);
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

/* Beside a writer what is not durable is not verified. */
static void expect_count(uint64_t records, bool is_durable)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    uint64_t found;

    reader_expect_last(reader, 1, records);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &found), 0);
    ck_assert_uint_le(found, records);
    ck_assert(found == records || !is_durable);
}

/* In steps of 8 bytes: what is left behind the last record, and what the next one takes. */
TEST_LOOP(a_record_that_just_fits_stays_and_one_that_does_not_goes_on, FEW(8, 16 * 3))
{
    const uint64_t left = (uint64_t)_i % 16 * 8, size = (uint64_t)_i / 16 * 8;
    struct twinlog *log = open_small(tested_mode);

    fill_to(log, SEGMENT_BYTES, left);
    ck_assert_uint_eq(log_stat(log).rolls, 0);
    ck_assert_int_eq(append_on_terms(log, (uint32_t)size, NULL, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, twl_record_bytes((uint32_t)size) > left);
    ck_assert_int_eq(append_on_terms(log, 5000, NULL, NULL), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    const uint64_t last_lsn = twinlog_last_lsn(log);
    expect_count(last_lsn, false);
    log_close(log);
    expect_count(last_lsn, true);
}

#define INDEXED_BYTES (5u << 20) /* of a segment: its index would take all that is left, and no less */

/* A word says so, and stays: others may come by there after the segment was sealed. Its index is where it may be. */
TEST(the_word_that_ends_a_group_stays)
{
    static unsigned char bytes[INDEXED_BYTES];
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
    ck_assert_int_eq(pread(fd, bytes, sizeof(bytes), 0), INDEXED_BYTES);
    close(fd);
    ck_assert_int_eq(twl_segment_header_decode(bytes, &header), HEADER_VALID);
    ck_assert(twl_group_header_decode(bytes + SEGMENT_DATA_OFFSET, twl_segment_seed(&header),
                                      SEGMENT_DATA_OFFSET, &mark));
    ck_assert(twl_claim_decode(load_le64(bytes + at), twl_epoch_seed(header.log_id, mark.epoch), lsn, &size,
                               &owner));
    ck_assert_uint_eq(size, CLAIM_END);
    expect_count(lsn, true);
}

TEST_LOOP(a_log_is_closed_and_gone_on_with_however_little_room_is_left, MODES *FEW(2, 12))
{
    const uint64_t left = (uint64_t)_i / MODES * 8;
    struct twinlog *log = open_small(tested_mode);

    fill_to(log, SEGMENT_BYTES, left);
    const uint64_t last_lsn = twinlog_last_lsn(log);
    log_close(log);
    expect_count(last_lsn, true);
    log = open_small((uint32_t)_i % MODES);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_int_eq(append_on_terms(log, 100, NULL, NULL), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn + 1);
    log_close(log);
    expect_count(last_lsn + 1, true);
}

/* ---- many threads ------------------------------------------------------------------------------- */

static struct twinlog *threads_log;

struct worker {
    pthread_t thread;
    uint32_t writer, from, count;
    int which; /* reader */
    uint64_t last_lsn;
    const char *wrong;
    int64_t result;
};

static void *append_many(void *argument)
{
    struct worker *worker = argument;
    uint64_t lsn, before = 0;

    for (uint32_t i = worker->from; i < worker->from + worker->count && worker->result == 0; i++) {
        worker->result = append_record(threads_log, worker->writer, i, &lsn);
        if (worker->result == 0 && lsn <= before)
            worker->result = -EILSEQ;
        before = lsn;
    }
    return NULL;
}

static void *follow_many(void *argument)
{
    struct worker *worker = argument;
    struct twinlog_reader *reader = log_reader_of_kind(threads_log, worker->which);
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

    threads_log = open_small(tested_mode);
    for (int i = 0; i < LOG_READER_KINDS; i++) {
        readers[i] = (struct worker){ .which = i, .last_lsn = APPENDERS * EACH };
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
        ck_assert_msg(readers[i].result >= 0, "reader %d: %s", i,
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
    struct twinlog *log = open_small(tested_mode);
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

TEST(a_sync_covers_segments_that_were_left)
{
    struct twinlog *log = open_small(tested_mode);

    for (uint32_t n = 0; n < 20; n++) {
        const uint64_t lsn = append_records(log, 0, n * 100, 100);
        ck_assert_int_eq(n & 1 ? twinlog_sync(log) : twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
    }
    ck_assert_uint_gt(log_stat(log).rolls, 5);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 2000);
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

TEST(a_canceled_token_keeps_a_record_out)
{
    struct twinlog *log = open_small(tested_mode);
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

CASE("closing and opening", set_up, logdir_remove);

static uint64_t size_of_file(const char *path)
{
    struct stat about;

    ck_assert_int_eq(stat(path, &about), 0);
    return (uint64_t)about.st_size;
}

TEST_LOOP(a_close_leaves_room_for_markers_only, FEW(3, 12))
{
    struct twinlog *log = open_large();
    uint64_t bytes = OPEN_RECORDS_OFFSET;

    ck_assert_uint_eq(size_of_file(log_segment(2)), 10u << 20);
    for (uint32_t size = 0; size < (uint32_t)_i; size++) {
        ck_assert_int_eq(append_on_terms(log, size * 7, NULL, NULL), 0);
        bytes += twl_record_bytes(size * 7);
    }
    if (_i == 0)
        bytes = OPEN_GROUP_OFFSET;
    log_close(log);
    ck_assert_uint_eq(size_of_file(log_segment(2)),
                      align_up(bytes + GROUP_HEADER_BYTES, BLOCK_BYTES) + SEGMENT_MARKER_BYTES);
    expect_count((uint64_t)_i, true);
    log = _i & 1 ? open_large() : log_open(NULL);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    ck_assert_uint_eq(twinlog_durable_lsn(log), (uint64_t)_i);
    ck_assert_int_eq(append_on_terms(log, 1, NULL, NULL), 0);
    log_close(log);
    expect_count((uint64_t)_i + 1, true);
}

static bool is_zero_block(uint64_t number, uint64_t offset)
{
    unsigned char block[BLOCK_BYTES];
    const int fd = open(log_segment(number), O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(pread(fd, block, sizeof(block), (off_t)offset), sizeof(block));
    close(fd);
    return are_zeros(block, sizeof(block));
}

/* A power cut has taken what came behind it. The word that ended its group is no torn group, and neither would be the
 * index, once records end in front of it. */
TEST_LOOP(a_sealed_segment_goes_on_as_if_it_had_never_been_left, 3)
{
    const uint64_t footer_at = SEGMENT_BYTES - SEGMENT_FOOTER_BYTES, index_at = footer_at - BLOCK_BYTES;
    const uint32_t flags[] = { 0, TWINLOG_PAD, 0 },
                   modes[] = { TWINLOG_MODE_DURABLE, TWINLOG_MODE_DURABLE, tested_mode };
    struct twinlog_options options = small(modes[_i]);
    struct twinlog *log = open_small(tested_mode);

    while (log_stat(log).rolls == 0)
        ck_assert_int_eq(append_on_terms(log, RECORD_ROOM, NULL, NULL), 0);
    const uint64_t last_lsn = twinlog_last_lsn(log) - 1;
    AWAIT(!is_zero_block(2, footer_at));
    log_close(log);
    ck_assert(!is_zero_block(2, index_at));
    for (uint64_t number = 9; number > 2; number--) /* those that were prepared, too */
        ck_assert(unlink(log_segment(number)) == 0 || errno == ENOENT);

    options.flags |= flags[_i];
    log = log_open(&options);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_CLEAN_END);
    ck_assert_uint_eq(twinlog_durable_lsn(log), last_lsn);
    if (modes[_i] == TWINLOG_MODE_DURABLE) { /* else it is sealed once more */
        ck_assert(is_zero_block(2, footer_at));
        ck_assert(is_zero_block(2, index_at));
    }
    ck_assert_int_eq(append_on_terms(log, 1, NULL, NULL), 0);
    log_close(log);
    expect_count(last_lsn + 1, true);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* A reader that maps stands at the end of the records, right at the end of a page, when the log is closed: the file
 * stays as it is as long as there is such a reader. */
TEST_LOOP(a_file_that_a_reader_maps_is_not_truncated, FEW(3, 16))
{
    struct twinlog *log = open_large();
    struct twinlog_reader *readers[2] = { open_reader(0), open_reader(TWINLOG_READER_MMAP) };
    struct twinlog_record record;
    const uint64_t end = BLOCK_BYTES * 4 + (uint64_t)_i * 8 - 64;
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
    log = _i & 1 ? open_large() : log_open(NULL);
    ck_assert_int_eq(append_on_terms(log, 1, NULL, NULL), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_reader_next(readers[i], &record), 1);
        ck_assert_uint_eq(record.lsn, 3);
        ck_assert_int_eq(twinlog_reader_next(readers[i], &record), 0);
        twinlog_reader_close(readers[i]);
    }
    log_close(log);
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

TEST_LOOP(a_log_goes_from_mode_to_mode, MODES + 2)
{
    struct rng rng = { test_seed() + (uint64_t)_i };
    uint32_t count = 0;

    for (unsigned round = 0; round < REPEATS(40u, 8u); round++) {
        const uint32_t mode = _i < MODES ? (uint32_t)_i : (uint32_t)rng_below(&rng, MODES);
        struct twinlog_options options = rng_one_in(&rng, 3) ? log_options(0, 0) : small(mode);
        options.mode = mode;
        options.spare_segments = options.segment_bytes == 0 ? 0 : (uint32_t)rng_below(&rng, 4);
        struct twinlog *log = log_open(&options);
        ck_assert_uint_eq(log_stat(log).mode, mode);
        ck_assert_uint_eq(twinlog_last_lsn(log), count);
        ck_assert_uint_eq(twinlog_durable_lsn(log), count);
        const uint32_t more = (uint32_t)rng_below(&rng, mode == TWINLOG_MODE_DURABLE ? 60 : 200);
        for (uint32_t i = 0; i < more; i++)
            ck_assert_int_eq(enqueue_record(log, 0, count + i, NULL), 0);
        count += more;
        log_close(log);
        ck_assert_uint_eq(log_check().last_lsn, count);
    }
}

TEST_LOOP(spares_of_the_other_mode_are_no_use_and_no_harm, MODES)
{
    uint32_t count = 0;

    for (unsigned round = 0; round < 12; round++) {
        struct twinlog_options options = small((round + (unsigned)_i) % MODES);
        options.spare_segments = 3;
        struct twinlog *log = log_open(&options);
        if (options.mode == TWINLOG_MODE_DURABLE)
            AWAIT(log_stat(log).spare_segments == 3);
        append_records(log, 0, count, 20);
        count += 20;
        const struct twinlog_stat stat = log_stat(log);
        log_close(log);
        ck_assert_uint_le(log_count_files(), stat.segments + 6);
        ck_assert_uint_eq(log_check().last_lsn, count);
    }
}

TEST(segments_double_up_to_the_limit)
{
    struct twinlog_options options = small(tested_mode);
    static const uint64_t bytes[] = { 64, 128, 256, 256, 256 };

    options.segment_bytes = 256u << 10;
    struct twinlog *log = log_open(&options);
    while (log_stat(log).rolls < 4)
        ck_assert_int_eq(append_on_terms(log, RECORD_ROOM, NULL, NULL), 0);
    for (uint64_t i = 0; i < 5; i++)
        ck_assert_uint_eq(size_of_file(log_segment(2 + i)), bytes[i] << 10);
    log_close(log);
}

CASE("death", set_up, logdir_remove);

#define KILLED_THREADS 4u

static void *append_for_ever(void *argument)
{
    struct worker *worker = argument;

    for (uint32_t i = worker->from; append_record(threads_log, worker->writer, i, NULL) == 0; i++)
        atomic_store(&shared->acked[worker->writer], i + 1);
    return NULL;
}

static int live_until_killed(void)
{
    const struct twinlog_options options = small(tested_mode);
    struct worker workers[KILLED_THREADS];

    EXPECT(twinlog_open(log_dir, &options, &threads_log) == 0);
    for (uint32_t i = 0; i < KILLED_THREADS; i++) {
        workers[i] = (struct worker){ .writer = i, .from = (uint32_t)atomic_load(&shared->acked[i]) };
        EXPECT(pthread_create(&workers[i].thread, NULL, append_for_ever, &workers[i]) == 0);
    }
    for (;;)
        pause();
}

static uint64_t acked_records(void)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < KILLED_THREADS; i++)
        sum += atomic_load(&shared->acked[i]);
    return sum;
}

/* Each writer's records in order, at least what was acknowledged and at most one more; LSNs that are missing were being
 * written. Returns the last one. */
static uint64_t expect_acknowledged(struct twinlog_reader *reader, uint32_t next[LOG_WRITERS])
{
    struct twinlog_record record;
    uint64_t last_lsn = 0, fillers = 0, verified;
    int rc;

    memset(next, 0, LOG_WRITERS * sizeof(*next));
    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        uint32_t writer;
        struct tally tally = { .last_lsn = record.lsn - 1 };
        ck_assert_uint_gt(record.lsn, last_lsn);
        fillers += record.lsn - last_lsn - 1;
        last_lsn = record.lsn;
        ck_assert_uint_ge(record.size, RECORD_MIN_BYTES);
        memcpy(&writer, record.data, sizeof(writer));
        ck_assert_uint_lt(writer, LOG_WRITERS);
        memcpy(tally.next, next, sizeof(tally.next));
        const char *wrong = tally_record(&tally, &record);
        ck_assert_msg(!wrong, "%s", wrong);
        next[writer]++;
    }
    ck_assert_int_eq(rc, 0);
    for (uint32_t i = 0; i < KILLED_THREADS; i++) {
        ck_assert_uint_ge(next[i], atomic_load(&shared->acked[i]));
        ck_assert_uint_le(next[i], atomic_load(&shared->acked[i]) + 1);
    }
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
    ck_assert_uint_eq(verified, last_lsn - fillers);
    return last_lsn;
}

TEST_LOOP(what_was_appended_survives_kill_9, MODES)
{
    uint32_t next[LOG_WRITERS], own = 0;

    for (unsigned round = 0; round < 6; round++) {
        const uint64_t before = acked_records();
        const pid_t child = start_child(live_until_killed);
        AWAIT(acked_records() >= before + 60 * (round + 1));
        kill(child, SIGKILL);
        ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
        struct twinlog_reader *reader = open_reader(round & 1 ? TWINLOG_READER_MMAP : 0u);
        const uint64_t seen = expect_acknowledged(reader, next);
        ck_assert_uint_eq(next[10], own);

        struct twinlog *log = open_small(((unsigned)_i + round) % MODES);
        ck_assert(log_report.finding == TWINLOG_FOUND_CLEAN_END ||
                  log_report.finding == TWINLOG_FOUND_TORN_TAIL);
        const uint64_t last_lsn = twinlog_last_lsn(log);
        ck_assert_uint_ge(last_lsn, seen);
        ck_assert_uint_le(last_lsn, seen + KILLED_THREADS);
        ck_assert_uint_eq(twinlog_durable_lsn(log), last_lsn);
        uint64_t lsn;
        ck_assert_int_eq(append_record(log, 10, own++, &lsn), 0);
        ck_assert_uint_eq(lsn, last_lsn + 1);
        struct twinlog_record record;
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
        twinlog_reader_close(reader);
        log_close(log);
        reader = open_reader(0);
        ck_assert_uint_eq(expect_acknowledged(reader, next), lsn);
        twinlog_reader_close(reader);
        for (uint32_t i = 0; i < KILLED_THREADS; i++)
            atomic_store(&shared->acked[i], next[i]);
    }
}

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
    const uint32_t count = (uint32_t)atomic_load(&shared->acked[0]);

    options.mode = tested_mode;
    options.spare_segments = 0;
    struct twinlog *log = log_open(&options);
    if (append_record(log, 0, count, NULL) == 0)
        atomic_store(&shared->acked[0], count + 1);
    kill(getpid(), SIGKILL);
    return 1;
}

/* Each process starts a segment of 10 MiB; the next one gives back what it did not use. */
TEST(kills_in_a_row_leave_no_space_taken)
{
    for (uint32_t incarnations = 1; incarnations <= 20; incarnations++) {
        ck_assert_int_eq(wait_child(start_child(append_one_and_die)), 128 + SIGKILL);
        ck_assert_uint_eq(atomic_load(&shared->acked[0]), incarnations);
    }
    ck_assert_uint_lt(space_taken(), 64u << 20); /* two segments, and what is prepared */
    expect_count(20, false);
}

static struct twinlog *parents_log;

static int use_parents_log(void)
{
    EXPECT(log_use_forked(parents_log) == 0);
    EXPECT(twinlog_close(parents_log) == TWINLOG_EFORKED);
    return 0;
}

TEST_LOOP(threads_go_on_while_their_process_forks, CAN_FORK_BESIDE_BUSY_THREADS ? 1 : 0)
{
    struct worker workers[3];

    parents_log = threads_log = open_small(tested_mode);
    for (uint32_t i = 0; i < 3; i++) {
        workers[i] = (struct worker){ .writer = i, .count = 500 };
        workers[i].thread = start_thread(append_many, &workers[i]);
    }
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(run_child(use_parents_log), 0);
    for (uint32_t i = 0; i < 3; i++) {
        pthread_join(workers[i].thread, NULL);
        ck_assert_int_eq(workers[i].result, 0);
    }
    log_close(parents_log);
    ck_assert_uint_eq(log_check().last_lsn, 1500);
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

TEST(a_full_disk_refuses_and_goes_on_when_it_has_room)
{
    struct twinlog *log = open_gated(tested_mode);
    uint32_t count = 0;

    for (unsigned round = 0; round < 3; round++) {
        atomic_store(&gate.largest_file, 0);
        count = append_until(log, count, -ENOSPC);
        for (unsigned i = 0; i < 3; i++) {
            const uint32_t again = append_until(log, count, -ENOSPC);
            ck_assert_uint_ge(again, count); /* the thread may have had a segment half made */
            count = again;
        }
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), count);
        const struct twinlog_stat stat = log_stat(log);
        ck_assert_int_eq(stat.poison, 0);
        ck_assert_uint_ge(stat.full_refusals, 4 * (round + 1));
        expect_live(log, count);
        atomic_store(&gate.largest_file, UINT64_MAX);
        append_records(log, 0, count, 50);
        count += 50;
    }
    atomic_store(&gate.largest_file, 0);
    count = append_until(log, count, -ENOSPC);
    log_close(log);
    atomic_store(&gate.largest_file, UINT64_MAX);
    ck_assert_uint_eq(log_check().last_lsn, count);
    log = open_small(tested_mode);
    append_records(log, 0, count, 50);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, count + 50);
}

/* More often than there is room for markers, as where a process is started again and again. */
TEST(a_log_that_is_opened_on_a_full_disk_is_refused_and_can_be_trimmed)
{
    const struct twinlog_options options = small(tested_mode), durable = small(TWINLOG_MODE_DURABLE);
    struct twinlog *log = open_small(tested_mode);

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
    log = open_small(tested_mode);
    append_records(log, 0, 500, 50);
    ck_assert_uint_eq(twinlog_last_lsn(log), 550);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
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
    ck_assert_int_lt(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_wait(log, durable_lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
    if (tested_mode == TWINLOG_MODE_MAPPED) { /* the other one syncs by msync(), which passes the gate */
        ck_assert_int_lt(twinlog_wait(log, twinlog_last_lsn(log), TWINLOG_LEVEL_DURABLE, 0), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), durable_lsn);
    }
    lsn = twinlog_last_lsn(log);
    ck_assert_int_lt(twinlog_close(log), 0);
    gate_reset();
    ck_assert_uint_eq(log_check().last_lsn, lsn); /* the kernel is alive */
    log = open_small(tested_mode);
    ck_assert_uint_eq(twinlog_last_lsn(log), lsn);
    append_records(log, 0, (uint32_t)lsn, 10);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, lsn + 10);
}

/* What the kernel returns here is also what a thread is told that shall try again, or is out of time. */
static const int ambiguous_errors[] = { EAGAIN, ETIMEDOUT, ECANCELED };
static int ambiguous_error;

#define CANNOT_RUN 77

static int meet_ambiguous_error(void)
{
    uint64_t lsn;

    if (!forbid(SYS_msync, ambiguous_error))
        return CANNOT_RUN;
    alarm(60);
    struct twinlog *log = open_small(tested_mode);
    EXPECT(append_record(log, 0, 0, &lsn) == 0);
    EXPECT(twinlog_sync(log) == -EIO);
    EXPECT(log_stat(log).poison == -EIO);
    EXPECT(twinlog_durable_lsn(log) == 0);
    EXPECT(append_record(log, 0, 1, &lsn) == TWINLOG_EPOISONED);
    EXPECT(twinlog_close(log) == -EIO);
    return 0;
}

TEST_LOOP(an_error_with_another_meaning_is_an_error_for_good, 3)
{
    ambiguous_error = ambiguous_errors[_i];
    const int result = run_child(meet_ambiguous_error);
    if (result == CANNOT_RUN)
        fprintf(stderr,
                "SKIP mapped an_error_with_another_meaning_is_an_error_for_good: no seccomp filter may be "
                "loaded\n");
    else
        ck_assert_int_eq(result, 0);
}

/* Where the log's thread looks after others, it may have been told first. */
static void expect_lost(int rc)
{
    ck_assert_msg(rc == -EIO || (tested_mode == TWINLOG_MODE_SHARED && rc == TWINLOG_EPOISONED), "%s",
                  twinlog_strerror(rc));
}

/* Another program truncates the file under the mapping. What is called first is told, nothing waits for what is
 * lost. */
TEST_LOOP(a_file_that_is_truncated_poisons_and_no_process_dies, CUTS)
{
    struct twinlog *log = open_large();
    struct twinlog_reader *reader = log_reader_of_kind(log, LOG_READER_KINDS - 1);
    struct twinlog_record record;
    uint64_t lsn;
    int rc = 0;

    append_records(log, 0, 0, 100);
    ck_assert_int_eq(truncate(log_segment(2), _i & 1 ? 4096 : 8192), 0);
    switch (_i / 2) {
    case 0:
        for (uint32_t i = 0; rc == 0; i++)
            rc = append_record(log, 0, 100 + i, &lsn);
        expect_lost(rc);
        break;
    case 1:
        expect_lost(twinlog_sync(log));
        break;
    case 2: { /* the log's thread may have found all of them written before */
        const uint64_t written_lsn = twinlog_written_lsn(log);
        ck_assert_uint_le(written_lsn, 100);
        rc = twinlog_wait(log, 100, TWINLOG_LEVEL_WRITTEN, 0);
        ck_assert(rc != 0 || written_lsn == 100);
        expect_lost(rc == 0 ? twinlog_sync(log) : rc);
        break;
    }
    case 3:
        while (twinlog_reader_next(reader, &record) > 0)
            continue;
        expect_lost(twinlog_wait(log, 100, TWINLOG_LEVEL_DURABLE, 0));
        break;
    case 4: /* while it is left */
        for (unsigned i = 0; rc == 0 && i < 30000; i++)
            rc = append_on_terms(log, RECORD_ROOM, NULL, &lsn);
        ck_assert_int_lt(rc, 0);
        break;
    default:
        break;
    }
    if (_i / 2 < 5) {
        ck_assert_int_eq(append_record(log, 0, 0, &lsn), TWINLOG_EPOISONED);
        ck_assert_uint_eq(lsn, 0);
        ck_assert_int_lt(twinlog_sync(log), 0);
        ck_assert_int_eq(log_stat(log).poison, -EIO);
    }
    twinlog_reader_close(reader);
    ck_assert_int_lt(twinlog_close(log), 0);
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
    ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), -EIO);
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
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), -EIO);
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_lt(twinlog_sync(log), 0);
    ck_assert_int_lt(twinlog_close(log), 0);
    expect_count(3, true);
}

TEST_LOOP(a_log_that_cannot_be_mapped_is_as_it_was, MODES)
{
    struct twinlog_options options = small(tested_mode);
    struct twinlog *log = NULL;
    uint32_t count = 0;

    if (_i) {
        log = open_small((uint32_t)_i - 1);
        count = (uint32_t)append_records(log, 0, 0, 30);
        log_close(log);
        log = NULL;
    }
    const unsigned before = _i ? log_count_files() : 3; /* a segment, the state, the lock */
    atomic_store(&gate.map_error, -ENOTSUP);
    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(gate_try_log(&options, &log), -ENOTSUP);
        ck_assert_ptr_null(log);
        ck_assert_int_eq(log_report.error, -ENOTSUP);
        ck_assert_ptr_nonnull(strstr(log_report.text, "map"));
        ck_assert_uint_eq(log_count_files(), before);
    }
    ck_assert_uint_eq(log_check().last_lsn, count);
    gate_reset();
    log = open_small((uint32_t)_i % MODES);
    ck_assert_uint_eq(twinlog_last_lsn(log), count);
    append_records(log, 0, count, 100);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, count + 100);
}

CASE("what else a log can do", set_up, logdir_remove);

TEST_LOOP(a_live_log_is_backed_up, 2)
{
    struct twinlog *log = open_small(tested_mode);
    char copy[400], original[300];

    ck_assert_uint_eq(append_records(log, 0, 0, 400), 400);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "vote", "yes", 3), 0);
    append_records(log, 0, 400, 20);
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;
    snprintf(copy, sizeof(copy), "%s/copy", log_parent);
    ck_assert_int_eq(twinlog_backup(log_dir, copy, NULL, &result), 0);
    ck_assert_uint_ge(result.last_lsn, 400);
    ck_assert_uint_le(result.last_lsn, 420);
    append_records(log, 0, 420, 300);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 720);

    memcpy(original, log_dir, sizeof(original));
    snprintf(log_dir, sizeof(log_dir), "%.290s", copy);
    ck_assert_uint_eq(log_check().last_lsn, result.last_lsn);
    log = open_small((uint32_t)_i);
    append_records(log, 0, (uint32_t)result.last_lsn, 100);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, result.last_lsn + 100);
    memcpy(log_dir, original, sizeof(original));
    ck_assert_uint_eq(log_check().last_lsn, 720);
}

static int sum_segments(void *context, const struct twinlog_segment *segment)
{
    unsigned *counts = context;

    ck_assert_uint_lt(segment->state, 5);
    counts[segment->state]++;
    return 0;
}

TEST(a_log_is_looked_at_from_inside_and_outside)
{
    struct twinlog *log = open_small(tested_mode);
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

CASE("what it refuses", set_up, logdir_remove);

TEST(what_is_not_there_in_this_mode_says_so)
{
    struct twinlog *log = open_small(tested_mode);
    const struct twinlog_entry entries[2] = { { .data = "a", .size = 1 }, { .data = "b", .size = 1 } };
    struct twinlog_request request = { 0 };
    static struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    uint64_t lsn = 77;

    append_records(log, 0, 0, 3);
    ck_assert_int_eq(twinlog_append_batch(log, entries, 2, NULL, &lsn), -ENOTSUP);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_append_batch(log, entries, 0, NULL, &lsn), -EINVAL);
    ck_assert_int_eq(twinlog_append_batch(log, NULL, 1, NULL, &lsn), -EINVAL);
    ck_assert_int_eq(twinlog_queue_open(&request.queue), 0);
    ck_assert_int_eq(twinlog_submit(log, entries, 1, NULL, &request), -ENOTSUP);
    ck_assert_int_eq(twinlog_queue_close(request.queue), 0);
    ck_assert_int_eq(twinlog_skip(log, 10), -ENOTSUP);
    ck_assert_int_eq(twinlog_drive(log, 0), -ENOTSUP);
    ck_assert_int_eq(twinlog_truncate(log, 2), -ENOTSUP);
    ck_assert_int_eq(twinlog_reset(log, 100), -ENOTSUP);
    ck_assert_int_eq(twinlog_timings(log, &timings), -ENOTSUP);
    ck_assert_uint_eq(twinlog_last_lsn(log), 3);
    append_records(log, 0, 3, 3);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 6);
}

static struct twinlog_options faulty(int i)
{
    struct twinlog_options options = small(tested_mode);

    switch (i) {
    case 0:
        options.mode = TWINLOG_MODE_SHARED + 1;
        break;
    case 1:
        options.mapped_bytes = SEGMENT_BYTES - 1;
        break;
    case 2:
        options.mapped_bytes = SEGMENT_BYTES + BLOCK_BYTES;
        break;
    case 3:
        options.mapped_bytes = RECORD_ROOM + 6 * BLOCK_BYTES;
        break;
    case 4:
        options.segment_bytes = (1u << 30) + BLOCK_BYTES;
        break;
    case 5:
        options.flags = TWINLOG_PAD;
        break;
    case 6:
        options.flags = TWINLOG_READ_ONLY;
        break;
    default:
        ck_assert_int_eq(twinlog_committer_open(NULL, &options.committer), 0);
        break;
    }
    return options;
}

TEST_LOOP(a_faulty_option_is_named, FAULTS)
{
    static const char *const words[] = { "mode is no",    "mapped_bytes", "mapped_bytes", "mapped_bytes",
                                         "segment_bytes", "padded",       "read-only",    "committer" };
    struct twinlog_options options = faulty(_i);

    ck_assert_int_eq(log_open_error(&options), -EINVAL);
    ck_assert_msg(strstr(log_report.text, words[_i]) != NULL, "%s", log_report.text);
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

static void *append_until_it_is_told(void *argument)
{
    struct worker *worker = argument;

    for (uint32_t i = 0; atomic_load(&shared->step) == 0 && worker->result == 0; i++) {
        worker->result = append_record(threads_log, worker->writer, i, NULL);
        worker->count = i + 1;
    }
    return NULL;
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
    AWAIT(log_stat(threads_log).roll_waits > 0);
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
    parents_log = open_gated(tested_mode);
    const uint32_t before = (uint32_t)append_records(parents_log, 0, 0, 3);
    gate_shut();
    uint32_t count = before;
    while (log_stat(parents_log).rolls == 0)
        count = (uint32_t)append_records(parents_log, 0, count, 1);
    gate_await();
    count = (uint32_t)append_records(parents_log, 0, count, 3);
    ck_assert_uint_eq(twinlog_last_lsn(parents_log), count);
    ck_assert_uint_eq(twinlog_written_lsn(parents_log), count);
    ck_assert(ALONE || twinlog_durable_lsn(parents_log) == 0); /* shared: the mapping was synced before */
    ck_assert_uint_eq(twinlog_first_lsn(parents_log), 1);
    ck_assert_int_eq(twinlog_wait(parents_log, count, TWINLOG_LEVEL_WRITTEN, 0), 0);
    ck_assert_int_eq(twinlog_wait(parents_log, count, TWINLOG_LEVEL_DURABLE, 1), -ETIMEDOUT);
    gate_open();
    ck_assert_int_eq(twinlog_sync(parents_log), 0);
    log_close(parents_log);
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

/* An append holds the lock for leaving a segment while it waits for the next file; closing one holds the lock for
 * syncs, and needs the other one. Each writes and syncs, and waits at the gate in turn. */
TEST(who_leaves_closes_syncs_and_trims_never_wait_for_each_other_in_a_circle)
{
    static void *(*const work[3])(void *) = { append_until_it_is_told, sync_until_it_is_told,
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

    ck_assert_int_eq(twl_mapped_make_ahead(mapped, atomic_load(&mapped->active), &made), 0);
    twl_segment_close(&made);
    while (log_stat(leaving_log).rolls == rolls)
        ck_assert_int_eq(append_on_terms(leaving_log, 1000, &terms, &lsn), 0);
    atomic_store(&gate.when_checked, ++times_left < 50 ? leave_again : NULL);
}

/* As by appends that are faster than the disk. */
TEST(a_trim_ends_though_a_segment_is_left_whenever_it_closes_one)
{
    struct twinlog_options options = small(tested_mode);

    options.flags |= TWINLOG_NO_THREAD;
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

TEST(a_segment_that_cannot_be_mapped_now_can_be_later)
{
    struct twinlog *log = open_gated(tested_mode);
    uint32_t count = 0;

    for (unsigned round = 0; round < 3; round++) {
        atomic_store(&gate.map_error, -ENOMEM);
        count = append_until(log, count, -ENOMEM);
        const unsigned files = log_count_files();
        for (unsigned i = 0; i < 5; i++)
            ck_assert_uint_eq(append_until(log, count, -ENOMEM), count);
        ck_assert_uint_le(log_count_files(), files + 1);
        ck_assert_int_eq(twinlog_sync(log), 0);
        atomic_store(&gate.map_error, 0);
        append_records(log, 0, count, 50);
        count += 50;
    }
    atomic_store(&gate.map_error, -ENOMEM);
    count = append_until(log, count, -ENOMEM);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, count);
    log = open_small(tested_mode);
    append_records(log, 0, count, 50);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, count + 50);
}

/* The record has no place yet, so nothing has happened, and the same call works later. */
TEST(an_append_that_lacks_a_file_is_refused)
{
    struct twinlog_options options = small(tested_mode);
    uint32_t count = 0;

    options.flags |= TWINLOG_NO_THREAD; /* only appends map segments then */
    struct twinlog *log = gate_log(&options);
    while (log_stat(log).rolls == 0)
        ck_assert_int_eq(append_record(log, 0, count++, NULL), 0);
    atomic_store(&gate.map_error, -EMFILE);
    append_until(log, count, -EMFILE);
    atomic_store(&gate.map_error, 0);
    const uint64_t lsn = twinlog_last_lsn(log) + 1;
    ck_assert_int_eq(append_record(log, 0, 0, NULL), 0);
    log_close(log);
    expect_count(lsn, true);
}

static void expect_from(uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_reader *reader = log_reader(0, 0);

    reader_expect_last(reader, first_lsn, last_lsn);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

CASE("trims", set_up, logdir_remove);

TEST_LOOP(a_trim_removes_what_is_durable, 2)
{
    struct twinlog *log = open_small(tested_mode);

    append_records(log, 0, 0, 3);
    ck_assert_uint_eq(log_trim_before(log, 1000).first_lsn, 1);
    append_records(log, 0, 3, 997);
    ck_assert_int_eq(twinlog_sync(log), 0);
    const struct twinlog_trim_result result = log_trim_before(log, 601);
    ck_assert_uint_eq(result.first_lsn, 601);
    ck_assert_uint_eq(result.removed_records, 600);
    ck_assert_uint_gt(result.removed_segments, 2);
    ck_assert_uint_eq(twinlog_first_lsn(log), 601);
    expect_from(601, 1000);
    append_records(log, 0, 1000, 500);
    expect_from(601, 1500);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_trim_before(log, 5000).first_lsn, 1501);
    ck_assert_uint_eq(twinlog_first_lsn(log), 0);
    append_records(log, 0, 1500, 5);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1501);
    log_close(log);
    expect_from(1501, 1505);
    log = open_small((uint32_t)_i);
    ck_assert_uint_eq(twinlog_first_lsn(log), 1501);
    append_records(log, 0, 1505, 200);
    log_close(log);
    expect_from(1501, 1705);
}

/* Before the thread has closed their groups. */
TEST(segments_that_are_trimmed_early_are_given_back)
{
    struct twinlog *log = open_small(tested_mode);

    for (uint32_t i = 0; i < 100; i++) {
        const uint64_t lsn = append_records(log, 0, i * 50, 50);
        ck_assert_int_eq(twinlog_sync(log), 0);
        ck_assert_uint_eq(log_trim_before(log, lsn).first_lsn, lsn);
        ck_assert_uint_le(log_stat(log).segments, 3);
    }
    ck_assert_uint_gt(log_stat(log).trimmed_segments, 20);
    log_close(log);
    expect_from(5000, 5000);
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
    log = open_small(TWINLOG_MODE_DURABLE);
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
static int try_to_write(void)
{
    for (uint32_t mode = 0; mode < MODES; mode++) {
        const struct twinlog_options options = small(mode);
        struct twinlog *log;
        EXPECT(twinlog_open(log_dir, &options, &log) == -EBUSY);
        EXPECT(strstr(log_report.text, "another writer"));
    }
    return 0;
}

TEST(there_is_one_writer_and_any_number_of_handles_to_look)
{
    struct twinlog *log = open_small(tested_mode);
    const struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    uint64_t lsn;

    ck_assert_int_eq(try_to_write(), 0);
    ck_assert_int_eq(run_child(try_to_write), 0);
    append_records(log, 0, 0, 10);
    struct twinlog *handle = log_open(&options);
    ck_assert_uint_eq(twinlog_last_lsn(handle), 10);
    append_records(log, 0, 10, 290);
    ck_assert_uint_eq(twinlog_last_lsn(handle), 300);
    ck_assert_uint_eq(twinlog_first_lsn(handle), 1);
    ck_assert_int_eq(append_record(handle, 0, 300, &lsn), -EROFS);
    struct twinlog_reader *reader = log_attach(handle, 0, 0);
    struct tally tally = { 0 };
    expect_rest(&tally, reader, 300);
    append_records(log, 0, 300, 100);
    expect_rest(&tally, reader, 400);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_cursor_set(handle, "consumer", 400), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "consumer", &lsn), 0);
    ck_assert_uint_eq(lsn, 400);
    log_close(log);
    ck_assert_uint_eq(twinlog_last_lsn(handle), 400);
    twinlog_reader_close(reader);
    log_close(handle);
}
#endif
