/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of one directory, through plain system calls. How a file gets its size stands in io_allocate.c, what it
 * inherits from another one in successor.c, memory that shows a file in mapping.c.
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
#include "io/file_status.h"
#include "io/mapping.h"
#include "io/ring.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8, "log files are larger than 2 GiB");

static struct io_files *files_of(struct io *io)
{
    return (struct io_files *)io;
}
static struct disk_file *disk_file_of(struct io_file *file)
{
    return (struct disk_file *)file;
}
static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* ---- open and close ---------------------------------------------------------------------------- */

static int check_is_regular(mode_t mode)
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
    struct file_status status;

    const int error = twl_file_status_of_name(files->directory, name, &status);
    if (error < 0)
        return error;
    return check_is_regular(status.mode);
}

/* The flags that the open file is to have. O_DIRECT is set only now that the file is known to be regular: at open,
 * O_DIRECT may fail after O_CREAT has created the file. The same fcntl() clears O_NONBLOCK, with which io_uring returns
 * EAGAIN on some file systems; a file that is only read, and not directly, goes through no ring and keeps it. */
static int set_status_flags(int fd, unsigned flags)
{
    const bool is_direct = flags & IO_DIRECT;
    const bool is_only_read = flags & IO_READ_ONLY;
    int status_flags = 0;

    if (is_only_read && !is_direct)
        return 0;
    if (is_direct)
        status_flags |= O_DIRECT;
    if (flags & IO_APPEND)
        status_flags |= O_APPEND;
    return error_of(fcntl(fd, F_SETFL, status_flags));
}

static int prepare_open_file(struct disk_file *file, unsigned flags)
{
    struct file_status status;

    int error = twl_file_status(file->fd, &status);
    if (error < 0)
        return error;
    file->file.opened_bytes = status.bytes;
    file->device = status.device;
    file->inode = status.inode;

    error = check_is_regular(status.mode);
    if (error < 0)
        return error;
    return set_status_flags(file->fd, flags);
}

/* A directory that was removed has no name any more; one that was renamed has. FUSE and NFS say so by an error. */
static int files_check_directory(struct io *io)
{
    struct file_status status;
    const int error = twl_file_status(files_of(io)->directory, &status);

    if (error == -ENOENT || error == -ESTALE)
        return -ESTALE;
    const bool is_removed = error == 0 && status.links == 0;
    return is_removed ? -ESTALE : 0;
}

/* An error of a call for a name. In a directory that was removed nothing is found: -ESTALE says why. */
static int stale_if_removed(struct io *io, int error)
{
    const bool is_removed = error == -ENOENT && files_check_directory(io) < 0;

    return is_removed ? -ESTALE : error;
}

static int open_flags(unsigned flags)
{
    /* O_NONBLOCK: an open of a FIFO of this name must not wait for its other end */
    int result = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

    /* at once: a file with the attribute for it cannot be opened otherwise */
    if (flags & IO_APPEND)
        result |= O_APPEND;

    if (flags & IO_READ_ONLY)
        return result | O_RDONLY;
    if (flags & IO_CREATE)
        return result | O_RDWR | O_CREAT | O_EXCL;
    return result | O_RDWR;
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
    struct statx found;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &found) < 0)
        return 0;
    if (!(found.stx_mask & STATX_DIOALIGN)) /* this kernel does not tell */
        return 0;
    return (uint32_t)max_u64(found.stx_dio_offset_align, found.stx_dio_mem_align);
#else
    (void)fd;
    return 0;
#endif
}

/* Opens a second, direct descriptor to read with, because the first one carries buffered writes. Without direct I/O,
 * reads use the first one (see read_from_disk()). */
static int open_past_cache(const struct io_files *files, const char *name, struct disk_file *file)
{
    struct file_status status;

    int error = twl_child_open(&file->disk_in_child, &file->disk_fd, files->directory, name,
                               open_flags(IO_READ_ONLY), 0);
    if (error == -ENOENT) /* the file has lost its name since */
        return 0;
    if (error == 0)
        error = twl_file_status(file->disk_fd, &status);
    if (error < 0)
        return error;

    const bool is_same = status.device == file->device && status.inode == file->inode;
    if (is_same)
        error = error_of(fcntl(file->disk_fd, F_SETFL, O_DIRECT));
    if (!is_same || error < 0)
        twl_child_close(&file->disk_in_child, &file->disk_fd);

    const bool has_direct_io = error != -EINVAL;
    return has_direct_io ? error : 0;
}

