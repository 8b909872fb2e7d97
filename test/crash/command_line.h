/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of the programs that kill processes or cut the power: what is alike in all of them. Each has a table
 * of its own options, in which those that others have as well have the same letters.
 */
#ifndef TWL_CRASH_COMMAND_LINE_H
#define TWL_CRASH_COMMAND_LINE_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

/* With the options that next_option() takes itself. */
struct given {
    uint64_t kills, seconds; /* 0: no limit */
    const char *parent;      /* of the place; NULL: where it usually is */
};
extern struct given given;

/* Into the place: the program's name, its arguments, and TWINLOG_SEED, or 1. */
void begin_command_line(const char *program, int argc, char **argv);

/* The letter of the next option, its argument in optarg; -1 behind the last one. It takes some itself: those that set a
 * flag, and 'k' kills or cuts, 's' seconds, 'S' the seed, 'd' the parent, 'h' help. Ends the program if one is wrong. */
int next_option(int argc, char **argv, const struct option *options, const char *help);

/* Both end the program if the text is none. */
uint64_t parse_number(const char *text, uint64_t least, uint64_t most);
int name_index(const char *text, const char *const *names, int count);

/* So many kills since `start_ns`, by --kills and --seconds? */
bool is_enough(uint64_t kills, int64_t start_ns);

#endif
