/* SPDX-License-Identifier: Apache-2.0 */
/* One segment of a set that was loaded: where it begins, what other segments say of it, which one holds an LSN. */
#include "set/segment_set.h"

#include <errno.h>

#define FIRST_LOOK_BYTES BLOCK_BYTES /* a first group begins in the first data block */

static int look_at_first_group(const struct segment *segment, struct segment_entry *entry)
{
    struct segment_iter iter = { .window_bytes = FIRST_LOOK_BYTES };

    twl_iter_begin(&iter, segment, twl_position_before(&segment->header));
    const int entered = twl_iter_enter_group(&iter);

    entry->first_group = (struct group_header){ 0 };
    if (entered > 0)
        entry->first_group = iter.group;
    entry->first_lsn = entry->first_group.first_lsn;
    twl_iter_free(&iter);

    if (entered < 0)
        return entered;
    return 0;
}

/* Is the file that was opened that of the entry? `state` and `header` are those of its first header now. */
static int check_opened(const struct segment_entry *entry, enum header_state state,
                        const struct segment_header *header)
{
    /* The first header counted for nothing when the set was loaded, unless a newer version has written one since. */
    if (entry->has_second_header && state == HEADER_NEWER)
        return -ENOENT;
    if (entry->has_second_header)
        return 0;

    if (state != HEADER_VALID)
        return TWINLOG_ECORRUPT;
    if (header->segment_id != entry->header.segment_id)
        return -ENOENT;
    return 0;
}

int twl_segment_open_entry(struct io *io, const struct segment_entry *entry, struct segment *ret_segment)
{
    struct segment segment;
    enum header_state state;

    int rc = twl_segment_open(io, entry->name, IO_READ_ONLY, 0, &segment, &state);
    if (rc < 0)
        return rc;

    rc = check_opened(entry, state, &segment.header);
    if (rc < 0) {
        twl_segment_close(&segment);
        return rc;
    }

    segment.header = entry->header;
    segment.seed = twl_segment_seed(&entry->header);
    segment.data_end = twl_segment_data_end(entry->header.bytes);
    segment.head_lsn = entry->head_lsn;

    /* So that no room is made for bytes that do not exist. */
    if (!segment_is_mapped(&segment.header))
        segment.header.bytes = min_u64(segment.header.bytes, segment.file_bytes);

    *ret_segment = segment;
    return 0;
}

/* Fills in the fields that `is_known` covers. */
static int look_into(const struct segment *segment, struct segment_entry *entry)
{
    const int found = twl_segment_read_footer(segment, &entry->footer);
    if (found < 0)
        return found;

    entry->is_sealed = found > 0;
    entry->first_lsn = entry->header.start_lsn;
    if (entry->first_lsn == 0 && entry->is_sealed) /* its first group may not check */
        entry->first_lsn = entry->footer.first_lsn;
    if (entry->first_lsn == 0)
        return look_at_first_group(segment, entry);
    return 0;
}

int twl_segment_look(struct io *io, struct segment_entry *entry)
{
    struct segment segment;

    if (entry->is_known)
        return 0;

    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;

    rc = look_into(&segment, entry);
    twl_segment_close(&segment);
    entry->is_known = rc == 0;
    return rc;
}

int twl_segment_first_group(struct io *io, const struct segment_entry *entry, struct group_header *ret_group)
{
    struct segment_entry own = *entry;
    struct segment segment;

    *ret_group = entry->first_group;
    if (entry->first_group.first_lsn > 0)
        return 0;

    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;

    rc = look_at_first_group(&segment, &own);
    twl_segment_close(&segment);
    *ret_group = own.first_group;
    return rc;
}

int twl_segment_find_groups(struct io *io, const struct segment_entry *entry, struct later_groups *ret_groups)
{
    struct segment_iter iter = { 0 };
    struct segment segment;

    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;

    twl_iter_begin(&iter, &segment, (struct position){ 0 });
    rc = twl_iter_find_later(&iter, SEGMENT_DATA_OFFSET, UINT64_MAX, iter.position, ret_groups);
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    return rc;
}

