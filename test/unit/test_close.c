/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call that takes an open log, a sink or a queue, held at each of its first system calls, and the handle is closed
 * beside it. A consumer and a reader are for one thread: beside their calls the log is closed.
 *
 * A seccomp filter of the calling thread, and of those that it starts, hands their system calls to a thread that lets
 * them go on one after the other. At the one to hold that thread lets another one close the handle, gives the close
 * time, and then lets the rest go on. The call must succeed or say that the handle is closed, the close must not return
 * before the call, or say that the handle is in use, and the log must be sound. The address sanitizer sees what is used
 * after it was freed.
 */
#define _GNU_SOURCE
#include "asked.h"
#include "gate.h"
#include "logdir.h"
#include "sink/sink.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HOLDS REPEATS(4u, 2u) /* system calls of each call */
#define RECORDS 20u
#define SHARED_BYTES 131072u /* of a segment of a shared log */
#define LOOKS 2000u          /* at a close, which may yield again and again instead of sleeping */

/* ---- the calls ------------------------------------------------------------------------------------ */

static struct twinlog *held_log;
static struct twinlog *rival; /* beside a shared one: has gone on in the next segment */
static struct twinlog_sink *held_sink;
static struct twinlog_consumer *consumer;
static struct twinlog_reader *held_reader; /* that the call has attached; NULL = none */
static struct twinlog_queue *queue;

static uint64_t lsn;
static struct twinlog_record record;
static unsigned char bytes[RECORD_ROOM];
static const struct twinlog_entry entries[2] = { { .data = "one", .size = 3 }, { .data = "two", .size = 3 } };
static struct twinlog_request request;
static struct twinlog_queue *held_queue;
static struct twinlog_request *fetched;
static char sink_path[300], sink_old[310];
static char large[1u << 20]; /* needs a longer file */

static const struct twinlog_edit held_edit = {
    .kind = TWINLOG_EDIT_SET_VALUE, .name = "errand", .data = "x", .size = 1
};
static const struct twinlog_change held_change = { .size = sizeof(held_change),
                                                   .edits = &held_edit,
                                                   .edit_count = 1 };

static int begin_request(void)
{
    request = (struct twinlog_request){ .queue = queue };
    return 0;
}

static int consume(bool commits)
{
    int rc = twinlog_consumer_open(log_dir, "cursor", NULL, &consumer);
    if (rc == 0)
        rc = twinlog_consumer_next(consumer, &record);
    return rc > 0 && commits ? twinlog_consumer_commit(consumer, 0) : rc;
}

static int see_cursor(void *unused, const char *name, uint64_t at)
{
    return unused || at > RECORDS ? -EIO : name[0] == '\0';
}

static int see_value(void *unused, const char *name, const void *data, size_t size)
{
    return unused || !data || size > sizeof(bytes) ? -EIO : name[0] == '\0';
}

/* Each call of a reader that is attached. */
static int look_around(void)
{
    uint64_t first_lsn, last_lsn;
    int rc = twinlog_reader_attach(held_log, NULL, &held_reader);
    if (rc == 0)
        rc = twinlog_reader_history(held_reader, 0, &WITH_SIZE(history, .lsn = 0));
    if (rc == 0)
        rc = twinlog_reader_range(held_reader, &first_lsn, &last_lsn);
    if (rc == 0)
        rc = twinlog_reader_seek_time(held_reader, 1);
    if (rc == 0)
        rc = twinlog_reader_seek_end(held_reader);
    if (rc == 0)
        rc = twinlog_reader_wait(held_reader, 0);
    return rc < 0 ? rc : twinlog_reader_previous(held_reader, &record);
}

static int follow(void)
{
    int rc = twinlog_reader_attach(held_log, NULL, &held_reader);
    while (rc == 0 && (rc = twinlog_reader_next(held_reader, &record)) > 0)
        rc = 0;
    return rc < 0 ? rc : twinlog_reader_fd(held_reader);
}

