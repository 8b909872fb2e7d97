/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reservations: records that are written in place. Committed and aborted in any order by any thread, given up when
 * nobody comes, and harmless afterwards.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include "log/handle.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define KIB 1024u
#define MOST_OPEN 256u

static const struct twinlog_terms written = { sizeof(written), 0, TWINLOG_LEVEL_WRITTEN, 0, 0, NULL };
static const struct twinlog_terms buffered = { sizeof(buffered), 0, TWINLOG_LEVEL_BUFFERED, 0, 0, NULL };
static const struct twinlog_terms trying = { sizeof(trying), TWINLOG_TRY, TWINLOG_LEVEL_DURABLE, 0, 0, NULL };

static struct twinlog_reservation reserve(struct twinlog *log, size_t size)
{
    const struct twinlog_entry entry = { .size = size, .tag = (uint16_t)size, .type = 9 };
    struct twinlog_reservation place = { 0 };

    ck_assert_int_eq(twinlog_reserve(log, &entry, NULL, &place), 0);
    ck_assert_uint_eq((uintptr_t)place.data % 8, 0);
    return place;
}

static void fill(const struct twinlog_reservation *place, size_t size)
{
    memset(place->data, (int)(place->lsn % 251), size);
}

/* Records that fill() has made; *ret_voids gets the LSNs that are missing. */
static uint64_t count_filled(uint64_t *ret_voids)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;
    uint64_t count = 0, last = 0;
    int rc;

    while ((rc = twinlog_reader_next(reader, &record)) > 0) {
        const unsigned char *bytes = record.data;

        last = record.lsn;
        count++;
        if (record.type != 9)
            continue;
        ck_assert_uint_eq(record.size, record.tag);
        for (size_t i = 0; i < record.size; i++)
            ck_assert_uint_eq(bytes[i], record.lsn % 251);
    }
    ck_assert_int_eq(rc, 0);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
    *ret_voids = last - count;
    return count;
}

CASE("settled", gate_set_up, logdir_remove);

WAYS_TEST(a_reservation_becomes_a_record, LOG_WAYS)
{
    const struct twinlog_terms *const terms[] = { NULL, &written, &buffered };
    struct twinlog *log = log_open(&options);
    uint64_t fillers;

    for (unsigned i = 0; i < 9; i++) {
        struct twinlog_reservation place = reserve(log, i * 333);

        ck_assert_uint_eq(place.lsn, i + 1);
        ck_assert_uint_eq(twinlog_last_lsn(log), i + 1);
        fill(&place, i * 333);
        ck_assert_int_eq(twinlog_reservation_commit(log, &place, terms[i % 3]), 0);
        if (i % 3 == 0)
            ck_assert_uint_eq(twinlog_durable_lsn(log), i + 1);
        if (i % 3 < 2)
            ck_assert_uint_ge(twinlog_written_lsn(log), i + 1);
    }
    log_close(log);
    ck_assert_uint_eq(count_filled(&fillers), 9);
    ck_assert_uint_eq(fillers, 0);
}

struct settler {
    struct twinlog *log;
    pthread_t thread;
    struct twinlog_reservation *places;
    unsigned count, errors;
};

/* The last one first; every third is aborted. */
static void *settle_backwards(void *argument)
{
    const struct twinlog_terms *const terms[] = { &buffered, &written, NULL };
    struct settler *settler = argument;

    for (unsigned i = settler->count; i-- > 0;) {
        struct twinlog_reservation *place = &settler->places[i];

        if (place->lsn % 3 == 0) {
            settler->errors += twinlog_reservation_abort(settler->log, place) != 0;
            continue;
        }
        fill(place, 100);
        /* one that others of this thread come before may not be waited for */
        settler->errors +=
            twinlog_reservation_commit(settler->log, place, i > 0 ? &buffered : terms[place->lsn % 3]) != 0;
        settler->errors += twinlog_reservation_commit(settler->log, place, NULL) != -EINVAL;
    }
    return NULL;
}

#define SETTLERS 4u
#define EACH 40u

