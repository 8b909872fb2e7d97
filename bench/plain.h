/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in which programs append to a plain file, by threads of one process or by several processes: the
 * contenders of p10 and p11. None of them syncs, but the log and those whose names say so.
 */
#ifndef PLAIN_H
#define PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct plain_setup {
    const char *path; /* in a directory that is on the disk; made where it is missing */
    unsigned threads; /* of this process that put at the same time */
};

/* Results are 0 or a negative error, as the library's. */
struct plain {
    uint32_t kind; /* for the file that has several of them */
    int (*open)(const struct plain *plain, const struct plain_setup *setup, void **ret_state);
    int (*put)(void *state, const void *data, size_t size);
    int (*close)(void *state); /* when it returns, the file holds what was put and nothing else */

    /* Of what is no file with the bytes of the puts and nothing else: does it hold so many? */
    bool (*are_all_there)(const char *path, uint64_t count);

    /* In p10: */
    bool makes_frames;        /* a put gets numbered(), and makes the rest */
    bool closes_behind_clock; /* all is there before */
};

extern const struct plain plain_twinlog, plain_twinlog_shared;
extern const struct plain plain_log, plain_log_durable;
extern const struct plain plain_shared_log, plain_shared_log_durable;
extern const struct plain plain_write, plain_write_synced;
extern const struct plain plain_stdio, plain_stdio_64k, plain_stdio_flushed;
extern const struct plain plain_mmap;

#endif
