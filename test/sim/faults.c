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

static size_t scenario_number(const struct scenario *scenario)
{
    return (size_t)(scenario - SCENARIOS) + 1;
}

static const char *replay_command(void)
{
    static char text[128];
    const size_t scenario = scenario_number(current->scenario);

    if (settings.crashes)
        snprintf(text, sizeof(text), "sim-faults --steps --scenario %zu", scenario);
    else
        snprintf(text, sizeof(text), "sim-faults --seed %" PRIu64 " --scenario %zu --replay %" PRIu64,
                 settings.seed, scenario, current_case);
    return text;
}

static void print_fault(const struct simdisk_fault *fault)
{
    printf("%s number %" PRIu64 " ", simdisk_op_name(fault->op), fault->nth);
    if (fault->error < 0)
        printf("fails with %s", twinlog_strerror(fault->error));
    else
        printf("is %zu bytes short", fault->missing);
    if (fault->is_forever)
        printf(", and all later ones");
    printf("\n");
}

static void print_case(void)
{
    printf("  %s: ", current->scenario->name);
    if (settings.crashes)
        printf("a crash\n");
    else
        print_fault(&current->fault);

    printf("  %s%s: %" PRIu64 " accepted, %" PRIu64 " acknowledged; last operation: %s\n", current->stage,
           current->is_cut_again ? ", then a power cut" : "", history_last(&current->history), current->acked,
           simdisk_last(failing_disk(current)));
    printf("  again: %s\n", replay_command());
}

