/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at a log while it works: how values are counted, where the time goes, what the log tells of itself, and
 * how another process gets to see all that.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include "../sim/rng.h"
#include "base/gauge.h"
#include "base/sync.h"
#include "control/shared_page.h"
#include "io/io.h"
#include "log/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

/* ---- timings and counters ------------------------------------------------------------------------ */

static struct twinlog_timings timings_of(struct twinlog *log)
{
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;

    ck_assert_int_eq(twinlog_timings(log, &timings), 0);
    return timings;
}

struct work {
    struct twinlog *log;
    int (*append)(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn);
    unsigned count;
    int error;
};

static void *work(void *argument)
{
    struct work *work = argument;

    for (unsigned i = 0; i < work->count && work->error == 0; i++)
        work->error = work->append(work->log, "timed", 5, NULL);
    return NULL;
}

/* In a thread of its own, so that it is known which of its calls are timed. */
static void append_elsewhere(struct twinlog *log, unsigned count,
                             int (*append)(struct twinlog *, const void *, size_t, uint64_t *))
{
    struct work job = { .log = log, .append = append, .count = count };

    pthread_t thread = start_thread(work, &job);
    pthread_join(thread, NULL);
    ck_assert_int_eq(job.error, 0);
}

CASE("counting", gate_set_up, logdir_remove);

TEST(one_append_in_an_interval_is_timed_and_every_group)
{
    struct twinlog *log = log_open(NULL);
    const unsigned interval = timings_of(log).sample_interval;

    append_elsewhere(log, 3 * interval, twinlog_append);
    const struct twinlog_timings timings = timings_of(log);
    const struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(timings.queue.count, 3);
    ck_assert_uint_eq(timings.copy.count, 3);
    ck_assert_uint_eq(timings.total.count, 3);
    ck_assert_uint_gt(timings.total.sum, timings.queue.sum + timings.copy.sum);
    ck_assert_uint_eq(timings.write.count, stat.groups);
    ck_assert_uint_eq(timings.group_records.count, stat.groups);
    ck_assert_uint_eq(timings.group_records.sum, 3 * interval);
    ck_assert_uint_eq(timings.group_bytes.sum, stat.group_bytes);
    ck_assert_uint_ge(timings.write.sum, timings.write.max);
    log_close(log);
}

TEST(an_append_that_does_not_wait_has_no_total)
{
    struct twinlog *log = log_open(NULL);

    append_elsewhere(log, 2 * timings_of(log).sample_interval, twinlog_enqueue);
    const struct twinlog_timings timings = timings_of(log);
    ck_assert_uint_eq(timings.queue.count, 2);
    ck_assert_uint_eq(timings.copy.count, 2);
    ck_assert_uint_eq(timings.total.count, 0);
    log_close(log);
}

TEST(timings_have_a_size_and_a_writer)
{
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    struct twinlog *log = log_open(NULL);

    ck_assert_int_eq(twinlog_timings(log, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_timings(NULL, &timings), -EINVAL);
    log_close(log);
    struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    log = log_open(&options);
    ck_assert_int_eq(twinlog_timings(log, &timings), -EROFS);
    log_close(log);
}

TEST(stat_counts_syncs_apart_from_groups)
{
    struct twinlog *log = log_open(NULL);
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    uint64_t lsn;
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);
    const struct twinlog_stat before = log_stat(log);

    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, &lsn), 0);
    const struct twinlog_stat written = log_stat(log);
    ck_assert_uint_eq(written.groups, before.groups + 1);
    ck_assert_uint_eq(written.syncs, before.syncs);
    ck_assert_uint_eq(written.written_lsn, lsn);
    ck_assert_uint_eq(written.durable_lsn, lsn - 1);
    ck_assert_int_eq(twinlog_sync(log), 0);
    const struct twinlog_stat synced = log_stat(log);
    ck_assert_uint_eq(synced.groups, written.groups);
    ck_assert_uint_eq(synced.syncs, written.syncs + 1);
    ck_assert_uint_eq(synced.durable_lsn, lsn);
    ck_assert_uint_eq(timings_of(log).sync.count, 1);
    log_close(log);
}

