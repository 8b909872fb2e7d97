/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog sink: writes standard input to a plain file, exactly or, with --mapped, through a mapping.
 *
 * This is its command line. pour.c does the work.
 */
#define _GNU_SOURCE
#include "options.h"
#include "pour.h"
#include "sink_cat.h"
#include "stop.h"
#include "when.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
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
      "a last line without a newline gets one, and so does what a killed process left of a line, so that no line of "
      "another process continues it. With --mapped "
      "other processes may append to FILE only with this option, in all of them" },
    { OPTION_MAPPED, "mapped", NULL,
      "write through a mapping of FILE, as programs do that use the library so. While it is open FILE ends in "
      "zeros: read it with --cat and --follow" },
    { OPTION_BLOCK, "block", NULL,
      "write at once whatever was read, lines or not. Without it only whole lines are written, of 64 MiB at most, so "
      "that those of several processes never mix" },
    { OPTION_ROTATE, "rotate", "BYTES",
      "begin a new file before FILE would get larger than this: FILE becomes FILE.1, FILE.1 becomes "
      "FILE.2, and so on. Not with --shared --mapped" },
    { OPTION_EVERY, "every", "T",
      "begin a new file so also at each multiple of this time, such as 1d (at midnight) or 1h, if FILE has bytes" },
    { OPTION_DATE, "date", NULL,
      "FILE is a pattern as of date(1), such as access-%Y-%m-%d.log: a new file begins when the name changes. "
      "Missing directories are made" },
    { OPTION_LINK, "link", "NAME", "with --date: NAME is a symbolic link to the newest file" },
    { OPTION_STAMP, "timestamps", NULL,
      "write the time in front of each line, as 2026-11-20T10:00:00.000000000Z" },
    { OPTION_KEEP, "keep", "N", "keep this number of old files (default 5)" },
    { OPTION_FLUSH, "flush", "MS",
      "sync what was written after this number of milliseconds, and at the end" },
    { OPTION_MODE, "mode", "MODE", "FILE gets this mode, such as 0640, and so do the files that follow it" },
    { OPTION_OWNER, "owner", "USER:GROUP",
      "the same for its owner; one of the two may be left out. Neither follows a symbolic link" },
    { OPTION_LINGER, "linger", "T", LINGER_HELP },
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
    "the same happens without a signal in a moment. SIGINT and SIGTERM: what still comes\n"
    "through the pipe is written, as --linger says, and the signal ends the process. A second\n"
    "signal: only what waits in the pipe.\n"
    "\n"
    "If the input is a pipe, its lines matter more than anything else. On a full disk they\n"
    "wait until there is space, or the end of --linger. A FILE that cannot be gone on with (no\n"
    "right to write it; it ends in zeros that may be data) is renamed to FILE.unknown.N, and a\n"
    "new one begins.\n"
    "\n"
    "Exit status: 0 all input is in the file; 1 an operation failed (the message says how\n"
    "many bytes of the input are in the file); 2 wrong usage; 6 no space, or a limit; 7 refused:\n"
    "other processes have FILE in another way, or it cannot be written as it is.\n"
    "To a service manager (sd_notify) it says when FILE is open, and what it waits for.\n"
    "\n"
    "Example: one program, ten files of 100 MiB; and several programs into one file\n"
    "  make 2>&1 | twinlog sink build.log --rotate 100M --keep 9\n"
    "  for n in 1 2 3; do ./worker $n | twinlog sink all.log --shared & done\n";

#define LEAST_PIECE_BYTES 4096u /* smaller pieces cost more than the unused end of a file */
#define MOST_BYTES (UINT64_C(1) << 47)

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
        options->flags |= TWINLOG_SINK_MAPPED;
        return;
    case OPTION_ROTATE:
        options->max_bytes = take_number("--rotate", 1, MOST_BYTES);
        return;
    case OPTION_KEEP:
        options->keep_files = (uint32_t)take_number("--keep", 1, 9999);
        return;
    default:
        options->flush_interval_ms = (uint32_t)take_number("--flush", 1, 3600u * 1000);
        return;
    }
}

static int64_t take_period(void)
{
    const int64_t second = 1000000000, period_ns = take_duration("--every");

    if (period_ns < second)
        usage_error("--every: '%s' is less than a second", optarg);
    return period_ns;
}

/* Such a file would grow by what is read from it, for ever. */
static bool is_standard_input(const char *path)
{
    struct stat input, file;

    if (fstat(STDIN_FILENO, &input) < 0 || !S_ISREG(input.st_mode))
        return false;
    if (stat(path, &file) < 0)
        return false;
    return is_same_file(&input, &file);
}

/* A small part of the limit, so that a file is nearly full when the next one is started. */
static size_t piece_bytes(uint64_t max_bytes)
{
    const uint64_t part = max_bytes / 16;

    if (max_bytes == 0 || part > READ_BYTES)
        return READ_BYTES;
    return (size_t)min_u64(max_bytes, max_u64(part, LEAST_PIECE_BYTES));
}

/* To open it and to close it is all that it needs. No file is made for that, at the end of a link either. */
static int finish_file(const char *path, uint32_t flags)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct twinlog_sink *sink;
    struct stat file;
    char place[PATH_MAX] = "";
    int error = 0;

    options.flags = flags | TWINLOG_SINK_MAPPED | TWINLOG_SINK_SHARED;
    options.initial_bytes = options.growth_bytes = 1; /* it stays about as large as it is */
    if (stat(path, &file) < 0)
        error = -errno;
    if (error == 0)
        error = become_owner(path, place); /* such a file is its owner's */
    if (error == 0)
        error = twinlog_sink_open(place, &options, &sink);
    if (error == 0)
        error = twinlog_sink_close(sink);

    if (error == 0)
        return STATUS_FINE;

    const char *advice = "There is no such file: check the path.";
    if (error != -ENOENT)
        advice = pour_advice(error, true, place);
    return fail("finish", path, error, NULL, advice);
}

