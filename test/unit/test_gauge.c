/* SPDX-License-Identifier: Apache-2.0 */
/* Gauges: buckets and quantiles. */
#include "base/gauge.h"
#include "base/statistics.h"

#include "../sim/rng.h"
#include "logdir.h"
#include "suites.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

static struct twinlog_histogram read_gauge(const struct gauge *gauge)
{
    struct twinlog_histogram histogram;

    twl_gauge_read(gauge, &histogram);
    return histogram;
}

/* The buckets as the header describes them, one behind the other. */
static uint64_t bucket_start(unsigned bucket)
{
    return bucket < 8 ? bucket : (uint64_t)(8 + bucket % 8) << (bucket / 8 - 1);
}

CASE("gauge", NULL, NULL);

TEST(every_boundary_of_a_bucket_is_where_the_header_says)
{
    for (unsigned bucket = 0; bucket + 1 < TWINLOG_BUCKETS; bucket++) {
        struct gauge gauge = { 0 };
        const uint64_t start = bucket_start(bucket), end = bucket_start(bucket + 1) - 1;
        ck_assert_uint_ge(end, start);
        ck_assert(bucket < 8 ? end == start : (end - start + 1) * 8 <= start);
        twl_gauge_add(&gauge, start);
        twl_gauge_add(&gauge, end);
        const struct twinlog_histogram histogram = read_gauge(&gauge);
        ck_assert_uint_eq(histogram.buckets[bucket], 2);
        ck_assert_uint_eq(histogram.count, 2);
        ck_assert_uint_eq(histogram.max, end);
        ck_assert_uint_eq(histogram.sum, start + end);
        ck_assert_uint_eq(twinlog_quantile(&histogram, 1), end);
    }
}

TEST(what_is_larger_than_all_buckets_is_in_the_last_one)
{
    struct gauge gauge = { 0 };

    twl_gauge_add(&gauge, bucket_start(TWINLOG_BUCKETS - 1));
    twl_gauge_add(&gauge, UINT64_MAX / 2);
    twl_gauge_add(&gauge, UINT64_MAX);
    const struct twinlog_histogram histogram = read_gauge(&gauge);
    ck_assert_uint_eq(histogram.buckets[TWINLOG_BUCKETS - 1], 3);
    ck_assert_uint_eq(histogram.max, UINT64_MAX);
    ck_assert_uint_eq(twinlog_quantile(&histogram, 0.5), UINT64_MAX);
}

static int compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

#define VALUES 5000u

/* The smallest value that at least q * VALUES of them do not exceed. */
static uint64_t exact_quantile(const uint64_t *sorted, double q)
{
    size_t rank = 1;

    while ((double)rank < q * VALUES)
        rank++;
    return sorted[rank - 1];
}

TEST(a_quantile_is_the_exact_one_to_an_eighth)
{
    static const double qs[] = { 0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 };
    static uint64_t values[VALUES];
    struct rng rng = { test_seed() };

    for (unsigned round = 0; round < 40; round++) {
        struct gauge gauge = { 0 };
        const unsigned most_bits = 3 + round; /* the last bucket begins with 41 bits */
        for (unsigned i = 0; i < VALUES; i++) {
            values[i] = rng_next(&rng) >> (64 - most_bits + rng_below(&rng, most_bits));
            if (most_bits > 41)
                values[i] >>= most_bits - 41;
            twl_gauge_add(&gauge, values[i]);
        }
        qsort(values, VALUES, sizeof(values[0]), compare);
        const struct twinlog_histogram histogram = read_gauge(&gauge);
        for (unsigned i = 0; i < sizeof(qs) / sizeof(qs[0]); i++) {
            const uint64_t exact = exact_quantile(values, qs[i]);
            const uint64_t got = twinlog_quantile(&histogram, qs[i]);
            ck_assert_uint_ge(got, exact);
            ck_assert_uint_le(got, exact + exact / 8);
            ck_assert_uint_le(got, values[VALUES - 1]);
        }
        ck_assert_uint_eq(twinlog_quantile(&histogram, 1), values[VALUES - 1]);
        ck_assert_uint_eq(twinlog_quantile(&histogram, 2), values[VALUES - 1]);
        ck_assert_uint_eq(twinlog_quantile(&histogram, -1), twinlog_quantile(&histogram, 0));
    }
}

TEST(nothing_has_no_quantile)
{
    static const struct twinlog_histogram empty;
    ck_assert_uint_eq(twinlog_quantile(&empty, 0.5), 0);
    ck_assert_uint_eq(twinlog_quantile(NULL, 0.5), 0);
}

#define ADDERS 4u
#define ADDS 50000u
static struct gauge crowded;

static void *add_many(void *argument)
{
    for (uint64_t i = 0; i < ADDS; i++)
        twl_gauge_add(&crowded, i * ADDERS + (uintptr_t)argument);
    return NULL;
}

TEST(threads_lose_no_value_to_each_other)
{
    pthread_t thread[ADDERS];
    const uint64_t total = (uint64_t)ADDERS * ADDS;
    uint64_t in_buckets = 0;

    for (uintptr_t i = 0; i < ADDERS; i++)
        thread[i] = start_thread(add_many, (void *)i);
    for (unsigned i = 0; i < ADDERS; i++)
        pthread_join(thread[i], NULL);
    const struct twinlog_histogram histogram = read_gauge(&crowded);
    for (unsigned i = 0; i < TWINLOG_BUCKETS; i++)
        in_buckets += histogram.buckets[i];
    ck_assert_uint_eq(histogram.count, total);
    ck_assert_uint_eq(in_buckets, total);
    ck_assert_uint_eq(histogram.max, total - 1);
    ck_assert_uint_eq(histogram.sum, total * (total - 1) / 2);
}

/* An idle log never makes its page dirty, and its keeper never waits for a frozen disk. */
TEST(counters_that_have_not_changed_are_not_stored)
{
    const size_t bytes = 65536;
    const struct counters own = { .segments = 3, .file_bytes = 4096, .trim_failures = 1 };
    struct statistics *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(page, MAP_FAILED);
    ck_assert_uint_le(sizeof(*page), bytes);
    twl_counters_tell(&own, page);
    ck_assert_uint_eq(atomic_load(&page->counters.file_bytes), 4096);

    ck_assert_int_eq(mprotect(page, bytes, PROT_READ), 0); /* a store is a signal now */
    twl_counters_tell(&own, page);
    munmap(page, bytes);
}
