/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways a group can reach stable storage, best first: io_uring, pwritev2 with RWF_DSYNC, pwrite and
 * fdatasync, each with direct I/O and then without. Opening climbs down until one works; probing tries
 * them all.
 */
#ifndef TWL_LADDER_H
#define TWL_LADDER_H

#include "io/io.h"
#include "twinlog.h"

struct rung {
    enum twinlog_io io;
    bool is_direct;
    bool is_automatic; /* taken without being asked for */
    const char *name;
};

#define LADDER_RUNGS 8u
extern const struct rung twl_ladder[LADDER_RUNGS];

int twl_ladder_create_io(const char *dir, enum twinlog_io kind, struct io **ret_io);
/* For a log whose groups go through its committer's ring: it has none of its own for what is left. */
int twl_ladder_create_shared_io(const char *dir, enum twinlog_io kind, struct io **ret_io);

#endif
