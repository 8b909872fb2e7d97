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
#include "logdir.h"
#include "suites.h"

#include "base/bytes.h"
#include "control/state.h"
#include "format/checksum.h"
#include "segment/segment.h"
#include "twinlog_admin.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_BYTES SEGMENT_MIN_BYTES
#define STATE_BYTES (2u * STATE_MIN_SLOT_BYTES)
#define MAX_FILES 4u
#define MAX_PAYLOAD 5000u
#define WRITER 0x00010001u /* version 0.1.0 of this library */
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

static const struct known_record seven[] = {
    { "one", 3, false },  { "two", 3, false }, { "three", 5, false }, { "four", 4, false },
    { "five", 4, false }, { "six", 3, false }, { "seven", 5, false },
};

/* And behind them there was only a claim. */
static const struct known_record seven_and_claim[] = {
    { "one", 3, false },  { "two", 3, false }, { "three", 5, false }, { "four", 4, false },
    { "five", 4, false }, { "six", 3, false }, { "seven", 5, false }, { "", 0, true },
};

/* What a log says that was truncated, of LSNs 1 to 3; and what it had said before. */
static const struct known_record after_cut[] = { { "kept", 4, false },
                                                 { "too", 3, false },
                                                 { "new", 3, false } };
static const struct known_record before_cut[] = { { "kept", 4, false },
                                                  { "too", 3, false },
                                                  { "cut off", 7, false },
                                                  { "with its group", 14, false },
                                                  { "with its segment", 16, false } };

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

/* ---- making the bytes -------------------------------------------------------------------------- */

struct image {
    char name[SEGMENT_NAME_BYTES];
    unsigned size;
    unsigned char bytes[SEGMENT_BYTES];
};

struct images {
    struct image image[MAX_FILES];
    unsigned count;
};
_Static_assert(STATE_BYTES <= SEGMENT_BYTES, "a state file fits in an image");

static struct image *add_image(struct images *images, const char *name, unsigned size)
{
    ck_assert_uint_lt(images->count, MAX_FILES);
    struct image *image = &images->image[images->count++];
    snprintf(image->name, sizeof(image->name), "%s", name);
    image->size = size;
    return image;
}

/* A writer that keeps no secrets: what a real one asks the kernel for is fixed here. */
struct builder {
    struct images *images;
    const struct known_record *records;
    unsigned char *bytes; /* of the segment's file */
    struct segment_header header;
    struct summary summary; /* of the segment */
    int64_t sealed_max_ns;  /* newest time in the sealed segments */
    uint32_t features;
    uint64_t sequence; /* newest */
    struct epoch epoch;
    uint64_t offset;
    uint64_t next_lsn;
    uint32_t chain;
    uint32_t groups;
};

static void begin_log(struct builder *builder, struct images *images, const struct known_record *records)
{
    memset(images, 0, sizeof(*images));
    *builder =
        (struct builder){ .images = images, .records = records, .next_lsn = 1, .sealed_max_ns = INT64_MIN };
    for (unsigned i = 0; i < LOG_ID_BYTES; i++)
        builder->header.log_id[i] = (uint8_t)(0xa0 + i);
}

/* Both headers; a footer of another incarnation goes. */
static void put_headers(struct builder *builder)
{
    unsigned char *footer_block = builder->bytes + twl_segment_data_end(SEGMENT_BYTES);
    memset(footer_block, 0, SEGMENT_FOOTER_BYTES);
    twl_segment_header_encode(&builder->header, builder->bytes);
    twl_second_header_encode(&builder->header, footer_block);
}

/* A new header, of the next sequence, in the file at builder->bytes. */
static void begin_segment(struct builder *builder, uint32_t epoch, uint32_t incarnations)
{
    struct segment_header *header = &builder->header;
    header->incompatible = builder->features;
    header->sequence = ++builder->sequence;
    header->segment_id = 0x0102030405060700 + header->sequence;
    header->bytes = SEGMENT_BYTES;
    header->after_lsn = builder->next_lsn - 1;
    header->created_ns = NEW_YEAR_NS;
    header->epoch = epoch;
    header->writer = WRITER;
    header->incarnations = incarnations;
    header->start_lsn = header->sequence == 1 ? 1 : 0;
    header->previous = 0;
    header->start_chain = 0;
    put_headers(builder);
    twl_summary_begin(&builder->summary);
}

