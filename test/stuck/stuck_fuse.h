/* SPDX-License-Identifier: Apache-2.0 */
/* The server of a file system that shows one directory in another place, and waits before each answer while told to. */
#ifndef TWL_STUCK_FUSE_H
#define TWL_STUCK_FUSE_H

#include <stdatomic.h>
#include <stdbool.h>

/* Writes a byte to `told` when `where` is mounted, and returns when it is unmounted, or cannot be mounted. */
void stuck_fuse_serve(const char *served, const char *where, const _Atomic bool *is_stopped, int told);

#endif
