/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-faults: every operation of a small workload fails once, in every way, and from then on for ever.
 *
 * A script of opening, appending, reading and closing is run on a healthy simulated disk to count its
 * operations. Then it is run again for each of them, with that one failing. The script goes on after a
 * failure, as an application that does not look would, and so this is checked:
 *
 *  - a call succeeds or returns the error that was injected, never another one, never "damaged";
 *  - after a call of the writer failed no later one is acknowledged, although the disk may be healthy
 *    again, and after a barrier failed nothing more is submitted or synced (I5);
 *  - readers, inspect and verify tell the truth or return the error;
 *  - crash images taken after the fault, opened on a healthy disk, hold what was acknowledged, and
 *    can be appended to (the rules in history.h);
 *  - the same without a crash: the disk is healthy again and the log is opened in its place.
 */
#define _GNU_SOURCE
#include "history.h"
#include "log/log.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct scenario {
    const char *name;
    bool is_torn;   /* begins with a log whose last group was torn by a power cut */
    bool is_killed; /* ... whose writer was killed before its last group was synced */
    bool is_padded;
    bool is_buffered;
    bool is_barrier_narrow;
};

static const struct scenario SCENARIOS[] = {
    { .name = "new log, linked sync" },
    { .name = "new log, padded, write with its own sync", .is_padded = true, .is_barrier_narrow = true },
    { .name = "torn log, write with its own sync", .is_torn = true, .is_barrier_narrow = true },
    { .name = "killed log, padded, linked sync", .is_killed = true, .is_padded = true },
    { .name = "new log, buffered, linked sync", .is_buffered = true },
    { .name = "killed log, buffered, write with its own sync",
      .is_killed = true,
      .is_buffered = true,
      .is_barrier_narrow = true },
};
enum {
    SCENARIO_COUNT = sizeof(SCENARIOS) / sizeof(SCENARIOS[0])
};

static const int ERRORS[] = { -EIO, -ENOSPC, -EAGAIN, -EINTR, -EDQUOT, -EROFS, -ECANCELED };
static const size_t SHORT_BY[] = { 512, 4096 };

/* The script, and what became of it. */
struct run {
    const struct scenario *scenario;
    const char *stage; /* of the case, in words */
    bool is_cut_again;
    struct simdisk_fault fault;
    struct simdisk *disk;
    struct rng rng;
    struct twinlog_options options;
    struct twinlog *log; /* NULL: it could not be opened */
    struct history history;
    uint64_t acked;
    bool exists; /* the log was opened once */

    bool is_poisoned;        /* a call of the writer failed */
    uint64_t poisoned_lsn;   /* durable then */
    bool has_barrier_failed; /* of this opening */
    uint64_t faults;         /* noticed by the hook */
    uint64_t submits, syncs; /* so far, when the barrier failed */
};

static struct {
    uint64_t seed;
    uint64_t scenario; /* from 1; 0: all */
    uint64_t replay;   /* a case of it; 0: all */
} settings = { .seed = 1 };

static struct {
    uint64_t cases, images, struck, refused;
} totals;

static const struct run *current;
static uint64_t current_case; /* of the scenario, from 1 */

static const char *replay_command(void)
{
    static char text[128];
    snprintf(text, sizeof(text), "sim-faults --seed %" PRIu64 " --scenario %zu --replay %" PRIu64,
             settings.seed, (size_t)(current->scenario - SCENARIOS) + 1, current_case);
    return text;
}