static void add_segment(struct builder *builder, uint32_t epoch)
{
    char name[SEGMENT_NAME_BYTES];
    twl_segment_name(builder->images->count + 1, name);
    builder->bytes = add_image(builder->images, name, SEGMENT_BYTES)->bytes;
    begin_segment(builder, epoch, 0);
}

/* A group of `count` records at builder->offset. */
static void add_group(struct builder *builder, enum group_kind kind, uint32_t count)
{
    unsigned char payload[MAX_PAYLOAD];
    unsigned char *group_bytes = builder->bytes + builder->offset;
    uint32_t epoch_seed = twl_epoch_seed(builder->header.log_id, builder->epoch);
    uint32_t used = GROUP_HEADER_BYTES;
    uint64_t block_end = align_up(builder->offset + 1, BLOCK_BYTES);
    memset(group_bytes, 0, (size_t)(block_end - builder->offset)); /* what another incarnation left */
    for (uint32_t i = 0; i < count; i++) {
        uint64_t lsn = builder->next_lsn + i;
        const struct known_record *record = &builder->records[lsn - 1];
        make_payload(record, lsn, payload);
        twl_record_encode(group_bytes + used, epoch_seed, lsn,
                          &(struct record_header){ .kind = record->is_void ? RECORD_FILLER : RECORD_DATA,
                                                   .time_ns = record_time(lsn),
                                                   .size = (uint32_t)(record->size) },
                          payload);
        used += (uint32_t)twl_record_bytes(record->size);
    }
    struct group_header group = { .first_lsn = builder->next_lsn,
                                  .count = count,
                                  .bytes = used,
                                  .durable_lsn = builder->next_lsn - 1,
                                  .chain = builder->chain,
                                  .epoch = builder->epoch,
                                  .kind = (uint16_t)kind,
                                  .flags = (uint16_t)(twl_group_flags_for(28672) |
                                                      (builder->summary.first_lsn > 0 ? 0 : GROUP_FIRST)),
                                  .time_ns = NEW_YEAR_NS + ++builder->groups * 1000000,
                                  .writer = kind == GROUP_START ? WRITER : 0 };
    twl_group_header_encode(&group, twl_segment_seed(&builder->header), builder->offset, group_bytes);
    twl_summary_add_group(&builder->summary, &group, builder->offset, record_time(group.first_lsn),
                          record_time(group.first_lsn + count - 1), group_bytes);
    builder->offset += used;
    builder->next_lsn += count;
    builder->chain = group.checksum;
}

/* The same at the next block. */
static void add_padded(struct builder *builder, enum group_kind kind, uint32_t count)
{
    builder->offset = align_up(builder->offset, BLOCK_BYTES);
    add_group(builder, kind, count);
}

static void begin_epoch(struct builder *builder, uint32_t salt)
{
    builder->epoch = (struct epoch){ .number = builder->epoch.number + 1, .salt = salt };
    add_group(builder, GROUP_START, 0);
}

/* Index and footer of the segment, as of the moment when it is left. */
static void seal(struct builder *builder)
{
    uint64_t footer_at = twl_segment_data_end(SEGMENT_BYTES);
    uint64_t room = footer_at - align_up(builder->summary.data_end, BLOCK_BYTES);
    struct segment_footer footer;
    uint32_t step;
    twl_summary_footer(&builder->summary, room, NEW_YEAR_NS + INT64_C(1000000000), &footer, &step);
    if (footer.max_time_so_far_ns < builder->sealed_max_ns)
        footer.max_time_so_far_ns = builder->sealed_max_ns;
    builder->sealed_max_ns = footer.max_time_so_far_ns;
    unsigned char *at = builder->bytes + footer_at;
    for (uint32_t i = 0; i < footer.index_entries; i++)
        twl_index_entry_encode(&builder->summary.index.entries[i * step], at -= INDEX_ENTRY_BYTES);
    footer.index_checksum = twl_crc32c(0, at, (size_t)footer.index_entries * INDEX_ENTRY_BYTES);
    twl_segment_footer_encode(&footer, twl_segment_seed(&builder->header), footer_at,
                              builder->bytes + footer_at);
}

