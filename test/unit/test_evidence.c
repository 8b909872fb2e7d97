/* SPDX-License-Identifier: Apache-2.0 */
/* What proves that the end of a log is not its end: markers, later segments, cursors, spares and their promises. */
#define _GNU_SOURCE
#include "hooked.h"
#include "lives.h"
#include "suites.h"
#include "unscanned.h"

#include "../sim/simdisk.h"
#include "check/check.h"
#include "keeper/keeper.h"
#include "log/log.h"
#include "recover/recover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- evidence of loss ---------------------------------------------------------------------------- */

#define LARGE_RECORD_BYTES (3u << 20) /* more than the buffers of the spare's maker have room for */
#define SMALL_BUFFER_BYTES 16384u
#define SEGMENTS_BEFORE_LARGE 3u
#define SMALL_RECORD_BYTES 8000u
#define RECORDS_BEHIND 20u

/* What is there besides the first group of the newest segment, which is to be damaged. */
enum evidence {
    LATER_GROUPS, /* behind it in the same segment; the footer of the segment before is gone */
    FOOTER,       /* of the segment before, and no group behind it */
    CURSOR,       /* that has passed it; neither groups nor the footer */
    CLOSE,        /* all of that, and the marker of a close */
    NOTHING,      /* it is the last group, and may have been torn */
    TORN          /* it was */
};

static uint64_t large_lsn; /* of the record in it */

struct making {
    struct simdisk *machine, *left;
    unsigned long long size; /* of the group to tear at; 0 = the first one of the fourth segment */
    char name[40];           /* of the segment that was started last */
    unsigned started;
};

static void leave_at_first_group(void *context, enum simdisk_op op)
{
    struct making *making = context;
    unsigned long long offset;
    size_t size;
    char name[40];

    if (op != SIM_SUBMIT || making->left ||
        sscanf(simdisk_last(making->machine), "submit %39s %llu+%zu", name, &offset, &size) != 3 ||
        offset != SEGMENT_DATA_OFFSET || size < making->size)
        return;
    making->started += strcmp(name, making->name) != 0;
    memcpy(making->name, name, sizeof(name));
    if (making->size == 0 && making->started <= SEGMENTS_BEFORE_LARGE)
        return;
    /* of a large group its first sector */
    making->left = simdisk_crash_image(making->machine, SIM_CUT_MASK, making->size > 0);
}

/* A spare that was made by a writer with small buffers, of the size that the fourth segment has. */
static struct simdisk *make_small_life(void)
{
    static const unsigned char payload[SMALL_RECORD_BYTES] = { 1 };
    struct making making = { .machine = make_simdisk() };
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = 16u << 20, .buffer_bytes = SMALL_BUFFER_BYTES);
    struct twinlog *log = log_on(simdisk_connect(making.machine), &options);

    simdisk_set_hook(making.machine, leave_at_first_group, &making);
    while (!making.left)
        ck_assert_int_eq(twinlog_append(log, payload, sizeof(payload), &large_lsn), 0);
    simdisk_set_hook(making.machine, NULL, NULL);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(making.machine);
    return making.left;
}

UNSCANNED_BYTES(large_payload, LARGE_RECORD_BYTES)