TEST(the_time_that_a_write_takes_is_told)
{
    struct twinlog *log = gate_log(NULL);
    struct work slow = { .log = log, .append = twinlog_append, .count = 1 };

    gate_shut();
    const pthread_t thread = start_thread(work, &slow);
    gate_await();
    const uint64_t until_ns = twl_monotonic_ns() + 3 * MS;
    while (twl_monotonic_ns() < until_ns)
        continue;
    gate_open();
    pthread_join(thread, NULL);
    ck_assert_int_eq(slow.error, 0);
    ck_assert_uint_ge(timings_of(log).write.max, 3 * MS);
    log_close(log);
}

/* ---- from another process ------------------------------------------------------------------------ */

#define PATIENCE_MS 120000

struct told {
    struct twinlog_stat stat;
    struct twinlog_timings timings;
};

static int watch(struct told *ret_told)
{
    *ret_told = (struct told){ .stat = TWINLOG_STAT_INIT, .timings = TWINLOG_TIMINGS_INIT };
    return twinlog_watch(log_dir, &ret_told->stat, &ret_told->timings);
}

/* What the test and the process that writes share. */
struct desk {
    _Atomic uint64_t appended;
    atomic_bool must_stop;
};

static struct desk *desk;

static int write_until_told(void)
{
    struct twinlog *log;
    uint64_t lsn;

    EXPECT(twinlog_open(log_dir, NULL, &log) == 0);
    while (!atomic_load(&desk->must_stop)) {
        EXPECT(twinlog_append(log, "watched", 7, &lsn) == 0);
        EXPECT(twinlog_durable_lsn(log) >= lsn);
        atomic_store(&desk->appended, lsn);
    }
    EXPECT(twinlog_close(log) == 0);
    return 0;
}

static void await_appended(uint64_t count)
{
    while (atomic_load(&desk->appended) < count)
        sched_yield();
}

static pid_t start_writer(int (*body)(void))
{
    desk = shared_page();
    const pid_t writer = start_child(body);
    await_appended(1);
    return writer;
}

static void stop_writer(pid_t writer)
{
    atomic_store(&desk->must_stop, true);
    ck_assert_int_eq(wait_child(writer), 0);
}

CASE("watching", gate_set_up, logdir_remove);

TEST(a_watcher_sees_what_another_process_counts)
{
    struct told first, second;
    const pid_t writer = start_writer(write_until_told);
    const uint64_t before = atomic_load(&desk->appended);

    ck_assert_int_eq(watch(&first), 0);
    ck_assert_uint_ge(first.stat.appends, before);
    ck_assert_uint_eq(first.stat.last_lsn, first.stat.appends);
    ck_assert_uint_ge(first.stat.append_bytes, 7 * before);
    ck_assert_uint_ge(first.stat.durable_lsn, before);
    ck_assert_uint_ge(first.stat.written_lsn, first.stat.durable_lsn);
    ck_assert_uint_eq(first.stat.epoch, 1);
    ck_assert_uint_eq(first.stat.first_lsn, 1);
    ck_assert_uint_eq(first.stat.segments, 1);
    ck_assert_uint_ge(first.timings.group_records.count, before);
    ck_assert_uint_gt(first.timings.sample_interval, 0);
    await_appended(first.stat.appends + 100);
    ck_assert_int_eq(watch(&second), 0);
    ck_assert_uint_ge(second.stat.appends, first.stat.appends + 100);
    ck_assert_uint_gt(second.timings.write.count, first.timings.write.count);
    stop_writer(writer);
    ck_assert_int_eq(watch(&second), -ESRCH);
}

TEST(a_watch_says_why_there_is_nothing_to_see)
{
    struct told told;

    ck_assert_int_eq(watch(&told), -ENOENT);
    struct twinlog *log = log_open(NULL);
    append_records(log, 0, 0, 1);
    ck_assert_int_eq(watch(&told), 0);
    told = (struct told){ .stat = TWINLOG_STAT_INIT, .timings = TWINLOG_TIMINGS_INIT };
    ck_assert_int_eq(twinlog_watch(log_dir, &told.stat, NULL), 0);
    ck_assert_uint_eq(told.stat.appends, 1);
    ck_assert_int_eq(twinlog_watch(log_dir, NULL, &told.timings), 0);
    ck_assert_uint_gt(told.timings.write.count, 0);
    ck_assert_int_eq(twinlog_watch(log_dir, NULL, NULL), 0);
    told.stat.size = 0;
    ck_assert_int_eq(twinlog_watch(log_dir, &told.stat, NULL), -EINVAL);
    told.timings.size = 0;
    ck_assert_int_eq(twinlog_watch(log_dir, NULL, &told.timings), -EINVAL);
    ck_assert_int_eq(twinlog_watch(NULL, NULL, NULL), -EINVAL);
    log_close(log);
    ck_assert_int_eq(watch(&told), -ESRCH);
}

