/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raft_io itself: raft_uv's, with the storage calls replaced in the table. raft_uv keeps the address of the
 * raft_io that it was given and calls raft through it, so its table is changed in place, and the storage lies around
 * it. raft_init() overwrites io->data with its struct raft, whatever libraft's documentation says.
 *
 * Debian's libraft is built without its assertions: what breaks its contract is not reported, it corrupts. Comments in
 * these files that begin with "libraft:" name what it needs and does not check.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "internal.h"

int code_of(int error)
{
    switch (error) {
    case 0:
        return 0;
    case -ENOMEM:
        return RAFT_NOMEM;
    case -ENOSPC:
    case -EDQUOT:
        return RAFT_NOSPACE;
    case -EBUSY:
        return RAFT_BUSY;
    case -EMSGSIZE:
        return RAFT_TOOBIG;
    case TWINLOG_ECORRUPT:
    case TWINLOG_EFOREIGN:
    case TWINLOG_ETRIMMED:
        return RAFT_CORRUPT;
    default:
        return RAFT_IOERR;
    }
}

int report_text(struct storage *s, int code, const char *text)
{
    snprintf(s->io.errmsg, sizeof(s->io.errmsg), "%s", text);
    return code;
}

int report(struct storage *s, const char *what, int error)
{
    if (error == 0)
        return 0;
    snprintf(s->io.errmsg, sizeof(s->io.errmsg), "%s: %s", what, twinlog_strerror(error));
    return code_of(error);
}

int out_of_memory(struct storage *s)
{
    if (!MAY_REFUSE) {
        fprintf(stderr, "twinlog-raft: %s: out of memory, and libraft allows no refusal\n", s->dir);
        abort();
    }
    return report_text(s, RAFT_NOMEM, "out of memory");
}

void stop_server(struct storage *s, int error)
{
    if (s->is_failed)
        return;

    s->is_failed = true;
    if (s->is_closing)
        return; /* raft takes no notice any more */
    if (s->options.on_failure == NULL) {
        fprintf(stderr, "twinlog-raft: %s: %s: the server stops, because it cannot store entries\n", s->dir,
                s->io.errmsg);
        abort();
    }

    s->options.on_failure(s->options.context, error, s->io.errmsg);
}

void stop_storing(struct storage *s, const char *what, int error)
{
    if (s->is_failed)
        return;

    report(s, what, error);
    stop_server(s, error);
}

/* ---- capacity ---------------------------------------------------------------------------------- */

uint64_t free_bytes(const char *dir, bool with_reserve)
{
    struct statvfs disk;
    if (statvfs(dir, &disk) < 0 || disk.f_blocks == 0)
        return UINT64_MAX; /* what cannot be asked is no lack */
    if (with_reserve)
        return (uint64_t)disk.f_bfree * disk.f_frsize;
    return (uint64_t)disk.f_bavail * disk.f_frsize;
}

/* libraft 0.22: a leader refuses commands with RAFT_NOSPACE while most voters have less than a threshold, 4 MiB. They
 * say it in their answers. The log has a file in reserve beside that, which it does not tell the size of. */
void measure_capacity(struct storage *s)
{
    const bool is_behind = s->waiting.first != NULL || s->cut_index > 0;
    uint64_t bytes = free_bytes(s->log_dir, false);

    if (is_behind || s->is_failed)
        bytes = 0;

    s->capacity = UINT16_MAX;
    if (bytes / 1024 < UINT16_MAX)
        s->capacity = (unsigned short)(bytes / 1024);
}

/* libraft 0.22: raft asks for the time before each step, and takes the capacity then. raft_uv sets that of its own
 * files in each turn. */
raft_time time_of(struct raft_io *io)
{
    struct storage *s = storage_of(io);
#ifdef RAFT_VERSION_NUMBER
    io->capacity = s->capacity;
#endif
    return s->base.time(io);
}

/* ---- opening ----------------------------------------------------------------------------------- */