static void print_case(void)
{
    const struct simdisk_fault *fault = &current->fault;
    printf("  %s: %s number %" PRIu64 " ", current->scenario->name, simdisk_op_name(fault->op), fault->nth);
    if (fault->error < 0)
        printf("fails with %s", strerrorname_np(-fault->error));
    else
        printf("is %zu bytes short", fault->missing);
    printf("%s\n  %s%s: %" PRIu64 " accepted, %" PRIu64 " acknowledged; last operation: %s\n",
           fault->is_forever ? ", and all later ones" : "", current->stage,
           current->is_cut_again ? ", then a power cut" : "", history_last(&current->history), current->acked,
           simdisk_last(current->disk));
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

/* ---- honesty ------------------------------------------------------------------------------------- */

static bool may_return(const struct run *run, int result)
{
    const struct simdisk_fault *fault = &run->fault;
    if (simdisk_faults(run->disk) == 0)
        return false;
    if (result == fault->error || (result == TWINLOG_EPOISONED && run->is_poisoned))
        return true;
    if (fault->error == 0 || fault->error == -EINTR || fault->error == -EAGAIN || fault->error == -ECANCELED)
        return result == -EIO || (result == -EBUSY && (fault->op == SIM_LOCK ||
                                                       fault->op == SIM_ANY)); /* tried again for too long */
    return false;
}

static void expect_honest(const struct run *run, int result, const char *call)
{
    if (result < 0 && !may_return(run, result))
        violation("%s returned %d (%s)", call, result, twinlog_strerror(result));
}

static void poison(struct run *run)
{
    if (run->is_poisoned)
        return;
    run->is_poisoned = true;
    run->poisoned_lsn = twinlog_durable_lsn(run->log);
}

static void acknowledge(struct run *run, uint64_t lsn, const char *call)
{
    if (run->is_poisoned && lsn > run->poisoned_lsn)
        violation("I5: %s acknowledged LSN %" PRIu64 " after a failure at %" PRIu64, call, lsn,
                  run->poisoned_lsn);
    if (lsn > run->acked)
        run->acked = lsn;
}

static void check_watermarks(struct run *run)
{
    if (twinlog_last_lsn(run->log) != history_last(&run->history))
        violation("the last LSN is %" PRIu64 ", accepted were %" PRIu64, twinlog_last_lsn(run->log),
                  history_last(&run->history));
    acknowledge(run, twinlog_durable_lsn(run->log), "the durable LSN");
}

/* ---- the script's calls -------------------------------------------------------------------------- */

static void open_log(struct run *run)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = run->options;
    options.ret_report = &report;
    run->is_poisoned = false;
    run->has_barrier_failed = false;
    const int result = twl_log_open(simdisk_connect(run->disk), &options, &run->log);
    if (result < 0) {
        ++totals.refused;
        run->log = NULL;
        expect_honest(run, result, "open");
        return;
    }
    run->exists = true;
    const uint64_t last = twinlog_last_lsn(run->log);
    if (last < run->acked || last > history_last(&run->history))
        violation("O1: open found records up to LSN %" PRIu64 ", acknowledged were %" PRIu64
                  ", accepted %" PRIu64,
                  last, run->acked, history_last(&run->history));
    history_cut(&run->history, last);
    check_watermarks(run);
}

static void close_log(struct run *run)
{
    if (!run->log)
        return;
    check_watermarks(run);
    const int result = twinlog_close(run->log);
    run->log = NULL;
    expect_honest(run, result, "close");
    if (result == 0)
        acknowledge(run, history_last(&run->history), "close");
    if (run->has_barrier_failed && (simdisk_count(run->disk, SIM_SUBMIT) != run->submits ||
                                    simdisk_count(run->disk, SIM_SYNC) != run->syncs))
        violation("I5: something was submitted or synced after a barrier had failed");
}

static uint64_t give_record(struct run *run, size_t max_bytes,
                            int (*give)(struct twinlog *, const void *, size_t, uint64_t *), const char *call)
{
    if (!run->log)
        return 0;
    const struct fact fact = history_make(&run->history, run->disk, &run->rng, max_bytes);
    uint64_t lsn = UINT64_MAX;
    history_offer(&run->history, fact);
    const int result = give(run->log, fact.data, fact.size, &lsn);
    const uint64_t expected = history_settle(&run->history, lsn != 0);
    expect_honest(run, result, call);
    if (result == 0 && run->is_poisoned)
        violation("I5: %s succeeded after a failure", call);
    if (lsn != expected || (lsn == 0 && result == 0))
        violation("%s returned %d and gave LSN %" PRIu64 ", next was %" PRIu64, call, result, lsn, expected);
    if (result < 0)
        poison(run);
    check_watermarks(run);
    return result == 0 ? lsn : 0;
}

