/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of one directory, through plain system calls.
 *
 * Files are opened by name relative to a descriptor of the directory, so the directory of an open log may be renamed.
 * Reads and writes go on after a signal or a short transfer; a failed sync is never retried: the caller decides what
 * the failure means (I5).
 *
 * Locks are open-file-description locks, each on a byte of the file, on the descriptor that carries the I/O. The kernel
 * keeps the description as long as a request uses it, so a killed process holds the writer's lock until its last write
 * has landed (I9). A living process waits for its writes before it closes a file, and releases its locks explicitly: a
 * child that the system call clone() has made shares the description and would keep the file locked until it runs
 * another program. fork() closes the file in the child (base/fork.h).
 */
#define _GNU_SOURCE
#include "io/io_files.h"

#include "base/base.h"
#include "base/descriptor.h"
#include "base/libc.h"
#include "base/sync.h"
#include "io/mapping.h"
#include "io/ring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define EXTENTS_AT_ONCE 64u
#define LOCK_RETRY_MS 2u

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80 /* Linux 6.17 */
#endif

_Static_assert(sizeof(off_t) == 8, "log files are larger than 2 GiB");

static struct io_files *files_of(struct io *io)
{
    return (struct io_files *)io;
}
static struct disk_file *disk_file_of(struct io_file *file)
{
    return (struct disk_file *)file;
}
static int error_of(int result)
{
    return result < 0 ? -errno : 0;
}

/* What is asked of a file. Its times are not: Linux 6.13 and later note a finer one at the next write after somebody
 * has asked for them, and that write takes longer to sync. */
struct about {
    mode_t mode;
    dev_t device;
    ino_t inode;
    uint64_t bytes;
    uint64_t links;
    uint64_t io_bytes; /* of a block of the file system */
    uid_t owner;
    gid_t group;
};

#define ALL_BUT_TIMES (STATX_TYPE | STATX_MODE | STATX_INO | STATX_SIZE | STATX_NLINK | STATX_UID | STATX_GID)

/* For a kernel or a sandbox that refuses the newer call. */
static int look_with_times(int directory, const char *name, int flags, struct about *ret_about)
{
    struct stat found;

    if (fstatat(directory, name, &found, flags) < 0)
        return -errno;
    *ret_about = (struct about){
        .mode = found.st_mode,
        .device = found.st_dev,
        .inode = found.st_ino,
        .bytes = (uint64_t)found.st_size,
        .links = found.st_nlink,
        .io_bytes = (uint64_t)found.st_blksize,
        .owner = found.st_uid,
        .group = found.st_gid,
    };
    return 0;
}

static int look(int directory, const char *name, int flags, struct about *ret_about)
{
    struct statx found;

    if (statx(directory, name, flags, ALL_BUT_TIMES, &found) < 0) {
        const bool is_refused = errno == ENOSYS || errno == EPERM;
        return is_refused ? look_with_times(directory, name, flags, ret_about) : -errno;
    }
    *ret_about = (struct about){
        .mode = found.stx_mode,
        .device = makedev(found.stx_dev_major, found.stx_dev_minor),
        .inode = found.stx_ino,
        .bytes = found.stx_size,
        .links = found.stx_nlink,
        .io_bytes = found.stx_blksize,
        .owner = found.stx_uid,
        .group = found.stx_gid,
    };
    return 0;
}

/* The file that has the name; a symbolic link is one of its own. */
static int look_at_name(const struct io_files *files, const char *name, struct about *ret_about)
{
    return look(files->directory, name, AT_SYMLINK_NOFOLLOW, ret_about);
}

static int look_at(int fd, struct about *ret_about)
{
    return look(fd, "", AT_EMPTY_PATH, ret_about);
}

static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* ---- open and close ---------------------------------------------------------------------------- */

static int check_kind(mode_t mode)
{
    if (S_ISDIR(mode))
        return -EISDIR;
    if (S_ISLNK(mode))
        return -ELOOP;
    return S_ISREG(mode) ? 0 : -EINVAL;
}

/* Checks before the open, because opening a device may already do harm. If the file is replaced after this check,
 * prepare_open_file() checks the open one. */
static int check_name(const struct io_files *files, const char *name)
{
    struct about about;
    const int error = look_at_name(files, name, &about);

    return error < 0 ? error : check_kind(about.mode);
}

/* Sets O_DIRECT only now that the file is known to be regular: at open, O_DIRECT may fail after O_CREAT has created
 * the file. The same fcntl() clears O_NONBLOCK, with which io_uring returns EAGAIN on some file systems; it is not
 * used for a file that is only read. */
