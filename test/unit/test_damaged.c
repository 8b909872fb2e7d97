/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kind of reader, from every start, in both directions, in a log that is damaged at one place.
 *
 * What each has to do is one rule: every record that it returns is the right one, in order and without a gap; and
 * either it returned all acknowledged records on its way, or it ends with an error that names the place. "No more"
 * where there are acknowledged records is wrong, wherever the reader has started.
 */
#define _GNU_SOURCE
#include "gate.h"
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "base/base.h"
#include "base/bytes.h"
#include "check/check.h"
#include "format/checksum.h"
#include "log/log.h"
#include "walk/segment_iter.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL_SEGMENT 65536u
#define RECORDS 430u
#define SEGMENTS 4u /* and perhaps some more */

/* ---- the log ------------------------------------------------------------------------------------- */

static const struct kind {
    const char *name;
    bool has_writer, is_attached, maps, has_no_page;
} kinds[] = {
    { .name = "without a writer" },
    { .name = "without a writer, mapping", .maps = true },
    { .name = "attached to a handle for reading", .is_attached = true },
    { .name = "beside a writer", .has_writer = true },
    { .name = "beside a writer, mapping", .has_writer = true, .maps = true },
    { .name = "attached", .has_writer = true, .is_attached = true },
    { .name = "attached, mapping", .has_writer = true, .is_attached = true, .maps = true },
    { .name = "beside a writer without shared memory", .has_writer = true, .has_no_page = true },
};

static const struct kind *kind;
static struct twinlog *the_log;
static int64_t time_of[RECORDS + 2];
static uint64_t last_lsn; /* newest that readers of this kind can know of */

static size_t make_bytes(uint64_t lsn, unsigned char bytes[512])
{
    const size_t size = 100 + lsn * 7 % 400;

    memset(bytes, (int)(lsn % 251), size);
    memcpy(bytes, &lsn, sizeof(lsn));
    return size;
}

static void put_records(struct twinlog *log)
{
    unsigned char bytes[512];

    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) {
        uint64_t given;
        ck_assert_int_eq(twinlog_enqueue(log, bytes, make_bytes(lsn, bytes), &given), 0);
        ck_assert_uint_eq(given, lsn);
        if (lsn % 9 == 0)
            ck_assert_int_eq(twinlog_sync(log), 0);
    }
    ck_assert_int_eq(twinlog_sync(log), 0);
}

static struct io *make_io(void)
{
    struct io *io = log_io(true);

    return kind->has_no_page ? hooked(io, hooked_refuse_map) : io;
}

static bool are_all_sealed(struct io *io)
{
    struct segment_set set;
    struct twinlog_report report;
    bool are_sealed = true;

    ck_assert_int_eq(twl_segment_set_open(io, SET_FOR_READING, NULL, &set, &report), 0);
    for (size_t i = 0; i + 1 < set.started; i++) {
        ck_assert_int_eq(twl_segment_look(io, &set.entries[i]), 0);
        are_sealed = are_sealed && set.entries[i].is_sealed;
    }
    twl_segment_set_free(&set);
    return are_sealed;
}

static void make_log(void)
{
    struct twinlog_options options = LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT);

    if (kind->has_no_page) { /* what is there already has a page, which then is not this writer's */
        log_close(log_open(&options));
        the_log = log_on(make_io(), &options);
    } else {
        the_log = log_open(&options);
    }
    put_records(the_log);
    struct io *io = make_io();
    AWAIT(are_all_sealed(io));
    io->ops->destroy(io);
    if (kind->has_writer)
        return;
    log_close(the_log);
    options = log_options(0, TWINLOG_READ_ONLY);
    the_log = kind->is_attached ? log_open(&options) : NULL;
}

/* ---- its places ------------------------------------------------------------------------------------ */

struct place {
    uint64_t offset, size, lsn; /* of the first record that can't be had because of it, 0 = all can */
};

static struct part {
    char name[SEGMENT_NAME_BYTES];
    uint64_t first_lsn, last_lsn;
    bool is_sealed;
    struct place group[SMALL_SEGMENT / GROUP_HEADER_BYTES]; /* headers */
    size_t groups, last_group;                              /* the last one with records, */
    uint64_t end;                                           /* and where it ends */
    struct place record, payload, index;
} parts[2 * SEGMENTS];
static size_t part_count;

static void survey_group(struct part *part, struct segment_iter *iter)
{
    struct iter_record record;

    ck_assert_uint_lt(part->groups, sizeof(part->group) / sizeof(part->group[0]));
    part->group[part->groups] =
        (struct place){ iter->group_offset, GROUP_HEADER_BYTES, iter->group.first_lsn };
    if (iter->group.count > 0) {
        part->last_group = part->groups;
        part->end = iter->offset;
    }
    part->groups++;
    while (twl_iter_next_record(iter, &record) > 0) {
        part->first_lsn = part->first_lsn ? part->first_lsn : record.lsn;
        part->last_lsn = record.lsn;
        if (part->groups <= 6) { /* the fourth of some group in the middle */
            if (iter->records_left == 5) {
                part->record = (struct place){ record.offset, RECORD_HEADER_BYTES, record.lsn };
                part->payload =
                    (struct place){ record.offset + RECORD_HEADER_BYTES, record.header.size, record.lsn };
            }
        }
    }
}

