/* SPDX-License-Identifier: Apache-2.0 */
/* What twinlog stat shows of a log while another process writes it: --live and --prometheus. */
#ifndef TOOLS_LIVE_H
#define TOOLS_LIVE_H

#include <stdbool.h>
#include <stdint.h>

/* The argument of the option that next_option() just returned: seconds, with decimals. In milliseconds. */
uint64_t take_interval(const char *option);

/* Until a signal ends it: a screen on a terminal, else a line every `interval_ms`, or a JSON object. Returns the exit
 * status. */
int show_live(const char *dir, uint64_t interval_ms, bool is_json);

/* Once, for Prometheus to scrape. Returns the exit status. */
int show_prometheus(const char *dir);

#endif
