/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash-mapped: a process writes a log in the mapped mode, is killed, at random moments and at named places in the
 * library, stopped for a while, and followed by readers in other processes; then the log is read without being
 * opened, verified, and opened again, in either mode (mapped_judge.c has the rules). With --power, each log of a dead
 * writer is also looked at as a power cut may have left it (image.c).
 *
 * A cycle is a log, from its beginning to its last death. The seed decides everything but the moments of death, which the
 * scheduler has a say in.
 *
 * Blind, but for --power, to what a power cut does: what a killed process has stored in a mapping stays.
 */
#define _GNU_SOURCE
#include "mapped.h"
#include "kill_program.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEATHS_MAX 16u /* in a cycle */
#define LARGE_LOG_RECORDS 50000u
#define FATE_NS 40000000 /* a writer that has not met its fate after so long is asked to close the log */

struct stage *stage;

static const char *const fib_names[FIBS] = { "none",    "lost", "garbled", "twice",
                                             "swapped", "seen", "torn",    "durable" };

static bool has_power;

static struct ledger book;
static pid_t followers[FOLLOWERS];

static struct {
    uint64_t incarnations, mapped, killed, killed_opening, stopped, closed;
    uint64_t records, fillers, found, seen, copies;
    uint64_t images, lost_sectors, kept, killed_on_images;
} totals;

/* ---- followers ----------------------------------------------------------------------------------- */

/* What the dead writer has told, they have to see, in the mapped mode all up to the first claim; the rest when somebody
 * has opened the log again. */
static void await_followers(const struct writer_life *life)
{
    const bool is_mapped = life->options.mode == TWINLOG_MODE_MAPPED && atomic_load(&life->is_open);
    const uint64_t least = is_mapped ? book.in_sight : atomic_load(&life->durable);
    const int64_t end = now_ns() + PATIENCE_MS / 4 * INT64_C(1000000);

    for (unsigned i = 0; i < FOLLOWERS; i++)
        while (atomic_load(&stage->followers[i].last_lsn) < least) {
            check_complaints();
            if (now_ns() > end)
                violation("a follower%s stands at LSN %" PRIu64 ", but record %" PRIu64
                          " of a dead writer, %s, is in sight",
                          i % 2 ? " that maps" : "", atomic_load(&stage->followers[i].last_lsn), least,
                          is_mapped ? "mapped" : "durable");
            pause_a_moment();
        }
}

/* ---- one life ------------------------------------------------------------------------------------ */

static void choose_log_options(struct twinlog_options *options, bool is_mapped, struct rng *rng)
{
    static const uint32_t record_bytes[] = { 900, 5000, 30000, PAYLOAD_MAX_BYTES };
    const uint64_t block = 4096;

    *options = (struct twinlog_options)TWINLOG_OPTIONS_INIT;
    options->mode = is_mapped ? TWINLOG_MODE_MAPPED : TWINLOG_MODE_DURABLE;
    options->max_record_bytes = record_bytes[rng_below(rng, 4)];
    options->buffer_bytes = (uint32_t)((options->max_record_bytes + 3 * block - 1) / block * block);
    options->buffer_bytes = options->buffer_bytes < 4 * block ? (uint32_t)(4 * block) : options->buffer_bytes;
    options->mapped_bytes = options->buffer_bytes + 5 * block + block * rng_below(rng, 24);
    options->mapped_bytes = options->mapped_bytes < 16 * block ? 16 * block : options->mapped_bytes;
    options->segment_bytes = options->mapped_bytes << rng_below(rng, 3);
    options->flush_interval_ms = rng_one_in(rng, 4) ? 1 + (uint32_t)rng_below(rng, 20) : 0;
    options->spare_segments = rng_one_in(rng, 2) ? (uint32_t)rng_below(rng, 3) : 0;
    options->prepare = TWINLOG_PREPARE_ALLOCATED;
    options->lock_wait_ms = PATIENCE_MS / 2;
    /* what a dead writer has given to io_uring may still be on its way: crash-kill looks after that */
    options->io = rng_one_in(rng, 2) ? TWINLOG_IO_DSYNC : TWINLOG_IO_FDATASYNC;
    options->flags = rng_one_in(rng, 2) ? TWINLOG_BUFFERED : 0;
}

