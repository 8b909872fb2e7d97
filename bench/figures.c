/* SPDX-License-Identifier: Apache-2.0 */
/* The list of all figures, and the little arithmetic that is the same for each. */
#include "figures.h"

#include <math.h>
#include <stdlib.h>

#include "common.h"

#define FIELD(member) { #member, FIGURE(member) },
const struct figure_field figure_fields[] = { FIGURES(FIELD) };
const size_t figure_field_count = LENGTH(figure_fields);

struct figures figures_unknown(void)
{
    struct figures figures = { .all_rounds = NULL };

    for (size_t i = 0; i < LENGTH(figure_fields); i++)
        figure_set(&figures, figure_fields[i].offset, NAN);
    return figures;
}

double per(double value, double count)
{
    if (count > 0)
        return value / count;
    return NAN;
}

void figures_set_work(struct figures *figures, const struct work *work)
{
    figures->seconds = work->seconds;
    figures->appends = work->appends;
    figures->rate = per(work->appends, work->seconds);
    figures->put_rate = per(work->appends, work->put_seconds);
    figures->mb_per_s = NAN;
    if (work->bytes > 0)
        figures->mb_per_s = per(work->bytes / 1e6, work->seconds);
    figures->cpu_us_per_append = per(work->cpu_seconds * 1e6, work->appends);
}

/* NAN if there are fewer latencies than it takes for this percentile. */
static double percentile_us(const struct histogram *histogram, double part, uint64_t least_count)
{
    if (histogram->count < least_count)
        return NAN;
    return histogram_percentile(histogram, part) / 1e3;
}

void figures_set_latencies(struct figures *figures, const struct histogram *histogram)
{
    figures->mean_us = per((double)histogram->sum_ns, (double)histogram->count) / 1e3;
    figures->p50_us = percentile_us(histogram, 0.50, 1);
    figures->p99_us = percentile_us(histogram, 0.99, 100);
    figures->p999_us = percentile_us(histogram, 0.999, 1000);
    figures->max_us = NAN;
    if (histogram->count > 0)
        figures->max_us = (double)histogram->largest_ns / 1e3;
    figures->p99_over_p50 = per(figures->p99_us, figures->p50_us);

    if (figures->all_rounds)
        histogram_merge(figures->all_rounds, histogram);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double median_of(double *values, size_t count)
{
    size_t known = 0;

    for (size_t i = 0; i < count; i++) {
        if (!isnan(values[i]))
            values[known++] = values[i];
    }
    if (known == 0)
        return NAN;

    qsort(values, known, sizeof(*values), compare_doubles);
    const size_t middle = known / 2;
    const bool is_odd = known % 2 == 1;
    if (is_odd)
        return values[middle];
    return (values[middle - 1] + values[middle]) / 2;
}

/* As many values are below the median as a coin shows heads: at each end as many are left out as it shows heads with a
 * chance of 2.5 % at most. `chance` is that of just `out` heads, `below` that of `out` or fewer. */
void median_interval(const double *values, size_t count, double *ret_lowest, double *ret_highest)
{
    double chance = pow(0.5, (double)count), below = chance;
    size_t out = 0;

    *ret_lowest = NAN;
    *ret_highest = NAN;
    if (count == 0)
        return;

    for (;;) {
        const double next = chance * (double)(count - out) / (double)(out + 1);
        if (below + next > 0.025)
            break;
        chance = next;
        below += next;
        out++;
    }
    *ret_lowest = values[out];
    *ret_highest = values[count - 1 - out];
}
