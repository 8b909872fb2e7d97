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
    table_cell *cells;    /* row by row */
};

/* Adds one more row of empty cells, and returns the first of them. */
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

static void set_cell(table_cell *cell, const char *text)
{
    snprintf(*cell, CELL_BYTES, "%s", text);
}

/* Adds one row of table->columns strings. */
static void add_row(struct table *table, ...)
{
    va_list texts;
    table_cell *cells = new_row(table);

    va_start(texts, table);
    for (size_t i = 0; i < table->columns; i++)
        set_cell(&cells[i], va_arg(texts, const char *));
    va_end(texts);
}

/* The columns of a terminal that a UTF-8 string takes. We print no wide characters, so each character takes one, and
 * the bytes that continue a character take none. */
static int width_of(const char *text)
{
    int width = 0;

    for (; *text; text++) {
        bool continues = ((unsigned char)*text & 0xc0) == 0x80;
        if (!continues)
            width++;
    }
    return width;
}

/* Sets widths[i] to the width of the widest cell of column i. */
static void measure_columns(const struct table *table, int *widths)
{
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t i = 0; i < table->columns; i++) {
            int width = width_of(table->cells[row * table->columns + i]);
            if (width > widths[i])
                widths[i] = width;
        }
    }
}

static void print_row(const struct table *table, size_t row, const int *widths)
{
    table_cell *cells = &table->cells[row * table->columns];

    for (size_t i = 0; i < table->columns; i++) {
        const char *text = cells[i];
        int padding = widths[i] - width_of(text);

        fputs(i == 0 ? "| " : " | ", stdout);
        if (i < table->left_columns)
            printf("%s%*s", text, padding, "");
        else
            printf("%*s%s", padding, "", text);
    }
    puts(" |");
}

/* The line of Markdown below the heading, which says how the columns are aligned. */
static void print_alignment(const struct table *table)
{
    for (size_t i = 0; i < table->columns; i++)
        fputs(i < table->left_columns ? "|---" : "|--:", stdout);
    puts("|");
}

/* Prints a table that has a heading at least, with an empty line behind it, and frees its cells. */
static void print_table(struct table *table)
{
    int widths[MAX_COLUMNS] = { 0 };

    measure_columns(table, widths);
    print_row(table, 0, widths);
    print_alignment(table);
    for (size_t row = 1; row < table->rows; row++)
        print_row(table, row, widths);
    puts("");

    free(table->cells);
    table->cells = NULL;
}

/* ---- numbers as words ------------------------------------------------------------------------- */

struct words {
    char text[48];
};

/* Rounded to a whole number: "-1,234,567". */
static struct words with_commas(double value)
{
    char digits[32];
    struct words words = { "" };
    int length = snprintf(digits, sizeof(digits), "%.0f", value);
    size_t used = 0;

    for (int i = 0; i < length && used + 2 < sizeof(words.text); i++) {
        bool has_digit_before = i > 0 && digits[i - 1] != '-';
        bool begins_group = (length - i) % 3 == 0;
        if (has_digit_before && begins_group)
            words.text[used++] = ',';
        words.text[used++] = digits[i];
    }
    return words;
}

/* So many decimals show about three digits that count; a very small value has five decimals in any case. */
static int decimals_of(double size)
{
    if (size >= 100)
        return 0;
    if (size >= 10)
        return 1;
    if (size >= 0.01)
        return 2;
    return 5;
}

/* About three digits that count, or a whole number with commas; "-" where the value is not known. */
static struct words number(double value)
{
    struct words words = { "-" };
    double size = fabs(value);

    if (isnan(value))
        return words;
    if (size >= 1000 || size == 0)
        return with_commas(value);
    snprintf(words.text, sizeof(words.text), "%.*f", decimals_of(size), value);
    return words;
}

static struct words ratio(double value)
{
    struct words words = { "-" };

    if (!isnan(value))
        snprintf(words.text, sizeof(words.text), "%.2f", value);
    return words;
}

static struct words percent(double value)
{
    struct words words = { "-" };

    if (!isnan(value))
        snprintf(words.text, sizeof(words.text), "%.0f %%", value * 100);
    return words;
}

static struct words whole(unsigned value)
{
    struct words words;

    snprintf(words.text, sizeof(words.text), "%u", value);
    return words;
}

/* ---- for people: the machine ------------------------------------------------------------------ */

/* "with LevelDB 1.23, SQLite 3.40.1, spdlog 1.10.0": the libraries of the contenders that are in this build. */
static void print_versions(void)
{
    bool is_first = true;

    for (size_t i = 0; peer_at(i); i++) {
        const char *version = peer_at(i)->version;
        /* Contenders of the same library stand one after the other and share one string. */
        bool is_named_already = i > 0 && version == peer_at(i - 1)->version;
        if (!version || is_named_already)
            continue;

        int length = (int)strcspn(version, ":");
        printf("%s%.*s", is_first ? "with " : ", ", length, version);
        is_first = false;
    }

    /* The address is NULL if the library was not there at build time. */
    if (&peer_spdlog)
        printf(", %s", peer_spdlog.version);
    puts("  ");
}

