/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share. See common.h. */
#define _GNU_SOURCE
#include "common.h"

#include "json.h"
#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* To wait for another process that opens the log as the first one, or closes it as the last one. */
#define SHARED_WAIT_MS 5000u

#define MESSAGE_BYTES 10000u /* two paths and some words */

static const char *program_name = "twinlog";

/* Replaces what a terminal would act upon. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

/* ---- options ---------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum twinlog_io io;
} io_names[] = {
    { "auto", TWINLOG_IO_AUTO },           { "uring", TWINLOG_IO_URING },
    { "dsync", TWINLOG_IO_DSYNC },         { "uring-linked", TWINLOG_IO_URING_LINKED },
    { "fdatasync", TWINLOG_IO_FDATASYNC },
};
#define IO_NAMES (sizeof(io_names) / sizeof(io_names[0]))

const char *io_name(uint32_t io)
{
    for (size_t i = 0; i < IO_NAMES; i++)
        if (io_names[i].io == io)
            return io_names[i].name;
    return "unknown";
}

const char *mode_name(uint32_t mode)
{
    static const char *const names[] = {
        [TWINLOG_MODE_DURABLE] = "durable",
        [TWINLOG_MODE_MAPPED] = "mapped",
        [TWINLOG_MODE_SHARED] = "shared",
    };
    return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "unknown";
}

bool is_mapped_mode(uint32_t mode)
{
    return mode == TWINLOG_MODE_MAPPED || mode == TWINLOG_MODE_SHARED;
}

static uint32_t take_io(void)
{
    for (size_t i = 0; i < IO_NAMES; i++)
        if (strcmp(io_names[i].name, optarg) == 0)
            return io_names[i].io;
    usage_error("--io: '%s' is none of auto, uring, uring-linked, dsync, fdatasync", optarg);
}

static uint32_t take_prepare(void)
{
    static const char *const names[] = {
        [TWINLOG_PREPARE_WRITTEN] = "written",
        [TWINLOG_PREPARE_ALLOCATED] = "allocated",
        [TWINLOG_PREPARE_SPARSE] = "sparse",
    };

    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], optarg) == 0)
            return i;
    usage_error("--prepare: '%s' is none of written, allocated, sparse", optarg);
}

int next_option(const struct command *command, int argc, char **argv, const struct option *options)
{
    int value = getopt_long(argc, argv, "", options, NULL);

    switch (value) {
    case OPTION_HELP:
        print_help(command->help);
    case OPTION_VERSION:
        print_version();
    case '?': /* getopt has printed the error */
        fprintf(stderr, "Try '%s --help'.\n", program_name);
        exit(STATUS_USAGE);
    default:
        return value;
    }
}

/* At least 1, because 0 would mean no limit. */
static uint64_t take_age_ms(const char *option)
{
    int64_t ns = take_duration(option);

    if (ns == 0)
        usage_error("%s: '%s' is not longer than zero", option, optarg);
    return (uint64_t)ns / 1000000;
}

void share_log(struct twinlog_options *options)
{
    options->mode = TWINLOG_MODE_SHARED;
    options->lock_wait_ms = SHARED_WAIT_MS;
}

bool take_log_option(int value, struct twinlog_options *options)
{
    switch (value) {
    case OPTION_MAX_RECORD:
        options->max_record_bytes = (uint32_t)take_number("--max-record", 1, (256u << 20) - 8192);
        return true;
    case OPTION_SEGMENT:
        options->segment_bytes = take_number("--segment", 64u << 10, UINT64_C(1) << 40);
        if (options->segment_bytes % 4096)
            usage_error("--segment: %s is not a multiple of 4096", optarg);
        return true;
    case OPTION_PAD:
        options->flags |= TWINLOG_PAD;
        return true;
    case OPTION_BUFFERED:
        options->flags |= TWINLOG_BUFFERED;
        return true;
    case OPTION_IO:
        options->io = take_io();
        return true;
    case OPTION_PREPARE:
        options->prepare = take_prepare();
        return true;
    case OPTION_MAPPED:
        if (!is_mapped_mode(options->mode)) /* a shared one is mapped, too */
            options->mode = TWINLOG_MODE_MAPPED;
        return true;
    case OPTION_SHARED:
        share_log(options);
        return true;
    case OPTION_KEEP_BYTES:
        options->keep_bytes = take_number("--keep-bytes", 1, UINT64_MAX);
        return true;
    case OPTION_KEEP_RECORDS:
        options->keep_records = take_number("--keep-records", 1, UINT64_MAX);
        return true;
    case OPTION_KEEP_TIME:
        options->keep_age_ms = take_age_ms("--keep-time");
        return true;
    default:
        return false;
    }
}

