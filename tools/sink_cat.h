/* SPDX-License-Identifier: Apache-2.0 */
/* Shows on standard output what was written to a plain file. */
#ifndef TOOLS_SINK_CAT_H
#define TOOLS_SINK_CAT_H

#include <stdbool.h>
#include <sys/types.h>

/* Returns the exit status. */
int show_sink(const char *path, bool is_following);

/* Is there a file with the name that a mapped sink gives to the area beside its own file? Also true where that is not
 * known. */
bool has_area(const char *path, ino_t inode);

#endif