static void survey_segment(struct io *io, struct segment_entry *entry)
{
    struct part *part = &parts[part_count++];
    struct segment_iter iter = { 0 };
    struct segment segment;

    ck_assert_uint_le(part_count, sizeof(parts) / sizeof(parts[0]));
    *part = (struct part){ 0 };
    snprintf(part->name, sizeof(part->name), "%s", entry->name);
    ck_assert_int_eq(twl_segment_look(io, entry), 0);
    part->is_sealed = entry->is_sealed;
    ck_assert_int_eq(twl_segment_open_valid(io, entry->name, &segment), 0);
    if (entry->is_sealed)
        part->index.size = (uint64_t)entry->footer.index_entries * INDEX_ENTRY_BYTES;
    part->index.offset = segment.data_end - part->index.size;
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    while (twl_iter_enter_group(&iter) > 0)
        survey_group(part, &iter);
    twl_iter_free(&iter);
    twl_segment_close(&segment);
}

static void survey(void)
{
    struct io *io = make_io();
    struct segment_set set;
    struct twinlog_report report;
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;

    part_count = 0;
    ck_assert_int_eq(twl_segment_set_open(io, SET_FOR_READING, NULL, &set, &report), 0);
    for (size_t i = 0; i < set.started; i++)
        survey_segment(io, &set.entries[i]);
    ck_assert_uint_ge(part_count, 3);
    ck_assert_uint_ge(parts[part_count - 1].last_group, 4);
    ck_assert_uint_eq(parts[part_count - 1].last_lsn, RECORDS);
    twl_segment_set_free(&set);
    io->ops->destroy(io);
    for (last_lsn = 0; twinlog_reader_next(reader, &record) > 0; last_lsn = record.lsn)
        time_of[record.lsn] = record.time_ns;
    twinlog_reader_close(reader);
    ck_assert_uint_ge(last_lsn, kind->has_no_page ? RECORDS - 9 : RECORDS);
}

/* ---- damage ----------------------------------------------------------------------------------------- */

enum what {
    NOTHING,
    SEGMENT_HEADER,
    FIRST_GROUP,
    MIDDLE_GROUP,
    LAST_GROUP,
    RECORD_HEADER,
    PAYLOAD,
    HOLE, /* from the middle group to the end of the last one there are zeros */
    FOOTER,
    INDEX,
    FIRST_GROUP_AND_FOOTER,
    ALL_OF_IT /* but for the header */
};
static const char *const what_names[] = { "nothing",
                                          "the segment's header",
                                          "the first group's header",
                                          "a group's header in the middle",
                                          "the last group's header",
                                          "a record's header",
                                          "a payload",
                                          "the second half",
                                          "the footer",
                                          "the index",
                                          "the first group's header and the footer",
                                          "all but the segment's header" };
#define WHATS (sizeof(what_names) / sizeof(what_names[0]))

static unsigned char *saved, *changed; /* of the file that is damaged */

static void store(const struct part *part, const unsigned char *bytes)
{
    int fd = open(log_file(part->name), O_WRONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    for (size_t at = 0; at < SMALL_SEGMENT; at += BLOCK_BYTES) /* the writer has a lock, but never reads */
        if (memcmp(saved + at, changed + at, BLOCK_BYTES) != 0)
            ck_assert_int_eq(pwrite(fd, bytes + at, BLOCK_BYTES, (off_t)at), BLOCK_BYTES);
    close(fd);
}

static void flip(uint64_t offset)
{
    changed[offset] ^= 1;
}

/* False if there is no such thing here, or a log that is damaged so can't be told from a sound one. */
static bool damage(const struct part *part, enum what what, uint64_t *ret_lsn)
{
    const struct place *middle = &part->group[part->last_group / 2], *last = &part->group[part->last_group];
    const uint64_t data_end = twl_segment_data_end(SMALL_SEGMENT);
    const bool is_newest = part == &parts[part_count - 1];
    int fd = open(log_file(part->name), O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, saved, SMALL_SEGMENT, 0), SMALL_SEGMENT);
    close(fd);
    memcpy(changed, saved, SMALL_SEGMENT);
    *ret_lsn = part->first_lsn;
    switch (what) {
    case NOTHING:
        *ret_lsn = 0;
        return true;
    case SEGMENT_HEADER:
        flip(40);
        break;
    case FIRST_GROUP_AND_FOOTER:
        if (!part->is_sealed)
            return false;
        flip(data_end + 20);
        flip(part->group[0].offset + 8);
        break;
    case FIRST_GROUP:
        flip(part->group[0].offset + 8);
        break;
    case MIDDLE_GROUP:
        flip(middle->offset + 8);
        *ret_lsn = middle->lsn;
        break;
    case LAST_GROUP:
        flip(last->offset + 8);
        *ret_lsn = last->lsn;
        break;
    case RECORD_HEADER:
        flip(part->record.offset + 9);
        *ret_lsn = part->record.lsn;
        break;
    case PAYLOAD:
        flip(part->payload.offset + 20);
        *ret_lsn = part->payload.lsn;
        break;
    case HOLE:
        memset(changed + middle->offset, 0, part->end - middle->offset);
        *ret_lsn = middle->lsn;
        break;
    case FOOTER:
        flip(data_end + 20);
        *ret_lsn = 0;
        return part->is_sealed;
    case INDEX:
        flip(part->index.offset + 3);
        *ret_lsn = 0;
        return part->is_sealed && part->index.size > 0;
    case ALL_OF_IT:
        memset(changed + SEGMENT_HEADER_BYTES, 0, SMALL_SEGMENT - SEGMENT_HEADER_BYTES);
        return !is_newest;
    }
    /* Without shared memory nothing but a later group tells that the last one is durable. */
    return !(is_newest && kind->has_no_page && (what == LAST_GROUP || what == HOLE));
}