#define DO_EACH_CALL(DO)                                                                                     \
    DO(append, twinlog_append(held_log, "append", 6, NULL))                                                  \
    DO(enqueue, twinlog_enqueue(held_log, "enqueue", 7, NULL))                                               \
    DO(append_batch, twinlog_append_batch(held_log, entries, 2, NULL, NULL))                                 \
    DO(skip, twinlog_skip(held_log, RECORDS + 3))                                                            \
    DO(skip_lost, twinlog_skip_lost(held_log, RECORDS + 3))                                                  \
    DO(wait, twinlog_wait(held_log, RECORDS, TWINLOG_LEVEL_DURABLE, 0))                                      \
    DO(sync, twinlog_sync(held_log))                                                                         \
    DO(set_flush_interval, twinlog_set_flush_interval(held_log, 60000))                                      \
    DO(submit, begin_request() + twinlog_submit(held_log, entries, 1, NULL, &request))                       \
    DO(submit_sync, begin_request() + twinlog_submit_sync(held_log, &request))                               \
    DO(submit_truncate, begin_request() + twinlog_submit_truncate(held_log, UINT64_MAX - 1, &request))       \
    DO(submit_change, begin_request() + twinlog_submit_change(held_log, &held_change, &request))             \
    DO(first_lsn, twinlog_first_lsn(held_log) > RECORDS ? -EIO : 0)                                          \
    DO(last_lsn, twinlog_last_lsn(held_log) < RECORDS ? -EIO : 0)                                            \
    DO(written_lsn, twinlog_written_lsn(held_log) < RECORDS ? -EIO : 0)                                      \
    DO(durable_lsn, twinlog_durable_lsn(held_log) < RECORDS ? -EIO : 0)                                      \
    DO(trim, twinlog_trim(held_log, &WITH_SIZE(trim_options, .before_lsn = RECORDS / 2), NULL))              \
    DO(truncate, twinlog_truncate(held_log, RECORDS - 3))                                                    \
    DO(reset, twinlog_reset(held_log, 100))                                                                  \
    DO(cursor_set, twinlog_cursor_set(held_log, "other", 3))                                                 \
    DO(cursor_get, twinlog_cursor_get(held_log, "cursor", &lsn))                                             \
    DO(cursor_remove, twinlog_cursor_remove(held_log, "cursor"))                                             \
    DO(cursor_each, twinlog_cursor_each(held_log, see_cursor, NULL))                                         \
    DO(meta_set, twinlog_meta_set(held_log, "name", "other", 5))                                             \
    DO(meta_get, twinlog_meta_get(held_log, "name", bytes, sizeof(bytes), NULL))                             \
    DO(meta_each, twinlog_meta_each(held_log, see_value, NULL))                                              \
    DO(meta_remove, twinlog_meta_remove(held_log, "name"))                                                   \
    DO(read, twinlog_read(held_log, RECORDS / 2, bytes, sizeof(bytes), &record))                             \
    DO(stat, twinlog_stat(held_log, &WITH_SIZE(stat, .io = 0)))                                              \
    DO(timings, twinlog_timings(held_log, &WITH_SIZE(timings, .sample_interval = 0)))                        \
    DO(reader_attach, twinlog_reader_attach(held_log, NULL, &held_reader))                                   \
    DO(reader_next, follow())                                                                                \
    DO(reader_seek, look_around())                                                                           \
    DO(consumer_open, twinlog_consumer_open(log_dir, "new", NULL, &consumer))                                \
    DO(consumer_next, consume(false))                                                                        \
    DO(consumer_commit, consume(true))

#define DO_EACH_OF_A_SINK(DO)                                                                                \
    DO(sink_write, twinlog_sink_write(held_sink, "write\n", 6, NULL))                                        \
    DO(sink_writev, twinlog_sink_writev(held_sink, &(struct iovec){ large, sizeof(large) }, 1, NULL))        \
    DO(sink_sync, twinlog_sink_sync(held_sink))                                                              \
    DO(sink_reopen, twinlog_sink_reopen(held_sink))

#define DO_EACH_OF_A_QUEUE(DO)                                                                               \
    DO(queue_poll, twinlog_queue_poll(held_queue, &fetched, 1, 1))                                           \
    DO(queue_fd, twinlog_queue_fd(held_queue))

#define DEFINE(name, call)                                                                                   \
    static int do_##name(void)                                                                               \
    {                                                                                                        \
        return call;                                                                                         \
    }
DO_EACH_CALL(DEFINE)
DO_EACH_OF_A_SINK(DEFINE)
DO_EACH_OF_A_QUEUE(DEFINE)

#define ENTRY(name, call) { do_##name, #name },
struct held_call {
    int (*call)(void);
    const char *name;
};
static const struct held_call calls[] = { DO_EACH_CALL(ENTRY) };
static const struct held_call sink_calls[] = { DO_EACH_OF_A_SINK(ENTRY) };
static const struct held_call queue_calls[] = { DO_EACH_OF_A_QUEUE(ENTRY) };
#define COUNT(calls) (sizeof(calls) / sizeof(calls[0]))

static int close_log(void)
{
    return twinlog_close(held_log);
}
static int close_sink(void)
{
    return twinlog_sink_close(held_sink);
}
static int close_queue(void)
{
    return twinlog_queue_close(held_queue);
}

