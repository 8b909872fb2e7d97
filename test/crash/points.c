/* SPDX-License-Identifier: Apache-2.0 */
/* See points.h. */
#include "points.h"

#include <inttypes.h>
#include <stdio.h>

struct point *find_point(struct point points[POINTS_MAX], const char *name)
{
    for (struct point *point = points; point < points + POINTS_MAX; point++) {
        const char *there = NULL;

        if (atomic_load(&point->name) == name || atomic_compare_exchange_strong(&point->name, &there, name) ||
            strcmp(there, name) == 0)
            return point;
    }
    return NULL;
}

struct point *choose_point(struct point points[POINTS_MAX], struct rng *rng)
{
    unsigned known = 0;

    while (known < POINTS_MAX && atomic_load(&points[known].name))
        known++;
    return known > 0 ? &points[rng_below(rng, known)] : NULL;
}

void list_points(const struct point points[POINTS_MAX])
{
    for (const struct point *point = points; point < points + POINTS_MAX; point++)
        if (atomic_load(&point->name))
            printf("  %-20s passed %9" PRIu64 ", died %5" PRIu64 ", stopped %5" PRIu64 "\n",
                   atomic_load(&point->name), atomic_load(&point->passed), atomic_load(&point->died),
                   atomic_load(&point->stopped));
}
