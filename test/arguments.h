/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of a test program, as a table. */
#ifndef TWL_TEST_ARGUMENTS_H
#define TWL_TEST_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

/* An option: where to put what is behind it, or its place in a list, or true if it takes nothing. */
struct argument {
    const char *name; /* NULL behind the last one */
    uint64_t *number;
    const char **text;
    bool *is_given;
    unsigned *word;
    const char *const *words; /* for that */
    unsigned count;
};

/* `more`: NULL, or another table. Returns where what is no option begins. Ends the program if something is wrong,
 * and for --help. */
int parse_arguments(const struct argument *arguments, const struct argument *more, void (*print_help)(void),
                    int argc, char **argv);

#endif
