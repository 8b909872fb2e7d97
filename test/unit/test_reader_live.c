/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers beside a writer, in this process or another one: segments that they keep open, and waiting for what comes.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "hooked.h"
#include "life_records.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "base/sync.h"
#include "control/shared_page.h"
#include "log/log.h"
#include "read/follower.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- segments that stay open --------------------------------------------------------------------- */

#define OPEN_AT_MOST 32u

static void expect_at(struct twinlog_reader *reader, uint64_t lsn, uint32_t life)
{
    ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
    expect_next(reader, lsn, life);
}

static struct twinlog_reader *open_reader_of_many_segments(const struct reader_kind *kind,
                                                           uint64_t *ret_last_lsn)
{
    struct twinlog *log = make_life_log(12000);

    *ret_last_lsn = twinlog_last_lsn(log);
    log_close(log);
    return open_reader(NULL, kind, 0, 0);
}

CASE("open segments", logdir_make, logdir_remove);

TEST_EACH(segments_that_were_looked_up_stay_open_and_those_that_were_read_do_not, outside_kinds)
{
    struct rng rng = { 7 };
    uint64_t last;

    if (!can_look_into_proc("segments_that_were_looked_up_stay_open_and_those_that_were_read_do_not"))
        return;
    struct twinlog_reader *reader = open_reader_of_many_segments(row, &last);

    expect_run(reader, 1, last, 0);
    ck_assert_uint_eq(log_count_open_segments(), 1);
    for (unsigned i = 1; i < 8; i++) {
        expect_at(reader, i * last / 8, 0);
        ck_assert_uint_eq(log_count_open_segments(), 1 + i);
    }

    for (unsigned i = 1; i < 8; i++)
        expect_at(reader, last - i * last / 8, 0);
    ck_assert_uint_eq(log_count_open_segments(), 8);
    for (unsigned i = 0; i < 3000; i++)
        expect_at(reader, 1 + rng_below(&rng, last), 0);
    ck_assert_uint_eq(log_count_open_segments(), OPEN_AT_MOST);
    twinlog_reader_close(reader);
    ck_assert_uint_eq(log_count_open_segments(), 0);
}

TEST_EACH(where_descriptors_are_short_a_reader_makes_do_with_few, outside_kinds)
{
    struct rlimit usual, few;
    uint64_t last;
    struct twinlog_reader *reader = open_reader_of_many_segments(row, &last);
    int lowest_free = dup(STDERR_FILENO);

    ck_assert_int_ge(lowest_free, 0);
    close(lowest_free);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &usual), 0);
    few = usual;
    few.rlim_cur = (rlim_t)lowest_free + 5;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (uint64_t lsn = 1; lsn <= last; lsn += 97)
        expect_at(reader, lsn, 0);
    for (uint64_t lsn = last; lsn > 97; lsn -= 97)
        expect_at(reader, lsn, 0);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), 0); /* its headers are read one by one */
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &usual), 0);
    twinlog_reader_close(reader);
}

/* A writer in another process does the next thing when it is told. */
static struct {
    _Atomic unsigned wanted, done;
} * trimmer;

static void wait_until(const _Atomic unsigned *step, unsigned value)
{
    while (atomic_load(step) < value)
        sched_yield();
}

static int open_and_trim(void)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog *log = NULL;

    int rc = twinlog_open(log_dir, NULL, &log);
    atomic_store(&trimmer->done, 1);
    wait_until(&trimmer->wanted, 2);
    options.before_lsn = 6000;
    if (rc == 0)
        rc = twinlog_trim(log, &options, NULL);
    atomic_store(&trimmer->done, 2);
    wait_until(&trimmer->wanted, 3);
    return rc == 0 && twinlog_close(log) == 0 ? 0 : 1;
}

TEST_EACH(segments_that_were_trimmed_are_let_go, outside_kinds)
{
    uint64_t last;

    if (!can_look_into_proc("segments_that_were_trimmed_are_let_go"))
        return;
    struct twinlog_reader *reader = open_reader_of_many_segments(row, &last);

    trimmer = shared_page();
    pid_t writer = start_child(open_and_trim);
    wait_until(&trimmer->done, 1);
    for (uint64_t lsn = 500; lsn <= 7500; lsn += 1000)
        expect_at(reader, lsn, 0);
    ck_assert_uint_eq(log_count_open_segments(), 8);
    atomic_store(&trimmer->wanted, 2);
    wait_until(&trimmer->done, 2);
    expect_next(reader, 7501, 0);
    ck_assert_uint_eq(log_count_open_segments(), 1);
    expect_at(reader, 6500, 0);
    ck_assert_uint_eq(log_count_open_segments(), 2);
    ck_assert_int_eq(twinlog_reader_seek(reader, 5500), 0);
    expect_no_next(reader, TWINLOG_ETRIMMED);
    atomic_store(&trimmer->wanted, 3);
    ck_assert_int_eq(wait_child(writer), 0);
    twinlog_reader_close(reader);
}

