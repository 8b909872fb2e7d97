/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line and the loop of the programs that kill processes or cut the power, check, and begin again: what is
 * alike in all of them.
 */
#ifndef TWL_CRASH_COMMAND_LINE_H
#define TWL_CRASH_COMMAND_LINE_H

#include "../arguments.h"
#include "../sim/rng.h"

struct given {
    uint64_t kills, seconds; /* 0: no limit */
};
extern struct given given;

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

/* What is killed, and how it is judged. */
struct policy {
    const char *name;
    uint64_t usual_kills, usual_seconds; /* if the command line does not say how long */
    const struct argument *more;         /* options of its own; NULL: none */
    void (*begin)(void);                 /* after the place was made */
    void (*run_cycle)(struct rng *rng);  /* number place.cycle; its chance */
    void (*end)(void);                   /* NULL, or before the place is removed */
    void (*summarise)(void);
    const uint64_t *killed; /* so far */
};

extern const struct policy durable_policy, soak_policy;  /* durable.c */
extern const struct policy mapped_policy, shared_policy; /* log.c */
extern const struct policy sink_policy;                  /* sink.c */

/* Its exit status. The arguments are those behind the policy's name. */
int run_policy(const struct policy *policy, const char *program, void (*print_help)(void), int argc,
               char **argv);

#endif
