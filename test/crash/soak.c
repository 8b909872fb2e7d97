/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-soak: everything at once on one log, for as long as one likes. A writer with eight threads appends,
 * trims, truncates and sets cursors in small segments that are recycled, and is killed every second or so;
 * readers follow it, read backwards and read inside it; a slow consumer's cursor holds the trims; backups are
 * made, and used. After each kill the log is opened, compared with the notes of all of them, and verified.
 *
 * crash-kill asks the same questions of many short lives; this one of a log that grows old.
 */
#define _GNU_SOURCE
#include "command_line.h"
#include "kill.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WRITERS 8u
#define LIFE_MS 1500u
#define OPENING_MS 10u

static const char *const witness_names[] = { "the follower with epoll", "the follower that waits",
                                             "the reader that goes back" };
static const enum habit witness_habits[] = { HABIT_FOLLOW_FD, HABIT_FOLLOW, HABIT_BACKWARDS };
enum {
    WITNESSES = sizeof(witness_habits) / sizeof(witness_habits[0]),
};

static struct {
    uint64_t kills, acked, trimmed, cut, trims, cuts, resets, names, rolls, recycled, appends;
} totals;

static struct shared *shared;
static struct book book;
static pid_t witnesses[WITNESSES], consumer, copier;

/* ---- those beside it --------------------------------------------------------------------------- */

static void invite(struct rng *rng)
{
    for (unsigned i = 0; i < WITNESSES; i++) {
        shared->witness[i].habit = witness_habits[i];
        shared->witness[i].rng = (struct rng){ rng_next(rng) };
        witnesses[i] = fork_witness(place.log, shared, &shared->witness[i]);
    }
    shared->consumer.rng = (struct rng){ rng_next(rng) };
    shared->consumer.pause_us = 20000;
    consumer = fork_consumer(place.log, shared);
    shared->copier.rng = (struct rng){ rng_next(rng) };
    shared->copier.rounds = UINT32_MAX;
    shared->copier.pause_ms = 4000;
    snprintf(shared->copier.dir, sizeof(shared->copier.dir), "%s", place.copy);
    copier = fork_copier(place.log, shared);
}

static void check_seen(void)
{
    check_complaints();
    for (unsigned i = 0; i < WITNESSES; i++)
        check_sightings(&book, &shared->world, &shared->witness[i].sightings, witness_names[i]);
    check_sightings(&book, &shared->world, &shared->attached, "the reader inside the writer");
    check_sightings(&book, &shared->world, &shared->copier.sightings, "a backup");
}

static void take_leave(void)
{
    atomic_store(&shared->consumer.must_stop, true);
    atomic_store(&shared->copier.must_stop, true);
    reap_well(consumer, "the consumer");
    reap_well(copier, "the copier");
    for (unsigned i = 0; i < WITNESSES; i++)
        atomic_store(&shared->witness[i].must_stop, true);
    for (unsigned i = 0; i < WITNESSES; i++) {
        reap_well(witnesses[i], witness_names[i]);
        if (shared->witness[i].final_lsn != (book.last >= book.first ? book.last : 0))
            violation("%s stopped at LSN %" PRIu64 ", the log ends at %" PRIu64, witness_names[i],
                      shared->witness[i].final_lsn, book.last);
    }
    check_seen();
}

/* ---- one life ---------------------------------------------------------------------------------- */

static void count_life(const struct life *life)
{
    totals.kills++;
    totals.trims += atomic_load(&life->trims);
    totals.cuts += atomic_load(&life->cuts);
    totals.resets += atomic_load(&life->resets);
    totals.names += atomic_load(&life->names);
    totals.rolls += atomic_load(&life->rolls);
    totals.recycled += atomic_load(&life->recycled);
    for (uint32_t i = 0; i < life->writers; i++)
        totals.appends += atomic_load(&life->notes[i].acked);
}

