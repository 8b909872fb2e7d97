/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One change of several things: cursors, values and the head of the opened, all of it or nothing. sim-crash makes such
 * changes too, and crashes in them.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <string.h>

#define CHANGE(...) WITH_SIZE(change, __VA_ARGS__)
#define EDITS(list) .edits = (list), .edit_count = sizeof(list) / sizeof((list)[0])

static struct twinlog *opened;

static void open_log(void)
{
    logdir_make();
    opened = log_open(NULL);
    append_records(opened, 0, 0, 10);
}

static void close_log(void)
{
    ck_assert_int_eq(twinlog_close(opened), 0);
    logdir_remove();
}

static struct twinlog_edit value(const char *name, const char *text)
{
    return (struct twinlog_edit){
        .kind = TWINLOG_EDIT_SET_VALUE, .name = name, .data = text, .size = strlen(text)
    };
}

static struct twinlog_edit no_value(const char *name)
{
    return (struct twinlog_edit){ .kind = TWINLOG_EDIT_REMOVE_VALUE, .name = name };
}

static struct twinlog_edit cursor(const char *name, uint64_t lsn)
{
    return (struct twinlog_edit){ .kind = TWINLOG_EDIT_SET_CURSOR, .name = name, .lsn = lsn };
}

static struct twinlog_edit no_cursor(const char *name)
{
    return (struct twinlog_edit){ .kind = TWINLOG_EDIT_REMOVE_CURSOR, .name = name };
}

/* NULL: there must be no such value. */
static void expect_value(const char *name, const char *text)
{
    char found[TWINLOG_META_BYTES];
    size_t size;

    const int rc = twinlog_meta_get(opened, name, found, sizeof(found), &size);
    if (!text) {
        ck_assert_int_eq(rc, -ENOENT);
        return;
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_mem_eq(found, text, size);
}

/* 0: there must be no such cursor. */
static void expect_cursor(const char *name, uint64_t lsn)
{
    uint64_t found = 0;

    ck_assert_int_eq(twinlog_cursor_get(opened, name, &found), lsn == 0 ? -ENOENT : 0);
    ck_assert_uint_eq(found, lsn);
}

CASE("several things at once", open_log, close_log);

TEST(a_snapshot_is_completed_by_one_call)
{
    const struct twinlog_edit edits[] = { value("snapshot", "file-7"), no_value("half"),
                                          cursor("reader", 8) };
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;

    ck_assert_int_eq(twinlog_meta_set(opened, "half", "file-7.tmp", 10), 0);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .trim_before_lsn = 7), &result), 0);

    ck_assert_uint_eq(result.first_lsn, 7);
    ck_assert_uint_eq(result.removed_records, 6);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 7);
    expect_value("snapshot", "file-7");
    expect_value("half", NULL);
    expect_cursor("reader", 8);
}

TEST(edits_are_made_in_their_order)
{
    const struct twinlog_edit edits[] = { value("v", "one"), no_value("v"), value("v", "two"), cursor("c", 3),
                                          no_cursor("c") };

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits)), NULL), 0);

    expect_value("v", "two");
    expect_cursor("c", 0);
}

TEST(what_is_not_there_is_removed_already)
{
    const struct twinlog_edit edits[] = { no_value("none"), no_cursor("none"), value("v", "one") };

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits)), NULL), 0);
    expect_value("v", "one");

    /* The calls for one name tell. */
    ck_assert_int_eq(twinlog_meta_remove(opened, "none"), -ENOENT);
    ck_assert_int_eq(twinlog_cursor_remove(opened, "none"), -ENOENT);
}

TEST(a_cursor_of_the_change_holds_its_trim)
{
    const struct twinlog_edit edits[] = { cursor("slow", 2) };
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .trim_before_lsn = 9), &result), 0);
    ck_assert_uint_eq(result.first_lsn, 3);
    ck_assert_uint_eq(result.holder, TWINLOG_HELD_BY_CURSOR);
    ck_assert_str_eq(result.holder_name, "slow");

    const struct twinlog_change past = CHANGE(.trim_before_lsn = 9, .flags = TWINLOG_TRIM_PAST_CURSORS);
    ck_assert_int_eq(twinlog_change(opened, &past, NULL), 0);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 9);
    expect_cursor("slow", 8);
}

