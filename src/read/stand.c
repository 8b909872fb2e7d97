/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See stand.h.
 *
 * A file may get another incarnation at any time after its records were trimmed or cut off, even while it is
 * open. These rules keep its contents from being taken for a record that the reader wants:
 *  - A slot serves an entry of the newest set only if both have the same identity, and only for LSNs in front
 *    of the bound from this set. So records that were cut off are not found where they still lie.
 *  - What an open slot remembers, its index and group headers, only says where to look. A group header is
 *    valid in one incarnation of one file. A record is valid as one LSN of one epoch, and an epoch uses each
 *    LSN once: bytes that check are that record, in whichever incarnation they are found.
 *  - Data that was read is forgotten when the reader changes to another slot, and with every new set. A group
 *    that was torn when its writer died is cut by the next writer, which uses its LSNs again; an old copy
 *    would still check.
 *
 * So a file with another incarnation looks like a damaged one. A reader that gets STAND_LOST closes it and
 * loads the set again, which no longer has that segment. A mapped segment is protected by a lock as long as
 * it is mapped, so it keeps its incarnation. The lock is taken first, then the header is read.
 */
#define _GNU_SOURCE
#include "read/stand.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int fail_system(const struct stand *stand, int error)
{
    twl_report(stand->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, error,
               "cannot read the log: %s", twinlog_strerror(error));
    const struct slot *at = stand->at;
    uint64_t offset = 0;
    if (error == TWINLOG_EVERSION && at->segment.file) { /* the place where the walk stands */
        stand->report->finding = TWINLOG_FOUND_NEWER_FORMAT;
        stand->report->first_lsn = twl_cursor_next_lsn(&at->cursor);
        offset = at->cursor.records_left > 0 ? at->cursor.record_offset : at->cursor.offset;
    }
    twl_report_place(stand->report, at->segment.name, at->segment.header.sequence, offset, 0);
    return error;
}

static struct segment_set *set_of(const struct stand *stand)
{
    return &stand->horizon->set;
}

/* ---- slots ------------------------------------------------------------------------------------- */

void twl_stand_begin(struct stand *stand, struct horizon *horizon, bool maps, struct twinlog_report *report)
{
    *stand = (struct stand){ .horizon = horizon, .report = report, .maps = maps, .at = stand->slots };
}

static void close_slot(struct slot *slot)
{
    twl_cursor_let_go(&slot->cursor);
    twl_segment_close(&slot->segment);
    slot->used = 0;
}

void twl_stand_leave(struct stand *stand)
{
    close_slot(stand->at);
}

void twl_stand_free(struct stand *stand)
{
    for (struct slot *slot = stand->slots; slot < stand->slots + STAND_SLOTS; slot++) {
        close_slot(slot);
        twl_cursor_free(&slot->cursor);
    }
    free(stand->summary);
    free(stand->trail);
}

/* When a file can't be opened for lack of descriptors: closes segments that are open only to be reused. */
static bool close_idle(struct stand *stand)
{
    bool has_closed = false;
    for (struct slot *slot = stand->slots; slot < stand->slots + STAND_SLOTS; slot++)
        if (slot != stand->at && slot->segment.file) {
            close_slot(slot);
            has_closed = true;
        }
    return has_closed;
}

/* Judges a call that looks at segments or walks in them. A record that is not found gives STAND_LOST, and
 * so does a file that is gone. */
static int judge(struct stand *stand, int rc)
{
    if (rc > 0)
        return rc;
    bool is_short_of_files = rc == -EMFILE || rc == -ENFILE;
    if (rc == 0 || rc == TWINLOG_ECORRUPT || rc == -ENOENT || (is_short_of_files && close_idle(stand)))
        return STAND_LOST;
    return fail_system(stand, rc);
}

static bool is_same_life(const struct segment_header *a, const struct segment_header *b)
{
    return a->segment_id == b->segment_id && a->sequence == b->sequence;
}

static struct slot *find_slot(struct stand *stand, const struct segment_header *header)
{
    for (struct slot *slot = stand->slots; slot < stand->slots + STAND_SLOTS; slot++)
        if (slot->segment.file && is_same_life(&slot->segment.header, header))
            return slot;
    return NULL;
}

