/* SPDX-License-Identifier: Apache-2.0 */
/* The format: what is written reads back, and nothing else does. */
#include "suites.h"

#include "base/bytes.h"
#include "format/checksum.h"
#include "format/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t log_id[LOG_ID_BYTES] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static const struct epoch epoch = { .number = 7, .salt = 0xdeadbeef };

/* As docs/format.md has them: with a space between two fields. */
static void expect_bytes(const unsigned char *bytes, size_t size, const char *expected)
{
    const char *at = expected;

    for (size_t i = 0; i < size; i++) {
        if (*at == ' ')
            at++;
        ck_assert_msg(strtoul((const char[]){ at[0], at[1], 0 }, NULL, 16) == bytes[i],
                      "byte %zu: %02x, not as in: %s", i, bytes[i], expected);
        at += 2;
    }

    ck_assert_str_eq(at, "");
}

CASE("checksum", NULL, NULL);

TEST(the_checksum_is_crc32c)
{
    unsigned char zeros[32] = { 0 }, ones[32], rising[32];

    memset(ones, 0xff, sizeof(ones));
    for (unsigned i = 0; i < 32; i++)
        rising[i] = (unsigned char)i;

    /* RFC 3720, B.4 */
    ck_assert_uint_eq(twl_crc32c(0, "123456789", 9), 0xe3069283);
    ck_assert_uint_eq(twl_crc32c(0, zeros, 32), 0x8a9136aa);
    ck_assert_uint_eq(twl_crc32c(0, ones, 32), 0x62a8ab43);
    ck_assert_uint_eq(twl_crc32c(0, rising, 32), 0x46dd794e);
}

/* By the definition, bit by bit; without the inversions at both ends, so that it can be continued. */
static uint32_t add_byte(uint32_t crc, unsigned char byte)
{
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    return crc;
}

/* With the instruction and with the library, where they are there, and by the tables. */
TEST(every_way_to_the_checksum_leads_to_the_same_at_every_length_and_alignment)
{
    unsigned char bytes[1100 + 64];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * i * 131 + i / 256 + 7);
    for (unsigned offset = 0; offset < 64; offset++) {
        const uint32_t seed = offset * 0x01234567u;
        uint32_t expected = ~seed;
        for (unsigned size = 0; size <= 1100; size++) {
            ck_assert_uint_eq(twl_crc32c(seed, bytes + offset, size), ~expected);
            ck_assert_uint_eq(twl_crc32c_long(seed, bytes + offset, size), ~expected);
            ck_assert_uint_eq(twl_crc32c_portable(seed, bytes + offset, size), ~expected);
            expected = add_byte(expected, bytes[offset + size]);
        }
    }
}

TEST(a_copy_has_its_checksum_at_every_length_and_alignment)
{
    unsigned char bytes[600 + 8], copy[8 + 600 + 8], expected[sizeof(copy)];

    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * i * 131 + i / 256 + 7);
    for (unsigned offset = 0; offset < 8; offset++)
        for (unsigned size = 0; size <= 600; size++) {
            memset(copy, 0xa5, sizeof(copy));
            memset(expected, 0xa5, sizeof(expected));
            memcpy(expected + offset, bytes + 7 - offset, size);
            const uint32_t checksum = twl_crc32c_copy(copy + offset, bytes + 7 - offset, size);
            ck_assert_uint_eq(checksum, twl_crc32c_portable(0, expected + offset, size));
            ck_assert_mem_eq(copy, expected, sizeof(copy));
        }
    ck_assert_uint_eq(twl_crc32c_copy(copy, NULL, 0), 0);
}

#if defined(__x86_64__) || defined(__aarch64__)
TEST(the_instruction_is_used_where_the_processor_has_it)
{
    FILE *info = fopen("/proc/cpuinfo", "r");
    char line[8192];
    bool is_listed = false;

    if (!info) {
        fprintf(stderr,
                "SKIP the_instruction_is_used_where_the_processor_has_it: there is no /proc/cpuinfo\n");
        return;
    }

    while (!is_listed && fgets(line, sizeof(line), info))
        is_listed = strstr(line, " sse4_2 ") || strstr(line, " crc32 ");
    fclose(info);
    ck_assert_int_eq(twl_has_crc32c, is_listed);
}
#endif

static unsigned char block[SEGMENT_HEADER_BYTES];
static struct segment_header sample;

static void make_header(void)
{
    sample = (struct segment_header){ .sequence = 9,
                                      .segment_id = 0x1122334455667788,
                                      .bytes = 65536,
                                      .after_lsn = 41,
                                      .created_ns = 1234567890123456789,
                                      .epoch = 7,
                                      .start_lsn = 77,
                                      .previous = 4,
                                      .start_chain = 0xabcdef01,
                                      .incarnations = 12345,
                                      .writer = 0x00010002,
                                      .compatible = 0x80 };
    memcpy(sample.log_id, log_id, LOG_ID_BYTES);
    twl_segment_header_encode(&sample, block);
}

CASE("segment header", make_header, NULL);

