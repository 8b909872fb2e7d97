/* SPDX-License-Identifier: Apache-2.0 */
/* See ladder.h. The linked form is not automatic because it was measured to be slower than a write that
 * carries its own sync: the kernel hands the fdatasync to another thread. */
#include "open/ladder.h"

const struct rung twl_ladder[LADDER_RUNGS] = {
    { TWINLOG_IO_URING, true, true, "io_uring, direct I/O" },
    { TWINLOG_IO_DSYNC, true, true, "RWF_DSYNC, direct I/O" },
    { TWINLOG_IO_FDATASYNC, true, true, "fdatasync, direct I/O" },
    { TWINLOG_IO_URING, false, true, "io_uring, buffered" },
    { TWINLOG_IO_DSYNC, false, true, "RWF_DSYNC, buffered" },
    { TWINLOG_IO_FDATASYNC, false, true, "fdatasync, buffered" },
    { TWINLOG_IO_URING_LINKED, true, false, "io_uring linked to fdatasync, direct I/O" },
    { TWINLOG_IO_URING_LINKED, false, false, "io_uring linked to fdatasync, buffered" },
};

int twl_ladder_create_io(const char *dir, enum twinlog_io kind, bool may_change, struct io **ret_io)
{
    switch (kind) {
    case TWINLOG_IO_URING:
        return may_change ? twl_io_uring_create_quicker(dir, ret_io)
                          : twl_io_uring_create(dir, false, ret_io);
    case TWINLOG_IO_URING_LINKED:
        return twl_io_uring_create(dir, true, ret_io);
    case TWINLOG_IO_FDATASYNC:
        return twl_io_posix_create(dir, false, ret_io);
    default:
        return twl_io_posix_create(dir, true, ret_io);
    }
}
