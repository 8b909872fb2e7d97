/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The iterator: a walk through one segment.
 *
 * A group is entered if its header is valid for exactly this place (format.h), continues the chain, has the
 * next LSN, and is of the current epoch or begins a later one. A record is valid if its header is that of the
 * very next LSN in this epoch and its payload checks. Nothing is trusted before its checksum, every length is
 * checked against its container, and no allocation is larger than the segment.
 *
 * An open group has no header. One is made up: the group begins where the marker in front of it ends, and has
 * as many records as were found one after the other.
 */
#include "walk/segment_iter_inside.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MOST_GROUP_WINDOW_BYTES (16u << 20) /* twice the largest group of a writer with the default options */

/* ---- create and destroy ------------------------------------------------------------------------ */

void twl_iter_begin(struct segment_iter *cursor, const struct segment *segment, struct position position)
{
    twl_iter_let_go(cursor);
    *cursor = (struct segment_iter){
        .segment = segment,
        .window_bytes = cursor->window_bytes,
        .maps = cursor->maps,
        .passes_claims = cursor->passes_claims,
        .window = cursor->window,
        .index = { .entries = cursor->index.entries, .room = cursor->index.room },
        .position = position,
    };
    if (cursor->maps)
        twl_iter_take_view(cursor);
}

void twl_iter_free(struct segment_iter *cursor)
{
    twl_iter_let_go(cursor);
    free(cursor->window.buffer);
    free(cursor->index.entries);
    *cursor = (struct segment_iter){ 0 };
}

struct position twl_position_before(const struct segment_header *header)
{
    if (header->start_lsn == 0)
        return (struct position){ 0 };
    return (struct position){
        .next_lsn = header->start_lsn,
        .chain = header->start_chain,
        .epoch.number = header->previous > 0 ? header->epoch : 0,
    };
}

/* ---- groups ------------------------------------------------------------------------------------ */

bool twl_group_continues(const struct group_header *group, const struct position *at)
{
    const bool begins_epoch = group->kind == GROUP_START && group->epoch.number > at->epoch.number;

    if (group->first_lsn != at->next_lsn || group->chain != at->chain)
        return false;
    return begins_epoch || is_same_epoch(group->epoch, at->epoch);
}

/* A newer version's kind and flags are unknown, but such a header is not there by chance. If nothing is
 * known of the history, as in a repair, the header is ignored. */
static bool may_continue(const struct segment_iter *cursor, const struct group_header *group)
{
    const struct position *at = &cursor->position;

    if (at->next_lsn == 0 || group->first_lsn != at->next_lsn || group->chain != at->chain)
        return false;
    return group->epoch.number >= at->epoch.number;
}

static bool is_in_place(const struct group_header *group, enum place_in_segment place)
{
    const bool is_first = (group->flags & GROUP_FIRST) != 0;

    switch (place) {
    case PLACE_FIRST:
        return is_first;
    case PLACE_LATER:
        return !is_first;
    case PLACE_ANY:
        break;
    }
    return true;
}

/* Enters the group with that header. */
static void step_in(struct segment_iter *cursor, uint64_t offset, const struct group_header *group)
{
    cursor->before = cursor->position;
    cursor->is_at_first = false;
    cursor->group = *group;
    cursor->group_offset = offset;
    cursor->record_offset = offset + GROUP_HEADER_BYTES;
    cursor->records_left = group->count;
    cursor->epoch_seed = twl_epoch_seed(cursor->segment->header.log_id, group->epoch);
    cursor->entered_offset = cursor->record_offset;
    cursor->entered = group->count;
    cursor->is_open = false;
    cursor->offset = offset + group->bytes;
    cursor->position = (struct position){ .next_lsn = group->first_lsn + group->count,
                                          .chain = twl_group_chain(group),
                                          .epoch = group->epoch };
}

