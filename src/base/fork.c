/* SPDX-License-Identifier: Apache-2.0 */
/* See fork.h. */
#define _GNU_SOURCE
#include "base/fork.h"

#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the guard ----------------------------------------------------------------------------------- */

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

/* ---- files that a child must not keep ------------------------------------------------------------ */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct twl_mutex lock;
static struct child_files *first; /* [lock] */

static void before_fork(void) NO_THREAD_SAFETY_ANALYSIS
{
    twl_mutex_lock(&lock);
}

static void after_fork(void) NO_THREAD_SAFETY_ANALYSIS
{
    twl_mutex_unlock(&lock);
}

static void close_one(int *fd)
{
    if (!fd || *fd < 0)
        return;
    close(*fd);
    *fd = -1;
}

static void in_child(void) NO_THREAD_SAFETY_ANALYSIS
{
    for (struct child_files *files = first; files; files = files->next) {
        close_one(files->fds[0]);
        close_one(files->fds[1]);
    }
    twl_mutex_unlock(&lock);
}

/* The library is never unloaded, so the handlers can stay installed. */
static void install(void)
{
    twl_mutex_init(&lock);
    pthread_atfork(before_fork, after_fork, in_child); /* fails if out of memory: then as with clone() */
}

void twl_child_hold(void) NO_THREAD_SAFETY_ANALYSIS
{
    pthread_once(&once, install);
    twl_mutex_lock(&lock);
}

void twl_child_release(void) NO_THREAD_SAFETY_ANALYSIS
{
    twl_mutex_unlock(&lock);
}

void twl_child_register(struct child_files *files)
{
    twl_child_hold();
    files->next = first;
    first = files;
    twl_child_release();
}

int twl_child_open(int dir, const char *name, int flags, mode_t mode, int *ret_fd)
{
    twl_child_hold();
    *ret_fd = openat(dir, name, flags, mode);
    const int error = *ret_fd < 0 ? -errno : 0;
    twl_child_release();
    return error;
}

void twl_child_unregister(struct child_files *files)
{
    twl_mutex_lock(&lock);
    struct child_files **link = &first;
    while (*link != files)
        link = &(*link)->next;
    *link = files->next;
    twl_mutex_unlock(&lock);
}