static int prepare_open_file(struct disk_file *file, unsigned flags)
{
    const bool is_only_read = (flags & IO_READ_ONLY) && !(flags & IO_DIRECT);
    int status_flags = 0;
    struct about about;
    int error = look_at(file->fd, &about);

    if (error < 0)
        return error;
    file->file.opened_bytes = about.bytes;
    file->device = about.device;
    file->inode = about.inode;
    error = check_kind(about.mode);
    if (error < 0)
        return error;

    if (is_only_read)
        return 0;
    if (flags & IO_DIRECT)
        status_flags |= O_DIRECT;
    if (flags & IO_APPEND)
        status_flags |= O_APPEND;
    return error_of(fcntl(file->fd, F_SETFL, status_flags));
}

/* A directory that was removed has no name any more; one that was renamed has. FUSE and NFS say so by an error. */
static int files_check_directory(struct io *io)
{
    struct about about;
    const int error = look_at(files_of(io)->directory, &about);

    if (error == 0)
        return about.links == 0 ? -ESTALE : 0;
    return error == -ENOENT || error == -ESTALE ? -ESTALE : 0;
}

/* Nothing is found in a directory that was removed. */
static int tell_removed(struct io *io, int error)
{
    const bool is_removed = error == -ENOENT && files_check_directory(io) < 0;

    return is_removed ? -ESTALE : error;
}

static int open_flags(unsigned flags)
{
    /* O_NONBLOCK: an open of a FIFO of this name must not wait for its other end */
    /* O_APPEND at once: a file with the attribute for it cannot be opened otherwise */
    const int always = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (flags & IO_APPEND ? O_APPEND : 0);

    if (flags & IO_READ_ONLY)
        return always | O_RDONLY;
    if (flags & IO_CREATE)
        return always | O_RDWR | O_CREAT | O_EXCL;
    return always | O_RDWR;
}

static int open_file(const struct io_files *files, const char *name, unsigned flags, struct disk_file *file)
{
    const mode_t mode = flags >= IO_MODE ? flags / IO_MODE : 0666;
    return twl_child_open(&file->in_child, &file->fd, files->directory, name, open_flags(flags), mode);
}

/* The kernel tells the alignment of direct I/O for a file of which it never falls back to the page cache; else 0. */
static uint32_t alignment_past_cache(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx about;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) < 0)
        return 0;
    const bool is_told = (about.stx_mask & STATX_DIOALIGN) && about.stx_dio_offset_align > 0;
    if (!is_told)
        return 0;
    return (uint32_t)max_u64(about.stx_dio_offset_align, about.stx_dio_mem_align);
#else
    (void)fd;
    return 0;
#endif
}

static void close_registered(struct child_file *in_child, int *fd)
{
    if (*fd < 0)
        return;
    twl_child_unregister(in_child);
    close(*fd);
    *fd = -1;
}

/* Opens a second, direct descriptor to read with, because the first one carries buffered writes. Without direct I/O,
 * reads use the first one (see read_from_disk()). */
static int open_past_cache(const struct io_files *files, const char *name, struct disk_file *file)
{
    struct about about;

    int error = twl_child_open(&file->disk_in_child, &file->disk_fd, files->directory, name,
                               open_flags(IO_READ_ONLY), 0);
    if (error == -ENOENT) /* the file has lost its name since */
        return 0;
    if (error == 0)
        error = look_at(file->disk_fd, &about);
    if (error < 0)
        return error;

    const bool is_same = about.device == file->device && about.inode == file->inode;
    if (is_same)
        error = error_of(fcntl(file->disk_fd, F_SETFL, O_DIRECT));
    if (!is_same || error < 0)
        close_registered(&file->disk_in_child, &file->disk_fd);
    return error == -EINVAL ? 0 : error; /* no direct I/O */
}

static void close_fd(struct disk_file *file)
{
    close_registered(&file->disk_in_child, &file->disk_fd);
    close_registered(&file->in_child, &file->fd);
}

