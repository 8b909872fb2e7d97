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

#define PROBE_BYTES (64u << 10) /* a disk reads so much in hardly more time than a block of the index */
#define MOST_PROBES 16u
#define MOST_INDEX_ENTRIES (16u * INDEX_MAX_ENTRIES) /* no writer makes a larger index */

static bool makes_room(struct loaded_index *index, uint32_t count)
{
    if (count <= index->room)
        return true;
    struct index_entry *entries = malloc(count * sizeof(*entries));
    if (!entries)
        return false;
    free(index->entries);
    index->entries = entries;
    index->room = count;
    return true;
}

/* There is none that checks. That is known from here on, unlike after an error. */
static int load_none(struct loaded_index *index)
{
    index->is_loaded = true;
    return 0;
}

int twl_iter_load_index(struct segment_iter *iter, const struct segment_footer *footer)
{
    struct loaded_index *index = &iter->index;
    const uint64_t end = footer->offset;
    const size_t size = (size_t)footer->index_entries * INDEX_ENTRY_BYTES;
    int error;

    if (index->is_loaded)
        return 0;
    index->count = 0;
    if (size == 0 || size > end - SEGMENT_DATA_OFFSET || footer->index_entries > MOST_INDEX_ENTRIES)
        return load_none(index);

    twl_iter_refresh(iter); /* it may have been written since these bytes were read */
    const unsigned char *bytes = twl_iter_bytes(iter, end - size, size, &error);
    if (error < 0)
        return error;
    if (!bytes || twl_crc32c(0, bytes, size) != footer->index_checksum)
        return load_none(index);

    if (!makes_room(index, footer->index_entries))
        return -ENOMEM;
    index->is_loaded = true;
    index->count = footer->index_entries;
    for (uint32_t i = 0; i < index->count; i++) /* they are written from the end on */
        twl_index_entry_decode(bytes + size - (i + 1) * INDEX_ENTRY_BYTES, &index->entries[i]);
    return 0;
}

/* Reads that entry of an index that is not in memory: 1. 0 = it is not in the file. Negative: a system error. */
static int read_entry(struct segment_iter *iter, const struct segment_footer *footer, uint32_t number,
                      struct index_entry *ret_entry)
{
    const uint64_t back = (uint64_t)(number + 1) * INDEX_ENTRY_BYTES, start = iter->window.start;
    int error;

    if (back > footer->offset)
        return 0;
    const unsigned char *bytes = twl_iter_bytes(iter, footer->offset - back, INDEX_ENTRY_BYTES, &error);
    if (iter->window.start != start)
        iter->index.probed_bytes += PROBE_BYTES;
    if (!bytes)
        return error;
    twl_index_entry_decode(bytes, ret_entry);
    return 1;
}

/* The last entry that is not behind the record `lsn`, of an index that is not in memory: reads a few of its blocks, so
 * without its checksum. What an entry says of a record is checked there. False = there is none. */
static bool probe_index(struct segment_iter *iter, const struct segment_footer *footer, uint64_t lsn,
                        struct index_entry *ret_entry)
{
    const size_t window_bytes = iter->window_bytes;
    uint32_t low = 0, high = footer->index_entries;

    twl_iter_refresh(iter); /* it may have been written since these bytes were read */
    iter->window_bytes = BLOCK_BYTES;
    iter->index.probed_bytes += PROBE_BYTES;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        struct index_entry entry = { 0 };

        const int result = read_entry(iter, footer, middle, &entry);
        if (result < 0) /* the walk is longer then, and meets the error where it matters */
            break;
        if (result == 0 || entry.lsn > lsn) {
            high = middle;
        } else {
            low = middle + 1;
            *ret_entry = entry;
        }
    }
    iter->window_bytes = window_bytes;
    return low > 0;
}

/* The last entry of the index that is not behind the record `lsn`, and before which no record is newer than `max_ns`;
 * NULL: none is known, and the walk is longer. */
