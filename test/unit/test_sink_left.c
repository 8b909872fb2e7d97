/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What deaths leave of a plain file, and what strangers, other users, locks and broken areas do to it. The sink's
 * objects are compiled with its points, see base/point.h. What a death at each of them leaves: crash-kill sink,
 * sim-crash --sink.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "sink/claim.h"
#include "sink/sink.h"
#include "sinks.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOLE "                                \n" /* killed in the middle of the copy */

/* ---- deaths ------------------------------------------------------------------------------------------ */

CASE("sink", prepare, logdir_remove);

/* A child that was forked in the middle of a write lives on. */
TEST_LOOP(a_child_of_a_dead_process_holds_nothing, 2)
{
    struct twinlog_sink *sink;
    dying_flags = _i == 0 ? MAPPED | SHARED : MAPPED;
    dying_point = "copy half done";
    dying_signal = SIGKILL;
    forks_there = true;
    ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    put(sink, LINE);
    close_sink(sink);
    expect_text(path, HOLE LINE);
    expect_nothing_beside();
    atomic_store(&shared->step, 1);
}

/* One dies, another one lives and makes its write harmless: by a sync, or its thread does it. */
TEST_LOOP(the_survivor_cleans_up, 2)
{
    char last = 0;
    dying_flags = MAPPED | SHARED;
    dying_point = "copy half done";
    dying_signal = SIGKILL;
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, LINE);
    ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);
    put(sink, LINE);
    if (_i == 0)
        ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    const int fd = open(path, O_RDONLY);
    AWAIT(_i == 0 || (pread(fd, &last, 1, (off_t)(2 * strlen(LINE) - 1)) == 1 && last == '\n'));
    close(fd);
    ck_assert_uint_eq(look_at(sink).participants, 1);
    close_sink(sink);
    expect_text(path, LINE HOLE LINE);
}

static int leave_on_a_full_disk(void)
{
    struct twinlog_sink *sink;
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    stop_thread(sink);
    EXPECT(run_child(die_at_point) == 128 + SIGKILL);
    EXPECT(rename(path, numbered(1)) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 1);
    EXPECT(forbid(SYS_pwrite64, ENOSPC));
    twl_sink_retire(sink, false);
    twl_mutex_lock(&sink->retiring);
    const bool stays = twl_sink_old(sink) != NULL;
    twl_mutex_unlock(&sink->retiring);
    EXPECT(stays && atomic_load(&sink->past_error) == 0);
    return twinlog_sink_sync(sink) == -ENOSPC ? 0 : 1;
}

/* The write of the dead one cannot be made harmless now, but it may be later. */
TEST(a_full_disk_is_no_lasting_error)
{
    dying_flags = MAPPED | SHARED;
    dying_point = "copy half done";
    dying_signal = SIGKILL;
    ck_assert_int_eq(run_child(leave_on_a_full_disk), 0);
}

static void *retire_it(void *context)
{
    twl_sink_retire(context, false);
    return NULL;
}

/* Another process's sync fails while the file waits for a writer: that is the error, not the -EAGAIN of a wait. */
TEST(what_a_file_waits_for_is_no_lasting_error)
{
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    struct sink_file *old = atomic_load(&sink->file);
    const pid_t child = stop_child_at("copy half done");
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    atomic_store(&shared->step, 0);
    atomic_store(&shared->was_there, false);
    signal_there = 0;
    wanted_point = "sync waits";
    const pthread_t thread = start_thread(retire_it, sink);
    AWAIT(atomic_load(&shared->was_there));
    atomic_store(&old->area->sync_error, -EIO);
    atomic_store(&shared->step, 1);
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&sink->past_error), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    twinlog_sink_close(sink);
}

/* The newest old file is left first. */
TEST(the_first_error_of_an_old_file_stays)
{
    static const int errors[] = { -EIO, -ENOSPC, -EDQUOT };
    struct twinlog_sink *sink = open_sink(NULL);

    stop_thread(sink);
    for (unsigned i = 3; i-- > 0;) {
        put(sink, LINE);
        atomic_store(&atomic_load(&sink->file)->area->sync_error, errors[i]);
        ck_assert_int_eq(rename(path, numbered(i + 1)), 0);
        ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    }

    ck_assert_int_eq(twl_sink_retire(sink, false), 0);
    ck_assert_int_eq(atomic_load(&sink->past_error), -EIO);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    close_sink(sink);
}

