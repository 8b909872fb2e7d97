/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks every byte of every record.
 *
 * Verify walks the segments that make the log, from the first to the last, with the iterator that readers
 * use. Where the walk stops, recovery's table tells whether that is the end of a segment, the end of the log,
 * or damage. After damage the walk continues at the next group that proves itself, so that one bad place does
 * not hide others. Without the set of segments, because a header is bad or a file is missing, there is
 * nothing to walk. In front of a segment with a fixed start everything was durable, and what older segments
 * hold of that LSN and later ones is not checked.
 *
 * Of records before the head of the log only the group headers are read, and only to find the way. But in an
 * unsealed segment such records are checked like all others, because opening the log or sealing the segment
 * walks through all of it.
 *
 * A writer may trim, truncate and recycle meanwhile. The segment that is being walked is held. Something
 * that does not fit is damage only if nothing changed since the set was loaded; otherwise the segment is
 * walked again in a new snapshot.
 */
#include "log/log.h"

#include "log/log_snapshot.h"
#include "log/salvage.h"
#include "log/seal_check.h"

#include <errno.h>
#include <stdlib.h>

#define VIEWS 100u      /* a log that is truncated faster than it is read is not verified */
#define STATE_TRIES 10u /* a process may be writing a slot just now */
#define STATE_RETRY_MS 1u

struct verifier {
    struct io *io;
    const struct twinlog_verify_options *options;
    struct log_snapshot snapshot;
    uint64_t limit_lsn; /* beside a live writer: its watermark */
    struct cursor cursor;
    uint64_t records;
    uint64_t done_bytes, total_bytes;
    int verdict; /* result of `each` if it ended the call; the internal result is then -ECANCELED */
    bool is_damaged;
    bool is_done;
    bool is_stale; /* something does not fit because the snapshot is old */

    /* The segment that is walked: */
    size_t index;
    struct segment segment;
    struct seal_check seal;
    uint64_t bound;    /* records of this LSN and later ones in the segment do not count */
    uint64_t next_lsn; /* every record before it was checked or reported */
    bool was_closed;

    uint64_t claim_lsn; /* first LSN of which there is only a dead writer's claim; 0 = none */
};

/* ---- telling ----------------------------------------------------------------------------------- */

static int tell(struct verifier *v, const struct twinlog_report *report)
{
    if (report->error == TWINLOG_ECORRUPT && !twl_log_snapshot_is_current(v->io, &v->snapshot))
        v->is_stale = true;
    if (v->is_stale)
        return 0;
    if (report->error != 0)
        v->is_damaged = true;
    v->verdict = v->options->each ? v->options->each(v->options->context, report) : 0;
    return v->verdict != 0 ? -ECANCELED : 0;
}

static void show_progress(struct verifier *v, uint64_t offset)
{
    if (v->options->progress)
        v->options->progress(v->options->context, v->done_bytes + offset, v->total_bytes);
}

/* Were these records trimmed, in a sealed segment? Its index leads past them, so no process has to walk
 * them. */
static bool is_removed(const struct verifier *v, uint64_t last_lsn)
{
    return v->seal.is_sealed && last_lsn < v->snapshot.set.first_lsn;
}

static int tell_damage(struct verifier *v, uint64_t offset, uint64_t bytes, uint64_t first, uint64_t last)
{
    struct twinlog_report report;
    v->seal.is_partial = true;
    v->next_lsn = max_u64(v->next_lsn, last + 1);
    if (is_removed(v, max_u64(first, last)))
        return 0;
    if (first > last)
        twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
                   "a marker before record %llu is damaged; no record is lost", (unsigned long long)first);
    else if (first == last)
        twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
                   "record %llu is damaged or missing", (unsigned long long)first);
    else
        twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
                   "records %llu to %llu are damaged or missing", (unsigned long long)first,
                   (unsigned long long)last);
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, offset, bytes);
    report.first_lsn = first;
    report.last_lsn = last;
    return tell(v, &report);
}

static int tell_chain(struct verifier *v)
{
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
               "record %llu is not in the group that the log was truncated behind",
               (unsigned long long)v->bound - 1);
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, v->cursor.group_offset,
                     v->cursor.group.bytes);
    report.first_lsn = report.last_lsn = v->bound - 1;
    return tell(v, &report);
}

