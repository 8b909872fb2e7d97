/* SPDX-License-Identifier: Apache-2.0 */
/* See fork.h. */
#define _GNU_SOURCE
#include "base/fork.h"

#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE_BYTES 4096u

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct twl_mutex lock;
static struct child_file *first; /* [lock] */
static uint32_t processes;       /* [lock] newest number of this process and those that it descends from */
_Atomic uint32_t *twl_own_process;

static void before_fork(void) NO_THREAD_SAFETY_ANALYSIS
{
    twl_mutex_lock(&lock);
}

static void after_fork(void) NO_THREAD_SAFETY_ANALYSIS
{
    twl_mutex_unlock(&lock);
}

/* The list is left: what is in it is of handles that no call uses any more. */
static void in_child(void) NO_THREAD_SAFETY_ANALYSIS
{
    for (const struct child_file *file = first; file; file = file->next)
        if (*file->fd >= 0)
            close(*file->fd);
    first = NULL;
    if (twl_own_process)
        atomic_store(twl_own_process, 0);
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

/* ---- the guard ----------------------------------------------------------------------------------- */

static int make_page(void)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -ENOMEM;
    madvise(page, PAGE_BYTES, MADV_WIPEONFORK);
    twl_own_process = page;
    return 0;
}

int twl_fork_guard_init(struct fork_guard *guard)
{
    twl_child_hold();
    const int rc = twl_own_process ? 0 : make_page();
    if (rc == 0 && atomic_load(twl_own_process) == 0)
        atomic_store(twl_own_process, ++processes);
    if (rc == 0)
        guard->process = processes;
    twl_child_release();
    return rc;
}

/* ---- files that a child must not keep ------------------------------------------------------------ */

int twl_child_open(struct child_file *file, int *fd, int dir, const char *name, int flags, mode_t mode)
{
    twl_child_hold();
    *fd = (int)syscall(SYS_openat, dir, name, flags, mode); /* no cancellation point, as openat() is */
    const int error = *fd < 0 ? -errno : 0;
    *file = (struct child_file){ .fd = fd, .next = first, .link = &first };
    if (first)
        first->link = &file->next;
    first = file;
    twl_child_release();
    return error;
}

void twl_child_unregister(struct child_file *file)
{
    twl_child_hold();
    *file->link = file->next;
    if (file->next)
        file->next->link = file->link;
    twl_child_release();
}
