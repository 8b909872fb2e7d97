/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See read_snapshot.h.
 *
 * A page counts if its epoch is not 0 and not the one that a dead writer had left in it when this reader
 * came. A writer that stores another epoch has the lock and has recovered. While a page does not count, the
 * log is what recovery finds in it, because a writer that opens the log keeps exactly that. A new writer
 * changes the sequence before it changes anything else. So if the sequence is the same before and after a
 * look at the files, no writer has written meanwhile.
 *
 * Order: the writer stores a new epoch before any LSN of it. So the reader loads the epoch, then the set,
 * then the watermark, then the epoch again. If it is the same, the watermark is of this epoch, and every
 * record up to it is in a segment of the set or in one that was started later.
 *
 * Beside a writer that writes through a mapping the watermark is not all. A walk of the reader goes on from
 * where it was to the first incomplete record, and into the next segment when its own has ended. The epoch in
 * the page changes with each segment, so the set is usually loaded in time. If the segment was not started
 * yet at that time, the set is loaded again.
 */
#define _GNU_SOURCE
#include "read/read_snapshot.h"

#include "recover/recover.h"

#include <errno.h>

#define SET_TRIES 20u

int twl_read_snapshot_fail(const struct read_snapshot *h, int error)
{
    twl_report(h->report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, error, "cannot read the log: %s",
               twinlog_strerror(error));
    return error;
}

/* ---- the set ----------------------------------------------------------------------------------- */

static bool is_attached(const struct read_snapshot *h)
{
    return h->source.set != NULL;
}

static void find_newest_truncation(struct read_snapshot *h)
{
    h->truncation_epoch = 0;
    for (size_t i = h->set.started; i-- > 0 && h->truncation_epoch == 0;) {
        const struct segment_header *header = &h->set.entries[i].header;
        if (segment_is_truncation(header)) {
            h->truncation_epoch = header->epoch;
            h->truncation_lsn = header->start_lsn;
        }
    }
}

/* Beside a writer that begins, recycles and removes segments while the directory is read, a sound log may
 * look damaged, but not again and again. The writer may also have come or gone, or both, meanwhile; that
 * changes the sequence. */
static int open_set(struct read_snapshot *h, struct segment_set *ret_set)
{
    for (unsigned tries = 1;; tries++) {
        uint32_t page_sequence = twl_page_sequence(h->shared);
        bool had_writer = twl_page_is_written(h->shared);
        int rc = twl_segment_set_open(h->io, SET_FOR_READING, NULL, ret_set, h->report);
        bool may_be_moving = rc == TWINLOG_ECORRUPT || rc == TWINLOG_EFOREIGN || rc == -ENOENT;
        bool is_alone =
            !had_writer && !twl_page_is_written(h->shared) && twl_page_sequence(h->shared) == page_sequence;
        if (!may_be_moving || is_alone || tries == SET_TRIES)
            return rc;
        h->io->ops->sleep_ms(h->io, 1);
    }
}

/* A directory without segments may be one where a log is being made. It is not, if it had one before. */
static int check_not_empty(const struct read_snapshot *h, const struct segment_set *set)
{
    if (set->started > 0 || h->set.started == 0)
        return 0;
    const struct segment_entry *last = &h->set.entries[h->set.started - 1];
    twl_report(h->report, TWINLOG_FOUND_MISSING_SEGMENT, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "all segments are missing, %s was the newest one; restore them from a copy", last->name);
    twl_report_place(h->report, last->name, last->header.sequence, 0, 0);
    return TWINLOG_ECORRUPT;
}

static int load_set(struct read_snapshot *h)
{
    struct segment_set set;
    int rc;
    if (!is_attached(h))
        rc = open_set(h, &set);
    else if ((rc = h->source.set(h->source.context, &set)) < 0)
        twl_read_snapshot_fail(h, rc);
    if (rc < 0)
        return rc;
    rc = check_not_empty(h, &set);
    if (rc < 0) {
        twl_segment_set_free(&set);
        return rc;
    }
    twl_segment_set_free(&h->set);
    h->set = set;
    if (h->shared)
        h->set.note = twl_page_get_note(h->shared);
    h->first_lsn = set.first_lsn;
    h->is_known = false;
    h->generation += h->generation == UINT32_MAX ? 2 : 1;
    find_newest_truncation(h);
    return 0;
}

/* ---- without a page ---------------------------------------------------------------------------- */