static int files_open(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    struct io_files *files = files_of(io);
    int error = 0;

    ASSERT(!(flags & IO_READ_ONLY) || !(flags & IO_CREATE));
    if (!is_plain_name(name))
        return -EINVAL;
    if (!(flags & IO_CREATE))
        error = check_name(files, name);
    if (error < 0)
        return tell_removed(io, error);

    struct disk_file *file = calloc(1, sizeof(*file));
    if (!file)
        return -ENOMEM;
    file->file.io = io;
    file->is_read_only = flags & IO_READ_ONLY;
    file->is_direct = flags & IO_DIRECT;
    file->is_from_disk = flags & IO_FROM_DISK;
    file->fd = file->disk_fd = -1;

    error = open_file(files, name, flags, file);
    if (error < 0)
        goto close_fd;
    error = prepare_open_file(file, flags);
    if (error < 0)
        goto remove_file;

    if (file->is_from_disk && !file->is_direct)
        error = open_past_cache(files, name, file);
    if (error < 0)
        goto remove_file;
    if (file->disk_fd >= 0)
        file->past_cache = alignment_past_cache(file->disk_fd);
    if (flags & IO_BEGIN_READ)
        posix_fadvise(file->fd, 0, BLOCK_BYTES, POSIX_FADV_WILLNEED);
    *ret_file = &file->file;
    return 0;

remove_file:
    if (flags & IO_CREATE)
        unlinkat(files->directory, name, 0);
close_fd:
    close_fd(file);
    free(file);
    return tell_removed(io, error);
}

static void unlock(const struct disk_file *file, off_t start, off_t size)
{
    struct flock range = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = size };

    fcntl(file->fd, F_OFD_SETLK, &range);
}

static void files_close(struct io_file *io_file)
{
    struct disk_file *file = disk_file_of(io_file);

    if (atomic_load_explicit(&file->may_be_locked, memory_order_relaxed))
        unlock(file, 0, 0);
    close_fd(file);
    free(file);
}

/* ---- bytes ------------------------------------------------------------------------------------- */

static int files_size(struct io_file *file, uint64_t *ret_bytes)
{
    struct about about;
    const int error = look_at(io_file_fd(file), &about);

    if (error < 0)
        return error;
    *ret_bytes = about.bytes;
    return 0;
}

static int read_all(int fd, bool is_direct, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    size_t done = 0;

    while (done < size) {
        const ssize_t n = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;

        done += (size_t)n;
        /* a direct read stops inside a block only at the end of the file, and cannot continue there */
        if (is_direct && done % BLOCK_BYTES != 0)
            break;
    }
    *ret_size = done;
    return 0;
}

/* `unit` 0 = a read through the page cache. A direct read is one of whole units; of a block a caller may want no more
 * than the beginning. */
static int read_file(int fd, uint32_t unit, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    _Alignas(BLOCK_BYTES) unsigned char block[BLOCK_BYTES];
    size_t found = 0;

    if (unit == 0)
        return read_all(fd, false, buffer, size, offset, ret_size);
    const bool is_aligned = (size | offset | (uintptr_t)buffer) % unit == 0;
    if (is_aligned || size >= BLOCK_BYTES)
        return read_all(fd, true, buffer, size, offset, ret_size);

    const int error = read_all(fd, true, block, BLOCK_BYTES, offset, &found);
    *ret_size = (size_t)min_u64(found, size);
    memcpy(buffer, block, *ret_size);
    return error;
}

/* Through the descriptor that also carries the writes. */
static int read_by_own(const struct disk_file *file, void *buffer, size_t size, uint64_t offset,
                       size_t *ret_size)
{
    return read_file(file->fd, file->is_direct ? BLOCK_BYTES : 0, buffer, size, offset, ret_size);
}

#define LARGE_PAGE_BYTES (UINT64_C(2) << 20) /* the kernel keeps files in pages of up to this size */

/* Removes clean pages from the page cache, unless a process has them mapped. A page that lies partly outside is not
 * dropped, so the range is that of whole large pages. */
static void drop_pages(const struct disk_file *file, size_t size, uint64_t offset)
{
    const uint64_t from = align_down(offset, LARGE_PAGE_BYTES),
                   to = align_up(offset + size, LARGE_PAGE_BYTES);

    posix_fadvise(file->fd, (off_t)from, (off_t)(to - from), POSIX_FADV_DONTNEED);
}

/* The kernel marks a page clean when its write fails: the cache then has bytes that the disk lacks. A direct read
 * bypasses them, and leaves the cache to others that read. Some file systems answer a direct read from the cache (ext4
 * with data=journal, btrfs with compression), or have none: after a drop they have to read the disk. */