WAYS_TEST(other_threads_may_settle_in_any_order, LOG_IO_KINDS)
{
    struct twinlog_reservation places[SETTLERS][EACH];
    struct settler settlers[SETTLERS];
    struct twinlog *log = log_open(&options);
    uint64_t fillers;

    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < SETTLERS * EACH; i++)
            places[i % SETTLERS][i / SETTLERS] = reserve(log, 100);
        for (unsigned i = 0; i < SETTLERS; i++) {
            settlers[i] = (struct settler){ .log = log, .places = places[i], .count = EACH };
            settlers[i].thread = start_thread(settle_backwards, &settlers[i]);
        }
        ck_assert_int_eq(twinlog_sync(log), 0);
        for (unsigned i = 0; i < SETTLERS; i++) {
            ck_assert_int_eq(pthread_join(settlers[i].thread, NULL), 0);
            ck_assert_uint_eq(settlers[i].errors, 0);
        }
        ck_assert_uint_eq(twinlog_durable_lsn(log), (round + 1) * SETTLERS * EACH);
    }
    ck_assert_uint_eq(log_stat(log).fillers, 4 * SETTLERS * EACH / 3);
    log_close(log);
    ck_assert_uint_eq(count_filled(&fillers), 4 * SETTLERS * EACH - 4 * SETTLERS * EACH / 3);
}

TEST(what_is_no_reservation_is_refused)
{
    struct twinlog *log = log_open(NULL);
    struct twinlog_reservation place = reserve(log, 10), other = place, untouched = { 0 };
    struct twinlog_entry entry = { .size = 4 * KIB * KIB + 1 };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    char byte;

    ck_assert_int_eq(twinlog_reserve(log, &entry, NULL, &untouched), -EMSGSIZE);
    ck_assert_int_eq(twinlog_reserve(log, NULL, NULL, &untouched), -EINVAL);
    entry = (struct twinlog_entry){ .data = &byte, .size = 1 };
    ck_assert_int_eq(twinlog_reserve(log, &entry, NULL, &untouched), -EINVAL);
    ck_assert_ptr_null(untouched.data);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1);

    other.handle++;
    ck_assert_int_eq(twinlog_reservation_commit(log, &other, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reservation_abort(log, &other), -EINVAL);
    other = place;
    other.lsn++;
    ck_assert_int_eq(twinlog_reservation_commit(log, &other, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_reservation_commit(log, NULL, NULL), -EINVAL);
    terms.flags = 8;
    ck_assert_int_eq(twinlog_reservation_commit(log, &place, &terms), -EINVAL); /* and it is still open */
    fill(&place, 10);
    ck_assert_int_eq(twinlog_reservation_commit(log, &place, NULL), 0);
    ck_assert_int_eq(twinlog_reservation_abort(log, &place), -EINVAL);
    log_close(log);
}

TEST(at_most_256_are_open)
{
    struct twinlog_reservation places[MOST_OPEN], more;
    struct twinlog *log = log_open(NULL);
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    struct twinlog_entry entry = { .size = 10 };
    uint64_t fillers;

    for (unsigned i = 0; i < MOST_OPEN; i++)
        places[i] = reserve(log, 10);
    ck_assert_int_eq(twinlog_reserve(log, &entry, &trying, &more), -EAGAIN);
    terms.deadline_ns = twinlog_deadline(10);
    ck_assert_int_eq(twinlog_reserve(log, &entry, &terms, &more), -ETIMEDOUT);
    ck_assert_uint_eq(twinlog_last_lsn(log), MOST_OPEN);
    ck_assert_int_eq(twinlog_reservation_abort(log, &places[100]), 0);
    ck_assert_int_eq(twinlog_reserve(log, &entry, &trying, &places[100]), 0);
    for (unsigned i = 0; i < MOST_OPEN; i++)
        ck_assert_int_eq(twinlog_reservation_abort(log, &places[i]), 0);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_stat(log).fillers, MOST_OPEN + 1);
    log_close(log);
    ck_assert_uint_eq(count_filled(&fillers), 0);
}

