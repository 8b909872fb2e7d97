/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See index.h. The writer adds whole groups, a walk adds single records; both give the same result. What an entry says
 * of the records before it stays true, whichever entries lie between.
 */
#include "segment/index.h"

#include <string.h>

static int64_t later(int64_t a, int64_t b)
{
    if (a > b)
        return a;
    return b;
}

/* ---- the index --------------------------------------------------------------------------------- */

static uint64_t place_of(const struct index_entry *entry)
{
    return entry->group_offset + entry->record_offset;
}

static void thin_out(struct sparse_index *index)
{
    index->count = (index->count + 1) / 2;
    for (uint32_t i = 1; i < index->count; i++)
        index->entries[i] = index->entries[2 * i];
    index->last = place_of(&index->entries[index->count - 1]);
    index->spacing *= 2;
}

/* Is a record at this place far enough behind the last entry? */
static bool is_due(const struct sparse_index *index, uint64_t place)
{
    return place >= index->last + index->spacing;
}

static void add_entry(struct sparse_index *index, const struct index_entry *entry)
{
    if (!is_due(index, place_of(entry)))
        return;

    if (index->count == INDEX_MAX_ENTRIES)
        thin_out(index);
    index->entries[index->count] = *entry;
    index->count++;
    index->last = place_of(entry);
}

/* Adds entries for the records of a group that is in memory. Stops where no further entry can be due. */
static void add_entries(struct summary *summary, const struct group_header *group, uint64_t offset,
                        const unsigned char *bytes)
{
    struct index_entry entry = {
        .lsn = group->first_lsn,
        .group_offset = offset,
        .record_offset = GROUP_HEADER_BYTES,
        .max_time_so_far_ns = summary->max_ns,
    };
    const uint32_t last_offset = group->bytes - RECORD_HEADER_BYTES; /* of a record */
    const uint64_t end_lsn = group->first_lsn + group->count;

    while (entry.lsn < end_lsn && is_due(&summary->index, offset + last_offset)) {
        ASSERT(entry.record_offset <= last_offset);
        add_entry(&summary->index, &entry);

        const struct record_header record = twl_record_header_load(bytes + entry.record_offset);
        entry.lsn++;
        entry.record_offset += (uint32_t)twl_record_bytes(record.size);
        entry.max_time_so_far_ns = later(entry.max_time_so_far_ns, record.time_ns);
    }
}

/* ---- the summary ------------------------------------------------------------------------------- */

void twl_summary_begin(struct summary *summary)
{
    /* The entries are left alone: unused entries take no memory. */
    memset(summary, 0, offsetof(struct summary, index.entries));
    summary->min_ns = INT64_MAX;
    summary->max_ns = INT64_MIN;
    summary->index.spacing = INDEX_MIN_SPACING;
}

static void add_times(struct summary *summary, int64_t min_ns, int64_t max_ns)
{
    if (min_ns < summary->min_ns)
        summary->min_ns = min_ns;
    summary->max_ns = later(max_ns, summary->max_ns);
}

void twl_summary_add_group(struct summary *summary, const struct group_header *group, uint64_t offset,
                           int64_t min_ns, int64_t max_ns, const unsigned char *bytes)
{
    if (group->count > 0) {
        add_entries(summary, group, offset, bytes);
        add_times(summary, min_ns, max_ns);
    }

    twl_summary_end_group(summary, group, offset);
}

void twl_summary_add_record(struct summary *summary, uint64_t lsn, uint64_t group_offset,
                            uint32_t record_offset, int64_t time_ns)
{
    const struct index_entry entry = {
        .lsn = lsn,
        .group_offset = group_offset,
        .record_offset = record_offset,
        .max_time_so_far_ns = summary->max_ns,
    };

    add_entry(&summary->index, &entry);
    add_times(summary, time_ns, time_ns);
}

void twl_summary_end_group(struct summary *summary, const struct group_header *group, uint64_t offset)
{
    if (summary->first_lsn == 0)
        summary->first_lsn = group->first_lsn;
    if (summary->began_ns == 0 && group->count > 0)
        summary->began_ns = group->time_ns;

    summary->next_lsn = group->first_lsn + group->count;
    summary->data_end = offset + group->bytes;
    summary->chain = twl_group_chain(group);
    summary->epoch = group->epoch;
    summary->open_lsn = 0;
}

/* ---- on disk ----------------------------------------------------------------------------------- */

/* The smallest step with which no more than `most` of the entries are kept. */
static uint32_t choose_step(uint64_t count, uint64_t most)
{
    if (count <= most)
        return 1;
    return (uint32_t)((count + most - 1) / most);
}

void twl_summary_footer(const struct summary *summary, uint64_t room, int64_t now_ns,
                        struct segment_footer *ret_footer, uint32_t *ret_step)
{
    const uint64_t most = room / INDEX_ENTRY_BYTES;
    uint32_t count = summary->index.count;

    ASSERT(summary->first_lsn > 0);
    if (most == 0)
        count = 0;

    const uint32_t step = choose_step(count, most);
    *ret_footer = (struct segment_footer){
        .first_lsn = summary->first_lsn,
        .last_lsn = summary->next_lsn - 1,
        .data_end = summary->data_end,
        .min_ns = summary->min_ns,
        .max_ns = summary->max_ns,
        .max_time_so_far_ns = summary->max_ns,
        .chain = summary->chain,
        .epoch = summary->epoch,
        .index_entries = (count + step - 1) / step,
        .sealed_ns = now_ns,
    };
    *ret_step = step;
}

/* ---- looking up -------------------------------------------------------------------------------- */

/* If a damaged file has its entries in another order, any of them. */
int64_t twl_index_find(const struct index_entry *entries, uint32_t count, uint64_t lsn, int64_t max_ns)
{
    uint32_t low = 0, high = count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const struct index_entry *entry = &entries[middle];
        if (entry->lsn <= lsn && entry->max_time_so_far_ns <= max_ns)
            low = middle + 1;
        else
            high = middle;
    }

    return (int64_t)low - 1;
}
