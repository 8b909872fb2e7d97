/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor: what the disk does when nothing but the write itself is left. A file whose blocks were
 * all written before is overwritten in place, with direct I/O and RWF_DSYNC, so the file system has
 * nothing to record and each write costs one flush of the device.
 *
 * `raw` writes 4 KiB from one thread; `raw-large` 4 MiB from two, which keeps two writes in flight.
 * Both ignore the records of the workload. Neither is a log: nothing says where the data ends.
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
};

static int raw_open(const struct peer *peer, const struct peer_setup *setup, void **ret_state)
{
    char path[4096];
    const struct kind *kind = peer->kind;
    struct raw *raw = allocate(1, sizeof(*raw));
    uint64_t span = setup->expected_bytes > kind->least_span ? setup->expected_bytes : kind->least_span;
    span = span < kind->most_span ? span : kind->most_span;
    raw->write_bytes = kind->write_bytes;
    raw->writers = kind->writers;
    raw->slots = span / kind->write_bytes;
    for (unsigned i = 0; i < kind->writers; i++)
        raw->next[i] = i;
    raw->bytes = memset(allocate_blocks(LARGE_BYTES), 0x5a, LARGE_BYTES);
    snprintf(path, sizeof(path), "%s/raw", setup->dir);
    raw->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
    int error = raw->fd < 0 ? -errno : prewrite(raw);
    *ret_state = raw;
    if (error)
        raw_close(raw);
    return error;
}

/* A batch is what it takes, in whole blocks. One record is a write, of which the bytes are its own. */
static int raw_append(void *state, unsigned thread, const struct twinlog_entry *records, unsigned count,
                      enum append_level level)
{
    struct raw *raw = state;
    uint64_t slots = 1, step = raw->writers, bytes = 0;
    if (level == APPEND_BATCH) {
        for (unsigned i = 0; i < count; i++)
            bytes += records[i].size;
        step = slots = (bytes + raw->write_bytes - 1) / raw->write_bytes;
    }
    if (slots * raw->write_bytes > LARGE_BYTES)
        return -EMSGSIZE;
    const uint64_t slot = raw->next[thread] + slots <= raw->slots ? raw->next[thread] : thread;
    raw->next[thread] = slot + step;
    return write_durable(raw, slots * raw->write_bytes, slot * raw->write_bytes);
}

static const char *raw_explain(int error)
{
    return error == -EINVAL ? "this file system has no direct I/O" : strerror(-error);
}

#define RAW                                                                                                  \
    .writes_by_call = true, .open = raw_open, .append = raw_append, .close = raw_close, .explain = raw_explain

const struct peer peer_raw = {
    .name = "raw",
    .what = "the floor: 4 KiB direct overwrites with RWF_DSYNC, one thread",
    .kind = &(const struct kind){ SMALL_BYTES, 1, SMALL_SPAN, SMALL_SPAN },
    .threads = 1,
    .record_bytes = SMALL_BYTES,
    RAW,
};

const struct peer peer_raw_large = {
    .name = "raw-large",
    .what = "the floor: 4 MiB direct overwrites with RWF_DSYNC, two in flight",
    .kind = &(const struct kind){ LARGE_BYTES, WRITERS, LARGE_SPAN_MIN, LARGE_SPAN_MAX },
    .threads = WRITERS,
    .record_bytes = LARGE_BYTES,
    .is_only_named = true,
    RAW,
};
