/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog sink --cat and --follow: shows what was written to a plain file, without the zeros behind it.
 *
 * When the name leads to another file, the rest of the old one is shown a moment later, after threads that
 * were inside a write have finished it; then the next file from its beginning. If that was rotated away, too, its
 * number says which one it is.
 */
#define _GNU_SOURCE
#include "sink_cat.h"
#include "common.h"
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define PAUSE_MS 100u
#define MOST_MISSING 2u /* numbers in a row, while the names are shifted */

struct show {
    const char *path;
    int fd;
    uint64_t at;
};

/* Shows the bytes up to `end`, or to the end of the file. Errors of the output are left to
 * finish_output(). */
static int show_to(struct show *show, uint64_t end)
{
    static char bytes[PIECE_BYTES];

    while (show->at < end) {
        size_t size = end - show->at < sizeof(bytes) ? (size_t)(end - show->at) : sizeof(bytes);
        ssize_t got = pread(show->fd, bytes, size, (off_t)show->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : 0;
        if (fwrite(bytes, 1, (size_t)got, stdout) < (size_t)got)
            return 0;
        show->at += (uint64_t)got;
    }
    return 0;
}

/* Shows the rest of a file that has lost its name, without the zeros at its end. */
static int show_rest(struct show *show)
{
    static char bytes[PIECE_BYTES];
    struct stat status;

    if (fstat(show->fd, &status) < 0)
        return -errno;
    for (uint64_t end = (uint64_t)status.st_size; end > show->at;) {
        size_t size = end - show->at < sizeof(bytes) ? (size_t)(end - show->at) : sizeof(bytes), left = size;
        if (pread(show->fd, bytes, size, (off_t)(end - size)) != (ssize_t)size)
            return 0; /* the file was truncated meanwhile */
        while (left > 0 && bytes[left - 1] == 0)
            left--;
        end -= size - left;
        if (left > 0)
            return show_to(show, end);
    }
    return 0;
}

static bool is_named(const struct show *show, const char *name)
{
    struct stat named, opened;

    return stat(name, &named) == 0 && fstat(show->fd, &opened) == 0 && named.st_ino == opened.st_ino &&
           named.st_dev == opened.st_dev;
}

/* Opens the file that follows the open one. After rotations it has the number below; NAME follows NAME.1. A number may
 * be missing while the names are shifted. */
static int open_next(const struct show *show)
{
    char name[PATH_MAX], next[PATH_MAX];
    int fd = -1;

    for (unsigned number = 1, missing = 0; show->fd >= 0 && missing <= MOST_MISSING; number++) {
        snprintf(name, sizeof(name), "%s.%u", show->path, number);
        missing = access(name, F_OK) == 0 ? 0 : missing + 1;
        if (!is_named(show, name))
            continue;
        snprintf(next, sizeof(next), number > 1 ? "%s.%u" : "%s", show->path, number - 1);
        fd = open(next, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0 || is_named(show, name))
            return fd;
        close(fd); /* the numbers have changed meanwhile: the open file has a larger one */
    }
    return open(show->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* Opens the next file, or the first one, at its beginning. */
static int begin(struct show *show)
{
    int fd = open_next(show);

    if (fd < 0)
        return -errno;
    if (show->fd >= 0)
        close(show->fd);
    show->fd = fd;
    show->at = 0;
    return 0;
}

static int show_present(struct show *show)
{
    uint64_t end = 0;
    int error = twinlog_sink_end(show->path, &end);

    if ((error == 0 || error == -EUCLEAN) && is_named(show, show->path)) {
        int shown = show_to(show, end);
        return shown < 0 ? shown : error;
    }
    return is_named(show, show->path) ? error : 0;
}

static int follow(struct show *show)
{
    int error = 0;

    while (error == 0 || error == -EUCLEAN) {
        const bool was_present = is_named(show, show->path);

        if (was_present)
            error = show_present(show);
        if (fflush(stdout) != 0 || !stop_sleep(PAUSE_MS))
            return error == -EUCLEAN ? 0 : error;
        if (!was_present && (error = show_rest(show)) == 0 && (error = begin(show)) == -ENOENT)
            error = 0; /* the next file is not made yet */
    }
    return error;
}

int show_sink(const char *path, bool is_following)
{
    struct show show = { .path = path, .fd = -1 };
    int error = is_following ? stop_on_signals() : 0;

    if (error == 0)
        error = begin(&show);
    if (error == 0)
        error = is_following ? follow(&show) : show_present(&show);
    if (show.fd >= 0)
        close(show.fd);
    if (error == -EUCLEAN)
        complain("'%s' ends in zeros that may be data; printed is what is before them", path);
    else if (error)
        fail("read", path, error, NULL, error == -ENOENT ? "There is no such file: check the path." : NULL);
    return finish_output(error ? STATUS_FAILED : STATUS_FINE);
}
