/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair: what is rescued of a damaged log, and what is said about the rest. test/damage/ repairs after the loss of
 * every single sector, unit-verdict after each kind of damage to one place; here is what happens around that.
 */
#define _GNU_SOURCE
#include "copies.h"
#include "gate.h"
#include "logdir.h"
#include "suites.h"

#include "control/state.h"
#include "log/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const unsigned char zeros[64 * 1024];

/* ---- what repair has said ------------------------------------------------------------------------- */

struct losses {
    struct twinlog_report list[16];
    unsigned count;
    unsigned gaps; /* segments that are missing, with records of which nothing is known */
    uint64_t records;
    int verdict;
};

static int keep_loss(void *context, const struct twinlog_report *lost)
{
    struct losses *told = context;

    if (lost->finding == TWINLOG_FOUND_MISSING_SEGMENT && lost->first_lsn == 0) {
        told->gaps++;
        return told->verdict;
    }
    if (told->count < 16)
        told->list[told->count] = *lost;
    told->count++;
    told->records += lost->first_lsn ? lost->last_lsn - lost->first_lsn + 1 : 0;
    return told->verdict;
}

static struct losses losses; /* of the last repair, and what it says */
static struct twinlog_repair_result result;

static int repair(int verdict)
{
    losses = (struct losses){ .verdict = verdict };
    result = (struct twinlog_repair_result)TWINLOG_REPAIR_RESULT_INIT;
    return twinlog_repair(log_dir, copy_dir,
                          &WITH_SIZE(repair_options, .each = keep_loss, .context = &losses), &result);
}

static bool is_same_record(const struct twinlog_record *a, const struct twinlog_record *b)
{
    return a->lsn == b->lsn && a->time_ns == b->time_ns && a->size == b->size &&
           memcmp(a->data, b->data, a->size) == 0;
}

static struct twinlog_reader *read_at(const char *dir)
{
    struct twinlog_reader *reader;

    ck_assert_int_eq(twinlog_reader_open(dir, NULL, &reader), 0);
    return reader;
}

/* The repaired log has all records of the reference but these. */
static void expect_all_but(uint64_t first_lost, uint64_t last_lost)
{
    struct twinlog_reader *reference = read_at(reference_dir), *repaired = read_at(copy_dir);
    struct twinlog_record expected, found;
    int error = 0;

    while ((error = twinlog_reader_next(reference, &expected)) > 0) {
        if (expected.lsn >= first_lost && expected.lsn <= last_lost)
            continue;
        error = twinlog_reader_next(repaired, &found);
        ck_assert_msg(error == 1, "record %" PRIu64 ": %s", expected.lsn, twinlog_strerror(error));
        ck_assert_msg(is_same_record(&expected, &found), "%" PRIu64 " is not %" PRIu64, found.lsn,
                      expected.lsn);
    }
    ck_assert_int_eq(error, 0);
    ck_assert_int_eq(twinlog_reader_next(repaired, &found), 0);
    twinlog_reader_close(reference);
    twinlog_reader_close(repaired);
    ck_assert_int_eq(twinlog_verify(copy_dir, NULL, NULL), 0);
}

static void expect_names(void)
{
    struct twinlog *log = open_at(copy_dir);
    uint64_t lsn = 0;
    char value[4];

    ck_assert_int_eq(twinlog_cursor_get(log, "cursor", &lsn), 0);
    ck_assert_uint_eq(lsn, 300);
    ck_assert_int_eq(twinlog_meta_get(log, "value", value, 4, NULL), 0);
    ck_assert_mem_eq(value, "kept", 4);
    ck_assert_int_eq(twinlog_append(log, "on", 2, &lsn), 0);
    ck_assert_uint_eq(lsn, 301);
    ck_assert_int_eq(twinlog_close(log), 0);
}

/* Repairs, and expects that one loss is told, of these records; 0 and 0: that nothing is lost. */
static struct twinlog_report expect_loss(uint64_t first_lsn, uint64_t last_lsn)
{
    const uint64_t lost = first_lsn ? last_lsn - first_lsn + 1 : 0;
    const uint64_t before = log_fingerprint(false);
    int error = repair(0);

    ck_assert_msg(error == 0, "repair: %s", twinlog_strerror(error));
    ck_assert_uint_eq(log_fingerprint(false), before);
    ck_assert_uint_eq(losses.records, lost);
    ck_assert_uint_eq(losses.count, first_lsn ? 1 : 0);
    ck_assert_uint_eq(result.lost_records, lost);
    ck_assert_uint_eq(result.records, 300 - lost);
    ck_assert_uint_eq(result.first_lsn, 1);
    ck_assert_uint_eq(result.last_lsn, 300);
    expect_all_but(first_lsn, last_lsn);
    expect_names();
    if (first_lsn) {
        ck_assert_uint_eq(losses.list[0].action, TWINLOG_DID_SKIP);
        ck_assert_uint_eq(losses.list[0].first_lsn, first_lsn);
        ck_assert_uint_eq(losses.list[0].last_lsn, last_lsn);
    }
    return losses.list[0];
}

