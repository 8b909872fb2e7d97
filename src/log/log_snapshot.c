/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See log_snapshot.h. The watermark is read before the set. So every record up to it is in a segment of the set, or the
 * set shows that it was removed; a writer that came, went or truncated in between is noticed by its epoch.
 */
#include "log/log_snapshot.h"

#include <errno.h>
#include <string.h>

#define TRIES 20u         /* a sound log may look damaged beside a writer, but not so often */
#define MOVING_TRIES 100u /* while writers come and go */
#define BIRTH_MS 2000u    /* a file is locked until its new header is on the disk */

/* 1 or 0, also if another writer came and went since; or an error. */
static int has_same_writer(struct log_snapshot *snapshot)
{
    bool has_writer;

    const int rc = twl_page_look_for_writer(&snapshot->shared, &has_writer);
    if (rc < 0)
        return rc;
    return has_writer == snapshot->has_writer && twl_page_epoch(&snapshot->shared) == snapshot->epoch;
}

/* A truncation's segment exists before the writer publishes the truncation; until then its watermark is that
 * of before. */
static void limit_to_truncation(struct log_snapshot *snapshot)
{
    if (snapshot->set.started == 0)
        return;

    const struct segment_header *newest = &snapshot->set.entries[snapshot->set.started - 1].header;
    const bool is_unpublished = segment_is_truncation(newest) && newest->epoch >= snapshot->epoch;
    if (is_unpublished)
        snapshot->durable_lsn = min_u64(snapshot->durable_lsn, newest->start_lsn - 1);
}

static int load_once(struct io *io, unsigned flags, struct log_snapshot *snapshot,
                     struct twinlog_report *ret_report)
{
    const enum segment_set_use use = flags & SNAPSHOT_COLLECTS_FAULTS ? SET_FOR_CHECKING : SET_FOR_READING;
    int rc = twl_page_look_for_writer(&snapshot->shared, &snapshot->has_writer);
    if (rc < 0)
        return twl_report_failure(ret_report, rc, "look at the log");

    snapshot->epoch = twl_page_epoch(&snapshot->shared);
    snapshot->durable_lsn = 0;
    if (snapshot->has_writer)
        snapshot->durable_lsn = twl_page_durable_lsn(&snapshot->shared);

    if (flags & SNAPSHOT_READS_DISK)
        io->reads_disk = !snapshot->has_writer;
    rc = twl_segment_set_open(io, use, &snapshot->state, &snapshot->set, ret_report);
    snapshot->set.note = twl_page_get_note(&snapshot->shared);
    limit_to_truncation(snapshot);
    return rc;
}

static void forget(struct log_snapshot *snapshot)
{
    twl_segment_set_free(&snapshot->set);
    twl_state_free(&snapshot->state);
}

/* A writer of a mapped mode begins an epoch with each segment, and truncates nothing: what was loaded stays in the log.
 * So neither a load nor a look need be faster than the writer. */
static bool is_going_on(struct log_snapshot *snapshot)
{
    const bool has_gone_on = snapshot->has_writer && twl_page_has_known_writer(&snapshot->shared);

    return has_gone_on && twl_page_is_mapped(&snapshot->shared);
}

/* Loads the set until nothing came in between. Beside a writer that begins, recycles and removes segments a sound log
 * may look damaged, but not again and again. */
static int load_what_stays(struct io *io, unsigned flags, struct log_snapshot *snapshot,
                           struct twinlog_report *ret_report)
{
    for (unsigned tries = 1;; tries++) {
        const int rc = load_once(io, flags, snapshot, ret_report);
        if (rc < 0 && !twl_set_may_be_moving(rc)) /* a look that failed tells nothing */
            return rc;

        const int is_same = has_same_writer(snapshot);
        if (is_same < 0)
            return twl_report_failure(ret_report, is_same, "look at the log");

        const bool has_faults = snapshot->set.fault_count > 0 || rc < 0;
        const bool may_be_moving = snapshot->has_writer && has_faults && tries < TRIES;
        const bool is_settled = is_same > 0 || (tries >= TRIES && is_going_on(snapshot));
        if (is_settled && !may_be_moving)
            return rc;
        if (tries == MOVING_TRIES)
            return twl_report_failure(ret_report, -EBUSY, "look at the log, which changes meanwhile");

        io->ops->sleep_ms(io, 1);
        forget(snapshot);
    }
}

/* What is still on its way to the disk was read as if it were there: it gets there, or the look has failed. */
static int sync_log(struct io *io, const struct log_snapshot *snapshot, struct twinlog_report *ret_report)
{
    const struct segment_set *set = &snapshot->set;
    size_t open_from = 0;
    if (set->started == 0)
        return 0;

    const size_t newest = set->started - 1;
    int rc = twl_recover_find_open(io, set, &open_from, ret_report);
    if (rc == 0)
        rc = twl_recover_sync(io, set, min_u64(open_from, newest), newest);
    if (rc == -ENOENT || rc == TWINLOG_ECORRUPT) /* it is changing, or damaged: the next look tells */
        return 0;
    return twl_report_failure(ret_report, rc, "look at the log");
}

