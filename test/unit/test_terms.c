/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Terms: tries, deadlines, cancellations, and which call waits for which when the buffers are full.
 */
#define _GNU_SOURCE
#include "commit/inside.h"
#include "gate.h"
#include "log/handle.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#define KIB 1024u

static unsigned char bytes[4096 * KIB];

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

struct queued {
    pthread_t thread;
    struct twinlog *log;
    size_t size;
    struct twinlog_cancel cancel;
    int result;
    uint64_t lsn;
};

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
    uint64_t lsn, count = 0;

    options.buffer_bytes = 16 * KIB;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 20; i++, count++)
        AWAIT(append(log, 3000, trying(TWINLOG_LEVEL_BUFFERED), &lsn) == 0);
    ck_assert_uint_eq(lsn, count);
    for (unsigned i = 0; i < 6; i++, count++) {
        AWAIT(append(log, 7000, trying(0), &lsn) == 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
    log_close(log);
}

/* The next segment would be smaller than what the record needs. */
TEST(a_later_try_succeeds_with_a_record_that_needs_a_large_segment)
{
    struct twinlog *log = log_open(NULL);
    uint64_t lsn;

    for (unsigned i = 0; i < 3; i++)
        AWAIT(append(log, sizeof(bytes), trying(TWINLOG_LEVEL_DURABLE), &lsn) == 0);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* Nobody commits meanwhile. The group leaves the segment that it began in for the spare. */
TEST(a_try_is_not_refused_at_the_end_of_a_segment_while_a_spare_is_ready)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.flags = LOG_NO_THREADS, .buffer_bytes = 56 * KIB,
                                                .segment_bytes = 64 * KIB, .spare_segments = 1));
    uint64_t lsn, count = 20;

    AWAIT(log_stat(log).spare_segments > 0);
    for (unsigned i = 0; i < count; i++)
        ck_assert_int_eq(append(log, 1000, at_level(TWINLOG_LEVEL_DURABLE), &lsn), 0);
    for (unsigned i = 0; i < 32; i++) /* of which the segment has room for 24 */
        ck_assert_int_eq(append(log, 1000, trying(TWINLOG_LEVEL_BUFFERED), &lsn), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 0);
    count += 32;
    while (append(log, 1000, trying(TWINLOG_LEVEL_BUFFERED), &lsn) == 0)
        count++;
    ck_assert_uint_eq(twinlog_durable_lsn(log), 20);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_stat(log).rolls, 1);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &lsn), 0);
    ck_assert_uint_eq(lsn, count);
}

CASE("tries that are repeated", gate_set_up, logdir_remove);

static void append_by_tries(struct twinlog *log, size_t size)
{
    uint64_t lsn;

    AWAIT(append(log, size, trying(TWINLOG_LEVEL_BUFFERED), &lsn) == 0);
}

static _Atomic bool is_done;

static void *pause_again_and_again(void *argument)
{
    struct twinlog *log = argument;

    while (!atomic_load(&is_done))
        if (twinlog_truncate(log, UINT64_MAX - 1) != 0) /* of nothing */
            return "refused";
    return NULL;
}

