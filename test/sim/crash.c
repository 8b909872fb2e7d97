/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim-crash: a log on a simulated disk, crashed after every operation, recovered and judged.
 *
 * A seed makes a workload: appends, groups, closing and opening, on a disk with its own habits. After each
 * operation that changes the disk some crash images are made. Each image is recovered, read and compared
 * with what was accepted and acknowledged at that moment (the rules O1 ... in history.h). Some images go
 * on: their recovery is crashed again at each of its operations, or more is appended and crashed again.
 * All of it is the same code, one level down: see struct machine.
 *
 * A workload is repeated exactly by its seed, so a violation is reported as one number.
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
#include <time.h>
#include <unistd.h>

enum {
    MAX_DEPTH = 3,
    CUTS = SIM_KILL + 1,
    FINDINGS = TWINLOG_FOUND_SYSTEM_ERROR + 1,
};

static struct {
    uint64_t seed;
    uint64_t images;  /* to check; 0: no limit */
    uint64_t seconds; /* 0: no limit */
    bool is_replay;   /* one workload only */
    bool is_verbose;
    int lie; /* enum simdisk_op, -1: none; then a violation is what we want */
} settings = { .seed = 1, .lie = -1 };

static struct {
    uint64_t workloads, points, images, cut[CUTS], depth[MAX_DEPTH + 1], finding[FINDINGS];
    uint64_t records, reads_beside, ghosts;
} totals;

/* One machine with a log. At depth 0 it lives through a workload; below, it is a crash image of the machine
 * one level up, and is recovered. */
struct machine {
    struct simdisk *disk;
    struct rng rng;
    struct twinlog_options options;
    bool may_garble; /* a sector may hold anything after a power cut: only where no block is written twice */

    struct twinlog *log; /* NULL while it opens, and when it is closed */
    bool is_closing;
    bool exists;     /* the log was opened once, so it must be there */
    uint64_t acked;  /* the crash must not take these */
    bool is_haunted; /* a killed process's write may land while somebody looks */
    bool has_answer; /* recovery was asked, and nothing was appended since */
    uint64_t answer; /* the last LSN it found */
    struct history history;

    unsigned depth;
    bool is_deep; /* crashes again */
    enum simdisk_cut cut;
    uint64_t image_seed;
    uint64_t points;
    const struct machine *parent;
};

static const struct machine *current; /* the deepest one */
static uint64_t current_seed;

static const char *replay_command(void)
{
    static char text[128];
    int length = snprintf(text, sizeof(text), "sim-crash --replay %" PRIu64, current_seed);
    if (settings.lie >= 0)
        snprintf(text + length, sizeof(text) - (size_t)length, " --lie %s",
                 simdisk_op_name((enum simdisk_op)settings.lie));
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
    printf("%" PRIu64 " accepted, %" PRIu64 " acknowledged; point %" PRIu64 ": %s\n",
           history_last(&machine->history), machine->acked, machine->points, simdisk_last(machine->disk));
}

