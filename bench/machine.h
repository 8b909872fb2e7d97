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
    long read_ahead_kib;  /* of the page cache; 0 = unknown */
    dev_t device_number;
    bool is_volatile; /* tmpfs and the like: a sync costs nothing and keeps nothing */
};

/* What could not be found out is "unknown". `dir` is where the benchmark writes. */
void machine_describe(const char *dir, struct machine *ret_machine);

/* What the device under `dir` has flushed since it is there, for all processes; NAN where the kernel does not count. */
double device_flushes(const char *dir);

#endif
