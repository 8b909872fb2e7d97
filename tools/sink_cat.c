/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog sink --cat and --follow: shows what was written to a plain file, without the zeros behind it.
 *
 * All questions are about the open file, whatever name it has by now: twinlog_sink_end_of(). A file is left when it has
 * lost its name, no process has it open and all of it was shown. The next one is that with the number below, or the
 * oldest that is kept and is younger, or the one that has the name.
 */
#define _GNU_SOURCE
#include "sink_cat.h"
#include "common.h"
#include "path.h"
#include "stop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/stat.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <twinlog_sink.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10)
#define LEAST_PAUSE_MS 10u
#define MOST_PAUSE_MS 100u
#define MOST_MISSING 2u /* numbers in a row, while the names are shifted */
#define MOST_LOOKS 20u  /* of --cat, while a file is rotated: its name is missing, or the new file is empty */
#define LOOK_MS 5u
#define PROBE_S 60     /* between two questions to an idle client, by TCP, whether it is there */
#define MOST_LINKS 40u /* in a row, as of the kernel */

struct show {
    const char *path;
    char base[PATH_MAX]; /* in front of the numbers: where the path led to, without a link at its end */
    bool is_following;   /* --cat says that zeros may be data, and does not show them */
    int fd;
    uint64_t at;
};

/* Shows the bytes up to `end`, or to the end of the file. Errors of the output are left to
 * finish_output(). */
