/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-faults: every operation of a small workload fails once, in every way, and from then on for ever.
 *
 * A script of calls is run on a healthy simulated disk to count its operations. Then it is run again for
 * each of them, with that one failing. The script goes on after a failure, as an application that does not
 * look would, and so this is checked:
 *
 *  - a call succeeds or returns the error that was injected, never another one, never "damaged";
 *  - a record that was accepted and could not be made durable poisons the log: no later one is
 *    acknowledged, although the disk may be healthy again, and after a barrier failed nothing more is
 *    submitted (I5). A record that was refused changes nothing;
 *  - a trim, a truncation, a change of a name that failed has happened or not, and the log goes on as one of
 *    both;
 *  - readers, inspect, verify and the list of segments tell the truth or return the error;
 *  - a backup that failed left nothing that is taken for a log;
 *  - crash images taken after the fault, opened on a healthy disk, hold what was acknowledged, and can be
 *    appended to (the rules in history.h);
 *  - the same without a crash: the disk is healthy again and the log is opened in its place.
 *
 * With --steps nothing fails: the run crashes at each operation, in four ways, and again in the opening that follows.
 */
#define _GNU_SOURCE
#include "faults.h"

#include "../arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct scenario SCENARIOS[] = {
    { "new log, linked sync", .script = script_of_appends },
    { "new log, padded, write with its own sync", .script = script_of_appends, .is_padded = true,
      .is_barrier_narrow = true },
    { "torn log, write with its own sync", .script = script_of_appends, .is_torn = true,
      .is_barrier_narrow = true },
    { "killed log, padded, linked sync", .script = script_of_appends, .is_killed = true, .is_padded = true },
    { "new log, buffered, linked sync", .script = script_of_appends, .is_buffered = true },
    { "killed log, buffered, write with its own sync", .script = script_of_appends, .is_killed = true,
      .is_buffered = true, .is_barrier_narrow = true },
    { "trims and cuts, write with its own sync", .script = script_of_removals, .is_barrier_narrow = true,
      .segment_records = 3 },
    { "trims and cuts, padded, linked sync", .script = script_of_removals, .is_padded = true,
      .segment_records = 3 },
    { "cursors and values", .script = script_of_names },
    { "backups", .script = script_of_copies, .segment_records = 3 },
    { "backups to a disk that fails", .script = script_of_copies, .is_target = true, .segment_records = 3 },
    { "every way to append, write with its own sync", .script = script_of_requests, .is_barrier_narrow = true,
      .segment_records = 12 },
    { "every way to append, padded, linked sync", .script = script_of_requests, .is_padded = true,
      .segment_records = 12 },
    { "every way to append, buffered, write with its own sync", .script = script_of_requests,
      .is_buffered = true, .is_barrier_narrow = true },
};
enum {
    SCENARIO_COUNT = sizeof(SCENARIOS) / sizeof(SCENARIOS[0])
};

static const int ERRORS[] = { -EIO, -ENOSPC, -EAGAIN, -EINTR, -EDQUOT, -EROFS, -ECANCELED };
enum {
    ALL_ERRORS = sizeof(ERRORS) / sizeof(ERRORS[0]),
    FEW_ERRORS = 3,
};
static const size_t SHORT_BY[] = { 512, 4096 };

static struct {
    uint64_t seed;
    uint64_t every;    /* only each N-th case */
    uint64_t scenario; /* from 1; 0: all */
    uint64_t replay;   /* a case of it; 0: all */
    bool crashes;      /* at each operation, of which none fails */
} settings = { .seed = 1, .every = 1 };

static struct {
    uint64_t cases, struck;
} totals;
uint64_t refused_opens, recovered_disks, completed_requests;

const struct run *current;
static uint64_t current_case; /* of the scenario, from 1 */

struct simdisk *failing_disk(const struct run *run)
{
    return run->target ? run->target : run->disk;
}

static const char *replay_command(void)
{
    static char text[128];
    if (settings.crashes)
        snprintf(text, sizeof(text), "sim-faults --steps --scenario %zu",
                 (size_t)(current->scenario - SCENARIOS) + 1);
    else
        snprintf(text, sizeof(text), "sim-faults --seed %" PRIu64 " --scenario %zu --replay %" PRIu64,
                 settings.seed, (size_t)(current->scenario - SCENARIOS) + 1, current_case);
    return text;
}