static int read_from_disk(const struct disk_file *file, void *buffer, size_t size, uint64_t offset,
                          size_t *ret_size)
{
    if (file->past_cache == 0)
        drop_pages(file, size, offset);
    if (file->disk_fd >= 0) {
        const uint32_t unit = file->past_cache > 0 ? file->past_cache : BLOCK_BYTES;
        const int error = read_file(file->disk_fd, unit, buffer, size, offset, ret_size);
        if (error != -EINVAL && error != -EOPNOTSUPP)
            return error;
    }

    /* The device needs larger blocks; or the file system has no direct I/O for this file, as it is compressed. */
    drop_pages(file, size, offset);
    return read_by_own(file, buffer, size, offset, ret_size);
}

static int files_read(struct io_file *io_file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    const struct disk_file *file = disk_file_of(io_file);

    if (file->is_from_disk)
        return read_from_disk(file, buffer, size, offset, ret_size);
    return read_by_own(file, buffer, size, offset, ret_size);
}

uint64_t twl_size_limit(void)
{
    struct rlimit limit;
    const bool is_limited = getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;

    return is_limited ? limit.rlim_cur : UINT64_MAX;
}

/* 0, or -EFBIG if the limit of this process forbids a file of this size. A write at or behind it raises SIGXFSZ, which
 * by default ends the process, even if the file already has the bytes. So all that makes a file longer looks first. */
static int check_limit(uint64_t bytes)
{
    return bytes > twl_size_limit() ? -EFBIG : 0;
}

/* The kernel keeps what a call writes in one page, and large ones are slow to come where the host took memory back. */
#define MOST_IN_ONE_CALL (256u << 10)

static int files_write(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    const int error = check_limit(offset + size);
    if (error < 0)
        return error;

    size_t done = 0;
    while (done < size) {
        const size_t part = min_u64(size - done, MOST_IN_ONE_CALL);
        const ssize_t n = pwrite(io_file_fd(file), (const char *)data + done, part, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0) /* no test: the kernel writes some bytes, or says why not */
            return -EIO;
        done += (size_t)n;
    }
    return 0;
}

int twl_io_reserve(struct io_file *file, int mode, uint64_t from, uint64_t to)
{
    int error = check_limit(to); /* the kernel does not, for blocks behind the end of the file */

    if (error < 0)
        return error;
    do
        error = error_of(fallocate(io_file_fd(file), mode, (off_t)from, (off_t)(to - from)));
    while (error == -EINTR);
    return error;
}

/* Never longer, so the limit of this process is of no concern. */
static int files_truncate(struct io_file *file, uint64_t bytes)
{
    return error_of(ftruncate(io_file_fd(file), (off_t)bytes));
}

static int write_zeros(struct io_file *file, uint64_t from, uint64_t to)
{
    static _Alignas(BLOCK_BYTES) unsigned char zeros[256 * 1024]; /* never written */

    for (uint64_t at = from; at < to; at += sizeof(zeros)) {
        const size_t part = min_u64(sizeof(zeros), to - at);
        const int error = files_write(file, zeros, part, at);
        if (error < 0)
            return error;
    }
    return 0;
}

static int lengthen(struct io_file *file, uint64_t old_bytes, uint64_t bytes)
{
    const int error = check_limit(bytes);

    if (error < 0 || old_bytes >= bytes)
        return error;
    return error_of(ftruncate(io_file_fd(file), (off_t)bytes));
}

enum sharing {
    SHARING_NONE, /* up to the end; or the file system cannot say, so it has no clones */
    SHARING_SOME,
    SHARING_NONE_YET, /* there are more extents to look at */
};

static bool has_no_extents(int error)
{
    return error == -EOPNOTSUPP || error == -ENOTTY;
}

/* Looks at the next extents from *at on, and sets *at behind them. An enum sharing, or an error: it is not known. */
static int look_at_extents(struct io_file *file, struct fiemap *map, uint64_t bytes, uint64_t *at)
{
    *map = (struct fiemap){ .fm_start = *at, .fm_length = bytes - *at, .fm_extent_count = EXTENTS_AT_ONCE };
    const int error = error_of(ioctl(io_file_fd(file), IOCTL_REQUEST(FS_IOC_FIEMAP), map));
    if (has_no_extents(error))
        return SHARING_NONE;
    if (error < 0)
        return error;
    if (map->fm_mapped_extents == 0)
        return SHARING_NONE;

    for (uint32_t i = 0; i < map->fm_mapped_extents; i++) {
        const struct fiemap_extent *extent = &map->fm_extents[i];
        if (extent->fe_flags & FIEMAP_EXTENT_SHARED)
            return SHARING_SOME;
        *at = extent->fe_logical + extent->fe_length;
    }
    return *at < bytes ? SHARING_NONE_YET : SHARING_NONE;
}

