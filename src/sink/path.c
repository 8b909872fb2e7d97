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

#define MOST_LINKS 40u /* in a row, as of the kernel */

/* ---- the path ------------------------------------------------------------------------------------ */

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

/* After chroot(), the same text leads to a file of the jail. */
static bool has_other_root(const struct sink_path *path)
{
    struct stat root;

    if (path->root_inode == 0 || stat("/", &root) < 0)
        return false;
    return root.st_dev != path->root_device || root.st_ino != path->root_inode;
}

/* How many bytes of the path are its directory, with the slash behind it. 0: that where the process is. */
static int directory_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return 0;
    return (int)(slash + 1 - path);
}

/* Splits the path into the directory, which ends in "/." or is ".", and the name. */
static int split(const char *path, char ret_dir[PATH_MAX + 1], const char **ret_name)
{
    const int bytes = directory_bytes(path);
    const char *name = path + bytes;

    if (!*path)
        return -ENOENT;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -ENOTSUP;
    if (strlen(name) > NAME_MAX || bytes >= PATH_MAX)
        return -ENAMETOOLONG;

    snprintf(ret_dir, PATH_MAX + 1, "%.*s.", bytes, path);
    *ret_name = name;
    return 0;
}

/* The rule of fs.protected_symlinks, whatever that is set to: where everybody may make files, and remove only their own
 * ones, a link of a stranger is not followed. */
static bool is_of_stranger(const struct stat *link, const struct stat *around)
{
    const bool is_public = (around->st_mode & S_ISVTX) && (around->st_mode & S_IWOTH);

    return is_public && link->st_uid != geteuid() && link->st_uid != around->st_uid;
}

/* May a file be made where this link leads to? -EACCES: no, or it is another link by now than the one that was found
 * before its text was read. */
static int check_link(const char *path, const struct stat *found)
{
    struct stat link, around;
    char dir[PATH_MAX + 1];

    snprintf(dir, sizeof(dir), "%.*s.", directory_bytes(path), path);
    if (lstat(path, &link) < 0 || stat(dir, &around) < 0)
        return -errno; /* no test: it was there when its text was read */
    if (!is_same_file(found, &link) || is_of_stranger(&link, &around))
        return -EACCES;
    return 0;
}

/* Replaces the path of the link by that of what it leads to. */
static int follow_text(char path[PATH_MAX], const struct stat *link, bool may_make)
{
    char text[PATH_MAX], target[PATH_MAX];
    int above = 0, rc = 0;

    POINT("link found");
    const int size = (int)readlink(path, text, sizeof(text));
    if (size < 0)
        return -errno;
    if (may_make)
        rc = check_link(path, link);
    if (rc < 0)
        return rc;

    if (text[0] != '/') /* it starts from the directory of the link */
        above = directory_bytes(path);
    if (above + size >= PATH_MAX)
        return -ENAMETOOLONG;
    snprintf(target, sizeof(target), "%.*s%.*s", above, path, size, text);
    memcpy(path, target, strlen(target) + 1);
    return 0;
}

/* Replaces the path by one that no link is at the end of; there may be nothing there. `may_make`: the caller makes a
 * file then, so all links on the way are checked. */
static int follow_texts(char path[PATH_MAX], bool may_make)
{
    struct stat about;

    for (unsigned links = 0; links <= MOST_LINKS; links++) {
        if (lstat(path, &about) < 0 || !S_ISLNK(about.st_mode))
            return 0; /* opening it says what is wrong, if anything is */

        const int rc = follow_text(path, &about, may_make);
        if (rc < 0)
            return rc;
    }

    return -ELOOP; /* no test: the kernel has followed them */
}

/* One file has one area, beside it, whichever symbolic link leads there: *ret_path is the path without a link at its
 * end. The kernel says whether to follow the link, which another user may have made. Where the link leads to nothing,
 * as between the two steps of a rotation, the file belongs where open() with O_CREAT would make it. */
static int follow_link(const char *path, char real[PATH_MAX], const char **ret_path)
{
    struct stat about, at_end;

    *ret_path = path;
    if (lstat(path, &about) < 0 || !S_ISLNK(about.st_mode))
        return 0;

    const bool has_file = stat(path, &about) == 0;
    if (!has_file && errno != ENOENT)
        return -errno;
    const bool is_other_thing = has_file && !S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode);
    if (is_other_thing) /* the text of a link to a pipe, as of /dev/stdout, is no path */
        return -ENOTSUP;

    snprintf(real, PATH_MAX, "%s", path);
    const int rc = follow_texts(real, !has_file);
    if (rc < 0)
        return rc;

    *ret_path = real;
    if (!has_file)
        return 0;
    if (lstat(real, &at_end) < 0)
        return -errno;
    if (!is_same_file(&about, &at_end)) /* it is another link by now */
        return -EACCES;
    return 0;
}

static int resolve_text(const char *path, struct io **io, char name[NAME_MAX + 1])
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

int twl_sink_resolve_path(const struct sink_path *path, struct io **io, char name[NAME_MAX + 1])
{
    if (*io && has_other_root(path))
        return 0;

    const int rc = resolve_text(path->text, io, name);
    if (*io && is_hidden(path->text, rc))
        return 0;
    return rc;
}

/* Each file system has its own limit, so it is asked for the name. Whatever else is in the way may have gone when the
 * sink rotates. */
int twl_sink_check_number(struct io *io, const char *name, unsigned number)
{
    char numbered[NAME_ROOM];
    struct stat about;

    snprintf(numbered, sizeof(numbered), "%s.%u", name, number);
    if (fstatat(io_directory_fd(io), numbered, &about, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENAMETOOLONG)
        return -ENAMETOOLONG;
    return 0;
}

int twl_sink_look(const struct sink_path *path, struct io_file *file, const char *name)
{
    struct stat named, opened;
    int rc = 0;

    if (stat(path->text, &named) < 0)
        rc = -errno;
    if (has_other_root(path) || is_hidden(path->text, rc)) {
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

static char *make_absolute(const char *path)
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

int twl_sink_take_path(const char *text, struct sink_path *ret_path)
{
    struct stat root = { 0 };

    (void)stat("/", &root); /* no answer: whichever there is */
    *ret_path = (struct sink_path){
        .text = make_absolute(text),
        .root_device = root.st_dev,
        .root_inode = root.st_ino,
    };
    return ret_path->text ? 0 : -ENOMEM;
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

    const bool is_own = about.st_uid == geteuid();
    if (may_others_make_files(&around))
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

/* Errors of an opening that say: the kernel, a sandbox or the file system knows no such file. */
static bool has_no_unnamed(int rc)
{
    return rc == -EOPNOTSUPP || rc == -EISDIR || rc == -ENOENT || rc == -EINVAL || rc == -ENOSYS ||
           rc == -EPERM;
}

int twl_sink_make_unnamed(struct io *io, unsigned flags, struct io_file *present, struct io_file **ret_file)
{
    struct io_file *file;

    *ret_file = NULL;
    int rc = twl_io_open_unnamed(io, flags, &file);
    if (has_no_unnamed(rc))
        return 0;
    if (rc < 0)
        return rc;

    rc = io->ops->inherit(file, present, true);
    if (rc == 0)
        *ret_file = file;
    else
        io_close(file);
    return rc;
}
