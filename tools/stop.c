/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping in good order. See stop.h. The handlers only set a flag and write to an eventfd. */
#define _GNU_SOURCE
#include "stop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int event_fd = -1;                   /* [const] after stop_on_signals() */
static volatile sig_atomic_t signal_number; /* written by the handler only */

static int hangup_fd = -1; /* [const] after catch_hangups() */

static void signal_event(int fd)
{
    static const uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof(one));
    (void)written; /* fails only at a count of 2^64 - 2; the descriptor is readable then */
}

void stop_request(void)
{
    signal_event(event_fd);
}

static void handle_signal(int number)
{
    int saved_errno = errno;

    signal_number = number;
    stop_request();
    errno = saved_errno;
}

int stop_on_signals(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = handle_signal, .sa_flags = (int)(SA_RESTART | SA_RESETHAND) };

    event_fd = eventfd(0, EFD_CLOEXEC);
    if (event_fd < 0)
        return -errno;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct sigaction before;
        sigaction(signals[i], NULL, &before);
        if (before.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
    return 0;
}

static void handle_hangup(int number)
{
    int saved_errno = errno;

    (void)number;
    signal_event(hangup_fd);
    errno = saved_errno;
}

int catch_hangups(void)
{
    struct sigaction action = { .sa_handler = handle_hangup, .sa_flags = SA_RESTART };
    struct sigaction before;

    hangup_fd = eventfd(0, EFD_CLOEXEC);
    if (hangup_fd < 0)
        return -errno;
    sigaction(SIGHUP, NULL, &before);
    if (before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    return hangup_fd;
}

int stop_fd(void)
{
    return event_fd;
}

int stop_signal(void)
{
    return signal_number;
}

bool stop_sleep(uint64_t ms)
{
    struct pollfd poll_fd = { .fd = event_fd, .events = POLLIN };

    return poll(&poll_fd, 1, (int)ms) == 0;
}

void stop_by_signal(void)
{
    int number = signal_number;

    signal(number, SIG_DFL);
    raise(number);
    exit(128 + number); /* only if the signal is blocked */
}
