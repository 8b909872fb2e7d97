/* SPDX-License-Identifier: Apache-2.0 */
/* See asked.h. */
#define _GNU_SOURCE
#include "asked.h"

#include <poll.h>
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
