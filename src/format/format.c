/* SPDX-License-Identifier: Apache-2.0 */
/* See format.h; docs/format.md has a table of each structure. */
#include "format/format.h"

#include "base/bytes.h"
#include "format/checksum.h"
#include "twinlog.h"

#include <stdio.h>
#include <string.h>

/* Of a list of fields, with their offsets and bits. The bytes that no list names are zero. */
#define STORE(at, bits, field) store_le##bits(bytes + (at), (uint##bits##_t)from->field)
#define LOAD(at, bits, field) into.field = (__typeof__(into.field))load_le##bits(bytes + (at))

/* The start of a segment and of a state file, the same in every future version, so that "damaged" and "too new" can
 * always be told apart. */
#define MAGIC_BYTES 8u
#define PREFIX_BYTES 20u

static void encode_prefix(const unsigned char magic[MAGIC_BYTES], uint32_t version, uint32_t incompatible,
                          uint32_t compatible, unsigned char *bytes)
{
    memcpy(bytes, magic, MAGIC_BYTES);
    store_le32(bytes + 8, version);
    store_le32(bytes + 12, incompatible);
    store_le32(bytes + 16, compatible);
    store_le32(bytes + 20, twl_crc32c(0, bytes, PREFIX_BYTES));
}

static enum header_state decode_prefix(const unsigned char *bytes, const unsigned char magic[MAGIC_BYTES],
                                       uint32_t version, uint32_t known_features)
{
    /* Calculated with the right magic: a header with a damaged magic is damaged, not foreign. */
    uint32_t crc = twl_crc32c(0, magic, MAGIC_BYTES);
    crc = twl_crc32c(crc, bytes + MAGIC_BYTES, PREFIX_BYTES - MAGIC_BYTES);

    const bool has_magic = memcmp(bytes, magic, MAGIC_BYTES) == 0;
    const bool has_checksum = load_le32(bytes + 20) == crc;
    if (!has_magic && !has_checksum)
        return HEADER_FOREIGN;
    if (!has_magic || !has_checksum)
        return HEADER_DAMAGED;

    const uint32_t unknown_features = load_le32(bytes + 12) & ~known_features;
    if (load_le32(bytes + 8) != version || unknown_features != 0)
        return HEADER_NEWER;
    return HEADER_VALID;
}

/* Segment header: the prefix, the identity of the log at 24, the size of a block at 80, the CRC of 0-507 at 508. */
#define SEGMENT_FIELDS(F)                                                                                    \
    F(40, 64, sequence);                                                                                     \
    F(48, 64, segment_id);                                                                                   \
    F(56, 64, bytes);                                                                                        \
    F(64, 64, created_ns);                                                                                   \
    F(72, 64, start_lsn);                                                                                    \
    F(88, 64, after_lsn);                                                                                    \
    F(96, 32, epoch);                                                                                        \
    F(100, 32, start_chain);                                                                                 \
    F(104, 64, previous);                                                                                    \
    F(112, 32, incarnations);                                                                                \
    F(116, 32, writer)
static const unsigned char segment_magic[MAGIC_BYTES] = { 0x89, 'T', 'W', 'L', '\r', '\n', 0x1a, '\n' };
#define MAPPED_SECOND_HEADER (SEGMENT_HEADER_BYTES - HEADER_SECTOR_BYTES)
_Static_assert(HEADER_SECTOR_BYTES <= MAPPED_SECOND_HEADER, "both headers are in the header block");
_Static_assert(FOOTER_SECTOR_BYTES + HEADER_SECTOR_BYTES <= SEGMENT_FOOTER_BYTES, "in the footer block");

static void encode_header_sector(const struct segment_header *from, unsigned char bytes[HEADER_SECTOR_BYTES])
{
    memset(bytes, 0, HEADER_SECTOR_BYTES);
    encode_prefix(segment_magic, SEGMENT_VERSION, from->incompatible, from->compatible, bytes);
    memcpy(bytes + 24, from->log_id, LOG_ID_BYTES);
    store_le32(bytes + 80, BLOCK_BYTES);
    SEGMENT_FIELDS(STORE);
    store_le32(bytes + 508, twl_crc32c(0, bytes, HEADER_SECTOR_BYTES - 4));
}

