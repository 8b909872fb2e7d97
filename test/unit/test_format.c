/* SPDX-License-Identifier: Apache-2.0 */
/* The format: what is written reads back, and nothing else does. */
#include "suites.h"

#include "base/bytes.h"
#include "format/checksum.h"
#include "format/format.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t log_id[LOG_ID_BYTES] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static const struct epoch epoch = { .number = 7, .salt = 0xdeadbeef };

/* ---- checksum ---------------------------------------------------------------------------------- */

START_TEST(the_checksum_is_crc32c)
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
END_TEST

START_TEST(the_portable_checksum_is_the_same_at_every_length_and_alignment)
{
    unsigned char bytes[300];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 131 + 7);
    for (unsigned offset = 0; offset < 16; offset++)
        for (unsigned size = 0; size < 280; size++)
            ck_assert_uint_eq(twl_crc32c(size, bytes + offset, size),
                              twl_crc32c_portable(size, bytes + offset, size));
}
END_TEST

START_TEST(a_checksum_continues_where_it_stopped)
{
    uint32_t crc = twl_crc32c(0, "1234", 4);
    ck_assert_uint_eq(twl_crc32c(crc, "56789", 5), 0xe3069283);
}
END_TEST

/* ---- segment header ---------------------------------------------------------------------------- */

static void make_header(struct segment_header *header, unsigned char *block)
{
    *header = (struct segment_header){ .sequence = 3,
                                       .segment_id = 0x1122334455667788,
                                       .bytes = 65536,
                                       .after_lsn = 41,
                                       .created_ns = 1234567890123456789,
                                       .epoch = 7,
                                       .max_group_bytes = 16384 };
    memcpy(header->log_id, log_id, LOG_ID_BYTES);
    twl_segment_header_encode(header, block);
}

START_TEST(a_segment_header_reads_back)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header, read;
    make_header(&header, block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_VALID);
    ck_assert_uint_eq(read.sequence, header.sequence);
    ck_assert_uint_eq(read.segment_id, header.segment_id);
    ck_assert_uint_eq(read.bytes, header.bytes);
    ck_assert_uint_eq(read.after_lsn, header.after_lsn);
    ck_assert_int_eq(read.created_ns, header.created_ns);
    ck_assert_uint_eq(read.epoch, header.epoch);
    ck_assert_uint_eq(read.max_group_bytes, header.max_group_bytes);
    ck_assert_mem_eq(read.log_id, log_id, LOG_ID_BYTES);
    ck_assert(twl_segment_header_is_clean(block));
}
END_TEST

START_TEST(every_flipped_bit_of_a_segment_header_is_damage)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header, read;
    make_header(&header, block);
    for (unsigned bit = 0; bit < SEGMENT_HEADER_BYTES * 8; bit++) {
        block[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (bit < 512 * 8)
            ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_DAMAGED);
        else
            ck_assert(!twl_segment_header_is_clean(block));
        block[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}
END_TEST

static void reseal_prefix(unsigned char *block)
{
    store_le32(block + 20, twl_crc32c(0, block, 20));
}

START_TEST(too_new_is_told_from_damaged)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header, read;
    make_header(&header, block);
    store_le32(block + 8, SEGMENT_VERSION + 1);
    reseal_prefix(block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_NEWER);

    make_header(&header, block);
    store_le32(block + 12, 1u << 31); /* a feature one must know to read it */
    reseal_prefix(block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_NEWER);
}
END_TEST

START_TEST(a_compatible_feature_is_ignored)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header, read;
    make_header(&header, block);
    header.compatible = 0x80;
    twl_segment_header_encode(&header, block);
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_VALID);
    ck_assert_uint_eq(read.compatible, 0x80);
}
END_TEST

START_TEST(other_files_are_foreign)
{
    unsigned char block[SEGMENT_HEADER_BYTES] = "#!/bin/sh\n";
    struct segment_header read;
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_FOREIGN);
    memset(block, 0, sizeof(block));
    ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_FOREIGN);
}
END_TEST

