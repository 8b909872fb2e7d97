/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference: what the disk does when nothing but the write itself is left. A file whose blocks were
 * all written before is overwritten in place, with direct I/O and RWF_DSYNC, so the file system has
 * nothing to record and each write costs one flush of the device.
 *
 * `raw` writes 4 KiB from one thread; `raw-large` 4 MiB from two, which keeps two writes in flight. `raw-fresh` does
 * what raw-large does, but its blocks are only allocated: each write also has the file system note that they are used.
 * All ignore the records of the workload. None is a log: nothing says where the data ends.
 */
#include "common.h"
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define SMALL_BYTES 4096u
#define SMALL_SPAN (UINT64_C(64) << 20)
#define LARGE_BYTES DIRECT_BYTES
#define LARGE_SPAN_MIN (UINT64_C(256) << 20)
#define LARGE_SPAN_MAX (UINT64_C(2) << 30)
#define FRESH_SPAN (UINT64_C(8) << 30) /* more than a round writes: no block is written twice */
#define WRITERS 2u

struct raw {
    int fd;
    uint32_t write_bytes;
    unsigned writers;
    uint64_t slots;         /* writes that fit into the file */
    uint64_t next[WRITERS]; /* each writer's next slot; they take turns */
    unsigned char *bytes;
};

int direct_write(int fd, const void *bytes, size_t size, uint64_t offset)
{
    struct iovec part = { (void *)(uintptr_t)bytes, size };
    const ssize_t written = pwritev2(fd, &part, 1, (off_t)offset, RWF_DSYNC);

    if (written < 0)
        return -errno;
    if ((size_t)written != size)
        return -EIO;
    return 0;
}

int direct_open(const char *dir, const void *bytes, uint64_t span, int *ret_fd)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/raw", dir);
    *ret_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    if (*ret_fd < 0)
        return -errno;

    for (uint64_t offset = 0; offset < span; offset += DIRECT_BYTES) {
        const int error = direct_write(*ret_fd, bytes, DIRECT_BYTES, offset);
        if (error)
            return error;
    }
    if (fsync(*ret_fd) < 0)
        return -errno;
    return 0;
}

/* A file of blocks that are allocated, and that nothing was written to. */
static int open_fresh(const char *dir, uint64_t span, int *ret_fd)
{
    const int error = direct_open(dir, NULL, 0, ret_fd);

    if (error)
        return error;
    return -posix_fallocate(*ret_fd, 0, (off_t)span);
}

const char *direct_explain(int error)
{
    if (error == -EINVAL)
        return "this file system has no direct I/O";
    return strerror(-error);
}

static int raw_close(void *state)
{
    struct raw *raw = state;

    if (raw->fd >= 0)
        close(raw->fd);
    free(raw->bytes);
    free(raw);
    return 0;
}

/* As many slots as the round will need, within these bounds. */
struct kind {
    uint32_t write_bytes;
    unsigned writers;
    uint64_t least_span, most_span;
    bool is_fresh;
};

static uint64_t span_for(const struct kind *kind, uint64_t expected_bytes)
{
    if (expected_bytes < kind->least_span)
        return kind->least_span;
    if (expected_bytes > kind->most_span)
        return kind->most_span;
    return expected_bytes;
}

static int raw_open(const struct peer_setup *setup, void **ret_state)
{
    const struct kind *kind = setup->peer->kind;
    struct raw *raw = allocate(1, sizeof(*raw));

    *ret_state = raw;
    raw->write_bytes = kind->write_bytes;
    raw->writers = kind->writers;
    raw->slots = span_for(kind, setup->expected_bytes) / kind->write_bytes;
    for (unsigned i = 0; i < kind->writers; i++)
        raw->next[i] = i;
    raw->bytes = memset(allocate_blocks(LARGE_BYTES), 0x5a, LARGE_BYTES);

    const uint64_t span = raw->slots * raw->write_bytes;
    if (kind->is_fresh)
        return open_fresh(setup->dir, span, &raw->fd);
    return direct_open(setup->dir, raw->bytes, span, &raw->fd);
}

/* A batch takes as many slots as its bytes need. */
static uint64_t slots_of_batch(const struct raw *raw, const struct append *append)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < append->count; i++)
        bytes += append->records[i].size;
    return (bytes + raw->write_bytes - 1) / raw->write_bytes;
}

/* So many slots of the file, from where this writer stands; at the end of the file it begins again. The next write of
 * this writer is `step` slots behind. */
static int overwrite(struct raw *raw, unsigned writer, uint64_t slots, uint64_t step)
{
    const uint64_t size = slots * raw->write_bytes;
    uint64_t slot = raw->next[writer];

    if (size > LARGE_BYTES)
        return -EMSGSIZE;
    if (slot + slots > raw->slots)
        slot = writer;
    raw->next[writer] = slot + step;
    return direct_write(raw->fd, raw->bytes, size, slot * raw->write_bytes);
}

/* A record is one write, in which it is not to be found: the bytes are the writer's own. */
static int raw_append(void *state, const struct append *append)
{
    struct raw *raw = state;

    if (append->level == APPEND_BATCH) {
        const uint64_t slots = slots_of_batch(raw, append);
        return overwrite(raw, append->thread, slots, slots);
    }
    return overwrite(raw, append->thread, 1, raw->writers);
}

#define RAW                                                                                                  \
    .writes_by_call = true, .open = raw_open, .append = raw_append, .close = raw_close,                      \
    .explain = direct_explain

const struct peer peer_raw = {
    .name = "raw",
    .what = "the reference: 4 KiB direct overwrites with RWF_DSYNC, one thread",
    .kind = &(const struct kind){ SMALL_BYTES, 1, SMALL_SPAN, SMALL_SPAN, false },
    .threads = 1,
    .record_bytes = SMALL_BYTES,
    RAW,
};

const struct peer peer_raw_large = {
    .name = "raw-large",
    .what = "the reference: 4 MiB direct overwrites with RWF_DSYNC, two in flight",
    .kind = &(const struct kind){ LARGE_BYTES, WRITERS, LARGE_SPAN_MIN, LARGE_SPAN_MAX, false },
    .threads = WRITERS,
    .record_bytes = LARGE_BYTES,
    .is_only_named = true,
    RAW,
};

const struct peer peer_raw_fresh = {
    .name = "raw-fresh",
    .what = "the reference: the same into blocks that are only allocated",
    .kind = &(const struct kind){ LARGE_BYTES, WRITERS, FRESH_SPAN, FRESH_SPAN, .is_fresh = true },
    .threads = WRITERS,
    .record_bytes = LARGE_BYTES,
    .is_only_named = true,
    RAW,
};
