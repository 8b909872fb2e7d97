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
#include "policies.h"

#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE_LOG_BYTES (6u << 20)
#define LARGE_LOG_RECORDS (WINDOW / 8)
#define WITNESSES 3u
#define SOAK_THREADS 8u

enum {
    IO_KINDS = TWINLOG_IO_FDATASYNC + 1,
    FINDINGS = TWINLOG_FOUND_SYSTEM_ERROR + 1,
};

static const char *const io_names[IO_KINDS] = { "auto", "uring", "uring-linked", "dsync", "fdatasync" };
static const enum habit soak_habits[WITNESSES] = { HABIT_FOLLOW_FD, HABIT_FOLLOW, HABIT_BACKWARDS };

static struct {
    uint32_t threads;
    int io;     /* enum twinlog_io, -1: all in turn */
    int is_pad; /* -1: in turn */
    int is_buffered;
} settings = { .threads = 8, .io = -1, .is_pad = -1, .is_buffered = -1 };

static struct {
    uint64_t incarnations, killed, killed_opening, at_once, closed, logs;
    uint64_t acked, unacked, cut, trimmed;
    uint64_t trims, cuts, resets, names, rolls, recycled;
    uint64_t lives_by_io[IO_KINDS], findings[FINDINGS];
} totals;

static bool is_soak;
static bool can_use[IO_KINDS][2]; /* path, buffered */
static struct shared *shared;
static struct book book;

/* Those beside the writers: 0 = there is none. In a soak they stay. */
static struct {
    pid_t witness[WITNESSES], consumer, copier;
    bool is_copier_killed;
} company;

/* ---- the log ----------------------------------------------------------------------------------- */

static void remove_log(void)
{
    remove_directory(place.log);
    book = (struct book){ .digest = book.digest, .first = 1 };
    world_clear(&shared->world);
    forget_sightings(&shared->attached);
    forget_sightings(&shared->copier.sightings);
    for (unsigned i = 0; i < WITNESSES; i++)
        forget_sightings(&shared->witness[i].sightings);
    atomic_store(&shared->consumer.least, 0);
    atomic_store(&shared->consumer.most, 0);
}

/* Leaves out what this kernel or file system refuses, by name. */
static void find_paths(void)
{
    unsigned usable = 0;

    for (int io = 0; io < IO_KINDS; io++)
        for (int is_buffered = 0; is_buffered < 2; is_buffered++) {
            struct twinlog_options options = TWINLOG_OPTIONS_INIT;
            struct twinlog *log;
            int result;

            if ((settings.io >= 0 && io != settings.io) ||
                (settings.is_buffered >= 0 && is_buffered != settings.is_buffered))
                continue;
            options.io = (uint32_t)io;
            options.flags = is_buffered ? TWINLOG_BUFFERED : 0;
            result = twinlog_open(place.log, &options, &log);
            if (result == 0)
                result = twinlog_close(log);
            if (result < 0 && result != -ENOTSUP)
                violation("the log cannot be opened and closed with %s: %s", io_names[io],
                          twinlog_strerror(result));
            can_use[io][is_buffered] = result == 0;
            usable += result == 0;
            if (result < 0)
                printf("SKIP crash-kill %s, %s: %s\n", io_names[io], is_buffered ? "buffered" : "direct",
                       twinlog_strerror(result));
        }
    remove_log();
    if (usable == 0) {
        remove_place();
        exit(77);
    }
}

/* ---- one life ---------------------------------------------------------------------------------- */

static void choose_path(struct life *life, struct rng *rng)
{
    unsigned io, is_buffered;

    do {
        io = (unsigned)rng_below(rng, IO_KINDS);
        is_buffered = (unsigned)rng_below(rng, 2);
    } while (!can_use[io][is_buffered]);
    life->options.io = io;
    life->options.flags |= is_buffered ? TWINLOG_BUFFERED : 0;
    if (settings.is_pad > 0 || (settings.is_pad < 0 && rng_one_in(rng, 2)))
        life->options.flags |= TWINLOG_PAD;
    totals.lives_by_io[io]++;
}

