/* SPDX-License-Identifier: Apache-2.0 */
/* The newest durable LSN, in this process or in a shared page. Writers and readers share nothing else. */
#ifndef TWL_WATERMARK_H
#define TWL_WATERMARK_H

#include <stdatomic.h>
#include <stdint.h>

struct watermark {
    /* [atomic] `check` is the complement of `lsn`, so a page that a power cut left half written is never taken
     * for a watermark. Either only the leader stores it, or all participants raise it. */
    _Atomic uint64_t lsn;
    _Atomic uint64_t check;
};

static inline void watermark_store(struct watermark *watermark, uint64_t lsn)
{
    atomic_store_explicit(&watermark->lsn, lsn, memory_order_release);
    atomic_store_explicit(&watermark->check, ~lsn, memory_order_release);
}

/* For several concurrent writers of the word. */
static inline void raise_u64(_Atomic uint64_t *at, uint64_t value)
{
    uint64_t old = atomic_load(at);
    while (old < value && !atomic_compare_exchange_weak(at, &old, value))
        continue;
}

/* For several concurrent callers: the watermark never becomes lower. When the last call returns, the two words
 * agree. */
static inline void watermark_raise(struct watermark *watermark, uint64_t lsn)
{
    raise_u64(&watermark->lsn, lsn);
    uint64_t old;
    do {
        old = atomic_load(&watermark->lsn);
        atomic_store(&watermark->check, ~old);
    } while (atomic_load(&watermark->lsn) != old);
}

/* All records up to this LSN are as durable as the log promises. Memory stored before the watermark is visible. */
static inline uint64_t watermark_load(const struct watermark *watermark)
{
    return atomic_load_explicit(&watermark->lsn, memory_order_acquire);
}

/* For a page that may hold anything: 0 unless both words agree. They also differ if a store comes between the two
 * loads; the caller then reads again later. */
static inline uint64_t watermark_load_checked(const struct watermark *watermark)
{
    uint64_t check = atomic_load_explicit(&watermark->check, memory_order_acquire);
    uint64_t lsn = atomic_load_explicit(&watermark->lsn, memory_order_acquire);
    return lsn == ~check ? lsn : 0;
}

/* For the page of a live writer, if its words stay different: the writer was stopped between the two stores. One word
 * is the previous watermark; the smaller one is true in any case. */
static inline uint64_t watermark_load_least(const struct watermark *watermark)
{
    uint64_t check = atomic_load_explicit(&watermark->check, memory_order_acquire);
    uint64_t lsn = atomic_load_explicit(&watermark->lsn, memory_order_acquire);
    return lsn < ~check ? lsn : ~check;
}

#endif
