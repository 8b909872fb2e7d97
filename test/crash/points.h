/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The named places of src/base/point.h, what came of them, in memory that several processes share, and how a process
 * meets its fate at one.
 */
#ifndef TWL_CRASH_POINTS_H
#define TWL_CRASH_POINTS_H

#include "../sim/rng.h"

#include <stdatomic.h>
#include <sys/types.h>

#define POINTS_MAX 128u

/* The names are found by passing them. */
struct point {
    _Atomic(const char *) name;
    _Atomic uint64_t passed, died;
};

/* What is to become of a process, in memory that it shares with its judge. */
struct fate {
    const char *point; /* NULL: none */
    bool is_stop;      /* not death */
    _Atomic int32_t passes;
    _Atomic bool is_stopping; /* at a point, or the judge is about to stop it */
};

/* Before anything is passed: where it is noted. */
void watch_points(struct point points[POINTS_MAX]);
/* This process has a fate from now on. */
void face(struct fate *fate);

/* NULL: there are too many. */
struct point *find_point(const char *name);
/* One that somebody has passed already; NULL: nobody has passed any. */
struct point *choose_point(struct rng *rng);
/* How many died at one. */
uint64_t count_died(void);

/* ---- for the judge ------------------------------------------------------------------------------- */

/* Tells it to stop, unless it is about to. */
void make_stop(pid_t pid, struct fate *fate);
/* Until it is stopped, or dead: then false. */
bool await_stop(pid_t pid);
void let_go_on(pid_t pid, struct fate *fate);

#endif
