/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the end of the log: walks the newest segment, and the ones before it that have open groups, to the first place
 * that does not continue the history. The facts about that place decide, by the table of docs/recovery.md. The glossary
 * of docs/design.md has the words. "Behind" is later in the log, "in front" earlier.
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
    { FACT_LATER_DURABLE, FACT_LATER_DURABLE, DECIDE_DAMAGE, "something proves that it was durable" },
    { FACT_LATER_DURABLE | FACT_SEALED, FACT_SEALED, DECIDE_DAMAGE,
      "the segment is sealed, and there was more" },
    { PROOF, FACT_PASSED, DECIDE_DAMAGE, "a cursor or the head of the log is behind it" },
    { PROOF | FACT_NEWEST | FACT_JOINS, FACT_JOINS, DECIDE_NEXT_SEGMENT, "the next segment continues here" },
    { PROOF | FACT_NEWEST | FACT_JOINS, 0, DECIDE_TRUNCATE, "later segments were never acknowledged" },
    { PROOF | FACT_NEWEST | FACT_ZERO, FACT_NEWEST, DECIDE_TRUNCATE, "a group was being written" },
    { PROOF | FACT_NEWEST | FACT_ZERO | FACT_CLOSED, FACT_NEWEST | FACT_ZERO, DECIDE_CLEAN_END,
      "its last writer did not close it, and nothing was cut off" },
    { PROOF | FACT_NEWEST | FACT_ZERO | FACT_CLOSED, FACT_NEWEST | FACT_ZERO | FACT_CLOSED,
      DECIDE_CLEAN_CLOSE, "the last writer closed the log" },
};
const size_t twl_recover_rows = sizeof(twl_recover_table) / sizeof(twl_recover_table[0]);

const struct recover_row *twl_recover_decide(unsigned facts)
{
    for (size_t i = 0; i < twl_recover_rows; i++) {
        const struct recover_row *row = &twl_recover_table[i];
        if ((facts & row->care) == row->value)
            return row;
    }
    ASSERT(false); /* the table is complete */
    return NULL;
}

/* ---- what lies behind the end: later segments ---------------------------------------------------- */

/* A walk has stopped. This is what is known of the stop, and of what lies behind it. */
struct end_search {
    struct io *io;
    const struct segment_set *set;
    size_t index;               /* of the segment with the stop */
    struct position stop;       /* that of the group that would come next */
    uint64_t spare_gap;         /* how far into a spare a group may lie that continues, in bytes */
    size_t newer_index;         /* of the segment that was searched last */
    unsigned facts;             /* enum recover_fact, as far as they are known */
    struct later_groups *later; /* the first groups behind the stop that were found */
};

/* A later segment, and what it is to the stop. */
struct later_segment {
    struct segment segment;
    bool is_started; /* no spare: a writer has begun it */
    bool is_next;    /* directly behind the segment with the stop */
};

/* Does the first group of the segment continue at the stop? Where the next LSN is not known, any group would, so none
 * counts. */
static int does_join(struct segment_iter *iter, const struct position *stop, bool *ret_does_join)
{
    *ret_does_join = false;
    if (stop->next_lsn == 0)
        return 0;

    const int entered = twl_iter_enter_group(iter);
    if (entered < 0)
        return entered;
    *ret_does_join = entered > 0;
    return 0;
}

/* A segment that was started proves that everything in front of it was durable. A mapped one does so only with a group,
 * or with a footer: a sealed segment was started, even if it has no group left. */
static int find_proof_of_start(const struct segment *segment, struct later_groups *found)
{
    struct segment_footer footer;

    if (!segment_is_mapped(&segment->header)) {
        found->is_proof = true;
        return 0;
    }

    const bool has_group = found->offset != 0;
    if (has_group) /* twl_iter_find_later() has said whether it is proof */
        return 0;

    const int footers = twl_segment_read_footer(segment, &footer);
    if (footers < 0)
        return footers;
    found->is_proof = footers > 0;
    return 0;
}

/* Of spares only the next one is searched for groups: its first group may be the one that is missing, and no segment is
 * started before the one in front of it. */
