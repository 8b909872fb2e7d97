/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the subcommands of twinlog: exit statuses, options, messages, the end of the output.
 *
 * A wrong command line ends the process at once with status 2 (nothing is open by then); everything
 * else is reported with complain() or fail() and returned as a status to main().
 */
#ifndef TOOLS_COMMON_H
#define TOOLS_COMMON_H

#include <twinlog.h>

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum status {
    STATUS_FINE = 0,
    STATUS_FAILED = 1,  /* an operation failed */
    STATUS_USAGE = 2,   /* the command line is wrong */
    STATUS_DAMAGED = 3, /* acknowledged data is damaged, or was lost */
};

struct command {
    const char *name;
    const char *summary; /* one line for the list of commands */
    const char *help;
    int (*run)(const struct command *command, int argc, char **argv); /* argv[0] is the command's name */
};

extern const struct command append_command;
extern const struct command cat_command;
extern const struct command stat_command;
extern const struct command verify_command;
extern const struct command trim_command;
extern const struct command reset_command;
extern const struct command cursors_command;
extern const struct command meta_command;
extern const struct command backup_command;
extern const struct command repair_command;
extern const struct command bench_command;
extern const struct command probe_command;
extern const struct command sink_command;

/* How records follow each other on standard input and output. */
enum framing {
    FRAMING_LINES,
    FRAMING_NUL,
    FRAMING_LENGTH
};

/* ---- options ---------------------------------------------------------------------------------- */

/* Values of options: above every character, so that they never look like a short option. */
enum option_value {
    OPTION_HELP = 256,
    OPTION_VERSION,
    OPTION_JSON,
    OPTION_NUL,
    OPTION_FRAMED,
    OPTION_PRINT_LSN,
    OPTION_FROM,
    OPTION_TO,
    OPTION_SINCE,
    OPTION_FOLLOW,
    OPTION_MMAP,
    OPTION_REVERSE,
    OPTION_CURSOR,
    OPTION_ALL,
    OPTION_LIVE,
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
    OPTION_INITIAL,
    OPTION_LINE,
    OPTION_BLOCK,
    OPTION_CAT,
    OPTION_ZEROS,
};

/* clang-format off */
#define FLAG(name, value) { name, no_argument, NULL, value }
#define WITH_ARGUMENT(name, value) { name, required_argument, NULL, value }

/* Ends every table of options. */
#define COMMON_OPTIONS \
    FLAG("help", OPTION_HELP), \
    FLAG("version", OPTION_VERSION), \
    { NULL, 0, NULL, 0 }

/* Options of the commands that open a log for writing, as a table and as text for --help. */
#define LOG_OPTIONS \
    WITH_ARGUMENT("max-record", OPTION_MAX_RECORD), \
    WITH_ARGUMENT("segment", OPTION_SEGMENT), \
    FLAG("pad", OPTION_PAD), \
    FLAG("buffered", OPTION_BUFFERED), \
    WITH_ARGUMENT("io", OPTION_IO), \
    WITH_ARGUMENT("prepare", OPTION_PREPARE), \
    FLAG("mapped", OPTION_MAPPED), \
    FLAG("shared", OPTION_SHARED), \
    WITH_ARGUMENT("keep-bytes", OPTION_KEEP_BYTES), \
    WITH_ARGUMENT("keep-records", OPTION_KEEP_RECORDS), \
    WITH_ARGUMENT("keep-time", OPTION_KEEP_TIME)
/* clang-format on */

#define LOG_OPTIONS_HELP                                                                                     \
    "  --max-record BYTES  largest record (default 4M)\n"                                                    \
    "  --segment BYTES     largest segment file, a multiple of 4096 (default 64M)\n"                         \
    "  --pad               never rewrite a block that holds acknowledged records\n"                          \
    "  --buffered          do not use direct I/O\n"                                                          \
    "  --io PATH           auto, uring, uring-linked, dsync or fdatasync (default auto)\n"                   \
    "  --prepare HOW       new segments are written, allocated or sparse (default written)\n"                \
    "  --keep-bytes BYTES  remove the oldest segments, as long as so much is left\n"                         \
    "  --keep-records N    the same, as long as N records are left\n"                                        \
    "  --keep-time T       those with records all older than T: 90s, 15m, 12h, 7d\n"