/* SHARING_NONE, SHARING_SOME, or an error. */
static int find_sharing(struct io_file *file, uint64_t bytes)
{
    struct fiemap *map = calloc(1, sizeof(*map) + EXTENTS_AT_ONCE * sizeof(map->fm_extents[0]));
    int sharing = SHARING_NONE_YET;
    uint64_t at = 0;

    if (!map)
        return -ENOMEM;
    while (sharing == SHARING_NONE_YET)
        sharing = look_at_extents(file, map, bytes, &at);
    free(map);
    return sharing;
}

/* Where it is not known, too. */
static int own_all_blocks(struct io_file *file, uint64_t bytes)
{
    if (find_sharing(file, bytes) == SHARING_NONE)
        return 0;
    return twl_io_reserve(file, FALLOC_FL_UNSHARE_RANGE, 0, bytes);
}

/* The block that contains the old end is written already. */
static int write_zeros_behind(struct io_file *file, const struct about *old, uint64_t bytes)
{
    const uint64_t unit = min_u64(old->io_bytes, BLOCK_BYTES);

    return write_zeros(file, align_up(old->bytes, unit), bytes);
}

static int reserve_space(struct io_file *file, const struct about *old, uint64_t bytes)
{
    int error = twl_io_reserve(file, 0, 0, bytes);
    if (error != -EOPNOTSUPP)
        return error;

    /* This file system reserves nothing. Written blocks have their space. */
    error = lengthen(file, old->bytes, bytes);
    return error < 0 ? error : write_zeros_behind(file, old, bytes);
}

/* By the device, if it can. */
static int reserve_written(struct io_file *file, const struct about *old, uint64_t bytes)
{
    const uint64_t old_bytes = old->bytes;
    if (old_bytes < bytes && twl_io_reserve(file, FALLOC_FL_WRITE_ZEROES, old_bytes, bytes) == 0)
        return 0;

    int error = twl_io_reserve(file, 0, 0, bytes);
    if (error == -EOPNOTSUPP)
        error = lengthen(file, old_bytes, bytes);
    return error < 0 ? error : write_zeros_behind(file, old, bytes);
}

static int files_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    struct about about;
    int error = check_limit(bytes);

    if (error == 0)
        error = look_at(io_file_fd(file), &about);
    if (error < 0)
        return error;

    switch (how) {
    case IO_ALLOCATE_OWN:
        return own_all_blocks(file, bytes);
    case IO_ALLOCATE_NOTHING:
        return lengthen(file, about.bytes, bytes);
    case IO_ALLOCATE_SPACE:
        return reserve_space(file, &about, bytes);
    case IO_ALLOCATE_WRITTEN:
        break;
    }
    return reserve_written(file, &about, bytes);
}

/* A sync that never ran may be tried again. One that has run and failed may not: the next one would report success
 * (I5). So an error that says the first must be proven: the same call for no file is refused by a filter of system
 * calls only. -ECANCELED is for an entry of a ring alone. */
static int sync_by(int (*sync)(int fd), int fd)
{
    const int error = error_of(sync(fd));

    if (error == -ECANCELED)
        return -EIO;
    if (!is_own_refusal(error))
        return error;
    return sync(-1) < 0 && errno == EBADF ? -EIO : error;
}

static int files_sync(struct io_file *file)
{
    return sync_by(fsync, io_file_fd(file));
}

static int files_sync_data(struct io_file *file)
{
    return sync_by(fdatasync, io_file_fd(file));
}

/* ---- locks and shared pages -------------------------------------------------------------------- */

static struct flock lock_range(enum io_lock which, short type)
{
    return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)which, .l_len = 1 };
}

static int files_lock(struct io_file *io_file, enum io_lock which, bool is_exclusive)
{
    struct disk_file *file = disk_file_of(io_file);
    struct flock range = lock_range(which, is_exclusive ? F_WRLCK : F_RDLCK);

    atomic_store_explicit(&file->may_be_locked, true, memory_order_relaxed);
    if (fcntl(file->fd, F_OFD_SETLK, &range) < 0)
        return errno == EACCES ? -EAGAIN : -errno; /* no test: Linux says EAGAIN, other systems EACCES */
    return 0;
}

static void files_unlock(struct io_file *file, enum io_lock which)
{
    unlock(disk_file_of(file), (off_t)which, 1);
}

static int files_is_locked(struct io_file *file, enum io_lock which, bool *ret_locked)
{
    struct flock range = lock_range(which, F_WRLCK); /* conflicts with both kinds */

    if (fcntl(io_file_fd(file), F_OFD_GETLK, &range) < 0)
        return -errno;
    *ret_locked = range.l_type != F_UNLCK;
    return 0;
}

