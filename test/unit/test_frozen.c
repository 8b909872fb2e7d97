/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frozen file system, as while a snapshot of its volume is made: a store to a page of a file waits until the thaw.
 * Here the page of the writer is made read-only, and a thread that stores to it waits in the handler of the signal.
 * What must not wait for the disk must not get there, nor wait for a thread that is there.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "log/handle.h"
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

CASE("page", logdir_make, logdir_remove);

static struct twinlog *frozen_log;
static _Atomic bool is_frozen;
static _Atomic unsigned waiting; /* threads that store to the page */
static pthread_t tester;
static _Atomic bool has_tester_waited;

static void wait_for_thaw(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    if (pthread_equal(pthread_self(), tester))
        atomic_store(&has_tester_waited, true);
    atomic_fetch_add(&waiting, 1);
    while (atomic_load(&is_frozen))
        sched_yield();
    atomic_fetch_sub(&waiting, 1);
}

static void protect_page(int protection)
{
    ck_assert_int_eq(mprotect(frozen_log->shared->page, PAGE_FILE_BYTES, protection), 0);
}

static void freeze_page(void)
{
    atomic_store(&is_frozen, true);
    protect_page(PROT_READ);
}

static void thaw_page(void)
{
    protect_page(PROT_READ | PROT_WRITE);
    atomic_store(&is_frozen, false);
}

static void *append_patiently(void *context)
{
    (void)context;
    (void)twinlog_append(frozen_log, "plain", 5, NULL);
    return NULL;
}

/* The leader waits with its group written, and no call that is asked below may wait with it. */
static pthread_t stop_a_leader(void)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, append_patiently, NULL), 0);
    AWAIT(atomic_load(&waiting) > 0);
    return thread;
}

static void open_frozen(void)
{
    struct sigaction action = { .sa_sigaction = wait_for_thaw, .sa_flags = SA_SIGINFO };

    tester = pthread_self();
    ck_assert_int_eq(sigaction(SIGSEGV, &action, NULL), 0);
    frozen_log = log_open(NULL);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(twinlog_append(frozen_log, "before", 6, NULL), 0);
    ck_assert_int_eq(twl_commit_need_committer(frozen_log->commit), 0);
    freeze_page();
}

static void close_frozen(pthread_t leader)
{
    thaw_page();
    pthread_join(leader, NULL);
    ck_assert(!atomic_load(&has_tester_waited));
    log_close(frozen_log);
    signal(SIGSEGV, SIG_DFL);
}

static int append_on(const struct twinlog_terms *terms)
{
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    return twinlog_append_batch(frozen_log, &entry, 1, terms, NULL);
}

TEST(calls_with_terms_return_while_the_page_is_frozen)
{
    struct twinlog_terms terms = TWINLOG_TERMS_INIT;

    open_frozen();
    const pthread_t leader = stop_a_leader();

    for (unsigned i = 0; i < 2 * 64; i++) { /* one of 64 is timed */
        terms.flags = TWINLOG_TRY;
        terms.level = TWINLOG_LEVEL_BUFFERED;
        ck_assert_int_eq(append_on(&terms), 0);
    }
    terms = (struct twinlog_terms)TWINLOG_TERMS_INIT;
    terms.deadline_ns = twinlog_deadline(10);
    ck_assert_int_eq(append_on(&terms), -ETIMEDOUT);
    struct twinlog_cancel cancel = { .is_canceled = 1 };
    terms = (struct twinlog_terms)TWINLOG_TERMS_INIT;
    terms.cancel = &cancel;
    ck_assert_int_eq(append_on(&terms), -ECANCELED);
    ck_assert_int_eq(
        twinlog_wait(frozen_log, twinlog_last_lsn(frozen_log), TWINLOG_LEVEL_DURABLE, twinlog_deadline(10)),
        -ETIMEDOUT);

    close_frozen(leader);
}

TEST(what_only_looks_returns_while_the_page_is_frozen)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;

    open_frozen();
    const pthread_t leader = stop_a_leader();

    ck_assert_int_eq(twinlog_stat(frozen_log, &stat), 0);
    ck_assert_uint_eq(stat.appends, 11);
    ck_assert_int_eq(twinlog_timings(frozen_log, &timings), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(frozen_log), 10);
    ck_assert_uint_eq(twinlog_last_lsn(frozen_log), 11);

    close_frozen(leader);
}

TEST(an_attached_reader_waits_no_longer_than_it_says_while_the_page_is_frozen)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;

    open_frozen();
    const pthread_t leader = stop_a_leader();

    ck_assert_int_eq(twinlog_reader_attach(frozen_log, NULL, &reader), 0);
    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 10), 0);

    thaw_page();
    ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1); /* it is woken all the same */
    twinlog_reader_close(reader);
    close_frozen(leader);
}