/* They are still there, in segments that the reader has open. */
TEST_EACH(records_that_were_truncated_are_not_found_where_they_were, reader_kinds)
{
    struct twinlog *log = make_life_log(MANY);
    struct twinlog_reader *reader = open_reader(log, row, 0, 0);

    for (uint64_t lsn = 100; lsn <= MANY; lsn += 100)
        expect_at(reader, lsn, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 1), 0);
    ck_assert_int_eq(twinlog_truncate(log, 1250), 0);
    for (uint64_t lsn = 1300; lsn <= MANY; lsn += 100) {
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        expect_no_next(reader, 0);
    }

    put_many(log, 1, MANY);
    for (uint64_t lsn = 1250 + MANY; lsn > 50; lsn -= 50)
        expect_at(reader, lsn, lsn > 1250);
    twinlog_reader_close(reader);
    log_close(log);
}

/* ---- beside a writer that does all of it --------------------------------------------------------- */

#define LIVES 40u
#define KINDS ROWS(reader_kinds)
#define CROWD (2 * KINDS) /* of each kind one that reads on, and one that looks records up */

/* What the writer has done, so that a reader can tell whether what it got one after the other belongs together:
 * life n begins at start[n], and each life is written down before its first record. */
static struct {
    struct twinlog *log;
    _Atomic uint64_t start[LIVES];
    _Atomic uint32_t life; /* the one that has started for certain */
    atomic_bool is_done;
    atomic_uint readers; /* that have started */
} busy;

struct member {
    pthread_t thread;
    const struct reader_kind *kind;
    uint64_t seed;
    bool looks_up;
    _Atomic uint64_t returned;
    const char *wrong;
    _Atomic int error;
    struct twinlog_report report;
};

/* In the history that `life` wrote, which life was the record of? */
static uint32_t life_of(uint64_t lsn, uint32_t life)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t i = life; i > 0; i--) {
        uint64_t start = atomic_load(&busy.start[i]);
        if (start <= lsn && start <= least)
            return i;
        least = min_u64(start, least);
    }

    return 0;
}

static int read_on(struct member *member, struct twinlog_reader *reader)
{
    struct twinlog_record record = { 0 };
    uint64_t before = 0;
    uint32_t life_before = 0, life;

    int rc = twinlog_reader_next(reader, &record);
    while (rc > 0) {
        member->wrong = check_record(&record, &life);
        if (!member->wrong && before > 0 && record.lsn != before + 1)
            member->wrong = "not the next one";
        if (!member->wrong && before > 0 && life_of(before, life) != life_before)
            member->wrong = "what was returned before was cut off, and the reader did not say so";
        if (member->wrong)
            return -EILSEQ;
        before = record.lsn;
        life_before = life;
        member->returned++;
        rc = twinlog_reader_next(reader, &record);
    }

    return rc;
}

static const char *judge_found(const struct twinlog_record *record, uint64_t lsn, uint32_t life_before)
{
    uint32_t life;
    const char *wrong = check_record(record, &life);

    if (!wrong && record->lsn != lsn)
        wrong = "not the one that was sought";
    if (!wrong && life < life_of(lsn, life_before))
        wrong = "it had been cut off";
    return wrong;
}

/* Records anywhere, some of which are gone or not there yet. */
static int look_up(struct member *member, struct twinlog_reader *reader)
{
    struct rng rng = { member->seed };
    struct twinlog_record record = { 0 };
    int rc = 0;

    for (unsigned i = 0; rc >= 0 && i < 50; i++) {
        uint64_t first, last;
        uint32_t life = atomic_load(&busy.life);
        rc = twinlog_reader_range(reader, &first, &last);
        if (rc < 0)
            break;
        const uint64_t lsn = 1 + last - rng_below(&rng, min_u64(last, 1300));
        twinlog_reader_seek(reader, lsn);
        rc = twinlog_reader_next(reader, &record);
        member->returned += rc > 0;
        if (rc > 0)
            member->wrong = judge_found(&record, lsn, life);
        if (member->wrong)
            return -EILSEQ;
        if (rc == TWINLOG_ETRIMMED)
            rc = 0;
    }

    if (rc < 0)
        return rc;
    return twinlog_reader_seek_end(reader);
}

