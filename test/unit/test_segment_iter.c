/* SPDX-License-Identifier: Apache-2.0 */
/* The walk through a segment: what continues the history is entered, and nothing else, however valid it
 * looks by itself; and the ways to get to the middle of it. The file is in memory, behind an io that can only
 * be read or looked at. */
#include "suites.h"
#include "unscanned.h"

#include "format/checksum.h"
#include "recover/recover.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES 65536u
#define LARGE_BYTES (8u * 1024 * 1024)

UNSCANNED_BYTES(image, LARGE_BYTES)
static struct segment segment;
static const struct epoch first_epoch = { .number = 1, .salt = 77 };

static size_t bytes_read, largest_read;
static unsigned reads, views;
static int hit_error;

static int read_image(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    (void)file;
    *ret_size = offset < segment.header.bytes ? (size_t)min_u64(size, segment.header.bytes - offset) : 0;
    memcpy(buffer, image + offset, *ret_size);
    reads++;
    bytes_read += *ret_size;
    largest_read = (size_t)max_u64(largest_read, size);
    return 0;
}

static int map_image(struct io_file *file, size_t size, void **ret_bytes)
{
    (void)file;
    ck_assert_uint_eq(size, segment.header.bytes);
    *ret_bytes = image;
    views++;
    return 0;
}

static void unmap_image(struct io *io, const void *bytes, size_t size)
{
    (void)io;
    ck_assert_ptr_eq(bytes, image);
    ck_assert_uint_eq(size, segment.header.bytes);
    views--;
}

static int check_image(struct io *io, const unsigned char *bytes)
{
    (void)io;
    ck_assert_ptr_eq(bytes, image);
    return hit_error;
}

static int size_image(struct io_file *file, uint64_t *ret_bytes)
{
    (void)file;
    *ret_bytes = segment.header.bytes;
    return 0;
}

static const struct io_ops read_only_ops = {
    .size = size_image, .read = read_image, .map = map_image, .unmap = unmap_image, .check_map = check_image
};
static struct io memory = { .ops = &read_only_ops };
static struct io_file memory_file = { .io = &memory };

static void make_segment(uint64_t bytes)
{
    memset(image, 0, LARGE_BYTES);
    segment = (struct segment){
        .file = &memory_file,
        .header = { .sequence = 1, .segment_id = 5, .bytes = bytes, .start_lsn = 1 },
    };
    segment.seed = twl_segment_seed(&segment.header);
    segment.data_end = twl_segment_data_end(bytes);
    bytes_read = largest_read = 0;
    reads = views = 0;
    hit_error = 0;
}

static void make_empty(void)
{
    make_segment(SEGMENT_BYTES);
}

#define RECORD_BYTES 8u
#define GROUPS 2000u
#define MANY_GROUPS 20000u
#define FILLER_LSN 1234u

static uint64_t group_of[7 * MANY_GROUPS + 2]; /* offset, by LSN */

/* Puts a group of `count` records there, of 8 bytes but for one, and returns where it ends. */
static uint64_t put(uint64_t offset, struct group_header *group)
{
    uint64_t at = offset + GROUP_HEADER_BYTES;
    uint32_t seed = twl_epoch_seed(segment.header.log_id, group->epoch);

    for (uint32_t i = 0; i < group->count; i++) {
        const uint64_t lsn = group->first_lsn + i;
        struct record_header record = { .kind = RECORD_DATA, .time_ns = (int64_t)lsn, .size = RECORD_BYTES };
        if (lsn == FILLER_LSN)
            record = (struct record_header){ .kind = RECORD_FILLER };
        twl_record_encode(image + at, seed, lsn, &record, "8 bytes!");
        at += twl_record_bytes(record.size);
        group_of[lsn] = offset;
    }

    group->bytes = (uint32_t)(at - offset);
    twl_group_header_encode(group, segment.seed, offset, image + offset);
    return at;
}

static struct group_header start_group(void)
{
    return (struct group_header){
        .first_lsn = 1, .epoch = first_epoch, .kind = GROUP_START, .flags = GROUP_FIRST
    };
}

static struct group_header next_group(const struct group_header *before, uint32_t count)
{
    uint64_t first_lsn = before->first_lsn + before->count;

    return (struct group_header){ .first_lsn = first_lsn,
                                  .count = count,
                                  .durable_lsn = first_lsn - 1,
                                  .chain = before->checksum,
                                  .epoch = before->epoch };
}

