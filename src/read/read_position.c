/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file may get another incarnation at any time after its records were trimmed or truncated, even while it
 * is open. These rules keep its contents from being taken for a record that the reader wants:
 *  - A slot serves an entry of the newest set only if both have the same identity, and only for LSNs in front
 *    of the bound from this set. So records that were truncated are not found where they still lie.
 *  - What an open slot remembers, its index, only says where to look. A record is valid as one LSN of one epoch,
 *    and an epoch uses each LSN once: bytes that check are that record, in whichever incarnation they are found.
 *  - Data that was read is forgotten when the reader changes to another slot, and with every new set. A group
 *    that was torn when its writer died is truncated by the next writer, which uses its LSNs again; an old
 *    copy would still check.
 *
 * So a file with another incarnation looks like a damaged one. A reader that gets POSITION_LOST closes it and
 * loads the set again, which no longer has that segment. A mapped segment is protected by a lock as long as
 * it is mapped, so it keeps its incarnation. The lock is taken first, then the header is read.
 */
#define _GNU_SOURCE
#include "read/read_position.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BEGUN 16u /* then it costs less to walk through the segment once */

static int fail_system(const struct read_position *pos, int error)
{
    struct twinlog_report *report = pos->snapshot->report;
    const struct slot *at = pos->at;

    twl_read_snapshot_fail(pos->snapshot, error);
    uint64_t offset = 0;
    if (error == TWINLOG_EVERSION && at->segment.file) { /* the place where the walk stands */
        report->finding = TWINLOG_FOUND_NEWER_FORMAT;
        report->first_lsn = twl_iter_next_lsn(&at->iter);
        offset = at->iter.records_left > 0 ? at->iter.record_offset : at->iter.offset;
    }

    twl_report_place(report, at->segment.name, at->segment.header.sequence, offset, 0);
    return error;
}

static struct segment_set *set_of(const struct read_position *pos)
{
    return &pos->snapshot->set;
}

/* ---- slots ------------------------------------------------------------------------------------- */

void twl_read_position_begin(struct read_position *pos, struct read_snapshot *snapshot, bool maps)
{
    pos->snapshot = snapshot;
    pos->maps = maps;
    pos->at = pos->slots;
}

static void close_slot(struct slot *slot)
{
    twl_iter_let_go(&slot->iter);
    twl_segment_close(&slot->segment);
    slot->used = 0;
}

void twl_read_position_leave(struct read_position *pos)
{
    close_slot(pos->at);
}

void twl_read_position_free(struct read_position *pos)
{
    for (struct slot *slot = pos->slots; slot < pos->slots + POSITION_SLOTS; slot++) {
        close_slot(slot);
        twl_iter_free(&slot->iter);
    }
    free(pos->summary);
}

/* Closes the segments that are open only to be used again. */
static bool close_idle(struct read_position *pos)
{
    bool has_closed = false;

    for (struct slot *slot = pos->slots; slot < pos->slots + POSITION_SLOTS; slot++) {
        if (slot == pos->at || !slot->segment.file)
            continue;
        close_slot(slot);
        has_closed = true;
    }

    return has_closed;
}

/* Judges a call that looks at segments or walks in them. A record that is not found gives POSITION_LOST, and
 * so does a file that is gone. */
static int classify_result(struct read_position *pos, int rc)
{
    if (rc > 0)
        return rc;

    if (rc == 0 || rc == TWINLOG_ECORRUPT || rc == -ENOENT)
        return POSITION_LOST;

    /* If segments could be closed, another attempt may have files enough. */
    const bool is_short_of_files = rc == -EMFILE || rc == -ENFILE;
    if (is_short_of_files && close_idle(pos))
        return POSITION_LOST;
    return fail_system(pos, rc);
}

/* The slot that has the segment open; or else a free one, or the one that was not used for the longest time, closed. */
static struct slot *find_slot(struct read_position *pos, const struct segment_header *header)
{
    struct slot *oldest = pos->slots;

    for (struct slot *slot = pos->slots; slot < pos->slots + POSITION_SLOTS; slot++) {
        if (slot->segment.file && twl_is_same_incarnation(&slot->segment.header, header))
            return slot;
        if (slot->used < oldest->used)
            oldest = slot;
    }

    close_slot(oldest);
    return oldest;
}

