/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog append: appends standard input to the log, one record for each line.
 *
 * There are two threads. The reading thread reads large blocks and gives the records to the log, many in one call, and
 * the log only copies them. After each block it gives the LSNs to the acknowledging thread, which waits until they are
 * durable, prints them for --print-lsn, and takes the LSNs that have come meanwhile. So a file is appended in large
 * groups, and a single line that comes through a pipe is durable at once. The reading thread never waits for a slow
 * reader of the LSNs. The acknowledging thread does; then the log makes durable itself what was accepted a second ago,
 * and LSNs that go on from those that were given before need no more memory.
 *
 * With --mapped and --shared a record is written as soon as it is accepted, so the acknowledging thread only
 * prints; all records become durable at the end. With --shared, LSNs of other processes may lie in between.
 *
 * Reading ends with the input, a signal (see intake.h), a line that is too large, a full disk or a failed write. All
 * records accepted until then are made durable before the process ends, or the message says which LSN is the last
 * durable one.
 *
 * If the reader of the LSNs goes away, no records are lost: SIGPIPE is ignored, the input is appended to its
 * end, and the exit status is 1.
 */
#define _GNU_SOURCE
#include "import.h"
#include "input.h"
#include "notify.h"
#include "options.h"
#include "stop.h"
#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>
#include <unistd.h>

static const char about[] =
    "Usage: twinlog append DIR [options]\n"
    "\n"
    "Appends each line of standard input to the log in DIR as one record, without its\n"
    "newline. A last line without one is a record too. Creates DIR and the log where\n"
    "there is none; the directory that contains DIR must exist. Lines become durable as\n"
    "they arrive, many at a time when they arrive fast.\n";

static const struct option_row option_rows[] = {
    { OPTION_NUL, "null", NULL, "records end with a NUL byte instead of a newline" },
    { OPTION_FRAMED, "framed", NULL, "each record follows its length, 4 bytes, little endian" },
    { OPTION_IMPORT, "import", NULL,
      "the input is what 'twinlog cat --export' printed: records get its LSNs, times, types and tags. A log that has "
      "records must have the first of these: what both have is compared, and a difference ends the import" },
    { OPTION_REWIND, "rewind", NULL,
      "with --import: remove what the log has from the first difference on, and go on with the input" },
    { OPTION_SAME_HISTORY, "same-history", NULL,
      "with --import: you know that both logs are one history up to what they both have; else that must be proved, as "
      "by a standby that began as a backup of the log" },
    { OPTION_RENUMBER, "renumber", NULL, "with --import: records get the LSNs that come next in this log" },
    { OPTION_PRINT_LSN, "print-lsn", NULL, "print each record's LSN once the record is durable" },
    { OPTION_CONFIRM, "confirm", "WORD",
      "print WORD when the log is open, and for each record when it is durable: what rsyslog's omprog wants, where "
      "WORD is OK" },
    { OPTION_MAPPED, "mapped", NULL,
      "copy the lines into a mapped file, at the speed of memory, and make all of them durable once, "
      "at the end: a power cut before costs the newest ones. --print-lsn then says that a record "
      "survives this process, not the power" },
    { OPTION_SHARED, "shared", NULL,
      "the same, and other processes may append to the log at the same time, all of them with this "
      "option; without it, one process has the log. --max-record and --segment are those of the first "
      "one" },
    { OPTION_LONG, "long", "refuse|split|cut",
      "a line above --max-record: end with an error (default); make several records of it; or keep its "
      "beginning with ' [cut]' behind it" },
    { OPTION_LINGER, "linger", "T", LINGER_HELP },
    { OPTION_WAIT, "wait", "T",
      "if another process writes the log, wait so long for its end (default: fail at once)" },
    { OPTION_QUIET, "quiet", NULL, "print neither progress nor notes, only errors" },
    LOG_OPTIONS,
    COMMON_OPTIONS,
};

static const char notes[] =
    "BYTES may end in K, M or G. SIGINT and SIGTERM: a file is read no further; of a pipe\n"
    "what still comes, as --linger says; all of it is made durable, and the process ends by\n"
    "that signal. SIGHUP means nothing where the input is a pipe. If standard output\n"
    "fails under --print-lsn, the input is still appended to its end.\n"
    "\n"
    "Exit status: 0 every record is durable; 1 an operation failed (the message names\n"
    "the last durable LSN); 2 wrong usage; 3 acknowledged data in the log is damaged; 6 no\n"
    "space; 7 refused: another process has the log, or it cannot be written as it is.\n"
    "\n"
    "Examples: record a program's output, one record for each line, and keep the LSNs;\n"
    "and that of several programs in one log\n"
    "  make 2>&1 | twinlog append build.log --print-lsn >lsns\n"
    "  for n in 1 2 3; do ./worker $n | twinlog append all --shared & done\n";

