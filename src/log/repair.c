/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves what is sound in a damaged log: a walk like that of verify, which writes a new log.
 *
 * The commit path makes the new log. The new log begins where the old one does, and every record keeps its
 * LSN and its time. Fillers replace what is missing in between. So a loss is reported when the next sound
 * record is put; or at the end, if something promises that there was more.
 *
 * Records are searched for everywhere, not only where an intact group leads to them. Where the header of a
 * group, or of a record in it, is damaged, the bytes up to the next sound group are searched for records of
 * the missing LSNs. A record's checksums tell its LSN and epoch, so only records whose own bytes are damaged
 * are lost.
 *
 * The last group of a log that was not closed may be torn; then it was never acknowledged. It is left out
 * without a report, as opening the log would leave it out.
 *
 * Numbers in a damaged log are only claims. A filler takes as many bytes as the smallest record, so lost
 * records took at least as many, and the bytes of all fillers are limited. No genuine log has a larger gap. A
 * promise that would need such a gap at the end is not believed. If the gap is in front of all records, the
 * new log begins behind it. If it is between records, the two parts can't be in one log, and the repair ends
 * with an error.
 */
#include "log/log.h"

#include "base/bytes.h"
#include "format/unseed.h"
#include "log/salvage.h"
#include "segment/recover.h"
#include "segment/shared_page.h"
#include "segment/state.h"

#include <errno.h>
#include <string.h>

#define MAX_BUFFER_BYTES (UINT64_C(256) << 20)
#define FILLER_BYTES (UINT64_C(1) << 30)       /* limit for all fillers, unless the log itself is larger */
#define SYNC_BYTES (8u << 20)                  /* so that the buffers do not fill */
#define ROOM_BYTES (4 * (uint64_t)BLOCK_BYTES) /* header, footer, and what a buffer holds besides a record */

struct repairer {
    struct io *io;
    const struct twinlog_repair_options *options;
    struct twinlog_repair_result result;
    struct shared_page shared;
    uint32_t epoch; /* epoch that a writer had left in its page when the repair began */
    bool is_blind;  /* the writer's page can't be seen */
    struct state state;
    struct salvage salvage;
    int verdict; /* result of `each` if it ended the call; the internal result is then -ECANCELED */
    struct twinlog *log;
    uint64_t next_lsn;     /* of the new log */
    int64_t time_ns;       /* of the record that was put last, INT64_MIN before the first; used for fillers */
    uint64_t fillers_left; /* so many more may be put */
    uint64_t unsynced_bytes;
    uint64_t done_bytes, total_bytes;

    /* The segment that is walked: */
    size_t index;
    struct segment segment;
    struct cursor cursor;
    uint64_t bound;       /* records of this LSN and later ones in the segment do not count */
    uint64_t stop_offset; /* where the cursor last was in front of a group */
    struct epoch stop_epoch;

    bool has_hole; /* something was missing there, and no record was put since */
    struct twinlog_report hole;
};

/* ---- losses ------------------------------------------------------------------------------------ */

static int tell(struct repairer *r, const struct twinlog_report *report)
{
    r->verdict = r->options->each ? r->options->each(r->options->context, report) : 0;
    return r->verdict != 0 ? -ECANCELED : 0;
}

static void open_hole(struct repairer *r, enum twinlog_finding finding, uint64_t offset, uint64_t bytes)
{
    if (r->has_hole)
        return;
    r->has_hole = true;
    r->hole = (struct twinlog_report){ .finding = finding };
    twl_report_place(&r->hole, r->segment.name, r->segment.header.sequence, offset, bytes);
}

