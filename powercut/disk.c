/* SPDX-License-Identifier: Apache-2.0 */
/* See disk.h. */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 34
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define DISK_INODE 2u
#define ATTR_SECONDS 1e6

/* ---- the cache and the medium ------------------------------------------------------------------ */

enum mark {
    NOT_CACHED,
    OF_BLOCK, /* goes with the other sectors of its block */
    ALONE,    /* goes alone */
};

static bool is_magic(uint64_t word)
{
    const uint64_t segment = UINT64_C(0x0a1a0a0d4c575489), state = UINT64_C(0x0a1a0a0d53575489);
    const uint32_t second = (uint32_t)(word >> 32);

    return word == segment || word == state || second == DISK_GROUP_MAGIC || second == DISK_FOOTER_MAGIC;
}

/* Of a block, or a part of one. */
static enum mark mark_for(const struct disk *disk, const char *bytes, size_t size)
{
    const size_t length = strlen(disk->torn_text);

    if (length > 0 && memmem(bytes, size, disk->torn_text, length))
        return ALONE;
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, bytes + at, sizeof(word));
        if (is_magic(word))
            return ALONE;
    }
    return OF_BLOCK;
}

/* True with a chance of `of_eight` in eight, the same for whatever has one fate. */
static bool is_lucky(const struct disk *disk, uint64_t sector, uint64_t draw, uint64_t of_eight)
{
    const uint64_t unit = disk->mark[sector] == ALONE ? sector : DISK_SECTORS + sector / BLOCK_SECTORS;

    return rng_mix(draw ^ rng_mix(unit + 1)) % 8 < of_eight;
}

static void hand_on(struct disk *disk, uint64_t sector)
{
    memcpy(disk->medium + sector * SECTOR_BYTES, disk->cache + sector * SECTOR_BYTES, SECTOR_BYTES);
}

static void put(struct disk *disk, uint64_t sector, const char *bytes, enum mark mark)
{
    memcpy(disk->cache + sector * SECTOR_BYTES, bytes, SECTOR_BYTES);
    if (disk->mark[sector] == NOT_CACHED)
        disk->listed[disk->listed_count++] = (uint32_t)sector;
    disk->mark[sector] = (unsigned char)mark;
}

/* Some of it reaches the medium at once, also what is written again before the next flush. */
static void put_block(struct disk *disk, uint64_t sector, const char *bytes, size_t size, uint64_t draw)
{
    const enum mark mark = mark_for(disk, bytes, size);

    for (size_t at = 0; at < size; at += SECTOR_BYTES, sector++) {
        put(disk, sector, bytes + at, mark);
        if (is_lucky(disk, sector, draw, 2))
            hand_on(disk, sector);
    }
}

/* How much of a write there is up to the end of a block. */
static size_t part_in_block(uint64_t offset, size_t size)
{
    const size_t left = (size_t)(BLOCK_SECTORS * SECTOR_BYTES - offset % (BLOCK_SECTORS * SECTOR_BYTES));

    return size < left ? size : left;
}

/* A write that fails may have written something. */
static void put_all(struct disk *disk, uint64_t offset, const char *bytes, size_t size, bool is_failing)
{
    const uint64_t draw = rng_next(&disk->rng);

    for (size_t at = 0, part; at < size; at += part) {
        part = part_in_block(offset + at, size - at);
        if (!is_failing || rng_one_in(&disk->rng, 2))
            put_block(disk, (offset + at) / SECTOR_BYTES, bytes + at, part, draw);
    }
}

static void forget_cache(struct disk *disk)
{
    for (uint64_t i = 0; i < disk->listed_count; i++)
        disk->mark[disk->listed[i]] = NOT_CACHED;
    disk->listed_count = 0;
}

static void flush(struct disk *disk)
{
    if (disk->forgets_flushes)
        return;
    for (uint64_t i = 0; i < disk->listed_count; i++)
        hand_on(disk, disk->listed[i]);
    forget_cache(disk);
}

static void get(const struct disk *disk, uint64_t sector, void *bytes)
{
    const unsigned char *from = disk->mark[sector] == NOT_CACHED ? disk->medium : disk->cache;

    memcpy(bytes, from + sector * SECTOR_BYTES, SECTOR_BYTES);
}

/* ---- requests ---------------------------------------------------------------------------------- */

/* Returns with the lock: 0, or the error of a machine that is gone. */
static int begin(struct disk *disk, uint64_t boot)
{
    pthread_mutex_lock(&disk->lock);
    while (disk->is_frozen)
        pthread_cond_wait(&disk->thawed, &disk->lock);
    return boot == disk->boots ? 0 : EIO;
}

static bool is_in_sectors(uint64_t offset, uint64_t size)
{
    return offset % SECTOR_BYTES == 0 && size % SECTOR_BYTES == 0 && offset + size <= DISK_BYTES;
}

