/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TWL_CRASH_DIRECTORY_H
#define TWL_CRASH_DIRECTORY_H

#include <stddef.h>

/* All end the program if they cannot. */

/* With the files in it. There may be none. */
void remove_directory(const char *path);

/* Of files; what was in `to` is gone. */
void copy_directory(const char *from, const char *to);

/* Files in memory. */
#define MAX_FILES 512u
struct file {
    char name[64];
    unsigned char *bytes; /* NULL = it is gone */
    size_t size;
};
struct files {
    struct file list[MAX_FILES];
    unsigned count;
};
struct dirent;
/* Those that are wanted, in the order of their names. */
void load_files(const char *dir, int (*is_wanted)(const struct dirent *entry), struct files *ret_files);
void store_files(const char *dir, const struct files *files); /* in place of what is there */
void free_files(struct files *files);

#endif