#define DEFAULT_MAX_RECORD_BYTES (4u << 20) /* the library's default */
#define FLUSH_MS 1000u /* while nobody waits for the records, because the reader of the LSNs is slow */

/* Records that are given to the log in one call, at most: a call costs as much as some records. */
#define GROUP_RECORDS 128u
#define GROUP_BYTES (64u << 10)

struct group {
    struct twinlog_entry entries[GROUP_RECORDS];
    uint32_t count;
    size_t bytes;
    uint64_t first; /* number in the input of the first one */
};

/* Records with consecutive LSNs. */
struct run {
    uint64_t first, last;
};

/* LSNs that the reading thread gives to the acknowledging thread. */
#define BATCH_RUNS 500
struct batch {
    struct batch *next;
    size_t count; /* of runs, at least 1 once it is given */
    struct run runs[BATCH_RUNS];
};

struct append {
    const char *dir;
    struct twinlog *log;
    uint32_t mode;            /* [const] */
    bool prints_lsn;          /* [const] */
    bool shows_progress;      /* [const] */
    bool is_quiet;            /* [const] */
    uint64_t started_ns;      /* [const] */
    const char *confirmation; /* [const] printed in place of LSNs; NULL = none */

    /* [reading thread] */
    struct input input;
    struct group group;   /* records that were read, and not given to the log yet */
    uint64_t refused;     /* number in the input of the record that the log has refused; 0 = none */
    struct batch *batch;  /* being filled; NULL = the next record needs one */
    struct run accepted;  /* the first and the newest LSN of this run; 0 and 0 = none */
    struct import import; /* if the input is an export */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch *given;  /* [lock] batches to become safe: durable, or written if the log is mapped */
    struct batch *newest; /* [lock] the last of them; NULL = there is none */
    bool is_ended;        /* [lock] no more batches come */

    /* [acknowledging thread until it was joined] */
    uint64_t safe; /* number of safe records */
    int error;     /* that kept the next record from becoming safe */
    bool has_output_failed;

    bool is_stopped; /* a signal ended the reading */
};

/* ---- the acknowledging thread ----------------------------------------------------------------- */

/* Waits for batches and takes all that were given; NULL after the last one. */
static struct batch *wait_for_batches(struct append *append)
{
    pthread_mutex_lock(&append->lock);
    while (!append->given && !append->is_ended)
        pthread_cond_wait(&append->changed, &append->lock);
    struct batch *batches = append->given;
    append->given = NULL;
    append->newest = NULL;
    pthread_mutex_unlock(&append->lock);
    return batches;
}

static void free_batches(struct batch *batches)
{
    while (batches) {
        struct batch *next = batches->next;
        free(batches);
        batches = next;
    }
}

static void print_run(struct append *append, const struct run *run)
{
    for (uint64_t lsn = run->first; lsn <= run->last && !append->has_output_failed; lsn++) {
        int written;
        if (append->confirmation)
            written = printf("%s\n", append->confirmation);
        else
            written = printf("%" PRIu64 "\n", lsn);
        append->has_output_failed = written < 0;
    }
}

/* Counts the records up to that LSN, and prints their LSNs into the buffer of stdout. */
static void acknowledge_batch(struct append *append, const struct batch *batch, uint64_t safe_lsn)
{
    for (size_t i = 0; i < batch->count && batch->runs[i].first <= safe_lsn; i++) {
        struct run run = batch->runs[i];
        if (run.last >= safe_lsn)
            run.last = safe_lsn;
        append->safe += run.last - run.first + 1;
        if (append->prints_lsn)
            print_run(append, &run);
    }
}

static void acknowledge_batches(struct append *append, const struct batch *batches, uint64_t safe_lsn)
{
    bool had_failed = append->has_output_failed;

    for (const struct batch *batch = batches; batch; batch = batch->next)
        acknowledge_batch(append, batch, safe_lsn);
    if (append->prints_lsn && !append->has_output_failed)
        append->has_output_failed = fflush(stdout) != 0;
    if (append->has_output_failed && !had_failed)
        output_error();
}

