/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seeking: to a record by its LSN or its time, and backwards.
 *
 * A walk may also begin in the middle, at a group from an index. Then the history before it is unknown, and
 * the group's own header says what the next group must continue. The group is valid only where this
 * incarnation of the file has put it, and its record must be the one that the index promised.
 */
#include "walk/segment_iter_inside.h"

#include "format/checksum.h"

#include <stdlib.h>

#define MOST_PROBES 16u
#define MOST_INDEX_ENTRIES (16u * INDEX_MAX_ENTRIES) /* no writer makes a larger index */

int twl_iter_load_index(struct segment_iter *cursor, const struct segment_footer *footer)
{
    struct loaded_index *index = &cursor->index;
    uint64_t end = footer->offset;
    size_t size = (size_t)footer->index_entries * INDEX_ENTRY_BYTES;
    int error;
    if (index->is_loaded)
        return 0;
    index->is_loaded = true;
    index->count = 0;
    if (size == 0 || size > end - SEGMENT_DATA_OFFSET || footer->index_entries > MOST_INDEX_ENTRIES)
        return 0;
    twl_iter_refresh(cursor); /* it may have been written since these bytes were read */
    const unsigned char *bytes = twl_iter_bytes(cursor, end - size, size, &error);
    if (!bytes || twl_crc32c(0, bytes, size) != footer->index_checksum)
        return error;
    if (footer->index_entries > index->room) {
        struct index_entry *entries = malloc(footer->index_entries * sizeof(*entries));
        if (!entries)
            return -ENOMEM;
        free(index->entries);
        index->entries = entries;
        index->room = footer->index_entries;
    }
    index->count = footer->index_entries;
    for (uint32_t i = 0; i < index->count; i++)
        twl_index_entry_decode(bytes + size - (i + 1) * INDEX_ENTRY_BYTES, &index->entries[i]);
    return 0;
}

/* The last entry that is not behind the record `lsn`, of an index that is not in memory: reads a few of its blocks, so
 * without its checksum. What an entry says of a record is checked there. False = there is none. */
static bool probe_index(struct segment_iter *cursor, const struct segment_footer *footer, uint64_t lsn,
                        struct index_entry *ret_entry)
{
    const size_t window_bytes = cursor->window_bytes;
    uint32_t low = 0, high = footer->index_entries;
    int error = 0;
    twl_iter_refresh(cursor); /* it may have been written since these bytes were read */
    cursor->window_bytes = BLOCK_BYTES;
    cursor->index.probed_bytes += BLOCK_BYTES;
    while (low < high && error == 0) {
        const uint32_t middle = low + (high - low) / 2;
        const uint64_t back = (uint64_t)(middle + 1) * INDEX_ENTRY_BYTES, start = cursor->window.start;
        const unsigned char *bytes = NULL;
        struct index_entry entry = { .lsn = UINT64_MAX };
        if (back <= footer->offset)
            bytes = twl_iter_bytes(cursor, footer->offset - back, INDEX_ENTRY_BYTES, &error);
        cursor->index.probed_bytes += cursor->window.start != start ? BLOCK_BYTES : 0;
        if (bytes)
            twl_index_entry_decode(bytes, &entry);
        if (entry.lsn <= lsn)
            *ret_entry = entry;
        low = entry.lsn <= lsn ? middle + 1 : low;
        high = entry.lsn <= lsn ? high : middle;
    }
    cursor->window_bytes = window_bytes;
    return low > 0;
}

/* The last entry of the index that is not behind the record `lsn`, and before which no record is newer than `max_ns`;
 * NULL: none is known, and the walk is longer. */
static const struct index_entry *find_entry(struct segment_iter *cursor, const struct segment_footer *footer,
                                            uint64_t lsn, int64_t max_ns)
{
    const struct index_entry *entries = NULL;
    uint32_t count = 0;
    if (footer) {
        (void)twl_iter_load_index(cursor, footer);
        entries = cursor->index.entries;
        count = cursor->index.count;
    } else if (cursor->summary) {
        entries = cursor->summary->index.entries;
        count = cursor->summary->index.count;
    }
    const int64_t number = twl_index_find(entries, count, lsn, max_ns);
    return number < 0 ? NULL : &entries[number];
}

static bool has_entered(const struct segment_iter *cursor, uint64_t group_offset)
{
    const struct group_header *group = &cursor->group;
    return group->count > 0 && cursor->group_offset == group_offset &&
           cursor->position.next_lsn == group->first_lsn + group->count &&
           cursor->position.chain == twl_group_chain(group);
}