CASE("repair", make_place, logdir_remove);

static int put_later_limit(void *context, struct state *state)
{
    (void)context;
    const int rc = twl_state_put(state, STATE_VALUE, "twinlog.later", "1", 1);
    return rc < 0 ? rc : 1;
}

TEST(a_lost_record_is_told_and_leaves_its_number_empty)
{
    size_t size;

    make_damageable();
    struct twinlog *log = log_open(&LOG_OPTIONS(.flags = TWINLOG_READ_ONLY));
    ck_assert_int_eq(twinlog_meta_set(log, TWINLOG_KEEP_RECORDS, "1", 1), 0); /* the next writer's affair */
    log_close(log);
    struct io *io = log_io(true);
    ck_assert_int_eq(twl_state_change(io, put_later_limit, NULL), 0); /* a later version's */
    io->ops->destroy(io);
    struct listing listing = list_segments();
    uint64_t lsn = listing.list[1].first_lsn + 1;
    off_t at = find_record(log_segment(2), (uint32_t)lsn - 1, &size);
    patch_file(log_segment(2), at, "\xff\xff\xff\xff\xff", 5);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    struct twinlog_report lost = expect_loss(lsn, lsn);
    ck_assert_uint_eq(lost.finding, TWINLOG_FOUND_DAMAGE);
    ck_assert_uint_eq(lost.segment, 2);
    ck_assert_str_eq(lost.file, listing.list[1].file);
    ck_assert_uint_eq(lost.offset, (uint64_t)at - RECORD_HEADER_BYTES);
}

/* Of the group only its header; the record's own checksums tell which one it is. */
TEST(a_record_with_a_type_and_a_tag_is_found_without_its_group)
{
    const struct twinlog_entry entries[] = { { .data = "first", .size = 5, .type = 7, .tag = 0x1234 },
                                             { .data = "second", .size = 6, .tag = 1 } };
    struct twinlog *log = open_at(log_dir);
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_append_batch(log, entries, 2, NULL, NULL), 0);
    ck_assert_int_eq(twinlog_append(log, "third", 5, NULL), 0);
    log_close(log);
    patch_file(log_segment(1), 4096 + GROUP_HEADER_BYTES, garbage, GROUP_HEADER_BYTES);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_eq(losses.count, 0);
    ck_assert_uint_eq(result.records, 3);
    struct twinlog_reader *reader = read_at(copy_dir);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, i + 1);
        ck_assert_uint_eq(record.type, entries[i].type);
        ck_assert_uint_eq(record.tag, entries[i].tag);
        ck_assert_mem_eq(record.data, entries[i].data, entries[i].size);
    }
    twinlog_reader_close(reader);
}

/* ---- what verify says of losses ------------------------------------------------------------------- */

/* The first bytes of the record that was appended as that sequence, from 0 on. */
static void damage_record(const char *path, uint32_t sequence)
{
    size_t size;

    patch_file(path, find_record(path, sequence, &size), "\xff\xff\xff\xff\xff", 5);
}

/* Records 1 to 10; 3, 6 and 7 were lost, and a repair has put fillers in their places. All are in one group. */
static void make_repaired_log(void)
{
    struct twinlog *log = open_small();

    append_records(log, 0, 0, 10);
    log_close(log);
    damage_record(log_segment(1), 2);
    damage_record(log_segment(1), 5);
    damage_record(log_segment(1), 6);
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_eq(result.lost_records, 3);
}

static int verify_at(const char *dir, uint64_t *ret_records)
{
    losses = (struct losses){ 0 };
    return twinlog_verify(dir, &WITH_SIZE(verify_options, .each = keep_loss, .context = &losses),
                          ret_records);
}

static void expect_told(unsigned number, enum twinlog_finding finding, uint64_t first_lsn, uint64_t last_lsn)
{
    const struct twinlog_report *told = &losses.list[number];

    ck_assert_uint_lt(number, losses.count);
    ck_assert_msg(told->finding == finding && told->first_lsn == first_lsn && told->last_lsn == last_lsn,
                  "%u: LSN %" PRIu64 " to %" PRIu64 ": %s", number, told->first_lsn, told->last_lsn,
                  told->text);
}

CASE("verify", make_place, logdir_remove);

TEST(sound_records_between_two_losses_of_a_group_are_not_told_as_lost)
{
    uint64_t records;

    make_repaired_log();

    ck_assert_int_eq(verify_at(copy_dir, &records), 0);
    ck_assert_uint_eq(records, 7);
    ck_assert_uint_eq(losses.count, 2);
    expect_told(0, TWINLOG_FOUND_LOST, 3, 3);
    expect_told(1, TWINLOG_FOUND_LOST, 6, 7);
}

