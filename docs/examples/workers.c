/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads append to one log and share its syncs. Then the program reads everything back.
 *
 *     cc workers.c $(pkg-config --cflags --libs twinlog) -pthread && ./a.out journal
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <twinlog_admin.h>

#define WORKERS 32
#define ORDERS 100 /* of each worker */

static struct twinlog *journal;

static void *take_orders(void *argument)
{
    (void)argument;
    for (int i = 0; i < ORDERS; i++) {
        char order[64];
        int size = snprintf(order, sizeof(order), "order %d", i);
        int rc = twinlog_append(journal, order, (size_t)size, NULL);
        if (rc < 0)
            return (void *)twinlog_strerror(rc);
        /* from here on the order survives a power cut: confirm it to the customer */
    }
    return NULL;
}

/* NULL, or what went wrong. On return no worker is inside the log, so it may be closed. */
static const char *run_workers(void)
{
    pthread_t workers[WORKERS];
    const char *failure = NULL;
    int started = 0;

    while (started < WORKERS && !failure) {
        if (pthread_create(&workers[started], NULL, take_orders, NULL) == 0)
            started++;
        else
            failure = "cannot start a thread";
    }

    for (int i = 0; i < started; i++) {
        void *failure_of_worker;

        pthread_join(workers[i], &failure_of_worker);
        if (failure_of_worker)
            failure = failure_of_worker;
    }
    return failure;
}

static int count_records(const char *dir, uint64_t *ret_count)
{
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int rc = twinlog_reader_open(dir, NULL, &reader);
    if (rc < 0)
        return rc;

    *ret_count = 0;
    while ((rc = twinlog_reader_next(reader, &record)) > 0)
        ++*ret_count;
    twinlog_reader_close(reader);
    return rc; /* 0: the end; negative: an error */
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "journal";
    struct twinlog_stat stat = TWINLOG_STAT_INIT;
    uint64_t count = 0;

    int rc = twinlog_open(dir, NULL, &journal);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", dir, twinlog_strerror(rc));
        return 1;
    }

    const char *failure = run_workers();
    twinlog_stat(journal, &stat);

    rc = twinlog_close(journal);
    if (rc == 0)
        rc = count_records(dir, &count);
    if (rc < 0 && !failure)
        failure = twinlog_strerror(rc);
    if (failure) {
        fprintf(stderr, "%s: %s\n", dir, failure);
        return 1;
    }

    printf("%" PRIu64 " records in the log, %" PRIu64 " of them now, with %" PRIu64 " syncs\n", count,
           stat.appends, stat.groups);
    return 0;
}
