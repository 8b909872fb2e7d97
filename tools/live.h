/* SPDX-License-Identifier: Apache-2.0 */
/* Shows a log while another process writes it: twinlog top, stat --live and --prometheus. */
#ifndef TOOLS_LIVE_H
#define TOOLS_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#define DEFAULT_INTERVAL_MS 1000u

/* The argument of the option that next_option() just returned: seconds, with decimals. Returns
 * milliseconds. */
uint64_t take_interval(const char *option);

/* Every `interval_ms`, until a signal comes: a screen on a terminal, else a line, or a JSON object. Returns
 * the exit status. */
int show_live(const char *dir, uint64_t interval_ms, bool is_json);

/* Prints the metrics once, for Prometheus. Returns the exit status. */
int show_prometheus(const char *dir);

#endif