static int search_later_segment(struct end_search *search, struct segment_iter *iter,
                                const struct later_segment *later, struct later_groups *ret_found)
{
    twl_iter_begin(iter, &later->segment, search->stop);
    if (later->is_next) {
        bool joins;

        const int rc = does_join(iter, &search->stop, &joins);
        if (rc < 0)
            return rc;
        if (joins) {
            search->facts |= FACT_JOINS;
            return 0;
        }
    }

    if (later->is_next || later->is_started) {
        const uint64_t gap = later->is_started ? UINT64_MAX : search->spare_gap;

        const int rc = twl_iter_find_later(iter, SEGMENT_DATA_OFFSET, gap, search->stop, ret_found);
        if (rc < 0)
            return rc;
    }

    if (!later->is_started)
        return 0;
    return find_proof_of_start(&later->segment, ret_found);
}

/* Does the header of the segment `at` of the set prove that the missing record was durable? It names an LSN that was
 * durable when the segment was prepared. */
static bool promises_stop(const struct end_search *search, size_t at)
{
    const uint64_t stop_lsn = search->stop.next_lsn;

    return stop_lsn > 0 && twl_segment_set_promise(search->set, at) >= stop_lsn;
}

/* The first groups that were found are kept. Of those behind them it only matters whether they are proof. */
static void add_found(struct end_search *search, const struct later_groups *found)
{
    if (search->later->offset == 0)
        *search->later = *found;
    else if (found->is_proof)
        search->later->is_proof = true;
}

/* Searches the segment `at` of the set, unless its header is proof already. */
static int search_segment_at(struct end_search *search, size_t at, struct segment_iter *iter)
{
    struct later_segment later = { .is_started = at < search->set->started,
                                   .is_next = at == search->index + 1 };
    struct later_groups found = { 0 };

    int rc = twl_segment_open_entry(search->io, &search->set->entries[at], &later.segment);
    if (rc == -ENOENT && !later.is_started) /* a spare that its writer has removed since */
        return 0;
    if (rc < 0)
        return rc;

    search->newer_index = at;
    if (later.is_started)
        search->facts &= ~(unsigned)FACT_NEWEST;

    if (promises_stop(search, at))
        found.is_proof = true;
    else
        rc = search_later_segment(search, iter, &later, &found);
    twl_segment_close(&later.segment);

    add_found(search, &found);
    return rc;
}

/* Searches one segment after the other until one continues the log, or proves that something is missing. The buffer of
 * the iterator at the end is borrowed: a new one of that size costs the kernel as long as what is read into it. */
static int search_later_segments(struct end_search *search, struct segment_iter *at_end)
{
    const size_t count = search->set->started + search->set->spares;
    struct segment_iter iter = { 0 };
    int rc = 0;

    twl_iter_take_buffer(&iter, at_end);
    search->facts |= FACT_NEWEST;
    for (size_t at = search->index + 1; at < count && rc == 0; at++) {
        const bool is_answered = search->later->is_proof || (search->facts & FACT_JOINS);
        if (is_answered)
            break;
        rc = search_segment_at(search, at, &iter);
    }
    twl_iter_take_buffer(at_end, &iter);
    twl_iter_free(&iter);
    return rc;
}

/* ---- what is at the end itself --------------------------------------------------------------------- */

/* Is the block of the iterator unwritten from there on? It is zero then, but for the word that may have ended an open
 * group. In a file that was used before, a block may hold bytes of an earlier incarnation: a whole block is
 * unwritten if no group of this one begins with it. */
static int is_unwritten(struct segment_iter *iter, bool has_ended, bool *ret_is_unwritten)
{
    const struct segment *segment = iter->segment;
    const uint64_t block_end = align_up(iter->offset + 1, BLOCK_BYTES);
    const uint64_t end = min_u64(block_end, segment->data_end);
    const uint64_t from = has_ended ? iter->offset + sizeof(uint64_t) : iter->offset;
    struct group_header group;
    int error;

    *ret_is_unwritten = true;
    if (from >= end)
        return 0;

    const size_t size = (size_t)(end - from);
    const unsigned char *bytes = twl_iter_bytes(iter, from, size, &error);
    if (!bytes) {
        const bool is_too_short = error == 0; /* a file that was made shorter */
        const bool was_promised = end <= segment->header.bytes;

        *ret_is_unwritten = false;
        return is_too_short && was_promised ? TWINLOG_ECORRUPT : error;
    }
    if (are_zeros(bytes, size))
        return 0;

    const bool is_old_block = segment->header.incarnations > 0 && iter->offset % BLOCK_BYTES == 0;
    *ret_is_unwritten = is_old_block && !twl_group_header_decode(bytes, segment->seed, iter->offset, &group);
    return 0;
}