/* All slots share one buffer. */
static void move_to(struct read_position *pos, struct slot *slot)
{
    if (slot == pos->at)
        return;
    twl_iter_take_buffer(&slot->iter, &pos->at->iter);
    pos->at = slot;
}

/* Of what a dead writer has left open, the page cache may show a whole record where the disk has the claim of one, if
 * its sync has failed. No other record is in such a doubt: a group has a checksum, and recovery has found it on the
 * disk. */
static bool is_on_disk(const struct read_position *pos, size_t index)
{
    return index >= pos->snapshot->from_disk;
}

/* A segment that is no longer in the set was trimmed or truncated. */
static void find_in_set(struct read_position *pos)
{
    const struct segment_set *set = set_of(pos);
    struct slot *at = pos->at;

    for (at->index = 0; at->index < set->started; at->index++) {
        if (!twl_is_same_incarnation(&set->entries[at->index].header, &at->segment.header))
            continue;
        if (at->is_from_disk || !is_on_disk(pos, at->index))
            return;
    }

    close_slot(at);
}

/* The set may have changed, or its head. Closes the segments that are not in use, which may be ones that can't be asked
 * for any more, so that their space can be used again. */
static void catch_up(struct read_position *pos)
{
    const struct read_snapshot *snapshot = pos->snapshot;
    const bool is_other_set = pos->generation != snapshot->generation;

    if (!is_other_set && pos->first_lsn == snapshot->first_lsn)
        return;

    pos->generation = snapshot->generation;
    pos->first_lsn = snapshot->first_lsn;
    close_idle(pos);
    if (is_other_set && pos->at->segment.file) {
        /* what was read behind the old end of the log may no longer belong to it */
        twl_iter_refresh(&pos->at->iter);
        pos->at->iter.passes_claims = snapshot->passes_claims;
        find_in_set(pos);
    }
}

/* ---- the segment ------------------------------------------------------------------------------- */

/* Keeps the segment from getting a new incarnation, or being truncated, while it is open here: 1.
 * POSITION_LOST = it has a new one already. Without the lock the segment is read, not mapped. */
static int hold(struct read_position *pos, struct slot *slot)
{
    int rc = io_lock(slot->segment.file, IO_LOCK_USE, false);
    if (rc < 0) { /* the process that holds it may be stopped; that is no reason to fail */
        slot->iter.maps = false;
        return 1;
    }

    rc = twl_segment_check_incarnation(&slot->segment, &slot->segment.header);
    if (rc == -EAGAIN)
        return POSITION_LOST;
    if (rc < 0)
        return fail_system(pos, rc);
    return 1;
}

/* Forgets what was read, and asks the note how far the writer has come, before the file is read again. Where the
 * note says nothing, of a segment that is not written any more or of a place behind it, nothing ends the reading
 * ahead. */
static void learn_end(const struct read_position *pos, struct slot *slot)
{
    struct segment_iter *iter = &slot->iter;
    const struct note note = twl_page_get_note(pos->snapshot->shared);
    const bool is_noted = note.segment_id == slot->segment.header.segment_id && note.end > iter->offset;

    iter->known_end = UINT64_MAX;
    if (is_noted)
        iter->known_end = note.end;
    twl_iter_refresh(iter);
}

/* Opens the file; after a failure the slot has what reports say of the segment. */
static int open_file(struct read_position *pos, struct slot *slot, const struct segment_entry *entry)
{
    struct io *io = pos->snapshot->io;

    if (slot->is_from_disk)
        io->reads_disk = true;
    const int rc = twl_segment_open_entry(io, entry, &slot->segment);
    if (slot->is_from_disk)
        io->reads_disk = false;
    if (rc == 0)
        return 0;

    slot->segment = (struct segment){ .header = entry->header };
    strcpy(slot->segment.name, entry->name);
    return classify_result(pos, rc);
}

static int open_slot(struct read_position *pos, struct slot *slot, const struct segment_entry *entry)
{
    slot->is_from_disk = is_on_disk(pos, slot->index);
    const int rc = open_file(pos, slot, entry);
    if (rc < 0)
        return rc;

    slot->iter.maps = pos->maps && !slot->is_from_disk;
    slot->iter.passes_claims = pos->snapshot->passes_claims;
    if (slot->iter.maps) {
        const int held = hold(pos, slot);
        if (held < 0) {
            close_slot(slot);
            return held;
        }
    }

    twl_iter_begin(&slot->iter, &slot->segment, twl_position_before(&slot->segment.header));
    learn_end(pos, slot);
    return 1;
}

