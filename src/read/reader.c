/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader: one iterator over all segments, never beyond the watermark (I6).
 *
 * read_snapshot.c decides how far it may read, read_position.c finds a record. This file keeps the position between two
 * records, and explains why a record is not there. In this order: it was truncated; it was trimmed; it is not
 * durable yet; its segment has moved; it is damaged. Every record up to the watermark must check. But the
 * bytes in memory may be older than the watermark. So before the reader reports damage, it first drops the
 * bytes that it has read and looks again, then drops all it knows of the log and looks again.
 *
 * The fast path, for the next record of a group: nothing was published since the last look, and `end_lsn` covers all
 * other conditions: no error, the range of the options, the watermark, the truncation, the end of the group.
 */
#include "read/reader.h"

#include "base/fork.h"
#include "base/sync.h"
#include "base/versioned.h"
#include "read/follower.h"
#include "read/read_position.h"
#include "read/read_snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>

#define LOOKS_AGAIN 2u       /* for a record in one segment */
#define MOVING_LOOKS 100u    /* while each look finds it in a different segment */
#define NEWEST_RECORDS 1024u /* a reader of one of so many, by its LSN, keeps up with the writer */

enum where {
    AT_LSN,
    AT_FIRST,
    AT_TIME
};

struct twinlog_reader {
    struct fork_guard guard; /* [const] */
    struct read_snapshot snapshot;
    struct read_position pos;
    bool owns_io;                      /* [const] */
    _Atomic uint32_t *readers;         /* [const] of the log that it is attached to, or NULL */
    uint64_t from_lsn;                 /* [const] */
    uint64_t to_lsn;                   /* twl_reader_get() changes it */
    struct twinlog_report *ret_report; /* where the application wants it, or NULL */
    struct twinlog_report report;      /* of the newest error, to be copied there */
    struct follower *follower;         /* created by the first call that asks for the descriptor */

    enum where where;  /* AT_LSN after the first move */
    int64_t time_ns;   /* AT_TIME */
    uint64_t next_lsn; /* AT_LSN: LSN of the record behind the position */
    uint64_t end_lsn;  /* records before it can be read without another check, from the current read
                        * position */

    /* Since the last seek: the newest record that was returned, and the record or filler at which it was last. */
    struct visit passed, visited;
    uint64_t filler_lsn; /* the first of the fillers that were passed since the last record; 0 = none */
    bool is_lost;        /* the last one stands for a record that was lost for good */
    uint32_t generation; /* of the set that these were compared with */
    /* When a look at a mapped log has found nothing; 0 once a look has found a record. */
    uint64_t empty_ns;
    bool
        was_at_end; /* the last look found nothing. If nothing is published either, the writer may have died */
    int error;      /* of a move: the next ones return it, too, until a seek */
    struct twinlog_report error_report; /* of `error` */
};

/* ---- errors ------------------------------------------------------------------------------------ */

static int report_error(struct twinlog_reader *reader, int error)
{
    twl_report_failure(&reader->report, error, "use the reader");
    if (reader->ret_report)
        *reader->ret_report = reader->report;
    return error;
}

static int report_trimmed(struct twinlog_reader *reader, uint64_t lsn)
{
    const uint64_t first_lsn = reader->snapshot.first_lsn;

    twl_report(&reader->report, TWINLOG_FOUND_TRIMMED, TWINLOG_DID_NOTHING, TWINLOG_ETRIMMED,
               "record %llu was removed; the oldest that is left is %llu", (unsigned long long)lsn,
               (unsigned long long)first_lsn);
    reader->report.first_lsn = first_lsn;
    return TWINLOG_ETRIMMED;
}

static int report_truncation(struct twinlog_reader *reader, uint64_t start_lsn)
{
    twl_report(&reader->report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, TWINLOG_ETRUNCATED,
               "records %llu to %llu, which this reader has returned, were truncated; seek to go on",
               (unsigned long long)start_lsn, (unsigned long long)reader->passed.lsn);
    reader->report.first_lsn = start_lsn;
    reader->report.last_lsn = reader->passed.lsn;
    return TWINLOG_ETRUNCATED;
}

