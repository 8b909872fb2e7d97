/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policies durable and soak. A process that appends from many threads is killed with SIGKILL at a random moment,
 * the log is opened again at once and compared with what had been acknowledged (kill_judge.c has the rules).
 *
 * durable: a cycle is one to three lives of a writer, most of them killed, some while they open the log, and then a
 * judgement. Every life has another I/O path, other sizes and another layout. Another process reads all the while. The
 * log goes on from cycle to cycle until it is large; then the next one begins.
 *
 * soak: one log that grows old. A cycle is one life of a second or so, with eight threads that append, trim, truncate
 * and set cursors in small segments that are recycled; the same readers, consumer and copier are there all the time.
 */
#define _GNU_SOURCE

#include "kill.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define SOAK_THREADS 8u

static const enum habit soak_habits[WITNESSES] = { HABIT_FOLLOW_FD, HABIT_FOLLOW, HABIT_BACKWARDS };

static bool is_soak;
static uint64_t followed; /* by a writer or the judge, before they were gone */

/* Those beside the writers: 0 = there is none. In a soak they stay. */
static struct {
    pid_t witness[WITNESSES], consumer, copier;
    bool is_copier_killed;
} company;

/* ---- the log ----------------------------------------------------------------------------------- */

static void remove_log(void)
{
    remove_directory(place.log);
    forget_lives();
    forget_sightings(&shared->copier.sightings);
    for (unsigned i = 0; i < WITNESSES; i++)
        forget_sightings(&shared->witness[i].sightings);
    atomic_store(&shared->consumer.least, 0);
    atomic_store(&shared->consumer.most, 0);
}

/* ---- one life ---------------------------------------------------------------------------------- */

static void begin_incarnation(struct life *life, uint64_t number, bool is_at_once, struct rng *rng)
{
    begin_life(life, number, is_at_once, rng);
    if (rng_one_in(rng, 2))
        life->options.flags |= TWINLOG_PAD;
    if (!is_soak)
        return;
    life->writers = SOAK_THREADS;
    life->change_one_in = 8;
    life->has_reader = true;
    life->most_lsn = UINT64_C(1) << 40;
}

enum end {
    END_KILLED_OPENING,
    END_KILLED,
    END_CLOSED,
};

static enum end choose_end(struct rng *rng)
{
    const uint64_t chance = rng_below(rng, 8);

    if (is_soak)
        return chance == 0 ? END_KILLED_OPENING : END_KILLED;
    return chance < 3 ? END_KILLED_OPENING : chance < 7 ? END_KILLED : END_CLOSED;
}

/* Returns when it is dying, and not more. */
static void end_writer(struct life *life, pid_t pid, enum end end, struct rng *rng)
{
    if (end == END_KILLED_OPENING) {
        await(pid, (int64_t)rng_below(rng, 6000000));
    } else {
        await_open(life, pid);
        await(pid, (int64_t)rng_below(rng, is_soak ? 1500000000 : 30000000));
    }
    if (end == END_CLOSED) {
        atomic_store(&life->must_stop, true);
        await(pid, PATIENCE_MS * INT64_C(1000000));
    }
    kill(pid, SIGKILL);
}

/* ---- those beside it --------------------------------------------------------------------------- */

static void invite_witnesses(struct rng *rng)
{
    const uint64_t some = place.lie == LIE_READER ? 1 : rng_below(rng, WITNESSES);

    for (unsigned i = 0; i < (is_soak ? WITNESSES : some); i++) {
        struct witness *witness = &shared->witness[i];

        witness->habit = is_soak ? soak_habits[i] : (enum habit)rng_below(rng, HABITS);
        witness->rng = (struct rng){ rng_next(rng) };
        atomic_store(&witness->must_stop, false);
        company.witness[i] = fork_child(run_witness, witness);
    }
}

static void invite(struct rng *rng)
{
    invite_witnesses(rng);
    if (is_soak || rng_one_in(rng, 4)) {
        shared->consumer.rng = (struct rng){ rng_next(rng) };
        shared->consumer.pause_us = is_soak ? 20000 : rng_one_in(rng, 2) ? 1000 : 0;
        atomic_store(&shared->consumer.must_stop, false);
        company.consumer = fork_child(run_consumer, NULL);
    }
    if (is_soak || rng_one_in(rng, 6)) {
        shared->copier.rng = (struct rng){ rng_next(rng) };
        shared->copier.rounds = is_soak ? UINT32_MAX : 1;
        shared->copier.pause_ms = is_soak ? 4000 : 40;
        company.is_copier_killed = !is_soak && rng_one_in(rng, 3);
        company.copier = fork_child(run_copier, NULL);
    }
}

