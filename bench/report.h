/* SPDX-License-Identifier: Apache-2.0 */
/* Figures for people (text, Markdown) and for programs (JSON, CSV). */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "machine.h"
#include "promise.h"
#include "series.h"

enum report_style {
    REPORT_TEXT,
    REPORT_MARKDOWN
};

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

void report_machine(FILE *file, enum report_style style, const struct report *report);
void report_series(FILE *file, enum report_style style, const struct series *series);
void report_verdicts(FILE *file, enum report_style style, const struct verdict *verdicts, size_t count);

/* Every round of every series. */
void report_json(FILE *file, const struct report *report);
/* One line for each contender and point: the medians. */
void report_csv(FILE *file, const struct report *report);

#endif
