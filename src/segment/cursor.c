/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk through one segment.
 *
 * A group is entered if its header is valid for exactly this place (format.h), continues the chain, has
 * the next LSN, and is of the current epoch, or begins a later one. Its records are valid if their
 * header is that of the very next LSN in this epoch and their payload checks. Nothing is believed
 * before its checksum, every length is checked against what holds it, and nothing larger than the
 * segment is ever allocated.
 */
#include "segment/cursor.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES (256u * 1024)

void twl_cursor_begin(struct cursor *cursor, const struct segment *segment, struct position position)
{
    struct window window = cursor->window;
    window.size = 0;
    *cursor = (struct cursor){
        .segment = segment, .window_bytes = cursor->window_bytes, .window = window, .position = position
    };
}

struct position twl_position_before(const struct segment *segment)
{
    return (struct position){ .next_lsn = segment->header.sequence == 1 ? 1 : 0 };
}

void twl_cursor_free(struct cursor *cursor)
{
    free(cursor->window.bytes);
    *cursor = (struct cursor){ 0 };
}

void twl_cursor_refresh(struct cursor *cursor)
{
    cursor->window.size = 0;
}

static int grow_window(struct cursor *cursor, size_t need)
{
    struct window *window = &cursor->window;
    uint64_t usual =
        cursor->window_bytes ? cursor->window_bytes : min_u64(WINDOW_BYTES, cursor->segment->header.bytes);
    size_t capacity = (size_t)align_up(max_u64(need, usual), BLOCK_BYTES);
    if (capacity <= window->capacity)
        return 0;
    unsigned char *bytes = aligned_alloc(BLOCK_BYTES, capacity);
    if (!bytes)
        return -ENOMEM;
    free(window->bytes);
    *window = (struct window){ .bytes = bytes, .capacity = capacity };
    return 0;
}

const unsigned char *twl_cursor_bytes(struct cursor *cursor, uint64_t offset, size_t size, int *ret_error)
{
    struct window *window = &cursor->window;
    *ret_error = 0;
    if (offset > cursor->segment->header.bytes || size > cursor->segment->header.bytes - offset)
        return NULL;
    bool is_inside = window->size > 0 && offset >= window->start && offset - window->start <= window->size &&
                     size <= window->size - (offset - window->start);
    if (!is_inside) {
        uint64_t start = align_down(offset, BLOCK_BYTES);
        *ret_error = grow_window(cursor, (size_t)(offset - start) + size);
        if (*ret_error == 0) {
            window->start = start;
            *ret_error =
                io_read(cursor->segment->file, window->bytes, window->capacity, start, &window->size);
        }
        if (*ret_error < 0) {
            window->size = 0;
            return NULL;
        }
        if (window->size < (size_t)(offset - start) + size)
            return NULL;
    }
    return window->bytes + (offset - window->start);
}

static bool continues(const struct cursor *cursor, const struct group_header *group)
{
    const struct position *at = &cursor->position;
    if (at->next_lsn == 0) /* the first group seen of this segment */
        return true;
    bool is_same_epoch = group->epoch.number == at->epoch.number && group->epoch.salt == at->epoch.salt;
    bool begins_epoch = group->kind == GROUP_START && group->epoch.number > at->epoch.number;
    return group->first_lsn == at->next_lsn && group->chain == at->chain && (is_same_epoch || begins_epoch);
}

static int enter_at(struct cursor *cursor, uint64_t offset, bool is_first)
{
    const struct segment *segment = cursor->segment;
    struct group_header group;
    int error;
    if (offset + GROUP_HEADER_BYTES > segment->data_end)
        return 0;
    const unsigned char *bytes = twl_cursor_bytes(cursor, offset, GROUP_HEADER_BYTES, &error);
    if (!bytes)
        return error;
    if (!twl_group_header_decode(bytes, segment->seed, offset, &group) ||
        group.bytes > segment->data_end - offset || ((group.flags & GROUP_FIRST) != 0) != is_first ||
        !continues(cursor, &group))
        return 0;

    cursor->before = cursor->position;
    cursor->is_at_first = false;
    cursor->group = group;
    cursor->group_offset = offset;
    cursor->record_offset = offset + GROUP_HEADER_BYTES;
    cursor->records_left = group.count;
    cursor->epoch_seed = twl_epoch_seed(segment->header.log_id, group.epoch);
    cursor->offset = offset + group.bytes;
    cursor->position = (struct position){ .next_lsn = group.first_lsn + group.count,
                                          .chain = group.checksum,
                                          .epoch = group.epoch };
    return 1;
}

static int enter_first_group(struct cursor *cursor)
{
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < BLOCK_BYTES; at += 8)
        rc = enter_at(cursor, SEGMENT_DATA_OFFSET + at, true);
    if (rc == 0)
        cursor->offset = SEGMENT_DATA_OFFSET;
    return rc;
}

int twl_cursor_enter_group(struct cursor *cursor)
{
    if (cursor->offset == 0)
        return enter_first_group(cursor);
    /* A group begins where the one before ends, or at the next block where the writer pads. */
    int rc = enter_at(cursor, cursor->offset, cursor->is_at_first);
    uint64_t next_block = align_up(cursor->offset, BLOCK_BYTES);
    if (rc == 0 && next_block != cursor->offset)
        rc = enter_at(cursor, next_block, cursor->is_at_first);
    return rc;
}

