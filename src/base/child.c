/* SPDX-License-Identifier: Apache-2.0 */
/* See child.h. */
#define _GNU_SOURCE
#include "base/child.h"

#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

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
