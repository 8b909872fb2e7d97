/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a log says of itself: its LSNs, its statistics, its timings. Those of a log that another process writes are
 * behind the shared page, and trusted for display only.
 */
#include "base/versioned.h"
#include "log/handle.h"
#include "log/log_snapshot.h"

#include <errno.h>
#include <stdio.h>

#define LOOKS 8u /* of a watcher: a truncation, or another writer, may come in between */

static uint64_t newest_lsn(struct twinlog *log, enum twinlog_level level)
{
    uint64_t first_lsn, last_lsn;
    if (!is_read_only(log))
        return log->ops->newest_lsn(log->engine, level);

    (void)twl_look(log, &first_lsn, &last_lsn); /* after a failure as they were found last */
    return last_lsn;
}

static uint64_t last_lsn(struct twinlog *log)
{
    return newest_lsn(log, TWINLOG_LEVEL_BUFFERED);
}

static uint64_t written_lsn(struct twinlog *log)
{
    return newest_lsn(log, TWINLOG_LEVEL_WRITTEN);
}

uint64_t twl_durable_lsn(struct twinlog *log)
{
    return newest_lsn(log, TWINLOG_LEVEL_DURABLE);
}

/* What readers are told, so that no reader is ahead of it. The page may just have been lost: then it says nothing. */
static uint64_t durable_lsn(struct twinlog *log)
{
    if (is_read_only(log))
        return twl_durable_lsn(log);

    const uint64_t told_lsn = watermark_load(&log->shared->page->durable);
    if (told_lsn > 0)
        return told_lsn;
    return twl_durable_lsn(log);
}

/* Readers of a mapped log look for complete records themselves. */
static uint64_t visible_lsn(struct twinlog *log)
{
    if (log->mapped)
        return last_lsn(log);
    return durable_lsn(log);
}

static uint64_t first_lsn(struct twinlog *log)
{
    uint64_t first_lsn, last_lsn;
    if (is_read_only(log)) {
        (void)twl_look(log, &first_lsn, &last_lsn);
        return first_lsn;
    }

    if (log->shared->is_shared) /* another participant may have trimmed the log */
        raise_u64(&log->first_lsn, twl_page_first_lsn(log->shared));
    first_lsn = atomic_load(&log->first_lsn);
    const bool has_records = visible_lsn(log) >= first_lsn;
    return has_records ? first_lsn : 0;
}

int twl_find_told_lsn(struct twinlog *log, uint64_t *ret_lsn)
{
    uint64_t first_lsn;
    if (is_read_only(log))
        return twl_look(log, &first_lsn, ret_lsn);
    *ret_lsn = visible_lsn(log);
    return 0;
}

static uint64_t ask(struct twinlog *log, uint64_t (*find)(struct twinlog *log))
{
    struct call call;
    if (twl_enter(log, INSIDE_OTHER, &call) < 0)
        return 0;
    const uint64_t lsn = find(log);
    twl_leave(&call);
    return lsn;
}

uint64_t twinlog_first_lsn(struct twinlog *log)
{
    return ask(log, first_lsn);
}

uint64_t twinlog_last_lsn(struct twinlog *log)
{
    return ask(log, last_lsn);
}

uint64_t twinlog_written_lsn(struct twinlog *log)
{
    return ask(log, written_lsn);
}

uint64_t twinlog_durable_lsn(struct twinlog *log)
{
    return ask(log, durable_lsn);
}

static void stat_markers(struct twinlog *log, struct twinlog_stat *stat)
{
    stat->first_lsn = first_lsn(log);
    stat->last_lsn = last_lsn(log);
    stat->durable_lsn = durable_lsn(log);
    stat->written_lsn = max_u64(written_lsn(log), stat->durable_lsn);
}

/* Counts the files in the directory. */
static int count_files(struct io *io, struct twinlog_stat *stat)
{
    struct log_snapshot snapshot;
    const int rc = twl_log_snapshot_load(io, 0, &snapshot, NULL);
    if (rc < 0)
        return rc;

    const struct segment_set *set = &snapshot.set;
    stat->segments = (uint32_t)set->started;
    stat->spare_segments = (uint32_t)set->spares;
    stat->file_bytes = 0;
    for (size_t i = 0; i < set->started + set->spares + set->retired; i++)
        stat->file_bytes += segment_entry_bytes(&set->entries[i]);
    twl_log_snapshot_free(&snapshot);
    return 0;
}

/* A log with a ring may write by a call at present, which then is the quicker way. */
static void stat_path(struct twinlog *log, struct twinlog_stat *stat)
{
    const bool is_by_call = atomic_load_explicit(&log->io->is_by_call, memory_order_relaxed);
    const char *why_by_call = "";

    stat->io = log->options.io;
    if (is_by_call) {
        stat->io = TWINLOG_IO_DSYNC;
        why_by_call = "; quicker than io_uring at present";
    }
    snprintf(stat->io_reason, sizeof(stat->io_reason), "%.120s%s", log->io_reason, why_by_call);
}

static void stat_writer(struct twinlog *log, struct twinlog_stat *stat)
{
    if (log->keeper)
        twl_keeper_count(log->keeper);
    twl_statistics_count(log->shared->statistics, stat);
    if (log->commit)
        twl_counters_count(&log->counters, stat);
    log->ops->count(log->engine, stat);

    stat->mode = log->options.mode;
    stat_path(log, stat);
    stat_markers(log, stat);
}

