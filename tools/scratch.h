/* SPDX-License-Identifier: Apache-2.0 */
/* A directory for logs that are measured and removed. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <limits.h>

/* DIR/.twinlog-NAME-XXXXXX, with room behind it for a name of a file in it. */
int create_scratch(const char *dir, const char *name, char ret_path[PATH_MAX]);
int remove_scratch(const char *path); /* with all that is in it */

#endif
