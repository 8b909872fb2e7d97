/* SPDX-License-Identifier: Apache-2.0 */
/* Tables, and the numbers in them. */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum report_style {
    REPORT_TEXT,
    REPORT_MARKDOWN
};

#define CELL_BYTES 72
#define MAX_COLUMNS 15
typedef char table_cell[CELL_BYTES];

struct table {
    size_t columns, rows; /* the first row is the heading */
    size_t left_columns;  /* so many are words, flush left; the rest are numbers */
    table_cell *cells;
};

/* One more row of empty cells. */
table_cell *new_row(struct table *table);
/* Adds one row of table->columns strings. */
void add_row(struct table *table, ...);
/* And empties it. */
void print_table(FILE *file, enum report_style style, struct table *table);

struct words {
    char text[48];
};

/* Three digits that count, or a whole number with commas; "-" where it is not known. */
struct words number(double value);
struct words ratio(double value);
struct words percent(double value);
struct words whole(unsigned value);

#endif
