/* SPDX-License-Identifier: Apache-2.0 */
/* What a crash may have discarded is not saved, and what was removed in front of the head does not come back. */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"
#include "verdicts.h"

#include "base/base.h"
#include "format/format.h"
#include "io/io.h"

#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- in front of the head ------------------------------------------------------------------------- */

/* Moves the head into that segment, to the third record of a batch. */
static void remove_front(const struct twinlog_segment *segment)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);

    first_lsn = (segment->first_lsn + 14) / 10 * 10 + 3;
    ck_assert_uint_lt(first_lsn + BATCH, segment->last_lsn);
    put_sound_log();
    struct twinlog *log = log_open(&options);
    log_trim_before(log, first_lsn);
    log_close(log);
    remove_tree(sound_dir);
    ck_assert_int_eq(rename(log_dir, sound_dir), 0);
}

#define FAR (-7)     /* from the head: alone in its group */
#define FIRST (-999) /* the first group of the segment */

static const struct front_row {
    const char *name;
    int from_head; /* which record */
    int distance;
    int verify;      /* opening says the same if it is the newest segment */
    unsigned lost;   /* records */
    bool may_be_led; /* the index of a sealed segment may lead readers past it */
} front_rows[] = {
    { "a removed record", FAR, IN_PAYLOAD, 0, 0, false },
    { "the header of a removed record", FAR, IN_RECORD_HEADER, 0, 0, false },
    { "the header of a removed group", FAR, IN_GROUP_HEADER, 0, 0, false },
    { "the header of the first group", FIRST, IN_GROUP_HEADER, 0, 0, false },
    { "a removed record of the head's group", -1, IN_PAYLOAD, 0, 0, false },
    { "the header of such a record", -1, IN_RECORD_HEADER, TWINLOG_ECORRUPT, 0, true },
    { "the header of the head's group", -2, IN_GROUP_HEADER, TWINLOG_ECORRUPT, 0, false },
    { "the head", 0, IN_PAYLOAD, TWINLOG_ECORRUPT, 1, false },
    { "the record behind it", 1, IN_PAYLOAD, TWINLOG_ECORRUPT, 1, false },
};

#define FRONT_ROWS (sizeof(front_rows) / sizeof(front_rows[0]))

static const struct head_row {
    const char *name;
    enum where where;
} head_rows[] = {
    { "the head is in the newest segment", NEWEST },
    { "the head is in a middle segment", MIDDLE },
};

static int back_up(void)
{
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;

    return twinlog_backup(log_dir, repaired_dir, &WITH_SIZE(backup_options, .flags = TWINLOG_BACKUP_COPY),
                          &result);
}

static void check_front(const struct front_row *row, unsigned at)
{
    const bool is_newest = at + 1 == segment_count;
    const char *name = row->name;
    const uint64_t lsn = first_lsn + (row->from_head > 0 ? (uint64_t)row->from_head : 0);
    struct answers said;

    if (row->may_be_led && !is_newest)
        return;
    put_sound_log();
    if (row->from_head == FIRST)
        damage(FIRST_GROUP, &segments[at]);
    else
        flip_near(&segments[at], first_lsn + (uint64_t)(int64_t)row->from_head, row->distance);
    MUST(back_up() == row->verify);
    remove_tree(repaired_dir);
    ask_all(&said);
    check_agreement(name, at, &said);
    MUST(said.stat == (is_newest ? row->verify : 0));
    MUST(said.verify == row->verify);
    MUST(said.read == row->verify);
    MUST(row->verify == 0 || (said.read_lsn == lsn && first_verified_lsn(&said.found) == lsn));
    MUST(said.lost == row->lost);
    MUST(row->verify != 0 || (said.found.count == 0 && said.verified == RECORDS - first_lsn + 1));
}

CASE("front", verdict_set_up, logdir_remove);

