/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terms: tries, deadlines, cancellations, and which call waits for which when the buffers are full.
 */
#define _GNU_SOURCE
#include "commit/inside.h"
#include "gate.h"
#include "hooked.h"
#include "log/handle.h"
#include "logdir.h"
#include "suites.h"
#include "unscanned.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#define KIB 1024u

#define LARGEST_BYTES (4096 * KIB)
UNSCANNED_BYTES(bytes, LARGEST_BYTES)

static int append(struct twinlog *log, size_t size, struct twinlog_terms terms, uint64_t *ret_lsn)
{
    const struct twinlog_entry entry = { .data = bytes, .size = size };

    return twinlog_append_batch(log, &entry, 1, &terms, ret_lsn);
}

static struct twinlog_terms at_level(enum twinlog_level level)
{
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = level);

    return terms;
}

static struct twinlog_terms trying(enum twinlog_level level)
{
    struct twinlog_terms terms = at_level(level);

    terms.flags = TWINLOG_TRY;
    return terms;
}

static struct twinlog_terms until(enum twinlog_level level, uint32_t timeout_ms)
{
    struct twinlog_terms terms = at_level(level);

    terms.deadline_ns = twinlog_deadline(timeout_ms);
    return terms;
}

/* Its disk is behind the gate, its buffers are small. */
static struct twinlog *open_small(uint32_t flags)
{
    return gate_log(&LOG_OPTIONS(.flags = TWINLOG_BUFFERED | flags, .buffer_bytes = 16 * KIB));
}

/* Both buffers: one hangs at the gate, the other is full. Returns the last LSN. */
static uint64_t fill_buffers(struct twinlog *log)
{
    uint64_t lsn, last = 0;

    gate_shut();
    ck_assert_int_eq(append(log, 6000, until(TWINLOG_LEVEL_DURABLE, 1), &lsn), -ETIMEDOUT);
    gate_await();
    while (append(log, 3000, trying(TWINLOG_LEVEL_BUFFERED), &lsn) == 0)
        last = lsn;
    ck_assert_uint_gt(last, 1);
    return last;
}

/* An append in a thread of its own. */
struct queued {
    pthread_t thread;
    struct twinlog *log;
    size_t size;
    const struct twinlog_cancel *cancel;
    int result;
    uint64_t lsn;
};

static void *append_queued(void *argument)
{
    struct queued *queued = argument;
    struct twinlog_terms terms = at_level(TWINLOG_LEVEL_DURABLE);

    terms.cancel = queued->cancel;
    queued->result = append(queued->log, queued->size, terms, &queued->lsn);
    return NULL;
}

static void start_append(struct queued *queued, struct twinlog *log, size_t size,
                         const struct twinlog_cancel *cancel)
{
    *queued = (struct queued){ .log = log, .size = size, .cancel = cancel, .result = 1 };
    queued->thread = start_thread(append_queued, queued);
}

static int join_append(struct queued *queued)
{
    ck_assert_int_eq(pthread_join(queued->thread, NULL), 0);
    return queued->result;
}

/* How many wait for room. */
static unsigned count_line(struct twinlog *log)
{
    struct commit *commit = log->commit;
    unsigned count = 0;

    twl_mutex_lock(&commit->lock);
    for (const struct waiter *waiter = commit->first_waiter; waiter; waiter = waiter->next)
        count++;
    twl_mutex_unlock(&commit->lock);
    return count;
}

CASE("tries", gate_set_up, logdir_remove);

TEST(a_try_does_not_wait_and_leaves_nothing_behind)
{
    struct twinlog *log = open_small(0);
    const uint64_t last = fill_buffers(log);
    uint64_t lsn = 77;

    ck_assert_int_eq(append(log, 6000, trying(TWINLOG_LEVEL_DURABLE), &lsn), -EAGAIN);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), last);

    gate_open();
    AWAIT(append(log, 6000, trying(TWINLOG_LEVEL_DURABLE), &lsn) == 0);
    ck_assert_uint_eq(lsn, last + 1);
    ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
    log_close(log);
}

