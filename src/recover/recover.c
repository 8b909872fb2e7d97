/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the end of the log: walks the newest segment, and the ones before it that have open groups, to the first place
 * that does not continue the history. The facts about that place decide, by the table of docs/recovery.md. The glossary
 * of docs/design.md has the words. A cursor is a walk through a segment here, but in FACT_PASSED a named cursor of a
 * consumer. "Behind" is later in the log, "in front" earlier.
 */
#include "recover/recover.h"

#include "base/bytes.h"
#include "walk/segment_iter_inside.h"

#include <errno.h>
#include <string.h>

/* Behind the marker of a close comes that of a start, a block, or the next spare if there is no room for it. */
#define GAP_BEHIND_CLOSE_BYTES (UINT64_C(64) << 10)
#define GAP_IN_SPARE_BYTES (4 * BLOCK_BYTES)

#define PROOF (FACT_LATER_DURABLE | FACT_SEALED | FACT_PASSED)

const struct recover_row twl_recover_table[] = {
    { FACT_LATER_DURABLE, FACT_LATER_DURABLE, DECIDE_DAMAGE, "something later proves that it was durable" },
    { FACT_LATER_DURABLE | FACT_SEALED, FACT_SEALED, DECIDE_DAMAGE,
      "the segment is sealed, and there was more" },
    { PROOF, FACT_PASSED, DECIDE_DAMAGE, "a cursor or the head of the log is behind it" },
    { PROOF | FACT_NEWEST | FACT_JOINS, FACT_JOINS, DECIDE_NEXT_SEGMENT, "the next segment continues here" },
    { PROOF | FACT_NEWEST | FACT_JOINS, 0, DECIDE_TRUNCATE, "later segments were never acknowledged" },
    { PROOF | FACT_NEWEST | FACT_ZERO, FACT_NEWEST, DECIDE_TRUNCATE, "a group was being written" },
    { PROOF | FACT_NEWEST | FACT_ZERO | FACT_CLOSED, FACT_NEWEST | FACT_ZERO, DECIDE_CLEAN_END,
      "the log ends with a whole group, and is not closed" },
    { PROOF | FACT_NEWEST | FACT_ZERO | FACT_CLOSED, FACT_NEWEST | FACT_ZERO | FACT_CLOSED,
      DECIDE_CLEAN_CLOSE, "the last writer closed the log" },
};
const size_t twl_recover_rows = sizeof(twl_recover_table) / sizeof(twl_recover_table[0]);

const struct recover_row *twl_recover_decide(unsigned facts)
{
    for (size_t i = 0; i < twl_recover_rows; i++)
        if ((facts & twl_recover_table[i].care) == twl_recover_table[i].value)
            return &twl_recover_table[i];
    ASSERT(false); /* the table is complete */
    return NULL;
}

/* ---- what lies behind the end: later segments ---------------------------------------------------- */

/* The walk has stopped. This is what is known of the stop, and of what lies behind it. */
struct end_search {
    struct position stop;       /* that of the group that would come next */
    uint64_t spare_gap;         /* how far into a spare a group may lie that continues, in bytes */
    unsigned facts;             /* enum recover_fact, as far as they are known */
    struct later_groups *later; /* the first groups behind the stop that were found */
};

/* A later segment, and what it is to the end. */
struct later_segment {
    const struct segment *segment;
    bool is_started; /* no spare: a writer has begun it */
    bool is_next;    /* directly behind the segment with the end */
};

/* Does the first group of the segment continue at the stop? 1, 0, or an error. Where the next LSN is not known, any
 * group would, so none counts. */
static int joins(struct segment_iter *cursor, const struct position *stop)
{
    return stop->next_lsn > 0 ? twl_iter_enter_group(cursor) : 0;
}

/* A segment that was begun proves that everything in front of it was durable. A mapped one does so only with a group,
 * or with a footer: a sealed segment was begun, even if it has no group left. */