static int open_segment(struct read_position *pos, size_t index)
{
    const struct segment_entry *entry = &set_of(pos)->entries[index];

    move_to(pos, find_slot(pos, &entry->header));
    pos->at->index = index;
    if (!pos->at->segment.file) {
        const int opened = open_slot(pos, pos->at, entry);
        if (opened < 0)
            return opened;
    }

    pos->turn++;
    pos->at->used = pos->turn;
    return 1;
}

/* Sets NULL if the segment is not sealed. A segment that was the newest when it was looked at may have
 * been sealed since. The newest segment may have a footer too, if a crash took what came behind it; that
 * footer does not count what is added now. */
static int look_at_footer(struct read_position *pos, size_t index, const struct segment_footer **ret_footer)
{
    struct segment_set *set = set_of(pos);
    struct segment_entry *entry = &set->entries[index];
    const bool is_left = index + 1 < set->started;

    if (!entry->is_sealed && is_left)
        entry->is_known = false;
    int rc = twl_segment_try_look(pos->snapshot->io, entry);
    if (rc < 0)
        return classify_result(pos, rc);

    *ret_footer = NULL;
    if (entry->is_sealed && is_left)
        *ret_footer = &entry->footer;
    return 1;
}

/* Is what there is of an index that of the segment where the position is? */
static bool is_summarised(const struct read_position *pos)
{
    return pos->summary->first_lsn > 0 && pos->summarised_id == pos->at->segment.header.segment_id;
}

/* Twice as many records as the index covers. */
static uint64_t span_of(const struct summary *summary)
{
    return 2 * (summary->next_lsn - max_u64(summary->indexed_lsn, summary->first_lsn));
}

/* Can the index be made longer up to that record? Not if it begins behind it, nor if the record is far behind it; but
 * when an index was begun often, it is one of the whole segment. */
static bool will_summary_do(const struct read_position *pos, uint64_t lsn)
{
    const struct summary *summary = pos->summary;

    if (!is_summarised(pos) || lsn < summary->indexed_lsn)
        return false;
    if (pos->begun >= MOST_BEGUN || lsn <= summary->next_lsn)
        return true;
    return lsn - summary->next_lsn <= span_of(summary);
}

/* Moves to where the walk through the segment begins that makes an index with the record `lsn`. */
static void approach_from_note(struct read_position *pos, uint64_t lsn)
{
    struct segment_iter *iter = &pos->at->iter;
    const struct note note = twl_page_get_note(pos->snapshot->shared); /* of the writer, or of a dead one */
    const bool is_of_segment = note.segment_id == pos->summarised_id;

    if (is_of_segment && twl_iter_pass_near(iter, note.records, lsn) > 0)
        pos->summary->indexed_lsn = twl_iter_next_lsn(iter);
    else
        twl_iter_place_at(iter, 0, twl_position_before(&iter->segment->header));
}

/* Begins the index of an unsealed segment: near the record, or at the start of the segment once that has been done
 * often. */
static void begin_summary(struct read_position *pos, uint64_t lsn)
{
    struct summary *summary = pos->summary;
    uint64_t from_lsn = lsn;

    /* A reader that goes back record by record gets a longer index each time. */
    const bool is_of_segment = is_summarised(pos);
    const bool goes_back = is_of_segment && lsn + 1 == summary->indexed_lsn;
    if (!is_of_segment)
        pos->begun = 0;
    if (goes_back)
        from_lsn = lsn - min_u64(lsn, span_of(summary));

    twl_summary_begin(summary);
    pos->summarised_id = pos->at->segment.header.segment_id;
    pos->begun++;
    pos->at->iter.summary = NULL;
    if (pos->begun < MOST_BEGUN)
        approach_from_note(pos, from_lsn);
}

/* Makes the index as far as it is needed: 1. 0 = the walk stopped in front of the record. */
static int make_summary(struct read_position *pos, uint64_t lsn)
{
    struct segment_iter *iter = &pos->at->iter;

    if (!will_summary_do(pos, lsn))
        begin_summary(pos, lsn);
    iter->summary = pos->summary;
    if (lsn < pos->summary->next_lsn)
        return 1;

    if (pos->summary->indexed_lsn == 0 || pos->summary->first_lsn > 0)
        twl_iter_resume(iter);
    int accepted = 1;
    while (accepted > 0 && twl_iter_next_lsn(iter) <= lsn)
        accepted = twl_iter_accept_group(iter);
    return accepted;
}

