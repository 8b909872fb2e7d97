/* SPDX-License-Identifier: Apache-2.0 */
/* What many files need: memory, lists of words, directories, children, clocks, checksums. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

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

/* Says on stderr what is wrong, and returns false. */
bool fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A directory and what is in it. Says on stderr what failed. */
bool remove_tree(const char *path);
bool make_dir(const char *path);

/* Each synced write of this process takes so much longer, and the one of that number, from 1, three seconds more. To be
 * called before any thread writes. In disk_sleep.c. */
void disk_sleep_set(uint64_t ns, uint64_t number);

uint32_t checksum_of(const void *data, size_t size); /* CRC32C */

/* 0 if the child has ended with that status. */
int wait_for(pid_t child);

/* ---- the clock on the wall, and the processors' work for this process ---------------------------- */

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of all threads. */
struct processor_use {
    double user_seconds, system_seconds;
    double switches; /* because a thread waits, or has had its turn */
};

static inline struct processor_use processor_use(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct processor_use){
        .user_seconds = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
        .system_seconds = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6,
        .switches = (double)usage.ru_nvcsw + (double)usage.ru_nivcsw,
    };
}

/* User and system. */
static inline double cpu_seconds_between(const struct processor_use *from, const struct processor_use *to)
{
    return to->user_seconds - from->user_seconds + to->system_seconds - from->system_seconds;
}
static inline double cpu_seconds(void)
{
    const struct processor_use use = processor_use();
    return use.user_seconds + use.system_seconds;
}

#endif