/* ---- readers ---------------------------------------------------------------------------------------- */

static struct twinlog_report report;
static struct damaged {
    const struct part *part;
    enum what what;
    uint64_t lsn;
} damaged;
static char doing[200]; /* what is tried just now */
static unsigned long tried, ended_with_error;

#define SAY(...) snprintf(doing, sizeof(doing), __VA_ARGS__)
#define MUST(condition)                                                                                      \
    ck_assert_msg(condition, "%s, damaged: %s of %s (record %" PRIu64 "), %s: not so: %s; report: %s",       \
                  kind->name, what_names[damaged.what], damaged.part->name, damaged.lsn, doing, #condition,  \
                  report.text)

static int try_to_open(uint64_t from_lsn, struct twinlog_reader **ret_reader)
{
    const struct twinlog_reader_options options =
        WITH_SIZE(reader_options, .flags = kind->maps ? TWINLOG_READER_MMAP : 0, .from_lsn = from_lsn,
                  .ret_report = &report);

    report = (struct twinlog_report){ 0 };
    *ret_reader = NULL;
    return kind->is_attached ? twinlog_reader_attach(the_log, &options, ret_reader)
                             : twinlog_reader_open(log_dir, &options, ret_reader);
}

/* An error, with its place. */
static void expect_damage(int result)
{
    MUST(result == TWINLOG_ECORRUPT);
    MUST(report.error == TWINLOG_ECORRUPT);
    MUST(damaged.lsn > 0); /* a footer or an index that can't be read is no reason */
    MUST(strcmp(report.file, damaged.part->name) ==
             0 || /* a segment that begins with nothing is not started: */
         (damaged.what == FIRST_GROUP && strcmp(report.file, damaged.part[-1].name) == 0));
    if (damaged.what == SEGMENT_HEADER && report.finding == TWINLOG_FOUND_BAD_HEADER)
        return;
    MUST(report.finding == TWINLOG_FOUND_DAMAGE);
    MUST(report.first_lsn > 0 && report.first_lsn <= report.last_lsn);
    MUST(report.first_lsn <= (damaged.what == SEGMENT_HEADER ? damaged.part->last_lsn : damaged.lsn));
    ended_with_error++;
}

static void expect_record(const struct twinlog_record *record, uint64_t lsn)
{
    unsigned char bytes[512];
    const size_t size = make_bytes(lsn, bytes);

    MUST(record->lsn == lsn);
    MUST(record->size == size && memcmp(record->data, bytes, size) == 0);
}

/* Everything between has to come, or an error. 0, or the error. */
static int read_onwards(struct twinlog_reader *reader, uint64_t lsn)
{
    struct twinlog_record record;
    int rc;

    tried++;
    for (; (rc = twinlog_reader_next(reader, &record)) > 0; lsn++)
        expect_record(&record, lsn);
    if (rc == 0)
        MUST(lsn > last_lsn);
    else
        expect_damage(rc);
    MUST(rc == 0 || report.first_lsn <= lsn);
    MUST(twinlog_reader_wait(reader, 0) == (rc < 0)); /* a follower is told the same */
    return rc;
}

static int read_back(struct twinlog_reader *reader, uint64_t behind_lsn)
{
    struct twinlog_record record;
    uint64_t lsn = behind_lsn;
    int rc;

    tried++;
    while ((rc = twinlog_reader_previous(reader, &record)) > 0)
        expect_record(&record, --lsn);
    if (rc == 0)
        MUST(lsn <= 1);
    else
        expect_damage(rc);
    MUST(rc == 0 || report.first_lsn <= lsn);
    return rc;
}

/* A reader that starts in another segment, and goes away from the damage, need not know of it. */
static bool is_apart(uint64_t lsn, bool goes_back)
{
    if (damaged.what == SEGMENT_HEADER || damaged.part == &parts[part_count - 1])
        return false;
    return goes_back ? lsn <= damaged.part->first_lsn : lsn > damaged.part->last_lsn;
}