/* The walk stopped here, maybe in front of the wanted record. `wanted_lsn` 0 = the record was sought by its time. */
static int report_damage(struct twinlog_reader *reader, uint64_t wanted_lsn)
{
    const struct slot *at = reader->pos.at;
    const struct segment_iter *iter = &at->iter;

    uint64_t lsn = twl_read_position_stop_lsn(&reader->pos);
    if (lsn == 0 || (wanted_lsn > 0 && wanted_lsn < lsn))
        lsn = wanted_lsn;
    lsn = max_u64(lsn, reader->snapshot.first_lsn);
    const bool is_in_group = iter->records_left > 0;

    const char *more = "";
    if (lsn < wanted_lsn)
        more = "; a later record cannot be reached without it";
    else if (reader->visited.lsn != 0 && !is_in_group)
        more = ", or of another history than the one beside it";
    twl_report(&reader->report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
               "record %llu is damaged or missing%s; run `twinlog verify` to see what else is",
               (unsigned long long)lsn, more);

    const uint64_t offset = is_in_group ? iter->record_offset : iter->offset;
    twl_report_place(&reader->report, at->segment.name, at->segment.header.sequence,
                     at->segment.file ? offset : 0, 0);
    reader->report.first_lsn = lsn;
    reader->report.last_lsn = max_u64(lsn, wanted_lsn);
    return TWINLOG_ECORRUPT;
}

/* Behind the newest known record there is nothing: 0. If recovery found damage, the end is not known; then
 * the next call has it looked at again. */
static int judge_end(struct twinlog_reader *reader)
{
    struct read_snapshot *snapshot = &reader->snapshot;

    if (snapshot->damage.error == 0)
        return 0;
    snapshot->is_known = false;
    reader->report = snapshot->damage;
    return snapshot->damage.error;
}

/* Counts the attempts that found something unexpected: all of them, and those in one and the same segment. */
struct doubt {
    uint64_t segment_id;
    unsigned looks, all_looks;
};

/* The record was not where it should be. The first time the bytes that were read are dropped, and later the reader's
 * picture of the log: 1, and it is to be looked for again. After too many attempts it is damaged. */
static int look_again(struct twinlog_reader *reader, uint64_t lsn, struct doubt *doubt)
{
    const uint64_t wanted_lsn = reader->where == AT_LSN ? lsn : 0;
    struct read_position *pos = &reader->pos;

    int rc = twl_iter_check(&pos->at->iter);
    if (rc < 0)
        return twl_read_snapshot_fail(&reader->snapshot, rc);

    const bool is_first = doubt->all_looks == 0;
    doubt->all_looks++;
    reader->end_lsn = 0;
    if (is_first) {
        twl_iter_refresh(&pos->at->iter);
        return 1;
    }

    if (pos->at->segment.header.segment_id != doubt->segment_id)
        doubt->looks = 0;
    doubt->segment_id = pos->at->segment.header.segment_id;
    doubt->looks++;
    if (doubt->looks > LOOKS_AGAIN || doubt->all_looks > MOVING_LOOKS)
        return report_damage(reader, wanted_lsn);

    twl_read_position_leave(pos);
    rc = twl_read_snapshot_reload(&reader->snapshot);
    if (rc < 0)
        return rc;

    /* If a record was truncated that the reader has returned, the next step tells. A filler is just forgotten. */
    const struct visit visited = reader->visited;
    if (twl_segment_set_truncation(&reader->snapshot.set, visited.lsn, visited.sequence) > 0)
        reader->visited = (struct visit){ 0 };
    return 1;
}

/* ---- between which records --------------------------------------------------------------------- */

/* The LSN of the first record of that time or later. If all known records are older, it is the one behind them. */
static int find_time(struct twinlog_reader *reader, uint64_t *ret_lsn)
{
    const int found = twl_read_position_before_time(&reader->pos, reader->time_ns);
    if (found < 0)
        return found;

    if (found == 0) {
        *ret_lsn = reader->snapshot.limit_lsn + 1;
        return judge_end(reader);
    }
    *ret_lsn = twl_iter_next_lsn(&reader->pos.at->iter);
    return 0;
}

/* After a seek the first move finds out which record is meant. */
static int resolve(struct twinlog_reader *reader)
{
    uint64_t lsn = reader->snapshot.first_lsn;
    int rc = 0;

    if (reader->where == AT_LSN)
        return 0;
    if (reader->where == AT_TIME)
        rc = find_time(reader, &lsn);
    if (rc < 0)
        return rc;

    reader->next_lsn = max_u64(lsn, reader->from_lsn);
    reader->where = AT_LSN;
    return 0;
}

