/* SPDX-License-Identifier: Apache-2.0 */
/* See hooked.h. */
#include "hooked.h"

#include "control/shared_page.h"
#include "log/log.h"
#include "logdir.h"

#include <errno.h>
#include <sys/uio.h>

static const struct io_ops *real;
static struct io_ops ops;
/* Threads of a log that is open load it while a test puts it in front of another io. */
static hooked_before *_Atomic before_each;

/* gcc reads an atomic pointer to a function as any other one where it is called. */
static int before_call(const struct hooked_call *call)
{
    hooked_before *function = atomic_load(&before_each);

    return function(call);
}

static int before(enum simdisk_op op)
{
    return before_call(&(struct hooked_call){ .op = op });
}

static int open_hooked(struct io *io, const char *name, unsigned flags, struct io_file **ret_file)
{
    const int rc = before_call(&(struct hooked_call){ .op = SIM_OPEN, .name = name, .flags = flags });
    return rc < 0 ? rc : real->open(io, name, flags, ret_file);
}

static int size_hooked(struct io_file *file, uint64_t *ret_bytes)
{
    const int rc = before(SIM_SIZE);
    return rc < 0 ? rc : real->size(file, ret_bytes);
}

static int read_hooked(struct io_file *file, void *buffer, size_t size, uint64_t offset, size_t *ret_size)
{
    const int rc = before(SIM_READ);
    return rc < 0 ? rc : real->read(file, buffer, size, offset, ret_size);
}

static int write_hooked(struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    const int rc = before(SIM_WRITE);
    return rc < 0 ? rc : real->write(file, data, size, offset);
}

static int sync_hooked(struct io_file *file)
{
    const int rc = before(SIM_SYNC);
    return rc < 0 ? rc : real->sync(file);
}

static int sync_data_hooked(struct io_file *file)
{
    const int rc = before(SIM_SYNC);
    return rc < 0 ? rc : real->sync_data(file);
}

static int lock_hooked(struct io_file *file, enum io_lock which, bool is_exclusive)
{
    const int rc = before_call(&(struct hooked_call){ .op = SIM_LOCK, .lock = which });
    return rc < 0 ? rc : real->lock(file, which, is_exclusive);
}

static int is_locked_hooked(struct io_file *file, enum io_lock which, bool is_exclusive, bool *ret_locked)
{
    const int rc = before(SIM_IS_LOCKED);
    return rc < 0 ? rc : real->is_locked(file, which, is_exclusive, ret_locked);
}

static int links_hooked(struct io_file *file, const char *name, uint32_t *ret_links)
{
    const int rc = before(SIM_LINKS);
    return rc < 0 ? rc : real->links(file, name, ret_links);
}

/* Of a segment, or of the page of writer.lock. */
static int map_hooked(struct io_file *file, size_t bytes, void **ret_bytes)
{
    const int rc = before(bytes > PAGE_FILE_BYTES ? SIM_VIEW : SIM_MAP);
    return rc < 0 ? rc : real->map(file, bytes, ret_bytes);
}

static int list_hooked(struct io *io, int (*each)(void *context, const char *name), void *context)
{
    const int rc = before(SIM_LIST);
    return rc < 0 ? rc : real->list(io, each, context);
}

static int rename_unless_taken_hooked(struct io *io, const char *from, const char *to)
{
    const int rc = before(SIM_RENAME);
    return rc < 0 ? rc : real->rename_unless_taken(io, from, to);
}

static int rename_hooked(struct io *io, const char *from, const char *to)
{
    const int rc = before(SIM_RENAME);
    return rc < 0 ? rc : real->rename(io, from, to);
}

static int unlink_hooked(struct io *io, const char *name)
{
    const int rc = before(SIM_UNLINK);
    return rc < 0 ? rc : real->unlink(io, name);
}

static int sync_dir_hooked(struct io *io)
{
    const int rc = before(SIM_SYNC_DIR);
    return rc < 0 ? rc : real->sync_dir(io);
}

static void write_durably_hooked(struct io *io, struct io_write *write)
{
    write->ret_written = before(SIM_SUBMIT);
    write->ret_synced = -ECANCELED;
    if (write->ret_written == 0)
        real->write_durably(io, write);
}

struct io *hooked(struct io *io, hooked_before *function)
{
    before_each = function;
    if (real != io->ops) { /* once: threads of a log that is open may be using them */
        real = io->ops;
        ops = *real;
        ops.open = open_hooked;
        ops.size = size_hooked;
        ops.read = read_hooked;
        ops.write = write_hooked;
        ops.sync = sync_hooked;
        ops.sync_data = sync_data_hooked;
        ops.lock = lock_hooked;
        ops.is_locked = is_locked_hooked;
        ops.links = links_hooked;
        ops.map = map_hooked;
        ops.list = list_hooked;
        ops.rename = rename_hooked;
        ops.rename_unless_taken = rename_unless_taken_hooked;
        ops.unlink = unlink_hooked;
        ops.sync_dir = sync_dir_hooked;
        ops.write_durably = write_durably_hooked;
    }
    io->ops = &ops;
    return io;
}

struct io *hooked_log_dir(hooked_before *function)
{
    return hooked(log_io(true), function);
}

int hooked_refuse_map(const struct hooked_call *call)
{
    return call->op == SIM_MAP ? -ENODEV : 0;
}

/* An emulator of another processor may have no write that syncs. A kernel that has it looks at the descriptor first. */
static bool has_write_that_syncs(void)
{
    const struct iovec none = { .iov_base = NULL };

    return pwritev2(-1, &none, 1, 0, RWF_DSYNC) < 0 && errno == EBADF;
}

struct io *log_io(bool use_dsync)
{
    struct io *io;

    ck_assert_int_eq(twl_io_posix_create(log_dir, use_dsync && has_write_that_syncs(), &io), 0);
    return io;
}

struct twinlog *log_on(struct io *io, const struct twinlog_options *options)
{
    struct twinlog *log;

    ck_assert_int_eq(log_try_on(io, options, &log), 0);
    return log;
}

struct simdisk *make_simdisk(void)
{
    return simdisk_create(&(struct simdisk_options){ .seed = 7, .has_direct = true });
}

void walk_segment(struct walked *walked, const char *dir, uint64_t sequence)
{
    char name[SEGMENT_NAME_BYTES];

    *walked = (struct walked){ 0 };
    twl_segment_name(sequence, name);
    ck_assert_int_eq(twl_io_posix_create(dir, false, &walked->io), 0);
    ck_assert_int_eq(twl_segment_open_valid(walked->io, name, &walked->segment), 0);
    twl_iter_begin(&walked->iter, &walked->segment, twl_position_before(&walked->segment.header));
}

void walk_to_group(struct walked *walked, uint64_t lsn)
{
    do
        ck_assert_int_eq(twl_iter_enter_group(&walked->iter), 1);
    while (walked->iter.group.first_lsn != lsn || walked->iter.group.count == 0);
}

void leave_segment(struct walked *walked)
{
    twl_iter_free(&walked->iter);
    twl_segment_close(&walked->segment);
    walked->io->ops->destroy(walked->io);
}
