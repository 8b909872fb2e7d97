/* SPDX-License-Identifier: Apache-2.0 */
/* The command line. See options.h. */
#define _GNU_SOURCE
#include "options.h"

#include "when.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* To wait for another process that opens the log as the first one, or closes it as the last one. */
#define SHARED_WAIT_MS 5000u

/* ---- the table, as getopt and as people want it ------------------------------------------------ */

#define MAX_OPTIONS 40u
#define TEXT_COLUMN 22u /* of --help */
#define LAST_COLUMN 88u

static const struct option_row *taken; /* the row of the option that next_option() returned */

static const struct option_row *row_of(const struct option_row *row, int value)
{
    while (row->help && (!row->name || row->value != value))
        row++;
    return row;
}

int next_option(const struct command *command, int argc, char **argv)
{
    struct option names[MAX_OPTIONS + 1] = { 0 };
    char letters[2 * MAX_OPTIONS + 1];
    size_t count = 0;
    size_t length = 0;

    for (const struct option_row *row = command->options; row->help && count < MAX_OPTIONS; row++) {
        if (!row->name)
            continue;

        names[count++] =
            (struct option){ row->name, row->argument ? required_argument : no_argument, NULL, row->value };
        if (row->value < OPTION_HELP) {
            letters[length++] = (char)row->value;
            if (row->argument)
                letters[length++] = ':';
        }
    }

    letters[length] = '\0';
    int value = getopt_long(argc, argv, letters, names, NULL);
    switch (value) {
    case OPTION_HELP:
        printf("%s\n", command->about);
        print_options(command->options);
        printf("\n%s", command->notes);
        exit(finish_output(STATUS_FINE));
    case OPTION_VERSION:
        print_version();
    case '?': /* getopt has printed the error */
        point_to_help();
    default:
        taken = row_of(command->options, value);
        return value;
    }
}

/* Fills lines from `column` on. */
static void print_filled(const char *text, size_t column)
{
    while (*text) {
        size_t length = strcspn(text, " ");
        if (column > TEXT_COLUMN && column + 1 + length > LAST_COLUMN) {
            printf("\n%*s", (int)TEXT_COLUMN, "");
            column = TEXT_COLUMN;
        }
        column += (size_t)printf("%s%.*s", column > TEXT_COLUMN ? " " : "", (int)length, text);
        text += length + (text[length] == ' ');
    }

    printf("\n");
}

void print_options(const struct option_row *row)
{
    for (; row->help; row++) {
        if (!row->name) {
            printf("\n%s\n\n", row->help);
            continue;
        }

        int length = printf("  ");
        if (row->value < OPTION_HELP)
            length += printf("-%c, ", row->value);
        length += printf("--%s%s%s", row->name, row->argument ? " " : "", row->argument ? row->argument : "");
        if ((size_t)length + 1 >= TEXT_COLUMN) {
            printf("\n");
            length = 0;
        }

        printf("%*s", (int)TEXT_COLUMN - length, "");
        print_filled(row->help, TEXT_COLUMN);
    }
}

/* ---- arguments --------------------------------------------------------------------------------- */

unsigned take_word(const char *option)
{
    const char *word = taken->argument;
    size_t length = strlen(optarg);

    for (unsigned i = 0;; i++) {
        size_t word_length = strcspn(word, "|");
        if (length == word_length && memcmp(word, optarg, length) == 0)
            return i;
        if (!word[word_length])
            usage_error("%s: '%s' is none of %s", option, optarg, taken->argument);
        word += word_length + 1;
    }
}

/* At least 1, because 0 would mean no limit. */
static uint64_t take_age_ms(const char *option)
{
    int64_t ns = take_duration(option);

    if (ns == 0)
        usage_error("%s: '%s' is not longer than zero", option, optarg);
    return (uint64_t)ns / 1000000;
}

void share_log(struct twinlog_options *options)
{
    options->mode = TWINLOG_MODE_SHARED;
    options->lock_timeout_ms = SHARED_WAIT_MS;
}