/* `what` says what the repair does about it; NULL = nothing to add. */
static int tell_lost(struct repairer *r, uint64_t last_lsn, const char *what)
{
    struct twinlog_report report;
    unsigned long long first = r->next_lsn, last = last_lsn;
    enum twinlog_finding finding = r->has_hole ? r->hole.finding : TWINLOG_FOUND_MISSING_SEGMENT;
    const char *comma = what ? ", " : "";
    what = what ? what : "";
    if (first == last)
        twl_report(&report, finding, TWINLOG_DID_SKIP, TWINLOG_ECORRUPT, "record %llu is lost%s%s", first,
                   comma, what);
    else
        twl_report(&report, finding, TWINLOG_DID_SKIP, TWINLOG_ECORRUPT, "records %llu to %llu are lost%s%s",
                   first, last, comma, what);
    if (r->has_hole)
        twl_report_place(&report, r->hole.file, r->hole.segment, r->hole.offset, r->hole.bytes);
    report.first_lsn = first;
    report.last_lsn = last;
    r->result.lost_records += last - first + 1;
    return tell(r, &report);
}

/* Refuses a segment whose records are so far behind the last one put that no log has room for what is
 * between. */
static int refuse(struct repairer *r, uint64_t last_lsn)
{
    struct twinlog_report report;
    unsigned long long first = r->next_lsn, last = last_lsn;
    twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "records %llu to %llu would be lost in front of this segment, more than have room in one log: "
               "repair once without it, and once without those before it",
               first, last);
    twl_report_place(&report, r->segment.name, r->segment.header.sequence, 0, 0);
    report.first_lsn = first;
    report.last_lsn = last;
    int rc = tell(r, &report);
    return rc < 0 ? rc : TWINLOG_ECORRUPT;
}

static int tell_state(struct repairer *r)
{
    struct twinlog_report report;
    if (!r->salvage.is_state_lost)
        return 0;
    twl_report(
        &report, TWINLOG_FOUND_BAD_STATE, TWINLOG_DID_SKIP, TWINLOG_ECORRUPT,
        "the cursors and values are lost, and where the log was trimmed; records that were removed may "
        "be back");
    twl_report_place(&report, STATE_NAME, 0, 0, 0);
    return tell(r, &report);
}

static int tell_unknown(struct repairer *r)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < r->salvage.unknown; i++) {
        const struct piece *piece = &r->salvage.list[r->salvage.count + i];
        struct twinlog_report report;
        twl_report(&report, TWINLOG_FOUND_BAD_HEADER, TWINLOG_DID_SKIP, TWINLOG_ECORRUPT,
                   "the header of %s does not check, and no group was found in it", piece->name);
        twl_report_place(&report, piece->name, 0, 0, piece->file_bytes);
        rc = tell(r, &report);
    }
    return rc;
}

/* ---- the new log ------------------------------------------------------------------------------- */

static int put(struct repairer *r, enum record_kind kind, const struct twinlog_entry *entry)
{
    uint64_t lsn;
    int rc = twl_log_put(r->log, kind, entry, &lsn);
    if (rc < 0)
        return rc;
    r->next_lsn = lsn + 1;
    r->unsynced_bytes += twl_record_bytes(entry->size);
    if (r->unsynced_bytes < SYNC_BYTES)
        return 0;
    r->unsynced_bytes = 0;
    return twinlog_sync(r->log);
}

/* Reports everything up to that LSN that was not put as lost, and puts fillers, for which there is room. */
static int give_up(struct repairer *r, uint64_t last_lsn)
{
    const struct twinlog_entry nothing = { .time_ns = r->time_ns };
    int rc = r->next_lsn <= last_lsn ? tell_lost(r, last_lsn, NULL) : 0;
    for (; rc == 0 && r->next_lsn <= last_lsn; r->fillers_left--)
        rc = put(r, RECORD_FILLER, &nothing);
    r->has_hole = false;
    return rc;
}

static bool has_room_up_to(const struct repairer *r, uint64_t last_lsn)
{
    return r->next_lsn > last_lsn || last_lsn - r->next_lsn < r->fillers_left;
}

/* Prepares for a next record with this LSN. */
static int go_on_with(struct repairer *r, uint64_t lsn)
{
    if (has_room_up_to(r, lsn - 1))
        return give_up(r, lsn - 1);
    if (r->next_lsn != r->salvage.first_lsn)
        return refuse(r, lsn - 1);
    int rc = tell_lost(r, lsn - 1, "and the new log begins behind them");
    if (rc == 0)
        rc = twl_log_begin_at(r->log, lsn);
    r->next_lsn = r->salvage.first_lsn = lsn;
    r->has_hole = false;
    return rc;
}