static void report_progress(const struct append *append)
{
    uint64_t elapsed_ns = monotonic_ns() - append->started_ns;

    show_progress("%" PRIu64 " records %s, %.0f/s", append->safe,
                  is_mapped_mode(append->mode) ? "written" : "durable",
                  (double)append->safe * 1e9 / (double)(elapsed_ns + 1));
}

static uint64_t newest_lsn(const struct batch *batches)
{
    while (batches->next)
        batches = batches->next;
    return batches->runs[batches->count - 1].last;
}

static void *acknowledge(void *argument)
{
    struct append *append = argument;
    struct batch *batches = NULL;

    while (!append->error && (batches = wait_for_batches(append))) {
        uint64_t safe_lsn = newest_lsn(batches);
        if (!is_mapped_mode(append->mode)) /* else they are written, which is enough */
            append->error = twinlog_wait(append->log, safe_lsn, TWINLOG_LEVEL_DURABLE, 0);
        if (append->error) { /* some of the records may be durable */
            safe_lsn = twinlog_durable_lsn(append->log);
            stop_request(); /* else the reading thread would wait for input that cannot be kept */
        }

        acknowledge_batches(append, batches, safe_lsn);
        free_batches(batches);
        if (append->shows_progress && is_progress_due())
            report_progress(append);
    }

    return NULL;
}

/* ---- the reading thread ----------------------------------------------------------------------- */

/* There is room for one more run. */
static void add_run(struct batch *batch, const struct run *run)
{
    if (batch->count > 0 && batch->runs[batch->count - 1].last + 1 == run->first)
        batch->runs[batch->count - 1].last = run->last;
    else
        batch->runs[batch->count++] = *run;
}

/* [lock] Into the newest one, which was not taken yet, if that has room: then this one is empty again. */
static bool join_newest(struct append *append)
{
    struct batch *newest = append->newest;
    struct batch *batch = append->batch;

    if (!newest || newest->count + batch->count > BATCH_RUNS)
        return false;

    for (size_t i = 0; i < batch->count; i++)
        add_run(newest, &batch->runs[i]);
    batch->count = 0;
    return true;
}

/* [lock] */
static void put_batch(struct append *append)
{
    if (join_newest(append))
        return;

    if (append->newest)
        append->newest->next = append->batch;
    else
        append->given = append->batch;
    append->newest = append->batch;
    append->batch = NULL;
}

static void give_batch(struct append *append, bool is_ended)
{
    pthread_mutex_lock(&append->lock);
    if (append->batch && append->batch->count > 0)
        put_batch(append);
    append->is_ended = is_ended;
    pthread_cond_signal(&append->changed);
    pthread_mutex_unlock(&append->lock);
}

/* Called before a record is appended, so that there is a place for its LSN. */
static int make_room(struct append *append)
{
    if (append->batch && append->batch->count == BATCH_RUNS)
        give_batch(append, false);
    if (!append->batch)
        append->batch = calloc(1, sizeof(*append->batch));
    if (append->batch)
        return 0;
    return -ENOMEM;
}

static void keep_lsns(struct append *append, uint64_t first, uint64_t last)
{
    const struct run run = { first, last };

    add_run(append->batch, &run);
    if (!append->accepted.first)
        append->accepted.first = first;
    append->accepted.last = last;
}

static int append_record(struct append *append, const struct twinlog_entry *entry)
{
    uint64_t lsn = 0;
    int error = make_room(append);

    if (!error && append->input.framing == FRAMING_EXPORT)
        error = import_record(&append->import, entry, &lsn);
    else if (!error)
        error = twinlog_enqueue(append->log, entry->data, entry->size, &lsn);
    if (!error && lsn)
        keep_lsns(append, lsn, lsn);
    return error;
}

/* Where the log does not take the group as a whole, on a full disk for example, it may take some of the records. */
static int append_one_by_one(struct append *append)
{
    const struct group *group = &append->group;
    int error = 0;

    for (uint32_t i = 0; i < group->count && !error; i++) {
        error = append_record(append, &group->entries[i]);
        if (error)
            append->refused = group->first + i;
    }

    return error;
}

static int append_together(struct append *append)
{
    static const struct twinlog_terms buffered = { .size = sizeof(buffered),
                                                   .level = TWINLOG_LEVEL_BUFFERED };
    const struct group *group = &append->group;
    uint64_t lsn = 0;
    int error = make_room(append);

    if (!error)
        error = twinlog_append_batch(append->log, group->entries, group->count, &buffered, &lsn);
    if (!error)
        keep_lsns(append, lsn, lsn + group->count - 1);
    return error;
}

