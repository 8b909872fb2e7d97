/* SPDX-License-Identifier: Apache-2.0 */
/* Chance from a seed (SplitMix64): the same seed gives the same run on every machine. */
#ifndef TWL_POWERCUT_RNG_H
#define TWL_POWERCUT_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

static inline uint64_t rng_next(struct rng *rng)
{
    return rng_mix(rng->state += UINT64_C(0x9e3779b97f4a7c15));
}

/* 0 ... limit - 1 */
static inline uint64_t rng_below(struct rng *rng, uint64_t limit)
{
    return rng_next(rng) % limit;
}

/* true once in `n` */
static inline bool rng_one_in(struct rng *rng, uint64_t n)
{
    return rng_below(rng, n) == 0;
}

static inline void rng_fill(struct rng *rng, void *bytes, size_t size)
{
    unsigned char *to = bytes;
    while (size > 0) {
        const uint64_t word = rng_next(rng);
        const size_t part = size < sizeof(word) ? size : sizeof(word);
        memcpy(to, &word, part);
        to += part;
        size -= part;
    }
}

#endif
