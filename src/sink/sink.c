/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions of sinks, their options and lanes. A write takes a lane, claims a range, copies its bytes and
 * ends the claim. If the file has too little room, or the next file is due, the write sees to that and tries to claim
 * again.
 */
#define _GNU_SOURCE
#include "sink/sink.h"
#include "base/point.h"
#include "base/versioned.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_WRITE (UINT64_C(1) << 30)

#define DEFAULT_INITIAL_BYTES (UINT64_C(10) << 20)
#define DEFAULT_GROWTH_BYTES (UINT64_C(64) << 20)
#define DEFAULT_KEEP_FILES 5u
#define MAX_KEEP_FILES 9999u
#define ZEROS ((uint32_t)(TWINLOG_SINK_DROP_ZEROS | TWINLOG_SINK_KEEP_ZEROS))
#define ALL_FLAGS ((uint32_t)(TWINLOG_SINK_SHARED | TWINLOG_SINK_NO_THREAD | TWINLOG_SINK_MUST_EXIST) | ZEROS)

/* ---- lanes: taken with one atomic operation on a line that is mostly the thread's own --------------- */

static _Atomic unsigned threads;           /* that ever took a lane of a sink */
static _Thread_local unsigned thread_lane; /* the first lane to try, from 1; 0 = not chosen yet */

static bool try_take(struct lane *lane)
{
    uint64_t turn = atomic_load_explicit(&lane->turn, memory_order_relaxed);
    return turn % 2 == 0 && atomic_compare_exchange_strong(&lane->turn, &turn, turn + 1);
}

static unsigned wait_for_lane(struct twinlog_sink *sink)
{
    atomic_fetch_add(&sink->without_lane, 1);
    for (unsigned tries = 1; !try_take(&sink->lanes[thread_lane - 1]); tries++) {
        thread_lane = thread_lane % SLOTS + 1;
        if (tries % SLOTS == 0)
            twl_yield();
    }
    atomic_fetch_sub(&sink->without_lane, 1);
    return thread_lane - 1;
}

unsigned twl_lane_take(struct twinlog_sink *sink)
{
    if (thread_lane == 0)
        thread_lane = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % SLOTS + 1;
    return try_take(&sink->lanes[thread_lane - 1]) ? thread_lane - 1 : wait_for_lane(sink);
}

void twl_lane_leave(struct twinlog_sink *sink, unsigned lane)
{
    struct lane *mine = &sink->lanes[lane];
    const uint64_t turn = atomic_load_explicit(&mine->turn, memory_order_relaxed);
    atomic_store_explicit(&mine->turn, turn + 1, memory_order_release);
}

void twl_lanes_look(struct twinlog_sink *sink, uint64_t turns[SLOTS])
{
    for (unsigned i = 0; i < SLOTS; i++)
        turns[i] = atomic_load(&sink->lanes[i].turn);
}

bool twl_lanes_have_passed(struct twinlog_sink *sink, const uint64_t turns[SLOTS], unsigned own_lane)
{
    for (unsigned i = 0; i < SLOTS; i++)
        if (i != own_lane && turns[i] % 2 == 1 && atomic_load(&sink->lanes[i].turn) == turns[i])
            return false;
    return true;
}

/* ---- calls --------------------------------------------------------------------------------------- */

/* A call that is not a write: has a lane, and is not cancelled. */
struct call {
    unsigned lane;
    int cancel_state;
};

static struct call begin(struct twinlog_sink *sink)
{
    struct call call;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &call.cancel_state);
    call.lane = twl_lane_take(sink);
    return call;
}

static void end(struct twinlog_sink *sink, const struct call *call)
{
    twl_lane_leave(sink, call->lane);
    pthread_setcancelstate(call->cancel_state, NULL);
}

static int check(const struct twinlog_sink *sink)
{
    if (!sink)
        return -EINVAL;
    return twl_fork_guard_is_forked(&sink->guard) ? TWINLOG_EFORKED : 0;
}

