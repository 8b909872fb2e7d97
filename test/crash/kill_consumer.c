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

static struct twinlog *consumed;
static struct twinlog_reader *reader;
static uint64_t read_lsn;   /* of the record returned last, 0 = none */
static uint32_t read_since; /* cuts that were done before that */
static struct twinlog_report report;

static bool is_excused(int error)
{
    const bool is_cut = atomic_load(&world->truncations_started) != read_since;
    const bool is_trimmed =
        read_lsn + 1 < atomic_load(&world->head_highest) || atomic_load(&world->head_most) >= UNKNOWN;

    return ((error == -ERANGE || error == TWINLOG_ETRUNCATED) && is_cut) ||
           (error == TWINLOG_ETRIMMED && is_trimmed);
}

/* The place it has read to may be gone. Then it is slow. */
static void move_cursor(void)
{
    struct consumer *consumer = &shared->consumer;
    const uint32_t since = atomic_load(&world->truncations_done);
    const long us = (long)rng_below(&consumer->rng, consumer->pause_us + 1);
    int result;

    if (read_lsn > atomic_load(&consumer->most))
        atomic_store(&consumer->most, read_lsn);
    result = twinlog_cursor_set(consumed, CONSUMER_NAME, read_lsn);
    if (result == 0 && atomic_load(&world->truncations_started) == since)
        atomic_store(&consumer->least, stamp(read_lsn, since));
    if (result < 0 && !is_excused(result))
        violation("the consumer cannot set its cursor to LSN %" PRIu64
                  ", which it was given; its log ends at "
                  "%" PRIu64 ": %s",
                  read_lsn, twinlog_last_lsn(consumed), twinlog_strerror(result));
    nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

static int go_to_cursor(void)
{
    uint64_t lsn;
    int result = twinlog_cursor_get(consumed, CONSUMER_NAME, &lsn);

    read_lsn = 0;
    read_since = atomic_load(&world->truncations_done);
    if (result == 0)
        result = twinlog_reader_seek(reader, lsn + 1);
    return result == -ENOENT ? twinlog_reader_seek_first(reader) : result;
}

/* One record, or one wait for it. */
static int consume(void)
{
    struct consumer *consumer = &shared->consumer;
    const uint32_t since = atomic_load(&world->truncations_done);
    struct twinlog_record record;
    int result = twinlog_reader_next(reader, &record);

    if (result == 0) {
        result = twinlog_reader_wait(reader, 20);
        return result < 0 ? result : 0;
    }
    if (result == TWINLOG_ETRIMMED)
        return twinlog_reader_seek_first(reader);
    if (result < 0)
        return is_excused(result) ? go_to_cursor() : result;
    read_lsn = record.lsn;
    read_since = since;
    atomic_fetch_add(&consumer->records, 1);
    if (rng_one_in(&consumer->rng, 64))
        move_cursor();
    return 0;
}

static int read_for_a_while(void)
{
    struct consumer *consumer = &shared->consumer;
    int result = go_to_cursor();

    for (uint64_t left = 1 + rng_below(&consumer->rng, 20000);
         result == 0 && left > 0 && !atomic_load(&consumer->must_stop); left--)
        result = consume();
    if (result == 0 && read_lsn > 0)
        move_cursor();
    return result;
}

static int open_and_read(void)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_reader_options reading = TWINLOG_READER_OPTIONS_INIT;
    int result;

    options.flags = TWINLOG_READ_ONLY;
    options.ret_report = reading.ret_report = &report;
    result = twinlog_open(place.log, &options, &consumed);
    if (result == -ENOENT) { /* not yet */
        pause_a_moment();
        return 0;
    }
    if (result < 0)
        return result;
    result = twinlog_reader_attach(consumed, &reading, &reader);
    if (result == 0) {
        result = read_for_a_while();
        twinlog_reader_close(reader);
    }
    twinlog_close(consumed);
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
