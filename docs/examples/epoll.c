/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoll loop on one thread. A timer brings orders; many are in flight, and each is confirmed when it is durable. The
 * loop never waits in the log: if that has no room (-EAGAIN), the rest of the orders waits until the descriptor of the
 * queue is readable, as it is when something has completed, and when there is room.
 *
 * The log needs no thread to commit, because it has a committer that works where the loop polls the queue. So the loop
 * polls after it has submitted, until nothing is completed, and then waits.
 *
 *     cc epoll.c $(pkg-config --cflags --libs twinlog) -pthread && ./a.out journal
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <twinlog.h>
#include <unistd.h>

#define ORDERS 1000u

static struct twinlog_request orders[ORDERS]; /* belong to the log until they are completed */
static unsigned due, taken, confirmed;        /* each at most ORDERS */

static void check(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, twinlog_strerror(result));
        exit(1);
    }
}

/* One order for each tick of the timer. */
static void count_due(int timer)
{
    uint64_t ticks;

    if (read(timer, &ticks, sizeof(ticks)) != sizeof(ticks))
        return;
    if (ticks < ORDERS - due)
        due += (unsigned)ticks;
    else
        due = ORDERS;
}

/* The text may be reused when submit has returned, the request only when it is completed. */
static void take_orders(struct twinlog *journal, struct twinlog_queue *queue)
{
    const struct twinlog_terms try_it = { .size = sizeof(try_it), .flags = TWINLOG_TRY };

    while (taken < due) {
        char text[32];
        int length = snprintf(text, sizeof(text), "order %u", taken);
        const struct twinlog_entry entry = { .data = text, .size = (size_t)length };

        orders[taken] = (struct twinlog_request){ .queue = queue };
        int result = twinlog_submit(journal, &entry, 1, &try_it, &orders[taken]);
        if (result == -EAGAIN)
            return; /* no room: the descriptor tells when there is */
        check(result, "submit");
        taken++;
    }
}

/* Begins to write what was submitted, and confirms what is durable. Returns how many orders that are. */
static int confirm_orders(struct twinlog_queue *queue)
{
    struct twinlog_request *done[64];

    int count = twinlog_queue_poll(queue, done, 64, 0);
    for (int i = 0; i < count; i++) {
        check(done[i]->result, "append");
        confirmed++; /* number done[i]->first_lsn survives a power cut: tell the customer */
    }
    return count;
}

/* A descriptor, or the end of the program. */
static int made(int fd, const char *what)
{
    check(fd < 0 ? -errno : 0, what);
    return fd;
}

static int make_timer(void)
{
    const struct timespec pause = { .tv_nsec = 100000 };
    const struct itimerspec each_100_us = { .it_interval = pause, .it_value = pause };

    int timer = made(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create");
    if (timerfd_settime(timer, 0, &each_100_us, NULL) < 0)
        check(-errno, "timerfd_settime");
    return timer;
}

static void watch(int loop, int fd)
{
    struct epoll_event readable = { .events = EPOLLIN, .data.fd = fd };

    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &readable) < 0)
        check(-errno, "epoll_ctl");
}

static void run_loop(struct twinlog *journal, struct twinlog_queue *queue)
{
    struct epoll_event event;

    int timer = make_timer();
    int loop = made(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    watch(loop, timer);
    watch(loop, twinlog_queue_fd(queue));

    while (confirmed < ORDERS) {
        take_orders(journal, queue);
        if (confirm_orders(queue) > 0)
            continue;

        int count = epoll_wait(loop, &event, 1, -1);
        if (count == 1 && event.data.fd == timer)
            count_due(timer);
    }

    close(timer);
    close(loop);
}

int main(int argc, char **argv)
{
    struct twinlog_committer_options without_thread = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog_committer *committer;
    struct twinlog_queue *queue;
    struct twinlog *journal;

    check(twinlog_queue_open(&queue), "queue");
    without_thread.queue = queue;
    check(twinlog_committer_open(&without_thread, &committer), "committer");
    options.committer = committer;
    check(twinlog_open(argc > 1 ? argv[1] : "journal", &options, &journal), "open");

    run_loop(journal, queue);

    check(twinlog_close(journal), "close");
    check(twinlog_committer_close(committer), "close the committer");
    check(twinlog_queue_close(queue), "close the queue");
    printf("%u orders confirmed\n", confirmed);
    return 0;
}