void twl_segment_header_encode(const struct segment_header *header, unsigned char block[SEGMENT_HEADER_BYTES])
{
    memset(block, 0, SEGMENT_HEADER_BYTES);
    encode_header_sector(header, block);
    if (segment_is_mapped(header))
        encode_header_sector(header, block + MAPPED_SECOND_HEADER);
}

uint64_t twl_second_header_offset(const struct segment_header *header)
{
    if (segment_is_mapped(header))
        return MAPPED_SECOND_HEADER;
    return twl_segment_data_end(header->bytes) + FOOTER_SECTOR_BYTES;
}

void twl_second_header_encode(const struct segment_header *header, unsigned char block[SEGMENT_FOOTER_BYTES])
{
    if (!segment_is_mapped(header))
        encode_header_sector(header, block + FOOTER_SECTOR_BYTES);
}

/* The first segment of a log has a fixed start. A segment that a truncation begins continues an older
 * segment. No record in front of a fixed start has its LSN or a later one. */
static bool is_start_possible(const struct segment_header *header)
{
    const bool is_fixed = header->start_lsn > 0;
    const bool has_previous = header->previous > 0;

    if (header->after_lsn > LAST_LSN || header->start_lsn > LAST_LSN + 1)
        return false;
    if (is_fixed && header->after_lsn >= header->start_lsn)
        return false;
    if (!has_previous && header->start_chain != 0)
        return false;

    if (!is_fixed)
        return header->sequence > 1 && !has_previous;
    if (has_previous)
        return header->previous < header->sequence && header->start_lsn > 1;
    return true;
}

static bool is_size_possible(uint64_t bytes)
{
    if (bytes < SEGMENT_MIN_BYTES || bytes > SEGMENT_MAX_BYTES)
        return false;
    return bytes % BLOCK_BYTES == 0;
}

enum header_state twl_segment_header_decode(const unsigned char bytes[HEADER_SECTOR_BYTES],
                                            struct segment_header *ret_header)
{
    const enum header_state prefix = decode_prefix(bytes, segment_magic, SEGMENT_VERSION, KNOWN_FEATURES);
    if (prefix != HEADER_VALID)
        return prefix;
    if (load_le32(bytes + 508) != twl_crc32c(0, bytes, HEADER_SECTOR_BYTES - 4))
        return HEADER_DAMAGED;

    struct segment_header into = { .incompatible = load_le32(bytes + 12),
                                   .compatible = load_le32(bytes + 16) };
    memcpy(into.log_id, bytes + 24, LOG_ID_BYTES);
    SEGMENT_FIELDS(LOAD);

    if (load_le32(bytes + 80) != BLOCK_BYTES || into.sequence == 0)
        return HEADER_DAMAGED;
    if (!is_size_possible(into.bytes) || !is_start_possible(&into))
        return HEADER_DAMAGED;
    *ret_header = into;
    return HEADER_VALID;
}

uint64_t twl_segment_data_end(uint64_t segment_bytes)
{
    return segment_bytes - SEGMENT_FOOTER_BYTES;
}

/* Seeds the checksums of what is `part` of the log. */
static uint32_t part_seed(const uint8_t log_id[LOG_ID_BYTES], uint64_t part)
{
    unsigned char identity[LOG_ID_BYTES + 8];

    memcpy(identity, log_id, LOG_ID_BYTES);
    store_le64(identity + LOG_ID_BYTES, part);
    return twl_crc32c(0, identity, sizeof(identity));
}

uint32_t twl_segment_seed(const struct segment_header *header)
{
    return part_seed(header->log_id, header->segment_id);
}

uint32_t twl_writer(void)
{
    unsigned major = 0, minor = 0, patch = 0;

    sscanf(TWINLOG_VERSION, "%u.%u.%u", &major, &minor, &patch);
    return 1u | (major & 0xff) << 8 | (minor & 0xff) << 16 | (patch & 0xff) << 24;
}

/* A checksum that is valid at one offset of one segment only; it is stored in front of what it covers. */
static uint32_t place_checksum(const unsigned char *bytes, size_t size, uint32_t segment_seed,
                               uint64_t offset)
{
    unsigned char place[8];

    store_le64(place, offset);
    const uint32_t crc = twl_crc32c(segment_seed, place, sizeof(place));
    return twl_crc32c(crc, bytes + 4, size - 4);
}

