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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

enum status {
    STATUS_FINE = 0,
    STATUS_FAILED = 1,  /* an operation failed */
    STATUS_USAGE = 2,   /* the command line is wrong */
    STATUS_DAMAGED = 3, /* acknowledged data is damaged, or was lost */
    STATUS_FENCED = 4,  /* ship: another shipper publishes to the stream */
    STATUS_ABSENT = 5,  /* ship, receive: built without what speaks to such a server */
    STATUS_FULL = 6,    /* sink, append: no space; the same command works again when there is some */
    STATUS_REFUSED = 7, /* sink, append: another process has it, or it is not to be written as it is */
};

struct command {
    const char *name;
    const char *summary;              /* one line for the list of commands */
    const char *about;                /* what --help prints before the options */
    const struct option_row *options; /* see options.h */
    const char *notes;                /* what --help prints behind them */
    int (*run)(const struct command *command, int argc, char **argv); /* argv[0] is the command's name */
};

extern const struct command append_command;
extern const struct command cat_command;
extern const struct command stat_command;
extern const struct command top_command;
extern const struct command verify_command;
extern const struct command trim_command;
extern const struct command reset_command;
extern const struct command cursors_command;
extern const struct command meta_command;
extern const struct command backup_command;
extern const struct command repair_command;
extern const struct command archive_command;
extern const struct command restore_command;
extern const struct command bench_command;
extern const struct command probe_command;
extern const struct command sink_command;
extern const struct command ship_command;
extern const struct command receive_command;

/* All of them, in the order of the list that --help prints. */
extern const struct command *const commands[];
extern const size_t command_count;

/* How records follow each other on standard input and output. */
enum framing {
    FRAMING_LINES,
    FRAMING_NUL,
    FRAMING_LENGTH,
    FRAMING_EXPORT
};

/* ---- messages and results --------------------------------------------------------------------- */

/* The name that messages begin with, "twinlog append". */
void set_program_name(const char *name);

/* One line on standard error, and the end of the process with STATUS_USAGE. */
_Noreturn void usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The end of it: where to read more. */
_Noreturn void point_to_help(void);
_Noreturn void print_version(void);

/* One line on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Reports "cannot DOING 'DIR'", the reason, and the place and text of `report` (may be NULL). If the report
 * has no text, prints what to do next: `advice` if it is not NULL, else advice for the error. Returns the
 * exit status for the error. */
int fail(const char *doing, const char *dir, int error, const struct twinlog_report *report,
         const char *advice);

/* The same for two directories: "cannot DOING 'DIR' to 'OUTPUT'". */
int fail_copy(const char *doing, const char *dir, const char *output, int error, const char *advice);
/* Where a log is made of another one, which is only read; NULL: what is said of the error. */
const char *advice_for_new_log(int error);

/* Complains that the command can't even begin, with advice; returns the exit status. */
int fail_start(int error);

/* The exit status for a result of the library. */
int status_of(int error);
/* The same for a command that writes what comes from a pipe: a supervisor may start it again. */
int status_of_writer(int error);

/* "segment 1, FILE, offset 4096, LSN 7"; empty when the report names no place. */
void describe_place(char *ret_text, size_t size, const struct twinlog_report *report);

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    if (a < b)
        return a;
    return b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    if (a > b)
        return a;
    return b;
}

/* The word of a number in a table that has it as the index; "unknown" where the table ends before. */
#define WORD_OF(words, number) ((number) < sizeof(words) / sizeof((words)[0]) ? (words)[number] : "unknown")

/* One word for a finding or an action, as in "torn-tail". */
const char *finding_name(uint32_t finding);
const char *action_name(uint32_t action);

/* A finding on a line of its own, with its place; print_finding() to standard output, or as an element of an array. */
void write_finding(FILE *file, const struct twinlog_report *finding);
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

/* Renames a file, never over another one. -EEXIST: there is one of that name. */
int rename_to_new(const char *path, const char *name);

/* "LSN 5", "LSN 5 to 7". */
#define LSNS_TEXT_BYTES 64
void describe_lsns(char ret_text[LSNS_TEXT_BYTES], uint64_t first, uint64_t last);

/* The ending of a plural: "" for 1, else "s". */
const char *plural(uint64_t count);

/* A value of the log that is a text of the command, into `text`, which has `bytes`. -ENOENT: there is none. -EEXIST: it
 * is longer than any that the command sets, so somebody else has set it. */
int load_text(struct twinlog *log, const char *name, char *text, size_t bytes);

/* Text that comes from a file or a server, for people: what a terminal would act upon, also the controls behind ASCII,
 * becomes '?', and so does what is no character. */
void make_printable(char *text);
/* The same of a name of a cursor or a value. */
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

/* Are both of one file? */
static inline bool is_same_file(const struct stat *one, const struct stat *other)
{
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

#endif
