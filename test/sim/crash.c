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

static const char *kind_of_workload(void)
{
    if (settings.is_mapped)
        return " --mapped";
    if (settings.is_sink)
        return " --sink";
    return "";
}

static const char *replay_command(void)
{
    static char text[128];
    snprintf(text, sizeof(text), "sim-crash --replay %" PRIu64 "%s%s%s", current_seed, kind_of_workload(),
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
    printf("head %" PRIu64 ", %" PRIu64 " accepted, %" PRIu64 " acknowledged", machine->history.head,
           history_last(&machine->history), machine->acked);
    if (machine->attempt)
        printf(", in a call");
    if (machine->is_full)
        printf(", disk full");
    printf("; point %" PRIu64 ": %s\n", machine->points, simdisk_last(machine->disk));
}

_Noreturn void violation(const char *format, ...)
{
    va_list arguments;
    const bool is_wanted = settings.lie != LIE_NONE;

    printf("%s", is_wanted ? "sim-crash: found, as it should be: " : "sim-crash: VIOLATION: ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");

    print_trail(current);
    printf("  again: %s\n", replay_command());
    fflush(stdout);
    _Exit(is_wanted ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void write_text(const char *text)
{
    const ssize_t ignored = write(STDOUT_FILENO, text, strlen(text));
    (void)ignored;
}

static void report_signal(int number)
{
    if (number == SIGVTALRM)
        write_text("sim-crash: VIOLATION: it comes to no end; again: ");
    else
        write_text("sim-crash: VIOLATION: the process died; again: ");
    write_text(replay_command());
    write_text("\n");

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
    const bool is_of_disk = settings.lie != LIE_NONE && settings.lie <= LIE_RECYCLE;

    if (is_of_disk)
        simdisk_lie(disk, OPS[settings.lie]);
}

/* ---- workloads ----------------------------------------------------------------------------------- */

static struct simdisk *make_disk(struct rng *rng, bool is_of_sink)
{
    struct simdisk_options options = {
        .has_direct = true,
        .is_sealed_final = true,
        .keeps_pages = is_of_sink,
        .keeps_order = is_of_sink,
    };
    options.seed = rng_next(rng);
    options.clock_ns = INT64_C(1700000000000000000) + (int64_t)rng_below(rng, 1000000000);
    options.is_barrier_narrow = rng_one_in(rng, 2);

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
    const bool is_rolling = mood == MOOD_ROLLING;

    const bool has_larger_segments = rng_one_in(rng, 4);
    options.segment_bytes = has_larger_segments ? 131072 : 65536;
    options.buffer_bytes = 16384 + 4096 * (uint32_t)rng_below(rng, 3);
    options.prepare = (uint32_t)rng_below(rng, TWINLOG_PREPARE_ALLOCATED + 1);
    if (rng_one_in(rng, 8))
        options.flags |= TWINLOG_NO_RECYCLE;

    if (is_rolling || rng_one_in(rng, 2))
        options.segment_records = 1 + rng_below(rng, is_rolling ? 8 : 20);
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
    const bool has_thread = !rng_one_in(&machine->rng, 2);
    if (has_thread)
        machine->keeper_pace = 1 + (unsigned)rng_below(&machine->rng, 8);
}

/* In some workloads most records have the same size. */
static void choose_usual_size(struct machine *machine)
{
    struct rng *rng = &machine->rng;
    if (!rng_one_in(rng, 3))
        return;

    const bool may_be_large = rng_one_in(rng, 2);
    machine->history.usual_bytes = 1 + rng_below(rng, may_be_large ? 5000 : 500);
}

/* What the log of a workload is like, and its disk. */
static struct machine choose_machine(uint64_t seed)
{
    struct machine machine = { .rng = { rng_mix(seed) }, .history = history_begin(seed) };
    struct rng *rng = &machine.rng;

    machine.disk = make_disk(rng, false);
    machine.mood = (enum mood)rng_below(rng, MOODS);
    machine.options = choose_options(rng, machine.mood);
    choose_keeper(&machine);
    machine.may_garble = rng_one_in(rng, machine.mood == MOOD_ROLLING ? 6 : 4);

    const bool is_mapped_by_chance = rng_mix(~seed) % 4 == 0;
    if (settings.is_mapped || is_mapped_by_chance)
        choose_mapping(&machine);
    choose_usual_size(&machine);
    return machine;
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
    current_seed = seed;

    struct machine machine = choose_machine(seed);
    expect_no_change(&machine);
    simdisk_set_hook(machine.disk, crash_hook, &machine);

    current = &machine;
    open_log(&machine);
    work(&machine, 2 + rng_below(&machine.rng, 40));
    end_workload(&machine);
    current = NULL;

    ++totals.workloads;
    if (machine.may_map)
        ++totals.mapped_workloads;
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
    const struct totals *t = &totals;

    if (isatty(STDOUT_FILENO))
        printf("\r\033[K");
    printf("sim-crash: no violation in %" PRIu64 " images (%.0f a second), %" PRIu64
           " workloads from seed %" PRIu64 ", %" PRIu64 " crash points\n",
           t->images, (double)t->images / seconds, t->workloads, settings.seed, t->points);

    printf("  cuts:");
    for (int cut = 0; cut < CUTS; ++cut)
        printf(" %s %" PRIu64, simdisk_cut_name((enum simdisk_cut)cut), t->cut[cut]);
    printf("\n  crashes in a row: one %" PRIu64 ", two %" PRIu64 ", three %" PRIu64
           "; writes of killed processes %" PRIu64 "\n",
           t->depth[1], t->depth[2], t->depth[3], t->ghosts);
    printf("  opened as: new %" PRIu64 ", closed %" PRIu64 ", clean end %" PRIu64 ", torn tail %" PRIu64 "\n",
           t->finding[TWINLOG_FOUND_NEW_LOG], t->finding[TWINLOG_FOUND_CLEAN_CLOSE],
           t->finding[TWINLOG_FOUND_CLEAN_END], t->finding[TWINLOG_FOUND_TORN_TAIL]);

    printf("  segments begun %" PRIu64 ", retired %" PRIu64 ", recycled %" PRIu64 "; trims %" PRIu64
           ", cuts %" PRIu64 ", resets %" PRIu64 ", changes of names %" PRIu64
           ", refusals of a full disk %" PRIu64 "\n",
           t->rolls, t->retired, t->recycled, t->trims, t->cuts, t->resets, t->names, t->refusals);
    printf("  records read %" PRIu64 ", beside the writer %" PRIu64
           ", of those readers trimmed under %" PRIu64 ", cut under %" PRIu64 "\n",
           t->records, t->watched, t->trimmed, t->cut_under);
    printf("  batches %" PRIu64 ", requests %" PRIu64 ", skipped LSNs %" PRIu64 "\n", t->batches, t->requests,
           t->fillers);

    printf("  mapped workloads %" PRIu64 ", images of them %" PRIu64 "\n", t->mapped_workloads,
           t->mapped_images);
    printf("  workloads of sinks %" PRIu64 ", images of them %" PRIu64 "\n", t->sink_workloads,
           t->sink_images);
    printf("  backups %" PRIu64 ", crash images of them %" PRIu64 "\n", t->copies, t->copy_images);
    printf("  disks that failed %" PRIu64 ", openings that failed %" PRIu64 "\n", t->failures,
           t->failed_openings);
}

static bool is_finished(double seconds)
{
    if (settings.is_replay)
        return true;
    if (settings.images > 0 && totals.images >= settings.images)
        return true;
    return settings.seconds > 0 && seconds >= (double)settings.seconds;
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

    settings.lie = (enum lie)lie;
    settings.is_replay = replayed < UINT64_MAX;
    if (settings.is_replay)
        settings.seed = replayed;
    if (settings.images == 0 && settings.seconds == 0)
        settings.images = 100000;
}

static void prepare_process(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 25); /* a page fault costs more than most of what happens here */
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
#endif
    signal(SIGABRT, report_signal);
    signal(SIGSEGV, report_signal);
    signal(SIGVTALRM, report_signal);
}

int main(int argc, char **argv)
{
    take_arguments(argc, argv);
    prepare_process();

    const double began = seconds_now();
    double seconds = 0;
    uint64_t seed = settings.seed;
    do {
        if (settings.is_sink)
            run_sink_workload(seed);
        else
            run_workload(seed);
        ++seed;
        seconds = seconds_now() - began;
        print_progress(seconds);
    } while (!is_finished(seconds));

    if (settings.lie) {
        printf("sim-crash: the lie %s was not noticed\n", LIE_NAMES[settings.lie]);
        return EXIT_FAILURE;
    }
    print_summary(seconds);
    return EXIT_SUCCESS;
}