/* Group header: at 0 the CRC of segment seed, offset and bytes 4-63, then the magic "1TWG"; 60-63 are zero. */
#define GROUP_FIELDS(F)                                                                                      \
    F(8, 64, first_lsn);                                                                                     \
    F(16, 32, count);                                                                                        \
    F(20, 32, bytes);                                                                                        \
    F(24, 64, durable_lsn);                                                                                  \
    F(32, 32, chain);                                                                                        \
    F(36, 32, epoch.number);                                                                                 \
    F(40, 32, epoch.salt);                                                                                   \
    F(44, 16, kind);                                                                                         \
    F(46, 16, flags);                                                                                        \
    F(48, 64, time_ns);                                                                                      \
    F(56, 32, writer)

void twl_group_header_encode(struct group_header *from, uint32_t segment_seed, uint64_t offset,
                             unsigned char bytes[GROUP_HEADER_BYTES])
{
    memset(bytes, 0, GROUP_HEADER_BYTES);
    store_le32(bytes + 4, GROUP_MAGIC);
    GROUP_FIELDS(STORE);
    from->checksum = place_checksum(bytes, GROUP_HEADER_BYTES, segment_seed, offset);
    store_le32(bytes, from->checksum);
}

bool twl_group_header_maybe(const unsigned char *bytes)
{
    return load_le32(bytes + 4) == GROUP_MAGIC;
}

#define MOST_BYTES_SHIFT 12u
#define MOST_BYTES_UNIT (8u * 1024) /* doubled as often as the flags say */

uint16_t twl_group_flags_for(uint32_t most_bytes)
{
    unsigned doubled = 1;

    while (doubled < 15 && MOST_BYTES_UNIT << doubled < most_bytes)
        doubled++;
    return (uint16_t)(doubled << MOST_BYTES_SHIFT);
}

uint64_t twl_group_most_bytes(const struct group_header *group)
{
    const unsigned doubled = (unsigned)group->flags >> MOST_BYTES_SHIFT;

    if (doubled == 0)
        return UINT64_MAX;
    return (uint64_t)MOST_BYTES_UNIT << doubled;
}

/* Is all that it says of a meaning that this version knows? */
static bool is_group_known(const struct group_header *group, const unsigned char bytes[GROUP_HEADER_BYTES])
{
    if (group->kind > GROUP_CLOSE || (group->flags & GROUP_FLAGS_UNKNOWN) != 0)
        return false;
    if (group->writer != 0 && group->kind != GROUP_START)
        return false;
    return load_le32(bytes + 60) == 0;
}

/* May the records, of which each has a header, fill so many bytes? */
static bool is_group_size_possible(const struct group_header *group)
{
    if (group->bytes < GROUP_HEADER_BYTES || group->bytes % 8 != 0)
        return false;

    const bool has_records = group->kind == GROUP_RECORDS;
    if (!has_records)
        return group->count == 0 && group->bytes == GROUP_HEADER_BYTES;
    return group->count > 0 && group->count <= (group->bytes - GROUP_HEADER_BYTES) / RECORD_HEADER_BYTES;
}

static bool are_lsns_possible(const struct group_header *group)
{
    return group->durable_lsn < group->first_lsn && group->first_lsn <= LAST_LSN + 1 - group->count;
}

enum decoded twl_group_header_judge(const unsigned char bytes[GROUP_HEADER_BYTES], uint32_t segment_seed,
                                    uint64_t offset, struct group_header *ret_group)
{
    struct group_header into = { .checksum = load_le32(bytes) };

    if (!twl_group_header_maybe(bytes))
        return DECODED_NONE;
    if (into.checksum != place_checksum(bytes, GROUP_HEADER_BYTES, segment_seed, offset))
        return DECODED_NONE;

    GROUP_FIELDS(LOAD);
    if (!is_group_known(&into, bytes)) {
        *ret_group = into;
        return DECODED_NEWER;
    }

    if (!is_group_size_possible(&into) || !are_lsns_possible(&into) || into.epoch.number == 0)
        return DECODED_NONE;
    *ret_group = into;
    return DECODED_VALID;
}

bool twl_group_header_guess(const unsigned char bytes[GROUP_HEADER_BYTES + RECORD_HEADER_BYTES],
                            const uint8_t log_id[LOG_ID_BYTES], struct group_header *ret_group)
{
    struct group_header into = { 0 };
    struct record_header record;

    if (!twl_group_header_maybe(bytes))
        return false;

    GROUP_FIELDS(LOAD);
    *ret_group = into;
    if (into.count == 0 || into.first_lsn == 0 || into.first_lsn > LAST_LSN + 1 - into.count)
        return false;

    const uint32_t epoch_seed = twl_epoch_seed(log_id, into.epoch);
    return twl_record_header_decode(bytes + GROUP_HEADER_BYTES, epoch_seed, into.first_lsn, &record);
}

