/* SPDX-License-Identifier: Apache-2.0 */
/* The table of targets, and how a series is held against it. */
#include "promise.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIGURE(member) offsetof(struct figures, member)
#define PEERS "naive,bdb,leveldb,rocksdb"
#define MIB (UINT64_C(1) << 20)

const struct promise promises[] = {
    {
        .name = "p1",
        .work = "1 thread, 128 B",
        .threads = "1",
        .size = "128",
        .contenders = "twinlog,raw," PEERS,
        .limits = { .seconds = 1, .warmup_seconds = 0.4 },
        .is_throughput = true,
        .checks = {
            { CHECK_AGAINST, "rate against raw", "raw", FIGURE(rate), 0.95 },
            { CHECK_AGAINST, "rate against the best peer", PEERS, FIGURE(rate), 1 },
        },
    },
    {
        .name = "p2",
        .work = "16 threads, 128 B",
        .threads = "16",
        .size = "128",
        .contenders = "twinlog,bdb",
        .limits = { .seconds = 1, .warmup_seconds = 0.2 },
        .is_throughput = true,
        .checks = { { CHECK_AGAINST, "rate against Berkeley DB", "bdb", FIGURE(rate), 2 } },
    },
    {
        .name = "p3",
        .work = "64 and 256 threads, 128 B",
        .threads = "64,256",
        .size = "128",
        .contenders = "twinlog," PEERS,
        .limits = { .seconds = 1, .warmup_seconds = 0.2 },
        .is_throughput = true,
        .checks = { { CHECK_AGAINST, "rate against the best peer", PEERS, FIGURE(rate), 5 } },
    },
    {
        .name = "p4",
        .work = "1000 threads, 128 B",
        .threads = "256,1000",
        .size = "128",
        .contenders = "twinlog",
        .limits = { .seconds = 1, .warmup_seconds = 0.2 },
        .is_throughput = true,
        .checks = { { CHECK_LAST_TO_FIRST, "rate against 256 threads", NULL, FIGURE(rate), 1 } },
    },
    {
        .name = "p6",
        .work = "20 threads, 512 B to 1 MiB",
        .threads = "20",
        .size = "512-1M",
        .contenders = "twinlog,raw-large",
        .limits = { .bytes = 2048 * MIB, .warmup_seconds = 0.1 },
        .twinlog = { .segment_bytes = 256 * MIB },
        .rest_seconds = 5,
        .is_throughput = true,
        .checks = { { CHECK_AGAINST, "MB/s against raw-large", "raw-large", FIGURE(mb_per_s), 0.85 } },
    },
    {
        .name = "p12",
        .work = "memory and bytes, 128 B",
        .threads = "1,16,256",
        .size = "128",
        .contenders = "twinlog",
        .limits = { .seconds = 1, .warmup_seconds = 0.2 },
        .twinlog = { .buffer_bytes = 8 * MIB },
        .is_watching_memory = true,
        .checks = {
            { CHECK_RESIDENT, "resident growth, bytes", NULL, FIGURE(resident_growth), (double)MIB },
            { CHECK_AT_MOST, "heap allocations an append", NULL, FIGURE(allocations_per_append), 0.001 },
            /* beside 64 bytes a group */
            { CHECK_AT_MOST, "header and alignment, bytes a record", NULL, FIGURE(record_overhead), 24 },
            { CHECK_AT_MOST, "rest of blocks, written again or empty, bytes a sync", NULL, FIGURE(rewrite_per_sync), 8192 },
        },
    },
    {
        .name = "p13",
        .work = "latency, 128 B, segments of 1 MiB",
        .threads = "1,16",
        .size = "128",
        .contenders = "twinlog",
        .limits = { .seconds = 2, .warmup_seconds = 0.2 },
        /* Prepared one at a time, as in a log that has run for a while: rolls are what is measured. */
        .twinlog = { .segment_bytes = MIB, .is_fresh = true },
        .checks = { { CHECK_AT_MOST, "p99 / p50", NULL, FIGURE(p99_over_p50), 2.5 } },
    },
};
const size_t promise_count = sizeof(promises) / sizeof(promises[0]);

/* ---- judging ---------------------------------------------------------------------------------- */

