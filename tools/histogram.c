/* SPDX-License-Identifier: Apache-2.0 */
/* Latencies counted in buckets. See histogram.h. */
#include "histogram.h"

#include <stddef.h>

/* A value keeps its six leading bits, the first of which is one; `shift` bits are dropped. */
static size_t bucket_of(uint64_t ns)
{
    unsigned shift = ns < 64 ? 0 : 58 - (unsigned)__builtin_clzll(ns);

    return 32 * (size_t)shift + (size_t)(ns >> shift);
}

static uint64_t largest_in(size_t bucket)
{
    unsigned shift = bucket < 64 ? 0 : (unsigned)(bucket / 32 - 1);

    return ((bucket - 32 * (uint64_t)shift + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->count++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
    histogram->buckets[bucket_of(ns)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    into->count += from->count;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

double histogram_us(const struct histogram *histogram, uint64_t permille)
{
    uint64_t wanted = (histogram->count * permille + 999) / 1000;
    uint64_t seen = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= wanted && seen)
            return (double)(largest_in(i) < histogram->max_ns ? largest_in(i) : histogram->max_ns) / 1000;
    }
    return 0;
}
