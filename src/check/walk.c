/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the walk stops, recovery's table tells whether that is the end of a segment, the end of the log, or damage.
 * After damage it continues at the next group that proves itself. In front of a segment with a fixed start, and of a
 * gap in the path, everything was durable.
 *
 * A writer may trim, truncate and recycle meanwhile. The segment that is being walked is held. Something that does not
 * fit is damage only if nothing changed since the set was loaded; otherwise the segment is walked again in a new
 * snapshot.
 */
#include "check/walk.h"

#include "base/bytes.h"

#include <errno.h>
#include <limits.h>

#define TRIES 100u /* a log that is truncated faster than it is read is not verified */

/* Not an error code: something does not fit because the snapshot is old. */
#define WALK_STALE INT_MIN

/* ---- reports ----------------------------------------------------------------------------------- */

static int report_finding(struct walk *w, const struct twinlog_report *report, const struct hole *hole)
{
    if (report->error == TWINLOG_ECORRUPT && !twl_log_snapshot_is_current(w->io, &w->snapshot))
        return WALK_STALE;
    return w->visitor.found(w->visitor.context, report, hole);
}

static void place(const struct walk *w, struct twinlog_report *report, uint64_t offset, uint64_t bytes)
{
    twl_report_place(report, w->segment.name, w->segment.header.sequence, offset, bytes);
}

int twl_listener_tell(struct listener *listener, const struct twinlog_report *report)
{
    listener->verdict = listener->each ? listener->each(listener->context, report) : 0;
    return listener->verdict != 0 ? -ECANCELED : 0;
}

static void show_progress(struct walk *w, uint64_t offset)
{
    if (w->listener.progress)
        w->listener.progress(w->listener.context, w->done_bytes + offset, w->total_bytes);
}

void twl_walk_report_records(struct twinlog_report *ret_report, enum twinlog_finding finding,
                             enum twinlog_action action, uint64_t first_lsn, uint64_t last_lsn,
                             const char *what)
{
    const unsigned long long first = first_lsn, last = last_lsn;
    if (first > last)
        twl_report(
            ret_report, finding, action, TWINLOG_ECORRUPT,
            "record %llu does not continue the one before it: a marker between them is damaged, or it is of "
            "another history",
            first);
    else if (first == last)
        twl_report(ret_report, finding, action, TWINLOG_ECORRUPT, "record %llu is %s", first, what);
    else
        twl_report(ret_report, finding, action, TWINLOG_ECORRUPT, "records %llu to %llu are %s", first, last,
                   what);
    ret_report->first_lsn = first;
    ret_report->last_lsn = last;
}

static int tell_hole(struct walk *w, const struct hole *hole)
{
    struct twinlog_report report;
    w->next_lsn = max_u64(w->next_lsn, hole->last_lsn + 1);
    twl_walk_report_records(&report, hole->finding, TWINLOG_DID_NOTHING, hole->first_lsn, hole->last_lsn,
                            "damaged or missing");
    place(w, &report, hole->from, hole->finding == TWINLOG_FOUND_DAMAGE ? hole->to - hole->from : 0);
    return report_finding(w, &report, hole);
}

void twl_walk_report_doubt(const struct walk *w, const struct doubt *doubt, enum twinlog_action action,
                           struct twinlog_report *ret_report)
{
    twl_report(
        ret_report, TWINLOG_FOUND_DAMAGE, action, TWINLOG_ECORRUPT,
        "records %llu to %llu follow the damage, and a crash may have discarded them; whether they were "
        "committed cannot be determined",
        (unsigned long long)doubt->first_lsn, (unsigned long long)doubt->last_lsn);
    place(w, ret_report, doubt->from, doubt->to - doubt->from);
    ret_report->first_lsn = doubt->first_lsn;
    ret_report->last_lsn = doubt->last_lsn;
}

static int tell_lost(struct walk *w, enum twinlog_finding finding, struct epoch epoch, uint64_t from,
                     uint64_t to, uint64_t first, uint64_t last)
{
    const struct hole hole = { .finding = finding,
                               .from = from,
                               .to = to,
                               .first_lsn = first,
                               .last_lsn = last,
                               .epochs = { epoch, epoch },
                               .sure_lsn = UINT64_MAX };
    return tell_hole(w, &hole);
}

