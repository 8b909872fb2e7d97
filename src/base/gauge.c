/* SPDX-License-Identifier: Apache-2.0 */
#include "base/gauge.h"

#include <stdbool.h>

/* The first eight buckets hold one value each; then each power of two has eight buckets. */
static unsigned bucket_of(uint64_t value)
{
    if (value < 8)
        return (unsigned)value;

    const unsigned highest = 63u - (unsigned)__builtin_clzll(value);
    const unsigned bucket = 8 * (highest - 2) + (unsigned)(value >> (highest - 3) & 7);
    return bucket < TWINLOG_BUCKETS ? bucket : TWINLOG_BUCKETS - 1;
}

/* The largest value that is counted in the bucket. */
static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < 8)
        return bucket;
    unsigned highest = bucket / 8 + 2;
    return ((uint64_t)(8 + bucket % 8 + 1) << (highest - 3)) - 1;
}

void twl_gauge_add(struct gauge *gauge, uint64_t value)
{
    atomic_fetch_add_explicit(&gauge->sum, value, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauge->buckets[bucket_of(value)], 1, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&gauge->max, memory_order_relaxed);
    while (value > max && !atomic_compare_exchange_weak_explicit(&gauge->max, &max, value,
                                                                 memory_order_relaxed, memory_order_relaxed))
        continue;
}

void twl_gauge_add_alone(struct gauge *gauge, uint64_t value)
{
    add_alone(&gauge->sum, value);
    add_alone(&gauge->buckets[bucket_of(value)], 1);
    if (value > atomic_load_explicit(&gauge->max, memory_order_relaxed))
        atomic_store_explicit(&gauge->max, value, memory_order_relaxed);
}

/* A slot holds the value, the gauge, and a bit that says so. */
static uint64_t sample_of(unsigned gauge, uint64_t value)
{
    return value << 3 | gauge << 1 | 1;
}

static unsigned gauge_of(uint64_t sample)
{
    return sample >> 1 & (MOST_SAMPLED - 1);
}

void twl_samples_put(struct samples *samples, unsigned gauge, uint64_t value)
{
    const uint64_t sample = sample_of(gauge, value);
    bool is_put = false;

    for (unsigned i = 0; i < SAMPLE_SLOTS && !is_put; i++) {
        uint64_t found = atomic_load_explicit(&samples->slots[i], memory_order_relaxed);
        const bool is_empty = found == 0;
        is_put = is_empty && atomic_compare_exchange_strong(&samples->slots[i], &found, sample);
    }
    /* if the one that takes them overwrites this, it finds the sample with the next one */
    atomic_store_explicit(&samples->has_some, 1, memory_order_release);
}

void twl_samples_take(struct samples *samples, struct gauge *const gauges[MOST_SAMPLED])
{
    if (atomic_load_explicit(&samples->has_some, memory_order_relaxed) == 0)
        return;
    atomic_store_explicit(&samples->has_some, 0, memory_order_relaxed);
    for (unsigned i = 0; i < SAMPLE_SLOTS; i++) {
        const uint64_t sample = atomic_load_explicit(&samples->slots[i], memory_order_acquire);
        if (sample == 0)
            continue;
        /* nobody else changes a full one */
        atomic_store_explicit(&samples->slots[i], 0, memory_order_release);
        twl_gauge_add_alone(gauges[gauge_of(sample)], sample >> 3);
    }
}

void twl_samples_read(const struct samples *samples, unsigned gauge, struct twinlog_histogram *histogram)
{
    for (unsigned i = 0; i < SAMPLE_SLOTS; i++) {
        const uint64_t sample = atomic_load(&samples->slots[i]), value = sample >> 3;
        if (sample == 0 || gauge_of(sample) != gauge)
            continue;

        histogram->count++;
        histogram->sum += value;
        if (value > histogram->max)
            histogram->max = value;
        histogram->buckets[bucket_of(value)]++;
    }
}

void twl_gauge_read(const struct gauge *gauge, struct twinlog_histogram *ret_histogram)
{
    ret_histogram->count = 0;
    ret_histogram->sum = atomic_load_explicit(&gauge->sum, memory_order_relaxed);
    ret_histogram->max = atomic_load_explicit(&gauge->max, memory_order_relaxed);
    for (unsigned i = 0; i < TWINLOG_BUCKETS; i++) {
        ret_histogram->buckets[i] = atomic_load_explicit(&gauge->buckets[i], memory_order_relaxed);
        ret_histogram->count += ret_histogram->buckets[i];
    }
}

/* How many of `total` values are at most the quantile. */
static double rank_of(double q, uint64_t total)
{
    if (q < 0)
        return 0;
    if (q > 1)
        return (double)total;
    return q * (double)total;
}

/* The last bucket has no end, and in others the largest value may be below it. */
static uint64_t most_in_bucket(const struct twinlog_histogram *histogram, unsigned bucket)
{
    if (bucket == TWINLOG_BUCKETS - 1)
        return histogram->max;
    return bucket_end(bucket) < histogram->max ? bucket_end(bucket) : histogram->max;
}

uint64_t twinlog_quantile(const struct twinlog_histogram *histogram, double q)
{
    uint64_t total = 0, seen = 0;

    if (!histogram)
        return 0;
    for (unsigned i = 0; i < TWINLOG_BUCKETS; i++)
        total += histogram->buckets[i];

    const double wanted = rank_of(q, total);
    for (unsigned i = 0; i < TWINLOG_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted)
            return most_in_bucket(histogram, i);
    }
    return 0;
}
