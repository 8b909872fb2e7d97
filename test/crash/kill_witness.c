/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that reads the log all the time, whichever process has it open; or a thread that reads inside a writer. It
 * notes a fingerprint of each record it was given; what it was given must be there ever after, unless it is truncated.
 *
 * It may be told that records were removed or truncated, but only when some were; and it must be told of a
 * truncation before it is given another record in the place of one that it has passed.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <twinlog_admin.h>
#include <unistd.h>

#define WAIT_MS 100

struct reading {
    struct witness *witness;
    struct twinlog *log; /* in which it is inside a writer; NULL: it is beside */
    struct twinlog_reader *reader;
    uint64_t next_lsn;             /* 0 = whatever comes */
    uint64_t most_passed;          /* highest LSN returned since the last seek, 0 = none */
    uint32_t sought_at, passed_at; /* cuts: done before the seek, started after that record was returned */
    bool is_done;                  /* read to the end after it was told to stop */
    struct twinlog_report report;
};

static const char *name_of(const struct reading *reading)
{
    return reading->log ? "the reader inside the writer" : "the reader beside the writer";
}

/* ---- where it is ------------------------------------------------------------------------------- */

/* `since`: cuts that were done before the place was chosen. */
static void note_place(struct reading *reading, uint64_t lsn, uint32_t since)
{
    reading->next_lsn = lsn;
    reading->most_passed = 0;
    reading->sought_at = since;
}

static int find_range(struct reading *reading, uint64_t *ret_first, uint64_t *ret_last)
{
    const int result = twinlog_reader_range(reading->reader, ret_first, ret_last);

    if (result < 0)
        violation("%s cannot tell its range: %s; %s", name_of(reading), twinlog_strerror(result),
                  reading->report.text);
    if (*ret_last + 1 < *ret_first)
        violation("%s has a range from LSN %" PRIu64 " to %" PRIu64, name_of(reading), *ret_first, *ret_last);
    return result;
}

static int seek_first(struct reading *reading)
{
    note_place(reading, 0, atomic_load(&world->truncations_done));
    return twinlog_reader_seek_first(reading->reader);
}

/* Mostly near the end, where it is written. */
static int seek_somewhere(struct reading *reading)
{
    const uint32_t since = atomic_load(&world->truncations_done);
    uint64_t first, last, back;

    find_range(reading, &first, &last);
    if (first == 0 || rng_one_in(&reading->witness->rng, 16))
        return seek_first(reading);
    back = rng_below(&reading->witness->rng,
                     (rng_one_in(&reading->witness->rng, 8) ? last - first : (last - first) / 32) + 1);
    note_place(reading, last + 1 - back, since);
    if (back == 0 && !reading->is_done && rng_one_in(&reading->witness->rng, 2)) {
        note_place(reading, 0, since);
        return twinlog_reader_seek_end(reading->reader);
    }
    return twinlog_reader_seek(reading->reader, reading->next_lsn);
}

/* ---- what it was given ------------------------------------------------------------------------- */

static void check_told_of_cuts(const struct reading *reading, uint64_t lsn, uint32_t since)
{
    if (reading->most_passed > 0 && lsn > reading->most_passed &&
        world_gives_again(reading->passed_at, since) <= reading->most_passed)
        violation("%s was not told of a cut: it had passed LSN %" PRIu64 ", which was cut off, and was given "
                  "LSN %" PRIu64,
                  name_of(reading), reading->most_passed, lsn);
}

/* The end may come down to where it stands: what is in front of it then is the last record. */
static bool is_end_cut(const struct reading *reading, uint64_t lsn, uint64_t expected)
{
    return reading->most_passed == 0 && lsn < expected &&
           world_gave_again(reading->sought_at, atomic_load(&world->truncations_started)) <= expected;
}

static bool is_filler(const struct reading *reading, uint64_t lsn)
{
    unsigned char data[1];
    struct twinlog_record record;

    return twinlog_read(reading->log, lsn, data, sizeof(data), &record) == -ENOENT;
}

/* A mapped writer that was killed may have left fillers, which a reader passes over. Only a reader inside a writer
 * comes upon them here, and whether they may be there is for the judge to say. */
static bool are_fillers_between(const struct reading *reading, uint64_t lsn, uint64_t expected)
{
    const bool is_back = lsn < expected;
    const uint64_t first = is_back ? lsn + 1 : expected;
    const uint64_t end = is_back ? expected + 1 : lsn;

    if (!reading->log)
        return false;
    for (uint64_t between = first; between < end; between++)
        if (!is_filler(reading, between))
            return false;
    return true;
}

