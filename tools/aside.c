/* SPDX-License-Identifier: Apache-2.0 */
/* See aside.h. The file keeps its bytes and rights, and what is beside it: only its name is another one. */
#define _GNU_SOURCE
#include "aside.h"
#include "common.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define MOST_ASIDE 10000u

bool aside_helps(const char *path, int error)
{
    struct stat status;
    const bool is_about_file = error == -EUCLEAN || error == -EACCES || error == -EPERM;

    return is_about_file && lstat(path, &status) == 0 && S_ISREG(status.st_mode);
}

int put_aside(const char *path, int error)
{
    char name[PATH_MAX];
    int result = -EEXIST;

    for (unsigned number = 1; result == -EEXIST && number <= MOST_ASIDE; number++) {
        if (snprintf(name, sizeof(name), "%s.unknown.%u", path, number) >= (int)sizeof(name))
            return -ENAMETOOLONG;
        result = rename_to_new(path, name);
    }

    if (result == 0)
        complain("cannot go on in '%s' (%s): it is '%s' now, and a new file begins", path,
                 twinlog_strerror(error), name);
    return result;
}
