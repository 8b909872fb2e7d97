/* SPDX-License-Identifier: Apache-2.0 */
/* The named places of src/base/point.h, and what came of them, in memory that several processes share. */
#ifndef TWL_CRASH_POINTS_H
#define TWL_CRASH_POINTS_H

#include "../sim/rng.h"

#include <stdatomic.h>

#define POINTS_MAX 64u

/* The names are found by passing them. */
struct point {
    _Atomic(const char *) name;
    _Atomic uint64_t passed, died, stopped;
};

/* NULL: there are too many. */
struct point *find_point(struct point points[POINTS_MAX], const char *name);
/* One that somebody has passed already; NULL: nobody has passed any. */
struct point *choose_point(struct point points[POINTS_MAX], struct rng *rng);
void list_points(const struct point points[POINTS_MAX]);

#endif