/* ---- record ------------------------------------------------------------------------------------ */

uint32_t twl_epoch_seed(const uint8_t log_id[LOG_ID_BYTES], struct epoch epoch)
{
    return part_seed(log_id, epoch.number | (uint64_t)epoch.salt << 32);
}

#define LSN_FACTOR 0x9e3779b1u

/* Two records that are fewer than 2^32 LSNs apart can't be mistaken for each other. */
static uint32_t record_seed(uint32_t epoch_seed, uint64_t lsn)
{
    return epoch_seed ^ (uint32_t)lsn ^ (uint32_t)(lsn >> 32) * LSN_FACTOR;
}

static uint32_t record_checksum(const unsigned char *bytes, uint32_t epoch_seed, uint64_t lsn)
{
    return twl_crc32c(record_seed(epoch_seed, lsn), bytes + 4, RECORD_HEADER_BYTES - 4);
}

/* Writes the part behind the checksum of the header, in the words that twl_crc32c() reads: the processor has to wait
 * for stores that a load covers only in part. */
static void encode_record_words(unsigned char *at, const struct record_header *record,
                                uint32_t payload_checksum)
{
    const uint32_t kind_word = record->kind | (uint32_t)record->type << 8 | (uint32_t)record->tag << 16;
    const uint64_t time_ns = (uint64_t)record->time_ns;

    store_le64(at + 4, payload_checksum | (uint64_t)record->size << 32);
    store_le64(at + 12, kind_word | time_ns << 32);
    store_le32(at + 20, (uint32_t)(time_ns >> 32));
}

void twl_record_encode(unsigned char *at, uint32_t epoch_seed, uint64_t lsn,
                       const struct record_header *record, const void *data)
{
    unsigned char *payload = at + RECORD_HEADER_BYTES;
    const size_t size = record->size;
    uint32_t checksum;

    if (data)
        checksum = twl_crc32c_copy(payload, data, size);
    else
        checksum = twl_crc32c(0, payload, size);
    if (size % 8 > 0)
        memset(payload + size, 0, 8 - size % 8);

    encode_record_words(at, record, checksum);
    store_le32(at, record_checksum(at, epoch_seed, lsn));
}

enum decoded twl_record_header_judge(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                                     uint64_t lsn, struct record_header *ret_record)
{
    if (load_le32(bytes) != record_checksum(bytes, epoch_seed, lsn))
        return DECODED_NONE;

    *ret_record = twl_record_header_load(bytes);
    const bool is_known = ret_record->kind <= RECORD_FILLER || ret_record->kind >= RECORD_IGNORED;
    if (!is_known)
        return DECODED_NEWER;
    return DECODED_VALID;
}

struct record_header twl_record_header_load(const unsigned char bytes[RECORD_HEADER_BYTES])
{
    return (struct record_header){
        .payload_checksum = load_le32(bytes + 4),
        .size = load_le32(bytes + 8),
        .kind = bytes[12] & ((1u << RECORD_SALT_SHIFT) - 1),
        .type = bytes[13],
        .tag = (uint16_t)(load_le32(bytes + 12) >> 16),
        .time_ns = (int64_t)load_le64(bytes + 16),
    };
}

bool twl_record_payload_is_valid(const struct record_header *record, const unsigned char *payload)
{
    if (twl_crc32c(0, payload, record->size) != record->payload_checksum)
        return false;
    return are_zeros(payload + record->size, (size_t)(align_up(record->size, 8) - record->size));
}

/* ---- the open group ---------------------------------------------------------------------------- */

static uint32_t claim_check(uint32_t epoch_seed, uint64_t lsn, uint32_t size, uint8_t owner)
{
    unsigned char claimed[5];

    store_le32(claimed, size);
    claimed[4] = owner;
    return twl_crc32c(record_seed(epoch_seed, lsn), claimed, sizeof(claimed)) >> 8;
}

uint64_t twl_claim_encode(uint32_t epoch_seed, uint64_t lsn, uint32_t size, uint8_t owner)
{
    return (uint64_t)size << 32 | claim_check(epoch_seed, lsn, size, owner) << 8 | owner;
}

