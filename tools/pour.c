/* SPDX-License-Identifier: Apache-2.0 */
/* See pour.h. */
#define _GNU_SOURCE
#include "pour.h"
#include "aside.h"
#include "calendar.h"
#include "common.h"
#include "notify.h"
#include "obstacle.h"
#include "sink_cat.h"
#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES (64u << 20)        /* a longer line is written in parts */
#define SPACE_MS 500u                 /* between two attempts on a full disk */
#define AGAIN_NS INT64_C(60000000000) /* after a new file could not be begun */
#define MOST_ATTEMPTS 3u              /* to open a file, each after another was put aside */

/* ---- errors ----------------------------------------------------------------------------------- */

#define SLOW_SYNCS                                                                                           \
    "64 old files wait for their syncs: let new files begin less often, as by a larger --rotate."

/* -EPERM is about the file, about the one beside it, or about an option. */
static const char *advice_for_permission(const char *path)
{
    struct stat status;
    const bool is_there = stat(path, &status) == 0;

    if (is_there && status.st_uid != geteuid())
        return "It is another user's: run this as that user. If a sink with --mapped was killed there, 'twinlog sink "
               "--finish FILE', as that user or root, settles it.";
    if (is_there && has_area(path, status.st_ino))
        return "A file beside it, .twinlog.INODE.sink, is of a user without the right to write FILE, or has a second "
               "name: look at it, and remove it.";
    return "Only root gives a file to another user: leave out --owner. If FILE is immutable, 'lsattr' shows it.";
}

const char *pour_advice(int error, bool is_mapped, const char *path)
{
    if (error == -ENOTSUP && is_mapped)
        return "It must be a regular file, on a file system that can reserve space and share mappings.";

    switch (error) {
    case -EBUSY:
        return "Another process has it open: use --shared in all of them, or wait until that process has ended. Or a "
               "program has locked it: 'lslocks' shows which.";
    case -EMEDIUMTYPE:
        return "A process has it open as a sink of the other kind: use --mapped in all of them, or in none.";
    case -ENOENT:
        return "The directory above it does not exist: create it first.";
    case -ENOTDIR:
        return "What is above it is a file, and no directory: check the path.";
    case -ENOTSUP:
        return "It must be a regular file.";
    case -EUCLEAN:
        return "It ends in zeros that may be data: use --drop-zeros after a crash of the system, or a kill in a "
               "container with a boot ID of its own; if they are data, append a newline with another program.";
    case -EPERM:
        return advice_for_permission(path);
    case -EIO:
        return "The device failed: see the kernel's messages (dmesg). Or FILE is mapped and another program has made "
               "it shorter, as logrotate's copytruncate does: that works without --mapped.";
    case TWINLOG_EVERSION:
        return "Processes of another version of twinlog have it open: end them first.";
    default:
        return NULL;
    }
}

static bool is_mapped(const struct pour *pour)
{
    return pour->options.flags & TWINLOG_SINK_MAPPED;
}

static const char *advice_to_open(const struct pour *pour, int error)
{
    struct stat status;

    if (error == -ENOENT && lstat(pour->path, &status) == 0 && S_ISLNK(status.st_mode))
        return "It is a symbolic link into a directory that does not exist: create that, or remove the link.";
    if (error == -ELOOP && lstat(pour->path, &status) == 0 && S_ISLNK(status.st_mode))
        return "It is a symbolic link, and --mode and --owner follow none: name the file that it leads to.";
    if (error == -ENAMETOOLONG && pour->options.max_bytes > 0)
        return "Old files get a number behind the name, as FILE.5, and it has no room for that: use a shorter one.";
    if (is_mapped(pour) && status_of_writer(error) == STATUS_FULL)
        return "Make room (or raise the limit), 10 MiB for the beginning, or write without --mapped.";
    return pour_advice(error, is_mapped(pour), pour->path);
}

/* Of a directory the library only says that it is no regular file. */
static int error_of_path(const struct pour *pour, int error)
{
    struct stat status;
    const bool is_directory = stat(pour->path, &status) == 0 && S_ISDIR(status.st_mode);

    if (error == -ENOTSUP && is_directory)
        return -EISDIR;
    return error;
}

