/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches and levels: what append_batch() promises of the records together, and how safe they are when it returns.
 */
#define _GNU_SOURCE
#include "commit/inside.h"
#include "forbid.h"
#include "gate.h"
#include "log/handle.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIB 1024u
#define OVERHEAD 8192u /* of a buffer, for the largest batch */

static const struct twinlog_terms written = { sizeof(written), 0, TWINLOG_LEVEL_WRITTEN, 0, 0, NULL };
static const struct twinlog_terms buffered = { sizeof(buffered), 0, TWINLOG_LEVEL_BUFFERED, 0, 0, NULL };

/* ---- what readers return ------------------------------------------------------------------------- */

#define PIECES 1000u
#define SHAPES 7u
static unsigned char material[PIECES * 3];
static struct iovec pieces[PIECES], empty_pieces[3];

/* Records of all shapes; `size` of entry i is sizes[i]. */
static const size_t sizes[SHAPES] = { 100, 0, 0, 0, PIECES * 3, 1, 2500 };

static void make_shapes(struct twinlog_entry entries[SHAPES])
{
    for (unsigned i = 0; i < sizeof(material); i++)
        material[i] = (unsigned char)(i * 7 + i / 256);
    for (unsigned i = 0; i < PIECES; i++)
        pieces[i] = (struct iovec){ material + 3 * i, 3 };
    memset(entries, 0, SHAPES * sizeof(*entries));
    entries[0] =
        (struct twinlog_entry){ .data = material, .size = 100, .type = 1, .tag = 65535, .time_ns = 5 };
    entries[1] = (struct twinlog_entry){ .type = 255 };
    entries[2] = (struct twinlog_entry){ .pieces = pieces, .piece_count = 0, .tag = 1 };
    entries[3] = (struct twinlog_entry){ .pieces = empty_pieces, .piece_count = 3, .time_ns = -7 };
    entries[4] = (struct twinlog_entry){ .pieces = pieces, .piece_count = PIECES, .type = 4, .tag = 4 };
    entries[5] = (struct twinlog_entry){ .data = material, .size = 1 };
    entries[6] = (struct twinlog_entry){ .data = material, .size = 2500, .time_ns = INT64_MAX };
}

/* Record `lsn` of a log that holds nothing but shapes, one batch behind the other. */
static bool is_shape(const struct twinlog_record *record, uint64_t lsn)
{
    static struct twinlog_entry entries[SHAPES];
    const unsigned i = (unsigned)((lsn - 1) % SHAPES);

    make_shapes(entries);
    return record->lsn == lsn && record->size == sizes[i] && record->type == entries[i].type &&
           record->tag == entries[i].tag && memcmp(record->data, material, sizes[i]) == 0 &&
           (entries[i].time_ns != 0 ? record->time_ns == entries[i].time_ns : record->time_ns > 1000000000);
}

/* Forwards and back again. */
static int read_shapes(struct twinlog_reader *reader, uint64_t count)
{
    struct twinlog_record record;

    for (uint64_t lsn = 1; lsn <= count; lsn++) {
        EXPECT(twinlog_reader_next(reader, &record) == 1);
        EXPECT(is_shape(&record, lsn));
    }
    EXPECT(twinlog_reader_next(reader, &record) == 0);
    for (uint64_t lsn = count; lsn >= 1; lsn--) {
        EXPECT(twinlog_reader_previous(reader, &record) == 1);
        EXPECT(is_shape(&record, lsn));
    }
    return 0;
}

static uint64_t shapes_written;

static int read_with(uint32_t flags)
{
    const struct twinlog_reader_options options = WITH_SIZE(reader_options, .flags = flags);
    struct twinlog_reader *reader;

    EXPECT(twinlog_reader_open(log_dir, &options, &reader) == 0);
    const int result = read_shapes(reader, shapes_written);
    twinlog_reader_close(reader);
    return result;
}

static int read_elsewhere(void)
{
    const int result = read_with(0);
    if (result != 0)
        return result;
    return read_with(TWINLOG_READER_MMAP);
}

CASE("batches", gate_set_up, logdir_remove);

WAYS_TEST(a_batch_is_read_as_it_was_given, LOG_WAYS)
{
    struct twinlog_entry entries[SHAPES];
    struct twinlog *log = log_open(&options);

    make_shapes(entries);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t lsn = 0;

        ck_assert_int_eq(twinlog_append_batch(log, entries, SHAPES, NULL, &lsn), 0);
        ck_assert_uint_eq(lsn, i * SHAPES + 1);
        ck_assert_uint_eq(twinlog_durable_lsn(log), (i + 1) * SHAPES);
    }
    shapes_written = 20 * SHAPES;
    struct twinlog_reader *reader = log_attach(log, 0, 0);
    ck_assert_int_eq(read_shapes(reader, shapes_written), 0);
    twinlog_reader_close(reader);
    ck_assert_int_eq(run_child(read_elsewhere), 0);
    log_close(log);
    ck_assert_int_eq(read_elsewhere(), 0);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* ---- sizes --------------------------------------------------------------------------------------- */