TEST(a_segment_header_has_these_bytes_and_reads_back)
{
    static const char bytes[] =
        "8954574c0d0a1a0a 01000000 00000000 80000000 546befd9 0102030405060708090a0b0c0d0e0f10 "
        "0900000000000000 8877665544332211 0000010000000000 1581e97df4102211 4d00000000000000 "
        "00100000 00000000 2900000000000000 07000000 01efcdab 0400000000000000 39300000 02000100";
    struct segment_header read;

    expect_bytes(block, 120, bytes);
    ck_assert(are_zeros(block + 120, 508 - 120));
    ck_assert(are_zeros(block + HEADER_SECTOR_BYTES, sizeof(block) - HEADER_SECTOR_BYTES));
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_VALID);
    twl_segment_header_encode(&read, block);
    expect_bytes(block, 120, bytes);
}

TEST(every_flipped_bit_of_a_segment_header_is_damage)
{
    struct segment_header read;

    for (unsigned bit = 0; bit < HEADER_SECTOR_BYTES * 8; bit++) {
        block[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_DAMAGED);
        block[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void reseal_prefix(unsigned char *bytes)
{
    store_le32(bytes + 20, twl_crc32c(0, bytes, 20));
}

TEST(another_version_is_too_new_and_not_damaged)
{
    struct segment_header read;

    store_le32(block + 8, SEGMENT_VERSION + 1);
    reseal_prefix(block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_NEWER);
}

TEST(a_feature_that_one_must_know_beside_a_known_one_is_too_new_and_not_damaged)
{
    struct segment_header read;

    store_le32(block + 12, FEATURE_MAPPED | 4);
    reseal_prefix(block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_NEWER);
}

TEST(another_file_is_foreign)
{
    struct segment_header read;

    memcpy(block, "#!/bin/sh\n", 11);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_FOREIGN);
}

TEST(a_file_of_zeros_is_foreign)
{
    struct segment_header read;

    memset(block, 0, sizeof(block));
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_FOREIGN);
}

/* The magic is checked apart from the checksum, which is calculated with the right one. */
TEST(a_header_with_another_magic_is_damaged_and_not_foreign)
{
    struct segment_header read;

    block[1] = 'X';
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_DAMAGED);
}

static const struct size {
    const char *name;
    uint64_t bytes;
} impossible_sizes[] = {
    { "nothing", 0 },
    { "a block", 4096 },
    { "a block less than the least", 65536 - 4096 },
    { "a byte more than the least", 65536 + 1 },
    { "more than the most", UINT64_C(1) << 41 },
    { "the largest number", UINT64_MAX },
};

TEST_EACH(an_impossible_size_is_damage_even_with_a_right_checksum, impossible_sizes)
{
    struct segment_header read;

    sample.bytes = row->bytes;
    twl_segment_header_encode(&sample, block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_DAMAGED);
}

TEST(blocks_of_another_size_are_damage)
{
    struct segment_header read;

    store_le32(block + 80, 2 * BLOCK_BYTES);
    store_le32(block + 508, twl_crc32c(0, block, 508));
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_DAMAGED);
}

static const struct start {
    const char *name;
    enum header_state expected;
    uint64_t sequence, start_lsn, previous;
    uint32_t start_chain;
    uint64_t after_lsn;
} starts[] = {
    { "the first of a log", HEADER_VALID, 1, 1, 0, 0, 0 },
    { "one that continues", HEADER_VALID, 9, 0, 0, 0, 41 },
    { "behind a reset", HEADER_VALID, 9, 500, 0, 0, 499 },
    { "behind a cut", HEADER_VALID, 9, 77, 4, 0xabcdef01, 76 },
    { "the last start", HEADER_VALID, 9, LAST_LSN + 1, 0, 0, LAST_LSN },
    { "a start behind the last LSN", HEADER_DAMAGED, 9, LAST_LSN + 2, 0, 0, 0 },
    { "more durable than there is", HEADER_DAMAGED, 9, 0, 0, 0, LAST_LSN + 1 },
    { "the first continues nothing", HEADER_DAMAGED, 1, 0, 0, 0, 0 },
    { "previous, but not fixed", HEADER_DAMAGED, 9, 0, 4, 0, 0 },
    { "a chain, but not fixed", HEADER_DAMAGED, 9, 0, 0, 1, 0 },
    { "a chain without previous", HEADER_DAMAGED, 9, 77, 0, 1, 0 },
    { "previous is itself", HEADER_DAMAGED, 9, 77, 9, 1, 0 },
    { "previous comes later", HEADER_DAMAGED, 9, 77, 10, 1, 0 },
    { "there is no record 0", HEADER_DAMAGED, 9, 1, 4, 1, 0 },
    { "starts before what was durable", HEADER_DAMAGED, 9, 77, 4, 1, 77 },
    { "a reset to what was durable", HEADER_DAMAGED, 9, 77, 0, 0, 77 },
    { "no sequence", HEADER_DAMAGED, 0, 77, 0, 0, 76 },
};

TEST_EACH(a_possible_start_is_valid_and_an_impossible_one_is_damage, starts)
{
    struct segment_header read;

    sample.sequence = row->sequence;
    sample.start_lsn = row->start_lsn;
    sample.previous = row->previous;
    sample.start_chain = row->start_chain;
    sample.after_lsn = row->after_lsn;
    twl_segment_header_encode(&sample, block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), row->expected);
}

CASE("group header", NULL, NULL);

static struct group_header make_group(void)
{
    return (struct group_header){ .first_lsn = 100,
                                  .count = 2,
                                  .bytes = 64 + 2 * 32,
                                  .durable_lsn = 99,
                                  .chain = 0xabcdef01,
                                  .epoch = epoch,
                                  .kind = GROUP_RECORDS,
                                  .flags = GROUP_FIRST | GROUP_MAPPED,
                                  .time_ns = 55 };
}

