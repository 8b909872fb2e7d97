/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a log's buffers, without a system call for each of the logs that a run opens, some thousand a
 * second: to give pages back to the kernel takes longer than to recover a small log. The library asks the kernel, as
 * a child must not have this memory; here nobody forks. One block is kept for the next log. Under the address
 * sanitizer none is, so that it sees what is used behind its end.
 */
#include "base/base.h"
#include "base/fork.h"

#include <stdlib.h>

#define PAGE_BYTES 4096u
#if defined(__SANITIZE_ADDRESS__)
#define KEEPS_ONE false
#else
#define KEEPS_ONE true
#endif

static _Thread_local void *kept;
static _Thread_local size_t kept_bytes;

void *__wrap_twl_private_memory(size_t bytes);
void __wrap_twl_private_memory_free(void *memory, size_t bytes);

void *__wrap_twl_private_memory(size_t bytes)
{
    void *memory = kept;

    if (!kept || kept_bytes != bytes)
        return aligned_alloc(PAGE_BYTES, align_up(bytes, PAGE_BYTES));
    kept = NULL;
    return memory;
}

void __wrap_twl_private_memory_free(void *memory, size_t bytes)
{
    if (!KEEPS_ONE || !memory || kept) {
        free(memory);
        return;
    }
    kept = memory;
    kept_bytes = bytes;
}
