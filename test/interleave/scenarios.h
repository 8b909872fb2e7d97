/* SPDX-License-Identifier: Apache-2.0 */
/* What interleave tries. */
#ifndef TEST_INTERLEAVE_SCENARIOS_H
#define TEST_INTERLEAVE_SCENARIOS_H

#include <stddef.h>

enum {
    MAX_WRITERS = 4,
    LARGE_BYTES = 4016, /* of a record: two don't fit in a buffer */
};

/* What a writer does. */
enum way {
    WAY_APPEND,
    WAY_WRITTEN, /* until it is written */
    WAY_ENQUEUE, /* not at all */
    WAY_FLUSH,   /* appends nothing, but waits for everything there is, as a sync does */
    WAY_SUBMIT,
    WAY_DEADLINE,
    WAY_CANCELED, /* cancels itself, as another thread would; leads nothing */
    WAY_CANCEL,   /* cancels the others, appends nothing */
    WAY_TRY,
    WAY_POLL, /* submits, and waits in polls of the queue until that is completed */
    WAY_LOOP /* submits, and polls the queue until that is completed; waits for the queue's descriptor alone */
};

enum fault {
    FAULT_NONE,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_SHORT,
    FAULT_INTERRUPTED
};

enum trait {
    HAS_COMMITTER = 1u << 0,
    IS_SMALL = 1u << 1,    /* the segment: the next one is needed */
    HAS_NO_NEXT = 1u << 2, /* and can't be made */
    IS_LATE = 1u << 3,     /* a fiber with a deadline is woken behind it */
    IS_CUT = 1u << 4,      /* then the path is stopped, and goes on; a spare is asked for */
    IS_DRIVEN = 1u << 5    /* by a fiber that polls the queue, or that waits */
};

struct scenario {
    const char *name, *what;
    enum way ways[MAX_WRITERS]; /* of the writers, in turn */
    size_t bytes;               /* of a record; 0 = a few */
    enum fault fault;           /* of the first group */
    unsigned traits;
};

extern const struct scenario scenarios[];
extern const size_t scenario_count;

#endif
