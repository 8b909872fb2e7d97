/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks every byte of every record.
 *
 * Walks all segments from the first to the last with the cursor that readers use. Where the walk stops,
 * recovery's table says whether that is the end of a segment, the end of the log, or damage; after
 * damage it goes on at the next group that proves itself, so that one bad place does not hide others.
 */
#include "log/log.h"

#include "segment/live.h"
#include "segment/recover.h"

#include <errno.h>
#include <stdlib.h>

struct verifier {
    struct io *io;
    const struct twinlog_verify_options *options;
    struct segment_set set;
    struct cursor cursor;
    struct segment segment;
    size_t index;
    uint64_t limit_lsn; /* beside a live writer: its watermark */
    bool has_writer;
    bool was_closed;
    bool is_damaged;
    bool is_done;
    uint64_t records;
    uint64_t done_bytes, total_bytes;
};

static int tell(struct verifier *v, const struct twinlog_report *report)
{
    if (report->error != 0)
        v->is_damaged = true;
    return v->options->each ? v->options->each(v->options->context, report) : 0;
}

static void show_progress(struct verifier *v, uint64_t offset)
{
    if (v->options->progress)
        v->options->progress(v->options->context, v->done_bytes + offset, v->total_bytes);
}

static int tell_damage(struct verifier *v, uint64_t offset, uint64_t bytes, uint64_t first, uint64_t last)
{
    struct twinlog_report report;
    if (first > last)
        twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
                   "a mark before record %llu is damaged; no record is lost", (unsigned long long)first);
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

static int tell_padding(struct verifier *v, uint64_t offset, uint64_t bytes)
{
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_DIRTY_PADDING, TWINLOG_DID_NOTHING, 0,
               "bytes that must be zero are not; no record is affected, but the disk changed something");
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, offset, bytes);
    return tell(v, &report);
}

static int tell_system(struct verifier *v, int error)
{
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, error, "cannot read: %s",
               twinlog_strerror(error));
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, v->cursor.offset, 0);
    tell(v, &report);
    return error;
}

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
    const unsigned char *block = twl_cursor_bytes(&v->cursor, 0, SEGMENT_HEADER_BYTES, &error);
    if (!block)
        return error ? tell_system(v, error) : 0;
    return twl_segment_header_is_clean(block) ? 0 : tell_padding(v, 512, SEGMENT_HEADER_BYTES - 512);
}

/* The group the cursor has entered. A record whose header checks tells where the next one is. */
static int check_records(struct verifier *v)
{
    struct cursor *cursor = &v->cursor;
    struct cursor_record record;
    while (cursor->records_left > 0) {
        uint64_t lsn = cursor->position.next_lsn - cursor->records_left;
        uint64_t offset = cursor->record_offset;
        int rc = twl_cursor_next_record(cursor, &record);
        if (rc > 0) {
            v->records++;
            continue;
        }
        if (rc != TWINLOG_ECORRUPT)
            return tell_system(v, rc);
        rc = twl_cursor_skip_record(cursor);
        if (rc == TWINLOG_ECORRUPT)
            return tell_damage(v, offset, cursor->offset - offset, lsn, cursor->position.next_lsn - 1);
        if (rc < 0)
            return tell_system(v, rc);
        rc = tell_damage(v, offset, cursor->record_offset - offset, lsn, lsn);
        if (rc != 0)
            return rc;
    }
    if (cursor->record_offset != cursor->offset)
        return tell_padding(v, cursor->record_offset, cursor->offset - cursor->record_offset);
    return 0;
}

/* After damage: go on at the first later group here, or in the next segment that is begun. */
static int resume(struct verifier *v)
{
    struct cursor *cursor = &v->cursor;
    struct later_groups later;
    uint64_t offset = cursor->offset, next_lsn = cursor->position.next_lsn;
    int rc = twl_cursor_find_later(cursor, offset, cursor->position, &later);
    if (rc < 0)
        return tell_system(v, rc);
    if (later.offset != 0) {
        rc = tell_damage(v, offset, later.offset - offset, next_lsn, later.first_lsn - 1);
        cursor->offset = later.offset;
        cursor->position.next_lsn = 0;
        return rc;
    }
    uint64_t next_first = 0;
    for (size_t i = v->index + 1; i < v->set.count && next_first == 0; i++)
        next_first = v->set.entries[i].first_lsn;
    rc = tell_damage(v, offset, v->segment.data_end - offset, next_lsn,
                     next_first > 0 ? next_first - 1 : next_lsn);
    v->is_done = next_first == 0;
    cursor->position = (struct position){ 0 };
    cursor->offset = v->segment.data_end; /* nothing more here */
    return rc;
}

static int tell_end(struct verifier *v, const struct recover_row *row)
{
    v->is_done = true;
    if (row->decision != DECIDE_CUT || v->has_writer)
        return 0;
    struct twinlog_report report;
    twl_report(&report, TWINLOG_FOUND_TORN_TAIL, TWINLOG_WOULD_CUT, 0, "the log ends before record %llu: %s",
               (unsigned long long)v->cursor.position.next_lsn, row->why);
    twl_report_place(&report, v->segment.name, v->segment.header.sequence, v->cursor.offset,
                     v->segment.data_end - v->cursor.offset);
    report.first_lsn = v->cursor.position.next_lsn;
    return tell(v, &report);
}

/* The walk stopped in front of something that is no group, or not a whole one. True if that is damage;
 * otherwise the segment or the log ends here. */
