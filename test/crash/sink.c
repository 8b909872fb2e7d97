/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy sink: processes write lines, of text and of any bytes, into one plain file, and are killed, stopped and
 * joined by others; then every byte of the file is accounted for (sink_judge.c has the rules).
 *
 * A cycle is a number of deaths, and then an end: all are killed and somebody opens the file once more, or the members
 * that are left close it. The file goes on from cycle to cycle until it is large; then the next one begins, another
 * way: shared or exclusive, with or without a limit to its size.
 */
#define _GNU_SOURCE
#include "sink.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#define LARGE_FILE_BYTES (24u << 20)
#define MOST_FILES 60u

/* How the file is used, until it begins anew. */
static struct {
    bool is_shared;
    bool is_renamed;    /* by the judge, as logrotate does; where it is shared */
    uint64_t max_bytes; /* where it is not */
} manner;

static uint32_t renamed;       /* so many times */
static uint64_t *opened_bytes; /* that the opening after all were killed was told */

static struct {
    uint64_t files, lines, fillers, endings[2];
} counts;

/* ---- members ------------------------------------------------------------------------------------- */

static uint64_t pages(struct rng *rng, uint64_t most)
{
    return 4096 * (1 + rng_below(rng, most));
}

static void choose_sink_options(struct member *member, struct rng *rng)
{
    struct twinlog_sink_options *options = &member->sink_options;

    *options = (struct twinlog_sink_options)TWINLOG_SINK_OPTIONS_INIT;
    options->flags = TWINLOG_SINK_MAPPED | (manner.is_shared ? TWINLOG_SINK_SHARED : 0);
    options->initial_bytes = rng_one_in(rng, 4) ? 0 : pages(rng, 64);
    options->growth_bytes = rng_one_in(rng, 4) ? 0 : pages(rng, 256);
    options->max_bytes = manner.max_bytes;
    options->keep_files = KEPT_FILES;
    options->flush_interval_ms = rng_one_in(rng, 4) ? 1 + (uint32_t)rng_below(rng, 20) : 0;
}

static void prepare(struct member *member, struct rng *rng)
{
    choose_sink_options(member, rng);
    member->sync_one_in = rng_one_in(rng, 4) ? 40 : 0;
    member->reopen_one_in = manner.is_renamed ? 100 : 0;
}

/* A stopped one may have a lock that an opening takes, and syncs wait for what it is about to copy. */
static bool waits(const struct member *member, const struct pen *pen)
{
    return manner.max_bytes > 0 || manner.is_renamed || atomic_load(&pen->may_wait) ||
           member->sink_options.flush_interval_ms > 0;
}

/* ---- one cycle ----------------------------------------------------------------------------------- */

/* The first one gets the highest number. */
static void rename_file(struct rng *rng)
{
    char name[420];

    if (!manner.is_renamed || renamed == MOST_FILES || !rng_one_in(rng, 20))
        return;
    snprintf(name, sizeof(name), "%s.%u", sink_path, MOST_FILES - renamed);
    if (rename(sink_path, name) == 0)
        renamed++;
    else if (errno != ENOENT) /* nobody has made the next one */
        give_up(name);
}

static void open_once_more(void *unused)
{
    struct member member = { .pens = 0 };
    struct rng rng = { crew->pens };
    void *sink;

    (void)unused;
    choose_sink_options(&member, &rng);
    sink = open_sink(&member);
    check_call(twinlog_sink_end(sink_path, opened_bytes), "twinlog_sink_end");
    close_sink(sink);
    finish_files();
}

static void spoil(uint64_t bytes)
{
    char name[420];
    FILE *file;

    snprintf(name, sizeof(name), "%s/.app.sink", place.log);
    if (tells(LIE_AREA) && (file = fopen(name, "w")))
        fclose(file);
    if (bytes < 100)
        return;
    if (tells(LIE_END) && (file = fopen(sink_path, "a"))) {
        fputc('x', file);
        fclose(file);
    }
    if (tells(LIE_ZERO) && (file = fopen(sink_path, "r+"))) {
        fseek(file, (long)bytes / 2, SEEK_SET);
        const int byte = fgetc(file);
        fseek(file, (long)bytes / 2, SEEK_SET);
        fputc(byte == 0 ? 1 : 0, file);
        fclose(file);
    }
}

static void begin_anew(struct rng *rng)
{
    remove_directory(place.log);
    if (mkdir(place.log, 0777) < 0)
        give_up(place.log);
    forget_pens();
    renamed = 0;
    manner.is_shared = !rng_one_in(rng, 4);
    manner.is_renamed = manner.is_shared && rng_one_in(rng, 2);
    manner.max_bytes =
        !manner.is_shared && rng_one_in(rng, 2) ? (UINT64_C(128) << 10) + rng_below(rng, 2u << 20) : 0;
    counts.files++;
}

static void run_cycle(struct rng *rng)
{
    struct sink_verdict verdict;
    struct stat about;
    bool is_closed, is_opened;

    run_events(manner.is_shared ? 2 + (unsigned)rng_below(rng, MEMBERS_MAX - 1) : 1, rng);
    is_closed = end_all(rng);
    counts.endings[is_closed]++;
    is_opened = !is_closed || manner.is_renamed || manner.max_bytes > 0; /* one may have died in an old one */
    if (is_opened)
        reap_well(fork_child(open_once_more, NULL), "the one that opens after all were killed");
    spoil(stat(sink_path, &about) == 0 ? (uint64_t)about.st_size : 0);
    verdict = judge_files(manner.max_bytes);
    if (is_opened && *opened_bytes != verdict.last_file_bytes)
        violation("the opening after all were killed was told %" PRIu64 " bytes, the file has %" PRIu64,
                  *opened_bytes, verdict.last_file_bytes);
    atomic_store(&crew->has_lied, false); /* a death in the middle of a lie hides it: lie again */
    if (!can_invite() || verdict.bytes > LARGE_FILE_BYTES || verdict.files > MOST_FILES ||
        rng_one_in(rng, 8)) {
        counts.lines += verdict.lines;
        counts.fillers += verdict.fillers;
        begin_anew(rng);
    }
}

/* ---- the policy ---------------------------------------------------------------------------------- */

static void begin(void)
{
    static const struct craft of_lines = {
        .most_pens = 3,
        .most_writes = WRITES_MAX,
        .moments_ns = { 800000, 800000, 800000, 8000000 },
        .most_deaths = 24,
        .prepare = prepare,
        .do_between = rename_file,
        .waits = waits,
        .open = open_sink,
        .close = close_sink,
        .write = write_line,
        .do_something_else = call_something_else,
    };
    struct rng rng = { rng_mix(place.seed) };

    begin_crew(&of_lines);
    opened_bytes = map_shared(sizeof(*opened_bytes));
    snprintf(sink_path, sizeof(sink_path), "%s/app", place.log);
    begin_anew(&rng);
}

static void summarise(void)
{
    summarise_crew(0);
    printf("  %" PRIu64 " files begun, %" PRIu64 " ends after a kill of all, %" PRIu64 " by a close; %" PRIu64
           " lines, %" PRIu64 " of them void\n",
           counts.files, counts.endings[0], counts.endings[1], counts.lines, counts.fillers);
}

const struct policy sink_policy = {
    .name = "sink",
    .usual_kills = 500,
    .begin = begin,
    .run_cycle = run_cycle,
    .summarise = summarise,
    .killed = &totals.killed,
};