/* What it has counted is seen while it does nothing; what another writer counts begins at 0. */
TEST(an_idle_writer_is_seen)
{
    struct told told;
    struct twinlog *log = log_open(NULL);

    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(watch(&told), 0);
        ck_assert_uint_eq(told.stat.appends, 10);
        ck_assert_uint_eq(told.stat.durable_lsn, 10);
        ck_assert_uint_eq(told.stat.groups, log_stat(log).groups);
        ck_assert_uint_eq(told.timings.group_records.count, told.stat.groups);
    }
    log_close(log);
    log = log_open(NULL);
    ck_assert_int_eq(watch(&told), 0);
    ck_assert_uint_eq(told.stat.appends, 0);
    ck_assert_uint_eq(told.stat.groups, 1); /* the marker of the opening */
    ck_assert_uint_eq(told.timings.group_records.count, 1);
    ck_assert_uint_eq(told.stat.last_lsn, 10);
    ck_assert_uint_eq(told.stat.epoch, 2);
    log_close(log);
}

TEST(a_truncation_takes_lsns_back_and_no_counts)
{
    struct told told;
    struct twinlog *log = log_open(NULL);

    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_truncate(log, 4), 0);
    append_records(log, 0, 4, 1);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(watch(&told), 0);
    ck_assert_uint_eq(told.stat.appends, 11);
    ck_assert_uint_eq(told.stat.last_lsn, 5);
    ck_assert_uint_eq(told.stat.durable_lsn, 5);
    log_close(log);
}

TEST(a_poisoned_writer_is_seen_with_all_that_it_has_counted)
{
    struct told told;
    struct twinlog *log = gate_log(NULL);

    ck_assert_int_eq(twinlog_append(log, "well", 4, NULL), 0);
    ck_assert_int_eq(watch(&told), 0);
    ck_assert_int_eq(told.stat.poison, 0);
    ck_assert_int_eq(log_inspect().poison, 0);
    ck_assert_uint_eq(log_inspect().writer_pid, (uint32_t)getpid());
    atomic_store(&gate.error, -EIO);
    ck_assert_int_eq(twinlog_append(log, "lost", 4, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(watch(&told), 0);
    ck_assert_int_eq(told.stat.poison, -EIO);
    ck_assert_uint_eq(told.stat.epoch, 1);
    ck_assert_uint_eq(told.stat.durable_lsn, 1);
    ck_assert_uint_eq(told.stat.last_lsn, 2);
    ck_assert_uint_ge(told.timings.write.count, 2);
    ck_assert_int_eq(log_inspect().poison, -EIO);
    ck_assert_int_eq(twinlog_close(log), -EIO);
    ck_assert_int_eq(watch(&told), -ESRCH);
    ck_assert_int_eq(log_inspect().poison, 0);

    log = log_open(NULL); /* a new writer begins without it */
    ck_assert_int_eq(watch(&told), 0);
    ck_assert_int_eq(told.stat.poison, 0);
    log_close(log);
}

/* While the disk is full, not afterwards. */
TEST(a_refusal_is_seen_before_anything_is_written_again)
{
    static const unsigned char bytes[8000];
    const struct twinlog_options options = LOG_OPTIONS(.segment_bytes = 65536);
    struct told told;
    struct twinlog *log = gate_log(&options);
    int rc = 0;

    atomic_store(&gate.largest_file, 4096);
    while (rc == 0)
        rc = twinlog_append(log, bytes, sizeof(bytes), NULL);
    ck_assert_int_eq(rc, -ENOSPC);
    ck_assert_uint_eq(log_stat(log).full_failures, 1);
    AWAIT(watch(&told) == 0 && told.stat.full_failures == 1); /* the keeper's thread tells it */

    ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), -ENOSPC);
    ck_assert_uint_eq(log_stat(log).full_failures, 2);
    AWAIT(watch(&told) == 0 && told.stat.full_failures == 2);
    log_close(log);
}

