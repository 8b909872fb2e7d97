/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table is filled cell by cell first, because the width of a column is known only at its end; Markdown and plain text
 * differ in nothing but the lines between the cells.
 */
#include "table.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

table_cell *new_row(struct table *table)
{
    size_t used = table->rows * table->columns;
    table_cell *cells = realloc(table->cells, (used + table->columns) * sizeof(*cells));
    if (!cells) {
        fprintf(stderr, "twinlog-bench: no memory for a table\n");
        exit(1);
    }
    memset(cells + used, 0, table->columns * sizeof(*cells));
    table->cells = cells;
    table->rows++;
    return cells + used;
}

void add_row(struct table *table, ...)
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

static void print_cell(FILE *file, const char *text, int width, bool is_left)
{
    int pad = width - width_of(text);
    fprintf(file, "%*s%s%*s", is_left ? 0 : pad, "", text, is_left ? pad : 0, "");
}

static void print_rule(FILE *file, const struct table *table)
{
    for (size_t i = 0; i < table->columns; i++)
        fputs(i < table->left_columns ? "|---" : "|--:", file);
    fputs("|\n", file);
}

void print_table(FILE *file, enum report_style style, struct table *table)
{
    int widths[MAX_COLUMNS] = { 0 };
    const char *gap = style == REPORT_MARKDOWN ? " | " : "  ";

    for (size_t i = 0; i < table->rows * table->columns; i++) {
        int width = width_of(table->cells[i]);
        int *widest = &widths[i % table->columns];
        *widest = width > *widest ? width : *widest;
    }
    for (size_t row = 0; row < table->rows; row++) {
        fputs(style == REPORT_MARKDOWN ? "| " : "", file);
        for (size_t i = 0; i < table->columns; i++) {
            fputs(i ? gap : "", file);
            print_cell(file, table->cells[row * table->columns + i], widths[i], i < table->left_columns);
        }
        fputs(style == REPORT_MARKDOWN ? " |\n" : "\n", file);
        if (row == 0 && style == REPORT_MARKDOWN)
            print_rule(file, table);
    }
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

struct words number(double value)
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

struct words ratio(double value)
{
    return unless_unknown("%.2f", value);
}
struct words percent(double value)
{
    return unless_unknown("%.0f %%", value * 100);
}
struct words whole(unsigned value)
{
    return unless_unknown("%.0f", value);
}
