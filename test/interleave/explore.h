/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a few fibers in every order that makes a difference.
 *
 * A fiber stops in front of each step that another one may notice. Which of them goes on is a choice. Each state that
 * can be reached is seen once, and from it each fiber that can go on is tried (states.c). A preemption is the choice of
 * another fiber while the last one could go on; with a bound on them only what takes no more is tried.
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
unsigned long fiber_self(void); /* never 0; of no fiber, too */
/* From a fiber, or from begin(). Fibers that serve others for ever are `is_daemon`: nobody waits for their end. */
unsigned fiber_start(void *(*run)(void *context), void *context, bool is_daemon);

/* Of what a program may change: all of it has to be there again when a state is gone back to. The first `told_bytes` of
 * it are what states are told from each other by; what lies behind must follow from those, or be read by nobody. */
struct memory {
    void *address;
    size_t bytes, told_bytes;
};

struct exploration {
    void (*begin)(void);  /* makes the world anew and starts fibers; is no fiber itself */
    void (*check)(void);  /* after every step */
    unsigned preemptions; /* at most */
    unsigned (*memory)(struct memory *ret_parts); /* always the same parts, of which some may have grown */
    const char *replay;  /* NULL, or the only schedule to run, which is printed as it goes */
    const char *command; /* that a failure prints, with --replay SCHEDULE behind it */
};
struct exploration_count {
    uint64_t states, ends; /* with a choice; without anything left to do */
    uint64_t steps;
    uint64_t renamed;  /* that were abandoned */
    unsigned searches; /* until it was known what is independent of what */
};
struct exploration_count explore(const struct exploration *exploration);
/* Not under a sanitizer, which looks after stacks itself; and only where it is known what of a processor is a
 * fiber's. */
bool can_explore(void);

/* A woken fiber finds that its deadline has passed: the timer went off, and it had not run yet. */
extern bool wakes_are_late;

/* It shows a fault. Prints how to run it again, and ends the process. */
_Noreturn void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Another execution differs from this one only in which fiber is which. */
void abandon(void);
/* A note in a trace. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