/* In the next one the first group is a large one. */
static struct simdisk *make_large_life(struct simdisk *machine, enum evidence evidence, uint32_t flags)
{
    struct making making = { .machine = machine, .size = LARGE_RECORD_BYTES };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    memset(large_payload, 0x5a, LARGE_RECORD_BYTES); /* or most of what is torn would be as it was */
    options.segment_bytes = 16u << 20;
    options.buffer_bytes = 8u << 20;
    options.flags = flags;
    struct twinlog *log = log_on(simdisk_connect(machine), &options);
    ck_assert_uint_eq(twinlog_last_lsn(log), large_lsn - 1);
    simdisk_set_hook(machine, leave_at_first_group, &making);
    ck_assert_int_eq(twinlog_append(log, large_payload, LARGE_RECORD_BYTES, NULL), 0);
    simdisk_set_hook(machine, NULL, NULL);
    ck_assert_ptr_nonnull(making.left);
    for (unsigned i = 0; i < RECORDS_BEHIND && (evidence == LATER_GROUPS || evidence == CLOSE); i++)
        ck_assert_int_eq(twinlog_append(log, large_payload, 100, NULL), 0);
    if (evidence == CURSOR)
        ck_assert_int_eq(twinlog_cursor_set(log, "name", large_lsn), 0);
    struct simdisk *made = evidence == TORN ? making.left : simdisk_crash_image(machine, SIM_CUT_NONE, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    if (evidence == CLOSE) {
        simdisk_destroy(made);
        made = simdisk_crash_image(machine, SIM_CUT_NONE, 0);
    }
    if (evidence != TORN)
        simdisk_destroy(making.left);
    simdisk_destroy(machine);
    return made;
}

static void write_to(struct simdisk *machine, const char *name, uint64_t offset, const void *bytes,
                     size_t size)
{
    struct io *io = simdisk_connect(machine);
    struct io_file *file;

    ck_assert_int_eq(io_open(io, name, 0, &file), 0);
    ck_assert_int_eq(io_write_at(file, bytes, size, offset), 0);
    ck_assert_int_eq(io_sync(file), 0);
    io_close(file);
    io->ops->destroy(io);
}

/* One bit of the first group's magic in the newest segment; and the footer of the one before, if it must go. */
static void damage_first_group(struct simdisk *machine, bool takes_footer)
{
    static const unsigned char no_footer[SEGMENT_FOOTER_BYTES], bit[1] = { 0x30 };
    struct io *io = simdisk_connect(machine);
    struct segment segment;
    struct segment_set set;
    struct segment_iter iter = { 0 };

    load_set(io, &set);
    const struct segment_entry *newest = &set.entries[set.started - 1], *before = newest - 1;
    ck_assert_uint_eq(newest->first_lsn, large_lsn);
    ck_assert_int_eq(twl_segment_open_valid(io, newest->name, &segment), 0);
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    ck_assert_int_eq(twl_iter_enter_group(&iter), 1);
    const uint64_t magic_offset = iter.group_offset + 4;
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    io->ops->destroy(io);
    write_to(machine, newest->name, magic_offset, bit, sizeof(bit));
    if (takes_footer)
        write_to(machine, before->name, twl_segment_data_end(before->header.bytes), no_footer,
                 sizeof(no_footer));
    twl_segment_set_free(&set);
}

static int open_with(struct simdisk *machine, uint32_t flags, uint32_t buffer_bytes, uint64_t *ret_last_lsn)
{
    struct twinlog *log;
    const struct twinlog_options options =
        WITH_SIZE(options, .segment_bytes = 4u << 20, .flags = flags, .buffer_bytes = buffer_bytes);
    const int rc = twl_log_open(simdisk_connect(machine), &options, &log);

    if (rc == 0) {
        *ret_last_lsn = twinlog_last_lsn(log);
        ck_assert_int_eq(twinlog_close(log), 0);
    }
    return rc;
}

/* ---- a cursor behind a truncation ---------------------------------------------------------------- */

#define FIRST_BLOCK_OF_TRUNCATION "0000000000000002.twl", SEGMENT_DATA_OFFSET

static void read_block(struct simdisk *machine, const char *name, uint64_t offset, unsigned char *block)
{
    struct io *io = simdisk_connect(machine);
    struct io_file *file;
    size_t size;

    ck_assert_int_eq(io_open(io, name, IO_READ_ONLY, &file), 0);
    ck_assert_int_eq(io_read(file, block, BLOCK_BYTES, offset, &size), 0);
    ck_assert_uint_eq(size, BLOCK_BYTES);
    io_close(file);
    io->ops->destroy(io);
}

/* Another process does not know the epoch, and leaves it as the truncation did. */
static void set_cursor_beside(struct simdisk *machine, uint64_t lsn)
{
    const struct twinlog_options options = WITH_SIZE(options, .flags = TWINLOG_READ_ONLY);
    struct twinlog *other;

    ck_assert_int_eq(twl_log_open(simdisk_connect(machine), &options, &other), 0);
    ck_assert_int_eq(twinlog_cursor_set(other, "name", lsn), 0);
    ck_assert_int_eq(twinlog_close(other), 0);
}

CASE("cursors", NULL, NULL);

TEST(a_cursor_that_another_process_sets_behind_a_truncation_is_proof)
{
    unsigned char block[BLOCK_BYTES];
    uint64_t last_lsn = 0;
    struct simdisk *machine = make_simdisk();
    struct twinlog *log = log_on(simdisk_connect(machine), NULL);

    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "name", 5), 0);
    ck_assert_int_eq(twinlog_truncate(log, 2), 0);
    ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    read_block(machine, FIRST_BLOCK_OF_TRUNCATION, block);
    ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    set_cursor_beside(machine, 4);
    struct simdisk *left = simdisk_crash_image(machine, SIM_CUT_NONE, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(machine);
    write_to(left, FIRST_BLOCK_OF_TRUNCATION, block, sizeof(block)); /* loses record 4 */
    ck_assert_int_eq(open_with(left, 0, 0, &last_lsn), TWINLOG_ECORRUPT);
    simdisk_destroy(left);
}