static int tell_harmless(struct verifier *v, enum twinlog_finding finding, uint64_t offset, uint64_t bytes,
                         const char *words)
{
    struct twinlog_report report;
    twl_report(&report, finding, TWINLOG_DID_NOTHING, 0, "%s", words);
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, offset, bytes);
    return tell(v, &report);
}

static int tell_padding(struct verifier *v, uint64_t offset, uint64_t bytes)
{
    return tell_harmless(v, TWINLOG_FOUND_DIRTY_PADDING, offset, bytes,
                         "bytes that must be zero are not; no record is affected, but the disk changed "
                         "something");
}

static int tell_system(struct verifier *v, int error)
{
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, error, "cannot read: %s",
               twinlog_strerror(error));
    if (error == TWINLOG_EVERSION)
        report.finding = TWINLOG_FOUND_NEWER_FORMAT;
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, v->cursor.offset, 0);
    tell(v, &report);
    return error;
}

/* ---- bytes that must be zero ------------------------------------------------------------------- */

static int check_zeros(struct verifier *v, uint64_t from, uint64_t to)
{
    int error;
    if (from >= to)
        return 0;
    const unsigned char *bytes = twl_cursor_bytes(&v->cursor, from, (size_t)(to - from), &error);
    if (!bytes)
        return error ? tell_system(v, error) : 0;
    for (uint64_t i = 0; i < to - from; i++)
        if (bytes[i] != 0)
            return tell_padding(v, from + i, 1);
    return 0;
}

static int check_header_block(struct verifier *v)
{
    int error;
    if (segment_is_mapped(&v->segment.header)) /* its writer uses the rest of the block */
        return 0;
    const unsigned char *block = twl_cursor_bytes(&v->cursor, 0, SEGMENT_HEADER_BYTES, &error);
    if (!block)
        return error ? tell_system(v, error) : 0;
    return twl_segment_header_is_clean(block) ? 0 : tell_padding(v, 512, SEGMENT_HEADER_BYTES - 512);
}

/* ---- records ----------------------------------------------------------------------------------- */

static bool is_kept(const struct verifier *v, const struct cursor_record *record)
{
    return record->header.kind == RECORD_DATA && record->lsn >= v->snapshot.set.first_lsn;
}

/* LSN of the next record of the group. */
static uint64_t record_lsn(const struct cursor *cursor)
{
    return cursor->position.next_lsn - cursor->records_left;
}

/* Checks every record of the group that the cursor has entered, up to the bound: 1 = all are there. */
static int accept_records(struct verifier *v)
{
    struct cursor *cursor = &v->cursor;
    struct cursor_record record;
    uint64_t count = 0;
    int rc = 0;
    while (cursor->records_left > 0 && record_lsn(cursor) < v->bound) {
        rc = twl_cursor_next_record(cursor, &record);
        if (rc < 0)
            break;
        count += is_kept(v, &record);
        rc = twl_seal_check_record(&v->seal, &record, cursor->group_offset);
        if (rc < 0)
            return rc;
    }
    if (rc < 0)
        return rc == TWINLOG_ECORRUPT ? 0 : rc;
    if (cursor->records_left == 0 && cursor->record_offset != cursor->offset)
        return 0;
    v->records += count;
    return 1;
}

/* The same if one of them is damaged. A record whose header checks tells where the next one is. */
static int check_records(struct verifier *v)
{
    struct cursor *cursor = &v->cursor;
    struct cursor_record record;
    uint64_t last_lsn = min_u64(cursor->position.next_lsn, v->bound) - 1;
    while (cursor->records_left > 0 && record_lsn(cursor) < v->bound) {
        uint64_t lsn = record_lsn(cursor);
        uint64_t offset = cursor->record_offset;
        int rc = twl_cursor_next_record(cursor, &record);
        if (rc > 0) {
            v->records += is_kept(v, &record);
            continue;
        }
        if (rc != TWINLOG_ECORRUPT)
            return tell_system(v, rc);
        rc = twl_cursor_skip_record(cursor);
        if (rc == TWINLOG_ECORRUPT)
            return tell_damage(v, offset, cursor->offset - offset, lsn, last_lsn);
        if (rc < 0)
            return tell_system(v, rc);
        rc = tell_damage(v, offset, cursor->record_offset - offset, lsn, lsn);
        if (rc != 0)
            return rc;
    }
    if (cursor->records_left == 0 && cursor->record_offset != cursor->offset) /* it is not whole */
        return tell_damage(v, cursor->record_offset, cursor->offset - cursor->record_offset, last_lsn + 1,
                           last_lsn);
    return 0;
}