static void *read_beside(void *context)
{
    struct member *member = context;
    struct twinlog_reader *reader;
    const struct twinlog_reader_options options = WITH_SIZE(reader_options, .ret_report = &member->report);

    member->error = try_reader(busy.log, member->kind, &options, &reader);
    atomic_fetch_add(&busy.readers, 1);
    if (member->error < 0)
        return NULL;
    for (bool is_last = false;;) {
        int rc = member->looks_up ? look_up(member, reader) : read_on(member, reader);
        if (rc == TWINLOG_ETRIMMED || rc == TWINLOG_ETRUNCATED)
            rc = twinlog_reader_seek_first(reader);
        else if (rc == 0 && is_last)
            break;
        is_last = atomic_load(&busy.is_done);
        if (rc == 0 && !is_last)
            rc = twinlog_reader_wait(reader, 20);
        if (rc < 0) {
            member->error = rc;
            break;
        }
    }

    twinlog_reader_close(reader);
    return NULL;
}

/* Returns what went wrong first. Each reader returns something of each life, however slow the machine is. */
static int write_lives(bool with_cuts, struct rng *rng, struct member members[CROWD])
{
    int rc = 0;

    for (uint32_t life = 1; rc == 0 && life < LIVES; life++) {
        uint64_t last = twinlog_last_lsn(busy.log);
        uint64_t cut = last;
        if (with_cuts && last > 300)
            cut = last - rng_below(rng, 250);

        struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
        uint64_t returned[CROWD];
        for (unsigned i = 0; i < CROWD; i++)
            returned[i] = members[i].returned;
        atomic_store(&busy.start[life], cut + 1);
        rc = twinlog_truncate(busy.log, cut);
        atomic_store(&busy.life, life);
        for (unsigned i = 0; rc == 0 && i < 600; i++) {
            rc = put_one(busy.log, life);
            if (rc == 0 && i % 7 == 0)
                rc = twinlog_sync(busy.log);
        }
        for (unsigned i = 0; rc == 0 && i < CROWD; i++)
            AWAIT(members[i].returned > returned[i] || members[i].error);
        options.keep_records = 1200;
        if (rc == 0)
            rc = twinlog_trim(busy.log, &options, NULL);
    }

    if (rc < 0)
        return rc;
    return twinlog_sync(busy.log);
}

static void crowd_beside_writer(bool with_cuts)
{
    struct member members[CROWD] = { 0 };
    struct rng rng = { test_seed() };

    busy.log = open_life_log();
    put_many(busy.log, 0, 300);
    for (uint32_t life = 0; life < LIVES; life++)
        atomic_store(&busy.start[life], UINT64_MAX);
    for (unsigned i = 0; i < CROWD; i++) {
        members[i].kind = &reader_kinds[i % KINDS];
        members[i].seed = 100 + i % KINDS;
        members[i].looks_up = i >= KINDS;
        members[i].thread = start_thread(read_beside, &members[i]);
    }

    while (atomic_load(&busy.readers) < CROWD)
        sched_yield();
    int rc = write_lives(with_cuts, &rng, members);
    atomic_store(&busy.is_done, true);
    for (unsigned i = 0; i < CROWD; i++)
        pthread_join(members[i].thread, NULL);
    ck_assert_int_eq(rc, 0);
    for (unsigned i = 0; i < CROWD; i++) {
        const struct member *member = &members[i];
        ck_assert_msg(!member->wrong, "%s: %s", member->kind->name, member->wrong);
        ck_assert_msg(member->error == 0, "%s: %s; %s", member->kind->name, twinlog_strerror(member->error),
                      member->report.text);
    }

    ck_assert_uint_gt(log_stat(busy.log).trimmed_segments, 20);
    log_close(busy.log);
}

CASE("beside a writer", logdir_make, logdir_remove);

TEST(readers_keep_up_with_a_writer_that_trims_and_recycles)
{
    crowd_beside_writer(false);
}

TEST(readers_keep_up_with_a_writer_that_truncates_as_well)
{
    crowd_beside_writer(true);
}

CASE("waiting", logdir_make, logdir_remove);

static struct twinlog *waited_log;

static void *append_one(void *context)
{
    int *rc = context;

    *rc = put_one(waited_log, 0);
    if (*rc == 0)
        *rc = twinlog_sync(waited_log);
    return NULL;
}

/* By turns the reader waits and its descriptor becomes readable. If a wake-up were lost this would never end, or take a
 * second each time. */
TEST_EACH(a_waiting_reader_is_woken, reader_kinds)
{
    waited_log = make_life_log(10);
    struct twinlog_reader *reader = open_reader(waited_log, row, 11, 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, 5), 0);
    const int fd = twinlog_reader_fd(reader);
    for (uint64_t lsn = 11; lsn < 600; lsn++) {
        int rc;
        ck_assert(!is_readable(fd));
        pthread_t appender = start_thread(append_one, &rc);
        if (lsn % 2)
            ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        else
            expect_readable(fd);
        pthread_join(appender, NULL);
        ck_assert_int_eq(rc, 0);
        ck_assert_int_eq(twinlog_reader_wait(reader, 0), 1);
        expect_next(reader, lsn, 0);
        expect_no_next(reader, 0);
    }

    twinlog_reader_close(reader);
    log_close(waited_log);
}

