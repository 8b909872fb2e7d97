/* SPDX-License-Identifier: Apache-2.0 */
/* See command_line.h. */
#define _GNU_SOURCE
#include "command_line.h"

#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 24u

struct given given;

static const char *const lie_names[LIES] = {
    [LIE_NONE] = "none",       [LIE_ACK] = "ack",     [LIE_BYTES] = "bytes",     [LIE_READER] = "reader",
    [LIE_CUT] = "cut",         [LIE_TRIM] = "trim",   [LIE_NAME] = "name",       [LIE_LOST] = "lost",
    [LIE_GARBLED] = "garbled", [LIE_TWICE] = "twice", [LIE_SWAPPED] = "swapped", [LIE_STALL] = "stall",
    [LIE_SEEN] = "seen",       [LIE_TORN] = "torn",   [LIE_DURABLE] = "durable", [LIE_OFFSET] = "offset",
    [LIE_END] = "end",         [LIE_ZERO] = "zero",   [LIE_AREA] = "area",       [LIE_FLUSH] = "flush",
};

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
        case 'C':
            place.cycle = parse_number(optarg, 0, UINT64_MAX);
            break;
        case 'v':
            given.is_verbose = true;
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

/* ---- policies ------------------------------------------------------------------------------------ */

static void collect_options(const struct policy *policy, struct option ret_options[OPTIONS_MAX])
{
    const struct option common[] = {
        { "kills", required_argument, NULL, 'k' },   { "cuts", required_argument, NULL, 'k' },
        { "seconds", required_argument, NULL, 's' }, { "seed", required_argument, NULL, 'S' },
        { "cycle", required_argument, NULL, 'C' },   { "dir", required_argument, NULL, 'd' },
        { "lie", required_argument, NULL, 'l' },     { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
    };
    size_t count = sizeof(common) / sizeof(common[0]);

    memset(ret_options, 0, OPTIONS_MAX * sizeof(*ret_options));
    memcpy(ret_options, common, sizeof(common));
    for (const struct option *own = policy->more; own && own->name && count < OPTIONS_MAX - 1; own++)
        ret_options[count++] = *own;
}

static void parse(const struct policy *policy, const char *help, int argc, char **argv)
{
    struct option options[OPTIONS_MAX];
    int letter;

    collect_options(policy, options);
    while ((letter = next_option(argc, argv, options, help)) != -1)
        if (letter != 'l')
            policy->take(letter, optarg);
        else if (!(policy->lies & LIE_BIT(place.lie = (enum lie)name_index(optarg, lie_names, LIES))))
            wrong_usage();
    if (given.kills == 0 && given.seconds == 0) {
        given.kills = policy->usual_kills;
        given.seconds = policy->usual_seconds;
    }
}

static bool is_enough(uint64_t kills, int64_t start_ns)
{
    return (given.kills > 0 && kills >= given.kills) ||
           (given.seconds > 0 && now_ns() - start_ns >= (int64_t)given.seconds * 1000000000);
}

int run_policy(const struct policy *policy, const char *program, const char *help, int argc, char **argv)
{
    uint64_t first_cycle;
    int64_t start;

    begin_command_line(program, argc, argv);
    parse(policy, help, argc, argv);
    make_place(given.parent);
    policy->begin();
    first_cycle = place.cycle;
    start = now_ns();
    while (!is_enough(*policy->killed, start)) {
        policy->run_cycle();
        if (place.has_terminal)
            fprintf(stderr, "\rcycle %" PRIu64 ": %" PRIu64 " killed ", place.cycle, *policy->killed);
    }
    if (policy->end)
        policy->end();
    erase_progress();
    remove_place();
    if (place.lie != LIE_NONE) {
        printf("%s: lied about %s, and nobody noticed\n", program, lie_names[place.lie]);
        return EXIT_FAILURE;
    }
    printf("%s: %s, seed %" PRIu64 ": %" PRIu64 " cycles in %.1f s, no violation\n", program, policy->name,
           place.seed, place.cycle - first_cycle, (double)(now_ns() - start) / 1e9);
    policy->summarise();
    return say_at_end(EXIT_SUCCESS);
}