static void *reserve_and_commit(void *argument)
{
    struct settler *settler = argument;
    const struct twinlog_entry entry = { .size = 100, .tag = 100, .type = 9 };

    settler->errors += twinlog_reserve(settler->log, &entry, NULL, &settler->places[0]) != 0;
    fill(&settler->places[0], 100);
    settler->errors += twinlog_reservation_commit(settler->log, &settler->places[0], &buffered) != 0;
    return NULL;
}

static void *settle_during_a_cut(void *argument)
{
    const struct settler *settler = argument;
    uint64_t began_ns = 0;

    while (!(atomic_load(&settler->log->inside) >> 30) && still_in_time(&began_ns))
        continue;
    return settle_backwards(argument);
}

/* It lets in calls that settle, and waits for one that waits for a free one. */
TEST(a_truncation_waits_for_open_reservations)
{
    struct twinlog_reservation places[MOST_OPEN], last;
    struct twinlog *log = log_open(NULL);
    struct settler one = { .log = log, .places = &last };
    struct settler all = { .log = log, .places = places, .count = MOST_OPEN };

    for (unsigned i = 0; i < MOST_OPEN; i++)
        places[i] = reserve(log, 100);
    one.thread = start_thread(reserve_and_commit, &one);
    all.thread = start_thread(settle_during_a_cut, &all);
    ck_assert_int_eq(twinlog_truncate(log, 5), 0);
    pthread_join(one.thread, NULL);
    pthread_join(all.thread, NULL);
    ck_assert_uint_eq(one.errors + all.errors, 0);
    ck_assert_int_eq(twinlog_truncate(log, 5), 0); /* the one may have come behind the first truncation */
    ck_assert_uint_eq(twinlog_last_lsn(log), 5);
    ck_assert_int_eq(twinlog_append(log, "six", 3, NULL), 0);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

CASE("given up", gate_set_up, logdir_remove);

static struct {
    _Atomic unsigned abandoned;
    _Atomic uint64_t lsn;
} seen;

static void observe(void *context, const struct twinlog_event *event)
{
    (void)context;
    if (event->kind == TWINLOG_EVENT_ABANDONED) {
        atomic_store(&seen.lsn, event->first_lsn);
        atomic_fetch_add(&seen.abandoned, 1);
    }
}

static void expect_impatience(struct twinlog_options *options)
{
    options->reserve_timeout_ms = 20;
    options->observe = observe;
    options->buffer_bytes = 32 * KIB;
    options->segment_bytes = 256 * KIB;
    memset(&seen, 0, sizeof(seen));
}

WAYS_TEST(one_that_is_never_settled_becomes_a_filler, LOG_IO_KINDS)
{
    struct twinlog_reservation lost, good;
    uint64_t fillers, lsn;

    expect_impatience(&options);
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 4; i++) {
        good = reserve(log, 500);
        lost = reserve(log, 700);
        fill(&good, 500);
        memset(lost.data, 'x', 300);
        ck_assert_int_eq(twinlog_reservation_commit(log, &good, &buffered), 0);
        ck_assert_int_eq(twinlog_append(log, "behind", 6, &lsn), 0);
        ck_assert_uint_eq(lsn, lost.lsn + 1);
        ck_assert_uint_eq(atomic_load(&seen.abandoned), i + 1);
        ck_assert_uint_eq(atomic_load(&seen.lsn), lost.lsn);
        memset(lost.data, 'y', 700);
        ck_assert_int_eq(twinlog_append(log, "further", 7, NULL), 0);
        memset(lost.data, 'z', 700);
        ck_assert_int_eq(i % 2 ? twinlog_reservation_abort(log, &lost)
                               : twinlog_reservation_commit(log, &lost, NULL),
                         i % 2 ? 0 : -ESTALE);
        ck_assert_int_eq(twinlog_reservation_commit(log, &lost, NULL), -EINVAL);
    }
    ck_assert_uint_eq(log_stat(log).fillers, 4);
    log_close(log);
    ck_assert_uint_eq(count_filled(&fillers), 12);
    ck_assert_uint_eq(fillers, 4);
}

struct vandal {
    struct twinlog *log;
    pthread_t thread;
    struct twinlog_reservation place;
    size_t size;
    _Atomic bool is_over;
    int result;
};