/* ---- where the walk stops ---------------------------------------------------------------------- */

/* The first LSN behind this segment; 0 = nothing is behind it. */
static int find_next_first(struct verifier *v, uint64_t *ret_lsn)
{
    struct segment_set *set = &v->snapshot.set;
    *ret_lsn = v->bound < UINT64_MAX ? v->bound : 0;
    for (size_t i = v->index + 1; i < set->started + set->spares && *ret_lsn == 0; i++) {
        int rc = twl_segment_look(v->io, &set->entries[i]);
        if (rc < 0)
            return rc;
        *ret_lsn = set->entries[i].first_lsn;
    }
    return 0;
}

/* The newest LSN that headers of later segments promise was durable. */
static uint64_t promised_lsn(const struct verifier *v)
{
    const struct segment_set *set = &v->snapshot.set;
    uint64_t lsn = 0;
    for (size_t i = v->index + 1; i < set->started + set->spares; i++)
        lsn = max_u64(lsn, twl_segment_set_promise(set, i));
    return lsn;
}

/* After damage: continue at the first later group here, or in the next started segment. */
static int resume(struct verifier *v)
{
    struct cursor *cursor = &v->cursor;
    struct later_groups later;
    uint64_t offset = cursor->offset, next_first, first = v->next_lsn;
    int rc = twl_piece_enter_later(cursor, &later);
    if (rc < 0)
        return tell_system(v, rc);
    if (rc > 0)
        twl_cursor_back_out(cursor);
    if (rc > 0 && later.first_lsn < v->bound)
        return tell_damage(v, offset, later.offset - offset, first, later.first_lsn - 1);
    cursor->position = (struct position){ 0 };
    rc = find_next_first(v, &next_first);
    if (rc == TWINLOG_ECORRUPT || rc == -ENOENT) { /* a later segment has another incarnation by now */
        v->is_stale = true;
        return 0;
    }
    if (rc < 0)
        return tell_system(v, rc);
    v->is_done = next_first == 0;
    cursor->offset = v->segment.data_end; /* nothing more here */
    return tell_damage(v, offset, v->segment.data_end - offset, first,
                       next_first > 0 ? next_first - 1 : max_u64(first, promised_lsn(v)));
}

static int tell_end(struct verifier *v, const struct recover_row *row)
{
    v->is_done = true;
    if (row->decision != DECIDE_TRUNCATE || v->snapshot.has_writer)
        return 0;
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_TORN_TAIL, TWINLOG_WOULD_TRUNCATE, 0,
               "the log ends before record %llu: %s", (unsigned long long)v->cursor.position.next_lsn,
               row->why);
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, v->cursor.offset,
                     v->segment.data_end - v->cursor.offset);
    report.first_lsn = v->cursor.position.next_lsn;
    return tell(v, &report);
}

/* Is the segment full? Nothing was ever written here, and the next groups are in a later segment. What is
 * missing begins that segment, and is found there. */
static bool is_full(const struct verifier *v, const struct recover_judgement *judgement)
{
    unsigned facts = judgement->facts;
    if (v->cursor.position.next_lsn == 0) /* even the first group is missing */
        return false;
    bool is_sealed_here = v->seal.is_sealed && v->cursor.offset == v->seal.footer.data_end &&
                          v->cursor.position.chain == v->seal.footer.chain;
    if (judgement->row->decision == DECIDE_NEXT_SEGMENT)
        return true;
    return ((facts & FACT_ZERO) || is_sealed_here) && !(facts & FACT_LATER_GROUP) &&
           (facts & FACT_LATER_DURABLE) && judgement->later.offset != 0;
}

/* The walk stopped in front of something that is no whole group. *ret_is_damage tells whether that is
 * damage; otherwise the segment or the log ends here. */
