/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void remove_directory(const char *path)
{
    DIR *list = opendir(path);
    const struct dirent *entry;

    while (list && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(list), entry->d_name, 0);
    if (list)
        closedir(list);
    rmdir(path);
}
