/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What io_posix.c and io_uring.c share: a directory of files through plain system calls. Each of the two adds its
 * own durable writes, create, destroy, and a table of operations that begins with IO_FILES_OPS.
 */
#ifndef TWL_IO_FILES_H
#define TWL_IO_FILES_H

#include "base/fork.h"
#include "io/io.h"

#include <stdatomic.h>
#include <sys/types.h>

struct io_files {
    struct io io;  /* must be first */
    int directory; /* [const] */
};

struct disk_file {
    struct io_file file; /* must be first */
    int fd;              /* [const] closed in forked children */
    bool is_read_only;   /* [const] */
    bool is_direct;      /* [const] */
    bool is_from_disk;   /* [const] reads go past the page cache, */
    int disk_fd;         /* [const] through this direct one; -1 = there is none */
    uint32_t past_cache; /* [const] alignment of direct reads, none of them from the cache; 0 = not known */
    atomic_bool may_be_locked; /* [atomic] */
    struct child_file in_child;
};

/* Opens the directory `path`, relative to the directory `from` (or AT_FDCWD), for a zeroed `files`. After a failure
 * there is nothing to undo. */
int twl_io_files_init(struct io_files *files, int from, const char *path, const struct io_ops *ops);
void twl_io_files_destroy(struct io_files *files);

static inline int io_file_fd(const struct io_file *file)
{
    return ((const struct disk_file *)file)->fd;
}
static inline int io_directory_fd(const struct io *io)
{
    return ((const struct io_files *)io)->directory;
}

void twl_io_posix_write(struct io_write *write);       /* without a barrier; in io_posix.c */
void twl_io_posix_write_dsync(struct io_write *write); /* with RWF_DSYNC */
/* Was the call refused, by a sandbox? A write of no bytes tells: only a sandbox refuses that, too. Else the write or
 * its sync has failed, and neither may be tried again. */
bool twl_io_posix_dsync_is_refused(const struct io_write *failed);
int twl_io_posix_again(struct io *io, struct io **ret_io); /* in io_posix.c */

int twl_io_files_open(struct io *io, const char *name, unsigned flags, struct io_file **ret_file);
void twl_io_files_close(struct io_file *file);
int twl_io_files_size(struct io_file *file, uint64_t *ret_bytes);
int twl_io_files_read(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size);
int twl_io_files_write(struct io_file *file, const void *data, size_t size, uint64_t offset);
int twl_io_files_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how);
int twl_io_files_truncate(struct io_file *file, uint64_t bytes);
int twl_io_files_sync(struct io_file *file);
int twl_io_files_sync_data(struct io_file *file);
int twl_io_files_lock(struct io_file *file, enum io_lock which, bool is_exclusive);
void twl_io_files_unlock(struct io_file *file, enum io_lock which);
int twl_io_files_is_locked(struct io_file *file, enum io_lock which, bool *ret_locked);
int twl_io_files_links(struct io_file *file, const char *name, uint32_t *ret_links);
int twl_io_files_map(struct io_file *file, size_t bytes, void **ret_page);
void twl_io_files_unmap(struct io *io, const void *page, size_t bytes);
int twl_io_files_view(struct io_file *file, size_t bytes, const unsigned char **ret_bytes);
int twl_io_files_check_view(struct io *io, const unsigned char *bytes);
int twl_io_files_list(struct io *io, int (*each)(void *context, const char *name), void *context);
int twl_io_files_rename(struct io *io, const char *from, const char *to);
int twl_io_files_unlink(struct io *io, const char *name);
int twl_io_files_sync_dir(struct io *io);
int twl_io_files_link(struct io *io, const char *name, struct io *to, const char *to_name);
int64_t twl_io_files_now_ns(struct io *io);
void twl_io_files_sleep_ms(struct io *io, unsigned ms);
int twl_io_files_random(struct io *io, void *bytes, size_t size);

/* clang-format off */
#define IO_FILES_OPS                       \
    .open = twl_io_files_open,             \
    .close = twl_io_files_close,           \
    .size = twl_io_files_size,             \
    .read = twl_io_files_read,             \
    .write = twl_io_files_write,           \
    .allocate = twl_io_files_allocate,     \
    .truncate = twl_io_files_truncate,               \
    .sync = twl_io_files_sync,             \
    .sync_data = twl_io_files_sync_data,   \
    .lock = twl_io_files_lock,             \
    .unlock = twl_io_files_unlock,         \
    .is_locked = twl_io_files_is_locked,   \
    .links = twl_io_files_links,           \
    .map = twl_io_files_map,               \
    .unmap = twl_io_files_unmap,           \
    .view = twl_io_files_view,             \
    .check_view = twl_io_files_check_view, \
    .list = twl_io_files_list,             \
    .rename = twl_io_files_rename,         \
    .unlink = twl_io_files_unlink,         \
    .sync_dir = twl_io_files_sync_dir,     \
    .link = twl_io_files_link,             \
    .now_ns = twl_io_files_now_ns,         \
    .sleep_ms = twl_io_files_sleep_ms,     \
    .random = twl_io_files_random,         \
    .again = twl_io_posix_again
/* clang-format on */

#endif