static int extend_summary(struct read_position *pos, uint64_t lsn)
{
    if (!pos->summary) { /* few bytes of it are touched where few records are looked up */
        pos->summary = malloc(sizeof(*pos->summary));
        if (!pos->summary)
            return fail_system(pos, -ENOMEM);

        twl_summary_begin(pos->summary);
    }

    int made = make_summary(pos, lsn);
    if (made == 0 && pos->begun >= MOST_BEGUN) { /* what is damaged in front of it hides no record */
        pos->summary->first_lsn = 0;
        made = make_summary(pos, lsn);
    }

    if (made < 0)
        return classify_result(pos, made);
    return 1;
}

uint64_t twl_read_position_stop_lsn(const struct read_position *pos)
{
    const struct segment_set *set = &pos->snapshot->set;
    const struct slot *at = pos->at;

    if (at->segment.file) {
        const uint64_t next_lsn = twl_iter_next_lsn(&at->iter);
        if (next_lsn > 0)
            return next_lsn;
    }
    if (at->index >= set->started)
        return 0;

    const struct segment_entry *entry = &set->entries[at->index];
    if (!twl_is_same_incarnation(&entry->header, &at->segment.header))
        return 0;
    if (entry->first_lsn > 0 || at->index == 0)
        return max_u64(entry->first_lsn, set->first_lsn);

    const struct segment_entry *before = entry - 1;
    if (before->is_known && before->is_sealed)
        return before->footer.last_lsn + 1;
    return 0;
}

/* ---- forward ------------------------------------------------------------------------------------ */

/* The copy of the last block may date from before the writer wrote that block again. It does if the group lies
 * behind all that was known when it was read: then it is not looked at first. */
static int enter_next_group(struct read_position *pos)
{
    struct segment_iter *iter = &pos->at->iter;

    if (iter->known_end <= iter->offset)
        learn_end(pos, pos->at);
    const int entered = twl_iter_enter_group(iter);
    if (entered != 0)
        return entered;

    learn_end(pos, pos->at);
    return twl_iter_enter_group(iter);
}

/* Does a segment with a fixed start at `lsn` continue what was read? */
static bool fits(const struct segment_iter *iter, const struct segment_header *header, uint64_t lsn)
{
    const struct group_header *group = &iter->group;
    const bool is_behind_group = group->first_lsn < lsn && lsn - group->first_lsn <= group->count;

    if (header->start_lsn != lsn)
        return false;

    /* If the group in front is known, the header names it, too. */
    if (!is_behind_group || header->previous == 0)
        return true;
    return header->start_chain == twl_group_chain(group);
}

/* Does the segment end where the walk stands? 1 = yes. Else what is missing is in it, and not in the next one. */
static int has_segment_ended(const struct read_position *pos, const struct slot *slot)
{
    struct segment_entry *entry = &set_of(pos)->entries[slot->index];

    const int rc = twl_segment_try_look(pos->snapshot->io, entry);
    if (rc < 0)
        return rc;
    return entry->is_sealed && entry->footer.data_end == slot->iter.offset;
}

static bool is_in_newest(const struct read_position *pos)
{
    return pos->at->index + 1 >= set_of(pos)->started;
}

/* A segment may have been started since the set was loaded: 1. */
static int look_for_newer(struct read_position *pos)
{
    const int rc = twl_read_snapshot_reload(pos->snapshot);
    if (rc < 0)
        return rc;

    catch_up(pos);
    if (!pos->at->segment.file || is_in_newest(pos))
        return POSITION_LOST;
    return 1;
}

static int enter_next_segment(struct read_position *pos, uint64_t lsn)
{
    if (is_in_newest(pos)) {
        const int found = look_for_newer(pos);
        if (found < 0)
            return found;
    }

    struct slot *left = pos->at;
    struct position position = left->iter.position;
    const struct segment_header *header = &set_of(pos)->entries[left->index + 1].header;
    const bool is_fixed = header->start_lsn > 0;
    if (is_fixed && !fits(&left->iter, header, lsn))
        return POSITION_LOST;

    const int rc = open_segment(pos, left->index + 1);
    if (rc < 0)
        return rc;

    if (is_fixed)
        position = twl_position_before(&pos->at->segment.header);
    twl_iter_place_at(&pos->at->iter, 0, position);
    const int entered = twl_iter_enter_group(&pos->at->iter);

    int has_ended = 1;
    if (entered == 0 && !is_fixed)
        has_ended = has_segment_ended(pos, left);
    if (has_ended < 0)
        return classify_result(pos, has_ended);
    if (has_ended > 0)
        close_slot(left);
    else
        move_to(pos, left);
    return classify_result(pos, entered);
}

