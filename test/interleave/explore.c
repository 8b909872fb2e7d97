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
#include <unistd.h>

struct run run;

/* So that the section is there. */
__attribute__((section("of_fiber"), used)) static int fiber_local;

/* ---- telling --------------------------------------------------------------------------------------- */

/* "3a2b" is three steps of the first fiber, then two of the second. */
static void print_schedule(FILE *to)
{
    for (int i = 0, from = 0; i < run.depth; i = from) {
        while (from < run.depth && run.steps[from].fiber == run.steps[i].fiber)
            from++;
        fprintf(to, "%d%c", from - i, 'a' + run.steps[i].fiber);
    }
    fputc('\n', to);
}

static void print_way_back(void)
{
    printf("after %llu executions; again: %s --replay ", (unsigned long long)run.count.executions,
           run.plan->command);
    print_schedule(stdout);
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
    if (!run.plan->replay)
        print_way_back();
    exit(EXIT_FAILURE);
}

static void on_signal(int number)
{
    signal(number, SIG_DFL);
    printf("violation: signal %d\n", number);
    if (!run.plan->replay)
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
        if (object->execution == run.count.executions && object->address == address)
            return object;
        if (object->execution == run.count.executions)
            continue;
        *object = (struct object){
            .address = address, .execution = run.count.executions, .last_step = NOBODY, .holder = NOBODY
        };
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

static bool depend(enum step_kind a, enum step_kind b)
{
    return a != STEP_LOCAL && b != STEP_LOCAL && (a == STEP_WRITE || b == STEP_WRITE);
}

static void join(struct clock *clock, const struct clock *other)
{
    for (int i = 0; i < MAX_FIBERS; i++)
        if (other->of[i] > clock->of[i])
            clock->of[i] = other->of[i];
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

/* ---- choices ----------------------------------------------------------------------------------------- */

static bool is_bounded(void)
{
    return run.plan->preemptions < NO_BOUND;
}

/* Preemptions up to and with this choice. */
static unsigned cost(int depth, int fiber)
{
    if (depth == 0)
        return 0;
    const struct step *before = &run.steps[depth - 1];
    return before->preemptions +
           (before->fiber != fiber && (run.steps[depth].enabled & ONLY(before->fiber)) != 0);
}

static fiber_set affordable(int depth, fiber_set fibers)
{
    fiber_set result = 0;
    for (int i = 0; i < MAX_FIBERS; i++)
        if ((fibers & ONLY(i)) && cost(depth, i) <= run.plan->preemptions)
            result |= ONLY(i);
    return result;
}

/* The other order of step `at` and the next one of `fiber`, or what leads to it. */
static void want(int at, int fiber, const struct clock *clock)
{
    struct step *step = &run.steps[at];
    fiber_set ways = step->enabled & ONLY(fiber);
    for (int i = 0; !ways && i < run.fiber_count; i++)
        if ((step->enabled & ONLY(i)) && clock->of[i] > (uint32_t)at + 1)
            ways = ONLY(i);
    step->wanted |= ways ? ways : step->enabled;
    if (!is_bounded())
        return;
    while (at > 0 && run.steps[at - 1].fiber == run.steps[at].fiber)
        at--;
    step = &run.steps[at];
    step->wanted |= (step->enabled & ONLY(fiber)) ? ONLY(fiber) : step->enabled;
}

static void find_race(const struct fiber *fiber, int number, enum step_kind kind)
{
    if (fiber->next.kind == STEP_CHANGED)
        return;
    for (int i = fiber->next.object->last_step; i >= 0; i = run.steps[i].before) {
        const struct step *step = &run.steps[i];
        if (step->fiber == number || !depend(step->kind, kind))
            continue;
        if (fiber->clock.of[step->fiber] <= (uint32_t)i) {
            want(i, number, &fiber->clock);
            return;
        }
    }
}

static fiber_set asleep_here(void)
{
    if (run.depth == 0 || is_bounded())
        return 0;
    const struct step *before = &run.steps[run.depth - 1];
    fiber_set asleep = 0;
    for (int i = 0; i < run.fiber_count; i++) {
        const struct fiber *fiber = &run.fibers[i];
        if (i != before->fiber && ((before->asleep | before->done) & ONLY(i)) &&
            (fiber->next.object != before->object || !depend(effect(fiber), before->kind)))
            asleep |= ONLY(i);
    }
    return asleep;
}

static int first_of(fiber_set fibers)
{
    return __builtin_ctz(fibers);
}

/* The one that goes on, if nobody has another wish. */
static int prefer(fiber_set fibers)
{
    return run.current != NOBODY && (fibers & ONLY(run.current)) ? run.current : first_of(fibers);
}

static int replayed(fiber_set enabled)
{
    static unsigned long left;
    static char letter;
    if (left == 0 && *run.replay) {
        char *end;
        left = strtoul(run.replay, &end, 10);
        letter = *end;
        run.replay = *end ? end + 1 : end;
    }
    if (left == 0)
        return prefer(enabled);
    left--;
    if (letter < 'a' || letter >= 'a' + MAX_FIBERS || !(enabled & ONLY(letter - 'a'))) {
        printf("this is no schedule of this program: fiber %c can't go on at step %d\n", letter, run.depth);
        exit(2);
    }
    return letter - 'a';
}

static int choose(fiber_set enabled)
{
    struct step *step = &run.steps[run.depth];
    if (run.depth >= MAX_STEPS - 1)
        violation("no end after %d steps", MAX_STEPS);
    if (run.depth < run.planned) {
        if (step->enabled != enabled)
            violation("step %d is not what it was in the execution before", run.depth);
        return step->fiber;
    }
    *step = (struct step){ .enabled = enabled, .asleep = asleep_here() };
    if (run.plan->replay) {
        step->fiber = replayed(enabled);
    } else {
        fiber_set open = enabled & ~step->asleep;
        run.is_redundant = !open;
        step->fiber = prefer(open ? open : enabled);
    }
    step->wanted = step->done = ONLY(step->fiber);
    step->preemptions = cost(run.depth, step->fiber);
    return step->fiber;
}

static void print_step(int number)
{
    static const char *const words[] = { "go on", "read", "write", "lock", "wake", "changed", "join" };
    const struct operation *next = &run.fibers[number].next;
    if (run.plan->replay)
        printf("%5d  %c  %-8s %s  in %s\n", run.depth, 'a' + number, words[next->kind], next->text,
               next->function);
}

static void record_step(int number, enum step_kind kind)
{
    struct fiber *fiber = &run.fibers[number];
    struct object *object = fiber->next.object;
    struct step *step = &run.steps[run.depth];
    step->kind = kind;
    step->object = object;
    step->before = NOBODY;
    if (kind != STEP_LOCAL) {
        if (run.depth >= run.planned - 1)
            find_race(fiber, number, kind);
        step->before = object->last_step;
        object->last_step = run.depth;
    }
    run.depth++;
    run.count.steps++;
}

/* Its next step is made: what comes before what. */
static void make_step(int number)
{
    struct fiber *fiber = &run.fibers[number];
    struct object *object = fiber->next.object;
    const enum step_kind kind = effect(fiber);
    print_step(number);
    if (!run.is_redundant)
        record_step(number, kind);
    if (fiber->next.kind == STEP_WAKE && fiber->is_woken)
        join(&fiber->clock, &fiber->waker);
    if (fiber->next.kind == STEP_JOIN)
        join(&fiber->clock, &((const struct fiber *)object->address)->clock);
    if (kind != STEP_LOCAL)
        join(&fiber->clock, kind == STEP_READ ? &object->changed : &object->touched);
    fiber->clock.of[number] = (uint32_t)run.depth;
    if (kind == STEP_LOCAL)
        return;
    join(&object->touched, &fiber->clock);
    if (kind == STEP_WRITE) {
        object->changed = object->touched;
        object->changes++;
    }
    if (fiber->next.kind == STEP_WRITE)
        fiber->has_yielded = false;
    fiber->read = object;
    fiber->read_change = object->changes;
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

void pass_to(int next)
{
    const int before = run.current;
    if (next == before)
        return;
    exchange_locals(before, next);
    run.current = next;
    swapcontext(before == NOBODY ? &run.outside : &run.fibers[before].context,
                next == NOBODY ? &run.outside : &run.fibers[next].context);
}

/* Somebody goes on; or nobody can. */
static void go_on(void)
{
    if (run.plan->by_state && !run.plan->replay) {
        pass_to(NOBODY);
        return;
    }
    const fiber_set enabled = enabled_fibers();
    if (!enabled) {
        pass_to(NOBODY);
        return;
    }
    const int next = run.is_redundant ? prefer(enabled) : choose(enabled);
    make_step(next);
    pass_to(next);
}

static void run_fiber(void)
{
    struct fiber *fiber = &run.fibers[run.current];
    fiber->run(fiber->run_context);
    fiber->has_ended = true;
    go_on();
    abort();
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
        getcontext(&fiber->context);
    }
    memset(fiber->locals, 0, (size_t)(__stop_of_fiber - __start_of_fiber));
    fiber->run = function;
    fiber->run_context = context;
    fiber->is_daemon = is_daemon;
    fiber->has_ended = fiber->has_yielded = fiber->is_woken = false;
    fiber->now_ns = 1;
    fiber->clock = run.current == NOBODY ? (struct clock){ { 0 } } : run.fibers[run.current].clock;
    fiber->next = (struct operation){ STEP_LOCAL, object_at(fiber), "begin", __func__ };
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, run_fiber, 0);
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
    go_on();
}

int fiber_join(unsigned long fiber)
{
    point(STEP_JOIN, &run.fibers[fiber], "the other's end", __func__);
    return 0;
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
    object->changed = object->touched = run.fibers[run.current].clock;
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
        run.fibers[first].waker = run.fibers[run.current].clock;
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
        go_on();
    }
    fiber->has_yielded = true;
}

