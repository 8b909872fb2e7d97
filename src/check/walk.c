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
    const bool may_be_old = report->error == TWINLOG_ECORRUPT;

    if (may_be_old) {
        const int is_current = twl_log_snapshot_is_current(w->io, &w->snapshot);
        if (is_current < 0)
            return is_current;
        if (is_current == 0)
            return WALK_STALE;
    }
    return w->visitor.found(w->visitor.context, report, hole);
}

static void set_place(const struct walk *w, struct twinlog_report *report, uint64_t offset, uint64_t bytes)
{
    twl_report_place(report, w->segment.name, w->segment.header.sequence, offset, bytes);
}

int twl_walk_call_each(struct walk *w, const struct twinlog_report *report)
{
    struct callbacks *callbacks = &w->callbacks;

    if (!callbacks->each)
        return 0;
    callbacks->verdict = callbacks->each(callbacks->context, report);
    if (callbacks->verdict != 0)
        return -ECANCELED;
    return 0;
}

static void show_progress(struct walk *w, uint64_t offset)
{
    if (w->callbacks.progress)
        w->callbacks.progress(w->callbacks.context, w->done_bytes + offset, w->total_bytes);
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
    ret_report->first_lsn = first_lsn;
    ret_report->last_lsn = last_lsn;
}

static int report_hole(struct walk *w, const struct hole *hole)
{
    const bool has_bytes = hole->finding == TWINLOG_FOUND_DAMAGE; /* a missing segment has none */
    const uint64_t damaged_bytes = has_bytes ? hole->to - hole->from : 0;
    struct twinlog_report report;

    w->next_lsn = max_u64(w->next_lsn, hole->last_lsn + 1);
    twl_walk_report_records(&report, hole->finding, TWINLOG_DID_NOTHING, hole->first_lsn, hole->last_lsn,
                            "damaged or missing");
    set_place(w, &report, hole->from, damaged_bytes);
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
    set_place(w, ret_report, doubt->from, doubt->to - doubt->from);
    ret_report->first_lsn = doubt->first_lsn;
    ret_report->last_lsn = doubt->last_lsn;
}

/* Reports damaged bytes of the group that was entered. */
static int report_damage(struct walk *w, uint64_t from, uint64_t to, uint64_t first_lsn, uint64_t last_lsn)
{
    const struct epoch epoch = w->iter.group.epoch;
    const struct hole hole = { .finding = TWINLOG_FOUND_DAMAGE,
                               .from = from,
                               .to = to,
                               .first_lsn = max_u64(first_lsn, w->snapshot.set.first_lsn),
                               .last_lsn = last_lsn,
                               .epochs = { epoch, epoch },
                               .sure_lsn = UINT64_MAX };

    return report_hole(w, &hole);
}

/* Reports that all records up to `last_lsn` are missing in front of that place. */
static int report_missing(struct walk *w, uint64_t offset, uint64_t last_lsn)
{
    const struct hole hole = { .finding = TWINLOG_FOUND_MISSING_SEGMENT,
                               .from = offset,
                               .to = offset,
                               .first_lsn = w->next_lsn,
                               .last_lsn = last_lsn,
                               .epochs = { w->epoch, w->epoch },
                               .sure_lsn = UINT64_MAX };

    return report_hole(w, &hole);
}

/* Reports a fault that costs no record. */
static int report_harmless(struct walk *w, enum twinlog_finding finding, uint64_t offset, uint64_t bytes,
                           const char *words)
{
    struct twinlog_report report;

    twl_report(&report, finding, TWINLOG_DID_NOTHING, 0, "%s", words);
    set_place(w, &report, offset, bytes);
    return report_finding(w, &report, NULL);
}