static int tell_damage(struct walk *w, uint64_t offset, uint64_t bytes, uint64_t first, uint64_t last)
{
    return tell_lost(w, TWINLOG_FOUND_DAMAGE, w->cursor.group.epoch, offset, offset + bytes,
                     max_u64(first, w->snapshot.set.first_lsn), last);
}

static int tell_missing(struct walk *w, uint64_t offset, uint64_t last)
{
    return tell_lost(w, TWINLOG_FOUND_MISSING_SEGMENT, w->epoch, offset, offset, w->next_lsn, last);
}

/* A fault that costs no record. */
static int tell_harmless(struct walk *w, enum twinlog_finding finding, uint64_t offset, uint64_t bytes,
                         const char *words)
{
    struct twinlog_report report;
    twl_report(&report, finding, TWINLOG_DID_NOTHING, 0, "%s", words);
    place(w, &report, offset, bytes);
    return report_finding(w, &report, NULL);
}

static void tell_system(struct walk *w, int error)
{
    struct twinlog_report report;
    twl_report(&report, error == TWINLOG_EVERSION ? TWINLOG_FOUND_NEWER_FORMAT : TWINLOG_FOUND_SYSTEM_ERROR,
               TWINLOG_DID_NOTHING, error, "cannot read: %s", twinlog_strerror(error));
    place(w, &report, w->cursor.offset, 0);
    report_finding(w, &report, NULL);
}

/* What cannot be read because a segment has another incarnation by now, or is gone, is read in a newer snapshot. */
static int stale_or(int error)
{
    return error == TWINLOG_ECORRUPT || error == -ENOENT ? WALK_STALE : error;
}

static int check_second_header(struct walk *w)
{
    const uint64_t at = twl_second_header_offset(&w->segment.header);
    struct segment_header second;
    int error = 0;
    if (w->snapshot.set.entries[w->index].has_second_header || at >= w->segment.file_bytes)
        return 0;
    const unsigned char *bytes = twl_iter_bytes(&w->cursor, at, HEADER_SECTOR_BYTES, &error);
    const enum header_state state = bytes ? twl_segment_header_decode(bytes, &second) : HEADER_FOREIGN;
    const bool is_same = state == HEADER_VALID && twl_is_same_incarnation(&second, &w->segment.header);
    if (error < 0 || is_same || state == HEADER_NEWER)
        return state == HEADER_NEWER ? TWINLOG_EVERSION : stale_or(error);
    return tell_harmless(
        w, TWINLOG_FOUND_BAD_HEADER, at, HEADER_SECTOR_BYTES,
        "the second header is not like the first one; no record is affected, but a repair could not "
        "use it");
}

/* ---- records ----------------------------------------------------------------------------------- */

static bool is_kept(const struct walk *w, const struct cursor_record *record)
{
    return record->header.kind == RECORD_DATA && record->lsn >= w->snapshot.set.first_lsn;
}

static bool is_lost(const struct walk *w, const struct cursor_record *record)
{
    return record->header.kind == RECORD_FILLER && record->header.type == FILLER_LOST &&
           record->lsn >= w->snapshot.set.first_lsn;
}

/* Known to be lost, so no damage. */
static int tell_fillers(struct walk *w, uint64_t first_lsn, uint64_t last_lsn)
{
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_LOST, TWINLOG_DID_NOTHING, 0,
               "records that were lost before: a repair or a copy has put fillers in their places");
    place(w, &report, w->cursor.group_offset, 0);
    report.first_lsn = first_lsn;
    report.last_lsn = last_lsn;
    return report_finding(w, &report, NULL);
}

/* 1 = all records of the group are there, up to the bound. */
static int accept_records(struct walk *w)
{
    struct segment_iter *cursor = &w->cursor;
    struct cursor_record record;
    uint64_t count = 0, first_lost = 0, last_lost = 0;
    int rc = 0;
    while (cursor->records_left > 0 && twl_iter_next_lsn(cursor) < w->bound) {
        rc = twl_iter_next_kept(cursor, &record);
        if (rc <= 0)
            break;
        count += is_kept(w, &record);
        if (is_lost(w, &record)) {
            first_lost = first_lost ? first_lost : record.lsn;
            last_lost = record.lsn;
        }
    }
    if (rc < 0)
        return rc == TWINLOG_ECORRUPT ? 0 : rc;
    if (cursor->records_left == 0 && cursor->record_offset != cursor->offset)
        return 0;
    w->records += count;
    if (first_lost > 0 && !w->visitor.record)
        rc = tell_fillers(w, first_lost, last_lost);
    return rc < 0 ? rc : 1;
}

