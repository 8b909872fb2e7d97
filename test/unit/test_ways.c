/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches and levels: what append_batch() promises of the records together, and how safe they are when it returns.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "../sim/simdisk.h"
#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

static int read_elsewhere(void)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    int result = 0;

    for (unsigned i = 0; i < 2 && result == 0; i++) {
        struct twinlog_reader *reader;

        options.flags = i ? TWINLOG_READER_MMAP : 0;
        EXPECT(twinlog_reader_open(log_dir, &options, &reader) == 0);
        result = read_shapes(reader, shapes_written);
        twinlog_reader_close(reader);
    }
    return result;
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

TEST_LOOP(a_batch_may_fill_a_buffer_and_not_more, 4)
{
    const uint32_t buffer_bytes = _i & 2 ? 256 * KIB : 16 * KIB;
    unsigned char *bytes = calloc(1, buffer_bytes);
    struct twinlog_entry entries[2] = { { .data = bytes }, { .data = bytes, .size = 1000 } };
    const struct twinlog_options options =
        LOG_OPTIONS(.flags = _i & 1 ? TWINLOG_PAD : 0, .buffer_bytes = buffer_bytes);

    struct twinlog *log = log_open(&options);
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
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        entries[1] = bad[i].entry;
        expect_nothing_happened(log, entries, 3, bad[i].error);
    }
    expect_nothing_happened(log, entries, 0, -EINVAL);
    expect_nothing_happened(log, NULL, 1, -EINVAL);
    for (unsigned i = 0; i < 4; i++) {
        terms = (struct twinlog_terms)TWINLOG_TERMS_INIT;
        terms.size *= i != 0;
        terms.flags = i == 1 ? 2 : 0;
        terms.level = i == 2 ? 4 : 0;
        terms.reserved = i == 3;
        ck_assert_int_eq(twinlog_append_batch(log, entries, 1, &terms, NULL), -EINVAL);
    }
    ck_assert_uint_eq(twinlog_last_lsn(log), 0);
    ck_assert_int_eq(twinlog_append_batch(log, entries, 1, NULL, NULL), 0);
    log_close(log);
}

/* ---- all or nothing ------------------------------------------------------------------------------ */

#define BATCH 40u
#define BATCHES 3u

struct cutting {
    struct simdisk *disk;
    struct rng rng;
    uint64_t whole, empty;
    bool is_in_parts;
};

static struct twinlog_options sim_options(void)
{
    const struct twinlog_options options =
        LOG_OPTIONS(.flags = TWINLOG_BUFFERED, .segment_bytes = 256 * KIB, .buffer_bytes = 64 * KIB);

    return options;
}

/* What a power cut at this moment leaves. */
static void cut_here(void *context, enum simdisk_op op)
{
    const struct twinlog_options options = sim_options();
    struct cutting *cutting = context;
    struct simdisk *image = simdisk_crash_image(cutting->disk, SIM_CUT_RANDOM, rng_next(&cutting->rng));
    struct twinlog *log;
    (void)op;

    if (twl_log_open(simdisk_connect(image), &options, &log) == 0) {
        const uint64_t last = twinlog_last_lsn(log);

        cutting->is_in_parts = cutting->is_in_parts || last % BATCH != 0;
        cutting->whole += last > 0;
        cutting->empty += last == 0;
        twinlog_close(log);
    }
    simdisk_destroy(image);
}

