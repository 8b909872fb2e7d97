/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two runs of the benchmark are compared round by round, by the order of the figures alone: each new one is divided by
 * each old one, and the change is the median of these ratios (Hodges and Lehmann 1963). Around it is the interval that
 * belongs to the test of Mann and Whitney: outside of it the change is with a chance of 1 %. If 1 is inside, or there
 * are fewer than 5 rounds on each side, nothing is decided.
 *
 * The machine may have changed between the runs. So a contender is also compared by its ratio to the contender that was
 * the baseline of both runs, taken within each round.
 */
#include "compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "figures.h"
#include "json.h"
#include "table.h"

#define CERTAINTY 0.99
#define MAX_ROUNDS 100 /* of each run; later ones are left out */

struct values {
    double of[MAX_ROUNDS];
    size_t count;
};

struct change {
    double median, lowest, highest; /* new / old; without an interval it is from 0 to infinity */
};

struct tally {
    unsigned quicker, slower, undecided;
};

/* ---- statistics -------------------------------------------------------------------------------- */

/* How many of the n * m sorted ratios are left out at each end, plus one; 0: there is no such interval. If nothing has
 * changed, all orders of the n + m figures are equally likely, and the number of those in which u ratios are below 1 is
 * the coefficient of q^u in the product of (1 - q^(m + i)) / (1 - q^i), i = 1 to n. */
static size_t first_inside(size_t n, size_t m)
{
    static double orders[MAX_ROUNDS * MAX_ROUNDS + 1];
    const size_t most = n * m;
    double all = 1, outside = 0;

    memset(orders, 0, sizeof(orders));
    orders[0] = 1;
    for (size_t i = 1; i <= n; i++) {
        for (size_t u = most; u >= m + i; u--)
            orders[u] -= orders[u - m - i];
        for (size_t u = i; u <= most; u++)
            orders[u] += orders[u - i];
        all *= (double)(m + i) / (double)i;
    }
    size_t inside = 0;
    while (inside < most / 2 && 2 * (outside + orders[inside]) / all <= 1 - CERTAINTY)
        outside += orders[inside++];
    return inside;
}

static struct change change_of(const struct values *old, const struct values *new)
{
    static double ratios[MAX_ROUNDS * MAX_ROUNDS];
    struct change change = { NAN, 0, INFINITY };
    size_t count = 0;

    for (size_t i = 0; i < old->count; i++)
        for (size_t j = 0; j < new->count; j++)
            ratios[count++] = new->of[j] / old->of[i];
    change.median = median_of(ratios, count); /* sorts them */
    const size_t inside = first_inside(old->count, new->count);
    if (inside > 0) {
        change.lowest = ratios[inside - 1];
        change.highest = ratios[count - inside];
    }
    return change;
}

/* ---- what is in the files ---------------------------------------------------------------------- */

/* The figure in each round, or its ratio to that of `baseline` in the same round. */
static void collect(const struct json *cell, const struct json *baseline, const char *figure,
                    struct values *values)
{
    const struct json *round = json_get(cell, "rounds"), *other = json_get(baseline, "rounds");

    values->count = 0;
    other = other ? other->first : NULL;
    for (round = round ? round->first : NULL; round && values->count < MAX_ROUNDS; round = round->next) {
        const double value = json_number_of(round, figure) / (baseline ? json_number_of(other, figure) : 1);
        if (isfinite(value) && value > 0)
            values->of[values->count++] = value;
        other = other ? other->next : NULL;
    }
}

static bool is_same_point(const struct json *a, const struct json *b)
{
    return json_number_of(a, "point_threads") == json_number_of(b, "point_threads") &&
           strcmp(json_text(a, "size"), json_text(b, "size")) == 0;
}

static const struct json *find_cell(const struct json *series, const struct json *point,
                                    const char *contender)
{
    const struct json *cells = json_get(series, "cells");
    const struct json *cell = cells ? cells->first : NULL;
    while (cell && !(is_same_point(cell, point) && strcmp(json_text(cell, "contender"), contender) == 0))
        cell = cell->next;
    return cell;
}

/* Several series may have one name. */
static const struct json *find_series(const struct json *run, const struct json *like)
{
    const struct json *all = json_get(run, "series");
    const struct json *series = all ? all->first : NULL;
    while (series && (strcmp(json_text(series, "name"), json_text(like, "name")) != 0 ||
                      strcmp(json_text(series, "title"), json_text(like, "title")) != 0))
        series = series->next;
    return series;
}

/* ---- the table --------------------------------------------------------------------------------- */

static const char *decide(const struct change *change, bool less_is_better, struct tally *tally)
{
    const bool is_more = change->lowest > 1, is_less = change->highest < 1;
    if (!is_more && !is_less) {
        tally->undecided++;
        return "undecided";
    }
    if (is_more != less_is_better) {
        tally->quicker++;
        return "quicker";
    }
    tally->slower++;
    return "slower";
}