static const struct {
    const char *name;
    uint32_t mode;
} mapped_modes[] = {
    { "mapped", TWINLOG_MODE_MAPPED },
    { "shared", TWINLOG_MODE_SHARED },
};

TEST_EACH(a_log_without_groups_is_seen, mapped_modes)
{
    const struct twinlog_options options = LOG_OPTIONS(.mode = row->mode, .segment_bytes = 65536);
    struct told told;
    struct twinlog *log = log_open(&options);

    append_records(log, 0, 0, 3000);
    ck_assert_int_eq(watch(&told), 0);
    const struct twinlog_stat stat = log_stat(log);
    ck_assert_uint_eq(told.stat.mode, options.mode);
    ck_assert_uint_eq(told.stat.last_lsn, 3000);
    ck_assert_uint_eq(told.stat.written_lsn, 3000);
    ck_assert_uint_eq(told.stat.appends, 3000);
    ck_assert_uint_eq(told.stat.groups, 0);
    ck_assert_uint_eq(told.stat.rolls, stat.rolls);
    ck_assert_uint_gt(told.stat.rolls, 0);
    ck_assert_uint_gt(told.stat.segments, 1);
    ck_assert_uint_gt(told.stat.file_bytes, 65536);
    ck_assert_uint_eq(told.timings.sample_interval, 0);

    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(watch(&told), 0);
    ck_assert_uint_eq(told.stat.durable_lsn, 3000);
    log_close(log);
}

/* The mode of a file does not stop root, so root becomes another user. */
static int watch_as_a_reader(void)
{
    struct told told;

    EXPECT(geteuid() != 0 || become_nobody());
    EXPECT(open(log_file("writer.lock"), O_RDWR | O_CLOEXEC) < 0);
    EXPECT(watch(&told) == 0);
    EXPECT(told.stat.appends == 10);
    EXPECT(told.timings.group_records.count > 0);
    return 0;
}

TEST(a_user_who_may_only_read_sees_it_all)
{
    if (geteuid() == 0 && !can_nobody_enter(__func__))
        return;

    struct twinlog *log = log_open(NULL);
    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(chmod(log_file("writer.lock"), 0444), 0);
    ck_assert_int_eq(wait_child(start_child(watch_as_a_reader)), 0);
    log_close(log);
}

/* ---- a file that has no statistics ------------------------------------------------------------------ */

#define STATISTICS_AT BLOCK_BYTES /* in the file */

TEST(a_writer_of_another_version_is_not_taken_for_one_of_this)
{
    const uint32_t other = STATISTICS_LAYOUT + (1u << 24);
    struct told told;
    struct twinlog *log = log_open(NULL);

    patch_file(log_file("writer.lock"), STATISTICS_AT, &other, sizeof(other));
    ck_assert_int_eq(watch(&told), -ENOTSUP);
    log_close(log);
}

/* The disk is full, and the file is too short. */
TEST(a_page_without_room_in_the_file_is_private)
{
    struct told told;
    struct twinlog *log = log_open(NULL);

    log_close(log);
    ck_assert_int_eq(truncate(log_file("writer.lock"), BLOCK_BYTES), 0);
    atomic_store(&gate.largest_file, BLOCK_BYTES);
    log = gate_log(NULL);
    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_uint_eq(log_stat(log).appends, 10);
    ck_assert_int_eq(watch(&told), -ENOTSUP);
    ck_assert_uint_ge(log_inspect().durable_lsn, 9); /* by the markers in the log */
    log_close(log);
}

/* ---- a file that is spoiled under the writer ------------------------------------------------------ */

TEST(a_false_watermark_leads_no_reader_back_to_the_beginning)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    struct twinlog *log = log_open(NULL);

    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), 0);
    watermark_store(&log->shared->page->durable, UINT64_MAX);
    ck_assert_int_eq(twinlog_reader_seek_end(reader), 0);
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    twinlog_reader_close(reader);
    log_close(log);
}