void check_log_options(const struct twinlog_options *options)
{
    if (!is_mapped_mode(options->mode))
        return;
    if (options->flags & TWINLOG_PAD)
        usage_error("--%s and --pad exclude each other", mode_name(options->mode));
    if (options->segment_bytes > UINT64_C(1) << 30)
        usage_error("--segment: at most 1G with --%s", mode_name(options->mode));
    if (options->mode == TWINLOG_MODE_SHARED &&
        (options->keep_bytes || options->keep_records || options->keep_age_ms))
        usage_error(
            "--shared and --keep-bytes, --keep-records or --keep-time exclude each other: use 'twinlog trim "
            "DIR' while no process has the log open");
}

const char *take_operand(int argc, char **argv, const char *what)
{
    if (optind == argc)
        usage_error("the %s is missing", what);
    if (optind + 1 < argc)
        usage_error("one %s at a time: '%s' is one too many", what, argv[optind + 1]);
    if (!*argv[optind])
        usage_error("the name of the %s is empty", what);
    return argv[optind];
}

const char *take_directory(int argc, char **argv)
{
    return take_operand(argc, argv, "directory");
}

void check_output(const char *output)
{
    if (!output)
        usage_error("missing --output NEW (the directory of the new log)");
    if (!*output)
        usage_error("--output: the name of the directory is empty");
}

static uint64_t suffix_factor(const char *suffix)
{
    if (suffix[0] && suffix[1])
        return 0;
    switch (suffix[0]) {
    case '\0':
        return 1;
    case 'K':
        return UINT64_C(1) << 10;
    case 'M':
        return UINT64_C(1) << 20;
    case 'G':
        return UINT64_C(1) << 30;
    default:
        return 0;
    }
}

uint64_t parse_number(const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *suffix = NULL;
    errno = 0;
    uint64_t number = strtoull(text, &suffix, 10);
    uint64_t factor = suffix_factor(suffix);

    if (text[0] < '0' || text[0] > '9' || !factor)
        usage_error("%s: '%s' is not a number (digits, then K, M, G or nothing)", option, text);
    if (errno || __builtin_mul_overflow(number, factor, &number) || number < least || number > most)
        usage_error("%s: %s is not between %" PRIu64 " and %" PRIu64, option, text, least, most);
    return number;
}

uint64_t take_number(const char *option, uint64_t least, uint64_t most)
{
    return parse_number(option, optarg, least, most);
}

const char *check_name(const char *option, const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= TWINLOG_NAME_BYTES)
        usage_error("%s: a name has 1 to %u bytes, '%s' has %zu", option, TWINLOG_NAME_BYTES - 1, name,
                    length);
    return name;
}

const char *take_name(const char *option)
{
    return check_name(option, optarg);
}

/* One line and one write: several processes may share standard error, and a name may contain anything. */
static void print_message(const char *format, va_list arguments)
{
    char text[MESSAGE_BYTES];

    vsnprintf(text, sizeof(text), format, arguments);
    make_printable(text);
    fprintf(stderr, "%s: %s\n", program_name, text);
}

void usage_error(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
    fprintf(stderr, "Try '%s --help'.\n", program_name);
    exit(STATUS_USAGE);
}

void print_help(const char *help)
{
    fputs(help, stdout);
    exit(finish_output(STATUS_FINE));
}

void print_version(void)
{
    printf("twinlog %s\n", twinlog_version());
    exit(finish_output(STATUS_FINE));
}

/* ---- messages and results --------------------------------------------------------------------- */

void set_program_name(const char *name)
{
    program_name = name;
}

void complain(const char *format, ...)
{
    va_list arguments;

    clear_progress();
    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
}

