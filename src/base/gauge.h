/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram that any thread may add to, without a lock.
 *
 * The buckets are those of struct twinlog_histogram. How many values there are is the sum of the buckets, so that
 * adding one changes no word more than it must. A concurrent reader may see a value in a bucket and not yet in the sum.
 */
#ifndef TWL_GAUGE_H
#define TWL_GAUGE_H

#include "twinlog_admin.h"

#include <stdatomic.h>

#define SAMPLE_SLOTS 32u
#define MOST_SAMPLED 4u /* gauges */

struct gauge {
    _Atomic uint64_t sum, max;
    _Atomic uint64_t buckets[TWINLOG_BUCKETS];
};

void twl_gauge_add(struct gauge *gauge, uint64_t value);
/* The same for a gauge that one thread at a time adds to: the leader. Others may read it. */
void twl_gauge_add_alone(struct gauge *gauge, uint64_t value);

/* For a counter that only one thread at a time adds to, and others read: a plain addition, with no locked
 * instruction. */
static inline void add_alone(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}
/* The same for a value that is set. */
static inline void set_alone(_Atomic uint64_t *value, uint64_t to)
{
    atomic_store_explicit(value, to, memory_order_relaxed);
}
/* Values on their way to some gauges: threads that must not touch those put values here, and the thread that may add to
 * the gauges takes them. A value that finds no room is dropped: they are samples. */
struct samples {
    _Atomic uint32_t has_some;
    _Atomic uint64_t slots[SAMPLE_SLOTS]; /* 0 = empty */
};
void twl_samples_put(struct samples *samples, unsigned gauge, uint64_t value);
/* By one thread at a time, that of twl_gauge_add_alone(). */
void twl_samples_take(struct samples *samples, struct gauge *const gauges[MOST_SAMPLED]);
/* Adds what is still on its way to one of the gauges. */
void twl_samples_read(const struct samples *samples, unsigned gauge, struct twinlog_histogram *histogram);

void twl_gauge_read(const struct gauge *gauge, struct twinlog_histogram *ret_histogram);

#endif
