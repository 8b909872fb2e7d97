/* SPDX-License-Identifier: Apache-2.0 */
/* See command_line.h. */
#define _GNU_SOURCE
#include "command_line.h"

#include "kill.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct given given;

static _Noreturn void wrong_usage(void)
{
    fprintf(stderr, "try: %s --help\n", place.program);
    exit(2);
}

uint64_t parse_number(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > most)
        wrong_usage();
    return value;
}

int name_index(const char *text, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    wrong_usage();
}

static void keep_arguments(int argc, char **argv)
{
    size_t used = 0;

    for (int i = 1; i < argc && used < sizeof(place.command_line); i++)
        used +=
            (size_t)snprintf(place.command_line + used, sizeof(place.command_line) - used, " %s", argv[i]);
}

void begin_command_line(const char *program, int argc, char **argv)
{
    const char *seed = getenv("TWINLOG_SEED");

    place.program = program;
    keep_arguments(argc, argv);
    place.seed = seed ? parse_number(seed, 0, UINT64_MAX) : 1;
}

int next_option(int argc, char **argv, const struct option *options, const char *help)
{
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (letter) {
        case 0:
            break;
        case 'k':
            given.kills = parse_number(optarg, 1, UINT64_MAX);
            break;
        case 's':
            given.seconds = parse_number(optarg, 1, 1000000);
            break;
        case 'S':
            place.seed = parse_number(optarg, 0, UINT64_MAX);
            break;
        case 'd':
            given.parent = optarg;
            break;
        case 'h':
            puts(help);
            exit(EXIT_SUCCESS);
        case '?':
            wrong_usage();
        default:
            return letter;
        }
    if (optind < argc)
        wrong_usage();
    return -1;
}

bool is_enough(uint64_t kills, int64_t start_ns)
{
    return (given.kills > 0 && kills >= given.kills) ||
           (given.seconds > 0 && now_ns() - start_ns >= (int64_t)given.seconds * 1000000000);
}
