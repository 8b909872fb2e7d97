/* SPDX-License-Identifier: Apache-2.0 */
/*
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
 * Beside a writer that writes through a mapping the watermark is not all: a walk goes to the first incomplete record.
 * The set is loaded again when the group of its last segment has ended.
 */
#define _GNU_SOURCE
#include "read/read_snapshot.h"

#include "recover/recover.h"

#include <errno.h>

#define SET_TRIES 20u
#define MOVING_TRIES 100u /* while each look finds damage at another place */

int twl_read_snapshot_fail(const struct read_snapshot *snapshot, int error)
{
    const bool is_newer = error == TWINLOG_EVERSION;

    if (is_newer && snapshot->report->error == error) /* it was told where */
        return error;
    twl_report(snapshot->report, is_newer ? TWINLOG_FOUND_NEWER_FORMAT : TWINLOG_FOUND_SYSTEM_ERROR,
               TWINLOG_DID_NOTHING, error, "cannot read the log: %s", twinlog_strerror(error));
    return error;
}

/* ---- the set ----------------------------------------------------------------------------------- */

static bool is_attached(const struct read_snapshot *snapshot)
{
    return snapshot->source.set != NULL;
}

/* Is there a writer, or may there be one because that cannot be found out? */
static bool may_have_writer(const struct read_snapshot *snapshot)
{
    bool has_writer;

    return twl_page_has_writer(snapshot->shared, &has_writer) < 0 || has_writer;
}

/* Beside a writer that begins, recycles and removes segments while the directory is read, a sound log may look damaged,
 * but not again and again. The writer may also have come or gone, or both, meanwhile; that changes the sequence. */
static int open_set(struct read_snapshot *snapshot, struct segment_set *ret_set)
{
    for (unsigned tries = 1;; tries++) {
        const uint32_t page_sequence = twl_page_sequence(snapshot->shared);
        const bool had_writer = may_have_writer(snapshot);

        const int rc = twl_segment_set_open(snapshot->io, SET_FOR_READING, NULL, ret_set, snapshot->report);
        if (!twl_set_may_be_moving(rc) || tries == SET_TRIES)
            return rc;

        const bool has_changed = twl_page_sequence(snapshot->shared) != page_sequence;
        if (!had_writer && !has_changed && !may_have_writer(snapshot))
            return rc;
        snapshot->io->ops->sleep_ms(snapshot->io, 1);
    }
}

/* There were segments, and none is left. */
static int refuse_empty_set(struct read_snapshot *snapshot)
{
    const struct segment_entry *last = &snapshot->set.entries[snapshot->set.started - 1];

    twl_report(snapshot->report, TWINLOG_FOUND_MISSING_SEGMENT, TWINLOG_DID_REFUSE, TWINLOG_ECORRUPT,
               "all segments are missing, %s was the newest one; restore them from a copy", last->name);
    twl_report_place(snapshot->report, last->name, last->header.sequence, 0, 0);
    return TWINLOG_ECORRUPT;
}

static int load_set(struct read_snapshot *snapshot)
{
    struct segment_set set;
    int rc;

    snapshot->is_known = false; /* also if this fails: there was a reason to load it */
    if (is_attached(snapshot)) {
        rc = snapshot->source.set(snapshot->source.context, &set);
        if (rc < 0)
            twl_read_snapshot_fail(snapshot, rc);
    } else {
        rc = open_set(snapshot, &set);
    }
    if (rc < 0)
        return rc;

    /* A directory without segments may be one where a log is being made. It is not, if it had one before. */
    const bool is_empty = set.started == 0;
    const bool was_empty = snapshot->set.started == 0;
    if (is_empty && !was_empty) {
        twl_segment_set_free(&set);
        return refuse_empty_set(snapshot);
    }

    twl_segment_set_free(&snapshot->set);
    snapshot->set = set;
    snapshot->from_disk = SIZE_MAX;
    snapshot->set.note = twl_page_get_note(snapshot->shared);
    snapshot->first_lsn = set.first_lsn;

    snapshot->generation++;
    if (snapshot->generation == 0) /* which stands for none */
        snapshot->generation++;
    return 0;
}

/* Is the error that of a file that is gone, or has another incarnation, since the set was loaded? */
static bool is_gone(int error)
{
    return error == -ENOENT || error == TWINLOG_ECORRUPT;
}

/* ---- without a page ---------------------------------------------------------------------------- */