/* ---- one verdict --------------------------------------------------------------------------------- */

static int read_to_end(struct simdisk *machine)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_record record;
    struct twinlog_reader *reader;
    int rc = twl_reader_open(simdisk_connect(machine), &options, &reader);

    if (rc < 0)
        return rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        continue;
    twinlog_reader_close(reader);
    return rc;
}

static uint64_t last_in_repair(struct simdisk *machine)
{
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct twinlog_verify_options verify = TWINLOG_VERIFY_OPTIONS_INIT;
    struct simdisk *repaired = make_simdisk();

    ck_assert_int_eq(twl_repair(simdisk_connect(machine), simdisk_connect(repaired), &options, &result), 0);
    ck_assert_int_eq(twl_verify(simdisk_connect(repaired), &verify, NULL), 0);
    simdisk_destroy(repaired);
    return result.last_lsn;
}

/* All that are asked say the same of the end of a log: it has lost something, or it ends with that LSN. */
static void expect_one_verdict(struct simdisk *machine, bool is_lost, uint64_t last_lsn)
{
    const int error = is_lost ? TWINLOG_ECORRUPT : 0;
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_verify_options verify = TWINLOG_VERIFY_OPTIONS_INIT;
    struct simdisk *opened = simdisk_crash_image(machine, SIM_CUT_ALL, 0);
    uint64_t found_lsn = last_lsn;

    ck_assert_int_eq(twl_inspect(simdisk_connect(machine), &inspection), 0);
    ck_assert_int_eq(inspection.report.error, error);
    ck_assert_uint_eq(inspection.last_lsn, last_lsn);
    ck_assert_int_eq(twl_verify(simdisk_connect(machine), &verify, NULL), error);
    ck_assert_int_eq(read_to_end(machine), error);
    ck_assert_int_eq(last_in_repair(machine) > last_lsn, is_lost); /* saved or told lost */
    ck_assert_int_eq(open_with(opened, 0, 0, &found_lsn), error);
    ck_assert_uint_eq(found_lsn, last_lsn);
    simdisk_destroy(opened);
}

CASE("loss", NULL, NULL);

static const struct loss_row {
    const char *name;
    enum evidence evidence;
    uint32_t flags; /* of the process that made the segment */
} damaged_rows[] = {
    { "groups behind it", LATER_GROUPS, 0 },
    { "groups behind it, padded", LATER_GROUPS, TWINLOG_PAD },
    { "groups behind it, buffered", LATER_GROUPS, TWINLOG_BUFFERED },
    { "the footer in front", FOOTER, 0 },
    { "the footer in front, padded", FOOTER, TWINLOG_PAD },
    { "the footer in front, buffered", FOOTER, TWINLOG_BUFFERED },
    { "a cursor", CURSOR, 0 },
    { "a cursor, padded", CURSOR, TWINLOG_PAD },
    { "a cursor, buffered", CURSOR, TWINLOG_BUFFERED },
    { "a close", CLOSE, 0 },
    { "a close, padded", CLOSE, TWINLOG_PAD },
    { "a close, buffered", CLOSE, TWINLOG_BUFFERED },
};

static const struct loss_row torn_rows[] = {
    { "nothing tells that it was durable", NOTHING, 0 },
    { "nothing tells that it was durable, padded", NOTHING, TWINLOG_PAD },
    { "nothing tells that it was durable, buffered", NOTHING, TWINLOG_BUFFERED },
    { "it is torn", TORN, 0 },
    { "it is torn, padded", TORN, TWINLOG_PAD },
    { "it is torn, buffered", TORN, TWINLOG_BUFFERED },
};

static struct simdisk *make_loss(const struct loss_row *row)
{
    const bool takes_footer =
        row->evidence == LATER_GROUPS || row->evidence == CURSOR || row->evidence == NOTHING;
    struct simdisk *made = make_large_life(make_small_life(), row->evidence, row->flags);

