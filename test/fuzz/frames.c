/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-frames: each decoder of src/format on arbitrary bytes.
 *
 *     input = kind (1) | seed (4) | place (8): an offset or an LSN | bytes of the frame, zeros behind them
 *
 * The bytes are tried as they are, and once more with the checksum they should have. What decodes, encodes to the
 * same bytes again, but for those that the format says mean nothing; and nothing decodes at another place.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#define INPUT_HEADER_BYTES 13u
#define FRAME_BYTES 32768u /* more than the smallest slot of a state */

struct input {
    uint32_t seed;
    uint64_t place;
    size_t size; /* of what was given */
    unsigned char frame[FRAME_BYTES];
};

static void zero(unsigned char *bytes, size_t from, size_t to)
{
    memset(bytes + from, 0, to - from);
}

/* ---- segment header ------------------------------------------------------------------------------ */

/* What a reader passes over. */
static void clean_segment_header(unsigned char *block)
{
    zero(block, 120, 508);
    fuzz_seal_segment_header(block);
}

static void try_segment_header(struct input *input)
{
    unsigned char again[SEGMENT_HEADER_BYTES];
    struct segment_header header;
    if (twl_segment_header_decode(input->frame, &header) != HEADER_VALID)
        return;
    twl_segment_header_encode(&header, again);
    clean_segment_header(input->frame);
    MUST(memcmp(again, input->frame, HEADER_SECTOR_BYTES) == 0);
    MUST(twl_segment_data_end(header.bytes) > SEGMENT_DATA_OFFSET);
}

/* ---- groups and records -------------------------------------------------------------------------- */

/* Two places in the first 4 GiB never have the same seed. */
static uint64_t another_place(uint64_t place, uint32_t difference)
{
    return place ^ (difference != 0 ? difference : 1);
}

static void seal_group(struct input *input)
{
    unsigned char *bytes = input->frame;
    store_le32(bytes + 4, GROUP_MAGIC);
    store_le32(bytes,
               twl_crc32c(fuzz_place_seed(input->seed, input->place), bytes + 4, GROUP_HEADER_BYTES - 4));
}

static void check_group(const struct group_header *group)
{
    MUST(group->bytes >= GROUP_HEADER_BYTES && group->bytes % 8 == 0);
    MUST(group->first_lsn > group->durable_lsn && group->first_lsn + group->count >= group->first_lsn);
    MUST((group->kind == GROUP_RECORDS) == (group->count > 0));
}

static void try_group(struct input *input)
{
    unsigned char again[GROUP_HEADER_BYTES];
    const unsigned char *bytes = input->frame;
    struct group_header group, other;
    const bool is_valid = twl_group_header_decode(bytes, input->seed, input->place, &group);
    if (!is_valid)
        return;
    check_group(&group);
    twl_group_header_encode(&group, input->seed, input->place, again);
    MUST(memcmp(again, bytes, sizeof(again)) == 0);
    const uint64_t elsewhere = another_place(input->place, load_le32(bytes + 48));
    MUST(!twl_group_header_decode(bytes, input->seed, elsewhere, &other));
    MUST(!twl_group_header_decode(bytes, ~input->seed, input->place, &other));
}

static void seal_record(struct input *input)
{
    unsigned char *bytes = input->frame;
    const uint32_t most = FRAME_BYTES - RECORD_HEADER_BYTES - 8;
    const uint32_t size = load_le32(bytes + 8) % most;
    store_le32(bytes + 8, size);
    zero(bytes + RECORD_HEADER_BYTES, size, (size_t)align_up(size, 8));
    store_le32(bytes + 4, twl_crc32c(0, bytes + RECORD_HEADER_BYTES, size));
    fuzz_seal_record(input->frame, input->seed, input->place);
}

/* What a reader passes over. */
static void clean_record(struct input *input)
{
    input->frame[12] &= (1u << RECORD_SALT_SHIFT) - 1;
    fuzz_seal_record(input->frame, input->seed, input->place);
}

static void check_payload(struct input *input, const struct record_header *record)
{
    static unsigned char again[FRAME_BYTES];
    const unsigned char *payload = input->frame + RECORD_HEADER_BYTES;
    if (twl_record_bytes(record->size) > FRAME_BYTES || !twl_record_payload_is_valid(record, payload))
        return;
    twl_record_encode(again, input->seed, input->place, record, payload);
    clean_record(input);
    MUST(memcmp(again, input->frame, (size_t)twl_record_bytes(record->size)) == 0);
}

static void try_record(struct input *input)
{
    const unsigned char *bytes = input->frame;
    struct record_header record, other;
    const uint64_t first = input->place > 1000 ? input->place - 1000 : 0, last = input->place | 0xffff;
    const uint64_t found = twl_unseed_record(bytes, input->seed, first, last);
    MUST(found == 0 || (found >= first && found <= last));
    const bool is_valid = twl_record_header_decode(bytes, input->seed, input->place, &record);
    if (!is_valid)
        return;
    MUST(found != 0 || input->place == 0); /* which is no LSN */
    check_payload(input, &record);
    const uint64_t elsewhere = another_place(input->place, load_le32(bytes + 16));
    MUST(!twl_record_header_decode(bytes, input->seed, elsewhere, &other));
    MUST(!twl_record_header_decode(bytes, ~input->seed, input->place, &other));
}

/* ---- index and footer ---------------------------------------------------------------------------- */

