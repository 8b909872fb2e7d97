/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the path of a sink leads to, and the files that are opened or made there; of sinks of both kinds.
 *
 * The path is resolved anew each time: files are renamed, links lead elsewhere. A file follows another one, or comes
 * behind a kill that has left only NAME.1. It has the owner, the permissions and the ACL of the one before, and gets
 * them before it has the name, so nobody opens it with other rights, not even for a moment.
 */
#define _GNU_SOURCE
#include "base/point.h"
#include "sink/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the path ------------------------------------------------------------------------------------ */

static bool is_same_file(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

static bool is_directory_of(struct io *io, const char *dir)
{
    struct stat named, opened;

    if (stat(dir, &named) < 0 || fstat(io_directory_fd(io), &opened) < 0)
        return false;
    return is_same_file(&named, &opened);
}

/* Behind a call for the path that has failed: was that because this process may not search a directory of the path? A
 * link at its end that may not be followed is another thing: it can be looked at. */
static bool is_hidden(const char *path, int error)
{
    struct stat about;

    return error == -EACCES && lstat(path, &about) < 0 && errno == EACCES;
}

/* One file has one area, beside it, whichever symbolic link leads there: *ret_path is the path without a link at its
 * end. The kernel says whether to follow the link, which another user may have made. */
static int follow_link(const char *path, char real[PATH_MAX], const char **ret_path)
{
    struct stat about, at_end;

    *ret_path = path;
    if (lstat(path, &about) < 0 || !S_ISLNK(about.st_mode))
        return 0;
    if (stat(path, &about) < 0)
        return -errno;

    *ret_path = realpath(path, real);
    if (!*ret_path || lstat(real, &at_end) < 0)
        return -errno;
    if (!is_same_file(&about, &at_end)) /* it is another link by now */
        return -EACCES;
    return 0;
}

/* Splits the path into the directory, which ends in "/." or is ".", and the name. */
static int split(const char *path, char ret_dir[PATH_MAX + 1], const char **ret_name)
{
    const char *name = path;
    const char *slash = strrchr(path, '/');

    if (slash)
        name = slash + 1;
    if (!*path)
        return -ENOENT;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -ENOTSUP;
    if (strlen(name) > NAME_MAX || name - path >= PATH_MAX)
        return -ENAMETOOLONG;

    snprintf(ret_dir, PATH_MAX + 1, "%.*s.", (int)(name - path), path);
    *ret_name = name;
    return 0;
}

static int resolve(const char *path, struct io **io, char name[NAME_MAX + 1])
{
    char real[PATH_MAX], dir[PATH_MAX + 1];
    const char *found = path;

    int rc = follow_link(path, real, &path);
    if (rc == 0)
        rc = split(path, dir, &found);
    if (rc < 0)
        return rc;

    const bool is_known = *io && is_directory_of(*io, dir);
    if (!is_known)
        rc = twl_io_posix_create(dir, false, io);
    if (rc == 0)
        memcpy(name, found, strlen(found) + 1);
    return rc;
}

int twl_sink_find_place(const char *path, struct io **io, char name[NAME_MAX + 1])
{
    const int rc = resolve(path, io, name);

    if (*io && is_hidden(path, rc))
        return 0;
    return rc;
}

int twl_sink_look(const char *path, struct io_file *file, const char *name)
{
    struct stat named, opened;
    int rc = 0;

    if (stat(path, &named) < 0)
        rc = -errno;
    if (is_hidden(path, rc)) {
        rc = 0;
        if (fstatat(io_directory_fd(file->io), name, &named, AT_SYMLINK_NOFOLLOW) < 0)
            rc = -errno;
    }

    if (rc == -ENOENT || rc == -ENOTDIR)
        return PATH_LEADS_NOWHERE;
    if (rc < 0)
        return rc;
    if (fstat(io_file_fd(file), &opened) < 0)
        return -errno;
    if (is_same_file(&named, &opened))
        return PATH_LEADS_HERE;
    return PATH_LEADS_ELSEWHERE;
}

char *twl_sink_absolute(const char *path)
{
    char *absolute = NULL;

    if (path[0] == '/')
        return strdup(path);
    char *here = getcwd(NULL, 0);
    if (!here)
        return strdup(path);

    if (asprintf(&absolute, "%s/%s", here, path) < 0)
        absolute = NULL;
    if (absolute && strlen(absolute) >= PATH_MAX) { /* no call takes such a path */
        free(absolute);
        absolute = strdup(path);
    }
    free(here);
    return absolute;
}

/* ---- files ---------------------------------------------------------------------------------------- */

/* Not with IO_CREATE at once: in a directory with the sticky bit that is refused for another user's file. */
int twl_sink_open_or_make(struct io *io, const char *name, unsigned flags, unsigned mode,
                          struct io_file **ret_file)
{
    int rc = io_open(io, name, flags, ret_file);
    if (rc != -ENOENT)
        return rc;

    rc = io_open(io, name, flags | IO_CREATE | mode * IO_MODE, ret_file);
    if (rc == -EEXIST) /* another process was faster */
        return FOUND_OTHER_FILE;
    return rc;
}

/* In a directory that others may write, anybody can have made a file of that name. */
static bool may_take_after(struct io_file *older, bool may_give)
{
    struct stat about, around;

    if (fstat(io_file_fd(older), &about) < 0 || fstat(io_directory_fd(older->io), &around) < 0)
        return false;

    const bool is_open = around.st_mode & (S_ISVTX | S_IWGRP | S_IWOTH);
    const bool is_own = about.st_uid == geteuid();
    if (is_open)
        return is_own && about.st_nlink <= 1;
    return is_own || may_give;
}

/* Makes the file as the successor of NAME.1: FOUND_OTHER_FILE. -ENOENT: nothing was made, as there is no NAME.1, or it
 * cannot be looked at or may not be taken after. One that this process may not write is none that a sink has just left,
 * and its successor could not be opened. */
static int make_after_older(struct io *io, const char *name, unsigned flags, bool may_give)
{
    char older_name[NAME_ROOM];
    struct io_file *older;
    int rc = -ENOENT;

    snprintf(older_name, sizeof(older_name), "%s.1", name);
    if (io_open(io, older_name, flags, &older) < 0)
        return -ENOENT;
    if (may_take_after(older, may_give))
        rc = twl_sink_make_next(io, name, older);
    io_close(older);
    if (rc < 0)
        return -ENOENT;
    return rc;
}

int twl_sink_open_first(struct io *io, const char *name, unsigned flags, bool may_give,
                        struct io_file **ret_file)
{
    int rc = io_open(io, name, flags, ret_file);
    if (rc == -ENOENT)
        rc = make_after_older(io, name, flags, may_give);
    if (rc == -ENOENT)
        rc = twl_sink_open_or_make(io, name, flags, 0666, ret_file);
    return rc;
}

int twl_sink_make_next(struct io *io, const char *name, struct io_file *present)
{
    const int rc = io->ops->succeed(io, name, present);
    POINT("next file made");
    if (rc < 0 && rc != -EEXIST)
        return rc;
    return FOUND_OTHER_FILE;
}