static int ask_for_proof(const struct segment *segment, struct later_groups *found)
{
    struct segment_footer footer;

    if (!segment_is_mapped(&segment->header)) {
        found->is_proof = true;
        return 0;
    }
    if (found->offset != 0) /* then twl_iter_find_later() has said whether it is proof */
        return 0;

    const int rc = twl_segment_read_footer(segment, &footer);
    found->is_proof = rc > 0;
    return rc < 0 ? rc : 0;
}

/* Of spares only the next one is searched for groups: its first group may be the one that is missing, and no segment is
 * started before the one in front of it. */
static int ask_later_segment(struct end_search *search, struct segment_iter *cursor,
                             const struct later_segment *later, struct later_groups *ret_found)
{
    twl_iter_begin(cursor, later->segment, search->stop);
    if (later->is_next) {
        const int result = joins(cursor, &search->stop);
        if (result > 0)
            search->facts |= FACT_JOINS;
        if (result != 0)
            return result < 0 ? result : 0;
    }

    if (later->is_next || later->is_started) {
        const uint64_t gap = later->is_started ? UINT64_MAX : search->spare_gap;
        const int rc = twl_iter_find_later(cursor, SEGMENT_DATA_OFFSET, gap, search->stop, ret_found);
        if (rc < 0)
            return rc;
    }
    return later->is_started ? ask_for_proof(later->segment, ret_found) : 0;
}

/* Opens the segment `at` of the set and asks it. */
static int ask_segment_at(struct end_search *search, struct io *io, const struct segment_set *set,
                          size_t index, size_t at, struct segment_iter *cursor)
{
    struct segment segment;
    struct later_groups found = { 0 };
    const struct later_segment later = { &segment, at < set->started, at == index + 1 };

    int rc = twl_segment_open_entry(io, &set->entries[at], &segment);
    if (rc == -ENOENT && !later.is_started) /* a spare that its writer has removed since */
        return 0;
    if (rc < 0)
        return rc;
    if (later.is_started)
        search->facts &= ~(unsigned)FACT_NEWEST;

    /* Its header names an LSN that was durable when it was prepared. Is the missing record up to there? */
    if (search->stop.next_lsn > 0 && twl_segment_set_promise(set, at) >= search->stop.next_lsn)
        found.is_proof = true;
    else
        rc = ask_later_segment(search, cursor, &later, &found);

    if (search->later->offset == 0)
        *search->later = found;
    else if (found.is_proof)
        search->later->is_proof = true;
    twl_segment_close(&segment);
    return rc;
}

/* Asks one segment after the other until one continues the log, or proves that something is missing. The buffer of the
 * cursor at the end is borrowed: a new one of that size costs the kernel as long as what is read into it. */
static int ask_later_segments(struct end_search *search, struct io *io, const struct segment_set *set,
                              size_t index, struct segment_iter *at_end)
{
    struct segment_iter cursor = { 0 };
    const size_t count = set->started + set->spares;
    int rc = 0;

    twl_iter_take_buffer(&cursor, at_end);
    search->facts |= FACT_NEWEST;
    for (size_t at = index + 1; at < count && rc == 0; at++) {
        if (search->later->is_proof || (search->facts & FACT_JOINS))
            break;
        rc = ask_segment_at(search, io, set, index, at, &cursor);
    }
    twl_iter_take_buffer(at_end, &cursor);
    twl_iter_free(&cursor);
    return rc;
}

/* ---- what is at the end itself --------------------------------------------------------------------- */

/* Is the rest of the block zero? Or is it a whole block of a file that was used before, and no group of this
 * incarnation begins there? */
static int is_unwritten(struct segment_iter *cursor, bool *ret_is_unwritten)
{
    const struct segment *segment = cursor->segment;
    const uint64_t end = min_u64(align_up(cursor->offset + 1, BLOCK_BYTES), segment->data_end);
    struct group_header group;

    int rc = twl_iter_has_ended(cursor);
    const uint64_t from = cursor->offset + (rc > 0 ? sizeof(uint64_t) : 0); /* a claim ends it */
    *ret_is_unwritten = true;
    if (rc < 0 || from >= end)
        return rc < 0 ? rc : 0;

    const unsigned char *bytes = twl_iter_bytes(cursor, from, (size_t)(end - from), &rc);
    if (!bytes) { /* in a file that was made shorter they may be missing */
        *ret_is_unwritten = false;
        return rc == 0 && end <= segment->header.bytes ? TWINLOG_ECORRUPT : rc;
    }

    if (!are_zeros(bytes, (size_t)(end - from))) {
        const bool is_whole_block = cursor->offset % BLOCK_BYTES == 0;
        *ret_is_unwritten = segment->header.incarnations > 0 && is_whole_block &&
                            !twl_group_header_decode(bytes, segment->seed, cursor->offset, &group);
    }
    return rc;
}

