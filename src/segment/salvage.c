/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See salvage.h.
 *
 * A segment without a header is placed by the chain: its last group is the one that its successor continues,
 * or its first group continues the last group of a segment without a successor. Otherwise it may be the
 * newest: it holds later LSNs than all others, or begins a later epoch at an LSN that older segments hold as
 * well; then it began with a truncation. One that fits nowhere was trimmed, truncated, or a spare, and is not
 * missed.
 */
#include "segment/salvage.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct piece {
    struct segment_entry *entry;
    bool is_placed;            /* it has a header, or its place was found out */
    bool is_hopeless;          /* it fits nowhere */
    bool has_groups;           /* at least one group was found */
    bool has_bytes;            /* the file is not all zeros; determined only without a header */
    bool is_alone;             /* only one group was found, without a header or other confirmation */
    struct group_header first; /* the first group that was found */
    uint64_t first_offset;     /* and its offset */
    struct position end;       /* behind the last group; set only where a segment is being placed */
};

struct loading {
    struct io *io;
    const uint8_t *log_id;
    uint64_t first_sequence;
    struct piece *list;
    size_t count;
};

static struct segment_header *header_of(const struct piece *piece)
{
    return &piece->entry->header;
}

static bool is_fixed(const struct piece *piece)
{
    return header_of(piece)->start_lsn > 0;
}

static bool is_started(const struct piece *piece)
{
    return piece->is_placed && (piece->has_groups || is_fixed(piece));
}

/* ---- groups ------------------------------------------------------------------------------------ */

static void take_first(struct piece *piece, const struct cursor *cursor)
{
    piece->has_groups = true;
    piece->first = cursor->group;
    piece->first_offset = cursor->group_offset;
}

/* Enters the next group, also behind damage: 1 = entered. */
static int enter_next(struct cursor *cursor)
{
    struct later_groups later;
    const int rc = twl_cursor_enter_group(cursor);
    return rc == 0 ? twl_cursor_enter_later(cursor, &later) : rc;
}

/* Finds the first group of a piece with a known seed. */
static int find_first(struct loading *l, struct piece *piece)
{
    struct segment segment;
    int rc = twl_segment_open_entry(l->io, piece->entry, &segment);
    if (rc < 0)
        return rc;
    struct cursor cursor = { 0 };
    twl_cursor_begin(&cursor, &segment, (struct position){ 0 });
    rc = enter_next(&cursor);
    if (rc > 0)
        take_first(piece, &cursor);
    twl_cursor_free(&cursor);
    twl_segment_close(&segment);
    return rc < 0 ? rc : 0;
}

/* Does anything confirm the group besides its own checksum? 1 = yes: a group that continues it, or a
 * record of this log. */
static int is_confirmed(struct cursor *cursor)
{
    struct cursor_record record;
    int rc = twl_cursor_next_record(cursor, &record);
    if (rc == 0 || rc == TWINLOG_ECORRUPT)
        rc = twl_cursor_enter_group(cursor);
    return rc;
}

/* Does the piece begin with the marker of an epoch, as a segment with a fixed start does? */
static bool may_be_fixed(const struct piece *piece)
{
    return piece->first.kind == GROUP_START && (piece->first.flags & GROUP_FIRST) != 0;
}

/* Is there a group here, for the seed that it must have been written with? 1 = found. */
static int try_group(struct piece *piece, struct segment *segment, struct cursor *cursor,
                     const unsigned char *bytes, uint64_t offset)
{
    struct group_header group;
    segment->seed = twl_unseed_group(bytes, offset);
    if (!twl_group_header_decode(bytes, segment->seed, offset, &group))
        return 0;
    twl_cursor_begin(cursor, segment, (struct position){ 0 });
    cursor->offset = offset;
    cursor->is_at_first = (group.flags & GROUP_FIRST) != 0;
    int rc = twl_cursor_enter_group(cursor);
    if (rc <= 0)
        return rc;
    take_first(piece, cursor);
    rc = is_confirmed(cursor);
    piece->entry->seed = segment->seed;
    piece->is_alone = rc == 0;
    /* A truncation without any later group has only its marker. */
    piece->has_groups = rc > 0 || may_be_fixed(piece);
    return rc < 0 ? rc : piece->has_groups;
}

