/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call of the raft_io as libraft makes it, without libraft: what it answers, when it calls back, and what the next
 * start loads. Errors are put in where the storage calls twinlog, and so are deaths of the process.
 */
#define _GNU_SOURCE
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "server.h"

/* ---- what is made to fail ---------------------------------------------------------------------- */

/* The error that a call returns; 0 = none. */
static _Atomic int fail_submit;      /* twinlog_submit() */
static _Atomic int fail_result;      /* of each request that completes */
static _Atomic int fail_batch;       /* twinlog_append_batch() */
static _Atomic int batches_to_pass;  /* calls that still succeed before fail_batch counts */
static _Atomic int fail_reset;       /* twinlog_reset() */
static _Atomic int fail_truncate;    /* twinlog_truncate() */
static _Atomic int fail_reader_open; /* twinlog_reader_open() */
static _Atomic int fail_meta;        /* the write of term and vote */
static _Atomic int fail_promise;     /* the write of the newest acknowledged entry */
static _Atomic int fail_sync;        /* the sync of term and vote */

/* The process ends there. */
static _Atomic bool die_in_meta, die_in_batch;
static _Atomic bool die_in_reset;     /* before it */
static _Atomic bool die_behind_reset; /* when it is done */

static _Atomic bool is_queue_slow;    /* only a call that waits gets something */
static _Atomic bool is_one_at_a_time; /* what a call gets */

/* The file with term and vote, as a power cut would see it. */
static _Atomic int meta_fd = -1;
static _Atomic bool is_meta_dirty, is_meta_durable;

/* A disk that hangs: what a thread writes or syncs waits. The loop must not get there. */
static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t disk_goes_on = PTHREAD_COND_INITIALIZER;
static bool is_disk_stopped; /* [disk_lock], as the next two */
static bool has_loop_waited;
static unsigned threads_that_wait;
static bool has_no_ring; /* the log writes by calls that can wait here; set before it is opened */
static pthread_t loop_thread;

static void wait_for_disk(void)
{
    pthread_mutex_lock(&disk_lock);
    if (is_disk_stopped && pthread_equal(pthread_self(), loop_thread)) {
        has_loop_waited = true; /* and it is said, instead of a test that hangs */
        pthread_cond_broadcast(&disk_goes_on);
    }

    threads_that_wait++;
    while (is_disk_stopped && !has_loop_waited)
        pthread_cond_wait(&disk_goes_on, &disk_lock);
    threads_that_wait--;
    pthread_mutex_unlock(&disk_lock);
}

static unsigned count_waiting_threads(void)
{
    pthread_mutex_lock(&disk_lock);
    const unsigned count = threads_that_wait;
    pthread_mutex_unlock(&disk_lock);
    return count;
}

static void stop_disk(bool is_stopped)
{
    pthread_mutex_lock(&disk_lock);
    loop_thread = pthread_self();
    is_disk_stopped = is_stopped;
    pthread_cond_broadcast(&disk_goes_on);
    pthread_mutex_unlock(&disk_lock);
}

int __real_io_uring_queue_init(unsigned, struct io_uring *, unsigned);
int __wrap_io_uring_queue_init(unsigned, struct io_uring *, unsigned);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    if (has_no_ring)
        return -ENOSYS;
    return __real_io_uring_queue_init(entries, ring, flags);
}

ssize_t __real_pwritev2(int, const struct iovec *, int, off_t, int);
ssize_t __wrap_pwritev2(int, const struct iovec *, int, off_t, int);
ssize_t __wrap_pwritev2(int fd, const struct iovec *data, int count, off_t offset, int flags)
{
    wait_for_disk();
    return __real_pwritev2(fd, data, count, offset, flags);
}

int __real_twinlog_submit(struct twinlog *, const struct twinlog_entry *, uint32_t,
                          const struct twinlog_terms *, struct twinlog_request *);
int __wrap_twinlog_submit(struct twinlog *, const struct twinlog_entry *, uint32_t,
                          const struct twinlog_terms *, struct twinlog_request *);
int __wrap_twinlog_submit(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                          const struct twinlog_terms *terms, struct twinlog_request *request)
{
    if (fail_submit)
        return fail_submit;
    return __real_twinlog_submit(log, entries, count, terms, request);
}

int __real_twinlog_append_batch(struct twinlog *, const struct twinlog_entry *, uint32_t,
                                const struct twinlog_terms *, uint64_t *);
int __wrap_twinlog_append_batch(struct twinlog *, const struct twinlog_entry *, uint32_t,
                                const struct twinlog_terms *, uint64_t *);
int __wrap_twinlog_append_batch(struct twinlog *log, const struct twinlog_entry *entries, uint32_t count,
                                const struct twinlog_terms *terms, uint64_t *ret_first_lsn)
{
    if (die_in_batch)
        _exit(0);
    if (fail_batch && batches_to_pass-- <= 0)
        return fail_batch;
    return __real_twinlog_append_batch(log, entries, count, terms, ret_first_lsn);
}

int __real_twinlog_queue_poll(struct twinlog_queue *, struct twinlog_request **, uint32_t, int);
int __wrap_twinlog_queue_poll(struct twinlog_queue *, struct twinlog_request **, uint32_t, int);
int __wrap_twinlog_queue_poll(struct twinlog_queue *queue, struct twinlog_request **ret, uint32_t max,
                              int timeout_ms)
{
    if (is_queue_slow && timeout_ms == 0)
        return 0;
    if (is_one_at_a_time)
        max = 1;

    const int n = __real_twinlog_queue_poll(queue, ret, max, timeout_ms);
    for (int i = 0; i < n; i++) {
        if (fail_result)
            ret[i]->result = fail_result;
    }
    return n;
}

/* Two writes are known by their size. */
#define META_BYTES 56    /* term and vote */
#define PROMISE_BYTES 24 /* the newest acknowledged entry */

static ssize_t refuse_write(int error)
{
    errno = -error;
    return -1;
}

ssize_t __real_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    if (bytes == PROMISE_BYTES && fail_promise)
        return refuse_write(fail_promise);

    if (bytes == META_BYTES) {
        if (die_in_meta)
            _exit(0);
        if (fail_meta)
            return refuse_write(fail_meta);
        meta_fd = fd;
        is_meta_dirty = true;
        is_meta_durable = false;
    }
    return __real_pwrite(fd, data, bytes, offset);
}

/* After a failure the kernel takes what was written for durable, and the next sync succeeds. */
int __real_fdatasync(int);
int __wrap_fdatasync(int);
int __wrap_fdatasync(int fd)
{
    wait_for_disk();
    if (fd != meta_fd)
        return __real_fdatasync(fd);

    const bool was_dirty = is_meta_dirty;
    is_meta_dirty = false;
    if (fail_sync) {
        errno = -fail_sync;
        return -1;
    }
    if (was_dirty)
        is_meta_durable = true;
    return __real_fdatasync(fd);
}

int __real_twinlog_reset(struct twinlog *, uint64_t);
int __wrap_twinlog_reset(struct twinlog *, uint64_t);
int __wrap_twinlog_reset(struct twinlog *log, uint64_t next_lsn)
{
    if (die_in_reset)
        _exit(0);
    if (fail_reset)
        return fail_reset;

    const int error = __real_twinlog_reset(log, next_lsn);
    if (die_behind_reset)
        _exit(0);
    return error;
}

int __real_twinlog_truncate(struct twinlog *, uint64_t);
int __wrap_twinlog_truncate(struct twinlog *, uint64_t);
int __wrap_twinlog_truncate(struct twinlog *log, uint64_t last_lsn)
{
    if (fail_truncate)
        return fail_truncate;
    return __real_twinlog_truncate(log, last_lsn);
}

int __real_twinlog_reader_open(const char *, const struct twinlog_reader_options *, struct twinlog_reader **);
int __wrap_twinlog_reader_open(const char *, const struct twinlog_reader_options *, struct twinlog_reader **);
int __wrap_twinlog_reader_open(const char *path, const struct twinlog_reader_options *options,
                               struct twinlog_reader **ret_reader)
{
    if (fail_reader_open)
        return fail_reader_open;
    return __real_twinlog_reader_open(path, options, ret_reader);
}

static _Atomic int64_t disk_bytes = -1; /* that are free, as the file system says; -1 = as it is */
static _Atomic int64_t reserve_bytes;   /* beside these, for some users alone */
static _Atomic bool says_nothing;       /* the file system has zeros for all of it */
static _Atomic int64_t disk_size = -1;  /* of a disk that has the snapshots alone; -1 = as it is */

