/* SPDX-License-Identifier: Apache-2.0 */
/* See sink.h. A lane is taken with one atomic operation on a line that is mostly the thread's own. */
#include "sink/sink.h"

static _Atomic unsigned threads;           /* that ever took a lane of a sink */
static _Thread_local unsigned thread_lane; /* the first lane to try, from 1; 0 = not chosen yet */

static bool try_take(struct lane *lane)
{
    uint64_t turn = atomic_load_explicit(&lane->turn, memory_order_relaxed);
    return turn % 2 == 0 && atomic_compare_exchange_strong(&lane->turn, &turn, turn + 1);
}

static unsigned wait_for_lane(struct twinlog_sink *sink)
{
    atomic_fetch_add(&sink->without_lane, 1);
    for (unsigned tries = 1; !try_take(&sink->lanes[thread_lane - 1]); tries++) {
        thread_lane = thread_lane % SLOTS + 1;
        if (tries % SLOTS == 0)
            twl_yield();
    }
    atomic_fetch_sub(&sink->without_lane, 1);
    return thread_lane - 1;
}

unsigned twl_lane_take(struct twinlog_sink *sink)
{
    if (thread_lane == 0)
        thread_lane = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % SLOTS + 1;
    return try_take(&sink->lanes[thread_lane - 1]) ? thread_lane - 1 : wait_for_lane(sink);
}

void twl_lane_leave(struct twinlog_sink *sink, unsigned lane)
{
    struct lane *mine = &sink->lanes[lane];
    const uint64_t turn = atomic_load_explicit(&mine->turn, memory_order_relaxed);
    atomic_store_explicit(&mine->turn, turn + 1, memory_order_release);
}

void twl_lanes_look(struct twinlog_sink *sink, uint64_t turns[SLOTS])
{
    for (unsigned i = 0; i < SLOTS; i++)
        turns[i] = atomic_load(&sink->lanes[i].turn);
}

bool twl_lanes_have_passed(struct twinlog_sink *sink, const uint64_t turns[SLOTS], unsigned own_lane)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (i != own_lane && turns[i] % 2 == 1 && atomic_load(&sink->lanes[i].turn) == turns[i])
            return false;
    return true;
}
