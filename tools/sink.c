/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog sink: writes standard input to a plain file, exactly or, with --mapped, through a mapping.
 *
 * There is one thread. It reads large blocks, and writes as many whole lines at once as it has, so that a
 * file is written in large pieces, and a single line is in the file at once. Lines of other processes never
 * come inside one write.
 *
 * After a signal to stop, bytes that wait in a pipe are still written: the process that wrote them may be
 * gone, and its last lines are often the important ones.
 */
#define _GNU_SOURCE
#include "buffer.h"
#include "options.h"
#include "sink_cat.h"
#include "stop.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <twinlog_sink.h>
#include <unistd.h>

static const char about[] =
    "Usage: twinlog sink FILE [options]\n"
    "       twinlog sink --cat FILE\n"
    "       twinlog sink --follow FILE\n"
    "       twinlog sink --finish FILE [--drop-zeros]\n"
    "\n"
    "Appends standard input to FILE, byte for byte. FILE has exactly the bytes that were\n"
    "written, at every moment, so all programs that read logs can read it. Other processes\n"
    "may append to it at the same time: lines never mix. FILE is created if it does not\n"
    "exist.\n"
    "\n"
    "This is not a log. If the process ends, also by kill -9, everything that is in the\n"
    "file stays. A crash of the system or a power cut costs what was not synced yet: without\n"
    "--flush that may be half a minute or more.\n"
    "Use 'twinlog append' for data that must survive a power cut.\n";