/* The thread of a sink, which has other work, waits for no sync of another thread. */
TEST(a_sync_beside_another_one_is_put_off_by_the_thread)
{
    struct twinlog_sink *sink = open_sink(NULL);

    stop_thread(sink);
    put(sink, LINE);
    twl_mutex_lock(&sink->retiring);
    const int flushed = twl_sink_flush_all(sink, false);
    twl_mutex_unlock(&sink->retiring);
    ck_assert_int_eq(flushed, -EAGAIN);
    ck_assert_int_eq(twl_sink_flush_all(sink, false), 0);
    ck_assert_uint_eq(look_at(sink).synced_bytes, strlen(LINE));
    close_sink(sink);
}

static _Atomic int sync_result;

static void *sync_it(void *context)
{
    atomic_store(&sync_result, twinlog_sink_sync(context));
    return NULL;
}

static void *sync_too(void *context)
{
    return (void *)(intptr_t)twinlog_sink_sync(context);
}

/* However many there are, in a file that was renamed meanwhile. No other call waits. */
TEST(syncs_that_wait_hold_up_no_other)
{
    pthread_t threads[SLOTS + 1];
    void *result;
    const struct twinlog_sink_options options = options_of(MAPPED | SHARED);
    struct twinlog_sink *sink = open_sink(&options);
    const pid_t child = stop_child_at("copy half done");
    for (unsigned i = 0; i <= SLOTS; i++)
        threads[i] = start_thread(sync_too, sink);
    AWAIT(atomic_load(&sink->without_lane) == SLOTS + 1);
    for (unsigned i = 0; i < 5; i++)
        put(sink, LINE);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    put(sink, LINE);
    ck_assert_uint_eq(atomic_load(&sink->without_lane), SLOTS + 1);
    atomic_store(&shared->step, 2);
    kill(child, SIGCONT);
    for (unsigned i = 0; i <= SLOTS; i++) {
        pthread_join(threads[i], &result);
        ck_assert_int_eq((int)(intptr_t)result, 0);
    }
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
}

/* ---- areas that are not what they should be -------------------------------------------------------- */

/* Where the area can be believed it has the exact end, or at least what was synced. Else the caller decides. */
TEST_LOOP(an_area_that_is_spoiled_is_not_believed, 2 * SPOILINGS)
{
    struct twinlog_sink *sink;
    does_sync = _i >= SPOILINGS;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    ck_assert_int_ge(bytes_of(path), 64 * (int64_t)KIB);
    spoil((enum spoiling)(_i % SPOILINGS));
    int rc = open_as(MAPPED | SHARED, &sink);
    const enum spoiling how = (enum spoiling)(_i % SPOILINGS);
    if (how == SPOIL_NOTHING || (does_sync && (how == SPOIL_BOOT || how == SPOIL_CURSOR))) {
        ck_assert_int_eq(rc, 0);
        ck_assert_uint_eq(look_at(sink).bytes, 4);
    } else {
        ck_assert_int_eq(rc, -EUCLEAN);
        ck_assert_int_eq(open_as(MAPPED | TWINLOG_SINK_DROP_ZEROS, &sink), 0);
        ck_assert_uint_eq(look_at(sink).bytes, 2);
    }
    const uint64_t found = look_at(sink).bytes;
    put(sink, "b\n");
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), (int64_t)found + 2);
    if (does_sync &&
        found == 4) /* zeros were synced: were the newest bytes lost now, only the area could tell */
        ck_assert_int_ge(bytes_of(area_of(path)), 0);
    else
        expect_nothing_beside();
}

/* A close has recorded more than reached the disk: what is there was written, zeros or not. */
TEST(zeros_in_front_of_what_is_recorded_stay)
{
    struct twinlog_sink *sink;
    does_sync = true;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    spoil(SPOIL_BOOT);
    ck_assert_int_eq(truncate(path, 3), 0);
    ck_assert_int_eq(open_as(MAPPED, &sink), -EUCLEAN);
    ck_assert_int_eq(open_as(MAPPED | TWINLOG_SINK_DROP_ZEROS, &sink), 0);
    ck_assert_uint_eq(look_at(sink).bytes, 3);
    close_sink(sink);
}

