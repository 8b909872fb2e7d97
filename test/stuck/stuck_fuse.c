/* SPDX-License-Identifier: Apache-2.0 */
/* See stuck_fuse.h. A directory without subdirectories but for those that are there from mkdir(). */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 34
#include "stuck_fuse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const _Atomic bool *stopped;
static int root; /* the directory that is served */

/* At the beginning of each answer. One thread serves, so all others wait behind it. */
static void wait_while_stopped(void)
{
    const struct timespec moment = { .tv_nsec = 1000000 };

    while (atomic_load(stopped))
        nanosleep(&moment, NULL);
}

static const char *name_of(const char *path)
{
    return path[1] != '\0' ? path + 1 : ".";
}

static int result_of(int result)
{
    return result < 0 ? -errno : result;
}

static int fd_of(const struct fuse_file_info *file)
{
    return (int)file->fh;
}

static void *serve_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    config->use_ino = 1;
    config->hard_remove = 1;
    config->entry_timeout = config->attr_timeout = config->negative_timeout = 0; /* each look asks */
    return NULL;
}

static int serve_getattr(const char *path, struct stat *about, struct fuse_file_info *file)
{
    wait_while_stopped();
    return result_of(file ? fstat(fd_of(file), about)
                          : fstatat(root, name_of(path), about, AT_SYMLINK_NOFOLLOW));
}

static int serve_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                         struct fuse_file_info *file, enum fuse_readdir_flags flags)
{
    wait_while_stopped();
    const int fd = openat(root, name_of(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    (void)offset, (void)file, (void)flags;
    for (const struct dirent *entry; directory && (entry = readdir(directory));)
        fill(buffer, entry->d_name, NULL, 0, 0);
    if (directory)
        closedir(directory);
    return directory ? 0 : -EIO;
}

static int serve_open(const char *path, struct fuse_file_info *file)
{
    wait_while_stopped();
    const int fd = openat(root, name_of(path), O_RDWR | O_CLOEXEC);
    file->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

static int serve_create(const char *path, mode_t mode, struct fuse_file_info *file)
{
    wait_while_stopped();
    const int fd = openat(root, name_of(path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    file->fh = (uint64_t)fd;
    return fd < 0 ? -errno : 0;
}

/* For each close(), which waits for the answer; for the release the kernel does not wait. */
static int serve_flush(const char *path, struct fuse_file_info *file)
{
    (void)path, (void)file;
    wait_while_stopped();
    return 0;
}

static int serve_release(const char *path, struct fuse_file_info *file)
{
    (void)path;
    close(fd_of(file));
    return 0;
}

static int serve_read(const char *path, char *bytes, size_t size, off_t offset, struct fuse_file_info *file)
{
    (void)path;
    wait_while_stopped();
    return result_of((int)pread(fd_of(file), bytes, size, offset));
}

static int serve_write(const char *path, const char *bytes, size_t size, off_t offset,
                       struct fuse_file_info *file)
{
    (void)path;
    wait_while_stopped();
    return result_of((int)pwrite(fd_of(file), bytes, size, offset));
}

static int serve_truncate(const char *path, off_t size, struct fuse_file_info *file)
{
    (void)path;
    wait_while_stopped();
    return file ? result_of(ftruncate(fd_of(file), size)) : -EINVAL;
}

static int serve_fallocate(const char *path, int mode, off_t offset, off_t size, struct fuse_file_info *file)
{
    (void)path;
    wait_while_stopped();
    return result_of(fallocate(fd_of(file), mode, offset, size));
}

static int serve_fsync(const char *path, int is_data_only, struct fuse_file_info *file)
{
    (void)path, (void)is_data_only;
    wait_while_stopped();
    return result_of(fsync(fd_of(file)));
}

static int serve_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *file)
{
    wait_while_stopped();
    return result_of(file ? futimens(fd_of(file), times) : utimensat(root, name_of(path), times, 0));
}

static int serve_mkdir(const char *path, mode_t mode)
{
    wait_while_stopped();
    return result_of(mkdirat(root, name_of(path), mode));
}

static int serve_rmdir(const char *path)
{
    wait_while_stopped();
    return result_of(unlinkat(root, name_of(path), AT_REMOVEDIR));
}

static int serve_unlink(const char *path)
{
    wait_while_stopped();
    return result_of(unlinkat(root, name_of(path), 0));
}

static int serve_rename(const char *from, const char *to, unsigned flags)
{
    wait_while_stopped();
    return flags ? -EINVAL : result_of(renameat(root, name_of(from), root, name_of(to)));
}

static int serve_link(const char *from, const char *to)
{
    wait_while_stopped();
    return result_of(linkat(root, name_of(from), root, name_of(to), 0));
}

static const struct fuse_operations operations = {
    .init = serve_init,
    .getattr = serve_getattr,
    .readdir = serve_readdir,
    .open = serve_open,
    .create = serve_create,
    .flush = serve_flush,
    .release = serve_release,
    .read = serve_read,
    .write = serve_write,
    .truncate = serve_truncate,
    .fallocate = serve_fallocate,
    .fsync = serve_fsync,
    .utimens = serve_utimens,
    .mkdir = serve_mkdir,
    .rmdir = serve_rmdir,
    .unlink = serve_unlink,
    .rename = serve_rename,
    .link = serve_link,
};

void stuck_fuse_serve(const char *served, const char *where, const _Atomic bool *is_stopped, int told)
{
    char *arguments[] = { "stuck-disk", NULL };
    struct fuse_args args = FUSE_ARGS_INIT(1, arguments);

    stopped = is_stopped;
    root = open(served, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct fuse *fuse = fuse_new(&args, &operations, sizeof(operations), NULL);
    if (root >= 0 && fuse && fuse_mount(fuse, where) == 0 && write(told, "", 1) == 1)
        fuse_loop(fuse);
}
