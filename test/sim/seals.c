/* SPDX-License-Identifier: Apache-2.0 */
/* See seals.h. Segments of which a part was trimmed or truncated are left out. */
#include "seals.h"

#include "log/log_snapshot.h"
#include "walk/segment_iter.h"

struct seal {
    struct segment_footer footer;
    uint32_t next; /* entry of the index to be met */
    uint64_t records;
    int64_t min_ns, max_ns;
};

static const char *compare_entry(const struct index_entry *entry, const struct segment_iter *iter,
                                 const struct iter_record *record, int64_t max_ns)
{
    if (entry->lsn != record->lsn)
        return "the index has an entry for no record";
    if (entry->group_offset != iter->group_offset ||
        entry->record_offset != record->offset - iter->group_offset)
        return "an entry of the index points beside its record";
    return entry->max_time_so_far_ns == max_ns ? NULL : "an entry of the index has another time";
}

static const char *compare_record(const struct segment_iter *iter, const struct iter_record *record,
                                  struct seal *seal)
{
    const struct loaded_index *index = &iter->index;
    const bool has_entry = seal->next < index->count && index->entries[seal->next].lsn <= record->lsn;
    const char *wrong =
        has_entry ? compare_entry(&index->entries[seal->next], iter, record, seal->max_ns) : NULL;
    seal->next += has_entry;
    seal->records++;
    seal->min_ns = record->header.time_ns < seal->min_ns ? record->header.time_ns : seal->min_ns;
    seal->max_ns = record->header.time_ns > seal->max_ns ? record->header.time_ns : seal->max_ns;
    return wrong;
}

static const char *compare_footer(const struct segment_iter *iter, const struct seal *seal)
{
    const struct segment_footer *footer = &seal->footer;
    const struct position *end = &iter->position;
    if (seal->next < iter->index.count)
        return "the index has an entry for no record";
    if (footer->last_lsn + 1 != end->next_lsn || footer->data_end != iter->offset ||
        footer->chain != end->chain || footer->epoch.number != end->epoch.number ||
        footer->epoch.salt != end->epoch.salt)
        return "a footer names another end than the groups have";
    if (footer->last_lsn + 1 - footer->first_lsn != seal->records || footer->min_ns != seal->min_ns ||
        footer->max_ns != seal->max_ns || footer->max_time_so_far_ns < seal->max_ns)
        return "a footer has other times or another number of records than the groups";
    return NULL;
}

/* The iterator is in front of the segment. */
static const char *check_segment(struct segment_iter *iter, bool is_whole)
{
    struct seal seal = { .min_ns = INT64_MAX, .max_ns = INT64_MIN };
    const bool is_sealed = is_whole && twl_segment_read_footer(iter->segment, &seal.footer) > 0;
    const char *wrong = NULL;
    if (is_sealed &&
        (twl_iter_load_index(iter, &seal.footer) < 0 || iter->index.count != seal.footer.index_entries))
        return "an index does not have its checksum";
    while (!wrong && twl_iter_enter_group(iter) > 0) {
        struct iter_record record;
        while (!wrong && twl_iter_next_record(iter, &record) > 0)
            wrong = is_sealed ? compare_record(iter, &record, &seal) : NULL;
    }
    return wrong || !is_sealed ? wrong : compare_footer(iter, &seal);
}

const char *find_false_seal(struct io *io)
{
    struct log_snapshot snapshot;
    struct twinlog_report report;
    struct segment_iter iter = { 0 };
    struct position position = { 0 };
    const char *wrong = NULL;
    const int rc = twl_log_snapshot_load(io, 0, &snapshot, &report);
    const struct segment_set *set = &snapshot.set;
    for (size_t i = 0; rc == 0 && !wrong && i + 1 < set->started; i++) {
        const struct segment_entry *entry = &set->entries[i];
        struct segment segment;
        if (twl_log_snapshot_open_segment(io, entry, &segment) < 0)
            break;
        const bool is_fixed = entry->header.start_lsn > 0;
        twl_iter_begin(&iter, &segment, is_fixed ? twl_position_before(&segment.header) : position);
        wrong = check_segment(&iter, segment.head_lsn <= 1 && twl_segment_set_bound(set, i) == UINT64_MAX);
        position = iter.position;
        twl_iter_let_go(&iter);
        twl_segment_close(&segment);
    }
    twl_iter_free(&iter);
    if (rc == 0)
        twl_log_snapshot_free(&snapshot);
    io->ops->destroy(io);
    return wrong;
}