    if (row->evidence != TORN)
        damage_first_group(made, takes_footer);
    return made;
}

/* Every process that opens it is told. An opening that is refused leaves the evidence as it was. */
TEST_EACH(a_first_group_that_is_damaged_is_damage, damaged_rows)
{
    struct simdisk *made = make_loss(row);
    uint64_t last_lsn = 0;

    expect_one_verdict(made, true, large_lsn - 1);
    ck_assert_int_eq(open_with(made, 0, SMALL_BUFFER_BYTES, &last_lsn), TWINLOG_ECORRUPT);
    ck_assert_int_eq(open_with(made, TWINLOG_PAD, 0, &last_lsn), TWINLOG_ECORRUPT);
    simdisk_destroy(made);
}

TEST_EACH(a_first_group_that_may_be_torn_is_torn, torn_rows)
{
    struct simdisk *made = make_loss(row);
    uint64_t last_lsn = 0;

    expect_one_verdict(made, false, large_lsn - 1);
    ck_assert_int_eq(open_with(made, 0, SMALL_BUFFER_BYTES, &last_lsn), 0);
    ck_assert_uint_eq(last_lsn, large_lsn - 1);
    ck_assert_int_eq(open_with(made, TWINLOG_PAD, 0, &last_lsn), 0);
    ck_assert_uint_eq(last_lsn, large_lsn - 1);
    simdisk_destroy(made);
}

/* Two headers are damaged, and the directory has no order. */
TEST(a_second_look_is_told_the_same)
{
    static const unsigned char bit[1] = { 0xff };
    struct twinlog_inspection first = TWINLOG_INSPECTION_INIT;
    struct segment_set set;

    make_log(ROLLED);
    struct io *io = simdisk_connect(disk);
    load_set(io, &set);
    io->ops->destroy(io);
    write_to(disk, set.entries[0].name, 100, bit, sizeof(bit));
    write_to(disk, set.entries[1].name, 100, bit, sizeof(bit));
    ck_assert_int_eq(twl_inspect(simdisk_connect(disk), &first), TWINLOG_ECORRUPT);
    for (unsigned i = 0; i < 20; i++) {
        struct twinlog_inspection next = TWINLOG_INSPECTION_INIT;
        ck_assert_int_eq(twl_inspect(simdisk_connect(disk), &next), TWINLOG_ECORRUPT);
        ck_assert_str_eq(next.report.text, first.report.text);
    }
    twl_segment_set_free(&set);
    remove_log();
}

/* ---- promises ------------------------------------------------------------------------------------ */

#define PROMISED_LSN 20u
#define CUT_LSN 5u

static struct twinlog *open_and_cut(struct simdisk *machine, uint32_t *ret_epoch)
{
    struct twinlog *log = log_on(simdisk_connect(machine), NULL);

    for (unsigned i = 0; i < PROMISED_LSN; i++)
        ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    *ret_epoch = log->epoch.number;
    ck_assert_int_eq(twinlog_truncate(log, CUT_LSN), 0);
    return log;
}

static void make_spare(struct simdisk *machine, uint64_t bytes, uint64_t after_lsn, uint32_t epoch)
{
    struct io *io = simdisk_connect(machine);
    struct segment_set set;
    struct segment spare;

    load_set(io, &set);
    struct segment_plan plan = { .number = set.max_number + 1,
                                 .sequence = set.max_sequence + 1,
                                 .bytes = bytes,
                                 .after_lsn = after_lsn,
                                 .epoch = epoch };
    memcpy(plan.log_id, set.entries[0].header.log_id, LOG_ID_BYTES);
    ck_assert_int_eq(twl_segment_create(io, &plan, &spare, NULL), 0);
    twl_segment_close(&spare);
    twl_segment_set_free(&set);
    io->ops->destroy(io);
}

TEST(what_a_spare_promises_does_not_count_behind_a_truncation)
{
    struct simdisk *machine = make_simdisk();
    uint32_t epoch;

    ck_assert_int_eq(twinlog_close(open_and_cut(machine, &epoch)), 0);
    make_spare(machine, SEGMENT_MIN_BYTES, PROMISED_LSN, epoch);
    expect_one_verdict(machine, false, CUT_LSN);
    simdisk_destroy(machine);
}

