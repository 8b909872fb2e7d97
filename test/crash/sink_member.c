/* SPDX-License-Identifier: Apache-2.0 */
/* A process that writes to the sink. */
#define _GNU_SOURCE
#include "sink_kill.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PEN_MAX_BYTES (1u << 20)
#define FIB_SEQUENCE 20u

static struct member *self;

bool tells(enum fib fib)
{
    return scene->fib == fib && !atomic_exchange(&scene->has_fibbed, true);
}

void sink_path(char ret_path[400])
{
    snprintf(ret_path, 400, "%s/app", place.log);
}

/* ---- a thread that writes ------------------------------------------------------------------------- */

struct hand {
    struct twinlog_sink *sink;
    struct rng rng;
    uint32_t number;
    struct pen *pen;
    uint64_t bytes;
    pthread_t thread;
    unsigned char line[LINE_MAX_BYTES];
};

static void hand_over(struct hand *hand, size_t size, uint64_t *ret_offset)
{
    const size_t first = rng_below(&hand->rng, size + 1), second = rng_below(&hand->rng, size - first + 1);
    const struct iovec pieces[] = {
        { hand->line, first },
        { hand->line + first, second },
        { hand->line + first + second, size - first - second },
    };

    if (rng_one_in(&hand->rng, 4))
        check_call(twinlog_sink_writev(hand->sink, pieces, 3, ret_offset), "twinlog_sink_writev");
    else
        check_call(twinlog_sink_write(hand->sink, hand->line, size, ret_offset), "twinlog_sink_write");
}

static void write_line(struct hand *hand, uint32_t sequence)
{
    const size_t size = line_size(hand->number, sequence);
    uint64_t offset = 0;

    line_fill(hand->number, sequence, hand->line);
    if (sequence > FIB_SEQUENCE && size > LINE_LABEL_BYTES + 1 && tells(FIB_GARBLED))
        hand->line[size - 2] ^= 1;
    hand_over(hand, size, &offset);
    if (size > 1 && sequence > FIB_SEQUENCE && tells(FIB_TWICE))
        hand_over(hand, size, &offset);
    hand->pen->offset[sequence] = offset + (sequence > FIB_SEQUENCE && size > 1 && tells(FIB_OFFSET));
    hand->bytes += size;
}

static void write_next(struct hand *hand)
{
    const uint32_t sequence = atomic_load(&hand->pen->begun);

    atomic_store(&hand->pen->begun, sequence + 1);
    if (sequence > FIB_SEQUENCE && line_size(hand->number, sequence) > 1 &&
        line_size(hand->number, sequence + 1) > 1 && tells(FIB_SWAPPED)) {
        atomic_store(&hand->pen->begun, sequence + 2);
        write_line(hand, sequence + 1);
        write_line(hand, sequence);
        atomic_store(&hand->pen->returned, sequence + 2);
        return;
    }
    if (sequence <= FIB_SEQUENCE || !tells(FIB_LOST))
        write_line(hand, sequence);
    atomic_store(&hand->pen->returned, sequence + 1);
}

static void do_something_else(struct hand *hand)
{
    struct twinlog_sink_stat stat = TWINLOG_SINK_STAT_INIT;

    if (self->does_sync && rng_one_in(&hand->rng, 40)) {
        atomic_store(&hand->pen->may_wait, true);
        check_call(twinlog_sink_sync(hand->sink), "twinlog_sink_sync");
        atomic_store(&hand->pen->may_wait, false);
    }
    if (self->does_rotate && rng_one_in(&hand->rng, 400))
        check_call(twinlog_sink_rotate(hand->sink), "twinlog_sink_rotate");
    if (self->does_reopen && rng_one_in(&hand->rng, 100))
        check_call(twinlog_sink_reopen(hand->sink), "twinlog_sink_reopen");
    if (rng_one_in(&hand->rng, 100))
        check_call(twinlog_sink_stat(hand->sink, &stat), "twinlog_sink_stat");
    if (self->pause_one_in > 0 && rng_one_in(&hand->rng, self->pause_one_in))
        pause_a_moment();
}

static bool is_to_go_on(const struct hand *hand)
{
    const uint32_t begun = atomic_load(&hand->pen->begun);

    return !atomic_load(&self->must_stop) && begun < LINES_MAX - 1 && hand->bytes < PEN_MAX_BYTES;
}

static void *write_lines(void *context)
{
    struct hand *hand = context;

    while (is_to_go_on(hand)) {
        write_next(hand);
        do_something_else(hand);
        while (scene->fib == FIB_STALL && atomic_load(&hand->pen->begun) > FIB_SEQUENCE)
            pause_a_moment();
    }
    atomic_store(&hand->pen->is_idle, true);
    while (!atomic_load(&self->must_stop))
        pause_a_moment();
    return NULL;
}

/* ---- processes ----------------------------------------------------------------------------------- */

static void start_hand(struct hand *hand, struct twinlog_sink *sink, uint32_t number)
{
    hand->sink = sink;
    hand->rng = (struct rng){ rng_next(&self->rng) };
    hand->number = number;
    hand->pen = &scene->pen[number];
    hand->bytes = 0;
    errno = pthread_create(&hand->thread, NULL, write_lines, hand);
    if (errno != 0)
        give_up("pthread_create");
}

void run_member(void *member)
{
    static struct hand hands[MEMBER_PENS_MAX];
    struct twinlog_sink *sink;
    char path[400];

    self = member;
    face(&self->fate);
    sink_path(path);
    check_call(twinlog_sink_open(path, &self->options, &sink), "twinlog_sink_open");
    for (uint32_t i = 0; i < self->pens; i++)
        start_hand(&hands[i], sink, self->first_pen + i);
    atomic_store(&self->is_open, true);
    for (uint32_t i = 0; i < self->pens; i++)
        pthread_join(hands[i].thread, NULL);
    check_call(twinlog_sink_close(sink), "twinlog_sink_close");
    atomic_store(&self->is_closed, true);
}

void run_opener(void *member)
{
    const struct member *like = member;
    struct twinlog_sink_stat stat = TWINLOG_SINK_STAT_INIT;
    struct twinlog_sink *sink;
    char path[400];

    sink_path(path);
    check_call(twinlog_sink_open(path, &like->options, &sink), "twinlog_sink_open after all were killed");
    check_call(twinlog_sink_stat(sink, &stat), "twinlog_sink_stat");
    scene->opened_bytes = stat.bytes;
    scene->fillers = stat.fillers;
    check_call(twinlog_sink_close(sink), "twinlog_sink_close after all were killed");
}

void run_guest(void *member)
{
    const struct member *like = member;
    struct twinlog_sink_options options = like->options;
    struct twinlog_sink *sink;
    char path[400];

    options.flags ^= like->pens % 2 ? TWINLOG_SINK_SHARED : 0;
    options.max_bytes = 0; /* a shared one has none */
    options.lock_wait_ms = 0;
    sink_path(path);
    scene->guest_result = twinlog_sink_open(path, &options, &sink);
    if (scene->guest_result == 0)
        twinlog_sink_close(sink);
}