/* No call waits for anything: still a try that found no room has some made. */
WAYS_TEST(a_later_try_succeeds, LOG_IO_KINDS)
{
    uint64_t lsn = 0;

    options.buffer_bytes = 16 * KIB;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 20; i++)
        AWAIT(append(log, 3000, trying(TWINLOG_LEVEL_BUFFERED), &lsn) == 0);
    ck_assert_uint_eq(lsn, 20);
    for (unsigned i = 0; i < 6; i++)
        AWAIT(append(log, 7000, trying(0), &lsn) == 0);
    ck_assert_uint_eq(lsn, 26);
    ck_assert_int_eq(twinlog_sync(log), 0);
    log_close(log);
}

/* The next segment would be smaller than what the record needs. */
TEST(a_later_try_succeeds_with_a_record_that_needs_a_large_segment)
{
    struct twinlog *log = log_open(NULL);
    uint64_t lsn;

    for (unsigned i = 0; i < 3; i++)
        AWAIT(append(log, LARGEST_BYTES, trying(TWINLOG_LEVEL_DURABLE), &lsn) == 0);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* Nobody commits meanwhile. The group leaves the segment that it began in for the spare. */
TEST(a_try_is_not_refused_at_the_end_of_a_segment_while_a_spare_is_ready)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.flags = LOG_NO_THREADS, .buffer_bytes = 56 * KIB,
                                                .segment_bytes = 64 * KIB, .spare_segments = 1));
    uint64_t lsn, count;

    AWAIT(log_stat(log).spare_segments > 0);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(append(log, 1000, at_level(TWINLOG_LEVEL_DURABLE), &lsn), 0);
    for (unsigned i = 0; i < 32; i++) /* of which the segment has room for 24 */
        ck_assert_int_eq(append(log, 1000, trying(TWINLOG_LEVEL_BUFFERED), &lsn), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 0);

    count = 20 + 32;
    while (append(log, 1000, trying(TWINLOG_LEVEL_BUFFERED), &lsn) == 0)
        count++;
    ck_assert_uint_eq(twinlog_durable_lsn(log), 20);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &lsn), 0);
    ck_assert_uint_eq(lsn, count);
}

CASE("deadlines", gate_set_up, logdir_remove);

TEST(a_deadline_is_kept_while_the_disk_hangs)
{
    struct twinlog *log = open_small(0);
    uint64_t lsn = 0, second = 0;

    gate_shut();
    ck_assert_int_eq(append(log, 100, until(TWINLOG_LEVEL_DURABLE, 5), &lsn), -ETIMEDOUT);
    ck_assert_uint_eq(lsn, 1);
    gate_await();
    ck_assert_int_eq(append(log, 100, until(TWINLOG_LEVEL_WRITTEN, 5), &second), -ETIMEDOUT);
    ck_assert_uint_eq(second, 2);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, twinlog_deadline(5)), -ETIMEDOUT);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 0);

    gate_open();
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, twinlog_deadline(120000)), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 2);
    log_close(log);
}

TEST(with_full_buffers_nothing_happens_by_the_deadline)
{
    struct twinlog *log = open_small(0);
    const uint64_t last = fill_buffers(log);

    for (int level = TWINLOG_LEVEL_OF_MODE; level <= TWINLOG_LEVEL_DURABLE; level++) {
        uint64_t lsn = 77;

        ck_assert_int_eq(append(log, 6000, until((enum twinlog_level)level, 5), &lsn), -ETIMEDOUT);
        ck_assert_uint_eq(lsn, 0);
    }
    ck_assert_uint_eq(twinlog_last_lsn(log), last);
    gate_open();
    ck_assert_int_eq(twinlog_sync(log), 0);
    log_close(log);
}