void report_machine(const struct report *report)
{
    const struct machine *machine = &report->machine;
    const time_t now = time(NULL);
    char date[16] = "";

    strftime(date, sizeof(date), "%Y-%m-%d", gmtime(&now));
    printf("twinlog %s", twinlog_version());
    if (report->note)
        printf(", %s", report->note);
    printf(", %s, `%s`  \n", date, report->command);

    print_versions();

    printf("%s, %ld cores, %.0f GiB, %s, ", machine->cpu, machine->cores, machine->memory_gib,
           machine->kernel);
    printf("%s on %s (%s), ", machine->filesystem, machine->device, machine->mount_options);
    printf("write cache: %s, read-ahead: %ld KiB\n\n", machine->write_cache, machine->read_ahead_kib);
}

/* ---- for people: a series --------------------------------------------------------------------- */

/* The columns of a series that is no study. */
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

static const struct study *study_of(const struct series *series)
{
    if (series->study)
        return series->study;
    return &appends;
}

static bool shows_spread(const struct study *study)
{
    return study->columns[0].figure == FIGURE(rate);
}

static bool shows_ratio(const struct series *series)
{
    return series->baseline[0] != 0;
}

/* A contender may have a number of threads of its own; in a study there is none. */
static unsigned threads_of(const struct cell *cell)
{
    const struct peer *peer = cell->contender.peer;

    if (peer && peer->threads)
        return peer->threads;
    return cell->workload.threads;
}

/* A contender may have a size of record of its own; in a study there is none. */
static struct words size_of(const struct cell *cell)
{
    struct words words;
    const struct peer *peer = cell->contender.peer;

    if (peer && peer->record_bytes)
        return number(peer->record_bytes);
    snprintf(words.text, sizeof(words.text), "%s", cell->workload.sizes.text);
    return words;
}

/* Fills in the headings; returns how many columns there are. fill_values() has the same columns in the same order. */
static size_t fill_headings(table_cell *first, const struct series *series)
{
    const struct study *study = study_of(series);
    table_cell *next = first;

    set_cell(next++, series->study ? "" : "contender");
    if (study->point)
        set_cell(next++, study->point);
    if (study->workers)
        set_cell(next++, study->workers);

    for (const struct column *column = study->columns; column->heading; column++)
        set_cell(next++, column->heading);

    if (shows_spread(study))
        set_cell(next++, "spread");
    if (shows_ratio(series))
        set_cell(next++, "ratio");
    return (size_t)(next - first);
}

static void fill_values(table_cell *first, const struct series *series, const struct cell *cell)
{
    const struct study *study = study_of(series);
    table_cell *next = first;

    set_cell(next++, cell->contender.label);
    if (study->point)
        set_cell(next++, size_of(cell).text);
    if (study->workers)
        set_cell(next++, whole(threads_of(cell)).text);

    for (const struct column *column = study->columns; column->heading; column++) {
        double figure = figure_get(&cell->median, column->figure);
        set_cell(next++, number(figure * column->scale).text);
    }

    if (shows_spread(study))
        set_cell(next++, percent(cell->rate_spread).text);
    if (shows_ratio(series))
        set_cell(next++, ratio(cell->ratio).text);
}

static bool has_shares(const struct series *series)
{
    for (size_t i = 0; i < series->cell_count; i++) {
        if (series->cells[i].contender.share > 0)
            return true;
    }
    return false;
}

/* Says below a table what its last column is. */
static void explain_ratio(const struct series *series)
{
    const char *figure = study_of(series)->columns[0].heading;

    printf("ratio: %s against %s, taken round by round", figure, series->baseline);
    if (has_shares(series))
        printf("; of NAME@SHARE, which begins SHARE times as many a second as NAME reached, against that");
    puts("\n");
}

static void print_cells(const struct series *series)
{
    table_cell headings[MAX_COLUMNS];
    struct table table = { .left_columns = 1 };

    table.columns = fill_headings(headings, series);
    memcpy(new_row(&table), headings, table.columns * sizeof(*headings));
    for (size_t i = 0; i < series->cell_count; i++)
        fill_values(new_row(&table), series, &series->cells[i]);
    print_table(&table);

    if (shows_ratio(series))
        explain_ratio(series);
}

void report_series(const struct series *series)
{
    unsigned rounds = series->rounds_done;

    if (rounds == 0) {
        printf("%s: no round was completed\n\n", series->name);
        return;
    }

    printf("**%s: %s**, median of %u round%s", series->name, series->title, rounds, rounds == 1 ? "" : "s");
    if (series->limits.rate > 0) {
        printf(", %s appends/s wanted; latency from when each should have begun",
               number(series->limits.rate).text);
    }
    puts("\n");

    print_cells(series);
    fflush(stdout);
}

/* ---- for people: the promises ----------------------------------------------------------------- */

/* Where it was measured: "16 threads", "128 bytes", "128 bytes, processes: 4". */
static struct words point_of(const struct verdict *verdict)
{
    struct words words = { "" };
    const struct study *study = verdict->study;
    unsigned threads = verdict->workload.threads;
    const char *size = verdict->workload.sizes.text;