bool twl_claim_decode(uint64_t word, uint32_t epoch_seed, uint64_t lsn, uint32_t *ret_size,
                      uint8_t *ret_owner)
{
    const uint32_t size = (uint32_t)(word >> 32);
    const uint8_t owner = (uint8_t)word;
    const uint32_t check = (uint32_t)word >> 8;

    if (owner == 0 || check != claim_check(epoch_seed, lsn, size, owner))
        return false;
    *ret_size = size;
    *ret_owner = owner;
    return true;
}

uint64_t twl_record_encode_open(unsigned char *at, uint32_t epoch_seed, uint64_t lsn,
                                const struct record_header *record)
{
    unsigned char header[RECORD_HEADER_BYTES];
    const unsigned char *payload = at + RECORD_HEADER_BYTES;
    uint64_t word = 0;
    uint32_t size;
    uint8_t owner;

    encode_record_words(header, record, twl_crc32c(0, payload, record->size));
    for (unsigned salt = 0; salt < RECORD_SALTS; salt++) {
        header[12] = (unsigned char)(record->kind | salt << RECORD_SALT_SHIFT);
        store_le32(header, record_checksum(header, epoch_seed, lsn));
        word = load_le64(header);
        if (word != 0 && !twl_claim_decode(word, epoch_seed, lsn, &size, &owner))
            break;
    }

    memcpy(at + 8, header + 8, RECORD_HEADER_BYTES - 8);
    return word;
}

#define INDEX_FIELDS(F)                                                                                      \
    F(0, 64, lsn);                                                                                           \
    F(8, 64, group_offset);                                                                                  \
    F(16, 32, record_offset);                                                                                \
    F(24, 64, max_time_so_far_ns)

void twl_index_entry_encode(const struct index_entry *from, unsigned char bytes[INDEX_ENTRY_BYTES])
{
    memset(bytes, 0, INDEX_ENTRY_BYTES);
    INDEX_FIELDS(STORE);
}

void twl_index_entry_decode(const unsigned char bytes[INDEX_ENTRY_BYTES], struct index_entry *ret_entry)
{
    struct index_entry into;

    INDEX_FIELDS(LOAD);
    *ret_entry = into;
}

/* Footer: at 0 the CRC of segment seed, offset and bytes 4-511, then the magic "1TWF". */
#define FOOTER_FIELDS(F)                                                                                     \
    F(8, 64, first_lsn);                                                                                     \
    F(16, 64, last_lsn);                                                                                     \
    F(24, 64, data_end);                                                                                     \
    F(32, 64, min_ns);                                                                                       \
    F(40, 64, max_ns);                                                                                       \
    F(48, 64, max_time_so_far_ns);                                                                           \
    F(56, 64, sealed_ns);                                                                                    \
    F(64, 32, chain);                                                                                        \
    F(68, 32, epoch.number);                                                                                 \
    F(72, 32, epoch.salt);                                                                                   \
    F(76, 32, index_entries);                                                                                \
    F(80, 32, index_checksum)

void twl_segment_footer_encode(const struct segment_footer *from, uint32_t segment_seed, uint64_t offset,
                               unsigned char bytes[FOOTER_SECTOR_BYTES])
{
    memset(bytes, 0, FOOTER_SECTOR_BYTES);
    store_le32(bytes + 4, FOOTER_MAGIC);
    FOOTER_FIELDS(STORE);
    store_le32(bytes, place_checksum(bytes, FOOTER_SECTOR_BYTES, segment_seed, offset));
}

static bool is_layout_possible(const struct segment_footer *footer, uint64_t offset)
{
    if (footer->data_end < SEGMENT_DATA_OFFSET + GROUP_HEADER_BYTES || footer->data_end > offset)
        return false;
    if (footer->data_end % 8 != 0 || offset % BLOCK_BYTES != 0)
        return false;

    const uint64_t index_room = offset - align_up(footer->data_end, BLOCK_BYTES);
    return footer->index_entries <= index_room / INDEX_ENTRY_BYTES;
}

static bool are_times_possible(const struct segment_footer *footer, bool has_records)
{
    if (!has_records)
        return footer->min_ns == INT64_MAX && footer->max_ns == INT64_MIN;
    return footer->min_ns <= footer->max_ns && footer->max_ns <= footer->max_time_so_far_ns;
}