TEST(after_a_crash_a_batch_is_there_as_a_whole_or_not_at_all)
{
    const struct simdisk_options about = { .seed = test_seed(), .clock_ns = 1 };
    const struct twinlog_options options = sim_options();
    const struct twinlog_terms *terms[BATCHES] = { &written, &written, NULL };
    struct cutting cutting = { .disk = simdisk_create(&about), .rng = { about.seed } };
    struct twinlog_entry entries[BATCH];
    static unsigned char bytes[500];

    for (unsigned i = 0; i < BATCH; i++)
        entries[i] = (struct twinlog_entry){ .data = bytes, .size = sizeof(bytes) };
    struct twinlog *log = log_on(simdisk_connect(cutting.disk), &options);
    simdisk_set_hook(cutting.disk, cut_here, &cutting);
    for (unsigned i = 0; i < BATCHES; i++) {
        ck_assert_int_eq(twinlog_append_batch(log, entries, BATCH, terms[i], NULL), 0);
        for (unsigned j = 0; j < 20; j++)
            cut_here(&cutting, SIM_ANY);
    }
    simdisk_set_hook(cutting.disk, NULL, NULL);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(cutting.disk);
    ck_assert(!cutting.is_in_parts);
    ck_assert_uint_gt(cutting.whole, 0);
    ck_assert_uint_gt(cutting.empty, 0);
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

TEST(what_is_written_is_synced_alone_when_there_is_nothing_else)
{
    const struct twinlog_options options = gate_options();
    struct twinlog *log = gate_log(&options);
    unsigned writes, syncs = atomic_load(&gate.syncs);
    uint64_t lsn;

    ck_assert_int_eq(append_at(log, &written, 100, &lsn), 0);
    writes = atomic_load(&gate.synced) + atomic_load(&gate.file_synced) + atomic_load(&gate.unsynced);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(i ? twinlog_sync(log) : twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
        ck_assert_uint_eq(atomic_load(&gate.syncs), syncs + 1);
        ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
    }
    ck_assert_uint_eq(
        atomic_load(&gate.synced) + atomic_load(&gate.file_synced) + atomic_load(&gate.unsynced), writes);
    log_close(log);
}

TEST_LOOP(a_segment_is_synced_before_it_is_left, 2)
{
    struct twinlog_options options = gate_options();
    const struct twinlog_terms *terms = _i ? &written : NULL;
    uint64_t last = 0;

    options.segment_bytes = 128 * KIB;
    options.buffer_bytes = 32 * KIB;
    struct twinlog *log = gate_log(&options);
    for (unsigned i = 0; log_stat(log).rolls < 3; i++) {
        ck_assert_uint_lt(i, 1000);
        ck_assert_int_eq(append_at(log, i % 8 == 7 ? terms : &written, 8000, &last), 0);
    }
    ck_assert(!atomic_load(&gate.has_left_unsynced));
    log_close(log);
    log = log_open(NULL);
    ck_assert_uint_eq(twinlog_last_lsn(log), last);
    log_close(log);
}

TEST(a_failed_sync_of_what_was_written_poisons_the_log)
{
    const struct twinlog_options options = gate_options();
    struct twinlog *log = gate_log(&options);
    uint64_t lsn;

    ck_assert_int_eq(append_at(log, &written, 100, &lsn), 0);
    atomic_store(&gate.error, -EIO);
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, 0), -EIO);
    atomic_store(&gate.error, 0);
    ck_assert_int_eq(twinlog_sync(log), -EIO);
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_WRITTEN, 0), 0);
    ck_assert_int_eq(append_at(log, &written, 100, &lsn), TWINLOG_EPOISONED);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);
    ck_assert_int_eq(twinlog_close(log), -EIO);
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

TEST_LOOP(an_interval_makes_things_durable_without_a_call, LOG_IO_KINDS)
{
    struct twinlog_options options = log_way(_i);
    uint64_t lsn;

    if (!log_can_use("an_interval_makes_things_durable_without_a_call", options.io, options.flags))
        return;
    options.flush_interval_ms = 5;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert_int_eq(append_at(log, i % 2 ? &written : &buffered, 100, &lsn), 0);
        AWAIT(twinlog_durable_lsn(log) >= lsn);
    }
    log_close(log);
}

/* ---- under load ---------------------------------------------------------------------------------- */

#define LOADERS 6u

static struct {
    struct twinlog *log;
    _Atomic bool is_over;
    _Atomic unsigned errors;
} load;

static void *append_at_all_levels(void *argument)
{
    const struct twinlog_terms *const terms[] = { NULL, &written, &buffered };
    const unsigned number = *(const unsigned *)argument;

    for (unsigned i = 0; i < 150; i++)
        if (append_at(load.log, terms[(number + i) % 3], 20 + number * 300 + i, NULL) < 0)
            atomic_fetch_add(&load.errors, 1);
    return NULL;
}

static void *watch_order(void *argument)
{
    uint64_t before[3] = { 0 };
    (void)argument;

    while (!atomic_load(&load.is_over)) {
        const uint64_t durable = twinlog_durable_lsn(load.log);
        const uint64_t mark_written = twinlog_written_lsn(load.log);
        const uint64_t last = twinlog_last_lsn(load.log);

        if (durable > mark_written || mark_written > last || durable < before[0] ||
            mark_written < before[1] || last < before[2])
            atomic_fetch_add(&load.errors, 1);
        before[0] = durable;
        before[1] = mark_written;
        before[2] = last;
    }
    return NULL;
}

