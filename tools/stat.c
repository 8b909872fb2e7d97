/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog stat: shows what is in a log, how it was left, and what opening it for writing would do; its
 * segment files; the number of its cursors and values. live.c and prometheus.c show the present work of its
 * writer.
 *
 * For a log that opening would refuse, only the first part is shown, with the reason. Of one that cannot be looked at,
 * it is whether a process writes it: that process must not be stopped then.
 */
#define _GNU_SOURCE
#include "json.h"
#include "listing.h"
#include "live.h"
#include "opening.h"
#include "options.h"
#include "when.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog_admin.h>

static const char about[] =
    "Usage: twinlog stat DIR [options]\n"
    "\n"
    "Shows what is in the log in DIR: its first, last and durable LSN, whether a process\n"
    "is writing it, and which one, how the last writer left it, what recovery would do when\n"
    "the log is opened for writing, its cursors and values, and its segment files. Changes\n"
    "nothing. Of a damaged log it says first whether a process is writing it: do not stop that.\n"
    "\n"
    "The durable LSN is the newest that is proved durable by what was written after it,\n"
    "or by a live writer; the last LSN is the newest that is sound.\n";

static const struct option_row option_rows[] = {
    { OPTION_ALL, "all", NULL, "every segment; else the first 4 and the last 16 of many" },
    { OPTION_JSON, "json", NULL, "one JSON object, with every segment, cursor and value" },
    { OPTION_PROMETHEUS, "prometheus", NULL,
      "instead, metrics in the text format of Prometheus: from its writer, or without one from the files" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "Exit status: 0 fine, also with a torn tail; 1 an operation failed; 2 wrong usage;\n"
    "3 acknowledged data is damaged. It looks only as far as opening the log would:\n"
    "'twinlog verify DIR' reads every byte, and 'twinlog top DIR' shows what the writer does.\n"
    "\n"
    "Example: the last LSN, for a script\n"
    "  twinlog stat build.log --json | jq .last_lsn\n";

/* Of many segments, only the first and the last ones are shown. */
#define FIRST_SHOWN 4u
#define LAST_SHOWN 16u

struct overview {
    const char *dir;
    bool shows_all;
    bool is_json;
    struct twinlog_inspection inspection;
    struct twinlog_segment *segments;
    size_t count;
    size_t room;
    struct twinlog *log; /* for the cursors and the values; NULL if the log can't be opened */
};

/* ---- the segments ------------------------------------------------------------------------------ */

static int keep_segment(void *context, const struct twinlog_segment *segment)
{
    struct overview *overview = context;

    if (overview->count == overview->room) {
        const size_t room = (size_t)max_u64(2 * overview->room, 64);
        struct twinlog_segment *segments =
            reallocarray(overview->segments, room, sizeof(*overview->segments));
        if (!segments)
            return -ENOMEM;

        overview->segments = segments;
        overview->room = room;
    }

    overview->segments[overview->count] = *segment;
    overview->count++;
    return 0;
}

static uint32_t count_retired(const struct overview *overview)
{
    uint32_t retired = 0;

    for (size_t i = 0; i < overview->count; i++)
        retired += overview->segments[i].state == TWINLOG_SEGMENT_RETIRED;
    return retired;
}

static const char *state_name(uint32_t state)
{
    static const char *const names[] = {
        [TWINLOG_SEGMENT_SEALED] = "sealed",   [TWINLOG_SEGMENT_UNSEALED] = "unsealed",
        [TWINLOG_SEGMENT_ACTIVE] = "active",   [TWINLOG_SEGMENT_SPARE] = "spare",
        [TWINLOG_SEGMENT_RETIRED] = "retired",
    };

    return WORD_OF(names, state);
}

static void format_log_id(char ret_text[33], const struct twinlog_inspection *inspection)
{
    for (size_t i = 0; i < sizeof(inspection->log_id); i++)
        snprintf(ret_text + 2 * i, 3, "%02x", inspection->log_id[i]);
}

/* ---- for people -------------------------------------------------------------------------------- */

static const char *describe_end(const struct twinlog_inspection *inspection)
{
    if (inspection->poison < 0)
        return "POISONED: a write or sync has failed, and its writer refuses records until it opens the log again";
    if (inspection->has_writer)
        return "a process is writing it";

    switch (inspection->report.finding) {
    case TWINLOG_FOUND_NEW_LOG:
        return "nothing was appended yet";
    case TWINLOG_FOUND_CLEAN_CLOSE:
        return "closed cleanly";
    case TWINLOG_FOUND_CLEAN_END:
        return "not closed: the last writer died between two groups, or had no room for the marker of its close";
    case TWINLOG_FOUND_TORN_TAIL:
        return "not closed: the last writer died while writing a group";
    default:
        return finding_name(inspection->report.finding);
    }
}

static const char *describe_recovery(const struct twinlog_report *report)
{
    if (report->error < 0)
        return "would refuse to open it";
    if (report->action == TWINLOG_WOULD_TRUNCATE)
        return "would truncate the torn tail";
    return "would keep everything";
}

static void print_row(const char *name, uint64_t value)
{
    printf("%-12s %" PRIu64 "\n", name, value);
}

/* Without a writer the files prove only a part: what comes behind may have been acknowledged, too. */
static void print_durable(const struct twinlog_inspection *inspection)
{
    const bool is_less = inspection->durable_lsn < inspection->last_lsn && !inspection->has_writer;
    printf("%-12s %" PRIu64 "%s\n", "durable LSN", inspection->durable_lsn,
           is_less ? ", as far as the files prove it; opening keeps the last LSN" : "");
}

/* None is known of several processes, or of one in another PID namespace. */
static void print_process(const struct twinlog_inspection *inspection)
{
    if (inspection->writer_pid)
        print_row("process", inspection->writer_pid);
}

static void print_inspection(const struct overview *overview)
{
    const struct twinlog_inspection *inspection = &overview->inspection;
    const struct twinlog_report *report = &inspection->report;
    char log_id[33];
    char bytes[BYTES_TEXT_BYTES];
    char place[160];

    format_log_id(log_id, inspection);
    describe_bytes(bytes, inspection->file_bytes);
    describe_place(place, sizeof(place), report);
    printf("%-12s %s\n", "directory", overview->dir);
    printf("%-12s %s\n", "log id", log_id);
    print_row("epoch", inspection->epoch);
    print_row("first LSN", inspection->first_lsn);
    print_row("last LSN", inspection->last_lsn);
    print_durable(inspection);
    print_row("segments", inspection->segments);
    print_row("spare", inspection->spare_segments);
    if (report->error == 0)
        print_row("retired", count_retired(overview));
    printf("%-12s %s\n", "size", bytes);
    printf("%-12s %s\n", "status", describe_end(inspection));
    print_process(inspection);
    if (inspection->has_writer)
        printf("%-12s %s\n", "mode", mode_name(inspection->mode));
    if (inspection->has_writer && report->error == 0)
        return; /* the rest is how a dead writer left the log, and this one lives */

    printf("%-12s %s\n", "recovery", describe_recovery(report));
    if (*place)
        printf("%-12s %s\n", "place", place);
    if (report->text[0])
        printf("%-12s %s\n", "detail", report->text);
}

struct summary {
    struct cursor_list cursors;
    uint64_t most_behind;
    char slowest[TWINLOG_NAME_BYTES]; /* name of the slowest cursor */
    uint64_t values;
    uint64_t value_bytes;
    char limits[160];
};

static struct cursor_list list_of(const struct overview *overview)
{
    const struct twinlog_inspection *inspection = &overview->inspection;

    return (struct cursor_list){ .first_lsn = inspection->first_lsn, .last_lsn = inspection->last_lsn };
}

static int count_cursor(void *context, const char *name, uint64_t lsn)
{
    struct summary *summary = context;
    uint64_t behind = records_behind(&summary->cursors, lsn);

    if (summary->cursors.count++ == 0 || behind > summary->most_behind) {
        summary->most_behind = behind;
        describe_name(summary->slowest, name);
    }

    return 0;
}

static int count_value(void *context, const char *name, const void *data, size_t size)
{
    static const char *const limits[] = { TWINLOG_KEEP_BYTES, TWINLOG_KEEP_RECORDS, TWINLOG_KEEP_AGE_MS };
    struct summary *summary = context;
    const size_t at = strlen(summary->limits);
    char text[24] = "";

    if (size < sizeof(text))
        snprintf(text, sizeof(text), "%.*s", (int)size, (const char *)data);
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(name, limits[i]) == 0 && strspn(text, "0123456789") == size)
            snprintf(summary->limits + at, sizeof(summary->limits) - at, "%s%s %s", at ? ", " : "",
                     strchr(name, '.') + 1, text);

    summary->values++;
    summary->value_bytes += size;
    return 0;
}

static int print_names(const struct overview *overview)
{
    struct summary summary = { .cursors = list_of(overview) };
    char bytes[BYTES_TEXT_BYTES];

    int error = twinlog_cursor_each(overview->log, count_cursor, &summary);
    if (error == 0)
        error = twinlog_meta_each(overview->log, count_value, &summary);
    if (error)
        return error;

    printf("%-12s %" PRIu64, "cursors", summary.cursors.count);
    if (summary.cursors.count)
        printf("; '%s' is %" PRIu64 " record%s behind", summary.slowest, summary.most_behind,
               plural(summary.most_behind));
    describe_bytes(bytes, summary.value_bytes);
    printf("\n%-12s %" PRIu64 ", %s\n", "values", summary.values, bytes);
    if (summary.limits[0])
        printf("%-12s %s\n", "limits", summary.limits);
    return 0;
}

static const char *mode_of(const struct twinlog_segment *segment)
{
    return mode_name(segment->is_mapped ? TWINLOG_MODE_MAPPED : TWINLOG_MODE_DURABLE);
}

static void print_segment(const struct twinlog_segment *segment)
{
    char newest[TIME_TEXT_BYTES] = "-";
    char used[BYTES_TEXT_BYTES];
    char size[BYTES_TEXT_BYTES];

    if (segment->last_lsn)
        describe_time(newest, segment->last_time_ns);
    describe_bytes(used, segment->data_bytes);
    describe_bytes(size, segment->file_bytes);
    printf("%8" PRIu64 "  %-8s %-7s %12" PRIu64 " %12" PRIu64 " %10s %10s %12" PRIu32 "  %-19s  %s\n",
           segment->sequence, state_name(segment->state), mode_of(segment), segment->first_lsn,
           segment->last_lsn, used, size, segment->incarnations, newest, segment->file);
}

static void print_segments(const struct overview *overview)
{
    const size_t shown = FIRST_SHOWN + LAST_SHOWN;
    size_t left_out = 0;

    if (!overview->shows_all && overview->count > shown)
        left_out = overview->count - shown;

    printf("\n%8s  %-8s %-7s %12s %12s %10s %10s %12s  %-19s  %s\n", "sequence", "state", "mode", "first LSN",
           "last LSN", "used", "size", "incarnations", "newest record (UTC)", "file");
    for (size_t i = 0; i < overview->count; i++) {
        if (left_out && i == FIRST_SHOWN) {
            printf("     ...  %zu more: --all shows them\n", left_out);
            i += left_out;
        }
        print_segment(&overview->segments[i]);
    }
}

static void print_writer(const struct overview *overview)
{
    const struct twinlog_inspection *inspection = &overview->inspection;

    printf("%-12s %s\n", "directory", overview->dir);
    if (inspection->has_writer)
        printf("%-12s %s\n", "status", describe_end(inspection));
    else
        printf("%-12s %s\n", "status", "no process is writing it");
    print_process(inspection);
}

static int print_table(const struct overview *overview)
{
    print_inspection(overview);
    int error = 0;
    if (overview->log)
        error = print_names(overview);
    if (overview->count)
        print_segments(overview);
    return error;
}

/* ---- for programs ------------------------------------------------------------------------------ */

static void json_segment(const struct twinlog_segment *segment)
{
    json_begin_object(NULL);
    json_number("sequence", segment->sequence);
    json_text("state", state_name(segment->state));
    json_text("mode", mode_of(segment));
    json_text("file", segment->file);
    json_number("file_bytes", segment->file_bytes);
    json_number("data_bytes", segment->data_bytes);
    json_number("first_lsn", segment->first_lsn);
    json_number("last_lsn", segment->last_lsn);
    if (segment->last_lsn) {
        json_time("first_time", segment->first_time_ns);
        json_time("last_time", segment->last_time_ns);
    }

    json_time("created", segment->created_ns);
    json_number("incarnations", segment->incarnations);
    json_number("epoch", segment->epoch);
    json_end_object();
}

static int json_parts(const struct overview *overview)
{
    json_number("retired_segments", count_retired(overview));
    json_begin_array("segment_files");
    for (size_t i = 0; i < overview->count; i++)
        json_segment(&overview->segments[i]);
    json_end_array();
    struct cursor_list list = list_of(overview);
    int error = json_cursors(overview->log, &list);
    int values_error = json_values(overview->log, false);
    if (error)
        return error;
    return values_error;
}

static void json_process(const struct twinlog_inspection *inspection)
{
    if (inspection->writer_pid)
        json_number("writer_pid", inspection->writer_pid);
    json_signed("poison", inspection->poison);
}

static void print_json_writer(const struct overview *overview)
{
    const struct twinlog_inspection *inspection = &overview->inspection;

    json_begin_object(NULL);
    json_text("directory", overview->dir);
    json_boolean("has_writer", inspection->has_writer);
    json_process(inspection);
    json_report("report", &inspection->report);
    json_end_object();
    json_end_line();
}

static int print_json(const struct overview *overview)
{
    const struct twinlog_inspection *inspection = &overview->inspection;
    char log_id[33];

    format_log_id(log_id, inspection);
    json_begin_object(NULL);
    json_text("directory", overview->dir);
    json_text("log_id", log_id);
    json_number("epoch", inspection->epoch);
    json_number("first_lsn", inspection->first_lsn);
    json_number("last_lsn", inspection->last_lsn);
    json_number("durable_lsn", inspection->durable_lsn);
    json_number("segments", inspection->segments);
    json_number("spare_segments", inspection->spare_segments);
    json_number("file_bytes", inspection->file_bytes);
    json_boolean("has_writer", inspection->has_writer);
    if (inspection->has_writer)
        json_text("mode", mode_name(inspection->mode));
    json_process(inspection);
    json_report("report", &inspection->report);
    int error = 0;
    if (overview->log)
        error = json_parts(overview);
    json_end_object();
    json_end_line();
    return error;
}

/* ---- the command ------------------------------------------------------------------------------- */

/* Before the error of a log that cannot be looked at: whether its writer may be stopped depends on it. */
static void show_writer(struct overview *overview, int error)
{
    /* Of other errors it is not known whether they have kept the writer from being seen. */
    const bool is_told = error == TWINLOG_ECORRUPT || error == TWINLOG_EFOREIGN || error == TWINLOG_EVERSION;
    if (!overview->inspection.has_writer && !is_told)
        return;

    if (overview->is_json)
        print_json_writer(overview);
    else
        print_writer(overview);
    fflush(stdout);
}

static int look(struct overview *overview)
{
    const struct twinlog_report *report = &overview->inspection.report;

    int error = twinlog_inspect(overview->dir, &overview->inspection);
    if (error)
        show_writer(overview, error);

    /* Without its files, too, there may be a process that writes them: it could not open the log again. */
    const bool is_damaged = error == TWINLOG_ECORRUPT || error == TWINLOG_EFOREIGN || error == -ENOENT;
    const char *advice = NULL;
    if (overview->inspection.has_writer && is_damaged)
        advice = advice_beside_writer;
    if (error)
        return fail("look at the log", overview->dir, error, report, advice);
    if (report->error < 0)
        return STATUS_FINE;

    error = twinlog_segments(overview->dir, keep_segment, overview);
    if (error)
        return fail("list the segments of", overview->dir, error, NULL, NULL);
    return open_beside_writer(overview->dir, &overview->log);
}

static int show(const struct overview *overview)
{
    int error;
    if (overview->is_json)
        error = print_json(overview);
    else
        error = print_table(overview);
    if (error)
        return fail("list the cursors and values of", overview->dir, error, NULL, NULL);
    return status_of(overview->inspection.report.error);
}

static int show_overview(const char *dir, bool shows_all, bool is_json)
{
    struct overview overview = {
        .dir = dir, .shows_all = shows_all, .is_json = is_json, .inspection = TWINLOG_INSPECTION_INIT
    };

    int status = look(&overview);
    if (status == STATUS_FINE)
        status = show(&overview);
    free(overview.segments);
    return close_log(overview.log, dir, status);
}

struct choice {
    bool shows_all;
    bool is_json;
    bool is_prometheus;
};

static void take_choice(struct choice *choice, int value)
{
    switch (value) {
    case OPTION_ALL:
        choice->shows_all = true;
        break;
    case OPTION_PROMETHEUS:
        choice->is_prometheus = true;
        break;
    default:
        choice->is_json = true;
    }
}

static int stat_run(const struct command *command, int argc, char **argv)
{
    struct choice choice = { 0 };
    int value = 0;
    int status;

    while ((value = next_option(command, argc, argv)) != -1)
        take_choice(&choice, value);
    if (choice.is_prometheus && (choice.shows_all || choice.is_json))
        usage_error("--prometheus stands alone");
    const char *dir = take_directory(argc, argv);
    if (choice.is_prometheus)
        status = show_prometheus(dir);
    else
        status = show_overview(dir, choice.shows_all, choice.is_json);
    return finish_output(status);
}

const struct command stat_command = {
    .name = "stat",
    .summary = "show what is in the log and how it was left",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = stat_run,
};
