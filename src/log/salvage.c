/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See salvage.h.
 *
 * A piece without a header is placed by the chain: its last group is the one that its successor continues, or
 * its first group continues the last group of a segment without a successor. Otherwise it may be the newest:
 * it holds later LSNs than all others, or begins a later epoch at an LSN that older segments hold as well;
 * then it began with a truncation. A piece that fits nowhere was trimmed, truncated, or a spare, and is not
 * missed.
 */
#include "log/salvage.h"

#include "base/bytes.h"
#include "format/unseed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct loading {
    struct io *io;
    const struct state *state;
    uint8_t log_id[LOG_ID_BYTES];
    struct piece *list;
    size_t count;
    bool is_managed;
};

static bool is_fixed(const struct piece *piece)
{
    return piece->header.start_lsn > 0;
}

static bool is_started(const struct piece *piece)
{
    return piece->is_placed && (piece->has_groups || is_fixed(piece));
}

uint64_t twl_piece_bytes(const struct piece *piece)
{
    return min_u64(piece->header.bytes, piece->file_bytes);
}

int twl_piece_open(struct io *io, const struct piece *piece, struct segment *ret_segment)
{
    struct segment segment;
    enum header_state state;
    int rc = twl_segment_open(io, piece->name, IO_READ_ONLY, 0, &segment, &state);
    if (rc < 0)
        return rc;
    segment.header = piece->header;
    segment.header.bytes = twl_piece_bytes(piece); /* so that no room is made for bytes that do not exist */
    segment.seed = piece->seed;
    segment.data_end = twl_segment_data_end(piece->header.bytes);
    *ret_segment = segment;
    return 0;
}

/* Enters a first group, where one is possible, or any other group. */
static int enter_found(struct cursor *cursor, uint64_t offset)
{
    cursor->offset = offset;
    cursor->position = (struct position){ 0 };
    cursor->is_at_first = false;
    int rc = twl_cursor_enter_group(cursor);
    if (rc != 0 || offset >= SEGMENT_DATA_OFFSET + BLOCK_BYTES)
        return rc;
    cursor->is_at_first = true;
    return twl_cursor_enter_group(cursor);
}

int twl_piece_enter_later(struct cursor *cursor, struct later_groups *ret_later)
{
    struct position stop = cursor->position;
    uint64_t from = cursor->offset;
    for (;;) {
        int rc = twl_cursor_find_later(cursor, from, stop, ret_later);
        if (rc < 0 || ret_later->offset == 0)
            return rc;
        rc = enter_found(cursor, ret_later->offset);
        if (rc != 0)
            return rc;
        from = ret_later->offset + 8; /* a group can't be here */
    }
}

/* ---- files and headers ------------------------------------------------------------------------- */

static int collect(struct loading *l)
{
    struct segment_names names;
    int rc = twl_segment_names(l->io, &names);
    if (rc < 0)
        return rc;
    l->list = calloc(names.count + 1, sizeof(*l->list));
    rc = l->list ? 0 : -ENOMEM;
    for (; rc == 0 && l->count < names.count; l->count++)
        strcpy(l->list[l->count].name, names.names[l->count]);
    free(names.names);
    return rc;
}

static int read_header(struct loading *l, struct piece *piece)
{
    struct segment segment;
    enum header_state state;
    int rc = twl_segment_open(l->io, piece->name, IO_READ_ONLY, 0, &segment, &state);
    if (rc < 0)
        return rc;
    twl_segment_close(&segment);
    if (state == HEADER_NEWER)
        return TWINLOG_EVERSION;
    piece->file_bytes = segment.file_bytes;
    if (state != HEADER_VALID)
        return 0;
    piece->has_header = piece->is_placed = true;
    piece->header = segment.header;
    piece->seed = segment.seed;
    l->is_managed = l->is_managed || (segment.header.incompatible & FEATURE_MANAGED) != 0;
    return 0;
}

static bool is_of_log(const struct piece *piece, const uint8_t log_id[LOG_ID_BYTES])
{
    return memcmp(piece->header.log_id, log_id, LOG_ID_BYTES) == 0;
}