/* ---- write --------------------------------------------------------------------------------------- */

static void count(_Atomic uint64_t *counter)
{
    const uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + 1, memory_order_relaxed);
}

/* Removes what kept the claim from being made, if that can be done. */
static int make_way(struct twinlog_sink *sink, struct sink_file *file, struct lane *lane,
                    enum claim_result result, size_t size)
{
    int cancel_state, rc;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    if (result == CLAIM_LOST) {
        rc = -EIO;
    } else if (result == CLAIM_NEEDS_ROOM) {
        count(&lane->waits);
        rc = twl_sink_grow(file, area_offset(file->area) + size);
    } else {
        rc = twl_sink_move_on(sink, file, true);
    }
    if (rc == -EIO && result != CLAIM_NEEDS_NEXT)
        twl_sink_fail(sink, rc);
    twl_helper_wake(sink);
    pthread_setcancelstate(cancel_state, NULL);
    return rc;
}

static int copy(struct sink_file *file, uint64_t start, const struct iovec *pieces, int pieces_count)
{
    int rc = 0;
    for (int i = 0; i < pieces_count && rc == 0; i++) {
        rc = twl_window_store(file, start, pieces[i].iov_base, pieces[i].iov_len);
        start += pieces[i].iov_len;
    }
    return rc;
}

/* Fills the range with spaces and a newline. If that fails, the claim stays, and the next sweep fills the
 * range, when this process leaves the file or another one opens it. */
static int fail(struct twinlog_sink *sink, struct sink_file *file, struct slot *slot, uint64_t start,
                size_t size)
{
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    if (twl_sink_blank(file->data_fd, start, size) == 0)
        twl_claim_free(slot);
    pthread_setcancelstate(cancel_state, NULL);
    return twl_sink_fail(sink, -EIO);
}

/* The helper does so, too, and earlier, if it gets a processor. */
static void prepare_next_step(struct twinlog_sink *sink, struct sink_file *file, uint64_t end)
{
    int cancel_state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    twl_helper_wake(sink);
    twl_window_populate(file, end, align_down(end, STEP_BYTES) + 2 * STEP_BYTES);
    pthread_setcancelstate(cancel_state, NULL);
}

static int append(struct twinlog_sink *sink, unsigned lane_number, const struct iovec *pieces,
                  int pieces_count, size_t size, uint64_t *ret_start)
{
    struct lane *lane = &sink->lanes[lane_number];
    for (;;) {
        struct sink_file *file = atomic_load(&sink->file);
        const unsigned owner = area_owner(file->number, lane_number);
        const enum claim_result result = twl_claim(file->area, owner, size, ret_start);
        if (result != CLAIM_MADE) {
            const int rc = make_way(sink, file, lane, result, size);
            if (rc < 0)
                return rc;
            continue;
        }
        const int rc = copy(file, *ret_start, pieces, pieces_count);
        POINT("copy done");
        if (rc < 0)
            return fail(sink, file, area_slot(file->area, owner), *ret_start, size);
        twl_claim_free(area_slot(file->area, owner));
        POINT("claim done");
        count(&lane->writes);
        if ((*ret_start ^ (*ret_start + size)) >= STEP_BYTES)
            prepare_next_step(sink, file, *ret_start + size);
        return 0;
    }
}

static int write_pieces(struct twinlog_sink *sink, const struct iovec *pieces, int pieces_count, size_t size,
                        uint64_t *ret_offset)
{
    uint64_t start = 0;
    const unsigned lane = twl_lane_take(sink);
    if (!sink->has_thread) /* first, so that nothing goes to a file that was removed */
        twl_sink_tend(sink, lane);
    /* relaxed: a thread that failed in this lane has left it since */
    int rc = atomic_load_explicit(&sink->error, memory_order_relaxed);
    if (size == 0)
        start = area_offset(atomic_load(&sink->file)->area);
    else if (rc == 0)
        rc = append(sink, lane, pieces, pieces_count, size, &start);
    twl_lane_leave(sink, lane);
    if (rc == 0 && ret_offset)
        *ret_offset = start;
    return rc;
}