int twl_lock_patiently(struct io_file *file, enum io_lock which, bool is_exclusive, unsigned wait_ms)
{
    int rc = io_lock(file, which, is_exclusive);
    unsigned waited_ms = 0;

    while (rc == -EAGAIN && waited_ms < wait_ms) {
        file->io->ops->sleep_ms(file->io, LOCK_RETRY_MS);
        waited_ms += LOCK_RETRY_MS;
        rc = io_lock(file, which, is_exclusive);
    }
    return rc == -EAGAIN ? -EBUSY : rc;
}

void twl_nap(struct io *io, unsigned yields, unsigned *turns)
{
    if (*turns >= yields) {
        io->ops->sleep_ms(io, 1);
        return;
    }
    (*turns)++;
    twl_yield();
}

static int files_links(struct io_file *file, const char *name, uint32_t *ret_links)
{
    const struct disk_file *own = disk_file_of(file);
    struct about named;
    const int error = look_at_name(files_of(file->io), name, &named);

    *ret_links = 0;
    if (error < 0)
        return error == -ENOENT ? 0 : error;
    if (named.inode == own->inode && named.device == own->device)
        *ret_links = (uint32_t)min_u64(named.links, UINT32_MAX);
    return 0;
}

/* ---- owner and rights ---------------------------------------------------------------------------- */

#define ACL_NAME "system.posix_acl_access"

/* Has the last call for an ACL failed because there is none? Then the file has its permissions alone. */
static bool has_no_acl(int error)
{
    return error == ENODATA || error == EOPNOTSUPP;
}

/* It may have got one from its directory. */
static int remove_acl(int fd)
{
    if (fremovexattr(fd, ACL_NAME) == 0)
        return 0;
    return has_no_acl(errno) ? 0 : -errno;
}

/* -EAGAIN: it has changed since its size was asked. */
static int copy_acl_bytes(int from, int to, void *bytes, size_t size)
{
    const ssize_t found = fgetxattr(from, ACL_NAME, bytes, size);

    if (found < 0)
        return -errno;
    if ((size_t)found != size)
        return -EAGAIN;
    return error_of(fsetxattr(to, ACL_NAME, bytes, size, 0));
}

/* *ret_has_acl: the file has an ACL, and the other one has it now. Else neither has one. -EOPNOTSUPP: the ACL cannot be
 * read or set. */
static int copy_acl(int from, int to, bool *ret_has_acl)
{
    const ssize_t size = fgetxattr(from, ACL_NAME, NULL, 0);
    *ret_has_acl = size > 0;
    if (size < 0 && !has_no_acl(errno))
        return -EOPNOTSUPP; /* it may have one */
    if (size <= 0)
        return remove_acl(to);

    void *bytes = malloc((size_t)size);
    if (!bytes)
        return -ENOMEM;
    const int error = copy_acl_bytes(from, to, bytes, (size_t)size);
    free(bytes);
    return error;
}

static int give_mode(int fd, mode_t mode)
{
    return error_of(fchmod(fd, mode));
}

/* Has the last call said that this process may not give a file to that owner, or group? A namespace of users may not
 * know them, and a file system may know none. */
static bool may_not_give(int error)
{
    return error == EPERM || error == EINVAL || error == EOPNOTSUPP || error == ENOSYS;
}

/* Where the group or the ACL cannot be given, the group gets no rights: the other file has them for another group. */
static int inherit(int fd, int from)
{
    struct about wanted, about;
    int error = look_at(from, &wanted);

    if (error == 0)
        error = look_at(fd, &about);
    if (error < 0)
        return error;
    const mode_t mode = wanted.mode & 0777, mode_without_group = mode & ~(mode_t)070;
    const bool has_same_user = wanted.owner == about.owner;
    const bool has_same_owner = has_same_user && wanted.group == about.group;
    if (!has_same_owner && fchown(fd, wanted.owner, wanted.group) < 0) {
        if (!may_not_give(errno))
            return -errno;
        return has_same_user ? give_mode(fd, mode_without_group) : -EPERM;
    }

    bool has_acl;
    error = copy_acl(from, fd, &has_acl);
    if (error == -EOPNOTSUPP)
        return give_mode(fd, mode_without_group);
    if (error < 0)
        return error;
    return has_acl ? 0 : give_mode(fd, mode); /* the ACL has the permissions, those of the group among them */
}

