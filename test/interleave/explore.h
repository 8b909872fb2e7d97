/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a few fibers in every order that makes a difference.
 *
 * A fiber stops in front of each step that another one may notice. Which of them goes on is a choice, and a list of
 * choices is an execution, which can be run again. After each execution the last choice that has an alternative is
 * made in another way, until none is left.
 *
 * Two steps depend on each other if they touch the same object and one of them changes it. Executions that differ only
 * in the order of independent steps are the same to every fiber, so one of them is enough. Where two steps of an
 * execution depend on each other and nothing forced their order, the other order is tried (dynamic partial-order
 * reduction after Flanagan and Godefroid, with sleep sets). With a bound on preemptions that is only done as far as the
 * bound allows, with a choice at the begin of the fiber's turn as well (Coons, Musuvathi, McKinley), and without sleep
 * sets.
 *
 * The other way is by states: each state that can be reached is seen once, and each step from it made once (states.c).
 * Far fewer than executions, where there are many, but each of them takes more.
 */
#ifndef TEST_INTERLEAVE_EXPLORE_H
#define TEST_INTERLEAVE_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MAX_FIBERS = 6,
    NO_BOUND = 1000
};

enum step_kind {
    STEP_LOCAL, /* nobody notices */
    STEP_READ,
    STEP_WRITE,
    STEP_LOCK,    /* possible while nobody has it */
    STEP_WAKE,    /* from a sleep: possible once it was woken; or, if it has a deadline, at any time */
    STEP_CHANGED, /* possible once the object was changed, or if nobody else can go on */
    STEP_JOIN     /* possible when the other fiber has ended */
};

/* In a fiber: what it is about to do. Returns when its turn has come. */
void point(enum step_kind kind, const void *object, const char *text, const char *function);
int fiber_join(unsigned long fiber);
/* From a fiber, or from begin(). Fibers that serve others for ever are `is_daemon`: nobody waits for their end. */
unsigned fiber_start(void *(*run)(void *context), void *context, bool is_daemon);

/* Of what a program may change: all of it has to be there again when a state is gone back to. The first `told_bytes` of
 * it are what states are told from each other by; what lies behind must follow from those, or be read by nobody. */
struct memory {
    void *address;
    size_t bytes, told_bytes;
};

struct exploration {
    void (*begin)(void); /* makes the world anew and starts fibers; is no fiber itself */
    void (*check)(void); /* after every step */
    unsigned preemptions;
    bool by_state;
    unsigned (*memory)(struct memory *ret_parts); /* always the same parts, of which some may have grown */
    const char *replay;  /* NULL, or the only schedule to run, which is printed as it goes */
    const char *command; /* that a failure prints, with --replay SCHEDULE behind it */
};
struct exploration_count {
    uint64_t executions, redundant; /* the latter were given up as equal to others */
    uint64_t steps;
    uint64_t states, ends; /* by states: with a choice; without anything left to do */
    unsigned searches;     /* by states: until it was known what is independent of what */
};
struct exploration_count explore(const struct exploration *exploration);
/* Not under a sanitizer, which looks after stacks itself; and only where it is known what of a processor is a
 * fiber's. */
bool can_explore_states(void);

/* A woken fiber finds that its deadline has passed: the timer went off, and it had not run yet. */
extern bool wakes_are_late;

/* In an execution: it shows a fault. Prints how to run it again, and ends the process. */
_Noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* In an execution by states: another one differs from it only in which fiber is which. */
void abandon(void);
/* A note in a trace. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
