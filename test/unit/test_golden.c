/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logs that must be readable for ever, and the worked example of docs/format.md.
 *
 * test/golden/<name>.hex holds them. Their bytes never change: where the format changes, a log of the new one gets a
 * new name, and the old file stays. They were made with fixed identities, times and salts, by this file of commit
 * 73423109. That today's encoders make such bytes is for unit-format, fuzz-frames and golden-reader to see.
 *
 * The text form: "file NAME SIZE" begins a file, then lines of an offset and up to 16 bytes, all in hex.
 * Bytes that no line names are zero. Lines that begin with # are comments.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"

#include "control/state.h"
#include "segment/segment.h"
#include "twinlog_admin.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_BYTES SEGMENT_MIN_BYTES
#define MAX_FILES 4u
#define MAX_PAYLOAD 5000u
#define LINE_BYTES 16u
#define NEW_YEAR_NS INT64_C(1767225600000000000) /* 2026-01-01 00:00:00 UTC */

/* ---- the records and what they say ------------------------------------------------------------- */

struct known_record {
    const char *text; /* NULL: a pattern */
    size_t size;
    bool is_void;
};

static const struct known_record two_records[] = { { "hello", 5, false }, { "group commit", 12, false } };

/* All the sizes that matter: nothing, less than 8, 8, more than a block. */
static const struct known_record history[] = {
    { "", 0, false },
    { "sevenby", 7, false },
    { "eightbyt", 8, false },
    { NULL, MAX_PAYLOAD, false },
    { "after a close", 13, false },
    { "rolled on", 9, false },
    { NULL, 100, false },
    { "on a new block", 14, false },
};

/* In one log there was only a claim behind them. */
static const struct known_record seven[] = {
    { "one", 3, false },  { "two", 3, false }, { "three", 5, false }, { "four", 4, false },
    { "five", 4, false }, { "six", 3, false }, { "seven", 5, false }, { "", 0, true },
};

/* What a log says that was truncated. */
static const struct known_record after_cut[] = { { "kept", 4, false },
                                                 { "too", 3, false },
                                                 { "new", 3, false } };

static const struct known_record with_voids[] = {
    { "sound", 5, false }, { "", 0, true }, { "", 0, true }, { "sound too", 9, false }
};

static void make_payload(const struct known_record *record, uint64_t lsn, unsigned char *ret_payload)
{
    if (record->text) {
        memcpy(ret_payload, record->text, record->size);
        return;
    }

    for (size_t i = 0; i < record->size; i++)
        ret_payload[i] = (unsigned char)(lsn + 7 * i);
}

static int64_t record_time(uint64_t lsn)
{
    return NEW_YEAR_NS + (int64_t)lsn * 1000;
}

/* ---- their files ------------------------------------------------------------------------------- */

struct image {
    char name[SEGMENT_NAME_BYTES];
    unsigned size;
    unsigned char bytes[SEGMENT_BYTES];
};

struct images {
    struct image image[MAX_FILES];
    unsigned count;
};

static struct image *add_image(struct images *images, const char *name, unsigned size)
{
    ck_assert_uint_lt(images->count, MAX_FILES);
    struct image *image = &images->image[images->count++];
    snprintf(image->name, sizeof(image->name), "%s", name);
    image->size = size;
    return image;
}

/* ---- logs of a pretended later version ----------------------------------------------------------- */