/* The open group has no header that leads to a record. The marker in front of it gives its epoch and first
 * LSN, so the record at that place checks only if it is the right one. */
static int enter_open_group_at(struct segment_iter *cursor, const struct index_entry *entry)
{
    if (!segment_is_mapped(&cursor->segment->header) || entry->group_offset != OPEN_GROUP_OFFSET)
        return 0;
    int rc = twl_iter_enter_at(cursor, SEGMENT_DATA_OFFSET, PLACE_FIRST);
    if (rc <= 0)
        return rc;
    uint64_t first_lsn = cursor->position.next_lsn;
    if (entry->lsn >= first_lsn && entry->lsn - first_lsn < UINT32_MAX &&
        entry->record_offset >= GROUP_HEADER_BYTES && entry->record_offset % 8 == 0) {
        twl_iter_place_in_open_group(cursor, first_lsn, (uint32_t)(entry->lsn - first_lsn),
                                     OPEN_GROUP_OFFSET + entry->record_offset);
        rc = twl_iter_extend(cursor);
        if (rc > 0)
            return rc;
    }
    twl_iter_place_at(cursor, 0, twl_position_before(&cursor->segment->header));
    return rc < 0 ? rc : 0;
}

int twl_iter_place(struct segment_iter *cursor, const struct index_entry *entry)
{
    const struct group_header *group = &cursor->group;
    struct record_header header;
    bool is_beyond = cursor->is_open && entry->lsn >= cursor->position.next_lsn;
    if (is_beyond || !has_entered(cursor, entry->group_offset)) {
        const size_t window_bytes = cursor->window_bytes;
        cursor->position = (struct position){ 0 };
        cursor->records_left = 0;
        if (entry->record_offset >= FIRST_STEP_BYTES) /* the bytes between it and the header are useless */
            cursor->window_bytes = BLOCK_BYTES;
        int rc = twl_iter_enter_at(cursor, entry->group_offset, PLACE_ANY);
        cursor->window_bytes = window_bytes;
        if (rc == 0)
            rc = enter_open_group_at(cursor, entry);
        if (rc <= 0)
            return rc;
    }
    bool is_inside = entry->lsn >= group->first_lsn && entry->lsn - group->first_lsn < group->count &&
                     entry->record_offset >= GROUP_HEADER_BYTES && entry->record_offset % 8 == 0 &&
                     entry->record_offset <= group->bytes - RECORD_HEADER_BYTES;
    if (!is_inside)
        return 0;
    cursor->record_offset = entry->group_offset + entry->record_offset;
    cursor->records_left = group->count - (uint32_t)(entry->lsn - group->first_lsn);
    int rc = twl_iter_peek(cursor, &header);
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

/* Moves to a place from the index; if there is none, or it is wrong, to the start. */
static int jump(struct segment_iter *cursor, const struct index_entry *entry)
{
    int rc = entry ? twl_iter_place(cursor, entry) : 0;
    if (rc == 0)
        twl_iter_place_at(cursor, 0, twl_position_before(&cursor->segment->header));
    return rc < 0 ? rc : 0;
}

void twl_iter_resume(struct segment_iter *cursor)
{
    const struct summary *summary = cursor->summary;
    const struct position end = { .next_lsn = summary->next_lsn,
                                  .chain = summary->chain,
                                  .epoch = summary->epoch };
    if (summary->first_lsn == 0)
        twl_iter_place_at(cursor, 0, twl_position_before(&cursor->segment->header));
    else
        twl_iter_place_at(cursor, summary->data_end, end);
    if (summary->open_lsn > 0)
        twl_iter_place_in_open_group(cursor, summary->open_lsn,
                                     (uint32_t)(summary->next_lsn - summary->open_lsn), summary->data_end);
}

/* Walks from a place that is not behind `lsn`. Earlier groups are skipped by their headers. */
static int walk_to(struct segment_iter *cursor, uint64_t lsn)
{
    for (;;) {
        while (cursor->records_left > 0 && lsn < cursor->position.next_lsn) {
            if (twl_iter_next_lsn(cursor) == lsn)
                return 1;
            int rc = twl_iter_skip_record(cursor);
            if (rc < 0)
                return rc;
        }
        int rc = twl_iter_enter_group(cursor);
        if (rc <= 0)
            return rc;
        if (cursor->group.first_lsn > lsn)
            return 0;
    }
}

int twl_iter_seek(struct segment_iter *cursor, const struct segment_footer *footer, uint64_t lsn)
{
    struct index_entry probed;
    const struct index_entry *entry = &probed;
    /* all of it is read once as much of it was */
    const bool is_cheap = footer && !cursor->index.is_loaded &&
                          cursor->index.probed_bytes < (uint64_t)footer->index_entries * INDEX_ENTRY_BYTES;
    if (!is_cheap || !probe_index(cursor, footer, lsn, &probed))
        entry = find_entry(cursor, footer, lsn, INT64_MAX);
    const uint64_t here = twl_iter_next_lsn(cursor);
    const bool is_on_the_way = here > 0 && here <= lsn;
    const int rc = !is_on_the_way || (entry && entry->lsn > here) ? jump(cursor, entry) : 0;
    return rc < 0 ? rc : walk_to(cursor, lsn);
}

int twl_iter_seek_time(struct segment_iter *cursor, const struct segment_footer *footer, uint64_t first_lsn,
                       int64_t time_ns)
{
    const bool is_any = time_ns == INT64_MIN;
    const struct index_entry *entry = is_any ? NULL : find_entry(cursor, footer, UINT64_MAX, time_ns - 1);
    const struct index_entry *kept = find_entry(cursor, footer, first_lsn, INT64_MAX);
    struct record_header header;
    int rc = jump(cursor, !entry || (kept && kept->lsn > entry->lsn) ? kept : entry);
    while (rc >= 0) {
        const bool is_kept = cursor->position.next_lsn > first_lsn;
        while (is_kept && (rc = twl_iter_peek(cursor, &header)) > 0) {
            if (header.kind == RECORD_DATA && header.time_ns >= time_ns &&
                twl_iter_next_lsn(cursor) >= first_lsn)
                return 1;
            pass_record(cursor, &header);
        }
        if (rc >= 0)
            rc = twl_iter_enter_group(cursor);
        if (rc == 0)
            return 0;
    }
    return rc;
}

/* ---- without an index --------------------------------------------------------------------------- */

/* A group, by its header. */
struct milestone {
    uint64_t offset, lsn;
};

/* The first group from `from` on that begins in front of `end`: 1. */
static int find_group(struct segment_iter *cursor, uint64_t from, uint64_t end, struct milestone *ret_found)
{
    twl_iter_place_at(cursor, from, (struct position){ 0 });
    const int rc = twl_iter_scan(cursor, align_up(from, 8), end, PLACE_ANY);
    *ret_found = (struct milestone){ cursor->group_offset, cursor->group.first_lsn };
    return rc;
}

/* The record is behind `low` and in front of `high`. Moves `low` near it; fewer probes only make the walk longer. Each
 * probe is where the record is if all between the two are of one size; or half of the way, as sizes differ. */
static int come_near(struct segment_iter *cursor, uint64_t lsn, struct milestone *low, struct milestone high)
{
    struct milestone found;
    int rc = 0;
    for (unsigned i = 0; rc >= 0 && i < MOST_PROBES && low->lsn < lsn && lsn < high.lsn; i++) {
        const double share = i % 4 < 3 ? (double)(lsn - low->lsn) / (double)(high.lsn - low->lsn) : 0.5;
        const uint64_t step = (uint64_t)((double)(high.offset - low->offset) * share);
        const uint64_t at = low->offset + step - BLOCK_BYTES; /* a little in front of it */
        if (step <= 2 * BLOCK_BYTES)
            break;
        rc = find_group(cursor, at, high.offset, &found);
        if (rc > 0 && found.lsn <= lsn)
            *low = found;
        else
            high.offset = at;
        if (rc > 0 && found.lsn > lsn)
            high.lsn = found.lsn;
    }
    return rc < 0 ? rc : 1;
}

int twl_iter_pass_near(struct segment_iter *cursor, uint64_t noted_offset, uint64_t lsn)
{
    const size_t window_bytes = cursor->window_bytes;
    struct milestone low = { 0 }, high = { 0 };
    cursor->window_bytes = BLOCK_BYTES;
    int rc = find_group(cursor, SEGMENT_DATA_OFFSET, SEGMENT_DATA_OFFSET + BLOCK_BYTES, &low);
    if (rc > 0)
        rc = noted_offset >= low.offset && noted_offset < cursor->segment->data_end
                 ? find_group(cursor, noted_offset, noted_offset + 8, &high)
                 : 0;
    if (rc > 0 && high.lsn <= lsn)
        low = high;
    else if (rc > 0 && low.lsn < lsn)
        rc = come_near(cursor, lsn, &low, high);
    cursor->window_bytes = window_bytes;
    return rc > 0 ? twl_iter_pass_to(cursor, low.offset) : rc;
}
