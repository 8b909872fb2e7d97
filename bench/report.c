/* SPDX-License-Identifier: Apache-2.0 */
/* The reports: tables, JSON and CSV. */
#include "report.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <twinlog.h>

#include "../tools/json.h"
#include "common.h"

/* ---- tables, which are filled before they are printed: only then the widths are known -------------- */

#define CELL_BYTES 72
#define MAX_COLUMNS 15
typedef char table_cell[CELL_BYTES];

struct table {
    size_t columns, rows; /* the first row is the heading */
    size_t left_columns;  /* so many are words, flush left; the rest are numbers */
    table_cell *cells;
};

struct words {
    char text[48];
};

/* One more row of empty cells. */
static table_cell *new_row(struct table *table)
{
    size_t used = table->rows * table->columns;
    table_cell *cells = realloc(table->cells, (used + table->columns) * sizeof(*cells));
    if (!cells) {
        fail("no memory for a table");
        exit(1);
    }
    memset(cells + used, 0, table->columns * sizeof(*cells));
    table->cells = cells;
    table->rows++;
    return cells + used;
}

/* Adds one row of table->columns strings. */
static void add_row(struct table *table, ...)
{
    va_list texts;
    table_cell *cells = new_row(table);
    va_start(texts, table);
    for (size_t i = 0; i < table->columns; i++)
        snprintf(cells[i], CELL_BYTES, "%s", va_arg(texts, const char *));
    va_end(texts);
}

/* Columns of a terminal that a UTF-8 string takes; we print no wide characters. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(const char *text, int width, bool is_left)
{
    int pad = width - width_of(text);
    printf("%*s%s%*s", is_left ? 0 : pad, "", text, is_left ? pad : 0, "");
}

/* And empties it. */
static void print_table(struct table *table)
{
    int widths[MAX_COLUMNS] = { 0 };

    for (size_t i = 0; i < table->rows * table->columns; i++) {
        int width = width_of(table->cells[i]);
        int *widest = &widths[i % table->columns];
        *widest = width > *widest ? width : *widest;
    }
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t i = 0; i < table->columns; i++) {
            fputs(i ? " | " : "| ", stdout);
            print_cell(table->cells[row * table->columns + i], widths[i], i < table->left_columns);
        }
        puts(" |");
        for (size_t i = 0; row == 0 && i < table->columns; i++)
            fputs(i < table->left_columns ? "|---" : "|--:", stdout);
        fputs(row == 0 ? "|\n" : "", stdout);
    }
    puts("");
    free(table->cells);
    table->cells = NULL;
}

static struct words with_commas(double value)
{
    char digits[32];
    struct words words = { "" };
    int length = snprintf(digits, sizeof(digits), "%.0f", value);
    size_t used = 0;
    for (int i = 0; i < length && used + 2 < sizeof(words.text); i++) {
        if (i > 0 && digits[i - 1] != '-' && (length - i) % 3 == 0)
            words.text[used++] = ',';
        words.text[used++] = digits[i];
    }
    return words;
}

/* Three digits that count, or a whole number with commas; "-" where it is not known. */
static struct words number(double value)
{
    struct words words = { "-" };
    double size = fabs(value);
    if (isnan(value))
        return words;
    if (size >= 1000 || size == 0)
        return with_commas(value);
    int decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.01 ? 2 : 5;
    snprintf(words.text, sizeof(words.text), "%.*f", decimals, value);
    return words;
}

static struct words unless_unknown(const char *format, double value)
{
    struct words words = { "-" };
    if (!isnan(value))
        snprintf(words.text, sizeof(words.text), format, value);
    return words;
}

static struct words ratio(double value)
{
    return unless_unknown("%.2f", value);
}
static struct words percent(double value)
{
    return unless_unknown("%.0f %%", value * 100);
}
static struct words whole(unsigned value)
{
    return unless_unknown("%.0f", value);
}

/* ---- for people ------------------------------------------------------------------------------- */

