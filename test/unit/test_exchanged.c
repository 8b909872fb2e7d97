/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are removed, or exchanged for those of another log, while processes have the log open: a name in the
 * directory may lead to a file that is none of theirs.
 */
#define _GNU_SOURCE
#include "hooked.h"
#include "logdir.h"
#include "members.h"
#include "suites.h"

#include "control/shared_page.h"
#include "control/state.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORDS 300u /* many segments */

/* ---- all files are removed ------------------------------------------------------------------------- */

static void remove_what_is_there(void)
{
    DIR *dir = opendir(log_dir);
    struct dirent *entry;

    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.')
            (void)unlink(log_file(entry->d_name)); /* a thread of the log may be faster */
    closedir(dir);
}

#define LOOKS 5u

/* Of a directory that stays. A thread of the log may be making a segment. */
static void remove_files(void)
{
    for (unsigned looks = 0; looks < LOOKS; looks++) {
        if (log_count_files() > 0)
            looks = 0;
        remove_what_is_there();
        usleep(10000);
    }
}

CASE("removed", logdir_make, logdir_remove);

/* Appends until that is refused, which is within a second, or when the next segment is to be made. */
static int append_until_refused(struct twinlog *log, uint32_t writer, uint32_t from)
{
    const uint64_t until_ns = twl_monotonic_ns() + SOON_NS;
    int rc = 0;

    for (uint32_t sequence = from; rc == 0; sequence++) {
        ck_assert_uint_lt(twl_monotonic_ns(), until_ns);
        rc = append_record(log, writer, sequence, NULL);
    }
    return rc;
}

TEST_EACH(a_writer_stops_after_its_files_were_removed, log_modes)
{
    struct twinlog *log = open_mode(row->mode);

    append_records(log, 0, 0, 10);
    remove_files();
    ck_assert_int_lt(append_until_refused(log, 0, 10), 0);
    const uint64_t until_ns = twl_monotonic_ns() + SOON_NS;
    while (append_record(log, 0, 10, NULL) != TWINLOG_EPOISONED) {
        ck_assert_uint_lt(twl_monotonic_ns(), until_ns);
        usleep(1000);
    }
    ck_assert_int_lt(twinlog_close(log), 0);
    ck_assert_uint_eq(log_count_files(), 0);
}

TEST_EACH(a_close_behind_the_removal_is_no_success, log_modes)
{
    struct twinlog *log = open_mode(row->mode);

    append_records(log, 0, 0, 10);
    remove_files();
    ck_assert_int_lt(twinlog_close(log), 0);
    ck_assert_uint_eq(log_count_files(), 0);
}

/* The segments of both have the same names. */
TEST_EACH(a_writer_of_removed_files_leaves_the_next_log_alone, log_modes)
{
    struct twinlog *removed = open_mode(row->mode);

    append_records(removed, 0, 0, 10);
    remove_files();
    struct twinlog *next = open_mode(row->mode);
    append_records(next, 0, 0, RECORDS);
    ck_assert_int_lt(append_until_refused(removed, 1, 10), 0);
    append_records(next, 0, RECORDS, RECORDS);
    ck_assert_int_lt(twinlog_close(removed), 0);
    append_records(next, 0, 2 * RECORDS, RECORDS);
    log_close(next);
    ck_assert_uint_eq(log_check().last_lsn, 3 * RECORDS);
}

/* With as many records in each, a trim of one finds all of its segments in the other. */
TEST_EACH(a_trim_behind_the_removal_removes_nothing_of_the_next_log, log_modes)
{
    const struct twinlog_trim_options options = WITH_SIZE(trim_options, .keep_records = 10);
    struct twinlog *removed = open_mode(row->mode);

    append_records(removed, 0, 0, RECORDS);
    remove_files();
    struct twinlog *next = open_mode(row->mode);
    append_records(next, 0, 0, RECORDS);
    ck_assert_int_lt(twinlog_trim(removed, &options, NULL), 0);
    ck_assert_int_lt(twinlog_close(removed), 0);
    log_close(next);
    ck_assert_uint_eq(log_check().last_lsn, RECORDS);
}

/* The segments have locks as well. */
TEST_EACH(a_writer_goes_on_of_which_only_the_lock_file_was_removed, log_modes)
{
    struct twinlog *log = open_mode(row->mode);

    append_records(log, 0, 0, 10);
    ck_assert_int_eq(unlink(log_file(PAGE_FILE_NAME)), 0);
    append_records(log, 0, 10, RECORDS);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, 10 + RECORDS);
}

