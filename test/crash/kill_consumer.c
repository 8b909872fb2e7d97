/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer in a process of its own, beside the writers or without one: no trim removes what it has not read. When its
 * place is gone, by a truncation or a reset, it goes on where the log is.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

static struct twinlog_consumer *reading;
static struct twinlog_report report;
static uint64_t read_lsn;   /* of the record returned last, 0 = none */
static uint32_t read_since; /* cuts that were done before that */

static bool is_excused(int error)
{
    const bool is_cut = atomic_load(&world->truncations_started) != read_since;

    return ((error == -ERANGE || error == TWINLOG_ETRUNCATED) && is_cut) ||
           (error == TWINLOG_ETRIMMED && world_may_be_trimmed(read_lsn + 1));
}

/* The place it has read to may be gone. Then it is slow. */
static void commit(void)
{
    struct consumer *consumer = &shared->consumer;
    const uint32_t since = atomic_load(&world->truncations_done);
    const long us = (long)rng_below(&consumer->rng, consumer->pause_us + 1);
    int result;

    raise_to(&consumer->most, read_lsn);
    result = twinlog_consumer_commit(reading, read_lsn);
    if (result == 0 && atomic_load(&world->truncations_started) == since)
        atomic_store(&consumer->least, stamp(read_lsn, since));
    if (result < 0 && !is_excused(result))
        violation("the consumer cannot commit LSN %" PRIu64 ", which it was given: %s", read_lsn,
                  twinlog_strerror(result));
    nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

/* One record, or one wait for it. */
static int consume(void)
{
    const uint32_t since = atomic_load(&world->truncations_done);
    struct twinlog_record record;
    int result = twinlog_consumer_next(reading, &record);

    if (result == 0) {
        result = twinlog_reader_wait(twinlog_consumer_reader(reading), 20);
        return result < 0 ? result : 0;
    }
    if (result < 0 && !is_excused(result))
        return result;
    read_lsn = result < 0 ? 0 : record.lsn;
    read_since = since;
    if (result < 0) /* once: then it goes on */
        return 0;
    atomic_fetch_add(&shared->consumer.records, 1);
    if (rng_one_in(&shared->consumer.rng, 64))
        commit();
    return 0;
}

static int read_for_a_while(void)
{
    struct consumer *consumer = &shared->consumer;
    int result = 0;

    read_lsn = 0;
    read_since = atomic_load(&world->truncations_done);
    for (uint64_t left = 1 + rng_below(&consumer->rng, 20000);
         result == 0 && left > 0 && !atomic_load(&consumer->must_stop); left--)
        result = consume();
    if (result == 0 && read_lsn > 0)
        commit();
    return result;
}

static int open_and_read(void)
{
    struct twinlog_consumer_options options = TWINLOG_CONSUMER_OPTIONS_INIT;
    int result;

    options.flags = rng_one_in(&shared->consumer.rng, 2) ? TWINLOG_CONSUMER_MMAP : 0;
    options.ret_report = &report;
    result = twinlog_consumer_open(place.log, CONSUMER_NAME, &options, &reading);
    if (result == -ENOENT) { /* not yet */
        pause_a_moment();
        return 0;
    }
    if (result == 0)
        result = read_for_a_while();
    else
        reading = NULL;
    twinlog_consumer_close(reading);
    return result;
}

void run_consumer(void *unused)
{
    int result = 0;

    (void)unused;
    while (result == 0 && !atomic_load(&shared->consumer.must_stop))
        result = open_and_read();
    if (result < 0)
        violation("the consumer failed behind LSN %" PRIu64 ": %s; %s", read_lsn, twinlog_strerror(result),
                  report.text);
}

void check_consumer(struct twinlog *log)
{
    const struct consumer *consumer = &shared->consumer;
    const uint64_t least = atomic_load(&consumer->least), first = twinlog_first_lsn(log);
    uint64_t lsn = 0, expected = stamp_lsn(least);
    int result;

    if (least == 0)
        return;
    if (expected > world_keeps(stamp_since(least)))
        expected = world_keeps(stamp_since(least));
    result = twinlog_cursor_get(log, CONSUMER_NAME, &lsn);
    if (result < 0)
        violation("the consumer's cursor is gone: %s", twinlog_strerror(result));
    if (lsn < expected)
        violation("the consumer had set its cursor to LSN %" PRIu64 ", now it is at %" PRIu64, expected, lsn);
    if (first > atomic_load(&consumer->most) + 1 && first > atomic_load(&world->floor_highest))
        violation("the log begins with LSN %" PRIu64 ", but the consumer has read up to %" PRIu64 " only",
                  first, atomic_load(&consumer->most));
}
