/* SPDX-License-Identifier: Apache-2.0 */
/* The directory in a path, without a look at the file system. */
#ifndef TOOLS_PATH_H
#define TOOLS_PATH_H

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* With the slash behind it; 0: the path is a name alone. */
static inline size_t directory_length(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash)
        return 0;
    return (size_t)(slash - path) + 1;
}

/* With the slash behind it; ".": the path is a name alone. */
static inline void directory_of(const char *path, char ret_directory[PATH_MAX])
{
    const size_t length = directory_length(path);

    if (length > 0)
        snprintf(ret_directory, PATH_MAX, "%.*s", (int)length, path);
    else
        snprintf(ret_directory, PATH_MAX, ".");
}

#endif
