/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups from one disk to another.
 *
 * The other disk crashes at each step: what it holds then is refused as a log, or it is all of one.
 * Meanwhile the log that is copied goes on, also by trims and truncations, so the copy must be equal to one
 * of its versions, from the moment when the backup began to the moment when the copy was finished.
 */
#include "crash.h"

#include "control/state.h"

#include <errno.h>
#include <inttypes.h>

enum {
    MAX_CALLS = 4, /* beside one backup */
    MAX_VERSIONS = MAX_CALLS + 1
};

/* The log at some moment. Where nothing was truncated since, its records are those of the machine's history. */
struct version {
    struct outlook outlook;
    const struct history *history;
};

struct copy {
    struct machine *machine;
    struct simdisk *disk;
    struct version version[MAX_VERSIONS];
    unsigned versions;
    struct history past[MAX_CALLS]; /* before each truncation */
    unsigned pasts;
    uint64_t least; /* durable when the backup began, or after the last truncation */
};

/* ---- versions ------------------------------------------------------------------------------------ */

/* What is durable, as far as another process can know. */
static uint64_t known_durable(const struct machine *machine)
{
    if (machine->may_hide)
        return machine->history.head - 1;
    return twinlog_durable_lsn(machine->log);
}

static void add_version(struct copy *copy)
{
    const struct machine *machine = copy->machine;
    const struct outlook outlook = { .head = machine->history.head,
                                     .least = copy->least,
                                     .names = machine->names };

    copy->version[copy->versions] = (struct version){ .outlook = outlook, .history = &machine->history };
    ++copy->versions;
}

void tell_copy(struct machine *machine)
{
    struct copy *copy = machine->copy;
    if (!copy)
        return;

    struct history *past = &copy->past[copy->pasts];
    ++copy->pasts;
    *past = history_copy(&machine->history);
    for (unsigned i = 0; i < copy->versions; ++i) {
        if (copy->version[i].history == &machine->history)
            copy->version[i].history = past;
    }
}

static void go_on_beside(struct copy *copy)
{
    const unsigned pasts_before = copy->pasts;

    work_beside_copy(copy->machine);
    const bool is_truncated = copy->pasts > pasts_before;
    if (is_truncated)
        copy->least = known_durable(copy->machine);
    add_version(copy);
}

/* ---- judging a copy ------------------------------------------------------------------------------ */

/* What a copy turned out to hold. */
struct found {
    uint64_t head, last;
    struct found_names names;
};

/* Has the copy the records of that version, from its head to `last`, and no others? */
static bool has_records(struct twinlog *log, const struct version *version, uint64_t head, uint64_t last,
                        const char **ret_why)
{
    struct twinlog_reader *reader = NULL;
    struct twinlog_record record;
    uint64_t next = head;

    int result = twinlog_reader_attach(log, NULL, &reader);
    if (result < 0)
        violation("a copy can't be read: %s", twinlog_strerror(result));
    while ((result = twinlog_reader_next(reader, &record)) == 1) {
        const bool is_next = record.lsn == history_next(version->history, next);
        if (!is_next || !history_knows(version->history, &record, ret_why))
            break;
        next = record.lsn + 1;
    }
    twinlog_reader_close(reader);

    const bool is_at_end = result == 0;
    return is_at_end && history_next(version->history, next) > last;
}

/* Retention may have moved it between two calls, or in front of a truncation. */
static bool has_head(const struct machine *machine, const struct version *version, uint64_t head)
{
    if (head == version->outlook.head)
        return true;
    if (!has_retention(machine))
        return false;
    return head > version->outlook.head && head <= version->history->head;
}

static bool has_end(const struct version *version, uint64_t last)
{
    return last >= version->outlook.least && last <= history_last(version->history);
}

static bool is_version(const struct copy *copy, struct twinlog *log, const struct version *version,
                       const struct found *found, const char **ret_why)
{
    struct names names = version->outlook.names;
    names_clamp(&names, found->head - 1, found->last);

    if (!has_head(copy->machine, version, found->head) || !has_end(version, found->last))
        return false;
    if (!names_match(&names, &found->names, ret_why))
        return false;
    return has_records(log, version, found->head, found->last, ret_why);
}

static void judge_copy(struct copy *copy, struct twinlog *log)
{
    const uint64_t first = twinlog_first_lsn(log);
    struct found found = { .head = first, .last = twinlog_last_lsn(log) };
    const char *why = "";
    const bool is_empty = first == 0;
    if (is_empty)
        found.head = found.last + 1;

    const int error = names_read(log, &found.names);
    if (error < 0)
        violation("the names of a copy can't be read: %s", twinlog_strerror(error));

    for (unsigned i = 0; i < copy->versions; ++i) {
        if (is_version(copy, log, &copy->version[i], &found, &why))
            return;
    }
    violation("a copy has LSN %" PRIu64 " to %" PRIu64 "; the log had LSN %" PRIu64 " to at least %" PRIu64
              " when the backup began, and %u versions since; %s",
              found.head, found.last, copy->version[0].outlook.head, copy->version[0].outlook.least,
              copy->versions, why);
}

/* A copy begins with an empty state file, durable before anything else is made, so that an interrupted one is
 * never taken for a new log. One that is given up ends with its removal. */