/* Reports an error that ends the walk. */
static void report_system_error(struct walk *w, int error)
{
    const bool is_newer = error == TWINLOG_EVERSION;
    const bool is_later = w->newer_index > w->index;
    struct twinlog_report report;

    if (is_newer && is_later) {
        const struct segment_entry *newer = &w->snapshot.set.entries[w->newer_index];
        twl_recover_report_newer(&report, newer, w->iter.position.next_lsn, SEGMENT_DATA_OFFSET);
        report.action = TWINLOG_DID_NOTHING;
    } else {
        twl_report(&report, is_newer ? TWINLOG_FOUND_NEWER_FORMAT : TWINLOG_FOUND_SYSTEM_ERROR,
                   TWINLOG_DID_NOTHING, error, "cannot read: %s", twinlog_strerror(error));
        set_place(w, &report, w->iter.offset, 0);
    }
    report_finding(w, &report, NULL);
}

/* What cannot be read because a segment is gone, or has another incarnation by now, is read in a newer snapshot. */
static int stale_if_gone(int error)
{
    const bool is_gone = error == TWINLOG_ECORRUPT || error == -ENOENT;

    return is_gone ? WALK_STALE : error;
}

/* Is the second header like the first one? */
static int check_second_header(struct walk *w)
{
    const struct segment_entry *entry = &w->snapshot.set.entries[w->index];
    const uint64_t at = twl_second_header_offset(&entry->header);
    const bool is_too_short = at + HEADER_SECTOR_BYTES > w->segment.file_bytes;
    enum header_state state = HEADER_FOREIGN;
    struct segment_header second;
    int error = 0;

    if (entry->has_second_header)
        return 0;
    if (is_too_short) /* which is reported as such */
        return 0;

    const unsigned char *bytes = twl_iter_bytes(&w->iter, at, HEADER_SECTOR_BYTES, &error);
    if (error < 0)
        return stale_if_gone(error);

    if (bytes)
        state = twl_segment_header_decode(bytes, &second);
    if (state == HEADER_NEWER)
        return TWINLOG_EVERSION;
    if (state == HEADER_VALID && twl_is_same_incarnation(&second, &entry->header))
        return 0;

    return report_harmless(
        w, TWINLOG_FOUND_BAD_HEADER, at, HEADER_SECTOR_BYTES,
        "the second header is not like the first one; no record is affected, but a repair could not "
        "use it");
}

/* ---- records ----------------------------------------------------------------------------------- */

static bool is_kept(const struct walk *w, const struct iter_record *record)
{
    return record->header.kind == RECORD_DATA && record->lsn >= w->snapshot.set.first_lsn;
}

/* Does the record stand for one that was lost before? Then that is known, and no damage. */
static bool is_lost(const struct walk *w, const struct iter_record *record)
{
    const struct record_header *header = &record->header;
    const bool is_mark = header->kind == RECORD_FILLER && header->type == FILLER_LOST;

    return is_mark && record->lsn >= w->snapshot.set.first_lsn;
}

/* Does the group that was entered have another record that counts? */
static bool has_more_records(const struct walk *w)
{
    return w->iter.records_left > 0 && twl_iter_next_lsn(&w->iter) < w->bound;
}

/* If all records of the group were passed, it ends with the last of them. */
static bool has_bytes_left(const struct segment_iter *iter)
{
    return iter->records_left == 0 && iter->record_offset != iter->offset;
}

/* What the group that was entered has, up to the bound. */
struct content {
    bool is_whole; /* everything in it checks */
    bool has_lost; /* some of its records were lost before */
    uint64_t kept; /* records */
};

static int check_records(struct walk *w, struct content *ret_content)
{
    struct iter_record record;

    *ret_content = (struct content){ 0 };
    while (has_more_records(w)) {
        const int result = twl_iter_next_kept(&w->iter, &record);
        if (result == TWINLOG_ECORRUPT) /* the group is not whole */
            return 0;
        if (result < 0)
            return result;
        if (result == 0) /* the rest of the group was removed */
            break;

        if (is_kept(w, &record))
            ret_content->kept++;
        if (is_lost(w, &record))
            ret_content->has_lost = true;
    }

    ret_content->is_whole = !has_bytes_left(&w->iter);
    return 0;
}

