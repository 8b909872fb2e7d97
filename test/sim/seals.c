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

/* NULL: nothing is wrong. So it is with all of these. */
static const char *compare_entry(const struct index_entry *entry, const struct segment_iter *iter,
                                 const struct iter_record *record, int64_t max_ns)
{
    const uint64_t record_offset = record->offset - iter->group_offset;

    if (entry->lsn != record->lsn)
        return "the index has an entry for no record";
    if (entry->group_offset != iter->group_offset || entry->record_offset != record_offset)
        return "an entry of the index points beside its record";
    if (entry->max_time_so_far_ns != max_ns)
        return "an entry of the index has another time";
    return NULL;
}

/* The next entry of the index, if it is for this record; or for an earlier one, which is wrong. */
static const struct index_entry *take_entry(const struct segment_iter *iter, struct seal *seal, uint64_t lsn)
{
    const struct loaded_index *index = &iter->index;
    if (seal->next == index->count)
        return NULL;

    const struct index_entry *entry = &index->entries[seal->next];
    if (entry->lsn > lsn)
        return NULL;
    ++seal->next;
    return entry;
}

static const char *compare_record(const struct segment_iter *iter, const struct iter_record *record,
                                  struct seal *seal)
{
    const int64_t time_ns = record->header.time_ns;
    const struct index_entry *entry = take_entry(iter, seal, record->lsn);
    const char *wrong = NULL;
    if (entry)
        wrong = compare_entry(entry, iter, record, seal->max_ns);

    seal->records++;
    if (time_ns < seal->min_ns)
        seal->min_ns = time_ns;
    if (time_ns > seal->max_ns)
        seal->max_ns = time_ns;
    return wrong;
}

/* Does the footer name the end that the groups have? */
static bool has_right_end(const struct segment_iter *iter, const struct segment_footer *footer)
{
    const struct position *end = &iter->position;

    if (footer->last_lsn + 1 != end->next_lsn || footer->data_end != iter->offset)
        return false;
    if (footer->chain != end->chain)
        return false;
    return footer->epoch.number == end->epoch.number && footer->epoch.salt == end->epoch.salt;
}

/* Does it count the records, and have their times? */
static bool has_right_records(const struct seal *seal)
{
    const struct segment_footer *footer = &seal->footer;

    if (footer->last_lsn + 1 - footer->first_lsn != seal->records)
        return false;
    if (footer->min_ns != seal->min_ns || footer->max_ns != seal->max_ns)
        return false;
    return footer->max_time_so_far_ns >= seal->max_ns;
}

static const char *compare_footer(const struct segment_iter *iter, const struct seal *seal)
{
    if (seal->next < iter->index.count)
        return "the index has an entry for no record";
    if (!has_right_end(iter, &seal->footer))
        return "a footer names another end than the groups have";
    if (!has_right_records(seal))
        return "a footer has other times or another number of records than the groups";
    return NULL;
}

/* Goes to the end of a segment without a seal. */
static void pass_segment(struct segment_iter *iter)
{
    while (twl_iter_enter_group(iter) > 0) {
        struct iter_record record;
        while (twl_iter_next_record(iter, &record) > 0)
            continue;
    }
}

static const char *check_sealed_segment(struct segment_iter *iter, struct seal *seal)
{
    const char *wrong = NULL;

    if (twl_iter_load_index(iter, &seal->footer) < 0 || iter->index.count != seal->footer.index_entries)
        return "an index does not have its checksum";
    while (!wrong && twl_iter_enter_group(iter) > 0) {
        struct iter_record record;
        while (!wrong && twl_iter_next_record(iter, &record) > 0)
            wrong = compare_record(iter, &record, seal);
    }
    if (wrong)
        return wrong;
    return compare_footer(iter, seal);
}

/* The iterator is in front of the segment. */
static const char *check_segment(struct segment_iter *iter, bool is_whole)
{
    struct seal seal = { .min_ns = INT64_MAX, .max_ns = INT64_MIN };
    const bool is_sealed = is_whole && twl_segment_read_footer(iter->segment, &seal.footer) > 0;

    if (is_sealed)
        return check_sealed_segment(iter, &seal);
    pass_segment(iter);
    return NULL;
}

/* `position`: with which it begins; then, with which the next one does. */
static const char *check_segment_of_log(struct segment_iter *iter, const struct segment_set *set, size_t i,
                                        struct segment *segment, struct position *position)
{
    const bool is_fixed = set->entries[i].header.start_lsn > 0;
    if (is_fixed)
        *position = twl_position_before(&segment->header);
    const bool is_whole = segment->head_lsn <= 1 && twl_segment_set_bound(set, i) == UINT64_MAX;

    twl_iter_begin(iter, segment, *position);
    const char *wrong = check_segment(iter, is_whole);
    *position = iter->position;
    twl_iter_let_go(iter);
    return wrong;
}

static const char *check_segments(struct io *io, const struct segment_set *set)
{
    struct segment_iter iter = { 0 };
    struct position position = { 0 };
    const char *wrong = NULL;

    for (size_t i = 0; !wrong && i + 1 < set->started; i++) {
        struct segment segment;
        if (twl_log_snapshot_open_segment(io, &set->entries[i], &segment) < 0)
            break;
        wrong = check_segment_of_log(&iter, set, i, &segment, &position);
        twl_segment_close(&segment);
    }
    twl_iter_free(&iter);
    return wrong;
}

const char *find_false_seal(struct io *io)
{
    struct log_snapshot snapshot;
    struct twinlog_report report;
    const char *wrong = NULL;

    const int error = twl_log_snapshot_load(io, 0, &snapshot, &report);
    if (error == 0) {
        wrong = check_segments(io, &snapshot.set);
        twl_log_snapshot_free(&snapshot);
    }
    io->ops->destroy(io);
    return wrong;
}