bool take_log_option(int value, struct twinlog_options *options)
{
    switch (value) {
    case OPTION_MAX_RECORD:
        options->max_record_bytes = (uint32_t)take_number("--max-record", 1, (256u << 20) - 8192);
        return true;
    case OPTION_SEGMENT:
        options->segment_bytes = take_number("--segment", 64u << 10, UINT64_C(1) << 40);
        if (options->segment_bytes % 4096)
            usage_error("--segment: %s is not a multiple of 4096", optarg);
        return true;
    case OPTION_PAD:
        options->flags |= TWINLOG_PAD;
        return true;
    case OPTION_BUFFERED:
        options->flags |= TWINLOG_BUFFERED;
        return true;
    case OPTION_IO:
        options->io = take_word("--io"); /* its words have the order of the enum */
        return true;
    case OPTION_PREPARE:
        options->prepare = take_word("--prepare");
        return true;
    case OPTION_MAPPED:
        if (!is_mapped_mode(options->mode)) /* a shared one is mapped, too */
            options->mode = TWINLOG_MODE_MAPPED;
        return true;
    case OPTION_SHARED:
        share_log(options);
        return true;
    case OPTION_KEEP_BYTES:
        options->keep_bytes = take_number("--keep-bytes", 1, UINT64_MAX);
        return true;
    case OPTION_KEEP_RECORDS:
        options->keep_records = take_number("--keep-records", 1, UINT64_MAX);
        return true;
    case OPTION_KEEP_TIME:
        options->keep_age_ms = take_age_ms("--keep-time");
        return true;
    default:
        return false;
    }
}

void check_log_options(const struct twinlog_options *options)
{
    if (!is_mapped_mode(options->mode))
        return;
    if (options->flags & TWINLOG_PAD)
        usage_error("--%s and --pad exclude each other", mode_name(options->mode));
    if (options->segment_bytes > UINT64_C(1) << 30)
        usage_error("--segment: at most 1G with --%s", mode_name(options->mode));
}

const char *take_operand(int argc, char **argv, const char *what)
{
    if (optind == argc)
        usage_error("the %s is missing", what);
    if (optind + 1 < argc)
        usage_error("one %s at a time: '%s' is one too many", what, argv[optind + 1]);
    if (!*argv[optind])
        usage_error("the name of the %s is empty", what);
    return argv[optind];
}

const char *take_directory(int argc, char **argv)
{
    return take_operand(argc, argv, "directory");
}

void check_output(const char *output)
{
    if (!output)
        usage_error("missing --output NEW (the directory of the new log)");
    if (!*output)
        usage_error("--output: the name of the directory is empty");
}

static uint64_t suffix_factor(const char *suffix)
{
    if (suffix[0] && suffix[1])
        return 0;

    switch (suffix[0]) {
    case '\0':
        return 1;
    case 'K':
        return UINT64_C(1) << 10;
    case 'M':
        return UINT64_C(1) << 20;
    case 'G':
        return UINT64_C(1) << 30;
    default:
        return 0;
    }
}

uint64_t parse_number(const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *suffix = NULL;

    errno = 0;
    uint64_t number = strtoull(text, &suffix, 10);
    uint64_t factor = suffix_factor(suffix);

    if (text[0] < '0' || text[0] > '9' || !factor)
        usage_error("%s: '%s' is not a number (digits, then K, M, G or nothing)", option, text);

    const bool is_too_large = errno || __builtin_mul_overflow(number, factor, &number);
    if (is_too_large || number < least || number > most)
        usage_error("%s: %s is not between %" PRIu64 " and %" PRIu64, option, text, least, most);
    return number;
}

uint64_t take_number(const char *option, uint64_t least, uint64_t most)
{
    return parse_number(option, optarg, least, most);
}

const char *check_name(const char *option, const char *name)
{
    size_t length = strlen(name);

    if (length == 0 || length >= TWINLOG_NAME_BYTES)
        usage_error("%s: a name has 1 to %u bytes, '%s' has %zu", option, TWINLOG_NAME_BYTES - 1, name,
                    length);
    if ((unsigned char)name[0] < ' ')
        usage_error("%s: a name begins with no control character: those are for the library", option);
    return name;
}

const char *take_name(const char *option)
{
    return check_name(option, optarg);
}
