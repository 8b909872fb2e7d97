/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O paths by which a group can reach stable storage. First come the automatic ones, best first: io_uring,
 * pwritev2 with RWF_DSYNC, pwrite and fdatasync, all with direct I/O, then all without. Opening takes the first
 * that works; probing tries them all. Where io_uring works, a log may change to pwritev2 and back while it is open.
 */
#ifndef TWL_LADDER_H
#define TWL_LADDER_H

#include "io/io.h"
#include "twinlog.h"

struct rung {
    enum twinlog_io io;
    bool is_direct;
    bool is_automatic; /* tried for TWINLOG_IO_AUTO */
    const char *name;
};

#define LADDER_RUNGS 8u
extern const struct rung twl_ladder[LADDER_RUNGS];

/* Does a write that carries RWF_DSYNC reach stable storage in the file system of `dir`, without another call? True
 * only for file systems of which it is known. */
bool twl_ladder_syncs_writes(const char *dir);

/* `may_change`: pwritev2() instead of io_uring while that is quicker. -EOPNOTSUPP if nothing would sync in this file
 * system. */
int twl_ladder_create_io(const char *dir, enum twinlog_io kind, bool may_change, struct io **ret_io);

#endif
