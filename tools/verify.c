/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog verify: every byte of every record, one line for each finding, nothing changed. */
#define _GNU_SOURCE
#include "common.h"
#include "json.h"

#include <inttypes.h>
#include <stdio.h>

static const char help[] =
    "Usage: twinlog verify DIR [options]\n"
    "\n"
    "Reads every byte of the log in DIR and checks every record and what else the format\n"
    "fixes. Prints each finding on a line with its segment, file, offset and LSN, then a\n"
    "summary. Changes nothing; beside a live writer it stops at the durable LSN.\n"
    "\n"
    "  --json              one JSON object: findings, records, is_sound\n" COMMON_OPTIONS_HELP "\n"
    "Exit status: 0 sound, also with a torn tail; 1 an operation failed; 2 wrong usage;\n"
    "3 acknowledged data is damaged or missing.\n"
    "\n"
    "Example: check a log every night\n"
    "  twinlog verify /var/lib/orders/log || mail -s 'log damaged' root </dev/null\n";

static const struct option option_table[] = {
    FLAG("json", OPTION_JSON),
    COMMON_OPTIONS,
};

struct verification {
    bool is_json;
    uint64_t findings;
};

static int print_finding(void *context, const struct twinlog_report *finding)
{
    struct verification *verification = context;
    char place[160];

    verification->findings++;
    clear_progress();
    if (verification->is_json) {
        json_report(NULL, finding);
    } else {
        describe_place(place, sizeof(place), finding);
        printf("%s: %s%s%s\n", finding_name(finding->finding), place, *place ? ": " : "", finding->text);
    }
    return 0;
}

static void report_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)context;
    if (total_bytes && is_progress_due())
        show_progress("%.0f %% of %.1f MiB", 100.0 * (double)done_bytes / (double)total_bytes,
                      (double)total_bytes / (1 << 20));
}

static void print_summary(const struct verification *verification, int error, uint64_t records)
{
    if (!verification->is_json) {
        printf("%s: %" PRIu64 " sound record%s, %" PRIu64 " finding%s\n",
               error == TWINLOG_ECORRUPT ? "damaged" : "sound", records, records == 1 ? "" : "s",
               verification->findings, verification->findings == 1 ? "" : "s");
        return;
    }
    json_end_array();
    json_number("records", records);
    json_boolean("is_sound", error == 0);
    json_end_object();
    json_end_line();
}

static int verify_run(const struct command *command, int argc, char **argv)
{
    struct verification verification = { 0 };
    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    uint64_t records = 0;

    while (next_option(command, argc, argv, option_table) != -1)
        verification.is_json = true;
    const char *dir = take_directory(argc, argv);
    options.each = print_finding;
    options.progress = report_progress;
    options.context = &verification;

    if (verification.is_json) {
        json_begin_object(NULL);
        json_begin_array("findings");
    }
    int error = twinlog_verify(dir, &options, &records);
    clear_progress();
    if (verification.is_json || error == 0 || error == TWINLOG_ECORRUPT)
        print_summary(&verification, error, records);
    int status = finish_output(status_of(error));
    if (error && error != TWINLOG_ECORRUPT)
        return fail("verify the log", dir, error, NULL, NULL);
    return status;
}

const struct command verify_command = {
    .name = "verify",
    .summary = "check every byte of every record",
    .help = help,
    .run = verify_run,
};
