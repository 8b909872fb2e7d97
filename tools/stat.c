/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog stat: what is in a log, how it was left, and what opening it for writing would do. */
#define _GNU_SOURCE
#include "common.h"
#include "json.h"

#include <inttypes.h>
#include <stdio.h>

static const char help[] =
    "Usage: twinlog stat DIR [options]\n"
    "\n"
    "Shows what is in the log in DIR: its first, last and durable LSN, its files, whether\n"
    "a process is writing it, how the last writer left it, and what recovery would do\n"
    "when the log is opened for writing. Changes nothing.\n"
    "\n"
    "The durable LSN is the newest that is proved durable by what was written after it,\n"
    "or by a live writer; the last LSN is the newest that is sound.\n"
    "\n"
    "  --json              one JSON object\n" COMMON_OPTIONS_HELP "\n"
    "Exit status: 0 fine, also with a torn tail; 1 an operation failed; 2 wrong usage;\n"
    "3 acknowledged data is damaged. It looks only as far as opening the log would:\n"
    "'twinlog verify DIR' reads every byte.\n"
    "\n"
    "Example: the last LSN, for a script\n"
    "  twinlog stat build.log --json | jq .last_lsn\n";

static const struct option option_table[] = {
    FLAG("json", OPTION_JSON),
    COMMON_OPTIONS,
};

static void format_log_id(char ret_text[33], const struct twinlog_inspection *inspection)
{
    for (size_t i = 0; i < sizeof(inspection->log_id); i++)
        snprintf(ret_text + 2 * i, 3, "%02x", inspection->log_id[i]);
}

static const char *describe_end(const struct twinlog_inspection *inspection)
{
    if (inspection->has_writer)
        return "a process is writing it";
    switch (inspection->report.finding) {
    case TWINLOG_FOUND_NEW_LOG:
        return "nothing was appended yet";
    case TWINLOG_FOUND_CLEAN_CLOSE:
        return "closed by its last writer";
    case TWINLOG_FOUND_CLEAN_END:
        return "not closed: the last writer died between two groups";
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
    return report->action == TWINLOG_WOULD_CUT ? "would cut the torn tail" : "would keep everything";
}

static void print_row(const char *name, uint64_t value)
{
    printf("%-12s %" PRIu64 "\n", name, value);
}

static void print_table(const char *dir, const struct twinlog_inspection *inspection)
{
    const struct twinlog_report *report = &inspection->report;
    char log_id[33];
    char bytes[32];
    char place[160];

    format_log_id(log_id, inspection);
    describe_bytes(bytes, sizeof(bytes), inspection->file_bytes);
    describe_place(place, sizeof(place), report);
    printf("%-12s %s\n", "directory", dir);
    printf("%-12s %s\n", "log id", log_id);
    print_row("epoch", inspection->epoch);
    print_row("first LSN", inspection->first_lsn);
    print_row("last LSN", inspection->last_lsn);
    print_row("durable LSN", inspection->durable_lsn);
    print_row("segments", inspection->segments);
    print_row("spare", inspection->spare_segments);
    printf("%-12s %s\n", "size", bytes);
    printf("%-12s %s\n", "left", describe_end(inspection));
    printf("%-12s %s\n", "recovery", describe_recovery(report));
    if (*place)
        printf("%-12s %s\n", "place", place);
    if (report->text[0])
        printf("%-12s %s\n", "detail", report->text);
}

static void print_json(const char *dir, const struct twinlog_inspection *inspection)
{
    char log_id[33];

    format_log_id(log_id, inspection);
    json_begin_object(NULL);
    json_text("directory", dir);
    json_text("log_id", log_id);
    json_number("epoch", inspection->epoch);
    json_number("first_lsn", inspection->first_lsn);
    json_number("last_lsn", inspection->last_lsn);
    json_number("durable_lsn", inspection->durable_lsn);
    json_number("segments", inspection->segments);
    json_number("spare_segments", inspection->spare_segments);
    json_number("file_bytes", inspection->file_bytes);
    json_boolean("has_writer", inspection->has_writer);
    json_report("report", &inspection->report);
    json_end_object();
    json_end_line();
}

static int stat_run(const struct command *command, int argc, char **argv)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    bool is_json = false;

    while (next_option(command, argc, argv, option_table) != -1)
        is_json = true;
    const char *dir = take_directory(argc, argv);

    int error = twinlog_inspect(dir, &inspection);
    if (error)
        return fail("look at the log", dir, error, &inspection.report, NULL);
    (is_json ? print_json : print_table)(dir, &inspection);
    return finish_output(status_of(inspection.report.error));
}

const struct command stat_command = {
    .name = "stat",
    .summary = "show what is in the log and how it was left",
    .help = help,
    .run = stat_run,
};