/* Reads on in the process that writes: its readers look at the page, too. */
static int write_and_read(void)
{
    struct tally tally = { 0 };
    const char *wrong = NULL;
    struct twinlog *log;
    struct twinlog_reader *reader;
    uint64_t lsn = 0;

    EXPECT(twinlog_open(log_dir, NULL, &log) == 0);
    EXPECT(twinlog_reader_attach(log, NULL, &reader) == 0);
    for (uint32_t i = 0; !atomic_load(&desk->must_stop); i++) {
        EXPECT(append_record(log, 0, i, &lsn) == 0);
        EXPECT(twinlog_durable_lsn(log) == lsn);
        EXPECT(twinlog_reader_wait(reader, PATIENCE_MS) == 1);
        EXPECT(tally_rest(&tally, reader, &wrong) == 1);
        atomic_store(&desk->appended, lsn);
    }
    twinlog_reader_close(reader);
    EXPECT(twinlog_close(log) == 0);
    return 0;
}

/* Reads the record that is next, as soon as there is one. */
static void read_next(struct tally *tally, struct twinlog_reader *reader)
{
    struct twinlog_record record;
    int rc;

    do {
        ck_assert_int_eq(twinlog_reader_wait(reader, PATIENCE_MS), 1);
        rc = twinlog_reader_next(reader, &record);
        ck_assert_int_ge(rc, 0);
    } while (rc == 0);
    ck_assert_ptr_null(tally_record(tally, &record));
}

/* The reader may be slower than the writer, and would never come to the end: it reads so many records, not all. The
 * thread sanitizer makes an atomic access for us, with a lock of its own that the handler's mmap() needs too. */
TEST(a_writer_survives_that_its_page_is_truncated)
{
    if (HAS_THREAD_SANITIZER) {
        fprintf(stderr,
                "SKIP watch a_writer_survives_that_its_page_is_truncated: the thread sanitizer locks itself "
                "out in a signal handler\n");
        return;
    }
    struct told told;
    const pid_t writer = start_writer(write_and_read);
    struct twinlog_reader *reader = log_reader(0, 0); /* has the page mapped, too */
    struct tally tally = { 0 };

    read_next(&tally, reader);
    ck_assert_int_eq(truncate(log_file("writer.lock"), 0), 0);
    const uint64_t appended = atomic_load(&desk->appended) + 50;
    await_appended(appended);
    ck_assert_int_eq(watch(&told), -ENOTSUP);
    while (tally.last_lsn <= appended) /* without the page, by the markers in the log */
        read_next(&tally, reader);
    twinlog_reader_close(reader);
    stop_writer(writer);
    ck_assert_uint_eq(log_check().last_lsn, atomic_load(&desk->appended));
}

TEST(a_writer_survives_any_bytes_behind_the_words_of_its_page)
{
    struct rng rng = { test_seed() };
    struct told told;
    const pid_t writer = start_writer(write_and_read);

    for (unsigned round = 0; round < 50; round++) {
        unsigned char bytes[30000];
        rng_fill(&rng, bytes, sizeof(bytes));
        patch_file(log_file("writer.lock"), offsetof(struct page_words, writer), bytes, sizeof(bytes));
        const int rc = watch(&told);
        ck_assert(rc == 0 || rc == -ENOTSUP);
        await_appended(atomic_load(&desk->appended) + 2);
    }
    stop_writer(writer);
    ck_assert_uint_eq(log_check().last_lsn, atomic_load(&desk->appended));
}

/* ---- a directory that is removed ------------------------------------------------------------------- */

CASE("a directory that is removed", gate_set_up, logdir_remove);

/* Again, if a thread of the log has made a file in it meanwhile. */
static void remove_log(void)
{
    while (access(log_dir, F_OK) == 0)
        remove_tree(log_dir);
}

static void remove_and_make_again(void)
{
    remove_log();
    struct twinlog *other = log_open(NULL);
    append_records(other, 0, 0, 5);
    log_close(other);
}

static void make_ten(void)
{
    struct twinlog *log = log_open(NULL);
    append_records(log, 0, 0, 10);
    log_close(log);
}

static struct twinlog_reader *open_behind_all(void)
{
    struct twinlog_reader *reader = log_reader(11, 0);
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    return reader;
}

static int next_of(struct twinlog_reader *reader)
{
    struct twinlog_record record;
    return twinlog_reader_next(reader, &record);
}

