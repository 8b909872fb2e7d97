/* SPDX-License-Identifier: Apache-2.0 */
/* Figures for people (Markdown) and for programs (JSON, CSV). */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "machine.h"
#include "promise.h"
#include "series.h"

/* Everything one invocation did. */
struct report {
    const char *command; /* as typed */
    const char *note;    /* the user's, for example a commit; may be NULL */
    struct machine machine;
    const struct series *series;
    size_t series_count;
    const struct verdict *verdicts;
    size_t verdict_count;
};

/* On stdout. */
void report_machine(const struct report *report);
void report_series(const struct series *series);
void report_verdicts(const struct report *report);

/* Every round of every series. */
void report_json(FILE *file, const struct report *report);
/* One line for each contender and point: the medians. */
void report_csv(FILE *file, const struct report *report);

#endif
