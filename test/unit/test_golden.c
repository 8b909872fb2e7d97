/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logs that must be readable for ever, and the worked example of docs/format.md.
 *
 * Each log here is built from fixed identities, times and salts, so its bytes never change. They are kept
 * three times: the code below makes them, test/golden/<name>.hex holds them, and docs/format.md shows the
 * smallest one. Where two of them differ, either the format changed by mistake, or it changed on purpose:
 * then the new bytes get a new name, and the old file stays, to be read for ever.
 *
 * The text form: "file NAME SIZE" begins a file, then lines of an offset and up to 16 bytes, all in hex.
 * Bytes that no line names are zero. Lines that begin with # are comments.
 *
 * TWINLOG_GOLDEN_DIR=DIR writes what the code makes to DIR/<name>.hex, to compare or to keep.
 */
#define _GNU_SOURCE
#include "suites.h"

#include "segment/segment.h"
#include "twinlog.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_BYTES SEGMENT_MIN_BYTES
#define MAX_SEGMENTS 3u
#define MAX_RECORDS 8u
#define MAX_PAYLOAD 5000u
#define LINE_BYTES 16u
#define NEW_YEAR_NS INT64_C(1767225600000000000) /* 2026-01-01 00:00:00 UTC */

/* ---- the records and what they say ------------------------------------------------------------- */

struct known_record {
    const char *text; /* NULL: a pattern */
    size_t size;
};

static const struct known_record two_records[] = { { "hello", 5 }, { "group commit", 12 } };

/* All the sizes that matter: nothing, less than 8, 8, more than a block. */
static const struct known_record history[] = {
    { "", 0 },
    { "sevenby", 7 },
    { "eightbyt", 8 },
    { NULL, MAX_PAYLOAD },
    { "after a close", 13 },
    { "rolled on", 9 },
    { NULL, 100 },
    { "on a new block", 14 },
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

/* ---- making the bytes -------------------------------------------------------------------------- */

struct image {
    char name[SEGMENT_NAME_BYTES];
    unsigned char bytes[SEGMENT_BYTES];
};

struct images {
    struct image image[MAX_SEGMENTS];
    unsigned count;
};

/* A writer that keeps no secrets: what a real one asks the kernel for is fixed here. */
struct builder {
    struct images *images;
    const struct known_record *records;
    struct segment_header header;
    struct epoch epoch;
    uint64_t offset;
    uint64_t next_lsn;
    uint32_t chain;
    uint32_t groups;
    bool is_begun; /* the segment has a group */
};

static void begin_log(struct builder *builder, struct images *images, const struct known_record *records)
{
    memset(images, 0, sizeof(*images));
    *builder = (struct builder){ .images = images, .records = records, .next_lsn = 1 };
    for (unsigned i = 0; i < LOG_ID_BYTES; i++)
        builder->header.log_id[i] = (uint8_t)(0xa0 + i);
}

static unsigned char *bytes_of(const struct builder *builder)
{
    return builder->images->image[builder->header.sequence - 1].bytes;
}

static void add_segment(struct builder *builder, uint32_t epoch)
{
    struct segment_header *header = &builder->header;
    header->sequence = ++builder->images->count;
    builder->is_begun = false;
    ck_assert_uint_le(header->sequence, MAX_SEGMENTS);
    header->segment_id = 0x0102030405060700 + header->sequence;
    header->bytes = SEGMENT_BYTES;
    header->after_lsn = builder->next_lsn - 1;
    header->created_ns = NEW_YEAR_NS;
    header->epoch = epoch;
    header->max_group_bytes = 28672;
    twl_segment_header_encode(header, bytes_of(builder));
    twl_segment_name(header->sequence, builder->images->image[header->sequence - 1].name);
}

/* A group of `count` records at builder->offset. */
static void add_group(struct builder *builder, enum group_kind kind, uint32_t count)
{
    unsigned char payload[MAX_PAYLOAD];
    unsigned char *group_bytes = bytes_of(builder) + builder->offset;
    uint32_t epoch_seed = twl_epoch_seed(builder->header.log_id, builder->epoch);
    uint32_t used = GROUP_HEADER_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t lsn = builder->next_lsn + i;
        const struct known_record *record = &builder->records[lsn - 1];
        make_payload(record, lsn, payload);
        twl_record_encode(group_bytes + used, epoch_seed, lsn, record_time(lsn), payload, record->size);
        used += (uint32_t)twl_record_bytes(record->size);
    }
    struct group_header group = { .first_lsn = builder->next_lsn,
                                  .count = count,
                                  .bytes = used,
                                  .durable_lsn = builder->next_lsn - 1,
                                  .chain = builder->chain,
                                  .epoch = builder->epoch,
                                  .kind = (uint16_t)kind,
                                  .flags = builder->is_begun ? 0 : GROUP_FIRST,
                                  .time_ns = NEW_YEAR_NS + ++builder->groups * 1000000 };
    twl_group_header_encode(&group, twl_segment_seed(&builder->header), builder->offset, group_bytes);
    builder->offset += used;
    builder->next_lsn += count;
    builder->chain = group.checksum;
    builder->is_begun = true;
}