TEST(a_loss_is_told_also_in_a_group_that_was_damaged_since)
{
    char segment[600];
    uint64_t records;

    make_repaired_log();
    snprintf(segment, sizeof(segment), "%s/0000000000000001.twl", copy_dir);
    const int fd = open(segment, O_RDONLY | O_CLOEXEC);
    static unsigned char file[1 << 20];
    unsigned char bytes[RECORD_ROOM];
    const ssize_t file_bytes = read(fd, file, sizeof(file));
    close(fd);
    ck_assert_int_gt(file_bytes, 0);
    const size_t size = make_record(0, 3, bytes);
    const unsigned char *at = memmem(file, (size_t)file_bytes, bytes, size);
    ck_assert_ptr_nonnull(at);
    patch_file(segment, at - file, "\xff\xff\xff\xff\xff", 5); /* record 4 */

    ck_assert_int_eq(verify_at(copy_dir, &records), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(records, 6);
    ck_assert_uint_eq(losses.count, 3);
    expect_told(0, TWINLOG_FOUND_LOST, 3, 3);
    expect_told(1, TWINLOG_FOUND_DAMAGE, 4, 4);
    expect_told(2, TWINLOG_FOUND_LOST, 6, 7);
}

static const struct cut_row {
    const char *name;
    off_t bytes;
    unsigned findings; /* the length, and each place where something is missing */
} cut_rows[] = {
    { "behind the header", SEGMENT_HEADER_BYTES, 2 },
    { "in the first block", SEGMENT_HEADER_BYTES + 100, 2 },
    { "in front of the footer", 15 * BLOCK_BYTES, 1 },
    { "in the footer", 15 * BLOCK_BYTES + 100, 1 },
    { "in front of the second header", 15 * BLOCK_BYTES + FOOTER_SECTOR_BYTES, 1 },
    { "in the second header", 15 * BLOCK_BYTES + FOOTER_SECTOR_BYTES + 100, 1 },
    { "behind the second header", 16 * BLOCK_BYTES - 1, 1 },
};

/* Nothing is said of a header that the file does not have any more. */
TEST_EACH(of_a_file_that_was_cut_nothing_wrong_is_told, cut_rows)
{
    uint64_t records;

    make_damageable();
    ck_assert_int_eq(truncate(log_segment(2), row->bytes), 0);

    ck_assert_int_eq(verify_at(log_dir, &records), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(losses.count, row->findings);
    ck_assert_uint_eq(losses.list[0].offset, (uint64_t)row->bytes);
    for (unsigned i = 0; i < losses.count; i++)
        ck_assert_msg(losses.list[i].finding == TWINLOG_FOUND_DAMAGE, "%s", losses.list[i].text);
}

CASE("repair", make_place, logdir_remove);

/* ---- the second header --------------------------------------------------------------------------- */

static void copy_block(const char *to, const char *from)
{
    unsigned char block[BLOCK_BYTES];
    const int fd = open(from, O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(pread(fd, block, sizeof(block), 0), sizeof(block));
    close(fd);
    patch_file(to, 0, block, sizeof(block));
}

/* The number of sound records in the copy, all of which say that they came behind the truncation or in front of it. */
static uint64_t count_copied(uint64_t cut_lsn)
{
    struct twinlog_reader *reader = read_at(copy_dir);
    struct twinlog_record record;
    uint64_t count = 0;

    while (twinlog_reader_next(reader, &record) > 0) {
        ck_assert_int_eq(record.type, record.lsn > cut_lsn);
        count++;
    }
    twinlog_reader_close(reader);
    return count;
}

static const struct truncation_row {
    const char *name;
    unsigned records;   /* behind the truncation */
    uint64_t first_lsn; /* of its segment */
} truncation_rows[] = {
    { "nothing behind it", 0, 0 },
    { "some records behind it", 60, 71 },
    { "several segments behind it", 200, 71 },
};

/* The header of a truncation's segment and its first marker are damaged: what was truncated stays away, and what came
 * behind it is there. */
TEST_EACH(a_damaged_truncation_is_not_forgotten, truncation_rows)
{
    const struct twinlog_entry entry = { .data = "new", .size = 3, .type = 1 };
    struct twinlog *log = open_small();
    char truncation[600];

    for (unsigned i = 0; i < 100; i++)
        ck_assert_int_eq(twinlog_append(log, "old", 3, NULL), 0);
    ck_assert_int_eq(twinlog_truncate(log, 70), 0);
    for (unsigned i = 0; i < row->records; i++)
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, NULL), 0);
    log_close(log);

    const struct listing listing = list_segments();
    ck_assert_uint_eq(listing.list[1].first_lsn, row->first_lsn);
    snprintf(truncation, sizeof(truncation), "%s", log_file(listing.list[1].file));
    patch_file(truncation, 40, garbage, 1);
    patch_file(truncation, 4112, garbage, 1);
    if (row->records == 0)
        patch_file(truncation, 8208, garbage, 1); /* the marker of the close: there is no group in it */

    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_eq(result.last_lsn, 70 + row->records);
    ck_assert_uint_eq(result.lost_records, 0);
    ck_assert_uint_eq(count_copied(70), 70 + row->records);
}

static struct twinlog_options two_spares(void)
{
    struct twinlog_options options = small_segments(0);

    options.spare_segments = 2;
    return options;
}

/* Three hundred records, a cursor that has passed them, and spares. */
static struct listing make_log_with_spares(void)
{
    const struct twinlog_options options = two_spares();

    make_damageable();
    struct twinlog *log = log_open(&options);
    AWAIT(log_stat(log).spare_segments == 2);
    log_close(log);
    return list_segments();
}

static unsigned remove_started(const struct listing *listing)
{
    unsigned left = 0;

    for (unsigned i = 0; i < listing->count; i++)
        if (listing->list[i].state <= TWINLOG_SEGMENT_ACTIVE)
            ck_assert_int_eq(unlink(log_file(listing->list[i].file)), 0);
        else
            left++;
    return left;
}

/* The cursor proves the records. */
TEST(a_log_of_which_only_a_spare_is_left_is_told)
{
    const struct listing listing = make_log_with_spares();

    ck_assert_uint_ge(remove_started(&listing), 1);

    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_ge(losses.gaps, 1);
    ck_assert_uint_eq(losses.records, 300);
    ck_assert_uint_eq(result.records, 0);
}

TEST(a_log_of_which_not_even_a_spare_is_left_is_told)
{
    const struct twinlog_options options = two_spares();
    const struct listing listing = make_log_with_spares();

    for (unsigned i = 0; i < listing.count; i++)
        ck_assert_int_eq(unlink(log_file(listing.list[i].file)), 0);

    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_MISSING_SEGMENT);
}

