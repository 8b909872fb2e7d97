/* SPDX-License-Identifier: Apache-2.0 */
/* One contender, one workload, once: the unit that is timed. */
#ifndef ROUND_H
#define ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "figures.h"
#include "peer.h"
#include "workload.h"

/* A round ends with the first of these; those that are 0 set no end. */
struct limits {
    double seconds;
    double warmup_seconds; /* before any of them is counted */
    double bytes;          /* payload of all threads together */
    double rate; /* no end: so many appends a second are begun by all threads together; 0 = as many as go */
};

/* What appends, or in a study does what is timed there. */
struct contender {
    const struct peer *peer;   /* NULL in a study */
    const struct trial *trial; /* NULL but in a study */
    struct twinlog_setup twinlog;
    double
        share; /* of the rate of the contender of the same name without it: an open loop; 0 = a closed one */
    char label[64]; /* as the user wrote it */
};

/* Runs it in `dir`, which exists and is empty; what it leaves there is the caller's to remove. Says
 * on stderr what failed; false then, and when the user interrupts. No figure is known before. */
bool round_run(const struct contender *contender, const struct workload *workload,
               const struct limits *limits, const char *dir, struct figures *figures);

/* Async-signal-safe: the round that is running ends soon and round_run() returns false. */
void round_interrupt(void);
bool round_is_interrupted(void);

#endif