/* A free slot, or else the one that was not used for the longest time, which is closed. */
static struct slot *take_slot(struct stand *stand)
{
    struct slot *oldest = stand->slots;
    for (struct slot *slot = stand->slots; slot < stand->slots + STAND_SLOTS; slot++)
        if (slot->used < oldest->used)
            oldest = slot;
    close_slot(oldest);
    return oldest;
}

/* All slots share one buffer. */
static void move_to(struct stand *stand, struct slot *slot)
{
    if (slot == stand->at)
        return;
    twl_cursor_take_buffer(&slot->cursor, &stand->at->cursor);
    stand->at = slot;
}

/* A segment that is no longer in the set was trimmed or cut off. */
static void find_in_set(struct stand *stand, struct slot *slot)
{
    const struct segment_set *set = set_of(stand);
    for (size_t i = 0; i < set->begun; i++)
        if (is_same_life(&set->entries[i].header, &slot->segment.header)) {
            slot->index = i;
            return;
        }
    close_slot(slot);
}

/* As far as this reader knows. */
static bool is_trimmed(const struct stand *stand, const struct slot *slot)
{
    const struct segment_entry *entry = &set_of(stand)->entries[slot->index];
    return entry->is_known && entry->is_sealed && entry->footer.last_lsn < stand->first_lsn;
}

static void find_bound(struct stand *stand)
{
    stand->bound_lsn = twl_segment_set_bound(set_of(stand), stand->at->index);
}

/* The set may have changed. Closes segments that can't be asked for any more, so that their space can be
 * used again. */
static void catch_up(struct stand *stand)
{
    const struct horizon *horizon = stand->horizon;
    bool is_other_set = stand->generation != horizon->generation;
    if (!is_other_set && stand->first_lsn == horizon->first_lsn)
        return;
    if (is_other_set) /* data that was read behind the old end of the log may no longer belong to it */
        twl_cursor_refresh(&stand->at->cursor);
    stand->generation = horizon->generation;
    stand->first_lsn = horizon->first_lsn;
    for (struct slot *slot = stand->slots; slot < stand->slots + STAND_SLOTS; slot++) {
        if (slot->segment.file && is_other_set)
            find_in_set(stand, slot);
        if (slot->segment.file && is_trimmed(stand, slot))
            close_slot(slot);
        if (slot->segment.file)
            twl_cursor_pass_claims(&slot->cursor, !horizon->passes_claims);
    }
    if (stand->at->segment.file)
        find_bound(stand);
}

/* ---- the segment ------------------------------------------------------------------------------- */

/* Keeps the segment from getting a new incarnation, or being cut, while it is open here: 1. STAND_LOST =
 * it has a new one already. Without the lock the segment is read, not mapped. */
static int hold(struct stand *stand, struct slot *slot)
{
    unsigned char block[SEGMENT_HEADER_BYTES];
    struct segment_header header;
    size_t size;
    int rc = io_lock(slot->segment.file, IO_LOCK_USE, false);
    if (rc < 0) { /* the process that holds it may be stopped; that is no reason to fail */
        slot->cursor.maps = false;
        return 1;
    }
    rc = io_read(slot->segment.file, block, sizeof(block), 0, &size);
    if (rc < 0)
        return fail_system(stand, rc);
    bool is_same = size == sizeof(block) && twl_segment_header_decode(block, &header) == HEADER_VALID &&
                   is_same_life(&header, &slot->segment.header);
    return is_same ? 1 : STAND_LOST;
}

static int open_slot(struct stand *stand, struct slot *slot, const struct segment_entry *entry)
{
    int rc = twl_segment_open_valid(stand->horizon->io, entry->name, &slot->segment);
    if (rc < 0) {
        slot->segment = (struct segment){ .header = entry->header }; /* for reports */
        strcpy(slot->segment.name, entry->name);
        return judge(stand, rc);
    }
    slot->cursor.maps = stand->maps;
    rc = is_same_life(&slot->segment.header, &entry->header) ? 1 : STAND_LOST;
    if (rc > 0 && stand->maps)
        rc = hold(stand, slot);
    if (rc > 0)
        twl_cursor_begin(&slot->cursor, &slot->segment, twl_position_before(&slot->segment));
    else
        close_slot(slot);
    if (rc > 0)
        twl_cursor_pass_claims(&slot->cursor, !stand->horizon->passes_claims);
    return rc;
}

