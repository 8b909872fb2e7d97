/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps parts of files, and keeps the process alive when a page of such a part is not available: because another program
 * made the file shorter, or because the disk cannot deliver the page, or has no room for it. The thread that accesses
 * such a page gets no error code but SIGBUS.
 *
 * The first mapping installs a handler. For a fault in a mapping, the handler maps a page of zeros there and marks the
 * mapping. The thread goes on, its checksums do not match the zeros, and it asks twl_mapping_is_lost(). A page of a
 * writable mapping is private memory of this process from then on. Every other SIGBUS goes to the handler that was
 * installed before, or has the default effect. A handler that the program installs later replaces this one, unless it
 * passes on the signals that it does not handle.
 *
 * The handler cannot take a lock, so each mapping has a slot with a version. A slot that changes while the handler
 * reads it belongs to another mapping: no thread accesses a mapping that is being added or removed.
 *
 * Not handled: a thread that blocks SIGBUS. The kernel then ends the process without calling a handler.
 */
#define _GNU_SOURCE
#include "io/mapping.h"

#include "base/base.h"
#include "base/fork.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLOTS 65536u /* by default a process has no more mappings; what is not used takes no memory */

/* All fields are [atomic: the version is read before and after the others]. */
struct slot {
    _Atomic uint64_t version; /* odd = used */
    _Atomic uintptr_t start, end;
    atomic_bool is_writable;
    atomic_bool is_lost;         /* a page of it was replaced by zeros */
    atomic_bool is_for_children; /* being made: a child may have got it, and has to unmap it */
};

static struct slot slots[SLOTS];
static atomic_uint ever_used;   /* no slot from here on was ever used; only goes up */
static atomic_bool is_any_lost; /* false: no mapping has ever lost a page, so no search is needed */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool is_installed;         /* [const after once] */
static uintptr_t page_bytes;      /* [const after once] */
static struct sigaction previous; /* [const after once] */

/* The slot of the mapping that contains the address. Also runs in the handler. */
static struct slot *slot_of(uintptr_t address)
{
    struct slot *const end = slots + atomic_load(&ever_used);

    for (struct slot *slot = slots; slot < end; slot++) {
        const uint64_t version = atomic_load(&slot->version);
        const bool is_used = version % 2 == 1;
        const bool is_inside = atomic_load(&slot->start) <= address && address < atomic_load(&slot->end);
        if (!is_used || !is_inside)
            continue;
        if (atomic_load(&slot->version) == version) /* no test: another thread has to come in between */
            return slot;
    }
    return NULL;
}

static int protection_of(bool is_writable)
{
    return is_writable ? PROT_READ | PROT_WRITE : PROT_READ;
}

/* ---- the handler ------------------------------------------------------------------------------- */

static bool is_missing_page(const siginfo_t *info)
{
    return info->si_code == BUS_ADRERR || info->si_code == BUS_MCEERR_AR;
}

/* By syscall(), because mmap() is not on the list of async-signal-safe functions, and ThreadSanitizer takes its mmap()
 * for a write to the page, which other threads may be reading. */
static bool put_zeros(const siginfo_t *info)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    struct slot *slot = is_missing_page(info) ? slot_of(address) : NULL;

    if (!slot)
        return false;

    /* before a thread sees the zeros */
    atomic_store(&slot->is_lost, true);
    atomic_store(&is_any_lost, true);

    const uintptr_t page = align_down(address, page_bytes);
    const long protection = protection_of(atomic_load(&slot->is_writable));
    const long flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return syscall(SYS_mmap, page, page_bytes, protection, flags, -1L, 0L) != -1;
}

/* Sends the signal again with the default action: the kernel ends the process as if there were no handler. */
static void die_of(int number, siginfo_t *info) /* no test: what dies writes no counts */
{
    struct sigaction none = { .sa_handler = SIG_DFL };

    sigaction(number, &none, NULL);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), number, info);
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    const bool is_from_kernel = info->si_code > 0;

    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(number, info, context);
        return;
    }
    if (previous.sa_handler == SIG_DFL) { /* no test: what dies writes no counts */
        die_of(number, info);
        return;
    }
    if (previous.sa_handler == SIG_IGN) { /* no test: what dies writes no counts */
        if (is_from_kernel)               /* a fault cannot be ignored */
            die_of(number, info);
        return;
    }
    previous.sa_handler(number);
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    int error = errno;

    if (!put_zeros(info))
        pass_on(number, info, context);
    errno = error;
}