/* A state file of another log counts as none. */
static bool is_state_foreign(const struct loading *l)
{
    bool has_segment = false;
    for (size_t i = 0; l->state && i < l->count; i++) {
        if (l->list[i].has_header && is_of_log(&l->list[i], l->state->header.log_id))
            return false;
        has_segment = has_segment || l->list[i].has_header;
    }
    return has_segment;
}

/* Which log is this? The state file says it, else the majority of the segments. False if there are
 * neither. */
static bool choose_log(struct loading *l)
{
    size_t lead = 0;
    bool is_known = l->state != NULL;
    if (is_known)
        memcpy(l->log_id, l->state->header.log_id, LOG_ID_BYTES);
    for (size_t i = 0; i < l->count && !l->state; i++) {
        const struct piece *piece = &l->list[i];
        if (!piece->has_header)
            continue;
        if (lead == 0)
            memcpy(l->log_id, piece->header.log_id, LOG_ID_BYTES);
        lead = is_of_log(piece, l->log_id) ? lead + 1 : lead - 1;
        is_known = true;
    }
    return is_known;
}

static void drop_foreign(struct loading *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++)
        if (!l->list[i].has_header || is_of_log(&l->list[i], l->log_id))
            l->list[kept++] = l->list[i];
    l->count = kept;
}

/* ---- groups ------------------------------------------------------------------------------------ */

static void take_first(struct piece *piece, const struct cursor *cursor)
{
    piece->has_groups = true;
    piece->first = cursor->group;
    piece->first_offset = cursor->group_offset;
}

/* Finds the first group of a piece whose seed is known, and reads its footer, which may be all that is
 * left of it. */
static int find_first(struct loading *l, struct piece *piece)
{
    struct segment segment;
    struct later_groups later;
    int rc = twl_piece_open(l->io, piece, &segment);
    if (rc < 0)
        return rc;
    struct cursor cursor = { 0 };
    twl_cursor_begin(&cursor, &segment, (struct position){ 0 });
    rc = twl_cursor_enter_group(&cursor);
    if (rc == 0)
        rc = twl_piece_enter_later(&cursor, &later);
    if (rc > 0)
        take_first(piece, &cursor);
    if (rc >= 0)
        rc = twl_segment_read_footer(&segment, &piece->footer);
    piece->is_sealed = rc > 0;
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
    piece->seed = segment->seed;
    piece->is_alone = rc == 0;
    /* A truncation without any later group has only its marker. */
    piece->has_groups = rc > 0 || may_be_fixed(piece);
    return rc < 0 ? rc : piece->has_groups;
}