/* Some may be damaged; a record with a sound header tells where the next one is. */
static int visit_records(struct walk *w)
{
    struct segment_iter *cursor = &w->cursor;
    struct cursor_record record;
    uint64_t last_lsn = min_u64(cursor->position.next_lsn, w->bound) - 1;
    cursor->record_offset = cursor->entered_offset;
    cursor->records_left = cursor->entered;
    while (cursor->records_left > 0 && twl_iter_next_lsn(cursor) < w->bound) {
        uint64_t lsn = twl_iter_next_lsn(cursor);
        uint64_t offset = cursor->record_offset;
        int rc = twl_iter_next_kept(cursor, &record);
        if (rc > 0 && w->visitor.record) {
            rc = w->visitor.record(w->visitor.context, &record);
        } else if (rc > 0) {
            w->records += is_kept(w, &record);
            rc = 0;
        } else if (rc == TWINLOG_ECORRUPT) {
            rc = twl_iter_skip_record(cursor);
            if (rc == TWINLOG_ECORRUPT)
                return tell_damage(w, offset, cursor->offset - offset, lsn, last_lsn);
            if (rc > 0)
                rc = tell_damage(w, offset, cursor->record_offset - offset, lsn, lsn);
        }
        if (rc != 0)
            return rc;
    }
    if (cursor->records_left == 0 && cursor->record_offset != cursor->offset) /* it is not whole */
        return tell_damage(w, cursor->record_offset, cursor->offset - cursor->record_offset, last_lsn + 1,
                           last_lsn);
    return 0;
}

/* ---- where the walk stops ---------------------------------------------------------------------- */

static int resume(struct walk *w)
{
    struct hole hole;
    int rc = twl_hole_measure(w, &hole);
    if (rc < 0)
        return stale_or(rc);
    rc = tell_hole(w, &hole);
    if (rc != 0 || hole.doubt.to == 0)
        return rc;
    struct twinlog_report report;
    twl_walk_report_doubt(w, &hole.doubt, TWINLOG_DID_NOTHING, &report);
    return report_finding(w, &report, NULL);
}

static int tell_end(struct walk *w, const struct recover_row *row)
{
    w->is_done = true;
    if (row->decision != DECIDE_TRUNCATE || w->snapshot.has_writer)
        return 0;
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_TORN_TAIL, TWINLOG_WOULD_TRUNCATE, 0,
               "the log ends before record %llu: %s", (unsigned long long)w->cursor.position.next_lsn,
               row->why);
    place(w, &report, w->cursor.offset, w->segment.data_end - w->cursor.offset);
    report.first_lsn = w->cursor.position.next_lsn;
    return report_finding(w, &report, NULL);
}

/* Was the segment left here? Its footer is written when the first group of the next segment is durable. */
static bool was_left(const struct walk *w, unsigned facts)
{
    const struct segment_set *set = &w->snapshot.set;
    const struct segment_footer *footer = &w->footer;
    return (facts & FACT_SEALED) && w->cursor.offset == footer->data_end &&
           w->cursor.position.chain == footer->chain && w->index + 1 < set->started + set->spares &&
           set->entries[w->index + 1].header.sequence == w->segment.header.sequence + 1;
}

/* What is missing then begins a later segment, and is found there. */
static bool is_full(struct walk *w, const struct recover_judgement *judgement)
{
    struct segment_set *set = &w->snapshot.set;
    const struct segment_iter *cursor = &w->cursor;
    unsigned facts = judgement->facts;
    if (cursor->position.next_lsn == 0) /* even the first group is missing */
        return false;
    if (judgement->row->decision == DECIDE_NEXT_SEGMENT)
        return true;
    if (was_left(w, facts)) {
        w->has_begun = true;
        return true;
    }
    if (judgement->is_followed || !(facts & FACT_LATER_DURABLE) || judgement->later.offset == 0)
        return false;
    if (w->is_sealed)
        return cursor->offset == w->footer.data_end && cursor->position.chain == w->footer.chain;
    /* What is missing in front of a segment with a known beginning was here. */
    struct segment_entry *next = &set->entries[w->index + 1];
    bool is_here = w->index + 1 < set->started && twl_segment_try_look(w->io, next) == 0 &&
                   next->first_lsn > cursor->position.next_lsn;
    return (facts & FACT_ZERO) && !is_here;
}

