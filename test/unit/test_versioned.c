/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs and libraries of different versions: every structure that begins with `size` is passed as an older program
 * would (without its last fields), as a newer one would (with fields that this library does not know), and without a
 * size.
 */
#include "logdir.h"
#include "suites.h"

#include "base/versioned.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <twinlog_sink.h>

#define UNKNOWN_BYTES 24u /* fields of a newer version */
#define FILL 0xa5

static char path[320]; /* of a sink */
static struct twinlog *tested;

static void set_up(void)
{
    logdir_make();
    snprintf(path, sizeof(path), "%s/sink", log_parent);
}

/* ---- the rule ------------------------------------------------------------------------------------ */

struct small {
    uint32_t size, first, second, third;
};

CASE("rule", NULL, NULL);

TEST(what_an_older_program_lacks_is_zero)
{
    struct small own;
    const struct small given = { 12, 1, 2, 3 };

    ck_assert_int_eq(twl_versioned_take(&own, sizeof(own), &given), 0);
    ck_assert_mem_eq(&own, (&(struct small){ sizeof(own), 1, 2, 0 }), sizeof(own));
    ck_assert_int_eq(twl_versioned_take(&own, sizeof(own), NULL), 0);
    ck_assert_mem_eq(&own, (&(struct small){ .size = sizeof(own) }), sizeof(own));
}

TEST(a_size_that_was_not_set_is_refused)
{
    struct small own, given = { 0 };
    const uint32_t bad[] = { 0, 4, 7, 65537, UINT32_MAX };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        given.size = bad[i];
        ck_assert_int_eq(twl_versioned_take(&own, sizeof(own), &given), -EINVAL);
        ck_assert(!twl_versioned_is_set(&given));
    }
    ck_assert(twl_versioned_is_set(NULL));
}

/* ---- each structure ------------------------------------------------------------------------------ */

static int open_and_close(const void *options)
{
    struct twinlog *other;

    log_close(tested);
    const int rc = twinlog_open(log_dir, options, &other);
    if (rc == 0)
        log_close(other);
    tested = log_open(NULL);
    return rc;
}

static int append_on(const void *terms)
{
    const struct twinlog_entry entry = { .data = "x", .size = 1 };
    return twinlog_append_batch(tested, &entry, 1, terms, NULL);
}

static int committer(const void *options)
{
    struct twinlog_committer *made;
    const int rc = twinlog_committer_open(options, &made);
    return rc == 0 ? twinlog_committer_close(made) : rc;
}

static int trim(const void *options)
{
    return twinlog_trim(tested, options, NULL);
}

static int reader(const void *options)
{
    struct twinlog_reader *made;
    const int rc = twinlog_reader_open(log_dir, options, &made);
    if (rc == 0)
        twinlog_reader_close(made);
    return rc;
}

static int attach(const void *options)
{
    struct twinlog_reader *made;
    const int rc = twinlog_reader_attach(tested, options, &made);
    if (rc == 0)
        twinlog_reader_close(made);
    return rc;
}

static int verify(const void *options)
{
    return twinlog_verify(log_dir, options, NULL);
}

static const char *new_dir(void)
{
    static char dir[340];
    static unsigned number;

    snprintf(dir, sizeof(dir), "%s/new-%u", log_parent, number++);
    return dir;
}

static int backup(const void *options)
{
    return twinlog_backup(log_dir, new_dir(), options, NULL);
}

static int repair(const void *options)
{
    log_close(tested);
    const int rc = twinlog_repair(log_dir, new_dir(), options, NULL);
    tested = log_open(NULL);
    return rc;
}

static int sink(const void *options)
{
    struct twinlog_sink *made;
    const int rc = twinlog_sink_open(path, options, &made);
    return rc == 0 ? twinlog_sink_close(made) : rc;
}

static int change(const void *given)
{
    return twinlog_change(tested, given, NULL);
}

static const struct {
    const char *name;
    int (*call)(const void *given);
    uint32_t bytes;
    uint32_t least; /* that the call needs to succeed */
    uint32_t asked; /* offset of a number that must be 1, or the call asks for nothing; 0 = there is none */
} inputs[] = {
    { "the options of a log", open_and_close, sizeof(struct twinlog_options), 8, 0 },
    { "the terms of an append", append_on, sizeof(struct twinlog_terms), 8, 0 },
    { "the options of a committer", committer, sizeof(struct twinlog_committer_options), 8, 0 },
    { "the options of a trim", trim, sizeof(struct twinlog_trim_options), 16,
      offsetof(struct twinlog_trim_options, before_lsn) },
    { "a change", change, sizeof(struct twinlog_change), 32,
      offsetof(struct twinlog_change, trim_before_lsn) },
    { "the options of a reader", reader, sizeof(struct twinlog_reader_options), 8, 0 },
    { "the options of a reader that is attached", attach, sizeof(struct twinlog_reader_options), 8, 0 },
    { "the options of a verification", verify, sizeof(struct twinlog_verify_options), 8, 0 },
    { "the options of a backup", backup, sizeof(struct twinlog_backup_options), 8, 0 },
    { "the options of a repair", repair, sizeof(struct twinlog_repair_options), 8, 0 },
    { "the options of a sink", sink, sizeof(struct twinlog_sink_options), 8, 0 },
};

