/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler, and base/sync.h for fibers. See explore.h. */
#define _GNU_SOURCE
#include "inside.h"

#include "base/sync.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

struct run run;

/* So that the section is there. */
__attribute__((section("of_fiber"), used)) static int fiber_local;

/* ---- telling --------------------------------------------------------------------------------------- */

/* "3a2b" is three steps of the first fiber, then two of the second. */
static void print_way_back(void)
{
    if (run.plan->replay)
        return;
    printf("again: %s --replay ", run.plan->command);
    for (int i = 0, from = 0; i < run.depth; i = from) {
        while (from < run.depth && run.steps[from] == run.steps[i])
            from++;
        printf("%d%c", from - i, 'a' + run.steps[i]);
    }
    printf("\n");
    fflush(stdout);
}

void violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("violation: ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    print_way_back();
    exit(EXIT_FAILURE);
}

void on_signal(int number)
{
    signal(number, SIG_DFL);
    printf("violation: signal %d\n", number);
    print_way_back();
    raise(number);
}

void note(const char *format, ...)
{
    if (!run.plan->replay)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("       %c     ", run.current == NOBODY ? ' ' : 'a' + run.current);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

/* ---- what depends on what --------------------------------------------------------------------------- */

static struct object *object_at(const void *address)
{
    for (size_t i = (uintptr_t)address / 8 * 0x9E3779B1u;; i++) {
        struct object *object = &run.objects[i % MAX_OBJECTS];
        if (object->address == address)
            return object;
        if (object->address)
            continue;
        *object = (struct object){ .address = address, .holder = NOBODY };
        run.known[run.known_count++] = object;
        return object;
    }
}

/* The kind of a step that is about to be made. A sleep that ends by its deadline takes itself out of the others' way;
 * one that was ended follows from what has woken it. */
enum step_kind effect(const struct fiber *fiber)
{
    switch (fiber->next.kind) {
    case STEP_WAKE:
        return fiber->is_woken ? STEP_LOCAL : STEP_WRITE;
    case STEP_LOCK:
        return STEP_WRITE;
    case STEP_CHANGED:
        return STEP_READ;
    case STEP_JOIN:
        return STEP_LOCAL;
    default:
        return fiber->next.kind;
    }
}

static bool can_go(const struct fiber *fiber)
{
    switch (fiber->next.kind) {
    case STEP_LOCK:
        return fiber->next.object->holder == NOBODY;
    case STEP_WAKE:
        return fiber->is_woken || fiber->deadline_ns > 0;
    case STEP_CHANGED:
        return fiber->next.object->changes != fiber->read_change;
    case STEP_JOIN:
        return ((const struct fiber *)fiber->next.object->address)->has_ended;
    default:
        return true;
    }
}

fiber_set enabled_fibers(void)
{
    fiber_set enabled = 0, last_resort = 0;
    for (int i = 0; i < run.fiber_count; i++) {
        if (run.fibers[i].has_ended)
            continue;
        if (can_go(&run.fibers[i]))
            enabled |= ONLY(i);
        else if (run.fibers[i].next.kind == STEP_CHANGED)
            last_resort |= ONLY(i);
    }
    return enabled ? enabled : last_resort;
}

/* ---- fibers ------------------------------------------------------------------------------------------- */

static void exchange_locals(int from, int to)
{
    const size_t bytes = (size_t)(__stop_of_fiber - __start_of_fiber);
    if (from != NOBODY)
        memcpy(run.fibers[from].locals, __start_of_fiber, bytes);
    if (to != NOBODY)
        memcpy(__start_of_fiber, run.fibers[to].locals, bytes);
}

/* Not in the function with __builtin_setjmp(): those two may not be together. */
__attribute__((noinline, noreturn)) static void go_on_at(struct place *place)
{
    __builtin_longjmp(place->words, 1);
}

/* swapcontext() would ask the kernel for the mask of signals, which is the same everywhere: that takes longer than all
 * the rest. */
__attribute__((noinline)) static void exchange_places(struct place *from, struct place *to)
{
    if (__builtin_setjmp(from->words) == 0)
        go_on_at(to);
}

void pass_to(int next)
{
    const int before = run.current;
    if (next == before)
        return;
    exchange_locals(before, next);
    run.current = next;
    exchange_places(before == NOBODY ? &run.outside : &run.fibers[before].place,
                    next == NOBODY ? &run.outside : &run.fibers[next].place);
}

static struct place starting; /* where a fiber is started from */

/* Comes to the place where its first turn will begin, and goes back to where it was started from. */
static void run_fiber(void)
{
    struct fiber *fiber = &run.fibers[run.fiber_count - 1];
    exchange_places(&fiber->place, &starting);
    fiber->run(fiber->run_context);
    fiber->has_ended = true;
    pass_to(NOBODY);
    abort();
}

/* On its own stack, to its place. Registers that nobody reads there are the same for all fibers of an execution. */
static void enter(const struct fiber *fiber)
{
    static ucontext_t context;
    if (fiber == &run.fibers[0])
        getcontext(&context);
    context.uc_stack.ss_sp = fiber->stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = NULL;
    makecontext(&context, run_fiber, 0);
    if (__builtin_setjmp(starting.words) == 0)
        setcontext(&context);
}

unsigned fiber_start(void *(*function)(void *), void *context, bool is_daemon)
{
    const int number = run.fiber_count++;
    struct fiber *fiber = &run.fibers[number];
    if (number >= MAX_FIBERS)
        violation("too many fibers");
    if (!fiber->stack) {
        fiber->stack = malloc(STACK_BYTES);
        fiber->locals = malloc((size_t)(__stop_of_fiber - __start_of_fiber));
    }
    memset(fiber->locals, 0, (size_t)(__stop_of_fiber - __start_of_fiber));
    fiber->run = function;
    fiber->run_context = context;
    fiber->is_daemon = is_daemon;
    fiber->has_ended = fiber->has_yielded = fiber->is_woken = false;
    fiber->read = NULL;
    fiber->now_ns = 1;
    fiber->next = (struct operation){ STEP_LOCAL, object_at(fiber), "begin", __func__ };
    enter(fiber);
    return (unsigned)number;
}

void point(enum step_kind kind, const void *address, const char *text, const char *function)
{
    if (run.current == NOBODY)
        return;
    struct fiber *fiber = &run.fibers[run.current];
    if (run.plan->check)
        run.plan->check();
    fiber->next = (struct operation){ kind, object_at(address), text, function };
    pass_to(NOBODY);
}

int fiber_join(unsigned long fiber)
{
    point(STEP_JOIN, &run.fibers[fiber], "the other's end", __func__);
    return 0;
}

unsigned long fiber_self(void)
{
    return (unsigned long)(run.current - NOBODY) + 1;
}

/* ---- base/sync.h --------------------------------------------------------------------------------------- */

void twl_mutex_init(struct twl_mutex *mutex)
{
    (void)mutex;
}
void twl_mutex_destroy(struct twl_mutex *mutex)
{
    (void)mutex;
}

void twl_mutex_lock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    point(STEP_LOCK, mutex, "mutex", __func__);
    if (run.current != NOBODY)
        object_at(mutex)->holder = run.current;
}