static void append_record(struct run *run, size_t max_bytes)
{
    acknowledge(run, give_record(run, max_bytes, twinlog_append, "append"), "append");
}

static void enqueue_record(struct run *run)
{
    give_record(run, 2000, twinlog_enqueue, "enqueue");
}

static void sync_log(struct run *run)
{
    if (!run->log)
        return;
    const int result = twinlog_sync(run->log);
    expect_honest(run, result, "sync");
    if (result == 0)
        acknowledge(run, history_last(&run->history), "sync");
    else
        poison(run);
    check_watermarks(run);
}

/* ---- the script's readers ------------------------------------------------------------------------ */

/* Reads everything; returns the LSN of the last one, or a negative error. */
static int64_t read_all(const struct run *run, struct twinlog_reader *reader, const char *who)
{
    struct twinlog_record record;
    uint64_t next = 1;
    int result;
    for (; (result = twinlog_reader_next(reader, &record)) == 1; ++next) {
        if (record.lsn != next)
            violation("O2: %s returned LSN %" PRIu64 " where %" PRIu64 " was next", who, record.lsn, next);
        history_check(&run->history, &record, who);
    }
    if (result < 0 && twinlog_reader_next(reader, &record) != result)
        violation("%s returned an error once, and then another result", who);
    twinlog_reader_close(reader);
    return result < 0 ? result : (int64_t)next - 1;
}

static void read_attached(struct run *run)
{
    struct twinlog_reader *reader = NULL;
    if (!run->log)
        return;
    int64_t result = twinlog_reader_attach(run->log, NULL, &reader);
    if (result == 0)
        result = read_all(run, reader, "an attached reader");
    expect_honest(run, result < 0 ? (int)result : 0, "an attached reader");
    if (result >= 0 && (uint64_t)result != twinlog_durable_lsn(run->log))
        violation("O8: an attached reader returned up to LSN %" PRId64 ", durable were %" PRIu64, result,
                  twinlog_durable_lsn(run->log));
}

/* From outside; true where there is a log as far as the script knows. */
static void check_outside(struct run *run, int64_t result, const char *who)
{
    if (result == -ENOENT && !run->exists)
        return;
    expect_honest(run, result < 0 ? (int)result : 0, who);
    const uint64_t limit = run->log ? twinlog_durable_lsn(run->log) : history_last(&run->history);
    if (result > (int64_t)limit)
        violation("O8: %s told of LSN %" PRId64 ", durable were at most %" PRIu64, who, result, limit);
    if (!run->log && result >= 0 && result < (int64_t)run->acked)
        violation("O1: %s told of LSN %" PRId64 " at most, acknowledged were %" PRIu64, who, result,
                  run->acked);
}

static void read_outside(struct run *run)
{
    struct twinlog_reader *reader = NULL;
    int64_t result = twl_reader_open(simdisk_connect(run->disk),
                                     &(struct twinlog_reader_options)TWINLOG_READER_OPTIONS_INIT, &reader);
    if (result == 0)
        result = read_all(run, reader, "a reader in another process");
    check_outside(run, result, "a reader in another process");
}

static void inspect_log(struct run *run)
{
    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    const int result = twl_inspect(simdisk_connect(run->disk), &inspection);
    check_outside(run, result < 0 ? result : (int64_t)inspection.last_lsn, "inspect");
}

static void verify_log(struct run *run)
{
    const struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    uint64_t records = 0;
    const int result = twl_verify(simdisk_connect(run->disk), &options, &records);
    check_outside(run, result < 0 ? result : (int64_t)records, "verify");
}

/* ---- the script ---------------------------------------------------------------------------------- */

static void use_log(struct run *run)
{
    append_record(run, 100);
    append_record(run, 3000);
    for (unsigned i = 0; i < 5; ++i)
        enqueue_record(run);
    sync_log(run);
    read_attached(run);
    for (unsigned i = 0; i < 10; ++i) /* enough for a second segment */
        append_record(run, 8192);
    enqueue_record(run);
    read_outside(run);
}

