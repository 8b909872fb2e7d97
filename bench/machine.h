/* SPDX-License-Identifier: Apache-2.0 */
/* Where the figures were made: they mean little without it. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <sys/types.h>

struct machine {
    char cpu[128];
    long cores;
    double memory_gib;
    char kernel[200];
    char filesystem[64];
    char mount_options[256];
    char device[128];
    char write_cache[32]; /* "write back": the device confirms before it is on the medium, a flush counts */
    dev_t device_number;
    bool is_volatile; /* tmpfs and the like: a sync costs nothing and keeps nothing */
};

/* What could not be found out is "unknown". `dir` is where the benchmark writes. */
void machine_describe(const char *dir, struct machine *ret_machine);

/* What the device under `dir` has written since it is there, for all processes; NAN where the kernel does not count. */
struct device_counters {
    double writes; /* requests, after the kernel has merged some */
    double bytes;
    double flushes; /* NAN before Linux 5.5 */
};
void device_count(const char *dir, struct device_counters *ret_counters);

/* Pages of this process that are resident, counted from the page tables; NAN where the kernel has no smaps_rollup. */
double memory_resident_bytes(void);

#endif