static void begin_incarnation(struct life *life, uint64_t number, bool is_at_once, struct rng *rng)
{
    static const uint32_t change_one_in[] = { 0, 2, 3, 8 };
    const uint32_t threads = is_soak ? SOAK_THREADS : 1 + (uint32_t)rng_below(rng, settings.threads);

    prepare_life(life, &shared->world, rng_mix(place.seed) ^ number, threads, is_at_once, rng);
    life->change_one_in = is_soak ? 8 : change_one_in[rng_below(rng, 4)];
    if (is_soak) {
        life->has_reader = true;
        life->most_lsn = UINT64_C(1) << 40;
    }
    choose_path(life, rng);
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
static void end_life(struct life *life, pid_t pid, enum end end, struct rng *rng)
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

static void count_life(const struct life *life, int status)
{
    const bool is_killed = check_death(life, status);

    totals.incarnations++;
    totals.killed += is_killed;
    totals.closed += !is_killed;
    totals.killed_opening += is_killed && !atomic_load(&life->is_open);
    totals.trims += atomic_load(&life->trims);
    totals.cuts += atomic_load(&life->cuts);
    totals.resets += atomic_load(&life->resets);
    totals.names += atomic_load(&life->names);
    totals.rolls += atomic_load(&life->rolls);
    totals.recycled += atomic_load(&life->recycled);
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
        company.witness[i] = fork_witness(place.log, shared, witness);
    }
}

static void invite(struct rng *rng)
{
    invite_witnesses(rng);
    if (is_soak || rng_one_in(rng, 4)) {
        shared->consumer.rng = (struct rng){ rng_next(rng) };
        shared->consumer.pause_us = is_soak ? 20000 : rng_one_in(rng, 2) ? 1000 : 0;
        atomic_store(&shared->consumer.must_stop, false);
        company.consumer = fork_consumer(place.log, shared);
    }
    if (is_soak || rng_one_in(rng, 6)) {
        shared->copier.rng = (struct rng){ rng_next(rng) };
        shared->copier.rounds = is_soak ? UINT32_MAX : 1;
        shared->copier.pause_ms = is_soak ? 4000 : 40;
        snprintf(shared->copier.dir, sizeof(shared->copier.dir), "%s", place.copy);
        company.is_copier_killed = !is_soak && rng_one_in(rng, 3);
        company.copier = fork_copier(place.log, shared);
    }
}