static void run_script(struct run *run)
{
    read_outside(run);
    inspect_log(run);
    open_log(run);
    use_log(run);
    close_log(run);
    verify_log(run);
    read_outside(run);
    open_log(run);
    append_record(run, 100);
    read_attached(run);
    close_log(run);
}

/* ---- afterwards, on a healthy disk --------------------------------------------------------------- */

/* The disk is opened as another machine would, read, appended to, opened and read again. */
static void check_recovery(const struct run *run, struct simdisk *disk, const char *stage)
{
    const struct run *before = current;
    struct run after = {
        .scenario = run->scenario,
        .stage = stage,
        .fault = run->fault,
        .disk = disk,
        .rng = { rng_mix(run->rng.state) },
        .options = run->options,
        .history = { .past = &run->history, .kept = history_last(&run->history), .writer = run->rng.state },
        .acked = run->acked,
        .exists = run->exists,
    };
    current = &after;
    ++totals.images;
    open_log(&after);
    acknowledge(&after, history_last(&after.history), "open");
    read_attached(&after);
    append_record(&after, 500);
    enqueue_record(&after);
    close_log(&after);

    struct simdisk *image = simdisk_crash_image(disk, SIM_CUT_NONE, 0);
    after.disk = image;
    after.is_cut_again = true;
    open_log(&after);
    read_attached(&after);
    close_log(&after);
    simdisk_destroy(image);
    history_free(&after.history);
    current = before;
}

static void check_image(struct run *run)
{
    static const enum simdisk_cut CUTS[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_CUT_RANDOM,
                                             SIM_KILL };
    const enum simdisk_cut cut = CUTS[rng_below(&run->rng, sizeof(CUTS) / sizeof(CUTS[0]))];
    struct simdisk *image = simdisk_crash_image(run->disk, cut, rng_next(&run->rng));
    check_recovery(run, image, cut == SIM_KILL ? "opened after a kill" : "opened after a power cut");
    simdisk_destroy(image);
}

static void fault_hook(void *context, enum simdisk_op op)
{
    struct run *run = context;
    if (simdisk_faults(run->disk) == 0)
        return;
    if (run->log)
        history_notice(&run->history, twinlog_last_lsn(run->log));
    const bool has_failed = simdisk_faults(run->disk) > run->faults;
    run->faults = simdisk_faults(run->disk);
    /* a cancelled barrier never ran: it may be tried behind a new write */
    bool has_run = run->fault.error != -ECANCELED;
    if (op == SIM_BARRIER && has_failed && has_run && !run->has_barrier_failed) {
        run->has_barrier_failed = true;
        run->submits = simdisk_count(run->disk, SIM_SUBMIT);
        run->syncs = simdisk_count(run->disk, SIM_SYNC);
    }
    if (rng_one_in(&run->rng, 16))
        check_image(run);
}

/* ---- all the cases ------------------------------------------------------------------------------- */

static struct simdisk *start_disk(const struct scenario *scenario)
{
    const struct simdisk_options options = {
        .seed = settings.seed,
        .clock_ns = INT64_C(1700000000000000000),
        .has_direct = true,
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
        .history = { .writer = settings.seed },
    };
    run.options.segment_bytes = 65536;
    run.options.buffer_bytes = 16384;
    run.options.flags = (scenario->is_padded ? (uint32_t)TWINLOG_PAD : 0) |
                        (scenario->is_buffered ? (uint32_t)TWINLOG_BUFFERED : 0);
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
    simdisk_inject(run->disk, NULL);
    simdisk_set_hook(run->disk, NULL, NULL);
    struct simdisk *same = simdisk_crash_image(run->disk, SIM_KILL, 0);
    check_recovery(run, same, "opened when the disk was healthy again");
    simdisk_destroy(same);
}

