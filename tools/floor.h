/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the disk without a log: one thread overwrites 4 KiB blocks of a prewritten file, each write
 * durable before the next. No log can make one thread's records durable faster. */
#ifndef TOOLS_FLOOR_H
#define TOOLS_FLOOR_H

#include "histogram.h"

#include <stdbool.h>

struct disk_floor {
    bool is_direct; /* O_DIRECT was accepted */
    bool is_dsync;  /* RWF_DSYNC was accepted; else pwrite and fdatasync */
    double seconds;
    struct histogram latency;
};

/* Writes a file of 4 MiB at `path`, which must not exist, and measures for `ms` or until stop_fd(). */
int measure_floor(const char *path, uint64_t ms, struct disk_floor *ret_floor);

#endif
