/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor of a replay from a disk: how fast it gives the bytes of the same files when nothing looks at them.
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
#include <twinlog.h>
#include <unistd.h>

#include "peer.h"

/* ---- the disk ---------------------------------------------------------------------------------- */

#define READ_BYTES (1u << 20)
#define IN_FLIGHT 4u
#define BLOCK 4096u
#define MAX_FILES 4096u

struct disk_file {
    int fd;
    uint64_t chunks; /* of READ_BYTES, the last one may be shorter */
    uint64_t bytes;
};

struct disk {
    const char *dir;
    int flags;
    size_t files;
    struct disk_file file[MAX_FILES];
    unsigned char *buffers; /* IN_FLIGHT of them */

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
    file->fd = open(path, O_RDONLY | O_CLOEXEC | disk->flags);
    if (file->fd < 0)
        return -errno;
    disk->files++;
    file->bytes = BLOCK + (segment->data_bytes + BLOCK - 1) / BLOCK * BLOCK;
    file->chunks = (file->bytes + READ_BYTES - 1) / READ_BYTES;
    return 0;
}

static void close_disk(void *state)
{
    struct disk *disk = state;
    for (size_t i = 0; i < disk->files; i++)
        close(disk->file[i].fd);
    free(disk->buffers);
    free(disk);
}

static int open_disk(const struct store_plan *plan, int flags, void **ret_state)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    if (!disk)
        return -ENOMEM;
    disk->dir = plan->dir;
    disk->flags = flags;
    disk->buffers = aligned_alloc(BLOCK, (size_t)READ_BYTES * IN_FLIGHT);
    int error = disk->buffers ? twinlog_segments(plan->dir, add_file, disk) : -ENOMEM;
    if (error) {
        close_disk(disk);
        return error;
    }
    *ret_state = disk;
    return 0;
}

/* False when there is no such chunk. */
static bool find_chunk(const struct disk *disk, uint64_t chunk, size_t *ret_file, uint64_t *ret_chunk)
{
    for (size_t i = 0; i < disk->files; i++) {
        if (chunk < disk->file[i].chunks) {
            *ret_file = i;
            *ret_chunk = chunk;
            return true;
        }
        chunk -= disk->file[i].chunks;
    }
    return false;
}

static int read_chunk(const struct disk_file *file, uint64_t chunk, unsigned char *buffer)
{
    uint64_t at = chunk * READ_BYTES;
    uint64_t left = file->bytes - at;
    size_t size = left < READ_BYTES ? (size_t)left : READ_BYTES;
    ssize_t got = pread(file->fd, buffer, size, (off_t)at);
    if (got < 0)
        return -errno;
    return (size_t)got == size ? 0 : -EIO;
}

struct disk_reader {
    struct disk *disk;
    unsigned char *buffer;
    pthread_t thread;
};

static void *read_chunks(void *argument)
{
    struct disk_reader *reader = argument;
    struct disk *disk = reader->disk;
    size_t file;
    uint64_t chunk;
    while (find_chunk(disk, atomic_fetch_add(&disk->next, 1), &file, &chunk)) {
        int none = 0, error = read_chunk(&disk->file[file], chunk, reader->buffer);
        if (error) {
            atomic_compare_exchange_strong(&disk->error, &none, error);
            break;
        }
    }
    return NULL;
}

/* The first of the readers is the calling thread. */
static int read_all(struct disk *disk, unsigned readers)
{
    struct disk_reader reader[IN_FLIGHT];
    unsigned started = 1;

    atomic_store(&disk->next, 0);
    for (unsigned i = 0; i < readers; i++)
        reader[i] = (struct disk_reader){ .disk = disk, .buffer = disk->buffers + (size_t)i * READ_BYTES };
    while (started < readers &&
           pthread_create(&reader[started].thread, NULL, read_chunks, &reader[started]) == 0)
        started++;
    read_chunks(&reader[0]);
    for (unsigned i = 1; i < started; i++)
        pthread_join(reader[i].thread, NULL);
    return started == readers ? atomic_load(&disk->error) : -EAGAIN;
}

static int open_direct(const struct store_plan *plan, void **ret_state)
{
    return open_disk(plan, O_DIRECT, ret_state);
}

static int open_buffered(const struct store_plan *plan, void **ret_state)
{
    return open_disk(plan, 0, ret_state);
}

static int replay_direct(void *state, struct tally *tally)
{
    (void)tally;
    return read_all(state, IN_FLIGHT);
}

static int replay_buffered(void *state, struct tally *tally)
{
    struct disk *disk = state;
    (void)tally;
    for (size_t i = 0; i < disk->files; i++)
        posix_fadvise(disk->file[i].fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return read_all(disk, 1);
}

const struct store store_disk_direct = {
    .folder = "twinlog",
    .is_floor = true,
    .fill = twinlog_fill,
    .open = open_direct,
    .replay = replay_direct,
    .close = close_disk,
    .explain = explain_errno,
};

const struct store store_disk_buffered = {
    .folder = "twinlog",
    .is_floor = true,
    .fill = twinlog_fill,
    .open = open_buffered,
    .replay = replay_buffered,
    .close = close_disk,
    .explain = explain_errno,
};