int twl_segment_try_look(struct io *io, struct segment_entry *entry)
{
    const int rc = twl_segment_look(io, entry);
    if (rc != TWINLOG_ECORRUPT && rc != -ENOENT)
        return rc;

    entry->first_lsn = 0;
    entry->is_sealed = false;
    return 0;
}

uint64_t twl_segment_set_promise(const struct segment_set *set, size_t index)
{
    const struct segment_header *header = &set->entries[index].header;
    const bool is_younger_than_truncation = header->start_lsn > 0 || header->epoch > set->truncation_epoch;

    if (!is_younger_than_truncation)
        return 0;
    return header->after_lsn;
}

uint64_t twl_segment_set_promise_behind(const struct segment_set *set, size_t index)
{
    uint64_t lsn = 0;

    for (size_t i = index + 1; i < set->started + set->spares; i++)
        lsn = max_u64(lsn, twl_segment_set_promise(set, i));
    return lsn;
}

uint64_t twl_segment_set_bound(const struct segment_set *set, size_t index)
{
    if (index + 1 >= set->started)
        return UINT64_MAX;

    const uint64_t start_lsn = set->entries[index + 1].header.start_lsn;
    if (start_lsn == 0)
        return UINT64_MAX;
    return start_lsn;
}

/* Does the set hold `lsn`, but the oldest segment continue a later one than that of the record? Then the record was
 * truncated, and the segment that the truncation began with was trimmed. */
static bool is_truncation_trimmed(const struct segment_set *set, uint64_t lsn, uint64_t sequence)
{
    if (set->started == 0)
        return false;

    const struct segment_entry *oldest = &set->entries[0];
    const bool holds_lsn = max_u64(set->first_lsn, oldest->first_lsn) <= lsn;
    return holds_lsn && twl_sequence_before(&oldest->header) > sequence;
}

uint64_t twl_segment_set_truncation(const struct segment_set *set, uint64_t lsn, uint64_t sequence)
{
    if (is_truncation_trimmed(set, lsn, sequence))
        return 1;

    for (size_t i = 0; i < set->started; i++) {
        const struct segment_header *header = &set->entries[i].header;
        if (header->start_lsn > 0 && header->start_lsn <= lsn && header->sequence > sequence)
            return header->start_lsn;
    }
    return 0;
}

/* The newest entry, of those from `low` to `*index`, of which it is known where it begins; else `low`. */
static int find_known(struct io *io, struct segment_set *set, size_t low, size_t *index)
{
    int rc = twl_segment_try_look(io, &set->entries[*index]);

    while (rc == 0 && set->entries[*index].first_lsn == 0 && *index > low) {
        --*index;
        rc = twl_segment_try_look(io, &set->entries[*index]);
    }

    return rc;
}

int64_t twl_segment_set_find(struct io *io, struct segment_set *set, uint64_t lsn)
{
    size_t low = 0, high = set->started; /* below low: begin at or before lsn; from high on: behind it */

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        size_t known = middle;
        const int rc = find_known(io, set, low, &known);
        if (rc < 0)
            return rc;

        if (set->entries[known].first_lsn <= lsn)
            low = middle + 1;
        else
            high = known;
    }

    /* Those of which nothing is known may hold it. */
    size_t at = 0;
    if (low > 0)
        at = low - 1;
    while (at > 0 && set->entries[at].first_lsn == 0)
        at--;

    /* But not this one, if it ends before; then the next one may, of which nothing is known. */
    const struct segment_entry *entry = &set->entries[at];
    const bool has_ended_before = entry->is_known && entry->is_sealed && entry->footer.last_lsn < lsn;
    if (has_ended_before && at + 1 < low)
        at++;
    return (int64_t)at;
}

int64_t twl_segment_set_find_time(struct io *io, struct segment_set *set, int64_t time_ns)
{
    size_t low = 0, high = 0; /* all entries below low are older */

    if (set->started > 0)
        high = set->started - 1;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int rc = twl_segment_try_look(io, &set->entries[middle]);
        if (rc < 0)
            return rc;

        const struct segment_entry *entry = &set->entries[middle];
        if (entry->is_sealed && entry->footer.max_time_so_far_ns < time_ns)
            low = middle + 1;
        else
            high = middle;
    }

    return (int64_t)low;
}