WAYS_TEST(the_watermarks_are_in_order_at_all_times, LOG_IO_KINDS)
{
    pthread_t threads[LOADERS], watcher;
    unsigned numbers[LOADERS];
    uint64_t verified = 0;

    options.buffer_bytes = 32 * KIB;
    memset(&load, 0, sizeof(load));
    load.log = log_open(&options);
    watcher = start_thread(watch_order, NULL);
    for (unsigned i = 0; i < LOADERS; i++) {
        numbers[i] = i;
        threads[i] = start_thread(append_at_all_levels, &numbers[i]);
    }
    for (unsigned i = 0; i < LOADERS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&load.is_over, true);
    pthread_join(watcher, NULL);
    ck_assert_uint_eq(atomic_load(&load.errors), 0);
    ck_assert_int_eq(twinlog_sync(load.log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(load.log), LOADERS * 150);
    log_close(load.log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &verified), 0);
    ck_assert_uint_eq(verified, LOADERS * 150);
}

/* ---- after a kill, after a crash ------------------------------------------------------------------ */

static struct twinlog_options child_options;
static _Atomic uint64_t *child_lsn;

static int write_and_die(void)
{
    struct twinlog *log;
    uint64_t lsn;

    EXPECT(twinlog_open(log_dir, &child_options, &log) == 0);
    for (unsigned i = 0; i < 30; i++) {
        EXPECT(append_at(log, i % 10 == 9 ? NULL : &written, i * 100, &lsn) == 0);
        atomic_store(child_lsn, lsn);
    }
    raise(SIGKILL);
    return 1;
}

WAYS_TEST(what_is_written_survives_the_process, LOG_IO_KINDS)
{
    child_options = options;
    child_lsn = shared_page();
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    struct twinlog *log = log_open(&options);
    ck_assert_uint_eq(twinlog_last_lsn(log), 30);
    ck_assert_uint_eq(atomic_load(child_lsn), 30);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
    munmap(child_lsn, 4096);
}

/* Where those bytes are in the first segment. */
static off_t find_in_segment(const void *needle, size_t size)
{
    int fd = open(log_segment(1), O_RDONLY);
    struct stat about;
    unsigned char *bytes, *found;

    ck_assert_int_eq(fstat(fd, &about), 0);
    bytes = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    ck_assert_ptr_ne(bytes, MAP_FAILED);
    found = memmem(bytes, (size_t)about.st_size, needle, size);
    ck_assert_ptr_nonnull(found);
    off_t offset = found - bytes;
    munmap(bytes, (size_t)about.st_size);
    close(fd);
    return offset;
}

/* The kernel may write the blocks of groups that were not synced in any order: so a crash may take the first of
 * three and leave the others. */
TEST_LOOP(a_torn_group_before_others_that_were_not_synced_is_truncated, 6)
{
    static const char *const texts[] = { "the first one", "the second one", "the third one" };
    const struct twinlog_options options = log_options(0, _i & 1 ? TWINLOG_PAD : 0);
    const int torn = _i / 2;
    struct twinlog *log = log_open(&options);
    char crashed[320], record[5000] = "";

    ck_assert_int_eq(twinlog_append(log, "durable", 7, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct twinlog_entry entry = { .data = record, .size = sizeof(record) };

        strcpy(record + 2000, texts[i]);
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &written, NULL), 0);
    }
    snprintf(crashed, sizeof(crashed), "%s-crashed", log_dir);
    copy_directory(log_dir, crashed);
    log_close(log);
    strcpy(log_dir, crashed);
    off_t offset = find_in_segment(texts[torn], strlen(texts[torn]));
    patch_file(log_segment(1), offset, "\0\0\0\0\0\0\0\0", 8);

    log = log_open(&options);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_TORN_TAIL);
    ck_assert_uint_eq(log_report.action, TWINLOG_DID_TRUNCATE);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1 + (uint64_t)torn);
    ck_assert_int_eq(twinlog_append(log, "goes on", 7, NULL), 0);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}