/* ---- two processes take turns -------------------------------------------------------------------- */

static struct turns {
    atomic_bool may_begin;
    _Atomic uint64_t read_lsn; /* the writer appends the next one when the reader has this one */
} * turns;

#define TURNS 400u

/* In the child: the writer. */
static int write_in_turn(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;

    while (!atomic_load(&turns->may_begin))
        sched_yield();
    EXPECT(twinlog_open(log_dir, &options, &log) == 0);
    for (uint64_t lsn = 1; lsn <= TURNS; lsn++) {
        EXPECT(put_one(log, 0) == 0 && twinlog_sync(log) == 0);
        while (atomic_load(&turns->read_lsn) < lsn)
            sched_yield();
    }

    EXPECT(twinlog_close(log) == 0);
    return 0;
}

TEST_EACH(a_writer_in_another_process_wakes_too, outside_kinds)
{
    struct pollfd ready = { .events = POLLIN };

    log_close(open_life_log());
    turns = shared_page();
    pid_t writer = start_child(write_in_turn); /* before there is a thread */
    struct twinlog_reader *reader = open_reader(NULL, row, 0, 0);
    ready.fd = twinlog_reader_fd(reader);
    ck_assert_int_ge(ready.fd, 0);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    atomic_store(&turns->may_begin, true);
    for (uint64_t lsn = 1; lsn <= TURNS; lsn++) {
        if (lsn % 2)
            ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        else
            ck_assert_int_eq(poll(&ready, 1, -1), 1);
        expect_next(reader, lsn, 0);
        expect_no_next(reader, 0);
        if (lsn < TURNS) /* nothing comes before we ask for it */
            ck_assert_int_eq(poll(&ready, 1, 0), 0);
        atomic_store(&turns->read_lsn, lsn);
    }

    ck_assert_int_eq(wait_child(writer), 0);
    twinlog_reader_close(reader);
}

/* A loop that comes for another reason finds it; then it has to come again. */
TEST(the_descriptor_tells_of_an_error_that_was_found_without_it)
{
    struct twinlog_record record;
    struct pollfd ready = { .events = POLLIN };

    log_close(open_life_log());
    struct twinlog_reader *reader = open_reader(NULL, OUTSIDE, 0, 0);
    ready.fd = twinlog_reader_fd(reader);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    remove_tree(log_dir);

    ck_assert_int_eq(twinlog_reader_next(reader, &record), -ESTALE);
    ck_assert_int_eq(poll(&ready, 1, 0), 1);
    twinlog_reader_close(reader);
}

/* As another user, that may read and not write: it looks every now and then. */
static int read_as_nobody(void)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct pollfd ready = { .events = POLLIN };

    while (!atomic_load(&turns->may_begin))
        sched_yield();
    EXPECT(become_nobody());
    EXPECT(twinlog_reader_open(log_dir, NULL, &reader) == 0);
    ready.fd = twinlog_reader_fd(reader);
    EXPECT(ready.fd >= 0);
    for (uint64_t lsn = 1; lsn <= 6; lsn++) {
        if (lsn % 2)
            EXPECT(twinlog_reader_wait(reader, -1) == 1);
        else
            EXPECT(poll(&ready, 1, -1) == 1);
        EXPECT(twinlog_reader_next(reader, &record) == 1 && record.lsn == lsn);
        EXPECT(twinlog_reader_next(reader, &record) == 0);
        atomic_store(&turns->read_lsn, lsn);
    }

    twinlog_reader_close(reader);
    return 0;
}

/* One that has failed, too; wait_child() has its status then. */
static bool has_ended(pid_t child)
{
    siginfo_t info = { 0 };

    usleep(1000);
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == child;
}

TEST(a_reader_that_may_not_write_the_file_looks_by_itself)
{
    if (geteuid() != 0) {
        fprintf(stderr, "SKIP reader %s: only root can become another user\n", __func__);
        return;
    }
    if (!can_nobody_enter(__func__))
        return;

    turns = shared_page();
    pid_t child = start_child(read_as_nobody); /* before this process has threads: TSan */
    struct twinlog *log = open_life_log();
    atomic_store(&turns->may_begin, true);
    for (uint64_t lsn = 1; lsn <= 6; lsn++) {
        ck_assert_int_eq(put_one(log, 0), 0);
        ck_assert_int_eq(twinlog_sync(log), 0);
        while (atomic_load(&turns->read_lsn) < lsn)
            ck_assert_msg(!has_ended(child) || atomic_load(&turns->read_lsn) >= lsn, "the reader has failed");
    }

    ck_assert_int_eq(wait_child(child), 0);
    log_close(log);
}

static atomic_uint alarms;

static void count_alarm(int signal)
{
    (void)signal;
    atomic_fetch_add(&alarms, 1);
}

