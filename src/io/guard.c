/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the process alive when a page of a mapped file is not available: because another program made the file
 * shorter, or because the disk cannot deliver the page. The thread that accesses such a page gets no error code but
 * SIGBUS.
 *
 * The first view installs a handler. For a fault in a view, the handler maps a page of zeros there and marks the
 * view. The thread goes on, its checksums do not match the zeros, and it asks twl_guard_is_hit(). A page of a
 * writable view (the page of writer.lock) is private memory of this process from then on. Every other SIGBUS goes to
 * the handler that was installed before, or has the default effect. A handler that the program installs later
 * replaces this one, unless it passes on the signals that it does not handle.
 *
 * The handler cannot take a lock, so the views are in a fixed table of slots, each with a version. A slot that
 * changes while the handler reads it belongs to another view: no thread accesses a view that is being added or
 * removed.
 *
 * Not handled: a thread that blocks SIGBUS. The kernel then ends the process without calling a handler.
 */
#define _GNU_SOURCE
#include "io/guard.h"

#include "base/base.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOTS 2048u

enum slot_state {
    SLOT_FREE,
    SLOT_CHANGING,
    SLOT_USED,
    SLOT_STATES = 4, /* the version of a slot whose view is removed is the next multiple */
};

/* All fields are [atomic: the version is read before and after the others]. */
static struct slot {
    _Atomic uint64_t version; /* modulo SLOT_STATES: enum slot_state */
    _Atomic uintptr_t start, end;
    atomic_uint flags; /* enum guard_flags */
    atomic_bool is_hit;
} slots[SLOTS];

static atomic_bool is_any_hit; /* false: no view was ever hit, so no search is needed */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_installed;         /* [const after once] */
static uintptr_t page_bytes;      /* [const after once] */
static struct sigaction previous; /* [const after once] */

/* The slot whose view contains the address. Also runs in the handler. */
static struct slot *slot_of(uintptr_t address)
{
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++) {
        uint64_t version = atomic_load(&slot->version);
        if (version % SLOT_STATES == SLOT_USED && atomic_load(&slot->start) <= address &&
            address < atomic_load(&slot->end) && atomic_load(&slot->version) == version)
            return slot;
    }
    return NULL;
}

/* ---- the handler ------------------------------------------------------------------------------- */

static bool is_missing_page(const siginfo_t *info)
{
    return info->si_code == BUS_ADRERR || info->si_code == BUS_MCEERR_AR;
}

/* mmap() is not on the list of async-signal-safe functions, but on Linux it is a bare system call. */
static bool put_zeros(const siginfo_t *info)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    struct slot *slot = is_missing_page(info) ? slot_of(address) : NULL;

    if (!slot)
        return false;
    atomic_store(&slot->is_hit, true); /* before a thread sees the zeros */
    atomic_store(&is_any_hit, true);
    const int protection = atomic_load(&slot->flags) & GUARD_WRITABLE ? PROT_READ | PROT_WRITE : PROT_READ;
    return mmap((void *)align_down(address, page_bytes), page_bytes, protection,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
}

/* Sends the signal again with the default action: the kernel ends the process as if there were no handler. */
static void die_of(int number, siginfo_t *info)
{
    struct sigaction none = { .sa_handler = SIG_DFL };

    sigaction(number, &none, NULL);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), number, info);
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    bool is_from_kernel = info->si_code > 0;

    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, context);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
        previous.sa_handler(number);
    else if (previous.sa_handler == SIG_DFL || is_from_kernel) /* a fault cannot be ignored */
        die_of(number, info);
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    int error = errno;

    if (!put_zeros(info))
        pass_on(number, info, context);
    errno = error;
}

static bool is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_sigbus;
}

/* Removes views that are not mapped in children: the child may map something else at their addresses. */
static void forget_in_child(void)
{
    for (struct slot *slot = slots; slot < slots + SLOTS; slot++)
        if (atomic_load(&slot->version) % SLOT_STATES == SLOT_USED &&
            (atomic_load(&slot->flags) & GUARD_NOT_IN_CHILDREN))
            atomic_fetch_add(&slot->version, SLOT_STATES - SLOT_USED);
}

/* Keeps the mask and the flags of the previous handler, so that it can be called as the kernel would call it. A child
 * that was forked during the installation installs again, and may find this library's handler already there. */
static void install(void)
{
    struct sigaction action;

    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    pthread_atfork(NULL, NULL, forget_in_child);
    if (sigaction(SIGBUS, NULL, &action) < 0)
        return;
    if (is_ours(&action)) {
        is_installed = true;
        return;
    }
    previous = action;
    action.sa_sigaction = on_sigbus;
    action.sa_flags = (previous.sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO | SA_ONSTACK;
    is_installed = sigaction(SIGBUS, &action, NULL) == 0;
}

/* ---- the views --------------------------------------------------------------------------------- */

static bool claim(struct slot *slot)
{
    uint64_t version = atomic_load(&slot->version);

    return version % SLOT_STATES == SLOT_FREE &&
           atomic_compare_exchange_strong(&slot->version, &version, version + SLOT_CHANGING - SLOT_FREE);
}

void twl_guard_install(void)
{
    pthread_once(&once, install);
}

int twl_guard_add(const unsigned char *bytes, size_t size, unsigned flags)
{
    twl_guard_install();
    for (struct slot *slot = slots; is_installed && slot < slots + SLOTS; slot++) {
        if (!claim(slot))
            continue;
        atomic_store(&slot->start, (uintptr_t)bytes);
        atomic_store(&slot->end, align_up((uintptr_t)bytes + size, page_bytes));
        atomic_store(&slot->flags, flags);
        atomic_store(&slot->is_hit, false);
        atomic_fetch_add(&slot->version, SLOT_USED - SLOT_CHANGING);
        return 0;
    }
    return -ENOTSUP;
}

void twl_guard_remove(const unsigned char *bytes)
{
    struct slot *slot = slot_of((uintptr_t)bytes);

    ASSERT(slot);
    atomic_fetch_add(&slot->version, SLOT_STATES - SLOT_USED);
}

bool twl_guard_is_hit(const unsigned char *bytes)
{
    struct slot *slot = atomic_load(&is_any_hit) ? slot_of((uintptr_t)bytes) : NULL;

    return slot && atomic_load(&slot->is_hit);
}
