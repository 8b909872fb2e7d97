/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: what the disk does when nothing but the write itself is left. A file whose blocks were
 * all written before is overwritten in place, with direct I/O and RWF_DSYNC, so the file system has
 * nothing to record and each write costs one flush of the device.
 *
 * `raw` writes 4 KiB from one thread; `raw-large` 4 MiB from two, which keeps two writes in flight.
 * Both ignore the records of the workload. Neither is a log: nothing says where the data ends.
 */
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
#define LARGE_BYTES (4u << 20)
#define LARGE_SPAN_MIN (UINT64_C(256) << 20)
#define LARGE_SPAN_MAX (UINT64_C(2) << 30)
#define WRITERS 2u

struct raw {
    int fd;
    uint32_t write_bytes;
    unsigned writers;
    uint64_t slots;         /* writes that fit into the file */
    uint64_t next[WRITERS]; /* each writer's next slot; they take turns */
    unsigned char *bytes;
};

static int write_durable(const struct raw *raw, size_t size, uint64_t offset)
{
    struct iovec part = { raw->bytes, size };
    ssize_t written = pwritev2(raw->fd, &part, 1, (off_t)offset, RWF_DSYNC);
    if (written < 0)
        return -errno;
    return (size_t)written == size ? 0 : -EIO;
}

static int prewrite(const struct raw *raw)
{
    uint64_t total = raw->slots * raw->write_bytes;
    for (uint64_t offset = 0; offset < total; offset += LARGE_BYTES) {
        int error = write_durable(raw, LARGE_BYTES, offset);
        if (error)
            return error;
    }
    return fsync(raw->fd) < 0 ? -errno : 0;
}

static void destroy(struct raw *raw)
{
    if (raw->fd >= 0)
        close(raw->fd);
    free(raw->bytes);
    free(raw);
}

static int open_raw(const struct peer_setup *setup, uint32_t write_bytes, unsigned writers, uint64_t span,
                    void **ret_state)
{
    char path[4096];
    struct raw *raw = calloc(1, sizeof(*raw));
    if (!raw)
        return -ENOMEM;
    raw->write_bytes = write_bytes;
    raw->writers = writers;
    raw->slots = span / write_bytes;
    for (unsigned i = 0; i < writers; i++)
        raw->next[i] = i;

    int error = 0;
    snprintf(path, sizeof(path), "%s/raw", setup->dir);
    raw->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    if (raw->fd < 0)
        error = -errno;
    else if (!(raw->bytes = aligned_alloc(SMALL_BYTES, LARGE_BYTES)))
        error = -ENOMEM;
    else {
        memset(raw->bytes, 0x5a, LARGE_BYTES);
        error = prewrite(raw);
    }
    if (error) {
        destroy(raw);
        return error;
    }
    *ret_state = raw;
    return 0;
}

static int raw_open(const struct peer_setup *setup, void **ret_state)
{
    return open_raw(setup, SMALL_BYTES, 1, SMALL_SPAN, ret_state);
}

static int raw_large_open(const struct peer_setup *setup, void **ret_state)
{
    uint64_t span = setup->expected_bytes;
    if (span < LARGE_SPAN_MIN)
        span = LARGE_SPAN_MIN;
    if (span > LARGE_SPAN_MAX)
        span = LARGE_SPAN_MAX;
    return open_raw(setup, LARGE_BYTES, WRITERS, span, ret_state);
}

static int raw_append(void *state, unsigned thread, const void *data, size_t size)
{
    struct raw *raw = state;
    (void)data;
    uint64_t slot = raw->next[thread];
    raw->next[thread] = (slot + raw->writers) % raw->slots;
    return write_durable(raw, size, slot * raw->write_bytes);
}

/* What the batch takes, in whole blocks. */
static int raw_append_batch(void *state, const struct iovec *records, unsigned count)
{
    struct raw *raw = state;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += records[i].iov_len;
    uint64_t slots = (bytes + raw->write_bytes - 1) / raw->write_bytes;
    if (slots * raw->write_bytes > LARGE_BYTES)
        return -EMSGSIZE;
    if (raw->next[0] + slots > raw->slots)
        raw->next[0] = 0;
    uint64_t slot = raw->next[0];
    raw->next[0] = slot + slots;
    return write_durable(raw, slots * raw->write_bytes, slot * raw->write_bytes);
}

static int raw_close(void *state)
{
    destroy(state);
    return 0;
}

static const char *raw_explain(int error)
{
    return error == -EINVAL ? "this file system has no direct I/O" : explain_errno(error);
}

const struct peer peer_raw = {
    .name = "raw",
    .what = "the floor: 4 KiB direct overwrites with RWF_DSYNC, one thread",
    .threads = 1,
    .record_bytes = SMALL_BYTES,
    .writes_by_call = true,
    .open = raw_open,
    .append = raw_append,
    .append_batch = raw_append_batch,
    .close = raw_close,
    .explain = raw_explain,
};

const struct peer peer_raw_large = {
    .name = "raw-large",
    .what = "the floor: 4 MiB direct overwrites with RWF_DSYNC, two in flight",
    .threads = WRITERS,
    .record_bytes = LARGE_BYTES,
    .is_only_named = true,
    .writes_by_call = true,
    .open = raw_large_open,
    .append = raw_append,
    .close = raw_close,
    .explain = raw_explain,
};
