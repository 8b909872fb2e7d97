/* SPDX-License-Identifier: Apache-2.0 */
/* How the life of a writer is prepared, and how it ended. */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/wait.h>

static void choose_retention(struct rng *rng, struct twinlog_options *options)
{
    switch (rng_below(rng, 4)) {
    case 0:
        options->keep_age_ms = 1 + rng_below(rng, 2000);
        break;
    case 1:
        options->keep_bytes = 1 + rng_below(rng, 4u << 20);
        break;
    default:
        options->keep_records = 1 + rng_below(rng, 2000);
    }
}

void choose_options(struct rng *rng, bool may_retain, struct twinlog_options *options)
{
    static const uint64_t segment_bytes[] = { 64u << 10, 64u << 10, 128u << 10, 1u << 20 };
    const uint64_t largest_buffer = UINT64_C(1) << 20;
    uint64_t room;

    options->segment_bytes = segment_bytes[rng_below(rng, 4)];
    room = options->segment_bytes - 8192 < largest_buffer ? options->segment_bytes - 8192 : largest_buffer;
    options->buffer_bytes = (uint32_t)(16384 + rng_below(rng, (room - 16384) / 4096 + 1) * 4096);
    options->max_record_bytes = options->buffer_bytes - 8192;
    if (options->max_record_bytes > PAYLOAD_MAX_BYTES)
        options->max_record_bytes = PAYLOAD_MAX_BYTES;
    options->spare_segments = rng_one_in(rng, 3) ? (uint32_t)rng_below(rng, 3) : 0;
    options->prepare = (uint32_t)rng_below(rng, TWINLOG_PREPARE_SPARSE + 1);
    options->flags = rng_one_in(rng, 4) ? TWINLOG_NO_RECYCLE : 0;
    if (rng_one_in(rng, 4))
        options->segment_records = 1 + rng_below(rng, 500);
    if (rng_one_in(rng, 8))
        options->segment_age_ms = 1 + rng_below(rng, 20);
    if (may_retain)
        choose_retention(rng, options);
}

static void clear(struct life *life)
{
    atomic_store(&life->is_open, false);
    atomic_store(&life->is_finished, false);
    atomic_store(&life->must_stop, false);
    atomic_store(&life->may_not_change, false);
    atomic_store(&life->is_changing, false);
    atomic_store(&life->error, 0);
    atomic_store(&life->trims, 0);
    atomic_store(&life->cuts, 0);
    atomic_store(&life->resets, 0);
    atomic_store(&life->names, 0);
    atomic_store(&life->rolls, 0);
    atomic_store(&life->recycled, 0);
    life->report = (struct twinlog_report){ 0 };
    for (uint32_t i = 0; i < life->writers; i++) {
        atomic_store(&life->notes[i].begun, 0);
        atomic_store(&life->notes[i].accepted, 0);
        atomic_store(&life->notes[i].acked, 0);
        atomic_store(&life->notes[i].durable, 0);
    }
}

/* A retention may remove what would tell whether an interrupted cut happened. So there is none where a
 * truncation may have been interrupted, and it is alone where there is one. */
void prepare_life(struct life *life, struct world *world, uint64_t name, uint32_t writers, bool is_at_once,
                  struct rng *rng)
{
    const bool may_retain = !is_at_once && !world_may_be_cut(world) && rng_one_in(rng, 3);

    life->name = name;
    life->options = (struct twinlog_options)TWINLOG_OPTIONS_INIT;
    choose_options(rng, may_retain, &life->options);
    life->options.lock_wait_ms = is_at_once ? PATIENCE_MS / 2 : 0;
    life->options.flush_interval_ms = rng_one_in(rng, 3) ? 1 + (uint32_t)rng_below(rng, 20) : 0;
    life->options.reserve_timeout_ms = PATIENCE_MS; /* a thread that has one comes back */
    life->has_committer = rng_one_in(rng, 4);
    life->writers = writers;
    life->is_retaining = may_retain;
    life->is_alone = may_retain || rng_one_in(rng, 2);
    life->has_reader = rng_one_in(rng, 3);
    life->most_lsn = WINDOW / 8;
    clear(life);
    if (may_retain)
        world_expect_retention(world, life->options.keep_records);
}

void await_open(const struct life *life, pid_t pid)
{
    const int64_t born = now_ns();

    while (!atomic_load(&life->is_open) && !await(pid, 500000))
        if (now_ns() - born > PATIENCE_MS * INT64_C(1000000))
            violation("the log was not open after %d s", PATIENCE_MS / 1000);
}

bool check_death(const struct life *life, int status)
{
    const int error = atomic_load(&life->error);

    if (error < 0)
        violation("a writer gave up: %s; %s", twinlog_strerror(error), life->report.text);
    if (WIFEXITED(status) && life->report.finding >= TWINLOG_FOUND_DAMAGE)
        violation("a writer found: %s", life->report.text);
    return WIFSIGNALED(status);
}