/* Goes back in front of the fillers that were passed since the last record, if they were replaced: the application has
 * seen nothing of it, but there may be records in their places now. */
static void return_to_fillers(struct twinlog_reader *reader)
{
    const struct read_snapshot *snapshot = &reader->snapshot;
    if (reader->filler_lsn == 0)
        return;

    const uint64_t last_lsn = reader->next_lsn - 1;
    if (twl_segment_set_truncation(&snapshot->set, last_lsn, reader->visited.sequence) == 0)
        return;
    reader->next_lsn = max_u64(reader->filler_lsn, snapshot->first_lsn);
    reader->filler_lsn = 0;
    reader->end_lsn = 0;
}

/* Were records replaced that the reader has returned? Only a new set can say so. */
static int check_passed(struct twinlog_reader *reader)
{
    const struct read_snapshot *snapshot = &reader->snapshot;
    if (reader->generation == snapshot->generation)
        return 0;

    reader->generation = snapshot->generation;
    return_to_fillers(reader);

    const struct visit passed = reader->passed;
    const uint64_t start_lsn = twl_segment_set_truncation(&snapshot->set, passed.lsn, passed.sequence);
    if (start_lsn > 0)
        return report_truncation(reader, start_lsn);
    return 0;
}

/* May the record that is wanted be behind the newest one of the snapshot? */
static bool may_be_at_end(const struct twinlog_reader *reader)
{
    if (reader->where == AT_LSN)
        return reader->next_lsn > reader->snapshot.limit_lsn;
    return twl_read_snapshot_has_tail(&reader->snapshot); /* more records may come unannounced */
}

/* Brings the snapshot up to date and puts the position where it may be. */
static int refresh_reader(struct twinlog_reader *reader)
{
    struct read_snapshot *snapshot = &reader->snapshot;
    const bool is_old = twl_read_snapshot_is_old(snapshot);
    int rc = 0;

    if (reader->error != 0) {
        reader->report = reader->error_report;
        return reader->error;
    }

    if (reader->where == AT_TIME)
        rc = twl_read_snapshot_find_end(snapshot);
    else if (!is_old && reader->was_at_end && may_be_at_end(reader))
        rc = twl_read_snapshot_look_for_writer(snapshot);
    else if (is_old || may_be_at_end(reader))
        rc = twl_read_snapshot_look(snapshot);
    if (rc == 0)
        rc = resolve(reader);
    if (rc == 0)
        rc = check_passed(reader);
    if (rc == 0 && reader->next_lsn < snapshot->first_lsn)
        return report_trimmed(reader, reader->next_lsn);
    return rc;
}

/* ---- next -------------------------------------------------------------------------------------- */

/* Moves in front of next_lsn and sets end_lsn to where reading can go on: 1. 0 = there is nothing to read for now. */
static int approach(struct twinlog_reader *reader)
{
    struct read_position *pos = &reader->pos;
    const struct read_snapshot *snapshot = &reader->snapshot;
    int rc;

    reader->end_lsn = 0;
    do {
        rc = refresh_reader(reader);
        if (rc < 0)
            return rc;
        if (reader->next_lsn > reader->to_lsn)
            return 0;
        if (reader->next_lsn > snapshot->limit_lsn)
            return judge_end(reader);

        rc = twl_read_position_before(pos, reader->next_lsn, reader->visited);
    } while (rc > 0 && reader->generation != snapshot->generation);
    if (rc <= 0)
        return rc;

    /* Reading can go on to the end of the group, of the segment and of what may be read, whichever comes first. */
    const uint64_t last_lsn = min_u64(snapshot->limit_lsn, reader->to_lsn);
    reader->end_lsn = min_u64(twl_read_position_bound(pos), pos->at->iter.position.next_lsn);
    reader->end_lsn = min_u64(reader->end_lsn, last_lsn + 1);
    return 1;
}

/* The read position is at this record. */
static struct visit visit(const struct twinlog_reader *reader, uint64_t lsn)
{
    return (struct visit){ lsn, reader->pos.at->segment.header.sequence };
}

