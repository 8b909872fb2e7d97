/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog append: standard input into the log, one record for each line.
 *
 * Two threads. This one reads large blocks and hands every record to twinlog_enqueue(), which only
 * copies it. After each block it tells the other one the newest LSN; that one waits until it is
 * durable, prints what --print-lsn asked for, and takes the newest LSN again. So a file goes in as
 * large groups, and a single line that comes through a pipe is durable at once.
 *
 * With --mapped a record is written as soon as it is accepted, so the other one only prints; all of them become
 * durable at the end.
 *
 * Whatever ends the reading (the end of the input, a signal, a line that is too large, a full disk, a failed
 * write), everything that was accepted until then is made durable before the process ends, or the
 * message says which LSN is the last durable one.
 *
 * Nobody reading the LSNs any more is no reason to lose records: SIGPIPE is ignored, the input is
 * appended to its end, and the exit status is 1.
 */
#define _GNU_SOURCE
#include "common.h"
#include "input.h"
#include "stop.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "Usage: twinlog append DIR [options]\n"
    "\n"
    "Appends each line of standard input to the log in DIR as one record, without its\n"
    "newline. A last line without one is a record too. Creates DIR and the log where\n"
    "there is none; the directory that contains DIR must exist. Lines become durable as\n"
    "they arrive, many at a time when they arrive fast.\n"
    "\n"
    "  --null              records end with a NUL byte instead of a newline\n"
    "  --framed            each record follows its length, 4 bytes, little endian\n"
    "  --print-lsn         print each record's LSN once the record is durable\n"
    "  --mapped            copy the lines into a mapped file, at the speed of memory, and\n"
    "                      make all of them durable once, at the end: a power cut before\n"
    "                      costs the newest ones. --print-lsn then says that a record\n"
    "                      survives this process, not the power\n" LOG_OPTIONS_HELP COMMON_OPTIONS_HELP "\n"
    "BYTES may end in K, M or G. On SIGINT, SIGTERM and SIGHUP reading stops, what was\n"
    "accepted is made durable, and the process ends by that signal. If standard output\n"
    "fails under --print-lsn, the input is still appended to its end.\n"
    "\n"
    "Exit status: 0 every record is durable; 1 an operation failed (the message names\n"
    "the last durable LSN); 2 wrong usage; 3 acknowledged data in the log is damaged.\n"
    "\n"
    "Example: record a program's output, one record for each line, and keep the LSNs\n"
    "  make 2>&1 | twinlog append build.log --print-lsn >lsns\n";

static const struct option option_table[] = {
    FLAG("null", OPTION_NUL), FLAG("framed", OPTION_FRAMED), FLAG("print-lsn", OPTION_PRINT_LSN), LOG_OPTIONS,
    COMMON_OPTIONS,
};

#define DEFAULT_MAX_RECORD_BYTES (4u << 20) /* the library's */

struct append {
    const char *dir;
    struct twinlog *log;
    struct input input;   /* [reading thread] */
    bool is_mapped;       /* [const] */
    bool prints_lsn;      /* [const] */
    bool shows_progress;  /* [const] */
    uint64_t before;      /* [const] last LSN before we began */
    uint64_t started_ns;  /* [const] */
    pthread_mutex_t lock; /* for the three below */
    pthread_cond_t changed;
    uint64_t accepted; /* [lock] newest LSN that shall become safe: durable, or written if it is mapped */
    bool is_ended;     /* [lock] `accepted` won't move any more */

    /* [acknowledging thread until it was joined] */
    uint64_t safe; /* newest LSN that was waited for */
    int error;     /* what kept the next one from being safe */
    bool has_output_failed;

    bool is_stopped; /* a signal ended the reading */
};

/* ---- the acknowledging thread ----------------------------------------------------------------- */

/* The newest accepted LSN, once there is one that is not safe; the safe one after the last. */
static uint64_t wait_for_accepted(struct append *append)
{
    pthread_mutex_lock(&append->lock);
    while (append->accepted == append->safe && !append->is_ended)
        pthread_cond_wait(&append->changed, &append->lock);
    uint64_t accepted = append->accepted;
    pthread_mutex_unlock(&append->lock);
    return accepted;
}