/* Header of the record at cursor->record_offset, with the bytes it claims known to be in the group. */
static int look_at_record(struct cursor *cursor, struct record_header *ret_header)
{
    int error;
    if (cursor->records_left == 0)
        return 0;
    const unsigned char *bytes = twl_cursor_bytes(cursor, cursor->record_offset, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error ? error : TWINLOG_ECORRUPT;
    uint64_t lsn = cursor->position.next_lsn - cursor->records_left;
    uint64_t room = cursor->group_offset + cursor->group.bytes - cursor->record_offset;
    uint64_t others = (uint64_t)(cursor->records_left - 1) * RECORD_HEADER_BYTES;
    if (!twl_record_header_decode(bytes, cursor->epoch_seed, lsn, ret_header) ||
        twl_record_bytes(ret_header->size) + others > room)
        return TWINLOG_ECORRUPT;
    return 1;
}

static void pass_record(struct cursor *cursor, const struct record_header *header)
{
    cursor->record_offset += twl_record_bytes(header->size);
    cursor->records_left--;
}

int twl_cursor_next_record(struct cursor *cursor, struct cursor_record *ret_record)
{
    struct cursor_record record;
    int rc = look_at_record(cursor, &record.header);
    if (rc <= 0)
        return rc;
    record.lsn = cursor->position.next_lsn - cursor->records_left;
    record.offset = cursor->record_offset;
    const unsigned char *bytes =
        twl_cursor_bytes(cursor, cursor->record_offset, (size_t)twl_record_bytes(record.header.size), &rc);
    if (!bytes)
        return rc ? rc : TWINLOG_ECORRUPT;
    record.payload = bytes + RECORD_HEADER_BYTES;
    if (!twl_record_payload_is_valid(&record.header, record.payload))
        return TWINLOG_ECORRUPT;
    pass_record(cursor, &record.header);
    *ret_record = record;
    return 1;
}

int twl_cursor_skip_record(struct cursor *cursor)
{
    struct record_header header;
    int rc = look_at_record(cursor, &header);
    if (rc > 0)
        pass_record(cursor, &header);
    return rc;
}

void twl_cursor_back_out(struct cursor *cursor)
{
    const struct group_header *group = &cursor->group;
    cursor->position = cursor->before;
    if (cursor->position.next_lsn == 0)
        cursor->position =
            (struct position){ .next_lsn = group->first_lsn, .chain = group->chain, .epoch = group->epoch };
    cursor->offset = cursor->group_offset;
    cursor->is_at_first = (group->flags & GROUP_FIRST) != 0;
    cursor->records_left = 0;
}

int twl_cursor_accept_group(struct cursor *cursor)
{
    struct cursor_record record;
    int rc = twl_cursor_enter_group(cursor);
    if (rc <= 0)
        return rc;
    while ((rc = twl_cursor_next_record(cursor, &record)) > 0)
        continue;
    if (rc == 0 && cursor->record_offset == cursor->offset)
        return 1;
    twl_cursor_back_out(cursor);
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

bool twl_group_proves(const struct group_header *group, struct position stop)
{
    /* Either it names the missing record as durable, or nothing at all was in flight when it was written,
     * so that everything in front of it was durable, marks without records included. */
    return group->durable_lsn >= stop.next_lsn || group->durable_lsn == group->first_lsn - 1;
}

static void look_for_group(const struct cursor *cursor, const unsigned char *bytes, uint64_t offset,
                           struct position stop, struct later_groups *later)
{
    struct group_header group;
    if (!twl_group_header_maybe(bytes) ||
        !twl_group_header_decode(bytes, cursor->segment->seed, offset, &group))
        return;
    bool is_stale = group.epoch.number < stop.epoch.number ||
                    (group.epoch.number == stop.epoch.number && group.epoch.salt != stop.epoch.salt);
    /* the torn group itself, which would have continued here */
    bool is_it = group.first_lsn == stop.next_lsn && group.chain == stop.chain;
    if (is_stale || is_it || group.first_lsn < stop.next_lsn)
        return;
    if (later->offset == 0) {
        later->offset = offset;
        later->first_lsn = group.first_lsn;
    }
    later->is_proof = later->is_proof || twl_group_proves(&group, stop);
}

static bool is_zero(const unsigned char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

int twl_cursor_find_later(struct cursor *cursor, uint64_t from, struct position stop,
                          struct later_groups *ret_later)
{
    *ret_later = (struct later_groups){ 0 };
    uint64_t end = cursor->segment->data_end;
    uint64_t at = align_up(from, 8);
    while (at + GROUP_HEADER_BYTES <= end) {
        /* up to the end of the block; a header may reach into the next one */
        uint64_t block_end = min_u64(align_down(at, BLOCK_BYTES) + BLOCK_BYTES, end);
        uint64_t last = min_u64(block_end - 8, end - GROUP_HEADER_BYTES);
        size_t size = (size_t)(last - at) + GROUP_HEADER_BYTES;
        int error;
        const unsigned char *bytes = twl_cursor_bytes(cursor, at, size, &error);
        if (!bytes)
            return error;
        if (!is_zero(bytes, size))
            for (uint64_t offset = at; offset <= last; offset += 8)
                look_for_group(cursor, bytes + (offset - at), offset, stop, ret_later);
        at = block_end;
    }
    return 0;
}
