/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog reset: removes every record and says which LSN comes next. */
#define _GNU_SOURCE
#include "opening.h"
#include "options.h"

#include <inttypes.h>

static const char about[] =
    "Usage: twinlog reset DIR --next LSN [options]\n"
    "\n"
    "Removes every record from the log in DIR, for good, and gives the next one that is\n"
    "appended this LSN. Named cursors and values stay; cursors move to the new head.\n"
    "No process may be writing the log meanwhile.\n";

static const struct option_row option_rows[] = {
    { OPTION_NEXT, "next", "LSN", "of the next record" },
    { OPTION_FORCE, "force", NULL, "also when the log holds records; without it, it is left alone" },
    { OPTION_JSON, "json", NULL, "one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "Exit status: 0 fine; 1 an operation failed, or there are records and no --force;\n"
    "2 wrong usage; 3 acknowledged data is damaged.\n"
    "\n"
    "Example: begin again behind a snapshot that covers everything up to LSN 4999\n"
    "  twinlog reset /var/lib/orders/log --next 5000 --force\n";

struct reset {
    const char *dir;
    struct twinlog *log;
    uint64_t next_lsn;
    bool is_forced;
    bool is_json;
};

static int reset_log(const struct reset *reset)
{
    uint64_t first_lsn = twinlog_first_lsn(reset->log);
    uint64_t last_lsn = twinlog_last_lsn(reset->log);
    uint64_t records = first_lsn ? last_lsn - first_lsn + 1 : 0;

    if (records && !reset->is_forced) {
        char lsns[LSNS_TEXT_BYTES];
        describe_lsns(lsns, first_lsn, last_lsn);
        complain("'%s' holds %" PRIu64 " record%s, %s. None was removed.", reset->dir, records,
                 plural(records), lsns);
        complain("Use --force to remove them for good.");
        return STATUS_FAILED;
    }

    int error = twinlog_reset(reset->log, reset->next_lsn);
    if (error)
        return fail("reset", reset->dir, error, NULL, NULL);

    report_removal(reset->is_json, false, records, reset->next_lsn);
    return STATUS_FINE;
}

static int reset_run(const struct command *command, int argc, char **argv)
{
    struct reset reset = { 0 };
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_NEXT)
            reset.next_lsn = take_number("--next", 1, INT64_MAX);
        else if (value == OPTION_FORCE)
            reset.is_forced = true;
        else
            reset.is_json = true;
    }

    reset.dir = take_directory(argc, argv);
    if (!reset.next_lsn)
        usage_error("missing --next LSN (the LSN of the next record)");
    int status = open_to_remove(reset.dir, &reset.log);
    if (status != STATUS_FINE)
        return status;

    status = reset_log(&reset);
    return finish_output(close_log(reset.log, reset.dir, status));
}

const struct command reset_command = {
    .name = "reset",
    .summary = "remove every record and choose the next LSN",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = reset_run,
};