TEST_EACH(what_was_removed_is_not_missed, head_rows)
{
    const unsigned at = segment_at(row->where);

    remove_front(&segments[at]);
    for (unsigned i = 0; i < FRONT_ROWS; i++)
        check_front(&front_rows[i], at);
}

/* The walk passes the removed one by its header, and names the next one. */
TEST(a_damaged_head_is_told_also_behind_a_removed_record_that_is_damaged)
{
    const unsigned at = segment_count / 2;
    struct answers said;

    remove_front(&segments[at]);
    put_sound_log();
    flip_near(&segments[at], first_lsn - 1, IN_PAYLOAD);
    flip_near(&segments[at], first_lsn, IN_PAYLOAD);

    ask_all(&said);
    check_agreement("the head", at, &said);
    ck_assert_int_eq(said.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.found.count, 1);
    ck_assert_uint_eq(said.found.list[0].first_lsn, first_lsn);
    ck_assert_uint_eq(said.found.list[0].last_lsn, first_lsn);
    ck_assert_uint_eq(said.lost, 1);
}

/* The state file has the head, also if the segment of it has lost its header. */
TEST_EACH(what_was_removed_does_not_come_back, head_rows)
{
    const unsigned at = segment_at(row->where);
    struct answers said;

    remove_front(&segments[at]);
    put_sound_log();
    damage(HEADER, &segments[at]);
    ask_all(&said);

    check_agreement("a header", at, &said);
    ck_assert_int_eq(said.stat, TWINLOG_ECORRUPT);
    ck_assert_int_eq(said.verify, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(said.verified, RECORDS - first_lsn + 1);
    ck_assert_uint_eq(said.lost, 0);
}

/* There no other segment tells which one this is, and it begins with the first group of the log. */
TEST(what_was_removed_does_not_come_back_in_one_segment)
{
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;
    struct twinlog *log = log_open(NULL);
    uint64_t records;

    append_records(log, 0, 0, 30);
    log_trim_before(log, 23);
    log_close(log);
    flip(log_segment(1), 40);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), TWINLOG_ECORRUPT);
    ck_assert_uint_eq(records, 8);
    ck_assert_int_eq(twinlog_repair(log_dir, repaired_dir, NULL, &result), 0);
    ck_assert_uint_eq(result.first_lsn, 23);
    ck_assert_uint_eq(result.records, 8);
}

static void append_more(struct twinlog *log, uint64_t count)
{
    for (uint64_t end = twinlog_last_lsn(log) + count, lsn = end - count + 1; lsn <= end;)
        lsn = append_group(log, lsn);
}

/* Verify finds so many records, and nothing to tell. */
static void expect_sound(uint64_t records)
{
    struct told found = { 0 };
    uint64_t verified;

    ck_assert_int_eq(
        twinlog_verify(log_dir, &WITH_SIZE(verify_options, .each = keep, .context = &found), &verified), 0);
    ck_assert_msg(found.count == 0, "%s", found.list[0].text);
    ck_assert_uint_eq(verified, records);
}

/* In the segment of the head, at each distance from it; and no footer leads past it. */
static void damage_front(unsigned at)
{
    put_sound_log();
    for (unsigned i = at; i + 1 < segment_count; i++) /* they are walked and sealed again */
        damage(FOOTER, &segments[i]);
    damage(FIRST_GROUP, &segments[at]);
    flip_near(&segments[at], first_lsn + (uint64_t)(int64_t)FAR, IN_GROUP_HEADER);
    flip_near(&segments[at], first_lsn + (uint64_t)(int64_t)FAR + 1, IN_RECORD_HEADER);
    flip_near(&segments[at], first_lsn - 1, IN_PAYLOAD);
}

static void expect_to_go_on(struct twinlog *log)
{
    uint64_t records;

    append_more(log, 100);
    const uint64_t end_lsn = twinlog_last_lsn(log);
    log_close(log);

    expect_sound(end_lsn - first_lsn + 1);
    ck_assert_int_eq(back_up(), 0);
    ck_assert_int_eq(twinlog_verify(repaired_dir, NULL, &records), 0);
    ck_assert_uint_eq(records, end_lsn - first_lsn + 1);
}

