/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a file inherits from the one that it follows: owner, permissions and ACL; and how it gets its name last, so that
 * other programs never see a file of that name with less or more rights.
 *
 * Where the system does not allow to give all of that, the file gets fewer rights than its predecessor has, never more.
 */
#define _GNU_SOURCE
#include "io/io_files.h"

#include "base/libc.h"
#include "io/file_status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- owner and rights ---------------------------------------------------------------------------- */

#define ACL_NAME "system.posix_acl_access"

/* Does this error of a call for the ACL say that there is none? Then the file has its permissions alone. */
static bool has_no_acl(int error)
{
    return error == -ENODATA || error == -EOPNOTSUPP;
}

/* A new file may have got one from its directory. */
static int remove_acl(int fd)
{
    const int error = error_of(fremovexattr(fd, ACL_NAME));

    return has_no_acl(error) ? 0 : error;
}

/* -EAGAIN: the ACL has changed since its size was asked. */
static int copy_acl_bytes(int from, int to, void *bytes, size_t size)
{
    const ssize_t found = fgetxattr(from, ACL_NAME, bytes, size);

    if (found < 0)
        return -errno;
    if ((size_t)found != size)
        return -EAGAIN;
    return error_of(fsetxattr(to, ACL_NAME, bytes, size, 0));
}

/* *ret_has_acl: `from` has an ACL, and `to` has it now. Else `to` has none. -EOPNOTSUPP: the ACL cannot be read or
 * set. */
static int copy_acl(int from, int to, bool *ret_has_acl)
{
    const ssize_t size = fgetxattr(from, ACL_NAME, NULL, 0);

    *ret_has_acl = size > 0;
    if (size < 0 && !has_no_acl(-errno))
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

/* Does this error say that the process may not give a file to that owner, or group? A namespace of users may not know
 * them, and a file system may know none. */
static bool may_not_give(int error)
{
    return error == -EPERM || error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSYS;
}

/* Have all others the rights that the group has? */
static bool have_others_as_many_rights(mode_t mode)
{
    const mode_t of_group = (mode >> 3) & 07;

    return (mode & of_group) == of_group;
}

/* Gives the file the group of `from`, where its owner cannot be given. True if that owner has the same rights all the
 * same: as a member of the group, or as one of all others. */
static bool give_group_alone(int fd, const struct file_status *wanted, const struct file_status *own)
{
    if (wanted->group == own->group)
        return true;
    if (fchown(fd, (uid_t)-1, wanted->group) == 0)
        return true;
    return have_others_as_many_rights(wanted->mode);
}

/* Gives `fd` what `from` has; the owner only if it must be, or can be. Where the group or the ACL cannot be given, the
 * group gets no rights: `from` has them for another group. */
static int inherit(int fd, int from, bool needs_owner)
{
    struct file_status wanted, own;

    int error = twl_file_status(from, &wanted);
    if (error == 0)
        error = twl_file_status(fd, &own);
    if (error < 0)
        return error;

    const mode_t mode = wanted.mode & 0777;
    const mode_t mode_without_group = mode & ~(mode_t)070;
    const bool has_same_user = wanted.owner == own.owner;
    const bool has_same_group = wanted.group == own.group;

    if (!has_same_user || !has_same_group)
        error = error_of(fchown(fd, wanted.owner, wanted.group));
    const bool is_not_given = may_not_give(error);
    if (is_not_given && has_same_user)
        return give_mode(fd, mode_without_group);
    if (is_not_given && (needs_owner || !give_group_alone(fd, &wanted, &own)))
        return -EPERM;
    if (error < 0 && !is_not_given)
        return error;

    bool has_acl;
    error = copy_acl(from, fd, &has_acl);
    if (error == -EOPNOTSUPP)
        return give_mode(fd, mode_without_group);
    if (error < 0)
        return error;
    if (has_acl) /* it has the permissions, those of the group among them */
        return 0;
    return give_mode(fd, mode);
}

int twl_io_inherit(struct io_file *file, struct io_file *predecessor, bool needs_owner)
{
    return inherit(io_file_fd(file), io_file_fd(predecessor), needs_owner);
}

/* ---- a name for a file that has all of it already ------------------------------------------------ */

/* The first way needs a capability on most kernels, the second one /proc. */
int twl_io_name_unnamed(struct io_file *file, const char *name)
{
    const int directory = io_directory_fd(file->io);
    const int fd = io_file_fd(file);
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(fd)];

    const int error = error_of(linkat(fd, "", directory, name, AT_EMPTY_PATH));
    if (error == 0 || error == -EEXIST)
        return error;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return error_of(linkat(AT_FDCWD, path, directory, name, AT_SYMLINK_FOLLOW));
}

/* -EEXIST: `to` is there. Where the system has no such call, it is replaced; a sandbox may refuse a call that it does
 * not know with -EPERM. */
static int rename_by_flag(int directory, const char *from, const char *to)
{
    const int error = error_of((int)syscall(SYS_renameat2, directory, from, directory, to, RENAME_NOREPLACE));

    const bool is_known = error != -EINVAL && error != -ENOSYS && error != -EPERM;
    if (is_known)
        return error;
    return error_of(renameat(directory, from, directory, to));
}

int twl_io_rename_unless_taken(struct io *io, const char *from, const char *to)
{
    return rename_by_flag(io_directory_fd(io), from, to);
}

/* For a file that nobody knows yet, which may have two names for a moment. So no file is replaced either where the file
 * system has second names, but not that call. */
static int give_name(int directory, const char *from, const char *name)
{
    const int error = error_of(linkat(directory, from, directory, name, 0));

    if (error == 0)
        return error_of(unlinkat(directory, from, 0));
    if (error == -EEXIST)
        return error;
    return rename_by_flag(directory, from, name);
}

/* Where each file has to have a name. A kill in the middle leaves a file that nothing looks at. */
static int make_and_rename(int directory, const char *name, int predecessor)
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

    error = inherit(fd, predecessor, true);
    if (error == 0)
        error = give_name(directory, temporary, name);
    if (error < 0)
        unlinkat(directory, temporary, 0);
    twl_child_close(&in_child, &fd);
    return error;
}

/* A kill in the middle leaves nothing, as the file has no name until it has inherited. */
int twl_io_succeed(struct io *io, const char *name, struct io_file *predecessor)
{
    const int directory = io_directory_fd(io);
    const int from = io_file_fd(predecessor);
    struct io_file *unnamed;

    int error = twl_io_open_unnamed(io, 0, &unnamed);
    if (error < 0)
        return make_and_rename(directory, name, from);

    bool is_nameless = false;
    error = twl_io_inherit(unnamed, predecessor, true);
    if (error == 0) {
        error = twl_io_name_unnamed(unnamed, name);
        is_nameless = error < 0 && error != -EEXIST;
    }
    io_close(unnamed);

    /* A kernel, a sandbox or a container without /proc may give no name to a file that has none. */
    if (is_nameless)
        return make_and_rename(directory, name, from);
    return error;
}