/* Would a seal of this segment prove that the first group of the next one was durable? A writer that maps does not wait
 * for that group before it seals. */
static bool does_seal_prove_next(const struct segment_set *set, size_t index)
{
    const bool has_next = index + 1 < set->started + set->spares;

    if (segment_is_mapped(&set->entries[index].header))
        return false;
    return !has_next || !segment_is_mapped(&set->entries[index + 1].header);
}

/* Is the iterator at the first group of its segment, and does the seal of the segment in front prove that group? */
static int is_first_group_durable(const struct end_search *search, const struct segment_iter *iter,
                                  bool *ret_is_durable)
{
    const struct segment_set *set = search->set;
    const size_t index = search->index;
    const struct segment_header *header = &set->entries[index].header;
    const bool is_at_first = iter->is_at_first || iter->offset == SEGMENT_DATA_OFFSET;

    *ret_is_durable = false;
    if (!is_at_first || index == 0)
        return 0;
    if (header->start_lsn > 0) /* such a segment counts as started without a group */
        return 0;

    struct segment_entry before = set->entries[index - 1];
    if (before.header.sequence + 1 != header->sequence || !does_seal_prove_next(set, index - 1))
        return 0;

    const int rc = twl_segment_look(search->io, &before);
    *ret_is_durable = rc == 0 && before.is_sealed;
    return rc;
}

/* Does the footer of the segment with the stop count what is missing, or prove the next segment, which is not there? */
static bool is_proven_by_footer(const struct end_search *search, const struct segment_iter *iter,
                                const struct segment_entry *entry)
{
    if (!entry->is_sealed)
        return false;

    const bool counts_more = iter->offset < entry->footer.data_end;
    return counts_more || does_seal_prove_next(search->set, search->index);
}

/* Does the head of the log, or a named cursor, lie behind the stop? */
static bool is_proven_by_state(const struct segment_set *set, uint64_t next_lsn)
{
    const bool is_passed = set->first_lsn > next_lsn || set->passed_lsn >= next_lsn;

    return next_lsn > 0 && is_passed;
}

/* Does the place have the header of a group that was open? It is written when all records of the group are durable, and
 * their file got its length, durably, before the first of them. So no crash leaves the header without the records, but
 * a program does that makes the file shorter. *ret_last_lsn is that of the group; 0 = there is no such group, or all of
 * its records are there by now. */