static struct segment_iter iter;

static void begin_iter(void)
{
    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
}

static void free_iter(void)
{
    twl_iter_free(&iter);
}

/* How many whole groups a walk finds. */
static unsigned count_groups(void)
{
    unsigned groups = 0;

    free_iter();
    begin_iter();
    while (twl_iter_accept_group(&iter) > 0)
        groups++;
    return groups;
}

/* A start and a group of two records at 4160, then room for `next` at `next_at`, changed by the test. */
static struct group_header head, next;
static uint64_t next_at;

static void set_up(void)
{
    struct group_header start = start_group();

    make_empty();
    next_at = put(SEGMENT_DATA_OFFSET, &start);
    head = next_group(&start, 2);
    next_at = put(next_at, &head);
    next = next_group(&head, 1);
}

CASE("walk", set_up, free_iter);

TEST(a_group_that_continues_is_entered)
{
    put(next_at, &next);
    ck_assert_uint_eq(count_groups(), 3);
}

static const struct wrong_group {
    const char *name;
    uint32_t chain; /* these are added to what would be right */
    uint64_t first_lsn;
    struct epoch epoch;
} wrong_groups[] = {
    { "another chain", .chain = 1 },
    { "an LSN that is taken", .first_lsn = (uint64_t)-1 },
    { "an LSN that leaves one out", .first_lsn = 1 },
    { "another epoch", .epoch = { 1, 0 } },
    { "another salt", .epoch = { 0, 1 } },
};

TEST_EACH(a_group_of_another_chain_lsn_or_epoch_is_not, wrong_groups)
{
    next.chain += row->chain;
    next.first_lsn += row->first_lsn;
    next.durable_lsn = next.first_lsn - 1;
    next.epoch.number += row->epoch.number;
    next.epoch.salt += row->epoch.salt;
    put(next_at, &next);
    ck_assert_uint_eq(count_groups(), 2);
}

/* A marker of a start behind the group of two records. Returns where it ends. */
static uint64_t put_marker(struct epoch epoch)
{
    next = (struct group_header){
        .first_lsn = 3, .durable_lsn = 2, .chain = head.checksum, .kind = GROUP_START, .epoch = epoch
    };
    return put(next_at, &next);
}

TEST(a_marker_of_a_later_epoch_begins_it)
{
    const uint64_t end = put_marker((struct epoch){ .number = 2, .salt = 1 });
    ck_assert_uint_eq(count_groups(), 3);

    struct group_header of_it = next_group(&next, 1);
    put(end, &of_it);
    ck_assert_uint_eq(count_groups(), 4);
}

TEST(behind_the_marker_of_an_epoch_what_the_writer_before_left_is_not_entered)
{
    const uint64_t end = put_marker((struct epoch){ .number = 2, .salt = 1 });
    struct group_header left = next_group(&next, 1);

    left.epoch = first_epoch;
    put(end, &left);
    ck_assert_uint_eq(count_groups(), 3);
}

TEST(a_marker_of_the_same_number_begins_no_epoch)
{
    put_marker((struct epoch){ .number = 1, .salt = 1 });
    ck_assert_uint_eq(count_groups(), 2);
}

TEST(a_later_group_that_says_it_is_the_first_is_not_entered)
{
    next.flags = GROUP_FIRST;
    put(next_at, &next);
    ck_assert_uint_eq(count_groups(), 2);
}

TEST(a_first_group_that_does_not_say_so_is_not_entered)
{
    struct group_header start = start_group();

    make_empty();
    start.flags = 0;
    put(SEGMENT_DATA_OFFSET, &start);
    ck_assert_uint_eq(count_groups(), 0);
}

TEST(the_first_group_is_found_anywhere_in_the_first_block)
{
    for (uint64_t at = 0; at < BLOCK_BYTES; at += 8) {
        struct group_header start = start_group();

        make_empty();
        put(SEGMENT_DATA_OFFSET + at, &start);
        if (at > 0)
            image[SEGMENT_DATA_OFFSET + at / 2] ^= 0x10; /* a flipped bit in front of it */
        ck_assert_uint_eq(count_groups(), 1);
        ck_assert_uint_eq(iter.group_offset, SEGMENT_DATA_OFFSET + at);
    }
}

TEST(the_first_group_is_not_found_in_the_second_block)
{
    struct group_header start = start_group();

    make_empty();
    put(SEGMENT_DATA_OFFSET + BLOCK_BYTES, &start);
    ck_assert_uint_eq(count_groups(), 0);
}

