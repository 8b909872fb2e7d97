/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog trim: removes records from the head of a log, by any of several limits, or from its end. */
#define _GNU_SOURCE
#include "json.h"
#include "opening.h"
#include "options.h"
#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <twinlog_admin.h>

#define WRITER_WAIT_MS 30000

static const char about[] =
    "Usage: twinlog trim DIR LIMIT... [options]\n"
    "\n"
    "Removes records for good from the log in DIR. From the head, also beside the log's writer,\n"
    "which then does it within a second; with several limits, the one that removes most counts:\n";

static const struct option_row option_rows[] = {
    { OPTION_BEFORE, "before", "LSN", "records with a smaller LSN" },
    { OPTION_KEEP_BYTES, "keep-bytes", "BYTES",
      "whole segments, as long as so many bytes are left without them" },
    { OPTION_KEEP_RECORDS, "keep-records", "N", "all but the newest N LSNs" },
    { OPTION_KEEP_TIME, "keep-time", "T", "whole segments with records that are all older than T" },
    { OPTION_PAST_CURSORS, "past-cursors", NULL,
      "also what named cursors hold; those are moved to the new head" },
    HEADING("From the end, alone, and while no process writes the log:"),
    { OPTION_AFTER, "after", "LSN", "records with a larger LSN; the next one appended gets LSN + 1" },
    HEADING("Options:"),
    { OPTION_DRY_RUN, "dry-run", NULL,
      "change nothing, and say what would be removed; another process may be writing the log" },
    { OPTION_ALWAYS, "always", NULL,
      "also keep these limits in the log, as values: a writer without such limits of its own "
      "removes so much from then on" },
    { OPTION_NO_WAIT, "no-wait", NULL, "do not wait until the log's writer has removed them" },
    { OPTION_JSON, "json", NULL, "one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "T is a number and a unit: 90s, 15m, 12h, 7d. Numbers may end in K, M or G. Space is\n"
    "freed by whole segments, and up to four of them are not removed beside a writer, which\n"
    "writes over them: they show as retired in 'twinlog stat'. What a named cursor has not\n"
    "passed is kept, and so is a segment with a record that is kept: the answer says which\n"
    "cursor holds how much, or which segment stays. 'twinlog stat' shows the limits of a log,\n"
    "and 'twinlog meta DIR --remove twinlog.keep_bytes' (or _records, _age_ms) ends one.\n"
    "\n"
    "Exit status: 0 fine, also when there was nothing to remove or something is held;\n"
    "1 an operation failed; 2 wrong usage; 3 acknowledged data is damaged.\n"
    "\n"
    "Example: what would go to keep one week, and not more than 10 GiB?\n"
    "  twinlog trim /var/lib/orders/log --keep-time 7d --keep-bytes 10G --dry-run\n";

struct trim {
    const char *dir;
    struct twinlog *log;
    bool is_json;
    bool is_dry_run;
    bool is_always;
    bool does_not_wait;
    bool has_limit; /* for trimming the head */
    struct twinlog_trim_options options;
    uint64_t keep_age_ms; /* the same as before_time_ns, for every later trim */
    bool is_cut;          /* --after */
    uint64_t after_lsn;
};

/* ---- the head --------------------------------------------------------------------------------- */

static const char *holder_word(uint32_t holder)
{
    switch (holder) {
    case TWINLOG_HELD_BY_CURSOR:
        return "cursor";
    case TWINLOG_HELD_BY_SEGMENT:
        return "segment";
    default:
        return "nothing";
    }
}

static void print_removed(const struct trim *trim, const struct twinlog_trim_result *result, bool is_empty)
{
    char bytes[BYTES_TEXT_BYTES];

    describe_bytes(bytes, result->removed_bytes);
    if (result->removed_records || result->removed_segments)
        printf("%s %" PRIu64 " record%s and %" PRIu64 " segment%s, %s.",
               trim->is_dry_run ? "Would remove" : "Removed", result->removed_records,
               plural(result->removed_records), result->removed_segments, plural(result->removed_segments),
               bytes);
    else
        printf("Nothing %s removed.", trim->is_dry_run ? "would be" : "was");
    if (is_empty)
        printf(" The log %s empty; the next record %s LSN %" PRIu64 ".\n",
               trim->is_dry_run ? "would be" : "is", trim->is_dry_run ? "would get" : "gets",
               result->first_lsn);
    else
        printf(" The log %s at LSN %" PRIu64 ".\n", trim->is_dry_run ? "would begin" : "begins",
               result->first_lsn);
}

static void print_segment(const struct twinlog_segment *segment)
{
    char bytes[BYTES_TEXT_BYTES];
    char lsns[LSNS_TEXT_BYTES];

    describe_bytes(bytes, segment->file_bytes);
    describe_lsns(lsns, segment->first_lsn, segment->last_lsn);
    printf("%s: %s, %s\n", segment->file, segment->last_lsn ? lsns : "no record", bytes);
}

/* Records of the log from that one on. */
static uint64_t count_from(const char *dir, uint64_t lsn)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;

    if (twinlog_inspect(dir, &log) < 0 || log.last_lsn < lsn)
        return 0;
    return log.last_lsn - lsn + 1;
}

/* Limits that stay remove the rest when the cursor has passed it. The head is just behind the cursor. */
static void print_cursor(const struct trim *trim, const struct twinlog_trim_result *result)
{
    char bytes[BYTES_TEXT_BYTES];
    char name[TWINLOG_NAME_BYTES];

    describe_bytes(bytes, result->held_bytes);
    describe_name(name, result->holder_name);
    if (!trim->is_always) {
        printf("Cursor '%s' holds the rest, %s in whole segments: move it ('twinlog cursors'), or use "
               "--past-cursors.\n",
               name, bytes);
        return;
    }

    printf("Cursor '%s' holds the rest, %s in whole segments", name, bytes);
    const uint64_t behind = count_from(trim->dir, result->first_lsn);
    if (behind > 0) /* 0: the log could not be looked at */
        printf(": it is %" PRIu64 " record%s behind", behind, plural(behind));
    printf(".\n");
}

static void print_holder(const struct trim *trim, const struct twinlog_trim_result *result)
{
    if (result->holder == TWINLOG_HELD_BY_CURSOR)
        print_cursor(trim, result);
    else if (result->holder == TWINLOG_HELD_BY_SEGMENT)
        printf("Segment file %s stays until the last of its records is removed.\n", result->holder_name);
}

static void print_json(const struct trim *trim, const struct twinlog_trim_result *result)
{
    json_begin_object(NULL);
    if (trim->is_dry_run)
        json_boolean("is_dry_run", true);
    json_number("first_lsn", result->first_lsn);
    json_number("removed_records", result->removed_records);
    json_number("removed_segments", result->removed_segments);
    json_number("removed_bytes", result->removed_bytes);
    json_text("held_by", holder_word(result->holder));
    json_bytes("holder", result->holder_name, strlen(result->holder_name));
    json_number("held_bytes", result->held_bytes);
    json_end_object();
    json_end_line();
}

static int show(const struct trim *trim, const struct twinlog_trim_result *result, bool is_empty)
{
    if (trim->is_json) {
        print_json(trim, result);
    } else {
        print_removed(trim, result, is_empty);
        print_holder(trim, result);
    }

    return STATUS_FINE;
}

static int trim_front(const struct trim *trim)
{
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;

    int error = twinlog_trim(trim->log, &trim->options, &result);
    if (error)
        return fail("trim", trim->dir, error, NULL, NULL);
    return show(trim, &result, twinlog_first_lsn(trim->log) == 0);
}

/* What a trim of the head would do. The log may be written by another process. */
static int plan_trim(const struct trim *trim, struct twinlog_trim_result *ret_result, bool *ret_is_empty)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;

    int error = twinlog_inspect(trim->dir, &log);
    if (error)
        return fail("look at the log", trim->dir, error, &log.report, NULL);
    if (log.report.error < 0)
        return fail("open the log", trim->dir, log.report.error, &log.report, NULL);

    error = twinlog_plan_trim(trim->dir, &trim->options, ret_result);
    if (error)
        return fail("look at the segments of", trim->dir, error, NULL, NULL);

    *ret_is_empty = ret_result->first_lsn > log.last_lsn;
    return STATUS_FINE;
}

