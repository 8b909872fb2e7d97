/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler as its two searches see it: explore.c goes from execution to execution, states.c from state to
 * state. */
#ifndef TEST_INTERLEAVE_INSIDE_H
#define TEST_INTERLEAVE_INSIDE_H

#include "explore.h"

#include <ucontext.h>

enum {
    MAX_STEPS = 4000,
    MAX_OBJECTS = 256, /* a power of two */
    STACK_BYTES = 128 * 1024,
    NOBODY = -1
};

typedef uint32_t fiber_set;
#define ONLY(fiber) (UINT32_C(1) << (fiber))

/* How many steps of the execution, up to its own last one, come before a place in it, for each fiber. */
struct clock {
    uint32_t of[MAX_FIBERS];
};

struct object {
    const void *address;
    uint64_t execution;   /* of another one it is forgotten */
    int last_step;        /* that touched it */
    int holder;           /* of a mutex */
    uint32_t changes;     /* so far */
    struct clock changed; /* by which fiber */
    struct clock touched; /* by which fiber, also only read */
    fiber_set sleepers;
    /* of all executions, for states.c */
    fiber_set users;
    bool is_changed, is_contended;
};

struct operation {
    enum step_kind kind;
    struct object *object;
    const char *text, *function;
};

struct fiber {
    ucontext_t context;
    unsigned char *stack, *locals;
    void *(*run)(void *context);
    void *run_context;
    bool is_daemon, has_ended;
    struct operation next;
    struct clock clock;
    struct object *read;  /* last */
    uint32_t read_change; /* it saw */
    bool has_yielded;     /* since it changed anything */
    uint64_t now_ns;
    /* in a sleep */
    bool is_woken;
    uint64_t deadline_ns; /* 0 = none */
    uint64_t asleep_since;
    struct clock waker;
};

struct step {
    int fiber;
    enum step_kind kind;
    struct object *object;
    int before;        /* the step before it that touched the object */
    fiber_set enabled; /* could have gone on */
    fiber_set wanted;  /* are to, in one execution or another */
    fiber_set done;    /* have */
    fiber_set asleep;  /* a step of theirs here leads to what another execution has shown */
    unsigned preemptions;
};

struct run {
    const struct exploration *plan;
    struct exploration_count count;
    struct step steps[MAX_STEPS];
    int depth;   /* steps of this execution */
    int planned; /* of which so many are as before */
    bool is_redundant;
    bool is_abandoned;
    struct object objects[MAX_OBJECTS];
    struct object *known[MAX_OBJECTS]; /* those of this execution */
    int known_count;
    struct fiber fibers[MAX_FIBERS];
    int fiber_count;
    int current;      /* NOBODY: outside */
    uint64_t sleeps;  /* so far, for their order */
    uint64_t tick_ns; /* outside */
    ucontext_t outside;
    const char *replay;
};
extern struct run run;

/* What is local to a thread; see points.h. The linker makes the two names if anything is in it. */
extern unsigned char __start_of_fiber[], __stop_of_fiber[];

/* The kind of a step that is about to be made. */
enum step_kind effect(const struct fiber *fiber);
fiber_set enabled_fibers(void);
/* To that fiber, or outside. */
void pass_to(int next);
void begin_execution(void);
/* Nobody can go on: is that the end? */
void check_end(void);

/* states.c: as explore(). */
void explore_states(void);

#endif
