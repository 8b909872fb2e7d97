/* SPDX-License-Identifier: Apache-2.0 */
/* See seal_check.h. */
#include "check/seal_check.h"

#include "base/bytes.h"

static void complain(struct seal_check *check, const char *words)
{
    if (!check->wrong)
        check->wrong = words;
}

/* Looks for what is left of a footer. It is written once, into zeros. */
static int look_for_remains(struct seal_check *check, struct segment_iter *cursor)
{
    const struct segment *segment = cursor->segment;
    int error;
    const unsigned char *bytes = twl_iter_bytes(cursor, segment->data_end, FOOTER_SECTOR_BYTES, &error);
    if (bytes && !are_zeros(bytes, FOOTER_SECTOR_BYTES))
        complain(check, "the footer does not check");
    return error;
}

int twl_seal_check_begin(struct seal_check *check, struct segment_iter *cursor)
{
    *check = (struct seal_check){ .index = &cursor->index, .min_ns = INT64_MAX, .max_ns = INT64_MIN };
    int rc = twl_segment_read_footer(cursor->segment, &check->footer);
    check->is_sealed = rc > 0;
    if (rc == 0)
        return look_for_remains(check, cursor);
    if (rc > 0)
        rc = twl_iter_load_index(cursor, &check->footer);
    if (rc == 0 && cursor->index.count != check->footer.index_entries)
        complain(check, "the index does not have its checksum");
    return rc;
}

static void check_entry(struct seal_check *check, const struct cursor_record *record, uint64_t group_offset)
{
    const struct index_entry *entry = &check->index->entries[check->next];
    bool is_max_time_right = check->is_partial ? entry->max_time_so_far_ns >= check->max_ns
                                               : entry->max_time_so_far_ns == check->max_ns;
    if (entry->group_offset != group_offset || entry->record_offset != record->offset - group_offset)
        complain(check, "an entry of the index points beside its record");
    else if (!is_max_time_right)
        complain(check, "an entry of the index has another time than the records before it");
}

void twl_seal_check_record(struct seal_check *check, const struct cursor_record *record,
                           uint64_t group_offset)
{
    if (!check->is_sealed)
        return;
    for (; check->next < check->index->count; check->next++) {
        const uint64_t lsn = check->index->entries[check->next].lsn;
        if (lsn > record->lsn)
            break;
        if (lsn == record->lsn)
            check_entry(check, record, group_offset);
        else if (!check->is_partial)
            complain(check, "the index has an entry for no record");
    }
    check->records++;
    if (record->header.time_ns < check->min_ns)
        check->min_ns = record->header.time_ns;
    if (record->header.time_ns > check->max_ns)
        check->max_ns = record->header.time_ns;
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
    if (check->next < check->index->count)
        complain(check, "the index has an entry for no record");
    if (footer->last_lsn + 1 - footer->first_lsn != check->records || footer->min_ns != check->min_ns ||
        footer->max_ns != check->max_ns || footer->max_time_so_far_ns < check->max_ns)
        complain(check, "the footer has other times or another number of records than the groups");
}
