/* SPDX-License-Identifier: Apache-2.0 */
/* What is done on the disk that fails, and afterwards on one that does not. */
#include "faults.h"

/* ---- the scripts --------------------------------------------------------------------------------- */

void use_log(struct run *run)
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

void script_of_appends(struct run *run)
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

static void append_records(struct run *run, unsigned count)
{
    for (unsigned i = 0; i < count; ++i)
        append_record(run, 1000);
}

/* Segments of a few records, so that some are retired and get another life. */
void script_of_removals(struct run *run)
{
    open_log(run);
    append_records(run, 10);
    set_cursor(run, 0, 3);
    trim_log(run, 8, 0);
    trim_log(run, 8, TWINLOG_TRIM_PAST_CURSORS);
    append_records(run, 3);
    enqueue_record(run);
    truncate_log(run, history_last(&run->history) - 2);
    append_records(run, 2);
    truncate_log(run, run->history.head + 1);
    append_records(run, 2);
    seek_around(run);
    close_log(run);
    list_log(run);
    verify_log(run);
    open_log(run);
    reset_log(run, history_last(&run->history) + 5);
    append_records(run, 2);
    read_outside(run);
    trim_log(run, history_last(&run->history) + 1, TWINLOG_TRIM_PAST_CURSORS);
    append_record(run, 100);
    read_attached(run);
    close_log(run);
}

/* Enough of them for a larger state file. */
void script_of_names(struct run *run)
{
    set_value_outside(run, 5, 10);
    open_log(run);
    append_records(run, 2);
    set_cursor(run, 1, 1);
    for (unsigned name = 0; name < 4; ++name)
        set_value(run, name, TWINLOG_META_BYTES);
    set_value_outside(run, 4, 100);
    set_cursor(run, 1, 2);
    remove_name(run, CURSOR_NAMES + 1);
    close_log(run);
    set_value_outside(run, 4, 0);
    open_log(run);
    remove_name(run, 1);
    set_value(run, 0, 1);
    close_log(run);
}

void script_of_copies(struct run *run)
{
    open_log(run);
    append_records(run, 8);
    enqueue_record(run);
    set_value(run, 1, 100);
    back_up(run);
    append_record(run, 100);
    close_log(run);
    if (!run->target)
        back_up(run);
}

/* ---- afterwards, on a healthy disk --------------------------------------------------------------- */

/* The next opening may be made in another way. */
static void change_ways(struct run *run)
{
    run->options.flags &= ~(uint32_t)(TWINLOG_BUFFERED | TWINLOG_PAD);
    if (rng_one_in(&run->rng, 2))
        run->options.flags |= TWINLOG_BUFFERED;
    if (rng_one_in(&run->rng, 4))
        run->options.flags |= TWINLOG_PAD;
}

/* In the opening behind a crash, at about one operation in eight. */
static void crash_again(void *context, enum simdisk_op op)
{
    struct run *run = context;

    (void)op;
    if (!rng_one_in(&run->rng, 8))
        return;

    const uint64_t seed = rng_next(&run->rng);
    const bool is_kill = rng_one_in(&run->rng, 2);
    struct simdisk *image = simdisk_crash_image(run->disk, is_kill ? SIM_KILL : SIM_CUT_RANDOM, seed);
    run->is_second_crash = true;
    check_recovery(run, image, "opened after a second crash");
    run->is_second_crash = false;
    simdisk_destroy(image);
}

/* What is known of the run, but that a crash or a failure has come, and the log is closed. */
static struct run start_after(const struct run *run, struct simdisk *disk, const char *stage)
{
    struct run after = *run;
    after.stage = stage;
    after.disk = disk;
    after.target = NULL;
    after.rng.state = rng_mix(run->rng.state);
    after.log = NULL;
    after.history = history_inherit(&run->history, run->rng.state);
    after.is_poisoned = false;
    after.has_barrier_failed = false;
    return after;
}

/* What was acknowledged by the opening, and by the calls behind it, is there after a power cut. */
static void check_power_cut(struct run *after)
{
    struct simdisk *image = simdisk_crash_image(after->disk, SIM_CUT_NONE, 0);

    after->disk = image;
    after->is_cut_again = true;
    change_ways(after);
    open_log(after);
    read_attached(after);
    close_log(after);
    simdisk_destroy(image);
}

void check_recovery(const struct run *run, struct simdisk *disk, const char *stage)
{
    const struct run *before = current;
    struct run after = start_after(run, disk, stage);
    change_ways(&after);
    current = &after;
    ++recovered_disks;

    if (!run->is_second_crash)
        simdisk_set_hook(disk, crash_again, &after);
    open_log(&after);
    simdisk_set_hook(disk, NULL, NULL);

    acknowledge(&after, history_last(&after.history), "open");
    read_attached(&after);
    append_record(&after, 500);
    enqueue_record(&after);
    close_log(&after);

    check_power_cut(&after);
    history_free(&after.history);
    current = before;
}