TEST(a_reader_does_not_take_another_log_for_its_own)
{
    make_ten();
    struct twinlog_reader *reader = open_behind_all();
    remove_and_make_again();

    ck_assert_int_eq(twinlog_reader_wait(reader, PATIENCE_MS), 1);
    ck_assert_int_eq(next_of(reader), -ESTALE);
    twinlog_reader_close(reader);
}

TEST(the_descriptor_of_a_reader_tells_that_its_log_is_removed)
{
    make_ten();
    struct twinlog_reader *reader = open_behind_all();
    struct pollfd readable = { .fd = twinlog_reader_fd(reader), .events = POLLIN };
    ck_assert_int_eq(poll(&readable, 1, 0), 0);
    remove_and_make_again();

    ck_assert_int_eq(poll(&readable, 1, PATIENCE_MS), 1);
    ck_assert_int_eq(next_of(reader), -ESTALE);
    twinlog_reader_close(reader);
}

static int remove_it(void)
{
    remove_log();
    return 0;
}

TEST(a_reader_that_waits_while_its_log_is_removed_comes_back)
{
    make_ten();
    struct twinlog_reader *reader = open_behind_all();
    const pid_t remover = start_child(remove_it);
    ck_assert_int_eq(twinlog_reader_wait(reader, PATIENCE_MS), 1);
    ck_assert_int_eq(next_of(reader), -ESTALE);
    ck_assert_int_eq(wait_child(remover), 0);
    twinlog_reader_close(reader);
}

TEST(a_consumer_of_a_log_that_is_removed_commits_nothing)
{
    struct twinlog_consumer *consumer;
    struct twinlog_record record;

    make_ten();
    ck_assert_int_eq(twinlog_consumer_open(log_dir, "name", NULL, &consumer), 0);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(twinlog_consumer_next(consumer, &record), 1);
    remove_and_make_again();

    ck_assert_int_eq(twinlog_reader_wait(twinlog_consumer_reader(consumer), PATIENCE_MS), 1);
    ck_assert_int_eq(twinlog_consumer_next(consumer, &record), -ESTALE);
    ck_assert_int_eq(twinlog_consumer_commit(consumer, 3), -ESTALE);
    twinlog_consumer_close(consumer);
}

static const struct {
    const char *name;
    uint32_t mode;
} modes[] = {
    { "durable", TWINLOG_MODE_DURABLE },
    { "mapped", TWINLOG_MODE_MAPPED },
    { "shared", TWINLOG_MODE_SHARED },
};

/* What was appended is lost with the directory; a writer says so within about a second. */
TEST_EACH(a_writer_does_not_go_on_in_a_directory_that_is_removed, modes)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = row->mode));
    uint64_t lsn;

    append_records(log, 0, 0, 10);
    struct twinlog_reader *reader = log_attach(log, UINT64_C(1) << 40, 0);
    struct pollfd readable = { .fd = twinlog_reader_fd(reader), .events = POLLIN };
    ck_assert_int_eq(next_of(reader), 0);
    remove_and_make_again();

    AWAIT(twinlog_append(log, "one", 3, &lsn) == TWINLOG_EPOISONED);
    ck_assert_int_eq(log_stat(log).poison, -ESTALE);
    ck_assert_int_eq(poll(&readable, 1, PATIENCE_MS), 1);
    ck_assert_int_eq(twinlog_reader_wait(reader, PATIENCE_MS), 1);
    ck_assert_int_eq(next_of(reader), -ESTALE);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_close(log), -ESTALE);
    ck_assert_uint_eq(log_check().last_lsn, 5);
}

TEST_EACH(closing_a_log_whose_directory_is_removed_fails, modes)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = row->mode));

    append_records(log, 0, 0, 10);
    remove_log();
    ck_assert_int_eq(twinlog_close(log), -ESTALE);
}

/* It has another name, and is the same one. */
TEST_EACH(a_directory_that_is_renamed_is_no_other, modes)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = row->mode));
    char renamed[320];

    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    struct twinlog_reader *reader = open_behind_all();
    snprintf(renamed, sizeof(renamed), "%s.renamed", log_dir);
    ck_assert_int_eq(rename(log_dir, renamed), 0);

    append_records(log, 0, 10, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_reader_wait(reader, PATIENCE_MS), 1);
    ck_assert_int_eq(next_of(reader), 1);
    twinlog_reader_close(reader);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(rename(renamed, log_dir), 0);
}