TEST_EACH(a_signal_does_not_end_a_wait, reader_kinds)
{
    const struct sigaction action = { .sa_handler = count_alarm };
    const struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { { 0, 0 }, { 0, 0 } };
    struct twinlog *log = make_life_log(10);
    struct twinlog_reader *reader = open_reader(log, row, 11, 0);
    uint64_t began_ns;

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    do { /* on a busy machine few of them come in one wait */
        began_ns = twl_monotonic_ns();
        ck_assert_int_eq(twinlog_reader_wait(reader, 100), 0);
        ck_assert_uint_ge(twl_monotonic_ns() - began_ns, 99000000);
    } while (atomic_load(&alarms) <= 3);
    setitimer(ITIMER_REAL, &never, NULL);
    twinlog_reader_close(reader);
    log_close(log);
}

/* ---- a writer that comes later ------------------------------------------------------------------- */

static void *write_later(void *context)
{
    int *rc = context;
    struct twinlog *log;

    *rc = twinlog_open(log_dir, &WITH_SIZE(options, .segment_bytes = SMALL_SEGMENT), &log);
    if (*rc == 0) {
        waited_log = log;
        append_one(rc);
        twinlog_close(log);
    }

    return NULL;
}

static void expect_one_later(struct twinlog_reader *reader, uint64_t lsn, bool by_fd)
{
    struct pollfd ready = { .fd = by_fd ? twinlog_reader_fd(reader) : -1, .events = POLLIN };
    int rc;

    expect_no_next(reader, 0);
    ck_assert_int_eq(poll(&ready, 1, 0), 0);
    pthread_t writer = start_thread(write_later, &rc);
    for (bool is_there = false; !is_there;) { /* a writer that comes is news as well */
        struct twinlog_record record;
        if (by_fd)
            ck_assert_int_eq(poll(&ready, 1, -1), 1);
        else
            ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        int result = twinlog_reader_next(reader, &record);
        if (result > 0)
            expect_it(result, &record, lsn, 0);
        ck_assert_int_ge(result, 0);
        ck_assert(by_fd || result > 0);
        is_there = result > 0;
    }

    pthread_join(writer, NULL);
    ck_assert_int_eq(rc, 0);
}

TEST_EACH(a_writer_that_comes_later_is_noticed, outside_kinds)
{
    log_close(make_life_log(10));
    struct twinlog_reader *reader = open_reader(NULL, row, 11, 0);
    expect_one_later(reader, 11, false);
    expect_one_later(reader, 12, true);
    expect_one_later(reader, 13, false);
    twinlog_reader_close(reader);
}

static const struct newer_page {
    const char *name;
    const struct reader_kind *kind;
    unsigned failed_openings;
} newer_pages[] = {
    { "from outside", OUTSIDE, 0 },
    { "from outside, mapping", OUTSIDE_MAPPING, 0 },
    { "from outside, behind openings that fail", OUTSIDE, 2 },
    { "from outside, mapping, behind openings that fail", OUTSIDE_MAPPING, 2 },
};

/* A power cut may take the marker of an epoch that a writer through a mapping has published, and leave the page with
 * that epoch: no group on the disk has it. And an opening that fails clears the page. */
TEST_EACH(a_writer_is_noticed_also_where_the_page_has_a_newer_epoch_than_the_log, newer_pages)
{
    struct twinlog *log = make_life_log(10);
    const uint32_t epoch = log_stat(log).epoch + 1;
    char second[400];

    snprintf(second, sizeof(second), "%s/second", log_dir);
    log_close(log);
    patch_file(log_file(PAGE_FILE_NAME), offsetof(struct page_words, epoch), &epoch, sizeof(epoch));
    struct twinlog_reader *reader = open_reader(NULL, row->kind, 11, 0);
    expect_no_next(reader, 0);

    ck_assert_int_eq(link(log_segment(1), second), 0);
    for (unsigned i = 0; i < row->failed_openings; i++)
        ck_assert_int_eq(log_open_error(NULL), -EMLINK);
    ck_assert_int_eq(unlink(second), 0);

    log = open_life_log();
    ck_assert_uint_gt(log_stat(log).epoch, epoch);
    put_many(log, 0, 1);
    expect_next(reader, 11, 0);
    twinlog_reader_close(reader);
    log_close(log);
}

TEST_EACH(a_writer_is_noticed_also_where_the_lock_file_was_missing_or_is_removed, outside_kinds)
{
    log_close(make_life_log(10));
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    struct twinlog_reader *reader = open_reader(NULL, row, 11, 0);
    expect_one_later(reader, 11, false);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    expect_one_later(reader, 12, false);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    expect_one_later(reader, 13, true);
    ck_assert_int_eq(unlink(log_file("writer.lock")), 0);
    expect_one_later(reader, 14, true);
    twinlog_reader_close(reader);
}

/* ---- a writer that is killed ---------------------------------------------------------------------- */

