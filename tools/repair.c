/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twinlog repair: copies what is sound in a damaged log to a new one, and prints a line for each loss.
 *
 * What an interrupted repair leaves is a sound log, which lacks its end. So the new one gets its name last, unless an
 * empty directory of that name is there, which may be a mount.
 */
#define _GNU_SOURCE
#include "archive/state.h"
#include "json.h"
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <twinlog_admin.h>
#include <unistd.h>

static const char about[] =
    "Usage: twinlog repair DIR --output NEW [options]\n"
    "\n"
    "Copies every sound record of the log in DIR to a new log in NEW, with its LSN and its\n"
    "time, and the named cursors and values. NEW must not exist, or be empty. Prints each\n"
    "loss on a line, as 'twinlog verify' does, then a summary. In the place of a lost\n"
    "record NEW has none: readers pass over its LSN. Changes nothing in DIR, which no process\n"
    "may be writing meanwhile. A NEW that is not there is made as NEW.repairing, and gets its\n"
    "name when it is whole. A repair that failed or was interrupted leaves that, or a NEW that\n"
    "was there, without its end: remove it and begin again.\n";

static const struct option_row option_rows[] = {
    { OPTION_OUTPUT, "output", "NEW", "directory of the new log" },
    { OPTION_JSON, "json", NULL,
      "one JSON object: losses, records, lost_records, first_lsn, last_lsn, is_complete" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "Exit status: 0 nothing was lost; 1 an operation failed; 2 wrong usage; 3 something\n"
    "was lost, everything else is in NEW.\n"
    "\n"
    "Example: put what is left in the place of a damaged log\n"
    "  twinlog repair orders --output orders.new\n"
    "  mv orders orders.damaged && mv orders.new orders\n";

struct repair {
    const char *dir;
    const char *output;
    char staging[PATH_MAX]; /* where the log is made; `output` itself, if that is there */
    bool is_json;
    uint64_t losses;
    struct twinlog_repair_result result;
};

static int take_loss(void *context, const struct twinlog_report *lost)
{
    struct repair *repair = context;

    repair->losses++;
    print_finding(lost, repair->is_json);
    return 0;
}

static void print_words(const struct repair *repair)
{
    const struct twinlog_repair_result *result = &repair->result;

    if (repair->losses)
        printf("repaired with losses: ");
    else
        printf("nothing was lost: ");
    printf("%" PRIu64 " record%s copied, %" PRIu64 " lost", result->records, plural(result->records),
           result->lost_records);
    if (result->first_lsn) {
        char lsns[LSNS_TEXT_BYTES];
        describe_lsns(lsns, result->first_lsn, result->last_lsn);
        printf(", %s", lsns);
    }

    putchar('\n');
}

static void end_json(const struct repair *repair, int error)
{
    json_end_array();
    json_number("records", repair->result.records);
    json_number("lost_records", repair->result.lost_records);
    json_number("first_lsn", repair->result.first_lsn);
    json_number("last_lsn", repair->result.last_lsn);
    json_boolean("is_complete", error == 0 && repair->losses == 0);
    json_end_object();
    json_end_line();
}

static const char *advice_for_repair(int error)
{
    switch (error) {
    case -EBUSY:
        return "A process is writing the log. If it is damaged, that process cannot open it again: do not stop it. "
               "Copy the directory ('cp -r'), and repair the copy.";
    case TWINLOG_ECORRUPT:
        return "There is no sound segment to begin with, or a gap that is too large. Restore the log from a copy, or "
               "repair what is on each side of the gap by itself.";
    default:
        return advice_for_new_log(error);
    }
}

/* ---- a name for it ------------------------------------------------------------------------------ */

static bool is_staged(const struct repair *repair)
{
    return strcmp(repair->staging, repair->output) != 0;
}

static bool is_damaged_log(const struct repair *repair, const char *path)
{
    struct stat damaged, other;

    if (stat(repair->dir, &damaged) < 0 || stat(path, &other) < 0)
        return false;
    return is_same_file(&damaged, &other);
}

/* The directory may be anybody's, even the log that is to be repaired. */
static int fail_taken(const struct repair *repair)
{
    const char *advice =
        "The new log is made under that name. If an interrupted repair has left it, remove it; else "
        "name a new directory beside which that name is free.";

    if (is_damaged_log(repair, repair->staging))
        advice =
            "That is the log to be repaired, and the new one would be made under its name: choose another name "
            "for the new one.";
    return fail("make", repair->staging, -EEXIST, NULL, advice);
}

/* Chooses the name under which the log is made: NEW itself if that is there, else NEW.repairing, for a NEW without
 * slashes at its end. */
static int name_staging(struct repair *repair)
{
    const char *suffix = ".repairing";
    int length = (int)strlen(repair->output);
    struct stat named;

    const bool is_there = lstat(repair->output, &named) == 0;
    if (is_there) {
        suffix = "";
    } else {
        while (length > 1 && repair->output[length - 1] == '/')
            length--;
    }

    const int bytes =
        snprintf(repair->staging, sizeof(repair->staging), "%.*s%s", length, repair->output, suffix);
    if (bytes >= (int)sizeof(repair->staging))
        return -ENAMETOOLONG;
    return 0;
}

/* The status of the command: STATUS_FINE, and the directory is there; else the error was printed. */
static int make_staging(struct repair *repair)
{
    int error = name_staging(repair);

    if (error == 0 && is_staged(repair) && mkdir(repair->staging, 0777) < 0)
        error = -errno;
    if (error == -EEXIST)
        return fail_taken(repair);
    if (error)
        return fail_copy("repair", repair->dir, repair->output, error, advice_for_repair(error));
    return STATUS_FINE;
}

static void complain_left(const struct repair *repair, bool is_whole)
{
    if (!is_staged(repair) || access(repair->staging, F_OK) < 0)
        return;
    if (is_whole)
        complain("'%s' is the new log, with all that could be saved.", repair->staging);
    else
        complain("What was copied is in '%s', without its end: remove that before the next repair.",
                 repair->staging);
}

/* ---- the command ------------------------------------------------------------------------------- */

/* Makes the new log, and prints each loss. */
static int copy_what_is_sound(struct repair *repair)
{
    struct twinlog_repair_options options = TWINLOG_REPAIR_OPTIONS_INIT;

    options.each = take_loss;
    options.progress = show_bytes_progress;
    options.context = repair;

    const int error = twinlog_repair(repair->dir, repair->staging, &options, &repair->result);
    clear_progress();
    return error;
}

/* Gives a whole log its name. What a repair that failed has left keeps the other name, unless that is empty. */
static int end_staging(const struct repair *repair, int error)
{
    if (!is_staged(repair))
        return error;
    if (error == 0)
        return name_directory(repair->staging, repair->output);

    (void)rmdir(repair->staging);
    return error;
}

static int run_repair(struct repair *repair)
{
    const int made = make_staging(repair);
    if (made != STATUS_FINE)
        return made;

    if (repair->is_json) {
        json_begin_object(NULL);
        json_begin_array("losses");
    }
    const int copied = copy_what_is_sound(repair);
    const int error = end_staging(repair, copied);
    if (repair->is_json)
        end_json(repair, error);
    else if (error == 0)
        print_words(repair);

    const int status = finish_output(repair->losses > 0 ? STATUS_DAMAGED : STATUS_FINE);
    if (error == 0)
        return status;
    const int failed = fail_copy("repair", repair->dir, repair->output, error, advice_for_repair(error));
    const bool is_whole = copied == 0;
    complain_left(repair, is_whole);
    return failed;
}

static int repair_run(const struct command *command, int argc, char **argv)
{
    static struct repair repair = { .result = TWINLOG_REPAIR_RESULT_INIT }; /* too large for the stack */
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_OUTPUT)
            repair.output = optarg;
        else
            repair.is_json = true;
    }

    repair.dir = take_directory(argc, argv);
    check_output(repair.output);
    return run_repair(&repair);
}

const struct command repair_command = {
    .name = "repair",
    .summary = "save what is sound in a damaged log",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = repair_run,
};