static uint64_t bytes_of_files(const char *path)
{
    uint64_t bytes = 0;
    struct dirent *entry;
    DIR *files = opendir(path);

    if (files == NULL)
        return 0;
    while ((entry = readdir(files)) != NULL) {
        struct stat st;
        if (fstatat(dirfd(files), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_blocks * 512;
    }
    closedir(files);
    return bytes;
}

int __real_statvfs(const char *, struct statvfs *);
int __wrap_statvfs(const char *, struct statvfs *);
int __wrap_statvfs(const char *path, struct statvfs *ret)
{
    const int rc = __real_statvfs(path, ret);

    if (disk_size >= 0)
        disk_bytes = disk_size - (int64_t)bytes_of_files(path);
    if (rc == 0 && disk_bytes >= 0) {
        ret->f_bavail = (fsblkcnt_t)disk_bytes / 512;
        ret->f_bfree = (fsblkcnt_t)(disk_bytes + reserve_bytes) / 512;
        ret->f_frsize = 512;
    }
    if (says_nothing)
        *ret = (struct statvfs){ .f_frsize = 512 };
    return rc;
}

/* ---- a server ---------------------------------------------------------------------------------- */

static char dir[4096];
static struct server server;
static bool is_closed;
static int failures; /* calls of on_failure */
static char failure_text[300];

static void note_failure(void *context, int error, const char *text)
{
    ck_assert_ptr_eq(context, &server);
    ck_assert_int_lt(error, 0);
    ck_assert_ptr_nonnull(text);
    snprintf(failure_text, sizeof(failure_text), "%s", text);
    failures++;
}

/* libraft 0.15 is refused a call with this code. To 0.22 no call that changes the log is refused. */
static int refusal(int code)
{
    if (MAY_REFUSE)
        return code;
    return 0;
}

/* The call, which returned `rv`, can be neither refused nor stored with 0.22: the server stops. */
static void check_refused_or_stopped(int rv, int code)
{
    ck_assert_int_eq(rv, refusal(code));
    if (MAY_REFUSE)
        ck_assert_int_eq(failures, 0);
    else
        ck_assert_int_eq(failures, 1);
}

/* What a refused call, or the server that has stopped, says. */
static const char *last_message(void)
{
    if (MAY_REFUSE)
        return server.io->errmsg;
    return failure_text;
}

static int try_open(bool may_abort)
{
    is_closed = false;
    failures = 0;
    const int rv = open_server(&server, dir, may_abort ? NULL : note_failure);
    ck_assert_ptr_nonnull(server.io);
    return rv;
}

static void free_server(struct server *v)
{
    twinlog_raft_free(v->io);
    raft_uv_tcp_close(&v->transport);
    ck_assert_int_eq(uv_loop_close(&v->loop), 0);
}

static void start(void)
{
    ck_assert_msg(try_open(false) == 0, "%s", server.io->errmsg);
    storage_of(server.io)->retry_ms = 5;
    ck_assert_msg(load_server(&server) == 0, "%s", server.io->errmsg);
}

static void free_loaded(struct server *v)
{
    free_snapshot(v->snapshot);
    for (size_t i = 0; i < v->n; i++) {
        const bool is_last_of_batch = i + 1 == v->n || v->entries[i].batch != v->entries[i + 1].batch;
        if (is_last_of_batch)
            raft_free(v->entries[i].batch);
    }
    raft_free(v->entries);
    v->snapshot = NULL;
    v->entries = NULL;
    v->n = 0;
}

static void note_closed(struct raft_io *io)
{
    (void)io;
    ck_assert(!is_closed);
    is_closed = true;
}

static void stop(void)
{
    free_loaded(&server);
    server.io->close(server.io, note_closed);
    while (!is_closed)
        uv_run(&server.loop, UV_RUN_ONCE);
    uv_run(&server.loop, UV_RUN_NOWAIT);
    free_server(&server);
}

static void restart(void)
{
    stop();
    start();
}

/* fork() with a body that may end at any time; waits for it. */
#define IN_CHILD(body)                                                                                       \
    do {                                                                                                     \
        pid_t child_ = fork();                                                                               \
        ck_assert_int_ge(child_, 0);                                                                         \
        if (child_ == 0) {                                                                                   \
            body;                                                                                            \
            _exit(0);                                                                                        \
        }                                                                                                    \
        ck_assert_int_eq(waitpid(child_, &child_status, 0), child_);                                         \
    } while (0)
static int child_status;

/* ---- entries ------------------------------------------------------------------------------------ */

struct call {
    struct raft_io_append req;
    struct raft_entry *entries;
    unsigned n;
    uint64_t index; /* of the first */
    unsigned order; /* of the callback; 0 = not called */
    int status;
};
static unsigned called;
static bool is_inside; /* append() */

static void appended(struct raft_io_append *req, int status)
{
    struct call *call = req->data;

    ck_assert(!is_inside);
    ck_assert_uint_eq(call->order, 0);
    call->order = ++called;
    call->status = status;
    if (failures == 0 && call->n > 0)
        ck_assert_uint_ge(twinlog_durable_lsn(storage_of(server.io)->log), 1);
}

/* As raft does when it hears of a newer one. */
static void reach_term(raft_term term)
{
    if (term > storage_of(server.io)->term)
        server.io->set_term(server.io, term);
}

static void make_call(struct call *call, uint64_t index, unsigned n)
{
    memset(call, 0, sizeof(*call));
    call->entries = calloc(n, sizeof(*call->entries));
    call->n = n;
    call->index = index;
    call->req.data = call;
}

static int append_call(struct call *call, raft_term term)
{
    reach_term(term);
    is_inside = true;
    const int rv = server.io->append(server.io, &call->req, call->entries, call->n, appended);
    is_inside = false;
    return rv;
}

/* Entries of the same size. */
static int append_sized(struct call *call, uint64_t index, unsigned n, raft_term term, size_t bytes)
{
    make_call(call, index, n);
    for (unsigned i = 0; i < n; i++)
        fill_entry(&call->entries[i], index + i, term, bytes);
    return append_call(call, term);
}

/* Entries of many sizes. */
static int append(struct call *call, uint64_t index, unsigned n, raft_term term)
{
    make_call(call, index, n);
    for (unsigned i = 0; i < n; i++)
        fill_entry(&call->entries[i], index + i, term, bytes_of(index + i));
    return append_call(call, term);
}

static void free_call(struct call *call)
{
    for (unsigned i = 0; i < call->n; i++)
        free(call->entries[i].buf.base);
    free(call->entries);
}

static void wait_for(const struct call *call)
{
    while (call->order == 0)
        uv_run(&server.loop, UV_RUN_ONCE);
}

/* One append, stored. */
static void store(uint64_t index, unsigned n, raft_term term)
{
    struct call call;

    ck_assert_int_eq(append(&call, index, n, term), 0);
    wait_for(&call);
    ck_assert_int_eq(call.status, 0);
    ck_assert_uint_ge(twinlog_durable_lsn(storage_of(server.io)->log), index + n - 1);
    free_call(&call);
}

static void check_loaded(uint64_t index, raft_term term)
{
    const struct raft_entry *entry = &server.entries[index - server.start_index];

    ck_assert_uint_ge(index, server.start_index);
    ck_assert_uint_lt(index - server.start_index, server.n);
    ck_assert_uint_eq(entry->term, term);
    ck_assert_uint_eq(entry->type, RAFT_COMMAND);
    ck_assert_uint_eq(entry->buf.len, bytes_of(index));
    ck_assert(is_whole(entry->buf.base, entry->buf.len, index + term));
    ck_assert_ptr_nonnull(entry->batch);
}

static uint64_t last_loaded(void)
{
    return server.start_index + server.n - 1;
}

static int try_bootstrap(void)
{
    struct raft_configuration conf;

    make_configuration(&conf);
    int rv = server.io->bootstrap(server.io, &conf);
    raft_configuration_close(&conf);
    return rv;
}

/* A server with entries 1 (the configuration) to `last`, all of term 1. */
static void start_with(uint64_t last)
{
    ck_assert_int_eq(try_open(false), 0);
    storage_of(server.io)->retry_ms = 5;
    ck_assert_int_eq(try_bootstrap(), 0);
    ck_assert_int_eq(load_server(&server), 0);
    free_loaded(&server);
    if (last > 1)
        store(2, (unsigned)(last - 1), 1);
}

/* ---- snapshots ----------------------------------------------------------------------------------- */

struct put_call {
    struct raft_io_snapshot_put req;
    struct raft_snapshot snapshot;
    struct raft_buffer bufs[2];
    unsigned order;
    int status;
};

static void put_done(struct raft_io_snapshot_put *req, int status)
{
    struct put_call *call = (struct put_call *)req;

    ck_assert_uint_eq(call->order, 0);
    call->order = ++called;
    call->status = status;
}

static uint8_t byte_of(uint64_t index, size_t at)
{
    return (uint8_t)(index + at / 3);
}

static int put(struct put_call *call, uint64_t index, raft_term term, size_t bytes, unsigned trailing)
{
    const size_t first_bytes = bytes / 3;
    uint8_t *data = malloc(bytes + 1);

    for (size_t i = 0; i < bytes; i++)
        data[i] = byte_of(index, i);

    memset(call, 0, sizeof(*call));
    call->bufs[0] = (struct raft_buffer){ data, first_bytes };
    call->bufs[1] = (struct raft_buffer){ data + first_bytes, bytes - first_bytes };
    call->snapshot.index = index;
    call->snapshot.term = term;
    call->snapshot.configuration_index = 1;
    make_configuration(&call->snapshot.configuration);
    call->snapshot.bufs = call->bufs;
    call->snapshot.n_bufs = 2;
    reach_term(term);
    return server.io->snapshot_put(server.io, trailing, &call->req, &call->snapshot, put_done);
}

static void free_put(struct put_call *call)
{
    free(call->bufs[0].base);
    raft_configuration_close(&call->snapshot.configuration);
}

static void wait_for_put(const struct put_call *call)
{
    while (call->order == 0)
        uv_run(&server.loop, UV_RUN_ONCE);
}

/* It has failed at least once, and waits. */
static void wait_for_failure(const struct put_call *call)
{
    while (storage_of(server.io)->works > 0)
        uv_run(&server.loop, UV_RUN_ONCE);
    ck_assert_uint_eq(call->order, 0);
    ck_assert(storage_of(server.io)->is_putting);
}

static int put_and_wait(uint64_t index, raft_term term, size_t bytes, unsigned trailing)
{
    struct put_call call;

    ck_assert_int_eq(put(&call, index, term, bytes, trailing), 0);
    wait_for_put(&call);
    free_put(&call);
    return call.status;
}

static void check_snapshot(const struct raft_snapshot *snapshot, uint64_t index, raft_term term, size_t bytes)
{
    ck_assert_ptr_nonnull(snapshot);
    ck_assert_uint_eq(snapshot->index, index);
    ck_assert_uint_eq(snapshot->term, term);

    const struct raft_configuration *conf = &snapshot->configuration;
    ck_assert_uint_eq(snapshot->configuration_index, 1);
    ck_assert_uint_eq(conf->n, 2);
    ck_assert_uint_eq(conf->servers[1].id, 2);
    ck_assert_str_eq(conf->servers[1].address, "127.0.0.1:9002");
    ck_assert_int_eq(conf->servers[1].role, RAFT_STANDBY);

    ck_assert_uint_eq(snapshot->n_bufs, 1);
    ck_assert_uint_eq(snapshot->bufs[0].len, bytes);
    const uint8_t *data = snapshot->bufs[0].base;
    size_t same = 0;
    while (same < bytes && data[same] == byte_of(index, same))
        same++;
    ck_assert_uint_eq(same, bytes);
}

struct get_call {
    struct raft_io_snapshot_get req;
    struct raft_snapshot *snapshot;
    unsigned calls;
    int status;
};

static void get_done(struct raft_io_snapshot_get *req, struct raft_snapshot *snapshot, int status)
{
    struct get_call *call = (struct get_call *)req;

    call->calls++;
    call->snapshot = snapshot;
    call->status = status;
}

/* ---- term, vote, bootstrap, recover ------------------------------------------------------------- */

START_TEST(a_new_server_has_nothing)
{
    start();
    ck_assert_uint_eq(server.term, 0);
    ck_assert_uint_eq(server.vote, 0);
    ck_assert_ptr_null(server.snapshot);
    ck_assert_uint_eq(server.start_index, 1);
    ck_assert_ptr_null(server.entries);
    ck_assert_uint_eq(server.n, 0);
    stop();
}
END_TEST

START_TEST(a_bootstrap_is_stored_and_cannot_be_repeated)
{
    start_with(1);
    ck_assert_int_eq(try_bootstrap(), RAFT_CANTBOOTSTRAP);

    restart();
    ck_assert_int_eq(try_bootstrap(), RAFT_CANTBOOTSTRAP);
    ck_assert_uint_eq(server.term, 1);
    ck_assert_uint_eq(server.n, 1);
    ck_assert_uint_eq(server.start_index, 1);
    ck_assert_uint_eq(server.entries[0].term, 1);
    ck_assert_uint_eq(server.entries[0].type, RAFT_CHANGE);
    stop();
}
END_TEST

START_TEST(a_bootstrap_that_did_not_finish_is_done_again)
{
    IN_CHILD({
        ck_assert_int_eq(try_open(false), 0);
        die_in_meta = true;
        try_bootstrap();
        abort();
    });
    ck_assert_int_eq(child_status, 0);

    IN_CHILD({
        ck_assert_int_eq(try_open(false), 0);
        die_in_batch = true;
        try_bootstrap();
        abort();
    });
    ck_assert_int_eq(child_status, 0);
    start_with(3);

    restart();
    ck_assert_uint_eq(server.n, 3);
    stop();
}
END_TEST

START_TEST(term_and_vote_are_durable_when_the_calls_return)
{
    IN_CHILD({
        start();
        ck_assert_int_eq(server.io->set_term(server.io, 7), 0);
        ck_assert_int_eq(server.io->set_vote(server.io, 3), 0);
        raise(SIGKILL);
    });

    start();
    ck_assert_uint_eq(server.term, 7);
    ck_assert_uint_eq(server.vote, 3);
    stop();
}
END_TEST

START_TEST(a_new_term_has_no_vote)
{
    start();
    ck_assert_int_eq(server.io->set_term(server.io, 7), 0);
    ck_assert_int_eq(server.io->set_vote(server.io, 3), 0);
    ck_assert_int_eq(server.io->set_term(server.io, 8), 0);

    restart();
    ck_assert_uint_eq(server.term, 8);
    ck_assert_uint_eq(server.vote, 0);
    stop();
}
END_TEST

START_TEST(a_term_that_cannot_be_stored_is_an_error)
{
    start_with(1);
    fail_meta = -EIO;
    ck_assert_int_eq(server.io->set_term(server.io, 2), RAFT_IOERR);
    if (MAY_REFUSE)
        ck_assert_int_eq(failures, 0);
    else
        ck_assert_int_eq(failures, 1); /* libraft 0.22 would not give it again */
    ck_assert_int_eq(server.io->set_vote(server.io, 2), RAFT_IOERR);
    ck_assert_str_ne(server.io->errmsg, "");

    fail_meta = 0;
    restart();
    ck_assert_uint_eq(server.term, 1);
    ck_assert_uint_eq(server.vote, 0);
    stop();
}
END_TEST

START_TEST(a_term_for_which_there_is_no_space_is_an_error)
{
    start_with(1);
    fail_meta = -ENOSPC;
    ck_assert_int_eq(server.io->set_term(server.io, 2), RAFT_NOSPACE);
    ck_assert_str_ne(server.io->errmsg, "");

    fail_meta = 0;
    restart();
    ck_assert_uint_eq(server.term, 1);
    stop();
}
END_TEST

/* With 0.22 the first error has stopped the server. */
START_TEST(after_a_term_that_could_not_be_stored_the_next_one_fails_too)
{
    start_with(1);
    fail_meta = -EIO;
    ck_assert_int_eq(server.io->set_term(server.io, 2), RAFT_IOERR);

    fail_meta = -ENOSPC;
    if (MAY_REFUSE)
        ck_assert_int_eq(server.io->set_term(server.io, 2), RAFT_NOSPACE);
    else
        ck_assert_int_eq(server.io->set_term(server.io, 2), RAFT_IOERR);

    fail_meta = 0;
    restart();
    ck_assert_uint_eq(server.term, 1);
    stop();
}
END_TEST

/* The file shows it, and after a power cut it would be gone, though entries of that term may be stored by then. */
START_TEST(a_term_that_could_not_be_synced_is_stored_before_it_counts)
{
    start_with(1);
    fail_sync = -EIO;
    ck_assert_int_eq(server.io->set_term(server.io, 2), RAFT_IOERR);

    fail_sync = 0;
    restart();
    ck_assert_uint_eq(server.term, 2);
    ck_assert(is_meta_durable);
    stop();
}
END_TEST

START_TEST(recover_appends_a_configuration)
{
    struct raft_configuration conf;

    make_configuration(&conf);
    start_with(5);
    ck_assert_int_eq(server.io->set_term(server.io, 4), 0);
    stop();
    ck_assert_int_eq(try_open(false), 0);
    ck_assert_int_eq(server.io->recover(server.io, &conf), 0);
    ck_assert_int_eq(load_server(&server), 0);
    ck_assert_uint_eq(server.n, 6);
    ck_assert_uint_eq(server.entries[5].type, RAFT_CHANGE);
    ck_assert_uint_eq(server.entries[5].term, 4);
    store(7, 1, 4);
    stop();
    raft_configuration_close(&conf);
}
END_TEST

/* ---- entries ------------------------------------------------------------------------------------ */

/* Of many calls each fiftieth has several batches; the others have 1, 2 and 3 entries in turn. */
static unsigned entries_of_call(unsigned i)
{
    const bool is_fiftieth = i % 50 == 49;

    return is_fiftieth ? 150 : 1 + i % 3;
}

START_TEST(appends_are_called_back_in_order_and_are_loaded)
{
    enum {
        CALLS = 400,
        CALLS_OF_A_TERM = 100,
        CALLS_OF_A_TURN = 40, /* of the loop */
    };
    static struct call calls[CALLS];
    uint64_t index = 2;

    start_with(1);
    called = 0;
    for (unsigned i = 0; i < CALLS; i++) {
        const unsigned n = entries_of_call(i);
        const raft_term term = 1 + i / CALLS_OF_A_TERM;

        ck_assert_int_eq(append(&calls[i], index, n, term), 0);
        index += n;
        if (i % CALLS_OF_A_TURN == 0)
            uv_run(&server.loop, UV_RUN_NOWAIT);
    }

    wait_for(&calls[CALLS - 1]);
    ck_assert_uint_eq(called, CALLS);
    for (unsigned i = 0; i < CALLS; i++) {
        ck_assert_uint_eq(calls[i].order, i + 1);
        ck_assert_int_eq(calls[i].status, 0);
    }

    restart();
    ck_assert_uint_eq(last_loaded(), index - 1);
    for (unsigned i = 0; i < CALLS; i++) {
        for (unsigned j = 0; j < calls[i].n; j++)
            check_loaded(calls[i].index + j, calls[i].entries[j].term);
        free_call(&calls[i]);
    }
    stop();
}
END_TEST

START_TEST(a_callback_comes_when_its_entries_are_durable)
{
    struct call calls[3];

    start_with(1);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(append(&calls[i], 2 + 100 * i, 100, 1), 0);
    for (unsigned i = 0; i < 3; i++) {
        wait_for(&calls[i]);
        ck_assert_uint_ge(twinlog_durable_lsn(storage_of(server.io)->log), calls[i].index + 99);
        free_call(&calls[i]);
    }
    stop();
}
END_TEST

START_TEST(the_statistics_tell_what_was_stored_and_what_waits)
{
    struct twinlog_raft_stat stat = { 0 };
    struct call call;

    start_with(5);
    ck_assert_int_eq(twinlog_raft_stat(server.io, &stat), RAFT_INVALID); /* its size is 0 */

    stat = (struct twinlog_raft_stat)TWINLOG_RAFT_STAT_INIT;
    ck_assert_int_eq(append_sized(&call, 6, 3, 1, 104), 0);
    ck_assert_int_eq(twinlog_raft_stat(server.io, &stat), 0);
    ck_assert_uint_eq(stat.append_ns.count, 1); /* entries 2 to 5 */
    ck_assert_uint_eq(stat.queued_entries, 3);
    ck_assert_uint_eq(stat.queued_bytes, 312);

    wait_for(&call);
    free_call(&call);
    ck_assert_int_eq(put_and_wait(8, 1, 5000, 16), 0);
    ck_assert_int_eq(put_and_wait(50, 1, 7000, 0), 0);
    ck_assert_int_eq(twinlog_raft_stat(server.io, &stat), 0);

    ck_assert_uint_eq(stat.append_ns.count, 2);
    ck_assert_uint_gt(stat.append_ns.max, 0);
    ck_assert_uint_ge(stat.append_ns.sum, stat.append_ns.max);
    ck_assert_uint_le(stat.append_ns.sum, 2 * stat.append_ns.max);
    ck_assert_uint_le(twinlog_quantile(&stat.append_ns, 0.5), stat.append_ns.max);

    ck_assert_uint_eq(stat.queued_entries, 0);
    ck_assert_uint_eq(stat.queued_bytes, 0);
    ck_assert_uint_eq(stat.snapshots, 2);
    ck_assert_uint_eq(stat.installs, 1);
    ck_assert_uint_eq(stat.snapshot_bytes, 7000);
    stop();
}
END_TEST

START_TEST(one_append_may_have_many_times_what_the_buffer_takes)
{
    struct call call;

    start_with(1);
    ck_assert_int_eq(append_sized(&call, 2, 40, 1, 300000), 0);
    wait_for(&call);

    restart();
    ck_assert_uint_eq(last_loaded(), 41);
    ck_assert_uint_eq(server.entries[40].buf.len, 300000);
    ck_assert_int_eq(memcmp(server.entries[40].buf.base, call.entries[39].buf.base, 300000), 0);
    free_call(&call);
    stop();
}
END_TEST

/* A call that was refused is never called back; one that was taken is, at the latest by the close. */
static void check_canceled_unless_refused(const struct call *call)
{
    if (MAY_REFUSE) {
        ck_assert_uint_eq(call->order, 0);
        ck_assert_int_eq(call->status, 0);
        return;
    }
    ck_assert_uint_eq(call->order, called);
    ck_assert_int_eq(call->status, CANCELED);
}

START_TEST(the_largest_entry_is_stored)
{
    struct call call;

    start_with(1);
    ck_assert_int_eq(append_sized(&call, 2, 3, 1, largest_entry(storage_of(server.io))), 0);
    wait_for(&call);
    ck_assert_int_eq(call.status, 0);
    free_call(&call);
    stop();
}
END_TEST

START_TEST(an_entry_that_is_too_large_is_refused)
{
    struct call call;

    start_with(1);
    const int rv = append_sized(&call, 2, 1, 1, largest_entry(storage_of(server.io)) + 1);

    check_refused_or_stopped(rv, RAFT_TOOBIG);
    if (MAY_REFUSE)
        store(2, 1, 1);
    stop();
    check_canceled_unless_refused(&call);
    free_call(&call);
}
END_TEST

/* libraft makes none: it would never be called back, and the close would wait for that. */
START_TEST(an_append_without_entries_is_refused)
{
    struct call call;

    start_with(1);
    const int rv = append(&call, 2, 0, 1);

    check_refused_or_stopped(rv, RAFT_INVALID);
    stop();
    check_canceled_unless_refused(&call);
    free_call(&call);
}
END_TEST

/* raft_uv would give the other servers other bytes. */
START_TEST(a_command_whose_length_is_no_multiple_of_8_is_refused)
{
    struct call call;

    start_with(1);
    const int rv = append_sized(&call, 2, 3, 1, 13);

    check_refused_or_stopped(rv, RAFT_MALFORMED);
    ck_assert_ptr_nonnull(strstr(last_message(), "must be a multiple of 8"));
    if (MAY_REFUSE)
        store(2, 1, 1);
    stop();
    free_call(&call);
}
END_TEST

/* libraft 0.15 is refused an append that a full disk does not take. */
START_TEST(a_refused_append_leaves_nothing)
{
    static const struct {
        const char *what;
        _Atomic int *call;
        int batches_to_pass;
    } cases[] = {
        { "the last of several batches", &fail_submit, 0 },
        { "the second of several", &fail_batch, 1 },
    };

    start_with(1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct call call;

        batches_to_pass = cases[i].batches_to_pass;
        *cases[i].call = -ENOSPC;
        const int rv = append(&call, 2, 200, 1);
        *cases[i].call = 0;

        ck_assert_msg(rv == RAFT_NOSPACE, "%s: %d", cases[i].what, rv);
        free_call(&call);
    }

    store(2, 3, 2);
    restart();
    ck_assert_uint_eq(last_loaded(), 4);
    for (uint64_t i = 2; i <= 4; i++)
        check_loaded(i, 2);
    ck_assert_int_eq(failures, 0);
    stop();
}
END_TEST

/* Of 200 entries the first 64, and a full disk has no room for the file that a truncation needs. */
static void refuse_and_leave_64(struct call *call)
{
    fail_batch = -ENOSPC;
    fail_truncate = -ENOSPC;
    batches_to_pass = 1;
    ck_assert_int_eq(append(call, 2, 200, 1), refusal(RAFT_NOSPACE));
    ck_assert_uint_eq(twinlog_last_lsn(storage_of(server.io)->log), 65);
    ck_assert_int_eq(failures, 0);
}

START_TEST(what_a_refused_append_has_left_goes_before_the_next_one)
{
    struct call call, second;

    /* 0.15 gives the refused index again; 0.22 goes on behind the 200 entries, which wait. */
    const uint64_t next = MAY_REFUSE ? 2 : 202;

    start_with(1);
    refuse_and_leave_64(&call);

    fail_batch = 0; /* there would be room for the entry, but not in its place */
    ck_assert_int_eq(append(&second, next, 3, 2), refusal(RAFT_NOSPACE));
    ck_assert_uint_eq(storage_of(server.io)->appends, 0);
    ck_assert_int_eq(failures, 0);

    fail_truncate = 0;
    if (MAY_REFUSE)
        store(next, 3, 2);
    else
        wait_for(&second);

    restart();
    ck_assert_uint_eq(last_loaded(), next + 2);
    if (!MAY_REFUSE)
        check_loaded(2, 1);
    check_loaded(next, 2);
    check_loaded(last_loaded(), 2);
    free_call(&call);
    free_call(&second);
    stop();
}
END_TEST

/* As after a server that ends before it has answered: raft takes them for what it was given. */
START_TEST(what_a_refused_append_has_left_is_loaded_at_the_next_start)
{
    start_with(1);
    stop();

    IN_CHILD({
        struct call call;
        start();
        refuse_and_leave_64(&call);
        fail_batch = 0;
        ck_assert_int_eq(twinlog_sync(storage_of(server.io)->log), 0);
        raise(SIGKILL);
    });
    ck_assert(WIFSIGNALED(child_status) && WTERMSIG(child_status) == SIGKILL);

    start();
    ck_assert_uint_eq(last_loaded(), 65);
    store(66, 2, 2);

    restart();
    check_loaded(65, 1);
    check_loaded(67, 2);
    stop();
}
END_TEST

/* libraft frees what two entries share twice, where the log drops both while they are being sent. */
START_TEST(loaded_entries_share_no_memory)
{
    start_with(200);
    restart();
    for (size_t i = 1; i < server.n; i++)
        ck_assert_ptr_ne(server.entries[i].batch, server.entries[i - 1].batch);
    stop();
}
END_TEST

START_TEST(a_truncation_comes_between_the_appends)
{
    struct call calls[3];

    start_with(1);
    called = 0;
    ck_assert_int_eq(append(&calls[0], 2, 9, 1), 0);
    ck_assert_int_eq(server.io->truncate(server.io, 6), 0);
    ck_assert_int_eq(append(&calls[1], 6, 1, 2), 0);
    ck_assert_int_eq(server.io->truncate(server.io, 6), 0);
    ck_assert_int_eq(append(&calls[2], 6, 2, 3), 0);
    wait_for(&calls[2]);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(calls[i].order, i + 1);
        ck_assert_int_eq(calls[i].status, 0);
        free_call(&calls[i]);
    }

    restart();
    ck_assert_uint_eq(last_loaded(), 7);
    check_loaded(5, 1);
    check_loaded(6, 3);
    check_loaded(7, 3);
    stop();
}
END_TEST

static unsigned received;

static void message_received(struct raft_io *io, struct raft_message *message)
{
    (void)io;
    (void)message;
    received++;
}

static unsigned received_entries;
static uint64_t received_commit;

/* As raft, which takes the entries. */
static void entries_received(struct raft_io *io, struct raft_message *message)
{
    message_received(io, message);
    received_entries = message->append_entries.n_entries;
    received_commit = message->append_entries.leader_commit;
    if (message->append_entries.n_entries > 0)
        raft_free(message->append_entries.entries[0].batch);
    raft_free(message->append_entries.entries);
}

/* As raft_uv: all entries of a message share one batch. The leader has confirmed them. */
static void receive_entries(uint64_t index, unsigned n, raft_term term)
{
    struct raft_message message = { .type = RAFT_IO_APPEND_ENTRIES, .server_id = 2 };
    void *batch = raft_calloc(n + 1, 8);

    message.append_entries.prev_log_index = index - 1;
    message.append_entries.entries = raft_calloc(n + 1, sizeof(*message.append_entries.entries));
    message.append_entries.n_entries = n;
    message.append_entries.leader_commit = index + n - 1;
    for (unsigned i = 0; i < n; i++)
        message.append_entries.entries[i] =
            (struct raft_entry){ .term = term, .type = RAFT_COMMAND, .buf = { batch, 8 }, .batch = batch };
    if (n == 0)
        raft_free(batch);
    receive_message(server.io, &message);
}

/* libraft: both would be one reference, and the first one's callback would be taken for the second one's. */
START_TEST(truncated_entries_do_not_come_again_before_their_callback)
{
    struct call calls[2];

    start_with(9);
    storage_of(server.io)->recv_cb = entries_received;
    called = 0;
    received = 0;
    is_queue_slow = true;
    ck_assert_int_eq(append(&calls[0], 10, 5, 3), 0);
    ck_assert_int_eq(server.io->truncate(server.io, 10), 0);
    ck_assert_int_eq(append(&calls[1], 10, 1, 4), 0);
    receive_entries(10, 5, 3);
    ck_assert_uint_eq(called, 0);
    ck_assert_uint_eq(received, 1); /* as a heartbeat */
    ck_assert_uint_eq(received_entries, 0);
    ck_assert_uint_eq(received_commit, 9); /* 0.15 would confirm 10 of term 4 */

    is_queue_slow = false;
    receive_entries(10, 5, 3); /* in the same turn of the loop */
    ck_assert_uint_ge(calls[0].order, 1);
    ck_assert_uint_eq(received_entries, 5);
    ck_assert_uint_eq(received_commit, 14);
    wait_for(&calls[1]);
    free_call(&calls[0]);
    free_call(&calls[1]);
    stop();
}
END_TEST

/* Two entries a call, four calls at a time. The index of the last entry that was called back is noted. */
static _Noreturn void append_until_killed(_Atomic uint64_t *acknowledged)
{
    start();
    uint64_t index = last_loaded() + 1;

    for (;;) {
        struct call calls[4];
        for (unsigned i = 0; i < 4; i++) {
            append(&calls[i], index, 2, 1);
            index += 2;
        }
        for (unsigned i = 0; i < 4; i++) {
            wait_for(&calls[i]);
            *acknowledged = calls[i].index + 1;
        }
    }
}

START_TEST(what_was_called_back_survives_a_kill)
{
    _Atomic uint64_t *acknowledged =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    start_with(1);
    stop();
    for (unsigned round = 0; round < 3; round++) {
        const uint64_t before = *acknowledged;
        const pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
            append_until_killed(acknowledged);

        while (*acknowledged < before + 200)
            usleep(1000);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);

        start();
        ck_assert_uint_ge(last_loaded(), *acknowledged);
        for (uint64_t i = 2; i <= last_loaded(); i++)
            check_loaded(i, 1);
        stop();
    }
    munmap((void *)acknowledged, 4096);
}
END_TEST