static int judge(struct verifier *v, bool *ret_is_damage)
{
    struct recover_judgement judgement;
    uint64_t next_lsn = v->cursor.position.next_lsn;
    *ret_is_damage = v->has_writer && next_lsn <= v->limit_lsn;
    if (v->has_writer && next_lsn > v->limit_lsn) { /* being written just now */
        v->is_done = true;
        return 0;
    }
    int rc = twl_recover_judge(v->io, &v->set, v->index, &v->cursor, v->was_closed, &judgement);
    if (rc < 0)
        return tell_system(v, rc);
    /* nothing was ever written here: whatever is missing begins the next segment, and is found there */
    bool is_full = judgement.row->decision == DECIDE_NEXT_SEGMENT ||
                   (judgement.facts & (FACT_ZERO | FACT_LATER_GROUP | FACT_LATER_DURABLE)) ==
                       (FACT_ZERO | FACT_LATER_DURABLE);
    if (is_full) {
        *ret_is_damage = false;
        return 0;
    }
    if (judgement.row->decision == DECIDE_DAMAGE)
        *ret_is_damage = true;
    return *ret_is_damage ? 0 : tell_end(v, judgement.row);
}

/* The group the cursor has entered. 1 = go on with the next one. */
static int check_group(struct verifier *v, uint64_t expected_offset)
{
    struct cursor *cursor = &v->cursor;
    if (v->has_writer && cursor->position.next_lsn - 1 > v->limit_lsn) {
        v->is_done = true;
        return 0;
    }
    int rc = check_zeros(v, expected_offset, cursor->group_offset);
    if (rc != 0)
        return rc;
    twl_cursor_back_out(cursor);
    rc = twl_cursor_accept_group(cursor);
    if (rc < 0)
        return tell_system(v, rc);
    if (rc > 0) {
        v->records += cursor->group.count;
    } else {
        bool is_damage;
        rc = judge(v, &is_damage);
        if (rc != 0 || !is_damage)
            return rc;
        rc = twl_cursor_enter_group(cursor);
        rc = rc > 0 ? check_records(v) : tell_system(v, rc);
        if (rc != 0)
            return rc;
    }
    v->was_closed = cursor->group.kind == GROUP_CLOSE;
    return 1;
}

/* One group, or what stands in its place. 1 = go on in this segment. */
static int step(struct verifier *v)
{
    struct cursor *cursor = &v->cursor;
    /* where the group before ends; after damage nothing is known of the bytes in between */
    uint64_t expected_offset = cursor->offset == 0              ? SEGMENT_DATA_OFFSET
                               : cursor->position.next_lsn == 0 ? UINT64_MAX
                                                                : cursor->offset;
    int rc = twl_cursor_enter_group(cursor);
    if (rc < 0)
        return tell_system(v, rc);
    if (rc > 0)
        return check_group(v, expected_offset);
    if (cursor->offset >= v->segment.data_end && cursor->position.next_lsn == 0)
        return 0;
    bool is_damage;
    rc = judge(v, &is_damage);
    if (rc != 0 || !is_damage)
        return rc;
    rc = resume(v);
    return rc != 0 ? rc : 1;
}

static int check_segment(struct verifier *v, struct position *position)
{
    int rc = twl_segment_open_valid(v->io, v->set.entries[v->index].name, &v->segment);
    if (rc < 0)
        return tell_system(v, rc);
    twl_cursor_begin(&v->cursor, &v->segment, *position);
    rc = check_header_block(v);
    for (unsigned steps = 0; rc == 0 && !v->is_done; steps++) {
        rc = step(v);
        if (rc <= 0)
            break;
        rc = 0;
        if (steps % 64 == 0)
            show_progress(v, v->cursor.offset);
    }
    *position = v->cursor.position;
    v->done_bytes += v->segment.header.bytes;
    twl_segment_close(&v->segment);
    return rc;
}

static int check_segments(struct verifier *v)
{
    struct position position = { .next_lsn = 1 };
    int64_t begun = twl_segment_set_newest(&v->set);
    size_t newest = begun < 0 ? 0 : (size_t)begun;
    for (size_t i = 0; i <= newest; i++)
        v->total_bytes += v->set.entries[i].header.bytes;
    int rc = 0;
    for (v->index = 0; rc == 0 && !v->is_done && v->index < v->set.count; v->index++)
        rc = check_segment(v, &position);
    show_progress(v, 0);
    return rc;
}

static int verify(struct verifier *v)
{
    struct live live;
    struct twinlog_report report;
    const struct segment_set_options options = { .open_flags = IO_READ_ONLY };
    int rc = twl_live_watch(v->io, &live);
    if (rc < 0)
        return tell_system(v, rc);
    rc = twl_live_has_writer(&live, &v->has_writer);
    v->limit_lsn = twl_live_durable_lsn(&live);
    twl_live_unwatch(&live);
    if (rc < 0)
        return tell_system(v, rc);
    rc = twl_segment_set_load(v->io, &options, &v->set, &report);
    if (rc == 0 && v->set.count == 0)
        return -ENOENT;
    if (rc < 0) {
        int told = tell(v, &report);
        return told != 0 ? told : rc;
    }
    if (v->has_writer && v->limit_lsn == 0) { /* it shares no page: what the log itself proves */
        struct recovery recovery;
        rc = twl_recover(v->io, &v->set, &recovery);
        if (rc < 0 && rc != TWINLOG_ECORRUPT)
            return tell_system(v, rc);
        v->limit_lsn = recovery.marked_lsn;
    }
    return check_segments(v);
}

int twl_verify(struct io *io, const struct twinlog_verify_options *options, uint64_t *ret_records)
{
    struct verifier v = { .io = io, .options = options };
    int rc = verify(&v);
    if (rc == 0 && v.is_damaged)
        rc = TWINLOG_ECORRUPT;
    if (ret_records && (rc == 0 || rc == TWINLOG_ECORRUPT))
        *ret_records = v.records;
    twl_cursor_free(&v.cursor);
    twl_segment_set_free(&v.set);
    io->ops->destroy(io);
    return rc;
}
