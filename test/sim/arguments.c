/* SPDX-License-Identifier: Apache-2.0 */
/* See arguments.h. */
#include "arguments.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_OPTIONS 16
#define HELP 'h'
#define FIRST 256 /* the value of the first one of the table */

static uint64_t parse_number(const char *program, const char *text)
{
    char *end = NULL;
    const uint64_t number = strtoull(text, &end, 0);
    if (end != text && *end == '\0')
        return number;
    fprintf(stderr, "%s: not a number: %s\n", program, text);
    exit(2);
}

int parse_arguments(const struct argument *arguments, void (*print_help)(void), int argc, char **argv)
{
    struct option options[MOST_OPTIONS] = { { "help", no_argument, NULL, HELP } };
    for (int i = 0; arguments[i].name && i < MOST_OPTIONS - 2; i++)
        options[i + 1] =
            (struct option){ arguments[i].name, arguments[i].is_given ? no_argument : required_argument, NULL,
                             FIRST + i };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        const struct argument *argument = &arguments[option - FIRST];
        if (option == HELP) {
            print_help();
            exit(0);
        }
        if (option < FIRST)
            exit(2);
        if (argument->is_given)
            *argument->is_given = true;
        else if (argument->text)
            *argument->text = optarg;
        else
            *argument->number = parse_number(argv[0], optarg);
    }
    return optind;
}