static int open_segment(struct stand *stand, size_t index)
{
    const struct segment_entry *entry = &set_of(stand)->entries[index];
    struct slot *open = find_slot(stand, &entry->header);
    bool is_other = open != stand->at; /* also if its slot is used again */
    stand->wanted_id = entry->header.segment_id;
    if (is_other && stand->trail) /* the trail belongs to the segment that was open */
        twl_trail_begin(stand->trail);
    move_to(stand, open ? open : take_slot(stand));
    stand->at->index = index;
    int rc = open ? 1 : open_slot(stand, stand->at, entry);
    if (rc < 0)
        return rc;
    stand->at->used = ++stand->turn;
    find_bound(stand);
    return 1;
}

/* Sets NULL if the segment is not sealed. A segment that was the newest when it was looked at may have
 * been sealed since. The newest segment may have a footer too, if a crash took what came behind it; that
 * footer does not count what is added now. */
static int look_at_footer(struct stand *stand, size_t index, const struct segment_footer **ret_footer)
{
    struct segment_set *set = set_of(stand);
    struct segment_entry *entry = &set->entries[index];
    const bool is_left = index + 1 < set->begun;
    if (!entry->is_sealed && is_left)
        entry->is_known = false;
    int rc = twl_segment_try_look(stand->horizon->io, entry);
    *ret_footer = rc == 0 && entry->is_sealed && is_left ? &entry->footer : NULL;
    return rc < 0 ? judge(stand, rc) : 1;
}

/* The index of an unsealed segment. It is made once, and only as far as it is needed. */
static int extend_summary(struct stand *stand, uint64_t lsn)
{
    struct cursor *cursor = &stand->at->cursor;
    if (!stand->summary) {
        stand->summary = malloc(sizeof(*stand->summary));
        if (!stand->summary)
            return fail_system(stand, -ENOMEM);
        stand->summary->first_lsn = 0;
    }
    if (stand->summary->first_lsn == 0 || stand->summarised_id != stand->at->segment.header.segment_id) {
        twl_summary_begin(stand->summary, INT64_MIN);
        stand->summarised_id = stand->at->segment.header.segment_id;
    }
    cursor->summary = stand->summary;
    if (lsn < stand->summary->next_lsn)
        return 1;
    int rc = 1;
    twl_cursor_resume(cursor);
    while (rc > 0 && twl_cursor_next_lsn(cursor) <= lsn)
        rc = twl_cursor_accept_group(cursor);
    return rc < 0 ? judge(stand, rc) : 1;
}

/* Opens the segment that holds the record, with an index: from its footer, or one that is made here. */
static int open_holder(struct stand *stand, uint64_t lsn, const struct segment_footer **ret_footer)
{
    struct segment_set *set = set_of(stand);
    stand->wanted_id = 0;
    int64_t index = set->begun > 0 ? twl_segment_set_find(stand->horizon->io, set, lsn) : TWINLOG_ECORRUPT;
    if (index < 0)
        return judge(stand, (int)index);
    int rc = look_at_footer(stand, (size_t)index, ret_footer);
    if (rc > 0)
        rc = open_segment(stand, (size_t)index);
    if (rc > 0 && !*ret_footer)
        rc = extend_summary(stand, lsn);
    return rc;
}

/* As the set knows it: from the entry itself, or from the one in front of it. */
static uint64_t first_lsn_of(const struct segment_set *set, size_t index)
{
    const struct segment_entry *entry = &set->entries[index], *before = entry - 1;
    if (entry->first_lsn > 0 || index == 0)
        return max_u64(entry->first_lsn, index == 0 ? set->first_lsn : 0);
    return before->is_known && before->is_sealed ? before->footer.last_lsn + 1 : 0;
}

uint64_t twl_stand_stop_lsn(const struct stand *stand)
{
    const struct segment_set *set = &stand->horizon->set;
    const struct slot *at = stand->at;
    uint64_t next_lsn = at->segment.file ? twl_cursor_next_lsn(&at->cursor) : 0;
    bool is_in_set =
        at->index < set->begun && is_same_life(&set->entries[at->index].header, &at->segment.header);
    return next_lsn > 0 || !is_in_set ? next_lsn : first_lsn_of(set, at->index);
}