static void begin_epoch(struct builder *builder, uint32_t salt)
{
    builder->epoch = (struct epoch){ .number = builder->epoch.number + 1, .salt = salt };
    add_group(builder, GROUP_START, 0);
}

static void build_two_records(struct images *images)
{
    struct builder builder;
    begin_log(&builder, images, two_records);
    add_segment(&builder, 1);
    builder.offset = SEGMENT_DATA_OFFSET;
    begin_epoch(&builder, 0x5a175a17);
    add_group(&builder, GROUP_RECORDS, 2);
    builder.offset = align_up(builder.offset, BLOCK_BYTES);
    add_group(&builder, GROUP_CLOSE, 0);
}

/* Three writers: the first closes the log, the second dies, the third pads and dies in a write. The
 * last group's second block never reached the disk. Segment 3 is a spare. */
static void build_history(struct images *images)
{
    struct builder builder;
    begin_log(&builder, images, history);
    add_segment(&builder, 1);
    builder.offset = SEGMENT_DATA_OFFSET;
    begin_epoch(&builder, 0x11111111);
    add_group(&builder, GROUP_RECORDS, 3);
    add_group(&builder, GROUP_RECORDS, 1);
    builder.offset = align_up(builder.offset, BLOCK_BYTES);
    add_group(&builder, GROUP_CLOSE, 0);
    begin_epoch(&builder, 0x22222222);
    add_group(&builder, GROUP_RECORDS, 1);

    add_segment(&builder, 2);
    builder.offset = SEGMENT_DATA_OFFSET + builder.offset % BLOCK_BYTES;
    add_group(&builder, GROUP_RECORDS, 2);

    builder.offset = align_up(builder.offset, BLOCK_BYTES);
    begin_epoch(&builder, 0x33333333);
    builder.offset = align_up(builder.offset, BLOCK_BYTES);
    add_group(&builder, GROUP_RECORDS, 1);

    static const struct known_record lost[] = { [8] = { NULL, MAX_PAYLOAD } };
    uint64_t torn = align_up(builder.offset, BLOCK_BYTES);
    unsigned char *bytes = bytes_of(&builder);
    builder.records = lost;
    builder.offset = torn;
    add_group(&builder, GROUP_RECORDS, 1);
    memset(bytes + torn + BLOCK_BYTES, 0, builder.offset - torn - BLOCK_BYTES);
    builder.next_lsn--;
    add_segment(&builder, 3);
}

/* ---- the logs ---------------------------------------------------------------------------------- */