static int find_closed_group(struct segment_iter *iter, uint64_t *ret_last_lsn)
{
    const bool is_its_place = segment_is_mapped(&iter->segment->header) && iter->offset == OPEN_GROUP_OFFSET;
    struct iter_record record;

    *ret_last_lsn = 0;
    if (!is_its_place || iter->is_open || iter->position.next_lsn == 0)
        return 0;

    const int entered = twl_iter_enter_at(iter, OPEN_GROUP_OFFSET, PLACE_LATER);
    if (entered <= 0)
        return entered;

    int rc = 1;
    while (rc > 0)
        rc = twl_iter_next_kept(iter, &record);
    const bool lacks_records = iter->records_left > 0;
    if (lacks_records && (iter->group.flags & GROUP_MAPPED))
        *ret_last_lsn = iter->position.next_lsn - 1;
    twl_iter_back_out(iter);
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

/* What the segment with the stop says of itself. The set keeps what it knew: its writer may go on. */
static int look_at_segment(const struct end_search *search, struct segment_entry *ret_entry,
                           struct recover_judgement *judgement)
{
    *ret_entry = search->set->entries[search->index];
    const int rc = twl_segment_look(search->io, ret_entry);
    if (rc < 0)
        return rc;

    judgement->first_lsn = ret_entry->first_lsn;
    if (ret_entry->is_sealed)
        judgement->footer_lsn = ret_entry->footer.last_lsn;
    return 0;
}

/* ---- the judgement ----------------------------------------------------------------------------------- */

static bool is_close(const struct group_header *last)
{
    return last && last->kind == GROUP_CLOSE;
}

/* Is a short search enough, because the log was closed at the stop, and nothing written since? */
static bool is_log_closed(const struct end_search *search, const struct group_header *last, bool is_zero)
{
    const struct segment_set *set = search->set;

    /* A mapped segment may have had no space for the marker of the next start. */
    if (segment_is_mapped(&set->entries[search->index].header))
        return false;

    /* The page of the log may name a later writer than the one that closed it here. */
    const bool is_of_note = set->note.epoch == search->stop.epoch.number;

    return is_close(last) && is_zero && is_of_note;
}

/* How many bytes without a group end the search behind the group `last`, if that may not be the last one. */
static uint64_t gap_behind_group(const struct group_header *last, bool is_mapped)
{
    /* In a mapped segment the next group may be anywhere. */
    if (!last || is_mapped)
        return UINT64_MAX;

    /* So it may where no group was accepted: a header of zeros does not say how large groups are. */
    const uint64_t most_bytes = twl_group_most_bytes(last);
    if (most_bytes == UINT64_MAX)
        return UINT64_MAX;

    /* The next group was written at the same time, and is at most as large as the log allows. */
    return max_u64(GROUP_GAP_BYTES, most_bytes) + 2 * BLOCK_BYTES;
}

/* Chooses how far to search: *ret_gap behind the stop, search->spare_gap in the next spare. */
static void choose_gaps(struct end_search *search, const struct segment_iter *iter,
                        const struct group_header *last, bool is_zero, uint64_t *ret_gap)
{
    if (!is_log_closed(search, last, is_zero)) {
        const bool is_mapped = segment_is_mapped(&search->set->entries[search->index].header);

        *ret_gap = gap_behind_group(last, is_mapped);
        search->spare_gap = *ret_gap;
        return;
    }

    /* Behind a close comes the marker of the next start. It goes to the spare only if there is no room for it here. */
    const bool has_room = iter->offset + SEGMENT_MARKER_BYTES <= iter->segment->data_end;
    *ret_gap = GAP_BEHIND_CLOSE_BYTES;
    search->spare_gap = has_room ? GAP_IN_SPARE_BYTES : GAP_BEHIND_CLOSE_BYTES;
}

/* Searches the rest of the segment, behind the stop. */
static int search_behind(struct end_search *search, struct segment_iter *iter,
                         const struct group_header *last, struct recover_judgement *judgement)
{
    bool is_zero;
    uint64_t gap;

    const int has_ended = twl_iter_has_ended(iter);
    if (has_ended < 0)
        return has_ended;
    int rc = is_unwritten(iter, has_ended > 0, &is_zero);
    if (rc < 0)
        return rc;

    choose_gaps(search, iter, last, is_zero, &gap);
    rc = twl_iter_find_later(iter, iter->offset, gap, search->stop, search->later);
    if (rc < 0)
        return rc;

    judgement->has_ended = has_ended > 0;
    judgement->is_followed = search->later->offset != 0;
    if (is_close(last))
        search->facts |= FACT_CLOSED;
    if (is_zero && !judgement->is_followed)
        search->facts |= FACT_ZERO;
    return 0;
}

/* Puts the facts together, once everything was searched. */
static unsigned collect_facts(const struct end_search *search, const struct segment_iter *iter,
                              const struct segment_entry *entry, bool is_first_durable, bool is_group_closed)
{
    unsigned facts = search->facts;

    if (search->later->is_proof || is_first_durable)
        facts |= FACT_LATER_DURABLE;

    /* Other proof counts only where no segment continues the log. */
    if (facts & FACT_JOINS)
        return facts;
    if (is_group_closed)
        facts |= FACT_LATER_DURABLE;
    if (is_proven_by_footer(search, iter, entry))
        facts |= FACT_SEALED;
    if (is_proven_by_state(search->set, iter->position.next_lsn))
        facts |= FACT_PASSED;
    return facts;
}

int twl_recover_judge(struct io *io, const struct segment_set *set, size_t index, struct segment_iter *iter,
                      const struct group_header *last, struct recover_judgement *ret_judgement)
{
    struct recover_judgement judgement = { 0 };
    struct end_search search = { .io = io,
                                 .set = set,
                                 .index = index,
                                 .newer_index = index,
                                 .stop = iter->position,
                                 .later = &judgement.later };
    struct segment_entry entry;
    bool is_first_durable;

    int rc = is_first_group_durable(&search, iter, &is_first_durable);
    if (rc == 0)
        rc = look_at_segment(&search, &entry, &judgement);
    if (rc == 0)
        rc = find_closed_group(iter, &judgement.closed_lsn);
    if (rc == 0)
        rc = search_behind(&search, iter, last, &judgement);
    if (rc == 0)
        rc = search_later_segments(&search, iter);

    if (rc < 0) {
        ret_judgement->newer_index = search.newer_index;
        return rc;
    }

    judgement.facts = collect_facts(&search, iter, &entry, is_first_durable, judgement.closed_lsn > 0);
    judgement.row = twl_recover_decide(judgement.facts);
    *ret_judgement = judgement;
    return 0;
}

/* ---- what is reported -------------------------------------------------------------------------------- */

/* The last record that is known to be lost: the one in front of the next sound group, or the last one that a footer, a
 * cursor or the head of the log counts. */
static uint64_t find_last_lost(const struct segment_set *set, const struct recover_judgement *judgement,
                               uint64_t next_lsn)
{
    const struct later_groups *later = &judgement->later;

    if (later->first_lsn > 0)
        return max_u64(next_lsn, later->first_lsn - 1);

    const uint64_t passed_lsn = max_u64(set->passed_lsn, set->first_lsn - 1);
    const uint64_t counted_lsn = max_u64(judgement->footer_lsn, judgement->closed_lsn);
    return max_u64(next_lsn, max_u64(passed_lsn, counted_lsn));
}

struct lost {
    uint64_t first_lsn, last_lsn;
    uint64_t offset;
};

/* If the header of the group checks, only some of its records are damaged. */
static void narrow_down(struct segment_iter *iter, struct lost *lost)
{
    struct iter_record record;

    if (iter->is_open || twl_iter_enter_group(iter) <= 0)
        return;

    while (twl_iter_next_kept(iter, &record) > 0)
        continue;

    const bool has_damaged_record = iter->records_left > 0;
    if (has_damaged_record) {
        lost->first_lsn = max_u64(lost->first_lsn, twl_iter_next_lsn(iter));
        lost->offset = iter->record_offset;
        if (twl_iter_skip_record(iter) > 0) /* its header checks, so the record behind it can be found */
            lost->last_lsn = lost->first_lsn;
    }
    twl_iter_back_out(iter);
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
    enum twinlog_finding finding = TWINLOG_FOUND_CLEAN_END;
    struct twinlog_report *report = &recovery->report;

    if (row->decision == DECIDE_CLEAN_CLOSE)
        finding = TWINLOG_FOUND_CLEAN_CLOSE;
    twl_report(report, finding, TWINLOG_DID_NOTHING, 0, "the log ends before record %llu: %s",
               (unsigned long long)recovery->position.next_lsn, row->why);
    report->first_lsn = 0;
    twl_report_place(report, entry->name, entry->header.sequence, recovery->offset, 0);
}

static void describe_end(struct recovery *recovery, const struct segment_set *set, size_t index,
                         const struct recover_judgement *judgement, struct segment_iter *iter)
{
    const struct segment_entry *entry = &set->entries[index];
    const struct recover_row *row = judgement->row;

    if (row->decision == DECIDE_DAMAGE) {
        const uint64_t next_lsn = recovery->position.next_lsn;
        struct lost lost = { .first_lsn = max_u64(next_lsn, set->first_lsn), .offset = recovery->offset };

        lost.last_lsn = find_last_lost(set, judgement, lost.first_lsn);
        narrow_down(iter, &lost);
        report_damage(&recovery->report, entry, lost, row->why);
    } else if (row->decision == DECIDE_TRUNCATE) {
        report_torn_tail(recovery, entry, row->why);
    } else {
        report_clean_end(recovery, entry, row);
    }
}

void twl_recover_report_newer(struct twinlog_report *ret_report, const struct segment_entry *entry,
                              uint64_t lsn, uint64_t offset)
{
    if (!ret_report)
        return;
    twl_report(ret_report, TWINLOG_FOUND_NEWER_FORMAT, TWINLOG_DID_REFUSE, TWINLOG_EVERSION,
               "%s was written by a newer twinlog; use that version to read it", entry->name);
    ret_report->first_lsn = lsn;
    twl_report_place(ret_report, entry->name, entry->header.sequence, offset, 0);
}

/* ---- one segment ------------------------------------------------------------------------------------- */

/* What a segment begins with. */
struct segment_front {
    uint64_t first_lsn; /* of the first group */
    int64_t began_ns;   /* time of the first group with records, from which the age counts; 0 = not known */
};

/* Walks up to the first group with records, or to the group at `end`. False: it is not possible to get there. */
static bool look_at_front(struct segment_iter *iter, uint64_t end, struct segment_front *ret_front)
{
    *ret_front = (struct segment_front){ 0 };
    while (ret_front->began_ns == 0 && iter->group_offset < end) {
        if (twl_iter_enter_group(iter) <= 0)
            return false;
        if (iter->group_offset > end)
            return false;

        if (ret_front->first_lsn == 0)
            ret_front->first_lsn = iter->group.first_lsn;
        if (iter->group.count > 0)
            ret_front->began_ns = iter->group.time_ns;
    }
    return true;
}

bool twl_begin_at_note(struct segment_iter *iter, uint64_t segment_id, uint64_t offset,
                       struct summary *summary)
{
    struct segment_front front = { 0 };

    if (segment_id != iter->segment->header.segment_id)
        return false;
    if (summary && !look_at_front(iter, offset, &front))
        return false;
    if (twl_iter_pass_to(iter, offset) <= 0)
        return false;

    if (summary) {
        summary->indexed_lsn = twl_iter_next_lsn(iter);
        summary->first_lsn = front.first_lsn;
        summary->began_ns = front.began_ns;
    }
    return true;
}

/* A recovery that goes on. */
struct walk_to_end {
    struct io *io;
    const struct segment_set *set;
    struct summary *summary; /* NULL, or of the segment that is walked */
    struct segment_iter iter;
    struct recovery *recovery;
};

/* Begins at the noted group, if that is there; else at `position`. */
static void begin_segment(struct walk_to_end *walk, size_t index, const struct segment *segment,
                          struct position position)
{
    const struct segment_set *set = walk->set;
    const bool is_newest = index + 1 == set->started;
    struct segment_iter *iter = &walk->iter;
    bool is_at_note = false;

    twl_iter_begin(iter, segment, position);
    if (is_newest)
        is_at_note = twl_begin_at_note(iter, set->note.segment_id, set->note.group, walk->summary);
    if (!is_at_note)
        twl_iter_begin(iter, segment, position);
    iter->summary = walk->summary;
}

/* Keeps the first claim that the walk passes. */
static void keep_first_claim(struct recovery *recovery, size_t index, const struct segment_iter *iter)
{
    const bool is_at_claim = iter->is_open && iter->is_claim;

    if (!is_at_claim || recovery->claim_lsn > 0)
        return;

    recovery->claim_lsn = iter->position.next_lsn - 1;
    recovery->claim_index = index;
    recovery->claim_offset = iter->entered_offset;
}

/* Walks to the place behind the last whole group. That group is *ret_last, all zero if there is none. */
static int walk_to_stop(struct walk_to_end *walk, size_t index, struct group_header *ret_last)
{
    struct segment_iter *iter = &walk->iter;
    struct recovery *recovery = walk->recovery;

    *ret_last = (struct group_header){ 0 };
    recovery->index = index;
    recovery->last_group = 0;
    recovery->marked_lsn = max_u64(recovery->marked_lsn, twl_segment_set_promise(walk->set, index));

    for (;;) {
        const int accepted = twl_iter_accept_group(iter);
        if (accepted <= 0)
            return accepted;

        *ret_last = iter->group;
        recovery->last_group = iter->group_offset;
        recovery->marked_lsn = max_u64(recovery->marked_lsn, iter->group.durable_lsn);
        keep_first_claim(recovery, index, iter);
    }
}

/* Fills in what a judgement tells of the place where the walk has stopped. */
static void describe_stop(struct walk_to_end *walk, size_t index, const struct recover_judgement *judgement)
{
    struct segment_iter *iter = &walk->iter;
    struct recovery *recovery = walk->recovery;

    recovery->marked_lsn = max_u64(recovery->marked_lsn, judgement->later.named_lsn);
    recovery->has_junk = !(judgement->facts & FACT_ZERO) || judgement->has_ended;

    /* The first group of a segment begins in its first block. */
    recovery->offset = recovery->last_group > 0 ? iter->offset : SEGMENT_DATA_OFFSET;

    /* If even the first group is missing, the footer may tell which it was. */
    recovery->position = iter->position;
    if (recovery->position.next_lsn == 0)
        recovery->position.next_lsn = max_u64(judgement->first_lsn, walk->set->first_lsn);

    describe_end(recovery, walk->set, index, judgement, iter);
}

/* The group of a newer version is where the walk stopped, or a search behind that has met it: in the same segment, of
 * which the place where the walk stopped is told, or in a later one, of which the beginning is told. */
static void describe_newer(struct walk_to_end *walk, size_t index, size_t newer_index)
{
    const struct segment_entry *entry = &walk->set->entries[index];
    uint64_t offset = walk->iter.offset;

    if (newer_index > index) {
        entry = &walk->set->entries[newer_index];
        offset = SEGMENT_DATA_OFFSET;
    }
    twl_recover_report_newer(&walk->recovery->report, entry, walk->iter.position.next_lsn, offset);
}

/* Judges the place where the walk has stopped, and describes it. */
static int judge_stop(struct walk_to_end *walk, size_t index, const struct group_header *last,
                      struct recover_judgement *judgement, bool *ret_goes_on)
{
    const int rc = twl_recover_judge(walk->io, walk->set, index, &walk->iter, last, judgement);
    if (rc < 0)
        return rc;

    describe_stop(walk, index, judgement);
    *ret_goes_on = judgement->row->decision == DECIDE_NEXT_SEGMENT;
    return judgement->row->decision == DECIDE_DAMAGE ? TWINLOG_ECORRUPT : 0;
}

/* Recovers one segment, from `position` on. */
static int recover_segment(struct walk_to_end *walk, size_t index, struct position position,
                           bool *ret_goes_on)
{
    const struct segment_entry *entry = &walk->set->entries[index];
    struct recover_judgement judgement = { .newer_index = index };
    struct group_header last;
    struct segment segment;

    *ret_goes_on = false;
    int rc = twl_segment_open_entry(walk->io, entry, &segment);
    if (rc < 0)
        return rc;

    begin_segment(walk, index, &segment, position);
    rc = walk_to_stop(walk, index, &last);
    if (rc == 0)
        rc = judge_stop(walk, index, &last, &judgement, ret_goes_on);
    if (rc == TWINLOG_EVERSION)
        describe_newer(walk, index, judgement.newer_index);

    twl_segment_close(&segment);
    return rc;
}

/* ---- from the oldest open group on ------------------------------------------------------------------- */

/* A record that something proves durable was complete, and the disk has gone back to its claim. */
static int check_claims(const struct segment_set *set, struct recovery *recovery)
{
    if (recovery->claim_lsn == 0)
        return 0;

    const uint64_t promised_lsn = twl_segment_set_promise_behind(set, recovery->claim_index);
    const uint64_t marked_lsn = max_u64(recovery->marked_lsn, promised_lsn);
    const bool was_durable = marked_lsn >= recovery->claim_lsn;
    if (!was_durable)
        return 0;

    const struct lost claim = { .first_lsn = recovery->claim_lsn,
                                .last_lsn = recovery->claim_lsn,
                                .offset = recovery->claim_offset };
    report_damage(&recovery->report, &set->entries[recovery->claim_index], claim,
                  twl_recover_decide(FACT_LATER_DURABLE)->why);
    return TWINLOG_ECORRUPT;
}

/* Moves *from back to a segment of which the first LSN is known. Even the marker in front of an open group may be
 * missing; then it is unknown what the group continues, and the walk begins in an older segment. */
static int go_back_to_known(struct io *io, const struct segment_set *set, size_t *from)
{
    for (;;) {
        struct segment_entry *entry = &set->entries[*from];

        const int rc = twl_segment_look(io, entry);
        if (rc < 0)
            return rc;
        if (entry->first_lsn != 0 || *from == 0)
            return 0;
        --*from;
    }
}

/* 1: the segment has a footer. 0: it has none, and only another walk would tell how the segment ends. */
static int read_footer_of(struct io *io, const struct segment_entry *entry, struct segment_footer *ret_footer)
{
    struct segment segment;

    const int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;
    const int footers = twl_segment_read_footer(&segment, ret_footer);
    twl_segment_close(&segment);
    return footers;
}

/* Does the first group of the segment where the walk begins continue the segment in front? */
static int check_joint(struct io *io, const struct segment_set *set, size_t from, struct recovery *recovery)
{
    const struct segment_entry *entry = &set->entries[from];
    struct segment_footer footer;
    struct group_header first;

    const bool has_front = from > 0 && entry->header.start_lsn == 0;
    if (!has_front)
        return 0;

    const int rc = twl_segment_first_group(io, entry, &first);
    if (rc < 0)
        return rc;
    if (first.first_lsn == 0) /* that group is missing, which the walk finds */
        return 0;

    const int footers = read_footer_of(io, entry - 1, &footer);
    if (footers <= 0)
        return footers;

    const struct position end = { .next_lsn = footer.last_lsn + 1,
                                  .chain = footer.chain,
                                  .epoch = footer.epoch };
    if (twl_group_continues(&first, &end))
        return 0;

    const struct lost lost = { .first_lsn = end.next_lsn,
                               .last_lsn = end.next_lsn,
                               .offset = SEGMENT_DATA_OFFSET };
    report_damage(&recovery->report, entry, lost,
                  "this segment is of another history than the one in front of it");
    return TWINLOG_ECORRUPT;
}

static int recover_from(struct walk_to_end *walk, size_t from)
{
    struct position position = twl_position_before(&walk->set->entries[from].header);
    bool goes_on = true;
    int rc = 0;

    for (size_t index = from; rc == 0 && goes_on && index < walk->set->started; index++) {
        if (walk->summary)
            twl_summary_begin(walk->summary);
        rc = recover_segment(walk, index, position, &goes_on);
        position = walk->iter.position;
    }
    return rc;
}

static int find_end(struct walk_to_end *walk)
{
    const struct segment_set *set = walk->set;
    struct recovery *recovery = walk->recovery;

    int rc = twl_recover_find_open(walk->io, set, &recovery->open_from, &recovery->report);
    if (rc < 0)
        return rc;

    size_t from = min_u64(recovery->open_from, set->started - 1);
    rc = go_back_to_known(walk->io, set, &from);
    if (rc == 0)
        rc = recover_from(walk, from);
    if (rc == 0)
        rc = check_joint(walk->io, set, from, recovery);
    if (rc == 0)
        rc = check_claims(set, recovery);
    return rc;
}

/* ---- open groups ------------------------------------------------------------------------------- */

/* In front of the place of the open group is a marker. Enters that, and what is behind it. */
static int look_for_open_group(struct segment_iter *iter, bool *ret_is_open)
{
    int entered = twl_iter_enter_group(iter);
    if (entered < 0)
        return entered;
    if (entered == 0) { /* not even the marker is there */
        *ret_is_open = true;
        return 0;
    }

    const bool is_marker = iter->offset == OPEN_GROUP_OFFSET;
    if (!is_marker) { /* an ordinary group begins the segment */
        *ret_is_open = false;
        return 0;
    }

    entered = twl_iter_enter_group(iter);
    if (entered < 0)
        return entered;
    *ret_is_open = entered == 0 || iter->is_open;
    return 0;
}

int twl_segment_is_open(struct io *io, const struct segment_entry *entry, bool *ret_is_open,
                        struct twinlog_report *ret_report)
{
    struct segment_iter iter = { .window_bytes = 2 * BLOCK_BYTES };
    struct segment segment;

    *ret_is_open = false;
    if (!segment_is_mapped(&entry->header))
        return 0;
    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc < 0)
        return rc;

    twl_iter_begin(&iter, &segment, twl_position_before(&segment.header));
    rc = look_for_open_group(&iter, ret_is_open);
    if (rc == TWINLOG_EVERSION)
        twl_recover_report_newer(ret_report, entry, iter.position.next_lsn, iter.offset);
    twl_iter_free(&iter);
    twl_segment_close(&segment);
    return rc;
}

