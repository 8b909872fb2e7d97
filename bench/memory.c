/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resident pages from /proc/self/smaps_rollup, and a count of heap allocations.
 *
 * The count comes from standing in front of glibc's allocator: the program's own malloc() wins over
 * the C library's for every shared library too, and hands on to glibc under its internal name. free()
 * is left alone. With musl or a sanitizer nothing is counted and allocations_are_counted() says so.
 */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define HAS_OTHER_ALLOCATOR 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define HAS_OTHER_ALLOCATOR 1
#endif

double memory_resident_bytes(void)
{
    char text[2048]; /* read without stdio, which would allocate */
    int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = 0;
    const char *line = strstr(text, "\nRss:");
    long long kib;
    return line && sscanf(line, "\nRss: %lld kB", &kib) == 1 ? (double)kib * 1024 : NAN;
}

static _Atomic(bool) is_counting;
static _Atomic(uint64_t) allocations;

void allocations_start(void)
{
    atomic_store(&allocations, 0);
    atomic_store(&is_counting, true);
}

uint64_t allocations_stop(void)
{
    atomic_store(&is_counting, false);
    return atomic_load(&allocations);
}

#ifdef HAS_OTHER_ALLOCATOR

bool allocations_are_counted(void)
{
    return false;
}

#else

bool allocations_are_counted(void)
{
    return true;
}

/* glibc's own names; no header declares them. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *bytes, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static void count_allocation(void)
{
    if (atomic_load_explicit(&is_counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
}

void *malloc(size_t size)
{
    count_allocation();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    count_allocation();
    return __libc_calloc(count, size);
}

void *realloc(void *bytes, size_t size)
{
    count_allocation();
    return __libc_realloc(bytes, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    count_allocation();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **ret_bytes, size_t alignment, size_t size)
{
    count_allocation();
    if (alignment % sizeof(void *) || alignment == 0 || (alignment & (alignment - 1)))
        return EINVAL;
    void *bytes = __libc_memalign(alignment, size);
    if (!bytes)
        return ENOMEM;
    *ret_bytes = bytes;
    return 0;
}

#endif