/* ---- forward ------------------------------------------------------------------------------------ */

/* The copy of the last block may date from before the writer wrote that block again. */
static int enter_next_group(struct cursor *cursor)
{
    int rc = twl_cursor_enter_group(cursor);
    if (rc == 0) {
        twl_cursor_refresh(cursor);
        rc = twl_cursor_enter_group(cursor);
    }
    return rc;
}

/* Does a segment with a fixed start at `lsn` continue what was read? */
static bool fits(const struct cursor *cursor, const struct segment_header *header, uint64_t lsn)
{
    const struct group_header *group = &cursor->group;
    bool is_in_group = group->first_lsn < lsn && lsn - group->first_lsn <= group->count;
    return header->start_lsn == lsn &&
           (!is_in_group || header->previous == 0 || header->start_chain == twl_group_chain(group));
}

/* Looks for a segment that was begun since the set was loaded. */
static int look_for_next_segment(struct stand *stand, uint64_t lsn)
{
    int rc = twl_horizon_reload(stand->horizon, stand->report);
    if (rc < 0)
        return rc;
    catch_up(stand);
    if (lsn > stand->horizon->limit_lsn) /* it was cut off */
        return 0;
    return stand->at->segment.file && stand->at->index + 1 < set_of(stand)->begun ? 1 : STAND_LOST;
}

static int enter_next_segment(struct stand *stand, uint64_t lsn)
{
    if (stand->at->index + 1 >= set_of(stand)->begun) {
        int rc = look_for_next_segment(stand, lsn);
        if (rc <= 0)
            return rc;
    }
    const struct segment_header *header = &set_of(stand)->entries[stand->at->index + 1].header;
    struct slot *left = stand->at;
    struct position position = left->cursor.position;
    bool is_fixed = header->start_lsn > 0;
    if (is_fixed && !fits(&left->cursor, header, lsn))
        return STAND_LOST;
    int rc = open_segment(stand, left->index + 1);
    if (rc < 0)
        return rc;
    close_slot(left);
    twl_cursor_restart(&stand->at->cursor, is_fixed ? twl_position_before(&stand->at->segment) : position);
    return judge(stand, twl_cursor_enter_group(&stand->at->cursor));
}

static int go_on(struct stand *stand, uint64_t lsn)
{
    while (lsn >= stand->bound_lsn || stand->at->cursor.records_left == 0) {
        int rc = lsn < stand->bound_lsn ? enter_next_group(&stand->at->cursor) : 0;
        if (rc < 0)
            return judge(stand, rc);
        if (rc == 0)
            rc = enter_next_segment(stand, lsn);
        if (rc <= 0)
            return rc;
    }
    return twl_cursor_next_lsn(&stand->at->cursor) == lsn ? 1 : STAND_LOST;
}

static int look_up(struct stand *stand, uint64_t lsn)
{
    const struct segment_footer *footer = NULL;
    int rc = open_holder(stand, lsn, &footer);
    if (rc < 0)
        return rc;
    rc = twl_cursor_seek(&stand->at->cursor, footer, lsn);
    if (rc == 0) {
        twl_cursor_refresh(&stand->at->cursor);
        rc = twl_cursor_seek(&stand->at->cursor, footer, lsn);
    }
    return judge(stand, rc);
}

int twl_stand_before(struct stand *stand, uint64_t lsn)
{
    catch_up(stand);
    bool is_next = stand->at->segment.file && twl_cursor_next_lsn(&stand->at->cursor) == lsn;
    return is_next ? go_on(stand, lsn) : look_up(stand, lsn);
}

int twl_stand_read(struct stand *stand, struct cursor_record *ret_record)
{
    int rc = twl_cursor_next_record(&stand->at->cursor, ret_record);
    return rc > 0 ? rc : judge(stand, rc);
}

/* ---- back -------------------------------------------------------------------------------------- */

