/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a program, as a table. */
#ifndef TWL_SIM_ARGUMENTS_H
#define TWL_SIM_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

/* An option: where to put what is behind it, or true if it takes nothing. */
struct argument {
    const char *name; /* NULL behind the last one */
    uint64_t *number;
    const char **text;
    bool *is_given;
};

/* Returns where what is no option begins. Ends the program if something is wrong, and for --help. */
int parse_arguments(const struct argument *arguments, void (*print_help)(void), int argc, char **argv);

#endif