/* Of some that were passed already, the one that had least of it. Where a writer comes by often it may do so for a while,
 * but not for long. */
static void choose_fate(struct writer_life *life, struct rng *rng)
{
    const struct point *point = choose_point(stage->points, rng), *other;

    life->fate.point = NULL;
    if (!point || rng_one_in(rng, 4))
        return;
    for (unsigned i = book.has_claims ? 32 : 1; i > 0; i--) {
        other = choose_point(stage->points, rng);
        if (atomic_load(&other->died) < atomic_load(&point->died))
            point = other;
    }
    life->fate.point = atomic_load(&point->name);
    life->fate.is_stop = rng_one_in(rng, 5);
    atomic_store(
        &life->fate.passes,
        1 + (int32_t)rng_below(rng, atomic_load(&point->passed) / (2 * totals.incarnations + 1) + 1));
}

static void choose_life(struct writer_life *life, struct rng *rng)
{
    static const uint32_t one_in[] = { 3, 30, 200, 0 };
    const bool is_mapped = !rng_one_in(rng, 5);

    choose_log_options(&life->options, is_mapped, rng);
    choose_fate(life, rng);
    life->name = rng_next(rng);
    life->rng = (struct rng){ rng_next(rng) };
    life->hands = 1 + (uint32_t)rng_below(rng, HANDS_MAX);
    life->sync_one_in = one_in[rng_below(rng, 4)];
    life->pause_one_in = one_in[rng_below(rng, 4)];
    life->has_reader = rng_one_in(rng, 4);
    atomic_store(&life->is_open, false);
    atomic_store(&life->is_closed, false);
    atomic_store(&life->must_stop, false);
    atomic_store(&life->fate.is_stopping, false);
    atomic_store(&life->opened_last, 0);
    for (uint32_t i = 0; i < HANDS_MAX; i++) {
        atomic_store(&life->hand[i].begun, 0);
        atomic_store(&life->hand[i].returned, 0);
    }
    totals.incarnations++;
    totals.mapped += is_mapped;
}

/* One that was fated to stop, or is told to. */
static void stop_for_a_while(struct writer_life *life, pid_t pid, struct rng *rng)
{
    make_stop(pid, &life->fate);
    if (!await_stop(pid))
        return;
    totals.stopped++;
    await(pid, (int64_t)rng_below(rng, 20000000));
    if (rng_one_in(rng, 3)) {
        kill(pid, SIGKILL);
        return;
    }
    life->fate.is_stop = false;
    let_go_on(pid, &life->fate);
}

/* True when it is gone. A stop may come at any time. */
static bool pass_time(struct writer_life *life, pid_t pid, int64_t ns, struct rng *rng)
{
    const int64_t end = now_ns() + ns;

    do {
        if (await(pid, 1000000))
            return true;
        check_complaints();
        if (atomic_load(&life->fate.is_stopping))
            stop_for_a_while(life, pid, rng);
    } while (now_ns() < end);
    return false;
}

static void end_life(struct writer_life *life, pid_t pid, struct rng *rng)
{
    /* a lie is told some records on: on a slow machine later and later, until one is told */
    const int64_t slowness = stage->fib ? 1 + (int64_t)place.cycle / 10 : 1;
    const int64_t moment = slowness * (int64_t)rng_below(rng, rng_one_in(rng, 4) ? 80000000 : 15000000);
    const uint64_t chance = life->fate.point ? 4 + rng_below(rng, 4) : rng_below(rng, 8);

    if (!rng_one_in(rng, 8))
        while (!atomic_load(&life->is_open) && !pass_time(life, pid, 1, rng))
            ;
    if (pass_time(life, pid, life->fate.point ? FATE_NS : moment, rng))
        return;
    if (chance == 0) {
        stop_for_a_while(life, pid, rng);
        if (pass_time(life, pid, moment, rng))
            return;
    }
    if (chance >= 6) { /* it closes the log, and may meet its fate on the way */
        atomic_store(&life->must_stop, true);
        if (rng_one_in(rng, 4) ? pass_time(life, pid, (int64_t)rng_below(rng, 10000000), rng)
                               : pass_time(life, pid, PATIENCE_MS * INT64_C(1000000), rng))
            return;
    }
    kill(pid, SIGKILL);
}