TEST(a_deadline_is_kept_while_a_segment_is_made)
{
    struct twinlog *log = open_small(0);
    uint64_t lsn = 0;
    int rc;

    atomic_store(&gate.is_shut_for_files, true);
    /* the first segment has 512 KiB; a slow disk may make one late that has a place */
    do {
        rc = append(log, 7000, until(TWINLOG_LEVEL_WRITTEN, 100), &lsn);
        ck_assert_uint_lt(lsn, 100);
    } while (lsn > 0);
    ck_assert_int_eq(rc, -ETIMEDOUT);
    ck_assert_int_eq(append(log, 7000, trying(TWINLOG_LEVEL_DURABLE), &lsn), -EAGAIN);
    gate_open();
    ck_assert_int_eq(append(log, 7000, until(TWINLOG_LEVEL_DURABLE, 120000), &lsn), 0);
    log_close(log);
}

/* A truncation has it while it waits for those that are inside, and they may wait for a segment of the thread that sees
 * to what is kept. */
TEST(a_segment_is_made_while_another_thread_has_the_head)
{
    uint64_t lsn;
    const struct twinlog_options options =
        LOG_OPTIONS(.buffer_bytes = 16 * KIB, .segment_bytes = 64 * KIB, .keep_bytes = 1 << 20);

    struct twinlog *log = log_open(&options);
    twl_mutex_lock(&log->head_lock);
    for (unsigned i = 0; i < 60; i++)
        ck_assert_int_eq(append(log, 5000, until(TWINLOG_LEVEL_DURABLE, 120000), &lsn), 0);
    twl_mutex_unlock(&log->head_lock);
    ck_assert_uint_gt(log_stat(log).rolls, 3);
    log_close(log);
}

/* With and without a thread of the log that commits. */
static const struct {
    const char *name;
    uint32_t io, flags, no_threads;
} ways_with_deadlines[] = {
    { "auto", TWINLOG_IO_AUTO, 0, 0 },
    { "uring, buffered, without a thread", TWINLOG_IO_URING, TWINLOG_BUFFERED, LOG_NO_THREADS },
    { "uring-linked, padded", TWINLOG_IO_URING_LINKED, TWINLOG_PAD, 0 },
    { "dsync, buffered, padded, without a thread", TWINLOG_IO_DSYNC, TWINLOG_BUFFERED | TWINLOG_PAD,
      LOG_NO_THREADS },
    { "fdatasync", TWINLOG_IO_FDATASYNC, 0, 0 },
};

static void append_two(struct twinlog *log, enum twinlog_level level, uint64_t *ret_lsn)
{
    const struct twinlog_terms terms = until(level, 120000);

    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(append(log, 5000, terms, ret_lsn), 0);
}

