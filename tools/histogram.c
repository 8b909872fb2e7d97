/* SPDX-License-Identifier: Apache-2.0 */
/* The buckets of histogram.h. A value's bucket is its six bits below the leading one, and how far they
 * had to be shifted down. */
#include "histogram.h"

#include <string.h>

_Static_assert(HISTOGRAM_STEPS == 1u << 6, "the shift below counts on six bits a doubling");

static unsigned bucket_of(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS)
        return (unsigned)ns;

    unsigned top_bit = 63u - (unsigned)__builtin_clzll(ns);
    if (top_bit > HISTOGRAM_TOP_BIT)
        return HISTOGRAM_BUCKETS - 1;

    unsigned shift = top_bit - 6;
    return shift * HISTOGRAM_STEPS + (unsigned)(ns >> shift);
}

static double middle_of(unsigned bucket)
{
    if (bucket < 2 * HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t lowest = (uint64_t)(bucket - shift * HISTOGRAM_STEPS) << shift;
    return (double)lowest + (double)((UINT64_C(1) << shift) - 1) / 2;
}

void histogram_reset(struct histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->buckets[bucket_of(ns)]++;
    histogram->count++;
    histogram->sum_ns += ns;
    if (ns > histogram->largest_ns)
        histogram->largest_ns = ns;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    if (from->largest_ns > into->largest_ns)
        into->largest_ns = from->largest_ns;
}

double histogram_percentile(const struct histogram *histogram, double share)
{
    const double wanted = share * (double)histogram->count, largest = (double)histogram->largest_ns;
    uint64_t below = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        below += histogram->buckets[i];
        if ((double)below < wanted || below == 0)
            continue;

        const double middle = middle_of(i);
        if (middle < largest)
            return middle;
        return largest;
    }

    return 0;
}
