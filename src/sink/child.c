/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A forked child shares the open files of its parent, and with them the locks by which others know that the parent is
 * alive; and a mapping is a share as well. So nothing is mapped in a child (MADV_DONTFORK), and it
 * closes the files before fork() returns in it: a parent that is killed is dead, however long its
 * children live. A child that was made without fork(), by clone() alone, does not come by here; then the
 * parent counts as alive until that child ends or calls exec.
 */
#define _GNU_SOURCE
#include "sink/sink.h"

#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct twl_mutex lock;
static struct sink_file *first; /* by lock */

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
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void in_child(void) NO_THREAD_SAFETY_ANALYSIS
{
    for (struct sink_file *file = first; file; file = file->next_open) {
        close_one(&file->area_fd);
        close_one(&file->data_fd);
    }
    twl_mutex_unlock(&lock);
}

/* The library stays once it is loaded, so the handlers may. */
static void install(void)
{
    twl_mutex_init(&lock);
    pthread_atfork(before_fork, after_fork, in_child); /* short of memory: as with clone() */
}

void twl_sink_register(struct sink_file *file)
{
    pthread_once(&once, install);
    twl_mutex_lock(&lock);
    file->next_open = first;
    first = file;
    twl_mutex_unlock(&lock);
}

void twl_sink_unregister(struct sink_file *file)
{
    twl_mutex_lock(&lock);
    struct sink_file **link = &first;
    while (*link != file)
        link = &(*link)->next_open;
    *link = file->next_open;
    twl_mutex_unlock(&lock);
}
