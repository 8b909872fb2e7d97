/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer in its own process. It sleeps in poll() until there are orders, and ships them. It commits what it has
 * shipped: the log keeps orders that were not shipped, and the next run begins where this one ends.
 *
 *     cc follow.c $(pkg-config --cflags --libs twinlog) && ./a.out journal
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <twinlog.h>
#include <unistd.h>

#define ORDERS 1000u
#define RUNS 2u /* of the consumer */
#define PATIENCE_MS 30000

/* ---- the consumer ------------------------------------------------------------------------------ */

/* Ships all orders that are there now. If a run dies before it has committed, the next run ships some again. */
static int ship(struct twinlog_consumer *consumer, uint64_t *shipped_lsn, uint64_t last_lsn)
{
    struct twinlog_record record;

    while (*shipped_lsn < last_lsn) {
        int rc = twinlog_consumer_next(consumer, &record);
        if (rc < 0)
            return rc;
        if (rc == 0) /* there is no other order now */
            break;

        *shipped_lsn = record.lsn;
        if (record.lsn % 250 == 0)
            printf("process %d ships %.*s\n", (int)getpid(), (int)record.size, (const char *)record.data);
    }
    return twinlog_consumer_commit(consumer, 0);
}

/* 0: there is something to ship. */
static int await_orders(struct pollfd *orders)
{
    int ready = poll(orders, 1, PATIENCE_MS);
    if (ready < 0)
        return -errno;
    if (ready == 0)
        return -ETIMEDOUT;
    return 0;
}

static int consume(const char *dir, uint64_t last_lsn)
{
    struct twinlog_consumer *consumer;
    uint64_t shipped_lsn = 0;
    int rc = twinlog_consumer_open(dir, "shipper", NULL, &consumer);
    if (rc < 0)
        return rc;

    struct pollfd orders = { .fd = twinlog_reader_fd(twinlog_consumer_reader(consumer)), .events = POLLIN };
    if (orders.fd < 0)
        rc = orders.fd;
    while (rc == 0 && shipped_lsn < last_lsn) {
        rc = await_orders(&orders);
        if (rc == 0)
            rc = ship(consumer, &shipped_lsn, last_lsn);
    }
    twinlog_consumer_close(consumer);
    return rc;
}

/* ---- the writer -------------------------------------------------------------------------------- */

/* The log keeps the orders that the consumer has not shipped, and few more. The writer may be faster than the first
 * run, so it makes the cursor before the first order. */
static int take_orders(const char *dir, unsigned orders)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    uint64_t shipped_lsn;

    options.segment_bytes = 64 * 1024;
    options.keep_records = 1;
    int rc = twinlog_open(dir, &options, &log);
    if (rc < 0)
        return rc;

    rc = twinlog_cursor_get(log, "shipper", &shipped_lsn);
    if (rc == -ENOENT)
        rc = twinlog_cursor_set(log, "shipper", 0);
    for (unsigned i = 1; rc == 0 && i <= orders; i++) {
        char order[32];
        int size = snprintf(order, sizeof(order), "order %u", i);
        rc = twinlog_append(log, order, (size_t)size, NULL);
    }

    int closed = twinlog_close(log);
    if (rc < 0)
        return rc;
    return closed;
}

/* Prints what went wrong, if anything did. */
static bool has_failed(const char *process, int rc)
{
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", process, twinlog_strerror(rc));
    return rc < 0;
}

/* A child that ships the orders up to that one, or -1. */
static pid_t start_consumer(const char *dir, uint64_t last_lsn)
{
    pid_t consumer = fork(); /* no log is open here */
    if (consumer == 0)
        exit(has_failed("consumer", consume(dir, last_lsn)));
    return consumer;
}

static bool has_succeeded(pid_t child)
{
    int status;

    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "journal";

    if (has_failed("writer", take_orders(dir, 0))) /* from here on there is a log to follow */
        return 1;

    for (unsigned run = 0; run < RUNS; run++) {
        bool is_written = true;
        pid_t consumer = start_consumer(dir, ORDERS / RUNS * (run + 1));
        if (consumer < 0) {
            perror("fork");
            return 1;
        }

        if (run == 0) /* the consumer ships beside it */
            is_written = !has_failed("writer", take_orders(dir, ORDERS));
        if (!has_succeeded(consumer) || !is_written)
            return 1;
    }
    return 0;
}