static const struct option_row option_rows[] = {
    { OPTION_SHARED, "shared", NULL,
      "a last line without a newline gets one, so that no line of another process continues it. With --mapped "
      "other processes may append to FILE only with this option, in all of them" },
    { OPTION_MAPPED, "mapped", NULL,
      "write through a mapping of FILE, as programs do that use the library so. While it is open FILE ends in "
      "zeros: read it with --cat and --follow" },
    { OPTION_LINE, "line", NULL,
      "write whole lines only, so that those of several processes never mix (default). With --shared "
      "a last line without a newline gets one. A line of more than 64 MiB is written in parts" },
    { OPTION_BLOCK, "block", NULL, "write whatever was read, lines or not" },
    { OPTION_ROTATE, "rotate", "BYTES",
      "begin a new file before FILE would get larger than this: FILE becomes FILE.1, FILE.1 becomes "
      "FILE.2, and so on. Not with --shared --mapped" },
    { OPTION_KEEP, "keep", "N", "keep this number of old files (default 5)" },
    { OPTION_FLUSH, "flush", "MS",
      "sync what was written after this number of milliseconds, and at the end" },
    { OPTION_INITIAL, "initial", "BYTES", "with --mapped: space that FILE gets at first (default 10M)" },
    { OPTION_DROP_ZEROS, "drop-zeros", NULL,
      "if FILE ends in zeros that may be data or not, as after a crash of the system: drop them. "
      "Without it such a file is refused" },
    { OPTION_CAT, "cat", NULL, "write nothing: print what was written, without the zeros behind it" },
    { OPTION_FOLLOW, "follow", NULL,
      "the same, and what is written later, until SIGINT or SIGTERM. If FILE is renamed, go on with "
      "the next file of that name" },
    { OPTION_FINISH, "finish", NULL,
      "write nothing: if all processes that had FILE open were killed after it was renamed, truncate it "
      "to its exact bytes. For logrotate, before it compresses or moves FILE" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "BYTES may end in K, M or G. With --mapped, while a process has FILE open, there is a file\n"
    ".twinlog.INODE.sink beside it. The last process to close FILE truncates it to\n"
    "its exact bytes and removes the other one. If that process was killed,\n"
    "the next 'twinlog sink FILE' does so, or --finish if FILE was renamed.\n"
    "Bytes that other programs append to FILE meanwhile are lost.\n"
    "\n"
    "SIGHUP, after FILE was renamed: create a new FILE and go on there, as logrotate needs it;\n"
    "the same happens without a signal in a moment. SIGINT and SIGTERM: what waits in the\n"
    "pipe is written, FILE is truncated to its exact bytes, and the signal ends the process.\n"
    "\n"
    "On a full disk, input from a pipe waits until there is space, or SIGINT or SIGTERM.\n"
    "\n"
    "Exit status: 0 all input is in the file; 1 an operation failed (the message says how\n"
    "many bytes of the input are in the file); 2 wrong usage.\n"
    "\n"
    "Example: one program, ten files of 100 MiB; and several programs into one file\n"
    "  make 2>&1 | twinlog sink build.log --rotate 100M --keep 9\n"
    "  for n in 1 2 3; do ./worker $n | twinlog sink all.log --shared & done\n";

#define LINE_BYTES (64u << 20)  /* a longer line is written in parts */
#define LEAST_PIECE_BYTES 4096u /* smaller pieces cost more than the unused end of a file */
#define MOST_BYTES (UINT64_C(1) << 47)
#define SPACE_MS 500u /* between two attempts on a full disk */

struct pour {
    const char *path;
    struct twinlog_sink *sink;
    bool is_by_lines;
    bool is_shared;
    size_t piece_bytes; /* of one write, unless a single line has more */
    int hangup_fd;

    struct buffer input; /* bytes that were read and not written, searched for newlines */
    uint64_t allowed;    /* bytes that may still be read */
    bool is_ended;
    uint64_t written; /* bytes of the input that are in the file */
};

/* ---- writing ---------------------------------------------------------------------------------- */

/* How much to write next; 0 = read first. */
static size_t next_piece(struct pour *pour)
{
    const unsigned char *bytes = pour->input.bytes + pour->input.begin;
    size_t left = pour->input.end - pour->input.begin;
    size_t limit = left < pour->piece_bytes ? left : pour->piece_bytes;

    if (!pour->is_by_lines)
        return limit;
    const unsigned char *newline = memrchr(bytes, '\n', limit);
    size_t searched =
        pour->input.searched > pour->input.begin + limit ? pour->input.searched - pour->input.begin : limit;
    if (!newline)
        newline = memchr(bytes + searched, '\n', left - searched);
    if (newline)
        return (size_t)(newline - bytes) + 1;
    pour->input.searched = pour->input.end;
    return pour->is_ended || left >= LINE_BYTES ? left : 0;
}

/* What was read from a pipe or a socket is nowhere else. So it waits for space, and with it the processes that write
 * there, until a signal to stop. False: the error ends the command. */
static bool wait_for_space(const struct pour *pour, int error, bool was_told)
{
    struct stat input;

    if ((error != -ENOSPC && error != -EDQUOT) || pour->allowed != UINT64_MAX ||
        fstat(STDIN_FILENO, &input) < 0 || S_ISREG(input.st_mode))
        return false;
    if (!was_told)
        complain("no space for '%s': its input waits", pour->path);
    return stop_sleep(SPACE_MS);
}

static int write_pieces(struct pour *pour)
{
    size_t size;

    while ((size = next_piece(pour)) > 0) {
        bool was_told = false;
        int error;
        while ((error = twinlog_sink_write(pour->sink, pour->input.bytes + pour->input.begin, size, NULL)) <
                   0 &&
               wait_for_space(pour, error, was_told))
            was_told = true;
        if (error)
            return error;
        pour->input.begin += size;
        pour->written += size;
    }
    return 0;
}

/* ---- errors ----------------------------------------------------------------------------------- */

static const char *advice_for(int error)
{
    switch (error) {
    case -EBUSY:
        return "Another process has it open: use --shared in all of them, or wait until that process has ended. Or a "
               "program has locked it: 'lslocks' shows which.";
    case -EMEDIUMTYPE:
        return "A process has it open as a sink of the other kind: use --mapped in all of them, or in none.";
    case -ENOENT:
        return "The directory above it does not exist: create it first.";
    case -ENOTSUP:
        return "It must be a regular file, on a file system that can reserve space and share mappings.";
    case -EUCLEAN:
        return "It ends in zeros that may be data: use --drop-zeros after a crash of the system, or a kill in a "
               "container with a boot ID of its own; if they are data, append a newline with another program.";
    case -EPERM:
        return "A file beside it, .twinlog.INODE.sink, is of a user without the right to write FILE, or has a second "
               "name: look at it, and remove it.";
    case TWINLOG_EVERSION:
        return "Processes of another version of twinlog have it open: end them first.";
    default:
        return NULL;
    }
}

static const char *advice_to_open(const char *path, int error)
{
    struct stat status;

    if (error == -ENOENT && lstat(path, &status) == 0 && S_ISLNK(status.st_mode))
        return "It is a symbolic link to a file that does not exist: create that file, or remove the link.";
    return advice_for(error);
}

/* The library only says that it is no regular file. */
static bool is_directory(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* Bytes that wait in standard input to be read; 0 if it is a regular file. */
static uint64_t waiting_bytes(void)
{
    struct stat status;
    int bytes = 0;

    if (fstat(STDIN_FILENO, &status) < 0 || S_ISREG(status.st_mode) ||
        ioctl(STDIN_FILENO, FIONREAD, &bytes) < 0)
        return 0;
    return (uint64_t)bytes;
}

/* After SIGHUP: the file may have been renamed. An error here only prints a message: a later look at the name
 * tries again. */
static void reopen(struct pour *pour)
{
    uint64_t count;

    if (read(pour->hangup_fd, &count, sizeof(count)) < 0)
        return;
    int error = twinlog_sink_reopen(pour->sink);
    if (error < 0)
        fail("go on in a new", pour->path, error, NULL, advice_for(error));
}

static int wait_for_input(struct pour *pour)
{
    struct pollfd poll_fds[] = {
        { .fd = STDIN_FILENO, .events = POLLIN },
        { .fd = stop_fd(), .events = POLLIN },
        { .fd = pour->hangup_fd, .events = POLLIN },
    };

    while (poll(poll_fds, 3, -1) < 0)
        if (errno != EINTR)
            return -errno;
    if (poll_fds[2].revents)
        reopen(pour);
    if (poll_fds[1].revents)
        pour->allowed = waiting_bytes();
    return poll_fds[0].revents || poll_fds[1].revents;
}

/* Ends the last line, so that no line of another process continues it. buffer_make_room() has made room for
 * that. */
static void end_input(struct pour *pour)
{
    pour->is_ended = true;
    if (pour->is_shared && pour->is_by_lines && pour->input.end > pour->input.begin &&
        pour->input.bytes[pour->input.end - 1] != '\n')
        pour->input.bytes[pour->input.end++] = '\n';
}

/* Reads once: 1 = go on, 0 = the input has ended, or an error. */
static int fill(struct pour *pour)
{
    int result = buffer_make_room(&pour->input);

    if (result == 0 && pour->allowed == UINT64_MAX && (result = wait_for_input(pour)) == 0)
        return 1;
    if (result < 0)
        return result;
    size_t size = pour->allowed < READ_BYTES ? (size_t)pour->allowed : READ_BYTES;
    ssize_t got = size > 0 ? read(STDIN_FILENO, pour->input.bytes + pour->input.end, size) : 0;
    if (got < 0)
        return errno == EINTR || errno == EAGAIN ? 1 : -errno;
    pour->input.end += (size_t)got;
    if (pour->allowed != UINT64_MAX)
        pour->allowed -= (uint64_t)got;
    if (got == 0)
        end_input(pour);
    return got > 0;
}

/* ---- the whole input -------------------------------------------------------------------------- */

/* Sets *ret_read_error for the input, returns the error of the file. */
static int pour_all(struct pour *pour, int *ret_read_error)
{
    int result = 0, error = 0;

    do {
        result = fill(pour);
        if (result >= 0)
            error = write_pieces(pour);
    } while (result > 0 && !error);
    *ret_read_error = result < 0 ? result : 0;
    return error;
}

static int complain_rest(const struct pour *pour, int status)
{
    complain("The first %" PRIu64 " byte%s of standard input %s in the file, and no others.", pour->written,
             plural(pour->written), pour->written == 1 ? "is" : "are");
    return status;
}

/* Syncs if asked to, closes the file and reports what went wrong, if anything. */
static int finish(struct pour *pour, int write_error, int read_error, bool is_flushing)
{
    int status = STATUS_FINE;
    int sync_error = is_flushing ? twinlog_sink_sync(pour->sink) : 0;
    int close_error = twinlog_sink_close(pour->sink);

    if (write_error)
        status =
            complain_rest(pour, fail("write to", pour->path, write_error, NULL, advice_for(write_error)));
    if (read_error) {
        complain("cannot read standard input: %s", strerror(-read_error));
        status = complain_rest(pour, STATUS_FAILED);
    }
    if (sync_error)
        status = fail("sync", pour->path, sync_error, NULL, NULL);
    if (close_error)
        status = fail("close", pour->path, close_error, NULL,
                      close_error == -EBUSY
                          ? "All bytes are in it. The next 'twinlog sink' with this file truncates it."
                          : NULL);
    return status;
}

static int pour_into(struct pour *pour, const struct twinlog_sink_options *options)
{
    int read_error = 0;

    if (buffer_init(&pour->input) < 0)
        return fail_start(-ENOMEM);
    int error = twinlog_sink_open(pour->path, options, &pour->sink);
    if (error == -ENOTSUP && is_directory(pour->path))
        error = -EISDIR;
    if (error)
        return fail("open", pour->path, error, NULL, advice_to_open(pour->path, error));
    error = pour_all(pour, &read_error);
    return finish(pour, error, read_error, options->flush_interval_ms > 0);
}

/* ---- the command line ------------------------------------------------------------------------- */

static void take_option(int value, struct twinlog_sink_options *options)
{
    switch (value) {
    case OPTION_DROP_ZEROS:
        options->flags |= TWINLOG_SINK_DROP_ZEROS;
        return;
    case OPTION_SHARED:
        options->flags |= TWINLOG_SINK_SHARED;
        return;
    case OPTION_MAPPED:
        options->flags &= ~(uint32_t)TWINLOG_SINK_EXACT;
        return;
    case OPTION_ROTATE:
        options->max_bytes = take_number("--rotate", 1, MOST_BYTES);
        return;
    case OPTION_KEEP:
        options->keep_files = (uint32_t)take_number("--keep", 1, 9999);
        return;
    case OPTION_FLUSH:
        options->flush_interval_ms = (uint32_t)take_number("--flush", 1, 3600u * 1000);
        return;
    default:
        options->initial_bytes = take_number("--initial", 1, MOST_BYTES);
        return;
    }
}

/* Such a file would grow by what is read from it, for ever. */
static bool is_standard_input(const char *path)
{
    struct stat input, file;

    return fstat(STDIN_FILENO, &input) == 0 && S_ISREG(input.st_mode) && stat(path, &file) == 0 &&
           input.st_dev == file.st_dev && input.st_ino == file.st_ino;
}

/* A small part of the limit, so that a file is nearly full when the next one is started. */
static size_t piece_bytes(uint64_t max_bytes)
{
    uint64_t bytes = max_bytes / 16;

    if (max_bytes == 0 || bytes > READ_BYTES)
        return READ_BYTES;
    if (bytes < LEAST_PIECE_BYTES)
        bytes = max_bytes < LEAST_PIECE_BYTES ? max_bytes : LEAST_PIECE_BYTES;
    return (size_t)bytes;
}

/* To open it and to close it is all that it needs. */
static int finish_file(const char *path, uint32_t flags)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct twinlog_sink *sink;

    options.flags = flags | TWINLOG_SINK_SHARED;
    options.initial_bytes = options.growth_bytes = 1; /* it stays about as large as it is */
    int error = access(path, F_OK) < 0 ? -errno : twinlog_sink_open(path, &options, &sink);
    if (error == 0)
        error = twinlog_sink_close(sink);

    return error == 0 ? STATUS_FINE
                      : fail("finish", path, error, NULL,
                             error == -ENOENT ? "There is no such file: check the path." : advice_for(error));
}

static int sink_run(const struct command *command, int argc, char **argv)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct pour pour = { .allowed = UINT64_MAX };
    unsigned argued = 0;
    bool is_shared = false; /* an exact sink always is: two loggers of one file overlap for a while */
    int value = 0, cut = 0, show = 0; /* --line or --block; --cat, --follow or --finish */

    options.flags = TWINLOG_SINK_EXACT;
    for (; (value = next_option(command, argc, argv)) != -1; argued++) {
        if (value == OPTION_CAT || value == OPTION_FOLLOW || value == OPTION_FINISH)
            show = value;
        else if (value != OPTION_LINE && value != OPTION_BLOCK)
            take_option(value, &options);
        else if (cut && cut != value)
            usage_error("--line and --block exclude each other");
        else
            cut = value;
    }
    if (show && argued > 1u + (show == OPTION_FINISH && (options.flags & TWINLOG_SINK_DROP_ZEROS)))
        usage_error("--cat and --follow go with nothing else, --finish only with --drop-zeros");
    if (options.keep_files && !options.max_bytes)
        usage_error("--keep goes with --rotate");
    is_shared = options.flags & TWINLOG_SINK_SHARED;
    const bool is_exact = options.flags & TWINLOG_SINK_EXACT;
    if (options.max_bytes && is_shared && !is_exact)
        usage_error("--shared --mapped excludes --rotate: rename the file, as logrotate does");
    pour.path = take_operand(argc, argv, "file");
    if (show == OPTION_FINISH)
        return finish_file(pour.path, options.flags & TWINLOG_SINK_DROP_ZEROS);
    if (show)
        return show_sink(pour.path, show == OPTION_FOLLOW);
    if (is_standard_input(pour.path))
        usage_error("'%s' is also standard input", pour.path);
    pour.is_by_lines = cut != OPTION_BLOCK;
    pour.is_shared = is_shared;
    if (is_exact)
        options.flags |= TWINLOG_SINK_SHARED;
    pour.piece_bytes = piece_bytes(options.max_bytes);

    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
    int error = stop_on_signals();
    if (error == 0)
        error = pour.hangup_fd = catch_hangups();
    if (error < 0)
        return fail_start(error);
    int status = pour_into(&pour, &options);
    buffer_free(&pour.input);
    if (status == STATUS_FINE && stop_signal())
        stop_by_signal();
    return finish_output(status);
}

const struct command sink_command = {
    .name = "sink",
    .summary = "standard input into a plain file, rotated and shared",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = sink_run,
};