/* Does a reader come from `expected`, where it stands, to the record `lsn`? */
static bool is_next(const struct reading *reading, uint64_t lsn, uint64_t expected)
{
    const bool goes_back = expected < reading->next_lsn;

    if (reading->next_lsn == 0 || lsn == expected)
        return true;
    if (goes_back && is_end_cut(reading, lsn, expected))
        return true;
    return goes_back == (lsn < expected) && are_fillers_between(reading, lsn, expected);
}

/* `since`: cuts that were done before it was asked for. */
static void note_record(struct reading *reading, const struct twinlog_record *record, uint64_t expected,
                        uint32_t since)
{
    if (!is_next(reading, record->lsn, expected))
        violation("%s was given LSN %" PRIu64 " in the place of %" PRIu64, name_of(reading), record->lsn,
                  expected);
    check_told_of_cuts(reading, record->lsn, since);
    note_sighting(&reading->witness->sightings, record, since, name_of(reading));
    if (place.lie == LIE_READER && rng_one_in(&reading->witness->rng, 64))
        note_sighting(&reading->witness->sightings, &(struct twinlog_record){ .lsn = record->lsn + 1 }, since,
                      name_of(reading));
    if (record->lsn > reading->most_passed) {
        reading->most_passed = record->lsn;
        reading->passed_at = atomic_load(&world->truncations_started);
    }
    atomic_fetch_add(&reading->witness->sightings.records, 1);
}

/* ---- what it was told -------------------------------------------------------------------------- */

/* With all that is known of the log at that moment: the process that has it open may change it before anybody can look.
 * */
static _Noreturn void complain_of_failure(const struct reading *reading, uint64_t lsn, int error)
{
    const struct twinlog_report report = reading->report; /* the next call may write another one there */
    struct twinlog_inspection now = TWINLOG_INSPECTION_INIT;
    uint64_t first = 0, last = 0;
    const int inspected = twinlog_inspect(place.log, &now);

    if (reading->reader)
        twinlog_reader_range(reading->reader, &first, &last);
    violation("%s failed at record %" PRIu64 ": %s; %s; it has passed %" PRIu64 "; segment %" PRIu64
              ", file %s, offset %" PRIu64 ", records %" PRIu64 " to %" PRIu64 "; now it sees %" PRIu64
              " to %" PRIu64 ", the log (%s) has %" PRIu64 " to %" PRIu64 ", durable %" PRIu64
              ", epoch %" PRIu32 ", %s; cuts: %" PRIu32 " begun, %" PRIu32 " done",
              name_of(reading), lsn, twinlog_strerror(error), report.text, reading->most_passed,
              report.segment, report.file, report.offset, report.first_lsn, report.last_lsn, first, last,
              twinlog_strerror(inspected), now.first_lsn, now.last_lsn, now.durable_lsn, now.epoch,
              now.has_writer ? "being written" : "not being written",
              atomic_load(&world->truncations_started), atomic_load(&world->truncations_done));
}

static void check_reason(const struct reading *reading, uint64_t lsn, int result)
{

    if (result == TWINLOG_ETRIMMED && reading->next_lsn > 0 && !world_may_be_trimmed(lsn))
        violation("%s was told that LSN %" PRIu64 " was removed, but the log begins before it; %s",
                  name_of(reading), lsn, reading->report.text);
    if (result == TWINLOG_ETRUNCATED &&
        (reading->most_passed == 0 ||
         world_gave_again(reading->sought_at, atomic_load(&world->truncations_started)) >
             reading->most_passed))
        violation("%s was told of a cut before LSN %" PRIu64 ", and there was none; %s", name_of(reading),
                  reading->most_passed, reading->report.text);
    if (result != TWINLOG_ETRIMMED && result != TWINLOG_ETRUNCATED)
        complain_of_failure(reading, lsn, result);
}

typedef int move_function(struct twinlog_reader *reader, struct twinlog_record *ret_record);

/* It stays until a seek. */
static int find_another_place(struct reading *reading, move_function *move, uint64_t lsn, int error)
{
    struct twinlog_record record;
    const int again = move(reading->reader, &record);

    check_reason(reading, lsn, error);
    if (again != error)
        violation("%s failed with \"%s\", and then with \"%s\"", name_of(reading), twinlog_strerror(error),
                  again < 0 ? twinlog_strerror(again) : "nothing");
    return seek_somewhere(reading);
}

/* ---- moving ------------------------------------------------------------------------------------ */

/* 1 = a record, or an error that it has got over by a seek; 0 = no more. */
static int step(struct reading *reading, bool is_back)
{
    move_function *move = is_back ? twinlog_reader_previous : twinlog_reader_next;
    const uint32_t since = atomic_load(&world->truncations_done);
    const uint64_t expected = reading->next_lsn - is_back;
    struct twinlog_record record;
    int result = move(reading->reader, &record);

    if (result > 0) {
        note_record(reading, &record, expected, since);
        reading->next_lsn = is_back ? record.lsn : record.lsn + 1;
    } else if (result < 0) {
        result = find_another_place(reading, move, expected, result);
        result = result < 0 ? result : 1;
    }
    return result;
}

