/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that is killed: opens the log and appends from many threads until somebody stops it.
 * Mostly one record after the other; now and then some that are only accepted, and then a sync.
 */
#define _GNU_SOURCE
#include "kill.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct writer {
    struct twinlog *log;
    struct life *life;
    struct notes *notes;
    struct payload next;
    enum lie lie;
    struct rng rng;
    unsigned char record[PAYLOAD_MAX_BYTES];
};

static void note_durable(struct writer *writer)
{
    const uint64_t durable = twinlog_durable_lsn(writer->log);

    if (durable > atomic_load_explicit(&writer->notes->durable, memory_order_relaxed))
        atomic_store_explicit(&writer->notes->durable, durable, memory_order_release);
}

static void note_acked(struct writer *writer)
{
    atomic_store_explicit(&writer->notes->acked, writer->next.sequence, memory_order_release);
    note_durable(writer);
}

static int hand_over(struct writer *writer,
                     int (*accept)(struct twinlog *log, const void *data, size_t size, uint64_t *ret_lsn))
{
    struct notes *notes = writer->notes;
    const size_t size = payload_size(&writer->next);
    uint64_t lsn;
    int result;

    payload_fill(&writer->next, writer->record);
    if (writer->lie == LIE_BYTES && size > 0 && rng_one_in(&writer->rng, 64))
        writer->record[rng_below(&writer->rng, size)] ^= 0x10;
    atomic_store_explicit(&notes->begun, writer->next.sequence + 1, memory_order_release);
    result = accept(writer->log, writer->record, size, &lsn);
    if (result < 0)
        return result;
    notes->lsn[writer->next.sequence] = lsn;
    writer->next.sequence++;
    atomic_store_explicit(&notes->accepted, writer->next.sequence, memory_order_release);
    if (writer->lie == LIE_ACK)
        note_acked(writer);
    return 0;
}

static int append_one(struct writer *writer)
{
    const int result = hand_over(writer, twinlog_append);

    if (result == 0)
        note_acked(writer);
    return result;
}

static int enqueue_some(struct writer *writer)
{
    int result = 0;

    for (uint64_t left = 1 + rng_below(&writer->rng, 8); result == 0 && left > 0; left--)
        result = hand_over(writer, twinlog_enqueue);
    if (result == 0 && rng_one_in(&writer->rng, 2))
        result = twinlog_wait(writer->log, writer->notes->lsn[writer->next.sequence - 1]);
    else if (result == 0)
        result = twinlog_sync(writer->log);
    if (result == 0)
        note_acked(writer);
    return result;
}

static void *write_records(void *argument)
{
    struct writer *writer = argument;
    int result = 0;

    while (result == 0 && writer->next.sequence + 8 < NOTES_MAX && !atomic_load(&writer->life->must_stop))
        result = rng_one_in(&writer->rng, 8) ? enqueue_some(writer) : append_one(writer);
    if (result == 0 && writer->next.sequence + 8 < NOTES_MAX) /* for close to make durable */
        result = hand_over(writer, twinlog_enqueue);
    if (result < 0)
        atomic_store(&writer->life->error, result);
    return NULL;
}

static int run_writers(struct life *life, struct twinlog *log, enum lie lie)
{
    static struct writer writers[MAX_WRITERS];
    pthread_t threads[MAX_WRITERS];
    uint32_t started = 0;
    int result = 0;

    for (; started < life->writers && result == 0; started += result == 0) {
        writers[started] = (struct writer){
            .log = log,
            .life = life,
            .notes = &life->notes[started],
            .lie = lie,
            .rng = { rng_mix(life->name + started) },
            .next = { .life = life->name, .writer = started, .max_bytes = life->options.max_record_bytes }
        };
        result = -pthread_create(&threads[started], NULL, write_records, &writers[started]);
    }
    while (started > 0)
        pthread_join(threads[--started], NULL);
    return result < 0 ? result : atomic_load(&life->error);
}

static int live(const char *dir, struct life *life, enum lie lie)
{
    struct twinlog *log;
    int result, closed;

    life->options.ret_report = &life->report;
    result = twinlog_open(dir, &life->options, &log);
    if (result < 0)
        return result;
    atomic_store(&life->opened_last, twinlog_last_lsn(log));
    result = run_writers(life, log, lie);
    closed = twinlog_close(log);
    if (result == 0 && closed == 0)
        for (uint32_t i = 0; i < life->writers; i++)
            atomic_store(&life->notes[i].acked, atomic_load(&life->notes[i].accepted));
    return result < 0 ? result : closed;
}

pid_t fork_writer(const char *dir, struct life *life, enum lie lie)
{
    const pid_t judge = getpid();
    const pid_t pid = fork();

    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == judge)
        atomic_store(&life->error, live(dir, life, lie));
    _exit(atomic_load(&life->error) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
