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

void twl_iter_begin(struct segment_iter *iter, const struct segment *segment, struct position position)
{
    twl_iter_let_go(iter);
    *iter = (struct segment_iter){
        .segment = segment,
        .window_bytes = iter->window_bytes,
        .maps = iter->maps,
        .passes_claims = iter->passes_claims,
        .file_bytes = segment->file_bytes,
        .window = iter->window,
        .index = { .entries = iter->index.entries, .room = iter->index.room },
        .position = position,
    };
    if (iter->maps)
        twl_iter_take_view(iter);
}

void twl_iter_free(struct segment_iter *iter)
{
    twl_iter_let_go(iter);
    free(iter->window.buffer);
    free(iter->index.entries);
    *iter = (struct segment_iter){ 0 };
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
static bool may_continue(const struct segment_iter *iter, const struct group_header *group)
{
    const struct position *at = &iter->position;

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
static void step_in(struct segment_iter *iter, uint64_t offset, const struct group_header *group)
{
    iter->before = iter->position;
    iter->is_at_first = false;
    iter->group = *group;
    iter->group_offset = offset;
    iter->record_offset = offset + GROUP_HEADER_BYTES;
    iter->records_left = group->count;
    iter->epoch_seed = twl_epoch_seed(iter->segment->header.log_id, group->epoch);
    iter->entered_offset = iter->record_offset;
    iter->entered = group->count;
    iter->is_open = false;
    iter->offset = offset + group->bytes;
    iter->position = (struct position){ .next_lsn = group->first_lsn + group->count,
                                        .chain = twl_group_chain(group),
                                        .epoch = group->epoch };
}

int twl_iter_enter_at(struct segment_iter *iter, uint64_t offset, enum place_in_segment place)
{
    const struct segment *segment = iter->segment;
    struct group_header group;
    int error;

    if (offset > segment->data_end - GROUP_HEADER_BYTES)
        return 0;
    const unsigned char *bytes = twl_iter_bytes(iter, offset, GROUP_HEADER_BYTES, &error);
    if (!bytes)
        return error;

    const enum decoded decoded = twl_group_header_judge(bytes, segment->seed, offset, &group);
    if (decoded == DECODED_NONE || !is_in_place(&group, place))
        return 0;
    if (decoded == DECODED_NEWER)
        return may_continue(iter, &group) ? TWINLOG_EVERSION : 0;
    if (group.bytes > segment->data_end - offset)
        return 0;
    /* nothing is known in front of the first group that is seen of a segment */
    if (iter->position.next_lsn > 0 && !twl_group_continues(&group, &iter->position))
        return 0;

    step_in(iter, offset, &group);
    return 1;
}

int twl_iter_scan(struct segment_iter *iter, uint64_t from, uint64_t end, enum place_in_segment place)
{
    for (uint64_t at = from; at < end; at += 8) {
        int error;
        const unsigned char *bytes = bytes_at(iter, at, 8, &error);

        if (!bytes)
            return error;
        if (!twl_group_header_maybe(bytes)) /* else what may be in the next block is read */
            continue;
        const int result = twl_iter_enter_at(iter, at, place);
        if (result != 0)
            return result;
    }
    return 0;
}

static int enter_first_group(struct segment_iter *iter)
{
    const uint64_t block_end = SEGMENT_DATA_OFFSET + BLOCK_BYTES;
    const int result = twl_iter_scan(iter, SEGMENT_DATA_OFFSET, block_end, PLACE_FIRST);

    if (result == 0)
        iter->offset = SEGMENT_DATA_OFFSET;
    return result;
}

/* ---- the open group ---------------------------------------------------------------------------- */

/* Offsets in a group have 32 bits. */
static uint64_t open_end(const struct segment_iter *iter)
{
    return min_u64(iter->segment->data_end, OPEN_GROUP_OFFSET + align_down(UINT32_MAX, 8));
}

static bool is_claimed(const struct segment_iter *iter, const unsigned char *bytes, uint64_t lsn,
                       uint32_t *ret_size)
{
    uint8_t owner;

    return twl_claim_decode(load_le64(bytes), iter->epoch_seed, lsn, ret_size, &owner);
}

/* Decodes the header of record `lsn`, or a claim in its place: 1. 0 = there is none. */
static inline int decode_record(struct segment_iter *iter, const unsigned char *bytes, uint64_t lsn,
                                struct record_header *ret_header)
{
    const bool may_be_claim = iter->is_open && iter->passes_claims;

    iter->is_claim = false;
    const enum decoded decoded = twl_record_header_judge(bytes, iter->epoch_seed, lsn, ret_header);
    if (decoded == DECODED_VALID)
        return 1;
    if (decoded == DECODED_NEWER)
        return TWINLOG_EVERSION;

    *ret_header = (struct record_header){ .kind = RECORD_FILLER };
    if (!may_be_claim || !is_claimed(iter, bytes, lsn, &ret_header->size))
        return 0;
    if (ret_header->size == CLAIM_END)
        return 0;
    iter->is_claim = true;
    return 1;
}

/* Does the file go as far as that? 1, 0 or an error. What it lacks is read as zeros, as much as its header says, and an
 * attacker can have written that. An honest file has its length before its first record, and is cut behind the last
 * one. */
static int file_reaches(struct segment_iter *iter, uint64_t end)
{
    uint64_t file_bytes;

    if (end <= iter->file_bytes)
        return 1;

    const int rc = io_size(iter->segment->file, &file_bytes);
    if (rc < 0)
        return rc;
    iter->file_bytes = align_up(file_bytes, BLOCK_BYTES);
    return end <= iter->file_bytes;
}

int twl_iter_extend(struct segment_iter *iter)
{
    const uint64_t at = iter->offset, end = open_end(iter);
    struct record_header header;
    int error;

    if (at > end - RECORD_HEADER_BYTES || iter->position.next_lsn > LAST_LSN)
        return 0;
    const unsigned char *bytes = twl_iter_bytes(iter, at, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error;
    const int decoded = decode_record(iter, bytes, iter->position.next_lsn, &header);
    if (decoded <= 0)
        return decoded;
    const uint64_t record_bytes = twl_record_bytes(header.size);
    if (record_bytes > end - at)
        return 0;
    const int is_there = file_reaches(iter, at + record_bytes);
    if (is_there <= 0)
        return is_there;

    atomic_thread_fence(memory_order_acquire); /* in a mapping: what is behind it was stored before it */
    iter->before = iter->position;
    iter->entered_offset = iter->record_offset = at;
    iter->entered = iter->records_left = 1;
    iter->group.count++;
    iter->group.bytes += (uint32_t)record_bytes;
    iter->offset += record_bytes;
    iter->position.next_lsn++;
    return 1;
}

void twl_iter_place_in_open_group(struct segment_iter *iter, uint64_t first_lsn, uint32_t count,
                                  uint64_t offset)
{
    const struct group_header group = { .first_lsn = first_lsn,
                                        .count = count,
                                        .bytes = (uint32_t)(offset - OPEN_GROUP_OFFSET),
                                        .chain = iter->position.chain,
                                        .epoch = iter->position.epoch,
                                        .flags = GROUP_MAPPED };

    step_in(iter, OPEN_GROUP_OFFSET, &group);
    iter->records_left = 0;
    iter->is_open = true;
}

/* To where the walk was, with what has been read meanwhile. */
static void go_back(struct segment_iter *iter, const struct segment_iter *before)
{
    const struct window window = iter->window;

    *iter = *before;
    iter->window = window;
}

/* Enters the first record of a group that may be open. The marker in front of it was passed; without it
 * nothing is known of the group. */
static int enter_open_group(struct segment_iter *iter)
{
    const bool is_its_place = segment_is_mapped(&iter->segment->header) && iter->offset == OPEN_GROUP_OFFSET;

    if (!is_its_place || iter->is_at_first || iter->position.next_lsn == 0)
        return 0;
    const struct segment_iter before = *iter;
    twl_iter_place_in_open_group(iter, iter->position.next_lsn, 0, OPEN_RECORDS_OFFSET);
    const int result = twl_iter_extend(iter);
    if (result <= 0)
        go_back(iter, &before);
    return result;
}

/* Drops the last record that was entered. */
static void back_out_of_record(struct segment_iter *iter)
{
    iter->position = iter->before;
    iter->offset = iter->entered_offset;
    iter->records_left = 0;
    iter->group.bytes = (uint32_t)(iter->entered_offset - iter->group_offset);
    iter->group.count--;
    if (iter->group.count == 0) {
        iter->is_open = false;
        iter->offset = OPEN_GROUP_OFFSET;
    }
}

/* Is the iterator behind the open group, or behind what was one and has its header now? */
static bool is_behind_open_group(const struct segment_iter *iter)
{
    const struct group_header *group = &iter->group;

    return (group->flags & GROUP_MAPPED) && iter->group_offset == OPEN_GROUP_OFFSET &&
           iter->offset == OPEN_GROUP_OFFSET + group->bytes;
}

/* The header of a group leaves the word that ended it where it is. */
int twl_iter_has_ended(struct segment_iter *iter)
{
    const bool is_behind = is_behind_open_group(iter);
    const uint64_t at = is_behind ? iter->offset : OPEN_RECORDS_OFFSET;
    uint32_t size;
    int error;

    if (!segment_is_mapped(&iter->segment->header))
        return 0;
    if (!is_behind && iter->offset != OPEN_GROUP_OFFSET)
        return 0;
    if (at > open_end(iter) - RECORD_HEADER_BYTES)
        return 1;
    const unsigned char *bytes = twl_iter_bytes(iter, at, sizeof(uint64_t), &error);
    if (!bytes)
        return error;
    return is_claimed(iter, bytes, iter->position.next_lsn, &size) && size == CLAIM_END;
}

/* ---- groups of all kinds ------------------------------------------------------------------------ */

/* As twl_iter_enter_group(), but passes nothing. A group begins where the one before ends, or at the next block if the
 * writer pads. */
static int enter_next(struct segment_iter *iter)
{
    const uint64_t next_block = align_up(iter->offset, BLOCK_BYTES);
    const enum place_in_segment place = iter->is_at_first ? PLACE_FIRST : PLACE_LATER;
    int result = 0;

    if (iter->offset == 0)
        return enter_first_group(iter);

    if (iter->is_open)
        result = twl_iter_extend(iter);
    if (result == 0)
        result = twl_iter_enter_at(iter, iter->offset, place);
    if (result == 0)
        result = enter_open_group(iter);
    if (result == 0 && next_block != iter->offset)
        result = twl_iter_enter_at(iter, next_block, place);
    return result;
}

/* Was the group that was entered durable? A crash leaves groups behind a torn one. These are sound, and no part of the
 * log: recovery has found that neither they nor what follows them names them as durable (later.c). A group that begins
 * at the head may be a torn one itself. */
static int was_durable(struct segment_iter *iter, bool *ret_was_durable)
{
    const struct segment_iter entered = *iter;
    const struct group_header *group = &iter->group;
    const struct position place = { .next_lsn = group->first_lsn };
    const bool may_tell = group->count == 0 || group->first_lsn < iter->segment->head_lsn;
    int result = 1;

    *ret_was_durable = may_tell && twl_group_proves(group, place);
    while (!*ret_was_durable) {
        result = enter_next(iter);
        if (result <= 0 || iter->is_open)
            break;
        *ret_was_durable = twl_group_proves(group, place);
    }
    go_back(iter, &entered);
    return result < 0 ? result : 0;
}

/* What was removed is not missed, so only what leads to the head must be found. A group behind the place tells its
 * LSN. If it begins in front of the head or there, everything that is kept is in it or behind it. */
static int pass_removed_groups(struct segment_iter *iter)
{
    const struct segment_iter before = *iter;
    struct later_groups later;
    bool leads_to_head = false;

    int rc = twl_iter_enter_later(iter, &later);
    const bool is_there = rc > 0 && iter->group.first_lsn <= iter->segment->head_lsn;
    if (is_there)
        rc = was_durable(iter, &leads_to_head);
    if (rc < 0 || !leads_to_head) {
        go_back(iter, &before);
        return rc < 0 ? rc : 0;
    }
    iter->has_passed = true;
    return 1;
}

int twl_iter_enter_group(struct segment_iter *iter)
{
    iter->has_passed = false;
    const int result = enter_next(iter);
    if (result != 0)
        return result;

    const bool is_removed = !iter->is_open && iter->position.next_lsn < iter->segment->head_lsn;
    return is_removed ? pass_removed_groups(iter) : 0;
}

void twl_iter_back_out(struct segment_iter *iter)
{
    const struct group_header *group = &iter->group;
    if (iter->is_open) {
        back_out_of_record(iter);
        return;
    }
    iter->position = iter->before;
    if (iter->position.next_lsn == 0)
        iter->position =
            (struct position){ .next_lsn = group->first_lsn, .chain = group->chain, .epoch = group->epoch };
    iter->offset = iter->group_offset;
    iter->is_at_first = (group->flags & GROUP_FIRST) != 0;
    iter->records_left = 0;
}

/* ---- records ----------------------------------------------------------------------------------- */

int twl_iter_peek(struct segment_iter *iter, struct record_header *ret_header)
{
    int error;

    if (iter->records_left == 0)
        return 0;
    const unsigned char *bytes = bytes_at(iter, iter->record_offset, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error < 0 ? error : TWINLOG_ECORRUPT;
    const int decoded = decode_record(iter, bytes, twl_iter_next_lsn(iter), ret_header);
    if (decoded < 0)
        return decoded;
    if (decoded == 0)
        return TWINLOG_ECORRUPT;

    const uint64_t room = iter->group_offset + iter->group.bytes - iter->record_offset;
    const uint64_t others = (uint64_t)(iter->records_left - 1) * RECORD_HEADER_BYTES;
    return twl_record_bytes(ret_header->size) + others <= room ? 1 : TWINLOG_ECORRUPT;
}

int twl_iter_next_record(struct segment_iter *iter, struct iter_record *ret_record)
{
    struct iter_record record;
    int error;

    const int result = twl_iter_peek(iter, &record.header);
    if (result <= 0)
        return result;
    record.lsn = twl_iter_next_lsn(iter);
    record.offset = iter->record_offset;

    const size_t size = (size_t)twl_record_bytes(record.header.size);
    const unsigned char *bytes = bytes_at(iter, iter->record_offset, size, &error);
    if (!bytes)
        return error < 0 ? error : TWINLOG_ECORRUPT;
    record.payload = bytes + RECORD_HEADER_BYTES;
    if (!iter->is_claim && !twl_record_payload_is_valid(&record.header, record.payload))
        return TWINLOG_ECORRUPT;

    pass_record(iter, &record.header);
    *ret_record = record;
    return 1;
}

/* The next record does not check. If it was removed, moves behind it, or behind the group if all of it was. */
static int pass_removed_record(struct segment_iter *iter)
{
    const uint64_t head_lsn = iter->segment->head_lsn;

    if (iter->is_open || twl_iter_next_lsn(iter) >= head_lsn)
        return TWINLOG_ECORRUPT;
    if (iter->position.next_lsn > head_lsn)
        return twl_iter_skip_record(iter);
    iter->record_offset = iter->offset;
    iter->records_left = 0;
    return 1;
}

int twl_iter_next_kept(struct segment_iter *iter, struct iter_record *ret_record)
{
    for (;;) {
        const int result = twl_iter_next_record(iter, ret_record);
        if (result != TWINLOG_ECORRUPT)
            return result;
        const int passed = pass_removed_record(iter);
        if (passed <= 0)
            return passed;
    }
}

void twl_iter_unread(struct segment_iter *iter, const struct iter_record *record)
{
    iter->record_offset = record->offset;
    iter->records_left++;
}

int twl_iter_skip_record(struct segment_iter *iter)
{
    struct record_header header = { 0 };

    const int result = twl_iter_peek(iter, &header);
    if (result > 0)
        pass_record(iter, &header);
    return result;
}

/* Called only when the whole group is known to be good, because index entries of a torn group could not be removed. */
static int summarise_group(struct segment_iter *iter)
{
    const bool may_be_removed = iter->position.next_lsn <= iter->segment->head_lsn;
    struct summary *summary = iter->summary;
    struct record_header header;
    int result;

    iter->record_offset = iter->entered_offset;
    iter->records_left = iter->entered;
    while ((result = twl_iter_peek(iter, &header)) > 0) {
        twl_summary_add_record(summary, twl_iter_next_lsn(iter), iter->group_offset,
                               (uint32_t)(iter->record_offset - iter->group_offset), header.time_ns);
        pass_record(iter, &header);
    }
    const bool is_rest_removed = result == TWINLOG_ECORRUPT && may_be_removed;
    if (result < 0 && !is_rest_removed)
        return result;

    twl_summary_end_group(summary, &iter->group, iter->group_offset);
    if (iter->is_open)
        summary->open_lsn = iter->group.first_lsn;
    return 0;
}

/* Has the group that was entered in memory, if it will be read and is not too large: it is walked twice if there is a
 * summary, or if it is one that a walk begins at. An open group is entered record by record. */
static int read_group(struct segment_iter *iter)
{
    const uint32_t most_bytes = iter->summary ? MOST_GROUP_WINDOW_BYTES : MOST_GROUP_WINDOW_BYTES / 16;
    int error;

    if (iter->is_open || iter->group.bytes > most_bytes)
        return 0;
    (void)twl_iter_bytes(iter, iter->group_offset, iter->group.bytes, &error);
    return error;
}

/* Goes through the group that was entered. TWINLOG_ECORRUPT: it is not whole. */
static int check_group(struct segment_iter *iter)
{
    struct iter_record record;
    int result;

    const int rc = read_group(iter);
    if (rc < 0)
        return rc;
    while ((result = twl_iter_next_kept(iter, &record)) > 0)
        continue;
    if (result < 0)
        return result;
    if (iter->record_offset != iter->offset)
        return TWINLOG_ECORRUPT;
    return iter->summary ? summarise_group(iter) : 0;
}

int twl_iter_accept_group(struct segment_iter *iter)
{
    const int result = twl_iter_enter_group(iter);
    if (result <= 0)
        return result;

    const int rc = check_group(iter);
    if (rc == 0)
        return 1;
    twl_iter_back_out(iter);
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

/* May a group begin there, and may its header alone say where a walk goes on? */
static bool is_group_offset(const struct segment *segment, uint64_t offset)
{
    if (segment_is_mapped(&segment->header) || offset % 8 != 0)
        return false;
    return offset >= SEGMENT_DATA_OFFSET && offset <= segment->data_end - GROUP_HEADER_BYTES;
}

int twl_iter_pass_to(struct segment_iter *iter, uint64_t offset)
{
    const struct group_header *group = &iter->group;

    if (!is_group_offset(iter->segment, offset))
        return 0;
    twl_iter_place_at(iter, offset, (struct position){ 0 });
    const int result = twl_iter_accept_group(iter);
    if (result <= 0)
        return result;

    const bool is_proof = group->durable_lsn == group->first_lsn - 1;
    if (iter->group_offset != offset || !is_proof)
        return 0;
    twl_iter_back_out(iter);
    return 1;
}