/* Is this segment sealed only when the first group of the next one is durable? A writer that maps does not wait for
 * that group. */
static bool was_left(const struct segment_set *set, size_t index)
{
    const bool has_next = index + 1 < set->started + set->spares;

    if (segment_is_mapped(&set->entries[index].header))
        return false;
    return !has_next || !segment_is_mapped(&set->entries[index + 1].header);
}

/* Is the cursor at the first group of its segment, and does the seal of the segment in front prove that group? A
 * segment with a start in its header counts as started without a group. */
static int is_first_group_durable(struct io *io, const struct segment_set *set, size_t index,
                                  const struct segment_iter *cursor, bool *ret_is_durable)
{
    const struct segment_header *header = &set->entries[index].header;
    const bool is_first = cursor->is_at_first || cursor->offset == SEGMENT_DATA_OFFSET;

    *ret_is_durable = false;
    if (!is_first || index == 0 || header->start_lsn > 0)
        return 0;
    if (!was_left(set, index - 1) || set->entries[index - 1].header.sequence + 1 != header->sequence)
        return 0;

    struct segment_entry before = set->entries[index - 1];
    const int rc = twl_segment_look(io, &before);
    *ret_is_durable = rc == 0 && before.is_sealed;
    return rc;
}

/* Other proof, which is asked for when no segment continues the log: a footer that counts more, a named cursor or the
 * head of the log behind the stop. */
static int ask_the_rest(struct io *io, const struct segment_set *set, size_t index,
                        const struct segment_iter *cursor, unsigned *facts)
{
    const uint64_t next_lsn = cursor->position.next_lsn;
    struct segment_entry entry = set->entries[index];

    const int rc = twl_segment_look(io, &entry);
    if (rc < 0)
        return rc;
    if (entry.is_sealed && (cursor->offset < entry.footer.data_end || was_left(set, index)))
        *facts |= FACT_SEALED;
    if (next_lsn > 0 && (set->first_lsn > next_lsn || set->passed_lsn >= next_lsn))
        *facts |= FACT_PASSED;
    return 0;
}

/* ---- the judgement ----------------------------------------------------------------------------------- */

/* How many bytes behind the end groups of this log may lie. Behind a close comes the marker of the next start. Behind
 * an ordinary group comes one that was written at the same time, and that is at most as large as the log allows. In a
 * mapped segment it may be anywhere, and so it may where no group was accepted (a header of zeros tells nothing). */
static uint64_t gap_behind(const struct group_header *last, bool is_mapped, bool ends_closed)
{
    if (ends_closed)
        return GAP_BEHIND_CLOSE_BYTES;
    if (!last || is_mapped)
        return UINT64_MAX;

    const uint64_t most_bytes = twl_group_most_bytes(last);
    if (most_bytes == UINT64_MAX)
        return UINT64_MAX;
    return max_u64(GROUP_GAP_BYTES, most_bytes) + 2 * BLOCK_BYTES;
}