static int judge(struct verifier *v, bool *ret_is_damage)
{
    struct recover_judgement judgement;
    uint64_t next_lsn = v->cursor.position.next_lsn;
    bool has_writer = v->snapshot.has_writer;
    *ret_is_damage = v->bound < UINT64_MAX; /* everything up to the bound was durable */
    if (*ret_is_damage)
        return 0;
    if (has_writer && next_lsn > v->limit_lsn) { /* it is being written now */
        v->is_done = true;
        return 0;
    }
    int rc = twl_recover_judge(v->io, &v->snapshot.set, v->index, &v->cursor, v->was_closed, &judgement);
    if (rc == TWINLOG_ECORRUPT || rc == -ENOENT) { /* a later segment has another incarnation by now */
        v->is_stale = true;
        return 0;
    }
    if (rc < 0)
        return tell_system(v, rc);
    if (is_full(v, &judgement))
        return 0;
    *ret_is_damage = has_writer || judgement.row->decision == DECIDE_DAMAGE;
    return *ret_is_damage ? 0 : tell_end(v, judgement.row);
}

/* ---- groups ------------------------------------------------------------------------------------ */

/* Does the group hold the record in front of the bound, and is it the group that the next segment
 * continues? */
static int check_bound(struct verifier *v)
{
    const struct group_header *group = &v->cursor.group;
    const struct segment_set *set = &v->snapshot.set;
    if (v->bound == UINT64_MAX || group->count == 0 || v->cursor.position.next_lsn < v->bound)
        return 0;
    v->seal.is_partial = true;
    return twl_group_chain(group) == set->entries[v->index + 1].header.start_chain ? 0 : tell_chain(v);
}

/* As recovery does: a durable record was complete, so a claim in its place is damage. */
static int check_claim(struct verifier *v)
{
    const struct cursor *cursor = &v->cursor;
    const uint64_t marked_lsn = max_u64(promised_lsn(v), cursor->group.durable_lsn);
    if (cursor->is_open && cursor->is_claim && v->claim_lsn == 0)
        v->claim_lsn = cursor->position.next_lsn - 1;
    const uint64_t lsn = v->claim_lsn;
    if (lsn == 0 || marked_lsn < lsn)
        return 0;
    v->claim_lsn = 0;
    return tell_damage(v, cursor->group_offset, 0, lsn, lsn);
}

/* Checks the group that the cursor has entered. 1 = go on with the next one. */
static int check_group(struct verifier *v, uint64_t expected_offset)
{
    struct cursor *cursor = &v->cursor;
    uint64_t end_lsn = min_u64(cursor->position.next_lsn, v->bound);
    if (v->snapshot.has_writer && end_lsn - 1 > v->limit_lsn) {
        v->is_done = true;
        return 0;
    }
    int rc = check_zeros(v, expected_offset, cursor->group_offset);
    if (rc != 0)
        return rc;
    if (cursor->group.count > 0 && is_removed(v, end_lsn - 1)) {
        v->seal.is_partial = true;
        rc = 1;
    } else {
        rc = accept_records(v);
    }
    if (rc < 0)
        return tell_system(v, rc);
    if (rc == 0) {
        bool is_damage;
        v->seal.is_partial = true;
        twl_cursor_back_out(cursor);
        rc = judge(v, &is_damage);
        if (rc != 0 || !is_damage)
            return rc;
        rc = twl_cursor_enter_group(cursor);
        rc = rc > 0 ? check_records(v) : tell_system(v, rc);
        if (rc != 0)
            return rc;
    }
    rc = check_bound(v);
    if (rc == 0)
        rc = check_claim(v);
    v->next_lsn = max_u64(v->next_lsn, end_lsn);
    v->was_closed = cursor->group.kind == GROUP_CLOSE;
    return rc != 0 ? rc : 1;
}

