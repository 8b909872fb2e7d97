/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain files by what one writes in an afternoon: the file is mapped, a record is copied to its end, and where there
 * is no room the file is made twice as large. It is cut to its exact bytes in the end, if the process lives so long.
 * Several threads take turns, because the mapping may move; one alone needs no lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"

#define FIRST_BYTES (1u << 20)

struct mapped {
    int fd;
    bool is_shared; /* by threads */
    pthread_mutex_t lock;
    unsigned char *bytes;
    size_t used, size;
};

/* The mapping with so many bytes, which may lie somewhere else. */
static void *map_more(const struct mapped *file, size_t size)
{
    if (!file->bytes)
        return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
    return mremap(file->bytes, file->size, size, MREMAP_MAYMOVE);
}

static int grow(struct mapped *file, size_t needed)
{
    size_t size = FIRST_BYTES;

    while (size < needed)
        size *= 2;
    if (ftruncate(file->fd, (off_t)size) < 0)
        return -errno;

    void *bytes = map_more(file, size);
    if (bytes == MAP_FAILED)
        return -errno;
    file->bytes = bytes;
    file->size = size;
    return 0;
}

static int copy(struct mapped *file, const void *data, size_t size)
{
    const size_t needed = file->used + size;

    if (needed > file->size) {
        const int error = grow(file, needed);
        if (error)
            return error;
    }
    memcpy(file->bytes + file->used, data, size);
    file->used = needed;
    return 0;
}

static int put(void *state, const struct append *append)
{
    struct mapped *file = state;

    if (file->is_shared)
        pthread_mutex_lock(&file->lock);
    const int error = copy(file, append->records->data, append->records->size);
    if (file->is_shared)
        pthread_mutex_unlock(&file->lock);
    return error;
}

static int open_mapped(const struct peer_setup *setup, void **ret_state)
{
    struct mapped *file = allocate(1, sizeof(*file));

    *ret_state = file;
    file->is_shared = setup->threads > 1;
    pthread_mutex_init(&file->lock, NULL);
    file->fd = open(setup->dir, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file->fd < 0)
        return -errno;
    return grow(file, FIRST_BYTES);
}

/* Unmaps the file and cuts it to its bytes. */
static int cut(const struct mapped *file)
{
    if (file->bytes && munmap(file->bytes, file->size) < 0)
        return -errno;
    if (ftruncate(file->fd, (off_t)file->used) < 0)
        return -errno;
    return 0;
}

static int close_mapped(void *state)
{
    struct mapped *file = state;
    const int error = cut(file);

    close(file->fd);
    free(file);
    return error;
}

const struct peer peer_mmap = { .open = open_mapped, .append = put, .close = close_mapped };
