/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call that takes an open log, held at each of its first system calls, and the log is closed beside it.
 *
 * A seccomp filter of the calling thread, and of those that it starts, hands their system calls to a thread that lets them
 * go on one after the other. At the one to hold that thread lets another one close the log, waits until the close has
 * returned or sleeps, and then lets the rest go on. The call must succeed or say that the log is closed, the close must
 * succeed or say that the log is in use, and the log must be sound. The address sanitizer sees what is used after it was freed.
 */
#define _GNU_SOURCE
#include "logdir.h"
#include "suites.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HOLDS REPEATS(4u, 2u) /* system calls of each call */
#define RECORDS 20u

/* ---- the calls ------------------------------------------------------------------------------------ */

static struct twinlog *held_log;
static struct twinlog_reader *held_reader; /* that the call has attached; NULL = none */
static struct twinlog_queue *queue;

static uint64_t lsn;
static struct twinlog_record record;
static unsigned char bytes[RECORD_ROOM];
static const struct twinlog_entry entries[2] = { { .data = "one", .size = 3 }, { .data = "two", .size = 3 } };
static struct twinlog_request request;

static int begin_request(void)
{
    request = (struct twinlog_request){ .queue = queue };
    return 0;
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
    DO(wait, twinlog_wait(held_log, RECORDS, TWINLOG_LEVEL_DURABLE, 0))                                      \
    DO(sync, twinlog_sync(held_log))                                                                         \
    DO(submit, begin_request() + twinlog_submit(held_log, entries, 1, NULL, &request))                       \
    DO(drive, twinlog_drive(held_log, 0))                                                                    \
    DO(first_lsn, twinlog_first_lsn(held_log) > RECORDS ? -EIO : 0)                                          \
    DO(last_lsn, twinlog_last_lsn(held_log) < RECORDS ? -EIO : 0)                                            \
    DO(durable_lsn, twinlog_durable_lsn(held_log) > RECORDS ? -EIO : 0)                                      \
    DO(trim, twinlog_trim(held_log, &WITH_SIZE(trim_options, .before_lsn = RECORDS / 2), NULL))              \
    DO(truncate, twinlog_truncate(held_log, RECORDS - 3))                                                    \
    DO(reset, twinlog_reset(held_log, 100))                                                                  \
    DO(cursor_set, twinlog_cursor_set(held_log, "other", 3))                                                 \
    DO(cursor_get, twinlog_cursor_get(held_log, "cursor", &lsn))                                             \
    DO(cursor_remove, twinlog_cursor_remove(held_log, "cursor"))                                             \
    DO(meta_set, twinlog_meta_set(held_log, "name", "other", 5))                                             \
    DO(meta_remove, twinlog_meta_remove(held_log, "name"))                                                   \
    DO(read, twinlog_read(held_log, RECORDS / 2, bytes, sizeof(bytes), &record))                             \
    DO(stat, twinlog_stat(held_log, &WITH_SIZE(stat, .io = 0)))                                              \
    DO(timings, twinlog_timings(held_log, &WITH_SIZE(timings, .sample_interval = 0)))                        \
    DO(reader_attach, twinlog_reader_attach(held_log, NULL, &held_reader))                                   \
    DO(reader_next, follow())

#define DEFINE(name, call)                                                                                   \
    static int do_##name(void)                                                                               \
    {                                                                                                        \
        return call;                                                                                         \
    }
DO_EACH_CALL(DEFINE)

#define ENTRY(name, call) { do_##name, #name },
static const struct {
    int (*call)(void);
    const char *name;
} calls[] = { DO_EACH_CALL(ENTRY) };
#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* ---- holding a thread ------------------------------------------------------------------------------ */

static struct {
    int (*call)(void);
    unsigned hold;             /* which system call */
    atomic_int listener;       /* -1 = there can be none */
    atomic_int caller, closer; /* threads; 0 = not yet */
    atomic_bool is_ready, may_close, is_closed, was_held;
    int result;
    int closed; /* result of the close */
} held;

static int listen_to_this_thread(void)
{
    struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF) };
    const struct sock_fprog program = { 1, all };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void *call_it(void *unused)
{
    const int thread = (int)gettid(); /* no system call from here on before it is served */
    atomic_store(&held.listener, listen_to_this_thread());
    atomic_store(&held.caller, thread);
    held.result = atomic_load(&held.listener) >= 0 ? held.call() : 0;
    return unused;
}

