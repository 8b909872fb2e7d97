/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file on a simulated disk that is truncated after every operation, and that fails at every operation.
 *
 * The states are numbered, and everything in one follows from its number: 0 is a new state, and each change
 * makes the next one, of another size, so that the file has to grow now and then. After a crash the state is
 * the last one that was acknowledged or the one that was being made; it is not older than what anybody had read
 * before; and once a change has looked at it, it stays whatever happens.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"

#include "../sim/simdisk.h"
#include "base/bytes.h"
#include "control/state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define NONE (-1) /* there is no state file */
#define UNSOUND (-2)
#define MAX_DEPTH 2u

/* A machine: the one that works, or an image of it after a crash. */
struct machine {
    struct simdisk *disk;
    struct rng rng;
    unsigned depth;
    int64_t acked;   /* a crash must not take this one */
    int64_t seen;    /* nor this one, which was read */
    int64_t offered; /* the newest that was started */
    bool had_fault;  /* after a failed sync a reader's own sync proves nothing, only a change does */
    struct io
        *living; /* of a process that makes all changes, and remembers; NULL: each is made by a new one */
    struct state_memory memory;
};

static unsigned violations;
static bool is_expected; /* the disk lies: violations are what we want */
static uint64_t images;

static void violation(const struct machine *machine, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void violation(const struct machine *machine, const char *format, ...)
{
    va_list arguments;
    if (violations++ > 0 || is_expected)
        return;
    fprintf(stderr, "state_crash: after %u crashes, at %s: ", machine->depth, simdisk_last(machine->disk));
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
}

/* ---- states by number -------------------------------------------------------------------------- */

static int make_state(struct state *state, int64_t number)
{
    unsigned char value[STATE_MAX_VALUE];

    state->header.first_sequence = (uint64_t)number / 3 + 1;
    state->header.first_lsn = (uint64_t)number + 1;
    state->header.body_bytes = 0;
    if (number == 0)
        return 0;
    struct rng rng = { rng_mix((uint64_t)number) };
    store_le64(value, (uint64_t)number);
    int rc = twl_state_put(state, STATE_CURSOR, "number", value, STATE_CURSOR_BYTES);
    for (uint64_t left = rng_one_in(&rng, 3) ? 4 + rng_below(&rng, 12) : rng_below(&rng, 3);
         rc == 0 && left > 0; left--) {
        char name[8];
        size_t size = (size_t)rng_below(&rng, sizeof(value) + 1);
        snprintf(name, sizeof(name), "%u", (unsigned)left);
        rng_fill(&rng, value, size);
        rc = twl_state_put(state, STATE_VALUE, name, value, size);
    }
    return rc;
}

/* The number of a state, or UNSOUND. */
static int64_t number_of(const struct state *state)
{
    struct state expected = { 0 };
    struct state_entry entry;
    int64_t number = 0;

    if (twl_state_find(state, STATE_CURSOR, "number", &entry))
        number = (int64_t)twl_state_cursor_lsn(&entry);
    bool is_it = make_state(&expected, number) == 0 &&
                 state->header.first_sequence == expected.header.first_sequence &&
                 state->header.first_lsn == expected.header.first_lsn &&
                 state->header.body_bytes == expected.header.body_bytes &&
                 (number == 0 || memcmp(state->body, expected.body, expected.header.body_bytes) == 0);
    twl_state_free(&expected);
    return is_it ? number : UNSOUND;
}

static int create_state(struct machine *machine)
{
    const struct state state = {
        .header = { .log_id = { 1 }, .generation = 1, .first_sequence = 1, .first_lsn = 1 }
    };
    struct io *io = simdisk_connect(machine->disk);

    if (machine->offered < 0)
        machine->offered = 0;
    int rc = twl_state_write(io, &state);
    if (rc == 0 && machine->acked < 0)
        machine->acked = 0;
    io->ops->destroy(io);
    return rc;
}

static int edit_nothing(void *context, struct state *state)
{
    *(int64_t *)context = number_of(state);
    return 0;
}

static int edit_number(void *context, struct state *state)
{
    int rc = make_state(state, *(int64_t *)context);
    return rc < 0 ? rc : 1;
}

/* `edit` gets the number, and *ret_number what it made of it. */
static int change(struct machine *machine, int (*edit)(void *context, struct state *state), int64_t number,
                  int64_t *ret_number)
{
    struct io *io = machine->living ? machine->living : simdisk_connect(machine->disk);
    int rc = machine->living ? twl_state_change_recalled(&machine->memory, io, edit, &number)
                             : twl_state_change(io, edit, &number);

    if (rc == 0)
        *ret_number = number;
    if (!machine->living)
        io->ops->destroy(io);
    return rc;
}

static int change_to(struct machine *machine, int64_t number)
{
    int64_t result;

    machine->offered = number;
    int rc = change(machine, edit_number, number, &result);
    if (rc == 0)
        machine->acked = number;
    return rc;
}

static void begin_living(struct machine *machine)
{
    machine->living = simdisk_connect(machine->disk);
    twl_state_memory_init(&machine->memory);
    machine->memory.was_asked = true;
}

static void end_living(struct machine *machine)
{
    if (!machine->living)
        return;
    twl_state_memory_free(&machine->memory);
    machine->living->ops->destroy(machine->living);
    machine->living = NULL;
}

/* ---- looking ----------------------------------------------------------------------------------- */

static int64_t read_number(struct machine *machine)
{
    struct io *io = simdisk_connect(machine->disk);
    struct twinlog_report report;
    struct state state = { 0 };
    int64_t number = NONE;
    int rc = twl_state_read(io, &state, &report);

    if (rc == 0)
        number = number_of(&state);
    else if (rc != -ENOENT)
        violation(machine, "reading failed: %s: %s", twinlog_strerror(rc), report.text);
    twl_state_free(&state);
    io->ops->destroy(io);
    return number;
}

static void check_number(const struct machine *machine, int64_t number, const char *name)
{
    if (number == UNSOUND)
        violation(machine, "%s found a state that was never made", name);
    else if (number < machine->acked || number > machine->offered)
        violation(machine, "%s found state %" PRId64 "; acknowledged was %" PRId64 ", offered %" PRId64, name,
                  number, machine->acked, machine->offered);
    else if (number < machine->seen)
        violation(machine, "%s found state %" PRId64 "; somebody had read %" PRId64, name, number,
                  machine->seen);
}

/* What would never be lost: a power cut now, and nothing that was not synced. */
static void check_durable(struct machine *machine, int64_t number, const char *name)
{
    struct machine image = { .disk = simdisk_crash_image(machine->disk, SIM_CUT_NONE, 0),
                             .depth = machine->depth + 1 };
    int64_t found = read_number(&image);

    if (found != number)
        violation(machine, "%s had state %" PRId64 ", a power cut left %" PRId64, name, number, found);
    simdisk_destroy(image.disk);
}

CASE("crashes", NULL, NULL);

static void crash_hook(void *context, enum simdisk_op op);

/* The next run of a machine. */
static void live_on(struct machine *machine)
{
    /* Without a reader in front nothing has synced what is found. */
    if (machine->acked >= 0 && machine->depth < MAX_DEPTH && rng_one_in(&machine->rng, 8)) {
        int64_t found = NONE;
        simdisk_set_hook(machine->disk, crash_hook, machine);
        const int first = change(machine, edit_nothing, 0, &found);
        simdisk_set_hook(machine->disk, NULL, NULL);
        if (first < 0)
            violation(machine, "a change as the first thing after the crash failed: %s",
                      twinlog_strerror(first));
        else
            check_number(machine, found, "a change as the first thing after the crash");
        return;
    }
    int64_t number = read_number(machine), result = NONE;
    check_number(machine, number, "a reader after the crash");
    if (number < 0)
        return;
    if (!machine->had_fault)
        machine->seen = number;
    if (!machine->had_fault && rng_one_in(&machine->rng, 3))
        check_durable(machine, number, "a reader after the crash");
    if (machine->depth < MAX_DEPTH && rng_one_in(&machine->rng, 16))
        simdisk_set_hook(machine->disk, crash_hook, machine);
    int rc = change(machine, edit_nothing, 0, &result);
    if (rc < 0)
        violation(machine, "an edit after the crash failed: %s", twinlog_strerror(rc));
    if (result != number)
        violation(machine, "an edit found state %" PRId64 ", a reader %" PRId64, result, number);
    machine->acked = number;
    check_durable(machine, number, "an edit after the crash");
    rc = change_to(machine, number + 1);
    if (rc < 0)
        violation(machine, "a change after the crash failed: %s", twinlog_strerror(rc));
    check_durable(machine, number + 1, "a change after the crash");
}

static void check_image(struct machine *parent, enum simdisk_cut cut, uint64_t seed)
{
    struct machine image = *parent;

    image.disk = simdisk_crash_image(parent->disk, cut, seed);
    image.rng.state = rng_mix(seed ^ parent->rng.state);
    image.depth = parent->depth + 1;
    image.living = NULL; /* it has died, and so has what it remembered */
    /* where a sector may hold anything once it is being overwritten, a recovery that is interrupted can lose what
     * was read but never acknowledged */
    if (cut == SIM_CUT_GARBAGE && parent->depth > 0)
        image.seen = image.acked;
    images++;
    live_on(&image);
    simdisk_destroy(image.disk);
}

static void crash_hook(void *context, enum simdisk_op op)
{
    struct machine *machine = context;
    const unsigned choices = simdisk_choices(machine->disk);

    (void)op;
    check_image(machine, SIM_CUT_NONE, rng_next(&machine->rng));
    check_image(machine, SIM_CUT_ALL, rng_next(&machine->rng));
    check_image(machine, SIM_KILL, rng_next(&machine->rng));
    for (unsigned i = 0; i < 3 && choices > 0; i++)
        check_image(machine, SIM_CUT_RANDOM, rng_next(&machine->rng));
    check_image(machine, SIM_CUT_GARBAGE, rng_next(&machine->rng));
    for (uint64_t mask = 0; choices <= 4 && mask < UINT64_C(1) << choices; mask++)
        check_image(machine, SIM_CUT_MASK, mask);
    if (!rng_one_in(&machine->rng, 3))
        return;
    int64_t number = read_number(machine);
    check_number(machine, number, "a reader beside the change");
    if (!machine->had_fault)
        machine->seen = number;
}

static struct machine start(uint64_t seed)
{
    struct machine machine = { .rng = { rng_mix(seed) }, .acked = NONE, .seen = NONE, .offered = NONE };
    const struct simdisk_options options = { .seed = rng_next(&machine.rng), .has_direct = true };
    machine.disk = simdisk_create(&options);
    return machine;
}

/* What the process that changes the state remembers of it is what everybody finds. */
static void check_memory(struct machine *machine)
{
    struct state state = { 0 };

    if (!machine->living)
        return;
    if (twl_state_recall(&machine->memory, machine->living, &state) == 0)
        check_number(machine, number_of(&state), "the process that changes the state");
    else
        violation(machine, "a state that is remembered cannot be read");
    twl_state_free(&state);
}

static void work(uint64_t seed, int lie, bool remembers)
{
    struct machine machine = start(seed);

    if (remembers)
        begin_living(&machine);
    if (lie >= 0)
        simdisk_lie(machine.disk, (enum simdisk_op)lie);
    simdisk_set_hook(machine.disk, crash_hook, &machine);
    int rc = create_state(&machine);
    for (int64_t number = 1 + (int64_t)rng_below(&machine.rng, 50); rc == 0 && number < 57; number += 7) {
        rc = change_to(&machine, number);
        check_memory(&machine);
    }
    if (rc < 0)
        violation(&machine, "a healthy disk: %s", twinlog_strerror(rc));
    end_living(&machine);
    simdisk_destroy(machine.disk);
}

static const struct process_row {
    const char *name;
    bool remembers;
    uint64_t least_faults; /* system calls of a change that can fail and then end it */
} process_rows[] = {
    { .name = "a process that changes the state once",
      .least_faults = 9 /* open, lock, links, size, read, 2 writes, 2 syncs */ },
    { .name = "a process that remembers the state",
      .remembers = true,
      .least_faults = 6 /* lock, links, 2 reads, 2 writes, 2 syncs; a failed read is no error */ },
};

TEST_EACH(a_crash_leaves_the_old_state_or_the_new_one, process_rows)
{
    const uint64_t seed = test_seed();

    for (uint64_t i = 0; i < 6 && violations == 0; i++)
        work(seed + i, -1, row->remembers);
    ck_assert_uint_eq(violations, 0);
    ck_assert_uint_gt(images, 500);
}

static const struct lie_row {
    const char *name;
    enum simdisk_op lie;
} lie_rows[] = {
    { "a sync of the file does nothing", SIM_SYNC },
    { "a sync of the directory does nothing", SIM_SYNC_DIR },
};

TEST_EACH(a_disk_that_lies_is_found_out, lie_rows)
{
    is_expected = true;
    for (uint64_t seed = 1; seed < 20 && violations == 0; seed++)
        work(seed, (int)row->lie, false);
    ck_assert_uint_gt(violations, 0);
}

CASE("faults", NULL, NULL);

static void inject(struct machine *machine, enum simdisk_op op, uint64_t nth, int error, bool is_forever)
{
    const struct simdisk_fault fault = { .op = op, .nth = nth, .error = error, .is_forever = is_forever };
    simdisk_inject(machine->disk, &fault);
}

/* After a fault the disk is healthy again: the state is the old one or the new one, for good. */
static void check_after_fault(struct machine *machine)
{
    static const enum simdisk_cut cuts[] = { SIM_CUT_NONE, SIM_CUT_ALL, SIM_CUT_RANDOM, SIM_CUT_RANDOM,
                                             SIM_KILL };

    machine->had_fault = true;
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++)
        check_image(machine, cuts[i], rng_next(&machine->rng));
    int64_t number = NONE, result = NONE;
    bool is_read = rng_one_in(&machine->rng, 2); /* which syncs */
    if (is_read)
        number = read_number(machine);
    simdisk_set_hook(machine->disk, crash_hook, machine);
    int rc = change(machine, edit_nothing, 0, &result);
    simdisk_set_hook(machine->disk, NULL, NULL);
    if (rc < 0)
        violation(machine, "an edit after the fault failed: %s", twinlog_strerror(rc));
    if (is_read && number != result)
        violation(machine, "after the fault a reader found state %" PRId64 ", an edit %" PRId64, number,
                  result);
    check_number(machine, result, "an edit after the fault");
    check_durable(machine, result, "an edit after the fault");
    machine->acked = result;
    rc = change_to(machine, 60);
    if (rc < 0)
        violation(machine, "a change after the fault failed: %s", twinlog_strerror(rc));
    check_durable(machine, 60, "a change after the fault");
}

