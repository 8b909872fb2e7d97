/* SPDX-License-Identifier: Apache-2.0 */
/* Two runs, compared: what became quicker or slower, and what cannot be said. */
#ifndef COMPARE_H
#define COMPARE_H

#include <stdbool.h>

/* Prints a table of what is in both files, written by report_json(). False if one cannot be read; says so on stderr. */
bool compare_runs(const char *old_path, const char *new_path);

#endif
