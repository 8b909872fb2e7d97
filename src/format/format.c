/* SPDX-License-Identifier: Apache-2.0 */
/* See format.h; the byte tables below are those of docs/format.md. */
#include "format/format.h"

#include "base/bytes.h"
#include "format/checksum.h"

#include <string.h>

/*
 * Segment header. Bytes 0-23 keep their place and meaning in every future version, so that "damaged"
 * and "too new" can always be told apart.
 *
 *     0  8  magic           24 16  log identity        80  4  block size, 4096
 *     8  4  version         40  8  sequence            84  4  largest group
 *    12  4  incompatible    48  8  segment identity    88  8  every LSN is greater than this
 *    16  4  compatible      56  8  file size           96  4  epoch
 *    20  4  CRC of 0-19     64  8  created, ns        100 408 zero
 *                           72  8  zero               508  4  CRC of 0-507
 */
static const unsigned char segment_magic[8] = { 0x89, 'T', 'W', 'L', '\r', '\n', 0x1a, '\n' };
#define HEADER_PREFIX_BYTES 20u
#define HEADER_SECTOR_BYTES 512u
_Static_assert(HEADER_SECTOR_BYTES <= SEGMENT_HEADER_BYTES, "the header sector is in the header block");

void twl_segment_header_encode(const struct segment_header *header, unsigned char block[SEGMENT_HEADER_BYTES])
{
    memset(block, 0, SEGMENT_HEADER_BYTES);
    memcpy(block, segment_magic, sizeof(segment_magic));
    store_le32(block + 8, SEGMENT_VERSION);
    store_le32(block + 12, header->incompatible);
    store_le32(block + 16, header->compatible);
    store_le32(block + 20, twl_crc32c(0, block, HEADER_PREFIX_BYTES));
    memcpy(block + 24, header->log_id, LOG_ID_BYTES);
    store_le64(block + 40, header->sequence);
    store_le64(block + 48, header->segment_id);
    store_le64(block + 56, header->bytes);
    store_le64(block + 64, (uint64_t)header->created_ns);
    store_le32(block + 80, BLOCK_BYTES);
    store_le32(block + 84, header->max_group_bytes);
    store_le64(block + 88, header->after_lsn);
    store_le32(block + 96, header->epoch);
    store_le32(block + 508, twl_crc32c(0, block, HEADER_SECTOR_BYTES - 4));
}

enum header_state twl_segment_header_decode(const unsigned char block[SEGMENT_HEADER_BYTES],
                                            struct segment_header *ret_header)
{
    /* The prefix's checksum as it would be with the right magic: a damaged magic is not foreign. */
    uint32_t crc = twl_crc32c(0, segment_magic, sizeof(segment_magic));
    crc = twl_crc32c(crc, block + sizeof(segment_magic), HEADER_PREFIX_BYTES - sizeof(segment_magic));
    bool has_magic = memcmp(block, segment_magic, sizeof(segment_magic)) == 0;
    if (load_le32(block + 20) != crc)
        return has_magic ? HEADER_DAMAGED : HEADER_FOREIGN;
    if (!has_magic)
        return HEADER_DAMAGED;
    if (load_le32(block + 8) != SEGMENT_VERSION || load_le32(block + 12) != 0)
        return HEADER_NEWER;
    if (load_le32(block + 508) != twl_crc32c(0, block, HEADER_SECTOR_BYTES - 4))
        return HEADER_DAMAGED;

    struct segment_header header = {
        .incompatible = load_le32(block + 12),
        .compatible = load_le32(block + 16),
        .sequence = load_le64(block + 40),
        .segment_id = load_le64(block + 48),
        .bytes = load_le64(block + 56),
        .created_ns = (int64_t)load_le64(block + 64),
        .max_group_bytes = load_le32(block + 84),
        .after_lsn = load_le64(block + 88),
        .epoch = load_le32(block + 96),
    };
    memcpy(header.log_id, block + 24, LOG_ID_BYTES);
    bool is_possible = header.sequence > 0 && header.bytes >= SEGMENT_MIN_BYTES &&
                       header.bytes <= SEGMENT_MAX_BYTES && header.bytes % BLOCK_BYTES == 0 &&
                       load_le32(block + 80) == BLOCK_BYTES;
    if (!is_possible)
        return HEADER_DAMAGED;
    *ret_header = header;
    return HEADER_VALID;
}

bool twl_segment_header_is_clean(const unsigned char block[SEGMENT_HEADER_BYTES])
{
    for (unsigned i = HEADER_SECTOR_BYTES; i < SEGMENT_HEADER_BYTES; i++)
        if (block[i] != 0)
            return false;
    return true;
}

uint64_t twl_segment_data_end(uint64_t segment_bytes)
{
    return segment_bytes - SEGMENT_FOOTER_BYTES;
}

uint32_t twl_segment_seed(const struct segment_header *header)
{
    unsigned char identity[LOG_ID_BYTES + 8];
    memcpy(identity, header->log_id, LOG_ID_BYTES);
    store_le64(identity + LOG_ID_BYTES, header->segment_id);
    return twl_crc32c(0, identity, sizeof(identity));
}

/*
 * Group header
 *
 *     0  4  CRC of segment seed, offset, 4-63     32  4  chain: CRC of the group header before
 *     4  4  magic "1TWG"                          36  4  epoch number
 *     8  8  first LSN                             40  4  epoch salt
 *    16  4  records                               44  2  kind
 *    20  4  bytes                                 46  2  flags: 1 = first of its segment
 *    24  8  durable LSN                           48  8  sealed, ns
 *                                                 56  8  zero
 */