/* Calls for each label in a comma-separated list that has a cell with this many threads. */
static size_t find_rivals(const struct series *series, const char *labels, unsigned threads,
                          const struct cell **rivals, size_t capacity)
{
    char copy[256], *rest = NULL;
    size_t count = 0;

    snprintf(copy, sizeof(copy), "%s", labels);
    for (const char *label = strtok_r(copy, ",", &rest); label; label = strtok_r(NULL, ",", &rest)) {
        const struct cell *cell = series_find(series, label, threads);
        if (cell && count < capacity)
            rivals[count++] = cell;
    }
    return count;
}

/* Median over the rounds of ours against the best of theirs in the same round. */
static double ratio_to_best(const struct series *series, const struct cell *ours,
                            const struct cell *const *rivals, size_t rival_count, size_t figure)
{
    double *ratios = calloc(series->rounds, sizeof(*ratios));
    if (!ratios)
        return NAN;
    for (unsigned round = 0; round < series->rounds_done; round++) {
        double best = 0;
        for (size_t i = 0; i < rival_count; i++)
            best = fmax(best, figure_get(&rivals[i]->rounds[round], figure));
        ratios[round] = figure_get(&ours->rounds[round], figure) / best;
    }
    double median = median_of(ratios, series->rounds_done);
    free(ratios);
    return median;
}

static void judge_against(const struct check *check, const struct series *series, const struct cell *ours,
                          double share, struct verdict *verdict)
{
    const struct cell *rivals[8];
    size_t count = find_rivals(series, check->against, ours->workload.threads, rivals, 8);

    verdict->target = check->target * share;
    verdict->ours = figure_get(&ours->median, check->figure);
    if (count == 0)
        return;
    const struct cell *best = rivals[0];
    for (size_t i = 1; i < count; i++) {
        if (figure_get(&rivals[i]->median, check->figure) > figure_get(&best->median, check->figure))
            best = rivals[i];
    }
    snprintf(verdict->rival, sizeof(verdict->rival), "%s", best->contender.label);
    verdict->theirs = figure_get(&best->median, check->figure);
    verdict->reached = ratio_to_best(series, ours, rivals, count, check->figure);
}

static void judge_limit(const struct check *check, const struct cell *ours, struct verdict *verdict)
{
    verdict->is_limit = true;
    verdict->reached = figure_get(&ours->median, check->figure);
    verdict->target = check->target;
    if (check->kind == CHECK_RESIDENT)
        verdict->target += 2.0 * ours->contender.twinlog.buffer_bytes;
}

static void judge(const struct check *check, const struct series *series, const struct cell *ours,
                  double share, struct verdict *verdict)
{
    const struct cell *first = &series->cells[0];

    switch (check->kind) {
    case CHECK_AGAINST:
        judge_against(check, series, ours, share, verdict);
        break;
    case CHECK_LAST_TO_FIRST:
        verdict->target = check->target * share;
        verdict->ours = figure_get(&ours->median, check->figure);
        verdict->theirs = figure_get(&first->median, check->figure);
        verdict->reached = ratio_of(series, ours, first, check->figure);
        snprintf(verdict->rival, sizeof(verdict->rival), "%u threads", first->workload.threads);
        break;
    default:
        judge_limit(check, ours, verdict);
        break;
    }
    verdict->is_met =
        verdict->is_limit ? verdict->reached <= verdict->target : verdict->reached >= verdict->target;
}

size_t promise_judge(const struct promise *promise, const struct series *series, double share,
                     struct verdict *verdicts, size_t capacity)
{
    const char *ours = series->cells[0].contender.label;
    size_t count = 0;

    for (const struct check *check = promise->checks; check < promise->checks + MAX_CHECKS && check->kind;
         check++) {
        for (size_t i = 0; i < series->cell_count && count < capacity; i++) {
            const struct cell *cell = &series->cells[i];
            bool is_last = cell->workload.threads == series->cells[series->cell_count - 1].workload.threads;
            if (strcmp(cell->contender.label, ours) != 0 || (check->kind == CHECK_LAST_TO_FIRST && !is_last))
                continue;
            struct verdict *verdict = &verdicts[count++];
            *verdict = (struct verdict){
                .series = series->name,
                .what = check->what,
                .threads = cell->workload.threads,
                .reached = NAN,
                .ours = NAN,
                .theirs = NAN,
            };
            judge(check, series, cell, share, verdict);
        }
    }
    return count;
}
