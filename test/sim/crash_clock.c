/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of deadlines and of flush_interval_ms, in the place of the library's: it goes on with each look, so
 * that a workload is the same whenever and wherever it is run.
 */
#include <stdint.h>

#define LOOK_NS 100000u

uint64_t __wrap_twl_monotonic_ns(void);

/* All of it lies before the real time, so nobody sleeps until then. */
uint64_t __wrap_twl_monotonic_ns(void)
{
    static uint64_t now_ns;
    return now_ns += LOOK_NS;
}