static void print_lsns(struct append *append, uint64_t first, uint64_t last)
{
    for (uint64_t lsn = first; lsn <= last && !append->has_output_failed; lsn++)
        append->has_output_failed = printf("%" PRIu64 "\n", lsn) < 0;
    if (!append->has_output_failed)
        append->has_output_failed = fflush(stdout) != 0;
    if (append->has_output_failed)
        output_error();
}

static void report_progress(const struct append *append)
{
    uint64_t records = append->safe - append->before;
    uint64_t elapsed_ns = monotonic_ns() - append->started_ns;

    show_progress("%" PRIu64 " records %s, %.0f/s", records, append->is_mapped ? "written" : "durable",
                  (double)records * 1e9 / (double)(elapsed_ns + 1));
}

static void *acknowledge(void *argument)
{
    struct append *append = argument;
    uint64_t accepted = 0;

    while (!append->error && (accepted = wait_for_accepted(append)) > append->safe) {
        if (!append->is_mapped) /* else it has all that it shall be by now */
            append->error = twinlog_wait(append->log, accepted, TWINLOG_LEVEL_DURABLE, 0);
        if (append->error) { /* some of them may have made it */
            uint64_t durable = twinlog_durable_lsn(append->log);
            accepted = durable < accepted ? durable : accepted;
            stop_request(); /* or the other thread would wait for input that cannot be kept */
        }
        if (append->prints_lsn && !append->has_output_failed)
            print_lsns(append, append->safe + 1, accepted);
        append->safe = accepted;
        if (append->shows_progress && is_progress_due())
            report_progress(append);
    }
    return NULL;
}

/* ---- the reading thread ----------------------------------------------------------------------- */

static void publish(struct append *append, uint64_t accepted, bool is_ended)
{
    pthread_mutex_lock(&append->lock);
    append->accepted = accepted;
    append->is_ended = is_ended;
    pthread_cond_signal(&append->changed);
    pthread_mutex_unlock(&append->lock);
}

/* Reads to the end. Sets *ret_read_error for the input, returns what the log said. */
static int read_and_enqueue(struct append *append, int *ret_read_error)
{
    uint64_t accepted = append->before;
    int result = 0;
    int error = 0;

    do {
        const void *data = NULL;
        size_t size = 0;
        uint64_t lsn = 0;
        while (!error && (result = input_next(&append->input, &data, &size)) > 0) {
            error = twinlog_enqueue(append->log, data, size, &lsn);
            if (!error)
                accepted = lsn;
        }
        publish(append, accepted, false);
    } while (!error && result == 0 && (result = input_fill(&append->input)) > 0);
    publish(append, accepted, true);
    *ret_read_error = result < 0 ? result : 0;
    return error;
}

/* ---- how it went ------------------------------------------------------------------------------ */

static const char *record_word(const struct append *append)
{
    return append->input.framing == FRAMING_LINES ? "line" : "record";
}

static void complain_too_large(const struct append *append, uint64_t number)
{
    complain("%s %" PRIu64 " of the input is larger than the largest record. It was not appended, nor "
             "was what comes after it; raise --max-record (and --segment, if that was lowered).",
             record_word(append), number);
}

static void complain_input(const struct append *append, int error)
{
    uint64_t records = append->input.records;

    if (error == -EMSGSIZE)
        complain_too_large(append, records + 1);
    else if (error == -EBADMSG)
        complain("standard input ends in the middle of record %" PRIu64 ", which begins at byte %" PRIu64
                 ". It was not appended.",
                 records + 1, append->input.offset);
    else if (error == -ECANCELED)
        complain("stopped by signal %d (%s) after %" PRIu64 " %ss. The rest was not appended.", stop_signal(),
                 strsignal(stop_signal()), records, record_word(append));
    else
        complain("cannot read standard input after %" PRIu64 " %ss: %s. The rest was not appended.", records,
                 record_word(append), twinlog_strerror(error));
}

static void complain_durable(const struct append *append, uint64_t durable)
{
    if (durable > append->before)
        complain("LSN %" PRIu64 " to %" PRIu64 " of this run are durable.", append->before + 1, durable);
    else
        complain("No record of this run is known to be durable.");
}

static const char after_failure[] =
    "What else was read may be there or not: 'twinlog stat DIR' shows the last LSN. Append the rest then.";