uint64_t twl_read_position_bound(const struct read_position *pos)
{
    return twl_segment_set_bound(set_of(pos), pos->at->index);
}

static int walk_to(struct read_position *pos, uint64_t lsn)
{
    for (;;) {
        const bool is_dead = lsn >= twl_read_position_bound(pos); /* in this segment */
        if (!is_dead && pos->at->iter.records_left > 0)
            break;

        int entered = 0;
        if (!is_dead)
            entered = enter_next_group(pos);
        if (entered < 0)
            return classify_result(pos, entered);
        if (entered == 0)
            entered = enter_next_segment(pos, lsn);
        if (entered <= 0)
            return entered;
    }

    if (twl_iter_next_lsn(&pos->at->iter) == lsn)
        return 1;
    return POSITION_LOST;
}

/* In the segment that holds the record, with an index: from its footer, or one that is made here. */
static int look_up(struct read_position *pos, uint64_t lsn)
{
    struct segment_set *set = set_of(pos);
    const struct segment_footer *footer = NULL;

    if (set->started == 0)
        return POSITION_LOST;
    const int64_t index = twl_segment_set_find(pos->snapshot->io, set, lsn);
    if (index < 0)
        return classify_result(pos, (int)index);

    int rc = look_at_footer(pos, (size_t)index, &footer);
    if (rc > 0)
        rc = open_segment(pos, (size_t)index);
    if (rc > 0 && !footer)
        rc = extend_summary(pos, lsn);
    if (rc < 0)
        return rc;
    return classify_result(pos, twl_iter_seek(&pos->at->iter, footer, lsn));
}

/* From a record to the next one, through all that lies in between. */
static int walk_on(struct read_position *pos, uint64_t lsn)
{
    int rc = classify_result(pos, twl_iter_skip_record(&pos->at->iter));
    if (rc > 0)
        return walk_to(pos, lsn);
    return rc;
}

/* Another history may have the same LSN in another segment. */
static bool is_in(const struct read_position *pos, struct visit visit)
{
    return pos->at->segment.header.sequence == visit.sequence;
}

int twl_read_position_before(struct read_position *pos, uint64_t lsn, struct visit from)
{
    catch_up(pos);
    if (pos->at->segment.file && twl_iter_next_lsn(&pos->at->iter) == lsn)
        return walk_to(pos, lsn);

    const bool comes_from_previous = from.lsn == lsn - 1 && lsn > pos->snapshot->first_lsn;
    if (!comes_from_previous)
        return look_up(pos, lsn);

    const int found = look_up(pos, from.lsn);
    if (found <= 0)
        return found;
    if (!is_in(pos, from))
        return POSITION_LOST;
    return walk_on(pos, lsn);
}

/* Is the walk in front of the record where the reader is? */
static bool is_before(const struct read_position *pos, struct visit visit)
{
    const struct segment_iter *iter = &pos->at->iter;

    if (!pos->at->segment.file || !is_in(pos, visit))
        return false;
    return iter->records_left > 0 && twl_iter_next_lsn(iter) == visit.lsn;
}

int twl_read_position_back(struct read_position *pos, uint64_t lsn, struct visit from)
{
    const bool comes_from_next = from.lsn == lsn + 1;

    catch_up(pos);
    const bool is_at_next = comes_from_next && is_before(pos, from);
    const struct group_header next = pos->at->iter.group;
    const uint64_t offset = pos->at->iter.group_offset;

    int rc = look_up(pos, lsn);
    if (rc <= 0 || !comes_from_next)
        return rc;

    /* Both records are of one history if they are in one group, or if the group of the next one continues this one. */
    const struct segment_iter *iter = &pos->at->iter;
    const bool is_in_group = is_in(pos, from) && offset == iter->group_offset;
    if (is_at_next && (is_in_group || twl_group_continues(&next, &iter->position)))
        return rc;

    /* Otherwise the walk from this record has to come to the next one. */
    rc = walk_on(pos, lsn + 1);
    if (rc < 0)
        return rc;
    if (rc == 0 || !is_in(pos, from))
        return POSITION_LOST;

    rc = look_up(pos, lsn);
    if (rc == 0)
        return POSITION_LOST;
    return rc;
}