/* After a crash of the system nothing is truncated behind what was synced that might be data. */
TEST(a_crash_of_the_system_keeps_what_may_be_data)
{
    struct twinlog_sink *sink;
    does_sync = true;
    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    spoil(SPOIL_BOOT);
    patch_file(path, 4096, "late", 4); /* written and not synced, and what was before it is lost */
    ck_assert_int_eq(open_as(MAPPED, &sink), -EUCLEAN);
    ck_assert_int_eq(open_as(MAPPED | TWINLOG_SINK_DROP_ZEROS, &sink), 0);
    ck_assert_uint_eq(look_at(sink).bytes, 4100);
    put(sink, "\n");
    close_sink(sink);
    expect_nothing_beside();
}

static struct area *watched;

static struct {
    enum simdisk_op op;
    uint64_t recorded;
} seen_syncs[10];

static unsigned syncs;

static int note_sync(const struct hooked_call *call)
{
    if (call->op != SIM_SYNC && call->op != SIM_SYNC_DIR)
        return 0;
    seen_syncs[syncs].op = call->op;
    seen_syncs[syncs++].recorded = atomic_load(&watched->recorded);
    return 0;
}

/* So after a power cut in between nothing is recorded that is not there. The record and the names are on the disk when
 * the call returns. */
TEST(a_sync_puts_down_the_bytes_then_where_they_end)
{
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    watched = atomic_load(&sink->file)->area;
    put(sink, LINE);
    syncs = 0;
    hooked(sink->io, note_sync);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    ck_assert_uint_eq(syncs, 3);
    ck_assert_int_eq(seen_syncs[0].op, SIM_SYNC);
    ck_assert_uint_eq(seen_syncs[0].recorded, 0);
    ck_assert_int_eq(seen_syncs[1].op, SIM_SYNC);
    ck_assert_uint_eq(seen_syncs[1].recorded, strlen(LINE));
    ck_assert_int_eq(seen_syncs[2].op, SIM_SYNC_DIR);
    close_sink(sink);
}

static bool is_without_birth; /* the file system knows no time of it, and no generation */

static bool forget_birth(void)
{
    return !is_without_birth || (forbid(SYS_statx, ENOSYS) && forbid(SYS_ioctl, ENOTTY));
}

static int fail_to_sync(void)
{
    struct twinlog_sink *sink;
    EXPECT(forget_birth() && open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == 0);
    EXPECT(forbid(SYS_fdatasync, EIO));
    signal_there = dying_signal;
    wanted_point = dying_point;
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    return twinlog_sink_close(sink);
}

static pid_t stop_child_in_sync(void)
{
    dying_signal = SIGSTOP;
    dying_point = "sync done";
    return stop_child(fail_to_sync);
}

/* The kernel would call the next sync a success. The process closes the sink, or dies, perhaps with the error that it
 * has just been told. Another one has the file open, or opens it afterwards; or another program has appended a line,
 * and a process dies while it opens the file. */
TEST_LOOP(a_sync_that_failed_stays_failed, 7)
{
    static const char *const points[] = { NULL, "about to leave", "sync done", "sync done" };
    const struct twinlog_sink_options options = options_of(MAPPED | SHARED | TWINLOG_SINK_DROP_ZEROS);
    struct twinlog_sink *sink = _i == 3 ? open_sink(&options) : NULL;
    dying_signal = SIGKILL;
    dying_point = points[_i % 4];
    ck_assert_int_eq(run_child(fail_to_sync), dying_point ? 128 + SIGKILL : 0);
    if (_i > 3) {
        patch_file(path, (off_t)strlen(LINE), LINE, strlen(LINE));
        dying_flags = MAPPED | TWINLOG_SINK_DROP_ZEROS;
        dying_point = "area filled in";
        ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);
    }
    if (!sink)
        sink = open_sink(&options);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
        put(sink, LINE);
        close_sink(sink);
        sink = open_sink(&options);
    }
    close_sink(sink);
    expect_text(path, _i > 3 ? LINE LINE LINE LINE : LINE LINE LINE);
}

