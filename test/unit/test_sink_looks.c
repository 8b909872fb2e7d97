/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sink asks the system before it renames, removes, cuts or goes on: which sinks have a file, how large it is,
 * what has a name. Where the answer is an error, nothing of that happens; and each lock that another sink has is seen.
 */
#define _GNU_SOURCE
#include "forbid.h"
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "sinks.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NO_FILTER "no filter of system calls may be loaded"

CASE("sink_looks", prepare, logdir_remove);

static int open_rotating(uint32_t flags, uint64_t max_bytes, struct twinlog_sink **ret_sink)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = flags, .max_bytes = max_bytes);

    return twinlog_sink_open(path, &options, ret_sink);
}

/* In a child, where a failure may not go through the pipe of the test. */
static bool has_text(const char *name, const char *text)
{
    char bytes[256];
    const int fd = open(name, O_RDONLY | O_CLOEXEC);
    const ssize_t size = fd < 0 ? -1 : pread(fd, bytes, sizeof(bytes), 0);

    close(fd);
    return size == (ssize_t)strlen(text) && memcmp(bytes, text, strlen(text)) == 0;
}

static int put_one(struct twinlog_sink *sink, const char *text)
{
    return twinlog_sink_write(sink, text, strlen(text), NULL);
}

/* A second has passed. */
static void let_it_try_again(struct twinlog_sink *sink)
{
    twl_mutex_lock(&sink->exact->lock);
    sink->exact->rotate_ns = 0;
    twl_mutex_unlock(&sink->exact->lock);
}

/* ---- which sinks have a file --------------------------------------------------------------------------------- */

static const struct kind_row {
    const char *name;
    uint32_t flags;
} kind_rows[] = {
    { "an exact sink", EXACT },
    { "a shared exact sink", EXACT | SHARED },
    { "a mapped sink", MAPPED },
    { "a shared mapped sink", MAPPED | SHARED },
};

/* The last number that is to be kept decides, so that no rotation fails when it is reached. */
TEST_EACH(a_name_without_room_for_the_last_number_is_refused, kind_rows)
{
    const bool is_exact = !(row->flags & MAPPED);
    const bool may_rotate = is_exact || !(row->flags & SHARED);
    struct twinlog_sink_options options = options_of(row->flags);
    char name[sizeof(path) + NAME_MAX];
    struct twinlog_sink *sink;
    const size_t above = (size_t)(strrchr(path, '/') + 1 - path);

    memcpy(name, path, above);
    memset(name + above, 'n', NAME_MAX - 2);
    name[above + NAME_MAX - 2] = '\0';
    if (may_rotate) {
        options.max_bytes = 4;
        options.keep_files = 10;
        ck_assert_int_eq(twinlog_sink_open(name, &options, &sink), -ENAMETOOLONG);
        ck_assert_int_lt(bytes_of(name), 0);
        options.keep_files = 9;
    }

    ck_assert_int_eq(twinlog_sink_open(name, &options, &sink), 0);
    put(sink, "one\n");
    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    close_sink(sink);
    if (may_rotate)
        expect_text(name, "two\n");
    else
        expect_text(name, "one\ntwo\n");
}

/* Whichever kind rotates, and whichever has the file with the number. */
TEST_EACH(a_number_that_another_sink_has_stays_for_a_mapped_one, kind_rows)
{
    const struct twinlog_sink_options options = options_of(row->flags);
    struct twinlog_sink *other, *sink = open_sink(&WITH_SIZE(sink_options, .flags = MAPPED));

    ck_assert_int_eq(twinlog_sink_open(numbered(1), &options, &other), 0);
    put(other, "other\n");
    put(sink, "one\n");
    ck_assert_int_eq(rotate(sink), -EBUSY);
    close_sink(other);
    close_sink(sink);
    expect_text(numbered(1), "other\n");
    expect_text(path, "one\n");
}

TEST_EACH(a_number_that_another_sink_has_stays_for_an_exact_one, kind_rows)
{
    const struct twinlog_sink_options options = options_of(row->flags);
    struct twinlog_sink *other, *sink = NULL;

    ck_assert_int_eq(open_rotating(EXACT, 4, &sink), 0);
    ck_assert_int_eq(twinlog_sink_open(numbered(1), &options, &other), 0);
    put(other, "other\n");
    put(sink, "one\n");
    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), -EBUSY);
    close_sink(other);
    close_sink(sink);
    expect_text(numbered(1), "other\n");
    expect_text(path, "one\ntwo\n");
}

static void *rotate_now(void *sink)
{
    return (void *)(intptr_t)twinlog_sink_rotate(sink, INT64_MAX);
}

/* While it renames the file, its locks are one range for the kernel. */
TEST_EACH(a_sink_that_rotates_has_its_file, kind_rows)
{
    const bool is_exact = !(row->flags & MAPPED);
    const struct twinlog_sink_options options = options_of(row->flags);
    struct twinlog_sink *other = NULL, *sink;
    void *rotated;

    ck_assert_int_eq(open_as(EXACT, &sink), 0);
    put(sink, "one\n");
    signal_there = 0;
    wanted_point = "exact name shifted";
    const pthread_t thread = start_thread(rotate_now, sink);
    AWAIT(atomic_load(&shared->was_there));
    const int rc = twinlog_sink_open(numbered(1), &options, &other);
    atomic_store(&shared->step, 1);
    pthread_join(thread, &rotated);
    ck_assert_int_eq(rc, is_exact ? -EBUSY : -EMEDIUMTYPE);
    ck_assert_int_eq((int)(intptr_t)rotated, 1);
    close_sink(sink);
}

/* ---- rotation beside other processes ------------------------------------------------------------------- */

static _Atomic unsigned sleeps;

static void count_sleep(struct io *io, unsigned ms)
{
    (void)io, (void)ms;
    atomic_fetch_add(&sleeps, 1);
}

/* As the file of a process that is stopped, which never sees that the path has changed. */
static struct twinlog_sink *open_stopped(const char *name, uint32_t flags)
{
    const struct twinlog_sink_options options = options_of(flags);
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(twinlog_sink_open(name, &options, &sink), 0);
    stop_thread(sink);
    return sink;
}

static const struct stopped_row {
    const char *name;
    bool has_lock; /* it is about to rename the file; else it has the one before */
} stopped_rows[] = {
    { "it has the file before", false },
    { "it renames the file", true },
};

/* While the other process is in the way. */
static void let_a_second_pass(struct twinlog_sink *sink)
{
    twl_mutex_lock(&sink->exact->moving);
    sink->exact->busy_since_ns -= UINT64_C(1000000000);
    twl_mutex_unlock(&sink->exact->moving);
    let_it_try_again(sink);
}