int twl_iter_enter_at(struct segment_iter *cursor, uint64_t offset, enum place_in_segment place)
{
    const struct segment *segment = cursor->segment;
    struct group_header group;
    int error;

    if (offset > segment->data_end - GROUP_HEADER_BYTES)
        return 0;
    const unsigned char *bytes = twl_iter_bytes(cursor, offset, GROUP_HEADER_BYTES, &error);
    if (!bytes)
        return error;

    const enum decoded decoded = twl_group_header_judge(bytes, segment->seed, offset, &group);
    if (decoded == DECODED_NONE || !is_in_place(&group, place))
        return 0;
    if (decoded == DECODED_NEWER)
        return may_continue(cursor, &group) ? TWINLOG_EVERSION : 0;
    if (group.bytes > segment->data_end - offset)
        return 0;
    /* nothing is known in front of the first group that is seen of a segment */
    if (cursor->position.next_lsn > 0 && !twl_group_continues(&group, &cursor->position))
        return 0;

    step_in(cursor, offset, &group);
    return 1;
}

int twl_iter_scan(struct segment_iter *cursor, uint64_t from, uint64_t end, enum place_in_segment place)
{
    for (uint64_t at = from; at < end; at += 8) {
        int error;
        const unsigned char *bytes = bytes_at(cursor, at, 8, &error);

        if (!bytes)
            return error;
        if (!twl_group_header_maybe(bytes)) /* else what may be in the next block is read */
            continue;
        const int result = twl_iter_enter_at(cursor, at, place);
        if (result != 0)
            return result;
    }
    return 0;
}

static int enter_first_group(struct segment_iter *cursor)
{
    const uint64_t block_end = SEGMENT_DATA_OFFSET + BLOCK_BYTES;
    const int result = twl_iter_scan(cursor, SEGMENT_DATA_OFFSET, block_end, PLACE_FIRST);

    if (result == 0)
        cursor->offset = SEGMENT_DATA_OFFSET;
    return result;
}

/* ---- the open group ---------------------------------------------------------------------------- */

/* Offsets in a group have 32 bits. */
static uint64_t open_end(const struct segment_iter *cursor)
{
    return min_u64(cursor->segment->data_end, OPEN_GROUP_OFFSET + align_down(UINT32_MAX, 8));
}

static bool is_claimed(const struct segment_iter *cursor, const unsigned char *bytes, uint64_t lsn,
                       uint32_t *ret_size)
{
    uint8_t owner;

    return twl_claim_decode(load_le64(bytes), cursor->epoch_seed, lsn, ret_size, &owner);
}

/* Decodes the header of record `lsn`, or a claim in its place: 1. 0 = there is none. */
static inline int decode_record(struct segment_iter *cursor, const unsigned char *bytes, uint64_t lsn,
                                struct record_header *ret_header)
{
    const bool may_be_claim = cursor->is_open && cursor->passes_claims;

    cursor->is_claim = false;
    const enum decoded decoded = twl_record_header_judge(bytes, cursor->epoch_seed, lsn, ret_header);
    if (decoded == DECODED_VALID)
        return 1;
    if (decoded == DECODED_NEWER)
        return TWINLOG_EVERSION;

    *ret_header = (struct record_header){ .kind = RECORD_FILLER };
    if (!may_be_claim || !is_claimed(cursor, bytes, lsn, &ret_header->size))
        return 0;
    if (ret_header->size == CLAIM_END)
        return 0;
    cursor->is_claim = true;
    return 1;
}