int twinlog_sink_write(struct twinlog_sink *sink, const void *data, size_t size, uint64_t *ret_offset)
{
    const struct iovec piece = { .iov_base = (void *)(uintptr_t)data, .iov_len = size };
    const int rc = check(sink);
    if (rc < 0)
        return rc;
    if (!data && size > 0)
        return -EINVAL;
    if (size > MAX_WRITE)
        return -EMSGSIZE;
    return write_pieces(sink, &piece, 1, size, ret_offset);
}

int twinlog_sink_writev(struct twinlog_sink *sink, const struct iovec *pieces, int pieces_count,
                        uint64_t *ret_offset)
{
    size_t size = 0;
    const int rc = check(sink);
    if (rc < 0)
        return rc;
    if (pieces_count < 0 || (!pieces && pieces_count > 0))
        return -EINVAL;
    for (int i = 0; i < pieces_count; i++) {
        if (!pieces[i].iov_base && pieces[i].iov_len > 0)
            return -EINVAL;
        if (pieces[i].iov_len > MAX_WRITE - size)
            return -EMSGSIZE;
        size += pieces[i].iov_len;
    }
    return write_pieces(sink, pieces, pieces_count, size, ret_offset);
}

/* ---- the rest ------------------------------------------------------------------------------------ */

int twinlog_sink_sync(struct twinlog_sink *sink)
{
    int cancel_state, rc = check(sink);
    if (rc < 0)
        return rc;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    atomic_fetch_add(&sink->without_lane, 1); /* instead of a lane, because a sync may wait */
    rc = atomic_load(&sink->error);
    if (rc == 0)
        rc = twl_sink_flush_all(sink, true);
    twl_sink_retire(sink, false, SLOTS);
    atomic_fetch_sub(&sink->without_lane, 1);
    pthread_setcancelstate(cancel_state, NULL);
    return rc;
}

static int go_on(struct twinlog_sink *sink, bool is_rotating)
{
    const struct call call = begin(sink);
    const int rc =
        is_rotating ? twl_sink_move_on(sink, atomic_load(&sink->file), true) : twl_sink_look_at_name(sink);
    twl_sink_retire(sink, false, call.lane);
    end(sink, &call);
    return rc;
}

int twinlog_sink_rotate(struct twinlog_sink *sink)
{
    const int rc = check(sink);
    if (rc < 0)
        return rc;
    return sink->options.flags & TWINLOG_SINK_SHARED ? -EINVAL : go_on(sink, true);
}

int twinlog_sink_reopen(struct twinlog_sink *sink)
{
    const int rc = check(sink);
    return rc < 0 ? rc : go_on(sink, false);
}

static void fill_in(struct twinlog_sink *sink, struct area *area, struct twinlog_sink_stat *stat)
{
    stat->bytes = area_offset(area);
    stat->file_bytes = atomic_load(&area->file_bytes);
    stat->synced_bytes = atomic_load(&area->synced);
    stat->growths = atomic_load(&area->growths) + atomic_load(&sink->past_growths);
    stat->fillers = atomic_load(&area->fillers) + atomic_load(&sink->past_fillers);
    stat->rotations = atomic_load(&sink->rotations);
    for (unsigned n = 1; n <= PARTICIPANTS; n++)
        stat->participants += atomic_load(&area->is_used[n]);
    for (unsigned i = 0; i < SLOTS; i++) {
        stat->writes += atomic_load(&sink->lanes[i].writes);
        stat->growth_waits += atomic_load(&sink->lanes[i].waits);
    }
}