static void start_at(struct twinlog_reader *reader, uint64_t lsn)
{
    SAY("forwards from %" PRIu64, lsn);
    MUST(twinlog_reader_seek(reader, lsn) == 0);
    MUST(read_onwards(reader, lsn) == 0 || !is_apart(lsn, false));
    SAY("back from %" PRIu64, lsn);
    MUST(twinlog_reader_seek(reader, lsn) == 0);
    MUST(read_back(reader, min_u64(lsn, last_lsn + 1)) == 0 || !is_apart(lsn, true));
    if (lsn > last_lsn)
        return;
    uint64_t first = 1;
    while (time_of[first] < time_of[lsn])
        first++;
    SAY("from the time of %" PRIu64, lsn);
    MUST(twinlog_reader_seek_time(reader, time_of[lsn]) == 0);
    read_onwards(reader, first);
    SAY("back from the time of %" PRIu64, lsn);
    MUST(twinlog_reader_seek_time(reader, time_of[lsn]) == 0);
    read_back(reader, first);
}

static void start_at_the_ends(struct twinlog_reader *reader)
{
    uint64_t first, last;

    SAY("from the front");
    MUST(twinlog_reader_seek_first(reader) == 0);
    read_onwards(reader, 1);
    SAY("from the end");
    int rc = twinlog_reader_seek_end(reader);
    if (rc < 0)
        expect_damage(rc);
    else
        read_back(reader, last_lsn + 1);
    SAY("from far behind the end");
    MUST(twinlog_reader_seek(reader, UINT64_MAX) == 0);
    read_back(reader, last_lsn + 1);
    SAY("the range");
    rc = twinlog_reader_range(reader, &first, &last);
    if (rc < 0)
        expect_damage(rc);
    else
        MUST(first == 1 && last >= last_lsn);
}

static void start_everywhere(struct twinlog_reader *reader)
{
    const struct part *part = damaged.part;
    const uint64_t lsn = damaged.lsn > 0 ? damaged.lsn : part->first_lsn + 20;
    const uint64_t starts[] = { 1,           part->first_lsn, lsn - (lsn > 1),    lsn,
                                lsn + 1,     part->last_lsn,  part->last_lsn + 1, last_lsn,
                                last_lsn + 1 };

    start_at_the_ends(reader);
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
        start_at(reader, starts[i]);
}

/* From the options, as `cat --from` does; and one that was there before the damage. */
static void try_readers(struct twinlog_reader *old)
{
    const uint64_t starts[] = { 0, damaged.part->last_lsn, last_lsn };
    struct twinlog_reader *reader;

    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        SAY("opened at %" PRIu64, starts[i]);
        int rc = try_to_open(starts[i], &reader);
        if (rc < 0)
            expect_damage(rc);
        else
            read_onwards(reader, starts[i] ? starts[i] : 1);
        if (rc == 0 && i == 0)
            start_everywhere(reader);
        twinlog_reader_close(reader);
    }
    start_at_the_ends(old);
    start_at(old, damaged.part->last_lsn);
    SAY("verified");
    MUST(twinlog_verify(log_dir, NULL, NULL) == (damaged.lsn > 0 ? TWINLOG_ECORRUPT : 0));
}

static void try_damage(const struct part *part, enum what what)
{
    struct twinlog_reader *old;

    damaged = (struct damaged){ part, NOTHING, 0 };
    SAY("opened before");
    MUST(try_to_open(0, &old) == 0);
    read_onwards(old, 1);
    if (damage(part, what, &damaged.lsn)) {
        damaged.what = what;
        store(part, changed);
        try_readers(old);
        store(part, saved);
    }
    twinlog_reader_close(old);
}

/* A reader without a writer syncs whenever it looks, and it is no matter of disks: memory, where there is some. */
static void set_up(void)
{
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    logdir_make();
}

CASE("readers", set_up, logdir_remove);

TEST_EACH(every_reader_returns_all_records_on_its_way_or_names_the_damage, kinds)
{
    kind = row;
    make_log();
    survey();
    saved = malloc(SMALL_SEGMENT);
    changed = malloc(SMALL_SEGMENT);
    const size_t where[] = { 0, part_count / 2, part_count - 1 };
    for (size_t i = 0; i < sizeof(where) / sizeof(where[0]); i++)
        for (unsigned what = NOTHING; what < WHATS; what++)
            try_damage(&parts[where[i]], (enum what)what);
    ck_assert_uint_gt(tried, 500);
    ck_assert_uint_gt(ended_with_error, 50);
    free(changed);
    free(saved);
    log_close(the_log);
}

/* ---- what a newer version wrote --------------------------------------------------------------------- */

enum newer {
    NOTHING_NEWER,
    NEWER_GROUP_FLAG,
    NEWER_GROUP_KIND,
    NEWER_GROUP_BYTE,
    NEWER_RECORD_KIND,
    IGNORED_GROUP_FLAG,
    IGNORED_RECORD_KIND
};

static int die_after_three(void)
{
    struct twinlog *log;
    int rc = twinlog_open(log_dir, NULL, &log);

    for (unsigned i = 0; rc == 0 && i < 3; i++)
        rc = twinlog_append(log, "a record", 8, NULL);
    _exit(rc == 0 ? 0 : 1);
}