#define COMMON_OPTIONS_HELP                                                                                  \
    "  --help              show this text\n"                                                                 \
    "  --version           show the version\n"

/* The next option of the command line, -1 after the last one. Answers --help and --version itself,
 * and ends the process on an option it does not know. */
int next_option(const struct command *command, int argc, char **argv, const struct option *options);

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

/* The argument of the option that next_option() just returned: a number from `least` to `most` with
 * an optional suffix K, M or G (powers of 1024). */
uint64_t take_number(const char *option, uint64_t least, uint64_t most);
/* The same for a text that is a part of the argument. */
uint64_t parse_number(const char *option, const char *text, uint64_t least, uint64_t most);

/* The argument of the option, as the name of a cursor or a value. */
const char *take_name(const char *option);
const char *check_name(const char *option, const char *name);

_Noreturn void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void print_help(const char *help);
_Noreturn void print_version(void);

/* ---- messages and results --------------------------------------------------------------------- */

/* The name that messages begin with, "twinlog append". */
void set_program_name(const char *name);

/* One line on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reports "cannot DOING 'DIR'", the reason, and the place and text of `report` (may be NULL). If the report
 * has no text, prints what to do next: `advice` if it is not NULL, else advice for the error. Returns the
 * exit status for the error. */
int fail(const char *doing, const char *dir, int error, const struct twinlog_report *report,
         const char *advice);

/* The same for two directories: "cannot DOING 'DIR' to 'OUTPUT'". */
/* Complains that the command can't even begin, with advice; returns the exit status. */
int fail_start(int error);

int fail_copy(const char *doing, const char *dir, const char *output, int error, const char *advice);

/* The exit status for a result of the library. */
int status_of(int error);

/* "segment 1, FILE, offset 4096, LSN 7"; empty when the report names no place. */
void describe_place(char *ret_text, size_t size, const struct twinlog_report *report);

/* One word for a finding or an action, as in "torn-tail". */
const char *finding_name(uint32_t finding);
const char *action_name(uint32_t action);

/* A finding on a line of its own, with its place; or as an element of an array. */
void print_finding(const struct twinlog_report *finding, bool is_json);

/* One word for a path to the disk, as --io takes it. */
const char *io_name(uint32_t io);

/* One word for a mode: "durable", "mapped", "shared". */
const char *mode_name(uint32_t mode);
/* Mapped or shared: records are written by a copy, and durable only after a sync. */
bool is_mapped_mode(uint32_t mode);

/* "512 bytes", "1.5 MiB". */
#define BYTES_TEXT_BYTES 32
void describe_bytes(char ret_text[BYTES_TEXT_BYTES], uint64_t bytes);

/* "LSN 5", "LSN 5 to 7". */
#define LSNS_TEXT_BYTES 64
void describe_lsns(char ret_text[LSNS_TEXT_BYTES], uint64_t first, uint64_t last);

/* The ending of a plural: "" for 1, else "s". */
const char *plural(uint64_t count);

/* A name of a cursor or a value, for people: control characters become '?'. */
void describe_name(char ret_text[TWINLOG_NAME_BYTES], const char *name);

/* Reports that writing to standard output failed, with errno as the reason. Quiet when the reader of the
 * output has gone, as `| head` does. */
int output_error(void);

/* Flushes and closes standard output. Returns `status`, or that of output_error() on failure. */
int finish_output(int status);

/* ---- time and progress ------------------------------------------------------------------------ */

uint64_t monotonic_ns(void);

/* A line on standard error that the next one overwrites; only on a terminal, and not more often than people
 * can read. */
bool is_progress_due(void);
void show_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void show_bytes_progress(void *context, uint64_t done_bytes, uint64_t total_bytes); /* for the library */
void clear_progress(void);

#endif