/* Segments that are started behind the end of the log are dead. */
static void drop_dead(struct segment_set *set, size_t index)
{
    if (index + 1 == set->started)
        return;
    set->started = index + 1;
    set->spares = set->retired = 0;
}

/* Recovery's view of the log, without changing it. Damage is no error here: a reader gets everything in
 * front of it. Damage is believed when two looks have found the same, because a writer that is not seen
 * may have written during the first one. A file that is gone, or has another incarnation, since the set
 * was loaded is also a reason to look again. */
static int look_at_end(struct read_snapshot *h, bool must_sync, struct recovery *ret_recovery)
{
    uint64_t damaged_lsn = 0; /* as the previous look found it */
    for (unsigned tries = 1;; tries++) {
        int rc = load_set(h);
        if (rc < 0)
            return rc;
        rc = twl_recover(h->io, &h->set, !must_sync, NULL, ret_recovery);
        bool is_damaged = rc < 0 && ret_recovery->report.finding == TWINLOG_FOUND_DAMAGE;
        if (is_damaged && ret_recovery->report.first_lsn != damaged_lsn && tries < SET_TRIES) {
            damaged_lsn = ret_recovery->report.first_lsn;
            continue;
        }
        bool is_judged = rc == 0 || is_damaged;
        if (rc == 0 && h->set.started > 0)
            drop_dead(&h->set, ret_recovery->index);
        if (is_judged)
            rc = 0;
        if (is_judged && must_sync && h->set.started > 0)
            rc = twl_recover_sync(h->io, &h->set, min_u64(ret_recovery->open_from, ret_recovery->index),
                                  ret_recovery->index);
        if (rc == 0)
            return 0;
        if (rc == TWINLOG_EVERSION) {
            *h->report = ret_recovery->report;
            return rc;
        }
        if ((rc != -ENOENT && rc != TWINLOG_ECORRUPT) || tries == SET_TRIES)
            return twl_read_snapshot_fail(h, rc);
    }
}

/* Lost records were durable. The damage is reported when one of them is asked for. */
static void note_damage(struct read_snapshot *h, const struct recovery *found)
{
    h->damage.error = 0;
    if (found->report.error != TWINLOG_ECORRUPT)
        return;
    h->damage = found->report;
    h->damage.action = TWINLOG_DID_NOTHING;
    h->limit_lsn = max_u64(h->limit_lsn, found->report.last_lsn);
}

/* Without a writer: makes everything sound on the disk durable before it is shown. */
static int adopt_sound_records(struct read_snapshot *h)
{
    struct recovery recovery;
    h->io->reads_disk = true;
    int rc = look_at_end(h, true, &recovery);
    h->io->reads_disk = false;
    if (rc < 0)
        return rc;
    h->epoch = 0; /* of no page */
    h->passes_claims = true;
    h->limit_lsn = recovery.position.next_lsn - 1;
    note_damage(h, &recovery);
    return 0;
}

static int follow_markers(struct read_snapshot *h)
{
    struct recovery recovery;
    int rc = look_at_end(h, false, &recovery);
    bool is_open = rc == 0 && recovery.open_from <= recovery.index;
    h->passes_claims = false;
    if (rc < 0)
        return rc;
    h->limit_lsn = is_open && !h->is_durable ? recovery.position.next_lsn - 1 : recovery.marked_lsn;
    note_damage(h, &recovery);
    return 0;
}

static int find_writer(struct read_snapshot *h, bool *ret_has_writer)
{
    int rc = twl_page_has_writer(h->shared, ret_has_writer);
    return rc < 0 ? twl_read_snapshot_fail(h, rc) : 0;
}

static int look_without_page(struct read_snapshot *h)
{
    bool has_writer;
    int rc = find_writer(h, &has_writer);
    if (rc == 0 && !has_writer && h->is_known && !h->follows_markers)
        return 0;
    if (rc == 0 && !has_writer) {
        rc = adopt_sound_records(h);
        if (rc == 0) /* what was found may have been in the making */
            rc = find_writer(h, &has_writer);
    }
    if (rc == 0 && has_writer)
        rc = follow_markers(h);
    h->follows_markers = has_writer;
    h->is_known = rc == 0;
    return rc;
}

/* ---- the tail of a mapped log ------------------------------------------------------------------- */

static void leave_tail(struct read_snapshot *h)
{
    twl_cursor_let_go(&h->tail);
    twl_segment_close(&h->tail_segment);
}