#if HAS_THREAD_SANITIZER
#define UNCHECKED __attribute__((no_sanitize("thread")))
#else
#define UNCHECKED
#endif

/* Goes on writing to what it has reserved, whatever has become of it. */
UNCHECKED static void *write_on_and_on(void *argument)
{
    struct vandal *vandal = argument;
    volatile unsigned char *bytes = vandal->place.data;

    for (unsigned i = 0; !atomic_load(&vandal->is_over); i++) {
        bytes[i % vandal->size] = (unsigned char)i;
        if (i % 256 == 0)
            sched_yield();
    }
    vandal->result = twinlog_reservation_commit(vandal->log, &vandal->place, NULL);
    return NULL;
}

#define VANDALS 2u

WAYS_TEST(late_writes_go_nowhere, LOG_IO_KINDS)
{
    struct vandal vandals[VANDALS];
    unsigned char bytes[3000];
    uint64_t fillers, rolls;

    expect_impatience(&options);
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < VANDALS; i++) {
        vandals[i] = (struct vandal){ .log = log, .place = reserve(log, 1000 + i), .size = 1000 + i };
        vandals[i].thread = start_thread(write_on_and_on, &vandals[i]);
        ck_assert_int_eq(twinlog_append(log, "behind", 6, NULL), 0);
    }
    rolls = log_stat(log).rolls;
    for (unsigned i = 0; i < 90; i++) {
        memset(bytes, (int)i, sizeof(bytes));
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    }
    ck_assert_uint_gt(log_stat(log).rolls, rolls);
    for (unsigned i = 0; i < VANDALS; i++) {
        atomic_store(&vandals[i].is_over, true);
        pthread_join(vandals[i].thread, NULL);
        ck_assert_int_eq(vandals[i].result, -ESTALE);
    }
    log_close(log);
    ck_assert_uint_eq(count_filled(&fillers), 90 + VANDALS);
    ck_assert_uint_eq(fillers, VANDALS);
}

/* Comes to settle just when the log loses its patience. */
static void *settle_at_the_last_moment(void *argument)
{
    struct vandal *vandal = argument;

    while (!atomic_load(&vandal->is_over)) {
        const struct twinlog_entry entry = { .size = vandal->size, .tag = (uint16_t)vandal->size, .type = 9 };
        const struct twinlog_terms terms = buffered;
        struct timespec pause = { 0, 900000 + rand() % 300000 };

        vandal->result = twinlog_reserve(vandal->log, &entry, NULL, &vandal->place);
        if (vandal->result < 0)
            return NULL;
        fill(&vandal->place, vandal->size);
        nanosleep(&pause, NULL); /* the race is with the timeout of a millisecond */
        int rc = twinlog_reservation_commit(vandal->log, &vandal->place, &terms);
        if (rc != 0 && rc != -ESTALE)
            vandal->result = rc;
    }
    return NULL;
}

TEST(a_settling_while_it_is_given_up_gets_one_or_the_other)
{
    struct twinlog_options options = log_options(0, 0);
    struct vandal vandals[VANDALS];
    uint64_t fillers, before;

    expect_impatience(&options);
    options.reserve_timeout_ms = 1;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < VANDALS; i++) {
        vandals[i] = (struct vandal){ .log = log, .size = 6000 };
        vandals[i].thread = start_thread(settle_at_the_last_moment, &vandals[i]);
    }
    for (unsigned i = 0; i < 80; i++)
        ck_assert_int_eq(twinlog_append(log, "behind", 6, NULL), 0);
    for (unsigned i = 0; i < VANDALS; i++)
        atomic_store(&vandals[i].is_over, true);
    for (unsigned i = 0; i < VANDALS; i++) {
        pthread_join(vandals[i].thread, NULL);
        ck_assert_int_eq(vandals[i].result, 0);
    }
    before = log_stat(log).fillers;
    log_close(log);
    count_filled(&fillers);
    ck_assert_uint_le(fillers, before);
}

