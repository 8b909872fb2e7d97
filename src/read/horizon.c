/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See horizon.h.
 *
 * What makes a page count: its epoch is not 0, and not the one that a dead writer had left in it when we came.
 * Whoever writes another epoch there has the lock and has recovered.
 *
 * The order of things: the writer stores a new epoch before any LSN of it. So the epoch is read, then the set,
 * then the watermark, then the epoch again: if it is the same, the watermark is of this epoch, and every record
 * up to it is in a segment of the set or in one that was begun later.
 */
#define _GNU_SOURCE
#include "read/horizon.h"

#include "segment/recover.h"

#include <errno.h>
#include <unistd.h>

#define SET_TRIES 20u

static int report_system(int error, struct twinlog_report *ret_report)
{
    twl_report(ret_report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, error, "cannot read the log: %s",
               twinlog_strerror(error));
    return error;
}

/* ---- the set ----------------------------------------------------------------------------------- */

static bool is_attached(const struct horizon *h)
{
    return h->source.set != NULL;
}

/* In a child of the process that attached it a reader stays with what it saw: the log is not the child's. */
static bool is_forked(const struct horizon *h)
{
    return is_attached(h) && getpid() != h->pid;
}

static void find_newest_cut(struct horizon *h)
{
    h->cut_epoch = 0;
    for (size_t i = h->set.begun; i-- > 0 && h->cut_epoch == 0;) {
        const struct segment_header *header = &h->set.entries[i].header;
        if (header->start_lsn > 0 && header->sequence > 1) { /* with segment 1 the log itself begins */
            h->cut_epoch = header->epoch;
            h->cut_lsn = header->start_lsn;
        }
    }
}

/* Beside a writer that begins, recycles and removes segments while the directory is read, a sound log may look
 * damaged; not again and again. */
static int open_set(struct horizon *h, struct segment_set *ret_set, struct twinlog_report *ret_report)
{
    const struct segment_set_options options = { .open_flags = IO_READ_ONLY };
    for (unsigned tries = 1;; tries++) {
        int rc = twl_segment_set_open(h->io, &options, NULL, ret_set, ret_report);
        bool may_be_moving = rc == TWINLOG_ECORRUPT || rc == TWINLOG_EFOREIGN || rc == -ENOENT;
        bool has_writer;
        if (!may_be_moving || tries == SET_TRIES || twl_live_has_writer(h->live, &has_writer) < 0 ||
            !has_writer)
            return rc;
        h->io->ops->sleep_ms(h->io, 1);
    }
}

static int load_set(struct horizon *h, struct twinlog_report *ret_report)
{
    struct segment_set set;
    int rc;
    if (is_forked(h))
        rc = report_system(TWINLOG_EFORKED, ret_report);
    else if (!is_attached(h))
        rc = open_set(h, &set, ret_report);
    else if ((rc = h->source.set(h->source.context, &set)) < 0)
        report_system(rc, ret_report);
    if (rc < 0)
        return rc;
    twl_segment_set_free(&h->set);
    h->set = set;
    h->first_lsn = set.first_lsn;
    h->generation += h->generation == UINT32_MAX ? 2 : 1;
    find_newest_cut(h);
    return 0;
}

/* ---- without a page ---------------------------------------------------------------------------- */

/* A file system that can only be read has nothing to sync, and may know no such call. (-EROFS is what one answers
 * that had to stop writing: what was found may be nowhere on the disk.) */
static int sync_what_was_found(struct horizon *h, const struct segment_entry *newest)
{
    struct segment segment;
    int rc = twl_segment_open_valid(h->io, newest->name, &segment);
    if (rc < 0)
        return rc;
    rc = io_sync(segment.file);
    twl_segment_close(&segment);
    if (rc == 0)
        rc = h->io->ops->sync_dir(h->io);
    return rc == -EINVAL ? 0 : rc;
}

/* Recovery's view of the log, without changing it. Damage is no error here: whoever reads gets up to it. */
static int look_at_end(struct horizon *h, struct recovery *ret_recovery, struct twinlog_report *ret_report)
{
    int rc;
    for (unsigned tries = 1;; tries++) {
        rc = load_set(h, ret_report);
        if (rc < 0)
            return rc;
        rc = twl_recover(h->io, &h->set, NULL, ret_recovery);
        if (rc != -ENOENT || tries == SET_TRIES) /* else a file went that was there before: look again */
            break;
    }
    if (rc == 0 || rc == TWINLOG_ECORRUPT)
        return 0;
    *ret_report = ret_recovery->report;
    return rc;
}

/* Without a writer: everything sound becomes durable before it is shown. */
static int adopt_sound_records(struct horizon *h, struct twinlog_report *ret_report)
{
    struct recovery recovery;
    int rc = look_at_end(h, &recovery, ret_report);
    if (rc < 0)
        return rc;
    if (h->set.begun > 0)
        rc = sync_what_was_found(h, &h->set.entries[recovery.index]);
    if (rc < 0)
        return report_system(rc, ret_report);
    h->limit_lsn = recovery.position.next_lsn - 1;
    /* those that are lost were durable; that is told when one of them is asked for */
    if (recovery.report.error == TWINLOG_ECORRUPT)
        h->limit_lsn = max_u64(h->limit_lsn, recovery.report.last_lsn);
    return 0;
}

