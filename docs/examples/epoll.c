/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An epoll loop on one thread. A timer brings orders; many are in flight, and each is confirmed when it is durable. The
 * loop never waits in the log: if that has no room (-EAGAIN), the rest of the orders waits until the descriptor of the
 * queue is readable, as it is when something has completed, and when there is room.
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

static void count_due(int timer)
{
    uint64_t ticks;
    if (read(timer, &ticks, sizeof(ticks)) == sizeof(ticks))
        due = ticks < ORDERS - due ? due + (unsigned)ticks : ORDERS;
}

/* The text may be reused when submit has returned, the request only when it is completed. */
static void take_orders(struct twinlog *journal, struct twinlog_queue *queue)
{
    const struct twinlog_terms try_it = { .size = sizeof(try_it), .flags = TWINLOG_TRY };
    for (; taken < due; taken++) {
        char text[32];
        int length = snprintf(text, sizeof(text), "order %u", taken);
        const struct twinlog_entry entry = { .data = text, .size = (size_t)length };
        orders[taken] = (struct twinlog_request){ .queue = queue };
        int result = twinlog_submit(journal, &entry, 1, &try_it, &orders[taken]);
        if (result == -EAGAIN)
            return; /* no room: the descriptor tells when there is */
        check(result, "submit");
    }
}

static void confirm_orders(struct twinlog_queue *queue)
{
    struct twinlog_request *done[64];
    /* if more is left, the descriptor stays readable; 0 if it was readable for the room */
    int count = twinlog_queue_poll(queue, done, 64, 0);
    for (int i = 0; i < count; i++) {
        check(done[i]->result, "append");
        confirmed++; /* number done[i]->first_lsn survives a power cut: tell the customer */
    }
}

int main(int argc, char **argv)
{
    struct twinlog *journal;
    struct twinlog_queue *queue;
    const struct itimerspec each_100_us = { { 0, 100000 }, { 0, 100000 } };
    check(twinlog_open(argc > 1 ? argv[1] : "journal", NULL, &journal), "open");
    check(twinlog_queue_open(&queue), "queue");

    int loop = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct epoll_event timed = { .events = EPOLLIN, .data.fd = timer };
    struct epoll_event completed = { .events = EPOLLIN, .data.fd = twinlog_queue_fd(queue) }, event;
    timerfd_settime(timer, 0, &each_100_us, NULL);
    epoll_ctl(loop, EPOLL_CTL_ADD, timed.data.fd, &timed);
    epoll_ctl(loop, EPOLL_CTL_ADD, completed.data.fd, &completed);
    while (confirmed < ORDERS) {
        if (epoll_wait(loop, &event, 1, -1) == 1 && event.data.fd == timer)
            count_due(timer);
        else
            confirm_orders(queue);
        take_orders(journal, queue);
    }
    close(timer);
    close(loop);
    check(twinlog_close(journal), "close");
    check(twinlog_queue_close(queue), "close the queue");
    printf("%u orders confirmed\n", confirmed);
    return 0;
}