/* No whole group is here. If that is not damage, the segment or the log ends. */
static int judge(struct walk *w, bool *ret_is_damage)
{
    struct recover_judgement judgement;
    uint64_t next_lsn = w->cursor.position.next_lsn;
    *ret_is_damage = w->bound < UINT64_MAX || walk_has_gap_behind(w);
    if (*ret_is_damage)
        return 0;
    if (next_lsn > w->limit_lsn) { /* it is being written now */
        w->is_done = true;
        return 0;
    }
    int rc = twl_recover_judge(w->io, &w->snapshot.set, w->index, &w->cursor, NULL, &judgement);
    if (rc < 0)
        return stale_or(rc);
    if (is_full(w, &judgement))
        return 0;
    *ret_is_damage = w->snapshot.has_writer || w->has_begun || judgement.row->decision == DECIDE_DAMAGE;
    return *ret_is_damage ? 0 : tell_end(w, judgement.row);
}

/* ---- groups ------------------------------------------------------------------------------------ */

/* Is the group with the record in front of the bound the one that the next segment continues? */
static int check_bound(struct walk *w)
{
    const struct group_header *group = &w->cursor.group;
    const struct segment_set *set = &w->snapshot.set;
    if (w->bound == UINT64_MAX || group->count == 0 || w->cursor.position.next_lsn < w->bound)
        return 0;
    if (twl_group_chain(group) == set->entries[w->index + 1].header.start_chain)
        return 0;
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
               "record %llu is not in the group that the log was truncated behind",
               (unsigned long long)w->bound - 1);
    place(w, &report, w->cursor.group_offset, group->bytes);
    report.first_lsn = report.last_lsn = w->bound - 1;
    const struct hole joint = { .finding = TWINLOG_FOUND_DAMAGE,
                                .from = w->cursor.offset,
                                .to = w->cursor.offset,
                                .first_lsn = w->bound,
                                .last_lsn = w->bound - 1,
                                .epochs = { group->epoch, group->epoch } };
    return report_finding(w, &report, &joint);
}

/* As recovery does: a durable record was complete, so a claim in its place is damage. */
static int check_claim(struct walk *w)
{
    const struct segment_iter *cursor = &w->cursor;
    const uint64_t marked_lsn =
        max_u64(twl_segment_set_promise_behind(&w->snapshot.set, w->index), cursor->group.durable_lsn);
    if (cursor->is_open && cursor->is_claim && w->claim_lsn == 0)
        w->claim_lsn = cursor->position.next_lsn - 1;
    const uint64_t lsn = w->claim_lsn;
    if (lsn == 0 || marked_lsn < lsn)
        return 0;
    w->claim_lsn = 0;
    return tell_damage(w, cursor->group_offset, 0, lsn, lsn);
}

/* 1 = go on with the next one. */
static int check_group(struct walk *w)
{
    struct segment_iter *cursor = &w->cursor;
    uint64_t end_lsn = min_u64(cursor->position.next_lsn, w->bound);
    w->has_begun = false;
    if (end_lsn - 1 > w->limit_lsn) {
        w->is_done = true;
        return 0;
    }
    const bool is_removed = end_lsn <= w->segment.head_lsn && !cursor->is_open;
    int rc = 0;
    if (cursor->group.first_lsn > w->next_lsn)
        rc = tell_missing(w, cursor->group_offset, cursor->group.first_lsn - 1);
    if (rc != 0)
        return rc;
    const int accepted = is_removed ? 0 : accept_records(w);
    if (accepted < 0)
        return accepted;
    if (accepted == 0 && !is_removed) {
        bool is_damage;
        twl_iter_back_out(cursor);
        rc = judge(w, &is_damage);
        if (rc != 0 || !is_damage)
            return rc;
        rc = twl_iter_enter_group(cursor);
        rc = rc > 0 ? visit_records(w) : rc;
        if (rc != 0)
            return rc;
    }
    rc = check_bound(w);
    if (rc == 0)
        rc = check_claim(w);
    if (rc == 0 && accepted > 0 && w->visitor.record)
        rc = visit_records(w);
    w->epoch = cursor->group.epoch;
    w->next_lsn = max_u64(w->next_lsn, end_lsn);
    return rc != 0 ? rc : 1;
}

