/* SPDX-License-Identifier: Apache-2.0 */
/* What every file needs: assertions that stay in release builds, sizes, and clang's annotations. */
#ifndef TWL_BASE_H
#define TWL_BASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For mistakes of this library only: bytes from disk, arguments and results of system calls are checked, never
 * asserted. Stays in release builds: a log that goes on with a broken invariant is worse than one that stops. */
#define ASSERT(condition) ((condition) ? (void)0 : twl_assert_failed(#condition, __FILE__, __LINE__))
_Noreturn void twl_assert_failed(const char *condition, const char *file, int line);

#define BLOCK_BYTES 4096u         /* unit of direct I/O and of rewrites */
#define LARGEST_PAGE_BYTES 65536u /* the largest memory page of any processor */

static inline uint64_t align_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}
static inline uint64_t align_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}
static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}
static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* True if the disk is full, or a quota or RLIMIT_FSIZE is reached. */
static inline bool is_no_space(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

/* True for what the system refuses to this process alone: its limits, descriptors and memory, and what a filter of its
 * calls keeps from it. Others that write the same log may be allowed to. Nothing has reached the disk; a sync returns
 * such an error only if it never ran. */
static inline bool is_own_refusal(int error)
{
    return error == -EFBIG || error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EPERM ||
           error == -EACCES || error == -ENOSYS;
}

/* The error that a failed write or sync leaves behind. The kernel may use errors that mean something else as results of
 * an append: a disk that does not answer is ETIMEDOUT, as if a deadline had passed. */
static inline int lasting_error(int error)
{
    const bool is_ambiguous = error > 0 || error == -EAGAIN || error == -ETIMEDOUT || error == -ECANCELED;

    return is_ambiguous ? -EIO : error;
}

#if defined(__clang__)
#define CAPABILITY(name) __attribute__((capability(name)))
#define ACQUIRES(...) __attribute__((acquire_capability(__VA_ARGS__)))
#define TRY_ACQUIRES(...) __attribute__((try_acquire_capability(__VA_ARGS__)))
#define RELEASES(...) __attribute__((release_capability(__VA_ARGS__)))
#define REQUIRES(...) __attribute__((requires_capability(__VA_ARGS__)))
#define NO_THREAD_SAFETY_ANALYSIS __attribute__((no_thread_safety_analysis))
#else
#define CAPABILITY(name)
#define ACQUIRES(...)
#define TRY_ACQUIRES(...)
#define RELEASES(...)
#define REQUIRES(...)
#define NO_THREAD_SAFETY_ANALYSIS
#endif

#endif
