/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files beside a data file: `.NAME.INODE.sink`, `.end` and `.new`. They belong to the owner of the data file, and
 * have its permissions. In a directory where others may make files, one of a user without the right to write the data
 * file is refused.
 *
 * A name beside leads to no data file: inode numbers are used again, and directories are copied. Files beside that
 * no process can use any more are removed, whatever they say.
 */
#define _GNU_SOURCE
#include "sink/sink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void twl_sink_name(const char *name, uint64_t inode, const char *suffix, char ret_name[NAME_ROOM])
{
    snprintf(ret_name, NAME_ROOM, ".%s.%" PRIu64 ".%s", name, inode, suffix);
}

/* ---- owners and permissions ---------------------------------------------------------------------- */

void twl_beside_give(int fd, const struct stat *data)
{
    if (fchown(fd, data->st_uid, data->st_gid) < 0) /* only root may */
        (void)!fchown(fd, (uid_t)-1, data->st_gid);
    (void)!fchmod(fd, data->st_mode & 0666);
}

int twl_beside_check(int dir, int fd, const struct stat *data)
{
    struct stat about, around;
    if (fstat(fd, &about) < 0 || fstat(dir, &around) < 0)
        return -errno;
    if (!S_ISREG(about.st_mode) || about.st_nlink > 1)
        return -EPERM;
    const bool is_open = around.st_mode & (S_ISVTX | S_IWGRP | S_IWOTH);
    const bool is_of_group = (data->st_mode & S_IWGRP) && about.st_gid == data->st_gid &&
                             !((around.st_mode & S_ISGID) && (around.st_mode & S_IWOTH));
    return !is_open || about.st_uid == geteuid() || about.st_uid == 0 || about.st_uid == data->st_uid ||
                   is_of_group || (data->st_mode & S_IWOTH)
               ? 0
               : -EPERM;
}

/* ---- those of no use ----------------------------------------------------------------------------- */

static DIR *list_dir(int dir)
{
    const int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list && fd >= 0)
        close(fd);
    return list;
}

/* The suffix, if it is the name of a file beside a file with that name. */
static const char *read_name(const char *entry, const char *name, uint64_t *ret_inode)
{
    static const char *const suffixes[] = { "sink", "end", "new" };
    const size_t length = strlen(name);
    char expected[NAME_ROOM];
    if (entry[0] != '.' || strncmp(entry + 1, name, length) != 0 || entry[length + 1] != '.')
        return NULL;
    *ret_inode = strtoull(entry + length + 2, NULL, 10);
    for (unsigned i = 0; i < 3; i++) {
        twl_sink_name(name, *ret_inode, suffixes[i], expected);
        if (strcmp(entry, expected) == 0)
            return suffixes[i];
    }
    return NULL;
}

/* May the area still say where a renamed file ends? */
static bool is_of_use(int fd, uint64_t inode)
{
    struct area *area;
    if (!twl_area_is_whole(fd) || twl_area_map(fd, 0, &area) < 0)
        return false;
    const bool is_of_use = twl_area_is_of(area, &area->identity) && area->identity.inode == inode;
    twl_mapping_close(area, AREA_BYTES);
    return is_of_use;
}

static void drop_area(const struct twinlog_sink *sink, const char *name, uint64_t inode)
{
    bool has_others;
    const int fd = openat(sink->dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return;
    if (twl_area_try_lock(fd, F_WRLCK, 0) == 0 && twl_area_has_others(fd, &has_others) == 0 && !has_others &&
        twl_sink_has_name(sink, name, fd) && !is_of_use(fd, inode))
        unlinkat(sink->dir, name, 0);
    twl_area_close(fd);
}

void twl_beside_drop_others(struct twinlog_sink *sink, const struct identity *present)
{
    char area_name[NAME_ROOM];
    const struct dirent *entry;
    const char *suffix;
    uint64_t inode;
    for (unsigned round = 0; round < 2; round++) { /* first areas, then records without an area */
        DIR *list = list_dir(sink->dir);
        while (list && (entry = readdir(list))) {
            suffix = read_name(entry->d_name, sink->name, &inode);
            if (!suffix || inode == present->inode)
                continue;
            twl_sink_name(sink->name, inode, "sink", area_name);
            if (round == 0 && strcmp(suffix, "sink") == 0)
                drop_area(sink, area_name, inode);
            else if (round == 1 && strcmp(suffix, "sink") != 0 &&
                     faccessat(sink->dir, area_name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                unlinkat(sink->dir, entry->d_name, 0);
        }
        if (list)
            closedir(list);
    }
}

/* ---- of a file that was renamed ------------------------------------------------------------------ */

int twl_beside_find_name(int dir, uint64_t inode, char name[NAME_MAX + 1])
{
    char ending[NAME_ROOM];
    const struct dirent *entry;
    DIR *list = list_dir(dir);
    if (!list)
        return -errno;
    snprintf(ending, sizeof(ending), ".%" PRIu64 ".sink", inode);
    while ((entry = readdir(list))) {
        const size_t length = strlen(entry->d_name), tail = strlen(ending);
        if (entry->d_name[0] != '.' || length <= tail + 1 ||
            strcmp(entry->d_name + length - tail, ending) != 0)
            continue;
        memcpy(name, entry->d_name + 1, length - tail - 1);
        name[length - tail - 1] = 0;
        break;
    }
    closedir(list);
    return 0;
}