int twl_recover_judge(struct io *io, const struct segment_set *set, size_t index, struct segment_iter *cursor,
                      const struct group_header *last, struct recover_judgement *ret_judgement)
{
    const bool is_mapped = segment_is_mapped(&set->entries[index].header);
    const bool was_closed = last && last->kind == GROUP_CLOSE;
    struct later_groups later;
    struct end_search search = { .stop = cursor->position, .later = &later };
    bool is_zero = false, is_durable;

    int rc = is_first_group_durable(io, set, index, cursor, &is_durable);
    if (rc == 0)
        rc = is_unwritten(cursor, &is_zero);
    if (rc < 0)
        return rc;

    /* In this segment. A mapped one may have had no space for the marker of the next start. The page of the log may
     * name a later writer than the one that closed it here. */
    const bool is_of_note = set->note.epoch == search.stop.epoch.number;
    const bool ends_closed = was_closed && is_zero && !is_mapped && is_of_note;
    const uint64_t gap = gap_behind(last, is_mapped, ends_closed);
    const bool has_room = cursor->offset + SEGMENT_MARKER_BYTES <= cursor->segment->data_end;
    rc = twl_iter_find_later(cursor, cursor->offset, gap, search.stop, &later);
    if (rc < 0)
        return rc;
    const bool is_followed = later.offset != 0;
    if (was_closed)
        search.facts |= FACT_CLOSED;
    if (is_zero && !is_followed)
        search.facts |= FACT_ZERO;

    /* In later ones. */
    search.spare_gap = ends_closed && has_room ? GAP_IN_SPARE_BYTES : gap;
    rc = ask_later_segments(&search, io, set, index, cursor);
    if (rc < 0)
        return rc;
    if (later.is_proof || is_durable)
        search.facts |= FACT_LATER_DURABLE;

    if (!(search.facts & FACT_JOINS))
        rc = ask_the_rest(io, set, index, cursor, &search.facts);
    if (rc < 0)
        return rc;

    *ret_judgement = (struct recover_judgement){
        .facts = search.facts,
        .row = twl_recover_decide(search.facts),
        .later = later,
        .is_followed = is_followed,
    };
    return 0;
}

/* ---- what is reported -------------------------------------------------------------------------------- */

/* The last record that is known to be lost: the one in front of the next sound group, or the last one that a footer, a
 * cursor or the head of the log counts. */
static uint64_t find_last_lost(const struct segment_set *set, size_t index, const struct later_groups *later,
                               uint64_t next_lsn)
{
    const struct segment_entry *entry = &set->entries[index];
    uint64_t counted_lsn = entry->is_sealed ? entry->footer.last_lsn : 0;
    counted_lsn = max_u64(counted_lsn, max_u64(set->passed_lsn, set->first_lsn - 1));
    return max_u64(next_lsn, later->first_lsn > 0 ? later->first_lsn - 1 : counted_lsn);
}

struct lost {
    uint64_t first_lsn, last_lsn;
    uint64_t offset;
};

/* If the header of the group checks, only some of its records are damaged. */
static void narrow_down(struct segment_iter *cursor, struct lost *lost)
{
    struct cursor_record record;
    if (cursor->is_open || twl_iter_enter_group(cursor) <= 0)
        return;
    while (twl_iter_next_kept(cursor, &record) > 0)
        continue;
    if (cursor->records_left > 0) {
        lost->first_lsn = max_u64(lost->first_lsn, twl_iter_next_lsn(cursor));
        lost->offset = cursor->record_offset;
        if (twl_iter_skip_record(cursor) > 0)
            lost->last_lsn = lost->first_lsn;
    }
    twl_iter_back_out(cursor);
}

static void report_damage(struct twinlog_report *report, const struct segment_entry *entry, struct lost lost,
                          const char *why)
{
    twl_report(report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "record %llu is damaged or missing: %s; restore the segment from a copy",
               (unsigned long long)lost.first_lsn, why);
    report->first_lsn = lost.first_lsn;
    report->last_lsn = lost.last_lsn;
    twl_report_place(report, entry->name, entry->header.sequence, lost.offset, 0);
}

static void report_torn_tail(struct recovery *recovery, const struct segment_entry *entry, const char *why)
{
    const uint64_t next_lsn = recovery->position.next_lsn;
    const uint64_t rest_bytes = twl_segment_data_end(entry->header.bytes) - recovery->offset;
    struct twinlog_report *report = &recovery->report;

    twl_report(report, TWINLOG_FOUND_TORN_TAIL, TWINLOG_WOULD_TRUNCATE, 0,
               "the log ends before record %llu: %s", (unsigned long long)next_lsn, why);
    report->first_lsn = next_lsn;
    twl_report_place(report, entry->name, entry->header.sequence, recovery->offset, rest_bytes);
}

