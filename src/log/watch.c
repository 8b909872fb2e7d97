/* SPDX-License-Identifier: Apache-2.0 */
/* Watching a log that another process writes, by the statistics behind the shared page: trusted for display only. */
#define _GNU_SOURCE
#include "base/versioned.h"
#include "log/handle.h"

#include <errno.h>

#define LOOKS 8u /* a truncation, or another writer, may come in between */

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

/* -EAGAIN: a writer is opening the log, or the log has another one now, or is truncated. */
static int read_statistics(struct shared_page *shared, struct twinlog_stat *stat,
                           struct twinlog_timings *timings)
{
    bool has_writer;
    int rc = twl_page_ask_writer(shared, &has_writer);
    if (rc < 0 || !has_writer)
        return rc < 0 ? rc : -ESRCH;
    const struct statistics *statistics = shared->statistics;
    const uint32_t epoch = twl_page_epoch(shared);
    if (shared->page && epoch == 0)
        return -EAGAIN;
    if (!statistics || atomic_load(&statistics->layout) != STATISTICS_LAYOUT)
        return -ENOTSUP;
    twl_statistics_count(statistics, stat);
    stat->epoch = epoch;
    stat->mode = twl_page_mode(shared);
    stat->poison = twl_page_poison(shared);
    stat->durable_lsn = twl_page_durable_lsn(shared);
    stat->first_lsn = twl_page_first_lsn(shared);
    if (stat->mode == TWINLOG_MODE_DURABLE) {
        timings->sample_interval = TIMED_INTERVAL;
        twl_statistics_time(statistics, timings);
    } else {
        rc = look_at_records(shared->io, stat);
        if (rc == 0) /* no process has all the files */
            rc = twl_stat_files(shared->io, stat);
    }
    settle_lsns(stat);
    const bool is_same = twl_page_epoch(shared) == epoch;
    return rc < 0 || (is_same && atomic_load(&statistics->layout) == STATISTICS_LAYOUT) ? rc : -EAGAIN;
}

int twl_watch(struct io *io, struct twinlog_stat *ret_stat, struct twinlog_timings *ret_timings)
{
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    struct twinlog_timings timings = TWINLOG_TIMINGS_INIT;
    struct shared_page shared;
    int rc = twl_page_watch(io, &shared);
    if (rc == 0) {
        rc = -EAGAIN;
        for (unsigned looks = 0; rc == -EAGAIN && looks < LOOKS; looks++)
            rc = read_statistics(&shared, &stat, &timings);
        twl_page_unwatch(&shared);
    }
    if (rc == 0) {
        twl_versioned_give(ret_stat, &stat, sizeof(stat));
        twl_versioned_give(ret_timings, &timings, sizeof(timings));
    }
    io->ops->destroy(io);
    return rc;
}
