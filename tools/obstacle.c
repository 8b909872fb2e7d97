/* SPDX-License-Identifier: Apache-2.0 */
/* See obstacle.h. It looks at the names in the order in which a rotation does; what it finds may be gone by then. */
#define _GNU_SOURCE
#include "obstacle.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define DEFAULT_KEEP_FILES 5u

static void say(char text[OBSTACLE_BYTES], const char *name, const char *what, int error)
{
    const char *colon = "", *reason = "";

    if (error > 0) {
        colon = ": ";
        reason = strerror(error);
    }
    snprintf(text, OBSTACLE_BYTES, "'%s' %s%s%s.", name, what, colon, reason);
}

/* Has a process the file open as a sink? */
static bool is_in_use(int fd)
{
    struct stat about;
    uint64_t end;

    return fstat(fd, &about) == 0 && twinlog_sink_end_of(fd, (uint64_t)about.st_size, &end) == 1;
}

/* In a directory with the sticky bit a file is renamed by its owner, the directory's, and root alone. */
static bool is_kept_by_sticky_bit(const char *name, const struct stat *about)
{
    const uid_t user = geteuid();
    char directory[PATH_MAX];
    struct stat around;

    directory_of(name, directory);
    if (stat(directory, &around) < 0 || !(around.st_mode & S_ISVTX))
        return false;
    return user != 0 && user != about->st_uid && user != around.st_uid;
}

/* Is a numbered file in the way? *ret_is_last: there is none with that number, so those behind it stay. */
static bool look_at_number(const char *name, char text[OBSTACLE_BYTES], bool *ret_is_last)
{
    struct stat about;

    if (lstat(name, &about) < 0) {
        *ret_is_last = errno == ENOENT;
        if (!*ret_is_last)
            say(text, name, "cannot be looked at", errno);
        return !*ret_is_last;
    }

    if (S_ISDIR(about.st_mode)) {
        say(text, name, "is a directory", 0);
        return true;
    }
    if (!S_ISREG(about.st_mode)) {
        say(text, name, "is no regular file", 0);
        return true;
    }
    if (is_kept_by_sticky_bit(name, &about)) {
        say(text, name, "is another user's, and only that one or root can rename it there", 0);
        return true;
    }

    const int fd = open(name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        say(text, name, "cannot be opened", errno);
        return true;
    }

    const bool is_used = is_in_use(fd);
    close(fd);
    if (is_used)
        say(text, name, "is the file of another sink", 0);
    return is_used;
}

/* The next file would be that one's, too. */
static bool look_at_owner(const char *path, char text[OBSTACLE_BYTES])
{
    struct stat about;

    if (geteuid() == 0 || stat(path, &about) < 0 || about.st_uid == geteuid())
        return false;
    say(text, path, "is another user's, and only that one or root can begin its next file", 0);
    return true;
}

static void look_at_directory(const char *path, char text[OBSTACLE_BYTES])
{
    char directory[PATH_MAX];

    directory_of(path, directory);
    if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) < 0)
        say(text, directory, "cannot be written, and the file gets its new name there", errno);
}

void describe_obstacle(const char *path, uint32_t keep_files, char ret_text[OBSTACLE_BYTES])
{
    char real[PATH_MAX], name[PATH_MAX];
    bool is_last = false;

    ret_text[0] = '\0';
    if (keep_files == 0)
        keep_files = DEFAULT_KEEP_FILES;
    if (realpath(path, real)) /* the numbers are beside the file, and not beside a link to it */
        path = real;

    /* What has the first number now is the sink's own file. */
    const bool is_renamed = access(path, F_OK) < 0 && errno == ENOENT;
    if (is_renamed) {
        say(ret_text, path, "is missing: the file has its next name, and no new one can be made", 0);
        return;
    }

    for (uint32_t number = 1; number <= keep_files && !is_last; number++) {
        if (snprintf(name, sizeof(name), "%s.%u", path, number) >= (int)sizeof(name))
            return;
        if (look_at_number(name, ret_text, &is_last))
            return;
    }

    if (look_at_owner(path, ret_text))
        return;
    look_at_directory(path, ret_text);
}
