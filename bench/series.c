/* SPDX-License-Identifier: Apache-2.0 */
/* The interleaved rounds, the directories they run in, and what is made of their figures. */
#include "series.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIELD(member)                                                                                        \
    {                                                                                                        \
#member, offsetof(struct figures, member)                                                            \
    }
const struct figure_field figure_fields[] = {
    FIELD(seconds),           FIELD(appends),          FIELD(rate),
    FIELD(mb_per_s),          FIELD(p50_us),           FIELD(p99_us),
    FIELD(p999_us),           FIELD(max_us),           FIELD(p99_over_p50),
    FIELD(cpu_us_per_append), FIELD(appends_per_sync), FIELD(framing_per_append),
    FIELD(record_overhead),   FIELD(rewrite_per_sync), FIELD(rolls),
    FIELD(roll_waits),        FIELD(resident_growth),  FIELD(allocations_per_append),
};
const size_t figure_field_count = sizeof(figure_fields) / sizeof(figure_fields[0]);
_Static_assert(sizeof(figure_fields) / sizeof(figure_fields[0]) == sizeof(struct figures) / sizeof(double),
               "each figure has its name here");

static void figure_set(struct figures *figures, size_t offset, double value)
{
    *(double *)((char *)figures + offset) = value;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median_of(double *values, size_t count)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isnan(values[i]))
            values[known++] = values[i];
    }
    if (known == 0)
        return NAN;
    qsort(values, known, sizeof(*values), compare_doubles);
    return known % 2 ? values[known / 2] : (values[known / 2 - 1] + values[known / 2]) / 2;
}

double ratio_of(const struct series *series, const struct cell *a, const struct cell *b, size_t offset)
{
    double *ratios = calloc(series->rounds, sizeof(*ratios));
    if (!ratios)
        return NAN;
    for (unsigned i = 0; i < series->rounds_done; i++)
        ratios[i] = figure_get(&a->rounds[i], offset) / figure_get(&b->rounds[i], offset);
    double median = median_of(ratios, series->rounds_done);
    free(ratios);
    return median;
}

const struct cell *series_find(const struct series *series, const char *label, unsigned threads)
{
    for (size_t i = 0; i < series->cell_count; i++) {
        const struct cell *cell = &series->cells[i];
        if (cell->workload.threads == threads && strcmp(cell->contender.label, label) == 0)
            return cell;
    }
    return NULL;
}

int series_prepare(struct series *series, const struct contender *contenders, size_t contender_count,
                   const struct workload *workloads, size_t workload_count)
{
    series->rounds_done = 0;
    series->cell_count = 0;
    series->cells = calloc(contender_count * workload_count, sizeof(*series->cells));
    if (!series->cells)
        return -ENOMEM;
    for (size_t w = 0; w < workload_count; w++) {
        for (size_t c = 0; c < contender_count; c++) {
            struct cell *cell = &series->cells[series->cell_count];
            cell->rounds = calloc(series->rounds, sizeof(*cell->rounds));
            if (!cell->rounds)
                return -ENOMEM;
            cell->contender = contenders[c];
            cell->workload = workloads[w];
            series->cell_count++;
        }
    }
    return 0;
}

void series_destroy(struct series *series)
{
    for (size_t i = 0; i < series->cell_count; i++)
        free(series->cells[i].rounds);
    free(series->cells);
    series->cells = NULL;
    series->cell_count = 0;
}

/* ---- running ---------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static void show_progress(const struct series *series, unsigned round, const struct cell *cell)
{
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%s: round %u of %u, %s, %u thread%s, %s", series->name, round + 1,
            series->rounds, cell->contender.label, cell->workload.threads,
            cell->workload.threads == 1 ? "" : "s", cell->workload.sizes.text);
}

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* Lets the disk recover from the turn before. */
static void rest(double seconds)
{
    struct timespec pause = { (time_t)seconds, (long)((seconds - floor(seconds)) * 1e9) };
    nanosleep(&pause, NULL);
}

static bool run_cell(const struct series *series, struct cell *cell, unsigned round, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/round", dir);
    if (mkdir(path, 0700) < 0) {
        fprintf(stderr, "twinlog-bench: %s: %s\n", path, strerror(errno));
        return false;
    }
    bool is_good = round_run(&cell->contender, &cell->workload, &series->limits, series->is_watching_memory,
                             path, &cell->rounds[round]);
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        fprintf(stderr, "twinlog-bench: cannot remove %s: %s\n", path, strerror(errno));
        return false;
    }
    return is_good;
}

static void summarise(struct series *series, struct cell *cell, double *values)
{
    unsigned count = series->rounds_done;
    for (size_t f = 0; f < figure_field_count; f++) {
        size_t offset = figure_fields[f].offset;
        for (unsigned i = 0; i < count; i++)
            values[i] = figure_get(&cell->rounds[i], offset);
        figure_set(&cell->median, offset, median_of(values, count));
    }

    double slowest = INFINITY, fastest = 0;
    for (unsigned i = 0; i < count; i++) {
        slowest = fmin(slowest, cell->rounds[i].rate);
        fastest = fmax(fastest, cell->rounds[i].rate);
    }
    cell->rate_spread = count > 1 ? (fastest - slowest) / cell->median.rate : NAN;
}

static const struct cell *baseline_of(const struct series *series, const struct cell *cell)
{
    for (size_t i = 0; i < series->cell_count; i++) {
        const struct cell *other = &series->cells[i];
        if (other->workload.threads == cell->workload.threads &&
            strcmp(other->workload.sizes.text, cell->workload.sizes.text) == 0 &&
            strcmp(other->contender.label, series->baseline) == 0)
            return other;
    }
    return NULL;
}

static bool run_rounds(struct series *series, const char *dir)
{
    for (unsigned round = 0; round < series->rounds; round++) {
        for (size_t i = 0; i < series->cell_count; i++) {
            struct cell *cell = &series->cells[i];
            show_progress(series, round, cell);
            rest(series->rest_seconds);
            if (!run_cell(series, cell, round, dir))
                return round_is_interrupted();
        }
        series->rounds_done++;
    }
    return true;
}

bool series_run(struct series *series, const char *dir)
{
    double *values = calloc(series->rounds, sizeof(*values));
    if (!values)
        return false;
    bool is_good = run_rounds(series, dir);
    clear_progress();
    for (size_t i = 0; i < series->cell_count && series->rounds_done > 0; i++)
        summarise(series, &series->cells[i], values);
    for (size_t i = 0; i < series->cell_count && series->rounds_done > 0; i++) {
        struct cell *cell = &series->cells[i];
        const struct cell *baseline = baseline_of(series, cell);
        cell->ratio = baseline ? ratio_of(series, cell, baseline, offsetof(struct figures, rate)) : NAN;
    }
    free(values);
    return is_good;
}
