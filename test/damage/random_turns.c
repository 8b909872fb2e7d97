/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same seed makes the same log, byte by byte. Two things could differ: the clock and the random numbers of the
 * library, which are made from the seed, and the keeper's thread. It runs only while the other thread waits for it, and
 * that one only while the keeper has nothing to do, or waits for a lock. All of it in the place of the library's calls
 * (LINKER:--wrap).
 */
#include "random.h"

#include "base/sync.h"
#include "io/io_files.h"

#define PATIENCE 1000000u /* turns without an end of waiting */

static struct rng library_rng;
static int64_t now_ns;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_keepers;             /* turn */
    bool has_keeper;             /* a thread that has not ended */
    void *(*run)(void *context); /* what it does */
    void *context;
    struct twl_event *event; /* it sleeps as long as this has the value; NULL = it is awake */
    uint32_t seen;
} turns = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
static _Thread_local bool is_keeper;

int64_t __wrap_twl_io_files_now_ns(struct io *io);
int __wrap_twl_io_files_random(struct io *io, void *bytes, size_t size);
int __wrap_twl_thread_start(pthread_t *thread, void *(*run)(void *context), void *context);
int __real_twl_thread_start(pthread_t *thread, void *(*run)(void *context), void *context);
int __wrap_pthread_join(pthread_t thread, void **ret);
int __real_pthread_join(pthread_t thread, void **ret);
void __wrap_twl_mutex_lock(struct twl_mutex *mutex);
void __wrap_twl_event_sleep(struct twl_event *event, uint32_t seen);
void __wrap_twl_event_sleep_until(struct twl_event *event, uint32_t seen, uint64_t deadline_ns);

/* ---- turns ---------------------------------------------------------------------------------------- */

static void wait_for_turn(void)
{
    while (turns.is_keepers != is_keeper)
        pthread_cond_wait(&turns.changed, &turns.lock);
}

static void let_other_go_on(void)
{
    static unsigned count;
    must(++count < PATIENCE, "end waiting");
    pthread_mutex_lock(&turns.lock);
    turns.is_keepers = !is_keeper;
    pthread_cond_broadcast(&turns.changed);
    wait_for_turn();
    pthread_mutex_unlock(&turns.lock);
}

static void *keep(void *unused)
{
    (void)unused;
    is_keeper = true;
    pthread_mutex_lock(&turns.lock);
    wait_for_turn();
    pthread_mutex_unlock(&turns.lock);
    turns.run(turns.context);
    pthread_mutex_lock(&turns.lock);
    turns.has_keeper = turns.is_keepers = false;
    pthread_cond_broadcast(&turns.changed);
    pthread_mutex_unlock(&turns.lock);
    return NULL;
}

void begin_turns(uint64_t seed)
{
    library_rng.state = rng_mix(seed);
    now_ns = INT64_C(1000000000000000000);
}

void let_keeper_finish(void)
{
    while (turns.has_keeper && !(turns.event && twl_event_value(turns.event) == turns.seen))
        let_other_go_on();
    now_ns += 1000;
}

/* ---- in the place of the library's calls ---------------------------------------------------------- */

int64_t __wrap_twl_io_files_now_ns(struct io *io)
{
    (void)io;
    return now_ns;
}

int __wrap_twl_io_files_random(struct io *io, void *bytes, size_t size)
{
    (void)io;
    rng_fill(&library_rng, bytes, size);
    return 0;
}

int __wrap_twl_thread_start(pthread_t *thread, void *(*run)(void *context), void *context)
{
    must(!turns.has_keeper, "start a second thread");
    turns.run = run;
    turns.context = context;
    turns.has_keeper = true;
    return __real_twl_thread_start(thread, keep, NULL);
}

int __wrap_pthread_join(pthread_t thread, void **ret)
{
    while (turns.has_keeper)
        let_other_go_on();
    return __real_pthread_join(thread, ret);
}

void __wrap_twl_mutex_lock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    while (!twl_mutex_try_lock(mutex))
        let_other_go_on();
}

/* Either thread may wake early. */
void __wrap_twl_event_sleep(struct twl_event *event, uint32_t seen)
{
    if (is_keeper) {
        turns.event = event;
        turns.seen = seen;
    }
    if (twl_event_value(event) == seen)
        let_other_go_on();
    if (is_keeper)
        turns.event = NULL;
}

void __wrap_twl_event_sleep_until(struct twl_event *event, uint32_t seen, uint64_t deadline_ns)
{
    (void)deadline_ns;
    __wrap_twl_event_sleep(event, seen);
}