int twl_iter_extend(struct segment_iter *cursor)
{
    const uint64_t at = cursor->offset, end = open_end(cursor);
    struct record_header header;
    int error;

    if (at > end - RECORD_HEADER_BYTES || cursor->position.next_lsn > LAST_LSN)
        return 0;
    const unsigned char *bytes = twl_iter_bytes(cursor, at, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error;
    const int decoded = decode_record(cursor, bytes, cursor->position.next_lsn, &header);
    if (decoded <= 0)
        return decoded;
    const uint64_t record_bytes = twl_record_bytes(header.size);
    if (record_bytes > end - at)
        return 0;

    atomic_thread_fence(memory_order_acquire); /* in a mapping: what is behind it was stored before it */
    cursor->before = cursor->position;
    cursor->entered_offset = cursor->record_offset = at;
    cursor->entered = cursor->records_left = 1;
    cursor->group.count++;
    cursor->group.bytes += (uint32_t)record_bytes;
    cursor->offset += record_bytes;
    cursor->position.next_lsn++;
    return 1;
}

void twl_iter_place_in_open_group(struct segment_iter *cursor, uint64_t first_lsn, uint32_t count,
                                  uint64_t offset)
{
    const struct group_header group = { .first_lsn = first_lsn,
                                        .count = count,
                                        .bytes = (uint32_t)(offset - OPEN_GROUP_OFFSET),
                                        .chain = cursor->position.chain,
                                        .epoch = cursor->position.epoch,
                                        .flags = GROUP_MAPPED };

    step_in(cursor, OPEN_GROUP_OFFSET, &group);
    cursor->records_left = 0;
    cursor->is_open = true;
}

/* To where the walk was, with what has been read meanwhile. */
static void go_back(struct segment_iter *cursor, const struct segment_iter *before)
{
    const struct window window = cursor->window;

    *cursor = *before;
    cursor->window = window;
}

/* Enters the first record of a group that may be open. The marker in front of it was passed; without it
 * nothing is known of the group. */
static int enter_open_group(struct segment_iter *cursor)
{
    const bool is_its_place =
        segment_is_mapped(&cursor->segment->header) && cursor->offset == OPEN_GROUP_OFFSET;

    if (!is_its_place || cursor->is_at_first || cursor->position.next_lsn == 0)
        return 0;
    const struct segment_iter before = *cursor;
    twl_iter_place_in_open_group(cursor, cursor->position.next_lsn, 0, OPEN_RECORDS_OFFSET);
    const int result = twl_iter_extend(cursor);
    if (result <= 0)
        go_back(cursor, &before);
    return result;
}

/* Drops the last record that was entered. */
static void back_out_of_record(struct segment_iter *cursor)
{
    cursor->position = cursor->before;
    cursor->offset = cursor->entered_offset;
    cursor->records_left = 0;
    cursor->group.bytes = (uint32_t)(cursor->entered_offset - cursor->group_offset);
    cursor->group.count--;
    if (cursor->group.count == 0) {
        cursor->is_open = false;
        cursor->offset = OPEN_GROUP_OFFSET;
    }
}

/* Is the cursor behind the open group, or behind what was one and has its header now? */
static bool is_behind_open_group(const struct segment_iter *cursor)
{
    const struct group_header *group = &cursor->group;

    return (group->flags & GROUP_MAPPED) && cursor->group_offset == OPEN_GROUP_OFFSET &&
           cursor->offset == OPEN_GROUP_OFFSET + group->bytes;
}

/* The header of a group leaves the word that ended it where it is. */
int twl_iter_has_ended(struct segment_iter *cursor)
{
    const bool is_behind = is_behind_open_group(cursor);
    const uint64_t at = is_behind ? cursor->offset : OPEN_RECORDS_OFFSET;
    uint32_t size;
    int error;

    if (!segment_is_mapped(&cursor->segment->header))
        return 0;
    if (!is_behind && cursor->offset != OPEN_GROUP_OFFSET)
        return 0;
    if (at > open_end(cursor) - RECORD_HEADER_BYTES)
        return 1;
    const unsigned char *bytes = twl_iter_bytes(cursor, at, sizeof(uint64_t), &error);
    if (!bytes)
        return error;
    return is_claimed(cursor, bytes, cursor->position.next_lsn, &size) && size == CLAIM_END;
}

/* ---- groups of all kinds ------------------------------------------------------------------------ */

/* As twl_iter_enter_group(), but passes nothing. A group begins where the one before ends, or at the next block if the
 * writer pads. */
static int enter_next(struct segment_iter *cursor)
{
    const uint64_t next_block = align_up(cursor->offset, BLOCK_BYTES);
    const enum place_in_segment place = cursor->is_at_first ? PLACE_FIRST : PLACE_LATER;
    int result = 0;

    if (cursor->offset == 0)
        return enter_first_group(cursor);

    if (cursor->is_open)
        result = twl_iter_extend(cursor);
    if (result == 0)
        result = twl_iter_enter_at(cursor, cursor->offset, place);
    if (result == 0)
        result = enter_open_group(cursor);
    if (result == 0 && next_block != cursor->offset)
        result = twl_iter_enter_at(cursor, next_block, place);
    return result;
}

/* Was the group that was entered durable? A crash leaves groups behind a torn one. These are sound, and no part of the
 * log: recovery has found that neither they nor what follows them names them as durable (later.c). A group that begins
 * at the head may be a torn one itself. */
static int was_durable(struct segment_iter *cursor, bool *ret_was_durable)
{
    const struct segment_iter entered = *cursor;
    const struct group_header *group = &cursor->group;
    const struct position place = { .next_lsn = group->first_lsn };
    const bool may_tell = group->count == 0 || group->first_lsn < cursor->segment->head_lsn;
    int result = 1;

    *ret_was_durable = may_tell && twl_group_proves(group, place);
    while (!*ret_was_durable) {
        result = enter_next(cursor);
        if (result <= 0 || cursor->is_open)
            break;
        *ret_was_durable = twl_group_proves(group, place);
    }
    go_back(cursor, &entered);
    return result < 0 ? result : 0;
}

/* What was removed is not missed, so only what leads to the head must be found. A group behind the place tells its
 * LSN. If it begins in front of the head or there, everything that is kept is in it or behind it. */
static int pass_removed_groups(struct segment_iter *cursor)
{
    const struct segment_iter before = *cursor;
    struct later_groups later;
    bool leads_to_head = false;

    int rc = twl_iter_enter_later(cursor, &later);
    const bool is_there = rc > 0 && cursor->group.first_lsn <= cursor->segment->head_lsn;
    if (is_there)
        rc = was_durable(cursor, &leads_to_head);
    if (rc < 0 || !leads_to_head) {
        go_back(cursor, &before);
        return rc < 0 ? rc : 0;
    }
    cursor->has_passed = true;
    return 1;
}

int twl_iter_enter_group(struct segment_iter *cursor)
{
    cursor->has_passed = false;
    const int result = enter_next(cursor);
    if (result != 0)
        return result;

    const bool is_removed = !cursor->is_open && cursor->position.next_lsn < cursor->segment->head_lsn;
    return is_removed ? pass_removed_groups(cursor) : 0;
}

void twl_iter_back_out(struct segment_iter *cursor)
{
    const struct group_header *group = &cursor->group;
    if (cursor->is_open) {
        back_out_of_record(cursor);
        return;
    }
    cursor->position = cursor->before;
    if (cursor->position.next_lsn == 0)
        cursor->position =
            (struct position){ .next_lsn = group->first_lsn, .chain = group->chain, .epoch = group->epoch };
    cursor->offset = cursor->group_offset;
    cursor->is_at_first = (group->flags & GROUP_FIRST) != 0;
    cursor->records_left = 0;
}

/* ---- records ----------------------------------------------------------------------------------- */

int twl_iter_peek(struct segment_iter *cursor, struct record_header *ret_header)
{
    int error;

    if (cursor->records_left == 0)
        return 0;
    const unsigned char *bytes = bytes_at(cursor, cursor->record_offset, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error < 0 ? error : TWINLOG_ECORRUPT;
    const int decoded = decode_record(cursor, bytes, twl_iter_next_lsn(cursor), ret_header);
    if (decoded < 0)
        return decoded;
    if (decoded == 0)
        return TWINLOG_ECORRUPT;

    const uint64_t room = cursor->group_offset + cursor->group.bytes - cursor->record_offset;
    const uint64_t others = (uint64_t)(cursor->records_left - 1) * RECORD_HEADER_BYTES;
    return twl_record_bytes(ret_header->size) + others <= room ? 1 : TWINLOG_ECORRUPT;
}

int twl_iter_next_record(struct segment_iter *cursor, struct cursor_record *ret_record)
{
    struct cursor_record record;
    int error;

    const int result = twl_iter_peek(cursor, &record.header);
    if (result <= 0)
        return result;
    record.lsn = twl_iter_next_lsn(cursor);
    record.offset = cursor->record_offset;

    const size_t size = (size_t)twl_record_bytes(record.header.size);
    const unsigned char *bytes = bytes_at(cursor, cursor->record_offset, size, &error);
    if (!bytes)
        return error < 0 ? error : TWINLOG_ECORRUPT;
    record.payload = bytes + RECORD_HEADER_BYTES;
    if (!cursor->is_claim && !twl_record_payload_is_valid(&record.header, record.payload))
        return TWINLOG_ECORRUPT;

    pass_record(cursor, &record.header);
    *ret_record = record;
    return 1;
}

/* The next record does not check. If it was removed, moves behind it, or behind the group if all of it was. */
static int pass_removed_record(struct segment_iter *cursor)
{
    const uint64_t head_lsn = cursor->segment->head_lsn;

    if (cursor->is_open || twl_iter_next_lsn(cursor) >= head_lsn)
        return TWINLOG_ECORRUPT;
    if (cursor->position.next_lsn > head_lsn)
        return twl_iter_skip_record(cursor);
    cursor->record_offset = cursor->offset;
    cursor->records_left = 0;
    return 1;
}

int twl_iter_next_kept(struct segment_iter *cursor, struct cursor_record *ret_record)
{
    for (;;) {
        const int result = twl_iter_next_record(cursor, ret_record);
        if (result != TWINLOG_ECORRUPT)
            return result;
        const int passed = pass_removed_record(cursor);
        if (passed <= 0)
            return passed;
    }
}

void twl_iter_unread(struct segment_iter *cursor, const struct cursor_record *record)
{
    cursor->record_offset = record->offset;
    cursor->records_left++;
}

int twl_iter_skip_record(struct segment_iter *cursor)
{
    struct record_header header = { 0 };

    const int result = twl_iter_peek(cursor, &header);
    if (result > 0)
        pass_record(cursor, &header);
    return result;
}

/* Called only when the whole group is known to be good, because index entries of a torn group could not be removed. */
static int summarise_group(struct segment_iter *cursor)
{
    const bool may_be_removed = cursor->position.next_lsn <= cursor->segment->head_lsn;
    struct summary *summary = cursor->summary;
    struct record_header header;
    int result;

    cursor->record_offset = cursor->entered_offset;
    cursor->records_left = cursor->entered;
    while ((result = twl_iter_peek(cursor, &header)) > 0) {
        twl_summary_add_record(summary, twl_iter_next_lsn(cursor), cursor->group_offset,
                               (uint32_t)(cursor->record_offset - cursor->group_offset), header.time_ns);
        pass_record(cursor, &header);
    }
    const bool is_rest_removed = result == TWINLOG_ECORRUPT && may_be_removed;
    if (result < 0 && !is_rest_removed)
        return result;

    twl_summary_end_group(summary, &cursor->group, cursor->group_offset);
    if (cursor->is_open)
        summary->open_lsn = cursor->group.first_lsn;
    return 0;
}

/* Has the group that was entered in memory, if it will be read and is not too large: it is walked twice if there is a
 * summary, or if it is one that a walk begins at. An open group is entered record by record. */
static int read_group(struct segment_iter *cursor)
{
    const uint32_t most_bytes = cursor->summary ? MOST_GROUP_WINDOW_BYTES : MOST_GROUP_WINDOW_BYTES / 16;
    int error;

    if (cursor->is_open || cursor->group.bytes > most_bytes)
        return 0;
    (void)twl_iter_bytes(cursor, cursor->group_offset, cursor->group.bytes, &error);
    return error;
}

/* Goes through the group that was entered. TWINLOG_ECORRUPT: it is not whole. */
static int check_group(struct segment_iter *cursor)
{
    struct cursor_record record;
    int result;

    const int rc = read_group(cursor);
    if (rc < 0)
        return rc;
    while ((result = twl_iter_next_kept(cursor, &record)) > 0)
        continue;
    if (result < 0)
        return result;
    if (cursor->record_offset != cursor->offset)
        return TWINLOG_ECORRUPT;
    return cursor->summary ? summarise_group(cursor) : 0;
}

int twl_iter_accept_group(struct segment_iter *cursor)
{
    const int result = twl_iter_enter_group(cursor);
    if (result <= 0)
        return result;

    const int rc = check_group(cursor);
    if (rc == 0)
        return 1;
    twl_iter_back_out(cursor);
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

/* May a group begin there, and may its header alone say where a walk goes on? */
static bool is_group_offset(const struct segment *segment, uint64_t offset)
{
    if (segment_is_mapped(&segment->header) || offset % 8 != 0)
        return false;
    return offset >= SEGMENT_DATA_OFFSET && offset <= segment->data_end - GROUP_HEADER_BYTES;
}

int twl_iter_pass_to(struct segment_iter *cursor, uint64_t offset)
{
    const struct group_header *group = &cursor->group;

    if (!is_group_offset(cursor->segment, offset))
        return 0;
    twl_iter_place_at(cursor, offset, (struct position){ 0 });
    const int result = twl_iter_accept_group(cursor);
    if (result <= 0)
        return result;

    const bool is_proof = group->durable_lsn == group->first_lsn - 1;
    if (cursor->group_offset != offset || !is_proof)
        return 0;
    twl_iter_back_out(cursor);
    return 1;
}
