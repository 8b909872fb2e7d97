/* SPDX-License-Identifier: Apache-2.0 */
/* See arguments.h. */
#include "arguments.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_OPTIONS 16
#define HELP 'h'
#define FIRST 256 /* the value of the first one of the tables */

static uint64_t parse_number(const char *text)
{
    char *end = NULL;
    const uint64_t number = strtoull(text, &end, 0);
    if (end != text && *end == '\0')
        return number;
    fprintf(stderr, "not a number: %s\n", text);
    exit(2);
}

static unsigned find_word(const char *word, const char *const *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    fprintf(stderr, "no such word: %s\n", word);
    exit(2);
}

static void take(const struct argument *argument)
{
    if (argument->is_given)
        *argument->is_given = true;
    else if (argument->text)
        *argument->text = optarg;
    else if (argument->word)
        *argument->word = find_word(optarg, argument->words, argument->count);
    else
        *argument->number = parse_number(optarg);
}

int parse_arguments(const struct argument *arguments, const struct argument *more, void (*print_help)(void),
                    int argc, char **argv)
{
    struct option options[MOST_OPTIONS] = { { "help", no_argument, NULL, HELP } };
    const struct argument *taken[MOST_OPTIONS];
    int count = 0;
    for (; arguments && count < MOST_OPTIONS - 2; more = NULL) {
        for (; arguments->name && count < MOST_OPTIONS - 2; arguments++, count++) {
            taken[count] = arguments;
            options[count + 1] =
                (struct option){ arguments->name, arguments->is_given ? no_argument : required_argument, NULL,
                                 FIRST + count };
        }
        arguments = more;
    }
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == HELP) {
            print_help();
            exit(0);
        }
        if (option < FIRST)
            exit(2);
        take(taken[option - FIRST]);
    }
    return optind;
}
