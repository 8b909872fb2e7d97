/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several contenders on several workloads, compared.
 *
 * The rounds are interleaved, A B C C B A B C A A C B, because a shared machine drifts, and because each leaves disk
 * and memory to the next in its own state: what is compared is always a few seconds apart, none always follows the
 * same one, and each is the first in its turn. A ratio is taken within each round first and the median of
 * those ratios is what is reported, which is steadier than the ratio of two medians.
 */
#ifndef SERIES_H
#define SERIES_H

#include <stdbool.h>
#include <stddef.h>

#include "round.h"
#include "study.h"

/* One contender at one point; its rounds, and the median of each figure over them. Mean latency, percentiles and
 * maximum are those of the appends of all rounds together: a maximum is the longest, and one in a thousand rests on all
 * there are. */
struct cell {
    struct contender contender;
    struct workload workload;
    void *stage; /* of a study; all cells of one workload share it */
    struct figures *rounds;
    struct histogram *latencies; /* of all rounds */
    struct figures median;
    double slowest, fastest; /* rates of rounds */
    double rate_spread;      /* their difference / median; NAN with one round */
    double
        ratio; /* rate against the baseline at the same point, of an open loop against what was wanted; NAN without */
};

struct series {
    const char *name;
    const char *title;
    const struct study *study; /* NULL: appends */
    struct limits limits;
    unsigned rounds;
    double rest_seconds; /* before each contender's turn */
    char baseline[64];   /* label of a contender, or empty */

    struct cell *cells; /* all contenders of the first workload, then of the second, ... */
    size_t cell_count, contender_count;
    unsigned rounds_done; /* fewer than `rounds` after an interrupt */
};

#define MAX_CONTENDERS 32
#define MAX_POINTS 64
/* What takes turns, at what points. */
struct plan {
    struct contender contenders[MAX_CONTENDERS];
    struct workload workloads[MAX_POINTS];
    size_t contender_count, workload_count;
};

/* A comma-separated list of names, "bdb", "twinlog:io=dsync:pad", into the plan; in contender.c. Variants of twinlog
 * start from `defaults`. Peers whose library was not there at build time are passed over with a note on stderr if
 * `is_lenient`; anything else unknown is an error, said on stderr. */
bool contenders_parse(const char *text, const struct twinlog_setup *defaults, bool is_lenient,
                      struct plan *plan);

/* The plan makes the cells. */
void series_prepare(struct series *series, const struct plan *plan);
/* Runs every round in fresh directories under `dir`. False when a contender failed; after an interrupt
 * true, with the rounds that were complete. */
bool series_run(struct series *series, const char *dir);
void series_destroy(struct series *series);

/* NULL if there is none. */
const struct cell *series_find(const struct series *series, const char *label,
                               const struct workload *workload);

/* Median over the rounds of a's figure divided by b's in the same round. */
double ratio_of(const struct series *series, const struct cell *a, const struct cell *b, size_t offset);

#endif