START_TEST(impossible_sizes_are_damage_even_with_a_right_checksum)
{
    static const uint64_t sizes[] = { 0, 4096, 65536 - 4096, 65536 + 1, UINT64_C(1) << 41, UINT64_MAX };
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header, read;
    make_header(&header, block);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        header.bytes = sizes[i];
        twl_segment_header_encode(&header, block);
        ck_assert_int_eq(twl_segment_header_decode(block, &read), HEADER_DAMAGED);
    }
}
END_TEST

/* ---- group header ------------------------------------------------------------------------------ */

static struct group_header make_group(void)
{
    return (struct group_header){ .first_lsn = 100,
                                  .count = 2,
                                  .bytes = 64 + 2 * 32,
                                  .durable_lsn = 99,
                                  .chain = 0xabcdef01,
                                  .epoch = epoch,
                                  .kind = GROUP_RECORDS,
                                  .time_ns = 55 };
}

START_TEST(a_group_header_reads_back)
{
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header group = make_group(), read;
    twl_group_header_encode(&group, 0x1234, 8192, bytes);
    ck_assert(twl_group_header_decode(bytes, 0x1234, 8192, &read));
    ck_assert_uint_eq(read.first_lsn, group.first_lsn);
    ck_assert_uint_eq(read.count, group.count);
    ck_assert_uint_eq(read.bytes, group.bytes);
    ck_assert_uint_eq(read.durable_lsn, group.durable_lsn);
    ck_assert_uint_eq(read.chain, group.chain);
    ck_assert_uint_eq(read.epoch.number, group.epoch.number);
    ck_assert_uint_eq(read.epoch.salt, group.epoch.salt);
    ck_assert_int_eq(read.kind, group.kind);
    ck_assert_int_eq(read.time_ns, group.time_ns);
    ck_assert_uint_eq(read.checksum, group.checksum);
}
END_TEST

START_TEST(a_group_header_is_valid_at_one_place_of_one_segment_only)
{
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header group = make_group(), read;
    twl_group_header_encode(&group, 0x1234, 8192, bytes);
    for (uint64_t offset = 0; offset < 65536; offset += 8)
        ck_assert(twl_group_header_decode(bytes, 0x1234, offset, &read) == (offset == 8192));
    ck_assert(!twl_group_header_decode(bytes, 0x1234, 8192 + (UINT64_C(1) << 32), &read));
    ck_assert(!twl_group_header_decode(bytes, 0x1235, 8192, &read));
}
END_TEST

START_TEST(every_flipped_bit_of_a_group_header_is_seen)
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
END_TEST

static bool is_accepted(struct group_header group)
{
    unsigned char bytes[GROUP_HEADER_BYTES];
    struct group_header read;
    twl_group_header_encode(&group, 1, 4096, bytes);
    return twl_group_header_decode(bytes, 1, 4096, &read);
}

START_TEST(an_impossible_group_is_refused_even_with_a_right_checksum)
{
    ck_assert(is_accepted(make_group()));
    struct group_header group = make_group();
    group.bytes = 56;
    ck_assert_msg(!is_accepted(group), "smaller than its header");
    group = make_group();
    group.bytes += 4;
    ck_assert_msg(!is_accepted(group), "not a multiple of 8");
    group = make_group();
    group.count = 6;
    ck_assert_msg(!is_accepted(group), "more records than fit");
    group = make_group();
    group.count = 0;
    ck_assert_msg(!is_accepted(group), "records, but none");
    group = make_group();
    group.durable_lsn = 100;
    ck_assert_msg(!is_accepted(group), "durable before it was written");
    group = make_group();
    group.epoch.number = 0;
    ck_assert_msg(!is_accepted(group), "no epoch");
    group = make_group();
    group.kind = GROUP_CLOSE + 1;
    ck_assert_msg(!is_accepted(group), "unknown kind");
    group = make_group();
    group.kind = GROUP_START;
    ck_assert_msg(!is_accepted(group), "a mark with records");
    group = make_group();
    group.first_lsn = UINT64_MAX;
    ck_assert_msg(!is_accepted(group), "LSNs beyond 64 bits");
    group = (struct group_header){ .first_lsn = 1, .bytes = 64, .epoch = epoch, .kind = GROUP_START };
    ck_assert_msg(is_accepted(group), "the first mark of a log");
    group.bytes = 72;
    ck_assert_msg(!is_accepted(group), "a mark with something behind it");
}
END_TEST