static const struct twinlog_segment *find_newest(const struct listing *listing)
{
    const struct twinlog_segment *newest = &listing->list[listing->count - 1];

    while (newest->state != TWINLOG_SEGMENT_ACTIVE)
        newest--;
    return newest;
}

/* ---- a set of which no segment looks started ----------------------------------------------------- */

/* A spare is there, and what was appended is durable. */
static struct twinlog *open_with_spare(void)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = 64 * KIB, .spare_segments = 1));

    AWAIT(log_stat(log).spare_segments >= 1);
    return log;
}

/* Of that type, 2000 bytes each. Returns the last LSN. */
static uint64_t append_of_type(struct twinlog *log, unsigned count, uint8_t type)
{
    static const char bytes[2000] = { 0 };
    const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes), .type = type };
    uint64_t lsn = 0;

    while (count-- > 0)
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, &lsn), 0);
    return lsn;
}

/* Every record of the copy is of type 1; those from `first_lsn` on are there or told. */
static void expect_rescued(uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_record record;

    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(repair(0), 0);
    struct twinlog_reader *reader = read_at(copy_dir);
    for (uint64_t i = 0; i < result.records; i++) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_ge(record.lsn, first_lsn);
        ck_assert_uint_eq(record.type, 1);
    }
    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    twinlog_reader_close(reader);
    ck_assert_uint_eq(result.last_lsn, last_lsn);
    ck_assert_uint_eq(result.records + result.lost_records, last_lsn - first_lsn + 1);
    ck_assert_uint_eq(losses.records, result.lost_records);
}

/* So many segments are left, of which the first blocks are lost, so each passes for a spare. Returns the first one. */
static struct twinlog_segment make_spares(unsigned count, bool has_footers)
{
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = 64 * KIB));

    append_of_type(log, 150, 1);
    const struct listing before = list_segments();
    const struct twinlog_segment *first = find_newest(&before) + 1 - count;
    log_trim_before(log, first->first_lsn);
    log_close(log);
    for (unsigned i = 0; i < before.count; i++) {
        const struct twinlog_segment *segment = &before.list[i];
        if (segment < first || segment >= first + count) {
            (void)unlink(log_file(segment->file));
            continue;
        }
        patch_file(log_file(segment->file), SEGMENT_DATA_OFFSET, zeros, BLOCK_BYTES);
        if (!has_footers)
            patch_file(log_file(segment->file), 15 * BLOCK_BYTES, zeros, FOOTER_SECTOR_BYTES);
    }
    return *first;
}

/* What the first of them has lost besides its first block. */
enum further_loss {
    NOTHING_MORE,
    MIDDLE_BLOCK,
    ALL_GROUPS
};

static const struct spares_row {
    const char *name;
    enum further_loss loss;
    unsigned segments;
    bool has_footers;
} spares_rows[] = {
    { "one segment", NOTHING_MORE, 1, false },
    { "two segments", NOTHING_MORE, 2, false },
    { "three segments", NOTHING_MORE, 3, false },
    { "one segment with a footer", NOTHING_MORE, 1, true },
    { "two segments with footers", NOTHING_MORE, 2, true },
    { "three segments with footers", NOTHING_MORE, 3, true },
    { "a block of two segments", MIDDLE_BLOCK, 2, false },
    { "a block of three segments", MIDDLE_BLOCK, 3, false },
    { "a block of four segments", MIDDLE_BLOCK, 4, false },
    { "a block of two segments with footers", MIDDLE_BLOCK, 2, true },
    { "a block of three segments with footers", MIDDLE_BLOCK, 3, true },
    { "a block of four segments with footers", MIDDLE_BLOCK, 4, true },
    { "all groups of the first of two segments", ALL_GROUPS, 2, false },
    { "all groups of the first of three segments", ALL_GROUPS, 3, false },
    { "all groups of the first of four segments", ALL_GROUPS, 4, false },
    { "all groups of the first of two segments with footers", ALL_GROUPS, 2, true },
    { "all groups of the first of three segments with footers", ALL_GROUPS, 3, true },
    { "all groups of the first of four segments with footers", ALL_GROUPS, 4, true },
};

