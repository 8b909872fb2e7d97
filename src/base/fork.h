/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the process that opened the log from its forked children: one load, no system call. */
#ifndef TWL_FORK_H
#define TWL_FORK_H

#include <stdbool.h>
#include <sys/types.h>

struct fork_guard {
    const volatile char *page; /* reads as zero in a child: MADV_WIPEONFORK, Linux 4.14 */
    pid_t pid;                 /* compared where the kernel refuses MADV_WIPEONFORK */
};

int twl_fork_guard_init(struct fork_guard *guard);
bool twl_fork_guard_is_forked(const struct fork_guard *guard);
void twl_fork_guard_destroy(struct fork_guard *guard);

#endif
