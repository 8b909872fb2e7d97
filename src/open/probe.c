/* SPDX-License-Identifier: Apache-2.0 */
/* Tries each I/O path on a temporary file, to find out what the disk and the kernel offer. */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/sync.h"
#include "base/versioned.h"
#include "io/io.h"
#include "open/ladder.h"
#include "twinlog_admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PROBE_FILE_BYTES (1u << 20)
#define PROBE_SYNCS 101
#define IMPLAUSIBLE_US 4.0 /* a flush that reaches a device takes longer, by PCIe and NAND alone */

_Static_assert(LADDER_RUNGS == sizeof(((struct twinlog_probe *)0)->path) / sizeof(struct twinlog_probe_path),
               "the public array holds them all");

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Median time of durable 4 KiB overwrites, one after the other. */
static int time_syncs(struct io *io, struct io_file *file, unsigned char *buffer, double *ret_us)
{
    uint64_t took[PROBE_SYNCS];
    for (unsigned i = 0; i < PROBE_SYNCS; i++) {
        struct io_write write = {
            .file = file, .data = buffer, .size = BLOCK_BYTES, .offset = (uint64_t)i * BLOCK_BYTES
        };
        uint64_t began = twl_monotonic_ns();
        int rc = io->ops->submit(io, &write);
        if (rc < 0)
            return rc;
        io->ops->reap(io, &write);
        took[i] = twl_monotonic_ns() - began;
        if (write.ret_written < 0)
            return (int)write.ret_written;
        if (write.ret_written != (int64_t)BLOCK_BYTES)
            return -EIO;
        if (write.ret_synced < 0)
            return write.ret_synced;
    }
    qsort(took, PROBE_SYNCS, sizeof(took[0]), by_value);
    *ret_us = (double)took[PROBE_SYNCS / 2] / 1000.0;
    return 0;
}

static int try_file(struct io *io, bool is_direct, const char *name, unsigned char *buffer, double *ret_us)
{
    struct io_file *file;
    int rc = io_open(io, name, IO_CREATE | (is_direct ? IO_DIRECT : 0u), &file);
    if (rc < 0)
        return rc;
    rc = io_allocate(file, PROBE_FILE_BYTES, IO_ALLOCATE_SPACE);
    if (rc == 0)
        rc = io_write_at(file, buffer, PROBE_FILE_BYTES, 0);
    if (rc == 0)
        rc = io_sync(file);
    if (rc == 0)
        rc = time_syncs(io, file, buffer, ret_us);
    io_close(file);
    io->ops->unlink(io, name);
    return rc;
}

static void try_path(const char *dir, unsigned char *buffer, struct twinlog_probe_path *path)
{
    struct io *io;
    char name[48];
    snprintf(name, sizeof(name), ".twinlog-probe-%ld", (long)getpid());
    path->error = twl_ladder_create_io(dir, (enum twinlog_io)path->io, false, &io);
    if (path->error < 0)
        return;
    path->error = io->ops->adopt_buffers(io, buffer, PROBE_FILE_BYTES);
    if (path->error == 0)
        path->error = try_file(io, path->is_direct != 0, name, buffer, &path->sync_us);
    io->ops->destroy(io);
}

static void name_filesystem(const char *dir, struct twinlog_probe *probe)
{
    const struct file_system *known = twl_file_system(dir);
    struct statfs fs;
    if (known)
        snprintf(probe->filesystem, sizeof(probe->filesystem), "%s", known->name);
    else if (statfs(dir, &fs) == 0)
        snprintf(probe->filesystem, sizeof(probe->filesystem), "0x%lx", (unsigned long)fs.f_type);
    else
        snprintf(probe->filesystem, sizeof(probe->filesystem), "unknown");
}

/* Chooses the path that opening would take: the first automatic one that works. */
static void choose(const char *dir, struct twinlog_probe *probe)
{
    const int error = probe->path[0].error;
    for (uint32_t i = LADDER_RUNGS; i-- > 0;)
        if (twl_ladder[i].is_automatic && probe->path[i].error == 0)
            probe->chosen = i;
    if (error == -EOPNOTSUPP && !syncs_writes(twl_file_system(dir)))
        snprintf(probe->reason, sizeof(probe->reason),
                 "in this file system no flag of a write is known to sync it");
    else if (error < 0)
        snprintf(probe->reason, sizeof(probe->reason), "%s was refused: %s", twl_ladder[0].name,
                 twinlog_strerror(error));
    else
        snprintf(probe->reason, sizeof(probe->reason), "the best path there is");
}

int twinlog_probe(const char *dir, struct twinlog_probe *ret_probe)
{
    if (!dir || !ret_probe || !twl_versioned_is_set(ret_probe))
        return -EINVAL;
    unsigned char *buffer = aligned_alloc(BLOCK_BYTES, PROBE_FILE_BYTES);
    if (!buffer)
        return -ENOMEM;
    memset(buffer, 0, PROBE_FILE_BYTES);
    struct twinlog_probe probe = { .size = sizeof(probe), .paths = LADDER_RUNGS };
    bool is_anything = false;
    double fastest_us = IMPLAUSIBLE_US;
    for (size_t i = 0; i < LADDER_RUNGS; i++) {
        struct twinlog_probe_path *path = &probe.path[i];
        path->io = (uint32_t)twl_ladder[i].io;
        path->is_direct = twl_ladder[i].is_direct;
        try_path(dir, buffer, path);
        is_anything = is_anything || path->error == 0;
        if (path->error == 0 && path->sync_us < fastest_us)
            fastest_us = path->sync_us;
        if (path->error == 0 && path->is_direct)
            probe.direct_align = BLOCK_BYTES;
    }
    free(buffer);
    name_filesystem(dir, &probe);
    choose(dir, &probe);
    if (!is_anything)
        return probe.path[0].error;
    probe.is_suspicious = fastest_us < IMPLAUSIBLE_US;
    twl_versioned_give(ret_probe, &probe, sizeof(probe));
    return 0;
}