static const char *advice_for(int error)
{
    switch (error) {
    case -EBUSY:
        return "One process at a time writes a log: wait until the other one has closed it.";
    case -ENOENT:
        return "There is no log there. Check the path; 'twinlog append DIR' creates a log.";
    case -ENOTDIR:
        return "A log is a directory: check the path.";
    case -ENOTEMPTY:
        return "It holds other files but no log: name a new or an empty directory.";
    case -EACCES:
    case -EPERM:
        return "Check the owner and the permissions of the directory and its files.";
    case -EROFS:
        return "The file system is mounted read-only.";
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG:
        return "Make room (or raise the limit), then try again.";
    case -EIO:
        return "The device failed: see the kernel's messages (dmesg), then try again.";
    case -ENOTSUP:
        return "That path does not work here: 'twinlog probe' shows which ones do.";
    case -EINVAL:
        return "The options do not go together: see --help for their limits.";
    case -EUSERS:
        return "No more processes can share the log: wait until one of them has closed it.";
    case -ENOSYS:
        return "The kernel is too old, or a sandbox (seccomp) refuses a system call that twinlog needs.";
    case -ENOMEM:
        return "Memory is short: free some, or raise the limit (ulimit -v).";
    case -EAGAIN:
        return "The system has reached a limit, perhaps that of processes and threads (ulimit -u): try again.";
    case -EMFILE:
    case -ENFILE:
        return "Raise the limit on open files (ulimit -n).";
    case TWINLOG_ECORRUPT:
        return "'twinlog verify DIR' lists every finding, 'twinlog repair DIR --output NEW' saves what is "
               "sound. The log was left as it is.";
    case TWINLOG_EVERSION:
        return "Use a newer twinlog. The log was left as it is.";
    case TWINLOG_EFOREIGN:
        return "Move what does not belong to the log out of its directory.";
    case TWINLOG_ETRIMMED:
        return "'twinlog stat DIR' shows the first LSN that is still there.";
    case TWINLOG_ETRUNCATED:
        return "Records that had been read were removed from the end of the log. 'twinlog stat DIR' shows the "
               "last LSN.";
    case -ERANGE:
        return "'twinlog stat DIR' shows the last LSN.";
    default:
        return NULL;
    }
}

static void complain_advice(int error, const char *advice)
{
    if (!advice)
        advice = advice_for(error);
    if (advice)
        complain("%s", advice);
}

int fail(const char *doing, const char *dir, int error, const struct twinlog_report *report,
         const char *advice)
{
    char place[160] = "";

    complain("cannot %s '%s': %s", doing, dir, twinlog_strerror(error));
    if (report)
        describe_place(place, sizeof(place), report);
    if (report && report->text[0])
        complain("%s%s%s", place, *place ? ": " : "", report->text);
    else if (*place)
        complain("%s", place);
    /* The text of a finding says what to do; that of the system does not, except behind a semicolon. A text
     * about damage may only ask for a copy: then the commands for it follow. */
    if (report && report->text[0] && (error != TWINLOG_ECORRUPT || strstr(report->text, "`twinlog ")) &&
        (report->finding != TWINLOG_FOUND_SYSTEM_ERROR || strchr(report->text, ';')))
        return status_of(error);
    complain_advice(error, advice);
    return status_of(error);
}

int fail_copy(const char *doing, const char *dir, const char *output, int error, const char *advice)
{
    complain("cannot %s '%s' to '%s': %s", doing, dir, output, twinlog_strerror(error));
    complain_advice(error, advice);
    return status_of(error);
}

int fail_start(int error)
{
    complain("cannot start: %s", twinlog_strerror(error));
    complain_advice(error, NULL);
    return STATUS_FAILED;
}

int status_of(int error)
{
    if (error >= 0)
        return STATUS_FINE;
    return error == TWINLOG_ECORRUPT ? STATUS_DAMAGED : STATUS_FAILED;
}

void describe_place(char *ret_text, size_t size, const struct twinlog_report *report)
{
    char lsns[LSNS_TEXT_BYTES] = "";
    const char *comma = report->first_lsn ? ", " : "";

    *ret_text = '\0';
    if (report->first_lsn)
        describe_lsns(lsns, report->first_lsn, report->last_lsn);
    if (report->segment)
        snprintf(ret_text, size, "segment %" PRIu64 ", %s, offset %" PRIu64 "%s%s", report->segment,
                 report->file, report->offset, comma, lsns);
    else if (report->file[0])
        snprintf(ret_text, size, "%s%s%s", report->file, comma, lsns);
}

