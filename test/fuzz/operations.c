/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz-operations: bytes are what is done with a log, and where it crashes. sim-crash does the same by chance
 * alone; what is done, how it is judged, and the simulated disk are its own (crash.h).
 *
 *     input = options (8) | steps
 *     step  = kind (1) | chance (2) | when (1) | cut (1) | choices (3)
 *
 * Each step is one kind of work, with numbers of its own, so that steps can be moved about. It crashes after as many
 * operations of the disk as `when` says, if it has so many, 0 = not at all; with what `cut` says, and of what was
 * not synced that part that `choices` has bits for. The image is recovered and judged, and the step goes on.
 */
#include "base/bytes.h"
#include "crash.h"
#include "fuzz.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define OPTION_BYTES 8u
#define STEP_BYTES 8u
#define MAX_STEPS 48u

struct settings settings;
struct totals totals;
const struct machine *current;

struct step {
    unsigned kind;
    uint16_t chance;
    unsigned when; /* operations left until the crash; 0: there is none to come */
    enum simdisk_cut cut;
    uint32_t choices;
};

static struct step step;

static void print_trail(const struct machine *machine)
{
    if (!machine)
        return;
    print_trail(machine->parent);
    fprintf(stderr, "  %s%s: head %" PRIu64 ", %" PRIu64 " accepted, %" PRIu64 " acknowledged; %s\n",
            machine->depth > 0 ? "image " : "", machine->depth > 0 ? simdisk_cut_name(machine->cut) : "log",
            machine->history.head, history_last(&machine->history), machine->acked,
            simdisk_last(machine->disk));
}

_Noreturn void violation(const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    print_trail(current);
    fuzz_fail("%s; in work %u with chance %u", text, step.kind, step.chance);
}

struct io *machine_connect(struct machine *machine)
{
    return simdisk_connect(machine->disk);
}

/* ---- the machine --------------------------------------------------------------------------------- */

static struct simdisk *make_disk(const unsigned char *bytes)
{
    const struct simdisk_options options = {
        .seed = bytes[0],
        .clock_ns = INT64_C(1700000000000000000),
        .has_direct = true,
        .is_barrier_narrow = (bytes[1] & 2) != 0,
    };
    return simdisk_create(&options);
}

static struct twinlog_options choose_options(const unsigned char *bytes)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.segment_bytes = bytes[2] & 1 ? 131072 : 65536;
    options.buffer_bytes = 16384 + 4096u * (bytes[2] >> 1 & 3);
    options.prepare = bytes[2] / 8 % 3;
    options.segment_records = bytes[3] % 24;
    options.flags = (bytes[4] & 1 ? TWINLOG_PAD : 0) | (bytes[4] & 2 ? TWINLOG_BUFFERED : 0) |
                    (bytes[4] & 4 ? TWINLOG_NO_RECYCLE : 0) | (bytes[4] & 8 ? TWINLOG_NO_THREAD : 0);
    options.flush_interval_ms = bytes[4] & 16 ? 1 : 0;
    switch (bytes[5] / 64) { /* one limit, so that it can be told why something was removed */
    case 1:
        options.keep_bytes = (bytes[5] % 64 + 1) * 8192u;
        break;
    case 2:
        options.keep_records = bytes[5] % 64 + 1;
        break;
    default:
        break;
    }
    return options;
}

/* Where sectors may be garbled the log pads. */
static void set_padding(struct machine *machine, const unsigned char *bytes)
{
    machine->may_garble = (bytes[4] & 33) == 33;
}

/* ---- steps --------------------------------------------------------------------------------------- */

static enum simdisk_cut possible_cut(const struct machine *machine, enum simdisk_cut cut)
{
    return cut == SIM_CUT_GARBAGE && !machine->may_garble ? SIM_CUT_MASK : cut;
}

static void crash_when_told(void *context, enum simdisk_op op)
{
    struct machine *machine = context;
    ++machine->points;
    notice_progress(machine);
    if (op == SIM_SUBMIT && machine->log && !machine->is_closing && !machine->attempt &&
        rng_one_in(&machine->rng, 3))
        enqueue_during_commit(machine);
    if (step.when > 0 && --step.when == 0)
        check_image(machine, possible_cut(machine, step.cut), step.choices);
}

static void take_step(struct machine *machine, const unsigned char *bytes)
{
    step = (struct step){ .kind = bytes[0],
                          .chance = load_le16(bytes + 1),
                          .when = bytes[3],
                          .cut = bytes[4] % CUTS,
                          .choices = load_le32(bytes + 4) >> 8 };
    machine->rng.state = rng_mix(step.chance);
    do_work(machine, step.kind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < OPTION_BYTES + STEP_BYTES)
        return 0;
    struct machine machine = { .history = history_begin(1), .options = choose_options(data) };
    size_t steps = min_u64((size - OPTION_BYTES) / STEP_BYTES, MAX_STEPS);
    machine.disk = make_disk(data);
    set_padding(&machine, data);
    expect_no_change(&machine);
    simdisk_set_hook(machine.disk, crash_when_told, &machine);
    step = (struct step){ 0 };
    current = &machine;
    open_log(&machine);
    for (size_t i = 0; i < steps; i++)
        take_step(&machine, data + OPTION_BYTES + i * STEP_BYTES);
    step = (struct step){ 0 };
    end_workload(&machine);
    current = NULL;
    return 0;
}
