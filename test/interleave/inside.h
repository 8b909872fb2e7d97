/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler (explore.c) as the search sees it (states.c). */
#ifndef TEST_INTERLEAVE_INSIDE_H
#define TEST_INTERLEAVE_INSIDE_H

#include "explore.h"

enum {
    MAX_STEPS = 4000,
    MAX_OBJECTS = 256, /* a power of two */
    STACK_BYTES = 128 * 1024,
    NOBODY = -1
};

typedef uint32_t fiber_set;
#define ONLY(fiber) (UINT32_C(1) << (fiber))
static inline int first_of(fiber_set fibers)
{
    return __builtin_ctz(fibers);
}

struct object {
    const void *address; /* NULL: none */
    int holder;          /* of a mutex */
    uint32_t changes;    /* so far */
    fiber_set sleepers;
    /* in all executions */
    fiber_set users;
    bool is_changed, is_contended;
};

struct operation {
    enum step_kind kind;
    struct object *object;
    const char *text, *function;
};

/* Where a fiber goes on: what __builtin_setjmp() keeps. Of the registers that is the frame pointer and the stack
 * pointer; the function that calls it keeps all others on the stack. */
struct place {
    void *words[5];
};

/* Of these five; the others are not used on x86-64. */
enum {
    FRAME_WORD,
    CODE_WORD,
    STACK_WORD
};

struct fiber {
    struct place place;
    unsigned char *stack, *locals;
    void *(*run)(void *context);
    void *run_context;
    bool is_daemon, has_ended;
    struct operation next;
    struct object *read;  /* last */
    uint32_t read_change; /* it saw */
    bool has_yielded;     /* since it changed anything */
    uint64_t now_ns;
    /* in a sleep */
    bool is_woken;
    uint64_t deadline_ns; /* 0 = none */
    uint64_t asleep_since;
};

struct run {
    const struct exploration *plan;
    struct exploration_count count;
    int steps[MAX_STEPS]; /* which fiber has made them */
    int depth;
    int last;             /* fiber that was chosen */
    unsigned preemptions; /* so far */
    bool is_abandoned;
    struct object objects[MAX_OBJECTS];
    struct object *known[MAX_OBJECTS];
    int known_count;
    struct fiber fibers[MAX_FIBERS];
    int fiber_count;
    int current;      /* NOBODY: outside */
    uint64_t sleeps;  /* so far, for their order */
    uint64_t tick_ns; /* outside */
    struct place outside;
};
extern struct run run;

/* What is local to a thread; see points.h. The linker makes the two names if anything is in it. */
extern unsigned char __start_of_fiber[], __stop_of_fiber[];

/* The kind of a step that is about to be made. */
enum step_kind effect(const struct fiber *fiber);
fiber_set enabled_fibers(void);
/* To that fiber, or outside. */
void pass_to(int next);
/* Nobody can go on: is that the end? */
void check_end(void);
void on_signal(int number);

#endif