_Noreturn void violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s", settings.lie >= 0 ? "sim-crash: found, as it should be: " : "sim-crash: VIOLATION: ");
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    print_trail(current);
    printf("  again: %s\n", replay_command());
    fflush(stdout);
    _Exit(settings.lie >= 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void report_signal(int number)
{
    static const char text[] = "sim-crash: VIOLATION: the process died; again: ";
    const char *command = replay_command();
    ssize_t ignored = write(STDOUT_FILENO, text, sizeof(text) - 1);
    ignored = write(STDOUT_FILENO, command, strlen(command));
    ignored = write(STDOUT_FILENO, "\n", 1);
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

/* ---- what is known of a machine ------------------------------------------------------------------ */

static void acknowledge(struct machine *machine, uint64_t lsn)
{
    if (lsn > machine->acked)
        machine->acked = lsn;
}

/* What a crash now must not take. */
static void notice_durable(struct machine *machine)
{
    if (!machine->log)
        return;
    const uint64_t last = twinlog_last_lsn(machine->log), durable = twinlog_durable_lsn(machine->log);
    history_notice(&machine->history, last);
    if (last != history_last(&machine->history))
        violation("the last LSN is %" PRIu64 ", accepted were %" PRIu64, last,
                  history_last(&machine->history));
    if (durable > last)
        violation("durable LSN %" PRIu64 " is above the last one, %" PRIu64, durable, last);
    acknowledge(machine, durable);
}

/* Recovery and everybody else who looks at a disk at rest must agree. */
static void note_answer(struct machine *machine, uint64_t lsn, const char *who)
{
    if (lsn < machine->acked)
        violation("O1: %s found records up to LSN %" PRIu64 ", acknowledged were %" PRIu64, who, lsn,
                  machine->acked);
    if (lsn > history_last(&machine->history))
        violation("O3: %s found records up to LSN %" PRIu64 ", accepted were %" PRIu64, who, lsn,
                  history_last(&machine->history));
    if (machine->has_answer && machine->answer != lsn)
        violation("O5: %s found records up to LSN %" PRIu64 ", before it was %" PRIu64, who, lsn,
                  machine->answer);
    machine->answer = lsn;
    machine->has_answer = !machine->is_haunted;
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* Inside the writer's process: all that is durable, from anywhere. */
static void read_attached(struct machine *machine, uint64_t from)
{
    const uint64_t durable = twinlog_durable_lsn(machine->log);
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    options.from_lsn = from;
    const int result = twinlog_reader_attach(machine->log, &options, &reader);
    if (result < 0)
        violation("attaching a reader failed: %s", twinlog_strerror(result));
    const uint64_t last = history_check_rest(&machine->history, reader, from, "an attached reader");
    if (last >= from && last > durable)
        violation("O8: an attached reader returned LSN %" PRIu64 ", durable were %" PRIu64, last, durable);
    if (from <= durable && last < durable)
        violation("O1: an attached reader stopped at LSN %" PRIu64 ", durable were %" PRIu64, last, durable);
    totals.records += last + 1 - from;
    twinlog_reader_close(reader);
}

/* In another process; returns the last LSN it got, 0 if there is no log yet. */
static uint64_t read_outside(struct machine *machine, const char *who)
{
    struct twinlog_report report = { 0 };
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    options.ret_report = &report;
    const int result = twl_reader_open(simdisk_connect(machine->disk), &options, &reader);
    if (result == -ENOENT && !machine->exists)
        return 0;
    if (result < 0)
        violation("%s could not open the log: %s: %s", who, twinlog_strerror(result), report.text);
    const uint64_t last = history_check_rest(&machine->history, reader, 1, who);
    totals.records += last;
    twinlog_reader_close(reader);
    return last;
}

/* Beside the writer, in the middle of whatever it does. */
static void read_beside(struct machine *machine)
{
    ++totals.reads_beside;
    if (machine->log && rng_one_in(&machine->rng, 2)) {
        read_attached(machine, 1 + rng_below(&machine->rng, history_last(&machine->history) + 1));
        return;
    }
    const uint64_t last = read_outside(machine, "a reader beside the writer");
    if (machine->log && last > machine->acked)
        violation("O8: a reader beside the writer returned LSN %" PRIu64 ", durable were %" PRIu64, last,
                  machine->acked);
    acknowledge(machine, last); /* what somebody has seen must not go away */
}

/* A log that never crashed has nothing to report, not even what does no harm. */
static int check_finding(void *context, const struct twinlog_report *finding)
{
    const struct machine *machine = context;
    if (machine->depth == 0)
        violation("verify found at %s offset %" PRIu64 ": %s", finding->file, finding->offset, finding->text);
    return 0;
}

/* Looks at a disk without a writer, by all means but opening the log. */
static void look_at_rest(struct machine *machine)
{
    const uint64_t seen = read_outside(machine, "a reader without a writer");
    note_answer(machine, seen, "a reader without a writer");
    acknowledge(machine, seen);

    struct twinlog_inspection inspection = TWINLOG_INSPECTION_INIT;
    int result = twl_inspect(simdisk_connect(machine->disk), &inspection);
    if (result == 0)
        note_answer(machine, inspection.last_lsn, "inspect");
    else if (result != -ENOENT || machine->exists)
        violation("inspect failed: %s: %s", twinlog_strerror(result), inspection.report.text);

    struct twinlog_verify_options options = TWINLOG_VERIFY_OPTIONS_INIT;
    uint64_t records = 0;
    options.each = check_finding;
    options.context = machine;
    result = twl_verify(simdisk_connect(machine->disk), &options, &records);
    if (result == 0)
        note_answer(machine, records, "verify");
    else if (result != -ENOENT || machine->exists)
        violation("verify failed: %s", twinlog_strerror(result));
}

/* ---- opening and closing ------------------------------------------------------------------------- */

static void check_opened(struct machine *machine, const struct twinlog_report *report)
{
    const uint64_t last = twinlog_last_lsn(machine->log);
    const uint64_t first = twinlog_first_lsn(machine->log), durable = twinlog_durable_lsn(machine->log);
    note_answer(machine, last, "open");
    if (durable != last || first != (last > 0 ? 1 : 0))
        violation("after open: first %" PRIu64 ", last %" PRIu64 ", durable %" PRIu64, first, last, durable);
    if (report->finding >= FINDINGS || report->error != 0)
        violation("open worked and reported: %s", report->text);
    if (report->finding == TWINLOG_FOUND_NEW_LOG && machine->exists)
        violation("O1: open created a log where there was one");
    ++totals.finding[report->finding];
}

/* On return the log is open, and the history is cut to what recovery found. */
static void open_log(struct machine *machine)
{
    struct twinlog_report report = { 0 };
    struct twinlog_options options = machine->options;
    struct twinlog *log = NULL;
    options.ret_report = &report;
    if (machine->exists && rng_one_in(&machine->rng, 2))
        options.flags |= TWINLOG_MUST_EXIST;
    const int result = twl_log_open(simdisk_connect(machine->disk), &options, &log);
    if (result < 0)
        violation("O1: open failed: %s: %s", twinlog_strerror(result), report.text);
    machine->log = log;
    check_opened(machine, &report);
    history_cut(&machine->history, machine->answer);
    machine->exists = true;
    machine->is_haunted = false;
    machine->has_answer = false;
    acknowledge(machine, machine->answer);
}

static void close_log(struct machine *machine)
{
    machine->is_closing = true;
    const int result = twinlog_close(machine->log);
    machine->log = NULL;
    machine->is_closing = false;
    if (result < 0)
        violation("close failed: %s", twinlog_strerror(result));
    acknowledge(machine, history_last(&machine->history));
}

/* ---- work ---------------------------------------------------------------------------------------- */

static size_t max_record_bytes(const struct machine *machine)
{
    return machine->options.buffer_bytes - 8192;
}

/* Appends or enqueues one record. Another one may be accepted by the hook meanwhile, before or after. */
static uint64_t give_record(struct machine *machine, struct fact fact,
                            int (*give)(struct twinlog *, const void *, size_t, uint64_t *))
{
    uint64_t lsn = 0;
    history_offer(&machine->history, fact);
    const int result = give(machine->log, fact.data, fact.size, &lsn);
    if (result < 0)
        violation("a record of %zu bytes was refused: %s", fact.size, twinlog_strerror(result));
    const uint64_t expected = history_settle(&machine->history, true);
    if (lsn != expected)
        violation("O2: a record got LSN %" PRIu64 ", next was %" PRIu64, lsn, expected);
    return lsn;
}

static struct fact make_record(struct machine *machine)
{
    return history_make(&machine->history, machine->disk, &machine->rng, max_record_bytes(machine));
}

static void append_record(struct machine *machine)
{
    const uint64_t lsn = give_record(machine, make_record(machine), twinlog_append);
    acknowledge(machine, lsn);
    if (twinlog_durable_lsn(machine->log) < lsn)
        violation("LSN %" PRIu64 " was acknowledged, the durable LSN is %" PRIu64, lsn,
                  twinlog_durable_lsn(machine->log));
}

static void enqueue_records(struct machine *machine)
{
    for (uint64_t left = 1 + rng_below(&machine->rng, 12); left > 0; --left)
        give_record(machine, make_record(machine), twinlog_enqueue);
}

static void wait_for_records(struct machine *machine)
{
    const uint64_t last = history_last(&machine->history);
    const bool is_sync = last == 0 || rng_one_in(&machine->rng, 2);
    const uint64_t lsn = is_sync ? last : 1 + rng_below(&machine->rng, last);
    const int result = is_sync ? twinlog_sync(machine->log) : twinlog_wait(machine->log, lsn);
    if (result < 0)
        violation("waiting for LSN %" PRIu64 " failed: %s", lsn, twinlog_strerror(result));
    acknowledge(machine, lsn);
}

/* Another thread, as far as the log can tell: it is in the middle of a commit. */
static void enqueue_during_commit(struct machine *machine)
{
    struct fact fact = history_make(&machine->history, machine->disk, &machine->rng, 300);
    uint64_t lsn = 0;
    const int result = twinlog_enqueue(machine->log, fact.data, fact.size, &lsn);
    history_accept(&machine->history, fact);
    if (result < 0 || lsn != history_last(&machine->history))
        violation("during a commit a record got LSN %" PRIu64 ", next was %" PRIu64 ": %s", lsn,
                  history_last(&machine->history), twinlog_strerror(result));
}

static void reopen_log(struct machine *machine)
{
    close_log(machine);
    if (rng_one_in(&machine->rng, 4))
        look_at_rest(machine);
    if (!machine->may_garble && rng_one_in(&machine->rng, 4))
        machine->options.flags ^= TWINLOG_PAD;
    open_log(machine);
}

/* Time goes on; sometimes it is set back. */
static void change_clock(struct machine *machine)
{
    const int64_t step = (int64_t)rng_below(&machine->rng, UINT64_C(10000000000)) - 1000000000;
    simdisk_set_clock(machine->disk, simdisk_clock(machine->disk) + step);
}

static void work(struct machine *machine, uint64_t steps)
{
    for (; steps > 0; --steps) {
        const uint64_t choice = rng_below(&machine->rng, 16);
        if (choice < 8)
            append_record(machine);
        else if (choice < 13)
            enqueue_records(machine);
        else if (choice < 14)
            reopen_log(machine);
        else
            change_clock(machine);
        if (choice >= 8 && choice < 12)
            wait_for_records(machine);
        notice_durable(machine);
    }
}

/* What was lost is given to the log again, as an application would: the new group is like the torn one, and
 * what was left of that must not complete it. */
static void give_lost_records_again(struct machine *machine)
{
    const struct history *lost = machine->history.past;
    for (uint64_t lsn = machine->history.kept + 1; lsn <= history_last(lost); ++lsn) {
        const size_t size = history_fact(lost, lsn)->size;
        give_record(machine, history_make_sized(&machine->history, machine->disk, &machine->rng, size),
                    twinlog_enqueue);
    }
    wait_for_records(machine);
}

/* ---- crashing ------------------------------------------------------------------------------------ */

static void crash_hook(void *context, enum simdisk_op op);

static struct machine start_image(struct machine *parent, enum simdisk_cut cut, uint64_t seed)
{
    struct machine machine = {
        .disk = simdisk_crash_image(parent->disk, cut, seed),
        .rng = { rng_mix(seed ^ parent->rng.state) },
        .options = parent->options,
        .may_garble = parent->may_garble,
        .exists = parent->exists,
        .acked = parent->acked,
        .history = { .past = &parent->history,
                     .kept = history_last(&parent->history),
                     .usual_bytes = parent->history.usual_bytes },
        .depth = parent->depth + 1,
        .cut = cut,
        .image_seed = seed,
        .parent = parent,
    };
    machine.history.writer = rng_next(&machine.rng);
    machine.is_haunted = simdisk_has_ghost(machine.disk);
    machine.is_deep = machine.depth < MAX_DEPTH && rng_one_in(&machine.rng, machine.depth == 1 ? 24 : 64);
    return machine;
}

static void count_image(const struct machine *machine)
{
    if (settings.is_verbose)
        printf("%*simage %s %#" PRIx64 "\n", (int)machine->depth * 4 - 2, "", simdisk_cut_name(machine->cut),
               machine->image_seed);
    ++totals.images;
    ++totals.cut[machine->cut];
    ++totals.depth[machine->depth];
    totals.ghosts += machine->is_haunted;
}

/* A recovery that dies must not change what the next one finds. Two exceptions: what a killed process left is
 * not durable, so a crash decides about it again. And where sectors are garbled, a recovery that dies while
 * it overwrites a torn group can make it whole: the zeros behind its mark may be the very bytes that were
 * garbled. In neither case has anybody been told yet. */
static bool has_one_answer(const struct machine *machine)
{
    const bool is_recovering = machine->depth > 0 && !machine->log;
    return is_recovering && machine->cut != SIM_KILL && !machine->may_garble;
}

static void live_on(struct machine *machine)
{
    if (rng_one_in(&machine->rng, 2))
        give_lost_records_again(machine);
    work(machine, 1 + rng_below(&machine->rng, 4));
    read_attached(machine, 1);
}

static void open_again(struct machine *machine)
{
    machine->answer = history_last(&machine->history);
    machine->has_answer = true;
    open_log(machine);
    read_attached(machine, 1);
    close_log(machine);
}

/* Recovers an image of `parent` as it is now, in the middle of whatever it does. */
static void check_image(struct machine *parent, enum simdisk_cut cut, uint64_t seed)
{
    struct machine machine = start_image(parent, cut, seed);
    current = &machine;
    count_image(&machine);
    if (rng_one_in(&machine.rng, 8))
        look_at_rest(&machine);
    if (machine.is_deep)
        simdisk_set_hook(machine.disk, crash_hook, &machine);
    open_log(&machine);
    if (has_one_answer(parent))
        note_answer(parent, machine.answer, "recovery after a crash inside recovery");
    read_attached(&machine, 1);
    if (machine.is_deep || rng_one_in(&machine.rng, 16))
        live_on(&machine);
    close_log(&machine);
    if (rng_one_in(&machine.rng, 8))
        open_again(&machine);
    history_free(&machine.history);
    simdisk_destroy(machine.disk);
    current = parent;
}

static enum simdisk_cut choose_cut(struct machine *machine)
{
    switch (rng_below(&machine->rng, 8)) {
    case 0:
        return SIM_CUT_NONE;
    case 1:
        return SIM_CUT_ALL;
    case 2:
        return SIM_KILL;
    case 3:
    case 4:
        return machine->may_garble ? SIM_CUT_GARBAGE : SIM_CUT_RANDOM;
    default:
        return SIM_CUT_RANDOM;
    }
}

/* Every combination of what may have happened. */
static void check_all_images(struct machine *machine, unsigned choices)
{
    for (uint64_t mask = 0; mask < UINT64_C(1) << choices; ++mask)
        check_image(machine, SIM_CUT_MASK, mask);
}

static void check_images(struct machine *machine)
{
    const unsigned choices = simdisk_choices(machine->disk);
    if (choices == 0) {
        check_image(machine, rng_one_in(&machine->rng, 4) ? SIM_KILL : SIM_CUT_NONE, rng_next(&machine->rng));
        return;
    }
    if (machine->depth == 0 && rng_one_in(&machine->rng, choices <= 5 ? 4 : 400) && choices <= 12) {
        check_all_images(machine, choices);
        return;
    }
    for (uint64_t left = machine->depth == 0 ? 4 : 1; left > 0; --left)
        check_image(machine, choose_cut(machine), rng_next(&machine->rng));
}

/* After each operation that changed the disk. */
static void crash_hook(void *context, enum simdisk_op op)
{
    struct machine *machine = context;
    ++machine->points;
    ++totals.points;
    notice_durable(machine);
    if (settings.is_verbose)
        printf("%*s%" PRIu64 ": %s, %u choices, %" PRIu64 " accepted, %" PRIu64 " acknowledged\n",
               (int)machine->depth * 4, "", machine->points, simdisk_last(machine->disk),
               simdisk_choices(machine->disk), history_last(&machine->history), machine->acked);
    if (op == SIM_SUBMIT && machine->log && !machine->is_closing && rng_one_in(&machine->rng, 3))
        enqueue_during_commit(machine);
    if (rng_one_in(&machine->rng, 8))
        read_beside(machine);
    check_images(machine);
}

/* ---- workloads ----------------------------------------------------------------------------------- */

static uint32_t choose_untorn_bytes(struct rng *rng)
{
    static const uint32_t UNTORN[] = { 0, 0, 4096, 16384 };
    return UNTORN[rng_below(rng, 4)];
}

static void run_workload(uint64_t seed)
{
    struct machine machine = { .rng = { rng_mix(seed) } };
    struct rng *rng = &machine.rng;
    const struct simdisk_options disk = {
        .seed = rng_next(rng),
        .clock_ns = INT64_C(1700000000000000000) + (int64_t)rng_below(rng, 1000000000),
        .untorn_bytes = choose_untorn_bytes(rng),
        .has_direct = true,
        .is_barrier_narrow = rng_one_in(rng, 2),
    };
    current_seed = seed;
    machine.options = (struct twinlog_options)TWINLOG_OPTIONS_INIT;
    machine.options.segment_bytes = rng_one_in(rng, 4) ? 131072 : 65536;
    machine.options.buffer_bytes = 16384 + 4096 * (uint32_t)rng_below(rng, 3);
    machine.options.flags = rng_one_in(rng, 4) ? TWINLOG_BUFFERED : 0;
    machine.options.spare_segments = (uint32_t)rng_below(rng, 3);
    machine.may_garble = rng_one_in(rng, 3);
    if (machine.may_garble || rng_one_in(rng, 4))
        machine.options.flags |= TWINLOG_PAD;
    machine.history.writer = seed;
    if (rng_one_in(rng, 3))
        machine.history.usual_bytes = 1 + rng_below(rng, rng_one_in(rng, 2) ? 5000 : 500);
    machine.disk = simdisk_create(&disk);
    if (settings.lie >= 0)
        simdisk_lie(machine.disk, (enum simdisk_op)settings.lie);
    simdisk_set_hook(machine.disk, crash_hook, &machine);

    current = &machine;
    open_log(&machine);
    work(&machine, 2 + rng_below(rng, 24));
    read_attached(&machine, 1);
    close_log(&machine);
    look_at_rest(&machine);
    current = NULL;
    history_free(&machine.history);
    simdisk_destroy(machine.disk);
    ++totals.workloads;
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
    printf("  records read %" PRIu64 ", readers beside the writer %" PRIu64 "\n", totals.records,
           totals.reads_beside);
}

static bool is_finished(double seconds)
{
    return settings.is_replay || (settings.images > 0 && totals.images >= settings.images) ||
           (settings.seconds > 0 && seconds >= (double)settings.seconds);
}

static void print_help(void)
{
    printf("sim-crash: a log on a simulated disk, crashed after every operation\n"
           "  --seed N      seed of the first workload (1)\n"
           "  --images N    stop after that many crash images (100000, unless --seconds is given)\n"
           "  --seconds N   stop after that time\n"
           "  --replay SEED one workload only\n"
           "  --verbose     print each operation that changes a disk, and each image\n"
           "  --lie OP      sync, barrier or sync_dir answers 0 and does nothing: a test of this test,\n"
           "                which then succeeds if it finds a violation\n");
}

static int parse_lie(const char *name)
{
    static const enum simdisk_op LIES[] = { SIM_SYNC, SIM_BARRIER, SIM_SYNC_DIR };
    for (size_t i = 0; i < sizeof(LIES) / sizeof(LIES[0]); ++i)
        if (strcmp(name, simdisk_op_name(LIES[i])) == 0)
            return (int)LIES[i];
    fprintf(stderr, "sim-crash: --lie takes sync, barrier or sync_dir\n");
    exit(2);
}

static uint64_t parse_number(const char *text)
{
    char *end = NULL;
    const uint64_t number = strtoull(text, &end, 0);
    if (end != text && *end == '\0')
        return number;
    fprintf(stderr, "sim-crash: not a number: %s\n", text);
    exit(2);
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option OPTIONS[] = {
        { "seed", required_argument, NULL, 's' },    { "images", required_argument, NULL, 'i' },
        { "seconds", required_argument, NULL, 't' }, { "replay", required_argument, NULL, 'r' },
        { "verbose", no_argument, NULL, 'v' },       { "lie", required_argument, NULL, 'l' },
        { "help", no_argument, NULL, 'h' },          { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1;) {
        switch (option) {
        case 's':
            settings.seed = parse_number(optarg);
            break;
        case 'i':
            settings.images = parse_number(optarg);
            break;
        case 't':
            settings.seconds = parse_number(optarg);
            break;
        case 'r':
            settings.seed = parse_number(optarg);
            settings.is_replay = true;
            break;
        case 'v':
            settings.is_verbose = true;
            break;
        case 'l':
            settings.lie = parse_lie(optarg);
            break;
        case 'h':
            print_help();
            exit(0);
        default:
            exit(2);
        }
    }
    if (settings.images == 0 && settings.seconds == 0)
        settings.images = 100000;
}

int main(int argc, char **argv)
{
    parse_arguments(argc, argv);
    mallopt(M_MMAP_THRESHOLD, 1 << 25); /* a page fault costs more than most of what happens here */
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
    signal(SIGABRT, report_signal);
    signal(SIGSEGV, report_signal);
    const double began = seconds_now();
    double seconds = 0;
    for (uint64_t seed = settings.seed; seed == settings.seed || !is_finished(seconds); ++seed) {
        run_workload(seed);
        seconds = seconds_now() - began;
        print_progress(seconds);
    }
    if (settings.lie >= 0) {
        printf("sim-crash: a disk that lies about %s was not noticed\n",
               simdisk_op_name((enum simdisk_op)settings.lie));
        return EXIT_FAILURE;
    }
    print_summary(seconds);
    return EXIT_SUCCESS;
}
