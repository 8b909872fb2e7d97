/* SPDX-License-Identifier: Apache-2.0 */
/* twinlog meta: lists the named values of a log, reads, sets or removes one; also beside its writer. */
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
    { OPTION_VALUE, "value", "TEXT", "with --set: set it to TEXT" },
    { OPTION_REMOVE, "remove", "NAME", "forget it" },
    { OPTION_JSON, "json", NULL, "the list as one JSON object, with the values" },
    COMMON_OPTIONS,
};

static const char notes[] =
    "A name has 1 to 63 bytes. What --set and --remove changed is durable when they end.\n"
    "\n"
    "Exit status: 0 fine; 1 an operation failed, or there is no such value; 2 wrong usage;\n"
    "3 acknowledged data is damaged.\n"
    "\n"
    "Example: which schema do these records have?\n"
    "  twinlog meta /var/lib/orders/log --set schema --value 7\n"
    "  twinlog meta /var/lib/orders/log --get schema\n";

struct meta {
    const char *dir;
    struct twinlog *log;
    int action; /* OPTION_GET, _SET, _REMOVE, or 0 = list */
    const char *name;
    bool is_json;
    size_t size;
    unsigned char value[TWINLOG_META_BYTES];
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

static int fail_one(const struct meta *meta, int error)
{
    char doing[128];
    char name[TWINLOG_NAME_BYTES];
    const char *verb = meta->action == OPTION_GET ? "get" : meta->action == OPTION_SET ? "set" : "remove";

    describe_name(name, meta->name);
    snprintf(doing, sizeof(doing), "%s value '%s' of", verb, name);
    return fail(doing, meta->dir, error, NULL,
                error == -ENOENT ? "There is no such value: 'twinlog meta DIR' lists them."
                : error == -EINVAL
                    ? "A name is not empty and begins with no control character. Those that begin with "
                      "'twinlog.' are limits, in digits: 'twinlog trim DIR --keep-bytes 10G --always' "
                      "sets one."
                    : NULL);
}

static int act(struct meta *meta)
{
    int error = 0;

    switch (meta->action) {
    case OPTION_GET:
        error = get_value(meta);
        break;
    case OPTION_SET:
        error = twinlog_meta_set(meta->log, meta->name, meta->value, meta->size);
        break;
    case OPTION_REMOVE:
        error = twinlog_meta_remove(meta->log, meta->name);
        break;
    default:
        error = (meta->is_json ? print_json : print_table)(meta);
        return error ? fail("list the values of", meta->dir, error, NULL, NULL) : STATUS_FINE;
    }
    return error ? fail_one(meta, error) : STATUS_FINE;
}

/* ---- the command ------------------------------------------------------------------------------- */

static int complain_too_large(void)
{
    complain("the value is larger than %u bytes: keep it in a file, and the file's name here.",
             TWINLOG_META_BYTES);
    return STATUS_FAILED;
}

/* Before the log is opened, so that an input that can't be read changes nothing. */
static int take_value(struct meta *meta, const char *text)
{
    if (text) {
        meta->size = strlen(text);
        if (meta->size > sizeof(meta->value))
            return complain_too_large();
        memcpy(meta->value, text, meta->size);
        return STATUS_FINE;
    }
    meta->size = fread(meta->value, 1, sizeof(meta->value), stdin);
    int next = getchar();
    if (ferror(stdin)) {
        complain("cannot read standard input: %s", strerror(errno));
        return STATUS_FAILED;
    }
    return next == EOF ? STATUS_FINE : complain_too_large();
}

static void take_action(struct meta *meta, int action, const char *option)
{
    if (meta->action)
        usage_error("one --get, --set or --remove at a time");
    meta->action = action;
    meta->name = take_name(option);
}

static const char *take_options(struct meta *meta, const struct command *command, int argc, char **argv)
{
    const char *text = NULL;
    int value = 0;

    while ((value = next_option(command, argc, argv)) != -1) {
        if (value == OPTION_GET)
            take_action(meta, value, "--get");
        else if (value == OPTION_SET)
            take_action(meta, value, "--set");
        else if (value == OPTION_REMOVE)
            take_action(meta, value, "--remove");
        else if (value == OPTION_VALUE)
            text = optarg;
        else
            meta->is_json = true;
    }
    meta->dir = take_directory(argc, argv);
    if (text && meta->action != OPTION_SET)
        usage_error("--value goes with --set");
    if (!text && meta->action == OPTION_SET && strchr(meta->name, '='))
        usage_error("--set: '%s' is all name, and standard input the value: say --set NAME --value TEXT",
                    meta->name);
    if (meta->is_json && meta->action)
        usage_error("--json is for the list, without --get, --set and --remove");
    return text;
}

static int meta_run(const struct command *command, int argc, char **argv)
{
    struct meta meta = { 0 };
    int status = STATUS_FINE;

    const char *text = take_options(&meta, command, argc, argv);
    if (meta.action == OPTION_SET)
        status = take_value(&meta, text);
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
