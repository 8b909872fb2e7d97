/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper's thread: what it does next, its start and its end. */
#include "keeper/inside.h"

#include <pthread.h>

static void tend(struct keeper *k) REQUIRES(k->lock)
{
    k->must_tend = false;
    if (!k->config.tend || !k->is_log_open)
        return;
    twl_mutex_unlock(&k->lock);
    k->config.tend(k->config.context);
    twl_mutex_lock(&k->lock);
}

static void fill_order(struct keeper *k) REQUIRES(k->lock)
{
    struct order order = k->order;
    k->order = (struct order){ 0 };
    int rc = twl_keeper_wait_for_ready(k, order.min_room);
    twl_mutex_unlock(&k->lock);
    order.done(order.context, rc);
    twl_mutex_lock(&k->lock);
}

/* Does one piece of work; false if there is none. Segments to write in come first. */
static bool work(struct keeper *k) REQUIRES(k->lock)
{
    if (k->order.min_room > 0) {
        fill_order(k);
        return true;
    }
    if (k->count < k->wanted && !k->has_failed && !k->is_making) {
        twl_keeper_make_ready(k, MIN_SEGMENT_ROOM);
        return true;
    }
    if (k->must_tend) { /* before sealing the next one: the writer may fill them as fast */
        tend(k);
        return true;
    }
    return twl_keeper_seal_next(k) || twl_keeper_remove_surplus(k);
}

static void *look_after(void *argument)
{
    struct keeper *k = argument;
    uint64_t next_tend_ns = twl_monotonic_ns() + (uint64_t)k->config.tend_ms * 1000000u;
    twl_mutex_lock(&k->lock);
    while (!k->is_stopping) {
        if (k->config.tend_ms > 0 && twl_monotonic_ns() >= next_tend_ns) {
            k->must_tend = true;
            next_tend_ns = twl_monotonic_ns() + (uint64_t)k->config.tend_ms * 1000000u;
        }
        if (work(k))
            continue;
        uint32_t seen = twl_event_value(&k->work);
        twl_mutex_unlock(&k->lock);
        twl_event_sleep_for(&k->work, seen, k->config.tend_ms);
        twl_mutex_lock(&k->lock);
    }
    while (twl_keeper_seal_next(k)) /* so that the next opening need not walk them */
        ;
    tend(k);
    while (!k->config.can_recycle && twl_keeper_remove_surplus(k))
        ;
    twl_mutex_unlock(&k->lock);
    return NULL;
}

void twl_keeper_get_going(struct keeper *k) REQUIRES(k->lock)
{
    if (!k->config.io->has_threads) {
        while (twl_keeper_seal_next(k) || twl_keeper_remove_surplus(k))
            ;
        if (k->must_tend)
            tend(k);
        return;
    }
    if (!k->has_thread && !k->is_stopping)
        k->has_thread = twl_thread_start(&k->thread, look_after, k) == 0;
    twl_event_notify_all(&k->work);
}

void twl_keeper_end_thread(struct keeper *k)
{
    twl_mutex_lock(&k->lock);
    k->is_stopping = true;
    bool has_thread = k->has_thread;
    twl_mutex_unlock(&k->lock);
    if (has_thread) {
        twl_event_notify_all(&k->work);
        pthread_join(k->thread, NULL);
    }
    twl_mutex_lock(&k->lock);
    k->has_thread = false;
    twl_mutex_unlock(&k->lock);
}
