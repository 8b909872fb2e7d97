/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that reads the log in order and keeps its place in a cursor of its own, so that no trim
 * removes what it has not read. It opens the log read-only, beside the writers or without one. When its place is
 * gone, by a truncation or a reset, it goes on where the log is.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

struct consuming {
    struct shared *shared;
    struct consumer *consumer;
    struct twinlog *log;
    struct twinlog_reader *reader;
    uint64_t read_lsn;   /* of the record returned last, 0 = none */
    uint32_t read_since; /* cuts that were done before that */
    struct twinlog_report report;
};

static void be_slow(struct consumer *consumer)
{
    const long us = (long)rng_below(&consumer->rng, consumer->pause_us + 1);

    nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

static bool is_excused(const struct consuming *consuming, int error)
{
    const struct world *world = &consuming->shared->world;
    const bool is_cut = atomic_load(&world->truncations_started) != consuming->read_since;
    const bool is_trimmed = consuming->read_lsn + 1 < atomic_load(&world->head_highest) ||
                            atomic_load(&world->head_most) >= UNKNOWN;

    return ((error == -ERANGE || error == TWINLOG_ETRUNCATED) && is_cut) ||
           (error == TWINLOG_ETRIMMED && is_trimmed);
}

/* 0 also when the place it has read to is gone. */
static int move_cursor(struct consuming *consuming)
{
    const struct world *world = &consuming->shared->world;
    struct consumer *consumer = consuming->consumer;
    const uint32_t since = atomic_load(&world->truncations_done);
    int result;

    if (consuming->read_lsn > atomic_load(&consumer->most))
        atomic_store(&consumer->most, consuming->read_lsn);
    result = twinlog_cursor_set(consuming->log, CONSUMER_NAME, consuming->read_lsn);
    if (result == 0 && atomic_load(&world->truncations_started) == since)
        atomic_store(&consumer->least, stamp(consuming->read_lsn, since));
    if (result < 0 && !is_excused(consuming, result))
        violation("the consumer cannot set its cursor to LSN %" PRIu64
                  ", which it was given; its log ends at "
                  "%" PRIu64 ": %s",
                  consuming->read_lsn, twinlog_last_lsn(consuming->log), twinlog_strerror(result));
    atomic_fetch_add(&consumer->moves, 1);
    be_slow(consumer);
    return 0;
}

static int go_to_cursor(struct consuming *consuming)
{
    uint64_t lsn;
    int result = twinlog_cursor_get(consuming->log, CONSUMER_NAME, &lsn);

    consuming->read_lsn = 0;
    consuming->read_since = atomic_load(&consuming->shared->world.truncations_done);
    if (result == 0)
        result = twinlog_reader_seek(consuming->reader, lsn + 1);
    return result == -ENOENT ? twinlog_reader_seek_first(consuming->reader) : result;
}

/* One record, or one wait for it. */
static int consume(struct consuming *consuming)
{
    struct consumer *consumer = consuming->consumer;
    const uint32_t since = atomic_load(&consuming->shared->world.truncations_done);
    struct twinlog_record record;
    int result = twinlog_reader_next(consuming->reader, &record);

    if (result == 0) {
        result = twinlog_reader_wait(consuming->reader, 20);
        return result < 0 ? result : 0;
    }
    if (result == TWINLOG_ETRIMMED)
        return twinlog_reader_seek_first(consuming->reader);
    if (result < 0)
        return is_excused(consuming, result) ? go_to_cursor(consuming) : result;
    consuming->read_lsn = record.lsn;
    consuming->read_since = since;
    atomic_fetch_add(&consumer->records, 1);
    if (rng_one_in(&consumer->rng, 64))
        result = move_cursor(consuming);
    return result < 0 ? result : 0;
}

static int read_for_a_while(struct consuming *consuming)
{
    int result = go_to_cursor(consuming);

    for (uint64_t left = 1 + rng_below(&consuming->consumer->rng, 20000);
         result == 0 && left > 0 && !atomic_load(&consuming->consumer->must_stop); left--)
        result = consume(consuming);
    if (result == 0 && consuming->read_lsn > 0)
        result = move_cursor(consuming);
    return result;
}

static int open_and_read(const char *dir, struct consuming *consuming)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_reader_options reading = TWINLOG_READER_OPTIONS_INIT;
    int result;

    options.flags = TWINLOG_READ_ONLY;
    options.ret_report = reading.ret_report = &consuming->report;
    result = twinlog_open(dir, &options, &consuming->log);
    if (result == -ENOENT) { /* not yet */
        pause_a_moment();
        return 0;
    }
    if (result < 0)
        return result;
    result = twinlog_reader_attach(consuming->log, &reading, &consuming->reader);
    if (result == 0) {
        result = read_for_a_while(consuming);
        twinlog_reader_close(consuming->reader);
    }
    twinlog_close(consuming->log);
    return result;
}

struct call {
    const char *dir;
    struct shared *shared;
};

static void run_consumer(void *context)
{
    const struct call *call = context;
    struct consuming consuming = { .shared = call->shared, .consumer = &call->shared->consumer };
    int result = 0;

    while (result == 0 && !atomic_load(&consuming.consumer->must_stop))
        result = open_and_read(call->dir, &consuming);
    if (result < 0)
        violation("the consumer failed behind LSN %" PRIu64 ": %s; %s", consuming.read_lsn,
                  twinlog_strerror(result), consuming.report.text);
}

pid_t fork_consumer(const char *dir, struct shared *shared)
{
    return fork_child(shared, run_consumer, &(struct call){ dir, shared });
}

void check_consumer(const struct world *world, const struct consumer *consumer, struct twinlog *log)
{
    const uint64_t least = atomic_load(&consumer->least), first = twinlog_first_lsn(log);
    uint64_t lsn = 0, expected = stamp_lsn(least);
    int result;

    if (least == 0)
        return;
    if (expected > world_keeps(world, stamp_since(least)))
        expected = world_keeps(world, stamp_since(least));
    result = twinlog_cursor_get(log, CONSUMER_NAME, &lsn);
    if (result < 0)
        violation("the consumer's cursor is gone: %s", twinlog_strerror(result));
    if (lsn < expected)
        violation("the consumer had set its cursor to LSN %" PRIu64 ", now it is at %" PRIu64, expected, lsn);
    if (first > atomic_load(&consumer->most) + 1 && first > atomic_load(&world->floor_highest))
        violation("the log begins with LSN %" PRIu64 ", but the consumer has read up to %" PRIu64 " only",
                  first, atomic_load(&consumer->most));
}