/* ---- holding a thread ------------------------------------------------------------------------------ */

static struct {
    int (*call)(void), (*close)(void);
    unsigned hold, count;      /* which system call, and how many there were */
    atomic_int listener;       /* -1 = there can be none */
    atomic_int caller, closer; /* threads; 0 = not yet */
    atomic_bool is_inside, is_ready, may_close, is_closed, was_held;
    bool was_closed_beside; /* the close has returned while the call was held */
    pthread_t serving;      /* until the threads have ended that the call has started */
    int result;
    int closed; /* result of the close */
} held;

static int listen_to_this_thread(void)
{
    struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF) };
    return ask_about_calls(all, 1);
}

static void *call_it(void *unused)
{
    const int thread = (int)gettid(); /* no system call from here on before it is served */

    atomic_store(&held.listener, listen_to_this_thread());
    atomic_store(&held.caller, thread);
    atomic_store(&held.is_inside, true);
    held.result = atomic_load(&held.listener) >= 0 ? held.call() : 0;
    atomic_store(&held.is_inside, false);
    return unused;
}

static void *close_it(void *unused)
{
    atomic_store(&held.closer, (int)gettid());
    while (!atomic_load(&held.may_close))
        sched_yield();
    held.closed = held.close();
    atomic_store(&held.is_closed, true);
    return unused;
}

/* Allocates nothing: the thread that is held may be inside of malloc(). */
static bool is_asleep(int thread)
{
    char path[64], text[128] = "";

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    close(fd);
    const char *behind = n > 0 ? strrchr(text, ')') : NULL;
    return behind && behind[2] == 'S';
}

static void close_beside(void)
{
    atomic_store(&held.may_close, true);
    for (unsigned naps = 0, looks = 0; naps < 3 && looks < LOOKS && !atomic_load(&held.is_closed); looks++) {
        naps += is_asleep(atomic_load(&held.closer)); /* for another lock than that of the call, perhaps */
        sched_yield();
    }
    held.was_closed_beside = atomic_load(&held.is_closed);
}

static int hold_one(const struct seccomp_notif *asked)
{
    const bool is_of_call = (int)asked->pid == atomic_load(&held.caller) && atomic_load(&held.is_inside);

    if (is_of_call && held.count++ == held.hold) {
        atomic_store(&held.was_held, true);
        close_beside();
    }
    return 0;
}

static void *serve(void *unused)
{
    atomic_store(&held.is_ready, true);
    while (atomic_load(&held.caller) == 0)
        sched_yield();
    if (atomic_load(&held.listener) >= 0)
        answer_calls(atomic_load(&held.listener), hold_one);
    return unused;
}

/* ---- the test --------------------------------------------------------------------------------------- */

static char made_log[300]; /* is copied for each call that is held: to make it takes many syncs */

static void make_log_to_copy(void)
{
    struct twinlog *log = log_open(NULL);

    append_records(log, 1, 0, RECORDS);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 5), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "name", "value", 5), 0);
    log_close(log);

    snprintf(made_log, sizeof(made_log), "%s/made", log_parent);
    ck_assert_int_eq(rename(log_dir, made_log), 0);
}

static void set_up(void)
{
    logdir_make();
    ck_assert_int_eq(twinlog_queue_open(&queue), 0);
}

static void tear_down(void)
{
    ck_assert_int_eq(twinlog_queue_close(queue), 0);
    logdir_remove();
}

/* The other handle goes on in the next segment, so this one has to open it to know the newest record. */
static void open_rival(const struct twinlog_options *options)
{
    rival = log_open(options);
    for (unsigned i = 0; i < SHARED_BYTES / RECORD_ROOM; i++)
        ck_assert_int_eq(twinlog_append(rival, large, RECORD_ROOM, NULL), 0);
}

static struct twinlog *open_again(const struct twinlog_options *options)
{
    remove_tree(log_dir);
    copy_directory(made_log, log_dir);

    struct twinlog *log = log_open(options);
    rival = NULL;
    if (options->mode == TWINLOG_MODE_SHARED)
        open_rival(options);
    return log;
}

static bool is_expected(int result)
{
    return result >= 0 || result == -EBUSY || result == -ESHUTDOWN || result == -ENOTSUP || result == -EROFS;
}