/* Gives the log what was read. */
static int append_group(struct append *append)
{
    struct group *group = &append->group;
    int error = 0;

    if (group->count == 0)
        return 0;
    if (group->count == 1 || append_together(append) < 0)
        error = append_one_by_one(append);
    group->count = 0;
    group->bytes = 0;
    return error;
}

/* A record that was read. An imported one is given to the log at once: it is compared with what the log has. */
static int add_record(struct append *append, const struct twinlog_entry *entry)
{
    struct group *group = &append->group;
    int error = 0;

    if (group->count == GROUP_RECORDS || group->bytes + entry->size > GROUP_BYTES)
        error = append_group(append);
    if (error)
        return error;
    if (group->count == 0)
        group->first = append->input.records;
    group->entries[group->count++] = *entry;
    group->bytes += entry->size;
    if (append->input.framing == FRAMING_EXPORT)
        return append_group(append);
    return 0;
}

/* Appends the records that were read: 0, or the log's error. Sets *ret_read_error for what the input is wrong in. */
static int append_what_is_read(struct append *append, int *ret_read_error)
{
    struct twinlog_entry entry;

    for (;;) {
        const int found = input_next(&append->input, &entry);
        if (found < 0)
            *ret_read_error = found;
        if (found <= 0)
            break;

        const int error = add_record(append, &entry);
        if (error)
            return error;
    }

    const int error = append_group(append);
    if (error)
        return error;
    if (append->batch && append->batch->count)
        give_batch(append, false);
    return 0;
}

/* Reads the input to its end. Sets *ret_read_error for the input, returns the log's error. */
static int read_and_append(struct append *append, int *ret_read_error)
{
    bool has_more = true;
    int error = 0;

    *ret_read_error = 0;
    while (has_more) {
        error = append_what_is_read(append, ret_read_error);
        if (error || *ret_read_error)
            break;

        const int filled = input_fill(&append->input);
        if (filled < 0)
            *ret_read_error = filled;
        has_more = filled > 0;
    }

    if (!error && !*ret_read_error && append->input.framing == FRAMING_EXPORT)
        error = import_end(&append->import);
    give_batch(append, true);
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
    else if (error == -EBADMSG && append->input.framing == FRAMING_EXPORT)
        complain("standard input is no export of 'twinlog cat --export', or not all of one: after %" PRIu64
                 " record%s, at byte %" PRIu64 ". The rest was not appended.",
                 records, plural(records), append->input.offset);
    else if (error == -EBADMSG)
        complain("standard input ends in the middle of record %" PRIu64 ", which begins at byte %" PRIu64
                 ". It was not appended.",
                 records + 1, append->input.offset);
    else if (error == -ECANCELED)
        complain("stopped by signal %d (%s) after %" PRIu64 " %s%s. The rest was not appended.",
                 stop_signal(), strsignal(stop_signal()), records, record_word(append), plural(records));
    else
        complain("cannot read standard input after %" PRIu64 " %s%s: %s. The rest was not appended.", records,
                 record_word(append), plural(records), twinlog_strerror(error));
}

/* The durable LSNs of this run. In a shared log, records of other processes may lie between them. */
static struct run durable_run(const struct append *append, uint64_t durable)
{
    struct run run = append->accepted;

    if (run.last >= durable)
        run.last = durable;
    return run;
}

static const char *between(const struct append *append)
{
    return append->mode == TWINLOG_MODE_SHARED ? ", with those of others between them" : "";
}

static void complain_durable(const struct append *append, uint64_t durable)
{
    struct run run = durable_run(append, durable);
    char lsns[LSNS_TEXT_BYTES];

    describe_lsns(lsns, run.first, run.last);
    if (run.first && run.first == run.last)
        complain("%s of this run is durable.", lsns);
    else if (run.first && run.first < run.last)
        complain("%s of this run are durable%s.", lsns, between(append));
    else
        complain("No record of this run is known to be durable.");
}

static const char after_failure[] =
    "What else was read may be there or not: 'twinlog stat DIR' shows the last LSN. Append the rest then.";

/* For when the log refused a record, and all accepted records are durable. */
static void complain_refused(const struct append *append)
{
    complain("%s %" PRIu64 " of the input was not appended, nor was what comes after it.",
             record_word(append), append->refused);
}