/* ---- the second header ------------------------------------------------------------------------- */

/* Reads the header that would be the second one of a file that ends at `end`, and belongs to a segment of that kind: 1.
 * 0 = there is none. */
static int read_second_header(struct io_file *file, uint64_t end, bool is_mapped,
                              struct segment_header *ret_header)
{
    _Alignas(BLOCK_BYTES) unsigned char block[BLOCK_BYTES] = { 0 };
    struct segment_header header;
    size_t size;

    if (end >= BLOCK_BYTES) {
        const int rc = io_read(file, block, BLOCK_BYTES, end - BLOCK_BYTES, &size);
        if (rc < 0)
            return rc;
    }

    uint64_t offset = FOOTER_SECTOR_BYTES;
    if (is_mapped)
        offset = BLOCK_BYTES - HEADER_SECTOR_BYTES;
    const enum header_state state = twl_segment_header_decode(block + offset, &header);
    if (state == HEADER_NEWER)
        return TWINLOG_EVERSION;
    if (state != HEADER_VALID || segment_is_mapped(&header) != is_mapped)
        return 0;

    /* The file of a mapped one may be shorter than its header says. */
    if (!is_mapped && header.bytes != end)
        return 0;
    *ret_header = header;
    return 1;
}

int twl_second_header_read(struct io *io, const char *name, struct segment_header *ret_header)
{
    struct io_file *file;
    uint64_t file_bytes = 0;
    int found = 0;

    int rc = io_open(io, name, IO_READ_ONLY, &file);
    if (rc < 0)
        return rc;

    /* The end first: a file that was given a mapped one's first block has that one's there. */
    rc = io_size(file, &file_bytes);
    if (rc == 0)
        found = read_second_header(file, align_down(file_bytes, BLOCK_BYTES), false, ret_header);
    if (rc == 0 && found == 0)
        found = read_second_header(file, SEGMENT_HEADER_BYTES, true, ret_header);

    io_close(file);
    if (rc < 0)
        return rc;
    return found;
}

int twl_second_header_is_used(struct io *io, const struct segment_entry *entry)
{
    struct segment_entry own = *entry;
    struct later_groups groups = { 0 };

    int rc = twl_segment_look(io, &own);
    if (rc < 0)
        return rc;
    if (own.is_sealed)
        return 1;

    rc = twl_segment_find_groups(io, entry, &groups);
    if (rc < 0)
        return rc;
    return groups.offset > 0;
}

static void add_group(const struct group_header *group, uint64_t *first_lsn, uint64_t *last_lsn)
{
    const uint64_t last = group->first_lsn + group->count - 1;

    if (*first_lsn == 0)
        *first_lsn = group->first_lsn;
    *first_lsn = min_u64(*first_lsn, group->first_lsn);
    *last_lsn = max_u64(*last_lsn, last);
}

int twl_second_header_find_lost(struct io *io, const char *name, const uint8_t log_id[LOG_ID_BYTES],
                                uint64_t *ret_first_lsn, uint64_t *ret_last_lsn)
{
    const size_t size = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
    struct segment segment = { 0 };
    struct segment_iter iter = { 0 };
    struct group_header group;

    *ret_first_lsn = 0;
    *ret_last_lsn = 0;
    int rc = io_open(io, name, IO_READ_ONLY, &segment.file);
    if (rc == 0)
        rc = io_size(segment.file, &segment.file_bytes);
    if (rc == 0) {
        segment.header.bytes = min_u64(segment.file_bytes, SEGMENT_MAX_BYTES);
        twl_iter_begin(&iter, &segment, (struct position){ 0 });
    }

    uint64_t at = SEGMENT_DATA_OFFSET;
    while (rc == 0 && at + size <= segment.header.bytes) {
        const unsigned char *bytes = twl_iter_bytes(&iter, at, size, &rc);
        if (bytes && twl_group_header_guess(bytes, log_id, &group))
            add_group(&group, ret_first_lsn, ret_last_lsn);
        at += 8;
    }

    twl_iter_free(&iter);
    twl_segment_close(&segment);
    return rc;
}