/* Checks one group, or what stands in its place. 1 = go on in this segment. */
static int step(struct verifier *v)
{
    struct cursor *cursor = &v->cursor;
    uint64_t next_lsn = cursor->position.next_lsn;
    if (next_lsn >= v->bound)
        return 0;
    /* Where the preceding group ends. After damage nothing is known of the bytes in between. */
    uint64_t expected_offset = cursor->offset == 0 ? SEGMENT_DATA_OFFSET
                               : next_lsn == 0     ? UINT64_MAX
                                                   : cursor->offset;
    int rc = twl_cursor_enter_group(cursor);
    if (rc < 0)
        return tell_system(v, rc);
    if (rc > 0)
        return cursor->group.first_lsn < v->bound ? check_group(v, expected_offset) : 0;
    if (cursor->offset >= v->segment.data_end && next_lsn == 0)
        return 0;
    bool is_damage;
    rc = judge(v, &is_damage);
    if (rc != 0 || !is_damage)
        return rc;
    rc = resume(v);
    return rc != 0 ? rc : 1;
}

/* ---- segments ---------------------------------------------------------------------------------- */

/* Only segments that were left are sealed; the newest one may have a footer that is no longer true. */
static int begin_seal_check(struct verifier *v)
{
    if (v->index + 1 < v->snapshot.set.started)
        return twl_seal_check_begin(&v->seal, &v->segment);
    v->seal = (struct seal_check){ 0 };
    return 0;
}

static int end_seal_check(struct verifier *v)
{
    const struct cursor *cursor = &v->cursor;
    if (v->bound == UINT64_MAX && cursor->position.next_lsn > 0)
        twl_seal_check_end(&v->seal, cursor->offset, cursor->position);
    if (!v->seal.wrong || v->snapshot.has_writer)
        return 0;
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_BAD_INDEX, TWINLOG_DID_NOTHING, 0,
               "%s; no record is affected, but finding one here takes longer", v->seal.wrong);
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, v->segment.data_end,
                     SEGMENT_FOOTER_BYTES);
    return tell(v, &report);
}

static int walk_segment(struct verifier *v, struct position *position)
{
    if (v->segment.header.start_lsn > 0) {
        *position = twl_position_before(&v->segment);
        v->next_lsn = max_u64(v->segment.header.start_lsn, v->snapshot.set.first_lsn);
    }
    v->bound = twl_segment_set_bound(&v->snapshot.set, v->index);
    twl_cursor_begin(&v->cursor, &v->segment, *position);
    twl_cursor_pass_claims(&v->cursor, v->snapshot.has_writer);
    int rc = begin_seal_check(v);
    if (rc < 0)
        return tell_system(v, rc);
    rc = check_header_block(v);
    for (unsigned steps = 0; rc == 0 && !v->is_done && !v->is_stale; steps++) {
        rc = step(v);
        if (rc <= 0)
            break;
        rc = 0;
        if (steps % 64 == 0)
            show_progress(v, v->cursor.offset);
    }
    if (rc == 0 && !v->is_done && !v->is_stale)
        rc = end_seal_check(v);
    *position = v->cursor.position;
    return rc;
}

static int check_segment(struct verifier *v, struct position *position)
{
    int rc = twl_log_snapshot_open_segment(v->io, &v->snapshot.set.entries[v->index], &v->segment);
    if (rc == -EAGAIN) {
        v->is_stale = true;
        return 0;
    }
    if (rc < 0)
        return tell_system(v, rc);
    rc = walk_segment(v, position);
    twl_segment_close(&v->segment);
    v->done_bytes += v->segment.header.bytes;
    return rc;
}

/* ---- the log ----------------------------------------------------------------------------------- */

static int load_snapshot(struct verifier *v)
{
    struct twinlog_report report;
    v->is_stale = false;
    int rc = twl_log_snapshot_load_from_disk(v->io, &v->snapshot, &report);
    if (rc == -ENOENT)
        return rc;
    if (rc < 0) {
        v->verdict = v->options->each ? v->options->each(v->options->context, &report) : 0;
        return rc;
    }
    const struct segment_set *set = &v->snapshot.set;
    v->next_lsn = max_u64(v->next_lsn, set->first_lsn);
    v->total_bytes = v->done_bytes;
    for (size_t i = v->index; i < set->started; i++)
        v->total_bytes += set->entries[i].header.bytes;
    if (v->snapshot.has_writer)
        rc = twl_log_snapshot_find_durable(v->io, &v->snapshot, &v->limit_lsn);
    return rc < 0 ? tell_system(v, rc) : 0;
}

