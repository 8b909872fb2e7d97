/* SPDX-License-Identifier: Apache-2.0 */
/* A member, and its threads. */
#define _GNU_SOURCE
#include "crew.h"

#include <errno.h>
#include <unistd.h>

#define LIE_SEQUENCE 20u

struct member *self;

static struct hand hands[MEMBER_PENS_MAX];

bool tells(enum lie lie)
{
    return place.lie == lie && !atomic_exchange(&crew->has_lied, true);
}

/* ---- a thread that writes ------------------------------------------------------------------------- */

static bool is_distinct(const struct hand *hand, uint32_t sequence)
{
    return !craft->is_distinct || craft->is_distinct(hand->number, sequence);
}

static void write_swapped(struct hand *hand, uint32_t sequence)
{
    atomic_store(&hand->pen->begun, sequence + 2);
    hand->pen->where[sequence + 1] = craft->write(hand, sequence + 1, false);
    hand->pen->where[sequence] = craft->write(hand, sequence, false);
    atomic_store(&hand->pen->returned, sequence + 2);
}

static void write_next(struct hand *hand)
{
    struct pen *pen = hand->pen;
    const uint32_t sequence = atomic_load(&pen->begun);
    const bool may_lie = sequence > LIE_SEQUENCE && is_distinct(hand, sequence);

    atomic_store(&pen->begun, sequence + 1);
    if (may_lie && is_distinct(hand, sequence + 1) && tells(LIE_SWAPPED)) {
        write_swapped(hand, sequence);
        return;
    }
    pen->where[sequence] =
        may_lie && tells(LIE_LOST) ? pen->where[sequence - 1] + 1 : craft->write(hand, sequence, may_lie);
    if (may_lie && tells(LIE_TWICE))
        craft->write(hand, sequence, false);
    atomic_store(&pen->returned, sequence + 1);
}

static bool is_last_opening(void)
{
    return atomic_load(&self->opened) >= self->openings;
}

static void *write_all(void *context)
{
    struct hand *hand = context;
    const uint32_t some = atomic_load(&hand->pen->begun) + 1 + (uint32_t)rng_below(&hand->rng, 60);
    const uint32_t most = craft->most_writes - 2;
    const uint32_t enough = is_last_opening() || some > most ? most : some;

    while (!atomic_load(&self->must_stop) && atomic_load(&hand->pen->begun) < enough &&
           hand->bytes < PEN_MAX_BYTES) {
        write_next(hand);
        craft->do_something_else(hand);
        if (self->pause_one_in > 0 && rng_one_in(&hand->rng, self->pause_one_in))
            pause_a_moment();
        while (place.lie == LIE_STALL && atomic_load(&hand->pen->begun) > LIE_SEQUENCE)
            pause_a_moment();
    }
    atomic_store(&hand->pen->is_idle, true);
    while (!atomic_load(&self->must_stop) && is_last_opening())
        pause_a_moment();
    return NULL;
}

/* ---- processes ------------------------------------------------------------------------------------ */

bool is_leaving(void)
{
    bool are_idle = true;

    if (is_last_opening())
        return atomic_load(&self->must_stop);
    for (uint32_t i = 0; i < self->pens; i++)
        are_idle = are_idle && atomic_load(&hands[i].pen->is_idle);
    return are_idle;
}

static void start_hand(struct hand *hand, void *to, uint32_t number)
{
    hand->to = to;
    hand->rng = (struct rng){ rng_next(&self->rng) };
    hand->number = number;
    hand->pen = &crew->pen[number];
    atomic_store(&hand->pen->is_idle, false);
    errno = pthread_create(&hand->thread, NULL, write_all, hand);
    if (errno != 0)
        give_up("pthread_create");
}

void run_member(void *member)
{
    self = member;
    face(&self->fate);
    while (!is_last_opening() && !atomic_load(&self->must_stop)) {
        void *to = craft->open(self);

        atomic_fetch_add(&self->opened, 1);
        for (uint32_t i = 0; i < self->pens; i++)
            start_hand(&hands[i], to, self->first_pen + i);
        atomic_store(&self->is_open, true);
        if (craft->keep_watch)
            craft->keep_watch(to);
        for (uint32_t i = 0; i < self->pens; i++)
            pthread_join(hands[i].thread, NULL);
        atomic_store(&self->is_open, false);
        craft->close(to);
    }
    atomic_store(&self->is_closed, true);
}

void run_guest(void *member)
{
    crew->guest_result = craft->open_as_guest(member);
    crew->has_let_guest_in = crew->has_let_guest_in || crew->guest_result == 0;
}