/* The state file, the same in both slots, with these entries behind a header. */
static void add_state(struct builder *builder, struct state_header header, const struct state_entry *entries,
                      unsigned count)
{
    unsigned char *slot = add_image(builder->images, STATE_NAME, STATE_BYTES)->bytes;
    memcpy(header.log_id, builder->header.log_id, LOG_ID_BYTES);
    for (unsigned i = 0; i < count; i++)
        header.body_bytes +=
            (uint32_t)twl_state_entry_encode(&entries[i], slot + STATE_HEADER_BYTES + header.body_bytes);
    twl_state_encode(&header, slot);
    memcpy(slot + STATE_MIN_SLOT_BYTES, slot, STATE_HEADER_BYTES + header.body_bytes);
}

static const struct state_header new_state = { .generation = 1, .first_sequence = 1, .first_lsn = 1 };

/* ---- logs ---------------------------------------------------------------------------------------- */

static void begin_first_segment(struct builder *builder, struct images *images,
                                const struct known_record *records, uint32_t salt)
{
    begin_log(builder, images, records);
    add_segment(builder, 1);
    builder->offset = SEGMENT_DATA_OFFSET;
    begin_epoch(builder, salt);
}

static void end_closed_log(struct builder *builder)
{
    add_padded(builder, GROUP_CLOSE, 0);
    add_state(builder, new_state, NULL, 0);
}

static void build_two_records(struct images *images)
{
    struct builder builder;
    begin_first_segment(&builder, images, two_records, 0x5a175a17);
    add_group(&builder, GROUP_RECORDS, 2);
    end_closed_log(&builder);
}

/* Three writers: the first closes the log, the second dies, the third pads and dies in a write. The
 * last group's second block never reached the disk. Segment 3 is a spare. */
static void build_history(struct images *images)
{
    struct builder builder;
    begin_first_segment(&builder, images, history, 0x11111111);
    add_group(&builder, GROUP_RECORDS, 3);
    add_group(&builder, GROUP_RECORDS, 1);
    add_padded(&builder, GROUP_CLOSE, 0);
    begin_epoch(&builder, 0x22222222);
    add_group(&builder, GROUP_RECORDS, 1);

    add_segment(&builder, 2);
    builder.offset = SEGMENT_DATA_OFFSET + builder.offset % BLOCK_BYTES;
    add_group(&builder, GROUP_RECORDS, 2);

    builder.offset = align_up(builder.offset, BLOCK_BYTES);
    begin_epoch(&builder, 0x33333333);
    add_padded(&builder, GROUP_RECORDS, 1);

    static const struct known_record lost[] = { [8] = { NULL, MAX_PAYLOAD, false } };
    uint64_t torn = align_up(builder.offset, BLOCK_BYTES);
    builder.records = lost;
    add_padded(&builder, GROUP_RECORDS, 1);
    memset(builder.bytes + torn + BLOCK_BYTES, 0, builder.offset - torn - BLOCK_BYTES);
    builder.next_lsn--;
    add_segment(&builder, 3);
    add_state(&builder, new_state, NULL, 0);
}

/* Segment 1 is full and sealed, with an index of three entries; segment 2 was closed; segment 3 is a spare. A
 * consumer has done with two records, and there is a vote. */