TEST(a_try_that_a_truncation_refuses_succeeds_later)
{
    struct twinlog *log = log_open(NULL);
    void *wrong;

    atomic_store(&is_done, false);
    pthread_t thread = start_thread(pause_again_and_again, log);
    for (unsigned i = 0; i < 500; i++)
        append_by_tries(log, 100);
    atomic_store(&is_done, true);
    ck_assert_int_eq(pthread_join(thread, &wrong), 0);
    ck_assert_ptr_null(wrong);
    log_close(log);
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

/* A thread with a deadline does not commit. It says that another one must. */
WAYS_TEST(with_a_deadline_everything_works, LOG_IO_KINDS)
{
    uint64_t lsn;

    options.flags |= _i & 1 ? LOG_NO_THREADS : 0u;
    options.buffer_bytes = 16 * KIB;
    options.segment_bytes = 128 * KIB;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 60; i++) {
        struct twinlog_terms terms = until((enum twinlog_level)(TWINLOG_LEVEL_DURABLE - i % 3), 120000);

        for (unsigned j = 0; j < 2; j++)
            ck_assert_int_eq(append(log, 5000, terms, &lsn), 0);
        if (i % 3 == 0)
            ck_assert_uint_eq(twinlog_durable_lsn(log), lsn);
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

CASE("cancelling", gate_set_up, logdir_remove);

#define CANCELED 8u

struct canceled {
    pthread_t thread;
    struct twinlog *log;
    const struct twinlog_cancel *cancel;
    size_t size;
    int result;
    uint64_t lsn;
};

static _Atomic unsigned started;

static void *append_until_canceled(void *argument)
{
    struct canceled *one = argument;
    struct twinlog_terms terms = at_level(TWINLOG_LEVEL_DURABLE);

    terms.cancel = one->cancel;
    atomic_fetch_add(&started, 1);
    one->result = append(one->log, one->size, terms, &one->lsn);
    return NULL;
}

/* Those with a record that has a place, and those that wait for one. */
TEST_LOOP(one_token_cancels_many_calls, 2)
{
    struct twinlog *log = open_small(0);
    const uint64_t last = _i ? fill_buffers(log) : 0;
    struct canceled canceled[CANCELED];
    struct twinlog_cancel cancel = { 0 };
    uint64_t lsns = 0;

    gate_shut();
    atomic_store(&started, 0);
    for (unsigned i = 0; i < CANCELED; i++) {
        canceled[i] = (struct canceled){ .log = log, .cancel = &cancel, .size = _i ? 7000 : 100 };
        canceled[i].thread = start_thread(append_until_canceled, &canceled[i]);
    }
    AWAIT(atomic_load(&started) == CANCELED && (_i || twinlog_last_lsn(log) == CANCELED));
    ck_assert_int_eq(twinlog_cancel(log, &cancel), 0);
    for (unsigned i = 0; i < CANCELED; i++) {
        pthread_join(canceled[i].thread, NULL);
        ck_assert_int_eq(canceled[i].result, -ECANCELED);
        ck_assert_int_eq(canceled[i].lsn == 0, _i);
        lsns += canceled[i].lsn > 0;
    }
    ck_assert_uint_eq(twinlog_last_lsn(log), _i ? last : lsns);
    gate_open();
    ck_assert_int_eq(twinlog_sync(log), 0); /* what has a place becomes durable all the same */
    ck_assert_uint_eq(twinlog_durable_lsn(log), twinlog_last_lsn(log));
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

#define LARGEST (4u << 20)
#define FEW 16u

static struct twinlog *pair_log;

static void *append_largest(void *argument)
{
    static unsigned char largest[LARGEST];

    *(int *)argument = twinlog_append(pair_log, largest, sizeof(largest), NULL);
    return NULL;
}

static void *append_one(void *argument)
{
    *(int *)argument = twinlog_append(pair_log, bytes, 100, NULL);
    return NULL;
}

/* 4 MiB and small ones, one of which is being written. A record that comes meanwhile is in the next group: so no call
 * waits for more than the write that is going on and its own, whichever was there first. */
TEST_LOOP(the_largest_record_and_small_ones_wait_for_one_write_of_each_other, 2)
{
    pthread_t first, threads[FEW];
    int result = 1, results[FEW];
    uint64_t groups;

    pair_log = gate_log(&LOG_OPTIONS(.segment_bytes = 64 * KIB * KIB));
    for (unsigned i = 0; i < 3; i++) /* the first segments are small */
        append_largest(&result);
    ck_assert_int_eq(result, 0);
    groups = log_stat(pair_log).groups;
    gate_shut();
    first = start_thread(_i ? append_largest : append_one, &result);
    gate_await();
    for (unsigned i = 0; i < FEW; i++)
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, _i || i != FEW / 2 ? append_one : append_largest, &results[i]),
            0);
    AWAIT(twinlog_last_lsn(pair_log) == 4 + FEW);
    gate_open();
    ck_assert_int_eq(pthread_join(first, NULL), 0);
    ck_assert_int_eq(result, 0);
    for (unsigned i = 0; i < FEW; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_int_eq(results[i], 0);
    }
    ck_assert_uint_eq(log_stat(pair_log).groups, groups + 2);
    log_close(pair_log);
}

static void *append_queued(void *argument)
{
    struct queued *queued = argument;

    queued->result = twinlog_append(queued->log, bytes, queued->size, &queued->lsn);
    return NULL;
}

#define QUEUED 5u

TEST(the_first_to_wait_is_the_first_served)
{
    struct twinlog *log = open_small(0);
    struct queued queued[QUEUED];

    fill_buffers(log);
    for (unsigned i = 0; i < QUEUED; i++) {
        queued[i] = (struct queued){ .log = log, .size = i % 2 ? 3100 : 7500 };
        queued[i].thread = start_thread(append_queued, &queued[i]);
        AWAIT(count_line(log) == i + 1);
    }
    gate_open();
    for (unsigned i = 0; i < QUEUED; i++) {
        pthread_join(queued[i].thread, NULL);
        ck_assert_int_eq(queued[i].result, 0);
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
    for (unsigned i = 0; i < 4; i++) {
        large[i] = (struct queued){ .log = log, .size = 115 * KIB };
        large[i].thread = start_thread(append_queued, &large[i]);
    }
    for (unsigned i = 0; i < 30; i++)
        ck_assert_int_eq(append(log, 1000, i % 2 ? at_level(TWINLOG_LEVEL_DURABLE) : until(0, 120000), &lsn),
                         0);
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(large[i].thread, NULL);
        ck_assert(large[i].result == 0 || large[i].result == -ENOSPC);
        ck_assert_int_eq(large[i].result == 0, large[i].lsn > 0);
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
    return atomic_load(&log->inside) / INSIDE_OTHER;
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

static void *append_held_up(void *context)
{
    uint64_t lsn;

    ck_assert_int_eq(append(context, 100, at_level(TWINLOG_LEVEL_DURABLE), &lsn), 0);
    return NULL;
}

/* As by a truncation. Close waits for all that are counted. */
TEST(a_call_that_is_held_up_is_inside)
{
    struct twinlog *log = log_open(NULL);
    struct call visit;

    ck_assert_int_eq(twl_enter(log, INSIDE_OTHER, &visit), 0);
    twl_pause(log);
    const uint32_t before = atomic_load(&log->inside);
    pthread_t thread = start_thread(append_held_up, log);
    AWAIT(atomic_load(&log->inside) == before + INSIDE_OTHER);
    twl_resume(log);
    twl_leave(&visit);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(atomic_load(&log->inside), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 1);
    log_close(log);
}

struct held_up {
    struct twinlog *log;
    struct twinlog_cancel cancel;
    int error;
};

static void *append_held_up_until_canceled(void *context)
{
    struct held_up *held_up = context;
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    struct twinlog_terms terms = at_level(TWINLOG_LEVEL_DURABLE);

    terms.cancel = &held_up->cancel;
    held_up->error = twinlog_append_batch(held_up->log, &entry, 1, &terms, NULL);
    return NULL;
}

TEST(terms_hold_while_a_truncation_holds_up_the_call)
{
    struct twinlog *log = log_open(NULL);
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    struct twinlog_terms try = at_level(TWINLOG_LEVEL_BUFFERED), limited = at_level(TWINLOG_LEVEL_DURABLE);
    struct twinlog_request request = { .queue = NULL };
    struct held_up held_up = { .log = log };
    struct call visit;
    uint64_t lsn = 1;

    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), 0);
    ck_assert_int_eq(twl_enter(log, INSIDE_OTHER, &visit), 0);
    twl_pause(log);
    const uint32_t before = atomic_load(&log->inside);
    try.flags = TWINLOG_TRY;
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &try, &lsn), -EAGAIN);
    ck_assert_uint_eq(lsn, 0);
    try.level = TWINLOG_LEVEL_DURABLE;
    ck_assert_int_eq(twinlog_submit(log, &entry, 1, &try, &request), -EAGAIN);
    limited.deadline_ns = twinlog_deadline(1);
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &limited, &lsn), -ETIMEDOUT);
    ck_assert_int_eq(twinlog_wait(log, 2, TWINLOG_LEVEL_DURABLE, twinlog_deadline(1)), -ETIMEDOUT);
    ck_assert_int_eq(twinlog_wait(log, 1, TWINLOG_LEVEL_DURABLE, twinlog_deadline(1)), 0);
    pthread_t thread = start_thread(append_held_up_until_canceled, &held_up);
    AWAIT(atomic_load(&log->inside) == before + INSIDE_OTHER);
    ck_assert_int_eq(twinlog_cancel(log, &held_up.cancel), 0);
    pthread_join(thread, NULL);
    ck_assert_int_eq(held_up.error, -ECANCELED);
    ck_assert_uint_eq(atomic_load(&log->inside), before);
    twl_resume(log);
    twl_leave(&visit);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1);
    log_close(log);
}