/* Records that were lost before, one behind the other. */
struct lost_run {
    uint64_t first_lsn, last_lsn; /* 0 = there is none */
};

static int end_lost_run(struct walk *w, struct lost_run *run)
{
    struct twinlog_report report;

    if (run->first_lsn == 0)
        return 0;
    twl_report(&report, TWINLOG_FOUND_LOST, TWINLOG_DID_NOTHING, 0,
               "records that were lost before: a repair or a copy has put fillers in their places");
    set_place(w, &report, w->iter.group_offset, 0);
    report.first_lsn = run->first_lsn;
    report.last_lsn = run->last_lsn;
    *run = (struct lost_run){ 0 };
    return report_finding(w, &report, NULL);
}

/* Hands a sound record to the visitor, or counts it if the visitor takes none. */
static int take_record(struct walk *w, const struct iter_record *record, struct lost_run *run)
{
    if (w->visitor.record)
        return w->visitor.record(w->visitor.context, record);

    if (is_kept(w, record))
        w->records++;
    if (!is_lost(w, record))
        return end_lost_run(w, run);

    if (run->first_lsn == 0)
        run->first_lsn = record->lsn;
    run->last_lsn = record->lsn;
    return 0;
}

/* The next record does not check, and `last_lsn` is the last one of the group. Passes what is damaged. */
static int pass_damaged_record(struct walk *w, uint64_t last_lsn)
{
    struct segment_iter *iter = &w->iter;
    const uint64_t lsn = twl_iter_next_lsn(iter);
    const uint64_t offset = iter->record_offset;

    const int skipped = twl_iter_skip_record(iter);
    if (skipped > 0) /* its header checks, and leads to the record behind it */
        return report_damage(w, offset, iter->record_offset, lsn, lsn);
    if (skipped != TWINLOG_ECORRUPT)
        return skipped;

    /* Nothing leads to the rest of the group. */
    iter->records_left = 0;
    iter->record_offset = iter->offset;
    return report_damage(w, offset, iter->offset, lsn, last_lsn);
}

/* Visits all records of the group that was entered, some of which may be damaged. */
static int visit_records(struct walk *w)
{
    struct segment_iter *iter = &w->iter;
    const uint64_t last_lsn = min_u64(iter->position.next_lsn, w->bound) - 1;
    struct lost_run run = { 0 };
    int rc = 0;

    iter->record_offset = iter->entered_offset;
    iter->records_left = iter->entered;
    while (rc == 0 && has_more_records(w)) {
        struct iter_record record;
        const int result = twl_iter_next_kept(iter, &record);
        const bool is_damaged = result == TWINLOG_ECORRUPT;

        if (result > 0) {
            rc = take_record(w, &record, &run);
        } else if (is_damaged) {
            rc = end_lost_run(w, &run);
            if (rc == 0)
                rc = pass_damaged_record(w, last_lsn);
        } else { /* 0: the rest of the group was removed */
            return result;
        }
    }
    if (rc == 0)
        rc = end_lost_run(w, &run);
    if (rc < 0)
        return rc;

    if (has_bytes_left(iter)) /* bytes that belong to no record */
        return report_damage(w, iter->record_offset, iter->offset, last_lsn + 1, last_lsn);
    return 0;
}

/* ---- where the walk stops ---------------------------------------------------------------------- */

/* Reports what is damaged or missing here, and goes on behind it. */
static int pass_hole(struct walk *w)
{
    struct twinlog_report report;
    struct hole hole;

    int rc = twl_hole_measure(w, &hole);
    if (rc < 0)
        return stale_if_gone(rc);
    rc = report_hole(w, &hole);
    if (rc < 0)
        return rc;

    const bool has_doubt = hole.doubt.to != 0;
    if (!has_doubt)
        return 0;
    twl_walk_report_doubt(w, &hole.doubt, TWINLOG_DID_NOTHING, &report);
    return report_finding(w, &report, NULL);
}