/* A thread with a deadline does not commit. It says that another one must. */
TEST_EACH(with_a_deadline_everything_works, ways_with_deadlines)
{
    uint64_t lsn;

    if (!log_can_use("with_a_deadline_everything_works", row->io, row->flags))
        return;
    struct twinlog *log = log_open(&LOG_OPTIONS(.io = row->io, .flags = row->flags | row->no_threads,
                                                .buffer_bytes = 16 * KIB, .segment_bytes = 128 * KIB));
    for (unsigned i = 0; i < 20; i++) {
        append_two(log, TWINLOG_LEVEL_DURABLE, &lsn);
        ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
        append_two(log, TWINLOG_LEVEL_WRITTEN, &lsn);
        append_two(log, TWINLOG_LEVEL_BUFFERED, &lsn);
    }
    ck_assert_uint_gt(log_stat(log).rolls, 2);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* The committer leads for it, though the record itself asked for nothing. */
TEST(a_wait_with_a_deadline_has_the_record_written)
{
    struct twinlog *log = open_small(0);

    ck_assert_int_eq(append(log, 10, at_level(TWINLOG_LEVEL_BUFFERED), NULL), 0);
    ck_assert_int_eq(twinlog_wait(log, 1, TWINLOG_LEVEL_WRITTEN, twinlog_deadline(20000)), 0);
    log_close(log);
}

static void *append_in_time(void *argument)
{
    struct queued *queued = argument;

    queued->result = append(queued->log, queued->size, until(TWINLOG_LEVEL_DURABLE, 60000), &queued->lsn);
    return NULL;
}

/* No thread could be started when the call put its record, so it would have led. While it waits for the leader before
 * it, another call brings a committer. */
TEST(a_deadline_is_kept_where_the_committer_comes_late)
{
    struct twinlog *log = gate_log(&LOG_OPTIONS(.flags = TWINLOG_BUFFERED | LOG_NO_THREADS));
    struct queued leader, late = { .log = log, .size = 100 };

    gate_shut();
    start_append(&leader, log, 100, NULL);
    gate_await();
    late.thread = start_thread(append_in_time, &late);
    AWAIT(twinlog_last_lsn(log) == 2);
    log->io->has_engine_threads = true;
    ck_assert_int_eq(twl_commit_need_committer(log->commit), 0);

    gate_open();
    ck_assert_int_eq(join_append(&leader), 0);
    ck_assert_int_eq(join_append(&late), 0);
    log_close(log);
}

/* There is no committer, and the call gives up before it leads. Nobody else has a record. */
TEST(a_record_is_flushed_though_its_call_gave_up)
{
    struct twinlog_terms terms = at_level(TWINLOG_LEVEL_DURABLE);

    log_close(log_open(NULL)); /* makes the directory */
    struct io *io = log_io(true);
    io->has_threads = io->has_engine_threads = false;
    struct twinlog *log = log_on(io, &LOG_OPTIONS(.flags = TWINLOG_BUFFERED, .flush_interval_ms = 1));
    terms.deadline_ns = 1; /* long ago */
    ck_assert_int_eq(append(log, 100, terms, NULL), -ETIMEDOUT);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1);

    AWAIT(twl_commit_turn(log->commit));
    ck_assert_uint_eq(twinlog_durable_lsn(log), 1);
    log_close(log);
}

CASE("cancelling", gate_set_up, logdir_remove);

#define CANCELED 8u

static void start_calls(struct queued calls[CANCELED], struct twinlog *log, size_t size,
                        const struct twinlog_cancel *cancel)
{
    for (unsigned i = 0; i < CANCELED; i++)
        start_append(&calls[i], log, size, cancel);
}

/* What has a place becomes durable all the same. */
static void expect_all_durable(struct twinlog *log)
{
    gate_open();
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), twinlog_last_lsn(log));
}

TEST(one_token_cancels_many_calls_whose_records_have_a_place)
{
    struct twinlog *log = open_small(0);
    struct queued calls[CANCELED];
    struct twinlog_cancel cancel = { 0 };

    gate_shut();
    start_calls(calls, log, 100, &cancel);
    AWAIT(twinlog_last_lsn(log) == CANCELED);
    ck_assert_int_eq(twinlog_cancel(log, &cancel), 0);
    for (unsigned i = 0; i < CANCELED; i++) {
        ck_assert_int_eq(join_append(&calls[i]), -ECANCELED);
        ck_assert_uint_gt(calls[i].lsn, 0);
    }

    ck_assert_uint_eq(twinlog_last_lsn(log), CANCELED);
    expect_all_durable(log);
    log_close(log);
}

TEST(one_token_cancels_many_calls_that_wait_for_room)
{
    struct twinlog *log = open_small(0);
    const uint64_t last = fill_buffers(log);
    struct queued calls[CANCELED];
    struct twinlog_cancel cancel = { 0 };

    gate_shut();
    start_calls(calls, log, 7000, &cancel);
    AWAIT(count_line(log) == CANCELED);
    ck_assert_int_eq(twinlog_cancel(log, &cancel), 0);
    for (unsigned i = 0; i < CANCELED; i++) {
        ck_assert_int_eq(join_append(&calls[i]), -ECANCELED);
        ck_assert_uint_eq(calls[i].lsn, 0);
    }

    ck_assert_uint_eq(twinlog_last_lsn(log), last);
    expect_all_durable(log);
    log_close(log);
}