static int look_up_with_trail(struct stand *stand, uint64_t lsn)
{
    const struct segment_footer *footer = NULL;
    if (!stand->trail) {
        stand->trail = malloc(sizeof(*stand->trail));
        if (!stand->trail)
            return fail_system(stand, -ENOMEM);
        twl_trail_begin(stand->trail);
    }
    int rc = open_holder(stand, lsn, &footer);
    if (rc < 0)
        return rc;
    rc = twl_cursor_trace(&stand->at->cursor, footer, lsn, stand->trail);
    if (rc == 0) {
        twl_cursor_refresh(&stand->at->cursor);
        rc = twl_cursor_trace(&stand->at->cursor, footer, lsn, stand->trail);
    }
    return judge(stand, rc);
}

int twl_stand_before_back(struct stand *stand, uint64_t lsn)
{
    struct index_entry place;
    catch_up(stand);
    bool is_known = stand->at->segment.file && stand->trail && lsn < stand->bound_lsn &&
                    twl_trail_find(stand->trail, lsn, &place);
    return is_known ? judge(stand, twl_cursor_place(&stand->at->cursor, &place))
                    : look_up_with_trail(stand, lsn);
}

/* ---- by time ----------------------------------------------------------------------------------- */

/* The LSN behind those records of a segment that the snapshot covers. */
static int find_end(struct stand *stand, size_t index, uint64_t *ret_lsn)
{
    struct segment_set *set = set_of(stand);
    *ret_lsn = min_u64(twl_segment_set_bound(set, index), stand->horizon->limit_lsn + 1);
    if (index + 1 == set->begun)
        return 1;
    int rc = twl_segment_try_look(stand->horizon->io, &set->entries[index + 1]);
    if (rc < 0)
        return judge(stand, rc);
    if (set->entries[index + 1].first_lsn > 0) /* else that segment is damaged and the end is unknown */
        *ret_lsn = min_u64(*ret_lsn, set->entries[index + 1].first_lsn);
    return 1;
}

/* The index gives the times of all records that were ever in the segment, so the record that it leads to
 * may have been trimmed or cut off. */
static int walk_to_time(struct stand *stand, const struct segment_footer *footer, int64_t time_ns)
{
    struct cursor *cursor = &stand->at->cursor;
    uint64_t first_lsn = stand->horizon->first_lsn;
    int rc = twl_cursor_seek_time(cursor, footer, time_ns);
    if (rc > 0 && twl_cursor_next_lsn(cursor) < first_lsn) {
        rc = twl_cursor_seek(cursor, footer, first_lsn);
        if (rc > 0)
            rc = twl_cursor_pass_older(cursor, time_ns);
    }
    return rc;
}

static int find_time_in(struct stand *stand, size_t index, int64_t time_ns)
{
    const struct segment_footer *footer = NULL;
    uint64_t end_lsn;
    int rc = look_at_footer(stand, index, &footer);
    if (rc < 0 || (footer && footer->max_ns < time_ns))
        return rc < 0 ? rc : 0;
    rc = find_end(stand, index, &end_lsn);
    if (rc > 0 && end_lsn <= stand->horizon->first_lsn) /* all of it was trimmed */
        return 0;
    if (rc > 0)
        rc = open_segment(stand, index);
    if (rc > 0 && !footer)
        rc = extend_summary(stand, end_lsn - 1);
    if (rc < 0)
        return rc;
    twl_cursor_refresh(&stand->at->cursor);
    rc = walk_to_time(stand, footer, time_ns);
    uint64_t lsn = twl_cursor_next_lsn(&stand->at->cursor);
    bool has_come_to_end = rc >= 0 || rc == TWINLOG_ECORRUPT; /* behind it a group may be in the making */
    if (has_come_to_end && lsn >= end_lsn)
        return 0;
    if (rc < 0)
        return judge(stand, rc);
    return rc > 0 ? 1 : STAND_LOST;
}

int twl_stand_before_time(struct stand *stand, int64_t time_ns)
{
    struct segment_set *set = set_of(stand);
    int64_t index = 0;
    int rc = 0;
    catch_up(stand);
    stand->wanted_id = 0;
    if (set->begun > 0)
        index = twl_segment_set_find_time(stand->horizon->io, set, time_ns);
    if (index < 0)
        return judge(stand, (int)index);
    for (size_t i = (size_t)index; rc == 0 && i < set->begun; i++)
        rc = find_time_in(stand, i, time_ns);
    return rc;
}
