/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Latencies counted in buckets that grow with the value: exact below 64 ns, and from there 64 buckets
 * for each doubling, so a percentile is off by less than 0.8 %. A fixed size, no allocation: every
 * thread has its own and they are merged when the clock has stopped. The largest value and the sum are
 * exact. twinlog-bench counts in it, too.
 */
#ifndef TOOLS_HISTOGRAM_H
#define TOOLS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 64u   /* buckets for each doubling */
#define HISTOGRAM_TOP_BIT 40u /* 2^41 ns are 36 minutes; what is longer counts in the last bucket */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_TOP_BIT - 6u + 2u) * HISTOGRAM_STEPS)

struct histogram {
    uint64_t count;
    uint64_t largest_ns, sum_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_reset(struct histogram *histogram); /* or all of its bytes are 0 */
void histogram_add(struct histogram *histogram, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The smallest value that at least `share` (0 to 1) of all values do not exceed; 0 when empty. */
double histogram_percentile(const struct histogram *histogram, double share);

#endif