static void *close_it(void *unused)
{
    atomic_store(&held.closer, (int)gettid());
    while (!atomic_load(&held.may_close))
        sched_yield();
    held.closed = twinlog_close(held_log);
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
    for (unsigned naps = 0; naps < 3 && !atomic_load(&held.is_closed);) {
        naps += is_asleep(atomic_load(&held.closer)); /* for another lock than that of the call, perhaps */
        sched_yield();
    }
}

/* Until the thread has ended, and all that it has started. */
static void *serve(void *unused)
{
    unsigned count = 0;
    atomic_store(&held.is_ready, true);
    while (atomic_load(&held.caller) == 0)
        sched_yield();
    struct pollfd listener = { .fd = atomic_load(&held.listener), .events = POLLIN };
    while (listener.fd >= 0 && poll(&listener, 1, -1) > 0 && (listener.revents & POLLIN)) {
        struct seccomp_notif asked = { 0 };
        if (ioctl(listener.fd, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0)
            continue;
        if ((int)asked.pid == atomic_load(&held.caller) && count++ == held.hold) {
            atomic_store(&held.was_held, true);
            close_beside();
        }
        struct seccomp_notif_resp answer = { .id = asked.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
        ioctl(listener.fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    if (listener.fd >= 0)
        close(listener.fd);
    return unused;
}

/* ---- the test --------------------------------------------------------------------------------------- */

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

static struct twinlog *open_again(const struct twinlog_options *options)
{
    remove_tree(log_dir);
    struct twinlog *log = log_open(NULL);
    append_records(log, 1, 0, RECORDS);
    ck_assert_int_eq(twinlog_cursor_set(log, "cursor", 5), 0);
    ck_assert_int_eq(twinlog_meta_set(log, "name", "value", 5), 0);
    log_close(log);
    return log_open(options);
}

static bool is_expected(int result)
{
    return result >= 0 || result == -EBUSY || result == -ESHUTDOWN || result == -ENOTSUP || result == -EROFS;
}

static void finish_close(void)
{
    struct twinlog_request *done;
    ck_assert(held.closed == 0 || held.closed == -EBUSY);
    if (held_reader)
        twinlog_reader_close(held_reader);
    held_reader = NULL;
    if (held.closed != 0)
        ck_assert_int_eq(twinlog_close(held_log), 0);
    while (twinlog_queue_poll(queue, &done, 1, 0) > 0)
        ;
    ck_assert_int_eq(twinlog_verify(log_dir, NULL, NULL), 0);
}

/* False where the call makes fewer system calls. */
static bool try_one(size_t index, const struct twinlog_options *options, unsigned hold)
{
    held_log = open_again(options);
    memset(&held, 0, sizeof(held));
    held.call = calls[index].call;
    held.hold = hold;
    /* No thread is started once one is held, which may have a lock of the allocator. */
    const pthread_t closing = start_thread(close_it, NULL), serving = start_thread(serve, NULL);
    while (!atomic_load(&held.is_ready) || atomic_load(&held.closer) == 0)
        sched_yield();
    const pthread_t calling = start_thread(call_it, NULL);
    pthread_join(calling, NULL);
    atomic_store(&held.may_close, true);
    pthread_join(closing, NULL);
    ck_assert_msg(is_expected(held.result), "%s, held at %u: %d (%s)", calls[index].name, hold, held.result,
                  twinlog_strerror(held.result));
    finish_close();
    pthread_join(serving, NULL);
    if (atomic_load(&held.listener) < 0 && index == 0)
        fprintf(stderr, "skipped: close: no seccomp filter with a listener may be loaded\n");
    return atomic_load(&held.was_held);
}

CASE("close", set_up, tear_down);

TEST_LOOP(a_close_beside_a_call_waits_or_is_refused, 4)
{
    static const struct twinlog_options modes[] = {
        { .size = sizeof(struct twinlog_options), .mode = TWINLOG_MODE_DURABLE },
        { .size = sizeof(struct twinlog_options), .mode = TWINLOG_MODE_MAPPED },
        { .size = sizeof(struct twinlog_options), .mode = TWINLOG_MODE_SHARED },
        { .size = sizeof(struct twinlog_options), .flags = TWINLOG_READ_ONLY },
    };
    if (HAS_THREAD_SANITIZER) {
        fprintf(stderr, "skipped: close: the thread sanitizer does not see an order made by system calls\n");
        return;
    }
    for (size_t i = 0; i < CALLS; i++)
        for (unsigned hold = 0; hold < HOLDS && try_one(i, &modes[_i], hold); hold++)
            continue;
}