/* For twinlog_segments(): prints so many of those that it lists first. */
static int print_while_left(void *context, const struct twinlog_segment *segment)
{
    uint64_t *left = context;

    if (*left == 0)
        return 0;
    (*left)--;
    print_segment(segment);
    return 0;
}

static int plan_front(const struct trim *trim)
{
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    bool is_empty = false;

    const int status = plan_trim(trim, &result, &is_empty);
    if (status != STATUS_FINE)
        return status;

    uint64_t left = trim->is_json ? 0 : result.removed_segments;
    int error = 0;
    if (left > 0)
        error = twinlog_segments(trim->dir, print_while_left, &left);
    if (error)
        return fail("list the segments of", trim->dir, error, NULL, NULL);
    return show(trim, &result, is_empty);
}

/* The writer of the log removes them. -ESRCH: there is none. */
static int ask_writer(const struct trim *trim, int *ret_status)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog_trim_result result = TWINLOG_TRIM_RESULT_INIT;
    bool is_empty = false;

    *ret_status = plan_trim(trim, &result, &is_empty);
    if (*ret_status != STATUS_FINE)
        return 0;
    if (result.removed_records + result.removed_segments == 0) {
        *ret_status = show(trim, &result, is_empty);
        return 0;
    }

    options.before_lsn = result.first_lsn;
    options.flags = trim->options.flags;
    const uint64_t kept_lsn = result.first_lsn - result.removed_records;
    const int wait_ms = trim->does_not_wait ? 0 : WRITER_WAIT_MS;
    int error = twinlog_ask_trim(trim->dir, &options, wait_ms, &result.first_lsn);
    if (error == -ESRCH)
        return error;
    if (error == -ETIMEDOUT && trim->does_not_wait) {
        complain("note: the writer of the log removes them within a second");
        error = 0;
    }

    result.removed_records = result.first_lsn - kept_lsn;
    if (error == 0) {
        *ret_status = show(trim, &result, is_empty);
        return 0;
    }

    const char *advice = NULL;
    if (error == -ETIMEDOUT)
        advice = "The writer has not answered in 30 s; it removes them when it goes on.";
    *ret_status = fail("trim", trim->dir, error, NULL, advice);
    return error;
}