/* ---- failures ----------------------------------------------------------------------------------- */

static unsigned sent;

static void message_not_sent(struct raft_io_send *req, int status)
{
    (void)req;
    ck_assert_int_eq(status, RAFT_NOCONNECTION);
    sent++;
}

/* libraft 0.15 is told by the call, 0.22 by the callback, later. */
static void check_unsent(struct raft_io_send *req, const struct raft_message *message)
{
    sent = 0;
    const int rv = server.io->send(server.io, req, message, message_not_sent);

    ck_assert_uint_eq(sent, 0);
    if (MAY_REFUSE) {
        ck_assert_int_eq(rv, RAFT_NOCONNECTION);
        return;
    }
    ck_assert_int_eq(rv, 0);
    while (sent == 0)
        uv_run(&server.loop, UV_RUN_ONCE);
}

START_TEST(after_a_failed_write_nothing_is_reported_or_stored)
{
    struct call calls[4];
    struct put_call snapshot;

    start_with(1);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(append(&calls[i], 2 + i, 1, 1), 0);

    fail_result = -EIO;
    while (storage_of(server.io)->appends > 0)
        uv_run(&server.loop, UV_RUN_ONCE);

    fail_result = 0;
    ck_assert_int_eq(failures, 1);
    ck_assert_int_eq(append(&calls[3], 5, 1, 1), refusal(RAFT_IOERR));
    ck_assert_int_eq(server.io->set_term(server.io, 9), RAFT_IOERR);
    ck_assert_int_eq(server.io->set_vote(server.io, 9), RAFT_IOERR);
    ck_assert_int_eq(server.io->truncate(server.io, 3), refusal(RAFT_IOERR));
    ck_assert_int_eq(put(&snapshot, 2, 1, 10, 1), RAFT_IOERR);
    free_put(&snapshot);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_uint_eq(calls[i].order, 0);
    stop();
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_gt(calls[i].order, 0); /* raft frees its entries */
        ck_assert_int_eq(calls[i].status, CANCELED);
        free_call(&calls[i]);
    }
    check_canceled_unless_refused(&calls[3]);
    free_call(&calls[3]);
}
END_TEST

/* A log takes nothing more after a write that failed, or when its directory was removed. */
START_TEST(a_log_that_takes_nothing_more_stops_the_server)
{
    struct call call;

    start_with(1);
    fail_submit = TWINLOG_EPOISONED;
    ck_assert_int_eq(append(&call, 2, 1, 1), refusal(RAFT_IOERR));
    ck_assert_int_eq(failures, 1);

    fail_submit = 0;
    ck_assert_int_eq(server.io->set_term(server.io, 9), RAFT_IOERR);
    stop();
    free_call(&call);
}
END_TEST

START_TEST(what_completes_while_raft_is_closed_comes_behind_what_has_failed_before)
{
    struct call calls[2];

    start_with(1);
    called = 0;
    is_queue_slow = true;
    is_one_at_a_time = true;
    ck_assert_int_eq(append(&calls[0], 2, 1, 1), 0);
    ck_assert_int_eq(append(&calls[1], 3, 1, 1), 0);

    fail_result = -EIO;
    ck_assert_int_eq(complete_appends(storage_of(server.io), -1), 1);

    fail_result = 0;
    is_queue_slow = false;
    ck_assert_int_eq(failures, 1);
    ck_assert_uint_eq(called, 0);

    stop();

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(calls[i].order, i + 1);
        ck_assert_int_eq(calls[i].status, CANCELED);
        free_call(&calls[i]);
    }
}
END_TEST

/* A server that has forgotten what it has said by its next start must not have said it. */
START_TEST(after_a_failed_write_nothing_is_sent)
{
    struct raft_message message = { .type = RAFT_IO_REQUEST_VOTE_RESULT, .server_address = "127.0.0.1:9002" };
    struct raft_io_send req;

    start_with(1);
    stop_storing(storage_of(server.io), "a test", -EIO);
    check_unsent(&req, &message);
    stop();
}
END_TEST

/* With either version, and whatever the error says. */
START_TEST(a_promise_whose_sync_fails_stops_the_server)
{
    static const struct {
        const char *what;
        bool is_install;
        int error;
    } cases[] = {
        { "a truncation, and a disk that fails", false, -EIO },
        { "a truncation, and no space", false, -ENOSPC },
        { "a snapshot of the leader, and a disk that fails", true, -EIO },
        { "a snapshot of the leader, and no space", true, -ENOSPC },
    };

    start_with(10);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct put_call snapshot = { .order = 0 };
        int rv;
        fail_sync = 0;
        server.io->set_term(server.io, 2);
        fail_sync = cases[i].error;
        if (cases[i].is_install)
            rv = put(&snapshot, 20, 2, 1000, 0);
        else
            rv = server.io->truncate(server.io, 6);
        fail_sync = 0;

        ck_assert_msg(failures == 1, "%s: %d failures", cases[i].what, failures);
        ck_assert_int_eq(rv, refusal(RAFT_IOERR));
        ck_assert_int_eq(server.io->set_vote(server.io, 2), RAFT_IOERR);
        stop();
        if (cases[i].is_install)
            free_put(&snapshot);
        start();
        ck_assert_uint_eq(last_loaded(), 10);
        ck_assert_ptr_null(server.snapshot);
    }
    stop();
}
END_TEST