/* Such a log is written, sealed and copied as any other. */
TEST_EACH(damage_in_front_of_the_head_hinders_nothing, head_rows)
{
    const unsigned at = segment_at(row->where);
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);

    remove_front(&segments[at]);
    damage_front(at);

    expect_to_go_on(log_open(&options));
}

TEST(damage_in_front_of_the_head_hinders_no_truncation)
{
    const unsigned at = segment_at(NEWEST);
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);

    remove_front(&segments[at]);
    damage_front(at);

    struct twinlog *log = log_open(&options);
    ck_assert_int_eq(twinlog_truncate(log, first_lsn + 1), 0);
    expect_to_go_on(log);
}

/* Groups that a crash left behind a torn one, dead since the next opening. Sound, but not in the history. */
static void leave_groups(uint64_t first, uint64_t last, uint64_t at)
{
    static unsigned char file[SMALL_SEGMENT];
    struct segment_header header;
    struct group_header last_group = { 0 }, group;
    const char *path = log_segment(1);
    int fd = open(path, O_RDWR | O_CLOEXEC);

    ck_assert_int_eq(read(fd, file, sizeof(file)), sizeof(file));
    ck_assert_int_eq(twl_segment_header_decode(file, &header), HEADER_VALID);
    const uint32_t seed = twl_segment_seed(&header);
    for (uint64_t place = SEGMENT_DATA_OFFSET; place < sizeof(file) - GROUP_HEADER_BYTES; place += 8)
        if (twl_group_header_decode(file + place, seed, place, &group))
            last_group = group;
    group = last_group;
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        const struct record_header record = { .kind = RECORD_DATA, .size = 4, .time_ns = group.time_ns };
        group.chain = group.checksum;
        group.first_lsn = lsn;
        group.flags = 0;
        group.durable_lsn = last_group.first_lsn + last_group.count - 1;
        group.bytes = GROUP_HEADER_BYTES + (uint32_t)twl_record_bytes(record.size);
        group.count = 1;
        twl_group_header_encode(&group, seed, at, file + at);
        twl_record_encode(file + at + GROUP_HEADER_BYTES, twl_epoch_seed(header.log_id, group.epoch), lsn,
                          &record, "dead");
        at += group.bytes;
    }
    ck_assert_int_eq(pwrite(fd, file, sizeof(file), 0), sizeof(file));
    close(fd);
}

TEST(what_a_crash_left_does_not_come_back)
{
    static const unsigned char zeros[BLOCK_BYTES];
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog_entry entries[5];
    struct twinlog *log = log_open(&options);
    uint64_t lsn, records = 0;

    for (unsigned i = 0; i < 8; i++)
        ck_assert_int_eq(twinlog_append(log, "live", 4, NULL), 0);
    log_kill(log);
    leave_groups(10, 29, 3 * BLOCK_BYTES);
    log = log_open(&options);
    ck_assert_uint_eq(twinlog_last_lsn(log), 8);
    for (unsigned i = 0; i < 5; i++)
        entries[i] = (struct twinlog_entry){ .data = "live", .size = 4 };
    ck_assert_int_eq(twinlog_append_batch(log, entries, 5, NULL, NULL), 0);
    log_trim_before(log, 12);
    log_kill(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), 0);
    ck_assert_uint_eq(records, 2);
    patch_file(log_segment(1), SEGMENT_DATA_OFFSET, zeros, sizeof(zeros));
    ck_assert_int_eq(read_from_outside(&lsn), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), TWINLOG_ECORRUPT);
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
}

static const struct way_row {
    const char *name;
    uint64_t head_lsn;
    int error;
} way_rows[] = {
    { "a group behind the one at the head", 7, 0 },
    { "the group at the head is the last one", 8, TWINLOG_ECORRUPT },
};

