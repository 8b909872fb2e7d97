/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latencies counted in buckets: exact below 64 ns, above that 32 buckets for each power of two, so a
 * percentile is at most 3.2 % too large. Each thread needs a histogram of its own; merge them afterwards.
 */
#ifndef TOOLS_HISTOGRAM_H
#define TOOLS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS (32 * 60)

struct histogram {
    uint64_t count;
    uint64_t max_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The latency that `permille` thousandths of the values do not exceed, in microseconds. */
double histogram_us(const struct histogram *histogram, uint64_t permille);

#endif
