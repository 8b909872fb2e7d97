/* SPDX-License-Identifier: Apache-2.0 */
/* What a trim would do: the log is looked at from outside, and the rules are those of the trim itself (log/trim.c). */
#include "check/check.h"

#include "log/log.h"
#include "set/segment_set.h"

#include <errno.h>

#define TRIES 100u

/* The newest record that a trim may remove. An error: the log could not be opened. */
static int find_durable(struct io *io, uint64_t *ret_lsn)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;
    struct io *again;

    int rc = io->ops->again(io, &again);
    if (rc == 0)
        rc = twl_inspect(again, &log);
    if (rc == 0)
        rc = log.report.error;

    /* Without a writer the log was synced, or it will be when it is opened. */
    *ret_lsn = log.last_lsn;
    if (log.has_writer)
        *ret_lsn = log.durable_lsn;
    return rc;
}

/* A trim beside it, or a truncation, may remove segments while they are looked at. */
static int plan_until_it_fits(struct io *io, const struct twinlog_trim_options *options,
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
    const int rc = plan_until_it_fits(io, options, ret_result);

    io->ops->destroy(io);
    return rc;
}
