/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files that a forked child must not keep. A child shares the open files of its parent, and with them the
 * locks that show other processes that the parent is alive. So files that are registered here are closed before
 * fork() returns in the child: a killed parent counts as dead, however long its children live. A child made by
 * clone() alone does not run this handler; the parent then counts as alive until that child ends or calls exec.
 *
 * A mapping also keeps its file open. So a registered file is not mapped, or its mapping is not inherited
 * (MADV_DONTFORK).
 */
#ifndef TWL_CHILD_H
#define TWL_CHILD_H

#include <sys/types.h>

/* Part of the struct that has the files open. In the child the descriptors become -1; negative ones are skipped. */
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