/* Opens that segment and enters it: 1. 0 = it does not continue there, and nothing has changed. */
static int enter_tail(struct read_snapshot *h, size_t index, struct position position)
{
    const struct segment_entry *entry = &h->set.entries[index];
    struct segment segment;
    int rc = twl_segment_open_valid(h->io, entry->name, &segment);
    if (rc < 0)
        return rc == -ENOENT || rc == TWINLOG_ECORRUPT ? 0 : rc;
    struct cursor cursor = { 0 };
    twl_cursor_begin(&cursor, &segment, position);
    if (segment.header.segment_id == entry->header.segment_id)
        rc = twl_cursor_enter_group(&cursor);
    if (rc <= 0) {
        twl_cursor_free(&cursor);
        twl_segment_close(&segment);
        return rc;
    }
    leave_tail(h);
    twl_cursor_free(&h->tail);
    h->tail_segment = segment;
    h->tail = cursor;
    h->tail.segment = &h->tail_segment;
    h->tail_index = index;
    return 1;
}

/* The set may have changed. The walk goes on where it was, or begins at the oldest open group. */
static int find_tail(struct read_snapshot *h)
{
    const struct segment_set *set = &h->set;
    if (h->tail_generation == h->generation)
        return 0;
    h->tail_generation = h->generation;
    for (size_t i = 0; h->tail_segment.file && i < set->started; i++)
        if (set->entries[i].header.segment_id == h->tail_segment.header.segment_id &&
            h->tail.position.next_lsn <= twl_segment_set_bound(set, i)) {
            h->tail_index = i;
            return 0;
        }
    leave_tail(h);
    size_t from;
    int rc = twl_recover_find_open(h->io, set, &from);
    if (rc == -ENOENT || rc == TWINLOG_ECORRUPT)
        return 0;
    if (rc == 0 && from < set->started)
        rc = enter_tail(h, from, twl_position_before(&set->entries[from].header));
    return rc < 0 ? rc : 0;
}

/* 1 = the walk is in the next segment now. */
static int enter_next_segment(struct read_snapshot *h)
{
    bool is_last = h->tail_index + 1 >= h->set.started;
    int rc = is_last ? twl_cursor_has_ended(&h->tail) : 0;
    if (rc > 0) {
        rc = load_set(h);
        if (rc == 0)
            rc = find_tail(h);
        is_last = !h->tail_segment.file || h->tail_index + 1 >= h->set.started;
    }
    return rc < 0 || is_last ? rc : enter_tail(h, h->tail_index + 1, h->tail.position);
}

/* Goes as far as records are complete. */
static int follow_tail(struct read_snapshot *h)
{
    int rc = find_tail(h);
    if (rc == 0)
        twl_cursor_refresh(&h->tail);
    while (rc >= 0 && h->tail_segment.file) {
        while ((rc = twl_cursor_enter_group(&h->tail)) > 0)
            continue;
        if (rc == 0)
            rc = enter_next_segment(h);
        if (rc <= 0)
            break;
    }
    if (h->tail_segment.file)
        h->limit_lsn = max_u64(h->limit_lsn, h->tail.position.next_lsn - 1);
    return rc < 0 ? twl_read_snapshot_fail(h, rc) : 0;
}

/* ---- with a page ------------------------------------------------------------------------------- */

/* A truncation takes effect as soon as its segment exists; the writer publishes it a little later. */
static void heed_unpublished_truncation(struct read_snapshot *h)
{
    if (h->truncation_epoch >= h->epoch)
        h->limit_lsn = min_u64(h->limit_lsn, h->truncation_lsn - 1);
}

static int believe_page(struct read_snapshot *h, uint32_t epoch)
{
    if (epoch != h->epoch) {
        int rc = load_set(h);
        if (rc < 0)
            return rc;
        h->epoch = epoch;
        h->limit_lsn = 0;
        h->passes_claims = false;
        h->damage.error = 0; /* the writer knows where the log ends */
    }
    h->limit_lsn = max_u64(h->limit_lsn, twl_page_durable_lsn(h->shared));
    if (twl_read_snapshot_has_tail(h)) {
        int rc = follow_tail(h);
        if (rc < 0)
            return rc;
    }
    h->first_lsn = max_u64(h->set.first_lsn, twl_page_first_lsn(h->shared));
    heed_unpublished_truncation(h);
    h->is_known = twl_page_epoch(h->shared) == epoch;
    if (!h->is_known)
        h->epoch = 0;
    return 0;
}

/* The page does not count: a writer is opening the log, or died while opening it, or no writer has come
 * since the last one. If there is a writer, it will publish; until then the last snapshot is enough,
 * unless the caller asks for the end of the log. A snapshot from the page is not enough: the writer may
 * have truncated the log after publishing, and no page shows that. */