static void expect_nothing_happened(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                                    int error)
{
    const uint64_t before = twinlog_last_lsn(log), appends = log_stat(log).appends;
    uint64_t lsn = 77;

    ck_assert_int_eq(twinlog_append_batch(log, entries, count, NULL, &lsn), error);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), before);
    ck_assert_uint_eq(log_stat(log).appends, appends);
}

static const struct {
    const char *name;
    uint32_t buffer_bytes, flags;
} buffers[] = {
    { "16 KiB", 16 * KIB, 0 },
    { "16 KiB, padded", 16 * KIB, TWINLOG_PAD },
    { "256 KiB", 256 * KIB, 0 },
    { "256 KiB, padded", 256 * KIB, TWINLOG_PAD },
};

TEST_EACH(a_batch_may_fill_a_buffer_and_not_more, buffers)
{
    const uint32_t buffer_bytes = row->buffer_bytes;
    unsigned char *bytes = calloc(1, buffer_bytes);
    struct twinlog_entry entries[2] = { { .data = bytes }, { .data = bytes, .size = 1000 } };

    struct twinlog *log = log_open(&LOG_OPTIONS(.flags = row->flags, .buffer_bytes = buffer_bytes));
    /* each takes 24 bytes more than its size rounded up to 8 */
    entries[0].size = buffer_bytes - OVERHEAD - 2 * 24 - 1000;
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(twinlog_append_batch(log, entries, 2, NULL, NULL), 0);
    entries[0].size++;
    expect_nothing_happened(log, entries, 2, -EMSGSIZE);

    /* one record alone may be a little larger than together with others */
    entries[0].size = buffer_bytes - OVERHEAD;
    ck_assert_int_eq(twinlog_append_batch(log, entries, 1, NULL, NULL), 0);
    entries[0].size++;
    expect_nothing_happened(log, entries, 1, -EMSGSIZE);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
    free(bytes);
}

#define MANY 10000u
WAYS_TEST(ten_thousand_records_may_be_one_batch, LOG_IO_KINDS)
{
    struct twinlog_entry *entries = calloc(MANY, sizeof(*entries));
    struct twinlog *log = log_open(&options);
    uint64_t lsn = 0, before = log_stat(log).groups, verified = 0;

    ck_assert_int_eq(twinlog_append(log, "one", 3, NULL), 0);
    for (uint32_t i = 0; i < MANY; i++)
        entries[i] = (struct twinlog_entry){ .data = &entries[i], .size = i % 8, .tag = (uint16_t)i };
    ck_assert_int_eq(twinlog_append_batch(log, entries, MANY, NULL, &lsn), 0);
    ck_assert_uint_eq(lsn, 2);
    ck_assert_uint_eq(twinlog_durable_lsn(log), MANY + 1);
    ck_assert_uint_eq(log_stat(log).groups, before + 2);
    ck_assert_uint_eq(log_stat(log).appends, MANY + 1);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
    ck_assert_uint_eq(verified, MANY + 1);
    free(entries);
}

/* ---- what is refused ----------------------------------------------------------------------------- */

TEST(a_bad_batch_is_refused_and_nothing_happens)
{
    static char byte;
    static struct iovec nowhere = { NULL, 1 }, endless[2] = { { &byte, SIZE_MAX }, { &byte, 2 } };
    static const struct {
        struct twinlog_entry entry;
        int error;
    } bad[] = {
        { { .size = 1 }, -EINVAL },
        { { .data = &byte, .size = 1, .reserved = 1 }, -EINVAL },
        { { .data = &byte, .pieces = &nowhere }, -EINVAL },
        { { .size = 1, .pieces = &nowhere }, -EINVAL },
        { { .piece_count = 1 }, -EINVAL },
        { { .pieces = &nowhere, .piece_count = 1 }, -EINVAL },
        { { .pieces = endless, .piece_count = 2 }, -EMSGSIZE },
        { { .data = &byte, .size = SIZE_MAX }, -EMSGSIZE },
    };
    struct twinlog *log = log_open(NULL);
    struct twinlog_entry entries[3] = { 0 };

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        entries[1] = bad[i].entry;
        expect_nothing_happened(log, entries, 3, bad[i].error);
    }
    expect_nothing_happened(log, entries, 0, -EINVAL);
    expect_nothing_happened(log, NULL, 1, -EINVAL);
    ck_assert_uint_eq(twinlog_last_lsn(log), 0);
    ck_assert_int_eq(twinlog_append_batch(log, entries, 1, NULL, NULL), 0);
    log_close(log);
}