static bool has_writer(const char *dir)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;

    return twinlog_inspect(dir, &log) == 0 && log.has_writer;
}

/* ---- every later trim -------------------------------------------------------------------------- */

static int set_limit(struct twinlog *log, const char *name, uint64_t limit)
{
    char digits[24];

    int bytes = snprintf(digits, sizeof(digits), "%" PRIu64, limit);
    if (limit)
        return twinlog_meta_set(log, name, digits, (size_t)bytes);
    return 0;
}

static int set_limits(const struct trim *trim)
{
    struct twinlog *log = NULL;

    int status = open_beside_writer(trim->dir, &log);
    if (status != STATUS_FINE)
        return status;

    int error = set_limit(log, TWINLOG_KEEP_BYTES, trim->options.keep_bytes);
    if (error == 0)
        error = set_limit(log, TWINLOG_KEEP_RECORDS, trim->options.keep_records);
    if (error == 0)
        error = set_limit(log, TWINLOG_KEEP_AGE_MS, trim->keep_age_ms);
    if (error)
        status = fail("set the limits of", trim->dir, error, NULL, NULL);
    else if (!trim->is_json)
        printf("The log keeps these limits from now on.\n");
    return close_log(log, trim->dir, status);
}

/* ---- the end ----------------------------------------------------------------------------------- */

static int fail_cut(const struct trim *trim, int error, uint64_t first_lsn)
{
    char advice[160];

    if (error != TWINLOG_ETRIMMED)
        return fail("truncate", trim->dir, error, NULL, NULL);
    if (first_lsn == 0)
        return fail("truncate", trim->dir, error, NULL,
                    "The log is empty; 'twinlog reset' begins it anew at any LSN.");

    snprintf(advice, sizeof(advice),
             "The log begins at LSN %" PRIu64 ", so --after %" PRIu64
             " is the least; 'twinlog reset' begins it anew at any LSN.",
             first_lsn, first_lsn - 1);
    return fail("truncate", trim->dir, error, NULL, advice);
}

static uint64_t count_behind(uint64_t last_lsn, uint64_t after_lsn)
{
    if (last_lsn <= after_lsn)
        return 0;
    return last_lsn - after_lsn;
}

static int cut_end(const struct trim *trim)
{
    uint64_t first_lsn = twinlog_first_lsn(trim->log);
    uint64_t last_lsn = twinlog_last_lsn(trim->log);
    const uint64_t removed = count_behind(last_lsn, trim->after_lsn);

    int error = twinlog_truncate(trim->log, trim->after_lsn);
    if (error)
        return fail_cut(trim, error, first_lsn);

    report_removal(trim->is_json, false, removed, last_lsn - removed + 1);
    return STATUS_FINE;
}