static void check_times(const struct pour *pour, bool is_dated, bool is_block, bool is_exact)
{
    if (pour->link && !is_dated)
        usage_error("--link goes with --date");
    if (pour->has_times && is_block)
        usage_error("--timestamps and --block exclude each other");
    if ((is_dated || pour->period_ns) && !is_exact)
        usage_error("--mapped excludes --date and --every");
}

static void check_keep(const struct pour *pour, bool is_dated)
{
    if (pour->period_ns)
        return;
    if (is_dated)
        usage_error("--keep counts the numbered files of --rotate and --every; old files with a date are "
                    "removed by find(1): find DIRECTORY -name 'access-*.log' -mtime +30 -delete");
    usage_error("--keep goes with --rotate or --every");
}

/* What the options say besides pour.h and <twinlog_sink.h>. */
struct choice {
    unsigned argued; /* number of options */
    bool is_dated;
    bool is_block;
    int show; /* OPTION_CAT, OPTION_FOLLOW or OPTION_FINISH; 0: none, so input is written */
};

static void take_choice(int value, struct choice *choice, struct pour *pour,
                        struct twinlog_sink_options *options)
{
    if (value == OPTION_CAT || value == OPTION_FOLLOW || value == OPTION_FINISH)
        choice->show = value;
    else if (value == OPTION_EVERY)
        pour->period_ns = take_period();
    else if (value == OPTION_DATE)
        choice->is_dated = true;
    else if (value == OPTION_LINK)
        pour->link = optarg;
    else if (value == OPTION_STAMP)
        pour->has_times = true;
    else if (value == OPTION_MODE)
        take_mode(&pour->rights);
    else if (value == OPTION_OWNER)
        take_owner(&pour->rights);
    else if (value == OPTION_LINGER)
        pour->intake.linger_ms = take_linger_ms();
    else if (value == OPTION_BLOCK)
        choice->is_block = true;
    else
        take_option(value, options);
}

static void check_choice(const struct choice *choice, const struct pour *pour,
                         const struct twinlog_sink_options *options)
{
    const bool is_exact = !(options->flags & TWINLOG_SINK_MAPPED);
    const bool is_shared = options->flags & TWINLOG_SINK_SHARED;
    const bool drops_zeros = options->flags & TWINLOG_SINK_DROP_ZEROS;
    unsigned most_argued = 1;

    if (choice->show == OPTION_FINISH && drops_zeros)
        most_argued = 2;
    if (choice->show && choice->argued > most_argued)
        usage_error("--cat and --follow go with nothing else, --finish only with --drop-zeros");
    if (options->keep_files && !options->max_bytes)
        check_keep(pour, choice->is_dated);
    check_times(pour, choice->is_dated, choice->is_block, is_exact);
    if (options->max_bytes && is_shared && !is_exact)
        usage_error("--shared --mapped excludes --rotate: rename the file, as logrotate does");
}

/* Writes the input to pour->path, which may be a pattern for a date. */
static int write_input(struct pour *pour, struct twinlog_sink_options *options, const struct choice *choice)
{
    const bool is_exact = !(options->flags & TWINLOG_SINK_MAPPED);

    pour->pattern = NULL;
    if (choice->is_dated)
        pour->pattern = pour->path;
    int error = pour_find_name(pour);
    if (error < 0)
        return fail("make the name or the directory of", pour->path, error, NULL, NULL);
    if (is_standard_input(pour->path))
        usage_error("'%s' is also standard input", pour->path);

    /* An exact sink is always shared: two loggers of one file overlap for a while. */
    pour->is_by_lines = !choice->is_block;
    pour->is_shared = options->flags & TWINLOG_SINK_SHARED;
    if (is_exact && pour->is_shared && pour->is_by_lines)
        options->flags |= TWINLOG_SINK_LINES;
    if (is_exact)
        options->flags |= TWINLOG_SINK_SHARED;
    pour->piece_bytes = piece_bytes(options->max_bytes);

    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
    signal(SIGPIPE, SIG_IGN); /* if nobody reads the messages any more, they are lost, and not the lines */
    error = stop_on_signals();
    if (error < 0)
        return fail_start(error);
    pour->intake.hangup_fd = catch_hangups();
    if (pour->intake.hangup_fd < 0)
        return fail_start(pour->intake.hangup_fd);

    pour->options = *options;
    int status = pour_input(pour);
    if (status == STATUS_FINE && stop_signal())
        stop_by_signal();
    return finish_output(status);
}

static int sink_run(const struct command *command, int argc, char **argv)
{
    struct twinlog_sink_options options = TWINLOG_SINK_OPTIONS_INIT;
    struct pour pour = { .intake = INTAKE_INIT, .rights = RIGHTS_INIT };
    struct choice choice = { 0 };
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        take_choice(value, &choice, &pour, &options);
        choice.argued++;
    }
    check_choice(&choice, &pour, &options);

    pour.path = take_operand(argc, argv, "file");
    if (choice.show == OPTION_FINISH)
        return finish_file(pour.path, options.flags & TWINLOG_SINK_DROP_ZEROS);
    if (choice.show)
        return show_sink(pour.path, choice.show == OPTION_FOLLOW);
    return write_input(&pour, &options, &choice);
}

const struct command sink_command = {
    .name = "sink",
    .summary = "standard input into a plain file, rotated and shared",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = sink_run,
};