void report_machine(const struct report *report)
{
    const struct machine *machine = &report->machine;
    const time_t now = time(NULL);
    char date[16] = "";

    strftime(date, sizeof(date), "%Y-%m-%d", gmtime(&now));
    printf("twinlog %s%s%s, %s, `%s`  \n", twinlog_version(), report->note ? ", " : "",
           report->note ? report->note : "", date, report->command);
    for (size_t i = 0, named = 0; peer_at(i); i++) {
        const char *version = peer_at(i)->version;
        if (version && (i == 0 || version != peer_at(i - 1)->version))
            printf("%s%.*s", named++ ? ", " : "with ", (int)strcspn(version, ":"), version);
    }
    if (&peer_spdlog)
        printf(", %s", peer_spdlog.version);
    puts("  ");
    printf("%s, %ld cores, %.0f GiB, %s, %s on %s (%s), write cache: %s, read-ahead: %ld KiB\n\n",
           machine->cpu, machine->cores, machine->memory_gib, machine->kernel, machine->filesystem,
           machine->device, machine->mount_options, machine->write_cache, machine->read_ahead_kib);
}

static unsigned threads_of(const struct cell *cell)
{
    const struct peer *peer = cell->contender.peer;
    return peer && peer->threads ? peer->threads : cell->workload.threads;
}

static const struct study appends = {
    .point = "bytes",
    .workers = "threads",
    .columns = { { RATE("appends") },
                 { MB_PER_S },
                 { P50 },
                 { P99 },
                 { P999 },
                 { LONGEST },
                 { "user µs", FIGURE(user_us_per_append), 1 },
                 { "switches", FIGURE(switches_per_append), 1 },
                 { "flushes", FIGURE(flushes_per_append), 1 },
                 { A_SYNC } },
};

static struct words size_of(const struct cell *cell)
{
    struct words words;
    const struct peer *peer = cell->contender.peer;
    if (peer && peer->record_bytes)
        return number(peer->record_bytes);
    snprintf(words.text, sizeof(words.text), "%s", cell->workload.sizes.text);
    return words;
}

/* The row of one cell, or the headings; returns how many columns there are. */
static size_t fill_row(table_cell *at, const struct series *series, const struct cell *cell)
{
    const struct study *study = series->study ? series->study : &appends;
    table_cell *const first = at;

    snprintf(*at++, CELL_BYTES, "%s", cell ? cell->contender.label : series->study ? "" : "contender");
    if (study->point)
        snprintf(*at++, CELL_BYTES, "%s", cell ? size_of(cell).text : study->point);
    if (study->workers)
        snprintf(*at++, CELL_BYTES, "%s", cell ? whole(threads_of(cell)).text : study->workers);
    for (const struct column *column = study->columns; column->heading; column++) {
        snprintf(*at++, CELL_BYTES, "%s",
                 cell ? number(figure_get(&cell->median, column->figure) * column->scale).text
                      : column->heading);
    }
    if (study->columns[0].figure == FIGURE(rate))
        snprintf(*at++, CELL_BYTES, "%s", cell ? percent(cell->rate_spread).text : "spread");
    if (series->baseline[0])
        snprintf(*at++, CELL_BYTES, "%s", cell ? ratio(cell->ratio).text : "ratio");
    return (size_t)(at - first);
}

static bool has_shares(const struct series *series)
{
    bool has_any = false;
    for (size_t i = 0; i < series->cell_count; i++)
        has_any |= series->cells[i].contender.share > 0;
    return has_any;
}

static void print_cells(const struct series *series)
{
    const struct study *study = series->study ? series->study : &appends;
    table_cell headings[MAX_COLUMNS];
    struct table table = { .columns = fill_row(headings, series, NULL), .left_columns = 1 };

    memcpy(new_row(&table), headings, table.columns * sizeof(*headings));
    for (size_t i = 0; i < series->cell_count; i++)
        fill_row(new_row(&table), series, &series->cells[i]);
    print_table(&table);
    if (series->baseline[0])
        printf(
            "ratio: %s against %s, taken round by round%s\n\n", study->columns[0].heading, series->baseline,
            has_shares(series)
                ? "; of NAME@SHARE, which begins SHARE times as many a second as NAME reached, against that"
                : "");
}

