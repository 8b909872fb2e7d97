/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TWINLOG_MODE_SHARED, where one of those that write a log together is in the way of the others: it stands still in the
 * middle of something, its children outlive it, or it can't follow.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "logdir.h"
#include "mapped/mapped_segment.h"
#include "suites.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SMALL_BYTES 65536u
#define PAYLOAD 4096u
#define RECORDS 40u /* in more than two segments */

static struct twinlog_options shared(uint32_t flags)
{
    struct twinlog_options options = LOG_OPTIONS(.flags = flags, .mode = TWINLOG_MODE_SHARED);

    options.segment_bytes = options.mapped_bytes = SMALL_BYTES;
    options.max_record_bytes = RECORD_ROOM;
    return options;
}

static struct twinlog *open_shared(uint32_t flags)
{
    const struct twinlog_options options = shared(flags);

    return log_open(&options);
}

static uint64_t append(struct twinlog *log)
{
    static const unsigned char bytes[PAYLOAD];
    uint64_t lsn;

    ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), &lsn), 0);
    return lsn;
}

/* ---- a process that stands still in the middle of a copy ------------------------------------------ */

/* What it copies can't be read until it is to go on: it asks in the handler of the fault. */
static struct {
    _Atomic bool is_stuck, may_go_on;
} * stuck;
static unsigned char *unreadable;

static void on_fault(int number)
{
    (void)number;
    atomic_store(&stuck->is_stuck, true);
    while (!atomic_load(&stuck->may_go_on))
        usleep(1000);
    mprotect(unreadable, PAYLOAD, PROT_READ);
}

static int get_stuck(void)
{
    const struct twinlog_options options = shared(LOG_NO_THREADS);
    struct twinlog *log;
    uint64_t lsn;

    unreadable = mmap(NULL, PAYLOAD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    signal(SIGSEGV, on_fault);
    EXPECT(log_try(&options, &log) == 0);
    EXPECT(twinlog_append(log, unreadable, PAYLOAD, &lsn) == 0);
    EXPECT(twinlog_close(log) == 0);
    return 0;
}

static pid_t start_stuck(void)
{
    stuck = shared_page();
    const pid_t child = start_child(get_stuck);
    AWAIT(atomic_load(&stuck->is_stuck));
    return child;
}

static void let_go_on(pid_t child)
{
    atomic_store(&stuck->may_go_on, true);
    ck_assert_int_eq(wait_child(child), 0);
}

struct waiter {
    struct twinlog *log;
    uint64_t lsn;
    _Atomic bool has_begun;
    int rc;
};

static void *wait_durable(void *context)
{
    struct waiter *waiter = context;

    atomic_store(&waiter->has_begun, true);
    waiter->rc = twinlog_wait(waiter->log, waiter->lsn, TWINLOG_LEVEL_DURABLE, 0);
    return NULL;
}

CASE("one that stands still", gate_set_up, logdir_remove);

TEST(a_thread_that_waits_for_a_process_that_stands_still_keeps_no_other_one_waiting)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    const uint64_t before = append(log);
    const pid_t child = start_stuck();
    struct waiter waiter = { .log = log, .lsn = append(log) };

    pthread_t thread = start_thread(wait_durable, &waiter);
    AWAIT(atomic_load(&waiter.has_begun) && twinlog_durable_lsn(log) == before);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(twinlog_wait(log, waiter.lsn, TWINLOG_LEVEL_DURABLE, twinlog_deadline(20)),
                         -ETIMEDOUT);
    let_go_on(child);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(waiter.rc, 0);
    log_close(log);
}

static uint64_t last_of_all(void)
{
    struct twinlog_inspection found = log_inspect();
    return found.last_lsn;
}

TEST(a_process_whose_records_lie_before_one_that_stands_still_can_leave)
{
    struct twinlog_options options = shared(0);
    options.flush_interval_ms = 1;
    struct twinlog *log = log_open(&options);
    const uint64_t before = append(log);
    const pid_t child = start_stuck();

    /* meanwhile an interval is over */
    ck_assert_int_eq(twinlog_wait(log, before + 1, TWINLOG_LEVEL_DURABLE, twinlog_deadline(100)), -ETIMEDOUT);
    log_close(log);
    let_go_on(child);
    ck_assert_uint_eq(last_of_all(), before + 1);
}

CASE("children", gate_set_up, logdir_remove);

static pid_t *orphan;

/* With one handle that opened the log, or with one more that has joined it. */
static int die_before_a_child(unsigned handles)
{
    static const unsigned char bytes[PAYLOAD];
    const struct twinlog_options options = shared(0);
    struct twinlog *log;
    uint64_t lsn;

    while (handles-- > 0)
        EXPECT(log_try(&options, &log) == 0);
    for (unsigned i = 0; i < RECORDS; i++)
        EXPECT(twinlog_append(log, bytes, sizeof(bytes), &lsn) == 0);
    const pid_t child = fork_quietly();
    while (child == 0)
        pause();
    *orphan = child;
    return raise(SIGKILL);
}

static int open_and_die(void)
{
    return die_before_a_child(1);
}

static int join_and_die(void)
{
    return die_before_a_child(2);
}

