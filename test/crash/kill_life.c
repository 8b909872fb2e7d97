/* SPDX-License-Identifier: Apache-2.0 */
/* How the life of a writer is prepared, how it ended, and what is counted of all. */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define LARGE_LOG_BYTES (6u << 20)
#define LARGE_LOG_RECORDS (WINDOW / 8)

struct lives lives;

static const char *const io_names[IO_KINDS] = { "auto", "uring", "uring-linked", "dsync", "fdatasync" };

/* ---- the log ----------------------------------------------------------------------------------- */

static bool try_path(int io, bool is_buffered)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    int result;

    options.io = (uint32_t)io;
    options.flags = is_buffered ? TWINLOG_BUFFERED : 0;
    result = twinlog_open(place.log, &options, &log);
    if (result == 0)
        result = twinlog_close(log);
    if (result < 0 && result != -ENOTSUP)
        violation("the log cannot be opened and closed with %s: %s", io_names[io], twinlog_strerror(result));
    if (result < 0)
        printf("SKIP %s %s, %s: %s\n", place.program, io_names[io], is_buffered ? "buffered" : "direct",
               twinlog_strerror(result));
    return result == 0;
}

void begin_lives(void (*forget)(void))
{
    unsigned usable = 0;

    lives.book.digest = map_shared(WINDOW * sizeof(*lives.book.digest));
    for (int io = 0; io < IO_KINDS; io++)
        for (int is_buffered = 0; is_buffered < 2; is_buffered++) {
            lives.can_use[io][is_buffered] = try_path(io, is_buffered);
            usable += lives.can_use[io][is_buffered];
        }
    forget();
    if (usable == 0) {
        remove_place();
        exit(77);
    }
}

void forget_lives(void)
{
    lives.book = (struct book){ .digest = lives.book.digest, .first = 1 };
    world_clear();
    forget_sightings(&shared->attached.sightings);
}

/* ---- a life ------------------------------------------------------------------------------------ */

static void choose_retention(struct rng *rng, struct twinlog_options *options)
{
    const uint64_t kind = rng_below(rng, 4);

    if (kind == 0)
        options->keep_age_ms = 1 + rng_below(rng, 2000);
    else if (kind == 1)
        options->keep_bytes = 1 + rng_below(rng, 4u << 20);
    else
        options->keep_records = 1 + rng_below(rng, 2000);
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
    options->prepare = (uint32_t)rng_below(rng, TWINLOG_PREPARE_ALLOCATED + 1);
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
    memset(life, 0, offsetof(struct life, notes));
    for (uint32_t i = 0; i < MAX_WRITERS; i++)
        memset(&life->notes[i], 0, offsetof(struct notes, record));
}

static void choose_path(struct life *life, struct rng *rng)
{
    unsigned io, is_buffered;

    do {
        io = (unsigned)rng_below(rng, IO_KINDS);
        is_buffered = (unsigned)rng_below(rng, 2);
    } while (!lives.can_use[io][is_buffered]);
    life->options.io = io;
    life->options.flags |= is_buffered ? TWINLOG_BUFFERED : 0;
    lives.by_io[io]++;
}

/* A retention may remove what would tell whether an interrupted cut happened. So there is none where a
 * truncation may have been interrupted, and it is alone where there is one. */
void begin_life(struct life *life, uint64_t number, bool is_at_once, struct rng *rng)
{
    static const uint32_t change_one_in[] = { 0, 2, 3, 8 };
    const bool may_retain = !is_at_once && !world_may_be_cut() && rng_one_in(rng, 3);

    clear(life);
    life->name = rng_mix(place.seed) ^ number;
    life->options = (struct twinlog_options)TWINLOG_OPTIONS_INIT;
    choose_options(rng, may_retain, &life->options);
    choose_path(life, rng);
    life->options.lock_timeout_ms = is_at_once ? PATIENCE_MS / 2 : 0;
    life->options.flush_interval_ms = rng_one_in(rng, 3) ? 1 + (uint32_t)rng_below(rng, 20) : 0;
    life->change_one_in = change_one_in[rng_below(rng, 4)];
    life->has_committer = rng_one_in(rng, 4);
    life->writers = 1 + (uint32_t)rng_below(rng, MAX_WRITERS);
    life->is_retaining = may_retain;
    life->is_alone = may_retain || rng_one_in(rng, 2);
    life->has_reader = rng_one_in(rng, 3);
    life->most_lsn = WINDOW / 8;
    if (may_retain)
        world_expect_retention(life->options.keep_records);
}

void await_open(const struct life *life, pid_t pid)
{
    const int64_t born = now_ns();

    while (!atomic_load(&life->is_open) && !await(pid, 500000))
        if (now_ns() - born > PATIENCE_MS * INT64_C(1000000))
            violation("the log was not open after %d s", PATIENCE_MS / 1000);
}

void count_life(const struct life *life, int status)
{
    const int error = atomic_load(&life->error);

    if (error < 0)
        violation("a writer gave up: %s; %s", twinlog_strerror(error), life->report.text);
    if (WIFEXITED(status) && life->report.finding >= TWINLOG_FOUND_DAMAGE)
        violation("a writer found: %s", life->report.text);
    lives.count++;
    lives.killed += WIFSIGNALED(status);
    lives.closed += !WIFSIGNALED(status);
    lives.killed_opening += !atomic_load(&life->is_open);
    lives.rolls += atomic_load(&life->rolls);
    lives.recycled += atomic_load(&life->recycled);
}

/* ---- all of them ------------------------------------------------------------------------------- */

bool is_log_large(void)
{
    return lives.file_bytes > LARGE_LOG_BYTES || lives.book.last > LARGE_LOG_RECORDS;
}

void summarise_lives(void)
{
    printf("  %" PRIu64 " writers: %" PRIu64 " killed, %" PRIu64 " of them while opening; %" PRIu64
           " closed; paths:",
           lives.count, lives.killed, lives.killed_opening, lives.closed);
    for (int io = 0; io < IO_KINDS; io++)
        printf(" %s %" PRIu64, io_names[io], lives.by_io[io]);
    printf("\n  records: %" PRIu64 " acknowledged, all there; %" PRIu64 " more trimmed, %" PRIu64
           " cut; %" PRIu64 " not acknowledged, there and whole\n",
           lives.acked, lives.trimmed, lives.cut, lives.unacked);
    printf("  changes: %" PRIu64 " trims, %" PRIu64 " cuts, %" PRIu64 " resets, %" PRIu64
           " cursors and values; %" PRIu64 " segments begun, %" PRIu64 " of them recycled\n",
           atomic_load(&shared->trims), atomic_load(&shared->cuts), atomic_load(&shared->resets),
           atomic_load(&shared->names), lives.rolls, lives.recycled);
    printf("  found: %" PRIu64 " new, %" PRIu64 " closed, %" PRIu64 " ended between two groups, %" PRIu64
           " torn\n",
           lives.findings[TWINLOG_FOUND_NEW_LOG], lives.findings[TWINLOG_FOUND_CLEAN_CLOSE],
           lives.findings[TWINLOG_FOUND_CLEAN_END], lives.findings[TWINLOG_FOUND_TORN_TAIL]);
}