static void report_clean_end(struct recovery *recovery, const struct segment_entry *entry,
                             const struct recover_row *row)
{
    const bool is_open = row->decision == DECIDE_CLEAN_END;
    struct twinlog_report *report = &recovery->report;

    twl_report(report, is_open ? TWINLOG_FOUND_CLEAN_END : TWINLOG_FOUND_CLEAN_CLOSE, TWINLOG_DID_NOTHING, 0,
               "the log ends before record %llu: %s", (unsigned long long)recovery->position.next_lsn,
               row->why);
    report->first_lsn = 0;
    twl_report_place(report, entry->name, entry->header.sequence, recovery->offset, 0);
}

static void describe_end(struct recovery *recovery, const struct segment_set *set, size_t index,
                         const struct recover_judgement *judgement, struct segment_iter *cursor)
{
    const struct segment_entry *entry = &set->entries[index];
    const struct recover_row *row = judgement->row;

    if (row->decision == DECIDE_DAMAGE) {
        const uint64_t next_lsn = recovery->position.next_lsn;
        struct lost lost = { .first_lsn = max_u64(next_lsn, set->first_lsn), .offset = recovery->offset };
        lost.last_lsn = find_last_lost(set, index, &judgement->later, lost.first_lsn);
        narrow_down(cursor, &lost);
        report_damage(&recovery->report, entry, lost, row->why);
        return;
    }
    if (row->decision == DECIDE_TRUNCATE)
        report_torn_tail(recovery, entry, row->why);
    else
        report_clean_end(recovery, entry, row);
}

static void describe_newer(struct recovery *recovery, const struct segment_entry *entry,
                           const struct segment_iter *cursor)
{
    twl_report(&recovery->report, TWINLOG_FOUND_NEWER_FORMAT, TWINLOG_DID_REFUSE, TWINLOG_EVERSION,
               "%s was written by a newer twinlog; use that version to read it", entry->name);
    recovery->report.first_lsn = cursor->position.next_lsn;
    twl_report_place(&recovery->report, entry->name, entry->header.sequence, cursor->offset, 0);
}

bool twl_begin_at_note(struct segment_iter *cursor, uint64_t segment_id, uint64_t offset,
                       struct summary *summary)
{
    uint64_t first_lsn = 0;
    int64_t began_ns = 0;
    if (segment_id != cursor->segment->header.segment_id)
        return false;
    /* An age counts from the first group with records. */
    while (summary && began_ns == 0 && cursor->group_offset < offset) {
        if (twl_iter_enter_group(cursor) <= 0 || cursor->group_offset > offset)
            return false;
        first_lsn = first_lsn > 0 ? first_lsn : cursor->group.first_lsn;
        began_ns = cursor->group.count > 0 ? cursor->group.time_ns : 0;
    }
    if (twl_iter_pass_to(cursor, offset) <= 0)
        return false;
    if (summary) {
        summary->indexed_lsn = twl_iter_next_lsn(cursor);
        summary->first_lsn = first_lsn;
        summary->began_ns = began_ns;
    }
    return true;
}

/* Recovers one segment, from `position` on. 1 = the log continues in the next segment. */
static int recover_segment(struct io *io, const struct segment_set *set, size_t index,
                           struct segment_iter *cursor, struct position position, struct summary *summary,
                           struct recovery *recovery)
{
    struct segment segment;
    int rc = twl_segment_open_entry(io, &set->entries[index], &segment);
    if (rc < 0)
        return rc;

