/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one table of options for each command gives getopt its names, --help its list, and a shell
 * its completions. A wrong command line ends the process at once with status 2.
 */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H

#include "common.h"

struct option_row {
    int value; /* what next_option() returns; a character is the short option, too */
    const char *name;
    const char *argument; /* NULL: it takes none. "a|b": one of these words. Else what --help calls it */
    const char *help;     /* without line breaks: --help fills the lines */
};

/* Values of options: the character of those that have a short form, the others above every character. */
enum option_value {
    OPTION_FOLLOW = 'f',
    OPTION_LAST = 'n',
    OPTION_QUIET = 'q',
    OPTION_REVERSE = 'r',
    OPTION_HELP = 256,
    OPTION_VERSION,
    OPTION_JSON,
    OPTION_NUL,
    OPTION_FRAMED,
    OPTION_RAW,
    OPTION_PRINT_LSN,
    OPTION_FROM,
    OPTION_TO,
    OPTION_SINCE,
    OPTION_MMAP,
    OPTION_CURSOR,
    OPTION_ALL,
    OPTION_INTERVAL,
    OPTION_PROMETHEUS,
    OPTION_BEFORE,
    OPTION_AFTER,
    OPTION_PAST_CURSORS,
    OPTION_NEXT,
    OPTION_FORCE,
    OPTION_OUTPUT,
    OPTION_COPY,
    OPTION_GET,
    OPTION_SET,
    OPTION_VALUE,
    OPTION_REMOVE,
    OPTION_THREADS,
    OPTION_PROCESSES,
    OPTION_SIZE,
    OPTION_SECONDS,
    OPTION_MAX_RECORD,
    OPTION_SEGMENT,
    OPTION_PAD,
    OPTION_BUFFERED,
    OPTION_IO,
    OPTION_PREPARE,
    OPTION_MAPPED,
    OPTION_KEEP_BYTES,
    OPTION_KEEP_RECORDS,
    OPTION_KEEP_TIME,
    OPTION_ROTATE,
    OPTION_KEEP,
    OPTION_SHARED,
    OPTION_FLUSH,
    OPTION_BLOCK,
    OPTION_CAT,
    OPTION_FINISH,
    OPTION_DROP_ZEROS,
    OPTION_UNTIL,
    OPTION_TIME,
    OPTION_EXPORT,
    OPTION_IMPORT,
    OPTION_RENUMBER,
    OPTION_SAME_HISTORY,
    OPTION_REWIND,
    OPTION_WAIT,
    OPTION_DRY_RUN,
    OPTION_NO_WAIT,
    OPTION_ALWAYS,
    OPTION_COMMAND,
    OPTION_ONCE,
    OPTION_STATUS,
    OPTION_ARCHIVE,
    OPTION_LIST,
    OPTION_HISTORY,
    OPTION_JOBS,
    OPTION_SKIP_TRIMMED,
    OPTION_SKIP_LOST,
    OPTION_REPLICAS,
    OPTION_CREDENTIALS,
    OPTION_LINGER,
    OPTION_LONG,
    OPTION_MODE,
    OPTION_OWNER,
    OPTION_EVERY,
    OPTION_DATE,
    OPTION_LINK,
    OPTION_STAMP,
    OPTION_CONFIRM,
};

/* clang-format off */
/* A line in the list of --help, between the rows. */
#define HEADING(text) { 0, NULL, NULL, text }

/* The last rows of every table. */
#define COMMON_OPTIONS \
    { OPTION_HELP, "help", NULL, "show this text" }, \
    { OPTION_VERSION, "version", NULL, "show the version" }, \
    { 0, NULL, NULL, NULL }

/* The rows of commands that open a log for writing. */
#define LOG_OPTIONS \
    { OPTION_MAX_RECORD, "max-record", "BYTES", "largest record (default 4M)" }, \
    { OPTION_SEGMENT, "segment", "BYTES", "largest segment file, a multiple of 4096 (default 64M)" }, \
    { OPTION_PAD, "pad", NULL, "never rewrite a block that holds acknowledged records" }, \
    { OPTION_BUFFERED, "buffered", NULL, "do not use direct I/O" }, \
    { OPTION_IO, "io", "auto|uring|uring-linked|dsync|fdatasync", "the path to the disk (default auto)" }, \
    { OPTION_PREPARE, "prepare", "written|allocated", "how new segments are made (default written)" }, \
    { OPTION_KEEP_BYTES, "keep-bytes", "BYTES", "remove the oldest segments, as long as so much is left" }, \
    { OPTION_KEEP_RECORDS, "keep-records", "N", "the same, as long as N LSNs are left" }, \
    { OPTION_KEEP_TIME, "keep-time", "T", "those with records all older than T: 90s, 15m, 12h, 7d" }
/* clang-format on */

/* The next option of the command line, -1 after the last one. Answers --help and --version itself,
 * and ends the process on an option it does not know. */
int next_option(const struct command *command, int argc, char **argv);

/* The list of options as --help prints it, one text on several lines. */
void print_options(const struct option_row *options);

/* Prints the completions for a shell: bash, zsh or fish. Returns the exit status. */
int print_completions(const char *shell);

/* If `value` is one of LOG_OPTIONS, puts it into `options` and returns true. */
bool take_log_option(int value, struct twinlog_options *options);
/* Sets the options for --shared. */
void share_log(struct twinlog_options *options);
/* After the last option: ends the process if the options exclude each other. */
void check_log_options(const struct twinlog_options *options);

/* The only operand; `what` is "directory" or "file". */
const char *take_operand(int argc, char **argv, const char *what);
const char *take_directory(int argc, char **argv);

/* Ends the process if --output is missing or empty. */
void check_output(const char *output);

/* The argument of the option that next_option() just returned: one of the words of its row, as an index. */
unsigned take_word(const char *option);
/* The same: a number from `least` to `most` with
 * an optional suffix K, M or G (powers of 1024). */
uint64_t take_number(const char *option, uint64_t least, uint64_t most);
/* The same for a text that is a part of the argument. */
uint64_t parse_number(const char *option, const char *text, uint64_t least, uint64_t most);

/* The argument of the option, as the name of a cursor or a value. */
const char *take_name(const char *option);
const char *check_name(const char *option, const char *name);

#endif