/* The lines go into the present file at once. That the limit is passed is told when it lasts. */
TEST_EACH(no_write_waits_for_a_process_that_is_stopped, stopped_rows)
{
    static struct io_ops ops;
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(open_rotating(SHARED, 4, &sink), 0);
    stop_thread(sink);
    struct twinlog_sink *other = open_stopped(path, SHARED);
    put(sink, "one\n");
    if (row->has_lock)
        ck_assert_int_eq(io_lock(other->exact->file->data, ROTATE_LOCK, true), 0);
    else
        put(sink, "two\n");

    struct io *io = sink->exact->file->io;
    ops = *io->ops;
    ops.sleep_ms = count_sleep;
    io->ops = &ops;
    put(sink, "three\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    let_a_second_pass(sink);
    put(sink, "four\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), -EBUSY);
    ck_assert_uint_eq(atomic_load(&sleeps), 0);
    expect_text(path, row->has_lock ? "one\nthree\nfour\n" : "two\nthree\nfour\n");

    close_sink(other);
    let_it_try_again(sink);
    put(sink, "five\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    expect_text(path, "five\n");
    close_sink(sink);
}

/* What was in the way of the file before is not counted for the next one. */
TEST(a_process_that_was_in_the_way_is_forgotten_with_the_file)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(open_rotating(SHARED, 4, &sink), 0);
    stop_thread(sink);
    struct twinlog_sink *other = open_stopped(path, SHARED);
    put(sink, "one\n");
    put(sink, "two\n");
    put(sink, "three\n");
    let_a_second_pass(sink);
    ck_assert_int_eq(rename(path, numbered(9)), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    put(sink, "four\n");
    put(sink, "five\n");
    expect_text(path, "four\nfive\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    close_sink(other);
    close_sink(sink);
}

static void *put_two(void *sink)
{
    put(sink, "two\n");
    return NULL;
}

/* Of threads that meet the same full file one tries to rotate it. */
TEST(what_another_thread_has_tried_is_not_tried_again_at_once)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(open_rotating(EXACT, 4, &sink), 0);
    stop_thread(sink);
    put(sink, "one\n");
    wanted_point = "full file found";
    const pthread_t thread = start_thread(put_two, sink);
    AWAIT(atomic_load(&shared->was_there));
    ck_assert_int_eq(mkdir(numbered(1), 0700), 0); /* a file may not take its name */
    put(sink, "three\n");
    ck_assert_int_eq(rmdir(numbered(1)), 0);
    atomic_store(&shared->step, 1);
    pthread_join(thread, NULL);
    expect_text(path, "one\nthree\ntwo\n");
    close_sink(sink);
}

/* ---- locks that cannot be asked for ------------------------------------------------------------------ */

static uint32_t looking_flags;

/* With a file that nobody has in the place of the old one. */
static int rotate_without_looks(void)
{
    const bool is_exact = !(looking_flags & MAPPED);
    struct twinlog_sink *sink;

    EXPECT(open_rotating(looking_flags, 4, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    if (!forbid_if(SYS_fcntl, EIO, 1, F_OFD_GETLK))
        return CANNOT_RUN;

    EXPECT(put_one(sink, "two\n") == (is_exact ? 0 : -EIO));
    EXPECT(twinlog_sink_rotation_error(sink) == (is_exact ? -EIO : 0));
    EXPECT(has_text(numbered(1), "older\n"));
    EXPECT(bytes_of(numbered(2)) < 0);
    kill(getpid(), SIGKILL);
    return 0;
}

static const struct rotating_row {
    const char *name;
    uint32_t flags;
} rotating_rows[] = {
    { "an exact sink", EXACT },
    { "a shared exact sink", EXACT | SHARED },
    { "a mapped sink", MAPPED },
};

TEST_EACH(nothing_is_renamed_where_locks_cannot_be_asked_for, rotating_rows)
{
    put_text(numbered(1), "older\n");
    looking_flags = row->flags;
    const int rc = run_child(rotate_without_looks);
    if (rc != 128 + SIGKILL)
        expect_success_or_skip(rc, "nothing_is_renamed_where_locks_cannot_be_asked_for", NO_FILTER);
    expect_text(numbered(1), "older\n");
}

/* A sink of the other kind has the file, and the system does not say so. */
static int open_without_looks(void)
{
    struct twinlog_sink *sink;

    if (!forbid_if(SYS_fcntl, EIO, 1, F_OFD_GETLK))
        return CANNOT_RUN;
    EXPECT(open_as(looking_flags, &sink) == -EIO);
    return 0;
}

TEST_EACH(a_file_is_not_opened_where_locks_cannot_be_asked_for, kind_rows)
{
    struct twinlog_sink *sink;
    const uint32_t other_kind = MAPPED ^ (row->flags & MAPPED);

    ck_assert_int_eq(open_as(other_kind | SHARED, &sink), 0);
    put(sink, "one\n");
    looking_flags = row->flags;
    expect_success_or_skip(run_child(open_without_looks),
                           "a_file_is_not_opened_where_locks_cannot_be_asked_for", NO_FILTER);
    put(sink, "two\n");
    close_sink(sink);
    expect_text(path, "one\ntwo\n");
}

/* ---- locks that cannot be taken ---------------------------------------------------------------------- */

/* Another participant may be dead, or not: it cannot be found out. */
static int sync_without_locks(void)
{
    struct twinlog_sink *sink, *other;

    EXPECT(open_as(MAPPED | SHARED, &other) == 0);
    EXPECT(open_as(MAPPED | SHARED, &sink) == 0);
    EXPECT(put_one(sink, LINE) == 0);
    if (!forbid_if(SYS_fcntl, ENOLCK, 1, F_OFD_SETLK))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_sync(sink) == -ENOLCK);
    return 0;
}

TEST(a_participant_is_not_alive_because_its_lock_cannot_be_tried)
{
    expect_success_or_skip(run_child(sync_without_locks),
                           "a_participant_is_not_alive_because_its_lock_cannot_be_tried", NO_FILTER);
}

/* Nor is a place taken for that reason. */
static int open_without_byte(void)
{
    struct twinlog_sink *sink;

    if (!forbid_if(SYS_fcntl, ENOLCK, 1, F_OFD_SETLK))
        return CANNOT_RUN;
    EXPECT(open_as(MAPPED | SHARED, &sink) == -ENOLCK);
    return 0;
}

TEST(a_lock_that_cannot_be_taken_is_the_error)
{
    expect_success_or_skip(run_child(open_without_byte), "a_lock_that_cannot_be_taken_is_the_error",
                           NO_FILTER);
}

/* ---- sizes and places -------------------------------------------------------------------------------- */

/* It is not empty because its size cannot be asked for, and not small either. */
static int rotate_without_sizes(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_rotating(EXACT, 4, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    if (!forbid(SYS_statx, EIO))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_rotate(sink, INT64_MAX) == -EIO);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == -EIO);
    EXPECT(has_text(path, "one\ntwo\n"));
    return twinlog_sink_close(sink);
}

TEST(a_file_whose_size_is_not_known_is_told)
{
    expect_success_or_skip(run_child(rotate_without_sizes), "a_file_whose_size_is_not_known_is_told",
                           NO_FILTER);
}

/* Rotation does not need the place; a caller that wants to know it gets the error. */
static int write_without_places(void)
{
    struct twinlog_sink *sink;
    uint64_t offset = 99;

    EXPECT(open_rotating(EXACT, 8, &sink) == 0);
    if (!forbid(SYS_lseek, EIO))
        return CANNOT_RUN;
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(put_one(sink, "three\n") == 0);
    EXPECT(has_text(path, "three\n"));
    EXPECT(has_text(numbered(1), "one\ntwo\n"));
    EXPECT(twinlog_sink_write(sink, "x\n", 2, &offset) == -EIO);
    EXPECT(offset == 99);
    return twinlog_sink_close(sink);
}

TEST(a_place_that_cannot_be_asked_for_is_not_invented)
{
    expect_success_or_skip(run_child(write_without_places),
                           "a_place_that_cannot_be_asked_for_is_not_invented", NO_FILTER);
}

/* ---- what another program takes away ------------------------------------------------------------------- */

static unsigned renames;

/* The first rename finds no file: another program has taken NAME.1 away since it was looked at. */
static int take_away(const struct hooked_call *call)
{
    if (call->op != SIM_RENAME)
        return 0;
    renames++;
    if (renames > 1)
        return 0;
    unlink(numbered(1));
    return -ENOENT;
}

static struct io *directory_of(struct twinlog_sink *sink) NO_THREAD_SAFETY_ANALYSIS
{
    return sink->exact ? sink->exact->file->io : sink->io;
}

TEST_EACH(a_number_that_is_taken_away_stops_no_rotation, rotating_rows)
{
    struct twinlog_sink *sink = NULL;

    put_text(numbered(1), "older\n");
    ck_assert_int_eq(open_rotating(row->flags, 4, &sink), 0);
    put(sink, "one\n");
    renames = 0;
    hooked(directory_of(sink), take_away);
    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    ck_assert_uint_eq(renames, 2);
    close_sink(sink);
    expect_text(numbered(1), "one\n");
    expect_text(path, "two\n");
}

static unsigned opened_before; /* how often the last number is opened before it is gone */

static int take_away_last(const struct hooked_call *call)
{
    if (call->op != SIM_OPEN || !call->name || !strstr(call->name, "out.1"))
        return 0;
    if (opened_before == 0) {
        unlink(numbered(1));
        return -ENOENT;
    }
    opened_before--;
    return 0;
}

/* It is looked at, and gone when it is to be removed. */
TEST(a_last_number_that_is_taken_away_stops_no_rotation)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = MAPPED, .max_bytes = 4, .keep_files = 1);
    struct twinlog_sink *sink = open_sink(&options);

    put_text(numbered(1), "older\n");
    put(sink, "one\n");
    opened_before = 1;
    hooked(directory_of(sink), take_away_last);
    put(sink, "two\n");
    close_sink(sink);
    expect_text(numbered(1), "one\n");
    expect_text(path, "two\n");
}

/* The directory is gone as well: nobody can have written to a next file, so a sync has nothing more to do. */
TEST_EACH(a_path_that_leads_nowhere_stops_no_sync, kind_rows)
{
    char former[420], deep[420];
    const struct twinlog_sink_options options = options_of(row->flags);
    struct twinlog_sink *sink;

    snprintf(former, sizeof(former), "%s/gone", log_dir);
    snprintf(deep, sizeof(deep), "%s/deep", log_dir);
    ck_assert_int_eq(mkdir(deep, 0777), 0);
    snprintf(deep, sizeof(deep), "%s/deep/out", log_dir);
    ck_assert_int_eq(twinlog_sink_open(deep, &options, &sink), 0);
    put(sink, "one\n");
    deep[strlen(deep) - strlen("/out")] = '\0';
    ck_assert_int_eq(rename(deep, former), 0);
    ck_assert_int_eq(twinlog_sink_sync(sink), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), -ENOENT);
    close_sink(sink);
    strcat(former, "/out");
    expect_text(former, "one\n");
}