static void change_group(unsigned char *bytes, const struct segment *segment, uint64_t offset,
                         struct group_header group, enum newer newer)
{
    unsigned char place[8];

    group.flags |= newer == NEWER_GROUP_FLAG ? 4 : 0;
    group.flags |= newer == IGNORED_GROUP_FLAG ? 0x8000 : 0;
    group.kind = newer == NEWER_GROUP_KIND ? 3 : group.kind;
    twl_group_header_encode(&group, segment->seed, offset, bytes);
    bytes[60] = newer == NEWER_GROUP_BYTE;
    store_le64(place, offset);
    store_le32(bytes, twl_crc32c(twl_crc32c(segment->seed, place, 8), bytes + 4, GROUP_HEADER_BYTES - 4));
}

/* The group of this record, or the record, gets something that this version does not know, and right checksums.
 * Returns the offset of the group. */
static off_t change_group_of(uint64_t lsn, enum newer newer)
{
    unsigned char bytes[GROUP_HEADER_BYTES + 32];
    struct walked walked;
    int error;

    walk_segment(&walked, log_dir, 1);
    walk_to_group(&walked, lsn);
    const struct group_header group = walked.iter.group;
    const uint64_t at = walked.iter.group_offset;
    memcpy(bytes, twl_iter_bytes(&walked.iter, at, sizeof(bytes), &error), sizeof(bytes));
    struct record_header record = twl_record_header_load(bytes + GROUP_HEADER_BYTES);
    record.kind = newer == NEWER_RECORD_KIND ? 31 : newer == IGNORED_RECORD_KIND ? 32 : record.kind;
    twl_record_encode(bytes + GROUP_HEADER_BYTES, walked.iter.epoch_seed, lsn, &record, NULL);
    change_group(bytes, &walked.segment, at, group, newer);
    leave_segment(&walked);
    patch_file(log_segment(1), (off_t)at, bytes, sizeof(bytes));
    return (off_t)at;
}

static int count_newer(void *context, const struct twinlog_report *finding)
{
    *(unsigned *)context += finding->finding == TWINLOG_FOUND_NEWER_FORMAT && finding->file[0] != '\0';
    return 0;
}

CASE("newer", set_up, logdir_remove);

static char new_dir[400]; /* where a repair goes to */

/* Three records, the last of which has that. The second one is torn, or not. */
static void make_newer(enum newer newer, bool is_behind_torn)
{
    snprintf(new_dir, sizeof(new_dir), "%s/repaired", log_parent);
    ck_assert_int_eq(run_child(die_after_three), 0);
    const off_t second = change_group_of(2, NOTHING_NEWER);
    change_group_of(3, newer);
    if (is_behind_torn)
        patch_file(log_segment(1), second + GROUP_HEADER_BYTES + RECORD_HEADER_BYTES, "?", 1);
}

static const struct newer_row {
    const char *name;
    enum newer newer;
    bool is_behind_torn;
    uint64_t named_lsn; /* by the report */
} newer_rows[] = {
    { "a flag of a group", NEWER_GROUP_FLAG, false, 3 },
    { "a kind of a group", NEWER_GROUP_KIND, false, 3 },
    { "a byte of a group", NEWER_GROUP_BYTE, false, 3 },
    { "a kind of a record", NEWER_RECORD_KIND, false, 3 },
    { "a flag of a group behind a torn one", NEWER_GROUP_FLAG, true, 2 },
    { "a kind of a group behind a torn one", NEWER_GROUP_KIND, true, 2 },
    { "a byte of a group behind a torn one", NEWER_GROUP_BYTE, true, 2 },
};

/* It checks: so it is no torn tail, and nothing may be truncated. Nor if the group in front of it is torn: without the
 * newer one it is not known whether that was acknowledged. */
TEST_EACH(what_a_newer_version_wrote_at_the_end_is_refused_and_left_alone, newer_rows)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    struct twinlog_reader *reader;
    unsigned told = 0;

    make_newer(row->newer, row->is_behind_torn);
    const uint64_t before = log_fingerprint(false);

    ck_assert_int_eq(log_open_error(NULL), TWINLOG_EVERSION);
    ck_assert_uint_eq(log_report.finding, TWINLOG_FOUND_NEWER_FORMAT);
    ck_assert_uint_eq(log_report.segment, 1);
    ck_assert_uint_ge(log_report.offset, SEGMENT_DATA_OFFSET);
    ck_assert_uint_eq(log_report.first_lsn, row->named_lsn);

    ck_assert_int_eq(twinlog_inspect(log_dir, &inspection), TWINLOG_EVERSION);
    ck_assert_uint_eq(inspection.report.finding, TWINLOG_FOUND_NEWER_FORMAT);

    ck_assert_int_eq(
        twinlog_verify(log_dir, &WITH_SIZE(verify_options, .each = count_newer, .context = &told), NULL),
        TWINLOG_EVERSION);
    ck_assert_uint_eq(told, 1);

    ck_assert_int_eq(twinlog_reader_open(log_dir, &WITH_SIZE(reader_options, .ret_report = &report), &reader),
                     TWINLOG_EVERSION);
    ck_assert_uint_eq(report.finding, TWINLOG_FOUND_NEWER_FORMAT);
    ck_assert_uint_eq(report.segment, 1);

    ck_assert_int_eq(twinlog_repair(log_dir, new_dir, NULL, NULL), TWINLOG_EVERSION);
    ck_assert(log_fingerprint(false) == before);
}

