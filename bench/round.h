/* SPDX-License-Identifier: Apache-2.0 */
/* One contender, one workload, once: the unit that is timed. */
#ifndef ROUND_H
#define ROUND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "peer.h"
#include "workload.h"

/* A round ends with the first of these; those that are 0 set no end. */
struct limits {
    double seconds;
    double warmup_seconds; /* before any of them is counted */
    uint64_t count;        /* records a thread */
    uint64_t bytes;        /* payload of all threads together */
};

struct contender {
    const struct peer *peer;
    struct twinlog_setup twinlog;
    char label[64]; /* as the user wrote it */
};

/* What one round found; NAN where it could not be known. All are doubles, so that figure.c can treat
 * them alike. */
struct figures {
    double seconds, appends, rate, mb_per_s;
    double p50_us, p99_us, p999_us, max_us;
    double p99_over_p50;
    double cpu_us_per_append; /* user and system, the whole process */
    double appends_per_sync;
    double framing_per_append; /* bytes of headers and alignment beside the payload, since open */
    double record_overhead;    /* the same less 64 for each sync */
    double rewrite_per_sync;   /* bytes written beside the framed records, since open */
    double rolls, roll_waits;
    double resident_growth;        /* bytes, largest seen, against the moment before open */
    double allocations_per_append; /* heap, the whole process */
};

/* Runs it in `dir`, which exists and is empty; what it leaves there is the caller's to remove. Says
 * on stderr what failed; false then, and when the user interrupts. */
bool round_run(const struct contender *contender, const struct workload *workload,
               const struct limits *limits, bool is_watching_memory, const char *dir,
               struct figures *ret_figures);

/* Async-signal-safe: the round that is running ends soon and round_run() returns false. */
void round_interrupt(void);
bool round_is_interrupted(void);

#endif
