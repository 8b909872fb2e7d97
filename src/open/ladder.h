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

struct file_system {
    unsigned long magic;
    const char *name;
    bool syncs_writes; /* a write that carries RWF_DSYNC reaches stable storage, without another call */
};
/* That of `dir`. NULL: none that is known, so nothing is known of its writes. */
const struct file_system *twl_file_system(const char *dir);
static inline bool syncs_writes(const struct file_system *fs)
{
    return fs && fs->syncs_writes;
}

/* `may_change`: pwritev2() instead of io_uring while that is quicker. -EOPNOTSUPP if nothing would sync in this file
 * system. */
int twl_ladder_create_io(const char *dir, enum twinlog_io kind, bool may_change, struct io **ret_io);

#endif
