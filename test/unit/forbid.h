/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that the kernel refuses: a seccomp filter, so that refusals can be tested everywhere. */
#ifndef TEST_UNIT_FORBID_H
#define TEST_UNIT_FORBID_H

#include <stdbool.h>
#include <stdint.h>

/* From here on the calling thread, and what it forks, gets `error` (0: a success that did nothing) from that
 * system call. False where no filter may be loaded. */
bool forbid(int call, int error);

/* The same for all threads that there are. */
bool forbid_to_all(int call, int error);

/* The same, where that argument (0, 1, ...) has this value. */
bool forbid_if(int call, int error, unsigned argument, uint64_t value);

#endif