static const struct future {
    const char *name;
    int read; /* how many records of it are read, or the error */
    int opened;
} futures[] = {
    { "future-version", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-feature", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-group-kind", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-group-flag", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-group-byte", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-record-kind", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-state-feature", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-entry", TWINLOG_EVERSION, TWINLOG_EVERSION },
    { "future-for-readers", 2, TWINLOG_EVERSION },
    { "future-state-for-readers", 2, TWINLOG_EVERSION },
    { "future-ignored", 1, 0 }, /* all that a version may ignore */
};

/* ---- the logs ---------------------------------------------------------------------------------- */

static const struct golden {
    const char *name;
    const struct known_record *records;
    unsigned first, last; /* LSN */
    unsigned segments, spares;
    enum twinlog_finding finding; /* of inspecting it */
    uint64_t end_offset;          /* where the log ends, or was truncated */
} goldens[] = {
    { "two-records", two_records, 1, 2, 1, 0, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
    /* Three writers: the first closes the log, the second dies, the third pads and dies in a write. The last group's
     * second block never reached the disk. Segment 3 is a spare. */
    { "history", history, 1, 8, 2, 1, TWINLOG_FOUND_TORN_TAIL, 16384 },
    /* Segment 1 is full and sealed, with an index of three entries; segment 2 was closed; segment 3 is a spare. A
     * consumer has done with two records, and there is a vote. */
    { "sealed", seven, 1, 7, 2, 1, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
    /* Trimmed up to LSN 4, which is inside segment 2; the file of segment 1 was recycled as segment 3, in which the
     * writer died. Behind its end, groups and a footer of its first incarnation are left. */
    { "recycled", seven, 5, 7, 2, 0, TWINLOG_FOUND_CLEAN_END, 4192 },
    /* Cut behind LSN 2, which is the second of three records of its group. Segment 3 begins there, in epoch 2, and
     * goes on behind segment 1; what that says of LSNs 3 and 4 is dead, and so is segment 2. */
    { "truncated", after_cut, 1, 3, 2, 0, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
    /* Segment 1 has a marker only. Segment 2 was full, and closed; in segment 3 the power went: a record was claimed
     * behind the last one, and not finished. */
    { "mapped", seven, 1, 8, 3, 0, TWINLOG_FOUND_CLEAN_END, 4448 },
    /* As a repair leaves it: two records were lost. */
    { "fillers", with_voids, 1, 4, 1, 0, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
};

/* ---- text and back ----------------------------------------------------------------------------- */

static void parse_bytes(struct image *image, const char *line)
{
    char *at;
    unsigned long offset = strtoul(line, &at, 16);

    for (unsigned i = 0; i < LINE_BYTES; i++) {
        const char *before = at;
        unsigned long byte = strtoul(before, &at, 16);
        if (at == before)
            break;
        ck_assert_uint_le(byte, 0xff);
        ck_assert_uint_lt(offset + i, image->size);
        image->bytes[offset + i] = (unsigned char)byte;
    }

    ck_assert_msg(strspn(at, " \n") == strlen(at), "not a line of bytes: %s", line);
}

/* Up to the end of the text or the end of its fenced block. */
static void parse_images(FILE *from, struct images *ret_images)
{
    char line[256];

    memset(ret_images, 0, sizeof(*ret_images));
    while (fgets(line, sizeof(line), from) && strncmp(line, "```", 3) != 0) {
        if (line[0] == '#')
            continue;
        if (strncmp(line, "file ", 5) != 0) {
            ck_assert_uint_gt(ret_images->count, 0);
            parse_bytes(&ret_images->image[ret_images->count - 1], line);
            continue;
        }
        char name[SEGMENT_NAME_BYTES];
        unsigned size;
        ck_assert_int_eq(sscanf(line, "file %31s %u", name, &size), 2);
        ck_assert_uint_le(size, SEGMENT_BYTES);
        add_image(ret_images, name, size);
    }
}

/* SOURCE_DIR, the top of the source tree, comes from the build system: __FILE__ may be relative to anything. */
static FILE *open_source(const char *path)
{
    char name[4096];

    snprintf(name, sizeof(name), "%s/%s", SOURCE_DIR, path);
    FILE *file = fopen(name, "r");
    ck_assert_msg(file != NULL, "cannot open %s", name);
    return file;
}

static void read_golden(const char *name, struct images *ret_images)
{
    char path[256];

    snprintf(path, sizeof(path), "test/golden/%s.hex", name);
    FILE *file = open_source(path);
    parse_images(file, ret_images);
    fclose(file);
}

static void assert_same(const struct images *expected, const struct images *found)
{
    ck_assert_uint_eq(found->count, expected->count);
    for (unsigned i = 0; i < expected->count; i++) {
        const struct image *a = &expected->image[i], *b = &found->image[i];
        ck_assert_str_eq(b->name, a->name);
        ck_assert_uint_eq(b->size, a->size);
        for (unsigned at = 0; at < a->size; at++)
            ck_assert_msg(a->bytes[at] == b->bytes[at], "%s at 0x%05x: kept is %02x, shown is %02x", a->name,
                          at, a->bytes[at], b->bytes[at]);
    }
}

/* ---- a directory to read them in --------------------------------------------------------------- */

static struct images kept;

static void make_directory(void)
{
    logdir_make();
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
}

static void lay_out(const struct images *images)
{
    for (unsigned i = 0; i < images->count; i++)
        put_file(log_file(images->image[i].name), images->image[i].bytes, images->image[i].size);
}

/* The log in the directory holds these records, then `last` if that is not NULL, and nothing else. */
static void assert_records(const struct golden *golden, const char *last)
{
    static unsigned char payload[MAX_PAYLOAD];
    struct twinlog_reader *reader = log_reader(0, 0);
    struct twinlog_record record;

    for (uint64_t lsn = golden->first; lsn <= golden->last; lsn++) {
        const struct known_record *expected = &golden->records[lsn - 1];
        if (expected->is_void)
            continue;
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        make_payload(expected, lsn, payload);
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert_int_eq(record.time_ns, record_time(lsn));
        ck_assert_uint_eq(record.size, expected->size);
        ck_assert_mem_eq(record.data, payload, record.size);
    }

    if (last) {
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.size, strlen(last));
        ck_assert_mem_eq(record.data, last, record.size);
    }

    ck_assert_int_eq(twinlog_reader_next(reader, &record), 0);
    twinlog_reader_close(reader);
}

CASE("bytes", NULL, NULL);

TEST(the_format_document_shows_the_bytes_of_a_kept_log)
{
    FILE *document = open_source("docs/format.md");
    char line[256];
    bool is_found = false;

    while (!is_found && fgets(line, sizeof(line), document))
        is_found = strcmp(line, "<!-- golden: two-records -->\n") == 0;
    ck_assert(is_found);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), document));
    ck_assert_str_eq(line, "```text\n");
    static struct images shown;
    parse_images(document, &shown);
    fclose(document);
    read_golden("two-records", &kept);
    assert_same(&kept, &shown);
}

/* What is at the end may be told, and nothing else. */
static int expect_end(void *context, const struct twinlog_report *finding)
{
    const struct golden *golden = context;

    ck_assert_msg(finding->finding == golden->finding, "%s: %s", golden->name, finding->text);
    return 0;
}

static uint64_t verify(const struct golden *golden)
{
    struct golden expected = *golden;
    uint64_t records;
    const struct twinlog_verify_options options =
        WITH_SIZE(verify_options, .each = expect_end, .context = &expected);

    ck_assert_int_eq(twinlog_verify(log_dir, &options, &records), 0);
    return records;
}

static uint64_t count_records(const struct golden *golden)
{
    uint64_t count = 0;

    for (unsigned lsn = golden->first; lsn <= golden->last; lsn++)
        count += !golden->records[lsn - 1].is_void;
    return count;
}

static void take_out(const struct golden *golden)
{
    read_golden(golden->name, &kept);
    lay_out(&kept);
}

CASE("logs", make_directory, logdir_remove);

TEST_EACH(a_kept_log_is_read_to_its_last_byte, goldens)
{
    take_out(row);
    ck_assert_uint_eq(verify(row), count_records(row));
    assert_records(row, NULL);
}

TEST_EACH(the_end_of_a_kept_log_is_found_where_it_is, goldens)
{
    take_out(row);
    const struct twinlog_inspection found = log_inspect();
    ck_assert_uint_eq(found.first_lsn, row->first);
    ck_assert_uint_eq(found.last_lsn, row->last);
    ck_assert_uint_eq(found.report.finding, row->finding);
    ck_assert_uint_eq(found.report.offset, row->end_offset);
    ck_assert_uint_eq(found.segments, row->segments);
    ck_assert_uint_eq(found.spare_segments, row->spares);
}

TEST_EACH(a_kept_log_can_be_continued, goldens)
{
    struct golden closed = *row;
    uint64_t lsn;

    closed.finding = TWINLOG_FOUND_CLEAN_CLOSE;
    take_out(row);
    struct twinlog *log = log_open(NULL);
    ck_assert_int_eq(twinlog_append(log, "and on", 6, &lsn), 0);
    ck_assert_uint_eq(lsn, row->last + 1);
    log_close(log);
    assert_records(row, "and on");
    ck_assert_uint_eq(verify(&closed), count_records(row) + 1);
}

TEST(a_sealed_segment_is_searched_by_its_index)
{
    struct twinlog_record record;

    take_out(&goldens[2]);
    struct twinlog_reader *reader = log_reader(0, 0);
    for (uint64_t lsn = 7; lsn >= 1; lsn--) {
        ck_assert_int_eq(twinlog_reader_seek(reader, lsn), 0);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert_int_eq(twinlog_reader_seek_time(reader, record_time(lsn)), 0);
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        ck_assert_uint_eq(record.lsn, lsn);
    }

    twinlog_reader_close(reader);
}

TEST(a_kept_state_has_its_cursor_and_its_value)
{
    struct twinlog *log;
    char value[16];
    size_t size;
    uint64_t lsn;

    take_out(&goldens[2]);
    ck_assert_int_eq(twinlog_open(log_dir, &WITH_SIZE(options, .flags = TWINLOG_READ_ONLY), &log), 0);
    ck_assert_int_eq(twinlog_cursor_get(log, "billing", &lsn), 0);
    ck_assert_uint_eq(lsn, 2);
    ck_assert_int_eq(twinlog_meta_get(log, "vote", value, sizeof(value), &size), 0);
    ck_assert_uint_eq(size, 6);
    ck_assert_mem_eq(value, "node 7", 6);
    ck_assert_int_eq(twinlog_close(log), 0);
}

static void assert_unchanged(void)
{
    static unsigned char bytes[SEGMENT_BYTES];

    for (unsigned i = 0; i < kept.count; i++) {
        int fd = open(log_file(kept.image[i].name), O_RDONLY | O_CLOEXEC);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(read(fd, bytes, sizeof(bytes)), kept.image[i].size);
        close(fd);
        ck_assert_mem_eq(bytes, kept.image[i].bytes, kept.image[i].size);
    }
}

/* How many records a reader returns, or its error. */
static int count_read(void)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int count = 0;

    int rc = twinlog_reader_open(log_dir, NULL, &reader);
    if (rc < 0)
        return rc;

    rc = twinlog_reader_next(reader, &record);
    while (rc > 0) {
        count++;
        rc = twinlog_reader_next(reader, &record);
    }

    twinlog_reader_close(reader);
    if (rc < 0)
        return rc;
    return count;
}

TEST_EACH(a_log_of_a_later_version_is_refused_or_only_read_or_its_news_are_passed_over, futures)
{
    struct twinlog *log;
    struct state state;
    struct twinlog_report report;

    read_golden(row->name, &kept);
    lay_out(&kept);
    ck_assert_int_eq(count_read(), row->read);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), row->read < 0 ? row->read : 0);

    const int rc = twinlog_open(log_dir, NULL, &log);
    ck_assert_int_eq(rc, row->opened);
    if (rc < 0) {
        assert_unchanged();
        return;
    }

    ck_assert_int_eq(twinlog_cursor_set(log, "consumer", 1), 0);
    ck_assert_int_eq(twinlog_append(log, "appended", 8, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(count_read(), 2);

    struct io *io;
    struct state_entry entry;
    ck_assert_int_eq(twl_io_posix_create(log_dir, true, &io), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), 0);
    ck_assert(twl_state_find(&state, STATE_KEPT, "name", &entry));
    ck_assert_uint_eq(state.header.compatible, 0);
    twl_state_free(&state);
    io->ops->destroy(io);
}