TEST(a_canceled_token_stays_canceled)
{
    struct twinlog *log = open_small(0);
    struct twinlog_cancel cancel = { 0 }, other = { 0 };
    struct twinlog_terms terms = at_level(TWINLOG_LEVEL_DURABLE);
    uint64_t lsn;

    ck_assert_int_eq(twinlog_cancel(log, NULL), -EINVAL);
    terms.cancel = &cancel;
    ck_assert_int_eq(append(log, 10, terms, &lsn), 0);
    ck_assert_int_eq(twinlog_cancel(log, &cancel), 0);
    gate_shut();
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(append(log, 10, terms, &lsn), -ECANCELED);
    gate_open();
    terms.cancel = &other;
    ck_assert_int_eq(append(log, 10, terms, &lsn), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), twinlog_last_lsn(log));
    log_close(log);
}

CASE("one behind the other", gate_set_up, logdir_remove);

#define FEW 16u

/* 4 MiB and small ones, one of which is being written. A record that comes meanwhile is in the next group: so no call
 * waits for more than the write that is going on and its own, whichever was there first. */
static const struct {
    const char *name;
    size_t first_bytes;  /* of the record that is being written */
    size_t middle_bytes; /* of the one in the middle of those that come meanwhile; the others are small */
} largest_records[] = {
    { "a small one is being written", 100, LARGEST_BYTES },
    { "the largest one is being written", LARGEST_BYTES, 100 },
};

TEST_EACH(the_largest_record_and_small_ones_wait_for_one_write_of_each_other, largest_records)
{
    struct queued first, others[FEW];

    struct twinlog *log = gate_log(&LOG_OPTIONS(.segment_bytes = 64 * KIB * KIB));
    for (unsigned i = 0; i < 3; i++) /* the first segments are small */
        ck_assert_int_eq(twinlog_append(log, bytes, LARGEST_BYTES, NULL), 0);
    const uint64_t groups = log_stat(log).groups;

    gate_shut();
    start_append(&first, log, row->first_bytes, NULL);
    gate_await();
    for (unsigned i = 0; i < FEW; i++) {
        const bool is_middle = i == FEW / 2;
        start_append(&others[i], log, is_middle ? row->middle_bytes : 100, NULL);
    }
    AWAIT(twinlog_last_lsn(log) == 4 + FEW);

    gate_open();
    ck_assert_int_eq(join_append(&first), 0);
    for (unsigned i = 0; i < FEW; i++)
        ck_assert_int_eq(join_append(&others[i]), 0);
    ck_assert_uint_eq(log_stat(log).groups, groups + 2);
    log_close(log);
}

#define QUEUED 5u

/* One that is woken may look before those in front of it have their places, or behind that. */
TEST_LOOP(the_first_to_wait_is_the_first_served, 25)
{
    static const size_t sizes[QUEUED] = { 7500, 3100, 7500, 3100, 7500 };
    struct twinlog *log = open_small(0);
    struct queued queued[QUEUED];

    fill_buffers(log);
    for (unsigned i = 0; i < QUEUED; i++) {
        start_append(&queued[i], log, sizes[i], NULL);
        AWAIT(count_line(log) == i + 1);
    }
    gate_open();
    for (unsigned i = 0; i < QUEUED; i++) {
        ck_assert_int_eq(join_append(&queued[i]), 0);
        ck_assert(i == 0 || queued[i].lsn > queued[i - 1].lsn);
    }
    log_close(log);
}