static int fail(struct disk *disk)
{
    if (disk->failures++ == 0 && disk->when_failing)
        disk->when_failing(disk->context);
    return EIO;
}

static int read_sectors(struct disk *disk, uint64_t boot, uint64_t offset, unsigned char *bytes, size_t size)
{
    const int error = begin(disk, boot);

    for (size_t at = 0; error == 0 && at < size; at += SECTOR_BYTES)
        get(disk, (offset + at) / SECTOR_BYTES, bytes + at);
    pthread_mutex_unlock(&disk->lock);
    return error;
}

static bool is_in_named(const struct disk *disk, uint64_t offset, size_t size)
{
    return offset / SECTOR_BYTES < disk->named_to && (offset + size) / SECTOR_BYTES > disk->named_from;
}

static void travel(struct disk *disk)
{
    struct timespec delay;

    pthread_mutex_lock(&disk->lock);
    delay = (struct timespec){ disk->write_delay_ms / 1000, disk->write_delay_ms % 1000 * 1000000L };
    disk->delayed += disk->write_delay_ms > 0;
    pthread_mutex_unlock(&disk->lock);
    if (delay.tv_sec == 0 && delay.tv_nsec == 0)
        return;
    nanosleep(&delay, NULL);
    pthread_mutex_lock(&disk->lock);
    disk->delayed--;
    pthread_mutex_unlock(&disk->lock);
}

static int write_sectors(struct disk *disk, uint64_t boot, uint64_t offset, const char *bytes, size_t size,
                         bool is_through)
{
    int error;

    travel(disk);
    error = begin(disk, boot);
    if (error == 0) {
        const bool is_named = is_in_named(disk, offset, size);
        const bool is_failing = disk->writes++ >= disk->fail_write || (is_named && disk->named_fail);

        if (is_named && disk->when_named)
            disk->when_named(disk->context);
        put_all(disk, offset, bytes, size, is_failing);
        if (is_through && !is_failing)
            flush(disk);
        error = is_failing ? fail(disk) : 0;
    }
    pthread_mutex_unlock(&disk->lock);
    return error;
}

static int flush_all(struct disk *disk, uint64_t boot)
{
    int error = begin(disk, boot);

    if (error == 0) {
        const bool is_failing = disk->flushes++ >= disk->fail_flush;

        if (!is_failing)
            flush(disk);
        error = is_failing ? fail(disk) : 0;
    }
    pthread_mutex_unlock(&disk->lock);
    return error;
}

/* ---- the file system --------------------------------------------------------------------------- */

static struct stat attributes_of(fuse_ino_t inode)
{
    if (inode == DISK_INODE)
        return (struct stat){
            .st_ino = inode, .st_mode = S_IFREG | 0600, .st_nlink = 1, .st_size = (off_t)DISK_BYTES
        };
    return (struct stat){ .st_ino = inode, .st_mode = S_IFDIR | 0700, .st_nlink = 2 };
}

static void serve_init(void *context, struct fuse_conn_info *connection)
{
    (void)context;
    connection->max_background = 64;
}

static void serve_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    const struct fuse_entry_param entry = { .ino = DISK_INODE,
                                            .attr = attributes_of(DISK_INODE),
                                            .attr_timeout = ATTR_SECONDS,
                                            .entry_timeout = ATTR_SECONDS };

    if (parent == FUSE_ROOT_ID && strcmp(name, DISK_NAME) == 0)
        fuse_reply_entry(request, &entry);
    else
        fuse_reply_err(request, ENOENT);
}

static void serve_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
    const struct stat attributes = attributes_of(inode);

    (void)file;
    fuse_reply_attr(request, &attributes, ATTR_SECONDS);
}

static void serve_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
    struct disk *disk = fuse_req_userdata(request);

    (void)inode;
    pthread_mutex_lock(&disk->lock);
    file->fh = disk->boots;
    pthread_mutex_unlock(&disk->lock);
    file->direct_io = 1;
    fuse_reply_open(request, file);
}

static void serve_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                       struct fuse_file_info *file)
{
    const uint64_t from = (uint64_t)offset;
    unsigned char *bytes;
    int error = EINVAL;

    (void)inode;
    bytes = malloc(size);
    if (bytes && is_in_sectors(from, size))
        error = read_sectors(fuse_req_userdata(request), file->fh, from, bytes, size);
    if (error == 0)
        fuse_reply_buf(request, (const char *)bytes, size);
    else
        fuse_reply_err(request, error);
    free(bytes);
}

static void serve_write(fuse_req_t request, fuse_ino_t inode, const char *bytes, size_t size, off_t offset,
                        struct fuse_file_info *file)
{
    const uint64_t from = (uint64_t)offset;
    const bool is_through = (file->flags & O_DSYNC) != 0;
    int error = EINVAL;

    (void)inode;
    if (is_in_sectors(from, size))
        error = write_sectors(fuse_req_userdata(request), file->fh, from, bytes, size, is_through);
    if (error == 0)
        fuse_reply_write(request, size);
    else
        fuse_reply_err(request, error);
}