/* The log took no more, and everything it had taken is durable. */
static void complain_refused(const struct append *append)
{
    complain("%s %" PRIu64 " of the input was not appended, nor was what comes after it.",
             record_word(append), append->input.records);
}

/* Closes the log and says what went wrong, if anything. */
static int finish(struct append *append, int enqueue_error, int read_error)
{
    uint64_t durable = twinlog_durable_lsn(append->log);
    int close_error = twinlog_close(append->log);
    int error = append->error;
    int status = STATUS_FINE;

    if (!error && enqueue_error != -EMSGSIZE)
        error = enqueue_error;
    if (!error)
        error = close_error;
    if (error) {
        status = fail("append to", append->dir, error, NULL, NULL);
        complain_durable(append, durable);
        if (append->error || close_error)
            complain("%s", after_failure);
        else
            complain_refused(append);
        return status;
    }
    if (enqueue_error == -EMSGSIZE)
        complain_too_large(append, append->input.records);
    else if (read_error)
        complain_input(append, read_error);
    if (enqueue_error || read_error) {
        complain_durable(append, durable);
        status = STATUS_FAILED;
    }
    if (append->has_output_failed) {
        complain("Not all LSNs were printed, but the records are durable: LSN %" PRIu64 " to %" PRIu64 ".",
                 append->before + 1, durable);
        status = STATUS_FAILED;
    }
    return status;
}

static int copy_input(struct append *append)
{
    pthread_t acknowledger;
    int read_error = 0;

    append->before = append->accepted = append->safe = twinlog_last_lsn(append->log);
    append->started_ns = monotonic_ns();
    int error = pthread_create(&acknowledger, NULL, acknowledge, append);
    if (error) {
        twinlog_close(append->log);
        complain("cannot start a thread: %s", strerror(error));
        return STATUS_FAILED;
    }
    error = read_and_enqueue(append, &read_error);
    pthread_join(acknowledger, NULL);
    if (append->is_mapped && !append->error)
        append->error = twinlog_sync(append->log);
    clear_progress();
    append->is_stopped = read_error == -ECANCELED && stop_signal();
    return finish(append, error, read_error);
}

static int open_log(struct append *append, struct twinlog_options *options)
{
    struct twinlog_report report = { 0 };

    options->ret_report = &report;
    int error = twinlog_open(append->dir, options, &append->log);
    if (error)
        return fail("open the log", append->dir, error, &report,
                    error == -ENOENT ? "The directory that shall contain it does not exist: create it first."
                                     : NULL);
    if (report.action == TWINLOG_DID_CUT)
        complain("note: %s", report.text);
    return STATUS_FINE;
}

static int append_run(const struct command *command, int argc, char **argv)
{
    struct append append = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    enum framing framing = FRAMING_LINES;
    int value = 0;

    while ((value = next_option(command, argc, argv, option_table)) != -1) {
        if (take_log_option(value, &options))
            continue;
        if (value == OPTION_PRINT_LSN)
            append.prints_lsn = true;
        else if (framing != FRAMING_LINES)
            usage_error("--null and --framed exclude each other");
        else
            framing = value == OPTION_NUL ? FRAMING_NUL : FRAMING_LENGTH;
    }
    check_log_options(&options);
    append.dir = take_directory(argc, argv);
    append.is_mapped = options.mode == TWINLOG_MODE_MAPPED;
    append.shows_progress = !isatty(STDIN_FILENO) && !(append.prints_lsn && isatty(STDOUT_FILENO));

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
    int error = input_init(&append.input, framing,
                           options.max_record_bytes ? options.max_record_bytes : DEFAULT_MAX_RECORD_BYTES);
    if (error == 0)
        error = stop_on_signals();
    if (error) {
        complain("%s", twinlog_strerror(error));
        return STATUS_FAILED;
    }
    int status = open_log(&append, &options);
    if (status == STATUS_FINE)
        status = copy_input(&append);
    input_free(&append.input);
    if (append.is_stopped)
        stop_by_signal();
    return append.has_output_failed ? status : finish_output(status);
}

const struct command append_command = {
    .name = "append",
    .summary = "append standard input, one record for each line",
    .help = help,
    .run = append_run,
};
