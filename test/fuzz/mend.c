/* SPDX-License-Identifier: Apache-2.0 */
#include "mend.h"

#include "fuzz.h"

#include <string.h>

#define MAX_GROUPS 4096u

struct walked_group {
    uint64_t sequence, first_lsn, end_lsn;
    uint32_t checksum;
};

struct mending {
    unsigned what;
    uint32_t chain; /* checksum of the group before */
    unsigned groups;
    struct walked_group group[MAX_GROUPS];
};

/* ---- groups and records -------------------------------------------------------------------------- */

static void mend_record(unsigned char *record, uint32_t size, uint32_t epoch_seed, uint64_t lsn)
{
    store_le32(record + 4, twl_crc32c(0, record + RECORD_HEADER_BYTES, size));
    fuzz_seal_record(record, epoch_seed, lsn);
}

/* As far as sizes lead from one to the next inside the group. */
static void mend_records(const unsigned char *segment, unsigned char *group, size_t room)
{
    const struct epoch epoch = { .number = load_le32(group + 36), .salt = load_le32(group + 40) };
    const uint32_t epoch_seed = twl_epoch_seed(segment + 24, epoch), count = load_le32(group + 16);
    const uint64_t first_lsn = load_le64(group + 8);
    size_t at = GROUP_HEADER_BYTES;
    for (uint32_t i = 0; i < count && at + RECORD_HEADER_BYTES <= room; i++) {
        const uint32_t size = load_le32(group + at + 8);
        if (twl_record_bytes(size) > room - at)
            break;
        mend_record(group + at, size, epoch_seed, first_lsn + i);
        at += (size_t)twl_record_bytes(size);
    }
}

/* Those of an open group, which follow the marker of a start. Where only zeros are behind the first 8 bytes there is a
 * claim, or nothing. */
static void mend_open_records(const unsigned char *segment, unsigned char *mark, size_t end)
{
    const struct epoch epoch = { .number = load_le32(mark + 36), .salt = load_le32(mark + 40) };
    const uint32_t epoch_seed = twl_epoch_seed(segment + 24, epoch);
    uint64_t lsn = load_le64(mark + 8);
    size_t room = end - OPEN_RECORDS_OFFSET;
    for (unsigned char *at = mark + 2 * GROUP_HEADER_BYTES; room >= RECORD_HEADER_BYTES; lsn++) {
        const size_t bytes = (size_t)twl_record_bytes(load_le32(at + 8));
        if (bytes > room || are_zeros(at + 8, RECORD_HEADER_BYTES - 8))
            return;
        mend_record(at, load_le32(at + 8), epoch_seed, lsn);
        at += bytes;
        room -= bytes;
    }
}

static bool has_open_group(const unsigned char *segment, size_t end)
{
    return (load_le32(segment + 12) & FEATURE_MAPPED) && end > OPEN_RECORDS_OFFSET &&
           are_zeros(segment + OPEN_GROUP_OFFSET, GROUP_HEADER_BYTES);
}

static void remember(struct mending *m, const unsigned char *segment, const unsigned char *group)
{
    if (m->groups == MAX_GROUPS)
        return;
    const uint64_t first_lsn = load_le64(group + 8);
    m->group[m->groups++] = (struct walked_group){ .sequence = load_le64(segment + 40),
                                                   .first_lsn = first_lsn,
                                                   .end_lsn = first_lsn + load_le32(group + 16),
                                                   .checksum = load_le32(group) };
}

static void mend_group(struct mending *m, unsigned char *segment, size_t offset, size_t end, bool is_chained)
{
    unsigned char *group = segment + offset;
    const uint32_t bytes = load_le32(group + 20);
    const uint64_t room = min_u64(bytes, end - offset);
    if (m->what & MEND_RECORDS)
        mend_records(segment, group, (size_t)room);
    if ((m->what & MEND_CHAINS) && is_chained)
        store_le32(group + 32, m->chain);
    if (m->what & MEND_GROUPS) {
        unsigned char identity[LOG_ID_BYTES + 8];
        memcpy(identity, segment + 24, LOG_ID_BYTES);
        memcpy(identity + LOG_ID_BYTES, segment + 48, 8);
        const uint32_t seed = fuzz_place_seed(twl_crc32c(0, identity, sizeof(identity)), offset);
        store_le32(group, twl_crc32c(seed, group + 4, GROUP_HEADER_BYTES - 4));
    }
    if (!(load_le16(group + 46) & GROUP_MAPPED))
        m->chain = load_le32(group);
    remember(m, segment, group);
}

/* With LSNs that were given before the segment was prepared it is what an earlier life of the file left, and stays
 * that. */
static bool is_group(const unsigned char *segment, size_t offset, size_t end)
{
    return end >= GROUP_HEADER_BYTES && offset <= end - GROUP_HEADER_BYTES &&
           twl_group_header_maybe(segment + offset) &&
           load_le64(segment + offset + 8) > load_le64(segment + 88);
}