static void close_both(struct disk_file *file)
{
    twl_child_close(&file->disk_in_child, &file->disk_fd);
    twl_child_close(&file->in_child, &file->fd);
}

static struct disk_file *new_file(struct io *io, unsigned flags)
{
    struct disk_file *file = calloc(1, sizeof(*file));

    if (!file)
        return NULL;
    file->file.io = io;
    file->is_read_only = flags & IO_READ_ONLY;
    file->is_direct = flags & IO_DIRECT;
    file->is_from_disk = flags & IO_FROM_DISK;
    file->fd = file->disk_fd = -1;
    return file;
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
        return stale_if_removed(io, error);

    struct disk_file *file = new_file(io, flags);
    if (!file)
        return -ENOMEM;

    error = open_file(files, name, flags, file);
    if (error < 0)
        goto free_file;
    error = prepare_open_file(file, flags);
    if (error < 0)
        goto remove_file;

    if (file->is_from_disk && !file->is_direct)
        error = open_past_cache(files, name, file);
    if (error < 0)
        goto remove_file;
    if (file->disk_fd >= 0)
        file->disk_alignment = alignment_past_cache(file->disk_fd);
    if (flags & IO_BEGIN_READ)
        posix_fadvise(file->fd, 0, BLOCK_BYTES, POSIX_FADV_WILLNEED);
    *ret_file = &file->file;
    return 0;

remove_file:
    if (flags & IO_CREATE)
        unlinkat(files->directory, name, 0);
free_file:
    close_both(file);
    free(file);
    return stale_if_removed(io, error);
}

int twl_io_open_unnamed(struct io *io, unsigned flags, struct io_file **ret_file)
{
    struct disk_file *file = new_file(io, flags);

    if (!file)
        return -ENOMEM;

    int error = twl_child_open(&file->in_child, &file->fd, files_of(io)->directory, ".",
                               O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (error == 0)
        error = prepare_open_file(file, flags);
    if (error < 0) {
        close_both(file);
        free(file);
        return error;
    }

    *ret_file = &file->file;
    return 0;
}

/* `size` 0 = up to the end, wherever that is. */
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
    close_both(file);
    free(file);
}

/* ---- bytes ------------------------------------------------------------------------------------- */

