/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash images: after each operation that changed a disk some are made of it, recovered and judged. Some go on: their
 * recovery is crashed again at each of its operations, or more is done with the log, and crashed again.
 */
#include "crash.h"

#include <inttypes.h>
#include <stdio.h>

/* Its records have become so large that it needs another segment at once, larger than a spare that is there. */
static bool needs_larger(const struct machine *machine)
{
    return takes_large_records(machine) && !takes_large_records(machine->parent);
}

static struct machine start_image(struct machine *parent, enum simdisk_cut cut, uint64_t seed)
{
    struct machine machine = {
        .disk = simdisk_crash_image(parent->disk, cut, seed),
        .rng = { rng_mix(seed ^ parent->rng.state) },
        .options = parent->options,
        .mood = parent->mood,
        .keeper_pace = parent->keeper_pace,
        .may_map = parent->may_map,
        .may_garble = parent->may_garble,
        .exists = parent->exists,
        .openings = parent->openings,
        .failures = parent->failures + parent->is_failing,
        .depth = parent->depth + 1,
        .cut = cut,
        .image_seed = seed,
        .parent = parent,
    };
    machine.outlooks = list_outlooks(parent, machine.outlook);
    for (unsigned i = 0; i < machine.outlooks && cut != SIM_KILL; ++i)
        machine.outlook[i].written = 0;
    machine.history = history_inherit(&parent->history, rng_next(&machine.rng));
    expect_voids(&machine, parent);
    machine.is_haunted = simdisk_has_ghost(machine.disk);
    machine.is_deep = machine.depth < MAX_DEPTH && rng_one_in(&machine.rng, machine.depth == 1 ? 24 : 64);
    if (rng_one_in(&machine.rng, 16))
        change_options(&machine);
    if (needs_larger(&machine) && machine.depth < MAX_DEPTH && rng_one_in(&machine.rng, 3))
        machine.is_deep = true;
    if (parent->is_full && rng_one_in(&machine.rng, 2))
        begin_shortage(&machine);
    if (!machine.is_deep && !machine.may_map && !rng_one_in(&machine.rng, 4))
        machine.keeper_pace =
            0; /* for speed: such a machine takes no images, which are what a keeper is for */
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
    totals.mapped_images += machine->may_map;
}

/* A recovery that dies must not change what the next one finds. Two exceptions: what a killed process left is
 * not durable, so a crash decides about it again. And a recovery that dies while it overwrites a torn group can make it
 * whole: the zeros behind its marker may be the very bytes that were garbled, or lost in a file that had another life.
 * In neither case has anybody been told yet. A log that was closed on a disk that fails is no crash. */
static bool has_one_answer(const struct machine *machine)
{
    const bool is_recovering = machine->depth > 0 && !machine->log && !machine->is_failing;
    return is_recovering && machine->cut != SIM_KILL && !machine->may_garble;
}

static bool is_made_whole(const struct machine *parent, const struct answer *found)
{
    const uint64_t known = parent->answer.last, least = min_u64(known, found->last);
    return parent->answer.is_known && !parent->answer.is_empty && !found->is_empty &&
           history_has_zeros(&parent->history, least + 1, max_u64(known, found->last));
}

static void live_on(struct machine *machine)
{
    if (takes_large_records(machine))
        append_large_record(machine);
    else if (rng_one_in(&machine->rng, 2))
        give_lost_records_again(machine);
    work(machine, 1 + rng_below(&machine->rng, 4));
    read_back(machine);
}

static void open_again(struct machine *machine)
{
    open_log(machine);
    read_back(machine);
    close_log(machine);
}

void check_image(struct machine *parent, enum simdisk_cut cut, uint64_t seed)
{
    struct machine machine = start_image(parent, cut, seed);
    current = &machine;
    count_image(&machine);
    if (rng_one_in(&machine.rng, 8))
        look_at_rest(&machine);
    if (machine.is_deep)
        simdisk_set_hook(machine.disk, crash_hook, &machine);
    open_log(&machine);
    if (has_one_answer(parent) && !is_made_whole(parent, &machine.found))
        compare_answer(parent, &machine.found, "recovery after a crash inside recovery");
    read_back(&machine);
    if (rng_one_in(&machine.rng, 8))
        try_seeks(&machine);
    if (machine.is_deep || needs_larger(&machine) || rng_one_in(&machine.rng, 16))
        live_on(&machine);
    close_log(&machine);
    if (rng_one_in(&machine.rng, 8))
        look_at_rest(&machine);
    if (rng_one_in(&machine.rng, 8))
        open_again(&machine);
    dismiss_watchers(&machine, false);
    close_queue(&machine);
    history_free(&machine.history);
    simdisk_destroy(machine.disk);
    current = parent;
}

/* Of a torn group all may be there but the zeros behind it in its last block, and then it counts. The marker
 * of the next opening goes where something else stands instead of them, in the same block: the only one of
 * a padded log that is written twice. So no sector is garbled while a log is being recovered. */
static bool may_garble_now(const struct machine *machine)
{
    const bool is_recovering = (machine->depth > 0 || machine->is_failing) && !machine->log;
    return machine->may_garble && !is_recovering;
}

static enum simdisk_cut choose_cut(struct machine *machine)
{
    static const enum simdisk_cut CUTS_OF_LOG[] = { SIM_CUT_NONE,    SIM_CUT_ALL,     SIM_KILL,
                                                    SIM_CUT_GARBAGE, SIM_CUT_GARBAGE, SIM_CUT_RANDOM,
                                                    SIM_CUT_RANDOM,  SIM_CUT_RANDOM };
    const enum simdisk_cut cut = CUTS_OF_LOG[rng_below(&machine->rng, 8)];
    return cut == SIM_CUT_GARBAGE && !may_garble_now(machine) ? SIM_CUT_RANDOM : cut;
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

static void print_point(const struct machine *machine)
{
    printf("%*s%" PRIu64 ": %s, %u choices, head %" PRIu64 ", %" PRIu64 " accepted, %" PRIu64
           " acknowledged%s\n",
           (int)machine->depth * 4, "", machine->points, simdisk_last(machine->disk),
           simdisk_choices(machine->disk), machine->history.head, history_last(&machine->history),
           machine->acked, machine->attempt ? ", in a call" : "");
}

void crash_hook(void *context, enum simdisk_op op)
{
    struct machine *machine = context;
    ++machine->points;
    ++totals.points;
    notice_progress(machine);
    if (is_passed_over(machine, op))
        return;
    if (settings.is_verbose)
        print_point(machine);
    if (op == SIM_SUBMIT && machine->log && !machine->is_closing && !machine->attempt &&
        !machine->is_failing && rng_one_in(&machine->rng, 3))
        try_to_give(machine);
    /* a reader syncs then; not its sync is to fail */
    const bool may_fail = machine->is_failing && (!machine->log || machine->keeper_pace > 0);
    if (!may_fail && rng_one_in(&machine->rng, 8))
        look_beside(machine);
    check_images(machine);
}