int twinlog_sink_stat(struct twinlog_sink *sink, struct twinlog_sink_stat *ret_stat)
{
    struct twinlog_sink_stat stat = TWINLOG_SINK_STAT_INIT;
    const int rc = check(sink);
    if (rc < 0)
        return rc;
    if (!ret_stat || !twl_versioned_is_set(ret_stat))
        return -EINVAL;
    const struct call call = begin(sink);
    struct sink_file *file = atomic_load(&sink->file);
    twl_sink_sweep(file);
    fill_in(sink, file->area, &stat);
    end(sink, &call);
    twl_versioned_give(ret_stat, &stat, sizeof(stat));
    return 0;
}

/* ---- options and path ---------------------------------------------------------------------------- */

static bool is_in_range(const struct twinlog_sink_options *o)
{
    return !(o->flags & ~ALL_FLAGS) && (o->flags & ZEROS) != ZEROS &&
           !((o->flags & TWINLOG_SINK_SHARED) && o->max_bytes > 0) && o->initial_bytes < OFFSET_LIMIT &&
           o->growth_bytes < OFFSET_LIMIT && o->keep_files <= MAX_KEEP_FILES && o->mode <= 0777;
}

static int normalise(const struct twinlog_sink_options *options, struct twinlog_sink_options *ret_options)
{
    struct twinlog_sink_options o;
    if (twl_versioned_take(&o, sizeof(o), options) < 0 || !is_in_range(&o))
        return -EINVAL;
    o.initial_bytes = o.initial_bytes > 0 ? o.initial_bytes : DEFAULT_INITIAL_BYTES;
    o.growth_bytes = o.growth_bytes > 0 ? o.growth_bytes : DEFAULT_GROWTH_BYTES;
    o.keep_files = o.keep_files > 0 ? o.keep_files : DEFAULT_KEEP_FILES;
    o.mode = o.mode > 0 ? o.mode : 0666;
    if (o.max_bytes > 0)
        o.initial_bytes = min_u64(o.initial_bytes, o.max_bytes);
    *ret_options = o;
    return 0;
}

/* Opens the directory of the path, and copies the name behind the last slash. */
static int split(const char *path, int *ret_dir, char ret_name[NAME_MAX + 1])
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const size_t length = slash ? (size_t)(slash - path) : 0;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return *path ? -ENOTSUP : -ENOENT;
    if (strlen(name) > NAME_MAX || length >= PATH_MAX)
        return -ENAMETOOLONG;
    char dir[PATH_MAX] = ".";
    if (slash) {
        memcpy(dir, path, length);
        memcpy(dir + length, length == 0 ? "/" : "", length == 0 ? 2 : 1);
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == EACCES) /* may be searched, but not read: then the directory can't be synced */
        fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    memcpy(ret_name, name, strlen(name) + 1);
    *ret_dir = fd;
    return 0;
}

int twl_sink_find_place(const char *path, int *ret_dir, char ret_name[NAME_MAX + 1])
{
    struct stat about;
    if (lstat(path, &about) < 0 || !S_ISLNK(about.st_mode))
        return split(path, ret_dir, ret_name);
    /* One file has one area, beside it, whichever symbolic link leads there. */
    char *real = realpath(path, NULL);
    const int rc = real ? split(real, ret_dir, ret_name) : -errno;
    free(real);
    return rc;
}

/* ---- open and close ------------------------------------------------------------------------------ */

static void destroy(struct twinlog_sink *sink)
{
    if (sink->dir >= 0)
        close(sink->dir);
    twl_mutex_destroy(&sink->lock);
    twl_mutex_destroy(&sink->retiring);
    free(sink);
}