/* A group at the head may be torn, unless one behind it tells more. The one in front of it is damaged. */
TEST_EACH(the_way_to_the_head_must_be_told_durable, way_rows)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    unsigned char bytes[PAYLOAD_BYTES];
    uint64_t lsn;

    struct twinlog *log = log_open(&options);
    for (lsn = 1; lsn <= 8; lsn++) {
        make_payload(lsn, bytes);
        ck_assert_int_eq(twinlog_append(log, bytes, sizeof(bytes), NULL), 0);
    }
    log_trim_before(log, row->head_lsn);
    log_kill(log);
    forget_note();
    make_payload(row->head_lsn - 1, bytes);
    flip(log_segment(1), find_bytes(log_segment(1), bytes, sizeof(bytes)) + IN_GROUP_HEADER);

    ck_assert_int_eq(read_from_outside(&lsn), row->error);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), row->error);
    ck_assert_int_eq(look(&lsn), row->error);
}

/* The head is in the first group of a segment; footer and index count all records of that group. */
TEST(what_was_removed_is_not_missed_by_a_footer)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);

    for (uint64_t lsn = 1; lsn <= RECORDS; lsn += BATCH)
        append_batch(log, lsn);
    log_close(log);
    segment_count = 0;
    ck_assert_int_eq(twinlog_segments(log_dir, keep_sound_segment, NULL), 0);
    const struct twinlog_segment *segment = &segments[segment_count / 2];
    ck_assert_uint_eq(segment->state, TWINLOG_SEGMENT_SEALED);
    log = log_open(&options);
    const uint64_t head_lsn = segment->first_lsn + 2;
    log_trim_before(log, head_lsn);
    log_close(log);
    flip_record(segment, segment->first_lsn);
    expect_sound(RECORDS - head_lsn + 1);
}

/* A segment without a header, behind the one of the head, is not taken for that one. */
TEST(what_is_missing_at_the_head_is_told)
{
    const unsigned at = segment_count / 2;
    struct answers said;

    remove_front(&segments[at]);
    put_sound_log();
    damage(MISSING, &segments[at]);
    damage(HEADER, &segments[at + 1]);
    ask_all(&said);
    check_agreement("both", at, &said);
    ck_assert_uint_eq(said.lost, segments[at + 1].first_lsn - first_lsn);
}

/* ---- what a crash may have discarded ---------------------------------------------------------------- */

/* Zeros from the marker of the second epoch on to there, so that nothing is left of it. */
static void wipe_second_epoch(uint64_t end)
{
    static unsigned char file[SMALL_SEGMENT];
    static const unsigned char zeros[SMALL_SEGMENT];
    struct segment_header header;
    struct group_header group;
    const char *path = log_segment(1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_eq(read(fd, file, sizeof(file)), sizeof(file));
    close(fd);
    ck_assert_int_eq(twl_segment_header_decode(file, &header), HEADER_VALID);
    uint64_t at = SEGMENT_DATA_OFFSET;
    while (at < end && !(twl_group_header_decode(file + at, twl_segment_seed(&header), at, &group) &&
                         group.epoch.number == 2))
        at += 8;
    ck_assert_uint_lt(at, end);
    patch_file(path, (off_t)at, zeros, (size_t)(end - at));
}

/* Records 1 to 8; then a crash that leaves 10 to 29, sound and dead, at that place of the file. */
static struct twinlog *open_after_crash(uint64_t at)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    struct twinlog *log = log_open(&options);

    for (unsigned i = 0; i < 8; i++)
        ck_assert_int_eq(twinlog_append(log, "live", 4, NULL), 0);
    log_kill(log);
    leave_groups(10, 29, at);
    return log_open(&options);
}