/* Returns how many records of that kind the log has, and checks that they are whole. */
static unsigned count_kind(const char *dir, unsigned kind_of_record)
{
    struct iter_record record;
    struct walked walked;
    unsigned count = 0;

    walk_segment(&walked, dir, 1);
    while (twl_iter_enter_group(&walked.iter) > 0)
        while (twl_iter_next_record(&walked.iter, &record) > 0) {
            count += record.header.kind == kind_of_record;
            ck_assert_uint_eq(record.header.size, 8);
            ck_assert_mem_eq(record.payload, "a record", 8);
        }
    leave_segment(&walked);
    return count;
}

/* No group leads to the second record, which has that. */
static void make_newer_without_group(enum newer newer)
{
    snprintf(new_dir, sizeof(new_dir), "%s/repaired", log_parent);
    ck_assert_int_eq(run_child(die_after_three), 0);
    patch_file(log_segment(1), change_group_of(2, newer) + 4, "?", 1);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), TWINLOG_ECORRUPT);
}

TEST(a_repair_is_refused_where_it_would_lose_what_a_newer_version_wrote)
{
    make_newer_without_group(NEWER_RECORD_KIND);

    ck_assert_int_eq(twinlog_repair(log_dir, new_dir, NULL, NULL), TWINLOG_EVERSION);
}

static int keep_finding(void *context, const struct twinlog_report *finding)
{
    *(struct twinlog_report *)context = *finding;
    return 0;
}

static off_t torn_at;
static uint8_t newer_byte;
/* Of a later segment. 0: it was lost, and the torn group was written anew. */
static unsigned reads_before_loss;
static bool is_later_open;

static int lose_later_segment(const struct hooked_call *call)
{
    if (call->op == SIM_OPEN && strcmp(call->name, strrchr(log_segment(2), '/') + 1) == 0)
        is_later_open = true;
    const bool is_read = call->op == SIM_READ || call->op == SIM_VIEW;
    if (!is_read || !is_later_open || reads_before_loss == 0)
        return 0;

    reads_before_loss--;
    if (reads_before_loss > 0)
        return 0;
    patch_file(log_segment(1), torn_at, &newer_byte, 1);
    return -ENOENT;
}

/* Leaves two segments, and the last record of the first one in a group of a newer version. */
static void make_newer_in_front_of_segment(void)
{
    const struct twinlog_options options = LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT);
    struct twinlog *log = log_open(&options);
    struct walked walked;

    while (log_stat(log).segments < 2)
        ck_assert_int_eq(twinlog_append(log, "a record", 8, NULL), 0);
    log_kill(log);
    walk_segment(&walked, log_dir, 2);
    ck_assert_int_eq(twl_iter_enter_group(&walked.iter), 1);
    const uint64_t last = walked.iter.group.first_lsn - 1;
    leave_segment(&walked);

    torn_at = change_group_of(last, NEWER_GROUP_KIND) + 4;
    walk_segment(&walked, log_dir, 1);
    ck_assert_int_eq(io_read(walked.segment.file, &newer_byte, 1, (uint64_t)torn_at, &(size_t){ 0 }), 0);
    leave_segment(&walked);
}

/* A look at a later segment that came to nothing says nothing of what is found next. Some losses are told as damage. */
TEST(what_a_newer_version_wrote_is_told_of_its_own_segment)
{
    struct twinlog_report found;
    const struct twinlog_verify_options verifying =
        WITH_SIZE(verify_options, .each = keep_finding, .context = &found);
    unsigned losses = 0, newer = 0;

    make_newer_in_front_of_segment();
    do {
        patch_file(log_segment(1), torn_at, "?", 1);
        is_later_open = false;
        losses++;
        reads_before_loss = losses;
        if (twl_verify(hooked_log_dir(lose_later_segment), &verifying, NULL) == TWINLOG_EVERSION) {
            ck_assert_uint_eq(found.segment, 1);
            newer++;
        }
    } while (reads_before_loss == 0);
    ck_assert_uint_gt(newer, 2);
}

TEST(a_repair_keeps_what_a_newer_version_lets_others_ignore)
{
    struct twinlog_repair_result result = TWINLOG_REPAIR_RESULT_INIT;

    make_newer_without_group(IGNORED_RECORD_KIND);

    ck_assert_int_eq(twinlog_repair(log_dir, new_dir, NULL, &result), 0);
    ck_assert_uint_eq(result.lost_records, 0);
    ck_assert_uint_eq(result.last_lsn, 3);
    ck_assert_uint_eq(count_kind(new_dir, 32), 1);
    ck_assert_uint_eq(count_kind(new_dir, RECORD_DATA), 2);
}

