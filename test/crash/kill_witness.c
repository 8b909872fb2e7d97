/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that reads the log all the time, whoever has it open. It notes a fingerprint of each record it
 * was given; what it was given must be there ever after.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

struct reading {
    struct witness *witness;
    struct twinlog_reader *reader;
    struct rng rng;
    uint64_t next_lsn;
    bool is_done; /* read to the end after it was told to stop */
    enum lie lie;
};

static void pause_a_moment(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
}

static bool is_told_to_stop(const struct reading *reading)
{
    return atomic_load(&reading->witness->must_stop);
}

/* Mostly near the end, where it is written. */
static uint64_t choose_place(struct reading *reading)
{
    const uint64_t last = reading->witness->last_lsn;
    const uint64_t back = rng_below(&reading->rng, (rng_one_in(&reading->rng, 8) ? last : last / 32) + 1);

    return last + 1 - back;
}

/* -EILSEQ when it is not what it was. */
static int note(struct reading *reading, uint64_t lsn, uint64_t digest)
{
    struct witness *witness = reading->witness;

    if (lsn > SEEN_MAX)
        return -EOVERFLOW;
    if (atomic_load(&witness->digest[lsn]) == 0)
        atomic_store(&witness->digest[lsn], digest);
    if (atomic_load(&witness->digest[lsn]) == digest)
        return 0;
    atomic_store(&witness->wrong_lsn, lsn);
    return -EILSEQ;
}

static int note_record(struct reading *reading, const struct twinlog_record *record)
{
    struct witness *witness = reading->witness;

    witness->records++;
    if (record->lsn != reading->next_lsn) {
        atomic_store(&witness->wrong_lsn, record->lsn);
        return -EILSEQ;
    }
    reading->next_lsn++;
    if (record->lsn > witness->last_lsn)
        witness->last_lsn = record->lsn;
    if (reading->lie == LIE_READER && rng_one_in(&reading->rng, 64))
        return note(reading, witness->last_lsn + 1, 1);
    return note(reading, record->lsn, payload_digest(record->data, record->size, record->time_ns));
}

/* Reads to the end, once: 0, or an error. */
static int read_rest(struct reading *reading)
{
    struct twinlog_record record;
    int result;

    while ((result = twinlog_reader_next(reading->reader, &record)) > 0) {
        result = note_record(reading, &record);
        if (result < 0)
            return result;
    }
    return result;
}

static int open_somewhere(struct reading *reading, const char *dir)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;

    reading->next_lsn = choose_place(reading);
    options.from_lsn = reading->next_lsn;
    options.ret_report = &reading->witness->report;
    reading->witness->openings++;
    return twinlog_reader_open(dir, &options, &reading->reader);
}

static int read_on(struct reading *reading)
{
    const uint64_t rounds = 1 + rng_below(&reading->rng, 100);
    int result = 0;

    for (uint64_t i = 0; result == 0 && i < rounds && !reading->is_done; i++) {
        const bool is_last = is_told_to_stop(reading);

        if (i % 16 == 15) {
            reading->next_lsn = choose_place(reading);
            result = twinlog_reader_seek(reading->reader, reading->next_lsn);
        }
        if (result == 0)
            result = read_rest(reading);
        reading->is_done = is_last;
        pause_a_moment();
    }
    return result;
}

static int watch(const char *dir, struct witness *witness, struct rng rng, enum lie lie)
{
    struct reading reading = { .witness = witness, .rng = rng, .lie = lie };
    int result = 0;

    while (result == 0 && !reading.is_done) {
        result = open_somewhere(&reading, dir);
        if (result == 0) {
            result = read_on(&reading);
            twinlog_reader_close(reading.reader);
        } else if (result == -ENOENT) { /* not yet */
            pause_a_moment();
            result = 0;
        }
    }
    return result;
}

pid_t fork_witness(const char *dir, struct witness *witness, struct rng rng, enum lie lie)
{
    const pid_t judge = getpid();
    const pid_t pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == judge)
        atomic_store(&witness->error, watch(dir, witness, rng, lie));
    _exit(atomic_load(&witness->error) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