START_TEST(without_a_callback_a_failed_write_ends_the_process)
{
    IN_CHILD({
        struct call call;
        ck_assert_int_eq(try_open(true), 0);
        ck_assert_int_eq(try_bootstrap(), 0);
        ck_assert_int_eq(load_server(&server), 0);
        ck_assert_int_eq(append(&call, 2, 1, 1), 0);
        fail_result = -EIO;
        close(2); /* its message */
        for (;;)
            uv_run(&server.loop, UV_RUN_ONCE);
    });
    ck_assert(WIFSIGNALED(child_status));
    ck_assert_int_eq(WTERMSIG(child_status), SIGABRT);

    start(); /* the entry was written: its outcome is unknown to raft */
    stop();
}
END_TEST

/* ---- snapshots ----------------------------------------------------------------------------------- */

START_TEST(a_snapshot_is_loaded_and_the_entries_before_it_go)
{
    start_with(100);
    ck_assert_int_eq(put_and_wait(80, 1, 5000, 16), 0);
    store(101, 4, 2);

    restart();
    check_snapshot(server.snapshot, 80, 1, 5000);
    ck_assert_uint_eq(server.start_index, 65); /* 16 entries stay behind the snapshot's */
    ck_assert_uint_eq(last_loaded(), 104);
    check_loaded(65, 1);
    check_loaded(104, 2);
    stop();
}
END_TEST

START_TEST(a_snapshot_of_many_pieces_is_loaded_and_may_keep_more_entries_than_there_are)
{
    start_with(100);
    ck_assert_int_eq(put_and_wait(80, 1, 5000, 16), 0);
    store(101, 4, 2);
    ck_assert_int_eq(put_and_wait(104, 2, 3500000, 1000), 0);

    restart();
    check_snapshot(server.snapshot, 104, 2, 3500000);
    ck_assert_uint_eq(server.start_index, 65);
    stop();
}
END_TEST

START_TEST(an_own_snapshot_without_bytes_and_trailing_leaves_no_entry)
{
    start_with(100);
    store(101, 4, 2);
    ck_assert_int_eq(put_and_wait(104, 2, 3500000, 1000), 0);
    ck_assert_int_eq(put_and_wait(104, 2, 0, 0), 0);

    restart();
    check_snapshot(server.snapshot, 104, 2, 0);
    ck_assert_uint_eq(server.start_index, 105);
    ck_assert_uint_eq(server.n, 0);
    store(105, 1, 2);
    stop();
}
END_TEST

START_TEST(an_own_snapshot_without_trailing_leaves_what_is_behind_it)
{
    start_with(10);
    ck_assert_int_eq(put_and_wait(6, 1, 10, 0), 0);
    store(11, 1, 1);

    restart();
    ck_assert_uint_eq(server.start_index, 7);
    ck_assert_uint_eq(last_loaded(), 11);
    check_loaded(11, 1);
    stop();
}
END_TEST

/* Only the log can say whether it is an own snapshot or the leader's, which replaces all entries. */
START_TEST(a_snapshot_beside_a_log_that_cannot_be_looked_at_replaces_nothing)
{
    static const struct {
        const char *what;
        int error, code;
    } cases[] = {
        { "no descriptor", -EMFILE, RAFT_IOERR },
        { "no memory", -ENOMEM, RAFT_NOMEM },
        { "a sector that cannot be read", -EIO, RAFT_IOERR },
        { "damage", TWINLOG_ECORRUPT, RAFT_CORRUPT },
        { "the entry was trimmed", TWINLOG_ETRIMMED, RAFT_CORRUPT },
    };

    start_with(10);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct put_call snapshot;
        fail_reader_open = cases[i].error;
        const int rv = put(&snapshot, 6, 1, 10, 0);
        fail_reader_open = 0;
        ck_assert_msg(rv == refusal(cases[i].code), "%s: %d", cases[i].what, rv);
        const bool has_stopped = failures > 0; /* where it cannot be refused */
        ck_assert_msg(has_stopped == !MAY_REFUSE, "%s", cases[i].what);
        ck_assert_str_ne(last_message(), "");
        restart();
        ck_assert_msg(snapshot.order == 0 || snapshot.status == CANCELED, "%s", cases[i].what);
        ck_assert_msg(server.start_index == 1 && last_loaded() == 10, "%s", cases[i].what);
        free_put(&snapshot);
    }

    ck_assert_int_eq(put_and_wait(6, 1, 10, 0), 0); /* and it can be stored later */
    store(11, 1, 1);

    restart();
    ck_assert_uint_eq(server.start_index, 7);
    ck_assert_uint_eq(last_loaded(), 11);
    stop();
}
END_TEST

/* raft applies what most servers have, and this one may be behind. */
START_TEST(an_own_snapshot_of_an_entry_that_is_not_stored_yet_replaces_nothing)
{
    struct put_call snapshot;
    struct call call;

    start_with(10);
    is_queue_slow = true;
    ck_assert_int_eq(append(&call, 11, 3, 1), 0);
    ck_assert_int_eq(put(&snapshot, 12, 1, 10, 0), 0);

    is_queue_slow = false;
    wait_for_put(&snapshot);
    wait_for(&call);
    free_put(&snapshot);
    free_call(&call);

    restart();
    check_snapshot(server.snapshot, 12, 1, 10);
    ck_assert_uint_eq(last_loaded(), 13);
    check_loaded(13, 1);
    stop();
}
END_TEST

static void wait_for_work(void)
{
    while (storage_of(server.io)->works > 0)
        uv_run(&server.loop, UV_RUN_ONCE);
    uv_run(&server.loop, UV_RUN_NOWAIT);
}

/* libraft drops entries that the snapshot covers from its log then, and would not count them any more. */
START_TEST(an_own_snapshot_is_called_back_behind_the_appends_that_it_covers)
{
    struct put_call snapshot;
    struct call call;

    start_with(10);
    called = 0;
    is_queue_slow = true;
    ck_assert_int_eq(append(&call, 11, 3, 1), 0);
    ck_assert_int_eq(put(&snapshot, 12, 1, 10, 1), 0);
    wait_for_work();
    ck_assert_uint_eq(called, 0);

    is_queue_slow = false;
    wait_for_put(&snapshot);
    ck_assert_uint_eq(call.order, 1);
    ck_assert_uint_eq(snapshot.order, 2);
    free_put(&snapshot);
    free_call(&call);
    stop();
}
END_TEST

START_TEST(an_own_snapshot_does_not_wait_for_appends_behind_it)
{
    struct put_call snapshot;
    struct call call;

    start_with(13);
    ck_assert_int_eq(put(&snapshot, 13, 1, 10, 1), 0); /* all that it covers is stored */
    is_queue_slow = true;
    ck_assert_int_eq(append(&call, 14, 1, 1), 0);
    wait_for_put(&snapshot);
    ck_assert_uint_eq(call.order, 0);

    is_queue_slow = false;
    wait_for(&call);
    free_put(&snapshot);
    free_call(&call);
    stop();
}
END_TEST

