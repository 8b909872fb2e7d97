/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of files that makes a log: what is told of headers that do not check, of copies and of what is missing; and
 * that a file which cannot be read is an error, and no log with less in it. And what becomes of a file that could not
 * be made, or not be used again.
 */
#define _GNU_SOURCE
#include "hooked.h"
#include "suites.h"

#include "control/state.h"
#include "log/log.h"
#include "set/segment_set.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECORD_BYTES 6000u /* ten to a segment */

static struct simdisk *disk;
static struct segment_set whole; /* of the log, before anything happens to it */

/* A log of several segments, of which none is needed for a trim: closed by its writer. */
static void make_log(void)
{
    static const unsigned char bytes[RECORD_BYTES];
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = 65536);

    disk = make_simdisk();
    struct twinlog *log = log_on(simdisk_connect(disk), &options);
    for (unsigned i = 0; i < 45; i++)
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);

    struct io *io = simdisk_connect(disk);
    ck_assert_int_eq(twl_segment_set_open(io, SET_FOR_READING, NULL, &whole, NULL), 0);
    ck_assert_uint_ge(whole.started, 4);
    io->ops->destroy(io);
}

static void remove_log(void)
{
    twl_segment_set_free(&whole);
    simdisk_destroy(disk);
}

/* ---- what happens to the files ------------------------------------------------------------------- */

static void write_to(const char *name, const void *bytes, size_t size, uint64_t offset)
{
    struct io *io = simdisk_connect(disk);
    struct io_file *file;

    ck_assert_int_eq(io_open_or_create(io, name, 0, &file), 0);
    ck_assert_int_eq(io_write_at(file, bytes, size, offset), 0);
    io_close(file);
    io->ops->destroy(io);
}

static void remove_file(const char *name)
{
    struct io *io = simdisk_connect(disk);

    ck_assert_int_eq(io->ops->unlink(io, name), 0);
    io->ops->destroy(io);
}

static void lose_block(const struct segment_entry *entry, uint64_t offset)
{
    static const unsigned char zeros[BLOCK_BYTES];

    write_to(entry->name, zeros, sizeof(zeros), offset);
}

/* The header of another incarnation of that segment. */
static struct segment_header other_header(const struct segment_entry *entry)
{
    struct segment_header header = entry->header;

    header.segment_id ^= 1;
    return header;
}

static void change_nothing(void) {}

static void lose_first_header(void)
{
    lose_block(&whole.entries[1], 0);
}

static void lose_both_headers(void)
{
    lose_block(&whole.entries[1], 0);
    lose_block(&whole.entries[1], twl_segment_data_end(whole.entries[1].header.bytes));
}

/* As a crash leaves a file that was about to be used again. */
static void begin_to_recycle(void)
{
    const struct segment_header header = other_header(&whole.entries[1]);
    unsigned char block[SEGMENT_FOOTER_BYTES] = { 0 };

    twl_second_header_encode(&header, block);
    write_to(whole.entries[1].name, block, sizeof(block), twl_segment_data_end(header.bytes));
}

static void put_other_header_in_front(void)
{
    const struct segment_header header = other_header(&whole.entries[1]);
    unsigned char block[SEGMENT_HEADER_BYTES];

    twl_segment_header_encode(&header, block);
    write_to(whole.entries[1].name, block, sizeof(block), 0);
}

/* What is behind the end is the last block of a file of another length, with a header that checks. */
static void lose_first_header_and_lengthen(void)
{
    struct segment_header header = whole.entries[1].header;
    unsigned char block[SEGMENT_FOOTER_BYTES] = { 0 };

    lose_block(&whole.entries[1], 0);
    twl_second_header_encode(&header, block);
    write_to(whole.entries[1].name, block, sizeof(block), header.bytes);
}