static const struct golden {
    const char *name;
    void (*build)(struct images *images);
    const struct known_record *records;
    unsigned count;
    enum twinlog_finding finding; /* of inspecting it */
    uint64_t end_offset;          /* where the log ends, or was cut */
} goldens[] = {
    { "v1-two-records", build_two_records, two_records, 2, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
    { "v1-history", build_history, history, 8, TWINLOG_FOUND_TORN_TAIL, 16384 },
};
#define GOLDENS ((int)(sizeof(goldens) / sizeof(goldens[0])))

/* ---- text and back ----------------------------------------------------------------------------- */

static void print_line(FILE *to, const unsigned char *bytes, unsigned offset)
{
    static const unsigned char zeros[LINE_BYTES];
    if (memcmp(bytes + offset, zeros, LINE_BYTES) == 0)
        return;
    fprintf(to, "%05x ", offset);
    for (unsigned i = 0; i < LINE_BYTES; i++)
        fprintf(to, "%s%02x", i % 8 == 0 ? "  " : " ", bytes[offset + i]);
    fputc('\n', to);
}

static void print_images(FILE *to, const struct images *images)
{
    for (unsigned i = 0; i < images->count; i++) {
        fprintf(to, "file %s %u\n", images->image[i].name, SEGMENT_BYTES);
        for (unsigned offset = 0; offset < SEGMENT_BYTES; offset += LINE_BYTES)
            print_line(to, images->image[i].bytes, offset);
    }
}

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
        ck_assert_uint_lt(offset + i, SEGMENT_BYTES);
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
        struct image *image = &ret_images->image[ret_images->count];
        unsigned bytes;
        if (strncmp(line, "file ", 5) != 0) {
            ck_assert_uint_gt(ret_images->count, 0);
            parse_bytes(image - 1, line);
            continue;
        }
        ck_assert_uint_lt(ret_images->count, MAX_SEGMENTS);
        ck_assert_int_eq(sscanf(line, "file %31s %u", image->name, &bytes), 2);
        ck_assert_uint_eq(bytes, SEGMENT_BYTES);
        ret_images->count++;
    }
}

/* A file of the source tree, which is where this file is. */
static FILE *open_source(const char *path)
{
    const char *here = __FILE__;
    char name[4096];
    const char *tests = strstr(here, "test/unit/test_golden.c");
    ck_assert_ptr_nonnull(tests);
    snprintf(name, sizeof(name), "%.*s%s", (int)(tests - here), here, path);
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

static void keep_if_asked(const char *name, const struct images *images)
{
    const char *directory = getenv("TWINLOG_GOLDEN_DIR");
    char path[4096];
    if (!directory)
        return;
    snprintf(path, sizeof(path), "%s/%s.hex", directory, name);
    FILE *file = fopen(path, "w");
    ck_assert_msg(file != NULL, "cannot write %s", path);
    print_images(file, images);
    ck_assert_int_eq(fclose(file), 0);
}

static void assert_same(const struct images *expected, const struct images *found)
{
    ck_assert_uint_eq(found->count, expected->count);
    for (unsigned i = 0; i < expected->count; i++) {
        const struct image *a = &expected->image[i], *b = &found->image[i];
        ck_assert_str_eq(b->name, a->name);
        for (unsigned at = 0; at < SEGMENT_BYTES; at++)
            ck_assert_msg(a->bytes[at] == b->bytes[at], "%s at 0x%05x: the code makes %02x, kept is %02x",
                          a->name, at, a->bytes[at], b->bytes[at]);
    }
}

/* ---- a directory to read them in --------------------------------------------------------------- */

static char directory[256];
static struct images made, kept;

static int remove_one(const char *path, const struct stat *about, int type, struct FTW *where)
{
    (void)about;
    (void)type;
    (void)where;
    return remove(path);
}

static void make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof(directory), "%s/twinlog-golden-XXXXXX", parent ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
    nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void lay_out(const struct images *images)
{
    for (unsigned i = 0; i < images->count; i++) {
        char path[sizeof(directory) + SEGMENT_NAME_BYTES + 1];
        snprintf(path, sizeof(path), "%s/%s", directory, images->image[i].name);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, images->image[i].bytes, SEGMENT_BYTES), SEGMENT_BYTES);
        close(fd);
    }
}