    twl_iter_begin(cursor, &segment, position);
    const bool is_noted = index + 1 == set->started &&
                          twl_begin_at_note(cursor, set->note.segment_id, set->note.group, summary);
    if (!is_noted)
        twl_iter_begin(cursor, &segment, position);
    cursor->summary = summary;
    struct group_header last = { 0 };
    recovery->index = index;
    recovery->last_group = 0;
    recovery->marked_lsn = max_u64(recovery->marked_lsn, twl_segment_set_promise(set, index));
    while ((rc = twl_iter_accept_group(cursor)) > 0) {
        recovery->last_group = cursor->group_offset;
        last = cursor->group;
        recovery->marked_lsn = max_u64(recovery->marked_lsn, cursor->group.durable_lsn);
        if (cursor->is_open && cursor->is_claim && recovery->claim_lsn == 0) {
            recovery->claim_lsn = cursor->position.next_lsn - 1;
            recovery->claim_index = index;
            recovery->claim_offset = cursor->entered_offset;
        }
    }
    struct recover_judgement judgement;
    if (rc == 0)
        rc = twl_recover_judge(io, set, index, cursor, &last, &judgement);
    if (rc == 0) {
        recovery->marked_lsn = max_u64(recovery->marked_lsn, judgement.later.named_lsn);
        /* the first group of a segment begins in its first block */
        recovery->offset = recovery->last_group ? cursor->offset : SEGMENT_DATA_OFFSET;
        recovery->has_junk = !(judgement.facts & FACT_ZERO) || twl_iter_has_ended(cursor) > 0;
        recovery->position = cursor->position;
        if (recovery->position.next_lsn == 0) /* the segment is sealed, and even its first group is missing */
            recovery->position.next_lsn = set->entries[index].first_lsn;
        describe_end(recovery, set, index, &judgement, cursor);
        if (judgement.row->decision == DECIDE_DAMAGE)
            rc = TWINLOG_ECORRUPT;
        else if (judgement.row->decision == DECIDE_NEXT_SEGMENT)
            rc = 1;
    }
    if (rc == TWINLOG_EVERSION)
        describe_newer(recovery, &set->entries[index], cursor);
    twl_segment_close(&segment);
    return rc;
}

/* A record that something proves durable was complete, and the disk has gone back to its claim. */
static int check_claims(const struct segment_set *set, struct recovery *recovery)
{
    const uint64_t marked_lsn =
        max_u64(recovery->marked_lsn, twl_segment_set_promise_behind(set, recovery->claim_index));
    if (recovery->claim_lsn == 0 || marked_lsn < recovery->claim_lsn)
        return 0;
    report_damage(&recovery->report, &set->entries[recovery->claim_index],
                  (struct lost){ recovery->claim_lsn, recovery->claim_lsn, recovery->claim_offset },
                  twl_recover_decide(FACT_LATER_DURABLE)->why);
    return TWINLOG_ECORRUPT;
}

/* Even the marker in front of an open group may be missing; then it is unknown what the group continues. */
static int find_known(struct io *io, const struct segment_set *set, size_t *from)
{
    int rc = twl_segment_look(io, &set->entries[*from]);
    while (rc == 0 && *from > 0 && set->entries[*from].first_lsn == 0)
        rc = twl_segment_look(io, &set->entries[--*from]);
    return rc;
}

/* Does the walk begin with the group that the segment in front ends at? Only a footer tells without another walk. Where
 * the first group is missing, the walk finds that. */
static int check_joint(struct io *io, const struct segment_set *set, size_t from, struct recovery *recovery)
{
    const struct segment_entry *entry = &set->entries[from];
    struct group_header first;
    struct segment_footer footer;
    struct segment before;
    if (from == 0 || entry->header.start_lsn > 0)
        return 0;
    int rc = twl_segment_first_group(io, entry, &first);
    if (rc < 0 || first.first_lsn == 0)
        return rc;
    rc = twl_segment_open_entry(io, entry - 1, &before);
    if (rc < 0)
        return rc;
    rc = twl_segment_read_footer(&before, &footer);
    twl_segment_close(&before);
    if (rc <= 0)
        return rc;
    const struct position end = { footer.last_lsn + 1, footer.chain, footer.epoch };
    if (twl_group_continues(&first, &end))
        return 0;
    report_damage(&recovery->report, entry, (struct lost){ end.next_lsn, end.next_lsn, SEGMENT_DATA_OFFSET },
                  "this segment is of another history than the one in front of it");
    return TWINLOG_ECORRUPT;
}

