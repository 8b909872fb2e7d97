/* SPDX-License-Identifier: Apache-2.0 */
/* See seal_check.h. The index may fill the free part of the file, so it is read block by block. */
#include "check/seal_check.h"

#include "format/checksum.h"

#include <errno.h>

#define ENTRIES_PER_CHUNK (BLOCK_BYTES / INDEX_ENTRY_BYTES)

static void complain(struct seal_check *check, const char *words)
{
    if (!check->wrong)
        check->wrong = words;
}

/* The chunks end at the footer and go down from there, as the entries do. */
static int read_chunk(struct seal_check *check, uint64_t start)
{
    size_t size;
    int rc = io_read(check->segment->file, check->chunk, BLOCK_BYTES, start, &size);
    if (rc == 0 && size < BLOCK_BYTES)
        rc = -EIO; /* the file was made shorter */
    check->chunk_start = rc == 0 ? start : 0;
    return rc;
}

static int check_sum(struct seal_check *check)
{
    uint64_t left = (uint64_t)check->footer.index_entries * INDEX_ENTRY_BYTES;
    uint32_t sum = 0;
    int rc = 0;
    while (rc == 0 && left > 0) {
        uint64_t chunk = align_up(left, BLOCK_BYTES);
        size_t size = (size_t)(left - (chunk - BLOCK_BYTES));
        rc = read_chunk(check, check->segment->data_end - chunk);
        sum = twl_crc32c(sum, check->chunk + BLOCK_BYTES - size, size);
        left -= size;
    }
    if (rc == 0 && sum != check->footer.index_checksum)
        complain(check, "the index does not have its checksum");
    return rc;
}

static int take_entry(struct seal_check *check)
{
    if (check->next >= check->footer.index_entries)
        return 0;
    uint64_t end = check->segment->data_end;
    uint64_t start = end - (check->next / ENTRIES_PER_CHUNK + 1) * (uint64_t)BLOCK_BYTES;
    int rc = start == check->chunk_start ? 0 : read_chunk(check, start);
    uint64_t offset = end - ((uint64_t)check->next + 1) * INDEX_ENTRY_BYTES;
    if (rc == 0)
        twl_index_entry_decode(check->chunk + (offset - start), &check->entry);
    return rc;
}

/* Looks for what is left of a footer. It is written once, into zeros or over bytes of an earlier
 * incarnation. */
static int look_for_remains(struct seal_check *check)
{
    const struct segment *segment = check->segment;
    if (segment->header.incarnations > 0 || segment->file_bytes < segment->data_end + SEGMENT_FOOTER_BYTES)
        return 0;
    int rc = read_chunk(check, check->segment->data_end);
    for (size_t i = 0; rc == 0 && i < BLOCK_BYTES; i++)
        if (check->chunk[i] != 0)
            complain(check, "the footer does not check");
    return rc;
}

int twl_seal_check_begin(struct seal_check *check, const struct segment *segment)
{
    *check = (struct seal_check){ .segment = segment, .min_ns = INT64_MAX, .max_ns = INT64_MIN };
    int rc = twl_segment_read_footer(segment, &check->footer);
    check->is_sealed = rc > 0;
    if (rc == 0)
        return look_for_remains(check);
    if (rc > 0)
        rc = check_sum(check);
    return rc < 0 ? rc : take_entry(check);
}

static void check_entry(struct seal_check *check, const struct cursor_record *record, uint64_t group_offset)
{
    const struct index_entry *entry = &check->entry;
    bool is_max_time_right = check->is_partial ? entry->max_time_so_far_ns >= check->max_ns
                                               : entry->max_time_so_far_ns == check->max_ns;
    if (entry->group_offset != group_offset || entry->record_offset != record->offset - group_offset)
        complain(check, "an entry of the index points beside its record");
    else if (!is_max_time_right)
        complain(check, "an entry of the index has another time than the records before it");
}

int twl_seal_check_record(struct seal_check *check, const struct cursor_record *record, uint64_t group_offset)
{
    int rc = 0;
    if (!check->is_sealed)
        return 0;
    while (rc == 0 && check->next < check->footer.index_entries && check->entry.lsn <= record->lsn) {
        if (check->entry.lsn == record->lsn)
            check_entry(check, record, group_offset);
        else if (!check->is_partial)
            complain(check, "the index has an entry for no record");
        check->next++;
        rc = take_entry(check);
    }
    check->records++;
    if (record->header.time_ns < check->min_ns)
        check->min_ns = record->header.time_ns;
    if (record->header.time_ns > check->max_ns)
        check->max_ns = record->header.time_ns;
    return rc;
}

void twl_seal_check_end(struct seal_check *check, uint64_t data_end, struct position end)
{
    const struct segment_footer *footer = &check->footer;
    if (!check->is_sealed)
        return;
    if (footer->last_lsn + 1 != end.next_lsn || footer->data_end != data_end || footer->chain != end.chain ||
        footer->epoch.number != end.epoch.number || footer->epoch.salt != end.epoch.salt)
        complain(check, "the footer names another end than the groups have");
    if (check->is_partial)
        return;
    if (check->next < footer->index_entries)
        complain(check, "the index has an entry for no record");
    if (footer->last_lsn + 1 - footer->first_lsn != check->records || footer->min_ns != check->min_ns ||
        footer->max_ns != check->max_ns || footer->max_time_so_far_ns < check->max_ns)
        complain(check, "the footer has other times or another number of records than the groups");
}
