/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A visitor of the walk of verify that writes a new log, in which fillers replace what is missing. So a loss is told
 * when the next sound record is put; or at the end, if something promises that there was more.
 *
 * Where the header of a group, or of a record in it, is damaged, the bytes up to the next sound group are searched for
 * records of the missing LSNs: their checksums tell LSN and epoch.
 *
 * Numbers in a damaged log are only claims. A filler takes as many bytes as the smallest record, so no genuine log has
 * a larger gap than fillers have room for. A promise of one at the end is not believed. Behind one in front of all
 * records the new log begins. Between records it ends the repair with an error.
 */
#include "check/check.h"

#include "base/bytes.h"
#include "check/walk.h"
#include "log/log.h"

#include <errno.h>
#include <string.h>

#define MAX_BUFFER_BYTES (UINT64_C(256) << 20)
#define FILLER_BYTES (UINT64_C(1) << 30)       /* limit for all fillers, unless the log itself is larger */
#define ROOM_BYTES (4 * (uint64_t)BLOCK_BYTES) /* header, footer, and what a buffer holds besides a record */

struct repairer {
    struct walk walk;
    struct twinlog_repair_result result;
    uint32_t epoch; /* that a writer had left in its page when the repair began */
    struct twinlog *log;
    uint64_t first_lsn, next_lsn; /* of the new log */
    int64_t time_ns;       /* of the record that was put last, INT64_MIN before the first; used for fillers */
    uint64_t fillers_left; /* so many more may be put */
    uint64_t last_lost_lsn; /* everything up to here was there */

    bool has_hole; /* something was missing there, and no record was put since */
    struct twinlog_report hole;
    struct epoch last_epoch; /* of the record that was put last */
    uint64_t apart_lsn;      /* damage lies in front of this record, 0 = of none, */
    bool is_break;           /* and it is nothing but that the two sides do not fit */
    struct doubt doubt;      /* of the hole that is searched */
};

/* ---- losses ------------------------------------------------------------------------------------ */

/* The records from the next one on, where the hole is that was found. */
static int tell_lost(struct repairer *r, uint64_t last_lsn, const char *what)
{
    const enum twinlog_finding finding = r->has_hole ? r->hole.finding : TWINLOG_FOUND_MISSING_SEGMENT;
    struct twinlog_report report;

    twl_walk_report_records(&report, finding, TWINLOG_DID_SKIP, r->next_lsn, last_lsn, what);
    if (r->has_hole)
        twl_report_place(&report, r->hole.file, r->hole.segment, r->hole.offset, r->hole.bytes);
    r->result.lost_records += last_lsn - r->next_lsn + 1;
    return twl_walk_call_each(&r->walk, &report);
}

static int refuse_gap(struct repairer *r, uint64_t last_lsn)
{
    const struct segment *segment = &r->walk.segment;
    struct twinlog_report report;

    twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "records %llu to %llu would be lost in front of this segment, more than have room in one log: "
               "repair once without it and those behind it, and once without those before it",
               (unsigned long long)r->next_lsn, (unsigned long long)last_lsn);
    twl_report_place(&report, segment->name, segment->header.sequence, 0, 0);
    report.first_lsn = r->next_lsn;
    report.last_lsn = last_lsn;
    const int rc = twl_walk_call_each(&r->walk, &report);
    return rc < 0 ? rc : TWINLOG_ECORRUPT;
}

static int tell_state(struct repairer *r)
{
    struct twinlog_report report;

    if (!r->walk.snapshot.set.is_state_lost)
        return 0;
    twl_report(
        &report, TWINLOG_FOUND_BAD_STATE, TWINLOG_DID_SKIP, TWINLOG_ECORRUPT,
        "the cursors and values are lost, and where the log was trimmed; records that were removed may "
        "be back");
    twl_report_place(&report, STATE_NAME, 0, 0, 0);
    return twl_walk_call_each(&r->walk, &report);
}

