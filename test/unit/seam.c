/* SPDX-License-Identifier: Apache-2.0 */
/* See seam.h. */
#include "seam.h"
#include "hooked.h"
#include "logdir.h"
#include "suites.h"

#include "commit/inside.h"
#include "io/io_files.h"
#include "log/log.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct seam seam;

static void look_at(const struct io_write *write)
{
    struct stat status;

    if (atomic_fetch_add(&seam.in_flight, 1) != 0)
        atomic_store(&seam.has_overlap, true);
    ck_assert_int_eq(fstat(io_file_fd(write->file), &status), 0);
    if (status.st_ino != seam.inode) {
        seam.inode = status.st_ino;
        seam.shadow_end = 0;
    }
    ck_assert_uint_le(write->offset + write->size, SHADOW_BYTES);
    ck_assert_uint_eq(write->offset % BLOCK_BYTES, 0);
    ck_assert_uint_eq(write->size % BLOCK_BYTES, 0);
    ck_assert_uint_eq((uintptr_t)write->data % BLOCK_BYTES, 0);
    uint64_t file_bytes;
    ck_assert_int_eq(io_size(write->file, &file_bytes), 0);
    if (write->offset + write->size > file_bytes - SEGMENT_FOOTER_BYTES)
        atomic_store(&seam.is_beyond, true);
    if (write->offset < seam.shadow_end)
        atomic_store(&seam.has_overwrite, true);
}

/* Where the records of a group end is where its zeros begin; what is behind may be written over. */
static void remember(const struct io_write *write)
{
    uint64_t end = write->offset + write->size;
    const unsigned char *bytes = write->data;

    for (uint64_t at = write->offset; at < end && at < seam.shadow_end; at++)
        if (seam.shadow[at] != bytes[at - write->offset] && seam.shadow[at] != 0)
            atomic_store(&seam.has_rewrite, true);
    memcpy(seam.shadow + write->offset, bytes, write->size);
    seam.shadow_end = end;
}

static void disturbed_write(struct io *io, struct io_write *write)
{
    atomic_fetch_add(&seam.writes, 1);
    while (seam.held && twinlog_last_lsn(seam.held) < seam.held_until)
        sched_yield();
    bool is_disturbed = atomic_load(&seam.times) > 0;
    atomic_store(&seam.is_disturbed, is_disturbed);
    if (is_disturbed && atomic_load(&seam.fail_written) < 0) {
        write->ret_written = atomic_load(&seam.fail_written);
        write->ret_synced = -ECANCELED;
        return;
    }
    struct io_write part = *write;
    if (is_disturbed)
        part.size -= atomic_load(&seam.short_by) < part.size ? atomic_load(&seam.short_by) : 0;
    seam.real->write_durably(io, &part);
    write->ret_written = part.ret_written;
    write->ret_synced = part.ret_synced;
    if (part.size < write->size)
        write->ret_synced = -ECANCELED;
    if (is_disturbed && atomic_load(&seam.fail_synced) < 0)
        write->ret_synced = atomic_load(&seam.fail_synced);
}

static void watched_write_durably(struct io *io, struct io_write *write)
{
    look_at(write);
    disturbed_write(io, write);
    if (write->ret_written == (int64_t)write->size && write->ret_synced == 0)
        remember(write);
    if (atomic_load(&seam.is_disturbed))
        atomic_fetch_sub(&seam.times, 1);
    atomic_fetch_sub(&seam.in_flight, 1);
}

static int limited_allocate(struct io_file *file, uint64_t bytes, enum io_allocation how)
{
    const unsigned number =
        bytes < SEGMENT_MIN_BYTES ? MOST_ALLOCATIONS : atomic_fetch_add(&seam.allocations, 1);

    if (number < MOST_ALLOCATIONS)
        seam.allocated[number] = how;
    return bytes > atomic_load(&seam.largest_file) ? -ENOSPC : seam.real->allocate(file, bytes, how);
}

static int limited_write(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    uint64_t bytes;

    ck_assert_int_eq(io_size(file, &bytes), 0);
    bool is_too_large = offset + size > bytes && offset + size > atomic_load(&seam.largest_file);
    return is_too_large ? -ENOSPC : seam.real->write(file, data, size, offset);
}

static int64_t settable_now(struct io *io)
{
    int64_t now_ns = atomic_load(&seam.clock_ns);
    return now_ns != 0 ? now_ns : seam.real->now_ns(io);
}

struct io *watch(void)
{
    struct io *io;

    ck_assert_int_eq(twl_io_posix_create(log_dir, true, &io), 0);
    seam.real = io->ops;
    seam.ops = *io->ops;
    seam.ops.write_durably = watched_write_durably;
    seam.ops.allocate = limited_allocate;
    seam.ops.write = limited_write;
    seam.ops.now_ns = settable_now;
    io->ops = &seam.ops;
    if (seam.has_no_threads)
        io->has_threads = io->has_engine_threads = false;
    return io;
}

void seam_set_up(void)
{
    memset(&seam, 0, sizeof(seam));
    atomic_store(&seam.largest_file, UINT64_MAX);
    logdir_make();
    ck_assert_int_eq(mkdir(log_dir, 0777), 0);
}

uint64_t count_records(void)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    uint64_t count = 0;

    ck_assert_int_eq(twinlog_reader_open(log_dir, NULL, &reader), 0);
    int rc;
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        ck_assert_uint_eq(record.lsn, ++count);
    ck_assert_int_eq(rc, 0);
    twinlog_reader_close(reader);
    return count;
}

_Thread_local unsigned yields;
_Atomic unsigned yields_of_all;

int sched_yield(void)
{
    yields++;
    atomic_fetch_add_explicit(&yields_of_all, 1, memory_order_relaxed);
    return (int)syscall(SYS_sched_yield);
}

struct twinlog_options small_options(uint32_t flags)
{
    const struct twinlog_options options =
        WITH_SIZE(options, .flags = flags | TWINLOG_BUFFERED, .buffer_bytes = 16384,
                  .segment_bytes = SEGMENT_MIN_BYTES);
    return options;
}

struct twinlog *open_with(const struct twinlog_options *options)
{
    return log_on(watch(), options);
}

const char payload[200000];

uint64_t fill_up(struct twinlog *log, size_t size)
{
    uint64_t lsn, last_lsn = twinlog_last_lsn(log);
    int rc;

    while ((rc = twinlog_append(log, payload, size, &lsn)) == 0)
        ck_assert_uint_eq(lsn, ++last_lsn);
    ck_assert_int_eq(rc, -ENOSPC);
    return last_lsn;
}

static int fail_on_finding(void *context, const struct twinlog_report *finding)
{
    (void)context;
    ck_abort_msg("verify: %s", finding->text);
    return 0;
}

void expect_sound(uint64_t records)
{
    uint64_t found;
    const struct twinlog_verify_options options = WITH_SIZE(verify_options, .each = fail_on_finding);

    ck_assert_int_eq(twinlog_verify(log_dir, &options, &found), 0);
    ck_assert_uint_eq(found, records);
    ck_assert_uint_eq(count_records(), records);
    ck_assert(!atomic_load(&seam.is_beyond));
    ck_assert(!atomic_load(&seam.has_rewrite));
}