/* Closes the log and reports what went wrong, if anything. */
static int finish(struct append *append, int append_error, int read_error)
{
    uint64_t durable = twinlog_durable_lsn(append->log);
    bool is_other = append_error == OTHER_HISTORY || append_error == UNPROVED_HISTORY;

    if (is_other)
        import_complain(&append->import, append_error);
    int close_error = twinlog_close(append->log);
    int error = append->error;
    int status = STATUS_FINE;

    bool is_out_of_order = append_error == -ERANGE && append->input.framing == FRAMING_EXPORT;
    if (!error && append_error != -EMSGSIZE && !is_out_of_order && !is_other)
        error = append_error;
    if (!error)
        error = close_error;
    if (error) {
        const bool is_removed = close_error == -ESTALE; /* all of it is gone with the directory */
        fail("append to", append->dir, is_removed ? close_error : error, NULL, NULL);
        status = status_of_writer(error);
        if (is_removed)
            return status;
        complain_durable(append, durable);
        if (append->error || close_error)
            complain("%s", after_failure);
        else if (append->refused)
            complain_refused(append);
        return status;
    }

    if (append_error == -EMSGSIZE)
        complain_too_large(append, append->refused);
    else if (is_out_of_order)
        import_complain(&append->import, append_error);
    else if (read_error)
        complain_input(append, read_error);
    if (is_other)
        status = STATUS_FAILED;
    else if (append_error || read_error) {
        complain_durable(append, durable);
        status = STATUS_FAILED;
    }

    if (append->has_output_failed) {
        struct run run = durable_run(append, durable);
        char lsns[LSNS_TEXT_BYTES];
        describe_lsns(lsns, run.first, run.last);
        complain("Not all LSNs were printed, but the records are durable: %s%s.", lsns,
                 run.first == run.last ? "" : between(append));
        status = STATUS_FAILED;
    }

    return status;
}

static int copy_input(struct append *append)
{
    pthread_t acknowledger;
    int read_error = 0;

    append->started_ns = monotonic_ns();
    int error = pthread_create(&acknowledger, NULL, acknowledge, append);
    if (error) {
        twinlog_close(append->log);
        complain("cannot start a thread: %s", strerror(error));
        return STATUS_FAILED;
    }

    error = read_and_append(append, &read_error);
    pthread_join(acknowledger, NULL);
    free_batches(append->given);
    free(append->batch);
    if (is_mapped_mode(append->mode) && !append->error)
        append->error = twinlog_sync(append->log);
    clear_progress();

    const bool has_failed = append->error || error || (read_error && read_error != -ECANCELED);
    append->is_stopped = stop_signal() && !has_failed;
    if (append->input.long_lines > 0 && !append->is_quiet)
        complain("note: %" PRIu64 " line%s of the input %s above the largest record, and %s.",
                 append->input.long_lines, plural(append->input.long_lines),
                 append->input.long_lines == 1 ? "was" : "were",
                 append->input.long_policy == LONG_CUT ? "cut" : "split");
    return finish(append, error, read_error);
}

/* What else to do about another writer; NULL if there is none, or all share the log. */
static const char *advise_busy(const struct append *append)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    bool does_share = append->mode == TWINLOG_MODE_SHARED;

    if (twinlog_inspect(append->dir, &inspection) || !inspection.has_writer)
        return NULL;
    if (inspection.mode != TWINLOG_MODE_SHARED && !does_share)
        return "Or let it wait with --wait, or use --shared in both processes.";
    if (inspection.mode == TWINLOG_MODE_SHARED && does_share)
        return NULL;
    if (does_share)
        return "Or let that process use --shared, too.";
    return "Other processes share it: use --shared here, too, or wait until all of them have closed it.";
}

static int open_log(struct append *append, struct twinlog_options *options)
{
    struct twinlog_report report = { 0 };

    options->ret_report = &report;
    int error = twinlog_open(append->dir, options, &append->log);
    if (error) {
        const char *advice = NULL;
        if (error == -EBUSY)
            advice = advise_busy(append);
        fail("open the log", append->dir, error, &report, advice);
        return status_of_writer(error);
    }

    if (report.action == TWINLOG_DID_TRUNCATE && !append->is_quiet)
        complain("note: %s", report.text);
    if (append->input.framing == FRAMING_EXPORT)
        error = import_begin(&append->import, append->log, &append->input);
    if (error) {
        twinlog_close(append->log);
        return fail("read the value 'import' of", append->dir, error, NULL, NULL);
    }

    return STATUS_FINE;
}

static enum framing framing_of(int option)
{
    if (option == OPTION_NUL)
        return FRAMING_NUL;
    if (option == OPTION_FRAMED)
        return FRAMING_LENGTH;
    return FRAMING_EXPORT;
}

