/* SPDX-License-Identifier: Apache-2.0 */
/* Wherever the writer's note points, the end of the log is where it was, and every record is found. */
#include "../sim/seals.h"
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "recover/recover.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SEGMENT = 1 << 20,
    DEAD = 4, /* records that a crash takes */
    WRONG = 5 /* places where no note points */
};

static struct twinlog_options options_with(uint32_t flags)
{
    return WITH_SIZE(options, .segment_bytes = SEGMENT, .buffer_bytes = 64 << 10,
                     .max_record_bytes = 16 << 10, .flags = TWINLOG_BUFFERED | flags);
}

static struct segment_set load(struct io *io)
{
    struct twinlog_report report;
    struct segment_set set;

    io->reads_disk = true;
    ck_assert_int_eq(twl_segment_set_open(io, SET_FOR_READING, NULL, &set, &report), 0);
    return set;
}

static uint64_t find_group_of(uint64_t lsn)
{
    struct walked walked;

    walk_segment(&walked, log_dir, 1);
    walk_to_group(&walked, lsn);
    const uint64_t offset = walked.iter.group_offset;
    leave_segment(&walked);
    return offset;
}

static void spoil_record(uint64_t lsn)
{
    patch_file(log_segment(1), (off_t)(find_group_of(lsn) + GROUP_HEADER_BYTES + RECORD_HEADER_BYTES), "?",
               1);
}

/* Records that are written and not synced; then the first of them is torn, as by a power cut. */
static void lose_some(struct twinlog *log)
{
    struct twinlog_terms written = WITH_SIZE(terms, .level = TWINLOG_LEVEL_WRITTEN);
    const uint64_t lost_lsn = twinlog_last_lsn(log) + 1;

    for (unsigned i = 0; i < DEAD; i++)
        ck_assert_int_eq(twinlog_append_batch(log, &(struct twinlog_entry){ .data = "dead", .size = 4 }, 1,
                                              &written, NULL),
                         0);
    log_kill(log);
    spoil_record(lost_lsn);
}

static void append_some(struct twinlog *log, size_t bytes)
{
    static const unsigned char payload[16 << 10];
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(twinlog_append(log, payload, bytes, NULL), 0);
}

/* Lives of all kinds in one segment: closed, killed, with groups that a power cut left behind a torn one. */
static void make_log(uint32_t flags, bool is_closed)
{
    const struct twinlog_options options = options_with(flags);
    struct twinlog *log = log_open(&options);

    append_some(log, 100);
    lose_some(log);
    log = log_open(&options);
    append_some(log, 10);
    log_close(log);
    log = log_open(&options);
    append_some(log, 1500);
    log_kill(log);
    log = log_open(&options);
    append_some(log, 1);
    lose_some(log);
    log = log_open(&options);
    append_some(log, 30);
    if (is_closed)
        log_close(log);
    else
        lose_some(log);
}

static bool is_same(const struct recovery *a, const struct recovery *b)
{
    return a->offset == b->offset && a->has_junk == b->has_junk && a->last_group == b->last_group &&
           a->position.next_lsn == b->position.next_lsn && a->position.chain == b->position.chain &&
           is_same_epoch(a->position.epoch, b->position.epoch) && a->marked_lsn == b->marked_lsn &&
           a->report.finding == b->report.finding && a->report.action == b->report.action;
}

static void set_up(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    logdir_make();
}

CASE("note", set_up, logdir_remove);

/* Does something begin there that may be taken for a group? */
static bool may_be_group(const struct segment *segment, uint64_t at)
{
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header group;
    size_t size;

    ck_assert_int_eq(io_read(segment->file, bytes, sizeof(bytes), at, &size), 0);
    return twl_group_header_decode(bytes, segment->seed, at, &group);
}

/* Of a note: wrong ones, every one that may be a group, and some others. */
static size_t choose_places(const struct segment *segment, uint64_t end, uint64_t step, uint64_t places[1000])
{
    static const uint64_t wrong[WRONG] = { 1, SEGMENT_DATA_OFFSET + 4, SEGMENT, UINT64_MAX - 7, UINT64_MAX };
    size_t count = WRONG;

    memcpy(places, wrong, sizeof(wrong));
    for (uint64_t at = 0; at < end; at += 8)
        if (at % step == 0 || may_be_group(segment, at)) {
            ck_assert_uint_lt(count, 1000);
            places[count++] = at;
        }
    return count;
}

static const struct {
    const char *name;
    uint32_t flags;
    bool is_closed;
    uint32_t epoch; /* of the note */
} noted_logs[] = {
    { "left by a dead writer", 0, false, 0 },
    { "padded, left by a dead writer", TWINLOG_PAD, false, 1 },
    { "closed", 0, true, 2 },
    { "padded, closed", TWINLOG_PAD, true, 3 },
};