/* A change from state `from` to `to` in which one operation fails, or that one and all later ones of its kind;
 * false if there are fewer operations. */
static bool fail_once(uint64_t seed, int64_t from, int64_t to, enum simdisk_op op, uint64_t nth,
                      bool is_forever, bool remembers)
{
    struct machine machine = start(seed);

    if (remembers)
        begin_living(&machine);
    int rc = create_state(&machine);
    if (rc == 0)
        rc = change_to(&machine, from);
    ck_assert_int_eq(rc, 0);
    machine.seen = from;
    inject(&machine, op, nth, -EIO, is_forever);
    rc = change_to(&machine, to);
    bool has_failed = simdisk_faults(machine.disk) > 0;
    simdisk_inject(machine.disk, NULL);
    const bool may_be_passed_over = remembers && op != SIM_WRITE && op != SIM_SYNC && op != SIM_LOCK;
    if (rc != 0 || !may_be_passed_over) /* what cannot be remembered is no error */
        ck_assert_int_eq(rc, has_failed ? -EIO : 0);
    check_after_fault(&machine);
    check_memory(&machine);
    end_living(&machine);
    simdisk_destroy(machine.disk);
    return has_failed;
}

/* The number of a state with a body so large at least or at most. */
static int64_t find_number(size_t least, size_t most)
{
    for (int64_t number = 1; number < 50; number++) {
        struct state state = { 0 };
        ck_assert_int_eq(make_state(&state, number), 0);
        size_t bytes = state.header.body_bytes;
        twl_state_free(&state);
        if (bytes >= least && bytes <= most)
            return number;
    }
    ck_abort_msg("no state of that size");
}

