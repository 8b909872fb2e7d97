/* SPDX-License-Identifier: Apache-2.0 */
/* What forked children may not do: use the handles of their parent, and keep its files open. */
#ifndef TWL_FORK_H
#define TWL_FORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Tells the process that opened a handle from its forked children: two loads, no system call. The number of the process
 * is in a page that the kernel wipes in a child, also in one made by clone(2) or _Fork(). Where the kernel does not
 * (before Linux 4.14) the handler of fork() does.
 *
 * In a child every call on an inherited handle is refused. Nothing of the handle is freed there: a thread that the
 * child does not have may have been changing it.
 */
struct fork_guard {
    uint32_t process; /* [const] */
};
extern _Atomic uint32_t *twl_own_process; /* [const] once a guard was made */

int twl_fork_guard_init(struct fork_guard *guard);
static inline bool twl_fork_guard_is_forked(const struct fork_guard *guard)
{
    return atomic_load_explicit(twl_own_process, memory_order_relaxed) != guard->process;
}

/*
 * Open files that a forked child must not keep. A child shares the open files of its parent, and with them the locks
 * that show other processes that the parent is alive. So files that are registered here are closed before fork()
 * returns in the child: a killed parent counts as dead, however long its children live. A child made by clone() alone
 * does not run this handler; the parent then counts as alive until that child ends or calls exec.
 *
 * A mapping also keeps its file open. So no mapping of a file is inherited (io/mapping.c). The descriptors that a
 * program asks for, of twinlog_queue_fd() and twinlog_reader_fd(), stay, with what is behind them: the program may have
 * told them to others.
 *
 * This is a part of the struct that has the file open. `fd` points to the descriptor, which is open and stays the same
 * while it is registered.
 */
struct child_file {
    int *fd;
    struct child_file *next, **link; /* in the list of all; `link` points here */
};

/* openat() for `file`, which is registered from then on: no child gets it. After an error `*fd` is -1, and nothing is
 * registered. fork() never waits for the disk of this file. */
int twl_child_open(struct child_file *file, int *fd, int dir, const char *name, int flags, mode_t mode);
/* Before the file is closed. */
void twl_child_unregister(struct child_file *file);
/* Does both, and sets *fd to -1; nothing if it is that already. */
void twl_child_close(struct child_file *file, int *fd);

/* Between hold() and release() this process cannot fork, and no log of it can open a file: for a few instructions, and
 * for system calls that wait for no disk. The only other call in between is register(). */
void twl_child_hold(void);
void twl_child_register(struct child_file *file, int *fd); /* of a descriptor that was made since hold() */
void twl_child_release(void);

/* ---- memory that a child does not get ---------------------------------------------------------------- */

/* Zeros. When a process forks, the kernel copies at once the pages that a direct write has pinned, and the others when
 * one of the two stores to them: nothing of that for memory that no child may use. NULL: out of memory. */
void *twl_private_memory(size_t bytes);
void twl_private_memory_free(void *memory, size_t bytes);

#endif
