/* SPDX-License-Identifier: Apache-2.0 */
/* See fork.h. Unlike a pthread_atfork() handler this also sees clone(2) and _Fork(). */
#define _GNU_SOURCE
#include "base/fork.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD_BYTES 4096u

int twl_fork_guard_init(struct fork_guard *guard)
{
    char *page = mmap(NULL, GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -ENOMEM;
    *guard = (struct fork_guard){ .pid = getpid() };
    if (madvise(page, GUARD_BYTES, MADV_WIPEONFORK) == 0) {
        *page = 1;
        guard->page = page;
    } else {
        munmap(page, GUARD_BYTES);
    }
    return 0;
}

bool twl_fork_guard_is_forked(const struct fork_guard *guard)
{
    return guard->page ? *guard->page == 0 : guard->pid != getpid();
}

void twl_fork_guard_destroy(struct fork_guard *guard)
{
    if (guard->page)
        munmap((void *)(unsigned long)guard->page, GUARD_BYTES);
    guard->page = NULL;
}