static int show_to(struct show *show, uint64_t end)
{
    static char bytes[PIECE_BYTES];

    while (show->at < end) {
        const size_t size = (size_t)min_u64(end - show->at, sizeof(bytes));
        ssize_t got = pread(show->fd, bytes, size, (off_t)show->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return 0;
        if (fwrite(bytes, 1, (size_t)got, stdout) < (size_t)got)
            return 0;

        show->at += (uint64_t)got;
    }

    return 0;
}

bool has_area(const char *path, ino_t inode)
{
    char name[PATH_MAX];
    struct stat area;

    const int size = snprintf(name, sizeof(name), "%.*s.twinlog.%ju.sink", (int)directory_length(path), path,
                              (uintmax_t)inode);
    if (size >= PATH_MAX)
        return true;
    return lstat(name, &area) == 0 || errno != ENOENT;
}

/* Shows the rest of a file that no process has open, without the zeros that a mapped sink has left at its end. One that
 * was killed has left its area beside the file. Without an area the zeros are data, as of an exact sink. */
static int show_rest(struct show *show)
{
    static char bytes[PIECE_BYTES];
    struct stat status;

    if (fstat(show->fd, &status) < 0)
        return -errno;
    if (!has_area(show->base, status.st_ino))
        return show_to(show, (uint64_t)status.st_size);

    for (uint64_t end = (uint64_t)status.st_size; end > show->at;) {
        const size_t size = (size_t)min_u64(end - show->at, sizeof(bytes));
        size_t left = size;
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

    if (stat(name, &named) < 0 || fstat(show->fd, &opened) < 0)
        return false;
    return is_same_file(&named, &opened);
}

/* ---- the next file ---------------------------------------------------------------------------- */

/* The old files are beside the file, and not beside a link to it. During a rotation the link leads to nothing; so its
 * text counts. */
static void find_base(struct show *show)
{
    char text[PATH_MAX], target[PATH_MAX];

    snprintf(show->base, sizeof(show->base), "%s", show->path);
    for (unsigned links = 0; links < MOST_LINKS; links++) {
        const ssize_t size = readlink(show->base, text, sizeof(text));
        if (size < 0) /* no link */
            return;

        int above = 0; /* bytes that stay: of the directory that the text starts from */
        if (text[0] != '/')
            above = (int)directory_length(show->base);
        if (snprintf(target, sizeof(target), "%.*s%.*s", above, show->base, (int)size, text) >= PATH_MAX)
            return;
        memcpy(show->base, target, strlen(target) + 1);
    }
}

static void number_name(const struct show *show, unsigned number, char name[PATH_MAX])
{
    int size;

    if (number > 0)
        size = snprintf(name, PATH_MAX, "%s.%u", show->base, number);
    else
        size = snprintf(name, PATH_MAX, "%s", show->path);
    if (size >= PATH_MAX)
        name[0] = '\0'; /* no file has such a name, nor a part of it */
}

/* When a file was made, or changed last where the file system does not know. By the number of the call, as a C library
 * may lack statx(). */
static bool find_age(int fd, const char *name, struct timespec *ret_time)
{
    const int flags = fd == AT_FDCWD ? 0 : AT_EMPTY_PATH;
    struct statx about;

    if (syscall(SYS_statx, fd, name, flags, STATX_BTIME | STATX_MTIME, &about) < 0)
        return false;

    const struct statx_timestamp *time = &about.stx_mtime;
    if (about.stx_mask & STATX_BTIME)
        time = &about.stx_btime;
    *ret_time = (struct timespec){ .tv_sec = (time_t)time->tv_sec, .tv_nsec = time->tv_nsec };
    return true;
}

static bool is_younger(const struct show *show, const char *name)
{
    struct timespec mine, other;

    return find_age(show->fd, "", &mine) && find_age(AT_FDCWD, name, &other) &&
           (other.tv_sec > mine.tv_sec || (other.tv_sec == mine.tv_sec && other.tv_nsec > mine.tv_nsec));
}

/* The number of the file that follows the open one, 0 for NAME. Those with smaller numbers are younger. If the open one
 * was removed meanwhile, its time alone says which are older, and a clock that was set back makes that wrong. Others
 * behind it may have been removed, too. Then lines may be missing. */
static unsigned find_next(const struct show *show, bool *ret_may_miss)
{
    char name[PATH_MAX];
    struct stat opened;
    unsigned oldest = 0;
    bool has_old_files = false;

    for (unsigned number = 1, missing = 0; missing <= MOST_MISSING; number++) {
        number_name(show, number, name);
        if (access(name, F_OK) == 0)
            missing = 0;
        else
            missing++;
        if (is_named(show, name))
            return number - 1;
        has_old_files |= missing == 0;
        if (missing == 0 && is_younger(show, name))
            oldest = number;
    }

    if (fstat(show->fd, &opened) < 0 ||
        opened.st_nlink > 0) /* another program has given it a name of its own */
        return 0;
    *ret_may_miss = has_old_files;
    return oldest;
}

/* Is it an old file under one of the numbers? */
static bool has_number(const struct show *show)
{
    char name[PATH_MAX];

    for (unsigned number = 1, missing = 0; missing <= MOST_MISSING; number++) {
        number_name(show, number, name);
        if (access(name, F_OK) == 0)
            missing = 0;
        else
            missing++;
        if (is_named(show, name))
            return true;
    }

    return false;
}

/* Has the file behind that number, which is the open one, another number by now? One that was removed has none. */
static bool has_moved(const struct show *show, unsigned number)
{
    char name[PATH_MAX];
    struct stat opened;

    if (fstat(show->fd, &opened) < 0 || opened.st_nlink == 0)
        return false;

    number_name(show, number + 1, name);
    if (is_named(show, name))
        return false;
    if (number == 0 && access(name, F_OK) < 0)
        return false;
    return has_number(show);
}

/* The numbers may change meanwhile: then the open file has a larger one. */
static int open_next(const struct show *show, unsigned number)
{
    char name[PATH_MAX];

    number_name(show, number, name);
    const int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || show->fd < 0)
        return fd;
    if (has_moved(show, number)) {
        close(fd);
        errno = ENOENT; /* look again */
        return -1;
    }

    return fd;
}

/* Opens the next file, or the first one, at its beginning. */
static int begin(struct show *show)
{
    bool may_miss = false;
    unsigned number = 0;

    if (show->fd >= 0)
        number = find_next(show, &may_miss);
    const int fd = open_next(show, number);
    if (fd < 0)
        return -errno;
    if (may_miss)
        complain("'%s': old files were removed before they were shown; lines may be missing", show->path);
    if (show->fd >= 0)
        close(show->fd);
    if (number == 0)
        find_base(show);
    show->fd = fd;
    show->at = 0;
    return 0;
}

/* ---- showing ---------------------------------------------------------------------------------- */

/* Shows what there is. 1: more may come; 0: that was all, as no process has the file open. */
static int show_present(struct show *show)
{
    struct stat status;
    uint64_t end = 0;

    if (fstat(show->fd, &status) < 0)
        return -errno;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    if ((uint64_t)status.st_size < show->at) {
        complain("'%s' has become shorter: it is shown from its beginning", show->path);
        show->at = 0;
    }

    int state = twinlog_sink_end_of(show->fd, show->at, &end);
    if (state == -EUCLEAN && show->is_following && !has_area(show->base, status.st_ino))
        return show_rest(show);
    if (state < 0 && state != -EUCLEAN)
        return state;

    int shown = show_to(show, end);
    if (shown < 0)
        return shown;
    return state;
}

/* If standard output is a TCP connection, has the kernel ask whether the client is still there. The end of what a
 * client sends does not say that it has gone: one that only reads may send that first, as `nc -N` does. One that has
 * closed its socket answers with a reset, when its system has forgotten the connection: after some two minutes. The
 * calls fail where standard output is something else. */
static void probe_client(void)
{
    const int on = 1;
    const int interval_s = PROBE_S;

    if (setsockopt(STDOUT_FILENO, IPPROTO_TCP, TCP_KEEPIDLE, &interval_s, sizeof(interval_s)) < 0)
        return;
    (void)setsockopt(STDOUT_FILENO, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
    (void)setsockopt(STDOUT_FILENO, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* Waits until there may be more. False: a signal came, or nobody reads standard output any more. */
static bool pause_for(unsigned ms)
{
    struct pollfd poll_fds[] = { { .fd = stop_fd(), .events = POLLIN },
                                 { .fd = STDOUT_FILENO, .events = 0 } };

    poll(poll_fds, 2, (int)ms);
    return poll_fds[0].revents == 0 && poll_fds[1].revents == 0;
}

/* Goes on in the next file at once, if there is one. */
static int leave_file(struct show *show, bool *ret_has_next)
{
    int error = show_rest(show);

    if (error == 0)
        error = begin(show);
    *ret_has_next = error == 0;
    if (error == -ENOENT) /* it is not made yet */
        return 0;
    return error;
}

static int follow(struct show *show)
{
    unsigned pause_ms = LEAST_PAUSE_MS;

    const int error = begin(show);
    if (error)
        return error;

    probe_client();
    for (;;) {
        const bool was_named = is_named(show, show->path); /* before the question whether a process has it */
        const uint64_t before = show->at;
        bool has_next = false;
        int state = show_present(show);

        if (state < 0 && state != -EUCLEAN)
            return state;
        if (!was_named && state != 1) {
            state = leave_file(show, &has_next);
            if (state < 0)
                return state;
        }
        if (fflush(stdout) != 0)
            return 0;

        if (has_next || show->at != before)
            pause_ms = LEAST_PAUSE_MS;
        else
            pause_ms *= 2;
        if (pause_ms > MOST_PAUSE_MS)
            pause_ms = MOST_PAUSE_MS;
        if (!pause_for(has_next ? 0 : pause_ms))
            return 0;
    }
}

static bool is_rotated(const struct show *show)
{
    char name[PATH_MAX];

    number_name(show, 1, name);
    return access(name, F_OK) == 0;
}

/* Shows the file that has the name. */
static int show_once(struct show *show)
{
    int state = 0;

    for (unsigned looks = 0; looks < MOST_LOOKS; looks++) {
        if (show->fd >= 0)
            close(show->fd);
        show->fd = -1;
        state = begin(show);
        if (state == 0)
            state = show_present(show);
        if (show->at > 0 || (state < 0 && state != -ENOENT))
            break;
        if (!is_rotated(show) || !stop_sleep(LOOK_MS))
            break;
    }

    if (state > 0)
        return 0;
    return state;
}

static const char *advice_to_read(int error)
{
    switch (error) {
    case -ENOENT:
        return "There is no such file: check the path.";
    case -ENOTSUP:
        return "It must be a regular file.";
    default:
        return NULL;
    }
}

int show_sink(const char *path, bool is_following)
{
    struct show show = { .path = path, .is_following = is_following, .fd = -1 };
    int error = stop_on_signals();

    find_base(&show);
    if (error == 0 && !is_following)
        error = show_once(&show);
    else if (error == 0)
        error = follow(&show);
    if (show.fd >= 0)
        close(show.fd);
    if (error == -EUCLEAN)
        complain("'%s' ends in zeros that may be data; printed is what is before them", path);
    else if (error)
        fail("read", path, error, NULL, advice_to_read(error));
    return finish_output(error ? STATUS_FAILED : STATUS_FINE);
}
