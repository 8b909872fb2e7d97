/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable writes by system calls: pwritev2() with RWF_DSYNC, which a kernel or a sandbox may refuse, or pwrite() and
 * then fdatasync(), which always work. A write that a signal or a full disk cut short is reported, not retried.
 */
#define _GNU_SOURCE
#include "base/libc.h"
#include "io/io_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* One system call. `flags`: those of pwritev2(). */
static int64_t write_once(const struct io_write *write, int flags)
{
    struct iovec bytes = { .iov_base = (void *)(uintptr_t)write->data, .iov_len = write->size };
    const int fd = io_file_fd(write->file);
    ssize_t n;

    if (flags == 0) /* a sandbox that knows only older calls may refuse pwritev2() */
        n = pwrite(fd, write->data, write->size, (off_t)write->offset);
    else
        n = pwritev2(fd, &bytes, 1, (off_t)write->offset, flags);
    return n < 0 ? -errno : n;
}

void twl_io_posix_write(struct io_write *write)
{
    write->ret_written = write_once(write, 0);
    write->ret_synced = write->ret_written < 0 ? -ECANCELED : 0;
}

static void write_and_sync(struct io_files *files, struct io_write *write)
{
    (void)files;
    twl_io_posix_write(write);
    if (write->barrier == IO_BARRIER_NONE)
        return;

    write->ret_synced = -ECANCELED;
    if (write->ret_written == (int64_t)write->size)
        write->ret_synced = io_sync_data(write->file);
}

void twl_io_posix_write_dsync(struct io_write *write)
{
    write->ret_written = write_once(write, RWF_DSYNC);
    write->ret_synced = write->ret_written < 0 ? -ECANCELED : 0;
}

bool twl_io_posix_dsync_is_refused(const struct io_write *done)
{
    const struct io_write nothing = { .file = done->file, .data = done->data, .offset = done->offset };

    if (!io_is_refusal(done->ret_written))
        return false;
    return write_once(&nothing, RWF_DSYNC) < 0;
}

/* RWF_DSYNC covers only the write that carries it, so another barrier than that takes a sync. */
static void write_with_its_sync(struct io_files *files, struct io_write *write)
{
    if (write->barrier == IO_BARRIER_WRITE)
        twl_io_posix_write_dsync(write);
    else
        write_and_sync(files, write);
}

static int create_io(int from, const char *path, bool use_dsync, struct io **ret_io)
{
    struct io_files *files = calloc(1, sizeof(*files));

    if (!files)
        return -ENOMEM;
    files->write_durably = use_dsync ? write_with_its_sync : write_and_sync;
    const int rc = twl_io_files_init(files, from, path);
    if (rc < 0) {
        free(files);
        return rc;
    }
    *ret_io = &files->io;
    return 0;
}

int twl_io_posix_create(const char *path, bool use_dsync, struct io **ret_io)
{
    return create_io(AT_FDCWD, path, use_dsync, ret_io);
}

int twl_io_posix_again(struct io *io, struct io **ret_io)
{
    return create_io(io_directory_fd(io), ".", false, ret_io);
}