/* Notes a filler at next_lsn, and goes on behind it. */
static void pass_filler(struct twinlog_reader *reader, const struct record_header *filler)
{
    reader->is_lost = filler->kind == RECORD_FILLER && filler->type == FILLER_LOST;
    if (reader->filler_lsn == 0)
        reader->filler_lsn = reader->next_lsn;
    reader->visited = visit(reader, reader->next_lsn);
    reader->next_lsn++;
}

/* The next record that is no filler; the read position is then behind it: 1. 0 = none for now. */
static int find_next(struct twinlog_reader *reader, struct iter_record *ret_record)
{
    struct doubt doubt = { 0 };

    for (;;) {
        int found = 1;
        if (reader->next_lsn >= reader->end_lsn || twl_read_snapshot_is_old(&reader->snapshot))
            found = approach(reader);
        if (found > 0)
            found = twl_read_position_read(&reader->pos, ret_record);

        if (found > 0) {
            if (ret_record->header.kind == RECORD_DATA)
                return 1;
            pass_filler(reader, &ret_record->header);
            continue;
        }

        if (found == POSITION_LOST)
            found = look_again(reader, reader->next_lsn, &doubt);
        if (found <= 0)
            return found;
    }
}

/* Puts the read position in front of the last record up to `most_lsn` that is in front of the reader: 1. */
static int approach_back(struct twinlog_reader *reader, uint64_t most_lsn, uint64_t *ret_lsn)
{
    const struct read_snapshot *snapshot = &reader->snapshot;

    reader->end_lsn = 0;
    int rc = refresh_reader(reader);
    const uint64_t lsn = min_u64(reader->next_lsn - 1, most_lsn);
    if (rc == 0 && lsn > snapshot->limit_lsn)
        rc = judge_end(reader);
    if (rc < 0)
        return rc;

    *ret_lsn = min_u64(lsn, snapshot->limit_lsn);
    if (*ret_lsn < max_u64(snapshot->first_lsn, reader->from_lsn))
        return 0;
    return twl_read_position_back(&reader->pos, *ret_lsn, reader->visited);
}

/* The record in front of the position; the read position is then in front of it. A position behind the end
 * counts as the end. A position with only fillers in front of it stays where it is. */
static int find_previous(struct twinlog_reader *reader, struct iter_record *ret_record)
{
    struct doubt doubt = { 0 };
    uint64_t most_lsn = reader->to_lsn; /* in front of the fillers that were passed */
    uint64_t lsn = 0;

    for (;;) {
        int found = approach_back(reader, most_lsn, &lsn);
        if (found > 0)
            found = twl_read_position_read(&reader->pos, ret_record);

        if (found > 0) {
            twl_iter_unread(&reader->pos.at->iter, ret_record);
            if (ret_record->header.kind == RECORD_DATA)
                return 1;
            reader->visited = visit(reader, lsn);
            most_lsn = lsn - 1;
            continue;
        }

        if (found == POSITION_LOST)
            found = look_again(reader, lsn, &doubt);
        if (found <= 0)
            return found;
    }
}

/* ---- moves ------------------------------------------------------------------------------------- */

/* Errors stay until a seek. */
static int stick(struct twinlog_reader *reader, int error)
{
    reader->error = error;
    reader->end_lsn = 0;
    twl_follower_tell(reader->follower);
    report_error(reader, error);
    reader->error_report = reader->report;
    return error;
}

/* A record that was not there a moment ago: the writer does not announce each one of a mapped log. */
static void note_found(struct twinlog_reader *reader, bool is_found)
{
    struct read_snapshot *snapshot = &reader->snapshot;
    const uint64_t empty_ns = reader->empty_ns;
    const bool may_be_untold = twl_read_snapshot_has_tail(snapshot) && !page_is_own(snapshot->shared);

    reader->empty_ns = 0;
    if (!is_found && may_be_untold)
        reader->empty_ns = twl_monotonic_ns();
    if (is_found && empty_ns > 0) {
        const bool is_fresh = twl_monotonic_ns() - empty_ns < PAGE_FRESH_NS;
        twl_page_note_news(snapshot->shared, snapshot->page_sequence, is_fresh);
    }
}