static const struct place {
    const char *name;
    uint64_t offset; /* of the third group */
    unsigned groups; /* that are found */
} places[] = {
    { "behind the group before", 4096 + 64 + 64 + 2 * 32, 3 },
    { "at the next block", 2 * 4096, 3 },
    { "at the block after the next", 3 * 4096, 2 },
    { "8 bytes behind the group before", 4096 + 64 + 64 + 2 * 32 + 8, 2 },
};

TEST_EACH(a_group_may_begin_at_the_next_block_but_nowhere_further, places)
{
    ck_assert_uint_eq(next_at, places[0].offset);
    put(row->offset, &next);
    ck_assert_uint_eq(count_groups(), row->groups);
}

TEST(a_group_that_reaches_into_the_footer_is_not_entered)
{
    put(next_at, &next);
    segment.data_end = next_at + next.bytes;
    ck_assert_uint_eq(count_groups(), 3);
    segment.data_end -= 8;
    ck_assert_uint_eq(count_groups(), 2);
}

TEST(a_group_with_a_bad_record_is_backed_out_of)
{
    put(next_at, &next);
    image[next_at + GROUP_HEADER_BYTES + RECORD_HEADER_BYTES] ^= 1;
    ck_assert_uint_eq(count_groups(), 2);
    ck_assert_uint_eq(iter.offset, next_at);
    ck_assert_uint_eq(iter.position.next_lsn, 3);
    ck_assert_uint_eq(iter.position.chain, head.checksum);

    struct iter_record record;
    ck_assert_int_eq(twl_iter_enter_group(&iter), 1);
    ck_assert_int_eq(twl_iter_next_record(&iter, &record), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twl_iter_skip_record(&iter), 1);
    ck_assert_int_eq(twl_iter_next_record(&iter, &record), 0);
}

static struct later_groups look_behind(void)
{
    struct later_groups later;

    count_groups();
    ck_assert_int_eq(twl_iter_find_later(&iter, iter.offset, UINT64_MAX, iter.position, &later), 0);
    return later;
}

CASE("behind the end", set_up, free_iter);

static const struct later {
    const char *name;
    uint64_t first_lsn, durable_lsn;
    struct epoch epoch;
    bool is_found;
    bool is_proof; /* that records are missing */
} laters[] = {
    { "written when what is missing was durable", 9, 8, { 1, 0 }, true, true },
    { "in flight together with what is missing", 9, 2, { 1, 0 }, true, false },
    { "written when one more was durable", 9, 3, { 1, 0 }, true, true },
    { "of the same number and another salt", 9, 8, { 1, 1 }, false, false },
    { "of a later epoch", 9, 3, { 2, 1 }, true, true },
};

TEST_EACH(later_groups_of_this_epoch_and_later_ones_are_found_and_older_ones_are_not, laters)
{
    next.first_lsn = row->first_lsn;
    next.durable_lsn = row->durable_lsn;
    next.epoch.number = row->epoch.number;
    next.epoch.salt ^= row->epoch.salt;
    put(next_at + 640, &next);

    const struct later_groups found = look_behind();
    ck_assert_uint_eq(found.offset, row->is_found ? next_at + 640 : 0);
    ck_assert_int_eq(found.is_proof, row->is_proof);
    if (row->is_found)
        ck_assert_uint_eq(found.first_lsn, row->first_lsn);
}

TEST(the_torn_group_itself_is_no_later_group)
{
    put(next_at, &next);
    image[next_at + GROUP_HEADER_BYTES] ^= 1;
    ck_assert_uint_eq(look_behind().offset, 0);
}

TEST(a_copy_of_a_group_in_a_payload_is_no_later_group)
{
    put(next_at, &next);
    memcpy(image + next_at + 1024, image + next_at, next.bytes);
    memset(image + next_at, 0, next.bytes);
    ck_assert_uint_eq(look_behind().offset, 0);
}

CASE("beginning", make_empty, free_iter);

static const struct truncation_start {
    const char *name;
    uint64_t first_lsn;
    uint32_t chain, epoch;
    unsigned groups; /* that are found */
} truncation_starts[] = {
    { "as the header says", 51, 0xabcd, 4, 1 },
    { "of another chain", 51, 0xabce, 4, 0 },
    { "of another LSN", 52, 0xabcd, 4, 0 },
    { "of the writer that was truncated", 51, 0xabcd, 3, 0 },
};

