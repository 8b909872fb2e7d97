/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks of all measurements: the one on the wall, and the processors' work for this process. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

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
