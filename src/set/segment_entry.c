/* SPDX-License-Identifier: Apache-2.0 */
/* One segment of a set that was loaded: where it begins, what other segments say of it, which one holds an LSN. */
#include "set/segment_set.h"

#include <errno.h>

#define FIRST_LOOK_BYTES BLOCK_BYTES /* a first group begins in the first data block */

static int look_at_first_group(const struct segment *segment, struct segment_entry *entry)
{
    struct segment_iter cursor = { .window_bytes = FIRST_LOOK_BYTES };
    twl_iter_begin(&cursor, segment, twl_position_before(&segment->header));
    int rc = twl_iter_enter_group(&cursor);
    entry->first_group = rc > 0 ? cursor.group : (struct group_header){ 0 };
    entry->first_lsn = entry->first_group.first_lsn;
    twl_iter_free(&cursor);
    return rc < 0 ? rc : 0;
}

int twl_segment_open_entry(struct io *io, const struct segment_entry *entry, struct segment *ret_segment)
{
    struct segment segment;
    enum header_state state;
    int rc = twl_segment_open(io, entry->name, IO_READ_ONLY, 0, &segment, &state);
    if (rc < 0)
        return rc;
    if (entry->has_second_header)
        rc = state == HEADER_NEWER ? -ENOENT : 0;
    else if (state != HEADER_VALID)
        rc = TWINLOG_ECORRUPT;
    else if (segment.header.segment_id != entry->header.segment_id)
        rc = -ENOENT;
    if (rc < 0) {
        twl_segment_close(&segment);
        return rc;
    }
    segment.header = entry->header;
    segment.seed = twl_segment_seed(&entry->header);
    segment.data_end = twl_segment_data_end(entry->header.bytes);
    segment.head_lsn = entry->head_lsn;
    if (!segment_is_mapped(&segment.header)) /* so that no room is made for bytes that do not exist */
        segment.header.bytes = min_u64(segment.header.bytes, segment.file_bytes);
    *ret_segment = segment;
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
    rc = twl_segment_read_footer(&segment, &entry->footer);
    if (rc >= 0) {
        entry->is_sealed = rc > 0;
        entry->first_lsn = entry->header.start_lsn;
        if (entry->first_lsn == 0 && entry->is_sealed) /* its first group may not check */
            entry->first_lsn = entry->footer.first_lsn;
        rc = entry->first_lsn == 0 ? look_at_first_group(&segment, entry) : 0;
    }
    twl_segment_close(&segment);
    entry->is_known = rc == 0;
    return rc;
}

int twl_segment_first_group(struct io *io, const struct segment_entry *entry, struct group_header *ret_group)
{
    struct segment_entry own = *entry;
    struct segment segment;
    *ret_group = entry->first_group;
    int rc = entry->first_group.first_lsn > 0 ? 0 : twl_segment_open_entry(io, entry, &segment);
    if (rc < 0 || entry->first_group.first_lsn > 0)
        return rc;
    rc = look_at_first_group(&segment, &own);
    twl_segment_close(&segment);
    *ret_group = own.first_group;
    return rc;
}

int twl_segment_find_groups(struct io *io, const struct segment_entry *entry, struct later_groups *ret_groups)
{
    struct segment_iter cursor = { 0 };
    struct segment segment;
    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;
    twl_iter_begin(&cursor, &segment, (struct position){ 0 });
    rc = twl_iter_find_later(&cursor, SEGMENT_DATA_OFFSET, UINT64_MAX, cursor.position, ret_groups);
    twl_iter_free(&cursor);
    twl_segment_close(&segment);
    return rc;
}

int twl_segment_try_look(struct io *io, struct segment_entry *entry)
{
    int rc = twl_segment_look(io, entry);
    if (rc != TWINLOG_ECORRUPT && rc != -ENOENT)
        return rc;
    entry->first_lsn = 0;
    entry->is_sealed = false;
    return 0;
}

uint64_t twl_segment_set_promise(const struct segment_set *set, size_t index)
{
    const struct segment_header *header = &set->entries[index].header;
    return header->start_lsn > 0 || header->epoch > set->truncation_epoch ? header->after_lsn : 0;
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
    uint64_t start_lsn = index + 1 < set->started ? set->entries[index + 1].header.start_lsn : 0;
    return start_lsn > 0 ? start_lsn : UINT64_MAX;
}

uint64_t twl_segment_set_truncation(const struct segment_set *set, uint64_t lsn, uint64_t sequence)
{
    const struct segment_entry *oldest = &set->entries[0];
    if (set->started > 0 && max_u64(set->first_lsn, oldest->first_lsn) <= lsn &&
        twl_sequence_before(&oldest->header) > sequence)
        return 1;
    for (size_t i = 0; i < set->started; i++) {
        const struct segment_header *header = &set->entries[i].header;
        if (header->start_lsn > 0 && header->start_lsn <= lsn && header->sequence > sequence)
            return header->start_lsn;
    }
    return 0;
}