static int sync_without_birth(void)
{
    struct twinlog_sink *sink;
    EXPECT(forget_birth() && open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(twinlog_sink_sync(sink) == -EIO);
    return twinlog_sink_close(sink);
}

/* Also where it can't be told whether it was this file. */
TEST(a_sync_that_failed_stays_failed_without_a_birth)
{
    dying_point = NULL;
    is_without_birth = true;
    ck_assert_int_eq(run_child(fail_to_sync), 0);
    ck_assert_int_eq(run_child(sync_without_birth), 0);
}

/* One is stopped when it has been told of an error, and before it has stored that. The kernel tells it to no file that
 * is opened later, so a sync there waits. */
TEST_LOOP(a_sync_waits_for_one_that_may_have_failed, 2)
{
    const pid_t child = stop_child_in_sync();
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, LINE);
    atomic_store(&sync_result, 1);
    atomic_store(&shared->was_there, false);
    signal_there = 0;
    wanted_point = "sync waits";
    pthread_t thread = start_thread(sync_it, sink);
    AWAIT(atomic_load(&shared->was_there) || atomic_load(&sync_result) != 1);
    ck_assert_int_eq(atomic_load(&sync_result), 1);
    atomic_store(&shared->step, 1);
    kill(child, _i == 0 ? SIGCONT : SIGKILL);
    AWAIT(atomic_load(&sync_result) != 1);
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&sync_result), -EIO);
    wait_child(child);
    twinlog_sink_close(sink);
}

/* ---- locks of other programs ----------------------------------------------------------------------- */

static int lock_as_reader(const char *name, off_t start, off_t length)
{
    struct flock range = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &range), 0);
    return fd;
}

/* A program that reads the file has locked all of it. */
TEST(a_reader_that_locks_the_file_stops_nobody)
{
    put_text(path, "a\n");
    const int fd = lock_as_reader(path, 0, 0);
    struct twinlog_sink *sink = open_sink(NULL), *other = open_sink(NULL);
    put(sink, "b\n");
    put(other, "c\n");
    close_sink(sink);
    close_sink(other);
    close(fd);
    expect_text(path, "a\nb\nc\n");
    expect_nothing_beside();
}

/* The kernel tells only the first lock: that of the reader, and not that of the sink with the first name. */
TEST(a_reader_hides_no_sink_of_another_name)
{
    char second[450];
    put_text(path, "a\n");
    const int fd = lock_as_reader(path, 0, 0);
    struct twinlog_sink *sink = open_sink(NULL), *other;
    put(sink, "b\n");
    link_elsewhere(second, sizeof(second));
    const struct twinlog_sink_options options = options_of(MAPPED | SHARED | TWINLOG_SINK_DROP_ZEROS);
    ck_assert_int_eq(twinlog_sink_open(second, &options, &other), -EBUSY);
    put(sink, "c\n");
    close(fd);
    close_sink(sink);
    expect_text(path, "a\nb\nc\n");
}

/* A lock for reading makes nobody alive: the file is truncated. */
TEST(a_reader_that_locks_a_place_is_not_alive)
{
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, "a\n");
    const int fd = lock_as_reader(area_of(path), 100, 1);
    close_sink(sink);
    close(fd);
    expect_text(path, "a\n");
    expect_nothing_beside();
}

/* Nor is it waited for without end where the one before has died in a write, or in a sync. */
TEST_LOOP(a_reader_that_locks_a_dead_place_ends_a_sync, 2)
{
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    const pid_t child = _i == 0 ? stop_child_at("copy half done") : stop_child_in_sync();
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    const int fd = lock_as_reader(area_of(path), 2, 1);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EBUSY);
    close(fd);
    ck_assert_int_eq(twinlog_sink_sync(sink), _i == 0 ? 0 : -EIO);
    close_sink(sink);
    expect_text(path, _i == 0 ? HOLE : LINE);
    if (_i == 0)
        expect_nothing_beside();
}

static void *open_it(void *context)
{
    return (void *)(intptr_t)open_as(MAPPED | SHARED, context);
}

/* The lock for opening and closing: both give up after a while, and the next opening puts everything right. */
TEST(no_wait_for_a_lock_is_for_ever)
{
    struct twinlog_sink *sink = open_sink(NULL), *other = NULL;
    void *opened;
    put(sink, "a\n");
    const int fd = lock_as_reader(area_of(path), 0, 1);
    pthread_t thread = start_thread(open_it, &other);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    pthread_join(thread, &opened);
    ck_assert_int_eq((int)(intptr_t)opened, -EBUSY);
    ck_assert_int_eq(twinlog_sink_close(sink), -EBUSY);
    ck_assert_int_gt(bytes_of(path), 2);
    close(fd);
    close_sink(open_sink(NULL));
    expect_text(path, "a\n");
    expect_nothing_beside();
}

/* As on a file system without reserved space that is full: an error, no signal, and the file is not touched by a
 * process that does not know any more how long it is. */
