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
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

CASE("page", logdir_make, logdir_remove);

static struct twinlog *frozen_log;
static _Atomic bool is_frozen;
static _Atomic unsigned waiting; /* threads that store to the page */
static pthread_t tester;
static _Atomic bool has_tester_waited;

static void thaw_pages(void);

static void wait_for_thaw(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    if (pthread_equal(pthread_self(), tester)) {
        atomic_store(&has_tester_waited, true);
        thaw_pages(); /* or nobody would */
    }
    atomic_fetch_add(&waiting, 1);
    while (atomic_load(&is_frozen))
        sched_yield();
    atomic_fetch_sub(&waiting, 1);
}

#define MOST_PAGES 8
static void
    *pages[MOST_PAGES]; /* that of the writer, and those of readers that have the log open by its name */
static unsigned page_count;

/* Finds the pages that this process has mapped by now. */
static void find_pages(void)
{
    char line[700];
    FILE *maps = fopen("/proc/self/maps", "re");

    ck_assert_ptr_nonnull(maps);
    page_count = 0;
    while (fgets(line, sizeof(line), maps)) {
        const bool is_page = strstr(line, log_dir) && strstr(line, PAGE_FILE_NAME);
        if (!is_page || !strstr(line, " rw-s "))
            continue;
        ck_assert_uint_lt(page_count, MOST_PAGES);
        pages[page_count++] = (void *)strtoul(line, NULL, 16); /* NOLINT(performance-no-int-to-ptr) */
    }
    fclose(maps);
}

static void protect_pages(int protection)
{
    for (unsigned i = 0; i < page_count; i++)
        mprotect(pages[i], PAGE_FILE_BYTES, protection);
}

static void freeze_pages(void)
{
    find_pages();
    ck_assert_uint_gt(page_count, 0);
    atomic_store(&is_frozen, true);
    protect_pages(PROT_READ);
}

static void thaw_pages(void)
{
    protect_pages(PROT_READ | PROT_WRITE);
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

static void notice_stores(void)
{
    struct sigaction action = { .sa_sigaction = wait_for_thaw, .sa_flags = SA_SIGINFO };

    tester = pthread_self();
    ck_assert_int_eq(sigaction(SIGSEGV, &action, NULL), 0);
}

static void open_frozen(void)
{
    notice_stores();
    frozen_log = log_open(NULL);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(twinlog_append(frozen_log, "before", 6, NULL), 0);
    ck_assert_int_eq(twl_commit_need_committer(frozen_log->commit), 0);
    freeze_pages();
}

static void close_frozen(pthread_t leader)
{
    thaw_pages();
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

    thaw_pages();
    ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1); /* it is woken all the same */
    twinlog_reader_close(reader);
    close_frozen(leader);
}

/* ---- a reader that has the log open by its name, as in another process ---------------------------------- */

static struct twinlog_reader *open_at_end(uint32_t mode)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_reader *reader;
    struct twinlog_record record;

    notice_stores();
    options.mode = mode;
    frozen_log = log_open(&options);
    ck_assert_int_eq(twinlog_append(frozen_log, "before", 6, NULL), 0);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    return reader;
}

static void append_for(struct twinlog_reader *reader)
{
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_append(frozen_log, "x", 1, NULL), 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 10000), 1);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
}

static void expect_no_store(struct twinlog_reader *reader)
{
    freeze_pages();
    ck_assert_int_eq(twinlog_reader_wait(reader, 10), 0);
    ck_assert(!atomic_load(&has_tester_waited));
    thaw_pages();
}

static void close_both(struct twinlog_reader *reader)
{
    twinlog_reader_close(reader);
    log_close(frozen_log);
    signal(SIGSEGV, SIG_DFL);
}

static const uint32_t modes[] = { TWINLOG_MODE_DURABLE, TWINLOG_MODE_MAPPED, TWINLOG_MODE_SHARED };
#define FROZEN_MODES REPEATS(sizeof(modes) / sizeof(modes[0]), 1)

TEST_LOOP(a_reader_that_has_seen_no_news_stores_nothing, FROZEN_MODES)
{
    struct twinlog_reader *reader = open_at_end(modes[_i]);

    expect_no_store(reader);
    close_both(reader);
}

TEST_LOOP(a_reader_that_waits_for_the_next_news_has_stored_so_before, FROZEN_MODES)
{
    struct twinlog_reader *reader = open_at_end(modes[_i]);

    append_for(reader); /* it looks from time to time */
    append_for(reader); /* it was woken, or has found something that had just come */
    usleep(100000);
    expect_no_store(reader);
    close_both(reader);
}

TEST_LOOP(a_reader_that_was_busy_while_news_came_stores_nothing, FROZEN_MODES)
{
    struct twinlog_reader *reader = open_at_end(modes[_i]);
    struct twinlog_record record;

    append_for(reader);
    ck_assert_int_eq(twinlog_append(frozen_log, "x", 1, NULL), 0);
    ck_assert_int_eq(twinlog_sync(frozen_log), 0);
    usleep(100000);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    expect_no_store(reader);
    close_both(reader);
}

TEST_LOOP(a_program_that_polls_stores_nothing, FROZEN_MODES)
{
    struct twinlog_reader *reader = open_at_end(modes[_i]);
    struct twinlog_record record;
    const int fd = twinlog_reader_fd(reader);

    ck_assert_int_ge(fd, 0);
    freeze_pages();
    for (unsigned n = 0; n < 3; n++) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        ck_assert_int_ge(poll(&poll_fd, 1, 30), 0);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    }
    ck_assert(!atomic_load(&has_tester_waited));
    ck_assert_uint_eq(atomic_load(&waiting), 0);
    thaw_pages();
    close_both(reader);
}
