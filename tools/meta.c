/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog meta: lists the named values of a log, reads one, sets and removes some; also beside its writer. */
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
    "Usage: twinlog meta DIR [options]\n"
    "\n"
    "Lists the named values that are kept with the log in DIR, and their sizes. Another\n"
    "process may be writing the log.\n";

static const struct option_row option_rows[] = {
    { OPTION_GET, "get", "NAME", "print the value, byte for byte" },
    { OPTION_SET, "set", "NAME", "set it to what standard input holds, at most 4096 bytes" },
    { OPTION_VALUE, "value", "TEXT", "behind --set: set it to TEXT" },
    { OPTION_REMOVE, "remove", "NAME", "forget it" },
    { OPTION_JSON, "json", NULL, "the list as one JSON object, with the values" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "A name has 1 to 63 bytes. Several --set NAME --value TEXT and --remove NAME are one\n"
    "change: all of it happens or nothing, and it is durable when the command ends.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation failed, or there is no such value; 2 wrong usage;\n"
    "3 acknowledged data is damaged.\n"
    "\n"
    "Example: which schema do these records have?\n"
    "  twinlog meta /var/lib/orders/log --set schema --value 7\n"
    "  twinlog meta /var/lib/orders/log --get schema\n"
    "Term and vote belong together:\n"
    "  twinlog meta /var/lib/raft/log --set term --value 8 --set vote --value 2\n";

#define MOST_EDITS 64u

struct meta {
    const char *dir;
    struct twinlog *log;
    const char *name; /* of the value to print */
    struct twinlog_edit edits[MOST_EDITS];
    uint32_t edit_count;
    bool is_json;
    size_t size;
    unsigned char value[TWINLOG_META_BYTES]; /* the one that is printed, or that of standard input */
};

/* ---- the list ---------------------------------------------------------------------------------- */

static int print_row(void *context, const char *name, const void *data, size_t size)
{
    uint64_t *count = context;
    char words[TWINLOG_NAME_BYTES];

    (void)data;
    if ((*count)++ == 0)
        printf("%-24s %14s\n", "value", "bytes");
    describe_name(words, name);
    printf("%-24s %14zu\n", words, size);
    return 0;
}

static int print_table(const struct meta *meta)
{
    uint64_t count = 0;

    int error = twinlog_meta_each(meta->log, print_row, &count);
    if (error == 0 && count == 0)
        printf("There is no value.\n");
    return error;
}

static int print_json(const struct meta *meta)
{
    json_begin_object(NULL);
    int error = json_values(meta->log, true);
    json_end_object();
    json_end_line();
    return error;
}

/* ---- one value --------------------------------------------------------------------------------- */

static int get_value(struct meta *meta)
{
    int error = twinlog_meta_get(meta->log, meta->name, meta->value, sizeof(meta->value), &meta->size);
    if (error == 0)
        fwrite(meta->value, 1, meta->size, stdout);
    return error;
}

static int fail_name(const struct meta *meta, const char *verb, const char *given_name, int error)
{
    char doing[128];
    char name[TWINLOG_NAME_BYTES];
    const char *advice = NULL;

    if (error == -ENOENT)
        advice = "There is no such value: 'twinlog meta DIR' lists them.";
    else if (error == -EINVAL)
        advice = "Names that begin with 'twinlog.' are limits, in digits: 'twinlog trim DIR --keep-bytes 10G "
                 "--always' sets one.";
    describe_name(name, given_name);
    snprintf(doing, sizeof(doing), "%s value '%s' of", verb, name);
    return fail(doing, meta->dir, error, NULL, advice);
}

/* ---- changes ----------------------------------------------------------------------------------- */

static const char *verb_for(const struct twinlog_edit *edit)
{
    return edit->kind == TWINLOG_EDIT_SET_VALUE ? "set" : "remove";
}

/* The library's call for one name says if a name that is to be removed is not there. */
static int make_one_edit(const struct meta *meta)
{
    const struct twinlog_edit *edit = &meta->edits[0];
    int error;

    if (edit->kind == TWINLOG_EDIT_SET_VALUE)
        error = twinlog_meta_set(meta->log, edit->name, edit->data, edit->size);
    else
        error = twinlog_meta_remove(meta->log, edit->name);
    if (error)
        return fail_name(meta, verb_for(edit), edit->name, error);
    return STATUS_FINE;
}

static int make_edits(const struct meta *meta)
{
    struct twinlog_change change = TWINLOG_CHANGE_INIT;

    if (meta->edit_count == 1)
        return make_one_edit(meta);

    change.edits = meta->edits;
    change.edit_count = meta->edit_count;
    const int error = twinlog_change(meta->log, &change, NULL);
    if (error)
        return fail("change the values of", meta->dir, error, NULL, NULL);
    return STATUS_FINE;
}

static int act(struct meta *meta)
{
    int error;

    if (meta->edit_count > 0)
        return make_edits(meta);
    if (meta->name) {
        error = get_value(meta);
        if (error)
            return fail_name(meta, "get", meta->name, error);
        return STATUS_FINE;
    }

    if (meta->is_json)
        error = print_json(meta);
    else
        error = print_table(meta);
    if (error)
        return fail("list the values of", meta->dir, error, NULL, NULL);
    return STATUS_FINE;
}

/* ---- the command ------------------------------------------------------------------------------- */

static int complain_too_large(void)
{
    complain("the value is larger than %u bytes: keep it in a file, and the file's name here.",
             TWINLOG_META_BYTES);
    return STATUS_FAILED;
}

/* Before the log is opened, so that an input that can't be read changes nothing. */
static int take_standard_input(struct meta *meta, struct twinlog_edit *edit)
{
    edit->size = fread(meta->value, 1, sizeof(meta->value), stdin);
    edit->data = meta->value;
    const int next = getchar();
    if (ferror(stdin)) {
        complain("cannot read standard input: %s", strerror(errno));
        return STATUS_FAILED;
    }

    if (next == EOF)
        return STATUS_FINE;
    return complain_too_large();
}

/* Checks the values, and takes the one of an edit that has none from standard input. */
static int take_values(struct meta *meta)
{
    for (uint32_t i = 0; i < meta->edit_count; i++) {
        struct twinlog_edit *edit = &meta->edits[i];
        int status = STATUS_FINE;

        if (edit->kind != TWINLOG_EDIT_SET_VALUE)
            continue;
        if (!edit->data)
            status = take_standard_input(meta, edit);
        else if (edit->size > TWINLOG_META_BYTES)
            status = complain_too_large();
        if (status != STATUS_FINE)
            return status;
    }

    return STATUS_FINE;
}

static void add_edit(struct meta *meta, enum twinlog_edit_kind kind, const char *option)
{
    if (meta->edit_count == MOST_EDITS)
        usage_error("at most %u values in one change", MOST_EDITS);
    meta->edits[meta->edit_count++] = (struct twinlog_edit){ .kind = kind, .name = take_name(option) };
}

static void add_value(struct meta *meta, const char *text)
{
    struct twinlog_edit *last = NULL;

    if (meta->edit_count > 0)
        last = &meta->edits[meta->edit_count - 1];
    if (!last || last->kind != TWINLOG_EDIT_SET_VALUE || last->data)
        usage_error("--value goes behind --set NAME");
    last->data = text;
    last->size = strlen(text);
}

static void check_options(const struct meta *meta)
{
    if (meta->name && meta->edit_count > 0)
        usage_error("--get prints one value, and changes none: it goes without --set and --remove");
    if (meta->is_json && (meta->name || meta->edit_count > 0))
        usage_error("--json is for the list, without --get, --set and --remove");
    for (uint32_t i = 0; i < meta->edit_count; i++) {
        const struct twinlog_edit *edit = &meta->edits[i];
        const bool needs_input = edit->kind == TWINLOG_EDIT_SET_VALUE && !edit->data;

        if (needs_input && strchr(edit->name, '='))
            usage_error("--set: '%s' is all name, and standard input the value: say --set NAME --value TEXT",
                        edit->name);
        if (needs_input && meta->edit_count > 1)
            usage_error("--set: of several values each needs --value TEXT behind its name");
    }
}

static void take_options(struct meta *meta, const struct command *command, int argc, char **argv)
{
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_GET && meta->name)
            usage_error("one --get at a time");
        else if (value == OPTION_GET)
            meta->name = take_name("--get");
        else if (value == OPTION_SET)
            add_edit(meta, TWINLOG_EDIT_SET_VALUE, "--set");
        else if (value == OPTION_REMOVE)
            add_edit(meta, TWINLOG_EDIT_REMOVE_VALUE, "--remove");
        else if (value == OPTION_VALUE)
            add_value(meta, optarg);
        else
            meta->is_json = true;
    }

    meta->dir = take_directory(argc, argv);
    check_options(meta);
}

static int meta_run(const struct command *command, int argc, char **argv)
{
    struct meta meta = { 0 };
    int status;

    take_options(&meta, command, argc, argv);
    status = take_values(&meta);
    if (status == STATUS_FINE)
        status = open_beside_writer(meta.dir, &meta.log);
    if (status != STATUS_FINE)
        return status;

    status = act(&meta);
    return finish_output(close_log(meta.log, meta.dir, status));
}

const struct command meta_command = {
    .name = "meta",
    .summary = "list, read, set and remove named values",
    .about = about,
    .options = option_rows,
    .notes = notes,
    .run = meta_run,
};
