/* SPDX-License-Identifier: Apache-2.0 */
/* The reports: tables, JSON and CSV. */
#include "report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <twinlog.h>

#include "contender.h"
#include "table.h"

/* ---- for people ------------------------------------------------------------------------------- */

void report_machine(FILE *file, enum report_style style, const struct report *report)
{
    const struct machine *machine = &report->machine;
    const char *end = style == REPORT_MARKDOWN ? "  \n" : "\n";

    fprintf(file, "twinlog %s%s%s, `%s`%s", twinlog_version(), report->note ? ", " : "",
            report->note ? report->note : "", report->command, end);
    fprintf(file, "%s, %ld cores, %.0f GiB, %s, %s on %s (%s), write cache: %s\n\n", machine->cpu,
            machine->cores, machine->memory_gib, machine->kernel, machine->filesystem, machine->device,
            machine->mount_options, machine->write_cache);
}

static unsigned threads_of(const struct cell *cell)
{
    const struct peer *peer = cell->contender.peer;
    return peer && peer->threads ? peer->threads : cell->workload.threads;
}

/* Says which rounds had rolls in them, whether the next segment was there each time, and what they cost the
 * device. */
static void note_rolls(FILE *file, const struct series *series)
{
    bool has_any = false;
    for (size_t i = 0; i < series->cell_count; i++) {
        const struct cell *cell = &series->cells[i];
        const struct figures *median = &cell->median;
        if (!(median->rolls > 0))
            continue;
        fprintf(file, "%s %s, %u thread%s, %s: %s",
                has_any ? ";" : "segment rolls a round:", cell->contender.label, threads_of(cell),
                threads_of(cell) == 1 ? "" : "s", cell->workload.sizes.text, number(median->rolls).text);
        if (median->roll_waits > 0)
            fprintf(file, ", %s of them had to wait for the segment", number(median->roll_waits).text);
        if (cell->contender.twinlog.keep_bytes)
            fprintf(
                file,
                ", %s files recycled, the whole device wrote %s bytes for each byte of a group and %s times "
                "for each group",
                number(median->recycled).text, number(median->device_bytes_per_written).text,
                number(median->device_writes_per_sync).text);
        has_any = true;
    }
    fputs(has_any ? "\n\n" : "", file);
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

static void print_cells(FILE *file, enum report_style style, const struct series *series)
{
    const struct study *study = series->study ? series->study : &appends;
    table_cell headings[MAX_COLUMNS];
    struct table table = { .columns = fill_row(headings, series, NULL), .left_columns = 1 };

    memcpy(new_row(&table), headings, table.columns * sizeof(*headings));
    for (size_t i = 0; i < series->cell_count; i++)
        fill_row(new_row(&table), series, &series->cells[i]);
    print_table(file, style, &table);
    fputs("\n", file);
    if (series->baseline[0])
        fprintf(file, "ratio: %s against %s, taken round by round\n\n", study->columns[0].heading,
                series->baseline);
    if (!series->study)
        note_rolls(file, series);
}

void report_series(FILE *file, enum report_style style, const struct series *series)
{
    const char *mark = style == REPORT_MARKDOWN ? "**" : "";

    if (series->rounds_done == 0) {
        fprintf(file, "%s: no round was completed\n\n", series->name);
        return;
    }
    fprintf(file, "%s%s: %s%s, median of %u round%s", mark, series->name, series->title, mark,
            series->rounds_done, series->rounds_done == 1 ? "" : "s");
    if (series->limits.rate > 0)
        fprintf(file, ", %s appends/s wanted; latency from when each should have begun",
                number(series->limits.rate).text);
    fputs("\n\n", file);
    print_cells(file, style, series);
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

static void add_verdict(struct table *table, const struct verdict *verdict)
{
    bool is_ratio = !isnan(verdict->theirs);
    char target[CELL_BYTES], reached[CELL_BYTES], behind[2 * CELL_BYTES] = "";
    const char *answer = isnan(verdict->reached) ? "not measured"
                         : verdict->is_met       ? "yes"
                         : verdict->is_missed    ? "no"
                                                 : "undecided";

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
    add_row(table, verdict->series, verdict->what, point_of(verdict).text, target, reached, behind, answer);
}

void report_verdicts(FILE *file, enum report_style style, const struct verdict *verdicts, size_t count)
{
    struct table table = { .columns = 7, .left_columns = 2 };

    if (count == 0)
        return;
    add_row(&table, "promise", "measure", "at", "target", "reached", "medians", "met");
    for (size_t i = 0; i < count; i++)
        add_verdict(&table, &verdicts[i]);
    print_table(file, style, &table);
    fputs("\n", file);
}

/* ---- for programs ----------------------------------------------------------------------------- */

static void json_string(FILE *file, const char *text)
{
    fputc('"', file);
    for (; text && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(file, "\\%c", c);
        else if (c < 0x20)
            fprintf(file, "\\u%04x", c);
        else
            fputc(c, file);
    }
    fputc('"', file);
}

static void json_member(FILE *file, const char *name, const char *text)
{
    fprintf(file, "\"%s\": ", name);
    json_string(file, text);
    fputs(", ", file);
}

static void json_number(FILE *file, const char *name, double value)
{
    fprintf(file, "\"%s\": ", name);
    if (isfinite(value))
        fprintf(file, "%.6g", value);
    else
        fputs("null", file);
}

static void json_figures(FILE *file, const struct figures *figures)
{
    fputs("{", file);
    for (size_t i = 0; i < figure_field_count; i++) {
        fputs(i ? ", " : "", file);
        json_number(file, figure_fields[i].name, figure_get(figures, figure_fields[i].offset));
    }
    fputs("}", file);
}

static void json_setup(FILE *file, const struct twinlog_setup *setup)
{
    fprintf(file,
            "\"twinlog\": {\"io\": \"%s\", \"pad\": %s, \"buffered\": %s, \"fresh\": %s, \"recycle\": %s, "
            "\"spares\": %u, \"segment_bytes\": %llu, \"buffer_bytes\": %u, \"keep_bytes\": %llu}, ",
            twinlog_io_name(setup->io), setup->is_padded ? "true" : "false",
            setup->is_buffered ? "true" : "false", setup->is_fresh ? "true" : "false",
            setup->is_not_recycling ? "false" : "true", setup->spares,
            (unsigned long long)setup->segment_bytes, setup->buffer_bytes,
            (unsigned long long)setup->keep_bytes);
}

static void json_cell(FILE *file, const struct series *series, const struct cell *cell)
{
    fputs("      {", file);
    json_member(file, "contender", cell->contender.label);
    if (cell->contender.peer == &peer_twinlog)
        json_setup(file, &cell->contender.twinlog);
    fprintf(file, "\"point_threads\": %u, \"threads\": %u, ", cell->workload.threads, threads_of(cell));
    json_member(file, "size", cell->workload.sizes.text);
    json_number(file, "ratio", cell->ratio);
    fputs(",\n       \"median\": ", file);
    json_figures(file, &cell->median);
    fputs(",\n       \"rounds\": [", file);
    for (unsigned i = 0; i < series->rounds_done; i++) {
        fputs(i ? ",\n         " : "\n         ", file);
        json_figures(file, &cell->rounds[i]);
    }
    fputs("]}", file);
}

static void json_series(FILE *file, const struct series *series)
{
    fputs("    {", file);
    json_member(file, "name", series->name);
    json_member(file, "title", series->title);
    if (series->baseline[0])
        json_member(file, "baseline", series->baseline);
    json_number(file, "seconds", series->limits.seconds);
    fputs(", ", file);
    json_number(file, "warmup_seconds", series->limits.warmup_seconds);
    fputs(", ", file);
    json_number(file, "rest_seconds", series->rest_seconds);
    fputs(", ", file);
    json_number(file, "wanted_rate", series->limits.rate);
    fprintf(file, ", \"count\": %llu, \"bytes\": %llu, \"cells\": [\n",
            (unsigned long long)series->limits.count, (unsigned long long)series->limits.bytes);
    for (size_t i = 0; i < series->cell_count && series->rounds_done > 0; i++) {
        fputs(i ? ",\n" : "", file);
        json_cell(file, series, &series->cells[i]);
    }
    fputs("\n    ]}", file);
}

static void json_verdict(FILE *file, const struct verdict *verdict)
{
    fputs("    {", file);
    json_member(file, "promise", verdict->series);
    json_member(file, "measure", verdict->what);
    fprintf(file, "\"threads\": %u, ", verdict->workload.threads);
    json_member(file, "size", verdict->workload.sizes.text);
    json_number(file, verdict->is_limit ? "at_most" : "at_least", verdict->target);
    fputs(", ", file);
    json_number(file, "reached", verdict->reached);
    fputs(", ", file);
    json_number(file, "lowest", verdict->lowest);
    fputs(", ", file);
    json_number(file, "highest", verdict->highest);
    fprintf(file, ", \"met\": %s}", verdict->is_met ? "true" : verdict->is_missed ? "false" : "null");
}

static void json_machine(FILE *file, const struct machine *machine)
{
    fputs("  \"machine\": {", file);
    json_member(file, "cpu", machine->cpu);
    fprintf(file, "\"cores\": %ld, ", machine->cores);
    json_member(file, "kernel", machine->kernel);
    json_member(file, "filesystem", machine->filesystem);
    json_member(file, "mount_options", machine->mount_options);
    json_member(file, "device", machine->device);
    json_member(file, "write_cache", machine->write_cache);
    json_number(file, "memory_gib", machine->memory_gib);
    fputs("},\n", file);
}

void report_json(FILE *file, const struct report *report)
{
    fputs("{ ", file);
    json_member(file, "version", twinlog_version());
    json_member(file, "command", report->command);
    json_member(file, "note", report->note);
    fputs("\n", file);
    json_machine(file, &report->machine);
    fputs("  \"series\": [\n", file);
    for (size_t i = 0; i < report->series_count; i++) {
        fputs(i ? ",\n" : "", file);
        json_series(file, &report->series[i]);
    }
    fputs("\n  ],\n  \"promises\": [\n", file);
    for (size_t i = 0; i < report->verdict_count; i++) {
        fputs(i ? ",\n" : "", file);
        json_verdict(file, &report->verdicts[i]);
    }
    fputs("\n  ]\n}\n", file);
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
    fputs(",ratio\n", file);
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
            fprintf(file, ",%.6g\n", cell->ratio);
        }
    }
}