/* The log ends here, which is reported only if a writer would remove something. */
static int end_log(struct walk *w, const struct recover_row *row)
{
    const struct segment_iter *iter = &w->iter;
    const uint64_t next_lsn = iter->position.next_lsn;
    struct twinlog_report report;

    w->is_done = true;
    if (row->decision != DECIDE_TRUNCATE)
        return 0;
    if (w->snapshot.has_writer) /* it has removed what it had to, and is writing here */
        return 0;

    twl_report(&report, TWINLOG_FOUND_TORN_TAIL, TWINLOG_WOULD_TRUNCATE, 0,
               "the log ends before record %llu: %s", (unsigned long long)next_lsn, row->why);
    set_place(w, &report, iter->offset, w->segment.data_end - iter->offset);
    report.first_lsn = next_lsn;
    return report_finding(w, &report, NULL);
}

static bool is_at_end_of_footer(const struct walk *w)
{
    return w->iter.offset == w->footer.data_end && w->iter.position.chain == w->footer.chain;
}

/* Was the segment left here? Its footer is written when the first group of the next segment is durable. */
static bool was_left_here(const struct walk *w, unsigned facts)
{
    const struct segment_set *set = &w->snapshot.set;
    const bool has_next = w->index + 1 < set->started + set->spares;

    if (!(facts & FACT_SEALED) || !is_at_end_of_footer(w) || !has_next)
        return false;

    const struct segment_entry *next = &set->entries[w->index + 1];
    return next->header.sequence == w->segment.header.sequence + 1;
}

/* Is it known where the next segment begins, and is that behind the place? Then what is in between was here. */
static int look_for_gap(struct walk *w, bool *ret_is_here)
{
    struct segment_set *set = &w->snapshot.set;

    *ret_is_here = false;
    if (w->index + 1 >= set->started)
        return 0;

    struct segment_entry *next = &set->entries[w->index + 1];
    const int rc = twl_segment_try_look(w->io, next);
    *ret_is_here = rc == 0 && next->first_lsn > w->iter.position.next_lsn;
    return rc;
}

/* Does something prove that records are missing, and is it in later segments only? */
static bool is_proven_by_later_segment(const struct recover_judgement *judgement)
{
    const bool is_proven = judgement->facts & FACT_LATER_DURABLE;
    const bool has_later_group = judgement->later.offset != 0;

    return is_proven && has_later_group && !judgement->is_followed;
}

/* Does the segment end here? What is missing then begins a later segment, and is found there. */
static int is_full(struct walk *w, const struct recover_judgement *judgement, bool *ret_is_full)
{
    const unsigned facts = judgement->facts;
    bool is_here;

    *ret_is_full = false;
    if (w->iter.position.next_lsn == 0) /* even the first group is missing */
        return 0;

    if (judgement->row->decision == DECIDE_NEXT_SEGMENT) {
        *ret_is_full = true;
        return 0;
    }
    if (was_left_here(w, facts)) {
        w->has_begun = true;
        *ret_is_full = true;
        return 0;
    }

    /* Records are missing, and may have been here or in front of the later group. */
    if (!is_proven_by_later_segment(judgement))
        return 0;
    if (w->is_sealed) {
        *ret_is_full = is_at_end_of_footer(w);
        return 0;
    }
    if (!(facts & FACT_ZERO)) /* something was written here */
        return 0;

    const int rc = look_for_gap(w, &is_here);
    *ret_is_full = rc == 0 && !is_here;
    return rc;
}