/* Those of the set of segments that no walk finds. */
static int tell_faults(struct repairer *r)
{
    const struct segment_set *set = &r->walk.snapshot.set;

    for (size_t i = 0; i < set->fault_count; i++) {
        struct twinlog_report report = set->faults[i].report;

        report.action = TWINLOG_DID_SKIP;
        if (!set->faults[i].may_hide_records)
            continue;
        const int rc = twl_walk_call_each(&r->walk, &report);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* Is the record known to be of the same history as the one that was put last? Only within one epoch each LSN is used
 * once, so the walk must lead from one to the other, or both must be of one epoch. */
static bool is_of_same_history(const struct repairer *r, const struct iter_record *record, struct epoch epoch)
{
    const bool is_first = r->time_ns == INT64_MIN;
    const bool is_led_to = r->apart_lsn == 0 || record->lsn < r->apart_lsn;
    const bool is_in_same_epoch = is_same_epoch(epoch, r->last_epoch) && !r->is_break;

    return is_first || is_led_to || is_in_same_epoch;
}

/* Else it may be of a copy of the log that went on by itself, or of what was truncated. */
static int tell_apart(struct repairer *r, const struct iter_record *record, struct epoch epoch)
{
    const bool is_same = is_of_same_history(r, record, epoch);
    const struct segment *segment = &r->walk.segment;
    struct twinlog_report report;

    r->last_epoch = epoch;
    if (is_same)
        return 0;
    twl_report(&report, TWINLOG_FOUND_DAMAGE, TWINLOG_DID_NOTHING, TWINLOG_ECORRUPT,
               "whether record %llu is of the same history as those before it cannot be determined",
               (unsigned long long)record->lsn);
    twl_report_place(&report, segment->name, segment->header.sequence, record->offset, 0);
    report.first_lsn = record->lsn;
    report.last_lsn = record->lsn - 1; /* none is lost */
    return twl_walk_call_each(&r->walk, &report);
}

static int tell_doubt(struct repairer *r)
{
    struct twinlog_report report;

    if (r->doubt.to == 0)
        return 0;
    twl_walk_report_doubt(&r->walk, &r->doubt, TWINLOG_DID_SKIP, &report);
    return twl_walk_call_each(&r->walk, &report);
}

/* ---- the new log ------------------------------------------------------------------------------- */

static int put(struct repairer *r, enum record_kind kind, const struct twinlog_entry *entry)
{
    uint64_t lsn;

    const int rc = twl_log_put(r->log, kind, entry, &lsn);
    if (rc == 0)
        r->next_lsn = lsn + 1;
    return rc;
}

static int fill_lost(struct repairer *r, uint64_t last_lsn)
{
    const struct twinlog_entry nothing = { .type = FILLER_LOST, .time_ns = r->time_ns };
    int rc = 0;

    if (r->next_lsn <= last_lsn)
        rc = tell_lost(r, last_lsn, "lost");
    while (rc == 0 && r->next_lsn <= last_lsn) {
        rc = put(r, RECORD_FILLER, &nothing);
        r->fillers_left--;
    }
    r->has_hole = false;
    return rc;
}

static bool has_room_up_to(const struct repairer *r, uint64_t last_lsn)
{
    return r->next_lsn > last_lsn || last_lsn - r->next_lsn < r->fillers_left;
}

static int begin_behind_lost(struct repairer *r, uint64_t lsn)
{
    int rc = tell_lost(r, lsn - 1, "lost, and the new log begins behind them");
    if (rc == 0)
        rc = twl_log_begin_at(r->log, lsn);
    r->next_lsn = r->first_lsn = lsn;
    r->has_hole = false;
    return rc;
}

static int go_on_with(struct repairer *r, uint64_t lsn)
{
    const bool is_first = r->next_lsn == r->first_lsn;

    if (has_room_up_to(r, lsn - 1))
        return fill_lost(r, lsn - 1);
    return is_first ? begin_behind_lost(r, lsn) : refuse_gap(r, lsn - 1);
}

static int end_with(struct repairer *r, uint64_t last_lsn)
{
    if (has_room_up_to(r, last_lsn))
        return fill_lost(r, last_lsn);
    return tell_lost(r, last_lsn, "lost, if they ever were there, and the new log ends before them");
}

/* Is it the filler of a claim that was told as lost already, with the hole it lies in? */
static bool was_told_lost(const struct repairer *r, const struct iter_record *record)
{
    if (record->header.kind != RECORD_FILLER || !r->has_hole || r->hole.bytes != 0)
        return false;
    return record->lsn >= r->hole.first_lsn && record->lsn <= r->hole.last_lsn;
}

static int put_of_epoch(struct repairer *r, const struct iter_record *record, struct epoch epoch)
{
    const struct record_header *header = &record->header;
    const struct twinlog_entry copy = { .data = record->payload,
                                        .size = header->size,
                                        .tag = header->tag,
                                        .type = header->type,
                                        .time_ns = header->time_ns };

    if (record->lsn < r->next_lsn || was_told_lost(r, record)) /* trimmed, or its loss was found */
        return 0;

    int rc = tell_apart(r, record, epoch);
    if (r->time_ns == INT64_MIN) /* fillers in front of the first record have its time */
        r->time_ns = header->time_ns;
    if (rc == 0)
        rc = go_on_with(r, record->lsn);
    if (rc < 0)
        return rc;

    r->time_ns = header->time_ns;
    r->result.records += header->kind == RECORD_DATA;
    return put(r, (enum record_kind)header->kind, &copy);
}

static int put_record(void *context, const struct iter_record *record)
{
    struct repairer *r = context;
    const bool is_behind = record->lsn >= max_u64(r->next_lsn, r->apart_lsn);

    const int rc = put_of_epoch(r, record, r->walk.iter.group.epoch);
    if (is_behind)
        r->apart_lsn = 0;
    return rc;
}

/* ---- bytes that no sound header leads to -------------------------------------------------------- */

/* A place that is searched, and what was found there. */
struct finding {
    uint64_t at;
    bool is_whole;    /* a record */
    bool is_doubtful; /* a crash may have discarded it */
    struct iter_record record;
    struct epoch epoch;
};

/* Is a whole record of that epoch at the place? */
static int find_record_of_epoch(struct repairer *r, const struct hole *hole, struct epoch epoch,
                                struct finding *found)
{
    struct segment_iter *iter = &r->walk.iter;
    struct record_header header;
    int error;

    const unsigned char *bytes = twl_iter_bytes(iter, found->at, RECORD_HEADER_BYTES, &error);
    if (!bytes)
        return error;
    const uint32_t seed = twl_epoch_seed(r->walk.segment.header.log_id, epoch);
    const uint64_t lsn = twl_unseed_record(bytes, seed, r->next_lsn, hole->last_lsn);
    if (lsn == 0)
        return 0;
    const enum decoded decoded = twl_record_header_judge(bytes, seed, lsn, &header);
    if (decoded == DECODED_NONE || twl_record_bytes(header.size) > hole->to - found->at)
        return 0;

    bytes = twl_iter_bytes(iter, found->at, (size_t)twl_record_bytes(header.size), &error);
    if (!bytes)
        return error;
    const unsigned char *payload = bytes + RECORD_HEADER_BYTES;
    if (!twl_record_payload_is_valid(&header, payload))
        return 0;
    if (decoded == DECODED_NEWER)
        return TWINLOG_EVERSION;
    found->is_whole = true;
    found->record =
        (struct iter_record){ .lsn = lsn, .offset = found->at, .header = header, .payload = payload };
    found->epoch = epoch;
    return 0;
}

/* A record of the epoch in front of the hole, or of the one behind it. */
static int find_record(struct repairer *r, const struct hole *hole, uint64_t at, struct finding *ret_found)
{
    int error;

    *ret_found = (struct finding){ .at = at };
    const unsigned char *bytes = twl_iter_bytes(&r->walk.iter, at, RECORD_HEADER_BYTES, &error);
    if (!bytes || load_le64(bytes) == 0)
        return error;

    int rc = find_record_of_epoch(r, hole, hole->epochs[0], ret_found);
    ret_found->is_doubtful = ret_found->is_whole && ret_found->record.lsn > hole->sure_lsn;
    if (rc == 0 && !ret_found->is_whole)
        rc = find_record_of_epoch(r, hole, hole->epochs[1], ret_found);
    return rc;
}

static void add_doubt(struct repairer *r, const struct iter_record *record)
{
    struct doubt *doubt = &r->doubt;
    const uint64_t end = record->offset + twl_record_bytes(record->header.size);

    if (doubt->to == 0)
        *doubt = (struct doubt){ record->lsn, record->lsn, record->offset, end };
    doubt->first_lsn = min_u64(doubt->first_lsn, record->lsn);
    doubt->last_lsn = max_u64(doubt->last_lsn, record->lsn);
    doubt->from = min_u64(doubt->from, record->offset);
    doubt->to = max_u64(doubt->to, end);
}

/* The part of the hole that is searched: no further than fillers reach, because a checksum of 32 bits fits one in 2^32
 * LSNs by chance, whatever its bytes are. */
static struct hole narrow_hole(const struct repairer *r, const struct hole *hole)
{
    const uint64_t most_lsn = r->next_lsn + r->fillers_left;
    const struct segment *segment = &r->walk.segment;
    struct hole narrow = *hole;

    narrow.to = min_u64(hole->to, min_u64(segment->header.bytes, segment->file_bytes));
    narrow.last_lsn = min_u64(hole->last_lsn, most_lsn);
    if (hole->may_have_more && narrow.to > narrow.from) {
        const uint64_t most_records = (narrow.to - narrow.from) / RECORD_HEADER_BYTES;
        narrow.last_lsn = min_u64(narrow.last_lsn + most_records, most_lsn);
    }
    return narrow;
}

static int rescue(struct repairer *r, const struct hole *hole)
{
    const struct hole narrow = narrow_hole(r, hole);
    uint64_t at = align_up(narrow.from, 8);

    while (at + RECORD_HEADER_BYTES <= narrow.to && r->next_lsn <= narrow.last_lsn) {
        struct finding found;

        int rc = find_record(r, &narrow, at, &found);
        if (rc == 0 && found.is_doubtful)
            add_doubt(r, &found.record);
        else if (rc == 0 && found.is_whole)
            rc = put_of_epoch(r, &found.record, found.epoch);
        if (rc < 0)
            return rc;
        at += found.is_whole ? twl_record_bytes(found.record.header.size) : 8;
    }
    return 0;
}

/* What is lost of it is told when the next record is put. */
static int take_hole(void *context, const struct twinlog_report *report, const struct hole *hole)
{
    struct repairer *r = context;

    if (!hole)
        return 0;
    if (!r->has_hole)
        r->hole = *report;
    r->has_hole = true;
    r->apart_lsn = hole->first_lsn;
    r->is_break = hole->last_lsn < hole->first_lsn;
    r->last_lost_lsn = max_u64(r->last_lost_lsn, hole->last_lsn);
    r->doubt = hole->doubt;

    if (hole->last_lsn >= r->next_lsn) {
        const int rc = rescue(r, hole);
        if (rc < 0)
            return rc;
    }
    return tell_doubt(r);
}

/* ---- cursors and values ------------------------------------------------------------------------ */

static int put_entry(struct repairer *r, const struct state_entry *entry)
{
    char name[TWINLOG_NAME_BYTES];

    memcpy(name, entry->name, entry->name_bytes);
    name[entry->name_bytes] = '\0';
    if (entry->kind >= STATE_KEPT || twl_state_name_is_reserved(name))
        return 0; /* a newer version's: nothing says that it is still true of the new log */
    if (entry->kind == STATE_CURSOR)
        return twinlog_cursor_set(r->log, name, twl_state_cursor_lsn(entry));
    const int rc = twinlog_meta_set(r->log, name, entry->value, entry->value_bytes);
    return rc == -EINVAL ? 0 : rc; /* a limit that this version does not know */
}

static int put_entries(struct repairer *r)
{
    struct state *state = &r->walk.snapshot.state;
    struct state_entry entry;
    size_t offset = 0;

    if (state->header.generation == 0)
        return 0;
    int rc = twinlog_sync(r->log);
    twl_state_clamp_cursors(state, r->first_lsn - 1, r->next_lsn - 1);
    while (rc == 0 && twl_state_entry_next(state->body, state->header.body_bytes, &offset, &entry))
        rc = put_entry(r, &entry);
    return rc;
}

/* ---- the log ----------------------------------------------------------------------------------- */

/* One that came and went since the repair began has left another epoch. */
static int check_writer(struct repairer *r)
{
    struct log_snapshot *snapshot = &r->walk.snapshot;
    const bool was_alone = !snapshot->has_writer && snapshot->epoch == r->epoch;
    int is_alone = 0;

    if (was_alone)
        is_alone = twl_log_snapshot_is_current(r->walk.io, snapshot);
    if (is_alone == 0)
        return -EBUSY;
    return is_alone < 0 ? is_alone : 0;
}

static int load_source(struct repairer *r)
{
    const int rc = twl_walk_load(&r->walk, NULL);
    if (rc < 0)
        return rc;
    r->epoch = r->walk.snapshot.epoch;
    r->first_lsn = r->next_lsn = r->walk.snapshot.set.first_lsn;
    return check_writer(r);
}

/* What the new log needs room for. */
struct source_bytes {
    uint64_t largest_segment;
    uint64_t on_path; /* of the files that are the log */
};

static struct source_bytes measure_source(const struct segment_set *set)
{
    struct source_bytes bytes = { .largest_segment = SEGMENT_MIN_BYTES };

    for (size_t i = 0; i < segment_set_files(set); i++) {
        const uint64_t file_bytes = segment_entry_bytes(&set->entries[i]);

        bytes.largest_segment = max_u64(bytes.largest_segment, align_up(file_bytes, BLOCK_BYTES));
        if (i < set->started)
            bytes.on_path += file_bytes;
    }
    return bytes;
}

/* The new log has room for the largest record that a segment of the old one can hold. */
static int create_log(struct repairer *r, struct io *to)
{
    const struct source_bytes source = measure_source(&r->walk.snapshot.set);
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;

    r->fillers_left = max_u64(FILLER_BYTES, source.on_path) / RECORD_HEADER_BYTES;
    options.flags = TWINLOG_BUFFERED;
    options.prepare = TWINLOG_PREPARE_ALLOCATED;
    options.keep_bytes = options.keep_records = options.keep_age_ms = UINT64_MAX; /* whatever limits it has */
    options.segment_bytes = min_u64(source.largest_segment + ROOM_BYTES, SEGMENT_MAX_BYTES);
    options.buffer_bytes = (uint32_t)min_u64(options.segment_bytes - 2 * BLOCK_BYTES, MAX_BUFFER_BYTES);
    options.max_record_bytes = options.buffer_bytes - 2 * BLOCK_BYTES;
    return twl_log_open(to, &options, &r->log);
}

static int fill_log(struct repairer *r)
{
    int rc = twl_log_begin_at(r->log, r->next_lsn);
    if (rc == 0)
        rc = tell_state(r);
    if (rc == 0)
        rc = tell_faults(r);
    if (rc == 0)
        rc = twl_walk_through(&r->walk);
    if (rc == 0)
        rc = end_with(r, r->last_lost_lsn);
    if (rc == 0)
        rc = put_entries(r);

    const int came = check_writer(r); /* it may have truncated or recycled what was to be read */
    return came < 0 ? came : rc;
}

static int make_log(struct repairer *r, struct io *to)
{
    int rc = create_log(r, to);
    if (rc == 0)
        rc = fill_log(r);
    const int closed = twinlog_close(r->log);
    return rc == 0 ? closed : rc;
}

int twl_repair(struct io *io, struct io *to, const struct twinlog_repair_options *options,
               struct twinlog_repair_result *ret_result)
{
    struct repairer r = { .walk = { .io = io,
                                    .visitor = { take_hole, put_record, &r },
                                    .callbacks = { options->each, options->progress, options->context, 0 },
                                    .snapshot_flags = SNAPSHOT_COLLECTS_FAULTS },
                          .result = { .size = ret_result->size },
                          .time_ns = INT64_MIN };

    int rc = load_source(&r);
    if (rc == 0)
        rc = make_log(&r, to);
    else
        to->ops->destroy(to);

    if (rc == 0 && r.next_lsn > r.first_lsn) {
        r.result.first_lsn = r.first_lsn;
        r.result.last_lsn = r.next_lsn - 1;
    }
    if (rc == 0)
        *ret_result = r.result;
    twl_walk_free(&r.walk);
    io->ops->destroy(io);
    return r.walk.callbacks.verdict != 0 ? r.walk.callbacks.verdict : rc;
}