TEST_EACH(segments_are_rescued_without_their_first_groups, spares_rows)
{
    const struct twinlog_segment first = make_spares(row->segments, row->has_footers);
    const char *path = log_file(first.file);
    uint64_t lost = 0; /* besides the first record of each segment */

    if (row->loss == MIDDLE_BLOCK) {
        patch_file(path, 8 * BLOCK_BYTES, zeros, BLOCK_BYTES);
        lost = 2;
    }
    if (row->loss == ALL_GROUPS) {
        patch_file(path, BLOCK_BYTES, zeros, 14 * BLOCK_BYTES);
        lost = first.last_lsn - first.first_lsn;
    }

    expect_rescued(first.first_lsn, 150);
    ck_assert_uint_eq(result.lost_records, lost + row->segments);
}

/* Files that are no part of the log any more. */
static const struct retired_row {
    const char *name;
    unsigned before;      /* records that were appended first, */
    uint8_t type;         /* and their type */
    unsigned kept;        /* number of their segment that is kept, */
    bool is_kept_alone;   /* as the only retired file, */
    bool is_before_reset; /* from before a reset */
} retired_rows[] = {
    { "files of before a reset", 200, 0, 0, false, true },
    { "files of records that were trimmed", 200, 1, 0, false, false },
    { "the first file of records that were trimmed", 200, 1, 0, true, false },
    { "a file that was a spare at a reset", 1, 0, 1, true, true },
};

/* Leaves one retired file, as it was at the first copy; under a new name, because it may have been recycled. */
static void keep_only(const char *retired, const struct listing *listing)
{
    char path[700];

    for (unsigned i = 1; i < listing->count; i++)
        ck_assert_int_eq(unlink(log_file(listing->list[i].file)), 0);
    snprintf(path, sizeof(path), "%s/%s", reference_dir, retired);
    ck_assert_int_eq(rename(path, log_segment(0xf000)), 0);
}

/* The newest segment, which is the only one of the log, beside retired files. */
static struct twinlog_segment make_retired(const struct retired_row *row, uint64_t *ret_last_lsn)
{
    struct twinlog *log = open_with_spare();

    append_of_type(log, row->before, row->type);
    const struct listing first = list_segments();
    snprintf(reference_dir, sizeof(reference_dir), "%s/reference", log_parent);
    copy_directory(log_dir, reference_dir);
    if (row->is_before_reset)
        ck_assert_int_eq(twinlog_reset(log, 1), 0);
    *ret_last_lsn = append_of_type(log, 80, 1);
    const struct listing before = list_segments();
    const struct twinlog_segment newest = *find_newest(&before);
    log_trim_before(log, newest.first_lsn);
    log_close(log);

    const struct listing after = list_segments();
    ck_assert_uint_eq(after.list[0].sequence, newest.sequence);
    ck_assert_int_eq(after.list[after.count - 1].state, TWINLOG_SEGMENT_RETIRED);
    if (row->is_kept_alone)
        keep_only(first.list[row->kept].file, &after);
    return newest;
}

/* The first group of the only segment is lost. */
TEST_EACH(retired_files_do_not_pass_for_the_log, retired_rows)
{
    uint64_t last_lsn;
    const struct twinlog_segment newest = make_retired(row, &last_lsn);

    patch_file(log_file(newest.file), SEGMENT_DATA_OFFSET, garbage, sizeof(garbage));

    expect_rescued(newest.first_lsn, last_lsn);
    ck_assert_uint_gt(result.records, result.lost_records);
}

TEST_EACH(retired_files_do_not_come_back_for_a_log_of_which_nothing_is_left, retired_rows)
{
    uint64_t last_lsn;
    const struct twinlog_segment newest = make_retired(row, &last_lsn);

    ck_assert_int_eq(unlink(log_file(newest.file)), 0);

    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_open_error(NULL), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_MISSING_SEGMENT);
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_ge(losses.gaps, 1);
    ck_assert_uint_eq(result.records, 0);
}

/* The first segment file of another log. A mapped one has both headers in its first block. */
static void make_other_log(uint32_t mode, const char *file, char ret_path[700])
{
    char dir[600];
    struct twinlog *log;

    snprintf(dir, sizeof(dir), "%s/other%u", log_parent, mode);
    ck_assert_int_eq(twinlog_open(dir, &WITH_SIZE(options, .mode = mode), &log), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    snprintf(ret_path, 700, "%s/%s", dir, file);
}

/* The oldest file gets the header of another one, and nothing is lost. */
static void expect_second_header_to_count(const char *from, bool is_sound)
{
    char first[600], reference[600];

    snprintf(first, sizeof(first), "%s", log_segment(1));
    snprintf(reference, sizeof(reference), "%s%s", reference_dir, strrchr(first, '/'));
    copy_block(first, from);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), is_sound ? 0 : TWINLOG_ECORRUPT);
    expect_loss(0, 0);
    remove_copy();
    copy_block(first, reference);
}

