/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-crash: a log on a simulated disk, crashed after every operation, recovered and judged.
 *
 * A seed makes a workload on a disk with its own habits: records, trims, truncations and resets, cursors and
 * values, closing and opening, a full disk now and then, readers and backups beside. After each operation
 * that changes the disk some crash images are made. Each image is recovered, read and compared with what
 * was accepted and acknowledged at that moment (the rules O1 ... in history.h). Some images go on: their
 * recovery is crashed again at each of its operations, or more is done and crashed again. All of it is the
 * same code, one level down: see struct machine in crash.h.
 *
 * A workload is repeated exactly by its seed, so a violation is reported as one number.
 */
#define _GNU_SOURCE
#include "crash.h"

#include "../arguments.h"

#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct settings settings = { .seed = 1 };
struct totals totals;
const struct machine *current;
static uint64_t current_seed;

/* ---- violations ---------------------------------------------------------------------------------- */

static const char *const LIE_NAMES[] = {
    "",      "sync", "barrier", "sync_dir", "msync", "recycle", "lost",
    "twice", "torn", "swapped", "foreign",  "end",   "durable", "verdict"
};

static const char *replay_command(void)
{
    static char text[128];
    snprintf(text, sizeof(text), "sim-crash --replay %" PRIu64 "%s%s%s", current_seed,
             settings.is_mapped ? " --mapped"
             : settings.is_sink ? " --sink"
                                : "",
             settings.lie ? " --lie " : "", LIE_NAMES[settings.lie]);
    return text;
}

/* From the first crash to the last. */
static void print_trail(const struct machine *machine)
{
    if (!machine)
        return;
    print_trail(machine->parent);
    printf("  %*s", (int)machine->depth * 2, "");
    if (machine->depth > 0)
        printf("image %s %#" PRIx64 ": ", simdisk_cut_name(machine->cut), machine->image_seed);
    printf("head %" PRIu64 ", %" PRIu64 " accepted, %" PRIu64 " acknowledged%s%s; point %" PRIu64 ": %s\n",
           machine->history.head, history_last(&machine->history), machine->acked,
           machine->attempt ? ", in a call" : "", machine->is_full ? ", disk full" : "", machine->points,
           simdisk_last(machine->disk));
}

