/* SPDX-License-Identifier: Apache-2.0 */
/* Shows a log while another process writes it: twinlog top, and stat --prometheus. */
#ifndef TOOLS_LIVE_H
#define TOOLS_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <twinlog_admin.h>

/* Why appends failed; the names are those of the label `kind` of a metric. */
#define APPEND_FAILURE_KINDS 5u
extern const struct append_failure_kind {
    const char *name;
    size_t offset; /* of its count in struct twinlog_stat */
} append_failure_kinds[APPEND_FAILURE_KINDS];
uint64_t append_failures_of(const struct twinlog_stat *stat, size_t kind);

/* Prints a gauge for Prometheus, with its help. */
void print_metric(const char *dir, const char *name, const char *help, uint64_t value);

/* Prints the metrics once, for Prometheus. Returns the exit status. */
int show_prometheus(const char *dir);

#endif