/* Takes a new snapshot and finds the place in it behind the segment of that sequence. */
static int look_again(struct verifier *v, uint64_t done_sequence, struct position *position)
{
    twl_log_snapshot_free(&v->snapshot);
    v->index = 0;
    int rc = load_snapshot(v);
    if (rc != 0)
        return rc;
    const struct segment_set *set = &v->snapshot.set;
    while (v->index < set->started && set->entries[v->index].header.sequence <= done_sequence)
        v->index++;
    if (v->index == set->started)
        v->is_done = true;
    else if (set->entries[v->index].header.sequence != done_sequence + 1)
        *position = (struct position){ 0 };
    return 0;
}

static int check_segments(struct verifier *v)
{
    const struct segment_set *set = &v->snapshot.set;
    struct position position = { 0 };
    uint64_t done_sequence = 0;
    unsigned views = 1;
    int rc = 0;
    while (rc == 0 && !v->is_done && v->index < set->started + set->spares) {
        struct position before = position;
        uint64_t records = v->records, next_lsn = v->next_lsn;
        rc = check_segment(v, &position);
        if (rc == 0 && v->is_stale) {
            position = before;
            v->records = records;
            v->next_lsn = next_lsn;
            v->is_done = false;
            rc = views++ < VIEWS ? look_again(v, done_sequence, &position) : -EBUSY;
        } else if (rc == 0) {
            done_sequence = set->entries[v->index++].header.sequence;
        }
    }
    show_progress(v, 0);
    return rc;
}

/* ---- the state file ---------------------------------------------------------------------------- */

static int read_slots(struct verifier *v, bool *ret_are_whole)
{
    struct state_header headers[2];
    struct io_file *file;
    uint64_t file_bytes;
    size_t size = 0;
    *ret_are_whole = false;
    int rc = io_open(v->io, STATE_NAME, IO_READ_ONLY, &file);
    if (rc < 0)
        return rc;
    rc = io_size(file, &file_bytes);
    size_t slot_bytes = (size_t)min_u64(file_bytes / 2, STATE_MAX_SLOT_BYTES);
    unsigned char *bytes = malloc(2 * slot_bytes + 1);
    if (rc == 0)
        rc = bytes ? io_read(file, bytes, 2 * slot_bytes, 0, &size) : -ENOMEM;
    if (rc == 0 && size == 2 * slot_bytes)
        *ret_are_whole = twl_state_decode(bytes, slot_bytes, &headers[0]) == HEADER_VALID &&
                         twl_state_decode(bytes + slot_bytes, slot_bytes, &headers[1]) == HEADER_VALID &&
                         headers[0].generation == headers[1].generation;
    free(bytes);
    io_close(file);
    return rc;
}

/* Loading the snapshot has shown that at least one of the two copies is good. */
static int check_state(struct verifier *v)
{
    bool are_whole = v->snapshot.state.header.generation == 0;
    int rc = 0;
    for (unsigned tries = 0; rc == 0 && !are_whole && tries < STATE_TRIES; tries++) {
        if (tries > 0)
            v->io->ops->sleep_ms(v->io, STATE_RETRY_MS);
        rc = read_slots(v, &are_whole);
    }
    if (rc < 0)
        return tell_system(v, rc);
    if (are_whole)
        return 0;
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_BAD_STATE, TWINLOG_DID_NOTHING, 0,
               "one of the two copies of the cursors and values does not check or is older; the next change "
               "writes both");
    twl_report_place(&report, STATE_NAME, 0, 0, 0);
    return tell(v, &report);
}

int twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records)
{
    struct verifier v = { .io = io, .options = options };
    int rc = load_snapshot(&v);
    if (rc == 0)
        rc = check_state(&v);
    if (rc == 0)
        rc = check_segments(&v);
    if (rc == 0 && v.is_damaged)
        rc = TWINLOG_ECORRUPT;
    if (ret_records && (rc == 0 || rc == TWINLOG_ECORRUPT))
        *ret_records = v.records;
    twl_cursor_free(&v.cursor);
    twl_log_snapshot_free(&v.snapshot);
    io->ops->destroy(io);
    return v.verdict != 0 ? v.verdict : rc;
}
