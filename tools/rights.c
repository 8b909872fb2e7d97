/* SPDX-License-Identifier: Apache-2.0 */
/* See rights.h. */
#define _GNU_SOURCE
#include "rights.h"
#include "options.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- the command line --------------------------------------------------------------------------- */

static bool read_number(const char *text, int base, unsigned long most, unsigned long *ret_number)
{
    char *end = NULL;

    if (*text < '0' || *text > '9')
        return false;

    errno = 0;
    *ret_number = strtoul(text, &end, base);
    return *end == '\0' && errno == 0 && *ret_number <= most;
}

void take_mode(struct rights *rights)
{
    unsigned long mode;

    if (!read_number(optarg, 8, 0777, &mode))
        usage_error("--mode: '%s' is not a mode such as 0640", optarg);
    rights->has_mode = true;
    rights->mode = (mode_t)mode;
}

static uid_t find_user(const char *name)
{
    const struct passwd *entry = getpwnam(name);
    unsigned long number;

    if (entry)
        return entry->pw_uid;
    if (!read_number(name, 10, UINT_MAX - 1, &number))
        usage_error("--owner: there is no user '%s'", name);
    return (uid_t)number;
}

static gid_t find_group(const char *name)
{
    const struct group *entry = getgrnam(name);
    unsigned long number;

    if (entry)
        return entry->gr_gid;
    if (!read_number(name, 10, UINT_MAX - 1, &number))
        usage_error("--owner: there is no group '%s'", name);
    return (gid_t)number;
}

void take_owner(struct rights *rights)
{
    char *colon = strchr(optarg, ':');

    if (colon)
        *colon = '\0';
    if (*optarg)
        rights->user = find_user(optarg);
    if (colon && colon[1])
        rights->group = find_group(colon + 1);
    if (!*optarg && !(colon && colon[1]))
        usage_error("--owner: neither a user nor a group");
}

/* ---- owner and mode ----------------------------------------------------------------------------- */

static int apply(int fd, const struct rights *rights)
{
    struct stat about;

    if (fstat(fd, &about) < 0)
        return -errno;

    const bool has_other_owner = (rights->user != (uid_t)-1 && rights->user != about.st_uid) ||
                                 (rights->group != (gid_t)-1 && rights->group != about.st_gid);
    if (has_other_owner && fchown(fd, rights->user, rights->group) < 0)
        return -errno;
    if (rights->has_mode && (about.st_mode & 07777) != rights->mode && fchmod(fd, rights->mode) < 0)
        return -errno;
    return 0;
}

/* 0 if another process was faster: that one has given it rights, or it has the rights of others' files. */
static int give_name(int fd, const char *path)
{
    char unnamed[64];

    snprintf(unnamed, sizeof(unnamed), "/proc/self/fd/%d", fd);
    if (linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH) == 0 || errno == EEXIST)
        return 0;
    if (linkat(AT_FDCWD, unnamed, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST)
        return 0;
    return -errno;
}

/* A file system without unnamed files: a name of its own, until the file has its rights. */
static int make_by_name(const char *path, const char *directory, const struct rights *rights)
{
    char name[PATH_MAX];

    if (snprintf(name, sizeof(name), "%s/.twinlog.%d.new", directory, (int)getpid()) >= (int)sizeof(name))
        return -ENAMETOOLONG;

    unlink(name);
    const int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;

    int error = apply(fd, rights);
    if (error == 0)
        error = rename_to_new(name, path);
    if (error < 0)
        unlink(name);
    close(fd);
    if (error == -EEXIST)
        return 0;
    return error;
}

static int make(const char *path, const struct rights *rights)
{
    struct rights whole = *rights;
    char directory[PATH_MAX];
    mode_t mask = umask(0);

    umask(mask);
    if (!whole.has_mode)
        whole.mode = 0666 & ~mask;
    whole.has_mode = true;
    directory_of(path, directory);
    const int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return make_by_name(path, directory, &whole);

    int error = apply(fd, &whole);
    if (error == 0)
        error = give_name(fd, path);
    close(fd);
    return error;
}

int apply_rights(const char *path, const struct rights *rights)
{
    const bool is_asked = rights->has_mode || rights->user != (uid_t)-1 || rights->group != (gid_t)-1;

    if (!is_asked)
        return 0;

    /* The owner of the directory may have put a link to a file of somebody else there. */
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            return make(path, rights);
        return -errno;
    }

    struct stat about;
    const bool is_regular = fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
    int error = 0; /* opening it says more */
    if (is_regular)
        error = apply(fd, rights);
    close(fd);
    return error;
}

/* ---- those of another directory ------------------------------------------------------------------ */

/* `from` has none, or is on a file system without them. */
static bool has_no_acl(int error)
{
    return error == -ENODATA || error == -EOPNOTSUPP;
}

static int copy_acl(int from, int to, const char *name)
{
    ssize_t size = fgetxattr(from, name, NULL, 0);
    int error = 0;

    if (size <= 0) {
        if (size < 0 && !has_no_acl(-errno))
            return -errno;
        if (fremovexattr(to, name) < 0 && !has_no_acl(-errno)) /* it may have one of the directory above */
            return -errno;
        return 0;
    }

    void *bytes = malloc((size_t)size);
    if (!bytes)
        return -ENOMEM;

    size = fgetxattr(from, name, bytes, (size_t)size);
    if (size < 0 || fsetxattr(to, name, bytes, (size_t)size, 0) < 0)
        error = -errno;
    free(bytes);
    return error;
}

/* The mode comes last: it has the bits that another owner takes away. */
static int copy_rights(int from, int to)
{
    struct stat about;

    if (fstat(from, &about) < 0)
        return -errno;

    const struct rights rights = {
        .has_mode = true, .mode = about.st_mode & 07777, .user = about.st_uid, .group = about.st_gid
    };
    int error = copy_acl(from, to, "system.posix_acl_access");
    if (error == 0)
        error = copy_acl(from, to, "system.posix_acl_default");
    if (error == 0)
        error = apply(to, &rights);
    return error;
}

int copy_directory_rights(const char *from, const char *to)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int error = 0;

    const int from_fd = open(from, flags);
    if (from_fd < 0)
        return -errno;

    const int to_fd = open(to, flags);
    if (to_fd < 0)
        error = -errno;
    else
        error = copy_rights(from_fd, to_fd);
    if (to_fd >= 0)
        close(to_fd);
    close(from_fd);
    return error;
}

/* ---- as the owner of a file --------------------------------------------------------------------- */

static int become(uid_t user, gid_t group)
{
    if (setgroups(0, NULL) < 0 || setresgid(group, group, group) < 0 || setresuid(user, user, user) < 0)
        return -errno;
    return 0;
}

int become_owner(const char *path, char ret_place[PATH_MAX])
{
    const char *name = path + directory_length(path);
    char directory[PATH_MAX];
    struct stat about;

    if (snprintf(ret_place, PATH_MAX, "%s", path) >= PATH_MAX)
        return -ENAMETOOLONG;
    if (lstat(path, &about) < 0)
        return -errno;
    if (geteuid() != 0 || about.st_uid == 0 || !S_ISREG(about.st_mode))
        return 0;

    directory_of(path, directory);
    const int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC); /* for the rest of the process */
    if (fd < 0)
        return -errno;

    snprintf(ret_place, PATH_MAX, "/proc/self/fd/%d/%s", fd, name);
    return become(about.st_uid, about.st_gid);
}