static const struct ignored_row {
    const char *name;
    enum newer newer;
    uint64_t records; /* that are shown */
} ignored_rows[] = {
    { "a flag of a group", IGNORED_GROUP_FLAG, 3 },
    { "a kind of a record", IGNORED_RECORD_KIND, 2 },
};

TEST_EACH(what_a_newer_version_lets_others_ignore_is_passed, ignored_rows)
{
    uint64_t records = 0;

    make_newer(row->newer, false);

    struct twinlog_reader *reader = log_reader(0, 0);
    reader_expect_last(reader, 1, row->records);
    twinlog_reader_close(reader);
    struct twinlog *log = log_open(NULL);
    ck_assert_uint_eq(twinlog_last_lsn(log), 3);
    log_close(log);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, &records), 0);
    ck_assert_uint_eq(records, row->records);
}

/* ---- an opening that fails ------------------------------------------------------------------------- */

/* As if the power had gone while the first group of the second segment was written: its header is there. */
static void tear_first_group(void)
{
    static const unsigned char zeros[SMALL_SEGMENT];
    struct walked walked;

    walk_segment(&walked, log_dir, 2);
    ck_assert_int_eq(twl_iter_enter_group(&walked.iter), 1);
    const uint64_t data_end = walked.segment.data_end;
    const uint64_t records = walked.iter.group_offset + GROUP_HEADER_BYTES;
    leave_segment(&walked);
    patch_file(log_segment(2), (off_t)records, zeros, data_end - records);
    patch_file(log_segment(1), (off_t)data_end, zeros, SEGMENT_FOOTER_BYTES);
}

CASE("failed", set_up, logdir_remove);

/* The newest segment begins with a torn group, and the marker that was to take its place did not get to the disk, but
 * the zeros behind it did. */
TEST(a_segment_is_not_sealed_before_the_next_one_has_a_durable_group)
{
    static const unsigned char zeros[BLOCK_BYTES], payload[1000];
    struct twinlog *log;
    struct twinlog_options options = LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT);

    gate_reset();
    ck_assert_int_eq(gate_try_log(&options, &log), 0);
    while (log_stat(log).rolls == 0)
        ck_assert_int_eq(twinlog_append(log, payload, sizeof(payload), &last_lsn), 0);
    log_close(log);
    tear_first_group();
    atomic_store(&gate.error, -EIO);
    options.spare_segments = 1;
    ck_assert_int_eq(gate_try_log(&options, &log), -EIO);
    atomic_store(&gate.error, 0);
    patch_file(log_segment(2), SEGMENT_DATA_OFFSET, zeros, sizeof(zeros));
    ck_assert_int_eq(gate_try_log(&options, &log), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), last_lsn - 1);
    log_close(log);
}

/* A log of two segments. */
static void roll_once(void)
{
    static const unsigned char payload[1000];
    struct twinlog *log = log_open(&LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT));

    while (log_stat(log).rolls == 0)
        ck_assert_int_eq(twinlog_append(log, payload, sizeof(payload), NULL), 0);
    log_close(log);
}

/* Takes the footer of the first segment. Returns where its last group is. */
static off_t take_footer(void)
{
    static const unsigned char zeros[SEGMENT_FOOTER_BYTES];
    struct segment_footer footer;
    struct walked walked;

    walk_segment(&walked, log_dir, 1);
    ck_assert_int_eq(twl_segment_read_footer(&walked.segment, &footer), 1);
    walk_to_group(&walked, footer.last_lsn);
    const uint64_t data_end = walked.segment.data_end, last_group = walked.iter.group_offset;
    leave_segment(&walked);
    patch_file(log_segment(1), (off_t)data_end, zeros, SEGMENT_FOOTER_BYTES);
    return (off_t)last_group;
}

static const struct unsealed_row {
    const char *name;
    bool is_last;
} unsealed_rows[] = {
    { "its first group is lost", false },
    { "its last group is lost", true },
};

/* The writer died before it was sealed. An index would hide what is lost. */
TEST_EACH(a_segment_that_the_next_one_does_not_continue_is_not_sealed, unsealed_rows)
{
    static const unsigned char zeros[GROUP_HEADER_BYTES];

    roll_once();
    const off_t last_group = take_footer();
    patch_file(log_segment(1), row->is_last ? last_group : SEGMENT_DATA_OFFSET, zeros, sizeof(zeros));

    log_close(log_open(&LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT)));
    struct io *io = log_io(true);
    ck_assert(!are_all_sealed(io));
    io->ops->destroy(io);
}