TEST(a_group_header_has_these_bytes_and_reads_back)
{
    static const char mark_bytes[] =
        "eb012225 31545747 7700000000000000 00000000 40000000 0000000000000000 00000000 07000000 "
        "efbeadde 0100 0000 0000000000000000 02000100 00000000";
    static const char expected[] =
        "0526fc20 31545747 6400000000000000 02000000 80000000 6300000000000000 01efcdab 07000000 "
        "efbeadde 0000 0300 3700000000000000 00000000 00000000";
    struct group_header mark = {
        .first_lsn = 0x77, .bytes = 64, .epoch = epoch, .kind = GROUP_START, .writer = 0x00010002
    };
    struct group_header group = make_group(), read;
    unsigned char bytes[GROUP_HEADER_BYTES];

    twl_group_header_encode(&mark, 0x1234, 8192, bytes);
    expect_bytes(bytes, sizeof(bytes), mark_bytes);
    twl_group_header_encode(&group, 0x1234, 8192, bytes);
    expect_bytes(bytes, sizeof(bytes), expected);
    ck_assert(twl_group_header_decode(bytes, 0x1234, 8192, &read));
    ck_assert_uint_eq(read.checksum, group.checksum);
    twl_group_header_encode(&read, 0x1234, 8192, bytes);
    expect_bytes(bytes, sizeof(bytes), expected);
}

TEST(a_group_header_is_valid_at_one_place_of_one_segment_only)
{
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header group = make_group(), read;

    twl_group_header_encode(&group, 0x1234, 8192, bytes);
    for (uint64_t offset = 0; offset < 65536; offset += 8)
        ck_assert(twl_group_header_decode(bytes, 0x1234, offset, &read) == (offset == 8192));
    ck_assert(!twl_group_header_decode(bytes, 0x1234, 8192 + (UINT64_C(1) << 32), &read));
    ck_assert(!twl_group_header_decode(bytes, 0x1235, 8192, &read));
}

