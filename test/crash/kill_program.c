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

static void parse(const struct program *program, int argc, char **argv)
{
    struct option options[OPTIONS_MAX];
    int letter;

    collect_options(program, options);
    while ((letter = next_option(argc, argv, options, program->help)) != -1)
        if (letter == 'l')
            settings.fib = name_index(optarg, program->fibs, program->fib_count);
        else if (letter == 'v')
            settings.is_verbose = true;
        else
            program->take(letter, optarg);
    if (given.kills == 0 && given.seconds == 0)
        given.kills = program->usual_kills;
}

static void show_progress(uint64_t killed)
{
    if (place.has_terminal)
        fprintf(stderr, "\rcycle %" PRIu64 ": %" PRIu64 " killed ", place.cycle, killed);
}

int run_program(const struct program *program, int argc, char **argv)
{
    uint64_t first_cycle;
    int64_t start;

    begin_command_line(program->name, argc, argv);
    parse(program, argc, argv);
    place.lie = settings.fib == 0 ? LIE_NONE : LIE_BYTES;
    make_place(given.parent);
    if (program->begin)
        program->begin();
    first_cycle = place.cycle;
    start = now_ns();
    while (!is_enough(*program->killed, start)) {
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