TEST(a_footer_is_removed_and_the_second_header_stays)
{
    struct segment_footer footer;
    struct segment segment;
    unsigned char block[BLOCK_BYTES];
    size_t size;

    roll_once();
    struct io *io = log_io(true);
    enum header_state state;
    ck_assert_int_eq(twl_segment_open(io, "0000000000000001.twl", 0, 0, &segment, &state), 0);
    ck_assert_int_eq(twl_segment_read_footer(&segment, &footer), 1);
    ck_assert_int_eq(twl_segment_unseal(&segment), 0);
    ck_assert_int_eq(twl_segment_read_footer(&segment, &footer), 0);
    ck_assert_int_eq(io_read(segment.file, block, sizeof(block), segment.data_end, &size), 0);
    ck_assert(size == sizeof(block) && are_zeros(block, FOOTER_SECTOR_BYTES));
    struct segment_header second;
    ck_assert_int_eq(twl_segment_header_decode(block + FOOTER_SECTOR_BYTES, &second), HEADER_VALID);
    ck_assert(twl_is_same_incarnation(&second, &segment.header));
    twl_segment_close(&segment);
    io->ops->destroy(io);
}

static const struct io_ops *real_ops;
static bool has_synced;

static int note_sync(struct io_file *file)
{
    has_synced = true;
    return real_ops->sync(file);
}

static int check_write(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    ck_assert(has_synced || offset > 0);
    return real_ops->write(file, data, size, offset);
}

/* Nor one before a sync of everything has taken away the names that the file had: a power cut may bring them back. */
TEST(incarnations_do_not_begin_again)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_plan plan = { .sequence = 99, .bytes = SMALL_SEGMENT, .epoch = 1 };
    struct segment segment;

    log_close(log_open(&LOG_OPTIONS(.segment_bytes = SMALL_SEGMENT)));
    struct io *io = log_io(true);
    ck_assert_int_eq(twl_segment_open_valid(io, "0000000000000001.twl", &segment), 0);
    segment.header.incarnations = UINT32_MAX;
    twl_segment_header_encode(&segment.header, block);
    patch_file(log_segment(1), 0, block, sizeof(block));
    twl_segment_close(&segment);
    real_ops = io->ops;
    struct io_ops ops = *real_ops;
    ops.sync = note_sync;
    ops.write = check_write;
    io->ops = &ops;
    ck_assert_int_eq(twl_segment_recycle(io, "0000000000000001.twl", &plan, &segment, NULL), 0);
    ck_assert_uint_eq(segment.header.sequence, 99);
    ck_assert_uint_eq(segment.header.incarnations, UINT32_MAX);
    twl_segment_close(&segment);
    io->ops->destroy(io);
}

/* ---- a log that is taken away -------------------------------------------------------------------------- */

static const struct taken_away {
    const char *name;
    bool is_state_taken;
    const char *named_file; /* by the report */
} taken_away[] = {
    { "the segment", false, STATE_NAME },
    { "the segment and the state file", true, "0000000000000001.twl" },
};

/* The state file tells that there were segments. Without it the directory is as that of a log that nobody has made. */
TEST_EACH(a_log_of_which_all_is_taken_away_is_damaged_for_those_who_have_it_open, taken_away)
{
    const struct twinlog_options options = log_options(0, TWINLOG_READ_ONLY);
    struct twinlog_reader_options reading = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog_report found = { 0 };
    struct twinlog_reader *reader;
    uint64_t from_lsn, to_lsn;

    log_close(log_open(NULL));
    struct twinlog *log = log_open(NULL);
    ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    log_close(log);
    log = log_open(&options);
    reading.ret_report = &found;
    ck_assert_int_eq(twinlog_reader_open(log_dir, &reading, &reader), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1);
    log_close(log_open(NULL)); /* what was known of the log does not count any more */
    ck_assert_int_eq(unlink(log_segment(1)), 0);
    if (row->is_state_taken)
        ck_assert_int_eq(unlink(log_file(STATE_NAME)), 0);

    ck_assert_int_eq(twinlog_reader_range(reader, &from_lsn, &to_lsn), TWINLOG_ECORRUPT);
    ck_assert_int_eq(found.finding, TWINLOG_FOUND_MISSING_SEGMENT);
    ck_assert_str_eq(found.file, row->named_file);
    ck_assert_uint_eq(found.segment, 1);
    ck_assert_int_lt(twinlog_stat(log, &stat), 0);
    ck_assert_uint_eq(twinlog_last_lsn(log), 1);
    ck_assert_uint_eq(twinlog_durable_lsn(log), 1);
    twinlog_reader_close(reader);
    log_close(log);
}

/* Whether that process may be stopped depends on it: it could not open the log again. */
TEST(of_a_log_that_cannot_be_looked_at_it_is_told_who_writes_it)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    char name[SEGMENT_NAME_BYTES];

    struct twinlog *log = log_open(NULL);
    ck_assert_int_eq(twinlog_append(log, "record", 6, NULL), 0);
    twl_segment_name(1, name);
    ck_assert_int_eq(unlink(log_file(name)), 0);

    ck_assert_int_lt(twinlog_inspect(log_dir, &inspection), 0);
    ck_assert_uint_eq(inspection.has_writer, 1);
    ck_assert_uint_eq(inspection.writer_pid, (uint32_t)getpid());
    ck_assert_int_eq(inspection.poison, 0);

    twinlog_close(log);
    ck_assert_int_lt(twinlog_inspect(log_dir, &inspection), 0);
    ck_assert_uint_eq(inspection.has_writer, 0);
    ck_assert_uint_eq(inspection.writer_pid, 0);
}