TEST(an_area_that_is_lost_is_an_error)
{
    struct twinlog_sink *sink, *other;
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    put(sink, LINE);
    ck_assert_int_eq(truncate(area_of(path), 0), 0);
    ck_assert_int_eq(twinlog_sink_write(sink, LINE, strlen(LINE), NULL), -EIO);
    ck_assert_int_eq(twinlog_sink_write(sink, LINE, strlen(LINE), NULL), -EIO);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    ck_assert_int_eq(twinlog_sink_close(sink), -EIO);
    ck_assert_int_gt(bytes_of(path), (int64_t)strlen(LINE));
    ck_assert_int_eq(open_as(MAPPED, &other), -EUCLEAN);
    ck_assert_int_eq(open_as(MAPPED | TWINLOG_SINK_DROP_ZEROS, &other), 0);
    close_sink(other);
    expect_text(path, LINE);
    expect_nothing_beside();
}

static void *write_one_line(void *sink)
{
    return (void *)(intptr_t)twinlog_sink_write(sink, LINE, strlen(LINE), NULL);
}

static const struct losing_row {
    const char *name;
    const char *point;
} losing_rows[] = {
    { "before the intent", "owner confirmed" },
    { "before the claim", "intent stored" },
};

/* A claim that no other process sees is none, and nothing is copied. It is of the first bytes: the cursor is 0, as in
 * the memory that takes the place of the area. */
TEST_EACH(an_area_that_is_lost_in_a_claim_is_an_error, losing_rows)
{
    void *written;
    struct twinlog_sink *sink = open_sink(NULL);

    stop_thread(sink);
    signal_there = 0;
    wanted_point = row->point;
    const pthread_t thread = start_thread(write_one_line, sink);
    AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(truncate(area_of(path), 0), 0);
    atomic_store(&shared->step, 1);
    pthread_join(thread, &written);
    ck_assert_int_eq((int)(intptr_t)written, -EIO);
    ck_assert_int_eq(twinlog_sink_close(sink), -EIO);

    size_t size;
    char *bytes = read_file(path, &size);
    ck_assert_int_eq(bytes[0], 0);
    free(bytes);
}

/* The first page is there; those of the participants are not. */
TEST(an_area_of_which_the_participants_are_lost_is_an_error)
{
    struct twinlog_sink *sink = open_sink(NULL);

    stop_thread(sink);
    put(sink, LINE);
    ck_assert_int_eq(truncate(area_of(path), AREA_PAGE), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    ck_assert_int_eq(twinlog_sink_close(sink), -EIO);
    ck_assert_int_gt(bytes_of(path), (int64_t)strlen(LINE));
}

static int fail_to_write(void)
{
    struct twinlog_sink *sink;
    EXPECT(forbid_if(SYS_mmap, ENOMEM, 1, CHUNK_BYTES) && forbid(SYS_pwrite64, ENOSPC));
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(twinlog_sink_write(sink, LINE, strlen(LINE), NULL) == -EIO);
    kill(getpid(), SIGSTOP);
    return 1;
}

/* It lives on; others need not wait for it. */
TEST(what_one_cannot_write_another_makes_harmless)
{
    const pid_t child = stop_child(fail_to_write);
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, LINE);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    close_sink(sink);
    expect_text(path, HOLE LINE);
}

static int stop_in_sweep(void)
{
    struct twinlog_sink *sink;
    signal_there = SIGSTOP;
    wanted_point = "slot read";
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    return twinlog_sink_close(sink);
}

/* Another one was faster, and the slot has a later write. */
TEST(what_another_has_made_harmless_is_left_alone)
{
    uint64_t start;
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    struct sink_file *file = atomic_load(&sink->file);
    const unsigned lane = twl_lane_take(sink), owner = area_owner(file->number, lane);
    ck_assert_int_eq(twl_claim(file->area, owner, strlen(LINE), 0, &start), CLAIM_MADE);
    twl_claim_end(area_slot(file->area, owner), CLAIM_FAILED);
    twl_lane_leave(sink, lane);
    const pid_t child = stop_child(stop_in_sweep);
    ck_assert_int_eq(twl_sink_sweep(file), 0);
    put(sink, LINE);
    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
    expect_text(path, HOLE LINE);
}