static int recover_from(struct io *io, const struct segment_set *set, bool has_writer,
                        struct summary *summary, struct recovery *recovery)
{
    struct segment_iter cursor = { .passes_claims = !has_writer };
    int rc = twl_recover_find_open(io, set, &recovery->open_from);
    size_t from = min_u64(recovery->open_from, set->started - 1);
    if (rc == 0)
        rc = find_known(io, set, &from);
    if (rc < 0)
        return rc;
    struct position position = twl_position_before(&set->entries[from].header);
    for (size_t index = from; rc >= 0 && index < set->started; index++) {
        if (summary)
            twl_summary_begin(summary);
        rc = recover_segment(io, set, index, &cursor, position, summary, recovery);
        position = cursor.position;
        if (rc == 0)
            break;
    }
    twl_iter_free(&cursor);
    if (rc >= 0)
        rc = check_joint(io, set, from, recovery);
    return rc < 0 ? rc : check_claims(set, recovery);
}

/* ---- open groups ------------------------------------------------------------------------------- */

int twl_segment_is_open(struct io *io, const struct segment_entry *entry, bool *ret_is_open)
{
    struct segment segment;
    *ret_is_open = false;
    if (!segment_is_mapped(&entry->header))
        return 0;
    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;
    struct segment_iter cursor = { .window_bytes = 2 * BLOCK_BYTES };
    twl_iter_begin(&cursor, &segment, twl_position_before(&segment.header));
    rc = twl_iter_enter_group(&cursor);
    *ret_is_open = rc == 0;
    if (rc > 0 && cursor.offset == OPEN_GROUP_OFFSET) {
        rc = twl_iter_enter_group(&cursor);
        *ret_is_open = rc == 0 || cursor.is_open;
    }
    twl_iter_free(&cursor);
    twl_segment_close(&segment);
    return rc < 0 ? rc : 0;
}

/* What is in front of a fixed start was durable when that start was made. */
int twl_recover_find_open(struct io *io, const struct segment_set *set, size_t *ret_from)
{
    bool is_open;
    int rc = 0;
    *ret_from = set->started;
    for (bool is_fixed = false; *ret_from > 0 && !is_fixed; --*ret_from) {
        const struct segment_entry *entry = &set->entries[*ret_from - 1];
        rc = twl_segment_is_open(io, entry, &is_open);
        if (rc < 0 || !is_open)
            break;
        is_fixed = entry->header.start_lsn > 0;
    }
    return rc;
}

/* ---- the end of the log ------------------------------------------------------------------------ */

int twl_recover(struct io *io, const struct segment_set *set, bool has_writer, struct summary *summary,
                struct recovery *ret_recovery)
{
    *ret_recovery = (struct recovery){ .position = { .next_lsn = 1 }, .open_from = set->started };
    if (summary)
        twl_summary_begin(summary);
    if (set->started == 0) {
        twl_report(&ret_recovery->report, TWINLOG_FOUND_NEW_LOG, TWINLOG_DID_NOTHING, 0,
                   "there is no log yet");
        return 0;
    }
    int rc = recover_from(io, set, has_writer, summary, ret_recovery);
    if (rc < 0 && ret_recovery->report.error == 0)
        twl_report(&ret_recovery->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_REFUSE, rc,
                   "cannot read the newest segment: %s", twinlog_strerror(rc));
    return rc;
}

/* ---- durable ----------------------------------------------------------------------------------- */

static int sync_segment(struct io *io, const struct segment_entry *entry)
{
    struct io_file *file;
    int rc = io_open(io, entry->name, IO_READ_ONLY | IO_FROM_CACHE, &file);
    if (rc < 0)
        return rc;
    rc = io_sync(file);
    io_close(file);
    return rc;
}

int twl_recover_sync(struct io *io, const struct segment_set *set, size_t from, size_t to)
{
    int rc = 0;
    for (size_t i = from; rc == 0 && i <= to; i++)
        rc = sync_segment(io, &set->entries[i]);
    if (rc == 0)
        rc = io->ops->sync_dir(io);
    return rc == -EINVAL ? 0 : rc;
}