START_TEST(a_snapshot_that_waits_for_its_callback_gets_it_from_the_close)
{
    struct put_call snapshot;
    struct call call;

    start_with(10);
    called = 0;
    is_queue_slow = true;
    ck_assert_int_eq(append(&call, 11, 3, 1), 0);
    ck_assert_int_eq(put(&snapshot, 12, 1, 10, 1), 0);
    wait_for_work();
    server.io->close(server.io, note_closed);
    uv_run(&server.loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(called, 0);

    is_queue_slow = false;
    while (!is_closed)
        uv_run(&server.loop, UV_RUN_ONCE);
    uv_run(&server.loop, UV_RUN_NOWAIT);
    free_server(&server);

    ck_assert_uint_eq(call.order, 1);
    ck_assert_uint_eq(snapshot.order, 2);
    ck_assert_int_eq(snapshot.status, CANCELED);
    free_put(&snapshot);
    free_call(&call);

    start();
    check_snapshot(server.snapshot, 12, 1, 10);
    ck_assert_uint_eq(last_loaded(), 13);
    stop();
}
END_TEST

START_TEST(entries_are_stored_while_a_snapshot_is)
{
    struct put_call snapshot, second;

    start_with(10);
    ck_assert_int_eq(put(&snapshot, 10, 1, 2000000, 2), 0);
    ck_assert_int_eq(put(&second, 10, 1, 1, 4), RAFT_BUSY);
    free_put(&second);
    for (uint64_t i = 11; i < 31; i++)
        store(i, 1, 1);
    while (snapshot.order == 0)
        uv_run(&server.loop, UV_RUN_ONCE);
    ck_assert_int_eq(snapshot.status, 0);
    free_put(&snapshot);

    restart();
    check_snapshot(server.snapshot, 10, 1, 2000000);
    ck_assert_uint_eq(server.start_index, 9);
    ck_assert_uint_eq(last_loaded(), 30);
    stop();
}
END_TEST

START_TEST(a_snapshot_that_is_not_stored_leaves_the_one_before)
{
    start_with(10);
    ck_assert_int_eq(put_and_wait(5, 1, 3000, 100), 0);
    for (int pieces = 0; pieces < 3; pieces++) { /* in the first, the second, and the head */
        struct put_call call;
        fail_batch = -ENOSPC;
        batches_to_pass = pieces;
        ck_assert_int_eq(put(&call, 10, 1, 3000, 100), 0);
        if (MAY_REFUSE) {
            wait_for_put(&call);
            ck_assert_int_eq(call.status, RAFT_NOSPACE);
        } else { /* it waits, until raft is closed */
            wait_for_failure(&call);
            stop();
            ck_assert_int_eq(call.status, CANCELED);
            start();
        }
        fail_batch = 0;
        free_put(&call);
    }
    ck_assert_int_eq(failures, 0);
    ck_assert_uint_eq(twinlog_last_lsn(storage_of(server.io)->snapshots), storage_of(server.io)->head.lsn);

    restart();
    check_snapshot(server.snapshot, 5, 1, 3000);
    ck_assert_uint_eq(last_loaded(), 10);
    ck_assert_int_eq(put_and_wait(10, 1, 3000, 100), 0);

    restart();
    check_snapshot(server.snapshot, 10, 1, 3000);
    stop();
}
END_TEST

/* Its pieces would keep their space, which the entries need. */
START_TEST(a_snapshot_that_does_not_fit_is_not_begun)
{
    struct twinlog_stat before = TWINLOG_STAT_INIT, after = TWINLOG_STAT_INIT;
    struct put_call call;

    start_with(10);
    ck_assert_int_eq(put_and_wait(5, 1, 3000, 100), 0);
    ck_assert_int_eq(twinlog_stat(storage_of(server.io)->snapshots, &before), 0);

    disk_bytes = 1 << 20;
    ck_assert_int_eq(put(&call, 10, 1, 30 << 20, 100), 0);
    if (MAY_REFUSE) {
        wait_for_put(&call);
        ck_assert_int_eq(call.status, RAFT_NOSPACE);
    } else {
        wait_for_failure(&call);
    }
    ck_assert_int_eq(twinlog_stat(storage_of(server.io)->snapshots, &after), 0);
    ck_assert_uint_eq(after.appends, before.appends);
    ck_assert_uint_eq(after.file_bytes, before.file_bytes);
    ck_assert_int_eq(failures, 0);

    disk_bytes = -1;
    if (MAY_REFUSE)
        ck_assert_int_eq(put_and_wait(10, 1, 30 << 20, 100), 0);
    else
        wait_for_put(&call);
    free_put(&call);

    restart();
    check_snapshot(server.snapshot, 10, 1, 30 << 20);
    stop();
}
END_TEST

/* The entries are trimmed then, which makes space. */
START_TEST(a_snapshot_that_fits_into_the_files_is_stored_on_a_full_disk)
{
    start_with(10);
    disk_bytes = 0;
    ck_assert_int_eq(put_and_wait(10, 1, 3000, 1), 0);

    disk_bytes = -1;
    restart();
    check_snapshot(server.snapshot, 10, 1, 3000);
    ck_assert_uint_eq(server.start_index, 10);
    stop();
}
END_TEST

static int add_bytes(void *context, const struct twinlog_segment *segment)
{
    uint64_t *bytes = context;

    if (segment->state == TWINLOG_SEGMENT_SPARE)
        *bytes += segment->file_bytes;
    if (segment->state == TWINLOG_SEGMENT_ACTIVE)
        *bytes += segment->file_bytes - segment->data_bytes;
    return 0;
}

/* An older snapshot stays as long as it is smaller than the newest one. */
START_TEST(an_older_snapshot_goes_if_there_is_no_room_otherwise)
{
    uint64_t room = 0;

    start_with(10);
    struct storage *s = storage_of(server.io);
    ck_assert_int_eq(put_and_wait(5, 1, 17 << 20, 100), 0);
    ck_assert_int_eq(put_and_wait(6, 1, 18 << 20, 100), 0);
    ck_assert_uint_eq(twinlog_first_lsn(s->snapshots), 1);

    disk_size = (int64_t)bytes_of_files(s->snapshot_dir);
    ck_assert_int_eq(twinlog_segments(s->snapshot_dir, add_bytes, &room), 0);
    const size_t bytes = room + (4 << 20);
    ck_assert_int_eq(put_and_wait(10, 1, bytes, 100), 0);
    disk_size = -1;
    disk_bytes = -1;

    restart();
    check_snapshot(server.snapshot, 10, 1, bytes);
    stop();
}
END_TEST

/* A server may be one of those that the reserve is for; if it is not, the append is refused. */
START_TEST(a_snapshot_may_use_what_is_reserved)
{
    start_with(10);
    disk_bytes = 0;
    reserve_bytes = 64 << 20;
    ck_assert_int_eq(put_and_wait(10, 1, 30 << 20, 1), 0);
    measure_capacity(storage_of(server.io));
    ck_assert_uint_eq(storage_of(server.io)->capacity, 0); /* raft is told what everybody has */
    stop();
}
END_TEST

START_TEST(a_file_system_that_says_nothing_lacks_nothing)
{
    start_with(10);
    says_nothing = true;
    ck_assert_int_eq(put_and_wait(10, 1, 30 << 20, 1), 0);
    measure_capacity(storage_of(server.io));
    ck_assert_uint_eq(storage_of(server.io)->capacity, UINT16_MAX);
    stop();
}
END_TEST

START_TEST(an_installed_snapshot_replaces_the_log)
{
    struct put_call snapshot;
    struct call calls[3];

    start_with(10);
    called = 0;
    is_queue_slow = true;
    ck_assert_int_eq(append(&calls[0], 11, 1, 1), 0);
    ck_assert_int_eq(append(&calls[1], 12, 1, 1), 0);
    ck_assert_int_eq(put(&snapshot, 500, 3, 100000, 0), 0);
    ck_assert_int_eq(append(&calls[2], 501, 1, 3), refusal(RAFT_BUSY));
    while (snapshot.order == 0)
        uv_run(&server.loop, UV_RUN_ONCE);

    is_queue_slow = false;
    if (!MAY_REFUSE)
        wait_for(&calls[2]);
    free_call(&calls[2]);
    ck_assert_int_eq(snapshot.status, 0);
    ck_assert_uint_eq(calls[0].order, 1); /* libraft would count them after the snapshot */
    ck_assert_uint_eq(calls[1].order, 2);
    ck_assert_uint_eq(snapshot.order, 3);
    free_call(&calls[0]);
    free_call(&calls[1]);
    free_put(&snapshot);
    if (MAY_REFUSE)
        store(501, 1, 3);
    store(502, 1, 3);

    restart();
    check_snapshot(server.snapshot, 500, 3, 100000);
    ck_assert_uint_eq(server.start_index, 501);
    ck_assert_uint_eq(last_loaded(), 502);
    check_loaded(502, 3);
    stop();
}
END_TEST

static void die_between_snapshot_and_reset(uint64_t index, raft_term term)
{
    IN_CHILD({
        start();
        ck_assert_int_eq(server.io->set_term(server.io, term), 0);
        die_in_reset = true;
        put_and_wait(index, term, 1000, 0);
        abort();
    });
    ck_assert_int_eq(child_status, 0);
    start();
    check_snapshot(server.snapshot, index, term, 1000);
    ck_assert_uint_eq(server.start_index, index + 1);
    ck_assert_uint_eq(server.n, 0);
    store(index + 1, 2, term);
    restart();
    ck_assert_uint_eq(last_loaded(), index + 2);
    stop();
}

START_TEST(a_log_that_ends_before_the_snapshot_is_reset)
{
    start_with(10);
    stop();
    die_between_snapshot_and_reset(50, 2);
}
END_TEST

START_TEST(a_log_with_another_entry_at_the_snapshot_is_reset)
{
    start_with(10);
    stop();
    die_between_snapshot_and_reset(7, 2);
}
END_TEST

/* A snapshot of entries that have waited, behind a truncation that has waited, too: the log has acknowledged entries of
 * the old term instead. */
START_TEST(a_start_that_resets_the_log_promises_nothing_of_it)
{
    /* The put starts threads, and a child of a process that has some may start none with the thread sanitizer. */
    IN_CHILD({
        start_with(10);
        ck_assert_int_eq(put_and_wait(7, 2, 1000, 1000), 0);
        stop();
    });
    ck_assert_int_eq(child_status, 0);

    IN_CHILD({
        die_behind_reset = true;
        start();
        abort();
    });
    ck_assert_int_eq(child_status, 0);

    start();
    check_snapshot(server.snapshot, 7, 2, 1000);
    ck_assert_uint_eq(server.start_index, 8);
    ck_assert_uint_eq(server.n, 0);
    store(8, 1, 2);
    stop();
}
END_TEST

START_TEST(an_empty_log_that_ends_before_the_snapshot_is_reset)
{
    start();
    stop();
    die_between_snapshot_and_reset(7, 2);
}
END_TEST

START_TEST(a_leaders_snapshot_that_is_not_stored_stops_the_server)
{
    struct put_call snapshot;
    struct call call;

    start_with(10);
    fail_reset = TWINLOG_EPOISONED;
    ck_assert_int_eq(put(&snapshot, 50, 2, 10, 0), 0);
    while (failures == 0)
        uv_run(&server.loop, UV_RUN_ONCE);

    fail_reset = 0;
    ck_assert_int_eq(failures, 1);
    ck_assert_int_eq(append(&call, 51, 1, 2), refusal(RAFT_IOERR));
    stop();
    free_call(&call);
    if (MAY_REFUSE)
        ck_assert_int_eq(snapshot.status, RAFT_IOERR);
    else
        ck_assert_int_eq(snapshot.status, CANCELED);
    free_put(&snapshot);

    start();
    check_snapshot(server.snapshot, 50, 2, 10);
    ck_assert_uint_eq(server.start_index, 51);
    stop();
}
END_TEST

/* libraft never asks for it. */
START_TEST(a_snapshot_that_is_not_there_is_not_fetched)
{
    struct get_call get = { .calls = 0 };

    start_with(1);
    ck_assert_int_eq(server.io->snapshot_get(server.io, &get.req, get_done), 0);
    while (MAY_REFUSE && get.calls == 0)
        uv_run(&server.loop, UV_RUN_ONCE);
    stop(); /* until then 0.22 is told nothing */
    ck_assert_uint_eq(get.calls, 1);
    ck_assert_int_ne(get.status, 0);
    ck_assert_ptr_null(get.snapshot);
}
END_TEST

START_TEST(a_snapshot_is_fetched_while_newer_ones_take_its_place)
{
    struct get_call get = { .calls = 0 };

    start_with(100);
    ck_assert_int_eq(put_and_wait(2, 1, 2000000, 1000), 0);
    for (uint64_t index = 3; index < 13; index++) {
        struct put_call snapshot;
        memset(&get, 0, sizeof(get));
        ck_assert_int_eq(server.io->snapshot_get(server.io, &get.req, get_done), 0);
        ck_assert_int_eq(put(&snapshot, index, 1, 2000000, 1000), 0);
        while (get.calls == 0 || snapshot.order == 0)
            uv_run(&server.loop, UV_RUN_ONCE);
        ck_assert_int_eq(get.status, 0);
        ck_assert_int_eq(snapshot.status, 0);
        ck_assert_uint_ge(get.snapshot->index, index - 1);
        check_snapshot(get.snapshot, get.snapshot->index, 1, 2000000);
        free_snapshot(get.snapshot);
        free_put(&snapshot);
    }
    ck_assert_uint_gt(twinlog_first_lsn(storage_of(server.io)->snapshots), 10); /* old ones are trimmed */
    stop();
}
END_TEST

/* ---- messages ------------------------------------------------------------------------------------ */

/* An entry that makes `servers` the members, stored. */
static void append_configuration(struct call *call, uint64_t index, unsigned servers)
{
    struct raft_configuration conf;

    make_configuration(&conf);
    for (unsigned id = 3; id <= servers; id++) {
        char address[32];
        snprintf(address, sizeof(address), "127.0.0.1:900%u", id);
        ck_assert_int_eq(raft_configuration_add(&conf, id, address, RAFT_STANDBY), 0);
    }

    make_call(call, index, 1);
    call->entries[0] = (struct raft_entry){ .term = 1, .type = RAFT_CHANGE };
    ck_assert_int_eq(raft_configuration_encode(&conf, &call->entries[0].buf), 0);
    raft_configuration_close(&conf);
    ck_assert_int_eq(server.io->append(server.io, &call->req, call->entries, 1, appended), 0);
    wait_for(call);
}

/* ---- what may not be refused --------------------------------------------------------------------- */

/* The log has a file in reserve, of a size that it does not tell. */
START_TEST(the_capacity_is_what_the_disk_has)
{
    static const struct {
        int64_t bytes;
        unsigned kibibytes;
    } cases[] = { { 0, 0 }, { 1023, 0 }, { 5 << 20, 5120 }, { INT64_C(1) << 26, UINT16_MAX } };
    struct twinlog_stat stat = TWINLOG_STAT_INIT;

    start_with(1);
    for (uint64_t index = 2; stat.spare_segments == 0; index++) { /* it is made when a file is half full */
        struct call call;
        ck_assert_int_eq(append_sized(&call, index, 1, 1, 100000), 0);
        wait_for(&call);
        free_call(&call);
        ck_assert_int_eq(twinlog_stat(storage_of(server.io)->log, &stat), 0);
    }

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        disk_bytes = cases[i].bytes;
        measure_capacity(storage_of(server.io));
        ck_assert_uint_eq(storage_of(server.io)->capacity, cases[i].kibibytes);
    }

    disk_bytes = -1;
    stop();
}
END_TEST

/* libraft 0.22 has the entries in its log when it calls. */
START_TEST(what_a_full_disk_refuses_is_stored_later)
{
    struct call calls[3];

    start_with(1);
    called = 0;

    fail_submit = -ENOSPC; /* the last of several batches */
    ck_assert_int_eq(append(&calls[0], 2, 200, 1), 0);

    fail_submit = 0;
    ck_assert_int_eq(append(&calls[1], 202, 1, 1), 0); /* behind it, though there is space again */

    fail_batch = -EDQUOT; /* the second of several */
    batches_to_pass = 1;
    store_waiting(storage_of(server.io));
    ck_assert_uint_eq(storage_of(server.io)->appends, 0);

    fail_batch = 0;
    ck_assert_int_eq(append(&calls[2], 203, 2, 2), 0);
    wait_for(&calls[2]);

    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(calls[i].order, i + 1);
        ck_assert_int_eq(calls[i].status, 0);
        free_call(&calls[i]);
    }
    ck_assert_int_eq(failures, 0);

    restart();
    ck_assert_uint_eq(last_loaded(), 204);
    check_loaded(2, 1);
    check_loaded(202, 1);
    check_loaded(204, 2);
    stop();
}
END_TEST

START_TEST(what_waits_is_canceled_when_raft_is_closed)
{
    struct twinlog_raft_stat stat = TWINLOG_RAFT_STAT_INIT;
    struct call calls[2];

    start_with(5);
    called = 0;

    fail_submit = -ENOSPC;
    ck_assert_int_eq(append_sized(&calls[0], 6, 3, 1, 104), 0);
    ck_assert_int_eq(append_sized(&calls[1], 9, 1, 1, 104), 0);
    ck_assert_int_eq(twinlog_raft_stat(server.io, &stat), 0);
    ck_assert_uint_eq(stat.queued_entries, 4);
    ck_assert_uint_eq(stat.queued_bytes, 416);

    stop();

    fail_submit = 0;
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(calls[i].order, i + 1);
        ck_assert_int_eq(calls[i].status, CANCELED);
        free_call(&calls[i]);
    }
    start();
    ck_assert_uint_eq(last_loaded(), 5);
    stop();
}
END_TEST

START_TEST(what_an_installation_replaces_is_canceled_before_what_follows)
{
    struct put_call snapshot;
    struct call calls[2];

    start_with(10);
    called = 0;

    fail_submit = -ENOSPC;
    fail_reset = -ENOSPC;
    ck_assert_int_eq(append(&calls[0], 11, 1, 1), 0);
    ck_assert_int_eq(put(&snapshot, 50, 2, 4000, 0), 0);
    wait_for_failure(&snapshot);
    ck_assert_int_eq(append(&calls[1], 51, 1, 2), 0);

    stop();

    fail_submit = 0;
    fail_reset = 0;
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_uint_eq(calls[i].order, i + 1);
        ck_assert_int_eq(calls[i].status, CANCELED);
        free_call(&calls[i]);
    }
    ck_assert_uint_eq(snapshot.order, 3);
    free_put(&snapshot);
}
END_TEST

START_TEST(what_was_truncated_while_it_waited_is_called_back_at_once)
{
    struct call calls[3];

    start_with(1);
    called = 0;

    fail_submit = -ENOSPC;
    ck_assert_int_eq(append(&calls[0], 2, 4, 1), 0);
    ck_assert_int_eq(append(&calls[1], 6, 2, 1), 0);
    ck_assert_int_eq(server.io->truncate(server.io, 4), 0); /* entries 2 and 3 stay */
    ck_assert_int_eq(append(&calls[2], 4, 1, 2), 0);
    ck_assert_uint_eq(called, 0); /* raft is in a call */
    uv_run(&server.loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(calls[1].order, 1);
    ck_assert_uint_eq(called, 1);

    fail_submit = 0;
    wait_for(&calls[2]);

    ck_assert_uint_eq(calls[0].order, 2); /* what is left of it is stored */
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(calls[i].status, 0);
        free_call(&calls[i]);
    }

    restart();
    ck_assert_uint_eq(last_loaded(), 4);
    check_loaded(3, 1);
    check_loaded(4, 2);
    stop();
}
END_TEST

/* libraft would be given freed memory. */
START_TEST(what_is_left_of_an_append_keeps_away_what_was_truncated_of_it)
{
    static const struct {
        const char *what;
        uint64_t index;
        unsigned n;
        raft_term term;
        unsigned seen; /* by raft */
    } cases[] = {
        { "what is left of it", 2, 2, 1, 2 },
        { "the first that is not", 2, 3, 1, 2 },
        { "the last one", 5, 1, 1, 0 },
        { "what is behind them", 6, 3, 1, 3 },
        { "entries of another term", 4, 2, 3, 2 },
        { "no entry", 4, 0, 1, 0 },
        { "entries from the first one", 4, 50, 1, 0 },
    };
    struct call calls[2];

    start_with(1);
    storage_of(server.io)->recv_cb = entries_received;

    fail_submit = -ENOSPC;
    ck_assert_int_eq(append(&calls[0], 2, 4, 1), 0);
    ck_assert_int_eq(server.io->truncate(server.io, 4), 0);
    ck_assert_int_eq(append(&calls[1], 4, 1, 2), 0);
    uv_run(&server.loop, UV_RUN_NOWAIT);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        received = 0;
        receive_entries(cases[i].index, cases[i].n, cases[i].term);
        ck_assert_msg(received == 1, "%s: raft hears nothing of its leader", cases[i].what);
        ck_assert_msg(received_entries == cases[i].seen, "%s: %u", cases[i].what, received_entries);
        ck_assert_msg(received_commit == cases[i].index + cases[i].seen - 1, "%s: %" PRIu64 " confirmed",
                      cases[i].what, received_commit);
    }

    fail_submit = 0;
    wait_for(&calls[0]);
    receive_entries(4, 2, 1);
    ck_assert_uint_eq(received_entries, 2);
    wait_for(&calls[1]);
    free_call(&calls[0]);
    free_call(&calls[1]);
    stop();
}
END_TEST

START_TEST(a_truncation_that_fails_is_done_before_the_next_append)
{
    struct call call;

    start_with(9);
    fail_promise = -ENOSPC; /* it cannot be made smaller */
    ck_assert_int_eq(server.io->truncate(server.io, 6), 0);
    ck_assert_int_eq(append(&call, 6, 1, 1), 0);
    ck_assert_uint_eq(storage_of(server.io)->appends, 0);

    fail_promise = 0;
    wait_for(&call);
    free_call(&call);

    restart();
    ck_assert_uint_eq(last_loaded(), 6);
    stop();
}
END_TEST