static void build_sealed(struct images *images)
{
    static const unsigned char two[STATE_CURSOR_BYTES] = { 2 };
    static const struct state_entry entries[] = {
        { STATE_CURSOR, 7, STATE_CURSOR_BYTES, "billing", two },
        { STATE_VALUE, 4, 6, "vote", (const unsigned char *)"node 7" },
    };
    static const struct state_header state = { .generation = 4, .first_sequence = 1, .first_lsn = 1 };
    struct builder builder;
    begin_first_segment(&builder, images, seven, 0x11111111);
    add_padded(&builder, GROUP_RECORDS, 2);
    add_padded(&builder, GROUP_RECORDS, 1);
    add_padded(&builder, GROUP_RECORDS, 3);
    seal(&builder);
    add_segment(&builder, 1);
    builder.offset = SEGMENT_DATA_OFFSET;
    add_group(&builder, GROUP_RECORDS, 1);
    add_padded(&builder, GROUP_CLOSE, 0);
    add_segment(&builder, 1);
    add_state(&builder, state, entries, 2);
}

/* Trimmed up to LSN 4, which is inside segment 2; the file of segment 1 was recycled as segment 3, in which
 * the writer died. Behind its end, groups and a footer of its first incarnation are left. */
static void build_recycled(struct images *images)
{
    static const struct state_header state = { .generation = 3, .first_sequence = 2, .first_lsn = 5 };
    struct builder builder;
    begin_first_segment(&builder, images, seven, 0x11111111);
    add_padded(&builder, GROUP_RECORDS, 2);
    add_padded(&builder, GROUP_RECORDS, 1);
    seal(&builder);
    add_segment(&builder, 1);
    builder.offset = SEGMENT_DATA_OFFSET;
    add_group(&builder, GROUP_RECORDS, 3);
    seal(&builder);
    builder.bytes = images->image[0].bytes;
    begin_segment(&builder, 1, 1);
    builder.offset = SEGMENT_DATA_OFFSET;
    add_group(&builder, GROUP_RECORDS, 1);
    add_state(&builder, state, NULL, 0);
}

/* Cut behind LSN 2, which is the second of three records of its group. Segment 3 begins there, in epoch 2, and
 * goes on behind segment 1; what that says of LSNs 3 and 4 is dead, and so is segment 2. */
static void build_truncated(struct images *images)
{
    struct builder builder;
    begin_first_segment(&builder, images, before_cut, 0x11111111);
    add_group(&builder, GROUP_RECORDS, 3);
    uint32_t chain = builder.chain;
    add_group(&builder, GROUP_RECORDS, 1);
    seal(&builder);
    add_segment(&builder, 1);
    builder.offset = SEGMENT_DATA_OFFSET;
    add_group(&builder, GROUP_RECORDS, 1);

    builder.records = after_cut;
    builder.next_lsn = 3;
    builder.chain = chain;
    add_segment(&builder, 1);
    builder.header.start_lsn = 3;
    builder.header.previous = 1;
    builder.header.start_chain = chain;
    put_headers(&builder);
    builder.offset = SEGMENT_DATA_OFFSET;
    begin_epoch(&builder, 0x22222222);
    add_group(&builder, GROUP_RECORDS, 1);
    end_closed_log(&builder);
}

/* As a repair leaves it: two records were lost. */
static void build_fillers(struct images *images)
{
    struct builder builder;
    begin_first_segment(&builder, images, with_voids, 0x5a175a17);
    add_group(&builder, GROUP_RECORDS, 4);
    end_closed_log(&builder);
}

/* ---- logs that were mapped ---------------------------------------------------------------------- */

/* The records of the open group, up to the next LSN `end_lsn`. */
static void add_open_records(struct builder *builder, uint64_t end_lsn)
{
    const uint32_t epoch_seed = twl_epoch_seed(builder->header.log_id, builder->epoch);
    builder->offset = OPEN_RECORDS_OFFSET;
    for (; builder->next_lsn < end_lsn; builder->next_lsn++) {
        const struct known_record *record = &builder->records[builder->next_lsn - 1];
        const struct record_header header = { .size = (uint32_t)record->size,
                                              .time_ns = record_time(builder->next_lsn) };
        unsigned char *at = builder->bytes + builder->offset;
        make_payload(record, builder->next_lsn, at + RECORD_HEADER_BYTES);
        store_le64(at, twl_record_encode_open(at, epoch_seed, builder->next_lsn, &header));
        builder->offset += twl_record_bytes(record->size);
    }
}

