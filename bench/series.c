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

static bool is_at(const struct cell *cell, const struct workload *workload)
{
    return cell->workload.threads == workload->threads &&
           strcmp(cell->workload.sizes.text, workload->sizes.text) == 0;
}

const struct cell *series_find(const struct series *series, const char *label,
                               const struct workload *workload)
{
    for (size_t i = 0; i < series->cell_count; i++) {
        const struct cell *cell = &series->cells[i];
        if (is_at(cell, workload) && strcmp(cell->contender.label, label) == 0)
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
    const unsigned threads = cell->workload.threads;

    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%s: round %u of %u, ", series->name, round + 1, series->rounds);
    fprintf(stderr, "%s, %u thread%s, ", cell->contender.label, threads, threads == 1 ? "" : "s");
    fputs(cell->workload.sizes.text, stderr);
}

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* Lets the disk recover from the turn before. */
static void rest(double seconds)
{
    const double whole = floor(seconds);
    const struct timespec pause = { (time_t)whole, (long)((seconds - whole) * 1e9) };

    nanosleep(&pause, NULL);
}

/* The cell of the closed loop of the same name at the same point; NULL if there is none. */
static const struct cell *closed_loop_of(const struct series *series, const struct cell *cell)
{
    char label[sizeof(cell->contender.label)];
    const int length = (int)strcspn(cell->contender.label, "@");

    snprintf(label, sizeof(label), "%.*s", length, cell->contender.label);
    return series_find(series, label, &cell->workload);
}

/* What a closed loop reached, the median of the rounds up to this one; 0 if it had no turn yet. */
static double rate_so_far(const struct cell *closed, unsigned round)
{
    double *rates = allocate(round + 1, sizeof(*rates));
    double rate = 0;
    size_t count = 0;

    for (unsigned i = 0; i <= round; i++) {
        if (closed->rounds[i].rate > 0)
            rates[count++] = closed->rounds[i].rate;
    }
    if (count > 0)
        rate = median_of(rates, count);
    free(rates);
    return rate;
}

/* The open loop of a share begins as many appends a second as that share of what the closed loop reached. */
static bool set_rate_of_share(const struct series *series, const struct cell *cell, unsigned round,
                              struct limits *limits)
{
    const struct cell *closed = closed_loop_of(series, cell);

    limits->rate = 0;
    if (closed)
        limits->rate = cell->contender.share * rate_so_far(closed, round);
    if (!(limits->rate > 0))
        return fail("%s has to come behind the same without @", cell->contender.label);
    return true;
}

static bool run_appends(const struct series *series, struct cell *cell, unsigned round, const char *dir)
{
    struct limits limits = series->limits;
    char path[4096];

    snprintf(path, sizeof(path), "%s/round", dir);
    if (!make_dir(path))
        return false;

    bool is_good = true;
    if (cell->contender.share > 0)
        is_good = set_rate_of_share(series, cell, round, &limits);
    if (is_good)
        is_good = round_run(&cell->contender, &cell->workload, &limits, path, &cell->rounds[round]);
    return remove_tree(path) && is_good;
}

static bool run_cell(const struct series *series, struct cell *cell, unsigned round, const char *dir)
{
    struct figures *figures = &cell->rounds[round];

    *figures = figures_unknown();
    figures->all_rounds = cell->latencies;
    if (series->study)
        return series->study->run(cell->stage, cell->contender.trial, &series->limits, figures);
    return run_appends(series, cell, round, dir);
}

/* ---- the stages of a study ---------------------------------------------------------------------- */

static void stage_path(const char *dir, size_t i, char path[4096])
{
    snprintf(path, 4096, "%s/stage-%zu", dir, i);
}

/* The cells of one workload share a stage; `cells` are these. */
static bool set_stage(const struct series *series, struct cell *cells, const char *path)
{
    const struct study *study = series->study;
    const struct setting setting = { study, path, &cells->workload };

    if (!make_dir(path))
        return false;
    void *stage = allocate(1, study->stage_bytes);
    for (size_t i = 0; i < series->contender_count; i++)
        cells[i].stage = stage;
    return study->set_stage(&setting, stage);
}

static bool set_stages(struct series *series, const char *dir)
{
    char path[4096];

    for (size_t i = 0; i < series->cell_count; i += series->contender_count) {
        struct cell *cells = &series->cells[i];

        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r\033[K%s: preparing, %s", series->name, cells->workload.sizes.text);
        stage_path(dir, i, path);
        if (!set_stage(series, cells, path))
            return false;
    }
    return true;
}

/* Also those of which not everything is there. */
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
        if (access(path, F_OK) == 0 && !remove_tree(path))
            is_good = false;
    }
    return is_good;
}

/* ---- what is made of the rounds ----------------------------------------------------------------- */

/* `values` has room for one of each round. */
static void set_medians(const struct series *series, struct cell *cell, double *values)
{
    for (size_t f = 0; f < figure_field_count; f++) {
        const size_t offset = figure_fields[f].offset;

        for (unsigned i = 0; i < series->rounds_done; i++)
            values[i] = figure_get(&cell->rounds[i], offset);
        figure_set(&cell->median, offset, median_of(values, series->rounds_done));
    }

    if (cell->latencies->count > 0)
        figures_set_latencies(&cell->median, cell->latencies);
}

static void set_spread(const struct series *series, struct cell *cell)
{
    cell->slowest = INFINITY;
    for (unsigned i = 0; i < series->rounds_done; i++) {
        cell->slowest = fmin(cell->slowest, cell->rounds[i].rate);
        cell->fastest = fmax(cell->fastest, cell->rounds[i].rate);
    }

    cell->rate_spread = NAN;
    if (series->rounds_done > 1)
        cell->rate_spread = (cell->fastest - cell->slowest) / cell->median.rate;
}

static void set_ratio(const struct series *series, struct cell *cell)
{
    const struct cell *baseline = series_find(series, series->baseline, &cell->workload);

    if (cell->contender.share > 0)
        cell->ratio = cell->median.rate / cell->median.wanted_rate;
    else if (baseline)
        cell->ratio = ratio_of(series, cell, baseline, FIGURE(rate));
    else
        cell->ratio = NAN;
}

static void summarize(struct series *series)
{
    double *values = allocate(series->rounds, sizeof(*values));

    for (size_t i = 0; i < series->cell_count; i++) {
        set_medians(series, &series->cells[i], values);
        set_spread(series, &series->cells[i]);
    }
    for (size_t i = 0; i < series->cell_count; i++)
        set_ratio(series, &series->cells[i]);
    free(values);
}

/* ---- the rounds --------------------------------------------------------------------------------- */

/* Each second round goes back as the one before went, and each pair begins with the next contender; the workloads stay
 * in their order. */
static size_t in_turn(const struct series *series, size_t i, unsigned round)
{
    const size_t count = series->contender_count;
    const size_t first = i - i % count; /* cell of the same workload */
    const bool goes_back = round % 2 == 1;
    size_t turn = i % count;

    if (goes_back)
        turn = count - 1 - turn;
    return first + (turn + round / 2) % count;
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

static bool run_study(struct series *series, const char *dir)
{
    bool is_good = set_stages(series, dir) && run_rounds(series, dir);

    clear_progress();
    if (!clear_stages(series, dir))
        is_good = false;
    return is_good;
}

bool series_run(struct series *series, const char *dir)
{
    bool is_good;

    if (series->study) {
        is_good = run_study(series, dir);
    } else {
        is_good = run_rounds(series, dir);
        clear_progress();
    }

    if (series->rounds_done > 0)
        summarize(series);
    return is_good;
}