_Noreturn void violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s", settings.lie ? "sim-crash: found, as it should be: " : "sim-crash: VIOLATION: ");
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    print_trail(current);
    printf("  again: %s\n", replay_command());
    fflush(stdout);
    _Exit(settings.lie ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void report_signal(int number)
{
    const char *text = number == SIGVTALRM ? "sim-crash: VIOLATION: it comes to no end; again: "
                                           : "sim-crash: VIOLATION: the process died; again: ";
    const char *command = replay_command();
    ssize_t ignored = write(STDOUT_FILENO, text, strlen(text));
    ignored = write(STDOUT_FILENO, command, strlen(command));
    ignored = write(STDOUT_FILENO, "\n", 1);
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

/* ---- lies ---------------------------------------------------------------------------------------- */

static void teach_to_lie(struct simdisk *disk)
{
    static const enum simdisk_op OPS[] = { [LIE_SYNC] = SIM_SYNC,
                                           [LIE_BARRIER] = SIM_BARRIER,
                                           [LIE_SYNC_DIR] = SIM_SYNC_DIR,
                                           [LIE_MSYNC] = SIM_STORE,
                                           [LIE_RECYCLE] = SIM_WRITE };
    if (settings.lie != LIE_NONE && settings.lie <= LIE_RECYCLE)
        simdisk_lie(disk, OPS[settings.lie]);
}

/* ---- workloads ----------------------------------------------------------------------------------- */

static struct simdisk *make_disk(struct rng *rng, bool is_of_sink)
{
    const struct simdisk_options options = {
        .seed = rng_next(rng),
        .clock_ns = INT64_C(1700000000000000000) + (int64_t)rng_below(rng, 1000000000),
        .has_direct = true,
        .is_sealed_final = true,
        .is_barrier_narrow = rng_one_in(rng, 2),
        .keeps_pages = is_of_sink,
        .keeps_order = is_of_sink,
    };
    struct simdisk *disk = simdisk_create(&options);
    teach_to_lie(disk);
    return disk;
}

/* One limit, so that it can be told why something was removed. */
static void choose_retention(struct rng *rng, struct twinlog_options *options)
{
    const uint64_t kind = rng_below(rng, 12);
    if (kind == 0)
        options->keep_bytes = 1 + rng_below(rng, 400000);
    if (kind == 1)
        options->keep_records = 1 + rng_below(rng, 60);
    if (kind == 2)
        options->keep_age_ms = 1 + rng_below(rng, 20000);
}

static struct twinlog_options choose_options(struct rng *rng, enum mood mood)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.segment_bytes = rng_one_in(rng, 4) ? 131072 : 65536;
    options.buffer_bytes = 16384 + 4096 * (uint32_t)rng_below(rng, 3);
    options.prepare = (uint32_t)rng_below(rng, TWINLOG_PREPARE_ALLOCATED + 1);
    if (rng_one_in(rng, 8))
        options.flags |= TWINLOG_NO_RECYCLE;
    if (mood == MOOD_ROLLING || rng_one_in(rng, 2))
        options.segment_records = 1 + rng_below(rng, mood == MOOD_ROLLING ? 8 : 20);
    if (rng_one_in(rng, 8))
        options.segment_age_ms = 1 + rng_below(rng, 20000);
    choose_retention(rng, &options);
    if (rng_one_in(rng, 4))
        options.flush_interval_ms = 1 + (uint32_t)rng_below(rng, 5);
    rng_next(rng); /* as before, for the seeds of sim-crash-found */
    return options;
}

static void choose_keeper(struct machine *machine)
{
    if (!rng_one_in(&machine->rng, 2))
        machine->keeper_pace = 1 + (unsigned)rng_below(&machine->rng, 8);
}

/* Most take less than a second. */
static void limit_time(void)
{
    const struct itimerval limit = { .it_value.tv_sec = 120 };
    setitimer(ITIMER_VIRTUAL, &limit, NULL);
}

static void run_workload(uint64_t seed)
{
    limit_time();
    struct machine machine = { .rng = { rng_mix(seed) }, .history = history_begin(seed) };
    struct rng *rng = &machine.rng;
    current_seed = seed;
    machine.disk = make_disk(rng, false);
    machine.mood = (enum mood)rng_below(rng, MOODS);
    machine.options = choose_options(rng, machine.mood);
    choose_keeper(&machine);
    machine.may_garble = rng_one_in(rng, machine.mood == MOOD_ROLLING ? 6 : 4);
    if (settings.is_mapped || rng_mix(~seed) % 4 == 0)
        choose_mapping(&machine);
    if (rng_one_in(rng, 3))
        machine.history.usual_bytes = 1 + rng_below(rng, rng_one_in(rng, 2) ? 5000 : 500);
    expect_no_change(&machine);
    simdisk_set_hook(machine.disk, crash_hook, &machine);

    current = &machine;
    open_log(&machine);
    work(&machine, 2 + rng_below(rng, 40));
    end_workload(&machine);
    current = NULL;
    ++totals.workloads;
    totals.mapped_workloads += machine.may_map;
}

static void run_sink_workload(uint64_t seed)
{
    struct rng rng = { rng_mix(seed) };
    limit_time();
    current_seed = seed;
    run_sinks(seed, make_disk(&rng, true));
}

/* ---- the program --------------------------------------------------------------------------------- */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void print_progress(double seconds)
{
    static double printed;
    if (!isatty(STDOUT_FILENO) || seconds - printed < 0.25)
        return;
    printed = seconds;
    printf("\r%" PRIu64 " workloads, %" PRIu64 " images, %.0f a second ", totals.workloads, totals.images,
           (double)totals.images / seconds);
    fflush(stdout);
}

static void print_summary(double seconds)
{
    if (isatty(STDOUT_FILENO))
        printf("\r\033[K");
    printf("sim-crash: no violation in %" PRIu64 " images (%.0f a second), %" PRIu64
           " workloads from seed %" PRIu64 ", %" PRIu64 " crash points\n",
           totals.images, (double)totals.images / seconds, totals.workloads, settings.seed, totals.points);
    printf("  cuts:");
    for (int cut = 0; cut < CUTS; ++cut)
        printf(" %s %" PRIu64, simdisk_cut_name((enum simdisk_cut)cut), totals.cut[cut]);
    printf("\n  crashes in a row: one %" PRIu64 ", two %" PRIu64 ", three %" PRIu64
           "; writes of killed processes %" PRIu64 "\n",
           totals.depth[1], totals.depth[2], totals.depth[3], totals.ghosts);
    printf("  opened as: new %" PRIu64 ", closed %" PRIu64 ", clean end %" PRIu64 ", torn tail %" PRIu64 "\n",
           totals.finding[TWINLOG_FOUND_NEW_LOG], totals.finding[TWINLOG_FOUND_CLEAN_CLOSE],
           totals.finding[TWINLOG_FOUND_CLEAN_END], totals.finding[TWINLOG_FOUND_TORN_TAIL]);
    printf("  segments begun %" PRIu64 ", retired %" PRIu64 ", recycled %" PRIu64 "; trims %" PRIu64
           ", cuts %" PRIu64 ", resets %" PRIu64 ", changes of names %" PRIu64
           ", refusals of a full disk %" PRIu64 "\n",
           totals.rolls, totals.retired, totals.recycled, totals.trims, totals.cuts, totals.resets,
           totals.names, totals.refusals);
    printf("  records read %" PRIu64 ", beside the writer %" PRIu64
           ", of those readers trimmed under %" PRIu64 ", cut under %" PRIu64 "\n",
           totals.records, totals.watched, totals.trimmed, totals.cut_under);
    printf("  batches %" PRIu64 ", requests %" PRIu64 ", skipped LSNs %" PRIu64 "\n", totals.batches,
           totals.requests, totals.fillers);
    printf("  mapped workloads %" PRIu64 ", images of them %" PRIu64 "\n", totals.mapped_workloads,
           totals.mapped_images);
    printf("  workloads of sinks %" PRIu64 ", images of them %" PRIu64 "\n", totals.sink_workloads,
           totals.sink_images);
    printf("  backups %" PRIu64 ", crash images of them %" PRIu64 "\n", totals.copies, totals.copy_images);
    printf("  disks that failed %" PRIu64 ", openings that failed %" PRIu64 "\n", totals.failures,
           totals.failed_openings);
}

static bool is_finished(double seconds)
{
    return settings.is_replay || (settings.images > 0 && totals.images >= settings.images) ||
           (settings.seconds > 0 && seconds >= (double)settings.seconds);
}

static void print_help(void)
{
    printf(
        "sim-crash: a log on a simulated disk, crashed after every operation\n"
        "  --seed N      seed of the first workload (1)\n"
        "  --images N    stop after that many crash images (100000, unless --seconds is given)\n"
        "  --seconds N   stop after that time\n"
        "  --replay SEED one workload only\n"
        "  --mapped      logs that are written through a mapping only, not one in four\n"
        "  --sink        plain files of several processes, not logs\n"
        "  --verbose     print each operation that changes a disk, and each image\n"
        "  --lie OP      sync, barrier, sync_dir or msync answers 0 and does nothing, or, with recycle, the sync of a\n"
        "                header that was written over an old one does: a test of this test, which then\n"
        "                succeeds if it finds a violation. Or a reader tells of a record that is lost, twice, torn,\n"
        "                swapped or foreign, or ends too early (end); a watermark is too large (durable); or verify\n"
        "                finds damage (verdict)\n");
}

static void take_arguments(int argc, char **argv)
{
    unsigned lie = LIE_NONE;
    uint64_t replayed = UINT64_MAX;
    const struct argument arguments[] = {
        { "seed", .number = &settings.seed },
        { "images", .number = &settings.images },
        { "seconds", .number = &settings.seconds },
        { "replay", .number = &replayed },
        { "verbose", .is_given = &settings.is_verbose },
        { "lie", .word = &lie, .words = LIE_NAMES, .count = LIE_VERDICT + 1 },
        { "mapped", .is_given = &settings.is_mapped },
        { "sink", .is_given = &settings.is_sink },
        { 0 },
    };
    parse_arguments(arguments, NULL, print_help, argc, argv);
    settings.is_replay = replayed < UINT64_MAX;
    if (settings.is_replay)
        settings.seed = replayed;
    settings.lie = (enum lie)lie;
    if (settings.images == 0 && settings.seconds == 0)
        settings.images = 100000;
}

int main(int argc, char **argv)
{
    take_arguments(argc, argv);
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 25); /* a page fault costs more than most of what happens here */
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
#endif
    signal(SIGABRT, report_signal);
    signal(SIGSEGV, report_signal);
    signal(SIGVTALRM, report_signal);
    const double began = seconds_now();
    double seconds = 0;
    for (uint64_t seed = settings.seed; seed == settings.seed || !is_finished(seconds); ++seed) {
        if (settings.is_sink)
            run_sink_workload(seed);
        else
            run_workload(seed);
        seconds = seconds_now() - began;
        print_progress(seconds);
    }
    if (settings.lie) {
        printf("sim-crash: the lie %s was not noticed\n", LIE_NAMES[settings.lie]);
        return EXIT_FAILURE;
    }
    print_summary(seconds);
    return EXIT_SUCCESS;
}