static void end_copier(void)
{
    if (company.copier == 0)
        return;
    if (company.is_copier_killed) {
        kill(company.copier, SIGKILL);
        reap(company.copier, "a copier");
        check_broken_copy();
    } else {
        atomic_store(&shared->copier.must_stop, is_soak);
        reap_well(company.copier, "a copier");
    }
    company.copier = 0;
}

static void end_witness(pid_t pid, struct witness *witness)
{
    if (pid == 0)
        return;
    reap_well(pid, "the reader beside the writer");
    if (witness->final_lsn != (lives.book.last >= lives.book.first ? lives.book.last : 0))
        violation("the reader beside the writer stopped at LSN %" PRIu64 ", the log ends at %" PRIu64,
                  witness->final_lsn, lives.book.last);
}

static void check_seen(void)
{
    check_complaints();
    for (unsigned i = 0; i < WITNESSES; i++)
        check_sightings(&shared->witness[i].sightings, &lives.book, "the reader beside the writer");
    check_sightings(&shared->attached.sightings, &lives.book, "the reader inside the writer");
    check_sightings(&shared->copier.sightings, &lives.book, "a backup");
}

static void take_leave(void)
{
    end_copier();
    if (company.consumer > 0) {
        atomic_store(&shared->consumer.must_stop, true);
        reap_well(company.consumer, "the consumer");
        company.consumer = 0;
    }
    for (unsigned i = 0; i < WITNESSES; i++)
        atomic_store(&shared->witness[i].must_stop, true);
    for (unsigned i = 0; i < WITNESSES; i++) {
        end_witness(company.witness[i], &shared->witness[i]);
        company.witness[i] = 0;
    }
    check_seen();
}

/* ---- one cycle --------------------------------------------------------------------------------- */

/* A writer that is dying, or dead and reaped, is followed by the next one or by the judge. */
static void run_cycle(struct rng *rng)
{
    const unsigned incarnations = is_soak ? 1 : 1 + (unsigned)rng_below(rng, MAX_LIVES);
    bool is_at_once = false;
    pid_t pid = 0;

    if (!is_soak || place.cycle == 0)
        invite(rng);
    for (unsigned i = 0; i < incarnations; i++) {
        struct life *life = &shared->incarnations[i];
        const pid_t before = pid;
        const enum end end = choose_end(rng);

        begin_incarnation(life, place.cycle * MAX_LIVES + i, is_at_once, rng);
        pid = fork_child(run_writer, life);
        if (is_at_once)
            count_life(&shared->incarnations[i - 1], reap(before, "a killed writer"));
        end_writer(life, pid, end, rng);
        is_at_once = rng_one_in(rng, 2);
        if (!is_at_once)
            count_life(life, reap(pid, "a killed writer"));
        else
            followed++;
    }
    if (!is_soak)
        end_copier();
    judge(incarnations, is_at_once, rng);
    if (is_at_once)
        count_life(&shared->incarnations[incarnations - 1], reap(pid, "a killed writer"));
    if (is_soak)
        check_seen();
    else
        take_leave();
    if (is_log_large() && !is_soak)
        remove_log();
}

/* ---- the policies ------------------------------------------------------------------------------ */

static void begin(void)
{
    begin_lives(remove_log);
}

static void begin_soak(void)
{
    is_soak = true;
    begin();
}

static uint64_t seen_by_readers(void)
{
    uint64_t records =
        atomic_load(&shared->attached.sightings.records) + atomic_load(&shared->copier.records);

    for (unsigned i = 0; i < WITNESSES; i++)
        records += atomic_load(&shared->witness[i].sightings.records);
    return records;
}

static void summarise(void)
{
    summarise_lives();
    printf("  %" PRIu64 " followed before they were gone; %" PRIu64 " backups; %" PRIu64
           " records read beside the writers, %" PRIu64 " by a consumer\n",
           followed, atomic_load(&shared->copier.copies), seen_by_readers(),
           atomic_load(&shared->consumer.records));
}

const struct policy durable_policy = {
    .name = "durable",
    .usual_kills = 200,
    .begin = begin,
    .run_cycle = run_cycle,
    .summarise = summarise,
    .killed = &lives.killed,
};

const struct policy soak_policy = {
    .name = "soak",
    .usual_seconds = 600,
    .begin = begin_soak,
    .run_cycle = run_cycle,
    .end = take_leave,
    .summarise = summarise,
    .killed = &lives.killed,
};