/* Started segments behind the end of the log are dead. */
static void forget_behind(struct segment_set *set, size_t index)
{
    if (index + 1 >= set->started)
        return;

    set->started = index + 1;
    set->spares = 0;
    set->retired = 0;
}

/* Looks for the end in the set that was loaded, as recovery does, without changing the log. Damage is no error here: a
 * reader gets everything in front of it. *ret_damaged_lsn is its first LSN; 0 = none is known. */
static int recover_set(struct read_snapshot *snapshot, bool has_writer, struct recovery *ret_recovery,
                       uint64_t *ret_damaged_lsn)
{
    const struct twinlog_report *report = &ret_recovery->report;

    *ret_damaged_lsn = 0;
    const int rc = twl_recover(snapshot->io, &snapshot->set, has_writer, NULL, ret_recovery);
    if (rc == 0)
        forget_behind(&snapshot->set, ret_recovery->index);

    const bool is_damaged = rc < 0 && report->finding == TWINLOG_FOUND_DAMAGE;
    if (is_damaged) {
        *ret_damaged_lsn = report->first_lsn;
        return 0;
    }
    return rc;
}

/* Makes durable what recovery has found, from the oldest open group to the end. */
static int sync_found(struct read_snapshot *snapshot, const struct recovery *found)
{
    if (snapshot->set.started == 0)
        return 0;

    const size_t first = (size_t)min_u64(found->open_from, found->index);
    return twl_recover_sync(snapshot->io, &snapshot->set, first, found->index);
}

/* Finds the end of the log in the files, again where they changed meanwhile. */
static int look_at_end(struct read_snapshot *snapshot, bool must_sync, struct recovery *ret_recovery)
{
    uint64_t damaged_lsn = 0; /* as the previous look found it */

    for (unsigned tries = 1;; tries++) {
        uint64_t found_lsn;

        int rc = load_set(snapshot);
        if (rc < 0)
            return rc;

        /* Damage counts when two looks have found the same: a writer that is not seen may have written during the
         * first one. */
        rc = recover_set(snapshot, !must_sync, ret_recovery, &found_lsn);
        const bool is_new_damage = found_lsn != 0 && found_lsn != damaged_lsn;
        if (is_new_damage) {
            if (tries == MOVING_TRIES)
                return twl_read_snapshot_fail(snapshot, -EBUSY);
            damaged_lsn = found_lsn;
            continue;
        }

        if (rc == 0 && must_sync)
            rc = sync_found(snapshot, ret_recovery);
        if (rc == 0)
            return 0;

        if (rc == TWINLOG_EVERSION) {
            *snapshot->report = ret_recovery->report;
            return rc;
        }

        if (!is_gone(rc) || tries >= SET_TRIES)
            return twl_read_snapshot_fail(snapshot, rc);
    }
}

/* Without a writer that counts, makes everything sound on the disk durable before it is shown. Beside one that shares
 * no page, the markers tell what is durable. */
static int look_in_files(struct read_snapshot *snapshot, bool has_writer)
{
    struct recovery found;

    snapshot->io->reads_disk = !has_writer;
    const int rc = look_at_end(snapshot, !has_writer, &found);
    snapshot->io->reads_disk = false;
    if (rc < 0)
        return rc;

    const bool is_open = found.open_from <= found.index;
    const bool is_all_shown = !has_writer || (is_open && !snapshot->is_durable);
    snapshot->limit_lsn = found.marked_lsn;
    if (is_all_shown)
        snapshot->limit_lsn = found.position.next_lsn - 1;

    snapshot->epoch = 0; /* of no page */
    snapshot->follows_markers = has_writer;
    snapshot->passes_claims = !has_writer;
    if (!has_writer)
        snapshot->from_disk = found.open_from;

    /* Lost records are an error when they are asked for. */
    snapshot->damage.error = 0;
    if (found.report.error == TWINLOG_ECORRUPT) {
        snapshot->damage = found.report;
        snapshot->damage.action = TWINLOG_DID_NOTHING;
        snapshot->limit_lsn = max_u64(snapshot->limit_lsn, found.report.last_lsn);
    }

    return 0;
}

static int find_writer(struct read_snapshot *snapshot, bool *ret_has_writer)
{
    int rc = twl_page_has_writer(snapshot->shared, ret_has_writer);
    if (rc < 0)
        return twl_read_snapshot_fail(snapshot, rc);
    return 0;
}