/* 0: there is none. */
static size_t find_first_group(const unsigned char *segment, size_t end)
{
    for (size_t offset = SEGMENT_DATA_OFFSET; offset < SEGMENT_DATA_OFFSET + BLOCK_BYTES; offset += 8)
        if (is_group(segment, offset, end))
            return offset;
    return 0;
}

static size_t find_next_group(const unsigned char *segment, size_t offset, size_t end)
{
    const size_t step = (size_t)align_up(load_le32(segment + offset + 20), 8);
    if (step < GROUP_HEADER_BYTES || step > end - offset)
        return 0;
    const size_t behind = offset + step, block = (size_t)align_up(behind, BLOCK_BYTES);
    if (is_group(segment, behind, end))
        return behind;
    return is_group(segment, block, end) ? block : 0;
}

/* ---- segments ------------------------------------------------------------------------------------ */

/* A truncation tells which group it is behind. */
static void mend_start(struct mending *m, unsigned char *segment)
{
    const uint64_t start_lsn = load_le64(segment + 72), previous = load_le64(segment + 104);
    if (!(m->what & MEND_CHAINS) || start_lsn == 0 || previous == 0)
        return;
    for (unsigned i = 0; i < m->groups; i++) {
        const struct walked_group *group = &m->group[i];
        if (group->sequence == previous && group->first_lsn < start_lsn && group->end_lsn >= start_lsn)
            store_le32(segment + 100, group->checksum);
    }
}

static void mend_header(struct mending *m, unsigned char *segment)
{
    mend_start(m, segment);
    if (load_le64(segment + 72) > 0)
        m->chain = load_le32(segment + 100);
    if (m->what & MEND_HEADERS)
        fuzz_seal_segment_header(segment);
}

static void mend_footer(struct mending *m, unsigned char *segment, size_t end)
{
    unsigned char identity[LOG_ID_BYTES + 8], *footer = segment + end;
    const uint64_t index = (uint64_t)load_le32(footer + 76) * INDEX_ENTRY_BYTES;
    const bool is_of_life = load_le64(footer + 8) > load_le64(segment + 88);
    if (!(m->what & MEND_FOOTERS) || load_le32(footer + 4) != FOOTER_MAGIC || !is_of_life)
        return;
    if (index <= end)
        store_le32(footer + 80, twl_crc32c(0, footer - index, (size_t)index));
    if (m->what & MEND_CHAINS)
        store_le32(footer + 64, m->chain);
    memcpy(identity, segment + 24, LOG_ID_BYTES);
    memcpy(identity + LOG_ID_BYTES, segment + 48, 8);
    const uint32_t seed = fuzz_place_seed(twl_crc32c(0, identity, sizeof(identity)), end);
    store_le32(footer, twl_crc32c(seed, footer + 4, 508));
}

static void mend_segment(struct mending *m, struct packed_file *file, bool is_first)
{
    unsigned char *segment = file->bytes;
    const uint64_t bytes = load_le64(segment + 56);
    mend_header(m, segment);
    if (bytes > file->size || bytes < SEGMENT_MIN_BYTES)
        return;
    const size_t end = (size_t)bytes - SEGMENT_FOOTER_BYTES;
    bool is_chained = !is_first || load_le64(segment + 72) > 0;
    for (size_t at = find_first_group(segment, end); at > 0; at = find_next_group(segment, at, end)) {
        mend_group(m, segment, at, end, is_chained);
        is_chained = true;
        if (at == SEGMENT_DATA_OFFSET && (m->what & MEND_RECORDS) && has_open_group(segment, end))
            mend_open_records(segment, segment + at, end);
    }
    mend_footer(m, segment, end);
}

/* ---- states -------------------------------------------------------------------------------------- */

static void mend_state(const struct mending *m, struct packed_file *file)
{
    const size_t half = file->size / 2;
    if (!(m->what & MEND_STATES) || half < STATE_HEADER_BYTES)
        return;
    fuzz_seal_state(file->bytes, half);
    fuzz_seal_state(file->bytes + half, file->size - half);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static int by_sequence(const void *a, const void *b)
{
    const struct packed_file *const *x = a, *const *y = b;
    const uint64_t of_x = load_le64((*x)->bytes + 40), of_y = load_le64((*y)->bytes + 40);
    return (of_x > of_y) - (of_x < of_y);
}

void mend(struct container *container, unsigned what)
{
    static struct mending m;
    struct packed_file *segment[CONTAINER_FILES];
    unsigned segments = 0;
    m.what = what;
    m.chain = 0;
    m.groups = 0;
    for (unsigned i = 0; i < container->files; i++) {
        struct packed_file *file = &container->file[i];
        if (container_is_state(file))
            mend_state(&m, file);
        else if (file->size >= SEGMENT_HEADER_BYTES)
            segment[segments++] = file;
    }
    if (segments > 0)
        qsort(segment, segments, sizeof(segment[0]), by_sequence);
    for (unsigned i = 0; i < segments; i++)
        mend_segment(&m, segment[i], i == 0);
}