void report_series(const struct series *series)
{
    if (series->rounds_done == 0) {
        printf("%s: no round was completed\n\n", series->name);
        return;
    }
    printf("**%s: %s**, median of %u round%s", series->name, series->title, series->rounds_done,
           series->rounds_done == 1 ? "" : "s");
    if (series->limits.rate > 0)
        printf(", %s appends/s wanted; latency from when each should have begun",
               number(series->limits.rate).text);
    puts("\n");
    print_cells(series);
    fflush(stdout);
}

/* Where it was measured: "16 threads", "128 bytes", "128 bytes, processes: 4". */
static struct words point_of(const struct verdict *verdict)
{
    struct words words = { "" };
    const struct study *study = verdict->study;
    unsigned threads = verdict->workload.threads;
    const char *size = verdict->workload.sizes.text;
    if (!study)
        snprintf(words.text, sizeof(words.text), "%u thread%s", threads, threads == 1 ? "" : "s");
    else if (study->workers)
        snprintf(words.text, sizeof(words.text), "%.15s %s, %s: %u", size, study->point, study->workers,
                 threads);
    else if (study->point)
        snprintf(words.text, sizeof(words.text), "%.15s %s", size, study->point);
    return words;
}

static const char *answer_of(const struct verdict *verdict)
{
    if (isnan(verdict->reached))
        return "not measured";
    return verdict->is_met ? "yes" : verdict->is_missed ? "no" : "undecided";
}

static void add_verdict(struct table *table, const struct verdict *verdict)
{
    bool is_ratio = !isnan(verdict->theirs);
    char target[CELL_BYTES], reached[CELL_BYTES], behind[2 * CELL_BYTES] = "";

    const char *side = verdict->is_limit ? "at most" : "at least";
    if (is_ratio)
        snprintf(target, sizeof(target), "%s %.3g", side, verdict->target);
    else
        snprintf(target, sizeof(target), "%s %s", side, number(verdict->target).text);
    struct words (*show)(double value) = is_ratio ? ratio : number;
    snprintf(reached, sizeof(reached), "%.20s (%.20s to %.20s)", show(verdict->reached).text,
             show(verdict->lowest).text, show(verdict->highest).text);
    if (is_ratio)
        snprintf(behind, sizeof(behind), "%s : %s (%.32s)", number(verdict->ours).text,
                 number(verdict->theirs).text, verdict->rival);
    add_row(table, verdict->series, verdict->what, point_of(verdict).text, target, reached, behind,
            answer_of(verdict));
}

void report_verdicts(const struct report *report)
{
    struct table table = { .columns = 7, .left_columns = 2 };

    if (report->verdict_count == 0)
        return;
    add_row(&table, "promise", "measure", "at", "target", "reached", "medians", "met");
    for (size_t i = 0; i < report->verdict_count; i++)
        add_verdict(&table, &report->verdicts[i]);
    print_table(&table);
}

/* ---- for programs ----------------------------------------------------------------------------- */

/* Those that are known, on a line. */
static void json_figures(const char *key, const struct figures *figures)
{
    json_new_line();
    json_begin_object(key);
    for (size_t i = 0; i < figure_field_count; i++)
        if (isfinite(figure_get(figures, figure_fields[i].offset)))
            json_figure(figure_fields[i].name, figure_get(figures, figure_fields[i].offset));
    json_end_object();
}

static void json_cell(const struct series *series, const struct cell *cell)
{
    json_new_line();
    json_begin_object(NULL);
    json_text("contender", cell->contender.label);
    json_figure("point_threads", cell->workload.threads);
    json_figure("threads", threads_of(cell));
    json_text("size", cell->workload.sizes.text);
    json_figure("ratio", cell->ratio);
    json_figure("latencies", (double)cell->latencies->count);
    json_figures("median", &cell->median);
    json_begin_array("rounds");
    for (unsigned i = 0; i < series->rounds_done; i++)
        json_figures(NULL, &cell->rounds[i]);
    json_end_array();
    json_end_object();
}

