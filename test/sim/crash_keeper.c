/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's thread of each machine, as a fibre: a stack of its own in the one thread of the program. Before each
 * operation on the disk the machine's chance decides whether the writer or the keeper goes on, so spares are made,
 * segments sealed, trimmed and recycled between any two operations of the writer, and the other way round.
 *
 * In the place of the library's calls (LINKER:--wrap): a lock that the other one holds, and an event that has not
 * come, let the other one go on. That both wait is a violation.
 */
#define _GNU_SOURCE
#include "crash.h"

#include "base/sync.h"

#include <stdlib.h>
#include <ucontext.h>

#define STACK_BYTES (1u << 20) /* crash images are recovered on it, too */
#define PATIENCE 100000u       /* exchanges without an operation on a disk */

struct fibre {
    const struct machine *machine; /* NULL: not in use */
    void *(*run)(void *context);
    void *context;
    void *memory; /* its stack; kept for the next one */
    ucontext_t keeper, writer;
    bool is_inside; /* the keeper goes on, not the writer */
    bool is_over;
    unsigned waits;          /* exchanges since something has happened */
    struct twl_event *event; /* the keeper sleeps while it has this value; NULL: it is awake */
    uint32_t seen;
    bool has_limit; /* or until some time */
};
static struct fibre fibres[MAX_DEPTH + 1];

/* ---- exchanges ----------------------------------------------------------------------------------- */

static struct fibre *find(const struct machine *machine)
{
    if (!machine)
        return NULL;
    for (struct fibre *fibre = fibres; fibre < fibres + MAX_DEPTH + 1; ++fibre) {
        if (fibre->machine == machine)
            return fibre;
    }
    return NULL;
}

static void let_keeper_go_on(struct fibre *fibre)
{
    fibre->is_inside = true;
    swapcontext(&fibre->writer, &fibre->keeper);
}

static void let_writer_go_on(struct fibre *fibre)
{
    fibre->is_inside = false;
    swapcontext(&fibre->keeper, &fibre->writer);
}

static void let_other_go_on(struct fibre *fibre)
{
    ++fibre->waits;
    if (fibre->waits > PATIENCE)
        violation("the writer and its keeper wait for each other");
    if (fibre->is_inside)
        let_writer_go_on(fibre);
    else
        let_keeper_go_on(fibre);
}

static void begin_fibre(unsigned index)
{
    struct fibre *fibre = &fibres[index];
    fibre->run(fibre->context);
    fibre->is_over = true;
    let_writer_go_on(fibre);
}

static bool is_asleep(const struct fibre *fibre)
{
    return fibre->event && twl_event_value(fibre->event) == fibre->seen;
}

/* A keeper that sleeps until some time wakes by chance. */
static bool has_time_come(struct machine *machine, const struct fibre *fibre)
{
    return fibre->has_limit && rng_one_in(&machine->rng, 16);
}

/* Before each operation on the machine's disk. */
static void take_turns(void *context)
{
    struct machine *machine = context;
    struct fibre *fibre = find(machine);
    if (!fibre || fibre->is_over)
        return;
    if (machine->is_watching) /* a reader knows no other head than it began with */
        return;

    fibre->waits = 0;
    if (is_asleep(fibre) && !has_time_come(machine, fibre))
        return;
    if (rng_one_in(&machine->rng, machine->keeper_pace))
        let_other_go_on(fibre);
}

void keeper_begin(struct machine *machine, struct io *io)
{
    io->has_threads = machine->keeper_pace > 0;
    simdisk_set_turn(machine->disk, io->has_threads ? take_turns : NULL, machine);
}

void keeper_finish_work(struct machine *machine)
{
    struct fibre *fibre = find(machine);
    while (fibre && !is_asleep(fibre))
        let_keeper_go_on(fibre);
    notice_progress(machine);
}

/* ---- in the place of the library's calls --------------------------------------------------------- */

int __wrap_twl_thread_start(pthread_t *thread, void *(*run)(void *context), void *context);
int __wrap_pthread_join(pthread_t thread, void **ret);
void __wrap_twl_mutex_lock(struct twl_mutex *mutex);
void __wrap_twl_yield(void);
void __wrap_twl_event_sleep(struct twl_event *event, uint32_t seen);
void __wrap_twl_event_sleep_until(struct twl_event *event, uint32_t seen, uint64_t deadline_ns);

/* NULL: all are in use. */
static struct fibre *find_free(void)
{
    for (struct fibre *fibre = fibres; fibre < fibres + MAX_DEPTH + 1; ++fibre) {
        if (!fibre->machine)
            return fibre;
    }
    return NULL;
}

/* getcontext() may return twice, for all that a compiler knows: a function that has it has no variable that changes. */
__attribute__((noinline)) static bool prepare(struct fibre *fibre)
{
    if (!fibre->memory || getcontext(&fibre->keeper) < 0)
        return false;
    fibre->keeper.uc_stack.ss_sp = fibre->memory;
    fibre->keeper.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fibre->keeper, (void (*)(void))begin_fibre, 1, (unsigned)(fibre - fibres));
    return true;
}

int __wrap_twl_thread_start(pthread_t *thread, void *(*run)(void *context), void *context)
{
    struct fibre *fibre = find_free();
    if (!fibre || find(current))
        violation("a thread was started beside the keeper's");
    if (!fibre->memory)
        fibre->memory = aligned_alloc(4096, STACK_BYTES);
    *fibre = (struct fibre){ .machine = current, .run = run, .context = context, .memory = fibre->memory };
    if (!prepare(fibre))
        violation("there is no memory for a keeper");
    *thread = (pthread_t)(uintptr_t)(fibre - fibres); /* a number in one C library, a pointer in another */
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret)
{
    struct fibre *fibre = &fibres[(uintptr_t)thread];
    (void)ret;
    while (!fibre->is_over)
        let_other_go_on(fibre);
    fibre->machine = NULL;
    return 0;
}

void __wrap_twl_mutex_lock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    while (!twl_mutex_try_lock(mutex)) {
        struct fibre *fibre = find(current);
        if (!fibre)
            violation("a lock is taken twice");
        let_other_go_on(fibre);
    }
}

/* The other one has to do something first. */
void __wrap_twl_yield(void)
{
    struct fibre *fibre = find(current);
    if (fibre && !fibre->is_over)
        let_other_go_on(fibre);
}

/* A writer may wake early; the keeper sleeps until there is something to do, or its time has come. */
void __wrap_twl_event_sleep_until(struct twl_event *event, uint32_t seen, uint64_t deadline_ns)
{
    struct fibre *fibre = find(current);
    if (!fibre && deadline_ns > 0)
        return;
    if (!fibre)
        violation("a thread sleeps that is alone");

    if (fibre->is_inside) {
        fibre->event = event;
        fibre->seen = seen;
        fibre->has_limit = deadline_ns > 0;
    }
    if (twl_event_value(event) == seen)
        let_other_go_on(fibre);
    if (fibre->is_inside)
        fibre->event = NULL;
}

void __wrap_twl_event_sleep(struct twl_event *event, uint32_t seen)
{
    __wrap_twl_event_sleep_until(event, seen, 0);
}
