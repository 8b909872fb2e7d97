/* SPDX-License-Identifier: Apache-2.0 */
/* See asked.h. */
#define _GNU_SOURCE
#include "asked.h"

#include "logdir.h"

#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int ask_about_calls(const struct sock_filter *filter, unsigned short length)
{
    const struct sock_fprog program = { length, (struct sock_filter *)filter };

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* The requests are too large for the int of musl's ioctl(). */
void answer_calls(int listener, int (*answer)(const struct seccomp_notif *asked))
{
    struct pollfd poll_fd = { .fd = listener, .events = POLLIN };

    for (;;) {
        if (poll(&poll_fd, 1, -1) < 0)
            continue; /* a signal */
        if (!(poll_fd.revents & POLLIN))
            break; /* the threads have ended */

        struct seccomp_notif asked = { 0 };
        if (syscall(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0)
            continue;

        struct seccomp_notif_resp response = { .id = asked.id };
        response.error = -answer(&asked);
        if (response.error == 0)
            response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        syscall(SYS_ioctl, listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
    close(listener);
}

/* ---- a function of which the calls are asked about --------------------------------------------------- */

#define UNKNOWN (-2)

static struct {
    int (*body)(void);
    int (*answer)(const struct seccomp_notif *asked);
    const struct sock_filter *filter;
    unsigned short length;
    int result;
    atomic_int listener; /* of the filter; UNKNOWN, or below 0: there can be none */
    atomic_bool is_inside;
} asking;

static void *call_body(void *unused)
{
    const int listener = ask_about_calls(asking.filter, asking.length);

    atomic_store(&asking.listener, listener < 0 ? -1 : listener);
    if (listener < 0)
        return unused;
    atomic_store(&asking.is_inside, true);
    asking.result = asking.body();
    atomic_store(&asking.is_inside, false);
    return unused;
}

/* The thread itself makes calls before and behind the function. */
static int answer_inside(const struct seccomp_notif *asked)
{
    if (!atomic_load(&asking.is_inside))
        return 0;
    return asking.answer(asked);
}

static void *serve(void *unused)
{
    int listener;

    do {
        sched_yield();
        listener = atomic_load(&asking.listener);
    } while (listener == UNKNOWN);
    if (listener >= 0)
        answer_calls(listener, answer_inside);
    return unused;
}

int with_asked_calls(int (*body)(void), const struct sock_filter *filter, unsigned short length,
                     int (*answer)(const struct seccomp_notif *asked))
{
    memset(&asking, 0, sizeof(asking));
    asking.body = body;
    asking.answer = answer;
    asking.filter = filter;
    asking.length = length;
    asking.result = CANNOT_ASK;
    atomic_store(&asking.listener, UNKNOWN);

    const pthread_t serving = start_thread(serve, NULL);
    const pthread_t calling = start_thread(call_body, NULL);
    pthread_join(calling, NULL);
    pthread_join(serving, NULL);
    return asking.result;
}

int with_asked_call(int (*body)(void), int call, int (*answer)(const struct seccomp_notif *asked))
{
    const struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    return with_asked_calls(body, filter, sizeof(filter) / sizeof(filter[0]), answer);
}

bool could_ask(int result, const char *test)
{
    if (result != CANNOT_ASK)
        return true;
    return expect_success_or_skip(CANNOT_RUN, test, "no filter with a listener may be loaded");
}
