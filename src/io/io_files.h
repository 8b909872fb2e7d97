/* SPDX-License-Identifier: Apache-2.0 */
/* What io_posix.c and io_uring.c share: a directory of files through plain system calls. Each of the two adds its own
 * durable writes. */
#ifndef TWL_IO_FILES_H
#define TWL_IO_FILES_H

#include "base/fork.h"
#include "io/io.h"

#include <stdatomic.h>
#include <sys/types.h>

struct io_files {
    struct io io;  /* must be first */
    int directory; /* [const] closed in forked children */
    struct child_file in_child;
    struct io_ring *ring;                                                  /* [const] NULL = there is none */
    void (*write_durably)(struct io_files *files, struct io_write *write); /* [const] */
};

struct disk_file {
    struct io_file file; /* must be first */
    int fd;              /* [const] closed in forked children, as the other one */
    dev_t device;        /* [const] with the inode: is a name one of this file? */
    ino_t inode;         /* [const] */
    bool is_read_only;   /* [const] */
    bool is_direct;      /* [const] */
    bool is_for_cache;   /* [leader] of a direct file: O_DIRECT is off at present */
    bool is_from_disk;   /* [const] reads go past the page cache, */
    int disk_fd;         /* [const] through this direct one; -1 = there is none */
    /* [const] alignment of its reads; 0 = not known, and the kernel may answer them from the cache */
    uint32_t disk_alignment;
    atomic_bool may_be_locked; /* [atomic] */
    struct child_file in_child, disk_in_child;
};

/* Opens the directory `path`, relative to the directory `from` (or AT_FDCWD). After a failure there is nothing to undo.
 * destroy() frees `files`, and the ring. */
int twl_io_files_init(struct io_files *files, int from, const char *path);

/* For the result of a system call: 0, or -errno. */
static inline int error_of(int result)
{
    return result < 0 ? -errno : 0;
}

static inline int io_file_fd(const struct io_file *file)
{
    return ((const struct disk_file *)file)->fd;
}
static inline int io_directory_fd(const struct io *io)
{
    return ((const struct io_files *)io)->directory;
}

/* Before the write begins: lets it pass through the page cache, or past it, as it asks. */
void twl_io_choose_cache(const struct io_write *write);

void twl_io_posix_write(struct io_write *write);       /* without a barrier; in io_posix.c */
void twl_io_posix_write_dsync(struct io_write *write); /* with RWF_DSYNC */
/* After twl_io_posix_write_dsync(): did a sandbox refuse the call, so that nothing was written? A write of no bytes
 * tells: only a sandbox refuses that, too. Any other error says that the write or its sync has failed, and neither may
 * be tried again. */
bool twl_io_posix_dsync_is_refused(const struct io_write *done);
int twl_io_posix_again(struct io *io, struct io **ret_io); /* in io_posix.c */

/* ---- io_allocate.c --------------------------------------------------------------------------------- */

/* 0, or -EFBIG if the limit of this process forbids a file of this size. A write at or behind it raises SIGXFSZ, which
 * by default ends the process, even if the file already has the bytes. So all that makes a file longer looks first. */
int twl_check_size_limit(uint64_t bytes);
/* fallocate(): reserves the blocks of a range. -EOPNOTSUPP: this file system cannot. */
int twl_io_reserve(struct io_file *file, int mode, uint64_t from, uint64_t to);
int twl_io_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how); /* as in struct io_ops */

/* Makes an empty file without a name, in io_files.c; only the owner may open it. */
int twl_io_open_unnamed(struct io *io, unsigned flags, struct io_file **ret_file);

/* ---- successor.c: as in struct io_ops --------------------------------------------------------------- */

int twl_io_inherit(struct io_file *file, struct io_file *predecessor, bool needs_owner);
int twl_io_succeed(struct io *io, const char *name, struct io_file *predecessor);
int twl_io_rename_unless_taken(struct io *io, const char *from, const char *to);
/* Gives a name to a file that was made without one. -EEXIST: the name is taken. Other errors also where the system
 * gives none to such a file. */
int twl_io_name_unnamed(struct io_file *file, const char *name);

#endif
