/* SPDX-License-Identifier: Apache-2.0 */
/* Is this the process that opened the log, or a child of it? One load, no system call. */
#ifndef TWL_FORK_H
#define TWL_FORK_H

#include <stdbool.h>
#include <sys/types.h>

struct fork_guard {
    const volatile char *page; /* zero in a child: MADV_WIPEONFORK, Linux 4.14 */
    pid_t pid;                 /* asked where that is refused */
};

int twl_fork_guard_init(struct fork_guard *guard);
bool twl_fork_guard_is_forked(const struct fork_guard *guard);
void twl_fork_guard_destroy(struct fork_guard *guard);

#endif