TEST(a_header_of_another_file_of_the_log_gives_way_to_the_second_one)
{
    make_damageable();
    const struct listing listing = list_segments();

    expect_second_header_to_count(log_file(listing.list[0].file), true); /* its own */
    for (unsigned i = 1; i < listing.count; i++)
        expect_second_header_to_count(log_file(listing.list[i].file), false);
}

TEST(a_header_of_another_log_gives_way_to_the_second_one)
{
    char durable[700], mapped[700];

    make_damageable();
    make_other_log(TWINLOG_MODE_DURABLE, "0000000000000001.twl", durable);
    make_other_log(TWINLOG_MODE_MAPPED, "0000000000000002.twl", mapped);

    expect_second_header_to_count(durable, false);
    expect_second_header_to_count(mapped, false);
}

static void expect_loss_without_headers(const struct twinlog_segment *segment)
{
    patch_file(log_file(segment->file), 0, garbage, sizeof(garbage));
    patch_file(log_file(segment->file), (off_t)segment->file_bytes - BLOCK_BYTES, garbage, sizeof(garbage));
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_eq(losses.list[0].finding, TWINLOG_FOUND_BAD_HEADER);
    ck_assert_uint_eq(losses.list[0].first_lsn, segment->first_lsn);
    ck_assert_uint_eq(losses.list[0].last_lsn, segment->last_lsn);
}

/* The last block of a shortened file is no footer block, whatever is in it. */
TEST(the_end_of_a_mapped_file_is_not_taken_for_a_second_header)
{
    unsigned char block[BLOCK_BYTES] = { 0 };
    struct twinlog *log = log_open(&LOG_OPTIONS(.mode = TWINLOG_MODE_MAPPED));

    ck_assert_int_eq(twinlog_append(log, zeros, sizeof(zeros), NULL), 0);
    log_close(log);
    const struct listing listing = list_segments();
    const struct twinlog_segment newest = *find_newest(&listing);
    struct segment_header other = { .bytes = newest.file_bytes, .sequence = 7, .segment_id = 7, .epoch = 1 };
    twl_second_header_encode(&other, block);
    patch_file(log_file(newest.file), (off_t)newest.file_bytes - BLOCK_BYTES, block, sizeof(block));
    ck_assert_int_eq(
        twinlog_verify(log_dir, &WITH_SIZE(verify_options, .each = keep_loss, .context = &losses), NULL), 0);
    ck_assert_msg(losses.count == 0, "%s", losses.list[0].text);
}

/* A segment without any header is told with the LSNs that are in it, and that those of it are lost. */
TEST(a_segment_without_both_headers_is_told_with_its_records)
{
    make_damageable();
    struct listing listing = list_segments();
    const struct twinlog_segment *segment = &listing.list[1];
    expect_loss_without_headers(segment);
    ck_assert_uint_eq(result.lost_records, segment->last_lsn - segment->first_lsn + 1);
    expect_all_but(segment->first_lsn, segment->last_lsn);
}

/* In front of its first group are no groups of the segment before, though that group begins within a block. */
TEST(a_segment_without_both_headers_is_not_told_with_records_of_another)
{
    struct twinlog *log = open_small();

    while (log_stat(log).rolls == 0)
        ck_assert_int_eq(twinlog_append(log, "small", 5, NULL), 0);
    log_close(log);
    const struct listing listing = list_segments();
    expect_loss_without_headers(&listing.list[1]);
}

static void expect_damage_behind(uint64_t last_lsn)
{
    struct twinlog_reader *reader = read_at(log_dir);
    struct twinlog_record record = { 0 };
    int error;

    while ((error = twinlog_reader_next(reader, &record)) > 0)
        continue;
    ck_assert_int_eq(error, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(record.lsn, last_lsn);
    twinlog_reader_close(reader);
}

/* The group behind it tells where the loss ends. */
TEST(what_is_told_to_be_lost_ends_before_the_next_record)
{
    static unsigned char bytes[1 << 20];
    const struct twinlog_options options = small_segments(TWINLOG_PAD);
    struct twinlog *log = log_open(&options);

    for (unsigned i = 1; i <= 6; i++) { /* each in a group of its own */
        char text[32];
        snprintf(text, sizeof(text), "record number %u", i);
        ck_assert_int_eq(twinlog_append(log, text, strlen(text), NULL), 0);
    }
    log_kill(log);

    FILE *file = fopen(log_segment(1), "r");
    const size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    const unsigned char *lost = memmem(bytes, size, "record number 4", 15);
    ck_assert_ptr_nonnull(lost);
    patch_file(log_segment(1), (off_t)align_down((uint64_t)(lost - bytes), BLOCK_BYTES), zeros, BLOCK_BYTES);

    ck_assert_int_eq(unlink(log_file("writer.lock")), 0); /* it says where the newest group is */
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_report.finding, TWINLOG_FOUND_DAMAGE);
    ck_assert_uint_eq(log_report.first_lsn, 4);
    ck_assert_uint_eq(log_report.last_lsn, 4);
}