CASE("structures", set_up, logdir_remove);

TEST_EACH(an_input_of_any_version, inputs)
{
    unsigned char given[1024] = { 0 };
    const uint32_t bytes = row->bytes;
    const uint32_t sizes[] = { row->least, bytes - 8, bytes - 4, bytes, bytes + UNKNOWN_BYTES };
    const uint64_t one = 1;

    tested = log_open(NULL);
    append_records(tested, 0, 0, 3);
    if (row->asked > 0)
        memcpy(given + row->asked, &one, sizeof(one));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (sizes[i] < row->least)
            continue;
        memcpy(given, &sizes[i], sizeof(sizes[i]));
        memset(given + sizes[i], FILL, sizeof(given) - sizes[i]); /* not to be looked at */
        ck_assert_msg(row->call(given) == 0, "size %u of %u", sizes[i], bytes);
        memset(given + sizes[i], 0, sizeof(given) - sizes[i]);
    }
    log_close(tested);
}

static void set_size(unsigned char *given, uint32_t size)
{
    memcpy(given, &size, sizeof(size));
}

TEST_EACH(a_field_that_this_version_does_not_know_must_be_zero, inputs)
{
    unsigned char given[1024] = { 0 };
    const uint64_t one = 1;

    tested = log_open(NULL);
    append_records(tested, 0, 0, 3);
    if (row->asked > 0)
        memcpy(given + row->asked, &one, sizeof(one));
    set_size(given, row->bytes + UNKNOWN_BYTES);
    given[row->bytes + 3] = 1;
    ck_assert_int_eq(row->call(given), -EINVAL);
    log_close(tested);
}

TEST_EACH(an_input_without_its_size_is_refused, inputs)
{
    unsigned char given[1024] = { 0 };
    const uint64_t one = 1;

    tested = log_open(NULL);
    append_records(tested, 0, 0, 3);
    if (row->asked > 0)
        memcpy(given + row->asked, &one, sizeof(one));
    set_size(given, 0);
    ck_assert_int_eq(row->call(given), -EINVAL);
    log_close(tested);
}

static int get_stat(void *ret)
{
    return twinlog_stat(tested, ret);
}

static int get_timings(void *ret)
{
    return twinlog_timings(tested, ret);
}

static int get_trim_result(void *ret)
{
    return twinlog_trim(tested, &WITH_SIZE(trim_options, .before_lsn = 1), ret);
}

static int get_inspection(void *ret)
{
    return twinlog_inspect(log_dir, ret);
}

static int get_history(void *ret)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    const int rc = twinlog_reader_history(reader, 1, ret);

    twinlog_reader_close(reader);
    return rc;
}

static int get_backup_result(void *ret)
{
    return twinlog_backup(log_dir, new_dir(), NULL, ret);
}

static int get_repair_result(void *ret)
{
    log_close(tested);
    const int rc = twinlog_repair(log_dir, new_dir(), NULL, ret);
    tested = log_open(NULL);
    return rc;
}

static const struct {
    const char *name;
    int (*call)(void *ret);
    uint32_t bytes;
} outputs[] = {
    { "statistics", get_stat, sizeof(struct twinlog_stat) },
    { "timings", get_timings, sizeof(struct twinlog_timings) },
    { "the result of a trim", get_trim_result, sizeof(struct twinlog_trim_result) },
    { "an inspection", get_inspection, sizeof(struct twinlog_inspection) },
    { "a history", get_history, sizeof(struct twinlog_history) },
    { "the result of a backup", get_backup_result, sizeof(struct twinlog_backup_result) },
    { "the result of a repair", get_repair_result, sizeof(struct twinlog_repair_result) },
};

static _Alignas(16) unsigned char ret[65536];

TEST_EACH(an_output_of_any_version, outputs)
{
    const uint32_t bytes = row->bytes, sizes[] = { 8, bytes - 4, bytes, bytes + UNKNOWN_BYTES };

    ck_assert_uint_lt(bytes + UNKNOWN_BYTES, sizeof(ret));
    tested = log_open(NULL);
    append_records(tested, 0, 0, 3);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t size = sizes[i];
        memset(ret, FILL, sizeof(ret));
        memcpy(ret, &size, sizeof(size));
        ck_assert_int_eq(row->call(ret), 0);

        memcpy(&size, ret, sizeof(size));
        ck_assert_uint_eq(size, sizes[i]);
        for (uint32_t at = bytes; at < size; at++)
            ck_assert_uint_eq(ret[at], 0);
        for (uint32_t at = size; at < bytes + 2 * UNKNOWN_BYTES && at < sizeof(ret); at++)
            ck_assert_uint_eq(ret[at], FILL);
    }
    log_close(tested);
}

TEST_EACH(an_output_without_its_size_is_refused, outputs)
{
    tested = log_open(NULL);
    append_records(tested, 0, 0, 3);
    memset(ret, 0, sizeof(ret));
    ck_assert_int_eq(row->call(ret), -EINVAL);
    log_close(tested);
}