TEST_EACH(a_segment_behind_a_truncation_begins_where_its_header_says, truncation_starts)
{
    struct group_header start = {
        .first_lsn = row->first_lsn,
        .durable_lsn = 50,
        .chain = row->chain,
        .epoch = { .number = row->epoch, .salt = 9 },
        .kind = GROUP_START,
        .flags = GROUP_FIRST,
    };

    segment.header = (struct segment_header){
        .sequence = 7,
        .segment_id = 5,
        .bytes = SEGMENT_BYTES,
        .epoch = 3,
        .start_lsn = 51,
        .previous = 4,
        .start_chain = 0xabcd,
    };
    put(SEGMENT_DATA_OFFSET, &start);
    ck_assert_uint_eq(count_groups(), row->groups);
}

TEST(of_an_ordinary_segment_nothing_is_known_before_its_first_group)
{
    segment.header.sequence = 2;
    segment.header.start_lsn = 0;
    struct group_header group = { .first_lsn = 30,
                                  .count = 1,
                                  .durable_lsn = 29,
                                  .chain = 5,
                                  .epoch = { .number = 6, .salt = 7 },
                                  .flags = GROUP_FIRST };
    put(SEGMENT_DATA_OFFSET, &group);
    ck_assert_uint_eq(count_groups(), 1);
}

/* ---- seeking ----------------------------------------------------------------------------------- */

/* Groups of 1, 2, 3, ... 7 records, 1, 2, ... */
static uint64_t last_lsn;

static void make_groups(unsigned groups)
{
    make_segment(LARGE_BYTES);
    struct group_header group = start_group();
    uint64_t at = put(SEGMENT_DATA_OFFSET, &group);
    for (unsigned i = 0; i < groups; i++) {
        group = next_group(&group, 1 + i % 7);
        at = put(at, &group);
        last_lsn = group.first_lsn + group.count - 1;
    }
}

static void make_many(void)
{
    make_groups(GROUPS);
}

/* What a writer would have left: walks, and writes index and footer. */
static struct segment_footer seal(void)
{
    struct segment_iter walker = { 0 };
    struct summary *summary = malloc(sizeof(*summary));
    struct segment_footer footer;
    uint32_t step;

    ck_assert_ptr_nonnull(summary);
    twl_summary_begin(summary);
    twl_iter_begin(&walker, &segment, twl_position_before(&segment.header));
    walker.summary = summary;
    while (twl_iter_accept_group(&walker) > 0)
        continue;
    twl_iter_free(&walker);
    ck_assert_uint_eq(summary->next_lsn, last_lsn + 1);
    twl_summary_footer(summary, segment.data_end - align_up(summary->data_end, BLOCK_BYTES), 0, &footer,
                       &step);
    footer.offset = segment.data_end;
    ck_assert_uint_eq(step, 1);
    ck_assert_uint_gt(footer.index_entries, 20);
    for (uint32_t i = 0; i < footer.index_entries; i++)
        twl_index_entry_encode(&summary->index.entries[i],
                               image + segment.data_end - (i + 1) * INDEX_ENTRY_BYTES);
    size_t size = footer.index_entries * INDEX_ENTRY_BYTES;
    footer.index_checksum = twl_crc32c(0, image + segment.data_end - size, size);
    free(summary);
    return footer;
}

static void expect_next(struct segment_iter *from, uint64_t lsn)
{
    struct iter_record record;

    ck_assert_int_eq(twl_iter_next_record(from, &record), 1);
    ck_assert_uint_eq(record.lsn, lsn);
    ck_assert_uint_eq(from->group_offset, group_of[lsn]);
}

static void seek_everywhere(const struct segment_footer *footer)
{
    /* From both ends by turns. */
    for (uint64_t i = 0; i < last_lsn; i += 97) {
        const bool is_from_end = i % 2 != 0;
        const uint64_t lsn = is_from_end ? last_lsn - i : 1 + i;
        ck_assert_int_eq(twl_iter_seek(&iter, footer, lsn), 1);
        ck_assert_uint_eq(twl_iter_next_lsn(&iter), lsn);
        expect_next(&iter, lsn);
    }

    ck_assert_int_eq(twl_iter_seek(&iter, footer, last_lsn + 1), 0);
    ck_assert_int_eq(twl_iter_seek(&iter, footer, last_lsn), 1);
    expect_next(&iter, last_lsn);
}

