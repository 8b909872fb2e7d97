/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one door to the system: a directory of files, bytes at offsets, barriers, locks, time, chance.
 *
 * Three things stand behind it: io_uring (io_uring.c), plain system calls (io_posix.c), and in test/ a
 * simulated disk that tears, drops and reorders what was not synced. Nothing here knows what the
 * bytes mean.
 *
 * A group of the log reaches the disk by submit() and reap(): one write, then one barrier over it.
 * Both results come back apart, because a short write cancels the barrier that was linked to it; what
 * to make of that is the committer's business, not ours.
 *
 * Errors are negative errno. Names are plain file names inside the directory; implementations follow
 * no symbolic link and set O_CLOEXEC. A struct io may be used by several threads at once, except that
 * only one thread at a time may be between submit() and reap(). A struct io_file may be read and
 * written by several threads.
 */
#ifndef TWL_IO_H
#define TWL_IO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;
struct io_file;

enum io_open_flags {
    IO_READ_ONLY = 1u << 0,
    IO_CREATE = 1u << 1,          /* must not exist yet (-EEXIST) */
    IO_DIRECT = 1u << 2,          /* direct I/O; -EINVAL where the file system has none */
    IO_NOT_IN_CHILDREN = 1u << 3, /* closed in forked children: they keep none of its locks */
    IO_FROM_DISK =
        1u << 4, /* read() returns what is on the disk, not what the page cache holds. What waits to be
                                     written counts as there: after a sync that succeeds it is */
};

/* What is durable once a write was reaped. */
enum io_barrier {
    IO_BARRIER_WRITE = 0, /* it */
    IO_BARRIER_FILE,      /* it, and every write to the file that was reaped before it was submitted */
    IO_BARRIER_NONE,      /* nothing: it is in the hands of the kernel. ret_synced is 0 */
};

/* A write and its barrier. `data`, `size` and `offset` are multiples of BLOCK_BYTES where
 * the file is IO_DIRECT. The bytes must stay unchanged until reap() returns. */
struct io_write {
    struct io_file *file;
    const unsigned char *data;
    size_t size;
    uint64_t offset;
    enum io_barrier barrier;

    int64_t ret_written; /* bytes the file took, maybe fewer than `size`; or a negative error */
    int ret_synced;      /* 0 = everything that was written is durable; -ECANCELED = the barrier did not
                            run because the write fell short; else the barrier failed */
};

/* How a file gets its size. */
enum io_allocation {
    IO_ALLOCATE_WRITTEN, /* zeros that are written, or that the device was asked to write */
    IO_ALLOCATE_SPACE,   /* space reserved, reads as zeros */
    IO_ALLOCATE_NOTHING, /* a hole */
    IO_ALLOCATE_OWN,     /* what it has is shared with no other file any more; an error: it still may be */
};

/* The locks of a file. They don't know each other. */
enum io_lock {
    IO_LOCK_WRITER, /* who writes to it (I9); several who write it together have it shared */
    IO_LOCK_USE,    /* who has it mapped or links it (shared), and who gives it a new life (exclusive) */

    /* of processes that write a log together (mapped/peers.h) */
    IO_LOCK_LEAVE,    /* who is about to leave */
    IO_LOCK_SYNC,     /* who syncs for all */
    IO_LOCK_CLOSE,    /* who closes groups */
    IO_LOCK_MAKE,     /* who makes the next segment ahead */
    IO_LOCK_PEER = 16 /* and 255 more behind it: who has that number */
};

struct io_ops {
    const char *name;

    /* files */
    int (*open)(struct io *io, const char *name, unsigned flags, struct io_file **ret_file);
    void (*close)(struct io_file *file); /* ends its locks once no I/O is in flight on it */
    int (*size)(struct io_file *file, uint64_t *ret_bytes);
    int (*read)(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size);
    /* fewer bytes only at the end of the file */
    int (*write)(struct io_file *file, const void *data, size_t size, uint64_t offset);
    /* all or an error; not durable before sync() */
    int (*allocate)(struct io_file *file, uint64_t bytes, enum io_allocation how);
    /* makes it that long, not durable before sync(); never shorter, and what it holds stays as it is */
    int (*cut)(struct io_file *file,
               uint64_t bytes);             /* makes it that long, not longer; not durable before sync() */
    int (*sync)(struct io_file *file);      /* data, size and what is needed to find them */
    int (*sync_data)(struct io_file *file); /* the same, but for times */

    /* A lock on the open file, held until close() or unlock(), and IO_LOCK_WRITER beyond for as long as I/O
     * on the file is in flight, also after the process died (I9). -EAGAIN: another open file has it, and
     * whatever this one had of it, it still has. A lock that is taken again becomes what was asked for last.
     * A shared lock needs a file that can be read, an exclusive one a file that can be written. Giving back
     * what is not held does nothing. */
    int (*lock)(struct io_file *file, enum io_lock which, bool is_exclusive);
    void (*unlock)(struct io_file *file, enum io_lock which);
    /* by somebody else, either way; takes nothing */
    int (*is_locked)(struct io_file *file, enum io_lock which, bool *ret_locked);
    int (*links)(struct io_file *file, uint32_t *ret_links); /* names the file has; 0 = it was removed */