static int stat_all(struct twinlog *log, struct twinlog_stat *stat)
{
    int rc = 0;

    if (is_read_only(log)) {
        snprintf(stat->io_reason, sizeof(stat->io_reason), "opened read-only");
        stat_markers(log, stat);
        return count_files(log->io, stat);
    }

    stat_writer(log, stat);
    if (!log->keeper) /* no process has all the files of a mapped log */
        rc = count_files(log->io, stat);
    if (rc == -ESTALE) /* the directory was removed: the poison says so */
        return 0;
    return rc;
}

int twinlog_stat(struct twinlog *log, struct twinlog_stat *ret_stat)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct call call;
    if (!ret_stat || !twl_versioned_is_set(ret_stat))
        return -EINVAL;
    int rc = twl_enter(log, INSIDE_OTHER, &call); /* it does not wait for a truncation */
    if (rc < 0)
        return rc;

    rc = stat_all(log, &stat);
    if (rc == 0)
        twl_versioned_give(ret_stat, &stat, sizeof(stat));
    twl_leave(&call);
    return rc;
}

int twinlog_timings(struct twinlog *log, struct twinlog_timings *ret_timings)
{
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    struct call call;
    if (!ret_timings || !twl_versioned_is_set(ret_timings))
        return -EINVAL;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;

    rc = check_durable(log);
    if (rc == 0) {
        timings.sample_interval = TIMED_INTERVAL;
        twl_commit_time(log->commit, &timings);
        twl_versioned_give(ret_timings, &timings, sizeof(timings));
    }
    twl_leave(&call);
    return rc;
}

/* ---- of another process ------------------------------------------------------------------------ */

/* The newest record of a mapped log is counted nowhere, but every reader sees it. */
static int look_at_records(struct io *io, struct twinlog_stat *stat)
{
    const struct twinlog_reader_options reading = { .size = sizeof(reading) };
    struct twinlog_reader *reader = NULL;
    struct io *again;
    uint64_t first_lsn, last_lsn;

    int rc = io->ops->again(io, &again);
    if (rc == 0)
        rc = twl_reader_open(again, &reading, &reader);
    if (rc == 0)
        rc = twinlog_reader_range(reader, &first_lsn, &last_lsn);
    if (rc == 0 && last_lsn >= stat->last_lsn) {
        stat->appends = last_lsn - stat->last_lsn; /* that was the newest one at the opening */
        stat->last_lsn = stat->written_lsn = last_lsn;
    }
    twinlog_reader_close(reader);
    return rc;
}

static void settle_lsns(struct twinlog_stat *stat)
{
    stat->last_lsn = max_u64(stat->last_lsn, stat->durable_lsn);
    stat->written_lsn = max_u64(min_u64(stat->written_lsn, stat->last_lsn), stat->durable_lsn);
    if (stat->last_lsn < stat->first_lsn)
        stat->first_lsn = 0;
}

static bool has_own_layout(const struct statistics *statistics)
{
    return statistics && atomic_load(&statistics->layout) == STATISTICS_LAYOUT;
}

/* What the durable mode counts in the page, and the mapped modes count nowhere. */
static int read_counts(struct shared_page *shared, struct twinlog_stat *stat, struct twinlog_timings *timings)
{
    if (stat->mode == TWINLOG_MODE_DURABLE) {
        timings->sample_interval = TIMED_INTERVAL;
        twl_statistics_time(shared->statistics, timings);
        return 0;
    }

    const int rc = look_at_records(shared->io, stat);
    if (rc < 0)
        return rc;
    return count_files(shared->io, stat); /* no process has all of them */
}

/* -EAGAIN: a writer is opening the log, or the log has another one now, or is truncated. */
static int read_statistics(struct shared_page *shared, struct twinlog_stat *stat,
                           struct twinlog_timings *timings)
{
    bool has_writer;
    int rc = twl_page_look_for_writer(shared, &has_writer);
    if (rc < 0)
        return rc;
    if (!has_writer)
        return -ESRCH;

    const uint32_t epoch = twl_page_epoch(shared);
    const bool is_being_opened = shared->page && epoch == 0;
    if (is_being_opened)
        return -EAGAIN;
    if (!has_own_layout(shared->statistics))
        return -ENOTSUP;

    twl_statistics_count(shared->statistics, stat);
    stat->epoch = epoch;
    stat->mode = twl_page_mode(shared);
    stat->poison = twl_page_poison(shared);
    stat->durable_lsn = twl_page_durable_lsn(shared);
    stat->first_lsn = twl_page_first_lsn(shared);
    rc = read_counts(shared, stat, timings);
    if (rc < 0)
        return rc;
    settle_lsns(stat);

    const bool is_same_writer = twl_page_epoch(shared) == epoch && has_own_layout(shared->statistics);
    return is_same_writer ? 0 : -EAGAIN;
}

static int watch(struct shared_page *shared, struct twinlog_stat *stat, struct twinlog_timings *timings)
{
    int rc = -EAGAIN;

    for (unsigned looks = 0; rc == -EAGAIN && looks < LOOKS; looks++)
        rc = read_statistics(shared, stat, timings);
    return rc;
}

int twl_watch(struct io *io, struct twinlog_stat *ret_stat, struct twinlog_timings *ret_timings)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    struct shared_page shared;
    int rc = twl_page_watch(io, &shared);
    if (rc == 0) {
        rc = watch(&shared, &stat, &timings);
        twl_page_unwatch(&shared);
    }
    if (rc == 0) {
        twl_versioned_give(ret_stat, &stat, sizeof(stat));
        twl_versioned_give(ret_timings, &timings, sizeof(timings));
    }
    io->ops->destroy(io);
    return rc;
}