#define DURABLE_RECORDS 5u
#define LEFT_RECORDS 10u

static struct {
    _Atomic uint32_t mode;
    _Atomic unsigned has_put; /* so many, of which the first ones are durable */
    _Atomic bool may_go_on;
} * mortal;

static int put_up_to(struct twinlog *log, unsigned last)
{
    while (twinlog_last_lsn(log) < last)
        EXPECT(put_one(log, 0) == 0);
    return 0;
}

/* In the child: what it leaves survives the process, and no reader was told that it is durable. */
static int write_until_killed(void)
{
    struct twinlog *log;

    EXPECT(twinlog_open(log_dir, &WITH_SIZE(options, .mode = atomic_load(&mortal->mode)), &log) == 0);
    EXPECT(put_up_to(log, DURABLE_RECORDS) == 0 && twinlog_sync(log) == 0);
    atomic_store(&mortal->has_put, DURABLE_RECORDS);
    while (!atomic_load(&mortal->may_go_on))
        sched_yield();
    EXPECT(put_up_to(log, LEFT_RECORDS) == 0);
    EXPECT(twinlog_wait(log, LEFT_RECORDS, TWINLOG_LEVEL_WRITTEN, 0) == 0);
    atomic_store(&mortal->has_put, LEFT_RECORDS);
    for (;;)
        pause();
}

static pid_t start_mortal(uint32_t mode)
{
    mortal = shared_page();
    atomic_store(&mortal->mode, mode);
    const pid_t writer = start_child(write_until_killed);
    wait_until(&mortal->has_put, DURABLE_RECORDS);
    return writer;
}

/* The reader has all that is durable, and finds nothing of the rest. */
static void let_it_write_on(struct twinlog_reader *reader)
{
    expect_run(reader, 1, DURABLE_RECORDS, 0);
    atomic_store(&mortal->may_go_on, true);
    wait_until(&mortal->has_put, LEFT_RECORDS);
    expect_no_next(reader, 0);
}

static void end_mortal(pid_t writer)
{
    ck_assert_int_eq(kill(writer, SIGKILL), 0);
    ck_assert_int_eq(wait_child(writer), 128 + SIGKILL);
}

static void just_go_on(struct twinlog_reader *reader)
{
    (void)reader;
}

static void look_without_waiting(struct twinlog_reader *reader)
{
    ck_assert_int_eq(twinlog_reader_wait(reader, 0), 1);
}

static void wait_for_any_time(struct twinlog_reader *reader)
{
    ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
}

/* The first look after a seek asks for no writer; the second one does. */
static void seek_first(struct twinlog_reader *reader)
{
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_reader_seek(reader, DURABLE_RECORDS), 0);
    expect_next(reader, DURABLE_RECORDS, 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
}

static void wait_for_descriptor(struct twinlog_reader *reader)
{
    expect_readable(twinlog_reader_fd(reader));
}

static const struct {
    const char *name;
    uint32_t mode, flags;
    void (*go_on)(struct twinlog_reader *reader);
    bool has_fd; /* while the writer lives */
} left_rows[] = {
    { "the next call", TWINLOG_MODE_DURABLE, 0, just_go_on, false },
    { "the second call, behind a seek", TWINLOG_MODE_DURABLE, 0, seek_first, false },
    { "a wait that does not wait", TWINLOG_MODE_DURABLE, 0, look_without_waiting, false },
    { "a wait without a limit", TWINLOG_MODE_DURABLE, 0, wait_for_any_time, false },
    { "a wait without a limit, mapping", TWINLOG_MODE_DURABLE, TWINLOG_READER_MMAP, wait_for_any_time,
      false },
    { "the descriptor", TWINLOG_MODE_DURABLE, 0, wait_for_descriptor, true },
    { "a mapped log, the next call", TWINLOG_MODE_MAPPED, TWINLOG_READER_DURABLE, just_go_on, false },
    { "a mapped log, a wait", TWINLOG_MODE_MAPPED, TWINLOG_READER_DURABLE, wait_for_any_time, false },
    { "a mapped log, the descriptor", TWINLOG_MODE_MAPPED, TWINLOG_READER_DURABLE, wait_for_descriptor,
      true },
    { "a shared log, a wait", TWINLOG_MODE_SHARED, TWINLOG_READER_DURABLE, wait_for_any_time, false },
    { "a shared log, the descriptor", TWINLOG_MODE_SHARED, TWINLOG_READER_DURABLE, wait_for_descriptor,
      true },
};