TEST(edits_are_made_where_the_trim_removes_nothing)
{
    const struct twinlog_edit edits[] = { value("snapshot", "file") };

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .trim_before_lsn = 1), NULL), 0);
    expect_value("snapshot", "file");
    ck_assert_uint_eq(twinlog_first_lsn(opened), 1);
}

TEST(a_cursor_that_the_change_removes_holds_nothing)
{
    const struct twinlog_edit edits[] = { no_cursor("slow") };

    ck_assert_int_eq(twinlog_cursor_set(opened, "slow", 2), 0);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .trim_before_lsn = 9), NULL), 0);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 9);
}

/* ---- the log is never behind what the change says ------------------------------------------------ */

TEST(records_that_a_change_stands_for_become_durable_first)
{
    const struct twinlog_edit edits[] = { value("applied", "20") };
    uint64_t lsn = 0;

    while (lsn < 20)
        ck_assert_int_eq(twinlog_enqueue(opened, "record", 6, &lsn), 0);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .durable_lsn = 20), NULL), 0);
    ck_assert_uint_ge(twinlog_durable_lsn(opened), 20);
}

TEST(records_that_a_change_trims_become_durable_first)
{
    uint64_t lsn = 0;

    while (lsn < 20)
        ck_assert_int_eq(twinlog_enqueue(opened, "record", 6, &lsn), 0);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(.trim_before_lsn = 21), NULL), 0);
    ck_assert_uint_ge(twinlog_durable_lsn(opened), 20);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 0);
    ck_assert_uint_eq(log_stat(opened).first_lsn, 0);
}

static const struct ahead {
    const char *name;
    uint64_t trim_before_lsn, durable_lsn;
} aheads[] = {
    { "a record that is not there", .durable_lsn = 11 },
    { "a trim of one that is not there", .trim_before_lsn = 12 },
    { "a trim of what is there, for one that is not", .trim_before_lsn = 5, .durable_lsn = 11 },
};

TEST_EACH(a_change_that_is_ahead_of_the_log_is_refused, aheads)
{
    const struct twinlog_edit edits[] = { value("snapshot", "file") };
    const struct twinlog_change change =
        CHANGE(EDITS(edits), .trim_before_lsn = row->trim_before_lsn, .durable_lsn = row->durable_lsn);

    ck_assert_int_eq(twinlog_change(opened, &change, NULL), -ERANGE);
    expect_value("snapshot", NULL);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 1);
}

/* ---- all or nothing ---------------------------------------------------------------------------- */

static char too_large[TWINLOG_META_BYTES + 1];

static const struct refusal {
    const char *name;
    struct twinlog_edit edit;
    int error;
} refusals[] = {
    { "a cursor behind the newest record", { TWINLOG_EDIT_SET_CURSOR, 0, "c", NULL, 0, 11 }, -ERANGE },
    { "the largest LSN", { TWINLOG_EDIT_SET_CURSOR, 0, "c", NULL, 0, UINT64_MAX }, -ERANGE },
    { "a cursor in front of the head", { TWINLOG_EDIT_SET_CURSOR, 0, "c", NULL, 0, 2 }, TWINLOG_ETRIMMED },
    { "no name", { TWINLOG_EDIT_SET_VALUE, 0, NULL, "x", 1, 0 }, -EINVAL },
    { "an empty name", { TWINLOG_EDIT_REMOVE_CURSOR, 0, "", NULL, 0, 0 }, -EINVAL },
    { "a name of the library's", { TWINLOG_EDIT_SET_VALUE, 0, "\001trim", "x", 1, 0 }, -EINVAL },
    { "a limit that is no number", { TWINLOG_EDIT_SET_VALUE, 0, TWINLOG_KEEP_BYTES, "x", 1, 0 }, -EINVAL },
    { "a value that is too large",
      { TWINLOG_EDIT_SET_VALUE, 0, "v", too_large, sizeof(too_large), 0 },
      -EINVAL },
    { "a size without bytes", { TWINLOG_EDIT_SET_VALUE, 0, "v", NULL, 1, 0 }, -EINVAL },
    { "an unknown kind", { 0, 0, "v", NULL, 0, 0 }, -EINVAL },
    { "an unknown kind of a later version", { 5, 0, "v", NULL, 0, 0 }, -EINVAL },
    { "something in `reserved`", { TWINLOG_EDIT_REMOVE_VALUE, 1, "v", NULL, 0, 0 }, -EINVAL },
};