static void add_claim(struct builder *builder, uint32_t size)
{
    const uint32_t epoch_seed = twl_epoch_seed(builder->header.log_id, builder->epoch);
    store_le64(builder->bytes + builder->offset, twl_claim_encode(epoch_seed, builder->next_lsn, size, 1));
}

/* The header of the open group, which holds all records from `first_lsn` on. */
static void close_group(struct builder *builder, uint64_t first_lsn)
{
    struct group_header group = { .first_lsn = first_lsn,
                                  .count = (uint32_t)(builder->next_lsn - first_lsn),
                                  .bytes = (uint32_t)(builder->offset - OPEN_GROUP_OFFSET),
                                  .durable_lsn = first_lsn - 1,
                                  .chain = builder->chain,
                                  .epoch = builder->epoch,
                                  .flags = GROUP_MAPPED,
                                  .time_ns = NEW_YEAR_NS + ++builder->groups * 1000000 };
    twl_group_header_encode(&group, twl_segment_seed(&builder->header), OPEN_GROUP_OFFSET,
                            builder->bytes + OPEN_GROUP_OFFSET);
}

/* Segment 1 has a marker only. Segment 2 was full, and closed; in segment 3 the power went: a record was claimed behind
 * the last one, and not finished. */
static void build_mapped(struct images *images)
{
    struct builder builder;
    begin_first_segment(&builder, images, seven, 0x11111111);
    builder.features = FEATURE_MAPPED;
    add_segment(&builder, 1);
    builder.offset = SEGMENT_DATA_OFFSET;
    begin_epoch(&builder, 0x22222222);
    add_open_records(&builder, 5);
    add_claim(&builder, CLAIM_END);
    close_group(&builder, 1);
    add_segment(&builder, 2);
    builder.offset = SEGMENT_DATA_OFFSET;
    begin_epoch(&builder, 0x33333333);
    add_open_records(&builder, 8);
    add_claim(&builder, 100);
    add_state(&builder, new_state, NULL, 0);
}

/* ---- logs of a pretended later version ----------------------------------------------------------- */

/* Two records in one group, at the end of the log. */
static void build_for_future(struct images *images)
{
    struct builder builder;
    begin_first_segment(&builder, images, two_records, 0x5a175a17);
    add_group(&builder, GROUP_RECORDS, 2);
    add_state(&builder, new_state, NULL, 0);
}

#define GROUP_AT (SEGMENT_DATA_OFFSET + GROUP_HEADER_BYTES)
#define RECORD_AT (GROUP_AT + GROUP_HEADER_BYTES)

/* The checksums of the header, and of the group and its first record, made right again. */
static void reseal_segment(struct images *images)
{
    unsigned char *bytes = images->image[0].bytes, place[8];
    uint8_t log_id[LOG_ID_BYTES];
    memcpy(log_id, bytes + 24, sizeof(log_id));
    const uint32_t epoch_seed = twl_epoch_seed(log_id, (struct epoch){ 1, 0x5a175a17 });
    store_le32(bytes + 20, twl_crc32c(0, bytes, 20));
    store_le32(bytes + 508, twl_crc32c(0, bytes, 508));
    store_le64(place, GROUP_AT);
    uint32_t seed = twl_crc32c(twl_crc32c(twl_crc32c(0, bytes + 24, 16), bytes + 48, 8), place, 8);
    store_le32(bytes + GROUP_AT, twl_crc32c(seed, bytes + GROUP_AT + 4, GROUP_HEADER_BYTES - 4));
    store_le32(bytes + RECORD_AT, twl_crc32c(epoch_seed ^ 1, bytes + RECORD_AT + 4, RECORD_HEADER_BYTES - 4));
}

static void reseal_state(struct images *images)
{
    for (unsigned slot = 0; slot < 2; slot++) {
        unsigned char *bytes = images->image[1].bytes + slot * STATE_MIN_SLOT_BYTES;
        store_le32(bytes + 20, twl_crc32c(0, bytes, 20));
        store_le32(bytes + 68, twl_crc32c(0, bytes + STATE_HEADER_BYTES, load_le32(bytes + 64)));
        store_le32(bytes + 124, twl_crc32c(0, bytes, 124));
    }
}