TEST(every_flipped_bit_of_a_group_header_is_seen)
{
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header group = make_group(), read;

    twl_group_header_encode(&group, 0x1234, 8192, bytes);
    for (unsigned bit = 0; bit < GROUP_HEADER_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert(!twl_group_header_decode(bytes, 0x1234, 8192, &read));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static const struct some_group {
    const char *name;
    bool is_possible;
    uint64_t first_lsn;
    uint32_t count, bytes;
    uint64_t durable_lsn;
    uint32_t epoch;
    uint16_t kind, flags;
} some_groups[] = {
    { "two records", true, 100, 2, 128, 99, 7, GROUP_RECORDS, GROUP_FIRST | GROUP_MAPPED },
    { "as many records as fit", true, 100, 2, 64 + 2 * 24, 99, 7, GROUP_RECORDS, 0 },
    { "the last LSN", true, LAST_LSN - 1, 2, 128, 99, 7, GROUP_RECORDS, 0 },
    { "the first mark of a log", true, 1, 0, 64, 0, 7, GROUP_START, 0 },
    { "smaller than its header", false, 100, 2, 56, 99, 7, GROUP_RECORDS, 0 },
    { "not a multiple of 8", false, 100, 2, 132, 99, 7, GROUP_RECORDS, 0 },
    { "more records than fit", false, 100, 3, 128, 99, 7, GROUP_RECORDS, 0 },
    { "records, but none", false, 100, 0, 128, 99, 7, GROUP_RECORDS, 0 },
    { "durable before it was written", false, 100, 2, 128, 100, 7, GROUP_RECORDS, 0 },
    { "no epoch", false, 100, 2, 128, 99, 0, GROUP_RECORDS, 0 },
    { "an unknown kind", false, 100, 0, 64, 99, 7, GROUP_CLOSE + 1, 0 },
    { "a mark with records", false, 100, 2, 128, 99, 7, GROUP_START, 0 },
    { "a mark with something behind it", false, 1, 0, 72, 0, 7, GROUP_START, 0 },
    { "LSNs behind the last one", false, LAST_LSN, 2, 128, 99, 7, GROUP_RECORDS, 0 },
    { "an unknown flag", false, 100, 2, 128, 99, 7, GROUP_RECORDS, GROUP_MAPPED << 1 },
};

TEST_EACH(an_impossible_group_is_refused_even_with_a_right_checksum, some_groups)
{
    struct group_header group = {
        .first_lsn = row->first_lsn,
        .count = row->count,
        .bytes = row->bytes,
        .durable_lsn = row->durable_lsn,
        .epoch = { row->epoch, 0xdeadbeef },
        .kind = row->kind,
        .flags = row->flags,
    };
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header read;

    twl_group_header_encode(&group, 1, 4096, bytes);
    ck_assert_int_eq(twl_group_header_decode(bytes, 1, 4096, &read), row->is_possible);
}

TEST(a_group_with_something_in_the_bytes_that_must_be_zero_is_newer)
{
    struct group_header group = make_group(), read;
    unsigned char bytes[GROUP_HEADER_BYTES], place[8];

    twl_group_header_encode(&group, 1, 4096, bytes);
    bytes[60] = 1;
    store_le64(place, 4096);
    store_le32(bytes, twl_crc32c(twl_crc32c(1, place, 8), bytes + 4, GROUP_HEADER_BYTES - 4));
    ck_assert_int_eq(twl_group_header_judge(bytes, 1, 4096, &read), DECODED_NEWER);
}

static const struct some_limit {
    const char *name;
    uint32_t asked;
    uint64_t told; /* what a reader of the flags takes for the largest group */
} some_limits[] = {
    { "less than can be told", 1, 16384 },
    { "the least that can be told", 16384, 16384 },
    { "a byte more", 16385, 32768 },
    { "the most that can be told", 1u << 28, 1u << 28 },
    { "more than can be told", (1u << 28) + 1, 1u << 28 },
};

TEST_EACH(the_flags_of_a_group_tell_how_large_groups_are_at_most, some_limits)
{
    const struct group_header group = { .flags = twl_group_flags_for(row->asked) };

    ck_assert_uint_eq(twl_group_most_bytes(&group), row->told);
}

static const struct some_guess {
    const char *name;
    bool is_believed;
    uint64_t first_lsn;
    uint32_t count;
    uint64_t record_lsn; /* that its first record is made for */
} some_guesses[] = {
    { "a group with the first record that it names", true, 7, 2, 7 },
    { "with the last LSN there is", true, LAST_LSN, 1, LAST_LSN },
    { "without records", false, 7, 0, 7 },
    { "without a first LSN", false, 0, 2, 0 },
    { "with records behind the last LSN", false, LAST_LSN, 2, LAST_LSN },
    { "with the first record of another group", false, 7, 2, 8 },
};

TEST_EACH(a_group_of_a_file_without_header_is_believed_if_its_record_confirms_it, some_guesses)
{
    const struct record_header record = { .kind = RECORD_DATA };
    struct group_header group = make_group(), read;
    unsigned char bytes[GROUP_HEADER_BYTES + RECORD_HEADER_BYTES];

    group.first_lsn = row->first_lsn;
    group.count = row->count;
    twl_group_header_encode(&group, 1, 4096, bytes);
    twl_record_encode(bytes + GROUP_HEADER_BYTES, twl_epoch_seed(log_id, group.epoch), row->record_lsn,
                      &record, NULL);
    ck_assert_int_eq(twl_group_header_guess(bytes, log_id, &read), row->is_believed);
}

TEST(a_group_that_names_its_writer_and_is_no_start_is_newer)
{
    struct group_header group = make_group(), read;
    unsigned char bytes[GROUP_HEADER_BYTES];

    group.writer = 0x00010002;
    twl_group_header_encode(&group, 1, 4096, bytes);
    ck_assert_int_eq(twl_group_header_judge(bytes, 1, 4096, &read), DECODED_NEWER);
}

TEST(zeros_are_neither_a_group_nor_a_record)
{
    unsigned char bytes[GROUP_HEADER_BYTES] = { 0 };
    struct group_header group;
    struct record_header record;

    for (uint32_t seed = 0; seed < 100000; seed++)
        ck_assert(!twl_group_header_decode(bytes, seed, 4096, &group));
    ck_assert(!twl_record_header_decode(bytes, twl_epoch_seed(log_id, epoch), 1, &record));
}

CASE("record", NULL, NULL);

TEST(a_record_of_any_size_reads_back)
{
    unsigned char payload[100], *bytes = malloc(twl_record_bytes(sizeof(payload)));
    uint32_t seed = twl_epoch_seed(log_id, epoch);

    for (unsigned i = 0; i < sizeof(payload); i++)
        payload[i] = (unsigned char)(i + 1);
    for (unsigned size = 0; size <= sizeof(payload); size++) {
        struct record_header record;
        memset(bytes, 0xee, twl_record_bytes(sizeof(payload)));
        twl_record_encode(
            bytes, seed, 9,
            &(struct record_header){ .kind = RECORD_DATA, .time_ns = -5, .size = (uint32_t)(size) },
            size > 0 ? payload : NULL);
        ck_assert(twl_record_header_decode(bytes, seed, 9, &record));
        ck_assert_uint_eq(record.size, size);
        ck_assert_int_eq(record.kind, RECORD_DATA);
        ck_assert_int_eq(record.time_ns, -5);
        ck_assert(twl_record_payload_is_valid(&record, bytes + RECORD_HEADER_BYTES));
        if (size > 0)
            ck_assert_mem_eq(bytes + RECORD_HEADER_BYTES, payload, size);
        for (unsigned at = RECORD_HEADER_BYTES + size; at < twl_record_bytes(size); at++)
            ck_assert_uint_eq(bytes[at], 0);
        ck_assert(twl_record_bytes(size) % 8 == 0);
    }

    free(bytes);
}

TEST(every_flipped_bit_of_a_record_is_seen_padding_included)
{
    unsigned char bytes[RECORD_HEADER_BYTES + 16];
    uint32_t seed = twl_epoch_seed(log_id, epoch);

    twl_record_encode(bytes, seed, 9,
                      &(struct record_header){ .kind = RECORD_DATA, .time_ns = 1, .size = 11 },
                      "eleven bytes");
    for (unsigned bit = 0; bit < sizeof(bytes) * 8; bit++) {
        struct record_header record;
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert(!twl_record_header_decode(bytes, seed, 9, &record) ||
                  !twl_record_payload_is_valid(&record, bytes + RECORD_HEADER_BYTES));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

TEST(a_record_is_valid_as_one_lsn_of_one_epoch_of_one_log)
{
    unsigned char bytes[RECORD_HEADER_BYTES];
    struct record_header record;
    uint32_t seed = twl_epoch_seed(log_id, epoch);

    twl_record_encode(bytes, seed, 1000, &(struct record_header){ .kind = RECORD_DATA, .time_ns = 0 }, NULL);
    for (uint64_t lsn = 1; lsn < 3000; lsn++)
        ck_assert(twl_record_header_decode(bytes, seed, lsn, &record) == (lsn == 1000));
    ck_assert(!twl_record_header_decode(bytes, seed, 1000 + (UINT64_C(1) << 32), &record));

    struct epoch next = epoch, same_number = epoch;
    next.number++;
    same_number.salt ^= 1;
    uint8_t other_log[LOG_ID_BYTES] = { 1 };
    ck_assert(!twl_record_header_decode(bytes, twl_epoch_seed(log_id, next), 1000, &record));
    ck_assert(!twl_record_header_decode(bytes, twl_epoch_seed(log_id, same_number), 1000, &record));
    ck_assert(!twl_record_header_decode(bytes, twl_epoch_seed(other_log, epoch), 1000, &record));
}

/* Of as many LSNs as a checksum can tell apart; of more, none that is farther away. */
TEST(a_record_tells_its_lsn)
{
    static const uint64_t lsns[] = { 1, 1000, UINT32_MAX, UINT64_C(1) << 32, (UINT64_C(1) << 40) + 5 };
    const struct record_header record = { .size = 3 };
    const uint32_t seed = twl_epoch_seed(log_id, epoch);
    unsigned char bytes[RECORD_HEADER_BYTES + 8];

    for (size_t i = 0; i < sizeof(lsns) / sizeof(lsns[0]); i++) {
        const uint64_t lsn = lsns[i];
        twl_record_encode(bytes, seed, lsn, &record, "abc");
        ck_assert_uint_eq(twl_unseed_record(bytes, seed, lsn, lsn), lsn);
        ck_assert_uint_eq(twl_unseed_record(bytes, seed, lsn, UINT64_MAX), lsn);
        ck_assert_uint_eq(twl_unseed_record(bytes, seed, lsn + 1, lsn + 1000), 0);
        ck_assert_uint_ne(twl_unseed_record(bytes, seed, lsn + 1, UINT64_MAX), lsn);
    }
}

TEST(a_record_header_has_these_bytes_and_reads_back)
{
    static const char expected[] =
        "92a6c617 8e44836a 0b000000 01 a5 3412 fdffffffffffffff 656c6576656e2062797465 0000000000";
    const struct record_header given = {
        .kind = RECORD_FILLER, .type = 0xa5, .tag = 0x1234, .time_ns = -3, .size = 11
    };
    unsigned char bytes[RECORD_HEADER_BYTES + 16];
    struct record_header read;

    twl_record_encode(bytes, twl_epoch_seed(log_id, epoch), 9, &given, "eleven bytes");
    expect_bytes(bytes, sizeof(bytes), expected);
    ck_assert(twl_record_header_decode(bytes, twl_epoch_seed(log_id, epoch), 9, &read));
    twl_record_encode(bytes, twl_epoch_seed(log_id, epoch), 9, &read, "eleven bytes");
    expect_bytes(bytes, sizeof(bytes), expected);
    /* the same in an open group: its first word comes last, and stands behind a claim */
    memset(bytes, 0, 8);
    store_le64(bytes, twl_record_encode_open(bytes, twl_epoch_seed(log_id, epoch), 9, &read));
    expect_bytes(bytes, sizeof(bytes), expected);
    ck_assert_uint_eq(twl_claim_encode(twl_epoch_seed(log_id, epoch), 9, 11, 3), 0xb0f3f0c03);
}

CASE("index and footer", NULL, NULL);

#define FOOTER_AT (UINT64_C(65536) - SEGMENT_FOOTER_BYTES)

TEST(an_index_entry_has_these_bytes_and_reads_back)
{
    static const char expected[] = "8877665544332211 0000000080000000 a8cbed0f 00000000 0000000000000080";
    const struct index_entry entry = { .lsn = 0x1122334455667788,
                                       .group_offset = UINT64_C(1) << 39,
                                       .record_offset = 0x0fedcba8,
                                       .max_time_so_far_ns = INT64_MIN };
    unsigned char bytes[INDEX_ENTRY_BYTES];
    struct index_entry read;

    memset(bytes, 0xee, sizeof(bytes));
    twl_index_entry_encode(&entry, bytes);
    expect_bytes(bytes, sizeof(bytes), expected);
    twl_index_entry_decode(bytes, &read);
    twl_index_entry_encode(&read, bytes);
    expect_bytes(bytes, sizeof(bytes), expected);
}

static struct segment_footer make_footer(void)
{
    return (struct segment_footer){ .first_lsn = 100,
                                    .last_lsn = 149,
                                    .data_end = 20008,
                                    .min_ns = -7,
                                    .max_ns = 1234567890123456789,
                                    .max_time_so_far_ns = 1234567890123456790,
                                    .chain = 0xabcdef01,
                                    .epoch = epoch,
                                    .index_entries = 12,
                                    .index_checksum = 0x10fedcba,
                                    .sealed_ns = 999 };
}

TEST(a_footer_has_these_bytes_and_reads_back)
{
    static const char expected[] =
        "4dbf0ed0 31545746 6400000000000000 9500000000000000 284e000000000000 f9ffffffffffffff "
        "1581e97df4102211 1681e97df4102211 e703000000000000 01efcdab 07000000 efbeadde 0c000000 "
        "badcfe10";
    const struct segment_footer footer = make_footer();
    struct segment_footer read;

    memset(block, 0xee, sizeof(block));
    twl_segment_footer_encode(&footer, 0x1234, FOOTER_AT, block);
    expect_bytes(block, 84, expected);
    ck_assert(are_zeros(block + 84, FOOTER_SECTOR_BYTES - 84));
    ck_assert(twl_segment_footer_decode(block, 0x1234, FOOTER_AT, &read));
    twl_segment_footer_encode(&read, 0x1234, FOOTER_AT, block);
    expect_bytes(block, 84, expected);
}

TEST(every_flipped_bit_of_a_footer_is_seen)
{
    const struct segment_footer footer = make_footer();
    struct segment_footer read;

    twl_segment_footer_encode(&footer, 0x1234, FOOTER_AT, block);
    for (unsigned bit = 0; bit < 512 * 8; bit++) {
        block[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert(!twl_segment_footer_decode(block, 0x1234, FOOTER_AT, &read));
        block[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

TEST(a_footer_is_valid_in_one_incarnation_of_one_segment_and_at_its_end_only)
{
    const struct segment_footer footer = make_footer();
    struct segment_footer read;
    struct group_header group;

    twl_segment_footer_encode(&footer, 0x1234, FOOTER_AT, block);
    ck_assert(!twl_segment_footer_decode(block, 0x1235, FOOTER_AT, &read));
    ck_assert(!twl_segment_footer_decode(block, 0x1234, FOOTER_AT + BLOCK_BYTES, &read));
    ck_assert_msg(!twl_group_header_decode(block, 0x1234, FOOTER_AT, &group), "nor is it a group");
}

static const struct some_footer {
    const char *name;
    bool is_possible;
    uint64_t first_lsn, last_lsn;
    uint64_t data_end;
    int64_t min_ns, max_ns, max_time_so_far_ns;
    uint32_t epoch;
    uint32_t index_entries;
} some_footers[] = {
    { "fifty records", true, 100, 149, 20008, -7, 5, 6, 7, 12 },
    { "LSN 0", false, 0, 149, 20008, -7, 5, 6, 7, 12 },
    { "it ends before it begins", false, 100, 98, 20008, -7, 5, 6, 7, 0 },
    { "LSNs behind the last one", false, 100, LAST_LSN + 1, 20008, -7, 5, 6, 7, 12 },
    { "no group", false, 100, 149, SEGMENT_DATA_OFFSET, -7, 5, 6, 7, 12 },
    { "not a multiple of 8", false, 100, 149, 20012, -7, 5, 6, 7, 12 },
    { "groups behind the footer", false, 100, 149, FOOTER_AT + 8, -7, 5, 6, 7, 0 },
    { "groups far behind the footer", false, 100, 149, UINT64_MAX - 7, -7, 5, 6, 7, 0 },
    { "as many entries as records", true, 100, 149, 20008, -7, 5, 6, 7, 50 },
    { "more entries than records", false, 100, 149, 20008, -7, 5, 6, 7, 51 },
    { "times the wrong way round", false, 100, 149, 20008, 6, 5, 6, 7, 12 },
    { "a peak below its own records", false, 100, 149, 20008, -7, 5, 4, 7, 12 },
    { "no epoch", false, 100, 149, 20008, -7, 5, 6, 0, 12 },

    { "an index of one block in front of it", true, 1, 1000000, FOOTER_AT - 4104, -7, 5, 6, 7, 128 },
    { "one entry more than its block has room for", false, 1, 1000000, FOOTER_AT - 4104, -7, 5, 6, 7, 129 },
    { "no index where there is no room", true, 1, 1000000, FOOTER_AT, -7, 5, 6, 7, 0 },
    { "an entry where there is no room", false, 1, 1000000, FOOTER_AT, -7, 5, 6, 7, 1 },
    { "the most entries", false, 1, UINT32_MAX, FOOTER_AT, -7, 5, 6, 7, UINT32_MAX },

    { "no record", true, 100, 99, 20008, INT64_MAX, INT64_MIN, 6, 7, 0 },
    { "no record, but times", false, 100, 99, 20008, -7, 5, 6, 7, 0 },
    { "no record, but a last time", false, 100, 99, 20008, INT64_MAX, 5, 6, 7, 0 },
    { "no record, but a first time", false, 100, 99, 20008, -7, INT64_MIN, 6, 7, 0 },
    { "no record, but an index", false, 100, 99, 20008, INT64_MAX, INT64_MIN, 6, 7, 1 },
};

TEST_EACH(an_impossible_footer_is_refused_even_with_a_right_checksum, some_footers)
{
    const struct segment_footer footer = {
        .first_lsn = row->first_lsn,
        .last_lsn = row->last_lsn,
        .data_end = row->data_end,
        .min_ns = row->min_ns,
        .max_ns = row->max_ns,
        .max_time_so_far_ns = row->max_time_so_far_ns,
        .epoch = { row->epoch, 0xdeadbeef },
        .index_entries = row->index_entries,
    };
    struct segment_footer read;

    twl_segment_footer_encode(&footer, 1, FOOTER_AT, block);
    ck_assert_int_eq(twl_segment_footer_decode(block, 1, FOOTER_AT, &read), row->is_possible);
}

TEST(a_footer_is_where_a_block_begins)
{
    const struct segment_footer footer = make_footer();
    struct segment_footer read;

    twl_segment_footer_encode(&footer, 1, FOOTER_AT + 8, block);
    ck_assert(!twl_segment_footer_decode(block, 1, FOOTER_AT + 8, &read));
}

CASE("state", NULL, NULL);

static struct state_entry make_entry(uint8_t kind, const char *name, const void *value, uint16_t value_bytes)
{
    return (struct state_entry){ .kind = kind,
                                 .name_bytes = (uint8_t)strlen(name),
                                 .value_bytes = value_bytes,
                                 .name = name,
                                 .value = value };
}

/* A slot with these entries. */
static struct state_header make_slot(unsigned char slot[STATE_MIN_SLOT_BYTES],
                                     const struct state_entry *entries, size_t count)
{
    struct state_header header = { .generation = 5, .first_sequence = 3, .first_lsn = 42, .cursor_epoch = 6 };

    memcpy(header.log_id, log_id, LOG_ID_BYTES);
    memset(slot, 0, STATE_MIN_SLOT_BYTES);
    for (size_t i = 0; i < count; i++)
        header.body_bytes +=
            (uint32_t)twl_state_entry_encode(&entries[i], slot + STATE_HEADER_BYTES + header.body_bytes);
    twl_state_encode(&header, slot);
    return header;
}

static enum header_state decode_entries(const struct state_entry *entries, size_t count)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    struct state_header read;

    make_slot(slot, entries, count);
    return twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read);
}

TEST(a_state_has_these_bytes_and_reads_back_with_its_entries)
{
    static const char header_bytes[] =
        "895457530d0a1a0a 01000000 00000000 00000000 d8a6f309 0102030405060708090a0b0c0d0e0f10 "
        "0500000000000000 0300000000000000 2a00000000000000 48000000 fdd976c7 06000000 "
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000 "
        "200a5827";
    static const char body[] =
        "01 07 0800 62696c6c696e67 3132333435363738 0000000000 01 04 0800 6d61696c 3837363534333231 "
        "02 05 0000 656d707479 00000000000000 02 04 0600 766f7465 6e6f64652037 0000";
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    unsigned char again[STATE_MIN_SLOT_BYTES];
    const struct state_entry entries[] = {
        make_entry(STATE_CURSOR, "billing", "12345678", 8),
        make_entry(STATE_CURSOR, "mail", "87654321", 8),
        make_entry(STATE_VALUE, "empty", NULL, 0),
        make_entry(STATE_VALUE, "vote", "node 7", 6),
    };
    const struct state_header header = make_slot(slot, entries, 4);
    struct state_header read;

    expect_bytes(slot, STATE_HEADER_BYTES, header_bytes);
    expect_bytes(slot + STATE_HEADER_BYTES, header.body_bytes, body);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_VALID);
    twl_state_encode(&read, slot);
    expect_bytes(slot, STATE_HEADER_BYTES, header_bytes);

    size_t offset = 0, used = 0;
    struct state_entry entry;
    while (twl_state_entry_next(slot + STATE_HEADER_BYTES, read.body_bytes, &offset, &entry))
        used += twl_state_entry_encode(&entry, again + used);
    expect_bytes(again, used, body);
}

TEST(every_flipped_bit_of_a_state_is_damage)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    const struct state_entry entry = make_entry(STATE_VALUE, "vote", "node 7", 6);
    struct state_header header = make_slot(slot, &entry, 1), read;

    for (unsigned bit = 0; bit < (STATE_HEADER_BYTES + header.body_bytes) * 8; bit++) {
        slot[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_DAMAGED);
        slot[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

TEST(another_version_of_a_state_is_too_new_and_not_damaged)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    struct state_header read;

    make_slot(slot, NULL, 0);
    store_le32(slot + 8, 2);
    reseal_prefix(slot);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_NEWER);
}

TEST(a_feature_of_a_state_that_one_must_know_is_too_new_and_not_damaged)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    struct state_header read;

    make_slot(slot, NULL, 0);
    store_le32(slot + 12, 1);
    reseal_prefix(slot);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_NEWER);
}

TEST(zeros_and_a_slot_that_is_too_short_are_no_state)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    struct state_header read;

    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_FOREIGN);
    make_slot(slot, NULL, 0);
    ck_assert_int_eq(twl_state_decode(slot, STATE_HEADER_BYTES - 1, &read), HEADER_FOREIGN);
}

TEST(a_state_and_a_segment_are_foreign_to_each_other)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    struct state_header state;
    struct segment_header segment;

    make_header();
    ck_assert_int_eq(twl_state_decode(block, sizeof(block), &state), HEADER_FOREIGN);
    make_slot(slot, NULL, 0);
    ck_assert_int_eq(twl_segment_header_decode(slot, &segment), HEADER_FOREIGN);
}