/* Children do not have the mappings, and may map something else at their addresses. */
static void forget_in_child(void)
{
    struct slot *const end = slots + atomic_load(&ever_used);

    for (struct slot *slot = slots; slot < end; slot++) {
        const bool is_used = atomic_load(&slot->version) % 2 == 1;
        if (!is_used)
            continue;

        const uintptr_t start = atomic_load(&slot->start);
        if (atomic_load(&slot->is_for_children))
            munmap((void *)start, atomic_load(&slot->end) - start);
        atomic_fetch_add(&slot->version, 1);
    }
}

/* Keeps the mask and the flags of the previous handler, so that it can be called as the kernel would call it. It runs
 * again in a child that was forked before it returned. */
static void install(void)
{
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    pthread_atfork(NULL, NULL, forget_in_child);
    twl_child_hold();
    if (!is_installed && /* no test: a child has to be forked in the middle of this function */
        sigaction(SIGBUS, NULL, &previous) == 0) { /* no test: the kernel refuses no valid call */
        struct sigaction action = previous;
        action.sa_sigaction = on_sigbus;
        action.sa_flags = (previous.sa_flags & ~(int)SA_RESETHAND) | SA_SIGINFO | SA_ONSTACK;
        is_installed = sigaction(SIGBUS, &action, NULL) == 0;
    }
    twl_child_release();
}

/* ---- the mappings ------------------------------------------------------------------------------ */

void twl_mapping_install(void)
{
    pthread_once(&once, install);
}

/* A slot for the mapping that is about to be made there. By one thread at a time: under twl_child_hold(). */
static struct slot *take_slot(const unsigned char *bytes, size_t size, bool is_writable)
{
    unsigned number = 0;

    while (number < SLOTS && /* no test: the kernel gives a process fewer mappings by default */
           atomic_load(&slots[number].version) % 2 == 1)
        number++;
    if (number == SLOTS) /* no test: the kernel gives a process fewer mappings by default */
        return NULL;

    struct slot *slot = &slots[number];
    atomic_store(&slot->start, (uintptr_t)bytes);
    atomic_store(&slot->end, align_up((uintptr_t)bytes + size, page_bytes));
    atomic_store(&slot->is_writable, is_writable);
    atomic_store(&slot->is_lost, false);
    atomic_store(&slot->is_for_children, true);
    atomic_fetch_add(&slot->version, 1);

    if (number == atomic_load(&ever_used))
        atomic_store(&ever_used, number + 1);
    return slot;
}

static void free_slot(struct slot *slot)
{
    atomic_fetch_add(&slot->version, 1);
}

/* Over the range that is reserved. A child that is forked before madvise() has the mapping, and unmaps it. */
static int map_file(int fd, uint64_t offset, void *bytes, size_t size, bool is_writable)
{
    const int protection = protection_of(is_writable);

    if (mmap(bytes, size, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED) {
        const bool cannot_map = errno == ENODEV || errno == EINVAL;
        return cannot_map ? -ENOTSUP : -errno;
    }
    madvise(bytes, size, MADV_DONTFORK);
    return 0;
}

/* Nothing is held while the file is mapped, as a network file system may have to answer first. A slot tells children
 * of the range before. */
int twl_mapping_open(int fd, uint64_t offset, size_t size, bool is_writable, void **ret_bytes)
{
    twl_mapping_install();
    if (!is_installed) /* no test: the kernel refuses no valid sigaction() */
        return -ENOTSUP;
    void *bytes = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return -errno;

    twl_child_hold();
    struct slot *slot = take_slot(bytes, size, is_writable);
    twl_child_release();
    if (!slot) { /* no test: the kernel gives a process fewer mappings by default */
        munmap(bytes, size);
        return -ENOMEM;
    }

    const int error = map_file(fd, offset, bytes, size, is_writable);
    if (error < 0) {
        free_slot(slot);
        munmap(bytes, size);
        return error;
    }
    atomic_store(&slot->is_for_children, false);
    *ret_bytes = bytes;
    return 0;
}

void twl_mapping_close(const void *bytes, size_t size)
{
    struct slot *slot = slot_of((uintptr_t)bytes);

    ASSERT(slot);
    free_slot(slot);
    munmap((void *)(uintptr_t)bytes, size); /* last, because another mapping may get the address at once */
}

bool twl_mapping_is_lost(const void *bytes)
{
    struct slot *slot = atomic_load(&is_any_lost) ? slot_of((uintptr_t)bytes) : NULL;

    return slot && atomic_load(&slot->is_lost);
}

int twl_mapping_sync(void *bytes, size_t size)
{
    if (msync(bytes, size, MS_SYNC) == 0)
        return 0;
    const int error = -errno;

    if (!is_own_refusal(error))
        return error;

    /* Such an error says that the sync has not run. A sync of nothing fails only if a filter refuses the call. */
    const bool is_refused = msync(NULL, 0, MS_SYNC) < 0;
    return is_refused ? error : -EIO;
}