/* Finds the seed of a piece without a header. */
static int identify(struct loading *l, struct piece *piece)
{
    struct segment_header *header = header_of(piece);
    uint64_t file_bytes = min_u64(align_down(piece->entry->file_bytes, BLOCK_BYTES), SEGMENT_MAX_BYTES);
    struct segment segment;
    struct cursor search = { 0 }, found = { 0 };
    if (file_bytes < SEGMENT_MIN_BYTES)
        return 0;
    header->bytes = file_bytes;
    memcpy(header->log_id, l->log_id, LOG_ID_BYTES);
    int rc = twl_segment_open_entry(l->io, piece->entry, &segment);
    if (rc < 0)
        return rc;
    twl_cursor_begin(&search, &segment, (struct position){ 0 });
    uint64_t at = SEGMENT_DATA_OFFSET;
    for (; rc == 0 && at + GROUP_HEADER_BYTES <= segment.data_end; at += 8) {
        const unsigned char *bytes = twl_cursor_bytes(&search, at, GROUP_HEADER_BYTES, &rc);
        if (!bytes)
            break;
        piece->has_bytes = piece->has_bytes || load_le64(bytes) != 0;
        if (twl_group_header_maybe(bytes))
            rc = try_group(piece, &segment, &found, bytes, at);
    }
    twl_cursor_free(&search);
    twl_cursor_free(&found);
    twl_segment_close(&segment);
    return rc < 0 ? rc : 0;
}

/* Calls `each` for the groups of a piece in order, also behind damage. A result other than 0 ends the
 * calls and is returned. */
static int each_group(struct loading *l, const struct piece *piece,
                      int (*each)(void *context, const struct group_header *group), void *context)
{
    struct segment segment;
    int rc = twl_segment_open_entry(l->io, piece->entry, &segment);
    if (rc < 0)
        return rc;
    struct cursor cursor = { 0 };
    twl_cursor_begin(&cursor, &segment, (struct position){ 0 });
    cursor.offset = piece->first_offset;
    cursor.is_at_first = (piece->first.flags & GROUP_FIRST) != 0;
    do {
        rc = enter_next(&cursor);
        if (rc <= 0)
            break;
        rc = each(context, &cursor.group);
    } while (rc == 0);
    twl_cursor_free(&cursor);
    twl_segment_close(&segment);
    return rc;
}

static int take_end(void *context, const struct group_header *group)
{
    struct position *end = context;
    *end = (struct position){ .next_lsn = group->first_lsn + group->count,
                              .chain = twl_group_chain(group),
                              .epoch = group->epoch };
    return 0;
}

/* Sets piece->end. */
static int find_end(struct loading *l, struct piece *piece)
{
    piece->end = (struct position){ .next_lsn = header_of(piece)->start_lsn,
                                    .chain = header_of(piece)->start_chain,
                                    .epoch = { .number = header_of(piece)->epoch } };
    return piece->has_groups ? each_group(l, piece, take_end, &piece->end) : 0;
}

/* ---- the place of a piece without a header ------------------------------------------------------ */

/* The group in front of a truncation. */
struct joint {
    uint64_t lsn;
    uint32_t chain;
};

static int is_joint(void *context, const struct group_header *group)
{
    const struct joint *joint = context;
    return twl_group_chain(group) == joint->chain && group->first_lsn <= joint->lsn &&
           joint->lsn - group->first_lsn < group->count;
}

