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

/* What the image's log may be found as. After a power cut it need not have what was only written. */
static void take_outlooks(struct machine *machine)
{
    machine->outlooks = list_outlooks(machine->parent, machine->outlook);
    if (machine->cut == SIM_KILL)
        return;
    for (unsigned i = 0; i < machine->outlooks; ++i)
        machine->outlook[i].written = 0;
}

/* Some images crash again. */
static bool choose_depth(struct machine *machine)
{
    if (machine->depth == MAX_DEPTH)
        return false;
    return rng_one_in(&machine->rng, machine->depth == 1 ? 24 : 64);
}

/* What is different from the machine that crashed. */
static void choose_life(struct machine *machine)
{
    machine->is_deep = choose_depth(machine);
    if (rng_one_in(&machine->rng, 16))
        change_options(machine);
    if (needs_larger(machine) && machine->depth < MAX_DEPTH && rng_one_in(&machine->rng, 3))
        machine->is_deep = true;
    if (machine->parent->is_full && rng_one_in(&machine->rng, 2))
        begin_shortage(machine);

    /* For speed: a machine that takes no images needs no keeper, for which they are. */
    const bool needs_keeper = machine->is_deep || machine->may_map;
    if (!needs_keeper && !rng_one_in(&machine->rng, 4))
        machine->keeper_pace = 0;
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
        .failures = parent->failures,
        .depth = parent->depth + 1,
        .cut = cut,
        .image_seed = seed,
        .parent = parent,
    };
    if (parent->is_failing)
        ++machine.failures;

    take_outlooks(&machine);
    machine.history = history_inherit(&parent->history, rng_next(&machine.rng));
    expect_voids(&machine, parent);
    machine.is_haunted = simdisk_has_ghost(machine.disk);
    choose_life(&machine);
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
    if (machine->is_haunted)
        ++totals.ghosts;
    if (machine->may_map)
        ++totals.mapped_images;
}

/* Is the machine recovering? A recovery that dies must not change what the next one finds. A log that was closed on a
 * disk that fails is no crash. Two exceptions, in which nobody has been told yet:
 *
 *  - What a killed process left is not durable, so a crash decides about it again.
 *  - A recovery that dies while it overwrites a torn group can make it whole: the zeros behind its marker may be the
 *    very bytes that were garbled, or lost in a file that had another life.
 */
static bool has_one_answer(const struct machine *machine)
{
    const bool is_recovering = machine->depth > 0 && !machine->log && !machine->is_failing;
    if (!is_recovering)
        return false;
    return machine->cut != SIM_KILL && !machine->may_garble;
}

/* The second exception: between the two ends there is a record with zeros. */
static bool is_made_whole(const struct machine *parent, const struct answer *found)
{
    const struct answer *known = &parent->answer;
    if (!known->is_known || known->is_empty || found->is_empty)
        return false;

    const uint64_t least = min_u64(known->last, found->last), most = max_u64(known->last, found->last);
    return history_has_zeros(&parent->history, least + 1, most);
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

/* Opens the image, which is recovered, and reads it. */
static void recover(struct machine *parent, struct machine *machine)
{
    open_log(machine);
    if (has_one_answer(parent) && !is_made_whole(parent, &machine->found))
        compare_answer(parent, &machine->found, "recovery after a crash inside recovery");
    read_back(machine);
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

    recover(parent, &machine);
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
    if (cut == SIM_CUT_GARBAGE && !may_garble_now(machine))
        return SIM_CUT_RANDOM;
    return cut;
}

/* Every combination of what may have happened. */
static void check_all_images(struct machine *machine, unsigned choices)
{
    for (uint64_t mask = 0; mask < UINT64_C(1) << choices; ++mask)
        check_image(machine, SIM_CUT_MASK, mask);
}

/* Everything is synced, so a power cut and a kill leave the same files. */
static void check_plain_image(struct machine *machine)
{
    const uint64_t seed = rng_next(&machine->rng);
    const bool is_kill = rng_one_in(&machine->rng, 4);
    check_image(machine, is_kill ? SIM_KILL : SIM_CUT_NONE, seed);
}

static void check_random_image(struct machine *machine)
{
    const uint64_t seed = rng_next(&machine->rng);
    const enum simdisk_cut cut = choose_cut(machine);
    check_image(machine, cut, seed);
}

/* All images are made where there are few, more often than where there are many. */
static bool takes_all_images(struct machine *machine, unsigned choices)
{
    if (machine->depth > 0)
        return false;
    return rng_one_in(&machine->rng, choices <= 5 ? 4 : 400) && choices <= 12;
}

static void check_images(struct machine *machine)
{
    const unsigned choices = simdisk_choices(machine->disk);

    if (choices == 0) {
        check_plain_image(machine);
        return;
    }
    if (takes_all_images(machine, choices)) {
        check_all_images(machine, choices);
        return;
    }
    const unsigned images = machine->depth == 0 ? 4 : 1;
    for (unsigned i = 0; i < images; ++i)
        check_random_image(machine);
}

static void print_point(const struct machine *machine)
{
    printf("%*s%" PRIu64 ": %s, %u choices, head %" PRIu64 ", %" PRIu64 " accepted, %" PRIu64
           " acknowledged%s\n",
           (int)machine->depth * 4, "", machine->points, simdisk_last(machine->disk),
           simdisk_choices(machine->disk), machine->history.head, history_last(&machine->history),
           machine->acked, machine->attempt ? ", in a call" : "");
}

/* Another thread of the process may append while a commit is in progress, of a call that changes nothing else. */
static bool may_give_meanwhile(const struct machine *machine, enum simdisk_op op)
{
    const bool is_in_commit = op == SIM_SUBMIT && machine->log && !machine->is_closing;
    return is_in_commit && !machine->attempt && !machine->is_failing;
}

/* A reader that looks syncs what it has seen, and it is not its sync that is to fail. */
static bool may_look(const struct machine *machine)
{
    if (!machine->is_failing)
        return true;
    return machine->log && machine->keeper_pace == 0;
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

    if (may_give_meanwhile(machine, op) && rng_one_in(&machine->rng, 3))
        try_to_give(machine);
    if (may_look(machine) && rng_one_in(&machine->rng, 8))
        look_beside(machine);
    check_images(machine);
}