/* In both slots. */
static void set_in_state(struct images *images, unsigned offset, const void *value, size_t size)
{
    for (unsigned slot = 0; slot < 2; slot++)
        memcpy(images->image[1].bytes + slot * STATE_MIN_SLOT_BYTES + offset, value, size);
    reseal_state(images);
}

/* One entry without a value. */
static void set_entry(struct images *images, uint8_t kind)
{
    const unsigned char entry[8] = { kind, 4, 0, 0, 'n', 'a', 'm', 'e' };
    set_in_state(images, STATE_HEADER_BYTES, entry, sizeof(entry));
    set_in_state(images, 64, "\x08", 1);
}

/* All that a version may ignore. */
static void build_ignored(struct images *images)
{
    unsigned char *bytes = images->image[0].bytes;
    bytes[16] = bytes[300] = 1;      /* a compatible feature, and what it may need */
    bytes[GROUP_AT + 47] = 1;        /* flag 8 */
    bytes[RECORD_AT + 12] = 32;      /* a record that is passed over */
    bytes[SEGMENT_BYTES - 3000] = 1; /* behind a footer */
    reseal_segment(images);
    set_entry(images, STATE_KEPT);
    set_in_state(images, 16, "\x01", 1);
}

/* What another version must not do with it. */
enum allowed {
    NOTHING,
    READING,
    ALL
};

static const struct future {
    const char *name;
    enum allowed allowed;
    enum {
        IN_SEGMENT,
        IN_STATE,
        ENTRY, /* of that kind */
        IGNORED
    } what;
    unsigned char value;
    unsigned offset;
} futures[] = {
    { "future-version", NOTHING, IN_SEGMENT, 2, 8 },
    { "future-feature", NOTHING, IN_SEGMENT, 0x80, 15 },
    { "future-group-kind", NOTHING, IN_SEGMENT, 3, GROUP_AT + 44 },
    { "future-group-flag", NOTHING, IN_SEGMENT, 4, GROUP_AT + 46 },
    { "future-group-byte", NOTHING, IN_SEGMENT, 1, GROUP_AT + 60 },
    { "future-record-kind", NOTHING, IN_SEGMENT, 31, RECORD_AT + 12 },
    { "future-state-feature", NOTHING, IN_STATE, 0x80, 15 },
    { "future-entry", NOTHING, ENTRY, 127, 0 },
    { "future-for-readers", READING, IN_SEGMENT, 1, 18 },
    { "future-state-for-readers", READING, IN_STATE, 1, 18 },
    { "future-ignored", ALL, IGNORED, 0, 0 },
};
#define FUTURES ((int)(sizeof(futures) / sizeof(futures[0])))

static void build_future(struct images *images, const struct future *future)
{
    build_for_future(images);
    if (future->what == IN_SEGMENT) {
        images->image[0].bytes[future->offset] = future->value;
        reseal_segment(images);
    } else if (future->what == IN_STATE) {
        set_in_state(images, future->offset, &future->value, 1);
    } else if (future->what == ENTRY) {
        set_entry(images, future->value);
    } else {
        build_ignored(images);
    }
}

/* ---- the logs ---------------------------------------------------------------------------------- */