/* The log in the directory holds these records, then `last` if that is not NULL, and nothing else. */
static void assert_records(const struct golden *golden, const char *last)
{
    static unsigned char payload[MAX_PAYLOAD];
    struct twinlog_reader *reader;
    struct twinlog_record record;
    ck_assert_int_eq(twinlog_reader_open(directory, NULL, &reader), 0);
    for (unsigned i = 0; i < golden->count; i++) {
        uint64_t lsn = i + 1;
        ck_assert_int_eq(twinlog_reader_next(reader, &record), 1);
        make_payload(&golden->records[i], lsn, payload);
        ck_assert_uint_eq(record.lsn, lsn);
        ck_assert_int_eq(record.time_ns, record_time(lsn));
        ck_assert_uint_eq(record.size, golden->records[i].size);
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

/* ---- tests ------------------------------------------------------------------------------------- */

START_TEST(the_code_makes_the_bytes_that_are_kept)
{
    goldens[_i].build(&made);
    keep_if_asked(goldens[_i].name, &made);
    read_golden(goldens[_i].name, &kept);
    assert_same(&made, &kept);
}
END_TEST

START_TEST(the_format_document_shows_the_bytes_that_the_code_makes)
{
    FILE *document = open_source("docs/format.md");
    char line[256];
    bool is_found = false;
    while (!is_found && fgets(line, sizeof(line), document))
        is_found = strcmp(line, "<!-- golden: v1-two-records -->\n") == 0;
    ck_assert(is_found);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), document));
    ck_assert_str_eq(line, "```text\n");
    parse_images(document, &kept);
    fclose(document);
    build_two_records(&made);
    assert_same(&made, &kept);
}
END_TEST

START_TEST(a_kept_log_is_read_to_its_last_byte)
{
    const struct golden *golden = &goldens[_i];
    uint64_t records;
    read_golden(golden->name, &kept);
    lay_out(&kept);
    ck_assert_int_eq(twinlog_verify(directory, NULL, &records), 0);
    ck_assert_uint_eq(records, golden->count);
    assert_records(golden, NULL);
}
END_TEST

START_TEST(the_end_of_a_kept_log_is_found_where_it_is)
{
    const struct golden *golden = &goldens[_i];
    struct twinlog_inspection found = TWINLOG_INSPECTION_INIT;
    read_golden(golden->name, &kept);
    lay_out(&kept);
    ck_assert_int_eq(twinlog_inspect(directory, &found), 0);
    ck_assert_uint_eq(found.first_lsn, 1);
    ck_assert_uint_eq(found.last_lsn, golden->count);
    ck_assert_uint_eq(found.report.finding, golden->finding);
    ck_assert_uint_eq(found.report.offset, golden->end_offset);
    ck_assert_uint_eq(found.segments + found.spare_segments, kept.count);
}
END_TEST

START_TEST(a_kept_log_can_be_continued)
{
    const struct golden *golden = &goldens[_i];
    struct twinlog *log;
    uint64_t lsn, records;
    read_golden(golden->name, &kept);
    lay_out(&kept);
    ck_assert_int_eq(twinlog_open(directory, NULL, &log), 0);
    ck_assert_int_eq(twinlog_append(log, "and on", 6, &lsn), 0);
    ck_assert_uint_eq(lsn, golden->count + 1);
    ck_assert_int_eq(twinlog_close(log), 0);
    assert_records(golden, "and on");
    ck_assert_int_eq(twinlog_verify(directory, NULL, &records), 0);
    ck_assert_uint_eq(records, lsn);
}
END_TEST

Suite *golden_suite(void)
{
    Suite *suite = suite_create("golden");
    TCase *bytes = tcase_create("bytes");
    TCase *logs = tcase_create("logs");
    tcase_add_loop_test(bytes, the_code_makes_the_bytes_that_are_kept, 0, GOLDENS);
    tcase_add_test(bytes, the_format_document_shows_the_bytes_that_the_code_makes);
    suite_add_tcase(suite, bytes);
    tcase_add_checked_fixture(logs, make_directory, remove_directory);
    tcase_add_loop_test(logs, a_kept_log_is_read_to_its_last_byte, 0, GOLDENS);
    tcase_add_loop_test(logs, the_end_of_a_kept_log_is_found_where_it_is, 0, GOLDENS);
    tcase_add_loop_test(logs, a_kept_log_can_be_continued, 0, GOLDENS);
    suite_add_tcase(suite, logs);
    return suite;
}
