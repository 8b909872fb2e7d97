/* SPDX-License-Identifier: Apache-2.0 */
/* See command_line.h. */
#define _GNU_SOURCE
#include "command_line.h"

#include "kill.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct given given;

static const char *const lie_names[LIES] = {
    [LIE_NONE] = "none",       [LIE_ACK] = "ack",     [LIE_BYTES] = "bytes",     [LIE_READER] = "reader",
    [LIE_CUT] = "cut",         [LIE_TRIM] = "trim",   [LIE_NAME] = "name",       [LIE_LOST] = "lost",
    [LIE_GARBLED] = "garbled", [LIE_TWICE] = "twice", [LIE_SWAPPED] = "swapped", [LIE_STALL] = "stall",
    [LIE_SEEN] = "seen",       [LIE_TORN] = "torn",   [LIE_DURABLE] = "durable", [LIE_OFFSET] = "offset",
    [LIE_END] = "end",         [LIE_ZERO] = "zero",   [LIE_AREA] = "area",       [LIE_FLUSH] = "flush",
};

static void keep_arguments(int argc, char **argv)
{
    size_t used = 0;

    for (int i = 1; i < argc && used < sizeof(place.command_line); i++)
        used +=
            (size_t)snprintf(place.command_line + used, sizeof(place.command_line) - used, " %s", argv[i]);
}

/* Returns the parent of the place, or NULL. */
static const char *parse(const struct policy *policy, void (*print_help)(void), int argc, char **argv)
{
    const char *seed = getenv("TWINLOG_SEED"), *parent = NULL;
    unsigned lie = LIE_NONE;
    const struct argument arguments[] = {
        { "kills", .number = &given.kills },
        { "cuts", .number = &given.kills },
        { "seconds", .number = &given.seconds },
        { "seed", .number = &place.seed },
        { "cycle", .number = &place.cycle },
        { "dir", .text = &parent },
        { "lie", .word = &lie, .words = lie_names, .count = LIES },
        { 0 },
    };

    keep_arguments(argc, argv);
    place.seed = seed ? strtoull(seed, NULL, 0) : 1;
    if (parse_arguments(arguments, policy->more, print_help, argc, argv) < argc) {
        fprintf(stderr, "try: %s --help\n", place.program);
        exit(2);
    }
    place.lie = (enum lie)lie;
    if (given.kills == 0 && given.seconds == 0) {
        given.kills = policy->usual_kills;
        given.seconds = policy->usual_seconds;
    }
    return parent;
}

static bool is_enough(uint64_t kills, int64_t start_ns)
{
    return (given.kills > 0 && kills >= given.kills) ||
           (given.seconds > 0 && now_ns() - start_ns >= (int64_t)given.seconds * 1000000000);
}

int run_policy(const struct policy *policy, const char *program, void (*print_help)(void), int argc,
               char **argv)
{
    const char *parent;
    uint64_t first_cycle;
    int64_t start;

    place.program = program;
    parent = parse(policy, print_help, argc, argv);
    make_place(parent);
    policy->begin();
    first_cycle = place.cycle;
    start = now_ns();
    while (!is_enough(*policy->killed, start)) {
        struct rng rng = { rng_mix(place.seed ^ rng_mix(place.cycle)) };

        policy->run_cycle(&rng);
        place.cycle++;
    }
    if (policy->end)
        policy->end();
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
