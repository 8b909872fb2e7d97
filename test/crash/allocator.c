/* SPDX-License-Identifier: Apache-2.0 */
/* See allocator.h. */
#define _GNU_SOURCE
#include "allocator.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *bytes, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **ret_bytes, size_t alignment, size_t size);
void __real_free(void *bytes);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *address, size_t size);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *bytes, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret_bytes, size_t alignment, size_t size);
void __wrap_free(void *bytes);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *address, size_t size);

static _Thread_local bool is_counted;
static _Atomic uint64_t counted;
static _Atomic int64_t live, until_failure = -1; /* so many may succeed; -1: all; the one at 0 fails */
static _Atomic bool has_failed;

void allocator_count(bool is_counting)
{
    is_counted = is_counting;
}

uint64_t allocator_take_count(void)
{
    return atomic_exchange(&counted, 0);
}

void allocator_fail_at(uint64_t n)
{
    if (n > 0)
        atomic_store(&has_failed, false);
    atomic_store(&until_failure, (int64_t)n - 1);
}

bool allocator_has_failed(void)
{
    return atomic_load(&has_failed);
}

int64_t allocator_live(void)
{
    return atomic_load(&live);
}

/* True: this one is to fail. */
static bool begin(void)
{
    if (is_counted)
        atomic_fetch_add(&counted, 1);
    if (atomic_load(&until_failure) < 0 || atomic_fetch_sub(&until_failure, 1) != 0)
        return false;
    atomic_store(&has_failed, true);
    errno = ENOMEM;
    return true;
}

static void *end(void *bytes)
{
    if (bytes)
        atomic_fetch_add(&live, 1);
    return bytes;
}

void *__wrap_malloc(size_t size)
{
    return begin() ? NULL : end(__real_malloc(size));
}

void *__wrap_calloc(size_t elements, size_t size)
{
    return begin() ? NULL : end(__real_calloc(elements, size));
}

void *__wrap_realloc(void *bytes, size_t size)
{
    if (begin())
        return NULL;
    return bytes ? __real_realloc(bytes, size) : end(__real_malloc(size));
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return begin() ? NULL : end(__real_aligned_alloc(alignment, size));
}

int __wrap_posix_memalign(void **ret_bytes, size_t alignment, size_t size)
{
    int error;

    if (begin())
        return ENOMEM;
    error = __real_posix_memalign(ret_bytes, alignment, size);
    if (error == 0)
        atomic_fetch_add(&live, 1);
    return error;
}

void __wrap_free(void *bytes)
{
    if (bytes)
        atomic_fetch_sub(&live, 1);
    __real_free(bytes);
}

/* What is mapped over something that was mapped before goes with it. */
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *bytes;

    if (begin())
        return MAP_FAILED;
    bytes = __real_mmap(address, size, protection, flags, fd, offset);
    if (bytes != MAP_FAILED && !(flags & MAP_FIXED))
        atomic_fetch_add(&live, 1);
    return bytes;
}

int __wrap_munmap(void *address, size_t size)
{
    const int result = __real_munmap(address, size);

    if (result == 0)
        atomic_fetch_sub(&live, 1);
    return result;
}