static void copy_a_segment(void)
{
    static unsigned char bytes[1 << 20];
    struct io *io = simdisk_connect(disk);
    struct io_file *file;
    size_t size;

    ck_assert_int_eq(io_open(io, whole.entries[1].name, IO_READ_ONLY, &file), 0);
    ck_assert_int_eq(io_read(file, bytes, sizeof(bytes), 0, &size), 0);
    io_close(file);
    io->ops->destroy(io);
    write_to("00000000000000ff.twl", bytes, size, 0);
}

static void remove_a_segment(void)
{
    remove_file(whole.entries[1].name);
}

static void remove_state(void)
{
    remove_file(STATE_NAME);
}

static const struct happening {
    const char *name;
    void (*happen)(void);
    int reading;     /* the result where the set is loaded to be read */
    size_t faults;   /* that a check finds */
    size_t lost;     /* started segments that it does not get */
    const char *say; /* the first fault */
} happenings[] = {
    { "nothing", change_nothing, 0, 0, 0, NULL },
    { "the first header is lost", lose_first_header, TWINLOG_ECORRUPT, 1, 0, "its second header says" },
    { "both headers are lost", lose_both_headers, TWINLOG_ECORRUPT, 2, 1, "neither header" },
    { "a second header for the next incarnation", begin_to_recycle, 0, 0, 0, NULL },
    { "the first header of another incarnation", put_other_header_in_front, 0, 1, 0,
      "its second header says" },
    { "a file without a first header got longer", lose_first_header_and_lengthen, TWINLOG_ECORRUPT, 2, 1,
      "neither header" },
    { "a copy of a segment", copy_a_segment, TWINLOG_EFOREIGN, 1, 0, "second copy" },
    { "a segment is removed", remove_a_segment, TWINLOG_ECORRUPT, 1, 1, "are missing before" },
    { "the state file is removed", remove_state, TWINLOG_ECORRUPT, 1, 0, "is missing" },
};

/* ---- tests --------------------------------------------------------------------------------------- */

static int open_set(enum segment_set_use use, struct segment_set *ret_set)
{
    struct io *io = simdisk_connect(disk);
    struct twinlog_report report;

    const int rc = twl_segment_set_open(io, use, NULL, ret_set, &report);
    io->ops->destroy(io);
    return rc;
}

CASE("loading", make_log, remove_log);

TEST_EACH(a_check_tells_what_is_wrong_and_gets_the_rest, happenings)
{
    struct segment_set set;

    row->happen();
    ck_assert_int_eq(open_set(SET_FOR_CHECKING, &set), 0);
    ck_assert_uint_eq(set.fault_count, row->faults);
    ck_assert_uint_eq(set.started, whole.started - row->lost);
    if (row->say)
        ck_assert_msg(strstr(set.faults[0].report.text, row->say), "it says: %s", set.faults[0].report.text);
    twl_segment_set_free(&set);
}

TEST_EACH(a_reader_gets_the_whole_set_or_an_error, happenings)
{
    struct segment_set set;

    row->happen();
    ck_assert_int_eq(open_set(SET_FOR_READING, &set), row->reading);
    if (row->reading < 0)
        return;

    ck_assert_uint_eq(set.started, whole.started);
    twl_segment_set_free(&set);
}

static void expect_same(const struct segment_set *set, const struct segment_set *expected)
{
    ck_assert_uint_eq(set->started, expected->started);
    ck_assert_uint_eq(set->spares, expected->spares);
    ck_assert_uint_eq(set->retired, expected->retired);
    ck_assert_uint_eq(set->first_lsn, expected->first_lsn);
    ck_assert_uint_eq(set->fault_count, expected->fault_count);
    for (size_t i = 0; i < segment_set_files(set); i++) {
        ck_assert_str_eq(set->entries[i].name, expected->entries[i].name);
        ck_assert_uint_eq(set->entries[i].header.segment_id, expected->entries[i].header.segment_id);
    }
}

