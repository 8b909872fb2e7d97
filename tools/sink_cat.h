/* SPDX-License-Identifier: Apache-2.0 */
/* Shows on standard output what was written to a plain file. */
#ifndef TOOLS_SINK_CAT_H
#define TOOLS_SINK_CAT_H

#include <stdbool.h>

/* Returns the exit status. */
int show_sink(const char *path, bool is_following);

#endif