TEST(what_a_spare_promises_counts_in_the_epoch_that_a_truncation_has_begun)
{
    struct simdisk *machine = make_simdisk();
    uint32_t epoch;

    ck_assert_int_eq(twinlog_close(open_and_cut(machine, &epoch)), 0);
    make_spare(machine, SEGMENT_MIN_BYTES, PROMISED_LSN, epoch + 1);
    expect_one_verdict(machine, true, CUT_LSN);
    simdisk_destroy(machine);
}

/* As a leader may that looked at the watermark before a truncation, and asks behind it. */
TEST(a_spare_asked_for_behind_a_truncation_makes_no_promise)
{
    struct simdisk *machine = make_simdisk();
    uint64_t last_lsn = 0;
    uint32_t epoch;
    struct twinlog *log = open_and_cut(machine, &epoch);

    ck_assert_int_eq(twl_keeper_wait(log->keeper, 1, PROMISED_LSN, epoch), 0);
    struct simdisk *image = simdisk_crash_image(machine, SIM_CUT_NONE, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    struct segment_set set;
    struct io *io = simdisk_connect(image);
    load_set(io, &set);
    ck_assert_uint_eq(set.spares, 1);
    ck_assert_uint_eq(set.entries[set.started].header.after_lsn, CUT_LSN);
    ck_assert_uint_eq(twl_segment_set_promise(&set, set.started), CUT_LSN);
    twl_segment_set_free(&set);
    io->ops->destroy(io);
    ck_assert_int_eq(open_with(image, 0, 0, &last_lsn), 0);
    ck_assert_uint_eq(last_lsn, CUT_LSN);
    simdisk_destroy(image);
    simdisk_destroy(machine);
}

/* It is not known whether the segment of a truncation is there, or will be. If it is, it continues one of the
 * old ones, which must be there as well. */
TEST(nothing_is_trimmed_while_a_truncation_is_in_doubt)
{
    static const unsigned char payload[BLOCK_RECORD_BYTES] = { 1 };
    const struct simdisk_fault fault = { .op = SIM_SYNC_DIR, .nth = 1, .error = -EIO };
    struct twinlog_trim_options trim = TWINLOG_TRIM_OPTIONS_INIT;
    struct simdisk *living = make_simdisk();
    uint64_t last_lsn = 0;
    const struct twinlog_options options = WITH_SIZE(options, .segment_bytes = SEGMENT_MIN_BYTES);
    struct twinlog *log = log_on(simdisk_connect(living), &options);

    for (unsigned i = 0; i < 60; i++)
        ck_assert_int_eq(twinlog_append(log, payload, sizeof(payload), NULL), 0);
    simdisk_inject(living, &fault);
    ck_assert_int_eq(twinlog_truncate(log, CUT_LSN), TWINLOG_EPOISONED);
    simdisk_inject(living, NULL);
    trim.before_lsn = 50;
    ck_assert_int_eq(twinlog_trim(log, &trim, NULL), TWINLOG_EPOISONED);
    ck_assert_uint_le(simdisk_choices(living), 4);
    for (uint64_t mask = 0; mask < 16; mask++) {
        struct simdisk *image = simdisk_crash_image(living, SIM_CUT_MASK, mask);
        ck_assert_int_eq(open_with(image, 0, 0, &last_lsn), 0);
        ck_assert(last_lsn == CUT_LSN || last_lsn == 60);
        simdisk_destroy(image);
    }
    twinlog_close(log);
    simdisk_destroy(living);
}

/* ---- behind a close ------------------------------------------------------------------------------ */

enum {
    SPARE_BYTES = 8 << 20,
    RECORDS_OF_SEGMENT = 4,
    NEXT_RECORD_BYTES = 80000, /* more than is searched behind a close */
};

/* A log of one record and a spare; *ret_killed, if wanted: its writer was killed, and did not close it. */
static struct simdisk *make_closed(struct simdisk **ret_killed)
{
    struct simdisk *closed = make_simdisk();
    struct twinlog *log = log_on(simdisk_connect(closed), NULL);

    ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    make_spare(closed, SPARE_BYTES, 0, 1);
    if (ret_killed)
        *ret_killed = simdisk_crash_image(closed, SIM_KILL, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    return closed;
}

TEST(behind_a_close_the_beginning_of_the_spare_is_read)
{
    struct simdisk *killed, *closed = make_closed(&killed);

    ck_assert_int_eq(open_and_count(closed, NULL), 0);
    ck_assert_uint_lt(read_bytes, SPARE_BYTES / 2);
    ck_assert_int_eq(open_and_count(killed, NULL), 0);
    ck_assert_uint_gt(read_bytes, SPARE_BYTES);
    simdisk_destroy(closed);
    simdisk_destroy(killed);
}

/* Gives a segment the beginning that it has in `other`. */
static void copy_beginning(struct simdisk *machine, struct simdisk *other, uint64_t number)
{
    static unsigned char bytes[FIRST_SEGMENT_BYTES];
    struct io *io = simdisk_connect(other);
    struct io_file *file;
    size_t size;
    char name[SEGMENT_NAME_BYTES];

    twl_segment_name(number, name);
    ck_assert_int_eq(io_open(io, name, IO_READ_ONLY, &file), 0);
    ck_assert_int_eq(io_read(file, bytes, sizeof(bytes), 0, &size), 0);
    io_close(file);
    io->ops->destroy(io);
    write_to(machine, name, 0, bytes, size);
}

/* The next writer goes on in the spare, with records of that size; then the first segment loses all that this writer
 * has written there, and the spare the first `lost` bytes behind its header, or one bit of them. */
static struct simdisk *lose_what_came_next(struct simdisk *old, size_t record_bytes, size_t lost)
{
    static const unsigned char zeros[NEXT_RECORD_BYTES], payload[NEXT_RECORD_BYTES] = { 1 },
                                                         bit[1] = { 0x30 };
    struct simdisk *machine = simdisk_crash_image(old, SIM_CUT_ALL, 0);
    char name[SEGMENT_NAME_BYTES];
    struct twinlog_options options = WITH_SIZE(options, .segment_records = RECORDS_OF_SEGMENT);

    options.flags = TWINLOG_PAD; /* each group begins a block */
    struct twinlog *log = log_on(simdisk_connect(machine), &options);
    for (unsigned i = 0; i < 2 * RECORDS_OF_SEGMENT - 2; i++)
        ck_assert_int_eq(twinlog_append(log, payload, record_bytes, NULL), 0);
    struct simdisk *left = simdisk_crash_image(machine, SIM_CUT_NONE, 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    simdisk_destroy(machine);
    copy_beginning(left, old, 1);
    twl_segment_name(2, name);
    if (lost > 0)
        write_to(left, name, SEGMENT_DATA_OFFSET, zeros, lost);
    else
        write_to(left, name, SEGMENT_DATA_OFFSET + 4, bit, sizeof(bit));
    return left;
}

/* Without the marker of a close nothing is known; behind one, the spare must be as it was made. A power cut may leave
 * the page as it was at the close, or in `killed`, because it is not synced. */
TEST(groups_in_a_spare_prove_what_is_missing_in_front_of_them)
{
    uint64_t last_lsn = 0;
    struct simdisk *killed, *closed = make_closed(&killed);
    struct simdisk *damaged = lose_what_came_next(closed, 6, 0),
                   *zeroed = lose_what_came_next(killed, NEXT_RECORD_BYTES, BLOCK_BYTES);

    expect_one_verdict(damaged, true, 1);
    expect_one_verdict(zeroed, true, 1);
    copy_beginning(closed, damaged, 2);
    copy_beginning(killed, zeroed, 2);
    ck_assert_int_eq(open_with(closed, 0, 0, &last_lsn), TWINLOG_ECORRUPT);
    ck_assert_int_eq(open_with(killed, 0, 0, &last_lsn), TWINLOG_ECORRUPT);
    simdisk_destroy(damaged);
    simdisk_destroy(zeroed);
    simdisk_destroy(closed);
    simdisk_destroy(killed);
}

/* So does an opening, because the page says nothing of that close (docs/recovery.md). */
TEST(verify_searches_behind_a_close_too)
{
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    struct simdisk *closed = make_closed(NULL),
                   *zeroed = lose_what_came_next(closed, NEXT_RECORD_BYTES, NEXT_RECORD_BYTES);
    uint64_t last_lsn = 0;

    ck_assert_int_eq(twl_verify(simdisk_connect(zeroed), &options, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(open_with(zeroed, 0, 0, &last_lsn), TWINLOG_ECORRUPT);
    simdisk_destroy(zeroed);
    simdisk_destroy(closed);
}