/* Finds the piece that holds that group: 1 = *ret_piece does. */
static int find_joint(struct loading *l, const struct piece *except, struct joint joint,
                      const struct piece **ret_piece)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < l->count; i++) {
        if (&l->list[i] == except || !l->list[i].is_placed || !l->list[i].has_groups)
            continue;
        rc = each_group(l, &l->list[i], is_joint, &joint);
        *ret_piece = &l->list[i];
    }
    return rc;
}

static struct piece *find_started(const struct loading *l, uint64_t sequence)
{
    for (size_t i = 0; i < l->count; i++)
        if (is_started(&l->list[i]) && header_of(&l->list[i])->sequence == sequence)
            return &l->list[i];
    return NULL;
}

static struct piece *find_newest(const struct loading *l)
{
    struct piece *newest = NULL;
    for (size_t i = 0; i < l->count; i++)
        if (is_started(&l->list[i]) &&
            (!newest || header_of(&l->list[i])->sequence > header_of(newest)->sequence))
            newest = &l->list[i];
    return newest;
}

static bool is_same_place(struct position end, const struct group_header *next)
{
    return end.next_lsn == next->first_lsn && end.chain == next->chain;
}

/* Finds the segment that continues this one: 1 = found. */
static int find_successor(struct loading *l, const struct piece *piece, uint64_t *ret_sequence)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct piece *next = &l->list[i];
        uint64_t before = is_fixed(next) ? header_of(next)->previous : header_of(next)->sequence - 1;
        if (!is_started(next) || before == 0 || find_started(l, before))
            continue;
        struct joint joint = { .lsn = header_of(next)->start_lsn - 1, .chain = header_of(next)->start_chain };
        int rc = next->has_groups && is_same_place(piece->end, &next->first);
        if (rc == 0 && is_fixed(next))
            rc = each_group(l, piece, is_joint, &joint);
        *ret_sequence = before;
        if (rc != 0)
            return rc;
    }
    return 0;
}

static void fix_start(struct piece *piece, uint64_t previous)
{
    struct segment_header *header = header_of(piece);
    header->start_lsn = piece->first.first_lsn;
    header->previous = previous;
    header->start_chain = piece->first.chain;
    header->epoch = piece->first.epoch.number - 1;
}

/* Finds where a piece begins if it does not continue the segment of the preceding sequence. 1 = its start
 * is fixed. */
static int find_start(struct loading *l, struct piece *piece)
{
    const struct joint joint = { .lsn = piece->first.first_lsn - 1, .chain = piece->first.chain };
    const struct piece *previous;
    if (!may_be_fixed(piece))
        return 0;
    if (piece->first.chain == 0) {
        fix_start(piece, 0);
        return 1;
    }
    int rc = find_joint(l, piece, joint, &previous);
    if (rc > 0 && header_of(previous)->sequence < header_of(piece)->sequence) {
        fix_start(piece, header_of(previous)->sequence);
        return 1;
    }
    return rc < 0 ? rc : 0;
}

/* 1 = it has a place between others. */
static int place_before_successor(struct loading *l, struct piece *piece)
{
    uint64_t sequence;
    int rc = find_successor(l, piece, &sequence);
    if (rc <= 0)
        return rc;
    header_of(piece)->sequence = sequence;
    struct piece *before = find_started(l, sequence - 1);
    rc = before ? find_end(l, before) : 0;
    if (rc == 0 && !(before && is_same_place(before->end, &piece->first)))
        rc = find_start(l, piece);
    return rc < 0 ? rc : 1;
}

/* 1 = it continues a piece that had no successor. */
static int place_behind_predecessor(struct loading *l, struct piece *piece)
{
    for (size_t i = 0; i < l->count; i++) {
        struct piece *before = &l->list[i];
        if (!is_started(before) || find_started(l, header_of(before)->sequence + 1))
            continue;
        int rc = find_end(l, before);
        if (rc < 0)
            return rc;
        header_of(piece)->sequence = header_of(before)->sequence + 1;
        if (is_same_place(before->end, &piece->first))
            return 1;
    }
    return 0;
}

