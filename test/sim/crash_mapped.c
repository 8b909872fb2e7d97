/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logs that are written through a mapping, by one process. What it stores are writes without an operation, so each
 * named place of the library (base/point.h) is one: there the keeper may go on, and crash images are taken.
 *
 * A record is written when the call returns, and durable after a sync. A crash may leave a filler in the place of
 * one that is neither: the log says which when it is opened. Some openings are in the durable mode.
 */
#define _GNU_SOURCE
#include "crash.h"
#include "crash_sink.h"

#include <errno.h>

#define DURABLE_ONE_IN 8u /* openings */
#define STORES_ONE_IN 4u  /* have images */

void twl_point(const char *name);
int __wrap_msync(void *bytes, size_t size, int flags);

void twl_point(const char *name)
{
    if (current)
        simdisk_notice_stores(current->disk, name);
    else if (sink_disk)
        simdisk_notice_stores(sink_disk, name);
}

int __wrap_msync(void *bytes, size_t size, int flags)
{
    (void)flags;
    const int error = simdisk_sync_pages(current->disk, bytes, size);
    if (error == 0)
        return 0;
    errno = -error;
    return -1;
}

/* Some keepers are so slow that several segments are open. */
static unsigned choose_pace(struct rng *rng)
{
    const bool is_quick = rng_one_in(rng, 2);
    return 1 + (unsigned)rng_below(rng, is_quick ? 8 : 200);
}

void choose_mapping(struct machine *machine)
{
    machine->may_map = true;
    machine->may_garble = false; /* a mapped log does not pad */
    if (machine->keeper_pace == 0)
        machine->keeper_pace = choose_pace(&machine->rng);
    machine->options.flush_interval_ms = 0; /* there is no thread for it */
    machine->options.keep_bytes = 0;        /* files get shorter, so what was there is not known afterwards */
}

void choose_mode(struct machine *machine)
{
    machine->is_mapped = machine->may_map && !rng_one_in(&machine->rng, DURABLE_ONE_IN);
    machine->options.mode = machine->is_mapped ? TWINLOG_MODE_MAPPED : TWINLOG_MODE_DURABLE;
}

bool is_passed_over(struct machine *machine, enum simdisk_op op)
{
    return op == SIM_STORE && !rng_one_in(&machine->rng, STORES_ONE_IN);
}

uint64_t visible_lsn(const struct machine *machine)
{
    if (machine->is_mapped)
        return twinlog_written_lsn(machine->log);
    return twinlog_durable_lsn(machine->log);
}

/* Of a record in a call: the place, which shows in the last LSN a little later. */
static void expect_claim(struct machine *machine, const struct history *history)
{
    history_accept(&machine->history, history_copy_fact(&history->offer[0]));
    for (unsigned i = 0; i < machine->outlooks; ++i)
        ++machine->outlook[i].most;
}

void expect_voids(struct machine *machine, const struct machine *writer)
{
    struct history *history = &machine->history;

    if (!writer->log) { /* somebody has looked since, and what was seen stays */
        if (history->open_from > 0)
            history->open_from = max_u64(history->open_from, writer->acked + 1);
        return;
    }
    if (!writer->is_mapped) {
        history->open_from = 0;
        return;
    }
    history->open_from = writer->acked + 1;
    if (writer != machine && writer->history.offers > 0)
        expect_claim(machine, &writer->history);
}

void settle_voids(struct machine *machine, struct twinlog *log, uint64_t head, uint64_t last)
{
    struct twinlog_reader_options options = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader = NULL;
    if (machine->history.open_from == 0)
        return;

    options.from_lsn = head;
    machine->is_watching = true; /* the keeper moves no head meanwhile */
    const int result = twinlog_reader_attach(log, &options, &reader);
    if (result < 0)
        violation("attaching a reader failed: %s", twinlog_strerror(result));
    history_settle_voids(&machine->history, reader, head, last);
    twinlog_reader_close(reader);
    machine->is_watching = false;
}
