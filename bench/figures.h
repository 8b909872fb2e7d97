/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one turn of a contender found. All figures are doubles, NAN where one could not be known or means
 * nothing, so that medians, ratios and reports treat them alike.
 */
#ifndef FIGURES_H
#define FIGURES_H

#include <stdbool.h>
#include <stddef.h>

#include "../tools/histogram.h"

/* In a study an "append" is whatever it counts: a record that was read, an opening. */
struct figures {
    double seconds, appends, rate, mb_per_s;
    double mean_us, p50_us, p99_us, p999_us, max_us;
    double p99_over_p50;
    double cpu_us_per_append; /* user and system, the whole process */
    double user_us_per_append;
    double switches_per_append; /* of a processor from one thread of the process to another one */
    double appends_per_sync;
    double framing_per_append; /* bytes of headers and alignment beside the payload, since open */
    double record_overhead;    /* the same less 64 for each sync */
    double rewrite_per_sync;   /* bytes written beside the framed records, since open */
    double rolls, roll_waits;
    double recycled;                 /* segments begun in the file of an old one */
    double device_bytes_per_written; /* bytes the whole device wrote for each one handed to it for groups */
    double device_writes_per_sync;   /* requests to write that reached the device */
    double flushes_per_append;       /* requests to flush that the whole device completed */
    double resident_growth;          /* bytes, largest seen, against the moment before open */
    double allocations_per_append;   /* heap, the whole process */
    double put_rate;                 /* without opening and closing */
    double writer_p50_us;            /* in studies of readers: from the call of append to its return */
};

struct figures figures_unknown(void); /* all NAN */
/* To add turns to: no time, no calls and no processor time yet, the rest NAN. */
struct figures figures_begin(void);

/* Mean, percentiles and largest. */
void figures_set_latencies(struct figures *figures, const struct histogram *histogram);

/* ---- by name and place ------------------------------------------------------------------------- */

struct figure_field {
    const char *name; /* in JSON */
    size_t offset;
};
extern const struct figure_field figure_fields[];
extern const size_t figure_field_count;

static inline double figure_get(const struct figures *figures, size_t offset)
{
    return *(const double *)((const char *)figures + offset);
}
static inline void figure_set(struct figures *figures, size_t offset, double value)
{
    *(double *)((char *)figures + offset) = value;
}

/* Of those that are not NAN; NAN if none is. Sorts `values`. */
double median_of(double *values, size_t count);
/* Between these the median is with at least 95 % certainty, by the order of the values alone; with fewer than 6 values,
 * the smallest and the largest. `values` are sorted and none is NAN. */
void median_interval(const double *values, size_t count, double *ret_lowest, double *ret_highest);

/* value / count, NAN for nothing. */
double per(double value, double count);

#endif