/* ---- space ------------------------------------------------------------------------------------- */

/* What was read from a pipe is nowhere else. So it waits for space, and with it the processes that write there, until
 * a signal to stop has its effect. False: the error ends the command. */
static bool wait_for_space(struct pour *pour, int error, bool *was_told)
{
    if ((error != -ENOSPC && error != -EDQUOT) || !intake_is_pipe())
        return false;
    if (!*was_told) {
        const char *advice = pour->sink ? NULL : advice_to_open(pour, error);
        complain("no space for '%s': its input waits", pour->path);
        if (advice)
            complain("%s", advice);
        notify("STATUS=No space: the input waits.");
    }

    *was_told = true;
    return intake_sleep(&pour->intake, SPACE_MS);
}

static void end_waiting(const struct pour *pour, bool was_told)
{
    if (was_told)
        complain("there is space for '%s' again", pour->path);
    if (was_told)
        notify("STATUS=Writes its input.");
}

/* ---- lines with a time --------------------------------------------------------------------------- */

static int add_bytes(struct buffer *buffer, const void *bytes, size_t size)
{
    if (buffer->capacity - buffer->end < size) {
        unsigned char *larger = realloc(buffer->bytes, 2 * buffer->capacity + size);
        if (!larger)
            return -ENOMEM;
        buffer->bytes = larger;
        buffer->capacity = 2 * buffer->capacity + size;
    }

    memcpy(buffer->bytes + buffer->end, bytes, size);
    buffer->end += size;
    return 0;
}