static uint64_t fail_everywhere(int64_t from, int64_t to, bool remembers)
{
    uint64_t seed = test_seed(), points = 0;

    while (fail_once(seed + points, from, to, SIM_ANY, points + 1, false, remembers))
        points++;
    for (enum simdisk_op op = 0; op < SIM_OPS; op++)
        for (uint64_t nth = 1; fail_once(seed + nth, from, to, op, nth, true, remembers); nth++)
            continue;
    return points;
}

TEST_EACH(a_fault_anywhere_leaves_the_old_state_or_the_new_one, process_rows)
{
    const int64_t small = find_number(100, 9000);

    ck_assert_uint_ge(fail_everywhere(small, small + 50, row->remembers), row->least_faults);
    ck_assert_uint_eq(violations, 0);
}

TEST_EACH(a_fault_anywhere_while_the_file_grows_leaves_the_old_state_or_the_new_one, process_rows)
{
    const int64_t small = find_number(100, 9000), large = find_number(20000, 100000);

    ck_assert_uint_ge(fail_everywhere(small, large, row->remembers), 12);
    ck_assert_uint_eq(violations, 0);
}

TEST(a_fault_anywhere_in_the_making_leaves_no_state_or_an_empty_one)
{
    uint64_t seed = test_seed();
    bool has_failed = true;
    uint64_t nth;

    for (nth = 1; has_failed; nth++) {
        struct machine machine = start(seed + nth);
        inject(&machine, SIM_ANY, nth, -EIO, false);
        int rc = create_state(&machine);
        has_failed = simdisk_faults(machine.disk) > 0;
        simdisk_inject(machine.disk, NULL);
        ck_assert_int_eq(rc, has_failed ? -EIO : 0);
        int64_t number = read_number(&machine);
        check_number(&machine, number, "a reader after the fault");
        ck_assert_int_eq(create_state(&machine), 0);
        check_durable(&machine, 0, "the second attempt");
        check_after_fault(&machine);
        simdisk_destroy(machine.disk);
    }
    ck_assert_uint_gt(nth, 9);
    ck_assert_uint_eq(violations, 0);
}