/* Each fiber has a clock of its own, so that looking at it tells nothing of the others. */
uint64_t twl_monotonic_ns(void)
{
    return run.current == NOBODY ? ++run.tick_ns : ++run.fibers[run.current].now_ns;
}

/* ---- executions ----------------------------------------------------------------------------------------- */

void begin_execution(void)
{
    run.depth = 0;
    run.is_redundant = run.is_abandoned = false;
    run.fiber_count = 0;
    run.current = NOBODY;
    run.sleeps = 0;
    run.plan->begin();
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

static void run_once(void)
{
    run.count.executions++;
    run.known_count = 0;
    begin_execution();
    go_on();
    check_end();
    run.count.redundant += run.is_redundant;
}

/* False when all has been tried. */
static bool plan_next(void)
{
    for (int i = run.depth - 1; i >= 0; i--) {
        struct step *step = &run.steps[i];
        fiber_set open = affordable(i, step->wanted & ~step->done & ~step->asleep);
        if (!open)
            continue;
        step->fiber = first_of(open);
        step->done |= ONLY(step->fiber);
        step->preemptions = cost(i, step->fiber);
        run.planned = i + 1;
        return true;
    }
    return false;
}

static void explore_executions(void)
{
    do
        run_once();
    while (!run.plan->replay && plan_next());
}

struct exploration_count explore(const struct exploration *plan)
{
    run.plan = plan;
    run.replay = plan->replay;
    run.count = (struct exploration_count){ .executions = run.count.executions };
    const uint64_t before = run.count.executions;
    run.planned = 0;
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    if (plan->by_state && !plan->replay) {
        run.known_count = 0;
        explore_states();
    } else {
        explore_executions();
    }
    struct exploration_count result = run.count;
    result.executions -= before;
    return result;
}