static void serve_fsync(fuse_req_t request, fuse_ino_t inode, int is_data_only, struct fuse_file_info *file)
{
    (void)inode;
    (void)is_data_only;
    fuse_reply_err(request, flush_all(fuse_req_userdata(request), file->fh));
}

static const struct fuse_lowlevel_ops operations = {
    .init = serve_init,
    .lookup = serve_lookup,
    .getattr = serve_getattr,
    .open = serve_open,
    .read = serve_read,
    .write = serve_write,
    .fsync = serve_fsync,
};

int disk_serve(struct disk *disk, const char *directory, void (*when_mounted)(void *context), void *context)
{
    char *arguments[] = { "disk", NULL };
    struct fuse_args args = FUSE_ARGS_INIT(1, arguments);
    struct fuse_loop_config config = { .clone_fd = 0, .max_idle_threads = 16 };
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), disk);
    int result;

    if (!session)
        return -EIO;
    result = fuse_session_mount(session, directory);
    if (result == 0) {
        when_mounted(context);
        result = fuse_session_loop_mt(session, &config);
        fuse_session_unmount(session);
    }
    fuse_session_destroy(session);
    return result;
}

/* ---- for the test ------------------------------------------------------------------------------ */

static void *map(size_t bytes, int fd)
{
    const int flags = MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static void share_lock(struct disk *disk)
{
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;

    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&disk->lock, &mutex);
    pthread_mutexattr_destroy(&mutex);
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&disk->thawed, &condition);
    pthread_condattr_destroy(&condition);
}

struct disk *disk_make(int medium_fd)
{
    struct disk *disk = map(sizeof(*disk), -1);

    if (!disk)
        return NULL;
    share_lock(disk);
    disk->fail_write = disk->fail_flush = NEVER;
    disk->medium = map(DISK_BYTES, medium_fd);
    disk->cache = map(DISK_BYTES, -1);
    disk->listed = map(DISK_SECTORS * sizeof(*disk->listed), -1);
    disk->mark = map(DISK_SECTORS, -1);
    return disk->medium && disk->cache && disk->listed && disk->mark ? disk : NULL;
}

/* How many of them are lost is up to chance too: all, none, and anything between. */
void disk_cut(struct disk *disk, uint64_t seed)
{
    uint64_t draw, of_eight;

    pthread_mutex_lock(&disk->lock);
    disk->is_frozen = true;
    disk->rng = (struct rng){ rng_mix(seed) };
    draw = rng_next(&disk->rng);
    of_eight = rng_below(&disk->rng, 9);
    for (uint64_t i = 0; i < disk->listed_count; i++) {
        const bool is_kept = is_lucky(disk, disk->listed[i], draw, of_eight);

        if (is_kept)
            hand_on(disk, disk->listed[i]);
        disk->kept += is_kept;
        disk->lost += !is_kept;
    }
    forget_cache(disk);
    pthread_mutex_unlock(&disk->lock);
}

void disk_restart(struct disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->boots++;
    disk->is_frozen = false;
    pthread_cond_broadcast(&disk->thawed);
    pthread_mutex_unlock(&disk->lock);
}

static void set_failing(struct disk *disk, uint64_t *first, uint64_t so_far, uint64_t n)
{
    *first = n == NEVER ? NEVER : so_far + n;
    disk->failures = 0;
}

void disk_fail_writes(struct disk *disk, uint64_t n)
{
    pthread_mutex_lock(&disk->lock);
    set_failing(disk, &disk->fail_write, disk->writes, n);
    pthread_mutex_unlock(&disk->lock);
}

void disk_fail_flushes(struct disk *disk, uint64_t n)
{
    pthread_mutex_lock(&disk->lock);
    set_failing(disk, &disk->fail_flush, disk->flushes, n);
    pthread_mutex_unlock(&disk->lock);
}

void disk_name_blocks(struct disk *disk, uint64_t from, uint64_t to, bool fail)
{
    pthread_mutex_lock(&disk->lock);
    disk->named_from = from / SECTOR_BYTES;
    disk->named_to = to / SECTOR_BYTES;
    disk->named_fail = fail;
    pthread_mutex_unlock(&disk->lock);
}

static uint64_t read_locked(struct disk *disk, const uint64_t *counter)
{
    pthread_mutex_lock(&disk->lock);
    const uint64_t value = *counter;
    pthread_mutex_unlock(&disk->lock);
    return value;
}

uint64_t disk_failures(struct disk *disk)
{
    return read_locked(disk, &disk->failures);
}

void disk_delay_writes(struct disk *disk, uint32_t ms)
{
    pthread_mutex_lock(&disk->lock);
    disk->write_delay_ms = ms;
    pthread_mutex_unlock(&disk->lock);
}

uint64_t disk_delayed(struct disk *disk)
{
    return read_locked(disk, &disk->delayed);
}
