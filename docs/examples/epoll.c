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

int main(int argc, char **argv)
{
    struct twinlog *journal;
    struct twinlog_queue *queue;
    struct twinlog_committer *committer;
    struct twinlog_committer_options without_thread = TWINLOG_COMMITTER_OPTIONS_INIT;
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    const struct itimerspec each_100_us = { { 0, 100000 }, { 0, 100000 } };
    check(twinlog_queue_open(&queue), "queue");
    without_thread.queue = queue;
    check(twinlog_committer_open(&without_thread, &committer), "committer");
    options.committer = committer;
    check(twinlog_open(argc > 1 ? argv[1] : "journal", &options, &journal), "open");

    int loop = epoll_create1(EPOLL_CLOEXEC), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct epoll_event timed = { .events = EPOLLIN, .data.fd = timer };
    struct epoll_event completed = { .events = EPOLLIN, .data.fd = twinlog_queue_fd(queue) }, event;
    timerfd_settime(timer, 0, &each_100_us, NULL);
    epoll_ctl(loop, EPOLL_CTL_ADD, timed.data.fd, &timed);
    epoll_ctl(loop, EPOLL_CTL_ADD, completed.data.fd, &completed);
    while (confirmed < ORDERS) {
        take_orders(journal, queue);
        if (confirm_orders(queue) > 0)
            continue;
        if (epoll_wait(loop, &event, 1, -1) == 1 && event.data.fd == timer)
            count_due(timer);
    }
    close(timer);
    close(loop);
    check(twinlog_close(journal), "close");
    check(twinlog_committer_close(committer), "close the committer");
    check(twinlog_queue_close(queue), "close the queue");
    printf("%u orders confirmed\n", confirmed);
    return 0;
}