/* Each operation fails in its turn: the result is that error, or the same as without it. */
static void fail_each_operation(enum segment_set_use use)
{
    struct segment_set expected = { 0 }, set;
    const int expected_rc = open_set(use, &expected);
    uint64_t nth = 0;
    bool has_failed = true;

    while (has_failed) {
        const uint64_t failed_before = simdisk_faults(disk);
        nth++;
        simdisk_inject(disk, &(struct simdisk_fault){ .op = SIM_ANY, .nth = nth, .error = -EIO });
        const int rc = open_set(use, &set);
        has_failed = simdisk_faults(disk) > failed_before;
        simdisk_inject(disk, NULL);

        ck_assert_msg(rc == expected_rc || (has_failed && rc == -EIO), "operation %u failed: %s",
                      (unsigned)nth, twinlog_strerror(rc));
        if (rc == 0) {
            expect_same(&set, &expected);
            twl_segment_set_free(&set);
        }
    }

    ck_assert_uint_gt(nth, 10);
    twl_segment_set_free(&expected);
}

TEST_EACH(what_a_check_cannot_read_is_an_error_and_not_the_answer, happenings)
{
    row->happen();
    fail_each_operation(SET_FOR_CHECKING);
}

TEST_EACH(what_a_reader_cannot_read_is_an_error_and_not_the_answer, happenings)
{
    row->happen();
    fail_each_operation(SET_FOR_READING);
}

/* ---- what is said -------------------------------------------------------------------------------- */

static struct twinlog_report report;

static int open_and_report(enum segment_set_use use, struct segment_set *ret_set)
{
    struct io *io = simdisk_connect(disk);

    const int rc = twl_segment_set_open(io, use, NULL, ret_set, &report);
    io->ops->destroy(io);
    return rc;
}

static uint64_t last_lsn_of(const struct segment_entry *entry)
{
    struct segment_entry looked = *entry;
    struct io *io = simdisk_connect(disk);

    ck_assert_int_eq(twl_segment_look(io, &looked), 0);
    ck_assert(looked.is_sealed);
    io->ops->destroy(io);
    return looked.footer.last_lsn;
}

/* So that the right file is restored from a copy, and it is known what is lost without one. */
TEST(what_is_missing_is_named_with_its_records_and_its_file)
{
    const uint64_t first_lsn = last_lsn_of(&whole.entries[0]) + 1, last_lsn = last_lsn_of(&whole.entries[2]);
    char files[100], records[100];
    struct segment_set set;

    remove_file(whole.entries[1].name);
    remove_file(whole.entries[2].name);
    ck_assert_int_eq(open_and_report(SET_FOR_READING, &set), TWINLOG_ECORRUPT);
    snprintf(files, sizeof(files), "(%s to %s)", whole.entries[1].name, whole.entries[2].name);
    snprintf(records, sizeof(records), "with the records %u to %u;", (unsigned)first_lsn, (unsigned)last_lsn);
    ck_assert_msg(strstr(report.text, files), "it says: %s", report.text);
    ck_assert_msg(strstr(report.text, records), "it says: %s", report.text);
    ck_assert_msg(strstr(report.text, "from a copy"), "it says: %s", report.text);
}

TEST(a_file_that_cannot_be_removed_is_named_with_the_reason)
{
    const char left[] = "00000000000000ff.twl.new"; /* by a process that died when it made a segment */
    struct segment_set set;

    write_to(left, "x", 1, 0);
    simdisk_inject(disk, &(struct simdisk_fault){ .op = SIM_UNLINK, .nth = 1, .error = -EPERM });
    ck_assert_int_eq(open_and_report(SET_FOR_WRITING, &set), -EPERM);
    simdisk_inject(disk, NULL);
    ck_assert_str_eq(report.file, left);
    ck_assert_msg(strstr(report.text, left) && strstr(report.text, twinlog_strerror(-EPERM)), "it says: %s",
                  report.text);
}

/* ---- files that are made or used again ------------------------------------------------------------- */

CASE("making", NULL, NULL);

