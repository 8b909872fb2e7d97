/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog cursors: lists the named cursors of a log, sets or removes one; also beside its writer. */
#define _GNU_SOURCE
#include "json.h"
#include "listing.h"
#include "opening.h"
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char about[] =
    "Usage: twinlog cursors DIR [options]\n"
    "\n"
    "Lists the named cursors of the log in DIR: up to which LSN each has done with the\n"
    "records, and how many there are behind it. No trim or limit removes a record that a\n"
    "cursor has not passed. Another process may be writing the log.\n";

static const struct option_row option_rows[] = {
    { OPTION_SET, "set", "NAME=LSN", "make the cursor, or move it; 0 has seen nothing" },
    { OPTION_REMOVE, "remove", "NAME", "forget it: it holds nothing any more" },
    { OPTION_JSON, "json", NULL, "the list as one JSON object" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "A name has 1 to 63 bytes. What --set and --remove changed is durable when they end.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation failed; 2 wrong usage; 3 acknowledged data is\n"
    "damaged.\n"
    "\n"
    "Example: this consumer has done with everything up to LSN 900\n"
    "  twinlog cursors /var/lib/orders/log --set billing=900\n";

struct change {
    const char *dir;
    const char *name; /* NULL = only list */
    bool is_removal;
    uint64_t lsn;
};

/* Splits "NAME=LSN" at the last equals sign, because a name may contain one. */
static void take_setting(struct change *change)
{
    char *equals = strrchr(optarg, '=');

    if (!equals)
        usage_error("--set: '%s' is not NAME=LSN", optarg);
    *equals = '\0';
    change->name = check_name("--set", optarg);
    change->lsn = parse_number("--set", equals + 1, 0, UINT64_MAX);
}

/* ---- the list ---------------------------------------------------------------------------------- */

static int print_row(void *context, const char *name, uint64_t lsn)
{
    struct cursor_list *list = context;
    char words[TWINLOG_NAME_BYTES];

    if (list->count++ == 0)
        printf("%-24s %14s %14s\n", "cursor", "LSN", "behind");
    describe_name(words, name);
    printf("%-24s %14" PRIu64 " %14" PRIu64 "\n", words, lsn, records_behind(list, lsn));
    return 0;
}

static int print_table(struct twinlog *log, struct cursor_list *list)
{
    int error = twinlog_cursor_each(log, print_row, list);
    if (error == 0 && list->count == 0)
        printf("There is no cursor.\n");
    return error;
}

static int print_json(struct twinlog *log, struct cursor_list *list)
{
    json_begin_object(NULL);
    json_number("first_lsn", list->first_lsn);
    json_number("last_lsn", list->last_lsn);
    int error = json_cursors(log, list);
    json_end_object();
    json_end_line();
    return error;
}

/* If the end of the log is damaged, a cursor may be further behind than is counted. */
static int list_cursors(struct twinlog *log, const char *dir, bool is_json)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    struct cursor_list list = { 0 };

    options.ret_report = &report;
    int end_error = twinlog_reader_open(dir, &options, &reader);
    if (end_error == 0)
        end_error = twinlog_reader_range(reader, &list.first_lsn, &list.last_lsn);
    twinlog_reader_close(reader);
    int error;
    if (is_json)
        error = print_json(log, &list);
    else
        error = print_table(log, &list);
    if (error)
        return fail("list the cursors of", dir, error, NULL, NULL);
    if (end_error)
        return fail("find the end of the log", dir, end_error, &report, NULL);
    return STATUS_FINE;
}

/* ---- the command ------------------------------------------------------------------------------- */

static int fail_change(const struct change *change, int error)
{
    char doing[128];
    char name[TWINLOG_NAME_BYTES];
    const char *advice = NULL;

    describe_name(name, change->name);
    if (error == -ENOENT)
        advice = "There is no such cursor: 'twinlog cursors DIR' lists them.";
    else if (error == TWINLOG_ETRIMMED)
        advice =
            "Records behind that LSN were removed: 'twinlog stat DIR' shows the first LSN that is left; the least "
            "place of a cursor is one less.";
    snprintf(doing, sizeof(doing), "%s cursor '%s' of", change->is_removal ? "remove" : "set", name);
    return fail(doing, change->dir, error, NULL, advice);
}

static int change_or_list(struct twinlog *log, const struct change *change, bool is_json)
{
    if (!change->name)
        return list_cursors(log, change->dir, is_json);

    int error;
    if (change->is_removal)
        error = twinlog_cursor_remove(log, change->name);
    else
        error = twinlog_cursor_set(log, change->name, change->lsn);
    if (error)
        return fail_change(change, error);
    return STATUS_FINE;
}

static int cursors_run(const struct command *command, int argc, char **argv)
{
    struct twinlog *log = NULL;
    struct change change = { 0 };
    bool is_json = false;
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_JSON) {
            is_json = true;
            continue;
        }

        if (change.name)
            usage_error("one --set or --remove at a time");
        change.is_removal = value == OPTION_REMOVE;
        if (change.is_removal)
            change.name = take_name("--remove");
        else
            take_setting(&change);
    }

    change.dir = take_directory(argc, argv);
    if (is_json && change.name)
        usage_error("--json is for the list, without --set and --remove");
    int status = open_beside_writer(change.dir, &log);
    if (status != STATUS_FINE)
        return status;

    status = change_or_list(log, &change, is_json);
    return finish_output(close_log(log, change.dir, status));
}

const struct command cursors_command = {
    .name = "cursors",
    .summary = "list, set and remove named cursors",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = cursors_run,
};