bool twl_mutex_try_lock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    (void)mutex;
    violation("a lock is tried: no step is made for that");
}

/* No step: nobody can tell it from one right after the step before it. */
void twl_mutex_unlock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    if (run.current == NOBODY)
        return;
    struct object *object = object_at(mutex);
    if (object->holder != run.current)
        violation("a mutex is unlocked by a fiber that has not locked it");
    object->holder = NOBODY;
}

bool wakes_are_late;

uint32_t twl_event_value(struct twl_event *event)
{
    point(STEP_READ, event, "value of event", __func__);
    return event->value;
}

void twl_event_sleep_until(struct twl_event *event, uint32_t seen, uint64_t deadline_ns)
{
    point(STEP_WRITE, event, "sleep on event", __func__);
    if (event->value != seen)
        return;
    if (run.current == NOBODY)
        violation("a sleep without anybody to end it");
    struct fiber *fiber = &run.fibers[run.current];
    struct object *object = object_at(event);
    object->sleepers |= ONLY(run.current);
    fiber->is_woken = false;
    fiber->deadline_ns = deadline_ns;
    fiber->asleep_since = run.sleeps++;
    point(STEP_WAKE, event, "from sleep on event", __func__);
    object->sleepers &= ~ONLY(run.current);
    if ((!fiber->is_woken || wakes_are_late) && fiber->now_ns < deadline_ns)
        fiber->now_ns = deadline_ns;
    fiber->is_woken = false;
}

void twl_event_sleep(struct twl_event *event, uint32_t seen)
{
    twl_event_sleep_until(event, seen, 0);
}

/* The longest sleeper is woken first, as the kernel does it. */
static void notify(struct twl_event *event, unsigned how_many)
{
    point(STEP_WRITE, event, "notify event", __func__);
    event->value++;
    if (run.current == NOBODY)
        return;
    struct object *object = object_at(event);
    for (; how_many > 0 && object->sleepers; how_many--) {
        int first = first_of(object->sleepers);
        for (int i = first; i < run.fiber_count; i++)
            if ((object->sleepers & ONLY(i)) && run.fibers[i].asleep_since < run.fibers[first].asleep_since)
                first = i;
        object->sleepers &= ~ONLY(first);
        run.fibers[first].is_woken = true;
    }
}

void twl_event_notify_all(struct twl_event *event)
{
    notify(event, MAX_FIBERS);
}

void twl_event_notify_one(struct twl_event *event)
{
    notify(event, 1);
}

void twl_word_sleep(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline_ns, bool is_shared)
{
    (void)word;
    (void)seen;
    (void)deadline_ns;
    (void)is_shared;
    violation("a reader sleeps");
}
void twl_word_wake(_Atomic uint32_t *word, uint32_t how_many, bool is_shared)
{
    (void)word;
    (void)how_many;
    (void)is_shared;
}

int twl_thread_start(pthread_t *thread, void *(*function)(void *), void *context)
{
    *thread = fiber_start(function, context, true);
    return 0;
}

/* A fiber that goes round a second time without having changed anything waits for what it has read last. */
void twl_yield(void)
{
    if (run.current == NOBODY)
        return;
    struct fiber *fiber = &run.fibers[run.current];
    if (fiber->has_yielded) {
        fiber->next = (struct operation){ STEP_CHANGED, fiber->read, "what it has read", __func__ };
        pass_to(NOBODY);
    }
    fiber->has_yielded = true;
}

/* Each fiber has a clock of its own, so that looking at it tells nothing of the others. */
uint64_t twl_monotonic_ns(void)
{
    return run.current == NOBODY ? ++run.tick_ns : ++run.fibers[run.current].now_ns;
}

void check_end(void)
{
    for (int i = 0; i < run.fiber_count; i++)
        if (!run.fibers[i].has_ended && !run.fibers[i].is_daemon)
            violation("nobody can go on, and %c waits: %s in %s", 'a' + i, run.fibers[i].next.text,
                      run.fibers[i].next.function);
}

void abandon(void)
{
    run.is_abandoned = true;
}
