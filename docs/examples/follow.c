/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer in its own process. It sleeps in poll() until there are orders, and ships them. A named cursor
 * says how far it has come: the log keeps orders that were not shipped, and the next run begins where this
 * one ends.
 *
 *     cc follow.c $(pkg-config --cflags --libs twinlog) && ./a.out journal
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <twinlog.h>
#include <unistd.h>

#define ORDERS 1000
#define RUNS 2 /* of the consumer */
#define PATIENCE_MS 30000

/* ---- the consumer ------------------------------------------------------------------------------ */

/* Ships all orders that are there now. If a run dies before it has moved the cursor, the next run ships some
 * again. */
static int ship(struct twinlog *log, struct twinlog_reader *reader, uint64_t *shipped_lsn)
{
    struct twinlog_record record;
    int rc;
    for (; (rc = twinlog_reader_next(reader, &record)) > 0; *shipped_lsn = record.lsn)
        if (record.lsn % 250 == 0)
            printf("process %d ships %.*s\n", (int)getpid(), (int)record.size, (const char *)record.data);
    return rc == 0 ? twinlog_cursor_set(log, "shipped", *shipped_lsn) : rc;
}

static int ship_orders(struct twinlog *log, uint64_t shipped_lsn)
{
    struct twinlog_reader_options range = TWINLOG_READER_OPTIONS_INIT;
    struct twinlog_reader *reader;
    range.from_lsn = shipped_lsn + 1;
    range.to_lsn = shipped_lsn + ORDERS / RUNS;
    int rc = twinlog_reader_attach(log, &range, &reader);
    if (rc < 0)
        return rc;
    struct pollfd orders = { .fd = twinlog_reader_fd(reader), .events = POLLIN };
    rc = orders.fd < 0 ? orders.fd : 0;
    while (rc == 0 && shipped_lsn < range.to_lsn) {
        int ready = poll(&orders, 1, PATIENCE_MS);
        rc = ready > 0 ? ship(log, reader, &shipped_lsn) : ready == 0 ? -ETIMEDOUT : -errno;
    }
    twinlog_reader_close(reader);
    return rc;
}

/* Read-only means: no lock, no appends. Cursors can be set all the same. */
static int consume(const char *dir)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    uint64_t shipped_lsn;
    options.flags = TWINLOG_READ_ONLY;
    int rc = twinlog_open(dir, &options, &log);
    if (rc < 0)
        return rc;
    rc = twinlog_cursor_get(log, "shipped", &shipped_lsn);
    if (rc == 0)
        rc = ship_orders(log, shipped_lsn);
    twinlog_close(log);
    return rc;
}

/* ---- the writer -------------------------------------------------------------------------------- */

/* The log keeps the orders that the cursor has not passed, and few more. A missing cursor keeps no orders, so
 * the writer makes it before the first one. */
static int take_orders(const char *dir, int orders)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    struct twinlog *log;
    uint64_t shipped_lsn;
    options.segment_bytes = 64 * 1024;
    options.keep_records = 1;
    int rc = twinlog_open(dir, &options, &log);
    if (rc < 0)
        return rc;
    rc = twinlog_cursor_get(log, "shipped", &shipped_lsn);
    if (rc == -ENOENT)
        rc = twinlog_cursor_set(log, "shipped", 0);
    for (int i = 1; rc == 0 && i <= orders; i++) {
        char order[32];
        int size = snprintf(order, sizeof(order), "order %d", i);
        rc = twinlog_append(log, order, (size_t)size, NULL);
    }
    int closed = twinlog_close(log);
    return rc < 0 ? rc : closed;
}

static int tell(const char *process, int rc)
{
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", process, twinlog_strerror(rc));
    return rc < 0;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "journal";
    int failed = tell("writer", take_orders(dir, 0)); /* now there is a log to follow */
    for (int run = 0; !failed && run < RUNS; run++) {
        int status;
        pid_t consumer = fork(); /* no log is open here */
        if (consumer == 0)
            exit(tell("consumer", consume(dir)));
        if (run == 0)
            failed = tell("writer", take_orders(dir, ORDERS));
        if (consumer < 0 || waitpid(consumer, &status, 0) != consumer || status != 0)
            failed = 1;
    }
    return failed;
}