static const struct twinlog_report *find_doubt(const struct told *told)
{
    for (unsigned i = 0; i < told->count && i < 64; i++)
        if (strstr(told->list[i].text, "may have discarded"))
            return &told->list[i];
    return NULL;
}

static struct twinlog_repair_result repair_what_is_left(struct told *found, struct told *losses)
{
    struct twinlog_verify_options verifying = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;

    *found = *losses = (struct told){ 0 };
    verifying.each = options.each = keep;
    verifying.context = found;
    options.context = losses;
    ck_assert_int_eq(twinlog_verify(log_dir, &verifying, NULL), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twinlog_repair(log_dir, repaired_dir, &options, &result), 0);
    ck_assert_int_eq(twinlog_verify(repaired_dir, NULL, NULL), 0);
    return result;
}

CASE("discarded", verdict_set_up, logdir_remove);

/* A cursor proves that the second epoch had records 9 to 14. Of that epoch nothing is left. */
static void lose_second_epoch(void)
{
    struct twinlog *log = open_after_crash(4 * BLOCK_BYTES);

    append_batch(log, 9);
    append_batch(log, 13);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 14), 0);
    log_kill(log);
    wipe_second_epoch(4 * BLOCK_BYTES);
}

static void expect_second_epoch_lost(const struct twinlog_repair_result *result, const struct told *found,
                                     const struct told *losses)
{
    ck_assert_uint_eq(result->records, 8);
    ck_assert_uint_eq(result->last_lsn, 14);
    ck_assert_uint_eq(result->lost_records, 6);
    ck_assert(is_lost(losses, 9) && is_lost(losses, 14));
    ck_assert(is_lost(found, 9) && is_lost(found, 14));
}

static void expect_doubt(const struct told *told, uint64_t last_lsn_in_doubt, uint64_t offset)
{
    const struct twinlog_report *doubt = find_doubt(told);

    ck_assert_ptr_nonnull(doubt);
    ck_assert_int_eq(doubt->error, TWINLOG_ECORRUPT);
    ck_assert_uint_eq(doubt->first_lsn, 10);
    ck_assert_uint_eq(doubt->last_lsn, last_lsn_in_doubt);
    ck_assert_uint_eq(doubt->offset, offset);
}

/* Nothing tells whether those behind its place are dead. */
TEST(what_a_crash_may_have_discarded_is_not_saved)
{
    struct told found, losses;

    lose_second_epoch();
    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);

    expect_second_epoch_lost(&result, &found, &losses);
    expect_doubt(&found, 29, 4 * BLOCK_BYTES);
    expect_doubt(&losses, 29, 4 * BLOCK_BYTES);
}

/* They are searched one by one, up to the cursor. */
TEST(what_a_crash_may_have_discarded_is_not_saved_without_the_headers_of_its_groups)
{
    static const unsigned char zeros[GROUP_HEADER_BYTES];
    const off_t group_bytes = (off_t)(GROUP_HEADER_BYTES + twl_record_bytes(4));
    struct told found, losses;

    lose_second_epoch();
    for (unsigned i = 0; i < 20; i++)
        patch_file(log_segment(1), 4 * BLOCK_BYTES + i * group_bytes, zeros, sizeof(zeros));
    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);

    expect_second_epoch_lost(&result, &found, &losses);
    expect_doubt(&losses, 14, 4 * BLOCK_BYTES + GROUP_HEADER_BYTES);
}

static const struct footer_row {
    const char *name;
    bool has_footer;
} footer_rows[] = {
    { "the footer says where the groups of the segment end", true },
    { "without the footer nothing does", false },
};