static bool is_extent_possible(const struct segment_footer *footer)
{
    if (footer->first_lsn == 0 || footer->last_lsn < footer->first_lsn - 1 || footer->last_lsn > LAST_LSN)
        return false;

    const uint64_t records = footer->last_lsn - (footer->first_lsn - 1);
    if (footer->index_entries > records)
        return false;
    return are_times_possible(footer, records > 0);
}

bool twl_segment_footer_decode(const unsigned char bytes[FOOTER_SECTOR_BYTES], uint32_t segment_seed,
                               uint64_t offset, struct segment_footer *ret_footer)
{
    struct segment_footer into = { 0 };

    if (load_le32(bytes + 4) != FOOTER_MAGIC)
        return false;
    if (load_le32(bytes) != place_checksum(bytes, FOOTER_SECTOR_BYTES, segment_seed, offset))
        return false;

    FOOTER_FIELDS(LOAD);
    if (!is_layout_possible(&into, offset) || !is_extent_possible(&into) || into.epoch.number == 0)
        return false;

    into.offset = offset;
    *ret_footer = into;
    return true;
}

/* State slot: the prefix, the identity of the log at 24, the CRC of the body at 68, the CRC of 0-123 at 124; then the
 * body. */
#define STATE_FIELDS(F)                                                                                      \
    F(40, 64, generation);                                                                                   \
    F(48, 64, first_sequence);                                                                               \
    F(56, 64, first_lsn);                                                                                    \
    F(64, 32, body_bytes);                                                                                   \
    F(72, 32, cursor_epoch)
static const unsigned char state_magic[MAGIC_BYTES] = { 0x89, 'T', 'W', 'S', '\r', '\n', 0x1a, '\n' };
#define STATE_VERSION 1u

void twl_state_encode(const struct state_header *from, unsigned char *bytes)
{
    memset(bytes, 0, STATE_HEADER_BYTES);
    encode_prefix(state_magic, STATE_VERSION, 0, from->compatible & FEATURES_OF_WRITERS, bytes);
    memcpy(bytes + 24, from->log_id, LOG_ID_BYTES);
    STATE_FIELDS(STORE);
    store_le32(bytes + 68, twl_crc32c(0, bytes + STATE_HEADER_BYTES, from->body_bytes));
    store_le32(bytes + 124, twl_crc32c(0, bytes, STATE_HEADER_BYTES - 4));
}

/* Entries fill the body to its end, each one greater than the one before it. */
static enum header_state judge_body(const unsigned char *body, size_t body_bytes)
{
    struct state_entry before = { 0 }, entry; /* no kind is 0 */
    size_t offset = 0;
    bool is_ordered = true;

    while (twl_state_entry_next(body, body_bytes, &offset, &entry)) {
        if (twl_state_entry_compare(&before, &entry) >= 0)
            is_ordered = false;
        before = entry;
    }

    const bool is_at_end = offset == body_bytes;
    if (!is_at_end && body[offset] > STATE_VALUE && body[offset] < STATE_KEPT)
        return HEADER_NEWER;
    if (!is_at_end || !is_ordered)
        return HEADER_DAMAGED;
    return HEADER_VALID;
}

static bool is_state_possible(const struct state_header *state)
{
    if (state->generation == 0 || state->first_sequence == 0)
        return false;
    return state->first_lsn > 0 && state->first_lsn <= LAST_LSN + 1;
}

uint64_t twl_state_slot_need(const unsigned char bytes[STATE_HEADER_BYTES])
{
    return STATE_HEADER_BYTES + (uint64_t)load_le32(bytes + 64);
}

enum header_state twl_state_decode(const unsigned char *bytes, size_t slot_bytes,
                                   struct state_header *ret_header)
{
    if (slot_bytes < STATE_HEADER_BYTES)
        return HEADER_FOREIGN;

    const enum header_state prefix = decode_prefix(bytes, state_magic, STATE_VERSION, 0);
    if (prefix != HEADER_VALID)
        return prefix;
    if (load_le32(bytes + 124) != twl_crc32c(0, bytes, STATE_HEADER_BYTES - 4))
        return HEADER_DAMAGED;

    struct state_header into = { .compatible = load_le32(bytes + 16) };
    memcpy(into.log_id, bytes + 24, LOG_ID_BYTES);
    STATE_FIELDS(LOAD);
    if (!is_state_possible(&into) || into.body_bytes > slot_bytes - STATE_HEADER_BYTES)
        return HEADER_DAMAGED;