/* ---- the state is exchanged -------------------------------------------------------------------------- */

static char other_dir[320];

static void make_two_logs(void)
{
    logdir_make();
    log_close(open_mode(TWINLOG_MODE_DURABLE));
    snprintf(other_dir, sizeof(other_dir), "%s/other", log_parent);
    ck_assert_int_eq(rename(log_dir, other_dir), 0);
    log_close(open_mode(TWINLOG_MODE_DURABLE));
}

CASE("state", make_two_logs, logdir_remove);

/* The state of the other log in the place of the log's, which is kept beside it. */
static void take_state_of_other(void)
{
    char other[400], kept[400];

    snprintf(other, sizeof(other), "%s/%s", other_dir, STATE_NAME);
    snprintf(kept, sizeof(kept), "%s/kept", log_parent);
    ck_assert_int_eq(rename(log_file(STATE_NAME), kept), 0);
    ck_assert_int_eq(rename(other, log_file(STATE_NAME)), 0);
}

static void put_state_back(void)
{
    char kept[400];

    snprintf(kept, sizeof(kept), "%s/kept", log_parent);
    ck_assert_int_eq(rename(kept, log_file(STATE_NAME)), 0);
}

static int set_value(struct twinlog *log)
{
    return twinlog_meta_set(log, "vote", "2", 1);
}

static int get_value(struct twinlog *log)
{
    char value[8];
    size_t size = 0;

    return twinlog_meta_get(log, "vote", value, sizeof(value), &size);
}

static int set_cursor(struct twinlog *log)
{
    return twinlog_cursor_set(log, "reader", 5);
}

static int trim(struct twinlog *log)
{
    const struct twinlog_trim_options options = WITH_SIZE(trim_options, .keep_records = 10);

    return twinlog_trim(log, &options, NULL);
}

static int (*const uses[])(struct twinlog *log) = { set_value, get_value, set_cursor, trim };

/* What was set would be found by nobody: no process can open the log with that state. */
TEST_EACH(nothing_is_read_or_set_in_the_state_of_another_log, log_modes)
{
    struct twinlog *log = open_mode(row->mode);
    uint64_t lsn;

    append_records(log, 0, 0, RECORDS);
    ck_assert_int_eq(twinlog_meta_set(log, "vote", "1", 1), 0);
    ck_assert_int_eq(set_cursor(log), 0);
    take_state_of_other();
    for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
        ck_assert_int_eq(uses[i](log), TWINLOG_EFOREIGN);

    put_state_back();
    ck_assert_int_eq(get_value(log), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "reader", &lsn), 0);
    ck_assert_uint_eq(lsn, 5);
    log_close(log);
    ck_assert_uint_eq(log_check().last_lsn, RECORDS);
}

/* ---- joining without a state that is the log's -------------------------------------------------------- */

static void remove_state(void)
{
    ck_assert_int_eq(unlink(log_file(STATE_NAME)), 0);
}

/* As a newer version may write it, that lets others only read. */
static void take_newer_state(void)
{
    struct io *io = log_io(false);
    struct state state;

    ck_assert_int_eq(twl_state_read(io, &state, NULL), 0);
    state.header.compatible |= FEATURES_OF_WRITERS;
    ck_assert_int_eq(twl_state_write(io, &state), 0);
    twl_state_free(&state);
    io->ops->destroy(io);
}

static const struct unfit_state {
    const char *name;
    void (*make)(void);
    int error;
    const char *words;
} unfit_states[] = {
    { "none", remove_state, TWINLOG_ECORRUPT,
      "the file state is missing, and other processes have the log open;" },
    { "another log's", take_state_of_other, TWINLOG_EFOREIGN, "is another log's;" },
    { "a newer version's", take_newer_state, TWINLOG_EVERSION, "was written by a newer twinlog;" },
};

/* Nobody could open the log afterwards, and the newcomer is the one that can be told. */
TEST_EACH(nobody_joins_a_log_without_its_state, unfit_states)
{
    const struct twinlog_options options = shared_options(0);
    struct twinlog *log = open_shared(0), *other;

    append_records(log, 0, 0, 10);
    row->make();
    ck_assert_int_eq(log_try(&options, &other), row->error);
    ck_assert_msg(strstr(log_report.text, row->words) != NULL, "the text is: %s", log_report.text);
    append_records(log, 0, 10, 10);
    log_close(log);
}