/* The result of the next call of twinlog_reader_next(), which then returns the same. */
static int look_ahead(struct twinlog_reader *reader)
{
    struct iter_record record;

    const int found = find_next(reader, &record);
    if (found < 0)
        return stick(reader, found);
    note_found(reader, found > 0);
    if (found == 0)
        return 0;

    twl_iter_unread(&reader->pos.at->iter, &record);
    return 1;
}

/* Sets the descriptor to what the last call has found. */
static void arm(struct twinlog_reader *reader)
{
    const struct read_snapshot *snapshot = &reader->snapshot;

    if (!reader->follower)
        return;

    /* The writer does not announce each record of a mapped log, unless it knows that a reader sleeps. */
    const bool reads_tail = twl_read_snapshot_has_tail(snapshot);
    bool is_announced = false;
    if (reads_tail)
        is_announced = twl_page_announce_sleep(snapshot->shared, snapshot->page_sequence, false);

    const struct interest interest = {
        .lsn = reader->next_lsn > reader->to_lsn ? UINT64_MAX : reader->next_lsn,
        .page_sequence = snapshot->page_sequence,
        .epoch = snapshot->epoch,
        .ignored_epoch = snapshot->ignored_epoch,
        .is_durable = snapshot->is_durable,
        .is_untold = reads_tail && !is_announced,
    };
    twl_follower_arm(reader->follower, &interest);

    /* Records that it has not announced may have come since the last look; from here on it does. */
    const bool must_look = is_announced && reader->where == AT_LSN;
    if (must_look && look_ahead(reader) != 0)
        twl_follower_tell(reader->follower);
}

/* The reader then stands in front of `next_lsn`. */
static void give(struct twinlog_reader *reader, const struct iter_record *record, uint64_t next_lsn,
                 struct twinlog_record *ret_record)
{
    reader->next_lsn = next_lsn;
    reader->filler_lsn = 0;
    reader->visited = visit(reader, record->lsn);
    if (record->lsn > reader->passed.lsn)
        reader->passed = reader->visited;
    *ret_record = (struct twinlog_record){
        .lsn = record->lsn,
        .time_ns = record->header.time_ns,
        .tag = record->header.tag,
        .type = record->header.type,
        .data = record->payload,
        .size = record->header.size,
        .salt = reader->pos.at->iter.group.epoch.salt,
    };
}

/* The first step of each call: nothing was said of its errors yet, and the reader and the other arguments are right. */
static int begin_call(struct twinlog_reader *reader, bool are_others_right)
{
    if (!reader)
        return -EINVAL;

    reader->report.error = 0;
    if (twl_fork_guard_is_forked(&reader->guard))
        return report_error(reader, TWINLOG_EFORKED);
    if (are_others_right)
        return 0;
    return report_error(reader, -EINVAL);
}

int twinlog_reader_next(struct twinlog_reader *reader, struct twinlog_record *ret_record)
{
    struct iter_record record;

    int rc = begin_call(reader, ret_record != NULL);
    if (rc < 0)
        return rc;

    const int found = find_next(reader, &record);
    if (found < 0)
        return stick(reader, found);
    if (found == 0 || reader->empty_ns > 0)
        note_found(reader, found > 0);
    if (found > 0)
        give(reader, &record, record.lsn + 1, ret_record);
    else
        arm(reader);
    reader->was_at_end = found == 0;
    return found;
}

int twinlog_reader_previous(struct twinlog_reader *reader, struct twinlog_record *ret_record)
{
    struct iter_record record;

    int rc = begin_call(reader, ret_record != NULL);
    if (rc < 0)
        return rc;

    const int found = find_previous(reader, &record);
    if (found < 0)
        return stick(reader, found);
    if (found > 0) {
        give(reader, &record, record.lsn, ret_record);
        twl_follower_tell(reader->follower); /* this record can be read again */
    }
    return found;
}

static int move_to(struct twinlog_reader *reader, enum where where, uint64_t lsn)
{
    reader->where = where;
    reader->next_lsn = max_u64(lsn, reader->from_lsn);
    reader->end_lsn = 0;
    reader->filler_lsn = 0;
    reader->passed = (struct visit){ 0 };
    reader->visited = (struct visit){ 0 };
    reader->error = 0;

    if (where != AT_LSN || reader->next_lsn <= reader->snapshot.limit_lsn) /* there may be some */
        twl_follower_tell(reader->follower);
    else
        arm(reader);
    return 0;
}