static void print_case(void)
{
    const struct simdisk_fault *fault = &current->fault;
    printf("  %s: ", current->scenario->name);
    if (!settings.crashes)
        printf("%s number %" PRIu64 " ", simdisk_op_name(fault->op), fault->nth);
    if (settings.crashes)
        printf("a crash");
    else if (fault->error < 0)
        printf("fails with %s", twinlog_strerror(fault->error));
    else
        printf("is %zu bytes short", fault->missing);
    printf("%s\n  %s%s: %" PRIu64 " accepted, %" PRIu64 " acknowledged; last operation: %s\n",
           fault->is_forever ? ", and all later ones" : "", current->stage,
           current->is_cut_again ? ", then a power cut" : "", history_last(&current->history), current->acked,
           simdisk_last(failing_disk(current)));
    printf("  again: %s\n", replay_command());
}

_Noreturn void violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("sim-faults: VIOLATION: ");
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    print_case();
    fflush(stdout);
    _Exit(EXIT_FAILURE);
}

static void report_signal(int number)
{
    static char text[256];
    const int length = snprintf(text, sizeof(text), "sim-faults: VIOLATION: the process died; again: %s\n",
                                replay_command());
    const ssize_t ignored = write(STDOUT_FILENO, text, (size_t)length);
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

/* ---- crashes ------------------------------------------------------------------------------------- */

static enum simdisk_cut choose_cut(struct run *run)
{
    static const enum simdisk_cut CUTS[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_CUT_RANDOM,
                                             SIM_KILL };
    return CUTS[rng_below(&run->rng, sizeof(CUTS) / sizeof(CUTS[0]))];
}

static void check_image(struct run *run, enum simdisk_cut cut)
{
    struct simdisk *image = simdisk_crash_image(failing_disk(run), cut, rng_next(&run->rng));
    if (run->target)
        check_copy(run, image, false);
    else
        check_recovery(run, image, cut == SIM_KILL ? "opened after a kill" : "opened after a power cut");
    simdisk_destroy(image);
}

/* What is written survives a kill. */
static void crash_in_each_way(struct run *run)
{
    static const enum simdisk_cut CUTS[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_KILL };
    struct run now;
    if (run->log)
        history_notice(&run->history, twinlog_last_lsn(run->log));
    now = *run;
    ++totals.cases;
    for (size_t i = 0; i < sizeof(CUTS) / sizeof(CUTS[0]); ++i) {
        if (CUTS[i] == SIM_KILL && run->log)
            now.acked = max_u64(now.acked, twinlog_written_lsn(run->log));
        check_image(&now, CUTS[i]);
    }
    run->rng = now.rng;
}

static void fault_hook(void *context, enum simdisk_op op)
{
    struct run *run = context;
    struct simdisk *disk = failing_disk(run);
    if (settings.crashes)
        crash_in_each_way(run);
    if (simdisk_faults(disk) == 0)
        return;
    if (run->log)
        history_notice(&run->history, twinlog_last_lsn(run->log));
    const bool has_failed =
        simdisk_faults(disk) > run->faults && run->fault.error != -ECANCELED; /* never ran */
    run->faults = simdisk_faults(disk);
    if (op == SIM_BARRIER && has_failed && !run->has_barrier_failed) {
        run->has_barrier_failed = true;
        run->submits = simdisk_count(disk, SIM_SUBMIT);
    }
    if (rng_one_in(&run->rng, 16))
        check_image(run, choose_cut(run));
}

/* ---- all the cases ------------------------------------------------------------------------------- */

static struct simdisk *start_disk(const struct scenario *scenario)
{
    const struct simdisk_options options = {
        .seed = settings.seed,
        .clock_ns = INT64_C(1700000000000000000),
        .has_direct = true,
        .is_sealed_final = true,
        .is_barrier_narrow = scenario->is_barrier_narrow,
    };
    return simdisk_create(&options);
}

static struct run start_run(const struct scenario *scenario, struct simdisk *disk)
{
    struct run run = {
        .scenario = scenario,
        .stage = "in the script",
        .disk = disk,
        .rng = { rng_mix(settings.seed) },
        .options = TWINLOG_OPTIONS_INIT,
        .history = history_begin(settings.seed),
    };
    begin_run(&run);
    run.options.segment_bytes = 65536;
    run.options.buffer_bytes = 16384;
    run.options.flags = (scenario->is_padded ? (uint32_t)TWINLOG_PAD : 0) |
                        (scenario->is_buffered ? (uint32_t)TWINLOG_BUFFERED : 0);
    run.options.segment_records = scenario->segment_records;
    return run;
}

/* How a log was left in the middle of use_log(), and what is known of it. */
struct beginning {
    const struct run *run; /* lived through it */
    uint64_t groups;       /* until then */
    struct simdisk *image;
    uint64_t acked;
};

static void end_hook(void *context, enum simdisk_op op)
{
    struct beginning *beginning = context;
    if (op != SIM_GROUP_WRITE || --beginning->groups > 0)
        return;
    /* torn: of the group's sectors only the first is there */
    const enum simdisk_cut cut = beginning->run->scenario->is_killed ? SIM_KILL : SIM_CUT_MASK;
    beginning->image = simdisk_crash_image(beginning->run->disk, cut, 1);
    beginning->acked = beginning->run->acked;
}

static struct beginning begin_with_crash(struct run *run)
{
    struct beginning beginning = { .run = run, .groups = 9 };
    simdisk_set_hook(run->disk, end_hook, &beginning);
    open_log(run);
    use_log(run);
    close_log(run);
    simdisk_set_hook(run->disk, NULL, NULL);
    return beginning;
}

/* Everything that comes after the script: no crash, the disk just works again. */
static void check_reopening(struct run *run)
{
    simdisk_inject(failing_disk(run), NULL);
    simdisk_set_hook(failing_disk(run), NULL, NULL);
    struct simdisk *same = simdisk_crash_image(run->disk, SIM_KILL, 0);
    check_recovery(run, same, "opened when the disk was healthy again");
    simdisk_destroy(same);
}

static void inherit(struct run *run, const struct beginning *beginning)
{
    run->history = history_inherit(&beginning->run->history, ~settings.seed);
    run->acked = beginning->acked;
    run->exists = true;
}

/* One run of the script from a disk and a history to begin with; returns the disk for its counters. */
static struct simdisk *run_case(const struct scenario *scenario, const struct beginning *beginning,
                                const struct simdisk_fault *fault)
{
    struct run run = start_run(scenario, NULL);
    run.disk = beginning ? simdisk_crash_image(beginning->image, SIM_KILL, 0) : start_disk(scenario);
    run.target = scenario->is_target ? start_disk(scenario) : NULL;
    if (beginning)
        inherit(&run, beginning);
    if (fault)
        run.fault = *fault;
    current = &run;
    simdisk_set_hook(failing_disk(&run), fault_hook, &run);
    simdisk_inject(failing_disk(&run), fault);
    scenario->script(&run);
    totals.struck += simdisk_faults(failing_disk(&run)) > 0;
    for (unsigned i = 0; i < 4; ++i)
        check_image(&run, choose_cut(&run));
    check_reopening(&run);
    history_free(&run.history);
    current = NULL;
    if (!run.target)
        return run.disk;
    simdisk_destroy(run.disk);
    return run.target;
}

static void run_numbered_case(const struct scenario *scenario, const struct beginning *beginning,
                              const struct simdisk_fault *fault)
{
    ++current_case;
    if (settings.replay != 0 ? settings.replay != current_case : current_case % settings.every != 0)
        return;
    ++totals.cases;
    simdisk_destroy(run_case(scenario, beginning, fault));
}

/* That one, in every way. */
static void fail_operation(const struct scenario *scenario, const struct beginning *beginning,
                           enum simdisk_op op, uint64_t nth, bool is_forever)
{
    struct simdisk_fault fault = { .op = op, .nth = nth, .is_forever = is_forever };
    const unsigned errors = scenario->script == script_of_appends ? ALL_ERRORS : FEW_ERRORS;
    for (unsigned i = 0; i < errors; ++i) {
        fault.error = ERRORS[i];
        run_numbered_case(scenario, beginning, &fault);
    }
    fault.error = 0;
    for (size_t i = 0; i < sizeof(SHORT_BY) / sizeof(SHORT_BY[0]) && op == SIM_GROUP_WRITE; ++i) {
        fault.missing = SHORT_BY[i];
        run_numbered_case(scenario, beginning, &fault);
    }
}

static void fail_everything(const struct scenario *scenario, const struct beginning *beginning)
{
    struct simdisk *healthy = run_case(scenario, beginning, NULL);
    for (int op = 0; op < SIM_OPS && !settings.crashes; ++op)
        for (uint64_t nth = 1; nth <= simdisk_count(healthy, (enum simdisk_op)op); ++nth) {
            fail_operation(scenario, beginning, (enum simdisk_op)op, nth, false);
            fail_operation(scenario, beginning, (enum simdisk_op)op, nth, true);
        }
    for (uint64_t nth = 1; nth <= simdisk_count(healthy, SIM_ANY) && !settings.crashes;
         ++nth) /* the disk is gone */
        run_numbered_case(
            scenario, beginning,
            &(struct simdisk_fault){ .op = SIM_ANY, .nth = nth, .error = -EIO, .is_forever = true });
    simdisk_destroy(healthy);
}

static void run_scenario(const struct scenario *scenario)
{
    current_case = 0;
    if (!scenario->is_torn && !scenario->is_killed) {
        fail_everything(scenario, NULL);
        return;
    }
    struct run before = start_run(scenario, start_disk(scenario));
    current = &before;
    const struct beginning beginning = begin_with_crash(&before);
    fail_everything(scenario, &beginning);
    history_free(&before.history);
    simdisk_destroy(beginning.image);
    simdisk_destroy(before.disk);
}

/* ---- the program --------------------------------------------------------------------------------- */

static void print_help(void)
{
    printf("sim-faults: every operation of a small workload fails once, in every way, and for ever\n"
           "  --seed N        what the records are made from (1)\n"
           "  --every N       only each N-th case (1)\n"
           "  --steps         nothing fails: crashes at each operation\n"
           "  --scenario N    one of these only:\n");
    for (size_t i = 0; i < SCENARIO_COUNT; ++i)
        printf("                    %zu  %s\n", i + 1, SCENARIOS[i].name);
    printf("  --replay CASE   one case of that scenario, as printed with a violation\n");
}

int main(int argc, char **argv)
{
    const struct argument arguments[] = {
        { "seed", .number = &settings.seed },         { "every", .number = &settings.every },
        { "scenario", .number = &settings.scenario }, { "replay", .number = &settings.replay },
        { "steps", .is_given = &settings.crashes },   { 0 },
    };
    parse_arguments(arguments, NULL, print_help, argc, argv);
    if (settings.scenario > SCENARIO_COUNT || settings.every == 0 ||
        (settings.replay > 0 && settings.scenario == 0)) {
        fprintf(stderr, "sim-faults: --replay needs a --scenario, from 1 to %d\n", SCENARIO_COUNT);
        return 2;
    }
    signal(SIGABRT, report_signal);
    signal(SIGSEGV, report_signal);
    for (size_t i = 0; i < SCENARIO_COUNT; ++i)
        if (settings.scenario == 0 || settings.scenario == i + 1)
            run_scenario(&SCENARIOS[i]);
    if (settings.crashes)
        printf("sim-faults: no violation in crashes at %" PRIu64 " operations, %" PRIu64 " disks recovered\n",
               totals.cases, recovered_disks);
    else
        printf("sim-faults: no violation in %" PRIu64 " cases; the fault struck in %" PRIu64
               ", open was refused %" PRIu64 " times, %" PRIu64 " requests were completed, %" PRIu64
               " disks were recovered afterwards\n",
               totals.cases, totals.struck, refused_opens, completed_requests, recovered_disks);
    return EXIT_SUCCESS;
}