/* Files come first: when raft_uv's part has succeeded, its timer is in the loop and only raft_close() takes it out. */
static int init(struct raft_io *io, raft_id id, const char *address)
{
    struct storage *s = storage_of(io);

    int rv = open_files(s, id);
    if (rv == 0)
        rv = s->base.init(io, id, address);
    if (rv != 0)
        close_files(s);
    return rv;
}

static char *path_of(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    if (path != NULL)
        snprintf(path, size, "%s%s%s", dir, *name ? "/" : "", name);
    return path;
}

/* 3 or higher, also for a moment: a daemon may have closed the standard descriptors, and print to them all the same. */
int open_above_standard(const char *path, int flags, mode_t mode)
{
    int low[3], count = 0;

    int fd = open("/", O_PATH | O_CLOEXEC);
    while (fd >= 0 && fd <= 2) {
        low[count] = fd;
        count++;
        fd = open("/", O_PATH | O_CLOEXEC);
    }
    if (fd >= 0)
        close(fd);

    fd = open(path, flags | O_CLOEXEC, mode);
    const int error = errno;
    for (int i = 0; i < count; i++)
        close(low[i]);
    errno = error;
    return fd;
}

int sync_directory(const char *dir)
{
    int fd = open_above_standard(dir, O_RDONLY | O_DIRECTORY, 0);
    int rc = 0;

    if (fd < 0)
        return -errno;
    if (fsync(fd) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int make_directory(const char *dir)
{
    const int made = mkdir(dir, 0777);
    if (made < 0 && errno == EEXIST)
        return 0;
    if (made < 0)
        return -errno;

    char *parent = path_of(dir, "..");
    int rc = -ENOMEM;
    if (parent != NULL)
        rc = sync_directory(parent);
    free(parent);
    return rc;
}

static int take_options(struct storage *s, const struct twinlog_raft_options *options)
{
    const struct twinlog_raft_options defaults = TWINLOG_RAFT_OPTIONS_INIT;

    s->options = defaults;
    if (options != NULL) {
        if (options->size != sizeof(*options))
            return RAFT_INVALID;

        s->options = *options;
    }

    if (s->options.buffer_bytes == 0)
        s->options.buffer_bytes = 8 << 20;
    if (s->options.segment_bytes == 0)
        s->options.segment_bytes = 64 << 20;

    const uint32_t buffer = s->options.buffer_bytes;
    if (buffer % 4096 || buffer < 64 << 10 || buffer > 256 << 20)
        return RAFT_INVALID;
    if (s->options.segment_bytes < buffer + 8192)
        return RAFT_INVALID;
    return 0;
}

/* ---- closing ----------------------------------------------------------------------------------- */

static void handle_closed(uv_handle_t *handle)
{
    struct storage *s = handle->data;
    s->handles--;
    finish_close(s);
}

static void close_handles(struct storage *s)
{
    if (uv_is_closing((uv_handle_t *)&s->poll))
        return;

    uv_close((uv_handle_t *)&s->poll, handle_closed);
    uv_close((uv_handle_t *)&s->prepare, handle_closed);
    uv_close((uv_handle_t *)&s->check, handle_closed);
    uv_close((uv_handle_t *)&s->idle, handle_closed);
    uv_close((uv_handle_t *)&s->timer, handle_closed);
}

/* libraft: appends that are in flight are completed, not cancelled: several that fail at a time make 0.15 truncate
 * beyond the end of its log. Once nothing is in flight and raft_uv has closed its part, raft may go. */
void finish_close(struct storage *s)
{
    if (!s->is_closing || !s->is_base_closed || s->appends > 0 || s->works > 0)
        return;
    if (s->handles > 0) {
        close_handles(s);
        return;
    }

    release(&s->held, CANCELED);
    release(&s->replaced, CANCELED);
    release(&s->cut, CANCELED);
    release(&s->waiting, CANCELED);
    cancel_snapshots(s);
    call_back_unsent(s);
    close_files(s);
    s->is_closing = false;
    s->close_cb(&s->io);
}

static void base_closed(struct raft_io *io)
{
    storage_of(io)->is_base_closed = true;
    finish_close(storage_of(io));
}

static void close_io(struct raft_io *io, raft_io_close_cb cb)
{
    struct storage *s = storage_of(io);
    s->close_cb = cb;
    s->is_closing = true;
    forget_connections(s, true);
    s->base.close(io, base_closed);
}

/* ---- the door ---------------------------------------------------------------------------------- */

void twinlog_raft_free(struct raft_io *io)
{
    if (io == NULL)
        return;

    struct storage *s = storage_of(io);
    close_files(s);
    if (io->impl != NULL)
        raft_uv_close(io);
    free(s->dir);
    free(s->log_dir);
    free(s->snapshot_dir);
    free(s);
}

int twinlog_raft_stat(struct raft_io *io, struct twinlog_raft_stat *ret_stat)
{
    if (io == NULL || ret_stat == NULL || ret_stat->size != sizeof(*ret_stat))
        return RAFT_INVALID;
    *ret_stat = storage_of(io)->stat;
    ret_stat->snapshot_bytes = storage_of(io)->head.bytes;
    return 0;
}

static struct storage *new_storage(struct uv_loop_s *loop, const char *dir)
{
    struct storage *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;

    s->loop = loop;
    s->server_fd = -1;
    s->stat.size = sizeof(s->stat);
    s->retry_ms = RETRY_MS;
    begin_list(&s->submitted);
    begin_list(&s->waiting);
    begin_list(&s->cut);
    begin_list(&s->replaced);
    begin_list(&s->held);
    s->truncated_end = &s->truncated;
    s->dir = path_of(dir, "");
    s->log_dir = path_of(dir, "log");
    s->snapshot_dir = path_of(dir, "snapshots");
    return s;
}

/* What is not stored here stays as raft_uv_init() has set it. */
static void set_methods(struct raft_io *io)
{
#ifdef RAFT_VERSION_NUMBER
    raft_uv_set_segment_size(io, 0); /* or it prepares two files that nothing is written to */
    io->time = time_of;
#else
    io->version = 2; /* it has async_work, which raft asks for in a state machine with snapshot_async */
#endif
    io->init = init;
    io->start = start_io;
    io->close = close_io;
    io->load = load_entries;
    io->bootstrap = bootstrap;
    io->recover = recover;
    io->set_term = set_term;
    io->set_vote = set_vote;
    io->send = send_message;
    io->append = append_entries;
    io->truncate = truncate_entries;
    io->snapshot_put = put_snapshot;
    io->snapshot_get = get_snapshot;
}

int twinlog_raft_open(struct uv_loop_s *loop, const char *dir, struct raft_uv_transport *transport,
                      const struct twinlog_raft_options *options, struct raft_io **ret_io)
{
    if (loop == NULL || dir == NULL || *dir == 0 || transport == NULL || ret_io == NULL)
        return RAFT_INVALID;
#ifdef RAFT_VERSION_NUMBER
    if (transport->version < 1) /* raft_uv_tcp_init() refuses that, too */
        return RAFT_INVALID;
#endif

    struct storage *s = new_storage(loop, dir);
    if (s == NULL)
        return RAFT_NOMEM;

    const bool has_paths = s->dir != NULL && s->log_dir != NULL && s->snapshot_dir != NULL;
    int rv = take_options(s, options);
    if (rv == 0 && !has_paths)
        rv = RAFT_NOMEM;
    wrap_transport(s, transport);
    if (rv == 0)
        rv = raft_uv_init(&s->io, loop, dir, &s->transport);
    if (rv != 0) {
        twinlog_raft_free(&s->io);
        return rv;
    }

    s->base = s->io;
    set_methods(&s->io);
    *ret_io = &s->io;
    return 0;
}
