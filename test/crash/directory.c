/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* A hole in a file is one in the copy, too. */
static bool copy_file(int from_dir, int to_dir, const char *name)
{
    const int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC);
    const int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    struct stat about;
    off_t at = 0, end = 0;

    if (from < 0 || to < 0 || fstat(from, &about) < 0 || ftruncate(to, about.st_size) < 0)
        return false;
    while ((at = lseek(from, end, SEEK_DATA)) >= 0 && (end = lseek(from, at, SEEK_HOLE)) > at)
        for (off_t to_at = at; at < end;)
            if (copy_file_range(from, &at, to, &to_at, (size_t)(end - at), 0) <= 0)
                return false;
    close(from);
    close(to);
    return true;
}

void copy_directory(const char *from, const char *to)
{
    DIR *list = opendir(from);
    const struct dirent *entry;
    bool is_copied;
    int dir;

    remove_directory(to);
    is_copied = list && mkdir(to, 0777) == 0 && (dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0;
    while (is_copied && (entry = readdir(list)))
        is_copied = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                    copy_file(dirfd(list), dir, entry->d_name);
    if (!is_copied) {
        perror(to);
        _exit(EXIT_FAILURE);
    }
    closedir(list);
    close(dir);
}