static int files_inherit(struct io_file *file, struct io_file *predecessor)
{
    return inherit(io_file_fd(file), io_file_fd(predecessor));
}

/* Some need a capability for the first way, and /proc for the second. */
static int name_unnamed(int directory, int fd, const char *name)
{
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(fd)];

    if (linkat(fd, "", directory, name, AT_EMPTY_PATH) == 0)
        return 0;
    if (errno == EEXIST)
        return -EEXIST;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return error_of(linkat(AT_FDCWD, path, directory, name, AT_SYMLINK_FOLLOW));
}

/* Where the file system has neither second names nor a rename that replaces nothing, such a file is replaced. */
static int give_name(int directory, const char *from, const char *name)
{
    int error = error_of(linkat(directory, from, directory, name, 0));

    if (error == 0)
        return error_of(unlinkat(directory, from, 0));
    if (error == -EEXIST)
        return error;

    error = error_of((int)syscall(SYS_renameat2, directory, from, directory, name, RENAME_NOREPLACE));
    const bool is_known = error != -EINVAL && error != -ENOSYS;
    if (is_known)
        return error;
    return error_of(renameat(directory, from, directory, name));
}

/* A kill in the middle leaves nothing. */
static int succeed_unnamed(int directory, int fd, const char *name, int predecessor)
{
    const int error = inherit(fd, predecessor);

    return error < 0 ? error : name_unnamed(directory, fd, name);
}

/* Where each file has to have a name. A kill in the middle leaves a file that nothing looks at. */
static int succeed_renamed(int directory, const char *name, int predecessor)
{
    static _Atomic unsigned turns;
    struct child_file in_child = { 0 };
    char temporary[NAME_MAX + 1];
    int fd = -1;

    snprintf(temporary, sizeof(temporary), ".twinlog.%d.%u.next", (int)getpid(), atomic_fetch_add(&turns, 1));
    unlinkat(directory, temporary, 0); /* of a process that was killed and had this number */
    int error = twl_child_open(&in_child, &fd, directory, temporary,
                               O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC, 0600);
    if (error < 0)
        return error;

    error = inherit(fd, predecessor);
    if (error == 0)
        error = give_name(directory, temporary, name);
    if (error < 0)
        unlinkat(directory, temporary, 0);
    close_registered(&in_child, &fd);
    return error;
}

static int files_succeed(struct io *io, const char *name, struct io_file *predecessor)
{
    const int directory = files_of(io)->directory, from = io_file_fd(predecessor);
    struct child_file in_child = { 0 };
    int fd = -1;

    if (twl_child_open(&in_child, &fd, directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) < 0)
        return succeed_renamed(directory, name, from);
    const int error = succeed_unnamed(directory, fd, name, from);
    close_registered(&in_child, &fd);
    return error;
}

int twl_successor_make(struct io *io, const char *name, struct io_file *predecessor,
                       struct io_file **ret_file)
{
    const unsigned mode = predecessor ? 0600u : 0666u; /* until it has inherited its own */
    struct io_file *file;
    int error = io->ops->unlink(io, name);

    if (error < 0 && error != -ENOENT)
        return error;
    error = io_open(io, name, IO_CREATE | mode * IO_MODE, &file);
    if (error < 0)
        return error;

    if (predecessor)
        error = io->ops->inherit(file, predecessor);
    if (error < 0) {
        io_close(file);
        io->ops->unlink(io, name);
        return error;
    }
    *ret_file = file;
    return 0;
}

/* ---- mappings ---------------------------------------------------------------------------------- */

static int files_map(struct io_file *io_file, size_t bytes, void **ret_bytes)
{
    struct disk_file *file = disk_file_of(io_file);

    return twl_mapping_open(file->fd, 0, bytes, !file->is_read_only, ret_bytes);
}

static void files_unmap(struct io *io, const void *bytes, size_t size)
{
    (void)io;
    twl_mapping_close(bytes, size);
}

static int files_check_map(struct io *io, const unsigned char *bytes)
{
    (void)io;
    return twl_mapping_is_lost(bytes) ? -EIO : 0;
}

/* ---- the directory ----------------------------------------------------------------------------- */

static int each_name(DIR *directory, int (*each)(void *context, const char *name), void *context)
{
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (!entry)
            return -errno;
        if (!is_plain_name(entry->d_name))
            continue;

        const int result = each(context, entry->d_name);
        if (result != 0)
            return result;
    }
}