    const unsigned char *body = bytes + STATE_HEADER_BYTES;
    if (load_le32(bytes + 68) != twl_crc32c(0, body, into.body_bytes))
        return HEADER_DAMAGED;

    const enum header_state state = judge_body(body, into.body_bytes);
    if (state == HEADER_VALID)
        *ret_header = into;
    return state;
}

#define STATE_ENTRY_HEADER_BYTES 4u

size_t twl_state_entry_bytes(size_t name_bytes, size_t value_bytes)
{
    return (size_t)align_up(STATE_ENTRY_HEADER_BYTES + name_bytes + value_bytes, 8);
}

size_t twl_state_entry_encode(const struct state_entry *entry, unsigned char *at)
{
    const size_t bytes = twl_state_entry_bytes(entry->name_bytes, entry->value_bytes);

    memset(at, 0, bytes);
    at[0] = entry->kind;
    at[1] = entry->name_bytes;
    store_le16(at + 2, entry->value_bytes);
    memcpy(at + STATE_ENTRY_HEADER_BYTES, entry->name, entry->name_bytes);
    if (entry->value_bytes > 0)
        memcpy(at + STATE_ENTRY_HEADER_BYTES + entry->name_bytes, entry->value, entry->value_bytes);
    return bytes;
}

static bool is_entry_possible(const struct state_entry *entry)
{
    if (entry->name_bytes == 0 || entry->name_bytes > STATE_MAX_NAME)
        return false;
    if (entry->kind == STATE_CURSOR)
        return entry->value_bytes == STATE_CURSOR_BYTES;

    const bool is_known = entry->kind == STATE_VALUE || entry->kind >= STATE_KEPT;
    return is_known && entry->value_bytes <= STATE_MAX_VALUE;
}

bool twl_state_entry_next(const unsigned char *body, size_t body_bytes, size_t *offset,
                          struct state_entry *ret_entry)
{
    const size_t room = body_bytes - *offset;
    if (room < STATE_ENTRY_HEADER_BYTES)
        return false;

    const unsigned char *at = body + *offset;
    struct state_entry entry = { .kind = at[0], .name_bytes = at[1], .value_bytes = load_le16(at + 2) };
    const size_t used = STATE_ENTRY_HEADER_BYTES + entry.name_bytes + entry.value_bytes;
    const size_t bytes = twl_state_entry_bytes(entry.name_bytes, entry.value_bytes);
    if (!is_entry_possible(&entry) || bytes > room)
        return false;

    entry.name = (const char *)at + STATE_ENTRY_HEADER_BYTES;
    entry.value = at + STATE_ENTRY_HEADER_BYTES + entry.name_bytes;
    const bool is_name_whole = !memchr(entry.name, 0, entry.name_bytes);
    if (!is_name_whole || !are_zeros(at + used, bytes - used))
        return false;

    *offset += bytes;
    *ret_entry = entry;
    return true;
}

int twl_state_entry_compare(const struct state_entry *a, const struct state_entry *b)
{
    if (a->kind != b->kind)
        return (int)a->kind - (int)b->kind;

    const size_t common = (size_t)min_u64(a->name_bytes, b->name_bytes);
    const int order = memcmp(a->name, b->name, common);
    if (order != 0)
        return order;
    return (int)a->name_bytes - (int)b->name_bytes;
}

/* ---- checksums calculated backwards ------------------------------------------------------------ */

uint64_t twl_unseed_record(const unsigned char bytes[RECORD_HEADER_BYTES], uint32_t epoch_seed,
                           uint64_t first_lsn, uint64_t last_lsn)
{
    const uint32_t seed = twl_crc32c_undo(load_le32(bytes), bytes + 4, RECORD_HEADER_BYTES - 4);
    const uint32_t mixed = seed ^ epoch_seed;

    if (last_lsn - first_lsn > UINT32_MAX)
        last_lsn = first_lsn + UINT32_MAX;
    for (uint64_t high = first_lsn >> 32; high <= last_lsn >> 32; high++) {
        const uint32_t low = mixed ^ (uint32_t)high * LSN_FACTOR;
        const uint64_t lsn = high << 32 | low;
        if (lsn >= first_lsn && lsn <= last_lsn)
            return lsn;
    }

    return 0;
}