static int look_past_page(struct read_snapshot *h, uint32_t epoch, bool has_writer, bool asks_for_end)
{
    bool is_enough = h->page_sequence == h->sound_page_sequence || (has_writer && !asks_for_end);
    if (h->is_known && h->epoch == 0 && is_enough)
        return 0;
    int rc = adopt_sound_records(h);
    h->is_known = rc == 0 && twl_page_sequence(h->shared) == h->page_sequence;
    h->sound_page_sequence = h->page_sequence;
    h->ignored_epoch = epoch;
    return rc;
}

static int look_at_page(struct read_snapshot *h, bool asks_for_end)
{
    int rc;
    do {
        bool has_writer = true;
        h->page_sequence = twl_page_sequence(h->shared);
        uint32_t epoch = twl_page_epoch(h->shared);
        bool is_told = epoch != 0 && epoch != h->ignored_epoch;
        rc = !is_told || asks_for_end ? find_writer(h, &has_writer) : 0;
        if (rc == 0 && is_told && has_writer)
            rc = believe_page(h, epoch);
        else if (rc == 0)
            rc = look_past_page(h, epoch, has_writer, asks_for_end);
    } while (rc == 0 && !h->is_known);
    return rc;
}

/* There was no page, or it is no longer the writer's: the file was removed, or the writer can't share it. */
static int look_for_page(struct read_snapshot *h)
{
    bool had_page = h->shared->page != NULL;
    int rc = is_attached(h) ? 0 : twl_page_watch_again(&h->watched);
    if (rc < 0)
        return twl_read_snapshot_fail(h, rc);
    if (rc > 0 || (had_page && !h->shared->page)) {
        h->ignored_epoch = h->epoch = 0;
        h->is_known = false;
    }
    return 0;
}

static int look(struct read_snapshot *h, bool asks_for_end)
{
    int rc = look_for_page(h);
    if (rc < 0)
        return rc;
    return h->shared->page ? look_at_page(h, asks_for_end) : look_without_page(h);
}

int twl_read_snapshot_look(struct read_snapshot *h)
{
    return look(h, false);
}

int twl_read_snapshot_find_end(struct read_snapshot *h)
{
    return look(h, true);
}

int twl_read_snapshot_reload(struct read_snapshot *h)
{
    int rc = load_set(h);
    return rc < 0 ? rc : twl_read_snapshot_look(h);
}

/* ---- create and destroy ------------------------------------------------------------------------ */

/* The page was mapped before this asks whether there is a writer. So a writer that comes later stores
 * another epoch. */
static int look_first(struct read_snapshot *h, uint32_t left_epoch)
{
    bool has_writer;
    int rc = find_writer(h, &has_writer);
    if (rc < 0)
        return rc;
    if (!has_writer)
        h->ignored_epoch = left_epoch;
    return twl_read_snapshot_look(h);
}

int twl_read_snapshot_open(struct read_snapshot *h, struct io *io, bool is_durable,
                           struct twinlog_report *report)
{
    *h =
        (struct read_snapshot){ .io = io, .shared = &h->watched, .report = report, .is_durable = is_durable };
    int rc = twl_page_watch(io, &h->watched);
    if (rc < 0)
        return twl_read_snapshot_fail(h, rc);
    rc = look_first(h, twl_page_epoch(&h->watched));
    bool has_writer = true; /* a writer may be about to make the first segment */
    if (rc == 0 && h->set.started == 0)
        rc = twl_page_has_writer(&h->watched, &has_writer);
    if (rc == 0 && !has_writer) {
        rc = -ENOENT;
        twl_report(h->report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, rc,
                   "there is no log in this directory; append to it first");
    }
    if (rc < 0)
        twl_read_snapshot_close(h);
    return rc;
}

void twl_read_snapshot_attach(struct read_snapshot *h, const struct reader_source *source, bool is_durable,
                              struct twinlog_report *report)
{
    *h = (struct read_snapshot){ .io = source->io,
                                 .shared = source->shared,
                                 .source = *source,
                                 .report = report,
                                 .is_durable = is_durable };
    h->page_sequence = twl_page_sequence(h->shared) - 1; /* not looked at yet */
}

void twl_read_snapshot_close(struct read_snapshot *h)
{
    leave_tail(h);
    twl_cursor_free(&h->tail);
    twl_segment_set_free(&h->set);
    if (!is_attached(h))
        twl_page_unwatch(&h->watched);
}