static const struct index_entry *find_entry(struct segment_iter *iter, const struct segment_footer *footer,
                                            uint64_t lsn, int64_t max_ns)
{
    const struct index_entry *entries = NULL;
    uint32_t count = 0;

    if (footer) {
        (void)twl_iter_load_index(iter, footer);
        entries = iter->index.entries;
        count = iter->index.count;
    } else if (iter->summary) {
        entries = iter->summary->index.entries;
        count = iter->summary->index.count;
    }

    const int64_t number = twl_index_find(entries, count, lsn, max_ns);
    return number < 0 ? NULL : &entries[number];
}

static bool has_entered(const struct segment_iter *iter, uint64_t group_offset)
{
    const struct group_header *group = &iter->group;

    if (group->count == 0 || iter->group_offset != group_offset)
        return false;
    return iter->position.next_lsn == group->first_lsn + group->count &&
           iter->position.chain == twl_group_chain(group);
}

/* May a record begin so far behind the beginning of its group? */
static bool is_record_offset(uint32_t offset)
{
    return offset >= GROUP_HEADER_BYTES && offset % 8 == 0;
}

/* Could the entry be of a record of the open group that begins with that LSN? */
static bool may_be_in_open_group(const struct index_entry *entry, uint64_t first_lsn)
{
    return entry->lsn >= first_lsn && entry->lsn - first_lsn < UINT32_MAX &&
           is_record_offset(entry->record_offset);
}

/* The open group has no header that leads to a record. The marker in front of it gives its epoch and first
 * LSN, so the record at that place checks only if it is the right one. */
static int enter_open_group_at(struct segment_iter *iter, const struct index_entry *entry)
{
    if (!segment_is_mapped(&iter->segment->header) || entry->group_offset != OPEN_GROUP_OFFSET)
        return 0;
    int result = twl_iter_enter_at(iter, SEGMENT_DATA_OFFSET, PLACE_FIRST);
    if (result <= 0)
        return result;

    const uint64_t first_lsn = iter->position.next_lsn;
    result = 0;
    if (may_be_in_open_group(entry, first_lsn)) {
        twl_iter_place_in_open_group(iter, first_lsn, (uint32_t)(entry->lsn - first_lsn),
                                     OPEN_GROUP_OFFSET + entry->record_offset);
        result = twl_iter_extend(iter);
    }
    if (result <= 0)
        twl_iter_place_at(iter, 0, twl_position_before(&iter->segment->header));
    return result;
}

/* Enters the group of the entry: 1. 0 = it is not there. */
static int enter_group_of(struct segment_iter *iter, const struct index_entry *entry)
{
    const size_t window_bytes = iter->window_bytes;

    iter->position = (struct position){ 0 };
    iter->records_left = 0;
    if (entry->record_offset >= FIRST_STEP_BYTES) /* the bytes between it and the header are useless */
        iter->window_bytes = BLOCK_BYTES;
    const int result = twl_iter_enter_at(iter, entry->group_offset, PLACE_ANY);
    iter->window_bytes = window_bytes;
    return result != 0 ? result : enter_open_group_at(iter, entry);
}

static bool is_in_group(const struct group_header *group, const struct index_entry *entry)
{
    if (entry->lsn < group->first_lsn || entry->lsn - group->first_lsn >= group->count)
        return false;
    return is_record_offset(entry->record_offset) &&
           entry->record_offset <= group->bytes - RECORD_HEADER_BYTES;
}

int twl_iter_place(struct segment_iter *iter, const struct index_entry *entry)
{
    const struct group_header *group = &iter->group;
    const bool is_beyond = iter->is_open && entry->lsn >= iter->position.next_lsn;
    struct record_header header;

    if (is_beyond || !has_entered(iter, entry->group_offset)) {
        const int result = enter_group_of(iter, entry);
        if (result <= 0)
            return result;
    }
    if (!is_in_group(group, entry))
        return 0;

    iter->record_offset = entry->group_offset + entry->record_offset;
    iter->records_left = group->count - (uint32_t)(entry->lsn - group->first_lsn);
    const int result = twl_iter_peek(iter, &header);
    return result == TWINLOG_ECORRUPT ? 0 : result;
}