    /* Bytes shared with other processes that have the file open; writable unless the file is read-only. When the
     * file becomes shorter, those that it lost are zeros, and shared with nobody. -ENOTSUP as for view(). */
    int (*map)(struct io_file *file, size_t bytes, void **ret_page);
    void (*unmap)(struct io *io, void *page, size_t bytes);

    /* A file to look at instead of reading it: `bytes` of it, read-only. -ENOTSUP where that can't be done.
     * What is behind the end of a file that became shorter, or can't be read from the disk, looks like zeros;
     * check_view() says whether that has happened to this view: 0, or -EIO from then on. */
    int (*view)(struct io_file *file, size_t bytes, const unsigned char **ret_bytes);
    void (*unview)(struct io *io, const unsigned char *bytes, size_t size);
    int (*check_view)(struct io *io, const unsigned char *bytes); /* `bytes` as from view() */

    /* the directory */
    int (*list)(struct io *io, int (*each)(void *context, const char *name), void *context);
    int (*rename)(struct io *io, const char *from, const char *to); /* replaces `to` */
    int (*unlink)(struct io *io, const char *name);
    int (*sync_dir)(struct io *io);
    /* A second name for a file, or a copy that shares its blocks, in another directory; -EXDEV, -EPERM,
     * -EOPNOTSUPP and the like where the file system does not do this. Not durable before sync_dir(). */
    int (*link)(struct io *io, const char *name, struct io *to, const char *to_name);
    int (*clone)(struct io *io, const char *name, struct io *to, const char *to_name);

    /* durable writes */
    int (*adopt_buffers)(struct io *io, void *bytes, size_t size); /* most submitted data comes from here */
    int (*submit)(struct io *io, struct io_write *write);
    void (*reap)(struct io *io, struct io_write *write); /* waits; fills in the ret_ fields */

    /* the rest of the world */
    int64_t (*now_ns)(struct io *io); /* CLOCK_REALTIME */
    void (*sleep_ms)(struct io *io, unsigned ms);
    int (*random)(struct io *io, void *bytes, size_t size);

    int (*again)(struct io *io, struct io **ret_io); /* the same directory once more, to read from */
    void (*destroy)(struct io *io);                  /* after every file was closed */
};

struct io {
    const struct io_ops *ops;
    bool has_threads; /* false: prepare spare segments in the caller's thread (the simulation) */
    /* [atomic] Every file is opened with IO_FROM_DISK: set while somebody judges the log. What another thread opens
     * meanwhile is read more slowly. */
    atomic_bool reads_disk;
};

struct io_file {
    struct io *io;
};

static inline int io_open(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    return io->ops->open(io, name, flags | (io->reads_disk ? (unsigned)IO_FROM_DISK : 0), ret_file);
}
static inline void io_close(struct io_file *file)
{
    if (file)
        file->io->ops->close(file);
}
static inline int io_size(struct io_file *file, uint64_t *ret_bytes)
{
    return file->io->ops->size(file, ret_bytes);
}
static inline int io_read(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    return file->io->ops->read(file, buffer, size, offset, ret_size);
}
static inline int io_write_at(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    return file->io->ops->write(file, data, size, offset);
}
static inline int io_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    return file->io->ops->allocate(file, bytes, how);
}
static inline int io_cut(struct io_file *file, uint64_t bytes)
{
    return file->io->ops->cut(file, bytes);
}
static inline int io_sync(struct io_file *file)
{
    return file->io->ops->sync(file);
}
static inline int io_sync_data(struct io_file *file)
{
    return file->io->ops->sync_data(file);
}
static inline int io_lock(struct io_file *file, enum io_lock which, bool is_exclusive)
{
    return file->io->ops->lock(file, which, is_exclusive);
}
static inline void io_unlock(struct io_file *file, enum io_lock which)
{
    file->io->ops->unlock(file, which);
}
static inline int io_is_locked(struct io_file *file, enum io_lock which, bool *ret_locked)
{
    return file->io->ops->is_locked(file, which, ret_locked);
}
static inline int io_links(struct io_file *file, uint32_t *ret_links)
{
    return file->io->ops->links(file, ret_links);
}

/* ---- the implementations on Linux ------------------------------------------------------------- */

/* Opens the directory `path`. Groups are synced by pwritev2 with RWF_DSYNC, or by pwrite and
 * fdatasync. -ENOENT, -ENOTDIR, -EACCES, ... */
int twl_io_posix_create(const char *path, bool use_dsync, struct io **ret_io);

/* The same directory operations, groups through io_uring. `is_linked`: a write linked to an fdatasync,
 * else one write that carries RWF_DSYNC. -ENOSYS, -EPERM, -ENOMEM, ... where the kernel refuses. */
int twl_io_uring_create(const char *path, bool is_linked, struct io **ret_io);

#endif