static const struct golden {
    const char *name;
    void (*build)(struct images *images);
    const struct known_record *records;
    unsigned first, last; /* LSN */
    unsigned segments, spares;
    enum twinlog_finding finding; /* of inspecting it */
    uint64_t end_offset;          /* where the log ends, or was truncated */
} goldens[] = {
    { "two-records", build_two_records, two_records, 1, 2, 1, 0, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
    { "history", build_history, history, 1, 8, 2, 1, TWINLOG_FOUND_TORN_TAIL, 16384 },
    { "sealed", build_sealed, seven, 1, 7, 2, 1, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
    { "recycled", build_recycled, seven, 5, 7, 2, 0, TWINLOG_FOUND_CLEAN_END, 4192 },
    { "truncated", build_truncated, after_cut, 1, 3, 2, 0, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
    { "mapped", build_mapped, seven_and_claim, 1, 8, 3, 0, TWINLOG_FOUND_CLEAN_END, 4448 },
    { "fillers", build_fillers, with_voids, 1, 4, 1, 0, TWINLOG_FOUND_CLEAN_CLOSE, 8256 },
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
        fprintf(to, "file %s %u\n", images->image[i].name, images->image[i].size);
        for (unsigned offset = 0; offset < images->image[i].size; offset += LINE_BYTES)
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
        ck_assert_uint_eq(b->size, a->size);
        for (unsigned at = 0; at < a->size; at++)
            ck_assert_msg(a->bytes[at] == b->bytes[at], "%s at 0x%05x: the code makes %02x, kept is %02x",
                          a->name, at, a->bytes[at], b->bytes[at]);
    }
}

/* ---- a directory to read them in --------------------------------------------------------------- */

static char directory[256];
static struct images made, kept;

static void make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof(directory), "%s/twinlog-golden-XXXXXX", parent ? parent : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void remove_directory(void)
{
    remove_tree(directory);
}

static void lay_out(const struct images *images)
{
    for (unsigned i = 0; i < images->count; i++) {
        char path[sizeof(directory) + SEGMENT_NAME_BYTES + 1];
        snprintf(path, sizeof(path), "%s/%s", directory, images->image[i].name);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, images->image[i].bytes, images->image[i].size), images->image[i].size);
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

TEST_LOOP(the_code_makes_the_bytes_that_are_kept, GOLDENS)
{
    goldens[_i].build(&made);
    keep_if_asked(goldens[_i].name, &made);
    read_golden(goldens[_i].name, &kept);
    assert_same(&made, &kept);
}

TEST(the_format_document_shows_the_bytes_that_the_code_makes)
{
    FILE *document = open_source("docs/format.md");
    char line[256];
    bool is_found = false;
    while (!is_found && fgets(line, sizeof(line), document))
        is_found = strcmp(line, "<!-- golden: two-records -->\n") == 0;
    ck_assert(is_found);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), document));
    ck_assert_str_eq(line, "```text\n");
    parse_images(document, &kept);
    fclose(document);
    build_two_records(&made);
    assert_same(&made, &kept);
}