static int files_list(struct io *io, int (*each)(void *context, const char *name), void *context)
{
    /* a new description, so that concurrent listings do not share a position in the directory */
    const int fd = twl_descriptor_open(files_of(io)->directory, ".", O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0)
        return tell_removed(io, fd);
    DIR *directory = fdopendir(fd);
    if (!directory) {
        const int error = -errno;
        close(fd);
        return error;
    }
    const int result = each_name(directory, each, context);
    closedir(directory);
    if (result < 0)
        return result;

    /* A directory that was removed meanwhile may have looked empty. */
    const int error = files_check_directory(io);
    return error < 0 ? error : result;
}

static int files_rename(struct io *io, const char *from, const char *to)
{
    const int directory = files_of(io)->directory;

    if (!is_plain_name(from) || !is_plain_name(to))
        return -EINVAL;
    return error_of(renameat(directory, from, directory, to));
}

static int files_unlink(struct io *io, const char *name)
{
    if (!is_plain_name(name))
        return -EINVAL;
    return error_of(unlinkat(files_of(io)->directory, name, 0));
}

static int files_sync_dir(struct io *io)
{
    return sync_by(fsync, files_of(io)->directory);
}

/* ---- from one directory to another ------------------------------------------------------------- */

static int files_link(struct io *io, const char *name, struct io *to, const char *to_name)
{
    if (to->ops->link != files_link) /* the directory of another implementation */
        return -EXDEV;
    if (!is_plain_name(name) || !is_plain_name(to_name))
        return -EINVAL;
    return error_of(linkat(files_of(io)->directory, name, files_of(to)->directory, to_name, 0));
}

/* ---- clocks and random bytes ------------------------------------------------------------------- */

static int64_t files_now_ns(struct io *io)
{
    struct timespec now;

    (void)io;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void files_sleep_ms(struct io *io, unsigned ms)
{
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    (void)io;
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        continue;
}

static int files_random(struct io *io, void *bytes, size_t size)
{
    size_t done = 0;

    (void)io;
    while (done < size) {
        ssize_t n = getrandom((char *)bytes + done, size - done, 0);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}

/* ---- the table --------------------------------------------------------------------------------- */

/* On the descriptor that has the writer's lock, which must also carry these writes (I9). Nothing else is in flight on
 * it, so the cache and the disk have one history (I10). A kernel that does not let the flag be changed leaves the file
 * as it is, and either way is right: a direct write first writes back what the cache has of its blocks and then removes
 * that, and one through the cache does no less for its barrier. */
void twl_io_choose_cache(const struct io_write *write)
{
    struct disk_file *file = disk_file_of(write->file);

    if (!file->is_direct || file->is_for_cache == write->is_for_cache)
        return;
    if (fcntl(file->fd, F_SETFL, write->is_for_cache ? 0 : O_DIRECT) == 0)
        file->is_for_cache = write->is_for_cache;
}

static void files_write_durably(struct io *io, struct io_write *write)
{
    struct io_files *files = (struct io_files *)io;

    twl_io_choose_cache(write);
    files->write_durably(files, write);
}

static void files_destroy(struct io *io)
{
    struct io_files *files = (struct io_files *)io;

    twl_io_ring_destroy(files->ring);
    close_registered(&files->in_child, &files->directory);
    free(io);
}

static const struct io_ops files_ops = {
    .open = files_open,
    .close = files_close,
    .size = files_size,
    .read = files_read,
    .write = files_write,
    .allocate = files_allocate,
    .truncate = files_truncate,
    .sync = files_sync,
    .sync_data = files_sync_data,
    .lock = files_lock,
    .unlock = files_unlock,
    .is_locked = files_is_locked,
    .links = files_links,
    .inherit = files_inherit,
    .succeed = files_succeed,
    .map = files_map,
    .unmap = files_unmap,
    .check_map = files_check_map,
    .check_directory = files_check_directory,
    .list = files_list,
    .rename = files_rename,
    .unlink = files_unlink,
    .sync_dir = files_sync_dir,
    .link = files_link,
    .write_durably = files_write_durably,
    .now_ns = files_now_ns,
    .sleep_ms = files_sleep_ms,
    .random = files_random,
    .again = twl_io_posix_again,
    .destroy = files_destroy,
};

int twl_io_files_init(struct io_files *files, int from, const char *path)
{
    const int error =
        twl_child_open(&files->in_child, &files->directory, from, path, O_RDONLY | O_DIRECTORY, 0);
    if (error < 0)
        return error;
    files->io.ops = &files_ops;
    files->io.has_threads = files->io.has_engine_threads = true;
    return 0;
}
