/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting: a mutex that clang's thread-safety analysis understands, and a futex word.
 *
 * Writers sleep on a futex word. Unlike a condition variable, it wakes all sleepers with one system call, a
 * woken thread does not have to take a mutex, and neither call is a cancellation point.
 */
#ifndef TWL_SYNC_H
#define TWL_SYNC_H

#include "base/base.h"

#include <pthread.h>
#include <stdatomic.h>

struct CAPABILITY("mutex") twl_mutex {
    pthread_mutex_t mutex;
};

void twl_mutex_init(struct twl_mutex *mutex);
void twl_mutex_destroy(struct twl_mutex *mutex);
void twl_mutex_lock(struct twl_mutex *mutex) ACQUIRES(*mutex);
bool twl_mutex_try_lock(struct twl_mutex *mutex) TRY_ACQUIRES(true, *mutex);
void twl_mutex_unlock(struct twl_mutex *mutex) RELEASES(*mutex);

/* A yes or no that threads exchange; 0 is no. It takes a whole word: on RISC-V, gcc before version 13 exchanges a byte
 * by a call of libatomic, to which the library is not linked. */
typedef _Atomic uint32_t twl_flag;

/* A word that changes with each event, and the number of threads that sleep on it. To wait: read the value, check
 * the condition, sleep while the word still has that value. To notify: make the condition true, then notify. */
struct twl_event {
    _Atomic uint32_t value;    /* [atomic: every notify adds one] */
    _Atomic uint32_t sleepers; /* [atomic: 0 = notify needs no system call] */
};

/* The bare word: sleeps while the word is `seen`, until a time on CLOCK_MONOTONIC (0 = no limit); returns early for any
 * reason. `is_shared`: with other processes. The wake does not read the word, so the memory may already have been freed
 * by a thread that saw the change. */
void twl_word_sleep(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline_ns, bool is_shared);
void twl_word_wake(_Atomic uint32_t *word, uint32_t how_many, bool is_shared);

uint32_t twl_event_value(struct twl_event *event);
/* Sleeps until the word differs from `seen`, a notify, or a signal. The caller then checks its condition again. */
void twl_event_sleep(struct twl_event *event, uint32_t seen);
void twl_event_sleep_until(struct twl_event *event, uint32_t seen, uint64_t deadline_ns); /* 0 = no limit */
void twl_event_notify_all(struct twl_event *event);
void twl_event_notify_one(struct twl_event *event);

/* Starts a thread of the library. It blocks all signals but SIGBUS, which an access to a mapped file may raise and
 * the thread has to survive (io/mapping.c). 0 or a negative error. */
int twl_thread_start(pthread_t *thread, void *(*run)(void *context), void *context);

/* A declaration: until the end of the block the thread is not cancelled. */
#define NOT_CANCELLED                                                                                        \
    __attribute__((cleanup(twl_cancel_again), unused)) const int cancel_state = twl_not_cancelled()
static inline int twl_not_cancelled(void)
{
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}
static inline void twl_cancel_again(const int *before)
{
    pthread_setcancelstate(*before, NULL);
}

void twl_yield(void);
/* One turn of a wait for other threads of this process, where no struct io says how to sleep; `turns` begins with 0. It
 * yields the processor at first, and later sleeps a millisecond each time: a thread that is stopped, or has a lower
 * priority, is not waited for with a whole processor. */
void twl_wait_turn(unsigned *turns);
uint64_t twl_monotonic_ns(void);

#endif