/* Also while a sync waits for a process that is stopped. */
TEST_LOOP(a_sync_does_not_wait_in_a_lost_area, 2)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = _i == 0 ? stop_child_at("copy half done") : stop_child_in_sync();
    put(sink, LINE);
    atomic_store(&sync_result, 1);
    atomic_store(&shared->was_there, false);
    wanted_point = "sync waits";
    pthread_t thread = start_thread(sync_it, sink);
    AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(truncate(area_of(path), 0), 0);
    atomic_store(&shared->step, 2);
    AWAIT(atomic_load(&sync_result) == -EIO);
    pthread_join(thread, NULL);
    kill(child, SIGKILL);
    ck_assert_int_eq(wait_child(child), 128 + SIGKILL);
    ck_assert_int_eq(twinlog_sink_close(sink), -EIO);
}

static unsigned char *mapped_in_parent;

/* What the child maps there is its own affair. */
static int meet_a_fault(void)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    unsigned char *bytes =
        mmap(mapped_in_parent, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 8 * (off_t)MIB);
    EXPECT(bytes == mapped_in_parent);
    *bytes = 1;
    return 0;
}

TEST_LOOP(a_child_has_no_views_of_its_parent, 2)
{
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, LINE);
    struct sink_file *file = atomic_load(&sink->file);
    mapped_in_parent = _i ? (unsigned char *)file->area : atomic_load(&file->chunks[1].bytes);
#if HAS_SANITIZER
    ck_assert_int_ne(run_child(meet_a_fault), 0);
#else
    ck_assert_int_eq(run_child(meet_a_fault), 128 + SIGBUS);
#endif
    close_sink(sink);
}

TEST(another_version_that_is_alive_is_left_alone)
{
    struct twinlog_sink *sink = NULL, *other;
    const uint32_t newer = AREA_VERSION + 1, ours = AREA_VERSION;
    sink = open_sink(NULL);
    patch_file(area_of(path), offsetof(struct area, version), &newer, sizeof(newer));
    ck_assert_int_eq(open_as(MAPPED | SHARED, &other), TWINLOG_EVERSION);
    patch_file(area_of(path), offsetof(struct area, version), &ours, sizeof(ours));
    put(sink, "a\n");
    close_sink(sink);
    expect_text(path, "a\n");
}

TEST(what_strangers_do_to_the_file)
{
    static char block[8192];
    memset(block, 'x', sizeof(block));
    struct twinlog_sink *sink = open_sink(NULL);
    put(sink, "a\n");
    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    AWAIT(twinlog_sink_write(sink, block, sizeof(block), NULL) == -EIO);
    ck_assert_int_eq(twinlog_sink_write(sink, "b", 1, NULL), -EIO);
    twinlog_sink_close(sink); /* says so again, if a write was under way */
    ck_assert_int_eq(bytes_of(path), 0);
    close_sink(open_sink(NULL));
    expect_nothing_beside();
}

/* ---- files that are not the sink's ---------------------------------------------------------------- */

static const char *stranger(void)
{
    static char name[420];
    snprintf(name, sizeof(name), "%s/archive.gz", log_dir);
    return name;
}

/* An area that any process of the sink would believe: nobody is alive in it, its cursor is at `end`, and a dead
 * participant has claimed the first `hole` bytes. */
static void plant_area(const char *name, uint64_t end, uint64_t hole)
{
    struct area *area;
    struct io *io;
    struct io_file *file, *data;
    uint8_t boot[BOOT_ID_BYTES];
    ck_assert_int_eq(twl_boot_id(boot), 0);
    ck_assert_int_eq(twl_io_posix_create(log_dir, false, &io), 0);
    ck_assert_int_eq(io_open_or_create(io, strrchr(area_of(name), '/') + 1, 0, &file), 0);
    ck_assert_int_eq(io_open(io, strrchr(name, '/') + 1, 0, &data), 0);
    ck_assert_int_eq(twl_area_prepare(file, 0), 0);
    ck_assert_int_eq(twl_area_map(file, &area), 0);
    ck_assert_int_eq(twl_identity_of(data, &area->identity), 0);
    atomic_store(&area->cursor, cursor_of(end, 0));
    atomic_store(&area_slot(area, 1)->size, hole);
    atomic_store(&area_slot(area, 1)->state, CLAIM_KINDS + CLAIM_CLAIMED);
    atomic_store(&area->is_used[1], hole > 0);
    twl_area_finish(area, boot);
    twl_mapping_close(area, AREA_BYTES);
    io_close(data);
    io_close(file);
    io->ops->destroy(io);
}

/* Another program's file, that ends in zeros and has some inside. Nothing beside the sink's file is a reason to touch
 * it, also if its number, its birth and the boot are right. */