static void run_life(struct rng *rng)
{
    struct life *life = &shared->incarnations[0];
    const bool is_at_once = rng_one_in(rng, 2);
    struct verdict verdict;
    pid_t pid;

    prepare_life(life, &shared->world, rng_mix(place.seed) ^ place.cycle, WRITERS, false, rng);
    life->change_one_in = 8;
    life->has_reader = true;
    life->most_lsn = UINT64_C(1) << 40;
    life->options.flags |= rng_one_in(rng, 8) ? TWINLOG_PAD : 0;
    pid = fork_writer(place.log, shared, life);
    if (rng_one_in(rng, 8)) {
        await(pid, (int64_t)rng_below(rng, OPENING_MS * 1000000u));
    } else {
        await_open(life, pid);
        await(pid, (int64_t)rng_below(rng, LIFE_MS * UINT64_C(1000000)));
    }
    kill(pid, SIGKILL);
    if (!is_at_once)
        check_death(life, reap(pid, "a killed writer"));
    verdict = judge(place.log, &book, shared, 1, is_at_once, rng);
    if (is_at_once)
        check_death(life, reap(pid, "a killed writer"));
    check_seen();
    count_life(life);
    totals.acked += verdict.acked;
    totals.trimmed += verdict.trimmed;
    totals.cut += verdict.cut;
    place.cycle++;
}

/* ---- saying it --------------------------------------------------------------------------------- */

static uint64_t records_read(void)
{
    uint64_t records = atomic_load(&shared->attached.records) + atomic_load(&shared->consumer.records);

    for (unsigned i = 0; i < WITNESSES; i++)
        records += atomic_load(&shared->witness[i].sightings.records);
    return records + atomic_load(&shared->copier.records);
}

static void say(FILE *to, const char *before, int64_t ns, const char *after)
{
    fprintf(to,
            "%scrash-soak: seed %" PRIu64 ": %.0f s, %" PRIu64 " appends, %" PRIu64 " kills, %" PRIu64
            " rolls, %" PRIu64 " recycled, %" PRIu64 " trims, %" PRIu64 " cuts, %" PRIu64 " resets, %" PRIu64
            " names set, %" PRIu64 " backups, %" PRIu64 " reads%s",
            before, place.seed, (double)ns / 1e9, totals.appends, totals.kills, totals.rolls, totals.recycled,
            totals.trims, totals.cuts, totals.resets, totals.names, atomic_load(&shared->copier.copies),
            records_read(), after);
}

static const char help[] =
    "usage: crash-soak [options]\n"
    "\n"
    "Appends, trims, cuts, recycles, reads, backs up and is killed, over and over, on one log, and\n"
    "checks it after each kill.\n"
    "\n"
    "  --seconds S   stop after this time; default 600\n"
    "  --seed N      default TWINLOG_SEED, or 1\n"
    "  --dir PARENT  where to make a directory; default TMPDIR, or /tmp\n"
    "  --help        this text\n"
    "\n"
    "Exit status: 0 no violation, 1 a violation (its directory is kept), 2 wrong usage.";

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'S' },
        { "dir", required_argument, NULL, 'd' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };

    given.seconds = 600;
    while (next_option(argc, argv, options, help) != -1)
        ;
}

int main(int argc, char **argv)
{
    const int64_t start = now_ns();
    struct rng rng;

    begin_command_line("crash-soak", argc, argv);
    parse(argc, argv);
    rng = (struct rng){ rng_mix(place.seed) };
    shared = map_shared(sizeof(*shared));
    book = (struct book){ .digest = map_shared(WINDOW * sizeof(*book.digest)), .first = 1 };
    world_clear(&shared->world);
    make_place(given.parent);
    invite(&rng);
    do {
        run_life(&rng);
        if (place.has_terminal)
            say(stderr, "\r\033[K", now_ns() - start, "");
    } while (!is_enough(totals.kills, start));
    take_leave();
    erase_progress();
    remove_place();
    say(stdout, "", now_ns() - start, ", 0 violations\n");
    return EXIT_SUCCESS;
}
