/* SPDX-License-Identifier: Apache-2.0 */
/* What forked children may not do: use the log of their parent, and keep its files open. */
#ifndef TWL_FORK_H
#define TWL_FORK_H

#include <stdbool.h>
#include <sys/types.h>

/* Tells the process that opened the log from its forked children: one load, no system call. Unlike a pthread_atfork()
 * handler it also sees clone(2) and _Fork(). */
struct fork_guard {
    const volatile char *page; /* reads as zero in a child: MADV_WIPEONFORK, Linux 4.14 */
    pid_t pid;                 /* compared where the kernel refuses MADV_WIPEONFORK */
};

int twl_fork_guard_init(struct fork_guard *guard);
bool twl_fork_guard_is_forked(const struct fork_guard *guard);
void twl_fork_guard_destroy(struct fork_guard *guard);

/*
 * Open files that a forked child must not keep. A child shares the open files of its parent, and with them the
 * locks that show other processes that the parent is alive. So files that are registered here are closed before
 * fork() returns in the child: a killed parent counts as dead, however long its children live. A child made by
 * clone() alone does not run this handler; the parent then counts as alive until that child ends or calls exec.
 *
 * A mapping also keeps its file open. So a registered file is not mapped, or its mapping is not inherited
 * (MADV_DONTFORK).
 *
 * This is a part of the struct that has the files open. In the child the descriptors become -1; negative ones are
 * skipped.
 */
struct child_files {
    int *fds[2]; /* NULL = none */
    struct child_files *next;
};

void twl_child_register(struct child_files *files);
void twl_child_unregister(struct child_files *files);
/* openat() for a descriptor that is registered: no child gets the file. */
int twl_child_open(int dir, const char *name, int flags, mode_t mode, int *ret_fd);
/* Between hold() and release() this process cannot fork. No other call of these in between. */
void twl_child_hold(void);
void twl_child_release(void);

#endif
