/* SPDX-License-Identifier: Apache-2.0 */
/* The walk through a segment: what continues the history is entered, and nothing else, however valid it
 * looks by itself. The file is in memory, behind an io that can only be read. */
#include "suites.h"

#include "segment/recover.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES 65536u

static unsigned char image[SEGMENT_BYTES];
static struct segment segment;
static const struct epoch first_epoch = { .number = 1, .salt = 77 };

static int read_image(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    (void)file;
    *ret_size = offset < SEGMENT_BYTES ? (size_t)min_u64(size, SEGMENT_BYTES - offset) : 0;
    memcpy(buffer, image + offset, *ret_size);
    return 0;
}

static const struct io_ops read_only_ops = { .read = read_image };
static struct io memory = { .ops = &read_only_ops };
static struct io_file memory_file = { .io = &memory };

static void set_up(void)
{
    memset(image, 0, sizeof(image));
    segment = (struct segment){ .file = &memory_file,
                                .header = { .sequence = 1, .segment_id = 5, .bytes = SEGMENT_BYTES } };
    segment.seed = twl_segment_seed(&segment.header);
    segment.data_end = twl_segment_data_end(SEGMENT_BYTES);
}

/* Puts a group of `count` records there, each of 8 bytes, and returns where it ends. */
static uint64_t put(uint64_t offset, struct group_header *group)
{
    uint64_t at = offset + GROUP_HEADER_BYTES;
    uint32_t seed = twl_epoch_seed(segment.header.log_id, group->epoch);
    for (uint32_t i = 0; i < group->count; i++) {
        twl_record_encode(image + at, seed, group->first_lsn + i, 0, "8 bytes!", 8);
        at += twl_record_bytes(8);
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

/* How many whole groups a walk finds. */
static unsigned walk(struct cursor *cursor)
{
    unsigned groups = 0;
    memset(cursor, 0, sizeof(*cursor));
    twl_cursor_begin(cursor, &segment, twl_position_before(&segment));
    while (twl_cursor_accept_group(cursor) > 0)
        groups++;
    return groups;
}

static unsigned count_groups(void)
{
    struct cursor cursor;
    unsigned groups = walk(&cursor);
    twl_cursor_free(&cursor);
    return groups;
}

/* A start and a group of two records at 4160, then `group` behind them, changed by the test. */
static struct group_header head;
static uint64_t begin(struct group_header *ret_next)
{
    struct group_header start = start_group();
    uint64_t at = put(SEGMENT_DATA_OFFSET, &start);
    head = next_group(&start, 2);
    at = put(at, &head);
    *ret_next = next_group(&head, 1);
    return at;
}

START_TEST(a_group_that_continues_is_entered)
{
    struct group_header group;
    uint64_t at = begin(&group);
    put(at, &group);
    ck_assert_uint_eq(count_groups(), 3);
}
END_TEST

START_TEST(a_group_of_another_chain_is_not)
{
    struct group_header group;
    uint64_t at = begin(&group);
    group.chain ^= 1;
    put(at, &group);
    ck_assert_uint_eq(count_groups(), 2);
}
END_TEST

START_TEST(a_group_that_skips_or_repeats_an_lsn_is_not)
{
    for (int64_t wrong = -1; wrong <= 1; wrong += 2) {
        set_up();
        struct group_header group;
        uint64_t at = begin(&group);
        group.first_lsn = (uint64_t)((int64_t)group.first_lsn + wrong);
        group.durable_lsn = group.first_lsn - 1;
        put(at, &group);
        ck_assert_uint_eq(count_groups(), 2);
    }
}
END_TEST

START_TEST(a_group_of_another_epoch_is_not_whatever_its_chain)
{
    static const struct epoch others[] = { { .number = 2, .salt = 77 }, { .number = 1, .salt = 78 } };
    for (unsigned i = 0; i < 2; i++) {
        set_up();
        struct group_header group;
        uint64_t at = begin(&group);
        group.epoch = others[i];
        put(at, &group);
        ck_assert_uint_eq(count_groups(), 2);
    }
}
END_TEST

START_TEST(only_a_mark_of_a_later_epoch_begins_one)
{
    struct group_header group;
    uint64_t at = begin(&group);
    group = (struct group_header){
        .first_lsn = 3, .durable_lsn = 2, .chain = head.checksum, .kind = GROUP_START
    };
    group.epoch = (struct epoch){ .number = 2, .salt = 1 };
    uint64_t end = put(at, &group);
    ck_assert_uint_eq(count_groups(), 3);

    struct group_header of_it = next_group(&group, 1);
    put(end, &of_it);
    ck_assert_uint_eq(count_groups(), 4);
    of_it.epoch = first_epoch; /* what the writer before left there */
    put(end, &of_it);
    ck_assert_uint_eq(count_groups(), 3);

    group.epoch = (struct epoch){ .number = 1, .salt = 1 };
    put(at, &group);
    ck_assert_uint_eq(count_groups(), 2);
}
END_TEST

START_TEST(the_first_group_says_so_and_no_other_does)
{
    struct group_header group;
    uint64_t at = begin(&group);
    group.flags = GROUP_FIRST;
    put(at, &group);
    ck_assert_uint_eq(count_groups(), 2);

    set_up();
    struct group_header start = start_group();
    start.flags = 0;
    put(SEGMENT_DATA_OFFSET, &start);
    ck_assert_uint_eq(count_groups(), 0);
}
END_TEST

START_TEST(the_first_group_is_found_anywhere_in_the_first_block)
{
    for (uint64_t at = 0; at < BLOCK_BYTES; at += 8) {
        set_up();
        struct group_header start = start_group();
        put(SEGMENT_DATA_OFFSET + at, &start);
        image[SEGMENT_DATA_OFFSET + at / 2] ^= at > 0 ? 0x10 : 0; /* a flipped bit in front of it */
        struct cursor cursor;
        ck_assert_uint_eq(walk(&cursor), 1);
        ck_assert_uint_eq(cursor.group_offset, SEGMENT_DATA_OFFSET + at);
        twl_cursor_free(&cursor);
    }
    set_up();
    struct group_header start = start_group();
    put(SEGMENT_DATA_OFFSET + BLOCK_BYTES, &start);
    ck_assert_uint_eq(count_groups(), 0);
}
END_TEST

START_TEST(a_group_may_begin_at_the_next_block_but_nowhere_further)
{
    struct group_header group;
    uint64_t at = begin(&group);
    put(align_up(at, BLOCK_BYTES), &group);
    ck_assert_uint_eq(count_groups(), 3);

    set_up();
    at = begin(&group);
    put(align_up(at, BLOCK_BYTES) + BLOCK_BYTES, &group);
    ck_assert_uint_eq(count_groups(), 2);
    set_up();
    at = begin(&group);
    put(at + 8, &group);
    ck_assert_uint_eq(count_groups(), 2);
}
END_TEST

START_TEST(a_group_that_reaches_into_the_footer_is_not_entered)
{
    struct group_header group;
    uint64_t at = begin(&group);
    put(at, &group);
    segment.data_end = at + group.bytes;
    ck_assert_uint_eq(count_groups(), 3);
    segment.data_end -= 8;
    ck_assert_uint_eq(count_groups(), 2);
}
END_TEST

START_TEST(a_group_with_a_bad_record_is_backed_out_of)
{
    struct group_header group;
    struct cursor cursor;
    uint64_t at = begin(&group);
    put(at, &group);
    image[at + GROUP_HEADER_BYTES + RECORD_HEADER_BYTES] ^= 1;
    ck_assert_uint_eq(walk(&cursor), 2);
    ck_assert_uint_eq(cursor.offset, at);
    ck_assert_uint_eq(cursor.position.next_lsn, 3);
    ck_assert_uint_eq(cursor.position.chain, head.checksum);
    ck_assert_int_eq(twl_cursor_enter_group(&cursor), 1);
    struct cursor_record record;
    ck_assert_int_eq(twl_cursor_next_record(&cursor, &record), TWINLOG_ECORRUPT);
    ck_assert_int_eq(twl_cursor_skip_record(&cursor), 1);
    ck_assert_int_eq(twl_cursor_next_record(&cursor, &record), 0);
    twl_cursor_free(&cursor);
}
END_TEST

static struct later_groups look_behind(void)
{
    struct cursor cursor;
    struct later_groups later;
    walk(&cursor);
    ck_assert_int_eq(twl_cursor_find_later(&cursor, cursor.offset, cursor.position, &later), 0);
    twl_cursor_free(&cursor);
    return later;
}

START_TEST(later_groups_of_this_epoch_and_later_ones_are_found_and_older_ones_are_not)
{
    struct group_header group;
    uint64_t at = begin(&group);
    group.first_lsn = 9;
    group.durable_lsn = 8;
    put(at + 640, &group);
    struct later_groups later = look_behind();
    ck_assert_uint_eq(later.offset, at + 640);
    ck_assert_uint_eq(later.first_lsn, 9);
    ck_assert(later.is_proof);

    group.durable_lsn = 2; /* in flight together with what is missing */
    put(at + 640, &group);
    ck_assert(!look_behind().is_proof);
    group.durable_lsn = 3;
    put(at + 640, &group);
    ck_assert(look_behind().is_proof);

    group.epoch.salt ^= 1;
    put(at + 640, &group);
    ck_assert_uint_eq(look_behind().offset, 0);
    group.epoch.number++;
    put(at + 640, &group);
    ck_assert_uint_eq(look_behind().offset, at + 640);
}
END_TEST

START_TEST(the_torn_group_itself_is_no_later_group)
{
    struct group_header group;
    uint64_t at = begin(&group);
    put(at, &group);
    image[at + GROUP_HEADER_BYTES] ^= 1;
    ck_assert_uint_eq(look_behind().offset, 0);
}
END_TEST

START_TEST(a_copy_of_a_group_in_a_payload_is_no_later_group)
{
    struct group_header group;
    uint64_t at = begin(&group);
    put(at, &group);
    memcpy(image + at + 1024, image + at, group.bytes);
    memset(image + at, 0, group.bytes);
    ck_assert_uint_eq(look_behind().offset, 0);
}
END_TEST

Suite *cursor_suite(void)
{
    Suite *suite = suite_create("cursor");
    TCase *walking = tcase_create("walk");
    tcase_add_checked_fixture(walking, set_up, NULL);
    tcase_add_test(walking, a_group_that_continues_is_entered);
    tcase_add_test(walking, a_group_of_another_chain_is_not);
    tcase_add_test(walking, a_group_that_skips_or_repeats_an_lsn_is_not);
    tcase_add_test(walking, a_group_of_another_epoch_is_not_whatever_its_chain);
    tcase_add_test(walking, only_a_mark_of_a_later_epoch_begins_one);
    tcase_add_test(walking, the_first_group_says_so_and_no_other_does);
    tcase_add_test(walking, the_first_group_is_found_anywhere_in_the_first_block);
    tcase_add_test(walking, a_group_may_begin_at_the_next_block_but_nowhere_further);
    tcase_add_test(walking, a_group_that_reaches_into_the_footer_is_not_entered);
    tcase_add_test(walking, a_group_with_a_bad_record_is_backed_out_of);
    suite_add_tcase(suite, walking);
    TCase *behind = tcase_create("behind the end");
    tcase_add_checked_fixture(behind, set_up, NULL);
    tcase_add_test(behind, later_groups_of_this_epoch_and_later_ones_are_found_and_older_ones_are_not);
    tcase_add_test(behind, the_torn_group_itself_is_no_later_group);
    tcase_add_test(behind, a_copy_of_a_group_in_a_payload_is_no_later_group);
    suite_add_tcase(suite, behind);
    return suite;
}