int twl_read_position_read(struct read_position *pos, struct iter_record *ret_record)
{
    return classify_result(pos, twl_iter_next_record(&pos->at->iter, ret_record));
}

/* ---- epochs ------------------------------------------------------------------------------------- */

/* Back to the segment that has the marker of the epoch's start, or to the oldest; then to the first group of it. */
static int find_start(struct read_position *pos, struct epoch epoch)
{
    const struct group_header *group = &pos->at->iter.group;
    int rc = 1;

    for (size_t index = pos->at->index; rc > 0; index--) {
        rc = open_segment(pos, index);
        if (rc < 0)
            return rc;

        struct segment_iter *iter = &pos->at->iter;
        group = &iter->group;
        twl_iter_place_at(iter, 0, twl_position_before(&iter->segment->header));
        rc = classify_result(pos, twl_iter_enter_group(iter));
        if (index == 0 || !is_same_epoch(group->epoch, epoch) || group->kind == GROUP_START)
            break;
    }

    while (rc > 0 && !is_same_epoch(group->epoch, epoch))
        rc = classify_result(pos, twl_iter_enter_group(&pos->at->iter));
    return rc;
}

int twl_read_position_epoch(struct read_position *pos, uint64_t lsn, struct epoch *ret_epoch,
                            uint64_t *ret_first_lsn)
{
    catch_up(pos);
    int rc = look_up(pos, lsn);
    if (rc > 0) {
        *ret_epoch = pos->at->iter.group.epoch;
        rc = find_start(pos, *ret_epoch);
    }

    if (rc < 0)
        return rc;
    if (rc == 0)
        return POSITION_LOST;

    *ret_first_lsn = max_u64(pos->at->iter.group.first_lsn, pos->snapshot->first_lsn);
    twl_read_position_leave(pos);
    return 1;
}

/* ---- by time ----------------------------------------------------------------------------------- */

/* Where those records of the segment end that the snapshot covers. If the next segment is damaged, it does not tell. */
static int find_end_in(struct read_position *pos, size_t index, uint64_t *ret_end_lsn)
{
    struct segment_set *set = set_of(pos);

    *ret_end_lsn = min_u64(twl_segment_set_bound(set, index), pos->snapshot->limit_lsn + 1);
    if (index + 1 >= set->started)
        return 0;

    struct segment_entry *next = &set->entries[index + 1];
    const int rc = twl_segment_try_look(pos->snapshot->io, next);
    if (rc < 0)
        return classify_result(pos, rc);
    if (next->first_lsn > 0)
        *ret_end_lsn = min_u64(*ret_end_lsn, next->first_lsn);
    return 0;
}

static int find_time_in(struct read_position *pos, size_t index, int64_t time_ns)
{
    const struct segment_footer *footer = NULL;
    uint64_t end_lsn;

    int rc = look_at_footer(pos, index, &footer);
    if (rc < 0)
        return rc;
    if (footer && footer->max_ns < time_ns)
        return 0;

    rc = find_end_in(pos, index, &end_lsn);
    if (rc < 0)
        return rc;
    if (end_lsn <= pos->snapshot->first_lsn) /* all of it was trimmed */
        return 0;

    rc = open_segment(pos, index);
    if (rc < 0)
        return rc;

    struct segment_iter *iter = &pos->at->iter;
    iter->summary = NULL; /* it may begin in the middle of the segment */
    twl_iter_refresh(iter);
    const int found = twl_iter_seek_time(iter, footer, pos->snapshot->first_lsn, time_ns);

    /* Behind the end a group may be in the making, which does not check yet. */
    const bool may_be_end = found >= 0 || found == TWINLOG_ECORRUPT;
    if (may_be_end && twl_iter_next_lsn(iter) >= end_lsn)
        return 0;
    return classify_result(pos, found);
}

int twl_read_position_before_time(struct read_position *pos, int64_t time_ns)
{
    struct segment_set *set = set_of(pos);
    int found = 0;

    catch_up(pos);
    const int64_t index = twl_segment_set_find_time(pos->snapshot->io, set, time_ns);
    if (index < 0)
        return classify_result(pos, (int)index);

    for (size_t i = (size_t)index; found == 0 && i < set->started; i++)
        found = find_time_in(pos, i, time_ns);
    return found;
}
