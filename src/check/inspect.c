/* SPDX-License-Identifier: Apache-2.0 */
/* What opening the log would find. */
#include "check/check.h"

#include "log/log_snapshot.h"

#include <errno.h>
#include <string.h>

#define TRIES 100u

/* Which process writes the log, and how. */
static void describe_process(const struct shared_page *shared, struct twinlog_inspection *ret)
{
    ret->mode = twl_page_mode(shared);
    ret->poison = twl_page_poison(shared);
    ret->writer_pid = (uint32_t)twl_page_writer(shared->io);
}

/* What the page of a live writer says. */
static void describe_writer(const struct log_snapshot *snapshot, struct twinlog_inspection *ret)
{
    const uint64_t removed_lsn = snapshot->set.first_lsn - 1;

    /* trims meanwhile may have moved the head past the watermark, which was read first */
    ret->durable_lsn = max_u64(max_u64(ret->durable_lsn, snapshot->durable_lsn), removed_lsn);
    describe_process(&snapshot->shared, ret);
    if (ret->mode == TWINLOG_MODE_DURABLE)
        ret->last_lsn = ret->durable_lsn;
    else
        ret->last_lsn = max_u64(ret->last_lsn, ret->durable_lsn);
}

static void describe_log(const struct log_snapshot *snapshot, const struct recovery *recovery,
                         struct twinlog_inspection *ret)
{
    const struct segment_set *set = &snapshot->set;

    ret->report = recovery->report;
    ret->has_writer = snapshot->has_writer;
    ret->epoch = recovery->position.epoch.number;
    ret->segments = (uint32_t)set->started;
    ret->spare_segments = (uint32_t)set->spares;
    memcpy(ret->log_id, set->entries[0].header.log_id, sizeof(ret->log_id));
    for (size_t i = 0; i < segment_set_files(set); i++)
        ret->file_bytes += segment_entry_bytes(&set->entries[i]);

    ret->last_lsn = recovery->position.next_lsn - 1;
    ret->durable_lsn = recovery->marked_lsn;
    if (snapshot->has_writer)
        describe_writer(snapshot, ret);
    if (ret->last_lsn >= set->first_lsn)
        ret->first_lsn = set->first_lsn;
}

static void say_it_is_written(struct recovery *recovery)
{
    twl_report(&recovery->report, TWINLOG_FOUND_CLEAN_END, TWINLOG_DID_NOTHING, 0,
               "the log is being written");
}

/* The page of a live writer says all that a search could find, except where the records are in the files. */
static bool look_at_page(const struct log_snapshot *snapshot, struct recovery *ret_recovery)
{
    if (!snapshot->has_writer || snapshot->epoch == 0 || twl_page_is_mapped(&snapshot->shared))
        return false;
    *ret_recovery = (struct recovery){ .position = { .next_lsn = snapshot->durable_lsn + 1,
                                                     .epoch.number = snapshot->epoch } };
    say_it_is_written(ret_recovery);
    return true;
}

static int inspect_log(struct io *io, struct log_snapshot *snapshot, struct twinlog_inspection *ret)
{
    struct recovery recovery;
    int rc = 0;

    if (!look_at_page(snapshot, &recovery))
        rc = twl_recover(io, &snapshot->set, snapshot->has_writer, NULL, &recovery);

    /* The writer may have continued between the walk and the search behind it. */
    const bool is_all_there = recovery.position.next_lsn > snapshot->durable_lsn;
    if (rc == TWINLOG_ECORRUPT && snapshot->has_writer && is_all_there) {
        say_it_is_written(&recovery);
        rc = 0;
    }
    describe_log(snapshot, &recovery, ret);
    return rc;
}

/* Is that what the log has, and no matter of the age of the snapshot? 1 or 0; or an error, where that cannot be seen.
 * What the system has refused is told as such. */
static int is_believed(struct io *io, struct log_snapshot *snapshot, int found)
{
    const bool may_be_old = found == TWINLOG_ECORRUPT || found == -ENOENT || found == TWINLOG_EVERSION;

    return may_be_old ? twl_log_snapshot_is_current(io, snapshot) : 1;
}

/* What did not fit may be a segment that was trimmed or truncated meanwhile. */
static int look_until_it_fits(struct io *io, struct twinlog_inspection *ret)
{
    const struct twinlog_inspection blank = { .size = ret->size };
    struct log_snapshot snapshot;

    for (unsigned tries = 0; tries < TRIES; tries++) {
        *ret = blank;
        int rc = twl_log_snapshot_load(io, SNAPSHOT_READS_DISK | SNAPSHOT_SYNCS, &snapshot, &ret->report);
        if (rc < 0)
            return rc;

        rc = inspect_log(io, &snapshot, ret);
        const int fits = is_believed(io, &snapshot, rc);
        twl_log_snapshot_free(&snapshot);
        if (fits < 0)
            *ret = blank;
        if (fits < 0)
            return fits;
        if (fits > 0) /* damage is a result, not a failure of the call */
            return rc == TWINLOG_ECORRUPT ? 0 : rc;
    }

    *ret = blank;
    return -EBUSY;
}

/* Of a log that cannot be looked at: whether its writer may be stopped depends on that. */
static void look_for_writer(struct io *io, struct twinlog_inspection *ret)
{
    struct shared_page shared;
    bool has_writer;

    if (twl_page_watch(io, &shared) < 0)
        return;
    if (twl_page_has_writer(&shared, &has_writer) == 0)
        ret->has_writer = has_writer;
    if (ret->has_writer) {
        describe_process(&shared, ret);
    } else {
        ret->mode = 0;
        ret->poison = 0;
        ret->writer_pid = 0;
    }
    twl_page_unwatch(&shared);
}

int twl_inspect(struct io *io, struct twinlog_inspection *ret_inspection)
{
    struct twinlog_inspection inspection = { .size = ret_inspection->size };

    const int rc = look_until_it_fits(io, &inspection);
    if (rc < 0)
        look_for_writer(io, &inspection);
    io->ops->destroy(io);
    if (rc < 0 && inspection.report.error == 0)
        twl_report(&inspection.report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, rc,
                   "cannot look at the log: %s", twinlog_strerror(rc));
    *ret_inspection = inspection;
    return rc;
}