int twinlog_reader_seek(struct twinlog_reader *reader, uint64_t lsn)
{
    const int rc = begin_call(reader, lsn > 0);
    if (rc < 0)
        return rc;
    return move_to(reader, AT_LSN, lsn);
}

int twinlog_reader_seek_first(struct twinlog_reader *reader)
{
    const int rc = begin_call(reader, true);
    if (rc < 0)
        return rc;
    return move_to(reader, AT_FIRST, 0);
}

int twinlog_reader_seek_time(struct twinlog_reader *reader, int64_t time_ns)
{
    const int rc = begin_call(reader, true);
    if (rc < 0)
        return rc;
    reader->time_ns = time_ns;
    return move_to(reader, AT_TIME, 0);
}

int twinlog_reader_seek_end(struct twinlog_reader *reader)
{
    int rc = begin_call(reader, true);
    if (rc < 0)
        return rc;

    rc = twl_read_snapshot_find_end(&reader->snapshot);
    if (rc == 0 && reader->to_lsn > reader->snapshot.limit_lsn)
        rc = judge_end(reader);
    if (rc < 0)
        return report_error(reader, rc);
    return move_to(reader, AT_LSN, reader->snapshot.limit_lsn + 1);
}

/* A program that reads back what was just appended will do so with the next records, too. Past the page cache the disk
 * would have to read each of them. So this counts as a wait for the publication that comes next, as a reader that
 * sleeps announces it. Only in the process of a writer that does not map: a store to the page of another one may wait
 * for a disk. */
static void tell_of_keeping_up(const struct twinlog_reader *reader, uint64_t lsn)
{
    const struct read_snapshot *snapshot = &reader->snapshot;

    if (page_is_own(snapshot->shared) && snapshot->limit_lsn - lsn < NEWEST_RECORDS)
        (void)twl_page_announce_sleep(snapshot->shared, snapshot->page_sequence, false);
}

int twl_reader_get(struct twinlog_reader *reader, uint64_t lsn, struct twinlog_record *ret_record)
{
    reader->to_lsn = lsn;
    move_to(reader, AT_LSN, lsn);
    const int found = twinlog_reader_next(reader, ret_record);
    if (found < 0)
        return found;
    if (found > 0) {
        tell_of_keeping_up(reader, lsn);
        return 0;
    }

    if (reader->next_lsn <= lsn) /* there is nothing behind it, either */
        return -ERANGE;
    if (reader->is_lost)
        return -ENODATA;
    return -ENOENT;
}

static bool is_gap(int error)
{
    return error == TWINLOG_ETRIMMED || error == TWINLOG_ETRUNCATED;
}

/* As if the records up to `lsn` had been returned. A truncation that comes after this snapshot begins a newer
 * segment. */
static void seek_after(struct twinlog_reader *reader, uint64_t lsn)
{
    const struct segment_set *set = &reader->snapshot.set;
    move_to(reader, AT_LSN, lsn + 1);
    if (set->started > 0)
        reader->passed = (struct visit){ lsn, set->entries[set->started - 1].header.sequence };
    reader->generation = reader->snapshot.generation;
}

int twl_reader_resume(struct twinlog_reader *reader, uint64_t lsn, bool is_new, uint64_t *ret_lsn)
{
    struct read_snapshot *snapshot = &reader->snapshot;

    int rc = twl_read_snapshot_find_end(snapshot);
    lsn = min_u64(lsn, snapshot->limit_lsn);

    /* The set must have the segments up to `lsn`, and maybe one that begins a truncation in front of it. */
    if (rc == 0 && !is_new)
        rc = twl_read_snapshot_reload(snapshot);
    if (rc < 0)
        return report_error(reader, rc);

    *ret_lsn = min_u64(lsn, snapshot->limit_lsn);
    seek_after(reader, *ret_lsn);
    return 0;
}

int twl_reader_pass_gap(struct twinlog_reader *reader, uint64_t *ret_lsn)
{
    /* More may have been removed since the error was found: it is looked for again. */
    reader->error = 0;
    reader->generation = 0;
    const int rc = refresh_reader(reader);
    if (rc == 0)
        return 0;

    if (is_gap(rc)) {
        *ret_lsn = reader->report.first_lsn - 1;
        seek_after(reader, *ret_lsn);
    }
    return report_error(reader, rc);
}

