/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share. See common.h. */
#define _GNU_SOURCE
#include "common.h"

#include "json.h"
#include "when.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_BYTES 10000u /* two paths and some words */

static const char *program_name = "twinlog";

void make_printable(char *text)
{
    unsigned char *bytes = (unsigned char *)text;

    for (size_t length = 0; *bytes; bytes += length) {
        length = utf8_length(bytes, strlen((const char *)bytes));
        if (length == 0)
            *bytes = '?'; /* no character */
        if (length <= 0)
            length = 1;
        if (*bytes < ' ' || *bytes == 0x7f || is_c1_control(bytes, length))
            memset(bytes, '?', length);
    }
}

/* One line and one write: several processes may share standard error, and a name may contain anything. */
static void print_message(const char *format, va_list arguments)
{
    char text[MESSAGE_BYTES];

    vsnprintf(text, sizeof(text), format, arguments);
    make_printable(text);
    fprintf(stderr, "%s: %s\n", program_name, text);
}

void point_to_help(void)
{
    fprintf(stderr, "Try '%s --help'.\n", program_name);
    exit(STATUS_USAGE);
}

void usage_error(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    print_message(format, arguments);
    va_end(arguments);
    point_to_help();
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
        return "Another process is at it, or was stopped while it was: try again when it goes on, or has ended.";
    case -ENOENT:
        return "There is no log there. Check the path; 'twinlog append DIR' creates a log.";
    case -ENOTDIR:
        return "A log is a directory: check the path. For plain files there is 'twinlog sink FILE'.";
    case -EISDIR:
        return "Name the file in it, as DIR/NAME; for a log there are 'twinlog append DIR' and 'twinlog cat DIR'.";
    case -ENOTEMPTY:
        return "It holds other files but no log: name a new or an empty directory.";
    case -EACCES:
    case -EPERM:
        return "Check the owner and the permissions of the directory and its files.";
    case -ESTALE:
        return "What was made in its place is another log: open it by its name.";
    case -EROFS:
        return "The file system takes no writes: it is mounted so, or became so after an error (dmesg). 'twinlog "
               "repair DIR --output NEW', on another disk, saves what can be read.";
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG:
        return "Make room (or raise the limit), then try again.";
    case -EIO:
        return "The device failed: see the kernel's messages (dmesg), then try again.";
    case -ENOTSUP:
        return "That path does not work here: 'twinlog probe DIR' shows which ones do.";
    case -EUSERS:
        return "No more processes can share it: wait until one of them has closed it.";
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
        return "Move what does not belong to the log out of its directory: 'twinlog verify DIR' names it.";
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

static bool says_what_to_do(const struct twinlog_report *report, int error)
{
    if (!report->text[0])
        return false;

    /* A text about damage may only ask for a copy: then the commands for it follow. */
    if (error == TWINLOG_ECORRUPT && !strstr(report->text, "`twinlog "))
        return false;

    /* The text of a finding says what to do; that of the system does so behind a semicolon only. */
    return report->finding != TWINLOG_FOUND_SYSTEM_ERROR || strchr(report->text, ';');
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

    if (advice || !report || !says_what_to_do(report, error))
        complain_advice(error, advice);
    return status_of(error);
}

int fail_copy(const char *doing, const char *dir, const char *output, int error, const char *advice)
{
    complain("cannot %s '%s' to '%s': %s", doing, dir, output, twinlog_strerror(error));
    complain_advice(error, advice);
    return status_of(error);
}

const char *advice_for_new_log(int error)
{
    switch (error) {
    case -ENOENT:
        return "The log must exist, and so must the directory above the new one.";
    case -ENOTEMPTY:
        return "The new directory must not exist, or be empty: name another one.";
    case -EROFS:
        return "The new directory is on a file system that takes no writes: name one on another.";
    default:
        return NULL;
    }
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
    if (error == TWINLOG_ECORRUPT)
        return STATUS_DAMAGED;
    return STATUS_FAILED;
}

int status_of_writer(int error)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG:
        return STATUS_FULL;
    case -EBUSY:
    case -EMEDIUMTYPE:
    case -EUCLEAN:
    case -EUSERS:
    case -ENOTSUP:
    case -ENOENT:
    case -ENOTDIR:
    case -ENOTEMPTY:
    case -EISDIR:
    case -EACCES:
    case -EPERM:
    case -EROFS:
    case TWINLOG_EVERSION:
    case TWINLOG_EFOREIGN:
        return STATUS_REFUSED;
    default:
        return status_of(error);
    }
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
        [TWINLOG_FOUND_SYSTEM_ERROR] = "system-error",
        [TWINLOG_FOUND_BAD_STATE] = "bad-state",
        [TWINLOG_FOUND_BAD_INDEX] = "bad-index",
        [TWINLOG_FOUND_TRIMMED] = "trimmed",
        [TWINLOG_FOUND_LOST] = "lost",
    };

    return WORD_OF(names, finding);
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

    return WORD_OF(names, action);
}

void json_report(const char *key, const struct twinlog_report *report)
{
    json_begin_object(key);
    json_text("finding", finding_name(report->finding));
    json_text("action", action_name(report->action));
    json_signed("error", report->error);
    json_number("segment", report->segment);
    json_text("file", report->file);
    json_number("offset", report->offset);
    json_number("bytes", report->bytes);
    json_number("first_lsn", report->first_lsn);
    json_number("last_lsn", report->last_lsn);
    json_text("text", report->text);
    json_end_object();
}

void json_time(const char *key, int64_t time_ns)
{
    char text[PRECISE_TIME_TEXT_BYTES];

    describe_precise_time(text, time_ns);
    json_text(key, text);
}

void write_finding(FILE *file, const struct twinlog_report *finding)
{
    char place[160];

    describe_place(place, sizeof(place), finding);
    fprintf(file, "%s: %s%s%s\n", finding_name(finding->finding), place, *place ? ": " : "", finding->text);
}

void print_finding(const struct twinlog_report *finding, bool is_json)
{
    clear_progress();
    if (is_json) {
        json_report(NULL, finding);
        return;
    }
    write_finding(stdout, finding);
}

int load_text(struct twinlog *log, const char *name, char *text, size_t bytes)
{
    size_t size = 0;

    int error = twinlog_meta_get(log, name, text, bytes - 1, &size);
    if (error == -ENOBUFS)
        return -EEXIST;
    if (error)
        return error;

    text[size] = '\0';
    return 0;
}

int rename_to_new(const char *path, const char *name)
{
    if (syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    if (link(path, name) < 0) /* a file system, or a kernel, without that flag */
        return -errno;
    if (unlink(path) < 0)
        return -errno;
    return 0;
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

const char *io_name(uint32_t io)
{
    static const char *const names[] = {
        [TWINLOG_IO_AUTO] = "auto",
        [TWINLOG_IO_URING] = "uring",
        [TWINLOG_IO_URING_LINKED] = "uring-linked",
        [TWINLOG_IO_DSYNC] = "dsync",
        [TWINLOG_IO_FDATASYNC] = "fdatasync",
    };

    return WORD_OF(names, io);
}

const char *mode_name(uint32_t mode)
{
    static const char *const names[] = {
        [TWINLOG_MODE_DURABLE] = "durable",
        [TWINLOG_MODE_MAPPED] = "mapped",
        [TWINLOG_MODE_SHARED] = "shared",
    };

    return WORD_OF(names, mode);
}

bool is_mapped_mode(uint32_t mode)
{
    return mode == TWINLOG_MODE_MAPPED || mode == TWINLOG_MODE_SHARED;
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
