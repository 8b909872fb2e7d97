/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only interface to the system: a directory of files, bytes at offsets, barriers, locks, time, random bytes.
 *
 * It has two implementations: system calls (io_files.c; io_uring.c and io_posix.c write the groups), and in test/ a
 * simulated disk that tears, drops and reorders writes that were not synced. Neither knows what the bytes mean.
 *
 * A group of the log reaches the disk by write_durably(): one write, then one barrier over it. The two results are
 * separate, because a short write cancels the barrier that was linked to it; the commit layer decides what follows from
 * that.
 *
 * Errors are negative errno. Names are plain file names inside the directory; implementations follow no symbolic link
 * and set O_CLOEXEC. Several threads may use a struct io at once, but only one at a time may be in write_durably().
 * Several threads may read and write a struct io_file.
 */
#ifndef TWL_IO_H
#define TWL_IO_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;
struct io_file;

enum io_open_flags {
    IO_READ_ONLY = 1u << 0,
    IO_CREATE = 1u << 1,     /* must not exist yet (-EEXIST) */
    IO_DIRECT = 1u << 2,     /* direct I/O; -EINVAL where the file system has none */
    IO_FROM_DISK = 1u << 3,  /* read() returns the bytes on the disk, not those of the page cache. Bytes that
                             * wait to be written count as on the disk: a sync that succeeds puts them there */
    IO_FROM_CACHE = 1u << 4, /* for io_open(): `reads_disk` does not count */
    IO_BEGIN_READ = 1u << 5, /* the kernel may begin to read the first block, which is going to be wanted */
    IO_APPEND = 1u << 6,     /* writev() goes to the end of the file, wherever that is */

    IO_MODE = 1u << 16, /* with IO_CREATE, times the permissions of the file, less the umask; else 0666 */
};

/* What is durable once a write is done. */
enum io_barrier {
    IO_BARRIER_WRITE = 0, /* the write */
    IO_BARRIER_FILE,      /* the write, and every write to the file that was done before it began */
    IO_BARRIER_NONE,      /* nothing: the kernel has the bytes. ret_synced is 0 */
};

/* A write and its barrier. `data`, `size` and `offset` are multiples of BLOCK_BYTES if the file is IO_DIRECT. The
 * bytes must not change meanwhile. */
struct io_write {
    struct io_file *file;
    const unsigned char *data;
    size_t size;
    uint64_t offset;
    enum io_barrier barrier;
    /* Of a file that is IO_DIRECT: the bytes should be in the page cache afterwards, where readers find them. It
     * changes nothing in what the barrier says, and may be ignored. */
    bool is_for_cache;

    int64_t ret_written; /* bytes written, maybe fewer than `size`; or a negative error */
    /* 0 = everything that was written is durable; -ECANCELED = the barrier did not run; else its error */
    int ret_synced;

    struct io_write *next; /* for the ring that has it */
};

/* How a file gets its size. */
enum io_allocation {
    IO_ALLOCATE_WRITTEN, /* zeros, written by a call or by the device */
    IO_ALLOCATE_SPACE,   /* space reserved, reads as zeros */
    IO_ALLOCATE_NOTHING, /* a hole */
    IO_ALLOCATE_OWN, /* its blocks are shared with no other file any more; after an error they still may be */
};

/* The locks of a file; they are independent of each other. */
enum io_lock {
    IO_LOCK_WRITER, /* held by the writer of the file (I9); shared if several processes write it together */
    IO_LOCK_USE,    /* shared: the file is mapped or being linked; exclusive: it is being recycled */
    IO_LOCK_OTHER, /* this one and the numbers behind it mean what the users of a file agree on; on a disk only */
};

struct io_ops {
    /* files */
    int (*open)(struct io *io, const char *name, unsigned flags, struct io_file **ret_file);
    void (*close)(struct io_file *file); /* ends its locks once no I/O is in flight on it */
    int (*size)(struct io_file *file, uint64_t *ret_bytes);
    /* Reads fewer bytes only at the end of the file. */
    int (*read)(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size);
    /* Writes all bytes, or returns an error; not durable before sync(). */
    int (*write)(struct io_file *file, const void *data, size_t size, uint64_t offset);
    /* Makes the file that long, never shorter, and keeps its bytes; not durable before sync(). */
    int (*allocate)(struct io_file *file, uint64_t bytes, enum io_allocation how);
    int (*truncate)(struct io_file *file, uint64_t bytes); /* never longer; not durable before sync() */
    int (*sync)(struct io_file *file);                     /* data and all metadata */
    int (*sync_data)(struct io_file *file); /* data, size and what is needed to find them; not the times */

