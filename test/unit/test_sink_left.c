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

static const struct dying_as {
    const char *name;
    uint32_t flags;
} dying_as[] = {
    { "others may have the file", MAPPED | SHARED },
    { "it is alone", MAPPED },
};

/* A child that was forked in the middle of a write lives on. */
TEST_EACH(a_child_of_a_dead_process_holds_nothing, dying_as)
{
    struct twinlog_sink *sink;

    dying_flags = row->flags;
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

/* One dies between two lines of another one, which lives. */
static struct twinlog_sink *survive_a_death(void)
{
    struct twinlog_sink *sink = open_sink(NULL);

    put(sink, LINE);
    dying_flags = MAPPED | SHARED;
    dying_point = "copy half done";
    dying_signal = SIGKILL;
    ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);
    put(sink, LINE);
    return sink;
}

static void expect_hole_between_lines(struct twinlog_sink *sink)
{
    ck_assert_uint_eq(look_at(sink).participants, 1);
    close_sink(sink);
    expect_text(path, LINE HOLE LINE);
}

TEST(a_sync_of_the_survivor_cleans_up)
{
    struct twinlog_sink *sink = survive_a_death();

    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    expect_hole_between_lines(sink);
}

static bool is_second_line_ended(void)
{
    const off_t last_byte = (off_t)(2 * strlen(LINE) - 1);
    char last = 0;

    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t size = pread(fd, &last, 1, last_byte);
    close(fd);
    return size == 1 && last == '\n';
}

TEST(the_thread_of_the_survivor_cleans_up)
{
    struct twinlog_sink *sink = survive_a_death();

    AWAIT(is_second_line_ended());
    expect_hole_between_lines(sink);
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
    const pid_t child = stop_child_in_write();
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

#define NOT_OVER 1 /* a sync returns 0 or an error */
static _Atomic int sync_result;

static void *sync_it(void *context)
{
    atomic_store(&sync_result, twinlog_sink_sync(context));
    return NULL;
}

/* It says in shared->was_there that it waits for another process. */
static pthread_t start_sync(struct twinlog_sink *sink)
{
    atomic_store(&sync_result, NOT_OVER);
    atomic_store(&shared->was_there, false);
    signal_there = 0;
    wanted_point = "sync waits";
    return start_thread(sync_it, sink);
}

static bool does_wait_or_is_over(void)
{
    return atomic_load(&shared->was_there) || atomic_load(&sync_result) != NOT_OVER;
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
    const pid_t child = stop_child_in_write();
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

/* A process has written two bytes and two zeros, and died; then its area is spoiled. One that is believed has the exact
 * end. Else the caller decides what the zeros are. Another line is written behind that. */
static void go_on_behind(enum spoiling how, bool is_believed)
{
    const uint64_t found_bytes = is_believed ? 4 : 2;
    struct twinlog_sink *sink;

    ck_assert_int_eq(run_child(write_and_die), 128 + SIGKILL);
    ck_assert_int_ge(bytes_of(path), 64 * (int64_t)KIB);
    spoil(how);

    ck_assert_int_eq(open_as(MAPPED | SHARED, &sink), is_believed ? 0 : -EUCLEAN);
    if (!is_believed)
        ck_assert_int_eq(open_as(MAPPED | TWINLOG_SINK_DROP_ZEROS, &sink), 0);
    ck_assert_uint_eq(look_at(sink).bytes, found_bytes);

    put(sink, "b\n");
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), (int64_t)found_bytes + 2);
}

static const struct spoiled_row {
    const char *name;
    enum spoiling how;
    bool is_believed;
    bool is_believed_if_synced; /* what it says of bytes that were synced */
} spoiled_rows[] = {
    { "nothing", SPOIL_NOTHING, true, true },
    { "the boot", SPOIL_BOOT, false, true },
    { "the magic", SPOIL_MAGIC, false, false },
    { "the version", SPOIL_VERSION, false, false },
    { "whether ready", SPOIL_READY, false, false },
    { "the inode", SPOIL_INODE, false, false },
    { "the cursor", SPOIL_CURSOR, false, true },
    { "the size", SPOIL_SIZE, false, false },
    { "all", SPOIL_ALL, false, false },
    { "empty", SPOIL_EMPTY, false, false },
};