/* Waits up to lock_wait_ms while another process has the file: -EBUSY. */
static int enter_in_time(struct twinlog_sink *sink, struct sink_file **ret_file)
{
    const uint64_t until_ns = twl_monotonic_ns() + UINT64_C(1000000) * sink->options.lock_wait_ms;
    int rc;
    const int flags = sink->options.flags & TWINLOG_SINK_MUST_EXIST ? 0 : O_CREAT;
    while ((rc = twl_sink_enter(sink, flags, ret_file)) == -EBUSY && twl_monotonic_ns() < until_ns)
        twl_sink_pause();
    return rc;
}

static int start(struct twinlog_sink *sink, const char *path)
{
    struct sink_file *file = NULL;
    int rc = twl_sink_find_place(path, &sink->dir, sink->name);
    if (rc < 0)
        return rc;
    rc = enter_in_time(sink, &file);
    if (rc < 0)
        return rc;
    rc = twl_sink_grow_to(file, sink->options.initial_bytes);
    if (rc < 0) {
        twl_sink_leave(sink, file);
        return rc;
    }
    atomic_store(&sink->file, file);
    const uint64_t now_ns = twl_monotonic_ns();
    const uint64_t flush_ns = UINT64_C(1000000) * sink->options.flush_interval_ms;
    atomic_store(&sink->flush_ns, flush_ns > 0 ? now_ns + flush_ns : UINT64_MAX);
    atomic_store(&sink->look_ns, now_ns + UINT64_C(1000000000));
    if (sink->options.flags & TWINLOG_SINK_NO_THREAD)
        return 0;
    sink->has_thread = true;
    rc = twl_helper_start(sink);
    if (rc < 0)
        twl_sink_leave(sink, file);
    return rc;
}

static int allocate(const struct twinlog_sink_options *options, struct twinlog_sink **ret_sink)
{
    struct twinlog_sink_options normal;
    const int rc = normalise(options, &normal);
    if (rc < 0)
        return rc;
    struct twinlog_sink *sink = aligned_alloc(_Alignof(struct twinlog_sink), sizeof(*sink));
    if (!sink)
        return -ENOMEM;
    memset(sink, 0, sizeof(*sink));
    sink->dir = -1;
    sink->options = normal;
    if (twl_fork_guard_init(&sink->guard) < 0) {
        free(sink);
        return -ENOMEM;
    }
    twl_mutex_init(&sink->lock);
    twl_mutex_init(&sink->retiring);
    *ret_sink = sink;
    return 0;
}

int twinlog_sink_open(const char *path, const struct twinlog_sink_options *options,
                      struct twinlog_sink **ret_sink)
{
    struct twinlog_sink *sink;
    int cancel_state;
    if (!path || !ret_sink)
        return -EINVAL;
    int rc = allocate(options, &sink);
    if (rc < 0)
        return rc;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    rc = start(sink, path);
    pthread_setcancelstate(cancel_state, NULL);
    if (rc < 0)
        destroy(sink);
    else
        *ret_sink = sink;
    return rc;
}

static void wait_for_calls(struct twinlog_sink *sink)
{
    uint64_t turns[SLOTS];
    while (atomic_load(&sink->without_lane) > 0)
        twl_yield();
    twl_lanes_look(sink, turns); /* after the threads that waited for a lane have one */
    while (!twl_lanes_have_passed(sink, turns, SLOTS))
        twl_yield();
}

static int leave_all(struct twinlog_sink *sink)
{
    const int retired = twl_sink_retire(sink, true, SLOTS);
    const int left = twl_sink_leave(sink, atomic_load(&sink->file));
    return retired < 0 ? retired : left;
}

int twinlog_sink_close(struct twinlog_sink *sink)
{
    int cancel_state;
    if (!sink)
        return 0;
    if (check(sink) == TWINLOG_EFORKED)
        return TWINLOG_EFORKED;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    atomic_store(&sink->must_stop, true); /* one of the calls may be of the helper */
    wait_for_calls(sink);
    twl_helper_stop(sink);
    const int rc = leave_all(sink);
    destroy(sink);
    pthread_setcancelstate(cancel_state, NULL);
    return rc;
}
