/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in which programs append to a plain file, by threads of one process or by several processes: the
 * contenders of p10 and p11. None of them syncs, but the log and those whose names say so.
 */
#ifndef PLAIN_H
#define PLAIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "peer.h"

struct plain_setup {
    const char *path;       /* in a directory that is on the disk; made where it is missing */
    unsigned threads;       /* of this process that put at the same time */
    size_t largest;         /* bytes of the largest put */
    _Atomic(uint64_t) *end; /* of the file, 0 at first; for those that choose their places in it. All
                               processes have it */
};

/* Results are 0 or a negative error, as the library's. */
struct plain {
    int (*open)(const struct plain_setup *setup, void **ret_state);
    int (*put)(void *state, const void *data, size_t size);
    int (*close)(void *state); /* when it returns, the file holds what was put and nothing else */
    uint32_t block_bytes;      /* a put takes a multiple of it; 0 = its size */

    /* Of what is no file with the bytes of the puts and nothing else: does it hold so many? */
    bool (*are_all_there)(const char *path, uint64_t count);

    /* In p10: */
    bool makes_frames;        /* a put gets numbered(), and makes the rest */
    bool closes_behind_clock; /* all is there before */
};

extern const struct plain plain_twinlog, plain_twinlog_shared;
extern const struct plain plain_log, plain_log_durable;
extern const struct plain plain_shared_log, plain_shared_log_durable;
extern const struct plain plain_write, plain_writev, plain_flock;
extern const struct plain plain_write_synced, plain_flock_synced;
extern const struct plain plain_stdio, plain_stdio_64k, plain_stdio_flushed;
extern const struct plain plain_queue, plain_mmap, plain_direct;
extern const struct plain plain_libaio OPTIONAL;

/* For writes to a descriptor: a file opened to append, and a write that is repeated until nothing is left. */
int plain_open_to_append(const char *path, int *ret_fd);
int plain_write_all(int fd, const void *data, size_t size);

#endif