/* 1 = it is the newest. */
static int place_newest(struct loading *l, struct piece *piece)
{
    struct piece *newest = find_newest(l);
    int rc;
    if (!newest) {
        header_of(piece)->sequence = l->first_sequence + l->count; /* so that others fit in front */
        rc = find_start(l, piece);
        return rc < 0 ? rc : 1;
    }
    rc = find_end(l, newest);
    if (rc < 0)
        return rc;
    header_of(piece)->sequence = header_of(newest)->sequence + 1;
    uint32_t epoch = piece->first.epoch.number, last_epoch = newest->end.epoch.number;
    if (epoch > last_epoch) {
        rc = find_start(l, piece);
        if (rc != 0)
            return rc;
    }
    return epoch >= last_epoch && piece->first.first_lsn >= newest->end.next_lsn && !piece->is_alone;
}

static bool is_later(const struct group_header *a, const struct group_header *b)
{
    return a->epoch.number != b->epoch.number ? a->epoch.number > b->epoch.number
                                              : a->first_lsn > b->first_lsn;
}

/* The newest piece that has no place yet and may get one. */
static struct piece *find_homeless(struct loading *l)
{
    struct piece *found = NULL;
    for (size_t i = 0; i < l->count; i++) {
        struct piece *piece = &l->list[i];
        if (piece->has_groups && !piece->is_placed && !piece->is_hopeless &&
            (!found || is_later(&piece->first, &found->first)))
            found = piece;
    }
    return found;
}

/* Places the pieces that have a successor. Starts again after each one, because it may be the successor of
 * another. */
static int place_before_successors(struct loading *l)
{
    for (size_t i = 0; i < l->count; i++) {
        struct piece *piece = &l->list[i];
        if (!piece->has_groups || piece->is_placed)
            continue;
        int rc = place_before_successor(l, piece);
        if (rc < 0)
            return rc;
        piece->is_placed = rc > 0;
        if (rc > 0)
            return place_before_successors(l);
    }
    return 0;
}

static int place_all(struct loading *l)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < l->count; i++)
        if (!l->list[i].is_placed && l->list[i].has_groups)
            rc = find_end(l, &l->list[i]);
    while (rc == 0) {
        rc = place_before_successors(l);
        struct piece *piece = rc == 0 ? find_homeless(l) : NULL;
        if (!piece)
            break;
        rc = place_behind_predecessor(l, piece);
        if (rc == 0)
            rc = place_newest(l, piece);
        piece->is_placed = rc > 0;
        piece->is_hopeless = rc == 0;
        rc = rc < 0 ? rc : 0;
    }
    return rc;
}

int twl_salvage(struct io *io, const uint8_t log_id[LOG_ID_BYTES], uint64_t first_sequence,
                struct segment_entry *entries, size_t count)
{
    struct loading l = { .io = io, .log_id = log_id, .first_sequence = first_sequence, .count = count };
    bool is_needed = false;
    int rc = 0;
    for (size_t i = 0; i < count; i++)
        is_needed = is_needed || entries[i].is_salvaged;
    if (!is_needed)
        return 0;
    l.list = calloc(count, sizeof(*l.list));
    if (!l.list)
        return -ENOMEM;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        l.list[i] = (struct piece){ .entry = &entries[i], .is_placed = !entries[i].is_salvaged };
        rc = entries[i].is_salvaged ? identify(&l, &l.list[i]) : find_first(&l, &l.list[i]);
    }
    if (rc == 0)
        rc = place_all(&l);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct piece *piece = &l.list[i];
        if (!piece->is_placed)
            header_of(piece)->sequence = 0;
        entries[i].is_unknown = !piece->is_placed && !piece->has_groups && piece->has_bytes;
    }
    free(l.list);
    return rc;
}
