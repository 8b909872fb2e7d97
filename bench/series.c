/* SPDX-License-Identifier: Apache-2.0 */
/* The interleaved rounds, the directories they run in, and what is made of their figures. */
#include "series.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

double ratio_of(const struct series *series, const struct cell *a, const struct cell *b, size_t offset)
{
    double *ratios = allocate(series->rounds, sizeof(*ratios));
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

void series_prepare(struct series *series, const struct plan *plan)
{
    series->rounds_done = 0;
    series->contender_count = plan->contender_count;
    series->cell_count = plan->contender_count * plan->workload_count;
    series->cells = allocate(series->cell_count, sizeof(*series->cells));
    for (size_t i = 0; i < series->cell_count; i++) {
        struct cell *cell = &series->cells[i];
        cell->rounds = allocate(series->rounds, sizeof(*cell->rounds));
        cell->latencies = allocate(1, sizeof(*cell->latencies));
        cell->contender = plan->contenders[i % plan->contender_count];
        cell->workload = plan->workloads[i / plan->contender_count];
    }
}

void series_destroy(struct series *series)
{
    for (size_t i = 0; i < series->cell_count; i++) {
        free(series->cells[i].rounds);
        free(series->cells[i].latencies);
    }
    free(series->cells);
    series->cells = NULL;
    series->cell_count = 0;
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

/* Of the closed loop of that name, in the rounds so far; 0 if there is none. */
static double closed_rate(const struct series *series, const struct cell *cell, unsigned round)
{
    char label[sizeof(cell->contender.label)];
    snprintf(label, sizeof(label), "%.*s", (int)strcspn(cell->contender.label, "@"), cell->contender.label);
    const struct cell *closed = series_find(series, label, &cell->workload);
    double *rates = allocate(round + 1, sizeof(*rates));
    size_t count = 0;
    for (unsigned i = 0; closed && i <= round; i++) {
        if (closed->rounds[i].rate > 0)
            rates[count++] = closed->rounds[i].rate;
    }
    const double rate = count > 0 ? median_of(rates, count) : 0;
    free(rates);
    return rate;
}

static bool run_cell(const struct series *series, struct cell *cell, unsigned round, const char *dir)
{
    char path[4096];
    struct figures *figures = &cell->rounds[round];
    *figures = figures_unknown();
    figures->all_rounds = cell->latencies;
    if (series->study)
        return series->study->run(cell->stage, cell->contender.trial, &series->limits, figures);
    snprintf(path, sizeof(path), "%s/round", dir);
    if (!make_dir(path))
        return false;
    struct limits limits = series->limits;
    if (cell->contender.share > 0)
        limits.rate = cell->contender.share * closed_rate(series, cell, round);
    bool is_good = cell->contender.share > 0 && !(limits.rate > 0)
                       ? fail("%s has to come behind the same without @", cell->contender.label)
                       : round_run(&cell->contender, &cell->workload, &limits, path, figures);
    return remove_tree(path) && is_good;
}

static void stage_path(const char *dir, size_t i, char path[4096])
{
    snprintf(path, 4096, "%s/stage-%zu", dir, i);
}

/* The cells of one workload share theirs. */
static bool set_stages(struct series *series, const char *dir)
{
    const struct study *study = series->study;
    char path[4096];
    for (size_t i = 0; i < series->cell_count; i += series->contender_count) {
        struct cell *cells = &series->cells[i];
        stage_path(dir, i, path);
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r\033[K%s: preparing, %s", series->name, cells->workload.sizes.text);
        if (!make_dir(path))
            return false;
        void *stage = allocate(1, study->stage_bytes);
        for (size_t c = 0; c < series->contender_count; c++)
            cells[c].stage = stage;
        if (!study->set_stage(&(const struct setting){ study, path, &cells->workload }, stage))
            return false;
    }
    return true;
}

static bool clear_stages(struct series *series, const char *dir)
{
    char path[4096];
    bool is_good = true;
    for (size_t i = 0; i < series->cell_count; i += series->contender_count) {
        struct cell *cell = &series->cells[i];
        if (cell->stage)
            series->study->clear_stage(cell->stage);
        free(cell->stage);
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

    if (cell->latencies->count > 0)
        figures_set_latencies(&cell->median, cell->latencies);

    cell->slowest = INFINITY;
    for (unsigned i = 0; i < count; i++) {
        cell->slowest = fmin(cell->slowest, cell->rounds[i].rate);
        cell->fastest = fmax(cell->fastest, cell->rounds[i].rate);
    }
    cell->rate_spread = count > 1 ? (cell->fastest - cell->slowest) / cell->median.rate : NAN;
}

/* Each second round goes back as the one before went, and each pair begins with the next contender; the workloads stay
 * in their order. */
static size_t in_turn(const struct series *series, size_t i, unsigned round)
{
    const size_t count = series->contender_count;
    const size_t turn = round % 2 ? count - 1 - i % count : i % count;
    return i - i % count + (turn + round / 2) % count;
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
    double *values = allocate(series->rounds, sizeof(*values));
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
        if (cell->contender.share > 0)
            cell->ratio = cell->median.rate / cell->median.wanted_rate;
        else
            cell->ratio = baseline ? ratio_of(series, cell, baseline, FIGURE(rate)) : NAN;
    }
    free(values);
    return is_good;
}