static const struct some_state {
    const char *name;
    enum header_state expected;
    uint64_t generation, first_sequence, first_lsn;
} some_states[] = {
    { "a state", HEADER_VALID, 5, 3, 42 },
    { "the last head", HEADER_VALID, 5, 3, LAST_LSN + 1 },
    { "no generation", HEADER_DAMAGED, 0, 3, 42 },
    { "no first segment", HEADER_DAMAGED, 5, 0, 42 },
    { "LSN 0", HEADER_DAMAGED, 5, 3, 0 },
    { "a head behind the last LSN", HEADER_DAMAGED, 5, 3, LAST_LSN + 2 },
};

TEST_EACH(an_impossible_state_is_damage_even_with_right_checksums, some_states)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    struct state_header header = make_slot(slot, NULL, 0), read;

    header.generation = row->generation;
    header.first_sequence = row->first_sequence;
    header.first_lsn = row->first_lsn;
    twl_state_encode(&header, slot);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), row->expected);
}

TEST(a_body_that_reaches_into_the_next_slot_is_damage)
{
    static unsigned char slot[2 * STATE_MIN_SLOT_BYTES];
    struct state_header header = make_slot(slot, NULL, 0), read;

    header.body_bytes = STATE_MIN_SLOT_BYTES - STATE_HEADER_BYTES + 8;
    twl_state_encode(&header, slot);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_DAMAGED);
}