TEST(a_process_that_joins_without_a_state_is_told_what_to_do)
{
    const struct twinlog_options options = shared_options(0);
    char copied[320], repaired[320];
    struct twinlog *log = open_shared(0), *other;
    uint64_t records = 0;

    snprintf(copied, sizeof(copied), "%s/copied", log_parent);
    snprintf(repaired, sizeof(repaired), "%s/repaired", log_parent);
    append_records(log, 0, 0, 10);
    ck_assert_int_eq(twinlog_sync(log), 0);
    remove_state();
    ck_assert_int_eq(log_try(&options, &other), TWINLOG_ECORRUPT);
    ADVISES(log_report.text, "do not stop them, copy the directory, and `twinlog repair` the copy");
    copy_directory(log_dir, copied);
    ck_assert_int_ge(twinlog_repair(copied, repaired, NULL, NULL), 0);
    ck_assert_int_eq(twinlog_verify(repaired, NULL, &records), 0);
    ck_assert_uint_eq(records, 10);
    log_close(log);
}

TEST(a_process_that_joins_with_the_state_of_another_log_is_told_what_to_do)
{
    const struct twinlog_options options = shared_options(0);
    struct twinlog *log = open_shared(0), *other;

    take_state_of_other();
    ck_assert_int_eq(log_try(&options, &other), TWINLOG_EFOREIGN);
    ADVISES(log_report.text, "restore that of this log from a copy");
    put_state_back();
    ck_assert_int_eq(log_try(&options, &other), 0);
    log_close(other);
    log_close(log);
}

/* ---- the lock file is exchanged while a process waits for its lock ------------------------------------- */

static uint32_t mode_of_faster;
static struct twinlog *faster;
static bool was_exchanged;

/* The file is open, and not locked yet: somebody removes it, and another process is faster with a new one. */
static int exchange_lock_file(const struct hooked_call *call)
{
    if (call->op != SIM_LOCK || was_exchanged)
        return 0;

    was_exchanged = true;
    if (unlink(log_file(PAGE_FILE_NAME)) < 0)
        return -errno;
    faster = open_mode(mode_of_faster);
    append_records(faster, 0, 0, 10);
    return twinlog_sync(faster);
}

CASE("lock", logdir_make, logdir_remove);

static int remove_log_at_second_lock(const struct hooked_call *call)
{
    static unsigned locks;

    if (call->op == SIM_LOCK)
        locks++;
    if (locks == 2) /* the first one was for a process that is alone */
        remove_tree(log_dir);
    return 0;
}

/* The lock is had, and no file can be opened in its place. */
TEST(a_directory_that_is_removed_behind_the_lock_is_an_error)
{
    const struct twinlog_options options = shared_options(0);
    struct twinlog *log = open_shared(0), *other;

    ck_assert_int_eq(log_try_on(hooked_log_dir(remove_log_at_second_lock), &options, &other), -ESTALE);
    ck_assert_int_lt(twinlog_close(log), 0);
}

static const struct meeting {
    const char *name;
    uint32_t slower, faster;
    int result; /* of the slower opening */
} meetings[] = {
    { "shared, then shared", TWINLOG_MODE_SHARED, TWINLOG_MODE_SHARED, 0 },
    { "shared, then durable", TWINLOG_MODE_SHARED, TWINLOG_MODE_DURABLE, -EBUSY },
    { "mapped, then shared", TWINLOG_MODE_MAPPED, TWINLOG_MODE_SHARED, -EBUSY },
    { "durable, then mapped", TWINLOG_MODE_DURABLE, TWINLOG_MODE_MAPPED, -EBUSY },
};

/* A lock on the file that has lost the name says nothing: its owner would clear the page of the other process. */
TEST_EACH(a_lock_counts_only_on_the_file_that_has_the_name, meetings)
{
    struct twinlog_options options = small(row->slower);
    struct twinlog *slower;

    log_close(open_mode(TWINLOG_MODE_DURABLE));
    mode_of_faster = row->faster;
    was_exchanged = false;
    ck_assert_int_eq(log_try_on(hooked_log_dir(exchange_lock_file), &options, &slower), row->result);
    ck_assert(was_exchanged);
    ck_assert_uint_eq(twinlog_durable_lsn(faster), 10);
    if (row->result == 0) {
        append_records(slower, 1, 0, 10);
        log_close(slower);
    }
    append_records(faster, 0, 10, 10);
    log_close(faster);
    log_check();
}