/* ---- a path that may not be looked at ------------------------------------------------------------------ */

/* The directories above are another user's by now. The file keeps its name in the one where it was opened. */
static int sync_as_stranger(void)
{
    struct twinlog_sink *sink;

    if (geteuid() != 0)
        return CANNOT_RUN;
    EXPECT(open_as(looking_flags, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(chmod(log_parent, 0700) == 0);
    EXPECT(setgid(STRANGER) == 0 && setuid(STRANGER) == 0);
    EXPECT(access(path, F_OK) < 0 && errno == EACCES);
    EXPECT(twinlog_sink_sync(sink) == 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    kill(getpid(), SIGKILL);
    return 0;
}

TEST_EACH(a_path_that_may_not_be_looked_at_stops_no_sync, kind_rows)
{
    looking_flags = row->flags;
    const int rc = run_child(sync_as_stranger);
    if (rc != 128 + SIGKILL)
        expect_success_or_skip(rc, "a_path_that_may_not_be_looked_at_stops_no_sync",
                               "only root becomes another user");
}

static bool become_stranger_in(const char *dir)
{
    return geteuid() == 0 && chown(dir, STRANGER, STRANGER) == 0 && chmod(log_parent, 0700) == 0 &&
           chdir(dir) == 0 && setgid(STRANGER) == 0 && setuid(STRANGER) == 0;
}

/* The process stands in a directory that it could not find by a path. */
static int work_below_hidden_directory(void)
{
    const struct twinlog_sink_options options = options_of(looking_flags);
    struct twinlog_sink *sink;

    if (!become_stranger_in(log_dir))
        return CANNOT_RUN;
    EXPECT(access(path, F_OK) < 0 && errno == EACCES);
    EXPECT(twinlog_sink_open("out", &options, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(twinlog_sink_reopen(sink) == 0);
    EXPECT(rename("out", "older") == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    EXPECT(twinlog_sink_reopen(sink) >= 0); /* 0 if the thread was faster */
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    EXPECT(twinlog_sink_close(sink) == 0);
    EXPECT(has_text("older", "one\n"));
    EXPECT(has_text("out", "two\n"));
    return 0;
}

TEST_EACH(a_sink_works_in_a_directory_that_no_path_leads_to, kind_rows)
{
    looking_flags = row->flags;
    expect_success_or_skip(run_child(work_below_hidden_directory),
                           "a_sink_works_in_a_directory_that_no_path_leads_to",
                           "only root becomes another user");
}

static int rotate_below_hidden_directory(void)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = looking_flags, .max_bytes = 4);
    struct twinlog_sink *sink;

    if (!become_stranger_in(log_dir))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_open("out", &options, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == 0);
    EXPECT(twinlog_sink_close(sink) == 0);
    EXPECT(has_text("out.1", "one\n"));
    EXPECT(has_text("out", "two\n"));
    return 0;
}

TEST_EACH(a_sink_rotates_in_a_directory_that_no_path_leads_to, rotating_rows)
{
    looking_flags = row->flags;
    expect_success_or_skip(run_child(rotate_below_hidden_directory),
                           "a_sink_rotates_in_a_directory_that_no_path_leads_to",
                           "only root becomes another user");
}

#define DEEP 25u /* directories of 200 characters: no system call takes such a path */

static int rotate_deep_down(void)
{
    struct twinlog_sink *sink;
    char name[201];

    memset(name, 'd', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    EXPECT(chdir(log_dir) == 0);
    for (unsigned i = 0; i < DEEP; i++)
        EXPECT(mkdir(name, 0777) == 0 && chdir(name) == 0);

    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = looking_flags, .max_bytes = 4);
    EXPECT(twinlog_sink_open("out", &options, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    EXPECT(twinlog_sink_close(sink) == 0);
    EXPECT(has_text("out.1", "one\n"));
    EXPECT(has_text("out", "two\n"));

    EXPECT(unlink("out") == 0 && unlink("out.1") == 0);
    for (unsigned i = 0; i < DEEP; i++)
        EXPECT(chdir("..") == 0 && rmdir(name) == 0);
    return 0;
}

TEST_EACH(a_sink_rotates_in_a_directory_of_a_long_path, rotating_rows)
{
    looking_flags = row->flags;
    ck_assert_int_eq(run_child(rotate_deep_down), 0);
}

/* The path has become a link to where only another user may look. It is not known where the sink should go on, so the
 * file keeps its name. An exact sink goes on there, and a mapped one, which must keep to its limit, fails. */
static int rotate_behind_hidden_link(void)
{
    const bool is_exact = !(looking_flags & MAPPED);
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = looking_flags, .max_bytes = 4);
    struct twinlog_sink *sink;

    if (geteuid() != 0 || chown(log_dir, STRANGER, STRANGER) < 0 || chmod(log_parent, 0755) < 0)
        return CANNOT_RUN;
    if (chdir(log_dir) < 0 || setgid(STRANGER) < 0 || setuid(STRANGER) < 0 || access(log_dir, X_OK) < 0)
        return CANNOT_RUN;
    EXPECT(mkdir("here", 0700) == 0 && symlink("here/out", "link") == 0);
    EXPECT(close(open("here/out", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600)) == 0);
    EXPECT(twinlog_sink_open("link", &options, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(symlink("hidden/out", "new") == 0 && rename("new", "link") == 0);
    EXPECT(twinlog_sink_reopen(sink) == -EACCES);
    EXPECT(put_one(sink, "two\n") == (is_exact ? 0 : -EACCES));
    EXPECT(twinlog_sink_rotation_error(sink) == -EACCES);
    EXPECT(twinlog_sink_rotate(sink, INT64_MAX) == (is_exact ? -EACCES : -ENOTSUP));
    EXPECT(access("here/out.1", F_OK) < 0);
    (void)twinlog_sink_close(sink);
    EXPECT(has_text("here/out", is_exact ? "one\ntwo\n" : "one\n"));
    return 0;
}

TEST_EACH(a_sink_does_not_rotate_behind_a_link_that_may_not_be_followed, rotating_rows)
{
    char hidden[320];

    snprintf(hidden, sizeof(hidden), "%s/hidden", log_dir);
    ck_assert_int_eq(mkdir(hidden, 0700), 0);
    looking_flags = row->flags;
    expect_success_or_skip(run_child(rotate_behind_hidden_link),
                           "a_sink_does_not_rotate_behind_a_link_that_may_not_be_followed",
                           "only root becomes another user, where that user may search");
}

/* ---- what keeps a rotation from being done ------------------------------------------------------------- */

static bool has_older_file;

/* With an older file no descriptor is left to look at it; without one, none to make the next file. */
static int rotate_without_descriptors(void)
{
    struct twinlog_sink *sink;
    struct rlimit limit, all;

    EXPECT(open_rotating(EXACT, 4, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    const int lowest = dup(0);
    EXPECT(lowest > 0 && close(lowest) == 0 && getrlimit(RLIMIT_NOFILE, &all) == 0);
    limit = all;
    limit.rlim_cur = (rlim_t)lowest;
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == -EMFILE);
    EXPECT(setrlimit(RLIMIT_NOFILE, &all) == 0);
    EXPECT(has_text(path, "one\ntwo\n"));
    let_it_try_again(sink);
    EXPECT(put_one(sink, "three\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == 0);
    EXPECT(has_text(numbered(1), "one\ntwo\n"));
    EXPECT(has_text(path, "three\n"));
    EXPECT(!has_older_file || has_text(numbered(2), "older\n"));
    return twinlog_sink_close(sink);
}

TEST(a_rotation_without_descriptors_is_told_and_done_later)
{
    has_older_file = false;
    ck_assert_int_eq(run_child(rotate_without_descriptors), 0);
}

TEST(a_rotation_beside_an_older_file_without_descriptors_is_told_and_done_later)
{
    has_older_file = true;
    put_text(numbered(1), "older\n");
    ck_assert_int_eq(run_child(rotate_without_descriptors), 0);
}

/* The next file of a log that a group shares cannot be given to its owner. */
static int rotate_file_of_another(void)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .flags = EXACT, .max_bytes = 4);
    struct twinlog_sink *sink;

    if (!become_stranger_in(log_dir))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_open("out", &options, &sink) == 0);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT(put_one(sink, "one\n") == 0);
        let_it_try_again(sink);
    }

    EXPECT(twinlog_sink_rotation_error(sink) == -EPERM);
    EXPECT(has_text("out", "one\none\none\n"));
    EXPECT(bytes_of("out.1") < 0);
    return twinlog_sink_close(sink);
}

TEST(a_next_file_that_cannot_be_given_to_its_owner_takes_no_name_away)
{
    put_text(path, "");
    ck_assert_int_eq(chmod(path, 0666), 0);
    ck_assert_int_eq(chmod(log_dir, 0777), 0);
    expect_success_or_skip(run_child(rotate_file_of_another),
                           "a_next_file_that_cannot_be_given_to_its_owner_takes_no_name_away",
                           "only root becomes another user");
    ck_assert_uint_eq(log_count_files(), 1);
}

/* The user of the sink may remove NAME.1, but not read it. */
static int rotate_beside_secret(void)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .flags = EXACT, .max_bytes = 4);
    struct twinlog_sink *sink;

    if (!become_stranger_in(log_dir))
        return CANNOT_RUN;
    EXPECT(twinlog_sink_open("out", &options, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == -EACCES);
    EXPECT(has_text("out", "one\ntwo\n"));

    EXPECT(unlink("out.1") == 0);
    let_it_try_again(sink);
    EXPECT(put_one(sink, "three\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == 0);
    EXPECT(has_text("out.1", "one\ntwo\n"));
    EXPECT(has_text("out", "three\n"));
    return twinlog_sink_close(sink);
}

TEST(a_number_that_may_not_be_looked_at_is_told_and_taken_later)
{
    put_text(numbered(1), "secret\n");
    ck_assert_int_eq(chmod(numbered(1), 0600), 0);
    expect_success_or_skip(run_child(rotate_beside_secret),
                           "a_number_that_may_not_be_looked_at_is_told_and_taken_later",
                           "only root becomes another user");
}

/* ---- a kill between two files --------------------------------------------------------------------------- */

static int die_between_two_files(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_rotating(looking_flags, 4, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    signal_there = SIGKILL;
    wanted_point = sink->exact ? "exact name shifted" : "old file named";
    (void)put_one(sink, "two\n");
    return 0;
}

static void kill_between_two_files(uint32_t flags)
{
    looking_flags = flags;
    ck_assert_int_eq(run_child(die_between_two_files), 128 + SIGKILL);
    ck_assert_int_eq(bytes_of(path), -1);
}

static struct stat open_next(uint32_t flags)
{
    struct twinlog_sink *sink;
    struct stat about;

    ck_assert_int_eq(open_as(flags, &sink), 0);
    put(sink, "new\n");
    close_sink(sink);
    expect_text(path, "new\n");
    ck_assert_int_eq(stat(path, &about), 0);
    return about;
}

TEST_EACH(the_next_file_has_its_rights_after_a_kill, rotating_rows)
{
    const bool has_stranger = geteuid() == 0 && !(row->flags & MAPPED); /* a mapped sink is of one user */

    put_text(path, "");
    ck_assert_int_eq(chmod(path, 0620), 0);
    if (has_stranger)
        ck_assert_int_eq(chown(path, STRANGER, STRANGER), 0);
    kill_between_two_files(row->flags);
    const struct stat about = open_next(row->flags);
    ck_assert_uint_eq(about.st_mode & 0777, 0620);
    ck_assert_uint_eq(about.st_uid, has_stranger ? STRANGER : geteuid());
}

/* In a directory that all may write, another user may have put it there. */
TEST_EACH(a_stranger_gives_no_rights_to_the_next_file, rotating_rows)
{
    if (geteuid() != 0) {
        puts("SKIP a_stranger_gives_no_rights_to_the_next_file: only root becomes another user");
        return;
    }
    ck_assert_int_eq(chmod(log_dir, 01777), 0);
    put_text(path, "");
    kill_between_two_files(row->flags);
    ck_assert_int_eq(chown(numbered(1), STRANGER, STRANGER), 0);
    ck_assert_int_eq(chmod(numbered(1), 0666), 0);
    const struct stat about = open_next(row->flags);
    ck_assert_uint_eq(about.st_uid, 0);
    ck_assert_uint_eq(about.st_mode & 0002, 0);
}

static int open_beside_archived(void)
{
    const struct twinlog_sink_options options = WITH_SIZE(sink_options, .flags = looking_flags);
    struct twinlog_sink *sink;
    struct stat about;

    if (!become_stranger_in(log_dir))
        return CANNOT_RUN;
    EXPECT(close(open("out.1", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0400)) == 0);
    for (unsigned i = 0; i < 2; i++) {
        EXPECT(twinlog_sink_open("out", &options, &sink) == 0);
        EXPECT(twinlog_sink_close(sink) == 0);
    }
    EXPECT(stat("out", &about) == 0);
    EXPECT(about.st_mode & S_IWUSR);
    return 0;
}

/* No kill has left it: somebody keeps it, and has taken the present file away. */
TEST_EACH(a_file_that_may_only_be_read_gives_no_rights_to_the_next_one, rotating_rows)
{
    looking_flags = row->flags;
    expect_success_or_skip(run_child(open_beside_archived),
                           "a_file_that_may_only_be_read_gives_no_rights_to_the_next_one",
                           "only root becomes another user");
}

/* ---- names that never agree --------------------------------------------------------------------------- */

/* The next file cannot be made as one of that name is said to be there, and cannot be opened as there is none. */
static int rotate_in_confusion(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_rotating(looking_flags, 4, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    if (!forbid(SYS_linkat, EEXIST))
        return CANNOT_RUN;
    const int rc = put_one(sink, "two\n");
    EXPECT(rc == (sink->exact ? 0 : -EBUSY));
    if (looking_flags & SHARED) { /* others may still bring it about */
        let_a_second_pass(sink);
        EXPECT(put_one(sink, "three\n") == 0);
    }
    EXPECT(twinlog_sink_rotation_error(sink) == (sink->exact ? -EBUSY : 0));
    (void)twinlog_sink_close(sink);
    return 0;
}

TEST_EACH(a_file_that_is_there_and_is_not_is_an_error, rotating_rows)
{
    looking_flags = row->flags;
    expect_success_or_skip(run_child(rotate_in_confusion), "a_file_that_is_there_and_is_not_is_an_error",
                           NO_FILTER);
}

/* ---- files of others where a sink goes on --------------------------------------------------------------- */

static const struct next_row {
    const char *name;
    mode_t directory;
    uid_t owner;
    bool has_two_names;
    int reopened;
} next_rows[] = {
    { "a stranger's, where all may write", 01777, STRANGER, false, -EPERM },
    { "one with two names, where all may write", 01777, 0, true, -EPERM },
    { "its own, where all may write", 01777, 0, false, 1 },
    { "a stranger's, where only one user may write", 0700, STRANGER, true, 1 },
};

/* An exact sink may have files of several users. Where others make files, too, it looks at the owner. */
TEST_EACH(an_exact_sink_looks_whose_the_next_file_is, next_rows)
{
    struct twinlog_sink *sink;

    if (geteuid() != 0) {
        puts("SKIP an_exact_sink_looks_whose_the_next_file_is: only root gives files away");
        return;
    }
    ck_assert_int_eq(open_as(EXACT, &sink), 0);
    put(sink, "one\n");
    twl_mutex_lock(&sink->exact->moving); /* the thread does not look before the file is what it is to be */
    ck_assert_int_eq(chmod(log_dir, row->directory), 0);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    put_text(path, "");
    ck_assert_int_eq(chown(path, row->owner, 0), 0);
    if (row->has_two_names)
        ck_assert_int_eq(link(path, numbered(2)), 0);
    twl_mutex_unlock(&sink->exact->moving);

    const int reopened = twinlog_sink_reopen(sink);
    if (row->reopened < 0)
        ck_assert_int_eq(reopened, row->reopened);
    else
        ck_assert_int_ge(reopened, 0); /* 0 if the thread was faster */
    put(sink, "two\n");
    close_sink(sink);
    expect_text(numbered(1), row->reopened < 0 ? "one\ntwo\n" : "one\n");
    expect_text(path, row->reopened < 0 ? "" : "two\n");
}

/* ---- file systems without locks -------------------------------------------------------------------------- */

/* Nothing is kept apart then, as with other programs that append. */
static int rotate_without_locks(void)
{
    struct twinlog_sink *sink;

    if (!forbid_if(SYS_fcntl, ENOLCK, 1, F_OFD_SETLK))
        return CANNOT_RUN;
    EXPECT(open_rotating(looking_flags, 8, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(put_one(sink, "three\n") == 0);
    EXPECT(twinlog_sink_rotation_error(sink) == 0);
    EXPECT(twinlog_sink_close(sink) == 0);
    EXPECT(has_text(numbered(1), "one\ntwo\n"));
    EXPECT(has_text(numbered(2), "older\n"));
    EXPECT(has_text(path, "three\n"));
    return 0;
}

static const struct lockless_row {
    const char *name;
    uint32_t flags;
} lockless_rows[] = {
    { "an exact sink", EXACT },
    { "a shared exact sink", EXACT | SHARED },
    { "a sink of lines", EXACT | SHARED | TWINLOG_SINK_LINES },
};

TEST_EACH(an_exact_sink_does_without_locks, lockless_rows)
{
    put_text(numbered(1), "older\n");
    looking_flags = row->flags;
    expect_success_or_skip(run_child(rotate_without_locks), "an_exact_sink_does_without_locks", NO_FILTER);
}

/* ---- directories that cannot be synced --------------------------------------------------------------------- */

static int sync_without_directories(void)
{
    struct twinlog_sink *sink;

    if (!forbid(SYS_fsync, EINVAL))
        return CANNOT_RUN;
    EXPECT(open_as(looking_flags, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    return twinlog_sink_close(sink);
}

TEST_EACH(a_directory_that_cannot_be_synced_stops_no_sync, kind_rows)
{
    looking_flags = row->flags;
    expect_success_or_skip(run_child(sync_without_directories),
                           "a_directory_that_cannot_be_synced_stops_no_sync", NO_FILTER);
}

/* ---- writes that are refused --------------------------------------------------------------------------- */

static int refused_with;

static int write_without_writes(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    if (!forbid(SYS_write, refused_with))
        return CANNOT_RUN;
    for (unsigned i = 0; i < 2; i++) /* the second one asks for room first, if the disk was full */
        EXPECT(put_one(sink, "two\n") == -refused_with);
    EXPECT(has_text(path, "one\n"));
    return twinlog_sink_close(sink);
}

static const struct refused_row {
    const char *name;
    int error;
} refused_rows[] = {
    { "a full disk", ENOSPC },
    { "an error of the disk", EIO },
};

TEST_EACH(a_write_that_is_refused_leaves_nothing, refused_rows)
{
    refused_with = row->error;
    expect_success_or_skip(run_child(write_without_writes), "a_write_that_is_refused_leaves_nothing",
                           NO_FILTER);
}

/* ---- intervals of an exact sink ------------------------------------------------------------------------- */

static bool is_name_durable(struct exact_sink *sink)
{
    twl_mutex_lock(&sink->syncing);
    twl_mutex_lock(&sink->lock);
    const bool is_durable = sink->file->has_durable_name;
    twl_mutex_unlock(&sink->lock);
    twl_mutex_unlock(&sink->syncing);
    return is_durable;
}

static const struct interval_row {
    const char *name;
    uint32_t interval_ms;
} interval_rows[] = {
    { "short", 1 },
    { "longer than between two looks at the path", 250 },
};

/* What was written is synced, and only that. */
TEST_EACH(an_interval_syncs_what_was_written, interval_rows)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = EXACT, .flush_interval_ms = row->interval_ms);
    struct twinlog_sink *sink = open_sink(&options);

    put(sink, "one\n");
    AWAIT(is_name_durable(sink->exact));
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_ge(twinlog_sink_reopen(sink), 0);
    twl_mutex_lock(&sink->exact->syncing);
    const int refused = sink->exact->sync_error;
    twl_mutex_unlock(&sink->exact->syncing);
    ck_assert_int_eq(refused, 0);
    ck_assert(!is_name_durable(sink->exact));
    put(sink, "two\n");
    AWAIT(is_name_durable(sink->exact));
    close_sink(sink);
    expect_text(numbered(1), "one\n");
    expect_text(path, "two\n");
}

/* ---- what the thread of a sink has met -------------------------------------------------------------------- */

static int sync_result;

#define MOST_LOOKS 4u

static const struct news_row {
    const char *name;
    int looks[MOST_LOOKS]; /* what the looks at the path have returned */
    int told;
} news_rows[] = {
    { "nothing", { 0, 1, 0, 0 }, 0 },
    { "an error of one look", { 0, 0, 0, -EACCES }, 0 },
    { "an error of one look, before a good one", { 0, -EACCES, 0, -EACCES }, 0 },
    { "an error of two looks", { 0, 0, -EACCES, -EACCES }, -EACCES },
    { "the newer one of two errors", { 0, 0, -ENOTSUP, -EACCES }, -EACCES },
};

/* The file that comes next may not have its owner yet. */
TEST_EACH(an_error_of_one_look_is_not_told, news_rows)
{
    struct sink_news news = { 0 };

    for (unsigned i = 0; i < MOST_LOOKS; i++)
        sink_news_of_look(&news, row->looks[i]);
    ck_assert_int_eq(atomic_load(&news.path_error), row->told);
}

/* Each has the name of the other one then; the thread does not look in between. */
static void exchange(const char *one, const char *other)
{
    ck_assert_int_eq(syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE), 0);
}

static void take_it_away(void)
{
    ck_assert_int_eq(rmdir(path), 0);
}

static void rename_it_back(void)
{
    exchange(path, numbered(1));
    ck_assert_int_eq(rmdir(numbered(1)), 0);
}

static const struct wrong_row {
    const char *name;
    uint32_t flags;
    void (*mend)(void);
    const char *older, *newer; /* what the two files have then */
} wrong_rows[] = {
    { "an exact sink goes on in a new file", EXACT, take_it_away, "one\ntwo\n", "six\n" },
    { "an exact sink gets its file back", EXACT, rename_it_back, NULL, "one\ntwo\nsix\n" },
    { "a mapped sink goes on in a new file", MAPPED, take_it_away, "one\ntwo\n", "six\n" },
    { "a mapped sink gets its file back", MAPPED, rename_it_back, NULL, "one\ntwo\nsix\n" },
};

/* Lines go to the renamed file meanwhile. No call but this one tells, as a write needs no look at the path. */
TEST_EACH(a_sink_that_cannot_follow_its_path_tells_why, wrong_rows)
{
    struct twinlog_sink *sink;

    ck_assert_int_eq(open_as(row->flags, &sink), 0);
    put(sink, "one\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    ck_assert_int_eq(mkdir(numbered(1), 0777), 0);
    exchange(path, numbered(1)); /* a directory has the name of the file */
    AWAIT(twinlog_sink_rotation_error(sink) == -ENOTSUP);
    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), -ENOTSUP);
    row->mend();
    AWAIT(twinlog_sink_rotation_error(sink) == 0);
    put(sink, "six\n");
    close_sink(sink);
    if (row->older)
        expect_text(numbered(1), row->older);
    expect_text(path, row->newer);
}

static int flush_on_a_disk_that_fails(void)
{
    const struct twinlog_sink_options options =
        WITH_SIZE(sink_options, .flags = looking_flags, .flush_interval_ms = 1);
    struct twinlog_sink *sink;
    uint64_t began_ns = 0;

    EXPECT(twinlog_sink_open(path, &options, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    EXPECT(twinlog_sink_sync_error(sink) == 0);
    if (!forbid_to_all(SYS_fdatasync, sync_result))
        return CANNOT_RUN;

    EXPECT(put_one(sink, "two\n") == 0);
    while (twinlog_sink_sync_error(sink) == 0 && still_in_time(&began_ns))
        ;
    EXPECT(twinlog_sink_sync_error(sink) == -sync_result);
    EXPECT(twinlog_sink_sync(sink) == -sync_result);
    EXPECT(put_one(sink, "six\n") == 0); /* which is why it has to be asked for */
    (void)twinlog_sink_close(sink);
    return 0;
}

static const struct flush_row {
    const char *name;
    uint32_t flags;
    int error;
} flush_rows[] = {
    { "the disk of an exact sink fails", EXACT, EIO },
    { "an exact sink may not sync", EXACT, EPERM },
    { "the disk of a mapped sink fails", MAPPED, EIO },
    { "a mapped sink may not sync", MAPPED, EPERM },
};

TEST_EACH(a_sync_of_the_thread_that_fails_is_told, flush_rows)
{
    looking_flags = row->flags;
    sync_result = row->error;
    expect_success_or_skip(run_child(flush_on_a_disk_that_fails), "a_sync_of_the_thread_that_fails_is_told",
                           NO_FILTER);
}

/* ---- syncs of several files --------------------------------------------------------------------------- */

/* The descriptor of the file that a sink opens next here. */
static int next_descriptor(void)
{
    struct twinlog_sink *sink;
    int fd = -1;

    if (open_as(looking_flags, &sink) == 0) {
        fd = sink->exact ? io_file_fd(sink->exact->file->data) : io_file_fd(atomic_load(&sink->file)->data);
        twinlog_sink_close(sink);
    }
    return fd;
}

static bool is_present_synced(const struct twinlog_sink *sink)
{
    if (sink->exact)
        return sink->exact->file->has_durable_name;
    return atomic_load(&atomic_load(&sink->file)->area->synced) > 0;
}

/* The old file cannot be synced; the present one can. */
static int sync_beside_failure(void)
{
    struct twinlog_sink *sink;
    const int fd = next_descriptor();

    EXPECT(fd > 2);
    if (!forbid_if(SYS_fdatasync, sync_result, 0, (uint64_t)fd))
        return CANNOT_RUN;
    EXPECT(open_as(looking_flags, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(rename(path, numbered(1)) == 0);
    EXPECT(twinlog_sink_reopen(sink) >= 0);
    EXPECT(put_one(sink, "two\n") == 0);
    for (unsigned i = 0; i < 2; i++)
        EXPECT(twinlog_sink_sync(sink) == -sync_result);
    EXPECT(is_present_synced(sink));
    (void)twinlog_sink_close(sink);
    EXPECT(has_text(numbered(1), "one\n"));
    EXPECT(has_text(path, "two\n"));
    return 0;
}

static const struct sync_row {
    const char *name;
    uint32_t flags;
    int error;
} sync_rows[] = {
    { "the disk of an exact sink fails", EXACT, EIO },
    { "an exact sink has a file that cannot be synced", EXACT, EINVAL },
    { "the disk of a mapped sink fails", MAPPED, EIO },
    { "a mapped sink has a file that cannot be synced", MAPPED, EINVAL },
};

TEST_EACH(a_file_that_cannot_be_synced_keeps_no_other_from_it, sync_rows)
{
    looking_flags = row->flags;
    sync_result = row->error;
    expect_success_or_skip(run_child(sync_beside_failure),
                           "a_file_that_cannot_be_synced_keeps_no_other_from_it", NO_FILTER);
}

static void *sync_it(void *sink)
{
    return (void *)(intptr_t)twinlog_sink_sync(sink);
}

/* The sync has an older file to sync as well. Behind the first of both the present file is rotated away; that one
 * cannot be synced, and nobody else is there to say so. */
static int rotate_within_sync(void)
{
    struct twinlog_sink *sink;
    void *result = NULL;
    uint64_t began_ns = 0;

    EXPECT(open_as(EXACT, &sink) == 0);
    stop_thread(sink);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(rename(path, numbered(2)) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 1);
    EXPECT(put_one(sink, "two\n") == 0);
    if (!forbid_if(SYS_fdatasync, EIO, 0, (uint64_t)io_file_fd(sink->exact->file->data)))
        return CANNOT_RUN;

    wanted_point = "exact sync done";
    const pthread_t thread = start_thread(sync_it, sink);
    while (!atomic_load(&shared->was_there))
        EXPECT(still_in_time(&began_ns));
    EXPECT(rename(path, numbered(1)) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 1);
    atomic_store(&shared->step, 1);
    pthread_join(thread, &result);
    EXPECT((intptr_t)result == -EIO);
    return twinlog_sink_close(sink);
}

TEST(a_sync_is_of_what_was_written_though_it_is_rotated_away)
{
    expect_success_or_skip(run_child(rotate_within_sync),
                           "a_sync_is_of_what_was_written_though_it_is_rotated_away", NO_FILTER);
}

/* What was never tried is no error of the disk, and an old file waits for it. */
static int sync_when_allowed(void)
{
    struct twinlog_sink *sink;

    if (!forbid(SYS_fdatasync, EPERM)) /* also for the thread of the sink */
        return CANNOT_RUN;
    EXPECT(open_as(EXACT, &sink) == 0);
    EXPECT(put_one(sink, "one\n") == 0);
    EXPECT(rename(path, numbered(1)) == 0);
    EXPECT(twinlog_sink_reopen(sink) >= 0);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_sync(sink) == -EPERM);

    twl_mutex_lock(&sink->exact->syncing);
    const bool has_error = sink->exact->sync_error != 0;
    const bool is_left = sink->exact->old && sink->exact->is_dirty;
    twl_mutex_unlock(&sink->exact->syncing);
    EXPECT(!has_error);
    EXPECT(is_left);
    return twinlog_sink_close(sink);
}

TEST(a_sync_that_may_not_be_made_may_be_tried_again)
{
    expect_success_or_skip(run_child(sync_when_allowed), "a_sync_that_may_not_be_made_may_be_tried_again",
                           NO_FILTER);
}

static unsigned count_exact(struct exact_sink *sink)
{
    unsigned count = 0;

    twl_mutex_lock(&sink->syncing);
    twl_mutex_lock(&sink->lock);
    for (const struct exact_file *file = sink->old; file; file = file->next)
        count++;
    twl_mutex_unlock(&sink->lock);
    twl_mutex_unlock(&sink->syncing);
    return count;
}

static unsigned count_mapped(struct twinlog_sink *sink)
{
    unsigned count = 0;

    twl_mutex_lock(&sink->retiring);
    for (const struct sink_file *file = twl_sink_old(sink); file; file = file->next)
        count++;
    twl_mutex_unlock(&sink->retiring);
    return count;
}

static unsigned count_old(struct twinlog_sink *sink)
{
    if (sink->exact)
        return count_exact(sink->exact);
    return count_mapped(sink);
}

static int remembered_error(struct twinlog_sink *sink)
{
    if (sink->exact)
        return sink->exact->sync_error;
    return atomic_load(&sink->past_error);
}

/* A sandbox that allows no sync does so for ever. The sink goes on in the next file all the same, and needs no more
 * descriptors for it. */
static int go_on_without_syncs(void)
{
    struct twinlog_sink *sink;
    uint64_t began_ns = 0;

    if (!forbid(SYS_fdatasync, EPERM))
        return CANNOT_RUN;
    EXPECT(open_as(looking_flags, &sink) == 0);
    for (unsigned i = 0; i < 40; i++) {
        EXPECT(put_one(sink, "one\n") == 0);
        EXPECT(rename(path, numbered(i)) == 0);
        EXPECT(twinlog_sink_reopen(sink) >= 0);
    }

    EXPECT(twinlog_sink_sync(sink) == -EPERM);
    while (count_old(sink) > 20 && still_in_time(&began_ns)) /* the thread leaves them */
        ;
    EXPECT(count_old(sink) <= 20);
    EXPECT(remembered_error(sink) == -EPERM); /* some of the files were never synced */
    return twinlog_sink_close(sink);
}

TEST_EACH(files_that_may_not_be_synced_are_not_kept_without_limit, kind_rows)
{
    looking_flags = row->flags;
    expect_success_or_skip(run_child(go_on_without_syncs),
                           "files_that_may_not_be_synced_are_not_kept_without_limit", NO_FILTER);
}

/* Nobody can find it after a power cut. */
static int sync_after_removal(void)
{
    struct twinlog_sink *sink;

    EXPECT(open_as(EXACT, &sink) == 0);
    stop_thread(sink);
    EXPECT(put_one(sink, "one\n") == 0);
    if (!forbid_if(SYS_fdatasync, EIO, 0, (uint64_t)io_file_fd(sink->exact->file->data)))
        return CANNOT_RUN;
    EXPECT(unlink(path) == 0);
    EXPECT(twinlog_sink_reopen(sink) == 1);
    EXPECT(put_one(sink, "two\n") == 0);
    EXPECT(twinlog_sink_sync(sink) == 0);
    EXPECT(count_old(sink) == 0);
    return twinlog_sink_close(sink);
}

TEST(an_old_file_without_a_name_is_left_without_a_sync)
{
    expect_success_or_skip(run_child(sync_after_removal), "an_old_file_without_a_name_is_left_without_a_sync",
                           NO_FILTER);
}

static uint64_t count_descriptors(void)
{
    uint64_t count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* As long as a sync takes, no old file is left. The present one grows on. */
TEST(rotations_that_are_faster_than_syncs_do_not_take_all_descriptors)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(open_rotating(EXACT, 4, &sink), 0);
    twl_mutex_lock(&sink->exact->syncing);
    const uint64_t before = count_descriptors();
    for (unsigned i = 0; i < 200; i++)
        put(sink, "one\n");
    ck_assert_uint_lt(count_descriptors(), before + 150); /* two for each */
    ck_assert_int_gt(bytes_of(path), 400);
    let_a_second_pass(sink);
    put(sink, "two\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), -EAGAIN);
    twl_mutex_unlock(&sink->exact->syncing);

    AWAIT(count_old(sink) == 0);
    let_it_try_again(sink);
    put(sink, "three\n");
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    expect_text(path, "three\n");
    close_sink(sink);
}

/* Returns the result of the first write that fails. */
static int put_until_it_fails(struct twinlog_sink *sink, unsigned *ret_lines)
{
    int rc = 0;

    for (*ret_lines = 0; *ret_lines < 200; (*ret_lines)++) {
        rc = twinlog_sink_write(sink, "one\n", 4, NULL);
        if (rc < 0)
            break;
    }

    return rc;
}

static void *put_line(void *sink)
{
    return (void *)(intptr_t)twinlog_sink_write(sink, "two\n", 4, NULL);
}

/* A mapped file cannot grow on: writes wait, and end with an error if the disk makes no progress. */
TEST(rotations_of_a_mapped_sink_that_are_faster_than_syncs_wait)
{
    struct twinlog_sink *sink = NULL;
    unsigned lines;
    void *written;

    ck_assert_int_eq(open_rotating(MAPPED, 4, &sink), 0);
    twl_mutex_lock(&sink->retiring);
    const uint64_t before = count_descriptors();
    ck_assert_int_eq(put_until_it_fails(sink, &lines), -EAGAIN);
    ck_assert_uint_eq(lines, MOST_OPEN + 1);              /* one in each file */
    ck_assert_uint_lt(count_descriptors(), before + 150); /* two for each */
    ck_assert_int_eq(rename(path, numbered(9)), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), -EAGAIN);
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), -EAGAIN);
    ck_assert_int_eq(rename(numbered(9), path), 0);

    const pthread_t thread = start_thread(put_line, sink);
    AWAIT(atomic_load(&sink->without_lane) > 0);
    twl_mutex_unlock(&sink->retiring);
    pthread_join(thread, &written);
    ck_assert_int_eq((int)(intptr_t)written, 0);
    close_sink(sink);
    expect_text(path, "two\n");
    expect_text(numbered(5), "one\n");
    expect_nothing_beside();
}

static int rename_and_reopen(struct twinlog_sink *sink)
{
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    return twinlog_sink_reopen(sink);
}

/* Files that another program renames. The next call for another file that can be made ends the error. */
TEST(files_that_follow_faster_than_syncs_do_not_take_all_descriptors)
{
    struct twinlog_sink *sink = NULL;
    unsigned followed = 0;
    int rc;

    ck_assert_int_eq(open_as(SHARED, &sink), 0);
    stop_thread(sink);
    const uint64_t before = count_descriptors();
    for (rc = 1; rc == 1 && followed < 200; followed++)
        rc = rename_and_reopen(sink);
    ck_assert_int_eq(rc, -EAGAIN);
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), -EAGAIN);
    ck_assert_uint_lt(count_descriptors(), before + 150); /* two for each */
    put(sink, "in the renamed file\n");

    put_text(path, "");
    ck_assert_int_eq(twinlog_sink_sync(sink), 0); /* which has to go on in the next file */
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    ck_assert_uint_eq(count_old(sink), 0);
    put(sink, "next\n");
    expect_text(numbered(1), "in the renamed file\n");
    expect_text(path, "next\n");
    close_sink(sink);
}

TEST_EACH(a_call_for_another_file_that_fails_is_remembered_at_once, kind_rows)
{
    struct twinlog_sink *sink = NULL;

    ck_assert_int_eq(open_as(row->flags, &sink), 0);
    stop_thread(sink);
    ck_assert_int_eq(rename(path, numbered(1)), 0);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), -ENOTSUP);
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), -ENOTSUP);
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(twinlog_sink_reopen(sink), 1);
    ck_assert_int_eq(twinlog_sink_rotation_error(sink), 0);
    close_sink(sink);
}
