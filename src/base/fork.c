/* SPDX-License-Identifier: Apache-2.0 */
/* See fork.h. */
#define _GNU_SOURCE
#include "base/fork.h"

#include "base/descriptor.h"
#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define OFTEN 4u            /* an open() that so many forks have overtaken gets time */
#define GIVE_WAY_TRIES 100u /* of GIVE_WAY_NS each: fork() waits no longer for it */
#define GIVE_WAY_NS 100000

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct twl_mutex lock = { PTHREAD_MUTEX_INITIALIZER };
static struct child_file *first;   /* [lock] */
static uint32_t processes;         /* [lock] newest number of this process and those that it descends from */
static _Atomic uint64_t forks;     /* [lock] to change it: at each begin and end */
static _Atomic unsigned overtaken; /* threads in an open() that forks have overtaken often */
_Atomic uint32_t *twl_own_process;

/* Without this, a thread that does nothing but fork could keep another one from ever opening a file. */
static void give_way(void)
{
    const struct timespec moment = { .tv_nsec = GIVE_WAY_NS };

    for (unsigned i = 0; i < GIVE_WAY_TRIES && atomic_load(&overtaken) > 0; i++)
        nanosleep(&moment, NULL);
}

static void before_fork(void) NO_THREAD_SAFETY_ANALYSIS
{
    give_way();
    twl_mutex_lock(&lock);
    twl_low_descriptors_before_fork();
    atomic_fetch_add(&forks, 1);
}

static void after_fork(void) NO_THREAD_SAFETY_ANALYSIS
{
    atomic_fetch_add(&forks, 1);
    twl_low_descriptors_after_fork(false);
    twl_mutex_unlock(&lock);
}

/* The list is left: what is in it is of handles that no call uses any more. */
static void in_child(void) NO_THREAD_SAFETY_ANALYSIS
{
    for (const struct child_file *file = first; file; file = file->next)
        close(*file->fd);
    first = NULL;
    atomic_store(&overtaken, 0);
    atomic_fetch_add(&forks, 1);
    if (twl_own_process)
        atomic_store(twl_own_process, 0);
    twl_low_descriptors_after_fork(true);
    twl_mutex_unlock(&lock);
}

/* The library is never unloaded, so the handlers can stay installed. */
static void install(void)
{
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
    if (rc < 0) {
        twl_child_release();
        return rc;
    }
    if (atomic_load(twl_own_process) == 0) { /* no guard was made since the process was forked */
        processes++;
        atomic_store(twl_own_process, processes);
    }
    guard->process = processes;
    twl_child_release();
    return 0;
}

/* ---- files that a child must not keep ------------------------------------------------------------ */

/* By the thread that holds. */
void twl_child_register(struct child_file *file, int *fd)
{
    *file = (struct child_file){ .fd = fd, .next = first, .link = &first };
    if (first)
        first->link = &file->next;
    first = file;
}

/* The begins and ends of forks since the first file. A count that is taken while a fork is under way never holds: that
 * fork's end changes it before hold_unless_forked() can look. */
static uint64_t count_forks(void)
{
    pthread_once(&once, install);
    return atomic_load(&forks);
}

/* True: holds, and no fork has begun or ended since the count. */
static bool hold_unless_forked(uint64_t count) NO_THREAD_SAFETY_ANALYSIS
{
    twl_child_hold();
    if (atomic_load(&forks) == count)
        return true;
    twl_child_release();
    return false;
}

static bool is_same_file(int fd, const struct stat *created)
{
    struct stat about;

    return fstat(fd, &about) == 0 && about.st_dev == created->st_dev && about.st_ino == created->st_ino;
}

/* A file that an earlier try has created. */
struct created {
    bool is_known;
    struct stat about;
};

/* Once it is created, the name has to lead to the same file. */
static int open_once(const struct created *created, int dir, const char *name, int flags, mode_t mode)
{
    if (!created->is_known)
        return twl_descriptor_open(dir, name, flags, mode);

    const int fd = twl_descriptor_open(dir, name, flags & ~(O_CREAT | O_EXCL), mode);
    if (fd < 0 || is_same_file(fd, &created->about))
        return fd;
    syscall(SYS_close, fd);
    return -EEXIST;
}

/* A child that was forked meanwhile may have this descriptor, as its handler did not know of it. The next open() gives
 * another description of the file, of which that child has nothing. */
static void give_up_shared(int fd, int flags, struct created *created)
{
    if (fd < 0)
        return;
    if (flags & O_CREAT && !created->is_known)
        created->is_known = fstat(fd, &created->about) == 0;
    syscall(SYS_close, fd);
}

/* The disk may take its time to answer open(), so nothing is held meanwhile. */
int twl_child_open(struct child_file *file, int *fd, int dir, const char *name, int flags, mode_t mode)
{
    struct created created = { 0 };
    unsigned tries = 0;
    int opened;

    for (;;) {
        const uint64_t count = count_forks();
        opened = open_once(&created, dir, name, flags, mode);
        if (hold_unless_forked(count))
            break;
        give_up_shared(opened, flags, &created);
        tries++;
        if (tries == OFTEN)
            atomic_fetch_add(&overtaken, 1);
    }

    *fd = opened < 0 ? -1 : opened;
    if (opened >= 0)
        twl_child_register(file, fd);
    twl_child_release();

    if (tries >= OFTEN)
        atomic_fetch_sub(&overtaken, 1);
    return opened < 0 ? opened : 0;
}

void twl_child_unregister(struct child_file *file)
{
    twl_child_hold();
    *file->link = file->next;
    if (file->next)
        file->next->link = file->link;
    twl_child_release();
}

void twl_child_close(struct child_file *file, int *fd)
{
    if (*fd < 0)
        return;
    twl_child_unregister(file);
    close(*fd);
    *fd = -1;
}

/* ---- memory that a child does not get ------------------------------------------------------------ */

/* A fork in between gives the child zeros, which nobody has stored to. */
void *twl_private_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    madvise(memory, bytes, MADV_DONTFORK);
    return memory;
}

void twl_private_memory_free(void *memory, size_t bytes)
{
    munmap(memory, bytes);
}
