/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line and the loop of the programs that kill processes or cut the power, check, and begin again: what is
 * alike in all of them. Each has a table of its own options; those that others have as well have the same letters.
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
    bool is_verbose;
};
extern struct given given;

/* Into the place: the program's name, its arguments, and TWINLOG_SEED, or 1. */
void begin_command_line(const char *program, int argc, char **argv);

/* The letter of the next option, its argument in optarg; -1 behind the last one. It takes some itself: those that set a
 * flag, and 'k' kills or cuts, 's' seconds, 'S' the seed, 'C' the cycle, 'd' the parent, 'v' verbose, 'h' help. Ends
 * the program if one is wrong. */
int next_option(int argc, char **argv, const struct option *options, const char *help);

/* Both end the program if the text is none. */
uint64_t parse_number(const char *text, uint64_t least, uint64_t most);
int name_index(const char *text, const char *const *names, int count);

/* One thing done wrong on purpose, to see that it is found. */
enum lie {
    LIE_NONE,
    LIE_ACK,    /* a writer takes an accepted record for an acknowledged one */
    LIE_BYTES,  /* a writer hands over a record with one bit changed */
    LIE_READER, /* the witness notes a record it was not given */
    LIE_CUT,    /* a writer notes a truncation that it did not make */
    LIE_TRIM,   /* a writer notes a trim that it did not make */
    LIE_NAME,   /* a writer notes a cursor or a value that it did not set */

    LIE_LOST,    /* a pen notes what it did not write */
    LIE_GARBLED, /* one bit of it is wrong */
    LIE_TWICE,   /* it is written twice */
    LIE_SWAPPED, /* two change places */
    LIE_STALL,   /* a pen does not go on after a death */
    LIE_SEEN,    /* a follower notes a record that it was not given */
    LIE_DURABLE, /* what is not is noted as durable */
    LIE_TORN,    /* a byte of the newest segment is changed after a death */
    LIE_OFFSET,  /* a pen notes another place than it was told */
    LIE_END,     /* there is one byte more at the end */
    LIE_ZERO,    /* a byte in the middle is zero again */
    LIE_AREA,    /* the second file is still there */

    LIE_FLUSH, /* the disk forgets flushes */
    LIES,
};
#define LIE_BIT(lie) (UINT32_C(1) << (lie))

/* What is killed, and how it is judged. */
struct policy {
    const char *name;
    uint32_t lies;                       /* that it knows: LIE_BIT() of each */
    uint64_t usual_kills, usual_seconds; /* if the command line does not say how long */
    const struct option *more;           /* of its own, up to one that is zeros */
    void (*take)(int letter, const char *argument);
    void (*begin)(void);     /* after the place was made */
    void (*run_cycle)(void); /* number place.cycle, which it counts on */
    void (*end)(void);       /* NULL, or before the place is removed */
    void (*summarise)(void);
    const uint64_t *killed; /* so far */
};

/* Its exit status. */
int run_policy(const struct policy *policy, const char *program, const char *help, int argc, char **argv);

#endif