/* ---- the tail of a mapped log ------------------------------------------------------------------- */

/* Opens that segment and enters it: 1. 0 = it does not continue there; then the next look begins anew. */
static int enter_tail(struct read_snapshot *snapshot, size_t index, struct position position)
{
    const struct segment_entry *entry = &snapshot->set.entries[index];

    twl_segment_close(&snapshot->tail_segment);
    int entered = twl_segment_open_entry(snapshot->io, entry, &snapshot->tail_segment);
    if (entered == 0) {
        twl_iter_begin(&snapshot->tail, &snapshot->tail_segment, position);
        entered = twl_iter_enter_group(&snapshot->tail);
    }

    snapshot->tail_index = index;
    if (entered <= 0)
        snapshot->tail_generation = 0;
    if (is_gone(entered))
        return 0;
    return entered;
}

/* Begins the walk, at the oldest open group: 1. 0 = there is none. */
static int begin_tail(struct read_snapshot *snapshot)
{
    const struct segment_set *set = &snapshot->set;
    size_t from;

    const int rc = twl_recover_find_open(snapshot->io, set, &from, snapshot->report);
    if (is_gone(rc))
        return 0;
    if (rc < 0)
        return rc;

    if (from >= set->started)
        return 0;
    return enter_tail(snapshot, from, twl_position_before(&set->entries[from].header));
}

/* With each set the walk begins anew: 1. 0 = there is no open group. */
static int find_tail(struct read_snapshot *snapshot)
{
    if (snapshot->tail_generation == snapshot->generation)
        return snapshot->tail_segment.file != NULL;

    twl_segment_close(&snapshot->tail_segment);
    snapshot->tail_generation = snapshot->generation;
    const int found = begin_tail(snapshot);
    if (found < 0) /* then it is not known that there is none */
        snapshot->tail_generation = 0;
    return found;
}

/* Goes as far as the records of this segment are complete: 1 if its group has ended, so that the next segment may be
 * begun. 0 = the writer is still in this one. */
static int walk_in_tail(struct read_snapshot *snapshot)
{
    struct segment_iter *tail = &snapshot->tail;
    int entered;

    do {
        entered = twl_iter_enter_group(tail);
    } while (entered > 0);

    snapshot->limit_lsn = max_u64(snapshot->limit_lsn, tail->position.next_lsn - 1);
    if (entered < 0)
        return entered;
    return twl_iter_has_ended(tail);
}

/* Goes on in the next segment: 1. 0 = there is none, or it does not continue this one. */
static int go_on_in_next(struct read_snapshot *snapshot, bool *is_reloaded)
{
    const bool is_newest = snapshot->tail_index + 1 == snapshot->set.started;

    if (!is_newest)
        return enter_tail(snapshot, snapshot->tail_index + 1, snapshot->tail.position);
    if (*is_reloaded)
        return 0;

    *is_reloaded = true;
    const int rc = load_set(snapshot);
    if (rc < 0)
        return rc;
    return find_tail(snapshot);
}

/* Goes as far as records are complete. The next segment is begun when the group of this one has ended. */
static int follow_tail(struct read_snapshot *snapshot)
{
    bool is_reloaded = false;
    int goes_on = find_tail(snapshot);

    twl_iter_refresh(&snapshot->tail);
    while (goes_on > 0) {
        goes_on = walk_in_tail(snapshot);
        if (goes_on > 0)
            goes_on = go_on_in_next(snapshot, &is_reloaded);
    }

    if (goes_on == TWINLOG_EVERSION && snapshot->report->error != goes_on)
        twl_recover_report_newer(snapshot->report, &snapshot->set.entries[snapshot->tail_index],
                                 snapshot->tail.position.next_lsn, snapshot->tail.offset);
    if (goes_on < 0)
        return twl_read_snapshot_fail(snapshot, goes_on);
    return 0;
}

/* ---- with a page ------------------------------------------------------------------------------- */

/* A truncation or reset takes effect as soon as its segment exists, and that is the newest one until the writer
 * publishes it, a little later. */
static void apply_unpublished_truncation(struct read_snapshot *snapshot)
{
    const struct segment_set *set = &snapshot->set;
    if (set->started == 0)
        return;

    const struct segment_header *newest = &set->entries[set->started - 1].header;
    if (!segment_is_truncation(newest) || newest->epoch < snapshot->epoch)
        return;

    snapshot->limit_lsn = min_u64(snapshot->limit_lsn, newest->start_lsn - 1);
    snapshot->first_lsn = set->first_lsn;
}