_Noreturn void violation(const char *format, ...)
{
    va_list arguments;

    printf("sim-faults: VIOLATION: ");
    va_start(arguments, format);
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

/* The crash image of the disk that fails is opened as another machine would, or as a copy. */
static void check_image(struct run *run, enum simdisk_cut cut)
{
    struct simdisk *image = simdisk_crash_image(failing_disk(run), cut, rng_next(&run->rng));

    if (run->target)
        check_copy(run, image, false);
    else
        check_recovery(run, image, cut == SIM_KILL ? "opened after a kill" : "opened after a power cut");
    simdisk_destroy(image);
}

static void notice_accepted(struct run *run)
{
    if (run->log)
        history_notice(&run->history, twinlog_last_lsn(run->log));
}

static void crash_in_each_way(struct run *run)
{
    static const enum simdisk_cut CUTS[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_KILL };

    notice_accepted(run);
    ++totals.cases;

    struct run now = *run;
    for (size_t i = 0; i < sizeof(CUTS) / sizeof(CUTS[0]); ++i) {
        if (CUTS[i] == SIM_KILL && run->log) /* what is written survives a kill */
            now.acked = max_u64(now.acked, twinlog_written_lsn(run->log));
        check_image(&now, CUTS[i]);
    }
    run->rng = now.rng;
}

/* The operation has failed by injection, and not because it was never run. */
static bool has_just_failed(const struct run *run)
{
    const bool has_just_struck = simdisk_faults(failing_disk(run)) > run->faults;
    const bool never_ran = run->fault.error == -ECANCELED;
    return has_just_struck && !never_ran;
}

static void fault_hook(void *context, enum simdisk_op op)
{
    struct run *run = context;
    struct simdisk *disk = failing_disk(run);

    if (settings.crashes)
        crash_in_each_way(run);
    if (simdisk_faults(disk) == 0)
        return;
    notice_accepted(run);

    const bool has_failed = has_just_failed(run);
    run->faults = simdisk_faults(disk);
    const bool is_first_barrier = op == SIM_BARRIER && !run->has_barrier_failed;
    if (has_failed && is_first_barrier) {
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
    run.options.segment_records = scenario->segment_records;
    if (scenario->is_padded)
        run.options.flags |= TWINLOG_PAD;
    if (scenario->is_buffered)
        run.options.flags |= TWINLOG_BUFFERED;
    return run;
}

/* How a log was left in the middle of use_log(), and what is known of it. */
struct beginning {
    const struct run *run; /* lived through it */
    uint64_t groups;       /* until then */
    struct simdisk *image;
    uint64_t acked;
};

/* At the last group it takes the image that the cases begin with. */
static void end_hook(void *context, enum simdisk_op op)
{
    struct beginning *beginning = context;
    const struct run *run = beginning->run;

    if (op != SIM_GROUP_WRITE)
        return;
    --beginning->groups;
    if (beginning->groups > 0)
        return;

    /* A torn group has the first of its sectors only. */
    const uint64_t first_sector = 1;
    const enum simdisk_cut cut = run->scenario->is_killed ? SIM_KILL : SIM_CUT_MASK;
    beginning->image = simdisk_crash_image(run->disk, cut, first_sector);
    beginning->acked = run->acked;
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

/* On a disk of its own, which is new or is what the beginning left. */
static struct run start_case(const struct scenario *scenario, const struct beginning *beginning,
                             const struct simdisk_fault *fault)
{
    struct run run = start_run(scenario, NULL);

    if (beginning) {
        run.disk = simdisk_crash_image(beginning->image, SIM_KILL, 0);
        inherit(&run, beginning);
    } else {
        run.disk = start_disk(scenario);
    }
    if (scenario->is_target)
        run.target = start_disk(scenario);
    if (fault)
        run.fault = *fault;
    return run;
}

/* One run of the script from a disk and a history to begin with; returns the disk for its counters. */
static struct simdisk *run_case(const struct scenario *scenario, const struct beginning *beginning,
                                const struct simdisk_fault *fault)
{
    struct run run = start_case(scenario, beginning, fault);

    current = &run;
    simdisk_set_hook(failing_disk(&run), fault_hook, &run);
    simdisk_inject(failing_disk(&run), fault);
    scenario->script(&run);
    if (simdisk_faults(failing_disk(&run)) > 0)
        ++totals.struck;

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

static bool is_wanted(uint64_t number)
{
    if (settings.replay > 0)
        return number == settings.replay;
    return number % settings.every == 0;
}

static void run_numbered_case(const struct scenario *scenario, const struct beginning *beginning,
                              const struct simdisk_fault *fault)
{
    ++current_case;
    if (!is_wanted(current_case))
        return;
    ++totals.cases;
    simdisk_destroy(run_case(scenario, beginning, fault));
}

/* That one falls short. */
static void shorten_operation(const struct scenario *scenario, const struct beginning *beginning,
                              struct simdisk_fault fault)
{
    for (size_t i = 0; i < sizeof(SHORT_BY) / sizeof(SHORT_BY[0]); ++i) {
        fault.missing = SHORT_BY[i];
        run_numbered_case(scenario, beginning, &fault);
    }
}

/* That one, in every way. */
static void fail_operation(const struct scenario *scenario, const struct beginning *beginning,
                           enum simdisk_op op, uint64_t nth, bool is_forever)
{
    const struct simdisk_fault fault = { .op = op, .nth = nth, .is_forever = is_forever };
    const bool has_all_errors = scenario->script == script_of_appends;
    const unsigned errors = has_all_errors ? ALL_ERRORS : FEW_ERRORS;

    for (unsigned i = 0; i < errors; ++i) {
        struct simdisk_fault failure = fault;
        failure.error = ERRORS[i];
        run_numbered_case(scenario, beginning, &failure);
    }
    if (op == SIM_GROUP_WRITE)
        shorten_operation(scenario, beginning, fault);
}

/* Each operation of a kind: once, and from then on. */
static void fail_operations(const struct scenario *scenario, const struct beginning *beginning,
                            const struct simdisk *healthy, enum simdisk_op op)
{
    for (uint64_t nth = 1; nth <= simdisk_count(healthy, op); ++nth) {
        fail_operation(scenario, beginning, op, nth, false);
        fail_operation(scenario, beginning, op, nth, true);
    }
}

/* From each operation on all fail, of whatever kind. */
static void lose_disk(const struct scenario *scenario, const struct beginning *beginning,
                      const struct simdisk *healthy)
{
    for (uint64_t nth = 1; nth <= simdisk_count(healthy, SIM_ANY); ++nth) {
        const struct simdisk_fault fault = { .op = SIM_ANY, .nth = nth, .error = -EIO, .is_forever = true };
        run_numbered_case(scenario, beginning, &fault);
    }
}

static void fail_everything(const struct scenario *scenario, const struct beginning *beginning)
{
    struct simdisk *healthy = run_case(scenario, beginning, NULL);

    if (!settings.crashes) {
        for (int op = 0; op < SIM_OPS; ++op)
            fail_operations(scenario, beginning, healthy, (enum simdisk_op)op);
        lose_disk(scenario, beginning, healthy);
    }
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

static bool are_settings_right(void)
{
    const bool is_replay = settings.replay > 0;

    if (is_replay && settings.scenario == 0)
        return false;
    return settings.scenario <= SCENARIO_COUNT && settings.every > 0;
}

static void print_summary(void)
{
    if (settings.crashes) {
        printf("sim-faults: no violation in crashes at %" PRIu64 " operations, %" PRIu64 " disks recovered\n",
               totals.cases, recovered_disks);
        return;
    }
    printf("sim-faults: no violation in %" PRIu64 " cases; the fault struck in %" PRIu64
           ", open was refused %" PRIu64 " times, %" PRIu64 " requests were completed, %" PRIu64
           " disks were recovered afterwards\n",
           totals.cases, totals.struck, refused_opens, completed_requests, recovered_disks);
}

int main(int argc, char **argv)
{
    const struct argument arguments[] = {
        { "seed", .number = &settings.seed },         { "every", .number = &settings.every },
        { "scenario", .number = &settings.scenario }, { "replay", .number = &settings.replay },
        { "steps", .is_given = &settings.crashes },   { 0 },
    };
    parse_arguments(arguments, NULL, print_help, argc, argv);
    if (!are_settings_right()) {
        fprintf(stderr, "sim-faults: --replay needs a --scenario, from 1 to %d\n", SCENARIO_COUNT);
        return 2;
    }
    signal(SIGABRT, report_signal);
    signal(SIGSEGV, report_signal);

    for (size_t i = 0; i < SCENARIO_COUNT; ++i) {
        const bool is_chosen = settings.scenario == 0 || settings.scenario == i + 1;
        if (is_chosen)
            run_scenario(&SCENARIOS[i]);
    }
    print_summary();
    return EXIT_SUCCESS;
}