/* No whole group is here. If that is not damage, the segment or the log ends. */
static int judge_stop(struct walk *w, bool *ret_is_damage)
{
    struct recover_judgement judgement;
    bool is_at_end = false;

    /* In front of a fixed start, and of a gap in the path, everything was durable. */
    *ret_is_damage = w->bound < UINT64_MAX || walk_has_gap_behind(w);
    if (*ret_is_damage)
        return 0;

    const bool is_being_written = w->iter.position.next_lsn > w->limit_lsn;
    if (is_being_written) {
        w->is_done = true;
        return 0;
    }

    int rc = twl_recover_judge(w->io, &w->snapshot.set, w->index, &w->iter, NULL, &judgement);
    if (rc == TWINLOG_EVERSION)
        w->newer_index = judgement.newer_index;
    if (rc == 0)
        rc = is_full(w, &judgement, &is_at_end);
    if (rc < 0)
        return stale_if_gone(rc);
    if (is_at_end)
        return 0;

    /* Beside a writer everything up to its watermark must be there. */
    *ret_is_damage = w->snapshot.has_writer || w->has_begun || judgement.row->decision == DECIDE_DAMAGE;
    if (*ret_is_damage)
        return 0;
    return end_log(w, judgement.row);
}

/* ---- groups ------------------------------------------------------------------------------------ */

/* Is the group with the record in front of the bound the one that the next segment continues? */
static int check_bound(struct walk *w)
{
    const struct segment_iter *iter = &w->iter;
    const struct group_header *group = &iter->group;
    const uint64_t last_lsn = w->bound - 1;
    const bool is_at_bound = w->bound != UINT64_MAX && iter->position.next_lsn >= w->bound;
    struct twinlog_report report;

    if (!is_at_bound || group->count == 0)
        return 0;
    if (twl_group_chain(group) == w->snapshot.set.entries[w->index + 1].header.start_chain)
        return 0;

    const struct hole joint = { .finding = TWINLOG_FOUND_DAMAGE,
                                .from = iter->offset,
                                .to = iter->offset,
                                .first_lsn = w->bound,
                                .last_lsn = last_lsn,
                                .epochs = { group->epoch, group->epoch } };
    twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
               "record %llu is not in the group that the log was truncated behind",
               (unsigned long long)last_lsn);
    set_place(w, &report, iter->group_offset, group->bytes);
    report.first_lsn = report.last_lsn = last_lsn;
    return report_finding(w, &report, &joint);
}

/* A durable record was complete. So a claim in its place is damage, as it is for recovery. */
static int check_claim(struct walk *w)
{
    const struct segment_iter *iter = &w->iter;

    const bool is_at_claim = iter->is_open && iter->is_claim;
    if (is_at_claim && w->claim_lsn == 0)
        w->claim_lsn = iter->position.next_lsn - 1;
    if (w->claim_lsn == 0)
        return 0;

    const uint64_t lsn = w->claim_lsn;
    const uint64_t promised_lsn = twl_segment_set_promise_behind(&w->snapshot.set, w->index);
    const uint64_t marked_lsn = max_u64(promised_lsn, iter->group.durable_lsn);
    if (marked_lsn < lsn)
        return 0;

    w->claim_lsn = 0;
    return report_damage(w, iter->group_offset, iter->group_offset, lsn, lsn);
}

/* Checks everything in the group. If it is not whole, either that is damage, and the records that check are visited; or
 * the log, or the segment, ends in front of the group. */
static int check_content(struct walk *w, struct content *ret_content, bool *ret_is_end)
{
    bool is_damage;

    *ret_is_end = false;
    int rc = check_records(w, ret_content);
    if (rc < 0 || ret_content->is_whole)
        return rc;

    twl_iter_back_out(&w->iter);
    rc = judge_stop(w, &is_damage);
    if (rc < 0)
        return rc;
    if (!is_damage) {
        *ret_is_end = true;
        return 0;
    }

    const int entered = twl_iter_enter_group(&w->iter);
    if (entered <= 0)
        return entered;
    return visit_records(w);
}