static const struct {
    const char *name;
    struct twinlog_terms terms;
} bad_terms[] = {
    { "without their size", { 0 } },
    { "an unknown flag", { .size = sizeof(struct twinlog_terms), .flags = 2 } },
    { "an unknown level", { .size = sizeof(struct twinlog_terms), .level = 4 } },
    { "something in `reserved`", { .size = sizeof(struct twinlog_terms), .reserved = 1 } },
};

TEST_EACH(bad_terms_are_refused_and_nothing_happens, bad_terms)
{
    const struct twinlog_entry entry = { 0 };
    struct twinlog *log = log_open(NULL);

    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &row->terms, NULL), -EINVAL);
    ck_assert_uint_eq(twinlog_last_lsn(log), 0);
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, NULL), 0);
    log_close(log);
}

CASE("levels", gate_set_up, logdir_remove);

static int append_at(struct twinlog *log, const struct twinlog_terms *terms, size_t size, uint64_t *ret_lsn)
{
    static const unsigned char bytes[8192];
    const struct twinlog_entry entry = { .data = bytes, .size = size };

    return twinlog_append_batch(log, &entry, 1, terms, ret_lsn);
}

static struct twinlog_options gate_options(void)
{
    const struct twinlog_options options = LOG_OPTIONS(.flags = TWINLOG_BUFFERED, .buffer_bytes = 64 * KIB);

    return options;
}

TEST(written_is_not_synced_and_the_next_sync_covers_it)
{
    const struct twinlog_options options = gate_options();
    struct twinlog *log = gate_log(&options);
    unsigned synced = atomic_load(&gate.synced);
    uint64_t lsn;

    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(append_at(log, &written, 100, &lsn), 0);
    ck_assert_uint_eq(atomic_load(&gate.unsynced), 5);
    ck_assert_uint_eq(atomic_load(&gate.synced), synced);
    ck_assert_uint_eq(twinlog_written_lsn(log), 5);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_uint_eq(log_stat(log).written_lsn, 5);

    ck_assert_int_eq(append_at(log, NULL, 100, &lsn), 0);
    ck_assert_uint_eq(atomic_load(&gate.file_synced), 1);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 6);
    ck_assert_int_eq(append_at(log, NULL, 100, &lsn), 0);
    ck_assert_uint_eq(atomic_load(&gate.file_synced), 1);
    ck_assert_uint_eq(atomic_load(&gate.synced), synced + 1);
    log_close(log);
}

static unsigned count_writes(void)
{
    return atomic_load(&gate.synced) + atomic_load(&gate.file_synced) + atomic_load(&gate.unsynced);
}

TEST(what_is_written_is_synced_alone_when_there_is_nothing_else)
{
    const struct twinlog_options options = gate_options();
    struct twinlog *log = gate_log(&options);
    unsigned writes, syncs = atomic_load(&gate.syncs);
    uint64_t lsn;

    ck_assert_int_eq(append_at(log, &written, 100, &lsn), 0);
    writes = count_writes();
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_eq(atomic_load(&gate.syncs), syncs + 1);
    ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);

    ck_assert_int_eq(twinlog_sync(log), 0); /* there is nothing left to sync */
    ck_assert_uint_eq(atomic_load(&gate.syncs), syncs + 1);
    ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
    ck_assert_uint_eq(count_writes(), writes);
    log_close(log);
}

/* A deadline that has passed: it only looks. */
static int look(struct twinlog *log, uint64_t lsn, enum twinlog_level level)
{
    return twinlog_wait(log, lsn, level, 1);
}

WAYS_TEST(waiting_knows_every_level, LOG_IO_KINDS)
{
    struct twinlog *log = log_open(&options);
    uint64_t lsn;

    ck_assert_int_eq(append_at(log, &buffered, 100, &lsn), 0);
    ck_assert_int_eq(look(log, lsn, TWINLOG_LEVEL_BUFFERED), 0);
    ck_assert_int_eq(look(log, lsn, TWINLOG_LEVEL_WRITTEN), -ETIMEDOUT);
    ck_assert_int_eq(look(log, lsn, TWINLOG_LEVEL_DURABLE), -ETIMEDOUT);
    ck_assert_uint_eq(twinlog_written_lsn(log), 0);
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_WRITTEN, 0), 0);
    ck_assert_int_eq(look(log, lsn, TWINLOG_LEVEL_WRITTEN), 0);
    ck_assert_int_eq(look(log, lsn, TWINLOG_LEVEL_DURABLE), -ETIMEDOUT);
    ck_assert_uint_eq(twinlog_written_lsn(log), lsn);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, twinlog_deadline(20000)), 0);
    for (int level = TWINLOG_LEVEL_OF_MODE; level <= TWINLOG_LEVEL_DURABLE; level++) {
        ck_assert_int_eq(look(log, lsn, (enum twinlog_level)level), 0);
        ck_assert_int_eq(twinlog_wait(log, lsn + 1, (enum twinlog_level)level, 0), -EINVAL);
    }
    ck_assert_int_eq(twinlog_wait(log, lsn, (enum twinlog_level)4, 0), -EINVAL);
    ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
    log_close(log);
}