/* False where the call makes fewer system calls. */
static bool hold_and_close(const struct held_call *call, unsigned hold, int (*how_to_close)(void))
{
    memset(&held, 0, sizeof(held));
    held.call = call->call;
    held.close = how_to_close;
    held.hold = hold;

    /* No thread is started once one is held, which may have a lock of the allocator. */
    const pthread_t closing = start_thread(close_it, NULL);
    held.serving = start_thread(serve, NULL);
    while (!atomic_load(&held.is_ready) || atomic_load(&held.closer) == 0)
        sched_yield();
    const pthread_t calling = start_thread(call_it, NULL);

    pthread_join(calling, NULL);
    atomic_store(&held.may_close, true);
    pthread_join(closing, NULL);

    ck_assert_msg(is_expected(held.result), "%s, held at %u: %d (%s)", call->name, hold, held.result,
                  twinlog_strerror(held.result));
    ck_assert_msg(held.closed == 0 || held.closed == -EBUSY, "%s, held at %u: the close: %d", call->name,
                  hold, held.closed);
    if (atomic_load(&held.listener) < 0 && hold == 0)
        fprintf(stderr, "skipped: close: no seccomp filter with a listener may be loaded\n");
    return atomic_load(&held.was_held);
}

/* Not for a consumer, which has a handle of its own. */
static void expect_closed_after(const struct held_call *call, unsigned hold)
{
    ck_assert_msg(!held.was_closed_beside || held.closed != 0, "%s, held at %u: closed beside the call",
                  call->name, hold);
}

