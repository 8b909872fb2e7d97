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
    if (segment->last_lsn == 0)
        return 0;
    if (disk->files == MAX_FILES)
        return -EMFILE;
    snprintf(path, sizeof(path), "%s/%s", disk->dir, segment->file);
    struct disk_file *file = &disk->file[disk->files];
    file->fd = open(path, O_RDONLY | O_CLOEXEC | (disk->is_direct ? O_DIRECT : 0));
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

/* 0 if it was read, 1 if there is no such chunk. */
static int read_chunk(const struct disk *disk, uint64_t chunk, unsigned char *buffer)
{
    for (const struct disk_file *file = disk->file; file < disk->file + disk->files; file++) {
        const uint64_t chunks = (file->bytes + READ_BYTES - 1) / READ_BYTES;
        if (chunk < chunks) {
            const uint64_t at = chunk * READ_BYTES, left = file->bytes - at;
            const size_t size = left < READ_BYTES ? (size_t)left : READ_BYTES;
            const ssize_t got = pread(file->fd, buffer, size, (off_t)at);
            return got < 0 ? -errno : (size_t)got == size ? 0 : -EIO;
        }
        chunk -= chunks;
    }
    return 1;
}

static void *read_chunks(void *argument)
{
    struct disk *disk = argument;
    unsigned char *buffer = disk->buffers + (size_t)READ_BYTES * atomic_fetch_add(&disk->readers, 1);
    int none = 0, rc;
    while ((rc = read_chunk(disk, atomic_fetch_add(&disk->next, 1), buffer)) == 0)
        ;
    if (rc < 0)
        atomic_compare_exchange_strong(&disk->error, &none, rc);
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
    for (size_t i = 0; i < disk->files && !disk->is_direct; i++)
        posix_fadvise(disk->file[i].fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    while (started < readers && pthread_create(&reader[started], NULL, read_chunks, disk) == 0)
        started++;
    read_chunks(disk);
    for (unsigned i = 1; i < started; i++)
        pthread_join(reader[i], NULL);
    return started == readers ? atomic_load(&disk->error) : -EAGAIN;
}

#define DISK                                                                                                 \
    {                                                                                                        \
        .folder = "twinlog", .is_reference = true, .fill = twinlog_fill, .open = open_disk,                  \
        .replay = replay_disk, .close = close_disk                                                           \
    }
const struct peer store_disk_direct = DISK;
const struct peer store_disk_buffered = DISK;