int64_t twl_segment_set_find(struct io *io, struct segment_set *set, uint64_t lsn)
{
    size_t low = 0, high = set->started; /* below low: begin at or before lsn; from high on: behind it */
    while (low < high) {
        size_t middle = low + (high - low) / 2, known = middle;
        int rc = twl_segment_try_look(io, &set->entries[known]);
        while (rc == 0 && set->entries[known].first_lsn == 0 && known > low)
            rc = twl_segment_try_look(io, &set->entries[--known]);
        if (rc < 0)
            return rc;
        if (set->entries[known].first_lsn <= lsn)
            low = middle + 1;
        else
            high = known;
    }
    size_t at = low > 0 ? low - 1 : 0;
    while (at > 0 && set->entries[at].first_lsn == 0) /* unknown ones may hold it */
        at--;
    const struct segment_entry *entry = &set->entries[at];
    bool is_behind = entry->is_known && entry->is_sealed && entry->footer.last_lsn < lsn && at + 1 < low;
    return (int64_t)(is_behind ? at + 1 : at);
}

int64_t twl_segment_set_find_time(struct io *io, struct segment_set *set, int64_t time_ns)
{
    size_t low = 0, high = set->started > 0 ? set->started - 1 : 0; /* all entries below low are older */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int rc = twl_segment_try_look(io, &set->entries[middle]);
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

int twl_second_header_read(struct io *io, const char *name, struct segment_header *ret_header)
{
    enum header_state state = HEADER_FOREIGN;
    struct io_file *file;
    uint64_t file_bytes = 0;
    bool is_found = false;
    int rc = io_open(io, name, IO_READ_ONLY, &file);
    if (rc < 0)
        return rc;
    rc = io_size(file, &file_bytes);
    /* the end first: a file that was given a mapped one's first block has that one's there */
    const uint64_t ends[2] = { align_down(file_bytes, BLOCK_BYTES), SEGMENT_HEADER_BYTES };
    for (unsigned i = 0; rc == 0 && !is_found && state != HEADER_NEWER && i < 2; i++) {
        _Alignas(BLOCK_BYTES) unsigned char block[BLOCK_BYTES] = { 0 };
        const bool is_mapped = i == 1; /* then the file may be shorter than its header says */
        size_t size;
        if (ends[i] >= BLOCK_BYTES)
            rc = io_read(file, block, BLOCK_BYTES, ends[i] - BLOCK_BYTES, &size);
        state = twl_segment_header_decode(
            block + (is_mapped ? BLOCK_BYTES - HEADER_SECTOR_BYTES : FOOTER_SECTOR_BYTES), ret_header);
        is_found = state == HEADER_VALID && segment_is_mapped(ret_header) == is_mapped &&
                   (is_mapped || ret_header->bytes == ends[i]);
    }
    io_close(file);
    if (rc < 0 || state == HEADER_NEWER)
        return rc < 0 ? rc : TWINLOG_EVERSION;
    return is_found;
}

int twl_second_header_is_used(struct io *io, const struct segment_entry *entry)
{
    struct segment_entry own = *entry;
    struct later_groups groups = { 0 };
    int rc = twl_segment_look(io, &own);
    if (rc == 0 && !own.is_sealed)
        rc = twl_segment_find_groups(io, entry, &groups);
    return rc < 0 ? rc : own.is_sealed || groups.offset > 0;
}

static void add_group(const struct group_header *group, uint64_t *first_lsn, uint64_t *last_lsn)
{
    const uint64_t last = group->first_lsn + group->count - 1;
    *first_lsn = *first_lsn == 0 ? group->first_lsn : min_u64(*first_lsn, group->first_lsn);
    *last_lsn = max_u64(*last_lsn, last);
}

int twl_second_header_find_lost(struct io *io, const char *name, const uint8_t log_id[LOG_ID_BYTES],
                                uint64_t *ret_first_lsn, uint64_t *ret_last_lsn)
{
    struct segment segment = { 0 };
    struct group_header group;
    int rc = io_open(io, name, IO_READ_ONLY, &segment.file);
    *ret_first_lsn = *ret_last_lsn = 0;
    if (rc == 0)
        rc = io_size(segment.file, &segment.file_bytes);
    segment.header.bytes = min_u64(segment.file_bytes, SEGMENT_MAX_BYTES);
    struct segment_iter cursor = { 0 };
    if (rc == 0)
        twl_iter_begin(&cursor, &segment, (struct position){ 0 });
    const size_t size = GROUP_HEADER_BYTES + RECORD_HEADER_BYTES;
    for (uint64_t at = SEGMENT_DATA_OFFSET; rc == 0 && at + size <= segment.header.bytes; at += 8) {
        const unsigned char *bytes = twl_iter_bytes(&cursor, at, size, &rc);
        if (bytes && twl_group_header_guess(bytes, log_id, &group))
            add_group(&group, ret_first_lsn, ret_last_lsn);
    }
    twl_iter_free(&cursor);
    twl_segment_close(&segment);
    return rc;
}