TEST_EACH(what_a_killed_writer_has_left_is_found_by_a_reader_that_was_open, left_rows)
{
    const struct reader_kind kind = { row->name, false, row->flags };

    const pid_t writer = start_mortal(row->mode);
    struct twinlog_reader *reader = open_reader(NULL, &kind, 0, 0);
    if (row->has_fd)
        ck_assert_int_ge(twinlog_reader_fd(reader), 0);
    let_it_write_on(reader);
    end_mortal(writer);

    row->go_on(reader);
    expect_run(reader, DURABLE_RECORDS + 1, LEFT_RECORDS, 0);
    expect_no_next(reader, 0);
    expect_no_next(reader, 0);
    if (row->has_fd)
        ck_assert(!is_readable(twinlog_reader_fd(reader)));
    twinlog_reader_close(reader);
}

TEST(what_a_killed_writer_has_left_is_found_by_a_consumer_that_was_open)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record record;

    const pid_t writer = start_mortal(TWINLOG_MODE_DURABLE);
    ck_assert_int_eq(twinlog_consumer_open(log_dir, "follower", NULL, &consumer), 0);
    let_it_write_on(twinlog_consumer_reader(consumer));
    end_mortal(writer);

    ck_assert_int_eq(twinlog_reader_wait(twinlog_consumer_reader(consumer), -1), 1);
    for (uint64_t lsn = DURABLE_RECORDS + 1; lsn <= LEFT_RECORDS; lsn++)
        expect_it(twinlog_consumer_next(consumer, &record), &record, lsn, 0);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 0), 0);
    twinlog_consumer_close(consumer);
}

/* The next writer may come before the reader has seen that there was none. */
TEST_EACH(what_a_killed_writer_has_left_is_found_beside_the_next_one, outside_kinds)
{
    int rc;

    const pid_t writer = start_mortal(TWINLOG_MODE_DURABLE);
    struct twinlog_reader *reader = open_reader(NULL, row, 0, 0);
    let_it_write_on(reader);
    end_mortal(writer);

    const pthread_t next = start_thread(write_later, &rc);
    for (uint64_t lsn = DURABLE_RECORDS + 1; lsn <= LEFT_RECORDS + 1; lsn++) {
        ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        expect_next(reader, lsn, 0);
    }
    pthread_join(next, NULL);
    ck_assert_int_eq(rc, 0);
    twinlog_reader_close(reader);
}

static _Atomic unsigned questions;

static int count_questions(const struct hooked_call *call)
{
    if (call->op == SIM_IS_LOCKED)
        atomic_fetch_add(&questions, 1);
    return 0;
}

static const struct {
    const char *name;
    uint32_t mode;
} asked_rows[] = {
    { "durable", TWINLOG_MODE_DURABLE },
    { "mapped", TWINLOG_MODE_MAPPED },
};

/* A question is a system call. */
TEST_EACH(a_reader_that_keeps_up_with_a_writer_does_not_ask_whether_it_lives, asked_rows)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = row->mode));
    struct twinlog_reader *reader;
    struct twinlog_record record;

    ck_assert_int_eq(
        twl_reader_open(hooked_log_dir(count_questions), &WITH_SIZE(reader_options, .flags = 0), &reader), 0);
    atomic_store(&questions, 0);
    for (uint64_t lsn = 1; lsn <= 100; lsn++) {
        put_many(log, 0, 1);
        if (lsn % 2)
            ck_assert_int_eq(twinlog_reader_wait(reader, -1), 1);
        expect_next(reader, lsn, 0);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    }
    ck_assert_uint_eq(atomic_load(&questions), 0);

    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0); /* nothing has come since */
    ck_assert_uint_eq(atomic_load(&questions), 1);
    twinlog_reader_close(reader);
    log_close(log);
}

CASE("the descriptor", logdir_make, logdir_remove);

static struct {
    _Atomic bool is_shut, is_waiting;
} door;

static int wait_at_door(const struct hooked_call *call)
{
    while (call->op == SIM_OPEN && atomic_load(&door.is_shut)) {
        atomic_store(&door.is_waiting, true);
        sched_yield();
    }

    return 0;
}

/* The follower's thread exchanges the page while the reader ends the thread. Only the thread sanitizer sees it if they
 * do not take turns. */
TEST(a_follower_may_find_another_page_when_it_is_ended)
{
    struct follower *follower;

    log_close(log_open(NULL));
    ck_assert_int_eq(unlink(log_file(PAGE_FILE_NAME)), 0);
    struct io *io = hooked_log_dir(wait_at_door);
    ck_assert_int_eq(twl_follower_create(io, NULL, &follower), 0); /* without a page */
    atomic_store(&door.is_waiting, false);
    atomic_store(&door.is_shut, true);
    while (!atomic_load(&door.is_waiting))
        sched_yield();
    struct twinlog *log = log_open(NULL);
    atomic_store(&door.is_shut, false);
    twl_follower_destroy(follower);
    io->ops->destroy(io);
    log_close(log);
}

static _Atomic int open_error;

static int refuse_to_open(const struct hooked_call *call)
{
    if (call->op == SIM_OPEN)
        return atomic_load(&open_error);
    return 0;
}