/* Nothing but the footer of the newest segment tells that it was started: it is no spare, and the log does not end in
 * front of it. */
TEST(a_sealed_segment_without_any_group_is_damage)
{
    const struct twinlog_options options = small_segments(0);
    struct twinlog *log = log_open(&options);

    fill(log, 0);
    log_close(log);
    struct listing listing = list_segments();
    const struct twinlog_segment *sealed = &listing.list[1];
    ck_assert_int_eq(sealed->state, TWINLOG_SEGMENT_SEALED);
    for (unsigned i = 2; i < listing.count; i++)
        ck_assert_int_eq(unlink(log_file(listing.list[i].file)), 0);
    patch_file(log_file(sealed->file), SEGMENT_DATA_OFFSET, zeros, sealed->data_bytes);

    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_DAMAGE);
    ck_assert_uint_eq(log_report.first_lsn, sealed->first_lsn);
    ck_assert_uint_eq(log_report.last_lsn, sealed->last_lsn);
    expect_damage_behind(sealed->first_lsn - 1);
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_eq(losses.count, 1);
    ck_assert_uint_eq(losses.list[0].first_lsn, sealed->first_lsn);
    ck_assert_uint_eq(losses.list[0].last_lsn, sealed->last_lsn);
    ck_assert_uint_eq(result.last_lsn, sealed->last_lsn);
}