WAYS_TEST(an_interval_makes_things_durable_without_a_call, LOG_IO_KINDS)
{
    uint64_t lsn;

    options.flush_interval_ms = 5;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(append_at(log, &buffered, 100, &lsn), 0);
        AWAIT(twinlog_durable_lsn(log) >= lsn);
        ck_assert_int_eq(append_at(log, &written, 100, &lsn), 0);
        AWAIT(twinlog_durable_lsn(log) >= lsn);
    }
    log_close(log);
}

/* As after an opening that got no thread for the committer. */
static int enqueue_where_no_thread_starts(void)
{
    const struct twinlog_options options = { .size = sizeof(options), .flags = TWINLOG_BUFFERED };
    struct twinlog *log;
    uint64_t began_ns = 0;

    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    atomic_store(&log->commit->client.flush_interval_ms, 5);
    if (!forbid(SYS_clone3, EAGAIN) ||
        !forbid(SYS_clone, EAGAIN)) /* for this thread, not for that of the keeper */
        return CANNOT_RUN;
    EXPECT(twinlog_enqueue(log, "x", 1, NULL) == 0);
    while (twinlog_durable_lsn(log) == 0)
        EXPECT(still_in_time(&began_ns));
    return twinlog_close(log);
}

/* No other record comes that asks for a thread again. */
TEST(an_interval_holds_where_no_thread_could_be_started_at_first)
{
    expect_success_or_skip(run_child(enqueue_where_no_thread_starts),
                           "an_interval_holds_where_no_thread_could_be_started_at_first",
                           "no system call can be forbidden");
}

static const struct {
    const char *name;
    uint32_t io, flags, interval_ms;
} first_intervals[] = {
    { "from none, auto", TWINLOG_IO_AUTO, 0, 0 },
    { "from one that is too long, uring, buffered", TWINLOG_IO_URING, TWINLOG_BUFFERED, 3600 * 1000 },
};

/* And to none again. */
TEST_EACH(an_interval_is_changed, first_intervals)
{
    uint64_t lsn;

    if (!log_can_use("an_interval_is_changed", row->io, row->flags))
        return;
    struct twinlog *log =
        log_open(&LOG_OPTIONS(.io = row->io, .flags = row->flags, .flush_interval_ms = row->interval_ms));
    ck_assert_int_eq(append_at(log, &buffered, 100, &lsn), 0);
    ck_assert_int_eq(twinlog_set_flush_interval(log, 5), 0);
    AWAIT(twinlog_durable_lsn(log) >= lsn);
    ck_assert_int_eq(append_at(log, &written, 100, &lsn), 0);
    AWAIT(twinlog_durable_lsn(log) >= lsn);

    ck_assert_int_eq(twinlog_set_flush_interval(log, 0), 0);
    usleep(20000); /* one that had begun */
    ck_assert_int_eq(append_at(log, &buffered, 100, &lsn), 0);
    usleep(50000);
    ck_assert_uint_lt(twinlog_durable_lsn(log), lsn);
    ck_assert_int_eq(twinlog_set_flush_interval(log, 5), 0);
    AWAIT(twinlog_durable_lsn(log) >= lsn);
    log_close(log);
}

static uint64_t count_threads(void)
{
    struct stat threads;
    ck_assert_int_eq(stat("/proc/self/task", &threads), 0);
    return threads.st_nlink;
}

/* An interval of 0, which a log has anyway, starts no thread for flushes. */
TEST(no_interval_needs_no_thread)
{
    if (!can_look_into_proc("no_interval_needs_no_thread"))
        return;
    struct twinlog *log = log_open(NULL);
    uint64_t lsn;
    ck_assert_int_eq(append_at(log, &buffered, 100, &lsn), 0);
    const uint64_t threads = count_threads();
    ck_assert_int_eq(twinlog_set_flush_interval(log, 0), 0);
    ck_assert_int_eq(append_at(log, &buffered, 100, &lsn), 0);
    ck_assert_uint_eq(count_threads(), threads);
    ck_assert_int_eq(twinlog_set_flush_interval(log, 5), 0);
    ck_assert_uint_gt(count_threads(), threads);
    log_close(log);
}