    /* Takes a lock on the open file, held until close() or unlock(). IO_LOCK_WRITER is also held while I/O on the file
     * is in flight, even after the process died (I9). -EAGAIN: another open file holds the lock; a lock that this file
     * already held stays held. A lock that is taken again becomes shared or exclusive as last requested. A shared lock
     * needs a readable file, an exclusive lock a writable one. unlock() of a lock that is not held does nothing. */
    int (*lock)(struct io_file *file, enum io_lock which, bool is_exclusive);
    void (*unlock)(struct io_file *file, enum io_lock which);
    /* Has another open file the lock, shared or exclusive? is_exclusive: only an exclusive lock counts, which a
     * process that may only read the file cannot have. Takes no lock. */
    int (*is_locked)(struct io_file *file, enum io_lock which, bool is_exclusive, bool *ret_locked);
    /* The number of names of the file. 0: `name` is none of them, as it was removed, or is another file's now. */
    int (*links)(struct io_file *file, const char *name, uint32_t *ret_links);

    /* Gives a file the owner, the permissions and the ACL of another one. -EPERM: this process may not give it the
     * owner. Without needs_owner that is an error only if the owner would have fewer rights than before: it is
     * neither in the group that the file gets, nor have all others the rights of the group. Where the process may
     * not give the group or the ACL, the group gets no rights. */
    int (*inherit)(struct io_file *file, struct io_file *predecessor, bool needs_owner);
    /* Makes an empty file that inherits, and gets its name last: nobody sees it with other rights. -EEXIST: there is
     * a file of that name. */
    int (*succeed)(struct io *io, const char *name, struct io_file *predecessor);

    /* Maps bytes that are shared with other processes that have the file open, until unmap(); writable unless the file
     * is read-only. -ENOTSUP where that is not possible. Bytes behind the end of a file that became shorter, and bytes
     * that cannot be read from the disk, read as zeros and are private to this process; from then on check_map()
     * returns -EIO for this mapping, before that 0. */
    int (*map)(struct io_file *file, size_t bytes, void **ret_bytes);
    /* The same, but the bytes are read-only also if the file is not. */
    int (*map_to_read)(struct io_file *file, size_t bytes, void **ret_bytes);
    void (*unmap)(struct io *io, const void *bytes, size_t size);
    int (*check_map)(struct io *io, const unsigned char *bytes);

    /* The directory. Once it is removed, open() and list() return -ESTALE: no other one of that name is meant. */
    int (*check_directory)(struct io *io); /* 0, or -ESTALE */
    int (*list)(struct io *io, int (*each)(void *context, const char *name), void *context);
    int (*rename)(struct io *io, const char *from, const char *to); /* replaces `to` */
    /* -EEXIST: `to` is there. Where the system has no such call, it is replaced. */
    int (*rename_unless_taken)(struct io *io, const char *from, const char *to);
    int (*unlink)(struct io *io, const char *name);
    int (*sync_dir)(struct io *io);
    /* Makes a second name for a file in another directory. -EXDEV, -EPERM and the like where the file system cannot.
     * Not durable before sync_dir(). */
    int (*link)(struct io *io, const char *name, struct io *to, const char *to_name);

    /* durable writes */
    void (*write_durably)(struct io *io, struct io_write *write); /* fills in the ret_ fields */

    /* time and random bytes */
    int64_t (*now_ns)(struct io *io); /* CLOCK_REALTIME */
    void (*sleep_ms)(struct io *io, unsigned ms);
    int (*random)(struct io *io, void *bytes, size_t size);

    int (*again)(struct io *io, struct io **ret_io); /* the same directory again, to read from */
    void (*destroy)(struct io *io);                  /* after all files are closed */
};

struct io {
    const struct io_ops *ops;
    bool has_threads;        /* false: prepare spare segments in the caller's thread (the simulation) */
    bool has_engine_threads; /* false: no committer, and none of a mapped log's (the simulation) */
    /* [atomic] Open every file with IO_FROM_DISK: set while a thread checks what is on the disk. Files that other
     * threads open meanwhile are read more slowly. */
    atomic_bool reads_disk;
    /* [atomic, the leader stores] Writes go by pwritev2() at present, as that is quicker than the ring. */
    atomic_bool is_by_call;
    /* [const from the end of an opening on] The identity of the log that a writer has open here; zeros: none has. */
    unsigned char log_id[16];
};

