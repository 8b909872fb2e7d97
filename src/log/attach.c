/* SPDX-License-Identifier: Apache-2.0 */
/* Readers of an open log, inside the process. */
#include "base/versioned.h"
#include "log/handle.h"

#include <errno.h>

static int copy_set(void *context, struct segment_set *ret_set)
{
    struct twinlog *log = context;
    int rc = twl_keeper_set(log->keeper, ret_set);
    if (rc == 0)
        ret_set->first_lsn = atomic_load(&log->first_lsn);
    return rc;
}

int twl_attach_reader(struct twinlog *log, const struct twinlog_reader_options *options,
                      struct twinlog_reader **ret_reader)
{
    if (log->keeper) {
        const struct reader_source source = {
            .io = log->io, .shared = log->shared, .set = copy_set, .context = log
        };
        return twl_reader_attach(&source, options, ret_reader);
    }
    struct io *io;
    int rc = log->io->ops->again(log->io, &io);
    return rc < 0 ? rc : twl_reader_open(io, options, ret_reader);
}

int twinlog_reader_attach(struct twinlog *log, const struct twinlog_reader_options *options,
                          struct twinlog_reader **ret_reader)
{
    struct twinlog_reader_options own;
    if (!ret_reader || twl_versioned_take(&own, sizeof(own), options) < 0 ||
        (own.flags & ~(uint32_t)TWINLOG_READER_MMAP))
        return -EINVAL;
    struct call call;
    int rc = twl_enter(log, INSIDE_OTHER, &call);
    if (rc < 0)
        return rc;
    rc = twl_attach_reader(log, &own, ret_reader);
    if (rc == 0)
        twl_reader_count(*ret_reader, &log->readers);
    twl_leave(&call);
    return rc;
}
