/* SPDX-License-Identifier: Apache-2.0 */
/* All that writers and readers share: the newest durable LSN, in this process or in a shared page. */
#ifndef TWL_WATERMARK_H
#define TWL_WATERMARK_H

#include <stdatomic.h>
#include <stdint.h>

struct watermark {
    /* [atomic] `check` is the complement of `lsn`, so that a page which a power cut left half written is
     * never taken for a watermark. Only the leader stores, or each one raises it. */
    _Atomic uint64_t lsn;
    _Atomic uint64_t check;
};

static inline void watermark_store(struct watermark *watermark, uint64_t lsn)
{
    atomic_store_explicit(&watermark->lsn, lsn, memory_order_release);
    atomic_store_explicit(&watermark->check, ~lsn, memory_order_release);
}

/* For several who store. */
static inline void raise_u64(_Atomic uint64_t *at, uint64_t value)
{
    uint64_t old = atomic_load(at);
    while (old < value && !atomic_compare_exchange_weak(at, &old, value))
        continue;
}

/* Likewise: never lower than before. When the last of them is done the two words agree. */
static inline void watermark_raise(struct watermark *watermark, uint64_t lsn)
{
    raise_u64(&watermark->lsn, lsn);
    uint64_t old;
    do {
        old = atomic_load(&watermark->lsn);
        atomic_store(&watermark->check, ~old);
    } while (atomic_load(&watermark->lsn) != old);
}

/* What the log promises up to here is durable; what was written before is visible. */
static inline uint64_t watermark_load(const struct watermark *watermark)
{
    return atomic_load_explicit(&watermark->lsn, memory_order_acquire);
}

/* For a page that may hold anything: 0 unless both words agree. A store between the two loads makes
 * them differ; then the answer is that nothing is known yet, and the caller looks again later. */
static inline uint64_t watermark_load_checked(const struct watermark *watermark)
{
    uint64_t check = atomic_load_explicit(&watermark->check, memory_order_acquire);
    uint64_t lsn = atomic_load_explicit(&watermark->lsn, memory_order_acquire);
    return lsn == ~check ? lsn : 0;
}

/* For a page that a live writer has made, when the words don't come to agree: their writer was stopped between the two
 * stores. One of them is what it told before, and the smaller one is true in any case. */
static inline uint64_t watermark_load_least(const struct watermark *watermark)
{
    uint64_t check = atomic_load_explicit(&watermark->check, memory_order_acquire);
    uint64_t lsn = atomic_load_explicit(&watermark->lsn, memory_order_acquire);
    return lsn < ~check ? lsn : ~check;
}

#endif
