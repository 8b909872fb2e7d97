/* SPDX-License-Identifier: Apache-2.0 */
/* Values that are counted in the buckets of struct twinlog_histogram, as twinlog_admin.h describes them. */
#ifndef RAFT_HISTOGRAM_H
#define RAFT_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>
#include <twinlog_admin.h>

static inline size_t bucket_of(uint64_t value)
{
    if (value < 8)
        return value;

    const unsigned high = 63 - (unsigned)__builtin_clzll(value);
    const size_t bucket = 8 * (high - 2) + (value >> (high - 3) & 7);
    if (bucket < TWINLOG_BUCKETS)
        return bucket;
    return TWINLOG_BUCKETS - 1;
}

static inline void note_value(struct twinlog_histogram *histogram, uint64_t value)
{
    histogram->buckets[bucket_of(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max)
        histogram->max = value;
}

#endif