    if (!study) {
        snprintf(words.text, sizeof(words.text), "%u thread%s", threads, threads == 1 ? "" : "s");
    } else if (study->workers) {
        snprintf(words.text, sizeof(words.text), "%.15s %s, %s: %u", size, study->point, study->workers,
                 threads);
    } else if (study->point) {
        snprintf(words.text, sizeof(words.text), "%.15s %s", size, study->point);
    }
    return words;
}

static const char *answer_of(const struct verdict *verdict)
{
    if (isnan(verdict->reached))
        return "not measured";
    if (verdict->is_met)
        return "yes";
    if (verdict->is_missed)
        return "no";
    return "undecided";
}

/* A promise about a figure of ours alone. */
static void add_figure(struct table *table, const struct verdict *verdict, const char *side)
{
    char target[CELL_BYTES], reached[CELL_BYTES];

    snprintf(target, sizeof(target), "%s %s", side, number(verdict->target).text);
    snprintf(reached, sizeof(reached), "%.20s (%.20s to %.20s)", number(verdict->reached).text,
             number(verdict->lowest).text, number(verdict->highest).text);

    add_row(table, verdict->series, verdict->what, point_of(verdict).text, target, reached, "",
            answer_of(verdict));
}

/* A promise about our figure divided by that of a rival. The medians of both stand behind the ratio. */
static void add_ratio(struct table *table, const struct verdict *verdict, const char *side)
{
    char target[CELL_BYTES], reached[CELL_BYTES], medians[2 * CELL_BYTES];

    snprintf(target, sizeof(target), "%s %.3g", side, verdict->target);
    snprintf(reached, sizeof(reached), "%.20s (%.20s to %.20s)", ratio(verdict->reached).text,
             ratio(verdict->lowest).text, ratio(verdict->highest).text);
    snprintf(medians, sizeof(medians), "%s : %s (%.32s)", number(verdict->ours).text,
             number(verdict->theirs).text, verdict->rival);

    add_row(table, verdict->series, verdict->what, point_of(verdict).text, target, reached, medians,
            answer_of(verdict));
}

void report_verdicts(const struct report *report)
{
    struct table table = { .columns = 7, .left_columns = 2 };

    if (report->verdict_count == 0)
        return;

    add_row(&table, "promise", "measure", "at", "target", "reached", "medians", "met");
    for (size_t i = 0; i < report->verdict_count; i++) {
        const struct verdict *verdict = &report->verdicts[i];
        const char *side = verdict->is_limit ? "at most" : "at least";
        bool has_rival = !isnan(verdict->theirs);

        if (has_rival)
            add_ratio(&table, verdict, side);
        else
            add_figure(&table, verdict, side);
    }
    print_table(&table);
}

/* ---- for programs ----------------------------------------------------------------------------- */

/* So many cells have figures: none, if the series was interrupted in its first round. */
static size_t measured_cells(const struct series *series)
{
    if (series->rounds_done == 0)
        return 0;
    return series->cell_count;
}

/* Those figures that are known, on one line. */
static void json_figures(const char *key, const struct figures *figures)
{
    json_new_line();
    json_begin_object(key);
    for (size_t i = 0; i < figure_field_count; i++) {
        double value = figure_get(figures, figure_fields[i].offset);
        if (isfinite(value))
            json_figure(figure_fields[i].name, value);
    }
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
    for (size_t i = 0; i < measured_cells(series); i++)
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
    if (verdict->is_limit)
        json_figure("at_most", verdict->target);
    else
        json_figure("at_least", verdict->target);
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

/* A name and the comma behind it. The name is in quotes if it has a comma itself; no name has a quote. */
static void csv_name(FILE *file, const char *name)
{
    const char *quote = strchr(name, ',') ? "\"" : "";

    fprintf(file, "%s%s%s,", quote, name, quote);
}

static void csv_headings(FILE *file)
{
    fputs("series,contender,threads,size,mean_bytes", file);
    for (size_t i = 0; i < figure_field_count; i++)
        fprintf(file, ",%s", figure_fields[i].name);
    fputs(",slowest,fastest,ratio\n", file);
}

static void csv_cell(FILE *file, const struct series *series, const struct cell *cell)
{
    const struct workload *workload = &cell->workload;

    csv_name(file, series->name);
    csv_name(file, cell->contender.label);
    fprintf(file, "%u,%s,%.0f", workload->threads, workload->sizes.text, sizes_mean(&workload->sizes));
    for (size_t i = 0; i < figure_field_count; i++)
        fprintf(file, ",%.6g", figure_get(&cell->median, figure_fields[i].offset));
    fprintf(file, ",%.6g,%.6g,%.6g\n", cell->slowest, cell->fastest, cell->ratio);
}

void report_csv(FILE *file, const struct report *report)
{
    csv_headings(file);
    for (size_t s = 0; s < report->series_count; s++) {
        const struct series *series = &report->series[s];

        for (size_t i = 0; i < measured_cells(series); i++)
            csv_cell(file, series, &series->cells[i]);
    }
}