TEST(a_fault_while_reading_is_an_error_and_no_damage)
{
    struct machine machine = start(test_seed());

    ck_assert_int_eq(create_state(&machine), 0);
    ck_assert_int_eq(change_to(&machine, 5), 0);
    struct io *io = simdisk_connect(machine.disk);
    uint64_t nth = 1;
    for (;; nth++) {
        struct twinlog_report report = { 0 };
        struct state state = { 0 };
        inject(&machine, SIM_ANY, nth, -EIO, false);
        uint64_t faults = simdisk_faults(machine.disk);
        int rc = twl_state_read(io, &state, &report);
        bool has_failed = simdisk_faults(machine.disk) > faults;
        simdisk_inject(machine.disk, NULL);
        ck_assert_int_eq(rc, has_failed ? -EIO : 0);
        ck_assert_uint_eq(report.finding, has_failed ? TWINLOG_FOUND_SYSTEM_ERROR : TWINLOG_FOUND_NOTHING);
        if (!has_failed)
            ck_assert_int_eq(number_of(&state), 5);
        twl_state_free(&state);
        if (!has_failed)
            break;
    }
    ck_assert_uint_eq(nth, 5); /* open, size, read each slot */
    io->ops->destroy(io);
    simdisk_destroy(machine.disk);
}