TEST(a_body_of_the_largest_size_is_damage_and_not_read)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    struct state_header read;

    make_slot(slot, NULL, 0);
    store_le32(slot + 64, UINT32_MAX);
    store_le32(slot + 124, twl_crc32c(0, slot, 124));
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_DAMAGED);
}

#define NAME_OF_63 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
_Static_assert(sizeof(NAME_OF_63) - 1 == STATE_MAX_NAME, "the longest");

static const struct some_entry {
    const char *name;
    enum header_state expected;
    uint8_t kind;
    const char *entry_name;
    uint8_t name_bytes;
    uint16_t value_bytes;
} some_entries[] = {
    { "the longest name and the longest value", HEADER_VALID, STATE_VALUE, NAME_OF_63, 63, STATE_MAX_VALUE },
    { "a name that is too long", HEADER_DAMAGED, STATE_VALUE, NAME_OF_63 "n", 64, 1 },
    { "a value that is too long", HEADER_DAMAGED, STATE_VALUE, "v", 1, STATE_MAX_VALUE + 1 },
    { "no name", HEADER_DAMAGED, STATE_VALUE, "", 0, 1 },
    { "a NUL in a name", HEADER_DAMAGED, STATE_VALUE, "n\0l", 3, 1 },
    { "a cursor", HEADER_VALID, STATE_CURSOR, "whole", 5, 8 },
    { "a cursor that is no LSN", HEADER_DAMAGED, STATE_CURSOR, "short", 5, 7 },
    { "a kind of a newer version", HEADER_NEWER, STATE_VALUE + 1, "unknown", 7, 1 },
    { "a kind of a newer version that is kept", HEADER_VALID, STATE_KEPT, "unknown", 7, 1 },
    { "a kind that is kept, without a name", HEADER_DAMAGED, STATE_KEPT, "", 0, 1 },
    { "no kind", HEADER_DAMAGED, 0, "unknown", 7, 1 },
};