/* One run of the script from a disk and a history to begin with; returns the disk for its counters. */
static struct simdisk *run_case(const struct scenario *scenario, const struct beginning *beginning,
                                const struct simdisk_fault *fault)
{
    struct run run = start_run(scenario, NULL);
    run.disk = beginning ? simdisk_crash_image(beginning->image, SIM_KILL, 0) : start_disk(scenario);
    if (beginning) {
        run.history.past = &beginning->run->history;
        run.history.kept = history_last(&beginning->run->history);
        run.history.writer = ~settings.seed;
        run.acked = beginning->acked;
        run.exists = true;
    }
    if (fault)
        run.fault = *fault;
    current = &run;
    simdisk_set_hook(run.disk, fault_hook, &run);
    simdisk_inject(run.disk, fault);
    run_script(&run);
    totals.struck += simdisk_faults(run.disk) > 0;
    for (unsigned i = 0; i < 4; ++i)
        check_image(&run);
    check_reopening(&run);
    history_free(&run.history);
    current = NULL;
    return run.disk;
}

static void run_numbered_case(const struct scenario *scenario, const struct beginning *beginning,
                              const struct simdisk_fault *fault)
{
    ++current_case;
    if (settings.replay != 0 && settings.replay != current_case)
        return;
    if (isatty(STDOUT_FILENO) && totals.cases % 256 == 0)
        printf("\r\033[K%s: case %" PRIu64, scenario->name, current_case);
    fflush(stdout);
    ++totals.cases;
    simdisk_destroy(run_case(scenario, beginning, fault));
}

/* That one, in every way. */
static void fail_operation(const struct scenario *scenario, const struct beginning *beginning,
                           enum simdisk_op op, uint64_t nth, bool is_forever)
{
    struct simdisk_fault fault = { .op = op, .nth = nth, .is_forever = is_forever };
    for (size_t i = 0; i < sizeof(ERRORS) / sizeof(ERRORS[0]); ++i) {
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
    for (int op = 0; op < SIM_OPS; ++op)
        for (uint64_t nth = 1; nth <= simdisk_count(healthy, (enum simdisk_op)op); ++nth) {
            fail_operation(scenario, beginning, (enum simdisk_op)op, nth, false);
            fail_operation(scenario, beginning, (enum simdisk_op)op, nth, true);
        }
    for (uint64_t nth = 1; nth <= simdisk_count(healthy, SIM_ANY); ++nth) /* the disk is gone */
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
           "  --scenario N    one of these only:\n");
    for (size_t i = 0; i < SCENARIO_COUNT; ++i)
        printf("                    %zu  %s\n", i + 1, SCENARIOS[i].name);
    printf("  --replay CASE   one case of that scenario, as printed with a violation\n");
}

static uint64_t parse_number(const char *text)
{
    char *end = NULL;
    const uint64_t number = strtoull(text, &end, 0);
    if (end != text && *end == '\0')
        return number;
    fprintf(stderr, "sim-faults: not a number: %s\n", text);
    exit(2);
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option OPTIONS[] = {
        { "seed", required_argument, NULL, 's' },
        { "scenario", required_argument, NULL, 'c' },
        { "replay", required_argument, NULL, 'r' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        switch (option) {
        case 's':
            settings.seed = parse_number(optarg);
            break;
        case 'c':
            settings.scenario = parse_number(optarg);
            break;
        case 'r':
            settings.replay = parse_number(optarg);
            break;
        case 'h':
            print_help();
            exit(0);
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    parse_arguments(argc, argv);
    if (settings.scenario > SCENARIO_COUNT || (settings.replay > 0 && settings.scenario == 0)) {
        fprintf(stderr, "sim-faults: --replay needs a --scenario, from 1 to %d\n", SCENARIO_COUNT);
        return 2;
    }
    mallopt(M_MMAP_THRESHOLD, 1 << 25); /* as in sim-crash */
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
    signal(SIGABRT, report_signal);
    signal(SIGSEGV, report_signal);
    for (size_t i = 0; i < SCENARIO_COUNT; ++i)
        if (settings.scenario == 0 || settings.scenario == i + 1)
            run_scenario(&SCENARIOS[i]);
    if (isatty(STDOUT_FILENO))
        printf("\r\033[K");
    printf("sim-faults: no violation in %" PRIu64 " cases; the fault struck in %" PRIu64
           ", open was refused %" PRIu64 " times, %" PRIu64 " disks were recovered afterwards\n",
           totals.cases, totals.struck, totals.refused, totals.images);
    return EXIT_SUCCESS;
}