static void finish_close(void)
{
    struct twinlog_request *done;

    ck_assert(!held_reader || held.closed == -EBUSY); /* else it is left of a log that is gone */
    twinlog_reader_close(held_reader);
    twinlog_consumer_close(consumer);
    held_reader = NULL;
    consumer = NULL;
    if (held.closed != 0)
        ck_assert_int_eq(twinlog_close(held_log), 0);
    ck_assert_int_eq(twinlog_close(rival), 0);
    while (twinlog_queue_poll(queue, &done, 1, 0) > 0)
        ;
    pthread_join(held.serving, NULL);
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

static bool try_log(const struct held_call *call, const struct twinlog_options *options, unsigned hold)
{
    held_log = open_again(options);
    const bool was_held = hold_and_close(call, hold, close_log);
    if (!strstr(call->name, "consumer"))
        expect_closed_after(call, hold);
    finish_close();
    return was_held;
}

static bool skips(void)
{
    if (HAS_THREAD_SANITIZER)
        fprintf(stderr, "skipped: close: the thread sanitizer does not see an order made by system calls\n");
    return HAS_THREAD_SANITIZER;
}

CASE("close", set_up, tear_down);

static const struct {
    const char *name;
    struct twinlog_options options;
} ways_to_open[] = {
    { "durable", { .mode = TWINLOG_MODE_DURABLE } },
    { "mapped", { .mode = TWINLOG_MODE_MAPPED } },
    { "shared", { .mode = TWINLOG_MODE_SHARED, .segment_bytes = SHARED_BYTES } },
    { "read-only", { .flags = TWINLOG_READ_ONLY } },
};

TEST_EACH(a_close_beside_a_call_waits_or_is_refused, ways_to_open)
{
    struct twinlog_options options = row->options;

    if (skips())
        return;
    options.size = sizeof(options);
    make_log_to_copy();
    for (size_t i = 0; i < COUNT(calls); i++) {
        bool was_held = true;
        for (unsigned hold = 0; was_held && hold < HOLDS; hold++)
            was_held = try_log(&calls[i], &options, hold);
    }
}

/* ---- sinks -------------------------------------------------------------------------------------------- */

static void open_sink(uint32_t flags)
{
    snprintf(sink_path, sizeof(sink_path), "%s/sink", log_parent);
    snprintf(sink_old, sizeof(sink_old), "%s.old", sink_path);
    unlink(sink_path);
    ck_assert_int_eq(twinlog_sink_open(sink_path, &WITH_SIZE(sink_options, .flags = flags), &held_sink), 0);
    ck_assert_int_eq(twinlog_sink_write(held_sink, "first\n", 6, NULL), 0);
}

static bool try_sink(const struct held_call *call, uint32_t flags, unsigned hold)
{
    open_sink(flags);
    if (call->call == do_sink_reopen)
        ck_assert_int_eq(rename(sink_path, sink_old), 0);

    const bool was_held = hold_and_close(call, hold, close_sink);
    pthread_join(held.serving, NULL);
    ck_assert_int_eq(held.closed, 0);
    expect_closed_after(call, hold);
    return was_held;
}

static const struct {
    const char *name;
    uint32_t flags;
} sinks[] = {
    { "a sink of its own", TWINLOG_SINK_MAPPED },
    { "a shared sink", TWINLOG_SINK_MAPPED | TWINLOG_SINK_SHARED },
};

TEST_EACH(a_close_of_a_sink_waits_for_its_calls, sinks)
{
    if (skips())
        return;
    for (size_t i = 0; i < COUNT(sink_calls); i++) {
        bool was_held = true;
        for (unsigned hold = 0; was_held && hold < HOLDS; hold++)
            was_held = try_sink(&sink_calls[i], row->flags, hold);
    }
}

/* All lanes are taken, so the write waits for one. */
static int write_without_lane(void)
{
    return twinlog_sink_write(held_sink, "late\n", 5, NULL);
}

static void *give_lanes_back(void *unused)
{
    while (!atomic_load(&held.was_held) || !atomic_load(&held.may_close))
        sched_yield();
    for (unsigned i = 0; i < LOOKS && !atomic_load(&held.is_closed); i++)
        sched_yield();
    for (unsigned lane = 0; lane < SLOTS; lane++)
        twl_lane_leave(held_sink, lane);
    return unused;
}

TEST(a_close_of_a_sink_waits_for_a_write_without_a_lane)
{
    static const struct held_call call = { write_without_lane, "write without a lane" };

    if (skips())
        return;
    open_sink(TWINLOG_SINK_MAPPED);
    for (unsigned lane = 0; lane < SLOTS; lane++)
        (void)twl_lane_take(held_sink);

    const pthread_t giving = start_thread(give_lanes_back, NULL);
    (void)hold_and_close(&call, 0, close_sink);
    pthread_join(giving, NULL);
    pthread_join(held.serving, NULL);
    expect_closed_after(&call, 0);
    ck_assert_int_eq(held.result, 0);
}

/* What keeps a call of a sink waiting: threads inside other ones, which may get no processor for long. */
static void take_all_lanes(void)
{
    for (unsigned lane = 0; lane < SLOTS; lane++)
        (void)twl_lane_take(held_sink);
}

static void leave_all_lanes(void)
{
    for (unsigned lane = 0; lane < SLOTS; lane++)
        twl_lane_leave(held_sink, lane);
}

static void be_without_lane(void)
{
    atomic_fetch_add(&held_sink->without_lane, 1);
}

static void leave_without_lane(void)
{
    atomic_fetch_sub(&held_sink->without_lane, 1);
}

static void be_inside_exact(void)
{
    atomic_fetch_add(&held_sink->exact->inside, 1);
}

static void leave_exact(void)
{
    atomic_fetch_sub(&held_sink->exact->inside, 1);
}

static const struct {
    const char *name;
    uint32_t flags;
    void (*begin)(void), (*end)(void);
    int (*call)(void);
} waits[] = {
    { "a write without a lane", TWINLOG_SINK_MAPPED, take_all_lanes, leave_all_lanes, write_without_lane },
    { "a close beside a write", TWINLOG_SINK_MAPPED, take_all_lanes, leave_all_lanes, close_sink },
    { "a close beside a sync", TWINLOG_SINK_MAPPED, be_without_lane, leave_without_lane, close_sink },
    { "a close of an exact sink", 0, be_inside_exact, leave_exact, close_sink },
};

static void *wait_in_sink(void *unused)
{
    atomic_store(&held.closer, (int)gettid());
    held.result = held.call();
    return unused;
}

TEST_EACH(a_wait_inside_a_sink_uses_no_processor, waits)
{
    if (!can_look_into_proc("a_wait_inside_a_sink_uses_no_processor"))
        return;
    memset(&held, 0, sizeof(held));
    held.call = row->call;
    open_sink(row->flags);
    row->begin();
    const pthread_t waiting = start_thread(wait_in_sink, NULL);
    AWAIT(atomic_load(&held.closer) != 0);
    AWAIT(is_asleep(atomic_load(&held.closer)));
    row->end();
    pthread_join(waiting, NULL);
    ck_assert_int_eq(held.result, 0);
    if (row->call != close_sink)
        ck_assert_int_eq(close_sink(), 0);
}

/* ---- queues ------------------------------------------------------------------------------------------- */

TEST(a_queue_is_not_closed_beside_a_call)
{
    if (skips())
        return;
    for (size_t i = 0; i < COUNT(queue_calls); i++) {
        ck_assert_int_eq(twinlog_queue_open(&held_queue), 0);
        (void)hold_and_close(&queue_calls[i], 0, close_queue);
        pthread_join(held.serving, NULL);
        expect_closed_after(&queue_calls[i], 0);
        if (held.closed != 0)
            ck_assert_int_eq(twinlog_queue_close(held_queue), 0);
    }
}