struct io_file {
    struct io *io;
    uint64_t opened_bytes; /* [const] its size when it was opened; 0: ask io_size() */
};

static inline int io_open(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    const bool is_from_disk = io->reads_disk && !(flags & IO_FROM_CACHE);
    return io->ops->open(io, name, flags | (is_from_disk ? (unsigned)IO_FROM_DISK : 0), ret_file);
}
/* The same, and makes the file if there is none. */
static inline int io_open_or_create(struct io *io, const char *name, unsigned flags,
                                    struct io_file **ret_file)
{
    int rc = io_open(io, name, flags, ret_file);
    if (rc == -ENOENT)
        rc = io_open(io, name, IO_CREATE | flags, ret_file);
    if (rc == -EEXIST) /* another process was faster */
        rc = io_open(io, name, flags, ret_file);
    return rc;
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
/* From here on bytes for a mapped file are written: the kernel need not fill new pages with zeros, nor enter them. */
#define WRITTEN_BYTES ((size_t)64 << 10)
static inline int io_write_at(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    return file->io->ops->write(file, data, size, offset);
}
static inline int io_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    return file->io->ops->allocate(file, bytes, how);
}
static inline int io_truncate(struct io_file *file, uint64_t bytes)
{
    return file->io->ops->truncate(file, bytes);
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
    return file->io->ops->is_locked(file, which, false, ret_locked);
}
static inline int io_is_locked_exclusively(struct io_file *file, enum io_lock which, bool *ret_locked)
{
    return file->io->ops->is_locked(file, which, true, ret_locked);
}
static inline int io_links(struct io_file *file, const char *name, uint32_t *ret_links)
{
    return file->io->ops->links(file, name, ret_links);
}

/* Makes a file that is to take the place of `predecessor`, or to follow it, under a name that no other program looks
 * for. It has the owner, the permissions and the ACL of the other one already, and the caller gives it its name then. A
 * file that was left there by a failed attempt is removed. `predecessor` may be NULL. */
int twl_successor_make(struct io *io, const char *name, struct io_file *predecessor,
                       struct io_file **ret_file);

/* ---- the implementations on Linux ------------------------------------------------------------- */

/* Opens the directory `path`. Groups are written by pwritev2 with RWF_DSYNC, which a kernel or a sandbox may refuse, or
 * by pwrite and fdatasync, which always work. -ENOENT, -ENOTDIR, -EACCES, ... */
int twl_io_posix_create(const char *path, bool use_dsync, struct io **ret_io);

/* The same, but groups are written through io_uring. -ENOSYS, -EPERM, -ENOMEM, ... where the kernel refuses. */
enum ring_use {
    RING_DSYNC,   /* a write that carries RWF_DSYNC */
    RING_OR_CALL, /* the same, or pwritev2(): now and then it is measured which is quicker */
    RING_LINKED,  /* a write linked to an fdatasync */
};
int twl_io_uring_create(const char *path, enum ring_use use, struct io **ret_io);

/* True for errors that mean: the kernel, a sandbox or the file system does not support the operation. All others are
 * failures. */
static inline bool io_is_refusal(int64_t error)
{
    return error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSYS || error == -EPERM ||
           error == -ENOMEM;
}

/* RLIMIT_FSIZE of this process; UINT64_MAX = there is none. */
uint64_t twl_size_limit(void);

/* Takes a lock that somebody else may have, with retries for wait_ms. Of IO_LOCK_WRITER: a dead writer's last write may
 * still be in flight, and its lock disappears when that write has landed (I9). -EBUSY when the time is over. */
int twl_lock_patiently(struct io_file *file, enum io_lock which, bool is_exclusive, unsigned wait_ms);

/* Opens the file of that name and takes a lock of it, exclusively, as twl_lock_patiently() does. The file may be
 * removed or replaced meanwhile: then it is the one that has the name by now. With IO_CREATE it is made if there is
 * none.
 * *ret_links: the number of its names, at least 1; also where the lock is refused: then 0 if it is not known. */
int twl_open_locked(struct io *io, const char *name, unsigned flags, enum io_lock which, unsigned wait_ms,
                    struct io_file **ret_file, uint32_t *ret_links);

/* One turn of a wait that ends without a wake-up: yields in the first `yields` turns, then sleeps for a millisecond. A
 * thread that is waited for may be stopped, or have a lower priority. *turns is 0 at first. */
void twl_nap(struct io *io, unsigned yields, unsigned *turns);

#endif