static int plan_cut(const struct trim *trim)
{
    struct twinlog_inspection log = TWINLOG_INSPECTION_INIT;
    int error = twinlog_inspect(trim->dir, &log);

    if (!error)
        error = log.report.error;
    if (error)
        return fail("open the log", trim->dir, error, &log.report, NULL);

    const uint64_t removed = count_behind(log.last_lsn, trim->after_lsn);
    if (removed && (log.first_lsn == 0 || trim->after_lsn + 1 < log.first_lsn))
        return fail_cut(trim, TWINLOG_ETRIMMED, log.first_lsn);

    report_removal(trim->is_json, true, removed, log.last_lsn - removed + 1);
    return STATUS_FINE;
}

/* ---- the command ------------------------------------------------------------------------------- */

/* At least 1, because 0 would mean no limit; no record is older than the first nanosecond. */
/* It may be before 1970. */
static int64_t take_time_limit(struct trim *trim)
{
    const int64_t age_ns = take_duration("--keep-time");
    const int64_t time_ns = now_ns() - age_ns;

    trim->keep_age_ms = (uint64_t)age_ns / 1000000;
    if (time_ns == 0) /* which would be no limit */
        return 1;
    return time_ns;
}

static void take_limit(struct trim *trim, int value)
{
    trim->has_limit = true;
    if (value == OPTION_BEFORE)
        trim->options.before_lsn = take_number("--before", 1, UINT64_MAX);
    else if (value == OPTION_KEEP_BYTES)
        trim->options.keep_bytes = take_number("--keep-bytes", 1, UINT64_MAX);
    else if (value == OPTION_KEEP_RECORDS)
        trim->options.keep_records = take_number("--keep-records", 1, UINT64_MAX);
    else
        trim->options.before_time_ns = take_time_limit(trim);
}

static void take_options(struct trim *trim, const struct command *command, int argc, char **argv)
{
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_AFTER) {
            trim->is_cut = true;
            trim->after_lsn = take_number("--after", 0, INT64_MAX);
        } else if (value == OPTION_PAST_CURSORS) {
            trim->options.flags |= TWINLOG_TRIM_PAST_CURSORS;
        } else if (value == OPTION_DRY_RUN) {
            trim->is_dry_run = true;
        } else if (value == OPTION_ALWAYS) {
            trim->is_always = true;
        } else if (value == OPTION_NO_WAIT) {
            trim->does_not_wait = true;
        } else if (value == OPTION_JSON) {
            trim->is_json = true;
        } else {
            take_limit(trim, value);
        }
    }

    trim->dir = take_directory(argc, argv);
    if (trim->is_cut && (trim->has_limit || trim->options.flags))
        usage_error("--after removes from the end: it excludes the limits of the head and --past-cursors");

    const bool has_other =
        trim->is_cut || trim->is_dry_run || trim->options.before_lsn || trim->options.flags;
    if (trim->is_always && has_other)
        usage_error("--always goes with --keep-bytes, --keep-records and --keep-time only");
    if (trim->is_always && trim->options.before_time_ns && trim->keep_age_ms == 0)
        usage_error("--always takes a --keep-time of at least 1ms");
    if (!trim->is_cut && !trim->has_limit)
        usage_error("missing what to remove: --before, --keep-bytes, --keep-records, --keep-time or --after");
}

static int trim_now(struct trim *trim)
{
    int status = STATUS_FINE;

    if (!trim->is_cut && has_writer(trim->dir) && ask_writer(trim, &status) != -ESRCH)
        return status;

    status = open_to_remove(trim->dir, &trim->log);
    if (status != STATUS_FINE)
        return status;

    if (trim->is_cut)
        status = cut_end(trim);
    else
        status = trim_front(trim);
    return close_log(trim->log, trim->dir, status);
}

static int trim_run(const struct command *command, int argc, char **argv)
{
    struct trim trim = { .options = TWINLOG_TRIM_OPTIONS_INIT };

    take_options(&trim, command, argc, argv);
    if (trim.is_dry_run)
        return finish_output(trim.is_cut ? plan_cut(&trim) : plan_front(&trim));

    int status = trim_now(&trim); /* first, as it makes room on a full disk */
    if (status == STATUS_FINE && trim.is_always)
        status = set_limits(&trim);
    return finish_output(status);
}

const struct command trim_command = {
    .name = "trim",
    .summary = "remove records from the head or the end",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = trim_run,
};