int twl_reader_check(struct twinlog_reader *reader)
{
    reader->end_lsn = 0;
    int rc = twl_read_snapshot_look(&reader->snapshot);
    if (rc < 0)
        return rc;

    /* Damage, or what the system refused, says nothing about the records in front of it: it is put aside for now. */
    const int error = reader->error;
    if (!is_gap(error))
        reader->error = 0;
    rc = refresh_reader(reader);
    if (is_gap(rc))
        return stick(reader, rc);

    reader->error = error;
    return rc;
}

int twinlog_reader_range(struct twinlog_reader *reader, uint64_t *ret_first_lsn, uint64_t *ret_last_lsn)
{
    int rc = begin_call(reader, ret_first_lsn && ret_last_lsn);
    if (rc < 0)
        return rc;

    reader->end_lsn = 0; /* looking for the end may change what it is based on */
    rc = twl_read_snapshot_find_end(&reader->snapshot);
    if (rc < 0)
        return report_error(reader, rc);

    *ret_first_lsn = 0;
    *ret_last_lsn = 0;
    if (reader->snapshot.limit_lsn >= reader->snapshot.first_lsn) {
        *ret_first_lsn = reader->snapshot.first_lsn;
        *ret_last_lsn = reader->snapshot.limit_lsn;
    }

    rc = judge_end(reader);
    if (rc < 0)
        return report_error(reader, rc);
    return 0;
}

/* The history of record `lsn`, or of the newest one if it is 0: 1. POSITION_LOST = it is not where it should be. */
static int find_history(struct twinlog_reader *reader, uint64_t lsn, struct twinlog_history *history)
{
    struct read_snapshot *snapshot = &reader->snapshot;
    struct epoch epoch;

    int rc = twl_read_snapshot_find_end(snapshot);
    if (rc < 0)
        return rc;

    history->lsn = lsn > 0 ? lsn : snapshot->limit_lsn;
    if (history->lsn > snapshot->limit_lsn || snapshot->limit_lsn < snapshot->first_lsn)
        return -ERANGE;
    if (history->lsn < snapshot->first_lsn)
        return report_trimmed(reader, history->lsn);

    const int found = twl_read_position_epoch(&reader->pos, history->lsn, &epoch, &history->first_lsn);
    if (found <= 0)
        return found;

    history->epoch = epoch.number;
    history->salt = epoch.salt;
    return 1;
}