CASE("seek", make_many, free_iter);

TEST(a_seek_finds_every_record_with_an_index_and_without)
{
    begin_iter();
    seek_everywhere(NULL);
    struct segment_footer footer = seal();
    begin_iter();
    seek_everywhere(&footer);
}

TEST(with_an_index_a_seek_reads_little)
{
    struct segment_footer footer = seal();

    begin_iter();
    ck_assert_int_eq(twl_iter_seek(&iter, &footer, 5), 1); /* the index is read */
    reads = 0;
    for (uint64_t lsn = last_lsn - 10; lsn > 1000; lsn -= 1000) {
        bytes_read = 0;
        ck_assert_int_eq(twl_iter_seek(&iter, &footer, lsn), 1);
        expect_next(&iter, lsn);
        ck_assert_uint_le(bytes_read, 32 * 1024);
    }

    ck_assert_uint_gt(reads, 0);
}

TEST(a_seek_in_a_large_group_reads_little_of_it)
{
    make_segment(LARGE_BYTES);
    struct group_header group = start_group();
    uint64_t at = put(SEGMENT_DATA_OFFSET, &group);
    for (unsigned i = 0; i < 3; i++) {
        group = next_group(&group, 10000);
        at = put(at, &group);
    }

    last_lsn = 30000;
    struct segment_footer footer = seal();
    begin_iter();
    ck_assert_int_eq(twl_iter_seek(&iter, &footer, 5000), 1); /* the index is read */
    for (uint64_t lsn = 9000; lsn <= 29000; lsn += 10000) {
        reads = 0;
        bytes_read = 0;
        ck_assert_int_eq(twl_iter_seek(&iter, &footer, lsn), 1);
        expect_next(&iter, lsn);
        ck_assert_uint_eq(reads, 2);
        ck_assert_uint_le(bytes_read, 32 * 1024);
    }
}

TEST(a_first_lookup_reads_a_few_blocks_of_the_index)
{
    struct segment_footer footer = seal();

    for (uint64_t lsn = 3; lsn < last_lsn; lsn += 1013) {
        begin_iter();
        bytes_read = 0;
        ck_assert_int_eq(twl_iter_seek(&iter, &footer, lsn), 1);
        expect_next(&iter, lsn);
        ck_assert_uint_le(bytes_read, 48 * 1024);
    }
}

TEST(without_an_index_the_headers_in_front_of_a_known_group_lead_near_a_record)
{
    make_groups(MANY_GROUPS);
    for (uint64_t lsn = 1000; lsn < last_lsn; lsn += 1013) {
        begin_iter();
        bytes_read = 0;
        ck_assert_int_eq(twl_iter_pass_near(&iter, group_of[last_lsn], lsn), 1);
        ck_assert_uint_le(iter.position.next_lsn, lsn);
        ck_assert_int_eq(twl_iter_seek(&iter, NULL, lsn), 1);
        expect_next(&iter, lsn);
        ck_assert_uint_le(bytes_read, 64 * 1024);
    }
}

TEST(a_short_way_ahead_is_walked_and_not_looked_up)
{
    struct segment_footer footer = seal();

    begin_iter();
    ck_assert_int_eq(twl_iter_seek(&iter, &footer, 7000), 1);
    ck_assert_int_eq(twl_iter_seek(&iter, &footer, 4000), 1); /* reads the index */
    reads = 0;
    for (uint64_t lsn = 4001; lsn < 4040; lsn += 3) {
        ck_assert_int_eq(twl_iter_seek(&iter, &footer, lsn), 1);
        expect_next(&iter, lsn);
    }

    ck_assert_uint_eq(reads, 0);
}

TEST(reading_on_reads_more_at_once)
{
    make_groups(MANY_GROUPS);
    begin_iter();
    ck_assert_int_eq(twl_iter_accept_group(&iter), 1);
    ck_assert_uint_le(largest_read, 16 * 1024);
    while (twl_iter_accept_group(&iter) > 0)
        continue;
    ck_assert_uint_eq(largest_read, 1024 * 1024);
    ck_assert_uint_lt(bytes_read, iter.offset + iter.offset / 4 + 1024 * 1024);
}

