/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping in good order. See stop.h. The handlers only set a flag and write to an eventfd. */
#define _GNU_SOURCE
#include "stop.h"

#include "common.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int event_fd = -1;                   /* [const] after stop_on_signals() */
static volatile sig_atomic_t signal_number; /* written by the handler only */
static _Atomic bool is_requested;

static int hangup_fd = -1;               /* [const] after catch_hangups() */
static volatile sig_atomic_t has_hangup; /* set by the handler before the descriptor becomes readable */

static void signal_event(int fd)
{
    static const uint64_t one = 1;
    ssize_t written = write(fd, &one, sizeof(one));
    (void)written; /* fails only at a count of 2^64 - 2; the descriptor is readable then */
}

void stop_request(void)
{
    is_requested = true;
    signal_event(event_fd);
}

bool stop_is_requested(void)
{
    return is_requested;
}

static void handle_signal(int number)
{
    int saved_errno = errno;

    signal_number = number;
    signal_event(event_fd);
    errno = saved_errno;
}

/* What is ignored stays so. */
static void set_action(int number, const struct sigaction *action)
{
    struct sigaction before;

    sigaction(number, NULL, &before);
    if (before.sa_handler != SIG_IGN)
        sigaction(number, action, NULL);
}

/* The handler is for one signal of each kind: the next one does what it does by default. */
static void handle(int number)
{
    const struct sigaction action = { .sa_handler = handle_signal,
                                      .sa_flags = (int)(SA_RESTART | SA_RESETHAND) };

    set_action(number, &action);
}

int stop_on_signals(void)
{
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0)
        return -errno;

    handle(SIGINT);
    handle(SIGTERM);
    handle(SIGHUP);
    return 0;
}

void stop_again(void)
{
    uint64_t count;

    handle(SIGINT);
    handle(SIGTERM);
    const ssize_t got = read(event_fd, &count, sizeof(count));
    (void)got;               /* fails only if there is nothing to read */
    if (stop_is_requested()) /* perhaps in this moment */
        signal_event(event_fd);
}

static void handle_hangup(int number)
{
    int saved_errno = errno;

    (void)number;
    has_hangup = 1;
    signal_event(hangup_fd);
    errno = saved_errno;
}

int catch_hangups(void)
{
    struct sigaction action = { .sa_handler = handle_hangup, .sa_flags = SA_RESTART };
    struct sigaction before;

    hangup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (hangup_fd < 0)
        return -errno;

    sigaction(SIGHUP, NULL, &before);
    if (before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    return hangup_fd;
}

bool has_hung_up(void)
{
    return has_hangup != 0;
}

void take_hangup(void)
{
    uint64_t count;

    has_hangup = 0; /* first: a signal from here on is seen again */
    const ssize_t got = read(hangup_fd, &count, sizeof(count));
    (void)got; /* fails only if there is nothing to read */
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
    const uint64_t end_ns = monotonic_ns() + ms * 1000000;
    uint64_t left_ms = ms;
    int count;

    /* A signal that asks for something else interrupts it, too: a hangup asks for a new file. */
    while ((count = poll(&poll_fd, 1, (int)left_ms)) < 0 && errno == EINTR) {
        const uint64_t now_ns = monotonic_ns();
        left_ms = now_ns < end_ns ? (end_ns - now_ns) / 1000000 : 0;
    }
    return count == 0;
}

void stop_no_more(void)
{
    const struct sigaction action = { .sa_handler = SIG_DFL };

    set_action(SIGINT, &action);
    set_action(SIGTERM, &action);
    set_action(SIGHUP, &action);
}

void stop_by_signal(void)
{
    int number = signal_number;

    signal(number, SIG_DFL);
    raise(number);
    exit(128 + number); /* only if the signal is blocked */
}