/* Moves to a place from the index; if there is none, or it is wrong, to the start. */
static int jump(struct segment_iter *iter, const struct index_entry *entry)
{
    const int result = entry ? twl_iter_place(iter, entry) : 0;

    if (result == 0)
        twl_iter_place_at(iter, 0, twl_position_before(&iter->segment->header));
    return result < 0 ? result : 0;
}

void twl_iter_resume(struct segment_iter *iter)
{
    const struct summary *summary = iter->summary;
    const struct position end = { .next_lsn = summary->next_lsn,
                                  .chain = summary->chain,
                                  .epoch = summary->epoch };

    if (summary->first_lsn == 0)
        twl_iter_place_at(iter, 0, twl_position_before(&iter->segment->header));
    else
        twl_iter_place_at(iter, summary->data_end, end);
    if (summary->open_lsn > 0)
        twl_iter_place_in_open_group(iter, summary->open_lsn,
                                     (uint32_t)(summary->next_lsn - summary->open_lsn), summary->data_end);
}

/* Walks from a place that is not behind `lsn`. Earlier groups are skipped by their headers. */
static int walk_to(struct segment_iter *iter, uint64_t lsn)
{
    for (;;) {
        while (iter->records_left > 0 && lsn < iter->position.next_lsn) {
            if (twl_iter_next_lsn(iter) == lsn)
                return 1;
            const int skipped = twl_iter_skip_record(iter);
            if (skipped < 0)
                return skipped;
        }

        const int entered = twl_iter_enter_group(iter);
        if (entered <= 0)
            return entered;
        if (iter->group.first_lsn > lsn)
            return 0;
    }
}

/* Is it cheaper to read a few blocks of the index than all of it? All of it is read once that would have taken no
 * longer than what was read of it. */
static bool is_cheap_to_probe(const struct segment_iter *iter, const struct segment_footer *footer)
{
    if (!footer || iter->index.is_loaded)
        return false;
    return iter->index.probed_bytes < (uint64_t)footer->index_entries * INDEX_ENTRY_BYTES;
}

int twl_iter_seek(struct segment_iter *iter, const struct segment_footer *footer, uint64_t lsn)
{
    const struct index_entry *entry = NULL;
    struct index_entry probed;

    if (is_cheap_to_probe(iter, footer) && probe_index(iter, footer, lsn, &probed))
        entry = &probed;
    else
        entry = find_entry(iter, footer, lsn, INT64_MAX);

    const uint64_t here = twl_iter_next_lsn(iter);
    const bool is_on_the_way = here > 0 && here <= lsn;
    const bool is_entry_nearer = entry && entry->lsn > here;
    if (!is_on_the_way || is_entry_nearer) {
        const int rc = jump(iter, entry);
        if (rc < 0)
            return rc;
    }
    return walk_to(iter, lsn);
}

/* In the group that was entered: moves to the first kept record of that time or later: 1. 0 = it has none. */
static int find_time_in_group(struct segment_iter *iter, uint64_t first_lsn, int64_t time_ns)
{
    struct record_header header;
    int result;

    if (iter->position.next_lsn <= first_lsn) /* all of it was removed */
        return 0;
    while ((result = twl_iter_peek(iter, &header)) > 0) {
        const bool is_kept = header.kind == RECORD_DATA && twl_iter_next_lsn(iter) >= first_lsn;
        if (is_kept && header.time_ns >= time_ns)
            return 1;
        pass_record(iter, &header);
    }
    return result;
}

/* Where a walk to that time may begin: an entry in front of which all is older, and not in front of `first_lsn`. */
static const struct index_entry *find_entry_of_time(struct segment_iter *iter,
                                                    const struct segment_footer *footer, uint64_t first_lsn,
                                                    int64_t time_ns)
{
    const struct index_entry *older = NULL;

    if (time_ns > INT64_MIN)
        older = find_entry(iter, footer, UINT64_MAX, time_ns - 1);
    const struct index_entry *kept = find_entry(iter, footer, first_lsn, INT64_MAX);
    if (!older)
        return kept;
    return kept && kept->lsn > older->lsn ? kept : older;
}