TEST_LOOP(a_left_over_leads_to_no_file, 2)
{
    static const char bytes[] = "a\0\0b\n\0\0\0";
    const struct twinlog_sink_options options = options_of(MAPPED | TWINLOG_SINK_DROP_ZEROS);
    size_t size;
    put_file(stranger(), bytes, sizeof(bytes));
    put_text(area_of(stranger()), "");
    if (_i == 1)
        plant_area(stranger(), 5, 4);
    close_sink(open_sink(&options));
    char *found = read_file(stranger(), &size);
    ck_assert_uint_eq(size, sizeof(bytes));
    ck_assert_int_eq(memcmp(found, bytes, size), 0);
    free(found);
}

/* A second name of a file is nothing that a sink has made. */
TEST(an_area_with_two_names_is_refused)
{
    struct twinlog_sink *sink;
    put_text(path, "old\n");
    put_text(stranger(), "another program's\n");
    ck_assert_int_eq(link(stranger(), area_of(path)), 0);
    ck_assert_int_eq(open_as(MAPPED | SHARED, &sink), -EPERM);
    expect_text(stranger(), "another program's\n");
    expect_text(path, "old\n");
}

/* The next file may have one. Its area may not. */
TEST_LOOP(a_sync_goes_on_in_a_file_with_two_names, 2)
{
    char second[450];
    struct twinlog_sink *sink = open_sink(NULL), *other = open_sink(NULL);
    stop_thread(other);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_ge(twinlog_sink_reopen(sink), 0);
    put(sink, LINE);
    if (_i == 0)
        link_elsewhere(second, sizeof(second));
    else
        ck_assert_int_eq(link(area_of(path), numbered(2)), 0);
    ck_assert_int_eq(twinlog_sink_sync(other), _i == 0 ? 0 : -EPERM);
    ck_assert_uint_eq(look_at(sink).synced_bytes, _i == 0 ? strlen(LINE) : 0);
    close_sink(sink);
    close_sink(other);
}

static const struct io_ops *real_ops;
static bool was_removed;

static int open_and_lose(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    const int rc = real_ops->open(io, name, flags, ret_file);
    if (rc == 0 && strstr(name, ".sink") && !was_removed) {
        was_removed = true;
        ck_assert_int_eq(real_ops->unlink(io, name), 0);
    }
    return rc;
}

/* The last process that had it has left, and removed it. */
TEST(an_area_without_a_name_is_made_anew)
{
    struct twinlog_sink *sink = open_sink(NULL);
    stop_thread(sink);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    real_ops = sink->io->ops;
    struct io_ops ops = *real_ops;
    ops.open = open_and_lose;
    was_removed = false;
    sink->io->ops = &ops;
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    sink->io->ops = real_ops;
    ck_assert(was_removed);
    put(sink, "a\n");
    close_sink(sink);
    expect_text(path, "a\n");
    expect_nothing_beside();
}

/* ---- users --------------------------------------------------------------------------------------- */

static bool is_root(const char *test)
{
    if (geteuid() == 0)
        return true;
    fprintf(stderr, "SKIP %s: only root can give files away\n", test);
    return false;
}

/* What another user has put beside the file is not believed, and neither is an area that others may write. */
TEST_LOOP(what_another_user_may_write_is_refused, 3)
{
    static const char bytes[] = "a\0\0\0\n\0\0\0";
    struct twinlog_sink *sink;
    uint64_t end;
    size_t size;
    if (!is_root("what_another_user_may_write_is_refused"))
        return;
    put_file(path, bytes, sizeof(bytes));
    plant_area(path, 5, 4);
    if (_i == 0)
        ck_assert_int_eq(chown(area_of(path), STRANGER, STRANGER), 0);
    else
        ck_assert_int_eq(chmod(area_of(path), _i == 1 ? 0620 : 0602), 0);
    ck_assert_int_eq(open_as(MAPPED | SHARED, &sink), -EPERM);
    char *found = read_file(path, &size);
    ck_assert_uint_eq(size, sizeof(bytes));
    ck_assert_int_eq(memcmp(found, bytes, size), 0);
    free(found);
    ck_assert_int_eq(twinlog_sink_end(path, &end), -EUCLEAN);
}

static bool is_own; /* the file beside it */

/* The owner of the file, with one beside it that has the area's name and that this user may not read. */
static int find_end_beside_unreadable(void)
{
    uint64_t end = 0;

    EXPECT(become_nobody());
    EXPECT(access(area_of(path), R_OK) < 0 && errno == EACCES);
    const int rc = twinlog_sink_end(path, &end);
    EXPECT(rc == (is_own ? -EACCES : 0));
    EXPECT(end == (is_own ? 0 : 6));
    return 0;
}