TEST(an_iterator_that_gave_its_buffer_away_reads_again)
{
    struct segment_iter one = { 0 }, other = { 0 };

    twl_iter_begin(&one, &segment, twl_position_before(&segment.header));
    twl_iter_begin(&other, &segment, twl_position_before(&segment.header));
    ck_assert_int_eq(twl_iter_seek(&one, NULL, 100), 1);
    twl_iter_take_buffer(&other, &one);
    ck_assert_int_eq(twl_iter_seek(&other, NULL, last_lsn), 1);
    twl_iter_take_buffer(&one, &other);
    expect_next(&one, 100);
    twl_iter_take_buffer(&other, &one);
    expect_next(&other, last_lsn);
    ck_assert_ptr_null(one.window.buffer);
    twl_iter_free(&one);
    twl_iter_free(&other);
}

static void move_group(struct index_entry *entry)
{
    entry->group_offset += 8;
}

static void move_record(struct index_entry *entry)
{
    entry->record_offset += 8;
}

static void move_record_far(struct index_entry *entry)
{
    entry->record_offset += UINT32_MAX - 1000;
}

static void tell_next_lsn(struct index_entry *entry)
{
    entry->lsn++;
}

static void move_group_to_the_end_of_all(struct index_entry *entry)
{
    entry->group_offset = UINT64_MAX - entry->lsn % 64;
}

static const struct lie {
    const char *name;
    void (*tell)(struct index_entry *entry);
} lies[] = {
    { "another group", move_group },
    { "another place in the group", move_record },
    { "a place far behind the group", move_record_far },
    { "another LSN", tell_next_lsn },
    { "a group at the largest offsets", move_group_to_the_end_of_all },
};

/* Entries that check and lie: the groups they point to are not believed to be there. */
TEST_EACH(an_index_that_lies_is_found_out, lies)
{
    struct segment_footer footer = seal();
    const size_t size = footer.index_entries * INDEX_ENTRY_BYTES;

    for (uint32_t i = 0; i < footer.index_entries; i++) {
        unsigned char *at = image + segment.data_end - (i + 1) * INDEX_ENTRY_BYTES;
        struct index_entry entry;

        twl_index_entry_decode(at, &entry);
        row->tell(&entry);
        twl_index_entry_encode(&entry, at);
    }

    footer.index_checksum = twl_crc32c(0, image + segment.data_end - size, size);
    begin_iter();
    seek_everywhere(&footer);
}

/* ---- the summary of a walk ----------------------------------------------------------------------- */

TEST(a_walk_summarises_whole_groups_only_and_can_be_resumed)
{
    struct summary *summary = malloc(sizeof(*summary));

    ck_assert_ptr_nonnull(summary);
    twl_summary_begin(summary);
    uint64_t torn = group_of[3000];
    unsigned char *last_byte = image + group_of[3000] + GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
    *last_byte ^= 1;
    begin_iter();
    iter.summary = summary;
    while (twl_iter_accept_group(&iter) > 0)
        continue;

    ck_assert_uint_eq(summary->data_end, torn);
    ck_assert_uint_eq(summary->next_lsn, iter.position.next_lsn);
    for (uint32_t i = 0; i < summary->index.count; i++)
        ck_assert_uint_lt(summary->index.entries[i].group_offset, torn);

    *last_byte ^= 1;
    ck_assert_int_eq(twl_iter_seek(&iter, NULL, 17), 1);
    twl_iter_resume(&iter);
    twl_iter_refresh(&iter);
    ck_assert_uint_eq(twl_iter_next_lsn(&iter), summary->next_lsn);
    while (twl_iter_accept_group(&iter) > 0)
        continue;

    ck_assert_uint_eq(summary->next_lsn, last_lsn + 1);
    seek_everywhere(NULL);
    free(summary);
}

CASE("map", make_many, free_iter);

TEST(a_mapped_segment_is_looked_at_in_place_and_given_back)
{
    struct segment_footer footer = seal();

    reads = 0;
    iter.maps = true;
    begin_iter();
    ck_assert_uint_eq(views, 1);
    seek_everywhere(&footer);
    seek_everywhere(NULL);
    ck_assert_uint_eq(reads, 0);
    ck_assert_int_eq(twl_iter_check(&iter), 0);
    hit_error = -EIO;
    ck_assert_int_eq(twl_iter_check(&iter), -EIO);
    begin_iter();
    ck_assert_uint_eq(views, 1);
    twl_iter_let_go(&iter);
    ck_assert_uint_eq(views, 0);
    ck_assert_int_eq(twl_iter_check(&iter), 0);
    twl_iter_free(&iter);
    ck_assert_uint_eq(views, 0);
}