/* 1 = go on in this segment. */
static int step(struct walk *w)
{
    struct segment_iter *cursor = &w->cursor;
    uint64_t next_lsn = cursor->position.next_lsn;
    if (next_lsn >= w->bound)
        return 0;
    int rc = twl_iter_enter_group(cursor);
    if (rc < 0)
        return rc;
    if (rc > 0)
        return cursor->group.first_lsn < w->bound ? check_group(w) : 0;
    if (cursor->offset >= w->segment.data_end && next_lsn == 0)
        return 0;
    bool is_damage;
    rc = judge(w, &is_damage);
    if (rc != 0 || !is_damage)
        return rc;
    rc = resume(w);
    return rc != 0 ? rc : 1;
}

/* ---- segments ---------------------------------------------------------------------------------- */

/* Only segments that were left are sealed; the newest one may have a footer that is no longer true. A fault in footer
 * or index loses nothing, but readers take the long way. A footer is written once, into zeros. */
static int look_at_seal(struct walk *w)
{
    const bool was_left = w->index + 1 < w->snapshot.set.started;
    int error = 0;
    int rc = twl_segment_read_footer(&w->segment, &w->footer);
    w->is_sealed = was_left && rc > 0;
    w->footer_lsn = rc > 0 ? w->footer.last_lsn : 0;
    w->has_bad_seal = false;
    if (rc < 0 || !was_left)
        return rc < 0 ? rc : 0;
    if (rc == 0) {
        const unsigned char *remains =
            twl_iter_bytes(&w->cursor, twl_segment_footer_offset(&w->segment), FOOTER_SECTOR_BYTES, &error);
        w->has_bad_seal = remains && !are_zeros(remains, FOOTER_SECTOR_BYTES);
        return error;
    }
    rc = twl_iter_load_index(&w->cursor, &w->footer);
    w->has_bad_seal = rc == 0 && w->cursor.index.count != w->footer.index_entries;
    return rc;
}

static int walk_segment(struct walk *w, struct position *position)
{
    const uint64_t start_lsn = w->segment.header.start_lsn;
    int rc = 0;
    if (start_lsn > w->next_lsn) /* not even the segment that it continues is there */
        rc = tell_missing(w, SEGMENT_DATA_OFFSET, start_lsn - 1);
    if (rc != 0)
        return rc;
    if (start_lsn > 0) {
        *position = twl_position_before(&w->segment.header);
        w->epoch = position->epoch; /* records of the epoch in front may be truncated ones */
        w->next_lsn = max_u64(start_lsn, w->snapshot.set.first_lsn);
    }
    w->bound = twl_segment_set_bound(&w->snapshot.set, w->index);
    twl_iter_begin(&w->cursor, &w->segment, *position);
    rc = look_at_seal(w);
    if (rc == 0)
        rc = check_second_header(w);
    for (unsigned steps = 0; rc == 0 && !w->is_done; steps++) {
        rc = step(w);
        if (rc <= 0)
            break;
        rc = 0;
        if (steps % 64 == 0)
            show_progress(w, w->cursor.offset);
    }
    /* a file that was cut and got no footer ends with its groups */
    const uint64_t footer_at = twl_segment_footer_offset(&w->segment);
    const bool has_bad_seal = w->has_bad_seal && footer_at >= w->cursor.offset;
    if (rc == 0 && !w->is_done && has_bad_seal && !w->snapshot.has_writer)
        rc = tell_harmless(
            w, TWINLOG_FOUND_BAD_INDEX, footer_at, SEGMENT_FOOTER_BYTES,
            "the footer or the index does not check; no record is affected, but finding one here "
            "takes longer");
    *position = w->cursor.position;
    return rc;
}

/* Where no segment looks started, the first groups may be lost: a spare has no groups. */
static int check_segment(struct walk *w, struct position *position)
{
    const struct segment_set *set = &w->snapshot.set;
    const bool is_in_spares = set->started == 0 && w->index == 0;
    int rc = twl_log_snapshot_open_segment(w->io, &set->entries[w->index], &w->segment);
    if (rc == -EAGAIN)
        return WALK_STALE;
    if (rc == 0) {
        if (is_in_spares)
            rc = stale_or(twl_walk_find_spare(w, 0, &w->has_begun));
        if (rc == 0 && is_in_spares && !w->has_begun)
            w->index = set->spares - 1; /* they are all empty */
        else if (rc == 0)
            rc = walk_segment(w, position);
        twl_segment_close(&w->segment);
        w->done_bytes += w->segment.header.bytes;
    }
    if (rc < 0 && rc != WALK_STALE && w->listener.verdict == 0)
        tell_system(w, rc);
    return rc;
}