int twl_iter_seek_time(struct segment_iter *iter, const struct segment_footer *footer, uint64_t first_lsn,
                       int64_t time_ns)
{
    const int rc = jump(iter, find_entry_of_time(iter, footer, first_lsn, time_ns));
    if (rc < 0)
        return rc;

    for (;;) {
        const int found = find_time_in_group(iter, first_lsn, time_ns);
        if (found != 0)
            return found;
        const int entered = twl_iter_enter_group(iter);
        if (entered <= 0)
            return entered;
    }
}

/* ---- without an index --------------------------------------------------------------------------- */

/* A group, by its header. */
struct milestone {
    uint64_t offset, lsn;
};

/* The first group from `from` on that begins in front of `end`: 1. */
static int find_group(struct segment_iter *iter, uint64_t from, uint64_t end, struct milestone *ret_found)
{
    twl_iter_place_at(iter, from, (struct position){ 0 });
    const int rc = twl_iter_scan(iter, align_up(from, 8), end, PLACE_ANY);
    *ret_found = (struct milestone){ iter->group_offset, iter->group.first_lsn };
    return rc;
}

/* Where to look between the two: where the record is if all between them are of one size; each fourth time half of the
 * way, as sizes differ. */
static uint64_t guess_step(const struct milestone *low, const struct milestone *high, uint64_t lsn,
                           unsigned probe)
{
    const bool is_by_lsn = probe % 4 < 3;
    const double lsns = (double)(high->lsn - low->lsn), bytes = (double)(high->offset - low->offset);
    const double share = is_by_lsn ? (double)(lsn - low->lsn) / lsns : 0.5;

    return (uint64_t)(bytes * share);
}

/* The record is behind `low` and in front of `high`. Moves `low` near it; fewer probes only make the walk longer. */
static int come_near(struct segment_iter *iter, uint64_t lsn, struct milestone *low, struct milestone high)
{
    for (unsigned i = 0; i < MOST_PROBES && low->lsn < lsn && lsn < high.lsn; i++) {
        const uint64_t step = guess_step(low, &high, lsn, i);
        const uint64_t at = low->offset + step - BLOCK_BYTES; /* a little in front of it */
        struct milestone found;

        if (step <= 2 * BLOCK_BYTES)
            break;
        const int result = find_group(iter, at, high.offset, &found);
        if (result < 0)
            return result;
        if (result > 0 && found.lsn <= lsn) {
            *low = found;
            continue;
        }
        high.offset = at;
        if (result > 0)
            high.lsn = found.lsn;
    }
    return 1;
}

/* Finds a group near the one that holds `lsn`, and not behind it: 1. */
static int find_milestone(struct segment_iter *iter, uint64_t noted_offset, uint64_t lsn,
                          struct milestone *ret_found)
{
    struct milestone *low = ret_found, high;

    int result = find_group(iter, SEGMENT_DATA_OFFSET, SEGMENT_DATA_OFFSET + BLOCK_BYTES, low);
    if (result <= 0)
        return result;
    if (noted_offset < low->offset || noted_offset >= iter->segment->data_end)
        return 0;
    result = find_group(iter, noted_offset, noted_offset + 8, &high);
    if (result <= 0)
        return result;

    if (high.lsn <= lsn) {
        *ret_found = high;
        return 1;
    }
    return low->lsn < lsn ? come_near(iter, lsn, low, high) : 1;
}

int twl_iter_pass_near(struct segment_iter *iter, uint64_t noted_offset, uint64_t lsn)
{
    const size_t window_bytes = iter->window_bytes;
    struct milestone found;

    iter->window_bytes = BLOCK_BYTES;
    const int result = find_milestone(iter, noted_offset, lsn, &found);
    iter->window_bytes = window_bytes;
    return result > 0 ? twl_iter_pass_to(iter, found.offset) : result;
}