/* Finds the seed of a piece without a header. */
static int identify(struct loading *l, struct piece *piece)
{
    uint64_t file_bytes = min_u64(align_down(piece->file_bytes, BLOCK_BYTES), SEGMENT_MAX_BYTES);
    struct segment segment;
    struct cursor search = { 0 }, found = { 0 };
    if (file_bytes < SEGMENT_MIN_BYTES)
        return 0;
    piece->header.bytes = file_bytes;
    memcpy(piece->header.log_id, l->log_id, LOG_ID_BYTES);
    int rc = twl_piece_open(l->io, piece, &segment);
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
    struct later_groups later;
    int rc = twl_piece_open(l->io, piece, &segment);
    if (rc < 0)
        return rc;
    struct cursor cursor = { 0 };
    twl_cursor_begin(&cursor, &segment, (struct position){ 0 });
    cursor.offset = piece->first_offset;
    cursor.is_at_first = (piece->first.flags & GROUP_FIRST) != 0;
    do {
        rc = twl_cursor_enter_group(&cursor);
        if (rc == 0)
            rc = twl_piece_enter_later(&cursor, &later);
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
    piece->end = (struct position){ .next_lsn = piece->header.start_lsn,
                                    .chain = piece->header.start_chain,
                                    .epoch = { .number = piece->header.epoch } };
    return piece->has_groups ? each_group(l, piece, take_end, &piece->end) : 0;
}

static uint64_t first_sequence(const struct loading *l)
{
    return l->state ? l->state->header.first_sequence : 1;
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
        if (is_started(&l->list[i]) && l->list[i].header.sequence == sequence)
            return &l->list[i];
    return NULL;
}

static struct piece *find_newest(const struct loading *l)
{
    struct piece *newest = NULL;
    for (size_t i = 0; i < l->count; i++)
        if (is_started(&l->list[i]) && (!newest || l->list[i].header.sequence > newest->header.sequence))
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
        uint64_t before = is_fixed(next) ? next->header.previous : next->header.sequence - 1;
        if (!is_started(next) || before == 0 || find_started(l, before))
            continue;
        struct joint joint = { .lsn = next->header.start_lsn - 1, .chain = next->header.start_chain };
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
    piece->header.start_lsn = piece->first.first_lsn;
    piece->header.previous = previous;
    piece->header.start_chain = piece->first.chain;
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
    if (rc > 0 && previous->header.sequence < piece->header.sequence) {
        fix_start(piece, previous->header.sequence);
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
    piece->header.sequence = sequence;
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
        if (!is_started(before) || find_started(l, before->header.sequence + 1))
            continue;
        int rc = find_end(l, before);
        if (rc < 0)
            return rc;
        piece->header.sequence = before->header.sequence + 1;
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
        piece->header.sequence = first_sequence(l) + l->count; /* so that others fit in front */
        rc = find_start(l, piece);
        return rc < 0 ? rc : 1;
    }
    rc = find_end(l, newest);
    if (rc < 0)
        return rc;
    piece->header.sequence = newest->header.sequence + 1;
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

/* ---- the path ---------------------------------------------------------------------------------- */

static int by_sequence(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    int order = (x->header.sequence > y->header.sequence) - (x->header.sequence < y->header.sequence);
    return order != 0 ? order : strcmp(x->name, y->name);
}

/* The piece in front of list[at]; -1 = none. Without the state file it is unknown whether segments before
 * a gap were trimmed, so they count as trimmed. */
static int64_t step_back(const struct loading *l, size_t at, bool is_state_lost)
{
    const struct piece *piece = &l->list[at];
    uint64_t before = is_fixed(piece) ? piece->header.previous : piece->header.sequence - 1;
    if (before < first_sequence(l))
        return -1;
    while (at > 0 && (l->list[at - 1].header.sequence > before || !is_started(&l->list[at - 1])))
        at--;
    if (at == 0 || l->list[at - 1].header.sequence < first_sequence(l))
        return -1;
    return is_state_lost && l->list[at - 1].header.sequence != before ? -1 : (int64_t)at - 1;
}

static uint64_t find_first_lsn(const struct loading *l, const struct piece *oldest)
{
    const struct state_header *state = l->state ? &l->state->header : NULL;
    if (!oldest)
        return state ? state->first_lsn : 1;
    uint64_t first_lsn = is_fixed(oldest) ? oldest->header.start_lsn : oldest->first.first_lsn;
    bool is_reset = is_fixed(oldest) && oldest->header.previous == 0;
    if (!state || (is_reset && oldest->header.sequence != state->first_sequence))
        return first_lsn;
    /* Nothing is missing in front of the first group in the segment of the head. */
    bool has_its_first = oldest->has_header && (oldest->first.flags & GROUP_FIRST) != 0 &&
                         oldest->header.sequence == state->first_sequence;
    return is_reset || has_its_first ? max_u64(first_lsn, state->first_lsn) : state->first_lsn;
}

/* The epoch at whose end the path was last truncated or reset. What was durable in it, or before, may be what
 * was truncated. */
static uint32_t find_truncation_epoch(const struct piece *path, size_t count)
{
    uint32_t epoch = 0;
    for (size_t i = 0; i < count; i++)
        if (is_fixed(&path[i]) && path[i].header.sequence > 1)
            epoch = (uint32_t)max_u64(epoch, path[i].header.epoch);
    return epoch;
}

/* The newest LSN that an opening would believe was durable (recover.c): by headers and footers behind the
 * path, by cursors, and because the newest segment was left for another one, which began with at least a
 * record or a marker. */
static uint64_t find_promise(const struct loading *l, const struct salvage *salvage, size_t behind)
{
    const struct piece *newest = salvage->count > 0 ? &salvage->list[salvage->count - 1] : NULL;
    const uint32_t truncation_epoch = find_truncation_epoch(salvage->list, salvage->count);
    uint64_t lsn = newest && is_fixed(newest) ? newest->header.start_lsn - 1 : 0; /* truncated behind it */
    bool was_left = newest && newest->is_sealed && !segment_is_mapped(&newest->header);
    for (size_t i = behind; i < l->count; i++) {
        const struct piece *piece = &l->list[i];
        if (piece->has_header && piece->header.epoch > truncation_epoch)
            lsn = max_u64(lsn, piece->header.after_lsn);
        if (piece->has_header && piece->is_sealed)
            lsn = max_u64(lsn, piece->footer.last_lsn);
        if (piece->has_header && newest && piece->header.sequence == newest->header.sequence + 1)
            was_left = was_left && !segment_is_mapped(&piece->header);
    }
    if (l->state && l->state->header.cursor_epoch > truncation_epoch)
        lsn = max_u64(lsn, twl_state_furthest(l->state));
    return was_left ? max_u64(lsn, newest->footer.last_lsn + 1) : lsn;
}

static bool is_unknown(const struct piece *piece)
{
    return !piece->has_header && !piece->has_groups && piece->has_bytes;
}

/* Takes the path out of the list, and the pieces of which nothing is known. */
static int arrange(struct loading *l, struct salvage *ret)
{
    struct piece *list = calloc(l->count + 1, sizeof(*list));
    if (!list)
        return -ENOMEM;
    if (l->count > 0)
        qsort(l->list, l->count, sizeof(*l->list), by_sequence);
    size_t behind = l->count;
    while (behind > 0 && !is_started(&l->list[behind - 1]))
        behind--;
    for (int64_t at = (int64_t)behind - 1; at >= 0; at = step_back(l, (size_t)at, ret->is_state_lost)) {
        ret->count++;
        list[l->count - ret->count] = l->list[at];
    }
    memmove(list, list + l->count - ret->count, ret->count * sizeof(*list));
    for (size_t i = 0; i < l->count; i++) {
        if (is_unknown(&l->list[i]))
            list[ret->count + ret->unknown++] = l->list[i];
        ret->max_bytes = max_u64(ret->max_bytes, align_up(twl_piece_bytes(&l->list[i]), BLOCK_BYTES));
    }
    ret->list = list;
    ret->first_lsn = find_first_lsn(l, ret->count > 0 ? &list[0] : NULL);
    ret->promised_lsn = find_promise(l, ret, behind);
    return 0;
}

static int load(struct loading *l, bool is_state_damaged, struct salvage *ret)
{
    int rc = collect(l);
    for (size_t i = 0; rc == 0 && i < l->count; i++)
        rc = read_header(l, &l->list[i]);
    if (rc != 0)
        return rc;
    if (l->count == 0 && !l->state && !is_state_damaged)
        return -ENOENT;
    if (is_state_foreign(l)) {
        l->state = NULL;
        is_state_damaged = true;
    }
    if (!choose_log(l))
        return TWINLOG_ECORRUPT;
    drop_foreign(l);
    ret->is_state_lost = !l->state && (is_state_damaged || l->is_managed);
    for (size_t i = 0; rc == 0 && i < l->count; i++)
        rc = l->list[i].has_header ? find_first(l, &l->list[i]) : identify(l, &l->list[i]);
    if (rc == 0)
        rc = place_all(l);
    return rc == 0 ? arrange(l, ret) : rc;
}

int twl_salvage_load(struct io *io, const struct state *state, bool is_state_damaged,
                     struct salvage *ret_salvage)
{
    struct loading l = { .io = io, .state = state };
    struct salvage salvage = { 0 };
    int rc = load(&l, is_state_damaged, &salvage);
    free(l.list);
    if (rc == 0)
        *ret_salvage = salvage;
    return rc;
}

void twl_salvage_free(struct salvage *salvage)
{
    free(salvage->list);
    *salvage = (struct salvage){ 0 };
}
