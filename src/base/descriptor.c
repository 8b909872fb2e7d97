/* SPDX-License-Identifier: Apache-2.0 */
/* See descriptor.h. test/layers.sh sees to it that no other file of the library makes a descriptor. */
#define _GNU_SOURCE
#include "base/descriptor.h"

#include "base/sync.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* ---- the descriptors 0 to 2 ---------------------------------------------------------------------- */

/* For a sandbox that refuses ppoll(). */
static unsigned count_closed_one_by_one(void)
{
    unsigned closed = 0;

    for (int fd = 0; fd < STANDARD_DESCRIPTORS; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            closed++;
    return closed;
}

/* How many of them are closed. One system call; by its number, as poll() is a cancellation point. */
static unsigned count_closed(void)
{
    struct pollfd standard[STANDARD_DESCRIPTORS] = { { .fd = 0 }, { .fd = 1 }, { .fd = 2 } };
    struct timespec at_once = { 0 };
    unsigned closed = 0;

    if (syscall(SYS_ppoll, standard, (long)STANDARD_DESCRIPTORS, &at_once, NULL, 0L) < 0)
        return count_closed_one_by_one();
    for (unsigned i = 0; i < STANDARD_DESCRIPTORS; i++)
        if (standard[i].revents & POLLNVAL)
            closed++;
    return closed;
}

/* The places that are taken, and the threads for which they are: the first takes them, the last gives them back. If
 * each had its own, one thread could find all of 0 to 2 open that another one then closes. */
static struct {
    struct twl_mutex lock;
    unsigned users;                /* [lock] */
    int fds[STANDARD_DESCRIPTORS]; /* [lock] */
    unsigned count;                /* [lock] */
    _Atomic uint64_t changes; /* [lock to store] odd = places are taken, or just being taken or given back */
} low = { .lock = { PTHREAD_MUTEX_INITIALIZER } };

/* O_PATH: the kernel asks no disk for it, and each read or write is refused as if the descriptor were closed. Others
 * may have been closed since the first one has looked. */
static void take_places(void) REQUIRES(low.lock)
{
    unsigned closed = count_closed();

    if (closed > 0 && atomic_load(&low.changes) % 2 == 0)
        atomic_fetch_add(&low.changes, 1);
    for (; closed > 0 && low.count < STANDARD_DESCRIPTORS; closed--) {
        const int fd = (int)syscall(SYS_openat, AT_FDCWD, "/", O_PATH | O_CLOEXEC, 0);
        if (fd < 0)
            continue; /* move_up() sees to what gets the place */
        low.fds[low.count] = fd;
        low.count++;
    }
}

/* Another thread may have put a file of its own in the place meanwhile, by dup2(). */
static bool is_placeholder(int fd)
{
    const int flags = fcntl(fd, F_GETFL);

    return flags >= 0 && (flags & O_PATH);
}

static void give_places_back(void) REQUIRES(low.lock)
{
    for (unsigned i = 0; i < low.count; i++)
        if (is_placeholder(low.fds[i]))
            syscall(SYS_close, low.fds[i]);
    low.count = 0;
    if (atomic_load(&low.changes) % 2 == 1)
        atomic_fetch_add(&low.changes, 1);
}

/* Without the lock, as most often. Not so if another thread has places meanwhile: they would look open. */
static bool are_all_open(void)
{
    const uint64_t before = atomic_load(&low.changes);

    return before % 2 == 0 && count_closed() == 0 && atomic_load(&low.changes) == before;
}

bool twl_low_descriptors_take(void)
{
    if (are_all_open())
        return false;

    twl_mutex_lock(&low.lock);
    low.users++;
    take_places();
    twl_mutex_unlock(&low.lock);
    return true;
}

void twl_low_descriptors_release(bool is_taken)
{
    if (!is_taken)
        return;

    twl_mutex_lock(&low.lock);
    low.users--;
    if (low.users == 0)
        give_places_back();
    twl_mutex_unlock(&low.lock);
}

void twl_low_descriptors_before_fork(void) NO_THREAD_SAFETY_ANALYSIS
{
    twl_mutex_lock(&low.lock);
}

/* The child does not have the threads for which places are taken. */
void twl_low_descriptors_after_fork(bool is_child) NO_THREAD_SAFETY_ANALYSIS
{
    if (is_child) {
        give_places_back();
        low.users = 0;
    }
    twl_mutex_unlock(&low.lock);
}

/* What remains: another thread closes one of 0 to 2 between the look and the call, and what is made gets that place
 * until here. A program that closes them once, before it opens a log, is safe. */
static int move_up(int fd)
{
    if (fd >= STANDARD_DESCRIPTORS)
        return fd;

    const int higher = fcntl(fd, F_DUPFD_CLOEXEC, STANDARD_DESCRIPTORS);
    const int result = higher < 0 ? -errno : higher;

    syscall(SYS_close, fd);
    return result;
}

/* Behind twl_low_descriptors_take(): the result of a call that makes a descriptor. */
static int made(int fd, bool is_taken)
{
    const int error = fd < 0 ? -errno : 0;

    twl_low_descriptors_release(is_taken);
    return error < 0 ? error : move_up(fd);
}

/* ---- descriptors --------------------------------------------------------------------------------- */

int twl_descriptor_open(int dir, const char *name, int flags, mode_t mode)
{
    const bool is_taken = twl_low_descriptors_take();
    return made((int)syscall(SYS_openat, dir, name, flags | O_CLOEXEC, mode), is_taken);
}

int twl_descriptor_event(unsigned count)
{
    const bool is_taken = twl_low_descriptors_take();
    return made(eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK), is_taken);
}

int twl_descriptor_memory(const char *name)
{
    const bool is_taken = twl_low_descriptors_take();
    return made(memfd_create(name, MFD_CLOEXEC), is_taken);
}

int twl_descriptor_timer(void)
{
    const bool is_taken = twl_low_descriptors_take();
    return made(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), is_taken);
}

int twl_descriptor_set_timer(int fd, uint64_t until_ns)
{
    const struct itimerspec until = { .it_value = { .tv_sec = (time_t)(until_ns / 1000000000),
                                                    .tv_nsec = (long)(until_ns % 1000000000) } };

    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &until, NULL) < 0 ? -errno : 0;
}

int twl_descriptor_epoll(void)
{
    const bool is_taken = twl_low_descriptors_take();
    return made(epoll_create1(EPOLL_CLOEXEC), is_taken);
}
