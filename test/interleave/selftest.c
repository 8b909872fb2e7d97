/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the tester: programs so small that it is known what may come out, and after how many preemptions. Each fiber is
 * a word; "r" and "w" read and write x, "R" and "W" y, "+" reads x and writes it one larger, "(" and ")" lock
 * and unlock, "s" sleeps until there was a notify, "n" notifies.
 */
#define _GNU_SOURCE
#include "explore.h"

#include "base/sync.h"

#include <stdio.h>
#include <stdlib.h>

static const struct program {
    const char *fibers[4];
    uint64_t outcomes; /* a bit for each possible value of x */
    uint64_t simple;   /* those without a preemption */
} programs[] = {
    { { "w", "W", "r" }, 1, 1 },
    { { "+", "+" }, 1u << 1 | 1u << 2, 1u << 2 },
    { { "(+)", "(+)", "(+)" }, 1u << 3, 1u << 3 },
    { { "++", "+" }, 1u << 1 | 1u << 2 | 1u << 3, 1u << 3 },
    { { "+", "+", "+" }, 1u << 1 | 1u << 2 | 1u << 3, 1u << 3 },
    { { "s+", "n" }, 1u << 1, 1u << 1 },
    { { "s+", "s+", "n" }, 1u << 1 | 1u << 2, 1u << 2 },
};

static struct {
    const struct program *program;
    unsigned x, y;
    uint64_t outcomes;
    struct twl_mutex mutex;
    struct twl_event event;
} now;

static void sleep_until_notified(void)
{
    for (;;) {
        const uint32_t seen = twl_event_value(&now.event);
        if (seen > 0)
            return;
        twl_event_sleep(&now.event, seen);
    }
}

static void obey(char letter) NO_THREAD_SAFETY_ANALYSIS
{
    unsigned x;
    switch (letter) {
    case '+':
        point(STEP_READ, &now.x, "x", __func__);
        x = now.x;
        point(STEP_WRITE, &now.x, "x", __func__);
        now.x = x + 1;
        break;
    case '(':
        twl_mutex_lock(&now.mutex);
        break;
    case ')':
        twl_mutex_unlock(&now.mutex);
        break;
    case 's':
        sleep_until_notified();
        break;
    case 'n':
        twl_event_notify_all(&now.event);
        break;
    default:
        point(letter == 'r' || letter == 'R' ? STEP_READ : STEP_WRITE,
              letter == 'r' || letter == 'w' ? &now.x : &now.y, "x or y", __func__);
    }
}

static void *run_word(void *context)
{
    for (const char *letter = context; *letter; letter++)
        obey(*letter);
    return NULL;
}

static void *look(void *context)
{
    for (unsigned i = 0; now.program->fibers[i]; i++)
        fiber_join(i);
    now.outcomes |= UINT64_C(1) << now.x;
    return context;
}

/* But not the outcomes, which are of all executions. */
static unsigned memory(struct memory *ret_parts)
{
    ret_parts[0] = (struct memory){ &now.x, sizeof(now.x), sizeof(now.x) };
    ret_parts[1] = (struct memory){ &now.event, sizeof(now.event), sizeof(now.event) };
    return 2;
}

static void begin(void)
{
    now.x = 0;
    now.event = (struct twl_event){ 0 };
    for (unsigned i = 0; now.program->fibers[i]; i++)
        fiber_start(run_word, (void *)(uintptr_t)now.program->fibers[i], false);
    fiber_start(look, NULL, false);
}

static uint64_t outcomes_of(unsigned preemptions)
{
    const struct exploration plan = {
        .begin = begin, .preemptions = preemptions, .memory = memory, .command = "interleave-selftest"
    };
    now.outcomes = 0;
    explore(&plan);
    return now.outcomes;
}

static bool try_program(size_t number)
{
    const struct program *program = now.program = &programs[number];
    const uint64_t all = outcomes_of(NO_BOUND), simple = outcomes_of(0);
    const bool is_right = all == program->outcomes && simple == program->simple && outcomes_of(10) == all;
    printf("program %zu: outcomes %llx, %llx%s\n", number + 1, (unsigned long long)all,
           (unsigned long long)simple, is_right ? "" : ": wrong");
    return is_right;
}

int main(void)
{
    int failures = 0;
    if (!can_explore()) {
        printf("SKIP interleave-selftest: not under a sanitizer, and only on x86-64\n");
        return 77;
    }
    for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++)
        failures += !try_program(i);
    return failures > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