static bool has_begun(const struct copy *copy, struct simdisk *image)
{
    if (simdisk_has_file(image, STATE_NAME))
        return true;

    const bool has_removed = simdisk_count(copy->disk, SIM_UNLINK) > 0;
    const bool is_given_up = has_removed && !simdisk_has_file(copy->disk, STATE_NAME);
    return simdisk_count(copy->disk, SIM_CREATE) > 1 && !is_given_up;
}

static void append_to_copy(struct twinlog *log)
{
    uint64_t lsn = 0;
    const int result = twinlog_append(log, "copy", 4, &lsn);
    if (result < 0 || twinlog_last_lsn(log) != lsn)
        violation("a copy can't be appended to: %s", twinlog_strerror(result));
}

/* The copy is opened as it is: no retention of the log works on it. */
static struct twinlog_options options_of_copy(const struct machine *machine, struct twinlog_report *report)
{
    struct twinlog_options options = machine->options;
    options.ret_report = report;
    options.keep_age_ms = 0;
    options.keep_bytes = 0;
    options.keep_records = 0;
    return options;
}

/* Opens what a crash left of the copy. */
static void check_crash(struct copy *copy, enum simdisk_cut cut, bool is_complete)
{
    struct machine *machine = copy->machine;
    struct simdisk *image = simdisk_crash_image(copy->disk, cut, rng_next(&machine->rng));
    struct twinlog_report report = { 0 };
    const struct twinlog_options options = options_of_copy(machine, &report);
    struct twinlog *log = NULL;
    const bool is_begun = has_begun(copy, image);

    notice_progress(machine); /* retention works beside the backup */
    const int error = twl_log_open(simdisk_connect(image), &options, &log);
    ++totals.copy_images;
    if (error < 0 && is_complete)
        violation("a finished copy can't be opened: %s: %s", twinlog_strerror(error), report.text);

    if (error == 0) {
        const bool is_new = report.finding == TWINLOG_FOUND_NEW_LOG;
        if (is_new && is_begun)
            violation("an interrupted copy was taken for a new log");
        if (!is_new) {
            judge_copy(copy, log);
            append_to_copy(log);
        }
        if (twinlog_close(log) < 0)
            violation("a copy could not be closed");
    }
    simdisk_destroy(image);
}

/* ---- the backup ---------------------------------------------------------------------------------- */

static void copy_hook(void *context, enum simdisk_op op)
{
    static const enum simdisk_cut CUTS_OF_COPY[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM,
                                                     SIM_CUT_RANDOM };
    struct copy *copy = context;
    struct rng *rng = &copy->machine->rng;

    (void)op;
    check_crash(copy, CUTS_OF_COPY[rng_below(rng, 4)], false);
    if (copy->versions < MAX_VERSIONS && rng_one_in(rng, 8))
        go_on_beside(copy);
}

/* May a backup of that version have told that result? */
static bool may_tell(const struct copy *copy, const struct version *version,
                     const struct twinlog_backup_result *result)
{
    const bool is_empty = result->first_lsn == 0 && result->last_lsn == 0;
    if (is_empty)
        return version->outlook.head > version->outlook.least;
    return has_head(copy->machine, version, result->first_lsn) && has_end(version, result->last_lsn);
}

static bool is_possible(const struct copy *copy, const struct twinlog_backup_result *result)
{
    for (unsigned i = 0; i < copy->versions; ++i) {
        if (may_tell(copy, &copy->version[i], result))
            return true;
    }
    return false;
}

static void check_result(const struct copy *copy, const struct twinlog_backup_result *result)
{
    if (!is_possible(copy, result) || result->segments == 0)
        violation("a backup says that it has %u segments with LSN %" PRIu64 " to %" PRIu64, result->segments,
                  result->first_lsn, result->last_lsn);
}

static void finish(struct copy *copy, int result, const struct twinlog_backup_result *details)
{
    if (result == -EBUSY && copy->versions > 1)
        return;
    if (result < 0)
        violation("a backup failed: %s", twinlog_strerror(result));
    check_result(copy, details);
    check_crash(copy, SIM_CUT_NONE, true);
    check_crash(copy, SIM_CUT_RANDOM, true);
    ++totals.copies;
}

void back_up(struct machine *machine)
{
    const struct simdisk_options disk = { .seed = rng_next(&machine->rng),
                                          .clock_ns = simdisk_clock(machine->disk),
                                          .has_direct = true,
                                          .is_sealed_final = true };
    struct copy copy = { .machine = machine, .disk = simdisk_create(&disk), .least = known_durable(machine) };
    const struct twinlog_backup_options options = TWINLOG_BACKUP_OPTIONS_INIT;
    struct twinlog_backup_result result = TWINLOG_BACKUP_RESULT_INIT;

    machine->copy = &copy;
    add_version(&copy);
    simdisk_set_hook(copy.disk, copy_hook, &copy);
    const int error =
        twl_backup(simdisk_connect(machine->disk), simdisk_connect(copy.disk), &options, &result);
    simdisk_set_hook(copy.disk, NULL, NULL);

    finish(&copy, error, &result);
    machine->copy = NULL;
    for (unsigned i = 0; i < copy.pasts; ++i)
        history_free(&copy.past[i]);
    simdisk_destroy(copy.disk);
}