TEST_EACH(wherever_it_points_the_end_is_the_same, noted_logs)
{
    struct recovery expected, found;
    struct segment segment;
    uint64_t places[1000];
    unsigned believed = 0;

    make_log(row->flags, row->is_closed);
    struct io *io = log_io(false);
    struct segment_set set = load(io);
    ck_assert_uint_eq(set.started, 1);
    ck_assert_int_eq(twl_recover(io, &set, false, NULL, &expected), 0);
    ck_assert_int_eq(twl_segment_open_entry(io, &set.entries[0], &segment), 0);
    struct summary *summary = malloc(sizeof(*summary));
    const size_t count = choose_places(&segment, expected.offset + 4 * BLOCK_BYTES, 2048, places);
    for (size_t i = 0; i < count; i++) {
        set.note =
            (struct note){ .segment_id = segment.header.segment_id, .group = places[i], .epoch = row->epoch };
        ck_assert_int_eq(twl_recover(io, &set, false, summary, &found), 0);
        ck_assert_msg(is_same(&found, &expected), "a note that points to %llu",
                      (unsigned long long)places[i]);
        ck_assert(i >= WRONG || summary->indexed_lsn == 0);
        believed += summary->indexed_lsn > 0;
    }
    ck_assert_uint_gt(believed, 20);
    free(summary);
    twl_segment_close(&segment);
    twl_segment_set_free(&set);
    io->ops->destroy(io);
}

static void store_note(const struct note *note)
{
    patch_file(log_file(PAGE_FILE_NAME), offsetof(struct page_words, noted_segment), &note->segment_id, 8);
    patch_file(log_file(PAGE_FILE_NAME), offsetof(struct page_words, noted_group), &note->group, 8);
    patch_file(log_file(PAGE_FILE_NAME), offsetof(struct page_words, noted_records), &note->records, 8);
}

static void expect_record(struct twinlog *log, uint64_t lsn)
{
    static unsigned char bytes[16 << 10];
    struct twinlog_record record;
    const int rc = twinlog_read(log, lsn, bytes, sizeof(bytes), &record);

    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(record.lsn, lsn);
}

static int refuse_finding(void *context, const struct twinlog_report *finding)
{
    (void)context;
    ck_abort_msg("%s", finding->text);
    return 0;
}

static int keep_first(void *context, const struct twinlog_segment *segment)
{
    struct twinlog_segment *first = context;

    if (segment->sequence == 1)
        *first = *segment;
    return 0;
}

/* The record that the reader gets that wants `lsn`; 0 = none. */
static uint64_t seek(struct twinlog_reader *reader, uint64_t lsn)
{
    struct twinlog_record record = { 0 };

    ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
    ck_assert_int_ge(twinlog_reader_next(reader, &record), 0);
    return record.lsn;
}

static uint64_t read_from(uint64_t lsn)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    const uint64_t found_lsn = seek(reader, lsn);

    twinlog_reader_close(reader);
    return found_lsn;
}

/* Forth and back, nearer each time. */
static void expect_at_each_place(const uint64_t expected[64], uint64_t last_lsn)
{
    struct twinlog_reader *reader = log_reader(0, 0);
    uint64_t low = 1, high = last_lsn;

    while (low <= high) {
        ck_assert_uint_eq(seek(reader, low), expected[low]);
        ck_assert_uint_eq(seek(reader, high), expected[high]);
        low++;
        high--;
    }
    twinlog_reader_close(reader);
}

static const struct {
    const char *name;
    bool is_closed;
} ends[] = {
    { "left by a dead writer", false },
    { "closed", true },
};

TEST_EACH(wherever_it_points_a_reader_begins_at_its_record, ends)
{
    struct segment segment;
    uint64_t expected[64], places[1000], last_lsn = 0;

    make_log(0, row->is_closed);
    struct io *io = log_io(false);
    struct segment_set set = load(io);
    ck_assert_int_eq(twl_segment_open_entry(io, &set.entries[0], &segment), 0);
    struct note note = { .segment_id = segment.header.segment_id };
    store_note(&note);
    while (last_lsn + 1 < 64 && (expected[last_lsn + 1] = read_from(last_lsn + 1)) > 0)
        last_lsn++;
    ck_assert_uint_ge(last_lsn, 25);
    ck_assert_uint_lt(last_lsn, 63);
    const size_t count = choose_places(&segment, 128 << 10, 12 << 10, places);
    for (size_t place = 0; place < count; place++) {
        note.records = places[place];
        store_note(&note);
        for (uint64_t lsn = 1; lsn <= last_lsn; lsn++)
            ck_assert_uint_eq(read_from(lsn), expected[lsn]);
        expect_at_each_place(expected, last_lsn);
    }
    twl_segment_close(&segment);
    twl_segment_set_free(&set);
    io->ops->destroy(io);
}