static int load(struct io *io, unsigned flags, struct log_snapshot *snapshot,
                struct twinlog_report *ret_report)
{
    const int rc = load_what_stays(io, flags, snapshot, ret_report);
    if (rc < 0)
        return rc;

    const bool has_log = snapshot->set.started > 0 || snapshot->set.fault_count > 0;
    if (!has_log) {
        twl_report(ret_report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, -ENOENT,
                   "there is no log in this directory; check the path");
        return -ENOENT;
    }
    if ((flags & SNAPSHOT_SYNCS) && !snapshot->has_writer)
        return sync_log(io, snapshot, ret_report);
    return 0;
}

int twl_log_snapshot_load(struct io *io, unsigned flags, struct log_snapshot *ret_snapshot,
                          struct twinlog_report *ret_report)
{
    struct log_snapshot snapshot = { 0 };
    int rc = twl_page_watch(io, &snapshot.shared);
    if (rc < 0)
        return twl_report_failure(ret_report, rc, "look at the log");

    rc = load(io, flags, &snapshot, ret_report);
    if (rc < 0)
        twl_log_snapshot_free(&snapshot);
    else
        *ret_snapshot = snapshot;
    return rc;
}

void twl_log_snapshot_free(struct log_snapshot *snapshot)
{
    forget(snapshot);
    if (snapshot->shared.io)
        twl_page_unwatch(&snapshot->shared);
    *snapshot = (struct log_snapshot){ 0 };
}

/* True if the new set has the segments of the old one, and behind them only segments that continue them. */
static bool is_continued(const struct segment_set *old, const struct segment_set *now)
{
    if (now->started < old->started)
        return false;
    for (size_t i = 0; i < old->started; i++)
        if (old->entries[i].header.segment_id != now->entries[i].header.segment_id)
            return false;

    return twl_segment_set_bound(now, old->started - 1) == UINT64_MAX;
}

int twl_log_snapshot_is_current(struct io *io, struct log_snapshot *snapshot)
{
    struct segment_set now;
    const int is_same = has_same_writer(snapshot);
    if (is_same < 0)
        return is_same;
    if (is_same == 0 && !is_going_on(snapshot))
        return 0;
    if (!snapshot->has_writer)
        return 1;

    const int rc = twl_segment_set_open(io, SET_FOR_READING, NULL, &now, NULL);
    const bool is_damaged_now = rc == TWINLOG_ECORRUPT || rc == TWINLOG_EFOREIGN || rc == TWINLOG_EVERSION;
    if (is_damaged_now) /* so what was found in the snapshot is no matter of its age */
        return 1;
    if (rc == -ENOENT || rc == -EBUSY) /* it moves */
        return 0;
    if (rc < 0)
        return rc;

    const bool is_current = is_continued(&snapshot->set, &now);
    twl_segment_set_free(&now);
    return is_current;
}

/* The newest LSN that the markers on the disk vouch for. */
static int find_marked(struct io *io, const struct log_snapshot *snapshot, uint64_t *ret_lsn)
{
    struct recovery recovery;
    const int rc = twl_recover(io, &snapshot->set, true, NULL, &recovery);
    const bool is_judged = rc == 0 || recovery.report.finding == TWINLOG_FOUND_DAMAGE;

    if (is_judged) {
        *ret_lsn = recovery.marked_lsn;
        return 0;
    }
    if (rc == -ENOENT ||
        rc == TWINLOG_ECORRUPT) /* a segment that is gone, or is just getting another incarnation */
        return -EAGAIN;
    return rc;
}

int twl_log_snapshot_find_durable(struct io *io, const struct log_snapshot *snapshot, uint64_t *ret_lsn)
{
    uint64_t durable_lsn = UINT64_MAX;
    int rc = 0;

    if (snapshot->has_writer)
        durable_lsn = snapshot->durable_lsn;
    if (durable_lsn == 0)
        rc = find_marked(io, snapshot, &durable_lsn);
    if (rc < 0)
        return rc;

    /* The head may have passed what was published or marked; but only durable records are trimmed. */
    *ret_lsn = max_u64(durable_lsn, snapshot->set.first_lsn - 1);
    return 0;
}

static int hold(const struct segment *segment)
{
    struct io *io = segment->file->io;
    int rc = io_lock(segment->file, IO_LOCK_USE, false);

    for (unsigned waited_ms = 0; rc == -EAGAIN; waited_ms++) {
        if (waited_ms == BIRTH_MS)
            return -EBUSY;
        io->ops->sleep_ms(io, 1);
        rc = io_lock(segment->file, IO_LOCK_USE, false);
    }
    return rc;
}

int twl_log_snapshot_open_segment(struct io *io, const struct segment_entry *entry,
                                  struct segment *ret_segment)
{
    struct segment segment;
    int rc = twl_segment_open_entry(io, entry, &segment);
    if (rc == -ENOENT || rc == TWINLOG_ECORRUPT) /* it is gone, or has another incarnation */
        return -EAGAIN;
    if (rc < 0)
        return rc;

    rc = hold(&segment);
    if (rc == 0 && !entry->has_second_header)
        rc = twl_segment_check_incarnation(&segment, &entry->header);
    if (rc < 0) {
        twl_segment_close(&segment);
        return rc;
    }
    *ret_segment = segment;
    return 0;
}