static const struct segment_plan first_plan = {
    .number = 1, .sequence = 2, .bytes = SEGMENT_MIN_BYTES, .epoch = 1, .allocation = IO_ALLOCATE_SPACE
};
static const struct segment_plan next_plan = { .sequence = 9, .bytes = SEGMENT_MIN_BYTES, .epoch = 2 };

#define MADE_NAME "0000000000000001.twl"

/* Which incarnation a process finds there; 0: no file has the name. */
static uint64_t incarnation_on(struct simdisk *there)
{
    struct io *io = simdisk_connect(there);
    struct segment segment;
    uint64_t id = 0;

    const int rc = twl_segment_open_valid(io, MADE_NAME, &segment);
    ck_assert_msg(rc == 0 || rc == -ENOENT, "the file is neither: %s", twinlog_strerror(rc));
    if (rc == 0) {
        id = segment.header.segment_id;
        twl_segment_close(&segment);
    }
    io->ops->destroy(io);
    return id;
}

/* Is there one of these two behind a crash, whatever that leaves? Only in doubt it may be the other one. */
static void expect_behind_crash(struct simdisk *there, uint64_t id, bool is_in_doubt)
{
    static const enum simdisk_cut cuts[] = { SIM_KILL, SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM };

    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++)
        for (uint64_t seed = 1; seed <= 5; seed++) {
            struct simdisk *image = simdisk_crash_image(there, cuts[i], seed);
            const uint64_t found = incarnation_on(image);
            ck_assert_msg(found == id || is_in_doubt, "%s: incarnation %ju is there, and not %ju",
                          simdisk_cut_name(cuts[i]), (uintmax_t)found, (uintmax_t)id);
            simdisk_destroy(image);
        }
}

struct made {
    bool has_failed, is_in_doubt;
};

/* The operation of that number fails; 0: none. */
static struct made make_file(struct simdisk *there, const struct segment_plan *plan, bool is_new,
                             uint64_t number)
{
    const struct simdisk_fault fault = { .op = SIM_ANY, .nth = number, .error = -EIO };
    struct made made = { 0 };
    struct segment segment;
    struct io *io = simdisk_connect(there);
    const uint64_t before = incarnation_on(there);

    if (number > 0)
        simdisk_inject(there, &fault);
    const int rc = is_new ? twl_segment_create(io, plan, &segment, &made.is_in_doubt)
                          : twl_segment_recycle(io, MADE_NAME, plan, &segment, &made.is_in_doubt);
    made.has_failed = number > 0 && simdisk_faults(there) > 0;
    simdisk_inject(there, NULL);

    if (rc == 0) {
        const uint64_t id = segment.header.segment_id;
        twl_segment_close(&segment);
        expect_behind_crash(there, id, false);
    } else {
        ck_assert(made.has_failed);
        ck_assert_msg(rc == -EIO || rc == -EBUSY, "told as: %s", twinlog_strerror(rc));
        expect_behind_crash(there, before, made.is_in_doubt);
    }
    io->ops->destroy(io);
    return made;
}

static const struct made_row {
    const char *name;
    bool is_new;
    const struct segment_plan *plan;
} made_rows[] = {
    { "it is used again", false, &next_plan },
    { "it is made", true, &first_plan },
};

/* A file that is lost would leave a gap, and one that comes back would be taken for a part of the log. */
TEST_EACH(a_file_that_could_not_be_made_or_used_again_is_as_it_was_or_in_doubt, made_rows)
{
    unsigned doubts = 0;
    uint64_t number = 0;
    struct made made;

    do {
        struct simdisk *there = make_simdisk();
        if (!row->is_new)
            make_file(there, &first_plan, true, 0);
        number++;
        made = make_file(there, row->plan, row->is_new, number);
        doubts += made.is_in_doubt;
        simdisk_destroy(there);
    } while (made.has_failed);
    ck_assert_uint_gt(number, 8);
    ck_assert_uint_gt(doubts, 0);
    ck_assert_uint_lt(doubts, 4);
}