static void end_copier(void)
{
    if (company.copier == 0)
        return;
    if (company.is_copier_killed) {
        kill(company.copier, SIGKILL);
        reap(company.copier, "a copier");
        check_broken_copy(&shared->copier);
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
    if (witness->final_lsn != (book.last >= book.first ? book.last : 0))
        violation("the reader beside the writer stopped at LSN %" PRIu64 ", the log ends at %" PRIu64,
                  witness->final_lsn, book.last);
}

static void check_seen(void)
{
    check_complaints();
    for (unsigned i = 0; i < WITNESSES; i++)
        check_sightings(&book, &shared->world, &shared->witness[i].sightings, "the reader beside the writer");
    check_sightings(&book, &shared->world, &shared->attached, "the reader inside the writer");
    check_sightings(&book, &shared->world, &shared->copier.sightings, "a backup");
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

static void account(const struct verdict *verdict)
{
    totals.acked += verdict->acked;
    totals.unacked += verdict->unacked;
    totals.cut += verdict->cut;
    totals.trimmed += verdict->trimmed;
    totals.findings[verdict->finding]++;
    place.cycle++;
    if (!is_soak && (verdict->file_bytes > LARGE_LOG_BYTES || book.last > LARGE_LOG_RECORDS)) {
        remove_log();
        totals.logs++;
    }
}

/* A writer that is dying, or dead and reaped, is followed by the next one or by the judge. */
static void run_cycle(void)
{
    struct rng rng = { rng_mix(place.seed ^ rng_mix(place.cycle)) };
    const unsigned incarnations = is_soak ? 1 : 1 + (unsigned)rng_below(&rng, MAX_LIVES);
    bool is_at_once = false;
    struct verdict verdict;
    pid_t pid = 0;

    if (!is_soak || place.cycle == 0)
        invite(&rng);
    for (unsigned i = 0; i < incarnations; i++) {
        struct life *life = &shared->incarnations[i];
        const pid_t before = pid;
        const enum end end = choose_end(&rng);

        begin_incarnation(life, place.cycle * MAX_LIVES + i, is_at_once, &rng);
        pid = fork_writer(place.log, shared, life);
        if (is_at_once)
            count_life(&shared->incarnations[i - 1], reap(before, "a killed writer"));
        end_life(life, pid, end, &rng);
        is_at_once = rng_one_in(&rng, 2);
        if (!is_at_once)
            count_life(life, reap(pid, "a killed writer"));
        else
            totals.at_once++;
    }
    if (!is_soak)
        end_copier();
    verdict = judge(place.log, &book, shared, incarnations, is_at_once, &rng);
    if (is_at_once)
        count_life(&shared->incarnations[incarnations - 1], reap(pid, "a killed writer"));
    if (is_soak)
        check_seen();
    else
        take_leave();
    account(&verdict);
}

/* ---- the policies ------------------------------------------------------------------------------ */

static void take(int letter, const char *argument)
{
    if (letter == 't')
        settings.threads = (uint32_t)parse_number(argument, 1, MAX_WRITERS);
    else
        settings.io = name_index(argument, io_names, IO_KINDS);
}

static void begin(void)
{
    shared = map_shared(sizeof(*shared));
    book.digest = map_shared(WINDOW * sizeof(*book.digest));
    find_paths();
}

static void begin_soak(void)
{
    is_soak = true;
    begin();
}

static uint64_t seen_by_readers(void)
{
    uint64_t records = atomic_load(&shared->attached.records) + atomic_load(&shared->copier.records);

    for (unsigned i = 0; i < WITNESSES; i++)
        records += atomic_load(&shared->witness[i].sightings.records);
    return records;
}

static void summarise(void)
{
    printf("  %" PRIu64 " writers: %" PRIu64 " killed, %" PRIu64 " of them while opening, %" PRIu64
           " followed before they were gone; %" PRIu64 " closed\n",
           totals.incarnations, totals.killed, totals.killed_opening, totals.at_once, totals.closed);
    printf("  paths:");
    for (int io = 0; io < IO_KINDS; io++)
        printf(" %s %" PRIu64, io_names[io], totals.lives_by_io[io]);
    printf("\n  records: %" PRIu64 " acknowledged, all there; %" PRIu64 " more trimmed, %" PRIu64
           " cut; %" PRIu64 " not acknowledged, there and whole\n",
           totals.acked, totals.trimmed, totals.cut, totals.unacked);
    printf("  changes: %" PRIu64 " trims, %" PRIu64 " cuts, %" PRIu64 " resets, %" PRIu64
           " cursors and values, %" PRIu64 " rolls, %" PRIu64 " recycled; %" PRIu64 " backups\n",
           totals.trims, totals.cuts, totals.resets, totals.names, totals.rolls, totals.recycled,
           atomic_load(&shared->copier.copies));
    printf("  readers: %" PRIu64 " records read beside the writers, %" PRIu64 " by a consumer\n",
           seen_by_readers(), atomic_load(&shared->consumer.records));
    printf("  found: %" PRIu64 " new, %" PRIu64 " closed, %" PRIu64 " ended between two groups, %" PRIu64
           " torn\n",
           totals.findings[TWINLOG_FOUND_NEW_LOG], totals.findings[TWINLOG_FOUND_CLEAN_CLOSE],
           totals.findings[TWINLOG_FOUND_CLEAN_END], totals.findings[TWINLOG_FOUND_TORN_TAIL]);
}

static const struct option more[] = {
    { "threads", required_argument, NULL, 't' },
    { "io", required_argument, NULL, 'i' },
    { "pad", no_argument, &settings.is_pad, 1 },
    { "dense", no_argument, &settings.is_pad, 0 },
    { "buffered", no_argument, &settings.is_buffered, 1 },
    { "direct", no_argument, &settings.is_buffered, 0 },
    { 0 },
};

const struct policy durable_policy = {
    .name = "durable",
    .lies = LIE_BIT(LIE_ACK) | LIE_BIT(LIE_BYTES) | LIE_BIT(LIE_READER) | LIE_BIT(LIE_CUT) |
            LIE_BIT(LIE_TRIM) | LIE_BIT(LIE_NAME),
    .usual_kills = 200,
    .more = more,
    .take = take,
    .begin = begin,
    .run_cycle = run_cycle,
    .summarise = summarise,
    .killed = &totals.killed,
};

const struct policy soak_policy = {
    .name = "soak",
    .usual_seconds = 600,
    .more = more,
    .take = take,
    .begin = begin_soak,
    .run_cycle = run_cycle,
    .end = take_leave,
    .summarise = summarise,
    .killed = &totals.killed,
};