TEST_EACH(one_edit_that_is_refused_refuses_all, refusals)
{
    const struct twinlog_edit edits[] = { value("first", "x"), row->edit, value("last", "y") };

    log_trim_before(opened, 4);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .trim_before_lsn = 8), NULL), row->error);

    expect_value("first", NULL);
    expect_value("last", NULL);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 4);
}

TEST(a_change_must_ask_for_something)
{
    const struct twinlog_edit edits[] = { value("v", "x") };
    static struct twinlog_edit many[1025];

    for (unsigned i = 0; i < 1025; i++)
        many[i] = value("v", "x");
    ck_assert_int_eq(twinlog_change(opened, NULL, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(.durable_lsn = 3), NULL), -EINVAL);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(.edit_count = 1), NULL), -EINVAL);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .flags = 2), NULL), -EINVAL);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .reserved = 1), NULL), -EINVAL);
    ck_assert_int_eq(twinlog_change(opened, &(struct twinlog_change){ EDITS(edits) }, NULL), -EINVAL);
    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(many)), NULL), -EINVAL);
    ck_assert_int_eq(twinlog_change(NULL, &CHANGE(EDITS(edits)), NULL), -EINVAL);
    expect_value("v", NULL);

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(.edits = many, .edit_count = 1024), NULL), 0);
    expect_value("v", "x");
}

TEST(an_output_without_its_size_is_refused)
{
    struct twinlog_trim_result result = { 0 };

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(.trim_before_lsn = 3), &result), -EINVAL);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 1);
}

/* ---- other handles and modes ------------------------------------------------------------------- */

TEST(a_handle_that_only_reads_edits_but_does_not_trim)
{
    const struct twinlog_edit edits[] = { value("offset", "4"), cursor("c", 4) };
    struct twinlog *reading = log_open(&LOG_OPTIONS(.flags = TWINLOG_READ_ONLY));

    ck_assert_int_eq(twinlog_change(reading, &CHANGE(EDITS(edits), .durable_lsn = 10), NULL), 0);
    expect_value("offset", "4");
    expect_cursor("c", 4);

    ck_assert_int_eq(twinlog_change(reading, &CHANGE(EDITS(edits), .durable_lsn = 11), NULL), -EROFS);
    ck_assert_int_eq(twinlog_change(reading, &CHANGE(.trim_before_lsn = 3), NULL), -EROFS);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 1);
    ck_assert_int_eq(twinlog_close(reading), 0);
}

static const struct mode {
    const char *name;
    uint32_t mode;
} modes[] = { { "mapped", TWINLOG_MODE_MAPPED }, { "shared", TWINLOG_MODE_SHARED } };

TEST_EACH(a_mapped_log_is_synced_as_far_as_the_change_says, modes)
{
    const struct twinlog_edit edits[] = { value("snapshot", "file") };
    uint64_t lsn = 0;

    ck_assert_int_eq(twinlog_close(opened), 0);
    opened = log_open(&LOG_OPTIONS(.mode = row->mode));
    while (lsn < 30)
        ck_assert_int_eq(twinlog_append(opened, "record", 6, &lsn), 0);

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .trim_before_lsn = 26), NULL), 0);
    ck_assert_uint_ge(twinlog_durable_lsn(opened), 25);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 26);
    expect_value("snapshot", "file");
}

TEST(what_was_changed_is_there_after_the_next_opening)
{
    const struct twinlog_edit edits[] = { value("snapshot", "file"), cursor("c", 9) };

    ck_assert_int_eq(twinlog_change(opened, &CHANGE(EDITS(edits), .trim_before_lsn = 5), NULL), 0);
    log_kill(opened);
    opened = log_open(NULL);
    expect_value("snapshot", "file");
    expect_cursor("c", 9);
    ck_assert_uint_eq(twinlog_first_lsn(opened), 5);
}
