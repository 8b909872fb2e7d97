/* SPDX-License-Identifier: Apache-2.0 */
/*
 * malloc and its kin, which the linker replaces by functions that count and, when told to, fail. What the C
 * library allocates for itself is not seen.
 */
#ifndef TWL_CRASH_ALLOCATOR_H
#define TWL_CRASH_ALLOCATOR_H

#include <stdbool.h>
#include <stdint.h>

/* From now on allocations of this thread are counted, or not. */
void allocator_count(bool is_counting);
/* Those that were, since the last call. */
uint64_t allocator_take_count(void);

/* The n-th allocation from now on fails, in whatever thread; 0 = none does. */
void allocator_fail_at(uint64_t n);
/* It has. */
bool allocator_has_failed(void);

/* Allocations and mappings that were not given back. */
int64_t allocator_live(void);

/* allocations_fail.c: makes each call with its first allocation failing, then with its second one, and so on. True if
 * each said so, or did its work all the same, and left nothing behind. */
bool fail_allocations(void);

#endif