/* Reads to the end, once. */
static int read_rest(struct reading *reading)
{
    int result;

    while ((result = step(reading, false)) > 0)
        ;
    return result;
}

static int read_back(struct reading *reading)
{
    int result = 1;

    for (uint64_t left = 1 + rng_below(&reading->witness->rng, 3000); result > 0 && left > 0; left--)
        result = step(reading, true);
    return result;
}

static bool is_readable(struct reading *reading, int timeout_ms)
{
    struct pollfd poller = { .fd = twinlog_reader_fd(reading->reader), .events = POLLIN };

    if (poller.fd < 0)
        violation("%s has no descriptor: %s", name_of(reading), twinlog_strerror(poller.fd));
    return poll(&poller, 1, timeout_ms) == 1;
}

static int make_round(struct reading *reading, uint64_t round)
{
    int result = 0;

    switch (reading->witness->habit) {
    case HABIT_FOLLOW:
    case HABIT_FOLLOW_FD:
        result = read_rest(reading);
        if (result == 0 && reading->witness->habit == HABIT_FOLLOW)
            result = twinlog_reader_wait(reading->reader, WAIT_MS);
        else if (result == 0)
            is_readable(reading, WAIT_MS);
        break;
    case HABIT_BACKWARDS:
        result = seek_somewhere(reading);
        if (result == 0)
            result = read_back(reading);
        break;
    default:
        if (round % 16 == 15)
            result = seek_somewhere(reading);
        if (result == 0)
            result = read_rest(reading);
    }
    return result;
}

/* Nobody changes the log any more: what wait and poll say must be what next does. */
static int read_to_the_end(struct reading *reading)
{
    uint64_t first, last;
    int result, is_there;

    find_range(reading, &first, &last);
    result = first > 0 && (reading->next_lsn == 0 || reading->next_lsn > last + 1) ? seek_first(reading) : 0;
    if (result < 0)
        return result;
    do {
        is_there = twinlog_reader_wait(reading->reader, 0);
        if (is_there > 0 && !is_readable(reading, PATIENCE_MS))
            violation("%s has something to read, but its descriptor does not say so", name_of(reading));
        result = step(reading, false);
        if (result >= 0 && is_there != result)
            violation("%s waited with result %d, and then there was %s", name_of(reading), is_there,
                      result > 0 ? "something" : "nothing");
    } while (result > 0);
    if (result == 0 && is_readable(reading, 0))
        violation("%s has nothing to read, but its descriptor says so", name_of(reading));
    reading->witness->final_lsn = first > 0 ? reading->next_lsn - 1 : 0;
    return result;
}

static int read_on(struct reading *reading)
{
    const uint64_t rounds = 1 + rng_below(&reading->witness->rng, 100);
    const bool is_following =
        reading->witness->habit == HABIT_FOLLOW || reading->witness->habit == HABIT_FOLLOW_FD;
    int result = 0;

    for (uint64_t i = 0; result >= 0 && !reading->is_done && (is_following || i < rounds); i++) {
        reading->is_done = atomic_load(&reading->witness->must_stop);
        if (!reading->is_done)
            result = make_round(reading, i);
        else if (!reading->log)
            result = read_to_the_end(reading);
        if (!is_following)
            pause_a_moment();
    }
    return result < 0 ? result : 0;
}

/* ---- openings ---------------------------------------------------------------------------------- */

static int watch(struct reading *reading)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    int result = 0;

    options.ret_report = &reading->report;
    while (result == 0 && !reading->is_done) {
        options.flags = rng_one_in(&reading->witness->rng, 2) ? TWINLOG_READER_MMAP : 0;
        result = reading->log ? twinlog_reader_attach(reading->log, &options, &reading->reader)
                              : twinlog_reader_open(place.log, &options, &reading->reader);
        if (result == -ENOENT && !reading->log && !atomic_load(&reading->witness->must_stop)) { /* not yet */
            pause_a_moment();
            result = 0;
            continue;
        }
        if (result == 0)
            result = seek_somewhere(reading);
        if (result == 0)
            result = read_on(reading);
        twinlog_reader_close(reading->reader);
        reading->reader = NULL;
    }
    return result;
}

void run_witness(void *witness)
{
    struct reading reading = { .witness = witness };
    const int result = watch(&reading);

    if (result < 0)
        complain_of_failure(&reading, reading.next_lsn, result);
}

int read_attached(struct twinlog *log, struct rng rng)
{
    struct witness *witness = &shared->attached;
    struct reading reading = { .witness = witness, .log = log };

    witness->rng = rng;
    witness->habit = (enum habit)rng_below(&witness->rng, HABITS);
    return watch(&reading);
}