/* On a disk that is full one record does not fit, and gets its error; the others still do. */
TEST(one_that_is_refused_does_not_hold_up_the_others)
{
    struct queued large[4];
    uint64_t lsn;

    struct twinlog *log = gate_log(&LOG_OPTIONS(.flags = TWINLOG_BUFFERED, .buffer_bytes = 128 * KIB));
    atomic_store(&gate.largest_file, 4096);
    for (unsigned i = 0; i < 3; i++) /* 512 KiB in all */
        ck_assert_int_eq(append(log, 100 * KIB, at_level(TWINLOG_LEVEL_DURABLE), &lsn), 0);
    for (unsigned i = 0; i < 4; i++)
        start_append(&large[i], log, 115 * KIB, NULL);
    for (unsigned i = 0; i < 15; i++) {
        ck_assert_int_eq(append(log, 1000, until(0, 120000), &lsn), 0);
        ck_assert_int_eq(append(log, 1000, at_level(TWINLOG_LEVEL_DURABLE), &lsn), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        const int rc = join_append(&large[i]);
        ck_assert(rc == 0 || rc == -ENOSPC);
        ck_assert_int_eq(rc == 0, large[i].lsn > 0);
    }

    ck_assert_int_eq(append(log, 115 * KIB, until(0, 120000), &lsn), -ENOSPC);
    ck_assert_uint_eq(lsn, 0);
    atomic_store(&gate.largest_file, UINT64_MAX);
    ck_assert_int_eq(append(log, 115 * KIB, until(0, 120000), &lsn), 0);
    log_close(log);
}

CASE("tries", gate_set_up, logdir_remove);

TEST(a_try_hears_that_the_disk_is_full)
{
    uint64_t lsn;
    int rc;

    struct twinlog *log = gate_log(&LOG_OPTIONS(.flags = TWINLOG_BUFFERED, .buffer_bytes = 128 * KIB));
    atomic_store(&gate.largest_file, 4096);
    AWAIT((rc = append(log, 115 * KIB, trying(0), &lsn)) != -EAGAIN && rc != 0);
    ck_assert_int_eq(rc, -ENOSPC);
    ck_assert_uint_eq(lsn, 0);
    atomic_store(&gate.largest_file, UINT64_MAX);
    AWAIT((rc = append(log, 115 * KIB, trying(0), &lsn)) == 0);
    ck_assert_uint_eq(lsn, twinlog_last_lsn(log));
    log_close(log);
}

CASE("inside", gate_set_up, logdir_remove);

#define CALLS 1100u

/* While the head is locked, it waits. */
static void *trim_nothing(void *context)
{
    twinlog_trim(context, &WITH_SIZE(trim_options, .before_lsn = 1), NULL);
    return NULL;
}

static uint32_t others_inside(struct twinlog *log)
{
    return OTHERS_IN(atomic_load(&log->inside));
}

TEST(a_thousand_calls_hold_up_no_other)
{
    static pthread_t threads[CALLS];
    struct twinlog *log = log_open(NULL);

    pthread_attr_t attributes;
    uint64_t lsn;

    twl_mutex_lock(&log->head_lock);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * KIB);
    for (unsigned i = 0; i < CALLS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], &attributes, trim_nothing, log), 0);
    pthread_attr_destroy(&attributes);
    AWAIT(others_inside(log) == CALLS);

    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(append(log, 100, at_level(TWINLOG_LEVEL_DURABLE), &lsn), 0);
    twl_mutex_unlock(&log->head_lock);
    for (unsigned i = 0; i < CALLS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_int_eq(append(log, 100, at_level(TWINLOG_LEVEL_DURABLE), &lsn), 0);
    log_close(log);
}

/* ---- a truncation beside calls that come back at once ---------------------------------------------- */

#define POLLERS 64u

static _Atomic bool pollers_must_end;

/* Each call returns at once, also while the truncation holds it up. */
static void *poll_without_a_pause(void *context)
{
    struct twinlog *log = context;
    uint64_t lsn;

    while (!atomic_load(&pollers_must_end))
        (void)append(log, 1, trying(TWINLOG_LEVEL_BUFFERED), &lsn);
    return NULL;
}