int twl_recover_find_open(struct io *io, const struct segment_set *set, size_t *ret_from,
                          struct twinlog_report *ret_report)
{
    *ret_from = set->started;
    for (size_t from = set->started; from > 0; from--) {
        const struct segment_entry *entry = &set->entries[from - 1];
        bool is_open;

        const int rc = twl_segment_is_open(io, entry, &is_open, ret_report);
        if (rc < 0)
            return rc;
        if (!is_open)
            return 0;

        *ret_from = from - 1;
        if (entry->header.start_lsn > 0) /* what is in front was durable when that start was made */
            return 0;
    }
    return 0;
}

/* ---- the end of the log ------------------------------------------------------------------------ */

int twl_recover(struct io *io, const struct segment_set *set, bool has_writer, struct summary *summary,
                struct recovery *ret_recovery)
{
    struct walk_to_end walk = {
        .io = io, .set = set, .summary = summary, .iter.passes_claims = !has_writer, .recovery = ret_recovery
    };

    *ret_recovery = (struct recovery){ .position = { .next_lsn = 1 }, .open_from = set->started };
    if (summary)
        twl_summary_begin(summary);
    if (set->started == 0) {
        twl_report(&ret_recovery->report, TWINLOG_FOUND_NEW_LOG, TWINLOG_DID_NOTHING, 0,
                   "there is no log yet");
        return 0;
    }

    const int rc = find_end(&walk);
    twl_iter_free(&walk.iter);
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
    if (rc == -EINVAL) /* a read-only file system may not know the call */
        return 0;
    return rc;
}