static int visit_whole_group(struct walk *w, const struct content *content)
{
    if (w->visitor.record || content->has_lost)
        return visit_records(w);
    w->records += content->kept;
    return 0;
}

/* Checks and visits the group that was entered. */
static int check_group(struct walk *w, bool *ret_goes_on)
{
    const struct segment_iter *iter = &w->iter;
    const uint64_t end_lsn = min_u64(iter->position.next_lsn, w->bound);
    const bool is_being_written = end_lsn - 1 > w->limit_lsn;
    const bool is_removed = end_lsn <= w->segment.head_lsn && !iter->is_open;
    struct content content = { .is_whole = true };
    bool is_end = false;
    int rc = 0;

    w->has_begun = false;
    *ret_goes_on = false;
    if (is_being_written) {
        w->is_done = true;
        return 0;
    }

    if (iter->group.first_lsn > w->next_lsn)
        rc = report_missing(w, iter->group_offset, iter->group.first_lsn - 1);
    if (rc == 0 && !is_removed)
        rc = check_content(w, &content, &is_end);
    if (rc < 0 || is_end)
        return rc;

    rc = check_bound(w);
    if (rc == 0)
        rc = check_claim(w);
    if (rc == 0 && content.is_whole && !is_removed)
        rc = visit_whole_group(w, &content);

    w->epoch = iter->group.epoch;
    w->next_lsn = max_u64(w->next_lsn, end_lsn);
    *ret_goes_on = true;
    return rc;
}

/* Was everything here that the next segment continues? The record in front of a fixed start is in the segment before
 * it. If the segments in front of this one have reached that record, and nothing was found here yet, they are of
 * another history. */
static bool is_at_bound(const struct walk *w)
{
    const struct segment_iter *iter = &w->iter;
    const bool has_start = w->segment.header.start_lsn > 0;
    const bool has_begun = has_start || iter->offset > SEGMENT_DATA_OFFSET;

    return has_begun && iter->position.next_lsn >= w->bound;
}

/* Checks the next group of the segment, or passes the place where none is. */
static int step(struct walk *w, bool *ret_goes_on)
{
    struct segment_iter *iter = &w->iter;
    const uint64_t next_lsn = iter->position.next_lsn;
    bool is_damage;

    *ret_goes_on = false;
    if (is_at_bound(w))
        return 0;

    const int entered = twl_iter_enter_group(iter);
    if (entered < 0)
        return entered;
    if (entered > 0) {
        if (iter->group.first_lsn >= w->bound)
            return 0;
        return check_group(w, ret_goes_on);
    }

    const bool is_lsn_unknown = next_lsn == 0;
    if (is_lsn_unknown && iter->offset >= w->segment.data_end) /* the hole goes up to the end */
        return 0;

    const int rc = judge_stop(w, &is_damage);
    if (rc < 0 || !is_damage)
        return rc;
    *ret_goes_on = true;
    return pass_hole(w);
}

/* ---- segments ---------------------------------------------------------------------------------- */

/* No footer checks. Is there something else in its place? A footer is written once, into zeros. */
static int look_for_remains(struct walk *w)
{
    const uint64_t at = twl_segment_footer_offset(&w->segment);
    int error = 0;

    const unsigned char *remains = twl_iter_bytes(&w->iter, at, FOOTER_SECTOR_BYTES, &error);
    w->has_bad_seal = remains && !are_zeros(remains, FOOTER_SECTOR_BYTES);
    return error;
}

/* Only segments that were left are sealed; the newest one may have a footer that is no longer true. A fault in footer
 * or index loses nothing, but readers take the long way. */
