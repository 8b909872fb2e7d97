/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files by what one writes in an afternoon: the file is mapped, a record is copied to its end, and where there
 * is no room the file is made twice as large. It is cut to its exact bytes in the end, if the process lives so long.
 * Several threads take turns, because the mapping may move; one alone needs no lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"
#include "plain.h"

#define FIRST_BYTES (1u << 20)

struct mapped {
    int fd;
    bool is_shared; /* by threads */
    pthread_mutex_t lock;
    unsigned char *bytes;
    size_t used, size;
};

static int grow(struct mapped *file, size_t needed)
{
    size_t size = file->size;
    while (size < needed)
        size *= 2;
    if (ftruncate(file->fd, (off_t)size) < 0)
        return -errno;
    void *bytes = mremap(file->bytes, file->size, size, MREMAP_MAYMOVE);
    if (bytes == MAP_FAILED)
        return -errno;
    file->bytes = bytes;
    file->size = size;
    return 0;
}

static int copy(struct mapped *file, const void *data, size_t size)
{
    int error = file->used + size > file->size ? grow(file, file->used + size) : 0;
    if (error == 0) {
        memcpy(file->bytes + file->used, data, size);
        file->used += size;
    }
    return error;
}

static int put(void *state, const void *data, size_t size)
{
    struct mapped *file = state;
    if (!file->is_shared)
        return copy(file, data, size);
    pthread_mutex_lock(&file->lock);
    int error = copy(file, data, size);
    pthread_mutex_unlock(&file->lock);
    return error;
}

static int map_file(struct mapped *file, const char *path)
{
    file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file->fd < 0)
        return -errno;
    file->size = FIRST_BYTES;
    if (ftruncate(file->fd, FIRST_BYTES) < 0)
        return -errno;
    void *bytes = mmap(NULL, FIRST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
    if (bytes == MAP_FAILED)
        return -errno;
    file->bytes = bytes;
    return 0;
}

static int open_mapped(const struct plain *plain, const struct plain_setup *setup, void **ret_state)
{
    struct mapped *file = allocate(1, sizeof(*file));
    (void)plain;
    file->is_shared = setup->threads > 1;
    pthread_mutex_init(&file->lock, NULL);
    int error = map_file(file, setup->path);
    if (error && file->fd >= 0)
        close(file->fd);
    *ret_state = file;
    if (error)
        free(file);
    return error;
}

static int close_mapped(void *state)
{
    struct mapped *file = state;
    int error = munmap(file->bytes, file->size) < 0 ? -errno : 0;
    if (ftruncate(file->fd, (off_t)file->used) < 0 && error == 0)
        error = -errno;
    if (close(file->fd) < 0 && error == 0)
        error = -errno;
    free(file);
    return error;
}

const struct plain plain_mmap = { .open = open_mapped, .put = put, .close = close_mapped };