/* One of another user is not the sink's, and stops no reader. One of the owner may be the area. */
TEST_LOOP(what_another_user_alone_may_read_is_no_area, 2)
{
    static const char test[] = "what_another_user_alone_may_read_is_no_area";
    const uid_t nobody = 65534;

    is_own = _i == 1;
    if (!is_root(test) || !can_nobody_enter(test))
        return;
    put_text(path, "whole\n");
    put_text(area_of(path), "planted\n");
    ck_assert_int_eq(chown(path, nobody, nobody), 0);
    ck_assert_int_eq(chown(area_of(path), is_own ? nobody : 0, 0), 0);
    ck_assert_int_eq(chmod(area_of(path), 0), 0);
    expect_success_or_skip(run_child(find_end_beside_unreadable), test, "only root becomes another user");
}

/* Nor is a file that another user makes while the name is nobody's; the sink stays in its own then. */
TEST(what_another_user_makes_between_two_files_is_refused)
{
    void *rotated;
    struct twinlog_sink *sink;
    if (!is_root("what_another_user_makes_between_two_files_is_refused"))
        return;
    ck_assert_int_eq(open_as(MAPPED, &sink), 0);
    put(sink, "a\n");
    signal_there = 0;
    wanted_point = "old file named";
    pthread_t rotating = start_thread(rotate_it, sink);
    AWAIT(atomic_load(&shared->was_there));
    put_text(path, "planted\n");
    ck_assert_int_eq(chown(path, STRANGER, STRANGER), 0);
    atomic_store(&shared->step, 1);
    pthread_join(rotating, &rotated);
    ck_assert_int_eq((int)(intptr_t)rotated, -EPERM);
    put(sink, "b\n");
    close_sink(sink);
    expect_text(path, "planted\n");
    expect_text(numbered(1), "a\nb\n");
    expect_nothing_beside();
}

/* A sink is of one user. Root is another one. */
TEST_LOOP(another_users_file_is_refused, 3)
{
    static const mode_t modes[] = { 0600, 0660, 0666 };
    struct twinlog_sink *sink;
    if (!is_root("another_users_file_is_refused"))
        return;
    put_text(path, LINE);
    ck_assert_int_eq(chmod(path, modes[_i]), 0);
    ck_assert_int_eq(chown(path, STRANGER, 0), 0);
    ck_assert_int_eq(open_as(MAPPED | SHARED, &sink), -EPERM);
    ck_assert_int_eq(open_as(MAPPED, &sink), -EPERM);
    expect_text(path, LINE);
    expect_nothing_beside();
}

/* Whatever the file's permissions, those of the directory and the umask are. */
TEST_LOOP(what_lies_beside_is_the_owners_alone, 3)
{
    static const mode_t modes[] = { 0600, 0664, 0666 };
    struct stat about;
    const mode_t before = umask(0);
    ck_assert_int_eq(chmod(log_dir, 02777), 0);
    put_text(path, "");
    ck_assert_int_eq(chmod(path, modes[_i]), 0);
    struct twinlog_sink *sink = open_sink(NULL);
    umask(before);
    ck_assert_int_eq(stat(area_of(path), &about), 0);
    ck_assert_uint_eq(about.st_mode & 07777, 0600);
    close_sink(sink);
}

CASE("copies", prepare, logdir_remove);

/* Only a sync waits for a stopped process, and that only for what was claimed. */
TEST_LOOP(a_stopped_process_is_not_dead, 2)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = stop_child_at(_i == 0 ? "copy half done" : "intent stored");
    put(sink, LINE);
    atomic_store(&sync_result, 1);
    atomic_store(&shared->was_there, false);
    wanted_point = "sync waits";
    pthread_t thread = start_thread(sync_it, sink);
    if (_i == 1)
        pthread_join(thread, NULL);
    else
        AWAIT(atomic_load(&shared->was_there) || atomic_load(&sync_result) != 1);
    ck_assert_int_eq(atomic_load(&sync_result), _i == 0 ? 1 : 0);
    ck_assert_uint_eq(look_at(sink).participants, 2);
    atomic_store(&shared->step, 2);
    kill(child, SIGCONT);
    if (_i == 0)
        pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&sync_result), 0);
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
}