/* Nobody would be told of an append that waits for ever. */
START_TEST(what_space_does_not_mend_stops_the_server)
{
    static const struct {
        const char *what;
        _Atomic int *call;
        int error;
        bool is_lack;
    } cases[] = {
        { "an append, and no space", &fail_submit, -ENOSPC, true },
        { "an append, and a quota", &fail_submit, -EDQUOT, true },
        { "an append, and no descriptor", &fail_submit, -EMFILE, true },
        { "an append, and no directory", &fail_submit, -ENOENT, false },
        { "an append, and a disk that fails", &fail_submit, -EIO, false },
        { "a truncation, and no space", &fail_truncate, -ENOSPC, true },
        { "a truncation, and no memory", &fail_truncate, -ENOMEM, true },
        { "a truncation of what was trimmed", &fail_truncate, TWINLOG_ETRIMMED, false },
        { "a truncation, and damage", &fail_truncate, TWINLOG_ECORRUPT, false },
        { "the promise, and no space", &fail_promise, -ENOSPC, true },
        { "the promise, and a disk that fails", &fail_promise, -EIO, false },
    };

    start_with(10);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct call call;
        const uint64_t index = storage_of(server.io)->next_index - 1;
        *cases[i].call = cases[i].error;
        ck_assert_int_eq(server.io->truncate(server.io, index), 0);
        ck_assert_int_eq(append(&call, index, 1, 1), 0);
        *cases[i].call = 0;

        ck_assert_msg((failures == 0) == cases[i].is_lack, "%s", cases[i].what);
        if (cases[i].is_lack)
            wait_for(&call);
        restart();
        ck_assert_msg(call.order > 0, "%s", cases[i].what);
        free_call(&call);
    }
    stop();
}
END_TEST

/* libraft 0.22 applies what the other servers have confirmed, and takes a snapshot of it. */
START_TEST(a_snapshot_of_what_waits_leaves_what_a_truncation_needs)
{
    struct put_call snapshot;
    struct call call;

    start_with(200);
    fail_truncate = -ENOSPC;
    ck_assert_int_eq(server.io->truncate(server.io, 100), 0);
    ck_assert_int_eq(append(&call, 100, 300, 2), 0);
    ck_assert_int_eq(put(&snapshot, 350, 2, 1000, 10), 0);
    while (storage_of(server.io)->head.index == 0)
        uv_run(&server.loop, UV_RUN_ONCE);
    uv_run(&server.loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(snapshot.order, 0); /* it covers entries that are not stored */

    fail_truncate = 0;
    while (call.order == 0 && failures == 0)
        uv_run(&server.loop, UV_RUN_ONCE);

    ck_assert_uint_gt(call.order, 0);
    ck_assert_int_eq(failures, 0);
    free_call(&call);
    stop();
    free_put(&snapshot);

    start();
    ck_assert_uint_eq(last_loaded(), 399);
    check_loaded(399, 2);
    stop();
}
END_TEST

/* A full disk ends by the trims of snapshots. They are not worth it otherwise, as so few entries go. */
START_TEST(snapshots_make_room_for_what_waits)
{
    struct put_call snapshots[2];
    struct call calls[2];

    start_with(30);
    fail_submit = -ENOSPC;
    ck_assert_int_eq(append(&calls[0], 31, 4, 1), 0);
    ck_assert_int_eq(put(&snapshots[0], 32, 1, 1000, 10), 0);
    wait_for_put(&snapshots[0]); /* it covers entries that wait, which raft does not drop */
    ck_assert_uint_eq(twinlog_first_lsn(storage_of(server.io)->log), 23);
    ck_assert_uint_eq(calls[0].order, 0);

    ck_assert_int_eq(append(&calls[1], 35, 4, 1), 0);
    ck_assert_int_eq(put(&snapshots[1], 38, 1, 1000, 10), 0);
    wait_for_put(&snapshots[1]);
    ck_assert_uint_eq(twinlog_first_lsn(storage_of(server.io)->log), 29);

    fail_submit = 0;
    wait_for(&calls[0]);
    wait_for(&calls[1]);
    for (unsigned i = 0; i < 2; i++) {
        free_put(&snapshots[i]);
        free_call(&calls[i]);
    }
    stop();
}
END_TEST

/* Of 1000 truncations that take nothing, in nanoseconds of processor. */
static uint64_t time_of_truncations(uint64_t next_index)
{
    struct timespec before, after;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_int_eq(server.io->truncate(server.io, next_index), 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);

    const int64_t seconds = after.tv_sec - before.tv_sec;
    const int64_t ns = after.tv_nsec - before.tv_nsec;
    return (uint64_t)(seconds * 1000000000 + ns);
}

/* libraft 0.22 does one before each append. */
START_TEST(a_truncation_that_takes_nothing_does_not_look_at_all_that_waits)
{
    enum {
        CALLS = 20000
    };
    static struct call calls[CALLS];

    start_with(1);
    fail_submit = -ENOSPC;
    ck_assert_int_eq(append_sized(&calls[0], 2, 1, 1, 8), 0);
    const uint64_t behind_one = time_of_truncations(3);
    for (unsigned i = 1; i < CALLS; i++)
        ck_assert_int_eq(append_sized(&calls[i], 2 + i, 1, 1, 8), 0);
    const uint64_t behind_all = time_of_truncations(2 + CALLS);

    ck_assert_uint_lt(behind_all, 50 * behind_one + 1000000); /* not CALLS times */
    stop();
    for (unsigned i = 0; i < CALLS; i++)
        free_call(&calls[i]);
}
END_TEST

START_TEST(the_capacity_is_what_the_disk_has_and_nothing_while_appends_wait)
{
    struct call call;

    start_with(1);
    const uint64_t before = uv_now(&server.loop);
    ck_assert_uint_ge(time_of(server.io), before);
    ck_assert_uint_gt(storage_of(server.io)->capacity, 0);

    fail_submit = -ENOSPC;
    ck_assert_int_eq(append(&call, 2, 1, 1), 0);
    ck_assert_uint_eq(storage_of(server.io)->capacity, 0);

    fail_submit = 0;
    wait_for(&call);
    ck_assert_uint_gt(storage_of(server.io)->capacity, 0);
    free_call(&call);
    stop();
}
END_TEST

START_TEST(an_own_snapshot_that_a_full_disk_refuses_is_stored_later)
{
    struct put_call snapshot;

    start_with(10);
    fail_batch = -ENOSPC;
    batches_to_pass = 1;
    ck_assert_int_eq(put(&snapshot, 10, 1, 3000, 4), 0);
    wait_for_failure(&snapshot);

    fail_batch = 0;
    wait_for_put(&snapshot);
    ck_assert_int_eq(snapshot.status, 0);
    ck_assert_int_eq(failures, 0);
    free_put(&snapshot);
    stop();
}
END_TEST

START_TEST(a_leaders_snapshot_that_a_full_disk_refuses_is_stored_later)
{
    struct put_call snapshot;
    struct call replaced, behind;

    start_with(10);
    ck_assert_int_eq(put_and_wait(10, 1, 3000, 4), 0);
    called = 0;

    fail_submit = -ENOSPC;
    ck_assert_int_eq(append(&replaced, 11, 1, 1), 0); /* it waits */

    fail_reset = -ENOSPC;
    ck_assert_int_eq(put(&snapshot, 50, 2, 4000, 0), 0);
    wait_for_failure(&snapshot);
    const uint64_t stored_lsn = twinlog_last_lsn(storage_of(server.io)->snapshots);
    ck_assert_int_eq(server.io->truncate(server.io, 51), 0);
    ck_assert_int_eq(append(&behind, 51, 1, 2), 0); /* it waits for the snapshot */

    fail_reset = 0;
    fail_submit = 0;
    wait_for(&behind);
    ck_assert_uint_eq(replaced.order, 1);
    ck_assert_uint_eq(snapshot.order, 2);
    ck_assert_int_eq(snapshot.status, 0);
    ck_assert_uint_eq(behind.order, 3);
    /* Only the reset was missing. */
    ck_assert_uint_eq(twinlog_last_lsn(storage_of(server.io)->snapshots), stored_lsn);
    ck_assert_int_eq(failures, 0);
    free_put(&snapshot);
    free_call(&replaced);
    free_call(&behind);

    restart();
    check_snapshot(server.snapshot, 50, 2, 4000);
    ck_assert_uint_eq(server.start_index, 51);
    ck_assert_uint_eq(last_loaded(), 51);
    stop();
}
END_TEST

/* libraft 0.22.1: takeSnapshotCb() would use a pointer that it has just cleared. */
START_TEST(a_leaders_snapshot_does_not_come_while_an_own_one_is_written)
{
    start_with(10);
    storage_of(server.io)->recv_cb = message_received;
#ifdef RAFT_VERSION_NUMBER
    struct raft_message message = { .type = RAFT_INSTALL_SNAPSHOT };
    struct put_call own;
    ck_assert_int_eq(put(&own, 10, 1, 1000, 4), 0);
    make_configuration(&message.install_snapshot.conf);
    message.install_snapshot.data.base = raft_malloc(100);
    receive_message(server.io, &message);
    ck_assert_uint_eq(received, 0);
    wait_for_put(&own);
    free_put(&own);
    make_configuration(&message.install_snapshot.conf);
    message.install_snapshot.data.base = raft_malloc(100);
    receive_message(server.io, &message);
    ck_assert_uint_eq(received, 1);
    raft_configuration_close(&message.install_snapshot.conf);
    raft_free(message.install_snapshot.data.base);
#endif
    stop();
}
END_TEST

/* libraft 0.22.1 takes a snapshot that is due between the changes that it applies. */
START_TEST(an_own_snapshot_has_the_newest_configuration_that_it_covers)
{
    static const struct {
        const char *what;
        uint64_t snapshot_index, configuration_index;
    } cases[] = {
        { "before the changes", 5, 1 },
        { "with the first", 7, 6 },
        { "with both", 10, 8 },
    };
    struct call calls[2];

    start_with(5);
    append_configuration(&calls[0], 6, 3);
    store(7, 1, 1);
    append_configuration(&calls[1], 8, 4);
    store(9, 3, 1);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(put_and_wait(cases[i].snapshot_index, 1, 10, 1000), 0);
        restart();
        ck_assert_msg(server.snapshot->configuration_index == cases[i].configuration_index, "%s",
                      cases[i].what);
        ck_assert_msg(server.snapshot->configuration.n == 2 + i, "%s", cases[i].what);
    }
    free_call(&calls[0]);
    free_call(&calls[1]);
    stop();
}
END_TEST

START_TEST(a_configuration_that_was_truncated_is_in_no_snapshot)
{
    struct call call;

    start_with(5);
    append_configuration(&call, 6, 3);
    ck_assert_int_eq(server.io->truncate(server.io, 6), 0);
    store(6, 2, 2);
    ck_assert_int_eq(put_and_wait(7, 2, 10, 1000), 0);

    restart();
    ck_assert_uint_eq(server.snapshot->configuration_index, 1);
    ck_assert_uint_eq(server.snapshot->configuration.n, 2);
    free_call(&call);
    stop();
}
END_TEST

START_TEST(a_snapshot_is_sent_with_its_own_term)
{
    struct raft_message message = { .type = 0 };
    struct get_call get = { .calls = 0 };

    start_with(5);
    ck_assert_int_eq(put_and_wait(4, 1, 10, 1000), 0);
    ck_assert_int_eq(server.io->snapshot_get(server.io, &get.req, get_done), 0);
    while (get.calls == 0)
        uv_run(&server.loop, UV_RUN_ONCE);
#ifdef RAFT_VERSION_NUMBER
    message.type = RAFT_INSTALL_SNAPSHOT;
    message.install_snapshot.last_index = 4;
    message.install_snapshot.last_term = 7; /* of another snapshot */
    ck_assert_uint_eq(with_term(storage_of(server.io), &message).install_snapshot.last_term, 1);
#endif
    (void)message;
    free_snapshot(get.snapshot);
    stop();
}
END_TEST

static void add_waiting(TCase *tcase)
{
    tcase_add_test(tcase, what_a_full_disk_refuses_is_stored_later);
    tcase_add_test(tcase, what_waits_is_canceled_when_raft_is_closed);
    tcase_add_test(tcase, what_an_installation_replaces_is_canceled_before_what_follows);
    tcase_add_test(tcase, what_was_truncated_while_it_waited_is_called_back_at_once);
    tcase_add_test(tcase, what_is_left_of_an_append_keeps_away_what_was_truncated_of_it);
    tcase_add_test(tcase, a_truncation_that_fails_is_done_before_the_next_append);
    tcase_add_test(tcase, what_space_does_not_mend_stops_the_server);
    tcase_add_test(tcase, a_snapshot_of_what_waits_leaves_what_a_truncation_needs);
    tcase_add_test(tcase, snapshots_make_room_for_what_waits);
    tcase_add_test(tcase, a_truncation_that_takes_nothing_does_not_look_at_all_that_waits);
    tcase_add_test(tcase, the_capacity_is_what_the_disk_has_and_nothing_while_appends_wait);
    tcase_add_test(tcase, an_own_snapshot_that_a_full_disk_refuses_is_stored_later);
    tcase_add_test(tcase, a_leaders_snapshot_that_a_full_disk_refuses_is_stored_later);
    tcase_add_test(tcase, an_own_snapshot_has_the_newest_configuration_that_it_covers);
    tcase_add_test(tcase, a_snapshot_is_sent_with_its_own_term);
    tcase_add_test(tcase, a_configuration_that_was_truncated_is_in_no_snapshot);
    tcase_add_test(tcase, a_leaders_snapshot_does_not_come_while_an_own_one_is_written);
}

/* A packager's sandbox has none: there an address can be bound and not be reached. */
static bool has_loopback(void)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons(9),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    int rc = connect(fd, (const struct sockaddr *)&address, sizeof(address));

    if (rc != 0)
        ck_assert_int_eq(errno, ENETUNREACH);
    close(fd);
    return rc == 0;
}

static int listen_on(struct sockaddr_in *address)
{
    socklen_t size = sizeof(*address);

    *address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)address, size), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)address, &size), 0);
    return fd;
}

static void message_sent(struct raft_io_send *req, int status)
{
    if (status == 0)
        sent++;
    free(req);
}

static void send_to(const char *address)
{
    struct raft_message message = { .type = RAFT_IO_REQUEST_VOTE_RESULT,
                                    .server_id = 2,
                                    .server_address = address };
    struct raft_io_send *req = calloc(1, sizeof(*req));

    ck_assert_int_eq(server.io->send(server.io, req, &message, message_sent), 0);
}

/* Bytes that the kernel has and has not sent (SIOCOUTQNSD), or that the other side has not confirmed. */
static int bytes_left(unsigned long which)
{
    int fd, bytes;

    ck_assert_int_eq(uv_fileno((uv_handle_t *)storage_of(server.io)->connections->tcp, &fd), 0);
    ck_assert_int_eq(ioctl(fd, which, &bytes), 0);
    return bytes;
}

/* The other side reads and does not answer. After some packets it confirms late, and the second message of a turn is
 * held back. */