TEST(damage_hides_no_record_behind_it_from_a_reader_that_jumps)
{
    const struct twinlog_options options = options_with(0);
    struct twinlog *log = log_open(&options);

    for (unsigned i = 0; i < 6; i++)
        append_some(log, 12000);
    log_kill(log);
    struct io *io = log_io(false);
    struct segment_set set = load(io);
    store_note(&(struct note){ .segment_id = set.entries[0].header.segment_id,
                               .group = find_group_of(30),
                               .records = find_group_of(30) });
    twl_segment_set_free(&set);
    io->ops->destroy(io);
    patch_file(log_segment(1), (off_t)find_group_of(3) + 16, "?", 1);
    struct twinlog_reader *reader = log_reader(0, 0);
    for (uint64_t i = 0; i < 40; i++) {
        const uint64_t lsn = i % 2 ? 30 - i / 8 : 8 + i / 8;
        ck_assert_uint_eq(seek(reader, lsn), lsn);
    }
    twinlog_reader_close(reader);
}

static uint64_t id_of_first_segment(void)
{
    struct io *io = log_io(false);
    struct segment_set set = load(io);
    const uint64_t segment_id = set.entries[0].header.segment_id;

    twl_segment_set_free(&set);
    io->ops->destroy(io);
    return segment_id;
}

static const struct {
    const char *name;
    bool has_useless_note;
} notes_of_closed_logs[] = {
    { "the note is that of the writer", false },
    { "the note points to nothing", true },
};

/* The index of what an opening has passed by is made before the segment is sealed, and readers find each record. */
TEST_EACH(what_was_passed_by_is_indexed_later, notes_of_closed_logs)
{
    const struct twinlog_options options = options_with(0);
    struct twinlog_verify_options verifying = TWINLOG_VERIFY_OPTIONS_INIT;
    struct twinlog_segment first = { 0 };
    uint64_t records = 0;

    make_log(0, true);
    const struct note nothing = { .segment_id = id_of_first_segment(), .group = 8, .records = 8 };
    if (row->has_useless_note)
        store_note(&nothing);
    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 100; i++)
        append_some(log, 16000);
    const uint64_t last_lsn = twinlog_last_lsn(log);
    for (uint64_t lsn = last_lsn; lsn > 0; lsn -= lsn < 40 ? 1 : 7)
        expect_record(log, lsn);
    log_close(log);

    verifying.each = refuse_finding;
    ck_assert_int_eq(twinlog_verify(log_dir, &verifying, &records), 0);
    ck_assert_uint_eq(records, last_lsn);
    ck_assert_ptr_null(find_false_seal(log_io(false)));
    ck_assert_int_eq(twinlog_segments(log_dir, keep_first, &first), 0);
    ck_assert_uint_eq(first.state, TWINLOG_SEGMENT_SEALED);
    ck_assert_uint_eq(first.first_lsn, 1);
}

/* The note may be newer than the watermark that the same look has found: a list or an inspection says less then. */
TEST(what_is_noted_behind_the_watermark_is_not_listed)
{
    const struct twinlog_options options = options_with(0);
    struct twinlog *log = log_open(&options);

    for (unsigned i = 0; i < 4; i++)
        append_some(log, 100);
    for (uint64_t lsn = twinlog_last_lsn(log) - 1; lsn > 0; lsn--) {
        const uint64_t words[] = { lsn, ~lsn };
        struct twinlog_segment first = { 0 };
        patch_file(log_file(PAGE_FILE_NAME), offsetof(struct page_words, durable), words, sizeof(words));
        ck_assert_int_eq(twinlog_segments(log_dir, keep_first, &first), 0);
        ck_assert_uint_eq(first.first_lsn, 1);
        ck_assert_uint_eq(first.last_lsn, lsn);
        ck_assert_uint_lt(first.data_bytes, SEGMENT);
    }
    log_close(log);
}

/* More is destroyed behind a close than is searched there, but the page tells that a writer came. */
TEST(a_close_that_a_writer_came_behind_is_not_the_end)
{
    static const unsigned char zeros[280 << 10];
    const struct twinlog_options options = options_with(0);
    struct recovery closed;

    make_log(0, true);
    struct io *io = log_io(false);
    struct segment_set set = load(io);
    ck_assert_int_eq(twl_recover(io, &set, false, NULL, &closed), 0);
    ck_assert_int_eq(closed.report.finding, TWINLOG_FOUND_CLEAN_CLOSE);
    twl_segment_set_free(&set);
    io->ops->destroy(io);

    struct twinlog *log = log_open(&options);
    for (unsigned i = 0; i < 4; i++)
        append_some(log, 16000);
    log_kill(log);
    patch_file(log_segment(1), (off_t)closed.offset, zeros, sizeof(zeros));
    store_note(&(struct note){ .segment_id = 1 });
    unlink(log_segment(2)); /* the header of a spare would tell, too */
    ck_assert_int_eq(log_open_error(&options), TWINLOG_ECORRUPT);
}