static void live(struct writer_life *life, struct rng *rng)
{
    int status;

    choose_life(life, rng);
    const pid_t pid = fork_child(stage->complaints, run_writer, life);

    end_life(life, pid, rng);
    status = reap(pid, "a writer");
    if (WIFEXITED(status) && !atomic_load(&life->is_closed))
        violation("a writer ended with status %#x before it had closed the log", (unsigned)status);
    totals.killed += WIFSIGNALED(status);
    totals.killed_opening += WIFSIGNALED(status) && !atomic_load(&life->is_open);
    totals.closed += WIFEXITED(status);
}

/* ---- power --------------------------------------------------------------------------------------- */

static void choose_fate_of_opening(struct writer_life *life, struct rng *rng)
{
    static const char *const names[] = { "end-cleaned",          "settled-synced", "settled-closed",
                                         "settled-close-synced", "later-removed",  "start-marked",
                                         "last-group-open" };
    const struct point *point =
        find_point(stage->points, names[rng_below(rng, sizeof(names) / sizeof(names[0]))]);

    life->fate.point = point ? atomic_load(&point->name) : NULL;
    life->fate.is_stop = false;
    atomic_store(&life->fate.passes, 1 + (int32_t)rng_below(rng, 2));
}

/* Somebody opens it, and dies on the way, or does not. */
static void open_image(const struct writer_life *life, struct rng *rng)
{
    struct writer_life *next = &stage->life;
    const struct writer_life kept = *life;
    int status;

    choose_log_options(&next->options, !rng_one_in(rng, 4), rng);
    choose_fate_of_opening(next, rng);
    status = reap(fork_child(stage->complaints, run_opening, place.copy), "the opening of an image");
    totals.killed_on_images += WIFSIGNALED(status);
    *next = kept;
}

static void cut_power(const struct writer_life *life, struct rng *rng)
{
    totals.lost_sectors += make_image(place.log, place.copy, atomic_load(&life->synced), rng);
    for (uint64_t openings = rng_below(rng, 3); openings > 0; openings--)
        open_image(life, rng);
    totals.kept += judge_image(place.copy, &book, life, rng);
    totals.images++;
}

/* ---- one cycle ----------------------------------------------------------------------------------- */

static void begin_log(void)
{
    remove_directory(place.log);
    memset(book.digest, 0, WINDOW * sizeof(book.digest[0]));
    book = (struct ledger){ .digest = book.digest };
    forget_seen(&stage->seen);
    atomic_store(&stage->life.durable, 0);
    atomic_store(&stage->life.synced, 0);
    for (unsigned i = 0; i < FOLLOWERS; i++) {
        totals.seen += atomic_load(&stage->followers[i].records); /* in the log before */
        followers[i] = start_follower(&stage->followers[i], &stage->seen, i % 2 ? TWINLOG_READER_MMAP : 0,
                                      stage->complaints);
    }
}

static void run_cycle(void)
{
    struct rng rng = { rng_mix(place.seed ^ rng_mix(place.cycle)) };
    const uint64_t deaths = 1 + rng_below(&rng, DEATHS_MAX);
    struct writer_life *life = &stage->life;

    begin_log();
    for (uint64_t i = 0; i < deaths && book.last < LARGE_LOG_RECORDS; i++) {
        live(life, &rng);
        if (stage->fib == FIB_TORN && atomic_load(&life->is_open) && !atomic_load(&stage->has_fibbed))
            atomic_store(&stage->has_fibbed, tear_record(place.log));
        judge_death(&book, life);
        if (rng_one_in(&rng, 4))
            await_followers(life);
        if (rng_one_in(&rng, 8) && judge_copy(place.copy, &book, life) > 0)
            totals.copies++;
        for (uint64_t cuts = rng_below(&rng, 4); has_power && atomic_load(&life->is_open) && cuts > 0; cuts--)
            cut_power(life, &rng);
    }
    for (unsigned i = 0; i < FOLLOWERS; i++)
        end_follower(&followers[i]);
    totals.records += book.records;
    totals.fillers += book.fillers;
    totals.found += book.found;
    atomic_store(&stage->has_fibbed, false); /* a death in the middle of a lie hides it: lie again */
    place.cycle++;
}