/* What counts a newcomer before it looks lets the truncation wait for ever: then the suite ends by its time limit. */
TEST(a_truncation_ends_beside_threads_that_come_back_at_once)
{
    static pthread_t threads[POLLERS];
    struct twinlog *log = log_open(NULL);

    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), 0);
    atomic_store(&pollers_must_end, false);
    for (unsigned i = 0; i < POLLERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, poll_without_a_pause, log), 0);

    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(twinlog_truncate(log, 1), 0);
    ck_assert_int_eq(twinlog_reset(log, 1000), 0);

    atomic_store(&pollers_must_end, true);
    for (unsigned i = 0; i < POLLERS; i++)
        pthread_join(threads[i], NULL);
    log_close(log);
}

TEST(statistics_and_timings_do_not_wait_for_a_truncation)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct call visit;

    ck_assert_int_eq(twl_enter(log, INSIDE_OTHER, &visit), 0);
    twl_pause(log);
    ck_assert_int_eq(twinlog_stat(log, &stat), 0);
    ck_assert_int_eq(twinlog_timings(log, &timings), 0);
    twl_resume(log);
    twl_leave(&visit);
    log_close(log);
}

/* A log with one record, paused as by a truncation. */
static struct twinlog *open_paused(struct call *visit)
{
    struct twinlog *log = log_open(NULL);

    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), 0);
    ck_assert_int_eq(twl_enter(log, INSIDE_OTHER, visit), 0);
    twl_pause(log);
    return log;
}

static void close_paused(struct twinlog *log, struct call *visit)
{
    twl_resume(log);
    twl_leave(visit);
    log_close(log);
}

TEST(a_try_does_not_wait_for_a_truncation)
{
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    const struct twinlog_terms try = trying(TWINLOG_LEVEL_DURABLE);
    struct twinlog_request request = { .queue = NULL };
    struct call visit;
    struct twinlog *log = open_paused(&visit);
    uint64_t lsn = 1;

    ck_assert_int_eq(append(log, 1, trying(TWINLOG_LEVEL_BUFFERED), &lsn), -EAGAIN);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_submit(log, &entry, 1, &try, &request), -EAGAIN);
    close_paused(log, &visit);
}

TEST(a_deadline_holds_while_a_truncation_holds_up_the_call)
{
    struct call visit;
    struct twinlog *log = open_paused(&visit);
    uint64_t lsn = 1;

    ck_assert_int_eq(append(log, 1, until(TWINLOG_LEVEL_DURABLE, 1), &lsn), -ETIMEDOUT);
    ck_assert_uint_eq(lsn, 0);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, twinlog_deadline(1)), -ETIMEDOUT);
    ck_assert_int_eq(twinlog_wait(log, 1, TWINLOG_LEVEL_DURABLE, twinlog_deadline(1)), 0); /* it is durable */
    close_paused(log, &visit);
}

/* Close waits for all that are counted. */
TEST(terms_hold_while_a_truncation_holds_up_a_call_which_is_inside)
{
    struct twinlog_cancel cancel = { 0 };
    struct queued patient, canceled;
    struct call visit;
    struct twinlog *log = open_paused(&visit);

    start_append(&patient, log, 100, NULL);
    AWAIT(others_inside(log) == 2);
    start_append(&canceled, log, 100, &cancel);
    AWAIT(others_inside(log) == 3);
    ck_assert_int_eq(twinlog_cancel(log, &cancel), 0);
    ck_assert_int_eq(join_append(&canceled), -ECANCELED);
    ck_assert_uint_eq(others_inside(log), 2);

    twl_resume(log);
    twl_leave(&visit);
    ck_assert_int_eq(join_append(&patient), 0);
    ck_assert_uint_eq(atomic_load(&log->inside), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 2);
    log_close(log);
}
