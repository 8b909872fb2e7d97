/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "base/sync.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define YIELDS_BEFORE_SLEEP 1000u
#define PAUSE_NS UINT64_C(1000000)

void twl_mutex_init(struct twl_mutex *mutex)
{
    ASSERT(pthread_mutex_init(&mutex->mutex, NULL) == 0);
}
void twl_mutex_destroy(struct twl_mutex *mutex)
{
    ASSERT(pthread_mutex_destroy(&mutex->mutex) == 0);
}

void twl_mutex_lock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    ASSERT(pthread_mutex_lock(&mutex->mutex) == 0);
}

bool twl_mutex_try_lock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    return pthread_mutex_trylock(&mutex->mutex) == 0;
}

void twl_mutex_unlock(struct twl_mutex *mutex) NO_THREAD_SAFETY_ANALYSIS
{
    ASSERT(pthread_mutex_unlock(&mutex->mutex) == 0);
}

void twl_word_sleep(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline_ns, bool is_shared)
{
    const struct timespec deadline = { .tv_sec = (time_t)(deadline_ns / 1000000000),
                                       .tv_nsec = (long)(deadline_ns % 1000000000) };
    /* FUTEX_WAIT_BITSET takes an absolute time on CLOCK_MONOTONIC */
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET | (is_shared ? 0 : FUTEX_PRIVATE_FLAG), seen,
            deadline_ns > 0 ? &deadline : NULL, NULL, FUTEX_BITSET_MATCH_ANY);
}

void twl_word_wake(_Atomic uint32_t *word, uint32_t how_many, bool is_shared)
{
    syscall(SYS_futex, word, FUTEX_WAKE | (is_shared ? 0 : FUTEX_PRIVATE_FLAG), how_many, NULL, NULL, 0);
}

uint32_t twl_event_value(struct twl_event *event)
{
    return atomic_load(&event->value);
}

void twl_event_sleep(struct twl_event *event, uint32_t seen)
{
    twl_event_sleep_until(event, seen, 0);
}

void twl_event_sleep_until(struct twl_event *event, uint32_t seen, uint64_t deadline_ns)
{
    /* Announce the sleeper, then let the kernel compare the value: a notify in between has changed the value, a
     * later one sees the sleeper. Both sides are sequentially consistent. */
    atomic_fetch_add(&event->sleepers, 1);
    twl_word_sleep(&event->value, seen, deadline_ns, false);
    atomic_fetch_sub(&event->sleepers, 1);
}

static void notify(struct twl_event *event, uint32_t how_many)
{
    atomic_fetch_add(&event->value, 1);
    if (atomic_load(&event->sleepers) > 0)
        twl_word_wake(&event->value, how_many, false);
}

void twl_event_notify_all(struct twl_event *event)
{
    notify(event, INT_MAX);
}
void twl_event_notify_one(struct twl_event *event)
{
    notify(event, 1);
}

int twl_thread_start(pthread_t *thread, void *(*run)(void *context), void *context)
{
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

void twl_yield(void)
{
    sched_yield();
}

void twl_wait_turn(unsigned *turns)
{
    _Atomic uint32_t never = 0; /* not nanosleep(), which is a cancellation point */

    if (*turns < YIELDS_BEFORE_SLEEP) {
        (*turns)++;
        twl_yield();
    } else {
        twl_word_sleep(&never, 0, twl_monotonic_ns() + PAUSE_NS, false);
    }
}

uint64_t twl_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