START_TEST(no_message_is_held_back_while_the_loop_waits)
{
    struct sockaddr_in address;
    char text[64], bytes[256];

    if (!has_loopback()) {
        fprintf(stderr, "SKIP raft-unit, messages that are held back: there is no loopback\n");
        return;
    }

    int listener = listen_on(&address);
    signal(SIGPIPE, SIG_IGN);
    snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(address.sin_port));
    start_with(1);
    send_to(text);
    while (sent < 1)
        uv_run(&server.loop, UV_RUN_ONCE);
    int peer = accept(listener, NULL, NULL);
    ck_assert_int_ge(peer, 0);

    for (unsigned i = 0; i < 40; i++) {
        while (bytes_left(SIOCOUTQ) > 0)
            uv_run(&server.loop, UV_RUN_NOWAIT);

        send_to(text);
        send_to(text);
        uv_run(&server.loop, UV_RUN_NOWAIT);
        ck_assert_int_eq(bytes_left(SIOCOUTQNSD), 0);

        while (recv(peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
    }
    close(peer);
    close(listener);
    while (storage_of(server.io)->connections != NULL) { /* raft_uv finds that it has gone */
        send_to(text);
        uv_run(&server.loop, UV_RUN_ONCE);
    }
    stop();
}
END_TEST

/* As libraft does where an append ends after an election without a winner: raft_uv would read the address. */
START_TEST(an_answer_for_a_forgotten_leader_goes_nowhere)
{
    struct raft_message message = { .type = RAFT_IO_APPEND_ENTRIES_RESULT };
    struct raft_io_send req;

    start_with(1);
    check_unsent(&req, &message);
    stop();
}
END_TEST

/* ---- opening and closing ------------------------------------------------------------------------- */

START_TEST(close_completes_what_is_under_way)
{
    enum {
        CALLS = 1000
    };
    static struct call calls[CALLS];
    struct get_call get = { .calls = 0 };
    struct put_call snapshot;

    start_with(10);
    ck_assert_int_eq(put_and_wait(5, 1, 10000, 100), 0);
    called = 0;
    ck_assert_int_eq(put(&snapshot, 8, 1, 1000000, 100), 0);
    ck_assert_int_eq(server.io->snapshot_get(server.io, &get.req, get_done), 0);
    for (unsigned i = 0; i < CALLS; i++)
        ck_assert_int_eq(append(&calls[i], 11 + i, 1, 1), 0);
    stop();
    ck_assert_uint_eq(called, CALLS + 1);
    ck_assert_uint_eq(get.calls, 1);
    ck_assert_int_eq(get.status, 0);
    free_snapshot(get.snapshot);
    ck_assert_int_eq(snapshot.status,
                     CANCELED); /* libraft 0.22 keeps one that comes with a success for ever */
    free_put(&snapshot);
    for (unsigned i = 0; i < CALLS; i++) {
        ck_assert_int_eq(calls[i].status, 0);
        free_call(&calls[i]);
    }
    start();
    ck_assert_uint_eq(last_loaded(), 10 + CALLS);
    stop();
}
END_TEST

START_TEST(a_directory_that_is_open_elsewhere_is_busy)
{
    int ready[2];
    char byte;

    ck_assert_int_eq(pipe(ready), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        start();
        ck_assert_int_eq(write(ready[1], "", 1), 1);
        for (;;)
            pause();
    }

    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(try_open(false), RAFT_BUSY);
    ck_assert_str_ne(server.io->errmsg, "");
    free_server(&server);

    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    start();
    stop();
}
END_TEST

static void run_command(const char *command)
{
    ck_assert_int_eq(chdir(dir), 0);
    ck_assert_msg(system(command) == 0, "%s", command);
}

/* An opening is refused, and no byte of the directory is another one. */
static void check_refused_with(const char *what, int wanted)
{
    run_command("rm -rf ../before && cp -a . ../before");

    const int rv = try_open(false);
    ck_assert_msg(rv == wanted, "%s: %d", what, rv);
    ck_assert_str_ne(server.io->errmsg, "");
    free_server(&server);

    run_command("diff -r . ../before");
}

static void check_refused(int wanted)
{
    check_refused_with("the files", wanted);
}

/* The files of a server with entries 7 to 10 and a snapshot of entry 8, and beside them the snapshots before that. */
static void store_a_snapshot_beyond_a_copy(void)
{
    start_with(10);
    stop();
    run_command("cp -a snapshots ../older");
    start();
    ck_assert_int_eq(put_and_wait(8, 1, 10, 1), 0);
    stop();
}

START_TEST(missing_or_older_snapshots_are_refused)
{
    store_a_snapshot_beyond_a_copy();
    run_command("mv snapshots elsewhere");
    check_refused(RAFT_CORRUPT);

    run_command("cp -a ../older snapshots");
    check_refused(RAFT_CORRUPT); /* entries 1 to 7 are nowhere */

    run_command("rm -r snapshots && mv elsewhere snapshots");
    start();
    ck_assert_uint_eq(last_loaded(), 10);
    stop();
}
END_TEST

START_TEST(a_record_that_is_no_entry_is_refused)
{
    struct twinlog *log;

    start_with(10);
    stop();
    ck_assert_int_eq(chdir(dir), 0);
    ck_assert_int_eq(twinlog_open("log", NULL, &log), 0);
    ck_assert_int_eq(twinlog_append(log, "short", 5, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);
    check_refused(RAFT_CORRUPT);
}
END_TEST

START_TEST(the_files_of_raft_uv_are_refused)
{
    start_with(10);
    stop();
    run_command("touch metadata1");
    check_refused(RAFT_INVALID);
}
END_TEST

/* ---- files that are not what the server has acknowledged ------------------------------------------- */

/* The files of a server that has acknowledged entries 1 to 12, and beside them those that it had at entry 10. */
static void store_beyond_a_copy(void)
{
    start_with(10);
    stop();
    run_command("cp -a ../server ../older");
    start();
    store(11, 2, 2);
    stop();
}

START_TEST(a_directory_that_nobody_made_is_refused)
{
    start_with(10);
    stop();
    run_command("rm -r log snapshots server");
    check_refused(RAFT_NOTFOUND);
}
END_TEST

START_TEST(a_directory_is_made_once_and_for_a_server_with_a_number)
{
    run_command("rm server");
    ck_assert_int_eq(twinlog_raft_create(dir, 0, 1, false), RAFT_INVALID);
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, false), 0);
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, true), RAFT_CANTBOOTSTRAP);
}
END_TEST

/* The cluster has begun elsewhere. */
START_TEST(a_server_that_joins_cannot_be_bootstrapped)
{
    run_command("rm server");
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, false), 0);
    ck_assert_int_eq(try_open(false), 0);
    ck_assert_int_eq(try_bootstrap(), RAFT_CANTBOOTSTRAP);
    ck_assert_int_eq(load_server(&server), 0);
    stop();
}
END_TEST

/* Its term and vote are lost: a new file would let it vote twice. */
START_TEST(a_directory_with_a_log_and_without_its_server_file_is_refused_and_not_made_again)
{
    start_with(10);
    stop();
    run_command("rm server");
    check_refused(RAFT_NOTFOUND);
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, true), RAFT_CANTBOOTSTRAP);
}
END_TEST

/* A directory that an opening had made would hide that the disk with the server is not mounted. */
START_TEST(a_directory_that_is_not_there_is_refused_and_not_made)
{
    run_command("mv ../server ../away");
    ck_assert_int_eq(try_open(false), RAFT_NOTFOUND);
    ck_assert_str_ne(server.io->errmsg, "");
    free_server(&server);
    ck_assert_int_lt(access(dir, F_OK), 0);
}
END_TEST

START_TEST(two_creations_at_once_do_not_mix)
{
    run_command("rm server");
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, true), RAFT_BUSY);
    close(fd);
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, true), 0);
}
END_TEST

START_TEST(the_directory_of_another_server_is_refused)
{
    run_command("rm server");
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 2, true), 0);
    check_refused(RAFT_BADID);
}
END_TEST

START_TEST(the_directory_of_another_cluster_is_refused)
{
    run_command("rm server");
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER + 1, 1, true), 0);
    check_refused(RAFT_BADID);
}
END_TEST

START_TEST(a_link_under_the_new_name_is_not_followed)
{
    run_command("rm server && echo kept >other && ln -s other server.new");
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, true), 0);
    run_command("grep -q kept other && test ! -L server");
}
END_TEST

START_TEST(a_creation_that_was_interrupted_is_done_again)
{
    run_command("rm server && head -c 100 /dev/zero >server.new");
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, true), 0);
    ck_assert_int_eq(try_open(false), 0);
}
END_TEST

START_TEST(older_or_damaged_files_are_refused)
{
    static const struct {
        const char *what, *command;
    } cases[] = {
        { "an older log", "rm -r log && cp -a ../older/log log" },
        { "an empty log", "rm -r log" },
        { "an older term and vote: it could vote again", "cp ../older/server server" },
        { "damage to term and vote", "printf x | dd of=server bs=1 seek=33 conv=notrunc 2>/dev/null" },
    };

    store_beyond_a_copy();
    run_command("cp -a . ../newest");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        run_command("rm -r * && cp -a ../newest/. .");
        run_command(cases[i].command);
        check_refused_with(cases[i].what, RAFT_CORRUPT);
    }
}
END_TEST

/* It is written without a sync, and a power cut may tear it. */
START_TEST(damage_to_what_was_acknowledged_is_mended_by_the_next_load)
{
    store_beyond_a_copy();
    run_command("printf x | dd of=server bs=1 seek=4098 conv=notrunc 2>/dev/null");
    start();
    ck_assert_uint_eq(last_loaded(), 12);
    stop();

    run_command("rm -r log && cp -a ../older/log log"); /* it is known again */
    check_refused(RAFT_CORRUPT);
}
END_TEST

/* A power cut that tears the block of what was acknowledged, which is written without a sync, leaves the vote. */
START_TEST(appends_write_nothing_beside_term_and_vote)
{
    start_with(10);
    store(11, 1, 2); /* a term of its own */
    run_command("head -c 4096 server >../before");
    store(12, 3, 2);
    run_command("head -c 4096 server | cmp - ../before");
    run_command("dd if=/dev/zero of=server bs=4096 seek=1 count=1 conv=notrunc 2>/dev/null");
    stop();

    start();
    ck_assert_uint_eq(last_loaded(), 14);
    stop();
}
END_TEST

/* As many entries, and more, but other ones. */
START_TEST(a_log_of_other_terms_is_refused)
{
    start_with(14);
    stop();
    run_command("cp -a log ../other");
    start();
    ck_assert_int_eq(server.io->set_term(server.io, 3), 0);
    ck_assert_int_eq(server.io->truncate(server.io, 11), 0);
    store(11, 2, 3);
    stop();
    run_command("mv log log.new && cp -a ../other log");
    check_refused(RAFT_CORRUPT);

    run_command("rm -r log && mv log.new log");
    start();
    check_loaded(12, 3);
    stop();
}
END_TEST

/* A truncation, and a leader's snapshot, take back what was acknowledged, also if the server is killed at once. */
START_TEST(what_a_truncation_took_back_is_not_missed)
{
    start_with(10);
    stop();

    IN_CHILD({
        struct call call;
        start();
        append(&call, 11, 3, 1);
        server.io->truncate(server.io, 6);
        wait_for(&call); /* stored, and gone since */
        raise(SIGKILL);
    });
    ck_assert(WIFSIGNALED(child_status) && WTERMSIG(child_status) == SIGKILL);

    start();
    ck_assert_uint_eq(last_loaded(), 5);
    store(6, 5, 2);
    stop();
}
END_TEST

START_TEST(what_a_leaders_snapshot_took_back_is_not_missed)
{
    start_with(5);
    store(6, 5, 2);
    stop();
    die_between_snapshot_and_reset(8, 3);
}
END_TEST

/* Flips a bit in the middle of these bytes, if they are in the file; returns whether they are. */
static bool damage_in_file(const char *name, const void *bytes, size_t size)
{
    static uint8_t data[8 << 20];
    FILE *file = fopen(name, "r+");

    ck_assert_ptr_nonnull(file);
    const size_t file_bytes = fread(data, 1, sizeof(data), file);
    const uint8_t *found = memmem(data, file_bytes, bytes, size);

    if (found != NULL) {
        const uint8_t *middle = found + size / 2;
        fseek(file, middle - data, SEEK_SET);
        fputc(*middle ^ 1, file);
    }
    fclose(file);
    return found != NULL;
}

/* In all files of the log. Returns in how many. */
static unsigned damage_in_log(const void *bytes, size_t size)
{
    char name[300];
    unsigned changed = 0;

    ck_assert_int_eq(chdir(dir), 0);
    FILE *names = popen("ls -d log/*", "r");
    while (fgets(name, sizeof(name), names) != NULL) {
        name[strcspn(name, "\n")] = 0;
        if (damage_in_file(name, bytes, size))
            changed++;
    }
    pclose(names);
    return changed;
}

/* The newest group of a killed server that has acknowledged it, with one wrong bit: not a torn one. */
START_TEST(damage_to_the_newest_entry_is_no_shorter_log)
{
    uint8_t wanted[200];

    start_with(10);
    stop();

    IN_CHILD({
        struct call call;
        start();
        append_sized(&call, 11, 1, 77, sizeof(wanted));
        wait_for(&call);
        raise(SIGKILL);
    });

    memset(wanted, 11 + 77, sizeof(wanted)); /* index + term */
    ck_assert_uint_eq(damage_in_log(wanted, sizeof(wanted)), 1);
    check_refused(RAFT_CORRUPT);
}
END_TEST

/* Behind all others; `fields` are index, term, configuration index, bytes, first LSN of the pieces, servers. */
static void append_head(struct twinlog *log, const uint64_t fields[6])
{
    uint8_t head[56];
    const struct twinlog_entry entry = { .data = head, .size = sizeof(head), .type = 2 };

    put_u64(head, 1);
    for (size_t i = 0; i < 6; i++)
        put_u64(head + 8 + 8 * i, fields[i]);
    ck_assert_int_eq(twinlog_append_batch(log, &entry, 1, NULL, NULL), 0);
}

START_TEST(a_snapshot_that_cannot_be_is_damaged)
{
    static const struct {
        const char *what;
        uint64_t fields[6];
    } cases[] = {
        { "no entry can be behind it", { UINT64_MAX, 1, 1, 0, 1, 0 } },
        { "it has all bytes that there are", { 8, 1, 1, UINT64_MAX, 1, 0 } },
        { "it has more bytes than its pieces", { 8, 1, 1, UINT64_C(1) << 50, 1, 0 } },
    };
    struct twinlog *log;

    start_with(10);
    ck_assert_int_eq(put_and_wait(8, 1, 3 << 20, 1), 0);
    stop();
    ck_assert_int_eq(chdir(dir), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_int_eq(twinlog_open("snapshots", NULL, &log), 0);
        const uint64_t last = twinlog_last_lsn(log);
        append_head(log, cases[i].fields);
        ck_assert_int_eq(twinlog_close(log), 0);

        const int rv = try_open(false);
        ck_assert_msg(rv == RAFT_CORRUPT, "%s: %d", cases[i].what, rv);
        free_server(&server);

        ck_assert_int_eq(twinlog_open("snapshots", NULL, &log), 0);
        ck_assert_int_eq(twinlog_truncate(log, last), 0);
        ck_assert_int_eq(twinlog_close(log), 0);
    }

    ck_assert_int_eq(try_open(false), 0); /* without such a head it is sound */
    ck_assert_int_eq(load_server(&server), 0);
    stop();
}
END_TEST