static uint32_t group_checksum(const unsigned char *bytes, uint32_t segment_seed, uint64_t offset)
{
    unsigned char place[8];
    store_le64(place, offset);
    uint32_t crc = twl_crc32c(segment_seed, place, sizeof(place));
    return twl_crc32c(crc, bytes + 4, GROUP_HEADER_BYTES - 4);
}

void twl_group_header_encode(struct group_header *group, uint32_t segment_seed, uint64_t offset,
                             unsigned char bytes[GROUP_HEADER_BYTES])
{
    memset(bytes, 0, GROUP_HEADER_BYTES);
    store_le32(bytes + 4, GROUP_MAGIC);
    store_le64(bytes + 8, group->first_lsn);
    store_le32(bytes + 16, group->count);
    store_le32(bytes + 20, group->bytes);
    store_le64(bytes + 24, group->durable_lsn);
    store_le32(bytes + 32, group->chain);
    store_le32(bytes + 36, group->epoch.number);
    store_le32(bytes + 40, group->epoch.salt);
    store_le16(bytes + 44, group->kind);
    store_le16(bytes + 46, group->flags);
    store_le64(bytes + 48, (uint64_t)group->time_ns);
    group->checksum = group_checksum(bytes, segment_seed, offset);
    store_le32(bytes, group->checksum);
}

bool twl_group_header_maybe(const unsigned char *bytes)
{
    return load_le32(bytes + 4) == GROUP_MAGIC;
}

bool twl_group_header_decode(const unsigned char bytes[GROUP_HEADER_BYTES], uint32_t segment_seed,
                             uint64_t offset, struct group_header *ret_group)
{
    if (!twl_group_header_maybe(bytes) || load_le32(bytes) != group_checksum(bytes, segment_seed, offset))
        return false;
    struct group_header group = {
        .first_lsn = load_le64(bytes + 8),
        .count = load_le32(bytes + 16),
        .bytes = load_le32(bytes + 20),
        .durable_lsn = load_le64(bytes + 24),
        .chain = load_le32(bytes + 32),
        .epoch = { .number = load_le32(bytes + 36), .salt = load_le32(bytes + 40) },
        .kind = load_le16(bytes + 44),
        .flags = load_le16(bytes + 46),
        .time_ns = (int64_t)load_le64(bytes + 48),
        .checksum = load_le32(bytes),
    };
    bool has_records = group.kind == GROUP_RECORDS;
    bool is_possible =
        group.kind <= GROUP_CLOSE && has_records == (group.count > 0) && group.bytes >= GROUP_HEADER_BYTES &&
        group.bytes % 8 == 0 && (group.bytes - GROUP_HEADER_BYTES) / RECORD_HEADER_BYTES >= group.count &&
        (has_records || group.bytes == GROUP_HEADER_BYTES) && group.durable_lsn < group.first_lsn &&
        group.first_lsn <= UINT64_MAX - group.count && group.epoch.number > 0 &&
        (group.flags & ~GROUP_FIRST) == 0 && load_le64(bytes + 56) == 0;
    if (!is_possible)
        return false;
    *ret_group = group;
    return true;
}

/*
 * Record header
 *
 *     0  4  CRC of epoch seed and LSN, 4-23       12  4  zero (kind, flags and tag of a later version)
 *     4  4  CRC of the payload                    16  8  accepted, ns
 *     8  4  payload size
 */
uint32_t twl_epoch_seed(const uint8_t log_id[LOG_ID_BYTES], struct epoch epoch)
{
    unsigned char identity[LOG_ID_BYTES + 8];
    memcpy(identity, log_id, LOG_ID_BYTES);
    store_le32(identity + LOG_ID_BYTES, epoch.number);
    store_le32(identity + LOG_ID_BYTES + 4, epoch.salt);
    return twl_crc32c(0, identity, sizeof(identity));
}

/* As a seed, so that a record can't pass for another one fewer than 2^32 LSNs away. */
static uint32_t record_checksum(const unsigned char *bytes, uint32_t epoch_seed, uint64_t lsn)
{
    uint32_t seed = epoch_seed ^ (uint32_t)lsn ^ (uint32_t)(lsn >> 32) * 0x9e3779b1u;
    return twl_crc32c(seed, bytes + 4, RECORD_HEADER_BYTES - 4);
}

void twl_record_encode(unsigned char *at, uint32_t epoch_seed, uint64_t lsn, int64_t time_ns,
                       const void *data, size_t size)
{
    unsigned char *payload = at + RECORD_HEADER_BYTES;
    if (size > 0)
        memcpy(payload, data, size);
    memset(payload + size, 0, align_up(size, 8) - size);

    store_le32(at + 4, twl_crc32c(0, payload, size));
    store_le32(at + 8, (uint32_t)size);
    store_le32(at + 12, 0);
    store_le64(at + 16, (uint64_t)time_ns);
    store_le32(at, record_checksum(at, epoch_seed, lsn));
}

bool twl_record_header_decode(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                              uint64_t lsn, struct record_header *ret_record)
{
    if (load_le32(bytes) != record_checksum(bytes, epoch_seed, lsn) || load_le32(bytes + 12) != 0)
        return false;
    *ret_record = (struct record_header){
        .payload_checksum = load_le32(bytes + 4),
        .size = load_le32(bytes + 8),
        .time_ns = (int64_t)load_le64(bytes + 16),
    };
    return true;
}

bool twl_record_payload_is_valid(const struct record_header *record, const unsigned char *payload)
{
    if (twl_crc32c(0, payload, record->size) != record->payload_checksum)
        return false;
    for (uint64_t at = record->size; at < align_up(record->size, 8); at++)
        if (payload[at] != 0)
            return false;
    return true;
}
