/* SPDX-License-Identifier: Apache-2.0 */
/* See kill_program.h. */
#define _GNU_SOURCE
#include "kill_program.h"

#include "kill.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 16u

struct settings settings;

_Noreturn void wrong_usage(void)
{
    fprintf(stderr, "try: %s --help\n", place.program);
    exit(2);
}

static int parse_fib(const struct program *program, const char *name)
{
    for (int fib = 0; fib < program->fib_count; fib++)
        if (strcmp(name, program->fibs[fib]) == 0)
            return fib;
    wrong_usage();
}

static void collect_options(const struct program *program, struct option ret_options[OPTIONS_MAX])
{
    const struct option common[] = {
        { "kills", required_argument, NULL, 'k' }, { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'S' },  { "dir", required_argument, NULL, 'd' },
        { "lie", required_argument, NULL, 'l' },   { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
    };
    size_t count = sizeof(common) / sizeof(common[0]);

    memset(ret_options, 0, OPTIONS_MAX * sizeof(*ret_options));
    memcpy(ret_options, common, sizeof(common));
    for (const struct option *own = program->more; own && own->name && count < OPTIONS_MAX - 1; own++)
        ret_options[count++] = *own;
}

static void take_option(const struct program *program, int option)
{
    switch (option) {
    case 'k':
        settings.kills = parse_number(optarg, 1, UINT64_MAX);
        break;
    case 's':
        settings.seconds = parse_number(optarg, 1, 1000000);
        break;
    case 'S':
        place.seed = parse_number(optarg, 0, UINT64_MAX);
        break;
    case 'd':
        settings.parent = optarg;
        break;
    case 'l':
        settings.fib = parse_fib(program, optarg);
        break;
    case 'v':
        settings.is_verbose = true;
        break;
    case 'h':
        puts(program->help);
        exit(EXIT_SUCCESS);
    default:
        if (option < 'A' || option > 'Z')
            wrong_usage();
        program->take(option, optarg);
    }
}

static void parse(const struct program *program, int argc, char **argv)
{
    struct option options[OPTIONS_MAX];
    const char *seed = getenv("TWINLOG_SEED");
    int option;

    collect_options(program, options);
    if (seed)
        place.seed = parse_number(seed, 0, UINT64_MAX);
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        take_option(program, option);
    if (optind < argc)
        wrong_usage();
    if (settings.kills == 0 && settings.seconds == 0)
        settings.kills = program->usual_kills;
}

static void show_progress(uint64_t killed)
{
    if (place.has_terminal)
        fprintf(stderr, "\rcycle %" PRIu64 ": %" PRIu64 " killed ", place.cycle, killed);
}

int run_program(const struct program *program, int argc, char **argv)
{
    uint64_t first_cycle;
    int64_t start, end;

    place.program = program->name;
    place.seed = 1;
    keep_arguments(argc, argv);
    parse(program, argc, argv);
    place.lie = settings.fib == 0 ? LIE_NONE : LIE_BYTES;
    make_place(settings.parent);
    if (program->begin)
        program->begin();
    first_cycle = place.cycle;
    start = now_ns();
    end = settings.seconds > 0 ? start + (int64_t)settings.seconds * 1000000000 : INT64_MAX;
    while ((settings.kills == 0 || *program->killed < settings.kills) && now_ns() < end) {
        program->run_cycle();
        show_progress(*program->killed);
    }
    erase_progress();
    remove_place();
    if (settings.fib != 0) {
        printf("%s: lied about %s, and nobody noticed\n", program->name, program->fibs[settings.fib]);
        return EXIT_FAILURE;
    }
    program->summarise(place.cycle - first_cycle, now_ns() - start);
    return EXIT_SUCCESS;
}