TEST_EACH(an_area_that_is_spoiled_is_not_believed, spoiled_rows)
{
    does_sync = false;
    go_on_behind(row->how, row->is_believed);
    expect_nothing_beside();
}

TEST_EACH(an_area_that_is_spoiled_may_still_tell_what_was_synced, spoiled_rows)
{
    does_sync = true;
    go_on_behind(row->how, row->is_believed_if_synced);
    if (row->is_believed_if_synced) /* zeros were synced: were the newest bytes lost now, only the area could tell */
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

/* The sync of a process fails, which then closes the sink, or dies at that point. */
static void fail_a_sync(const char *point)
{
    dying_point = point;
    dying_signal = SIGKILL;
    ck_assert_int_eq(run_child(fail_to_sync), point ? 128 + SIGKILL : 0);
}

static struct twinlog_sink *open_behind_failure(void)
{
    const struct twinlog_sink_options options = options_of(MAPPED | SHARED | TWINLOG_SINK_DROP_ZEROS);

    return open_sink(&options);
}

/* The kernel would call these syncs a success. Two lines are written, and `sink` is closed. */
static void expect_failed_syncs(struct twinlog_sink *sink)
{
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
        put(sink, LINE);
        close_sink(sink);
        sink = open_behind_failure();
    }
    close_sink(sink);
}

static const struct end_of_failed {
    const char *name;
    const char *point; /* where it dies; NULL: nowhere */
} ends_of_failed[] = {
    { "it closes the sink", NULL },
    { "it dies in the close", "about to leave" },
    { "it dies with the error that it has just been told", "sync done" },
};

TEST_EACH(a_sync_that_failed_stays_failed, ends_of_failed)
{
    fail_a_sync(row->point);
    expect_failed_syncs(open_behind_failure());
    expect_text(path, LINE LINE LINE);
}

TEST(a_sync_that_failed_fails_for_another_one_that_has_the_file_open)
{
    struct twinlog_sink *sink = open_behind_failure();

    fail_a_sync("sync done");
    expect_failed_syncs(sink);
    expect_text(path, LINE LINE LINE);
}

