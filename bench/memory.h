/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of this process: pages that are resident, and how often anything in it asked for heap. */
#ifndef MEMORY_H
#define MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes resident now, counted from the page tables; NAN where the kernel has no smaps_rollup. The
 * counters in /proc/self/statm are cheaper but may be off by a MiB. */
double memory_resident_bytes(void);

/* malloc, calloc, realloc and aligned allocations by any library of the process, between the two
 * calls. Only with glibc and without a sanitizer that has its own allocator. */
bool allocations_are_counted(void);
void allocations_start(void);
uint64_t allocations_stop(void);

#endif