TEST_EACH(an_entry_that_is_not_well_formed_is_damage, some_entries)
{
    static const unsigned char value[STATE_MAX_VALUE + 1];
    const struct state_entry entry = {
        .kind = row->kind,
        .name = row->entry_name,
        .name_bytes = row->name_bytes,
        .value = value,
        .value_bytes = row->value_bytes,
    };

    ck_assert_int_eq(decode_entries(&entry, 1), row->expected);
}

static const struct some_pair {
    const char *name;
    enum header_state expected;
    uint8_t first_kind;
    const char *first;
    uint8_t second_kind;
    const char *second;
} some_pairs[] = {
    { "by name", HEADER_VALID, STATE_VALUE, "a", STATE_VALUE, "b" },
    { "the shorter of two names first", HEADER_VALID, STATE_VALUE, "a", STATE_VALUE, "ab" },
    { "cursors first, whatever their names", HEADER_VALID, STATE_CURSOR, "b", STATE_VALUE, "a" },
    { "twice", HEADER_DAMAGED, STATE_VALUE, "a", STATE_VALUE, "a" },
    { "not by name", HEADER_DAMAGED, STATE_VALUE, "b", STATE_VALUE, "a" },
    { "the longer of two names first", HEADER_DAMAGED, STATE_VALUE, "ab", STATE_VALUE, "a" },
    { "cursors last", HEADER_DAMAGED, STATE_VALUE, "a", STATE_CURSOR, "b" },
};