static uint32_t take_wait_ms(void)
{
    int64_t ms = take_duration("--wait") / 1000000;

    if (ms < UINT32_MAX)
        return (uint32_t)ms;
    return UINT32_MAX;
}

static void check_confirmation(struct append *append, const struct twinlog_options *options)
{
    if (append->prints_lsn && append->confirmation)
        usage_error("--print-lsn and --confirm exclude each other");
    if (append->confirmation && is_mapped_mode(options->mode))
        usage_error("--confirm excludes --mapped and --shared: nothing is durable there before the end");
    append->prints_lsn = append->prints_lsn || append->confirmation;
}

static void begin_service(const struct append *append)
{
    notify("READY=1\nSTATUS=Appends its input.");
    if (append->confirmation) {
        printf("%s\n", append->confirmation);
        fflush(stdout);
    }
}

static void check_import(const struct import *import, enum framing framing, uint32_t mode)
{
    const bool is_import = framing == FRAMING_EXPORT;
    const bool keeps_lsns = is_import && !import->renumbers;

    if (is_import && is_mapped_mode(mode))
        usage_error("--import excludes --mapped and --shared");
    if (import->renumbers && !is_import)
        usage_error("--renumber is for --import");
    if (import->rewinds && !keeps_lsns)
        usage_error("--rewind is for --import without --renumber");
    if (import->is_vouched_for && !keeps_lsns)
        usage_error("--same-history is for --import without --renumber");
}

static int append_run(const struct command *command, int argc, char **argv)
{
    struct append append = { .lock = PTHREAD_MUTEX_INITIALIZER,
                             .changed = PTHREAD_COND_INITIALIZER,
                             .input.intake = INTAKE_INIT };
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    enum framing framing = FRAMING_LINES;
    uint32_t wait_ms = 0;
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (take_log_option(value, &options))
            continue;
        if (value == OPTION_PRINT_LSN)
            append.prints_lsn = true;
        else if (value == OPTION_CONFIRM)
            append.confirmation = optarg;
        else if (value == OPTION_RENUMBER)
            append.import.renumbers = true;
        else if (value == OPTION_REWIND)
            append.import.rewinds = true;
        else if (value == OPTION_SAME_HISTORY)
            append.import.is_vouched_for = true;
        else if (value == OPTION_QUIET)
            append.is_quiet = append.import.is_quiet = true;
        else if (value == OPTION_WAIT)
            wait_ms = take_wait_ms();
        else if (value == OPTION_LINGER)
            append.input.intake.linger_ms = take_linger_ms();
        else if (value == OPTION_LONG)
            append.input.long_policy = (enum long_policy)take_word("--long");
        else if (framing != FRAMING_LINES)
            usage_error("--null, --framed and --import exclude each other");
        else
            framing = framing_of(value);
    }

    check_log_options(&options);
    check_confirmation(&append, &options);
    check_import(&append.import, framing, options.mode);
    if (wait_ms)
        options.lock_timeout_ms = wait_ms;
    append.dir = take_directory(argc, argv);
    append.mode = options.mode;
    if (append.prints_lsn && !is_mapped_mode(append.mode))
        options.flush_interval_ms = FLUSH_MS;
    const bool prints_to_terminal = append.prints_lsn && isatty(STDOUT_FILENO);
    append.shows_progress = !append.is_quiet && !isatty(STDIN_FILENO) && !prints_to_terminal;

    if (append.input.long_policy != LONG_REFUSE && framing != FRAMING_LINES && framing != FRAMING_NUL)
        usage_error("--long is for lines, and with --null");
    if (intake_is_pipe())
        signal(SIGHUP, SIG_IGN); /* the end of its writers is the end of the input */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */

    uint32_t max_record_bytes = DEFAULT_MAX_RECORD_BYTES;
    if (options.max_record_bytes)
        max_record_bytes = options.max_record_bytes;
    int error = input_init(&append.input, framing, max_record_bytes);
    if (error == 0)
        error = stop_on_signals();
    if (error)
        return fail_start(error);

    int status = open_log(&append, &options);
    if (status == STATUS_FINE)
        begin_service(&append);
    if (status == STATUS_FINE)
        status = copy_input(&append);
    input_free(&append.input);
    import_free(&append.import);
    if (append.is_stopped)
        stop_by_signal();
    if (append.has_output_failed)
        return status;
    return finish_output(status);
}

const struct command append_command = {
    .name = "append",
    .summary = "append standard input, one record for each line",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = append_run,
};