static void try_index_entry(struct input *input)
{
    unsigned char again[INDEX_ENTRY_BYTES];
    struct index_entry entry;
    twl_index_entry_decode(input->frame, &entry);
    twl_index_entry_encode(&entry, again);
    zero(input->frame, 20, 24);
    MUST(memcmp(again, input->frame, sizeof(again)) == 0);
}

static void seal_footer(struct input *input)
{
    unsigned char *block = input->frame;
    store_le32(block + 4, FOOTER_MAGIC);
    store_le32(block, twl_crc32c(fuzz_place_seed(input->seed, input->place), block + 4, 508));
}

static void check_footer(const struct segment_footer *footer, uint64_t offset)
{
    const uint64_t index = (uint64_t)footer->index_entries * INDEX_ENTRY_BYTES;
    MUST(footer->data_end >= SEGMENT_DATA_OFFSET + GROUP_HEADER_BYTES && footer->data_end <= offset);
    MUST(align_up(footer->data_end, BLOCK_BYTES) + index <= offset);
    MUST(footer->last_lsn + 1 >= footer->first_lsn && footer->last_lsn <= LAST_LSN);
}

static void try_footer(struct input *input)
{
    unsigned char again[FOOTER_SECTOR_BYTES];
    struct segment_footer footer, other;
    if (!twl_segment_footer_decode(input->frame, input->seed, input->place, &footer))
        return;
    check_footer(&footer, input->place);
    const uint64_t elsewhere = another_place(input->place, load_le32(input->frame + 56));
    MUST(!twl_segment_footer_decode(input->frame, input->seed, elsewhere, &other));
    MUST(!twl_segment_footer_decode(input->frame, ~input->seed, input->place, &other));
    twl_segment_footer_encode(&footer, input->seed, input->place, again);
    zero(input->frame, 84, FOOTER_SECTOR_BYTES);
    seal_footer(input);
    MUST(memcmp(again, input->frame, sizeof(again)) == 0);
}

/* ---- state --------------------------------------------------------------------------------------- */

static size_t slot_bytes(const struct input *input)
{
    return (size_t)min_u64(input->size, FRAME_BYTES);
}

static void seal_state(struct input *input)
{
    fuzz_seal_state(input->frame, FRAME_BYTES);
}

/* Every entry makes its bytes again, and they follow each other up to the end. */
static void check_body(const unsigned char *body, size_t body_bytes)
{
    static unsigned char again[FRAME_BYTES];
    struct state_entry entry, before = { 0 };
    size_t offset = 0, used = 0;
    while (twl_state_entry_next(body, body_bytes, &offset, &entry)) {
        MUST(before.name_bytes == 0 || twl_state_entry_compare(&before, &entry) < 0);
        MUST(before.name_bytes == 0 || twl_state_entry_compare(&entry, &before) > 0);
        MUST(twl_state_entry_compare(&entry, &entry) == 0);
        used += twl_state_entry_encode(&entry, again + used);
        MUST(used == offset);
        before = entry;
    }
    MUST(used == body_bytes && memcmp(again, body, used) == 0);
}

static void try_state(struct input *input)
{
    static unsigned char again[FRAME_BYTES];
    unsigned char *slot = input->frame;
    struct state_header header;
    if (twl_state_decode(slot, slot_bytes(input), &header) != HEADER_VALID)
        return;
    MUST(header.body_bytes <= slot_bytes(input) - STATE_HEADER_BYTES);
    check_body(slot + STATE_HEADER_BYTES, header.body_bytes);
    memcpy(again, slot, STATE_HEADER_BYTES + header.body_bytes);
    twl_state_encode(&header, again);
    store_le32(slot + 16, load_le32(slot + 16) & FEATURES_OF_WRITERS);
    zero(slot, 76, 124);
    seal_state(input);
    MUST(memcmp(again, slot, STATE_HEADER_BYTES + header.body_bytes) == 0);
}

/* Of a body that is not vouched for, nothing is read behind its end. */
static void try_entries(struct input *input)
{
    const size_t size = slot_bytes(input);
    unsigned char *body = malloc(size + 1);
    struct state_entry entry;
    size_t offset = 0;
    MUST(body);
    memcpy(body, input->frame, size);
    while (twl_state_entry_next(body, size, &offset, &entry))
        MUST(offset <= size && entry.name_bytes > 0 && entry.name_bytes <= STATE_MAX_NAME);
    free(body);
}

/* ---- the target ---------------------------------------------------------------------------------- */

static void seal_header(struct input *input)
{
    fuzz_seal_segment_header(input->frame);
}

static const struct {
    void (*try)(struct input *input);
    void (*seal)(struct input *input); /* gives it the checksums it should have; NULL: it has none */
} KINDS[] = {
    { try_segment_header, seal_header },
    { try_group, seal_group },
    { try_record, seal_record },
    { try_footer, seal_footer },
    { try_state, seal_state },
    { try_index_entry, NULL },
    { try_entries, NULL },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct input input;
    if (size < INPUT_HEADER_BYTES || size - INPUT_HEADER_BYTES > FRAME_BYTES)
        return 0;
    const unsigned kind = data[0] % (sizeof(KINDS) / sizeof(KINDS[0]));
    input.seed = load_le32(data + 1);
    input.place = load_le64(data + 5);
    input.size = size - INPUT_HEADER_BYTES;
    memset(input.frame, 0, sizeof(input.frame));
    memcpy(input.frame, data + INPUT_HEADER_BYTES, input.size);
    KINDS[kind].try(&input);
    if (KINDS[kind].seal) {
        KINDS[kind].seal(&input);
        KINDS[kind].try(&input);
    }
    return 0;
}