TEST_EACH(entries_are_in_order, some_pairs)
{
    const struct state_entry entries[] = {
        make_entry(row->first_kind, row->first, "12345678", 8),
        make_entry(row->second_kind, row->second, "12345678", 8),
    };

    ck_assert_int_eq(decode_entries(entries, 2), row->expected);
}

TEST(a_body_ends_where_an_entry_ends_and_padding_is_zero)
{
    static unsigned char slot[STATE_MIN_SLOT_BYTES];
    const struct state_entry entry = make_entry(STATE_VALUE, "name", "value", 5); /* 13 bytes and 3 zeros */
    struct state_header header = make_slot(slot, &entry, 1), read;

    header.body_bytes += 8;
    twl_state_encode(&header, slot);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_DAMAGED);

    header.body_bytes -= 16;
    twl_state_encode(&header, slot);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_DAMAGED);

    header.body_bytes += 8;
    for (unsigned i = 13; i < 16; i++) {
        slot[STATE_HEADER_BYTES + i] = 1;
        twl_state_encode(&header, slot);
        ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_DAMAGED);
        slot[STATE_HEADER_BYTES + i] = 0;
    }

    twl_state_encode(&header, slot);
    ck_assert_int_eq(twl_state_decode(slot, STATE_MIN_SLOT_BYTES, &read), HEADER_VALID);
}