TEST(closing_gives_up_what_is_open)
{
    struct twinlog_options options = log_options(0, 0);
    uint64_t fillers;

    expect_impatience(&options);
    struct twinlog *log = log_open(&options);
    ck_assert_int_eq(twinlog_append(log, "before", 6, NULL), 0);
    struct twinlog_reservation place = reserve(log, 100);
    ck_assert_int_eq(twinlog_enqueue(log, "behind", 6, NULL), 0);
    ck_assert_uint_eq(place.lsn, 2);
    log_close(log);
    ck_assert_uint_eq(atomic_load(&seen.abandoned), 1);
    ck_assert_uint_eq(count_filled(&fillers), 2);
    ck_assert_uint_eq(fillers, 1);
}

/* All there are, and no thread comes for them. */
static void abandon_all(struct twinlog *log, struct twinlog_reservation places[MOST_OPEN])
{
    for (unsigned i = 0; i < MOST_OPEN; i++)
        places[i] = reserve(log, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(atomic_load(&seen.abandoned), MOST_OPEN);
}

TEST(no_call_waits_for_ever_for_one_that_is_free)
{
    struct twinlog_options options = log_options(0, 0);
    const struct twinlog_entry entry = { .size = 10 };
    struct twinlog_reservation places[MOST_OPEN], more;
    uint64_t fillers;

    expect_impatience(&options);
    struct twinlog *log = log_open(&options);
    abandon_all(log, places);
    ck_assert_int_eq(twinlog_reserve(log, &entry, NULL, &more), -EBUSY);
    ck_assert_int_eq(twinlog_reserve(log, &entry, &trying, &more), -EAGAIN);
    ck_assert_int_eq(twinlog_reservation_commit(log, &places[7], NULL), -ESTALE);
    more = reserve(log, 10);
    fill(&more, 10);
    ck_assert_int_eq(twinlog_reservation_commit(log, &more, NULL), 0);
    ck_assert_uint_eq(more.lsn, MOST_OPEN + 1);
    log_close(log);
    ck_assert_uint_eq(count_filled(&fillers), 1);
    ck_assert_uint_eq(fillers, MOST_OPEN);
}

struct waiter {
    struct twinlog *log;
    pthread_t thread;
    int result;
};

static void *reserve_one_more(void *argument)
{
    struct waiter *waiter = argument;
    struct twinlog_reservation more;

    waiter->result = twinlog_reserve(waiter->log, &(struct twinlog_entry){ .size = 10 }, NULL, &more);
    return NULL;
}

static void *append_one(void *argument)
{
    struct waiter *waiter = argument;

    waiter->result = twinlog_append(waiter->log, "fails", 5, NULL);
    return NULL;
}

/* A group is on its way to the disk; behind it all there are is open. */
TEST(a_wait_for_a_free_one_hears_of_a_failure)
{
    struct twinlog_reservation places[MOST_OPEN];

    struct twinlog *log = gate_log(&LOG_OPTIONS(.flags = TWINLOG_BUFFERED, .reserve_timeout_ms = 600000));
    struct waiter first = { .log = log }, second = { .log = log };
    gate_shut();
    first.thread = start_thread(append_one, &first);
    gate_await();
    for (unsigned i = 0; i < MOST_OPEN; i++)
        places[i] = reserve(log, 10);
    second.thread = start_thread(reserve_one_more, &second);
    AWAIT(atomic_load(&log->inside) % INSIDE_OTHER == 2);
    atomic_store(&gate.error, -EIO);
    gate_open();
    pthread_join(first.thread, NULL);
    pthread_join(second.thread, NULL);
    ck_assert_int_eq(first.result, -EIO);
    ck_assert_int_eq(second.result, TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_reservation_abort(log, &places[0]), 0);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}

/* The close must not wait for a call that waits for the others. */
TEST(a_wait_for_a_free_one_does_not_hold_up_the_close)
{
    struct twinlog_options options = log_options(0, 0);
    struct waiter waiter = { 0 };

    expect_impatience(&options);
    options.reserve_timeout_ms = 2000;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < MOST_OPEN; i++)
        reserve(log, 10);
    waiter.log = log;
    waiter.thread = start_thread(reserve_one_more, &waiter);
    AWAIT(atomic_load(&log->inside) % INSIDE_OTHER == 1);
    log_close(log);
    pthread_join(waiter.thread, NULL);
    ck_assert(waiter.result == -ESHUTDOWN || waiter.result == -EBUSY); /* the latter if all this took 2 s */
    ck_assert_uint_eq(atomic_load(&seen.abandoned), MOST_OPEN);
}