/* Another program has appended a line, and a process dies while it opens the file. */
TEST_EACH(a_sync_that_failed_stays_failed_behind_a_death_in_an_opening, ends_of_failed)
{
    fail_a_sync(row->point);
    patch_file(path, (off_t)strlen(LINE), LINE, strlen(LINE));
    dying_flags = MAPPED | TWINLOG_SINK_DROP_ZEROS;
    dying_point = "area filled in";
    ck_assert_int_eq(run_child(die_at_point), 128 + SIGKILL);

    expect_failed_syncs(open_behind_failure());
    expect_text(path, LINE LINE LINE LINE);
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

static const struct end_of_stopped {
    const char *name;
    int signal;
} ends_of_stopped[] = {
    { "it goes on", SIGCONT },
    { "it is killed", SIGKILL },
};

/* One is stopped when it has been told of an error, and before it has stored that. The kernel tells it to no file that
 * is opened later, so a sync there waits. */
TEST_EACH(a_sync_waits_for_one_that_may_have_failed, ends_of_stopped)
{
    const pid_t child = stop_child_in_sync();
    struct twinlog_sink *sink = open_sink(NULL);

    put(sink, LINE);
    const pthread_t thread = start_sync(sink);
    AWAIT(does_wait_or_is_over());
    ck_assert_int_eq(atomic_load(&sync_result), NOT_OVER);

    atomic_store(&shared->step, 1);
    kill(child, row->signal);
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

/* It is stopped in the middle of a write, or of a sync, and killed. A reader locks its place. */
static void expect_no_sync_beside_reader_at(pid_t stopped, struct twinlog_sink *sink)
{
    kill(stopped, SIGKILL);
    ck_assert_int_eq(wait_child(stopped), 128 + SIGKILL);
    const int fd = lock_as_reader(area_of(path), 2, 1);
    ck_assert_int_eq(twinlog_sink_sync(sink), -EBUSY);
    close(fd);
}

/* Nor is it waited for without end where the one before has died in a write. */
TEST(a_reader_that_locks_the_place_of_a_dead_writer_ends_a_sync)
{
    struct twinlog_sink *sink = open_sink(NULL);

    stop_thread(sink);
    expect_no_sync_beside_reader_at(stop_child_in_write(), sink);

    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    close_sink(sink);
    expect_text(path, HOLE);
    expect_nothing_beside();
}

/* Nor where it has died in a sync. */
TEST(a_reader_that_locks_the_place_of_one_that_died_in_a_sync_ends_a_sync)
{
    struct twinlog_sink *sink = open_sink(NULL);

    stop_thread(sink);
    expect_no_sync_beside_reader_at(stop_child_in_sync(), sink);

    ck_assert_int_eq(twinlog_sink_sync(sink), -EIO);
    close_sink(sink);
    expect_text(path, LINE);
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

static const struct stopped_in {
    const char *name;
    pid_t (*stop)(void);
} stopped_in[] = {
    { "in a write", stop_child_in_write },
    { "in a sync", stop_child_in_sync },
};

/* Also while a sync waits for a process that is stopped. */
TEST_EACH(a_sync_does_not_wait_in_a_lost_area, stopped_in)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = row->stop();

    put(sink, LINE);
    const pthread_t thread = start_sync(sink);
    AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(truncate(area_of(path), 0), 0);
    atomic_store(&shared->step, 2);
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&sync_result), -EIO);

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

static void expect_no_view_in_child(void *mapped)
{
    mapped_in_parent = mapped;
#if HAS_SANITIZER
    ck_assert_int_ne(run_child(meet_a_fault), 0);
#else
    ck_assert_int_eq(run_child(meet_a_fault), 128 + SIGBUS);
#endif
}

TEST(a_child_has_no_view_of_the_bytes_of_its_parent)
{
    struct twinlog_sink *sink = open_sink(NULL);

    put(sink, LINE);
    expect_no_view_in_child(atomic_load(&atomic_load(&sink->file)->chunks[1].bytes));
    close_sink(sink);
}

TEST(a_child_has_no_view_of_the_area_of_its_parent)
{
    struct twinlog_sink *sink = open_sink(NULL);

    put(sink, LINE);
    expect_no_view_in_child(atomic_load(&sink->file)->area);
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

/* Another program's file ends in zeros and has some inside. */
static const char stranger_bytes[] = "a\0\0b\n\0\0\0";

static void put_stranger(void)
{
    put_file(stranger(), stranger_bytes, sizeof(stranger_bytes));
    put_text(area_of(stranger()), "");
}

/* Nothing beside the sink's file is a reason to touch it. */
static void expect_stranger_left_alone(void)
{
    const struct twinlog_sink_options options = options_of(MAPPED | TWINLOG_SINK_DROP_ZEROS);
    size_t size;

    close_sink(open_sink(&options));
    char *found = read_file(stranger(), &size);
    ck_assert_uint_eq(size, sizeof(stranger_bytes));
    ck_assert_int_eq(memcmp(found, stranger_bytes, size), 0);
    free(found);
}

TEST(an_empty_left_over_leads_to_no_file)
{
    put_stranger();
    expect_stranger_left_alone();
}

/* Also if its number, its birth and the boot are right. */
TEST(a_left_over_that_could_be_believed_leads_to_no_file)
{
    put_stranger();
    plant_area(stranger(), 5, 4);
    expect_stranger_left_alone();
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

/* The file is renamed under two sinks. One of them goes on in the next file and has written a line; the other one still
 * has to find that. */
static void go_on_in_next_file(struct twinlog_sink **ret_sink, struct twinlog_sink **ret_other)
{
    *ret_sink = open_sink(NULL);
    *ret_other = open_sink(NULL);
    stop_thread(*ret_other);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_ge(twinlog_sink_reopen(*ret_sink), 0);
    put(*ret_sink, LINE);
}

TEST(a_sync_goes_on_in_a_file_with_two_names)
{
    char second[450];
    struct twinlog_sink *sink, *other;

    go_on_in_next_file(&sink, &other);
    link_elsewhere(second, sizeof(second));
    ck_assert_int_eq(twinlog_sink_sync(other), 0);
    ck_assert_uint_eq(look_at(sink).synced_bytes, strlen(LINE));
    close_sink(sink);
    close_sink(other);
}

TEST(a_sync_goes_on_in_no_file_whose_area_has_two_names)
{
    struct twinlog_sink *sink, *other;

    go_on_in_next_file(&sink, &other);
    ck_assert_int_eq(link(area_of(path), numbered(2)), 0);
    ck_assert_int_eq(twinlog_sink_sync(other), -EPERM);
    ck_assert_uint_eq(look_at(sink).synced_bytes, 0);
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

#define NOBODY 65534u /* become_nobody() */

static bool is_root(const char *test)
{
    if (geteuid() == 0)
        return true;
    fprintf(stderr, "SKIP %s: only root can give files away\n", test);
    return false;
}

static const char bytes_with_zeros[] = "a\0\0\0\n\0\0\0";

static void put_file_with_area(void)
{
    put_file(path, bytes_with_zeros, sizeof(bytes_with_zeros));
    plant_area(path, 5, 4);
}

static void expect_area_refused(void)
{
    struct twinlog_sink *sink;
    uint64_t end;
    size_t size;

    ck_assert_int_eq(open_as(MAPPED | SHARED, &sink), -EPERM);
    char *found = read_file(path, &size);
    ck_assert_uint_eq(size, sizeof(bytes_with_zeros));
    ck_assert_int_eq(memcmp(found, bytes_with_zeros, size), 0);
    free(found);
    ck_assert_int_eq(twinlog_sink_end(path, &end), -EUCLEAN);
}

/* What another user has put beside the file is not believed. */
TEST(an_area_of_another_user_is_refused)
{
    if (!is_root("an_area_of_another_user_is_refused"))
        return;
    put_file_with_area();
    ck_assert_int_eq(chown(area_of(path), STRANGER, STRANGER), 0);
    expect_area_refused();
}

static const struct writable_by {
    const char *name;
    mode_t mode;
} writable_by[] = {
    { "its group", 0620 },
    { "all", 0602 },
};

TEST_EACH(an_area_that_others_may_write_is_refused, writable_by)
{
    put_file_with_area();
    ck_assert_int_eq(chmod(area_of(path), row->mode), 0);
    expect_area_refused();
}

static const struct unreadable {
    const char *name;
    uid_t owner; /* of what lies beside the file */
    int rc;
    uint64_t end;
} unreadable_rows[] = {
    { "of another user", 0, 0, 6 },
    { "of the owner", NOBODY, -EACCES, 0 },
};

static const struct unreadable *unreadable;

/* The owner of the file, with one beside it that has the area's name and that this user may not read. */
static int find_end_beside_unreadable(void)
{
    uint64_t end = 0;

    EXPECT(become_nobody());
    EXPECT(access(area_of(path), R_OK) < 0 && errno == EACCES);
    EXPECT(twinlog_sink_end(path, &end) == unreadable->rc);
    EXPECT(end == unreadable->end);
    return 0;
}

/* One of another user is not the sink's, and stops no reader. One of the owner may be the area. */
TEST_EACH(what_another_user_alone_may_read_is_no_area, unreadable_rows)
{
    static const char test[] = "what_another_user_alone_may_read_is_no_area";

    unreadable = row;
    if (!is_root(test) || !can_nobody_enter(test))
        return;
    put_text(path, "whole\n");
    put_text(area_of(path), "planted\n");
    ck_assert_int_eq(chown(path, NOBODY, NOBODY), 0);
    ck_assert_int_eq(chown(area_of(path), row->owner, 0), 0);
    ck_assert_int_eq(chmod(area_of(path), 0), 0);
    expect_success_or_skip(run_child(find_end_beside_unreadable), test, "only root becomes another user");
}

static void give_away(const char *area)
{
    ck_assert_int_eq(chown(area, STRANGER, STRANGER), 0);
}

static void let_all_write(const char *area)
{
    ck_assert_int_eq(chmod(area, 0602), 0);
}

static void give_a_second_name(const char *area)
{
    ck_assert_int_eq(link(area, numbered(9)), 0);
}

static void make_a_directory(const char *area)
{
    ck_assert_int_eq(unlink(area), 0);
    ck_assert_int_eq(mkdir(area, 0777), 0);
}

static void lead_elsewhere(const char *area)
{
    ck_assert_int_eq(rename(area, numbered(9)), 0);
    ck_assert_int_eq(symlink(numbered(9), area), 0);
}

static void be_of_another_inode(const char *area)
{
    (void)area;
    spoil(SPOIL_INODE);
}

static void give_the_file_away(const char *area)
{
    (void)area;
    ck_assert_int_eq(chown(path, STRANGER, STRANGER), 0);
}

struct planted {
    const char *name;
    void (*change)(const char *area);
};

static const struct planted planted_rows[] = {
    { "another user's", give_away },
    { "a directory", make_a_directory },
    { "a link", lead_elsewhere },
    { "of another file", be_of_another_inode },
};

/* A file that a killed mapped sink has left ends in zeros. Others without the right to write it cannot do that. */
TEST_EACH(what_others_put_beside_stops_no_exact_sink, planted_rows)
{
    struct twinlog_sink *sink;
    char area[450];

    if (!is_root("what_others_put_beside_stops_no_exact_sink"))
        return;
    put_text(path, LINE);
    plant_area(path, 5, 4);
    snprintf(area, sizeof(area), "%s", area_of(path));
    row->change(area);
    ck_assert_int_eq(open_as(EXACT, &sink), 0);
    put(sink, "new\n");
    close_sink(sink);
    expect_text(path, LINE "new\n");
    ck_assert_int_eq(access(area, F_OK), 0); /* it is not for a sink to remove */
}

static const struct planted doubtful_rows[] = {
    { "of the file's owner before", give_the_file_away },
    { "another user's", give_away },
    { "writable by all", let_all_write },
    { "with a second name", give_a_second_name },
    { "a link", lead_elsewhere },
};

/* Its zeros may be those of a mapped sink: what is written behind them would stay there for good. */
TEST_EACH(an_exact_sink_goes_behind_no_zeros_where_the_area_is_in_doubt, doubtful_rows)
{
    struct twinlog_sink *sink;

    if (!is_root("an_exact_sink_goes_behind_no_zeros_where_the_area_is_in_doubt"))
        return;
    put_file_with_area();
    row->change(area_of(path));
    ck_assert_int_eq(open_as(EXACT, &sink), -EPERM);
    ck_assert_int_eq(bytes_of(path), sizeof(bytes_with_zeros));
}

/* Nor in an open directory, where a stranger may make a file of that name beside records that end in NUL. */
TEST(a_strangers_file_in_an_open_directory_stops_no_exact_sink)
{
    struct twinlog_sink *sink;

    if (!is_root("a_strangers_file_in_an_open_directory_stops_no_exact_sink"))
        return;
    ck_assert_int_eq(chmod(log_dir, 01777), 0);
    put_file_with_area();
    give_away(area_of(path));
    ck_assert_int_eq(open_as(EXACT, &sink), 0);
    put(sink, "new\n");
    close_sink(sink);
    ck_assert_int_eq(bytes_of(path), sizeof(bytes_with_zeros) + 4);
}

static int open_exact_as_nobody(void)
{
    struct twinlog_sink *sink;

    EXPECT(become_nobody());
    return -open_as(EXACT, &sink);
}

/* One that the owner has left counts for another user, although that one may not even read it. */
TEST(an_area_of_the_owner_stops_an_exact_sink_of_another_user)
{
    static const char test[] = "an_area_of_the_owner_stops_an_exact_sink_of_another_user";

    if (!is_root(test) || !can_nobody_enter(test))
        return;
    put_file_with_area();
    ck_assert_int_eq(chmod(path, 0666), 0);
    ck_assert_int_eq(chmod(area_of(path), 0600), 0);
    ck_assert_int_eq(run_child(open_exact_as_nobody), EPERM);
    ck_assert_int_eq(bytes_of(path), sizeof(bytes_with_zeros));
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

/* Only a sync waits for a stopped process. */
TEST(a_sync_waits_for_a_process_that_is_stopped_in_a_write)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = stop_child_in_write();

    put(sink, LINE);
    const pthread_t thread = start_sync(sink);
    AWAIT(does_wait_or_is_over());
    ck_assert_int_eq(atomic_load(&sync_result), NOT_OVER);
    ck_assert_uint_eq(look_at(sink).participants, 2);

    atomic_store(&shared->step, 2);
    kill(child, SIGCONT);
    pthread_join(thread, NULL);
    ck_assert_int_eq(atomic_load(&sync_result), 0);
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
}

/* And that only for what was claimed. */
TEST(a_sync_does_not_wait_for_a_process_that_has_claimed_nothing)
{
    struct twinlog_sink *sink = open_sink(NULL);
    const pid_t child = stop_child_at("intent stored");

    put(sink, LINE);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    ck_assert_uint_eq(look_at(sink).participants, 2);

    kill(child, SIGCONT);
    ck_assert_int_eq(wait_child(child), 0);
    close_sink(sink);
}
