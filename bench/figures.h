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
#define FIGURES(DO)                                                                                          \
    DO(seconds)                                                                                              \
    DO(appends)                                                                                              \
    DO(rate)                                                                                                 \
    DO(wanted_rate) /* of an open loop */                                                                    \
    DO(mb_per_s)                                                                                             \
    DO(mean_us)                                                                                              \
    DO(p50_us)                                                                                               \
    DO(p99_us)                                                                                               \
    DO(p999_us)                                                                                              \
    DO(max_us)                                                                                               \
    DO(p99_over_p50)                                                                                         \
    DO(cpu_us_per_append) /* user and system, the whole process */                                           \
    DO(user_us_per_append)                                                                                   \
    DO(switches_per_append) /* of a processor from one thread of the process to another one */               \
    DO(appends_per_sync)                                                                                     \
    DO(flushes_per_append) /* requests to flush that the whole device completed */                           \
    DO(put_rate)           /* without opening and closing */                                                 \
    DO(writer_p50_us)      /* in studies of readers: from the call of append to its return */

struct figures {
#define DECLARE(name) double name;
    FIGURES(DECLARE)
#undef DECLARE
    struct histogram *all_rounds; /* NULL, or where the latencies of each round are added */
};
#define FIGURE(member) offsetof(struct figures, member)

struct figures figures_unknown(void); /* all NAN */

/* What was done while the clock ran. */
struct work {
    double seconds, appends;
    double bytes; /* of payload; 0: not known */
    double cpu_seconds;
    double put_seconds; /* without opening and closing; 0: not known */
};
/* Rates, and the processor time of one append. */
void figures_set_work(struct figures *figures, const struct work *work);

/* Mean, percentiles and largest; adds to all_rounds. Of fewer than 100 latencies there is no p99, of fewer than 1,000
 * no p99.9. */
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