/* Without memory to move to the log waits for its reservation, and goes on when there is some. */

TEST(without_memory_it_is_given_up_later)
{
    struct twinlog_options options = log_options(TWINLOG_IO_DSYNC, 0);
    struct rlimit limit, none = { 0 };
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;
    const struct twinlog_entry entry = { .data = "behind", .size = 6 };
    uint64_t lsn = 0;

    if (HAS_SANITIZER) { /* they need address space of their own */
        fprintf(stderr,
                "SKIP holds without_memory_it_is_given_up_later: a sanitizer would be without, too\n");
        return;
    }
    expect_impatience(&options);
    options.buffer_bytes = 64 * KIB;
    struct twinlog *log = log_open(&options);
    terms.deadline_ns = twinlog_deadline(1);
    twinlog_append_batch(log, &entry, 1, &terms, NULL); /* starts the committer */
    ck_assert_int_eq(twinlog_sync(log), 0);
    struct twinlog_reservation place = reserve(log, 100);
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
    none.rlim_max = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
    terms.deadline_ns = twinlog_deadline(200);
    int rc = twinlog_append_batch(log, &entry, 1, &terms, &lsn);
    unsigned abandoned = atomic_load(&seen.abandoned);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    ck_assert_int_eq(rc, -ETIMEDOUT);
    ck_assert_uint_eq(abandoned, 0);
    ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_DURABLE, 0), 0);
    ck_assert_uint_eq(atomic_load(&seen.abandoned), 1);
    ck_assert_int_eq(twinlog_reservation_commit(log, &place, NULL), -ESTALE);
    log_close(log);
}

/* ---- beside others ------------------------------------------------------------------------------- */

CASE("settled", gate_set_up, logdir_remove);

WAYS_TEST(a_reservation_a_batch_and_a_roll_share_a_group, LOG_IO_KINDS)
{
    static unsigned char bytes[9000];
    const struct twinlog_entry batch[2] = { { .data = bytes, .size = 9000 }, { .data = bytes, .size = 100 } };
    uint64_t fillers, lsn;

    options.buffer_bytes = 32 * KIB;
    options.segment_bytes = 64 * KIB;
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(twinlog_append_batch(log, batch, 2, &buffered, &lsn), 0);
        struct twinlog_reservation place = reserve(log, 3000);
        ck_assert_uint_eq(place.lsn, lsn + 2);
        fill(&place, 3000);
        ck_assert_int_eq(twinlog_reservation_commit(log, &place, NULL), 0);
        ck_assert_uint_eq(twinlog_durable_lsn(log), place.lsn);
    }
    ck_assert_uint_gt(log_stat(log).rolls, 3);
    log_close(log);
    ck_assert_uint_eq(count_filled(&fillers), 60);
    ck_assert_uint_eq(fillers, 0);
}

TEST(a_commit_in_a_poisoned_log_says_so)
{
    const struct twinlog_options options = log_options(0, TWINLOG_BUFFERED);
    struct twinlog *log = gate_log(&options);
    struct twinlog_reservation first = reserve(log, 10), second = reserve(log, 10);

    fill(&first, 10);
    ck_assert_int_eq(twinlog_reservation_commit(log, &first, &buffered), 0);
    ck_assert_int_eq(twinlog_reservation_abort(log, &second), 0);
    second = reserve(log, 10);
    fill(&second, 10);
    atomic_store(&gate.error, -EIO);
    ck_assert_int_eq(twinlog_reservation_commit(log, &second, NULL), -EIO);
    ck_assert_int_eq(twinlog_reserve(log, &(struct twinlog_entry){ .size = 1 }, NULL, &first),
                     TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}
