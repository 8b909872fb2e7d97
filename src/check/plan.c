/* SPDX-License-Identifier: Apache-2.0 */
/* What a trim would do, found without being the writer of the log, which may go on meanwhile. The rules are those of
 * the trim itself (log/trim.c). */
#include "check/check.h"

#include "log/log.h"
#include "set/segment_set.h"

#include <errno.h>

#define TRIES 100u

/* The newest durable record: no trim removes a later one. An error also if the log could be looked at, and not
 * opened. */
static int find_durable(struct io *io, uint64_t *ret_lsn)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;
    struct io *again;

    int rc = io->ops->again(io, &again);
    if (rc == 0)
        rc = twl_inspect(again, &log);
    if (rc == 0)
        rc = log.report.error;

    /* Without a writer all of it counts: an opening makes it durable. */
    *ret_lsn = log.last_lsn;
    if (log.has_writer)
        *ret_lsn = log.durable_lsn;
    return rc;
}

/* A trim by the writer, or a truncation, may remove segments while they are looked at. Then all is looked at again. */
static int plan_with_retries(struct io *io, const struct twinlog_trim_options *options,
                             struct twinlog_trim_result *ret_result)
{
    for (unsigned tries = 0; tries < TRIES; tries++) {
        uint64_t durable_lsn;

        int rc = find_durable(io, &durable_lsn);
        if (rc < 0)
            return rc;

        rc = twl_trim_plan(io, options, durable_lsn, ret_result);
        if (!twl_set_may_be_moving(rc))
            return rc;
    }
    return -EBUSY;
}

int twl_plan_trim(struct io *io, const struct twinlog_trim_options *options,
                  struct twinlog_trim_result *ret_result)
{
    const int rc = plan_with_retries(io, options, ret_result);

    io->ops->destroy(io);
    return rc;
}
