/* SPDX-License-Identifier: Apache-2.0 */
/* The bottom layer: words for errors, the event that writers sleep on, the guard against forks. */
#include "logdir.h"
#include "suites.h"

#include "base/fork.h"
#include "base/process.h"
#include "base/sync.h"
#include "base/watermark.h"
#include "twinlog.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

CASE("error", NULL, NULL);

TEST(every_private_error_has_its_own_words)
{
    const char *unknown = twinlog_strerror(-6000);

    for (int error = TWINLOG_EFOREIGN; error <= TWINLOG_ECORRUPT; error++) {
        ck_assert_str_ne(twinlog_strerror(error), unknown);
        for (int other = TWINLOG_EFOREIGN; other < error; other++)
            ck_assert_str_ne(twinlog_strerror(error), twinlog_strerror(other));
    }
}

TEST(system_errors_and_success_have_words)
{
    ck_assert_str_eq(twinlog_strerror(-EIO), strerror(EIO));
    ck_assert_str_eq(twinlog_strerror(0), "success");
    ck_assert_str_eq(twinlog_strerror(-4000), "unknown error");
}

struct ping {
    struct twl_event event;
    _Atomic bool is_true;
};

static void *wait_for_truth(void *argument)
{
    struct ping *ping = argument;

    for (;;) {
        uint32_t seen = twl_event_value(&ping->event);
        if (atomic_load(&ping->is_true))
            return NULL;
        twl_event_sleep(&ping->event, seen);
    }
}

CASE("sync", NULL, NULL);

TEST(a_notify_between_check_and_sleep_is_not_lost)
{
    for (int round = 0; round < 2000; round++) {
        struct ping ping = { 0 };
        pthread_t thread = start_thread(wait_for_truth, &ping);
        atomic_store(&ping.is_true, true);
        twl_event_notify_all(&ping.event);
        pthread_join(thread, NULL);
    }
}

/* In the child, which opens something of its own, and in one of its children. */
static int check_guard(const struct fork_guard *inherited)
{
    struct fork_guard own;

    if (!twl_fork_guard_is_forked(inherited) || twl_fork_guard_init(&own) < 0)
        return 1;
    const pid_t child = fork();
    if (child == 0)
        _exit(twl_fork_guard_is_forked(inherited) && twl_fork_guard_is_forked(&own) ? 0 : 1);
    if (wait_child(child) != 0)
        return 1;
    return twl_fork_guard_is_forked(inherited) && !twl_fork_guard_is_forked(&own) ? 0 : 1;
}

TEST(a_forked_child_knows_that_it_is_one)
{
    struct fork_guard guard;

    ck_assert_int_eq(twl_fork_guard_init(&guard), 0);
    ck_assert(!twl_fork_guard_is_forked(&guard));
    const pid_t child = fork();
    if (child == 0)
        _exit(check_guard(&guard));
    ck_assert_int_eq(wait_child(child), 0);
    ck_assert(!twl_fork_guard_is_forked(&guard));
}

/* The handlers of fork() do not run; needs Linux 4.14. */
TEST(a_child_that_clone_has_made_knows_that_it_is_one)
{
    struct fork_guard guard;

    ck_assert_int_eq(twl_fork_guard_init(&guard), 0);
    ck_assert(!twl_fork_guard_is_forked(&guard));
    const pid_t clone = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (clone == 0)
        _exit(twl_fork_guard_is_forked(&guard) ? 0 : 1);
    ck_assert_int_eq(wait_child(clone), 0);
    ck_assert(!twl_fork_guard_is_forked(&guard));
}

TEST(a_watermark_of_two_words_that_disagree_is_none)
{
    struct watermark watermark = { 0 };

    ck_assert_uint_eq(watermark_load_checked(&watermark), 0);
    watermark_store(&watermark, 42);
    ck_assert_uint_eq(watermark_load_checked(&watermark), 42);
    atomic_store(&watermark.lsn, 43);
    ck_assert_uint_eq(watermark_load_checked(&watermark), 0);
    ck_assert_uint_eq(watermark_load_least(&watermark), 42);
    atomic_store(&watermark.lsn, 41);
    ck_assert_uint_eq(watermark_load_least(&watermark), 41);
    watermark = (struct watermark){ 0 };
    ck_assert_uint_eq(watermark_load_least(&watermark), 0);
}

CASE("process", NULL, NULL);

TEST(a_pid_is_told_where_it_names_a_living_process)
{
    const uint64_t self = twl_process_word();

    if (self >> 32 == 0) { /* no /proc */
        ck_assert_int_eq(twl_process_pid(self), 0);
        return;
    }
    ck_assert_int_eq(twl_process_pid(self), getpid());
    ck_assert_int_eq(twl_process_pid(0), 0);
    ck_assert_int_eq(twl_process_pid((uint32_t)self), 0);              /* its namespace was not known */
    ck_assert_int_eq(twl_process_pid(self ^ UINT64_C(1) << 32), 0);    /* in another namespace */
    ck_assert_int_eq(twl_process_pid(self | UINT64_C(0x80000000)), 0); /* negative: a group of processes */
    const pid_t child = fork();
    if (child == 0)
        _exit(0);
    ck_assert_int_eq(wait_child(child), 0);
    ck_assert_int_eq(twl_process_pid((self >> 32) << 32 | (uint32_t)child), 0);
}