/* Only the names are lost with it. */
TEST(the_state_of_another_log_is_not_believed)
{
    char other[400], path[700];

    make_damageable();
    snprintf(other, sizeof(other), "%s/other", log_parent);
    snprintf(path, sizeof(path), "%s/%s", other, STATE_NAME);
    struct twinlog *log = open_at(other);
    ck_assert_int_eq(twinlog_meta_set(log, "not", "ours", 4), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(unlink(log_file(STATE_NAME)), 0);
    ck_assert_int_eq(link(path, log_file(STATE_NAME)), 0);
    ck_assert_int_lt(twinlog_verify(log_dir, NULL, NULL), 0);
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_eq(losses.count, 1);
    ck_assert_uint_eq(losses.list[0].finding, TWINLOG_FOUND_BAD_STATE);
    expect_all_but(0, 0);
    struct twinlog *copy = open_at(copy_dir);
    ck_assert_int_eq(twinlog_cursor_get(copy, "cursor", &(uint64_t){ 0 }), -ENOENT);
    ck_assert_int_eq(twinlog_meta_get(copy, "not", NULL, 0, NULL), -ENOENT);
    ck_assert_int_eq(twinlog_close(copy), 0);
}

static unsigned reads_left;

static int fail_read(const struct hooked_call *call)
{
    return call->op == SIM_READ && reads_left > 0 && --reads_left == 0 ? -EIO : 0;
}

/* Half of a segment is lost, and the last record, behind which is nothing but a spare. A cursor has passed it. */
static void make_holes(void)
{
    struct twinlog_options options = small_segments(0);
    size_t size;

    make_damageable();
    options.spare_segments = 1;
    struct twinlog *log = log_open(&options);
    AWAIT(log_stat(log).spare_segments == 1);
    log_close(log);
    const struct listing listing = list_segments();
    const struct twinlog_segment *newest = find_newest(&listing);
    const off_t last = find_record(log_file(newest->file), 299, &size);
    patch_file(log_file(newest->file), last, zeros, newest->file_bytes - SEGMENT_FOOTER_BYTES - (size_t)last);
    patch_file(log_segment(2), 16 * 1024, zeros, 32 * 1024);
}

/* Of a segment in the middle the footer is lost, and its last group: what tells that is where the next one begins. */
static void make_unsealed_hole(void)
{
    struct segment_footer footer;
    struct walked walked;

    make_damageable();
    walk_segment(&walked, log_dir, 2);
    ck_assert_int_eq(twl_segment_read_footer(&walked.segment, &footer), 1);
    walk_to_group(&walked, footer.last_lsn);
    const uint64_t last_group = walked.iter.group_offset, data_end = walked.segment.data_end;
    leave_segment(&walked);
    patch_file(log_segment(2), (off_t)last_group, zeros, data_end - last_group);
    patch_file(log_segment(2), (off_t)data_end, zeros, SEGMENT_FOOTER_BYTES);
}

static void make_two_spares(void)
{
    make_spares(2, false);
}

static const struct failing_row {
    const char *name;
    void (*make)(void);
    bool
        may_pass; /* no segment looks started; then a look whether the state has changed meanwhile may fail */
} failing_rows[] = {
    { "half of a segment is lost, and the last record", make_holes, false },
    { "the last group of a segment is lost", make_unsealed_hole, false },
    { "no segment looks started", make_two_spares, true },
};

/* It is neither an end nor less damage, and verify tells it. */
TEST_EACH(a_read_that_fails_is_told_by_verify, failing_rows)
{
    const struct twinlog_verify_options verify =
        WITH_SIZE(verify_options, .each = keep_loss, .context = &losses);
    unsigned reads = 0;

    row->make();
    do {
        reads_left = ++reads;
        losses = (struct losses){ 0 };
        const int rc = twl_verify(hooked_log_dir(fail_read), &verify, NULL);
        const bool has_failed = reads_left == 0;
        if (rc != TWINLOG_ECORRUPT || (has_failed && !row->may_pass))
            ck_assert_int_eq(rc, -EIO);
        ck_assert(has_failed || rc == TWINLOG_ECORRUPT);
        ck_assert_int_eq(losses.list[losses.count - 1].error, rc);
    } while (reads_left == 0);
    ck_assert_uint_gt(reads, 20);
}

TEST_EACH(a_read_that_fails_ends_a_repair, failing_rows)
{
    const struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    unsigned reads = 0;

    row->make();
    do {
        struct simdisk *to = make_simdisk();
        reads_left = ++reads;
        const int rc = twl_repair(hooked_log_dir(fail_read), simdisk_connect(to), &options, &result);
        const bool has_failed = reads_left == 0;
        if (rc != 0 || (has_failed && !row->may_pass))
            ck_assert_int_eq(rc, -EIO);
        ck_assert(has_failed || rc == 0);
        simdisk_destroy(to);
    } while (reads_left == 0);
    ck_assert_uint_gt(reads, 20);
}

static int roll_and_exit(void)
{
    const struct twinlog_options options = small_segments(0);
    struct twinlog *log;

    if (twinlog_open(log_dir, &options, &log) != 0)
        return 1;
    while (log_stat(log).rolls == 0)
        if (twinlog_append(log, garbage, sizeof(garbage), NULL) != 0)
            return 1;
    while (list_segments().list[0].state != TWINLOG_SEGMENT_SEALED)
        usleep(1000);
    return 0;
}

/* The newest segment has one group and no header. The footer of the segment in front proves that group. */
TEST(a_newest_segment_of_one_group_is_rescued_without_its_header)
{
    ck_assert_int_eq(run_child(roll_and_exit), 0);
    struct listing listing = list_segments();
    ck_assert_uint_eq(listing.list[1].state, TWINLOG_SEGMENT_ACTIVE);
    const uint64_t appended_lsn = listing.list[1].last_lsn;
    patch_file(log_file(listing.list[1].file), 0, garbage, sizeof(garbage));
    ck_assert_int_eq(repair(0), 0);
    ck_assert_uint_eq(result.last_lsn, appended_lsn);
    ck_assert_uint_eq(result.records, appended_lsn);
    ck_assert_uint_eq(losses.count + losses.gaps, 0);
}

TEST(repair_needs_a_log_without_a_writer)
{
    ck_assert_int_eq(repair(0), -ENOENT);
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
    ck_assert_int_eq(repair(0), -ENOENT);
    put_file(log_segment(1), garbage, sizeof(garbage));
    ck_assert_int_eq(repair(0), TWINLOG_ECORRUPT);
    ck_assert_int_eq(unlink(log_segment(1)), 0);
    struct twinlog *log = log_open(NULL);
    ck_assert_int_eq(repair(0), -EBUSY);
    log_close(log);
    ck_assert_int_eq(repair(0), 0);
    ck_assert_int_eq(repair(0), -ENOTEMPTY);
}

static struct {
    struct twinlog *log;
    bool goes, has_come;
} beside;

static void come_once(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)context;
    (void)done_bytes;
    (void)total_bytes;

    if (beside.has_come)
        return;
    beside.has_come = true;
    beside.log = log_open(NULL);
    if (!beside.goes)
        return;
    ck_assert_int_eq(twinlog_truncate(beside.log, 200), 0);
    append_records(beside.log, 1, 0, 100);
    log_close(beside.log);
}

static void expect_to_be_in_the_way(void)
{
    const struct twinlog_repair_options options = WITH_SIZE(repair_options, .progress = come_once);

    make_damageable();
    ck_assert_int_eq(twinlog_repair(log_dir, copy_dir, &options, NULL), -EBUSY);
    ck_assert(beside.has_come);
}

TEST(a_writer_that_comes_while_repair_reads_is_in_the_way)
{
    expect_to_be_in_the_way();
    log_close(beside.log);
}

TEST(a_writer_that_comes_and_goes_while_repair_reads_was_in_the_way)
{
    beside.goes = true;
    expect_to_be_in_the_way();
}

TEST(the_caller_can_end_a_repair)
{
    make_damageable();
    ck_assert_int_eq(unlink(log_segment(2)), 0);
    ck_assert_int_eq(repair(23), 23);
    ck_assert_uint_eq(losses.count + losses.gaps, 1);
}