/* A writer that maps begins an epoch with each segment, maybe sooner than a set is loaded, and truncates nothing: what
 * was found in one of its epochs stays true. Those of earlier writers are not above the one that it has found left. */
static bool is_of_mapped_writer(const struct read_snapshot *snapshot, uint32_t epoch)
{
    return twl_page_is_mapped(snapshot->shared) && epoch > atomic_load(&snapshot->shared->page->left_epoch);
}

/* Does what was found in the epoch of the snapshot stay true in that of the page? A walk in the tail follows a mapped
 * writer to its next segment. */
static bool is_still_true(const struct read_snapshot *snapshot, uint32_t epoch)
{
    if (epoch == snapshot->epoch)
        return true;

    const bool is_followed = snapshot->is_durable || snapshot->tail_segment.file;
    return is_followed && is_of_mapped_writer(snapshot, snapshot->epoch);
}

/* Takes from the page of a writer how far the log goes. */
static int apply_page(struct read_snapshot *snapshot, uint32_t epoch)
{
    if (!is_still_true(snapshot, epoch)) {
        int rc = load_set(snapshot);
        if (rc < 0)
            return rc;

        /* What the writer before has left open was completed, maybe otherwise. */
        twl_segment_close(&snapshot->tail_segment);
        snapshot->limit_lsn = 0;
        snapshot->passes_claims = false;
        snapshot->damage.error = 0; /* the writer knows where the log ends */
    }

    snapshot->epoch = epoch;
    snapshot->limit_lsn = max_u64(snapshot->limit_lsn, twl_page_durable_lsn(snapshot->shared));
    if (twl_read_snapshot_has_tail(snapshot)) {
        int rc = follow_tail(snapshot);
        if (rc < 0)
            return rc;
    }

    snapshot->first_lsn = max_u64(snapshot->set.first_lsn, twl_page_first_lsn(snapshot->shared));
    apply_unpublished_truncation(snapshot);
    snapshot->is_known = twl_page_epoch(snapshot->shared) == epoch || is_of_mapped_writer(snapshot, epoch);
    if (!snapshot->is_known)
        snapshot->epoch = 0;
    return 0;
}

/* May the last snapshot stay, where no page counts? */
static bool may_stay(const struct read_snapshot *snapshot, bool has_writer, bool asks_for_end)
{
    /* One from the page may not: the writer may have truncated the log after it published, and no page shows that. */
    if (!snapshot->is_known || snapshot->epoch != 0)
        return false;

    /* Markers of a writer without a page say something new at any time. */
    if (snapshot->follows_markers || (has_writer && !snapshot->shared->page))
        return false;

    /* Nobody has changed the page since. */
    if (snapshot->page_sequence == snapshot->sound_page_sequence)
        return true;

    /* A writer is opening the log, and will publish. Until then the snapshot is enough for all but the end. */
    return has_writer && !asks_for_end;
}

/* There is no page that counts. If none can be shared, the markers in the log tell how far a writer has come. Otherwise
 * a writer is opening the log, or died while it was opening it, or no writer has come since the last one. */
static int look_past_page(struct read_snapshot *snapshot, uint32_t epoch, bool has_writer, bool asks_for_end)
{
    const bool has_page = snapshot->shared->page != NULL;
    bool has_come = false;

    if (may_stay(snapshot, has_writer, asks_for_end))
        return 0;

    int rc = look_in_files(snapshot, has_writer && !has_page);
    if (rc == 0 && !has_page && !has_writer) /* what was found may have been in the making */
        rc = find_writer(snapshot, &has_come);

    const bool is_same_page = twl_page_sequence(snapshot->shared) == snapshot->page_sequence;
    snapshot->is_known = rc == 0 && !has_come && is_same_page;
    snapshot->sound_page_sequence = snapshot->page_sequence;
    snapshot->ignored_epoch = epoch;
    return rc;
}

