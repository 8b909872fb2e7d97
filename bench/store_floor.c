/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floors of a replay: what the disk gives of the same files when nobody looks into them, and what two
 * CRC32Cs a record cost when nothing else is done.
 *
 * `disk_direct` keeps four reads of 1 MiB in flight past the page cache, `disk_buffered` reads the same through
 * it, one after the other, with the kernel told so. Both stop where the records end. `bare` has the records in
 * memory, each behind a header of twinlog's size, and knows where the next one begins.
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

#ifdef HAVE_ISAL
#include <isa-l/crc.h>
#endif

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

    _Atomic(uint64_t) next; /* chunk of all files, to be read by whoever asks */
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

/* ---- the checksums ----------------------------------------------------------------------------- */

#ifdef HAVE_ISAL

struct bare_header {
    uint32_t checksum; /* of the rest of it */
    uint32_t payload_checksum;
    uint32_t size;
    uint32_t reserved;
    uint64_t number;
};
#define HEADER_CHECKED (sizeof(struct bare_header) - sizeof(uint32_t))

struct bare {
    unsigned char *bytes;
    uint64_t records;
};

static uint32_t checksum(const void *data, size_t size)
{
    return crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, 0);
}

static int fill_bare(const struct store_plan *plan)
{
    (void)plan;
    return 0;
}

static size_t bare_stride(size_t size)
{
    return sizeof(struct bare_header) + (size + 7) / 8 * 8;
}

static int open_bare(const struct store_plan *plan, void **ret_state)
{
    struct bare *bare = malloc(sizeof(*bare));
    size_t stride = bare_stride(plan->record_bytes);
    if (!bare)
        return -ENOMEM;
    bare->records = plan->records;
    bare->bytes = malloc(plan->records * stride);
    if (!bare->bytes) {
        free(bare);
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < plan->records; i++) {
        struct bare_header *header = (struct bare_header *)(void *)(bare->bytes + i * stride);
        *header = (struct bare_header){ .size = plan->record_bytes, .number = i + 1 };
        memcpy(header + 1, plan_record(plan, i + 1), plan->record_bytes);
        header->payload_checksum = checksum(header + 1, plan->record_bytes);
        header->checksum = checksum(&header->payload_checksum, HEADER_CHECKED);
    }
    *ret_state = bare;
    return 0;
}

static int replay_bare(void *state, struct tally *tally)
{
    const struct bare *bare = state;
    const unsigned char *at = bare->bytes;
    for (uint64_t i = 0; i < bare->records; i++) {
        const struct bare_header *header = (const struct bare_header *)(const void *)at;
        if (checksum(&header->payload_checksum, HEADER_CHECKED) != header->checksum ||
            checksum(header + 1, header->size) != header->payload_checksum)
            return -EIO;
        tally_add(tally, header + 1, header->size);
        at += bare_stride(header->size);
    }
    return 0;
}

static void close_bare(void *state)
{
    struct bare *bare = state;
    free(bare->bytes);
    free(bare);
}

const struct store store_bare = {
    .folder = "bare",
    .fill = fill_bare,
    .open = open_bare,
    .replay = replay_bare,
    .close = close_bare,
    .explain = explain_errno,
};

#endif
