/* SPDX-License-Identifier: Apache-2.0 */
/* A log seen from outside: what is there, who writes it, what opening it would find. */
#include "log/log.h"

#include "segment/live.h"
#include "segment/recover.h"

#include <errno.h>
#include <string.h>

static int look(struct io *io, struct live *live, struct twinlog_inspection *ret)
{
    struct segment_set set = { 0 };
    struct recovery recovery;
    const struct segment_set_options options = { .open_flags = IO_READ_ONLY };
    bool has_writer;
    int rc = twl_live_has_writer(live, &has_writer);
    if (rc < 0)
        return rc;
    rc = twl_segment_set_load(io, &options, &set, &ret->report);
    if (rc < 0)
        return rc;
    if (set.count == 0) {
        twl_segment_set_free(&set);
        twl_report(&ret->report, TWINLOG_FOUND_NOTHING, TWINLOG_DID_NOTHING, -ENOENT,
                   "there is no log in this directory; append to it first");
        return -ENOENT;
    }
    uint64_t durable_lsn = has_writer ? twl_live_durable_lsn(live) : 0;
    rc = twl_recover(io, &set, &recovery);
    if (rc == TWINLOG_ECORRUPT && has_writer && recovery.position.next_lsn > durable_lsn) {
        /* the writer went on between the walk and the search behind it */
        twl_report(&recovery.report, TWINLOG_FOUND_CLEAN_END, TWINLOG_DID_NOTHING, 0,
                   "the log is being written");
        rc = 0;
    }
    ret->report = recovery.report;
    ret->has_writer = has_writer;
    ret->epoch = recovery.position.epoch.number;
    memcpy(ret->log_id, set.entries[0].header.log_id, sizeof(ret->log_id));
    for (size_t i = 0; i < set.count; i++) {
        ret->file_bytes += set.entries[i].header.bytes;
        if (i <= recovery.index)
            ret->segments++;
        else
            ret->spare_segments++;
    }
    ret->last_lsn = recovery.position.next_lsn - 1;
    ret->durable_lsn = recovery.marked_lsn;
    if (has_writer) {
        ret->durable_lsn = max_u64(ret->durable_lsn, durable_lsn);
        ret->last_lsn = ret->durable_lsn;
    }
    if (ret->last_lsn > 0)
        ret->first_lsn = max_u64(set.entries[0].first_lsn, 1);
    twl_segment_set_free(&set);
    /* damage is what was found, not a failure to look */
    return rc == TWINLOG_ECORRUPT ? 0 : rc;
}

int twl_inspect(struct io *io, struct twinlog_inspection *ret_inspection)
{
    struct twinlog_inspection inspection = { .size = ret_inspection->size };
    struct live live;
    int rc = twl_live_watch(io, &live);
    if (rc == 0) {
        rc = look(io, &live, &inspection);
        twl_live_unwatch(&live);
    }
    io->ops->destroy(io);
    if (rc < 0 && inspection.report.error == 0)
        twl_report(&inspection.report, TWINLOG_FOUND_SYSTEM_ERROR, TWINLOG_DID_NOTHING, rc,
                   "cannot look at the log: %s", twinlog_strerror(rc));
    *ret_inspection = inspection;
    return rc;
}