/* The second epoch goes on in the next segment. */
TEST_EACH(what_a_crash_may_have_discarded_is_not_saved_in_front_of_a_segment, footer_rows)
{
    static const unsigned char large[18000];
    struct told found, losses;

    struct twinlog *log = open_after_crash(13 * BLOCK_BYTES);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(twinlog_append(log, large, sizeof(large), NULL), 0);
    log_close(log);
    segment_count = 0;
    ck_assert_int_eq(twinlog_segments(log_dir, keep_sound_segment, NULL), 0);
    ck_assert_uint_eq(segments[0].state, TWINLOG_SEGMENT_SEALED);
    ck_assert_uint_eq(segments[1].first_lsn, 11);
    wipe_second_epoch(13 * BLOCK_BYTES);
    if (!row->has_footer)
        damage(FOOTER, &segments[0]);

    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);
    ck_assert_uint_eq(result.records, 10);
    ck_assert_uint_eq(result.last_lsn, 12);
    ck_assert_uint_eq(result.lost_records, 2);
    ck_assert(is_lost(&losses, 9) && is_lost(&losses, 10));
    ck_assert_int_eq(find_doubt(&losses) == NULL, row->has_footer);
    ck_assert_int_eq(find_doubt(&found) == NULL, row->has_footer);
}

/* Nothing but the cursor proves these: it was set in their epoch. No other one can have begun in front of them. */
TEST(what_no_crash_can_have_discarded_is_saved)
{
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    unsigned char bytes[PAYLOAD_BYTES];
    struct told found, losses;
    struct twinlog *log = log_open(&options);
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);

    for (uint64_t lsn = 1; lsn <= 28; lsn++) {
        make_payload(lsn, bytes);
        const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 20), 0);
    log_kill(log);
    make_payload(9, bytes);
    flip(log_segment(1), find_bytes(log_segment(1), bytes, sizeof(bytes)) + IN_PAYLOAD);
    make_payload(12, bytes);
    flip(log_segment(1), find_bytes(log_segment(1), bytes, sizeof(bytes)) + IN_GROUP_HEADER);
    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);
    ck_assert_uint_eq(result.records, 27);
    ck_assert_uint_eq(result.last_lsn, 28);
    ck_assert_uint_eq(losses.count, 1);
    ck_assert(is_lost(&losses, 9));
}

static const struct named_row {
    const char *name;
    bool has_records;
    uint64_t saved;
} named_rows[] = {
    { "the records are whole", true, 8 },
    { "the records are gone", false, 4 },
};

/* The groups of 5 to 11 are damaged. That of 12 may have been discarded, but it names 8 as durable: up to there all is
 * saved, or lost. */
TEST_EACH(what_a_discarded_group_names_as_durable_is_not_forgotten, named_rows)
{
    static const unsigned char zeros[PAYLOAD_BYTES];
    const struct twinlog_options options = options_with(TWINLOG_BUFFERED);
    const struct twinlog_terms terms = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);
    unsigned char bytes[PAYLOAD_BYTES];
    struct told found, losses;

    struct twinlog *log = log_open(&options);
    for (uint64_t lsn = 1; lsn <= 12; lsn++) {
        make_payload(lsn, bytes);
        const struct twinlog_entry entry = { .data = bytes, .size = sizeof(bytes) };
        ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, &terms, NULL), 0);
        if (lsn == 8)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }
    log_kill(log);
    for (uint64_t lsn = 5; lsn <= 11; lsn++) {
        make_payload(lsn, bytes);
        const off_t at = find_bytes(log_segment(1), bytes, sizeof(bytes));
        flip(log_segment(1), at + IN_GROUP_HEADER);
        if (!row->has_records)
            patch_file(log_segment(1), at, zeros, sizeof(zeros));
    }

    const struct twinlog_repair_result result = repair_what_is_left(&found, &losses);
    ck_assert_uint_eq(result.records, row->saved);
    ck_assert_uint_eq(result.last_lsn, 8);
    ck_assert(is_lost(&found, 5) && is_lost(&found, 8));
    ck_assert_int_eq(is_lost(&losses, 5), !row->has_records);
    ck_assert_int_eq(is_lost(&losses, 8), !row->has_records);
    ck_assert_ptr_nonnull(find_doubt(&losses));
}
