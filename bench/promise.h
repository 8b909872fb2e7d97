/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The performance targets the project holds itself to, as data: what is run, and what must come out.
 * bench/README.md has the same table in words.
 */
#ifndef PROMISE_H
#define PROMISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "series.h"

enum check_kind {
    CHECK_NONE = 0,
    CHECK_AGAINST,  /* twinlog's figure / the best of `against` in the same round >= target, at each point */
    CHECK_WITHIN,   /* the same <= target, and the best is the smallest */
    CHECK_AT_LEAST, /* twinlog's figure >= target at each point */
    CHECK_LAST_TO_FIRST, /* twinlog's figure with the last thread count / with the first >= target */
    CHECK_AT_MOST,       /* twinlog's figure <= target at each point */
};

struct check {
    enum check_kind kind;
    const char *what;    /* in the report */
    const char *against; /* comma-separated labels, for CHECK_AGAINST */
    size_t figure;       /* offset in struct figures */
    double target;
    const char *ours; /* label; NULL = the first contender */
    const char *size; /* at this point only; NULL = at each */
};

#define MAX_CHECKS 11
struct promise {
    const char *name;
    const char *work;
    const char *threads, *size;   /* as on the command line; NULL: 1 thread, 128 bytes */
    const char *contenders;       /* twinlog is the first; NULL in a study */
    const struct study *study;    /* NULL: appends */
    struct limits limits;         /* all of them 0: a second, behind 0.2 of warm-up */
    struct twinlog_setup twinlog; /* what is not 0 is the default here */
    double rest_seconds;          /* as in struct series */
    bool is_heavy;                /* writes gigabytes */
    unsigned judged_threads;      /* the checks are about this number of threads only; 0 = about each */
    struct check checks[MAX_CHECKS];
};

extern const struct promise promises[];
extern const size_t promise_count;

size_t promise_check_count(const struct promise *promise);

struct verdict {
    const char *series;
    const char *what;
    struct workload workload;
    const struct study *study; /* NULL: appends */
    double target;             /* a ratio to reach, or a figure not to exceed */
    double reached;            /* the ratio or figure of this run; NAN if it could not be measured */
    double lowest, highest;    /* median_interval() of the rounds around it */
    double ours, theirs;       /* medians behind a ratio; NAN for a plain figure */
    char rival[64];            /* the best of `against`, by median */
    bool is_limit;             /* reached must not be above the target, else not below */
    bool is_met, is_missed;    /* by the whole interval; neither: undecided, or not measured */
};

/* Adds to `verdicts`, at most one for each check and point; returns how many. */
size_t promise_judge(const struct promise *promise, const struct series *series, struct verdict *verdicts,
                     size_t capacity);

#endif