/* Whether the writer has another page by now, only another look can tell. */
TEST(the_descriptor_is_readable_where_the_page_cannot_be_looked_for)
{
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .from_lsn = 11, .ret_report = &reader_report);
    struct twinlog_reader *reader;
    struct twinlog_record record;

    log_close(make_life_log(10));
    ck_assert_int_eq(twl_reader_open(hooked_log_dir(refuse_to_open), &options, &reader), 0);
    const int fd = twinlog_reader_fd(reader);
    ck_assert_int_ge(fd, 0);
    ck_assert(!is_readable(fd));

    ck_assert_int_eq(unlink(log_file(PAGE_FILE_NAME)), 0);
    atomic_store(&open_error, -EMFILE);
    expect_readable(fd);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), -EMFILE);
    ck_assert_int_eq(reader_report.error, -EMFILE);

    atomic_store(&open_error, 0);
    ck_assert_int_eq(twinlog_reader_seek(reader, 11), 0);
    expect_no_next(reader, 0);
    twinlog_reader_close(reader);
}

TEST_EACH(the_descriptor_is_readable_while_there_is_something, reader_kinds)
{
    struct twinlog *log = make_life_log(5);
    struct twinlog_reader *reader = open_reader(log, row, 0, 6);
    struct twinlog_record record;
    int fd = twinlog_reader_fd(reader);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(twinlog_reader_fd(reader), fd);
    for (uint64_t lsn = 1; lsn <= 5; lsn++) {
        ck_assert(is_readable(fd));
        expect_next(reader, lsn, 0);
    }

    ck_assert(is_readable(fd)); /* no thread has found out yet */
    expect_no_next(reader, 0);
    ck_assert(!is_readable(fd));
    put_many(log, 0, 3);
    expect_readable(fd);
    expect_next(reader, 6, 0);
    expect_no_next(reader, 0); /* the range ends here */
    ck_assert(!is_readable(fd));
    put_many(log, 0, 1);
    ck_assert(!is_readable(fd));

    ck_assert_int_eq(twinlog_reader_seek(reader, 6), 0);
    ck_assert(is_readable(fd));
    expect_next(reader, 6, 0);
    expect_no_next(reader, 0);
    ck_assert(!is_readable(fd));
    ck_assert_int_eq(twinlog_reader_previous(reader, &record), 1);
    ck_assert(is_readable(fd));
    expect_next(reader, 6, 0);
    expect_no_next(reader, 0);
    ck_assert_int_eq(twinlog_truncate(log, 3), 0);
    expect_readable(fd); /* an error is something as well */
    expect_no_next(reader, TWINLOG_ETRUNCATED);
    ck_assert(is_readable(fd));
    ck_assert_int_eq(twinlog_reader_seek(reader, 4), 0);
    ck_assert(!is_readable(fd) || twinlog_reader_next(reader, &record) == 0);
    ck_assert(!is_readable(fd));
    ck_assert_int_eq(twinlog_reset(log, 30), 0);
    expect_readable(fd); /* and so is a trim that overtakes the reader */
    expect_no_next(reader, TWINLOG_ETRIMMED);
    ck_assert(is_readable(fd));
    twinlog_reader_close(reader);
    log_close(log);
}

/* Without those that the keeper has for a moment, when it looks for limits. */
static unsigned open_descriptors(void)
{
    unsigned least = UINT_MAX;

    for (unsigned look = 0; look < 10; look++, usleep(5000)) {
        unsigned count = 0;
        for (int fd = 0; fd < 1024; fd++)
            count += fcntl(fd, F_GETFD) >= 0;
        if (count < least)
            least = count;
    }

    return least;
}

TEST_EACH(a_reader_can_be_closed_at_any_point, reader_kinds)
{
    struct twinlog *log = log_open(NULL); /* so large a segment that nothing else happens in the background */

    put_many(log, 0, 500);
    unsigned before = open_descriptors();
    for (int point = 0; point < 40; point++) {
        const bool begins_at_end = point % 2 == 0, is_followed = point % 3 != 0;
        const bool goes_back = point % 5 == 0, seeks = point % 7 == 0;
        struct twinlog_reader *reader = open_reader(log, row, begins_at_end ? 501 : 0, 0);
        struct twinlog_record record;

        for (int i = 0; i < point; i++)
            ck_assert_int_ge(twinlog_reader_next(reader, &record), 0);
        if (is_followed)
            ck_assert_int_ge(twinlog_reader_fd(reader), 0);
        if (goes_back)
            ck_assert_int_ge(twinlog_reader_previous(reader, &record), 0);
        if (seeks)
            ck_assert_int_eq(twinlog_reader_seek_time(reader, 0), 0);
        twinlog_reader_close(reader);
    }

    ck_assert_uint_eq(open_descriptors(), before);
    log_close(log);
}