TEST_LOOP(a_log_of_a_later_version_has_the_bytes_that_are_kept, FUTURES)
{
    build_future(&made, &futures[_i]);
    keep_if_asked(futures[_i].name, &made);
    read_golden(futures[_i].name, &kept);
    assert_same(&made, &kept);
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
    ck_assert_int_eq(twinlog_verify(directory, &options, &records), 0);
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

CASE("logs", make_directory, remove_directory);

TEST_LOOP(a_kept_log_is_read_to_its_last_byte, GOLDENS)
{
    const struct golden *golden = &goldens[_i];
    take_out(golden);
    ck_assert_uint_eq(verify(golden), count_records(golden));
    assert_records(golden, NULL);
}

TEST_LOOP(the_end_of_a_kept_log_is_found_where_it_is, GOLDENS)
{
    const struct golden *golden = &goldens[_i];
    struct twinlog_inspection found = TWINLOG_INSPECTION_INIT;
    take_out(golden);
    ck_assert_int_eq(twinlog_inspect(directory, &found), 0);
    ck_assert_uint_eq(found.first_lsn, golden->first);
    ck_assert_uint_eq(found.last_lsn, golden->last);
    ck_assert_uint_eq(found.report.finding, golden->finding);
    ck_assert_uint_eq(found.report.offset, golden->end_offset);
    ck_assert_uint_eq(found.segments, golden->segments);
    ck_assert_uint_eq(found.spare_segments, golden->spares);
}

TEST_LOOP(a_kept_log_can_be_continued, GOLDENS)
{
    const struct golden *golden = &goldens[_i];
    struct golden closed = *golden;
    struct twinlog *log;
    uint64_t lsn;
    closed.finding = TWINLOG_FOUND_CLEAN_CLOSE;
    take_out(golden);
    ck_assert_int_eq(twinlog_open(directory, NULL, &log), 0);
    ck_assert_int_eq(twinlog_append(log, "and on", 6, &lsn), 0);
    ck_assert_uint_eq(lsn, golden->last + 1);
    ck_assert_int_eq(twinlog_close(log), 0);
    assert_records(golden, "and on");
    ck_assert_uint_eq(verify(&closed), count_records(golden) + 1);
}

TEST(a_sealed_segment_is_searched_by_its_index)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    take_out(&goldens[2]);
    ck_assert_int_eq(twinlog_reader_open(directory, NULL, &reader), 0);
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

static int expect_state(void *context, const struct twinlog_segment *segment)
{
    const enum twinlog_segment_state **next = context;
    ck_assert_uint_eq(segment->state, *(*next)++);
    return 0;
}

static void assert_states(const char *name, const enum twinlog_segment_state *states, unsigned count)
{
    const enum twinlog_segment_state *next = states;
    read_golden(name, &kept);
    lay_out(&kept);
    ck_assert_int_eq(twinlog_segments(directory, expect_state, &next), 0);
    ck_assert_int_eq(next - states, count);
}

TEST(what_became_of_the_segments_of_a_truncated_log_is_known)
{
    static const enum twinlog_segment_state states[] = { TWINLOG_SEGMENT_SEALED, TWINLOG_SEGMENT_ACTIVE,
                                                         TWINLOG_SEGMENT_RETIRED };
    assert_states("truncated", states, 3);
}

TEST(what_became_of_the_segments_of_a_sealed_log_is_known)
{
    static const enum twinlog_segment_state states[] = { TWINLOG_SEGMENT_SEALED, TWINLOG_SEGMENT_ACTIVE,
                                                         TWINLOG_SEGMENT_SPARE };
    assert_states("sealed", states, 3);
}

TEST(a_kept_state_has_its_cursor_and_its_value)
{
    struct twinlog *log;
    char value[16];
    size_t size;
    uint64_t lsn;
    take_out(&goldens[2]);
    ck_assert_int_eq(twinlog_open(directory, &WITH_SIZE(options, .flags = TWINLOG_READ_ONLY), &log), 0);
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
        char path[sizeof(directory) + SEGMENT_NAME_BYTES + 1];
        snprintf(path, sizeof(path), "%s/%s", directory, kept.image[i].name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
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
    int count = 0, rc = twinlog_reader_open(directory, NULL, &reader);
    if (rc < 0)
        return rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        count++;
    twinlog_reader_close(reader);
    return rc < 0 ? rc : count;
}

TEST_LOOP(a_log_of_a_later_version_is_refused_or_only_read_or_its_news_are_passed_over, FUTURES)
{
    const struct future *future = &futures[_i];
    struct twinlog *log;
    struct state state;
    struct twinlog_report report;
    read_golden(future->name, &kept);
    lay_out(&kept);
    const int expected = future->allowed == NOTHING ? TWINLOG_EVERSION : future->allowed == READING ? 2 : 1;
    ck_assert_int_eq(count_read(), expected);
    ck_assert_int_eq(twinlog_verify(directory, NULL, NULL), expected < 0 ? expected : 0);
    int rc = twinlog_open(directory, NULL, &log);
    ck_assert_int_eq(rc, future->allowed == ALL ? 0 : TWINLOG_EVERSION);
    if (rc < 0) {
        assert_unchanged();
        return;
    }
    ck_assert_int_eq(twinlog_cursor_set(log, "consumer", 1), 0);
    ck_assert_int_eq(twinlog_append(log, "appended", 8, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    ck_assert_int_eq(count_read(), 2);
    struct io *io;
    ck_assert_int_eq(twl_io_posix_create(directory, true, &io), 0);
    ck_assert_int_eq(twl_state_read(io, &state, &report), 0);
    struct state_entry entry;
    ck_assert(twl_state_find(&state, STATE_KEPT, "name", &entry));
    ck_assert_uint_eq(state.header.compatible, 0);
    twl_state_free(&state);
    io->ops->destroy(io);
}