static int read_seal(struct walk *w)
{
    const bool has_next = w->index + 1 < w->snapshot.set.started;

    const int footers = twl_segment_read_footer(&w->segment, &w->footer);
    const bool has_footer = footers > 0;
    w->is_sealed = has_next && has_footer;
    w->footer_lsn = has_footer ? w->footer.last_lsn : 0;
    w->has_bad_seal = false;
    if (footers < 0)
        return footers;

    if (!has_next)
        return 0;
    if (!has_footer)
        return look_for_remains(w);

    const int rc = twl_iter_load_index(&w->iter, &w->footer);
    w->has_bad_seal = rc == 0 && w->iter.index.count != w->footer.index_entries;
    return rc;
}

static int report_bad_seal(struct walk *w)
{
    const uint64_t at = twl_segment_footer_offset(&w->segment);

    if (!w->has_bad_seal || w->is_done || w->snapshot.has_writer)
        return 0;
    if (at < w->iter.offset) /* a file that was cut and got no footer ends with its groups */
        return 0;
    return report_harmless(
        w, TWINLOG_FOUND_BAD_INDEX, at, SEGMENT_FOOTER_BYTES,
        "the footer or the index does not check; no record is affected, but finding one here "
        "takes longer");
}

/* The header of the segment says where it starts. Records of the epoch in front may be truncated ones. */
static int begin_at_start(struct walk *w, struct position *ret_position)
{
    const uint64_t start_lsn = w->segment.header.start_lsn;

    if (start_lsn > w->next_lsn) { /* not even the segment that it continues is there */
        const int rc = report_missing(w, SEGMENT_DATA_OFFSET, start_lsn - 1);
        if (rc < 0)
            return rc;
    }
    *ret_position = twl_position_before(&w->segment.header);
    w->epoch = ret_position->epoch;
    w->next_lsn = max_u64(start_lsn, w->snapshot.set.first_lsn);
    return 0;
}

static int walk_segment(struct walk *w, struct position *position)
{
    bool goes_on = true;
    unsigned steps = 0;
    int rc = 0;

    if (w->segment.header.start_lsn > 0)
        rc = begin_at_start(w, position);
    if (rc < 0)
        return rc;

    w->bound = twl_segment_set_bound(&w->snapshot.set, w->index);
    twl_iter_begin(&w->iter, &w->segment, *position);
    rc = read_seal(w);
    if (rc == 0)
        rc = check_second_header(w);

    while (rc == 0 && goes_on && !w->is_done) {
        rc = step(w, &goes_on);
        if (rc == 0 && goes_on) {
            if (steps % 64 == 0)
                show_progress(w, w->iter.offset);
            steps++;
        }
    }

    if (rc == 0)
        rc = report_bad_seal(w);
    *position = w->iter.position;
    return rc;
}

/* No segment seems to be started. A spare has no groups, so the first groups of one that has some are lost. */
static int walk_unstarted(struct walk *w, struct position *position)
{
    const int rc = twl_walk_find_spare(w, 0, &w->has_begun);
    if (rc < 0)
        return stale_if_gone(rc);
    if (w->has_begun)
        return walk_segment(w, position);

    w->index = w->snapshot.set.spares - 1; /* they are all empty */
    return 0;
}

static int check_segment(struct walk *w, struct position *position)
{
    const struct segment_set *set = &w->snapshot.set;
    const bool is_unstarted = set->started == 0 && w->index == 0;

    int rc = twl_log_snapshot_open_segment(w->io, &set->entries[w->index], &w->segment);
    if (rc == -EAGAIN)
        return WALK_STALE;
    if (rc == 0) {
        rc = is_unstarted ? walk_unstarted(w, position) : walk_segment(w, position);
        twl_segment_close(&w->segment);
        w->done_bytes += w->segment.header.bytes;
    }

    const bool has_failed = rc < 0 && rc != WALK_STALE;
    const bool was_cancelled = w->callbacks.verdict != 0;
    if (has_failed && !was_cancelled)
        report_system_error(w, rc);
    return rc;
}

