/* SPDX-License-Identifier: Apache-2.0 */
/* What many files need: memory, lists of words, directories, children. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* All bytes are 0. Without memory the program ends: there is nothing that it could measure. */
void *allocate(size_t count, size_t size);
void *allocate_blocks(size_t bytes); /* at the beginning of a page: for direct I/O */
void *allocate_shared(size_t bytes); /* with the children of this process; for munmap() */

/* The words of a list, one after the other:
 *     for (struct list list = list_of(text, ','); list_next(&list);) puts(list.word); */
struct list {
    const char *rest;
    char separator;
    char word[128]; /* of longer ones the beginning */
};
struct list list_of(const char *text, char separator);
bool list_next(struct list *list);

/* A directory and what is in it. Says on stderr what failed. */
bool remove_tree(const char *path);
bool make_dir(const char *path);

/* Each synced write of this process takes so much longer; before any thread writes. In disk_sleep.c. */
void disk_sleep_set(uint64_t ns);

/* 0 if the child has ended with that status. */
int wait_for(pid_t child);

#endif
