/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that fails, in the life of a machine: a write or a sync returns an error, the log is poisoned, and the
 * application closes it and opens it again. The machine goes on, and with it its page cache, which may show what is
 * not on the disk. The power may go at any moment, then or later.
 *
 * What was accepted and not acknowledged is there after that, or it is not: it may have been lost although it was
 * written. What was acknowledged is there.
 */
#include "crash.h"

#include <inttypes.h>

#define MOST_CALLS 12u

/* One operation fails, or all of its kind from then on. */
static void begin_failure(struct machine *machine, uint64_t most)
{
    static const enum simdisk_op OPS[] = { SIM_GROUP_WRITE, SIM_BARRIER, SIM_WRITE, SIM_SYNC };
    struct simdisk_fault failure = { .error = -EIO };
    struct rng *rng = &machine->rng;

    failure.op = OPS[rng_below(rng, 4)];
    failure.nth = 1 + rng_below(rng, most);
    failure.is_forever = rng_one_in(rng, 2);
    simdisk_inject(machine->disk, &failure);
}

bool has_failed(const struct machine *machine)
{
    return machine->is_failing && simdisk_faults(machine->disk) > machine->faults;
}

static void expect_failure(const struct machine *machine, int result, const char *call)
{
    const bool is_honest = result == 0 || result == -EIO || result == TWINLOG_EPOISONED;
    if (!is_honest || (result < 0 && !has_failed(machine)))
        violation("%s, on a disk that fails, returned %s", call, twinlog_strerror(result));
}

/* False when the log tells of the failure. */
static bool give_record(struct machine *machine)
{
    const bool is_append = rng_one_in(&machine->rng, 2);
    const struct fact fact = history_make(&machine->history, machine->disk, &machine->rng, 3000);
    uint64_t lsn = UINT64_MAX;
    history_offer(&machine->history, fact);

    int result;
    if (is_append)
        result = twinlog_append(machine->log, fact.data, fact.size, &lsn);
    else
        result = twinlog_enqueue(machine->log, fact.data, fact.size, &lsn);
    const bool is_accepted = lsn != 0;
    const uint64_t expected = history_settle(&machine->history, is_accepted);
    expect_failure(machine, result, "a record");
    if (lsn != expected)
        violation("O2: a record got LSN %" PRIu64 ", next was %" PRIu64, lsn, expected);
    if (result == 0 && is_append && !machine->is_mapped)
        acknowledge(machine, lsn);
    notice_progress(machine);
    return result == 0;
}

static bool sync_log(struct machine *machine)
{
    const uint64_t last = twinlog_last_lsn(machine->log);
    const int result = twinlog_sync(machine->log);
    expect_failure(machine, result, "a sync");
    if (result == 0)
        acknowledge(machine, last);
    notice_progress(machine);
    return result == 0;
}

/* The application goes on appending until it is told. */
static void append_until_told(struct machine *machine)
{
    bool works = true;
    for (uint64_t left = 1 + rng_below(&machine->rng, MOST_CALLS); works && left > 0; --left) {
        const bool is_sync = rng_one_in(&machine->rng, 5);
        if (is_sync)
            works = sync_log(machine);
        else
            works = give_record(machine);
    }
    if (rng_one_in(&machine->rng, 8)) /* it did not listen */
        give_record(machine);
}

static void close_failing(struct machine *machine)
{
    dismiss_watchers(machine, !machine->is_mapped); /* the others have seen what may be lost */

    machine->is_closing = true;
    const int result = twinlog_close(machine->log);
    expect_voids(machine, machine);
    machine->log = NULL;
    machine->is_closing = false;
    expect_failure(machine, result, "close");

    if (result == 0) {
        machine->acked = history_last(&machine->history);
        machine->history.open_from = 0;
    }
    machine->written = machine->acked;
    expect_no_less(machine);
}

static void count_failure(struct machine *machine)
{
    if (has_failed(machine))
        ++machine->failures;
}

/* The log is used on a disk that fails, and closed. */
static void live_with_failure(struct machine *machine)
{
    machine->is_failing = true;
    machine->faults = simdisk_faults(machine->disk);
    begin_failure(machine, 6);
    append_until_told(machine);
    if (rng_one_in(&machine->rng, 2)) /* or the disk still fails when the log is closed */
        simdisk_inject(machine->disk, NULL);
    close_failing(machine);
    begin_to_count_again(machine); /* what was only written may be lost, and its LSNs come again */

    simdisk_inject(machine->disk, NULL);
    count_failure(machine);
    if (has_failed(machine))
        ++totals.failures;
}

/* The log is opened again, and the disk may fail once more meanwhile. */
static void open_after_failure(struct machine *machine)
{
    machine->faults = simdisk_faults(machine->disk);
    if (rng_one_in(&machine->rng, 4))
        begin_failure(machine, 12);
    if (rng_one_in(&machine->rng, 3))
        change_options(machine);
    open_log(machine);

    simdisk_inject(machine->disk, NULL);
    count_failure(machine);
    machine->is_failing = false;
}

void fail_log(struct machine *machine)
{
    if (machine->is_full)
        end_shortage(machine);
    if (!machine->is_mapped) /* which takes none */
        finish_requests(machine);

    live_with_failure(machine);
    if (rng_one_in(&machine->rng, 4))
        look_at_rest(machine);
    open_after_failure(machine);
}
