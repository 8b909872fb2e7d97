/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints the addresses of the functions that one durable append of a single writer enters, in their order: see walk.sh.
 * The library is compiled for it with -finstrument-functions, which calls the two functions below. The group is written
 * by pwritev2(), as most groups of a single writer are.
 */
#include "twinlog.h"

#include <stdbool.h>
#include <stdio.h>

#define MOST_CALLS 4096u
#define APPENDS_BEFORE 20u

static _Thread_local bool is_recording;
static void *calls[MOST_CALLS];
static unsigned count;

void __cyg_profile_func_enter(void *function, void *caller);
void __cyg_profile_func_exit(void *function, void *caller);

void __cyg_profile_func_enter(void *function, void *caller)
{
    (void)caller;
    if (is_recording && count < MOST_CALLS)
        calls[count++] = function;
}

void __cyg_profile_func_exit(void *function, void *caller)
{
    (void)function, (void)caller;
}

int main(int argc, char **argv)
{
    struct twinlog *log;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    options.io = TWINLOG_IO_DSYNC;
    int rc = argc == 2 ? twinlog_open(argv[1], &options, &log) : -1;
    for (unsigned i = 0; rc == 0 && i < APPENDS_BEFORE; i++)
        rc = twinlog_append(log, "before", 6, NULL);
    is_recording = true;
    if (rc == 0)
        rc = twinlog_append(log, "walk", 4, NULL);
    is_recording = false;
    if (rc == 0)
        rc = twinlog_close(log);
    if (rc < 0)
        fprintf(stderr, "walk: %s\n", twinlog_strerror(rc));
    for (unsigned i = 0; i < count; i++)
        printf("%p\n", calls[i]);
    return rc < 0;
}
