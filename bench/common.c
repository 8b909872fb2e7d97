/* SPDX-License-Identifier: Apache-2.0 */
/* See common.h. */
#include "common.h"

#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define BLOCK_BYTES 4096u

bool fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fputs("twinlog-bench: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    return false;
}

static void *given(void *memory, size_t bytes)
{
    if (memory)
        return memory;
    fail("no memory for %zu bytes", bytes);
    exit(1);
}

void *allocate(size_t count, size_t size)
{
    return given(calloc(count, size), count * size);
}

void *allocate_blocks(size_t bytes)
{
    const size_t rounded = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    return memset(given(aligned_alloc(BLOCK_BYTES, rounded), rounded), 0, rounded);
}

void *allocate_shared(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return given(memory == MAP_FAILED ? NULL : memory, bytes);
}

struct list list_of(const char *text, char separator)
{
    return (struct list){ .rest = text, .separator = separator };
}

bool list_next(struct list *list)
{
    const char separators[2] = { list->separator, 0 };
    const char *word = list->rest + strspn(list->rest, separators);
    const size_t length = strcspn(word, separators);
    list->rest = word + length;
    snprintf(list->word, sizeof(list->word), "%.*s", (int)length, word);
    return length > 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

bool remove_tree(const char *path)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ||
           fail("cannot remove %s: %s", path, strerror(errno));
}

bool make_dir(const char *path)
{
    return mkdir(path, 0700) == 0 || fail("%s: %s", path, strerror(errno));
}

int wait_for(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return status == 0 ? 0 : -ECHILD;
}

#ifdef HAVE_ISAL

#include <isa-l/crc.h>

uint32_t checksum_of(const void *bytes, size_t size)
{
    return crc32_iscsi((unsigned char *)(uintptr_t)bytes, (int)size, 0);
}

#else

/* Slow; but the same for every contender. */
uint32_t checksum_of(const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint32_t crc = 0;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

#endif