/* Ends the log: there are no more records. */
static int end_with(struct repairer *r, uint64_t last_lsn)
{
    if (has_room_up_to(r, last_lsn))
        return give_up(r, last_lsn);
    return tell_lost(r, last_lsn, "if they ever were there, and the new log ends before them");
}

static int put_record(struct repairer *r, const struct cursor_record *record)
{
    const struct record_header *header = &record->header;
    const struct twinlog_entry copy = { .data = record->payload,
                                        .size = header->size,
                                        .tag = header->tag,
                                        .type = header->type,
                                        .time_ns = header->time_ns };
    if (record->lsn < r->next_lsn) /* trimmed */
        return 0;
    if (r->time_ns == INT64_MIN)
        r->time_ns = header->time_ns;
    int rc = go_on_with(r, record->lsn);
    if (rc != 0)
        return rc;
    r->time_ns = header->time_ns;
    r->result.records += header->kind == RECORD_DATA;
    return put(r, (enum record_kind)header->kind, &copy);
}

/* ---- bytes that no sound header leads to -------------------------------------------------------- */

/* A part of the segment that is searched, and what for. */
struct search {
    uint64_t from, to;
    uint64_t last_lsn;
    struct epoch epochs[2];
};

/* Is there a whole record at this place? 1 = yes. */
static int find_record(struct repairer *r, const struct search *search, uint64_t at,
                       struct cursor_record *ret_record)
{
    struct record_header header;
    int error;
    const unsigned char *bytes = twl_cursor_bytes(&r->cursor, at, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error;
    if (twl_record_header_load(bytes).kind > RECORD_FILLER || load_le64(bytes) == 0)
        return 0;
    for (unsigned i = 0; i < 2; i++) {
        uint32_t seed = twl_epoch_seed(r->segment.header.log_id, search->epochs[i]);
        uint64_t lsn = twl_unseed_record(bytes, seed, r->next_lsn, search->last_lsn);
        if (lsn == 0 || !twl_record_header_decode(bytes, seed, lsn, &header) ||
            twl_record_bytes(header.size) > search->to - at)
            continue;
        bytes = twl_cursor_bytes(&r->cursor, at, (size_t)twl_record_bytes(header.size), &error);
        if (!bytes)
            return error;
        if (!twl_record_payload_is_valid(&header, bytes + RECORD_HEADER_BYTES))
            continue;
        *ret_record = (struct cursor_record){
            .lsn = lsn, .offset = at, .header = header, .payload = bytes + RECORD_HEADER_BYTES
        };
        return 1;
    }
    return 0;
}

/* Searches no further than fillers reach: a checksum of 32 bits fits one in 2^32 LSNs by chance, whatever
 * its bytes are. */
static int rescue(struct repairer *r, const struct search *search)
{
    struct search near = *search;
    near.to = min_u64(search->to, r->segment.header.bytes);
    if (!has_room_up_to(r, search->last_lsn))
        near.last_lsn = r->next_lsn + r->fillers_left;
    uint64_t at = align_up(near.from, 8);
    struct cursor_record record = { 0 };
    while (at + RECORD_HEADER_BYTES <= near.to && r->next_lsn <= near.last_lsn) {
        int rc = find_record(r, &near, at, &record);
        if (rc > 0)
            rc = put_record(r, &record);
        if (rc < 0)
            return rc;
        at += record.offset == at ? twl_record_bytes(record.header.size) : 8;
    }
    return 0;
}

/* ---- groups ------------------------------------------------------------------------------------ */

static uint64_t record_lsn(const struct cursor *cursor)
{
    return cursor->position.next_lsn - cursor->records_left;
}

/* Takes every record of the group that the cursor has entered, up to the bound. */
static int take_records(struct repairer *r)
{
    struct cursor *cursor = &r->cursor;
    struct cursor_record record;
    uint64_t end_lsn = min_u64(cursor->position.next_lsn, r->bound);
    while (cursor->records_left > 0 && record_lsn(cursor) < r->bound) {
        uint64_t offset = cursor->record_offset;
        int rc = twl_cursor_next_record(cursor, &record);
        if (rc > 0) {
            rc = put_record(r, &record);
            if (rc != 0)
                return rc;
            continue;
        }
        if (rc != TWINLOG_ECORRUPT)
            return rc;
        open_hole(r, TWINLOG_FOUND_DAMAGE, offset, cursor->offset - offset);
        rc = twl_cursor_skip_record(cursor);
        if (rc == TWINLOG_ECORRUPT) {
            const struct search search = { .from = offset,
                                           .to = cursor->offset,
                                           .last_lsn = end_lsn - 1,
                                           .epochs = { cursor->group.epoch, cursor->group.epoch } };
            return rescue(r, &search);
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool is_newest(const struct repairer *r)
{
    return r->index + 1 == r->salvage.count;
}

/* Does the footer of the newest segment count what is missing? */
static bool is_counted(const struct repairer *r)
{
    const struct piece *newest = r->salvage.count > 0 ? &r->salvage.list[r->salvage.count - 1] : NULL;
    return newest && newest->is_sealed && r->stop_offset < newest->footer.data_end;
}

/* Everything up to this LSN was durable. */
static uint64_t find_promised_lsn(const struct repairer *r)
{
    uint64_t lsn = r->salvage.promised_lsn;
    return is_counted(r) ? max_u64(lsn, r->salvage.list[r->salvage.count - 1].footer.last_lsn) : lsn;
}

/* The cursor has entered a group of the newest segment: is it whole, or does anything later prove that it
 * was? Enters the group again. */
static int was_acknowledged(struct repairer *r, bool *ret_was)
{
    struct cursor *cursor = &r->cursor;
    struct later_groups later = { 0 };
    twl_cursor_back_out(cursor);
    struct position stop = cursor->position;
    int rc = twl_cursor_accept_group(cursor);
    if (rc < 0)
        return rc;
    *ret_was = rc > 0 || is_counted(r) || r->salvage.promised_lsn >= stop.next_lsn;
    if (rc > 0)
        twl_cursor_back_out(cursor);
    else
        rc = twl_cursor_find_later(cursor, cursor->offset, stop, &later);
    if (rc < 0)
        return rc;
    *ret_was = *ret_was || later.is_proof;
    rc = twl_cursor_enter_group(cursor);
    return rc > 0 ? 0 : rc < 0 ? rc : TWINLOG_ECORRUPT;
}

/* The walk stopped: enters the next sound group, and saves what lies in between. 0 = there is none. */
static int pass_damage(struct repairer *r)
{
    struct cursor *cursor = &r->cursor;
    struct later_groups later;
    int rc = twl_piece_enter_later(cursor, &later);
    if (rc <= 0)
        return rc;
    if ((is_newest(r) && !later.is_proof) || cursor->group.first_lsn >= r->bound)
        return 0;
    open_hole(r, TWINLOG_FOUND_DAMAGE, r->stop_offset, later.offset - r->stop_offset);
    const struct search search = { .from = r->stop_offset,
                                   .to = later.offset,
                                   .last_lsn = cursor->group.first_lsn - 1,
                                   .epochs = { r->stop_epoch, cursor->group.epoch } };
    rc = rescue(r, &search);
    return rc < 0 ? rc : 1;
}

static void show_progress(const struct repairer *r)
{
    if (r->options->progress)
        r->options->progress(r->options->context, r->done_bytes + r->stop_offset, r->total_bytes);
}

/* Takes one group: 1. 0 = the segment, or the log, ends here. */
static int take_group(struct repairer *r)
{
    struct cursor *cursor = &r->cursor;
    bool was = true;
    r->stop_offset = max_u64(cursor->offset, SEGMENT_DATA_OFFSET);
    r->stop_epoch = cursor->position.epoch;
    if (cursor->position.next_lsn >= r->bound)
        return 0;
    int rc = twl_cursor_enter_group(cursor);
    if (rc == 0)
        rc = pass_damage(r);
    if (rc <= 0 || cursor->group.first_lsn >= r->bound)
        return rc < 0 ? rc : 0;
    if (is_newest(r))
        rc = was_acknowledged(r, &was);
    if (rc < 0 || !was)
        return rc < 0 ? rc : 0;
    rc = take_records(r);
    return rc < 0 ? rc : 1;
}

/* ---- segments ---------------------------------------------------------------------------------- */

/* First LSN of a started segment. */
static uint64_t first_lsn_of(const struct piece *piece)
{
    return piece->header.start_lsn > 0 ? piece->header.start_lsn : piece->first.first_lsn;
}

/* Searches behind the last group that led to another one, up to where the next segment begins, or to what
 * is promised. */
static int take_tail(struct repairer *r)
{
    const struct piece *piece = &r->salvage.list[r->index];
    const struct piece *next = is_newest(r) ? NULL : piece + 1;
    struct search search = { .from = r->stop_offset,
                             .to = r->segment.data_end,
                             .last_lsn = next ? first_lsn_of(next) - 1 : find_promised_lsn(r),
                             .epochs = { r->stop_epoch, next ? next->first.epoch : r->stop_epoch } };
    if (r->next_lsn > search.last_lsn)
        return 0;
    bool is_joined =
        !next || next->header.start_lsn > 0 || next->header.sequence == piece->header.sequence + 1;
    open_hole(r, is_joined ? TWINLOG_FOUND_DAMAGE : TWINLOG_FOUND_MISSING_SEGMENT, search.from,
              is_joined ? search.to - search.from : 0);
    return rescue(r, &search);
}

static int take_segment(struct repairer *r)
{
    const struct piece *piece = &r->salvage.list[r->index];
    int rc = twl_piece_open(r->io, piece, &r->segment);
    if (rc < 0)
        return rc;
    r->bound = is_newest(r) || piece[1].header.start_lsn == 0 ? UINT64_MAX : piece[1].header.start_lsn;
    /* Every group in the segment belongs to the log; the chain from the preceding segment may be damaged. */
    twl_cursor_begin(&r->cursor, &r->segment, (struct position){ 0 });
    twl_cursor_pass_claims(&r->cursor, false);
    while ((rc = take_group(r)) > 0)
        show_progress(r);
    if (rc == 0)
        rc = take_tail(r);
    r->done_bytes += piece->header.bytes;
    twl_segment_close(&r->segment);
    return rc;
}

static int take_segments(struct repairer *r)
{
    int rc = 0;
    uint64_t there = 0;
    for (size_t i = 0; i < r->salvage.count; i++) {
        r->total_bytes += r->salvage.list[i].header.bytes;
        there += twl_piece_bytes(&r->salvage.list[i]);
    }
    r->fillers_left = max_u64(FILLER_BYTES, there) / RECORD_HEADER_BYTES;
    for (r->index = 0; rc == 0 && r->index < r->salvage.count; r->index++)
        rc = take_segment(r);
    return rc == 0 ? end_with(r, find_promised_lsn(r)) : rc;
}

/* ---- cursors and values ------------------------------------------------------------------------ */

static int put_entry(struct repairer *r, const struct state_entry *entry)
{
    char name[TWINLOG_NAME_BYTES];
    memcpy(name, entry->name, entry->name_bytes);
    name[entry->name_bytes] = '\0';
    if (entry->kind == STATE_CURSOR)
        return twinlog_cursor_set(r->log, name, twl_state_cursor_lsn(entry));
    return twinlog_meta_set(r->log, name, entry->value, entry->value_bytes);
}

static int put_entries(struct repairer *r)
{
    struct state_entry entry;
    size_t offset = 0;
    if (r->salvage.is_state_lost)
        return 0;
    int rc = twinlog_sync(r->log);
    twl_state_clamp_cursors(&r->state, r->salvage.first_lsn - 1, r->next_lsn - 1);
    while (rc == 0 && twl_state_entry_next(r->state.body, r->state.header.body_bytes, &offset, &entry))
        rc = put_entry(r, &entry);
    return rc;
}

/* ---- the log ----------------------------------------------------------------------------------- */

/* A writer that came and went since the repair began has left another epoch. */
static int check_writer(struct repairer *r)
{
    bool has_writer;
    int rc = twl_page_watch_again(&r->shared);
    if (rc >= 0)
        rc = twl_page_has_writer(&r->shared, &has_writer);
    if (rc < 0)
        return rc;
    bool has_come = !r->is_blind && twl_page_epoch(&r->shared) != r->epoch;
    return has_writer || has_come ? -EBUSY : 0;
}

static int load(struct repairer *r)
{
    struct twinlog_report report;
    int rc = twl_page_watch(r->io, &r->shared);
    if (rc < 0)
        return rc;
    r->is_blind = r->shared.file && !r->shared.page;
    r->epoch = twl_page_epoch(&r->shared);
    rc = check_writer(r);
    if (rc < 0)
        return rc;
    r->io->reads_disk = true;
    rc = twl_state_read(r->io, &r->state, &report);
    if (rc < 0 && rc != -ENOENT && rc != TWINLOG_ECORRUPT)
        return rc;
    return twl_salvage_load(r->io, rc == 0 ? &r->state : NULL, rc == TWINLOG_ECORRUPT, &r->salvage);
}

/* The new log has room for the largest record that a segment of the old one can hold. */
static int create(struct repairer *r, struct io *to)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.flags = TWINLOG_BUFFERED;
    options.prepare = TWINLOG_PREPARE_ALLOCATED;
    options.segment_bytes =
        min_u64(max_u64(r->salvage.max_bytes, SEGMENT_MIN_BYTES) + ROOM_BYTES, SEGMENT_MAX_BYTES);
    options.buffer_bytes = (uint32_t)min_u64(options.segment_bytes - 2 * BLOCK_BYTES, MAX_BUFFER_BYTES);
    options.max_record_bytes = options.buffer_bytes - 2 * BLOCK_BYTES;
    return twl_log_open(to, &options, &r->log);
}

static int fill(struct repairer *r)
{
    r->next_lsn = r->salvage.first_lsn;
    int rc = twl_log_begin_at(r->log, r->next_lsn);
    if (rc == 0)
        rc = tell_state(r);
    if (rc == 0)
        rc = tell_unknown(r);
    if (rc == 0)
        rc = take_segments(r);
    if (rc == 0)
        rc = put_entries(r);
    int came = check_writer(r); /* it may have truncated or recycled what was to be read */
    return came < 0 ? came : rc;
}

static void describe(struct repairer *r)
{
    if (r->next_lsn == r->salvage.first_lsn)
        return;
    r->result.first_lsn = r->salvage.first_lsn;
    r->result.last_lsn = r->next_lsn - 1;
}

int twl_repair(struct io *io, struct io *to, const struct twinlog_repair_options *options,
               struct twinlog_repair_result *ret_result)
{
    struct repairer r = {
        .io = io, .options = options, .result = { .size = ret_result->size }, .time_ns = INT64_MIN
    };
    int rc = load(&r);
    if (rc < 0) {
        to->ops->destroy(to);
    } else {
        rc = create(&r, to);
        if (rc == 0)
            rc = fill(&r);
        int closed = twinlog_close(r.log);
        rc = rc == 0 ? closed : rc;
    }
    if (rc == 0) {
        describe(&r);
        *ret_result = r.result;
    }
    twl_cursor_free(&r.cursor);
    twl_salvage_free(&r.salvage);
    twl_state_free(&r.state);
    twl_page_unwatch(&r.shared);
    io->ops->destroy(io);
    return r.verdict != 0 ? r.verdict : rc;
}