/* Not even an end of the log is there. */
static int tell_missing_end(struct walk *w)
{
    const struct segment_set *set = &w->snapshot.set;
    w->segment = (struct segment){ .header.sequence = 0 };
    w->index = set->started > 0 ? set->started - 1 : SIZE_MAX;
    w->is_done = true;
    const uint64_t last_lsn = max_u64(set->passed_lsn, twl_segment_set_promise_behind(set, w->index));
    return last_lsn >= w->next_lsn ? tell_missing(w, 0, last_lsn) : 0;
}

/* ---- the log ----------------------------------------------------------------------------------- */

int twl_walk_load(struct walk *w, struct twinlog_report *ret_report)
{
    int rc = -EAGAIN;
    for (unsigned tries = 0; rc == -EAGAIN && tries < TRIES; tries++) {
        struct log_snapshot snapshot;
        rc = twl_log_snapshot_load(w->io, SNAPSHOT_READS_DISK | w->snapshot_flags, &snapshot, ret_report);
        if (rc < 0)
            return rc;
        twl_log_snapshot_free(&w->snapshot); /* after a failure there is still the one before */
        w->snapshot = snapshot;
        rc = twl_log_snapshot_find_durable(w->io, &w->snapshot, &w->limit_lsn);
    }
    if (rc < 0) {
        rc = rc == -EAGAIN ? -EBUSY : rc;
        twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, rc, "cannot read: %s",
                   twinlog_strerror(rc));
        return rc;
    }
    const struct segment_set *set = &w->snapshot.set;
    w->next_lsn = max_u64(w->next_lsn, set->first_lsn);
    w->total_bytes = w->done_bytes;
    for (size_t i = w->index; i < set->started; i++)
        w->total_bytes += set->entries[i].header.bytes;
    w->cursor.passes_claims = !w->snapshot.has_writer;
    return 0;
}

/* What was known in front of the last segment with groups that was walked. */
struct stage {
    uint64_t sequence; /* of that segment; 0 = there was none */
    struct position position;
    uint64_t records, next_lsn;
};

/* Goes back to the stage. Its segment is walked again even if all of it was walked: it may have more records now. */
static int look_again(struct walk *w, const struct stage *stage, struct position *ret_position)
{
    struct twinlog_report report;
    w->is_done = false;
    w->index = 0;
    w->records = stage->records;
    w->next_lsn = stage->next_lsn;
    int rc = twl_walk_load(w, &report);
    if (rc < 0 && rc != -ENOENT)
        w->visitor.found(w->visitor.context, &report, NULL);
    if (rc < 0)
        return rc;
    const struct segment_set *set = &w->snapshot.set;
    while (w->index < set->started && set->entries[w->index].header.sequence < stage->sequence)
        w->index++;
    const bool is_there =
        w->index < set->started && set->entries[w->index].header.sequence == stage->sequence;
    *ret_position = is_there ? stage->position : (struct position){ 0 };
    return 0;
}

int twl_walk_through(struct walk *w)
{
    const struct segment_set *set = &w->snapshot.set;
    struct position position = { 0 };
    struct stage stage = { .next_lsn = w->next_lsn };
    unsigned tries = 1;
    int rc = 0;
    while (rc == 0 && !w->is_done) {
        if (w->index < set->started)
            stage =
                (struct stage){ set->entries[w->index].header.sequence, position, w->records, w->next_lsn };
        rc = w->index == set->started + set->spares ? tell_missing_end(w) : check_segment(w, &position);
        if (rc == WALK_STALE)
            rc = tries++ < TRIES ? look_again(w, &stage, &position) : -EBUSY;
        else
            w->index++;
    }
    show_progress(w, 0);
    return rc;
}

void twl_walk_free(struct walk *w)
{
    twl_iter_free(&w->cursor);
    twl_log_snapshot_free(&w->snapshot);
}