/* And they are not looked for for ever. */
START_TEST(a_snapshot_without_its_pieces_is_damaged)
{
    struct twinlog_trim_options options = TWINLOG_TRIM_OPTIONS_INIT;
    struct twinlog *log;

    start_with(10);
    ck_assert_int_eq(put_and_wait(8, 1, 3 << 20, 1), 0);
    stop();
    ck_assert_int_eq(chdir(dir), 0);
    ck_assert_int_eq(twinlog_open("snapshots", NULL, &log), 0);
    options.before_lsn = twinlog_last_lsn(log); /* the head stays */
    ck_assert_int_eq(twinlog_trim(log, &options, NULL), 0);
    ck_assert_int_eq(twinlog_close(log), 0);

    ck_assert_int_eq(try_open(false), 0);
    ck_assert_int_eq(load_server(&server), RAFT_CORRUPT);
    server.n = 0;
    server.entries = NULL;
    server.snapshot = NULL;
    stop();
}
END_TEST

START_TEST(what_cannot_work_is_refused_at_the_door)
{
    const struct twinlog_raft_options defaults = TWINLOG_RAFT_OPTIONS_INIT;
    struct twinlog_raft_options small_buffer = defaults, small_segments = defaults,
                                short_structure = defaults;
    struct raft_uv_transport transport;
    struct raft_io *io = NULL;
    uv_loop_t loop;

    small_buffer.buffer_bytes = 5000;
    small_segments.segment_bytes = 65536;
    short_structure.size--;
    uv_loop_init(&loop);
    ck_assert_int_eq(begin_transport(&transport, &loop), 0);

    ck_assert_int_eq(twinlog_raft_open(NULL, dir, &transport, NULL, &io), RAFT_INVALID);
    ck_assert_int_eq(twinlog_raft_open(&loop, "", &transport, NULL, &io), RAFT_INVALID);
    ck_assert_int_eq(twinlog_raft_open(&loop, dir, &transport, &small_buffer, &io), RAFT_INVALID);
    ck_assert_int_eq(twinlog_raft_open(&loop, dir, &transport, &small_segments, &io), RAFT_INVALID);
    ck_assert_int_eq(twinlog_raft_open(&loop, dir, &transport, &short_structure, &io), RAFT_INVALID);
    ck_assert_ptr_null(io);

    twinlog_raft_free(NULL);
    raft_uv_tcp_close(&transport);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

/* ---- a disk that hangs --------------------------------------------------------------------------- */

static unsigned ticks;

static void tick(uv_timer_t *timer)
{
    (void)timer;
    ticks++;
}

/* So many timers of the program end, as those of an election or of a client do. */
static void turn_loop(unsigned turns)
{
    uv_timer_t timer;

    uv_timer_init(&server.loop, &timer);
    uv_timer_start(&timer, tick, 1, 1);
    ticks = 0;
    while (ticks < turns)
        uv_run(&server.loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&server.loop, UV_RUN_NOWAIT);
}

/* What waits all the same is listed in docs/raft.md. */
static void let_the_disk_hang(void)
{
    enum {
        CALLS = 100
    };
    static struct call calls[CALLS];
    struct get_call get = { .calls = 0 };
    struct put_call snapshot;

    start_with(10);
    ck_assert_int_eq(put_and_wait(5, 1, 10000, 100), 0);
    storage_of(server.io)->recv_cb = entries_received;
    called = 0;
    received = 0;

    stop_disk(true);
    is_queue_slow = !has_no_ring;
    for (unsigned i = 0; i < CALLS; i++)
        ck_assert_int_eq(append(&calls[i], 11 + i, 1, 1), 0);
    ck_assert_int_eq(put(&snapshot, 8, 1, 1000, 100), 0);
    ck_assert_int_eq(server.io->snapshot_get(server.io, &get.req, get_done), 0);
    ck_assert_int_eq(server.io->truncate(server.io, 11 + CALLS), 0); /* takes nothing */
    receive_entries(11, 5, 3);
    turn_loop(3);
    ck_assert(!has_loop_waited);
    while (get.calls == 0 || (has_no_ring && count_waiting_threads() < 2))
        turn_loop(1);
    ck_assert_uint_eq(received_entries, 5);
    for (unsigned i = 0; i < CALLS; i++)
        ck_assert_uint_eq(calls[i].order, 0);
    ck_assert_uint_eq(snapshot.order, 0);

    stop_disk(false);
    is_queue_slow = false;
    wait_for(&calls[CALLS - 1]);
    wait_for_put(&snapshot);
    for (unsigned i = 0; i < CALLS; i++)
        free_call(&calls[i]);
    ck_assert_int_eq(get.status, 0);
    free_snapshot(get.snapshot);
    free_put(&snapshot);
    restart();
    ck_assert_uint_eq(last_loaded(), 10 + CALLS);
    stop();
}

/* Nobody looks for what the kernel has done. */
START_TEST(the_loop_goes_on_while_the_disk_hangs)
{
    let_the_disk_hang();
}
END_TEST

/* A thread of the log waits. */
START_TEST(the_loop_goes_on_while_the_disk_hangs_without_io_uring)
{
    has_no_ring = true;
    let_the_disk_hang();
}
END_TEST

/* ---- all ---------------------------------------------------------------------------------------- */

static bool name_dir(void)
{
    const char *parent = getenv("TMPDIR");
    char path[4000];

    if (parent == NULL || *parent == 0)
        parent = "/tmp";
    snprintf(path, sizeof(path), "%s/twinlog-raft.XXXXXX", parent);
    if (mkdtemp(path) == NULL)
        return false;
    snprintf(dir, sizeof(dir), "%s/server", path);
    return true;
}

static bool clear_dir(void)
{
    char command[sizeof(dir) + 16];
    *strrchr(dir, '/') = 0;
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command) == 0;
}

static void make_dir(void)
{
    ck_assert(name_dir());
    ck_assert_int_eq(twinlog_raft_create(dir, CLUSTER, 1, true), 0);
}

static void remove_dir(void)
{
    ck_assert(clear_dir());
}

/* In a child. Ends it with 0 if raft_uv works in the directory. */
static _Noreturn void try_raft_uv(void)
{
    struct raft_io io;

    mkdir(dir, 0777);
    uv_loop_init(&server.loop);
    int rv = begin_transport(&server.transport, &server.loop);
    if (rv == 0)
        rv = raft_uv_init(&io, &server.loop, dir, &server.transport);
    const char *why = raft_strerror(rv);
    if (rv == 0) {
        rv = io.init(&io, 1, "127.0.0.1:9001");
        why = io.errmsg;
    }

    if (rv != 0)
        fprintf(stderr, "SKIP raft-unit: raft_uv does not work in %s: %s\n", dir, why);
    _exit(rv != 0);
}

/* raft_uv works here. Its timer stays in the loop, so a child looks. */
static bool can_run(void)
{
    int status = 1;

    if (!name_dir())
        return false;
    const pid_t child = fork();
    if (child == 0)
        try_raft_uv();
    if (child > 0)
        waitpid(child, &status, 0);
    return clear_dir() && status == 0;
}

static void add_failures(TCase *tcase)
{
    tcase_add_test(tcase, after_a_failed_write_nothing_is_reported_or_stored);
    tcase_add_test(tcase, a_log_that_takes_nothing_more_stops_the_server);
    tcase_add_test(tcase, what_completes_while_raft_is_closed_comes_behind_what_has_failed_before);
    tcase_add_test(tcase, after_a_failed_write_nothing_is_sent);
    tcase_add_test(tcase, a_promise_whose_sync_fails_stops_the_server);
    tcase_add_test(tcase, without_a_callback_a_failed_write_ends_the_process);
}

static void add_terms(TCase *tcase)
{
    tcase_add_test(tcase, a_new_server_has_nothing);
    tcase_add_test(tcase, a_bootstrap_is_stored_and_cannot_be_repeated);
    tcase_add_test(tcase, a_bootstrap_that_did_not_finish_is_done_again);
    tcase_add_test(tcase, term_and_vote_are_durable_when_the_calls_return);
    tcase_add_test(tcase, a_new_term_has_no_vote);
    tcase_add_test(tcase, a_term_that_cannot_be_stored_is_an_error);
    tcase_add_test(tcase, a_term_for_which_there_is_no_space_is_an_error);
    tcase_add_test(tcase, after_a_term_that_could_not_be_stored_the_next_one_fails_too);
    tcase_add_test(tcase, a_term_that_could_not_be_synced_is_stored_before_it_counts);
    tcase_add_test(tcase, recover_appends_a_configuration);
}

static void add_entries(TCase *tcase)
{
    tcase_add_test(tcase, appends_are_called_back_in_order_and_are_loaded);
    tcase_add_test(tcase, a_callback_comes_when_its_entries_are_durable);
    tcase_add_test(tcase, the_statistics_tell_what_was_stored_and_what_waits);
    tcase_add_test(tcase, one_append_may_have_many_times_what_the_buffer_takes);
    tcase_add_test(tcase, the_largest_entry_is_stored);
    tcase_add_test(tcase, an_entry_that_is_too_large_is_refused);
    tcase_add_test(tcase, an_append_without_entries_is_refused);
    tcase_add_test(tcase, a_command_whose_length_is_no_multiple_of_8_is_refused);
    if (MAY_REFUSE)
        tcase_add_test(tcase, a_refused_append_leaves_nothing);
    tcase_add_test(tcase, what_a_refused_append_has_left_goes_before_the_next_one);
    tcase_add_test(tcase, what_a_refused_append_has_left_is_loaded_at_the_next_start);
    tcase_add_test(tcase, loaded_entries_share_no_memory);
    tcase_add_test(tcase, a_truncation_comes_between_the_appends);
    tcase_add_test(tcase, truncated_entries_do_not_come_again_before_their_callback);
    tcase_add_test(tcase, what_was_called_back_survives_a_kill);
}

static void add_snapshots(TCase *tcase)
{
    tcase_add_test(tcase, a_snapshot_is_loaded_and_the_entries_before_it_go);
    tcase_add_test(tcase, a_snapshot_of_many_pieces_is_loaded_and_may_keep_more_entries_than_there_are);
    tcase_add_test(tcase, an_own_snapshot_without_bytes_and_trailing_leaves_no_entry);
    tcase_add_test(tcase, an_own_snapshot_without_trailing_leaves_what_is_behind_it);
    tcase_add_test(tcase, an_own_snapshot_of_an_entry_that_is_not_stored_yet_replaces_nothing);
    tcase_add_test(tcase, a_snapshot_beside_a_log_that_cannot_be_looked_at_replaces_nothing);
    tcase_add_test(tcase, an_own_snapshot_is_called_back_behind_the_appends_that_it_covers);
    tcase_add_test(tcase, an_own_snapshot_does_not_wait_for_appends_behind_it);
    tcase_add_test(tcase, a_snapshot_that_waits_for_its_callback_gets_it_from_the_close);
    tcase_add_test(tcase, entries_are_stored_while_a_snapshot_is);
    tcase_add_test(tcase, a_snapshot_that_is_not_stored_leaves_the_one_before);
    tcase_add_test(tcase, a_snapshot_that_does_not_fit_is_not_begun);
    tcase_add_test(tcase, a_snapshot_that_fits_into_the_files_is_stored_on_a_full_disk);
    tcase_add_test(tcase, an_older_snapshot_goes_if_there_is_no_room_otherwise);
    tcase_add_test(tcase, a_snapshot_may_use_what_is_reserved);
    tcase_add_test(tcase, a_file_system_that_says_nothing_lacks_nothing);
    tcase_add_test(tcase, an_installed_snapshot_replaces_the_log);
    tcase_add_test(tcase, a_log_that_ends_before_the_snapshot_is_reset);
    tcase_add_test(tcase, a_log_with_another_entry_at_the_snapshot_is_reset);
    tcase_add_test(tcase, a_start_that_resets_the_log_promises_nothing_of_it);
    tcase_add_test(tcase, an_empty_log_that_ends_before_the_snapshot_is_reset);
    tcase_add_test(tcase, a_leaders_snapshot_that_is_not_stored_stops_the_server);
    tcase_add_test(tcase, a_snapshot_that_is_not_there_is_not_fetched);
    tcase_add_test(tcase, a_snapshot_is_fetched_while_newer_ones_take_its_place);
}

static void add_messages(TCase *tcase)
{
    tcase_add_test(tcase, no_message_is_held_back_while_the_loop_waits);
    tcase_add_test(tcase, an_answer_for_a_forgotten_leader_goes_nowhere);
}

static void add_hanging_disk(TCase *tcase)
{
    tcase_add_test(tcase, the_loop_goes_on_while_the_disk_hangs);
    tcase_add_test(tcase, the_loop_goes_on_while_the_disk_hangs_without_io_uring);
}

static void add_files(TCase *tcase)
{
    tcase_add_test(tcase, close_completes_what_is_under_way);
    tcase_add_test(tcase, a_directory_that_is_open_elsewhere_is_busy);
    tcase_add_test(tcase, missing_or_older_snapshots_are_refused);
    tcase_add_test(tcase, a_record_that_is_no_entry_is_refused);
    tcase_add_test(tcase, the_files_of_raft_uv_are_refused);
    tcase_add_test(tcase, a_directory_that_nobody_made_is_refused);
    tcase_add_test(tcase, a_directory_is_made_once_and_for_a_server_with_a_number);
    tcase_add_test(tcase, a_server_that_joins_cannot_be_bootstrapped);
    tcase_add_test(tcase, a_directory_with_a_log_and_without_its_server_file_is_refused_and_not_made_again);
    tcase_add_test(tcase, a_directory_that_is_not_there_is_refused_and_not_made);
    tcase_add_test(tcase, two_creations_at_once_do_not_mix);
    tcase_add_test(tcase, the_directory_of_another_server_is_refused);
    tcase_add_test(tcase, the_directory_of_another_cluster_is_refused);
    tcase_add_test(tcase, a_link_under_the_new_name_is_not_followed);
    tcase_add_test(tcase, a_creation_that_was_interrupted_is_done_again);
    tcase_add_test(tcase, older_or_damaged_files_are_refused);
    tcase_add_test(tcase, damage_to_what_was_acknowledged_is_mended_by_the_next_load);
    tcase_add_test(tcase, appends_write_nothing_beside_term_and_vote);
    tcase_add_test(tcase, a_log_of_other_terms_is_refused);
    tcase_add_test(tcase, what_a_truncation_took_back_is_not_missed);
    tcase_add_test(tcase, what_a_leaders_snapshot_took_back_is_not_missed);
    tcase_add_test(tcase, damage_to_the_newest_entry_is_no_shorter_log);
    tcase_add_test(tcase, a_snapshot_that_cannot_be_is_damaged);
    tcase_add_test(tcase, a_snapshot_without_its_pieces_is_damaged);
    tcase_add_test(tcase, what_cannot_work_is_refused_at_the_door);
    tcase_add_test(tcase, the_capacity_is_what_the_disk_has);
}

int main(void)
{
    if (!can_run())
        return 77;

    Suite *suite = suite_create("raft");
    TCase *tcase = tcase_create("storage");
    tcase_add_unchecked_fixture(tcase, NULL, NULL);
    tcase_add_checked_fixture(tcase, make_dir, remove_dir);

    add_terms(tcase);
    add_entries(tcase);
    add_failures(tcase);
    add_snapshots(tcase);
    add_messages(tcase);
    add_hanging_disk(tcase);
    add_files(tcase);
    if (!MAY_REFUSE)
        add_waiting(tcase);
    suite_add_tcase(suite, tcase);

    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed > 0;
}