int twinlog_reader_history(struct twinlog_reader *reader, uint64_t lsn, struct twinlog_history *ret_history)
{
    struct twinlog_history history = { 0 };
    struct doubt doubt = { 0 };
    int found;

    int rc = begin_call(reader, ret_history && twl_versioned_is_set(ret_history));
    if (rc < 0)
        return rc;

    reader->end_lsn = 0;
    for (;;) {
        found = find_history(reader, lsn, &history);
        if (found != POSITION_LOST)
            break;
        rc = look_again(reader, history.lsn, &doubt);
        if (rc < 0)
            return report_error(reader, rc);
    }
    if (found < 0)
        return report_error(reader, found);

    memcpy(history.log_id, reader->snapshot.set.entries[0].header.log_id, sizeof(history.log_id));
    twl_versioned_give(ret_history, &history, sizeof(history));
    return 0;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

/* How long a call may still wait, rounded up: -1 = for ever, as its timeout says. */
static int remaining_ms(int timeout_ms, uint64_t deadline_ns)
{
    if (timeout_ms < 0)
        return -1;

    const uint64_t now_ns = twl_monotonic_ns();
    if (now_ns >= deadline_ns)
        return 0;
    return (int)((deadline_ns - now_ns + 999999) / 1000000);
}

int twinlog_reader_wait(struct twinlog_reader *reader, int timeout_ms)
{
    const int rc = begin_call(reader, true);
    if (rc < 0)
        return rc;

    uint64_t deadline_ns = twl_monotonic_ns();
    if (timeout_ms > 0)
        deadline_ns += (uint64_t)timeout_ms * 1000000;

    reader->was_at_end = false; /* a sleep asks for the writer, and this look need not */
    for (;;) {
        if (look_ahead(reader) != 0)
            return 1;
        if (reader->next_lsn > reader->to_lsn)
            return report_error(reader, -EINVAL);

        const int left_ms = remaining_ms(timeout_ms, deadline_ns);
        const bool is_over = left_ms == 0 || !reader->snapshot.io->has_threads;
        if (is_over && reader->was_at_end)
            return 0;

        /* What the writer does not announce is looked for again once it knows that a reader sleeps. */
        const uint32_t seen = reader->snapshot.page_sequence;
        const bool must_look = twl_read_snapshot_has_tail(&reader->snapshot);
        bool is_announced = false;
        if (must_look || !is_over)
            is_announced = twl_page_announce_sleep(reader->snapshot.shared, seen, timeout_ms < 0);
        if (must_look && is_announced && look_ahead(reader) != 0)
            return 1;

        if (!is_over)
            twl_page_sleep(reader->snapshot.shared, seen, left_ms, is_announced);
        reader->was_at_end = true;
    }
}

static int create_follower(struct twinlog_reader *reader)
{
    struct shared_page *shared = NULL; /* the follower watches a page of its own */

    if (!reader->owns_io)
        shared = reader->snapshot.shared;
    const int rc = twl_follower_create(reader->snapshot.io, shared, &reader->follower);
    if (rc < 0)
        return report_error(reader, rc);

    if (look_ahead(reader) == 0)
        arm(reader);
    else
        twl_follower_tell(reader->follower);
    return 0;
}

int twinlog_reader_fd(struct twinlog_reader *reader)
{
    int rc = begin_call(reader, true);
    if (rc == 0 && !reader->follower)
        rc = create_follower(reader);
    if (rc < 0)
        return rc;
    return twl_follower_fd(reader->follower);
}

/* ---- open and close ---------------------------------------------------------------------------- */

static struct twinlog_reader *create_reader(const struct twinlog_reader_options *options)
{
    struct twinlog_reader *reader = calloc(1, sizeof(*reader));
    if (!reader || twl_fork_guard_init(&reader->guard) < 0) {
        free(reader);
        return NULL;
    }

    reader->ret_report = options->ret_report;
    reader->from_lsn = max_u64(options->from_lsn, 1);
    reader->to_lsn = UINT64_MAX;
    if (options->to_lsn > 0)
        reader->to_lsn = options->to_lsn;
    twl_read_position_begin(&reader->pos, &reader->snapshot, options->flags & TWINLOG_READER_MMAP);

    if (options->from_lsn > 0)
        move_to(reader, AT_LSN, options->from_lsn);
    else
        move_to(reader, AT_FIRST, 0);
    return reader;
}

int twl_reader_open(struct io *io, const struct twinlog_reader_options *options,
                    struct twinlog_reader **ret_reader)
{
    struct twinlog_reader *reader = create_reader(options);
    int rc = -ENOMEM;

    if (!reader)
        goto destroy_io;

    rc = twl_read_snapshot_open(&reader->snapshot, io, options->flags, &reader->report);
    if (rc < 0) {
        report_error(reader, rc);
        goto free_reader;
    }

    reader->owns_io = true;
    *ret_reader = reader;
    return 0;

free_reader:
    free(reader);
destroy_io:
    io->ops->destroy(io);
    return rc;
}

int twl_reader_attach(const struct reader_source *source, const struct twinlog_reader_options *options,
                      struct twinlog_reader **ret_reader)
{
    struct twinlog_reader *reader = create_reader(options);
    if (!reader)
        return -ENOMEM;
    twl_read_snapshot_attach(&reader->snapshot, source, options->flags, &reader->report);
    *ret_reader = reader;
    return 0;
}

void twl_reader_is_counted(struct twinlog_reader *reader, _Atomic uint32_t *readers)
{
    reader->readers = readers;
}

void twinlog_reader_close(struct twinlog_reader *reader)
{
    if (begin_call(reader, true) < 0)
        return;

    NOT_CANCELLED;
    _Atomic uint32_t *readers = reader->readers;
    struct io *io = reader->snapshot.io;
    const bool owns_io = reader->owns_io;

    twl_follower_destroy(reader->follower);
    twl_read_position_free(&reader->pos);
    twl_read_snapshot_close(&reader->snapshot);
    free(reader);

    if (owns_io)
        io->ops->destroy(io);
    if (readers)
        atomic_fetch_sub(readers, 1);
}
