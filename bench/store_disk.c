/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference of a replay from a disk: how fast it gives the bytes of the same files when nothing looks at them.
 *
 * `disk_direct` keeps four reads of 1 MiB in flight past the page cache, `disk_buffered` reads the same through
 * it, one after the other, with the kernel told so. Both stop where the records end.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <twinlog_admin.h>
#include <unistd.h>

#include "common.h"
#include "peer.h"

#define READ_BYTES (1u << 20)
#define IN_FLIGHT 4u
#define BLOCK 4096u
#define MAX_FILES 4096u

struct disk {
    const char *dir;
    bool is_direct;
    size_t files;
    struct disk_file {
        int fd;
        uint64_t bytes;
    } file[MAX_FILES];
    unsigned char *buffers; /* READ_BYTES for each reader */

    _Atomic(unsigned) readers;
    _Atomic(uint64_t) next; /* chunk of all files, to be read by the next thread that asks */
    _Atomic(int) error;     /* the first one */
};

static int add_file(void *context, const struct twinlog_segment *segment)
{
    struct disk *disk = context;
    char path[4096];
    int flags = O_RDONLY | O_CLOEXEC;

    if (segment->last_lsn == 0)
        return 0; /* it has no records */
    if (disk->files == MAX_FILES)
        return -EMFILE;

    if (disk->is_direct)
        flags |= O_DIRECT;
    snprintf(path, sizeof(path), "%s/%s", disk->dir, segment->file);
    struct disk_file *file = &disk->file[disk->files];
    file->fd = open(path, flags);
    if (file->fd < 0)
        return -errno;
    disk->files++;
    file->bytes = BLOCK + (segment->data_bytes + BLOCK - 1) / BLOCK * BLOCK;
    return 0;
}

static int close_disk(void *state)
{
    struct disk *disk = state;
    for (size_t i = 0; i < disk->files; i++)
        close(disk->file[i].fd);
    free(disk->buffers);
    free(disk);
    return 0;
}

static int open_disk(const struct peer_setup *setup, void **ret_state)
{
    struct disk *disk = *ret_state = allocate(1, sizeof(*disk));
    disk->dir = setup->plan->dir;
    disk->is_direct = setup->peer == &store_disk_direct;
    disk->buffers = allocate_blocks((size_t)READ_BYTES * IN_FLIGHT);
    return twinlog_segments(disk->dir, add_file, disk);
}

static uint64_t chunks_of(const struct disk_file *file)
{
    return (file->bytes + READ_BYTES - 1) / READ_BYTES;
}

static int read_chunk(const struct disk_file *file, uint64_t chunk, unsigned char *buffer)
{
    const uint64_t offset = chunk * READ_BYTES, left = file->bytes - offset;
    const size_t size = left < READ_BYTES ? (size_t)left : READ_BYTES;
    const ssize_t got = pread(file->fd, buffer, size, (off_t)offset);

    if (got < 0)
        return -errno;
    if ((size_t)got != size)
        return -EIO;
    return 0;
}

/* The file that has this chunk of all files, and which of its own that is; NULL behind the last one. */
static const struct disk_file *find_chunk(const struct disk *disk, uint64_t chunk, uint64_t *ret_chunk)
{
    for (size_t i = 0; i < disk->files; i++) {
        const uint64_t chunks = chunks_of(&disk->file[i]);

        if (chunk < chunks) {
            *ret_chunk = chunk;
            return &disk->file[i];
        }
        chunk -= chunks;
    }
    return NULL;
}

static void *read_chunks(void *argument)
{
    struct disk *disk = argument;
    const size_t reader = atomic_fetch_add(&disk->readers, 1);
    unsigned char *buffer = disk->buffers + READ_BYTES * reader;
    int error = 0, none = 0;

    while (error == 0) {
        uint64_t chunk;
        const struct disk_file *file = find_chunk(disk, atomic_fetch_add(&disk->next, 1), &chunk);
        if (!file)
            return NULL;
        error = read_chunk(file, chunk, buffer);
    }
    atomic_compare_exchange_strong(&disk->error, &none, error);
    return NULL;
}

/* The first of the readers is the calling thread. */
static int replay_disk(void *state, struct tally *tally)
{
    struct disk *disk = state;
    pthread_t reader[IN_FLIGHT];
    const unsigned readers = disk->is_direct ? IN_FLIGHT : 1;
    unsigned started = 1;

    (void)tally;
    atomic_store(&disk->next, 0);
    atomic_store(&disk->readers, 0);
    if (!disk->is_direct) {
        for (size_t i = 0; i < disk->files; i++)
            posix_fadvise(disk->file[i].fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    }

    while (started < readers && pthread_create(&reader[started], NULL, read_chunks, disk) == 0)
        started++;
    read_chunks(disk);
    for (unsigned i = 1; i < started; i++)
        pthread_join(reader[i], NULL);

    if (started < readers)
        return -EAGAIN;
    return atomic_load(&disk->error);
}

#define DISK                                                                                                 \
    {                                                                                                        \
        .folder = "twinlog", .is_reference = true, .fill = twinlog_fill, .open = open_disk,                  \
        .replay = replay_disk, .close = close_disk                                                           \
    }
const struct peer store_disk_direct = DISK;
const struct peer store_disk_buffered = DISK;
