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

const struct cell *series_find(const struct series *series, const char *label,
                               const struct workload *workload)
{
    for (size_t i = 0; i < series->cell_count; i++) {
        const struct cell *cell = &series->cells[i];
        if (cell->workload.threads == workload->threads &&
            strcmp(cell->workload.sizes.text, workload->sizes.text) == 0 &&
            strcmp(cell->contender.label, label) == 0)
            return cell;
    }
    return NULL;
}

int series_prepare(struct series *series, const struct contender *contenders, size_t contender_count,
                   const struct workload *workloads, size_t workload_count)
{
    series->rounds_done = 0;
    series->cell_count = 0;
    series->contender_count = contender_count;
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

bool remove_tree(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0)
        return true;
    fprintf(stderr, "twinlog-bench: cannot remove %s: %s\n", path, strerror(errno));
    return false;
}

bool make_dir(const char *path)
{
    if (mkdir(path, 0700) == 0)
        return true;
    fprintf(stderr, "twinlog-bench: %s: %s\n", path, strerror(errno));
    return false;
}

static bool run_cell(const struct series *series, struct cell *cell, unsigned round, const char *dir)
{
    char path[4096];
    if (series->study)
        return cell->contender.trial->run(cell->stage, cell->contender.trial, &series->limits,
                                          &cell->rounds[round]);
    snprintf(path, sizeof(path), "%s/round", dir);
    if (!make_dir(path))
        return false;
    bool is_good = round_run(&cell->contender, &cell->workload, &series->limits, series->is_watching_memory,
                             path, &cell->rounds[round]);
    return remove_tree(path) && is_good;
}

/* ---- the stages of a study --------------------------------------------------------------------- */

static bool has_own_stage(const struct series *series, size_t i)
{
    const struct cell *cell = &series->cells[i];
    return i == 0 || cell->workload.threads != cell[-1].workload.threads ||
           strcmp(cell->workload.sizes.text, cell[-1].workload.sizes.text) != 0;
}

static void stage_path(const char *dir, size_t i, char path[4096])
{
    snprintf(path, 4096, "%s/stage-%zu", dir, i);
}

static bool set_stages(struct series *series, const char *dir)
{
    char path[4096];
    for (size_t i = 0; i < series->cell_count; i++) {
        struct cell *cell = &series->cells[i];
        if (!has_own_stage(series, i)) {
            cell->stage = cell[-1].stage;
            continue;
        }
        stage_path(dir, i, path);
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r\033[K%s: preparing, %s", series->name, cell->workload.sizes.text);
        if (!make_dir(path) ||
            !series->study->set_stage(series->study, path, &cell->workload, &series->limits, &cell->stage))
            return false;
    }
    return true;
}

static bool clear_stages(struct series *series, const char *dir)
{
    char path[4096];
    bool is_good = true;
    for (size_t i = 0; i < series->cell_count; i++) {
        if (!has_own_stage(series, i))
            continue;
        if (series->cells[i].stage)
            series->study->clear_stage(series->cells[i].stage);
        stage_path(dir, i, path);
        if (access(path, F_OK) == 0)
            is_good = remove_tree(path) && is_good;
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

/* ---- all of them ------------------------------------------------------------------------------- */

/* Each round begins with the next contender; the workloads stay in their order. */
static size_t in_turn(const struct series *series, size_t i, unsigned round)
{
    const size_t count = series->contender_count;
    return i - i % count + (i % count + round) % count;
}

static bool run_rounds(struct series *series, const char *dir)
{
    for (unsigned round = 0; round < series->rounds; round++) {
        for (size_t i = 0; i < series->cell_count; i++) {
            struct cell *cell = &series->cells[in_turn(series, i, round)];
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
    bool is_good = !series->study || set_stages(series, dir);
    is_good = is_good && run_rounds(series, dir);
    clear_progress();
    if (series->study)
        is_good = clear_stages(series, dir) && is_good;
    for (size_t i = 0; i < series->cell_count && series->rounds_done > 0; i++)
        summarise(series, &series->cells[i], values);
    for (size_t i = 0; i < series->cell_count && series->rounds_done > 0; i++) {
        struct cell *cell = &series->cells[i];
        const struct cell *baseline = series_find(series, series->baseline, &cell->workload);
        cell->ratio = baseline ? ratio_of(series, cell, baseline, offsetof(struct figures, rate)) : NAN;
    }
    free(values);
    return is_good;
}