static int files_size(struct io_file *file, uint64_t *ret_bytes)
{
    struct file_status status;

    const int error = twl_file_status(io_file_fd(file), &status);
    if (error < 0)
        return error;
    *ret_bytes = status.bytes;
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

/* Reads as a direct descriptor wants it: whole units, into memory that is aligned to them. A caller that wants less
 * than a block gets the beginning of one that is read here. */
static int read_direct(int fd, uint32_t unit, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    _Alignas(BLOCK_BYTES) unsigned char block[BLOCK_BYTES];
    const bool is_aligned = (size | offset | (uintptr_t)buffer) % unit == 0;
    size_t found = 0;

    if (is_aligned || size >= BLOCK_BYTES)
        return read_all(fd, true, buffer, size, offset, ret_size);

    const int error = read_all(fd, true, block, BLOCK_BYTES, offset, &found);
    *ret_size = (size_t)min_u64(found, size);
    memcpy(buffer, block, *ret_size);
    return error;
}

/* Reads through the descriptor that also carries the writes. */
static int read_by_own(const struct disk_file *file, void *buffer, size_t size, uint64_t offset,
                       size_t *ret_size)
{
    if (file->is_direct)
        return read_direct(file->fd, BLOCK_BYTES, buffer, size, offset, ret_size);
    return read_all(file->fd, false, buffer, size, offset, ret_size);
}

#define LARGE_PAGE_BYTES (UINT64_C(2) << 20) /* the kernel keeps files in pages of up to this size */

/* Removes clean pages from the page cache, unless a process has them mapped. A page that lies partly outside is not
 * dropped, so the range is that of whole large pages. */
static void drop_pages(const struct disk_file *file, size_t size, uint64_t offset)
{
    const uint64_t from = align_down(offset, LARGE_PAGE_BYTES);
    const uint64_t to = align_up(offset + size, LARGE_PAGE_BYTES);

    posix_fadvise(file->fd, (off_t)from, (off_t)(to - from), POSIX_FADV_DONTNEED);
}

/* The kernel marks a page clean when its write fails: the cache then has bytes that the disk lacks. A direct read
 * bypasses them, and leaves the cache to others that read. Some file systems answer a direct read from the cache (ext4
 * with data=journal, btrfs with compression), or have none: after a drop they have to read the disk. */
static int read_from_disk(const struct disk_file *file, void *buffer, size_t size, uint64_t offset,
                          size_t *ret_size)
{
    const bool is_never_from_cache = file->disk_alignment > 0;

    if (!is_never_from_cache)
        drop_pages(file, size, offset);
    if (file->disk_fd >= 0) {
        const uint32_t unit = is_never_from_cache ? file->disk_alignment : BLOCK_BYTES;
        const int error = read_direct(file->disk_fd, unit, buffer, size, offset, ret_size);
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

/* The page cache may keep what one call writes in one page. Large ones are slow to come where the host of a virtual
 * machine took memory back. */
#define MOST_IN_ONE_CALL (256u << 10)

static int files_write(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    const int error = twl_check_size_limit(offset + size);
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

/* Never longer, so the limit of this process is of no concern. */
static int files_truncate(struct io_file *file, uint64_t bytes)
{
    return error_of(ftruncate(io_file_fd(file), (off_t)bytes));
}

/* `sync` is fsync() or fdatasync(). A sync that never ran may be tried again. One that has run and failed may not: the
 * next one would report success (I5). So an error that says the first must be proven. */
static int sync_by(int (*sync)(int fd), int fd)
{
    const int error = error_of(sync(fd));

    if (error == -ECANCELED) /* it would say so of an entry of a ring that was never begun */
        return -EIO;
    if (!is_own_refusal(error))
        return error;

    /* A filter of system calls refuses this one as well. Without one the kernel says that there is no such file. */
    const bool has_run = error_of(sync(-1)) == -EBADF;
    return has_run ? -EIO : error;
}

static int files_sync(struct io_file *file)
{
    return sync_by(fsync, io_file_fd(file));
}

static int files_sync_data(struct io_file *file)
{
    return sync_by(fdatasync, io_file_fd(file));
}

/* ---- locks ------------------------------------------------------------------------------------- */

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

static int files_is_locked(struct io_file *file, enum io_lock which, bool is_exclusive, bool *ret_locked)
{
    /* A lock for writing would meet those of both kinds. */
    struct flock range = lock_range(which, is_exclusive ? F_RDLCK : F_WRLCK);

    if (fcntl(io_file_fd(file), F_OFD_GETLK, &range) < 0)
        return -errno;
    *ret_locked = range.l_type != F_UNLCK;
    return 0;
}

static int files_links(struct io_file *file, const char *name, uint32_t *ret_links)
{
    const struct disk_file *own = disk_file_of(file);
    struct file_status named;
    const int error = twl_file_status_of_name(files_of(file->io)->directory, name, &named);

    *ret_links = 0;
    if (error == -ENOENT)
        return 0;
    if (error < 0)
        return error;
    if (named.inode == own->inode && named.device == own->device)
        *ret_links = (uint32_t)min_u64(named.links, UINT32_MAX);
    return 0;
}

/* ---- mappings ---------------------------------------------------------------------------------- */

static int files_map(struct io_file *io_file, size_t bytes, void **ret_bytes)
{
    struct disk_file *file = disk_file_of(io_file);

    return twl_mapping_open(file->fd, 0, bytes, !file->is_read_only, ret_bytes);
}

static int files_map_to_read(struct io_file *file, size_t bytes, void **ret_bytes)
{
    return twl_mapping_open(disk_file_of(file)->fd, 0, bytes, false, ret_bytes);
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
        return stale_if_removed(io, fd);
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
    twl_child_close(&files->in_child, &files->directory);
    free(io);
}

static const struct io_ops files_ops = {
    .open = files_open,
    .close = files_close,
    .size = files_size,
    .read = files_read,
    .write = files_write,
    .allocate = twl_io_allocate,
    .truncate = files_truncate,
    .sync = files_sync,
    .sync_data = files_sync_data,
    .lock = files_lock,
    .unlock = files_unlock,
    .is_locked = files_is_locked,
    .links = files_links,
    .inherit = twl_io_inherit,
    .succeed = twl_io_succeed,
    .map = files_map,
    .map_to_read = files_map_to_read,
    .unmap = files_unmap,
    .check_map = files_check_map,
    .check_directory = files_check_directory,
    .list = files_list,
    .rename = files_rename,
    .rename_unless_taken = twl_io_rename_unless_taken,
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
