/* SPDX-License-Identifier: Apache-2.0 */
/* What a piece of code costs, counted and not timed. */
#ifndef TEST_GUARD_GUARD_H
#define TEST_GUARD_GUARD_H

#include <stdbool.h>
#include <stdint.h>

enum cost {
    COST_INSTRUCTIONS, /* of the calling thread, in user mode; one that repeats itself counts once */
    COST_ATOMICS,      /* of these, the locked ones */
    COST_MOVED, /* bytes that were copied, filled, compared or summed by functions without a count of instructions */
    COST_LOCKS,       /* calls of pthread_mutex_lock() and the like */
    COST_CLOCKS,      /* readings of a clock */
    COST_ALLOCATIONS, /* calls of malloc() and the like, and of mmap() */
    COST_SYSCALLS,
    COST_REQUESTS, /* handed to io_uring */
    COST_SYNCS,    /* of the system calls, what waits for stable storage; not what io_uring does */
    COST_WRITTEN,  /* bytes handed to write() and the like */
    COST_READ,     /* bytes asked of read() and the like */
    COSTS
};
extern const char *const cost_names[COSTS];

/* What is measured: begin() and end() are not counted, `run` is. All run in a child, each returns 0 or an error. */
struct work {
    const char *name;
    int (*begin)(const struct work *work);
    int (*run)(const struct work *work);
    int (*end)(const struct work *work);
    unsigned operations; /* that one run() does */
    unsigned bytes;      /* of a record */
    uint32_t io, mode;   /* of the log */
    unsigned segments;   /* of a log that is looked at */
    bool is_opening;     /* most of it is opening and closing */
    bool is_optional;    /* the kernel may not have what it needs */
};
extern const struct work works[]; /* the last one has no name */
extern const struct work idle_work;

/* Runs `run` twice, and counts in the second run. 0, or what the work returned; -ENOSYS where the processor, or the
 * kernel, is not one that this can count on; -ECHILD when the process died. */
#define SYSTEM_CALLS 512u
struct counts {
    uint64_t costs[COSTS];
    uint64_t calls[SYSTEM_CALLS]; /* by number */
    bool is_complete;
    int result;
};
int count_costs(const struct work *work, struct counts *ret_counts);

/* Where the works put their logs; exists, and is empty before and after each. */
extern char guard_directory[256];

#endif
