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

static _Noreturn void give_up_on(const char *path)
{
    perror(path);
    _exit(EXIT_FAILURE);
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
    if (!is_copied)
        give_up_on(to);
    closedir(list);
    close(dir);
}

static void load_file(const char *path, struct file *file)
{
    struct stat about;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) < 0)
        give_up_on(path);
    file->size = (size_t)about.st_size;
    file->bytes = malloc(file->size + 1);
    if (!file->bytes || read(fd, file->bytes, file->size) != (ssize_t)file->size)
        give_up_on(path);
    close(fd);
}

void load_files(const char *dir, int (*is_wanted)(const struct dirent *entry), struct files *ret_files)
{
    struct dirent **names;
    char path[600];
    const int count = scandir(dir, &names, is_wanted, alphasort);

    if (count < 0 || count > (int)MAX_FILES)
        give_up_on(dir);
    ret_files->count = (unsigned)count;
    for (int i = 0; i < count; i++) {
        struct file *file = &ret_files->list[i];

        snprintf(file->name, sizeof(file->name), "%.63s", names[i]->d_name);
        snprintf(path, sizeof(path), "%.500s/%s", dir, file->name);
        load_file(path, file);
        free(names[i]);
    }
    free(names);
}

void store_files(const char *dir, const struct files *files)
{
    char path[600];

    remove_directory(dir);
    if (mkdir(dir, 0777) < 0)
        give_up_on(dir);
    for (unsigned i = 0; i < files->count; i++) {
        const struct file *file = &files->list[i];
        int fd;

        if (!file->bytes)
            continue;
        snprintf(path, sizeof(path), "%.500s/%s", dir, file->name);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 || write(fd, file->bytes, file->size) != (ssize_t)file->size)
            give_up_on(path);
        close(fd);
    }
}

void free_files(struct files *files)
{
    for (unsigned i = 0; i < files->count; i++)
        free(files->list[i].bytes);
    files->count = 0;
}