START_TEST(zeros_are_neither_a_group_nor_a_record)
{
    unsigned char bytes[GROUP_HEADER_BYTES] = { 0 };
    struct group_header group;
    struct record_header record;
    for (uint32_t seed = 0; seed < 100000; seed++)
        ck_assert(!twl_group_header_decode(bytes, seed, 4096, &group));
    ck_assert(!twl_record_header_decode(bytes, twl_epoch_seed(log_id, epoch), 1, &record));
}
END_TEST

/* ---- record ------------------------------------------------------------------------------------ */

START_TEST(a_record_of_any_size_reads_back)
{
    unsigned char payload[100], *bytes = malloc(twl_record_bytes(sizeof(payload)));
    uint32_t seed = twl_epoch_seed(log_id, epoch);
    for (unsigned i = 0; i < sizeof(payload); i++)
        payload[i] = (unsigned char)(i + 1);
    for (unsigned size = 0; size <= sizeof(payload); size++) {
        struct record_header record;
        memset(bytes, 0xee, twl_record_bytes(sizeof(payload)));
        twl_record_encode(bytes, seed, 9, -5, size > 0 ? payload : NULL, size);
        ck_assert(twl_record_header_decode(bytes, seed, 9, &record));
        ck_assert_uint_eq(record.size, size);
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
END_TEST

START_TEST(every_flipped_bit_of_a_record_is_seen_padding_included)
{
    unsigned char bytes[RECORD_HEADER_BYTES + 16];
    uint32_t seed = twl_epoch_seed(log_id, epoch);
    twl_record_encode(bytes, seed, 9, 1, "eleven bytes", 11);
    for (unsigned bit = 0; bit < sizeof(bytes) * 8; bit++) {
        struct record_header record;
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert(!twl_record_header_decode(bytes, seed, 9, &record) ||
                  !twl_record_payload_is_valid(&record, bytes + RECORD_HEADER_BYTES));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}
END_TEST

START_TEST(a_record_is_valid_as_one_lsn_of_one_epoch_of_one_log)
{
    unsigned char bytes[RECORD_HEADER_BYTES];
    struct record_header record;
    uint32_t seed = twl_epoch_seed(log_id, epoch);
    twl_record_encode(bytes, seed, 1000, 0, NULL, 0);
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
END_TEST

Suite *format_suite(void)
{
    Suite *suite = suite_create("format");
    TCase *checksum = tcase_create("checksum");
    tcase_add_test(checksum, the_checksum_is_crc32c);
    tcase_add_test(checksum, the_portable_checksum_is_the_same_at_every_length_and_alignment);
    tcase_add_test(checksum, a_checksum_continues_where_it_stopped);
    suite_add_tcase(suite, checksum);
    TCase *segment = tcase_create("segment header");
    tcase_add_test(segment, a_segment_header_reads_back);
    tcase_add_test(segment, every_flipped_bit_of_a_segment_header_is_damage);
    tcase_add_test(segment, too_new_is_told_from_damaged);
    tcase_add_test(segment, a_compatible_feature_is_ignored);
    tcase_add_test(segment, other_files_are_foreign);
    tcase_add_test(segment, impossible_sizes_are_damage_even_with_a_right_checksum);
    suite_add_tcase(suite, segment);
    TCase *group = tcase_create("group header");
    tcase_add_test(group, a_group_header_reads_back);
    tcase_add_test(group, a_group_header_is_valid_at_one_place_of_one_segment_only);
    tcase_add_test(group, every_flipped_bit_of_a_group_header_is_seen);
    tcase_add_test(group, an_impossible_group_is_refused_even_with_a_right_checksum);
    tcase_add_test(group, zeros_are_neither_a_group_nor_a_record);
    suite_add_tcase(suite, group);
    TCase *record = tcase_create("record");
    tcase_add_test(record, a_record_of_any_size_reads_back);
    tcase_add_test(record, every_flipped_bit_of_a_record_is_seen_padding_included);
    tcase_add_test(record, a_record_is_valid_as_one_lsn_of_one_epoch_of_one_log);
    suite_add_tcase(suite, record);
    return suite;
}