static void add_change(struct table *table, const char *series, const struct json *cell, const char *what,
                       struct values *old, struct values *new, bool less_is_better, struct tally *tally)
{
    char interval[CELL_BYTES] = "too few rounds";
    if (old->count == 0 || new->count == 0)
        return;
    const struct change change = change_of(old, new);
    if (isfinite(change.highest))
        snprintf(interval, sizeof(interval), "%.3f to %.3f", change.lowest, change.highest);
    char middle[32], threads[32];
    snprintf(threads, sizeof(threads), "%.0f", json_number_of(cell, "point_threads"));
    snprintf(middle, sizeof(middle), "%.3f", change.median);
    add_row(table, series, json_text(cell, "contender"), what, json_text(cell, "size"), threads,
            number(median_of(old->of, old->count)).text, number(median_of(new->of, new->count)).text, middle,
            interval, decide(&change, less_is_better, tally));
}

static void compare_cells(struct table *table, const struct json *old_series, const struct json *new_series,
                          const struct json *old_cell, const struct json *new_cell, struct tally *tally)
{
    static const struct {
        const char *figure, *what;
        bool less_is_better;
    } figures[] = { { "rate", "rate", false }, { "p99_us", "p99 µs", true } };
    const char *name = json_text(new_series, "name"), *baseline = json_text(new_series, "baseline");
    struct values old, new;

    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        collect(old_cell, NULL, figures[i].figure, &old);
        collect(new_cell, NULL, figures[i].figure, &new);
        add_change(table, name, new_cell, figures[i].what, &old, &new, figures[i].less_is_better, tally);
    }
    const struct json *old_baseline = find_cell(old_series, old_cell, baseline);
    const struct json *new_baseline = find_cell(new_series, new_cell, baseline);
    if (!*baseline || strcmp(json_text(old_series, "baseline"), baseline) != 0 || !old_baseline ||
        !new_baseline || new_baseline == new_cell)
        return;
    char what[CELL_BYTES];
    snprintf(what, sizeof(what), "rate / %s", baseline);
    collect(old_cell, old_baseline, "rate", &old);
    collect(new_cell, new_baseline, "rate", &new);
    add_change(table, name, new_cell, what, &old, &new, false, tally);
}

/* What is in both, in the order of the new one; counts what is in the new one only. */
static unsigned compare_series(struct table *table, const struct json *old_run, const struct json *new_run,
                               struct tally *tally)
{
    const struct json *all = json_get(new_run, "series");
    unsigned unmatched = 0;

    for (const struct json *series = all ? all->first : NULL; series; series = series->next) {
        const struct json *old = find_series(old_run, series), *cells = json_get(series, "cells");
        for (const struct json *cell = cells ? cells->first : NULL; cell; cell = cell->next) {
            const struct json *old_cell = find_cell(old, cell, json_text(cell, "contender"));
            if (old_cell)
                compare_cells(table, old, series, old_cell, cell, tally);
            unmatched += !old_cell;
        }
    }
    return unmatched;
}

static void print_run(const char *label, const struct json *run)
{
    printf("%s: twinlog %s, %s, `%s`\n", label, json_text(run, "version"), json_text(run, "note"),
           json_text(run, "command"));
}

static void print_differences(const struct json *old_run, const struct json *new_run)
{
    static const char *const parts[] = { "cpu",           "kernel", "filesystem",
                                         "mount_options", "device", "write_cache" };
    const struct json *old = json_get(old_run, "machine"), *new = json_get(new_run, "machine");
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (strcmp(json_text(old, parts[i]), json_text(new, parts[i])) != 0)
            printf("not the same machine: %s: %s, %s\n", parts[i], json_text(old, parts[i]),
                   json_text(new, parts[i]));
}

bool compare_runs(const char *old_path, const char *new_path)
{
    struct json *old = json_read(old_path), *new = old ? json_read(new_path) : NULL;
    struct table table = { .columns = 10, .left_columns = 3 };
    struct tally tally = { 0, 0, 0 };

    if (new) {
        print_run("old", old);
        print_run("new", new);
        print_differences(old, new);
        putchar('\n');
        add_row(&table, "series", "contender", "figure", "bytes", "threads", "old", "new", "change", "99 %",
                "verdict");
        const unsigned unmatched = compare_series(&table, old, new, &tally);
        print_table(stdout, REPORT_TEXT, &table);
        printf("\n%u quicker, %u slower, %u undecided; %u contenders at some point are not in the old run\n",
               tally.quicker, tally.slower, tally.undecided, unmatched);
    }
    json_free(old);
    json_free(new);
    return new != NULL;
}