/* All segments were walked, and none of them has the end of the log. */
static int report_missing_end(struct walk *w)
{
    const struct segment_set *set = &w->snapshot.set;

    w->segment = (struct segment){ .header.sequence = 0 };
    w->index = set->started > 0 ? set->started - 1 : SIZE_MAX;
    w->is_done = true;

    const uint64_t last_lsn = max_u64(set->passed_lsn, twl_segment_set_promise_behind(set, w->index));
    if (last_lsn < w->next_lsn)
        return 0;
    return report_missing(w, 0, last_lsn);
}

/* ---- the log ----------------------------------------------------------------------------------- */

static int try_to_load(struct walk *w, struct twinlog_report *ret_report)
{
    const unsigned flags = SNAPSHOT_READS_DISK | w->snapshot_flags;
    struct log_snapshot snapshot;

    const int rc = twl_log_snapshot_load(w->io, flags, &snapshot, ret_report);
    if (rc < 0)
        return rc; /* there is still the one before */
    twl_log_snapshot_free(&w->snapshot);
    w->snapshot = snapshot;
    return 0;
}

int twl_walk_load(struct walk *w, struct twinlog_report *ret_report)
{
    int rc = -EAGAIN;

    for (unsigned tries = 0; rc == -EAGAIN && tries < TRIES; tries++) {
        rc = try_to_load(w, ret_report);
        if (rc < 0)
            return rc;
        rc = twl_log_snapshot_find_durable(w->io, &w->snapshot, &w->limit_lsn);
    }
    if (rc == -EAGAIN) /* the log was overtaken by changes each time */
        rc = -EBUSY;
    if (rc < 0) {
        twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, rc, "cannot read: %s",
                   twinlog_strerror(rc));
        return rc;
    }

    const struct segment_set *set = &w->snapshot.set;
    w->next_lsn = max_u64(w->next_lsn, set->first_lsn);
    w->total_bytes = w->done_bytes;
    for (size_t i = w->index; i < set->started; i++)
        w->total_bytes += set->entries[i].header.bytes;
    w->iter.passes_claims = !w->snapshot.has_writer;
    return 0;
}

/* What was known in front of the last segment with groups that was walked. */
struct stage {
    uint64_t sequence; /* of that segment; 0 = there was none */
    struct position position;
    uint64_t records, next_lsn;
};

/* Loads a newer snapshot and goes back to the stage. Its segment is walked again even if all of it was walked: it may
 * have more records now. */
static int return_to_stage(struct walk *w, const struct stage *stage, struct position *ret_position)
{
    const struct segment_set *set = &w->snapshot.set;
    struct twinlog_report report;

    w->is_done = false;
    w->index = 0;
    w->records = stage->records;
    w->next_lsn = stage->next_lsn;
    const int rc = twl_walk_load(w, &report);
    if (rc < 0 && rc != -ENOENT)
        w->visitor.found(w->visitor.context, &report, NULL);
    if (rc < 0)
        return rc;

    while (w->index < set->started && set->entries[w->index].header.sequence < stage->sequence)
        w->index++;

    *ret_position = (struct position){ 0 };
    if (w->index < set->started && set->entries[w->index].header.sequence == stage->sequence)
        *ret_position = stage->position;
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
        const bool is_behind_all = w->index == set->started + set->spares;

        if (w->index < set->started)
            stage = (struct stage){ .sequence = set->entries[w->index].header.sequence,
                                    .position = position,
                                    .records = w->records,
                                    .next_lsn = w->next_lsn };

        if (is_behind_all)
            rc = report_missing_end(w);
        else
            rc = check_segment(w, &position);

        if (rc != WALK_STALE) {
            w->index++;
        } else if (tries < TRIES) {
            tries++;
            rc = return_to_stage(w, &stage, &position);
        } else {
            rc = -EBUSY;
        }
    }
    show_progress(w, 0);
    return rc;
}

void twl_walk_free(struct walk *w)
{
    twl_iter_free(&w->iter);
    twl_log_snapshot_free(&w->snapshot);
}
