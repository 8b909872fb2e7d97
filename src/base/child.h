/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open files that a forked child must not keep. It shares the open files of its parent, and with them the locks by which
 * others know that the parent is alive. So the files that are registered here are closed before fork()
 * returns in the child: a parent that is killed is dead, however long its children live. A child that was made
 * without fork(), by clone() alone, does not come by here; then the parent counts as alive until that child ends or
 * calls exec.
 *
 * A mapping is a share in its file as well: what is registered is not mapped, or not in children (MADV_DONTFORK).
 */
#ifndef TWL_CHILD_H
#define TWL_CHILD_H

/* Belongs to whatever has the files open. A descriptor that is negative is none, and becomes -1 in the child. */
struct child_files {
    int *fds[2]; /* or NULL */
    struct child_files *next;
};

void twl_child_register(struct child_files *files);
/* Between the two this process does not fork: so that a file is registered before there can be a child that has it. Not
 * around register() and unregister(). */
void twl_child_hold(void);
void twl_child_release(void);
/* In between. */
void twl_child_register_held(struct child_files *files);
void twl_child_unregister(struct child_files *files);

#endif