static void json_series(const struct series *series)
{
    json_new_line();
    json_begin_object(NULL);
    json_text("name", series->name);
    json_text("title", series->title);
    json_text("baseline", series->baseline);
    json_figure("seconds", series->limits.seconds);
    json_figure("warmup_seconds", series->limits.warmup_seconds);
    json_figure("rest_seconds", series->rest_seconds);
    json_figure("bytes", series->limits.bytes);
    json_begin_array("cells");
    for (size_t i = 0; i < series->cell_count && series->rounds_done > 0; i++)
        json_cell(series, &series->cells[i]);
    json_end_array();
    json_end_object();
}

static void json_verdict(const struct verdict *verdict)
{
    json_new_line();
    json_begin_object(NULL);
    json_text("promise", verdict->series);
    json_text("measure", verdict->what);
    json_figure("threads", verdict->workload.threads);
    json_text("size", verdict->workload.sizes.text);
    json_figure(verdict->is_limit ? "at_most" : "at_least", verdict->target);
    json_figure("reached", verdict->reached);
    json_figure("lowest", verdict->lowest);
    json_figure("highest", verdict->highest);
    json_text("met", answer_of(verdict));
    json_end_object();
}

static void json_machine(const struct machine *machine)
{
    json_begin_object("machine");
    json_text("cpu", machine->cpu);
    json_figure("cores", (double)machine->cores);
    json_text("kernel", machine->kernel);
    json_text("filesystem", machine->filesystem);
    json_text("mount_options", machine->mount_options);
    json_text("device", machine->device);
    json_text("write_cache", machine->write_cache);
    json_figure("read_ahead_kib", (double)machine->read_ahead_kib);
    json_figure("memory_gib", machine->memory_gib);
    json_end_object();
}

void report_json(FILE *file, const struct report *report)
{
    json_into(file);
    json_begin_object(NULL);
    json_text("version", twinlog_version());
    json_text("command", report->command);
    json_text("note", report->note ? report->note : "");
    json_machine(&report->machine);
    json_begin_array("series");
    for (size_t i = 0; i < report->series_count; i++)
        json_series(&report->series[i]);
    json_end_array();
    json_begin_array("promises");
    for (size_t i = 0; i < report->verdict_count; i++)
        json_verdict(&report->verdicts[i]);
    json_end_array();
    json_end_object();
    json_end_line();
}

/* In quotes if it has a comma; no name has a quote. */
static void csv_name(FILE *file, const char *name)
{
    const char *quote = strchr(name, ',') ? "\"" : "";

    fprintf(file, "%s%s%s,", quote, name, quote);
}

void report_csv(FILE *file, const struct report *report)
{
    fputs("series,contender,threads,size,mean_bytes", file);
    for (size_t f = 0; f < figure_field_count; f++)
        fprintf(file, ",%s", figure_fields[f].name);
    fputs(",slowest,fastest,ratio\n", file);
    for (size_t s = 0; s < report->series_count; s++) {
        const struct series *series = &report->series[s];
        for (size_t i = 0; i < series->cell_count && series->rounds_done > 0; i++) {
            const struct cell *cell = &series->cells[i];
            csv_name(file, series->name);
            csv_name(file, cell->contender.label);
            fprintf(file, "%u,%s,%.0f", cell->workload.threads, cell->workload.sizes.text,
                    sizes_mean(&cell->workload.sizes));
            for (size_t f = 0; f < figure_field_count; f++)
                fprintf(file, ",%.6g", figure_get(&cell->median, figure_fields[f].offset));
            fprintf(file, ",%.6g,%.6g,%.6g\n", cell->slowest, cell->fastest, cell->ratio);
        }
    }
}
