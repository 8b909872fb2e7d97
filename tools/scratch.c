/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "scratch.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_NAME 16

static int remove_entry(const char *path, const struct stat *stat, int kind, struct FTW *position)
{
    (void)stat;
    (void)kind;
    (void)position;
    return remove(path);
}

int remove_scratch(const char *path)
{
    if (nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS) < 0)
        return -errno;
    return 0;
}

int create_scratch(const char *dir, const char *name, char ret_path[PATH_MAX])
{
    const int length = snprintf(ret_path, PATH_MAX, "%s/.twinlog-%s-XXXXXX", dir, name);
    if (length < 0 || length + MOST_NAME > PATH_MAX)
        return -ENAMETOOLONG;
    if (mkdtemp(ret_path))
        return 0;
    return -errno;
}