/* ---- command line -------------------------------------------------------------------------------- */

static const char help[] =
    "usage: crash-mapped [options]\n"
    "\n"
    "Kills and stops a process that writes a mapped log, and checks it, over and over.\n"
    "\n"
    "  --kills N     stop after so many; default 300, or no limit with --seconds\n"
    "  --seconds S   stop after this time\n"
    "  --seed N      default TWINLOG_SEED, or 1\n"
    "  --cycle N     begin with this cycle\n"
    "  --dir PARENT  where to make a directory; default TMPDIR, or /tmp\n"
    "  --power       also look at copies of the log as power cuts may have left it\n"
    "  --lie NAME    do one thing wrong on purpose: lost, garbled, twice, swapped, seen, torn or durable;\n"
    "                ends with 0 if it is found\n"
    "  --verbose     say how often each named place was passed, and met death\n"
    "  --help        this text\n"
    "\n"
    "Exit status: 0 no violation, 1 a violation (its directory is kept), 2 wrong usage, 77 cannot run.";

static const struct option more[] = {
    { "cycle", required_argument, NULL, 'C' },
    { "power", no_argument, NULL, 'P' },
    { 0 },
};

static void take(int letter, const char *argument)
{
    if (letter == 'P')
        has_power = true;
    else
        place.cycle = parse_number(argument, 0, UINT64_MAX);
}

static void begin(void)
{
    stage->fib = (enum fib)settings.fib;
    atomic_store(&stage->seen.shall_lie, stage->fib == FIB_SEEN);
}

static uint64_t count_at_points(void)
{
    return count_died(stage->points) - totals.killed_on_images;
}

static void summarise(uint64_t cycles, int64_t took_ns)
{
    printf("crash-mapped: seed %" PRIu64 ": %" PRIu64 " cycles in %.1f s, no violation\n", place.seed, cycles,
           (double)took_ns / 1e9);
    printf("  %" PRIu64 " lives, %" PRIu64 " of them mapped: %" PRIu64 " killed, %" PRIu64
           " of them at named places, %" PRIu64 " while they opened the log; %" PRIu64 " closed; %" PRIu64
           " stopped for a while\n",
           totals.incarnations, totals.mapped, totals.killed, count_at_points(), totals.killed_opening,
           totals.closed, totals.stopped);
    printf("  %" PRIu64 " records, %" PRIu64 " of them never acknowledged; %" PRIu64
           " voids; followers saw %" PRIu64 "; %" PRIu64 " copies\n",
           totals.records, totals.found, totals.fillers, totals.seen, totals.copies);
    if (has_power)
        printf("  %" PRIu64 " power cuts: %" PRIu64 " sectors lost, %" PRIu64 " records left; %" PRIu64
               " killed while they opened what was left\n",
               totals.images, totals.lost_sectors, totals.kept, totals.killed_on_images);
    if (settings.is_verbose)
        list_points(stage->points);
}

int main(int argc, char **argv)
{
    const struct program program = { .name = "crash-mapped",
                                     .help = help,
                                     .fibs = fib_names,
                                     .fib_count = FIBS,
                                     .usual_kills = 300,
                                     .more = more,
                                     .take = take,
                                     .begin = begin,
                                     .run_cycle = run_cycle,
                                     .summarise = summarise,
                                     .killed = &totals.killed };

    stage = map_shared(sizeof(*stage));
    stage->complaints = map_shared(sizeof(*stage->complaints));
    watch_points(stage->points);
    book.digest = map_shared(WINDOW * sizeof(book.digest[0]));
    return run_program(&program, argc, argv);
}
