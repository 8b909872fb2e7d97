/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events of several threads, each with its time: appended at the speed of memory, and replayed. They survive the
 * end of the process; a power cut may take the newest ones.
 *
 *     cc events.c $(pkg-config --cflags --libs twinlog) -pthread && ./a.out events
 */
#include <pthread.h>
#include <stdio.h>
#include <twinlog.h>

#define THREADS 4
#define EVENTS 250000 /* of each thread */
struct event {
    int player, score;
};

static struct twinlog *events;

static void *play(void *argument)
{
    const int *player = argument;
    for (int score = 1; score <= EVENTS; score++) {
        const struct event event = { *player, score };
        int rc = twinlog_append(events, &event, sizeof(event), NULL);
        if (rc < 0)
            return (void *)twinlog_strerror(rc);
        /* from here on every reader sees it, and it survives a kill -9 */
    }
    return NULL;
}

static const char *play_all(void)
{
    static const int players[THREADS] = { 1, 2, 3, 4 };
    pthread_t threads[THREADS];
    void *failure = NULL, *result;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, play, (void *)&players[i]) != 0)
            return "cannot start a thread";
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        failure = result ? result : failure;
    }
    return failure;
}

/* Reads all events in their order, while the log is open. */
static int replay(int64_t *ret_sum)
{
    const struct twinlog_reader_options options = { .size = sizeof(options), .flags = TWINLOG_READER_MMAP };
    struct twinlog_reader *reader;
    struct twinlog_record record;
    int rc = twinlog_reader_attach(events, &options, &reader);
    if (rc < 0)
        return rc;
    for (*ret_sum = 0; (rc = twinlog_reader_next(reader, &record)) > 0;)
        *ret_sum += ((const struct event *)record.data)->score; /* at record.time_ns */
    twinlog_reader_close(reader);
    return rc;
}

int main(int argc, char **argv)
{
    struct twinlog_options options = TWINLOG_OPTIONS_INIT;
    int64_t sum = 0;
    options.mode = TWINLOG_MODE_MAPPED;
    options.flush_interval_ms = 1000; /* a power cut may take the events of the last second */
    int rc = twinlog_open(argc > 1 ? argv[1] : "events", &options, &events);
    const char *failure = rc < 0 ? NULL : play_all();
    if (rc == 0 && !failure)
        rc = replay(&sum);
    int closed = twinlog_close(events); /* now all events survive a power cut, too */
    if (failure || rc < 0 || closed < 0)
        fprintf(stderr, "events: %s\n", failure ? failure : twinlog_strerror(rc < 0 ? rc : closed));
    else
        printf("%d events, the scores add up to %lld\n", THREADS * EVENTS, (long long)sum);
    return failure || rc < 0 || closed < 0 || sum != INT64_C(1) * THREADS * EVENTS * (EVENTS + 1) / 2;
}
