/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog verify: checks every byte of every record, and prints a line for each finding. Changes nothing. */
#define _GNU_SOURCE
#include "json.h"
#include "live.h"
#include "options.h"
#include "when.h"

#include <inttypes.h>
#include <stdio.h>
#include <twinlog_admin.h>

static const char about[] =
    "Usage: twinlog verify DIR [options]\n"
    "\n"
    "Reads every byte of the log in DIR and checks every record and what else the format\n"
    "fixes. A bad header or a missing file hides no group behind it; of a damaged group no\n"
    "record counts, and 'twinlog repair' saves those that check. Prints each finding on\n"
    "a line with its segment, file, offset and LSN, then a summary. Changes nothing;\n"
    "beside a live writer it stops at the durable LSN.\n";

static const struct option_row option_rows[] = {
    { OPTION_JSON, "json", NULL, "one JSON object: findings, records, is_sound" },
    { OPTION_PROMETHEUS, "prometheus", NULL,
      "metrics in the text format of Prometheus, for a timer; findings go to standard error" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "Exit status: 0 sound, also with a torn tail; 1 an operation failed; 2 wrong usage;\n"
    "3 acknowledged data is damaged or missing, whatever else was met.\n"
    "\n"
    "Example: check a log every night\n"
    "  twinlog verify /var/lib/orders/log || mail -s 'log damaged' root </dev/null\n";

struct verification {
    bool is_json;
    bool is_prometheus;
    bool has_damage; /* whatever error has ended the call; this is the metric */
    bool is_corrupt; /* damaged or missing, and not only foreign: the exit status */
    uint64_t findings;
};

static bool is_damage(int error)
{
    return error == TWINLOG_ECORRUPT || error == TWINLOG_EFOREIGN;
}

static int take_finding(void *context, const struct twinlog_report *finding)
{
    struct verification *verification = context;

    if (is_damage(finding->error))
        verification->has_damage = true;
    if (finding->error == TWINLOG_ECORRUPT)
        verification->is_corrupt = true;
    verification->findings++;
    clear_progress();
    if (verification->is_prometheus)
        write_finding(stderr, finding);
    else
        print_finding(finding, verification->is_json);
    return 0;
}

static void print_metrics(const struct verification *verification, const char *dir, int error,
                          uint64_t records)
{
    print_metric(dir, "twinlog_verify_damaged", "1 if acknowledged data was damaged, missing or foreign.",
                 verification->has_damage);
    print_metric(dir, "twinlog_verify_findings", "What was found, also what is no damage, as a torn tail.",
                 verification->findings);
    if (error != 0 && !is_damage(error)) /* it has not read all */
        return;
    print_metric(dir, "twinlog_verify_records", "Sound records.", records);
    print_metric(dir, "twinlog_verify_timestamp_seconds", "When every byte had been read.",
                 (uint64_t)(now_ns() / 1000000000));
}

static void print_summary(const struct verification *verification, int error, uint64_t records)
{
    if (!verification->is_json) {
        printf("%s: %" PRIu64 " sound record%s, %" PRIu64 " finding%s\n", error != 0 ? "damaged" : "sound",
               records, plural(records), verification->findings, plural(verification->findings));
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

    int option;
    while ((option = next_option(command, argc, argv)) != -1) {
        if (option == OPTION_JSON)
            verification.is_json = true;
        else
            verification.is_prometheus = true;
    }
    if (verification.is_json && verification.is_prometheus)
        usage_error("--prometheus stands alone");
    const char *dir = take_directory(argc, argv);
    options.each = take_finding;
    options.progress = show_bytes_progress;
    options.context = &verification;

    if (verification.is_json) {
        json_begin_object(NULL);
        json_begin_array("findings");
    }

    int error = twinlog_verify(dir, &options, &records);
    clear_progress();
    const bool has_looked = error == 0 || is_damage(error);
    if (verification.is_prometheus && (has_looked || verification.has_damage))
        print_metrics(&verification, dir, error, records);
    else if (verification.is_json || has_looked)
        print_summary(&verification, error, records);
    int status = finish_output(status_of(error));
    if (error && error != TWINLOG_ECORRUPT)
        status = fail("verify the log", dir, error, NULL, NULL);
    if (verification.is_corrupt)
        status = STATUS_DAMAGED;
    return status;
}

const struct command verify_command = {
    .name = "verify",
    .summary = "check every byte of every record",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = verify_run,
};