static int follow_marks(struct horizon *h, struct twinlog_report *ret_report)
{
    struct recovery recovery;
    int rc = look_at_end(h, &recovery, ret_report);
    if (rc == 0)
        h->limit_lsn = recovery.marked_lsn;
    return rc;
}

static int look_without_page(struct horizon *h, struct twinlog_report *ret_report)
{
    bool has_writer;
    int rc = twl_live_has_writer(h->live, &has_writer);
    if (rc < 0)
        return report_system(rc, ret_report);
    bool has_gone = h->follows_marks && !has_writer;
    h->follows_marks = has_writer;
    if (has_writer)
        return follow_marks(h, ret_report);
    return has_gone ? adopt_sound_records(h, ret_report) : 0;
}

/* ---- with a page ------------------------------------------------------------------------------- */

static uint32_t page_epoch(const struct horizon *h)
{
    uint32_t epoch = twl_live_epoch(h->live);
    return epoch == h->ignored_epoch ? 0 : epoch;
}

/* A cut is done as soon as its segment is there, and the writer tells a little later. */
static void heed_untold_cut(struct horizon *h)
{
    if (h->cut_epoch >= h->epoch)
        h->limit_lsn = min_u64(h->limit_lsn, h->cut_lsn - 1);
}

static int look_at_page(struct horizon *h, struct twinlog_report *ret_report)
{
    uint32_t epoch;
    do {
        h->pulse = twl_live_pulse(h->live);
        epoch = page_epoch(h);
        if (epoch == 0) /* what was seen before stays true, but if nothing was, the marks tell */
            return h->follows_marks ? look_without_page(h, ret_report) : 0;
        h->follows_marks = false;
        if (epoch != h->epoch || h->generation == 0) {
            int rc = load_set(h, ret_report);
            if (rc < 0)
                return rc;
            h->epoch = epoch;
            h->limit_lsn = 0;
        }
        h->limit_lsn = max_u64(h->limit_lsn, twl_live_durable_lsn(h->live));
        h->first_lsn = max_u64(h->set.first_lsn, twl_live_first_lsn(h->live));
    } while (page_epoch(h) != epoch);
    heed_untold_cut(h);
    return 0;
}

/* There was none, or it is not the writer's any more: somebody has removed the file. */
static int look_for_page(struct horizon *h, struct twinlog_report *ret_report)
{
    int rc = is_attached(h) ? 0 : twl_live_watch_again(&h->watched);
    if (rc < 0)
        return report_system(rc, ret_report);
    if (rc > 0)
        h->ignored_epoch = 0;
    return 0;
}

int twl_horizon_look(struct horizon *h, struct twinlog_report *ret_report)
{
    if (is_forked(h))
        return h->generation > 0 ? 0 : report_system(TWINLOG_EFORKED, ret_report);
    int rc = look_for_page(h, ret_report);
    if (rc < 0)
        return rc;
    return h->live->page ? look_at_page(h, ret_report) : look_without_page(h, ret_report);
}

int twl_horizon_reload(struct horizon *h, struct twinlog_report *ret_report)
{
    int rc = load_set(h, ret_report);
    return rc < 0 ? rc : twl_horizon_look(h, ret_report);
}

/* ---- birth and death --------------------------------------------------------------------------- */

/* The page was there before anybody looked whether it has a writer: one that comes later puts another epoch. */
static int look_first(struct horizon *h, uint32_t left_epoch, struct twinlog_report *ret_report)
{
    bool has_writer, has_come = false;
    int rc = twl_live_has_writer(&h->watched, &has_writer);
    if (rc < 0)
        return report_system(rc, ret_report);
    if (!has_writer) {
        h->ignored_epoch = left_epoch;
        rc = adopt_sound_records(h, ret_report);
        if (rc < 0)
            return rc;
        rc = twl_live_has_writer(&h->watched, &has_come);
        if (rc < 0)
            return report_system(rc, ret_report);
        if (has_come) /* what was found may have been in the making */
            h->limit_lsn = 0;
    }
    h->follows_marks = has_writer || has_come; /* until its page tells */
    rc = twl_horizon_look(h, ret_report);
    return rc == 0 && h->generation == 0 ? load_set(h, ret_report) : rc;
}

int twl_horizon_open(struct horizon *h, struct io *io, struct twinlog_report *ret_report)
{
    *h = (struct horizon){ .io = io, .live = &h->watched };
    int rc = twl_live_watch(io, &h->watched);
    if (rc < 0)
        return report_system(rc, ret_report);
    rc = look_first(h, twl_live_epoch(&h->watched), ret_report);
    bool has_writer = true; /* one may be about to make the first segment */
    if (rc == 0 && h->set.begun == 0)
        rc = twl_live_has_writer(&h->watched, &has_writer);
    if (rc == 0 && !has_writer) {
        rc = -ENOENT;
        twl_report(ret_report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, rc,
                   "there is no log in this directory; append to it first");
    }
    if (rc < 0)
        twl_horizon_close(h);
    return rc;
}

void twl_horizon_attach(struct horizon *h, const struct reader_source *source)
{
    *h = (struct horizon){ .io = source->io, .live = source->live, .source = *source, .pid = getpid() };
    h->pulse = twl_live_pulse(h->live) - 1; /* not looked at yet */
}

void twl_horizon_close(struct horizon *h)
{
    twl_segment_set_free(&h->set);
    if (!is_attached(h))
        twl_live_unwatch(&h->watched);
}