const char *finding_name(uint32_t finding)
{
    static const char *const names[] = {
        [TWINLOG_FOUND_NOTHING] = "nothing",
        [TWINLOG_FOUND_NEW_LOG] = "new-log",
        [TWINLOG_FOUND_CLEAN_CLOSE] = "clean-close",
        [TWINLOG_FOUND_CLEAN_END] = "clean-end",
        [TWINLOG_FOUND_TORN_TAIL] = "torn-tail",
        [TWINLOG_FOUND_DAMAGE] = "damage",
        [TWINLOG_FOUND_BAD_HEADER] = "bad-header",
        [TWINLOG_FOUND_MISSING_SEGMENT] = "missing-segment",
        [TWINLOG_FOUND_FOREIGN_FILE] = "foreign-file",
        [TWINLOG_FOUND_NEWER_FORMAT] = "newer-format",
        [TWINLOG_FOUND_DIRTY_PADDING] = "dirty-padding",
        [TWINLOG_FOUND_SYSTEM_ERROR] = "system-error",
        [TWINLOG_FOUND_BAD_STATE] = "bad-state",
        [TWINLOG_FOUND_BAD_INDEX] = "bad-index",
        [TWINLOG_FOUND_TRIMMED] = "trimmed",
    };
    return finding < sizeof(names) / sizeof(names[0]) ? names[finding] : "unknown";
}

const char *action_name(uint32_t action)
{
    static const char *const names[] = {
        [TWINLOG_DID_NOTHING] = "nothing",
        [TWINLOG_DID_TRUNCATE] = "truncate",
        [TWINLOG_WOULD_TRUNCATE] = "would-truncate",
        [TWINLOG_DID_REFUSE] = "refuse",
        [TWINLOG_DID_SKIP] = "skip",
    };
    return action < sizeof(names) / sizeof(names[0]) ? names[action] : "unknown";
}

void print_finding(const struct twinlog_report *finding, bool is_json)
{
    char place[160];

    clear_progress();
    if (is_json) {
        json_report(NULL, finding);
        return;
    }
    describe_place(place, sizeof(place), finding);
    printf("%s: %s%s%s\n", finding_name(finding->finding), place, *place ? ": " : "", finding->text);
}

void describe_lsns(char ret_text[LSNS_TEXT_BYTES], uint64_t first, uint64_t last)
{
    if (last > first)
        snprintf(ret_text, LSNS_TEXT_BYTES, "LSN %" PRIu64 " to %" PRIu64, first, last);
    else
        snprintf(ret_text, LSNS_TEXT_BYTES, "LSN %" PRIu64, first);
}

const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

void describe_name(char ret_text[TWINLOG_NAME_BYTES], const char *name)
{
    snprintf(ret_text, TWINLOG_NAME_BYTES, "%s", name);
    make_printable(ret_text);
}

void describe_bytes(char ret_text[BYTES_TEXT_BYTES], uint64_t bytes)
{
    static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
    double amount = (double)bytes / 1024;
    size_t unit = 0;

    if (bytes < 1024) {
        snprintf(ret_text, BYTES_TEXT_BYTES, "%" PRIu64 " byte%s", bytes, plural(bytes));
        return;
    }
    while (amount >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        amount /= 1024;
        unit++;
    }
    snprintf(ret_text, BYTES_TEXT_BYTES, "%.1f %s", amount, units[unit]);
}

int output_error(void)
{
    if (errno != EPIPE)
        complain("cannot write to standard output: %s", strerror(errno));
    return STATUS_FAILED;
}

int finish_output(int status)
{
    bool has_failed = ferror(stdout) != 0;

    if (fclose(stdout) != 0 || has_failed)
        return output_error();
    return status;
}

/* ---- time and progress ------------------------------------------------------------------------ */

uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool is_progress_shown;

bool is_progress_due(void)
{
    static uint64_t next_ns;
    uint64_t now_ns = monotonic_ns();

    if (now_ns < next_ns || !isatty(STDERR_FILENO))
        return false;
    next_ns = now_ns + 200000000;
    return true;
}

void show_progress(const char *format, ...)
{
    va_list arguments;

    fputs("\r\033[K", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fflush(stderr);
    is_progress_shown = true;
}

void show_bytes_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)context;
    if (total_bytes && is_progress_due())
        show_progress("%.0f %% of %.1f MiB", 100.0 * (double)done_bytes / (double)total_bytes,
                      (double)total_bytes / (1 << 20));
}

void clear_progress(void)
{
    if (is_progress_shown)
        fputs("\r\033[K", stderr);
    is_progress_shown = false;
}
