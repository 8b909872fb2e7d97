/* SPDX-License-Identifier: Apache-2.0 */
/* See gate.h. */
#define _GNU_SOURCE
#include "gate.h"

#include "format/format.h"
#include "hooked.h"
#include "io/io.h"
#include "log/log.h"
#include "logdir.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>

struct gate gate;

static struct io_ops ops, linkless_ops;
static const struct io_ops *real;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;

static void pass(const _Atomic bool *is_shut)
{
    pthread_mutex_lock(&lock);
    if (atomic_load(is_shut)) {
        atomic_fetch_add(&gate.waiting, 1);
        while (atomic_load(is_shut))
            pthread_cond_wait(&opened, &lock);
        atomic_fetch_sub(&gate.waiting, 1);
    }
    pthread_mutex_unlock(&lock);
}

static void look_at(const struct io_write *write)
{
    if (write->barrier == IO_BARRIER_NONE)
        atomic_fetch_add(&gate.unsynced, 1);
    else
        atomic_fetch_add(write->barrier == IO_BARRIER_FILE ? &gate.file_synced : &gate.synced, 1);
}

static void gated_write_durably(struct io *io, struct io_write *write)
{
    look_at(write);
    pass(&gate.is_shut);
    if (atomic_load(&gate.error) < 0) {
        write->ret_written = atomic_load(&gate.error);
        write->ret_synced = -ECANCELED;
        return;
    }
    real->write_durably(io, write);
}

static int gated_sync_data(struct io_file *file)
{
    pass(&gate.is_shut);
    if (atomic_load(&gate.error) < 0)
        return atomic_load(&gate.error);
    atomic_fetch_add(&gate.syncs, 1);
    return real->sync_data(file);
}

static int gated_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    pass(&gate.is_shut_for_files);
    uint64_t has = 0;

    if (bytes > atomic_load(&gate.largest_file) && (real->size(file, &has) < 0 || bytes > has))
        return -ENOSPC;
    return real->allocate(file, bytes, how);
}

static void *_Atomic page; /* of writer.lock: no segment */

static int gated_map(struct io_file *file, size_t bytes, void **ret_bytes)
{
    const bool is_page = bytes <= PAGE_FILE_BYTES;
    const int error = is_page ? 0 : atomic_load(&gate.map_error);
    const int rc = error < 0 ? error : real->map(file, bytes, ret_bytes);

    if (rc == 0 && is_page)
        atomic_store(&page, *ret_bytes);
    return rc;
}

static int refused_link(struct io *io, const char *name, struct io *to, const char *to_name)
{
    (void)io;
    (void)name;
    (void)to;
    (void)to_name;
    return atomic_load(&gate.link_error);
}

static int gated_check_map(struct io *io, const unsigned char *bytes)
{
    void (*const when_checked)(void) =
        bytes == atomic_load(&page) ? NULL : atomic_exchange(&gate.when_checked, NULL);

    if (when_checked)
        when_checked();
    return real->check_map(io, bytes);
}

void gate_reset(void)
{
    atomic_store(&gate.unsynced, 0);
    atomic_store(&gate.synced, 0);
    atomic_store(&gate.file_synced, 0);
    atomic_store(&gate.syncs, 0);
    atomic_store(&gate.is_shut, false);
    atomic_store(&gate.is_shut_for_files, false);
    atomic_store(&gate.error, 0);
    atomic_store(&gate.largest_file, UINT64_MAX);
    atomic_store(&gate.map_error, 0);
    atomic_store(&gate.link_error, 0);
    atomic_store(&gate.when_checked, NULL);
    atomic_store(&gate.waiting, 0);
}

void gate_set_up(void)
{
    logdir_make();
    gate_reset();
}

int gate_try_log(const struct twinlog_options *options, struct twinlog **ret_log)
{
    mkdir(log_dir, 0777);
    struct io *io = log_io(true);
    if (real != io->ops) { /* once: threads of a log that is open may be using them */
        real = io->ops;
        ops = *io->ops;
        ops.write_durably = gated_write_durably;
        ops.sync_data = gated_sync_data;
        ops.allocate = gated_allocate;
        ops.map = gated_map;
        ops.check_map = gated_check_map;
        linkless_ops = ops;
        linkless_ops.link = refused_link;
    }
    io->ops = atomic_load(&gate.link_error) < 0 ? &linkless_ops : &ops;
    return log_try_on(io, options, ret_log);
}

struct twinlog *gate_log(const struct twinlog_options *options)
{
    struct twinlog *log = NULL;

    ck_assert_int_eq(gate_try_log(options, &log), 0);
    return log;
}

void gate_shut(void)
{
    atomic_store(&gate.is_shut, true);
}

void gate_open(void)
{
    pthread_mutex_lock(&lock);
    atomic_store(&gate.is_shut, false);
    atomic_store(&gate.is_shut_for_files, false);
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&lock);
}

void gate_await(void)
{
    AWAIT(atomic_load(&gate.waiting) > 0 &&
          (atomic_load(&gate.is_shut) || atomic_load(&gate.is_shut_for_files)));
}

bool still_in_time(uint64_t *began_ns)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    uint64_t now_ns = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
    if (*began_ns == 0)
        *began_ns = now_ns;
    sched_yield();
    return now_ns - *began_ns < UINT64_C(120000000000);
}

const struct log_way log_ways[LOG_WAYS] = {
    { "auto", TWINLOG_IO_AUTO, 0 },
    { "uring, buffered", TWINLOG_IO_URING, TWINLOG_BUFFERED },
    { "uring-linked, padded", TWINLOG_IO_URING_LINKED, TWINLOG_PAD },
    { "dsync, buffered, padded", TWINLOG_IO_DSYNC, TWINLOG_BUFFERED | TWINLOG_PAD },
    { "fdatasync", TWINLOG_IO_FDATASYNC, 0 },

    { "auto, buffered", TWINLOG_IO_AUTO, TWINLOG_BUFFERED },
    { "auto, padded", TWINLOG_IO_AUTO, TWINLOG_PAD },
    { "auto, buffered, padded", TWINLOG_IO_AUTO, TWINLOG_BUFFERED | TWINLOG_PAD },

    { "uring", TWINLOG_IO_URING, 0 },
    { "uring, padded", TWINLOG_IO_URING, TWINLOG_PAD },
    { "uring, buffered, padded", TWINLOG_IO_URING, TWINLOG_BUFFERED | TWINLOG_PAD },

    { "uring-linked", TWINLOG_IO_URING_LINKED, 0 },
    { "uring-linked, buffered", TWINLOG_IO_URING_LINKED, TWINLOG_BUFFERED },
    { "uring-linked, buffered, padded", TWINLOG_IO_URING_LINKED, TWINLOG_BUFFERED | TWINLOG_PAD },

    { "dsync", TWINLOG_IO_DSYNC, 0 },
    { "dsync, buffered", TWINLOG_IO_DSYNC, TWINLOG_BUFFERED },
    { "dsync, padded", TWINLOG_IO_DSYNC, TWINLOG_PAD },

    { "fdatasync, buffered", TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED },
    { "fdatasync, padded", TWINLOG_IO_FDATASYNC, TWINLOG_PAD },
    { "fdatasync, buffered, padded", TWINLOG_IO_FDATASYNC, TWINLOG_BUFFERED | TWINLOG_PAD },
};
