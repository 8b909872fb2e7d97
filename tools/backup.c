/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog backup: makes another log, with everything that is durable in this one. The library does the work
 * (twinlog_backup()); here are the command line, what is printed, and advice where the library has refused.
 *
 * The new directory is an option, not a second operand, so that the two names cannot be exchanged by mistake; repair
 * does the same.
 */
#define _GNU_SOURCE
#include "json.h"
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <twinlog_admin.h>

static const char about[] =
    "Usage: twinlog backup DIR --output NEW [options]\n"
    "\n"
    "Makes NEW a log with everything that is durable in the log in DIR when it begins,\n"
    "named cursors and values included. NEW must not exist, or be empty. Another process\n"
    "may be writing DIR. Full segments are hard links where both are on one file system,\n"
    "else copies; neither log changes the other through them.\n";

static const struct option_row option_rows[] = {
    { OPTION_OUTPUT, "output", "NEW", "directory of the new log" },
    { OPTION_COPY, "copy", NULL, "copy every byte, share no block of the disk" },
    { OPTION_JSON, "json", NULL, "one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] = "A backup that was interrupted is not a log: remove NEW and begin again.\n"
                            "\n"
                            "Exit status: 0 NEW is whole and durable; 1 an operation failed; 2 wrong usage;\n"
                            "3 acknowledged data in DIR is damaged.\n"
                            "\n"
                            "Example: a snapshot beside the log, then a copy on another disk\n"
                            "  twinlog backup orders --output orders.monday\n"
                            "  twinlog backup orders.monday --output /mnt/backup/orders.monday\n";

struct backup {
    const char *dir, *output;
    bool is_json;
    struct twinlog_backup_options options;
    struct twinlog_backup_result result;
};

static void print_words(const struct twinlog_backup_result *result)
{
    const bool has_records = result->first_lsn > 0;
    char lsns[LSNS_TEXT_BYTES] = "no records";
    char linked[BYTES_TEXT_BYTES];
    char copied[BYTES_TEXT_BYTES];

    describe_bytes(linked, result->linked_bytes);
    describe_bytes(copied, result->copied_bytes);
    if (has_records)
        describe_lsns(lsns, result->first_lsn, result->last_lsn);
    printf("%s in %" PRIu32 " segment%s: %s linked, %s copied\n", lsns, result->segments,
           plural(result->segments), linked, copied);
}

static void print_json(const struct twinlog_backup_result *result)
{
    json_begin_object(NULL);
    json_number("segments", result->segments);
    json_number("first_lsn", result->first_lsn);
    json_number("last_lsn", result->last_lsn);
    json_number("linked_bytes", result->linked_bytes);
    json_number("copied_bytes", result->copied_bytes);
    json_end_object();
    json_end_line();
}

static const char *advice_for_backup(int error)
{
    switch (error) {
    case -EBUSY:
        return "Records were removed faster than they were copied: try again.";
    default:
        return advice_for_new_log(error);
    }
}

static int run_backup(struct backup *backup)
{
    const int error = twinlog_backup(backup->dir, backup->output, &backup->options, &backup->result);
    clear_progress();
    if (error)
        return fail_copy("back up", backup->dir, backup->output, error, advice_for_backup(error));

    if (backup->is_json)
        print_json(&backup->result);
    else
        print_words(&backup->result);
    return finish_output(STATUS_FINE);
}

static int backup_run(const struct command *command, int argc, char **argv)
{
    struct backup backup = {
        .options = TWINLOG_BACKUP_OPTIONS_INIT,
        .result = TWINLOG_BACKUP_RESULT_INIT,
    };
    int option = 0;

    backup.options.progress = show_bytes_progress;
    while ((option = next_option(command, argc, argv)) != -1) {
        if (option == OPTION_OUTPUT)
            backup.output = optarg;
        else if (option == OPTION_COPY)
            backup.options.flags |= TWINLOG_BACKUP_COPY;
        else
            backup.is_json = true;
    }

    backup.dir = take_directory(argc, argv);
    check_output(backup.output);
    return run_backup(&backup);
}

const struct command backup_command = {
    .name = "backup",
    .summary = "make another log with everything that is durable",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = backup_run,
};
