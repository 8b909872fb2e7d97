/* SPDX-License-Identifier: Apache-2.0 */
/* The command line and the loop of the programs that kill, check, and begin again: crash-sink, crash-mapped, crash-shared. */
#ifndef TWL_CRASH_KILL_PROGRAM_H
#define TWL_CRASH_KILL_PROGRAM_H

#include "command_line.h"

struct program {
    const char *name;
    const char *help;        /* all of it */
    const char *const *fibs; /* names of the lies; the first one is none */
    int fib_count;
    uint64_t usual_kills; /* if neither --kills nor --seconds says how long */
    const struct option
        *more; /* NULL, or options of its own, up to one that is zeros; each a letter from A to Z */
    void (*take)(int letter, const char *argument);
    void (*begin)(void);     /* NULL, or after the place was made */
    void (*run_cycle)(void); /* number place.cycle, which it counts on */
    void (*summarise)(uint64_t cycles, int64_t took_ns);
    const uint64_t *killed; /* so far */
};

struct settings {
    bool is_verbose;
    int fib;
};
extern struct settings settings;

/* Its exit status. Processes must be able to complain before. */
int run_program(const struct program *program, int argc, char **argv);

#endif