TEST_LOOP(a_child_of_one_that_was_killed_keeps_no_process_out, 2)
{
    const struct twinlog_options options = shared(0);
    struct twinlog *log;

    orphan = shared_page();
    ck_assert_int_eq(run_child(_i ? join_and_die : open_and_die), 128 + SIGKILL);
    const uint64_t deadline_ns = twinlog_deadline(120000);
    const int rc = twinlog_open(log_dir, &options, &log);
    const uint64_t opened_ns = twinlog_deadline(0);
    kill(*orphan, SIGKILL);
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_lt(opened_ns, deadline_ns);
    ck_assert_uint_eq(twinlog_last_lsn(log), RECORDS);
    log_close(log);
}

CASE("what goes wrong", gate_set_up, logdir_remove);

/* The page of a record is as the kernel leaves it that could not write it, and drops it. */
static void drop_first_record(void)
{
    static const unsigned char zeros[RECORD_HEADER_BYTES];

    patch_file(log_segment(2), OPEN_RECORDS_OFFSET, zeros, sizeof(zeros));
}

TEST_LOOP(a_record_that_is_gone_poisons_and_no_call_waits_for_it, 3)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);
    const struct twinlog_options options = shared(LOG_NO_THREADS);
    struct twinlog *other;

    const uint64_t lsn = append(log);
    drop_first_record();
    if (_i == 0) {
        ck_assert_int_eq(twinlog_sync(log), -EIO);
    } else if (_i == 1) {
        ck_assert_int_eq(twinlog_wait(log, lsn, TWINLOG_LEVEL_WRITTEN, 0), -EIO);
    } else {
        ck_assert_int_eq(log_try(&options, &other), 0);
        ck_assert_int_eq(twinlog_sync(other), -EIO);
        ck_assert_int_eq(twinlog_close(other), -EIO);
    }
    ck_assert_int_eq(twinlog_append(log, "x", 1, NULL), TWINLOG_EPOISONED);
    ck_assert_int_eq(twinlog_close(log), -EIO);
}

TEST(a_sync_that_cannot_follow_says_so)
{
    const struct twinlog_options options = shared(LOG_NO_THREADS);
    struct twinlog *log = open_shared(LOG_NO_THREADS), *behind = gate_log(&options);

    append(log);
    ck_assert_int_eq(twinlog_sync(behind), 0);
    atomic_store(&gate.map_error, -ENOMEM);
    for (unsigned i = 1; i < RECORDS; i++) {
        append(log);
        if (i == RECORDS / 2) /* beyond what it has mapped */
            ck_assert_int_eq(twinlog_sync(log), 0);
    }
    ck_assert_int_eq(twinlog_sync(behind), -ENOMEM);
    atomic_store(&gate.map_error, 0);
    ck_assert_int_eq(twinlog_sync(behind), 0);
    ck_assert_uint_eq(twinlog_durable_lsn(behind), RECORDS);
    log_close(behind);
    log_close(log);
}

static unsigned count_open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned count = 0;

    ck_assert_ptr_nonnull(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

TEST(a_process_without_a_thread_lets_go_of_what_is_full)
{
    struct twinlog *log = open_shared(LOG_NO_THREADS);

    append(log);
    const unsigned files = count_open_files();
    for (unsigned i = 0; i < 10 * RECORDS; i++)
        append(log);
    ck_assert_uint_ge(log_stat(log).segments, 20);
    ck_assert_uint_le(count_open_files(), files + 2);
    log_close(log);
}

CASE("markers", gate_set_up, logdir_remove);

#define MARKINGS 200000u

struct marker {
    struct mapped_segment *seg;
    struct group_header start;
    _Atomic bool is_done;
};

static void *mark_again(void *context)
{
    struct marker *marker = context;

    for (unsigned i = 0; i < MARKINGS; i++)
        twl_mapped_segment_begin(marker->seg, &marker->start);
    atomic_store(&marker->is_done, true);
    return NULL;
}

/* By one that comes late to a segment that others have started, and may be killed while it does that. */
TEST(a_marker_that_is_made_again_is_there_all_the_time)
{
    const struct segment_plan plan = {
        .number = 1, .sequence = 1, .bytes = SMALL_BYTES, .allocation = IO_ALLOCATE_SPACE, .is_mapped = true
    };
    struct marker marker = {
        .start = { .first_lsn = 1, .bytes = GROUP_HEADER_BYTES, .kind = GROUP_START, .epoch.number = 1 }
    };
    const struct participants own = { .number = 1 };
    struct segment segment;
    struct io *io;
    struct group_header found;
    void *bytes;
    uint64_t looks = 0, wrong = 0;

    ck_assert_int_eq(twl_io_posix_create(log_parent, false, &io), 0);
    ck_assert_int_eq(twl_segment_create(io, &plan, &segment, NULL), 0);
    io_unlock(segment.file, IO_LOCK_WRITER);
    ck_assert_int_eq(io->ops->map(segment.file, SMALL_BYTES, &bytes), 0);
    ck_assert_int_eq(twl_mapped_segment_map(io, &segment, &own, &marker.seg), 0);
    twl_mapped_segment_begin(marker.seg, &marker.start);
    pthread_t thread = start_thread(mark_again, &marker);
    for (; !atomic_load(&marker.is_done); looks++)
        wrong += !twl_group_header_decode((unsigned char *)bytes + SEGMENT_DATA_OFFSET, segment.seed,
                                          SEGMENT_DATA_OFFSET, &found);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(wrong == 0, "%" PRIu64 " of %" PRIu64 " looks found no mark", wrong, looks);
    io->ops->unmap(io, bytes, SMALL_BYTES);
    twl_mapped_segment_unmap(marker.seg);
    free(marker.seg);
    twl_segment_close(&segment);
    io->ops->destroy(io);
}