TEST(a_full_disk_refuses_to_grow_and_keeps_the_state)
{
    struct machine machine = start(test_seed());
    int64_t small = find_number(100, 9000), large = find_number(20000, 100000);

    ck_assert_int_eq(create_state(&machine), 0);
    ck_assert_int_eq(change_to(&machine, small), 0);
    inject(&machine, SIM_ALLOCATE, 1, -ENOSPC, true);
    ck_assert_int_eq(change_to(&machine, large), -ENOSPC);
    ck_assert_int_eq(read_number(&machine), small);
    check_durable(&machine, small, "the refused change");
    ck_assert_msg(change_to(&machine, small + 50) == 0, "what fits needs no space");
    simdisk_inject(machine.disk, NULL);
    ck_assert_int_eq(change_to(&machine, large), 0);
    ck_assert_int_eq(read_number(&machine), large);
    ck_assert_uint_eq(violations, 0);
    simdisk_destroy(machine.disk);
}

TEST(a_wait_too_long_for_another_change_gives_up)
{
    struct machine machine = start(test_seed());

    ck_assert_int_eq(create_state(&machine), 0);
    struct io *other = simdisk_connect(machine.disk);
    struct io_file *file;
    int64_t before = simdisk_clock(machine.disk);
    ck_assert_int_eq(io_open(other, STATE_NAME, 0, &file), 0);
    ck_assert_int_eq(io_lock(file, IO_LOCK_WRITER, true), 0);
    ck_assert_int_eq(change_to(&machine, 1), -EBUSY);
    ck_assert_int_ge(simdisk_clock(machine.disk) - before, INT64_C(30000000000));
    ck_assert_msg(read_number(&machine) == 0, "a reader needs no lock");
    io_close(file);
    ck_assert_int_eq(change_to(&machine, 1), 0);
    other->ops->destroy(other);
    simdisk_destroy(machine.disk);
}