/* There was no page, or it is no longer the writer's: the file was removed, or the writer can't share it. */
static int look_for_page(struct read_snapshot *snapshot)
{
    const bool had_page = snapshot->shared->page != NULL;
    int result = 0;

    if (!is_attached(snapshot))
        result = twl_page_watch_again(&snapshot->watched);
    else if (twl_page_poison(snapshot->shared) == -ESTALE) /* the directory was removed */
        result = -ESTALE;
    if (result < 0)
        return twl_read_snapshot_fail(snapshot, result);

    const bool has_lost_page = had_page && !snapshot->shared->page;
    if (result > 0 || has_lost_page) {
        snapshot->ignored_epoch = 0;
        snapshot->epoch = 0;
        snapshot->is_known = false;
    }

    return 0;
}

enum question {
    WHAT_THE_PAGE_SAYS,
    WHETHER_ITS_WRITER_LIVES,
    WHERE_THE_LOG_ENDS
};

/* One look at the log. It does not count if the log has changed meanwhile; then the snapshot is not known. */
static int look_once(struct read_snapshot *snapshot, enum question question)
{
    bool has_writer = true;
    int rc = 0;

    snapshot->page_sequence = twl_page_sequence(snapshot->shared);
    const uint32_t epoch = twl_page_epoch(snapshot->shared);
    const bool is_told = epoch != 0 && epoch != snapshot->ignored_epoch;

    if (!is_told || question != WHAT_THE_PAGE_SAYS)
        rc = find_writer(snapshot, &has_writer);
    if (rc < 0)
        return rc;

    if (is_told && has_writer)
        return apply_page(snapshot, epoch);
    return look_past_page(snapshot, epoch, has_writer, question == WHERE_THE_LOG_ENDS);
}

static int refresh_snapshot(struct read_snapshot *snapshot, enum question question)
{
    int rc = look_for_page(snapshot);

    if (rc == 0) {
        do {
            rc = look_once(snapshot, question);
        } while (rc == 0 && !snapshot->is_known);
    }

    /* The sequence of the page is that of this look, which has found out nothing: the next call looks again. */
    if (rc < 0)
        snapshot->is_known = false;
    return rc;
}

int twl_read_snapshot_look(struct read_snapshot *snapshot)
{
    return refresh_snapshot(snapshot, WHAT_THE_PAGE_SAYS);
}

int twl_read_snapshot_look_for_writer(struct read_snapshot *snapshot)
{
    return refresh_snapshot(snapshot, WHETHER_ITS_WRITER_LIVES);
}

int twl_read_snapshot_find_end(struct read_snapshot *snapshot)
{
    return refresh_snapshot(snapshot, WHERE_THE_LOG_ENDS);
}

int twl_read_snapshot_reload(struct read_snapshot *snapshot)
{
    int rc = load_set(snapshot);
    if (rc < 0)
        return rc;
    return twl_read_snapshot_look(snapshot);
}

/* ---- create and destroy ------------------------------------------------------------------------ */

int twl_read_snapshot_open(struct read_snapshot *snapshot, struct io *io, uint32_t flags,
                           struct twinlog_report *report)
{
    *snapshot = (struct read_snapshot){
        .io = io,
        .shared = &snapshot->watched,
        .report = report,
        .is_durable = flags & TWINLOG_READER_DURABLE,
    };
    int rc = twl_page_watch(io, &snapshot->watched);
    if (rc < 0)
        return twl_read_snapshot_fail(snapshot, rc);

    rc = twl_read_snapshot_find_end(snapshot); /* asks whether the page is that of a writer */

    /* Without segments there is a log only if a writer is about to make the first one. */
    bool has_writer = true;
    if (rc == 0 && snapshot->set.started == 0)
        rc = find_writer(snapshot, &has_writer);
    if (rc == 0 && !has_writer) {
        rc = -ENOENT;
        twl_report(snapshot->report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, rc,
                   "there is no log in this directory; check the path");
    }

    if (rc < 0)
        twl_read_snapshot_close(snapshot);
    return rc;
}

void twl_read_snapshot_attach(struct read_snapshot *snapshot, const struct reader_source *source,
                              uint32_t flags, struct twinlog_report *report)
{
    *snapshot = (struct read_snapshot){
        .io = source->io,
        .shared = source->shared,
        .source = *source,
        .report = report,
        .is_durable = flags & TWINLOG_READER_DURABLE,
    };
}

void twl_read_snapshot_close(struct read_snapshot *snapshot)
{
    twl_segment_close(&snapshot->tail_segment);
    twl_iter_free(&snapshot->tail);
    twl_segment_set_free(&snapshot->set);
    if (!is_attached(snapshot))
        twl_page_unwatch(&snapshot->watched);
}