/* The piece with the time in front of each line, in pour->stamped. */
static int stamp(struct pour *pour, const unsigned char *bytes, size_t size)
{
    char time[PRECISE_TIME_TEXT_BYTES + 1];
    int error = 0;

    describe_precise_time(time, now_ns());
    strcat(time, " ");
    pour->stamped.end = 0;
    for (size_t at = 0; at < size && error == 0;) {
        const unsigned char *newline = memchr(bytes + at, '\n', size - at);
        size_t length = size - at;
        if (newline)
            length = (size_t)(newline - (bytes + at)) + 1;
        if (!pour->is_in_line)
            error = add_bytes(&pour->stamped, time, strlen(time));
        if (error == 0)
            error = add_bytes(&pour->stamped, bytes + at, length);
        pour->is_in_line = !newline;
        at += length;
    }

    return error;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* How much to write next; 0 = read first. */
static size_t next_piece(struct pour *pour)
{
    const unsigned char *bytes = pour->input.bytes + pour->input.begin;
    size_t left = pour->input.end - pour->input.begin;
    const size_t limit = (size_t)min_u64(left, pour->piece_bytes);

    if (!pour->is_by_lines)
        return limit;

    const unsigned char *newline = memrchr(bytes, '\n', limit);
    if (!newline) {
        const size_t searched =
            (size_t)max_u64(pour->input.searched, pour->input.begin + limit) - pour->input.begin;
        newline = memchr(bytes + searched, '\n', left - searched);
    }
    if (newline)
        return (size_t)(newline - bytes) + 1;

    pour->input.searched = pour->input.end;
    if (pour->is_ended || left >= LINE_BYTES)
        return left;
    return 0;
}

/* On a slow disk the error begins and ends with each old file that is synced. It is told once in AGAIN_NS. */
static void note_slow_syncs(struct pour *pour)
{
    pour->slow_ns = monotonic_ns();
}

static bool is_told(const struct pour *pour, int error)
{
    if (error != -EAGAIN || pour->slow_ns == 0)
        return false;
    return monotonic_ns() - pour->slow_ns < (uint64_t)AGAIN_NS;
}

/* A mapped sink does not write while its old files wait for their syncs. Its input waits, too. False: a signal ends
 * that. */
static bool wait_for_syncs(struct pour *pour, int error)
{
    if (error != -EAGAIN)
        return false;
    if (!is_told(pour, error)) {
        note_slow_syncs(pour);
        fail("rotate", pour->path, error, NULL, SLOW_SYNCS);
    }

    return intake_sleep(&pour->intake, SPACE_MS);
}

static int write_piece(struct pour *pour, const unsigned char *bytes, size_t size)
{
    bool was_told = false;
    int error;

    do
        error = twinlog_sink_write(pour->sink, bytes, size, NULL);
    while (error && (wait_for_syncs(pour, error) || wait_for_space(pour, error, &was_told)));
    if (error == 0)
        end_waiting(pour, was_told);
    return error;
}

/* The file grows on, and a later write tries again. */
static void complain_rotation(struct pour *pour, int error)
{
    char obstacle[OBSTACLE_BYTES];

    fail("rotate", pour->path, error, NULL, "FILE grows on meanwhile.");
    if (error == -EAGAIN) {
        note_slow_syncs(pour);
        complain(SLOW_SYNCS);
        return;
    }

    describe_obstacle(pour->path, pour->options.keep_files, obstacle);
    if (*obstacle)
        complain("%s", obstacle);
}

static int write_lines(struct pour *pour, const unsigned char *bytes, size_t size)
{
    if (!pour->has_times)
        return write_piece(pour, bytes, size);

    const int error = stamp(pour, bytes, size);
    if (error)
        return error;
    return write_piece(pour, pour->stamped.bytes, pour->stamped.end);
}

/* ---- the file ---------------------------------------------------------------------------------- */

/* Where a pipe waits to be read, what is in the way of a new file is put aside. */
static bool may_put_aside(const struct pour *pour, int error)
{
    return intake_is_pipe() && aside_helps(pour->path, error);
}

/* Where a pipe waits to be read, a full disk is waited for, too. */
static int open_file(struct pour *pour)
{
    bool was_told = false;
    unsigned attempts = 0;
    int error;

    for (;;) {
        error = apply_rights(pour->path, &pour->rights);
        if (error == 0)
            error = twinlog_sink_open(pour->path, &pour->options, &pour->sink);
        if (error == 0)
            break;
        if (may_put_aside(pour, error)) {
            attempts++;
            if (attempts < MOST_ATTEMPTS && put_aside(pour->path, error) == 0)
                continue;
        }
        if (!wait_for_space(pour, error, &was_told))
            break;
    }

    if (error == 0)
        end_waiting(pour, was_told);
    return error_of_path(pour, error);
}

static void complain_next(struct pour *pour, int error)
{
    const char *advice = pour_advice(error, is_mapped(pour), pour->path);

    if (error == -EAGAIN) {
        note_slow_syncs(pour);
        advice = SLOW_SYNCS;
    }
    fail("go on in a new", pour->path, error_of_path(pour, error), NULL, advice);
}

/* After SIGHUP: the file may have been renamed. An error only prints a message: the sink stays in the file that it has,
 * and a later look at the name tries again. */
static void reopen(struct pour *pour)
{
    int result = twinlog_sink_reopen(pour->sink);

    if (result < 0 && may_put_aside(pour, result) && put_aside(pour->path, result) == 0)
        result = twinlog_sink_reopen(pour->sink);
    if (result < 0) {
        complain_next(pour, result);
        pour->rotation_error = twinlog_sink_rotation_error(pour->sink); /* it is told */
    }
}

/* ---- what is wrong with the sink --------------------------------------------------------------- */

/* Its lines go to a file that has another name by now, or grows on. Nobody has asked for a new file, so what has the
 * name stays: it may be the good file of another process. */
static void try_again(struct pour *pour)
{
    const int result = twinlog_sink_reopen(pour->sink);

    pour->rotation_error = twinlog_sink_rotation_error(pour->sink);
    if (result < 0)
        complain_next(pour, result);
    else if (result == 0 && pour->rotation_error)
        complain_rotation(pour, pour->rotation_error);
}

/* What its thread has met, which no write returns. It is told when it begins. */
static void look_at_sink(struct pour *pour)
{
    const int rotation_error = twinlog_sink_rotation_error(pour->sink);
    const int sync_error = twinlog_sink_sync_error(pour->sink);

    const bool is_new = rotation_error != pour->rotation_error;
    pour->rotation_error = rotation_error;
    if (is_new && rotation_error && !is_told(pour, rotation_error))
        try_again(pour);

    if (sync_error && sync_error != pour->sync_error)
        fail("sync", pour->path, sync_error, NULL, NULL);
    pour->sync_error = sync_error;
}

/* ---- new files at their time ----------------------------------------------------------------------- */

int pour_find_name(struct pour *pour)
{
    if (!pour->pattern)
        return 0;
    if (!expand_name(pour->pattern, now_ns(), pour->dated))
        return -ENAMETOOLONG;
    pour->path = pour->dated;
    return make_directories(pour->path);
}

static void update_link(const struct pour *pour)
{
    int error = 0;

    if (pour->link)
        error = point_link(pour->link, pour->path);

    if (error)
        fail("let lead to the newest file", pour->link, error, NULL,
             error == -EEXIST ? "It is a file, and no link: move it away." : NULL);
}

/* Syncs the file if asked to, and closes it. Tells what went wrong, and returns the status of that. */
static int leave_file(const struct pour *pour, struct twinlog_sink *sink, const char *path)
{
    int status = STATUS_FINE;
    int sync_error = 0;

    if (pour->options.flush_interval_ms > 0)
        sync_error = twinlog_sink_sync(sink);
    const int close_error = twinlog_sink_close(sink);

    if (sync_error)
        status = fail("sync", path, sync_error, NULL, NULL);
    if (close_error)
        status = fail("close", path, close_error, NULL,
                      close_error == -EBUSY
                          ? "All bytes are in it. The next 'twinlog sink' with this file truncates it."
                          : NULL);
    return status;
}

/* Where the file of the new name cannot be opened, the present one stays, and it is tried again after a minute. */
static void stay(struct pour *pour, struct twinlog_sink *present, const char *name, int error)
{
    fail("begin the file", pour->path, error, NULL, advice_to_open(pour, error));
    snprintf(pour->dated, sizeof(pour->dated), "%s", name);
    pour->sink = present;
    pour->look_ns = now_ns() + AGAIN_NS;
}

static void change_name(struct pour *pour)
{
    struct twinlog_sink *before = pour->sink;
    char name[PATH_MAX], old_name[PATH_MAX];

    if (!expand_name(pour->pattern, now_ns(), name) || strcmp(name, pour->dated) == 0)
        return;

    snprintf(old_name, sizeof(old_name), "%s", pour->dated);
    int error = pour_find_name(pour);
    if (error == 0)
        error = open_file(pour);
    if (error) {
        stay(pour, before, old_name, error);
        return;
    }

    const int status = leave_file(pour, before, old_name);
    if (status)
        pour->status = status;
    update_link(pour);
}

static void begin_period(struct pour *pour)
{
    const int error = twinlog_sink_rotate(pour->sink, begin_of_period(now_ns(), pour->period_ns));

    if (error >= 0)
        return;
    complain_rotation(pour, error);
    pour->rotation_error = twinlog_sink_rotation_error(pour->sink); /* it is told */
    pour->look_ns = now_ns() + AGAIN_NS;
}

/* Once in a second: a name may have no less. */
static void look_at_clock(struct pour *pour)
{
    const int64_t now = now_ns(), second = 1000000000;
    const bool was_set_back = pour->look_ns - now > AGAIN_NS;

    if (!pour->pattern && !pour->period_ns)
        return;
    if (now < pour->look_ns && !was_set_back)
        return;

    pour->look_ns = now - now % second + second;
    if (pour->pattern)
        change_name(pour);
    if (pour->period_ns)
        begin_period(pour);
}

/* The monotonic time at which there may be something to do without input. */
static uint64_t wake_time(const struct pour *pour)
{
    const int64_t now = now_ns();

    if (!pour->pattern && !pour->period_ns)
        return UINT64_MAX;
    if (pour->look_ns <= now)
        return monotonic_ns();
    return monotonic_ns() + (uint64_t)(pour->look_ns - now);
}

/* ---- the whole input --------------------------------------------------------------------------- */

static int write_pieces(struct pour *pour)
{
    size_t size;

    while ((size = next_piece(pour)) > 0) {
        const int error = write_lines(pour, pour->input.bytes + pour->input.begin, size);
        if (error)
            return error;
        pour->input.begin += size;
        pour->written += size;
        look_at_sink(pour);
    }

    return 0;
}

/* Ends the last line, so that no line of another process continues it. buffer_make_room() has made room for
 * that. */
static void end_input(struct pour *pour)
{
    pour->is_ended = true;
    if (!pour->is_shared || !pour->is_by_lines)
        return;

    const bool has_bytes = pour->input.end > pour->input.begin;
    if (has_bytes && pour->input.bytes[pour->input.end - 1] != '\n') {
        pour->input.bytes[pour->input.end] = '\n';
        pour->input.end++;
    }
}

/* Reads once: 1 = go on, 0 = the input has ended, or an error. */
static int fill(struct pour *pour)
{
    int result = buffer_make_room(&pour->input);

    if (result == 0)
        result = intake_read(&pour->intake, &pour->input, wake_time(pour));
    look_at_clock(pour);
    if (pour->intake.is_hung_up) {
        pour->intake.is_hung_up = false;
        reopen(pour);
    }
    look_at_sink(pour);

    if (result == -ECANCELED) /* a signal: what was read is written, also the beginning of a line */
        result = 0;
    if (result == 0)
        end_input(pour);
    return result;
}

/* Sets *ret_read_error for the input, returns the error of the file. */
static int pour_all(struct pour *pour, int *ret_read_error)
{
    int result = 0, error = 0;

    do {
        result = fill(pour);
        if (result >= 0)
            error = write_pieces(pour);
    } while (result > 0 && !error);
    *ret_read_error = 0;
    if (result < 0)
        *ret_read_error = result;
    return error;
}

static void complain_rest(const struct pour *pour)
{
    complain("The first %" PRIu64 " byte%s of standard input %s in the file, and no others.", pour->written,
             plural(pour->written), pour->written == 1 ? "is" : "are");
}

/* A mapped sink that cannot rotate does not write: the error is that of the write. */
static void complain_write(const struct pour *pour, int error)
{
    const bool may_be_of_rotation = pour->options.max_bytes > 0 && status_of_writer(error) != STATUS_FULL;
    char obstacle[OBSTACLE_BYTES] = "";
    const char *advice = pour_advice(error, is_mapped(pour), pour->path);

    if (may_be_of_rotation)
        describe_obstacle(pour->path, pour->options.keep_files, obstacle);
    if (*obstacle)
        advice = obstacle;
    fail("write to", pour->path, error, NULL, advice);
}

/* Leaves the last file, tells what has ended the command, and returns its status. */
static int finish(const struct pour *pour, int write_error, int read_error)
{
    const int left = leave_file(pour, pour->sink, pour->path);
    int status = pour->status;

    if (write_error) {
        complain_write(pour, write_error);
        complain_rest(pour);
        status = status_of_writer(write_error);
    }

    if (read_error) {
        complain("cannot read standard input: %s", strerror(-read_error));
        complain_rest(pour);
        status = STATUS_FAILED;
    }

    if (left)
        return left;
    return status;
}

static int pour_into_file(struct pour *pour)
{
    int read_error = 0;
    int error = open_file(pour);

    if (error) {
        fail("open", pour->path, error, NULL, advice_to_open(pour, error));
        return status_of_writer(error);
    }

    notify("READY=1\nSTATUS=Writes its input.");
    update_link(pour);
    error = pour_all(pour, &read_error);
    return finish(pour, error, read_error);
}

int pour_input(struct pour *pour)
{
    if (buffer_init(&pour->input) < 0 || buffer_init(&pour->stamped) < 0)
        return fail_start(-ENOMEM);
    const int status = pour_into_file(pour);
    buffer_free(&pour->input);
    buffer_free(&pour->stamped);
    return status;
}
